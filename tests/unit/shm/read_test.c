/* Reading the tree: descents through every state that a reader can meet, gets, and copies. */
#include "tree_fixture.h"

#include <pthread.h>

static void
all_even_keys_are_there(void)
{
    for (unsigned number = 0; number < 300; number++) {
        char text[24];
        snprintf(text, sizeof(text), "%u@10", number);
        if (number % 2 == 0) {
            TREE_HAS(number, 500, text);
            TREE_HAS(number, 0, text);
        } else {
            TREE_LACKS(number, 500);
        }
    }
}

START_TEST(every_key_is_found_and_every_gap_is_a_miss)
{
    standard_tree();
    all_even_keys_are_there();
    TREE_LACKS(999999, 500);
    ck_assert_uint_eq(lane.retries, 0);
    ck_assert_uint_eq(lane.gets, 451);
}
END_TEST

START_TEST(leaf_as_root_is_read_like_any_other)
{
    tree_publish(1, tree_leaf(1, 0, TREE_FIRST, 100, 2));
    /* Its fences end at 100, so what lies beyond would be damage: a root has no right sibling. */
    char value[24];
    ck_assert_int_eq(tree_get(150, 500, value), MSHM_CORRUPT);
    TREE_HAS(98, 500, "98@10");
}
END_TEST

START_TEST(snapshot_chooses_the_version)
{
    standard_tree();
    tree_append(3, 150, 20, MSHM_ENTRY_VALUE);
    tree_append(3, 150, 30, MSHM_ENTRY_TOMBSTONE);
    tree_append(3, 150, 40, MSHM_ENTRY_VALUE);
    TREE_LACKS(150, 9);
    TREE_HAS(150, 10, "150@10");
    TREE_HAS(150, 19, "150@10");
    TREE_HAS(150, 20, "150@20");
    TREE_LACKS(150, 30);
    TREE_LACKS(150, 39);
    TREE_HAS(150, 40, "150@40");
}
END_TEST

START_TEST(one_call_get_reads_at_visible_and_not_beyond)
{
    standard_tree();
    tree_append(2, 50, 2000, MSHM_ENTRY_VALUE);
    TREE_HAS(50, 0, "50@10");
    AO_store(&tree_store()->visible, 2000);
    TREE_HAS(50, 0, "50@2000");
}
END_TEST

START_TEST(value_too_big_for_the_buffer_tells_its_size)
{
    char buffer[8] = "untouch";
    uint64_t size = 99;
    mshm_pid missing = 98;
    unsigned kind = 97;
    standard_tree();
    ck_assert_int_eq(
        mshm_get(&view, &lane, NULL, tree, "000100", 6, 500, buffer, 5, &size, &kind, &missing),
        MSHM_BUFFER_TOO_SMALL);
    ck_assert_uint_eq(size, 6); /* 100@10 */
    ck_assert_str_eq(buffer, "untouch");
    size = 99;
    ck_assert_int_eq(
        mshm_get(&view, &lane, NULL, tree, "000101", 6, 500, buffer, 5, &size, &kind, &missing),
        MSHM_NOT_FOUND);
    ck_assert_uint_eq(size, 99); /* outputs are left alone */
    ck_assert_uint_eq(missing, 98);
    ck_assert_uint_eq(kind, 97);
}
END_TEST

START_TEST(empty_value_is_a_value)
{
    struct tree_versions list = {.count = 0};
    uint64_t size = 99;
    mshm_pid missing;
    tree_version(&list, 5, 10, MSHM_ENTRY_VALUE);
    list.versions[0].value_size = 0;
    tree_publish(1, tree_leaf_build(1, 0, TREE_FIRST, TREE_END, 0, MSHM_PAGE_LEAF, &list));
    ck_assert_int_eq(
        mshm_get(&view, &lane, NULL, tree, "000005", 6, 500, NULL, 0, &size, NULL, &missing),
        MSHM_OK);
    ck_assert_uint_eq(size, 0);
}
END_TEST

