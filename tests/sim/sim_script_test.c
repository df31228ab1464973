/* mace_sim_script - dies at every call of a scripted history that the disk sees, by a kill and by power cuts, and at calls
 * of the recoveries that follow; each call also fails once, with EIO, and if it takes room with ENOSPC. Each time the
 * contents and the file set are compared.
 *
 *   the script runs once; at each of its calls a child takes over, which dies there, recovers, compares and exits.
 *   (one whose call only fails goes on to the end of the script, or to where the broker gives up, and dies there.)
 *   the recovery runs on; at some of its calls a grandchild takes over, which dies there, too.
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "kill_point.h"
#include "sim/sim_script.h"

enum { CUTS = 2, SPREAD = 149 /* a recovery dies at every so many of its calls */ };

struct exhaustion {
    struct sim_world *world;
    unsigned depth;       /* 0: the script, 1: the recovery after its death, 2: the last one */
    uint64_t call, first; /* first: of the recovery */
    bool recovering;      /* deaths are wanted here */
    unsigned jobs, spread;
    uint64_t from, to; /* calls of the script at which somebody takes over */
    uint64_t deaths;
    int error; /* that the call met, instead of death */
    bool failed;
};

static struct exhaustion exhaustion;

static bool
child_wait(void)
{
    int status;
    if (wait(&status) < 0)
        return false;
    exhaustion.jobs--;
    if (!WIFEXITED(status) || WEXITSTATUS(status) != 0)
        exhaustion.failed = true;
    if (WIFSIGNALED(status))
        printf("a child that took over before call %llu ended with signal %d\n",
               (unsigned long long)exhaustion.call, WTERMSIG(status));
    return true;
}

/* In the child: true. */
static bool
take_over(unsigned jobs)
{
    while (exhaustion.jobs >= jobs && child_wait())
        continue;
    fflush(stdout);
    exhaustion.deaths++;
    pid_t child = fork();
    if (child == 0) {
        exhaustion.jobs = 0;
        exhaustion.depth++;
        return true;
    }
    exhaustion.jobs += child > 0;
    exhaustion.failed = exhaustion.failed || child < 0;
    return false;
}

/* The way of dying follows from call and variant, not from the history before it. */
static enum sim_death
death_choose(unsigned variant)
{
    sim_env_random(exhaustion.world->sim)->state =
        exhaustion.call * 1000003 + variant * 7919 + exhaustion.depth;
    exhaustion.world->die_cut = variant > 0;
    return variant > 0 ? SIM_DEATH_CUT : SIM_DEATH_KILL;
}

/* The call fails; what comes of it the rest of the script shows. */
static enum sim_death
failure_plan(int error)
{
    struct sim_world *world = exhaustion.world;
    sim_env_fail(world->sim, 0xff, 1, error);
    exhaustion.recovering = false;
    exhaustion.error = error;
    world->error_planned = true;
    world->was_full = error == ENOSPC;
    return SIM_DEATH_NONE;
}

static enum sim_death
on_call(void *argument, unsigned kind)
{
    const unsigned growing = SIM_CALL_WRITE | SIM_CALL_NAMES | SIM_CALL_PREALLOCATE;
    (void)argument;
    if (!exhaustion.recovering || exhaustion.failed)
        return SIM_DEATH_NONE;
    uint64_t call = ++exhaustion.call;
    if (exhaustion.depth == 0) {
        if (call < exhaustion.from || call > exhaustion.to)
            return SIM_DEATH_NONE;
        for (unsigned variant = 0; variant <= CUTS; variant++)
            if (take_over(2))
                return death_choose(variant);
        if (kind != 0 && take_over(2))
            return failure_plan(EIO);
        if ((kind & growing) != 0 && take_over(2))
            return failure_plan(ENOSPC);
        return SIM_DEATH_NONE;
    }
    if (exhaustion.depth == 1 && (call - exhaustion.first) % exhaustion.spread == 0 && take_over(1))
        return death_choose((unsigned)(call / exhaustion.spread) % (CUTS + 1));
    return SIM_DEATH_NONE;
}

/* What was recovered has to be there after a power cut, too, whatever the page cache had shown. */
static void
cut_again(struct sim_world *world)
{
    char why[256] = "";
    int status;
    sim_world_die(world, true);
    sim_world_bury(world);
    if (sim_world_recover(world, &status, why, sizeof why))
        sim_check_recovered(world);
    else
        sim_fail(world, "the second recovery refused with %d: %s", status, why);
}

