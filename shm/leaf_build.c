/* leaf_build.c - laying out a leaf's frame and appending to it. The broker only. */
#include "mshm/leaf.h"
#include "page_read.h"

/* A page that cannot be split must fit the largest frame: two entries of the largest key and value, both fences, and one
 * more append, beside front, one hash bucket, heads and slots. */
static_assert(sizeof(struct mshm_leaf) + sizeof(struct mshm_hash_bucket) + 2 * (4 + 2) +
                      5 * MSHM_MAX_KEY + 3 * MSHM_MAX_INLINE + 3 * sizeof(struct mshm_entry) <=
                  MSHM_MAX_FRAME,
              "the largest frame always holds two of the largest entries and an append");

/* No leaf has more versions: each takes an entry's header. */
enum { MAX_VERSIONS = MSHM_MAX_FRAME / sizeof(struct mshm_entry) };

/* Keys per hash bucket of 20 places: about one bucket in fifty overflows. */
enum { KEYS_PER_BUCKET = 13 };

/* Larger entries (on average, bytes) do not begin in their windows often enough to fetch them ahead. */
enum { WINDOW_ENTRY_MAX = 3 * MSHM_LINE };

/* Where everything goes (bytes from the frame's start), and which versions begin a new key. */
struct leaf_plan {
    uint32_t key_count, hash_count, prefix_size;
    uint32_t line, windows; /* of the hint; both 0: entries stand in the order of their keys */
    uint32_t heads_at, slots_at, prefix_at, low_at, high_at, entries_at, end;
    uint64_t first_of_key[MAX_VERSIONS / 64]; /* bit i: version i is the newest of its key */
};

static inline int
plan_starts_key(const struct leaf_plan *plan, uint32_t i)
{
    return plan->first_of_key[i / 64] >> i % 64 & 1;
}

static inline int
version_same_key(const struct mshm_version *a, const struct mshm_version *b, uint32_t prefix_size)
{
    return a->key_size == b->key_size &&
           (a->key == b->key ||
            bytes_equal(a->key + prefix_size, b->key + prefix_size, a->key_size - prefix_size));
}

/* One pass over the versions: counts keys and bytes of entries. */
static uint32_t
plan_entries(struct leaf_plan *plan, const struct mshm_leaf_spec *spec)
{
    const struct mshm_version *versions = spec->versions;
    uint32_t count = spec->count, prefix_size = 0, keys = 0;
    uint64_t size = 0;
    if (count > 0) {
        const struct mshm_version *last = &versions[count - 1];
        prefix_size =
            bytes_common(versions[0].key, versions[0].key_size, last->key, last->key_size);
    }
    for (uint32_t i = 0; i < count; i++) {
        const struct mshm_version *version = &versions[i];
        uint32_t starts = i == 0 || !version_same_key(version - 1, version, prefix_size);
        plan->first_of_key[i / 64] |= (uint64_t)starts << i % 64;
        keys += starts;
        if (version->value_size > UINT16_MAX)
            return UINT32_MAX;
        size +=
            mshm_entry_size((version->key_size - prefix_size) & (0 - starts), version->value_size);
    }
    plan->prefix_size = prefix_size;
    plan->key_count = keys;
    return size > MSHM_MAX_FRAME ? UINT32_MAX : (uint32_t)size;
}

static inline uint32_t
fence_bytes(uint16_t size)
{
    return size == MSHM_FENCE_INFINITE ? 0 : (uint32_t)mshm_align_up(size, 4);
}

static void
plan_windows(struct leaf_plan *plan, uint32_t entries)
{
    if (entries == 0 || entries / plan->key_count > WINDOW_ENTRY_MAX)
        return;
    uint32_t first = plan->entries_at / MSHM_LINE, last = (plan->end - 1) / MSHM_LINE;
    uint32_t windows = last - first < MSHM_WINDOW ? 1 : last - first - MSHM_WINDOW + 2;
    if (first > UINT8_MAX || windows > UINT8_MAX)
        return;
    plan->line = first;
    plan->windows = windows;
}

