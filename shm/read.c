/* shm/read.c - the way from the root to a leaf, the point get, and the private copy of a leaf.
 *
 * A walk trusts nothing it reads: page-map words and page headers are checked before use, and the frame's size comes from
 * the map word. What the checks refuse has three causes: a remembered pid that now holds something else (start again
 * from the root), a structure change between two of its steps (follow the right link), a frame recycled after
 * revocation (the bracket's end throws the result away). Whatever remains is MSHM_CORRUPT.
 *
 * Fences cost a cache line, so they are compared only where they can matter. On an inner page a key outside the fences
 * leads to the first or last child: only there. In a leaf a key that is found is inside the fences, because every key
 * of a frame is: only a miss compares. Without the comparison on inner pages a reader between two steps of an inner
 * split would have to walk along the leaves, up to half an inner page of them.
 */
#include "mshm/read.h"

#include <stdbool.h>
#include <string.h>

#include "mshm/counters.h"
#include "mshm/inner.h"
#include "mshm/protocol.h"
#include "page_read.h"

enum {
    WALK_LEVEL_ANY = 256,
    WALK_HISTORY_MAX = 4096, /* pages of one leaf's history */
};

/* A walk from a page down to a leaf. Lives on the stack of one call, inside one bracket. */
struct walk {
    const struct mshm_view *view;
    struct mshm_tree_ref tree;
    mshm_pid pid;   /* page to visit */
    mshm_pid hint;  /* where the walk began, if not at the root, until it has begun again there */
    unsigned level; /* that it must have, or WALK_LEVEL_ANY */
    unsigned hops;  /* pages visited */
    unsigned restarts;
    const uint8_t *frame; /* the page visited last */
    uint32_t size;
};

static void
walk_init(struct walk *walk, const struct mshm_view *view, struct mshm_tree_ref tree,
          mshm_pid start)
{
    *walk = (struct walk){
        .view = view,
        .tree = tree,
        .pid = start != 0 ? start : tree.root,
        .hint = start,
        .level = start != 0 && start != tree.root ? 0 : WALK_LEVEL_ANY,
    };
}

/* The page does not fit: from the root again, unless it is the root. The root's pid never changes while the bucket lives,
 * so a root that is gone or another bucket's means that the bucket was dropped. */
static int
walk_restart(struct walk *walk)
{
    if (walk->pid == walk->tree.root)
        return MSHM_NOT_FOUND;
    walk->pid = walk->tree.root;
    walk->hint = 0;
    walk->level = WALK_LEVEL_ANY;
    walk->restarts++;
    return MSHM_OK;
}

/* The frame that a resident map word leads to: nonzero when it lies in the frames of the store. */
static inline int
frame_locate(const struct mshm_view *view, AO_t word, const uint8_t **frame, uint32_t *size)
{
    unsigned class = mshm_map_class(word);
    mshm_offset offset = mshm_map_frame(word) - view->frames_offset; /* below: a huge number */
    if (class >= MSHM_CLASSES || offset >= view->frames_size ||
        mshm_class_size(class) > view->frames_size - offset)
        return 0;
    *frame = view->base + view->frames_offset + offset;
    *size = mshm_class_size(class);
    return 1;
}

/* Tells the broker's eviction that the frame is in use. Any value is right; the line is written only when it must be. */
static inline void
frame_hint(const struct mshm_view *view, const uint8_t *frame)
{
    if (view->hints == NULL)
        return;
    uint8_t *hint =
        &view->hints[((uint64_t)(frame - view->base) - view->frames_offset) / MSHM_UNIT];
    if (AO_char_load(hint) == 0)
        AO_char_store(hint, 1);
}

/* Finds the frame of walk->pid. MSHM_OK, MSHM_BUSY (not resident), MSHM_CORRUPT, MSHM_NOT_FOUND (no such page, or merged
 * away: restart). */
