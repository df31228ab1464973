/* sim_world.c - the machine: what the broker tells, one turn of it, its birth and its death. */
#include "sim/sim_world.h"

#include <assert.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "kill_point.h"
#include "mshm/status.h"
#include "sim/sim_bugs.h"

void
sim_fail(struct sim_world *world, const char *format, ...)
{
    if (world->failed)
        return;
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(world->failure, sizeof world->failure, format, arguments);
    va_end(arguments);
    world->failed = true;
    if (!world->quiet)
        printf("seed %llu: %s\n", (unsigned long long)world->seed, world->failure);
}

uint64_t
sim_below(struct sim_world *world, uint64_t bound)
{
    return sim_random_below(world->random, bound);
}

bool
sim_chance(struct sim_world *world, unsigned percent)
{
    return sim_random_chance(world->random, percent);
}

/* --- what the broker tells --- */

static void
harvest_all(struct sim_world *world)
{
    for (int i = 0; i <= SIM_CLIENTS; i++)
        if (world->clients[i] != NULL)
            sim_client_harvest(world->clients[i]);
    for (uint32_t i = 0; i < world->leaving_count; i++)
        sim_client_harvest(world->leaving[i]);
}

static void
on_reply(void *argument, void *session_handle, const void *message, size_t size)
{
    (void)argument;
    sim_client_reply(session_handle, message, size);
}

static void
on_wake(void *argument, unsigned int *word)
{
    struct sim_world *world = argument;
    for (int i = 0; i <= SIM_CLIENTS; i++)
        if (world->clients[i] != NULL)
            sim_client_wake(world->clients[i], word);
}

static void
on_session_free(void *argument, void *session_handle)
{
    struct sim_world *world = argument;
    struct sim_client *client = session_handle;
    if (sim_env_dead(world->sim))
        return; /* freed with everything else */
    sim_client_harvest(client);
    for (uint32_t i = 0; i < world->leaving_count; i++) {
        if (world->leaving[i] != client)
            continue;
        world->leaving[i] = world->leaving[--world->leaving_count];
        sim_client_free(client);
        return;
    }
    sim_fail(world, "the broker ended a session of its own accord");
}

/* What was posted until now has been seen by the clients; what the dead process posts afterwards nobody sees. */
static void
on_death(void *argument)
{
    struct sim_world *world = argument;
    if (world->core != NULL)
        harvest_all(world);
}

static void
on_kill_point(const char *name, void *argument)
{
    struct sim_world *world = argument;
    for (size_t i = 0; kill_point_names()[i] != NULL && i < SIM_POINTS; i++)
        if (strcmp(kill_point_names()[i], name) == 0)
            world->reached[i]++;
    if (world->die_at_point == 0 || --world->die_at_point > 0)
        return;
    if (world->verbose)
        printf("  dies at %s, %s\n", name, world->die_cut ? "power cut" : "killed");
    sim_env_die(world->sim, world->die_cut);
}

/* --- one turn --- */

/* The host has something for the broker: it wakes before it looks at anything. */
void
sim_awaken(struct sim_world *world)
{
    if (world->asleep)
        core_awake(world->core);
    world->asleep = false;
}

static void
broker_sleep(struct sim_world *world, uint64_t wait_ns)
{
    if (!core_sleep(world->core))
        return;
    world->asleep = true;
    world->sleep_until = wait_ns == UINT64_MAX ? UINT64_MAX : sim_env_now(world->sim) + wait_ns;
}

/* A sleeping broker wakes because of a doorbell, a completion or its timer, and of nothing else. */
static bool
broker_wakes(struct sim_world *world)
{
    bool rung = false;
    for (int i = 0; i <= SIM_CLIENTS; i++)
        rung = rung || (world->clients[i] != NULL && world->clients[i]->doorbell);
    if (!rung && !sim_env_busy(world->sim) && sim_env_now(world->sim) < world->sleep_until)
        return false;
    if (!rung && sim_env_busy(world->sim))
        sim_env_advance(world->sim, 100000);
    sim_awaken(world);
    return true;
}

static void
doorbells_deliver(struct sim_world *world)
{
    for (int i = 0; i <= SIM_CLIENTS; i++) {
        struct sim_client *client = world->clients[i];
        if (client == NULL || !client->doorbell)
            continue;
        client->doorbell = false;
        core_session_doorbell(world->core, client->session);
    }
}

