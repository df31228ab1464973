/* Leaves: building, appending, point search, fences. */
#include "leaf_fixture.h"

#include <pthread.h>

START_TEST(keys_of_every_length_are_found_in_base_and_tail)
{
    enum { SIZE = 65536 };
    uint8_t *frame = frame_new(SIZE);
    uint8_t key[MSHM_MAX_KEY], other[MSHM_MAX_KEY];
    struct oracle *oracle = malloc(sizeof *oracle);
    for (size_t size = 1; size <= MSHM_MAX_KEY; size++) {
        for (size_t i = 0; i < size; i++)
            key[i] = (uint8_t)(i + size);
        oracle_init(oracle, 60000);
        /* The key itself, its neighbour that differs in the last byte, and the key without its last byte. */
        oracle_add(oracle, key, size, 5, MSHM_ENTRY_VALUE, "five", 4);
        memcpy(other, key, size);
        other[size - 1] ^= 1;
        oracle_add(oracle, other, size, 6, MSHM_ENTRY_VALUE, "neighbour", 9);
        if (size > 1)
            oracle_add(oracle, key, size - 1, 7, MSHM_ENTRY_VALUE, "shorter", 7);
        struct mshm_leaf_spec spec = leaf_spec(oracle->versions, oracle->count);
        ck_assert_int_eq(mshm_leaf_build(frame, SIZE, &spec), MSHM_OK);
        assert_get(frame, SIZE, oracle, key, size, 10);
        assert_get(frame, SIZE, oracle, key, size, 4);
        assert_get(frame, SIZE, oracle, other, size, 10);
        if (size > 1)
            assert_get(frame, SIZE, oracle, key, size - 1, 10);
        if (size < MSHM_MAX_KEY)
            assert_get(frame, SIZE, oracle, key, size + 1, 10);
        other[size / 2] ^= 0x80;
        assert_get(frame, SIZE, oracle, other, size, 20);
        ck_assert_int_eq(
            append(frame, SIZE, oracle_add(oracle, key, size, 11, MSHM_ENTRY_VALUE, "eleven", 6)),
            MSHM_OK);
        ck_assert_int_eq(
            append(frame, SIZE, oracle_add(oracle, other, size, 12, MSHM_ENTRY_VALUE, "twelve", 6)),
            MSHM_OK);
        for (mshm_timestamp snapshot = 4; snapshot <= 12; snapshot += 2) {
            assert_get(frame, SIZE, oracle, key, size, snapshot);
            assert_get(frame, SIZE, oracle, other, size, snapshot);
        }
        assert_sound(frame, SIZE);
        oracle_fini(oracle);
    }
    free(oracle);
    free(frame);
}
END_TEST

START_TEST(keys_of_every_byte_value_are_found_and_walked_in_order)
{
    enum { SIZE = 32768 };
    uint8_t *frame = frame_new(SIZE);
    struct oracle *oracle = malloc(sizeof *oracle);
    oracle_init(oracle, 60000);
    for (int byte = 0; byte < 256; byte++) {
        uint8_t key[2] = {(uint8_t)byte, (uint8_t)(255 - byte)};
        oracle_add(oracle, key, 1, 1, MSHM_ENTRY_VALUE, key, 1);
        oracle_add(oracle, key, 2, 2, MSHM_ENTRY_VALUE, key, 2);
    }
    struct mshm_leaf_spec spec = leaf_spec(oracle->versions, oracle->count);
    ck_assert_int_eq(mshm_leaf_build(frame, SIZE, &spec), MSHM_OK);
    assert_sound(frame, SIZE);
    for (int first = 0; first < 256; first++) {
        for (int second = 0; second < 256; second++) {
            uint8_t key[2] = {(uint8_t)first, (uint8_t)second};
            assert_get(frame, SIZE, oracle, key, 2, 9);
        }
        assert_get(frame, SIZE, oracle, &(uint8_t){(uint8_t)first}, 1, 9);
    }
    struct mshm_leaf_iterator iterator;
    struct mshm_version version;
    ck_assert_int_eq(mshm_leaf_iterator_init(&iterator, frame, SIZE), MSHM_OK);
    for (uint32_t i = 0; i < oracle->count; i++) {
        ck_assert_int_eq(mshm_leaf_iterator_next(&iterator, 9, &version), MSHM_OK);
        ck_assert(same_key(&oracle->versions[i], version.key, version.key_size));
    }
    ck_assert_int_eq(mshm_leaf_iterator_next(&iterator, 9, &version), MSHM_NOT_FOUND);
    oracle_fini(oracle);
    free(oracle);
    free(frame);
}
END_TEST

