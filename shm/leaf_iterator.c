/* leaf_iterator.c - walking a leaf or history frame in key order: base and tail merged.
 *
 * The position is a gap between two keys of the merged sequence: base_at keys of the base and tail_at places of the
 * sorted tail lie before it. Standing on a key means that the gap lies just before it and the widths say how much of
 * base and tail belongs to it: a step forward passes over the widths first, a step backward leaves them behind.
 *
 *      base    a     c     d     f              on d:  base_at 2, base_width 1
 *      tail       b     d d                            tail_at 1, tail_width 2
 *                       ^ gap
 */
#include "mshm/leaf.h"
#include "page_read.h"

/* The suffix of a key after the page's prefix decides its head. A key that lies outside the prefix gets the lowest or
 * highest head, which keeps the order: unequal heads order their keys, equal heads decide nothing. */
static uint64_t
iterator_head(const struct mshm_leaf_iterator *iterator, const uint8_t *key, size_t key_size)
{
    uint32_t prefix_size = iterator->prefix_size;
    if (prefix_size == 0)
        return key_head8(key, key_size);
    size_t common = key_size < prefix_size ? key_size : prefix_size;
    int order = memcmp(key, iterator->key, common);
    if (order > 0)
        return UINT64_MAX;
    if (order < 0 || key_size < prefix_size)
        return 0;
    return key_head8(key + prefix_size, key_size - prefix_size);
}

static int
iterator_tail_entry(const struct mshm_leaf_iterator *iterator, uint32_t place,
                    struct entry_view *entry)
{
    const struct mshm_leaf *leaf = (const struct mshm_leaf *)(const void *)iterator->frame;
    uint32_t at = (uint32_t)AO_short_load(&leaf->tail_slots[iterator->tail_order[place]]) * 4;
    if (entry_load(iterator->frame, iterator->frame_size, at, entry) != 0 ||
        entry->key_size > MSHM_MAX_KEY)
        return MSHM_CORRUPT;
    return MSHM_OK;
}

static inline int
iterator_base_entry(const struct mshm_leaf_iterator *iterator, uint32_t index,
                    struct entry_view *entry)
{
    uint32_t at = page_u16(iterator->frame, iterator->slots_at + index * 2) * 4;
    if (entry_load(iterator->frame, iterator->frame_size, at, entry) != 0 ||
        entry->key_size > MSHM_MAX_KEY - iterator->prefix_size)
        return MSHM_CORRUPT;
    return MSHM_OK;
}

static inline uint32_t
iterator_base_head(const struct mshm_leaf_iterator *iterator, uint32_t index)
{
    return page_u32(iterator->frame, iterator->heads_at + index * 4);
}

/* Order of a base entry (without its prefix) against a whole key. */
static int
base_key_compare(const struct mshm_leaf_iterator *iterator, const struct entry_view *entry,
                 const uint8_t *key, size_t key_size)
{
    uint32_t prefix_size = iterator->prefix_size;
    size_t common = key_size < prefix_size ? key_size : prefix_size;
    int order = common != 0 ? memcmp(iterator->key, key, common) : 0;
    if (order != 0)
        return order;
    if (key_size < prefix_size)
        return 1;
    return bytes_compare(entry->key, entry->key_size, key + prefix_size, key_size - prefix_size);
}

/* The tail arrives oldest first and often in key order, and has at most 64 entries: insertion sort, by 8-byte heads, by
 * whole keys only where these are equal. A newer entry goes before the older ones of its key. */
static int
iterator_sort_tail(struct mshm_leaf_iterator *iterator)
{
    uint64_t heads[MSHM_TAIL_CAPACITY];
    for (uint32_t i = 0; i < iterator->tail_count; i++) {
        struct entry_view entry, other;
        uint32_t place = i;
        iterator->tail_order[i] = (uint8_t)i;
        if (iterator_tail_entry(iterator, i, &entry) != 0)
            return MSHM_CORRUPT;
        uint64_t head = iterator_head(iterator, entry.key, entry.key_size);
        for (; place > 0 && head <= heads[place - 1]; place--) {
            if (head == heads[place - 1]) {
                if (iterator_tail_entry(iterator, place - 1, &other) != 0)
                    return MSHM_CORRUPT;
                if (bytes_compare(entry.key, entry.key_size, other.key, other.key_size) > 0)
                    break;
            }
            heads[place] = heads[place - 1];
            iterator->tail_order[place] = iterator->tail_order[place - 1];
        }
        heads[place] = head;
        iterator->tail_order[place] = (uint8_t)i;
    }
    for (uint32_t i = 0; i < iterator->tail_count; i++)
        iterator->tail_heads[i] = (uint32_t)(heads[i] >> 32);
    return MSHM_OK;
}

