/* checkpoint.c - when a checkpoint begins, what it seals, and its stages one after the other. See checkpoint.h.
 *
 * The cut is the newest commit applied at a batch boundary; it may be ahead of the durable log. So the checkpoint itself
 * makes those commits durable, and a recovery passes over their records, whatever state the log was left in.
 */
#include "checkpoint.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "checkpoint_parts.h"
#include "env_status.h"
#include "kill_point.h"
#include "mshm/status.h"
#include "pager.h"

enum {
    RETRY_NS = 200 * 1000 * 1000, /* between two tries while the disk is full */
    DIRTY_SHARE = 4,              /* a checkpoint is due when this part of the cache is dirty */
    PRESSED_SHARE = 2,            /* commits wait when this part is dirty, sealed or kept */
    ROOMY_SHARE =
        4, /* while so much of the cache is free, nobody reads what could stand there, and */
    ROOMY_EIGHTHS = 3, /* this is when one is due: it finds more writes for each page it writes; */
    ROOMY_PRESSED_EIGHTHS = 6, /* and this is when commits wait, but */
    FEW_FREE_SHARE = 8,        /* not with less than so much of it free */
    CHAINED_DUE_SHARE =
        16, /* one is due when pages of this part of the cache were read as several records */
    SYNC_SHARE = 8, /* of the room for commits beside a checkpoint is for the time of its syncs */
    STRAYS_SHARE = 16, /* writes of pages that cannot be read may take this part of the cache, */
    STRAYS_MOST =
        8 << 20, /* and no more bytes than this: the manifest brings them with each edit */
    BLIND_PAGES =
        1 << 19, /* pages with blind writes that make one due: their table is private memory */
};

int
checkpoint_create(struct core *core)
{
    struct checkpoint *checkpoint = calloc(1, sizeof *checkpoint);
    if (checkpoint == NULL)
        return MSHM_NO_MEMORY;
    core->checkpoint = checkpoint;
    checkpoint->done_ns = core->env->clock_ns(core->env->context);
    checkpoint->snapshots = malloc(SNAPSHOTS_CAPACITY * sizeof *checkpoint->snapshots);
    if (checkpoint->snapshots == NULL)
        return MSHM_NO_MEMORY;
    for (unsigned i = 0; i < BATCHES; i++) {
        checkpoint->batches[i].bytes = aligned_alloc(MSHM_UNIT, BATCH_BYTES);
        if (checkpoint->batches[i].bytes == NULL)
            return MSHM_NO_MEMORY;
    }
    uint64_t share = core->geometry.frames_size / STRAYS_SHARE;
    return strays_init(&checkpoint->strays, share < STRAYS_MOST ? share : STRAYS_MOST);
}

void
checkpoint_destroy(struct checkpoint *checkpoint)
{
    if (checkpoint == NULL)
        return;
    for (unsigned i = 0; i < BATCHES; i++) {
        free(checkpoint->batches[i].bytes);
        gather_reset(&checkpoint->batches[i].gather);
    }
    edit_fini(checkpoint);
    strays_fini(&checkpoint->strays);
    free(checkpoint->snapshots);
    free(checkpoint->catalogue);
    free(checkpoint->outcomes);
    free(checkpoint);
}

void
checkpoint_close(struct core *core)
{
    struct checkpoint *checkpoint = core->checkpoint;
    if (checkpoint != NULL && checkpoint->manifest_file != NULL)
        core->env->file_close(core->env->context, checkpoint->manifest_file);
    if (checkpoint != NULL)
        checkpoint->manifest_file = NULL;
}

/* --- when --- */

/* Writes to pages that are not in memory are the smaller part of what a checkpoint has to do for them: so it waits for
 * more of them where they are in nobody's way. */
static bool
dirty_due(const struct core *core)
{
    struct pages_figures figures;
    pages_figures(core->pages, &figures);
    uint64_t size = core->geometry.frames_size;
    return figures.dirty_bytes > size / DIRTY_SHARE &&
           (figures.dirty_bytes >= size / 8 * ROOMY_EIGHTHS ||
            frames_available(core->frames) < size / ROOMY_SHARE);
}

/* What may be dirty, sealed or kept before commits wait. */
static uint64_t
pressed_bytes(const struct core *core)
{
    uint64_t size = core->geometry.frames_size;
    return frames_available(core->frames) < size / FEW_FREE_SHARE
               ? size / PRESSED_SHARE
               : size / 8 * ROOMY_PRESSED_EIGHTHS;
}

