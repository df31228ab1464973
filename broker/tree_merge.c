/* tree_merge.c - two neighbours under one parent become one page.
 *
 *              [ a | b | c ]                        [ a |     c ]
 *              /     |     \          ---->          /         \
 *          left -> right -> next                 left'  ------> next          right: MOVED
 *
 * Publication, each step one release store:
 *
 *   1. left'    holds what both hold, up to the right page's high fence, and its right link
 *   2. parent'  does not name the right page any more
 *   3. right    its word says MOVED: whoever comes there starts again from the root; the pid comes back later (pages.h)
 *
 * Between the steps both ways to the right page's keys are right: its old frame stays complete, because nothing is written to
 * it between step 1 and step 3, and left' holds the same. A reader that has an old frame of the left page or of the parent
 * is led to the right page: it finds the old frame, or MOVED. All three are one turn of the loop; when the broker dies
 * within it nothing is written any more, so every mixture stays right for ever.
 *
 * A root with only two children takes their content into its own pid, which never changes, and the tree is a level lower:
 *
 *   1. root'    holds what both hold
 *   2. the two  MOVED
 *
 * A reader that goes down from an old frame of the root asks for a page of the level below it, and the two have that
 * until they are MOVED. Nothing but the root's parents, which do not exist, leads to the root.
 *
 * Inner pages always have two children, so a leaf whose only neighbour is its parent's other child waits until the parent
 * has been merged with one of its neighbours.
 */
#include "tree_parts.h"

/* Two neighbours, and the page above them. */
struct pair {
    struct tree *tree;
    const struct tree_target *target;
    struct parent parent;
    unsigned level;  /* of the two */
    uint32_t border; /* the separator between them */
    struct tree_place left, right;
    bool collapse; /* the parent is the root and has no other children */
};

/* --- finding --- */

static bool
child_find(struct pair *pair, uint32_t index, struct tree_place *place)
{
    mshm_pid pid = pair->parent.children[index];
    *place = (struct tree_place){.pid = pid};
    if (pid == 0 || pid >= pair->tree->view->map_capacity)
        return false;
    place->frame = tree_frame(pair->tree, pid, &place->size);
    const struct mshm_page *page = (const void *)place->frame;
    return page && page->bucket == pair->target->ref.bucket && page->level == pair->level;
}

/* The pair whose left page is child `index` of the parent. */
static bool
pair_at(struct pair *pair, uint32_t index)
{
    if (index >= pair->parent.count)
        return false;
    pair->border = index;
    pair->collapse = pair->parent.count == 1 && pair->parent.place.pid == pair->target->ref.root;
    return (pair->parent.count > 1 || pair->collapse) && child_find(pair, index, &pair->left) &&
           child_find(pair, index + 1, &pair->right) &&
           ((const struct mshm_page *)(const void *)pair->left.frame)->right == pair->right.pid;
}

/* Takes the page above apart; *index is the child that the key leads to. */
static int
pair_begin(struct pair *pair, const uint8_t *key, size_t key_size, uint32_t *index)
{
    struct parent *parent = &pair->parent;
    mshm_pid child;
    int status = tree_descend(pair->tree, pair->target->ref, key, key_size, 0, pair->level + 1,
                              &parent->place);
    if (!status)
        status = mshm_inner_find(parent->place.frame, parent->place.size, key, key_size, 0, &child,
                                 index);
    return status ? status : parent_take(&pair->tree->plan, parent, 0);
}

/* --- laying out --- */

/* The parent without the border and the right page. */
static int
parent_lay(struct pair *pair)
{
    struct parent *parent = &pair->parent;
    uint32_t border = pair->border, after = parent->count - border - 1;
    struct plan_page *page;
    memmove(parent->separators + border, parent->separators + border + 1,
            after * sizeof(*parent->separators));
    memmove(parent->children + border + 1, parent->children + border + 2,
            after * sizeof(*parent->children));
    parent->count--;
    struct mshm_inner_spec content = {
        .low = parent->fences.low,
        .low_size = parent->fences.low_size,
        .high = parent->fences.high,
        .high_size = parent->fences.high_size,
        .separators = parent->separators,
        .children = parent->children,
        .count = parent->count,
    };
    int status = inner_page(pair->tree, pair->target, pair->level + 1, &content, 0, parent->count,
                            parent->place.pid, parent->fences.right, &page);
    if (!status)
        page->replaces = true;
    return status;
}

