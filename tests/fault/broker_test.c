/* broker_test.c - faults of the broker's process, its clocks and its surroundings. */
#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#include "fault/fault.h"
#include "support/client.h"
#include "support/load.h"

enum { EXIT_POISONED = 70 };

static char scratch[SCRATCH_PATH], path[SCRATCH_PATH];
static struct load_board *board;
static struct broker broker;
static const struct broker_options options = {.arguments = {"--cache", "16M"}};

static void
setup(void)
{
    scratch_create(scratch);
    scratch_join(path, scratch, "db");
    board = load_board_create();
}

static void
teardown(void)
{
    load_board_destroy(board);
    scratch_remove(scratch);
}

static uint64_t
sum_of(mace_txn *txn, mace_bucket *bucket)
{
    uint64_t sum = 0;

    for (unsigned slot = 0; slot < 3; slot++)
        sum += load_check(txn, bucket, slot);
    return sum;
}

static void
commit_some(mace *db, mace_bucket *bucket, unsigned count)
{
    for (unsigned i = 0; i < count; i++)
        ck_assert_int_eq(load_commit(db, bucket, board, i % 3, i % 8 == 0 ? MACE_SYNC : MACE_OS),
                         MACE_OK);
}

/* --- F7 --- */

START_TEST(f07_a_killed_broker_leaves_readers_safe_and_waiters_informed)
{
    struct load_worker part = {
        .board = board, .path = path, .bucket = "default", .first_slot = 3, .slots = 3};
    struct worker worker;
    mace_txn *old;

    broker_start(&broker, path, &options);
    mace *db = client_open(path);
    mace_bucket *bucket = client_bucket(db, "default");
    commit_some(db, bucket, 40);
    ck_assert_int_eq(mace_begin(db, MACE_RDONLY, &old), MACE_OK);
    ck_assert_uint_eq(sum_of(old, bucket), 40);
    worker_start(&worker, load_worker_run, &part);
    wait_for(load_commits(board) > 60);
    uint64_t killed = process_time_ns();
    broker_kill(&broker);
    wait_for(AO_load_acquire(&board->losses) > 0);
    printf("f07: a waiting client knew of the broker's death after %.1f ms\n",
           (double)(process_time_ns() - killed) / 1e6);
    /* The old snapshot is where it was, and the open transaction is told at the latest by its commit. */
    ck_assert_uint_eq(sum_of(old, bucket), 40);
    ck_assert_int_eq(client_put(db, bucket, "x", "y"), MACE_BROKER_LOST);
    mace_abort(old);
    killed = process_time_ns();
    broker_start(&broker, path, &options);
    uint64_t before = load_commits(board);
    wait_for(load_commits(board) > before + 20);
    printf("f07: commits went on %.1f ms after the next broker's start\n",
           (double)(process_time_ns() - killed) / 1e6);
    AO_store_release(&board->stop, 1);
    worker_join(&worker);
    load_check_all(db, bucket, board);
    mace_close(db);
    broker_finish(&broker);
}
END_TEST

/* Runs a command of the shell with the two directories as $1 and $2. */
static void
shell_run(const char *command, const char *first, const char *second)
{
    char line[3 * SCRATCH_PATH];

    snprintf(line, sizeof line, "set -- '%s' '%s'; %s", first, second, command);
    ck_assert_int_eq(system(line), 0);
}

START_TEST(f07_a_process_that_has_seen_lost_commits_is_not_shown_the_past_as_the_present)
{
    char saved[SCRATCH_PATH];
    mace_txn *txn;

    scratch_join(saved, scratch, "saved");
    broker_start(&broker, path, &options);
    mace *other = client_open(path);
    ck_assert_int_eq(client_put(other, client_bucket(other, "default"), "key", "early"), MACE_OK);
    mace_close(other);
    broker_finish(&broker);
    shell_run("cp -a \"$1\" \"$2\"", path, saved);

    broker_start(&broker, path, &options);
    mace *db = client_open(path);
    mace_bucket *bucket = client_bucket(db, "default");
    for (int i = 0; i < 10; i++)
        ck_assert_int_eq(client_put(db, bucket, "key", "late"), MACE_OK);
    ck_assert(client_has(db, bucket, "key", "late"));
    broker_kill(&broker);
    /* The disk loses what was never synced. */
    shell_run("rm -rf \"$1\" && cp -a \"$2\" \"$1\"", path, saved);
    broker_start(&broker, path, &options);
    ck_assert_int_eq(mace_begin(db, 0, &txn), MACE_IO);
    other = client_open(path);
    mace_bucket *others = client_bucket(other, "default");
    ck_assert(client_has(other, others, "key", "early"));
    ck_assert_int_eq(mace_begin(db, 0, &txn), MACE_IO);
    for (int i = 0; i < 10; i++)
        ck_assert_int_eq(client_put(other, others, "key", "again"), MACE_OK);
    ck_assert(client_has(db, bucket, "key", "again"));
    mace_close(other);
    mace_close(db);
    broker_finish(&broker);
}
END_TEST

