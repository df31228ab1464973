/* checkpoint_pack.c - the sealed pages on their way into data files: a job packs a batch while the batch before it is
 * written, and another one fetches what the batch after it will read. Places in a file follow each other, so there is
 * one job that packs and one append at a time; what a job reads is immutable (pages.h), and what it writes belongs to
 * its batch.
 *
 * A file that is full is synced before the next one is made, so at most one file has bytes that no sync has covered.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "checkpoint_parts.h"
#include "env_status.h"
#include "kill_point.h"
#include "mshm/status.h"

/* --- the job --- */

/* Zeros up to where the next batch can begin. */
static void
batch_fill_up(struct batch *batch, uint32_t alignment)
{
    uint64_t end = batch->offset + batch->size;
    if (alignment == 0 || batch->size == 0 || end % alignment == 0)
        return;
    uint32_t rest = alignment - (uint32_t)(end % alignment);
    memset(batch->bytes + batch->size, 0, rest);
    batch->size += rest;
}

/* Runs on another thread. */
static int
batch_fetch(void *argument)
{
    records_fetch(argument);
    return MSHM_OK;
}

/* Runs on another thread. What cannot be packed for want of room in the buffer is left for later; a page that is not in
 * memory and cannot be read has its own status. A frame that cannot be packed is this broker's mistake, and its bytes are
 * nowhere else. */
static int
batch_pack(void *argument)
{
    struct batch *batch = argument;
    struct core *core = batch->core;
    struct page_place place = {.file = batch->file_number};
    memcpy(place.database_id, core->manifest.database_id, sizeof place.database_id);
    const struct env *env = core->env;
    if (batch->behind_size > 0 && env->file_behind != NULL)
        env->file_behind(env->context, batch->file, batch->behind, batch->behind_size);
    batch->size = 0;
    batch->packed = 0;
    const uint32_t alignment = core->options.data_alignment;
    const uint32_t room = BATCH_BYTES - alignment;
    for (uint32_t i = batch->done; i < batch->count; i++) {
        struct page_packed *result = &batch->results[i];
        page_read *read = batch->sources[i].frame != NULL ? read_twice : gather_read;
        place.offset = batch->offset + batch->size;
        int status = batch->freed[i]
                         ? freed_pack(batch, &batch->sources[i], result)
                         : page_pack(&batch->sources[i], &batch->keep, &place, read, &batch->gather,
                                     batch->bytes + batch->size, room - batch->size, result);
        if (status == MSHM_FULL && batch->size > 0)
            break;
        if (status != MSHM_OK && (batch->sources[i].blind == NULL || !page_is_lost(status)))
            return status;
        batch->statuses[i] = status;
        if (status == MSHM_OK && !batch->freed[i])
            batch->size += result->size;
        batch->packed++;
    }
    batch_fill_up(batch, alignment);
    if (batch->done + batch->packed == batch->count)
        gather_reset(&batch->gather);
    return MSHM_OK;
}

/* --- files --- */

static int
file_make(void *argument)
{
    struct core *core = argument;
    return data_file_make(core->env, core->manifest.database_id, core->checkpoint->file_number);
}

static int
file_sync_start(struct core *core)
{
    uint64_t offset;
    struct env_file *file = NULL;
    data_writing(core->data, 0, &offset, &file);
    core->checkpoint->working = true;
    core->env->file_append(core->env->context, file, offset, NULL, 0, true,
                           CORE_TAG_CHECKPOINT + CHECKPOINT_TAG_SYNC);
    return MSHM_OK;
}

/* The file being written has no room for another batch: sync it, then make the next one. */
static int
file_change(struct core *core, bool *moved)
{
    struct checkpoint *checkpoint = core->checkpoint;
    if (checkpoint->packing || checkpoint->writing || checkpoint->working)
        return MSHM_OK;
    *moved = true;
    if (checkpoint->file_unsynced)
        return file_sync_start(core);
    checkpoint->working = checkpoint->file_making = true;
    checkpoint->file_number = data_next_number(core->data);
    core->env->job_start(core->env->context, file_make, core,
                         CORE_TAG_CHECKPOINT + CHECKPOINT_TAG_FILE);
    return MSHM_OK;
}

/* --- batches --- */

static uint8_t
compression_of(struct core *core, const struct page_source *source)
{
    const struct catalogue_bucket *bucket =
        source->frame != NULL ? catalogue_get(core->catalogue, source->bucket) : NULL;
    return bucket != NULL ? (uint8_t)bucket->options.compression : 0;
}

