/* commit.c - the ends of a transaction that change the database, and the wait for asynchronous ones. */
#include "commit.h"
#include "mlib_time.h"
#include "mshm/counters.h"
#include "txn.h"

/* In the `sequence` of a ticket: the transaction wrote nothing, so there is nothing to wait for. */
static const uint64_t ticket_empty = UINT64_MAX;

uint64_t
mlib_commit_deadline(const struct mace *db)
{
    unsigned timeout_ms = db->options.commit_timeout_ms;
    return timeout_ms == 0 ? 0 : mlib_time_ns() + (uint64_t)timeout_ms * 1000000u;
}

int
mlib_lost_outcome(struct mlib_attachment *attachment, uint64_t sequence, uint64_t *timestamp)
{
    uint64_t outcome;
    (void)mlib_outcome_find(attachment->mace, attachment->incarnation, attachment->number, sequence,
                            &outcome, timestamp);
    switch (outcome) {
    case MSHM_OUTCOME_COMMITTED:
        return MACE_OK;
    case MSHM_OUTCOME_NOT_COMMITTED:
        return MACE_BROKER_LOST;
    default:
        return MACE_UNKNOWN_OUTCOME;
    }
}

static struct mlib_request
commit_request(const struct mace_txn *txn, bool ticket)
{
    return (struct mlib_request){
        .kind = MSHM_REQUEST_COMMIT,
        .level = txn->flags & (MACE_SYNC | MACE_OS),
        .ticket = ticket,
        .lane = txn->lane_index,
        .snapshot = txn->snapshot,
        .writes = &txn->writes,
    };
}

/* The codes of a publish that did not happen, as a commit tells them. */
static int
unsent_status(int status)
{
    return status == MACE_BUSY ? MACE_UNKNOWN_OUTCOME : status;
}

static void
commit_count(struct mlib_attachment *attachment, int status)
{
    struct mshm_client_counters *counters = &attachment->session->counters;
    if (status == MACE_OK)
        mshm_counter_add(&counters->commits, 1);
    else if (status == MACE_CONFLICT)
        mshm_counter_add(&counters->conflicts, 1);
}

/* The lane keeps the snapshot until the answer. When the answer does not come in time the broker may not even have copied
 * the request in, so the lane stays registered until it has. */
static int
commit_wait(struct mace_txn *txn, uint64_t sequence, uint64_t deadline_ns, uint64_t *timestamp)
{
    struct mlib_attachment *attachment = txn->attachment;
    struct mlib_outcome answer;
    int status = mlib_answer_wait(attachment, sequence, txn->flags & (MACE_SYNC | MACE_OS),
                                  deadline_ns, &answer);
    switch (status) {
    case MACE_OK:
        commit_count(attachment, answer.status);
        *timestamp = answer.timestamp;
        mlib_txn_end(txn, 0);
        return answer.status;
    case MACE_BROKER_LOST:
        status = mlib_lost_outcome(attachment, sequence, timestamp);
        mlib_txn_end(txn, 0);
        return status;
    default:
        mlib_txn_end(txn, sequence);
        return MACE_UNKNOWN_OUTCOME;
    }
}

/* What ends a transaction before anything is sent: true, with the status. */
static bool
commit_trivial(struct mace_txn *txn, int *status)
{
    if (mlib_forked(txn->mace))
        *status = MACE_FORKED;
    else if (txn->writes.count == 0)
        *status = MACE_OK;
    else
        return false;
    mlib_txn_end(txn, 0);
    return true;
}

int
mace_commit_ts(mace_txn *txn, uint64_t *timestamp)
{
    int status;
    uint64_t committed_at = 0;
    if (txn == NULL)
        return MACE_INVALID;
    if (!commit_trivial(txn, &status)) {
        struct mlib_request request = commit_request(txn, false);
        uint64_t sequence, deadline = mlib_commit_deadline(txn->mace);
        status = mlib_request_publish(txn->attachment, &request, deadline, &sequence);
        if (status != MACE_OK) {
            mlib_txn_end(txn, 0);
            return unsent_status(status);
        }
        status = commit_wait(txn, sequence, deadline, &committed_at);
    }
    if (status == MACE_OK && timestamp != NULL)
        *timestamp = committed_at;
    return status;
}

int
mace_commit(mace_txn *txn)
{
    return mace_commit_ts(txn, NULL);
}

