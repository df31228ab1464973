/* sessions.c - the table of attached clients, which rings are looked at, and what their lanes say.
 *
 * Every word of a segment is loaded once and believed only as far as it was checked; what counts is private: head,
 * granted arena, expiry marks, lanes_high. A session that ends loses its lanes only after its ring was drained.
 */
#include "sessions.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "commit.h"
#include "control.h"
#include "kill_point.h"
#include "mshm/status.h"

enum {
    SESSION_REQUESTS = 256, /* per session and turn */
    SESSION_BYTES = 256 << 10,
    TURN_REQUESTS = 1024, /* per turn: more would delay the answers of the first ones */
    TURN_BYTES = 1 << 20,
    REST_NS = 1000 * 1000, /* idle for that long: asleep */
    PREFETCH_LINES = 8,
};

struct budget {
    int64_t requests, bytes;
};

int
sessions_create(struct sessions **result, uint32_t capacity)
{
    if (capacity == 0 || capacity > MSHM_MAX_SESSIONS)
        return MSHM_INVALID;
    struct sessions *sessions = calloc(1, sizeof(*sessions));
    if (sessions == NULL)
        return MSHM_NO_MEMORY;
    sessions->capacity = capacity;
    *result = sessions;
    return MSHM_OK;
}

void
sessions_destroy(struct sessions *sessions)
{
    if (sessions == NULL)
        return;
    for (uint32_t i = 0; i < sessions->count; i++)
        free(sessions->table[i]);
    free(sessions);
}

/* --- polling ------------------------------------------------------------------------------------------------------ */

/* Requests that may be taken in now: 0 also for what lies beyond the limit of an ending session. -1: nonsense. */
static int
session_available(const struct session *session)
{
    if (session->state == SESSION_DRAINED || session->parked)
        return 0;
    int pending = mshm_consumer_pending(&session->consumer);
    uint64_t allowed = session->limit - session->consumer.head;
    return pending > 0 && (uint64_t)pending > allowed ? (int)allowed : pending;
}

static void
session_poll(struct core *core, struct session *session)
{
    struct sessions *sessions = core->sessions;
    AO_store(&session->segment->asleep, 0);
    session->active_ns = core->now_ns;
    if (!session->asleep)
        return;
    session->asleep = false;
    sessions->active[sessions->active_count++] = session;
}

static void
active_remove(struct sessions *sessions, struct session *session)
{
    for (uint32_t i = 0; i < sessions->active_count; i++) {
        if (sessions->active[i] != session)
            continue;
        sessions->active[i] = sessions->active[--sessions->active_count];
        return;
    }
}

/* Stops polling an idle session, unless a request comes in between. */
static void
session_rest(struct core *core, struct session *session)
{
    AO_store(&session->segment->asleep, 1);
    mshm_full_fence(); /* pairs with the fence between a client's publish of tail and its load of asleep */
    if (session_available(session) != 0) {
        AO_store(&session->segment->asleep, 0);
        return;
    }
    session->asleep = true;
    active_remove(core->sessions, session);
}

void
core_session_doorbell(struct core *core, struct session *session)
{
    core->sessions->stirred = true;
    mshm_counter_add(&core->figures->counters.doorbells, 1);
    session_poll(core, session);
}

void
sessions_look(struct core *core)
{
    struct sessions *sessions = core->sessions;
    if (sessions->active_count == sessions->count)
        return;
    for (uint32_t i = 0; i < sessions->count; i++) {
        struct session *session = sessions->table[i];
        if (session->asleep && session_available(session) != 0)
            session_poll(core, session);
    }
}

bool
core_sleep(struct core *core)
{
    struct sessions *sessions = core->sessions;
    if (sessions->stirred)
        return false;
    for (uint32_t i = 0; i < sessions->active_count; i++)
        AO_store(&sessions->active[i]->segment->asleep, 1);
    mshm_full_fence(); /* pairs with the fence between a client's publish of tail and its load of asleep */
    for (uint32_t i = 0; i < sessions->active_count && !sessions->blocked; i++) {
        if (!sessions->active[i]->held && session_available(sessions->active[i]) != 0) {
            core_awake(core);
            return false;
        }
    }
    return true;
}

