/* commit.c - from a request in a ring to its answer.
 *
 *   ring --peek--> admit --wal_stage, one memcpy--> private copy --validate, plan--> [refused: answered at once]
 *                                                       |
 *                                    timestamp, wal_stage_finish, tree_apply
 *                                                       |
 *   queue of commits, in order:  | answered ... | head: in the log's hands | staged, not yet sent ... tail |
 *                                                       |
 *                        wal_done passes the batch: `visible`, completions, fence, wakes
 *
 * A commit that fails fails before it has a timestamp; after that only the disk can stop it, and that poisons the
 * incarnation. The queue is strictly in commit order, so an OS commit behind a SYNC commit waits for that sync.
 */
#include "commit_parts.h"

#include <stdlib.h>
#include <string.h>

#include "checkpoint.h"
#include "control.h"
#include "kill_point.h"
#include "mshm/status.h"

enum {
    RING_INITIAL =
        1024,        /* places; doubled when needed, bounded by what sessions may have unanswered */
    CACHE_SHARE = 8, /* a commit may be as large as this part of the cache */
    SHORT_REVOKES = 3, /* how often brackets may grow too old before a lack of frames is refused */
};

static int
ring_init(struct commit_ring *ring)
{
    ring->items = malloc(RING_INITIAL * sizeof(*ring->items));
    ring->mask = RING_INITIAL - 1;
    return ring->items == NULL ? MSHM_NO_MEMORY : MSHM_OK;
}

static bool
ring_grow(struct commit_ring *ring)
{
    uint64_t mask = ring->mask * 2 + 1;
    struct commit *items = malloc((mask + 1) * sizeof(*items));
    if (items == NULL)
        return false;
    for (uint64_t i = ring->head; i != ring->tail; i++)
        items[i & mask] = *ring_at(ring, i);
    free(ring->items);
    ring->items = items;
    ring->mask = mask;
    return true;
}

/* Room for one more: allocates only while the ring grows to its working size. */
static inline bool
ring_reserve(struct commit_ring *ring)
{
    return ring->tail - ring->head <= ring->mask || ring_grow(ring);
}

int
commits_create(struct commit_queue **result)
{
    struct commit_queue *queue = calloc(1, sizeof(*queue));
    if (queue == NULL)
        return MSHM_NO_MEMORY;
    if (ring_init(&queue->commits) != MSHM_OK || ring_init(&queue->syncs) != MSHM_OK) {
        commits_destroy(queue);
        return MSHM_NO_MEMORY;
    }
    *result = queue;
    return MSHM_OK;
}

void
commits_destroy(struct commit_queue *queue)
{
    if (queue == NULL)
        return;
    page_requests_free(queue);
    free(queue->commits.items);
    free(queue->syncs.items);
    free(queue);
}

/* --- taking a request in ----------------------------------------------------------------------------------------- */

/* The snapshot that a COMMIT names must stand in its lane, where every collection has seen it, and must not have been
 * expired; the private mark decides, not the copy in the session. */
static int
snapshot_check(struct core *core, struct session *session, const struct mshm_request_copy *request)
{
    if (request->lane >= sessions_lane_count(session))
        return MSHM_INVALID;
    if (session->watch[request->lane].expired >= request->snapshot)
        return MSHM_SNAPSHOT_EXPIRED;
    mshm_timestamp registered = AO_load(&session->segment->lanes[request->lane].snapshot);
    if (registered != request->snapshot || request->snapshot > core->visible)
        return MSHM_INVALID;
    return MSHM_OK;
}

static int
commit_admit(struct core *core, struct session *session, const struct mshm_request_copy *request)
{
    if ((session->flags & (MSHM_HELLO_READ_ONLY | MSHM_HELLO_OBSERVER)) != 0)
        return MSHM_READ_ONLY;
    if (request->arena_size > core->options.cache_size / CACHE_SHARE)
        return MSHM_TOO_BIG;
    return request->kind == MSHM_REQUEST_COMMIT ? snapshot_check(core, session, request) : MSHM_OK;
}

/* What mshm_ops_validate leaves to the catalogue: buckets that live, values that their leaves can hold. */
static int
ops_check(const struct catalogue *catalogue, const struct mshm_op *op, uint64_t count)
{
    uint32_t bucket = 0, limit = 0;
    for (uint64_t i = 0; i < count; i++, op = mshm_op_next(op)) {
        if (op->bucket != bucket) {
            bucket = op->bucket;
            limit = catalogue_inline_limit(catalogue, bucket);
            if (limit == 0)
                return MSHM_NOT_FOUND;
        }
        if (op->kind == MSHM_OP_MERGE)
            return MSHM_INVALID; /* no bucket has a merge operator */
        if (op->value_size > limit)
            return MSHM_TOO_BIG;
    }
    return MSHM_OK;
}

