/* writeset.c - see writeset.h: what the transaction calls. */
#include <string.h>

#include "writeset_parts.h"

struct mlib_write_tree *
mlib_writeset_tree(const struct mlib_writeset *set, uint32_t bucket)
{
    if (set->last != NULL && set->last->bucket == bucket)
        return set->last;
    struct mlib_write_tree *tree = set->trees;
    while (tree != NULL && tree->bucket < bucket)
        tree = tree->next;
    return tree != NULL && tree->bucket == bucket ? tree : NULL;
}

static void
write_fill(struct mlib_write *write, unsigned kind, const void *value, size_t value_size)
{
    write->kind = (uint8_t)kind;
    write->value_size = (uint32_t)value_size;
    if (value_size > 0)
        memcpy(write->bytes + write->key_size, value, value_size);
}

/* Makes a write in memory that was reserved. */
static struct mlib_write *
write_create(struct mlib_writeset *set, unsigned kind, const void *key, size_t key_size,
             const void *value, size_t value_size, size_t value_capacity)
{
    struct mlib_write *write = mlib_writeset_take(set, sizeof *write + key_size + value_capacity);
    write->key_size = (uint16_t)key_size;
    write->value_capacity = (uint32_t)value_capacity;
    memcpy(write->bytes, key, key_size);
    write_fill(write, kind, value, value_size);
    return write;
}

/* Writes a key again. A value that has outgrown its place moves, with room to grow, so that what is left behind stays a
 * fraction of what is kept. */
static int
write_replace(struct mlib_writeset *set, struct mlib_write **slot, unsigned kind, const void *value,
              size_t value_size)
{
    struct mlib_write *write = *slot;
    if (value_size <= write->value_capacity) {
        write_fill(write, kind, value, value_size);
        return MSHM_OK;
    }
    size_t capacity = value_size + value_size / 2;
    int status = mlib_writeset_reserve(set, sizeof *write + write->key_size + capacity + 8);
    if (status != MSHM_OK)
        return status;
    *slot = write_create(set, kind, write->bytes, write->key_size, value, value_size, capacity);
    return MSHM_OK;
}

/* Enters a key that is not there; tree NULL: the bucket has none yet. */
static int
write_add(struct mlib_writeset *set, uint32_t bucket, struct mlib_write_tree *tree,
          const struct mlib_position *at, unsigned kind, const void *key, size_t key_size,
          const void *value, size_t value_size)
{
    int status = mlib_writeset_reserve(set, mlib_write_need(tree) + sizeof(struct mlib_write) +
                                                key_size + value_size + 8);
    if (status != MSHM_OK)
        return status;
    struct mlib_write *write =
        write_create(set, kind, key, key_size, value, value_size, value_size);
    set->count++;
    if (tree == NULL)
        mlib_write_tree_create(set, bucket, write);
    else
        mlib_write_insert(set, tree, at, write);
    return MSHM_OK;
}

int
mlib_writeset_put(struct mlib_writeset *set, uint32_t bucket, unsigned kind, const void *key,
                  size_t key_size, const void *value, size_t value_size)
{
    struct mlib_write_tree *tree = mlib_writeset_tree(set, bucket);
    struct mlib_position at = {.leaf = NULL};
    struct mlib_write **slot = NULL;
    if (tree != NULL) {
        at = mlib_write_seek(tree, key, key_size);
        slot = mlib_write_match(&at, key, key_size);
    }
    uint64_t bytes = set->bytes + mshm_op_size((uint16_t)key_size, (uint32_t)value_size);
    if (slot != NULL)
        bytes -= mshm_op_size((*slot)->key_size, (*slot)->value_size);
    if (bytes > MSHM_ARENA_MAX)
        return MSHM_TOO_BIG;
    int status = slot != NULL
                     ? write_replace(set, slot, kind, value, value_size)
                     : write_add(set, bucket, tree, &at, kind, key, key_size, value, value_size);
    if (status != MSHM_OK)
        return status;
    set->bytes = bytes;
    if (tree != NULL)
        set->last = tree;
    return MSHM_OK;
}

uint64_t
mlib_writeset_emit(const struct mlib_writeset *set, void *to)
{
    uint8_t *at = to;
    for (const struct mlib_write_tree *tree = set->trees; tree != NULL; tree = tree->next)
        for (const struct mlib_node *leaf = tree->first; leaf != NULL; leaf = leaf->next)
            for (unsigned i = 0; i < leaf->count; i++) {
                const struct mlib_write *write = leaf->keys[i];
                at += mshm_op_write(at, tree->bucket, write->kind, write->bytes, write->key_size,
                                    mlib_write_value(write), write->value_size);
            }
    return (uint64_t)(at - (uint8_t *)to);
}
