/* pager_page.c - one page on its way from its records into a frame; and the ways in that wait for the disk. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "mshm/status.h"
#include "pager_parts.h"

/* --- records --- */

void
page_records_free(struct page_records *records)
{
    for (unsigned i = 0; i <= DATA_CHAIN_MAX; i++)
        free(records->bytes[i]);
    *records = (struct page_records){0};
}

data_location
page_records_location(const struct page_records *records, unsigned index)
{
    return index == 0 ? records->location : records->older[index - 1];
}

int
page_records_reserve(struct page_records *records, unsigned index)
{
    uint32_t size = data_location_size(page_records_location(records, index));
    records->bytes[index] = aligned_alloc(DATA_UNIT, size > 0 ? size : DATA_UNIT);
    return records->bytes[index] != NULL ? MSHM_OK : MSHM_NO_MEMORY;
}

int
page_records_check(struct page_records *records, const struct pager *pager, mshm_pid pid,
                   unsigned index, const char **why)
{
    data_location location = page_records_location(records, index);
    int status = page_record_check(records->bytes[index], data_location_size(location), location,
                                   pager->options.database_id, pid, why);
    if (status != MSHM_OK || index > 0)
        return status;
    data_location older[DATA_CHAIN_MAX];
    unsigned count = data_location_older(location);
    page_record_older(records->bytes[0], older);
    records->misled =
        records->recalled && memcmp(older, records->older, count * sizeof *older) != 0;
    if (records->misled)
        return MSHM_OK;
    memcpy(records->older, older, count * sizeof *older);
    records->count = 1 + count;
    return MSHM_OK;
}

/* --- laying out --- */

/* What is not on disk, the newer list first, and the records. */
static int
content_load(struct pager *pager, mshm_pid pid, const struct page_records *records, bool *newer,
             const char **why)
{
    const struct blind *blind = pages_blind(pager->pages);
    const struct blind_entry *lists[2] = {blind_gathered(blind, pid), blind_sealed(blind, pid)};
    const struct snapshots *snapshots = pager->options.snapshots;
    struct page_keep keep = {0};
    if (snapshots != NULL)
        keep = (struct page_keep){
            .horizon = snapshots->horizon,
            .count = snapshots->count,
            .snapshots = snapshots->list,
        };
    *newer = lists[0] != NULL;
    int status = page_content_load(pager->content, (const void *const *)records->bytes,
                                   records->count, lists, 2, snapshots != NULL ? &keep : NULL, why);
    if (status == MSHM_OK && page_content_size(pager->content) == UINT32_MAX) {
        *why = "the page fits into no frame";
        status = MSHM_CORRUPT;
    }
    return status;
}

static unsigned
class_for(uint32_t size)
{
    unsigned class = 0;
    while (class < MSHM_CLASSES - 1 && mshm_class_size(class) < size)
        class ++;
    return class;
}

/* The class that the page had, or the next one when it has grown; `least` is the one that just holds it. No more, even
 * if no room is left for writes: leaves that were filled in order are full, and would take twice the memory. */
static unsigned
class_choose(const struct pager *pager, const struct page_facts *facts, unsigned *least)
{
    *least = class_for(page_content_size(pager->content));
    return *least > facts->frame_class ? *least : facts->frame_class;
}

/* The cut of the record below the newest one. */
static mshm_timestamp
records_below(const struct page_records *records)
{
    struct page_record record = {0};
    if (records->count > 1)
        memcpy(&record, records->bytes[1], sizeof record);
    return record.cut;
}

int
pager_lay_out(struct pager *pager, mshm_pid pid, const struct page_records *records,
              uint32_t *class, const char **why)
{
    struct page_facts facts;
    bool newer;
    unsigned least;
    int status = content_load(pager, pid, records, &newer, why);
    if (status != MSHM_OK)
        return status;
    page_content_facts(pager->content, &facts);
    unsigned chosen = class_choose(pager, &facts, &least);
    *class = least;
    uint8_t *frame = frames_allocate(pager->frames, chosen);
    while (frame == NULL && chosen > least)
        frame = frames_allocate(pager->frames, --chosen);
    if (frame == NULL)
        return MSHM_FULL;
    bool leaf = facts.kind == MSHM_PAGE_LEAF;
    AO_t history = leaf ? pager->history(pager->history_argument, pid) : 0;
    status = page_content_build(pager->content, frame, mshm_class_size(chosen), history);
    if (status != MSHM_OK) {
        frames_free(pager->frames, frame, chosen);
        *why = "the page does not fit into its frame";
        return MSHM_CORRUPT;
    }
    AO_t word = frames_word(pager->frames, frame, chosen, leaf ? mshm_leaf_hint(frame) : 0);
    pages_install(pager->pages, pid, word, facts.birth, facts.cut, records_below(records),
                  records->older, newer);
    if (pager->options.loaded != NULL)
        pager->options.loaded(pager->history_argument, pid);
    mshm_counter_add(&pager->counters->page_reads, 1);
    return MSHM_OK;
}

