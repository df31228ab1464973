/* cursor_merge.c - one move of a cursor: the nearer one of the snapshot's next entry and the transaction's next own write.
 *
 * An own write hides the snapshot's entry of the same key, and an own delete hides it for good: the search goes on behind
 * that key. Nothing of the cursor's place changes before the result is certain, so that a failed move leaves it there.
 */
#include <string.h>

#include "cursor.h"

/* The transaction's writes in this bucket, or NULL. */
static inline const struct mlib_write_tree *
own_tree(const struct mace_cursor *cursor)
{
    const struct mlib_writeset *writes = &cursor->txn->writes;
    return writes->count == 0 ? NULL : mlib_writeset_tree(writes, cursor->bucket.id);
}

/* The own write next to a write, or NULL. */
static const struct mlib_write *
own_neighbour(const struct mlib_write_tree *tree, const struct mlib_write *write, bool forward)
{
    uint8_t successor[MLIB_BOUND_MAX];
    if (!forward)
        return mlib_write_below(tree, write->bytes, write->key_size);
    return mlib_write_ceiling(tree, successor,
                              mlib_bound_write(successor, write->bytes, write->key_size, true));
}

/* Brings the snapshot's side to the entry next to the position, unless it is there already. */
static inline int
base_approach(struct mace_cursor *cursor, bool forward)
{
    enum mlib_base_where want = forward ? MLIB_BASE_AHEAD : MLIB_BASE_BEHIND;
    int status;
    if (cursor->where == want)
        return cursor->present ? MACE_OK : MACE_NOT_FOUND;
    if (cursor->where != MLIB_BASE_LOST)
        status = mlib_base_move(cursor, forward);
    else if (forward) {
        cursor->key[cursor->key_size] = 0;
        status = mlib_base_ceiling(cursor, cursor->key, cursor->key_size + 1);
    } else
        status = mlib_base_below(cursor, cursor->key, cursor->key_size);
    cursor->present = status == MACE_OK;
    cursor->where = status == MACE_OK || status == MACE_NOT_FOUND ? want : MLIB_BASE_LOST;
    return status;
}

/* Is a key within the bound that a walk in this direction can leave by? */
static inline bool
key_inside(const struct mace_cursor *cursor, bool forward, const uint8_t *key, size_t key_size)
{
    const struct mlib_range *range = &cursor->range;
    if (forward)
        return !range->has_upper ||
               mshm_key_compare(key, key_size, range->upper, range->upper_size) < 0;
    return range->lower_size == 0 ||
           mshm_key_compare(key, key_size, range->lower, range->lower_size) >= 0;
}

/* Short keys are copied without looking at their size; what they are copied from has slack behind it. */
static inline void
key_set(struct mace_cursor *cursor, const uint8_t *key, size_t key_size)
{
    if (key_size <= MLIB_KEY_SLACK)
        memcpy(cursor->key, key, MLIB_KEY_SLACK);
    else
        memcpy(cursor->key, key, key_size);
    cursor->key_size = key_size;
    cursor->state = MLIB_CURSOR_ON;
}

static inline int
base_emit(struct mace_cursor *cursor, mace_slice *key, mace_slice *value)
{
    const struct mshm_version *version = &cursor->version;
    key_set(cursor, version->key, version->key_size);
    cursor->where = MLIB_BASE_AT;
    if (key != NULL)
        *key = (mace_slice){.data = cursor->key, .size = version->key_size};
    if (value != NULL)
        *value = (mace_slice){.data = version->value, .size = version->value_size};
    return MACE_OK;
}

static int
own_emit(struct mace_cursor *cursor, const struct mlib_write *write, mace_slice *key,
         mace_slice *value)
{
    if (value != NULL) {
        int status = mlib_buffer_reserve(&cursor->value, 0, write->value_size);
        if (status != MACE_OK) {
            cursor->where = MLIB_BASE_LOST;
            return status;
        }
        if (write->value_size > 0)
            memcpy(cursor->value.data, mlib_write_value(write), write->value_size);
        *value = (mace_slice){.data = cursor->value.data, .size = write->value_size};
    }
    memcpy(cursor->key, write->bytes, write->key_size);
    cursor->key_size = write->key_size;
    cursor->state = MLIB_CURSOR_ON;
    if (key != NULL)
        *key = (mace_slice){.data = cursor->key, .size = write->key_size};
    return MACE_OK;
}

