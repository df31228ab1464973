/* broker_death_test.c - the ends of clients and brokers, and who notices how soon. */
#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "support/broker.h"
#include "support/process.h"
#include "support/raw_client.h"

#define SMALL "--cache", "64M", "--segment-size", "1M"
static const struct broker_options small = {.arguments = {SMALL}};

static char scratch[SCRATCH_PATH], path[SCRATCH_PATH];
static struct broker broker;

static void
setup(void)
{
    scratch_create(scratch);
    scratch_join(path, scratch, "db");
}

static void
teardown(void)
{
    scratch_remove(scratch);
}

static unsigned
liveness(const struct raw_client *client)
{
    return AO_int_load_acquire(&client->view.store->liveness);
}

static bool
session_exists(struct raw_client *asker, uint64_t number)
{
    struct mshm_value_message request = {
        .head = {.magic = MSHM_MESSAGE_MAGIC,
                 .kind = MSHM_MESSAGE_SESSIONS,
                 .version = MSHM_LAYOUT_VERSION,
                 .size = sizeof(request)},
        .value = number - 1,
    };
    struct mshm_session_info info;
    int status = raw_client_control(asker, &request.head, &info.head, sizeof(info));

    return status == MSHM_OK && info.number == number;
}

/* --- clients -------------------------------------------------------------------------------------------------------- */

/* Attaches, tells its session's number, and waits for a word. */
static void
attach_and_wait(int channel, void *argument)
{
    struct raw_client client;
    uint64_t word;

    (void)argument;
    raw_client_open(&client, path);
    channel_tell(channel, client.welcome.session);
    channel_hear(channel, &word);
}

START_TEST(a_killed_client_loses_its_session)
{
    struct raw_client asker;
    struct worker worker;
    uint64_t number;

    broker_start(&broker, path, &small);
    raw_client_open(&asker, path);
    for (int i = 0; i < 20; i++) {
        worker_start(&worker, attach_and_wait, NULL);
        ck_assert(channel_hear(worker.channel, &number));
        ck_assert(session_exists(&asker, number));
        worker_kill(&worker);
        wait_for(!session_exists(&asker, number));
    }
    raw_client_close(&asker);
    broker_finish(&broker);
}
END_TEST

/* The grandchild has the socket open and lives on: only the process's end can be seen. */
static void
attach_and_leave_the_socket_to_a_child(int channel, void *argument)
{
    struct raw_client client;
    uint64_t word;

    (void)argument;
    raw_client_open(&client, path);
    pid_t child = fork();
    if (child == 0) {
        prctl(PR_SET_PDEATHSIG, 0);
        channel_tell(channel, client.welcome.session);
        channel_tell(channel, (uint64_t)getpid());
        channel_hear(channel, &word); /* until the test lets go */
        _exit(0);
    }
    require(child > 0, "%s", strerror(errno));
}

START_TEST(a_client_that_dies_is_noticed_although_its_child_holds_the_socket)
{
    struct raw_client asker;
    struct worker worker;
    uint64_t number, child;

    broker_start(&broker, path, &small);
    raw_client_open(&asker, path);
    worker_start(&worker, attach_and_leave_the_socket_to_a_child, NULL);
    ck_assert(channel_hear(worker.channel, &number));
    ck_assert(channel_hear(worker.channel, &child));
    int channel = dup(worker.channel);
    worker_join(&worker);
    wait_for(!session_exists(&asker, number));
    ck_assert_int_eq(kill((pid_t)child, 0), 0); /* it is there all the time */
    close(channel);
    raw_client_close(&asker);
    broker_finish(&broker);
}
END_TEST

/* The process lives on as another program; the socket is close-on-exec. */
static void
attach_and_become_another_program(int channel, void *argument)
{
    struct raw_client client;

    (void)argument;
    raw_client_open(&client, path);
    channel_tell(channel, client.welcome.session);
    execlp("sleep", "sleep", "1000", (char *)NULL);
}

START_TEST(a_client_that_becomes_another_program_is_noticed)
{
    struct raw_client asker;
    struct worker worker;
    uint64_t number;

    broker_start(&broker, path, &small);
    raw_client_open(&asker, path);
    worker_start(&worker, attach_and_become_another_program, NULL);
    ck_assert(channel_hear(worker.channel, &number));
    wait_for(!session_exists(&asker, number));
    ck_assert_int_ne(process_state(worker.pid), 'Z');
    worker_kill(&worker);
    raw_client_close(&asker);
    broker_finish(&broker);
}
END_TEST

START_TEST(a_stopped_client_keeps_its_session_and_disturbs_nobody)
{
    struct raw_client asker;
    struct worker worker;
    uint64_t number;

    broker_start(&broker, path, &small);
    raw_client_open(&asker, path);
    worker_start(&worker, attach_and_wait, NULL);
    ck_assert(channel_hear(worker.channel, &number));
    worker_stop(&worker);
    struct mshm_tree_ref tree = raw_client_tree(&asker, "default");
    ck_assert_int_eq(raw_client_put(&asker, tree.bucket, "key", "value"), MSHM_OK);
    ck_assert(session_exists(&asker, number));
    worker_kill(&worker);
    wait_for(!session_exists(&asker, number));
    raw_client_close(&asker);
    broker_finish(&broker);
}
END_TEST

