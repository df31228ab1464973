/* writeset.c - see writeset.h. Memory first, then the tree, then what the transaction calls. */
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "mlib.h"
#include "mshm/page.h"
#include "writeset.h"

/* ------------------------------------------------------------------------------------------------- memory */

enum {
    CHUNK_FIRST = 8 << 10,
    CHUNK_LARGEST = 1 << 20,
    CHUNK_KEPT = 256 << 10, /* bytes that an empty write set may keep */
};

struct mlib_chunk {
    struct mlib_chunk *next;
    size_t size, used; /* of bytes */
    _Alignas(8) uint8_t bytes[];
};

/* Makes sure that the next `size` bytes of allocations succeed, whatever their order. */
static int
memory_reserve(struct mlib_writeset *set, size_t size)
{
    struct mlib_chunk *chunk = set->chunks;
    if (chunk != NULL && chunk->size - chunk->used >= size)
        return MSHM_OK;
    size_t capacity = chunk == NULL ? CHUNK_FIRST : chunk->size * 2;
    if (capacity > CHUNK_LARGEST)
        capacity = CHUNK_LARGEST;
    if (capacity < size)
        capacity = size;
    int status = mlib_section_enter(NULL);
    if (status != MSHM_OK)
        return status;
    chunk = malloc(sizeof *chunk + capacity);
    mlib_section_leave();
    if (chunk == NULL)
        return MSHM_NO_MEMORY;
    *chunk = (struct mlib_chunk){.next = set->chunks, .size = capacity};
    set->chunks = chunk;
    return MSHM_OK;
}

/* Memory that was reserved; 8-aligned. */
static void *
memory_take(struct mlib_writeset *set, size_t size)
{
    struct mlib_chunk *chunk = set->chunks;
    void *taken = chunk->bytes + chunk->used;
    chunk->used += mshm_align_up(size, 8);
    return taken;
}

/* Frees all chunks but the largest one that may be kept, and returns that. */
static struct mlib_chunk *
chunks_free(struct mlib_chunk *chunk)
{
    struct mlib_chunk *kept = NULL;
    for (struct mlib_chunk *next; chunk != NULL; chunk = next) {
        next = chunk->next;
        if (kept == NULL && chunk->size <= CHUNK_KEPT)
            kept = chunk;
        else
            free(chunk);
    }
    if (kept != NULL)
        kept->next = NULL;
    return kept;
}

/* One chunk stays. A signal handler that may not free leaves them all, to be freed with the next write set. */
void
mlib_writeset_clear(struct mlib_writeset *set)
{
    struct mlib_chunk *chunks = set->chunks;
    bool spare = chunks != NULL && (chunks->next != NULL || chunks->size > CHUNK_KEPT);
    if (spare && mlib_section_enter(NULL) == MSHM_OK) {
        chunks = chunks_free(chunks);
        mlib_section_leave();
    }
    if (chunks != NULL)
        chunks->used = 0;
    *set = (struct mlib_writeset){.chunks = chunks};
}

void
mlib_writeset_fini(struct mlib_writeset *set)
{
    mlib_writeset_clear(set);
    free(set->chunks);
    set->chunks = NULL;
}

/* --------------------------------------------------------------------------------------------------- tree */

enum { NODE_CAPACITY = 64, HEIGHT_MAX = 8 };

/* A leaf: slot i is write i. An inner node: slot i is child i, keys[i] the first write that was below it when it was
 * split off; the first child holds everything below the second, so its own key is not looked at. */
struct node {
    uint64_t heads[NODE_CAPACITY];
    struct mlib_write *keys[NODE_CAPACITY];
    unsigned count;
    struct node *previous, *next; /* leaves */
};
struct inner {
    struct node node;
    struct node *children[NODE_CAPACITY];
};

