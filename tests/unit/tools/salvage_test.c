/* salvage_test.c - mace-check --repair keeps all that can be read, says of which keys something is lost, and of no others. */
#include <check.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "data.h"
#include "mshm/status.h"
#include "support/client.h"
#include "unit/tools/planted.h"
#include "unit/tools/verdict.h"
#include "wal_segment.h"

static struct planted planted;
static struct salvage_result result;

/* --- what was saved --- */

/* The generation of a key in the new database, whose value must be whole; 0: it is not there. */
static unsigned
generation_read(mace_txn *txn, mace_bucket *bucket, unsigned i)
{
    char key[PLANTED_KEY], value[PLANTED_VALUE];
    mace_slice found;
    planted_key(key, i);
    int status = mace_get(txn, bucket, key, strlen(key), &found);
    if (status == MACE_NOT_FOUND)
        return 0;
    require_ok(status);
    for (unsigned generation = 1; generation <= 3; generation++)
        if (planted_value(value, i, generation) == found.size &&
            memcmp(value, found.data, found.size) == 0)
            return generation;
    require(0, "key %u has a value that nobody wrote", i);
    return 0;
}

/* How many keys there are at all. */
static unsigned
keys_count(mace_txn *txn, mace_bucket *bucket)
{
    mace_cursor *cursor;
    mace_slice key;
    unsigned count = 0;
    require_ok(mace_cursor_open(txn, bucket, NULL, &cursor));
    while (mace_cursor_next(cursor, &key, NULL) == MACE_OK)
        count++;
    mace_cursor_close(cursor);
    return count;
}

/* Every key as it should be: as it was, or, where something is told to be lost, what the log had of it. Commits of the log
 * may be missing from the end on when `log_cut`. Returns how many keys are in what is lost. */
static unsigned
saved_check(const char *path, const char *name, const json_t *lost, int log_cut)
{
    unsigned count = 0, cut = 0, keys = 0;
    mace_txn *txn;
    mace *db = client_open_starting(path, 100);
    mace_bucket *bucket = client_bucket(db, name);
    require_ok(mace_begin(db, MACE_RDONLY, &txn));
    for (unsigned i = 0; i < PLANTED_KEYS; i++) {
        char key[PLANTED_KEY];
        planted_key(key, i);
        unsigned wanted = planted_generation(i), found = generation_read(txn, bucket, i);
        int in_lost = verdict_covers(lost, name, key);
        count += in_lost != 0;
        keys += found != 0;
        if (in_lost && !planted_in_log(i))
            wanted = 0;
        if (log_cut && planted_in_log(i) && found != 3)
            cut++; /* its former state, and of all that follow */
        else
            require(found == wanted, "key %u is of generation %u instead of %u", i, found, wanted);
        require(!log_cut || cut == 0 || !planted_in_log(i) || found != 3,
                "key %u was written after one that is lost", i);
    }
    require(!log_cut || cut > 0, "no commit is lost");
    unsigned all = keys_count(txn, bucket);
    require(all == keys, "%u keys are there, and %u should be", all, keys);
    mace_abort(txn);
    mace_bucket_close(bucket);
    mace_close(db);
    return count;
}

static json_t *
repair(char to[SCRATCH_PATH])
{
    struct verdict verdict;
    planted_beside(to, "saved");
    json_t *lost = verdict_repair(planted_path, to, &result);
    verdict_reach(&verdict, to);
    if (verdict.count != 0 || verdict.status != MSHM_OK)
        verdict_show(&verdict);
    ck_assert_int_eq(verdict.status, MSHM_OK);
    ck_assert_uint_eq(verdict.count, 0);
    ck_assert_uint_eq(result.strange, 0);
    verdict_fini(&verdict);
    return lost;
}

/* Repairs and compares: from `least` to `most` keys may be in what is lost. */
static void
repair_and_compare(unsigned least, unsigned most)
{
    char to[SCRATCH_PATH];
    json_t *lost = repair(to);
    unsigned count = saved_check(to, "planted", lost, 0);
    if (count < least || count > most)
        json_dumpf(lost, stderr, JSON_INDENT(1));
    ck_assert_uint_ge(count, least);
    ck_assert_uint_le(count, most);
    json_decref(lost);
}

enum { LEAF_KEYS = 100 /* a leaf has fewer */ };

