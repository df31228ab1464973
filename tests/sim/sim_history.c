/* sim_history.c - a history by chance: incarnation after incarnation recovers, is checked, serves under load, dies; at the
 * end comes a clean stop. */
#include <errno.h>
#include <stdlib.h>

#include "mshm/status.h"
#include "sim/sim_world.h"

enum { LOAD_STEPS = 20000, LARGEST_CACHE = 4 << 20 };

/* --- starting --- */

static void
options_choose(struct sim_world *world)
{
    struct core_options *options = &world->options;
    options->cache_size = (UINT64_C(1) << 20) * (1 + sim_below(world, 2));
    options->map_capacity = 4096;
    options->page_size = sim_chance(world, 70) ? 4096 : 8192;
    options->segment_size = 65536;
    options->log_mapping = sim_chance(world, 75);
    options->max_sessions = 48;
    options->snapshot_max_age_ns = sim_chance(world, 20) ? 1000000 + sim_below(world, 20000000) : 0;
    options->history_limit = sim_chance(world, 30) ? 65536 : 0;
    options->history_size = sim_chance(world, 70) ? UINT64_C(16384) << sim_below(world, 12) : 0;
    options->revoke_after_ns = sim_chance(world, 50) ? 4000000 : 20000000;
    sim_env_set_mapping(world->sim, sim_chance(world, 90));
    options->data_file_size =
        sim_chance(world, 50) ? UINT64_C(65536) << sim_below(world, 4) : UINT64_C(4) << 20;
    options->data_alignment = world->seed % 4 == 3 ? 4096 : 0;
    options->checkpoint_log_bytes = UINT64_C(16384) << sim_below(world, 7);
    options->checkpoint_interval_ns = UINT64_C(1000000) << sim_below(world, 12);
    world->large = sim_chance(world, 12);               /* much more data than cache */
    world->fat = world->large || sim_chance(world, 25); /* large values */
    uint64_t extent = sim_below(world, 100);
    world->keys = extent < 25   ? 8
                  : extent < 60 ? 8 + (unsigned)sim_below(world, 250)
                  : extent < 90 ? 256 + (unsigned)sim_below(world, 500)
                                : MODEL_KEYS;
    if (world->large) {
        options->cache_size = UINT64_C(1) << 20;
        world->keys = MODEL_KEYS;
        world->phase = SIM_PHASE_LOAD;
    }
    world->squeeze = sim_chance(world, 60) ? (unsigned)(5 << sim_below(world, 4)) : 0;
    world->hints = calloc(LARGEST_CACHE / 4096, 1);
    options->hints = sim_chance(world, 80) ? world->hints : NULL;
}

/* Recoveries until one succeeds; the first ones may die at any call or point, or meet an error. */
static void
world_start(struct sim_world *world)
{
    for (int attempt = 0; !world->failed; attempt++) {
        char why[256] = "";
        int status;
        bool error = false;
        if (sim_chance(world, world->large ? 10 : 30)) /* whatever it was written with */
            world->options.cache_size = UINT64_C(1) << (20 + sim_below(world, 3));
        if (sim_chance(world, 20))
            world->options.page_size = 4096u << sim_below(world, 3);
        world->die_at_point = 0;
        world->die_cut = sim_chance(world, 50);
        if (attempt < 3 && sim_chance(world, 15))
            sim_env_die_at(world->sim, 1 + sim_below(world, 60), world->die_cut);
        else if (attempt < 3 && sim_chance(world, 15))
            world->die_at_point = 1 + sim_below(world, 20);
        else if (attempt < 3 && sim_chance(world, 10)) {
            error = true;
            sim_env_fail(world->sim, 0xff, 1 + sim_below(world, 50), EIO);
        }
        bool up = sim_world_recover(world, &status, why, sizeof why);
        error = error && sim_env_failed(world->sim);
        world->die_at_point = 0;
        sim_env_die_at(world->sim, 0, false);
        sim_env_fail(world->sim, 0, 0, 0);
        world->untidy = error; /* what could not be removed is removed another time */
        if (up && !core_poisoned(world->core)) {
            sim_check_recovered(world);
            sim_world_past_free(world);
            world->statistics.incarnations++;
            return;
        }
        if (!sim_env_dead(world->sim) && !error)
            sim_fail(world, "recovery refused with %d: %s", status, why);
        sim_world_die(world, sim_chance(world, 50));
        sim_world_bury(world);
    }
}

