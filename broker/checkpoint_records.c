/* checkpoint_records.c - what the job reads of records that are there only to name what becomes garbage. */
#include <stdlib.h>
#include <string.h>

#include "checkpoint_parts.h"
#include "mshm/status.h"

int
read_twice(void *data, data_location location, uint32_t offset, void *to, uint32_t size)
{
    int status = data_read(data, location, offset, to, size);
    return status == MSHM_IO ? data_read(data, location, offset, to, size) : status;
}

int
older_read(struct core *core, const struct page_source *source, data_location *older)
{
    const char *why;
    uint32_t size = data_location_size(source->location);
    void *record = aligned_alloc(DATA_UNIT, size);
    if (record == NULL)
        return MSHM_NO_MEMORY;
    int status = read_twice(core->data, source->location, 0, record, size);
    if (status == MSHM_OK)
        status = page_record_check(record, size, source->location, core->manifest.database_id,
                                   source->pid, &why);
    if (status == MSHM_OK)
        page_record_older(record, older);
    free(record);
    return status;
}

int
freed_pack(struct core *core, const struct page_source *source, struct page_packed *result)
{
    unsigned count = data_location_older(source->location);
    *result = (struct page_packed){0};
    if (source->location == 0)
        return MSHM_OK;
    result->dead[result->dead_count++] = source->location;
    int status = MSHM_OK;
    if (count > 0 && source->older == NULL)
        status = older_read(core, source, result->dead + 1);
    else if (count > 0)
        memcpy(result->dead + 1, source->older, count * sizeof(data_location));
    if (status == MSHM_OK)
        result->dead_count += count;
    return page_is_lost(status) ? MSHM_OK : status;
}
