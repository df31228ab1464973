/* compare.c - Mace beside LMDB, RocksDB and LevelDB: the same work, keys and values, one run.
 *
 * bench_compare [--only NAMES] [--entries N] [--value BYTES] [--seconds S] [--directory DIR]
 * NAMES: get,get10k,get2,scan,insert,insert2,insert8,async,batch,sync,sync16 (default: all)
 *
 * Workers are processes of their own, pinned to processor 1, 0, 1, 0...; every engine alike. Each figure is of one fresh
 * database; absolute figures depend on the machine, the ratios are what counts.
 */
#include <argp.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <atomic_ops.h>

#include "engine.h"
#include "mace/mace.h"

enum { KEY_SIZE = 16, MAX_VALUE = 4096, MAX_WORKERS = 16 };

struct settings {
    const char *only;
    const char *directory;
    uint64_t entries;
    size_t value_size;
    double seconds;
};

/* Shared by the workers of one figure. */
struct figure {
    AO_t ready, go, failed;
    uint64_t operations[MAX_WORKERS];
    double seconds[MAX_WORKERS];
};

struct task {
    const struct settings *settings;
    const struct engine *engine;
    struct figure *figure;
    const char *path;
    unsigned workers;
    unsigned batch;   /* puts per commit */
    uint64_t entries; /* of the whole figure */
    size_t value_size;
    bool sync, async;
};

static double
now_seconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

