/* outcome.h - what became of commits that nobody was told about (DESIGN 9, "Unanswered commits").
 *
 * Per token (incarnation, session): the highest sequence processed and which of the last MSHM_RING_CAPACITY sequences
 * committed, with their timestamps. At most 65,536 tokens are kept, the oldest dropped first. Loop thread only.
 */
#ifndef OUTCOME_H
#define OUTCOME_H

#include "mshm/message.h"

struct outcomes;

int outcomes_create(struct outcomes **outcomes);
void outcomes_destroy(struct outcomes *outcomes);
/* A commit with this token was replayed. MSHM_OK, MSHM_NO_MEMORY. */
int outcomes_add(struct outcomes *outcomes, uint64_t incarnation, uint32_t session,
                 uint64_t sequence, uint64_t timestamp);
/* The table is complete up to `incarnation` (the one before the running one). Look-ups for the running incarnation, or
 * at or below the highest token that was dropped without an entry, are UNKNOWN; other sequences without an entry were
 * not committed. */
void outcomes_seal(struct outcomes *outcomes, uint64_t running_incarnation);
enum mshm_outcome outcomes_lookup(const struct outcomes *outcomes, uint64_t incarnation,
                                  uint32_t session, uint64_t sequence, uint64_t *timestamp);
/* A commit of the running incarnation (also noted by outcomes_add): its session closed in order, nobody will ask. */
void outcomes_forget(struct outcomes *outcomes, uint64_t incarnation, uint32_t session);
/* The whole table for a checkpoint, allocated with malloc; and back again (hostile bytes). MSHM_OK, MSHM_NO_MEMORY; load also MSHM_CORRUPT,
 * MSHM_VERSION. */
int outcomes_save(const struct outcomes *outcomes, void **bytes, uint64_t *size);
int outcomes_load(struct outcomes *outcomes, const void *bytes, uint64_t size);
/* Drops what has been served unasked for ten minutes. */
void outcomes_expire(struct outcomes *outcomes, uint64_t served_ns);

#endif
