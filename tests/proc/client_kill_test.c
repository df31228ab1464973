/* client_kill_test.c - SIGKILL of a client at every step of a request, taken by hand.
 *
 * Before the ring's tail is published nothing has happened; from then on the request is carried out as if its client lived.
 * In both cases the broker takes everything back that the client had, and nobody else notices.
 */
#include <check.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "support/broker.h"
#include "support/client.h"
#include "support/process.h"
#include "support/raw_client.h"

enum step {
    ATTACHED,  /* a session, and nothing in it */
    SNAPSHOT,  /* registered in a lane */
    BRACKET,   /* open */
    ARENA,     /* operations written */
    PLACE,     /* the request written, its tail not published */
    PUBLISHED, /* the broker perhaps asleep, and not woken */
    WOKEN,     /* the doorbell rung */
    WAITING,   /* asleep on the answer */
    ANSWERED,  /* the answer is there and was not taken */
    STEPS
};
static const char *const names[] = {"attached",  "snapshot", "bracket", "arena",   "place",
                                    "published", "woken",    "waiting", "answered"};

struct victim {
    const char *path;
    enum step step;
    unsigned kind;  /* of the request */
    unsigned level; /* MSHM_REQUEST_LEVEL_SYNC or 0 */
};

static char scratch[SCRATCH_PATH], path[SCRATCH_PATH];
static struct broker broker;
static mace *db;
static mace_bucket *bucket;

