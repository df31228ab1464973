/* page_content.c - a page as a whole, from its records and the writes that are not on disk, ready for a frame. */
#include <stdlib.h>
#include <string.h>

#include "mshm/status.h"
#include "page_parts.h"

struct page_content {
    struct page_memory memory;
    ZSTD_DCtx *zstd; /* NULL until it is needed */
    struct page_facts facts;
    struct page_image full; /* the record at the end of the chain */
    struct mshm_leaf_spec leaf;
    struct mshm_inner_spec inner;
    bool apart; /* the leaf fits only with full.tail in its tail */
    uint32_t size;
};

int
page_content_create(struct page_content **content)
{
    *content = calloc(1, sizeof(**content));
    return *content != NULL ? MSHM_OK : MSHM_NO_MEMORY;
}

void
page_content_destroy(struct page_content *content)
{
    if (content == NULL)
        return;
    page_memory_fini(&content->memory);
    ZSTD_freeDCtx(content->zstd);
    free(content);
}

static int
refuse(const char **why, const char *wrong)
{
    if (why != NULL)
        *why = wrong;
    return MSHM_CORRUPT;
}

/* --- the chain --- */

/* Each record is the next one of the chain that the newest one names, and of the same page. */
static const char *
check_chain(const void *const *records, unsigned count)
{
    struct page_record newest, record, newer;
    data_location addresses[DATA_CHAIN_MAX], older[DATA_CHAIN_MAX];
    memcpy(&newest, records[0], sizeof newest);
    if (newest.chain + 1u != count)
        return "the page's chain has another length";
    page_record_older(records[0], addresses);
    newer = newest;
    for (unsigned i = 1; i < count; i++, newer = record) {
        memcpy(&record, records[i], sizeof record);
        if (record.chain + i != newest.chain)
            return "the page's chain has another length";
        if (record.birth != newest.birth)
            return "the records of the page are of different births";
        if (record.pid != newest.pid || record.bucket != newest.bucket)
            return "the records are of different pages";
        if (record.cut > newer.cut)
            return "an older record of the page has a newer cut";
        page_record_older(records[i], older);
        if (memcmp(older, addresses + i, record.chain * sizeof(*older)) != 0)
            return "the records of the page name different chains";
    }
    return newer.kind == PAGE_RECORD_INNER && count > 1 ? "an inner page has deltas" : NULL;
}

/* --- leaves --- */

/* What came after the full record: deltas and blind writes, oldest first: each goes before what it is merged to. */
static int
load_changes(struct page_content *content, const void *const *records, unsigned count,
             const struct blind_entry *const *blind, unsigned blind_count,
             struct page_list *changes, const char **why)
{
    struct page_record record;
    int status = MSHM_OK;
    *changes = (struct page_list){0};
    for (unsigned i = count - 1; i-- > 0 && status == MSHM_OK;) {
        struct page_image delta;
        memcpy(&record, records[i + 1], sizeof record);
        status = page_unpack(&content->memory, &content->zstd, records[i], record.cut, &delta, why);
        if (status == MSHM_OK)
            status = page_list_merge(&content->memory, &delta.versions, changes, changes);
    }
    for (unsigned i = blind_count; i-- > 0 && status == MSHM_OK;) {
        struct page_list list;
        status = page_list_take_blind(&content->memory, blind[i], content->facts.cut, &list);
        if (status == MSHM_OK)
            status = page_list_merge(&content->memory, &list, changes, changes);
    }
    return status;
}

/* Versions apart are newer than the others of their keys, so in the order of the page they come first. */
static const char *
check_apart(const struct page_list *list)
{
    for (uint32_t i = 1; i < list->count; i++)
        if (list->versions[i].reserved == PAGE_FROM_TAIL &&
            list->versions[i - 1].reserved != PAGE_FROM_TAIL &&
            page_list_same_key(&list->versions[i - 1], &list->versions[i]))
            return "a version in the tail is older than one in the base";
    return NULL;
}

/* The full record's versions, those that stand apart included. */
static int
load_full(struct page_content *content, const struct page_image *full, struct page_list *list,
          const char **why)
{
    *list = full->versions;
    if (full->tail.count == 0)
        return MSHM_OK;
    struct page_list tail = {NULL, full->tail.count};
    tail.versions = page_memory_take(&content->memory, tail.count * sizeof(*tail.versions));
    if (tail.versions == NULL)
        return MSHM_NO_MEMORY;
    for (uint32_t i = 0; i < tail.count; i++)
        tail.versions[i] = full->tail.versions[tail.count - 1 - i];
    int status = page_list_sort(&content->memory, &tail);
    if (status == MSHM_OK)
        status = page_list_merge(&content->memory, &tail, &full->versions, list);
    const char *wrong = status == MSHM_OK ? check_apart(list) : NULL;
    return wrong != NULL ? refuse(why, wrong) : status;
}

static const char *
check_fences(const struct mshm_leaf_spec *leaf)
{
    struct mshm_fences fences = {leaf->low, leaf->high, leaf->low_size, leaf->high_size,
                                 leaf->right};
    if (leaf->count == 0)
        return NULL;
    const struct mshm_version *first = &leaf->versions[0], *last = first + leaf->count - 1;
    if (mshm_fences_compare(&fences, first->key, first->key_size, 0) != 0 ||
        mshm_fences_compare(&fences, last->key, last->key_size, 0) != 0)
        return "a key stands outside the fences";
    return NULL;
}

/* Bytes of the frame with the versions apart in the tail. */
static uint32_t
size_apart(const struct page_content *content)
{
    const struct page_image *full = &content->full;
    struct mshm_leaf_spec base = content->leaf;
    base.versions = full->versions.versions;
    base.count = full->versions.count;
    uint32_t size = mshm_leaf_size(&base);
    if (size == UINT32_MAX)
        return size;
    for (uint32_t i = 0; i < full->tail.count; i++)
        size += mshm_entry_size(full->tail.versions[i].key_size, full->tail.versions[i].value_size);
    return size <= MSHM_MAX_FRAME ? size : UINT32_MAX;
}

