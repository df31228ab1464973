#include "sim/sim_script.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "mshm/status.h"

enum { KEYS = 96, STEPS = 20000 };

struct script {
    struct sim_world *world;
    struct sim_client *client; /* NULL: none attached */
    bool ended;                /* a recovery met the planned error */
};

/* --- steps --- */

static bool
over(const struct script *script)
{
    return script->ended || sim_world_over(script->world);
}

static void
idle(struct script *script, uint64_t ns)
{
    uint64_t until = sim_env_now(script->world->sim) + ns;
    while (!over(script) && sim_env_now(script->world->sim) < until) {
        sim_step_core(script->world);
        sim_env_advance(script->world->sim, 20000);
    }
}

static void
attach(struct script *script)
{
    if (over(script))
        return;
    script->client = script->world->clients[0] = sim_client_attach(script->world);
}

/* One commit of `count` keys from `first` on, each `stride` after the one before: puts, or (size 0) deletes. */
static void
write_keys(struct script *script, uint32_t bucket, unsigned first, unsigned count, unsigned stride,
           uint32_t size, bool sync)
{
    struct sim_world *world = script->world;
    for (unsigned done = 0; bucket != 0 && done < count && !over(script);) {
        struct model_op ops[MODEL_OPS];
        uint32_t some = 0;
        for (; some < MODEL_OPS && done < count; some++, done++)
            ops[some] = (struct model_op){
                .bucket = bucket,
                .key = (uint16_t)(first + done * stride),
                .kind = size != 0 ? MSHM_OP_PUT : MSHM_OP_DELETE,
                .size = size,
                .write = size != 0 ? ++world->next_write : 0,
            };
        int status = sim_client_commit(script->client, ops, some, sync);
        if (status != MSHM_OK && !over(script) && !world->error_planned)
            sim_fail(world, "the script's commit was answered with %d", status);
    }
}

static void
control(struct script *script, uint16_t kind, const char *name)
{
    if (over(script))
        return;
    sim_control_send(script->client, kind, name);
    for (int i = 0; i < STEPS && !over(script) && script->client->control.active; i++)
        sim_step_core(script->world);
    if (!over(script) && script->client->control.active)
        sim_fail(script->world, "a message of kind %u is not answered", kind);
}

static void
checkpoint(struct script *script)
{
    control(script, MSHM_MESSAGE_CHECKPOINT, "");
}

static void
evict(struct script *script)
{
    struct sim_world *world = script->world;
    if (over(script))
        return;
    tree_ahead_begin(world->core->tree);
    for (int i = 0; i < 4; i++)
        pages_evict(world->core->pages, world->options.cache_size,
                    sim_env_now(world->sim) + UINT64_C(1000000000));
}

static void
read_all(struct script *script, uint32_t bucket, int lane)
{
    if (over(script) || bucket == 0)
        return;
    struct sim_lane *mine = &script->client->lanes[lane];
    if (!mine->open) {
        mine->open = true;
        mine->snapshot = mshm_snapshot_register(script->world->core->store,
                                                &script->client->segment->lanes[lane]);
    }
    sim_scan_bucket(script->client, lane, bucket);
    while (!over(script) && mine->read.kind != SIM_READ_NONE) {
        sim_step_core(script->world);
        if (!over(script))
            sim_read_go_on(script->client, lane);
    }
}

static void
release(struct script *script, int lane)
{
    if (over(script))
        return;
    mshm_snapshot_release(&script->client->segment->lanes[lane]);
    script->client->lanes[lane] = (struct sim_lane){0};
}

static uint32_t
bucket_id(const struct script *script, const char *name)
{
    struct model_bucket *bucket = model_bucket_named(&script->world->model, name);
    return bucket != NULL ? bucket->id : 0;
}

/* Old versions go to the scratch file. */
static void
history_evict(struct script *script)
{
    struct sim_world *world = script->world;
    bool coming;
    if (over(script))
        return;
    idle(script, 20000000); /* nothing has just been read in */
    if (over(script))
        return;
    tree_history_evict(world->core->tree, world->options.cache_size, sim_env_now(world->sim),
                       &coming);
    idle(script, 20000000);
}

/* --- the history --- */

