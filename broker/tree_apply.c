/* tree_apply.c - carrying a plan out: appends, building of leaves, publication in the order that tree_parts.h tells. */
#include "kill_point.h"
#include "tree_parts.h"

struct mshm_version
op_version(const struct mshm_op *op, mshm_timestamp timestamp)
{
    return (struct mshm_version){
        .key = mshm_op_key(op),
        .value = mshm_op_value(op),
        .timestamp = timestamp,
        .value_size = plan_op_deletes(op) ? 0 : op->value_size,
        .key_size = op->key_size,
        .kind = plan_op_deletes(op) ? MSHM_ENTRY_TOMBSTONE : MSHM_ENTRY_VALUE,
    };
}

/* Remembers leaves that will need a rebuild soon, once, when they pass the mark. */
static void
leaf_remember(struct tree *tree, const struct plan_leaf *leaf)
{
    uint32_t mark = leaf->size / 16, tail = MSHM_TAIL_CAPACITY - leaf->tail_room;
    const struct mshm_page *page = (const void *)leaf->frame;
    if (tail <= TIDY_TAIL && (tail + leaf->op_count > TIDY_TAIL || !leaf->puts))
        tidy_remember(tree, leaf->pid);
    if (!leaf->puts && (tail + leaf->op_count) * 2 >= page->key_count)
        unfit_remember(tree, leaf->pid);
    bool before = leaf->tail_room < TEND_PLACES || leaf->room < mark;
    bool after = leaf->tail_room - leaf->op_count < TEND_PLACES || leaf->room - leaf->needed < mark;
    if (before || !after || tree->tend_count == TEND_CAPACITY)
        return;
    uint32_t place = (tree->tend_first + tree->tend_count++) % TEND_CAPACITY;
    tree->tend[place] = (struct tend_leaf){.target = leaf->target, .pid = leaf->pid};
}

static void
leaf_append(struct tree *tree, const struct plan_leaf *leaf, mshm_timestamp timestamp)
{
    const struct plan_op *ops = (const struct plan_op *)tree->plan.ops.data + leaf->first_op;
    for (uint32_t i = 0; i < leaf->op_count; i++) {
        struct mshm_version version = op_version(ops[i].op, timestamp);
        int status = mshm_leaf_append(leaf->frame, leaf->size, &version, ops[i].hash);
        assert(status == MSHM_OK);
        (void)status;
        MACE_KILL_POINT("tree:append");
    }
    pages_touch(tree->pages, leaf->pid, timestamp);
    leaf_remember(tree, leaf);
    mshm_counter_add(&tree->counters->appends, leaf->op_count);
}

static void
page_build_leaf(struct plan_page *page, mshm_timestamp timestamp)
{
    for (uint32_t i = 0; i < page->spec.count; i++) {
        if (page->versions[i].timestamp == PLAN_TIMESTAMP)
            page->versions[i].timestamp = timestamp;
        if (page->versions[i].timestamp > page->newest)
            page->newest = page->versions[i].timestamp;
    }
    int status = mshm_leaf_build(page->frame, mshm_class_size(page->class), &page->spec);
    assert(status == MSHM_OK); /* the size does not depend on the timestamp */
    (void)status;
}

static void
page_publish(struct tree *tree, const struct plan_page *page)
{
    unsigned hint = page->kind == MSHM_PAGE_LEAF ? mshm_leaf_hint(page->frame) : 0;
    pages_publish(tree->pages, page->pid, frames_word(tree->frames, page->frame, page->class, hint),
                  page->newest, page->whole);
}

/* What a reader can meet after each step is told in tree_parts.h. */
static void
plan_pages_publish(struct tree *tree, struct tree_plan *plan)
{
    const struct plan_page *pages = plan_pages(plan);
    for (uint32_t i = plan->pages.count; i-- > 0;)
        if (!pages[i].replaces && pages[i].kind != MSHM_PAGE_HISTORY) {
            page_publish(tree, &pages[i]);
            MACE_KILL_POINT("tree:split_right_published");
        }
    for (uint32_t i = plan->pages.count; i-- > 0;) {
        const struct plan_page *page = &pages[i];
        if (!page->replaces || page->kind == MSHM_PAGE_HISTORY)
            continue;
        page_publish(tree, page);
        if (page->root)
            MACE_KILL_POINT("tree:root_split");
        else if (page->kind == MSHM_PAGE_INNER)
            MACE_KILL_POINT("tree:split_parent_published");
        else if (page->split)
            MACE_KILL_POINT("tree:split_left_published");
        else
            MACE_KILL_POINT("tree:rebuild_published");
        if (page->spec.history)
            MACE_KILL_POINT("tree:history_published");
    }
}

