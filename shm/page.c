/* page.c - what leaves and inner pages have in common: fences, and taking a copy of a leaf that may grow meanwhile. */
#include "mshm/leaf.h"
#include "page_read.h"

int
mshm_page_fences(const void *frame, uint32_t frame_size, struct mshm_fences *fences)
{
    const uint8_t *bytes = frame;
    if (frame_size < sizeof(struct mshm_page))
        return MSHM_CORRUPT;
    uint64_t word = page_word(bytes, offsetof(struct mshm_page, low_at));
    uint32_t low_at = (uint32_t)(word & 0xffff) * 4, high_at = (uint32_t)(word >> 32 & 0xffff) * 4;
    uint16_t low_size = (uint16_t)(word >> 16), high_size = (uint16_t)(word >> 48);
    uint32_t high_bytes = high_size == MSHM_FENCE_INFINITE ? 0 : high_size;
    if (low_size > MSHM_MAX_KEY || high_bytes > MSHM_MAX_KEY ||
        !frame_holds(frame_size, low_at, low_size) || !frame_holds(frame_size, high_at, high_bytes))
        return MSHM_CORRUPT;
    fences->low = bytes + low_at;
    fences->low_size = low_size;
    fences->high = bytes + high_at;
    fences->high_size = high_size;
    fences->right = page_u32(bytes, offsetof(struct mshm_page, right));
    return MSHM_OK;
}

int
mshm_fences_compare(const struct mshm_fences *fences, const void *key, size_t key_size, int below)
{
    int from_low = bytes_compare(key, key_size, fences->low, fences->low_size);
    if (from_low < 0 || (below && from_low == 0))
        return -1;
    if (fences->high_size == MSHM_FENCE_INFINITE)
        return 0;
    int from_high = bytes_compare(key, key_size, fences->high, fences->high_size);
    return from_high > 0 || (!below && from_high == 0);
}

uint32_t
mshm_leaf_clone(const void *frame, uint32_t frame_size, void *copy)
{
    const uint8_t *from = frame;
    uint8_t *to = copy;
    if (frame_size < sizeof(struct mshm_leaf))
        return 0;
    const struct mshm_leaf *leaf = frame;
    /* Pairs with the store-release in mshm_leaf_append: entries, slots and fingerprints below it are complete. */
    AO_t tail_count = AO_load_acquire(&leaf->page.tail_count);
    if (tail_count > MSHM_TAIL_CAPACITY)
        return 0;
    /* The words that the broker may be storing are loaded one by one; bytes of uncounted entries do no harm. */
    AO_t front[sizeof(struct mshm_page) / 8];
    for (size_t i = 0; i < sizeof front / 8; i++)
        front[i] = page_word(from, i * 8);
    front[offsetof(struct mshm_page, tail_count) / 8] = tail_count;
    front[offsetof(struct mshm_page, history) / 8] = AO_load_acquire(&leaf->page.history);
    memcpy(to, front, sizeof front);
    struct mshm_leaf *leaf_copy = copy;
    struct page_arrays arrays = page_arrays_load(to);
    uint32_t end = arrays.base_end, base_from = sizeof(struct mshm_page);
    if (leaf_copy->page.kind == MSHM_PAGE_LEAF) {
        base_from = sizeof(struct mshm_leaf);
        for (size_t i = 0; i < 8; i++)
            leaf_copy->tail_fingerprints[i] = AO_load(&leaf->tail_fingerprints[i]);
        for (size_t i = 0; i < tail_count; i++)
            leaf_copy->tail_slots[i] = AO_short_load(&leaf->tail_slots[i]);
    } else if (tail_count != 0) {
        return 0;
    }
    if (tail_count != 0) {
        struct entry_view last;
        uint32_t at = (uint32_t)leaf_copy->tail_slots[tail_count - 1] * 4;
        if (entry_load(from, frame_size, at, &last) != 0)
            return 0;
        end = last.end;
    }
    if (end > frame_size || end < base_from)
        return 0;
    memcpy(to + base_from, from + base_from, end - base_from);
    return end;
}
