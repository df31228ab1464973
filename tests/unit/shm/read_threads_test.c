/* Snapshots, page changes and the reuse of frames with both sides running: a small writer in the broker's place, and
 * readers as threads. Each case runs on one mapping and on two, as in protocol_threads_test.
 */
#include <check.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "demand.h"
#include "mshm/inner.h"
#include "mshm/leaf.h"
#include "mshm/protocol.h"
#include "mshm/read.h"
#include "mshm/segment.h"

/* Commit t writes key t % KEYS, and every 5th of a key is a tombstone: what a snapshot must see is arithmetic. Pages:
 * root 1 (inner); leaf 2 from minus infinity; leaf 3 from key 3, there after a split and gone after a merge; leaf 4 from
 * key 6. Few frames, each overwritten before it is used again: a reader that held one too long would see it. */
enum {
    KEYS = 8,
    READERS = 3,
    COMMITS = WITH_TSAN ? 12000 : 60000,
    SLOW_READS = 10, /* wanted, at least */
    FRAME = 8192,
    FRAMES = 14,
    PIDS = 8,
    BUCKET = 3,
};

struct retired {
    unsigned frame;
    AO_t epoch;
};

static struct mshm_segment store_segment, store_client, lanes_segment, lanes_client;
static struct mshm_store_geometry geometry;
static struct mshm_view writer_view, reader_view;
static struct mshm_session *lanes_writer, *lanes_reader;
static int separate; /* readers have mappings of their own */
static AO_t readers_running, writer_done, slow_reads;

/* The writer's private state. */
static struct {
    struct mshm_store *store;
    unsigned free_frames[FRAMES], free_count;
    struct retired retired[FRAMES];
    unsigned retired_count;
    mshm_timestamp visible, horizon;
    mshm_timestamp snapshots[READERS];
    int is_split;
    AO_t merged_epoch; /* pid 3 may be used again when no bracket is that old */
    uint64_t revocations, reuses, splits;
} writer;

static uint8_t *
writer_frame(unsigned number)
{
    return store_segment.base + geometry.frames_offset + (uint64_t)number * FRAME;
}

static unsigned
writer_frame_of(mshm_pid pid)
{
    AO_t word = AO_load(&writer_view.map[pid]);
    return (unsigned)((mshm_map_frame(word) - geometry.frames_offset) / FRAME);
}

/* The oldest epoch that an open bracket shows; brackets that were revoked do not count. */
static AO_t
oldest_bracket(void)
{
    AO_t oldest = UINT64_MAX, revoked = AO_load(&writer.store->revoked);
    mshm_full_fence(); /* pairs with the fence in mshm_bracket_open */
    for (unsigned i = 0; i < READERS; i++) {
        AO_t epoch = AO_load_acquire(&lanes_writer->lanes[i].epoch);
        if (epoch != 0 && epoch > revoked && epoch < oldest)
            oldest = epoch;
    }
    return oldest;
}

/* The epoch stands still through a group of retirements, so that publishing a page has to be right by itself. */
static void
epoch_advance(void)
{
    AO_store_release(&writer.store->epoch, AO_load(&writer.store->epoch) + 1);
}

static void
frames_reclaim(void)
{
    epoch_advance();
    AO_t oldest = oldest_bracket();
    unsigned kept = 0;
    for (unsigned i = 0; i < writer.retired_count; i++) {
        if (writer.retired[i].epoch < oldest) {
            memset(writer_frame(writer.retired[i].frame), 0xee, FRAME);
            writer.free_frames[writer.free_count++] = writer.retired[i].frame;
            writer.reuses++;
        } else {
            writer.retired[kept++] = writer.retired[i];
        }
    }
    writer.retired_count = kept;
}

/* Overrules the brackets that are open now. ThreadSanitizer would rightly report the reads of recycled frames that this
 * allows and the bracket's end throws away. */
static void
brackets_revoke(void)
{
    AO_t epoch = AO_load(&writer.store->epoch);
    AO_store_release(&writer.store->epoch, epoch + 1);
    AO_store_release(&writer.store->revoked, epoch);
    writer.revocations++;
    frames_reclaim();
}

