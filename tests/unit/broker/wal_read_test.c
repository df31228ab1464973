/* Where the log ends, and when it is refused: DESIGN 9 case by case, then every byte of a small log. */
#include "unit/broker/wal_fixture.h"

#include <check.h>
#include <errno.h>

#include "crc.h"
#include "wal_segment.h"

static struct fixture fixture;

static void
set_up(void)
{
    fixture_init(&fixture, 1);
    ck_assert_int_eq(fixture_open(&fixture, NULL), MSHM_OK);
}

static void
tear_down(void)
{
    fixture_fini(&fixture);
}

static void
commit(int count, bool sync)
{
    for (int i = 0; i < count; i++) {
        ck_assert_int_eq(fixture_commit(&fixture, sync), MSHM_OK);
        ck_assert_int_eq(sync ? fixture_settle(&fixture) : wal_flush(fixture.wal), MSHM_OK);
    }
    ck_assert_int_eq(fixture_settle(&fixture), MSHM_OK);
}

static struct sim_inode *
segment_inode(uint64_t number)
{
    char name[WAL_NAME_SIZE];
    wal_segment_name(name, number, "log");
    return sim_disk_find(sim_env_disk(fixture.sim), name);
}

static void
segment_remove(uint64_t number)
{
    char name[WAL_NAME_SIZE];
    wal_segment_name(name, number, "log");
    ck_assert_int_eq(sim_disk_remove(sim_env_disk(fixture.sim), name), 0);
}

/* Offset of the n-th record (from 0) of a segment, mark-only ones counted. */
static uint64_t
record_offset(uint64_t segment, int n)
{
    const struct sim_inode *inode = segment_inode(segment);
    uint64_t offset = WAL_RECORDS_AT;
    while (n-- > 0) {
        const struct wal_record *record = (const struct wal_record *)(inode->cache + offset);
        ck_assert_uint_eq(record->magic, WAL_RECORD_MAGIC);
        offset += record->size;
    }
    return offset;
}

START_TEST(empty_directory_is_an_empty_log)
{
    fixture_fini(&fixture);
    fixture_init(&fixture, 1);
    ck_assert_int_eq(fixture_read(&fixture), MSHM_OK);
    ck_assert_uint_eq(fixture.end.next.next_segment, 1);
    ck_assert_uint_eq(fixture.end.records, 0);
}
END_TEST

START_TEST(log_that_was_started_and_is_gone_is_refused)
{
    commit(1, true);
    ck_assert_int_eq(fixture_restart(&fixture, false), MSHM_OK);
    segment_remove(1);
    ck_assert_int_eq(wal_read(fixture.env, fixture_id, 1, NULL, fixture_each, &fixture,
                              &fixture.end, fixture.why, sizeof fixture.why),
                     MSHM_CORRUPT);
    ck_assert_str_ne(fixture.why, "");
}
END_TEST

START_TEST(F12_torn_last_record_ends_the_log)
{
    commit(10, false);
    ck_assert_int_eq(fixture_restart(&fixture, false), MSHM_OK);
    sim_disk_rot(segment_inode(1), record_offset(1, 9) + 60, 3);
    ck_assert_int_eq(fixture_read(&fixture), MSHM_OK);
    ck_assert_uint_eq(fixture.read_count, 9);
    ck_assert_uint_eq(fixture.end.next.end.offset, record_offset(1, 9));
}
END_TEST

START_TEST(F12_damage_in_the_middle_that_no_mark_proves_ends_the_log)
{
    commit(10, false); /* never synced: all durable marks lie before the first record */
    ck_assert_int_eq(fixture_restart(&fixture, false), MSHM_OK);
    sim_disk_rot(segment_inode(1), record_offset(1, 4) + 60, 0);
    ck_assert_int_eq(fixture_read(&fixture), MSHM_OK);
    ck_assert_uint_eq(fixture.read_count, 4);
}
END_TEST

START_TEST(F14_damage_below_a_later_durable_mark_is_refused_and_nothing_changes)
{
    commit(10, true);
    ck_assert_int_eq(fixture_restart(&fixture, false), MSHM_OK);
    sim_disk_rot(segment_inode(1), record_offset(1, 4) + 60, 0);
    uint64_t sum = 0, after = 0;
    for (uint64_t i = 0; i < FIXTURE_SEGMENT; i++)
        sum = sum * 31 + segment_inode(1)->cache[i];
    ck_assert_int_eq(fixture_read(&fixture), MSHM_CORRUPT);
    ck_assert_ptr_nonnull(strstr(fixture.why, "0000000000000001.log"));
    for (uint64_t i = 0; i < FIXTURE_SEGMENT; i++)
        after = after * 31 + segment_inode(1)->cache[i];
    ck_assert_uint_eq(sum, after);
}
END_TEST

