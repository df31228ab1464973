/* core.c - the loop: what one turn does, and how the parts are put together and taken apart.
 *
 *   turn: completions -> control requests that waited -> requests of the rings -> the log's batch -> visible, answers,
 *         wakes -> one leaf that was put off -> sessions that ended -> (every millisecond) pruning, reclaiming, expiry
 */
#include "core.h"

#include <stdlib.h>

#include "checkpoint.h"
#include "commit.h"
#include "control.h"
#include "core_parts.h"
#include "expire.h"
#include "kill_point.h"
#include "mshm/status.h"
#include "sessions.h"

enum {
    BESIDE_FREE = 32 << 20,       /* bytes beside the cache that it does not pay for */
    COMPLETIONS = 32,             /* taken per call of env.poll */
    MAINTAIN_NS = 1000 * 1000,    /* between two rounds of pruning and reclaiming */
    LINGER_NS = 10 * 1000 * 1000, /* the same while nothing changes and a reader holds things up */
    SURVEY_NS =
        250 * 1000 *
        1000, /* the same while snapshots are registered and nothing else happens: are they still? */
    MARK_NS = 50 * 1000 * 1000,      /* idle for that long: the log gets a durable mark */
    TEND_LEAVES = 4,                 /* per maintenance */
    TIDY_LEAVES = 32,                /* the same, when nobody has committed for a while */
    TIDY_NS = 5 * 1000 * 1000,       /* what a while is */
    RESERVE_SHARE = 32,              /* part of the cache kept for deletes and housekeeping */
    FREE_SHARE = 16,                 /* part of the cache that is kept free by eviction */
    ROOM_BYTES = 4 * MSHM_MAX_FRAME, /* evicted at once when a commit is short of frames */
    CHECK_TURNS = 32,                /* between two looks whether a checkpoint is due, while busy */
    FRESH_NS = 10 * 1000 * 1000,     /* a page that was read in stays at least that long */
};

enum { STOP_NOT, STOP_DRAINS, STOP_CHECKPOINTS, STOP_SYNCS, STOP_MARKS, STOP_DONE };

void
core_options_init(struct core_options *options)
{
    *options = (struct core_options){
        .cache_size = UINT64_C(256) << 20,
        .map_capacity = UINT64_C(1) << 22,
        .page_size = 8192,
        .segment_size = UINT64_C(64) << 20,
        .data_file_size = UINT64_C(256) << 20,
        .checkpoint_log_bytes = UINT64_C(1) << 30,
        .checkpoint_interval_ns = UINT64_C(60) * 1000 * 1000 * 1000,
        .log_mapping = true,
        .max_sessions = MSHM_MAX_SESSIONS,
        .revoke_after_ns = UINT64_C(20) * 1000 * 1000,
    };
}

/* What the broker knows of each 4 KiB of frames takes up to 96 bytes beside them. A small cache leaves that to the private
 * memory that every broker has; a large one pays for it. */
static uint64_t
frames_size(const struct core_options *options)
{
    uint64_t beside = options->cache_size / 128 * 3;
    return beside <= BESIDE_FREE ? options->cache_size
                                 : options->cache_size - (beside - BESIDE_FREE);
}

uint64_t
core_store_size(const struct core_options *options)
{
    struct mshm_store_geometry geometry;
    mshm_store_geometry_compute(frames_size(options), options->map_capacity, &geometry);
    return geometry.store_size;
}

/* --- building ----------------------------------------------------------------------------------------------------- */

static bool
options_valid(const struct core_options *options)
{
    return options->cache_size >= 16 * MSHM_MAX_FRAME && options->map_capacity >= 2 &&
           options->map_capacity <= MSHM_MAX_PIDS && options->page_size >= 4096 &&
           options->page_size <= MSHM_MAX_FRAME &&
           (options->page_size & (options->page_size - 1)) == 0 && options->max_sessions >= 1 &&
           options->max_sessions <= MSHM_MAX_SESSIONS;
}

