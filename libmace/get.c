/* get.c - reading keys: by a transaction (own writes first, then its snapshot), and by the one-call get.
 *
 * A get takes no lock and asks nobody. What may have to be done around mshm_get: the caller's key may stand in the very
 * buffer that the value goes to, and the value may be larger than the buffer.
 */
#include <string.h>

#include "mlib_time.h"
#include "txn.h"

/* A buffer that has memory at all, so that no offset is ever added to a null pointer. */
static inline int
buffer_ready(struct mlib_buffer *buffer)
{
    return buffer->data != NULL ? MACE_OK : mlib_buffer_reserve(buffer, 0, MSHM_MAX_INLINE);
}

/* mshm_get with room for the whole buffer behind `used`. A page that is not in memory is waited for, or, with `missing`,
 * reported: MACE_BUSY. */
static inline int
snapshot_read(struct mace_txn *txn, struct mshm_tree_ref tree, const void *key, size_t key_size,
              void *buffer, size_t capacity, uint64_t *value_size, mshm_pid *missing)
{
    mshm_pid pid;
    int status;
    while ((status = mshm_get(&txn->attachment->view, txn->lane, txn->expired, tree, key, key_size,
                              txn->snapshot, buffer, capacity, value_size, NULL, &pid)) ==
           MSHM_BUSY) {
        if (missing != NULL) {
            *missing = pid;
            return MACE_BUSY;
        }
        status = mlib_page_in(txn->attachment, &pid, 1);
        if (status != MACE_OK)
            return status;
    }
    return status;
}

static int
snapshot_get(struct mace_txn *txn, struct mshm_tree_ref tree, const void *key, size_t key_size,
             struct mlib_buffer *buffer, size_t used, size_t *value_size, mshm_pid *missing)
{
    uint8_t copy[MSHM_MAX_KEY];
    uint64_t size = 0;
    int status = buffer_ready(buffer);
    if (status != MACE_OK)
        return status;
    /* A retry inside mshm_get reads the key again, after a part of the value may have been written over it. */
    if ((uintptr_t)key - (uintptr_t)buffer->data < buffer->capacity) {
        memcpy(copy, key, key_size);
        key = copy;
    }
    for (;;) {
        status = snapshot_read(txn, tree, key, key_size, buffer->data + used,
                               buffer->capacity - used, &size, missing);
        if (status == MACE_OK)
            *value_size = size;
        if (status != MSHM_BUFFER_TOO_SMALL)
            return status;
        if (size > MSHM_MAX_VALUE)
            return MACE_CORRUPT;
        status = mlib_buffer_reserve(buffer, used, used + size);
        if (status != MACE_OK)
            return status;
    }
}

int
mlib_snapshot_get(struct mace_txn *txn, struct mshm_tree_ref tree, const void *key, size_t key_size,
                  struct mlib_buffer *buffer, size_t used, size_t *value_size)
{
    return snapshot_get(txn, tree, key, key_size, buffer, used, value_size, NULL);
}

/* The value of an own write. It is copied, because a later write of the key may take its place. */
static int
own_copy(struct mace_txn *txn, const struct mlib_write *write, struct mlib_buffer *buffer,
         size_t used, size_t *value_size)
{
    if (mshm_snapshot_expired(txn->expired, txn->snapshot))
        return MACE_SNAPSHOT_EXPIRED;
    if (write->kind == MSHM_OP_DELETE)
        return MACE_NOT_FOUND;
    int status = buffer_ready(buffer);
    if (status == MACE_OK)
        status = mlib_buffer_reserve(buffer, used, used + write->value_size);
    if (status != MACE_OK)
        return status;
    if (write->value_size > 0)
        memcpy(buffer->data + used, mlib_write_value(write), write->value_size);
    *value_size = write->value_size;
    return MACE_OK;
}

static int
txn_get(struct mace_txn *txn, const void *key, size_t key_size, struct mlib_buffer *buffer,
        size_t used, size_t *value_size, mshm_pid *missing)
{
    const struct mlib_write *own = mlib_txn_own(txn, key, key_size);
    if (own != NULL)
        return own_copy(txn, own, buffer, used, value_size);
    return snapshot_get(txn, txn->tree, key, key_size, buffer, used, value_size, missing);
}

