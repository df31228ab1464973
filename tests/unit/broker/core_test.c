/* The loop: a full disk, a failing disk, an orderly stop, marks, look-ups after a crash. */
#include "core.h"

#include <check.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fake_env.h"
#include "mshm/ops.h"
#include "mshm/status.h"
#include "sessions.h"

static struct fake fake;
static struct fake_client *a, *b;
static uint32_t bucket;

static void
start(uint64_t segment_size)
{
    fake_init(&fake);
    fake.options.segment_size = segment_size;
    ck_assert_int_eq(fake_start(&fake), MSHM_OK);
    bucket = fake_default(&fake);
    a = fake_attach(&fake, 0);
    b = fake_attach(&fake, 0);
}

static void
setup(void)
{
    start(64 << 10);
}

static void
teardown(void)
{
    const char *why = "";
    ck_assert_msg(core_check(fake.core, &why) == MSHM_OK, "%s", why);
    fake_client_free(a);
    fake_client_free(b);
    fake_fini(&fake);
}

static uint64_t
put(struct fake_client *client, const char *key, const char *value, unsigned flags)
{
    _Alignas(8) uint8_t op[4096];
    uint64_t size = mshm_op_write(op, bucket, MSHM_OP_PUT, key, (uint16_t)strlen(key), value,
                                  (uint32_t)strlen(value));
    return fake_publish(client, -1, op, size, 1, flags);
}

START_TEST(a_new_database_has_the_bucket_default_and_one_commit)
{
    ck_assert_uint_eq(AO_load(&fake.core->store->visible), 1);
    ck_assert_uint_eq(core_incarnation(fake.core), 1);
    ck_assert_uint_ne(bucket, 0);
    ck_assert(memcmp(core_database_id(fake.core), "\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0", 16) != 0);
    const char *why;
    ck_assert_int_eq(core_check(fake.core, &why), MSHM_OK);
}
END_TEST

START_TEST(options_that_cannot_be_are_refused)
{
    struct core *core;
    struct core_options options;
    for (int i = 0; i < 5; i++) {
        core_options_init(&options);
        if (i == 0)
            options.cache_size = 65536;
        else if (i == 1)
            options.page_size = 5000;
        else if (i == 2)
            options.max_sessions = 0;
        else if (i == 3)
            options.max_sessions = MSHM_MAX_SESSIONS + 1;
        else
            options.map_capacity = 1;
        ck_assert_int_eq(core_create(&core, &options, &fake.env, fake.store), MSHM_INVALID);
    }
}
END_TEST

START_TEST(a_store_that_cannot_be_backed_is_full)
{
    struct core *core;
    fake.store_back_error = -ENOSPC;
    ck_assert_int_eq(core_create(&core, &fake.options, &fake.env, fake.store), MSHM_FULL);
}
END_TEST

/* A log record is never dropped, and what was refused was refused before it had a timestamp. */
START_TEST(a_full_disk_refuses_commits_until_there_is_room)
{
    char key[16], value[1001];
    int status = MSHM_OK, done = 0;
    memset(value, 'x', sizeof(value) - 1);
    value[sizeof(value) - 1] = 0;
    fake.preallocate_error = -ENOSPC;
    for (; done < 1000; done++) {
        snprintf(key, sizeof(key), "%d", done);
        status = fake_answer(a, put(a, key, value, done % 3 ? 0 : MSHM_REQUEST_LEVEL_SYNC), NULL);
        if (status != MSHM_OK)
            break;
    }
    ck_assert_int_eq(status, MSHM_FULL);
    ck_assert_int_gt(done, 30);
    ck_assert(!core_poisoned(fake.core));
    char read[256];
    ck_assert_int_eq(fake_get(b, 6, bucket, "0", 0, read), MSHM_BUFFER_TOO_SMALL);
    ck_assert_int_eq(fake_get(b, 6, bucket, key, 0, read), MSHM_NOT_FOUND);
    mshm_timestamp visible = AO_load(&fake.core->store->visible);
    ck_assert_uint_eq(visible, 1 + (unsigned)done);

    fake.preallocate_error = 0;
    fake_wait(&fake, 1000);
    ck_assert_int_eq(fake_answer(a, put(a, key, "there", 0), NULL), MSHM_OK);
    ck_assert_int_eq(fake_get(b, 6, bucket, key, 0, read), MSHM_OK);
    fake_kill(&fake);
    ck_assert_int_eq(fake_start(&fake), MSHM_OK);
    ck_assert_uint_eq(AO_load(&fake.core->store->visible), visible + 1);
}
END_TEST

