/* txn.c - transactions: begin, renew, abort, end. What they read is in get.c and cursor.c, what they write in put.c, how
 * they commit in commit.c.
 */
#include <stdlib.h>

#include "mlib_time.h"
#include "txn.h"

enum {
    LANE_PAUSES = 1000, /* of 1 ms: how long mace_begin waits for lanes of asynchronous commits */
};

/* A lane, and the memory of a transaction that goes with it. Lanes that asynchronous commits still hold come free as soon
 * as the broker copies them in: that is worth a wait, unlike lanes that open transactions hold. */
static int
txn_acquire(struct mlib_attachment *attachment, struct mace_txn **out)
{
    unsigned index;
    int status;
    for (unsigned i = 0;; i++) {
        status = mlib_lane_take(attachment, NULL, &index);
        if (status != MACE_LIMIT || AO_load(&attachment->deferred_count) == 0 || i == LANE_PAUSES ||
            mlib_attachment_lost(attachment))
            break;
        mlib_time_pause_ms(1);
    }
    if (status != MACE_OK)
        return status;
    struct mace_txn *txn = attachment->lane_cache[index];
    if (txn == NULL) {
        status = mlib_section_enter(attachment->mace);
        if (status == MACE_OK) {
            txn = calloc(1, sizeof *txn);
            mlib_section_leave();
            status = txn == NULL ? MACE_NO_MEMORY : MACE_OK;
        }
        if (status != MACE_OK) {
            mlib_lane_give(attachment, index);
            return status;
        }
        attachment->lane_cache[index] = txn;
        txn->mace = attachment->mace;
        txn->attachment = attachment;
        txn->lane_index = index;
        txn->lane = &attachment->session->lanes[index];
        txn->expired = &attachment->session->expired[index];
    }
    attachment->lane_owner[index] = txn;
    txn->tree.bucket = 0;
    *out = txn;
    return MACE_OK;
}

/* Registers the newest snapshot.
 *
 * Within one incarnation `visible` never goes back. A later incarnation shows at least what its predecessor showed, because
 * only what the log holds becomes visible, unless the log was lost with a disk that failed: then this process has seen
 * commits that no longer exist (level OS, never acknowledged as durable), and says so instead of going back in time.
 * Attaching raises newest_seen to the predecessor's `visible`. The look at liveness comes after the snapshot is taken: a
 * transaction that gets past it began while its broker was the only one. */
static int
snapshot_take(struct mace_txn *txn)
{
    const struct mshm_store *store = txn->attachment->view.store;
    mshm_timestamp snapshot = mshm_snapshot_register(store, txn->lane);
    int status = MACE_OK;
    if (mlib_attachment_lost(txn->attachment))
        status = MACE_BROKER_LOST;
    else if (snapshot < AO_load(&txn->mace->newest_seen))
        status = MACE_IO;
    else if (mshm_snapshot_expired(txn->expired, snapshot))
        status =
            MACE_BUSY; /* the mark of an earlier snapshot of this lane reaches up to the newest commit */
    if (status == MACE_OK)
        txn->snapshot = snapshot;
    return status;
}

static int
txn_begin(struct mlib_attachment *attachment, unsigned flags, struct mace_txn **out)
{
    struct mace_txn *txn;
    int status = txn_acquire(attachment, &txn);
    if (status != MACE_OK)
        return status;
    status = snapshot_take(txn);
    if (status == MACE_BUSY) {
        /* Another lane has no such mark. This one is held meanwhile, so that the search goes on. */
        status = txn_begin(attachment, flags, out);
        mshm_snapshot_release(txn->lane);
        mlib_lane_give(attachment, txn->lane_index);
        return status;
    }
    if (status != MACE_OK) {
        mshm_snapshot_release(txn->lane);
        mlib_lane_give(attachment, txn->lane_index);
        return status;
    }
    txn->flags = flags;
    *out = txn;
    return MACE_OK;
}

static int
begin_flags(const struct mace *db, unsigned flags, unsigned *effective)
{
    const unsigned levels = MACE_SYNC | MACE_OS;
    if ((flags & ~(MACE_RDONLY | levels)) != 0 || (flags & levels) == levels)
        return MACE_INVALID;
    if ((flags & levels) == 0)
        flags |= db->options.durability;
    if (db->options.read_only != 0)
        flags |= MACE_RDONLY;
    *effective = flags;
    return MACE_OK;
}