bool
checkpoint_pressed(const struct core *core)
{
    struct pages_figures figures;
    pages_figures(core->pages, &figures);
    return figures.dirty_bytes + figures.sealed_bytes + figures.kept_bytes >= pressed_bytes(core);
}

bool
checkpoint_outrun(const struct core *core)
{
    const struct checkpoint *checkpoint = core->checkpoint;
    struct pages_figures figures;
    if (checkpoint->stage != CHECKPOINT_FILL || checkpoint->stuck)
        return false;
    pages_figures(core->pages, &figures);
    uint64_t taken = figures.sealed_bytes + figures.kept_bytes, most = pressed_bytes(core);
    uint64_t room = most > taken ? most - taken : 0;
    /* In units, so that no product overflows. */
    uint64_t half = (room - room / SYNC_SHARE) / 2 / MSHM_UNIT;
    uint64_t dirty = figures.dirty_bytes / MSHM_UNIT;
    return dirty > half && (dirty - half) * checkpoint->count > half * checkpoint->packed;
}

static uint64_t
log_bytes(const struct core *core)
{
    return core->wal != NULL ? wal_bytes_since(core->wal, core->manifest.cut.position) : 0;
}

/* Pages are split, merged and given back without a commit, too. They cannot leave memory before they were written, and
 * without them commits may have to wait: so then a checkpoint is made whose cut is the one before it once more. Without a
 * commit, blind writes are those of pages that could not be read: they are safe, and wait until there is more to do, or
 * somebody asks. */
static bool
checkpoint_dirty(const struct core *core, bool asked)
{
    struct pages_figures figures;
    pages_figures(core->pages, &figures);
    return core->applied > core->manifest.cut.timestamp ||
           figures.changed_pages > (asked ? 0 : figures.blind_pages);
}

/* Nanoseconds until the time alone is reason enough for one. */
static uint64_t
interval_left(const struct core *core)
{
    uint64_t since = core->now_ns - core->checkpoint->done_ns;
    uint64_t interval = core->options.checkpoint_interval_ns;
    return since >= interval ? 0 : interval - since;
}

/* Readers would gain from one. */
static bool
chained_due(const struct core *core)
{
    struct pages_figures figures;
    pages_figures(core->pages, &figures);
    return figures.chained_pages * core->options.page_size >
           core->geometry.frames_size / CHAINED_DUE_SHARE;
}

static bool
checkpoint_due(struct core *core)
{
    struct checkpoint *checkpoint = core->checkpoint;
    if (checkpoint->requested > checkpoint->sealed || chained_due(core))
        return true;
    if (!checkpoint_dirty(core, false))
        return false;
    return dirty_due(core) || blind_pages(pages_blind(core->pages)) > BLIND_PAGES ||
           log_bytes(core) > core->options.checkpoint_log_bytes || interval_left(core) == 0;
}

uint64_t
checkpoint_request(struct core *core)
{
    struct checkpoint *checkpoint = core->checkpoint;
    if (!checkpoint_dirty(core, true) && checkpoint->stage == CHECKPOINT_IDLE &&
        !checkpoint->working)
        return checkpoint->done;
    if (checkpoint->requested <= checkpoint->sealed)
        checkpoint->requested = checkpoint->sealed + 1;
    return checkpoint->requested;
}

uint64_t
checkpoint_done(const struct checkpoint *checkpoint)
{
    return checkpoint->done;
}

bool
checkpoint_idle(const struct checkpoint *checkpoint)
{
    return checkpoint->stage == CHECKPOINT_IDLE && !checkpoint->working;
}

bool
checkpoint_stuck(const struct checkpoint *checkpoint)
{
    return checkpoint->stuck;
}

int
checkpoint_hindrance(const struct checkpoint *checkpoint)
{
    return checkpoint->hindrance == MSHM_IO ? MSHM_IO : MSHM_FULL;
}

int
checkpoint_hindered(struct core *core, int64_t error, const char *what)
{
    if (error != MSHM_FULL && error != MSHM_NO_MEMORY && error != MSHM_LIMIT)
        return MSHM_IO;
    return checkpoint_wait(core, (int)error, what);
}

int
checkpoint_wait(struct core *core, int status, const char *what)
{
    struct checkpoint *checkpoint = core->checkpoint;
    char line[160];
    snprintf(line, sizeof line, "checkpoint: %s: %s; it is tried again", what,
             mshm_strerror(status));
    if (!checkpoint->stuck)
        core->env->log(core->env->context, ENV_LOG_WARNING, line);
    checkpoint->stuck = true;
    checkpoint->hindrance = status;
    checkpoint->hindrances++;
    checkpoint->retry_ns = core->now_ns + RETRY_NS;
    return MSHM_OK;
}

