/* tree_ahead.c - finding the leaves of commits that wait, before the first of them is planned. See tree.h.
 *
 *   tree_ahead_add    walks down (inner pages are near) and starts the fetch of the leaf's header, fingerprints, bucket
 *   ...               and window; the same for the next keys while those lines are under way
 *   tree_ahead_end    the headers have come: starts the fetch of the lines that the appends will write
 *   ahead_take        gives a place to the plan
 *
 * A place is right until a page is published: leaves change by appends only, and an append moves no key to another page.
 * tree_apply therefore drops all places when it publishes, and sessions_drain begins without any. A page that left memory
 * meanwhile, or came back in another frame, is known by its page-map word.
 */
#include "tree_parts.h"

void
tree_ahead_begin(struct tree *tree)
{
    tree->ahead.count = tree->ahead.next = 0;
}

void
tree_ahead_add(struct tree *tree, uint32_t bucket, const void *key, uint16_t key_size,
               tree_resolve *resolve, void *argument)
{
    struct tree_ahead *ahead = &tree->ahead;
    struct tree_target target;
    assert(key_size <= TREE_AHEAD_KEY);
    if (ahead->count == TREE_AHEAD || resolve(argument, bucket, &target) != MSHM_OK)
        return;
    struct tree_hint *hint = &ahead->hints[ahead->count];
    hint->hash = mshm_key_hash(key, key_size);
    if (tree_descend(tree, target.ref, key, key_size, hint->hash, 0, &hint->place) != MSHM_OK)
        return; /* damage, and what is missing, is the plan's to report */
    if (!hint->place.frame)
        return;
    hint->bucket = bucket;
    hint->key_size = key_size;
    memcpy(hint->key, key, key_size);
    ahead->count++;
}

void
tree_ahead_end(struct tree *tree)
{
    const struct tree_ahead *ahead = &tree->ahead;
    for (uint32_t i = 0; i < ahead->count; i++)
        leaf_prefetch_heap(ahead->hints[i].place.frame);
}

bool
ahead_take(struct tree *tree, uint32_t bucket, const struct mshm_op *op, uint64_t hash,
           struct tree_place *place)
{
    struct tree_ahead *ahead = &tree->ahead;
    for (uint32_t i = ahead->next; i < ahead->count; i++) {
        const struct tree_hint *hint = &ahead->hints[i];
        if (hint->hash != hash || hint->bucket != bucket || hint->key_size != op->key_size ||
            memcmp(hint->key, mshm_op_key(op), op->key_size) != 0)
            continue;
        uint32_t size;
        ahead->next = i + 1;
        *place = hint->place;
        return tree_frame(tree, place->pid, &size) == place->frame;
    }
    return false;
}
