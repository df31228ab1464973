/* page_fixture.h - random keys and versions, and a sorted oracle, for the tests of leaves and inner pages. */
#ifndef PAGE_FIXTURE_H
#define PAGE_FIXTURE_H

#include "mshm/leaf.h"
#include "mshm/status.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* splitmix64 (Steele, Lea, Flood, 2014). */
static uint64_t random_state;
static inline uint64_t
random_next(void)
{
    uint64_t z = random_state += UINT64_C(0x9e3779b97f4a7c15);
    z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
    return z ^ z >> 31;
}
static inline uint32_t
random_below(uint32_t bound)
{
    return (uint32_t)(random_next() % bound);
}
/* MACE_SEED, or a fixed start; printed so that a failure can be run again. */
static inline void
random_seed(const char *test)
{
    const char *text = getenv("MACE_SEED");
    random_state = text != NULL ? strtoull(text, NULL, 0) : 20240611;
    printf("%s: MACE_SEED=%llu\n", test, (unsigned long long)random_state);
}

enum { FIXTURE_MAX_VERSIONS = 512 };

/* Versions in page order (ascending keys, newest first) that own their bytes. */
struct oracle {
    struct mshm_version versions[FIXTURE_MAX_VERSIONS];
    uint32_t count;
    uint8_t *bytes;
    size_t used, room;
};

static inline void
oracle_init(struct oracle *oracle, size_t room)
{
    oracle->count = 0;
    oracle->bytes = malloc(room);
    oracle->used = 0;
    oracle->room = room;
}
static inline void
oracle_fini(struct oracle *oracle)
{
    free(oracle->bytes);
}
static inline const uint8_t *
oracle_keep(struct oracle *oracle, const void *bytes, size_t size)
{
    if (oracle->used + size > oracle->room)
        abort();
    uint8_t *copy = oracle->bytes + oracle->used;
    if (size != 0)
        memcpy(copy, bytes, size);
    oracle->used += size;
    return copy;
}
static inline int
version_order(const struct mshm_version *a, const struct mshm_version *b)
{
    size_t common = a->key_size < b->key_size ? a->key_size : b->key_size;
    int order = memcmp(a->key, b->key, common);
    if (order == 0)
        order = (a->key_size > b->key_size) - (a->key_size < b->key_size);
    if (order == 0)
        order = (a->timestamp < b->timestamp) - (a->timestamp > b->timestamp);
    return order;
}
/* Inserts a version at its place; a second one of the same key and timestamp is ignored. Returns it or NULL. */
static inline struct mshm_version *
oracle_add(struct oracle *oracle, const void *key, size_t key_size, mshm_timestamp timestamp,
           unsigned kind, const void *value, size_t value_size)
{
    struct mshm_version version = {
        .key = oracle_keep(oracle, key, key_size),
        .value = oracle_keep(oracle, value, value_size),
        .timestamp = timestamp,
        .value_size = (uint32_t)value_size,
        .key_size = (uint16_t)key_size,
        .kind = (uint8_t)kind,
    };
    uint32_t at = oracle->count;
    while (at > 0 && version_order(&version, &oracle->versions[at - 1]) <= 0)
        at--;
    if (at < oracle->count && version_order(&version, &oracle->versions[at]) == 0)
        return NULL;
    if (oracle->count == FIXTURE_MAX_VERSIONS)
        abort();
    memmove(&oracle->versions[at + 1], &oracle->versions[at],
            (oracle->count - at) * sizeof version);
    oracle->versions[at] = version;
    oracle->count++;
    return &oracle->versions[at];
}
static inline int
same_key(const struct mshm_version *version, const void *key, size_t key_size)
{
    return version->key_size == key_size && memcmp(version->key, key, key_size) == 0;
}
/* What mshm_leaf_get must answer; *version is set for FOUND_VERSION. */
static inline int
oracle_get(const struct oracle *oracle, const void *key, size_t key_size, mshm_timestamp snapshot,
           const struct mshm_version **version)
{
    int found = MSHM_FOUND_NOTHING;
    for (uint32_t i = 0; i < oracle->count; i++) {
        if (!same_key(&oracle->versions[i], key, key_size))
            continue;
        found = MSHM_FOUND_NEWER;
        if (oracle->versions[i].timestamp <= snapshot) {
            *version = &oracle->versions[i];
            return MSHM_FOUND_VERSION;
        }
    }
    return found;
}

/* A key of a shape that hurts: few letters, runs of 0x00 and 0xff, shared prefixes, any length. */
static inline size_t
random_key(uint8_t *key, size_t limit)
{
    static const uint8_t letters[4] = {0x00, 0xff, 'a', 'b'};
    size_t size = 1 + random_below(random_below(8) == 0 ? (uint32_t)limit : 12);
    if (size > limit)
        size = limit;
    switch (random_below(4)) {
    case 0:
        for (size_t i = 0; i < size; i++)
            key[i] = (uint8_t)random_next();
        break;
    case 1:
        memset(key, letters[random_below(4)], size);
        break;
    default:
        for (size_t i = 0; i < size; i++)
            key[i] = letters[random_below(4)];
    }
    return size;
}

/* A leaf in a frame of the exact size, 64-aligned, from versions in page order. */
static inline void *
frame_new(uint32_t frame_size)
{
    void *frame = aligned_alloc(64, frame_size);
    memset(frame, 0xa5, frame_size);
    return frame;
}
static inline struct mshm_leaf_spec
leaf_spec(const struct mshm_version *versions, uint32_t count)
{
    struct mshm_leaf_spec spec = {
        .pid = 7,
        .right = 9,
        .bucket = 3,
        .kind = MSHM_PAGE_LEAF,
        .high_size = MSHM_FENCE_INFINITE,
        .versions = versions,
        .count = count,
    };
    return spec;
}
static inline int
append(void *frame, uint32_t frame_size, const struct mshm_version *version)
{
    return mshm_leaf_append(frame, frame_size, version,
                            mshm_key_hash(version->key, version->key_size));
}
static inline int
get(const void *frame, uint32_t frame_size, const void *key, size_t key_size,
    mshm_timestamp snapshot, struct mshm_version *version)
{
    return mshm_leaf_get(frame, frame_size, key, key_size, mshm_key_hash(key, key_size), snapshot,
                         NULL, version, NULL);
}
static inline int
same_value(const struct mshm_version *a, const struct mshm_version *b)
{
    return a->timestamp == b->timestamp && a->kind == b->kind && a->value_size == b->value_size &&
           memcmp(a->value, b->value, a->value_size) == 0;
}

#endif
