/* tree.c - the trees of all buckets: creation and destruction, the way down, work that was put off. See tree.h. */
#include "kill_point.h"
#include "tree_parts.h"

enum {
    SWEEP_EVERY_NS = 100 * 1000000, /* pause between two background passes over the history */
    SWEEP_SOON_NS = 5 * 1000000,    /* the same while there is more history than allowed */
    SWEEP_LEAVES = 16,              /* rebuilt at once then */
};

int
tree_create(struct tree **result, const struct tree_options *options, const struct env *env,
            struct frames *frames, struct pages *pages, struct snapshots *snapshots,
            struct mshm_view *view, struct mshm_counters *counters)
{
    struct tree *tree = calloc(1, sizeof(*tree));
    if (!tree)
        return MSHM_NO_MEMORY;
    tree->options = *options;
    tree->env = env;
    tree->frames = frames;
    tree->pages = pages;
    tree->snapshots = snapshots;
    tree->view = view;
    tree->counters = counters;
    int status = ring_init(&tree->tidy);
    if (!status)
        status = unfit_init(&tree->unfit, view->map_capacity);
    if (!status)
        status = history_out_init(tree);
    if (status) {
        tree_destroy(tree);
        return status;
    }
    *result = tree;
    return MSHM_OK;
}

static void
plan_fini(struct tree_plan *plan)
{
    struct plan_array *arrays[] = {&plan->ops,    &plan->leaves, &plan->blinds, &plan->pages,
                                   &plan->splits, &plan->above,  &plan->pids,   &plan->retired};
    for (size_t i = 0; i < sizeof(arrays) / sizeof(*arrays); i++)
        free(arrays[i]->data);
    while (plan->chunks) {
        struct plan_chunk *chunk = plan->chunks;
        plan->chunks = chunk->next;
        free(chunk);
    }
}

void
tree_destroy(struct tree *tree)
{
    if (!tree)
        return;
    plan_fini(&tree->plan);
    free(tree->missing.data);
    history_out_fini(tree);
    free(tree->history.places);
    ring_fini(&tree->tidy);
    unfit_fini(&tree->unfit);
    free(tree);
}

void
tree_set_collect(struct tree *tree, tree_collect *collect, void *argument)
{
    tree->collect = collect;
    tree->collect_argument = argument;
}

void
tree_set_resolve(struct tree *tree, tree_resolve *resolve, void *argument)
{
    tree->resolve = resolve;
    tree->resolve_argument = argument;
}

void
tree_set_peek(struct tree *tree, tree_peek *peek, void *argument)
{
    tree->peek = peek;
    tree->peek_argument = argument;
}

void
tree_allow_blind(struct tree *tree, bool more)
{
    tree->blind_more = more;
}

uint32_t
tree_missing(const struct tree *tree, const mshm_pid **pids)
{
    *pids = tree->missing.data;
    return tree->missing.count;
}

/* Pages are missed in the order of their keys, so one that is missed again was the last one. */
int
tree_miss(struct tree *tree, mshm_pid pid)
{
    const mshm_pid *pids = tree->missing.data;
    if (tree->missing.count > 0 && pids[tree->missing.count - 1] == pid)
        return MSHM_OK;
    mshm_pid *added = plan_push(&tree->missing, sizeof(*added));
    if (!added)
        return MSHM_NO_MEMORY;
    *added = pid;
    return MSHM_OK;
}

void
tree_figures(const struct tree *tree, struct tree_figures *figures)
{
    *figures = (struct tree_figures){
        .pages_leaf = tree->pages_leaf,
        .pages_inner = tree->pages_inner,
        .height = tree->height,
    };
}

void
tree_figures_restore(struct tree *tree, const struct tree_figures *figures)
{
    tree->pages_leaf = figures->pages_leaf;
    tree->pages_inner = figures->pages_inner;
    tree->height = figures->height;
    tree_report(tree);
}

unsigned
tree_class(uint32_t size)
{
    unsigned class = 0;
    while (class < MSHM_CLASSES && mshm_class_size(class) < size)
        class ++;
    return class;
}

void
tree_report(struct tree *tree)
{
    AO_store(&tree->counters->history_bytes, tree->history_bytes);
    AO_store(&tree->counters->pages_leaf, tree->pages_leaf);
    AO_store(&tree->counters->pages_inner, tree->pages_inner);
    AO_store(&tree->counters->pages_history, tree->pages_history);
    AO_store(&tree->counters->tree_height, tree->height);
}

uint8_t *
tree_frame(const struct tree *tree, mshm_pid pid, uint32_t *size)
{
    AO_t word = AO_load(frames_map(tree->frames, pid));
    if (mshm_map_state(word) != MSHM_MAP_RESIDENT)
        return NULL;
    *size = mshm_class_size(mshm_map_class(word));
    return frames_address(tree->frames, word);
}

