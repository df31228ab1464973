/* Leaves whose bytes are damaged or arbitrary: readers stay inside and say so. */
#include "leaf_fixture.h"

/* Everything a reader may do with a frame: it must stay inside. */
static void
read_everything(const uint8_t *frame, uint32_t frame_size)
{
    static uint8_t key_bytes[8192];
    static struct mshm_version versions[256];
    static _Alignas(64) uint8_t copy[4096];
    static const struct {
        const char *key;
        size_t size;
    } probes[] = {{"common-key/a", 12},
                  {"common-key/abc", 14},
                  {"common-key/b", 12},
                  {"x", 1},
                  {"common-key/", 11}};
    struct mshm_version version;
    struct mshm_leaf_iterator iterator;
    struct mshm_fences fences;
    for (size_t i = 0; i < sizeof probes / sizeof *probes; i++) {
        uint64_t hash = mshm_key_hash(probes[i].key, probes[i].size);
        for (mshm_timestamp snapshot = 0; snapshot < 40; snapshot += 13) {
            int found = mshm_leaf_get(frame, frame_size, probes[i].key, probes[i].size, hash,
                                      snapshot, NULL, &version, NULL);
            if (found == MSHM_FOUND_VERSION) {
                ck_assert(version.value >= frame);
                ck_assert(version.value + version.value_size <= frame + frame_size);
            }
        }
        mshm_leaf_newest(frame, frame_size, probes[i].key, probes[i].size, hash, &version);
    }
    if (mshm_page_fences(frame, frame_size, &fences) == MSHM_OK)
        mshm_fences_compare(&fences, "common-key/a", 12, 0);
    if (mshm_leaf_iterator_init(&iterator, frame, frame_size) == MSHM_OK) {
        for (int i = 0; i < 300 && mshm_leaf_iterator_next(&iterator, 30, &version) == 0; i++)
            continue;
        for (int i = 0; i < 300 && mshm_leaf_iterator_previous(&iterator, 15, &version) == 0; i++)
            continue;
        if (mshm_leaf_iterator_seek(&iterator, "common-key/b", 12) == MSHM_OK)
            mshm_leaf_iterator_next(&iterator, 30, &version);
    }
    mshm_leaf_versions(frame, frame_size, versions, 256, key_bytes, sizeof key_bytes);
    uint32_t cloned = mshm_leaf_clone(frame, frame_size, copy);
    ck_assert_uint_le(cloned, frame_size);
    mshm_leaf_check(frame, frame_size, NULL);
}

static uint8_t
changed(uint8_t byte, int change)
{
    return (uint8_t)(change < 8 ? byte ^ 1 << change : change == 8 ? 0xff : 0);
}

START_TEST(no_flipped_byte_leads_a_reader_out_of_the_frame)
{
    enum { SIZE = 4096 };
    struct oracle *oracle = malloc(sizeof *oracle);
    oracle_init(oracle, 10000);
    oracle_add(oracle, "common-key/a", 12, 3, MSHM_ENTRY_VALUE, "three", 5);
    oracle_add(oracle, "common-key/a", 12, 2, MSHM_ENTRY_VALUE, "two", 3);
    oracle_add(oracle, "common-key/abc", 14, 9, MSHM_ENTRY_VALUE, "nine", 4);
    oracle_add(oracle, "common-key/abcdefgh", 19, 9, MSHM_ENTRY_VALUE, "nine", 4);
    uint8_t *frame = frame_new(SIZE);
    struct mshm_leaf_spec spec = leaf_spec(oracle->versions, oracle->count);
    spec.low = (const uint8_t *)"c";
    spec.low_size = 1;
    spec.high = (const uint8_t *)"d";
    spec.high_size = 1;
    ck_assert_int_eq(mshm_leaf_build(frame, SIZE, &spec), MSHM_OK);
    append(frame, SIZE, oracle_add(oracle, "common-key/b", 12, 20, MSHM_ENTRY_VALUE, "b", 1));
    append(frame, SIZE, oracle_add(oracle, "common-key/a", 12, 25, MSHM_ENTRY_TOMBSTONE, NULL, 0));
    uint32_t used = SIZE - mshm_leaf_room(frame, SIZE);
    assert_sound(frame, SIZE);
    read_everything(frame, SIZE);
    /* Cut off behind the last byte that is meaningful, so that every step outside is seen by a sanitizer. */
    uint8_t *exact = malloc(used);
    for (uint32_t at = 0; at < used; at++) {
        for (int change = 0; change < 10; change++) {
            memcpy(exact, frame, used);
            exact[at] = changed(exact[at], change);
            read_everything(exact, used);
        }
    }
    free(exact);
    oracle_fini(oracle);
    free(oracle);
    free(frame);
}
END_TEST

