#include "sim/sim_bugs.h"

#include <string.h>

#include "core_parts.h"
#include "mshm/protocol.h"
#include "sim/sim_env.h"

enum bug {
    BUG_NONE,
    BUG_ANSWER_BEFORE_SYNC,
    BUG_SYNC_LEVEL_IGNORED,
    BUG_SYNC_REQUEST_IGNORED,
    BUG_LOG_ERROR_IGNORED,
    BUG_RECOVERY_NOT_DURABLE,
    BUG_RECOVERY_TRUSTS_CACHE,
    BUG_MANIFEST_NOT_STORED,
    BUG_OUTCOMES_NOT_KEPT,
    BUG_CONFLICTS_IGNORED,
    BUG_PRECONDITION_IGNORED,
    BUG_APPEND_LOST,
    BUG_VERSIONS_DROPPED,
    BUG_TOMBSTONES_DROPPED,
    BUG_SNAPSHOTS_UNSEEN,
    BUG_BRACKETS_UNSEEN,
    BUG_DROP_NOT_REPLAYED,
    BUG_REPLAY_STOPS_EARLY,
    BUG_SLEEPS_DEAF,
    BUG_WAKE_FORGOTTEN,
    BUG_DISK_APPEND_UNSYNCED,
    BUG_DISK_FILE_SYNC,
    BUG_DISK_DIRECTORY_SYNC,
    BUG_DISK_SYNC_BEFORE_WRITE,
    BUG_DISK_SHORT_APPEND,
    BUG_DISK_APPEND_ERROR,
    BUG_DISK_EMPTY_APPEND,
};

static const struct sim_bug bugs[] = {
    [BUG_ANSWER_BEFORE_SYNC - 1] = {"answer_before_sync", "commits are answered when staged"},
    [BUG_SYNC_LEVEL_IGNORED - 1] = {"sync_level_ignored", "SYNC commits are logged at level OS"},
    [BUG_SYNC_REQUEST_IGNORED - 1] = {"sync_request_ignored", "a sync is answered at once"},
    [BUG_LOG_ERROR_IGNORED - 1] = {"log_error_ignored", "a failed write or sync counts as done"},
    [BUG_RECOVERY_NOT_DURABLE - 1] = {"recovery_not_durable", "the log is served unsynced"},
    [BUG_RECOVERY_TRUSTS_CACHE - 1] = {"recovery_trusts_cache",
                                       "what a failed sync left looking clean is not rewritten"},
    [BUG_MANIFEST_NOT_STORED - 1] = {"manifest_not_stored", "the incarnation is not stored"},
    [BUG_OUTCOMES_NOT_KEPT - 1] = {"outcomes_not_kept", "replay forgets who committed"},
    [BUG_CONFLICTS_IGNORED - 1] = {"conflicts_ignored", "no conflict is ever found"},
    [BUG_PRECONDITION_IGNORED - 1] = {"precondition_ignored", "INSERT does not look"},
    [BUG_APPEND_LOST - 1] = {"append_lost", "one append in two hundred is forgotten"},
    [BUG_VERSIONS_DROPPED - 1] = {"versions_dropped", "versions that snapshots need are pruned"},
    [BUG_TOMBSTONES_DROPPED - 1] = {"tombstones_dropped", "tombstones are pruned too early"},
    [BUG_SNAPSHOTS_UNSEEN - 1] = {"snapshots_unseen", "lanes are not collected"},
    [BUG_BRACKETS_UNSEEN - 1] = {"brackets_unseen", "frames are reused under readers"},
    [BUG_DROP_NOT_REPLAYED - 1] = {"drop_not_replayed", "a dropped bucket comes back"},
    [BUG_REPLAY_STOPS_EARLY - 1] = {"replay_stops_early", "the last record is left out"},
    [BUG_SLEEPS_DEAF - 1] = {"sleeps_deaf", "the broker sleeps without telling the sessions"},
    [BUG_WAKE_FORGOTTEN - 1] = {"wake_forgotten", "some waiters are not woken"},
    [BUG_DISK_APPEND_UNSYNCED - 1] = {"disk_append_unsynced", "an append ends without its sync"},
    [BUG_DISK_FILE_SYNC - 1] = {"disk_file_sync", "file_sync does nothing"},
    [BUG_DISK_DIRECTORY_SYNC - 1] = {"disk_directory_sync", "directory_sync does nothing"},
    [BUG_DISK_SYNC_BEFORE_WRITE - 1] = {"disk_sync_before_write",
                                        "the sync starts before the write has ended"},
    [BUG_DISK_SHORT_APPEND - 1] = {"disk_short_append", "a short write is taken for a whole one"},
    [BUG_DISK_APPEND_ERROR - 1] = {"disk_append_error", "errors of appends are not reported"},
    [BUG_DISK_EMPTY_APPEND - 1] = {"disk_empty_append",
                                   "the syncs of a change of segment do nothing"},
    {NULL, NULL},
};