/* Splits, root splits, a first checkpoint; then few small changes: deltas. */
static void
part_fill(struct script *script)
{
    uint32_t bucket = bucket_id(script, "default");
    write_keys(script, bucket, 0, KEYS, 1, 700, false);
    checkpoint(script);
    for (unsigned i = 0; i < 3; i++) {
        write_keys(script, bucket, i, 3, 31, 20, i == 1);
        checkpoint(script);
    }
}

/* Writes to leaves that are out of memory, some of them before a checkpoint and read in during it. */
static void
part_blind(struct script *script)
{
    uint32_t bucket = bucket_id(script, "default");
    evict(script);
    write_keys(script, bucket, 2, 6, 15, 24, false);
    checkpoint(script);
    evict(script);
    write_keys(script, bucket, 3, 6, 15, 24, true);
    read_all(script, bucket, 1);
    release(script, 1);
    for (unsigned i = 0; i < 5; i++) { /* beyond the longest chain */
        evict(script);
        write_keys(script, bucket, 4 + i, 2, 40, 24, false);
        checkpoint(script);
    }
}

/* An old snapshot is held while its keys are overwritten and its pages leave memory. */
static void
part_history(struct script *script)
{
    uint32_t bucket = bucket_id(script, "default");
    read_all(script, bucket, 1);
    for (unsigned i = 0; i < 6; i++)
        write_keys(script, bucket, 0, 12, 1, 600, false);
    checkpoint(script);
    evict(script);
    read_all(script, bucket, 1);
    history_evict(script);
    evict(script);
    read_all(script, bucket, 1);
    write_keys(script, bucket, 0, 12, 1, 600, false); /* with history out */
    release(script, 1);
    idle(script, 300000000);
}

/* A slow read of the leaf of a key, which nobody waits for. */
static void
ask_slowly(struct script *script, uint32_t bucket, unsigned key)
{
    uint8_t bytes[MODEL_KEY_MAX], value[MODEL_VALUE_MAX];
    struct sim_world *world = script->world;
    const struct catalogue_bucket *found;
    uint64_t size;
    mshm_pid missing;
    if (over(script) || (found = catalogue_get(world->core->catalogue, bucket)) == NULL)
        return;
    struct mshm_tree_ref ref = {.bucket = bucket, .root = found->root};
    for (int i = 0; i < 16 && !over(script); i++) { /* from the root down */
        if (mshm_get(&world->core->view, &script->client->segment->lanes[3], NULL, ref, bytes,
                     model_key_bytes(key, bytes), 0, value, sizeof value, &size, NULL,
                     &missing) != MSHM_BUSY)
            return;
        bool last = missing != ref.root;
        sim_env_set_read_ns(world->sim, last ? UINT64_C(500000000) : 0);
        uint64_t asked = sim_page_in(script->client, -1, &missing, 1);
        if (last || asked == 0)
            break;
        sim_request_wait(script->client, asked - 1);
    }
    idle(script, 100000);
    sim_env_set_read_ns(world->sim, 0);
}

static void
part_bucket(struct script *script)
{
    control(script, MSHM_MESSAGE_BUCKET_CREATE, "b1");
    write_keys(script, bucket_id(script, "b1"), 0, 40, 1, 900, false);
    checkpoint(script);
    evict(script);
    ask_slowly(script, bucket_id(script, "b1"),
               20); /* the bucket is dropped meanwhile, its files die */
    control(script, MSHM_MESSAGE_BUCKET_DROP, "b1");
    idle(script, 30000000);
    checkpoint(script);
    idle(script, 20000000);
    control(script, MSHM_MESSAGE_BUCKET_CREATE, "b1");
    write_keys(script, bucket_id(script, "b1"), 0, 8, 3, 900, true);
    checkpoint(script);
}

/* Deletes until pages merge and the root loses a level, and everything is written again: files die. */
static void
part_delete(struct script *script)
{
    uint32_t bucket = bucket_id(script, "default");
    write_keys(script, bucket, 8, KEYS - 16, 1, 0, false);
    idle(script, 60000000);
    checkpoint(script);
    evict(script);
    idle(script, 20000000);
    write_keys(script, bucket, 0, 8, 1, 500, true);
    checkpoint(script);
}

