/* page_pack.c - from a page's frame, or from its records and blind writes, to the bytes of its next record. */
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

/* One call's state. */
struct packing {
    const struct page_source *source;
    const struct page_keep *keep;
    const struct page_place *place;
    page_read *read;
    void *read_argument;
    uint8_t *to;
    uint32_t capacity;
    struct page_packed *packed;
    struct page_memory memory;
};

/* A record about to be written. */
struct draft {
    struct page_record record;
    struct page_payload payload;
    const uint8_t *low, *high;
    const uint8_t *prefix; /* begins every key that is stripped */
    struct page_list versions, tail;
    const struct mshm_inner_spec *inner;
    data_location older[DATA_CHAIN_MAX];
    unsigned no_delta; /* the chain's part of a full record's address */
};

/* --- writing a draft --- */

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
payload_size(const struct draft *draft)
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
payload_write(const struct draft *draft, uint8_t *to)
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
payload_store(struct packing *packing, struct draft *draft, uint32_t front)
{
    struct page_record *record = &draft->record;
    uint32_t raw_size = record->raw_size;
    uint32_t room = ((front + raw_size - 1) / DATA_UNIT) * DATA_UNIT;
    record->stored_size = raw_size;
    if (record->compression == PAGE_ZSTD && room > front) {
        uint8_t *raw = page_memory_take(&packing->memory, raw_size);
        if (raw == NULL)
            return MSHM_NO_MEMORY;
        payload_write(draft, raw);
        size_t size = ZSTD_compress(packing->to + front, room - front, raw, raw_size, ZSTD_LEVEL);
        if (!ZSTD_isError(size)) {
            record->stored_size = (uint32_t)size;
            return MSHM_OK;
        }
        memcpy(packing->to + front, raw, raw_size);
    } else {
        payload_write(draft, packing->to + front);
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

static int
draft_write(struct packing *packing, struct draft *draft)
{
    struct page_record *record = &draft->record;
    uint32_t front = (uint32_t)(sizeof(*record) + record->chain * sizeof(data_location));
    uint64_t raw_size = payload_size(draft);
    if (raw_size > MSHM_MAX_FRAME || !list_fits(&draft->versions) || !list_fits(&draft->tail))
        return MSHM_CORRUPT;
    if (mshm_align_up(front + raw_size, DATA_UNIT) > packing->capacity)
        return MSHM_FULL;
    record->magic = PAGE_RECORD_MAGIC;
    record->version = PAGE_RECORD_VERSION;
    record->pid = packing->source->pid;
    record->cut = packing->source->cut;
    record->raw_size = (uint32_t)raw_size;
    int status = payload_store(packing, draft, front);
    if (status != MSHM_OK)
        return status;
    uint32_t end = front + record->stored_size;
    record->size = (uint32_t)mshm_align_up(end, DATA_UNIT);
    memset(packing->to + end, 0, record->size - end);
    memcpy(packing->to + sizeof(*record), draft->older, record->chain * sizeof(data_location));
    memcpy(packing->to, record, sizeof(*record));
    record->crc = page_record_crc(packing->place, packing->to, record->size);
    memcpy(packing->to, record, sizeof(*record));
    return MSHM_OK;
}

/* --- what a call reports --- */

static void
report_nothing(struct packing *packing, const data_location *older)
{
    *packing->packed = (struct page_packed){
        .location = packing->source->location,
        .older_count = data_location_older(packing->source->location),
    };
    memcpy(packing->packed->older, older, packing->packed->older_count * sizeof(*older));
}

static void
report_record(struct packing *packing, const struct draft *draft, const data_location *older)
{
    const struct page_place *place = packing->place;
    const struct page_record *record = &draft->record;
    struct page_packed *packed = packing->packed;
    unsigned chain = record->chain > 0 ? record->chain : draft->no_delta;
    *packed = (struct page_packed){
        .location = data_location_make(place->file, chain, place->offset, record->size),
        .size = record->size,
        .older_count = record->chain,
    };
    memcpy(packed->older, draft->older, record->chain * sizeof(data_location));
    if (record->chain > 0 || packing->source->location == 0)
        return;
    packed->dead_count = 1 + data_location_older(packing->source->location);
    packed->dead[0] = packing->source->location;
    memcpy(packed->dead + 1, older, (packed->dead_count - 1) * sizeof(*older));
}

/* --- full records and deltas of leaves --- */

/* The part of its address that says whether a leaf's full record may get deltas: with all that may come they must fit into
 * a frame (DATA_DELTA_BASE_MAX). */
static unsigned
delta_verdict(const struct draft *draft)
{
    enum { FRONT = sizeof(struct mshm_leaf) + sizeof(struct mshm_hash_bucket) + 5 * 4 };
    uint64_t cost = FRONT + draft->payload.low_size + fence_bytes(draft->payload.high_size);
    cost += (DATA_CHAIN_MAX + 2) * DATA_DELTA_MAX;
    const struct page_list *list = &draft->versions;
    for (uint32_t i = 0; i < list->count; i++)
        cost += data_version_cost(list->versions[i].key_size, list->versions[i].value_size);
    return draft->tail.count == 0 && cost <= MSHM_MAX_FRAME &&
                   payload_size(draft) <= DATA_DELTA_BASE_MAX
               ? 0
               : DATA_NO_DELTA;
}

static bool
delta_allowed(const struct page_source *source)
{
    unsigned chain = data_location_chain(source->location);
    return !source->full && source->location != 0 && chain < DATA_CHAIN_MAX;
}

static bool
delta_fits(const struct page_list *list)
{
    uint64_t cost = 0;
    for (uint32_t i = 0; i < list->count; i++)
        cost += data_version_cost(list->versions[i].key_size, list->versions[i].value_size);
    return cost <= DATA_DELTA_MAX;
}

/* Turns a full leaf's draft into that of a delta with these versions. */
static void
draft_delta(struct draft *draft, const struct page_source *source, const data_location *older,
            const struct page_list *list)
{
    unsigned count = data_location_older(source->location);
    draft->record.kind = PAGE_RECORD_DELTA;
    draft->record.chain = (uint8_t)(count + 1);
    draft->record.count = list->count;
    draft->payload = (struct page_payload){0};
    draft->versions = *list;
    draft->tail.count = 0;
    draft->older[0] = source->location;
    memcpy(draft->older + 1, older, count * sizeof(*older));
}

/* Completes a full leaf's draft, whose versions and fences are set. */
static void
draft_leaf(struct draft *draft)
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
    draft->no_delta = delta_verdict(draft);
}

static void
draft_inner(struct draft *draft, const struct mshm_inner_spec *inner)
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
}