struct mlib_write_tree {
    struct mlib_write_tree *next;
    struct node *root, *first, *last; /* first and last leaf */
    uint32_t bucket;
    unsigned height; /* 0: the root is a leaf */
    uint64_t count;
    const struct mlib_write *any; /* a write whose first prefix_size bytes all keys share */
    size_t prefix_size;
};

/* A key that is looked for, with its head. */
struct probe {
    const uint8_t *key;
    size_t key_size;
    uint64_t head;
};

static uint64_t
head_of(const struct mlib_write_tree *tree, const uint8_t *key, size_t key_size)
{
    uint64_t head = 0;
    if (key_size >= tree->prefix_size + 8)
        memcpy(&head, key + tree->prefix_size, 8);
    else if (key_size > tree->prefix_size)
        memcpy(&head, key + tree->prefix_size, key_size - tree->prefix_size);
    return __builtin_bswap64(head);
}

/* Order of a write's key against the probe, whose heads are equal. */
static int
key_order(const struct mlib_write *write, const struct probe *probe)
{
    return mshm_key_compare(write->bytes, write->key_size, probe->key, probe->key_size);
}

/* How many of the first `count` heads are below `head`. Without branches on what is found: the order is random. */
static unsigned
heads_below(const uint64_t *heads, unsigned count, uint64_t head)
{
    const uint64_t *at = heads;
    while (count > 1) {
        unsigned half = count / 2;
        at += at[half - 1] < head ? half : 0;
        count -= half;
    }
    return (unsigned)(at - heads) + (count == 1 && *at < head);
}

