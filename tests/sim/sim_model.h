/* sim_model.h - what the database must hold: the list of commits in commit order, and from it the versions of each key.
 *
 * Commits become known in any order (answers, look-ups after a crash); they are applied strictly by timestamp, and each
 * is judged when it is applied: a transaction that should have found a conflict, or a one-call operation whose
 * precondition did not hold at its place, is an error.
 */
#ifndef SIM_MODEL_H
#define SIM_MODEL_H

#include <stdbool.h>
#include <stddef.h>

#include "mshm/ops.h"

enum {
    MODEL_KEYS = 4096,
    MODEL_BUCKETS = 64,
    MODEL_OPS = 8,
    MODEL_KEY_MAX = 1024,
    MODEL_VALUE_MAX = 8192,
    MODEL_NAME_MAX = 16,
};

struct model_op {
    uint32_t bucket; /* id */
    uint16_t key;    /* number */
    uint8_t kind;    /* enum mshm_op_kind, the precondition included */
    uint32_t size;   /* of the value */
    uint64_t write;  /* number that makes the value unique; 0: deleted */
};

struct model_commit {
    bool known, own; /* own: the broker's, on the catalogue */
    uint32_t count;
    mshm_timestamp snapshot; /* UINT64_MAX: one-call */
    struct model_op ops[MODEL_OPS];
};

struct model_version {
    mshm_timestamp timestamp;
    uint64_t write; /* 0: deleted */
    uint32_t size;
};

struct model_key {
    struct model_version *versions; /* ascending */
    uint32_t count, capacity;
};

struct model_bucket {
    uint32_t id; /* 0: free place */
    char name[MODEL_NAME_MAX];
    mshm_timestamp created, dropped; /* dropped 0: lives */
    struct model_key keys[MODEL_KEYS];
};

struct model {
    struct model_commit *commits; /* index: timestamp */
    uint64_t capacity;
    mshm_timestamp applied;
    struct model_bucket *buckets[MODEL_BUCKETS];
    const char *error; /* the first thing that was wrong; NULL: nothing */
    mshm_timestamp error_at;
};

void model_init(struct model *model);
void model_fini(struct model *model);

/* Bytes of a key and of a value: they follow from their numbers. Keys ascend with their numbers. */
size_t model_key_bytes(unsigned key, uint8_t bytes[MODEL_KEY_MAX]);
void model_value_bytes(uint64_t write, uint32_t size, uint8_t *bytes);

/* A commit became known. False: that timestamp is already taken by another. */
bool model_know(struct model *model, mshm_timestamp timestamp, mshm_timestamp snapshot,
                const struct model_op *ops, uint32_t count);
bool model_know_own(struct model *model, mshm_timestamp timestamp);
bool model_known(const struct model *model, mshm_timestamp timestamp);
/* Applies what is known without a gap; sets model->error on a contradiction. */
void model_advance(struct model *model);
/* Only the first n commits are left. */
void model_truncate(struct model *model, mshm_timestamp n);

struct model_bucket *model_bucket_find(struct model *model, uint32_t id);
struct model_bucket *model_bucket_named(struct model *model, const char *name); /* living */
struct model_bucket *model_bucket_add(struct model *model, uint32_t id, const char *name,
                                      mshm_timestamp created);
void model_bucket_forget(struct model *model, struct model_bucket *bucket);

/* For people: the commits that wrote each key; - deleted. */
void model_print(const struct model *model, uint32_t bucket);

/* The newest version <= snapshot; false: the key does not exist there. */
bool model_read(struct model *model, uint32_t bucket, unsigned key, mshm_timestamp snapshot,
                struct model_version *version);
/* Was a version of the key committed in (after, until]? */
bool model_written(struct model *model, uint32_t bucket, unsigned key, mshm_timestamp after,
                   mshm_timestamp until);
/* Was there a moment in [from, until] at which the key existed (or did not)? */
bool model_ever(struct model *model, uint32_t bucket, unsigned key, mshm_timestamp from,
                mshm_timestamp until, bool existed);

#endif
