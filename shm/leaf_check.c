/* leaf_check.c - everything that must hold in a leaf or history frame, for tests and mace-check. */
#include "mshm/leaf.h"
#include "page_read.h"

/* What is known of the frame while it is being checked. */
struct leaf_checker {
    const uint8_t *frame;
    uint32_t frame_size;
    int is_leaf;
    AO_t tail_count;
    struct page_counts counts;
    struct page_arrays arrays;
    struct mshm_fences fences;
    uint64_t used[MSHM_MAX_FRAME / 4 / 64]; /* units of 4 bytes that base entries occupy */
    uint32_t used_size, entries_at;         /* bytes */
    uint8_t key[MSHM_MAX_KEY],
        previous[MSHM_MAX_KEY]; /* whole keys of two neighbours of the base */
    uint32_t key_size, previous_size;
};

static const char *
check_header(struct leaf_checker *checker)
{
    const struct mshm_page *page = (const struct mshm_page *)(const void *)checker->frame;
    if (page->magic != MSHM_PAGE_MAGIC)
        return "the frame does not begin with a page's magic";
    if (page->kind != MSHM_PAGE_LEAF && page->kind != MSHM_PAGE_HISTORY)
        return "the page is neither leaf nor history";
    if (page->level != 0)
        return "a leaf's level is not 0";
    checker->is_leaf = page->kind == MSHM_PAGE_LEAF;
    checker->tail_count = AO_load_acquire(&page->tail_count);
    checker->counts = page_counts_load(checker->frame);
    checker->arrays = page_arrays_load(checker->frame);
    if (checker->tail_count > MSHM_TAIL_CAPACITY)
        return "the tail's count is above its capacity";
    if (!checker->is_leaf && (checker->tail_count != 0 || checker->counts.hash_count != 0))
        return "a history page has a tail or hash buckets";
    if (checker->is_leaf && checker->counts.hash_count == 0)
        return "a leaf has no hash bucket";
    return NULL;
}

/* The parts of a page follow each other as in the drawing of mshm/page.h. */
static const char *
check_places(struct leaf_checker *checker)
{
    const struct page_counts *counts = &checker->counts;
    const struct page_arrays *arrays = &checker->arrays;
    uint32_t front =
        (uint32_t)(checker->is_leaf ? sizeof(struct mshm_leaf) : sizeof(struct mshm_page));
    if (arrays->heads_at != front + counts->hash_count * sizeof(struct mshm_hash_bucket) ||
        arrays->slots_at != arrays->heads_at + counts->key_count * 4 ||
        counts->prefix_at != mshm_align_up(arrays->slots_at + counts->key_count * 2, 4))
        return "heads, slots or prefix do not stand where they belong";
    if (arrays->base_end > checker->frame_size ||
        !frame_holds(arrays->base_end, counts->prefix_at, counts->prefix_size) ||
        counts->prefix_size > MSHM_MAX_KEY)
        return "the base does not fit into the frame";
    uint64_t head = page_word(checker->frame, offsetof(struct mshm_page, prefix_head));
    if (head != bytes_load_upto8(checker->frame + counts->prefix_at, counts->prefix_size))
        return "the prefix's head is not that of the prefix";
    if (mshm_page_fences(checker->frame, arrays->base_end, &checker->fences) != 0)
        return "a fence does not fit into the base";
    if (checker->fences.high_size != MSHM_FENCE_INFINITE &&
        bytes_compare(checker->fences.low, checker->fences.low_size, checker->fences.high,
                      checker->fences.high_size) >= 0)
        return "the low fence is not below the high fence";
    return NULL;
}

/* An entry whose key lies between the fences and is not too long. */
static const char *
check_key(const struct leaf_checker *checker, const uint8_t *key, uint32_t key_size)
{
    if (key_size == 0 || key_size > MSHM_MAX_KEY)
        return "a key's size is out of range";
    if (mshm_fences_compare(&checker->fences, key, key_size, 0) != 0)
        return "a key lies outside the fences";
    return NULL;
}

/* The versions of one base key: older ones follow without a key, timestamps descend. Writes where they end. */
static const char *
check_chain(const struct leaf_checker *checker, struct entry_view entry, uint32_t *end)
{
    while (entry.flags & MSHM_ENTRY_MORE) {
        struct entry_view older;
        if (entry_load(checker->frame, checker->arrays.base_end, entry.end, &older) != 0)
            return "an older version does not fit into the base";
        if (older.key_size != 0)
            return "an older version carries a key";
        if (older.timestamp > entry.timestamp ||
            (older.timestamp == entry.timestamp && older.kind != MSHM_ENTRY_MERGE))
            return "the versions of a key are not newest first";
        entry = older;
    }
    *end = entry.end;
    return NULL;
}

/* The bucket of a base key leads to it, or says that it has lost keys. Counts the places that lead to keys. */
static const char *
check_hash(const struct leaf_checker *checker, uint16_t slot, uint32_t *places)
{
    uint64_t hash = mshm_key_hash(checker->key, checker->key_size);
    const struct mshm_hash_bucket *bucket =
        (const struct mshm_hash_bucket *)(const void *)(checker->frame + sizeof(struct mshm_leaf)) +
        ((hash >> 32) * checker->counts.hash_count >> 32);
    uint32_t count = bucket->count;
    if (count > MSHM_BUCKET_SLOTS)
        return "a hash bucket's count is above its capacity";
    for (uint32_t i = 0; i < count; i++) {
        if (bucket->slots[i] != slot)
            continue;
        ++*places;
        return bucket->fingerprints[i] == (uint8_t)hash ? NULL : "a key's fingerprint is wrong";
    }
    return bucket->overflow ? NULL : "a key is missing from its hash bucket";
}

