/* page_draft.c - a record about to be written: what goes into it, how large it is, its bytes. */
#include <assert.h>
#include <string.h>

#include "mshm/status.h"
#include "page_parts.h"

static_assert(sizeof(struct page_record) + DATA_CHAIN_MAX * sizeof(data_location) + MSHM_MAX_FRAME +
                      DATA_UNIT <=
                  PAGE_PACK_MAX,
              "the buffer that always suffices holds the largest record");
static_assert(PAGE_PACK_MAX / DATA_UNIT <= 0xfff, "a record's size fits its address");

enum { ZSTD_LEVEL = 1 };

/* --- sizes --- */

static uint32_t
common_prefix(const uint8_t *a, uint32_t a_size, const uint8_t *b, uint32_t b_size)
{
    uint32_t limit = a_size < b_size ? a_size : b_size, size = 0;
    while (size < limit && a[size] == b[size])
        size++;
    return size;
}

static uint32_t
fence_bytes(uint16_t size)
{
    return size == MSHM_FENCE_INFINITE ? 0 : size;
}

/* join: another version of the key before goes without its key. */
static uint64_t
list_size(const struct page_list *list, uint32_t prefix_size, bool join)
{
    uint64_t size = list->count * sizeof(struct page_version);
    for (uint32_t i = 0; i < list->count; i++) {
        const struct mshm_version *version = &list->versions[i];
        size += version->value_size;
        if (!join || i == 0 || !page_list_same_key(version - 1, version))
            size += version->key_size - prefix_size;
    }
    return size;
}

static uint64_t
payload_size(const struct page_draft *draft)
{
    const struct page_payload *payload = &draft->payload;
    uint64_t size = sizeof(*payload) + payload->low_size + fence_bytes(payload->high_size) +
                    payload->prefix_size;
    if (draft->inner == NULL)
        return size + list_size(&draft->versions, payload->prefix_size, true) +
               list_size(&draft->tail, 0, false);
    size += sizeof(mshm_pid);
    for (uint32_t i = 0; i < draft->inner->count; i++)
        size += sizeof(mshm_pid) + sizeof(uint16_t) + draft->inner->separators[i].size -
                payload->prefix_size;
    return size;
}

/* --- what goes into it --- */

/* The part of its address that says whether a leaf's full record may get deltas: with all that may come they must fit
 * into a frame (DATA_DELTA_BASE_MAX). */
static unsigned
delta_verdict(const struct page_draft *draft)
{
    enum { FRONT = sizeof(struct mshm_leaf) + sizeof(struct mshm_hash_bucket) + 5 * 4 };
    uint64_t cost = FRONT + draft->payload.low_size + fence_bytes(draft->payload.high_size);
    cost += (DATA_CHAIN_MAX + 2) * DATA_DELTA_MAX;
    const struct page_list *list = &draft->versions;
    for (uint32_t i = 0; i < list->count; i++)
        cost += data_version_cost(list->versions[i].key_size, list->versions[i].value_size);
    return draft->tail.count == 0 && cost <= MSHM_MAX_FRAME &&
                   draft->raw_size <= DATA_DELTA_BASE_MAX
               ? 0
               : DATA_NO_DELTA;
}

/* Turns a full leaf's draft into that of a delta with these versions. */
void
page_draft_delta(struct page_draft *draft, data_location location, const data_location *older,
                 const struct page_list *list)
{
    unsigned count = data_location_older(location);
    draft->record.kind = PAGE_RECORD_DELTA;
    draft->record.chain = (uint8_t)(count + 1);
    draft->record.count = list->count;
    draft->payload = (struct page_payload){0};
    draft->versions = *list;
    draft->tail.count = 0;
    draft->older[0] = location;
    memcpy(draft->older + 1, older, count * sizeof(*older));
    draft->raw_size = payload_size(draft);
}

/* Completes a full leaf's draft, whose versions and fences are set. */
void
page_draft_leaf(struct page_draft *draft)
{
    const struct page_list *list = &draft->versions;
    uint32_t prefix_size = 0;
    if (list->count > 0) {
        const struct mshm_version *first = &list->versions[0], *last = first + list->count - 1;
        prefix_size = common_prefix(first->key, first->key_size, last->key, last->key_size);
        draft->prefix = first->key;
    }
    draft->record.kind = PAGE_RECORD_LEAF;
    draft->record.count = list->count + draft->tail.count;
    draft->payload.prefix_size = (uint16_t)prefix_size;
    draft->payload.tail_count = (uint16_t)draft->tail.count;
    draft->raw_size = payload_size(draft);
    draft->no_delta = delta_verdict(draft);
}

void
page_draft_inner(struct page_draft *draft, const struct mshm_inner_spec *inner)
{
    const struct mshm_separator *separators = inner->separators;
    uint32_t prefix_size = 0;
    if (inner->count > 0) {
        const struct mshm_separator *last = &separators[inner->count - 1];
        prefix_size = common_prefix(separators[0].key, separators[0].size, last->key, last->size);
        draft->prefix = separators[0].key;
    }
    draft->record.kind = PAGE_RECORD_INNER;
    draft->record.level = inner->level;
    draft->record.count = inner->count;
    draft->payload.prefix_size = (uint16_t)prefix_size;
    draft->inner = inner;
    draft->raw_size = payload_size(draft);
}

