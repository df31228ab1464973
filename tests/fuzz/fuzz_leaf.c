/* fuzz_leaf.c - frames of arbitrary bytes through everything a reader does: no read outside, no endless walk.
 *
 * Input: one byte of mode, one of snapshot, one of key size, the key; then the frame: its bytes as they are, or patches
 * {offset u16, byte} for a sound leaf or inner page, which reach deeper than random bytes do.
 */
#include "mshm/inner.h"
#include "mshm/leaf.h"
#include "mshm/status.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { FRAME_SIZE = 4096, MAX_KEYS = 128 };

static uint64_t sink; /* what was read must not be optimized away */

static void
touch(const uint8_t *bytes, size_t size)
{
    for (size_t i = 0; i < size; i++)
        sink += bytes[i];
}

static void
must(int condition)
{
    if (!condition)
        abort();
}

static void
touch_version(const uint8_t *frame, uint32_t size, const struct mshm_version *version)
{
    must(version->value_size == 0 ||
         (version->value >= frame && version->value <= frame + size &&
          version->value_size <= (size_t)(frame + size - version->value)));
    must(version->key_size <= MSHM_MAX_KEY);
    touch(version->value, version->value_size);
    touch(version->key, version->key_size);
}

static void
search_leaf(const uint8_t *frame, uint32_t size, const uint8_t *key, size_t key_size,
            mshm_timestamp snapshot)
{
    struct mshm_version version;
    AO_t visible = snapshot;
    mshm_timestamp used;
    uint64_t hash = mshm_key_hash(key, key_size);
    if (mshm_leaf_get(frame, size, key, key_size, hash, snapshot, NULL, &version, NULL) ==
        MSHM_FOUND_VERSION)
        touch_version(frame, size, &version);
    if (mshm_leaf_get(frame, size, key, key_size, hash, 0, &visible, &version, &used) ==
        MSHM_FOUND_VERSION) {
        must(used == snapshot && version.timestamp <= used);
        touch_version(frame, size, &version);
    }
    if (mshm_leaf_newest(frame, size, key, key_size, hash, &version) == MSHM_FOUND_VERSION)
        touch_version(frame, size, &version);
}

static void
walk_leaf(const uint8_t *frame, uint32_t size, const uint8_t *key, size_t key_size,
          mshm_timestamp snapshot)
{
    static struct mshm_leaf_iterator iterator;
    struct mshm_version version;
    if (mshm_leaf_iterator_init(&iterator, frame, size) != MSHM_OK)
        return;
    uint32_t steps = 0, limit = iterator.key_count + iterator.tail_count;
    for (; mshm_leaf_iterator_next(&iterator, snapshot, &version) == MSHM_OK; steps++)
        touch_version(frame, size, &version);
    must(steps <= limit);
    steps = 0;
    for (; mshm_leaf_iterator_previous(&iterator, snapshot, &version) == MSHM_OK; steps++)
        touch_version(frame, size, &version);
    must(steps <= limit);
    if (mshm_leaf_iterator_seek(&iterator, key, key_size) != MSHM_OK)
        return;
    if (mshm_leaf_iterator_previous(&iterator, snapshot, &version) == MSHM_OK)
        touch_version(frame, size, &version);
    if (mshm_leaf_iterator_next(&iterator, snapshot, &version) == MSHM_OK)
        touch_version(frame, size, &version);
}

static void
take_leaf_apart(const uint8_t *frame, uint32_t size)
{
    static struct mshm_version versions[512];
    static uint8_t key_bytes[8192], copy[MSHM_MAX_FRAME] __attribute__((aligned(64)));
    int count = mshm_leaf_versions(frame, size, versions, 512, key_bytes, sizeof key_bytes);
    for (int i = 0; i < count; i++)
        touch_version(frame, size, &versions[i]);
    uint32_t meaningful = mshm_leaf_clone(frame, size, copy);
    must(meaningful <= size);
    if (meaningful != 0)
        mshm_leaf_check(copy, meaningful, NULL);
    mshm_leaf_check(frame, size, NULL);
}

