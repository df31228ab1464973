/* page_read.h - checked access to a page's frame, for the searches of this room only.
 *
 * A frame may change under its reader (a tail grows; after revocation everything may change), so every count, offset and
 * length is loaded exactly once, by an AO load, into a local; the check and the use see the same value. A plain load
 * would not do: compilers load a plain shared length again after its check. Key and value bytes are read plainly: any
 * value of theirs is harmless.
 */
#ifndef MSHM_PAGE_READ_H
#define MSHM_PAGE_READ_H

#include "mshm/page.h"
#include "mshm/status.h"

#include <string.h>

#if defined(__SSE2__)
#include <emmintrin.h>
#endif

/* Word `at` / 8 of a page's header, loaded once. */
static inline uint64_t
page_word(const uint8_t *frame, size_t at)
{
    return AO_load((const AO_t *)(const void *)(frame + at));
}

static inline uint32_t
page_u32(const uint8_t *frame, uint32_t at)
{
    return AO_int_load((const unsigned int *)(const void *)(frame + at));
}

static inline uint32_t
page_u16(const uint8_t *frame, uint32_t at)
{
    return AO_short_load((const unsigned short *)(const void *)(frame + at));
}

/* True when [at, at + size) lies in the frame. Offsets are below 2^18 and sizes below 2^20: no sum overflows. */
static inline int
frame_holds(uint32_t frame_size, uint32_t at, uint32_t size)
{
    return at + size <= frame_size;
}

/* The counts word of a header: key_count, hash_count and where the prefix stands, in bytes. */
struct page_counts {
    uint32_t key_count, hash_count, prefix_at, prefix_size;
};
static inline struct page_counts
page_counts_load(const uint8_t *frame)
{
    uint64_t word = page_word(frame, offsetof(struct mshm_page, key_count));
    struct page_counts counts = {
        .key_count = (uint32_t)word & 0xffff,
        .hash_count = (uint32_t)(word >> 16) & 0xffff,
        .prefix_at = (uint32_t)(word >> 32 & 0xffff) * 4,
        .prefix_size = (uint32_t)(word >> 48),
    };
    return counts;
}

/* The word of the arrays' places, in bytes. */
struct page_arrays {
    uint32_t heads_at, slots_at, base_end, children_at;
};
static inline struct page_arrays
page_arrays_load(const uint8_t *frame)
{
    uint64_t word = page_word(frame, offsetof(struct mshm_page, heads_at));
    struct page_arrays arrays = {
        .heads_at = (uint32_t)(word & 0xffff) * 4,
        .slots_at = (uint32_t)(word >> 16 & 0xffff) * 4,
        .base_end = (uint32_t)(word >> 32 & 0xffff) * 4,
        .children_at = (uint32_t)(word >> 48) * 4,
    };
    return arrays;
}

/* One entry, its lengths checked against the frame. `end` is where an older version of the same key would follow. */
struct entry_view {
    const uint8_t *key, *value;
    mshm_timestamp timestamp;
    uint32_t key_size, value_size;
    uint32_t end;
    uint8_t kind, flags;
};
static inline int
entry_load(const uint8_t *frame, uint32_t frame_size, uint32_t at, struct entry_view *entry)
{
    if (!frame_holds(frame_size, at, sizeof(struct mshm_entry)))
        return MSHM_CORRUPT;
    uint32_t sizes = page_u32(frame, at + offsetof(struct mshm_entry, key_size));
    uint32_t kinds = page_u32(frame, at + offsetof(struct mshm_entry, kind));
    uint32_t low = page_u32(frame, at + offsetof(struct mshm_entry, timestamp_low));
    uint32_t high = page_u32(frame, at + offsetof(struct mshm_entry, timestamp_high));
    entry->key_size = sizes & 0xffff;
    entry->value_size = sizes >> 16;
    entry->kind = (uint8_t)kinds;
    entry->flags = (uint8_t)(kinds >> 8);
    entry->timestamp = (mshm_timestamp)high << 32 | low;
    entry->end = at + mshm_entry_size(entry->key_size, entry->value_size);
    entry->key = frame + at + sizeof(struct mshm_entry);
    entry->value = entry->key + entry->key_size;
    if (!frame_holds(frame_size, at + (uint32_t)sizeof(struct mshm_entry),
                     entry->key_size + entry->value_size) ||
        (unsigned)entry->kind - MSHM_ENTRY_VALUE > MSHM_ENTRY_MERGE - MSHM_ENTRY_VALUE)
        return MSHM_CORRUPT;
    return MSHM_OK;
}

static inline uint64_t
bytes_load8(const uint8_t *bytes)
{
    uint64_t word;
    memcpy(&word, bytes, sizeof word);
    return word;
}
static inline uint32_t
bytes_load4(const uint8_t *bytes)
{
    uint32_t word;
    memcpy(&word, bytes, sizeof word);
    return word;
}

/* The first `size` <= 8 bytes as a little-endian number padded with zeros; reads nothing beyond them. */
static inline uint64_t
bytes_load_upto8(const uint8_t *bytes, size_t size)
{
    if (size >= 8)
        return bytes_load8(bytes);
    if (size >= 4)
        return bytes_load4(bytes) | (uint64_t)bytes_load4(bytes + size - 4) << 8 * (size - 4);
    if (size == 0)
        return 0;
    return (uint64_t)bytes[0] | (uint64_t)bytes[size / 2] << 8 * (size / 2) |
           (uint64_t)bytes[size - 1] << 8 * (size - 1);
}

