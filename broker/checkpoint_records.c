/* checkpoint_records.c - what the job reads: many records at once before it packs, and those that are there only to name
 * what becomes garbage. */
#include <stdlib.h>
#include <string.h>

#include "checkpoint_parts.h"
#include "mshm/status.h"

int
read_twice(void *gather, data_location location, uint32_t offset, void *to, uint32_t size)
{
    int status = gather_read(gather, location, offset, to, size);
    return status == MSHM_IO ? gather_read(gather, location, offset, to, size) : status;
}

int
older_read(struct batch *batch, const struct page_source *source, data_location *older)
{
    const char *why;
    uint32_t size = data_location_size(source->location);
    void *record = aligned_alloc(DATA_UNIT, size);
    if (record == NULL)
        return MSHM_NO_MEMORY;
    int status = read_twice(&batch->gather, source->location, 0, record, size);
    if (status == MSHM_OK)
        status = page_record_check(record, size, source->location,
                                   batch->core->manifest.database_id, source->pid, &why);
    if (status == MSHM_OK)
        page_record_older(record, older);
    free(record);
    return status;
}

int
freed_pack(struct batch *batch, const struct page_source *source, struct page_packed *result)
{
    unsigned count = data_location_older(source->location);
    *result = (struct page_packed){0};
    if (source->location == 0)
        return MSHM_OK;
    result->dead[result->dead_count++] = source->location;
    int status = MSHM_OK;
    if (count > 0 && source->older == NULL)
        status = older_read(batch, source, result->dead + 1);
    else if (count > 0)
        memcpy(result->dead + 1, source->older, count * sizeof(data_location));
    if (status == MSHM_OK)
        result->dead_count += count;
    else
        result->lost = count;
    return page_is_lost(status) ? MSHM_OK : status;
}

/* What packing this page begins with. */
static enum page_reads
reads_first(const struct page_source *source, bool freed)
{
    if (source->location == 0)
        return PAGE_READS_NOTHING;
    if (source->frame == NULL && !freed)
        return page_pack_reads(source);
    return source->older == NULL && data_location_older(source->location) > 0 ? PAGE_READS_NEWEST
                                                                              : PAGE_READS_NOTHING;
}

bool
records_wanted(const struct batch *batch)
{
    for (uint32_t i = 0; i < batch->count; i++)
        if (reads_first(&batch->sources[i], batch->freed[i]) != PAGE_READS_NOTHING)
            return true;
    return false;
}

static void
older_want(struct batch *batch, const struct page_source *source, const data_location *older)
{
    for (unsigned i = 0; i < data_location_older(source->location); i++)
        gather_want(&batch->gather, older[i]);
}

void
records_fetch(struct batch *batch)
{
    struct data_gather *gather = &batch->gather;
    data_location older[DATA_CHAIN_MAX];
    for (uint32_t i = 0; i < batch->count; i++) {
        const struct page_source *source = &batch->sources[i];
        enum page_reads reads = reads_first(source, batch->freed[i]);
        if (reads != PAGE_READS_NOTHING)
            gather_want(gather, source->location);
        if (reads == PAGE_READS_CHAIN && source->known.location != 0)
            older_want(batch, source, source->known.older);
    }
    gather_fetch(gather);
    for (uint32_t i = 0; i < batch->count; i++) {
        const struct page_source *source = &batch->sources[i];
        if (reads_first(source, batch->freed[i]) == PAGE_READS_CHAIN &&
            source->known.location == 0 && older_read(batch, source, older) == MSHM_OK)
            older_want(batch, source, older);
    }
    gather_fetch(gather);
}