static unsigned
frame_take(void)
{
    for (unsigned tries = 0; writer.free_count < 5; tries++) {
        frames_reclaim();
        if (writer.free_count >= 5)
            break;
        if (tries > 20000 && !WITH_TSAN)
            brackets_revoke();
        sched_yield();
    }
    return writer.free_frames[--writer.free_count];
}

static void
frame_retire(unsigned frame)
{
    writer.retired[writer.retired_count++] =
        (struct retired){.frame = frame, .epoch = AO_load(&writer.store->epoch)};
}

static void
page_publish(mshm_pid pid, unsigned frame, unsigned hint)
{
    AO_t *map = (AO_t *)(store_segment.base + geometry.map_offset);
    AO_t before = AO_load(&map[pid]);
    AO_store_release(&map[pid],
                     mshm_map_word(geometry.frames_offset + (uint64_t)frame * FRAME, 1, hint));
    if (mshm_map_state(before) == MSHM_MAP_RESIDENT)
        frame_retire((unsigned)((mshm_map_frame(before) - geometry.frames_offset) / FRAME));
}

/* Section 5 of the protocol: horizon, full fence, lanes. */
static void
snapshots_collect(void)
{
    writer.horizon = writer.visible;
    AO_store(&writer.store->horizon, writer.horizon);
    mshm_full_fence(); /* pairs with the fence in mshm_snapshot_register */
    for (unsigned i = 0; i < READERS; i++)
        writer.snapshots[i] = AO_load(&lanes_writer->lanes[i].snapshot);
}

/* Does a snapshot, the horizon or the future need versions[i]? Versions of one key stand together, newest first. */
static int
version_needed(const struct mshm_version *versions, uint32_t i)
{
    mshm_timestamp timestamp = versions[i].timestamp, next = UINT64_MAX;
    if (i > 0 && versions[i - 1].key_size == versions[i].key_size &&
        memcmp(versions[i - 1].key, versions[i].key, versions[i].key_size) == 0)
        next = versions[i - 1].timestamp;
    if (next > writer.horizon)
        return 1; /* the newest at the horizon, or newer */
    for (unsigned lane = 0; lane < READERS; lane++)
        if (writer.snapshots[lane] >= timestamp && writer.snapshots[lane] < next)
            return 1;
    return 0;
}

/* The versions of [low, high) that are still needed, of one or two leaves; the bytes they point to stay in the frames. */
static uint32_t
versions_gather(const mshm_pid *pids, unsigned pid_count, const char *low, const char *high,
                struct mshm_version *kept, uint8_t *keys)
{
    static struct mshm_version all[1024];
    uint32_t count = 0;
    for (unsigned p = 0; p < pid_count; p++) {
        int found = mshm_leaf_versions(writer_frame(writer_frame_of(pids[p])), FRAME, all, 1024,
                                       keys, 65536);
        DEMAND(found >= 0);
        for (uint32_t i = 0; i < (uint32_t)found; i++)
            if (memcmp(all[i].key, low, 4) >= 0 && memcmp(all[i].key, high, 4) < 0 &&
                version_needed(all, i))
                kept[count++] = all[i];
        keys += 65536;
    }
    return count;
}

static void
leaf_replace(mshm_pid pid, mshm_pid right, const char *low, const char *high,
             const struct mshm_version *versions, uint32_t count)
{
    struct mshm_leaf_spec spec = {
        .pid = pid,
        .right = right,
        .bucket = BUCKET,
        .kind = MSHM_PAGE_LEAF,
        .low = (const uint8_t *)low,
        .low_size = pid == 2 ? 0 : 4,
        .high = (const uint8_t *)high,
        .high_size = right == 0 ? MSHM_FENCE_INFINITE : 4,
        .versions = versions,
        .count = count,
    };
    unsigned frame = frame_take();
    DEMAND(mshm_leaf_build(writer_frame(frame), FRAME, &spec) == MSHM_OK);
    page_publish(pid, frame, mshm_leaf_hint(writer_frame(frame)));
}