/* The precondition of a one-call request was decided by tree_plan; replay only does what came of it. */
static void
precondition_drop(struct mshm_op *op)
{
    if (op->kind == MSHM_OP_INSERT || op->kind == MSHM_OP_UPDATE)
        op->kind = MSHM_OP_PUT;
    else if (op->kind == MSHM_OP_DELETE_EXISTING)
        op->kind = MSHM_OP_DELETE;
}

static int
commit_plan(struct core *core, const struct mshm_request_copy *request, const struct mshm_op *ops,
            struct tree_plan **plan)
{
    mshm_timestamp snapshot = request->kind == MSHM_REQUEST_COMMIT ? request->snapshot : UINT64_MAX;
    return tree_plan(core->tree, ops, request->arena_size, request->op_count, snapshot,
                     catalogue_resolve, core->catalogue, plan);
}

static void
commit_enqueue(struct core *core, struct session *session, uint64_t sequence, enum commit_kind kind,
               bool sync)
{
    struct commit_queue *queue = core->commits;
    *ring_at(&queue->commits, queue->commits.tail++) = (struct commit){
        .session = session,
        .sequence = sequence,
        .timestamp = core->applied,
        .batch = queue->batch,
        .copied_ns = core->now_ns,
        .kind = kind,
        .sync = sync,
    };
    if (session != NULL)
        session->unanswered++;
}

/* From here on nothing may fail except the disk. */
static void
commit_apply(struct core *core, struct session *session, const struct mshm_request_copy *request,
             struct tree_plan *plan)
{
    bool sync = (request->flags & MSHM_REQUEST_LEVEL_SYNC) != 0;
    core->applied++;
    core->commits->batch = wal_stage_finish(core->wal, core->applied, (uint32_t)session->number,
                                            request->sequence, (uint32_t)request->op_count, sync);
    tree_apply(core->tree, plan, core->applied);
    /* Without memory for it the token counts as too old to be known. */
    (void)outcomes_add(core->outcomes, core->manifest.incarnation, (uint32_t)session->number,
                       request->sequence, core->applied);
    MACE_KILL_POINT("core:applied");
    commit_enqueue(core, session, request->sequence, COMMIT_REQUEST, sync);
    core->dirty = true;
    mshm_counter_add(&core->figures->counters.operations, request->op_count);
}

/* A reader that stands inside a bracket holds retired frames back until it is revoked, some milliseconds later, and history
 * above its share is given up as soon as a pass over it has shown whose it is: neither is a reason to tell anybody that
 * the cache is full. False when it has lasted so long that nothing comes of it. */
static bool
frames_come_back(struct core *core)
{
    struct commit_queue *queue = core->commits;
    enum core_room room = core_make_room(core);
    /* Without a checkpoint that goes on, what is evicted may be what the commit itself has just had read in. */
    if (room == CORE_ROOM_COMES && !checkpoint_stuck(core->checkpoint)) {
        queue->short_ns = 0;
        return true;
    }
    if (room == CORE_ROOM_NONE && !frames_pending(core->frames) &&
        AO_load(&core->figures->counters.history_bytes) == 0) {
        queue->short_ns = 0;
        return false;
    }
    uint64_t patience_ns = SHORT_REVOKES * core->options.revoke_after_ns;
    /* After a refusal nobody may ask for a while: what was short then says nothing of now. */
    if (queue->short_ns == 0 || core->now_ns - queue->short_seen_ns > patience_ns)
        queue->short_ns = core->now_ns;
    queue->short_seen_ns = core->now_ns;
    core->pressed = true; /* the loop comes back within a millisecond */
    return core->now_ns - queue->short_ns < patience_ns;
}

static bool
ops_delete(const struct mshm_op *op, uint64_t count)
{
    for (uint64_t i = 0; i < count; i++, op = mshm_op_next(op))
        if (op->kind != MSHM_OP_DELETE && op->kind != MSHM_OP_DELETE_EXISTING)
            return false;
    return true;
}

