/* sim_inspect.c - everything that the database holds, read as a client reads it and held against the model. */
#include "mshm/status.h"
#include "sim/sim_world.h"

enum { GETS = 16 }; /* beside the scans: through the hash buckets */

struct buckets {
    uint32_t ids[MODEL_BUCKETS], count;
};

static int
bucket_note(const struct catalogue_bucket *bucket, void *argument)
{
    struct buckets *buckets = argument;
    if (buckets->count < MODEL_BUCKETS)
        buckets->ids[buckets->count++] = bucket->id;
    return 0;
}

/* Until the lane's read has ended: the broker reads its pages meanwhile. */
static void
read_finish(struct sim_client *client, int lane)
{
    struct sim_world *world = client->world;
    for (uint64_t i = 0; client->lanes[lane].read.kind != SIM_READ_NONE && !sim_world_over(world);
         i++) {
        sim_step_core(world);
        if (sim_world_over(world))
            return;
        sim_read_go_on(client, lane);
        if (i == 1000000)
            sim_fail(world, "a read does not end");
    }
}

static void
contents_check(struct sim_client *client)
{
    struct sim_world *world = client->world;
    struct buckets buckets = {.count = 0};
    catalogue_each(world->core->catalogue, bucket_note, &buckets);
    for (uint32_t i = 0; i < buckets.count && !sim_world_over(world); i++) {
        sim_scan_bucket(client, 0, buckets.ids[i]);
        read_finish(client, 0);
    }
    for (int i = 0; i < GETS && !sim_world_over(world); i++) {
        sim_read_key(client, 0);
        read_finish(client, 0);
    }
}

static void
structures_check(struct sim_world *world)
{
    const char *why = "";
    if (sim_world_over(world) || world->rotten)
        return;
    bool looking = sim_env_set_looking(world->sim, true);
    if (core_check(world->core, &why) != MSHM_OK)
        sim_fail(world, "core_check: %s", why);
    sim_env_set_looking(world->sim, looking);
}

/* Flips bits of data files, throws out what is in memory, and reads it all: a wrong value would be one too many. */
static void
files_rot(struct sim_world *world)
{
    struct core *core = world->core;
    uint32_t count = data_count(core->data);
    for (uint64_t flips = 1 + sim_below(world, 12); count > 0 && flips > 0; flips--) {
        char name[DATA_NAME_SIZE];
        struct data_figures file;
        data_describe(core->data, (uint32_t)sim_below(world, count), &file);
        data_name(name, file.number);
        (void)sim_disk_flip(sim_env_disk(world->sim), name, sim_below(world, file.total),
                            (unsigned)sim_below(world, 8));
    }
    pages_evict(core->pages, world->options.cache_size,
                sim_env_now(world->sim) + UINT64_C(1000000000));
}

void
sim_check_rot(struct sim_world *world)
{
    world->rotten = true;
    files_rot(world);
    sim_check_everything(world);
}

void
sim_check_everything(struct sim_world *world)
{
    struct sim_client *client = sim_client_attach(world);
    if (client == NULL)
        return;
    world->clients[SIM_CLIENTS] = client;
    client->lanes[0].open = true;
    client->lanes[0].snapshot =
        mshm_snapshot_register(world->core->store, &client->segment->lanes[0]);
    contents_check(client);
    if (!sim_env_dead(world->sim)) {
        structures_check(world);
        world->clients[SIM_CLIENTS] = NULL;
        sim_client_die(client);
    }
}
