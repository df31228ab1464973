/* stopped_client_test.c - SIGSTOP of a client inside a read bracket and inside a publish: others go on, memory comes back,
 * and what the client does when it goes on is right.
 */
#include <check.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "mshm/leaf.h"
#include "support/broker.h"
#include "support/client.h"
#include "support/process.h"
#include "support/raw_client.h"

static char scratch[SCRATCH_PATH], path[SCRATCH_PATH];
static struct broker broker;
static mace *db;
static mace_bucket *bucket;

static void
setup(void)
{
    struct broker_options options = {.arguments = {"--cache", "2M"}};

    scratch_create(scratch);
    scratch_join(path, scratch, "db");
    broker_start(&broker, path, &options);
    db = client_open(path);
    bucket = client_bucket(db, "default");
}

static void
teardown(void)
{
    mace_close(db);
    broker_finish(&broker);
    scratch_remove(scratch);
}

static void
stop_myself(void)
{
    raise(SIGSTOP);
}

/* Waits until a worker has stopped itself. */
static void
wait_stopped(const struct worker *worker)
{
    int status;

    ck_assert_int_eq(waitpid(worker->pid, &status, WUNTRACED), worker->pid);
    ck_assert_msg(WIFSTOPPED(status), "it ended with %x", (unsigned)status);
}

enum { FRESH = 0, REVOKED = 1, WRONG = 2 };

/* One get with the parts of the real one, stopped between finding the page and reading it. Tells whether the bracket was
 * revoked, and then what the get finds that runs again. */
static void
reader_run(int channel, void *argument)
{
    struct raw_client client;
    struct mshm_version version;
    const uint8_t *frame;
    uint32_t size;
    mshm_pid leaf, missing;
    static const char key[] = "steady";
    char value[64];
    uint64_t value_size = 0, hash = mshm_key_hash(key, strlen(key));

    (void)argument;
    raw_client_open(&client, path);
    struct mshm_tree_ref tree = raw_client_tree(&client, "default");
    struct mshm_lane *lane = &client.session->lanes[0];
    AO_store_release(&client.session->lanes_high, 1);
    mshm_timestamp snapshot = mshm_snapshot_register(client.view.store, lane);
    AO_t epoch = mshm_bracket_open(client.view.store, lane);
    require_ok(
        mshm_descend(&client.view, tree, tree.root, key, strlen(key), 0, &frame, &size, &leaf));
    stop_myself();
    int found = mshm_leaf_get(frame, size, key, strlen(key), hash, snapshot, NULL, &version, NULL);
    int right = found == MSHM_FOUND_VERSION && version.value_size == 5 &&
                memcmp(version.value, "value", 5) == 0;
    int revoked = mshm_bracket_close(client.view.store, lane, epoch);
    channel_tell(channel, revoked ? REVOKED : right ? FRESH : WRONG);
    require_ok(mshm_get(&client.view, lane, &client.session->expired[0], tree, key, strlen(key),
                        snapshot, value, sizeof value, &value_size, NULL, &missing));
    require(value_size == 5 && memcmp(value, "value", 5) == 0, "the value is '%.*s'",
            (int)value_size, value);
    raw_client_close(&client);
}

/* Rewrites the leaf's neighbourhood so often that its frame is reused many times over. */
static void
churn(unsigned rounds)
{
    char value[700];

    memset(value, 'c', sizeof value);
    for (unsigned i = 0; i < rounds; i++) {
        char key[16];
        snprintf(key, sizeof key, "churn%02u", i % 16);
        int status = mace_put1(db, bucket, key, strlen(key), value, sizeof value);
        ck_assert_msg(status == MACE_OK, "commit %u: %s", i, mace_strerror(status));
    }
}

START_TEST(a_bracket_that_stays_open_is_revoked_and_its_read_runs_again)
{
    struct worker worker;
    uint64_t outcome;

    ck_assert_int_eq(client_put(db, bucket, "steady", "value"), MACE_OK);
    worker_start(&worker, reader_run, NULL);
    wait_stopped(&worker);
    /* No commit fails, although the cache is small and nothing is freed until the bracket is overruled. */
    while (client_stat(db).revocations == 0)
        churn(200);
    churn(3000);
    worker_continue(&worker);
    ck_assert(channel_hear(worker.channel, &outcome));
    ck_assert_uint_eq(outcome, REVOKED);
    worker_join(&worker);
}
END_TEST

