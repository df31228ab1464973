/* task.h - one figure of bench_compare: worker processes that open an engine, start together and are timed. */
#ifndef BENCH_TASK_H
#define BENCH_TASK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <atomic_ops.h>

#include "engine.h"

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
    bool warm; /* everything is read once before the clock runs */
};

/* What a worker does; returns how many operations that were. */
typedef uint64_t worker_run(const struct task *task, struct engine_handle *handle, unsigned worker);

worker_run insert_run;  /* worker w of n puts the numbers w, w + n, w + 2n... */
worker_run batch_run;   /* the same, `batch` puts to a commit */
worker_run get_run;     /* random keys, until the time is over */
worker_run scan_run;    /* everything in order, until the time is over */
worker_run threads_run; /* insert_run in 16 threads of one process */

/* Forks the workers, opens in each, starts them together and returns operations per second of all; -1: one failed. */
double workers_run(const struct task *task, worker_run *run);

double now_seconds(void);

#endif
