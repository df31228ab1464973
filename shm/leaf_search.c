/* leaf_search.c - point search in a leaf or history frame.
 *
 * The order of a hit in the base: header line, fingerprints of the tail (the next line), one hash bucket, the entry. The
 * first three can be on their way together (mshm_leaf_prefetch); cache misses are the whole cost of a get. A miss in a
 * bucket that never overflowed is an answer; a frame without buckets, or an overflowed one, is searched by key heads.
 */
#include "fingerprint.h"
#include "mshm/leaf.h"
#include "page_read.h"

struct leaf_query {
    const uint8_t *frame;
    const uint8_t *key;
    size_t key_size;
    uint64_t hash;
    mshm_timestamp snapshot;
    uint32_t frame_size;
};

static inline void
version_describe(struct mshm_version *version, const struct entry_view *entry)
{
    version->key = NULL;
    version->key_size = 0;
    version->value = entry->value;
    version->value_size = entry->value_size;
    version->timestamp = entry->timestamp;
    version->kind = entry->kind;
    version->reserved = 0;
}

/* Looks at one tail entry whose fingerprint matches. */
static inline int
tail_match(const struct leaf_query *query, uint32_t place, struct mshm_version *version)
{
    const struct mshm_leaf *leaf = (const struct mshm_leaf *)(const void *)query->frame;
    uint32_t at = (uint32_t)AO_short_load(&leaf->tail_slots[place]) * 4;
    struct entry_view entry;
    if (entry_load(query->frame, query->frame_size, at, &entry) != 0)
        return MSHM_CORRUPT;
    if (entry.key_size != query->key_size || !bytes_equal(entry.key, query->key, query->key_size))
        return MSHM_FOUND_NOTHING;
    if (entry.timestamp > query->snapshot)
        return MSHM_FOUND_NEWER;
    version_describe(version, &entry);
    return MSHM_FOUND_VERSION;
}

/* Newest to oldest: the first entry of this key that the snapshot may see wins, and what follows in the base is older.
 * Words of fingerprints beyond the count are not loaded; bytes beyond it in the last word are masked, because the
 * broker may be writing them. */
static int
tail_search(const struct leaf_query *query, AO_t tail_count, struct mshm_version *version)
{
    const struct mshm_leaf *leaf = (const struct mshm_leaf *)(const void *)query->frame;
    if (tail_count > MSHM_TAIL_CAPACITY || query->frame_size < sizeof(struct mshm_leaf))
        return MSHM_CORRUPT;
    int found = MSHM_FOUND_NOTHING;
    uint64_t needle = FINGERPRINT_SPREAD * (uint8_t)query->hash;
    uint64_t counted = ~UINT64_C(0) >> (0 - tail_count * 8) % 64;
    for (uint32_t word = (uint32_t)(tail_count + 7) / 8; word-- > 0; counted = ~UINT64_C(0)) {
        uint64_t matches =
            fingerprint_word_matches(AO_load(&leaf->tail_fingerprints[word]), needle) & counted;
        while (matches != 0) {
            uint32_t bit = 63 - (uint32_t)__builtin_clzll(matches);
            int result = tail_match(query, word * 8 + bit / 8, version);
            if (result == MSHM_FOUND_VERSION || result < 0)
                return result;
            found |= result;
            matches ^= UINT64_C(1) << bit;
        }
    }
    return found;
}

/* True when the key begins with the page's prefix. Up to 8 bytes of prefix stand in the header itself. */
static inline int
prefix_matches(const struct leaf_query *query, const struct page_counts *counts)
{
    uint32_t size = counts->prefix_size;
    if (size == 0)
        return 1;
    if (query->key_size < size)
        return 0;
    uint64_t head = page_word(query->frame, offsetof(struct mshm_page, prefix_head));
    if (size <= 8)
        return bytes_load_upto8(query->key, query->key_size) << (64 - size * 8) ==
               head << (64 - size * 8);
    return bytes_load8(query->key) == head &&
           frame_holds(query->frame_size, counts->prefix_at, size) &&
           bytes_equal(query->frame + counts->prefix_at + 8, query->key + 8, size - 8);
}

/* Walks a base key's versions, newest first, from its first entry. */
static inline int
chain_search(const struct leaf_query *query, struct entry_view *entry, struct mshm_version *version)
{
    while (entry->timestamp > query->snapshot) {
        if (!(entry->flags & MSHM_ENTRY_MORE))
            return MSHM_FOUND_NEWER;
        if (entry_load(query->frame, query->frame_size, entry->end, entry) != 0)
            return MSHM_CORRUPT;
    }
    version_describe(version, entry);
    return MSHM_FOUND_VERSION;
}