/* Equality of two strings of one length. Short keys are the rule: no call for them. */
static inline __attribute__((always_inline)) int
bytes_equal(const uint8_t *a, const uint8_t *b, size_t size)
{
    if (size > 32)
        return memcmp(a, b, size) == 0;
    if (size >= 16)
        return ((bytes_load8(a) ^ bytes_load8(b)) | (bytes_load8(a + 8) ^ bytes_load8(b + 8)) |
                (bytes_load8(a + size - 16) ^ bytes_load8(b + size - 16)) |
                (bytes_load8(a + size - 8) ^ bytes_load8(b + size - 8))) == 0;
    if (size >= 8)
        return ((bytes_load8(a) ^ bytes_load8(b)) |
                (bytes_load8(a + size - 8) ^ bytes_load8(b + size - 8))) == 0;
    return bytes_load_upto8(a, size) == bytes_load_upto8(b, size);
}

/* Copies without a call when the string is short, as keys and small values are. */
static inline void
bytes_copy(uint8_t *to, const uint8_t *from, size_t size)
{
    if (size > 64) {
        memcpy(to, from, size);
    } else if (size >= 16) {
        size_t at = 0;
        for (; at + 16 <= size; at += 16)
            memcpy(to + at, from + at, 16);
        memcpy(to + size - 16, from + size - 16, 16);
    } else if (size >= 8) {
        memcpy(to, from, 8);
        memcpy(to + size - 8, from + size - 8, 8);
    } else if (size >= 4) {
        memcpy(to, from, 4);
        memcpy(to + size - 4, from + size - 4, 4);
    } else {
        for (size_t at = 0; at < size; at++)
            to[at] = from[at];
    }
}

/* memcmp order; see mshm_key_compare. */
static inline int
bytes_compare(const uint8_t *a, size_t a_size, const uint8_t *b, size_t b_size)
{
    size_t common = a_size < b_size ? a_size : b_size;
    if (common >= 8) {
        uint64_t a_head = __builtin_bswap64(bytes_load8(a));
        uint64_t b_head = __builtin_bswap64(bytes_load8(b));
        if (a_head != b_head)
            return a_head < b_head ? -1 : 1;
    }
    int order = common != 0 ? memcmp(a, b, common) : 0;
    return order != 0 ? order : (a_size > b_size) - (a_size < b_size);
}

/* Length of the common prefix of two strings. */
static inline uint32_t
bytes_common(const uint8_t *a, size_t a_size, const uint8_t *b, size_t b_size)
{
    size_t limit = a_size < b_size ? a_size : b_size;
    size_t common = 0;
    while (common < limit && a[common] == b[common])
        common++;
    return (uint32_t)common;
}

/* The big-endian number of the first 4 (8) bytes, padded with zeros: unequal heads order their keys. */
static inline uint64_t
key_head8(const uint8_t *key, size_t size)
{
    return __builtin_bswap64(bytes_load_upto8(key, size));
}
static inline uint32_t
key_head(const uint8_t *key, size_t size)
{
    return (uint32_t)(key_head8(key, size) >> 32);
}

#if defined(__SSE2__)
/* Of four heads: all bits of each that is < `wanted` (or_equal = 0) or > `wanted` (or_equal = 1). SSE2 compares signed
 * numbers only, hence the flipped top bits. */
static inline __m128i
heads_compare4(const uint8_t *heads, __m128i wanted, int or_equal)
{
    __m128i part = _mm_loadu_si128((const __m128i *)(const void *)heads);
    part = _mm_xor_si128(part, _mm_set1_epi32(INT32_MIN));
    return or_equal ? _mm_cmpgt_epi32(part, wanted) : _mm_cmplt_epi32(part, wanted);
}

/* Of 16 ascending heads: how many are < `head` (or_equal = 0) or <= `head` (or_equal = 1). What compares true is a run
 * at one end; where it ends is the count. */
static inline uint32_t
heads_count16(const uint8_t *heads, uint32_t head, int or_equal)
{
    __m128i wanted = _mm_set1_epi32((int)(head ^ 0x80000000u));
    __m128i low = _mm_packs_epi32(heads_compare4(heads, wanted, or_equal),
                                  heads_compare4(heads + 16, wanted, or_equal));
    __m128i high = _mm_packs_epi32(heads_compare4(heads + 32, wanted, or_equal),
                                   heads_compare4(heads + 48, wanted, or_equal));
    uint32_t mask = (uint32_t)_mm_movemask_epi8(_mm_packs_epi16(low, high));
    return (uint32_t)__builtin_ctz((or_equal ? mask : ~mask) | 0x10000);
}
#endif

/* Of `count` ascending heads: how many are < `head` (or_equal = 0) or <= `head` (or_equal = 1). One load and no branch
 * that depends on it per step, since such a branch goes wrong every second time; the last 16 are compared at once. */
static inline uint32_t
heads_count(const uint8_t *heads, uint32_t count, uint32_t head, int or_equal)
{
    uint64_t bound = (uint64_t)head + (or_equal != 0);
    uint32_t low = 0, left = count;
#if defined(__SSE2__)
    const uint32_t few = count >= 16 ? 16 : 1;
#else
    const uint32_t few = 1;
#endif
    while (left > few) {
        uint32_t half = left / 2;
        uint64_t before = (page_u32(heads, (low + half - 1) * 4) - bound) >> 32;
        __asm__("" : "+r"(before)); /* else compilers see a comparison and branch on it */
        low += half & (uint32_t)before;
        left -= half;
    }
#if defined(__SSE2__)
    if (few == 16) {
        /* A window of 16 that includes what is left: heads before `low` are known to count. */
        uint32_t start = low < count - 16 ? low : count - 16;
        return start + heads_count16(heads + start * 4, head, or_equal);
    }
#endif
    return low + (left == 1 && page_u32(heads, low * 4) < bound);
}

#endif
