/* The log's writing side on a simulated disk: what is acknowledged, and what is there after a death. */
#include "unit/broker/wal_fixture.h"

#include <check.h>
#include <errno.h>

#include "crc.h"

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

START_TEST(checksum_is_crc32c)
{
    ck_assert_uint_eq(crc_extend(0, "123456789", 9), 0xe3069283u);
    ck_assert_uint_eq(crc_extend(crc_extend(0, "1234", 4), "56789", 5), 0xe3069283u);
    ck_assert_uint_eq(crc_extend(7, "", 0), 7);
}
END_TEST

START_TEST(os_commit_is_done_without_a_completion)
{
    uint64_t batch;
    ck_assert_int_eq(fixture_try(&fixture, false, &batch), MSHM_OK);
    ck_assert_uint_lt(wal_done(fixture.wal), batch);
    ck_assert_int_eq(wal_flush(fixture.wal), MSHM_OK);
    ck_assert_uint_ge(wal_done(fixture.wal), batch);
    ck_assert_uint_lt(wal_synced(fixture.wal), batch);
    ck_assert_int_eq(fixture_restart(&fixture, false), MSHM_OK);
    ck_assert_uint_eq(fixture.read_count, 1);
}
END_TEST

START_TEST(sync_commit_is_done_when_it_is_durable)
{
    uint64_t batch;
    ck_assert_int_eq(fixture_try(&fixture, true, &batch), MSHM_OK);
    ck_assert_int_eq(wal_flush(fixture.wal), MSHM_OK);
    ck_assert_uint_lt(wal_done(fixture.wal), batch);
    while (wal_done(fixture.wal) < batch)
        ck_assert_int_eq(fixture_poll(&fixture), MSHM_OK);
    ck_assert_int_eq(fixture_restart(&fixture, true), MSHM_OK);
    ck_assert_uint_eq(fixture.read_count, 1);
}
END_TEST

START_TEST(os_commit_behind_a_sync_commit_waits_for_it)
{
    uint64_t first, second;
    ck_assert_int_eq(fixture_try(&fixture, true, &first), MSHM_OK);
    ck_assert_int_eq(wal_flush(fixture.wal), MSHM_OK);
    ck_assert_int_eq(fixture_try(&fixture, false, &second), MSHM_OK);
    ck_assert_uint_gt(second, first);
    ck_assert_int_eq(wal_flush(fixture.wal), MSHM_OK);
    ck_assert_uint_lt(wal_done(fixture.wal), first);
    ck_assert_int_eq(fixture_settle(&fixture), MSHM_OK);
    ck_assert_uint_ge(wal_done(fixture.wal), second);
}
END_TEST

START_TEST(sync_request_makes_os_commits_durable)
{
    uint64_t batch;
    for (int i = 0; i < 20; i++)
        ck_assert_int_eq(fixture_try(&fixture, false, &batch), MSHM_OK);
    ck_assert_int_eq(wal_flush(fixture.wal), MSHM_OK);
    uint64_t ticket = wal_sync_request(fixture.wal);
    ck_assert_uint_lt(wal_synced(fixture.wal), ticket);
    ck_assert_int_eq(fixture_settle(&fixture), MSHM_OK);
    ck_assert_uint_ge(wal_synced(fixture.wal), ticket);
    ck_assert_int_eq(fixture_restart(&fixture, true), MSHM_OK);
    ck_assert_uint_eq(fixture.read_count, 20);
}
END_TEST

START_TEST(sync_request_without_commits_is_answered_at_once)
{
    ck_assert_uint_ge(wal_synced(fixture.wal), wal_sync_request(fixture.wal));
    ck_assert(wal_idle(fixture.wal));
}
END_TEST

START_TEST(staged_record_that_is_not_finished_leaves_nothing)
{
    int status;
    ck_assert_ptr_nonnull(wal_stage(fixture.wal, 64, &status));
    ck_assert_ptr_nonnull(wal_stage(fixture.wal, 256, &status));
    ck_assert(wal_idle(fixture.wal));
    ck_assert_int_eq(fixture_try(&fixture, false, NULL), MSHM_OK);
    ck_assert_int_eq(wal_flush(fixture.wal), MSHM_OK);
    ck_assert_int_eq(fixture_restart(&fixture, false), MSHM_OK);
    ck_assert_uint_eq(fixture.read_count, 1);
}
END_TEST

