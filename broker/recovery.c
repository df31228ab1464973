/* recovery.c - from a directory to a broker that may serve.
 *
 *   manifest read -> log replayed (nothing has been written so far: a refused open changes nothing)
 *     -> manifest with the new incarnation -> log rewritten behind the last proof, synced -> new segment, synced
 *     -> manifest with the log's first segment (new database) -> dead segments removed -> bucket "default"
 *
 * Death at any step: the next recovery finds the same log and does the same; an incarnation number may stay unused.
 * Nothing is served before all of it is done.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "control.h"
#include "core_parts.h"
#include "env_status.h"
#include "kill_point.h"
#include "mshm/status.h"
#include "sessions.h"
#include "wal_segment.h"

enum { TEND_EVERY = 256 };

struct recovery {
    struct core *core;
    struct wal_end end;
    char *why;
    size_t why_size;
};

static int
refuse(struct recovery *recovery, int status, const char *what)
{
    snprintf(recovery->why, recovery->why_size, "%s", what);
    return status;
}

static int
is_segment(const char *entry, void *argument)
{
    uint64_t number;
    (void)argument;
    return wal_segment_parse(entry, &number) ? 1 : 0;
}

/* No CURRENT: a new database, if it is wanted and nothing of an old one is here. */
static int
manifest_begin(struct recovery *recovery, bool create)
{
    static const char *const directories[] = {"wal", "data", "blob"};
    struct core *core = recovery->core;
    const struct env *env = core->env;
    if (!create)
        return MSHM_NOT_FOUND;
    int result = env->directory_list(env->context, "wal", is_segment, NULL);
    if (result > 0)
        return refuse(recovery, MSHM_CORRUPT, "CURRENT: missing, but there is a log");
    if (result != 0 && result != -ENOENT)
        return refuse(recovery, env_status(result), "wal: cannot be listed");
    for (size_t i = 0; i < sizeof directories / sizeof *directories; i++)
        if ((result = env->directory_create(env->context, directories[i])) != 0)
            return refuse(recovery, env_status(result), "the directory cannot be written");
    result = env->directory_sync(env->context, "");
    if (result != 0)
        return refuse(recovery, env_status(result), "the directory cannot be synced");
    core->manifest = (struct manifest){0};
    uint64_t id[2] = {env->random(env->context), env->random(env->context)};
    memcpy(core->manifest.database_id, id, sizeof id);
    return MSHM_OK;
}

/* What the running broker does between batches: drops versions and frames that nobody can read. */
static void
replay_tend(struct core *core)
{
    while (tree_tend(core->tree, 64))
        continue;
    while (catalogue_reap(core->catalogue, core->snapshots.horizon))
        continue;
    frames_reclaim(core->frames, false);
}

static int
replay_operations(struct core *core, const struct mshm_op *ops, uint64_t size, uint32_t count,
                  mshm_timestamp timestamp)
{
    struct tree_plan *plan;
    int status = tree_plan(core->tree, ops, size, count, UINT64_MAX, catalogue_resolve,
                           core->catalogue, &plan);
    if (status == MSHM_OK)
        tree_apply(core->tree, plan, timestamp);
    return status;
}

static int
replay_once(struct core *core, const struct mshm_op *ops, uint64_t size, uint32_t count,
            mshm_timestamp timestamp)
{
    if (ops->kind < MSHM_OP_BUCKET_CREATE)
        return replay_operations(core, ops, size, count, timestamp);
    return count == 1 ? catalogue_apply(core->catalogue, ops, timestamp) : MSHM_CORRUPT;
}

static int
replay_record(void *argument, const struct wal_segment_header *segment,
              const struct wal_record *record, const void *ops, uint64_t ops_size)
{
    struct recovery *recovery = argument;
    struct core *core = recovery->core;
    uint32_t count = record->op_count_flags & WAL_OP_COUNT_MASK;
    if (segment->incarnation > core->manifest.incarnation)
        return refuse(recovery, MSHM_CORRUPT, "the manifest is older than the log");
    int status = replay_once(core, ops, ops_size, count, record->timestamp);
    if (status == MSHM_FULL) {
        replay_tend(core);
        status = replay_once(core, ops, ops_size, count, record->timestamp);
    }
    if (status == MSHM_FULL) {
        core->cache_short = true;
        return refuse(recovery, status, "the cache is too small for the data in the log");
    }
    if (status == MSHM_NO_MEMORY)
        return refuse(recovery, status, "out of memory");
    if (status != MSHM_OK) {
        snprintf(recovery->why, recovery->why_size, "wal: commit %" PRIu64 " cannot be applied: %s",
                 record->timestamp, mshm_strerror(status));
        return MSHM_CORRUPT;
    }
    /* Nobody maps the store yet, so only the newest versions are needed, and pages stay as small as they can be: what
     * fitted into the cache while snapshots were held fits again. */
    core->applied = record->timestamp;
    AO_store_release(&core->store->visible, record->timestamp);
    snapshots_collect(&core->snapshots, core->store, sessions_snapshots, core, 0);
    mshm_counter_add(&core->figures->counters.replayed, 1);
    if (record->timestamp % TEND_EVERY == 0)
        replay_tend(core);
    if (record->session == 0)
        return MSHM_OK;
    return outcomes_add(core->outcomes, segment->incarnation, record->session, record->sequence,
                        record->timestamp);
}

