/* tree_plan.c - preparing a commit and applying it. See tree_parts.h for the whole picture. */
#include "tree_parts.h"

enum {
    CHUNK_SIZE = 256 * 1024,
    CHUNKS_KEPT = 1 << 20,  /* bytes of plan memory that stay from plan to plan */
    ARRAY_KEPT = 64 * 1024, /* elements, the same */
    PRESSED_LEAVES = 64,
    PRESSED_EVERY_NS = 20 * 1000000,
};

/* --- memory of a plan --- */

void *
plan_push(struct plan_array *array, size_t size)
{
    if (array->count == array->capacity) {
        uint32_t capacity = array->capacity ? array->capacity * 2 : 64;
        void *data = realloc(array->data, capacity * size);
        if (!data)
            return NULL;
        array->data = data;
        array->capacity = capacity;
    }
    void *element = (uint8_t *)array->data + array->count++ * size;
    memset(element, 0, size);
    return element;
}

static void
array_reset(struct plan_array *array)
{
    array->count = 0;
    if (array->capacity > ARRAY_KEPT) {
        free(array->data);
        *array = (struct plan_array){0};
    }
}

static void *
chunk_add(struct tree_plan *plan, size_t size)
{
    size_t room = size > CHUNK_SIZE ? size : CHUNK_SIZE;
    struct plan_chunk *chunk = malloc(sizeof(*chunk) + room);
    if (!chunk)
        return NULL;
    chunk->size = room;
    chunk->next = NULL;
    if (plan->chunk) {
        chunk->next = plan->chunk->next;
        plan->chunk->next = chunk;
    } else {
        plan->chunks = chunk;
    }
    plan->chunk = chunk;
    plan->chunk_used = size;
    return chunk->bytes;
}

void *
plan_memory(struct tree_plan *plan, size_t size)
{
    size = (size + 15) & ~(size_t)15;
    for (;;) {
        struct plan_chunk *chunk = plan->chunk;
        if (chunk && chunk->size - plan->chunk_used >= size) {
            void *memory = chunk->bytes + plan->chunk_used;
            plan->chunk_used += size;
            return memory;
        }
        if (!chunk || !chunk->next)
            return chunk_add(plan, size);
        plan->chunk = chunk->next;
        plan->chunk_used = 0;
    }
}

void
plan_memory_reset(struct tree_plan *plan)
{
    size_t kept = 0;
    for (struct plan_chunk **link = &plan->chunks; *link;) {
        struct plan_chunk *chunk = *link;
        if (kept + chunk->size <= CHUNKS_KEPT) {
            kept += chunk->size;
            link = &chunk->next;
        } else {
            *link = chunk->next;
            free(chunk);
        }
    }
    plan->chunk = plan->chunks;
    plan->chunk_used = 0;
}

static void
plan_reset(struct tree_plan *plan)
{
    array_reset(&plan->ops);
    array_reset(&plan->leaves);
    array_reset(&plan->blinds);
    plan->blind_bytes = 0;
    plan->collected = false;
    if (!plan->rebuilds)
        return; /* nothing was rebuilt, which is the rule */
    plan->rebuilds = false;
    array_reset(&plan->pages);
    array_reset(&plan->splits);
    array_reset(&plan->above);
    array_reset(&plan->pids);
    array_reset(&plan->retired);
    plan_memory_reset(plan);
    plan->bytes = plan->history_loaded = 0;
    plan->rebuilt = plan->splits_made = plan->pruned = 0;
    plan->inner_added = plan->leaf_added = 0;
}

void
plan_open(struct tree *tree)
{
    struct tree_plan *plan = &tree->plan;
    assert(!plan->open);
    plan_reset(plan);
    plan->open = plan->rebuilds = true;
    plan->bounded = false;
}

int
plan_page_add(struct tree *tree, unsigned class, struct plan_page **page)
{
    struct tree_plan *plan = &tree->plan;
    uint64_t bytes = plan->bytes + mshm_class_size(class);
    if (plan->bounded && bytes > tree->view->frames_size / 4)
        return MSHM_TOO_BIG;
    struct plan_page *added = plan_push(&plan->pages, sizeof(*added));
    if (!added)
        return MSHM_NO_MEMORY;
    added->frame = frames_allocate(tree->frames, class);
    if (!added->frame) {
        plan->pages.count--;
        return MSHM_FULL;
    }
    added->class = (uint8_t) class;
    plan->bytes = bytes;
    *page = added;
    return MSHM_OK;
}

