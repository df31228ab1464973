/* check_state.c - the directory opened and locked; the manifest and what it names. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "check_database.h"
#include "crc.h"
#include "data.h"
#include "lock.h"
#include "mshm/status.h"
#include "wal_segment.h"

/* --- the directory --- */

static void
log_nothing(void *context, enum env_log_level level, const char *line)
{
    (void)context, (void)level, (void)line;
}

static uint64_t
random_word(void *context)
{
    uint64_t word = 0;
    (void)context;
    while (getrandom(&word, sizeof word, 0) != (ssize_t)sizeof word)
        continue;
    return word;
}

/* The lock of the directory, which a broker would hold. One that is dying holds it until its last write has ended. */
static int
lock_wait(int directory, char *why, size_t why_size)
{
    enum { TRIES = 500, PAUSE_NS = 10 * 1000 * 1000 };
    for (int i = 0; i < TRIES; i++) {
        if (flock(directory, LOCK_EX | LOCK_NB) == 0)
            return MSHM_OK;
        if (errno != EWOULDBLOCK && errno != EINTR) {
            snprintf(why, why_size, "the directory cannot be locked: %s", strerror(errno));
            return MSHM_IO;
        }
        if (lock_served(directory)) {
            snprintf(why, why_size, "a broker serves this database");
            return MSHM_EXISTS;
        }
        nanosleep(&(struct timespec){.tv_nsec = PAUSE_NS}, NULL);
    }
    snprintf(why, why_size, "another program has locked this database");
    return MSHM_BUSY;
}

int
check_open(struct check *check, const char *path, bool online, struct report *report, char *why,
           size_t why_size)
{
    *check = (struct check){.online = online, .report = report};
    check->host.directory = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (check->host.directory < 0) {
        snprintf(why, why_size, "%s", strerror(errno));
        return errno == ENOENT || errno == ENOTDIR ? MSHM_NOT_FOUND : MSHM_IO;
    }
    check->path = strdup(path);
    if (check->path == NULL)
        return MSHM_NO_MEMORY;
    host_files_fill(&check->env);
    check->env.context = &check->host;
    check->env.log = log_nothing;
    check->env.random = random_word;
    if (online)
        return MSHM_OK;
    int status = lock_wait(check->host.directory, why, why_size);
    check->locked = status == MSHM_OK;
    return status;
}

void
check_close(struct check *check)
{
    check_state_free(check);
    if (check->host.directory >= 0)
        close(check->host.directory);
    check->host.directory = -1;
    free(check->path);
    check->path = NULL;
}

/* --- the manifest --- */

static int
take_page(void *argument, uint32_t pid, data_location location)
{
    struct check *check = argument;
    if (check->page_count == check->page_capacity) {
        uint64_t capacity = check->page_capacity != 0 ? check->page_capacity * 2 : 4096;
        struct check_page *grown = realloc(check->pages, capacity * sizeof *grown);
        if (grown == NULL)
            return MSHM_NO_MEMORY;
        check->pages = grown;
        check->page_capacity = capacity;
    }
    check->pages[check->page_count++] = (struct check_page){.pid = pid, .location = location};
    return MSHM_OK;
}

static int
take_file(void *argument, const struct manifest_file *file)
{
    struct check *check = argument;
    if (check->file_count == check->file_capacity) {
        uint32_t capacity = check->file_capacity != 0 ? check->file_capacity * 2 : 64;
        struct check_file *grown = realloc(check->files, capacity * sizeof *grown);
        if (grown == NULL)
            return MSHM_NO_MEMORY;
        check->files = grown;
        check->file_capacity = capacity;
    }
    check->files[check->file_count++] =
        (struct check_file){.number = file->number, .total = file->total, .live = file->live};
    return MSHM_OK;
}

static int
blob_take(const void *bytes, uint64_t size, void **to, uint64_t *to_size, bool *there)
{
    *to = malloc(size != 0 ? size : 1);
    if (*to == NULL)
        return MSHM_NO_MEMORY;
    memcpy(*to, bytes, size);
    *to_size = size;
    *there = true;
    return MSHM_OK;
}

