/* checkpoint.h - a consistent image of all trees as of one commit, the cut, written beside the running work (DESIGN 9).
 *
 *   IDLE --due or asked for--> FILL --> SYNC --> GATHER --> ENCODE --> EDIT --> PUBLISH --> [REWRITE] --> IDLE
 *          seal at a batch    pack and  data     what       the edit   append   locations   a long manifest
 *          boundary           write     file     changed    (job)      + sync   take effect  is written anew
 *
 * Nothing of a checkpoint counts before its edit of the manifest is durable; from then on all of it does. What comes after
 * (slices of PUBLISH, releasing the log, removing dead files) only makes use of it, and a death there loses nothing.
 * A full disk makes it wait and try the same step again, with the same cut; any other failed write or sync ends the
 * incarnation. Mohan et al., "ARIES", 1992, for the idea of the fuzzy checkpoint; here the image is exact, because the
 * entries carry timestamps. Loop thread only.
 */
#ifndef CHECKPOINT_H
#define CHECKPOINT_H

#include "core_parts.h"

int checkpoint_create(struct core *core); /* fills core->checkpoint */
void checkpoint_destroy(struct checkpoint *checkpoint);
/* Closes its files; nothing may be under way. */
void checkpoint_close(struct core *core);

/* A checkpoint that is sealed from now on, or the last one when no page has changed since its cut: the ticket that
 * checkpoint_done reaches when it counts. */
uint64_t checkpoint_request(struct core *core);
uint64_t checkpoint_done(const struct checkpoint *checkpoint);
bool checkpoint_idle(const struct checkpoint *checkpoint);
/* It waits for room on the disk (or for memory, or for pages that cannot be read): what needs it to go on may be refused
 * with the status that checkpoint_hindrance says, MSHM_FULL or MSHM_IO. */
bool checkpoint_stuck(const struct checkpoint *checkpoint);
int checkpoint_hindrance(const struct checkpoint *checkpoint);
/* What the manifest has of pages that could not be read, before replay: their writes wait again. Statuses as
 * pages_restore_stray. */
int checkpoint_restore(struct core *core, const void *strays, uint64_t size);

/* At a batch boundary: begins one when it is due, and goes on with the one under way. *moved is set when something was
 * done, *due_ns lowered to when to come back. MSHM_OK or MSHM_IO (poison). */
int checkpoint_turn(struct core *core, bool *moved, uint64_t *due_ns);
/* A completion with one of its tags. MSHM_OK or MSHM_IO (poison). */
int checkpoint_complete(struct core *core, const struct env_completion *completion);

/* Where recovery has come to in the log, for checkpoints made on the way. */
void checkpoint_replayed(struct checkpoint *checkpoint, const struct manifest_cut *cut);
/* Makes one and waits for it: recovery. MSHM_OK, MSHM_IO; what hindered it, without a second try: MSHM_FULL (the disk),
 * MSHM_NO_MEMORY, MSHM_LIMIT, MSHM_IO. */
int checkpoint_run(struct core *core);

/* Dirty memory beyond which commits wait for the checkpoint. */
bool checkpoint_pressed(const struct core *core);
/* Commits fill what is left until then faster than the checkpoint under way gets on: those that wait now, a few milliseconds
 * at a time, need not wait for all of it later (as the pacing of InnoDB's adaptive flushing). */
bool checkpoint_outrun(const struct core *core);

#endif
