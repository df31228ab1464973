/* tree_parts.h - what the files of the tree share: the plan of a commit, from the leaves it touches to the frames that
 * wait for their publication. Nobody else includes it.
 *
 * A plan is made in three steps, and only the first looks at the operations:
 *
 *   tree_plan.c                    finds the leaf of each operation and decides: append, or rebuild the leaf; or, when
 *   tree_blind.c                   the leaf is not in memory: write blind, or have it read in first
 *   tree_rebuild.c, tree_split.c   lay out new frames for the leaves that are rebuilt, as many as they need
 *   tree_inner.c                   lays out new inner pages, level by level, for the leaves that became several
 *
 * tree_merge.c makes plans of another kind, of its own accord: two neighbours become one. Its order of publication is told
 * there.
 *
 * Everything is built in frames that nobody knows yet; only the commit's timestamp is missing, which changes no size.
 * So tree_apply (tree_apply.c) cannot fail: it fills in the timestamp, copies, and publishes.
 *
 * Order of publication: first all pages with new pids, which nothing leads to yet; then the replaced pages from the top
 * of the tree downwards. At every moment each old frame is complete for the range of its fences, and each new frame for
 * its own, so a reader may go through any mixture of them. Parents before children, because a commit may turn one leaf
 * into more pages than a reader may hop over to the right (MSHM_MAX_HOPS): a chain that only right links lead along must
 * not exist even for a moment, because the broker may die in it.
 */
#ifndef TREE_PARTS_H
#define TREE_PARTS_H

#include "mshm/inner.h"
#include "mshm/status.h"
#include "spill.h"
#include "tree.h"

#include <stdlib.h>
#include <string.h>

/* Timestamp of a version that the plan's commit will write: newer than everything. */
#define PLAN_TIMESTAMP UINT64_MAX

struct plan_op {
    const struct mshm_op *op;
    uint64_t hash;
};

/* An operation on a leaf that is not in memory. */
struct plan_blind {
    const struct mshm_op *op;
    mshm_pid pid;
};

/* A leaf that the plan touches. */
struct plan_leaf {
    struct tree_target target;
    mshm_pid pid;
    uint8_t *frame;
    uint32_t size; /* bytes of the frame */
    uint32_t first_op, op_count;
    uint32_t needed, room; /* bytes of tail entries */
    uint32_t tail_room;    /* entries */
    bool rebuild;
    bool puts;          /* some operation is not a delete */
    bool whole_history; /* the rebuild takes all history in, to prune it */
};

/* Who needs a leaf's history: while all of these are registered, going through it would be in vain. */
enum { HISTORY_KEEPERS = 8 };
struct history_keepers {
    mshm_timestamp snapshots[HISTORY_KEEPERS];
    uint32_t count;
    bool more;              /* there are others */
    mshm_timestamp horizon; /* some version was kept because it was newer than this; 0 = none */
    /* Only snapshots in [begin, end) can read any of it: tells when all of it may go without a look at the leaf. */
    mshm_timestamp begin, end;
};

/* A frame that was filled, or whose filling is settled, and is not yet published. */
struct plan_page {
    uint8_t *frame;
    mshm_pid pid;
    uint8_t class;
    uint8_t kind; /* enum mshm_page_kind */
    uint8_t level;
    bool replaces; /* the pid leads to a page now */
    bool split;    /* one of several pages made from one */
    bool root;     /* the root's new frame, a level higher */
    bool whole;    /* a delta on top of the page's last record would not do (pages.h) */
    struct tree_target target;
    struct mshm_leaf_spec spec;    /* leaf: built by tree_apply */
    struct mshm_version *versions; /* leaf: spec.versions, writable */
    mshm_timestamp newest;         /* leaf: of its versions; known when it is built */
    uint32_t live; /* leaf: bytes of what is not deleted; UINT32_MAX: it is one of several */
    uint64_t history_bytes; /* leaf: bytes of the frames of its history */
    const struct history_keepers *keepers;
    AO_t rest;                 /* leaf: the part of its history that stays as it is */
    mshm_timestamp begin, end; /* history: only snapshots in [begin, end) can read any of it */
};

/* A separator and the page to its right, to be put into the parent level. */
struct plan_split {
    struct tree_target target;
    const uint8_t *key;
    uint16_t key_size;
    mshm_pid pid;
};

