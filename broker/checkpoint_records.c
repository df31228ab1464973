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

/* Whether packing this page begins with its newest record. */
static bool
reads_newest(const struct page_source *source, bool freed)
{
    if (source->location == 0)
        return false;
    bool writes_blind = source->frame == NULL && !freed;
    return writes_blind || (source->older == NULL && data_location_older(source->location) > 0);
}

bool
records_wanted(const struct batch *batch)
{
    for (uint32_t i = 0; i < batch->count; i++)
        if (reads_newest(&batch->sources[i], batch->freed[i]))
            return true;
    return false;
}

void
records_fetch(struct batch *batch)
{
    struct data_gather *gather = &batch->gather;
    data_location older[DATA_CHAIN_MAX];
    for (uint32_t i = 0; i < batch->count; i++)
        if (reads_newest(&batch->sources[i], batch->freed[i]))
            gather_want(gather, batch->sources[i].location);
    gather_fetch(gather);
    for (uint32_t i = 0; i < batch->count; i++) {
        const struct page_source *source = &batch->sources[i];
        if (batch->freed[i] || !page_pack_reads_chain(source) ||
            older_read(batch, source, older) != MSHM_OK)
            continue;
        for (unsigned j = 0; j < data_location_older(source->location); j++)
            gather_want(gather, older[j]);
    }
    gather_fetch(gather);
}