int
mshm_leaf_iterator_init(struct mshm_leaf_iterator *iterator, const void *frame, uint32_t frame_size)
{
    const struct mshm_leaf *leaf = frame;
    if (frame_size < sizeof(struct mshm_page))
        return MSHM_CORRUPT;
    AO_t tail_count = AO_load_acquire(&leaf->page.tail_count);
    struct page_counts counts = page_counts_load(frame);
    struct page_arrays arrays = page_arrays_load(frame);
    if (tail_count > MSHM_TAIL_CAPACITY ||
        (tail_count != 0 && frame_size < sizeof(struct mshm_leaf)) ||
        counts.prefix_size > MSHM_MAX_KEY ||
        !frame_holds(frame_size, counts.prefix_at, counts.prefix_size) ||
        !frame_holds(frame_size, arrays.heads_at, counts.key_count * 4) ||
        !frame_holds(frame_size, arrays.slots_at, counts.key_count * 2))
        return MSHM_CORRUPT;
    iterator->frame = frame;
    iterator->frame_size = frame_size;
    iterator->key_count = counts.key_count;
    iterator->tail_count = (uint32_t)tail_count;
    iterator->heads_at = arrays.heads_at;
    iterator->slots_at = arrays.slots_at;
    iterator->prefix_size = counts.prefix_size;
    iterator->base_at = iterator->tail_at = 0;
    iterator->base_width = iterator->tail_width = 0;
    iterator->started = 0;
    iterator->has_history = AO_load_acquire(&leaf->page.history) != 0;
    memcpy(iterator->key, iterator->frame + counts.prefix_at, counts.prefix_size);
    return iterator_sort_tail(iterator);
}

/* Order of base key `base` against the key at `place` of the sorted tail, or CORRUPT_ORDER. */
enum { CORRUPT_ORDER = 2 };
static int
iterator_compare(const struct mshm_leaf_iterator *iterator, uint32_t base, uint32_t place)
{
    uint32_t base_head = iterator_base_head(iterator, base);
    uint32_t tail_head = iterator->tail_heads[place];
    if (base_head != tail_head)
        return base_head < tail_head ? -1 : 1;
    struct entry_view base_entry, tail_entry;
    if (iterator_base_entry(iterator, base, &base_entry) != 0 ||
        iterator_tail_entry(iterator, place, &tail_entry) != 0)
        return CORRUPT_ORDER;
    int order = base_key_compare(iterator, &base_entry, tail_entry.key, tail_entry.key_size);
    return (order > 0) - (order < 0);
}

/* Places of the sorted tail from `place` on, in the direction given, that hold its key; 0 when corrupt. */
static uint32_t
iterator_tail_group(const struct mshm_leaf_iterator *iterator, uint32_t place, int forward)
{
    struct entry_view entry, other;
    if (iterator_tail_entry(iterator, place, &entry) != 0)
        return 0;
    uint32_t limit = forward ? iterator->tail_count - place : place + 1;
    uint32_t width = 1;
    for (; width < limit; width++) {
        uint32_t next = forward ? place + width : place - width;
        if (iterator->tail_heads[next] != iterator->tail_heads[place])
            break;
        if (iterator_tail_entry(iterator, next, &other) != 0)
            return 0;
        if (other.key_size != entry.key_size || !bytes_equal(other.key, entry.key, entry.key_size))
            break;
    }
    return width;
}

/* Steps over the key the iterator stands on and onto the next one. MSHM_NOT_FOUND: stands in the gap at the end. */
static inline int
iterator_step_forward(struct mshm_leaf_iterator *iterator)
{
    uint32_t base = iterator->base_at += iterator->base_width;
    uint32_t tail = iterator->tail_at += iterator->tail_width;
    iterator->base_width = iterator->tail_width = 0;
    int has_base = base < iterator->key_count, has_tail = tail < iterator->tail_count;
    if (!has_base && !has_tail)
        return MSHM_NOT_FOUND;
    int order = !has_tail ? -1 : !has_base ? 1 : iterator_compare(iterator, base, tail);
    if (order == CORRUPT_ORDER)
        return MSHM_CORRUPT;
    if (order >= 0) {
        iterator->tail_width = (uint8_t)iterator_tail_group(iterator, tail, 1);
        if (iterator->tail_width == 0)
            return MSHM_CORRUPT;
    }
    iterator->base_width = order <= 0;
    return MSHM_OK;
}

