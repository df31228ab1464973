/* wal.c - staging, batches, segments in use.
 *
 *   gather (records staged)  --wal_flush-->  flight (under way)  --completion-->  done
 *        OS-only with a mapping goes from gather to done at once
 *
 * Two staging buffers take turns: one gathers while the other is in flight. The chain value and the end of the log are
 * known as soon as a record is staged, so the next record never waits for the one before.
 *
 * Change of segment. The first record that does not fit takes the prepared segment into use: its header is written,
 * and two syncs start beside the commits: of the header and of the segment that was left. Level OS waits for neither.
 * A batch with a SYNC commit starts only when both have ended, because it promises all that stands before it; and the
 * next change of segment waits for both, so that a header that survives a power cut never stands behind one that did
 * not. The directory entry was made durable when the segment was prepared.
 */
#include "wal.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "env_status.h"
#include "kill_point.h"
#include "mshm/base.h"
#include "mshm/status.h"
#include "wal_segment.h"

enum { TAG_APPEND, TAG_LEFT, TAG_HEADER, TAG_PREPARE };
enum { MARK_SIZE = sizeof(struct wal_record), STAGED_MAX = 4 << 20, STAGED_START = 64 << 10 };
#define PREPARE_RETRY_NS UINT64_C(250000000)

struct batch {
    uint8_t *bytes; /* 16-aligned */
    uint64_t capacity;
    uint64_t size;         /* finished records */
    uint32_t sync_commits; /* commits of level SYNC in it */
    bool sync;             /* to be made durable */
};

struct flight {
    bool active, sync;
    uint64_t number; /* of the batch; of the newest one done for a sync without a batch */
    struct wal_position end;
    uint64_t started_ns;
    uint32_t sync_commits;
};

/* Prepares a segment and, on the way, unmaps and closes one that was left. */
struct prepare_job {
    const struct env *env;
    struct wal_segment segment, closing;
    uint64_t number, size;
    bool map;
};

struct wal {
    const struct env *env;
    struct wal_options options;
    struct mshm_figures *figures;
    uint64_t tag_base;

    struct wal_segment current;
    struct wal_segment left;          /* its sync is under way */
    struct wal_segment closing;       /* left and synced; closed by the next job */
    struct wal_segment_header header; /* of current */
    struct wal_position left_end;
    bool left_syncing, header_syncing;

    struct wal_segment next; /* prepared; file NULL: none */
    struct prepare_job job;
    bool preparing, prepare_failed;
    uint64_t prepare_failed_ns;
    uint64_t
        wanted_size; /* bytes that the next segment must have for the record that waits for it */

    struct batch batches[2], *gather;
    uint64_t staged; /* bytes of the record being staged, 0 = none */
    struct flight flight;
    uint64_t gather_number; /* of the batch that gathers */
    uint64_t done, synced;
    bool sync_wanted, mark_wanted, failed;

    uint64_t end;       /* offset behind the newest record, staged ones included */
    uint64_t timestamp; /* of the newest record */
    uint32_t chain;
    struct wal_position durable;    /* everything before it is */
    struct wal_position marked;     /* the newest durable mark in the log */
    struct wal_position commit_end; /* behind the newest record that is not mark-only */
};

static bool
position_before(struct wal_position a, struct wal_position b)
{
    return a.segment < b.segment || (a.segment == b.segment && a.offset < b.offset);
}

static int
fail(struct wal *wal)
{
    wal->failed = true;
    return MSHM_IO;
}

static int
batch_reserve(struct batch *batch, uint64_t size)
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

/* --- segments --- */

static int
prepare_run(void *argument)
{
    struct prepare_job *job = argument;
    wal_segment_close(job->env, &job->closing);
    return wal_segment_prepare(job->env, &job->segment, job->number, job->size, job->map);
}

/* The first segment of an incarnation is small, so that a start is quick and a short life leaves little; each next one
 * is twice as large, up to the configured size. */
static uint64_t
first_size(uint64_t segment_size)
{
    enum { SHARE = 16, LEAST = 1 << 20 };
    uint64_t size = mshm_align_up(segment_size / SHARE, WAL_RECORDS_AT);
    if (size < LEAST)
        size = LEAST;
    return size < segment_size ? size : segment_size;
}

static uint64_t
next_size(const struct wal *wal)
{
    uint64_t size = wal->current.size * 2;
    if (size < wal->wanted_size)
        size = mshm_align_up(wal->wanted_size, WAL_RECORDS_AT);
    return size < wal->options.segment_size ? size : wal->options.segment_size;
}

static void
prepare_start(struct wal *wal)
{
    wal->job = (struct prepare_job){.env = wal->env,
                                    .closing = wal->closing,
                                    .number = wal->current.number + 1,
                                    .size = next_size(wal),
                                    .map = wal->options.mapping};
    wal->closing = (struct wal_segment){0};
    wal->preparing = true;
    wal->env->job_start(wal->env->context, prepare_run, &wal->job, wal->tag_base + TAG_PREPARE);
}

