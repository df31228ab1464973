/* calls_test.c - the n-th system call of the real broker on its files fails, through load, checkpoints, page-in, a SIGKILL
 * and recovery: an error code, and every acknowledged commit afterwards; the broker goes on, or leaves with 70 and the next
 * one does. As sweep_test.c, one layer below. */
#include <check.h>
#include <errno.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "fault/fault.h"
#include "support/client.h"
#include "support/load.h"

enum { SLOTS = 3, ALL = 16, STRIDE = 5, EXIT_POISONED = 70 };

static char scratch[SCRATCH_PATH], path[SCRATCH_PATH];
static struct fault_control *control;
static struct broker_options options;
static struct load_board *board;
static struct broker broker;
static unsigned poisoned, refused_starts, refused_commits;

static void
setup(void)
{
    if (access("/dev/shm", W_OK) == 0)
        setenv("TMPDIR", "/dev/shm", 0);
    scratch_create(scratch);
    scratch_join(path, scratch, "db");
    control = fault_control_create(scratch);
    if (control == NULL)
        return;
    fault_options(&options);
    static const char *const more[] = {"--segment-size", "64K", "--huge-pages", "off"};
    for (unsigned i = 0; i < sizeof more / sizeof *more; i++)
        options.arguments[3 + i] = more[i];
}

static void
teardown(void)
{
    scratch_remove(scratch);
}

/* The next broker starts whatever the one before said: the call that failed was one. */
static void
start(void)
{
    broker_launch(&broker, path, &options);
    int status = broker_ready(&broker);
    if (status == 0)
        return;
    int end = broker_wait(&broker);
    ck_assert_msg(AO_load(&control->hits) > 0, "a start without a fault: %d", status);
    ck_assert_msg(status == MACE_IO || status == MACE_FULL || status == MACE_LIMIT ||
                      status == MACE_DENIED || status == 1,
                  "a start with a fault: %s", mace_strerror(status));
    ck_assert_msg(WIFEXITED(end) && (WEXITSTATUS(end) == 1 || WEXITSTATUS(end) == EXIT_POISONED),
                  "it ended with %x", (unsigned)end);
    refused_starts++;
    broker_start(&broker, path, &options);
}

/* It has said by its end that it cannot go on. */
static void
restart(void)
{
    int end = broker_wait(&broker);

    ck_assert_msg(WIFEXITED(end) && WEXITSTATUS(end) == EXIT_POISONED, "it ended with %x",
                  (unsigned)end);
    ck_assert_uint_gt(AO_load(&control->hits), 0);
    poisoned++;
    start();
}

/* SIGKILL, unless it has just ended by itself. */
static void
end(void)
{
    kill(broker.pid, SIGKILL);
    int status = broker_wait(&broker);
    ck_assert_msg(WIFSIGNALED(status) || WEXITSTATUS(status) == EXIT_POISONED, "it ended with %x",
                  (unsigned)status);
}

static bool
lost(int status)
{
    return status == MACE_BROKER_LOST || status == MACE_UNKNOWN_OUTCOME;
}

static void
load(mace *db, mace_bucket *bucket, unsigned commits)
{
    for (unsigned i = 0; i < commits; i++) {
        int status = load_commit(db, bucket, board, i % SLOTS, i % 5 == 4 ? MACE_SYNC : MACE_OS);
        if (status == MACE_OK)
            continue;
        ck_assert_msg(AO_load(&control->hits) > 0, "a commit without a fault: %s",
                      mace_strerror(status));
        ck_assert_msg(lost(status) || status == MACE_IO || status == MACE_FULL, "a commit: %s",
                      mace_strerror(status));
        refused_commits++;
        if (lost(status))
            restart();
    }
}

static void
checkpoint(mace *db)
{
    int status = mace_checkpoint(db);

    if (status == MACE_OK)
        return;
    ck_assert_msg(AO_load(&control->hits) > 0 &&
                      (lost(status) || status == MACE_IO || status == MACE_FULL),
                  "a checkpoint: %s", mace_strerror(status));
    if (lost(status))
        restart();
}