/* --- history --- */

START_TEST(old_versions_are_found_in_history)
{
    history_tree();
    for (unsigned snapshot = 1; snapshot <= 100; snapshot++) {
        char text[24];
        snprintf(text, sizeof(text), "5@%u", snapshot);
        if (snapshot > 60)
            TREE_HAS(5, snapshot, text);
        else
            TREE_LACKS(5, snapshot);
    }
    TREE_LACKS(6, 49);
    TREE_LACKS(7, 100);
    TREE_HAS(6, 50, "6@50");
}
END_TEST

START_TEST(history_that_is_not_resident_is_asked_for_by_its_leaf)
{
    char value[24];
    uint64_t size;
    mshm_pid missing = 0;
    history_tree();
    struct mshm_page *leaf = (struct mshm_page *)(tree_base + mshm_map_frame(*tree_map(1)));
    AO_store_release(&leaf->history, MSHM_MAP_ON_DISK);
    TREE_HAS(5, 95, "5@95");
    ck_assert_int_eq(
        mshm_get(&view, &lane, NULL, tree, "000005", 6, 80, value, 23, &size, NULL, &missing),
        MSHM_BUSY);
    ck_assert_uint_eq(missing, 1);
}
END_TEST

START_TEST(history_that_runs_in_a_circle_ends_as_corrupt)
{
    char value[24];
    history_tree();
    struct mshm_page *leaf = (struct mshm_page *)(tree_base + mshm_map_frame(*tree_map(1)));
    struct mshm_page *page = (struct mshm_page *)(tree_base + mshm_map_frame(leaf->history));
    AO_store(&page->history, leaf->history);
    ck_assert_int_eq(tree_get(5, 10, value), MSHM_CORRUPT);
    AO_store(&page->history, AO_load(tree_map(1))); /* a leaf is not a history page */
    ck_assert_int_eq(tree_get(5, 10, value), MSHM_CORRUPT);
    AO_store(&page->history, mshm_map_word(UINT64_C(1) << 40, 0, 0));
    ck_assert_int_eq(tree_get(5, 10, value), MSHM_CORRUPT);
}
END_TEST

/* --- structure changes half-way --- */

START_TEST(split_is_right_after_each_of_its_stores)
{
    static const unsigned separators[] = {100, 150, 200};
    static const mshm_pid children[] = {2, 3, 5, 4};
    standard_tree();
    unsigned right = tree_leaf(5, 4, 150, 200, 2), left = tree_leaf(3, 5, 100, 150, 2);
    unsigned parent = tree_inner(1, 0, 1, TREE_FIRST, TREE_END, 3, separators, children);
    tree_publish(5, right);
    all_even_keys_are_there();
    tree_publish(3, left);
    all_even_keys_are_there();
    tree_publish(1, parent);
    all_even_keys_are_there();
    ck_assert_uint_eq(lane.retries, 0);
}
END_TEST

START_TEST(merge_is_right_after_each_of_its_stores)
{
    static const unsigned separators[] = {200};
    static const mshm_pid children[] = {2, 4};
    standard_tree();
    struct tree_versions *list = calloc(1, sizeof(*list));
    for (unsigned number = 0; number < 200; number += 2)
        tree_version(list, number, 10, MSHM_ENTRY_VALUE);
    unsigned left = tree_leaf_build(2, 4, TREE_FIRST, 200, 0, MSHM_PAGE_LEAF, list);
    free(list);
    unsigned parent = tree_inner(1, 0, 1, TREE_FIRST, TREE_END, 1, separators, children);
    tree_publish(2, left);
    all_even_keys_are_there();
    tree_publish(1, parent);
    all_even_keys_are_there();
    AO_store_release(tree_map(3), MSHM_MAP_MOVED);
    all_even_keys_are_there();
    /* Who remembers the merged page starts from the root. */
    const uint8_t *frame;
    uint32_t size;
    mshm_pid leaf;
    ck_assert_int_eq(mshm_descend(&view, tree, 3, "000150", 6, 0, &frame, &size, &leaf), MSHM_OK);
    ck_assert_uint_eq(leaf, 2);
}
END_TEST

