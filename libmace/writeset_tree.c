/* writeset_tree.c - the writes of one bucket in order: a B+tree with the heads of keys in its nodes. */
#include <string.h>

#include "mshm/page.h"
#include "writeset_parts.h"

enum { HEIGHT_MAX = 8 };

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
node_rank(const struct mlib_node *node, unsigned from, const struct probe *probe, int closed)
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

/* The way from the root to a leaf: in each inner node the child that was taken. */
struct path {
    struct mlib_inner *nodes[HEIGHT_MAX];
    unsigned places[HEIGHT_MAX];
};

static struct mlib_node *
tree_descend(const struct mlib_write_tree *tree, const struct probe *probe, struct path *path)
{
    struct mlib_node *node = tree->root;
    for (unsigned level = tree->height; level > 0; level--) {
        struct mlib_inner *inner = (struct mlib_inner *)node;
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
node_rehead(const struct mlib_write_tree *tree, struct mlib_node *node, unsigned level)
{
    for (unsigned i = 0; i < node->count; i++) {
        node->heads[i] = head_of(tree, node->keys[i]->bytes, node->keys[i]->key_size);
        if (level > 0)
            node_rehead(tree, ((struct mlib_inner *)node)->children[i], level - 1);
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
slots_open(struct mlib_node *node, unsigned place)
{
    size_t moved = node->count - place;
    memmove(node->heads + place + 1, node->heads + place, moved * sizeof node->heads[0]);
    memmove(node->keys + place + 1, node->keys + place, moved * sizeof node->keys[0]);
    node->count++;
}

/* Moves the slots from `place` on to an empty node. */
static void
slots_move(struct mlib_node *from, unsigned place, struct mlib_node *to)
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
    return insert_at == MLIB_NODE_CAPACITY ? MLIB_NODE_CAPACITY : MLIB_NODE_CAPACITY / 2;
}

static void
inner_insert(struct mlib_inner *inner, unsigned place, struct mlib_write *key, uint64_t head,
             struct mlib_node *child)
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
           uint64_t head, struct mlib_node *right)
{
    struct mlib_inner *root = mlib_writeset_take(set, sizeof *root);
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
            struct mlib_write *key, uint64_t head, struct mlib_node *child)
{
    for (unsigned level = 0; level < tree->height; level++) {
        struct mlib_inner *inner = path->nodes[level];
        unsigned place = path->places[level] + 1;
        if (inner->node.count < MLIB_NODE_CAPACITY) {
            inner_insert(inner, place, key, head, child);
            return;
        }
        struct mlib_inner *right = mlib_writeset_take(set, sizeof *right);
        unsigned split = split_place(place);
        size_t moved = MLIB_NODE_CAPACITY - split;
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
leaf_link(struct mlib_write_tree *tree, struct mlib_node *left, struct mlib_node *right)
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
leaf_insert(struct mlib_node *leaf, unsigned place, struct mlib_write *write, uint64_t head)
{
    slots_open(leaf, place);
    leaf->heads[place] = head;
    leaf->keys[place] = write;
}

/* Splits a full leaf and inserts. Memory was reserved. */
static void
leaf_split(struct mlib_writeset *set, struct mlib_write_tree *tree, struct path *path,
           struct mlib_node *leaf, unsigned place, struct mlib_write *write, uint64_t head)
{
    struct mlib_node *right = mlib_writeset_take(set, sizeof *right);
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
    const struct mlib_node *last = tree->last;
    uint64_t head = last->heads[last->count - 1];
    return probe->head > head ||
           (probe->head == head && key_order(last->keys[last->count - 1], probe) < 0);
}

/* Only a full
 * leaf needs the way to it, and only a key that shortens the prefix other heads: places do not change by that. */
void
mlib_write_insert(struct mlib_writeset *set, struct mlib_write_tree *tree,
                  const struct mlib_position *at, struct mlib_write *write)
{
    struct probe probe = {write->bytes, write->key_size, at->head};
    if (!at->shares) {
        prefix_shrink(tree, write->bytes, write->key_size);
        probe.head = head_of(tree, write->bytes, write->key_size);
    }
    tree->count++;
    if (at->leaf->count < MLIB_NODE_CAPACITY) {
        leaf_insert(at->leaf, at->place, write, probe.head);
        return;
    }
    struct path path;
    (void)tree_descend(tree, &probe, &path);
    leaf_split(set, tree, &path, at->leaf, at->place, write, probe.head);
}

void
mlib_write_tree_create(struct mlib_writeset *set, uint32_t bucket, struct mlib_write *write)
{
    struct mlib_write_tree *tree = mlib_writeset_take(set, sizeof *tree);
    struct mlib_node *root = mlib_writeset_take(set, sizeof *root);
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

size_t
mlib_write_need(const struct mlib_write_tree *tree)
{
    if (tree == NULL)
        return sizeof(struct mlib_write_tree) + sizeof(struct mlib_node);
    if (tree->height == 0 && tree->root->count < MLIB_NODE_CAPACITY)
        return 0;
    return sizeof(struct mlib_node) + (tree->height + 1) * sizeof(struct mlib_inner);
}

/* --- look-ups --- */

struct mlib_position
mlib_write_seek(const struct mlib_write_tree *tree, const void *key, size_t key_size)
{
    int order = prefix_order(tree, key, key_size);
    if (order < 0)
        return (struct mlib_position){.leaf = tree->first, .place = 0};
    if (order > 0)
        return (struct mlib_position){.leaf = tree->last, .place = tree->last->count};
    struct probe probe = {key, key_size, head_of(tree, key, key_size)};
    struct mlib_position at = {.leaf = tree->last, .head = probe.head, .shares = true};
    if (tree_above(tree, &probe)) {
        at.place = at.leaf->count;
        return at;
    }
    at.leaf = tree_descend(tree, &probe, NULL);
    at.place = node_rank(at.leaf, 0, &probe, 0);
    return at;
}

/* An equal key would stand in that leaf, because
 * separators send equal keys to the right. */
struct mlib_write **
mlib_write_match(const struct mlib_position *at, const void *key, size_t key_size)
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
    struct mlib_position at = mlib_write_seek(tree, key, key_size);
    struct mlib_write **slot = mlib_write_match(&at, key, key_size);
    return slot == NULL ? NULL : *slot;
}

const struct mlib_write *
mlib_write_ceiling(const struct mlib_write_tree *tree, const void *key, size_t key_size)
{
    struct mlib_position at = mlib_write_seek(tree, key, key_size);
    if (at.place < at.leaf->count)
        return at.leaf->keys[at.place];
    return at.leaf->next == NULL ? NULL : at.leaf->next->keys[0];
}

const struct mlib_write *
mlib_write_below(const struct mlib_write_tree *tree, const void *key, size_t key_size)
{
    struct mlib_position at = mlib_write_seek(tree, key, key_size);
    if (at.place > 0)
        return at.leaf->keys[at.place - 1];
    const struct mlib_node *previous = at.leaf->previous;
    return previous == NULL ? NULL : previous->keys[previous->count - 1];
}

const struct mlib_write *
mlib_write_last(const struct mlib_write_tree *tree)
{
    return tree->last->keys[tree->last->count - 1];
}