static int
take_catalogue(void *argument, const void *bytes, uint64_t size)
{
    struct check *check = argument;
    return blob_take(bytes, size, &check->catalogue, &check->catalogue_size,
                     &check->catalogue_there);
}

static int
take_outcomes(void *argument, const void *bytes, uint64_t size)
{
    struct check *check = argument;
    return blob_take(bytes, size, &check->outcomes, &check->outcomes_size, &check->outcomes_there);
}

static int
take_strays(void *argument, const void *bytes, uint64_t size)
{
    struct check *check = argument;
    return blob_take(bytes, size, &check->strays, &check->strays_size, &check->strays_there);
}

/* --- the data files --- */

/* Held open, so that a running broker can remove them and they can still be read. */
static void
descriptors_raise(void)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
        limit.rlim_cur = limit.rlim_max;
        setrlimit(RLIMIT_NOFILE, &limit);
    }
}

static const char *
head_wrong(const struct check *check, const struct check_file *file, const uint8_t *head,
           int *status, uint64_t *offset)
{
    struct data_file_header header, copy;
    memcpy(&header, head, sizeof header);
    copy = header;
    copy.crc = 0;
    *offset = 0;
    if (header.magic != DATA_FILE_MAGIC || header.crc != crc_extend(0, &copy, sizeof copy))
        return "the head of the file is damaged";
    if (header.version != DATA_VERSION) {
        *status = MSHM_VERSION;
        return "written in another version of the format";
    }
    if (memcmp(header.database_id, check->manifest.database_id, sizeof header.database_id) != 0)
        return "the file belongs to another database";
    if (header.number != file->number)
        return "this is another data file";
    for (*offset = sizeof header; *offset < DATA_RECORDS_AT; ++*offset)
        if (head[*offset] != 0)
            return "a byte that is not zero between the head and the records";
    return NULL;
}

static int
file_open(struct check *check, struct check_file *file, char *why, size_t why_size)
{
    const struct env *env = &check->env;
    char name[DATA_NAME_SIZE];
    uint8_t head[DATA_RECORDS_AT];
    uint64_t offset = 0;
    int status = MSHM_OK;
    data_name(name, file->number);
    struct finding finding = {.file = name, .has_offset = true};
    int64_t result = env->file_open(env->context, name, ENV_OPEN_EXISTING, &file->open);
    if (result == -EMFILE || result == -ENFILE) {
        snprintf(why, why_size, "%s: %s", name, strerror((int)-result));
        return MSHM_LIMIT;
    }
    if (result < 0) {
        file->open = NULL;
        report_damagef(check->report, finding, "%s",
                       result == -ENOENT ? "the file is missing" : strerror((int)-result));
        return MSHM_OK;
    }
    int64_t size = env->file_size(env->context, file->open);
    result = env->file_read(env->context, file->open, 0, head, sizeof head);
    if (size < 0 || result < 0) {
        report_damagef(check->report, finding, "%s", strerror((int)-(size < 0 ? size : result)));
        return MSHM_OK;
    }
    file->size = (uint64_t)size;
    if (file->number == 0 || file->total < DATA_RECORDS_AT || file->total > DATA_MAX_FILE_SIZE ||
        file->total % DATA_UNIT != 0) {
        finding.has_offset = false;
        report_damagef(check->report, finding,
                       "the manifest says that it has %" PRIu64 " bytes, which no data file has",
                       file->total);
        file->total = 0;
        return MSHM_OK;
    }
    if ((uint64_t)size < file->total) {
        finding.offset = (uint64_t)size;
        report_damagef(check->report, finding,
                       "the file ends here, and should have %" PRIu64 " bytes", file->total);
    }
    if (result < (int64_t)sizeof head)
        return MSHM_OK;
    const char *wrong = head_wrong(check, file, head, &status, &offset);
    if (status == MSHM_VERSION) {
        snprintf(why, why_size, "%s: %s", name, wrong);
        return status;
    }
    if (wrong != NULL) {
        finding.offset = offset;
        finding.text = wrong;
        report_damage(check->report, &finding);
    }
    file->usable = true; /* the checksums of the records say whether they are what they should be */
    return MSHM_OK;
}