START_TEST(a_busy_log_leaves_requests_in_the_ring)
{
    char value[1001];
    int status;
    mshm_timestamp timestamp;
    memset(value, 'x', sizeof(value) - 1);
    value[sizeof(value) - 1] = 0;
    fake.hold = true; /* the next segment is never ready, no sync ends */
    uint64_t last = 0;
    for (int i = 0; i < 200; i++)
        last = put(a, "key", value, 0);
    fake_run(&fake);
    ck_assert(fake_answered(a, 1, &status, &timestamp));
    ck_assert(!fake_answered(a, last, &status, &timestamp));
    ck_assert_uint_lt(AO_load(&a->segment->head), last);
    fake.hold = false;
    for (uint64_t i = 1; i <= last; i++)
        ck_assert_int_eq(fake_answer(a, i, NULL), MSHM_OK);
}
END_TEST

START_TEST(a_failed_sync_poisons_the_incarnation)
{
    int status;
    mshm_timestamp timestamp, visible = AO_load(&fake.core->store->visible);
    fake.hold = true;
    uint64_t sync = put(a, "sync", "1", MSHM_REQUEST_LEVEL_SYNC);
    fake.append_error = -EIO;
    fake_run(&fake);
    uint64_t os = put(b, "os", "1", 0); /* behind it */
    fake_run(&fake);
    AO_int_store(&a->segment->waiting[sync - 1], 1);
    fake.hold = false;
    fake_run(&fake);
    ck_assert(core_poisoned(fake.core));
    ck_assert_uint_eq(AO_int_load(&fake.core->store->liveness), MSHM_LIVENESS_POISONED);
    ck_assert(fake_answered(a, sync, &status, &timestamp));
    ck_assert_int_eq(status, MSHM_UNKNOWN_OUTCOME);
    ck_assert(fake_answered(b, os, &status, &timestamp));
    ck_assert_int_eq(status, MSHM_UNKNOWN_OUTCOME);
    ck_assert_uint_eq(AO_load(&fake.core->store->visible), visible);
    ck_assert_uint_eq(fake.wake_count, 1);

    fake.append_error = 0; /* never again, whatever the disk says now */
    uint64_t late = put(b, "late", "1", 0);
    fake_wait(&fake, 100);
    ck_assert(!fake_answered(b, late, &status, &timestamp));
    ck_assert_uint_eq(AO_load(&fake.core->store->visible), visible);
    ck_assert_int_eq(fake_bucket(a, MSHM_MESSAGE_BUCKET_CREATE, "x", NULL), MSHM_BROKER_LOST);
    core_session_end(fake.core, a->session, false);
    fake_run(&fake);
    ck_assert(a->freed);
}
END_TEST

START_TEST(an_orderly_stop_answers_what_was_published_and_no_more)
{
    int status;
    mshm_timestamp timestamp;
    char large[3001] = {0};
    uint64_t before = 0;
    memset(large, 'x', sizeof(large) - 1);
    for (int i = 0; i < 100; i++) /* more than a few turns take in */
        put(a, "large", large, 0);
    before = put(a, "before", "1", 0);
    core_stop(fake.core);
    uint64_t after = put(a, "after", "1", 0);
    ck_assert(!core_stopped(fake.core));
    fake_run(&fake);
    ck_assert(core_stopped(fake.core));
    ck_assert(fake_answered(a, before, &status, &timestamp));
    ck_assert_int_eq(status, MSHM_OK);
    ck_assert(!fake_answered(a, after, &status, &timestamp));
    ck_assert_uint_eq(fake.completion_count, 0);
    ck_assert(wal_idle(fake.core->wal));
    fake_kill(&fake);
    ck_assert_int_eq(fake_start(&fake), MSHM_OK);
    char value[256];
    fake_client_free(b);
    b = fake_attach(&fake, 0);
    ck_assert_int_eq(fake_get(b, 6, bucket, "before", 0, value), MSHM_OK);
    ck_assert_int_eq(fake_get(b, 6, bucket, "after", 0, value), MSHM_NOT_FOUND);
}
END_TEST

