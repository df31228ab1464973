/* figures.c - the groups of figures of bench_beyond. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "beyond.h"

enum { LOAD_BATCH = 1000, MANY = 64, UPSERT_LONGEST = 5 };
static const double GIBI = 1 << 30;

double
bench_now(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

/* Rows stand in the order in which they were first met; a turn that fails leaves -1. */
void
bench_result(struct bench *bench, const char *name, const char *unit, double value)
{
    struct results *results = bench->results;
    unsigned i = 0;
    while (i < results->count && strcmp(results->rows[i].name, name) != 0)
        i++;
    if (i == MAX_ROWS)
        return;
    struct row *row = &results->rows[i];
    if (i == results->count) {
        results->count++;
        snprintf(row->name, sizeof row->name, "%s", name);
        snprintf(row->unit, sizeof row->unit, "%s", unit);
        for (unsigned j = 0; j < ENGINES; j++)
            row->value[j] = -1;
    }
    row->value[bench->index] = value;
}

bool
bench_open(struct bench *bench)
{
    bench->handle = bench->engine->open(bench->path, &bench->setup);
    if (bench->handle == NULL) {
        fprintf(stderr, "%s: cannot open\n", bench->engine->name);
        return false;
    }
    if (bench->engine->writer != NULL)
        AO_store(&bench->results->writer, (AO_t)bench->engine->writer(bench->handle));
    return true;
}

void
bench_close(struct bench *bench)
{
    bench->engine->close(bench->handle);
}

static uint64_t
user_bytes(const struct bench *bench, uint64_t entries)
{
    return entries * (WORKLOAD_KEY + bench->value_size);
}

/* --- writing, until it has settled --- */

struct written {
    uint64_t by_engine, by_all;
    double begin;
};

static struct written
written_now(const struct bench *bench)
{
    int writer = (int)AO_load(&bench->results->writer);
    return (struct written){
        .by_engine = machine_written(0) + (writer != 0 ? machine_written(writer) : 0),
        .by_all = machine_device_written(bench->path),
        .begin = bench_now(),
    };
}

/* `count` entries were written since `before`: the rates, and what it cost on the disk. */
static bool
written_results(struct bench *bench, const char *what, const struct written *before, uint64_t count,
                double took)
{
    char name[48];
    bool good = bench->engine->settle(bench->handle) == 0;
    struct written now = written_now(bench);
    machine_forget(bench->path);
    double by_all = (double)(machine_device_written(bench->path) - before->by_all);
    double bytes = (double)user_bytes(bench, count > 0 ? count : 1);
    bench_result(bench, what, "k/s", (double)count / took / 1e3);
    snprintf(name, sizeof name, "  %s, settled", what);
    bench_result(bench, name, "k/s", (double)count / (now.begin - before->begin) / 1e3);
    snprintf(name, sizeof name, "  %s, written/user byte", what);
    bench_result(bench, name, "", (double)(now.by_engine - before->by_engine) / bytes);
    snprintf(name, sizeof name, "  %s, device (by all)", what);
    bench_result(bench, name, "", by_all / bytes);
    snprintf(name, sizeof name, "  %s, disk/live byte", what);
    bench_result(bench, name, "",
                 (double)machine_usage(bench->path) / (double)user_bytes(bench, bench->entries));
    return good;
}

static bool
load_entries(struct bench *bench)
{
    struct workload_random random;
    uint8_t *keys = malloc((size_t)LOAD_BATCH * WORKLOAD_KEY);
    uint8_t *values = malloc((size_t)LOAD_BATCH * bench->value_size);
    int (*put)(struct engine_handle *, size_t, const void *, size_t, const void *, size_t) =
        bench->engine->put_many_async != NULL ? bench->engine->put_many_async
                                              : bench->engine->put_many;
    int status = 0;
    workload_random_init(&random, 1);
    for (uint64_t i = 0; i < bench->entries && status == 0; i += LOAD_BATCH) {
        size_t count = bench->entries - i < LOAD_BATCH ? bench->entries - i : LOAD_BATCH;
        for (size_t j = 0; j < count; j++) {
            workload_key(i + j, keys + j * WORKLOAD_KEY);
            workload_value(i + j, &random, values + j * bench->value_size, bench->value_size);
        }
        status = put(bench->handle, count, keys, WORKLOAD_KEY, values, bench->value_size);
    }
    if (status == 0 && bench->engine->drain != NULL)
        status = bench->engine->drain(bench->handle);
    free(keys);
    free(values);
    if (status != 0)
        fprintf(stderr, "%s: load: status %d\n", bench->engine->name, status);
    return status == 0;
}

