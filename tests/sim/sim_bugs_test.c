/* Every planted bug is found by the simulation within a bounded number of seeds; a bug that survives is a hole in it. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "sim/sim_bugs.h"
#include "sim/sim_script.h"
#include "sim/sim_world.h"

enum { SEEDS = 400, SEEDS_MORE = 2500 };

/* The history without chance passes through what seeds seldom do. */
static void
script(struct sim_world *world)
{
    *world = (struct sim_world){.seed = 1, .quiet = true};
    sim_world_begin(world);
    sim_script_options(world);
    if (sim_script_run(world))
        return;
    printf("found by the script: %s\n", world->failure);
    fflush(stdout);
    _exit(0);
}

static void
seeds(struct sim_world *world, uint64_t first, uint64_t last)
{
    for (uint64_t seed = first; seed <= last; seed++) {
        *world = (struct sim_world){.seed = seed, .quiet = true};
        if (!sim_world_run(world)) {
            printf("found with seed %llu: %s\n", (unsigned long long)seed, world->failure);
            fflush(stdout);
            _exit(0);
        }
    }
}

/* In a child, because a bug may also end in a failed assertion: exit 0 = found, and the seed is told. What is met neither
 * soon nor by the script is met late. */
static void
search(const char *name)
{
    struct sim_world *world = malloc(sizeof *world);
    if (!sim_bug_plant(name))
        _exit(3);
    seeds(world, 1, SEEDS);
    script(world);
    seeds(world, SEEDS + 1, SEEDS_MORE);
    _exit(1);
}

int
main(int argc, char **argv)
{
    int missed = 0;
    for (const struct sim_bug *bug = sim_bugs(); bug->name != NULL;
         bug++) { /* or only the one that is named */
        int status = 0;
        if (argc > 1 && strcmp(argv[1], bug->name) != 0)
            continue;
        printf("%-24s", bug->name);
        fflush(stdout);
        pid_t child = fork();
        if (child == 0)
            search(bug->name);
        waitpid(child, &status, 0);
        bool found = WIFSIGNALED(status) || WEXITSTATUS(status) == 0 || WEXITSTATUS(status) > 3;
        if (WIFSIGNALED(status))
            printf("found by a failed assertion\n");
        if (!found) {
            printf("NOT FOUND in %d seeds: %s\n", SEEDS_MORE, bug->what);
            missed++;
        }
    }
    return missed != 0;
}
