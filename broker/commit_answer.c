/* commit_answer.c - what the log has taken becomes visible and is answered; then who waits is woken. */
#include <assert.h>

#include "commit_parts.h"
#include "control.h"
#include "kill_point.h"
#include "mshm/status.h"

static void
commit_answer(struct core *core, const struct commit *commit, int status, mshm_timestamp timestamp)
{
    if (commit->kind == COMMIT_OF_NOBODY)
        return;
    assert(commit->session->unanswered > 0);
    commit->session->unanswered--;
    if (commit->kind == COMMIT_REQUEST)
        mshm_completion_post(commit->session->segment, commit->sequence, status, timestamp);
    else
        control_reply(core, commit->session,
                      status == MSHM_OK ? commit->session->control.message.head.status : status);
}

/* After the fence that follows the posting of a batch: pairs with the fence between a waiter's store of `waiting` and
 * its last look at `done`. */
static uint64_t
answer_wake(struct core *core, struct session *session, uint64_t sequence)
{
    if (!mshm_completion_waiter(session->segment, sequence))
        return 0;
    unsigned place = (unsigned)((sequence - 1) % MSHM_RING_CAPACITY);
    core->env->wake(core->env->context, &session->segment->completions[place].done);
    return 1;
}

static uint64_t
ring_wake(struct core *core, const struct commit_ring *ring, uint64_t from, uint64_t to)
{
    uint64_t woken = 0;
    for (uint64_t i = from; i != to; i++) {
        const struct commit *commit = ring_at(ring, i);
        if (commit->kind == COMMIT_REQUEST)
            woken += answer_wake(core, commit->session, commit->sequence);
    }
    return woken;
}

static uint64_t
refused_wake(struct core *core)
{
    struct commit_queue *queue = core->commits;
    uint64_t woken = 0;
    for (uint32_t i = 0; i < queue->refused_count; i++)
        woken += answer_wake(core, queue->refused[i].session, queue->refused[i].sequence);
    queue->refused_count = 0;
    return woken;
}

void
commit_post(struct core *core, struct session *session, uint64_t sequence, int status)
{
    struct commit_queue *queue = core->commits;
    mshm_completion_post(session->segment, sequence, status, 0);
    if (queue->refused_count == REFUSED_CAPACITY) {
        mshm_full_fence(); /* see answer_wake */
        mshm_counter_add(&core->figures->counters.wakes, refused_wake(core));
    }
    queue->refused[queue->refused_count++] = (struct refusal){session, sequence};
}

void
commits_refuse(struct core *core, struct session *session, uint64_t sequence, int status)
{
    commit_post(core, session, sequence, status);
    MACE_KILL_POINT("core:refused");
    if (status == MSHM_CONFLICT)
        session->conflicts++;
    mshm_counter_add(status == MSHM_CONFLICT ? &core->figures->counters.conflicts
                                             : &core->figures->counters.refused,
                     1);
}

/* Makes every commit up to the queue's place `to` visible: after all their entries stand in the index. */
static void
visible_publish(struct core *core, uint64_t to)
{
    mshm_timestamp newest = ring_at(&core->commits->commits, to - 1)->timestamp;
    if (newest == core->visible)
        return;
    MACE_KILL_POINT("core:before_visible");
    core->visible = newest;
    AO_store_release(&core->store->visible, newest); /* pairs with mshm_snapshot_register */
    MACE_KILL_POINT("core:visible");
}

/* Figures of the commits that were just answered. */
static void
answered_count(struct core *core, uint64_t from, uint64_t to)
{
    struct mshm_figures *figures = core->figures;
    uint64_t now_ns = core->env->clock_ns(core->env->context), commits = 0, syncs = 0;
    for (uint64_t i = from; i != to; i++) {
        const struct commit *commit = ring_at(&core->commits->commits, i);
        if (commit->kind != COMMIT_REQUEST)
            continue;
        mshm_histogram_add(commit->sync ? &figures->commit_sync_latency : &figures->commit_latency,
                           now_ns - commit->copied_ns);
        commits++;
        syncs += commit->sync;
    }
    mshm_counter_add(&figures->counters.commits, commits);
    mshm_counter_add(&figures->counters.commits_sync, syncs);
    mshm_counter_add(&figures->counters.batches, 1);
    mshm_histogram_add(&figures->batch_commits, commits);
}

static void
commits_answer(struct core *core, uint64_t from, uint64_t to)
{
    for (uint64_t i = from; i != to; i++) {
        const struct commit *commit = ring_at(&core->commits->commits, i);
        if (commit->kind == COMMIT_REQUEST)
            commit->session->commits++;
        commit_answer(core, commit, MSHM_OK, commit->timestamp);
    }
}

static uint64_t
ring_ready(const struct commit_ring *ring, uint64_t done)
{
    uint64_t to = ring->head;
    while (to != ring->tail && ring_at(ring, to)->batch <= done)
        to++;
    return to;
}

bool
commits_publish(struct core *core)
{
    struct commit_queue *queue = core->commits;
    uint64_t commits = queue->commits.head, syncs = queue->syncs.head;
    uint64_t commits_to = ring_ready(&queue->commits, wal_done(core->wal));
    uint64_t syncs_to =
        syncs == queue->syncs.tail ? syncs : ring_ready(&queue->syncs, wal_synced(core->wal));
    if (commits == commits_to && syncs == syncs_to && queue->refused_count == 0)
        return false;
    if (commits != commits_to)
        visible_publish(core, commits_to);
    commits_answer(core, commits, commits_to);
    for (uint64_t i = syncs; i != syncs_to; i++)
        commit_answer(core, ring_at(&queue->syncs, i), MSHM_OK, 0);
    MACE_KILL_POINT("core:answered");

    mshm_full_fence(); /* see answer_wake */
    uint64_t woken = ring_wake(core, &queue->commits, commits, commits_to) +
                     ring_wake(core, &queue->syncs, syncs, syncs_to) + refused_wake(core);
    if (woken > 0)
        mshm_counter_add(&core->figures->counters.wakes, woken);
    MACE_KILL_POINT("core:woken");
    queue->commits.head = commits_to;
    queue->syncs.head = syncs_to;
    if (commits != commits_to)
        answered_count(core, commits, commits_to);
    return true;
}

void
commits_poison(struct core *core)
{
    struct commit_queue *queue = core->commits;
    uint64_t commits = queue->commits.head, syncs = queue->syncs.head;
    for (uint64_t i = commits; i != queue->commits.tail; i++)
        commit_answer(core, ring_at(&queue->commits, i), MSHM_UNKNOWN_OUTCOME, 0);
    for (uint64_t i = syncs; i != queue->syncs.tail; i++)
        commit_answer(core, ring_at(&queue->syncs, i), MSHM_IO, 0);
    mshm_full_fence(); /* see answer_wake */
    ring_wake(core, &queue->commits, commits, queue->commits.tail);
    ring_wake(core, &queue->syncs, syncs, queue->syncs.tail);
    refused_wake(core);
    queue->commits.head = queue->commits.tail;
    queue->syncs.head = queue->syncs.tail;
}

bool
commits_idle(const struct commit_queue *queue)
{
    return queue->commits.head == queue->commits.tail && queue->syncs.head == queue->syncs.tail &&
           queue->refused_count == 0;
}

mshm_timestamp
commits_pinned(const struct commit_queue *queue)
{
    return queue->pinned;
}