START_TEST(a_good_bye_is_answered_when_everything_is_free)
{
    struct raw_client asker, client;
    struct mshm_message bye = {.magic = MSHM_MESSAGE_MAGIC,
                               .kind = MSHM_MESSAGE_BYE,
                               .version = MSHM_LAYOUT_VERSION,
                               .size = sizeof(bye)};
    struct mshm_message reply;

    broker_start(&broker, path, &small);
    raw_client_open(&asker, path);
    raw_client_open(&client, path);
    uint64_t number = client.welcome.session;
    ck_assert_int_eq(raw_client_control(&client, &bye, &reply, sizeof(reply)), MSHM_OK);
    ck_assert(!session_exists(&asker, number));
    wait_for(raw_client_ended(&client));
    raw_client_close(&client);
    raw_client_close(&asker);
    broker_finish(&broker);
}
END_TEST

/* --- brokers -------------------------------------------------------------------------------------------------------- */

START_TEST(a_killed_broker_is_marked_within_milliseconds)
{
    uint64_t longest = 0;

    for (int i = 0; i < 10; i++) {
        struct raw_client client;
        broker_start(&broker, path, &small);
        raw_client_open(&client, path);
        ck_assert_uint_eq(liveness(&client), (unsigned)broker.pid);
        uint64_t from = process_time_ns();
        kill(broker.pid, SIGKILL);
        while ((liveness(&client) & MSHM_LIVENESS_GONE_BIT) == 0)
            ck_assert_uint_lt(process_time_ns() - from, UINT64_C(30000000000));
        uint64_t took = process_time_ns() - from;
        longest = took > longest ? took : longest;
        broker_wait(&broker);
        wait_for(raw_client_ended(&client));
        raw_client_close(&client);
    }
    printf("from kill to mark: %.3f ms at most\n", (double)longest / 1e6);
}
END_TEST

START_TEST(a_hung_up_socket_never_comes_before_the_mark)
{
    for (int i = 0; i < 20; i++) {
        struct raw_client client;
        broker_start(&broker, path, &small);
        raw_client_open(&client, path);
        kill(broker.pid, SIGKILL);
        struct pollfd hung = {.fd = client.socket, .events = POLLRDHUP};
        ck_assert_int_eq(poll(&hung, 1, 30000), 1);
        ck_assert_uint_ne(liveness(&client) & MSHM_LIVENESS_GONE_BIT, 0);
        broker_wait(&broker);
        raw_client_close(&client);
    }
}
END_TEST

START_TEST(an_orderly_stop_says_so_and_keeps_everything)
{
    struct raw_client client;

    broker_start(&broker, path, &small);
    raw_client_open(&client, path);
    struct mshm_tree_ref tree = raw_client_tree(&client, "default");
    ck_assert_int_eq(raw_client_put(&client, tree.bucket, "key", "value"), MSHM_OK);
    mshm_timestamp visible = AO_load(&client.view.store->visible);
    broker_finish(&broker);
    ck_assert_uint_eq(liveness(&client), MSHM_LIVENESS_STOPPED);
    ck_assert(raw_client_ended(&client));
    raw_client_close(&client);
    broker_start(&broker, path, &small);
    raw_client_open(&client, path);
    ck_assert_uint_ge(AO_load(&client.view.store->visible), visible);
    raw_client_close(&client);
    broker_finish(&broker);
}
END_TEST

START_TEST(a_stopped_broker_goes_on_where_it_was)
{
    struct raw_client client;

    broker_start(&broker, path, &small);
    raw_client_open(&client, path);
    struct mshm_tree_ref tree = raw_client_tree(&client, "default");
    for (int i = 0; i < 10; i++) {
        broker_stop(&broker);
        ck_assert_uint_eq(liveness(&client) & MSHM_LIVENESS_GONE_BIT, 0);
        broker_continue(&broker);
        ck_assert_int_eq(raw_client_put(&client, tree.bucket, "key", "value"), MSHM_OK);
    }
    raw_client_close(&client);
    broker_finish(&broker);
}
END_TEST

static void
expect_poison(struct raw_client *client)
{
    int status = broker_wait(&broker);

    ck_assert_msg(WIFEXITED(status) && WEXITSTATUS(status) == 70, "wait status %x",
                  (unsigned)status);
    ck_assert_uint_eq(liveness(client), MSHM_LIVENESS_POISONED);
    raw_client_close(client);
}

