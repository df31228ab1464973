/* catalogue.h - the buckets: names, ids, options, roots; their entries in the store (mshm/store.h).
 *
 * Creating, dropping and altering are commits of the broker itself, logged as MSHM_OP_BUCKET_* (key: the name, value:
 * struct catalogue_record) and replayed through the same functions. Ids are never reused. Loop thread only.
 */
#ifndef CATALOGUE_H
#define CATALOGUE_H

#include "mshm/message.h"
#include "mshm/ops.h"
#include "mshm/store.h"
#include "tree.h"

struct catalogue;

/* The value of a BUCKET_* operation in the log. [version 1: 32 bytes, little-endian] */
struct catalogue_record {
    uint32_t version; /* 1 */
    uint32_t page_size, inline_limit;
    uint32_t compression, backpressure, merge_operator;
    uint32_t reserved[2];
};
static_assert(sizeof(struct catalogue_record) == 32, "a catalogue record is 32 bytes");

struct catalogue_bucket {
    uint32_t id; /* bucket id */
    uint32_t place;
    mshm_pid root;
    mshm_timestamp created, dropped; /* dropped 0: lives */
    struct catalogue_record options; /* resolved: no zeros */
    uint16_t name_size;
    char name[256];
};

int catalogue_create(struct catalogue **catalogue, struct tree *tree,
                     struct mshm_catalogue_entry *entries, uint64_t capacity,
                     uint32_t default_page_size);
void catalogue_destroy(struct catalogue *catalogue);

/* 1 to 255 bytes of valid UTF-8, no NUL. */
bool catalogue_name_valid(const void *name, size_t size);
/* NULL when no living bucket has this name / id. */
const struct catalogue_bucket *catalogue_find(const struct catalogue *catalogue, const void *name,
                                              size_t size);
const struct catalogue_bucket *catalogue_get(const struct catalogue *catalogue, uint32_t id);
/* First living bucket whose name is greater (memcmp order); NULL at the end. */
const struct catalogue_bucket *catalogue_after(const struct catalogue *catalogue, const void *name,
                                               size_t size);
/* A tree_resolve: MSHM_NOT_FOUND for a bucket that was dropped or never existed. */
int catalogue_resolve(void *catalogue, uint32_t bucket, struct tree_target *target);
uint32_t catalogue_inline_limit(const struct catalogue *catalogue,
                                uint32_t bucket); /* 0: no such bucket */

/* Checks a request and writes the operation that would do it to `op` (room for 512 bytes): MSHM_OK and *size;
 * MSHM_EXISTS, MSHM_NOT_FOUND, MSHM_INVALID, MSHM_LIMIT. Changes nothing. kind: MSHM_OP_BUCKET_*. */
int catalogue_plan(const struct catalogue *catalogue, unsigned kind,
                   const struct mshm_bucket_message *request, void *op, uint64_t *size);
/* Does a logged operation, now or at replay. MSHM_OK; MSHM_FULL (create: no frame); MSHM_CORRUPT (replay of nonsense);
 * MSHM_BUSY (create, only at replay: all places are taken by dropped buckets, and pages of theirs have to be read
 * first: tree_missing). */
int catalogue_apply(struct catalogue *catalogue, const struct mshm_op *op,
                    mshm_timestamp timestamp);
/* Gives back trees of dropped buckets that no snapshot older than the drop can reach, a bounded part per call: true
 * when more is left, perhaps because pages have to be read first (tree_missing). oldest: the oldest registered snapshot,
 * or the horizon when there is none. */
bool catalogue_reap(struct catalogue *catalogue, mshm_timestamp oldest);
/* A dropped bucket still waits for its last reader or its last page: call catalogue_reap again later. */
bool catalogue_reap_pending(const struct catalogue *catalogue);
/* A tree is half given back: what is left of it names pids that must not be given out (pages_hold_pids), not after a
 * restart either. */
bool catalogue_leaving(const struct catalogue *catalogue);
/* Everything for a checkpoint, dropped buckets that still have pages and the next id included, and the tree's figures
 * (tree_figures), allocated with malloc: layout in catalogue_format.h. MSHM_OK, MSHM_NO_MEMORY. */
int catalogue_save(const struct catalogue *catalogue, void **bytes, uint64_t *size);
/* Back again into an empty catalogue, the entries of the store and the tree's figures included (hostile bytes).
 * MSHM_OK; MSHM_CORRUPT, MSHM_VERSION, MSHM_LIMIT (more buckets than places): the catalogue is of no use any more. */
int catalogue_load(struct catalogue *catalogue, const void *bytes, uint64_t size);
uint32_t catalogue_count(const struct catalogue *catalogue);
/* Calls each(bucket) for every living bucket by name; a non-zero return stops. */
int catalogue_each(const struct catalogue *catalogue,
                   int (*each)(const struct catalogue_bucket *, void *), void *arg);

#endif
