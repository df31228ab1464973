/* support/scene.h - a database under a load that reaches every part of the broker, for tests that kill or stop it somewhere:
 * writers of all kinds, refused requests, conflicts, old snapshots, clients that come and go, a reader that stands inside a
 * read bracket for ever, trees that shrink and buckets that are dropped; log segments and data files that are small, and a
 * checkpoint all the time. The cache is a part of the data, or larger than all of it (roomy), so that what was once read
 * stays in memory.
 */
#ifndef SUPPORT_SCENE_H
#define SUPPORT_SCENE_H

#include "support/broker.h"
#include "support/churn.h"
#include "support/client.h"
#include "support/load.h"

enum { SCENE_WRITERS = 2, SCENE_SLOTS = 4 /* of each writer */ };

struct scene {
    char directory[SCRATCH_PATH], path[SCRATCH_PATH];
    struct broker broker;
    struct load_board *board;
    struct load_worker writers[SCENE_WRITERS];
    struct churn_board *churn_board;
    struct churn_worker churn;
    struct worker writer_processes[SCENE_WRITERS], churn_process, noise, reader, removal;
    int roomy;     /* may be set before a launch */
    uint64_t base; /* newest commit before the first one of a slot */
};

/* Makes the database, with no commit in any slot; no broker runs afterwards, and there is nothing to replay. */
void scene_create(struct scene *scene, uint64_t seed);
void scene_destroy(struct scene *scene);
/* Launches the broker with the scene's options; kill_point may be NULL. Does not wait. */
void scene_launch(struct scene *scene, const char *kill_point);
/* Without load: fills data files that nothing else stands in, and makes them dead. For a broker that may stop or die when
 * it removes them: begin starts, end joins. */
void scene_removal_begin(struct scene *scene);
void scene_removal_end(struct scene *scene);
/* A broker is killed under load, so that the next one has something to replay. */
void scene_leave_log(struct scene *scene);
void scene_workers_start(struct scene *scene);
/* Ends the load and joins its workers, each of which must have found everything right. */
void scene_workers_stop(struct scene *scene);
/* Waits until `count` more commits were acknowledged. */
void scene_progress(struct scene *scene, uint64_t count);
/* With no load: every commit that was acknowledged is there, whole, and the database is exactly a prefix: the newest
 * timestamp is the number of commits found. */
void scene_check(struct scene *scene);

/* Points that a broker reaches before it serves. */
int scene_point_is_startup(const char *point);
/* Points that a loaded broker passes hundreds of times a second. */
int scene_point_is_frequent(const char *point);
/* The value of MACE_KILL_POINT for the count-th time at the point, after those that the test itself needs and those that
 * are not worth much; `action`: "kill" or "stop". */
void scene_point_value(char *value, size_t size, const char *point, unsigned count,
                       const char *action);

#endif
