/* tree.h - the index writer: one B-link tree per bucket (DESIGN 4).
 *
 * Readers never wait and never see a half-done change: a leaf changes by append (one release store of its tail count)
 * or by replacement of its frame (one release store into the page map); splits publish new pages first, then the
 * replaced ones from the root down; merges the left page, its parent, and only then give the right page's pid back
 * (Lehman & Yao 1981). Pages may be out of memory: the tree never reads a disk. It says which pages it misses, or it
 * writes to a leaf without having seen it (blind.h). Loop thread only.
 */
#ifndef TREE_H
#define TREE_H

#include "frames.h"
#include "mshm/ops.h"
#include "mshm/read.h"
#include "pages.h"
#include "snapshots.h"

struct tree; /* all trees of the store: what they share */

struct tree_options {
    uint32_t page_size;     /* default target bytes of a leaf: 4096 to 65536 */
    uint64_t history_limit; /* bytes of history in frames before tree_history_excess reports */
    uint64_t
        history_size; /* bytes of the scratch file that history may take; 0: it stays in memory */
    uint64_t spill_tags; /* completions carry tags from here on (SPILL_TAGS) */
    uint8_t *hints;      /* one byte per 4 KiB of frames, written by clients (any value), or NULL */
    uint64_t fresh_ns;   /* history that was read in stays at least that long */
};
struct pager_wait;

int tree_create(struct tree **tree, const struct tree_options *options, const struct env *env,
                struct frames *frames, struct pages *pages, struct snapshots *snapshots,
                struct mshm_view *view, struct mshm_counters *counters);
void tree_destroy(struct tree *tree);

/* Figures that a checkpoint keeps, because a restart does not look at every page. */
struct tree_figures {
    uint64_t pages_leaf, pages_inner, height;
};
void tree_figures(const struct tree *tree, struct tree_figures *figures);
void tree_figures_restore(struct tree *tree, const struct tree_figures *figures);

/* The pages that the last tree_plan or tree_bucket_destroy did not find in memory when it returned MSHM_BUSY, without
 * duplicates; valid until the next call of either. The caller has them read in (pager.h) and asks again. */
uint32_t tree_missing(const struct tree *tree, const mshm_pid **pids);
/* While allowed, a leaf takes as many blind writes as it could have got by two checkpoints: replay, for leaves that cannot be
 * read. What a run gave to them before and after a cut so comes in at once. */
void tree_allow_blind(struct tree *tree, bool more);
/* The history word of a leaf, also while it is out of memory: a pager_history. It may change with every other call of
 * the tree, so a frame that it was laid into is installed at once. */
AO_t tree_history_word(void *tree, mshm_pid pid);
/* A page was read in and installed: one that has become too large or too small is remembered for tree_tend. */
void tree_loaded(struct tree *tree, mshm_pid pid);
/* How tree_check looks at a page that is not in memory (pager_peek). NULL: such pages are passed over. */
typedef int tree_peek(void *argument, mshm_pid pid, void *to, uint32_t *size, const char **why);
void tree_set_peek(struct tree *tree, tree_peek *peek, void *argument);

/* Asked by the tree when the cached snapshot list cannot bring a page under its size: collects anew. */
typedef void tree_collect(void *argument);
void tree_set_collect(struct tree *tree, tree_collect *collect, void *argument);

/* A new empty tree for a bucket: *root gets the pid of its root leaf. MSHM_FULL. */
int tree_bucket_create(struct tree *tree, uint32_t bucket, uint32_t page_size, mshm_pid *root);
/* Unlinks and retires every page of a bucket, about `budget` pages a call (a page over leaves goes with all of them):
 * MSHM_OK when done, MSHM_BUSY when there is more, and when tree_missing() names inner pages that have to be read first;
 * leaves are not read. May be begun anew after a crash at any point, whatever became of the pids that were free by then.
 * Call only when no registered snapshot is older than the drop. */
int tree_bucket_destroy(struct tree *tree, mshm_pid root, uint32_t bucket, uint32_t budget);

/* How a commit is prepared: everything that may fail happens in tree_plan, nothing in tree_apply. */
struct tree_target { /* found by the caller in the catalogue, per operation's bucket */
    struct mshm_tree_ref ref;
    uint32_t page_size; /* bytes */
};
/* Resolves a bucket id for a commit: MSHM_OK, or the status to answer. */
typedef int tree_resolve(void *argument, uint32_t bucket, struct tree_target *target);

/* Asked where the tree works on its own: the bucket of a page it remembered. Buckets that were dropped are left alone. */
void tree_set_resolve(struct tree *tree, tree_resolve *resolve, void *argument);

struct tree_plan; /* reusable memory of one plan; owned by the tree */

/* Checks and prepares `count` validated operations: for each the leaf is found, then
 *   - conflict: the key's newest version has timestamp > snapshot -> MSHM_CONFLICT (snapshot UINT64_MAX: no check);
 *   - preconditions of INSERT, UPDATE, DELETE_EXISTING against the newest version -> MSHM_EXISTS, MSHM_NOT_FOUND;
 *   - a leaf that is not in memory: a PUT or DELETE becomes a blind write when no write to the leaf is newer than the
 *     snapshot, as far as blind writes are allowed (page_format.h, DATA_DELTA_MAX); else it is missing;
 *   - pages are missing -> MSHM_BUSY, and tree_missing() lists all of them, inner pages first: the way of an operation
 *     ends at the first one; what can be refused without them is refused at once;
 *   - frames for the worst case are set aside -> MSHM_FULL when there are not enough (deletes may use the reserve).
 *   - MSHM_TOO_BIG when the new frames, or all leaves that have to be in memory, would take more than a quarter of the
 *     cache (not with snapshot UINT64_MAX).
 * On a failure nothing has changed. No page may leave memory before tree_apply. At most one plan is open at a time. The operations' bytes stay untouched until
 * tree_apply or tree_cancel: the plan points into them. */