static enum bug planted;
static uint64_t counter;

const struct sim_bug *
sim_bugs(void)
{
    return bugs;
}

bool
sim_bug_plant(const char *name)
{
    planted = BUG_NONE;
    counter = 0;
    for (unsigned i = 0; name != NULL && bugs[i].name != NULL; i++)
        if (strcmp(bugs[i].name, name) == 0)
            planted = (enum bug)(i + 1);
    return name == NULL || planted != BUG_NONE;
}

void
sim_bug_prepare(struct sim_env *sim)
{
    if (planted >= BUG_DISK_APPEND_UNSYNCED)
        sim_env_set_lie(
            sim, (enum sim_lie)(SIM_LIE_APPEND_UNSYNCED + (planted - BUG_DISK_APPEND_UNSYNCED)));
}

/* The wrapped functions: the linker gives __wrap_x to everybody who calls x in another file. */
uint64_t __real_wal_done(const struct wal *wal);
uint64_t __wrap_wal_done(const struct wal *wal);
uint64_t
__wrap_wal_done(const struct wal *wal)
{
    return planted == BUG_ANSWER_BEFORE_SYNC ? UINT64_MAX : __real_wal_done(wal);
}

uint64_t __real_wal_synced(const struct wal *wal);
uint64_t __wrap_wal_synced(const struct wal *wal);
uint64_t
__wrap_wal_synced(const struct wal *wal)
{
    return planted == BUG_SYNC_REQUEST_IGNORED ? UINT64_MAX : __real_wal_synced(wal);
}

uint64_t __real_wal_stage_finish(struct wal *wal, uint64_t timestamp, uint32_t session,
                                 uint64_t sequence, uint32_t op_count, bool sync);
uint64_t __wrap_wal_stage_finish(struct wal *wal, uint64_t timestamp, uint32_t session,
                                 uint64_t sequence, uint32_t op_count, bool sync);
uint64_t
__wrap_wal_stage_finish(struct wal *wal, uint64_t timestamp, uint32_t session, uint64_t sequence,
                        uint32_t op_count, bool sync)
{
    return __real_wal_stage_finish(wal, timestamp, session, sequence, op_count,
                                   sync && planted != BUG_SYNC_LEVEL_IGNORED);
}

int __real_wal_complete(struct wal *wal, const struct env_completion *completion);
int __wrap_wal_complete(struct wal *wal, const struct env_completion *completion);
int
__wrap_wal_complete(struct wal *wal, const struct env_completion *completion)
{
    struct env_completion copy = *completion;
    if (planted == BUG_LOG_ERROR_IGNORED && (copy.tag & 15) < 3) /* not a job's */
        copy.result = 0;
    return __real_wal_complete(wal, &copy);
}

int __real_wal_make_durable(const struct env *env, uint64_t first, uint64_t last);
int __wrap_wal_make_durable(const struct env *env, uint64_t first, uint64_t last);
int
__wrap_wal_make_durable(const struct env *env, uint64_t first, uint64_t last)
{
    return planted == BUG_RECOVERY_NOT_DURABLE ? 0 : __real_wal_make_durable(env, first, last);
}

int __real_wal_rewrite(const struct env *env, const struct wal_end *end);
int __wrap_wal_rewrite(const struct env *env, const struct wal_end *end);
int
__wrap_wal_rewrite(const struct env *env, const struct wal_end *end)
{
    return planted == BUG_RECOVERY_TRUSTS_CACHE ? 0 : __real_wal_rewrite(env, end);
}

