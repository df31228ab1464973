/* sim_reader.c - what clients read, held against the model: gets, scans, and brackets that stay open for long.
 *
 * A read that meets a page on disk asks for it as the library does, and tries again when the answer is there; other
 * clients and the broker go on meanwhile. A scan asks for the leaves behind it, too.
 */
#include <stdio.h>
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

/* --- waiting for pages --- */

static void
read_end(struct sim_client *client, int lane)
{
    client->lanes[lane].read = (struct sim_read){.kind = SIM_READ_NONE};
}

static void
lane_give_up(struct sim_client *client, int lane)
{
    client->world->statistics.expired++;
    mshm_snapshot_release(&client->segment->lanes[lane]);
    client->lanes[lane] = (struct sim_lane){0};
}

/* Asks for a page, and by chance (a scan) for those that it will need next. */
static void
read_ask(struct sim_client *client, int lane, struct mshm_tree_ref ref, mshm_pid missing,
         const void *key, size_t key_size)
{
    struct sim_world *world = client->world;
    struct sim_read *read = &client->lanes[lane].read;
    mshm_pid pids[SIM_PIDS] = {missing};
    uint32_t count = 1;
    if (++read->misses > SIM_MISSES)
        sim_fail(world, "a page was asked for %u times in vain", SIM_MISSES);
    if (read->kind == SIM_READ_SCAN && sim_chance(world, 60))
        count += mshm_leaves_ahead(&world->core->view, &client->segment->lanes[lane], ref, key,
                                   key_size, 1, pids + 1, SIM_PIDS - 1, UINT32_MAX, NULL);
    read->waiting = sim_page_in(client, lane, pids, count) != 0;
}

void
sim_read_answer(struct sim_client *client, const struct sim_request *request)
{
    struct sim_read *read = &client->lanes[request->reader].read;
    read->waiting = false;
    if (request->status != MSHM_OK) /* told to the caller, who knows what to do */
        read_end(client, request->reader);
}

/* --- gets --- */

/* The last lane is for one-call gets. */
static bool
one_call(int lane)
{
    return lane == SIM_LANES - 1;
}

static void
get_go_on(struct sim_client *client, int lane)
{
    static uint8_t buffer[MODEL_VALUE_MAX];
    struct sim_world *world = client->world;
    struct sim_read *read = &client->lanes[lane].read;
    uint8_t bytes[MODEL_KEY_MAX];
    struct mshm_tree_ref ref;
    mshm_timestamp snapshot = one_call(lane) ? 0 : client->lanes[lane].snapshot;
    uint64_t size = 0;
    mshm_pid missing;
    if (!bucket_ref(world, read->bucket, &ref)) {
        read_end(client, lane);
        return;
    }
    size_t key_size = model_key_bytes(read->key, bytes);
    int status = mshm_get(&world->core->view, &client->segment->lanes[lane],
                          one_call(lane) ? NULL : &client->segment->expired[lane], ref, bytes,
                          key_size, snapshot, buffer, sizeof buffer, &size, NULL, &missing);
    if (status == MSHM_BUSY) {
        read_ask(client, lane, ref, missing, bytes, key_size);
        return;
    }
    if (status == MSHM_OK || status == MSHM_NOT_FOUND)
        compare_value(world, read->bucket, read->key,
                      one_call(lane) ? world->core->visible : snapshot, status == MSHM_OK, buffer,
                      size);
    else if (status != MSHM_SNAPSHOT_EXPIRED || one_call(lane))
        sim_fail(world, "read of bucket %u key %u at %llu: status %d", read->bucket, read->key,
                 (unsigned long long)snapshot, status);
    read_end(client, lane);
    if (status == MSHM_SNAPSHOT_EXPIRED)
        lane_give_up(client, lane);
}

void
sim_read_key(struct sim_client *client, int lane)
{
    struct sim_world *world = client->world;
    client->lanes[lane].read = (struct sim_read){
        .kind = SIM_READ_GET, .bucket = sim_bucket_choose(world), .key = sim_key_choose(world)};
    get_go_on(client, lane);
}

