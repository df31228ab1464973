/* check_test.c - mace-check finds every class of damage, also where all checksums are right, and says where it is. */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "catalogue_format.h"
#include "mshm/status.h"
#include "unit/tools/planted.h"
#include "unit/tools/verdict.h"

static struct planted planted;

/* A finding with this text, in this file. Of which page: pid, 0 = of any. */
static void
expect_finding(const char *file, uint32_t pid, const char *text)
{
    struct verdict verdict;
    verdict_reach(&verdict, planted_path);
    const json_t *finding = verdict_find(&verdict, file, text);
    if (finding == NULL || verdict.status != MSHM_OK)
        verdict_show(&verdict);
    ck_assert_int_eq(verdict.status, MSHM_OK);
    ck_assert_msg(finding != NULL, "no finding says: %s", text);
    if (pid != 0)
        ck_assert_int_eq(json_integer_value(json_object_get(finding, "page")), pid);
    verdict_fini(&verdict);
}

/* --- sound --- */

START_TEST(a_sound_database_gives_no_finding_and_true_figures)
{
    struct verdict verdict;
    unsigned keys = 0;
    verdict_reach(&verdict, planted_path);
    if (verdict.count != 0)
        verdict_show(&verdict);
    ck_assert_int_eq(verdict.status, MSHM_OK);
    ck_assert_uint_eq(verdict.count, 0);
    for (unsigned i = 0; i < PLANTED_KEYS; i++)
        keys += i % 50 != 0 || i >= PLANTED_CHANGED; /* as of the checkpoint */
    ck_assert_uint_eq(verdict.keys, keys);
    ck_assert_uint_ge(verdict.figures.pages_leaf, 300);
    ck_assert_uint_ge(verdict.figures.pages_inner, 3);
    ck_assert_uint_gt(verdict.figures.log_records, 0);
    verdict_fini(&verdict);
}
END_TEST

/* The other cases mean something only when this changes nothing that counts. */
START_TEST(a_manifest_written_anew_gives_no_finding)
{
    struct verdict verdict;
    planted_open(&planted, planted_path);
    planted_save(&planted);
    planted_close(&planted);
    verdict_reach(&verdict, planted_path);
    if (verdict.count != 0)
        verdict_show(&verdict);
    ck_assert_uint_eq(verdict.count, 0);
    verdict_fini(&verdict);
}
END_TEST

/* --- locations and files --- */

START_TEST(overlapping_locations_are_found)
{
    planted_open(&planted, planted_path);
    const struct check_page *victim = planted_page(&planted, 0, 11);
    struct check_page *other = planted_page(&planted, 0, 50);
    uint32_t pid = other->pid;
    other->location = victim->location;
    planted_save(&planted);
    planted_close(&planted);
    expect_finding("data/", 0, "its location overlaps a live record");
    expect_finding("data/", pid, "the record is that of another page");
}
END_TEST

START_TEST(a_location_beyond_its_file_is_found)
{
    planted_open(&planted, planted_path);
    struct check_page *page = planted_page(&planted, 0, 3);
    uint32_t pid = page->pid;
    page->location =
        data_location_make(data_location_file(page->location), 0, DATA_MAX_FILE_SIZE - 4096, 4096);
    planted_save(&planted);
    planted_close(&planted);
    expect_finding("data/", pid, "outside of its data file");
}
END_TEST

START_TEST(a_location_in_a_file_that_is_not_named_is_found)
{
    planted_open(&planted, planted_path);
    struct check_page *page = planted_page(&planted, 0, 3);
    uint32_t pid = page->pid;
    page->location = data_location_make(4711, 0, 4096, 4096);
    planted_save(&planted);
    planted_close(&planted);
    expect_finding("data/", pid, "a data file that the manifest does not name");
}
END_TEST

START_TEST(wrong_live_bytes_are_found)
{
    planted_open(&planted, planted_path);
    uint64_t *live = &planted.check.files[0].live;
    *live = _i == 0 ? *live + DATA_UNIT : *live - DATA_UNIT;
    planted_save(&planted);
    planted_close(&planted);
    expect_finding("data/", 0, "bytes are live");
}
END_TEST

START_TEST(a_missing_data_file_is_found)
{
    char name[SCRATCH_PATH];
    scratch_join(name, planted_path, "data/0000000000000001.dat");
    ck_assert_int_eq(unlink(name), 0);
    expect_finding("data/0000000000000001.dat", 0, "the file is missing");
}
END_TEST