START_TEST(a_key_that_claims_to_be_longer_than_any_is_corrupt)
{
    enum { SIZE = 32768, CLAIMED = MSHM_MAX_KEY };
    uint8_t *frame = frame_new(SIZE), *value = calloc(1, MSHM_MAX_INLINE);
    struct mshm_leaf_iterator *iterator = malloc(sizeof *iterator);
    struct mshm_version found, versions[2];
    for (int i = 0; i < 2; i++)
        versions[i] = (struct mshm_version){.key = (const uint8_t *)(i == 0 ? "pa" : "pb"),
                                            .key_size = 2,
                                            .value = value,
                                            .value_size = MSHM_MAX_INLINE,
                                            .timestamp = 1,
                                            .kind = MSHM_ENTRY_VALUE};
    struct mshm_leaf_spec spec = leaf_spec(versions, 2);
    struct mshm_page *page = (struct mshm_page *)(void *)frame;
    ck_assert_int_eq(mshm_leaf_build(frame, SIZE, &spec), MSHM_OK);
    /* With the prefix of one byte this base key is one byte too long for the iterator's buffer. */
    struct mshm_entry *entry = (struct mshm_entry *)(void *)(frame + frame[page->slots_at * 4] * 4 +
                                                             frame[page->slots_at * 4 + 1] * 1024);
    ck_assert_uint_eq(entry->key_size, 1);
    entry->key_size = CLAIMED;
    entry->value_size = 0;
    ck_assert_int_eq(mshm_leaf_iterator_init(iterator, frame, SIZE), MSHM_OK);
    ck_assert_int_eq(mshm_leaf_iterator_next(iterator, 9, &found), MSHM_CORRUPT);
    spec.count = 0;
    ck_assert_int_eq(mshm_leaf_build(frame, SIZE, &spec), MSHM_OK);
    ck_assert_int_eq(append(frame, SIZE, &versions[0]), MSHM_OK);
    entry = (struct mshm_entry *)(void *)(frame + page->base_end * 4);
    ck_assert_uint_eq(entry->key_size, 2);
    entry->key_size = CLAIMED + 1;
    entry->value_size = 0;
    ck_assert_int_eq(mshm_leaf_iterator_init(iterator, frame, SIZE), MSHM_CORRUPT);
    struct mshm_fences fences;
    page->low_size = CLAIMED + 1;
    ck_assert_int_eq(mshm_page_fences(frame, SIZE, &fences), MSHM_CORRUPT);
    page->low_size = 0;
    page->high_size = CLAIMED + 1;
    ck_assert_int_eq(mshm_page_fences(frame, SIZE, &fences), MSHM_CORRUPT);
    free(iterator);
    free(value);
    free(frame);
}
END_TEST

START_TEST(random_bytes_lead_no_reader_out_of_the_frame)
{
    random_seed("random_bytes_lead_no_reader_out_of_the_frame");
    for (int round = 0; round < 20000; round++) {
        uint32_t size = (uint32_t)(8 * random_below(100));
        uint8_t *frame = malloc(size == 0 ? 1 : size);
        for (uint32_t i = 0; i < size; i++)
            frame[i] = (uint8_t)(random_below(4) ? random_below(8) : random_next());
        if (size >= 64 && random_below(2)) {
            memset(frame + 16, 0, 8);
            frame[16] = (uint8_t)random_below(66);
        }
        read_everything(frame, size);
        free(frame);
    }
}
END_TEST

int
main(void)
{
    Suite *suite = suite_create("leaf_damage");
    TCase *tests = tcase_create("leaf_damage");
    tcase_set_timeout(tests, 120);
    tcase_add_test(tests, no_flipped_byte_leads_a_reader_out_of_the_frame);
    tcase_add_test(tests, a_key_that_claims_to_be_longer_than_any_is_corrupt);
    tcase_add_test(tests, random_bytes_lead_no_reader_out_of_the_frame);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
