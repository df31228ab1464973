/* page_list.c - lists of versions in the order of a leaf: from a frame, from blind writes; sorted, merged, pruned. */
#include <string.h>

#include "mshm/status.h"
#include "page_parts.h"
#include "snapshots.h"

/* --- order --- */

int
page_list_order(const struct mshm_version *a, const struct mshm_version *b)
{
    int order = mshm_key_compare(a->key, a->key_size, b->key, b->key_size);
    if (order != 0)
        return order;
    return a->timestamp > b->timestamp ? -1 : a->timestamp < b->timestamp;
}

bool
page_list_same_key(const struct mshm_version *a, const struct mshm_version *b)
{
    return a->key_size == b->key_size &&
           (a->key == b->key || memcmp(a->key, b->key, a->key_size) == 0);
}

/* Merge sort; halves that are in order already cost one comparison. */
static void
sort(struct mshm_version *versions, struct mshm_version *scratch, uint32_t count)
{
    if (count < 2)
        return;
    uint32_t half = count / 2;
    sort(versions, scratch, half);
    sort(versions + half, scratch, count - half);
    if (page_list_order(&versions[half - 1], &versions[half]) <= 0)
        return;
    memcpy(scratch, versions, half * sizeof(*versions));
    uint32_t left = 0, right = half, at = 0;
    while (left < half && right < count) {
        bool first = page_list_order(&scratch[left], &versions[right]) <= 0;
        versions[at++] = first ? scratch[left++] : versions[right++];
    }
    memcpy(versions + at, scratch + left, (half - left) * sizeof(*versions));
}

int
page_list_sort(struct page_memory *memory, struct page_list *list)
{
    if (list->count < 2)
        return MSHM_OK;
    struct mshm_version *scratch =
        page_memory_take(memory, list->count / 2 * sizeof(*list->versions));
    if (scratch == NULL)
        return MSHM_NO_MEMORY;
    sort(list->versions, scratch, list->count);
    return MSHM_OK;
}

int
page_list_merge(struct page_memory *memory, const struct page_list *newer,
                const struct page_list *older, struct page_list *merged)
{
    if (newer->count == 0 || older->count == 0) {
        *merged = newer->count == 0 ? *older : *newer;
        return MSHM_OK;
    }
    uint32_t total = newer->count + older->count, i = 0, j = 0, at = 0;
    struct mshm_version *versions = page_memory_take(memory, total * sizeof(*versions));
    if (versions == NULL)
        return MSHM_NO_MEMORY;
    while (i < newer->count && j < older->count) {
        bool first = page_list_order(&newer->versions[i], &older->versions[j]) <= 0;
        versions[at++] = first ? newer->versions[i++] : older->versions[j++];
    }
    memcpy(versions + at, newer->versions + i, (newer->count - i) * sizeof(*versions));
    at += newer->count - i;
    memcpy(versions + at, older->versions + j, (older->count - j) * sizeof(*versions));
    *merged = (struct page_list){versions, total};
    return MSHM_OK;
}

/* --- pruning --- */

void
page_list_prune(struct page_list *list, const struct page_keep *keep, bool tombstones)
{
    const struct snapshots snapshots = {
        .horizon = keep->horizon,
        .count = keep->count,
        .list = (mshm_timestamp *)(uintptr_t)keep->snapshots, /* only read */
    };
    struct mshm_version *versions = list->versions;
    uint32_t kept = 0, count = list->count;
    for (uint32_t i = 0; i < count;) {
        uint32_t end = i + 1;
        while (end < count && page_list_same_key(&versions[i], &versions[end]))
            end++;
        bool gone = tombstones && versions[i].kind == MSHM_ENTRY_TOMBSTONE &&
                    snapshots_drop_tombstone(&snapshots, versions[i].timestamp);
        mshm_timestamp newer = 0;
        for (; i < end; i++) {
            mshm_timestamp timestamp = versions[i].timestamp;
            if (!gone && snapshots_need(&snapshots, timestamp, newer))
                versions[kept++] = versions[i];
            newer = timestamp;
        }
    }
    list->count = kept;
}

/* --- from a frame --- */

