/* tree_fixture.h - a small store in private memory and hand-made trees in it, for the tests of reading. */
#ifndef TREE_FIXTURE_H
#define TREE_FIXTURE_H

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "mshm/inner.h"
#include "mshm/leaf.h"
#include "mshm/protocol.h"
#include "mshm/read.h"
#include "mshm/status.h"

enum {
    TREE_PIDS = 4096,
    TREE_FRAME = 4096,
    TREE_FRAMES = 2048,
    TREE_BUCKET = 7,
    TREE_ROOT = 1,
};

static uint8_t *tree_base;
static struct mshm_store_geometry tree_geometry;
static struct mshm_view view;
static struct mshm_lane lane;
static uint8_t tree_hints[TREE_FRAMES];
static const struct mshm_tree_ref tree = {.bucket = TREE_BUCKET, .root = TREE_ROOT};
static unsigned tree_frames_used;

static inline struct mshm_store *
tree_store(void)
{
    return (struct mshm_store *)tree_base;
}

static inline void
tree_set_up(void)
{
    static const uint8_t id[16];
    mshm_store_geometry_compute((uint64_t)TREE_FRAME * TREE_FRAMES, TREE_PIDS, &tree_geometry);
    tree_base = aligned_alloc(65536, tree_geometry.store_size);
    ck_assert_ptr_nonnull(tree_base);
    memset(tree_base, 0, tree_geometry.store_size);
    mshm_store_init(tree_base, &tree_geometry, 1, id, 1);
    memset(tree_hints, 0, sizeof(tree_hints));
    memset(&lane, 0, sizeof(lane));
    ck_assert_int_eq(mshm_view_init(&view, tree_base, tree_geometry.store_size, tree_hints),
                     MSHM_OK);
    AO_store(&tree_store()->visible, 1000);
    tree_frames_used = 0;
}

static inline void
tree_tear_down(void)
{
    free(tree_base);
}

/* A frame that was never used before; numbers count from 0. */
static inline unsigned
tree_frame_take(void)
{
    ck_assert_uint_lt(tree_frames_used, TREE_FRAMES);
    return tree_frames_used++;
}
static inline uint8_t *
tree_frame(unsigned number)
{
    return tree_base + tree_geometry.frames_offset + (uint64_t)number * TREE_FRAME;
}
static inline AO_t
tree_word(unsigned number, unsigned hint)
{
    return mshm_map_word(tree_geometry.frames_offset + (uint64_t)number * TREE_FRAME, 0, hint);
}
static inline AO_t *
tree_map(mshm_pid pid)
{
    return (AO_t *)(tree_base + tree_geometry.map_offset) + pid;
}
static inline void
tree_publish(mshm_pid pid, unsigned frame)
{
    const struct mshm_page *page = (const struct mshm_page *)tree_frame(frame);
    AO_store_release(tree_map(pid),
                     tree_word(frame, page->kind == MSHM_PAGE_LEAF ? mshm_leaf_hint(page) : 0));
}

/* Keys are six digits. */
static inline void
tree_key(unsigned number, char key[8])
{
    snprintf(key, 8, "%06u", number % 1000000);
}

/* A version list under construction; owns its keys and values. */
struct tree_versions {
    struct mshm_version versions[256];
    char keys[256][8], values[256][24];
    uint32_t count;
};
static inline void
tree_version(struct tree_versions *list, unsigned number, mshm_timestamp timestamp, unsigned kind)
{
    uint32_t i = list->count++;
    tree_key(number, list->keys[i]);
    snprintf(list->values[i], sizeof(list->values[i]), "%u@%u", number, (unsigned)timestamp);
    list->versions[i] = (struct mshm_version){
        .key = (const uint8_t *)list->keys[i],
        .key_size = 6,
        .value = (const uint8_t *)list->values[i],
        .value_size = kind == MSHM_ENTRY_TOMBSTONE ? 0 : (uint32_t)strlen(list->values[i]),
        .timestamp = timestamp,
        .kind = (uint8_t)kind,
    };
}

/* Numbers that mean no bound. */
enum { TREE_FIRST = 0, TREE_END = 1000000 };

/* Builds a leaf or history page of the versions in a new frame (not published). low and high are key numbers; TREE_FIRST
 * is minus infinity and TREE_END plus infinity. */
static inline unsigned
tree_leaf_build(mshm_pid pid, mshm_pid right, unsigned low, unsigned high, AO_t history,
                uint8_t kind, const struct tree_versions *list)
{
    char low_key[8], high_key[8];
    unsigned frame = tree_frame_take();
    tree_key(low, low_key);
    tree_key(high, high_key);
    struct mshm_leaf_spec spec = {
        .pid = pid,
        .right = right,
        .bucket = TREE_BUCKET,
        .kind = kind,
        .low = (const uint8_t *)low_key,
        .low_size = low == TREE_FIRST ? 0 : 6,
        .high = (const uint8_t *)high_key,
        .high_size = high == TREE_END ? MSHM_FENCE_INFINITE : 6,
        .history = history,
        .versions = list->versions,
        .count = list->count,
    };
    ck_assert_int_eq(mshm_leaf_build(tree_frame(frame), TREE_FRAME, &spec), MSHM_OK);
    return frame;
}

