#include <stdlib.h>
#include <string.h>

#include "mshm/status.h"
#include "salvage.h"

struct span {
    uint8_t *bytes; /* low, high */
    uint32_t bucket;
    uint16_t low_size, high_size;
};

struct salvage_gaps {
    struct span *list;
    uint64_t count, capacity;
    bool sorted;
};

struct salvage_gaps *
salvage_gaps_create(void)
{
    return calloc(1, sizeof(struct salvage_gaps));
}

void
salvage_gaps_destroy(struct salvage_gaps *gaps)
{
    if (gaps == NULL)
        return;
    for (uint64_t i = 0; i < gaps->count; i++)
        free(gaps->list[i].bytes);
    free(gaps->list);
    free(gaps);
}

int
salvage_gaps_cover(struct salvage_gaps *gaps, uint32_t bucket, const struct check_range *range)
{
    if (gaps->count == gaps->capacity) {
        uint64_t capacity = gaps->capacity != 0 ? gaps->capacity * 2 : 1024;
        struct span *grown = realloc(gaps->list, capacity * sizeof *grown);
        if (grown == NULL)
            return MSHM_NO_MEMORY;
        gaps->list = grown;
        gaps->capacity = capacity;
    }
    size_t high = range->high_size == MSHM_FENCE_INFINITE ? 0 : range->high_size;
    uint8_t *bytes = malloc(range->low_size + high + 1);
    if (bytes == NULL)
        return MSHM_NO_MEMORY;
    if (range->low_size != 0)
        memcpy(bytes, range->low, range->low_size);
    if (high != 0)
        memcpy(bytes + range->low_size, range->high, high);
    gaps->list[gaps->count++] = (struct span){bytes, bucket, range->low_size, range->high_size};
    gaps->sorted = false;
    return MSHM_OK;
}

static int
span_order(const void *left, const void *right)
{
    const struct span *a = left, *b = right;
    if (a->bucket != b->bucket)
        return a->bucket < b->bucket ? -1 : 1;
    return mshm_key_compare(a->bytes, a->low_size, b->bytes, b->low_size);
}

/* Does `high` end above the key? */
static bool
ends_above(const struct span *span, const uint8_t *key, uint16_t size)
{
    return span->high_size == MSHM_FENCE_INFINITE ||
           mshm_key_compare(span->bytes + span->low_size, span->high_size, key, size) > 0;
}

/* The first span of a bucket. */
static uint64_t
gaps_first(struct salvage_gaps *gaps, uint32_t bucket)
{
    if (!gaps->sorted && gaps->count > 0)
        qsort(gaps->list, gaps->count, sizeof *gaps->list, span_order);
    gaps->sorted = true;
    uint64_t low = 0, high = gaps->count;
    while (low < high) {
        uint64_t middle = low + (high - low) / 2;
        if (gaps->list[middle].bucket < bucket)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

bool
salvage_gaps_known(struct salvage_gaps *gaps, uint32_t bucket)
{
    uint64_t first = gaps_first(gaps, bucket);
    return first < gaps->count && gaps->list[first].bucket == bucket;
}

void
salvage_gaps_each(struct salvage_gaps *gaps, uint32_t bucket,
                  void (*lost)(void *argument, const struct check_range *range), void *argument)
{
    /* What is covered so far ends at this key. */
    struct check_range gap = {.low = (const uint8_t *)"", .high_size = 0};
    bool everything = false;
    for (uint64_t i = gaps_first(gaps, bucket); i < gaps->count && !everything; i++) {
        const struct span *span = &gaps->list[i];
        if (span->bucket != bucket)
            break;
        if (mshm_key_compare(span->bytes, span->low_size, gap.low, gap.low_size) > 0) {
            gap.high = span->bytes;
            gap.high_size = span->low_size;
            lost(argument, &gap);
        }
        if (!ends_above(span, gap.low, gap.low_size))
            continue;
        everything = span->high_size == MSHM_FENCE_INFINITE;
        gap.low = span->bytes + span->low_size;
        gap.low_size = everything ? 0 : span->high_size;
    }
    gap.high_size = MSHM_FENCE_INFINITE;
    if (!everything)
        lost(argument, &gap);
}