START_TEST(empty_values_are_values)
{
    enum { SIZE = 4096 };
    uint8_t *frame = frame_new(SIZE);
    struct mshm_version versions[2] = {
        {.key = (const uint8_t *)"a", .key_size = 1, .timestamp = 1, .kind = MSHM_ENTRY_VALUE},
        {.key = (const uint8_t *)"b", .key_size = 1, .timestamp = 2, .kind = MSHM_ENTRY_TOMBSTONE},
    };
    struct mshm_version in_tail = {
        .key = (const uint8_t *)"c", .key_size = 1, .timestamp = 3, .kind = MSHM_ENTRY_VALUE};
    struct mshm_leaf_spec spec = leaf_spec(versions, 2);
    struct mshm_version version;
    ck_assert_int_eq(mshm_leaf_build(frame, SIZE, &spec), MSHM_OK);
    ck_assert_int_eq(append(frame, SIZE, &in_tail), MSHM_OK);
    ck_assert_int_eq(get(frame, SIZE, "a", 1, 9, &version), MSHM_FOUND_VERSION);
    ck_assert_uint_eq(version.kind, MSHM_ENTRY_VALUE);
    ck_assert_uint_eq(version.value_size, 0);
    ck_assert_int_eq(get(frame, SIZE, "b", 1, 9, &version), MSHM_FOUND_VERSION);
    ck_assert_uint_eq(version.kind, MSHM_ENTRY_TOMBSTONE);
    ck_assert_int_eq(get(frame, SIZE, "c", 1, 9, &version), MSHM_FOUND_VERSION);
    ck_assert_uint_eq(version.kind, MSHM_ENTRY_VALUE);
    ck_assert_uint_eq(version.value_size, 0);
    assert_sound(frame, SIZE);
    free(frame);
}
END_TEST

START_TEST(an_empty_leaf_holds_nothing_and_takes_appends)
{
    enum { SIZE = 4096 };
    uint8_t *frame = frame_new(SIZE);
    struct mshm_leaf_spec spec = leaf_spec(NULL, 0);
    struct mshm_version version = {
        .key = (const uint8_t *)"k", .key_size = 1, .timestamp = 1, .kind = MSHM_ENTRY_VALUE};
    struct mshm_version found;
    struct mshm_leaf_iterator iterator;
    ck_assert_int_eq(mshm_leaf_build(frame, SIZE, &spec), MSHM_OK);
    assert_sound(frame, SIZE);
    ck_assert_int_eq(get(frame, SIZE, "k", 1, 9, &found), MSHM_FOUND_NOTHING);
    ck_assert_int_eq(mshm_leaf_iterator_init(&iterator, frame, SIZE), MSHM_OK);
    ck_assert_int_eq(mshm_leaf_iterator_next(&iterator, 9, &found), MSHM_NOT_FOUND);
    ck_assert_int_eq(mshm_leaf_iterator_previous(&iterator, 9, &found), MSHM_NOT_FOUND);
    ck_assert_int_eq(append(frame, SIZE, &version), MSHM_OK);
    ck_assert_int_eq(get(frame, SIZE, "k", 1, 9, &found), MSHM_FOUND_VERSION);
    ck_assert_int_eq(get(frame, SIZE, "k", 1, 0, &found), MSHM_FOUND_NEWER);
    free(frame);
}
END_TEST