START_TEST(F14_damaged_last_commit_is_refused_after_an_idle_mark)
{
    commit(3, false);
    wal_mark(fixture.wal);
    ck_assert_int_eq(fixture_settle(&fixture), MSHM_OK);
    ck_assert_int_eq(fixture_restart(&fixture, true), MSHM_OK);
    ck_assert_uint_eq(fixture.read_count, 3);
    sim_disk_rot(segment_inode(1), record_offset(1, 2) + 5, 7);
    ck_assert_int_eq(fixture_read(&fixture), MSHM_CORRUPT);
}
END_TEST

START_TEST(record_that_was_moved_or_copied_from_another_place_is_not_taken)
{
    commit(2, false);
    ck_assert_int_eq(fixture_restart(&fixture, false), MSHM_OK);
    struct sim_inode *inode = segment_inode(1);
    uint64_t first = record_offset(1, 0), second = record_offset(1, 1), end = record_offset(1, 2);
    memmove(inode->cache + end, inode->cache + first, second - first);
    ck_assert_int_eq(fixture_read(&fixture), MSHM_OK);
    ck_assert_uint_eq(fixture.read_count, 2);
}
END_TEST

/* A record that is whole, in its place and next in number, but goes on from another one than the log holds: what a block
 * that the disk never replaced shows. */
START_TEST(record_that_names_another_predecessor_ends_the_log)
{
    commit(4, false);
    ck_assert_int_eq(fixture_restart(&fixture, false), MSHM_OK);
    struct sim_inode *inode = segment_inode(1);
    uint64_t third = record_offset(1, 2);
    struct wal_record *record = (struct wal_record *)(inode->cache + third);
    record->previous_crc ^= 1;
    record->crc = wal_record_crc((const struct wal_segment_header *)inode->cache, third, record);
    ck_assert_int_eq(fixture_read(&fixture), MSHM_OK);
    ck_assert_uint_eq(fixture.read_count, 2);
    ck_assert_uint_eq(fixture.end.next.end.offset, third);
}
END_TEST

static void
two_segments(bool sync)
{
    while (AO_load(&fixture.figures.counters.log_segments) < 3)
        commit(1, sync);
    commit(5, sync);
    ck_assert_int_eq(fixture_restart(&fixture, false), MSHM_OK);
    ck_assert_uint_ge(fixture.end.segments, 2);
}

START_TEST(F14_missing_segment_in_the_middle_is_refused)
{
    two_segments(false);
    segment_remove(_i == 0 ? 1 : fixture.end.next.end.segment);
    ck_assert_int_eq(fixture_read(&fixture), MSHM_CORRUPT);
    ck_assert_ptr_nonnull(strstr(fixture.why, "missing"));
}
END_TEST

START_TEST(F14_damaged_header_is_refused_wherever_it_stands)
{
    two_segments(false);
    sim_disk_rot(segment_inode(_i == 0 ? 1 : fixture.end.next.end.segment), 40, 2);
    ck_assert_int_eq(fixture_read(&fixture), MSHM_CORRUPT);
    ck_assert_ptr_nonnull(strstr(fixture.why, "header"));
}
END_TEST

START_TEST(segment_whose_header_never_reached_the_disk_holds_nothing_acknowledged)
{
    two_segments(false);
    uint64_t last = fixture.end.next.end.segment;
    memset(segment_inode(last)->cache, 0, 512);
    ck_assert_int_eq(fixture_read(&fixture), MSHM_OK);
    ck_assert_uint_lt(fixture.end.next.end.segment, last);
}
END_TEST

START_TEST(damage_in_a_left_segment_is_proved_by_marks_of_the_next_one)
{
    two_segments(true);
    sim_disk_rot(segment_inode(1), record_offset(1, 3) + 50, 0);
    /* The marks that follow in the same segment are taken away, so that only the next segment proves it. */
    memset(segment_inode(1)->cache + record_offset(1, 4), 0, FIXTURE_SEGMENT - record_offset(1, 4));
    ck_assert_int_eq(fixture_read(&fixture), MSHM_CORRUPT);
}
END_TEST