struct plan_chunk {
    struct plan_chunk *next;
    size_t size;
    _Alignas(16) uint8_t bytes[];
};

/* A growing array; `data` keeps its memory from plan to plan. */
struct plan_array {
    void *data;
    uint32_t count, capacity;
};

struct tree_plan {
    bool open;
    bool rebuilds;            /* some leaf is rebuilt: what follows `leaves` is in use */
    bool bounded;             /* a plan that needs too much of the cache is refused */
    struct plan_array ops;    /* struct plan_op */
    struct plan_array leaves; /* struct plan_leaf */
    struct plan_array blinds; /* struct plan_blind */
    struct plan_array pages;  /* struct plan_page, lower levels first */
    struct plan_array splits; /* struct plan_split of one level */
    struct plan_array above;  /* struct plan_split of the next level */
    struct plan_array pids;   /* mshm_pid given out for this plan */
    struct plan_array
        retired; /* AO_t: history frames that the plan replaces, and words into the scratch file */
    struct plan_chunk *chunks; /* memory that lives as long as the plan */
    struct plan_chunk *chunk;  /* the one in use */
    size_t chunk_used;
    uint64_t blind_bytes;    /* keys and values of `blinds` */
    uint64_t bytes;          /* of frames set aside */
    uint64_t history_loaded; /* bytes of the history frames in `retired` */
    uint64_t rebuilt, splits_made, pruned, inner_added, leaf_added;
    bool collected; /* the snapshots were collected anew for this plan */
};

struct history_leaf {
    mshm_pid pid; /* 0 = empty place */
    struct tree_target target;
    AO_t
        word; /* that leads to the first frame, as in the leaf's header: the only place while the leaf is out of memory */
    uint64_t bytes; /* of its frames */
    struct history_keepers keepers;
};
/* What is known of a history frame; kept at the first unit of the frame. All zero: no history frame begins there. */
struct history_frame {
    mshm_timestamp begin, end; /* only snapshots in [begin, end) can read any of it */
    uint32_t page;             /* its copy in the scratch file, which it holds; 0: none */
    mshm_pid pid;              /* of the leaf */
    uint16_t came;             /* when it was read in, in about milliseconds */
    bool writing;              /* the copy is on its way */
    bool fresh;                /* it was read in not long before `came` */
};
struct history_in;
/* History that is out of memory, or on its way (tree_history_evict.c, tree_history_read.c). */
struct history_out {
    struct spill *spill;
    struct history_frame *frames;          /* by unit */
    uint32_t hand;                         /* place in the set where eviction goes on */
    uint64_t barren_ns;                    /* until then it would find nothing */
    struct history_in **table;             /* leaves whose history is wanted, by pid; chained */
    struct history_in *line, **line_end;   /* of them: wait for a read to end, or for a frame */
    struct history_in *ended, **ended_end; /* their waiters are still to be told */
    uint64_t retry_ns;                     /* when the line looks for frames again */
    uint32_t wanted_bytes;                 /* of the frame that was not to be had; 0: all were */
    uint64_t reading_bytes;                /* of frames for what is being read */
    uint64_t crowded_ns; /* until then nothing comes in that history's share has no room for */
};
/* The leaves that have history, in memory or not: an open-addressed table by pid, at most half full. */
struct history_set {
    struct history_leaf *places;
    uint32_t capacity; /* a power of two, or 0 */
    uint32_t count;
    uint32_t cursor; /* where tree_history_prune goes on */
};

enum { TEND_CAPACITY = 256, TEND_PLACES = 8 };
/* Leaves for idle times: with more entries in their tails than are not worth a rebuild. */
enum { TIDY_CAPACITY = 1 << 17, TIDY_TAIL = 4 };

/* Pages to be looked at later, oldest first. When it is full the oldest one is forgotten: it waits for its next write. */
struct pid_ring {
    mshm_pid *pids; /* TIDY_CAPACITY */
    uint32_t first, count;
};
/* Leaves whose size is not what it should be.
 *
 *   rebuilt small, read in small or large, deleted from
 *          |
 *          | unfit_remember
 *          v
 *        NOW ----looked at: merged, rebuilt, or left as it is----> (forgotten)
 *          |                                                          ^
 *          '--what makes it large is needed by a snapshot--> LATER ---'
 *                      looked at again when the oldest snapshot has moved on
 */
