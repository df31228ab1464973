/* sim_bugs_commit.c - mistakes on the way of a commit, of the log, and of recovery. */
#include "core_parts.h"
#include "mshm/protocol.h"
#include "sim/sim_bugs_parts.h"

/* The wrapped functions: the linker gives __wrap_x to everybody who calls x in another file. */
uint64_t __real_wal_done(const struct wal *wal);
uint64_t __wrap_wal_done(const struct wal *wal);
uint64_t
__wrap_wal_done(const struct wal *wal)
{
    return sim_bug_is(BUG_ANSWER_BEFORE_SYNC) ? UINT64_MAX : __real_wal_done(wal);
}

uint64_t __real_wal_synced(const struct wal *wal);
uint64_t __wrap_wal_synced(const struct wal *wal);
uint64_t
__wrap_wal_synced(const struct wal *wal)
{
    return sim_bug_is(BUG_SYNC_REQUEST_IGNORED) ? UINT64_MAX : __real_wal_synced(wal);
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
                                   sync && !sim_bug_is(BUG_SYNC_LEVEL_IGNORED));
}

int __real_wal_complete(struct wal *wal, const struct env_completion *completion);
int __wrap_wal_complete(struct wal *wal, const struct env_completion *completion);
int
__wrap_wal_complete(struct wal *wal, const struct env_completion *completion)
{
    struct env_completion copy = *completion;
    if (sim_bug_is(BUG_LOG_ERROR_IGNORED) && (copy.tag & 15) < 3) /* not a job's */
        copy.result = 0;
    return __real_wal_complete(wal, &copy);
}

int __real_wal_make_durable(const struct env *env, uint64_t first, uint64_t last);
int __wrap_wal_make_durable(const struct env *env, uint64_t first, uint64_t last);
int
__wrap_wal_make_durable(const struct env *env, uint64_t first, uint64_t last)
{
    return sim_bug_is(BUG_RECOVERY_NOT_DURABLE) ? 0 : __real_wal_make_durable(env, first, last);
}

int __real_wal_rewrite(const struct env *env, const struct wal_end *end);
int __wrap_wal_rewrite(const struct env *env, const struct wal_end *end);
int
__wrap_wal_rewrite(const struct env *env, const struct wal_end *end)
{
    return sim_bug_is(BUG_RECOVERY_TRUSTS_CACHE) ? 0 : __real_wal_rewrite(env, end);
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
    if (!sim_bug_is(BUG_REPLAY_STOPS_EARLY))
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
    if (sim_bug_is(BUG_MANIFEST_NOT_STORED) && manifest->incarnation > 1)
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
    if (sim_bug_is(BUG_OUTCOMES_NOT_KEPT) && sequence % 8 == 0)
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
    if (sim_bug_is(BUG_CONFLICTS_IGNORED))
        snapshot = UINT64_MAX;
    if (sim_bug_is(BUG_PRECONDITION_IGNORED) && ops->kind == MSHM_OP_INSERT)
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
    if (sim_bug_is(BUG_APPEND_LOST) && sim_bug_turn(200))
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
    if (sim_bug_is(BUG_VERSIONS_DROPPED) && newer != 0)
        return false;
    return __real_snapshots_need(snapshots, timestamp, newer);
}

bool __real_snapshots_drop_tombstone(const struct snapshots *snapshots, mshm_timestamp timestamp);
bool __wrap_snapshots_drop_tombstone(const struct snapshots *snapshots, mshm_timestamp timestamp);
bool
__wrap_snapshots_drop_tombstone(const struct snapshots *snapshots, mshm_timestamp timestamp)
{
    return sim_bug_is(BUG_TOMBSTONES_DROPPED) ||
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
    if (!sim_bug_is(BUG_SNAPSHOTS_UNSEEN))
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
    if (!sim_bug_is(BUG_BRACKETS_UNSEEN))
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
    if (sim_bug_is(BUG_DROP_NOT_REPLAYED) && op->kind == MSHM_OP_BUCKET_DROP &&
        sim_bug_turn(2)) /* the first time it is done, at replay it is not */
        return 0;
    return __real_catalogue_apply(catalogue, op, timestamp);
}

bool __real_core_sleep(struct core *core);
bool __wrap_core_sleep(struct core *core);
bool
__wrap_core_sleep(struct core *core)
{
    return sim_bug_is(BUG_SLEEPS_DEAF) || __real_core_sleep(core);
}

int __real_mshm_completion_waiter(const struct mshm_session *session, uint64_t sequence);
int __wrap_mshm_completion_waiter(const struct mshm_session *session, uint64_t sequence);
int
__wrap_mshm_completion_waiter(const struct mshm_session *session, uint64_t sequence)
{
    if (sim_bug_is(BUG_WAKE_FORGOTTEN) && sequence % 4 == 0)
        return 0;
    return __real_mshm_completion_waiter(session, sequence);
}
