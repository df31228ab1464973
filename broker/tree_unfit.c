/* tree_unfit.c - leaves that have become too small or too large while nobody writes to them: found, remembered, put right.
 *
 * A leaf is remembered when a rebuild leaves little in it, when deletes have gone into it, and when it is read in with an
 * unfitting size. What can be done is seen only when it is looked at: versions may have to stay as long as some snapshot
 * is registered, so such a leaf waits in a second list until the oldest snapshot has moved on. See struct unfit.
 */
#include "tree_parts.h"

int
unfit_init(struct unfit *unfit, uint64_t pids)
{
    unfit->known = calloc(pids / 8 + 1, 1);
    int status = unfit->known ? ring_init(&unfit->now) : MSHM_NO_MEMORY;
    return status ? status : ring_init(&unfit->later);
}

void
unfit_fini(struct unfit *unfit)
{
    ring_fini(&unfit->now);
    ring_fini(&unfit->later);
    free(unfit->known);
}

static bool
known(const struct unfit *unfit, mshm_pid pid)
{
    return unfit->known[pid / 8] >> pid % 8 & 1;
}

static void
known_set(struct unfit *unfit, mshm_pid pid, bool known)
{
    uint8_t bit = (uint8_t)(1u << pid % 8);
    unfit->known[pid / 8] =
        (uint8_t)(known ? unfit->known[pid / 8] | bit : unfit->known[pid / 8] & ~bit);
}

static void
unfit_put(struct unfit *unfit, struct pid_ring *ring, mshm_pid pid)
{
    mshm_pid forgotten = ring_push(ring, pid);
    known_set(unfit, pid, true);
    if (forgotten)
        known_set(unfit, forgotten, false);
}

static mshm_pid
unfit_take(struct unfit *unfit, struct pid_ring *ring)
{
    mshm_pid pid = ring_pop(ring);
    known_set(unfit, pid, false);
    return pid;
}

void
unfit_remember(struct tree *tree, mshm_pid pid)
{
    if (!known(&tree->unfit, pid))
        unfit_put(&tree->unfit, &tree->unfit.now, pid);
}

/* --- one leaf --- */

/* What a rebuild would make of a leaf. */
struct prospect {
    uint32_t used, live; /* bytes after it */
    bool shrinks;        /* by an eighth of a page at least */
    bool single;         /* one key, or none */
    bool waits;          /* some versions stay only because of snapshots */
};

static int
leaf_survey(struct tree *tree, const struct tree_target *target, mshm_pid pid, uint8_t *frame,
            uint32_t size, struct prospect *prospect)
{
    struct plan_leaf leaf = {.target = *target, .pid = pid, .frame = frame, .size = size};
    struct rebuild rebuild = {.tree = tree, .leaf = &leaf, .page = (const void *)frame};
    struct mshm_leaf_spec spec;
    plan_open(tree);
    int status = rebuild_begin(&rebuild);
    if (!status)
        status = rebuild_prune(&rebuild);
    if (!status) {
        uint32_t before = size - mshm_leaf_room(frame, size);
        prospect->used = rebuild_size(&rebuild, 0, rebuild.group_count, &spec);
        prospect->live = rebuild.live;
        prospect->single = rebuild.group_count <= 1;
        prospect->waits = rebuild.count > rebuild.live_count;
        prospect->shrinks = before > prospect->used + target->page_size / 8;
    }
    tree_cancel(tree, &tree->plan);
    return status;
}

static bool
too_large(const struct tree_target *target, uint32_t size, const struct prospect *prospect)
{
    return size > target->page_size && !prospect->single &&
           prospect->used > target->page_size / 32 * 31;
}

static void
leaf_fit(struct tree *tree, mshm_pid pid)
{
    struct tree_target target;
    struct prospect prospect;
    uint32_t size;
    uint8_t *frame = tree_frame(tree, pid, &size);
    const struct mshm_page *page = (const void *)frame;
    if (!frame || page->kind != MSHM_PAGE_LEAF || !tree->resolve ||
        tree->resolve(tree->resolve_argument, page->bucket, &target) != MSHM_OK ||
        leaf_survey(tree, &target, pid, frame, size, &prospect) != MSHM_OK)
        return;
    if (unfit_small(target.page_size, prospect.used) && tree_merge(tree, &target, pid) == MSHM_OK)
        return;
    if (prospect.shrinks || too_large(&target, size, &prospect))
        tree_rebuild(tree, &target, pid, false, false); /* a refusal costs nothing */
    if (prospect.waits && unfit_small(target.page_size, prospect.live) && !known(&tree->unfit, pid))
        unfit_put(&tree->unfit, &tree->unfit.later, pid);
}

/* --- the lists --- */

static mshm_timestamp
oldest_needed(const struct tree *tree)
{
    const struct snapshots *snapshots = tree->snapshots;
    return snapshots->count > 0 ? snapshots->list[0] : snapshots->horizon;
}

/* What waits may be able to do with less by now: begins to go through all of it. */
static void
pass_begin(struct tree *tree)
{
    struct unfit *unfit = &tree->unfit;
    if (unfit->later_left > 0 || oldest_needed(tree) <= unfit->oldest)
        return;
    unfit->later_left = unfit->later.count;
    unfit->oldest = oldest_needed(tree);
}

bool
unfit_turn(struct tree *tree, unsigned budget)
{
    struct unfit *unfit = &tree->unfit;
    for (; budget > 0 && unfit->now.count > 0; budget--)
        leaf_fit(tree, unfit_take(unfit, &unfit->now));
    pass_begin(tree);
    for (; budget > 0 && unfit->later_left > 0; budget--) {
        unfit->later_left--;
        leaf_fit(tree, unfit_take(unfit, &unfit->later));
    }
    return unfit->now.count > 0 || unfit->later_left > 0;
}

/* --- pages that come into memory --- */

void
tree_loaded(struct tree *tree, mshm_pid pid)
{
    struct tree_target target;
    uint32_t size;
    const uint8_t *frame = tree_frame(tree, pid, &size);
    const struct mshm_page *page = (const void *)frame;
    if (!frame || page->kind != MSHM_PAGE_LEAF || !tree->resolve ||
        tree->resolve(tree->resolve_argument, page->bucket, &target) != MSHM_OK)
        return;
    uint32_t used = size - mshm_leaf_room(frame, size);
    if (unfit_small(target.page_size, used) ||
        (size > target.page_size && used > target.page_size / 32 * 31))
        unfit_remember(tree, pid);
}
