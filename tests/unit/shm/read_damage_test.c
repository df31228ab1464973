/* Reading what is no tree: pages that are not there, words and links that lead astray, random bytes. */
#include "tree_fixture.h"

#include <time.h>

/* --- pages that are not there, or make no sense --- */

START_TEST(page_that_is_not_resident_is_named)
{
    char value[24];
    uint64_t size;
    mshm_pid missing = 0;
    uint32_t copy_size;
    _Alignas(64) static uint8_t copy[MSHM_MAX_FRAME];
    standard_tree();
    AO_store(tree_map(3), MSHM_MAP_ON_DISK | UINT64_C(12345) << 4);
    TREE_HAS(50, 500, "50@10");
    ck_assert_int_eq(
        mshm_get(&view, &lane, NULL, tree, "000150", 6, 500, value, 23, &size, NULL, &missing),
        MSHM_BUSY);
    ck_assert_uint_eq(missing, 3);
    missing = 0;
    ck_assert_int_eq(mshm_leaf_copy(&view, &lane, NULL, tree, 500, MSHM_LEAF_AT, "000150", 6, 0,
                                    copy, &copy_size, &missing),
                     MSHM_BUSY);
    ck_assert_uint_eq(missing, 3);
    ck_assert_uint_eq(lane.epoch, 0);
}
END_TEST

START_TEST(map_word_that_leads_out_of_the_frames_is_corrupt)
{
    char value[24];
    standard_tree();
    const AO_t good = *tree_map(3);
    const AO_t words[] = {
        mshm_map_word(0, 0, 0),                                  /* the header */
        mshm_map_word(tree_geometry.frames_offset - 4096, 0, 0), /* the page map */
        mshm_map_word(tree_geometry.frames_offset + tree_geometry.frames_size, 0, 0),
        mshm_map_word(tree_geometry.frames_offset + tree_geometry.frames_size - 4096, 1, 0),
        mshm_map_word(UINT64_C(0xffffffffffff) * 4096, 0, 0),
        good | 5 << 4, /* no such class */
        good | 15 << 4,
        15, /* no such state */
        UINT64_MAX,
    };
    for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
        AO_store(tree_map(3), words[i]);
        ck_assert_int_eq(tree_get(150, 500, value), MSHM_CORRUPT);
    }
    AO_store(tree_map(3), good);
    TREE_HAS(150, 500, "150@10");
}
END_TEST

START_TEST(frame_that_reaches_beyond_the_frames_is_corrupt)
{
    char value[24];
    standard_tree();
    const AO_t good = *tree_map(3);
    memcpy(tree_frame(TREE_FRAMES - 1), tree_base + mshm_map_frame(good), TREE_FRAME);
    AO_store(tree_map(3), tree_word(TREE_FRAMES - 1, 0));
    TREE_HAS(150, 500, "150@10");
    for (AO_t class = 1; class < MSHM_CLASSES; class ++) {
        AO_store(tree_map(3), tree_word(TREE_FRAMES - 1, 0) | class << 4);
        ck_assert_int_eq(tree_get(150, 500, value), MSHM_CORRUPT);
    }
}
END_TEST

/* The pid of a leaf leads to an inner page of the same bucket, over sound leaves: it fits in all but its level. */
START_TEST(child_of_the_wrong_level_is_not_followed)
{
    static const unsigned separators[] = {150};
    static const mshm_pid children[] = {5, 6};
    char value[24];
    standard_tree();
    tree_publish(5, tree_leaf(5, 6, 100, 150, 2));
    tree_publish(6, tree_leaf(6, 4, 150, 200, 2));
    tree_publish(3, tree_inner(3, 4, 1, 100, 200, 1, separators, children));
    ck_assert_int_eq(tree_get(120, 500, value), MSHM_CORRUPT);
    TREE_HAS(50, 500, "50@10");
}
END_TEST

START_TEST(links_in_a_circle_end_as_corrupt)
{
    char value[24];
    standard_tree();
    struct mshm_page *two = (struct mshm_page *)(tree_base + mshm_map_frame(*tree_map(2)));
    *tree_map(3) = *tree_map(2); /* the parent sends the reader of 150 to a leaf that ends at 100 */
    two->right = 2;
    ck_assert_int_eq(tree_get(150, 500, value), MSHM_CORRUPT);
    two->right = 3;
    ck_assert_int_eq(tree_get(150, 500, value), MSHM_CORRUPT);
}
END_TEST

