/* wal_fixture.h - a log on a simulated disk, for the tests of writing, reading and damaging it. */
#ifndef WAL_FIXTURE_H
#define WAL_FIXTURE_H

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "mshm/counters.h"
#include "mshm/ops.h"
#include "mshm/status.h"
#include "sim/sim_env.h"
#include "wal.h"

enum { FIXTURE_SEGMENT = 64 << 10, FIXTURE_VALUES = 4096, FIXTURE_TAG = 0x100 };

struct fixture {
    struct sim_env *sim;
    const struct env *env;
    struct wal *wal;
    struct wal_options options;
    struct mshm_figures figures;
    uint64_t timestamp; /* newest staged */
    uint64_t incarnation;
    struct wal_from cut; /* of the newest checkpoint; timestamp 0: none */
    /* what the last reading gave */
    uint64_t read_count, read_last;
    struct wal_end end;
    char why[256];
};

static const uint8_t fixture_id[16] = "database id 123";

static inline void
fixture_init(struct fixture *fixture, uint64_t seed)
{
    memset(fixture, 0, sizeof *fixture);
    fixture->sim = sim_env_create(seed);
    fixture->env = sim_env_interface(fixture->sim);
    fixture->options = (struct wal_options){FIXTURE_SEGMENT, true};
    fixture->env->directory_create(fixture->env->context, "wal");
    fixture->env->directory_sync(fixture->env->context, "");
}

static inline void
fixture_fini(struct fixture *fixture)
{
    if (fixture->wal != NULL)
        sim_env_die(fixture->sim, false);
    wal_close(fixture->wal);
    sim_env_destroy(fixture->sim);
}

static inline int
fixture_open(struct fixture *fixture, const struct wal_end *after)
{
    struct wal_start start = {.next_segment = 1};
    if (after != NULL)
        start = after->next;
    start.incarnation = ++fixture->incarnation;
    memcpy(start.database_id, fixture_id, sizeof start.database_id);
    fixture->timestamp = start.timestamp;
    return wal_open(&fixture->wal, &fixture->options, fixture->env, &start, &fixture->figures,
                    FIXTURE_TAG);
}

/* Takes completions; MSHM_OK or what the log said. */
static inline int
fixture_poll(struct fixture *fixture)
{
    struct env_completion completions[4];
    int status = MSHM_OK;
    sim_env_advance(fixture->sim, 20000);
    unsigned count = fixture->env->poll(fixture->env->context, completions, 4);
    for (unsigned i = 0; i < count; i++) {
        int one = wal_complete(fixture->wal, &completions[i]);
        status = status == MSHM_OK ? one : status;
    }
    return status;
}

static inline int
fixture_settle(struct fixture *fixture)
{
    for (int i = 0; i < 100000; i++) {
        int status = wal_flush(fixture->wal);
        if (status == MSHM_OK)
            status = fixture_poll(fixture);
        if (status != MSHM_OK || wal_idle(fixture->wal) || sim_env_dead(fixture->sim))
            return status;
    }
    return MSHM_BUSY;
}

static inline uint32_t
fixture_value_size(uint64_t timestamp)
{
    return (uint32_t)(timestamp * 37 % 300);
}

/* Stages a commit whose content follows from its timestamp. MSHM_OK or what wal_stage said. */
static inline int
fixture_try(struct fixture *fixture, bool sync, uint64_t *batch)
{
    static const uint8_t filler[512];
    int status;
    uint64_t timestamp = fixture->timestamp + 1;
    uint32_t size = fixture_value_size(timestamp);
    uint64_t ops_size = mshm_op_size(sizeof timestamp, size);
    void *ops = wal_stage(fixture->wal, ops_size, &status);
    if (ops == NULL)
        return status;
    mshm_op_write(ops, 1, MSHM_OP_PUT, &timestamp, sizeof timestamp, filler, size);
    uint64_t number = wal_stage_finish(fixture->wal, timestamp, 7, timestamp, 1, sync);
    if (batch != NULL)
        *batch = number;
    fixture->timestamp = timestamp;
    return MSHM_OK;
}

/* The same, waiting while the log is busy. */
static inline int
fixture_commit(struct fixture *fixture, bool sync)
{
    int status;
    for (int i = 0; i < 100000; i++) {
        status = fixture_try(fixture, sync, NULL);
        if (status != MSHM_BUSY)
            return status;
        status = wal_flush(fixture->wal);
        if (status == MSHM_OK)
            status = fixture_poll(fixture);
        if (status != MSHM_OK)
            return status;
    }
    return MSHM_BUSY;
}

static inline int
fixture_each(void *argument, const struct wal_segment_header *segment,
             const struct wal_record *record, const void *ops, uint64_t ops_size,
             struct wal_position end)
{
    struct fixture *fixture = argument;
    const struct mshm_op *op = ops;
    uint64_t key;
    (void)segment, (void)end;
    memcpy(&key, mshm_op_key(op), sizeof key);
    if (record->timestamp != fixture->read_last + 1 || key != record->timestamp ||
        op->value_size != fixture_value_size(key) || op->key_size != sizeof key ||
        ops_size != mshm_op_size(op->key_size, op->value_size))
        return MSHM_INVALID; /* a wrong value */
    fixture->read_last = record->timestamp;
    fixture->read_count++;
    return MSHM_OK;
}

static inline int
fixture_read(struct fixture *fixture)
{
    fixture->read_count = 0;
    fixture->read_last = fixture->cut.timestamp;
    fixture->why[0] = '\0';
    return wal_read(fixture->env, fixture_id, 0, &fixture->cut, fixture_each, fixture,
                    &fixture->end, fixture->why, sizeof fixture->why);
}

/* Where a checkpoint that is sealed now would let the log begin. */
static inline struct wal_from
fixture_tell(const struct fixture *fixture)
{
    struct wal_from cut = {.timestamp = fixture->timestamp};
    wal_tell(fixture->wal, &cut.position, &cut.chain);
    return cut;
}

/* The process dies; what is left is read, made durable and continued by a new incarnation. */
static inline int
fixture_restart(struct fixture *fixture, bool power_cut)
{
    sim_env_die(fixture->sim, power_cut);
    wal_close(fixture->wal);
    fixture->wal = NULL;
    sim_env_restart(fixture->sim);
    return fixture_read(fixture);
}

static inline int
fixture_continue(struct fixture *fixture)
{
    int status = wal_rewrite(fixture->env, &fixture->end);
    if (status == MSHM_OK)
        status = wal_make_durable(fixture->env, fixture->end.known_durable.segment,
                                  fixture->end.next.end.segment);
    if (status == MSHM_OK)
        status = fixture_open(fixture, &fixture->end);
    if (status == MSHM_OK)
        wal_remove_dead(fixture->env, fixture_id, &fixture->cut);
    return status;
}

static inline uint64_t
fixture_seed(void)
{
    const char *text = getenv("MACE_SEED");
    uint64_t seed = text != NULL ? strtoull(text, NULL, 0) : 1;
    printf("MACE_SEED=%llu\n", (unsigned long long)seed);
    return seed;
}

#endif