START_TEST(a_data_file_that_is_cut_short_is_found)
{
    char name[SCRATCH_PATH];
    planted_open(&planted, planted_path);
    uint64_t total = planted.check.files[0].total;
    planted_close(&planted);
    scratch_join(name, planted_path, "data/0000000000000001.dat");
    ck_assert_int_eq(truncate(name, (off_t)total - 64), 0);
    expect_finding("data/0000000000000001.dat", 0, "the file ends here");
}
END_TEST

/* --- trees --- */

START_TEST(a_broken_sibling_link_is_found)
{
    struct planted_record record;
    planted_open(&planted, planted_path);
    const struct check_page *page = planted_page(&planted, (unsigned)_i, 1);
    uint32_t pid = page->pid, wrong = planted_page(&planted, (unsigned)_i, 0)->pid;
    planted_read(&planted, page->location, &record);
    memcpy(record.payload + offsetof(struct page_payload, right), &wrong, sizeof wrong);
    planted_write(&planted, &record);
    planted_close(&planted);
    expect_finding("data/", pid, "right sibling");
}
END_TEST

START_TEST(keys_in_wrong_order_are_found)
{
    struct planted_record record;
    struct page_version version;
    planted_open(&planted, planted_path);
    const struct check_page *page = planted_page(&planted, 0, 40);
    uint32_t pid = page->pid;
    planted_read(&planted, page->location, &record);
    memcpy(&version, record.content, sizeof version);
    ck_assert_uint_gt(version.key_size, 0);
    record.content[sizeof version] = '~';
    planted_write(&planted, &record);
    planted_close(&planted);
    expect_finding("data/", pid, "the keys are not ascending");
}
END_TEST

START_TEST(a_key_outside_its_fences_is_found)
{
    struct planted_record record;
    struct page_version version;
    planted_open(&planted, planted_path);
    const struct check_page *page = planted_page(&planted, 0, 40);
    uint32_t pid = page->pid;
    planted_read(&planted, page->location, &record);
    memcpy(&version, record.content, sizeof version);
    record.content[sizeof version] = ' ';
    planted_write(&planted, &record);
    planted_close(&planted);
    expect_finding("data/", pid, "outside the fences");
}
END_TEST

START_TEST(a_fence_that_is_not_its_parents_separator_is_found)
{
    struct planted_record record;
    struct page_payload payload;
    planted_open(&planted, planted_path);
    const struct check_page *page = planted_page(&planted, 0, 4);
    uint32_t pid = page->pid;
    planted_read(&planted, page->location, &record);
    memcpy(&payload, record.payload, sizeof payload);
    ck_assert_uint_gt(payload.high_size, 0);
    record.high[payload.high_size - 1]++;
    planted_write(&planted, &record);
    planted_close(&planted);
    expect_finding("data/", pid, "its fences are not its parent's separators");
}
END_TEST

START_TEST(a_page_of_another_level_is_found)
{
    struct planted_record record;
    planted_open(&planted, planted_path);
    const struct check_page *page = planted_page(&planted, 1, 0);
    uint32_t pid = page->pid;
    planted_read(&planted, page->location, &record);
    record.head->level = 2;
    planted_write(&planted, &record);
    planted_close(&planted);
    expect_finding("data/", pid, "of another level than its place");
}
END_TEST

START_TEST(a_page_of_another_bucket_is_found)
{
    struct planted_record record;
    planted_open(&planted, planted_path);
    const struct check_page *page = planted_page(&planted, 0, 7);
    uint32_t pid = page->pid;
    planted_read(&planted, page->location, &record);
    record.head->bucket = 1;
    planted_write(&planted, &record);
    planted_close(&planted);
    expect_finding("data/", pid, "the page belongs to another bucket");
}
END_TEST

START_TEST(a_lost_pid_is_found_with_its_keys)
{
    struct verdict verdict;
    planted_open(&planted, planted_path);
    struct check *check = &planted.check;
    struct check_page *page = planted_page(&planted, (unsigned)_i, _i == 0 ? 30 : 1);
    uint32_t pid = page->pid;
    memmove(page, page + 1, (size_t)(check->pages + --check->page_count - page) * sizeof *page);
    planted_save(&planted);
    planted_close(&planted);
    expect_finding(NULL, pid, "a tree leads to it, and the manifest does not");
    verdict_reach(&verdict, planted_path);
    const json_t *finding = verdict_find(&verdict, NULL, "a tree leads to it");
    const char *low = json_string_value(json_object_get(finding, "low"));
    const char *high = json_string_value(json_object_get(finding, "high"));
    ck_assert_msg(low != NULL, "no range");
    ck_assert_msg(high != NULL ? strcmp(low, high) < 0 : _i == 1, "no range");
    ck_assert_str_eq(json_string_value(json_object_get(finding, "bucket")), "planted");
    verdict_fini(&verdict);
}
END_TEST

