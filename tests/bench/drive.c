/* drive.c - threads that read and write by a mix until their time is up. */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "beyond.h"

enum { LATENCY_PARTS = 16, MANY_MAX = 1024 };

struct driver {
    struct drive *drive;
    pthread_t thread;
    unsigned number;
    double end;
    bool failed;
    uint64_t operations, updates;
    struct engine_handle *handle;
    struct workload_random random;
    struct latencies *latencies;
    uint8_t *keys; /* of gets of many */
};

/* --- latencies --- */

static unsigned
latency_slot(uint64_t ns)
{
    unsigned power = 63 - (unsigned)__builtin_clzll(ns | LATENCY_PARTS);
    return (power - 4) * LATENCY_PARTS + (unsigned)((ns >> (power - 4)) & (LATENCY_PARTS - 1)) +
           (ns >= LATENCY_PARTS ? LATENCY_PARTS : 0);
}

static void
latency_add(struct latencies *latencies, double seconds)
{
    uint64_t ns = (uint64_t)(seconds * 1e9);
    latencies->counts[latency_slot(ns)]++;
    if (ns > latencies->longest_ns)
        latencies->longest_ns = ns;
}

static void
latencies_merge(struct latencies *to, const struct latencies *from)
{
    for (unsigned i = 0; i < sizeof to->counts / sizeof *to->counts; i++)
        to->counts[i] += from->counts[i];
    if (from->longest_ns > to->longest_ns)
        to->longest_ns = from->longest_ns;
}

uint64_t
latencies_share(const struct latencies *latencies, double share)
{
    uint64_t all = 0, met = 0;
    unsigned slots = sizeof latencies->counts / sizeof *latencies->counts;
    for (unsigned i = 0; i < slots; i++)
        all += latencies->counts[i];
    for (unsigned i = 0; i < slots; i++) {
        met += latencies->counts[i];
        if (met > 0 && (double)met >= share * (double)all) {
            unsigned power = i < LATENCY_PARTS ? 0 : i / LATENCY_PARTS - 1;
            unsigned part = i < LATENCY_PARTS ? i : i % LATENCY_PARTS + LATENCY_PARTS;
            return (uint64_t)(part + 1) << power;
        }
    }
    return 0;
}

/* --- operations --- */

static uint64_t
number_choose(struct driver *driver)
{
    struct drive *drive = driver->drive;
    return workload_choose(&drive->bench->zipf, drive->mix->choice, AO_load(&drive->entries),
                           &driver->random);
}

static bool
read_one(struct driver *driver, uint64_t number)
{
    const struct drive *drive = driver->drive;
    const struct engine *engine = drive->bench->engine;
    uint8_t key[WORKLOAD_KEY], value[WORKLOAD_VALUE_MAX] = {0};
    workload_key(number, key);
    int status = drive->snapshot
                     ? engine->get(driver->handle, key, sizeof key, value, sizeof value)
                     : engine->get_newest(driver->handle, key, sizeof key, value, sizeof value);
    if (status == 0 && workload_value_fits(number, value))
        return true;
    if (status != 0 && number >= drive->bench->entries)
        return true; /* another thread is just putting it */
    fprintf(stderr, "%s: get of %llu: status %d%s\n", engine->name, (unsigned long long)number,
            status, status == 0 ? ", WRONG VALUE" : "");
    return false;
}

static bool
read_many(struct driver *driver)
{
    struct drive *drive = driver->drive;
    for (unsigned i = 0; i < drive->many; i++)
        workload_key(number_choose(driver), driver->keys + (size_t)i * WORKLOAD_KEY);
    size_t found =
        drive->bench->engine->get_many(driver->handle, drive->many, driver->keys, WORKLOAD_KEY);
    driver->operations += drive->many - 1;
    if (found != drive->many)
        fprintf(stderr, "%s: %zu of %u keys found\n", drive->bench->engine->name, found,
                drive->many);
    return found == drive->many;
}