static inline int
walk_locate(struct walk *walk, uint64_t hash)
{
    if (walk->pid >= walk->view->map_capacity)
        return MSHM_NOT_FOUND;
    AO_t word = AO_load_acquire(&walk->view->map[walk->pid]); /* pairs with the broker's release */
    switch (mshm_map_state(word)) {
    case MSHM_MAP_RESIDENT:
        if (!frame_locate(walk->view, word, &walk->frame, &walk->size))
            return MSHM_CORRUPT;
        if (walk->level == 0)
            mshm_leaf_prefetch(walk->frame, hash, mshm_map_hint(word));
        return MSHM_OK;
    case MSHM_MAP_ON_DISK:
        if (walk->frame !=
            NULL) /* the page above is worth keeping: it is needed again in a moment */
            frame_hint(walk->view, walk->frame);
        return MSHM_BUSY;
    case MSHM_MAP_NONE:
    case MSHM_MAP_MOVED:
        return MSHM_NOT_FOUND;
    default:
        return MSHM_CORRUPT;
    }
}

/* Where a key stands against the fences of the page visited last: the pid to its right when it lies beyond, or 0. */
static int
walk_compare(const struct walk *walk, const void *key, size_t key_size, int below, int *order,
             mshm_pid *right)
{
    struct mshm_fences fences;
    int status = mshm_page_fences(walk->frame, walk->size, &fences);
    if (status != MSHM_OK)
        return status;
    *order = mshm_fences_compare(&fences, key, key_size, below);
    *right = fences.right;
    return MSHM_OK;
}

/* Goes on from a page whose fences do not hold the key: to the right, or to the root, whose own fences hold everything. A
 * hint may be anywhere left of the key by now, farther than the hops reach, so only its own fences count. */
static int
walk_sideways(struct walk *walk, int order, mshm_pid right)
{
    if (walk->pid == walk->tree.root)
        return MSHM_CORRUPT;
    if (order < 0 || right == 0 || walk->pid == walk->hint)
        return walk_restart(walk);
    walk->pid = right;
    return MSHM_OK;
}

/* The first word of a page's header, loaded once. */
struct identity {
    unsigned magic, kind, level;
    uint32_t bucket;
};
static inline struct identity
identity_load(const uint8_t *frame)
{
    uint64_t word = page_word(frame, 0);
    return (struct identity){
        .magic = (unsigned)word & 0xffff,
        .kind = (unsigned)(word >> 16) & 0xff,
        .level = (unsigned)(word >> 24) & 0xff,
        .bucket = (uint32_t)(word >> 32),
    };
}

/* Chooses the child of the inner page visited last, or goes sideways. */
static inline int
walk_child(struct walk *walk, unsigned level, const void *key, size_t key_size, int below)
{
    mshm_pid child;
    uint32_t index;
    int status = mshm_inner_find(walk->frame, walk->size, key, key_size, below, &child, &index);
    if (status != MSHM_OK)
        return status;
    if (index == 0 || index >= page_counts_load(walk->frame).key_count) {
        int order;
        mshm_pid right;
        status = walk_compare(walk, key, key_size, below, &order, &right);
        if (status != MSHM_OK)
            return status;
        if (order != 0) {
            walk->level = level;
            return walk_sideways(walk, order, right);
        }
    }
    walk->pid = child;
    walk->level = level - 1;
    return MSHM_OK;
}

/* Walks to a leaf of the tree that held, or was left of, the key's place when its map word was loaded. Its fences are
 * not compared yet. MSHM_OK, MSHM_BUSY (walk->pid is not resident), MSHM_CORRUPT, MSHM_NOT_FOUND (bucket dropped). */