START_TEST(record_of_a_whole_segment_fits_and_a_larger_one_is_too_big)
{
    int status;
    uint64_t most = FIXTURE_SEGMENT - WAL_RECORDS_AT - sizeof(struct wal_record);
    ck_assert_ptr_null(wal_stage(fixture.wal, most + 8, &status));
    ck_assert_int_eq(status, MSHM_TOO_BIG);
    ck_assert_ptr_null(wal_stage(fixture.wal, UINT64_MAX - 7, &status));
    ck_assert_int_eq(status, MSHM_TOO_BIG);
    ck_assert_ptr_nonnull(wal_stage(fixture.wal, most, &status));
    /* The next one, behind a small record, needs a new segment. */
    ck_assert_int_eq(fixture_commit(&fixture, false), MSHM_OK);
    do {
        ck_assert_int_eq(wal_flush(fixture.wal), MSHM_OK);
        ck_assert_int_eq(fixture_poll(&fixture), MSHM_OK);
    } while (wal_stage(fixture.wal, most, &status) == NULL && status == MSHM_BUSY);
    ck_assert_int_eq(status, MSHM_OK);
}
END_TEST

static void
fill_segments(int count, bool sync_now_and_then)
{
    for (int i = 0; i < count; i++) {
        ck_assert_int_eq(fixture_commit(&fixture, sync_now_and_then && i % 97 == 0), MSHM_OK);
        if (i % 3 == 0)
            ck_assert_int_eq(wal_flush(fixture.wal), MSHM_OK);
    }
    ck_assert_int_eq(fixture_settle(&fixture), MSHM_OK);
}

START_TEST(records_go_on_through_many_segments)
{
    fixture.options.mapping = _i == 0;
    ck_assert_int_eq(fixture_restart(&fixture, false), MSHM_OK);
    ck_assert_int_eq(fixture_continue(&fixture), MSHM_OK);
    fill_segments(3000, true);
    ck_assert_int_eq(fixture_restart(&fixture, false), MSHM_OK);
    ck_assert_uint_eq(fixture.read_count, 3000);
    ck_assert_uint_gt(fixture.end.segments, 5);
}
END_TEST

/* A commit of `count` puts of 8000 bytes each; waits while the log is busy. */
static void
commit_large(uint32_t count)
{
    static const uint8_t value[8000];
    int status;
    uint8_t *ops;
    uint64_t each = mshm_op_size(4, sizeof value), timestamp = ++fixture.timestamp;
    while ((ops = wal_stage(fixture.wal, each * count, &status)) == NULL) {
        ck_assert_int_eq(status, MSHM_BUSY);
        ck_assert_int_eq(wal_flush(fixture.wal), MSHM_OK);
        ck_assert_int_eq(fixture_poll(&fixture), MSHM_OK);
    }
    for (uint32_t i = 0; i < count; i++) {
        uint8_t key[4] = {(uint8_t)(i >> 24), (uint8_t)(i >> 16), (uint8_t)(i >> 8), (uint8_t)i};
        mshm_op_write(ops + i * each, 1, MSHM_OP_PUT, key, sizeof key, value, sizeof value);
    }
    wal_stage_finish(fixture.wal, timestamp, 7, timestamp, count, true);
    ck_assert_int_eq(fixture_settle(&fixture), MSHM_OK);
}

static int
count_records(void *argument, const struct wal_segment_header *segment,
              const struct wal_record *record, const void *ops, uint64_t ops_size,
              struct wal_position end)
{
    (void)segment, (void)record, (void)ops, (void)ops_size, (void)end;
    ++*(uint64_t *)argument;
    return MSHM_OK;
}

