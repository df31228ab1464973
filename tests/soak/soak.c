/* soak.c - everything at once, for as long as one likes: clients that write, read, scan and delete and know what they must
 * find, trees that grow, shrink and are dropped, a database larger than the cache, checkpoints all the time; and deaths of
 * clients and brokers by chance. Now and then the load ends, the whole state is compared, and mace-check looks at the files.
 *
 * MACE_SOAK_SECONDS (60) is how long; MACE_SEED repeats the driver's part. Ends with status 0, or at the first thing that
 * was not right.
 */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>

#include "support/scene.h"

struct soak {
    struct scene scene;
    struct random random;
    uint64_t begun_ns, end_ns, said_ns;
    uint64_t brokers_killed, clients_killed, stops, checkpoints, looks;
};

static const uint64_t second_ns = UINT64_C(1000000000);

static void
soak_say(struct soak *soak)
{
    uint64_t now = process_time_ns();

    printf(
        "soak: %llu s: %llu commits, %llu of the churn; killed: %llu brokers, %llu clients; %llu "
        "stops, %llu checkpoints asked for, %llu looks under load\n",
        (unsigned long long)((now - soak->begun_ns) / second_ns),
        (unsigned long long)load_commits(soak->scene.board),
        (unsigned long long)AO_load(&soak->scene.churn_board->acked),
        (unsigned long long)soak->brokers_killed, (unsigned long long)soak->clients_killed,
        (unsigned long long)soak->stops, (unsigned long long)soak->checkpoints,
        (unsigned long long)soak->looks);
    fflush(stdout);
    soak->said_ns = now;
}

/* With the cache that the data exceeds, or with one that holds all of it. */
static void
broker_begins(struct soak *soak)
{
    soak->scene.roomy = random_chance(&soak->random, 25);
    scene_launch(&soak->scene, NULL);
    require_ok(broker_ready(&soak->scene.broker));
}

static void
broker_dies(struct soak *soak)
{
    broker_kill(&soak->scene.broker);
    soak->brokers_killed++;
    broker_begins(soak);
}

static void
client_dies(struct soak *soak)
{
    struct scene *scene = &soak->scene;
    unsigned index = (unsigned)random_below(&soak->random, SCENE_WRITERS + 1);

    if (index == SCENE_WRITERS) {
        worker_kill(&scene->churn_process);
        scene->churn.seed++;
        worker_start(&scene->churn_process, churn_worker_run, &scene->churn);
    } else {
        worker_kill(&scene->writer_processes[index]);
        load_writer_died(scene->board, scene->writers[index].first_slot, SCENE_SLOTS);
        scene->writers[index].seed += SCENE_WRITERS;
        worker_start(&scene->writer_processes[index], load_worker_run, &scene->writers[index]);
    }
    soak->clients_killed++;
}

/* One snapshot of everything, while the others go on. */
static void
look(struct soak *soak)
{
    mace *db = client_open(soak->scene.path);
    mace_bucket *bucket = client_bucket(db, "load");

    load_check_all(db, bucket, soak->scene.board);
    churn_check_ballast(db, soak->scene.churn_board);
    if (random_chance(&soak->random, 50)) {
        int status = mace_checkpoint(db);
        require_ok(status);
        soak->checkpoints++;
    }
    mace_bucket_close(bucket);
    mace_close(db);
    soak->looks++;
}

/* No load, the whole state, a clean stop, and mace-check on the files (broker_finish). */
static void
stop(struct soak *soak)
{
    scene_workers_stop(&soak->scene);
    scene_check(&soak->scene);
    if (random_chance(&soak->random, 50)) {
        broker_dies(soak);
        scene_check(&soak->scene);
    }
    broker_finish(&soak->scene.broker);
    soak->stops++;
}

static void
soak_round(struct soak *soak)
{
    unsigned what = (unsigned)random_below(&soak->random, 100);

    scene_progress(&soak->scene, 5 + random_below(&soak->random, 100));
    if (what < 30) {
        client_dies(soak);
    } else if (what < 60) {
        broker_dies(soak);
    } else if (what < 90) {
        look(soak);
    } else {
        stop(soak);
        broker_begins(soak);
        scene_workers_start(&soak->scene);
    }
    if (process_time_ns() - soak->said_ns > 10 * second_ns)
        soak_say(soak);
}

int
main(void)
{
    struct soak soak = {.begun_ns = process_time_ns()};
    const char *seconds = getenv("MACE_SOAK_SECONDS");
    uint64_t seed = random_seed("soak");

    soak.said_ns = soak.begun_ns;
    soak.end_ns = soak.begun_ns + second_ns * (seconds != NULL ? strtoull(seconds, NULL, 10) : 60);
    random_init(&soak.random, seed);
    scene_create(&soak.scene, seed);
    broker_begins(&soak);
    scene_workers_start(&soak.scene);
    while (process_time_ns() < soak.end_ns)
        soak_round(&soak);
    stop(&soak);
    soak_say(&soak);
    scene_destroy(&soak.scene);
    return 0;
}