static int
leaf_take(struct pair *pair, const struct tree_place *place, struct rebuild *rebuild)
{
    struct plan_leaf *leaf = plan_memory(&pair->tree->plan, sizeof(*leaf));
    if (!leaf)
        return MSHM_NO_MEMORY;
    *leaf = (struct plan_leaf){
        .target = *pair->target,
        .pid = place->pid,
        .frame = place->frame,
        .size = place->size,
    };
    *rebuild = (struct rebuild){
        .tree = pair->tree,
        .leaf = leaf,
        .page = (const struct mshm_page *)(const void *)place->frame,
    };
    if (AO_load(&rebuild->page->history) != 0)
        return MSHM_EXISTS; /* it goes first */
    int status = rebuild_begin(rebuild);
    return status ? status : rebuild_prune(rebuild);
}

/* Appends the right leaf's versions to the left one's. */
static int
leaves_join(struct rebuild *left, const struct rebuild *right)
{
    uint32_t count = left->count + right->count;
    struct mshm_version *all = plan_memory(&left->tree->plan, (count + 1) * sizeof(*all));
    if (!all)
        return MSHM_NO_MEMORY;
    memcpy(all, left->versions, left->count * sizeof(*all));
    memcpy(all + left->count, right->versions, right->count * sizeof(*all));
    for (uint32_t i = 0; i < count; i++)
        all[i].reserved = VERSION_KNOWN; /* no key is new: nothing is cut because of that */
    left->versions = all;
    left->count = count;
    left->fences.high = right->fences.high;
    left->fences.high_size = right->fences.high_size;
    left->fences.right = right->fences.right;
    left->vanished = true;
    return rebuild_group(left);
}

/* A page that is merged should not be split again soon; but one that holds nothing costs its neighbour nothing. */
static bool
leaves_fit(const struct rebuild *joined, bool empty)
{
    struct mshm_leaf_spec spec;
    uint32_t size = mshm_class_size(joined->class);
    uint32_t limit = empty ? size / 32 * 31 : size / 4 * 3;
    return rebuild_size(joined, 0, joined->group_count, &spec) <= limit;
}

static int
leaves_merge(struct pair *pair)
{
    struct rebuild left, right;
    int status = leaf_take(pair, &pair->left, &left);
    if (!status)
        status = leaf_take(pair, &pair->right, &right);
    if (status)
        return status;
    bool empty = left.group_count == 0 || right.group_count == 0;
    status = leaves_join(&left, &right);
    if (!status && !leaves_fit(&left, empty))
        status = MSHM_EXISTS;
    if (!status && pair->collapse)
        left.leaf->pid = pair->target->ref.root;
    return status ? status : split_leaf(&left);
}

static int
inners_merge(struct pair *pair)
{
    struct tree_plan *plan = &pair->tree->plan;
    struct parent left = {.place = pair->left}, right = {.place = pair->right};
    struct plan_page *page;
    int status = parent_take(plan, &right, 0);
    if (!status)
        status = parent_take(plan, &left, right.count + 1);
    if (status)
        return status;
    left.separators[left.count] = pair->parent.separators[pair->border];
    memcpy(left.separators + left.count + 1, right.separators,
           right.count * sizeof(*left.separators));
    memcpy(left.children + left.count + 1, right.children,
           (right.count + 1) * sizeof(*left.children));
    struct mshm_inner_spec content = {
        .low = left.fences.low,
        .low_size = left.fences.low_size,
        .high = right.fences.high,
        .high_size = right.fences.high_size,
        .separators = left.separators,
        .children = left.children,
        .count = left.count + 1 + right.count,
    };
    if (mshm_inner_size(&content) > inner_limit(pair->level) / 4 * 3)
        return MSHM_EXISTS;
    mshm_pid pid = pair->collapse ? pair->target->ref.root : pair->left.pid;
    status = inner_page(pair->tree, pair->target, pair->level, &content, 0, content.count, pid,
                        right.fences.right, &page);
    if (!status)
        page->replaces = true;
    return status;
}