START_TEST(segments_grow_and_a_large_record_finds_one_that_holds_it)
{
    uint64_t count = 0;
    ck_assert_int_eq(fixture_restart(&fixture, false), MSHM_OK);
    fixture.options.segment_size = 16 << 20;
    ck_assert_int_eq(fixture_continue(&fixture), MSHM_OK);
    ck_assert_uint_eq(sim_disk_find(sim_env_disk(fixture.sim), "wal/0000000000000002.log")->size,
                      1 << 20);
    commit_large(1);
    commit_large(1900); /* 15 MB: neither the first nor a doubled segment holds it */
    for (int i = 0; i < 300; i++)
        commit_large(10);
    sim_env_die(fixture.sim, true);
    wal_close(fixture.wal);
    fixture.wal = NULL;
    sim_env_restart(fixture.sim);
    ck_assert_int_eq(wal_read(fixture.env, fixture_id, 1, NULL, count_records, &count, &fixture.end,
                              fixture.why, sizeof fixture.why),
                     MSHM_OK);
    ck_assert_uint_eq(count, 302);
}
END_TEST

START_TEST(file_system_without_mappings_is_served_by_calls)
{
    ck_assert_int_eq(fixture_restart(&fixture, false), MSHM_OK);
    sim_env_set_mapping(fixture.sim, false);
    ck_assert_int_eq(fixture_continue(&fixture), MSHM_OK);
    fill_segments(1000, false);
    ck_assert_int_eq(fixture_restart(&fixture, false), MSHM_OK);
    ck_assert_uint_eq(fixture.read_count, 1000);
}
END_TEST

START_TEST(many_incarnations_make_one_log_and_leave_no_dead_segments)
{
    uint64_t expected = 0;
    for (int round = 0; round < 20; round++) {
        for (int i = 0; i < round * 20; i++, expected++)
            ck_assert_int_eq(fixture_commit(&fixture, false), MSHM_OK);
        ck_assert_int_eq(fixture_settle(&fixture), MSHM_OK);
        ck_assert_int_eq(fixture_restart(&fixture, false), MSHM_OK);
        ck_assert_uint_eq(fixture.read_count, expected);
        ck_assert_int_eq(fixture_continue(&fixture), MSHM_OK);
    }
    ck_assert_int_eq(fixture_restart(&fixture, false), MSHM_OK);
    ck_assert_uint_eq(fixture.end.newest_incarnation, 21);
    ck_assert_uint_eq(fixture.end.records, expected);
}
END_TEST

START_TEST(incarnations_that_write_nothing_do_not_grow_the_log)
{
    ck_assert_int_eq(fixture_commit(&fixture, false), MSHM_OK);
    ck_assert_int_eq(fixture_settle(&fixture), MSHM_OK);
    for (int round = 0; round < 5; round++) {
        ck_assert_int_eq(fixture_restart(&fixture, round % 2 == 0), MSHM_OK);
        if (round == 0)
            ck_assert_uint_le(fixture.read_count, 1);
        ck_assert_int_eq(fixture_continue(&fixture), MSHM_OK);
    }
    ck_assert_int_eq(fixture_restart(&fixture, false), MSHM_OK);
    ck_assert_uint_le(fixture.end.segments, 2);
}
END_TEST

START_TEST(F20_failed_append_or_sync_is_reported_once_and_nothing_follows)
{
    ck_assert_int_eq(fixture_commit(&fixture, true), MSHM_OK);
    ck_assert_int_eq(fixture_settle(&fixture), MSHM_OK);
    uint64_t done = wal_done(fixture.wal);
    sim_env_fail(fixture.sim, _i == 0 ? SIM_CALL_WRITE : SIM_CALL_SYNC, 1, EIO);
    ck_assert_int_eq(fixture_commit(&fixture, true), MSHM_OK);
    ck_assert_int_eq(fixture_settle(&fixture), MSHM_IO);
    uint64_t calls = sim_env_calls(fixture.sim);
    int status;
    ck_assert_ptr_null(wal_stage(fixture.wal, 64, &status));
    ck_assert_int_eq(status, MSHM_IO);
    ck_assert_int_eq(wal_flush(fixture.wal), MSHM_IO);
    ck_assert_uint_eq(wal_done(fixture.wal), done);
    ck_assert_uint_eq(sim_env_calls(fixture.sim), calls); /* never retried */
}
END_TEST

