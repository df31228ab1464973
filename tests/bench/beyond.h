/* beyond.h - what the figures of bench_beyond share: one engine's turn, and where its results go. */
#ifndef BENCH_BEYOND_H
#define BENCH_BEYOND_H

#include <atomic_ops.h>

#include "engine.h"
#include "machine.h"
#include "workload.h"

enum { ENGINES = 3, MAX_ROWS = 32, MAX_THREADS = 64 };

/* One line of the table; -1: this engine has no such figure, or it failed. */
struct row {
    char name[48];
    char unit[16];
    double value[ENGINES];
};

/* In memory shared with the process of the turn. */
struct results {
    AO_t writer; /* the process beside the turn's own that writes; 0: none */
    AO_t kill;   /* the turn wants to be killed, with the writer */
    unsigned count;
    struct row rows[MAX_ROWS];
};

struct bench {
    /* the run */
    struct engine_setup setup;
    struct machine_limit limit;
    struct results *results;
    double seconds, overload_seconds;
    double
        updates; /* of an upsert figure, per entry of the database; ends after UPSERT_LONGEST figures' time */
    unsigned threads;
    /* the value size */
    uint64_t entries;
    size_t value_size;
    struct workload_zipf zipf;
    /* the turn */
    const struct engine *engine;
    unsigned index;
    char path[MACHINE_PATH];
    struct engine_handle *handle;
};

/* Figures that are taken with the database opened once. The first one loads it. */
struct group {
    const char *name;
    bool (*run)(struct bench *bench); /* in a process of its own; false: failed */
    bool kills;                       /* the turn ends by results->kill */
};
extern const struct group bench_groups[];
extern const unsigned bench_group_count;

double bench_now(void);
void bench_result(struct bench *bench, const char *name, const char *unit, double value);
/* Opens the engine's database, and tells the parent who writes. */
bool bench_open(struct bench *bench);
void bench_close(struct bench *bench);

/* --- drive.c: threads that do one thing for a time --- */

/* Latencies by sixteenths of powers of two. */
struct latencies {
    uint64_t counts[64 * 16];
    uint64_t longest_ns;
};
/* The latency at or below which this share of them is, in nanoseconds. */
uint64_t latencies_share(const struct latencies *latencies, double share);

struct drive {
    struct bench *bench;
    const struct workload_mix *mix;
    double seconds;
    uint64_t limit; /* operations of each thread after which it ends; 0: none */
    unsigned threads;
    unsigned many;               /* keys per get; 0 or 1: one */
    bool snapshot;               /* gets in one snapshot; else each of the newest state */
    struct latencies *latencies; /* of every operation; NULL: not wanted */
    AO_t entries;                /* there are now: inserts add */
    /* results */
    uint64_t operations, updates;
    double took;
};
/* False: a get failed or found a wrong value, or a write failed. */
bool drive_run(struct drive *drive);

#endif