void
core_awake(struct core *core)
{
    struct sessions *sessions = core->sessions;
    for (uint32_t i = 0; i < sessions->active_count; i++)
        AO_store(&sessions->active[i]->segment->asleep, 0);
}

/* --- taking in ---------------------------------------------------------------------------------------------------- */

/* The arena range of the request and the next place of the ring are on their way while this one is checked. */
static void
request_prefetch(const struct session *session, const struct mshm_request_copy *request)
{
    const char *arena = mshm_consumer_arena(&session->consumer, request);
    for (uint64_t i = 0; i < PREFETCH_LINES && i * MSHM_LINE < request->arena_size; i++)
        __builtin_prefetch(arena + i * MSHM_LINE);
    uint64_t place = request->sequence % MSHM_RING_CAPACITY; /* of sequence + 1 */
    __builtin_prefetch(&session->segment->ring[place]);
    __builtin_prefetch(&session->segment->completions[(request->sequence - 1) % MSHM_RING_CAPACITY],
                       1);
}

/* One request. False: the log has no room, come back to this session first. A session that waits for memory or pages gives
 * up the rest of its turn. */
static bool
session_take(struct core *core, struct session *session, struct budget *budget)
{
    struct mshm_request_copy request;
    int status = MSHM_OK;
    if (mshm_consumer_peek(&session->consumer, &request) != MSHM_OK) {
        sessions_fail(core, session, "malformed request");
        return true;
    }
    request_prefetch(session, &request);
    switch (commits_take(core, session, &request, &status)) {
    case COMMIT_LATER:
        return false;
    case COMMIT_HELD:
        session->held = true;
        core->sessions->held++;
        return true;
    case COMMIT_PARKED:
        return true;
    case COMMIT_MALFORMED:
        sessions_fail(core, session, "malformed operations");
        return true;
    case COMMIT_REFUSED:
        mshm_consumer_advance(&session->consumer);
        commits_refuse(core, session, request.sequence, status);
        break;
    case COMMIT_TAKEN:
        mshm_consumer_advance(&session->consumer);
        break;
    }
    budget->requests--;
    budget->bytes -= (int64_t)request.arena_size;
    return true;
}

/* From here on nobody scans the lanes. A process that lost its session but not its mapping must not believe what it
 * reads there any more: every snapshot it may hold is expired. */
static void
session_drained(struct core *core, struct session *session)
{
    session->state = SESSION_DRAINED;
    commits_unpark(core, session);
    for (uint32_t i = 0; i < MSHM_MAX_LANES; i++)
        AO_store_release(&session->segment->expired[i], UINT64_MAX);
    core->sessions->stirred = true;
    MACE_KILL_POINT("core:session_drained");
}

/* --- looking ahead: the requests that will be taken in next, as far as can be told. Nothing that is seen here is believed
 * or kept: each request is loaded, copied and checked anew when its turn has come. --- */

struct ahead {
    const struct session *session;
    struct mshm_consumer consumer; /* a copy, in front of the request */
    struct mshm_request_copy request;
};

/* Adds the session's next requests. */
static uint32_t
ahead_gather(const struct session *session, int available, struct ahead *list, uint32_t count)
{
    for (int i = 0; i < available && i < SESSION_REQUESTS && count < TREE_AHEAD; i++) {
        struct ahead *ahead = &list[count++];
        ahead->session = session;
        ahead->consumer = session->consumer;
        ahead->consumer.head += (uint64_t)i;
        __builtin_prefetch(&session->segment->ring[mshm_ring_place(ahead->consumer.head + 1)]);
    }
    return count;
}

