/* broker_stop_test.c - SIGSTOP of the broker at each of its named points, under load: reads never wait for it (P4).
 *
 * While it stands there, a client reads every key by gets and by walks both ways, and every snapshot has to be whole and to
 * contain every acknowledged commit. Then it goes on, and nothing has been lost. The cache holds everything that was ever
 * read: a page that is not in memory does wait for the broker.
 */
#include <check.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

#include "kill_point.h"
#include "support/scene.h"

static uint64_t seed;

/* Until the point has stopped it, or a minute has passed. */
static void
reach(struct scene *scene, const char *point)
{
    int status;
    uint64_t end = process_time_ns() + UINT64_C(60000000000);

    if (strcmp(point, "core:stopping") == 0) {
        scene_progress(scene, 20);
        kill(scene->broker.pid, SIGTERM);
    }
    while (waitpid(scene->broker.pid, &status, WUNTRACED | WNOHANG) == 0) {
        ck_assert_msg(process_time_ns() < end, "%s is not reached", point);
        process_pause();
    }
    if (!WIFSTOPPED(status))
        broker_log_show(&scene->broker);
    ck_assert_msg(WIFSTOPPED(status), "%s: the broker ended with %x", point, (unsigned)status);
}

/* Everything that a client can do alone, from a client that was there before. */
static void
read_everything(struct scene *scene, mace *db, mace_bucket *bucket, mace_txn *old, uint64_t old_sum)
{
    uint64_t sum = 0;

    for (int round = 0; round < 3; round++)
        ck_assert_uint_ge(load_check_all(db, bucket, scene->board), old_sum);
    for (unsigned slot = 0; old != NULL && slot < LOAD_SLOTS; slot++)
        sum += load_check(old, bucket, slot);
    ck_assert_uint_eq(sum, old_sum);
    ck_assert(client_absent(db, bucket, "no such key"));
}

/* Before a broker serves there is nobody to read from: a client only has to get an answer in its time, and the right one
 * when the broker goes on. */
static void
stop_in_startup(struct scene *scene, const char *point)
{
    mace_options options;
    mace *db;

    ck_assert_msg(broker_settle(&scene->broker) == BROKER_STOPPED, "%s is not reached", point);
    reach(scene, point);
    mace_options_init(&options);
    options.start_broker = 0;
    options.connect_timeout_ms = 50;
    ck_assert_int_eq(mace_open(scene->path, &options, &db), MACE_BROKER_LOST);
    broker_continue(&scene->broker);
    ck_assert_int_eq(broker_ready(&scene->broker), 0);
    scene_workers_start(scene);
}

/* Brackets are overruled, and history goes to its file, when memory is short, and then pages leave it: what a client may
 * read without the broker is not known there. */
static int
needs_small_cache(const char *point)
{
    return strcmp(point, "frames:revoked") == 0 || strncmp(point, "history:", 8) == 0;
}

/* What an old snapshot may read is kept: a dropped tree, and deleted keys. */
static int
needs_no_snapshot(const char *point)
{
    return strcmp(point, "tree:destroyed") == 0 || strcmp(point, "tree:root_collapsed") == 0 ||
           strcmp(point, "data:removed") == 0;
}

static void
stop_under_load(struct scene *scene, const char *point)
{
    mace_txn *old = NULL;
    uint64_t old_sum = 0;

    mace *db = client_open(scene->path);
    mace_bucket *bucket = client_bucket(db, "load");
    load_check_all(db, bucket, scene->board); /* now the pages are in memory */
    if (!needs_no_snapshot(point))
        ck_assert_int_eq(mace_begin(db, MACE_RDONLY, &old), MACE_OK);
    for (unsigned slot = 0; old != NULL && slot < LOAD_SLOTS; slot++)
        old_sum += load_check(old, bucket, slot);
    int removal = strcmp(point, "data:removed") == 0;
    if (removal)
        scene_removal_begin(scene);
    else
        scene_workers_start(scene);
    reach(scene, point);
    if (!scene->roomy) {
        broker_continue(&scene->broker);
        read_everything(scene, db, bucket, old, old_sum);
        if (old != NULL)
            mace_abort(old);
        mace_close(db);
        return;
    }
    /* At the points that come late there is something to read, and everything is what a loaded tree has. */
    if (scene_point_is_frequent(point))
        ck_assert(load_check_all(db, bucket, scene->board) > 0);
    read_everything(scene, db, bucket, old, old_sum);
    /* A second look, after all that the processors had in their buffers must have arrived. */
    read_everything(scene, db, bucket, old, old_sum);
    broker_continue(&scene->broker);
    if (removal) {
        scene_removal_end(scene);
        scene_workers_start(scene);
    }
    if (old != NULL)
        mace_abort(old);
    mace_close(db);
}

static void
stop_at(const char *point)
{
    struct scene scene;
    char value[96];

    scene_create(&scene, seed);
    scene.roomy = !needs_small_cache(point);
    scene_point_value(value, sizeof value, point, 1, "stop");
    if (scene_point_is_startup(point))
        scene_leave_log(&scene);
    scene_launch(&scene, value);
    if (scene_point_is_startup(point) || broker_settle(&scene.broker) == BROKER_STOPPED)
        stop_in_startup(&scene, point);
    else
        stop_under_load(&scene, point);
    if (strcmp(point, "core:stopping") == 0) {
        ck_assert_int_eq(broker_wait(&scene.broker), 0);
        scene_launch(&scene, NULL);
        ck_assert_int_eq(broker_ready(&scene.broker), 0);
    }
    scene_progress(&scene, 50);
    scene_workers_stop(&scene);
    scene_check(&scene);
    broker_finish(&scene.broker);
    scene_destroy(&scene);
}

START_TEST(reads_are_right_while_the_broker_stands_at_any_point)
{
    unsigned hit = 0, names = 0;

    const char *only = getenv("MACE_TEST_POINT");
    for (const char *const *name = kill_point_names(); *name != NULL; name++) {
        if (only != NULL && strcmp(only, *name) != 0)
            continue;
        names++;
        stop_at(*name);
        hit++;
    }
    printf("stop points: %u of %u hit\n", hit, names);
    ck_assert_uint_eq(hit, names);
}
END_TEST

int
main(void)
{
    Suite *suite = suite_create("broker stopped");
    TCase *cases = tcase_create("points");
    SRunner *runner;

    seed = random_seed("broker stopped");
    tcase_set_timeout(cases, 0);
    tcase_add_test(cases, reads_are_right_while_the_broker_stands_at_any_point);
    suite_add_tcase(suite, cases);
    runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