/* The loop is the only writer, so it never meets a half-done change: no right links, no fences. What it reads is its own
 * memory; the checks are there because damage must become an error and not a crash. */
int
tree_descend(struct tree *tree, struct mshm_tree_ref ref, const void *key, size_t key_size,
             uint64_t hash, unsigned level, struct tree_place *place)
{
    mshm_pid pid = ref.root;
    unsigned expected = UINT8_MAX + 1u;
    for (;;) {
        if (pid == 0 || pid >= tree->view->map_capacity)
            return MSHM_CORRUPT;
        AO_t word = AO_load(frames_map(tree->frames, pid));
        if (mshm_map_state(word) != MSHM_MAP_RESIDENT) {
            *place = (struct tree_place){.pid = pid};
            if (mshm_map_state(word) != MSHM_MAP_ON_DISK)
                return MSHM_CORRUPT;
            return expected == 1 && level == 0 ? MSHM_OK : MSHM_BUSY;
        }
        uint8_t *frame = frames_address(tree->frames, word);
        uint32_t size = mshm_class_size(mshm_map_class(word));
        if (expected == 1 && level == 0) {
            mshm_leaf_prefetch(frame, hash, mshm_map_hint(word));
            __builtin_prefetch(frame + offsetof(struct mshm_leaf, tail_slots), 1);
            __builtin_prefetch(frame + offsetof(struct mshm_leaf, tail_slots) + MSHM_LINE, 1);
            pages_prefetch(tree->pages, pid, word);
            *place = (struct tree_place){.pid = pid, .frame = frame, .size = size};
            return MSHM_OK; /* whoever has more to look for first does not wait for the header here */
        }
        const struct mshm_page *page = (const void *)frame;
        if (page->bucket != ref.bucket || page->level >= expected || page->level < level)
            return MSHM_CORRUPT;
        if (page->level == level) {
            *place = (struct tree_place){.pid = pid, .frame = frame, .size = size};
            return MSHM_OK;
        }
        uint32_t index;
        expected = page->level;
        if (mshm_inner_find(frame, size, key, key_size, 0, &pid, &index) != MSHM_OK)
            return MSHM_CORRUPT;
    }
}

int
tree_bucket_create(struct tree *tree, uint32_t bucket, uint32_t page_size, mshm_pid *root)
{
    unsigned class = tree_class(page_size ? page_size : tree->options.page_size);
    assert(class < MSHM_CLASSES);
    mshm_pid pid = pages_pid_allocate(tree->pages);
    if (pid == 0)
        return MSHM_FULL;
    uint8_t *frame = frames_allocate(tree->frames, class);
    if (!frame) {
        pages_pid_return(tree->pages, pid);
        return MSHM_FULL;
    }
    struct mshm_leaf_spec spec = {
        .pid = pid,
        .bucket = bucket,
        .kind = MSHM_PAGE_LEAF,
        .high_size = MSHM_FENCE_INFINITE,
    };
    int status = mshm_leaf_build(frame, mshm_class_size(class), &spec);
    assert(status == MSHM_OK);
    (void)status;
    pages_publish(tree->pages, pid, frames_word(tree->frames, frame, class, mshm_leaf_hint(frame)),
                  0, true);
    tree->pages_leaf++;
    if (tree->height == 0)
        tree->height = 1;
    tree_report(tree);
    *root = pid;
    return MSHM_OK;
}

/* --- destruction ---
 *
 * Depth first, the root last. A page over leaves goes together with all of them, in one piece of work, so no checkpoint
 * ever holds one without the other: whoever goes on after a crash finds it whole, and may free its leaves unread; or it is
 * gone. Its pid may be another page by then, which is known by bucket and level: inner pages are read before they are
 * believed. */

struct destruction {
    struct tree *tree;
    uint32_t bucket;
    uint32_t budget;
    bool stopped; /* the budget is used up, or enough pages are missing */
};

enum {
    DESTROY_MISSING = 64, /* pages to be read that are reported at once */
    LEVEL_ANY = UINT8_MAX + 1,
};

static void
destroy_spend(struct destruction *destruction, uint32_t pages)
{
    destruction->budget -= pages < destruction->budget ? pages : destruction->budget;
    destruction->stopped |= destruction->budget == 0;
}

static bool
page_exists(const struct tree *tree, mshm_pid pid)
{
    if (pid == 0 || pid >= tree->view->map_capacity)
        return false;
    unsigned state = mshm_map_state(AO_load(frames_map(tree->frames, pid)));
    return state == MSHM_MAP_RESIDENT || state == MSHM_MAP_ON_DISK;
}

