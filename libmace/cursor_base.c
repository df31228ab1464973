/* cursor_base.c - the snapshot's side of a cursor: a private copy of one leaf at a time, and the way from leaf to leaf.
 *
 * What a snapshot sees of a leaf never changes, so copies that were made at different times fit together, whatever was
 * split or merged between them. The way on is always by key: forward from the high fence, backward from the low one.
 */
#include <stdint.h>
#include <string.h>

#include "cursor.h"

enum {
    AHEAD_FIRST = 1, /* leaves asked for ahead after one was missed; twice as many each time */
    AHEAD_MAX = 128,
    WALK_MAX = 8, /* a longer walk counts as so long: the next one may be short */
};

/* How many leaves behind its first one the next walk is likely to come to. */
static unsigned
walk_usual(const struct mace_cursor *cursor)
{
    unsigned usual = (cursor->usual + MLIB_WALK_UNIT / 2) / MLIB_WALK_UNIT;
    return usual < WALK_MAX ? usual : WALK_MAX;
}

/* A walk has ended, another one begins. */
static void
walk_begin(struct mace_cursor *cursor)
{
    unsigned crossed = cursor->crossed < WALK_MAX ? cursor->crossed : WALK_MAX;
    cursor->usual += crossed * (MLIB_WALK_UNIT / 4) - (cursor->usual + 3) / 4;
    cursor->crossed = 0;
}

/* The leaf where a walk begins is not in memory. Those that the walks before came to behind theirs are asked for with it, so
 * that a short walk waits for the disk once. A failure of one of those is not this leaf's. */
static int
walk_page_in(struct mace_cursor *cursor, mshm_pid missing, bool forward, const uint8_t *key,
             size_t key_size)
{
    struct mace_txn *txn = cursor->txn;
    mshm_pid pids[1 + WALK_MAX] = {missing};
    unsigned count = 1, most = cursor->crossed == 0 ? walk_usual(cursor) : 0;
    if (most > 0 && key_size > 0)
        count += mshm_leaves_ahead(&txn->attachment->view, txn->lane, cursor->tree, key, key_size,
                                   forward, pids + 1, most, most, NULL);
    int status = mlib_page_in(txn->attachment, pids, count);
    if (status != MACE_OK && count > 1)
        status = mlib_page_in(txn->attachment, pids, 1);
    return status;
}

/* Copies the leaf for `key` and prepares a walk over it. `key` does not point into the cursor's copy. */
static int
leaf_load(struct mace_cursor *cursor, enum mshm_leaf_where where, const uint8_t *key,
          size_t key_size, mshm_pid hint)
{
    struct mace_txn *txn = cursor->txn;
    const struct mlib_range *range = &cursor->range;
    mshm_pid missing;
    int status;
    cursor->loaded = false;
    while ((status = mshm_leaf_copy(&txn->attachment->view, txn->lane, txn->expired, cursor->tree,
                                    txn->snapshot, where, key, key_size, hint, cursor->copy,
                                    &cursor->copy_size, &missing)) == MSHM_BUSY) {
        status = walk_page_in(cursor, missing, where == MSHM_LEAF_AT, key, key_size);
        if (status != MACE_OK)
            return status;
        cursor->window = cursor->window == 0 ? AHEAD_FIRST : cursor->window;
        cursor->covered = 0;
    }
    if (status == MSHM_OK)
        status = mshm_page_fences(cursor->copy, cursor->copy_size, &cursor->fences);
    if (status == MSHM_OK)
        status = mshm_leaf_iterator_init(&cursor->iterator, cursor->copy, cursor->copy_size);
    if (status != MSHM_OK)
        return status == MSHM_NOT_FOUND ? MACE_CORRUPT : status;
    const struct mshm_fences *fences = &cursor->fences;
    cursor->check_lower =
        range->lower_size > 0 &&
        mshm_key_compare(fences->low, fences->low_size, range->lower, range->lower_size) < 0;
    cursor->check_upper =
        range->has_upper &&
        (fences->high_size == MSHM_FENCE_INFINITE ||
         mshm_key_compare(fences->high, fences->high_size, range->upper, range->upper_size) > 0);
    cursor->loaded = true;
    return MACE_OK;
}

/* Where the right neighbour of the copied leaf is now: a guess, for fetching only, so no bracket is needed. */
static void
ahead_set(struct mace_cursor *cursor)
{
    const struct mshm_view *view = &cursor->txn->attachment->view;
    mshm_pid right = cursor->fences.right;
    if (right == 0 || right >= view->map_capacity)
        return;
    AO_t word = AO_load(&view->map[right]);
    unsigned class = mshm_map_class(word);
    if (mshm_map_state(word) != MSHM_MAP_RESIDENT || class >= MSHM_CLASSES ||
        mshm_map_frame(word) >= view->size)
        return;
    cursor->ahead = view->base + mshm_map_frame(word);
    cursor->ahead_end = cursor->ahead + mshm_class_size(class);
}

/* A walk that had to wait for a leaf is likely to miss the next ones, too: they are asked for while it goes on, so that the
 * disk has many reads to do at once. `fence`: where the next leaf begins (ends). */