/* Steps onto the key before the gap. MSHM_NOT_FOUND: stands in the gap at the beginning. */
static inline int
iterator_step_backward(struct mshm_leaf_iterator *iterator)
{
    uint32_t base = iterator->base_at, tail = iterator->tail_at;
    iterator->base_width = iterator->tail_width = 0;
    if (base == 0 && tail == 0)
        return MSHM_NOT_FOUND;
    int order = tail == 0 ? 1 : base == 0 ? -1 : iterator_compare(iterator, base - 1, tail - 1);
    if (order == CORRUPT_ORDER)
        return MSHM_CORRUPT;
    if (order <= 0) {
        uint32_t width = iterator_tail_group(iterator, tail - 1, 0);
        if (width == 0)
            return MSHM_CORRUPT;
        iterator->tail_width = (uint8_t)width;
        iterator->tail_at = tail - width;
    }
    if (order >= 0) {
        iterator->base_width = 1;
        iterator->base_at = base - 1;
    }
    return MSHM_OK;
}

static inline void
version_set(struct mshm_version *version, const struct entry_view *entry)
{
    version->value = entry->value;
    version->value_size = entry->value_size;
    version->timestamp = entry->timestamp;
    version->kind = entry->kind;
    version->reserved = 0;
}

/* Describes the newest version <= snapshot among the current key's tail entries: MSHM_OK, or MSHM_NOT_FOUND, or
 * MSHM_CORRUPT. The key is set in the first two cases. */
static int
iterator_resolve_tail(const struct mshm_leaf_iterator *iterator, mshm_timestamp snapshot,
                      struct mshm_version *version)
{
    struct entry_view entry;
    for (uint32_t i = 0; i < iterator->tail_width; i++) {
        if (iterator_tail_entry(iterator, iterator->tail_at + i, &entry) != 0)
            return MSHM_CORRUPT;
        version->key = entry.key;
        version->key_size = (uint16_t)entry.key_size;
        if (entry.timestamp <= snapshot) {
            version_set(version, &entry);
            return MSHM_OK;
        }
    }
    return MSHM_NOT_FOUND;
}

/* The same for the current key of the base. Without a prefix the key stands whole in the frame. */
static inline int
iterator_resolve_base(struct mshm_leaf_iterator *iterator, mshm_timestamp snapshot,
                      struct mshm_version *version)
{
    struct entry_view entry;
    uint32_t prefix_size = iterator->prefix_size;
    if (iterator_base_entry(iterator, iterator->base_at, &entry) != 0)
        return MSHM_CORRUPT;
    version->key = entry.key;
    version->key_size = (uint16_t)(prefix_size + entry.key_size);
    if (prefix_size != 0) {
        bytes_copy(iterator->key + prefix_size, entry.key, entry.key_size);
        version->key = iterator->key;
    }
    while (entry.timestamp > snapshot) {
        if (!(entry.flags & MSHM_ENTRY_MORE))
            return MSHM_NOT_FOUND;
        if (entry_load(iterator->frame, iterator->frame_size, entry.end, &entry) != 0)
            return MSHM_CORRUPT;
    }
    version_set(version, &entry);
    return MSHM_OK;
}

/* Describes what the snapshot sees of the current key: MSHM_OK; MSHM_NOT_FOUND to skip it; MSHM_CORRUPT. */
static inline int
iterator_resolve(struct mshm_leaf_iterator *iterator, mshm_timestamp snapshot,
                 struct mshm_version *version)
{
    struct mshm_version found;
    int status = MSHM_NOT_FOUND;
    if (iterator->tail_width != 0)
        status = iterator_resolve_tail(iterator, snapshot, &found);
    if (status == MSHM_NOT_FOUND && iterator->base_width != 0)
        status = iterator_resolve_base(iterator, snapshot, &found);
    if (status == MSHM_NOT_FOUND && iterator->has_history) {
        found.value = NULL;
        found.value_size = 0;
        found.timestamp = 0;
        found.kind = 0;
        found.reserved = 0;
        status = MSHM_OK;
    }
    if (status == MSHM_OK)
        *version = found;
    return status;
}

int
mshm_leaf_iterator_next(struct mshm_leaf_iterator *iterator, mshm_timestamp snapshot,
                        struct mshm_version *version)
{
    iterator->started = 1;
    for (;;) {
        int status = iterator_step_forward(iterator);
        if (status != MSHM_OK)
            return status;
        status = iterator_resolve(iterator, snapshot, version);
        if (status != MSHM_NOT_FOUND)
            return status;
    }
}

int
mshm_leaf_iterator_previous(struct mshm_leaf_iterator *iterator, mshm_timestamp snapshot,
                            struct mshm_version *version)
{
    if (!iterator->started) {
        iterator->started = 1;
        iterator->base_at = iterator->key_count;
        iterator->tail_at = iterator->tail_count;
    }
    for (;;) {
        int status = iterator_step_backward(iterator);
        if (status != MSHM_OK)
            return status;
        status = iterator_resolve(iterator, snapshot, version);
        if (status != MSHM_NOT_FOUND)
            return status;
    }
}