struct unfit {
    struct pid_ring now, later;
    uint8_t *known;        /* a bit for each pid that stands in one of them */
    uint32_t later_left;   /* of the pass through `later` under way */
    mshm_timestamp oldest; /* snapshot when that pass began */
};
struct tend_leaf {
    struct tree_target target;
    mshm_pid pid;
};

struct tree_place {
    mshm_pid pid;
    uint8_t *frame;
    uint32_t size;
};

/* A place that was found before its commit is planned. */
struct tree_hint {
    uint64_t hash;
    struct tree_place place;
    uint32_t bucket;
    uint16_t key_size;
    uint8_t key[TREE_AHEAD_KEY];
};
struct tree_ahead {
    struct tree_hint hints[TREE_AHEAD]; /* in the order of the commits */
    uint32_t count, next;               /* hints before `next` were used, or passed over */
};

struct tree {
    struct tree_options options;
    const struct env *env;
    struct frames *frames;
    struct pages *pages;
    struct snapshots *snapshots;
    struct mshm_view *view;
    struct mshm_counters *counters;
    tree_collect *collect;
    void *collect_argument;
    tree_resolve *resolve;
    void *resolve_argument;
    tree_peek *peek;
    void *peek_argument;
    struct tree_plan plan;
    struct plan_array
        missing; /* mshm_pid: what the last plan or destruction did not find in memory */
    struct tree_ahead ahead;
    struct history_set history;
    struct history_out out;
    uint64_t history_bytes; /* of frames */
    uint64_t pages_leaf, pages_inner, pages_history;
    uint64_t height;
    struct tend_leaf tend[TEND_CAPACITY];
    uint32_t tend_first, tend_count;
    uint64_t
        history_kept;    /* bytes of history that were left when all of it had been gone through */
    uint64_t swept_ns;   /* when that was */
    uint64_t pressed_ns; /* when the history was last gone through because the cache was full */
    bool sweeping;
    struct pid_ring tidy; /* leaves whose tails passed TIDY_TAIL; may name one twice */
    struct unfit unfit;
    bool blind_more; /* tree_allow_blind */
};

/* --- tree.c --- */
/* The page of `level` that covers the key. MSHM_OK, MSHM_CORRUPT, or MSHM_BUSY: the page place->pid on the way there is not
 * in memory. A leaf that is not in memory is found: MSHM_OK, and place->frame is NULL. A leaf's lines are on their way
 * but were not looked at: leaf_check does that. */
int tree_descend(struct tree *tree, struct mshm_tree_ref ref, const void *key, size_t key_size,
                 uint64_t hash, unsigned level, struct tree_place *place);
unsigned
tree_class(uint32_t size); /* smallest class that holds `size` bytes; MSHM_CLASSES = none */
void tree_report(struct tree *tree); /* gauges into the counters */
/* The frame of a page in memory, or NULL. */
uint8_t *tree_frame(const struct tree *tree, mshm_pid pid, uint32_t *size);
/* Remembers a page that has to be read in. MSHM_OK, MSHM_NO_MEMORY. */
int tree_miss(struct tree *tree, mshm_pid pid);
/* Rebuilds one leaf on its own. `only_smaller`: not when that saves no history. */
int tree_rebuild(struct tree *tree, const struct tree_target *target, mshm_pid pid,
                 bool whole_history, bool only_smaller);

/* --- tree_apply.c --- */
struct mshm_version op_version(const struct mshm_op *op, mshm_timestamp timestamp);
/* Carries out a plan of tree_merge.c: its pages in the order in which they were laid out, then the freed pids. */
void merge_apply(struct tree *tree, struct tree_plan *plan, const mshm_pid *freed, uint32_t count);