/* One entry on its way out of a frame, its sizes checked: it ends at or before `end`. */
struct entry_place {
    struct mshm_entry entry;
    const uint8_t *key;
    uint32_t next; /* bytes from the frame's start: where an older version would stand */
};

static bool
entry_take(const uint8_t *frame, uint32_t end, uint32_t at, struct entry_place *place)
{
    if (at > end || end - at < sizeof(struct mshm_entry))
        return false;
    memcpy(&place->entry, frame + at, sizeof place->entry);
    place->key = frame + at + sizeof place->entry;
    place->next = at + mshm_entry_size(place->entry.key_size, place->entry.value_size);
    return place->next <= end && place->entry.kind >= MSHM_ENTRY_VALUE &&
           place->entry.kind <= MSHM_ENTRY_MERGE;
}

static struct mshm_version
entry_version(const struct entry_place *place, const uint8_t *key, uint32_t key_size,
              uint8_t reserved)
{
    return (struct mshm_version){
        .key = key,
        .value = place->key + place->entry.key_size,
        .timestamp = mshm_entry_timestamp(&place->entry),
        .value_size = place->entry.value_size,
        .key_size = (uint16_t)key_size,
        .kind = place->entry.kind,
        .reserved = reserved,
    };
}

/* What is needed to walk over the base: copied once from the frame's header. */
struct base {
    const uint8_t *frame;
    const uint8_t *prefix;
    uint8_t *keys; /* where the next whole key is put together; NULL: there is no prefix */
    uint32_t prefix_size, key_count, slots_at, end;
};

static int
base_open(struct page_memory *memory, const uint8_t *frame, uint32_t frame_size, struct base *base,
          uint32_t *capacity)
{
    const struct mshm_page *page = (const struct mshm_page *)(const void *)frame;
    uint32_t prefix_at = page->prefix_at * 4u;
    *base = (struct base){
        .frame = frame,
        .prefix = frame + prefix_at,
        .prefix_size = page->prefix_size,
        .key_count = page->key_count,
        .slots_at = page->slots_at * 4u,
        .end = page->base_end * 4u,
    };
    if (base->end > frame_size || base->prefix_size > MSHM_MAX_KEY ||
        prefix_at + base->prefix_size > base->end ||
        base->slots_at + base->key_count * 2 > base->end)
        return MSHM_CORRUPT;
    *capacity = base->end / (uint32_t)sizeof(struct mshm_entry);
    if (base->prefix_size == 0)
        return MSHM_OK;
    base->keys = page_memory_take(memory, (size_t)base->key_count * base->prefix_size + base->end);
    return base->keys != NULL ? MSHM_OK : MSHM_NO_MEMORY;
}

/* The whole key of an entry of the base. */
static const uint8_t *
base_key(struct base *base, const struct entry_place *place)
{
    if (base->keys == NULL)
        return place->key;
    uint8_t *key = base->keys;
    memcpy(key, base->prefix, base->prefix_size);
    memcpy(key + base->prefix_size, place->key, place->entry.key_size);
    base->keys += base->prefix_size + place->entry.key_size;
    return key;
}

static int
base_take(struct page_memory *memory, const uint8_t *frame, uint32_t frame_size,
          struct page_list *list)
{
    struct base base;
    uint32_t capacity;
    int status = base_open(memory, frame, frame_size, &base, &capacity);
    if (status != MSHM_OK)
        return status;
    list->count = 0;
    list->versions = page_memory_take(memory, capacity * sizeof(*list->versions));
    if (list->versions == NULL)
        return MSHM_NO_MEMORY;
    uint32_t key_bytes = 0;
    for (uint32_t i = 0; i < base.key_count; i++) {
        uint16_t slot;
        struct entry_place place;
        memcpy(&slot, frame + base.slots_at + i * 2, sizeof slot);
        if (!entry_take(frame, base.end, slot * 4u, &place) ||
            (key_bytes += place.entry.key_size) > base.end)
            return MSHM_CORRUPT;
        const uint8_t *key = base_key(&base, &place);
        uint32_t key_size = base.prefix_size + place.entry.key_size;
        if (key_size == 0 || key_size > MSHM_MAX_KEY)
            return MSHM_CORRUPT;
        for (;;) {
            if (list->count == capacity)
                return MSHM_CORRUPT;
            list->versions[list->count++] = entry_version(&place, key, key_size, 0);
            if ((place.entry.flags & MSHM_ENTRY_MORE) == 0)
                break;
            if (!entry_take(frame, base.end, place.next, &place) || place.entry.key_size != 0)
                return MSHM_CORRUPT;
        }
    }
    return MSHM_OK;
}