START_TEST(child_of_another_bucket_or_level_is_corrupt)
{
    char value[24];
    standard_tree();
    struct mshm_page *page = (struct mshm_page *)(tree_base + mshm_map_frame(*tree_map(3)));
    page->bucket = 8;
    ck_assert_int_eq(tree_get(150, 500, value), MSHM_CORRUPT);
    page->bucket = TREE_BUCKET;
    page->level = 1;
    ck_assert_int_eq(tree_get(150, 500, value), MSHM_CORRUPT);
    page->level = 0;
    page->magic++;
    ck_assert_int_eq(tree_get(150, 500, value), MSHM_CORRUPT);
    page->magic--;
    page->kind = MSHM_PAGE_HISTORY;
    ck_assert_int_eq(tree_get(150, 500, value), MSHM_CORRUPT);
    page->kind = MSHM_PAGE_LEAF;
    TREE_HAS(150, 500, "150@10");
    AO_store(tree_map(3), MSHM_MAP_NONE);
    ck_assert_int_eq(tree_get(150, 500, value), MSHM_CORRUPT);
}
END_TEST

START_TEST(root_that_is_gone_means_that_the_bucket_was_dropped)
{
    standard_tree();
    const AO_t good = *tree_map(1);
    AO_store(tree_map(1), MSHM_MAP_NONE);
    TREE_LACKS(50, 500);
    unsigned other = tree_leaf(1, 0, TREE_FIRST, TREE_END, 10000);
    ((struct mshm_page *)tree_frame(other))->bucket = 8;
    tree_publish(1, other);
    TREE_LACKS(0, 500);
    AO_store(tree_map(1), good);
    TREE_HAS(50, 500, "50@10");
}
END_TEST

/* --- bytes that are no tree --- */

_Alignas(64) static uint8_t copy[MSHM_MAX_FRAME];

START_TEST(random_damage_ends_as_a_status_and_stays_in_the_mapping)
{
    const char *given = getenv("MACE_SEED");
    unsigned seed = given != NULL ? (unsigned)strtoul(given, NULL, 0) : (unsigned)time(NULL);
    printf("read_damage_test: MACE_SEED=%u\n", seed);
    srandom(seed);
    AO_t roots[2];
    history_tree();
    roots[0] = *tree_map(1);
    standard_tree();
    roots[1] = *tree_map(1);
    uint8_t *frames = tree_frame(0);
    size_t used = (size_t)tree_frames_used * TREE_FRAME;
    uint8_t *good = malloc(used);
    ck_assert_ptr_nonnull(good);
    memcpy(good, frames, used);
    unsigned corrupt = 0;
    for (unsigned round = 0; round < 30000; round++) {
        char key[8], value[24];
        uint64_t size;
        uint32_t copy_size;
        mshm_pid missing;
        for (unsigned hit = (unsigned)random() % 8; hit > 0; hit--) {
            size_t frame = (size_t)random() % tree_frames_used * TREE_FRAME;
            size_t at = random() % 2 ? (size_t)random() % 64 : (size_t)random() % TREE_FRAME;
            frames[frame + at] = (uint8_t)random();
        }
        AO_store(tree_map(1), roots[random() % 2]);
        tree_key(random() % 3 == 0 ? 5 : (unsigned)random() % 400, key);
        int status = mshm_get(&view, &lane, NULL, tree, key, 6, (mshm_timestamp)random() % 200,
                              value, 23, &size, NULL, &missing);
        ck_assert(status == MSHM_OK || status == MSHM_NOT_FOUND || status == MSHM_CORRUPT ||
                  status == MSHM_BUSY || status == MSHM_BUFFER_TOO_SMALL);
        corrupt += status == MSHM_CORRUPT;
        status = mshm_leaf_copy(&view, &lane, NULL, tree, 500, (enum mshm_leaf_where)(random() % 3),
                                key, 6, (mshm_pid)random() % 8, copy, &copy_size, &missing);
        corrupt += status == MSHM_CORRUPT;
        if (status == MSHM_OK)
            ck_assert_uint_le(copy_size, TREE_FRAME);
        if (round % 50 == 0)
            memcpy(frames, good, used);
    }
    ck_assert_uint_gt(corrupt, 100);
    free(good);
}
END_TEST

int
main(void)
{
    Suite *suite = suite_create("read_damage");
    TCase *tests = tcase_create("read_damage");
    tcase_set_timeout(tests, 120);
    tcase_add_checked_fixture(tests, tree_set_up, tree_tear_down);
    tcase_add_test(tests, page_that_is_not_resident_is_named);
    tcase_add_test(tests, map_word_that_leads_out_of_the_frames_is_corrupt);
    tcase_add_test(tests, frame_that_reaches_beyond_the_frames_is_corrupt);
    tcase_add_test(tests, child_of_the_wrong_level_is_not_followed);
    tcase_add_test(tests, links_in_a_circle_end_as_corrupt);
    tcase_add_test(tests, child_of_another_bucket_or_level_is_corrupt);
    tcase_add_test(tests, root_that_is_gone_means_that_the_bucket_was_dropped);
    tcase_add_test(tests, random_damage_ends_as_a_status_and_stays_in_the_mapping);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
