/* Where a log begins and ends that a checkpoint has cut: each row of the table in broker/README.md. */
#include "unit/broker/wal_fixture.h"

#include <check.h>
#include <errno.h>

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

/* Commits until the log goes on in another segment. */
static void
commit_into_next(bool sync)
{
    uint64_t before = fixture_tell(&fixture).position.segment;
    while (fixture_tell(&fixture).position.segment == before)
        commit(1, sync);
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

static void
header_zero(uint64_t number)
{
    memset(segment_inode(number)->cache, 0, WAL_RECORDS_AT);
}

static void
header_change(uint64_t number, void (*change)(struct wal_segment_header *header))
{
    struct wal_segment_header header;
    memcpy(&header, segment_inode(number)->cache, sizeof header);
    change(&header);
    wal_header_seal(&header);
    memcpy(segment_inode(number)->cache, &header, sizeof header);
}

/* Everything on the disk, as a number. */
static uint64_t
disk_sum(void)
{
    uint64_t sum = 0;
    for (uint64_t number = 1; number < 64; number++) {
        const struct sim_inode *inode = segment_inode(number);
        sum = sum * 31 + (inode != NULL);
        for (uint64_t i = 0; inode != NULL && i < inode->size; i++)
            sum = sum * 31 + inode->cache[i];
    }
    return sum;
}

static void
expect_read(uint64_t records, uint64_t last)
{
    ck_assert_msg(fixture_read(&fixture) == MSHM_OK, "%s", fixture.why);
    ck_assert_uint_eq(fixture.read_count, records);
    ck_assert_uint_eq(fixture.read_last, last);
    ck_assert_uint_eq(fixture.end.next.timestamp, last);
}

static void
expect_refused(const char *why)
{
    uint64_t sum = disk_sum();
    ck_assert_int_eq(fixture_read(&fixture), MSHM_CORRUPT);
    ck_assert_msg(strstr(fixture.why, why) != NULL && strstr(fixture.why, "wal/") != NULL, "%s",
                  fixture.why);
    ck_assert_uint_eq(disk_sum(), sum);
}

/* The end is the cut itself, and the next incarnation can go on there, with and without another power cut. */
static void
expect_end_at_cut(void)
{
    expect_read(0, fixture.cut.timestamp);
    ck_assert_uint_eq(fixture.end.next.chain, fixture.cut.chain);
    ck_assert_uint_eq(fixture.end.next.end.segment, fixture.cut.position.segment);
    ck_assert_uint_eq(fixture.end.next.end.offset, fixture.cut.position.offset);
    ck_assert_uint_gt(fixture.end.next.next_segment, fixture.cut.position.segment);
    ck_assert_int_eq(fixture_continue(&fixture), MSHM_OK);
    ck_assert_int_eq(fixture_restart(&fixture, true), MSHM_OK);
    ck_assert_uint_eq(fixture.read_last, fixture.cut.timestamp);
    ck_assert_int_eq(fixture_continue(&fixture), MSHM_OK);
    commit(3, true);
    ck_assert_int_eq(fixture_restart(&fixture, true), MSHM_OK);
    ck_assert_uint_eq(fixture.read_count, 3);
    ck_assert_uint_eq(fixture.read_last, fixture.cut.timestamp + 3);
}

/* A log of at least two segments with the cut in the last one, `behind` commits behind the cut, then a death. */
static void
cut_log(int behind, bool sync)
{
    commit_into_next(false);
    commit(5, false);
    fixture.cut = fixture_tell(&fixture);
    commit(behind, sync);
    ck_assert_int_eq(fixture_restart(&fixture, false), MSHM_OK);
    ck_assert_uint_eq(fixture.read_count, (uint64_t)behind);
}

/* --- what stands before the cut --- */

START_TEST(walk_begins_behind_the_cut)
{
    cut_log(7, false);
    ck_assert_uint_eq(fixture.end.records, 7);
    ck_assert_uint_eq(fixture.end.segments, 1);
    ck_assert_uint_eq(fixture.end.first_segment, fixture.cut.position.segment);
    ck_assert_uint_eq(fixture.end.next.bytes,
                      fixture.end.next.end.offset - fixture.cut.position.offset);
}
END_TEST

START_TEST(records_before_the_cut_are_passed_over_whatever_their_state)
{
    cut_log(7, true);
    struct sim_inode *inode = segment_inode(fixture.cut.position.segment);
    memset(inode->cache + WAL_RECORDS_AT, _i == 0 ? 0 : 0xa5,
           fixture.cut.position.offset - WAL_RECORDS_AT);
    expect_read(7, fixture.cut.timestamp + 7);
}
END_TEST

static void
header_of_another_version(struct wal_segment_header *header)
{
    header->version++;
}

static void
header_of_another_database(struct wal_segment_header *header)
{
    header->database_id[0]++;
}

static void
header_of_a_later_incarnation(struct wal_segment_header *header)
{
    header->incarnation += 100;
}

START_TEST(segments_before_the_cut_are_not_looked_at)
{
    cut_log(7, true);
    switch (_i) {
    case 0:
        segment_remove(1);
        break;
    case 1:
        header_zero(1);
        break;
    case 2:
        sim_disk_rot(segment_inode(1), 40, 3);
        break;
    case 3:
        header_change(1, header_of_another_version);
        break;
    case 4:
        header_change(1, header_of_another_database);
        break;
    default:
        header_change(1, header_of_a_later_incarnation);
    }
    expect_read(7, fixture.cut.timestamp + 7);
    ck_assert_uint_eq(fixture.end.newest_incarnation, 1);
    ck_assert_int_eq(fixture_continue(&fixture), MSHM_OK);
    ck_assert_ptr_null(segment_inode(1));
    ck_assert_int_eq(fixture_restart(&fixture, true), MSHM_OK);
    ck_assert_uint_eq(fixture.read_count, 7);
}
END_TEST

/* --- a cut ahead of what the log has --- */

START_TEST(nothing_behind_the_cut_is_a_legal_log)
{
    cut_log(0, false);
    expect_end_at_cut();
}
END_TEST

START_TEST(cut_in_a_lost_tail_is_the_end)
{
    cut_log(9, false);
    struct sim_inode *inode = segment_inode(fixture.cut.position.segment);
    uint64_t from = _i == 0 ? WAL_RECORDS_AT : fixture.cut.position.offset;
    memset(inode->cache + from, 0, inode->size - from);
    expect_end_at_cut();
}
END_TEST

START_TEST(cut_in_a_segment_whose_header_never_reached_the_disk_is_the_end)
{
    cut_log(_i == 2 ? 0 : 9, false);
    uint64_t number = fixture.cut.position.segment;
    header_zero(number);
    if (_i > 0)
        segment_remove(1); /* released, and gone */
    expect_read(0, fixture.cut.timestamp);
    ck_assert_uint_eq(fixture.end.segments, 0);
    ck_assert_uint_eq(fixture.end.first_segment, 0);
    expect_end_at_cut();
    ck_assert_ptr_null(segment_inode(number)); /* a later header continues the cut */
}
END_TEST

START_TEST(cut_at_the_start_of_a_segment_without_header_is_the_end)
{
    commit_into_next(false);
    ck_assert_int_eq(fixture_restart(&fixture, false), MSHM_OK);
    uint64_t number = fixture.end.next.end.segment;
    struct wal_segment_header header;
    memcpy(&header, segment_inode(number)->cache, sizeof header);
    fixture.cut = (struct wal_from){.timestamp = header.continues_timestamp,
                                    .chain = header.continues_crc,
                                    .position = {number, WAL_RECORDS_AT}};
    expect_read(1, fixture.cut.timestamp + 1);
    header_zero(number);
    segment_remove(number - 1);
    expect_end_at_cut();
}
END_TEST

START_TEST(cut_segment_that_is_missing_is_refused)
{
    cut_log(_i == 0 ? 5 : 0, true);
    segment_remove(fixture.cut.position.segment);
    if (_i == 1)
        segment_remove(fixture.cut.position.segment + 1);
    expect_refused("missing");
}
END_TEST

START_TEST(cut_segment_with_a_damaged_header_is_refused)
{
    cut_log(5, true);
    sim_disk_rot(segment_inode(fixture.cut.position.segment), 40, 3);
    expect_refused("damaged header");
}
END_TEST

START_TEST(missing_segment_behind_the_cut_is_refused)
{
    cut_log(5, true);
    ck_assert_int_eq(fixture_continue(&fixture), MSHM_OK);
    uint64_t number = fixture_tell(&fixture).position.segment;
    commit_into_next(true);
    commit_into_next(true);
    ck_assert_int_eq(fixture_restart(&fixture, true), MSHM_OK);
    segment_remove(number + (uint64_t)_i);
    expect_refused("missing");
}
END_TEST

/* --- damage behind the cut --- */

START_TEST(damage_behind_the_cut_that_a_mark_proves_is_refused)
{
    cut_log(6, true);
    struct sim_inode *inode = segment_inode(fixture.cut.position.segment);
    uint64_t offset = fixture.cut.position.offset;
    for (int i = 0; i < _i; i++)
        offset += ((const struct wal_record *)(inode->cache + offset))->size;
    sim_disk_rot(inode, offset + 40, 1);
    char where[32];
    snprintf(where, sizeof where, "offset %d", (int)offset);
    expect_refused(where);
}
END_TEST

START_TEST(damage_behind_the_cut_that_nothing_proves_is_the_end)
{
    cut_log(6, false);
    sim_disk_rot(segment_inode(fixture.cut.position.segment), fixture.cut.position.offset + 40, 1);
    expect_end_at_cut();
}
END_TEST

START_TEST(lost_tail_that_the_next_segment_proves_is_refused)
{
    cut_log(0, false);
    ck_assert_int_eq(fixture_continue(&fixture), MSHM_OK);
    commit(2, false);
    fixture.cut = fixture_tell(&fixture);
    if (_i == 0)
        commit_into_next(true);
    while (fixture_tell(&fixture).position.segment == fixture.cut.position.segment) {
        ck_assert_int_eq(fixture_commit(&fixture, false), MSHM_OK); /* nothing is known durable */
        ck_assert_int_eq(wal_flush(fixture.wal), MSHM_OK);
    }
    ck_assert_int_eq(fixture_restart(&fixture, _i == 0), MSHM_OK);
    struct sim_inode *inode = segment_inode(fixture.cut.position.segment);
    memset(inode->cache + fixture.cut.position.offset, 0,
           inode->size - fixture.cut.position.offset);
    if (_i == 0)
        expect_refused("proves");
    else
        expect_end_at_cut();
}
END_TEST

START_TEST(damage_between_the_cut_and_what_an_incarnation_continued_is_refused)
{
    cut_log(6, false);
    ck_assert_int_eq(fixture_continue(&fixture), MSHM_OK);
    commit(2, false);
    ck_assert_int_eq(fixture_restart(&fixture, true), MSHM_OK);
    if (_i == 0) {
        sim_disk_rot(segment_inode(fixture.cut.position.segment), fixture.cut.position.offset + 40,
                     1);
        expect_refused("proves");
    } else {
        header_zero(fixture.cut.position.segment);
        expect_refused("a later segment continues it");
    }
}
END_TEST

START_TEST(each_byte_flipped_gives_a_prefix_behind_the_cut_or_a_refusal)
{
    fixture.options.segment_size = 8192;
    ck_assert_int_eq(fixture_restart(&fixture, false), MSHM_OK);
    ck_assert_int_eq(fixture_continue(&fixture), MSHM_OK);
    commit(4, false);
    fixture.cut = fixture_tell(&fixture);
    commit(3, true);
    ck_assert_int_eq(fixture_restart(&fixture, false), MSHM_OK);
    ck_assert_int_eq(fixture_continue(&fixture), MSHM_OK);
    commit(3, true);
    commit(2, false);
    ck_assert_int_eq(fixture_restart(&fixture, false), MSHM_OK);
    ck_assert_uint_eq(fixture.read_count, 8);
    uint64_t refused = 0, cut = 0, whole = 0;
    for (uint64_t number = 1; number < fixture.end.next.next_segment; number++) {
        struct sim_inode *inode = segment_inode(number);
        for (uint64_t offset = 0; inode != NULL && offset < inode->size; offset++) {
            struct wal_end end = fixture.end;
            sim_disk_rot(inode, offset, (unsigned)(offset % 8));
            int status = fixture_read(&fixture);
            sim_disk_rot(inode, offset, (unsigned)(offset % 8));
            fixture.end = end;
            ck_assert(status == MSHM_OK || status == MSHM_CORRUPT);
            refused += status == MSHM_CORRUPT;
            if (status != MSHM_OK)
                continue;
            whole += fixture.read_count == 8;
            cut += fixture.read_count < 8;
            ck_assert_uint_ge(fixture.read_last, fixture.cut.timestamp + 5);
            ck_assert(number != fixture.cut.position.segment ||
                      offset >= fixture.cut.position.offset || fixture.read_count == 8);
        }
    }
    ck_assert_uint_gt(refused, 500);
    ck_assert_uint_gt(cut, 100);
    ck_assert_uint_gt(whole, 1000);
}
END_TEST

/* --- contradictions --- */

static void
header_with_another_chain(struct wal_segment_header *header)
{
    header->continues_crc ^= 1;
}

static void
header_with_another_timestamp(struct wal_segment_header *header)
{
    header->continues_timestamp++;
}

static void
header_before_the_cut(struct wal_segment_header *header)
{
    header->continues_offset -= WAL_ALIGNMENT;
}

START_TEST(header_that_continues_another_record_at_the_cut_is_refused)
{
    static void (*const changes[])(struct wal_segment_header *) = {
        header_with_another_chain, header_with_another_timestamp, header_before_the_cut};
    cut_log(0, false);
    ck_assert_int_eq(fixture_continue(&fixture), MSHM_OK);
    uint64_t number = fixture_tell(&fixture).position.segment;
    ck_assert_int_eq(fixture_restart(&fixture, true), MSHM_OK);
    header_change(number, changes[_i]);
    expect_refused("contradicts the newest checkpoint");
}
END_TEST

/* The manifest is newer than the log: somebody has put an older log into its place. */
START_TEST(cut_that_its_own_segment_cannot_hold_is_refused)
{
    cut_log(3, true);
    switch (_i) {
    case 0:
        fixture.cut.position.offset = FIXTURE_SEGMENT + WAL_ALIGNMENT;
        break;
    case 1:
        fixture.cut.timestamp = 1; /* before the segment's first */
        break;
    case 2:
        fixture.cut.position.offset = 16;
        break;
    default:
        fixture.cut.position.offset = WAL_RECORDS_AT; /* where another chain value stands */
    }
    expect_refused("contradicts the newest checkpoint");
}
END_TEST

START_TEST(cut_that_the_log_knows_nothing_of_is_refused)
{
    cut_log(3, true);
    fixture.cut.position.segment = _i == 0 ? 40 : 0;
    expect_refused(_i == 0 ? "missing" : "contradicts");
}
END_TEST

START_TEST(record_that_does_not_continue_the_cut_is_not_taken)
{
    cut_log(1, true);
    fixture.cut.chain ^= 1;
    expect_read(0, fixture.cut.timestamp);
    fixture.cut.chain ^= 1;
    fixture.cut.timestamp++;
    expect_read(0, fixture.cut.timestamp);
}
END_TEST

/* --- several incarnations --- */

START_TEST(incarnations_after_the_cut_are_walked_without_what_stands_before_it)
{
    cut_log(3, false);
    uint64_t last = fixture.read_last;
    for (int round = 0; round < 5; round++) {
        ck_assert_int_eq(fixture_continue(&fixture), MSHM_OK);
        commit(round, round % 2 == 0);
        if (round == 3)
            commit_into_next(false);
        last = fixture.timestamp;
        ck_assert_int_eq(fixture_restart(&fixture, round % 2 == 0), MSHM_OK);
        ck_assert_uint_eq(fixture.read_last, last);
    }
    ck_assert_ptr_null(segment_inode(1));
    ck_assert_uint_ge(fixture.end.segments, 5);
}
END_TEST

START_TEST(incarnations_that_write_nothing_stay_at_the_cut)
{
    if (_i > 0)
        cut_log(0, false); /* else the cut of a log without commits, which is none */
    for (int round = 0; round < 4; round++) {
        if (_i == 0)
            ck_assert_int_eq(fixture_restart(&fixture, false), MSHM_OK);
        ck_assert_int_eq(fixture_continue(&fixture), MSHM_OK);
        if (_i > 1) /* each makes a checkpoint: the cut is at the start of its segment */
            fixture.cut = fixture_tell(&fixture);
        ck_assert_int_eq(fixture_restart(&fixture, round % 2 == 0), MSHM_OK);
        ck_assert_uint_eq(fixture.read_last, fixture.cut.timestamp);
        if (fixture.cut.timestamp != 0) {
            ck_assert_uint_eq(fixture.end.next.end.segment, fixture.cut.position.segment);
            ck_assert_uint_eq(fixture.end.next.end.offset, fixture.cut.position.offset);
        }
    }
    ck_assert_int_eq(fixture_continue(&fixture), MSHM_OK);
    commit(2, true);
    ck_assert_int_eq(fixture_restart(&fixture, true), MSHM_OK);
    ck_assert_uint_eq(fixture.read_count, 2);
    ck_assert_uint_le(fixture.end.segments, 2);
}
END_TEST

START_TEST(cut_at_the_end_of_a_segment_needs_that_segment_no_more)
{
    struct wal_from end = {0};
    while (end.position.segment == fixture_tell(&fixture).position.segment ||
           end.position.segment == 0) {
        end = fixture_tell(&fixture);
        commit(1, _i % 2 == 0);
    }
    commit(4, _i % 2 == 0);
    ck_assert_int_eq(fixture_restart(&fixture, false), MSHM_OK);
    fixture.cut = end;
    if (_i >= 2)
        segment_remove(end.position.segment);
    expect_read(5, end.timestamp + 5);
    ck_assert_int_eq(fixture_continue(&fixture), MSHM_OK);
    ck_assert_int_eq(fixture_restart(&fixture, true), MSHM_OK);
    ck_assert_uint_eq(fixture.read_count, 5);
}
END_TEST

/* What the page cache holds behind the cut after a process died is served, so it has to become durable, the header of
 * its segment included. */
START_TEST(what_follows_the_cut_becomes_durable_before_it_is_served)
{
    for (uint64_t seed = 1; seed < 30; seed++) {
        fixture_fini(&fixture);
        fixture_init(&fixture, seed);
        memset(&fixture.cut, 0, sizeof fixture.cut);
        ck_assert_int_eq(fixture_open(&fixture, NULL), MSHM_OK);
        /* The header's sync fails, so that it looks clean and is not on the disk. */
        uint64_t first = fixture_tell(&fixture).position.segment;
        int status = MSHM_OK;
        while (status == MSHM_OK && fixture_tell(&fixture).position.segment == first) {
            status = fixture_commit(&fixture, false);
            ck_assert_int_eq(wal_flush(fixture.wal), MSHM_OK);
        }
        ck_assert_int_eq(status, MSHM_OK);
        sim_env_fail(fixture.sim, SIM_CALL_SYNC, 1 + seed % 2, EIO);
        fixture.cut = fixture_tell(&fixture);
        for (int i = 0; i < 5; i++)
            ck_assert_int_eq(fixture_commit(&fixture, false), MSHM_OK);
        ck_assert_int_eq(wal_flush(fixture.wal), MSHM_OK);
        (void)fixture_settle(&fixture);
        ck_assert_int_eq(fixture_restart(&fixture, false), MSHM_OK);
        ck_assert_uint_eq(fixture.read_count, 5);
        ck_assert_int_eq(fixture_continue(&fixture), MSHM_OK);
        ck_assert_int_eq(fixture_restart(&fixture, true), MSHM_OK);
        ck_assert_uint_eq(fixture.read_count, 5);
    }
}
END_TEST

int
main(void)
{
    Suite *suite = suite_create("wal_cut");
    TCase *tests = tcase_create("wal_cut");
    tcase_set_timeout(tests, 60);
    tcase_add_checked_fixture(tests, set_up, tear_down);
    tcase_add_test(tests, walk_begins_behind_the_cut);
    tcase_add_loop_test(tests, records_before_the_cut_are_passed_over_whatever_their_state, 0, 2);
    tcase_add_loop_test(tests, segments_before_the_cut_are_not_looked_at, 0, 6);
    tcase_add_test(tests, nothing_behind_the_cut_is_a_legal_log);
    tcase_add_loop_test(tests, cut_in_a_lost_tail_is_the_end, 0, 2);
    tcase_add_loop_test(tests, cut_in_a_segment_whose_header_never_reached_the_disk_is_the_end, 0,
                        3);
    tcase_add_test(tests, cut_at_the_start_of_a_segment_without_header_is_the_end);
    tcase_add_loop_test(tests, cut_segment_that_is_missing_is_refused, 0, 2);
    tcase_add_test(tests, cut_segment_with_a_damaged_header_is_refused);
    tcase_add_loop_test(tests, missing_segment_behind_the_cut_is_refused, 0, 2);
    tcase_add_loop_test(tests, damage_behind_the_cut_that_a_mark_proves_is_refused, 0, 4);
    tcase_add_test(tests, damage_behind_the_cut_that_nothing_proves_is_the_end);
    tcase_add_loop_test(tests, lost_tail_that_the_next_segment_proves_is_refused, 0, 2);
    tcase_add_loop_test(tests, damage_between_the_cut_and_what_an_incarnation_continued_is_refused,
                        0, 2);
    tcase_add_test(tests, each_byte_flipped_gives_a_prefix_behind_the_cut_or_a_refusal);
    tcase_add_loop_test(tests, header_that_continues_another_record_at_the_cut_is_refused, 0, 3);
    tcase_add_loop_test(tests, cut_that_its_own_segment_cannot_hold_is_refused, 0, 4);
    tcase_add_loop_test(tests, cut_that_the_log_knows_nothing_of_is_refused, 0, 2);
    tcase_add_test(tests, record_that_does_not_continue_the_cut_is_not_taken);
    tcase_add_test(tests, incarnations_after_the_cut_are_walked_without_what_stands_before_it);
    tcase_add_loop_test(tests, incarnations_that_write_nothing_stay_at_the_cut, 0, 3);
    tcase_add_loop_test(tests, cut_at_the_end_of_a_segment_needs_that_segment_no_more, 0, 4);
    tcase_add_test(tests, what_follows_the_cut_becomes_durable_before_it_is_served);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