/* Binary search over the heads; full comparison only among equal heads. */
static int
heads_search(const struct leaf_query *query, const struct page_counts *counts,
             struct mshm_version *version)
{
    struct page_arrays arrays = page_arrays_load(query->frame);
    if (!frame_holds(query->frame_size, arrays.heads_at, counts->key_count * 4) ||
        !frame_holds(query->frame_size, arrays.slots_at, counts->key_count * 2))
        return MSHM_CORRUPT;
    const uint8_t *suffix = query->key + counts->prefix_size;
    size_t suffix_size = query->key_size - counts->prefix_size;
    uint32_t head = key_head(suffix, suffix_size);
    const uint8_t *heads = query->frame + arrays.heads_at;
    uint32_t low = heads_count(heads, counts->key_count, head, 0);
    uint32_t high = counts->key_count;
    if (low == high || page_u32(heads, low * 4) != head)
        return MSHM_FOUND_NOTHING;
    high = low + heads_count(heads + low * 4, high - low, head, 1);
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        struct entry_view entry;
        if (entry_load(query->frame, query->frame_size,
                       page_u16(query->frame, arrays.slots_at + middle * 2) * 4, &entry) != 0)
            return MSHM_CORRUPT;
        int order = bytes_compare(entry.key, entry.key_size, suffix, suffix_size);
        if (order == 0)
            return chain_search(query, &entry, version);
        if (order < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return MSHM_FOUND_NOTHING;
}

static inline int
base_search(const struct leaf_query *query, const struct page_counts *counts,
            struct mshm_version *version)
{
    if (!prefix_matches(query, counts))
        return MSHM_FOUND_NOTHING;
    if (counts->hash_count == 0)
        return heads_search(query, counts, version);
    uint32_t bucket_at =
        (uint32_t)(sizeof(struct mshm_leaf) + sizeof(struct mshm_hash_bucket) *
                                                  ((query->hash >> 32) * counts->hash_count >> 32));
    if (!frame_holds(query->frame_size, bucket_at, sizeof(struct mshm_hash_bucket)))
        return MSHM_CORRUPT;
    const struct mshm_hash_bucket *bucket =
        (const struct mshm_hash_bucket *)(const void *)(query->frame + bucket_at);
    uint32_t filled = page_u32(query->frame, bucket_at); /* count, overflow */
    uint32_t places = filled & 0xff;
    if (places > MSHM_BUCKET_SLOTS)
        return MSHM_CORRUPT;
    const uint8_t *suffix = query->key + counts->prefix_size;
    size_t suffix_size = query->key_size - counts->prefix_size;
    uint32_t matches = fingerprint_bucket(bucket, (uint8_t)query->hash) & ((1u << places) - 1);
    for (; matches != 0; matches &= matches - 1) {
        uint32_t at = (uint32_t)AO_short_load(&bucket->slots[__builtin_ctz(matches)]) * 4;
        /* An entry of a short key and value often crosses into a second line: fetch both at once. */
        __builtin_prefetch(query->frame + at + 48);
        struct entry_view entry;
        if (entry_load(query->frame, query->frame_size, at, &entry) != 0)
            return MSHM_CORRUPT;
        if (entry.key_size == suffix_size && bytes_equal(entry.key, suffix, suffix_size))
            return chain_search(query, &entry, version);
    }
    return filled & 0xff00 ? heads_search(query, counts, version) : MSHM_FOUND_NOTHING;
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
    struct leaf_query query = {frame, key, key_size, hash, snapshot, frame_size};
    struct page_counts counts = page_counts_load(frame);
    int in_tail = MSHM_FOUND_NOTHING;
    if (tail_count != 0) {
        in_tail = tail_search(&query, tail_count, version);
        if (in_tail == MSHM_FOUND_VERSION || in_tail < 0)
            return in_tail;
    }
    int in_base = base_search(&query, &counts, version);
    return in_base == MSHM_FOUND_NOTHING ? in_tail : in_base;
}

int
mshm_leaf_newest(const void *frame, uint32_t frame_size, const void *key, size_t key_size,
                 uint64_t hash, struct mshm_version *version)
{
    /* No timestamp is above this snapshot, so FOUND_NEWER cannot come back. */
    return mshm_leaf_get(frame, frame_size, key, key_size, hash, UINT64_MAX, NULL, version, NULL);
}