/* Flips a bit inside a page's newest record (or, with `older`, the one below it). */
static void
page_damage(const struct check_page *page, int older)
{
    struct check_chain chain;
    char name[DATA_NAME_SIZE];
    ck_assert_int_eq(check_page_load(planted.check.reader, page->location, page->pid, &chain), 0);
    ck_assert_uint_gt(chain.count, (unsigned)older);
    data_location location = chain.locations[older];
    data_name(name, data_location_file(location));
    planted_close(&planted);
    planted_flip(planted_path, name, data_location_offset(location) + 100, 3);
}

/* --- cases --- */

START_TEST(a_sound_database_is_saved_whole)
{
    repair_and_compare(0, 0);
    ck_assert_uint_ne(result.manifest, 0);
}
END_TEST

START_TEST(of_a_damaged_leaf_its_keys_are_lost_and_no_others)
{
    planted_open(&planted, planted_path);
    page_damage(planted_page(&planted, 0, 20), 0);
    repair_and_compare(5, LEAF_KEYS);
}
END_TEST

START_TEST(of_a_leaf_whose_older_record_is_damaged_its_keys_are_lost)
{
    planted_open(&planted, planted_path);
    const struct check_page *page = planted.check.pages;
    while (page->level != 0 || data_location_older(page->location) == 0)
        page++;
    page_damage(page, 1);
    repair_and_compare(5, LEAF_KEYS);
}
END_TEST

START_TEST(of_damaged_inner_pages_nothing_is_lost)
{
    planted_open(&planted, planted_path);
    page_damage(_i == 0 ? planted_page(&planted, 1, 0) : planted_root(&planted), 0);
    repair_and_compare(0, 0);
}
END_TEST

START_TEST(of_a_page_that_the_manifest_does_not_name_the_keys_are_lost)
{
    planted_open(&planted, planted_path);
    struct check *check = &planted.check;
    struct check_page *page = planted_page(&planted, 0, 30);
    memmove(page, page + 1, (size_t)(check->pages + --check->page_count - page) * sizeof *page);
    planted_save(&planted);
    planted_close(&planted);
    repair_and_compare(5, LEAF_KEYS);
}
END_TEST

/* Its keys are in the page that no tree leads to. */
START_TEST(of_a_page_with_two_owners_nothing_is_lost)
{
    struct planted_record record;
    planted_open(&planted, planted_path);
    planted_read(&planted, planted_page(&planted, 1, 1)->location, &record);
    memcpy(record.content + sizeof(uint32_t), record.content, sizeof(uint32_t));
    planted_write(&planted, &record);
    planted_close(&planted);
    repair_and_compare(0, 0);
}
END_TEST

START_TEST(of_overlapping_pages_one_is_kept)
{
    planted_open(&planted, planted_path);
    planted_page(&planted, 0, 50)->location = planted_page(&planted, 0, 11)->location;
    planted_save(&planted);
    planted_close(&planted);
    repair_and_compare(5, LEAF_KEYS);
}
END_TEST

START_TEST(with_a_damaged_head_of_a_data_file_nothing_is_lost)
{
    planted_flip(planted_path, "data/0000000000000001.dat", 20, 0);
    repair_and_compare(0, 0);
}
END_TEST

START_TEST(without_its_data_files_a_database_keeps_what_its_log_has)
{
    char name[SCRATCH_PATH];
    scratch_join(name, planted_path, "data/0000000000000001.dat");
    ck_assert_int_eq(unlink(name), 0);
    repair_and_compare(PLANTED_KEYS, PLANTED_KEYS);
}
END_TEST

START_TEST(with_a_damaged_current_nothing_is_lost)
{
    char name[SCRATCH_PATH];
    scratch_join(name, planted_path, "CURRENT");
    if (_i == 0)
        ck_assert_int_eq(unlink(name), 0);
    else
        planted_flip(planted_path, "CURRENT", 9, 1);
    repair_and_compare(0, 0);
    ck_assert_uint_ne(result.manifest, 0);
}
END_TEST

/* A log that reaches far back would hide what is wrong with the pages. */
static void
old_segments_remove(uint64_t below)
{
    for (uint64_t number = 1; number < below; number++) {
        char name[WAL_NAME_SIZE], joined[SCRATCH_PATH];
        wal_segment_name(name, number, "log");
        scratch_join(joined, planted_path, name);
        (void)unlink(joined);
    }
}

/* The names of the buckets are in every edit, too. */
START_TEST(with_a_damaged_manifest_nothing_is_lost)
{
    char name[MANIFEST_NAME_SIZE];
    planted_open(&planted, planted_path);
    manifest_name(name, planted.check.manifest.number);
    uint64_t first = planted.check.manifest.snapshot_size, size = planted.check.manifest.size;
    uint64_t segment = planted.check.manifest.cut.position.segment;
    planted_close(&planted);
    old_segments_remove(segment);
    ck_assert_uint_gt(size, first);
    planted_flip(planted_path, name, _i == 0 ? 600 : _i == 1 ? 20 : first + 1024 + 200, 1);
    repair_and_compare(0, 0);
    ck_assert_uint_eq(result.manifest, 0);
}
END_TEST

