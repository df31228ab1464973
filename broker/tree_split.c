/* tree_split.c - cutting leaves that became too big.
 *
 * Where a page is cut depends on where its new keys stand:
 *
 *   new keys at the end    [base base base new new new]   left page full to the brim: a load in key order fills pages
 *   new keys in front      [new new new base base base]   the same, mirrored
 *   one run in the middle  [base base new new | base]     cut behind the run, which is then at its page's end
 *   anything else          in half by bytes
 */
#include "tree_parts.h"

enum shape { SHAPE_RANDOM, SHAPE_ASCENDING, SHAPE_DESCENDING };

enum {
    RUN_LEAST = 8, /* new keys that make a run */
};

struct cut {
    struct rebuild *rebuild;
    uint32_t *ends; /* of the pages, in order: group numbers */
    uint32_t count;
};

static uint32_t
limit_of(const struct rebuild *rebuild, enum shape shape)
{
    return shape == SHAPE_RANDOM ? rebuild->limit : mshm_class_size(rebuild->class) / 32 * 30;
}

static bool
range_fits(const struct rebuild *rebuild, uint32_t first, uint32_t end, enum shape shape)
{
    struct mshm_leaf_spec spec;
    const struct group *groups = rebuild->groups;
    uint32_t limit = limit_of(rebuild, shape);
    /* Of a thousand new keys in order that many pages are cut, and looking at all that is left for each would be most of
     * the work. */
    if (groups[end].values - groups[first].values > limit)
        return false;
    return rebuild_size(rebuild, first, end, &spec) <= limit;
}

/* First group whose end lies beyond `bytes` after the beginning of `first`. */
static uint32_t
group_at(const struct rebuild *rebuild, uint32_t first, uint32_t end, uint64_t bytes)
{
    const struct group *groups = rebuild->groups;
    uint64_t wanted = groups[first].before + bytes;
    uint32_t low = first, high = end;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (groups[middle + 1].before <= wanted)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static uint32_t
clamp(uint32_t value, uint32_t least, uint32_t most)
{
    return value < least ? least : value > most ? most : value;
}

static uint32_t
cut_middle(const struct rebuild *rebuild, uint32_t first, uint32_t end)
{
    const struct group *groups = rebuild->groups;
    uint64_t half = (groups[end].before - groups[first].before) / 2;
    return clamp(group_at(rebuild, first, end, half), first + 1, end - 1);
}

/* The most groups from the left that fit into one page. */
static uint32_t
cut_left(const struct rebuild *rebuild, uint32_t first, uint32_t end)
{
    uint64_t most = 2 * (uint64_t)mshm_class_size(rebuild->class);
    uint32_t low = first + 1, high = clamp(group_at(rebuild, first, end, most), low, end - 1);
    while (low < high) {
        uint32_t middle = low + (high - low + 1) / 2;
        if (range_fits(rebuild, first, middle, SHAPE_ASCENDING))
            low = middle;
        else
            high = middle - 1;
    }
    return low;
}

/* The same from the right. */
static uint32_t
cut_right(const struct rebuild *rebuild, uint32_t first, uint32_t end)
{
    uint32_t low = first + 1, high = end - 1;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (range_fits(rebuild, middle, end, SHAPE_DESCENDING))
            high = middle;
        else
            low = middle + 1;
    }
    return low;
}

static void
cut_range(struct cut *cut, uint32_t first, uint32_t end, enum shape shape)
{
    struct rebuild *rebuild = cut->rebuild;
    while (end - first > 1 && !range_fits(rebuild, first, end, shape)) {
        uint32_t bytes = rebuild->groups[end].before - rebuild->groups[first].before;
        if (shape == SHAPE_DESCENDING && bytes < 2 * mshm_class_size(rebuild->class)) {
            uint32_t middle = cut_right(rebuild, first, end);
            cut_range(cut, first, middle, shape);
            first = middle;
        } else if (shape == SHAPE_ASCENDING) {
            first = cut_left(rebuild, first, end);
            cut->ends[cut->count++] = first;
        } else {
            uint32_t middle = cut_middle(rebuild, first, end);
            cut_range(cut, first, middle, shape);
            first = middle;
        }
    }
    cut->ends[cut->count++] = end;
}

static void
cut_leaf(struct cut *cut)
{
    const struct rebuild *rebuild = cut->rebuild;
    uint32_t count = rebuild->group_count, fresh = rebuild->fresh_count;
    uint32_t first = rebuild->fresh_first, last = rebuild->fresh_last;
    bool run = fresh > 0 && last - first + 1 == fresh && fresh * 2 >= rebuild->tail_count;
    if (run && last == count - 1) {
        cut_range(cut, 0, count, SHAPE_ASCENDING);
    } else if (run && first == 0) {
        cut_range(cut, 0, count, SHAPE_DESCENDING);
    } else if (run && fresh >= RUN_LEAST && !range_fits(rebuild, 0, count, SHAPE_RANDOM)) {
        cut_range(cut, 0, last + 1, SHAPE_ASCENDING);
        cut_range(cut, last + 1, count, SHAPE_RANDOM);
    } else {
        cut_range(cut, 0, count, SHAPE_RANDOM);
    }
}

