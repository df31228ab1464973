/* tree_tidy.c - emptying the tails of leaves while nobody commits.
 *
 * A tail makes appends cheap and reads a little dearer: a get compares its fingerprints and may fetch an entry for
 * nothing, and a scan has to merge. So leaves are remembered when their tails pass a few entries, and rebuilt when the
 * broker has time. Only the newest 131,072 are remembered; an older one waits for its next append.
 */
#include "tree_parts.h"

void
tidy_remember(struct tree *tree, mshm_pid pid)
{
    if (tree->tidy_count == TIDY_CAPACITY)
        tree->tidy_first = (tree->tidy_first + 1) % TIDY_CAPACITY;
    else
        tree->tidy_count++;
    tree->tidy[(tree->tidy_first + tree->tidy_count - 1) % TIDY_CAPACITY] = pid;
}

/* The leaf of a pid, if it has a tail worth the work: it may have been rebuilt since, or be another page by now. */
static const struct mshm_page *
tidy_candidate(struct tree *tree, mshm_pid pid)
{
    uint32_t size;
    const struct mshm_page *page = (const void *)tree_frame(tree, pid, &size);
    if (!page || page->kind != MSHM_PAGE_LEAF)
        return NULL;
    return size > tree->options.page_size || AO_load(&page->tail_count) > TIDY_TAIL ? page : NULL;
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
    if (!tidy_affordable(tree))
        tree->tidy_count = 0;
    while (budget > 0 && tree->tidy_count > 0) {
        mshm_pid pid = tree->tidy[tree->tidy_first];
        tree->tidy_first = (tree->tidy_first + 1) % TIDY_CAPACITY;
        tree->tidy_count--;
        struct tree_target target;
        const struct mshm_page *page = tidy_candidate(tree, pid);
        if (page == NULL || resolve(argument, page->bucket, &target) != MSHM_OK)
            continue;
        if (tree_rebuild(tree, &target, pid, false, false) == MSHM_FULL)
            tree->tidy_count = 0;
        budget--;
    }
    return tree->tidy_count > 0;
}

void
tree_loaded(struct tree *tree, mshm_pid pid)
{
    uint32_t size;
    const struct mshm_page *page = (const void *)tree_frame(tree, pid, &size);
    if (page && page->kind == MSHM_PAGE_LEAF && size > tree->options.page_size)
        tidy_remember(tree, pid);
}