/* Returns the bytes needed, or UINT32_MAX when no frame holds them. */
static uint32_t
plan_make(struct leaf_plan *plan, const struct mshm_leaf_spec *spec)
{
    if (spec->count > MAX_VERSIONS)
        return UINT32_MAX;
    memset(plan->first_of_key, 0, (spec->count + 63) / 64 * 8);
    uint32_t entries = plan_entries(plan, spec);
    if (entries == UINT32_MAX)
        return UINT32_MAX;
    int is_leaf = spec->kind == MSHM_PAGE_LEAF;
    plan->hash_count = is_leaf ? plan->key_count / KEYS_PER_BUCKET + 1 : 0;
    plan->heads_at = (uint32_t)(is_leaf ? sizeof(struct mshm_leaf) : sizeof(struct mshm_page)) +
                     plan->hash_count * (uint32_t)sizeof(struct mshm_hash_bucket);
    plan->slots_at = plan->heads_at + plan->key_count * 4;
    plan->prefix_at = plan->slots_at + (uint32_t)mshm_align_up(plan->key_count * 2, 4);
    plan->low_at = plan->prefix_at + (uint32_t)mshm_align_up(plan->prefix_size, 4);
    plan->high_at = plan->low_at + fence_bytes(spec->low_size);
    plan->entries_at = plan->high_at + fence_bytes(spec->high_size);
    plan->end = plan->entries_at + entries;
    plan->line = plan->windows = 0;
    if (is_leaf)
        plan_windows(plan, entries);
    return plan->end > MSHM_MAX_FRAME ? UINT32_MAX : plan->end;
}

uint32_t
mshm_leaf_size(const struct mshm_leaf_spec *spec)
{
    struct leaf_plan plan;
    return plan_make(&plan, spec);
}

/* Writes one entry and returns its size. The padding is zeroed, so that equal content makes equal bytes. */
static inline uint32_t
entry_write(uint8_t *at, const struct mshm_version *version, uint32_t skip, uint32_t key_size,
            unsigned flags)
{
    uint32_t size = mshm_entry_size(key_size, version->value_size);
    uint32_t words[4] = {
        (uint32_t)version->timestamp,
        (uint32_t)(version->timestamp >> 32),
        key_size | version->value_size << 16,
        version->kind | (uint32_t)flags << 8,
    };
    memset(at + size - 4, 0, 4);
    memcpy(at, words, sizeof words);
    if (key_size != 0)
        bytes_copy(at + sizeof words, version->key + skip, key_size);
    if (version->value_size != 0)
        bytes_copy(at + sizeof words + key_size, version->value, version->value_size);
    return size;
}

static inline void
bucket_add(struct mshm_hash_bucket *buckets, uint32_t hash_count, uint64_t hash, uint16_t slot)
{
    struct mshm_hash_bucket *bucket = &buckets[(hash >> 32) * hash_count >> 32];
    uint32_t place = bucket->count;
    if (place >= MSHM_BUCKET_SLOTS) {
        bucket->overflow = 1;
        return;
    }
    bucket->fingerprints[place] = (uint8_t)hash;
    bucket->slots[place] = slot;
    bucket->count = (uint8_t)(place + 1);
}

/* One key on its way into the base. */
struct leaf_key {
    uint64_t hash;
    uint16_t version; /* its newest */
    uint16_t units;   /* of 4 bytes: all its versions */
    uint16_t newest;  /* units of the newest, which shall be in the window */
    uint16_t window;
};

/* The keys in the order in which their entries will stand. */
struct leaf_order {
    struct leaf_key keys[MAX_VERSIONS];
    uint16_t places[MAX_VERSIONS]; /* the result: indices into keys */
    uint16_t sorted[MAX_VERSIONS]; /* by window */
    uint16_t missed[MAX_VERSIONS]; /* keys whose windows are full */
};
enum { PLACE_FREE = UINT16_MAX };

/* Second pass: what each key needs; the heads on the way. */
static void
order_keys(struct leaf_order *order, uint8_t *frame, const struct leaf_plan *plan,
           const struct mshm_leaf_spec *spec)
{
    uint32_t prefix_size = plan->prefix_size, key = 0;
    struct leaf_key *current = order->keys;
    for (uint32_t i = 0; i < spec->count; i++) {
        const struct mshm_version *version = &spec->versions[i];
        uint32_t key_size = 0;
        if (plan_starts_key(plan, i)) {
            key_size = version->key_size - prefix_size;
            uint32_t head = key_head(version->key + prefix_size, key_size);
            memcpy(frame + plan->heads_at + key * 4, &head, sizeof head);
            current = &order->keys[key];
            current->version = (uint16_t)i;
            current->units = 0;
            current->hash =
                plan->hash_count != 0 ? mshm_key_hash(version->key, version->key_size) : 0;
            current->window = (uint16_t)mshm_leaf_window(current->hash, plan->windows);
            order->places[key] = (uint16_t)key;
            key++;
        }
        uint32_t units = mshm_entry_size(key_size, version->value_size) / 4;
        if (current->units == 0)
            current->newest = (uint16_t)units;
        current->units += (uint16_t)units;
    }
}

