/* tree.c - the trees of all buckets: creation and destruction, the way down, work that was put off. See tree.h. */
#include "tree_parts.h"

enum {
    SWEEP_EVERY_NS = 100 * 1000000, /* pause between two background passes over the history */
    SWEEP_SOON_NS = 5 * 1000000,    /* the same while there is more history than allowed */
    SWEEP_LEAVES = 16,              /* rebuilt at once then */
};

int
tree_create(struct tree **result, const struct tree_options *options, const struct env *env,
            struct frames *frames, struct snapshots *snapshots, struct mshm_view *view,
            struct mshm_counters *counters)
{
    struct tree *tree = calloc(1, sizeof(*tree));
    if (!tree)
        return MSHM_NO_MEMORY;
    tree->tidy = malloc(TIDY_CAPACITY * sizeof(*tree->tidy));
    if (!tree->tidy) {
        free(tree);
        return MSHM_NO_MEMORY;
    }
    tree->options = *options;
    tree->env = env;
    tree->frames = frames;
    tree->snapshots = snapshots;
    tree->view = view;
    tree->counters = counters;
    *result = tree;
    return MSHM_OK;
}

static void
plan_fini(struct tree_plan *plan)
{
    struct plan_array *arrays[] = {&plan->ops,   &plan->leaves, &plan->pages,  &plan->splits,
                                   &plan->above, &plan->pids,   &plan->retired};
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
    free(tree->history.places);
    free(tree->tidy);
    free(tree);
}

void
tree_set_collect(struct tree *tree, tree_collect *collect, void *argument)
{
    tree->collect = collect;
    tree->collect_argument = argument;
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
        if (mshm_map_state(word) != MSHM_MAP_RESIDENT)
            return MSHM_CORRUPT;
        uint8_t *frame = frames_address(tree->frames, word);
        uint32_t size = mshm_class_size(mshm_map_class(word));
        if (expected == 1 && level == 0) {
            mshm_leaf_prefetch(frame, hash, mshm_map_hint(word));
            __builtin_prefetch(frame + offsetof(struct mshm_leaf, tail_slots), 1);
            __builtin_prefetch(frame + offsetof(struct mshm_leaf, tail_slots) + MSHM_LINE, 1);
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
    mshm_pid pid = frames_pid_allocate(tree->frames);
    if (pid == 0)
        return MSHM_FULL;
    uint8_t *frame = frames_allocate(tree->frames, class);
    if (!frame) {
        frames_pid_free(tree->frames, pid);
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
    frames_publish(tree->frames, pid,
                   frames_word(tree->frames, frame, class, mshm_leaf_hint(frame)));
    tree->pages_leaf++;
    if (tree->height == 0)
        tree->height = 1;
    tree_report(tree);
    *root = pid;
    return MSHM_OK;
}

/* --- destruction: depth first, leaves before their parents, the root last. What was freed in an earlier call is known by
 * its page-map word: not resident, or another bucket's by now. --- */

struct destruction {
    struct tree *tree;
    uint32_t bucket;
    uint32_t budget;
};

static const struct mshm_page *
own_page(struct destruction *destruction, mshm_pid pid, uint32_t *size)
{
    if (pid == 0 || pid >= destruction->tree->view->map_capacity)
        return NULL;
    AO_t word = AO_load(frames_map(destruction->tree->frames, pid));
    if (mshm_map_state(word) != MSHM_MAP_RESIDENT)
        return NULL;
    const struct mshm_page *page = (const void *)frames_address(destruction->tree->frames, word);
    *size = mshm_class_size(mshm_map_class(word));
    return page->bucket == destruction->bucket ? page : NULL;
}

static void
destroy_leaf(struct destruction *destruction, mshm_pid pid, const struct mshm_page *page)
{
    struct tree *tree = destruction->tree;
    AO_t history = AO_load(&page->history);
    frames_pid_free(tree->frames, pid);
    tree->pages_leaf--;
    uint32_t frames = history_retire(tree, pid, history) + 1;
    destruction->budget -= frames < destruction->budget ? frames : destruction->budget;
}

/* True when the page and everything under it is gone. */
static bool
destroy_page(struct destruction *destruction, mshm_pid pid)
{
    uint32_t size;
    const struct mshm_page *page = own_page(destruction, pid, &size);
    if (!page)
        return true;
    if (destruction->budget == 0)
        return false;
    if (page->level == 0) {
        destroy_leaf(destruction, pid, page);
        return true;
    }
    const mshm_pid *children =
        (const void *)((const uint8_t *)page + (size_t)page->children_at * 4);
    assert((size_t)page->children_at * 4 + (page->key_count + 1u) * 4 <= size);
    for (uint32_t i = 0; i <= page->key_count; i++)
        if (!destroy_page(destruction, children[i]))
            return false;
    if (destruction->budget == 0)
        return false;
    destruction->budget--;
    destruction->tree->pages_inner--;
    frames_pid_free(destruction->tree->frames, pid);
    return true;
}

int
tree_bucket_destroy(struct tree *tree, mshm_pid root, uint32_t bucket, uint32_t budget)
{
    struct destruction destruction = {.tree = tree, .bucket = bucket, .budget = budget};
    bool gone = destroy_page(&destruction, root);
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
    bool over = tree->history_bytes > tree->options.history_limit;
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
    AO_t word = AO_load(frames_map(tree->frames, pid));
    if (mshm_map_state(word) != MSHM_MAP_RESIDENT)
        return false;
    const uint8_t *frame = frames_address(tree->frames, word);
    uint32_t size = mshm_class_size(mshm_map_class(word));
    return ((const struct mshm_page *)(const void *)frame)->kind == MSHM_PAGE_LEAF &&
           (mshm_leaf_tail_room(frame) < TEND_PLACES || mshm_leaf_room(frame, size) < size / 16);
}

bool
tree_tend(struct tree *tree, unsigned budget)
{
    bool more = tend_history(tree);
    while (budget > 0 && tree->tend_count > 0) {
        struct tend_leaf leaf = tree->tend[tree->tend_first];
        tree->tend_first = (tree->tend_first + 1) % TEND_CAPACITY;
        tree->tend_count--;
        if (leaf_nearly_full(tree, leaf.pid)) {
            tree_rebuild(tree, &leaf.target, leaf.pid, false, false); /* a refusal costs nothing */
            budget--;
        }
    }
    return more || tree->tend_count > 0;
}