/* History frames that were taken in go after the leaves that led to them, so a bracket that may use the one may use the
 * other. */
static void
history_settle(struct tree *tree, struct tree_plan *plan, mshm_timestamp timestamp)
{
    const AO_t *retired = plan->retired.data;
    const struct plan_page *pages = plan_pages(plan);
    for (uint32_t i = 0; i < plan->pages.count; i++)
        if (pages[i].kind == MSHM_PAGE_LEAF)
            spill_hold(tree->out.spill, pages[i].rest);
    for (uint32_t i = 0; i < plan->retired.count; i++)
        history_drop(tree, retired[i]);
    const struct plan_leaf *leaves = plan->leaves.data;
    for (uint32_t i = 0; i < plan->leaves.count; i++)
        if (leaves[i].rebuild && tree->history.count > 0)
            history_forget(tree, leaves[i].pid);
    for (uint32_t i = 0; i < plan->pages.count; i++) {
        if (pages[i].kind == MSHM_PAGE_LEAF && pages[i].spec.history != 0)
            history_note(tree, &pages[i], timestamp);
        if (pages[i].kind == MSHM_PAGE_HISTORY)
            history_frame_note(tree, &pages[i], timestamp);
    }
}

/* Leaves with so little left that they may be merged. */
static void
small_remember(struct tree *tree, const struct plan_page *page)
{
    if (page->kind == MSHM_PAGE_LEAF && unfit_small(page->target.page_size, page->live))
        unfit_remember(tree, page->pid);
}

static void
plan_publish(struct tree *tree, struct tree_plan *plan, mshm_timestamp timestamp)
{
    struct plan_page *pages = plan_pages(plan);
    for (uint32_t i = 0; i < plan->pages.count; i++)
        if (pages[i].kind == MSHM_PAGE_LEAF)
            page_build_leaf(&pages[i], timestamp);
    tree_ahead_begin(tree); /* what was found may be replaced here */
    plan_pages_publish(tree, plan);
    history_settle(tree, plan, timestamp);
    tree->pages_leaf += plan->leaf_added;
    tree->pages_inner += plan->inner_added;
    for (uint32_t i = 0; i < plan->pages.count; i++) {
        small_remember(tree, &pages[i]);
        if (pages[i].level + 1u > tree->height)
            tree->height = pages[i].level + 1u;
    }
    mshm_counter_add(&tree->counters->consolidations, plan->rebuilt);
    mshm_counter_add(&tree->counters->splits, plan->splits_made);
    mshm_counter_add(&tree->counters->versions_pruned, plan->pruned);
    tree_report(tree);
}

void
tree_apply(struct tree *tree, struct tree_plan *plan, mshm_timestamp timestamp)
{
    assert(plan->open);
    const struct plan_leaf *leaves = plan->leaves.data;
    for (uint32_t i = 0; i < plan->leaves.count; i++)
        if (!leaves[i].rebuild)
            leaf_append(tree, &leaves[i], timestamp);
    if (plan->blinds.count > 0)
        blinds_apply(tree, plan, timestamp);
    if (plan->pages.count > 0)
        plan_publish(tree, plan, timestamp);
    plan->open = false;
}

void
merge_apply(struct tree *tree, struct tree_plan *plan, const mshm_pid *freed, uint32_t count)
{
    struct plan_page *pages = plan_pages(plan);
    tree_ahead_begin(tree);
    for (uint32_t i = 0; i < plan->pages.count; i++) {
        if (pages[i].kind == MSHM_PAGE_LEAF)
            page_build_leaf(&pages[i], 0);
        page_publish(tree, &pages[i]);
        if (count > 1)
            MACE_KILL_POINT("tree:root_collapsed");
        else if (i == 0)
            MACE_KILL_POINT("tree:merge_left_published");
        else
            MACE_KILL_POINT("tree:merge_parent_published");
        small_remember(tree, &pages[i]);
    }
    for (uint32_t i = 0; i < count; i++) {
        pages_free(tree->pages, freed[i], true);
        MACE_KILL_POINT("tree:merge_freed");
    }
    mshm_counter_add(&tree->counters->versions_pruned, plan->pruned);
    plan->open = false;
}