static void
root_replace(void)
{
    static const struct mshm_separator both[] = {{(const uint8_t *)"key3", 4},
                                                 {(const uint8_t *)"key6", 4}};
    static const mshm_pid three[] = {2, 3, 4}, two[] = {2, 4};
    struct mshm_inner_spec spec = {
        .pid = 1,
        .bucket = BUCKET,
        .level = 1,
        .high_size = MSHM_FENCE_INFINITE,
        .low = (const uint8_t *)"",
        .high = (const uint8_t *)"",
        .separators = writer.is_split ? both : both + 1,
        .children = writer.is_split ? three : two,
        .count = writer.is_split ? 2 : 1,
    };
    unsigned frame = frame_take();
    DEMAND(mshm_inner_build(writer_frame(frame), FRAME, &spec) == MSHM_OK);
    page_publish(1, frame, 0);
}

/* Consolidates every leaf; splits leaf 2 at key 3, or merges leaf 3 back into it, in the order of the protocol. */
static void
tree_rebuild(void)
{
    static struct mshm_version kept[2048];
    static uint8_t keys[2 * 65536];
    static const mshm_pid left[] = {2, 3};
    unsigned leaves = writer.is_split ? 2 : 1;
    uint32_t count;
    snapshots_collect();
    /* A merged pid is used again only when no bracket is as old as the merge. */
    if (!writer.is_split && oldest_bracket() > writer.merged_epoch) {
        count = versions_gather(left, leaves, "key3", "key6", kept, keys);
        leaf_replace(3, 4, "key3", "key6", kept, count);
        count = versions_gather(left, leaves, "key0", "key3", kept, keys);
        leaf_replace(2, 3, "", "key3", kept, count);
        writer.is_split = 1;
        writer.splits++;
        root_replace();
    } else if (writer.is_split) {
        AO_t *map = (AO_t *)(store_segment.base + geometry.map_offset);
        count = versions_gather(left, leaves, "key0", "key6", kept, keys);
        leaf_replace(2, 4, "", "key6", kept, count);
        writer.is_split = 0;
        root_replace();
        frame_retire(writer_frame_of(3));
        AO_store_release(&map[3], MSHM_MAP_MOVED);
        writer.merged_epoch = AO_load(&writer.store->epoch);
        epoch_advance();
    } else {
        count = versions_gather(left, leaves, "key0", "key6", kept, keys);
        leaf_replace(2, 4, "", "key6", kept, count);
    }
    static const mshm_pid last[] = {4};
    count = versions_gather(last, 1, "key6", "key9", kept, keys);
    leaf_replace(4, 0, "key6", "", kept, count);
}

static void
key_of(unsigned number, char key[8])
{
    snprintf(key, 8, "key%u", number % KEYS);
}

static int
is_tombstone(mshm_timestamp timestamp)
{
    return timestamp / KEYS % 5 == 4;
}

static void
commit(mshm_timestamp timestamp)
{
    char key[8], value[40];
    key_of((unsigned)(timestamp % KEYS), key);
    int size = snprintf(value, sizeof(value), "%lu", (unsigned long)timestamp);
    unsigned number = (unsigned)(timestamp % KEYS);
    struct mshm_version version = {
        .key = (const uint8_t *)key,
        .key_size = 4,
        .value = (const uint8_t *)value,
        .value_size = is_tombstone(timestamp) ? 0 : (uint32_t)size,
        .timestamp = timestamp,
        .kind = is_tombstone(timestamp) ? MSHM_ENTRY_TOMBSTONE : MSHM_ENTRY_VALUE,
    };
    uint64_t hash = mshm_key_hash(key, 4);
    for (unsigned tries = 0;; tries++) {
        mshm_pid pid = number >= 6 ? 4 : number >= 3 && writer.is_split ? 3 : 2;
        int status = mshm_leaf_append(writer_frame(writer_frame_of(pid)), FRAME, &version, hash);
        if (status == MSHM_OK)
            break;
        DEMAND(status == MSHM_FULL);
        DEMAND(tries < 2);
        tree_rebuild();
    }
    writer.visible = timestamp;
    AO_store_release(&writer.store->visible, timestamp);
}