int
mace_commit_async(mace_txn *txn, mace_ticket *ticket)
{
    int status;
    if (txn == NULL)
        return MACE_INVALID;
    if (ticket == NULL) {
        mlib_txn_end(txn, 0);
        return MACE_INVALID;
    }
    const struct mlib_attachment *attachment = txn->attachment;
    mace_ticket made = {.sequence = ticket_empty,
                        .incarnation = attachment->incarnation,
                        .reserved = attachment->number};
    if (!commit_trivial(txn, &status)) {
        struct mlib_request request = commit_request(txn, true);
        status = mlib_request_publish(txn->attachment, &request, mlib_commit_deadline(txn->mace),
                                      &made.sequence);
        mlib_txn_end(txn, status == MACE_OK ? made.sequence : 0);
        status = unsent_status(status);
    }
    if (status == MACE_OK)
        *ticket = made;
    return status;
}

/* ---------------------------------------------------------------------------------------------------- mace_wait */

static bool
attachment_is(const struct mlib_attachment *attachment, const mace_ticket *ticket)
{
    return attachment->incarnation == ticket->incarnation && attachment->number == ticket->reserved;
}

/* The attachment of a ticket, with a reference, when it is the current one: the usual case, without a lock. */
static struct mlib_attachment *
attachment_current(struct mace *db, const mace_ticket *ticket)
{
    AO_t current = AO_load_acquire(&db->current);
    struct mlib_attachment *attachment = (struct mlib_attachment *)(uintptr_t)current;
    if (attachment == NULL || !attachment_is(attachment, ticket))
        return NULL;
    mlib_attachment_hold(attachment);
    if (AO_load_acquire(&db->current) == current)
        return attachment;
    mlib_attachment_put(attachment);
    return NULL;
}

/* The same among all. A released one has no session any more, only the outcomes that were kept: *live is false, and there
 * is no reference. NULL also in a signal handler that may not look. */
static struct mlib_attachment *
attachment_find(struct mace *db, const mace_ticket *ticket, bool *live)
{
    *live = true;
    struct mlib_attachment *attachment = attachment_current(db, ticket);
    if (attachment != NULL)
        return attachment;
    if (mlib_section_enter(db) != MACE_OK)
        return NULL;
    pthread_mutex_lock(&db->lock);
    attachment = db->attachments;
    while (attachment != NULL && !attachment_is(attachment, ticket))
        attachment = attachment->next;
    if (attachment != NULL) {
        *live = !attachment->released;
        if (*live)
            mlib_attachment_hold(attachment);
    }
    pthread_mutex_unlock(&db->lock);
    mlib_section_leave();
    return attachment;
}

/* Waits for a ticket that was claimed unanswered. */
static int
ticket_wait(struct mlib_attachment *attachment, bool live, uint64_t sequence,
            struct mlib_outcome *answer)
{
    struct mace *db = attachment->mace;
    bool known = false;
    int status = MACE_BROKER_LOST;
    if (live)
        status = mshm_completion_wait(attachment->session, attachment->view.store, sequence,
                                      mlib_commit_deadline(db), db->cpus);
    if (status == MACE_BROKER_LOST) {
        uint64_t timestamp = 0;
        status = mlib_lost_outcome(attachment, sequence, &timestamp);
        known = status != MACE_UNKNOWN_OUTCOME;
        *answer = (struct mlib_outcome){
            .sequence = sequence, .timestamp = timestamp, .status = status, .answered = true};
    }
    return mlib_ticket_finish(attachment, sequence, live, known, answer);
}

int
mace_wait(mace *db, mace_ticket *ticket)
{
    if (db == NULL || ticket == NULL)
        return MACE_INVALID;
    if (mlib_forked(db))
        return MACE_FORKED;
    if (ticket->incarnation == 0 || ticket->sequence == 0)
        return MACE_INVALID;
    bool live;
    struct mlib_attachment *attachment = attachment_find(db, ticket, &live);
    if (attachment == NULL)
        return MACE_INVALID;
    struct mlib_outcome answer = {.status = MACE_OK};
    int status = MACE_OK;
    if (ticket->sequence == ticket_empty) {
        ticket->sequence = 0;
    } else {
        status = mlib_ticket_claim(attachment, ticket->sequence, &answer);
        if (status == MACE_BUSY)
            status = ticket_wait(attachment, live, ticket->sequence, &answer);
    }
    if (live) {
        if (status == MACE_OK)
            commit_count(attachment, answer.status);
        mlib_lanes_reap_try(attachment);
        mlib_attachment_put(attachment);
    }
    if (status != MACE_OK)
        return status == MACE_BUSY ? MACE_UNKNOWN_OUTCOME : status;
    if (answer.status == MACE_OK)
        ticket->timestamp = answer.timestamp;
    return answer.status;
}