/* --- tree_plan.c --- */
/* Appends one zeroed element of `size` bytes; NULL when out of memory. Elements move when the array grows. */
void *plan_push(struct plan_array *array, size_t size);
/* Memory until the plan ends, 16-aligned; NULL when out of memory. */
void *plan_memory(struct tree_plan *plan, size_t size);
void plan_memory_reset(struct tree_plan *plan);
/* A frame for the plan: MSHM_OK and the page (valid until the next push), MSHM_FULL, MSHM_TOO_BIG, MSHM_NO_MEMORY. */
int plan_page_add(struct tree *tree, unsigned class, struct plan_page **page);
int plan_pid_add(struct tree *tree, mshm_pid *pid);
/* Begins a plan without operations; tree_cancel or an apply ends it. */
void plan_open(struct tree *tree);

static inline struct plan_page *
plan_pages(struct tree_plan *plan)
{
    return plan->pages.data;
}

static inline bool
plan_op_deletes(const struct mshm_op *op)
{
    return op->kind == MSHM_OP_DELETE || op->kind == MSHM_OP_DELETE_EXISTING;
}

/* --- tree_blind.c --- */
/* Decides about an operation on a leaf that is not in memory: it becomes a blind write of the plan, or the leaf is noted
 * as missing, both MSHM_OK; MSHM_CONFLICT, MSHM_NO_MEMORY. Operations on one leaf come one after the other. */
int blinds_add(struct tree *tree, const struct mshm_op *op, mshm_pid pid, mshm_timestamp snapshot);
/* Room for the plan's blind writes: MSHM_OK, MSHM_FULL, MSHM_NO_MEMORY. */
int blinds_reserve(struct tree *tree, bool reserve);
/* There is none, because what is free lies in small pieces: the leaves are noted as missing, and written to like others
 * when they have been read. MSHM_OK, MSHM_NO_MEMORY; MSHM_FULL: little is free at all. */
int blinds_miss(struct tree *tree);
void blinds_apply(struct tree *tree, const struct tree_plan *plan, mshm_timestamp timestamp);

/* --- tree_rebuild.c --- */
/* What a rebuild notes in a version's `reserved`. */
enum {
    VERSION_RECENT = 1, /* it came from the tail or from the plan */
    VERSION_KNOWN = 2,  /* its key was in the base, or in history: not a new key */
};
struct group { /* the versions of one key */
    uint32_t first;
    uint32_t before; /* estimated bytes of the groups before this one */
    uint64_t values; /* bytes of their values: the part that no prefix makes smaller */
};
struct rebuild {
    struct tree *tree;
    struct plan_leaf *leaf;
    const struct mshm_page *page;
    struct mshm_fences fences;
    unsigned class;                /* of the target size */
    struct mshm_version *versions; /* that stay in the leaf, ascending by key, newest first */
    uint32_t count;
    struct mshm_version *out;  /* that go to history, in the same order */
    mshm_timestamp *out_newer; /* of each of them: the version that follows it */
    uint32_t out_count;
    struct group *groups; /* and one more behind the last */
    uint32_t group_count;
    uint32_t tail_count;       /* versions that came from the tail or are new */
    uint32_t live, live_count; /* bytes and number of the newest versions that are not tombstones */
    uint32_t fresh_count;      /* new keys */
    uint32_t fresh_first, fresh_last;
    bool vanished;         /* some key is not there any more */
    uint32_t limit;        /* bytes that a page may take after a rebuild in no particular order */
    bool looked;           /* the history's beginning was looked at */
    bool met_out;          /* all of it that is in memory was taken in, and the rest is out */
    AO_t rest;             /* history that was not taken in, and stays as it is */
    uint64_t loaded_bytes; /* of history frames that were taken in */
    uint64_t former_bytes; /* of all history frames of the leaf */
    struct history_keepers *keepers;
};
/* Lays out the new frames of a leaf in the plan. */
int rebuild_leaf(struct tree *tree, struct plan_leaf *leaf);
/* Its first steps: takes the leaf, its operations and its history in; and drops what nobody can read, then counts. */
int rebuild_begin(struct rebuild *rebuild);
int rebuild_prune(struct rebuild *rebuild);
/* Counts keys and estimates their bytes. MSHM_OK, MSHM_NO_MEMORY. */
int rebuild_group(struct rebuild *rebuild);
/* Exact bytes of a leaf with the keys [first, end), UINT32_MAX when no frame holds them; the spec, without links. */
uint32_t rebuild_size(const struct rebuild *rebuild, uint32_t first, uint32_t end,
                      struct mshm_leaf_spec *spec);