int
plan_pid_add(struct tree *tree, mshm_pid *pid)
{
    mshm_pid *added = plan_push(&tree->plan.pids, sizeof(*added));
    if (!added)
        return MSHM_NO_MEMORY;
    *added = pages_pid_allocate(tree->pages);
    if (*added == 0) {
        tree->plan.pids.count--;
        return MSHM_FULL;
    }
    *pid = *added;
    return MSHM_OK;
}

/* --- finding the leaves --- */

/* Where an operation goes: the first of two looks at it. */
struct found {
    const struct mshm_op *op;
    uint64_t hash;
    struct tree_target target;
    struct tree_place place;
    bool lost; /* a page on the way to the leaf is not in memory */
};

/* What tree_descend has not looked at. */
static int
leaf_check(const struct found *found)
{
    const struct mshm_page *page = (const void *)found->place.frame;
    return page->bucket == found->target.ref.bucket && page->level == 0 ? MSHM_OK : MSHM_CORRUPT;
}

static int
leaf_add(struct tree_plan *plan, const struct found *found, struct plan_leaf **result)
{
    struct plan_leaf *leaf = plan_push(&plan->leaves, sizeof(*leaf));
    if (!leaf)
        return MSHM_NO_MEMORY;
    leaf->target = found->target;
    leaf->pid = found->place.pid;
    leaf->frame = found->place.frame;
    leaf->size = found->place.size;
    leaf->first_op = plan->ops.count;
    leaf_prefetch_heap(leaf->frame);
    *result = leaf;
    return MSHM_OK;
}

/* Conflict and precondition against the key's newest version. */
static int
op_check(const struct plan_leaf *leaf, const struct mshm_op *op, uint64_t hash,
         mshm_timestamp snapshot)
{
    bool conditional = op->kind >= MSHM_OP_INSERT;
    if (snapshot == UINT64_MAX && !conditional)
        return MSHM_OK;
    struct mshm_version newest;
    int found =
        mshm_leaf_newest(leaf->frame, leaf->size, mshm_op_key(op), op->key_size, hash, &newest);
    if (found < 0)
        return found;
    if (found == MSHM_FOUND_VERSION && newest.timestamp > snapshot)
        return MSHM_CONFLICT;
    bool present = found == MSHM_FOUND_VERSION && newest.kind != MSHM_ENTRY_TOMBSTONE;
    if (op->kind == MSHM_OP_INSERT && present)
        return MSHM_EXISTS;
    if (conditional && op->kind != MSHM_OP_INSERT && !present)
        return MSHM_NOT_FOUND;
    return MSHM_OK;
}

/* Operations ascend, so the next one often falls into the same leaf. */
static bool
leaf_covers(const struct plan_leaf *leaf, const struct mshm_op *op)
{
    struct mshm_fences fences;
    return leaf->target.ref.bucket == op->bucket &&
           mshm_page_fences(leaf->frame, leaf->size, &fences) == 0 &&
           mshm_fences_compare(&fences, mshm_op_key(op), op->key_size, 0) == 0;
}

struct planning {
    struct tree *tree;
    mshm_timestamp snapshot;
    tree_resolve *resolve;
    void *argument;
    struct tree_target target; /* of the operation before */
    bool resolved;
    bool follows; /* the operation before fell into the plan's last leaf, whose lines are near */
    bool deletes; /* only deletes so far */
    bool rebuild; /* some leaf must be rebuilt */
};

/* Operations that are looked for before the first of them is settled: their cache misses overlap. */
enum { WINDOW = 8 };

static struct plan_leaf *
leaf_last(struct tree_plan *plan)
{
    struct plan_leaf *leaves = plan->leaves.data;
    return plan->leaves.count > 0 ? leaves + plan->leaves.count - 1 : NULL;
}

static int
op_find(struct planning *planning, const struct mshm_op *op, struct found *found)
{
    const struct plan_leaf *last = leaf_last(&planning->tree->plan);
    if (op->value_size > MSHM_MAX_INLINE)
        return MSHM_TOO_BIG;
    if (op->kind == MSHM_OP_MERGE || op->kind > MSHM_OP_DELETE_EXISTING)
        return MSHM_INVALID;
    if (!planning->resolved || planning->target.ref.bucket != op->bucket) {
        int status = planning->resolve(planning->argument, op->bucket, &planning->target);
        if (status)
            return status;
        planning->resolved = true;
    }
    found->op = op;
    found->hash = mshm_key_hash(mshm_op_key(op), op->key_size);
    found->lost = false;
    found->target = planning->target;
    planning->follows = planning->follows && last && leaf_covers(last, op);
    if (planning->follows) {
        found->place =
            (struct tree_place){.pid = last->pid, .frame = last->frame, .size = last->size};
        return MSHM_OK;
    }
    if (ahead_take(planning->tree, op->bucket, op, found->hash, &found->place))
        return MSHM_OK;
    int status = tree_descend(planning->tree, planning->target.ref, mshm_op_key(op), op->key_size,
                              found->hash, 0, &found->place);
    found->lost = status == MSHM_BUSY;
    return found->lost ? tree_miss(planning->tree, found->place.pid) : status;
}