static int
walk_to_leaf(struct walk *walk, const void *key, size_t key_size, int below, uint64_t hash)
{
    while (walk->hops++ < MSHM_MAX_HOPS) {
        struct identity page = {0};
        int status = walk_locate(walk, hash);
        if (status == MSHM_BUSY || status == MSHM_CORRUPT)
            return status;
        if (status == MSHM_OK)
            page = identity_load(walk->frame);
        int fits = page.magic == MSHM_PAGE_MAGIC && page.bucket == walk->tree.bucket &&
                   (walk->level == WALK_LEVEL_ANY || page.level == walk->level);
        if (fits && page.kind == MSHM_PAGE_LEAF && page.level == 0) {
            walk->level = 0;
            return MSHM_OK;
        }
        if (fits && page.kind == MSHM_PAGE_INNER && page.level > 0)
            status = walk_child(walk, page.level, key, key_size, below);
        else
            status = walk_restart(walk);
        if (status != MSHM_OK)
            return status;
    }
    return MSHM_CORRUPT;
}

/* Walks to the leaf whose fences hold the key. */
static int
walk_to_place(struct walk *walk, const void *key, size_t key_size, int below)
{
    for (;;) {
        int order, status = walk_to_leaf(walk, key, key_size, below, 0);
        mshm_pid right;
        if (status == MSHM_OK)
            status = walk_compare(walk, key, key_size, below, &order, &right);
        if (status != MSHM_OK || order == 0)
            return status;
        status = walk_sideways(walk, order, right);
        if (status != MSHM_OK)
            return status;
    }
}

int
mshm_descend(const struct mshm_view *view, struct mshm_tree_ref tree, mshm_pid start,
             const void *key, size_t key_size, int below, const uint8_t **frame, uint32_t *size,
             mshm_pid *leaf)
{
    struct walk walk;
    walk_init(&walk, view, tree, start);
    int status = walk_to_place(&walk, key, key_size, below);
    if (status == MSHM_OK || status == MSHM_BUSY)
        *leaf = walk.pid;
    if (status == MSHM_OK) {
        *frame = walk.frame;
        *size = walk.size;
    }
    return status;
}

/* --- the point get ----------------------------------------------------------------------------------------------- */

/* One get: what is asked, and where the answer goes. */
struct get {
    const void *key;
    size_t key_size;
    uint64_t hash;
    mshm_timestamp snapshot;
    void *buffer;
    uint64_t capacity, value_size;
    unsigned kind;
};

/* Copies the version that was found. */
static int
get_copy(struct get *get, const struct mshm_version *version)
{
    if (version->kind == MSHM_ENTRY_TOMBSTONE)
        return MSHM_NOT_FOUND;
    get->value_size = version->value_size;
    get->kind = version->kind;
    if (version->value_size > get->capacity)
        return MSHM_BUFFER_TOO_SMALL;
    if (version->value_size > 0)
        memcpy(get->buffer, version->value, version->value_size);
    return MSHM_OK;
}

/* Looks for a version in the history of the leaf visited last: page by page, newest first. The pages stay while the
 * bracket holds, because they are retired no earlier than the leaf's frame. */
static int
get_history(const struct walk *walk, struct get *get, mshm_timestamp snapshot)
{
    const uint8_t *frame = walk->frame;
    for (unsigned i = 0; i < WALK_HISTORY_MAX; i++) {
        /* pairs with the broker's release */
        AO_t word = AO_load_acquire(&((const struct mshm_page *)frame)->history);
        uint32_t size;
        struct mshm_version version;
        if (mshm_map_state(word) == MSHM_MAP_NONE)
            return MSHM_NOT_FOUND;
        if (mshm_map_state(word) == MSHM_MAP_ON_DISK)
            return MSHM_BUSY;
        if (mshm_map_state(word) != MSHM_MAP_RESIDENT ||
            !frame_locate(walk->view, word, &frame, &size))
            return MSHM_CORRUPT;
        struct identity page = identity_load(frame);
        if (page.magic != MSHM_PAGE_MAGIC || page.kind != MSHM_PAGE_HISTORY ||
            page.bucket != walk->tree.bucket)
            return MSHM_CORRUPT;
        int found = mshm_leaf_get(frame, size, get->key, get->key_size, get->hash, snapshot, NULL,
                                  &version, NULL);
        frame_hint(walk->view, frame);
        if (found == MSHM_FOUND_VERSION)
            return get_copy(get, &version);
        if (found < 0)
            return found;
    }
    return MSHM_CORRUPT;
}

