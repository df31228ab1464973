/* tree_tidy.c - emptying the tails of leaves while nobody commits.
 *
 * A tail makes appends cheap and reads a little dearer: a get compares its fingerprints and may fetch an entry for
 * nothing, and a scan has to merge. So leaves are remembered when their tails pass a few entries, and rebuilt when the
 * broker has time. Only the newest 131,072 are remembered; an older one waits for its next append.
 */
#include "tree_parts.h"

int
ring_init(struct pid_ring *ring)
{
    ring->pids = malloc(TIDY_CAPACITY * sizeof(*ring->pids));
    return ring->pids ? MSHM_OK : MSHM_NO_MEMORY;
}

void
ring_fini(struct pid_ring *ring)
{
    free(ring->pids);
}

mshm_pid
ring_pop(struct pid_ring *ring)
{
    mshm_pid pid = ring->pids[ring->first];
    ring->first = (ring->first + 1) % TIDY_CAPACITY;
    ring->count--;
    return pid;
}

mshm_pid
ring_push(struct pid_ring *ring, mshm_pid pid)
{
    mshm_pid forgotten = ring->count == TIDY_CAPACITY ? ring_pop(ring) : 0;
    ring->pids[(ring->first + ring->count++) % TIDY_CAPACITY] = pid;
    return forgotten;
}

void
tidy_remember(struct tree *tree, mshm_pid pid)
{
    ring_push(&tree->tidy, pid);
}

/* Few entries, which is what a leaf without much of a tail has. */
static bool
tail_has_tombstone(const uint8_t *frame, AO_t count)
{
    const struct mshm_leaf *leaf = (const void *)frame;
    for (AO_t i = 0; i < count; i++) {
        const struct mshm_entry *entry = (const void *)(frame + (size_t)leaf->tail_slots[i] * 4);
        if (entry->kind == MSHM_ENTRY_TOMBSTONE)
            return true;
    }
    return false;
}

/* The leaf of a pid, if it has a tail worth the work: it may have been rebuilt since, or be another page by now. */
static const struct mshm_page *
tidy_candidate(struct tree *tree, mshm_pid pid)
{
    uint32_t size;
    const uint8_t *frame = tree_frame(tree, pid, &size);
    const struct mshm_page *page = (const void *)frame;
    if (!frame || page->kind != MSHM_PAGE_LEAF)
        return NULL;
    AO_t count = AO_load(&page->tail_count);
    return count > TIDY_TAIL || tail_has_tombstone(frame, count) ? page : NULL;
}

/* Rebuilding takes frames before it gives some back: where next to nothing of the cache is free, others need them more. */
static bool
tidy_affordable(const struct tree *tree)
{
    return frames_available(tree->frames) > tree->view->frames_size / 64;
}

bool
tree_tidy(struct tree *tree, unsigned budget, tree_resolve *resolve, void *argument)
{
    struct pid_ring *ring = &tree->tidy;
    if (!tidy_affordable(tree))
        ring->count = 0;
    while (budget > 0 && ring->count > 0) {
        mshm_pid pid = ring_pop(ring);
        struct tree_target target;
        const struct mshm_page *page = tidy_candidate(tree, pid);
        if (page == NULL || resolve(argument, page->bucket, &target) != MSHM_OK)
            continue;
        if (tree_rebuild(tree, &target, pid, false, false) == MSHM_FULL)
            ring->count = 0;
        budget--;
    }
    return ring->count > 0;
}