/* Root 1 (level 2) still has one child, inner 10, which has already been split: its right half is page 11 with 100 leaves.
 * A reader of the last key must take the right link of the inner page: along the leaves it would need 100 hops. */
START_TEST(inner_split_half_way_costs_no_walk_along_the_leaves)
{
    enum { LEAVES = 200, FIRST = 100 };
    unsigned separators[LEAVES];
    mshm_pid children[LEAVES];
    for (unsigned i = 0; i < LEAVES; i++) {
        mshm_pid pid = FIRST + i;
        children[i] = pid;
        separators[i] = (i + 1) * 100;
        tree_publish(pid, tree_leaf(pid, i + 1 < LEAVES ? pid + 1 : 0, i * 100,
                                    i + 1 < LEAVES ? (i + 1) * 100 : TREE_END, 25));
    }
    const unsigned half = LEAVES / 2;
    tree_publish(11, tree_inner(11, 0, 1, half * 100, TREE_END, half - 1, separators + half,
                                children + half));
    tree_publish(10, tree_inner(10, 11, 1, TREE_FIRST, half * 100, half - 1, separators, children));
    /* A root of one child does not occur; two, of which the second lies beyond every key. */
    static const unsigned root_separators[] = {900000};
    static const mshm_pid root_children[] = {10, 12};
    unsigned beyond[] = {950000};
    mshm_pid beyond_children[] = {90, 91};
    tree_publish(12, tree_inner(12, 0, 1, 900000, TREE_END, 1, beyond, beyond_children));
    tree_publish(1, tree_inner(1, 0, 2, TREE_FIRST, TREE_END, 1, root_separators, root_children));
    for (unsigned i = 0; i < LEAVES; i++) {
        char text[24];
        snprintf(text, sizeof(text), "%u@10", i * 100 + 75);
        TREE_HAS(i * 100 + 75, 500, text);
        TREE_LACKS(i * 100 + 76, 500);
    }
    ck_assert_uint_eq(lane.retries, 0);
}
END_TEST

START_TEST(root_split_keeps_the_root_where_it_is)
{
    /* The old root's content has moved to 6 (leaf [0,50)) and 7 ([50,infinity)); the new root is inner. */
    static const unsigned separators[] = {50};
    static const mshm_pid children[] = {6, 7};
    tree_publish(1, tree_leaf(1, 0, TREE_FIRST, TREE_END, 20000));
    TREE_HAS(0, 500, "0@10");
    tree_publish(7, tree_leaf(7, 0, 50, TREE_END, 20000));
    tree_publish(6, tree_leaf(6, 7, TREE_FIRST, 50, 2));
    tree_publish(1, tree_inner(1, 0, 1, TREE_FIRST, TREE_END, 1, separators, children));
    TREE_HAS(48, 500, "48@10");
    TREE_HAS(50, 500, "50@10");
    TREE_LACKS(51, 500);
}
END_TEST

/* --- remembered pids --- */

static mshm_pid
leaf_from_hint(mshm_pid hint, const char *key, int below)
{
    const uint8_t *frame;
    uint32_t size;
    mshm_pid leaf = 0;
    ck_assert_int_eq(mshm_descend(&view, tree, hint, key, strlen(key), below, &frame, &size, &leaf),
                     MSHM_OK);
    ck_assert_ptr_eq(frame, tree_base + mshm_map_frame(*tree_map(leaf)));
    ck_assert_uint_eq(size, TREE_FRAME);
    return leaf;
}