static bool
load_run(struct bench *bench)
{
    if (!bench_open(bench))
        return false;
    struct written before = written_now(bench);
    bool good = load_entries(bench);
    good = good && written_results(bench, "load sorted", &before, bench->entries,
                                   bench_now() - before.begin);
    bench_close(bench);
    return good;
}

/* --- opening --- */

static bool
open_timed(struct bench *bench, const char *what)
{
    char name[48];
    uint8_t key[WORKLOAD_KEY], value[WORKLOAD_VALUE_MAX];
    double begin = bench_now(), gibi = (double)user_bytes(bench, bench->entries) / GIBI;
    workload_key(bench->entries / 2, key);
    if (!bench_open(bench))
        return false;
    bool good = bench->engine->get_newest(bench->handle, key, sizeof key, value, sizeof value) == 0;
    double took = bench_now() - begin;
    bench_result(bench, what, "ms", took * 1e3);
    snprintf(name, sizeof name, "  %s, per GiB", what);
    bench_result(bench, name, "ms", took * 1e3 / gibi);
    bench_close(bench);
    return good;
}

static bool
open_run(struct bench *bench)
{
    return open_timed(bench, "open after clean stop");
}

/* --- reading --- */

static const struct workload_mix read_uniform = {"get uniform", 100, 0, 0, 0, WORKLOAD_UNIFORM};
static const struct workload_mix read_zipfian = {"get zipfian", 100, 0, 0, 0, WORKLOAD_ZIPFIAN};
static const struct workload_mix update_uniform = {"upsert uniform", 0, 100, 0, 0,
                                                   WORKLOAD_UNIFORM};
static const struct workload_mix update_zipfian = {"upsert zipfian", 0, 100, 0, 0,
                                                   WORKLOAD_ZIPFIAN};

/* Runs once to fill the caches, and once for the figure. */
static bool
read_figure(struct bench *bench, const struct workload_mix *mix, unsigned threads, unsigned many)
{
    char name[48];
    struct drive drive = {.bench = bench,
                          .mix = mix,
                          .threads = threads,
                          .many = many,
                          .snapshot = true,
                          .seconds = bench->seconds / 2};
    if (!drive_run(&drive))
        return false;
    drive.seconds = bench->seconds;
    if (!drive_run(&drive))
        return false;
    if (many > 1)
        snprintf(name, sizeof name, "%s, %u at once", mix->name, many);
    else
        snprintf(name, sizeof name, "%s, %u thread%s", mix->name, threads, threads > 1 ? "s" : "");
    bench_result(bench, name, "k/s", (double)drive.operations / drive.took / 1e3);
    return true;
}

static bool
get_run(struct bench *bench)
{
    if (!bench_open(bench))
        return false;
    bool good = read_figure(bench, &read_uniform, 1, 0) &&
                read_figure(bench, &read_zipfian, 1, 0) &&
                read_figure(bench, &read_uniform, bench->threads, 0) &&
                read_figure(bench, &read_zipfian, bench->threads, 0);
    bench_close(bench);
    return good;
}

static bool
many_run(struct bench *bench)
{
    if (!bench_open(bench))
        return false;
    bool good =
        read_figure(bench, &read_uniform, 1, MANY) && read_figure(bench, &read_zipfian, 1, MANY);
    bench_close(bench);
    return good;
}

/* --- writing --- */