int
mace_get(mace_txn *txn, mace_bucket *bucket, const void *key, size_t key_size, mace_slice *value)
{
    int status = mlib_txn_enter(txn, bucket);
    if (status != MACE_OK)
        return status;
    status = mlib_key_check(key, key_size);
    if (status != MACE_OK)
        return status;
    if (value == NULL)
        return mlib_txn_exists(txn, key, key_size);
    size_t value_size;
    status = txn_get(txn, key, key_size, &txn->value, 0, &value_size, NULL);
    if (status == MACE_OK)
        *value = (mace_slice){.data = txn->value.data, .size = value_size};
    return status;
}

int
mlib_txn_exists(struct mace_txn *txn, const void *key, size_t key_size)
{
    uint64_t size;
    const struct mlib_write *own = mlib_txn_own(txn, key, key_size);
    if (own != NULL && mshm_snapshot_expired(txn->expired, txn->snapshot))
        return MACE_SNAPSHOT_EXPIRED;
    if (own != NULL)
        return own->kind == MSHM_OP_DELETE ? MACE_NOT_FOUND : MACE_OK;
    int status = snapshot_read(txn, txn->tree, key, key_size, NULL, 0, &size, NULL);
    return status == MSHM_BUFFER_TOO_SMALL ? MACE_OK : status;
}

int
mace_get_into(mace_txn *txn, mace_bucket *bucket, const void *key, size_t key_size, void *buffer,
              size_t capacity, size_t *value_size)
{
    int status = mlib_txn_enter(txn, bucket);
    if (status != MACE_OK)
        return status;
    status = mlib_key_check(key, key_size);
    if (status != MACE_OK)
        return status;
    if (buffer == NULL && capacity != 0)
        return MACE_INVALID;
    uint64_t size = 0;
    const struct mlib_write *own = mlib_txn_own(txn, key, key_size);
    if (own == NULL) {
        uint8_t copy[MSHM_MAX_KEY];
        if ((uintptr_t)key - (uintptr_t)buffer < capacity)
            key = memcpy(copy, key, key_size);
        status = snapshot_read(txn, txn->tree, key, key_size, buffer, capacity, &size, NULL);
    } else {
        status = mlib_txn_exists(txn, key, key_size);
        size = own->value_size;
        if (status == MACE_OK && size > capacity)
            status = MACE_BUFFER_TOO_SMALL;
        if (status == MACE_OK && size > 0)
            memcpy(buffer, mlib_write_value(own), size);
    }
    if ((status == MACE_OK || status == MACE_BUFFER_TOO_SMALL) && value_size != NULL)
        *value_size = size;
    return status;
}

/* One call of mace_get_many under way. */
struct many {
    struct mace_txn *txn;
    const mace_slice *keys;
    mace_slice *values; /* data holds offsets until the end: the buffer may move while it grows */
    int *statuses;
    size_t count, used, waiting;     /* waiting: keys that are not answered yet */
    mshm_pid pids[MSHM_MAX_PAGE_IN]; /* that they wait for */
    unsigned pid_count;
};
enum { MANY_WAITS = 1 }; /* a status that no call returns */

static void
many_missing(struct many *many, mshm_pid pid)
{
    for (unsigned i = many->pid_count; i > 0; i--)
        if (many->pids[i - 1] == pid)
            return;
    many->pids[many->pid_count++] = pid;
}

/* Reads what is in memory; `wait`: each key for itself, with its own error. */
static void
many_round(struct many *many, bool wait)
{
    many->waiting = 0;
    many->pid_count = 0;
    for (size_t i = 0; i < many->count; i++) {
        size_t value_size;
        mshm_pid pid;
        if (many->statuses[i] != MANY_WAITS)
            continue;
        if (many->pid_count == MSHM_MAX_PAGE_IN) {
            many->waiting++;
            continue;
        }
        int status = txn_get(many->txn, many->keys[i].data, many->keys[i].size, &many->txn->spare,
                             many->used, &value_size, wait ? NULL : &pid);
        if (status == MACE_BUSY && !wait) {
            many_missing(many, pid);
            many->waiting++;
            continue;
        }
        many->statuses[i] = status;
        if (status != MACE_OK)
            continue;
        many->values[i] = (mace_slice){.data = (const void *)many->used, .size = value_size};
        many->used += value_size;
    }
}

