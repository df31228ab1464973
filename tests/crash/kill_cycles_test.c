/* kill_cycles_test.c - two hundred times a client or the broker dies under continuous load. Afterwards every acknowledged
 * commit of both levels is there, the database is exactly a prefix of the commits, and nothing has leaked: no frame, lane,
 * session or descriptor. Nobody starts a broker but the clients themselves, when they find the last one dead.
 */
#include <check.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>

#include "support/client.h"
#include "support/load.h"
#include "support/scratch.h"

enum { WORKERS = 4, WORKER_SLOTS = 3, CYCLES = 200, LAST_CYCLES = 40 };

struct cycles {
    char directory[SCRATCH_PATH], path[SCRATCH_PATH], program[SCRATCH_PATH];
    mace *db; /* the driver's */
    struct load_board *board;
    struct load_worker parts[WORKERS];
    struct worker workers[WORKERS];
    struct random random;
    uint64_t base, clients_killed, brokers_killed;
    int descriptors;
};

/* A log with a small segment for each of so many incarnations, and a log of events for whom the test fails: clients cannot
 * ask for these. */
static const char program[] = "#!/bin/sh\n"
                              "exec \"$MACE_BROKER\" \"$@\" --segment-size 1M --log \"$1.log\"\n";

static mace *
open_starting(const struct cycles *cycles, const char *path)
{
    mace_options options;
    mace *db;

    mace_options_init(&options);
    options.broker_path = cycles->program;
    options.durability = MACE_OS;
    options.cache_size = UINT64_C(64) << 20;
    options.idle_exit_ms = 3000;
    options.connect_timeout_ms = 60000;
    ck_assert_int_eq(mace_open(path, &options, &db), MACE_OK);
    return db;
}

static void
cycles_create(struct cycles *cycles)
{
    uint64_t seed = random_seed("kill cycles");

    *cycles = (struct cycles){.board = load_board_create()};
    random_init(&cycles->random, seed);
    scratch_create(cycles->directory);
    scratch_join(cycles->path, cycles->directory, "db");
    printf("kill cycles: the brokers' log of events is %s.log\n", cycles->path);
    scratch_join(cycles->program, cycles->directory, "program");
    scratch_script(cycles->program, program);
    cycles->db = open_starting(cycles, cycles->path);
    mace_bucket *bucket;
    ck_assert_int_eq(mace_bucket_create(cycles->db, "load", NULL, &bucket), MACE_OK);
    mace_bucket_close(bucket);
    cycles->base = client_newest(cycles->db);
    for (unsigned i = 0; i < WORKERS; i++)
        cycles->parts[i] = (struct load_worker){.board = cycles->board,
                                                .path = cycles->path,
                                                .broker_path = cycles->program,
                                                .bucket = "load",
                                                .first_slot = i * WORKER_SLOTS,
                                                .slots = WORKER_SLOTS,
                                                .pause_us = 100,
                                                .seed = seed + i};
}

static void
worker_begin(struct cycles *cycles, unsigned index)
{
    struct load_worker *part = &cycles->parts[index];

    part->seed += WORKERS;
    worker_start(&cycles->workers[index], load_worker_run, part);
}

static void
progress(struct cycles *cycles, uint64_t count)
{
    uint64_t before = load_commits(cycles->board);

    wait_for(load_commits(cycles->board) >= before + count);
}

static void
client_dies(struct cycles *cycles)
{
    unsigned index = (unsigned)random_below(&cycles->random, WORKERS);
    int status = worker_kill(&cycles->workers[index]);

    ck_assert_msg(WIFSIGNALED(status), "worker %u had ended with %x", index, (unsigned)status);
    load_writer_died(cycles->board, cycles->parts[index].first_slot, WORKER_SLOTS);
    worker_begin(cycles, index);
    cycles->clients_killed++;
}

/* The broker is nobody's child; its number comes from its own figures. */
static void
broker_dies(struct cycles *cycles)
{
    mace_stat stat = client_stat(cycles->db);

    ck_assert_int_eq(kill((pid_t)stat.broker_pid, SIGKILL), 0);
    cycles->brokers_killed++;
    wait_for(client_stat(cycles->db).incarnation != stat.incarnation);
}

/* No load is left: what is there is what was committed, all of it and nothing else. */
static void
check_everything(struct cycles *cycles)
{
    mace_bucket *bucket = client_bucket(cycles->db, "load");
    uint64_t found = load_check_all(cycles->db, bucket, cycles->board);

    ck_assert_uint_eq(client_newest(cycles->db), cycles->base + found);
    mace_bucket_close(bucket);
}

static uint64_t
frames_without_load(mace *db)
{
    mace_stat stat;

    wait_for((stat = client_stat(db), stat.cache_retired == 0 && stat.history_bytes == 0));
    return stat.cache_used;
}