static bool
upsert_figure(struct bench *bench, const struct workload_mix *mix)
{
    char name[48];
    struct drive drive = {.bench = bench,
                          .mix = mix,
                          .threads = 1,
                          .seconds = bench->seconds * UPSERT_LONGEST,
                          .limit = (uint64_t)(bench->updates * (double)bench->entries) + 1};
    if (!bench_open(bench))
        return false;
    struct written before = written_now(bench);
    bool good =
        drive_run(&drive) && written_results(bench, mix->name, &before, drive.updates, drive.took);
    snprintf(name, sizeof name, "  %s, share of entries", mix->name);
    bench_result(bench, name, "", (double)drive.updates / (double)bench->entries);
    bench_close(bench);
    return good;
}

static bool
upsert_uniform_run(struct bench *bench)
{
    return upsert_figure(bench, &update_uniform);
}

static bool
upsert_zipfian_run(struct bench *bench)
{
    return upsert_figure(bench, &update_zipfian);
}

static const struct workload_mix reread_uniform = {"get uniform, updated", 100, 0, 0, 0,
                                                   WORKLOAD_UNIFORM};

/* What updates leave behind costs readers something. */
static bool
reget_run(struct bench *bench)
{
    if (!bench_open(bench))
        return false;
    bool good = read_figure(bench, &reread_uniform, 1, 0) &&
                read_figure(bench, &reread_uniform, bench->threads, 0);
    bench_close(bench);
    return good;
}

static bool
ycsb_run(struct bench *bench)
{
    if (!bench_open(bench))
        return false;
    bool good = true;
    AO_t entries = bench->entries;
    for (unsigned i = 0; i < 6 && good; i++) {
        struct drive drive = {.bench = bench,
                              .mix = &workload_ycsb[i],
                              .threads = bench->threads,
                              .seconds = bench->seconds,
                              .entries = entries};
        good = drive_run(&drive);
        entries = AO_load(&drive.entries);
        if (good)
            bench_result(bench, drive.mix->name, "k/s",
                         (double)drive.operations / drive.took / 1e3);
    }
    bench_close(bench);
    return good;
}

static bool
overload_run(struct bench *bench)
{
    struct latencies *latencies = calloc(1, sizeof *latencies);
    struct drive drive = {.bench = bench,
                          .mix = &update_uniform,
                          .threads = bench->threads,
                          .seconds = bench->overload_seconds,
                          .latencies = latencies};
    if (!bench_open(bench))
        return false;
    bool good = drive_run(&drive);
    if (good) {
        bench_result(bench, "overload", "k/s", (double)drive.updates / drive.took / 1e3);
        bench_result(bench, "  longest commit", "ms", (double)latencies->longest_ns / 1e6);
        bench_result(bench, "  99.9 % of commits", "ms",
                     (double)latencies_share(latencies, 0.999) / 1e6);
        bench_result(bench, "  99 % of commits", "ms",
                     (double)latencies_share(latencies, 0.99) / 1e6);
        bench_result(bench, "  half of commits", "ms",
                     (double)latencies_share(latencies, 0.5) / 1e6);
        bench_result(bench, "  disk/live byte", "",
                     (double)machine_usage(bench->path) /
                         (double)user_bytes(bench, bench->entries));
    }
    bench_close(bench);
    free(latencies);
    return good;
}

/* Dies while it writes; the parent kills the broker first. */
static bool
kill_run(struct bench *bench)
{
    struct drive drive = {
        .bench = bench, .mix = &update_uniform, .threads = 1, .seconds = bench->seconds};
    if (!bench_open(bench) || !drive_run(&drive))
        return false;
    AO_store_release(&bench->results->kill, 1);
    while (true)
        pause();
}

static bool
reopen_run(struct bench *bench)
{
    return open_timed(bench, "open after SIGKILL");
}

const struct group bench_groups[] = {
    {"load", load_run, false},
    {"open", open_run, false},
    {"get", get_run, false},
    {"many", many_run, false},
    {"upsert", upsert_uniform_run, false},
    {"reget", reget_run, false},
    {"upsert_zipf", upsert_zipfian_run, false},
    {"ycsb", ycsb_run, false},
    {"overload", overload_run, false},
    {"kill", kill_run, true},
    {"kill", reopen_run, false},
};
const unsigned bench_group_count = sizeof bench_groups / sizeof bench_groups[0];
