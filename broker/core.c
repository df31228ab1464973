/* core.c - the loop: what one turn does.
 *
 *   turn: completions -> control requests that waited -> requests of the rings -> the log's batch -> visible, answers,
 *         wakes -> one leaf that was put off -> sessions that ended -> (every millisecond) pruning, reclaiming, expiry
 */
#include "core.h"

#include "checkpoint.h"
#include "commit.h"
#include "control.h"
#include "core_parts.h"
#include "expire.h"
#include "kill_point.h"
#include "mshm/status.h"
#include "sessions.h"

enum {
    COMPLETIONS = 32,             /* taken per call of env.poll */
    LINGER_NS = 10 * 1000 * 1000, /* the same while nothing changes and a reader holds things up */
    SURVEY_NS =
        250 * 1000 *
        1000, /* the same while snapshots are registered and nothing else happens: are they still? */
    SWEEP_NS = 100 * 1000 * 1000, /* the same while there is history and nobody left who needs it */
    MARK_NS = 50 * 1000 * 1000,   /* idle for that long: the log gets a durable mark */
    TEND_LEAVES = 4,              /* per maintenance */
    TIDY_LEAVES = 32,             /* the same, when nobody has committed for a while */
    TIDY_NS = 5 * 1000 * 1000,    /* what a while is */
    CHECK_TURNS = 32,             /* between two looks whether a checkpoint is due, while busy */
};

enum { STOP_NOT, STOP_DRAINS, STOP_CHECKPOINTS, STOP_SYNCS, STOP_MARKS, STOP_DONE };

/* --- one turn ----------------------------------------------------------------------------------------------------- */

static int
completion_take(struct core *core, const struct env_completion *completion)
{
    uint64_t tag = completion->tag;
    if (tag >= CORE_TAG_PAGER) {
        pager_complete(core->pager, completion);
        return MSHM_OK;
    }
    if (tag >= CORE_TAG_SPILL) {
        tree_history_complete(core->tree, completion);
        return MSHM_OK;
    }
    if (tag >= CORE_TAG_CHECKPOINT)
        return checkpoint_complete(core, completion);
    return wal_complete(core->wal, completion);
}

int
core_completions(struct core *core, bool *moved)
{
    struct env_completion completions[COMPLETIONS];
    unsigned count = core->env->poll(core->env->context, completions, COMPLETIONS);
    int status = MSHM_OK;
    for (unsigned i = 0; i < count && status == MSHM_OK; i++)
        status = completion_take(core, &completions[i]);
    if (moved != NULL && count > 0)
        *moved = true;
    if (pager_turn(core->pager) && moved != NULL)
        *moved = true;
    if (tree_history_arrive(core->tree) && moved != NULL)
        *moved = true;
    return status;
}

int
core_log_turn(struct core *core, bool *moved)
{
    int status = wal_flush(core->wal);
    if (status != MSHM_OK || (wal_idle(core->wal) && checkpoint_idle(core->checkpoint) &&
                              pager_idle(core->pager) && tree_history_idle(core->tree)))
        return status;
    return core_completions(core, moved);
}

/* The first failed write or sync ends the incarnation: what the disk holds now only a recovery can tell. Liveness says so
 * before anybody is answered, so that no client tries again here. */
static void
core_poison(struct core *core)
{
    core->poisoned = true;
    AO_int_store_release(&core->store->liveness, MSHM_LIVENESS_POISONED);
    core->env->log(core->env->context, ENV_LOG_ERROR,
                   "a write or sync of the log failed: nothing more is acknowledged");
    commits_poison(core);
    control_retry(core);
    control_checkpoints(core);
}

void
core_collect(void *argument)
{
    struct core *core = argument;
    snapshots_collect(&core->snapshots, core->store, sessions_snapshots, core, core->now_ns);
}

static mshm_timestamp
oldest_snapshot(const struct core *core)
{
    return core->snapshots.count > 0 ? core->snapshots.list[0] : core->snapshots.horizon;
}

static void
pages_report(struct core *core)
{
    struct mshm_counters *counters = &core->figures->counters;
    struct pages_figures figures;
    uint64_t live = 0, total = 0;
    pages_figures(core->pages, &figures);
    AO_store(&counters->dirty_bytes, figures.dirty_bytes);
    AO_store(&counters->sealed_bytes, figures.sealed_bytes + figures.kept_bytes);
    AO_store(&counters->pages_resident, figures.resident_pages);
    AO_store(&counters->evictions, figures.evictions);
    for (uint32_t i = 0; i < data_count(core->data); i++) {
        struct data_figures file;
        data_describe(core->data, i, &file);
        live += file.live;
        total += file.total;
    }
    AO_store(&counters->data_live, live);
    AO_store(&counters->data_total, total);
}

