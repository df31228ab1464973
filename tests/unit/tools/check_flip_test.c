/* check_flip_test.c - mace-check finds a flipped bit in every kind of place, and files that are missing. */
#include <check.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "data.h"
#include "manifest_format.h"
#include "mshm/status.h"
#include "unit/tools/planted.h"
#include "unit/tools/verdict.h"
#include "wal_segment.h"

static struct planted planted;

static void
expect_finding(const char *text)
{
    struct verdict verdict;
    verdict_reach(&verdict, planted_path);
    if (verdict.status != MSHM_OK || verdict_find(&verdict, NULL, text) == NULL) {
        verdict_show(&verdict);
        ck_abort_msg("no finding says: %s", text);
    }
    verdict_fini(&verdict);
}

static void
flip_and_find(const char *name, uint64_t offset)
{
    struct verdict verdict;
    planted_flip(planted_path, name, offset, (unsigned)offset);
    verdict_reach(&verdict, planted_path);
    ck_assert_int_eq(verdict.status, MSHM_OK);
    if (verdict_find(&verdict, strchr(name, '/') != NULL ? strchr(name, '/') : name, "") == NULL) {
        verdict_show(&verdict);
        ck_abort_msg("the flipped bit %s:%llu is not found", name, (unsigned long long)offset);
    }
    verdict_fini(&verdict);
    planted_flip(planted_path, name, offset, (unsigned)offset);
}

START_TEST(a_flipped_bit_in_current_is_found)
{
    for (uint64_t offset = 0; offset < 20; offset++)
        flip_and_find("CURRENT", offset);
}
END_TEST

START_TEST(a_flipped_bit_in_the_manifest_is_found)
{
    char name[MANIFEST_NAME_SIZE];
    planted_open(&planted, planted_path);
    manifest_name(name, planted.check.manifest.number);
    uint64_t size = planted.check.manifest.size, step = size / 97 | 1;
    planted_close(&planted);
    for (uint64_t offset = 0; offset < sizeof(struct manifest_header); offset += 7)
        flip_and_find(name, offset);
    for (uint64_t offset = MANIFEST_RECORDS_AT; offset < size; offset += step)
        flip_and_find(name, offset);
}
END_TEST

START_TEST(a_flipped_bit_in_the_head_of_a_data_file_is_found)
{
    for (uint64_t offset = 0; offset < sizeof(struct data_file_header); offset += 5)
        flip_and_find("data/0000000000000001.dat", offset);
}
END_TEST

/* Of each kind of record: full leaf, inner page, the deltas of a chain and what they stand on. */
START_TEST(a_flipped_bit_in_a_live_record_is_found)
{
    unsigned tried = 0;
    planted_open(&planted, planted_path);
    struct check *check = &planted.check;
    for (uint64_t i = 0; i < check->page_count; i += 11) {
        struct check_chain chain;
        char name[DATA_NAME_SIZE];
        const struct check_page *page = &check->pages[i];
        ck_assert_int_eq(check_page_load(check->reader, page->location, page->pid, &chain), 0);
        for (unsigned k = 0; k < chain.count; k++, tried++) {
            uint32_t size = data_location_size(chain.locations[k]);
            data_name(name, data_location_file(chain.locations[k]));
            check_close(check); /* it has the lock */
            flip_and_find(name, data_location_offset(chain.locations[k]) + tried * 37 % size);
            report_destroy(planted.report);
            planted_open(&planted, planted_path);
            check = &planted.check;
        }
    }
    planted_close(&planted);
    ck_assert_uint_gt(tried, 20);
}
END_TEST

START_TEST(a_flipped_bit_in_the_log_is_found)
{
    char name[WAL_NAME_SIZE];
    planted_open(&planted, planted_path);
    struct wal_position cut = planted.check.manifest.cut.position;
    planted_close(&planted);
    wal_segment_name(name, cut.segment, "log");
    for (uint64_t offset = 0; offset < sizeof(struct wal_segment_header); offset += 9)
        flip_and_find(name, offset);
    for (uint64_t offset = 0; offset < 2000; offset += 61)
        flip_and_find(name, cut.offset + offset);
}
END_TEST

START_TEST(a_missing_log_segment_is_found)
{
    char name[WAL_NAME_SIZE], joined[SCRATCH_PATH];
    planted_open(&planted, planted_path);
    wal_segment_name(name, planted.check.manifest.cut.position.segment, "log");
    planted_close(&planted);
    scratch_join(joined, planted_path, name);
    ck_assert_int_eq(unlink(joined), 0);
    expect_finding("missing");
}
END_TEST

START_TEST(a_missing_current_is_found_and_an_empty_directory_is_no_database)
{
    struct verdict verdict;
    char joined[SCRATCH_PATH];
    scratch_join(joined, planted_path, "CURRENT");
    ck_assert_int_eq(unlink(joined), 0);
    expect_finding("there is no database here");
    scratch_join(joined, planted_path, "blob");
    verdict_reach(&verdict, joined);
    ck_assert_int_eq(verdict.status, MSHM_NOT_FOUND);
    verdict_fini(&verdict);
}
END_TEST

static Suite *
flip_suite(void)
{
    Suite *suite = suite_create("check_flip");
    TCase *tests = tcase_create("check_flip");
    tcase_set_timeout(tests, 120);
    tcase_add_unchecked_fixture(tests, planted_base_create, planted_base_remove);
    tcase_add_checked_fixture(tests, planted_copy_create, planted_copy_remove);
    tcase_add_test(tests, a_flipped_bit_in_current_is_found);
    tcase_add_test(tests, a_flipped_bit_in_the_manifest_is_found);
    tcase_add_test(tests, a_flipped_bit_in_the_head_of_a_data_file_is_found);
    tcase_add_test(tests, a_flipped_bit_in_a_live_record_is_found);
    tcase_add_test(tests, a_flipped_bit_in_the_log_is_found);
    tcase_add_test(tests, a_missing_log_segment_is_found);
    tcase_add_test(tests, a_missing_current_is_found_and_an_empty_directory_is_no_database);
    suite_add_tcase(suite, tests);
    return suite;
}

int
main(void)
{
    SRunner *runner = srunner_create(flip_suite());
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
