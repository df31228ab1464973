/* leaf_fixture.h - what the tests of leaves share: comparing answers with the oracle, and random leaves. */
#ifndef LEAF_FIXTURE_H
#define LEAF_FIXTURE_H

#include "page_fixture.h"

#include <check.h>

static inline void
assert_sound(const void *frame, uint32_t frame_size)
{
    const char *why = "";
    int status = mshm_leaf_check(frame, frame_size, &why);
    ck_assert_msg(status == MSHM_OK, "%s", why);
}

static inline void
assert_get(const void *frame, uint32_t frame_size, const struct oracle *oracle, const void *key,
           size_t key_size, mshm_timestamp snapshot)
{
    struct mshm_version version;
    const struct mshm_version *expected = NULL;
    int found = get(frame, frame_size, key, key_size, snapshot, &version);
    ck_assert_int_eq(found, oracle_get(oracle, key, key_size, snapshot, &expected));
    if (found == MSHM_FOUND_VERSION)
        ck_assert(same_value(&version, expected));
}

/* A random leaf: versions at timestamps 1..100 in base and tail, in a frame of random class. Returns the frame. */
static inline uint8_t *
random_leaf(struct oracle *oracle, uint32_t *frame_size, unsigned kind, AO_t history)
{
    uint8_t prefix[40], key[MSHM_MAX_KEY], value[300];
    size_t prefix_size = random_below(3) == 0 ? random_key(prefix, sizeof prefix) : 0;
    uint32_t base_count = random_below(random_below(2) ? 120 : 8), base_newest = 0;
    uint32_t tail_count = kind == MSHM_PAGE_LEAF ? random_below(65) : 0;
    memset(value, 'v', sizeof value);
    oracle_init(oracle, 600000);
    struct oracle *base = malloc(sizeof *base);
    oracle_init(base, 600000);
    for (uint32_t i = 0; i < base_count; i++) {
        memcpy(key, prefix, prefix_size);
        size_t size = prefix_size + random_key(key + prefix_size, 30);
        mshm_timestamp timestamp = 1 + random_below(50);
        unsigned entry_kind = random_below(4) ? MSHM_ENTRY_VALUE : MSHM_ENTRY_TOMBSTONE;
        size_t value_size = entry_kind == MSHM_ENTRY_VALUE ? random_below(40) : 0;
        memcpy(value, &timestamp, 8);
        if (oracle_add(base, key, size, timestamp, entry_kind, value, value_size) != NULL)
            oracle_add(oracle, key, size, timestamp, entry_kind, value, value_size);
        base_newest = 50;
    }
    struct mshm_leaf_spec spec = leaf_spec(base->versions, base->count);
    spec.kind = (uint8_t)kind;
    spec.history = history;
    uint32_t size = mshm_leaf_size(&spec);
    ck_assert_uint_ne(size, UINT32_MAX);
    unsigned class = 0;
    while (mshm_class_size(class) < size + 8192)
        class ++;
    *frame_size = mshm_class_size(class);
    uint8_t *frame = frame_new(*frame_size);
    ck_assert_int_eq(mshm_leaf_build(frame, *frame_size, &spec), MSHM_OK);
    mshm_timestamp timestamp = base_newest + 1;
    for (uint32_t i = 0; i < tail_count; i++, timestamp++) {
        if (base->count > 0 && random_below(2)) {
            const struct mshm_version *old = &base->versions[random_below(base->count)];
            memcpy(key, old->key, size = old->key_size);
        } else if (i > 0 && random_below(2)) {
            const struct mshm_version *old = &oracle->versions[random_below(oracle->count)];
            memcpy(key, old->key, size = old->key_size);
        } else {
            memcpy(key, prefix, prefix_size);
            size = (uint32_t)(prefix_size + random_key(key + prefix_size, 30));
        }
        struct mshm_version *version = oracle_add(
            oracle, key, size, timestamp, random_below(4) ? MSHM_ENTRY_VALUE : MSHM_ENTRY_TOMBSTONE,
            value, random_below(30));
        ck_assert_ptr_nonnull(version);
        ck_assert_int_eq(append(frame, *frame_size, version), MSHM_OK);
    }
    oracle_fini(base);
    free(base);
    return frame;
}

#endif