/* The entries from `at` to `end` stand behind the fences and on nothing else. */
static const char *
check_used(struct leaf_checker *checker, uint32_t at, uint32_t end)
{
    checker->used_size += end - at;
    for (uint32_t unit = at / 4; unit < end / 4; unit++) {
        uint64_t *word = &checker->used[unit / 64], bit = UINT64_C(1) << unit % 64;
        if (at < checker->entries_at || *word & bit)
            return "an entry overlaps another one or the fences";
        *word |= bit;
    }
    return NULL;
}

static const char *
check_base_key(struct leaf_checker *checker, uint32_t index, uint32_t *places)
{
    uint32_t prefix_size = checker->counts.prefix_size;
    uint16_t slot = (uint16_t)page_u16(checker->frame, checker->arrays.slots_at + index * 2);
    struct entry_view entry;
    uint32_t at = (uint32_t)slot * 4, end = at;
    if (entry_load(checker->frame, checker->arrays.base_end, at, &entry) != 0)
        return "an entry does not fit into the base";
    if (entry.key_size > MSHM_MAX_KEY - prefix_size)
        return "a key's size is out of range";
    memcpy(checker->previous, checker->key, checker->key_size);
    checker->previous_size = checker->key_size;
    memcpy(checker->key, checker->frame + checker->counts.prefix_at, prefix_size);
    memcpy(checker->key + prefix_size, entry.key, entry.key_size);
    checker->key_size = prefix_size + entry.key_size;
    if (index > 0 && bytes_compare(checker->previous, checker->previous_size, checker->key,
                                   checker->key_size) >= 0)
        return "the keys of the base are not ascending";
    if (page_u32(checker->frame, checker->arrays.heads_at + index * 4) !=
        key_head(entry.key, entry.key_size))
        return "a head is not that of its key";
    const char *why = check_key(checker, checker->key, checker->key_size);
    if (why == NULL && checker->is_leaf)
        why = check_hash(checker, slot, places);
    if (why == NULL)
        why = check_chain(checker, entry, &end);
    if (why == NULL)
        why = check_used(checker, at, end);
    return why;
}

static const char *
check_base(struct leaf_checker *checker)
{
    uint32_t high_bytes =
        checker->fences.high_size == MSHM_FENCE_INFINITE ? 0 : checker->fences.high_size;
    uint32_t high_at = page_u16(checker->frame, offsetof(struct mshm_page, high_at)) * 4;
    checker->entries_at = (uint32_t)mshm_align_up(high_at + high_bytes, 4);
    uint32_t places = 0, filled = 0;
    for (uint32_t i = 0; i < checker->counts.key_count; i++) {
        const char *why = check_base_key(checker, i, &places);
        if (why != NULL)
            return why;
    }
    if (checker->entries_at + checker->used_size != checker->arrays.base_end)
        return "the entries of the base do not fill it";
    for (uint32_t i = 0; i < checker->counts.hash_count; i++)
        filled += checker->frame[sizeof(struct mshm_leaf) + i * sizeof(struct mshm_hash_bucket)];
    return filled == places ? NULL : "a hash bucket leads to something that is not a key's entry";
}

/* Tail entries stand one after the other behind the base, with ascending timestamps, newer than the base's version of
 * the same key, under their fingerprints. */
static const char *
check_tail(struct leaf_checker *checker)
{
    const struct mshm_leaf *leaf = (const struct mshm_leaf *)(const void *)checker->frame;
    uint32_t entry_at = checker->arrays.base_end;
    mshm_timestamp newest = 0;
    for (uint32_t i = 0; i < checker->tail_count; i++) {
        struct entry_view entry;
        if ((uint32_t)leaf->tail_slots[i] * 4 != entry_at)
            return "a tail entry does not follow its predecessor";
        if (entry_load(checker->frame, checker->frame_size, entry_at, &entry) != 0)
            return "a tail entry does not fit into the frame";
        if (entry.timestamp < newest)
            return "the timestamps of the tail descend";
        newest = entry.timestamp;
        const char *why = check_key(checker, entry.key, entry.key_size);
        if (why != NULL)
            return why;
        uint64_t hash = mshm_key_hash(entry.key, entry.key_size);
        if ((uint8_t)(leaf->tail_fingerprints[i / 8] >> i % 8 * 8) != (uint8_t)hash)
            return "a tail entry's fingerprint is wrong";
        struct mshm_version found;
        if (mshm_leaf_newest(checker->frame, checker->frame_size, entry.key, entry.key_size, hash,
                             &found) != MSHM_FOUND_VERSION ||
            found.timestamp < entry.timestamp)
            return "a search misses a tail entry or finds an older version";
        entry_at = entry.end;
    }
    return NULL;
}

int
mshm_leaf_check(const void *frame, uint32_t frame_size, const char **why)
{
    struct leaf_checker checker = {.frame = frame, .frame_size = frame_size};
    const char *wrong = NULL;
    if (frame_size < sizeof(struct mshm_page))
        wrong = "the frame is smaller than a page's header";
    if (wrong == NULL)
        wrong = check_header(&checker);
    if (wrong == NULL)
        wrong = check_places(&checker);
    if (wrong == NULL)
        wrong = check_base(&checker);
    if (wrong == NULL)
        wrong = check_tail(&checker);
    if (wrong == NULL)
        return MSHM_OK;
    if (why != NULL)
        *why = wrong;
    return MSHM_CORRUPT;
}
