/* Leaves: walking in order, taking apart, cloning. */
#include "leaf_fixture.h"

/* The keys a walk must report under a snapshot: indices of their newest version, and the version seen or NULL. */
struct walk {
    uint32_t keys[FIXTURE_MAX_VERSIONS];
    const struct mshm_version *seen[FIXTURE_MAX_VERSIONS];
    uint32_t count;
};
static void
walk_make(struct walk *walk, const struct oracle *oracle, mshm_timestamp snapshot, int has_history)
{
    walk->count = 0;
    for (uint32_t i = 0; i < oracle->count; i++) {
        const struct mshm_version *version = &oracle->versions[i];
        if (i > 0 && same_key(&oracle->versions[i - 1], version->key, version->key_size))
            continue;
        const struct mshm_version *seen = NULL;
        oracle_get(oracle, version->key, version->key_size, snapshot, &seen);
        if (seen == NULL && !has_history)
            continue;
        walk->keys[walk->count] = i;
        walk->seen[walk->count++] = seen;
    }
}
static void
assert_at(const struct walk *walk, const struct oracle *oracle, uint32_t at,
          const struct mshm_version *version)
{
    const struct mshm_version *newest = &oracle->versions[walk->keys[at]];
    ck_assert(same_key(newest, version->key, version->key_size));
    if (walk->seen[at] == NULL)
        ck_assert_uint_eq(version->kind, 0);
    else
        ck_assert(same_value(version, walk->seen[at]));
}

START_TEST(walks_forward_back_and_mixed_follow_the_oracle)
{
    random_seed("walks_forward_back_and_mixed_follow_the_oracle");
    struct oracle *oracle = malloc(sizeof *oracle);
    struct walk *walk = malloc(sizeof *walk);
    for (int round = 0; round < 400; round++) {
        uint32_t frame_size;
        AO_t history = round % 3 == 0 ? 0x10000 : 0;
        uint8_t *frame = random_leaf(oracle, &frame_size, MSHM_PAGE_LEAF, history);
        mshm_timestamp snapshot = random_below(4) ? random_below(120) : 1000;
        walk_make(walk, oracle, snapshot, history != 0);
        struct mshm_leaf_iterator iterator;
        struct mshm_version version;
        ck_assert_int_eq(mshm_leaf_iterator_init(&iterator, frame, frame_size), MSHM_OK);
        for (uint32_t i = 0; i < walk->count; i++) {
            ck_assert_int_eq(mshm_leaf_iterator_next(&iterator, snapshot, &version), MSHM_OK);
            assert_at(walk, oracle, i, &version);
        }
        ck_assert_int_eq(mshm_leaf_iterator_next(&iterator, snapshot, &version), MSHM_NOT_FOUND);
        ck_assert_int_eq(mshm_leaf_iterator_init(&iterator, frame, frame_size), MSHM_OK);
        for (uint32_t i = walk->count; i-- > 0;) {
            ck_assert_int_eq(mshm_leaf_iterator_previous(&iterator, snapshot, &version), MSHM_OK);
            assert_at(walk, oracle, i, &version);
        }
        ck_assert_int_eq(mshm_leaf_iterator_previous(&iterator, snapshot, &version),
                         MSHM_NOT_FOUND);
        /* Mixed moves: `at` is the key stood on, or -1 and count past the ends. */
        int32_t at = -1, count = (int32_t)walk->count;
        for (int move = 0; move < 200; move++) {
            if (random_below(10) == 0) {
                uint8_t key[64];
                size_t key_size = random_key(key, sizeof key);
                if (oracle->count > 0 && random_below(2)) {
                    const struct mshm_version *target =
                        &oracle->versions[random_below(oracle->count)];
                    memcpy(key, target->key,
                           key_size = target->key_size < 64 ? target->key_size : 64);
                }
                ck_assert_int_eq(mshm_leaf_iterator_seek(&iterator, key, key_size), MSHM_OK);
                int32_t first = 0; /* first key >= the one sought */
                while (first < count &&
                       mshm_key_compare(oracle->versions[walk->keys[first]].key,
                                        oracle->versions[walk->keys[first]].key_size, key,
                                        key_size) < 0)
                    first++;
                int forward = random_below(2) != 0;
                int status = forward ? mshm_leaf_iterator_next(&iterator, snapshot, &version)
                                     : mshm_leaf_iterator_previous(&iterator, snapshot, &version);
                at = forward ? first : first - 1;
                ck_assert_int_eq(status, at >= 0 && at < count ? MSHM_OK : MSHM_NOT_FOUND);
            } else if (random_below(2)) {
                at = at < count ? at + 1 : count;
                ck_assert_int_eq(mshm_leaf_iterator_next(&iterator, snapshot, &version),
                                 at < count ? MSHM_OK : MSHM_NOT_FOUND);
            } else {
                at = at >= 0 ? at - 1 : -1;
                ck_assert_int_eq(mshm_leaf_iterator_previous(&iterator, snapshot, &version),
                                 at >= 0 ? MSHM_OK : MSHM_NOT_FOUND);
            }
            if (at >= 0 && at < count)
                assert_at(walk, oracle, (uint32_t)at, &version);
        }
        oracle_fini(oracle);
        free(frame);
    }
    free(walk);
    free(oracle);
}
END_TEST

