/* commit.h - requests to the broker and their answers: what transactions and one-call writes share.
 *
 *   publish (under publish_lock)                 wait (without a lock)
 *     room in the ring? -- no: harvest answers     spin, yield, sleep on the completion
 *     room in the arena? - no: wait, or grow it    answered:     take it, release the place
 *     operations to the arena                      broker lost:  ask its successor (mlib_outcome_find)
 *     request, tail; doorbell                      deadline:     MACE_UNKNOWN_OUTCOME
 */
#ifndef MLIB_COMMIT_H
#define MLIB_COMMIT_H

#include "mlib.h"
#include "writeset.h"

struct mlib_request {
    unsigned kind;  /* MSHM_REQUEST_COMMIT, MSHM_REQUEST_ONE_CALL or MSHM_REQUEST_PAGE_IN */
    unsigned level; /* MACE_SYNC or MACE_OS */
    bool ticket;    /* mace_wait will ask for the answer; else the caller waits for it at once */
    /* COMMIT */
    unsigned lane;
    mshm_timestamp snapshot;
    const struct mlib_writeset *writes;
    /* ONE_CALL */
    uint32_t bucket;
    unsigned op; /* enum mshm_op_kind */
    const void *key, *value;
    size_t key_size, value_size;
    /* PAGE_IN */
    const mshm_pid *pids;
    unsigned pid_count;
    bool ahead; /* nobody waits for the answer */
};

/* When a call on this handle that begins now gives up waiting: nanoseconds of CLOCK_MONOTONIC; 0 = never. */
uint64_t mlib_commit_deadline(const struct mace *db);

/* Hands a request to the broker; waits only for room. Any thread, holding a reference on the attachment.
 * MACE_OK and its sequence. Otherwise nothing was sent: MACE_BROKER_LOST, MACE_TOO_BIG, MACE_FULL (the arena cannot grow),
 * MACE_BUSY (deadline), MACE_INVALID (called from a signal handler inside another call). */
int mlib_request_publish(struct mlib_attachment *attachment, const struct mlib_request *request,
                         uint64_t deadline_ns, uint64_t *sequence);

/* The same without waiting for anything: MACE_BUSY, MACE_TOO_BIG: no room now. */
int mlib_request_try(struct mlib_attachment *attachment, const struct mlib_request *request,
                     uint64_t *sequence);

/* Waits for the answer to a request of this level that was published without `ticket`; by its publisher, once.
 * MACE_OK with the answer; MACE_BROKER_LOST: gone and not answered; MACE_BUSY: the deadline passed. */
int mlib_answer_wait(struct mlib_attachment *attachment, uint64_t sequence, unsigned level,
                     uint64_t deadline_ns, struct mlib_outcome *answer);

/* For mace_wait. MACE_OK: the answer, returned this once. MACE_BUSY: not answered yet; the place is the caller's, who
 * waits and then calls finish. MACE_INVALID: no such ticket, taken, waited for by another thread, or no longer kept. */
int mlib_ticket_claim(struct mlib_attachment *attachment, uint64_t sequence,
                      struct mlib_outcome *answer);
/* Ends a claim: with the answer that now stands in the completion or, `known`, that the caller found out; MACE_OK. When
 * there is none the ticket may be claimed again: MACE_BUSY. `live`: the session is still mapped. */
int mlib_ticket_finish(struct mlib_attachment *attachment, uint64_t sequence, bool live, bool known,
                       struct mlib_outcome *answer);

/* The status of a request that its broker never answered, from the successor: MACE_OK and the timestamp when it was
 * committed, MACE_BROKER_LOST when it certainly was not, else MACE_UNKNOWN_OUTCOME. May attach again. */
int mlib_lost_outcome(struct mlib_attachment *attachment, uint64_t sequence, uint64_t *timestamp);

#endif