/* One try inside a bracket. */
static int
get_try(struct walk *walk, struct get *get)
{
    const AO_t *visible = get->snapshot == 0 ? &walk->view->store->visible : NULL;
    for (;;) {
        struct mshm_version version;
        mshm_timestamp snapshot;
        int status = walk_to_leaf(walk, get->key, get->key_size, 0, get->hash);
        if (status != MSHM_OK)
            return status;
        int found = mshm_leaf_get(walk->frame, walk->size, get->key, get->key_size, get->hash,
                                  get->snapshot, visible, &version, &snapshot);
        if (found < 0)
            return found;
        if (found != MSHM_FOUND_NOTHING)
            frame_hint(walk->view, walk->frame);
        if (found == MSHM_FOUND_VERSION)
            return get_copy(get, &version);
        if (found == MSHM_FOUND_NEWER)
            return get_history(walk, get, snapshot);
        int order;
        mshm_pid right;
        status = walk_compare(walk, get->key, get->key_size, 0, &order, &right);
        if (status != MSHM_OK)
            return status;
        if (order == 0) {
            frame_hint(walk->view, walk->frame);
            return MSHM_NOT_FOUND;
        }
        status = walk_sideways(walk, order, right);
        if (status != MSHM_OK)
            return status;
    }
}

/* Ends a try: nonzero when it was revoked, so that nothing it found (an odd status included) may be believed. */
static inline int
lane_end(const struct mshm_view *view, struct mshm_lane *lane, AO_t epoch, unsigned restarts)
{
    int revoked = mshm_bracket_close(view->store, lane, epoch);
    if (revoked || restarts > 0)
        mshm_counter_add(&lane->retries, restarts + (unsigned)revoked);
    return revoked;
}

int
mshm_get(const struct mshm_view *view, struct mshm_lane *lane, const AO_t *expired,
         struct mshm_tree_ref tree, const void *key, size_t key_size, mshm_timestamp snapshot,
         void *buffer, uint64_t capacity, uint64_t *value_size, unsigned *kind, mshm_pid *missing)
{
    struct get get = {
        .key = key,
        .key_size = key_size,
        .hash = mshm_key_hash(key, key_size),
        .snapshot = snapshot,
        .buffer = buffer,
        .capacity = capacity,
    };
    struct walk walk;
    AO_t epoch;
    int status;
    do {
        walk_init(&walk, view, tree, 0);
        epoch = mshm_bracket_open(view->store, lane);
        status = get_try(&walk, &get);
    } while (lane_end(view, lane, epoch, walk.restarts));
    mshm_counter_add(&lane->gets, 1);
    if (expired != NULL && mshm_snapshot_expired(expired, snapshot))
        return MSHM_SNAPSHOT_EXPIRED;
    if (status == MSHM_OK || status == MSHM_BUFFER_TOO_SMALL)
        *value_size = get.value_size;
    if (status == MSHM_OK && kind != NULL)
        *kind = get.kind;
    if (status == MSHM_BUSY)
        *missing = walk.pid;
    return status;
}

/* --- the copy of a leaf ------------------------------------------------------------------------------------------ */

/* One try inside a bracket: *copy_size is set on MSHM_OK. */
static int
copy_try(struct walk *walk, const void *key, size_t key_size, int below, void *copy,
         uint32_t *copy_size)
{
    int status = walk_to_place(walk, key, key_size, below);
    if (status != MSHM_OK)
        return status;
    frame_hint(walk->view, walk->frame);
    *copy_size = mshm_leaf_clone(walk->frame, walk->size, copy);
    return *copy_size != 0 ? MSHM_OK : MSHM_CORRUPT;
}