static void
destroy_leaf(struct destruction *destruction, mshm_pid pid)
{
    struct tree *tree = destruction->tree;
    AO_t history = tree_history_word(tree, pid);
    pages_free(tree->pages, pid, false);
    tree->pages_leaf--;
    destroy_spend(destruction, history_retire(tree, pid, history) + 1);
    MACE_KILL_POINT("tree:destroyed");
}

static bool destroy_page(struct destruction *destruction, mshm_pid pid, unsigned level);

/* True when the page and everything under it is gone. */
static bool
destroy_inner(struct destruction *destruction, mshm_pid pid, const struct mshm_page *page,
              uint32_t size)
{
    struct tree *tree = destruction->tree;
    const mshm_pid *children =
        (const void *)((const uint8_t *)page + (size_t)page->children_at * 4);
    bool gone = true;
    assert((size_t)page->children_at * 4 + (page->key_count + 1u) * 4 <= size);
    (void)size;
    for (uint32_t i = 0; i <= page->key_count; i++) {
        if (page->level > 1)
            gone = !destruction->stopped &&
                   destroy_page(destruction, children[i], page->level - 1u) && gone;
        else if (page_exists(tree, children[i]))
            destroy_leaf(destruction, children[i]);
    }
    if (!gone)
        return false;
    tree->pages_inner--;
    pages_free(tree->pages, pid, false);
    destroy_spend(destruction, 1);
    MACE_KILL_POINT("tree:destroyed");
    return true;
}

static bool
destroy_page(struct destruction *destruction, mshm_pid pid, unsigned level)
{
    struct tree *tree = destruction->tree;
    uint32_t size;
    if (!page_exists(tree, pid))
        return true;
    const struct mshm_page *page = (const void *)tree_frame(tree, pid, &size);
    if (!page) {
        destruction->stopped |=
            tree_miss(tree, pid) != MSHM_OK || tree->missing.count >= DESTROY_MISSING;
        return false;
    }
    if (page->bucket != destruction->bucket || (level != LEVEL_ANY && page->level != level))
        return true;
    if (page->level > 0)
        return destroy_inner(destruction, pid, page, size);
    destroy_leaf(destruction, pid);
    return true;
}

int
tree_bucket_destroy(struct tree *tree, mshm_pid root, uint32_t bucket, uint32_t budget)
{
    struct destruction destruction = {.tree = tree, .bucket = bucket, .budget = budget};
    tree->missing.count = 0;
    bool gone = destroy_page(&destruction, root, LEVEL_ANY);
    tree_report(tree);
    return gone ? MSHM_OK : MSHM_BUSY;
}

/* --- work that was put off --- */

/* Old versions go when the snapshots that needed them have gone, also in leaves that nobody writes any more. */
static bool
tend_history(struct tree *tree)
{
    if (tree->history.count == 0)
        return false;
    bool over =
        tree->history_bytes > tree->options.history_limit || spill_nearly_full(tree->out.spill);
    uint64_t now = tree->env->clock_ns(tree->env->context);
    if (!tree->sweeping && now - tree->swept_ns < (over ? SWEEP_SOON_NS : SWEEP_EVERY_NS))
        return false;
    tree->sweeping = history_sweep(tree, over ? SWEEP_LEAVES : 1);
    if (!tree->sweeping)
        tree->swept_ns = now;
    return tree->sweeping;
}

static bool
leaf_nearly_full(struct tree *tree, mshm_pid pid)
{
    uint32_t size;
    const uint8_t *frame = tree_frame(tree, pid, &size);
    return frame && ((const struct mshm_page *)(const void *)frame)->kind == MSHM_PAGE_LEAF &&
           (mshm_leaf_tail_room(frame) < TEND_PLACES || mshm_leaf_room(frame, size) < size / 16);
}

bool
tree_tend(struct tree *tree, unsigned budget)
{
    bool more = tend_history(tree);
    /* Each may move old versions out, of which there are too many in memory then. */
    while (budget > 0 && tree->tend_count > 0 && tree_history_over(tree) == 0) {
        struct tend_leaf leaf = tree->tend[tree->tend_first];
        tree->tend_first = (tree->tend_first + 1) % TEND_CAPACITY;
        tree->tend_count--;
        if (leaf_nearly_full(tree, leaf.pid)) {
            tree_rebuild(tree, &leaf.target, leaf.pid, false, false); /* a refusal costs nothing */
            budget--;
        }
    }
    more = unfit_turn(tree, budget > 0 ? budget : 1) || more;
    return more || (tree->tend_count > 0 && budget == 0);
}