/* Arena and completion of each are on their way while the next one is loaded. */
static uint32_t
ahead_peek(struct ahead *list, uint32_t count)
{
    uint32_t kept = 0;
    for (uint32_t i = 0; i < count; i++) {
        struct ahead *ahead = &list[i];
        if (mshm_consumer_peek(&ahead->consumer, &ahead->request) != MSHM_OK ||
            ahead->request.kind == MSHM_REQUEST_SYNC)
            continue;
        const char *arena = mshm_consumer_arena(&ahead->consumer, &ahead->request);
        for (uint64_t at = 0; at < PREFETCH_LINES && at * MSHM_LINE < ahead->request.arena_size;
             at++)
            __builtin_prefetch(arena + at * MSHM_LINE);
        unsigned place = mshm_ring_place(ahead->request.sequence);
        __builtin_prefetch(&ahead->session->segment->completions[place], 1);
        list[kept++] = *ahead;
    }
    return kept;
}

/* The first operation's key, from a private copy. */
static void
ahead_find(struct core *core, const struct ahead *ahead)
{
    struct {
        struct mshm_op op;
        uint8_t key[TREE_AHEAD_KEY];
    } copy;
    uint64_t size = ahead->request.arena_size;
    memcpy(&copy, mshm_consumer_arena(&ahead->consumer, &ahead->request),
           size < sizeof(copy) ? size : sizeof(copy));
    if (copy.op.key_size >= 1 && copy.op.key_size <= TREE_AHEAD_KEY &&
        sizeof(copy.op) + copy.op.key_size <= size)
        tree_ahead_add(core->tree, copy.op.bucket, copy.key, copy.op.key_size, catalogue_resolve,
                       core->catalogue);
}

/* Looks at the requests that wait in this session, of which there are `available`, and in those behind it. Returns how many
 * there are: so many may be taken in before it is worth looking again. */
static uint32_t
sessions_ahead(struct core *core, uint32_t at, int available)
{
    const struct sessions *sessions = core->sessions;
    struct ahead list[TREE_AHEAD];
    if (available == 1 && sessions->active_count == 1)
        return 1;
    uint32_t waiting = ahead_gather(sessions->active[at], available, list, 0);
    for (uint32_t i = 1; i < sessions->active_count && i < TREE_AHEAD && waiting < TREE_AHEAD;
         i++) {
        at = at + 1 < sessions->active_count ? at + 1 : 0;
        const struct session *session = sessions->active[at];
        waiting = ahead_gather(session, session_available(session), list, waiting);
    }
    if (waiting == 1)
        return 1;
    tree_ahead_begin(core->tree);
    uint32_t count = ahead_peek(list, waiting);
    for (uint32_t i = 0; i < count; i++)
        ahead_find(core, &list[i]);
    tree_ahead_end(core->tree);
    return waiting;
}

/* Up to a session's share of requests. False: the log has no room. */
static bool
session_drain(struct core *core, uint32_t at, struct budget *turn)
{
    struct sessions *sessions = core->sessions;
    struct session *session = sessions->active[at];
    struct budget budget = {.requests = SESSION_REQUESTS, .bytes = SESSION_BYTES};
    int available = session_available(session);
    if (available < 0)
        sessions_fail(core, session, "impossible ring index");
    if (available == 0 && session->state == SESSION_DRAINING && !session->parked)
        session_drained(core, session);
    if (available <= 0)
        return true;
    session->active_ns = core->now_ns;
    bool room = true;
    for (; available > 0 && room && budget.requests > 0 && budget.bytes > 0 &&
           session->unanswered < MSHM_RING_CAPACITY && session->state != SESSION_DRAINED &&
           !session->held && !session->parked;
         available--) {
        if (sessions->ahead == 0) /* a commit that has to wait is looked at every turn */
            sessions->ahead = core->slowed ? 1 : sessions_ahead(core, at, available);
        sessions->ahead--;
        room = session_take(core, session, &budget);
    }
    turn->requests -= SESSION_REQUESTS - budget.requests;
    turn->bytes -= SESSION_BYTES - budget.bytes;
    return room;
}