/* Keys may point into the slices of the call before, so the values are gathered in the other buffer. All pages that are not
 * in memory are asked for at once. */
int
mace_get_many(mace_txn *txn, mace_bucket *bucket, size_t count, const mace_slice *keys,
              mace_slice *values, int *statuses)
{
    int status = mlib_txn_enter(txn, bucket);
    if (status != MACE_OK)
        return status;
    if (count > 0 && (keys == NULL || values == NULL || statuses == NULL))
        return MACE_INVALID;
    struct many many = {
        .txn = txn, .keys = keys, .values = values, .statuses = statuses, .count = count};
    for (size_t i = 0; i < count; i++) {
        status = mlib_key_check(keys[i].data, keys[i].size);
        statuses[i] = status == MACE_OK ? MANY_WAITS : status;
    }
    many_round(&many, false);
    while (many.waiting > 0) {
        status = mlib_page_in(txn->attachment, many.pids, many.pid_count);
        many_round(&many, status != MACE_OK);
    }
    struct mlib_buffer filled = txn->spare;
    txn->spare = txn->value;
    txn->value = filled;
    for (size_t i = 0; i < count; i++)
        if (statuses[i] == MACE_OK)
            values[i].data = filled.data + (uintptr_t)values[i].data;
    return MACE_OK;
}

/* One try of the one-call get on one attachment: no snapshot, only the bracket of a lane. */
static int
get1_try(struct mlib_attachment *attachment, struct mshm_tree_ref tree, const void *key,
         size_t key_size, void *buffer, size_t capacity, uint64_t *size)
{
    unsigned lane;
    mshm_pid missing;
    int status;
    /* Every lane may be in use by an open transaction; a one-call get is short, so another one may end soon. */
    for (unsigned i = 0; (status = mlib_lane_take(attachment, NULL, &lane)) == MACE_LIMIT; i++) {
        if (i == 100)
            return status;
        mlib_time_pause_ms(1);
    }
    if (status != MACE_OK)
        return status;
    do {
        status = mshm_get(&attachment->view, &attachment->session->lanes[lane], NULL, tree, key,
                          key_size, 0, buffer, capacity, size, NULL, &missing);
    } while (status == MSHM_BUSY && (status = mlib_page_in(attachment, &missing, 1)) == MACE_OK);
    mlib_lane_give(attachment, lane);
    if (mlib_attachment_lost(attachment))
        return MACE_BROKER_LOST;
    return status;
}

int
mace_get1(mace *db, mace_bucket *bucket, const void *key, size_t key_size, void *buffer,
          size_t capacity, size_t *value_size)
{
    if (db == NULL || bucket == NULL)
        return MACE_INVALID;
    if (mlib_forked(db))
        return MACE_FORKED;
    if (bucket->mace != db || (buffer == NULL && capacity != 0))
        return MACE_INVALID;
    int status = mlib_key_check(key, key_size);
    if (status != MACE_OK)
        return status;
    uint8_t copy[MSHM_MAX_KEY];
    if ((uintptr_t)key - (uintptr_t)buffer < capacity)
        key = memcpy(copy, key, key_size);
    uint64_t size = 0;
    do {
        struct mlib_attachment *attachment;
        struct mshm_tree_ref tree;
        status = mlib_attachment_get(db, &attachment);
        if (status != MACE_OK)
            return status;
        status = mlib_bucket_find(bucket, attachment, UINT64_MAX, &tree, NULL);
        if (status == MACE_OK)
            status = get1_try(attachment, tree, key, key_size, buffer, capacity, &size);
        mlib_attachment_put(attachment);
    } while (status == MACE_BROKER_LOST);
    if ((status == MACE_OK || status == MACE_BUFFER_TOO_SMALL) && value_size != NULL)
        *value_size = size;
    return status;
}