static void
batch_gather(struct core *core, struct batch *batch)
{
    struct checkpoint *checkpoint = core->checkpoint;
    struct env_file *file;
    batch->core = core;
    batch->keep = checkpoint->keep;
    batch->first = checkpoint->next;
    batch->count = batch->done = 0;
    gather_init(&batch->gather, core->data);
    while (batch->count < BATCH_PAGES && checkpoint->next < checkpoint->count) {
        struct page_source *source = &batch->sources[batch->count];
        pages_source(core->pages, checkpoint->next++, source, &batch->freed[batch->count]);
        if (!batch->freed[batch->count])
            source->compression = compression_of(core, source);
        /* A file that only the job opened would be opened for each read. */
        if (source->location != 0)
            (void)data_open(core->data, source->location, &file, NULL);
        batch->count++;
    }
}

/* The first one in the order of the pages; NULL: none. */
static struct batch *
batch_find(struct checkpoint *checkpoint, enum batch_state state)
{
    struct batch *found = NULL;
    for (unsigned i = 0; i < BATCHES; i++) {
        struct batch *batch = &checkpoint->batches[i];
        if (batch->state == state && (found == NULL || batch->first < found->first))
            found = batch;
    }
    return found;
}

static uint64_t
batch_tag(const struct core *core, const struct batch *batch, unsigned tag)
{
    return CORE_TAG_CHECKPOINT + tag + (uint64_t)(batch - core->checkpoint->batches);
}

/* Takes the next pages; a job begins when one of their records has to be read. */
static void
fetch_start(struct core *core, bool *moved)
{
    struct checkpoint *checkpoint = core->checkpoint;
    struct batch *batch = batch_find(checkpoint, BATCH_FREE);
    if (checkpoint->fetching || batch == NULL || checkpoint->next == checkpoint->count)
        return;
    *moved = true;
    batch_gather(core, batch);
    batch->state = BATCH_FETCHED;
    if (!records_wanted(batch))
        return;
    batch->state = BATCH_FETCHING;
    checkpoint->fetching = true;
    core->env->job_start(core->env->context, batch_fetch, batch,
                         batch_tag(core, batch, CHECKPOINT_TAG_FETCH));
}

/* What was written goes to the disk while the rest is packed: the sync at the end finds little to do, and the page cache
 * is not full of what it cannot give back. `end`: of what was written to the file. */
static void
behind_set(struct checkpoint *checkpoint, struct batch *batch, uint64_t end)
{
    if (checkpoint->behind_file != batch->file_number || checkpoint->behind > end) {
        checkpoint->behind_file = batch->file_number;
        checkpoint->behind = end;
    }
    batch->behind = checkpoint->behind;
    batch->behind_size = end - checkpoint->behind;
    if (batch->behind_size < BEHIND_BYTES)
        batch->behind_size = 0;
    else
        checkpoint->behind = end;
}

/* A batch that is packed and not yet written stands before the next one in the file. */
static int
pack_start(struct core *core, bool *moved)
{
    struct checkpoint *checkpoint = core->checkpoint;
    struct batch *batch = batch_find(checkpoint, BATCH_FETCHED);
    if (checkpoint->packing || checkpoint->working || batch == NULL)
        return MSHM_OK;
    uint64_t before = 0;
    for (unsigned i = 0; i < BATCHES; i++)
        if (checkpoint->batches[i].state >= BATCH_PACKED)
            before += checkpoint->batches[i].size;
    uint32_t number =
        data_writing(core->data, (uint32_t)before + BATCH_BYTES, &batch->offset, &batch->file);
    if (number == 0)
        return file_change(core, moved);
    batch->file_number = number;
    behind_set(checkpoint, batch, batch->offset);
    batch->offset += before;
    batch->state = BATCH_PACKING;
    checkpoint->packing = true;
    *moved = true;
    core->env->job_start(core->env->context, batch_pack, batch,
                         batch_tag(core, batch, CHECKPOINT_TAG_PACK));
    return MSHM_OK;
}

/* What it held is in the file. */
static void
batch_end(struct batch *batch)
{
    batch->done += batch->packed;
    batch->state = batch->done < batch->count ? BATCH_FETCHED : BATCH_FREE;
}

static void
write_start(struct core *core, bool *moved)
{
    struct checkpoint *checkpoint = core->checkpoint;
    struct batch *batch = NULL;
    for (unsigned i = 0; i < BATCHES; i++) {
        struct batch *other = &checkpoint->batches[i];
        if (other->state == BATCH_PACKED && (batch == NULL || other->offset < batch->offset))
            batch = other;
    }
    if (checkpoint->writing || batch == NULL)
        return;
    *moved = true;
    MACE_KILL_POINT("checkpoint:packed");
    if (batch->size == 0) {
        batch_end(batch);
        return;
    }
    batch->state = BATCH_WRITING;
    checkpoint->writing = true;
    core->env->file_append(core->env->context, batch->file, batch->offset, batch->bytes,
                           batch->size, false, batch_tag(core, batch, CHECKPOINT_TAG_WRITE));
}