/* The first checkpoint may end a broker that has only just said that it serves. */
static mace *
attach(mace_bucket **bucket)
{
    mace_options attaching;
    mace *db;
    int status;

    mace_options_init(&attaching);
    attaching.start_broker = 0;
    while ((status = mace_open(path, &attaching, &db)) != MACE_OK) {
        ck_assert_msg(lost(status), "attaching: %s", mace_strerror(status));
        restart();
    }
    while ((status = mace_bucket_open(db, "default", bucket)) != MACE_OK) {
        ck_assert_msg(lost(status), "opening the bucket: %s", mace_strerror(status));
        restart();
    }
    return db;
}

/* One history; returns how many calls of these kinds it had. */
static uint64_t
history(unsigned calls, uint64_t nth, int error)
{
    board = load_board_create();
    AO_store(&control->counted, 0);
    AO_store(&control->hits, 0);
    AO_store(&control->nth, nth);
    AO_store(&control->error, (AO_t)error);
    AO_store_full(&control->calls, calls);
    start();
    mace_bucket *bucket;
    mace *db = attach(&bucket);
    load(db, bucket, 20);
    checkpoint(db);
    load(db, bucket, 20);
    end();
    start();
    load(db, bucket, 10);
    checkpoint(db);
    uint64_t counted = AO_load(&control->counted);
    /* Whatever it met: now all goes on. */
    AO_store_full(&control->calls, 0);
    wait_for(load_commit(db, bucket, board, 0, MACE_SYNC) != MACE_FULL);
    load(db, bucket, 2);
    load_check_all(db, bucket, board);
    broker_kill(&broker);
    broker_start(&broker, path, NULL);
    load_check_all(db, bucket, board);
    mace_close(db);
    broker_finish(&broker);
    load_board_destroy(board);
    scratch_remove(path);
    return counted;
}

static void
sweep(const char *what, unsigned calls, int error)
{
    uint64_t last = 0, runs = 0;

    if (control == NULL) {
        printf("%s skipped: nothing can be preloaded under a sanitizer\n", what);
        return;
    }
    poisoned = refused_starts = refused_commits = 0;
    for (uint64_t nth = 1; last == 0 || nth <= last; nth += nth < ALL ? 1 : STRIDE) {
        last = history(calls, nth, error);
        runs++;
    }
    printf("%s, %s: %u of %u calls failed: %u starts refused, %u brokers poisoned, %u commits "
           "refused\n",
           what, strerror(error), (unsigned)runs, (unsigned)last, refused_starts, poisoned,
           refused_commits);
    ck_assert_uint_gt(runs, 2);
}

START_TEST(f20_a_write_fails)
{
    sweep("writes", FAULT_CALL_WRITE, EIO);
    sweep("writes", FAULT_CALL_WRITE, ENOSPC);
}
END_TEST

START_TEST(f20_a_sync_fails)
{
    sweep("syncs", FAULT_CALL_SYNC, EIO);
}
END_TEST

START_TEST(f19_a_read_fails)
{
    sweep("reads", FAULT_CALL_READ, EIO);
}
END_TEST

START_TEST(f17_f18_room_or_a_name_is_refused)
{
    sweep("allocations", FAULT_CALL_ALLOCATE, ENOSPC);
    sweep("names", FAULT_CALL_NAMES, EIO);
}
END_TEST

START_TEST(f21_short_and_interrupted_calls_change_nothing_in_a_whole_history)
{
    if (control == NULL) {
        printf("f21 skipped: nothing can be preloaded under a sanitizer\n");
        return;
    }
    AO_store_full(&control->kinds, FAULT_SHORT_READS | FAULT_SHORT_WRITES);
    history(0, 0, 0);
    ck_assert_uint_gt(AO_load(&control->hits), 100);
    ck_assert_uint_eq(poisoned + refused_starts + refused_commits, 0);
}
END_TEST

int
main(void)
{
    Suite *suite = suite_create("faults of system calls");
    TCase *cases = tcase_create("calls");
    SRunner *runner;

    tcase_set_timeout(cases, 0);
    tcase_add_checked_fixture(cases, setup, teardown);
    tcase_add_test(cases, f20_a_write_fails);
    tcase_add_test(cases, f20_a_sync_fails);
    tcase_add_test(cases, f19_a_read_fails);
    tcase_add_test(cases, f17_f18_room_or_a_name_is_refused);
    tcase_add_test(cases, f21_short_and_interrupted_calls_change_nothing_in_a_whole_history);
    suite_add_tcase(suite, cases);
    runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