START_TEST(F20_what_a_failed_sync_left_in_the_page_cache_becomes_durable_at_recovery)
{
    for (uint64_t seed = 1; seed < 40; seed++) {
        fixture_fini(&fixture);
        fixture_init(&fixture, seed);
        ck_assert_int_eq(fixture_open(&fixture, NULL), MSHM_OK);
        ck_assert_int_eq(fixture_commit(&fixture, true), MSHM_OK);
        ck_assert_int_eq(fixture_settle(&fixture), MSHM_OK);
        sim_env_fail(fixture.sim, SIM_CALL_SYNC, 1, EIO);
        for (int i = 0; i < 20; i++)
            ck_assert_int_eq(fixture_commit(&fixture, true), MSHM_OK);
        ck_assert_int_eq(fixture_settle(&fixture), MSHM_IO);
        ck_assert_int_eq(fixture_restart(&fixture, false), MSHM_OK);
        uint64_t served = fixture.read_count;
        ck_assert_int_eq(fixture_continue(&fixture), MSHM_OK);
        ck_assert_int_eq(fixture_restart(&fixture, true), MSHM_OK);
        ck_assert_uint_eq(fixture.read_count, served);
    }
}
END_TEST

START_TEST(F17_full_disk_refuses_before_anything_and_ends_within_a_second)
{
    sim_env_set_full(fixture.sim, true);
    int status;
    uint64_t taken = 0;
    while ((status = fixture_commit(&fixture, false)) == MSHM_OK)
        taken++;
    ck_assert_int_eq(status, MSHM_FULL);
    ck_assert_uint_gt(taken, 100);
    ck_assert_int_eq(fixture_settle(&fixture), MSHM_OK);
    ck_assert_int_eq(fixture_commit(&fixture, false), MSHM_FULL);
    sim_env_set_full(fixture.sim, false);
    uint64_t since = sim_env_now(fixture.sim);
    while ((status = fixture_commit(&fixture, false)) == MSHM_FULL) {
        ck_assert_int_eq(wal_flush(fixture.wal), MSHM_OK);
        ck_assert_int_eq(fixture_poll(&fixture), MSHM_OK);
        ck_assert_uint_lt(sim_env_now(fixture.sim) - since, 1000000000);
    }
    ck_assert_int_eq(status, MSHM_OK);
    ck_assert_int_eq(fixture_settle(&fixture), MSHM_OK);
    ck_assert_int_eq(fixture_restart(&fixture, false), MSHM_OK);
    ck_assert_uint_eq(fixture.read_count, taken + 1);
}
END_TEST

START_TEST(error_while_a_segment_is_prepared_is_poison)
{
    static const unsigned calls[] = {SIM_CALL_WRITE, SIM_CALL_SYNC, SIM_CALL_NAMES,
                                     SIM_CALL_DIRECTORY_SYNC, SIM_CALL_PREALLOCATE};
    sim_env_fail(fixture.sim, calls[_i], 1, EIO);
    int status = MSHM_OK;
    for (int i = 0; i < 1000 && status == MSHM_OK; i++)
        status = fixture_commit(&fixture, false);
    ck_assert_int_eq(status, MSHM_IO);
}
END_TEST

START_TEST(mark_is_written_once_after_commits_and_not_again)
{
    ck_assert_int_eq(fixture_commit(&fixture, false), MSHM_OK);
    ck_assert_int_eq(fixture_settle(&fixture), MSHM_OK);
    wal_mark(fixture.wal);
    ck_assert(!wal_idle(fixture.wal));
    ck_assert_int_eq(fixture_settle(&fixture), MSHM_OK);
    uint64_t writes = AO_load(&fixture.figures.counters.log_writes);
    ck_assert_uint_eq(writes, 1);
    wal_mark(fixture.wal);
    ck_assert(wal_idle(fixture.wal));
    ck_assert_int_eq(fixture_restart(&fixture, true), MSHM_OK);
    ck_assert_uint_eq(fixture.read_count, 1);
    ck_assert_uint_gt(fixture.end.known_durable.offset, WAL_RECORDS_AT);
}
END_TEST

