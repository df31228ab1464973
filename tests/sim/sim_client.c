/* sim_client.c - a client process as a machine of small steps, on a session segment in plain memory. */
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "mshm/status.h"
#include "sim/sim_world.h"

/* --- attaching and leaving --- */

struct sim_client *
sim_client_attach(struct sim_world *world)
{
    struct sim_client *client = calloc(1, sizeof *client);
    assert(client != NULL);
    client->world = world;
    client->segment = mmap(NULL, MSHM_SESSION_SIZE, PROT_READ | PROT_WRITE,
                           MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    assert(client->segment != MAP_FAILED);
    sim_awaken(world);
    int status =
        core_session_attach(world->core, client->segment, client, 0, 0, 0, &client->session);
    if (status != MSHM_OK) {
        sim_fail(world, "attaching: %d", status);
        munmap(client->segment, MSHM_SESSION_SIZE);
        free(client);
        return NULL;
    }
    client->number = core_session_number(client->session);
    mshm_producer_init(&client->producer, client->segment);
    AO_store_release(&client->segment->lanes_high, SIM_LANES + SIM_BRACKETS);
    return client;
}

void
sim_client_free(struct sim_client *client)
{
    struct sim_world *world = client->world;
    world->past = realloc(world->past, (world->past_count + 1) * sizeof *world->past);
    assert(world->past != NULL);
    world->past[world->past_count++] = (struct sim_past){
        core_incarnation(world->core), client->number, client->requests, client->count};
    if (client->control.active && world->lost_control_count < 64)
        world->lost_controls[world->lost_control_count++] = client->control;
    munmap(client->segment, MSHM_SESSION_SIZE);
    free(client);
}

void
sim_client_die(struct sim_client *client)
{
    struct sim_world *world = client->world;
    assert(world->leaving_count < 64);
    world->leaving[world->leaving_count++] = client;
    sim_awaken(world);
    core_session_end(world->core, client->session, false);
    client->session = NULL;
}

/* --- steps --- */

static void
lane_step(struct sim_client *client, int lane)
{
    struct sim_world *world = client->world;
    struct sim_lane *mine = &client->lanes[lane];
    if (mine->committing)
        return;
    if (mine->read.kind != SIM_READ_NONE) {
        sim_read_go_on(client, lane);
        return;
    }
    if (!mine->open) {
        if (client->quiet || lane == SIM_LANES - 1) /* the last one is for one-call gets */
            return;
        mine->open = true;
        mine->snapshot = mshm_snapshot_register(world->core->store, &client->segment->lanes[lane]);
        return;
    }
    uint64_t choice = sim_below(world, 100);
    if (client->quiet || choice < 5) {
        mshm_snapshot_release(&client->segment->lanes[lane]);
        *mine = (struct sim_lane){0};
    } else if (choice < 45) {
        sim_read_key(client, lane);
    } else if (choice < 50) {
        sim_scan(client, lane);
    } else if (lane > 1 || choice < 60) { /* the first two lanes are slow */
        sim_commit(client, lane);
    }
}

void
sim_client_step(struct sim_client *client)
{
    struct sim_world *world = client->world;
    uint64_t choice = sim_below(world, 1000);
    if (choice < 700 || client->quiet) {
        lane_step(client, (int)sim_below(world, SIM_LANES));
        if (client->quiet)
            for (unsigned i = 0; i < SIM_BRACKETS; i++)
                if (client->brackets[i].open)
                    sim_bracket_end(client, i);
    } else if (choice < 850) {
        sim_one_call(client);
    } else if (choice < 900) {
        if (client->lanes[SIM_LANES - 1].read.kind == SIM_READ_NONE)
            sim_read_key(client, SIM_LANES - 1);
    } else if (choice < 960) {
        unsigned index = (unsigned)sim_below(world, SIM_BRACKETS);
        if (client->brackets[index].open)
            sim_bracket_end(client, index);
        else
            sim_bracket_open(client, index);
    } else if (choice < 975) {
        sim_sync(client);
    } else if (!client->control.active) {
        sim_control(client);
    }
}
