/* sim_reader.c - what clients read, held against the model: gets, scans, and brackets that stay open for long. */
#include <string.h>

#include "mshm/status.h"
#include "sim/sim_world.h"

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
void
sim_read_key(struct sim_client *client, int lane)
{
    static uint8_t buffer[MODEL_VALUE_MAX];
    struct sim_world *world = client->world;
    uint8_t bytes[MODEL_KEY_MAX];
    struct mshm_tree_ref ref;
    uint32_t bucket = sim_bucket_choose(world);
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

void
sim_scan(struct sim_client *client, int lane)
{
    static _Alignas(64) uint8_t copy[MSHM_MAX_FRAME];
    struct sim_world *world = client->world;
    mshm_timestamp snapshot = client->lanes[lane].snapshot;
    uint8_t key[MSHM_MAX_KEY];
    size_t key_size = 0;
    unsigned expected = 0;
    struct mshm_tree_ref ref;
    uint32_t bucket = sim_bucket_choose(world), copy_size;
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

void
sim_bracket_open(struct sim_client *client, unsigned index)
{
    struct sim_world *world = client->world;
    struct sim_bracket *bracket = &client->brackets[index];
    struct mshm_lane *lane = &client->segment->lanes[SIM_LANES + index];
    uint8_t bytes[MODEL_KEY_MAX];
    struct mshm_tree_ref ref;
    mshm_pid leaf;
    bracket->bucket = sim_bucket_choose(world);
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
void
sim_bracket_end(struct sim_client *client, unsigned index)
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