static void
core_report(struct core *core)
{
    struct mshm_counters *counters = &core->figures->counters;
    frames_report(core->frames, counters);
    pages_report(core);
    AO_store(&counters->visible, core->visible);
    AO_store(&counters->snapshots, core->snapshots.count);
    AO_store(&counters->buckets, catalogue_count(core->catalogue));
}

/* Dropped buckets give their pages back; inner pages that are not in memory have to be read for that. */
static bool
core_reap(struct core *core)
{
    const mshm_pid *pids;
    if (!catalogue_reap(core->catalogue, oldest_snapshot(core)))
        return false;
    uint32_t count = tree_missing(core->tree, &pids);
    for (uint32_t i = 0; i < count; i++)
        (void)pager_want(core->pager, pids[i], NULL); /* without memory: asked for again */
    return true;
}

static void
core_maintain(struct core *core)
{
    core->dirty = false;
    core->maintained_ns = core->now_ns;
    core_collect(core);
    frames_reclaim(core->frames, false);
    bool more = tree_tend(core->tree, TEND_LEAVES);
    more = expire_run(core) || more;
    more = core_reap(core) || more;
    core->pressed = more || core->sessions->held > 0; /* who waits for memory rings for nothing */
    if (core->untidy && core->now_ns - core->committed_ns >= TIDY_NS &&
        tree_history_over(core->tree) == 0)
        core->untidy = tree_tidy(core->tree, TIDY_LEAVES, catalogue_resolve, core->catalogue);
    uint64_t expiry = expire_due_ns(core);
    core->expiry_ns = expiry == UINT64_MAX ? UINT64_MAX : core->now_ns + expiry;
    outcomes_expire(core->outcomes, core->now_ns - core->started_ns);
    sessions_look(core);
    core_evict(core);
    core_report(core);
}

/* Nanoseconds until maintenance is due: 0 = now, UINT64_MAX = there is no reason for it. */
static uint64_t
maintain_due_ns(const struct core *core)
{
    uint64_t interval = UINT64_MAX;
    if (core->dirty || core->pressed || core->untidy)
        interval = CORE_MAINTAIN_NS;
    else if (frames_pending(core->frames) || catalogue_reap_pending(core->catalogue))
        interval = LINGER_NS;
    else if (core->snapshots.count > 0)
        interval = SURVEY_NS;
    else if (tree_history_there(core->tree))
        interval = SWEEP_NS;
    uint64_t since = core->now_ns - core->maintained_ns;
    uint64_t due = interval == UINT64_MAX ? UINT64_MAX : since >= interval ? 0 : interval - since;
    uint64_t expiry = core->expiry_ns == UINT64_MAX    ? UINT64_MAX
                      : core->expiry_ns > core->now_ns ? core->expiry_ns - core->now_ns
                                                       : 0;
    return expiry < due ? expiry : due;
}

static uint64_t
mark_due_ns(const struct core *core)
{
    uint64_t since = core->now_ns - core->committed_ns;
    if (!core->unmarked || !commits_idle(core->commits))
        return UINT64_MAX;
    return since >= MARK_NS ? 0 : MARK_NS - since;
}

/* What can wait until the answers are out. Returns how long the host may sleep. */
static uint64_t
core_housekeeping(struct core *core, uint64_t due_ns)
{
    uint64_t maintain = maintain_due_ns(core);
    if (maintain == 0) {
        core_maintain(core);
        maintain = maintain_due_ns(core);
    }
    uint64_t mark = mark_due_ns(core);
    if (mark == 0 && wal_idle(core->wal)) {
        wal_mark(core->wal);
        core->unmarked = false;
        mark = UINT64_MAX;
    }
    uint64_t wait = maintain < mark ? maintain : mark;
    return wait < due_ns ? wait : due_ns;
}

/* An orderly stop, after the rings are drained: a sync, then the mark that lets a recovery find the end at once. */
static void
core_stop_turn(struct core *core)
{
    if (core->stop_stage == STOP_DRAINS) {
        if (!sessions_drained(core) || !commits_idle(core->commits))
            return;
        MACE_KILL_POINT("core:stopping");
        core->stop_ticket = checkpoint_request(core);
        core->stop_stage = STOP_CHECKPOINTS;
    } else if (core->stop_stage == STOP_CHECKPOINTS) {
        bool done = checkpoint_done(core->checkpoint) >= core->stop_ticket &&
                    checkpoint_idle(core->checkpoint);
        if (!done && !checkpoint_stuck(core->checkpoint))
            return; /* without room for it the log alone has to do */
        core->stop_ticket = wal_sync_request(core->wal);
        core->stop_stage = STOP_SYNCS;
    } else if (core->stop_stage == STOP_SYNCS) {
        if (wal_synced(core->wal) < core->stop_ticket || !wal_idle(core->wal))
            return;
        wal_mark(core->wal);
        core->unmarked = false;
        core->stop_stage = STOP_MARKS;
    } else if (wal_idle(core->wal) && pager_idle(core->pager) && tree_history_idle(core->tree)) {
        core->stop_stage = STOP_DONE;
        core->stopped = true;
    }
}