/* --- serving --- */

static void
clients_change(struct sim_world *world)
{
    unsigned i = (unsigned)sim_below(world, SIM_CLIENTS);
    if (world->clients[i] == NULL) {
        world->clients[i] = sim_client_attach(world);
    } else if (sim_chance(world, 30) && world->leaving_count < 32) {
        sim_client_die(world->clients[i]);
        world->clients[i] = NULL;
    }
}

/* For so many nanoseconds; 0: no longer. */
static void
disk_full(struct sim_world *world, uint64_t ns)
{
    world->full_until = ns != 0 ? sim_env_now(world->sim) + ns : 0;
    sim_env_set_full(world->sim, ns != 0);
    world->was_full = world->was_full || ns != 0;
}

/* As if others needed memory: clean pages leave it. Who uses the hints writes what they like. */
static void
world_squeeze(struct sim_world *world)
{
    struct core *core = world->core;
    uint64_t units = world->options.cache_size / 4096;
    for (int i = 0; i < 16; i++)
        world->hints[sim_below(world, units)] = (uint8_t)sim_below(world, 256);
    uint64_t later_ns = sim_chance(world, 20) ? UINT64_C(1000000000) : 0;
    tree_ahead_begin(core->tree); /* no place that was found is right any more */
    pages_evict(core->pages, UINT64_C(4096) << sim_below(world, 9),
                sim_env_now(world->sim) + later_ns);
}

/* A large world is filled first. */
static bool
world_loads(const struct sim_world *world)
{
    return world->large && world->phase == SIM_PHASE_LOAD && world->cursor < world->keys;
}

static void
phase_change(struct sim_world *world)
{
    static const enum sim_phase phases[] = {SIM_PHASE_MIXED, SIM_PHASE_LOAD, SIM_PHASE_DELETE};
    world->phase = phases[sim_below(world, 3)];
    world->cursor = (unsigned)sim_below(world, world->keys);
}

static void
world_step(struct sim_world *world)
{
    if (sim_below(world, 1000) < world->squeeze)
        world_squeeze(world);
    if (sim_below(world, 300) == 0 && !world_loads(world))
        phase_change(world);
    uint64_t choice = sim_below(world, 1000);
    world->statistics.steps++;
    if (world->full_until != 0 && sim_env_now(world->sim) > world->full_until)
        disk_full(world, 0);
    if (choice < world->load) {
        struct sim_client *client = world->clients[sim_below(world, SIM_CLIENTS)];
        if (client != NULL)
            sim_client_step(client);
    } else if (choice < 970) {
        sim_step_core(world);
    } else if (choice < 980) {
        sim_env_write_back(world->sim);
    } else if (choice < 985) {
        sim_env_advance(world->sim, sim_below(world, 5000000));
    } else if (choice < 986) {
        disk_full(world, 1 + sim_below(world, 20000000));
    } else {
        clients_change(world);
    }
}

/* How this incarnation is to end. */
static void
death_plan(struct sim_world *world)
{
    static const int errors[] = {EIO, EIO, EIO, ENOSPC, EDQUOT};
    uint64_t choice = sim_below(world, 100);
    world->die_cut = sim_chance(world, 50);
    world->was_full = world->error_planned = false;
    if (choice < 35) {
        sim_env_die_at(world->sim, 1 + sim_below(world, world->large ? 5000 : 300), world->die_cut);
    } else if (choice < 60) {
        world->die_at_point = 1 + sim_below(world, world->large ? 40000 : 2000);
    } else if (choice < 75) {
        int error = errors[sim_below(world, 5)];
        unsigned calls = sim_chance(world, 50) ? SIM_CALL_SYNC | SIM_CALL_WRITE : 0xff;
        if (error != EIO)
            calls = SIM_CALL_WRITE | SIM_CALL_NAMES | SIM_CALL_PREALLOCATE;
        else if (sim_chance(world, 50))
            calls = sim_chance(world, 50) ? SIM_CALL_READ : SIM_CALL_SYNC;
        sim_env_fail(world->sim, calls, 1 + sim_below(world, 100), error);
        world->error_planned = true;
        world->was_full = error != EIO;
    }
}

static bool
client_reads(const struct sim_client *client)
{
    for (int lane = 0; lane < SIM_LANES; lane++)
        if (client->lanes[lane].read.kind != SIM_READ_NONE)
            return true;
    return false;
}