/* --- F9 --- */

START_TEST(f09_broker_stopped_commits_time_out_reads_go_on)
{
    mace_options impatient;
    mace *db, *other;
    mace_txn *txn;
    struct broker second;
    int status;

    broker_start(&broker, path, &options);
    mace_options_init(&impatient);
    impatient.start_broker = 1; /* it could, and must not */
    impatient.commit_timeout_ms = 100;
    impatient.durability = MACE_OS;
    ck_assert_int_eq(mace_open(path, &impatient, &db), MACE_OK);
    mace_bucket *bucket = client_bucket(db, "default");
    other = client_open(path); /* patient: a commit may take longer on a busy machine */
    mace_bucket *others = client_bucket(other, "default");
    commit_some(other, others, 30);
    uint64_t pid = client_stat(db).broker_pid;
    broker_stop(&broker);
    for (int round = 0; round < 3; round++) {
        uint64_t began = process_time_ns();
        ck_assert_int_eq(mace_begin(db, 0, &txn), MACE_OK);
        ck_assert_uint_eq(sum_of(txn, bucket), 30);
        ck_assert_int_eq(mace_put(txn, bucket, "late", 4, "x", 1), MACE_OK);
        status = mace_commit(txn);
        uint64_t took = process_time_ns() - began;
        ck_assert_int_eq(status, MACE_UNKNOWN_OUTCOME);
        ck_assert_uint_ge(took, 100 * UINT64_C(1000000));
        ck_assert_int_eq(client_put(db, bucket, "late1", "x"), MACE_UNKNOWN_OUTCOME);
    }
    /* Another broker does not take the place of one that is only stopped. */
    broker_launch(&second, path, &options);
    ck_assert_int_eq(broker_wait(&second), 0);
    broker_continue(&broker);
    /* The commits had been handed over: they are carried out now, the first of the three at least. */
    wait_for(client_has(db, bucket, "late", "x") && client_has(db, bucket, "late1", "x"));
    ck_assert_uint_eq(client_stat(db).broker_pid, pid);
    commit_some(other, others, 10);
    mace_close(other);
    mace_close(db);
    broker_finish(&broker);
}
END_TEST

/* --- F34 --- */

START_TEST(f34_a_second_broker_leaves_with_success_by_whatever_path_it_comes)
{
    char link[SCRATCH_PATH], detour[SCRATCH_PATH];
    const char *const paths[] = {path, link, detour};
    struct broker second;

    scratch_join(link, scratch, "link");
    scratch_join(detour, scratch, "./db/../db/.");
    ck_assert_int_eq(symlink("db", link), 0);
    broker_start(&broker, path, &options);
    mace *db = client_open(path);
    mace_bucket *bucket = client_bucket(db, "default");
    for (size_t i = 0; i < sizeof paths / sizeof paths[0]; i++) {
        broker_launch(&second, paths[i], &options);
        ck_assert_int_eq(broker_wait(&second), 0);
        mace *other = client_open(paths[i]);
        ck_assert_uint_eq(client_stat(other).broker_pid, (uint64_t)broker.pid);
        mace_close(other);
        commit_some(db, bucket, 5);
    }
    mace_close(db);
    broker_finish(&broker);
}
END_TEST

static void
new_mounts(void *argument)
{
    const char *where = argument;

    if (unshare(CLONE_NEWNS) != 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0 ||
        mount(path, where, NULL, MS_BIND, NULL) != 0)
        _exit(77);
}

START_TEST(f34_a_second_broker_in_another_container_leaves_with_success)
{
    char other[SCRATCH_PATH];
    struct broker_options elsewhere = options;
    struct broker second;

    scratch_join(other, scratch, "other");
    ck_assert_int_eq(mkdir(other, 0700), 0);
    broker_start(&broker, path, &options);
    elsewhere.prepare = new_mounts;
    elsewhere.argument = other;
    broker_launch(&second, other, &elsewhere);
    int status = broker_wait(&second);
    if (WIFEXITED(status) && WEXITSTATUS(status) == 77)
        printf("f34 in another container skipped: nothing can be mounted here\n");
    else
        ck_assert_int_eq(status, 0);
    broker_finish(&broker);
}
END_TEST

/* --- F35 --- */