int
fill_turn(struct core *core, bool *moved)
{
    write_start(core, moved);
    fetch_start(core, moved);
    return pack_start(core, moved);
}

int
sync_turn(struct core *core, bool *moved)
{
    struct checkpoint *checkpoint = core->checkpoint;
    if (checkpoint->working)
        return MSHM_OK;
    *moved = true;
    if (checkpoint->file_unsynced)
        return file_sync_start(core);
    checkpoint->stage = CHECKPOINT_GATHER;
    return MSHM_OK;
}

bool
fill_ended(const struct checkpoint *checkpoint)
{
    for (unsigned i = 0; i < BATCHES; i++)
        if (checkpoint->batches[i].state != BATCH_FREE)
            return false;
    return checkpoint->next == checkpoint->count && !checkpoint->working;
}

static void
fetch_complete(struct checkpoint *checkpoint, struct batch *batch)
{
    checkpoint->fetching = false;
    batch->state = BATCH_FETCHED;
}

static int
pack_complete(struct core *core, struct batch *batch, int status)
{
    struct checkpoint *checkpoint = core->checkpoint;
    checkpoint->packing = false;
    batch->state = BATCH_FETCHED; /* until nothing fails: nobody was told of the results */
    if (status != MSHM_OK) {
        gather_reset(&batch->gather); /* it may be what is wrong */
        return checkpoint_hindered(core, status, "a page cannot be packed");
    }
    status = batch_strays(core, batch);
    if (status != MSHM_OK)
        return status == MSHM_LIMIT
                   ? checkpoint_wait(core, MSHM_IO, "too many pages cannot be read")
                   : checkpoint_hindered(core, status, "there is no room for a page's writes");
    for (uint32_t i = batch->done; i < batch->done + batch->packed; i++) {
        const struct page_packed *result = &batch->results[i];
        bool written = batch->statuses[i] == MSHM_OK && !batch->freed[i] && result->size > 0;
        if (written) {
            data_live(core->data, result->location);
            pages_remember(core->pages, batch->sources[i].pid, &result->known);
        }
        for (uint32_t j = 0; j < result->dead_count && batch->statuses[i] == MSHM_OK; j++)
            data_dead(core->data, result->dead[j]);
        if (batch->statuses[i] == MSHM_OK && result->lost > 0)
            records_lose(core, &batch->sources[i], result->lost);
        pages_packed(core->pages, batch->first + i, written ? result->location : 0);
    }
    checkpoint->packed += batch->packed;
    batch->state = BATCH_PACKED;
    return MSHM_OK;
}

static int
write_complete(struct core *core, struct batch *batch, int64_t result)
{
    struct checkpoint *checkpoint = core->checkpoint;
    checkpoint->writing = false;
    if (result != 0) {
        batch->state = BATCH_PACKED;
        return checkpoint_hindered(core, env_status(result), "data cannot be written");
    }
    MACE_KILL_POINT("checkpoint:written");
    data_advance(core->data, batch->size);
    checkpoint->written += batch->size;
    checkpoint->file_unsynced = true;
    mshm_counter_add(&core->figures->counters.data_bytes, batch->size);
    batch_end(batch);
    return MSHM_OK;
}

static int
file_complete(struct core *core, int64_t result)
{
    struct checkpoint *checkpoint = core->checkpoint;
    checkpoint->working = checkpoint->file_making = false;
    int status = result == 0 ? data_begin(core->data, checkpoint->file_number) : env_status(result);
    return status == MSHM_OK ? MSHM_OK
                             : checkpoint_hindered(core, status, "a data file cannot be made");
}

int
fill_complete(struct core *core, unsigned tag, int64_t result)
{
    struct checkpoint *checkpoint = core->checkpoint;
    if (tag < CHECKPOINT_TAG_PACK) {
        fetch_complete(checkpoint, &checkpoint->batches[tag - CHECKPOINT_TAG_FETCH]);
        return MSHM_OK;
    }
    if (tag < CHECKPOINT_TAG_WRITE)
        return pack_complete(core, &checkpoint->batches[tag - CHECKPOINT_TAG_PACK], (int)result);
    if (tag < CHECKPOINT_TAG_FILE)
        return write_complete(core, &checkpoint->batches[tag - CHECKPOINT_TAG_WRITE], result);
    if (tag == CHECKPOINT_TAG_FILE)
        return file_complete(core, result);
    checkpoint->working = false;
    if (result != 0)
        return MSHM_IO;
    MACE_KILL_POINT("checkpoint:synced");
    checkpoint->file_unsynced = false;
    return MSHM_OK;
}