START_TEST(a_deleted_or_replaced_directory_stops_the_broker_within_seconds)
{
    struct raw_client client;
    char aside[SCRATCH_PATH];

    scratch_join(aside, scratch, "aside");
    broker_start(&broker, path, &small);
    raw_client_open(&client, path);
    ck_assert_int_eq(rename(path, aside), 0);
    expect_poison(&client);
    ck_assert_int_eq(rename(aside, path), 0);
    broker_start(&broker, path, &small);
    raw_client_open(&client, path);
    ck_assert_int_eq(rename(path, aside), 0);
    ck_assert_int_eq(mkdir(path, 0755), 0);
    expect_poison(&client);
    ck_assert_int_eq(rmdir(path), 0);
    ck_assert_int_eq(rename(aside, path), 0);
    broker_start(&broker, path, &small);
    broker_finish(&broker);
}
END_TEST

START_TEST(a_lost_LOCK_file_changes_nothing)
{
    struct broker second;
    char file[SCRATCH_PATH];

    broker_start(&broker, path, &small);
    scratch_join(file, path, "LOCK");
    ck_assert_int_eq(unlink(file), 0);
    broker_launch(&second, path, &small);
    ck_assert_int_eq(broker_ready(&second), 0);
    ck_assert_int_eq(broker_wait(&second), 0);
    ck_assert_int_eq(waitpid(broker.pid, NULL, WNOHANG), 0);
    broker_finish(&broker);
}
END_TEST

/* One put at level SYNC, which needs a write; whether it is answered, and with what, is not waited for. */
static uint64_t
publish_sync_put(struct raw_client *client, uint32_t bucket)
{
    uint64_t offset;
    int wake;
    uint64_t size = raw_client_arena_put(client, bucket, MSHM_OP_PUT, "key", "value", &offset);
    uint64_t sequence =
        mshm_producer_publish(&client->producer, MSHM_REQUEST_ONE_CALL, MSHM_REQUEST_LEVEL_SYNC, 1,
                              0, 0, offset, size, 1, &wake);

    if (wake)
        raw_client_ring_bell(client);
    return sequence;
}

START_TEST(a_failed_write_stops_the_broker_and_acknowledges_nothing)
{
    for (int i = 0; i < 2; i++) {
        struct broker_options options = {.arguments = {SMALL, i == 0 ? NULL : "--no-uring"}};
        struct raw_client client;
        struct rlimit limit = {100, RLIM_INFINITY};
        int status = MSHM_BUSY;
        mshm_timestamp timestamp;
        broker_start(&broker, path, &options);
        raw_client_open(&client, path);
        /* All that needs an answer comes before the limit: a write of the broker's own may be the first to fail. */
        struct mshm_tree_ref tree = raw_client_tree(&client, "default");
        mshm_timestamp visible = AO_load(&client.view.store->visible);
        ck_assert_int_eq(prlimit(broker.pid, RLIMIT_FSIZE, &limit, NULL), 0);
        uint64_t sequence = publish_sync_put(&client, tree.bucket);
        wait_for((liveness(&client) & MSHM_LIVENESS_GONE_BIT) != 0);
        if (mshm_completion_take(client.session, sequence, &status, &timestamp))
            ck_assert_int_eq(status, MSHM_UNKNOWN_OUTCOME);
        ck_assert_uint_eq(AO_load(&client.view.store->visible), visible);
        expect_poison(&client);
        broker_start(&broker, path, &small);
        broker_finish(&broker);
    }
}
END_TEST

/* SIGBUS is what a store to the log's mapping meets on a bad disk; here it is sent. */
START_TEST(a_bus_error_is_poison)
{
    struct raw_client client;

    broker_start(&broker, path, &small);
    raw_client_open(&client, path);
    ck_assert_int_eq(kill(broker.pid, SIGBUS), 0);
    expect_poison(&client);
}
END_TEST

int
main(void)
{
    Suite *suite = suite_create("broker_death");
    TCase *cases = tcase_create("death");
    SRunner *runner = srunner_create(suite);

    suite_add_tcase(suite, cases);
    tcase_add_checked_fixture(cases, setup, teardown);
    tcase_set_timeout(cases, 120);
    tcase_add_test(cases, a_killed_client_loses_its_session);
    tcase_add_test(cases, a_client_that_dies_is_noticed_although_its_child_holds_the_socket);
    tcase_add_test(cases, a_client_that_becomes_another_program_is_noticed);
    tcase_add_test(cases, a_stopped_client_keeps_its_session_and_disturbs_nobody);
    tcase_add_test(cases, a_good_bye_is_answered_when_everything_is_free);
    tcase_add_test(cases, a_killed_broker_is_marked_within_milliseconds);
    tcase_add_test(cases, a_hung_up_socket_never_comes_before_the_mark);
    tcase_add_test(cases, an_orderly_stop_says_so_and_keeps_everything);
    tcase_add_test(cases, a_stopped_broker_goes_on_where_it_was);
    tcase_add_test(cases, a_deleted_or_replaced_directory_stops_the_broker_within_seconds);
    tcase_add_test(cases, a_lost_LOCK_file_changes_nothing);
    tcase_add_test(cases, a_failed_write_stops_the_broker_and_acknowledges_nothing);
    tcase_add_test(cases, a_bus_error_is_poison);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