START_TEST(remembered_pid_is_used_only_where_it_fits)
{
    standard_tree();
    unsigned other = tree_leaf(20, 0, TREE_FIRST, TREE_END, 30000);
    ((struct mshm_page *)tree_frame(other))->bucket = 8;
    tree_publish(20, other); /* another bucket's leaf */
    AO_store(tree_map(21), MSHM_MAP_MOVED);
    static const mshm_pid hints[] = {0,         1,         2, 3, 4, 20, 21, 22, TREE_PIDS - 1,
                                     TREE_PIDS, UINT32_MAX};
    for (size_t i = 0; i < sizeof(hints) / sizeof(hints[0]); i++) {
        ck_assert_uint_eq(leaf_from_hint(hints[i], "000000", 0), 2);
        ck_assert_uint_eq(leaf_from_hint(hints[i], "", 0), 2);
        ck_assert_uint_eq(leaf_from_hint(hints[i], "000099", 0), 2);
        ck_assert_uint_eq(leaf_from_hint(hints[i], "000100", 0), 3);
        ck_assert_uint_eq(leaf_from_hint(hints[i], "000100", 1), 2);
        ck_assert_uint_eq(leaf_from_hint(hints[i], "000101", 1), 3);
        ck_assert_uint_eq(leaf_from_hint(hints[i], "000200", 1), 3);
        ck_assert_uint_eq(leaf_from_hint(hints[i], "999999", 0), 4);
    }
}
END_TEST

/* --- the end of a read --- */

START_TEST(expired_snapshot_gets_no_answer)
{
    char value[24];
    uint64_t size;
    mshm_pid missing;
    AO_t expired = 0;
    standard_tree();
    static const struct {
        mshm_timestamp snapshot, expired;
        int status;
    } rows[] = {
        {500, 0, MSHM_OK},
        {500, 499, MSHM_OK},
        {500, 500, MSHM_SNAPSHOT_EXPIRED},
        {500, 501, MSHM_SNAPSHOT_EXPIRED},
    };
    for (size_t i = 0; i < 4; i++) {
        AO_store(&expired, rows[i].expired);
        ck_assert_int_eq(mshm_get(&view, &lane, &expired, tree, "000050", 6, rows[i].snapshot,
                                  value, 23, &size, NULL, &missing),
                         rows[i].status);
        /* Also a key that is not there: the answer "not found" could be the work of the pruning. */
        ck_assert_int_eq(mshm_get(&view, &lane, &expired, tree, "000051", 6, rows[i].snapshot,
                                  value, 23, &size, NULL, &missing),
                         rows[i].status == MSHM_OK ? MSHM_NOT_FOUND : rows[i].status);
    }
}
END_TEST

/* Ends the revocation once the reader has thrown a bracket away. */
static void *
lift_revocation(void *argument)
{
    (void)argument;
    while (AO_load(&lane.retries) == 0)
        mshm_pause();
    AO_store_release(&tree_store()->epoch, 2);
    return NULL;
}

START_TEST(revoked_bracket_is_thrown_away_whatever_it_found)
{
    standard_tree();
    for (unsigned round = 0; round < 3; round++) {
        pthread_t thread;
        AO_store(&tree_store()->epoch, 1);
        AO_store(&tree_store()->revoked, 1);
        AO_store(&lane.retries, 0);
        if (round == 1) /* in a revoked bracket even nonsense is no finding */
            AO_store(tree_map(4), UINT64_MAX);
        ck_assert_int_eq(pthread_create(&thread, NULL, lift_revocation, NULL), 0);
        TREE_HAS(50, 500, "50@10");
        ck_assert_int_eq(pthread_join(thread, NULL), 0);
        ck_assert_uint_ge(lane.retries, 1);
    }
}
END_TEST