uint64_t
page_draft_size(const struct page_draft *draft)
{
    uint32_t chain = draft->record.chain * (uint32_t)sizeof(data_location);
    return mshm_align_up(sizeof(struct page_record) + chain + draft->raw_size, DATA_UNIT);
}

/* --- bytes --- */

static uint8_t *
bytes_write(uint8_t *at, const void *bytes, size_t size)
{
    if (size > 0)
        memcpy(at, bytes, size);
    return at + size;
}

static uint8_t *
list_write(uint8_t *at, const struct page_list *list, uint32_t prefix_size, bool join)
{
    for (uint32_t i = 0; i < list->count; i++) {
        const struct mshm_version *version = &list->versions[i];
        bool same = join && i > 0 && page_list_same_key(version - 1, version);
        uint32_t key_size = same ? 0 : version->key_size - prefix_size;
        struct page_version front = {
            .low = (uint32_t)(version->timestamp << 8) | version->kind |
                   (same ? (uint32_t)PAGE_SAME_KEY : 0),
            .high = (uint32_t)(version->timestamp >> 24),
            .key_size = (uint16_t)key_size,
            .value_size = (uint16_t)version->value_size,
        };
        memcpy(at, &front, sizeof front);
        at = bytes_write(at + sizeof front, version->key + prefix_size, key_size);
        at = bytes_write(at, version->value, version->value_size);
    }
    return at;
}

static uint8_t *
inner_write(uint8_t *at, const struct mshm_inner_spec *inner, uint32_t prefix_size)
{
    at = bytes_write(at, inner->children, (inner->count + 1) * sizeof(mshm_pid));
    for (uint32_t i = 0; i < inner->count; i++) {
        uint16_t size = (uint16_t)(inner->separators[i].size - prefix_size);
        at = bytes_write(at, &size, sizeof size);
        at = bytes_write(at, inner->separators[i].key + prefix_size, size);
    }
    return at;
}

static void
payload_write(const struct page_draft *draft, uint8_t *to)
{
    const struct page_payload *payload = &draft->payload;
    uint8_t *at = bytes_write(to, payload, sizeof(*payload));
    at = bytes_write(at, draft->low, payload->low_size);
    at = bytes_write(at, draft->high, fence_bytes(payload->high_size));
    at = bytes_write(at, draft->prefix, payload->prefix_size);
    if (draft->inner != NULL) {
        at = inner_write(at, draft->inner, payload->prefix_size);
    } else {
        at = list_write(at, &draft->versions, payload->prefix_size, true);
        at = list_write(at, &draft->tail, 0, false);
    }
    assert((uint32_t)(at - to) == draft->record.raw_size);
}

/* Writes the payload behind `front` bytes of record, compressed when that saves a unit. MSHM_OK, MSHM_NO_MEMORY. */
static int
payload_store(struct page_memory *memory, struct page_draft *draft, uint8_t *to, uint32_t front)
{
    struct page_record *record = &draft->record;
    uint32_t raw_size = record->raw_size;
    uint32_t room = ((front + raw_size - 1) / DATA_UNIT) * DATA_UNIT;
    record->stored_size = raw_size;
    if (record->compression == PAGE_ZSTD && room > front) {
        uint8_t *raw = page_memory_take(memory, raw_size);
        if (raw == NULL)
            return MSHM_NO_MEMORY;
        payload_write(draft, raw);
        size_t size = ZSTD_compress(to + front, room - front, raw, raw_size, ZSTD_LEVEL);
        if (!ZSTD_isError(size)) {
            record->stored_size = (uint32_t)size;
            return MSHM_OK;
        }
        memcpy(to + front, raw, raw_size);
    } else {
        payload_write(draft, to + front);
    }
    record->compression = PAGE_PLAIN;
    return MSHM_OK;
}

/* Nobody writes such versions; a damaged frame may hold them. */
static bool
list_fits(const struct page_list *list)
{
    for (uint32_t i = 0; i < list->count; i++)
        if (list->versions[i].timestamp > PAGE_TIMESTAMP_MAX || list->versions[i].timestamp == 0 ||
            list->versions[i].value_size > UINT16_MAX)
            return false;
    return true;
}

int
page_draft_write(struct page_memory *memory, struct page_draft *draft,
                 const struct page_place *place, uint8_t *to, uint32_t capacity)
{
    struct page_record *record = &draft->record;
    uint32_t front = (uint32_t)(sizeof(*record) + record->chain * sizeof(data_location));
    uint64_t raw_size = draft->raw_size;
    if (raw_size > MSHM_MAX_FRAME || !list_fits(&draft->versions) || !list_fits(&draft->tail))
        return MSHM_CORRUPT;
    if (mshm_align_up(front + raw_size, DATA_UNIT) > capacity)
        return MSHM_FULL;
    record->magic = PAGE_RECORD_MAGIC;
    record->version = PAGE_RECORD_VERSION;
    record->raw_size = (uint32_t)raw_size;
    int status = payload_store(memory, draft, to, front);
    if (status != MSHM_OK)
        return status;
    uint32_t end = front + record->stored_size;
    record->size = (uint32_t)mshm_align_up(end, DATA_UNIT);
    memset(to + end, 0, record->size - end);
    memcpy(to + sizeof(*record), draft->older, record->chain * sizeof(data_location));
    memcpy(to, record, sizeof(*record));
    record->crc = page_record_crc(place, to, record->size);
    memcpy(to, record, sizeof(*record));
    return MSHM_OK;
}