START_TEST(without_any_manifest_a_bucket_has_its_number_for_a_name)
{
    char name[MANIFEST_NAME_SIZE], joined[SCRATCH_PATH], to[SCRATCH_PATH], bucket[40];
    planted_open(&planted, planted_path);
    manifest_name(name, planted.check.manifest.number);
    uint64_t segment = planted.check.manifest.cut.position.segment;
    planted_close(&planted);
    old_segments_remove(segment); /* the first of them would tell the name */
    scratch_join(joined, planted_path, name);
    ck_assert_int_eq(unlink(joined), 0);
    json_t *lost = repair(to);
    snprintf(bucket, sizeof bucket, "bucket-%u", planted.bucket);
    ck_assert_uint_eq(saved_check(to, bucket, lost, 0), 0);
    json_decref(lost);
}
END_TEST

static int
tells_of_commits(const json_t *lost)
{
    size_t i;
    json_t *finding;
    json_array_foreach(lost, i, finding)
    {
        if (strstr(json_string_value(json_object_get(finding, "text")), "up to commit") != NULL)
            return 1;
    }
    return 0;
}

/* Kept are the commits before the damage: later ones without them would be no state that ever was. */
START_TEST(with_a_damaged_log_record_later_commits_are_lost)
{
    char name[WAL_NAME_SIZE], to[SCRATCH_PATH];
    planted_open(&planted, planted_path);
    struct wal_position cut = planted.check.manifest.cut.position;
    planted_close(&planted);
    wal_segment_name(name, cut.segment, "log");
    planted_flip(planted_path, name, cut.offset + 150, 5);
    json_t *lost = repair(to);
    ck_assert(tells_of_commits(lost));
    ck_assert_uint_eq(saved_check(to, "planted", lost, 1), 0);
    json_decref(lost);
}
END_TEST

START_TEST(without_the_log_the_checkpoint_is_kept)
{
    char name[WAL_NAME_SIZE], joined[SCRATCH_PATH], to[SCRATCH_PATH];
    planted_open(&planted, planted_path);
    wal_segment_name(name, planted.check.manifest.cut.position.segment, "log");
    planted_close(&planted);
    scratch_join(joined, planted_path, name);
    ck_assert_int_eq(unlink(joined), 0);
    json_t *lost = repair(to);
    ck_assert_uint_eq(saved_check(to, "planted", lost, 1), 0);
    json_decref(lost);
}
END_TEST

static Suite *
salvage_suite(void)
{
    Suite *suite = suite_create("salvage");
    TCase *tests = tcase_create("salvage");
    tcase_set_timeout(tests, 120);
    tcase_add_unchecked_fixture(tests, planted_base_create, planted_base_remove);
    tcase_add_checked_fixture(tests, planted_copy_create, planted_copy_remove);
    tcase_add_test(tests, a_sound_database_is_saved_whole);
    tcase_add_test(tests, of_a_damaged_leaf_its_keys_are_lost_and_no_others);
    tcase_add_test(tests, of_a_leaf_whose_older_record_is_damaged_its_keys_are_lost);
    tcase_add_loop_test(tests, of_damaged_inner_pages_nothing_is_lost, 0, 2);
    tcase_add_test(tests, of_a_page_that_the_manifest_does_not_name_the_keys_are_lost);
    tcase_add_test(tests, of_a_page_with_two_owners_nothing_is_lost);
    tcase_add_test(tests, of_overlapping_pages_one_is_kept);
    tcase_add_test(tests, with_a_damaged_head_of_a_data_file_nothing_is_lost);
    tcase_add_test(tests, without_its_data_files_a_database_keeps_what_its_log_has);
    tcase_add_loop_test(tests, with_a_damaged_current_nothing_is_lost, 0, 2);
    tcase_add_loop_test(tests, with_a_damaged_manifest_nothing_is_lost, 0, 3);
    tcase_add_test(tests, without_any_manifest_a_bucket_has_its_number_for_a_name);
    tcase_add_test(tests, with_a_damaged_log_record_later_commits_are_lost);
    tcase_add_test(tests, without_the_log_the_checkpoint_is_kept);
    suite_add_tcase(suite, tests);
    return suite;
}

int
main(void)
{
    SRunner *runner = srunner_create(salvage_suite());
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