/* --- the whole --- */

static void
pair_apply(struct pair *pair)
{
    struct tree *tree = pair->tree;
    mshm_pid freed[] = {pair->right.pid, pair->left.pid};
    uint64_t *pages = pair->level == 0 ? &tree->pages_leaf : &tree->pages_inner;
    unsigned height = pair->level + 2;
    merge_apply(tree, &tree->plan, freed, pair->collapse ? 2 : 1);
    *pages -= 1;
    tree->pages_inner -= pair->collapse;
    if (pair->collapse && tree->height == height)
        tree->height--;
    mshm_counter_add(&tree->counters->merges, 1);
    tree_report(tree);
}

/* Merges the page of `level` that the key leads to with one of its neighbours. */
static int
merge_at(struct tree *tree, const struct tree_target *target, const uint8_t *key, size_t key_size,
         unsigned level)
{
    int status = MSHM_EXISTS;
    for (unsigned side = 0; side < 2 && status == MSHM_EXISTS; side++) { /* the right one first */
        struct pair pair = {.tree = tree, .target = target, .level = level};
        uint32_t index;
        plan_open(tree);
        bool former = frames_allow_reserve(tree->frames, true);
        status = pair_begin(&pair, key, key_size, &index);
        if (!status)
            status = pair_at(&pair, index - side) ? MSHM_OK : MSHM_EXISTS;
        if (!status)
            status = level == 0 ? leaves_merge(&pair) : inners_merge(&pair);
        if (!status && !pair.collapse)
            status = parent_lay(&pair);
        frames_allow_reserve(tree->frames, former);
        if (status)
            tree_cancel(tree, &tree->plan);
        else
            pair_apply(&pair);
    }
    return status;
}

/* Is the inner page of this level that the key leads to too small, and not the root? */
static bool
inner_small(struct tree *tree, const struct tree_target *target, const uint8_t *key,
            size_t key_size, unsigned level)
{
    struct tree_place place;
    if (tree_descend(tree, target->ref, key, key_size, 0, level, &place) != MSHM_OK ||
        place.pid == target->ref.root)
        return false;
    const struct mshm_page *page = (const void *)place.frame;
    uint32_t used = (uint32_t)page->base_end * 4;
    return page->key_count == 1 || used < inner_limit(level) / 4;
}

/* Merges upwards as long as pages are small. */
static int
merge_above(struct tree *tree, const struct tree_target *target, const uint8_t *key,
            size_t key_size)
{
    int first = MSHM_EXISTS;
    for (unsigned level = 1; inner_small(tree, target, key, key_size, level); level++) {
        int status = merge_at(tree, target, key, key_size, level);
        if (level == 1)
            first = status;
        if (status)
            break;
    }
    return first;
}

int
tree_merge(struct tree *tree, const struct tree_target *target, mshm_pid pid)
{
    uint8_t key[MSHM_MAX_KEY];
    struct mshm_fences fences;
    uint32_t size;
    const uint8_t *frame = tree_frame(tree, pid, &size);
    if (!frame || pid == target->ref.root)
        return MSHM_EXISTS;
    if (mshm_page_fences(frame, size, &fences) != MSHM_OK)
        return MSHM_CORRUPT;
    size_t key_size = fences.low_size;
    memcpy(key, fences.low, key_size);
    int status = merge_at(tree, target, key, key_size, 0);
    if (status == MSHM_EXISTS && merge_above(tree, target, key, key_size) == MSHM_OK)
        status = merge_at(tree, target, key, key_size, 0);
    if (status == MSHM_OK)
        merge_above(tree, target, key, key_size);
    return status;
}
