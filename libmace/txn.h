/* txn.h - an open transaction, and what the files of libmace that work on one share.
 *
 * Used by one thread at a time. Its memory belongs to its lane and is kept there (lane_cache) for the lane's next
 * transaction, buffers included, so that a short transaction allocates nothing.
 */
#ifndef MLIB_TXN_H
#define MLIB_TXN_H

#include "mlib.h"
#include "writeset.h"

/* Bytes that a get hands out; grows. */
struct mlib_buffer {
    uint8_t *data;
    size_t capacity;
};

struct mace_txn {
    struct mace *mace;
    struct mlib_attachment *attachment; /* with a reference */
    struct mshm_lane *lane;
    const AO_t *expired; /* the lane's expiry word */
    mshm_timestamp snapshot;
    /* The bucket that was read last, and where its tree is; tree.bucket 0: none. A bucket's id is never used again and its
     * tree does not move, so the id alone says that this still holds for the snapshot. */
    struct mshm_tree_ref tree;
    unsigned lane_index;
    unsigned flags;           /* MACE_RDONLY, and one of MACE_SYNC and MACE_OS */
    struct mlib_buffer value; /* slices of the last get point here */
    struct mlib_buffer
        spare; /* filled by mace_get_many while its keys may still point into `value` */
    struct mlib_writeset writes;
    struct mace_cursor *cursors; /* open ones */
    struct mace_cursor *idle;    /* closed ones, kept for the next mace_cursor_open: one, or as
                                    many as a signal handler could not free */
};

/* Ends a transaction: cursors, slices and writes are gone, the lane is given back (sequence 0), or left registered until
 * the broker has copied in `sequence`; the reference on the attachment is put. In a forked child only private memory is
 * touched. */
void mlib_txn_end(struct mace_txn *txn, uint64_t sequence);

/* Where the tree of a bucket is for this transaction: MACE_OK, MACE_INVALID (NULL, another handle's), MACE_NOT_FOUND. */
int mlib_txn_tree_find(struct mace_txn *txn, struct mace_bucket *bucket);

/* What every call that names transaction and bucket checks first. On MACE_OK txn->tree is the bucket's. */
static inline int
mlib_txn_enter(struct mace_txn *txn, struct mace_bucket *bucket)
{
    if (txn == NULL || bucket == NULL)
        return MACE_INVALID;
    if (mlib_forked(txn->mace))
        return MACE_FORKED;
    if (bucket->id == txn->tree.bucket && bucket->mace == txn->mace)
        return MACE_OK;
    return mlib_txn_tree_find(txn, bucket);
}

static inline int
mlib_key_check(const void *key, size_t key_size)
{
    if (key_size - 1 < MSHM_MAX_KEY && key != NULL)
        return MACE_OK;
    return key_size > MSHM_MAX_KEY ? MACE_TOO_BIG : MACE_INVALID;
}

/* Makes a buffer hold `size` bytes; the first `used` ones are kept. MACE_NO_MEMORY, or MACE_INVALID from a signal handler
 * inside a section: unchanged. */
int mlib_buffer_reserve(struct mlib_buffer *buffer, size_t used, size_t size);

/* The transaction's own write of a key in txn->tree's bucket, or NULL. */
static inline const struct mlib_write *
mlib_txn_own(const struct mace_txn *txn, const void *key, size_t key_size)
{
    if (txn->writes.count == 0)
        return NULL;
    const struct mlib_write_tree *tree = mlib_writeset_tree(&txn->writes, txn->tree.bucket);
    return tree == NULL ? NULL : mlib_write_find(tree, key, key_size);
}

/* get.c: reads a key of the snapshot alone, from the tree given, and copies its value behind the first `used` bytes of
 * `buffer`, which grows as needed. MACE_OK and the size, MACE_NOT_FOUND, or why it could not be read. */
int mlib_snapshot_get(struct mace_txn *txn, struct mshm_tree_ref tree, const void *key,
                      size_t key_size, struct mlib_buffer *buffer, size_t used, size_t *value_size);
/* Is the key there, in the snapshot or by an own write, in txn->tree's bucket? MACE_OK, MACE_NOT_FOUND, or an error. */
int mlib_txn_exists(struct mace_txn *txn, const void *key, size_t key_size);

/* put.c: the checks of a write's arguments that need no transaction. */
int mlib_write_check(const void *key, size_t key_size, const void *value, size_t value_size);

/* cursor.c: the end of the transaction closes its cursors, mace_renew makes them fresh; fini frees the idle one. */
void mlib_cursors_close(struct mace_txn *txn);
void mlib_cursors_renew(struct mace_txn *txn);
void mlib_cursors_fini(struct mace_txn *txn);

#endif
