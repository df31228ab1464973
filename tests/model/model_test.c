/* model_test.c - random histories of transactions over several processes, judged by an oracle. */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "model/model.h"
#include "support/broker.h"
#include "support/client.h"
#include "support/process.h"

enum { MODEL_OPERATIONS = 600000 }; /* of each process */

/* Runs a history on a new database and leaves its broker running. */
static void
history_record(struct model_history *history, struct broker *broker, const char *directory,
               uint64_t operations, const char *const *arguments, uint32_t page_size)
{
    char path[SCRATCH_PATH], logs[MODEL_PROCESSES][SCRATCH_PATH];
    struct broker_options options = {.arguments = {"--cache", "128M"}};
    struct model_worker parts[MODEL_PROCESSES];
    struct worker workers[MODEL_PROCESSES];
    uint64_t seed = random_seed("model");
    struct model_shared *shared =
        mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

    require(shared != MAP_FAILED, "mmap");
    model_keys_init();
    for (unsigned i = 0; arguments[i] != NULL; i++)
        options.arguments[2 + i] = arguments[i];
    scratch_join(path, directory, "db");
    broker_start(broker, path, &options);
    mace *db = client_open(path);
    mace_bucket_options bucket_options;
    mace_bucket_options_init(&bucket_options);
    bucket_options.page_size = page_size;
    bucket_options.inline_limit = MODEL_VALUE_MAX;
    for (unsigned i = 0; i < MODEL_BUCKETS; i++) {
        char name[16];
        mace_bucket *bucket;
        snprintf(name, sizeof name, "model%u", i);
        require_ok(mace_bucket_create(db, name, &bucket_options, &bucket));
    }
    history->base = client_newest(db);
    shared->newest = history->base;
    mace_close(db);
    for (unsigned i = 0; i < MODEL_PROCESSES; i++) {
        char name[16];
        snprintf(name, sizeof name, "history%u", i);
        scratch_join(logs[i], directory, name);
        parts[i] = (struct model_worker){path, logs[i], shared, i, seed, operations};
        worker_start(&workers[i], model_worker_run, &parts[i]);
    }
    for (unsigned i = 0; i < MODEL_PROCESSES; i++) {
        worker_join(&workers[i]);
        model_history_load(history, i, logs[i]);
    }
    munmap(shared, sizeof *shared);
}

static void
judge(const char *const *arguments, uint64_t operations, uint32_t page_size)
{
    struct model_history history = {.base = 0};
    struct model_figures figures;
    struct broker broker;
    char directory[SCRATCH_PATH], why[256] = "";

    scratch_create(directory);
    history_record(&history, &broker, directory, operations, arguments, page_size);
    struct model_oracle *oracle = model_oracle_create(&history, &figures, why, sizeof why);
    ck_assert_msg(oracle != NULL, "%s", why);
    printf("model: %llu operations: %llu reads (%llu of own writes), %llu moves, %llu one-call "
           "writes, %llu commits, %llu conflicts\n",
           (unsigned long long)figures.operations, (unsigned long long)figures.reads,
           (unsigned long long)figures.own_reads, (unsigned long long)figures.moves,
           (unsigned long long)figures.one_calls, (unsigned long long)figures.commits,
           (unsigned long long)figures.conflicts);
    ck_assert(figures.operations >= operations * MODEL_PROCESSES);
    ck_assert(figures.own_reads > 0 && figures.one_calls > 0 && figures.conflicts > 0);

    mace *db = client_open(broker.path);
    ck_assert_msg(model_oracle_compare(oracle, db, why, sizeof why) == 0, "%s", why);
    mace_stat stat = client_stat(db);
    printf("model: %llu splits, %llu consolidations, %llu versions pruned\n",
           (unsigned long long)stat.splits, (unsigned long long)stat.consolidations,
           (unsigned long long)stat.versions_pruned);
    ck_assert(stat.consolidations > 0 && stat.splits > 0);
    mace_close(db);

    /* And once more as a broker finds it that knows the log only. */
    broker_kill(&broker);
    broker_start(&broker, broker.path, NULL);
    db = client_open(broker.path);
    ck_assert_msg(model_oracle_compare(oracle, db, why, sizeof why) == 0, "replayed: %s", why);
    mace_close(db);
    broker_finish(&broker);
    model_oracle_free(oracle);
    model_history_free(&history);
    scratch_remove(directory);
}

START_TEST(histories_of_several_processes_are_snapshot_isolated)
{
    static const char *const arguments[] = {NULL};
    judge(arguments, random_scaled(MODEL_OPERATIONS), 4096);
}
END_TEST