static int
op_settle(struct planning *planning, const struct found *found)
{
    struct tree_plan *plan = &planning->tree->plan;
    const struct mshm_op *op = found->op;
    struct plan_leaf *leaf = leaf_last(plan);
    int status = MSHM_OK;
    if (found->lost)
        return MSHM_OK;
    if (!found->place.frame) {
        planning->deletes &= plan_op_deletes(op);
        return blinds_add(planning->tree, op, found->place.pid, planning->snapshot);
    }
    if (!leaf || leaf->pid != found->place.pid) {
        status = leaf_check(found);
        if (!status)
            status = leaf_add(plan, found, &leaf);
    }
    if (!status)
        status = op_check(leaf, op, found->hash, planning->snapshot);
    if (status)
        return status;
    struct plan_op *added = plan_push(&plan->ops, sizeof(*added));
    if (!added)
        return MSHM_NO_MEMORY;
    added->op = op;
    added->hash = found->hash;
    if (leaf->op_count++ == 0) {
        leaf->room = mshm_leaf_room(leaf->frame, leaf->size);
        leaf->tail_room = mshm_leaf_tail_room(leaf->frame);
    }
    if (!leaf->rebuild) {
        leaf->needed += mshm_entry_size(op->key_size, op->value_size);
        leaf->rebuild = leaf->needed > leaf->room || leaf->op_count > leaf->tail_room;
        planning->rebuild |= leaf->rebuild;
    }
    leaf->puts |= !plan_op_deletes(op);
    planning->deletes &= !leaf->puts;
    return MSHM_OK;
}

/* The operations of one window; *op moves behind them. */
static int
window_add(struct planning *planning, const struct mshm_op **op, uint64_t count)
{
    struct found found[WINDOW];
    int status = MSHM_OK;
    planning->follows = true;
    for (uint64_t i = 0; i < count && !status; i++, *op = mshm_op_next(*op))
        status = op_find(planning, *op, &found[i]);
    for (uint64_t i = 1; i < count && !status; i++)
        if (found[i].place.frame && found[i].place.pid != found[i - 1].place.pid)
            leaf_prefetch_heap(found[i].place.frame);
    for (uint64_t i = 0; i < count && !status; i++)
        status = op_settle(planning, &found[i]);
    return status;
}

/* Lays out everything that an append cannot do. */
static int
plan_rebuild(struct tree *tree, bool reserve)
{
    struct tree_plan *plan = &tree->plan;
    plan->rebuilds = true;
    bool former = frames_allow_reserve(tree->frames, true);
    frames_allow_reserve(tree->frames, reserve || former);
    int status = MSHM_OK;
    for (uint32_t i = 0; i < plan->leaves.count && !status; i++) {
        struct plan_leaf *leaf = (struct plan_leaf *)plan->leaves.data + i;
        if (leaf->rebuild)
            status = rebuild_leaf(tree, leaf);
    }
    if (!status && plan->splits.count > 0)
        status = split_parents(tree);
    uint32_t with_history = 0;
    for (uint32_t i = 0; i < plan->pages.count; i++)
        with_history +=
            plan_pages(plan)[i].kind == MSHM_PAGE_LEAF && plan_pages(plan)[i].spec.history != 0;
    if (!status && with_history > 0)
        status = history_reserve(tree, with_history);
    frames_allow_reserve(tree->frames, former);
    return status;
}

/* All leaves of a commit have to be in memory at once, but for those written blind. What is missing counts with the size
 * that pages are meant to have. */
static int
missing_status(const struct planning *planning)
{
    const struct tree *tree = planning->tree;
    const struct plan_leaf *leaves = tree->plan.leaves.data;
    uint64_t bytes = (uint64_t)tree->missing.count * planning->target.page_size;
    for (uint32_t i = 0; i < tree->plan.leaves.count; i++)
        bytes += leaves[i].size;
    return tree->plan.bounded && bytes > tree->view->frames_size / 4 ? MSHM_TOO_BIG : MSHM_BUSY;
}

/* Without room for blind writes, though there is room for pages, the leaves are read. */
static int
blinds_room(const struct planning *planning)
{
    struct tree *tree = planning->tree;
    int status = blinds_reserve(tree, planning->deletes);
    if (status == MSHM_FULL && blinds_miss(tree) == MSHM_OK)
        status = missing_status(planning);
    return status;
}

