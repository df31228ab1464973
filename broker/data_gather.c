/* data_gather.c - see data_gather.h. */
#include "data_gather.h"

#include <stdlib.h>
#include <string.h>

#include "mshm/base.h"
#include "mshm/status.h"

void
gather_init(struct data_gather *gather, struct data *data)
{
    gather->data = data;
    gather->wanted_count = gather->run_count = 0;
    gather->bytes = 0;
}

void
gather_reset(struct data_gather *gather)
{
    for (uint32_t i = 0; i < gather->run_count; i++)
        free(gather->runs[i].bytes);
    gather_init(gather, gather->data);
}

void
gather_want(struct data_gather *gather, data_location location)
{
    if (gather->wanted_count < GATHER_WANTED)
        gather->wanted[gather->wanted_count++] = location;
}

static int
places_order(uint32_t file, uint64_t offset, uint32_t other_file, uint64_t other_offset)
{
    if (file != other_file)
        return file < other_file ? -1 : 1;
    return offset < other_offset ? -1 : offset > other_offset;
}

static int
locations_order(const void *one, const void *other)
{
    data_location a, b;
    memcpy(&a, one, sizeof a);
    memcpy(&b, other, sizeof b);
    return places_order(data_location_file(a), data_location_offset(a), data_location_file(b),
                        data_location_offset(b));
}

static int
runs_order(const void *one, const void *other)
{
    const struct data_range *a = one, *b = other;
    return places_order(a->number, a->offset, b->number, b->offset);
}

/* The last run that does not begin behind the place; NULL: none. */
static const struct data_range *
run_find(const struct data_gather *gather, uint32_t count, uint32_t file, uint64_t offset)
{
    uint32_t low = 0, high = count;
    while (low < high) {
        uint32_t middle = (low + high) / 2;
        const struct data_range *run = &gather->runs[middle];
        if (places_order(run->number, run->offset, file, offset) <= 0)
            low = middle + 1;
        else
            high = middle;
    }
    return low > 0 ? &gather->runs[low - 1] : NULL;
}

/* Where the record stands in memory; NULL: nowhere. `count`: of the runs that are in order and have been read. */
static const uint8_t *
record_find(const struct data_gather *gather, uint32_t count, data_location location)
{
    uint64_t offset = data_location_offset(location), size = data_location_size(location);
    const struct data_range *run = run_find(gather, count, data_location_file(location), offset);
    if (run == NULL || run->number != data_location_file(location) ||
        offset + size > run->offset + run->size)
        return NULL;
    return run->bytes + (offset - run->offset);
}

/* How many of the wanted records from `first` on one read brings, and which bytes that are. */
static uint32_t
run_measure(const struct data_gather *gather, uint32_t first, struct data_range *run)
{
    const data_location *wanted = gather->wanted;
    uint64_t unit = data_read_unit(gather->data);
    uint64_t begin = data_location_offset(wanted[first]) & ~(unit - 1);
    uint64_t end = data_location_offset(wanted[first]) + data_location_size(wanted[first]);
    uint32_t next = first + 1;
    for (; next < gather->wanted_count; next++) {
        uint64_t offset = data_location_offset(wanted[next]);
        uint64_t after = offset + data_location_size(wanted[next]);
        if (data_location_file(wanted[next]) != data_location_file(wanted[first]) ||
            offset > end + GATHER_GAP || after > begin + GATHER_RUN_MAX)
            break;
        if (after > end)
            end = after;
    }
    *run = (struct data_range){
        .number = data_location_file(wanted[first]),
        .offset = begin,
        .size = (uint32_t)(end - begin),
    };
    return next - first;
}

/* Memory of a run: no device reads in larger units. */
static uint64_t
run_memory(const struct data_range *run)
{
    return mshm_align_up(run->size, MSHM_UNIT);
}

/* What finds no room is read when its page is packed. */
static void
run_add(struct data_gather *gather, const struct data_range *run)
{
    uint64_t size = run_memory(run);
    if (gather->run_count == GATHER_RUNS || gather->bytes + size > GATHER_BYTES)
        return;
    uint8_t *bytes = aligned_alloc(MSHM_UNIT, size);
    if (bytes == NULL)
        return;
    gather->bytes += size;
    gather->runs[gather->run_count] = *run;
    gather->runs[gather->run_count++].bytes = bytes;
}

/* Leaves out what an earlier fetch has brought, and sorts the rest. */
static void
wanted_sort(struct data_gather *gather)
{
    uint32_t kept = 0;
    for (uint32_t i = 0; i < gather->wanted_count; i++)
        if (record_find(gather, gather->run_count, gather->wanted[i]) == NULL)
            gather->wanted[kept++] = gather->wanted[i];
    gather->wanted_count = kept;
    qsort(gather->wanted, kept, sizeof gather->wanted[0], locations_order);
}

/* Reads the runs from `first` on. What cannot be read is forgotten: its records are read one by one, and each page has a
 * status of its own. */
static void
runs_read(struct data_gather *gather, uint32_t first)
{
    uint32_t kept = first;
    data_read_many(gather->data, gather->runs + first, gather->run_count - first);
    for (uint32_t i = first; i < gather->run_count; i++) {
        struct data_range run = gather->runs[i];
        if (run.status == MSHM_OK) {
            gather->runs[kept++] = run;
            continue;
        }
        gather->bytes -= run_memory(&run);
        free(run.bytes);
    }
    gather->run_count = kept;
    qsort(gather->runs, kept, sizeof gather->runs[0], runs_order);
}

void
gather_fetch(struct data_gather *gather)
{
    uint32_t before = gather->run_count;
    struct data_range run;
    wanted_sort(gather);
    for (uint32_t i = 0, records; i < gather->wanted_count; i += records) {
        records = run_measure(gather, i, &run);
        run_add(gather, &run);
    }
    if (gather->run_count > before)
        runs_read(gather, before);
    gather->wanted_count = 0;
}

int
gather_read(void *argument, data_location location, uint32_t offset, void *to, uint32_t size)
{
    const struct data_gather *gather = argument;
    const uint8_t *record = record_find(gather, gather->run_count, location);
    if (record == NULL)
        return data_read(gather->data, location, offset, to, size);
    uint32_t length = data_location_size(location);
    if (offset > length || size > length - offset)
        return MSHM_CORRUPT;
    memcpy(to, record + offset, size);
    return MSHM_OK;
}