START_TEST(histories_are_snapshot_isolated_without_io_uring_and_log_mapping)
{
    static const char *const arguments[] = {"--no-uring", "--no-log-mapping", "--segment-size",
                                            "1M", NULL};
    judge(arguments, random_scaled(MODEL_OPERATIONS) / 6, 8192);
}
END_TEST

/* Alters the n-th event of a kind, from the middle of a history on, that `fits`. */
static struct model_event *
planted(struct model_history *history, enum model_kind kind,
        int (*fits)(const struct model_event *))
{
    for (unsigned process = 0; process < MODEL_PROCESSES; process++)
        for (uint64_t i = history->counts[process] / 2; i < history->counts[process]; i++) {
            struct model_event *event = &history->events[process][i];
            if (event->kind == kind && fits(event))
                return event;
        }
    ck_abort_msg("the history has no such event");
    return NULL;
}

static int
found_a_value(const struct model_event *event)
{
    return event->status == MACE_OK && event->a > MODEL_EMPTY;
}

static int
found_nothing(const struct model_event *event)
{
    return event->status == MACE_NOT_FOUND;
}

static int
wrote_and_committed(const struct model_event *event)
{
    return event->status == MACE_OK && event->a != 0;
}

/* For the commit of another transaction than the one found first. */
static uint64_t first_timestamp;
static int
another_committed(const struct model_event *event)
{
    return wrote_and_committed(event) && event->a != first_timestamp;
}

static int
conflicted(const struct model_event *event)
{
    return event->status == MACE_CONFLICT;
}

static void
expect_judged_wrong(const struct model_history *history, const char *what)
{
    char why[256] = "";
    struct model_oracle *oracle = model_oracle_create(history, NULL, why, sizeof why);

    ck_assert_msg(oracle == NULL, "the oracle accepts %s", what);
    printf("model: %s: %s\n", what, why);
}

START_TEST(the_oracle_finds_planted_errors)
{
    static const char *const arguments[] = {NULL};
    struct model_history history = {.base = 0};
    struct model_event *event, before;
    struct broker broker;
    char directory[SCRATCH_PATH], why[256] = "";

    scratch_create(directory);
    history_record(&history, &broker, directory, 3000, arguments, 4096);
    struct model_oracle *oracle = model_oracle_create(&history, NULL, why, sizeof why);
    ck_assert_msg(oracle != NULL, "%s", why);
    model_oracle_free(oracle);

    event = planted(&history, MODEL_READ, found_a_value);
    before = *event;
    event->a = MODEL_NONE;
    expect_judged_wrong(&history, "a read that misses a value");
    event->a = before.a ^ 1;
    expect_judged_wrong(&history, "a read of another write");
    *event = before;

    event = planted(&history, MODEL_MOVE, found_nothing);
    before = *event;
    event->a = 0;
    expect_judged_wrong(&history, "a walk that goes on past the end");
    *event = before;

    event = planted(&history, MODEL_COMMIT, wrote_and_committed);
    before = *event;
    event->status = MACE_CONFLICT;
    expect_judged_wrong(&history, "a commit that vanished");
    event->status = MACE_OK;
    first_timestamp = event->a;
    event->a = planted(&history, MODEL_COMMIT, another_committed)->a;
    expect_judged_wrong(&history, "a commit with another's timestamp");
    *event = before;

    event = planted(&history, MODEL_COMMIT, conflicted);
    before = *event;
    event->status = MACE_OK;
    event->a = history.base + 1;
    expect_judged_wrong(&history, "a conflict that committed");
    *event = before;

    event = planted(&history, MODEL_ONE, found_a_value);
    before = *event;
    event->status = MACE_EXISTS;
    expect_judged_wrong(&history, "a one-call write with a wrong answer");
    *event = before;

    event = planted(&history, MODEL_GET1, found_a_value);
    before = *event;
    event->a = MODEL_NONE;
    expect_judged_wrong(&history, "a one-call get that misses a value");
    *event = before;

    broker_finish(&broker);
    model_history_free(&history);
    scratch_remove(directory);
}
END_TEST

int
main(void)
{
    Suite *suite = suite_create("model");
    TCase *cases = tcase_create("histories");
    SRunner *runner;

    tcase_set_timeout(cases, 0);
    tcase_add_test(cases, the_oracle_finds_planted_errors);
    tcase_add_test(cases, histories_of_several_processes_are_snapshot_isolated);
    tcase_add_test(cases, histories_are_snapshot_isolated_without_io_uring_and_log_mapping);
    suite_add_tcase(suite, cases);
    runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
