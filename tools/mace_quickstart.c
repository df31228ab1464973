/* mace_quickstart.c - Mace's main job on real input: this machine's package database.
 *
 * Four processes load it into one database, one transaction per package, and rewrite packages at random; two others walk
 * packages by prefix and check that each is whole or absent; the broker is killed twice with SIGKILL and the work goes
 * on. At the end a fresh process rebuilds the file from the database and compares it byte for byte.
 */
#include <argp.h>
#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <atomic_ops.h>

#include "dpkg_file.h"
#include "mace/mace.h"

enum { WRITERS = 4, WALKERS = 2 };

/* What the processes tell the parent: one page of shared counters, each added to by all workers (AO, full). */
struct board {
    AO_t loaded, rewritten, walks, absent, conflicts, losses, stop, failures;
};

struct job {
    const char *database;
    const char *input;
    unsigned seconds;
    struct dpkg_file file;
    struct board *board;
};

static void
board_add(AO_t *word)
{
    AO_fetch_and_add1_full(word);
}

static double
seconds_now(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static uint64_t
random_next(uint64_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state;
}

static int
failure_report(struct job *job, const char *what, int status)
{
    fprintf(stderr, "mace-quickstart: %s: %s\n", what, mace_strerror(status));
    board_add(&job->board->failures);
    return 1;
}

/* The statuses after which the same work may simply be done again: everything here is written under keys of its own
 * with the same values, so doing it twice does no harm. */
static bool
again(struct job *job, int status)
{
    if (status == MACE_CONFLICT) {
        board_add(&job->board->conflicts);
        return true;
    }
    if (status == MACE_BROKER_LOST || status == MACE_UNKNOWN_OUTCOME) {
        board_add(&job->board->losses);
        return true;
    }
    return false;
}

enum change { PUT_PACKAGE, DELETE_PACKAGE };

static int
package_change(mace *db, mace_bucket *bucket, const struct dpkg_package *package,
               enum change change, unsigned level)
{
    mace_txn *txn;
    int status = mace_begin(db, level, &txn);
    if (status != MACE_OK)
        return status;
    for (size_t i = 0; i < package->count && status == MACE_OK; i++) {
        const struct dpkg_piece *piece = &package->pieces[i];
        if (change == PUT_PACKAGE)
            status =
                mace_put(txn, bucket, piece->key, piece->key_size, piece->value, piece->value_size);
        else
            status = mace_delete(txn, bucket, piece->key, piece->key_size);
        if (change == DELETE_PACKAGE && status == MACE_NOT_FOUND)
            status = MACE_OK;
    }
    if (status != MACE_OK) {
        mace_abort(txn);
        return status;
    }
    return mace_commit(txn);
}

static int
package_change_surely(struct job *job, mace *db, mace_bucket *bucket,
                      const struct dpkg_package *package, enum change change, unsigned level)
{
    int status;
    do
        status = package_change(db, bucket, package, change, level);
    while (status != MACE_OK && again(job, status));
    return status;
}

static int
database_open(struct job *job, mace **db, mace_bucket **bucket)
{
    mace_options options;
    mace_options_init(&options);
    options.cache_size = UINT64_C(256) << 20;
    options.idle_exit_ms = 2000;
    int status = mace_open(job->database, &options, db);
    if (status != MACE_OK)
        return failure_report(job, "open", status);
    status = mace_bucket_open(*db, "default", bucket);
    return status == MACE_OK ? 0 : failure_report(job, "bucket", status);
}

static int
writer_run(struct job *job, unsigned number)
{
    mace *db;
    mace_bucket *bucket;
    if (database_open(job, &db, &bucket) != 0)
        return 1;
    for (size_t i = number; i < job->file.count; i += WRITERS) {
        int status =
            package_change_surely(job, db, bucket, &job->file.packages[i], PUT_PACKAGE, MACE_SYNC);
        if (status != MACE_OK)
            return failure_report(job, "load", status);
        board_add(&job->board->loaded);
    }
    uint64_t seed = UINT64_C(0x9e3779b97f4a7c15) * (number + 1);
    while (AO_load_acquire(&job->board->stop) == 0) {
        const struct dpkg_package *package =
            &job->file.packages[random_next(&seed) % job->file.count];
        int status = MACE_OK;
        if (random_next(&seed) % 4 == 0)
            status = package_change_surely(job, db, bucket, package, DELETE_PACKAGE, MACE_OS);
        if (status == MACE_OK)
            status = package_change_surely(job, db, bucket, package, PUT_PACKAGE, MACE_OS);
        if (status != MACE_OK)
            return failure_report(job, "rewrite", status);
        board_add(&job->board->rewritten);
    }
    mace_close(db);
    return 0;
}

/* Walks the keys of one stanza: MACE_OK with *found pieces that are right, or an error; -1: something is wrong. */
static int
package_walk(mace *db, mace_bucket *bucket, const struct dpkg_package *package, size_t *found)
{
    mace_txn *txn;
    mace_cursor *cursor;
    mace_slice key, value;
    int status = mace_begin(db, MACE_RDONLY, &txn);
    if (status != MACE_OK)
        return status;
    mace_range range;
    char prefix[DPKG_KEY_MAX];
    int size = snprintf(prefix, sizeof prefix, "%.*s/", (int)package->name_size, package->name);
    mace_range_prefix(&range, prefix, (size_t)size);
    *found = 0;
    status = mace_cursor_open(txn, bucket, &range, &cursor);
    if (status == MACE_OK) {
        /* Another stanza may have the same name (a second architecture): its keys stand before or behind. */
        status = mace_cursor_seek(cursor, package->pieces[0].key, package->pieces[0].key_size, &key,
                                  &value);
        while (status == MACE_OK && *found < package->count) {
            const struct dpkg_piece *piece = &package->pieces[*found];
            if (key.size != piece->key_size || memcmp(key.data, piece->key, key.size) != 0)
                break;
            if (value.size != piece->value_size ||
                memcmp(value.data, piece->value, value.size) != 0) {
                status = -1;
                break;
            }
            ++*found;
            status = mace_cursor_next(cursor, &key, &value);
        }
    }
    mace_abort(txn);
    return status == MACE_NOT_FOUND ? MACE_OK : status;
}

static int
walker_run(struct job *job, unsigned number)
{
    mace *db;
    mace_bucket *bucket;
    if (database_open(job, &db, &bucket) != 0)
        return 1;
    uint64_t seed = UINT64_C(0xd1342543de82ef95) * (number + 1);
    while (AO_load_acquire(&job->board->stop) == 0) {
        const struct dpkg_package *package =
            &job->file.packages[random_next(&seed) % job->file.count];
        size_t found = 0;
        int status = package_walk(db, bucket, package, &found);
        if (status == MACE_BROKER_LOST)
            continue;
        if (status != MACE_OK && status != -1)
            return failure_report(job, "walk", status);
        if (status == -1 || (found != 0 && found != package->count)) {
            fprintf(stderr, "mace-quickstart: %.*s: %zu of %zu pieces\n", (int)package->name_size,
                    package->name, found, package->count);
            board_add(&job->board->failures);
            return 1;
        }
        board_add(found == 0 ? &job->board->absent : &job->board->walks);
    }
    mace_close(db);
    return 0;
}

/* One key of the database on its way back into the file. */
struct line {
    unsigned long number, piece;
    char *value;
    size_t size;
};

static int
line_compare(const void *left, const void *right)
{
    const struct line *a = left, *b = right;
    if (a->number != b->number)
        return a->number < b->number ? -1 : 1;
    return a->piece < b->piece ? -1 : a->piece > b->piece;
}

/* "name/0000123/0" -> 123, 0: the numbers stand behind the last two slashes. */
static int
line_parse(const mace_slice *key, struct line *line)
{
    char text[DPKG_KEY_MAX];
    if (key->size >= sizeof text)
        return -1;
    memcpy(text, key->data, key->size);
    text[key->size] = '\0';
    char *piece = strrchr(text, '/');
    if (piece == NULL)
        return -1;
    *piece++ = '\0';
    char *number = strrchr(text, '/');
    if (number == NULL)
        return -1;
    line->number = strtoul(number + 1, NULL, 10);
    line->piece = strtoul(piece, NULL, 10);
    return 0;
}

static int
lines_collect(mace *db, mace_bucket *bucket, struct line **lines, size_t *count)
{
    mace_txn *txn;
    mace_cursor *cursor;
    mace_slice key, value;
    size_t capacity = 0;
    int status = mace_begin(db, MACE_RDONLY, &txn);
    if (status != MACE_OK)
        return status;
    status = mace_cursor_open(txn, bucket, NULL, &cursor);
    while (status == MACE_OK && (status = mace_cursor_next(cursor, &key, &value)) == MACE_OK) {
        if (*count == capacity) {
            capacity = capacity == 0 ? 4096 : capacity * 2;
            struct line *larger = realloc(*lines, capacity * sizeof **lines);
            if (larger == NULL) {
                status = MACE_NO_MEMORY;
                break;
            }
            *lines = larger;
        }
        struct line *line = &(*lines)[*count];
        line->size = value.size;
        line->value = malloc(value.size + 1);
        if (line->value == NULL || line_parse(&key, line) != 0) {
            free(line->value);
            status = MACE_CORRUPT;
            break;
        }
        memcpy(line->value, value.data, value.size);
        ++*count;
    }
    mace_abort(txn);
    return status == MACE_NOT_FOUND ? MACE_OK : status;
}

static int
rebuild_run(struct job *job)
{
    mace *db;
    mace_bucket *bucket;
    if (database_open(job, &db, &bucket) != 0)
        return 1;
    struct line *lines = NULL;
    size_t count = 0, at = 0;
    int status = lines_collect(db, bucket, &lines, &count);
    mace_close(db);
    if (status != MACE_OK)
        return failure_report(job, "rebuild", status);
    qsort(lines, count, sizeof *lines, line_compare);
    bool same = true;
    for (size_t i = 0; i < count; i++) {
        same = same && at + lines[i].size <= job->file.size &&
               memcmp(job->file.bytes + at, lines[i].value, lines[i].size) == 0;
        at += lines[i].size;
        free(lines[i].value);
    }
    free(lines);
    same = same && at == job->file.size;
    printf("rebuilt from %zu keys: %zu bytes, %s\n", count, at,
           same ? "identical to the input" : "NOT identical to the input");
    return same ? 0 : 1;
}

static pid_t
process_start(struct job *job, int (*run)(struct job *, unsigned), unsigned number)
{
    fflush(NULL);
    pid_t pid = fork();
    if (pid == 0)
        _exit(run(job, number));
    return pid;
}

static int
broker_kill(struct job *job, mace *db)
{
    mace_stat stat;
    mace_stat_init(&stat);
    int status = mace_stat_read(db, &stat);
    if (status != MACE_OK)
        return failure_report(job, "stat", status);
    printf("  killing the broker (process %" PRIu64 ") after %" PRIu64 " commits\n",
           stat.broker_pid, stat.commits);
    kill((pid_t)stat.broker_pid, SIGKILL);
    return 0;
}

static void
progress_print(const struct job *job, double begin)
{
    const struct board *board = job->board;
    printf("  %4.1f s: %zu of %zu packages loaded, %zu rewritten, %zu walked whole, %zu absent\n",
           seconds_now() - begin, (size_t)AO_load(&board->loaded), job->file.count,
           (size_t)AO_load(&board->rewritten), (size_t)AO_load(&board->walks),
           (size_t)AO_load(&board->absent));
    fflush(stdout);
}

static void
pause_ms(long milliseconds)
{
    struct timespec pause = {.tv_sec = milliseconds / 1000,
                             .tv_nsec = milliseconds % 1000 * 1000000};
    nanosleep(&pause, NULL);
}

/* Kills the broker once while packages are being loaded and once while they are being rewritten. */
static int
parent_watch(struct job *job)
{
    mace *db;
    mace_bucket *bucket;
    if (database_open(job, &db, &bucket) != 0)
        return 1;
    double begin = seconds_now(), next = begin + 1;
    unsigned kills = 0;
    while (AO_load(&job->board->failures) == 0) {
        pause_ms(10);
        double now = seconds_now();
        size_t loaded = AO_load(&job->board->loaded);
        if ((kills == 0 && loaded > job->file.count / 2) ||
            (kills == 1 && loaded == job->file.count && now > begin + job->seconds / 2.0)) {
            if (broker_kill(job, db) != 0)
                break;
            kills++;
        }
        if (now >= next) {
            progress_print(job, begin);
            next = now + 1;
        }
        if (kills == 2 && now > begin + job->seconds)
            break;
    }
    AO_store_release(&job->board->stop, 1);
    mace_close(db);
    progress_print(job, begin);
    return 0;
}

static int
children_wait(struct job *job, const pid_t *pids, unsigned count)
{
    int failed = 0;
    for (unsigned i = 0; i < count; i++) {
        int status;
        while (waitpid(pids[i], &status, 0) < 0 && errno == EINTR)
            ;
        if (!WIFEXITED(status) || WEXITSTATUS(status) != 0) {
            fprintf(stderr, "mace-quickstart: worker %u failed\n", i);
            failed = 1;
        }
    }
    return failed || AO_load(&job->board->failures) != 0;
}

/* A process that has seen nothing of the work: this program, executed anew. */
static int
fresh_process_run(char *const arguments[])
{
    fflush(NULL);
    pid_t pid = fork();
    if (pid == 0) {
        execvp(arguments[0], arguments);
        _exit(127);
    }
    int status;
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
        ;
    return WIFEXITED(status) ? WEXITSTATUS(status) : 1;
}

static int
main_job_run(struct job *job, char *program)
{
    pid_t pids[WRITERS + WALKERS];
    printf("%s: %zu packages, %zu pieces, %zu bytes\n", job->input, job->file.count,
           job->file.pieces, job->file.size);
    for (unsigned i = 0; i < WRITERS; i++)
        pids[i] = process_start(job, writer_run, i);
    for (unsigned i = 0; i < WALKERS; i++)
        pids[WRITERS + i] = process_start(job, walker_run, i);
    int failed = parent_watch(job);
    AO_store_release(&job->board->stop, 1);
    failed |= children_wait(job, pids, WRITERS + WALKERS);
    printf("  %zu conflicts met and tried again, %zu calls met a lost broker\n",
           (size_t)AO_load(&job->board->conflicts), (size_t)AO_load(&job->board->losses));
    char *rebuild[] = {program,
                       (char *)(uintptr_t) "--rebuild",
                       (char *)(uintptr_t) "--input",
                       (char *)(uintptr_t)job->input,
                       (char *)(uintptr_t)job->database,
                       NULL};
    failed |= fresh_process_run(rebuild);
    char *stat[] = {(char *)(uintptr_t) "mace-stat", (char *)(uintptr_t)job->database, NULL};
    if (fresh_process_run(stat) != 0)
        printf("(mace-stat could not be run)\n");
    printf(failed ? "FAILED\n" : "all was well\n");
    return failed;
}

struct arguments {
    struct job job;
    bool rebuild;
};

static error_t
option_parse(int key, char *text, struct argp_state *state)
{
    struct arguments *arguments = state->input;
    switch (key) {
    case 'i':
        arguments->job.input = text;
        return 0;
    case 's':
        arguments->job.seconds = (unsigned)strtoul(text, NULL, 10);
        return 0;
    case 'r':
        arguments->rebuild = true;
        return 0;
    case ARGP_KEY_ARG:
        if (arguments->job.database != NULL)
            argp_usage(state);
        arguments->job.database = text;
        return 0;
    case ARGP_KEY_END:
        if (arguments->job.database == NULL)
            argp_usage(state);
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

const char *argp_program_version = "mace-quickstart " MACE_VERSION_TEXT;

int
main(int argc, char **argv)
{
    static const struct argp_option options[] = {
        {"input", 'i', "FILE", 0, "package database (default /var/lib/dpkg/status)", 0},
        {"seconds", 's', "N", 0, "how long to work (default 8)", 0},
        {"rebuild", 'r', NULL, 0, "only rebuild the file from the database and compare", 0},
        {0},
    };
    static const struct argp parser = {
        .options = options,
        .parser = option_parse,
        .args_doc = "DIRECTORY",
        .doc = "Loads the machine's package database into a Mace database from several processes, "
               "kills "
               "the broker on the way, and rebuilds the file from the database.",
    };
    struct arguments arguments = {.job = {.input = "/var/lib/dpkg/status", .seconds = 8}};
    argp_err_exit_status = 2;
    argp_parse(&parser, argc, argv, 0, NULL, &arguments);
    struct job *job = &arguments.job;
    job->board = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (job->board == MAP_FAILED || dpkg_file_load(&job->file, job->input) != 0)
        return 1;
    int failed = arguments.rebuild ? rebuild_run(job) : main_job_run(job, argv[0]);
    dpkg_file_free(&job->file);
    return failed ? 1 : 0;
}