void
pager_report(struct pager *pager, mshm_pid pid, data_location location, int status, const char *why)
{
    char name[DATA_NAME_SIZE];
    if (status != MSHM_CORRUPT && status != MSHM_VERSION && status != MSHM_IO)
        return;
    if (status == MSHM_CORRUPT)
        mshm_counter_add(&pager->counters->pages_corrupt, 1);
    data_name(name, data_location_file(location));
    snprintf(pager->report, sizeof pager->report,
             "page %" PRIu32 " cannot be read: %s, offset %" PRIu64 ": %s", pid, name,
             data_location_offset(location), why != NULL ? why : "reading failed");
    for (unsigned i = 0; i < DAMAGED_KEPT; i++)
        if (pager->damaged[i] == location)
            return;
    pager->damaged[pager->damaged_count++ % DAMAGED_KEPT] = location;
    pager->env->log(pager->env->context, ENV_LOG_ERROR, pager->report);
}

/* --- waiting for the disk --- */

static int
record_read(struct pager *pager, mshm_pid pid, struct page_records *records, unsigned index,
            const char **why)
{
    struct env_file *file;
    data_location location = page_records_location(records, index);
    int status = data_open(pager->data, location, &file, why);
    if (status == MSHM_OK)
        status = page_records_reserve(records, index);
    if (status != MSHM_OK)
        return status;
    status =
        data_read(pager->data, location, 0, records->bytes[index], data_location_size(location));
    if (status == MSHM_CORRUPT)
        *why = "the data file ends before the record does";
    if (status == MSHM_IO)
        *why = "reading failed";
    if (status == MSHM_OK)
        status = page_records_check(records, pager, pid, index, why);
    return status;
}

static int
records_read(struct pager *pager, mshm_pid pid, struct page_records *records, const char **why)
{
    *records = (struct page_records){.location = pages_location(pager->pages, pid), .count = 1};
    int status = MSHM_OK;
    unsigned at = 0;
    for (; at < records->count && status == MSHM_OK; at++)
        status = record_read(pager, pid, records, at, why);
    if (status != MSHM_OK)
        pager_report(pager, pid, page_records_location(records, at - 1), status, *why);
    return status;
}

int
pager_load(struct pager *pager, mshm_pid pid, const char **why)
{
    struct page_records records;
    const char *wrong = NULL;
    uint32_t class;
    if (pages_location(pager->pages, pid) == 0)
        return MSHM_OK;
    int status = records_read(pager, pid, &records, &wrong);
    if (status == MSHM_OK) {
        status = pager_lay_out(pager, pid, &records, &class, &wrong);
        pager_report(pager, pid, records.location, status, wrong);
    }
    page_records_free(&records);
    if (status != MSHM_OK && wrong != NULL && why != NULL)
        *why = pager->report;
    return status;
}

int
pager_peek(struct pager *pager, mshm_pid pid, void *to, uint32_t *size, const char **why)
{
    struct page_records records;
    struct page_facts facts;
    const char *wrong = NULL;
    bool newer;
    unsigned least;
    if (pages_location(pager->pages, pid) == 0)
        return MSHM_NOT_FOUND;
    int status = records_read(pager, pid, &records, &wrong);
    if (status == MSHM_OK) {
        status = content_load(pager, pid, &records, &newer, &wrong);
        pager_report(pager, pid, records.location, status, wrong);
    }
    if (status == MSHM_OK) {
        page_content_facts(pager->content, &facts);
        *size = mshm_class_size(class_choose(pager, &facts, &least));
        AO_t history =
            facts.kind == MSHM_PAGE_LEAF ? pager->history(pager->history_argument, pid) : 0;
        status = page_content_build(pager->content, to, *size, history);
    }
    page_records_free(&records);
    if (status != MSHM_OK && wrong != NULL && why != NULL)
        *why = wrong;
    return status;
}