static int
plan_make(struct planning *planning, const struct mshm_op *ops, uint64_t size, uint64_t count)
{
    struct tree *tree = planning->tree;
    assert(!tree->plan.open);
    plan_reset(&tree->plan);
    tree->missing.count = 0;
    tree->plan.open = true;
    tree->plan.bounded = planning->snapshot != UINT64_MAX;
    const struct mshm_op *op = ops;
    int status = MSHM_OK;
    for (uint64_t left = count; left > 0 && !status;) {
        uint64_t some = left < WINDOW ? left : WINDOW;
        status = window_add(planning, &op, some);
        left -= some;
    }
    assert(status || (uint64_t)((const uint8_t *)op - (const uint8_t *)ops) == size);
    (void)size;
    if (!status && tree->missing.count > 0)
        status = missing_status(planning);
    if (!status && planning->rebuild)
        status = plan_rebuild(tree, planning->deletes);
    if (!status && tree->plan.blinds.count > 0)
        status = blinds_room(planning);
    if (status)
        tree_cancel(tree, &tree->plan);
    return status;
}

/* Before a commit is refused for want of frames, history that nobody needs any more is given back; now and then only,
 * because a cache that is full of data stays full. */
static bool
history_gives(struct tree *tree)
{
    uint64_t now = tree->env->clock_ns(tree->env->context), before = tree->history_bytes;
    if (tree->history.count == 0 || now - tree->pressed_ns < PRESSED_EVERY_NS)
        return false;
    tree->pressed_ns = now;
    if (tree->collect)
        tree->collect(tree->collect_argument);
    while (tree_history_prune(tree, PRESSED_LEAVES))
        continue;
    frames_reclaim(tree->frames, true);
    return tree->history_bytes < before;
}

int
tree_plan(struct tree *tree, const struct mshm_op *ops, uint64_t size, uint64_t count,
          mshm_timestamp snapshot, tree_resolve *resolve, void *argument, struct tree_plan **plan)
{
    const struct planning begin = {
        .tree = tree,
        .snapshot = snapshot,
        .resolve = resolve,
        .argument = argument,
        .deletes = true,
    };
    struct planning planning = begin;
    int status = plan_make(&planning, ops, size, count);
    if (status == MSHM_FULL && history_gives(tree)) {
        planning = begin;
        status = plan_make(&planning, ops, size, count);
    }
    if (status)
        return status;
    *plan = &tree->plan;
    return MSHM_OK;
}

void
tree_cancel(struct tree *tree, struct tree_plan *plan)
{
    assert(plan->open);
    struct plan_page *pages = plan_pages(plan);
    for (uint32_t i = 0; i < plan->pages.count; i++)
        frames_free(tree->frames, pages[i].frame, pages[i].class);
    const mshm_pid *pids = plan->pids.data;
    for (uint32_t i = plan->pids.count; i-- > 0;)
        pages_pid_return(tree->pages, pids[i]);
    plan->pages.count = plan->pids.count = 0;
    plan->open = false;
}

int
tree_rebuild(struct tree *tree, const struct tree_target *target, mshm_pid pid, bool whole_history,
             bool only_smaller)
{
    struct tree_plan *plan = &tree->plan;
    uint32_t size;
    uint8_t *frame = tree_frame(tree, pid, &size);
    const struct mshm_page *page = (const void *)frame;
    if (!frame)
        return MSHM_BUSY;
    if (page->kind != MSHM_PAGE_LEAF || page->bucket != target->ref.bucket)
        return MSHM_NOT_FOUND;
    plan_open(tree);
    uint32_t missing = tree->missing.count;
    struct plan_leaf *leaf = plan_push(&plan->leaves, sizeof(*leaf));
    int status = leaf ? MSHM_OK : MSHM_NO_MEMORY;
    if (leaf) {
        leaf->target = *target;
        leaf->pid = pid;
        leaf->frame = frame;
        leaf->size = size;
        leaf->rebuild = true;
        leaf->whole_history = whole_history;
        uint64_t before = tree->history_bytes;
        status = plan_rebuild(tree, only_smaller); /* what saves memory may use the reserve */
        uint64_t after = before - plan->history_loaded;
        for (uint32_t i = 0; i < plan->pages.count; i++)
            if (plan_pages(plan)[i].kind == MSHM_PAGE_HISTORY)
                after += mshm_class_size(plan_pages(plan)[i].class);
        if (!status && only_smaller && after >= before)
            status = MSHM_EXISTS;
    }
    tree->missing.count = missing; /* nobody asks for them */
    if (status)
        tree_cancel(tree, plan);
    else
        tree_apply(tree, plan, 0);
    return status;
}