static void
search_inner(const uint8_t *frame, uint32_t size, const uint8_t *key, size_t key_size)
{
    static struct mshm_separator separators[MAX_KEYS];
    static mshm_pid children[MAX_KEYS + 1];
    static uint8_t key_bytes[8192];
    struct mshm_fences fences;
    mshm_pid child;
    uint32_t index;
    for (int below = 0; below < 2; below++) {
        mshm_inner_find(frame, size, key, key_size, below, &child, &index);
        if (mshm_page_fences(frame, size, &fences) == MSHM_OK)
            mshm_fences_compare(&fences, key, key_size, below);
    }
    int count =
        mshm_inner_take(frame, size, separators, children, MAX_KEYS, key_bytes, sizeof key_bytes);
    must(count <= MAX_KEYS);
    for (int i = 0; i < count; i++)
        touch(separators[i].key, separators[i].size);
    mshm_inner_check(frame, size, NULL);
}

/* A sound page to be damaged: an inner page, or a leaf with tail and several versions per key. */
static void
build_page(uint8_t *frame, int inner)
{
    static uint8_t keys[MAX_KEYS][8];
    struct mshm_version versions[MAX_KEYS];
    struct mshm_separator separators[MAX_KEYS];
    mshm_pid children[MAX_KEYS + 1];
    for (uint32_t i = 0; i < MAX_KEYS; i++) {
        memcpy(keys[i], "key", 3);
        keys[i][3] = (uint8_t)(i / 3);
        versions[i] = (struct mshm_version){.key = keys[i],
                                            .key_size = 4,
                                            .value = keys[i],
                                            .value_size = i % 8,
                                            .timestamp = 200 - i % 3,
                                            .kind = MSHM_ENTRY_VALUE};
        separators[i] = (struct mshm_separator){keys[i], 8};
        keys[i][7] = (uint8_t)i;
        children[i] = i + 1;
    }
    children[MAX_KEYS] = MAX_KEYS + 1;
    struct mshm_inner_spec inner_spec = {.level = 1,
                                         .low = keys[0],
                                         .low_size = 2,
                                         .high_size = MSHM_FENCE_INFINITE,
                                         .separators = separators,
                                         .children = children,
                                         .count = MAX_KEYS};
    struct mshm_leaf_spec leaf_spec = {.kind = MSHM_PAGE_LEAF,
                                       .low = keys[0],
                                       .low_size = 2,
                                       .high_size = MSHM_FENCE_INFINITE,
                                       .versions = versions,
                                       .count = 60};
    if (inner) {
        must(mshm_inner_build(frame, FRAME_SIZE, &inner_spec) == MSHM_OK);
        return;
    }
    must(mshm_leaf_build(frame, FRAME_SIZE, &leaf_spec) == MSHM_OK);
    for (uint32_t i = 0; i < 20; i++) {
        struct mshm_version *version = &versions[i * 5];
        version->timestamp = 210 + i;
        must(mshm_leaf_append(frame, FRAME_SIZE, version,
                              mshm_key_hash(version->key, version->key_size)) == MSHM_OK);
    }
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 3 || size < 3u + data[2])
        return 0;
    unsigned mode = data[0] % 3;
    mshm_timestamp snapshot = data[1];
    size_t key_size = data[2];
    const uint8_t *key = data + 3, *rest = key + key_size;
    size -= 3 + key_size;
    /* A block of exactly the frame's size, so that every byte outside is poisoned. */
    uint32_t frame_size =
        mode == 0 ? (uint32_t)(size < MSHM_MAX_FRAME ? size : MSHM_MAX_FRAME) & ~7u : FRAME_SIZE;
    uint8_t *frame = NULL;
    if (posix_memalign((void **)&frame, MSHM_LINE, frame_size + (frame_size == 0)) != 0)
        return 0;
    if (mode == 0) {
        memcpy(frame, rest, frame_size);
    } else {
        build_page(frame, mode == 1);
        for (; size >= 3; size -= 3, rest += 3)
            frame[(rest[0] | rest[1] << 8) % FRAME_SIZE] = rest[2];
    }
    search_leaf(frame, frame_size, key, key_size, snapshot);
    walk_leaf(frame, frame_size, key, key_size, snapshot);
    take_leaf_apart(frame, frame_size);
    search_inner(frame, frame_size, key, key_size);
    free(frame);
    return 0;
}