/* `ops` is the log's staging memory: the only copy of what the client wrote, and the one that is logged. */
static enum commit_verdict
commit_carry_out(struct core *core, struct session *session,
                 const struct mshm_request_copy *request, void *ops, int *status)
{
    enum mshm_ops_source source =
        request->kind == MSHM_REQUEST_ONE_CALL ? MSHM_OPS_ONE_CALL : MSHM_OPS_COMMIT;
    struct tree_plan *plan;
    memcpy(ops, mshm_consumer_arena(&session->consumer, request), request->arena_size);
    MACE_KILL_POINT("core:copied_in");
    if (mshm_ops_validate(ops, request->arena_size, request->op_count, source) != MSHM_OK)
        return COMMIT_MALFORMED;
    *status = ops_check(core->catalogue, ops, request->op_count);
    if (*status == MSHM_OK && core->short_of_clean && !ops_delete(ops, request->op_count))
        *status = checkpoint_hindrance(core->checkpoint); /* only the disk could change that */
    else if (*status == MSHM_OK)
        *status = commit_plan(core, request, ops, &plan);
    if (*status == MSHM_BUSY)
        return commit_park(core, session, status);
    if (*status == MSHM_FULL && !core->short_of_clean && frames_come_back(core))
        return COMMIT_HELD;
    if (*status == MSHM_FULL && checkpoint_stuck(core->checkpoint))
        *status = checkpoint_hindrance(core->checkpoint);
    if (*status != MSHM_OK)
        return COMMIT_REFUSED;
    core->commits->short_ns = 0;
    if (request->kind == MSHM_REQUEST_ONE_CALL)
        precondition_drop(ops);
    commit_apply(core, session, request, plan);
    return COMMIT_TAKEN;
}

enum commit_verdict
commits_take(struct core *core, struct session *session, const struct mshm_request_copy *request,
             int *status)
{
    if (request->kind == MSHM_REQUEST_SYNC)
        return commits_sync(core, session, request->sequence) == MSHM_OK ? COMMIT_TAKEN
                                                                         : COMMIT_LATER;
    if (request->kind == MSHM_REQUEST_PAGE_IN)
        return commits_page_in(core, session, request, status);
    *status = session->park_status;
    session->park_status = MSHM_OK;
    if (*status == MSHM_OK)
        *status = commit_admit(core, session, request);
    if (*status != MSHM_OK)
        return COMMIT_REFUSED;
    core->slowed = core->slowed || core_history_waits(core);
    if (core->slowed)
        return COMMIT_HELD;
    if (!ring_reserve(&core->commits->commits))
        return COMMIT_LATER;
    void *ops = wal_stage(core->wal, request->arena_size, status);
    if (ops ==
        NULL) /* after a failed write the next wal_flush says so, and the loop poisons itself */
        return *status == MSHM_BUSY || *status == MSHM_IO ? COMMIT_LATER : COMMIT_REFUSED;
    core->commits->pinned = request->snapshot;
    enum commit_verdict verdict = commit_carry_out(core, session, request, ops, status);
    core->commits->pinned = 0;
    return verdict;
}

/* --- the broker's own commits, replies and syncs ------------------------------------------------------------------ */

int
commits_own(struct core *core, struct session *session, const void *op, uint64_t size)
{
    int status;
    struct commit_queue *queue = core->commits;
    if (!ring_reserve(&queue->commits))
        return MSHM_NO_MEMORY;
    void *staged = wal_stage(core->wal, size, &status);
    if (staged == NULL) /* MSHM_IO: as in commits_take */
        return status == MSHM_IO ? MSHM_BUSY : status;
    memcpy(staged, op, size);
    status = catalogue_apply(core->catalogue, staged, core->applied + 1);
    if (status == MSHM_FULL && !core->short_of_clean && frames_come_back(core))
        status = MSHM_BUSY;
    if (status != MSHM_OK)
        return status; /* the next wal_stage drops the record */
    queue->short_ns = 0;
    core->applied++;
    queue->batch = wal_stage_finish(core->wal, core->applied, 0, 0, 1, true);
    queue->catalogue_changed = core->applied;
    core->dirty = true;
    commit_enqueue(core, session, 0, session == NULL ? COMMIT_OF_NOBODY : COMMIT_CONTROL, true);
    return MSHM_OK;
}

int
commits_reply(struct core *core, struct session *session)
{
    struct commit_queue *queue = core->commits;
    if (queue->catalogue_changed <= core->visible) {
        control_reply(core, session, session->control.message.head.status);
        return MSHM_OK;
    }
    if (!ring_reserve(&queue->commits))
        return MSHM_NO_MEMORY;
    commit_enqueue(core, session, 0, COMMIT_CONTROL, true);
    return MSHM_OK;
}

int
commits_sync(struct core *core, struct session *session, uint64_t sequence)
{
    struct commit_ring *syncs = &core->commits->syncs;
    if (!ring_reserve(syncs))
        return MSHM_NO_MEMORY;
    *ring_at(syncs, syncs->tail++) = (struct commit){
        .session = session,
        .sequence = sequence,
        .batch = wal_sync_request(core->wal),
        .kind = sequence == 0 ? COMMIT_CONTROL : COMMIT_REQUEST,
    };
    session->unanswered++;
    return MSHM_OK;
}