/* A bijection of 64 bits (splitmix64's finaliser): distinct, random-looking keys from a counter. */
static uint64_t
mix(uint64_t x)
{
    x += UINT64_C(0x9e3779b97f4a7c15);
    x = (x ^ (x >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    x = (x ^ (x >> 27)) * UINT64_C(0x94d049bb133111eb);
    return x ^ (x >> 31);
}

static void
key_make(uint64_t number, uint8_t key[KEY_SIZE])
{
    uint64_t high = __builtin_bswap64(mix(number)), low = __builtin_bswap64(number);
    memcpy(key, &high, 8);
    memcpy(key + 8, &low, 8);
}

static void
value_make(uint64_t number, uint8_t *value, size_t size)
{
    memset(value, (int)(number & 0x7f) + 1, size);
    memcpy(value, &number, size < 8 ? size : 8);
}

static void
pin(unsigned worker)
{
    cpu_set_t set;
    long cpus = sysconf(_SC_NPROCESSORS_ONLN);
    CPU_ZERO(&set);
    CPU_SET((unsigned)((worker + 1) % (cpus > 1 ? 2 : 1)), &set);
    sched_setaffinity(0, sizeof set, &set);
}

static void
start_wait(struct figure *figure)
{
    AO_fetch_and_add1_full(&figure->ready);
    while (AO_load_acquire(&figure->go) == 0)
        sched_yield();
}

typedef uint64_t worker_run(const struct task *task, struct engine_handle *handle, unsigned worker);

/* Forks the workers, opens in each, starts them together and returns operations per second of all. */
static double
workers_run(const struct task *task, worker_run *run)
{
    struct figure *figure = task->figure;
    memset(figure, 0, sizeof *figure);
    pid_t pids[MAX_WORKERS];
    for (unsigned i = 0; i < task->workers; i++) {
        pids[i] = fork();
        if (pids[i] != 0)
            continue;
        struct engine_handle *handle =
            task->engine->open(task->path, &(struct engine_setup){.sync = task->sync});
        pin(i); /* after opening: a broker or thread that it started is not pinned with it */
        if (handle == NULL) {
            AO_store(&figure->failed, 1);
            AO_fetch_and_add1_full(&figure->ready);
            _exit(1);
        }
        start_wait(figure);
        double begin = now_seconds();
        figure->operations[i] = run(task, handle, i);
        figure->seconds[i] = now_seconds() - begin;
        task->engine->close(handle);
        _exit(0);
    }
    while (AO_load_acquire(&figure->ready) < task->workers)
        usleep(1000);
    AO_store_release(&figure->go, 1);
    for (unsigned i = 0; i < task->workers; i++) {
        int status;
        waitpid(pids[i], &status, 0);
        if (status != 0)
            AO_store(&figure->failed, 1);
    }
    double sum = 0;
    for (unsigned i = 0; i < task->workers; i++)
        if (figure->seconds[i] > 0)
            sum += (double)figure->operations[i] / figure->seconds[i];
    return AO_load(&figure->failed) != 0 ? -1 : sum;
}

/* Worker w of n puts the numbers w, w + n, w + 2n... */
static uint64_t
insert_run(const struct task *task, struct engine_handle *handle, unsigned worker)
{
    uint8_t key[KEY_SIZE], value[MAX_VALUE];
    uint64_t done = 0;
    double end = task->sync ? now_seconds() + task->settings->seconds : 0;
    for (uint64_t i = worker; i < task->entries; i += task->workers) {
        key_make(i, key);
        value_make(i, value, task->value_size);
        int status = task->async
                         ? task->engine->put_async(handle, key, KEY_SIZE, value, task->value_size)
                         : task->engine->put(handle, key, KEY_SIZE, value, task->value_size);
        if (status != 0) {
            fprintf(stderr, "%s: put failed: %d\n", task->engine->name, status);
            AO_store(&task->figure->failed, 1);
            break;
        }
        done++;
        if (end != 0 && now_seconds() > end)
            break;
    }
    if (task->async && task->engine->drain(handle) != 0)
        AO_store(&task->figure->failed, 1);
    return done;
}

static uint64_t
batch_run(const struct task *task, struct engine_handle *handle, unsigned worker)
{
    size_t batch = task->batch;
    uint8_t *keys = malloc(batch * KEY_SIZE), *values = malloc(batch * task->value_size);
    uint64_t done = 0;
    for (uint64_t i = 0; i + batch <= task->entries; i += batch) {
        for (size_t j = 0; j < batch; j++) {
            key_make((i + j) * task->workers + worker, keys + j * KEY_SIZE);
            value_make(i + j, values + j * task->value_size, task->value_size);
        }
        if (task->engine->put_many(handle, batch, keys, KEY_SIZE, values, task->value_size) != 0) {
            AO_store(&task->figure->failed, 1);
            break;
        }
        done += batch;
    }
    free(keys);
    free(values);
    return done;
}

static uint64_t
get_run(const struct task *task, struct engine_handle *handle, unsigned worker)
{
    enum { PREPARED = 1 << 16 };
    uint8_t(*keys)[KEY_SIZE] = malloc((size_t)PREPARED * KEY_SIZE * 8);
    uint8_t value[MAX_VALUE];
    uint64_t seed = worker + 1, done = 0;
    for (size_t i = 0; i < (size_t)PREPARED * 8; i++)
        key_make(mix(seed++ * 7919 + worker) % task->entries, keys[i]);
    if (task->engine->read_begin(handle) != 0)
        return 0;
    double end = now_seconds() + task->settings->seconds;
    do {
        for (unsigned i = 0; i < 1024; i++) {
            const uint8_t *key = keys[(done + i) % ((uint64_t)PREPARED * 8)];
            if (task->engine->get(handle, key, KEY_SIZE, value, sizeof value) != 0) {
                fprintf(stderr, "%s: a key is missing\n", task->engine->name);
                AO_store(&task->figure->failed, 1);
                return done;
            }
        }
        done += 1024;
    } while (now_seconds() < end);
    task->engine->read_end(handle);
    free(keys);
    return done;
}

static uint64_t
scan_run(const struct task *task, struct engine_handle *handle, unsigned worker)
{
    (void)worker;
    uint64_t done = 0, sum = 0;
    if (task->engine->read_begin(handle) != 0)
        return 0;
    double end = now_seconds() + task->settings->seconds;
    do {
        uint64_t met = task->engine->scan(handle, &sum);
        if (met != task->entries) {
            fprintf(stderr, "%s: scan met %" PRIu64 " of %" PRIu64 "\n", task->engine->name, met,
                    task->entries);
            AO_store(&task->figure->failed, 1);
            break;
        }
        done += met;
    } while (now_seconds() < end);
    task->engine->read_end(handle);
    return sum == 1 ? done + 1 : done;
}

struct thread {
    const struct task *task;
    struct engine_handle *handle;
    unsigned number;
    uint64_t done;
};
static void *
thread_run(void *argument)
{
    struct thread *thread = argument;
    thread->done = insert_run(thread->task, thread->handle, thread->number);
    return NULL;
}

/* 16 threads of one process. */
static uint64_t
threads_run(const struct task *task, struct engine_handle *handle, unsigned worker)
{
    (void)worker;
    pthread_t ids[16];
    struct thread threads[16];
    struct task inner = *task;
    inner.workers = 16;
    uint64_t done = 0;
    cpu_set_t all;
    CPU_ZERO(&all);
    for (unsigned i = 0; i < 64; i++)
        CPU_SET(i, &all);
    sched_setaffinity(0, sizeof all, &all);
    for (unsigned i = 0; i < 16; i++) {
        threads[i] = (struct thread){&inner, handle, i, 0};
        pthread_create(&ids[i], NULL, thread_run, &threads[i]);
    }
    for (unsigned i = 0; i < 16; i++) {
        pthread_join(ids[i], NULL);
        done += threads[i].done;
    }
    return done;
}

static void
directory_remove(const char *path)
{
    char command[512];
    snprintf(command, sizeof command, "rm -rf '%s'", path);
    if (system(command) != 0)
        fprintf(stderr, "cannot remove %s\n", path);
}

static void
path_fresh(const struct settings *settings, const char *engine, char path[256])
{
    snprintf(path, 256, "%s/%s", settings->directory, engine);
    directory_remove(path);
}

/* The rate at which this disk takes an overwrite of one block and an fdatasync. */
static double
disk_rate(const struct settings *settings)
{
    char path[256];
    static char zeros[1 << 20], bytes[4096];
    snprintf(path, sizeof path, "%s/disk", settings->directory);
    int fd = open(path, O_RDWR | O_CREAT | O_TRUNC, 0666);
    for (int i = 0; i < 16; i++)
        if (write(fd, zeros, sizeof zeros) < 0)
            return -1;
    fsync(fd);
    uint64_t done = 0;
    double begin = now_seconds(), now;
    do {
        memset(bytes, (int)done, sizeof bytes);
        if (pwrite(fd, bytes, 112, (off_t)(done * 112 % (15 << 20))) != 112 || fdatasync(fd) != 0)
            return -1;
        done++;
        now = now_seconds();
    } while (now < begin + settings->seconds);
    close(fd);
    unlink(path);
    return (double)done / (now - begin);
}

static bool
wanted(const struct settings *settings, const char *name)
{
    if (settings->only == NULL)
        return true;
    size_t size = strlen(name);
    for (const char *at = settings->only; (at = strstr(at, name)) != NULL; at += size)
        if ((at == settings->only || at[-1] == ',') && (at[size] == ',' || at[size] == '\0'))
            return true;
    return false;
}

static void
row_print(const char *what, double ours, const char *other, double theirs)
{
    printf("%-34s mace %12.0f/s", what, ours);
    if (other != NULL)
        printf("   %-10s %12.0f/s   ratio %6.2f", other, theirs, theirs > 0 ? ours / theirs : 0);
    printf("\n");
    fflush(stdout);
}

static struct task
task_make(const struct settings *settings, const struct engine *engine, struct figure *figure,
          const char *path)
{
    return (struct task){
        .settings = settings,
        .engine = engine,
        .figure = figure,
        .path = path,
        .workers = 1,
        .batch = 1000,
        .entries = settings->entries,
        .value_size = settings->value_size,
    };
}

static void
reads_compare(const struct settings *settings, struct figure *figure, uint64_t entries,
              size_t value_size, bool small)
{
    char ours[256], theirs[256], what[64];
    path_fresh(settings, "mace", ours);
    path_fresh(settings, "lmdb", theirs);
    struct task a = task_make(settings, &engine_mace, figure, ours);
    struct task b = task_make(settings, &engine_lmdb, figure, theirs);
    a.entries = b.entries = entries;
    a.value_size = b.value_size = value_size;
    workers_run(&a, batch_run);
    workers_run(&b, batch_run);
    double one = 0;
    if (wanted(settings, small ? "get10k" : "get")) {
        snprintf(what, sizeof what, "get %" PRIu64 " k x 16+%zu", entries / 1000, value_size);
        one = workers_run(&a, get_run);
        row_print(what, one, "LMDB", workers_run(&b, get_run));
    }
    if (!small && wanted(settings, "get2")) {
        snprintf(what, sizeof what, "get 2 processes 16+%zu", value_size);
        a.workers = 2;
        row_print(what, workers_run(&a, get_run), "mace one", one);
        a.workers = 1;
    }
    if (!small && wanted(settings, "scan")) {
        snprintf(what, sizeof what, "scan 16+%zu", value_size);
        row_print(what, workers_run(&a, scan_run), "LMDB", workers_run(&b, scan_run));
    }
    directory_remove(ours);
    directory_remove(theirs);
}

static double
insert_figure(const struct settings *settings, const struct engine *engine, struct figure *figure,
              unsigned workers, bool sync, bool async)
{
    char path[256];
    path_fresh(settings, "insert", path);
    struct task task = task_make(settings, engine, figure, path);
    task.workers = workers;
    task.sync = sync;
    task.async = async;
    double rate = workers_run(&task, insert_run);
    if (engine->processes && engine == &engine_mace)
        usleep(700000); /* the broker leaves before its directory does */
    directory_remove(path);
    return rate;
}

static double
batch_figure(const struct settings *settings, const struct engine *engine, struct figure *figure,
             unsigned batch)
{
    char path[256];
    path_fresh(settings, "batch", path);
    struct task task = task_make(settings, engine, figure, path);
    task.batch = batch;
    double rate = workers_run(&task, batch_run);
    if (engine == &engine_mace)
        usleep(700000);
    directory_remove(path);
    return rate;
}

static void
writes_compare(const struct settings *settings, struct figure *figure)
{
    double one = 0;
    if (wanted(settings, "insert") || wanted(settings, "insert8") || wanted(settings, "async"))
        one = insert_figure(settings, &engine_mace, figure, 1, false, false);
    if (wanted(settings, "insert")) {
        row_print("insert 1 client, level OS", one, "LMDB",
                  insert_figure(settings, &engine_lmdb, figure, 1, false, false));
        row_print("insert 1 client, level OS", one, "RocksDB",
                  insert_figure(settings, &engine_rocksdb, figure, 1, false, false));
        row_print("insert 1 client, level OS", one, "LevelDB",
                  insert_figure(settings, &engine_leveldb, figure, 1, false, false));
    }
    if (wanted(settings, "insert2"))
        row_print("insert 2 processes, level OS",
                  insert_figure(settings, &engine_mace, figure, 2, false, false), "LMDB two",
                  insert_figure(settings, &engine_lmdb, figure, 2, false, false));
    if (wanted(settings, "insert8"))
        row_print("insert 8 processes, level OS",
                  insert_figure(settings, &engine_mace, figure, 8, false, false), "mace one", one);
    if (wanted(settings, "async"))
        row_print("async commits of one put",
                  insert_figure(settings, &engine_mace, figure, 1, false, true), "mace waiting",
                  one);
    if (wanted(settings, "batch"))
        for (unsigned batch = 100; batch <= 1000; batch *= 10) {
            char what[64];
            snprintf(what, sizeof what, "puts in commits of %u", batch);
            row_print(what, batch_figure(settings, &engine_mace, figure, batch), "LMDB",
                      batch_figure(settings, &engine_lmdb, figure, batch));
        }
}

static void
syncs_compare(const struct settings *settings, struct figure *figure)
{
    if (!wanted(settings, "sync") && !wanted(settings, "sync16"))
        return;
    double disk = disk_rate(settings);
    if (wanted(settings, "sync")) {
        row_print("sync 1 client", insert_figure(settings, &engine_mace, figure, 1, true, false),
                  "disk", disk);
        row_print("sync 1 client", insert_figure(settings, &engine_mace, figure, 1, true, false),
                  "LMDB", insert_figure(settings, &engine_lmdb, figure, 1, true, false));
    }
    if (wanted(settings, "sync16")) {
        char path[256];
        path_fresh(settings, "sync16", path);
        struct task task = task_make(settings, &engine_mace, figure, path);
        task.sync = true;
        row_print("sync 16 threads", workers_run(&task, threads_run), "disk", disk);
        directory_remove(path);
    }
}

static error_t
option_parse(int key, char *text, struct argp_state *state)
{
    struct settings *settings = state->input;
    switch (key) {
    case 'o':
        settings->only = text;
        return 0;
    case 'n':
        settings->entries = strtoull(text, NULL, 10);
        return 0;
    case 'v':
        settings->value_size = strtoull(text, NULL, 10);
        return settings->value_size > MAX_VALUE ? ARGP_ERR_UNKNOWN : 0;
    case 's':
        settings->seconds = strtod(text, NULL);
        return 0;
    case 'd':
        settings->directory = text;
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

int
main(int argc, char **argv)
{
    static const struct argp_option options[] = {
        {"only", 'o', "NAMES", 0, "which figures, with commas between", 0},
        {"entries", 'n', "N", 0, "entries of a database (default 1000000)", 0},
        {"value", 'v', "BYTES", 0, "size of the values written (default 16)", 0},
        {"seconds", 's', "S", 0, "length of a timed figure (default 3)", 0},
        {"directory", 'd', "DIR", 0, "where the databases are made (default: a new one in /tmp)",
         0},
        {0},
    };
    static const struct argp parser = {.options = options, .parser = option_parse};
    static char made[] = "/tmp/bench_compare_XXXXXX";
    struct settings settings = {.entries = 1000000, .value_size = 16, .seconds = 3};
    argp_parse(&parser, argc, argv, 0, NULL, &settings);
    if (settings.directory == NULL)
        settings.directory = mkdtemp(made);
    struct figure *figure =
        mmap(NULL, sizeof *figure, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (settings.directory == NULL || figure == MAP_FAILED)
        return 1;
    if (wanted(&settings, "get10k"))
        reads_compare(&settings, figure, 10000, 16, true);
    if (wanted(&settings, "get") || wanted(&settings, "get2") || wanted(&settings, "scan")) {
        reads_compare(&settings, figure, settings.entries, 16, false);
        reads_compare(&settings, figure, settings.entries, 100, false);
    }
    writes_compare(&settings, figure);
    syncs_compare(&settings, figure);
    directory_remove(settings.directory);
    return 0;
}
