/* cursor.c - cursors: opening, closing, and what each public move means. The work of a move is in cursor_merge.c. */
#include <stdlib.h>
#include <string.h>

#include "cursor.h"

static void
cursor_free(struct mace_cursor *cursor)
{
    if (cursor == NULL)
        return;
    free(cursor->value.data);
    free(cursor->history.data);
    free(cursor);
}

/* Makes a cursor as it is just after opening: unpositioned, nothing read. */
static void
cursor_reset(struct mace_cursor *cursor)
{
    cursor->tree.bucket = 0;
    cursor->state = MLIB_CURSOR_FRESH;
    cursor->where = MLIB_BASE_LOST;
    cursor->loaded = false;
    cursor->key_size = 0;
}

static int
cursor_create(struct mace_txn *txn, struct mace_cursor **out)
{
    void *memory;
    struct mace_cursor *cursor = txn->idle;
    if (cursor != NULL) {
        txn->idle = cursor->next;
        *out = cursor;
        return MACE_OK;
    }
    int status = mlib_section_enter(txn->mace);
    if (status != MACE_OK)
        return status;
    if (posix_memalign(&memory, MSHM_LINE, sizeof *cursor) != 0)
        status = MACE_NO_MEMORY;
    mlib_section_leave();
    if (status != MACE_OK)
        return status;
    /* The copy and the iterator are written before they are read; the rest begins as zeros. */
    memset(memory, 0, offsetof(struct mace_cursor, key));
    *out = memory;
    return MACE_OK;
}

/* Keeps the memory for the next cursor of this lane: of one of them, unless it may not be freed here. */
static void
cursor_retire(struct mace_txn *txn, struct mace_cursor *cursor)
{
    if (txn->idle == NULL || mlib_section_enter(txn->mace) != MACE_OK) {
        cursor->next = txn->idle;
        txn->idle = cursor;
    } else {
        cursor_free(cursor);
        mlib_section_leave();
    }
}

int
mace_cursor_open(mace_txn *txn, mace_bucket *bucket, const mace_range *range, mace_cursor **cursor)
{
    if (cursor == NULL)
        return MACE_INVALID;
    int status = mlib_txn_enter(txn, bucket);
    if (status != MACE_OK)
        return status;
    struct mace_cursor *made;
    status = cursor_create(txn, &made);
    if (status != MACE_OK)
        return status;
    status = mlib_range_set(&made->range, range);
    if (status != MACE_OK) {
        cursor_retire(txn, made);
        return status;
    }
    cursor_reset(made);
    made->txn = txn;
    made->bucket = (struct mace_bucket){
        .mace = txn->mace, .id = bucket->id, .resolved = AO_load(&bucket->resolved)};
    made->next = txn->cursors;
    txn->cursors = made;
    *cursor = made;
    return MACE_OK;
}

void
mace_cursor_close(mace_cursor *cursor)
{
    if (cursor == NULL)
        return;
    struct mace_txn *txn = cursor->txn;
    struct mace_cursor **link = &txn->cursors;
    while (*link != cursor && *link != NULL)
        link = &(*link)->next;
    if (*link == cursor)
        *link = cursor->next;
    cursor_retire(txn, cursor);
}

void
mlib_cursors_close(struct mace_txn *txn)
{
    while (txn->cursors != NULL) {
        struct mace_cursor *cursor = txn->cursors;
        txn->cursors = cursor->next;
        cursor_retire(txn, cursor);
    }
}

void
mlib_cursors_renew(struct mace_txn *txn)
{
    for (struct mace_cursor *cursor = txn->cursors; cursor != NULL; cursor = cursor->next)
        cursor_reset(cursor);
}

void
mlib_cursors_fini(struct mace_txn *txn)
{
    while (txn->idle != NULL) {
        struct mace_cursor *cursor = txn->idle;
        txn->idle = cursor->next;
        cursor_free(cursor);
    }
}

/* ----------------------------------------------------------------------------------------------------- moves */