START_TEST(versions_taken_out_build_the_same_leaf_again)
{
    random_seed("versions_taken_out_build_the_same_leaf_again");
    struct oracle *oracle = malloc(sizeof *oracle);
    struct mshm_version *versions = malloc(FIXTURE_MAX_VERSIONS * sizeof *versions);
    uint8_t *key_bytes = malloc(65536), *rebuilt = frame_new(65536);
    for (int round = 0; round < 200; round++) {
        uint32_t frame_size;
        uint8_t *frame = random_leaf(oracle, &frame_size, MSHM_PAGE_LEAF, 0);
        int count =
            mshm_leaf_versions(frame, frame_size, versions, FIXTURE_MAX_VERSIONS, key_bytes, 65536);
        ck_assert_int_eq(count, (int)oracle->count);
        for (int i = 0; i < count; i++) {
            ck_assert(same_key(&oracle->versions[i], versions[i].key, versions[i].key_size));
            ck_assert(same_value(&oracle->versions[i], &versions[i]));
        }
        if (count > 0)
            ck_assert_int_eq(mshm_leaf_versions(frame, frame_size, versions, (uint32_t)count - 1,
                                                key_bytes, 65536),
                             MSHM_FULL);
        count =
            mshm_leaf_versions(frame, frame_size, versions, FIXTURE_MAX_VERSIONS, key_bytes, 65536);
        struct mshm_leaf_spec spec = leaf_spec(versions, (uint32_t)count);
        uint32_t size = mshm_leaf_size(&spec);
        ck_assert_int_eq(mshm_leaf_build(rebuilt, size - 1, &spec), MSHM_FULL);
        ck_assert_int_eq(mshm_leaf_build(rebuilt, size, &spec), MSHM_OK);
        ck_assert_uint_eq(mshm_leaf_room(rebuilt, size), 0);
        assert_sound(rebuilt, size);
        for (uint32_t i = 0; i < oracle->count; i++)
            assert_get(rebuilt, size, oracle, oracle->versions[i].key, oracle->versions[i].key_size,
                       oracle->versions[i].timestamp);
        oracle_fini(oracle);
        free(frame);
    }
    free(rebuilt);
    free(key_bytes);
    free(versions);
    free(oracle);
}
END_TEST

START_TEST(a_clone_holds_what_was_published_and_stays_so)
{
    random_seed("a_clone_holds_what_was_published_and_stays_so");
    struct oracle *oracle = malloc(sizeof *oracle);
    struct mshm_version *versions = malloc(FIXTURE_MAX_VERSIONS * sizeof *versions);
    uint8_t *key_bytes = malloc(65536);
    for (int round = 0; round < 100; round++) {
        uint32_t frame_size;
        unsigned kind = round % 4 == 0 ? MSHM_PAGE_HISTORY : MSHM_PAGE_LEAF;
        uint8_t *frame = random_leaf(oracle, &frame_size, kind, 0x20000);
        uint8_t *copy = frame_new(frame_size);
        uint32_t size = mshm_leaf_clone(frame, frame_size, copy);
        ck_assert_uint_gt(size, 0);
        ck_assert_uint_eq(size,
                          frame_size - (kind == MSHM_PAGE_LEAF ? mshm_leaf_room(frame, frame_size)
                                                               : frame_size - size));
        struct mshm_version later = {.key = (const uint8_t *)"later",
                                     .key_size = 5,
                                     .timestamp = 500,
                                     .kind = MSHM_ENTRY_VALUE};
        append(frame, frame_size, &later);
        memset(frame, 0x5a, frame_size);
        uint8_t *exact = frame_new((uint32_t)mshm_align_up(size, 64));
        memcpy(exact, copy, size);
        assert_sound(exact, size);
        int count =
            mshm_leaf_versions(exact, size, versions, FIXTURE_MAX_VERSIONS, key_bytes, 65536);
        ck_assert_int_eq(count, (int)oracle->count);
        for (int i = 0; i < count; i++)
            ck_assert(same_value(&oracle->versions[i], &versions[i]));
        oracle_fini(oracle);
        free(exact);
        free(copy);
        free(frame);
    }
    free(key_bytes);
    free(versions);
    free(oracle);
}
END_TEST

int
main(void)
{
    Suite *suite = suite_create("leaf_iterator");
    TCase *tests = tcase_create("leaf_iterator");
    tcase_set_timeout(tests, 120);
    tcase_add_test(tests, walks_forward_back_and_mixed_follow_the_oracle);
    tcase_add_test(tests, versions_taken_out_build_the_same_leaf_again);
    tcase_add_test(tests, a_clone_holds_what_was_published_and_stays_so);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
