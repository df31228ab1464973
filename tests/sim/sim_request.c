/* sim_request.c - what clients ask for through their rings: commits, one-call operations, syncs, pages; and the answers. */
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "mshm/status.h"
#include "sim/sim_world.h"

enum { OPS_BYTES = 80 << 10 };

/* --- requests --- */

uint32_t
sim_bucket_choose(struct sim_world *world)
{
    uint32_t living[MODEL_BUCKETS], count = 0;
    for (int i = 0; i < MODEL_BUCKETS; i++)
        if (world->model.buckets[i] != NULL && world->model.buckets[i]->dropped == 0)
            living[count++] = world->model.buckets[i]->id;
    if (count == 0) {
        sim_fail(world, "there is no bucket");
        return 0;
    }
    return living[sim_below(world, count)];
}

static uint32_t
size_choose(struct sim_world *world, uint32_t bucket)
{
    uint32_t limit = catalogue_inline_limit(world->core->catalogue, bucket);
    uint64_t kind = sim_below(world, 20);
    uint64_t size = kind < 10   ? sim_below(world, 64)
                    : kind < 16 ? sim_below(world, 400)
                    : kind < 19 ? sim_below(world, 1000)
                                : sim_below(world, MODEL_VALUE_MAX);
    if (world->fat)
        size = sim_below(world, MODEL_VALUE_MAX);
    if (size < 8)
        size = 8; /* room for the number of the write */
    return (uint32_t)(limit != 0 && size > limit ? limit : size);
}

static int
op_compare(const void *a, const void *b)
{
    const struct model_op *left = a, *right = b;
    if (left->bucket != right->bucket)
        return left->bucket < right->bucket ? -1 : 1;
    return (int)left->key - (int)right->key;
}

/* Half of all fall into a window that moves slowly, so that some pages change often and others never. */
unsigned
sim_key_choose(struct sim_world *world)
{
    if (sim_chance(world, 50))
        return (unsigned)sim_below(world, world->keys);
    return (unsigned)((world->next_write / 64 + sim_below(world, 12)) % world->keys);
}

static void
op_fill(struct sim_world *world, struct model_op *op)
{
    if (op->kind != MSHM_OP_PUT && op->kind != MSHM_OP_INSERT && op->kind != MSHM_OP_UPDATE)
        return;
    op->write = ++world->next_write;
    op->size = size_choose(world, op->bucket);
}

static struct model_op
op_choose(struct sim_world *world, bool one_call)
{
    static const uint8_t kinds[] = {MSHM_OP_PUT,    MSHM_OP_PUT,    MSHM_OP_DELETE,
                                    MSHM_OP_INSERT, MSHM_OP_UPDATE, MSHM_OP_DELETE_EXISTING};
    struct model_op op = {.bucket = sim_bucket_choose(world)};
    op.key = (uint16_t)sim_key_choose(world);
    op.kind = kinds[sim_below(world, one_call ? 6 : 3)];
    op_fill(world, &op);
    return op;
}

/* Key after key, around and around: fills the database, or empties it. */
static uint32_t
ops_sweep(struct sim_world *world, struct model_op *ops)
{
    uint32_t bucket = sim_bucket_choose(world), count = 0;
    while (count < MODEL_OPS && (count == 0 || world->cursor % world->keys != 0)) {
        struct model_op *op = &ops[count++];
        *op = (struct model_op){.bucket = bucket,
                                .key = (uint16_t)(world->cursor++ % world->keys),
                                .kind =
                                    world->phase == SIM_PHASE_LOAD ? MSHM_OP_PUT : MSHM_OP_DELETE};
        op_fill(world, op);
    }
    return count;
}

static uint32_t
ops_choose(struct sim_world *world, struct model_op *ops)
{
    if (world->phase != SIM_PHASE_MIXED && sim_chance(world, 80))
        return ops_sweep(world, ops);
    uint32_t count = 1 + (uint32_t)sim_below(world, MODEL_OPS), kept = 0;
    for (uint32_t i = 0; i < count; i++)
        ops[i] = op_choose(world, false);
    qsort(ops, count, sizeof *ops, op_compare);
    for (uint32_t i = 0; i < count; i++)
        if (i == 0 || op_compare(&ops[kept - 1], &ops[i]) != 0)
            ops[kept++] = ops[i];
    return kept;
}

