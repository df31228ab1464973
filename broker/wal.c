/* wal.c - staging and batches. What is shared with wal_change.c, and the change of segment, stands in wal_parts.h.
 *
 *   gather (records staged)  --wal_flush-->  flight (under way)  --completion-->  done
 *        OS-only with a mapping goes from gather to done at once
 *
 * Two staging buffers take turns: one gathers while the other is in flight. The chain value and the end of the log are
 * known as soon as a record is staged, so the next record never waits for the one before.
 */
#include "wal.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "kill_point.h"
#include "mshm/status.h"
#include "wal_parts.h"

enum {
    MARK_SIZE = sizeof(struct wal_record),
    STAGED_MAX = 4 << 20,
    STAGED_START = 64 << 10,
    CALL_BYTES =
        32 << 10, /* of a batch that is written by a call, although the segment is mapped */
};

int
wal_fail(struct wal *wal)
{
    wal->failed = true;
    return MSHM_IO;
}

static int
batch_reserve(struct wal_batch *batch, uint64_t size)
{
    if (size <= batch->capacity)
        return MSHM_OK;
    uint64_t capacity = batch->capacity;
    while (capacity < size)
        capacity = capacity != 0 ? capacity * 2 : STAGED_START;
    uint8_t *bytes = realloc(batch->bytes, capacity);
    if (bytes == NULL)
        return MSHM_NO_MEMORY;
    batch->bytes = bytes;
    batch->capacity = capacity;
    return MSHM_OK;
}

int
wal_open(struct wal **wal, const struct wal_options *options, const struct env *env,
         const struct wal_start *start, struct mshm_figures *figures, uint64_t tag_base)
{
    assert(options->segment_size > WAL_RECORDS_AT && options->segment_size <= UINT32_MAX);
    if (start->next_segment > UINT32_MAX)
        return MSHM_LIMIT; /* durable marks have no room for more */
    struct wal *made = calloc(1, sizeof *made);
    if (made == NULL)
        return MSHM_NO_MEMORY;
    made->env = env;
    made->options = *options;
    made->figures = figures;
    made->tag_base = tag_base;
    made->gather = &made->batches[0];
    made->gather_number = 1;
    made->timestamp = start->timestamp;
    made->chain = start->chain;
    made->bytes = start->bytes;
    made->header.incarnation = start->incarnation;
    memcpy(made->header.database_id, start->database_id, sizeof made->header.database_id);

    int status = batch_reserve(&made->batches[0], STAGED_START);
    if (status != MSHM_OK)
        goto fail;
    status = wal_change_first(made, start);
    if (status != MSHM_OK)
        goto fail;
    made->durable = made->marked = made->commit_end = wal_log_end(made);
    *wal = made;
    return MSHM_OK;
fail:
    wal_close(made);
    return status;
}

void
wal_close(struct wal *wal)
{
    if (wal == NULL)
        return;
    wal_segment_close(wal->env, &wal->current);
    wal_segment_close(wal->env, &wal->left);
    wal_segment_close(wal->env, &wal->next);
    wal_segment_close(wal->env, &wal->closing);
    free(wal->batches[0].bytes);
    free(wal->batches[1].bytes);
    free(wal->spans);
    free(wal);
}

/* --- staging --- */

/* Finds room for a record of `size` bytes; closes the batch or the segment when it has to. A segment that was prepared
 * before anybody knew of a large record may be too small for it: then it stays empty, and the record waits for one more. */
static int
stage_room(struct wal *wal, uint64_t size)
{
    bool fits = wal->end + size <= wal->current.size;
    wal->wanted_size = fits ? 0 : WAL_RECORDS_AT + size;
    if (wal->gather->size > 0 && (!fits || wal->gather->size + size > STAGED_MAX)) {
        int status = wal_flush(wal);
        if (status != MSHM_OK)
            return status;
        if (wal->gather->size > 0)
            return MSHM_BUSY;
    }
    int status = fits ? MSHM_OK : wal_change(wal);
    if (status == MSHM_OK && wal->end + size > wal->current.size)
        return MSHM_BUSY;
    return status;
}

void *
wal_stage(struct wal *wal, uint64_t ops_size, int *status)
{
    wal->staged = 0;
    if (ops_size > wal->options.segment_size ||
        sizeof(struct wal_record) + mshm_align_up(ops_size, WAL_ALIGNMENT) >
            wal->options.segment_size - WAL_RECORDS_AT) {
        *status = MSHM_TOO_BIG;
        return NULL;
    }
    uint64_t size = sizeof(struct wal_record) + mshm_align_up(ops_size, WAL_ALIGNMENT);
    *status = wal->failed ? MSHM_IO : stage_room(wal, size);
    if (*status == MSHM_OK)
        *status = batch_reserve(wal->gather, wal->gather->size + size);
    if (*status != MSHM_OK)
        return NULL;
    uint8_t *record = wal->gather->bytes + wal->gather->size;
    wal->staged = size;
    memset(record + sizeof(struct wal_record) + ops_size, 0,
           (size_t)(size - sizeof(struct wal_record) - ops_size));
    return record + sizeof(struct wal_record);
}