int tree_plan(struct tree *tree, const struct mshm_op *ops, uint64_t size, uint64_t count,
              mshm_timestamp snapshot, tree_resolve *resolve, void *argument,
              struct tree_plan **plan);
/* Looking ahead: several commits wait, and the leaves of all of them are fetched before the first is planned, because a
 * cold leaf is most of what a commit costs (group prefetching: Chen, Ailamaki, Gibbons & Mowry 2004). tree_ahead_add
 * starts the fetch of what a put of this key will need first, tree_ahead_end of what follows from that; tree_plan then
 * takes the place that was found, if the key is the same and no page was replaced meanwhile. Hints only: a key that is
 * never committed, or another one in its place, costs time and nothing else. The key is private memory, at most
 * TREE_AHEAD_KEY bytes; the bucket any number. tree_ahead_begin forgets what was added before. */
enum { TREE_AHEAD = 16, TREE_AHEAD_KEY = 64 };
void tree_ahead_begin(struct tree *tree);
void tree_ahead_add(struct tree *tree, uint32_t bucket, const void *key, uint16_t key_size,
                    tree_resolve *resolve, void *argument);
void tree_ahead_end(struct tree *tree);
/* Applies the plan with the commit's timestamp: cannot fail. Visible to no reader before store.visible says so. */
void tree_apply(struct tree *tree, struct tree_plan *plan, mshm_timestamp timestamp);
/* Gives the plan's frames back. After a refusal that came later than tree_plan. */
void tree_cancel(struct tree *tree, struct tree_plan *plan);

/* Work that was put off so that a commit is answered sooner (leaves with nearly full tails): does up to `budget` leaves;
 * and now and then a part of a pass over the history for versions that nobody needs any more. True when more is left.
 * Pages that are not in memory are passed over, here and in all that follows. */
bool tree_tend(struct tree *tree, unsigned budget);

/* For idle times: rebuilds leaves whose tails hold more than a few entries, so that reading what was written lately costs
 * no more than reading anything else; at most `budget` leaves a call, the ones written first first. True when there is
 * more to do. Where frames are short it gives up: such leaves stay as they are. */
bool tree_tidy(struct tree *tree, unsigned budget, tree_resolve *resolve, void *argument);

/* --- history that is out of memory (spill.h) --- */

/* Has history of this leaf read in, as much as the next read gives. MSHM_OK: wait->left was increased, and done is called
 * later, from tree_history_arrive; MSHM_EXISTS: none of it is out (nothing to wait for); MSHM_NO_MEMORY. */
int tree_history_want(struct tree *tree, mshm_pid pid, struct pager_wait *wait);
/* A completion with a tag of the scratch file. */
void tree_history_complete(struct tree *tree, const struct env_completion *completion);
/* Goes on with what waits to come in, and tells those whose history has come. True when something was done. */
bool tree_history_arrive(struct tree *tree);
/* Writes history out while more than a small part of the cache holds some. True when something was done. */
bool tree_history_turn(struct tree *tree, uint64_t now_ns);
/* Frames are short: moves out what is in the scratch file already, and has up to `bytes` more written. The bytes that were
 * retired; *coming is set when a write is under way. */
uint64_t tree_history_evict(struct tree *tree, uint64_t bytes, uint64_t now_ns, bool *coming);
bool tree_history_idle(const struct tree *tree);
/* Bytes of the frame that history waits for which was read and finds none; 0: none waits. */
uint64_t tree_history_short(const struct tree *tree);
/* Some leaf has history, in memory or not. */
bool tree_history_there(const struct tree *tree);
/* Somebody waits for history to come in. */
bool tree_history_waits(const struct tree *tree);
/* Bytes that history in memory takes beyond its share of the cache; 0: none. */
uint64_t tree_history_over(const struct tree *tree);
/* It cannot go to the scratch file now: there is none, or it is full, slow or broken. */
bool tree_history_stuck(const struct tree *tree, uint64_t now_ns);

/* Bytes of history frames above the limit that going through all of it did not give back, and that cannot go to the scratch
 * file, 0 = none; and the snapshot that keeps most of them (0 = unknown). */
uint64_t tree_history_excess(const struct tree *tree);
mshm_timestamp tree_history_costliest(struct tree *tree);
/* After snapshots were expired: rebuilds leaves with history, up to `budget`; true when more is left. */
bool tree_history_prune(struct tree *tree, unsigned budget);

/* Every page of the scratch file is held by those who count: MSHM_OK, MSHM_NO_MEMORY, or MSHM_CORRUPT and *why. */
int tree_history_check(const struct tree *tree, const char **why);
/* Every invariant of a bucket's tree: levels, fences, siblings, separators, page contents, each pid once, reachability.
 * Counts keys with a live newest version. Pages that are not in memory are looked at through tree_set_peek's function;
 * without one they are passed over, and what hangs on them. MSHM_OK or MSHM_CORRUPT and *why. */
int tree_check(struct tree *tree, struct mshm_tree_ref ref, uint64_t *live_keys, const char **why);

#endif