START_TEST(what_stands_behind_the_continued_position_is_dead)
{
    commit(10, false);
    ck_assert_int_eq(fixture_restart(&fixture, false), MSHM_OK);
    sim_disk_rot(segment_inode(1), record_offset(1, 6) + 60, 0);
    ck_assert_int_eq(fixture_read(&fixture), MSHM_OK);
    ck_assert_uint_eq(fixture.read_count, 6);
    ck_assert_int_eq(fixture_continue(&fixture), MSHM_OK);
    commit(4, true); /* other commits with the numbers 7 to 10 */
    ck_assert_int_eq(fixture_restart(&fixture, true), MSHM_OK);
    ck_assert_uint_eq(fixture.read_count, 10);
    sim_disk_rot(segment_inode(1), record_offset(1, 6) + 60,
                 0); /* as it was: the old 7 is whole again */
    ck_assert_int_eq(fixture_read(&fixture), MSHM_OK);
    ck_assert_uint_eq(fixture.read_count, 10);
}
END_TEST

START_TEST(damage_before_a_position_that_an_incarnation_continued_is_refused)
{
    commit(10, false);
    ck_assert_int_eq(fixture_restart(&fixture, false), MSHM_OK);
    ck_assert_int_eq(fixture_continue(&fixture), MSHM_OK);
    commit(1, false);
    ck_assert_int_eq(fixture_restart(&fixture, false), MSHM_OK);
    ck_assert_uint_eq(fixture.read_count, 11);
    sim_disk_rot(segment_inode(1), record_offset(1, 9) + 60, 0);
    ck_assert_int_eq(fixture_read(&fixture), MSHM_CORRUPT);
}
END_TEST

START_TEST(log_of_another_database_is_refused)
{
    static const uint8_t other[16] = "another one";
    commit(1, true);
    ck_assert_int_eq(fixture_restart(&fixture, false), MSHM_OK);
    ck_assert_int_eq(wal_read(fixture.env, other, 0, NULL, fixture_each, &fixture, &fixture.end,
                              fixture.why, sizeof fixture.why),
                     MSHM_CORRUPT);
    ck_assert_ptr_nonnull(strstr(fixture.why, "another database"));
}
END_TEST

START_TEST(log_of_another_version_is_refused_by_name)
{
    commit(1, true);
    ck_assert_int_eq(fixture_restart(&fixture, false), MSHM_OK);
    struct wal_segment_header header;
    memcpy(&header, segment_inode(1)->cache, sizeof header);
    wal_header_seal(&header);
    header.version = WAL_VERSION + 1;
    header.crc = 0;

    header.crc = crc_extend(0, &header, sizeof header);
    memcpy(segment_inode(1)->cache, &header, sizeof header);
    ck_assert_int_eq(fixture_read(&fixture), MSHM_VERSION);
}
END_TEST

START_TEST(read_error_is_an_error_and_not_an_end)
{
    commit(10, true);
    ck_assert_int_eq(fixture_restart(&fixture, false), MSHM_OK);
    sim_env_fail(fixture.sim, _i == 0 ? SIM_CALL_READ : SIM_CALL_OPEN, (uint64_t)_i + 1, EIO);
    ck_assert_int_eq(fixture_read(&fixture), MSHM_IO);
}
END_TEST

/* OS commits, a mark, SYNC commits, two incarnations: then each byte is flipped for itself. Every answer is the whole log,
 * a prefix or a refusal, never a wrong value; what a mark proves is never cut. */
START_TEST(F14_each_byte_of_a_small_log_flipped_gives_a_prefix_or_a_refusal)
{
    fixture.options.segment_size = 8192;
    ck_assert_int_eq(fixture_restart(&fixture, false), MSHM_OK);
    ck_assert_int_eq(fixture_continue(&fixture), MSHM_OK);
    commit(4, false);
    wal_mark(fixture.wal);
    ck_assert_int_eq(fixture_settle(&fixture), MSHM_OK);
    commit(2, true);
    ck_assert_int_eq(fixture_restart(&fixture, false), MSHM_OK);
    ck_assert_int_eq(fixture_continue(&fixture), MSHM_OK);
    commit(3, true);
    commit(2, false);
    ck_assert_int_eq(fixture_restart(&fixture, false), MSHM_OK);
    ck_assert_uint_eq(fixture.read_count, 11);
    ck_assert_uint_eq(fixture.end.segments, 2);
    uint64_t refused = 0, cut = 0;
    for (uint64_t number = 1; number < fixture.end.next.next_segment; number++) {
        struct sim_inode *inode = segment_inode(number);
        for (uint64_t offset = 0; inode != NULL && offset < inode->size; offset++) {
            unsigned bit = (unsigned)(offset % 8);
            struct wal_end end = fixture.end;
            sim_disk_rot(inode, offset, bit);
            int status = fixture_read(&fixture);
            sim_disk_rot(inode, offset, bit);
            fixture.end = end;
            ck_assert_msg(status == MSHM_OK || status == MSHM_CORRUPT, "segment %d offset %d: %d",
                          (int)number, (int)offset, status);
            refused += status == MSHM_CORRUPT;
            if (status != MSHM_OK)
                continue;
            cut += fixture.read_count < 11;
            ck_assert_uint_ge(fixture.read_count, 8); /* the mark of commit 9 proves 1 to 8 */
        }
    }
    ck_assert_uint_gt(refused, 500);
    ck_assert_uint_gt(cut, 100);
}
END_TEST