START_TEST(a_bracket_that_nobody_revokes_reads_right_however_long_it_stood)
{
    struct worker worker;
    uint64_t outcome;

    ck_assert_int_eq(client_put(db, bucket, "steady", "value"), MACE_OK);
    worker_start(&worker, reader_run, NULL);
    wait_stopped(&worker);
    churn(60);
    ck_assert_uint_eq(client_stat(db).revocations, 0);
    worker_continue(&worker);
    ck_assert(channel_hear(worker.channel, &outcome));
    ck_assert_uint_eq(outcome, FRESH);
    worker_join(&worker);
}
END_TEST

/* Stopped with the request in its place and the tail not yet published; then it goes on. */
static void
publisher_run(int channel, void *argument)
{
    struct raw_client client;
    uint64_t offset;
    int wake, status;
    mshm_timestamp timestamp;

    (void)argument;
    raw_client_open(&client, path);
    struct mshm_tree_ref tree = raw_client_tree(&client, "default");
    uint64_t size =
        raw_client_arena_put(&client, tree.bucket, MSHM_OP_PUT, "stopped", "in a publish", &offset);
    raw_client_place(&client, MSHM_REQUEST_ONE_CALL, 0, 0, 0, offset, size);
    stop_myself();
    uint64_t sequence = mshm_producer_publish(&client.producer, MSHM_REQUEST_ONE_CALL, 0, 1, 0, 0,
                                              offset, size, 1, &wake);
    if (wake)
        raw_client_ring_bell(&client);
    wait_for(mshm_completion_take(client.session, sequence, &status, &timestamp));
    require_ok(status);
    channel_tell(channel, timestamp);
    raw_client_close(&client);
}

START_TEST(f03_a_client_stopped_in_a_publish_holds_nobody_up)
{
    struct worker worker;
    uint64_t timestamp;

    worker_start(&worker, publisher_run, NULL);
    wait_stopped(&worker);
    churn(2000);
    ck_assert(client_absent(db, bucket, "stopped"));
    uint64_t before = client_newest(db);
    worker_continue(&worker);
    ck_assert(channel_hear(worker.channel, &timestamp));
    ck_assert_uint_eq(timestamp, before + 1);
    ck_assert(client_has(db, bucket, "stopped", "in a publish"));
    worker_join(&worker);
}
END_TEST

/* Real clients, stopped anywhere: in reads, in commits, in waits. */
static void
busy_run(int channel, void *argument)
{
    mace *mine = client_open(path);
    mace_bucket *own = client_bucket(mine, "default");
    uint64_t number = (uint64_t)(uintptr_t)argument;

    for (uint64_t i = 1;; i++) {
        char key[32], value[32], found[32];
        size_t size = 0;
        snprintf(key, sizeof key, "busy%llu", (unsigned long long)number);
        snprintf(value, sizeof value, "%llu", (unsigned long long)i);
        require_ok(client_put(mine, own, key, value));
        require_ok(mace_get1(mine, own, key, strlen(key), found, sizeof found, &size));
        require(size == strlen(value) && memcmp(found, value, size) == 0, "wrote %s, read %.*s",
                value, (int)size, found);
        if (i % 100 == 0)
            channel_tell(channel, i);
    }
}

START_TEST(clients_stopped_anywhere_hold_nobody_up_and_go_on)
{
    enum { BUSY = 2, ROUNDS = 40 };
    struct worker workers[BUSY];
    uint64_t word;

    for (int i = 0; i < BUSY; i++)
        worker_start(&workers[i], busy_run, (void *)(uintptr_t)i);
    for (int round = 0; round < ROUNDS; round++) {
        struct worker *worker = &workers[round % BUSY];
        ck_assert(channel_hear(worker->channel, &word));
        worker_stop(worker);
        churn(50);
        worker_continue(worker);
    }
    for (int i = 0; i < BUSY; i++) {
        /* It still does what it did: a failure inside would have ended it. */
        ck_assert(channel_hear(workers[i].channel, &word));
        worker_kill(&workers[i]);
    }
}
END_TEST

int
main(void)
{
    Suite *suite = suite_create("client stopped");
    TCase *cases = tcase_create("anywhere");
    SRunner *runner;

    tcase_set_timeout(cases, 0);
    tcase_add_checked_fixture(cases, setup, teardown);
    tcase_add_test(cases, a_bracket_that_stays_open_is_revoked_and_its_read_runs_again);
    tcase_add_test(cases, a_bracket_that_nobody_revokes_reads_right_however_long_it_stood);
    tcase_add_test(cases, f03_a_client_stopped_in_a_publish_holds_nobody_up);
    tcase_add_test(cases, clients_stopped_anywhere_hold_nobody_up_and_go_on);
    suite_add_tcase(suite, cases);
    runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