static void
stage_record(struct wal *wal, struct wal_record *record)
{
    record->magic = WAL_RECORD_MAGIC;
    record->previous_crc = wal->chain;
    record->size = (uint32_t)wal->staged;
    record->durable_segment = (uint32_t)wal->durable.segment;
    record->durable_offset = (uint32_t)wal->durable.offset;
    record->crc = wal_record_crc(&wal->header, wal->end, record);
    wal->chain = record->crc;
    wal->timestamp = record->timestamp;
    wal->marked = wal->durable;
    wal->end += wal->staged;
    wal->bytes += wal->staged;
    wal->gather->size += wal->staged;
    wal->staged = 0;
}

uint64_t
wal_stage_finish(struct wal *wal, uint64_t timestamp, uint32_t session, uint64_t sequence,
                 uint32_t op_count, bool sync)
{
    assert(wal->staged != 0);
    assert(timestamp == wal->timestamp + 1);
    assert((op_count & ~WAL_OP_COUNT_MASK) == 0);
    struct wal_record *record = (struct wal_record *)(wal->gather->bytes + wal->gather->size);
    record->timestamp = timestamp;
    record->session = session;
    record->sequence = sequence;
    record->op_count_flags = op_count | (sync ? WAL_FLAG_SYNC : 0);
    stage_record(wal, record);
    wal->commit_end = wal_log_end(wal);
    if (sync) {
        wal->gather->sync = true;
        wal->gather->sync_commits++;
    }
    MACE_KILL_POINT("wal:staged");
    return wal->gather_number;
}

/* --- sending --- */

/* A large batch in one call, which costs less than a fault and, at the next sync, a flush of all processors' address
 * translations for each of its pages. What a death in the middle leaves are whole records and a torn one. */
static int
gather_call(struct wal *wal)
{
    const struct wal_batch *batch = wal->gather;
    int result = wal->env->file_write(wal->env->context, wal->current.file, wal->end - batch->size,
                                      batch->bytes, batch->size);
    return result == 0 ? MSHM_OK : wal_fail(wal);
}

/* The first 16 bytes come last: until they stand there, nothing of the batch is a record. */
static void
gather_map(struct wal *wal)
{
    const struct wal_batch *batch = wal->gather;
    uint8_t *to = wal->current.mapping + (wal->end - batch->size);
    memcpy(to + 16, batch->bytes + 16, batch->size - 16);
    AO_nop_write(); /* pairs with the death of this process: what is stored first is there if what follows is */
    memcpy(to, batch->bytes, 16);
}

/* The buffer that gathers now is empty: another one when the last one is in flight, else the same, which is warm. */
static void
gather_next(struct wal *wal, bool in_flight)
{
    mshm_counter_add(&wal->figures->counters.log_bytes, wal->gather->size);
    if (in_flight)
        wal->gather = wal->gather == &wal->batches[0] ? &wal->batches[1] : &wal->batches[0];
    if (wal->gather->capacity >
        2 * STAGED_MAX) { /* one large commit is no reason to keep so much */
        free(wal->gather->bytes);
        wal->gather->bytes = NULL;
        wal->gather->capacity = 0;
    }
    wal->gather->size = 0;
    wal->gather->sync = false;
    wal->gather->sync_commits = 0;
    wal->gather_number++;
}

static void
flight_start(struct wal *wal, bool sync)
{
    const struct wal_batch *batch = wal->gather;
    bool empty = batch->size == 0;
    wal->flight = (struct wal_flight){.active = true,
                                      .sync = sync,
                                      .number = empty ? wal->gather_number - 1 : wal->gather_number,
                                      .end = wal_log_end(wal),
                                      .started_ns = wal->env->clock_ns(wal->env->context),
                                      .sync_commits = batch->sync_commits};
    if (sync)
        wal->sync_wanted = false;
    if (!empty)
        mshm_counter_add(&wal->figures->counters.log_writes, 1);
    wal->env->file_append(wal->env->context, wal->current.file, wal->end - batch->size,
                          batch->bytes, batch->size, sync, wal->tag_base + WAL_TAG_APPEND);
    if (!empty)
        gather_next(wal, true);
    MACE_KILL_POINT("wal:append_started");
}