/* --- scans --- */

/* What a scan meets next: the number of the first key >= `from` that exists at the snapshot; MODEL_KEYS = none. */
static unsigned
next_existing(struct sim_world *world, uint32_t bucket, unsigned from, mshm_timestamp snapshot)
{
    struct model_version version;
    while (from < MODEL_KEYS && !model_read(&world->model, bucket, from, snapshot, &version))
        from++;
    return from;
}

/* A leaf that was merged meanwhile begins before the place that the scan has come to. */
static bool
key_before(const struct mshm_version *version, const struct sim_read *read)
{
    size_t size = version->key_size < read->at_size ? version->key_size : read->at_size;
    int order = memcmp(version->key, read->at, size);
    return order != 0 ? order < 0 : version->key_size < read->at_size;
}

/* One copied leaf of a scan: moves read->key on. MSHM_NOT_FOUND: go on with the next leaf. */
static int
scan_leaf(struct sim_world *world, struct sim_read *read, mshm_timestamp snapshot, void *copy,
          uint32_t copy_size)
{
    static struct mshm_leaf_iterator iterator;
    struct mshm_version version;
    uint8_t bytes[MODEL_KEY_MAX];
    int status = mshm_leaf_iterator_init(&iterator, copy, copy_size);
    while (status == MSHM_OK &&
           (status = mshm_leaf_iterator_next(&iterator, snapshot, &version)) == MSHM_OK) {
        if (version.kind == 0)
            return MSHM_OK; /* only history knows: a get's business */
        if (version.kind == MSHM_ENTRY_TOMBSTONE || key_before(&version, read))
            continue;
        read->key = next_existing(world, read->bucket, read->key, snapshot);
        size_t size = model_key_bytes(read->key < MODEL_KEYS ? read->key : 0, bytes);
        if (read->key == MODEL_KEYS || version.key_size != size ||
            memcmp(version.key, bytes, size) != 0) {
            sim_fail(world, "a scan of bucket %u at %llu misses key %u or invents another (P1)",
                     read->bucket, (unsigned long long)snapshot, read->key);
            if (world->verbose) {
                printf("  the scan has a key of %u bytes: ", version.key_size);
                for (unsigned i = 0; i < version.key_size && i < 16; i++)
                    printf("%02x", ((const uint8_t *)version.key)[i]);
                printf(", commit %llu\n", (unsigned long long)version.timestamp);
                model_print(&world->model, read->bucket);
            }
            return MSHM_OK;
        }
        compare_value(world, read->bucket, read->key, snapshot, true, version.value,
                      version.value_size);
        read->key++;
    }
    if (status != MSHM_NOT_FOUND)
        sim_fail(world, "a scan of bucket %u: a leaf's copy is damaged: %d", read->bucket, status);
    return status;
}

