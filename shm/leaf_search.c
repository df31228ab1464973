/* leaf_search.c - point search in a leaf or history frame.
 *
 * The order of a hit in the base: header line, fingerprints of the tail (the next line), one hash bucket, the entry. All
 * of them can be on their way together (mshm_leaf_prefetch): the entry, too, when it is small and stands in the window
 * that its hash chooses, as about nine in ten do. Cache misses are the whole cost of a get. A miss in a bucket that never
 * overflowed is an answer; a frame without buckets, or an overflowed one, is searched by key heads.
 */
#include "fingerprint.h"
#include "mshm/leaf.h"
#include "page_read.h"

/* What is searched, passed in registers: a struct whose address is taken would live in memory on the hot path. */
#define QUERY_PARAMETERS                                                            \
    const uint8_t *frame, uint32_t frame_size, const uint8_t *key, size_t key_size, \
        mshm_timestamp snapshot, struct mshm_version *version
#define QUERY frame, frame_size, key, key_size, snapshot, version

static inline void
version_describe(struct mshm_version *version, const struct entry_view *entry)
{
    version->key = NULL;
    version->value = entry->value;
    version->timestamp = entry->timestamp;
    version->value_size = entry->value_size;
    version->key_size = 0;
    version->kind = entry->kind;
    version->reserved = 0;
}

/* Looks at the tail entries of one word whose fingerprints match, newest first. Out of line: rarely needed, and the
 * scan over the words keeps its registers. */
static __attribute__((noinline)) int
tail_word_search(QUERY_PARAMETERS, uint32_t word, uint64_t matches)
{
    const struct mshm_leaf *leaf = (const struct mshm_leaf *)(const void *)frame;
    int found = MSHM_FOUND_NOTHING;
    while (matches != 0) {
        uint32_t bit = 63 - (uint32_t)__builtin_clzll(matches);
        uint32_t at = (uint32_t)AO_short_load(&leaf->tail_slots[word * 8 + bit / 8]) * 4;
        struct entry_view entry;
        if (entry_load(frame, frame_size, at, &entry) != 0)
            return MSHM_CORRUPT;
        if (entry.key_size == key_size && bytes_equal(entry.key, key, key_size)) {
            if (entry.timestamp <= snapshot) {
                version_describe(version, &entry);
                return MSHM_FOUND_VERSION;
            }
            found = MSHM_FOUND_NEWER;
        }
        matches ^= UINT64_C(1) << bit;
    }
    return found;
}

/* Newest to oldest: the first entry of this key that the snapshot may see wins, and what follows in the base is older.
 * Words of fingerprints beyond the count are not loaded; bytes beyond it in the last word are masked, because the
 * broker may be writing them. */
static inline int
tail_search(QUERY_PARAMETERS, AO_t tail_count, uint8_t fingerprint)
{
    const struct mshm_leaf *leaf = (const struct mshm_leaf *)(const void *)frame;
    if (tail_count > MSHM_TAIL_CAPACITY || frame_size < sizeof(struct mshm_leaf))
        return MSHM_CORRUPT;
    int found = MSHM_FOUND_NOTHING;
    uint64_t needle = FINGERPRINT_SPREAD * fingerprint;
    uint64_t counted = ~UINT64_C(0) >> (0 - tail_count * 8) % 64;
    for (uint32_t word = (uint32_t)(tail_count + 7) / 8; word-- > 0; counted = ~UINT64_C(0)) {
        uint64_t matches =
            fingerprint_word_matches(AO_load(&leaf->tail_fingerprints[word]), needle) & counted;
        if (__builtin_expect(matches != 0, 0)) {
            int result = tail_word_search(QUERY, word, matches);
            if (result == MSHM_FOUND_VERSION || result < 0)
                return result;
            found |= result;
        }
    }
    return found;
}

/* True when the key begins with the page's prefix. Up to 8 bytes of prefix stand in the header itself. */
static inline int
prefix_matches(const uint8_t *frame, uint32_t frame_size, const uint8_t *key, size_t key_size,
               const struct page_counts *counts)
{
    uint32_t size = counts->prefix_size;
    if (size == 0)
        return 1;
    if (key_size < size)
        return 0;
    uint64_t head = page_word(frame, offsetof(struct mshm_page, prefix_head));
    if (size <= 8)
        return (bytes_load_upto8(key, key_size) ^ head) << (64 - size * 8) == 0;
    return bytes_load8(key) == head && frame_holds(frame_size, counts->prefix_at, size) &&
           bytes_equal(frame + counts->prefix_at + 8, key + 8, size - 8);
}

/* Walks a base key's versions, newest first, from its first entry. */
static inline int
chain_search(const uint8_t *frame, uint32_t frame_size, mshm_timestamp snapshot,
             struct entry_view entry, struct mshm_version *version)
{
    while (entry.timestamp > snapshot) {
        if (!(entry.flags & MSHM_ENTRY_MORE))
            return MSHM_FOUND_NEWER;
        if (entry_load(frame, frame_size, entry.end, &entry) != 0)
            return MSHM_CORRUPT;
    }
    version_describe(version, &entry);
    return MSHM_FOUND_VERSION;
}