/* Starts to prepare the next segment when it is `needed`, at once in an incarnation that has filled one, and in its
 * first segment when a quarter is full: one that serves a few commits and leaves does not leave an empty segment behind.
 * After a full disk, tries again four times a second. */
static void
prepare_tend(struct wal *wal, bool needed)
{
    if (wal->preparing || wal->next.file != NULL)
        return;
    if (!needed && wal->header.first_of_incarnation && wal->end < wal->current.size / 4)
        return;
    if (wal->prepare_failed &&
        wal->env->clock_ns(wal->env->context) - wal->prepare_failed_ns < PREPARE_RETRY_NS)
        return;
    prepare_start(wal);
}

static int
prepare_complete(struct wal *wal, int64_t result)
{
    wal->preparing = false;
    if (result == 0) {
        wal->next = wal->job.segment;
        wal->prepare_failed = false;
        mshm_counter_add(&wal->figures->counters.log_segments, 1);
        return MSHM_OK;
    }
    if (!env_error_passes(result))
        return fail(wal);
    if (!wal->prepare_failed)
        wal->env->log(wal->env->context, ENV_LOG_WARNING,
                      "no room to prepare the next log segment; trying again");
    wal->prepare_failed = true;
    wal->prepare_failed_ns = wal->env->clock_ns(wal->env->context);
    return MSHM_OK;
}

static int
header_write(struct wal *wal, const struct wal_segment *segment, struct wal_position continues)
{
    wal->header.segment = segment->number;
    wal->header.segment_size = segment->size;
    wal->header.salt = wal->env->random(wal->env->context);
    wal->header.continues_timestamp = wal->timestamp;
    wal->header.continues_crc = wal->chain;
    wal->header.continues_segment = continues.segment;
    wal->header.continues_offset = continues.offset;
    wal_header_seal(&wal->header);
    int result =
        wal->env->file_write(wal->env->context, segment->file, 0, &wal->header, sizeof wal->header);
    return result == 0 ? MSHM_OK : fail(wal);
}

static struct wal_position
log_end(const struct wal *wal)
{
    return (struct wal_position){wal->current.number, wal->end};
}

/* Unmapping takes long: a job does it. */
static void
segment_retire(struct wal *wal)
{
    wal_segment_close(wal->env, &wal->closing);
    wal->closing = wal->left;
    wal->left = (struct wal_segment){0};
}

/* Takes the prepared segment into use. Nothing is gathered or in flight, and the syncs of the last change have ended. */
static int
segment_switch(struct wal *wal)
{
    const struct env *env = wal->env;
    struct wal_position end = log_end(wal);
    wal->header.first_of_incarnation = 0;
    int status = header_write(wal, &wal->next, end);
    if (status != MSHM_OK)
        return status;
    wal->left = wal->current;
    wal->current = wal->next;
    wal->next = (struct wal_segment){0};
    wal->end = WAL_RECORDS_AT;
    if (position_before(wal->durable, end)) {
        wal->left_syncing = true;
        wal->left_end = end;
        env->file_append(env->context, wal->left.file, end.offset, wal->batches[0].bytes, 0, true,
                         wal->tag_base + TAG_LEFT);
    } else {
        segment_retire(wal);
    }
    wal->header_syncing = true;
    env->file_append(env->context, wal->current.file, sizeof wal->header, wal->batches[0].bytes, 0,
                     true, wal->tag_base + TAG_HEADER);
    MACE_KILL_POINT("wal:segment_switched");
    return MSHM_OK;
}

/* Makes the next record start a new segment: MSHM_OK, or what wal_stage answers. */
static int
segment_advance(struct wal *wal)
{
    if (wal->flight.active || wal->left_syncing || wal->header_syncing)
        return MSHM_BUSY;
    if (wal->next.file == NULL) {
        prepare_tend(wal, true);
        return wal->preparing ? MSHM_BUSY : MSHM_FULL;
    }
    return segment_switch(wal);
}