static int
load_leaf(struct page_content *content, const void *const *records, unsigned count,
          const struct blind_entry *const *blind, unsigned blind_count,
          const struct page_keep *keep, const char **why)
{
    const struct page_image *full = &content->full;
    struct page_list list, changes;
    int status = load_full(content, full, &list, why);
    if (status == MSHM_OK)
        status = load_changes(content, records, count, blind, blind_count, &changes, why);
    if (status == MSHM_OK)
        status = page_list_merge(&content->memory, &changes, &list, &list);
    if (status != MSHM_OK)
        return status;
    for (uint32_t i = 0; i < list.count; i++)
        if (list.versions[i].timestamp > content->facts.newest)
            content->facts.newest = list.versions[i].timestamp;
    if (keep != NULL)
        page_list_prune(&list, keep, false);
    content->facts.version_count = list.count;
    content->leaf = (struct mshm_leaf_spec){
        .pid = full->record.pid,
        .right = full->payload.right,
        .bucket = full->record.bucket,
        .kind = MSHM_PAGE_LEAF,
        .low = full->low,
        .high = full->high,
        .low_size = full->payload.low_size,
        .high_size = full->payload.high_size,
        .versions = list.versions,
        .count = list.count,
    };
    const char *wrong = check_fences(&content->leaf);
    if (wrong != NULL)
        return refuse(why, wrong);
    content->size = mshm_leaf_size(&content->leaf);
    content->apart = content->size == UINT32_MAX && full->tail.count > 0 && changes.count == 0;
    if (content->apart)
        content->size = size_apart(content);
    return MSHM_OK;
}

/* --- inner pages --- */

static int
load_inner(struct page_content *content, const struct blind_entry *const *blind,
           unsigned blind_count, const char **why)
{
    const struct page_image *full = &content->full;
    for (unsigned i = 0; i < blind_count; i++)
        if (blind[i] != NULL && blind[i]->timestamp > content->facts.cut)
            return refuse(why, "an inner page was written to");
    content->inner = (struct mshm_inner_spec){
        .pid = full->record.pid,
        .right = full->payload.right,
        .bucket = full->record.bucket,
        .level = full->record.level,
        .low = full->low,
        .high = full->high,
        .low_size = full->payload.low_size,
        .high_size = full->payload.high_size,
        .separators = full->separators,
        .children = full->children,
        .count = full->record.count,
    };
    content->size = mshm_inner_size(&content->inner);
    return MSHM_OK;
}

/* --- the whole --- */

int
page_content_load(struct page_content *content, const void *const *records, unsigned count,
                  const struct blind_entry *const *blind, unsigned blind_count,
                  const struct page_keep *keep, const char **why)
{
    struct page_record newest;
    page_memory_reset(&content->memory);
    content->facts = (struct page_facts){0};
    content->apart = false;
    content->size = UINT32_MAX;
    const char *wrong = check_chain(records, count);
    if (wrong != NULL)
        return refuse(why, wrong);
    memcpy(&newest, records[0], sizeof newest);
    content->facts.cut = newest.cut;
    int status =
        page_unpack(&content->memory, &content->zstd, records[count - 1], 0, &content->full, why);
    if (status != MSHM_OK)
        return status;
    content->facts.pid = newest.pid;
    content->facts.bucket = newest.bucket;
    content->facts.birth = newest.birth;
    content->facts.frame_class = newest.frame_class;
    content->facts.level = content->full.record.level;
    if (content->full.record.kind == PAGE_RECORD_INNER) {
        content->facts.kind = MSHM_PAGE_INNER;
        return load_inner(content, blind, blind_count, why);
    }
    content->facts.kind = MSHM_PAGE_LEAF;
    return load_leaf(content, records, count, blind, blind_count, keep, why);
}

void
page_content_facts(const struct page_content *content, struct page_facts *facts)
{
    *facts = content->facts;
}

const struct mshm_leaf_spec *
page_content_leaf(const struct page_content *content)
{
    return &content->leaf;
}

const struct mshm_inner_spec *
page_content_inner(const struct page_content *content)
{
    return &content->inner;
}

uint32_t
page_content_size(const struct page_content *content)
{
    return content->size;
}

const struct page_image *
page_content_apart(const struct page_content *content)
{
    return content->apart ? &content->full : NULL;
}

/* The base alone, and what stands apart appended to it as it once was. */
static int
build_apart(const struct page_content *content, void *frame, uint32_t frame_size,
            struct mshm_leaf_spec spec)
{
    const struct page_image *full = &content->full;
    spec.versions = full->versions.versions;
    spec.count = full->versions.count;
    int status = mshm_leaf_build(frame, frame_size, &spec);
    for (uint32_t i = 0; i < full->tail.count && status == MSHM_OK; i++) {
        const struct mshm_version *version = &full->tail.versions[i];
        status = mshm_leaf_append(frame, frame_size, version,
                                  mshm_key_hash(version->key, version->key_size));
    }
    return status;
}

int
page_content_build(struct page_content *content, void *frame, uint32_t frame_size, AO_t history)
{
    if (content->size > frame_size)
        return MSHM_FULL;
    if (content->facts.kind == MSHM_PAGE_INNER)
        return mshm_inner_build(frame, frame_size, &content->inner);
    struct mshm_leaf_spec spec = content->leaf;
    spec.history = history;
    if (content->apart)
        return build_apart(content, frame, frame_size, spec);
    return mshm_leaf_build(frame, frame_size, &spec);
}
