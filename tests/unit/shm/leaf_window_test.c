/* Where the entries of a leaf's base stand: in the windows that a reader fetches ahead. */
#include "leaf_fixture.h"

enum { SIZE = 16384 };

/* A leaf of `count` keys with values of `value_size` bytes; every tenth key has two versions. */
static uint8_t *
leaf_make(struct oracle *oracle, uint32_t count, size_t value_size)
{
    char key[32];
    uint8_t value[1024];
    uint8_t *frame = frame_new(SIZE);
    memset(value, 'v', sizeof value);
    oracle_init(oracle, 60000);
    for (uint32_t i = 0; i < count; i++) {
        size_t size = (size_t)snprintf(key, sizeof key, "key-%012u", i);
        for (mshm_timestamp timestamp = i % 10 == 0 ? 4 : 5; timestamp <= 5; timestamp++)
            oracle_add(oracle, key, size, timestamp, MSHM_ENTRY_VALUE, value, value_size);
    }
    struct mshm_leaf_spec spec = leaf_spec(oracle->versions, oracle->count);
    ck_assert_int_eq(mshm_leaf_build(frame, SIZE, &spec), MSHM_OK);
    assert_sound(frame, SIZE);
    return frame;
}

/* Of a leaf's keys: how many stand wholly in the lines that their hint leads to. */
static uint32_t
keys_in_windows(const uint8_t *frame, const struct oracle *oracle)
{
    uint32_t inside = 0, first = mshm_leaf_hint(frame) >> 8 & 255;
    for (uint32_t i = 0; i < oracle->count; i++) {
        const struct mshm_version *expected = &oracle->versions[i];
        uint64_t hash = mshm_key_hash(expected->key, expected->key_size);
        struct mshm_version found;
        if (expected->timestamp != 5)
            continue;
        ck_assert_int_eq(get(frame, SIZE, expected->key, expected->key_size, 5, &found),
                         MSHM_FOUND_VERSION);
        uint32_t window = first + mshm_leaf_window(hash, mshm_leaf_hint(frame) >> 16);
        uint32_t prefix_size = ((const struct mshm_page *)(const void *)frame)->prefix_size;
        uint32_t value_at = (uint32_t)(found.value - frame);
        uint32_t at =
            value_at - (uint32_t)sizeof(struct mshm_entry) - (expected->key_size - prefix_size);
        inside += at / MSHM_LINE >= window &&
                  (value_at + found.value_size - 1) / MSHM_LINE < window + MSHM_WINDOW;
    }
    return inside;
}

START_TEST(most_small_entries_stand_in_their_windows)
{
    uint32_t all = 0, all_inside = 0;
    for (uint32_t count = 1; count < 180; count++) {
        struct oracle oracle;
        uint8_t *frame = leaf_make(&oracle, count, 16);
        ck_assert_uint_ne(mshm_leaf_hint(frame) >> 16, 0);
        uint32_t inside = keys_in_windows(frame, &oracle);
        ck_assert_msg(inside * 2 >= count, "%u of %u keys", inside, count);
        all += count;
        all_inside += inside;
        oracle_fini(&oracle);
        free(frame);
    }
    ck_assert_msg(all_inside * 5 >= all * 4, "%u of %u keys", all_inside, all);
}
END_TEST

START_TEST(large_entries_have_no_windows)
{
    struct oracle oracle;
    uint8_t *frame = leaf_make(&oracle, 20, 400);
    ck_assert_uint_eq(mshm_leaf_hint(frame) >> 8, 0);
    oracle_fini(&oracle);
    free(frame);
}
END_TEST

START_TEST(entries_that_overlap_are_reported)
{
    struct oracle oracle;
    uint8_t *frame = leaf_make(&oracle, 100, 16);
    const struct mshm_page *page = (const struct mshm_page *)(const void *)frame;
    for (uint32_t i = 0; i < page->key_count; i++) {
        uint16_t slot;
        memcpy(&slot, frame + page->slots_at * 4 + i * 2, sizeof slot);
        struct mshm_entry *entry = (struct mshm_entry *)(void *)(frame + slot * 4);
        if (entry->flags & MSHM_ENTRY_MORE)
            continue;
        const char *why;
        entry->value_size += 4;
        ck_assert_int_eq(mshm_leaf_check(frame, SIZE, &why), MSHM_CORRUPT);
        entry->value_size -= 8;
        ck_assert_int_eq(mshm_leaf_check(frame, SIZE, &why), MSHM_CORRUPT);
        entry->value_size += 4;
        assert_sound(frame, SIZE);
    }
    oracle_fini(&oracle);
    free(frame);
}
END_TEST

int
main(void)
{
    Suite *suite = suite_create("leaf_window");
    TCase *tests = tcase_create("leaf_window");
    tcase_add_test(tests, most_small_entries_stand_in_their_windows);
    tcase_add_test(tests, large_entries_have_no_windows);
    tcase_add_test(tests, entries_that_overlap_are_reported);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