/* A separator's left child once more as its right one. */
START_TEST(a_pid_with_two_owners_is_found_and_the_page_that_nobody_owns)
{
    struct planted_record record;
    uint32_t twice, stray;
    planted_open(&planted, planted_path);
    const struct check_page *page = planted_page(&planted, 1, 1);
    planted_read(&planted, page->location, &record);
    memcpy(&twice, record.content, sizeof twice);
    memcpy(&stray, record.content + sizeof stray, sizeof stray);
    memcpy(record.content + sizeof twice, &twice, sizeof twice);
    planted_write(&planted, &record);
    planted_close(&planted);
    expect_finding("data/", twice, "two places of the trees lead to the page");
    expect_finding("data/", stray, "no tree leads to the page");
}
END_TEST

START_TEST(a_record_newer_than_the_checkpoint_is_found)
{
    struct planted_record record;
    planted_open(&planted, planted_path);
    const struct check_page *page = planted_page(&planted, 0, 6);
    uint32_t pid = page->pid;
    planted_read(&planted, page->location, &record);
    record.head->cut = planted.check.manifest.cut.timestamp + 1;
    planted_write(&planted, &record);
    planted_close(&planted);
    expect_finding("data/", pid, "newer than the checkpoint");
}
END_TEST

START_TEST(wrong_page_counts_in_the_catalogue_are_found)
{
    planted_open(&planted, planted_path);
    struct catalogue_header *header = planted.check.catalogue;
    header->pages_leaf++;
    planted_save(&planted);
    planted_close(&planted);
    expect_finding("MANIFEST-", 0, "its numbers of pages are not those that are there");
}
END_TEST

START_TEST(two_buckets_with_one_root_are_found)
{
    planted_open(&planted, planted_path);
    struct catalogue_image *first =
        (void *)((uint8_t *)planted.check.catalogue + sizeof(struct catalogue_header));
    struct catalogue_image *second =
        (void *)((uint8_t *)(first + 1) + (first->name_size + 7) / 8 * 8);
    second->root = first->root;
    planted_save(&planted);
    planted_close(&planted);
    expect_finding("MANIFEST-", 0, "the catalogue of buckets makes no sense");
}
END_TEST

static Suite *
check_suite(void)
{
    Suite *suite = suite_create("check");
    TCase *tests = tcase_create("check");
    tcase_set_timeout(tests, 120);
    tcase_add_unchecked_fixture(tests, planted_base_create, planted_base_remove);
    tcase_add_checked_fixture(tests, planted_copy_create, planted_copy_remove);
    tcase_add_test(tests, a_sound_database_gives_no_finding_and_true_figures);
    tcase_add_test(tests, a_manifest_written_anew_gives_no_finding);
    tcase_add_test(tests, overlapping_locations_are_found);
    tcase_add_test(tests, a_location_beyond_its_file_is_found);
    tcase_add_test(tests, a_location_in_a_file_that_is_not_named_is_found);
    tcase_add_loop_test(tests, wrong_live_bytes_are_found, 0, 2);
    tcase_add_test(tests, a_missing_data_file_is_found);
    tcase_add_test(tests, a_data_file_that_is_cut_short_is_found);
    tcase_add_loop_test(tests, a_broken_sibling_link_is_found, 0, 2);
    tcase_add_test(tests, keys_in_wrong_order_are_found);
    tcase_add_test(tests, a_key_outside_its_fences_is_found);
    tcase_add_test(tests, a_fence_that_is_not_its_parents_separator_is_found);
    tcase_add_test(tests, a_page_of_another_level_is_found);
    tcase_add_test(tests, a_page_of_another_bucket_is_found);
    tcase_add_loop_test(tests, a_lost_pid_is_found_with_its_keys, 0, 2);
    tcase_add_test(tests, a_pid_with_two_owners_is_found_and_the_page_that_nobody_owns);
    tcase_add_test(tests, a_record_newer_than_the_checkpoint_is_found);
    tcase_add_test(tests, wrong_page_counts_in_the_catalogue_are_found);
    tcase_add_test(tests, two_buckets_with_one_root_are_found);
    suite_add_tcase(suite, tests);
    return suite;
}

int
main(void)
{
    SRunner *runner = srunner_create(check_suite());
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
