/* writeset_parts.h - what the files of the write set share: memory, nodes, places. */
#ifndef MLIB_WRITESET_PARTS_H
#define MLIB_WRITESET_PARTS_H

#include <stdbool.h>

#include "mshm/base.h"
#include "writeset.h"

enum { MLIB_NODE_CAPACITY = 64 };

struct mlib_chunk {
    struct mlib_chunk *next;
    size_t size, used; /* of bytes */
    _Alignas(8) uint8_t bytes[];
};

/* Memory that was reserved; 8-aligned. */
static inline void *
mlib_writeset_take(struct mlib_writeset *set, size_t size)
{
    struct mlib_chunk *chunk = set->chunks;
    void *taken = chunk->bytes + chunk->used;
    chunk->used += mshm_align_up(size, 8);
    return taken;
}

/* A leaf: slot i is write i. An inner node: slot i is child i, keys[i] the first write that was below it when it was
 * split off; the first child holds everything below the second, so its own key is not looked at. */
struct mlib_node {
    uint64_t heads[MLIB_NODE_CAPACITY];
    struct mlib_write *keys[MLIB_NODE_CAPACITY];
    unsigned count;
    struct mlib_node *previous, *next; /* leaves */
};
struct mlib_inner {
    struct mlib_node node;
    struct mlib_node *children[MLIB_NODE_CAPACITY];
};

struct mlib_write_tree {
    struct mlib_write_tree *next;
    struct mlib_node *root, *first, *last; /* first and last leaf */
    uint32_t bucket;
    unsigned height; /* 0: the root is a leaf */
    uint64_t count;
    const struct mlib_write *any; /* a write whose first prefix_size bytes all keys share */
    size_t prefix_size;
};

/* Where a key stands or would stand: a place at the leaf's end means the next leaf's first, if there is one. */
struct mlib_position {
    struct mlib_node *leaf;
    unsigned place;
    bool shares; /* the key has the tree's prefix, so it has a head */
    uint64_t head;
};

/* writeset_memory.c. Makes sure that the next `size` bytes of allocations succeed, whatever their order. */
int mlib_writeset_reserve(struct mlib_writeset *set, size_t size);

/* writeset_tree.c. Finds the first key >= the one given. */
struct mlib_position mlib_write_seek(const struct mlib_write_tree *tree, const void *key,
                                     size_t key_size);
/* The slot of a key at the position that mlib_write_seek told, or NULL. */
struct mlib_write **mlib_write_match(const struct mlib_position *at, const void *key,
                                     size_t key_size);
/* Bytes that entering one more write may take for nodes and tree; NULL: the bucket has no tree yet. */
size_t mlib_write_need(const struct mlib_write_tree *tree);
/* Enters a write whose key is not there at the place that mlib_write_seek told. Memory for the nodes was reserved. */
void mlib_write_insert(struct mlib_writeset *set, struct mlib_write_tree *tree,
                       const struct mlib_position *at, struct mlib_write *write);
/* A new tree with its first write. Memory was reserved. */
void mlib_write_tree_create(struct mlib_writeset *set, uint32_t bucket, struct mlib_write *write);

#endif