void
sim_step_core(struct sim_world *world)
{
    uint64_t wait_ns;
    sim_env_advance(world->sim, sim_below(world, 10000));
    if (world->asleep && !broker_wakes(world)) {
        if (sim_chance(world, 30)) /* nothing happens for a while */
            sim_env_advance(world->sim, sim_below(world, 20000000));
        return;
    }
    doorbells_deliver(world);
    bool did = core_step(world->core, &wait_ns);
    if (sim_env_dead(world->sim))
        return;
    harvest_all(world);
    sim_check_advance(world);
    if (!did && !core_poisoned(world->core))
        broker_sleep(world, wait_ns);
}

bool
sim_world_over(struct sim_world *world)
{
    return world->failed || sim_env_dead(world->sim) || core_poisoned(world->core);
}

/* --- birth and death --- */

bool
sim_world_recover(struct sim_world *world, int *status, char *why, size_t why_size)
{
    world->store_size = core_store_size(&world->options);
    world->store = mmap(NULL, world->store_size, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    assert(world->store != MAP_FAILED);
    *status =
        core_create(&world->core, &world->options, sim_env_interface(world->sim), world->store);
    if (*status == MSHM_OK)
        *status = core_recover(world->core, true, why, why_size);
    else
        snprintf(why, why_size, "core_create");
    return *status == MSHM_OK && !sim_env_dead(world->sim);
}

/* What the broker counted, before it is forgotten. */
static void
figures_note(struct sim_world *world)
{
    struct sim_statistics *sum = &world->statistics;
    if (world->core == NULL || world->core->figures == NULL)
        return;
    const struct mshm_counters *counters = &world->core->figures->counters;
    sum->page_reads += AO_load(&counters->page_reads);
    sum->evictions += AO_load(&counters->evictions);
    sum->checkpoints += AO_load(&counters->checkpoints);
    sum->blind_writes += AO_load(&counters->blind_writes);
    sum->merges += AO_load(&counters->merges);
    sum->replayed += AO_load(&counters->replayed);
    sum->recycled += AO_load(&counters->log_recycled);
    sum->rewrites += world->core->manifest.number > 1;
    sum->data_bytes += AO_load(&counters->data_bytes);
    uint64_t live = 0, total;
    for (uint32_t i = 0; world->core->data != NULL && i < data_count(world->core->data); i++) {
        struct data_figures file;
        data_describe(world->core->data, i, &file);
        live += file.live;
    }
    total = live / (world->options.cache_size / 100);
    sum->beyond += total > 100;
    sum->far_beyond += total > 300;
}

static void
core_throw_away(struct sim_world *world)
{
    figures_note(world);
    for (int i = 0; i <= SIM_CLIENTS; i++) {
        if (world->clients[i] != NULL)
            sim_client_free(world->clients[i]);
        world->clients[i] = NULL;
    }
    while (world->leaving_count > 0)
        sim_client_free(world->leaving[--world->leaving_count]);
    core_destroy(world->core);
    world->core = NULL;
    munmap(world->store, world->store_size);
    world->asleep = false;
}

void
sim_world_past_free(struct sim_world *world)
{
    for (uint32_t i = 0; i < world->past_count; i++)
        free(world->past[i].requests);
    free(world->past);
    world->past = NULL;
    world->past_count = 0;
}

/* The process is dead: its memory goes, the disk that is left comes into force. */
void
sim_world_bury(struct sim_world *world)
{
    assert(sim_env_dead(world->sim));
    core_throw_away(world);
    world->statistics.cuts += world->die_cut;
    world->statistics.kills += !world->die_cut;
    world->cut = world->cut || world->die_cut;
    sim_env_restart(world->sim);
}

void
sim_world_die(struct sim_world *world, bool power_cut)
{
    if (sim_env_dead(world->sim))
        return;
    world->die_cut = power_cut;
    sim_env_die(world->sim, power_cut);
}

void
sim_world_begin(struct sim_world *world)
{
    struct sim_hooks hooks = {.argument = world,
                              .wake = on_wake,
                              .reply = on_reply,
                              .session_free = on_session_free,
                              .death = on_death};
    world->sim = sim_env_create(world->seed);
    world->random = sim_env_random(world->sim);
    sim_env_set_hooks(world->sim, &hooks);
    sim_env_set_verbose(world->sim, world->verbose);
    sim_bug_prepare(world->sim);
    kill_point_set_handler(on_kill_point, world);
    model_init(&world->model);
    core_options_init(&world->options);
}

void
sim_world_end(struct sim_world *world)
{
    if (world->core != NULL) {
        sim_world_die(world, false);
        sim_world_bury(world);
    }
    kill_point_set_handler(NULL, NULL);
    sim_world_past_free(world);
    model_fini(&world->model);
    sim_env_destroy(world->sim);
    free(world->hints);
}
