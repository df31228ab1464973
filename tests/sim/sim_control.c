/* sim_control.c - what clients ask for over their sockets: buckets, syncs, checkpoints, look-ups. */
#include <assert.h>
#include <stdio.h>
#include <string.h>

#include "mshm/status.h"
#include "sim/sim_world.h"

static const char *const bucket_names[] = {"b1", "b2"};

/* --- control messages --- */

void
sim_control_send(struct sim_client *client, uint16_t kind, const char *name)
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
        kind == MSHM_MESSAGE_BUCKET_ALTER || kind == MSHM_MESSAGE_BUCKET_OPEN ||
        kind == MSHM_MESSAGE_BUCKET_LIST) {
        size = sizeof message.bucket;
        if (kind == MSHM_MESSAGE_BUCKET_CREATE && sim_chance(world, 50))
            message.bucket.page_size = 4096u << sim_below(world, 3);
        if (kind == MSHM_MESSAGE_BUCKET_CREATE || kind == MSHM_MESSAGE_BUCKET_ALTER)
            message.bucket.compression = 1 + (uint32_t)sim_below(world, 2);
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

void
sim_control(struct sim_client *client)
{
    static const uint16_t kinds[] = {
        MSHM_MESSAGE_BUCKET_CREATE, MSHM_MESSAGE_BUCKET_CREATE, MSHM_MESSAGE_BUCKET_DROP,
        MSHM_MESSAGE_BUCKET_OPEN,   MSHM_MESSAGE_BUCKET_ALTER,  MSHM_MESSAGE_BUCKET_LIST,
        MSHM_MESSAGE_ARENA_GROW,    MSHM_MESSAGE_SYNC,          MSHM_MESSAGE_SYNC,
        MSHM_MESSAGE_CHECKPOINT,    MSHM_MESSAGE_LOOKUP,        MSHM_MESSAGE_SESSIONS};
    struct sim_world *world = client->world;
    uint16_t kind = kinds[sim_below(world, sizeof kinds / sizeof *kinds)];
    sim_control_send(client, kind, bucket_names[sim_below(world, 2)]);
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
    if (head.kind == MSHM_MESSAGE_CHECKPOINT && head.status == MSHM_FULL && world->was_full) {
        client->control.active = false; /* it is made when there is room */
        return;
    }
    if (head.status == MSHM_OK &&
        (head.kind == MSHM_MESSAGE_BUCKET_CREATE || head.kind == MSHM_MESSAGE_BUCKET_DROP))
        reply_changed(client, message);
    else if (head.status == MSHM_OK && head.kind == MSHM_MESSAGE_BUCKET_ALTER)
        world->alters++;
    else if (sync && head.status == MSHM_OK && client->control.acked_before > world->durable)
        world->durable = client->control.acked_before;
    else if (sync && head.status != MSHM_OK)
        sim_fail(world, "a sync by message was answered with %d", head.status);
    client->control.active = false;
}