/* What every move checks first; finds the bucket's tree when it is not known. */
static inline int
cursor_enter(struct mace_cursor *cursor)
{
    if (cursor == NULL)
        return MACE_INVALID;
    struct mace_txn *txn = cursor->txn;
    if (mlib_forked(txn->mace))
        return MACE_FORKED;
    if (mshm_snapshot_expired(txn->expired, txn->snapshot))
        return MACE_SNAPSHOT_EXPIRED;
    if (cursor->tree.bucket != 0)
        return MACE_OK;
    return mlib_bucket_find(&cursor->bucket, txn->attachment, txn->snapshot, &cursor->tree, NULL);
}

/* An empty range, or one that has become empty, has no ends to stand past: the cursor is as if fresh. */
static int
range_first(struct mace_cursor *cursor, mace_slice *key, mace_slice *value)
{
    int status = MACE_NOT_FOUND;
    if (!cursor->range.empty)
        status = mlib_merge_seek(cursor, cursor->range.lower, cursor->range.lower_size, key, value);
    if (status == MACE_NOT_FOUND)
        cursor->state = MLIB_CURSOR_FRESH;
    return status;
}

static int
range_last(struct mace_cursor *cursor, mace_slice *key, mace_slice *value)
{
    int status = MACE_NOT_FOUND;
    if (!cursor->range.empty)
        status = mlib_merge_last(cursor, key, value);
    if (status == MACE_NOT_FOUND)
        cursor->state = MLIB_CURSOR_FRESH;
    return status;
}

int
mace_cursor_first(mace_cursor *cursor, mace_slice *key, mace_slice *value)
{
    int status = cursor_enter(cursor);
    return status != MACE_OK ? status : range_first(cursor, key, value);
}

int
mace_cursor_last(mace_cursor *cursor, mace_slice *key, mace_slice *value)
{
    int status = cursor_enter(cursor);
    return status != MACE_OK ? status : range_last(cursor, key, value);
}

int
mace_cursor_next(mace_cursor *cursor, mace_slice *key, mace_slice *value)
{
    int status = cursor_enter(cursor);
    if (status != MACE_OK)
        return status;
    switch (cursor->state) {
    case MLIB_CURSOR_ON:
        status = mlib_merge_step(cursor, true, key, value);
        if (status == MACE_NOT_FOUND)
            cursor->state = MLIB_CURSOR_AFTER;
        return status;
    case MLIB_CURSOR_AFTER:
        return MACE_NOT_FOUND;
    default:
        return range_first(cursor, key, value);
    }
}

int
mace_cursor_prev(mace_cursor *cursor, mace_slice *key, mace_slice *value)
{
    int status = cursor_enter(cursor);
    if (status != MACE_OK)
        return status;
    switch (cursor->state) {
    case MLIB_CURSOR_ON:
        status = mlib_merge_step(cursor, false, key, value);
        if (status == MACE_NOT_FOUND)
            cursor->state = MLIB_CURSOR_BEFORE;
        return status;
    case MLIB_CURSOR_BEFORE:
        return MACE_NOT_FOUND;
    default:
        return range_last(cursor, key, value);
    }
}

int
mace_cursor_seek(mace_cursor *cursor, const void *key, size_t key_size, mace_slice *found_key,
                 mace_slice *found_value)
{
    int status = cursor_enter(cursor);
    if (status != MACE_OK)
        return status;
    if (key == NULL && key_size != 0)
        return MACE_INVALID;
    const struct mlib_range *range = &cursor->range;
    uint8_t target[MLIB_BOUND_MAX]; /* the key may be a slice of this cursor */
    size_t size = mlib_bound_write(target, key, key_size, false);
    if (mshm_key_compare(target, size, range->lower, range->lower_size) < 0) {
        size = range->lower_size;
        memcpy(target, range->lower, size);
    }
    status = range->empty ? MACE_NOT_FOUND
                          : mlib_merge_seek(cursor, target, size, found_key, found_value);
    if (status == MACE_NOT_FOUND)
        cursor->state = range->empty ? MLIB_CURSOR_FRESH : MLIB_CURSOR_AFTER;
    return status;
}
