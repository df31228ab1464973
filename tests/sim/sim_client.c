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

static uint32_t
bucket_choose(struct sim_world *world)
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
    struct model_op op = {.bucket = bucket_choose(world)};
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

/* --- reading --- */

static bool
bucket_ref(struct sim_world *world, uint32_t id, struct mshm_tree_ref *ref)
{
    const struct catalogue_bucket *bucket = catalogue_get(world->core->catalogue, id);
    if (bucket == NULL)
        return false; /* a drop is under way */
    *ref = (struct mshm_tree_ref){.bucket = id, .root = bucket->root};
    return true;
}

static void
compare_value(struct sim_world *world, uint32_t bucket, unsigned key, mshm_timestamp snapshot,
              bool found, const uint8_t *value, uint64_t size)
{
    static uint8_t expected[MODEL_VALUE_MAX];
    struct model_version version;
    bool exists = model_read(&world->model, bucket, key, snapshot, &version);
    world->statistics.reads++;
    if (exists)
        model_value_bytes(version.write, version.size, expected);
    if (exists != found)
        sim_fail(world, "read of bucket %u key %u at %llu: %s (P1)", bucket, key,
                 (unsigned long long)snapshot, found ? "something" : "nothing");
    else if (exists && (size != version.size || memcmp(value, expected, size) != 0))
        sim_fail(world, "read of bucket %u key %u at %llu: a wrong value (P1)", bucket, key,
                 (unsigned long long)snapshot);
}

/* A get in the lane's snapshot, or (lane < 0) a one-call get. */
static void
read_key(struct sim_client *client, int lane)
{
    static uint8_t buffer[MODEL_VALUE_MAX];
    struct sim_world *world = client->world;
    uint8_t bytes[MODEL_KEY_MAX];
    struct mshm_tree_ref ref;
    uint32_t bucket = bucket_choose(world);
    unsigned key = (unsigned)sim_below(world, world->keys);
    mshm_timestamp snapshot = lane >= 0 ? client->lanes[lane].snapshot : 0;
    unsigned place = lane >= 0 ? (unsigned)lane : SIM_LANES - 1;
    uint64_t size = 0;
    mshm_pid missing;
    if (!bucket_ref(world, bucket, &ref))
        return;
    int status = mshm_get(&world->core->view, &client->segment->lanes[place],
                          lane >= 0 ? &client->segment->expired[lane] : NULL, ref, bytes,
                          model_key_bytes(key, bytes), snapshot, buffer, sizeof buffer, &size, NULL,
                          &missing);
    if (status == MSHM_SNAPSHOT_EXPIRED && lane >= 0) {
        world->statistics.expired++;
        mshm_snapshot_release(&client->segment->lanes[lane]);
        client->lanes[lane] = (struct sim_lane){0};
    } else if (status != MSHM_OK && status != MSHM_NOT_FOUND) {
        sim_fail(world, "read of bucket %u key %u at %llu: status %d", bucket, key,
                 (unsigned long long)snapshot, status);
    } else {
        compare_value(world, bucket, key, lane >= 0 ? snapshot : world->core->visible,
                      status == MSHM_OK, buffer, size);
    }
}

/* What a scan meets next: the number of the first key >= `from` that exists at the snapshot; world->keys = none. */
static unsigned
next_existing(struct sim_world *world, uint32_t bucket, unsigned from, mshm_timestamp snapshot)
{
    struct model_version version;
    while (from < world->keys && !model_read(&world->model, bucket, from, snapshot, &version))
        from++;
    return from;
}

/* One copied leaf of a scan: moves *expected on; false when the scan is over. */
static bool
scan_leaf(struct sim_client *client, uint32_t bucket, mshm_timestamp snapshot, void *copy,
          uint32_t copy_size, unsigned *expected)
{
    static struct mshm_leaf_iterator iterator;
    struct sim_world *world = client->world;
    struct mshm_version version;
    int status = mshm_leaf_iterator_init(&iterator, copy, copy_size);
    while (status == MSHM_OK &&
           (status = mshm_leaf_iterator_next(&iterator, snapshot, &version)) == MSHM_OK) {
        uint8_t bytes[MODEL_KEY_MAX];
        if (version.kind == 0)
            return false; /* only history knows: a get's business */
        if (version.kind == MSHM_ENTRY_TOMBSTONE)
            continue;
        *expected = next_existing(world, bucket, *expected, snapshot);
        size_t size = model_key_bytes(*expected < world->keys ? *expected : 0, bytes);
        if (*expected == world->keys || version.key_size != size ||
            memcmp(version.key, bytes, size) != 0) {
            sim_fail(world, "a scan of bucket %u at %llu misses or invents a key (P1)", bucket,
                     (unsigned long long)snapshot);
            return false;
        }
        compare_value(world, bucket, *expected, snapshot, true, version.value, version.value_size);
        ++*expected;
    }
    if (status != MSHM_NOT_FOUND)
        sim_fail(world, "a scan of bucket %u: a leaf's copy is damaged: %d", bucket, status);
    return status == MSHM_NOT_FOUND;
}