int
mshm_leaf_copy(const struct mshm_view *view, struct mshm_lane *lane, const AO_t *expired,
               struct mshm_tree_ref tree, mshm_timestamp snapshot, enum mshm_leaf_where where,
               const void *key, size_t key_size, mshm_pid hint, void *copy, uint32_t *copy_size,
               mshm_pid *missing)
{
    /* No key is greater, so it leads to the last leaf. */
    static const uint8_t greatest[MSHM_MAX_KEY] = {[0 ... MSHM_MAX_KEY - 1] = 0xff};
    struct walk walk;
    uint32_t size = 0;
    AO_t epoch;
    int status;
    if (where == MSHM_LEAF_BELOW && key_size == 0)
        return MSHM_NOT_FOUND; /* nothing is below the empty key */
    if (where == MSHM_LEAF_LAST) {
        key = greatest;
        key_size = sizeof(greatest);
    }
    do {
        walk_init(&walk, view, tree, hint);
        epoch = mshm_bracket_open(view->store, lane);
        status = copy_try(&walk, key, key_size, where == MSHM_LEAF_BELOW, copy, &size);
    } while (lane_end(view, lane, epoch, walk.restarts));
    mshm_counter_add(&lane->scans, 1);
    if (expired != NULL && mshm_snapshot_expired(expired, snapshot))
        return MSHM_SNAPSHOT_EXPIRED;
    if (status == MSHM_OK)
        *copy_size = size;
    if (status == MSHM_BUSY)
        *missing = walk.pid;
    return status;
}

/* --- what comes next --------------------------------------------------------------------------------------------- */

/* Lists the children beside `index` of the page visited last that are not in memory. */
static unsigned
ahead_list(const struct walk *walk, uint32_t index, int forward, mshm_pid *pids, unsigned capacity,
           unsigned most, unsigned *leaves)
{
    unsigned count = 0;
    for (*leaves = 0; count < capacity && *leaves < most; ++*leaves) {
        index = forward ? index + 1 : index - 1; /* below 0 there is no child */
        mshm_pid pid = mshm_inner_child(walk->frame, walk->size, index);
        if (pid == 0 || pid >= walk->view->map_capacity)
            break;
        if (mshm_map_state(AO_load(&walk->view->map[pid])) == MSHM_MAP_ON_DISK)
            pids[count++] = pid;
    }
    return count;
}

/* One try inside a bracket: down to the page above the leaves. */
static unsigned
ahead_try(struct walk *walk, const void *key, size_t key_size, int forward, mshm_pid *pids,
          unsigned capacity, unsigned most, unsigned *leaves)
{
    while (walk->hops++ < MSHM_MAX_HOPS) {
        mshm_pid child;
        uint32_t index;
        if (walk_locate(walk, 0) != MSHM_OK)
            return 0;
        struct identity page = identity_load(walk->frame);
        bool fits = page.magic == MSHM_PAGE_MAGIC && page.bucket == walk->tree.bucket &&
                    page.kind == MSHM_PAGE_INNER && page.level > 0 &&
                    (walk->level == WALK_LEVEL_ANY || page.level == walk->level);
        if (!fits)
            return 0;
        if (page.level > 1) {
            if (walk_child(walk, page.level, key, key_size, !forward) != MSHM_OK)
                return 0;
            continue;
        }
        if (mshm_inner_find(walk->frame, walk->size, key, key_size, !forward, &child, &index) !=
            MSHM_OK)
            return 0;
        return ahead_list(walk, index, forward, pids, capacity, most, leaves);
    }
    return 0;
}

unsigned
mshm_leaves_ahead(const struct mshm_view *view, struct mshm_lane *lane, struct mshm_tree_ref tree,
                  const void *key, size_t key_size, int forward, mshm_pid *pids, unsigned capacity,
                  unsigned most, unsigned *leaves)
{
    struct walk walk;
    unsigned looked = 0;
    walk_init(&walk, view, tree, 0);
    AO_t epoch = mshm_bracket_open(view->store, lane);
    unsigned count = ahead_try(&walk, key, key_size, forward, pids, capacity, most, &looked);
    if (lane_end(view, lane, epoch, 0))
        count = looked = 0;
    if (leaves != NULL)
        *leaves = looked;
    return count;
}