START_TEST(hint_is_set_for_the_leaf_that_was_read)
{
    standard_tree();
    TREE_HAS(150, 500, "150@10");
    size_t frame = (mshm_map_frame(*tree_map(3)) - tree_geometry.frames_offset) / MSHM_UNIT;
    for (size_t i = 0; i < TREE_FRAMES; i++)
        ck_assert_uint_eq(tree_hints[i], i == frame);
    tree_hints[frame] = 77; /* any value but 0 is left alone */
    TREE_HAS(150, 500, "150@10");
    ck_assert_uint_eq(tree_hints[frame], 77);
    view.hints = NULL;
    TREE_HAS(150, 500, "150@10");
}
END_TEST

/* --- copies --- */

_Alignas(64) static uint8_t copy[MSHM_MAX_FRAME];

/* Copies a leaf and returns its size; `low` receives the number of its low fence. */
static uint32_t
copy_leaf(enum mshm_leaf_where where, const char *key, mshm_pid hint, unsigned *low)
{
    uint32_t size = 0;
    mshm_pid missing;
    struct mshm_fences fences;
    char text[8] = "0";
    const char *why = "";
    ck_assert_int_eq(mshm_leaf_copy(&view, &lane, NULL, tree, 500, where, key, strlen(key), hint,
                                    copy, &size, &missing),
                     MSHM_OK);
    ck_assert_msg(mshm_leaf_check(copy, size, &why) == MSHM_OK, "%s", why);
    ck_assert_int_eq(mshm_page_fences(copy, size, &fences), MSHM_OK);
    memcpy(text, fences.low, fences.low_size);
    *low = (unsigned)atoi(text);
    ck_assert_uint_eq(lane.epoch, 0);
    return size;
}

START_TEST(copy_is_of_the_leaf_that_was_asked_for)
{
    unsigned low;
    standard_tree();
    copy_leaf(MSHM_LEAF_AT, "", 0, &low);
    ck_assert_uint_eq(low, 0);
    copy_leaf(MSHM_LEAF_AT, "000100", 0, &low);
    ck_assert_uint_eq(low, 100);
    copy_leaf(MSHM_LEAF_BELOW, "000100", 0, &low);
    ck_assert_uint_eq(low, 0);
    copy_leaf(MSHM_LEAF_LAST, "ignored", 0, &low);
    ck_assert_uint_eq(low, 200);
    copy_leaf(MSHM_LEAF_LAST, "", 2, &low);
    ck_assert_uint_eq(low, 200);
    ck_assert_uint_eq(lane.scans, 5);
}
END_TEST

START_TEST(nothing_is_below_the_empty_key)
{
    uint32_t size = 77;
    mshm_pid missing;
    standard_tree();
    ck_assert_int_eq(mshm_leaf_copy(&view, &lane, NULL, tree, 500, MSHM_LEAF_BELOW, "", 0, 0, copy,
                                    &size, &missing),
                     MSHM_NOT_FOUND);
    ck_assert_uint_eq(size, 77);
}
END_TEST

START_TEST(copy_stays_as_it_was)
{
    unsigned low;
    struct mshm_version version;
    uint64_t hash = mshm_key_hash("000150", 6);
    standard_tree();
    tree_append(3, 150, 20, MSHM_ENTRY_VALUE);
    tree_append(3, 151, 21, MSHM_ENTRY_VALUE);
    uint32_t size = copy_leaf(MSHM_LEAF_AT, "000150", 0, &low);
    tree_append(3, 150, 30, MSHM_ENTRY_VALUE);
    memset(tree_base + mshm_map_frame(*tree_map(3)), 0xee, TREE_FRAME);
    ck_assert_int_eq(mshm_leaf_get(copy, size, "000150", 6, hash, 500, NULL, &version, NULL),
                     MSHM_FOUND_VERSION);
    ck_assert_uint_eq(version.timestamp, 20);
    ck_assert_mem_eq(version.value, "150@20", 6);
    ck_assert_int_eq(mshm_leaf_get(copy, size, "000151", 6, mshm_key_hash("000151", 6), 500, NULL,
                                   &version, NULL),
                     MSHM_FOUND_VERSION);
    ck_assert_int_eq(mshm_leaf_get(copy, size, "000198", 6, mshm_key_hash("000198", 6), 500, NULL,
                                   &version, NULL),
                     MSHM_FOUND_VERSION);
}
END_TEST