/* Counting sort by window. */
static void
order_sort(struct leaf_order *order, const struct leaf_plan *plan)
{
    uint16_t starts[UINT8_MAX + 1] = {0};
    for (uint32_t i = 0; i < plan->key_count; i++)
        starts[order->keys[i].window + 1]++;
    for (uint32_t i = 1; i < plan->windows; i++)
        starts[i] += starts[i - 1];
    for (uint32_t i = 0; i < plan->key_count; i++)
        order->sorted[starts[order->keys[i].window]++] = (uint16_t)i;
}

/* Fills the places from left to right, each with the next key in the order of windows. A key that would stand behind its
 * window is put aside; a place before the next key's window takes one of those, or stays free for one to come. All
 * windows are equally long, so for entries of one size no other choice brings more keys into their windows (Glover,
 * "Maximum matching in a convex bipartite graph", 1967); for mixed sizes it is a good guess. */
static void
order_arrange(struct leaf_order *order, const struct leaf_plan *plan)
{
    uint32_t count = plan->key_count, at = plan->entries_at, missed = 0, next = 0;
    uint32_t usual = (plan->end - plan->entries_at) / count;
    order_sort(order, plan);
    for (uint32_t place = 0; place < count; place++) {
        uint16_t chosen = PLACE_FREE;
        for (; next < count && chosen == PLACE_FREE; next++) {
            const struct leaf_key *key = &order->keys[order->sorted[next]];
            uint32_t line = plan->line + key->window;
            if (at / MSHM_LINE < line)
                break;
            uint32_t front = key->newest * 4u < MSHM_LINE ? key->newest * 4u : MSHM_LINE;
            if ((at + front - 1) / MSHM_LINE < line + MSHM_WINDOW)
                chosen = order->sorted[next];
            else
                order->missed[missed++] = order->sorted[next];
        }
        if (chosen == PLACE_FREE && missed > 0)
            chosen = order->missed[--missed];
        order->places[place] = chosen;
        at += chosen != PLACE_FREE ? order->keys[chosen].units * 4u : usual;
    }
    while (next < count)
        order->missed[missed++] = order->sorted[next++];
    for (uint32_t place = count; place-- > 0;)
        if (order->places[place] == PLACE_FREE)
            order->places[place] = order->missed[--missed];
}

/* Third pass: entries, slots and hash buckets. */
static void
leaf_write_entries(uint8_t *frame, const struct leaf_plan *plan, const struct mshm_leaf_spec *spec)
{
    struct mshm_hash_bucket *buckets =
        (struct mshm_hash_bucket *)(void *)(frame + sizeof(struct mshm_leaf));
    uint32_t at = plan->entries_at, prefix_size = plan->prefix_size;
    struct leaf_order order;
    order_keys(&order, frame, plan, spec);
    if (plan->windows != 0)
        order_arrange(&order, plan);
    for (uint32_t place = 0; place < plan->key_count; place++) {
        const struct leaf_key *key = &order.keys[order.places[place]];
        uint16_t slot = (uint16_t)(at / 4);
        memcpy(frame + plan->slots_at + order.places[place] * 2u, &slot, sizeof slot);
        if (plan->hash_count != 0)
            bucket_add(buckets, plan->hash_count, key->hash, slot);
        uint32_t i = key->version, key_size = spec->versions[i].key_size - prefix_size;
        for (unsigned more = MSHM_ENTRY_MORE; more != 0; i++, key_size = 0) {
            if (i + 1 >= spec->count || plan_starts_key(plan, i + 1))
                more = 0;
            at += entry_write(frame + at, &spec->versions[i], prefix_size, key_size, more);
        }
    }
}

/* Zeroes the last word under a string that is padded to 4 bytes, then writes the string. */
static void
string_write(uint8_t *frame, uint32_t at, const uint8_t *bytes, uint32_t size)
{
    if (size == 0)
        return;
    memset(frame + mshm_align_up(at + size, 4) - 4, 0, 4);
    memcpy(frame + at, bytes, size);
}

static void
leaf_write_header(uint8_t *frame, const struct leaf_plan *plan, const struct mshm_leaf_spec *spec)
{
    struct mshm_page page = {
        .magic = MSHM_PAGE_MAGIC,
        .kind = spec->kind,
        .level = 0,
        .bucket = spec->bucket,
        .pid = spec->pid,
        .right = spec->right,
        .history = spec->history,
        .key_count = (uint16_t)plan->key_count,
        .hash_count = (uint16_t)plan->hash_count,
        .prefix_at = (uint16_t)(plan->prefix_at / 4),
        .prefix_size = (uint16_t)plan->prefix_size,
        .low_at = (uint16_t)(plan->low_at / 4),
        .low_size = spec->low_size,
        .high_at = (uint16_t)(plan->high_at / 4),
        .high_size = spec->high_size,
        .heads_at = (uint16_t)(plan->heads_at / 4),
        .slots_at = (uint16_t)(plan->slots_at / 4),
        .base_end = (uint16_t)(plan->end / 4),
        .children_at = (uint16_t)(plan->line | plan->windows << 8),
    };
    if (spec->count > 0)
        page.prefix_head = bytes_load_upto8(spec->versions[0].key, plan->prefix_size);
    memcpy(frame, &page, sizeof page);
    if (spec->count > 0)
        string_write(frame, plan->prefix_at, spec->versions[0].key, plan->prefix_size);
    string_write(frame, plan->low_at, spec->low, spec->low_size);
    if (spec->high_size != MSHM_FENCE_INFINITE)
        string_write(frame, plan->high_at, spec->high, spec->high_size);
}

