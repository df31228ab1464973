/* tree_history_cost.c - how much history is too much, and whose snapshot makes it so. */
#include "tree_parts.h"

enum { SAMPLE_LEAVES = 256 /* looked at to find the costliest snapshot */ };

/* What may be gone with the next pass does not count, nor what the scratch file will take: nobody has to be expired for
 * it. */
uint64_t
tree_history_excess(const struct tree *tree)
{
    uint64_t limit = tree->options.history_limit;
    uint64_t now = tree->env->clock_ns(tree->env->context);
    if (!spill_blocked(tree->out.spill, now))
        return 0;
    uint64_t bytes =
        tree->history_bytes < tree->history_kept ? tree->history_bytes : tree->history_kept;
    return bytes > limit ? bytes - limit : 0;
}

/* Adds the bytes that one snapshot alone keeps in a leaf's history: costs[i] belongs to the i-th in the list. */
static void
costs_add(struct tree *tree, const struct mshm_version *versions, uint32_t count, uint64_t *costs)
{
    const struct snapshots *snapshots = tree->snapshots;
    for (uint32_t i = 1; i < count; i++) {
        if (mshm_key_compare(versions[i - 1].key, versions[i - 1].key_size, versions[i].key,
                             versions[i].key_size) != 0)
            continue;
        mshm_timestamp newer = versions[i - 1].timestamp;
        uint32_t keeper = history_keeper(snapshots, versions[i].timestamp, newer);
        bool shared = keeper + 1 < snapshots->count && snapshots->list[keeper + 1] < newer;
        if (keeper < snapshots->count && !shared)
            costs[keeper] += mshm_entry_size(0, versions[i].value_size);
    }
}

/* What is known of a frame or a page in the scratch file without a look into it: the first snapshot that may need some of
 * it pays for all. */
static void
costs_of_range(const struct tree *tree, mshm_timestamp begin, mshm_timestamp end, uint64_t bytes,
               uint64_t *costs)
{
    uint32_t keeper = history_keeper(tree->snapshots, begin, end);
    if (keeper < tree->snapshots->count)
        costs[keeper] += bytes;
}

static void
costs_of_chain(const struct tree *tree, AO_t word, uint64_t *costs)
{
    for (; spill_number(word) == 0 && word != 0;
         word = AO_load(&history_page(tree, word)->history)) {
        const struct history_frame *frame = history_frame(tree, word);
        costs_of_range(tree, frame->begin, frame->end, mshm_class_size(mshm_map_class(word)),
                       costs);
    }
    while (word != 0) {
        const struct spill_page *page = spill_page(tree->out.spill, spill_number(word));
        costs_of_range(tree, page->begin, page->end, page->size, costs);
        word = page->next;
    }
}

/* Loads a leaf with its history, as far as it is in memory, into the plan's memory and adds up. */
static int
costs_sample(struct tree *tree, const struct history_leaf *leaf, uint64_t *costs)
{
    struct tree_plan *plan = &tree->plan;
    AO_t word = AO_load(frames_map(tree->frames, leaf->pid));
    if (mshm_map_state(word) != MSHM_MAP_RESIDENT) {
        costs_of_chain(tree, leaf->word, costs);
        return MSHM_OK;
    }
    struct mshm_version *all = NULL;
    uint32_t count = 0;
    plan_memory_reset(plan);
    while (word != 0 && spill_number(word) == 0) {
        const uint8_t *frame = frames_address(tree->frames, word);
        struct mshm_version *list;
        uint32_t loaded;
        int status =
            rebuild_load(plan, frame, mshm_class_size(mshm_map_class(word)), &list, &loaded);
        if (status)
            return status;
        all = rebuild_merge(plan, all, count, list, loaded);
        if (!all)
            return MSHM_NO_MEMORY;
        count += loaded;
        word = AO_load(&((const struct mshm_page *)(const void *)frame)->history);
    }
    costs_add(tree, all, count, costs);
    costs_of_chain(tree, word, costs);
    return MSHM_OK;
}

mshm_timestamp
tree_history_costliest(struct tree *tree)
{
    const struct snapshots *snapshots = tree->snapshots;
    const struct history_set *set = &tree->history;
    assert(!tree->plan.open);
    if (snapshots->count == 0 || set->count == 0)
        return 0;
    uint64_t *costs = calloc(snapshots->count, sizeof(*costs));
    if (!costs)
        return snapshots->list[0];
    unsigned sampled = 0;
    int status = MSHM_OK;
    for (uint32_t i = 0; i < set->capacity && sampled < SAMPLE_LEAVES && !status; i++)
        if (set->places[i].pid != 0) {
            status = costs_sample(tree, &set->places[i], costs);
            sampled++;
        }
    uint32_t most = 0; /* the oldest when none stands out */
    for (uint32_t i = 1; i < snapshots->count; i++)
        if (costs[i] > costs[most])
            most = i;
    free(costs);
    return snapshots->list[most];
}
