/* writeset.h - the writes of one open transaction: private memory, in the order of (bucket, key), one write per key.
 *
 * Used by the thread that uses the transaction; nothing here is shared. Writes are never removed: a delete is a write, and
 * a later write of the same key takes the earlier one's place. So a cursor may look for its neighbours at any time.
 *
 * Per bucket a B+tree over the writes (Bayer & McCreight, 1972; leaves linked), whose nodes hold eight bytes of each key
 * beside the pointer, taken behind what all keys of the tree begin with: a search compares numbers, and touches keys only
 * where these are equal. Ascending keys go to the last leaf without a search.
 */
#ifndef MLIB_WRITESET_H
#define MLIB_WRITESET_H

#include <stdint.h>

#include "mshm/ops.h"
#include "mshm/status.h"

/* One write. Stays where it is until the write set is cleared; its value changes when the key is written again. */
struct mlib_write {
    uint32_t value_size;
    uint32_t value_capacity; /* bytes behind the key that a later value may use */
    uint16_t key_size;
    uint8_t kind;    /* MSHM_OP_PUT or MSHM_OP_DELETE */
    uint8_t bytes[]; /* key, value */
};

struct mlib_chunk;
struct mlib_write_tree; /* the writes of one bucket */

/* Zeroed memory is an empty write set. */
struct mlib_writeset {
    struct mlib_chunk *chunks;     /* the newest first */
    struct mlib_write_tree *trees; /* ascending by bucket */
    struct mlib_write_tree *last;  /* of the write before this one */
    uint64_t bytes;                /* of the operations, as they will stand in the arena */
    uint64_t count;
};

/* Forgets the writes; keeps a moderate piece of memory for the next ones. */
void mlib_writeset_clear(struct mlib_writeset *set);
/* Frees everything. */
void mlib_writeset_fini(struct mlib_writeset *set);

/* Writes a key: `kind` MSHM_OP_PUT or MSHM_OP_DELETE (no value). Key and value are copied; sizes were checked.
 * MSHM_OK; MSHM_NO_MEMORY, MSHM_TOO_BIG (more than MSHM_ARENA_MAX bytes): nothing changed. */
int mlib_writeset_put(struct mlib_writeset *set, uint32_t bucket, unsigned kind, const void *key,
                      size_t key_size, const void *value, size_t value_size);

/* The writes of a bucket, or NULL when there is none. */
struct mlib_write_tree *mlib_writeset_tree(const struct mlib_writeset *set, uint32_t bucket);

/* In one tree: the write of a key; the first with key >= the one given; the last with key < the one given; the last of
 * all. NULL: there is none. Keys may have any size. */
const struct mlib_write *mlib_write_find(const struct mlib_write_tree *tree, const void *key,
                                         size_t key_size);
const struct mlib_write *mlib_write_ceiling(const struct mlib_write_tree *tree, const void *key,
                                            size_t key_size);
const struct mlib_write *mlib_write_below(const struct mlib_write_tree *tree, const void *key,
                                          size_t key_size);
const struct mlib_write *mlib_write_last(const struct mlib_write_tree *tree);

/* Lays all operations out at `to` (8-aligned, set->bytes of room), in order. Returns the bytes written. */
uint64_t mlib_writeset_emit(const struct mlib_writeset *set, void *to);

static inline const uint8_t *
mlib_write_value(const struct mlib_write *write)
{
    return write->bytes + write->key_size;
}

#endif
