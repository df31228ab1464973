/* cursor.h - an ordered walk over a bucket inside a transaction.
 *
 * Two sides are merged by key on every move: the snapshot, read through a private copy of one leaf at a time, and the
 * transaction's own writes, as they are at that moment. The cursor keeps the key it stands on by value; where the
 * snapshot's side (the iterator in the copy) stands is told relative to that key:
 *
 *      BEHIND                   AT                    AHEAD
 *    -----B-------K-------    ----BK----    ------K-------B------     B: the snapshot's entry   K: the cursor's key
 *
 *  A move forward first makes it AHEAD: from AT and BEHIND by one step of the iterator, from AHEAD by nothing. Then the
 *  smaller one of B and the next own key is the new K: if it is B, the side is AT, else it stays AHEAD. Backward is the
 *  mirror image. After an error, a renewal or a move that found nothing it is LOST, and is found again by the key.
 */
#ifndef MLIB_CURSOR_H
#define MLIB_CURSOR_H

#include "txn.h"

/* Where the snapshot's side stands relative to the cursor's key. */
enum mlib_base_where {
    MLIB_BASE_LOST = 0, /* anywhere */
    MLIB_BASE_AT,       /* on that key */
    MLIB_BASE_AHEAD,    /* on the first entry behind it, or (not present) past the last one */
    MLIB_BASE_BEHIND,   /* on the last entry before it, or (not present) before the first one */
};
enum mlib_cursor_state {
    MLIB_CURSOR_FRESH = 0, /* next is first, prev is last */
    MLIB_CURSOR_ON,        /* on an entry */
    MLIB_CURSOR_BEFORE,    /* past the beginning: next comes back in */
    MLIB_CURSOR_AFTER,     /* past the end */
};
enum {
    MLIB_BOUND_MAX = MSHM_MAX_KEY + 1, /* bytes of a key's successor */
    MLIB_KEY_SLACK =
        32, /* bytes that may be copied behind a short key without looking at its size */
    MLIB_WALK_UNIT = 16,
};

/* A half-open range: every kind of bound is one of keys >= lower and keys < upper, because the successor of a key is the
 * key with a zero byte behind it. */
struct mlib_range {
    uint8_t lower[MLIB_BOUND_MAX], upper[MLIB_BOUND_MAX];
    size_t lower_size; /* 0: no bound */
    size_t upper_size;
    bool has_upper, empty;
};

struct mace_cursor {
    struct mace_txn *txn;
    struct mace_cursor *next;  /* of the transaction */
    struct mace_bucket bucket; /* a copy: the handle may be closed meanwhile */
    struct mshm_tree_ref tree; /* bucket 0: to be found (fresh, or after mace_renew) */
    enum mlib_cursor_state state;
    enum mlib_base_where where;
    bool present;                  /* AHEAD, BEHIND: there is such an entry */
    bool loaded;                   /* copy, fences and iterator are of one leaf */
    bool check_lower, check_upper; /* the leaf reaches beyond the range */
    uint32_t copy_size;
    const uint8_t *ahead,
        *ahead_end; /* what is left to fetch of the leaf that comes next; see mlib_base_move */
    unsigned
        window; /* leaves out of memory to ask for ahead of the walk; 0: none was missed lately */
    unsigned covered;            /* leaves ahead of the walk that were looked at already */
    unsigned crossed;            /* leaves that the walk came to since its jump */
    unsigned usual;              /* the same for the walks before: a mean, times MLIB_WALK_UNIT */
    struct mshm_fences fences;   /* of the copy */
    struct mshm_version version; /* the entry the iterator stands on */
    size_t key_size;
    struct mlib_buffer value;   /* of an own write */
    struct mlib_buffer history; /* of an entry whose version stands in history */
    uint8_t
        key[MLIB_BOUND_MAX +
            MLIB_KEY_SLACK]; /* the key the cursor stands on; one byte more makes its successor */
    struct mlib_range range;
    struct mshm_leaf_iterator iterator;
    _Alignas(MSHM_LINE) uint8_t copy[MSHM_MAX_FRAME + MLIB_KEY_SLACK];
};

/* cursor_range.c: MACE_OK or MACE_INVALID. range may be NULL: everything. */
int mlib_range_set(struct mlib_range *range, const mace_range *from);
/* Writes the first key that is >= `key` (`after`: > `key`) and that a bucket can hold, or its next smaller neighbour
 * among byte strings; room for MLIB_BOUND_MAX bytes. Returns its size. */
size_t mlib_bound_write(uint8_t *to, const void *key, size_t key_size, bool after);

/* cursor_base.c: the snapshot's side. Each leaves the iterator on a visible entry, described by cursor->version
 * (MACE_OK), or past the end it went to (MACE_NOT_FOUND); after any other status the side is lost. `where` is the
 * caller's business. First: to the next one in a direction. */
static inline int mlib_base_move(struct mace_cursor *cursor, bool forward);
/* To the first entry >= key. */
int mlib_base_ceiling(struct mace_cursor *cursor, const uint8_t *key, size_t key_size);
/* To the last entry < key; key NULL: to the last of all. */
int mlib_base_below(struct mace_cursor *cursor, const uint8_t *key, size_t key_size);
/* Goes on from what a step of the iterator returned (the version's kind included) to a visible entry. */
int mlib_base_settle(struct mace_cursor *cursor, bool forward, int status);

/* One step of the iterator inside the copied leaf. */
static inline int
mlib_base_iterate(struct mace_cursor *cursor, bool forward)
{
    mshm_timestamp snapshot = cursor->txn->snapshot;
    return forward ? mshm_leaf_iterator_next(&cursor->iterator, snapshot, &cursor->version)
                   : mshm_leaf_iterator_previous(&cursor->iterator, snapshot, &cursor->version);
}
/* Nearly every step ends on a value in the same leaf. A scan that has crossed to a right neighbour is likely to go on, so
 * each step fetches a piece of the next one: its copy would otherwise wait for every line of a leaf that is in no cache. */
static inline int
mlib_base_move(struct mace_cursor *cursor, bool forward)
{
    if (cursor->ahead < cursor->ahead_end) {
        __builtin_prefetch(cursor->ahead);
        __builtin_prefetch(cursor->ahead + MSHM_LINE);
        cursor->ahead += 2 * MSHM_LINE;
    }
    int status = mlib_base_iterate(cursor, forward);
    if (status == MSHM_OK && cursor->version.kind == MSHM_ENTRY_VALUE)
        return MACE_OK;
    return mlib_base_settle(cursor, forward, status);
}

/* cursor_merge.c: to the neighbour of the current key; to the first entry >= key; to the last entry of the range. On
 * MACE_OK the cursor stands on the entry; else key and state are as before. */
int mlib_merge_step(struct mace_cursor *cursor, bool forward, mace_slice *key, mace_slice *value);
int mlib_merge_seek(struct mace_cursor *cursor, const uint8_t *target, size_t target_size,
                    mace_slice *key, mace_slice *value);
int mlib_merge_last(struct mace_cursor *cursor, mace_slice *key, mace_slice *value);

#endif
