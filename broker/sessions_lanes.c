/* sessions_lanes.c - what the lanes of attached clients say: the snapshots and brackets that count.
 *
 * A lane's words are its client's: each is loaded once.
 */
#include "commit.h"
#include "sessions.h"

uint32_t
sessions_lane_count(struct session *session)
{
    AO_t high = AO_load_acquire(&session->segment->lanes_high);
    if (high > MSHM_MAX_LANES)
        high = MSHM_MAX_LANES;
    if (high > session->lanes_high)
        session->lanes_high = (uint32_t)high;
    return session->lanes_high;
}

/* The age of a snapshot counts from the moment when newer commits were seen visible: until then whoever begins gets it,
 * and it keeps nothing. */
static void
watch_update(struct lane_watch *watch, mshm_timestamp snapshot, const struct core *core)
{
    if (watch->snapshot != snapshot)
        watch->since_ns = 0;
    if (watch->since_ns == 0 && snapshot < core->visible)
        watch->since_ns = core->now_ns;
    watch->snapshot = snapshot;
}

/* What a lane holds, 0 when it holds nothing that counts: nonsense, or expired. */
static mshm_timestamp
lane_snapshot(const struct core *core, struct session *session, uint32_t lane)
{
    mshm_timestamp snapshot = AO_load(&session->segment->lanes[lane].snapshot);
    if (snapshot > core->visible || snapshot <= session->watch[lane].expired)
        snapshot = 0;
    watch_update(&session->watch[lane], snapshot, core);
    return snapshot;
}

void
sessions_snapshots(void *argument, void (*each)(void *, mshm_timestamp), void *each_argument)
{
    struct core *core = argument;
    mshm_timestamp pinned = commits_pinned(core->commits);
    if (pinned != 0)
        each(each_argument, pinned);
    for (uint32_t i = 0; i < core->sessions->count; i++) {
        struct session *session = core->sessions->table[i];
        if (session->state == SESSION_DRAINED)
            continue;
        uint32_t count = sessions_lane_count(session);
        for (uint32_t lane = 0; lane < count; lane++) {
            mshm_timestamp snapshot = lane_snapshot(core, session, lane);
            if (snapshot != 0)
                each(each_argument, snapshot);
        }
    }
}

void
sessions_lanes(void *argument, void (*each)(void *, struct mshm_lane *), void *each_argument)
{
    struct core *core = argument;
    for (uint32_t i = 0; i < core->sessions->count; i++) {
        struct session *session = core->sessions->table[i];
        if (session->state == SESSION_DRAINED)
            continue;
        uint32_t count = sessions_lane_count(session);
        for (uint32_t lane = 0; lane < count; lane++)
            each(each_argument, &session->segment->lanes[lane]);
    }
}