static int
files_open(struct check *check, char *why, size_t why_size)
{
    int status = MSHM_OK;
    descriptors_raise();
    for (uint32_t i = 0; i < check->file_count && status == MSHM_OK; i++)
        status = file_open(check, &check->files[i], why, why_size);
    return status;
}

/* --- all of it --- */

static int
is_remnant(const char *entry, void *argument)
{
    uint64_t segment;
    uint32_t number;
    (void)argument;
    return strncmp(entry, "MANIFEST-", 9) == 0 || wal_segment_parse(entry, &segment) ||
           data_name_parse(entry, &number);
}

/* No CURRENT: is there something that it should lead to? */
static bool
remnants_there(const struct check *check)
{
    static const char *const places[] = {"", "wal", "data"};
    for (size_t i = 0; i < sizeof places / sizeof *places; i++)
        if (check->env.directory_list(check->env.context, places[i], is_remnant, NULL) > 0)
            return true;
    return false;
}

static int
manifest_read(struct check *check, char *why, size_t why_size)
{
    const struct manifest_visitor visitor = {
        .argument = check,
        .page = take_page,
        .file = take_file,
        .catalogue = take_catalogue,
        .outcomes = take_outcomes,
        .strays = take_strays,
    };
    uint64_t number = check->manifest_number;
    int status = number == 0 ? manifest_load(&check->env, &check->manifest, &visitor, why, why_size)
                             : manifest_number_load(&check->env, number, true, &check->manifest,
                                                    &visitor, why, why_size);
    if (status == MSHM_NOT_FOUND && remnants_there(check))
        status = MSHM_CORRUPT;
    if (status == MSHM_CORRUPT)
        report_damage_text(check->report, why);
    return status;
}

int
check_state_load(struct check *check, char *why, size_t why_size)
{
    int status = manifest_read(check, why, why_size);
    if (status == MSHM_OK)
        status = check_catalogue_load(check, why, why_size);
    if (status == MSHM_OK)
        status = files_open(check, why, why_size);
    if (status == MSHM_OK)
        status = check_reader_create(check, &check->reader);
    check->loaded = status == MSHM_OK;
    return status;
}

static void
file_free(struct check *check, struct check_file *file)
{
    if (file->open != NULL)
        check->env.file_close(check->env.context, file->open);
    for (uint32_t i = 0; i < file->piece_count; i++)
        free(file->pieces[i]);
    free(file->pieces);
}

void
check_state_free(struct check *check)
{
    for (uint32_t i = 0; i < check->file_count; i++)
        file_free(check, &check->files[i]);
    check_reader_destroy(check->reader);
    free(check->files);
    free(check->pages);
    free(check->buckets);
    free(check->catalogue);
    free(check->outcomes);
    free(check->strays);
    check->reader = NULL;
    check->files = NULL;
    check->pages = NULL;
    check->buckets = NULL;
    check->catalogue = check->outcomes = check->strays = NULL;
    check->catalogue_there = check->outcomes_there = check->strays_there = check->loaded = false;
    check->file_count = check->file_capacity = check->bucket_count = 0;
    check->page_count = check->page_capacity = 0;
    check->figures = (struct check_figures){0};
}

/* --- look-ups --- */

struct check_file *
check_file_find(struct check *check, uint32_t number)
{
    uint32_t low = 0, high = check->file_count;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (check->files[middle].number < number)
            low = middle + 1;
        else
            high = middle;
    }
    return low < check->file_count && check->files[low].number == number ? &check->files[low]
                                                                         : NULL;
}

struct check_page *
check_page_find(struct check *check, mshm_pid pid)
{
    uint64_t low = 0, high = check->page_count;
    while (low < high) {
        uint64_t middle = low + (high - low) / 2;
        if (check->pages[middle].pid < pid)
            low = middle + 1;
        else
            high = middle;
    }
    return low < check->page_count && check->pages[low].pid == pid ? &check->pages[low] : NULL;
}

struct check_bucket *
check_bucket_find(struct check *check, uint32_t id)
{
    uint32_t low = 0, high = check->bucket_count;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (check->buckets[middle].id < id)
            low = middle + 1;
        else
            high = middle;
    }
    return low < check->bucket_count && check->buckets[low].id == id ? &check->buckets[low] : NULL;
}