static uint64_t
ops_write(const struct model_op *ops, uint32_t count, uint8_t *to)
{
    static uint8_t value[MODEL_VALUE_MAX];
    uint8_t key[MODEL_KEY_MAX];
    uint64_t size = 0;
    for (uint32_t i = 0; i < count; i++) {
        size_t key_size = model_key_bytes(ops[i].key, key);
        model_value_bytes(ops[i].write, ops[i].size, value);
        size += mshm_op_write(to + size, ops[i].bucket, ops[i].kind, key, (uint16_t)key_size, value,
                              ops[i].size);
    }
    return size;
}

static uint64_t
pids_write(const struct sim_request *request, uint8_t *to)
{
    uint64_t size = request->count * sizeof *request->pids;
    memcpy(to, request->pids, size);
    memset(to + size, 0, sizeof(uint64_t));
    return mshm_align_up(size, 8);
}

static struct sim_request *
request_new(struct sim_client *client)
{
    if (client->count == client->capacity) {
        client->capacity = client->capacity != 0 ? client->capacity * 2 : 32;
        client->requests = realloc(client->requests, client->capacity * sizeof *client->requests);
        assert(client->requests != NULL);
    }
    struct sim_request *request = &client->requests[client->count++];
    *request = (struct sim_request){.lane = -1,
                                    .reader = -1,
                                    .snapshot = UINT64_MAX,
                                    .visible_before = client->world->core->visible,
                                    .acked_before = client->world->acked};
    return request;
}

static unsigned int *
waiting_word(struct sim_client *client, const struct sim_request *request)
{
    return &client->segment->waiting[(request->sequence - 1) % MSHM_RING_CAPACITY];
}

/* As mshm_completion_wait does before FUTEX_WAIT: false when the answer is there already. */
static bool
request_sleep(struct sim_client *client, const struct sim_request *request)
{
    int status;
    mshm_timestamp timestamp;
    AO_int_store(waiting_word(client, request), 1);
    mshm_full_fence(); /* pairs with the fence between the broker's answers and its look at `waiting` */
    return !mshm_completion_take(client->segment, request->sequence, &status, &timestamp);
}

void
sim_client_wake(struct sim_client *client, const unsigned int *word)
{
    for (uint64_t i = client->taken; i < client->count; i++) {
        struct sim_request *request = &client->requests[i];
        unsigned place = (unsigned)((request->sequence - 1) % MSHM_RING_CAPACITY);
        if (word == &client->segment->completions[place].done)
            request->sleeping = false;
    }
}

/* Publishes what stands in the newest request; takes it back when ring or arena have no room. */
static bool
request_publish(struct sim_client *client)
{
    static _Alignas(8) uint8_t bytes[OPS_BYTES];
    struct sim_request *request = &client->requests[client->count - 1];
    uint64_t offset = 0;
    int wake = 0;
    uint64_t size = request->kind == MSHM_REQUEST_PAGE_IN
                        ? pids_write(request, bytes)
                        : ops_write(request->ops, request->count, bytes);
    if (client->flight >= SIM_FLIGHT || !mshm_producer_room(&client->producer, client->taken) ||
        (size > 0 && mshm_producer_arena(&client->producer, size, &offset) != MSHM_OK)) {
        client->count--;
        return false;
    }
    memcpy((uint8_t *)client->segment + MSHM_SESSION_ARENA + offset, bytes, size);
    unsigned lane = request->lane >= 0 ? (unsigned)request->lane : 0;
    request->sequence = mshm_producer_publish(
        &client->producer, request->kind, request->sync ? MSHM_REQUEST_LEVEL_SYNC : 0, lane, lane,
        request->lane >= 0 ? request->snapshot : 0, offset, size, request->count, &wake);
    assert(request->sequence == client->count);
    client->flight++;
    client->doorbell = client->doorbell || wake != 0;
    if (sim_chance(client->world, 30)) /* goes to sleep at once */
        request->sleeping = request_sleep(client, request);
    return true;
}

