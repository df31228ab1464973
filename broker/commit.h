/* commit.h - from a request in a ring to its answer.
 *
 * Copy in, validate, plan (conflicts, preconditions, frames), timestamp, log, apply; later, when the log has taken the
 * batch: publish `visible`, answer in commit order, wake. Loop thread only.
 */
#ifndef COMMIT_H
#define COMMIT_H

#include "core_parts.h"
#include "sessions.h"

enum commit_verdict {
    COMMIT_TAKEN,   /* applied and queued, or waiting for a sync */
    COMMIT_REFUSED, /* to be answered with *status at once: commits_refuse */
    COMMIT_LATER,   /* the log has no room now: leave it in the ring */
    COMMIT_HELD, /* frames or clean memory are short: leave it in the ring, go on with other sessions */
    COMMIT_PARKED,   /* the same, and the session waits until pages have been read that it needs */
    COMMIT_MALFORMED /* end the session */
};

int commits_create(struct commit_queue **queue);
void commits_destroy(struct commit_queue *queue);

/* Carries out a request that was peeked. Changes nothing but for COMMIT_TAKEN. */
enum commit_verdict commits_take(struct core *core, struct session *session,
                                 const struct mshm_request_copy *request, int *status);
/* Asks for the pages of a PAGE_IN request; answered when all have been read. */
enum commit_verdict commits_page_in(struct core *core, struct session *session,
                                    const struct mshm_request_copy *request, int *status);
/* The session ends: what it waits for is of no interest any more. */
void commits_unpark(struct core *core, struct session *session);
/* Posts the answer of a request that was refused; the head has passed it. */
void commits_refuse(struct core *core, struct session *session, uint64_t sequence, int status);

/* Commits one operation on the catalogue for the broker itself, at level SYNC. `session` (may be NULL) has its control
 * reply sent when the commit is durable and visible. MSHM_OK, MSHM_BUSY (the log: try again), MSHM_FULL, or what
 * catalogue_apply says; then nothing has changed. */
int commits_own(struct core *core, struct session *session, const void *op, uint64_t size);
/* Queues the session's control reply behind everything that is applied now; at once when all of it is visible. */
int commits_reply(struct core *core, struct session *session);
/* Queues it (or with `sequence` a ring's request) until everything acknowledged so far is durable. */
int commits_sync(struct core *core, struct session *session, uint64_t sequence);

/* Publishes and answers what the log has taken, then wakes. True when something was answered. */
bool commits_publish(struct core *core);
/* Nothing waits for an answer. */
bool commits_idle(const struct commit_queue *queue);
/* The incarnation is poisoned: every unanswered commit has an unknown outcome, every sync failed. */
void commits_poison(struct core *core);

/* The snapshot of the request that is being carried out, 0 = none: registered whatever the lane says meanwhile. */
mshm_timestamp commits_pinned(const struct commit_queue *queue);
#endif