/* Each waiter costs private memory, and a client may ask for the same page over and over. */
START_TEST(a_session_has_only_so_many_reads_under_way)
{
    enum { ASKED = 40, UNDER_WAY = 16 };
    uint64_t sequences[ASKED];
    put(a, "k", "1", 0);
    core_stop(fake.core);
    fake_run(&fake);
    fake_kill(&fake);
    ck_assert_int_eq(fake_start(&fake), MSHM_OK);
    fake_client_free(a);
    a = fake_attach(&fake, 0);
    mshm_pid root = (mshm_pid)catalogue_get(fake.core->catalogue, bucket)->root;
    fake.hold = true;
    for (int i = 0; i < ASKED; i++)
        sequences[i] = fake_publish_page_in(a, root);
    fake_run(&fake);
    ck_assert_uint_eq(a->session->page_ins, UNDER_WAY);
    ck_assert_uint_eq(a->session->unanswered, UNDER_WAY);
    fake.hold = false;
    for (int i = 0; i < ASKED; i++)
        ck_assert_int_eq(fake_answer(a, sequences[i], NULL), MSHM_OK);
    ck_assert_uint_eq(a->session->page_ins, 0);
}
END_TEST

START_TEST(a_stop_that_is_taken_back_leaves_everything_as_it_was)
{
    core_stop(fake.core);
    uint64_t sequence = put(a, "k", "1", 0);
    fake_run(&fake);
    ck_assert(core_stopped(fake.core));
    core_stop_cancel(fake.core);
    ck_assert_int_eq(fake_answer(a, sequence, NULL), MSHM_OK);
    ck_assert_int_eq(fake_put(b, bucket, "k", "2"), MSHM_OK);
}
END_TEST

START_TEST(an_idle_log_is_synced_and_marked_once)
{
    ck_assert_int_eq(fake_put(a, bucket, "k", "1"), MSHM_OK);
    unsigned syncs = fake.syncs;
    fake_wait(&fake, 20);
    ck_assert_uint_eq(fake.syncs, syncs);
    fake_wait(&fake, 60);
    ck_assert_uint_gt(fake.syncs, syncs);
    syncs = fake.syncs;
    fake_wait(&fake, 1000);
    ck_assert_uint_eq(fake.syncs, syncs);
}
END_TEST

START_TEST(the_loop_says_how_long_it_may_sleep)
{
    uint64_t wait_ns;
    fake_put(a, bucket, "k", "1");
    while (core_step(fake.core, &wait_ns))
        continue;
    ck_assert_uint_le(wait_ns, 50 * 1000 * 1000); /* the mark */
    fake_wait(&fake, 100);
    fake_wait(&fake, 100);
    ck_assert(!core_step(fake.core, &wait_ns));
    ck_assert_uint_le(wait_ns, fake.core->options.checkpoint_interval_ns);
    ck_assert_uint_gt(wait_ns, fake.core->options.checkpoint_interval_ns - 1000000000);
    fake_wait(&fake, 61 * 1000); /* the checkpoint */
    fake_wait(&fake, 100);
    ck_assert(!core_step(fake.core, &wait_ns));
    ck_assert_uint_eq(wait_ns, UINT64_MAX);
}
END_TEST

