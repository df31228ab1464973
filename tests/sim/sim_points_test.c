/* mace_sim_points - the steps at which engines like this one were found to lose data when they died there, one case for each
 * row of the table of crash points: the log (w), the flush of pages (f), the manifest (m), buckets (b), recovery (r) and
 * commits (c). The scripted history dies there, by a kill and by a power cut, at the first times that it comes there and at
 * later ones; each time contents and file set are compared with the model, and after a second power cut once more.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "kill_point.h"
#include "sim/sim_script.h"

enum when { ALWAYS, SERVING, RECOVERING };

struct row {
    const char *name, *point;
    enum when when;
    uint16_t control; /* a request of this kind is under way; 0: whatever is */
};

static const struct row rows[] = {
    {"c1_nothing_of_the_commit_is_in_the_log", "core:copied_in", SERVING, 0},
    {"c2_commit_staged_and_not_synced", "wal:append_started", SERVING, 0},
    {"c2_commit_in_the_mapping_and_not_synced", "wal:mapped", SERVING, 0},
    {"c3_commit_synced_and_not_visible", "core:before_visible", SERVING, 0},
    {"w1_new_segment_synced_and_its_directory_not", "wal:segment_named", ALWAYS, 0},
    {"w2_checkpoints_edit_is_to_be_written", "checkpoint:before_edit", SERVING, 0},
    {"w3_checkpoint_counts_and_nothing_is_recycled", "checkpoint:published", SERVING, 0},
    {"w4_old_segment_removed_and_its_directory_not_synced", "wal:released_removed", ALWAYS, 0},
    {"w4_old_segment_without_header", "wal:recycle_invalidated", ALWAYS, 0},
    {"w4_old_segment_renamed_and_its_directory_not_synced", "wal:recycle_renamed", ALWAYS, 0},
    {"w5_old_segment_renamed_and_not_used", "wal:recycle_synced", ALWAYS, 0},
    {"w6_segment_switched", "wal:segment_switched", SERVING, 0},
    {"f1_data_file_synced_and_its_directory_not", "data:file_synced", ALWAYS, 0},
    {"f2_data_file_and_its_directory_synced", "data:file_made", ALWAYS, 0},
    {"f2_pages_packed", "checkpoint:packed", ALWAYS, 0},
    {"f2_pages_written_and_not_synced", "checkpoint:written", ALWAYS, 0},
    {"f3_pages_synced_and_in_no_manifest", "checkpoint:synced", ALWAYS, 0},
    {"f4_edit_durable_and_locations_not_published", "checkpoint:edited", ALWAYS, 0},
    {"f5_checkpoint_sealed_and_live_bytes_counted_anew", "checkpoint:sealed", ALWAYS, 0},
    {"f5_dead_data_file_removed", "data:removed", SERVING, 0},
    {"m1_manifest_written_and_not_named", "manifest:written", ALWAYS, 0},
    {"m1_manifest_named_and_its_directory_not_synced", "manifest:renamed", ALWAYS, 0},
    {"m1_edit_written_and_not_synced", "manifest:edit_written", ALWAYS, 0},
    {"b1_bucket_created_and_not_durable", "wal:append_started", SERVING,
     MSHM_MESSAGE_BUCKET_CREATE},
    {"b2_bucket_created_and_durable", "core:before_visible", SERVING, MSHM_MESSAGE_BUCKET_CREATE},
    {"b3_bucket_dropped_and_not_durable", "wal:append_started", SERVING, MSHM_MESSAGE_BUCKET_DROP},
    {"b4_bucket_dropped_and_durable", "core:before_visible", SERVING, MSHM_MESSAGE_BUCKET_DROP},
    {"b5_some_pages_of_a_dropped_bucket_given_back", "tree:destroyed", ALWAYS, 0},
    {"b6_checkpoint_after_the_drop_is_to_be_written", "checkpoint:before_edit", SERVING,
     MSHM_MESSAGE_CHECKPOINT},
    {"b7_checkpoint_after_the_drop_counts", "checkpoint:edited", SERVING, MSHM_MESSAGE_CHECKPOINT},
    {"r1_recovery_has_stored_a_manifest", "recovery:manifest_stored", RECOVERING, 0},
    {"r1_recovery_removes_a_file_that_nobody_names", "recovery:begin", RECOVERING, 0},
    {"r2_recovery_has_replayed_and_nothing_is_durable", "recovery:replayed", RECOVERING, 0},
    {"r2_recovery_has_made_the_log_durable", "recovery:durable", RECOVERING, 0},
    {"r2_recovery_has_opened_a_segment", "recovery:segment_opened", RECOVERING, 0},
    {"r3_recovery_has_removed_an_old_segment", "wal:released_removed", RECOVERING, 0},
    {"r4_recovery_makes_a_checkpoint_on_its_way", "checkpoint:edited", RECOVERING, 0},
};
enum { ROWS = sizeof rows / sizeof rows[0] };