START_TEST(f35_a_broker_whose_directory_was_replaced_stops)
{
    char away[SCRATCH_PATH];

    scratch_join(away, scratch, "away");
    broker_start(&broker, path, &options);
    mace *db = client_open(path);
    mace_bucket *bucket = client_bucket(db, "default");
    commit_some(db, bucket, 10);
    ck_assert_int_eq(rename(path, away), 0);
    ck_assert_int_eq(mkdir(path, 0700), 0);
    int status = broker_wait(&broker);
    ck_assert_msg(WIFEXITED(status) && WEXITSTATUS(status) == EXIT_POISONED, "it ended with %x",
                  (unsigned)status);
    ck_assert_int_eq(client_put(db, bucket, "x", "y"), MACE_BROKER_LOST);
    mace_close(db);
    broker_start(&broker, away, &options);
    db = client_open(away);
    bucket = client_bucket(db, "default");
    ck_assert_uint_eq(load_check_all(db, bucket, board), 10);
    mace_close(db);
    broker_finish(&broker);
}
END_TEST

/* --- F36, F37: clocks --- */

static void
clocks(enum fault_kind kind)
{
    struct fault_control *control = fault_control_create(scratch);
    struct broker_options shimmed;
    mace_txn *old;

    if (control == NULL) {
        printf("f36, f37 skipped: nothing can be preloaded under a sanitizer\n");
        return;
    }
    fault_options(&shimmed);
    broker_start(&broker, path, &shimmed);
    mace *db = client_open(path);
    mace_bucket *bucket = client_bucket(db, "default");
    commit_some(db, bucket, 20);
    ck_assert_int_eq(mace_begin(db, 0, &old), MACE_OK);
    for (int round = 0; round < 5; round++) {
        AO_store_full(&control->kinds, round % 2 == 0 ? kind : 0);
        commit_some(db, bucket, 20);
        ck_assert_uint_eq(sum_of(old, bucket), 20);
    }
    ck_assert_int_eq(mace_put(old, bucket, "old", 3, "x", 1), MACE_OK);
    ck_assert_int_eq(mace_commit(old), MACE_OK);
    mace_stat stat = client_stat(db);
    ck_assert_uint_eq(stat.snapshots_expired, 0);
    ck_assert_uint_eq(stat.sessions_ended_dead, 0);
    ck_assert_uint_eq(stat.broker_pid, (uint64_t)broker.pid);
    ck_assert_uint_eq(load_check_all(db, bucket, board), 120);
    mace_close(db);
    broker_finish(&broker);
}

START_TEST(f36_jumps_of_the_wall_clock_have_no_effect)
{
    clocks(FAULT_REALTIME_JUMPS);
}
END_TEST

START_TEST(f37_hours_of_suspend_have_no_effect)
{
    clocks(FAULT_MONOTONIC_GAP);
}
END_TEST

/* --- F38: equal process numbers --- */

/* In a process number space of its own, where it is number 1. */
static void
namespace_run(int channel, void *argument)
{
    const char *name = argument;

    if (unshare(CLONE_NEWPID) != 0) {
        channel_tell(channel, 0);
        return;
    }
    pid_t pid = fork();
    if (pid == 0) {
        uint64_t word;
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        mace *db = client_open(path);
        mace_bucket *bucket = client_bucket(db, "default");
        mace_txn *txn;
        require_ok(mace_begin(db, 0, &txn));
        require_ok(mace_put(txn, bucket, name, strlen(name), "x", 1));
        channel_tell(channel, (uint64_t)getpid());
        require(channel_hear(channel, &word), "the test is gone");
        require_ok(mace_commit(txn));
        channel_tell(channel, 2);
        require(channel_hear(channel, &word), "the test is gone");
        _exit(0);
    }
    waitpid(pid, NULL, 0);
}

START_TEST(f38_clients_with_equal_process_numbers_are_told_apart)
{
    static char first_name[] = "first", second_name[] = "second";
    struct worker first, second;
    uint64_t numbers[2];

    broker_start(&broker, path, &options);
    mace *db = client_open(path);
    mace_bucket *bucket = client_bucket(db, "default");
    worker_start(&first, namespace_run, first_name);
    worker_start(&second, namespace_run, second_name);
    ck_assert(channel_hear(first.channel, &numbers[0]) &&
              channel_hear(second.channel, &numbers[1]));
    if (numbers[0] == 0) {
        printf("f38 skipped: no process number spaces here\n");
        worker_kill(&first);
        worker_kill(&second);
    } else {
        ck_assert_uint_eq(numbers[0], 1);
        ck_assert_uint_eq(numbers[1], 1);
        ck_assert_uint_eq(client_stat(db).sessions, 3);
        worker_kill(&first);
        wait_for(client_stat(db).sessions == 2);
        channel_tell(second.channel, 1);
        channel_expect(second.channel, 2);
        ck_assert(client_has(db, bucket, second_name, "x"));
        ck_assert(client_absent(db, bucket, first_name));
        worker_kill(&second);
        wait_for(client_stat(db).sessions == 1);
    }
    mace_close(db);
    broker_finish(&broker);
}
END_TEST

