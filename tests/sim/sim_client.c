/* sim_client.c - a client process as a machine of small steps, on a session segment in plain memory. */
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "mshm/status.h"
#include "sim/sim_world.h"

enum { OPS_BYTES = 80 << 10 };

static const char *const bucket_names[] = {"b1", "b2"};

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

static struct model_op
op_choose(struct sim_world *world, bool one_call)
{
    static const uint8_t kinds[] = {MSHM_OP_PUT,    MSHM_OP_PUT,    MSHM_OP_DELETE,
                                    MSHM_OP_INSERT, MSHM_OP_UPDATE, MSHM_OP_DELETE_EXISTING};
    struct model_op op = {.bucket = sim_bucket_choose(world)};
    op.key = (uint16_t)sim_below(world, world->keys);
    op.kind = kinds[sim_below(world, one_call ? 6 : 3)];
    if (op.kind == MSHM_OP_PUT || op.kind == MSHM_OP_INSERT || op.kind == MSHM_OP_UPDATE) {
        op.write = ++world->next_write;
        op.size = size_choose(world, op.bucket);
    }
    return op;
}

static uint32_t
ops_choose(struct sim_world *world, struct model_op *ops)
{
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
    uint64_t size = ops_write(request->ops, request->count, bytes);
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

static void
start_commit(struct sim_client *client, int lane)
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

static void
start_one_call(struct sim_client *client)
{
    struct sim_request *request = request_new(client);
    request->kind = MSHM_REQUEST_ONE_CALL;
    request->sync = sim_chance(client->world, 30);
    request->count = 1;
    request->ops[0] = op_choose(client->world, true);
    request_publish(client);
}

static void
start_sync(struct sim_client *client)
{
    struct sim_request *request = request_new(client);
    request->kind = MSHM_REQUEST_SYNC;
    request_publish(client);
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

/* --- control messages --- */

static void
control_send(struct sim_client *client, uint16_t kind, const char *name)
{
    struct sim_world *world = client->world;
    union {
        struct mshm_message head;
        struct mshm_bucket_message bucket;
        struct mshm_value_message value;
        struct mshm_lookup lookup;
    } message;
    size_t size = sizeof message.head;
    memset(&message, 0, sizeof message);
    if (kind == MSHM_MESSAGE_BUCKET_CREATE || kind == MSHM_MESSAGE_BUCKET_DROP ||
        kind == MSHM_MESSAGE_BUCKET_OPEN || kind == MSHM_MESSAGE_BUCKET_LIST) {
        size = sizeof message.bucket;
        message.bucket.name_size = (uint16_t)strlen(name);
        memcpy(message.bucket.name, name, strlen(name));
    } else if (kind == MSHM_MESSAGE_ARENA_GROW || kind == MSHM_MESSAGE_SESSIONS) {
        size = sizeof message.value;
        message.value.value = kind == MSHM_MESSAGE_SESSIONS ? 0 : MSHM_ARENA_INITIAL * 2;
    } else if (kind == MSHM_MESSAGE_LOOKUP) {
        size = sizeof message.lookup;
        message.lookup.incarnation = core_incarnation(world->core); /* the running one: not known */
    }
    message.head = (struct mshm_message){.magic = MSHM_MESSAGE_MAGIC,
                                         .kind = kind,
                                         .version = MSHM_LAYOUT_VERSION,
                                         .size = (uint32_t)size};
    client->control =
        (struct sim_control){.active = true, .kind = kind, .acked_before = world->acked};
    snprintf(client->control.name, sizeof client->control.name, "%s", name);
    sim_awaken(world);
    if (core_control(world->core, client->session, &message, size) != MSHM_OK)
        sim_fail(world, "a control message of kind %u was called invalid", kind);
}

static void
start_control(struct sim_client *client)
{
    static const uint16_t kinds[] = {
        MSHM_MESSAGE_BUCKET_CREATE, MSHM_MESSAGE_BUCKET_CREATE, MSHM_MESSAGE_BUCKET_DROP,
        MSHM_MESSAGE_BUCKET_OPEN,   MSHM_MESSAGE_BUCKET_LIST,   MSHM_MESSAGE_ARENA_GROW,
        MSHM_MESSAGE_SYNC,          MSHM_MESSAGE_SYNC,          MSHM_MESSAGE_CHECKPOINT,
        MSHM_MESSAGE_LOOKUP,        MSHM_MESSAGE_SESSIONS};
    struct sim_world *world = client->world;
    uint16_t kind = kinds[sim_below(world, sizeof kinds / sizeof *kinds)];
    control_send(client, kind, bucket_names[sim_below(world, 2)]);
}

static mshm_timestamp
entry_timestamp(struct sim_world *world, uint64_t id, bool dropped)
{
    const struct mshm_catalogue_entry *entries = world->core->view.catalogue;
    for (uint64_t i = 0; i < world->core->view.catalogue_capacity; i++)
        if (AO_load(&entries[i].id) == id)
            return AO_load(dropped ? &entries[i].dropped : &entries[i].created);
    return 0;
}

static void
reply_changed(struct sim_client *client, const struct mshm_bucket_message *message)
{
    struct sim_world *world = client->world;
    bool created = client->control.kind == MSHM_MESSAGE_BUCKET_CREATE;
    struct model_bucket *bucket = model_bucket_named(&world->model, client->control.name);
    uint64_t id = created ? message->id : bucket != NULL ? bucket->id : 0;
    mshm_timestamp timestamp = entry_timestamp(world, id, !created);
    if (created == (bucket != NULL) || timestamp == 0 || timestamp > world->core->visible ||
        !model_know_own(&world->model, timestamp)) {
        sim_fail(world, "the change of bucket \"%s\" cannot be right", client->control.name);
        return;
    }
    if (created)
        model_bucket_add(&world->model, (uint32_t)id, client->control.name, timestamp);
    else
        bucket->dropped = timestamp;
    if (timestamp > world->acked)
        world->acked = timestamp;
    if (timestamp > world->durable)
        world->durable = timestamp;
}

void
sim_client_reply(struct sim_client *client, const void *message, size_t size)
{
    struct sim_world *world = client->world;
    struct mshm_message head;
    if (sim_env_dead(world->sim))
        return; /* said by a dead process: nobody hears it */
    assert(size >= sizeof head);
    memcpy(&head, message, sizeof head);
    if (!client->control.active || head.kind != client->control.kind) {
        sim_fail(world, "a reply of kind %u that was not asked for", head.kind);
        return;
    }
    if (core_poisoned(world->core) && head.status != MSHM_OK)
        return; /* what became of it the recovery tells */
    bool sync = head.kind == MSHM_MESSAGE_SYNC || head.kind == MSHM_MESSAGE_CHECKPOINT;
    if (head.status == MSHM_OK &&
        (head.kind == MSHM_MESSAGE_BUCKET_CREATE || head.kind == MSHM_MESSAGE_BUCKET_DROP))
        reply_changed(client, message);
    else if (sync && head.status == MSHM_OK && client->control.acked_before > world->durable)
        world->durable = client->control.acked_before;
    else if (sync && head.status != MSHM_OK)
        sim_fail(world, "a sync by message was answered with %d", head.status);
    client->control.active = false;
}

/* --- steps --- */

static void
lane_step(struct sim_client *client, int lane)
{
    struct sim_world *world = client->world;
    struct sim_lane *mine = &client->lanes[lane];
    if (mine->committing)
        return;
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
        start_commit(client, lane);
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
        start_one_call(client);
    } else if (choice < 900) {
        sim_read_key(client, -1);
    } else if (choice < 960) {
        unsigned index = (unsigned)sim_below(world, SIM_BRACKETS);
        if (client->brackets[index].open)
            sim_bracket_end(client, index);
        else
            sim_bracket_open(client, index);
    } else if (choice < 975) {
        start_sync(client);
    } else if (!client->control.active) {
        start_control(client);
    }
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
    for (int i = 0; i < 100000 && !client->requests[index].answered && !world->failed &&
                    !sim_env_dead(world->sim);
         i++)
        sim_step_core(world);
    return client->requests[index].answered ? client->requests[index].status : MSHM_BUSY;
}