static int
store_create(struct core *core)
{
    static const uint8_t no_id[16];
    mshm_store_geometry_compute(frames_size(&core->options), core->options.map_capacity,
                                &core->geometry);
    if (core->env->store_back(core->env->context, 0, core->geometry.map_offset) != 0)
        return MSHM_FULL;
    mshm_store_init(core->base, &core->geometry, 0, no_id, core->options.broker_pid);
    core->store = (struct mshm_store *)core->base;
    core->figures = (struct mshm_figures *)(core->base + core->geometry.counters_offset);
    return mshm_view_init(&core->view, core->base, core->geometry.store_size, NULL);
}

static int
frames_start(struct core *core)
{
    uint64_t reserve = core->geometry.frames_size / RESERVE_SHARE;
    struct frames_options options = {
        .frames_size = core->geometry.frames_size,
        .reserve_size = reserve > MSHM_MAX_FRAME ? reserve : MSHM_MAX_FRAME,
        .revoke_after_ns = core->options.revoke_after_ns,
    };
    return frames_create(&core->frames, &options, core->env, core->base, &core->geometry,
                         sessions_lanes, core);
}

static int
pages_start(struct core *core)
{
    struct pages_options options = {.hints = core->options.hints, .fresh_ns = FRESH_NS};
    return pages_create(&core->pages, &options, core->env, core->frames, &core->geometry);
}

static int
index_start(struct core *core)
{
    struct tree_options options = {
        .page_size = core->options.page_size,
        .history_limit = core->options.history_limit != 0 ? core->options.history_limit
                                                          : core->options.cache_size / 4,
        .history_size = core->options.history_size,
        .spill_tags = CORE_TAG_SPILL,
        .hints = core->options.hints,
        .fresh_ns = FRESH_NS,
    };
    int status = tree_create(&core->tree, &options, core->env, core->frames, core->pages,
                             &core->snapshots, &core->view, &core->figures->counters);
    if (status != MSHM_OK)
        return status;
    tree_set_collect(core->tree, core_collect, core);
    struct mshm_catalogue_entry *entries =
        (struct mshm_catalogue_entry *)(core->base + core->geometry.catalogue_offset);
    status = catalogue_create(&core->catalogue, core->tree, entries, MSHM_MAX_BUCKETS,
                              core->options.page_size);
    if (status == MSHM_OK)
        tree_set_resolve(core->tree, catalogue_resolve, core->catalogue);
    return status;
}

int
core_create(struct core **result, const struct core_options *options, const struct env *env,
            void *store)
{
    int status;
    if (!options_valid(options))
        return MSHM_INVALID;
    struct core *core = calloc(1, sizeof(*core));
    if (core == NULL)
        return MSHM_NO_MEMORY;
    core->options = *options;
    core->env = env;
    core->base = store;
    if ((status = store_create(core)) != MSHM_OK ||
        (status = sessions_create(&core->sessions, options->max_sessions)) != MSHM_OK ||
        (status = commits_create(&core->commits)) != MSHM_OK ||
        (status = snapshots_init(&core->snapshots)) != MSHM_OK ||
        (status = frames_start(core)) != MSHM_OK || (status = pages_start(core)) != MSHM_OK ||
        (status = index_start(core)) != MSHM_OK ||
        (status = outcomes_create(&core->outcomes)) != MSHM_OK ||
        (status = checkpoint_create(core)) != MSHM_OK) {
        core_destroy(core);
        return status;
    }
    *result = core;
    return MSHM_OK;
}

void
core_destroy(struct core *core)
{
    if (core == NULL)
        return;
    if (core->wal != NULL)
        wal_close(core->wal);
    checkpoint_close(core);
    checkpoint_destroy(core->checkpoint);
    pager_destroy(core->pager);
    data_destroy(core->data);
    outcomes_destroy(core->outcomes);
    catalogue_destroy(core->catalogue);
    tree_destroy(core->tree);
    pages_destroy(core->pages);
    frames_destroy(core->frames);
    snapshots_fini(&core->snapshots);
    commits_destroy(core->commits);
    sessions_destroy(core->sessions);
    free(core);
}

int
core_recover(struct core *core, bool create, char *why, size_t why_size)
{
    int status = recovery_run(core, create, why, why_size);
    if (status != MSHM_OK)
        return status;
    core->now_ns = core->started_ns = core->env->clock_ns(core->env->context);
    core->expiry_ns = UINT64_MAX;
    core->dirty = core->unmarked = core->untidy = true;
    return MSHM_OK;
}