START_TEST(random_damage_never_leads_outside)
{
    struct sim_random random = {fixture_seed()};
    commit(30, true);
    ck_assert_int_eq(fixture_restart(&fixture, false), MSHM_OK);
    struct sim_inode *inode = segment_inode(1);
    for (int round = 0; round < 200; round++) {
        uint64_t offset = sim_random_below(&random, 16384);
        uint8_t former[64];
        memcpy(former, inode->cache + offset, sizeof former);
        for (size_t i = 0; i < sizeof former; i += 8) {
            uint64_t word = sim_random_next(&random);
            memcpy(inode->cache + offset + i, &word, 8);
        }
        int status = fixture_read(&fixture);
        ck_assert(status == MSHM_OK || status == MSHM_CORRUPT);
        memcpy(inode->cache + offset, former, sizeof former);
    }
}
END_TEST

START_TEST(record_check_never_reads_beyond_what_is_available)
{
    commit(1, true);
    ck_assert_int_eq(fixture_restart(&fixture, false), MSHM_OK);
    const struct sim_inode *inode = segment_inode(1);
    struct wal_segment_header header;
    memcpy(&header, inode->cache, sizeof header);
    uint64_t size = record_offset(1, 1) - WAL_RECORDS_AT;
    for (uint64_t available = 0; available <= size; available++) {
        uint8_t *copy = malloc(available + 1);
        memcpy(copy, inode->cache + WAL_RECORDS_AT, available);
        ck_assert_uint_eq(wal_record_check(&header, WAL_RECORDS_AT, copy, available),
                          available == size ? size : 0);
        free(copy);
    }
}
END_TEST

int
main(void)
{
    Suite *suite = suite_create("wal_read");
    TCase *tests = tcase_create("wal_read");
    tcase_set_timeout(tests, 60);
    tcase_add_checked_fixture(tests, set_up, tear_down);
    tcase_add_test(tests, empty_directory_is_an_empty_log);
    tcase_add_test(tests, log_that_was_started_and_is_gone_is_refused);
    tcase_add_test(tests, F12_torn_last_record_ends_the_log);
    tcase_add_test(tests, F12_damage_in_the_middle_that_no_mark_proves_ends_the_log);
    tcase_add_test(tests, F14_damage_below_a_later_durable_mark_is_refused_and_nothing_changes);
    tcase_add_test(tests, F14_damaged_last_commit_is_refused_after_an_idle_mark);
    tcase_add_test(tests, record_that_was_moved_or_copied_from_another_place_is_not_taken);
    tcase_add_test(tests, record_that_names_another_predecessor_ends_the_log);
    tcase_add_loop_test(tests, F14_missing_segment_in_the_middle_is_refused, 0, 2);
    tcase_add_loop_test(tests, F14_damaged_header_is_refused_wherever_it_stands, 0, 2);
    tcase_add_test(tests, segment_whose_header_never_reached_the_disk_holds_nothing_acknowledged);
    tcase_add_test(tests, damage_in_a_left_segment_is_proved_by_marks_of_the_next_one);
    tcase_add_test(tests, what_stands_behind_the_continued_position_is_dead);
    tcase_add_test(tests, damage_before_a_position_that_an_incarnation_continued_is_refused);
    tcase_add_test(tests, log_of_another_database_is_refused);
    tcase_add_test(tests, log_of_another_version_is_refused_by_name);
    tcase_add_loop_test(tests, read_error_is_an_error_and_not_an_end, 0, 2);
    tcase_add_test(tests, F14_each_byte_of_a_small_log_flipped_gives_a_prefix_or_a_refusal);
    tcase_add_test(tests, random_damage_never_leads_outside);
    tcase_add_test(tests, record_check_never_reads_beyond_what_is_available);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