int
wal_open(struct wal **wal, const struct wal_options *options, const struct env *env,
         const struct wal_start *start, struct mshm_figures *figures, uint64_t tag_base)
{
    assert(options->segment_size > WAL_RECORDS_AT && options->segment_size <= UINT32_MAX);
    assert(start->next_segment <= UINT32_MAX);
    struct wal *made = calloc(1, sizeof *made);
    if (made == NULL)
        return MSHM_NO_MEMORY;
    made->env = env;
    made->options = *options;
    made->figures = figures;
    made->tag_base = tag_base;
    made->gather = &made->batches[0];
    made->gather_number = 1;
    made->end = WAL_RECORDS_AT;
    made->timestamp = start->timestamp;
    made->chain = start->chain;
    made->header.incarnation = start->incarnation;
    made->header.first_of_incarnation = 1;
    memcpy(made->header.database_id, start->database_id, sizeof made->header.database_id);

    int status = batch_reserve(&made->batches[0], STAGED_START);
    if (status != MSHM_OK)
        goto fail;
    status = env_status(wal_segment_prepare(env, &made->current, start->next_segment,
                                            first_size(options->segment_size), options->mapping));
    if (status != MSHM_OK)
        goto fail;
    status = header_write(made, &made->current, start->end);
    if (status != MSHM_OK)
        goto fail;
    status = env_status(env->file_sync(env->context, made->current.file));
    if (status != MSHM_OK)
        goto fail;
    made->durable = made->marked = made->commit_end = log_end(made);
    mshm_counter_add(&figures->counters.log_segments, 1);
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
    int status = fits ? MSHM_OK : segment_advance(wal);
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
    wal->commit_end = log_end(wal);
    if (sync) {
        wal->gather->sync = true;
        wal->gather->sync_commits++;
    }
    MACE_KILL_POINT("wal:staged");
    return wal->gather_number;
}

/* --- sending --- */

/* The first 16 bytes come last: until they stand there, nothing of the batch is a record. */
static void
gather_map(struct wal *wal)
{
    const struct batch *batch = wal->gather;
    uint8_t *to = wal->current.mapping + (wal->end - batch->size);
    memcpy(to + 16, batch->bytes + 16, batch->size - 16);
    AO_nop_write(); /* pairs with the death of this process: what is stored first is there if what follows is */
    memcpy(to, batch->bytes, 16);
    MACE_KILL_POINT("wal:mapped");
}

static void
gather_next(struct wal *wal)
{
    mshm_counter_add(&wal->figures->counters.log_bytes, wal->gather->size);
    wal->gather = wal->gather == &wal->batches[0] ? &wal->batches[1] : &wal->batches[0];
    wal->gather->size = 0;
    wal->gather->sync = false;
    wal->gather->sync_commits = 0;
    wal->gather_number++;
}

static void
flight_start(struct wal *wal, bool sync)
{
    const struct batch *batch = wal->gather;
    bool empty = batch->size == 0;
    wal->flight = (struct flight){.active = true,
                                  .sync = sync,
                                  .number = empty ? wal->gather_number - 1 : wal->gather_number,
                                  .end = log_end(wal),
                                  .started_ns = wal->env->clock_ns(wal->env->context),
                                  .sync_commits = batch->sync_commits};
    if (sync)
        wal->sync_wanted = false;
    if (!empty)
        mshm_counter_add(&wal->figures->counters.log_writes, 1);
    wal->env->file_append(wal->env->context, wal->current.file, wal->end - batch->size,
                          batch->bytes, batch->size, sync, wal->tag_base + TAG_APPEND);
    if (!empty)
        gather_next(wal);
    MACE_KILL_POINT("wal:append_started");
}

int
wal_flush(struct wal *wal)
{
    if (wal->failed)
        return MSHM_IO;
    prepare_tend(wal, false);
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
        gather_map(wal);
        wal->done = wal->gather_number;
        gather_next(wal);
    } else if (!wal->header_syncing) { /* one append of a file at a time */
        flight_start(wal, false);
    }
    return MSHM_OK;
}

static int
flight_complete(struct wal *wal, int64_t result)
{
    struct flight flight = wal->flight;
    wal->flight.active = false;
    if (result != 0)
        return fail(wal);
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

static int
left_complete(struct wal *wal, int64_t result)
{
    wal->left_syncing = false;
    segment_retire(wal);
    if (result != 0)
        return fail(wal);
    mshm_counter_add(&wal->figures->counters.log_syncs, 1);
    if (position_before(wal->durable, wal->left_end))
        wal->durable = wal->left_end;
    return MSHM_OK;
}

int
wal_complete(struct wal *wal, const struct env_completion *completion)
{
    switch (completion->tag - wal->tag_base) {
    case TAG_APPEND:
        return flight_complete(wal, completion->result);
    case TAG_LEFT:
        return left_complete(wal, completion->result);
    case TAG_HEADER:
        wal->header_syncing = false;
        return completion->result == 0 ? MSHM_OK : fail(wal);
    default:
        assert(completion->tag - wal->tag_base == TAG_PREPARE);
        return prepare_complete(wal, completion->result);
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
           !wal->header_syncing && !wal->preparing && !wal->sync_wanted;
}

/* Two steps: what stands in the log becomes durable, then a record says so. The second follows the first's completion. */
void
wal_mark(struct wal *wal)
{
    wal->mark_wanted = false;
    if (wal->failed || wal->gather->size > 0 || wal->flight.active || wal->left_syncing ||
        wal->header_syncing || !position_before(wal->marked, wal->commit_end))
        return;
    if (position_before(wal->durable, wal->commit_end)) {
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
