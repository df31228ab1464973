/* page_pack.c - from a page's frame, or from its records and blind writes, to the bytes of its next record. */
#include <assert.h>
#include <string.h>

#include "mshm/status.h"
#include "page_parts.h"

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
    bool
        older_lost; /* the addresses below the newest record cannot be had: a full record names none */
};

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
report_known(struct page_packed *packed, const struct page_record *record)
{
    packed->known = (struct page_known){
        .location = packed->location,
        .birth = record->birth,
        .cut = record->cut,
        .bucket = record->bucket,
        .frame_class = record->frame_class,
    };
    memcpy(packed->known.older, packed->older, sizeof packed->older);
}

static void
report_record(struct packing *packing, const struct page_draft *draft, const data_location *older)
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
    if (record->kind != PAGE_RECORD_INNER)
        report_known(packed, record);
    if (packing->source->location == 0)
        return;
    if (record->chain > 0) {
        packed->dead_count = record->chain == data_location_older(packing->source->location);
        packed->dead[0] = packing->source->location;
        return;
    }
    unsigned count = data_location_older(packing->source->location);
    packed->lost = packing->older_lost ? count : 0;
    packed->dead_count = 1 + count - packed->lost;
    packed->dead[0] = packing->source->location;
    memcpy(packed->dead + 1, older, (packed->dead_count - 1) * sizeof(*older));
}

/* Writes the record and reports it. */
static int
record_write(struct packing *packing, struct page_draft *draft, const data_location *older)
{
    draft->record.pid = packing->source->pid;
    draft->record.cut = packing->source->cut;
    int status =
        page_draft_write(&packing->memory, draft, packing->place, packing->to, packing->capacity);
    if (status == MSHM_OK)
        report_record(packing, draft, older);
    return status;
}

/* --- deltas --- */

static bool
delta_allowed(const struct packing *packing)
{
    const struct page_source *source = packing->source;
    return !source->full && !packing->older_lost && source->location != 0 &&
           data_location_chain(source->location) <= DATA_CHAIN_MAX;
}

static uint64_t
list_cost(const struct page_list *list)
{
    uint64_t cost = 0;
    for (uint32_t i = 0; i < list->count; i++)
        cost += data_version_cost(list->versions[i].key_size, list->versions[i].value_size);
    return cost;
}

/* The delta that goes on top of the chain: `list`, or in place of the newest delta: `merged`, both lists together (no
 * versions: there is none, or it is not known). False: neither will do. */
static bool
delta_draft(const struct page_source *source, const data_location *older,
            const struct page_list *list, const struct page_list *merged, struct page_draft *draft)
{
    unsigned chain = data_location_older(source->location);
    if (chain > 0 && merged->count > 0 && list_cost(merged) <= DATA_MERGED_MAX) {
        page_draft_delta(draft, older[0], older + 1, merged);
        return true;
    }
    if (chain >= DATA_CHAIN_MAX || list_cost(list) > DATA_DELTA_MAX)
        return false;
    page_draft_delta(draft, source->location, older, list);
    return true;
}

static uint64_t
blind_cost(const struct page_source *source)
{
    uint64_t cost = 0;
    for (const struct blind_entry *entry = source->blind; entry != NULL;
         entry = blind_entry_older(entry))
        cost += data_version_cost(entry->key_size, entry->value_size);
    return cost;
}

/* A delta with nothing but the new writes is right when the page has none yet, or when the newest one is so large that both
 * together would be too large: a version costs more than it takes in a record. */