/* Everything between the first completion and the last wake. MSHM_IO: poison. */
static int
core_serve(struct core *core, bool *done)
{
    int status = core_log_turn(core, done);
    if (status != MSHM_OK)
        return status;
    if (core->sessions->controls_waiting > 0)
        *done = control_retry(core) || *done;
    mshm_timestamp applied = core->applied;
    core_slow(core);
    *done = sessions_drain(core) || *done;
    if (core->applied != applied) {
        core->committed_ns = core->now_ns;
        core->unmarked = core->untidy = true;
    }
    status = wal_flush(core->wal);
    if (status != MSHM_OK)
        return status;
    *done = commits_publish(core) || *done;
    control_checkpoints(core);
    if (core->applied != applied) /* while the clients read their answers */
        core->pressed = tree_tend(core->tree, 1) || core->pressed;
    return MSHM_OK;
}

bool
core_step(struct core *core, uint64_t *wait_ns)
{
    bool done = false;
    *wait_ns = UINT64_MAX;
    core->now_ns = core->env->clock_ns(core->env->context);
    core->sessions->stirred = false;
    mshm_counter_add(&core->figures->counters.loops, 1);
    if (core->stopped || core->poisoned)
        return sessions_settle(core);
    if (core_serve(core, &done) != MSHM_OK) {
        core_poison(core);
        return true;
    }
    done = tree_history_turn(core->tree, core->now_ns) || done;
    if (core->history_held) /* there is nothing better to do */
        done = expire_run(core) || done;
    done = sessions_settle(core) || done;
    /* A page that finds no frame is tried again, whatever else there is to do. */
    bool frameless = pager_short(core->pager) > 0 || tree_history_waits(core->tree);
    uint64_t due_ns = frameless ? CORE_MAINTAIN_NS : UINT64_MAX;
    if (tree_history_short(core->tree) > 0)
        (void)core_make_room(core);
    bool look = !done || !checkpoint_idle(core->checkpoint) || ++core->turns % CHECK_TURNS == 0;
    if (look && checkpoint_turn(core, &done, &due_ns) != MSHM_OK) {
        core_poison(core);
        return true;
    }
    core_evict(core);
    *wait_ns = core_housekeeping(core, due_ns);
    unsigned stage = core->stop_stage;
    if (core->stopping)
        core_stop_turn(core);
    return done || core->stop_stage != stage;
}

/* --- the end, and reports ----------------------------------------------------------------------------------------- */

void
core_stop(struct core *core)
{
    if (core->stopping)
        return;
    core->stopping = true;
    core->stop_stage = STOP_DRAINS;
    sessions_stop(core, true);
}

void
core_stop_cancel(struct core *core)
{
    core->stopping = core->stopped = false;
    core->stop_stage = STOP_NOT;
    sessions_stop(core, false);
}

bool
core_stopped(const struct core *core)
{
    return core->stopped;
}

bool
core_poisoned(const struct core *core)
{
    return core->poisoned;
}

uint64_t
core_incarnation(const struct core *core)
{
    return core->manifest.incarnation;
}

const uint8_t *
core_database_id(const struct core *core)
{
    return core->manifest.database_id;
}

struct check {
    struct core *core;
    const char **why;
};

static int
bucket_check(const struct catalogue_bucket *bucket, void *argument)
{
    struct check *check = argument;
    struct mshm_tree_ref ref = {.bucket = bucket->id, .root = bucket->root};
    uint64_t live;
    return tree_check(check->core->tree, ref, &live, check->why);
}

int
core_check(struct core *core, const char **why)
{
    struct check check = {core, why};
    int status = catalogue_each(core->catalogue, bucket_check, &check);
    if (status == MSHM_OK)
        status = frames_check(core->frames, why);
    if (status == MSHM_OK)
        status = tree_history_check(core->tree, why);
    if (status == MSHM_OK && core->visible > core->applied) {
        *why = "a commit is visible that was never applied";
        status = MSHM_CORRUPT;
    }
    return status;
}
