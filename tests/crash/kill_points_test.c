/* kill_points_test.c - SIGKILL of the broker at each of its named points, under load. No power is lost: every acknowledged
 * commit of both levels has to be there afterwards, and the database is a prefix of the commits.
 */
#include <check.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "kill_point.h"
#include "support/scene.h"

static uint64_t seed;

static void
expect_killed(struct broker *broker, const char *point)
{
    int status = broker_wait(broker);

    if (!WIFSIGNALED(status) || WTERMSIG(status) != SIGKILL)
        broker_log_show(broker);
    ck_assert_msg(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL, "%s: ended with %x", point,
                  (unsigned)status);
}

/* Waits until the point has killed the broker under the scene's load, or a minute has passed. */
static void
reach(struct scene *scene, const char *point)
{
    if (strcmp(point, "core:stopping") == 0) {
        scene_progress(scene, 20);
        kill(scene->broker.pid, SIGTERM);
    }
    uint64_t end = process_time_ns() + UINT64_C(60000000000);
    while (process_state(scene->broker.pid) != 'Z') {
        ck_assert_msg(process_time_ns() < end, "%s is not reached", point);
        process_pause();
    }
}

/* Whoever dies while it makes a database leaves nothing, or a database without a commit. */
static void
die_in_creation(const char *point)
{
    char directory[SCRATCH_PATH], path[SCRATCH_PATH], value[96];
    struct broker broker;

    scratch_create(directory);
    scratch_join(path, directory, "db");
    snprintf(value, sizeof value, "%s=kill", point);
    broker_launch(&broker, path, &(struct broker_options){.kill_point = value});
    ck_assert_msg(broker_ready(&broker) == 1, "%s is not reached", point);
    expect_killed(&broker, point);
    for (int i = 0; i < 2; i++) {
        broker_start(&broker, path, NULL);
        mace *db = client_open(path);
        mace_bucket *bucket = client_bucket(db, "default");
        ck_assert_int_eq(client_has(db, bucket, "key", "value"), i);
        ck_assert_int_eq(client_put(db, bucket, "key", "value"), MACE_OK);
        mace_close(db);
        broker_kill(&broker);
    }
    scratch_remove(directory);
}

/* One life: the broker dies at the point, the next one takes over under the same load. A point that is reached under load
 * may be reached in a recovery, too; after a clean stop there is little to recover. */
static void
die_at(const char *point, unsigned count)
{
    struct scene scene;
    char value[96];

    scene_create(&scene, seed);
    scene_point_value(value, sizeof value, point, count, "kill");
    int startup = scene_point_is_startup(point);
    if (startup)
        scene_leave_log(&scene);
    scene_launch(&scene, value);
    int ready = broker_ready(&scene.broker);
    ck_assert_msg(ready == 1 || !startup, "%s is not reached", point);
    if (ready == 0 && strcmp(point, "data:removed") == 0) {
        scene_removal_begin(&scene);
        reach(&scene, point);
        scene_removal_end(&scene);
        scene_workers_start(&scene);
    } else if (ready == 0) {
        scene_workers_start(&scene);
        reach(&scene, point);
    }
    expect_killed(&scene.broker, point);
    scene_launch(&scene, NULL);
    ck_assert_int_eq(broker_ready(&scene.broker), 0);
    if (ready != 0)
        scene_workers_start(&scene);
    scene_progress(&scene, 50);
    scene_workers_stop(&scene);
    scene_check(&scene);
    broker_finish(&scene.broker);
    scene_destroy(&scene);
}

START_TEST(acknowledged_commits_survive_sigkill_at_every_point)
{
    unsigned hit = 0, names = 0;

    const char *only = getenv("MACE_TEST_POINT");
    for (const char *const *name = kill_point_names(); *name != NULL; name++) {
        if (only != NULL && strcmp(only, *name) != 0)
            continue;
        names++;
        if (strncmp(*name, "manifest:", 9) == 0 && strcmp(*name, "manifest:edit_written") != 0)
            die_in_creation(*name);
        else
            die_at(*name, 1);
        hit++;
    }
    printf("kill points: %u of %u hit\n", hit, names);
    ck_assert(names > 50 || only != NULL);
    ck_assert_uint_eq(hit, names);
}
END_TEST

/* The first time is the easy one: later ones meet a broker in the middle of everything. */
START_TEST(acknowledged_commits_survive_sigkill_at_random_points)
{
    struct random random;
    unsigned names = 0;

    random_init(&random, seed);
    while (kill_point_names()[names] != NULL)
        names++;
    for (uint64_t left = random_scaled(12); left > 0; left--) {
        const char *name;
        do
            name = kill_point_names()[random_below(&random, names)];
        while (!scene_point_is_frequent(name));
        die_at(name, 2 + (unsigned)random_below(&random, 400));
    }
}
END_TEST

/* F8 */
START_TEST(f08_a_broker_killed_in_recovery_again_and_again_loses_nothing)
{
    struct scene scene;
    struct random random;
    char value[96];
    unsigned rounds = 0;

    random_init(&random, seed);
    scene_create(&scene, seed);
    scene_launch(&scene, NULL);
    ck_assert_int_eq(broker_ready(&scene.broker), 0);
    scene_workers_start(&scene);
    scene_progress(&scene, 300);
    broker_kill(&scene.broker);
    scene_workers_stop(&scene);
    for (int round = 0; round < 4; round++)
        for (const char *const *name = kill_point_names(); *name != NULL; name++) {
            if (!scene_point_is_startup(*name) || strncmp(*name, "manifest:", 9) == 0 ||
                random_chance(&random, 30))
                continue;
            scene_point_value(value, sizeof value, *name, 1, "kill");
            scene_launch(&scene, value);
            ck_assert_int_eq(broker_ready(&scene.broker), 1);
            expect_killed(&scene.broker, *name);
            rounds++;
        }
    ck_assert_uint_gt(rounds, 8);
    scene_launch(&scene, NULL);
    ck_assert_int_eq(broker_ready(&scene.broker), 0);
    scene_check(&scene);
    broker_finish(&scene.broker);
    scene_destroy(&scene);
}
END_TEST

int
main(void)
{
    Suite *suite = suite_create("kill points");
    TCase *cases = tcase_create("broker");
    SRunner *runner;

    seed = random_seed("kill points");
    tcase_set_timeout(cases, 0);
    tcase_add_test(cases, acknowledged_commits_survive_sigkill_at_every_point);
    if (getenv("MACE_TEST_POINT") == NULL) {
        tcase_add_test(cases, acknowledged_commits_survive_sigkill_at_random_points);
        tcase_add_test(cases, f08_a_broker_killed_in_recovery_again_and_again_loses_nothing);
    }
    suite_add_tcase(suite, cases);
    runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