/* Base keys that are less than `key`. */
static int
iterator_base_rank(const struct mshm_leaf_iterator *iterator, const uint8_t *key, size_t key_size,
                   uint32_t *rank)
{
    uint32_t head = (uint32_t)(iterator_head(iterator, key, key_size) >> 32);
    const uint8_t *heads = iterator->frame + iterator->heads_at;
    uint32_t low = heads_count(heads, iterator->key_count, head, 0);
    uint32_t high = low + heads_count(heads + low * 4, iterator->key_count - low, head, 1);
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        struct entry_view entry;
        if (iterator_base_entry(iterator, middle, &entry) != 0)
            return MSHM_CORRUPT;
        if (base_key_compare(iterator, &entry, key, key_size) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    *rank = low;
    return MSHM_OK;
}

int
mshm_leaf_iterator_seek(struct mshm_leaf_iterator *iterator, const void *key, size_t key_size)
{
    uint32_t base = 0, tail = 0;
    if (iterator_base_rank(iterator, key, key_size, &base) != 0)
        return MSHM_CORRUPT;
    for (uint32_t high = iterator->tail_count; tail < high;) {
        uint32_t middle = tail + (high - tail) / 2;
        struct entry_view entry;
        if (iterator_tail_entry(iterator, middle, &entry) != 0)
            return MSHM_CORRUPT;
        if (bytes_compare(entry.key, entry.key_size, key, key_size) < 0)
            tail = middle + 1;
        else
            high = middle;
    }
    iterator->base_at = base;
    iterator->tail_at = tail;
    iterator->base_width = iterator->tail_width = 0;
    iterator->started = 1;
    return MSHM_OK;
}

/* Where mshm_leaf_versions puts what it finds. */
struct version_sink {
    struct mshm_version *versions;
    uint8_t *key_bytes;
    uint32_t capacity, count;
    uint32_t key_bytes_left;
};

static inline int
sink_add(struct version_sink *sink, const uint8_t *key, uint32_t key_size,
         const struct entry_view *entry)
{
    if (sink->count == sink->capacity)
        return MSHM_FULL;
    struct mshm_version *version = &sink->versions[sink->count++];
    version->key = key;
    version->key_size = (uint16_t)key_size;
    version_set(version, entry);
    return MSHM_OK;
}

/* Adds the base's versions of the current key. `key` is its whole key when the tail has it, too, else NULL. */
static int
sink_add_base(struct version_sink *sink, const struct mshm_leaf_iterator *iterator,
              const uint8_t *key, uint32_t key_size)
{
    struct entry_view entry;
    if (iterator_base_entry(iterator, iterator->base_at, &entry) != 0)
        return MSHM_CORRUPT;
    uint32_t prefix_size = iterator->prefix_size;
    if (key == NULL)
        key_size = prefix_size + entry.key_size;
    if (key == NULL && prefix_size == 0) {
        key = entry.key;
    } else if (key == NULL) {
        if (key_size > sink->key_bytes_left)
            return MSHM_FULL;
        memcpy(sink->key_bytes, iterator->key, prefix_size);
        memcpy(sink->key_bytes + prefix_size, entry.key, entry.key_size);
        key = sink->key_bytes;
        sink->key_bytes += key_size;
        sink->key_bytes_left -= key_size;
    }
    for (;;) {
        int status = sink_add(sink, key, key_size, &entry);
        if (status != MSHM_OK || !(entry.flags & MSHM_ENTRY_MORE))
            return status;
        if (entry_load(iterator->frame, iterator->frame_size, entry.end, &entry) != 0)
            return MSHM_CORRUPT;
    }
}

int
mshm_leaf_versions(const void *frame, uint32_t frame_size, struct mshm_version *versions,
                   uint32_t capacity, uint8_t *key_bytes, uint32_t key_bytes_size)
{
    struct mshm_leaf_iterator iterator;
    struct version_sink sink = {versions, key_bytes, capacity, 0, key_bytes_size};
    int status = mshm_leaf_iterator_init(&iterator, frame, frame_size);
    while (status == MSHM_OK) {
        const uint8_t *key = NULL;
        uint32_t key_size = 0;
        status = iterator_step_forward(&iterator);
        if (status != MSHM_OK)
            break;
        for (uint32_t i = 0; i < iterator.tail_width && status == MSHM_OK; i++) {
            struct entry_view entry;
            status = iterator_tail_entry(&iterator, iterator.tail_at + i, &entry);
            if (status == MSHM_OK)
                status = sink_add(&sink, entry.key, entry.key_size, &entry);
            key = entry.key;
            key_size = entry.key_size;
        }
        if (status == MSHM_OK && iterator.base_width != 0)
            status = sink_add_base(&sink, &iterator, key, key_size);
    }
    return status == MSHM_NOT_FOUND ? (int)sink.count : status;
}
