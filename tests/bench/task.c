/* task.c - the workers of bench_compare. See task.h. */
#include "task.h"

#include <inttypes.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

double
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

/* So that a figure of reading is one of memory: while another engine was loaded, a broker may have left, and the next one
 * finds its pages on disk. */
static bool
warm_up(const struct task *task, struct engine_handle *handle)
{
    uint64_t sum = 0;
    if (task->engine->read_begin(handle) != 0)
        return false;
    uint64_t met = task->engine->scan(handle, &sum);
    task->engine->read_end(handle);
    return met == task->entries;
}

double
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
        if (handle == NULL || (task->warm && !warm_up(task, handle))) {
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

uint64_t
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

uint64_t
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

uint64_t
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

uint64_t
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

uint64_t
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