int
wal_flush(struct wal *wal)
{
    if (wal->failed)
        return MSHM_IO;
    wal_prepare_tend(wal, false);
    if (wal->flight.active)
        return MSHM_OK;
    bool sync = wal->gather->sync || wal->sync_wanted;
    if (wal->gather->size == 0 && !sync)
        return MSHM_OK;
    if (sync && (wal->left_syncing || wal->header_syncing))
        return MSHM_OK;
    if (sync) {
        flight_start(wal, true);
    } else if (wal->current.mapping != NULL) {
        if (wal->gather->size < CALL_BYTES)
            gather_map(wal);
        else if (gather_call(wal) != MSHM_OK)
            return MSHM_IO;
        MACE_KILL_POINT("wal:mapped");
        wal->done = wal->gather_number;
        gather_next(wal, false);
    } else if (!wal->header_syncing) { /* one append of a file at a time */
        flight_start(wal, false);
    }
    return MSHM_OK;
}

static int
flight_complete(struct wal *wal, int64_t result)
{
    struct wal_flight flight = wal->flight;
    wal->flight.active = false;
    if (result != 0)
        return wal_fail(wal);
    MACE_KILL_POINT("wal:append_done");
    wal->done = flight.number;
    if (!flight.sync)
        return MSHM_OK;
    wal->durable = flight.end;
    wal->synced = flight.number;
    mshm_counter_add(&wal->figures->counters.log_syncs, 1);
    mshm_histogram_add(&wal->figures->log_sync_latency,
                       wal->env->clock_ns(wal->env->context) - flight.started_ns);
    mshm_histogram_add(&wal->figures->sync_commits, flight.sync_commits);
    if (wal->mark_wanted)
        wal_mark(wal);
    return MSHM_OK;
}

int
wal_complete(struct wal *wal, const struct env_completion *completion)
{
    switch (completion->tag - wal->tag_base) {
    case WAL_TAG_APPEND:
        return flight_complete(wal, completion->result);
    case WAL_TAG_LEFT:
        return wal_left_complete(wal, completion->result);
    case WAL_TAG_HEADER:
        wal->header_syncing = false;
        return completion->result == 0 ? MSHM_OK : wal_fail(wal);
    default:
        assert(completion->tag - wal->tag_base == WAL_TAG_PREPARE);
        return wal_prepare_complete(wal, completion->result);
    }
}

uint64_t
wal_done(const struct wal *wal)
{
    return wal->done;
}

uint64_t
wal_sync_request(struct wal *wal)
{
    if (wal->gather->size > 0) {
        wal->gather->sync = true;
        return wal->gather_number;
    }
    uint64_t newest = wal->gather_number - 1;
    bool under_way = wal->flight.active && wal->flight.sync && wal->flight.number == newest;
    if (wal->synced < newest && !under_way)
        wal->sync_wanted = true;
    return newest;
}

uint64_t
wal_synced(const struct wal *wal)
{
    return wal->synced;
}

bool
wal_idle(const struct wal *wal)
{
    return wal->gather->size == 0 && !wal->flight.active && !wal->left_syncing &&
           !wal->header_syncing && !wal->preparing && !wal->sync_wanted &&
           (wal->failed || !wal_untidy(wal));
}

void
wal_tell(const struct wal *wal, struct wal_position *position, uint32_t *chain)
{
    *position = wal_log_end(wal);
    *chain = wal->chain;
}

/* Two steps: what stands in the log becomes durable, then a record says so. The second follows the first's completion.
 * Commits that a checkpoint covers need no proof: whatever happens to their records, they are not read. */
void
wal_mark(struct wal *wal)
{
    wal->mark_wanted = false;
    if (wal->failed || wal->gather->size > 0 || wal->flight.active || wal->left_syncing ||
        wal->header_syncing || !wal_position_before(wal->marked, wal->commit_end) ||
        !wal_position_before(wal->covered, wal->commit_end))
        return;
    if (wal_position_before(wal->durable, wal->commit_end)) {
        wal->mark_wanted = true;
        flight_start(wal, true);
        return;
    }
    if (wal->end + MARK_SIZE > wal->current.size ||
        batch_reserve(wal->gather, MARK_SIZE) != MSHM_OK)
        return;
    struct wal_record *record = (struct wal_record *)wal->gather->bytes;
    *record = (struct wal_record){.timestamp = wal->timestamp, .op_count_flags = WAL_FLAG_MARK};
    wal->staged = MARK_SIZE;
    stage_record(wal, record);
    wal->gather->sync = true;
    flight_start(wal, true);
}