int __real_wal_read(const struct env *env, const uint8_t database_id[16], uint64_t first_segment,
                    const struct wal_from *from, wal_each *each, void *argument,
                    struct wal_end *end, char *why, size_t why_size);
int __wrap_wal_read(const struct env *env, const uint8_t database_id[16], uint64_t first_segment,
                    const struct wal_from *from, wal_each *each, void *argument,
                    struct wal_end *end, char *why, size_t why_size);

struct early {
    wal_each *each;
    void *argument;
    uint64_t records, seen;
};

static int
early_count(void *argument, const struct wal_segment_header *segment,
            const struct wal_record *record, const void *ops, uint64_t ops_size,
            struct wal_position end)
{
    (void)segment, (void)record, (void)ops, (void)ops_size, (void)end;
    ((struct early *)argument)->records++;
    return 0;
}

static int
early_each(void *argument, const struct wal_segment_header *segment,
           const struct wal_record *record, const void *ops, uint64_t ops_size,
           struct wal_position end)
{
    struct early *early = argument;
    if (++early->seen == early->records && early->records % 5 == 0)
        return 0;
    return early->each(early->argument, segment, record, ops, ops_size, end);
}

int
__wrap_wal_read(const struct env *env, const uint8_t database_id[16], uint64_t first_segment,
                const struct wal_from *from, wal_each *each, void *argument, struct wal_end *end,
                char *why, size_t why_size)
{
    struct early early = {each, argument, 0, 0};
    if (planted != BUG_REPLAY_STOPS_EARLY)
        return __real_wal_read(env, database_id, first_segment, from, each, argument, end, why,
                               why_size);
    (void)__real_wal_read(env, database_id, first_segment, from, early_count, &early, end, why,
                          why_size);
    return __real_wal_read(env, database_id, first_segment, from, early_each, &early, end, why,
                           why_size);
}

int __real_manifest_store(const struct env *env, struct manifest *manifest,
                          const struct manifest_edit *edit);
int __wrap_manifest_store(const struct env *env, struct manifest *manifest,
                          const struct manifest_edit *edit);
int
__wrap_manifest_store(const struct env *env, struct manifest *manifest,
                      const struct manifest_edit *edit)
{
    if (planted == BUG_MANIFEST_NOT_STORED && manifest->incarnation > 1)
        return 0;
    return __real_manifest_store(env, manifest, edit);
}

int __real_outcomes_add(struct outcomes *outcomes, uint64_t incarnation, uint32_t session,
                        uint64_t sequence, uint64_t timestamp);
int __wrap_outcomes_add(struct outcomes *outcomes, uint64_t incarnation, uint32_t session,
                        uint64_t sequence, uint64_t timestamp);
int
__wrap_outcomes_add(struct outcomes *outcomes, uint64_t incarnation, uint32_t session,
                    uint64_t sequence, uint64_t timestamp)
{
    if (planted == BUG_OUTCOMES_NOT_KEPT && sequence % 8 == 0)
        return 0;
    return __real_outcomes_add(outcomes, incarnation, session, sequence, timestamp);
}

int __real_tree_plan(struct tree *tree, const struct mshm_op *ops, uint64_t size, uint64_t count,
                     mshm_timestamp snapshot, tree_resolve *resolve, void *argument,
                     struct tree_plan **plan);
int __wrap_tree_plan(struct tree *tree, const struct mshm_op *ops, uint64_t size, uint64_t count,
                     mshm_timestamp snapshot, tree_resolve *resolve, void *argument,
                     struct tree_plan **plan);
int
__wrap_tree_plan(struct tree *tree, const struct mshm_op *ops, uint64_t size, uint64_t count,
                 mshm_timestamp snapshot, tree_resolve *resolve, void *argument,
                 struct tree_plan **plan)
{
    if (planted == BUG_CONFLICTS_IGNORED)
        snapshot = UINT64_MAX;
    if (planted == BUG_PRECONDITION_IGNORED && ops->kind == MSHM_OP_INSERT)
        ((struct mshm_op *)(uintptr_t)ops)->kind = MSHM_OP_PUT; /* the log's private copy */
    return __real_tree_plan(tree, ops, size, count, snapshot, resolve, argument, plan);
}