static bool
write_one(struct driver *driver, uint64_t number)
{
    const struct bench *bench = driver->drive->bench;
    uint8_t key[WORKLOAD_KEY], value[WORKLOAD_VALUE_MAX];
    workload_key(number, key);
    workload_value(number, &driver->random, value, bench->value_size);
    int status = bench->engine->put(driver->handle, key, sizeof key, value, bench->value_size);
    driver->updates++;
    if (status != 0)
        fprintf(stderr, "%s: put: status %d\n", bench->engine->name, status);
    return status == 0;
}

static bool
scan_some(struct driver *driver, uint64_t number)
{
    const struct drive *drive = driver->drive;
    uint8_t key[WORKLOAD_KEY];
    size_t count = 1 + workload_random_next(&driver->random) % WORKLOAD_SCAN_MAX;
    workload_key(number, key);
    size_t met = drive->bench->engine->scan_from(driver->handle, key, sizeof key, count);
    bool enough = met == count || number + count > drive->bench->entries;
    if (!enough)
        fprintf(stderr, "%s: scan met %zu of %zu\n", drive->bench->engine->name, met, count);
    return enough;
}

static bool
operation_run(struct driver *driver)
{
    struct drive *drive = driver->drive;
    const struct workload_mix *mix = drive->mix;
    unsigned dice = (unsigned)(workload_random_next(&driver->random) % 100);
    if (drive->many > 1)
        return read_many(driver);
    if (dice < mix->read)
        return read_one(driver, number_choose(driver));
    if ((dice -= mix->read) < mix->update)
        return write_one(driver, number_choose(driver));
    if ((dice -= mix->update) < mix->insert)
        return write_one(driver, AO_fetch_and_add1_full(&drive->entries));
    if (dice - mix->insert < mix->scan)
        return scan_some(driver, number_choose(driver));
    uint64_t number = number_choose(driver);
    return read_one(driver, number) && write_one(driver, number);
}

/* --- threads --- */

static void *
driver_main(void *argument)
{
    struct driver *driver = argument;
    struct drive *drive = driver->drive;
    const struct engine *engine = drive->bench->engine;
    driver->handle = engine->share(drive->bench->handle);
    driver->failed = drive->snapshot && engine->read_begin(driver->handle) != 0;
    double begin = bench_now();
    uint64_t limit = drive->limit != 0 ? drive->limit : UINT64_MAX;
    while (!driver->failed && begin < driver->end && driver->operations < limit) {
        driver->failed = !operation_run(driver);
        driver->operations++;
        double now = bench_now();
        if (driver->latencies != NULL)
            latency_add(driver->latencies, now - begin);
        begin = now;
    }
    if (drive->snapshot)
        engine->read_end(driver->handle);
    engine->unshare(driver->handle);
    return NULL;
}

static void
driver_start(struct driver *driver, struct drive *drive, unsigned number, double end)
{
    *driver = (struct driver){.drive = drive, .number = number, .end = end};
    workload_random_init(&driver->random, number + (uint64_t)(bench_now() * 1e9));
    driver->keys = malloc((size_t)MANY_MAX * WORKLOAD_KEY);
    driver->latencies = drive->latencies != NULL ? calloc(1, sizeof *driver->latencies) : NULL;
    pthread_create(&driver->thread, NULL, driver_main, driver);
}

bool
drive_run(struct drive *drive)
{
    struct driver drivers[MAX_THREADS];
    bool good = true;
    double begin = bench_now();
    if (AO_load(&drive->entries) == 0)
        AO_store(&drive->entries, drive->bench->entries);
    drive->operations = drive->updates = 0;
    for (unsigned i = 0; i < drive->threads; i++)
        driver_start(&drivers[i], drive, i, begin + drive->seconds);
    for (unsigned i = 0; i < drive->threads; i++) {
        pthread_join(drivers[i].thread, NULL);
        good = good && !drivers[i].failed;
        drive->operations += drivers[i].operations;
        drive->updates += drivers[i].updates;
        if (drive->latencies != NULL)
            latencies_merge(drive->latencies, drivers[i].latencies);
        free(drivers[i].latencies);
        free(drivers[i].keys);
    }
    drive->took = bench_now() - begin;
    return good;
}