static void
ahead_ask(struct mace_cursor *cursor, bool forward, const uint8_t *fence, size_t size)
{
    struct mace_txn *txn = cursor->txn;
    mshm_pid pids[AHEAD_MAX];
    if (cursor->window == 0 || cursor->crossed < 2 * walk_usual(cursor))
        return; /* nothing was missed, or the walk is not much longer than those before it */
    if (cursor->covered > cursor->window / 2) {
        cursor->covered--;
        return;
    }
    unsigned count = mshm_leaves_ahead(&txn->attachment->view, txn->lane, cursor->tree, fence, size,
                                       forward, pids, cursor->window, UINT32_MAX, &cursor->covered);
    if (count > 0)
        mlib_page_ahead(txn->attachment, pids, count);
    cursor->window = count == 0 ? 0 : cursor->window < AHEAD_MAX ? cursor->window * 2 : AHEAD_MAX;
}

/* The next leaf in the walk's direction. MACE_NOT_FOUND: there is none. */
static int
leaf_cross(struct mace_cursor *cursor, bool forward)
{
    uint8_t fence[MSHM_MAX_KEY];
    const struct mshm_fences *fences = &cursor->fences;
    size_t size = forward ? fences->high_size : fences->low_size;
    mshm_pid right = fences->right;
    if (forward ? size == MSHM_FENCE_INFINITE : size == 0)
        return MACE_NOT_FOUND;
    if (size > sizeof fence)
        return MACE_CORRUPT;
    memcpy(fence, forward ? fences->high : fences->low, size);
    ahead_ask(cursor, forward, fence, size);
    cursor->crossed++;
    int status = leaf_load(cursor, forward ? MSHM_LEAF_AT : MSHM_LEAF_BELOW, fence, size,
                           forward ? right : 0);
    if (status != MACE_OK)
        return status;
    if (forward)
        ahead_set(cursor);
    /* The usual neighbour begins (or ends) at this fence, and so does the walk over it; a leaf that has absorbed others
     * reaches over the fence. */
    bool meets = forward ? fences->low_size == size && memcmp(fences->low, fence, size) == 0
                         : fences->high_size == size && memcmp(fences->high, fence, size) == 0;
    return meets ? MACE_OK : mshm_leaf_iterator_seek(&cursor->iterator, fence, size);
}

/* What an entry is that the iterator came to: MACE_OK: visible; MACE_NOT_FOUND: pass over it. */
static int
entry_resolve(struct mace_cursor *cursor)
{
    struct mshm_version *version = &cursor->version;
    size_t size;
    switch (version->kind) {
    case MSHM_ENTRY_VALUE:
        return MACE_OK;
    case MSHM_ENTRY_TOMBSTONE:
        return MACE_NOT_FOUND;
    case 0:
        break; /* the version that the snapshot sees stands in history */
    default:
        return MACE_CORRUPT;
    }
    int status = mlib_snapshot_get(cursor->txn, cursor->tree, version->key, version->key_size,
                                   &cursor->history, 0, &size);
    if (status != MACE_OK)
        return status;
    version->kind = MSHM_ENTRY_VALUE;
    version->value = cursor->history.data;
    version->value_size = (uint32_t)size;
    return MACE_OK;
}

int
mlib_base_settle(struct mace_cursor *cursor, bool forward, int status)
{
    for (;;) {
        if (status == MSHM_OK) {
            status = entry_resolve(cursor);
            if (status != MACE_NOT_FOUND)
                return status;
        } else if (status == MSHM_NOT_FOUND) {
            status = leaf_cross(cursor, forward);
            if (status != MACE_OK)
                return status;
        } else {
            return status;
        }
        status = mlib_base_iterate(cursor, forward);
    }
}

/* The same for a key that the walk does not come to from the leaf before: the window of a long walk ends here, so that short
 * walks from many places do not ask for what only a long one needs. */
static int
leaf_jump(struct mace_cursor *cursor, enum mshm_leaf_where where, const uint8_t *key,
          size_t key_size)
{
    cursor->window = cursor->covered = 0;
    return leaf_load(cursor, where, key, key_size, 0);
}

/* Does the copy cover the key (or, below, the keys before it)? */
static bool
leaf_covers(const struct mace_cursor *cursor, const uint8_t *key, size_t key_size, int below)
{
    return cursor->loaded && mshm_fences_compare(&cursor->fences, key, key_size, below) == 0;
}

int
mlib_base_ceiling(struct mace_cursor *cursor, const uint8_t *key, size_t key_size)
{
    int status = MACE_OK;
    walk_begin(cursor);
    if (!leaf_covers(cursor, key, key_size, 0))
        status = leaf_jump(cursor, MSHM_LEAF_AT, key, key_size);
    if (status == MACE_OK)
        status = mshm_leaf_iterator_seek(&cursor->iterator, key, key_size);
    return status == MACE_OK ? mlib_base_move(cursor, true) : status;
}

int
mlib_base_below(struct mace_cursor *cursor, const uint8_t *key, size_t key_size)
{
    int status = MACE_OK;
    walk_begin(cursor);
    if (key == NULL) {
        if (!cursor->loaded || cursor->fences.high_size != MSHM_FENCE_INFINITE)
            status = leaf_jump(cursor, MSHM_LEAF_LAST, NULL, 0);
        else
            status = mshm_leaf_iterator_init(&cursor->iterator, cursor->copy, cursor->copy_size);
    } else {
        if (!leaf_covers(cursor, key, key_size, 1))
            status = leaf_jump(cursor, MSHM_LEAF_BELOW, key, key_size);
        if (status == MACE_OK)
            status = mshm_leaf_iterator_seek(&cursor->iterator, key, key_size);
    }
    return status == MACE_OK ? mlib_base_move(cursor, false) : status;
}