bool
sessions_drain(struct core *core)
{
    struct sessions *sessions = core->sessions;
    struct budget turn = {.requests = TURN_REQUESTS, .bytes = TURN_BYTES};
    uint32_t count = sessions->active_count, served = 0;
    sessions->blocked = false;
    for (uint32_t i = 0; sessions->held > 0 && i < count; i++)
        sessions->active[i]->held = false;
    sessions->held = 0;
    if (count == 0)
        return false;
    sessions->ahead = 0;
    tree_ahead_begin(core->tree);
    uint32_t at = sessions->next < count ? sessions->next : 0;
    bool room = true;
    for (; served < count && room && turn.requests > 0 && turn.bytes > 0; served++) {
        room = session_drain(core, at, &turn);
        if (room)
            at = at + 1 < count ? at + 1 : 0;
    }
    /* A full round ends where it began: the next one begins one further. */
    sessions->next = served == count && room ? at + 1 : at;
    sessions->blocked = !room;
    return turn.requests != TURN_REQUESTS;
}

/* --- beginning and end -------------------------------------------------------------------------------------------- */

int
core_session_attach(struct core *core, void *segment, void *handle, uint32_t flags, uint64_t uid,
                    uint64_t pid, struct session **result)
{
    struct sessions *sessions = core->sessions;
    if (sessions->count == sessions->capacity || sessions->newest_number == UINT32_MAX)
        return MSHM_LIMIT;
    if (core->env->arena_back(core->env->context, handle, MSHM_ARENA_INITIAL) != 0)
        return MSHM_NO_MEMORY;
    struct session *session = calloc(1, sizeof(*session));
    if (session == NULL)
        return MSHM_NO_MEMORY;
    session->segment = segment;
    session->handle = handle;
    session->flags = flags;
    session->uid = uid;
    session->pid = pid;
    session->number = ++sessions->newest_number;
    session->attached_ns = core->env->clock_ns(core->env->context);
    session->limit = core->stopping ? 0 : UINT64_MAX;
    session->asleep = true;
    mshm_session_init(segment, session->number, core->manifest.incarnation, MSHM_ARENA_INITIAL);
    mshm_consumer_init(&session->consumer, segment, MSHM_ARENA_INITIAL);
    sessions->table[sessions->count++] = session;
    session_poll(core, session);
    mshm_counter_add(&core->figures->counters.sessions_total, 1);
    AO_store(&core->figures->counters.sessions, sessions->count);
    *result = session;
    return MSHM_OK;
}

uint64_t
core_session_number(const struct session *session)
{
    return session->number;
}

uint32_t
core_session_count(const struct core *core)
{
    return core->sessions->count;
}

/* What is published now is taken in; what a process that is not quite gone publishes later is not. */
static void
session_limit(struct session *session)
{
    int pending = mshm_consumer_pending(&session->consumer);
    session->limit = session->consumer.head + (uint64_t)(pending > 0 ? pending : 0);
}

static void
session_ending(struct core *core, struct session *session, enum session_state state)
{
    if (session->state == SESSION_LIVE)
        core->sessions->ending++;
    if (session->control.state == CONTROL_WAITS_FOR_LOG) {
        session->control.state = CONTROL_NONE;
        core->sessions->controls_waiting--;
    }
    if (state == SESSION_DRAINED)
        session_drained(core, session);
    else
        session->state = state;
    session_poll(core, session);
    core->sessions->stirred = true;
}

void
core_session_end(struct core *core, struct session *session, bool orderly)
{
    if (session->state != SESSION_LIVE)
        return;
    if (!core->stopping)
        session_limit(session);
    if (!orderly)
        mshm_counter_add(&core->figures->counters.sessions_ended_dead, 1);
    session_ending(core, session, SESSION_DRAINING);
}

void
sessions_fail(struct core *core, struct session *session, const char *why)
{
    char line[160];
    snprintf(line, sizeof(line), "session %llu (pid %llu, uid %llu) ended: %s",
             (unsigned long long)session->number, (unsigned long long)session->pid,
             (unsigned long long)session->uid, why);
    core->env->log(core->env->context, ENV_LOG_WARNING, line);
    mshm_counter_add(&core->figures->counters.sessions_ended_invalid, 1);
    session_ending(core, session, SESSION_DRAINED);
}