/* Builds the base from the `in_base` oldest versions of one key and appends the others. */
static void
build_versions_of_one_key(void *frame, uint32_t size, const struct oracle *oracle, uint32_t in_base)
{
    uint32_t appended = oracle->count - in_base;
    struct mshm_leaf_spec spec = leaf_spec(oracle->versions + appended, in_base);
    ck_assert_int_eq(mshm_leaf_build(frame, size, &spec), MSHM_OK);
    for (uint32_t i = appended; i-- > 0;)
        ck_assert_int_eq(append(frame, size, &oracle->versions[i]), MSHM_OK);
}

START_TEST(sixty_four_versions_under_sixteen_snapshots)
{
    enum { SIZE = 8192 };
    uint8_t *frame = frame_new(SIZE);
    struct oracle *oracle = malloc(sizeof *oracle);
    oracle_init(oracle, 60000);
    for (mshm_timestamp t = 1; t <= 64; t++)
        oracle_add(oracle, "the key", 7, t * 10,
                   t % 5 == 0 ? MSHM_ENTRY_TOMBSTONE : MSHM_ENTRY_VALUE, &t,
                   t % 5 == 0 ? 0 : sizeof t);
    for (uint32_t in_base = 0; in_base <= 64; in_base++) {
        build_versions_of_one_key(frame, SIZE, oracle, in_base);
        assert_sound(frame, SIZE);
        for (uint32_t i = 0; i < 16; i++) {
            mshm_timestamp snapshot = 5 + i * 43;
            assert_get(frame, SIZE, oracle, "the key", 7, snapshot);
            assert_get(frame, SIZE, oracle, "the kex", 7, snapshot);
            struct mshm_leaf_iterator iterator;
            struct mshm_version version;
            const struct mshm_version *expected = NULL;
            ck_assert_int_eq(mshm_leaf_iterator_init(&iterator, frame, SIZE), MSHM_OK);
            int status = mshm_leaf_iterator_next(&iterator, snapshot, &version);
            if (oracle_get(oracle, "the key", 7, snapshot, &expected) != MSHM_FOUND_VERSION) {
                ck_assert_int_eq(status, MSHM_NOT_FOUND);
                continue;
            }
            ck_assert_int_eq(status, MSHM_OK);
            ck_assert(same_value(&version, expected));
            ck_assert_int_eq(mshm_leaf_iterator_next(&iterator, snapshot, &version),
                             MSHM_NOT_FOUND);
        }
        struct mshm_version newest;
        ck_assert_int_eq(
            mshm_leaf_newest(frame, SIZE, "the key", 7, mshm_key_hash("the key", 7), &newest),
            MSHM_FOUND_VERSION);
        ck_assert_uint_eq(newest.timestamp, 640);
    }
    oracle_fini(oracle);
    free(oracle);
    free(frame);
}
END_TEST

START_TEST(a_tombstone_is_found_under_old_and_new_snapshots)
{
    enum { SIZE = 4096 };
    uint8_t *frame = frame_new(SIZE);
    struct oracle *oracle = malloc(sizeof *oracle);
    struct mshm_version version;
    for (uint32_t in_base = 0; in_base <= 3; in_base++) {
        oracle_init(oracle, 1000);
        oracle_add(oracle, "k", 1, 10, MSHM_ENTRY_VALUE, "old", 3);
        oracle_add(oracle, "k", 1, 20, MSHM_ENTRY_TOMBSTONE, NULL, 0);
        oracle_add(oracle, "k", 1, 30, MSHM_ENTRY_VALUE, "new", 3);
        build_versions_of_one_key(frame, SIZE, oracle, in_base);
        ck_assert_int_eq(get(frame, SIZE, "k", 1, 9, &version), MSHM_FOUND_NEWER);
        ck_assert_int_eq(get(frame, SIZE, "k", 1, 19, &version), MSHM_FOUND_VERSION);
        ck_assert_uint_eq(version.kind, MSHM_ENTRY_VALUE);
        ck_assert_int_eq(get(frame, SIZE, "k", 1, 29, &version), MSHM_FOUND_VERSION);
        ck_assert_uint_eq(version.kind, MSHM_ENTRY_TOMBSTONE);
        ck_assert_uint_eq(version.timestamp, 20);
        ck_assert_int_eq(get(frame, SIZE, "k", 1, 30, &version), MSHM_FOUND_VERSION);
        ck_assert_mem_eq(version.value, "new", 3);
        struct mshm_leaf_iterator iterator;
        ck_assert_int_eq(mshm_leaf_iterator_init(&iterator, frame, SIZE), MSHM_OK);
        ck_assert_int_eq(mshm_leaf_iterator_previous(&iterator, 25, &version), MSHM_OK);
        ck_assert_uint_eq(version.kind, MSHM_ENTRY_TOMBSTONE);
        oracle_fini(oracle);
    }
    free(oracle);
    free(frame);
}
END_TEST