void
sim_commit(struct sim_client *client, int lane)
{
    struct sim_request *request = request_new(client);
    request->kind = MSHM_REQUEST_COMMIT;
    request->sync = sim_chance(client->world, 30);
    request->lane = lane;
    request->snapshot = client->lanes[lane].snapshot;
    request->count = ops_choose(client->world, request->ops);
    if (request_publish(client))
        client->lanes[lane].committing = true;
}

void
sim_one_call(struct sim_client *client)
{
    struct sim_request *request = request_new(client);
    request->kind = MSHM_REQUEST_ONE_CALL;
    request->sync = sim_chance(client->world, 30);
    request->count = 1;
    request->ops[0] = op_choose(client->world, true);
    request_publish(client);
}

void
sim_sync(struct sim_client *client)
{
    struct sim_request *request = request_new(client);
    request->kind = MSHM_REQUEST_SYNC;
    request_publish(client);
}

uint64_t
sim_page_in(struct sim_client *client, int reader, const mshm_pid *pids, uint32_t count)
{
    struct sim_request *request = request_new(client);
    request->kind = MSHM_REQUEST_PAGE_IN;
    request->reader = reader;
    request->count = count < SIM_PIDS ? count : SIM_PIDS;
    memcpy(request->pids, pids, request->count * sizeof *pids);
    client->world->statistics.page_ins++;
    return request_publish(client) ? client->count : 0;
}

bool
sim_request_wait(struct sim_client *client, uint64_t index)
{
    struct sim_world *world = client->world;
    for (int i = 0; i < 100000 && !client->requests[index].answered && !sim_world_over(world); i++)
        sim_step_core(world);
    return client->requests[index].answered;
}

void
sim_client_harvest(struct sim_client *client)
{
    bool gap = false;
    for (uint64_t i = client->taken; i < client->count; i++) {
        struct sim_request *request = &client->requests[i];
        if (!request->answered && mshm_completion_take(client->segment, request->sequence,
                                                       &request->status, &request->timestamp)) {
            request->answered = true;
            client->flight--;
            AO_int_store(waiting_word(client, request), 0);
            if (request->sleeping && client->session != NULL && !sim_env_dead(client->world->sim))
                sim_fail(client->world, "an answer was posted and its waiter is not woken");
            if (request->reader >= 0)
                sim_read_answer(client, request);
            if (request->lane >= 0) {
                mshm_snapshot_release(&client->segment->lanes[request->lane]);
                client->lanes[request->lane] = (struct sim_lane){0};
            }
            sim_check_answer(client, request);
        }
        gap = gap || !request->answered;
        if (!gap)
            client->taken = i + 1;
    }
}

int
sim_client_commit(struct sim_client *client, const struct model_op *ops, uint32_t count, bool sync)
{
    enum { LANE = 2 };
    struct sim_world *world = client->world;
    mshm_timestamp snapshot =
        mshm_snapshot_register(world->core->store, &client->segment->lanes[LANE]);
    client->lanes[LANE] = (struct sim_lane){.open = true, .committing = true, .snapshot = snapshot};
    struct sim_request *request = request_new(client);
    request->kind = MSHM_REQUEST_COMMIT;
    request->sync = sync;
    request->lane = LANE;
    request->snapshot = snapshot;
    request->count = count;
    memcpy(request->ops, ops, count * sizeof *ops);
    if (!request_publish(client))
        return MSHM_BUSY;
    uint64_t index = client->count - 1;
    return sim_request_wait(client, index) ? client->requests[index].status : MSHM_BUSY;
}

int
sim_client_demand(struct sim_client *client, unsigned key, bool put)
{
    struct sim_world *world = client->world;
    struct sim_request *request = request_new(client);
    struct model_bucket *bucket = model_bucket_named(&world->model, "default");
    request->kind = MSHM_REQUEST_ONE_CALL;
    request->sync = true;
    request->count = 1;
    request->ops[0] = (struct model_op){.bucket = bucket->id,
                                        .key = (uint16_t)key,
                                        .kind = put ? MSHM_OP_PUT : MSHM_OP_DELETE,
                                        .size = put ? 8 : 0,
                                        .write = put ? ++world->next_write : 0};
    if (!request_publish(client))
        return MSHM_BUSY;
    uint64_t index = client->count - 1;
    return sim_request_wait(client, index) ? client->requests[index].status : MSHM_BUSY;
}