static void
session_free(struct core *core, uint32_t index)
{
    struct sessions *sessions = core->sessions;
    struct session *session = sessions->table[index];
    if (session->bye) {
        outcomes_forget(core->outcomes, core->manifest.incarnation, (uint32_t)session->number);
        control_reply(core, session, MSHM_OK);
    }
    active_remove(sessions, session);
    sessions->table[index] = sessions->table[--sessions->count];
    sessions->ending--;
    AO_store(&core->figures->counters.sessions, sessions->count);
    core->env->session_free(core->env->context, session->handle);
    free(session);
    MACE_KILL_POINT("core:session_freed");
}

static bool
ended_free(struct core *core)
{
    struct sessions *sessions = core->sessions;
    bool freed = false;
    for (uint32_t i = sessions->count; i > 0; i--) {
        struct session *session = sessions->table[i - 1];
        if (core->poisoned && session->state == SESSION_DRAINING)
            session_drained(core, session);
        if (session->state == SESSION_DRAINED && session->unanswered == 0) {
            session_free(core, i - 1);
            freed = true;
        }
    }
    return freed;
}

bool
sessions_settle(struct core *core)
{
    struct sessions *sessions = core->sessions;
    for (uint32_t i = sessions->active_count; i > 0; i--) {
        struct session *session = sessions->active[i - 1];
        /* One that waits for pages has requests in its ring, and nobody rings for them when the pages have come. */
        if (core->now_ns - session->active_ns > REST_NS && session->state == SESSION_LIVE &&
            !session->parked)
            session_rest(core, session);
    }
    return sessions->ending > 0 && ended_free(core);
}

void
sessions_stop(struct core *core, bool stop)
{
    struct sessions *sessions = core->sessions;
    for (uint32_t i = 0; i < sessions->count; i++) {
        struct session *session = sessions->table[i];
        if (session->state != SESSION_LIVE)
            continue;
        if (stop)
            session_limit(session);
        else
            session->limit = UINT64_MAX;
        session_poll(core, session);
    }
    sessions->stirred = true;
}

bool
sessions_drained(const struct core *core)
{
    const struct sessions *sessions = core->sessions;
    if (sessions->controls_waiting > 0 || sessions->parked > 0)
        return false;
    for (uint32_t i = 0; i < sessions->count; i++)
        if (session_available(sessions->table[i]) != 0)
            return false;
    return true;
}

/* --- the report --------------------------------------------------------------------------------------------------- */

static void
describe_lanes(const struct core *core, const struct session *session,
               struct mshm_session_info *info)
{
    for (uint32_t lane = 0; lane < session->lanes_high; lane++) {
        const struct mshm_lane *shared = &session->segment->lanes[lane];
        const struct lane_watch *watch = &session->watch[lane];
        info->gets += AO_load(&shared->gets);
        info->scans += AO_load(&shared->scans);
        if (watch->snapshot == 0)
            continue;
        info->snapshots++;
        if (info->oldest_snapshot != 0 && watch->snapshot >= info->oldest_snapshot)
            continue;
        info->oldest_snapshot = watch->snapshot;
        info->oldest_age_ns = watch->since_ns == 0 ? 0 : core->now_ns - watch->since_ns;
    }
}

bool
sessions_describe(const struct core *core, uint64_t number, struct mshm_session_info *info)
{
    const struct session *found = NULL;
    for (uint32_t i = 0; i < core->sessions->count; i++) {
        const struct session *session = core->sessions->table[i];
        if (session->number > number && (found == NULL || session->number < found->number))
            found = session;
    }
    if (found == NULL)
        return false;
    int available = session_available(found);
    info->number = found->number;
    info->pid = found->pid;
    info->uid = found->uid;
    info->flags = found->flags;
    info->age_ns = core->now_ns - found->attached_ns;
    info->commits = found->commits;
    info->conflicts = found->conflicts;
    info->pending = found->unanswered + (uint64_t)(available > 0 ? available : 0);
    describe_lanes(core, found, info);
    return true;
}