START_TEST(a_key_that_is_only_newer_in_the_tail_is_reported_so)
{
    enum { SIZE = 4096 };
    uint8_t *frame = frame_new(SIZE);
    struct oracle *oracle = malloc(sizeof *oracle);
    oracle_init(oracle, 1000);
    oracle_add(oracle, "m", 1, 5, MSHM_ENTRY_VALUE, "base", 4);
    struct mshm_leaf_spec spec = leaf_spec(oracle->versions, oracle->count);
    ck_assert_int_eq(mshm_leaf_build(frame, SIZE, &spec), MSHM_OK);
    /* Neither share the base's prefix. */
    ck_assert_int_eq(append(frame, SIZE, oracle_add(oracle, "a", 1, 50, MSHM_ENTRY_VALUE, "x", 1)),
                     MSHM_OK);
    ck_assert_int_eq(
        append(frame, SIZE, oracle_add(oracle, "m", 1, 51, MSHM_ENTRY_VALUE, "tail", 4)), MSHM_OK);
    for (mshm_timestamp snapshot = 4; snapshot < 54; snapshot++) {
        assert_get(frame, SIZE, oracle, "a", 1, snapshot);
        assert_get(frame, SIZE, oracle, "m", 1, snapshot);
        assert_get(frame, SIZE, oracle, "z", 1, snapshot);
    }
    oracle_fini(oracle);
    free(oracle);
    free(frame);
}
END_TEST

START_TEST(a_one_call_get_applies_the_timestamp_that_is_visible)
{
    enum { SIZE = 4096 };
    uint8_t *frame = frame_new(SIZE);
    struct mshm_leaf_spec spec = leaf_spec(NULL, 0);
    struct mshm_version version = {
        .key = (const uint8_t *)"k", .key_size = 1, .timestamp = 8, .kind = MSHM_ENTRY_VALUE};
    AO_t visible = 7;
    mshm_timestamp used = 0;
    struct mshm_version found;
    ck_assert_int_eq(mshm_leaf_build(frame, SIZE, &spec), MSHM_OK);
    ck_assert_int_eq(append(frame, SIZE, &version), MSHM_OK);
    uint64_t hash = mshm_key_hash("k", 1);
    ck_assert_int_eq(mshm_leaf_get(frame, SIZE, "k", 1, hash, 99, &visible, &found, &used),
                     MSHM_FOUND_NEWER);
    ck_assert_uint_eq(used, 7);
    visible = 8;
    ck_assert_int_eq(mshm_leaf_get(frame, SIZE, "k", 1, hash, 0, &visible, &found, &used),
                     MSHM_FOUND_VERSION);
    ck_assert_uint_eq(used, 8);
    free(frame);
}
END_TEST