/* The machine had been running for an hour when the broker was started. */
START_TEST(the_first_checkpoint_by_time_comes_an_interval_after_the_start)
{
    uint64_t wait_ns;
    fake_client_free(a);
    fake_client_free(b);
    fake_kill(&fake);
    fake.now_ns += UINT64_C(3600) * 1000000000;
    ck_assert_int_eq(fake_start(&fake), MSHM_OK);
    a = fake_attach(&fake, 0);
    b = fake_attach(&fake, 0);
    const AO_t *checkpoints = &fake.core->figures->counters.checkpoints;
    ck_assert_int_eq(fake_put(a, bucket, "k", "1"), MSHM_OK);
    fake_wait(&fake, 59 * 1000);
    ck_assert_uint_eq(AO_load(checkpoints), 0);
    fake_wait(&fake, 100); /* what else is due after such a time */
    ck_assert(!core_step(fake.core, &wait_ns));
    ck_assert_uint_le(wait_ns, 1000000000); /* what is left of the interval */
    fake_wait(&fake, 1000);
    ck_assert_uint_eq(AO_load(checkpoints), 1);
}
END_TEST

static uint64_t
lookup(struct fake_client *client, uint64_t incarnation, uint64_t session, uint64_t sequence,
       uint64_t *timestamp)
{
    struct mshm_lookup message = {
        .head = {.magic = MSHM_MESSAGE_MAGIC,
                 .kind = MSHM_MESSAGE_LOOKUP,
                 .version = MSHM_LAYOUT_VERSION,
                 .size = sizeof(message)},
        .incarnation = incarnation,
        .session = session,
        .sequence = sequence,
    };
    ck_assert_int_eq(fake_control(client, &message, sizeof(message)), MSHM_OK);
    memcpy(&message, client->reply, sizeof(message));
    *timestamp = message.timestamp;
    return message.outcome;
}

START_TEST(an_unanswered_commit_is_looked_up_after_a_crash)
{
    uint64_t timestamp, number = core_session_number(a->session);
    ck_assert_int_eq(fake_answer(a, put(a, "k1", "1", MSHM_REQUEST_LEVEL_SYNC), &timestamp),
                     MSHM_OK);
    fake.hold = true;
    uint64_t sequence = put(a, "k2", "1", MSHM_REQUEST_LEVEL_SYNC);
    fake_run(&fake); /* the write has reached the file, the completion is never seen */
    uint64_t incarnation = core_incarnation(fake.core);
    fake_kill(&fake);
    fake.hold = false;
    ck_assert_int_eq(fake_start(&fake), MSHM_OK);
    ck_assert_uint_gt(core_incarnation(fake.core), incarnation);
    fake_client_free(b);
    b = fake_attach(&fake, 0);
    ck_assert_uint_eq(lookup(b, incarnation, number, sequence, &timestamp), MSHM_OUTCOME_COMMITTED);
    ck_assert_uint_eq(timestamp, 3);
    ck_assert_uint_eq(lookup(b, incarnation, number, sequence + 1, &timestamp),
                      MSHM_OUTCOME_NOT_COMMITTED);
    ck_assert_uint_eq(lookup(b, core_incarnation(fake.core), 1, 1, &timestamp),
                      MSHM_OUTCOME_UNKNOWN);
    ck_assert_uint_eq(lookup(b, incarnation, UINT64_C(1) << 32 | number, sequence, &timestamp),
                      MSHM_OUTCOME_UNKNOWN);
}
END_TEST

START_TEST(everything_is_there_after_many_segments_and_restarts)
{
    char key[16], value[256];
    for (int round = 0; round < 4; round++) {
        for (int i = 0; i < 500; i++) {
            snprintf(key, sizeof(key), "%d-%d", round, i);
            snprintf(value, sizeof(value), "value %d of round %d, and something to fill the log", i,
                     round);
            ck_assert_int_eq(fake_put(a, bucket, key, value), MSHM_OK);
        }
        fake_kill(&fake);
        ck_assert_int_eq(fake_start(&fake), MSHM_OK);
        ck_assert_uint_eq(core_incarnation(fake.core), (unsigned)round + 2);
        fake_client_free(a);
        a = fake_attach(&fake, 0);
    }
    for (int round = 0; round < 4; round++) {
        for (int i = 0; i < 500; i++) {
            char expected[256];
            snprintf(key, sizeof(key), "%d-%d", round, i);
            snprintf(expected, sizeof(expected),
                     "value %d of round %d, and something to fill the log", i, round);
            ck_assert_int_eq(fake_get(a, 0, bucket, key, 0, value), MSHM_OK);
            ck_assert_str_eq(value, expected);
        }
    }
}
END_TEST