static void *
writer_run(void *argument)
{
    (void)argument;
    /* On a busy machine it goes on until the readers, too, have met what they are here for. */
    for (mshm_timestamp timestamp = 2; timestamp <= COMMITS || AO_load(&slow_reads) <= SLOW_READS;
         timestamp++) {
        commit(timestamp);
        if (timestamp % 50 == 0)
            tree_rebuild();
        if (timestamp % 997 == 0 && !WITH_TSAN)
            brackets_revoke();
        if (timestamp % 16 == 0)
            sched_yield();
    }
    AO_store_release(&writer_done, 1);
    return NULL;
}

/* The newest commit <= snapshot that wrote this key, 0: none. */
static mshm_timestamp
expected_of(unsigned key, mshm_timestamp snapshot)
{
    mshm_timestamp back = (snapshot % KEYS + KEYS - key) % KEYS;
    return snapshot > back ? snapshot - back : 0;
}

static void
read_key(struct mshm_lane *lane, unsigned number, mshm_timestamp snapshot)
{
    static const struct mshm_tree_ref tree = {.bucket = BUCKET, .root = 1};
    char key[8], value[40] = "", text[40] = "";
    uint64_t size = 0;
    mshm_pid missing;
    key_of(number, key);
    mshm_timestamp before = AO_load_acquire(&reader_view.store->visible);
    int status = mshm_get(&reader_view, lane, NULL, tree, key, 4, snapshot, value, 39, &size, NULL,
                          &missing);
    mshm_timestamp after = AO_load_acquire(&reader_view.store->visible);
    if (snapshot != 0) {
        mshm_timestamp expected = expected_of(number, snapshot);
        if (expected == 0 || is_tombstone(expected)) {
            DEMAND(status == MSHM_NOT_FOUND);
        } else {
            DEMAND(status == MSHM_OK);
            snprintf(text, sizeof(text), "%lu", (unsigned long)expected);
            DEMAND(strcmp(value, text) == 0);
        }
    } else if (status == MSHM_OK) {
        /* A one-call get answers as of some moment between its begin and its end. */
        mshm_timestamp got = strtoull(value, NULL, 10);
        DEMAND(got % KEYS == number);
        DEMAND(got >= expected_of(number, before));
        DEMAND(got <= after);
        DEMAND(!is_tombstone(got));
    } else {
        DEMAND(status == MSHM_NOT_FOUND);
        mshm_timestamp first = expected_of(number, before), last = expected_of(number, after);
        while (first < last && first != 0 && !is_tombstone(first))
            first += KEYS;
        DEMAND(first == 0 || is_tombstone(first));
    }
}

/* A get that lingers in its bracket: between taking the page and reading it the writer moves on, replaces the page and
 * would like to use its frame again. */
static void
read_slowly(struct mshm_lane *lane, unsigned number, mshm_timestamp snapshot)
{
    static const struct mshm_tree_ref tree = {.bucket = BUCKET, .root = 1};
    const uint8_t *frame;
    uint32_t size;
    mshm_pid leaf;
    char key[8], value[40] = "", text[40];
    struct mshm_version version = {0};
    key_of(number, key);
    AO_t epoch = mshm_bracket_open(reader_view.store, lane);
    int found = mshm_descend(&reader_view, tree, 0, key, 4, 0, &frame, &size, &leaf);
    if (found == MSHM_OK) {
        mshm_timestamp begin = AO_load(&reader_view.store->visible);
        for (unsigned i = 0; i < 100 && AO_load(&reader_view.store->visible) < begin + 120 &&
                             !AO_load(&writer_done);
             i++)
            sched_yield();
        found = mshm_leaf_get(frame, size, key, 4, mshm_key_hash(key, 4), snapshot, NULL, &version,
                              NULL);
        if (found == MSHM_FOUND_VERSION && version.value_size < sizeof(value))
            memcpy(value, version.value, version.value_size);
    }
    if (mshm_bracket_close(reader_view.store, lane, epoch))
        return;
    AO_fetch_and_add1_full(&slow_reads);
    mshm_timestamp expected = expected_of(number, snapshot);
    if (expected == 0 || is_tombstone(expected)) {
        DEMAND(found == MSHM_FOUND_NOTHING || found == MSHM_FOUND_NEWER ||
               (found == MSHM_FOUND_VERSION && version.kind == MSHM_ENTRY_TOMBSTONE));
    } else {
        DEMAND(found == MSHM_FOUND_VERSION);
        snprintf(text, sizeof(text), "%lu", (unsigned long)expected);
        DEMAND(strcmp(value, text) == 0);
    }
}