START_TEST(keys_of_an_overflowing_bucket_are_found_by_their_heads)
{
    enum { SIZE = 16384, KEYS = 100, BUCKETS = KEYS / 13 + 1 };
    uint8_t *frame = frame_new(SIZE);
    struct oracle *oracle = malloc(sizeof *oracle);
    oracle_init(oracle, 60000);
    char key[32];
    for (uint32_t i = 0; oracle->count < KEYS; i++) {
        int size = snprintf(key, sizeof key, "key-%u", i);
        if ((mshm_key_hash(key, (size_t)size) >> 32) * BUCKETS >> 32 == 3)
            oracle_add(oracle, key, (size_t)size, 4, MSHM_ENTRY_VALUE, key, (size_t)size);
    }
    struct mshm_leaf_spec spec = leaf_spec(oracle->versions, oracle->count);
    ck_assert_int_eq(mshm_leaf_build(frame, SIZE, &spec), MSHM_OK);
    const struct mshm_page *page = (const struct mshm_page *)(const void *)frame;
    const struct mshm_hash_bucket *buckets =
        (const struct mshm_hash_bucket *)(const void *)(frame + sizeof(struct mshm_leaf));
    ck_assert_uint_eq(page->hash_count, BUCKETS);
    ck_assert_uint_eq(buckets[3].overflow, 1);
    assert_sound(frame, SIZE);
    for (uint32_t i = 0; i < 20000; i++) {
        int size = snprintf(key, sizeof key, "key-%u", i);
        assert_get(frame, SIZE, oracle, key, (size_t)size, i % 3 == 0 ? 3 : 4);
    }
    oracle_fini(oracle);
    free(oracle);
    free(frame);
}
END_TEST

START_TEST(keys_that_are_prefixes_of_each_other_keep_their_order)
{
    enum { SIZE = 65536 };
    static const uint8_t bytes[] = {0x00, 0xff, 'a'};
    uint8_t *frame = frame_new(SIZE);
    struct oracle *oracle = malloc(sizeof *oracle);
    for (size_t b = 0; b < sizeof bytes; b++) {
        oracle_init(oracle, 60000);
        uint8_t key[120];
        memset(key, bytes[b], sizeof key);
        for (size_t size = 1; size <= sizeof key; size++)
            oracle_add(oracle, key, size, size, MSHM_ENTRY_VALUE, key, size);
        struct mshm_leaf_spec spec = leaf_spec(oracle->versions, oracle->count);
        for (uint32_t kind = MSHM_PAGE_LEAF; kind <= MSHM_PAGE_HISTORY; kind += 2) {
            spec.kind = (uint8_t)kind;
            ck_assert_int_eq(mshm_leaf_build(frame, SIZE, &spec), MSHM_OK);
            assert_sound(frame, SIZE);
            for (size_t size = 1; size <= sizeof key; size++) {
                assert_get(frame, SIZE, oracle, key, size, 1000);
                assert_get(frame, SIZE, oracle, key, size, size - 1);
                key[size - 1] ^= 1;
                assert_get(frame, SIZE, oracle, key, size, 1000);
                key[size - 1] ^= 1;
            }
        }
        oracle_fini(oracle);
    }
    free(oracle);
    free(frame);
}
END_TEST

START_TEST(random_leaves_answer_as_the_oracle)
{
    random_seed("random_leaves_answer_as_the_oracle");
    struct oracle *oracle = malloc(sizeof *oracle);
    for (int round = 0; round < 300; round++) {
        uint32_t frame_size;
        unsigned kind = round % 5 == 0 ? MSHM_PAGE_HISTORY : MSHM_PAGE_LEAF;
        uint8_t *frame = random_leaf(oracle, &frame_size, kind, 0);
        assert_sound(frame, frame_size);
        for (uint32_t i = 0; i < oracle->count; i++) {
            const struct mshm_version *version = &oracle->versions[i];
            assert_get(frame, frame_size, oracle, version->key, version->key_size, 1000);
            assert_get(frame, frame_size, oracle, version->key, version->key_size,
                       version->timestamp);
            assert_get(frame, frame_size, oracle, version->key, version->key_size,
                       version->timestamp - 1);
            assert_get(frame, frame_size, oracle, version->key, version->key_size - 1u, 1000);
        }
        for (int i = 0; i < 50; i++) {
            uint8_t key[64];
            assert_get(frame, frame_size, oracle, key, random_key(key, sizeof key),
                       random_below(120));
        }
        oracle_fini(oracle);
        free(frame);
    }
    free(oracle);
}
END_TEST