/* Merges two ordered lists of versions; equal keys: newest first. */
struct mshm_version *rebuild_merge(struct tree_plan *plan, const struct mshm_version *a,
                                   uint32_t a_count, const struct mshm_version *b,
                                   uint32_t b_count);
/* Takes a frame's versions apart: MSHM_OK, MSHM_NO_MEMORY, MSHM_CORRUPT. */
int rebuild_load(struct tree_plan *plan, const uint8_t *frame, uint32_t size,
                 struct mshm_version **versions, uint32_t *count);

/* --- tree_split.c --- */
/* Cuts the groups of a rebuild into pages and lays them out. */
int split_leaf(struct rebuild *rebuild);

/* --- tree_inner.c --- */
struct parent { /* an inner page taken apart */
    struct tree_place place;
    struct mshm_fences fences;
    struct mshm_separator *separators; /* with room for new ones */
    mshm_pid *children;
    uint32_t count;
    bool at_end; /* all new separators stand behind the old ones */
};
/* Takes the page at parent->place apart, with room for `more` separators. MSHM_OK, MSHM_NO_MEMORY, MSHM_CORRUPT. */
int parent_take(struct tree_plan *plan, struct parent *parent, uint32_t more);
/* Lays out one inner page: separators [first, end) of the content and the children around them. */
int inner_page(struct tree *tree, const struct tree_target *target, unsigned level,
               const struct mshm_inner_spec *content, uint32_t first, uint32_t end, mshm_pid pid,
               mshm_pid right, struct plan_page **result);
uint32_t inner_limit(unsigned level); /* bytes that an inner page should have at most */
/* Pids for `count` pages that replace one: the first keeps the pid, unless it is the root and there are several. */
int split_pids(struct tree *tree, const struct tree_target *target, mshm_pid pid, mshm_pid *pids,
               uint32_t count);
/* Hands the borders between the pages of one to the level above: a new root, or the parent's list. */
int split_borders(struct tree *tree, const struct tree_target *target, mshm_pid pid, unsigned level,
                  const struct mshm_separator *separators, const mshm_pid *children,
                  uint32_t count);
/* Puts the plan's separators into the parents, level by level, up to the root. */
int split_parents(struct tree *tree);

/* --- tree_history.c --- */
/* Takes in the first frames of the leaf's history, or all of them, as one ordered list. */
int history_load(struct rebuild *rebuild, bool all, struct mshm_version **versions,
                 uint32_t *count);
/* Notes who needs the history that stays as it is. Before the leaf's pages are laid out. */
void history_inherit(const struct rebuild *rebuild);
/* Moves versions that make the leaf too big from versions to out. */
int history_move_out(struct rebuild *rebuild);
/* Builds frames for out[first, end) in front of `rest`: the word that leads to the first one, and their bytes. */
int history_build(struct rebuild *rebuild, uint32_t first, uint32_t end, mshm_pid pid, AO_t *word,
                  uint64_t *bytes);
int history_reserve(struct tree *tree, uint32_t more); /* room in the set for `more` leaves */
void history_note(struct tree *tree, const struct plan_page *page, mshm_timestamp timestamp);
void history_forget(struct tree *tree, mshm_pid pid);
uint64_t history_known(const struct tree *tree, mshm_pid pid); /* bytes of its frames */
/* Retires the frames of a chain, lets go of what is in the scratch file, and forgets the leaf: returns how many. */
uint32_t history_retire(struct tree *tree, mshm_pid pid, AO_t word);
/* The leaf's entry in the set, or NULL; good until the set changes. */
struct history_leaf *history_find(const struct tree *tree, mshm_pid pid);
/* True when no snapshot, registered or to come, lies in [begin, end). */
bool history_unread(const struct tree *tree, mshm_timestamp begin, mshm_timestamp end);
/* The first snapshot in the list that lies there, or the list's count. */
uint32_t history_keeper(const struct snapshots *snapshots, mshm_timestamp begin,
                        mshm_timestamp end);
/* Goes on through the leaves whose history may have become smaller; true when more is left. */
bool history_sweep(struct tree *tree, unsigned budget);

