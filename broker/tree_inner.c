/* tree_inner.c - bringing the separators of split pages to their parents, level by level.
 *
 * All separators for one parent are put in at once. A parent that becomes too big is cut, which makes separators for the
 * level above. A root keeps its pid: its content moves to new pages, and a new frame one level higher leads to them.
 */
#include "tree_parts.h"

enum {
    LEVEL1_LIMIT =
        4096, /* bytes: a page over the leaves changes with each of their splits, so it is small */
    UPPER_LIMIT = 16384,
};

static int inner_lay(struct tree *tree, const struct tree_target *target, mshm_pid pid,
                     unsigned level, struct mshm_inner_spec *content, bool ascending);

/* Hands the borders between the pages of one to the level above: a new root, or the parent's list. */
int
split_borders(struct tree *tree, const struct tree_target *target, mshm_pid pid, unsigned level,
              const struct mshm_separator *separators, const mshm_pid *children, uint32_t count)
{
    if (pid == target->ref.root) {
        struct mshm_inner_spec content = {
            .high_size = MSHM_FENCE_INFINITE,
            .separators = separators,
            .children = children,
            .count = count,
        };
        tree->plan.inner_added++;
        return inner_lay(tree, target, pid, level + 1, &content, true);
    }
    struct plan_array *list = level == 0 ? &tree->plan.splits : &tree->plan.above;
    for (uint32_t i = 0; i < count; i++) {
        struct plan_split *split = plan_push(list, sizeof(*split));
        if (!split)
            return MSHM_NO_MEMORY;
        split->target = *target;
        split->key = separators[i].key;
        split->key_size = separators[i].size;
        split->pid = children[i + 1];
    }
    return MSHM_OK;
}

/* Pids for `count` pages that replace one: the first keeps the pid, unless it is the root and there are several. */
int
split_pids(struct tree *tree, const struct tree_target *target, mshm_pid pid, mshm_pid *pids,
           uint32_t count)
{
    bool root = pid == target->ref.root && count > 1;
    int status = MSHM_OK;
    for (uint32_t i = 0; i < count && !status; i++) {
        if (i == 0 && !root)
            pids[i] = pid;
        else
            status = plan_pid_add(tree, &pids[i]);
    }
    return status;
}

uint32_t
inner_limit(unsigned level)
{
    return level == 1 ? LEVEL1_LIMIT : UPPER_LIMIT;
}

int
inner_page(struct tree *tree, const struct tree_target *target, unsigned level,
           const struct mshm_inner_spec *content, uint32_t first, uint32_t end, mshm_pid pid,
           mshm_pid right, struct plan_page **result)
{
    struct mshm_inner_spec spec = *content;
    spec.pid = pid;
    spec.right = right;
    spec.bucket = target->ref.bucket;
    spec.level = (uint8_t)level;
    if (first > 0) {
        spec.low = content->separators[first - 1].key;
        spec.low_size = content->separators[first - 1].size;
    }
    if (end < content->count) {
        spec.high = content->separators[end].key;
        spec.high_size = content->separators[end].size;
    }
    spec.separators = content->separators + first;
    spec.children = content->children + first;
    spec.count = end - first;
    unsigned class = tree_class(mshm_inner_size(&spec));
    if (class >= MSHM_CLASSES)
        return MSHM_CORRUPT;
    int status = plan_page_add(tree, class, result);
    if (status)
        return status;
    (*result)->pid = pid;
    (*result)->kind = MSHM_PAGE_INNER;
    (*result)->level = (uint8_t)level;
    (*result)->target = *target;
    (*result)->whole = true;
    status = mshm_inner_build((*result)->frame, mshm_class_size(class), &spec);
    assert(status == MSHM_OK);
    return status;
}

/* Bytes of a separator in its page, about. */
static uint32_t
separator_bytes(const struct mshm_separator *separator, uint32_t prefix)
{
    return 12u + separator->size - prefix;
}

struct inner_cut {
    const struct mshm_inner_spec *content;
    uint64_t *before; /* bytes of the separators before each, and of all */
    uint32_t *ends;   /* of the pages' separators; separator ends[i] itself goes up */
    uint32_t count;
    uint32_t limit;
};

