/* model/model.h - histories of transactions and the oracle that judges them.
 *
 * Workers in several processes run random transactions and write down every call with its answer (struct model_event, one
 * stream per process). The oracle then puts the commits in the order of their timestamps and asks of every answer whether
 * snapshot isolation allows it:
 *
 *   a read or a cursor move     the newest version <= the snapshot, under the transaction's own writes
 *   a commit                    no other version of its keys in (snapshot, timestamp); timestamps are all different
 *   a conflict                  some key that it wrote has a version above its snapshot
 *   insert, update, delete      the precondition on snapshot and own writes
 *   a one-call write            its place in commit order is not told, only that it lies in (before, after]; the keys of
 *                               one-call writes have one writer each, so that their order is known all the same
 *
 * Keys are numbers in the order of their bytes. A value is a function of its uid (the write that made it), bucket and key,
 * and carries them, so that a reader knows which write it sees, and that every byte is right.
 */
#ifndef MODEL_H
#define MODEL_H

#include <atomic_ops.h>

#include "mace/mace.h"
#include "support/random.h"

enum {
    MODEL_BUCKETS = 3, /* "model0".."model2"; the last one is for one-call writes */
    MODEL_ONE_CALL_BUCKET = 2,
    MODEL_KEYS = 500,
    MODEL_HOT = 24, /* of them are written half of the time */
    MODEL_PROCESSES = 4,
    MODEL_CURSORS = 2, /* of one transaction */
    MODEL_VALUE_MAX = 8192,
};

/* uids that are not of a write. */
#define MODEL_NONE UINT64_C(0)      /* no value */
#define MODEL_TOMBSTONE UINT64_C(1) /* in a version: deleted */
#define MODEL_EMPTY UINT64_C(2)     /* in an answer: a value of no bytes, which carries no uid */
#define MODEL_NO_KEY UINT32_C(0xffffffff)

enum model_kind {
    MODEL_BEGIN, /* a: snapshot */
    MODEL_RENEW, /* a: snapshot */
    MODEL_READ,  /* bucket, key, status; a: uid */
    MODEL_WRITE, /* op, bucket, key, status; a: uid */
    MODEL_CURSOR, /* op: which, bucket, key: lower bound, a: upper bound (excluded), MODEL_NO_KEY = none */
    MODEL_MOVE,   /* op: which, move, key: of a seek, status; a: key found, b: uid */
    MODEL_COMMIT, /* status; a: timestamp */
    MODEL_ABORT,
    MODEL_ONE,  /* op, bucket, key, status; a: uid, b: newest timestamp before, c: after */
    MODEL_GET1, /* bucket, key, status; a: uid, b, c: as above */
};
enum model_op { MODEL_PUT, MODEL_INSERT, MODEL_UPDATE, MODEL_DELETE };
enum model_move { MODEL_FIRST, MODEL_LAST, MODEL_NEXT, MODEL_PREV, MODEL_SEEK };

/* One call and its answer. */
struct model_event {
    uint8_t kind, op, bucket, move;
    int32_t status;
    uint32_t txn; /* number within the process, from 1 */
    uint32_t key;
    uint64_t a, b, c;
};

struct model_history {
    struct model_event *events[MODEL_PROCESSES];
    uint64_t counts[MODEL_PROCESSES];
    uint64_t base; /* newest commit before the workers began */
};

/* Figures of a history, to see that it was worth judging. */
struct model_figures {
    uint64_t operations, commits, conflicts, reads, moves, own_reads, one_calls;
};

/* Makes the table of keys; before anything else, in every process (or before the fork). */
void model_keys_init(void);
const void *model_key(uint32_t key, size_t *size);
/* The value of a write; returns its size. `to` has MODEL_VALUE_MAX bytes. */
size_t model_value(uint8_t *to, uint64_t uid, unsigned bucket, uint32_t key);
size_t model_value_size(uint64_t uid);
/* The uid that a value carries (MODEL_EMPTY), after every byte of it was checked; ends the process when one is wrong. */
uint64_t model_value_uid(const mace_slice *value, unsigned bucket, uint32_t key);
/* The number of the key that an entry carries, after its bytes were checked; key is that of the cursor. Values without
 * bytes do not carry it: then it is searched. */
uint32_t model_key_number(const mace_slice *key);

/* What the workers share. newest: the newest timestamp that anybody was told; raised by compare-and-swap, so that it only
 * grows; read before each begin, whose snapshot may not be older. */
struct model_shared {
    AO_t newest;
};

struct model_worker {
    const char *path;
    const char *log; /* file of the history */
    struct model_shared *shared;
    unsigned process;
    uint64_t seed;
    uint64_t operations;
};
/* For worker_start; argument: struct model_worker. */
void model_worker_run(int channel, void *argument);

void model_history_load(struct model_history *history, unsigned process, const char *log);
void model_history_free(struct model_history *history);

struct model_oracle;
/* Judges a history: the oracle with all versions, or NULL and *why. figures may be NULL. */
struct model_oracle *model_oracle_create(const struct model_history *history,
                                         struct model_figures *figures, char *why, size_t why_size);
void model_oracle_free(struct model_oracle *oracle);
/* Compares the database with the end of the history, by walks both ways and gets: 0, or -1 and *why. */
int model_oracle_compare(const struct model_oracle *oracle, mace *db, char *why, size_t why_size);
/* The newest timestamp that the history explains: its base and all its commits. */
uint64_t model_oracle_newest(const struct model_oracle *oracle);

#endif