/* --- sealing --- */

static void
keep_copy(struct core *core)
{
    struct checkpoint *checkpoint = core->checkpoint;
    const struct snapshots *snapshots = &core->snapshots;
    memcpy(checkpoint->snapshots, snapshots->list, snapshots->count * sizeof *snapshots->list);
    checkpoint->keep = (struct page_keep){
        .horizon = snapshots->horizon,
        .count = snapshots->count,
        .snapshots = checkpoint->snapshots,
    };
}

static int
tables_save(struct core *core)
{
    struct checkpoint *checkpoint = core->checkpoint;
    free(checkpoint->catalogue);
    free(checkpoint->outcomes);
    checkpoint->catalogue = checkpoint->outcomes = NULL;
    int status =
        catalogue_save(core->catalogue, &checkpoint->catalogue, &checkpoint->catalogue_size);
    if (status == MSHM_OK)
        status = outcomes_save(core->outcomes, &checkpoint->outcomes, &checkpoint->outcomes_size);
    return status;
}

/* Where the log goes on behind the newest applied commit. */
static struct manifest_cut
cut_now(const struct core *core)
{
    struct manifest_cut cut = core->checkpoint->replayed;
    if (core->wal != NULL && !core->replaying)
        wal_tell(core->wal, &cut.position, &cut.chain);
    cut.timestamp = core->applied;
    return cut;
}

static int
checkpoint_seal(struct core *core)
{
    struct checkpoint *checkpoint = core->checkpoint;
    core_collect(core);
    int status = tables_save(core);
    if (status == MSHM_OK)
        status = pages_seal(core->pages, core->applied);
    if (status != MSHM_OK)
        return checkpoint_hindered(core, status, "what is to be written cannot be listed");
    keep_copy(core);
    strays_begin(&checkpoint->strays);
    checkpoint->cut = cut_now(core);
    checkpoint->count = pages_sealed_count(core->pages);
    checkpoint->next = checkpoint->gather_next = 0;
    checkpoint->written = checkpoint->packed = 0;
    checkpoint->sealed++;
    checkpoint->begun_ns = core->now_ns;
    checkpoint->stage = CHECKPOINT_FILL;
    MACE_KILL_POINT("checkpoint:sealed");
    return MSHM_OK;
}

/* --- the end --- */

static void
checkpoint_log(struct core *core)
{
    const struct checkpoint *checkpoint = core->checkpoint;
    char line[160];
    uint64_t now_ns = core->env->clock_ns(core->env->context);
    snprintf(line, sizeof line,
             "checkpoint: commit %" PRIu64 ", %" PRIu32 " pages, %" PRIu64 " bytes, %" PRIu64 " ms",
             checkpoint->cut.timestamp, checkpoint->count, checkpoint->written,
             (now_ns - checkpoint->begun_ns) / 1000000);
    core->env->log(core->env->context, ENV_LOG_INFO, line);
}

/* All of it has taken effect. */
static void
checkpoint_end(struct core *core)
{
    struct checkpoint *checkpoint = core->checkpoint;
    checkpoint_log(core);
    checkpoint->done = checkpoint->sealed;
    checkpoint->done_ns = core->now_ns;
    if (core->wal != NULL && !core->replaying)
        wal_release(core->wal, core->manifest.cut.position);
    struct mshm_counters *counters = &core->figures->counters;
    mshm_counter_add(&counters->checkpoints, 1);
    AO_store(&counters->checkpoint_cut, checkpoint->cut.timestamp);
    checkpoint->stage = manifest_long(&core->manifest) ? CHECKPOINT_COLLECT : CHECKPOINT_IDLE;
    checkpoint->collect_next = 1;
    core->dirty = true; /* the figures are others now */
    MACE_KILL_POINT("checkpoint:published");
}

/* A name that comes back, because this failed or was not synced, is removed at the next start. */
static int
files_remove(void *argument)
{
    struct core *core = argument;
    struct checkpoint *checkpoint = core->checkpoint;
    for (uint32_t i = 0; i < checkpoint->removing_count; i++)
        (void)data_file_remove(core->env, checkpoint->removing[i]);
    return core->env->directory_sync(core->env->context, "data");
}