/* Reads all keys of one snapshot by copies of the leaves, as a scan does. */
static void
scan_keys(struct mshm_lane *lane, mshm_timestamp snapshot, uint8_t *copy,
          struct mshm_leaf_iterator *iterator)
{
    static const struct mshm_tree_ref tree = {.bucket = BUCKET, .root = 1};
    uint8_t key[8] = "";
    size_t key_size = 0;
    mshm_pid hint = 0, missing;
    unsigned seen = 0, expected = 0;
    for (unsigned number = 0; number < KEYS; number++) {
        mshm_timestamp newest = expected_of(number, snapshot);
        if (newest != 0 && !is_tombstone(newest))
            expected |= 1u << number;
    }
    for (;;) {
        uint32_t size;
        struct mshm_fences fences;
        struct mshm_version version;
        DEMAND(mshm_leaf_copy(&reader_view, lane, NULL, tree, snapshot, MSHM_LEAF_AT, key, key_size,
                              hint, copy, &size, &missing) == MSHM_OK);
        DEMAND(mshm_leaf_iterator_init(iterator, copy, size) == MSHM_OK);
        while (mshm_leaf_iterator_next(iterator, snapshot, &version) == MSHM_OK) {
            unsigned number = (unsigned)version.key[3] - '0';
            DEMAND(number < KEYS);
            DEMAND(version.timestamp == expected_of(number, snapshot));
            if (version.kind == MSHM_ENTRY_VALUE)
                seen |= 1u << number;
        }
        DEMAND(mshm_page_fences(copy, size, &fences) == MSHM_OK);
        if (fences.high_size == MSHM_FENCE_INFINITE)
            break;
        memcpy(key, fences.high, fences.high_size);
        key_size = fences.high_size;
        hint = fences.right;
    }
    DEMAND(seen == expected);
}

static void *
reader_run(void *argument)
{
    unsigned index = (unsigned)(uintptr_t)argument;
    struct mshm_lane *lane = &lanes_reader->lanes[index];
    uint8_t *copy = aligned_alloc(64, MSHM_MAX_FRAME);
    struct mshm_leaf_iterator *iterator = malloc(sizeof(*iterator));
    unsigned turn = 0;
    while (!AO_load_acquire(&writer_done)) {
        mshm_timestamp snapshot = mshm_snapshot_register(reader_view.store, lane);
        for (unsigned i = 0; i < 40; i++) {
            read_key(lane, (turn + i) % KEYS, snapshot);
            if (i % 10 == index)
                sched_yield(); /* the world moves on under the snapshot */
        }
        scan_keys(lane, snapshot, copy, iterator);
        read_slowly(lane, turn % KEYS, snapshot);
        mshm_snapshot_release(lane);
        read_key(lane, turn % KEYS, 0);
        turn++;
    }
    free(iterator);
    free(copy);
    AO_fetch_and_sub1_full(&readers_running);
    return NULL;
}

