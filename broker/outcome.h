/* outcome.h - what became of commits that nobody was told about (DESIGN 9, "Unanswered commits").
 *
 * Per token (incarnation, session): which of the last MSHM_RING_CAPACITY sequences up to the highest committed one
 * committed, with their timestamps. At most 65,536 tokens are kept, the oldest dropped first, and no more memory than
 * is stated in outcome.c. Tokens come in by replay and by every commit of a session of the running incarnation; a
 * checkpoint keeps the table as of its cut, and replay continues it. Loop thread only.
 */
#ifndef OUTCOME_H
#define OUTCOME_H

#include "mshm/message.h"

struct outcomes;

int outcomes_create(struct outcomes **outcomes);
void outcomes_destroy(struct outcomes *outcomes);
/* A commit with this token was replayed, or applied by the running incarnation. A few nanoseconds when the session has
 * committed lately. MSHM_OK; MSHM_NO_MEMORY: the token was dropped, as if it had become too old. */
int outcomes_add(struct outcomes *outcomes, uint64_t incarnation, uint32_t session,
                 uint64_t sequence, uint64_t timestamp);
/* The table is complete up to `incarnation` (the one before the running one). Look-ups for the running incarnation, or
 * at or below the highest token that was dropped without an entry, are UNKNOWN; other sequences without an entry were
 * not committed. */
void outcomes_seal(struct outcomes *outcomes, uint64_t running_incarnation);
enum mshm_outcome outcomes_lookup(const struct outcomes *outcomes, uint64_t incarnation,
                                  uint32_t session, uint64_t sequence, uint64_t *timestamp);
/* A session of the running incarnation closed in order: nobody will ask. Its token leaves without a trace, so all its
 * commits must be answered. */
void outcomes_forget(struct outcomes *outcomes, uint64_t incarnation, uint32_t session);
/* The whole table for a checkpoint, allocated with malloc (layout in outcome_format.h). That a token was asked for is
 * not kept: after a restart each has its ten minutes again. MSHM_OK, MSHM_NO_MEMORY. */
int outcomes_save(struct outcomes *outcomes, void **bytes, uint64_t *size);
/* Back again into an empty table (hostile bytes). MSHM_OK; MSHM_NO_MEMORY, MSHM_CORRUPT, MSHM_VERSION: the table is of
 * no use any more. */
int outcomes_load(struct outcomes *outcomes, const void *bytes, uint64_t size);
/* Drops what has been served unasked for ten minutes. */
void outcomes_expire(struct outcomes *outcomes, uint64_t served_ns);

#endif
