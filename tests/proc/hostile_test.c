/* hostile_test.c - F27: clients that write anything into their own sessions while others work. The others' answers stay
 * right and none of their calls fails; the broker lives, and ends the sessions of those whom it catches.
 *
 * Each hostile process attaches by hand and writes, from a second thread, into the mapping that the broker reads at the same
 * time; its first thread sends requests that would be right. Rounds differ in where the bytes go.
 */
#include <check.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "support/broker.h"
#include "support/client.h"
#include "support/load.h"
#include "support/raw_client.h"

enum target {
    EVERYTHING,
    LANES,
    RING,        /* requests, not yet published and published */
    TAIL,        /* jumps forward and back */
    ARENA,       /* operations while they are copied in */
    COMPLETIONS, /* the broker's own words: answers, head, asleep, grants, marks */
    HINTS,       /* of all frames, shared by everybody */
    IDENTITY,
    TARGETS
};
static const char *const names[] = {"everything", "lanes", "ring",  "tail",
                                    "arena",      "head",  "hints", "identity"};

struct hostile {
    const char *path;
    enum target target;
    uint64_t seed;
};

struct mutator {
    struct raw_client *client;
    struct random random;
    enum target target;
    AO_t stop;
};

/* A range of the client's writable memory. */
static uint8_t *
target_range(const struct mutator *mutator, uint64_t *size)
{
    struct mshm_session *session = mutator->client->session;

    switch (mutator->target) {
    case LANES:
        *size = sizeof session->lanes;
        return (uint8_t *)session->lanes;
    case RING:
        *size = sizeof session->ring;
        return (uint8_t *)session->ring;
    case TAIL:
        *size = 2 * sizeof(AO_t);
        return (uint8_t *)&session->tail;
    case ARENA:
        *size = 65536;
        return (uint8_t *)session + MSHM_SESSION_ARENA;
    case COMPLETIONS:
        *size = offsetof(struct mshm_session, lanes);
        return (uint8_t *)session;
    case HINTS:
        *size = mutator->client->hints.size;
        return mutator->client->hints.base;
    case IDENTITY:
        *size = 64;
        return (uint8_t *)session;
    default:
        *size = MSHM_SESSION_ARENA + 65536;
        return (uint8_t *)session;
    }
}

/* Words of every kind: random ones, small ones, large ones, neighbours of what is there. */
static AO_t
evil_word(struct random *random, AO_t there)
{
    switch (random_below(random, 6)) {
    case 0:
        return random_next(random);
    case 1:
        return random_below(random, 200);
    case 2:
        return UINT64_MAX - random_below(random, 200);
    case 3:
        return there + random_below(random, 5) - 2;
    case 4:
        return there ^ UINT64_C(1) << random_below(random, 64);
    default:
        return UINT64_C(1) << random_below(random, 64);
    }
}

static void *
mutate(void *argument)
{
    struct mutator *mutator = argument;
    uint64_t size;
    uint8_t *range = target_range(mutator, &size);

    while (!AO_load_acquire(&mutator->stop)) {
        AO_t *word = (AO_t *)(void *)(range + random_below(&mutator->random, size / 8) * 8);
        AO_store(word, evil_word(&mutator->random, AO_load(word)));
        /* Gently with the one word that decides at once, so that the others are reached as well. */
        if (mutator->target == TAIL || mutator->target == IDENTITY)
            process_pause();
    }
    return NULL;
}

/* Requests that would be right if nobody touched them, transactions and one-call forms in turn. */
static void
send_requests(struct raw_client *client, struct mshm_tree_ref tree, struct random *random)
{
    static const char key[] = "hostile";
    uint64_t offset = random_below(random, 64) * 64;
    struct mshm_lane *lane = &client->session->lanes[0];
    int wake, commit = random_chance(random, 50);
    uint8_t *arena = (uint8_t *)client->session + MSHM_SESSION_ARENA;
    uint64_t size = mshm_op_write(arena + offset, tree.bucket, MSHM_OP_PUT, key,
                                  (uint16_t)strlen(key), "value", 5);

    AO_store_release(&client->session->lanes_high, 1 + (AO_t)random_below(random, 200));
    mshm_timestamp snapshot = AO_load_acquire(&client->view.store->visible);
    AO_store_full(&lane->snapshot, snapshot);
    mshm_producer_publish(&client->producer, commit ? MSHM_REQUEST_COMMIT : MSHM_REQUEST_ONE_CALL,
                          0, 1, 0, commit ? snapshot : 0, offset, size, 1, &wake);
    raw_client_ring_bell(client);
    if (random_chance(random, 20))
        AO_store_release(&lane->snapshot, 0);
}