/* An incarnation of an empty database, before anybody has come. */
static mace_stat
empty_stat(struct cycles *cycles)
{
    char path[SCRATCH_PATH];

    scratch_join(path, cycles->directory, "empty");
    mace *db = open_starting(cycles, path);
    frames_without_load(db);
    mace_stat stat = client_stat(db);
    kill((pid_t)stat.broker_pid, SIGTERM);
    mace_close(db);
    return stat;
}

START_TEST(two_hundred_deaths_under_load_lose_and_leak_nothing)
{
    struct cycles cycles;
    uint64_t left = random_scaled(CYCLES);

    cycles_create(&cycles);
    for (unsigned i = 0; i < WORKERS; i++)
        worker_begin(&cycles, i);
    for (; left > LAST_CYCLES; left--) {
        progress(&cycles, 5 + random_below(&cycles.random, 60));
        if (random_chance(&cycles.random, 50))
            client_dies(&cycles);
        else
            broker_dies(&cycles);
    }
    /* The last incarnation sees clients die only, and has to be as it was in the beginning. */
    AO_store_release(&cycles.board->stop, 1);
    for (unsigned i = 0; i < WORKERS; i++)
        worker_join(&cycles.workers[i]);
    AO_store_release(&cycles.board->stop, 0);
    check_everything(&cycles);
    broker_dies(&cycles);
    mace *db = cycles.db;
    pid_t broker = (pid_t)client_stat(db).broker_pid;
    cycles.descriptors = process_descriptors(broker);
    uint64_t dead = client_stat(db).sessions_ended_dead;
    for (unsigned i = 0; i < WORKERS; i++)
        worker_begin(&cycles, i);
    for (; left > 0; left--) {
        progress(&cycles, 5 + random_below(&cycles.random, 60));
        client_dies(&cycles);
    }
    AO_store_release(&cycles.board->stop, 1);
    for (unsigned i = 0; i < WORKERS; i++)
        worker_join(&cycles.workers[i]);
    check_everything(&cycles);
    printf(
        "kill cycles: %llu clients and %llu brokers killed, %llu commits, %llu transactions lost "
        "their broker, %llu unknown outcomes\n",
        (unsigned long long)cycles.clients_killed, (unsigned long long)cycles.brokers_killed,
        (unsigned long long)load_commits(cycles.board),
        (unsigned long long)AO_load(&cycles.board->losses),
        (unsigned long long)AO_load(&cycles.board->unknowns));
    ck_assert(AO_load(&cycles.board->losses) > 0);
    /* Nearly every commit that went unanswered is looked up at the next broker. */
    ck_assert_uint_le(AO_load(&cycles.board->unknowns), cycles.brokers_killed / 10);

    wait_for(client_stat(db).sessions == 1);
    /* One that is killed before it has attached was never a session. */
    ck_assert_uint_gt(client_stat(db).sessions_ended_dead, dead);
    ck_assert_uint_le(client_stat(db).sessions_ended_dead, dead + LAST_CYCLES);
    ck_assert_uint_eq(client_stat(db).sessions_ended_invalid, 0);
    wait_for(client_stat(db).snapshots == 0);
    if (cycles.descriptors >= 0)
        wait_for(process_descriptors(broker) <= cycles.descriptors);
    ck_assert_int_eq(mace_bucket_drop(db, "load"), MACE_OK);
    ck_assert_int_eq(mace_checkpoint(db), MACE_OK); /* what was written blind is let go */
    mace_stat empty = empty_stat(&cycles);
    wait_for(client_stat(db).cache_used <= empty.cache_used);
    ck_assert_uint_le(frames_without_load(db), empty.cache_used);
    mace_stat dropped = client_stat(db);
    printf("after the drop: %llu leaves, %llu inner pages\n",
           (unsigned long long)dropped.pages_leaf, (unsigned long long)dropped.pages_inner);
    wait_for(client_stat(db).pages_leaf <= empty.pages_leaf);
    ck_assert_uint_eq(client_stat(db).pages_leaf, empty.pages_leaf);
    ck_assert_uint_eq(client_stat(db).pages_inner, empty.pages_inner);
    ck_assert_uint_eq(client_stat(db).pages_history, 0);
    ck_assert_uint_eq(client_stat(db).broker_pid, (uint64_t)broker);
    kill(broker, SIGTERM);
    mace_close(db);
    load_board_destroy(cycles.board);
    scratch_remove(cycles.directory);
}
END_TEST

int
main(void)
{
    Suite *suite = suite_create("kill cycles");
    TCase *cases = tcase_create("load");
    SRunner *runner;

    tcase_set_timeout(cases, 0);
    tcase_add_test(cases, two_hundred_deaths_under_load_lose_and_leak_nothing);
    suite_add_tcase(suite, cases);
    runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
