/* scene.c - a database under a load that reaches every part of the broker. */
#include "support/scene.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "support/raw_client.h"

enum {
    SCENE_NOISE_SLOT = SCENE_WRITERS * SCENE_SLOTS,
    SCENE_BALLAST = 4000, /* keys, of 1,000 bytes */
};

static const struct broker_options scene_making = {
    .arguments = {"--cache", "32M", "--segment-size", "4M", "--data-file-size", "2M"}};

void
scene_launch(struct scene *scene, const char *kill_point)
{
    const struct broker_options options = {
        .arguments = {"--cache", scene->roomy ? "32M" : "3M", "--segment-size", "256K",
                      "--data-file-size", "2M", "--checkpoint-log", "384K"},
        .kill_point = kill_point};

    broker_launch(&scene->broker, scene->path, &options);
}

void
scene_create(struct scene *scene, uint64_t seed)
{
    memset(scene, 0, sizeof *scene);
    scratch_create(scene->directory);
    scratch_join(scene->path, scene->directory, "db");
    scene->board = load_board_create();
    for (unsigned i = 0; i < SCENE_WRITERS; i++)
        scene->writers[i] = (struct load_worker){.board = scene->board,
                                                 .path = scene->path,
                                                 .bucket = "load",
                                                 .first_slot = i * SCENE_SLOTS,
                                                 .slots = SCENE_SLOTS,
                                                 .pause_us = 50,
                                                 .seed = seed + i};
    broker_start(&scene->broker, scene->path, &scene_making);
    mace *db = client_open(scene->path);
    mace_bucket *bucket;
    mace_bucket_options options;
    mace_bucket_options_init(&options);
    options.page_size = 4096; /* many pages of little data */
    require_ok(mace_bucket_create(db, "load", &options, &bucket));
    mace_bucket_close(bucket);
    scene->churn_board = churn_create(db, SCENE_BALLAST);
    scene->churn = (struct churn_worker){
        .board = scene->churn_board, .path = scene->path, .pause_us = 50, .reads = 8, .seed = seed};
    scene->base = client_newest(db);
    mace_close(db);
    broker_finish(&scene->broker);
}

void
scene_destroy(struct scene *scene)
{
    load_board_destroy(scene->board);
    churn_destroy(scene->churn_board);
    scratch_remove(scene->directory);
}

/* What the noise may meet while brokers die: the loss, and nothing wrong. */
static int
noise_lost(int status)
{
    return status == MACE_BROKER_LOST || status == MACE_UNKNOWN_OUTCOME;
}

/* Refusals of every kind, and snapshots that live for a while. */
static void
noise_round(mace *db, mace_bucket *bucket, struct load_board *board)
{
    char key[LOAD_KEY], value[256];
    mace_txn *old;
    mace_slice found;

    load_count_key(key, 0);
    int status = mace_get1(db, bucket, key, strlen(key), value, sizeof value, NULL);
    require(status == MACE_OK || status == MACE_NOT_FOUND || noise_lost(status), "get1: %s",
            mace_strerror(status));
    if (status == MACE_OK) {
        status = mace_insert1(db, bucket, key, strlen(key), "x", 1);
        require(status == MACE_EXISTS || noise_lost(status), "insert1: %s", mace_strerror(status));
    }
    status = mace_begin(db, MACE_RDONLY, &old);
    require(status == MACE_OK || noise_lost(status), "begin: %s", mace_strerror(status));
    for (int i = 0; i < 20; i++) {
        int again = load_conflict(db, bucket, board, SCENE_NOISE_SLOT);
        require(again == MACE_OK || again == MACE_CONFLICT || noise_lost(again), "conflict: %s",
                mace_strerror(again));
        usleep(1000);
    }
    if (status != MACE_OK)
        return;
    status = mace_get(old, bucket, key, strlen(key), &found);
    require(status == MACE_OK || status == MACE_NOT_FOUND || status == MACE_SNAPSHOT_EXPIRED ||
                noise_lost(status),
            "get: %s", mace_strerror(status));
    mace_abort(old);
}

static void
noise_run(int channel, void *argument)
{
    struct scene *scene = argument;

    (void)channel;
    while (!AO_load_acquire(&scene->board->stop)) {
        mace_options options;
        mace *db;
        mace_bucket *bucket;
        mace_options_init(&options);
        options.start_broker = 0;
        options.durability = MACE_OS;
        if (mace_open(scene->path, &options, &db) != MACE_OK) {
            process_pause();
            continue;
        }
        if (mace_bucket_open(db, "load", &bucket) == MACE_OK)
            noise_round(db, bucket, scene->board);
        mace_close(db);
    }
}

/* A client that stands inside a read bracket until its broker is gone: what a stopped one looks like from outside. */
static void
reader_run(int channel, void *argument)
{
    struct scene *scene = argument;

    (void)channel;
    while (!AO_load_acquire(&scene->board->stop)) {
        struct raw_client client;
        if (!raw_client_try(&client, scene->path)) {
            process_pause();
            continue;
        }
        AO_store_release(&client.session->lanes_high, 1);
        mshm_bracket_open(client.view.store, &client.session->lanes[0]);
        while (!AO_load_acquire(&scene->board->stop) && !raw_client_ended(&client))
            process_pause();
        raw_client_close(&client);
    }
}