/* A leaf with keys low, low + step ... below high, all at timestamp 10. */
static inline unsigned
tree_leaf(mshm_pid pid, mshm_pid right, unsigned low, unsigned high, unsigned step)
{
    struct tree_versions *list = calloc(1, sizeof(*list));
    for (unsigned number = low; number < high && list->count < 64; number += step)
        tree_version(list, number, 10, MSHM_ENTRY_VALUE);
    unsigned frame = tree_leaf_build(pid, right, low, high, 0, MSHM_PAGE_LEAF, list);
    free(list);
    return frame;
}

/* An inner page over `count + 1` children; separators are key numbers. */
static inline unsigned
tree_inner(mshm_pid pid, mshm_pid right, uint8_t level, unsigned low, unsigned high, uint32_t count,
           const unsigned *separators, const mshm_pid *children)
{
    char low_key[8], high_key[8], keys[256][8];
    struct mshm_separator list[256];
    unsigned frame = tree_frame_take();
    tree_key(low, low_key);
    tree_key(high, high_key);
    for (uint32_t i = 0; i < count; i++) {
        tree_key(separators[i], keys[i]);
        list[i] = (struct mshm_separator){.key = (const uint8_t *)keys[i], .size = 6};
    }
    struct mshm_inner_spec spec = {
        .pid = pid,
        .right = right,
        .bucket = TREE_BUCKET,
        .level = level,
        .low = (const uint8_t *)low_key,
        .low_size = low == TREE_FIRST ? 0 : 6,
        .high = (const uint8_t *)high_key,
        .high_size = high == TREE_END ? MSHM_FENCE_INFINITE : 6,
        .separators = list,
        .children = children,
        .count = count,
    };
    ck_assert_int_eq(mshm_inner_build(tree_frame(frame), TREE_FRAME, &spec), MSHM_OK);
    return frame;
}

/* Appends a version to the leaf that a pid leads to. */
static inline void
tree_append(mshm_pid pid, unsigned number, mshm_timestamp timestamp, unsigned kind)
{
    struct tree_versions *list = calloc(1, sizeof(*list));
    tree_version(list, number, timestamp, kind);
    uint8_t *frame = tree_base + mshm_map_frame(*tree_map(pid));
    ck_assert_int_eq(
        mshm_leaf_append(frame, TREE_FRAME, &list->versions[0], mshm_key_hash(list->keys[0], 6)),
        MSHM_OK);
    free(list);
}

/* Reads a key by its number; the answer's text in `value` (24 bytes). */
static inline int
tree_get(unsigned number, mshm_timestamp snapshot, char *value)
{
    char key[8];
    uint64_t size = 99;
    unsigned kind;
    mshm_pid missing;
    tree_key(number, key);
    int status =
        mshm_get(&view, &lane, NULL, tree, key, 6, snapshot, value, 23, &size, &kind, &missing);
    if (status == MSHM_OK)
        value[size] = '\0';
    ck_assert_uint_eq(lane.epoch, 0);
    return status;
}
#define TREE_HAS(number, snapshot, text)                               \
    do {                                                               \
        char value_[24] = "";                                          \
        ck_assert_int_eq(tree_get(number, snapshot, value_), MSHM_OK); \
        ck_assert_str_eq(value_, text);                                \
    } while (0)
#define TREE_LACKS(number, snapshot)                                          \
    do {                                                                      \
        char value_[24] = "";                                                 \
        ck_assert_int_eq(tree_get(number, snapshot, value_), MSHM_NOT_FOUND); \
    } while (0)

/* The standard tree: root 1 over leaves 2, 3, 4 with even numbers of [0,100), [100,200), [200,infinity). */
static inline void
standard_tree(void)
{
    static const unsigned separators[] = {100, 200};
    static const mshm_pid children[] = {2, 3, 4};
    tree_publish(2, tree_leaf(2, 3, TREE_FIRST, 100, 2));
    tree_publish(3, tree_leaf(3, 4, 100, 200, 2));
    struct tree_versions *list = calloc(1, sizeof(*list));
    for (unsigned number = 200; number < 300; number += 2)
        tree_version(list, number, 10, MSHM_ENTRY_VALUE);
    tree_publish(4, tree_leaf_build(4, 0, 200, TREE_END, 0, MSHM_PAGE_LEAF, list));
    free(list);
    tree_publish(1, tree_inner(1, 0, 1, TREE_FIRST, TREE_END, 2, separators, children));
}

/* Key 5: 100..91 in the leaf, 90..81, 80..71 and 70..61 on three history pages; key 6 has one version, 50. */
static inline void
history_tree(void)
{
    AO_t link = 0;
    for (unsigned page = 3; page >= 1; page--) {
        struct tree_versions list = {.count = 0};
        for (unsigned i = 0; i < 10; i++)
            tree_version(&list, 5, 100 - page * 10 - i, MSHM_ENTRY_VALUE);
        unsigned frame =
            tree_leaf_build(1, 0, TREE_FIRST, TREE_END, link, MSHM_PAGE_HISTORY, &list);
        link = tree_word(frame, 0);
    }
    struct tree_versions list = {.count = 0};
    for (unsigned i = 0; i < 10; i++)
        tree_version(&list, 5, 100 - i, MSHM_ENTRY_VALUE);
    tree_version(&list, 6, 50, MSHM_ENTRY_VALUE);
    tree_publish(1, tree_leaf_build(1, 0, TREE_FIRST, TREE_END, link, MSHM_PAGE_LEAF, &list));
}

#endif