/* --- records that are there --- */

/* Reads and checks a whole record of the page. */
static int
record_read(struct packing *packing, data_location location, const uint8_t **bytes)
{
    uint32_t size = data_location_size(location);
    uint8_t *to = page_memory_take(&packing->memory, size);
    if (to == NULL)
        return MSHM_NO_MEMORY;
    int status = packing->read(packing->read_argument, location, 0, to, size);
    if (status == MSHM_OK)
        status = page_record_check(to, size, location, packing->place->database_id,
                                   packing->source->pid, NULL);
    *bytes = to;
    return status;
}

/* The addresses below the page's newest record, wherever they are known from. */
static int
older_find(struct packing *packing, data_location *older)
{
    const struct page_source *source = packing->source;
    unsigned count = data_location_older(source->location);
    const uint8_t *bytes;
    if (count > DATA_CHAIN_MAX)
        return MSHM_CORRUPT;
    if (count == 0)
        return MSHM_OK;
    if (source->older != NULL) {
        memcpy(older, source->older, count * sizeof(*older));
        return MSHM_OK;
    }
    int status = record_read(packing, source->location, &bytes);
    if (status == MSHM_OK)
        page_record_older(bytes, older);
    return status;
}

/* --- a page in memory --- */

static struct page_list
list_above(struct packing *packing, const struct page_list *list, mshm_timestamp above)
{
    struct page_list newer = {NULL, 0};
    for (uint32_t i = 0; i < list->count; i++)
        newer.count += list->versions[i].timestamp > above;
    newer.versions = page_memory_take(&packing->memory, newer.count * sizeof(*newer.versions));
    if (newer.versions == NULL)
        return newer;
    for (uint32_t i = 0, at = 0; i < list->count; i++)
        if (list->versions[i].timestamp > above)
            newer.versions[at++] = list->versions[i];
    return newer;
}

static uint64_t
record_size(const struct draft *draft)
{
    return mshm_align_up(sizeof(struct page_record) + draft->record.chain * sizeof(data_location) +
                             payload_size(draft),
                         DATA_UNIT);
}

/* A delta when there is something to gain. *done: it was written, or there is nothing to write. */
static int
frame_delta(struct packing *packing, const struct draft *full, const data_location *older,
            bool *done)
{
    const struct page_source *source = packing->source;
    struct draft draft = *full;
    struct page_list list = list_above(packing, &full->versions, source->since);
    if (list.versions == NULL)
        return MSHM_NO_MEMORY;
    *done = list.count == 0;
    if (list.count == 0) {
        report_nothing(packing, older);
        return MSHM_OK;
    }
    draft_delta(&draft, source, older, &list);
    if (!delta_fits(&list) || record_size(&draft) * 2 > record_size(full))
        return MSHM_OK;
    *done = true;
    int status = draft_write(packing, &draft);
    if (status == MSHM_OK)
        report_record(packing, &draft, older);
    return status;
}