START_TEST(the_largest_frame_holds_two_of_the_largest_entries_and_an_append)
{
    enum { SIZE = MSHM_MAX_FRAME };
    uint8_t *frame = frame_new(SIZE), *keys = malloc(4 * MSHM_MAX_KEY);
    uint8_t *value = malloc(MSHM_MAX_INLINE), *high = keys + 3 * MSHM_MAX_KEY;
    memset(value, 0xee, MSHM_MAX_INLINE);
    memset(keys, 0xff, 4 * MSHM_MAX_KEY);
    struct mshm_version versions[3];
    for (int i = 0; i < 3; i++) {
        keys[i * MSHM_MAX_KEY] = (uint8_t)(i + 1); /* no common prefix */
        versions[i] = (struct mshm_version){.key = keys + i * MSHM_MAX_KEY,
                                            .key_size = MSHM_MAX_KEY,
                                            .value = value,
                                            .value_size = MSHM_MAX_INLINE,
                                            .timestamp = (mshm_timestamp)i + 1,
                                            .kind = MSHM_ENTRY_VALUE};
    }
    struct mshm_leaf_spec spec = leaf_spec(versions, 2);
    spec.low = versions[0].key;
    spec.low_size = MSHM_MAX_KEY;
    spec.high = high;
    spec.high_size = MSHM_MAX_KEY;
    ck_assert_int_eq(mshm_leaf_build(frame, SIZE, &spec), MSHM_OK);
    ck_assert_int_eq(append(frame, SIZE, &versions[2]), MSHM_OK);
    assert_sound(frame, SIZE);
    struct mshm_version found;
    for (int i = 0; i < 3; i++) {
        ck_assert_int_eq(get(frame, SIZE, versions[i].key, MSHM_MAX_KEY, 9, &found),
                         MSHM_FOUND_VERSION);
        ck_assert(same_value(&found, &versions[i]));
    }
    struct mshm_fences fences;
    ck_assert_int_eq(mshm_page_fences(frame, SIZE, &fences), MSHM_OK);
    ck_assert_uint_eq(fences.low_size, MSHM_MAX_KEY);
    ck_assert_mem_eq(fences.high, high, MSHM_MAX_KEY);
    ck_assert_uint_eq(fences.right, 9);
    free(value);
    free(keys);
    free(frame);
}
END_TEST

START_TEST(an_append_without_room_changes_nothing)
{
    enum { SIZE = 4096 };
    uint8_t *frame = frame_new(SIZE), *before = frame_new(SIZE), value[1000];
    memset(value, 1, sizeof value);
    struct mshm_leaf_spec spec = leaf_spec(NULL, 0);
    struct mshm_version version = {.key = (const uint8_t *)"key",
                                   .key_size = 3,
                                   .value = value,
                                   .value_size = sizeof value,
                                   .timestamp = 1,
                                   .kind = MSHM_ENTRY_VALUE};
    ck_assert_int_eq(mshm_leaf_build(frame, SIZE, &spec), MSHM_OK);
    while (mshm_leaf_room(frame, SIZE) >= mshm_entry_size(3, sizeof value))
        ck_assert_int_eq(append(frame, SIZE, &version), MSHM_OK);
    memcpy(before, frame, SIZE);
    ck_assert_int_eq(append(frame, SIZE, &version), MSHM_FULL);
    ck_assert_mem_eq(before, frame, SIZE);
    /* The tail's places run out before the heap does. */
    ck_assert_int_eq(mshm_leaf_build(frame, SIZE, &spec), MSHM_OK);
    version.value_size = 0;
    for (uint32_t left = MSHM_TAIL_CAPACITY; left > 0; left--) {
        ck_assert_uint_eq(mshm_leaf_tail_room(frame), left);
        ck_assert_int_eq(append(frame, SIZE, &version), MSHM_OK);
        version.timestamp++;
    }
    ck_assert_uint_eq(mshm_leaf_tail_room(frame), 0);
    memcpy(before, frame, SIZE);
    ck_assert_int_eq(append(frame, SIZE, &version), MSHM_FULL);
    ck_assert_mem_eq(before, frame, SIZE);
    assert_sound(frame, SIZE);
    free(before);
    free(frame);
}
END_TEST