bool
core_cache_short(const struct core *core)
{
    return core->cache_short;
}

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

/* --- memory ------------------------------------------------------------------------------------------------------- */

/* Nothing clean is left that could leave memory: what is dirty has to become clean. False: nothing is. */
static bool
dirty_write(struct core *core)
{
    struct pages_figures figures;
    pages_figures(core->pages, &figures);
    if (checkpoint_stuck(core->checkpoint))
        return false;
    if (figures.dirty_bytes > 0)
        checkpoint_request(core);
    return figures.dirty_bytes + figures.sealed_bytes + figures.kept_bytes > 0;
}

/* Keeps a part of the cache free, so that nobody has to wait for a reader to leave a frame. */
static void
core_evict(struct core *core)
{
    uint64_t wanted = core->geometry.frames_size / FREE_SHARE;
    uint64_t free_bytes = frames_available(core->frames);
    if (free_bytes >= wanted || core->now_ns < core->barren_ns)
        return;
    if (frames_pending(core->frames))
        frames_reclaim(core->frames, false);
    uint64_t coming = frames_available(core->frames) + frames_retired(core->frames);
    if (coming < wanted) {
        bool writing;
        coming += tree_history_evict(core->tree, wanted - coming, core->now_ns, &writing);
    }
    if (coming < wanted && pages_evict(core->pages, wanted - coming, core->now_ns) == 0) {
        core->barren_ns = core->now_ns + MAINTAIN_NS; /* looking again at once would be in vain */
        if (pager_short(core->pager) > 0)
            dirty_write(core);
    }
}

enum core_room
core_make_room(struct core *core)
{
    struct pages_figures figures;
    core->pressed = true; /* the loop comes back within a millisecond */
    if (core->now_ns < core->barren_ns)
        return CORE_ROOM_MAYBE;
    if (frames_retired(core->frames) >= ROOM_BYTES) {
        /* A reader stands in what has left memory already. More of it would not come sooner, and a reader that stops for a
         * while must not empty the cache. */
        frames_reclaim(core->frames, true);
        return frames_retired(core->frames) >= ROOM_BYTES ? CORE_ROOM_MAYBE : CORE_ROOM_COMES;
    }
    tree_ahead_begin(core->tree); /* no place that was found before is right any more */
    bool writing;
    uint64_t evicted = tree_history_evict(core->tree, ROOM_BYTES, core->now_ns, &writing);
    if (evicted == 0)
        evicted = pages_evict(core->pages, ROOM_BYTES, core->now_ns);
    if (evicted == 0)
        core->barren_ns = core->now_ns + MAINTAIN_NS;
    frames_reclaim(core->frames, true);
    if (evicted > 0 || writing)
        return CORE_ROOM_COMES;
    if (dirty_write(core))
        return CORE_ROOM_COMES;
    pages_figures(core->pages, &figures);
    return figures.resident_pages > figures.dirty_pages + figures.sealed_pages ? CORE_ROOM_MAYBE
                                                                               : CORE_ROOM_NONE;
}

/* Once a turn: whether commits have to wait until more of what they changed is on disk. */
static void
core_slow(struct core *core)
{
    core->short_of_clean = false;
    core->slowed = tree_history_lags(core->tree);
    if (!checkpoint_pressed(core))
        return;
    core->short_of_clean = checkpoint_stuck(core->checkpoint);
    core->slowed = !core->short_of_clean;
    core->pressed = true;
    if (checkpoint_idle(core->checkpoint))
        checkpoint_request(core);
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
    if (core->untidy && core->now_ns - core->committed_ns >= TIDY_NS)
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
        interval = MAINTAIN_NS;
    else if (frames_pending(core->frames) || catalogue_reap_pending(core->catalogue))
        interval = LINGER_NS;
    else if (core->snapshots.count > 0)
        interval = SURVEY_NS;
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
    done = sessions_settle(core) || done;
    /* A page that was read and finds no frame is tried again, whatever else there is to do. */
    bool frameless = pager_short(core->pager) > 0 || tree_history_short(core->tree) > 0;
    uint64_t due_ns = frameless ? MAINTAIN_NS : UINT64_MAX;
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