int __real_mshm_leaf_append(void *frame, uint32_t frame_size, const struct mshm_version *version,
                            uint64_t hash);
int __wrap_mshm_leaf_append(void *frame, uint32_t frame_size, const struct mshm_version *version,
                            uint64_t hash);
int
__wrap_mshm_leaf_append(void *frame, uint32_t frame_size, const struct mshm_version *version,
                        uint64_t hash)
{
    if (planted == BUG_APPEND_LOST && ++counter % 200 == 0)
        return 0;
    return __real_mshm_leaf_append(frame, frame_size, version, hash);
}

bool __real_snapshots_need(const struct snapshots *snapshots, mshm_timestamp timestamp,
                           mshm_timestamp newer);
bool __wrap_snapshots_need(const struct snapshots *snapshots, mshm_timestamp timestamp,
                           mshm_timestamp newer);
bool
__wrap_snapshots_need(const struct snapshots *snapshots, mshm_timestamp timestamp,
                      mshm_timestamp newer)
{
    if (planted == BUG_VERSIONS_DROPPED && newer != 0)
        return false;
    return __real_snapshots_need(snapshots, timestamp, newer);
}

bool __real_snapshots_drop_tombstone(const struct snapshots *snapshots, mshm_timestamp timestamp);
bool __wrap_snapshots_drop_tombstone(const struct snapshots *snapshots, mshm_timestamp timestamp);
bool
__wrap_snapshots_drop_tombstone(const struct snapshots *snapshots, mshm_timestamp timestamp)
{
    return planted == BUG_TOMBSTONES_DROPPED ||
           __real_snapshots_drop_tombstone(snapshots, timestamp);
}

void __real_sessions_snapshots(void *core, void (*each)(void *argument, mshm_timestamp snapshot),
                               void *argument);
void __wrap_sessions_snapshots(void *core, void (*each)(void *argument, mshm_timestamp snapshot),
                               void *argument);
void
__wrap_sessions_snapshots(void *core, void (*each)(void *argument, mshm_timestamp snapshot),
                          void *argument)
{
    if (planted != BUG_SNAPSHOTS_UNSEEN)
        __real_sessions_snapshots(core, each, argument);
}

void __real_sessions_lanes(void *core, void (*each)(void *argument, struct mshm_lane *lane),
                           void *argument);
void __wrap_sessions_lanes(void *core, void (*each)(void *argument, struct mshm_lane *lane),
                           void *argument);
void
__wrap_sessions_lanes(void *core, void (*each)(void *argument, struct mshm_lane *lane),
                      void *argument)
{
    if (planted != BUG_BRACKETS_UNSEEN)
        __real_sessions_lanes(core, each, argument);
}

int __real_catalogue_apply(struct catalogue *catalogue, const struct mshm_op *op,
                           mshm_timestamp timestamp);
int __wrap_catalogue_apply(struct catalogue *catalogue, const struct mshm_op *op,
                           mshm_timestamp timestamp);
int
__wrap_catalogue_apply(struct catalogue *catalogue, const struct mshm_op *op,
                       mshm_timestamp timestamp)
{
    if (planted == BUG_DROP_NOT_REPLAYED && op->kind == MSHM_OP_BUCKET_DROP &&
        ++counter % 2 == 0) /* the first time it is done, at replay it is not */
        return 0;
    return __real_catalogue_apply(catalogue, op, timestamp);
}

bool __real_core_sleep(struct core *core);
bool __wrap_core_sleep(struct core *core);
bool
__wrap_core_sleep(struct core *core)
{
    return planted == BUG_SLEEPS_DEAF || __real_core_sleep(core);
}

int __real_mshm_completion_waiter(const struct mshm_session *session, uint64_t sequence);
int __wrap_mshm_completion_waiter(const struct mshm_session *session, uint64_t sequence);
int
__wrap_mshm_completion_waiter(const struct mshm_session *session, uint64_t sequence)
{
    if (planted == BUG_WAKE_FORGOTTEN && sequence % 4 == 0)
        return 0;
    return __real_mshm_completion_waiter(session, sequence);
}