START_TEST(what_no_frame_holds_is_refused)
{
    static uint8_t value[70000];
    struct mshm_version *versions = calloc(5000, sizeof *versions);
    uint8_t *keys = malloc(5000 * 4), *frame = frame_new(MSHM_MAX_FRAME);
    for (uint32_t i = 0; i < 5000; i++) {
        uint32_t number = __builtin_bswap32(i);
        memcpy(keys + i * 4, &number, 4);
        versions[i] = (struct mshm_version){
            .key = keys + i * 4, .key_size = 4, .timestamp = 1, .kind = MSHM_ENTRY_VALUE};
    }
    struct mshm_leaf_spec spec = leaf_spec(versions, 5000);
    ck_assert_uint_eq(mshm_leaf_size(&spec), UINT32_MAX);
    ck_assert_int_eq(mshm_leaf_build(frame, MSHM_MAX_FRAME, &spec), MSHM_FULL);
    spec.count = 4000;
    ck_assert_uint_eq(mshm_leaf_size(&spec), UINT32_MAX);
    spec.count = 1000;
    ck_assert_int_eq(mshm_leaf_build(frame, MSHM_MAX_FRAME, &spec), MSHM_OK);
    assert_sound(frame, MSHM_MAX_FRAME);
    spec.count = 1;
    versions[0].value = value;
    versions[0].value_size = sizeof value;
    ck_assert_uint_eq(mshm_leaf_size(&spec), UINT32_MAX);
    versions[0].value_size = UINT32_MAX - 8;
    ck_assert_uint_eq(mshm_leaf_size(&spec), UINT32_MAX);
    free(frame);
    free(keys);
    free(versions);
}
END_TEST

START_TEST(fences_say_on_which_side_a_key_lies)
{
    enum { SIZE = 4096 };
    uint8_t *frame = frame_new(SIZE);
    struct mshm_leaf_spec spec = leaf_spec(NULL, 0);
    struct mshm_fences fences;
    spec.low = (const uint8_t *)"bb";
    spec.low_size = 2;
    spec.high = (const uint8_t *)"dd";
    spec.high_size = 2;
    ck_assert_int_eq(mshm_leaf_build(frame, SIZE, &spec), MSHM_OK);
    ck_assert_int_eq(mshm_page_fences(frame, SIZE, &fences), MSHM_OK);
    ck_assert_int_lt(mshm_fences_compare(&fences, "b", 1, 0), 0);
    ck_assert_int_eq(mshm_fences_compare(&fences, "bb", 2, 0), 0);
    ck_assert_int_lt(mshm_fences_compare(&fences, "bb", 2, 1), 0);
    ck_assert_int_eq(mshm_fences_compare(&fences, "bb\0", 3, 1), 0);
    ck_assert_int_eq(mshm_fences_compare(&fences, "dczz", 4, 0), 0);
    ck_assert_int_gt(mshm_fences_compare(&fences, "dd", 2, 0), 0);
    ck_assert_int_eq(mshm_fences_compare(&fences, "dd", 2, 1), 0);
    ck_assert_int_gt(mshm_fences_compare(&fences, "dd\0", 3, 1), 0);
    spec.low_size = 0;
    spec.high_size = MSHM_FENCE_INFINITE;
    ck_assert_int_eq(mshm_leaf_build(frame, SIZE, &spec), MSHM_OK);
    ck_assert_int_eq(mshm_page_fences(frame, SIZE, &fences), MSHM_OK);
    ck_assert_int_eq(mshm_fences_compare(&fences, NULL, 0, 0), 0);
    ck_assert_int_eq(mshm_fences_compare(&fences, "\0", 1, 1), 0);
    ck_assert_int_eq(mshm_fences_compare(&fences, "\xff\xff", 2, 0), 0);
    free(frame);
}
END_TEST