/* The next leaf: MSHM_OK; MSHM_NOT_FOUND: the scan is over; MSHM_BUSY: it waits for a page; or why it ends. */
static int
scan_step(struct sim_client *client, int lane, struct mshm_tree_ref ref)
{
    static _Alignas(64) uint8_t copy[MSHM_MAX_FRAME];
    struct sim_world *world = client->world;
    struct sim_read *read = &client->lanes[lane].read;
    mshm_timestamp snapshot = client->lanes[lane].snapshot;
    struct mshm_fences fences;
    uint32_t copy_size;
    mshm_pid missing;
    int status = mshm_leaf_copy(&world->core->view, &client->segment->lanes[lane],
                                &client->segment->expired[lane], ref, snapshot, MSHM_LEAF_AT,
                                read->at, read->at_size, 0, copy, &copy_size, &missing);
    if (status == MSHM_BUSY)
        read_ask(client, lane, ref, missing, read->at, read->at_size);
    else if (status != MSHM_OK && status != MSHM_SNAPSHOT_EXPIRED)
        sim_fail(world, "a scan of bucket %u: status %d", read->bucket, status);
    if (status != MSHM_OK)
        return status;
    read->misses = 0;
    if (scan_leaf(world, read, snapshot, copy, copy_size) != MSHM_NOT_FOUND)
        return MSHM_NOT_FOUND;
    if (mshm_page_fences(copy, copy_size, &fences) != MSHM_OK) {
        sim_fail(world, "a scan of bucket %u: damaged fences", read->bucket);
        return MSHM_NOT_FOUND;
    }
    if (fences.high_size == MSHM_FENCE_INFINITE) {
        if (next_existing(world, read->bucket, read->key, snapshot) != MODEL_KEYS)
            sim_fail(world, "a scan of bucket %u at %llu ends too early (P1)", read->bucket,
                     (unsigned long long)snapshot);
        return MSHM_NOT_FOUND;
    }
    memcpy(read->at, fences.high, fences.high_size);
    read->at_size = fences.high_size;
    return MSHM_OK;
}

static void
scan_go_on(struct sim_client *client, int lane)
{
    struct mshm_tree_ref ref;
    int status = MSHM_NOT_FOUND;
    if (bucket_ref(client->world, client->lanes[lane].read.bucket, &ref))
        while ((status = scan_step(client, lane, ref)) == MSHM_OK)
            continue;
    if (status == MSHM_BUSY)
        return;
    read_end(client, lane);
    if (status == MSHM_SNAPSHOT_EXPIRED)
        lane_give_up(client, lane);
}

void
sim_scan_bucket(struct sim_client *client, int lane, uint32_t bucket)
{
    client->world->statistics.scans++;
    client->lanes[lane].read = (struct sim_read){.kind = SIM_READ_SCAN, .bucket = bucket};
    scan_go_on(client, lane);
}

void
sim_scan(struct sim_client *client, int lane)
{
    sim_scan_bucket(client, lane, sim_bucket_choose(client->world));
}

void
sim_read_go_on(struct sim_client *client, int lane)
{
    const struct sim_read *read = &client->lanes[lane].read;
    if (read->waiting)
        return;
    if (read->kind == SIM_READ_GET)
        get_go_on(client, lane);
    else
        scan_go_on(client, lane);
}

/* --- readers that stop inside a bracket --- */

static int
bracket_descend(struct sim_client *client, struct sim_bracket *bracket, mshm_pid *leaf)
{
    struct sim_world *world = client->world;
    uint8_t bytes[MODEL_KEY_MAX];
    struct mshm_tree_ref ref;
    if (!bucket_ref(world, bracket->bucket, &ref))
        return MSHM_NOT_FOUND;
    size_t size = model_key_bytes(bracket->key, bytes);
    return mshm_descend(&world->core->view, ref, ref.root, bytes, size, 0, &bracket->frame,
                        &bracket->frame_size, leaf);
}

void
sim_bracket_open(struct sim_client *client, unsigned index)
{
    struct sim_world *world = client->world;
    struct sim_bracket *bracket = &client->brackets[index];
    struct mshm_lane *lane = &client->segment->lanes[SIM_LANES + index];
    mshm_pid leaf;
    bracket->bucket = sim_bucket_choose(world);
    bracket->key = sim_key_choose(world);
    bracket->snapshot = mshm_snapshot_register(world->core->store, lane);
    bracket->epoch = mshm_bracket_open(world->core->store, lane);
    int status = bracket_descend(client, bracket, &leaf);
    bracket->open = status == MSHM_OK;
    if (bracket->open)
        return;
    mshm_bracket_close(world->core->store, lane, bracket->epoch);
    mshm_snapshot_release(lane);
    if (status == MSHM_BUSY) /* next time */
        sim_page_in(client, -1, &leaf, 1);
    else if (status != MSHM_NOT_FOUND)
        sim_fail(world, "a descent failed with %d", status);
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
