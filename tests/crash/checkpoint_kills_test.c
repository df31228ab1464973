/* checkpoint_kills_test.c - a hundred SIGKILLs of the broker while it makes a checkpoint, on a real file system, with clients
 * that write at both levels all the time and a database larger than its cache.
 *
 * Every other kill is at a named point, so that all stages have their share; the others come at any moment at which a
 * checkpoint holds pages. After each death the next broker is compared with what was acknowledged, while the load goes on.
 */
#include <check.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>

#include "support/scene.h"

enum { ROUNDS = 50, WHOLE_EVERY = 10, PATIENCE = 300 };

static const char *const points[] = {
    "checkpoint:sealed",    "checkpoint:packed",      "checkpoint:written",
    "checkpoint:synced",    "checkpoint:before_edit", "checkpoint:edited",
    "checkpoint:published", "manifest:edit_written",  "data:file_made",
    "wal:recycle_renamed",  "wal:recycle_synced",     "wal:segment_prepared",
};

struct tally {
    unsigned at_point, in_recovery, at_chance;
};

static void
expect_killed(struct scene *scene, const char *point)
{
    int status = broker_wait(&scene->broker);

    if (!WIFSIGNALED(status) || WTERMSIG(status) != SIGKILL)
        broker_log_show(&scene->broker);
    ck_assert_msg(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL, "%s: ended with %x", point,
                  (unsigned)status);
}

/* Under load, or in the recovery, which makes a checkpoint, too. */
static void
die_at_point(struct scene *scene, struct random *random, struct tally *tally)
{
    const char *point = points[random_below(random, sizeof points / sizeof points[0])];
    char value[96];

    snprintf(value, sizeof value, "%s@%u=kill", point, 1 + (unsigned)random_below(random, 3));
    scene_launch(scene, value);
    if (broker_ready(&scene->broker) != 0)
        tally->in_recovery++;
    else
        tally->at_point++;
    /* Some points are rare: a load of so many commits has made several checkpoints. */
    uint64_t before = load_commits(scene->board);
    wait_for(process_state(scene->broker.pid) == 'Z' ||
             load_commits(scene->board) > before + PATIENCE);
    kill(scene->broker.pid, SIGKILL);
    expect_killed(scene, value);
}

static void
check_under_load(struct scene *scene, mace *db)
{
    mace_bucket *bucket = client_bucket(db, "load");

    load_check_all(db, bucket, scene->board);
    mace_bucket_close(bucket);
    churn_check_ballast(db, scene->churn_board);
}

/* A checkpoint holds pages from its seal until its edit is durable. */
static void
die_by_chance(struct scene *scene, mace *db, struct tally *tally)
{
    wait_for(client_stat(db).sealed_bytes > 0);
    broker_kill(&scene->broker);
    tally->at_chance++;
}

START_TEST(a_hundred_kills_in_checkpoints_lose_no_acknowledged_commit)
{
    struct scene scene;
    struct random random;
    struct tally tally = {0, 0, 0};
    uint64_t seed = random_seed("checkpoint kills");

    random_init(&random, seed);
    scene_create(&scene, seed);
    scene_workers_start(&scene);
    for (uint64_t round = 1; round <= random_scaled(ROUNDS); round++) {
        die_at_point(&scene, &random, &tally);
        scene_launch(&scene, NULL);
        ck_assert_int_eq(broker_ready(&scene.broker), 0);
        mace *db = client_open(scene.path);
        check_under_load(&scene, db);
        if (round % WHOLE_EVERY == 0) {
            scene_workers_stop(&scene);
            scene_check(&scene);
            scene_workers_start(&scene);
        }
        die_by_chance(&scene, db, &tally);
        mace_close(db);
    }
    scene_launch(&scene, NULL);
    ck_assert_int_eq(broker_ready(&scene.broker), 0);
    scene_workers_stop(&scene);
    scene_check(&scene);
    broker_finish(&scene.broker);
    printf(
        "checkpoint kills: %u at points, %u at points in a recovery, %u by chance; %llu commits, "
        "%llu of the churn\n",
        tally.at_point, tally.in_recovery, tally.at_chance,
        (unsigned long long)load_commits(scene.board),
        (unsigned long long)AO_load(&scene.churn_board->acked));
    ck_assert_uint_gt(tally.at_point, tally.in_recovery / 4);
    scene_destroy(&scene);
}
END_TEST

int
main(void)
{
    Suite *suite = suite_create("checkpoint kills");
    TCase *cases = tcase_create("broker");
    SRunner *runner;

    tcase_set_timeout(cases, 0);
    tcase_add_test(cases, a_hundred_kills_in_checkpoints_lose_no_acknowledged_commit);
    suite_add_tcase(suite, cases);
    runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
