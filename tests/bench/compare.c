/* compare.c - Mace beside LMDB, RocksDB and LevelDB: the same work, keys and values, one run.
 *
 * bench_compare [--only NAMES] [--entries N] [--value BYTES] [--seconds S] [--directory DIR]
 * NAMES: get,get10k,get2,scan,insert,insert2,insert8,async,batch,sync,sync16 (default: all)
 *
 * Workers are processes of their own, pinned to processor 1, 0, 1, 0...; every engine alike. What is read has been read
 * once before. Each figure is of one fresh database; absolute figures depend on the machine, the ratios are what counts.
 */
#include <argp.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "task.h"

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
    a.warm = b.warm = true;
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
