/* cursor_range.c - what a range means: every kind of bound as a half-open range of byte strings. */
#include <string.h>

#include "cursor.h"

void
mace_range_prefix(mace_range *range, const void *prefix, size_t size)
{
    if (range == NULL)
        return;
    *range = (mace_range){.lower = {.data = prefix, .size = size}, .flags = MACE_RANGE_PREFIX};
}

/* No stored key is longer than MSHM_MAX_KEY, so a longer bound falls between its first MSHM_MAX_KEY bytes, as a key, and
 * their successor, whichever way it is meant. */
size_t
mlib_bound_write(uint8_t *to, const void *key, size_t key_size, bool after)
{
    size_t size = key_size < MSHM_MAX_KEY ? key_size : MSHM_MAX_KEY;
    if (size > 0)
        memcpy(to, key, size);
    if (after || key_size > MSHM_MAX_KEY)
        to[size++] = 0;
    return size;
}

/* The end of the keys that begin with the lower bound: its last byte that is not 0xff, plus one; none: no end. */
static void
prefix_end(struct mlib_range *range)
{
    size_t size = range->lower_size;
    while (size > 0 && range->lower[size - 1] == 0xff)
        size--;
    range->has_upper = size > 0;
    if (size == 0)
        return;
    memcpy(range->upper, range->lower, size);
    range->upper[size - 1]++;
    range->upper_size = size;
}

static int
range_check(const mace_range *from)
{
    const unsigned known = MACE_LOWER_OPEN | MACE_UPPER_CLOSED | MACE_RANGE_PREFIX;
    if ((from->flags & ~known) != 0 || (from->lower.data == NULL && from->lower.size != 0) ||
        (from->upper.data == NULL && from->upper.size != 0))
        return MACE_INVALID;
    if ((from->flags & MACE_RANGE_PREFIX) != 0 &&
        (from->flags != MACE_RANGE_PREFIX || from->upper.size != 0))
        return MACE_INVALID;
    return MACE_OK;
}

int
mlib_range_set(struct mlib_range *range, const mace_range *from)
{
    range->lower_size = range->upper_size = 0;
    range->has_upper = range->empty = false;
    if (from == NULL)
        return MACE_OK;
    int status = range_check(from);
    if (status != MACE_OK)
        return status;
    if (from->lower.size > 0)
        range->lower_size = mlib_bound_write(range->lower, from->lower.data, from->lower.size,
                                             (from->flags & MACE_LOWER_OPEN) != 0);
    if ((from->flags & MACE_RANGE_PREFIX) != 0) {
        range->empty = from->lower.size > MSHM_MAX_KEY;
        prefix_end(range);
    } else if (from->upper.size > 0) {
        range->has_upper = true;
        range->upper_size = mlib_bound_write(range->upper, from->upper.data, from->upper.size,
                                             (from->flags & MACE_UPPER_CLOSED) != 0);
    }
    if (range->has_upper &&
        mshm_key_compare(range->lower, range->lower_size, range->upper, range->upper_size) >= 0)
        range->empty = true;
    return MACE_OK;
}