static bool
anything_unanswered(const struct sim_world *world)
{
    for (int i = 0; i < SIM_CLIENTS; i++) {
        const struct sim_client *client = world->clients[i];
        if (client != NULL &&
            (client->flight > 0 || client->control.active || client_reads(client)))
            return true;
    }
    return world->leaving_count > 0;
}

/* Faults end, clients begin nothing new: everything must be answered, and soon. */
static void
world_settle(struct sim_world *world)
{
    disk_full(world, 0);
    for (int i = 0; i < SIM_CLIENTS; i++)
        if (world->clients[i] != NULL)
            world->clients[i]->quiet = true;
    uint64_t since = sim_env_now(world->sim);
    while (!sim_world_over(world) && anything_unanswered(world)) {
        for (int i = 0; i < SIM_CLIENTS; i++)
            if (world->clients[i] != NULL)
                sim_client_step(world->clients[i]);
        sim_step_core(world);
        if (sim_env_now(world->sim) - since > UINT64_C(20000000000))
            sim_fail(world, "something is not answered within 20 seconds");
    }
    if (!sim_world_over(world))
        sim_check_everything(world);
}

/* After faults a commit succeeds: a delete whenever, a put when there is room. */
static void
world_demand(struct sim_world *world)
{
    struct sim_client *client = sim_client_attach(world);
    unsigned place = 0;
    disk_full(world, 0);
    if (client == NULL)
        return;
    while (place < SIM_CLIENTS - 1 && world->clients[place] != NULL)
        place++;
    if (world->clients[place] != NULL)
        sim_client_die(world->clients[place]);
    world->clients[place] = client;
    uint64_t since = sim_env_now(world->sim);
    int status = MSHM_BUSY;
    while (!sim_world_over(world) && status != MSHM_OK) {
        status = sim_client_demand(client, (unsigned)sim_below(world, world->keys), false);
        sim_env_advance(world->sim, 1000000);
        if (sim_env_now(world->sim) - since > UINT64_C(1500000000))
            sim_fail(world, "no delete succeeds within 1.5 seconds after the faults: %d", status);
    }
}

static void
world_stop(struct sim_world *world)
{
    sim_awaken(world);
    core_stop(world->core);
    for (int i = 0; i < 100000 && !sim_world_over(world) && !core_stopped(world->core); i++)
        sim_step_core(world);
    if (sim_world_over(world))
        return;
    if (!core_stopped(world->core))
        sim_fail(world, "a stop does not end");
    world->durable = world->acked;
    world->statistics.stops++;
}

static void
world_serve(struct sim_world *world, bool last)
{
    uint64_t steps = 200 + sim_below(world, 1500);
    uint64_t most = steps + (world->large ? LOAD_STEPS : 0);
    world->load = 400 + (unsigned)sim_below(world, 500);
    if (!last)
        death_plan(world);
    for (int i = 0; i < 3; i++)
        world->clients[i] = sim_client_attach(world);
    for (uint64_t i = 0; (i < steps || world_loads(world)) && i < most && !sim_world_over(world);
         i++)
        world_step(world);
    if (!sim_world_over(world) && (last || sim_chance(world, 60)))
        world_settle(world);
    if (!sim_world_over(world) && (last || sim_chance(world, 20)))
        world_demand(world);
    if (!sim_world_over(world) && (last || sim_chance(world, 40)))
        world_stop(world);
    if (!sim_world_over(world) || !sim_env_dead(world->sim)) {
        world->statistics.poisoned += core_poisoned(world->core);
        sim_world_die(world, sim_chance(world, 50));
    }
    disk_full(world, 0);
    world->die_at_point = 0;
    sim_world_bury(world);
}

bool
sim_world_run(struct sim_world *world)
{
    sim_world_begin(world);
    options_choose(world);
    uint64_t incarnations = 2 + sim_below(world, 4);
    for (uint64_t i = 0; i < incarnations && !world->failed; i++) {
        world_start(world);
        if (!world->failed)
            world_serve(world, i + 1 == incarnations);
    }
    if (!world->failed)
        world_start(world); /* what the last one left is looked at, too */
    if (!world->failed && sim_chance(world, 15))
        sim_check_rot(world);
    sim_world_end(world);
    return !world->failed;
}