static void
world_init(void)
{
    static const uint8_t id[16];
    uint8_t *hints = NULL;
    mshm_store_geometry_compute(FRAME * FRAMES, PIDS, &geometry);
    DEMAND(mshm_segment_create(&store_segment, "store", geometry.store_size, MSHM_SEGMENT_STORE,
                               MSHM_HUGE_PAGES_TRY) == MSHM_OK);
    DEMAND(mshm_segment_back(&store_segment, 0, geometry.store_size) == MSHM_OK);
    mshm_store_init(store_segment.base, &geometry, 1, id, 1);
    DEMAND(mshm_segment_create(&lanes_segment, "session", MSHM_SESSION_SIZE, MSHM_SEGMENT_SHARED,
                               MSHM_HUGE_PAGES_OFF) == MSHM_OK);
    DEMAND(mshm_segment_back(&lanes_segment, 0, sizeof(struct mshm_session)) == MSHM_OK);
    mshm_session_init(lanes_segment.base, 1, 1, 0);
    lanes_writer = lanes_reader = (struct mshm_session *)lanes_segment.base;
    DEMAND(mshm_view_init(&writer_view, store_segment.base, geometry.store_size, hints) == MSHM_OK);
    reader_view = writer_view;
    store_client.fd = lanes_client.fd = -1;
    if (separate) {
        int fd;
        DEMAND(mshm_segment_reader(&store_segment, &fd) == MSHM_OK);
        DEMAND(mshm_segment_map(&store_client, fd, geometry.store_size, 0) == MSHM_OK);
        close(fd);
        DEMAND(mshm_segment_map(&lanes_client, lanes_segment.fd, MSHM_SESSION_SIZE, 1) == MSHM_OK);
        DEMAND(mshm_view_init(&reader_view, store_client.base, geometry.store_size, hints) ==
               MSHM_OK);
        lanes_reader = (struct mshm_session *)lanes_client.base;
    }
    memset(&writer, 0, sizeof(writer));
    writer.store = (struct mshm_store *)store_segment.base;
    for (unsigned i = 0; i < FRAMES; i++)
        writer.free_frames[writer.free_count++] = i;
    leaf_replace(4, 0, "key6", "", NULL, 0);
    leaf_replace(2, 4, "", "key6", NULL, 0);
    root_replace();
    AO_store(&writer_done, 0);
    AO_store(&slow_reads, 0);
}

static void
world_fini(void)
{
    mshm_segment_fini(&store_client);
    mshm_segment_fini(&lanes_client);
    mshm_segment_fini(&store_segment);
    mshm_segment_fini(&lanes_segment);
}

START_TEST(snapshot_stays_the_same_through_splits_merges_and_reuse_of_frames)
{
    pthread_t thread, readers[READERS];
    separate = _i;
    world_init();
    commit(1); /* visible is never 0 when readers begin */
    AO_store(&readers_running, READERS);
    for (uintptr_t i = 0; i < READERS; i++)
        DEMAND(pthread_create(&readers[i], NULL, reader_run, (void *)i) == 0);
    DEMAND(pthread_create(&thread, NULL, writer_run, NULL) == 0);
    pthread_join(thread, NULL);
    uint64_t gets = 0, retries = 0;
    for (unsigned i = 0; i < READERS; i++) {
        pthread_join(readers[i], NULL);
        gets += lanes_writer->lanes[i].gets;
        retries += lanes_writer->lanes[i].retries;
    }
    printf(
        "%lu gets, %lu slow reads, %lu retries, %lu frames reused, %lu splits, %lu revocations\n",
        (unsigned long)gets, (unsigned long)slow_reads, (unsigned long)retries,
        (unsigned long)writer.reuses, (unsigned long)writer.splits,
        (unsigned long)writer.revocations);
    DEMAND(writer.reuses > 100);
    DEMAND(writer.splits > 5);
    DEMAND(gets > 100);
    DEMAND(slow_reads > SLOW_READS);
    world_fini();
}
END_TEST

int
main(void)
{
    Suite *suite = suite_create("read_threads");
    TCase *tests = tcase_create("read_threads");
    tcase_set_timeout(tests, 100);
    tcase_add_loop_test(tests, snapshot_stays_the_same_through_splits_merges_and_reuse_of_frames, 0,
                        2);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