/* Files that the manifest does not name any more go when no read of them is under way. */
static void
removals_turn(struct core *core)
{
    struct checkpoint *checkpoint = core->checkpoint;
    uint32_t kept = 0;
    if (checkpoint->working || checkpoint->removal_count == 0)
        return;
    checkpoint->removing_count = 0;
    for (uint32_t i = 0; i < checkpoint->removal_count; i++) {
        uint32_t number = checkpoint->removals[i];
        if (checkpoint->removing_count == REMOVALS || pager_reads(core->pager, number)) {
            checkpoint->removals[kept++] = number;
            continue;
        }
        data_forget(core->data, number);
        checkpoint->removing[checkpoint->removing_count++] = number;
    }
    checkpoint->removal_count = kept;
    if (checkpoint->removing_count == 0)
        return;
    checkpoint->working = core->dirty = true;
    core->env->job_start(core->env->context, files_remove, core,
                         CORE_TAG_CHECKPOINT + CHECKPOINT_TAG_REMOVE);
}

/* --- turns --- */

static int
stage_turn(struct core *core, bool *moved)
{
    struct checkpoint *checkpoint = core->checkpoint;
    switch (checkpoint->stage) {
    case CHECKPOINT_IDLE:
        removals_turn(core);
        if (checkpoint->working || !checkpoint_due(core))
            return MSHM_OK;
        *moved = true;
        return checkpoint_seal(core);
    case CHECKPOINT_FILL:
        if (fill_ended(checkpoint)) {
            checkpoint->stage = CHECKPOINT_SYNC;
            *moved = true;
            return MSHM_OK;
        }
        return fill_turn(core, moved);
    case CHECKPOINT_SYNC:
        return sync_turn(core, moved);
    case CHECKPOINT_PUBLISH:
        *moved = true;
        if (!pages_published(core->pages, SLICE_PAGES))
            checkpoint_end(core);
        return MSHM_OK;
    default:
        return edit_turn(core, moved);
    }
}

/* Progress ends being stuck; what was hindered again has set a new time. */
static int
stage_check(struct checkpoint *checkpoint, uint64_t hindrances, int status)
{
    if (checkpoint->hindrances == hindrances)
        checkpoint->stuck = false;
    return status;
}

int
checkpoint_turn(struct core *core, bool *moved, uint64_t *due_ns)
{
    struct checkpoint *checkpoint = core->checkpoint;
    if (checkpoint->stuck && core->now_ns < checkpoint->retry_ns) {
        uint64_t left = checkpoint->retry_ns - core->now_ns;
        *due_ns = left < *due_ns ? left : *due_ns;
        return MSHM_OK;
    }
    bool here = false;
    uint64_t hindrances = checkpoint->hindrances;
    uint64_t begin_ns = core->env->clock_ns(core->env->context);
    enum checkpoint_stage before = checkpoint->stage;
    int status = stage_turn(core, &here);
    if (checkpoint->stage != before)
        status = stage_check(checkpoint, hindrances, status);
    if (here) {
        *moved = true;
        mshm_histogram_add(&core->figures->checkpoint_pause,
                           core->env->clock_ns(core->env->context) - begin_ns);
    } else if (checkpoint->stage == CHECKPOINT_IDLE && checkpoint_dirty(core, false)) {
        uint64_t left = interval_left(core);
        *due_ns = left < *due_ns ? left : *due_ns;
    }
    return status;
}

int
checkpoint_complete(struct core *core, const struct env_completion *completion)
{
    struct checkpoint *checkpoint = core->checkpoint;
    unsigned tag = (unsigned)(completion->tag - CORE_TAG_CHECKPOINT);
    uint64_t hindrances = checkpoint->hindrances;
    if (tag == CHECKPOINT_TAG_REMOVE) {
        checkpoint->working = false;
        return MSHM_OK; /* a name that comes back is removed at the next start */
    }
    int status = tag <= CHECKPOINT_TAG_SYNC ? fill_complete(core, tag, completion->result)
                                            : edit_complete(core, tag, completion->result);
    return stage_check(checkpoint, hindrances, status);
}

/* --- recovery --- */

void
checkpoint_replayed(struct checkpoint *checkpoint, const struct manifest_cut *cut)
{
    checkpoint->replayed = *cut;
}

int
checkpoint_run(struct core *core)
{
    struct checkpoint *checkpoint = core->checkpoint;
    uint64_t ticket = checkpoint_request(core), due_ns = UINT64_MAX;
    while (checkpoint->done < ticket || !checkpoint_idle(checkpoint)) {
        bool moved = false;
        core->now_ns = core->env->clock_ns(core->env->context);
        int status = checkpoint_turn(core, &moved, &due_ns);
        if (status == MSHM_OK)
            status = core_completions(core, &moved);
        if (status != MSHM_OK)
            return status;
        if (checkpoint->stuck)
            return checkpoint->hindrance;
        frames_reclaim(core->frames, false);
    }
    return MSHM_OK;
}
