/* mace_sim - runs simulated histories: mace_sim --seeds FROM COUNT [--bug NAME] [--all-points] [--verbose].
 *
 * A history follows from its seed alone; a failure names the seed, and the same command with it shows it again.
 */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kill_point.h"
#include "sim/sim_bugs.h"
#include "sim/sim_world.h"

static void
statistics_add(struct sim_statistics *sum, const struct sim_statistics *one)
{
    uint64_t *to = (uint64_t *)sum;
    const uint64_t *from = (const uint64_t *)one;
    for (size_t i = 0; i < sizeof *sum / sizeof *to; i++)
        to[i] += from[i];
}

static void
statistics_print(const struct sim_statistics *sum)
{
#define FIGURE(name) printf("  %-14s %llu\n", #name, (unsigned long long)sum->name)
    FIGURE(steps);
    FIGURE(incarnations);
    FIGURE(cuts);
    FIGURE(kills);
    FIGURE(poisoned);
    FIGURE(stops);
    FIGURE(committed);
    FIGURE(conflicts);
    FIGURE(preconditions);
    FIGURE(full);
    FIGURE(expired);
    FIGURE(too_big);
    FIGURE(reads);
    FIGURE(scans);
    FIGURE(brackets);
    FIGURE(revoked);
    FIGURE(lost);
    FIGURE(unanswered);
    FIGURE(page_ins);
    FIGURE(page_reads);
    FIGURE(evictions);
    FIGURE(checkpoints);
    FIGURE(blind_writes);
    FIGURE(merges);
    FIGURE(replayed);
    FIGURE(recycled);
    FIGURE(data_bytes);
    FIGURE(rewrites);
    FIGURE(deltas);
    FIGURE(beyond);
    FIGURE(far_beyond);
#undef FIGURE
}

/* "Every point was hit" as a number; the host's points are not the core's. */
static bool
points_print(const uint64_t *reached)
{
    unsigned hit = 0, all = 0;
    const char *const *names = kill_point_names();
    for (size_t i = 0; names[i] != NULL && i < SIM_POINTS; i++) {
        if (strncmp(names[i], "host:", 5) == 0)
            continue;
        all++;
        hit += reached[i] > 0;
        if (reached[i] == 0)
            printf("  never reached: %s\n", names[i]);
    }
    printf("%u of %u kill points reached\n", hit, all);
    return hit == all;
}

static uint64_t seed_under_way;

/* A failed assertion has to name its seed. */
static void
on_crash(int number)
{
    printf("seed %llu: signal %d\n", (unsigned long long)seed_under_way, number);
    signal(number, SIG_DFL);
    raise(number);
}

static int
usage(void)
{
    fprintf(stderr, "usage: mace_sim --seeds FROM COUNT [--bug NAME] [--all-points] [--verbose]\n");
    return 2;
}

int
main(int argc, char **argv)
{
    uint64_t from = 1, count = 100, failed = 0;
    bool verbose = false, all_points = false;
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--seeds") == 0 && i + 2 < argc) {
            from = strtoull(argv[++i], NULL, 0);
            count = strtoull(argv[++i], NULL, 0);
        } else if (strcmp(argv[i], "--all-points") == 0) {
            all_points = true;
        } else if (strcmp(argv[i], "--verbose") == 0) {
            verbose = true;
        } else if (strcmp(argv[i], "--bug") == 0 && i + 1 < argc) {
            if (!sim_bug_plant(argv[++i]))
                return usage();
        } else {
            return usage();
        }
    }
    signal(SIGABRT, on_crash);
    signal(SIGSEGV, on_crash);
    setvbuf(stdout, NULL, _IOLBF, 0);
    struct sim_statistics sum = {0};
    uint64_t reached[SIM_POINTS] = {0};
    struct sim_world *world = malloc(sizeof *world);
    for (uint64_t seed = from; seed < from + count && failed < 10; seed++) {
        *world = (struct sim_world){.seed = seed, .verbose = verbose};
        if (verbose)
            printf("seed %llu\n", (unsigned long long)seed);
        seed_under_way = seed;
        failed += !sim_world_run(world);
        statistics_add(&sum, &world->statistics);
        for (size_t i = 0; i < SIM_POINTS; i++)
            reached[i] += world->reached[i];
    }
    free(world);
    printf("%llu seeds from %llu: %llu failed\n", (unsigned long long)count,
           (unsigned long long)from, (unsigned long long)failed);
    statistics_print(&sum);
    bool all = points_print(reached);
    return failed != 0 || (all_points && !all);
}