/* The tree of a replay is not the tree of the run, so the reserve may be used: what fitted then has to fit now. */
static int
log_replay(struct recovery *recovery)
{
    struct core *core = recovery->core;
    bool reserve = frames_allow_reserve(core->frames, true);
    int status =
        wal_read(core->env, core->manifest.database_id, core->manifest.first_segment, NULL, replay_record,
                 recovery, &recovery->end, recovery->why, recovery->why_size);
    frames_allow_reserve(core->frames, reserve);
    if (status != MSHM_OK)
        return status;
    if (recovery->end.newest_incarnation > core->manifest.incarnation)
        return refuse(recovery, MSHM_CORRUPT, "the manifest is older than the log");
    replay_tend(core);
    MACE_KILL_POINT("recovery:replayed");
    return MSHM_OK;
}

/* From here on this incarnation exists, whatever becomes of it. */
static int
incarnation_begin(struct recovery *recovery)
{
    struct core *core = recovery->core;
    core->manifest.incarnation++;
    int status = manifest_store(core->env, &core->manifest, NULL);
    if (status != MSHM_OK)
        return refuse(recovery, status, "the manifest cannot be written");
    core->store->incarnation = core->manifest.incarnation;
    core->view.incarnation = core->manifest.incarnation;
    memcpy(core->store->database_id, core->manifest.database_id, sizeof core->store->database_id);
    MACE_KILL_POINT("recovery:manifest_stored");
    return MSHM_OK;
}

static int
log_make_durable(struct recovery *recovery)
{
    const struct env *env = recovery->core->env;
    const struct wal_end *end = &recovery->end;
    int status = wal_rewrite(env, end);
    if (status == MSHM_OK)
        status = wal_make_durable(env, end->known_durable.segment, end->next.end.segment);
    if (status != MSHM_OK)
        return refuse(recovery, status, "the log cannot be made durable");
    MACE_KILL_POINT("recovery:durable");
    return MSHM_OK;
}

static int
log_open(struct recovery *recovery)
{
    struct core *core = recovery->core;
    struct wal_end *end = &recovery->end;
    struct wal_options options = {core->options.segment_size, core->options.log_mapping};
    end->next.incarnation = core->manifest.incarnation;
    int status = wal_open(&core->wal, &options, core->env, &end->next, core->figures, CORE_TAG_WAL);
    if (status != MSHM_OK)
        return refuse(recovery, status, "a new log segment cannot be written");
    MACE_KILL_POINT("recovery:segment_opened");
    /* Not before a header is durable: a log that was started has to be there. */
    if (core->manifest.first_segment == 0) {
        core->manifest.first_segment =
            end->next.end.segment != 0 ? end->first_segment : end->next.next_segment;
        status = manifest_store(core->env, &core->manifest, NULL);
        if (status != MSHM_OK)
            return refuse(recovery, status, "the manifest cannot be written");
    }
    mshm_counter_add(&core->figures->counters.log_segments, end->segments);
    wal_remove_dead(core->env, core->manifest.database_id, NULL);
    manifest_tidy(core->env, &core->manifest);
    return MSHM_OK;
}

int
recovery_run(struct core *core, bool create, char *why, size_t why_size)
{
    struct recovery recovery = {
        .core = core, .end = {.next = {.next_segment = 1}}, .why = why, .why_size = why_size};
    MACE_KILL_POINT("recovery:begin");
    int status = manifest_load(core->env, &core->manifest, NULL, why, why_size);
    if (status == MSHM_OK)
        status = log_replay(&recovery);
    else if (status == MSHM_NOT_FOUND)
        status = manifest_begin(&recovery, create);
    if (status != MSHM_OK || (status = incarnation_begin(&recovery)) != MSHM_OK)
        return status;
    memcpy(recovery.end.next.database_id, core->manifest.database_id,
           sizeof recovery.end.next.database_id);
    if ((status = log_make_durable(&recovery)) != MSHM_OK ||
        (status = log_open(&recovery)) != MSHM_OK)
        return status;
    outcomes_seal(core->outcomes, core->manifest.incarnation);
    core->visible = core->applied;
    AO_store_release(&core->store->visible, core->visible);
    if (catalogue_find(core->catalogue, "default", 7) != NULL)
        return MSHM_OK;
    status = control_create_default(core);
    return status == MSHM_OK ? status
                             : refuse(&recovery, status, "bucket \"default\" cannot be created");
}