/* The newest first, so that of two entries of a key and timestamp the later one stays before the earlier one. */
static int
tail_take(struct page_memory *memory, const uint8_t *frame, uint32_t frame_size,
          uint32_t tail_count, struct page_list *list)
{
    const struct mshm_leaf *leaf = (const struct mshm_leaf *)(const void *)frame;
    if (tail_count > MSHM_TAIL_CAPACITY || frame_size < sizeof(*leaf))
        return MSHM_CORRUPT;
    list->count = tail_count;
    list->versions = page_memory_take(memory, tail_count * sizeof(*list->versions));
    if (list->versions == NULL)
        return MSHM_NO_MEMORY;
    for (uint32_t i = 0; i < tail_count; i++) {
        /* The loop may write the slots behind it now: a slot is loaded alone. */
        uint32_t at = AO_short_load(&leaf->tail_slots[tail_count - 1 - i]) * 4u;
        struct entry_place place;
        if (!entry_take(frame, frame_size, at, &place) || place.entry.key_size == 0 ||
            place.entry.key_size > MSHM_MAX_KEY)
            return MSHM_CORRUPT;
        list->versions[i] = entry_version(&place, place.key, place.entry.key_size, PAGE_FROM_TAIL);
    }
    return page_list_sort(memory, list);
}

int
page_list_take_frame(struct page_memory *memory, const uint8_t *frame, uint32_t frame_size,
                     uint32_t tail_count, struct page_list *list)
{
    struct page_list base, tail;
    int status = base_take(memory, frame, frame_size, &base);
    if (status == MSHM_OK)
        status = tail_take(memory, frame, frame_size, tail_count, &tail);
    if (status == MSHM_OK)
        status = page_list_merge(memory, &tail, &base, list);
    return status;
}

int
page_list_split(struct page_memory *memory, const struct page_list *list, struct page_list *base,
                struct page_list *tail)
{
    base->count = tail->count = 0;
    base->versions = page_memory_take(memory, list->count * sizeof(*base->versions));
    tail->versions = page_memory_take(memory, MSHM_TAIL_CAPACITY * sizeof(*tail->versions));
    if (base->versions == NULL || tail->versions == NULL)
        return MSHM_NO_MEMORY;
    for (uint32_t i = 0; i < list->count; i++)
        if (list->versions[i].reserved != PAGE_FROM_TAIL)
            base->versions[base->count++] = list->versions[i];
    /* From the end, so that of two entries of a key and timestamp the older one comes first. */
    for (uint32_t i = list->count; i-- > 0;) {
        if (list->versions[i].reserved != PAGE_FROM_TAIL)
            continue;
        uint32_t at = tail->count++;
        for (; at > 0 && tail->versions[at - 1].timestamp > list->versions[i].timestamp; at--)
            tail->versions[at] = tail->versions[at - 1];
        tail->versions[at] = list->versions[i];
    }
    return MSHM_OK;
}

/* --- from blind writes --- */

int
page_list_take_blind(struct page_memory *memory, const struct blind_entry *newest,
                     mshm_timestamp above, struct page_list *list)
{
    uint32_t count = 0, at = 0;
    for (const struct blind_entry *entry = newest; entry != NULL; entry = blind_entry_older(entry))
        count += entry->timestamp > above;
    list->count = count;
    list->versions = page_memory_take(memory, count * sizeof(*list->versions));
    if (list->versions == NULL)
        return MSHM_NO_MEMORY;
    for (const struct blind_entry *entry = newest; entry != NULL;
         entry = blind_entry_older(entry)) {
        if (entry->timestamp <= above)
            continue;
        list->versions[at++] = (struct mshm_version){
            .key = entry->bytes,
            .value = entry->bytes + entry->key_size,
            .timestamp = entry->timestamp,
            .value_size = entry->value_size,
            .key_size = entry->key_size,
            .kind = entry->kind,
        };
    }
    return page_list_sort(memory, list);
}