/* Death at each call of a long run with both levels and segment changes; then the promises are looked at. */
START_TEST(death_at_any_call_keeps_what_was_done)
{
    uint64_t seed = fixture_seed();
    for (uint64_t n = 1; n < 400; n++) {
        bool power_cut = n % 2 == 0;
        fixture_fini(&fixture);
        fixture_init(&fixture, seed * 1000 + n);
        fixture.options.mapping = n % 3 != 0;
        ck_assert_int_eq(fixture_open(&fixture, NULL), MSHM_OK);
        sim_env_die_at(fixture.sim, n * 2, power_cut);
        uint64_t promised = 0, staged_batch[2000] = {0};
        bool sync[2000] = {false};
        for (int i = 1; i < 2000 && !sim_env_dead(fixture.sim); i++) {
            sync[i] = i % 5 == 0;
            while (fixture_try(&fixture, sync[i], &staged_batch[i]) != MSHM_OK &&
                   !sim_env_dead(fixture.sim)) {
                wal_flush(fixture.wal);
                fixture_poll(&fixture);
            }
            if (i % 4 == 0 && !sim_env_dead(fixture.sim))
                wal_flush(fixture.wal);
            if (i % 7 == 0)
                sim_env_write_back(fixture.sim);
            fixture_poll(&fixture);
            for (int k = 1; k <= i && !sim_env_dead(fixture.sim); k++)
                if (staged_batch[k] != 0 && staged_batch[k] <= wal_done(fixture.wal) &&
                    (!power_cut || sync[k]))
                    promised = (uint64_t)k > promised ? (uint64_t)k : promised;
        }
        ck_assert_int_eq(fixture_restart(&fixture, power_cut), MSHM_OK);
        ck_assert_msg(fixture.read_last >= promised, "n %d: %d of %d promised commits", (int)n,
                      (int)fixture.read_last, (int)promised);
        uint64_t served = fixture.read_last;
        ck_assert_int_eq(fixture_continue(&fixture), MSHM_OK);
        ck_assert_int_eq(fixture_commit(&fixture, true), MSHM_OK);
        ck_assert_int_eq(fixture_settle(&fixture), MSHM_OK);
        ck_assert_int_eq(fixture_restart(&fixture, true), MSHM_OK);
        ck_assert_uint_eq(fixture.read_last, served + 1);
    }
}
END_TEST

int
main(void)
{
    Suite *suite = suite_create("wal");
    TCase *tests = tcase_create("wal");
    tcase_set_timeout(tests, 60);
    tcase_add_checked_fixture(tests, set_up, tear_down);
    tcase_add_test(tests, checksum_is_crc32c);
    tcase_add_test(tests, os_commit_is_done_without_a_completion);
    tcase_add_test(tests, sync_commit_is_done_when_it_is_durable);
    tcase_add_test(tests, os_commit_behind_a_sync_commit_waits_for_it);
    tcase_add_test(tests, sync_request_makes_os_commits_durable);
    tcase_add_test(tests, sync_request_without_commits_is_answered_at_once);
    tcase_add_test(tests, staged_record_that_is_not_finished_leaves_nothing);
    tcase_add_test(tests, record_of_a_whole_segment_fits_and_a_larger_one_is_too_big);
    tcase_add_loop_test(tests, records_go_on_through_many_segments, 0, 2);
    tcase_add_test(tests, segments_grow_and_a_large_record_finds_one_that_holds_it);
    tcase_add_test(tests, file_system_without_mappings_is_served_by_calls);
    tcase_add_test(tests, many_incarnations_make_one_log_and_leave_no_dead_segments);
    tcase_add_test(tests, incarnations_that_write_nothing_do_not_grow_the_log);
    tcase_add_loop_test(tests, F20_failed_append_or_sync_is_reported_once_and_nothing_follows, 0,
                        2);
    tcase_add_test(tests,
                   F20_what_a_failed_sync_left_in_the_page_cache_becomes_durable_at_recovery);
    tcase_add_test(tests, F17_full_disk_refuses_before_anything_and_ends_within_a_second);
    tcase_add_loop_test(tests, error_while_a_segment_is_prepared_is_poison, 0, 5);
    tcase_add_test(tests, mark_is_written_once_after_commits_and_not_again);
    tcase_add_test(tests, death_at_any_call_keeps_what_was_done);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