static int
inner_measure(struct tree_plan *plan, struct inner_cut *cut)
{
    const struct mshm_inner_spec *content = cut->content;
    const struct mshm_separator *all = content->separators;
    uint32_t count = content->count, prefix = 0;
    cut->before = plan_memory(plan, ((size_t)count + 1) * sizeof(*cut->before));
    cut->ends = plan_memory(plan, ((size_t)count + 1) * sizeof(*cut->ends));
    if (!cut->before || !cut->ends)
        return MSHM_NO_MEMORY;
    while (prefix < all[0].size && prefix < all[count - 1].size &&
           all[0].key[prefix] == all[count - 1].key[prefix])
        prefix++;
    cut->before[0] = 0;
    for (uint32_t i = 0; i < count; i++)
        cut->before[i + 1] = cut->before[i] + separator_bytes(&all[i], prefix);
    return MSHM_OK;
}

static uint64_t
inner_bytes(const struct inner_cut *cut, uint32_t first, uint32_t end)
{
    const struct mshm_inner_spec *content = cut->content;
    uint64_t fences = first > 0 ? content->separators[first - 1].size : content->low_size;
    if (end < content->count)
        fences += content->separators[end].size;
    else if (content->high_size != MSHM_FENCE_INFINITE)
        fences += content->high_size;
    return sizeof(struct mshm_page) + 16 + fences + cut->before[end] - cut->before[first];
}

/* Every page keeps at least one separator, so a cut needs three: left, the one that goes up, right. */
static void
inner_cut_range(struct inner_cut *cut, uint32_t first, uint32_t end, bool ascending)
{
    while (end - first >= 3 && inner_bytes(cut, first, end) > cut->limit) {
        uint64_t wanted =
            ascending ? cut->limit - cut->limit / 16 : (cut->before[end] - cut->before[first]) / 2;
        uint32_t low = first + 1, high = end - 2;
        while (low < high) { /* the most separators on the left within the bytes wanted */
            uint32_t middle = low + (high - low + 1) / 2;
            if (cut->before[middle] - cut->before[first] <= wanted)
                low = middle;
            else
                high = middle - 1;
        }
        if (ascending)
            cut->ends[cut->count++] = low;
        else
            inner_cut_range(cut, first, low, ascending);
        first = low + 1;
    }
    cut->ends[cut->count++] = end;
}

static int
inner_pages(struct tree *tree, const struct tree_target *target, mshm_pid pid, unsigned level,
            const struct mshm_inner_spec *content, const struct inner_cut *cut)
{
    struct tree_plan *plan = &tree->plan;
    mshm_pid *pids = plan_memory(plan, cut->count * sizeof(*pids));
    struct mshm_separator *borders = plan_memory(plan, cut->count * sizeof(*borders));
    if (!pids || !borders)
        return MSHM_NO_MEMORY;
    int status = split_pids(tree, target, pid, pids, cut->count);
    uint32_t first = 0;
    for (uint32_t i = 0; i < cut->count && !status; i++) {
        struct plan_page *page;
        mshm_pid right = i + 1 < cut->count ? pids[i + 1] : content->right;
        status =
            inner_page(tree, target, level, content, first, cut->ends[i], pids[i], right, &page);
        if (status)
            break;
        page->replaces = pids[i] == pid;
        page->split = cut->count > 1;
        page->root = pid == target->ref.root && cut->count == 1;
        if (i + 1 < cut->count)
            borders[i] = content->separators[cut->ends[i]];
        first = cut->ends[i] + 1;
    }
    plan->splits_made += cut->count - 1;
    plan->inner_added += cut->count - 1;
    if (!status && cut->count > 1)
        status = split_borders(tree, target, pid, level, borders, pids, cut->count - 1);
    return status;
}

/* Lays out an inner page's new content, in as many pages as it takes. */
static int
inner_lay(struct tree *tree, const struct tree_target *target, mshm_pid pid, unsigned level,
          struct mshm_inner_spec *content, bool ascending)
{
    struct inner_cut cut = {.content = content, .limit = inner_limit(level)};
    if (level > UINT8_MAX)
        return MSHM_TOO_BIG;
    int status = inner_measure(&tree->plan, &cut);
    if (status)
        return status;
    inner_cut_range(&cut, 0, content->count, ascending);
    return inner_pages(tree, target, pid, level, content, &cut);
}