/* One thread appends versions of two keys and moves `visible`; the other reads them meanwhile. */
struct race {
    uint8_t *frame;
    uint32_t size;
    AO_t visible, round, seen_round;
};
static void *
race_writer(void *argument)
{
    struct race *race = argument;
    for (mshm_timestamp t = 1; t <= MSHM_TAIL_CAPACITY; t++) {
        struct mshm_version version = {.key = (const uint8_t *)(t % 2 ? "odd" : "even"),
                                       .key_size = t % 2 ? 3 : 4,
                                       .value = (const uint8_t *)&t,
                                       .value_size = sizeof t,
                                       .timestamp = t,
                                       .kind = MSHM_ENTRY_VALUE};
        ck_assert_int_eq(append(race->frame, race->size, &version), MSHM_OK);
        AO_store_release(&race->visible, t);
    }
    return NULL;
}

START_TEST(a_one_call_get_never_misses_a_visible_version)
{
    enum { SIZE = 4096 };
    struct race race = {.frame = frame_new(SIZE), .size = SIZE};
    uint64_t odd = mshm_key_hash("odd", 3);
    uint8_t *copy = frame_new(SIZE);
    for (int round = 0; round < 200; round++) {
        struct mshm_leaf_spec spec = leaf_spec(NULL, 0);
        ck_assert_int_eq(mshm_leaf_build(race.frame, SIZE, &spec), MSHM_OK);
        race.visible = 0;
        pthread_t writer;
        ck_assert_int_eq(pthread_create(&writer, NULL, race_writer, &race), 0);
        mshm_timestamp used = 0;
        while (used < MSHM_TAIL_CAPACITY) {
            struct mshm_version version;
            AO_t before = AO_load_acquire(&race.visible);
            int found =
                mshm_leaf_get(race.frame, SIZE, "odd", 3, odd, 0, &race.visible, &version, &used);
            ck_assert_uint_ge(used, before);
            /* The tail was counted before `visible` was loaded: what `before` made visible is there. */
            if (before > 0) {
                mshm_timestamp value;
                ck_assert_int_eq(found, MSHM_FOUND_VERSION);
                memcpy(&value, version.value, sizeof value);
                ck_assert_uint_eq(value, version.timestamp);
                ck_assert_uint_ge(version.timestamp, before - (before % 2 == 0));
                ck_assert_uint_le(version.timestamp, used);
            }
            uint32_t size = mshm_leaf_clone(race.frame, SIZE, copy);
            ck_assert_uint_gt(size, 0);
            assert_sound(copy, size);
        }
        ck_assert_int_eq(pthread_join(writer, NULL), 0);
    }
    free(copy);
    free(race.frame);
}
END_TEST

static void
add_tests(TCase *tests)
{
    tcase_add_test(tests, keys_of_every_length_are_found_in_base_and_tail);
    tcase_add_test(tests, keys_of_every_byte_value_are_found_and_walked_in_order);
    tcase_add_test(tests, empty_values_are_values);
    tcase_add_test(tests, an_empty_leaf_holds_nothing_and_takes_appends);
    tcase_add_test(tests, sixty_four_versions_under_sixteen_snapshots);
    tcase_add_test(tests, a_tombstone_is_found_under_old_and_new_snapshots);
    tcase_add_test(tests, a_key_that_is_only_newer_in_the_tail_is_reported_so);
    tcase_add_test(tests, a_one_call_get_applies_the_timestamp_that_is_visible);
    tcase_add_test(tests, keys_of_an_overflowing_bucket_are_found_by_their_heads);
    tcase_add_test(tests, keys_that_are_prefixes_of_each_other_keep_their_order);
    tcase_add_test(tests, random_leaves_answer_as_the_oracle);
    tcase_add_test(tests, the_largest_frame_holds_two_of_the_largest_entries_and_an_append);
    tcase_add_test(tests, an_append_without_room_changes_nothing);
    tcase_add_test(tests, what_no_frame_holds_is_refused);
    tcase_add_test(tests, fences_say_on_which_side_a_key_lies);
    tcase_add_test(tests, a_one_call_get_never_misses_a_visible_version);
}

int
main(void)
{
    Suite *suite = suite_create("leaf");
    TCase *tests = tcase_create("leaf");
    tcase_set_timeout(tests, 120);
    add_tests(tests);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