static struct {
    struct sim_world *world;
    const struct row *row;
    unsigned times, deaths, failures;
    bool dying; /* this process is a child that dies */
} points;

static bool
row_holds(const struct row *row, const struct sim_world *world)
{
    const struct sim_client *client = world->clients[0];

    if (row->when != ALWAYS && (row->when == RECOVERING) != (client == NULL))
        return false;
    return row->control == 0 ||
           (client != NULL && client->control.active && client->control.kind == row->control);
}

/* 1, 2, 3, 4, 6, 8, 12, 16... */
static bool
time_counts(unsigned times)
{
    while (times > 4 && times % 2 == 0)
        times /= 2;
    return times <= 4;
}

/* In the child: true. */
static bool
take_over(void)
{
    int status = -1;

    fflush(stdout);
    pid_t child = fork();
    if (child == 0)
        return points.dying = true;
    points.deaths++;
    if (child < 0 || waitpid(child, &status, 0) != child || status != 0) {
        printf("%s, time %u: ended with %x\n", points.row->name, points.times, (unsigned)status);
        points.failures++;
    }
    return false;
}

static void
on_point(const char *name, void *argument)
{
    struct sim_world *world = argument;

    if (points.dying || strcmp(name, points.row->point) != 0 || !row_holds(points.row, world))
        return;
    if (!time_counts(++points.times))
        return;
    for (unsigned cut = 0; cut < 3; cut++) /* what a cut leaves is chosen by chance */
        if (take_over()) {
            sim_env_random(world->sim)->state = points.times * 1000003 + cut * 7919;
            world->die_cut = cut > 0;
            sim_env_die(world->sim, cut > 0);
            return;
        }
}

/* In a child, after its death. */
static void
aftermath(struct sim_world *world)
{
    char why[256] = "";
    int status;

    for (unsigned i = 0; i < 2 && !world->failed; i++) {
        sim_world_bury(world);
        if (!sim_world_recover(world, &status, why, sizeof why)) {
            sim_fail(world, "recovery refused with %d: %s", status, why);
            break;
        }
        sim_check_recovered(world);
        sim_world_past_free(world);
        sim_world_die(world, true);
    }
    fflush(stdout);
    _exit(world->failed);
}

static bool
row_run(const struct row *row)
{
    struct sim_world *world = calloc(1, sizeof *world);

    points.world = world;
    points.row = row;
    points.times = points.deaths = points.failures = 0;
    world->seed = 1;
    sim_world_begin(world);
    kill_point_set_handler(on_point, world);
    sim_script_options(world);
    bool ended = sim_script_run(world);
    if (points.dying)
        aftermath(world);
    sim_world_end(world);
    free(world);
    bool good = ended && points.times > 0 && points.failures == 0;
    printf("%s: %u times at %s, %u deaths%s\n", row->name, points.times, row->point, points.deaths,
           good ? "" : ": FAILED");
    return good;
}

int
main(int argc, char **argv)
{
    bool good = true;
    unsigned run = 0;

    for (unsigned i = 0; i < ROWS; i++)
        if (argc < 2 || strstr(rows[i].name, argv[1]) != NULL) {
            good = row_run(&rows[i]) && good;
            run++;
        }
    return good && run > 0 ? 0 : 1;
}