START_TEST(copies_forward_and_back_give_every_key_once)
{
    static struct mshm_leaf_iterator iterator;
    struct mshm_version version;
    struct mshm_fences fences;
    char key[8] = "";
    unsigned low, next = 0;
    mshm_pid hint = 0;
    standard_tree();
    for (;;) {
        uint32_t size = copy_leaf(MSHM_LEAF_AT, key, hint, &low);
        ck_assert_int_eq(mshm_leaf_iterator_init(&iterator, copy, size), MSHM_OK);
        while (mshm_leaf_iterator_next(&iterator, 500, &version) == MSHM_OK) {
            ck_assert_uint_eq((unsigned)strtoul((const char *)version.key, NULL, 10) % 1000000,
                              next);
            next += 2;
        }
        ck_assert_int_eq(mshm_page_fences(copy, size, &fences), MSHM_OK);
        if (fences.high_size == MSHM_FENCE_INFINITE)
            break;
        memcpy(key, fences.high, 6);
        hint = fences.right;
    }
    ck_assert_uint_eq(next, 300);
    enum mshm_leaf_where where = MSHM_LEAF_LAST;
    do {
        uint32_t size = copy_leaf(where, key, 0, &low);
        ck_assert_int_eq(mshm_leaf_iterator_init(&iterator, copy, size), MSHM_OK);
        while (mshm_leaf_iterator_previous(&iterator, 500, &version) == MSHM_OK) {
            next -= 2;
            ck_assert_uint_eq((unsigned)strtoul((const char *)version.key, NULL, 10) % 1000000,
                              next);
        }
        tree_key(low, key);
        where = MSHM_LEAF_BELOW;
    } while (low != 0);
    ck_assert_uint_eq(next, 0);
}
END_TEST

int
main(void)
{
    Suite *suite = suite_create("read");
    TCase *tests = tcase_create("read");
    tcase_set_timeout(tests, 120);
    tcase_add_checked_fixture(tests, tree_set_up, tree_tear_down);
    tcase_add_test(tests, every_key_is_found_and_every_gap_is_a_miss);
    tcase_add_test(tests, leaf_as_root_is_read_like_any_other);
    tcase_add_test(tests, snapshot_chooses_the_version);
    tcase_add_test(tests, one_call_get_reads_at_visible_and_not_beyond);
    tcase_add_test(tests, value_too_big_for_the_buffer_tells_its_size);
    tcase_add_test(tests, empty_value_is_a_value);
    tcase_add_test(tests, old_versions_are_found_in_history);
    tcase_add_test(tests, history_that_is_not_resident_is_asked_for_by_its_leaf);
    tcase_add_test(tests, history_that_runs_in_a_circle_ends_as_corrupt);
    tcase_add_test(tests, split_is_right_after_each_of_its_stores);
    tcase_add_test(tests, merge_is_right_after_each_of_its_stores);
    tcase_add_test(tests, inner_split_half_way_costs_no_walk_along_the_leaves);
    tcase_add_test(tests, root_split_keeps_the_root_where_it_is);
    tcase_add_test(tests, remembered_pid_is_used_only_where_it_fits);
    tcase_add_test(tests, expired_snapshot_gets_no_answer);
    tcase_add_test(tests, revoked_bracket_is_thrown_away_whatever_it_found);
    tcase_add_test(tests, hint_is_set_for_the_leaf_that_was_read);
    tcase_add_test(tests, copy_is_of_the_leaf_that_was_asked_for);
    tcase_add_test(tests, nothing_is_below_the_empty_key);
    tcase_add_test(tests, copy_stays_as_it_was);
    tcase_add_test(tests, copies_forward_and_back_give_every_key_once);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
