/* spill_space.c - which units of the scratch file are in use. */
#include "mshm/status.h"
#include "spill_parts.h"

#include <stdlib.h>
#include <string.h>

enum { WORD_BITS = 64, FIRST_UNITS = 1024 };

/* The first unit from `from` on that is in use, or is not; `end` when there is none before it. */
static uint32_t
unit_next(const struct spill_space *space, uint32_t from, bool used)
{
    uint64_t flip = used ? 0 : UINT64_MAX;
    while (from < space->end) {
        uint64_t word = (space->bits[from / WORD_BITS] ^ flip) >> from % WORD_BITS;
        if (word != 0) {
            uint32_t found = from + (uint32_t)__builtin_ctzll(word);
            return found < space->end ? found : space->end;
        }
        from = (from / WORD_BITS + 1) * WORD_BITS;
    }
    return space->end;
}

uint32_t
space_find(const struct spill_space *space, uint32_t *at)
{
    uint32_t longest = 0;
    for (uint32_t begin = unit_next(space, 0, false);;) {
        uint32_t end = unit_next(space, begin, true);
        uint32_t units = (end == space->end ? space->limit : end) - begin;
        if (units > longest) {
            longest = units;
            *at = begin;
        }
        if (longest >= BATCH_UNITS || end == space->end)
            break;
        begin = unit_next(space, end, false);
    }
    return longest;
}

static int
space_grow(struct spill_space *space, uint32_t units)
{
    uint64_t capacity = space->capacity != 0 ? space->capacity : FIRST_UNITS;
    while (capacity < units)
        capacity *= 2;
    uint64_t *bits = realloc(space->bits, capacity / 8);
    if (bits == NULL)
        return MSHM_NO_MEMORY;
    memset((uint8_t *)bits + space->capacity / 8, 0, capacity / 8 - space->capacity / 8);
    space->bits = bits;
    space->capacity = (uint32_t)capacity;
    return MSHM_OK;
}

int
space_take(struct spill_space *space, uint32_t at, uint32_t units)
{
    if (at + units > space->capacity && space_grow(space, at + units) != MSHM_OK)
        return MSHM_NO_MEMORY;
    for (uint32_t i = at; i < at + units; i++)
        space->bits[i / WORD_BITS] |= UINT64_C(1) << i % WORD_BITS;
    if (space->end < at + units)
        space->end = at + units;
    space->used += units;
    return MSHM_OK;
}

void
space_give(struct spill_space *space, uint32_t at, uint32_t units)
{
    for (uint32_t i = at; i < at + units; i++)
        space->bits[i / WORD_BITS] &= ~(UINT64_C(1) << i % WORD_BITS);
    space->used -= units;
}

void
space_reset(struct spill_space *space)
{
    free(space->bits);
    *space = (struct spill_space){.limit = space->limit};
}