/* --- tree_history_evict.c --- */
int history_out_init(struct tree *tree);
void history_out_fini(struct tree *tree);
struct history_frame *history_frame(const struct tree *tree, AO_t word);
static inline const struct mshm_page *
history_page(const struct tree *tree, AO_t word)
{
    return (const void *)frames_address(tree->frames, word);
}
/* What readers say of the frame; only with hints. */
uint8_t *history_hint(const struct tree *tree, AO_t word);
/* A new history frame hangs on a leaf. */
void history_frame_note(struct tree *tree, const struct plan_page *page, mshm_timestamp timestamp);
/* What the word leads to hangs on the leaf no more: a frame is retired, a page in the scratch file let go of. What is behind
 * a frame is not touched. */
void history_drop(struct tree *tree, AO_t word);
/* Bytes of the frames that hang on a word. */
uint64_t history_size(const struct tree *tree, AO_t word);
/* The first page in the scratch file from this word on that somebody may still read. */
AO_t history_live(const struct tree *tree, AO_t word);
/* Lets go of what nobody reads any more of a leaf's history in the scratch file. True: nothing is left, and the leaf is
 * forgotten. */
bool history_trim(struct tree *tree, mshm_pid pid);
/* The first link of a leaf's history that leads into the scratch file, or to nothing: NULL when the set does not know the
 * leaf. history_link_store changes what it says. */
struct history_link {
    mshm_pid pid;
    const uint8_t *frame; /* whose link it is; NULL: the leaf's */
    AO_t word;
};
bool history_link_find(const struct tree *tree, mshm_pid pid, struct history_link *link);
void history_link_store(struct tree *tree, const struct history_link *link, AO_t word);
void history_written(void *tree, uint32_t number, int status); /* spill_options */

/* --- tree_history_read.c --- */
int history_in_init(struct tree *tree);
void history_in_fini(struct tree *tree);
void history_was_read(void *tree, uint32_t number, mshm_pid reader, int status, const void *bytes);

/* --- tree_ahead.c --- */
/* The place of a key, if it was found ahead and is still right. */
bool ahead_take(struct tree *tree, uint32_t bucket, const struct mshm_op *op, uint64_t hash,
                struct tree_place *place);
/* Starts the fetch of where the leaf's next entry goes. Its header should be near. Inlined always: see
 * mshm_leaf_prefetch. */
static inline __attribute__((always_inline)) void
leaf_prefetch_heap(const uint8_t *frame)
{
    const struct mshm_leaf *leaf = (const void *)frame;
    AO_t count = AO_load(&leaf->page.tail_count);
    if (count >= MSHM_TAIL_CAPACITY)
        return;
    size_t at = (size_t)leaf->tail_slots[count] * 4;
    __builtin_prefetch(frame + at, 1);
    __builtin_prefetch(frame + at + MSHM_LINE, 1);
}

/* --- tree_tidy.c --- */
int ring_init(struct pid_ring *ring);
void ring_fini(struct pid_ring *ring);
/* Adds a pid; the one that is forgotten for it, or 0. */
mshm_pid ring_push(struct pid_ring *ring, mshm_pid pid);
mshm_pid ring_pop(struct pid_ring *ring); /* not empty */
/* This leaf's tail has just passed TIDY_TAIL entries, or got a tombstone. */
void tidy_remember(struct tree *tree, mshm_pid pid);

/* --- tree_unfit.c --- */
int unfit_init(struct unfit *unfit, uint64_t pids);
void unfit_fini(struct unfit *unfit);
void unfit_remember(struct tree *tree, mshm_pid pid);
/* Looks at up to `budget` leaves; true when more is left to do soon. */
bool unfit_turn(struct tree *tree, unsigned budget);
/* A leaf with less than this is merged when it can be. */
static inline bool
unfit_small(uint32_t page_size, uint32_t bytes)
{
    return bytes < page_size / 4;
}

/* --- tree_merge.c --- */
/* Merges a leaf with a neighbour under the same parent, when both are in memory and fill one page well; and pages above
 * that become small by it. MSHM_OK; MSHM_EXISTS: there is no such neighbour; MSHM_BUSY, MSHM_FULL, MSHM_NO_MEMORY,
 * MSHM_CORRUPT. */
int tree_merge(struct tree *tree, const struct tree_target *target, mshm_pid pid);

#endif