/* After a death: recoveries until one ends, in this process or in the children that take over. */
static void
aftermath(struct sim_world *world)
{
    char why[256] = "";
    int status;
    world->error_planned = world->untidy = false;
    sim_world_die(world, exhaustion.call % 2 == 0); /* if it is not dead yet */
    for (int i = 0; i < 4 && !world->failed; i++) {
        sim_world_bury(world);
        exhaustion.first = exhaustion.call + 1 + exhaustion.call % exhaustion.spread;
        exhaustion.recovering = exhaustion.depth == 1 && exhaustion.error == 0;
        bool up = sim_world_recover(world, &status, why, sizeof why);
        exhaustion.recovering = false;
        if (up) {
            sim_check_recovered(world);
            sim_world_past_free(world);
        } else if (!sim_env_dead(world->sim))
            sim_fail(world, "recovery refused with %d: %s", status, why);
        if (!sim_env_dead(world->sim))
            break;
    }
    if (!world->failed && exhaustion.error != 0)
        cut_again(world);
    while (exhaustion.jobs > 0 && child_wait())
        continue;
    if (world->failed)
        printf("death %u at call %llu (%s, %s): %s\n", exhaustion.depth,
               (unsigned long long)exhaustion.call, world->die_cut ? "power cut" : "killed",
               strerror(exhaustion.error), world->failure);
    fflush(stdout);
    _exit(world->failed || exhaustion.failed);
}

/* --- what the script has to pass through --- */

static bool
passed_through(const struct sim_world *world)
{
    static const char *const wanted[] = {
        "checkpoint:published", "tree:blind_write",       "tree:split_right_published",
        "tree:root_split",      "tree:merge_freed",       "tree:destroyed",
        "data:removed",         "wal:recycle_synced",     "manifest:renamed",
        "recovery:replayed",    "tree:history_published", "checkpoint:edited"};
    const char *const *names = kill_point_names();
    bool all = true;
    for (size_t i = 0; i < sizeof wanted / sizeof *wanted; i++) {
        size_t at = 0;
        while (names[at] != NULL && strcmp(names[at], wanted[i]) != 0)
            at++;
        if (names[at] != NULL && world->reached[at] > 0)
            continue;
        printf("the script does not pass through %s\n", wanted[i]);
        all = false;
    }
    const struct sim_statistics *sum = &world->statistics;
    if (sum->page_reads == 0 || sum->evictions == 0 || sum->rewrites == 0 || sum->deltas == 0) {
        printf("the script reads %llu pages, evicts %llu, has %llu deltas, %llu new manifests\n",
               (unsigned long long)sum->page_reads, (unsigned long long)sum->evictions,
               (unsigned long long)sum->deltas, (unsigned long long)sum->rewrites);
        all = false;
    }
    return all;
}

int
main(int argc, char **argv)
{
    struct sim_world *world = calloc(1, sizeof *world);
    world->seed = 1;
    exhaustion =
        (struct exhaustion){.world = world, .to = UINT64_MAX, .spread = SPREAD, .recovering = true};
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--calls") == 0 && i + 2 < argc) {
            exhaustion.from = strtoull(argv[++i], NULL, 0);
            exhaustion.to = strtoull(argv[++i], NULL, 0);
        } else if (strcmp(argv[i], "--spread") == 0 && i + 1 < argc)
            exhaustion.spread = (unsigned)strtoul(argv[++i], NULL, 0);
        else if (strcmp(argv[i], "--verbose") == 0)
            world->verbose = true;
        else {
            fprintf(stderr, "usage: mace_sim_script [--calls FROM TO] [--spread N] [--verbose]\n");
            return 2;
        }
    }
    if (exhaustion.spread == 0)
        return 2;
    sim_world_begin(world);
    sim_env_set_call_hook(world->sim, on_call, NULL);
    sim_script_options(world);
    bool ended = sim_script_run(world);
    if (exhaustion.depth > 0)
        aftermath(world);
    while (exhaustion.jobs > 0 && child_wait())
        continue;
    exhaustion.recovering = false;
    uint64_t calls = exhaustion.call;
    sim_world_end(world);
    printf("%llu calls, %llu deaths: %s\n", (unsigned long long)calls,
           (unsigned long long)exhaustion.deaths,
           ended && !exhaustion.failed ? "all recovered" : "FAILED");
    bool through = passed_through(world);
    free(world);
    return !ended || !through || exhaustion.failed;
}