/* The merge itself: `own` is the first own write in the direction from the position, and `where` tells of the snapshot's
 * side. Leaves `where` lost when nothing is found. */
static int
merge(struct mace_cursor *cursor, bool forward, const struct mlib_write_tree *tree,
      const struct mlib_write *own, mace_slice *key, mace_slice *value)
{
    const struct mshm_version *version = &cursor->version;
    for (;;) {
        int status = base_approach(cursor, forward);
        if (status != MACE_OK && status != MACE_NOT_FOUND)
            return status;
        int order = own == NULL ? 1 : -1;
        if (status == MACE_OK && own != NULL) {
            order = mshm_key_compare(own->bytes, own->key_size, version->key, version->key_size);
            order = forward ? order : -order;
        }
        if (order > 0) {
            bool check = forward ? cursor->check_upper : cursor->check_lower;
            if (status == MACE_OK &&
                (!check || key_inside(cursor, forward, version->key, version->key_size)))
                return base_emit(cursor, key, value);
            break;
        }
        if (!key_inside(cursor, forward, own->bytes, own->key_size))
            break;
        if (order == 0)
            cursor->where = MLIB_BASE_AT;
        if (own->kind != MSHM_OP_DELETE)
            return own_emit(cursor, own, key, value);
        own = own_neighbour(tree, own, forward);
    }
    cursor->where = MLIB_BASE_LOST;
    return MACE_NOT_FOUND;
}

int
mlib_merge_step(struct mace_cursor *cursor, bool forward, mace_slice *key, mace_slice *value)
{
    const struct mlib_write_tree *tree = own_tree(cursor);
    const struct mlib_write *own = NULL;
    /* The usual case, a walk without own writes that stays inside the range: nothing to merge. */
    if (tree == NULL && cursor->where == MLIB_BASE_AT) {
        int status = mlib_base_move(cursor, forward);
        if (status == MACE_OK && !(forward ? cursor->check_upper : cursor->check_lower))
            return base_emit(cursor, key, value);
        cursor->present = status == MACE_OK;
        cursor->where = status != MACE_OK && status != MACE_NOT_FOUND ? MLIB_BASE_LOST
                        : forward                                     ? MLIB_BASE_AHEAD
                                                                      : MLIB_BASE_BEHIND;
        if (cursor->where == MLIB_BASE_LOST)
            return status;
    }
    if (tree != NULL && forward) {
        cursor->key[cursor->key_size] = 0;
        own = mlib_write_ceiling(tree, cursor->key, cursor->key_size + 1);
    } else if (tree != NULL) {
        own = mlib_write_below(tree, cursor->key, cursor->key_size);
    }
    return merge(cursor, forward, tree, own, key, value);
}

/* Notes where a search from outside has left the snapshot's side, and goes on from there. */
static int
merge_from(struct mace_cursor *cursor, bool forward, int status, const struct mlib_write_tree *tree,
           const struct mlib_write *own, mace_slice *key, mace_slice *value)
{
    cursor->where = MLIB_BASE_LOST;
    if (status != MACE_OK && status != MACE_NOT_FOUND)
        return status;
    cursor->present = status == MACE_OK;
    cursor->where = forward ? MLIB_BASE_AHEAD : MLIB_BASE_BEHIND;
    return merge(cursor, forward, tree, own, key, value);
}

int
mlib_merge_seek(struct mace_cursor *cursor, const uint8_t *target, size_t target_size,
                mace_slice *key, mace_slice *value)
{
    const struct mlib_write_tree *tree = own_tree(cursor);
    const struct mlib_write *own =
        tree == NULL ? NULL : mlib_write_ceiling(tree, target, target_size);
    int status = mlib_base_ceiling(cursor, target, target_size);
    return merge_from(cursor, true, status, tree, own, key, value);
}

int
mlib_merge_last(struct mace_cursor *cursor, mace_slice *key, mace_slice *value)
{
    const struct mlib_range *range = &cursor->range;
    const struct mlib_write_tree *tree = own_tree(cursor);
    const struct mlib_write *own = NULL;
    if (tree != NULL)
        own = range->has_upper ? mlib_write_below(tree, range->upper, range->upper_size)
                               : mlib_write_last(tree);
    int status = mlib_base_below(cursor, range->has_upper ? range->upper : NULL, range->upper_size);
    return merge_from(cursor, false, status, tree, own, key, value);
}