/* --- F40: signals --- */

static AO_t ticks;

static void
tick(int number)
{
    (void)number;
    AO_fetch_and_add1(&ticks);
}

/* Every call of the library, interrupted all the time; no handler asks for calls to be restarted. */
static void
interrupted_run(int channel, void *argument)
{
    struct sigaction action = {.sa_handler = tick};
    struct itimerval every = {{0, 200}, {0, 200}};

    (void)argument;
    sigaction(SIGALRM, &action, NULL);
    setitimer(ITIMER_REAL, &every, NULL);
    for (uint64_t round = 0; round < 60; round++) {
        mace *db = client_open(path);
        mace_bucket *bucket = client_bucket(db, "default");
        mace_ticket ticket;
        mace_txn *txn;
        for (int i = 0; i < 5; i++)
            require_ok(load_commit(db, bucket, board, 0, i == 0 ? MACE_SYNC : MACE_OS));
        require_ok(mace_begin(db, MACE_SYNC, &txn));
        require_ok(mace_put(txn, bucket, "ticket", 6, &round, sizeof round));
        require_ok(mace_commit_async(txn, &ticket));
        require_ok(mace_wait(db, &ticket));
        require_ok(mace_sync(db));
        require_ok(mace_begin(db, MACE_RDONLY, &txn));
        require(load_check(txn, bucket, 0) == (round + 1) * 5, "a commit is missing");
        mace_abort(txn);
        mace_close(db);
    }
    setitimer(ITIMER_REAL, &(struct itimerval){{0, 0}, {0, 0}}, NULL);
    channel_tell(channel, AO_load(&ticks));
}

/* Harmless signals, and stops that interrupt whatever the broker waits in. */
static void
storm_run(int channel, void *argument)
{
    static const int signals[] = {SIGUSR1, SIGUSR2, SIGPIPE, SIGWINCH, SIGCHLD, SIGSTOP, SIGCONT};

    (void)channel;
    (void)argument;
    for (unsigned i = 0; !AO_load_acquire(&board->stop); i++) {
        kill(broker.pid, signals[i % (sizeof signals / sizeof signals[0])]);
        if (i % 7 == 6)
            usleep(300);
    }
    kill(broker.pid, SIGCONT);
}

START_TEST(f40_storms_of_signals_change_nothing)
{
    struct worker client, storm;
    uint64_t heard;

    broker_start(&broker, path, &options);
    worker_start(&storm, storm_run, NULL);
    worker_start(&client, interrupted_run, NULL);
    if (!channel_hear(client.channel, &heard)) {
        broker_log_show(&broker);
        ck_abort_msg("the client has failed");
    }
    ck_assert_uint_gt(heard, 50);
    worker_join(&client);
    AO_store_release(&board->stop, 1);
    worker_join(&storm);
    broker_finish(&broker);
}
END_TEST

int
main(void)
{
    Suite *suite = suite_create("faults of brokers");
    TCase *cases = tcase_create("brokers");
    SRunner *runner;

    tcase_set_timeout(cases, 0);
    tcase_add_checked_fixture(cases, setup, teardown);
    tcase_add_test(cases, f07_a_killed_broker_leaves_readers_safe_and_waiters_informed);
    tcase_add_test(cases,
                   f07_a_process_that_has_seen_lost_commits_is_not_shown_the_past_as_the_present);
    tcase_add_test(cases, f09_broker_stopped_commits_time_out_reads_go_on);
    tcase_add_test(cases, f34_a_second_broker_leaves_with_success_by_whatever_path_it_comes);
    tcase_add_test(cases, f34_a_second_broker_in_another_container_leaves_with_success);
    tcase_add_test(cases, f35_a_broker_whose_directory_was_replaced_stops);
    tcase_add_test(cases, f36_jumps_of_the_wall_clock_have_no_effect);
    tcase_add_test(cases, f37_hours_of_suspend_have_no_effect);
    tcase_add_test(cases, f38_clients_with_equal_process_numbers_are_told_apart);
    tcase_add_test(cases, f40_storms_of_signals_change_nothing);
    suite_add_tcase(suite, cases);
    runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