/* Enough log for its segments to come round, enough edits for a new manifest. */
static void
part_rounds(struct script *script)
{
    uint32_t bucket = bucket_id(script, "default");
    for (unsigned i = 0; i < 8; i++) {
        write_keys(script, bucket, 0, 24, 1, 1000, i % 2 == 0);
        checkpoint(script);
    }
}

static void
stop(struct script *script)
{
    struct sim_world *world = script->world;
    if (over(script))
        return;
    sim_awaken(world);
    core_stop(world->core);
    for (int i = 0; i < STEPS && !over(script) && !core_stopped(world->core); i++)
        sim_step_core(world);
    if (over(script))
        return;
    if (!core_stopped(world->core))
        sim_fail(world, "a stop does not end");
    world->durable = world->acked;
    world->untidy = sim_env_failed(world->sim);
    sim_check_files(world);
}

/* A process that goes on where the one before it ended. */
static void
again(struct script *script, bool power_cut)
{
    if (over(script))
        return;
    sim_world_die(script->world, power_cut);
    sim_world_bury(script->world);
    script->client = NULL;
    script->ended = !sim_script_recover(script->world);
    attach(script);
}

/* A process that serves, and nothing is compared yet. */
static bool
recover_only(struct sim_world *world)
{
    char why[256] = "";
    int status;
    if (sim_world_recover(world, &status, why, sizeof why))
        return true;
    if (!sim_env_dead(world->sim) && !sim_env_failed(world->sim))
        sim_fail(world, "recovery refused with %d: %s", status, why);
    return false;
}

/* More is in the log than a small cache can hold: the replay makes checkpoints on its way, and the next one begins there. */
static void
part_replay(struct script *script)
{
    struct sim_world *world = script->world;
    world->options.cache_size = UINT64_C(4) << 20;
    again(script, false);
    write_keys(script, bucket_id(script, "default"), 256, 600, 1, 1000, false);
    world->options.cache_size = UINT64_C(1) << 20;
    if (over(script))
        return;
    sim_world_die(world, false);
    sim_world_bury(world);
    script->client = NULL;
    script->ended = !recover_only(world);
    if (!over(script) && !world->error_planned &&
        AO_load(&world->core->figures->counters.checkpoints) == 0)
        sim_fail(world, "the replay made no checkpoint");
    again(script, true);
}

bool
sim_script_recover(struct sim_world *world)
{
    if (!recover_only(world))
        return false;
    /* What could not be removed stays for another time; and the script has reads of its own to die at. */
    world->untidy = sim_env_failed(world->sim);
    sim_env_set_looking(world->sim, true);
    sim_check_recovered(world);
    sim_env_set_looking(world->sim, false);
    sim_world_past_free(world);
    world->statistics.incarnations++;
    return !sim_world_over(world);
}

void
sim_script_options(struct sim_world *world)
{
    struct core_options *options = &world->options;
    options->cache_size = UINT64_C(1) << 20;
    options->map_capacity = 4096;
    options->page_size = 4096;
    options->segment_size = 65536;
    options->data_file_size = 65536;
    options->max_sessions = 16;
    options->history_size = UINT64_C(1) << 20;
    world->keys = KEYS;
}

bool
sim_script_run(struct sim_world *world)
{
    struct script script = {.world = world};
    if (!sim_script_recover(world))
        return false;
    attach(&script);
    part_fill(&script);
    part_blind(&script);
    write_keys(&script, bucket_id(&script, "default"), 5, 10, 9, 40, true); /* to be replayed */
    again(&script, false);
    part_history(&script);
    part_bucket(&script);
    write_keys(&script, bucket_id(&script, "default"), 7, 10, 9, 800, false);
    control(&script, MSHM_MESSAGE_BUCKET_DROP, "b1");
    again(&script, true);
    part_delete(&script);
    part_rounds(&script);
    write_keys(&script, bucket_id(&script, "default"), 40, 8, 1, 300, true);
    stop(&script);
    part_replay(&script);
    write_keys(&script, bucket_id(&script, "default"), 50, 8, 1, 300, true);
    stop(&script);
    return !over(&script);
}