enum page_reads
page_pack_reads(const struct page_source *source)
{
    enum { BESIDE = sizeof(struct page_record) + DATA_CHAIN_MAX * sizeof(data_location) };
    unsigned older = data_location_older(source->location);
    bool known = source->known.location != 0;
    if (source->frame != NULL)
        return PAGE_READS_NOTHING;
    uint64_t cost = blind_cost(source), both = cost + data_location_size(source->location);
    if (source->full || cost > DATA_DELTA_MAX ||
        data_location_chain(source->location) > DATA_CHAIN_MAX ||
        (older == DATA_CHAIN_MAX && both > DATA_MERGED_MAX))
        return older > 0 ? PAGE_READS_CHAIN : PAGE_READS_NEWEST;
    bool merges =
        older == DATA_CHAIN_MAX || (older > 0 && both <= DATA_MERGED_MAX + BESIDE + DATA_UNIT);
    return merges || !known ? PAGE_READS_NEWEST : PAGE_READS_NOTHING;
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

/* A delta when there is something to gain. *done: it was written, or there is nothing to write. */
static int
frame_delta(struct packing *packing, const struct page_draft *full, const data_location *older,
            bool *done)
{
    const struct page_source *source = packing->source;
    struct page_draft draft = *full;
    struct page_list list = list_above(packing, &full->versions, source->since), merged = {NULL, 0};
    if (list.versions != NULL && source->below != 0)
        merged = list_above(packing, &full->versions, source->below);
    if (list.versions == NULL || (merged.versions == NULL && source->below != 0))
        return MSHM_NO_MEMORY;
    *done = list.count == 0;
    if (list.count == 0) {
        report_nothing(packing, older);
        return MSHM_OK;
    }
    if (!delta_draft(source, older, &list, &merged, &draft) ||
        page_draft_size(&draft) * 2 > page_draft_size(full))
        return MSHM_OK;
    *done = true;
    return record_write(packing, &draft, older);
}

/* The whole leaf. Where its keys do not fit into one base, what stands in its tail stays apart. */
static int
frame_full(struct packing *packing, struct page_draft *draft, const data_location *older)
{
    const struct page_source *source = packing->source;
    const struct mshm_page *page = (const struct mshm_page *)(const void *)source->frame;
    /* Under a tombstone there may be versions in the history that it must hide. */
    if (AO_load(&page->history) == 0)
        page_list_prune(&draft->versions, packing->keep, true);
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
    page_draft_leaf(draft);
    return record_write(packing, draft, older);
}

static int
frame_leaf(struct packing *packing, struct page_draft *draft, const data_location *older)
{
    const struct page_source *source = packing->source;
    bool done = false;
    int status = page_list_take_frame(&packing->memory, source->frame, source->frame_size,
                                      source->tail_count, &draft->versions);
    if (status != MSHM_OK)
        return status;
    page_list_prune(&draft->versions, packing->keep, false);
    page_draft_leaf(draft);
    if (delta_allowed(packing))
        status = frame_delta(packing, draft, older, &done);
    return status != MSHM_OK || done ? status : frame_full(packing, draft, older);
}

static int
frame_inner(struct packing *packing, struct page_draft *draft, const data_location *older)
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
    page_draft_inner(draft, &inner);
    return record_write(packing, draft, older);
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
    struct page_draft draft = {
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
    packing->older_lost = page_is_lost(status);
    if (status != MSHM_OK && !packing->older_lost)
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
    struct page_draft draft = {
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
        page_draft_inner(&draft, inner);
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
        page_draft_leaf(&draft);
    }
    return record_write(packing, &draft, older);
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

/* What is new and what the newest delta holds, together. */
static int
absent_merge(struct packing *packing, const uint8_t *newest, const struct page_list *list,
             struct page_list *merged)
{
    ZSTD_DCtx *zstd = NULL;
    struct page_image delta;
    int status = page_unpack(&packing->memory, &zstd, newest, 0, &delta, NULL);
    if (status == MSHM_OK)
        status = page_list_merge(&packing->memory, list, &delta.versions, merged);
    if (status == MSHM_OK)
        page_list_prune(merged, packing->keep, false);
    ZSTD_freeDCtx(zstd);
    return status;
}

/* What the delta has to know of the newest record. *bytes: all of it, where it was read. */
static int
newest_find(struct packing *packing, struct page_record *newest, data_location *older,
            const uint8_t **bytes)
{
    const struct page_source *source = packing->source;
    const struct page_known *known = &source->known;
    if (page_pack_reads(source) != PAGE_READS_NOTHING) {
        int status = record_read(packing, source->location, bytes);
        if (status != MSHM_OK)
            return status;
        memcpy(newest, *bytes, sizeof *newest);
        page_record_older(*bytes, older);
        return MSHM_OK;
    }
    *newest = (struct page_record){
        .birth = known->birth,
        .cut = known->cut,
        .bucket = known->bucket,
        .kind = data_location_older(source->location) > 0 ? PAGE_RECORD_DELTA : PAGE_RECORD_LEAF,
        .frame_class = known->frame_class,
    };
    memcpy(older, known->older, sizeof known->older);
    return MSHM_OK;
}

static int
pack_absent(struct packing *packing)
{
    const struct page_source *source = packing->source;
    data_location older[DATA_CHAIN_MAX];
    struct page_record newest;
    struct page_list list, merged = {NULL, 0};
    const uint8_t *bytes = NULL;   /* of the newest record, if they are needed */
    assert(source->location != 0); /* a page that is in no frame is on disk */
    int status = newest_find(packing, &newest, older, &bytes);
    if (status != MSHM_OK)
        return status;
    status = page_list_take_blind(&packing->memory, source->blind, newest.cut, &list);
    if (status != MSHM_OK)
        return status;
    page_list_prune(&list, packing->keep, false);
    if (list.count == 0 && !source->full) {
        report_nothing(packing, older);
        return MSHM_OK;
    }
    if (bytes != NULL && newest.kind == PAGE_RECORD_DELTA && !source->full)
        status = absent_merge(packing, bytes, &list, &merged);
    if (status != MSHM_OK)
        return status;
    struct page_draft draft = {
        .record = {.birth = newest.birth,
                   .bucket = newest.bucket,
                   .compression = source->compression == PAGE_ZSTD ? PAGE_ZSTD : PAGE_PLAIN,
                   .frame_class = newest.frame_class},
    };
    if (!delta_allowed(packing) || newest.kind == PAGE_RECORD_INNER ||
        !delta_draft(source, older, &list, &merged, &draft)) {
        assert(bytes != NULL);
        return absent_full(packing, bytes, older);
    }
    return record_write(packing, &draft, older);
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