static void
setup(void)
{
    struct broker_options options = {.arguments = {"--cache", "16M"}};

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
reached(int channel, const struct victim *victim, enum step step)
{
    if (victim->step != step)
        return;
    channel_tell(channel, step);
    for (;;)
        pause();
}

static void
wait_for_answer(struct raw_client *client, uint64_t sequence)
{
    int status;
    mshm_timestamp timestamp;

    wait_for(mshm_completion_take(client->session, sequence, &status, &timestamp));
    require_ok(status);
}

static void
victim_run(int channel, void *argument)
{
    const struct victim *victim = argument;
    struct raw_client client;
    uint64_t offset, size;
    mshm_timestamp snapshot = 0;
    int wake;

    raw_client_open(&client, victim->path);
    struct mshm_tree_ref tree = raw_client_tree(&client, "default");
    struct mshm_lane *lane = &client.session->lanes[0];
    AO_store_release(&client.session->lanes_high, 1);
    reached(channel, victim, ATTACHED);
    if (victim->kind == MSHM_REQUEST_COMMIT)
        snapshot = mshm_snapshot_register(client.view.store, lane);
    reached(channel, victim, SNAPSHOT);
    mshm_bracket_open(client.view.store, lane);
    reached(channel, victim, BRACKET);
    AO_store_release(&lane->epoch, 0);
    size = raw_client_arena_put(&client, tree.bucket, MSHM_OP_PUT, "victim", names[victim->step],
                                &offset);
    reached(channel, victim, ARENA);
    raw_client_place(&client, victim->kind, victim->level, 0, snapshot, offset, size);
    reached(channel, victim, PLACE);
    uint64_t sequence = mshm_producer_publish(&client.producer, victim->kind, victim->level, 1, 0,
                                              snapshot, offset, size, 1, &wake);
    reached(channel, victim, PUBLISHED);
    raw_client_ring_bell(&client);
    reached(channel, victim, WOKEN);
    if (victim->step == WAITING) {
        AO_int_store_full(&client.session->waiting[mshm_ring_place(sequence)], 1);
        reached(channel, victim, WAITING);
    }
    wait_for_answer(&client, sequence);
    reached(channel, victim, ANSWERED);
}

/* The broker has nothing of the dead client any more. */
static int
is_clean(uint64_t dead)
{
    mace_stat stat = client_stat(db);

    return stat.sessions == 1 && stat.sessions_ended_dead == dead;
}

static void
kill_at(enum step step, unsigned kind, unsigned level)
{
    struct victim victim = {path, step, kind, level};
    struct worker worker;
    mace_txn *txn;
    mace_slice value;
    uint64_t dead = client_stat(db).sessions_ended_dead;

    /* Long enough for the broker to sleep on the victim's session when the request is published: see PUBLISHED. */
    ck_assert_int_eq(client_put(db, bucket, "victim", "nothing"), MACE_OK);
    worker_start(&worker, victim_run, &victim);
    channel_expect(worker.channel, step);
    ck_assert_int_eq(client_put(db, bucket, "other", names[step]), MACE_OK);
    int status = worker_kill(&worker);
    ck_assert(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
    wait_for(is_clean(dead + 1));

    ck_assert_int_eq(mace_begin(db, MACE_RDONLY, &txn), MACE_OK);
    ck_assert_int_eq(mace_get(txn, bucket, "victim", 6, &value), MACE_OK);
    const char *wanted = step >= PUBLISHED ? names[step] : "nothing";
    ck_assert_msg(value.size == strlen(wanted) && memcmp(value.data, wanted, value.size) == 0,
                  "killed at '%s': the value is '%.*s'", names[step], (int)value.size,
                  (const char *)value.data);
    mace_abort(txn);
    ck_assert(client_has(db, bucket, "other", names[step]));
}

START_TEST(a_one_call_request_is_carried_out_once_it_is_published)
{
    for (enum step step = ATTACHED; step < STEPS; step++)
        kill_at(step, MSHM_REQUEST_ONE_CALL, 0);
}
END_TEST

START_TEST(a_transaction_is_carried_out_once_it_is_published)
{
    for (enum step step = ATTACHED; step < STEPS; step++) {
        kill_at(step, MSHM_REQUEST_COMMIT, 0);
        kill_at(step, MSHM_REQUEST_COMMIT, MSHM_REQUEST_LEVEL_SYNC);
    }
}
END_TEST

/* Publishes many requests at once and is killed: all of them are carried out, in their order. */
static void
burst_run(int channel, void *argument)
{
    struct raw_client client;
    int wake;

    (void)argument;
    raw_client_open(&client, path);
    struct mshm_tree_ref tree = raw_client_tree(&client, "default");
    for (int i = 0; i < 500; i++) {
        char value[16];
        uint64_t offset;
        snprintf(value, sizeof value, "%d", i);
        uint64_t size =
            raw_client_arena_put(&client, tree.bucket, MSHM_OP_PUT, "burst", value, &offset);
        mshm_producer_publish(&client.producer, MSHM_REQUEST_ONE_CALL, 0, 1, 0, 0, offset, size, 1,
                              &wake);
    }
    channel_tell(channel, 500);
    for (;;)
        pause();
}

START_TEST(all_complete_requests_of_a_dead_client_are_carried_out)
{
    struct worker worker;
    uint64_t before = client_newest(db);
    uint64_t dead = client_stat(db).sessions_ended_dead;

    worker_start(&worker, burst_run, NULL);
    channel_expect(worker.channel, 500);
    worker_kill(&worker);
    wait_for(is_clean(dead + 1));
    ck_assert(client_has(db, bucket, "burst", "499"));
    ck_assert_uint_eq(client_newest(db), before + 500);
}
END_TEST

/* A dead client's snapshot does not keep old versions: they go once it is gone. */
static void
holder_run(int channel, void *argument)
{
    mace *mine = client_open(path);
    mace_txn *txn;

    (void)argument;
    require_ok(mace_begin(mine, MACE_RDONLY, &txn));
    channel_tell(channel, mace_txn_snapshot(txn));
    for (;;)
        pause();
}

static int
history_is_empty(void)
{
    /* A leaf gives its history up when it is rebuilt. */
    for (int i = 0; i < 20; i++)
        require_ok(client_put(db, bucket, "versions", "new"));
    return client_stat(db).history_bytes == 0;
}

START_TEST(the_versions_that_only_a_dead_client_needed_are_freed)
{
    struct worker worker;
    char value[1000];
    uint64_t snapshot;

    memset(value, 'v', sizeof value);
    for (int i = 0; i < 8; i++) {
        char key[16];
        snprintf(key, sizeof key, "wide%d", i);
        ck_assert_int_eq(mace_put1(db, bucket, key, strlen(key), value, sizeof value), MACE_OK);
    }
    worker_start(&worker, holder_run, NULL);
    ck_assert(channel_hear(worker.channel, &snapshot));
    for (int i = 0; i < 400; i++) {
        char key[16];
        snprintf(key, sizeof key, "wide%d", i % 8);
        ck_assert_int_eq(mace_put1(db, bucket, key, strlen(key), value, sizeof value), MACE_OK);
    }
    uint64_t held = client_stat(db).cache_used;
    worker_kill(&worker);
    wait_for(client_stat(db).sessions == 1);
    wait_for(history_is_empty());
    /* Leaves are laid out anew meanwhile, so that one of them may be in the next larger frame. */
    wait_for(client_stat(db).cache_retired == 0);
    wait_for(client_stat(db).cache_used <= held + 8192);
}
END_TEST

int
main(void)
{
    Suite *suite = suite_create("client killed");
    TCase *cases = tcase_create("steps of a request");
    SRunner *runner;

    tcase_set_timeout(cases, 0);
    tcase_add_checked_fixture(cases, setup, teardown);
    tcase_add_test(cases, a_one_call_request_is_carried_out_once_it_is_published);
    tcase_add_test(cases, a_transaction_is_carried_out_once_it_is_published);
    tcase_add_test(cases, all_complete_requests_of_a_dead_client_are_carried_out);
    tcase_add_test(cases, the_versions_that_only_a_dead_client_needed_are_freed);
    suite_add_tcase(suite, cases);
    runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