void
scene_workers_start(struct scene *scene)
{
    for (unsigned i = 0; i < SCENE_WRITERS; i++)
        worker_start(&scene->writer_processes[i], load_worker_run, &scene->writers[i]);
    AO_store_release(&scene->churn_board->stop, 0);
    worker_start(&scene->churn_process, churn_worker_run, &scene->churn);
    worker_start(&scene->noise, noise_run, scene);
    worker_start(&scene->reader, reader_run, scene);
}

void
scene_workers_stop(struct scene *scene)
{
    AO_store_release(&scene->board->stop, 1);
    AO_store_release(&scene->churn_board->stop, 1);
    for (unsigned i = 0; i < SCENE_WRITERS; i++)
        worker_join(&scene->writer_processes[i]);
    worker_join(&scene->churn_process);
    worker_join(&scene->noise);
    worker_join(&scene->reader);
    AO_store_release(&scene->board->stop, 0);
}

void
scene_progress(struct scene *scene, uint64_t count)
{
    uint64_t before = load_commits(scene->board);

    wait_for(load_commits(scene->board) >= before + count);
}

enum { REMOVAL_COMMITS = 40, REMOVAL_KEYS = 100 /* of each */ };

static void
removal_run(int channel, void *argument)
{
    struct scene *scene = argument;
    mace *db = client_open(scene->path);
    mace_bucket *bucket = client_bucket(db, "removal");
    struct random random;
    uint64_t leaves = client_stat(db).pages_leaf;

    (void)channel;
    random_init(&random, scene->churn.seed);
    for (unsigned i = 0; i < REMOVAL_COMMITS; i++) {
        mace_txn *txn;
        require_ok(mace_begin(db, MACE_OS, &txn));
        for (unsigned j = 0; j < REMOVAL_KEYS; j++) {
            uint8_t key[8], value[1000];
            for (unsigned byte = 0; byte < sizeof key; byte++)
                key[byte] = (uint8_t)((uint64_t)(i * REMOVAL_KEYS + j) >> (56 - 8 * byte));
            random_fill(&random, value, sizeof value);
            require_ok(mace_put(txn, bucket, key, sizeof key, value, sizeof value));
        }
        require_ok(mace_commit(txn));
    }
    mace_bucket_close(bucket);
    require_ok(mace_checkpoint(db));
    require_ok(mace_bucket_drop(db, "removal"));
    wait_for(client_stat(db).pages_leaf <= leaves);
    bucket = client_bucket(
        db, "default"); /* one more commit: without any there is nothing to checkpoint */
    require_ok(client_put(db, bucket, "removal", "done"));
    (void)mace_checkpoint(db); /* the broker may be gone */
    mace_close(db);
}

void
scene_removal_begin(struct scene *scene)
{
    worker_start(&scene->removal, removal_run, scene);
}

void
scene_removal_end(struct scene *scene)
{
    worker_join(&scene->removal);
    scene->base += REMOVAL_COMMITS + 3; /* of the bucket two, and the last */
}

void
scene_leave_log(struct scene *scene)
{
    scene_launch(scene, NULL);
    require_ok(broker_ready(&scene->broker));
    scene_workers_start(scene);
    scene_progress(scene, 100);
    broker_kill(&scene->broker);
    scene_workers_stop(scene);
}

void
scene_check(struct scene *scene)
{
    mace *db = client_open(scene->path);
    mace_bucket *bucket = client_bucket(db, "load");
    uint64_t found = load_check_all(db, bucket, scene->board);
    found += churn_check(db, scene->churn_board);
    uint64_t newest = client_newest(db);

    require(newest == scene->base + found, "%llu commits are here, the newest is %llu",
            (unsigned long long)(scene->base + found), (unsigned long long)newest);
    mace_close(db);
}

int
scene_point_is_startup(const char *point)
{
    static const char *const points[] = {"recovery:",         "host:lock_taken",
                                         "host:listening",    "host:recovered",
                                         "wal:segment_named", "wal:segment_prepared"};

    for (size_t i = 0; i < sizeof points / sizeof points[0]; i++)
        if (strncmp(point, points[i], strlen(points[i])) == 0)
            return 1;
    return 0;
}

int
scene_point_is_frequent(const char *point)
{
    static const char *const points[] = {
        "wal:staged",          "wal:mapped",       "wal:append_started",      "wal:append_done",
        "tree:append",         "core:copied_in",   "tree:rebuild_published",  "core:applied",
        "core:before_visible", "core:visible",     "core:answered",           "core:woken",
        "core:refused",        "frames:reclaimed", "snapshots:horizon_stored"};

    for (size_t i = 0; i < sizeof points / sizeof points[0]; i++)
        if (strcmp(point, points[i]) == 0)
            return 1;
    return 0;
}

void
scene_point_value(char *value, size_t size, const char *point, unsigned count, const char *action)
{
    /* The first clients to come are the test's own; a tree that has split a few times is worth more than a new one. */
    if (strcmp(point, "host:attached") == 0)
        count += 2;
    else if (scene_point_is_frequent(point))
        count += 150;
    else if (strncmp(point, "tree:split", 10) == 0)
        count += 5;
    snprintf(value, size, "%s@%u=%s", point, count, action);
}