int
parent_take(struct tree_plan *plan, struct parent *parent, uint32_t more)
{
    const struct mshm_page *page = (const void *)parent->place.frame;
    uint32_t count = page->key_count;
    size_t room = (size_t)count + more;
    uint32_t key_bytes = parent->place.size + count * (uint32_t)page->prefix_size;
    parent->separators = plan_memory(plan, room * sizeof(*parent->separators));
    parent->children = plan_memory(plan, (room + 1) * sizeof(*parent->children));
    uint8_t *keys = plan_memory(plan, key_bytes);
    if (!parent->separators || !parent->children || !keys)
        return MSHM_NO_MEMORY;
    if (mshm_page_fences(parent->place.frame, parent->place.size, &parent->fences) != MSHM_OK)
        return MSHM_CORRUPT;
    int taken = mshm_inner_take(parent->place.frame, parent->place.size, parent->separators,
                                parent->children, count, keys, key_bytes);
    if (taken < 0)
        return MSHM_CORRUPT;
    parent->count = (uint32_t)taken;
    return MSHM_OK;
}

/* Puts the new separators among the old ones, from the end, so that each old one moves once. */
static void
parent_merge(struct parent *parent, const struct plan_split *splits, uint32_t more)
{
    struct mshm_separator *separators = parent->separators;
    uint32_t old = parent->count, at = old + more;
    parent->at_end = true;
    parent->count = at;
    while (more > 0) {
        const struct plan_split *split = &splits[more - 1];
        if (old > 0 && mshm_key_compare(separators[old - 1].key, separators[old - 1].size,
                                        split->key, split->key_size) > 0) {
            parent->at_end = false;
            separators[at - 1] = separators[old - 1];
            parent->children[at] = parent->children[old];
            old--;
        } else {
            separators[at - 1] =
                (struct mshm_separator){.key = split->key, .size = split->key_size};
            parent->children[at] = split->pid;
            more--;
        }
        at--;
    }
}

/* Handles all separators that belong to the parent of splits[first]; returns the first that does not in *next. */
static int
split_parent(struct tree *tree, unsigned level, uint32_t first, uint32_t *next)
{
    struct tree_plan *plan = &tree->plan;
    const struct plan_split *splits = plan->splits.data;
    struct tree_target target = splits[first].target;
    struct parent parent;
    int status = tree_descend(tree, target.ref, splits[first].key, splits[first].key_size, 0, level,
                              &parent.place);
    if (!status)
        status = mshm_page_fences(parent.place.frame, parent.place.size, &parent.fences);
    if (status == MSHM_BUSY)
        tree_miss(tree, parent.place.pid);
    if (status)
        return status;
    uint32_t end = first + 1;
    while (end < plan->splits.count && splits[end].target.ref.bucket == target.ref.bucket &&
           mshm_fences_compare(&parent.fences, splits[end].key, splits[end].key_size, 0) == 0)
        end++;
    *next = end;
    status = parent_take(plan, &parent, end - first);
    if (status)
        return status;
    parent_merge(&parent, splits + first, end - first);
    struct mshm_inner_spec content = {
        .right = parent.fences.right,
        .low = parent.fences.low,
        .low_size = parent.fences.low_size,
        .high = parent.fences.high,
        .high_size = parent.fences.high_size,
        .separators = parent.separators,
        .children = parent.children,
        .count = parent.count,
    };
    return inner_lay(tree, &target, parent.place.pid, level, &content, parent.at_end);
}

int
split_parents(struct tree *tree)
{
    struct tree_plan *plan = &tree->plan;
    int status = MSHM_OK;
    for (unsigned level = 1; plan->splits.count > 0 && !status; level++) {
        for (uint32_t i = 0; i < plan->splits.count && !status;)
            status = split_parent(tree, level, i, &i);
        struct plan_array done = plan->splits;
        plan->splits = plan->above;
        plan->above = done;
        plan->above.count = 0;
    }
    return status;
}