/* Binary search over the heads; full comparison only among equal heads. The key begins with the page's prefix. */
static __attribute__((noinline)) int
heads_search(QUERY_PARAMETERS)
{
    struct page_counts counts = page_counts_load(frame);
    struct page_arrays arrays = page_arrays_load(frame);
    if (!frame_holds(frame_size, arrays.heads_at, counts.key_count * 4) ||
        !frame_holds(frame_size, arrays.slots_at, counts.key_count * 2) ||
        key_size < counts.prefix_size)
        return MSHM_CORRUPT;
    const uint8_t *suffix = key + counts.prefix_size, *heads = frame + arrays.heads_at;
    size_t suffix_size = key_size - counts.prefix_size;
    uint32_t head = key_head(suffix, suffix_size);
    uint32_t low = heads_count(heads, counts.key_count, head, 0);
    uint32_t high = low + heads_count(heads + low * 4, counts.key_count - low, head, 1);
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        uint32_t at = page_u16(frame, arrays.slots_at + middle * 2) * 4;
        struct entry_view entry;
        if (entry_load(frame, frame_size, at, &entry) != 0)
            return MSHM_CORRUPT;
        int order = bytes_compare(entry.key, entry.key_size, suffix, suffix_size);
        if (order == 0)
            return chain_search(frame, frame_size, snapshot, entry, version);
        if (order < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return MSHM_FOUND_NOTHING;
}

static inline int
base_search(QUERY_PARAMETERS, uint64_t hash)
{
    struct page_counts counts = page_counts_load(frame);
    if (!prefix_matches(frame, frame_size, key, key_size, &counts))
        return MSHM_FOUND_NOTHING;
    if (counts.hash_count == 0)
        return heads_search(QUERY);
    uint64_t number = (hash >> 32) * counts.hash_count >> 32;
    uint32_t bucket_at = (uint32_t)(sizeof(struct mshm_leaf) + MSHM_LINE * number);
    if (!frame_holds(frame_size, bucket_at, MSHM_LINE))
        return MSHM_CORRUPT;
    const struct mshm_hash_bucket *bucket =
        (const struct mshm_hash_bucket *)(const void *)(frame + bucket_at);
    uint32_t filled = page_u32(frame, bucket_at); /* count, overflow */
    uint32_t places = filled & 0xff;
    if (places > MSHM_BUCKET_SLOTS)
        return MSHM_CORRUPT;
    const uint8_t *suffix = key + counts.prefix_size;
    size_t suffix_size = key_size - counts.prefix_size;
    uint32_t matches = fingerprint_bucket(bucket, (uint8_t)hash) & ((1u << places) - 1);
    for (; matches != 0; matches &= matches - 1) {
        uint32_t at = (uint32_t)AO_short_load(&bucket->slots[__builtin_ctz(matches)]) * 4;
        /* An entry of a short key and value often crosses into a second line: fetch both at once. */
        __builtin_prefetch(frame + at + 48);
        struct entry_view entry;
        if (entry_load(frame, frame_size, at, &entry) != 0)
            return MSHM_CORRUPT;
        if (entry.key_size == suffix_size && bytes_equal(entry.key, suffix, suffix_size))
            return chain_search(frame, frame_size, snapshot, entry, version);
    }
    return filled & 0xff00 ? heads_search(QUERY) : MSHM_FOUND_NOTHING;
}

int
mshm_leaf_get(const void *frame, uint32_t frame_size, const void *key, size_t key_size,
              uint64_t hash, mshm_timestamp snapshot, const AO_t *visible,
              struct mshm_version *version, mshm_timestamp *snapshot_used)
{
    const struct mshm_leaf *leaf = frame;
    if (frame_size < sizeof(struct mshm_page))
        return MSHM_CORRUPT;
    /* Pairs with the store-release in mshm_leaf_append. */
    AO_t tail_count = AO_load_acquire(&leaf->page.tail_count);
    if (visible != NULL)
        snapshot = AO_load_acquire(visible);
    if (snapshot_used != NULL)
        *snapshot_used = snapshot;
    int in_tail = MSHM_FOUND_NOTHING;
    if (tail_count != 0) {
        in_tail = tail_search(QUERY, tail_count, (uint8_t)hash);
        if (in_tail == MSHM_FOUND_VERSION || in_tail < 0)
            return in_tail;
    }
    int in_base = base_search(QUERY, hash);
    return in_base == MSHM_FOUND_NOTHING ? in_tail : in_base;
}

int
mshm_leaf_newest(const void *frame, uint32_t frame_size, const void *key, size_t key_size,
                 uint64_t hash, struct mshm_version *version)
{
    /* No timestamp is above this snapshot, so FOUND_NEWER cannot come back. */
    return mshm_leaf_get(frame, frame_size, key, key_size, hash, UINT64_MAX, NULL, version, NULL);
}
