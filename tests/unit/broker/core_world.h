/* core_world.h - a whole core in a small cache on the simulated disk, and what it ought to hold: for core_model_test.c.
 * One world at a time, in static memory. core_world.c: the core; core_truth.c: the model and the comparison.
 */
#ifndef CORE_WORLD_H
#define CORE_WORLD_H

#include <stdbool.h>

#include "checkpoint.h"
#include "control.h"
#include "core_parts.h"
#include "mshm/protocol.h"
#include "mshm/read.h"
#include "mshm/status.h"
#include "sim/sim_env.h"

enum { BUCKETS = 3, KEYS = 5000, LANES = 4, VALUE_MAX = 6000, KEY_MAX = 64 };

/* --- core_world.c --- */

extern struct sim_env *sim;
extern struct sim_random chance;
extern struct core_options options;
extern struct core *core; /* NULL: dead */
extern struct mshm_session *segment;
extern struct mshm_producer producer;
extern uint64_t seed;
extern bool faulty; /* some call fails in this life */
extern char why[256];
extern unsigned error_lines, warning_lines; /* that the core has logged */

void world_create(uint64_t number);
/* Starts the core: what core_recover said. */
int world_start(bool create);
/* The core's memory is gone, the disk that survives comes into force. */
void world_end(bool power_cut);
bool world_dead(void); /* the process has died, or is about to because a call failed */
void attach(void);
void turn(void);
void ring(void); /* the session's doorbell */
void idle(unsigned turns);
/* Waits for the answer to a request: its status; MSHM_BUSY: none came, because the core has died. */
int answer(uint64_t sequence, int wake, uint64_t *timestamp);
/* The same for a control message, MSHM_MESSAGE_*. */
int control(unsigned kind, unsigned bucket);
/* Reads as a client does, with pages read in. snapshot 0: the newest. */
int get(unsigned bucket, uint32_t key, unsigned lane, uint64_t snapshot, uint8_t *value,
        uint64_t *size);
const struct catalogue_bucket *bucket_find(unsigned bucket);
/* The leaf of a key, when it is not in memory, else 0. The inner pages come in. */
mshm_pid leaf_absent(unsigned bucket, uint32_t key);

/* --- core_truth.c --- */

struct version {
    uint64_t timestamp, number; /* number 0: deleted */
};
struct key_model {
    struct version *versions;
    uint32_t count, capacity;
};
struct bucket_model {
    bool lives;
    uint32_t id;
    uint64_t created, dropped;
    struct key_model keys[KEYS];
};
extern struct bucket_model buckets[BUCKETS];
extern uint64_t snapshots[LANES]; /* 0: none */
extern unsigned expirations, read_errors;

uint32_t key_make(unsigned bucket, uint32_t key, uint8_t *to);
uint32_t value_make(uint64_t number, uint8_t *to);
const struct version *model_at(const struct key_model *key, uint64_t timestamp);
void model_put(struct key_model *key, uint64_t timestamp, uint64_t number);
void model_clear(struct bucket_model *bucket);
void model_truncate(uint64_t visible);
struct operation {
    unsigned bucket;
    uint32_t key;
    unsigned kind;
    uint64_t number; /* of the value */
};

/* Writes the operations to `to`, or nowhere: how many bytes. */
uint64_t ops_write(const struct operation *operations, unsigned count, uint8_t *to);
/* They have been committed. */
void ops_apply(const struct operation *operations, unsigned count, uint64_t timestamp);
/* What is to be answered; snapshot 0: a one-call request. */
int ops_expected(const struct operation *operations, unsigned count, uint64_t snapshot);

/* What the core says of a key against the model. */
void compare(unsigned bucket, uint32_t key, unsigned lane, uint64_t snapshot);
void compare_all(void);
/* Every record that the manifest names is there and whole, and the live bytes of the data files are theirs. */
void account_check(void);

#endif