/* The whole leaf. Where its keys do not fit into one base, what stands in its tail stays apart. */
static int
frame_full(struct packing *packing, struct draft *draft, const data_location *older)
{
    const struct page_source *source = packing->source;
    const struct mshm_page *page = (const struct mshm_page *)(const void *)source->frame;
    /* Under a tombstone there may be versions in the history that it must hide. */
    page_list_prune(&draft->versions, packing->keep, AO_load(&page->history) == 0);
    struct mshm_leaf_spec spec = {
        .kind = MSHM_PAGE_LEAF,
        .low_size = draft->payload.low_size,
        .high_size = draft->payload.high_size,
        .versions = draft->versions.versions,
        .count = draft->versions.count,
    };
    int status = MSHM_OK;
    if (mshm_leaf_size(&spec) == UINT32_MAX) {
        struct page_list whole = draft->versions;
        status = page_list_split(&packing->memory, &whole, &draft->versions, &draft->tail);
    }
    if (status != MSHM_OK)
        return status;
    draft_leaf(draft);
    status = draft_write(packing, draft);
    if (status == MSHM_OK)
        report_record(packing, draft, older);
    return status;
}

static int
frame_leaf(struct packing *packing, struct draft *draft, const data_location *older)
{
    const struct page_source *source = packing->source;
    bool done = false;
    int status = page_list_take_frame(&packing->memory, source->frame, source->frame_size,
                                      source->tail_count, &draft->versions);
    if (status != MSHM_OK)
        return status;
    page_list_prune(&draft->versions, packing->keep, false);
    draft_leaf(draft);
    if (delta_allowed(source))
        status = frame_delta(packing, draft, older, &done);
    return status != MSHM_OK || done ? status : frame_full(packing, draft, older);
}

static int
frame_inner(struct packing *packing, struct draft *draft, const data_location *older)
{
    const struct page_source *source = packing->source;
    const struct mshm_page *page = (const struct mshm_page *)(const void *)source->frame;
    uint32_t count = page->key_count;
    size_t key_bytes = (size_t)count * page->prefix_size + source->frame_size;
    struct mshm_separator *separators =
        page_memory_take(&packing->memory, count * sizeof(*separators));
    mshm_pid *children = page_memory_take(&packing->memory, (count + 1) * sizeof(*children));
    uint8_t *keys = page_memory_take(&packing->memory, key_bytes);
    if (separators == NULL || children == NULL || keys == NULL)
        return MSHM_NO_MEMORY;
    int taken = mshm_inner_take(source->frame, source->frame_size, separators, children, count,
                                keys, (uint32_t)key_bytes);
    if (taken < 0)
        return MSHM_CORRUPT;
    struct mshm_inner_spec inner = {
        .level = page->level,
        .separators = separators,
        .children = children,
        .count = (uint32_t)taken,
    };
    draft_inner(draft, &inner);
    int status = draft_write(packing, draft);
    if (status == MSHM_OK)
        report_record(packing, draft, older);
    return status;
}

static int
pack_frame(struct packing *packing)
{
    const struct page_source *source = packing->source;
    const struct mshm_page *page = (const struct mshm_page *)(const void *)source->frame;
    struct mshm_fences fences;
    data_location older[DATA_CHAIN_MAX];
    if (mshm_page_fences(source->frame, source->frame_size, &fences) != MSHM_OK ||
        page->pid != source->pid)
        return MSHM_CORRUPT;
    struct draft draft = {
        .record = {.birth = source->birth,
                   .bucket = source->bucket,
                   .compression = source->compression == PAGE_ZSTD ? PAGE_ZSTD : PAGE_PLAIN,
                   .frame_class = (uint8_t)__builtin_ctz(source->frame_size / MSHM_UNIT)},
        .payload = {.right = fences.right,
                    .low_size = fences.low_size,
                    .high_size = fences.high_size},
        .low = fences.low,
        .high = fences.high,
    };
    int status = older_find(packing, older);
    if (status != MSHM_OK)
        return status;
    if (page->kind == MSHM_PAGE_INNER)
        return frame_inner(packing, &draft, older);
    return page->kind == MSHM_PAGE_LEAF ? frame_leaf(packing, &draft, older) : MSHM_CORRUPT;
}

/* --- a page that is not in memory --- */