/* One session, until the broker ends it or it has had its time. */
static void
attack(const struct hostile *hostile, struct random *random, int *ended)
{
    struct raw_client client;
    struct mutator mutator = {&client, {random_next(random)}, hostile->target, 0};
    pthread_t thread;

    raw_client_open(&client, hostile->path);
    struct mshm_tree_ref tree = raw_client_tree(&client, "hostile");
    require(pthread_create(&thread, NULL, mutate, &mutator) == 0, "thread");
    for (int i = 0; i < 400 && !raw_client_ended(&client); i++) {
        send_requests(&client, tree, random);
        if (i % 20 == 19)
            process_pause();
    }
    *ended += raw_client_ended(&client);
    AO_store_release(&mutator.stop, 1);
    pthread_join(thread, NULL);
    raw_client_close(&client);
}

static void
hostile_run(int channel, void *argument)
{
    const struct hostile *hostile = argument;
    struct random random;
    uint64_t sessions = 0;
    int ended = 0;

    random_init(&random, hostile->seed);
    for (uint64_t left = random_scaled(40); left > 0; left--) {
        attack(hostile, &random, &ended);
        sessions++;
    }
    channel_tell(channel, sessions << 32 | (unsigned)ended);
}

/* What an honest client does meanwhile: every answer is checked, and no status but OK is right. */
static uint64_t
work(mace *db, mace_bucket *bucket, struct load_board *board, unsigned slot)
{
    uint64_t before = process_time_ns();
    int status = load_commit(db, bucket, board, slot, slot % 2 ? MACE_OS : MACE_SYNC);

    ck_assert_msg(status == MACE_OK, "an honest commit: %s", mace_strerror(status));
    return process_time_ns() - before;
}

static void
round_run(const char *path, enum target target, uint64_t seed, struct load_board *board, mace *db,
          mace_bucket *bucket)
{
    struct hostile hostile[2] = {{path, target, seed}, {path, target, seed ^ 1}};
    struct worker attackers[2], honest;
    struct load_worker part = {.board = board,
                               .path = path,
                               .bucket = "honest",
                               .first_slot = 4,
                               .slots = 3,
                               .pause_us = 100,
                               .seed = seed};
    uint64_t slowest = 0, told = 0;
    AO_t losses = AO_load(&board->losses);

    for (int i = 0; i < 2; i++)
        worker_start(&attackers[i], hostile_run, &hostile[i]);
    worker_start(&honest, load_worker_run, &part);
    for (int i = 0;
         process_state(attackers[0].pid) != 'Z' || process_state(attackers[1].pid) != 'Z'; i++) {
        uint64_t took = work(db, bucket, board, (unsigned)i % 4);
        slowest = took > slowest ? took : slowest;
        if (i % 16 == 0)
            load_check_all(db, bucket, board);
    }
    AO_store_release(&board->stop, 1);
    worker_join(&honest);
    AO_store_release(&board->stop, 0);
    for (int i = 0; i < 2; i++) {
        uint64_t word;
        ck_assert(channel_hear(attackers[i].channel, &word));
        told += word;
        worker_join(&attackers[i]);
    }
    printf(
        "hostile: %-11s %llu sessions, %llu ended by the broker; slowest honest commit %.1f ms\n",
        names[target], (unsigned long long)(told >> 32), (unsigned long long)(told & 0xffffffff),
        (double)slowest / 1e6);
    ck_assert_uint_eq(AO_load(&board->losses), losses);
    load_check_all(db, bucket, board);
}

START_TEST(f27_random_bytes_in_a_session_harm_nobody_else)
{
    struct broker_options options = {.arguments = {"--cache", "32M"}};
    struct load_board *board = load_board_create();
    struct broker broker;
    char scratch[SCRATCH_PATH], path[SCRATCH_PATH];
    uint64_t seed = random_seed("hostile");

    scratch_create(scratch);
    scratch_join(path, scratch, "db");
    broker_start(&broker, path, &options);
    mace *db = client_open(path);
    mace_bucket_close(client_bucket(db, "hostile"));
    mace_bucket *bucket = client_bucket(db, "honest");
    pid_t pid = (pid_t)client_stat(db).broker_pid;
    for (enum target target = EVERYTHING; target < TARGETS; target++)
        round_run(path, target, seed + target * 2, board, db, bucket);

    /* The broker is the one that it was, has nothing left of the attackers, and found some of them out. */
    ck_assert_int_eq((pid_t)client_stat(db).broker_pid, pid);
    wait_for(client_stat(db).sessions == 1);
    ck_assert_uint_gt(client_stat(db).sessions_ended_invalid, 0);
    mace_close(db);
    /* And what it wrote down is whole. */
    broker_kill(&broker);
    broker_start(&broker, path, &options);
    db = client_open(path);
    bucket = client_bucket(db, "honest");
    load_check_all(db, bucket, board);
    mace_close(db);
    broker_finish(&broker);
    load_board_destroy(board);
    scratch_remove(scratch);
}
END_TEST

int
main(void)
{
    Suite *suite = suite_create("hostile");
    TCase *cases = tcase_create("sessions");
    SRunner *runner;

    tcase_set_timeout(cases, 0);
    tcase_add_test(cases, f27_random_bytes_in_a_session_harm_nobody_else);
    suite_add_tcase(suite, cases);
    runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