/* Moved-out versions of the keys below the page's high fence. */
static uint32_t
out_end(const struct rebuild *rebuild, uint32_t first, const struct mshm_leaf_spec *spec)
{
    if (spec->high_size == MSHM_FENCE_INFINITE)
        return rebuild->out_count;
    while (first < rebuild->out_count &&
           mshm_key_compare(rebuild->out[first].key, rebuild->out[first].key_size, spec->high,
                            spec->high_size) < 0)
        first++;
    return first;
}

/* A page that only deletes have touched gives back what it does not need. */
static unsigned
leaf_class(const struct rebuild *rebuild, uint32_t size)
{
    unsigned class = tree_class(size);
    if (class < rebuild->class && (rebuild->leaf->puts || size > MSHM_UNIT / 4))
        class = rebuild->class;
    return class;
}

static int
leaf_page(struct rebuild *rebuild, uint32_t first, uint32_t end, mshm_pid pid, uint32_t *out,
          struct plan_page **result)
{
    struct mshm_leaf_spec spec;
    uint32_t size = rebuild_size(rebuild, first, end, &spec);
    if (size == UINT32_MAX)
        return MSHM_CORRUPT;
    uint64_t history_bytes = 0;
    AO_t history = rebuild->rest;
    uint32_t from = *out;
    *out = out_end(rebuild, from, &spec);
    int status = MSHM_OK;
    if (*out > from)
        status = history_build(rebuild, from, *out, pid, &history, &history_bytes);
    struct plan_page *page;
    if (!status)
        status = plan_page_add(rebuild->tree, leaf_class(rebuild, size), &page);
    if (status)
        return status;
    history_bytes += history_size(rebuild->tree, rebuild->rest);
    spec.pid = pid;
    spec.history = history;
    page->pid = pid;
    page->kind = MSHM_PAGE_LEAF;
    page->target = rebuild->leaf->target;
    page->spec = spec;
    page->versions = rebuild->versions + rebuild->groups[first].first;
    page->history_bytes = history_bytes;
    page->keepers = rebuild->keepers;
    page->rest = rebuild->rest;
    page->live = first == 0 && end == rebuild->group_count ? rebuild->live : UINT32_MAX;
    *result = page;
    return MSHM_OK;
}

int
split_leaf(struct rebuild *rebuild)
{
    struct tree *tree = rebuild->tree;
    struct tree_plan *plan = &tree->plan;
    const struct plan_leaf *leaf = rebuild->leaf;
    size_t most = rebuild->group_count + 1;
    struct cut cut = {.rebuild = rebuild, .ends = plan_memory(plan, most * sizeof(*cut.ends))};
    if (!cut.ends)
        return MSHM_NO_MEMORY;
    cut_leaf(&cut);
    /* Frames of history that stay behind cannot be divided; what is in the scratch file is shared. */
    assert(cut.count == 1 || rebuild->rest == 0 || spill_number(rebuild->rest) != 0);
    mshm_pid *pids = plan_memory(plan, cut.count * sizeof(*pids));
    struct mshm_separator *borders = plan_memory(plan, cut.count * sizeof(*borders));
    if (!pids || !borders)
        return MSHM_NO_MEMORY;
    int status = split_pids(tree, &leaf->target, leaf->pid, pids, cut.count);
    uint32_t first = 0, out = 0;
    for (uint32_t i = 0; i < cut.count && !status; i++) {
        struct plan_page *page;
        status = leaf_page(rebuild, first, cut.ends[i], pids[i], &out, &page);
        if (status)
            break;
        page->spec.right = i + 1 < cut.count ? pids[i + 1] : rebuild->fences.right;
        page->replaces = pids[i] == leaf->pid;
        page->split = cut.count > 1;
        page->whole = !page->replaces || page->split || rebuild->vanished ||
                      rebuild->loaded_bytes > 0 || rebuild->out_count > 0;
        if (i > 0)
            borders[i - 1] =
                (struct mshm_separator){.key = page->spec.low, .size = page->spec.low_size};
        first = cut.ends[i];
    }
    plan->splits_made += cut.count - 1;
    plan->leaf_added += cut.count - 1;
    if (!status && cut.count > 1)
        status = split_borders(tree, &leaf->target, leaf->pid, 0, borders, pids, cut.count - 1);
    return status;
}