int
mace_begin(mace *db, unsigned flags, mace_txn **txn)
{
    if (db == NULL || txn == NULL)
        return MACE_INVALID;
    if (mlib_forked(db))
        return MACE_FORKED;
    int status = begin_flags(db, flags, &flags);
    if (status != MACE_OK)
        return status;
    do {
        struct mlib_attachment *attachment;
        status = mlib_attachment_get(db, &attachment);
        if (status != MACE_OK)
            return status;
        status = txn_begin(attachment, flags, txn);
        if (status != MACE_OK)
            mlib_attachment_put(attachment); /* else the reference is the transaction's */
    } while (status == MACE_BROKER_LOST);
    return status;
}

int
mace_renew(mace_txn *txn)
{
    if (txn == NULL)
        return MACE_INVALID;
    if (mlib_forked(txn->mace))
        return MACE_FORKED;
    if ((txn->flags & MACE_RDONLY) == 0)
        return MACE_INVALID;
    if (mlib_attachment_lost(txn->attachment))
        return MACE_BROKER_LOST;
    int status = snapshot_take(txn);
    if (status != MACE_OK) {
        /* Only growing words in the lane are safe, and an old snapshot is never registered again: but this broker is
         * gone, or its mark says that the transaction has expired anyway. */
        return status == MACE_BUSY ? MACE_SNAPSHOT_EXPIRED : status;
    }
    txn->tree.bucket = 0;
    mlib_cursors_renew(txn);
    return MACE_OK;
}

uint64_t
mace_txn_snapshot(const mace_txn *txn)
{
    return txn == NULL ? 0 : txn->snapshot;
}

int
mlib_txn_tree_find(struct mace_txn *txn, struct mace_bucket *bucket)
{
    struct mshm_tree_ref tree;
    if (bucket->mace != txn->mace)
        return MACE_INVALID;
    int status = mlib_bucket_find(bucket, txn->attachment, txn->snapshot, &tree, NULL);
    if (status == MACE_OK)
        txn->tree = tree;
    return status;
}

/* Without the lane's lock: a lane belongs to its owner until it is given back, and is given back last. */
void
mlib_txn_end(struct mace_txn *txn, uint64_t sequence)
{
    struct mlib_attachment *attachment = txn->attachment;
    mlib_cursors_close(txn);
    mlib_writeset_clear(&txn->writes);
    if (mlib_forked(txn->mace)) {
        attachment->lane_owner[txn->lane_index] = NULL;
        return;
    }
    if (sequence == 0) {
        mshm_snapshot_release(txn->lane);
        mlib_lane_give(attachment, txn->lane_index);
    } else {
        pthread_mutex_lock(&attachment->publish_lock);
        mlib_lane_defer(attachment, txn->lane_index, sequence);
        mlib_lanes_reap(attachment);
        pthread_mutex_unlock(&attachment->publish_lock);
    }
    mlib_attachment_put(attachment);
}

void
mace_abort(mace_txn *txn)
{
    if (txn != NULL)
        mlib_txn_end(txn, 0);
}

void
mlib_txn_abandon(struct mace_txn *txn)
{
    mlib_txn_end(txn, 0);
}

void
mlib_lanes_fini(struct mlib_attachment *attachment)
{
    for (unsigned i = 0; i < MSHM_MAX_LANES; i++) {
        struct mace_txn *txn = attachment->lane_cache[i];
        if (txn == NULL)
            continue;
        mlib_cursors_fini(txn);
        mlib_writeset_fini(&txn->writes);
        free(txn->value.data);
        free(txn->spare.data);
        free(txn);
        attachment->lane_cache[i] = NULL;
    }
}

int
mlib_buffer_reserve(struct mlib_buffer *buffer, size_t used, size_t size)
{
    if (size <= buffer->capacity)
        return MACE_OK;
    size_t capacity = buffer->capacity * 2 > size ? buffer->capacity * 2 : size;
    if (capacity < 1024)
        capacity = 1024;
    int status = mlib_section_enter(NULL);
    if (status != MACE_OK)
        return status;
    uint8_t *data = used == 0 ? malloc(capacity) : realloc(buffer->data, capacity);
    if (data != NULL && used == 0)
        free(buffer->data);
    mlib_section_leave();
    if (data == NULL)
        return MACE_NO_MEMORY;
    buffer->data = data;
    buffer->capacity = capacity;
    return MACE_OK;
}
