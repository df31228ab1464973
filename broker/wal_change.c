/* wal_change.c - from one segment of the log to the next. See wal_parts.h for the whole picture. */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "env_status.h"
#include "kill_point.h"
#include "mshm/status.h"
#include "wal_parts.h"
#include "wal_recycle.h"

#define PREPARE_RETRY_NS UINT64_C(250000000)

/* Whatever goes wrong with a released segment costs a new one, and no more. */
static int
prepare_make(struct wal_prepare *job, struct wal_released_list *list)
{
    int result = wal_released_recycle(list, job->env, &job->segment, job->number, job->map);
    job->recycled = result == 0;
    if (result <= 0)
        return result;
    return wal_segment_prepare(job->env, &job->segment, job->number, job->size, job->map);
}

static int
prepare_run(void *argument)
{
    struct wal_prepare *job = argument;
    struct wal_released_list list;
    wal_segment_close(job->env, &job->closing);
    wal_released_init(&list, job->env, job->released, job->size, job->most);
    int result = job->make ? prepare_make(job, &list) : 0;
    job->removed = wal_released_trim(&list, job->env, job->spares, &job->more);
    wal_released_fini(&list);
    return result;
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

/* What counts as released: not a segment whose sync has not been reported. */
static uint64_t
release_limit(const struct wal *wal)
{
    bool held = wal->left.file != NULL && wal->left.number < wal->released;
    return held ? wal->left.number : wal->released;
}

bool
wal_untidy(const struct wal *wal)
{
    return release_limit(wal) > wal->tidied;
}

static void
prepare_start(struct wal *wal, bool make)
{
    wal->job = (struct wal_prepare){.env = wal->env,
                                    .closing = wal->closing,
                                    .make = make,
                                    .map = wal->options.mapping,
                                    .number = wal->current.number + 1,
                                    .size = next_size(wal),
                                    .most = wal->options.segment_size,
                                    .released = release_limit(wal),
                                    .spares = wal->spares};
    wal->closing = (struct wal_segment){0};
    wal->preparing = true;
    wal->env->job_start(wal->env->context, prepare_run, &wal->job, wal->tag_base + WAL_TAG_PREPARE);
}

/* The next segment is due when it is `needed`, at once in an incarnation that has filled one, and in its first segment
 * when a quarter is full: one that serves a few commits and leaves does not leave an empty segment behind. After a full
 * disk, tries again four times a second. */
static bool
next_due(const struct wal *wal, bool needed)
{
    if (wal->next.file != NULL)
        return false;
    if (!needed && wal->header.first_of_incarnation && wal->end < wal->current.size / 4)
        return false;
    return !wal->prepare_failed ||
           wal->env->clock_ns(wal->env->context) - wal->prepare_failed_ns >= PREPARE_RETRY_NS;
}

void
wal_prepare_tend(struct wal *wal, bool needed)
{
    if (wal->preparing)
        return;
    bool make = next_due(wal, needed);
    if (make || wal_untidy(wal))
        prepare_start(wal, make);
}

static void
count_segments(struct wal *wal)
{
    struct mshm_counters *counters = &wal->figures->counters;
    const struct wal_prepare *job = &wal->job;
    uint64_t present = AO_load(&counters->log_segments);
    uint64_t removed = job->removed < present ? job->removed : present;
    AO_store(&counters->log_segments, present - removed);
    mshm_counter_add(&counters->log_removed, job->removed);
    if (job->segment.file != NULL)
        mshm_counter_add(job->recycled ? &counters->log_recycled : &counters->log_segments, 1);
}

int
wal_prepare_complete(struct wal *wal, int64_t result)
{
    wal->preparing = false;
    count_segments(wal);
    if (!wal->job.more)
        wal->tidied = wal->job.released;
    if (result == 0) {
        if (wal->job.make) {
            wal->next = wal->job.segment;
            wal->prepare_failed = false;
        }
        return MSHM_OK;
    }
    if (!env_error_passes(result))
        return wal_fail(wal);
    if (!wal->prepare_failed)
        wal->env->log(wal->env->context, ENV_LOG_WARNING,
                      "no room to prepare the next log segment; trying again");
    wal->prepare_failed = true;
    wal->prepare_failed_ns = wal->env->clock_ns(wal->env->context);
    return MSHM_OK;
}

/* Notes where the records of a segment begin; before anything else changes. */
static int
span_add(struct wal *wal, uint64_t number)
{
    if (wal->span_count == wal->span_capacity) {
        uint32_t capacity = wal->span_capacity != 0 ? wal->span_capacity * 2 : 16;
        struct wal_span *spans = realloc(wal->spans, capacity * sizeof *spans);
        if (spans == NULL)
            return MSHM_NO_MEMORY;
        wal->spans = spans;
        wal->span_capacity = capacity;
    }
    wal->spans[wal->span_count++] = (struct wal_span){number, wal->bytes};
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
    return result == 0 ? MSHM_OK : wal_fail(wal);
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
    struct wal_position end = wal_log_end(wal);
    int status = span_add(wal, wal->next.number);
    if (status != MSHM_OK)
        return status;
    wal->header.first_of_incarnation = 0;
    status = header_write(wal, &wal->next, end);
    if (status != MSHM_OK)
        return status;
    wal->left = wal->current;
    wal->current = wal->next;
    wal->next = (struct wal_segment){0};
    wal->end = WAL_RECORDS_AT;
    if (wal_position_before(wal->durable, end)) {
        wal->left_syncing = true;
        wal->left_end = end;
        env->file_append(env->context, wal->left.file, end.offset, wal->batches[0].bytes, 0, true,
                         wal->tag_base + WAL_TAG_LEFT);
    } else {
        segment_retire(wal);
    }
    wal->header_syncing = true;
    env->file_append(env->context, wal->current.file, sizeof wal->header, wal->batches[0].bytes, 0,
                     true, wal->tag_base + WAL_TAG_HEADER);
    MACE_KILL_POINT("wal:segment_switched");
    return MSHM_OK;
}

int
wal_change(struct wal *wal)
{
    if (wal->flight.active || wal->left_syncing || wal->header_syncing)
        return MSHM_BUSY;
    if (wal->next.file == NULL) {
        wal_prepare_tend(wal, true);
        return wal->preparing ? MSHM_BUSY : MSHM_FULL;
    }
    return segment_switch(wal);
}

int
wal_left_complete(struct wal *wal, int64_t result)
{
    wal->left_syncing = false;
    segment_retire(wal);
    if (result != 0)
        return wal_fail(wal);
    mshm_counter_add(&wal->figures->counters.log_syncs, 1);
    if (wal_position_before(wal->durable, wal->left_end))
        wal->durable = wal->left_end;
    return MSHM_OK;
}

int
wal_change_first(struct wal *wal, const struct wal_start *start)
{
    const struct env *env = wal->env;
    int status = env_status(wal_segment_prepare(env, &wal->current, start->next_segment,
                                                first_size(wal->options.segment_size),
                                                wal->options.mapping));
    if (status != MSHM_OK)
        return status;
    wal->end = WAL_RECORDS_AT;
    wal->header.first_of_incarnation = 1;
    status = span_add(wal, wal->current.number);
    if (status == MSHM_OK)
        status = header_write(wal, &wal->current, start->end);
    if (status == MSHM_OK)
        status = env_status(env->file_sync(env->context, wal->current.file));
    if (status == MSHM_OK)
        mshm_counter_add(&wal->figures->counters.log_segments, 1);
    return status;
}

uint64_t
wal_bytes_since(const struct wal *wal, struct wal_position position)
{
    for (uint32_t i = wal->span_count; i-- > 0;)
        if (wal->spans[i].number == position.segment)
            return wal->bytes - wal->spans[i].before - (position.offset - WAL_RECORDS_AT);
    return wal->bytes; /* an earlier incarnation's: recovery's cut */
}

/* As many spares as this checkpoint frees are wanted before the next one; after a small one the number falls slowly. */
static void
spares_follow(struct wal *wal, uint32_t freed)
{
    uint32_t fallen = wal->spares - wal->spares / 4;
    wal->spares = freed > fallen ? freed : fallen;
    if (wal->spares < WAL_SPARES)
        wal->spares = WAL_SPARES;
}

void
wal_release(struct wal *wal, struct wal_position position)
{
    uint32_t gone = 0;
    assert(position.segment <= wal->current.number);
    if (wal_position_before(wal->covered, position))
        wal->covered = position;
    if (position.segment <= wal->released)
        return;
    wal->released = position.segment;
    while (gone < wal->span_count && wal->spans[gone].number < wal->released)
        gone++;
    spares_follow(wal, gone);
    wal->span_count -= gone;
    memmove(wal->spans, wal->spans + gone, wal->span_count * sizeof *wal->spans);
    if (!wal->failed)
        wal_prepare_tend(wal, false);
}