/* How many keys of a node, from `from` on, are below the probe; `closed`: or equal to it. */
static unsigned
node_rank(const struct node *node, unsigned from, const struct probe *probe, int closed)
{
    unsigned low = from + heads_below(node->heads + from, node->count - from, probe->head);
    unsigned high = low;
    while (high < node->count && node->heads[high] == probe->head)
        high++;
    while (low < high) {
        unsigned middle = low + (high - low) / 2;
        if (key_order(node->keys[middle], probe) < closed)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

/* Where a key stands or would stand: a place at the leaf's end means the next leaf's first, if there is one. */
struct position {
    struct node *leaf;
    unsigned place;
    bool shares; /* the key has the tree's prefix, so it has a head */
    uint64_t head;
};

/* The way from the root to a leaf: in each inner node the child that was taken. */
struct path {
    struct inner *nodes[HEIGHT_MAX];
    unsigned places[HEIGHT_MAX];
};

static struct node *
tree_descend(const struct mlib_write_tree *tree, const struct probe *probe, struct path *path)
{
    struct node *node = tree->root;
    for (unsigned level = tree->height; level > 0; level--) {
        struct inner *inner = (struct inner *)node;
        unsigned place = node_rank(node, 1, probe, 1) - 1;
        if (path != NULL) {
            path->nodes[level - 1] = inner;
            path->places[level - 1] = place;
        }
        node = inner->children[place];
    }
    return node;
}

/* Where a key stands against what all keys of the tree begin with: <0 and >0: below and above all of them. */
static int
prefix_order(const struct mlib_write_tree *tree, const uint8_t *key, size_t key_size)
{
    size_t common = key_size < tree->prefix_size ? key_size : tree->prefix_size;
    int order = memcmp(key, tree->any->bytes, common);
    return order != 0 ? order : key_size < tree->prefix_size ? -1 : 0;
}

static void
node_rehead(const struct mlib_write_tree *tree, struct node *node, unsigned level)
{
    for (unsigned i = 0; i < node->count; i++) {
        node->heads[i] = head_of(tree, node->keys[i]->bytes, node->keys[i]->key_size);
        if (level > 0)
            node_rehead(tree, ((struct inner *)node)->children[i], level - 1);
    }
}

/* Shortens the common prefix so that `key` has it, too. All heads are made anew, so in a large tree it shrinks by half at
 * least: at most twelve times. */
static void
prefix_shrink(struct mlib_write_tree *tree, const uint8_t *key, size_t key_size)
{
    size_t common = 0;
    while (common < key_size && common < tree->prefix_size &&
           key[common] == tree->any->bytes[common])
        common++;
    if (common == tree->prefix_size)
        return;
    if (tree->count > 1024 && common > tree->prefix_size / 2)
        common = tree->prefix_size / 2;
    tree->prefix_size = common;
    node_rehead(tree, tree->root, tree->height);
}

static void
slots_open(struct node *node, unsigned place)
{
    size_t moved = node->count - place;
    memmove(node->heads + place + 1, node->heads + place, moved * sizeof node->heads[0]);
    memmove(node->keys + place + 1, node->keys + place, moved * sizeof node->keys[0]);
    node->count++;
}

/* Moves the slots from `place` on to an empty node. */
static void
slots_move(struct node *from, unsigned place, struct node *to)
{
    to->count = from->count - place;
    memcpy(to->heads, from->heads + place, to->count * sizeof to->heads[0]);
    memcpy(to->keys, from->keys + place, to->count * sizeof to->keys[0]);
    from->count = place;
}

/* Where a full node is divided: behind the end for keys that come in ascending order, so that nodes fill. */
static unsigned
split_place(unsigned insert_at)
{
    return insert_at == NODE_CAPACITY ? NODE_CAPACITY : NODE_CAPACITY / 2;
}

static void
inner_insert(struct inner *inner, unsigned place, struct mlib_write *key, uint64_t head,
             struct node *child)
{
    size_t moved = inner->node.count - place;
    memmove(inner->children + place + 1, inner->children + place,
            moved * sizeof inner->children[0]);
    slots_open(&inner->node, place);
    inner->node.heads[place] = head;
    inner->node.keys[place] = key;
    inner->children[place] = child;
}

static void
root_raise(struct mlib_writeset *set, struct mlib_write_tree *tree, struct mlib_write *key,
           uint64_t head, struct node *right)
{
    struct inner *root = memory_take(set, sizeof *root);
    root->node.count = 2;
    root->node.heads[0] = tree->root->heads[0];
    root->node.keys[0] = tree->root->keys[0];
    root->children[0] = tree->root;
    root->node.heads[1] = head;
    root->node.keys[1] = key;
    root->children[1] = right;
    tree->root = &root->node;
    tree->height++;
}

/* Enters a new right neighbour of the child that `path` took on level 1 into the inner nodes, splitting them as needed. */
static void
path_insert(struct mlib_writeset *set, struct mlib_write_tree *tree, struct path *path,
            struct mlib_write *key, uint64_t head, struct node *child)
{
    for (unsigned level = 0; level < tree->height; level++) {
        struct inner *inner = path->nodes[level];
        unsigned place = path->places[level] + 1;
        if (inner->node.count < NODE_CAPACITY) {
            inner_insert(inner, place, key, head, child);
            return;
        }
        struct inner *right = memory_take(set, sizeof *right);
        unsigned split = split_place(place);
        size_t moved = NODE_CAPACITY - split;
        memcpy(right->children, inner->children + split, moved * sizeof right->children[0]);
        slots_move(&inner->node, split, &right->node);
        if (place >= split)
            inner_insert(right, place - split, key, head, child);
        else
            inner_insert(inner, place, key, head, child);
        child = &right->node;
        key = right->node.keys[0];
        head = right->node.heads[0];
    }
    root_raise(set, tree, key, head, child);
}

static void
leaf_link(struct mlib_write_tree *tree, struct node *left, struct node *right)
{
    right->previous = left;
    right->next = left->next;
    if (left->next != NULL)
        left->next->previous = right;
    else
        tree->last = right;
    left->next = right;
}

static void
leaf_insert(struct node *leaf, unsigned place, struct mlib_write *write, uint64_t head)
{
    slots_open(leaf, place);
    leaf->heads[place] = head;
    leaf->keys[place] = write;
}

/* Splits a full leaf and inserts. Memory was reserved. */
static void
leaf_split(struct mlib_writeset *set, struct mlib_write_tree *tree, struct path *path,
           struct node *leaf, unsigned place, struct mlib_write *write, uint64_t head)
{
    struct node *right = memory_take(set, sizeof *right);
    unsigned split = split_place(place);
    slots_move(leaf, split, right);
    leaf_link(tree, leaf, right);
    if (place >= split)
        leaf_insert(right, place - split, write, head);
    else
        leaf_insert(leaf, place, write, head);
    path_insert(set, tree, path, right->keys[0], right->heads[0], right);
}

/* Is the probe above every key of the tree? */
static int
tree_above(const struct mlib_write_tree *tree, const struct probe *probe)
{
    const struct node *last = tree->last;
    uint64_t head = last->heads[last->count - 1];
    return probe->head > head ||
           (probe->head == head && key_order(last->keys[last->count - 1], probe) < 0);
}

/* Enters a write whose key is not there at the place that tree_seek told. Memory for the nodes was reserved. Only a full
 * leaf needs the way to it, and only a key that shortens the prefix other heads: places do not change by that. */
static void
tree_insert(struct mlib_writeset *set, struct mlib_write_tree *tree, const struct position *at,
            struct mlib_write *write)
{
    struct probe probe = {write->bytes, write->key_size, at->head};
    if (!at->shares) {
        prefix_shrink(tree, write->bytes, write->key_size);
        probe.head = head_of(tree, write->bytes, write->key_size);
    }
    tree->count++;
    if (at->leaf->count < NODE_CAPACITY) {
        leaf_insert(at->leaf, at->place, write, probe.head);
        return;
    }
    struct path path;
    (void)tree_descend(tree, &probe, &path);
    leaf_split(set, tree, &path, at->leaf, at->place, write, probe.head);
}

/* ------------------------------------------------------------------------------------------------ look-ups */

/* Finds the first key >= the one given. */
static struct position
tree_seek(const struct mlib_write_tree *tree, const void *key, size_t key_size)
{
    int order = prefix_order(tree, key, key_size);
    if (order < 0)
        return (struct position){.leaf = tree->first, .place = 0};
    if (order > 0)
        return (struct position){.leaf = tree->last, .place = tree->last->count};
    struct probe probe = {key, key_size, head_of(tree, key, key_size)};
    struct position at = {.leaf = tree->last, .head = probe.head, .shares = true};
    if (tree_above(tree, &probe)) {
        at.place = at.leaf->count;
        return at;
    }
    at.leaf = tree_descend(tree, &probe, NULL);
    at.place = node_rank(at.leaf, 0, &probe, 0);
    return at;
}

/* The slot of a key at the position that tree_seek told, or NULL. An equal key would stand in that leaf, because
 * separators send equal keys to the right. */
static struct mlib_write **
slot_match(const struct position *at, const void *key, size_t key_size)
{
    if (!at->shares || at->place == at->leaf->count || at->leaf->heads[at->place] != at->head)
        return NULL;
    const struct mlib_write *write = at->leaf->keys[at->place];
    return write->key_size == key_size && memcmp(write->bytes, key, key_size) == 0
               ? &at->leaf->keys[at->place]
               : NULL;
}

const struct mlib_write *
mlib_write_find(const struct mlib_write_tree *tree, const void *key, size_t key_size)
{
    struct position at = tree_seek(tree, key, key_size);
    struct mlib_write **slot = slot_match(&at, key, key_size);
    return slot == NULL ? NULL : *slot;
}

const struct mlib_write *
mlib_write_ceiling(const struct mlib_write_tree *tree, const void *key, size_t key_size)
{
    struct position at = tree_seek(tree, key, key_size);
    if (at.place < at.leaf->count)
        return at.leaf->keys[at.place];
    return at.leaf->next == NULL ? NULL : at.leaf->next->keys[0];
}

const struct mlib_write *
mlib_write_below(const struct mlib_write_tree *tree, const void *key, size_t key_size)
{
    struct position at = tree_seek(tree, key, key_size);
    if (at.place > 0)
        return at.leaf->keys[at.place - 1];
    const struct node *previous = at.leaf->previous;
    return previous == NULL ? NULL : previous->keys[previous->count - 1];
}

const struct mlib_write *
mlib_write_last(const struct mlib_write_tree *tree)
{
    return tree->last->keys[tree->last->count - 1];
}

/* ----------------------------------------------------------------------------------------------- write set */

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

/* A new tree with its first write. Memory was reserved. */
static void
tree_create(struct mlib_writeset *set, uint32_t bucket, struct mlib_write *write)
{
    struct mlib_write_tree *tree = memory_take(set, sizeof *tree);
    struct node *root = memory_take(set, sizeof *root);
    struct mlib_write_tree **link = &set->trees;
    while (*link != NULL && (*link)->bucket < bucket)
        link = &(*link)->next;
    root->count = 0;
    root->previous = root->next = NULL;
    *tree = (struct mlib_write_tree){
        .next = *link,
        .root = root,
        .first = root,
        .last = root,
        .bucket = bucket,
        .count = 1,
        .any = write,
        .prefix_size = write->key_size,
    };
    *link = tree;
    set->last = tree;
    leaf_insert(root, 0, write, 0);
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
    struct mlib_write *write = memory_take(set, sizeof *write + key_size + value_capacity);
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
    int status = memory_reserve(set, sizeof *write + write->key_size + capacity + 8);
    if (status != MSHM_OK)
        return status;
    *slot = write_create(set, kind, write->bytes, write->key_size, value, value_size, capacity);
    return MSHM_OK;
}

/* Bytes that entering one more write may take for nodes and tree. */
static size_t
nodes_need(const struct mlib_write_tree *tree)
{
    if (tree == NULL)
        return sizeof(struct mlib_write_tree) + sizeof(struct node);
    if (tree->height == 0 && tree->root->count < NODE_CAPACITY)
        return 0;
    return sizeof(struct node) + (tree->height + 1) * sizeof(struct inner);
}

/* Enters a key that is not there; tree NULL: the bucket has none yet. */
static int
write_add(struct mlib_writeset *set, uint32_t bucket, struct mlib_write_tree *tree,
          const struct position *at, unsigned kind, const void *key, size_t key_size,
          const void *value, size_t value_size)
{
    int status = memory_reserve(set, nodes_need(tree) + sizeof(struct mlib_write) + key_size +
                                         value_size + 8);
    if (status != MSHM_OK)
        return status;
    struct mlib_write *write =
        write_create(set, kind, key, key_size, value, value_size, value_size);
    set->count++;
    if (tree == NULL)
        tree_create(set, bucket, write);
    else
        tree_insert(set, tree, at, write);
    return MSHM_OK;
}

int
mlib_writeset_put(struct mlib_writeset *set, uint32_t bucket, unsigned kind, const void *key,
                  size_t key_size, const void *value, size_t value_size)
{
    struct mlib_write_tree *tree = mlib_writeset_tree(set, bucket);
    struct position at = {.leaf = NULL};
    struct mlib_write **slot = NULL;
    if (tree != NULL) {
        at = tree_seek(tree, key, key_size);
        slot = slot_match(&at, key, key_size);
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
        for (const struct node *leaf = tree->first; leaf != NULL; leaf = leaf->next)
            for (unsigned i = 0; i < leaf->count; i++) {
                const struct mlib_write *write = leaf->keys[i];
                at += mshm_op_write(at, tree->bucket, write->kind, write->bytes, write->key_size,
                                    mlib_write_value(write), write->value_size);
            }
    return (uint64_t)(at - (uint8_t *)to);
}