int
mshm_leaf_build(void *frame, uint32_t frame_size, const struct mshm_leaf_spec *spec)
{
    struct leaf_plan plan;
    uint8_t *bytes = frame;
    uint32_t size = plan_make(&plan, spec);
    if (size > frame_size)
        return MSHM_FULL;
    /* Fingerprints, tail slots and hash buckets; and the slots' last word, half of which may be padding. */
    memset(bytes + sizeof(struct mshm_page), 0, plan.heads_at - sizeof(struct mshm_page));
    if (plan.key_count != 0)
        memset(bytes + plan.prefix_at - 4, 0, 4);
    leaf_write_header(bytes, &plan, spec);
    leaf_write_entries(bytes, &plan, spec);
    if (spec->kind == MSHM_PAGE_LEAF)
        ((struct mshm_leaf *)frame)->tail_slots[0] = (uint16_t)(plan.end / 4);
    return MSHM_OK;
}

/* Where the next tail entry goes, or frame_size when nothing may be appended. */
static uint32_t
leaf_heap_end(const uint8_t *frame, uint32_t frame_size)
{
    const struct mshm_leaf *leaf = (const struct mshm_leaf *)(const void *)frame;
    AO_t tail_count = AO_load(&leaf->page.tail_count); /* the broker's own word */
    if (leaf->page.kind != MSHM_PAGE_LEAF || tail_count > MSHM_TAIL_CAPACITY)
        return frame_size;
    /* The note of the append before stands in the tail's own lines; the last entry's header would be one more miss. */
    if (tail_count < MSHM_TAIL_CAPACITY)
        return (uint32_t)leaf->tail_slots[tail_count] * 4;
    struct entry_view last;
    if (entry_load(frame, frame_size, (uint32_t)leaf->tail_slots[tail_count - 1] * 4, &last) != 0)
        return frame_size;
    return last.end;
}

uint32_t
mshm_leaf_room(const void *frame, uint32_t frame_size)
{
    uint32_t end = leaf_heap_end(frame, frame_size);
    return end < frame_size ? frame_size - end : 0;
}

uint32_t
mshm_leaf_tail_room(const void *frame)
{
    const struct mshm_leaf *leaf = frame;
    AO_t tail_count = AO_load(&leaf->page.tail_count);
    if (leaf->page.kind != MSHM_PAGE_LEAF || tail_count > MSHM_TAIL_CAPACITY)
        return 0;
    return (uint32_t)(MSHM_TAIL_CAPACITY - tail_count);
}

int
mshm_leaf_append(void *frame, uint32_t frame_size, const struct mshm_version *version,
                 uint64_t hash)
{
    struct mshm_leaf *leaf = frame;
    AO_t place = AO_load(&leaf->page.tail_count); /* the broker's own word */
    uint32_t at = leaf_heap_end(frame, frame_size);
    if (mshm_leaf_tail_room(frame) == 0 || version->value_size > UINT16_MAX ||
        !frame_holds(frame_size, at, mshm_entry_size(version->key_size, version->value_size)))
        return MSHM_FULL;
    entry_write((uint8_t *)frame + at, version, 0, version->key_size, 0);
    AO_short_store(&leaf->tail_slots[place], (uint16_t)(at / 4));
    if (place + 1 < MSHM_TAIL_CAPACITY)
        AO_short_store(
            &leaf->tail_slots[place + 1],
            (uint16_t)((at + mshm_entry_size(version->key_size, version->value_size)) / 4));
    /* The word is stored whole: readers that counted fewer entries mask the new byte away. */
    AO_t *word = &leaf->tail_fingerprints[place / 8];
    AO_t shift = place % 8 * 8;
    AO_store(word, (AO_load(word) & ~((AO_t)0xff << shift)) | (hash & 0xff) << shift);
    /* Pairs with the load-acquire of tail_count in every search. */
    AO_store_release(&leaf->page.tail_count, place + 1);
    return MSHM_OK;
}