START_TEST(a_full_cache_refuses_puts_and_takes_deletes)
{
    char key[16], value[4001];
    int status = MSHM_OK, done = 0;
    fake_fini(&fake);
    fake_client_free(a);
    fake_client_free(b);
    start(1 << 20); /* the cache is to be full before the files of the fake are */
    memset(value, 'x', sizeof(value) - 1);
    value[sizeof(value) - 1] = 0;
    for (; status == MSHM_OK && done < 10000; done++) {
        snprintf(key, sizeof(key), "%06d", done);
        status = fake_answer(a, put(a, key, value, 0), NULL);
    }
    ck_assert_int_eq(status, MSHM_FULL);
    ck_assert_int_gt(done, 500);
    char read[256];
    ck_assert_int_eq(fake_get(b, 6, bucket, "000000", 0, read), MSHM_BUFFER_TOO_SMALL);
    for (int i = 0; i < done - 1; i++) {
        snprintf(key, sizeof(key), "%06d", i);
        ck_assert_int_eq(fake_one_call(a, bucket, MSHM_OP_DELETE_EXISTING, key, NULL), MSHM_OK);
    }
    ck_assert_int_eq(fake_get(b, 6, bucket, "000000", 0, read), MSHM_NOT_FOUND);
}
END_TEST

START_TEST(figures_count_what_happened)
{
    const struct mshm_counters *counters = &fake.core->figures->counters;
    uint64_t commits = AO_load(&counters->commits);
    ck_assert_int_eq(fake_put(a, bucket, "k", "1"), MSHM_OK);
    ck_assert_int_eq(fake_answer(a, put(a, "k", "2", MSHM_REQUEST_LEVEL_SYNC), NULL), MSHM_OK);
    ck_assert_int_eq(fake_one_call(a, bucket, MSHM_OP_INSERT, "k", "3"), MSHM_EXISTS);
    fake_wait(&fake, 2);
    ck_assert_uint_eq(AO_load(&counters->commits), commits + 2);
    ck_assert_uint_eq(AO_load(&counters->commits_sync), 1);
    ck_assert_uint_eq(AO_load(&counters->refused), 1);
    ck_assert_uint_eq(AO_load(&counters->visible), 3);
    ck_assert_uint_eq(AO_load(&counters->sessions), 2);
    ck_assert_uint_eq(AO_load(&counters->buckets), 1);
    ck_assert_uint_eq(AO_load(&fake.core->figures->commit_latency.count), 1);
    ck_assert_uint_eq(AO_load(&fake.core->figures->commit_sync_latency.count), 1);
}
END_TEST

int
main(void)
{
    TCase *tcase = tcase_create("core");
    tcase_set_timeout(tcase, 60);
    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_add_test(tcase, a_new_database_has_the_bucket_default_and_one_commit);
    tcase_add_test(tcase, options_that_cannot_be_are_refused);
    tcase_add_test(tcase, a_store_that_cannot_be_backed_is_full);
    tcase_add_test(tcase, a_full_disk_refuses_commits_until_there_is_room);
    tcase_add_test(tcase, a_busy_log_leaves_requests_in_the_ring);
    tcase_add_test(tcase, a_failed_sync_poisons_the_incarnation);
    tcase_add_test(tcase, an_orderly_stop_answers_what_was_published_and_no_more);
    tcase_add_test(tcase, a_session_has_only_so_many_reads_under_way);
    tcase_add_test(tcase, a_stop_that_is_taken_back_leaves_everything_as_it_was);
    tcase_add_test(tcase, an_idle_log_is_synced_and_marked_once);
    tcase_add_test(tcase, the_loop_says_how_long_it_may_sleep);
    tcase_add_test(tcase, the_first_checkpoint_by_time_comes_an_interval_after_the_start);
    tcase_add_test(tcase, an_unanswered_commit_is_looked_up_after_a_crash);
    tcase_add_test(tcase, everything_is_there_after_many_segments_and_restarts);
    tcase_add_test(tcase, a_full_cache_refuses_puts_and_takes_deletes);
    tcase_add_test(tcase, figures_count_what_happened);
    Suite *suite = suite_create("core");
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