/* What the loaded content has become goes into a full record. */
static int
absent_write(struct packing *packing, const struct page_content *content,
             const struct page_record *oldest, const data_location *older)
{
    struct page_facts facts;
    const struct page_image *apart = page_content_apart(content);
    page_content_facts(content, &facts);
    if (page_content_size(content) == UINT32_MAX)
        return MSHM_CORRUPT;
    bool zstd = packing->source->compression == PAGE_ZSTD || oldest->compression == PAGE_ZSTD;
    struct draft draft = {
        .record = {.birth = facts.birth,
                   .bucket = facts.bucket,
                   .compression = zstd ? PAGE_ZSTD : PAGE_PLAIN,
                   .frame_class = facts.frame_class},
    };
    if (facts.kind == MSHM_PAGE_INNER) {
        const struct mshm_inner_spec *inner = page_content_inner(content);
        draft.payload.right = inner->right;
        draft.payload.low_size = inner->low_size;
        draft.payload.high_size = inner->high_size;
        draft.low = inner->low;
        draft.high = inner->high;
        draft_inner(&draft, inner);
    } else {
        const struct mshm_leaf_spec *leaf = page_content_leaf(content);
        draft.payload.right = leaf->right;
        draft.payload.low_size = leaf->low_size;
        draft.payload.high_size = leaf->high_size;
        draft.low = leaf->low;
        draft.high = leaf->high;
        draft.versions.versions = (struct mshm_version *)(uintptr_t)leaf->versions; /* only read */
        draft.versions.count = leaf->count;
        if (apart != NULL) {
            draft.versions = apart->versions;
            draft.tail = apart->tail;
        }
        draft_leaf(&draft);
    }
    int status = draft_write(packing, &draft);
    if (status == MSHM_OK)
        report_record(packing, &draft, older);
    return status;
}

/* Reads the rest of the chain, and merges. */
static int
absent_full(struct packing *packing, const uint8_t *newest, const data_location *older)
{
    const struct page_source *source = packing->source;
    const void *records[DATA_CHAIN_MAX + 1] = {newest};
    unsigned count = 1 + data_location_older(source->location);
    struct page_content *content = NULL;
    struct page_record oldest;
    int status = page_content_create(&content);
    for (unsigned i = 1; i < count && status == MSHM_OK; i++) {
        const uint8_t *bytes = NULL;
        status = record_read(packing, older[i - 1], &bytes);
        records[i] = bytes;
    }
    if (status == MSHM_OK)
        status = page_content_load(content, records, count, &source->blind, 1, packing->keep, NULL);
    if (status == MSHM_OK) {
        memcpy(&oldest, records[count - 1], sizeof oldest);
        status = absent_write(packing, content, &oldest, older);
    }
    page_content_destroy(content);
    return status;
}

static int
pack_absent(struct packing *packing)
{
    const struct page_source *source = packing->source;
    data_location older[DATA_CHAIN_MAX];
    struct page_record newest;
    struct page_list list;
    const uint8_t *bytes;
    assert(source->location != 0); /* a page that is in no frame is on disk */
    int status = record_read(packing, source->location, &bytes);
    if (status != MSHM_OK)
        return status;
    memcpy(&newest, bytes, sizeof newest);
    page_record_older(bytes, older);
    status = page_list_take_blind(&packing->memory, source->blind, newest.cut, &list);
    if (status != MSHM_OK)
        return status;
    page_list_prune(&list, packing->keep, false);
    if (list.count == 0 && !source->full) {
        report_nothing(packing, older);
        return MSHM_OK;
    }
    if (!delta_allowed(source) || newest.kind == PAGE_RECORD_INNER || !delta_fits(&list))
        return absent_full(packing, bytes, older);
    struct draft draft = {
        .record = {.birth = newest.birth,
                   .bucket = newest.bucket,
                   .compression = source->compression == PAGE_ZSTD ? PAGE_ZSTD : PAGE_PLAIN,
                   .frame_class = newest.frame_class},
    };
    draft_delta(&draft, source, older, &list);
    status = draft_write(packing, &draft);
    if (status == MSHM_OK)
        report_record(packing, &draft, older);
    return status;
}

int
page_pack(const struct page_source *source, const struct page_keep *keep,
          const struct page_place *place, page_read *read, void *read_argument, uint8_t *to,
          uint32_t capacity, struct page_packed *packed)
{
    struct packing packing = {
        .source = source,
        .keep = keep,
        .place = place,
        .read = read,
        .read_argument = read_argument,
        .to = to,
        .capacity = capacity,
        .packed = packed,
    };
    int status = source->frame != NULL ? pack_frame(&packing) : pack_absent(&packing);
    page_memory_fini(&packing.memory);
    return status;
}
