/* expire.c - taking old snapshots from those who keep too much.
 *
 * An expired snapshot is marked in the broker's private table first, which refuses its commits, and in the session
 * (release), which every read looks at after its bytes were copied; only then are the snapshots collected without it, so
 * nothing pruned without it is published before the mark. Only snapshots below the horizon are taken: no transaction
 * that begins now can get one of those. A mark only grows and a process's snapshots never go back, so a mark never hits
 * a later transaction of the same lane.
 */
#include "expire.h"

#include <stdio.h>

#include "sessions.h"

enum { PRUNE_LEAVES = 32 /* rebuilt per call */ };
static const uint64_t tell_age_ns = UINT64_C(1000000000);    /* of a snapshot worth a line */
static const uint64_t tell_pause_ns = UINT64_C(60000000000); /* between two lines on one session */
static const uint64_t look_pause_ns = UINT64_C(250000000);   /* between two looks at all lanes */

/* Marks one lane if it still holds `snapshot`. */
static bool
lane_expire(struct core *core, struct session *session, uint32_t lane, mshm_timestamp snapshot)
{
    struct lane_watch *watch = &session->watch[lane];
    if (AO_load(&session->segment->lanes[lane].snapshot) != snapshot || watch->expired >= snapshot)
        return false;
    watch->expired = snapshot;
    /* pairs with mshm_snapshot_expired after the reader's fence */
    AO_store_release(&session->segment->expired[lane], snapshot);
    mshm_counter_add(&core->figures->counters.snapshots_expired, 1);
    return true;
}

static void
expire_log(struct core *core, const struct session *session, mshm_timestamp snapshot,
           const char *why)
{
    char line[160];
    snprintf(line, sizeof(line), "session %llu (pid %llu): snapshot %llu expired: %s",
             (unsigned long long)session->number, (unsigned long long)session->pid,
             (unsigned long long)snapshot, why);
    core->env->log(core->env->context, ENV_LOG_INFO, line);
}

/* Every lane that holds `snapshot`. */
static bool
snapshot_expire(struct core *core, mshm_timestamp snapshot)
{
    bool expired = false;
    for (uint32_t i = 0; i < core->sessions->count; i++) {
        struct session *session = core->sessions->table[i];
        if (session->state == SESSION_DRAINED)
            continue;
        for (uint32_t lane = sessions_lane_count(session); lane > 0; lane--) {
            if (!lane_expire(core, session, lane - 1, snapshot))
                continue;
            expire_log(core, session, snapshot, "it kept too many old versions");
            expired = true;
        }
    }
    return expired;
}

/* Nanoseconds until the lane's snapshot is too old: 0 = now, UINT64_MAX = it keeps nothing. */
static uint64_t
lane_due_ns(const struct core *core, const struct lane_watch *watch)
{
    if (watch->since_ns == 0 || watch->snapshot <= watch->expired ||
        watch->snapshot >= core->snapshots.horizon)
        return UINT64_MAX;
    uint64_t age = core->now_ns - watch->since_ns;
    return age >= core->options.snapshot_max_age_ns ? 0 : core->options.snapshot_max_age_ns - age;
}

static bool
aged_expire(struct core *core)
{
    bool expired = false;
    if (core->options.snapshot_max_age_ns == 0)
        return false;
    for (uint32_t i = 0; i < core->sessions->count; i++) {
        struct session *session = core->sessions->table[i];
        if (session->state == SESSION_DRAINED)
            continue;
        for (uint32_t lane = 0; lane < session->lanes_high; lane++) {
            struct lane_watch *watch = &session->watch[lane];
            if (lane_due_ns(core, watch) != 0 || !lane_expire(core, session, lane, watch->snapshot))
                continue;
            expire_log(core, session, watch->snapshot, "it was too old");
            expired = true;
        }
    }
    return expired;
}

uint64_t
expire_due_ns(const struct core *core)
{
    uint64_t due = UINT64_MAX;
    if (core->options.snapshot_max_age_ns == 0)
        return due;
    for (uint32_t i = 0; i < core->sessions->count; i++) {
        const struct session *session = core->sessions->table[i];
        for (uint32_t lane = 0; lane < session->lanes_high; lane++) {
            uint64_t lane_due = lane_due_ns(core, &session->watch[lane]);
            due = lane_due < due ? lane_due : due;
        }
    }
    return due;
}

/* The oldest snapshot that makes the broker keep versions; NULL: none. */
static const struct lane_watch *
oldest_watch(const struct core *core, const struct session *session)
{
    const struct lane_watch *oldest = NULL;
    for (uint32_t lane = 0; lane < session->lanes_high; lane++) {
        const struct lane_watch *watch = &session->watch[lane];
        if (watch->since_ns == 0 || watch->snapshot == 0 || watch->snapshot <= watch->expired ||
            watch->snapshot >= core->snapshots.horizon)
            continue;
        if (oldest == NULL || watch->since_ns < oldest->since_ns)
            oldest = watch;
    }
    return oldest;
}

/* Says in the log of events who has held an old snapshot for a second, so that a stopped client is found before its
 * snapshot costs anybody anything. Seldom, so that no client can fill the log. */
static void
old_tell(struct core *core)
{
    if (core->now_ns - core->looked_ns < look_pause_ns)
        return;
    core->looked_ns = core->now_ns;
    for (uint32_t i = 0; i < core->sessions->count; i++) {
        struct session *session = core->sessions->table[i];
        if (session->state != SESSION_LIVE ||
            (session->told_ns != 0 && core->now_ns - session->told_ns < tell_pause_ns))
            continue;
        const struct lane_watch *oldest = oldest_watch(core, session);
        if (oldest == NULL || core->now_ns - oldest->since_ns < tell_age_ns)
            continue;
        char line[160];
        snprintf(line, sizeof(line), "session %llu (pid %llu): snapshot %llu is held for %.1f s",
                 (unsigned long long)session->number, (unsigned long long)session->pid,
                 (unsigned long long)oldest->snapshot,
                 (double)(core->now_ns - oldest->since_ns) / 1e9);
        core->env->log(core->env->context, ENV_LOG_INFO, line);
        session->told_ns = core->now_ns;
    }
}

/* The one that keeps most of what is too much, of those that may go; 0: none. */
static mshm_timestamp
costliest_find(struct core *core)
{
    const struct snapshots *snapshots = &core->snapshots;
    mshm_timestamp snapshot = tree_history_costliest(core->tree);
    if (snapshot != 0 && snapshot < snapshots->horizon)
        return snapshot;
    return snapshots->count > 0 && snapshots->list[0] < snapshots->horizon ? snapshots->list[0] : 0;
}

/* When history above its share cannot leave memory it is gone through; when that does not help the costliest snapshot goes,
 * and the next one only after going through it has shown what that gave back. */
static bool
history_expire(struct core *core)
{
    if (core->pruning)
        return false;
    core->history_stays = false;
    if (tree_history_over(core->tree) == 0 || !tree_history_stuck(core->tree, core->now_ns))
        return false;
    core->pruning = true;
    if (tree_history_excess(core->tree) == 0)
        return false; /* how much is needed nobody knows yet */
    mshm_timestamp snapshot = costliest_find(core);
    core->history_stays = snapshot == 0 || !snapshot_expire(core, snapshot);
    return true;
}

bool
expire_run(struct core *core)
{
    old_tell(core);
    bool aged = aged_expire(core);
    bool costly = history_expire(core);
    if (aged || costly) {
        core_collect(core);
        core->pruning = true;
    }
    if (core->pruning)
        core->pruning = tree_history_prune(core->tree, PRUNE_LEAVES);
    return aged || costly || core->pruning;
}