static void
scan(struct sim_client *client, int lane)
{
    static _Alignas(64) uint8_t copy[MSHM_MAX_FRAME];
    struct sim_world *world = client->world;
    mshm_timestamp snapshot = client->lanes[lane].snapshot;
    uint8_t key[MSHM_MAX_KEY];
    size_t key_size = 0;
    unsigned expected = 0;
    struct mshm_tree_ref ref;
    uint32_t bucket = bucket_choose(world), copy_size;
    mshm_pid missing;
    if (!bucket_ref(world, bucket, &ref))
        return;
    world->statistics.scans++;
    for (int leaves = 0; leaves < 1000; leaves++) {
        struct mshm_fences fences;
        int status = mshm_leaf_copy(&world->core->view, &client->segment->lanes[lane],
                                    &client->segment->expired[lane], ref, snapshot, MSHM_LEAF_AT,
                                    key, key_size, 0, copy, &copy_size, &missing);
        if (status == MSHM_SNAPSHOT_EXPIRED)
            return;
        if (status != MSHM_OK) {
            sim_fail(world, "a scan of bucket %u: status %d", bucket, status);
            return;
        }
        if (!scan_leaf(client, bucket, snapshot, copy, copy_size, &expected))
            return;
        if (mshm_page_fences(copy, copy_size, &fences) != MSHM_OK) {
            sim_fail(world, "a scan of bucket %u: damaged fences", bucket);
            return;
        }
        if (fences.high_size == MSHM_FENCE_INFINITE)
            break;
        memcpy(key, fences.high, fences.high_size);
        key_size = fences.high_size;
    }
    if (next_existing(world, bucket, expected, snapshot) != world->keys)
        sim_fail(world, "a scan of bucket %u at %llu ends too early (P1)", bucket,
                 (unsigned long long)snapshot);
}

/* --- readers that stop inside a bracket --- */

static void
bracket_open(struct sim_client *client, unsigned index)
{
    struct sim_world *world = client->world;
    struct sim_bracket *bracket = &client->brackets[index];
    struct mshm_lane *lane = &client->segment->lanes[SIM_LANES + index];
    uint8_t bytes[MODEL_KEY_MAX];
    struct mshm_tree_ref ref;
    mshm_pid leaf;
    bracket->bucket = bucket_choose(world);
    bracket->key = (unsigned)sim_below(world, world->keys);
    if (!bucket_ref(world, bracket->bucket, &ref))
        return;
    bracket->snapshot = mshm_snapshot_register(world->core->store, lane);
    bracket->epoch = mshm_bracket_open(world->core->store, lane);
    size_t size = model_key_bytes(bracket->key, bytes);
    int status = mshm_descend(&world->core->view, ref, ref.root, bytes, size, 0, &bracket->frame,
                              &bracket->frame_size, &leaf);
    bracket->open = status == MSHM_OK;
    if (bracket->open)
        return;
    sim_fail(world, "a descent failed with %d", status);
    mshm_bracket_close(world->core->store, lane, bracket->epoch);
    mshm_snapshot_release(lane);
}

/* The frame found long ago must still hold what the snapshot saw, unless the bracket was revoked. */
static void
bracket_end(struct sim_client *client, unsigned index)
{
    struct sim_world *world = client->world;
    struct sim_bracket *bracket = &client->brackets[index];
    struct mshm_lane *lane = &client->segment->lanes[SIM_LANES + index];
    uint8_t bytes[MODEL_KEY_MAX];
    static uint8_t value[MODEL_VALUE_MAX];
    struct mshm_version version = {0};
    size_t size = model_key_bytes(bracket->key, bytes);
    int found = mshm_leaf_get(bracket->frame, bracket->frame_size, bytes, size,
                              mshm_key_hash(bytes, size), bracket->snapshot, NULL, &version, NULL);
    bool usable = found == MSHM_FOUND_VERSION && version.value_size <= sizeof value;
    if (usable)
        memcpy(value, version.value, version.value_size);
    int revoked = mshm_bracket_close(world->core->store, lane, bracket->epoch);
    int expired =
        mshm_snapshot_expired(&client->segment->expired[SIM_LANES + index], bracket->snapshot);
    mshm_snapshot_release(lane);
    bracket->open = false;
    world->statistics.brackets++;
    world->statistics.revoked += revoked != 0;
    if (revoked || expired || found == MSHM_FOUND_NEWER)
        return;
    if (found != MSHM_FOUND_NOTHING && !usable)
        sim_fail(world, "a frame changed under an open bracket: %d", found);
    else
        compare_value(world, bracket->bucket, bracket->key, bracket->snapshot,
                      usable && version.kind != MSHM_ENTRY_TOMBSTONE, value, version.value_size);
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
        read_key(client, lane);
    } else if (choice < 50) {
        scan(client, lane);
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
                    bracket_end(client, i);
    } else if (choice < 850) {
        start_one_call(client);
    } else if (choice < 900) {
        read_key(client, -1);
    } else if (choice < 960) {
        unsigned index = (unsigned)sim_below(world, SIM_BRACKETS);
        if (client->brackets[index].open)
            bracket_end(client, index);
        else
            bracket_open(client, index);
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
