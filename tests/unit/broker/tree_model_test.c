/* Random histories against an oracle: the index writer's trees must answer every registered snapshot as a sorted array of
 * keys with all their versions does, whatever was appended, consolidated, split, merged, moved to history or pruned
 * meanwhile; and whatever left memory, was written to blind and came back. */
#include "unit/broker/page_disk.h"

enum { LANES = 16, ONE_CALL = 20, MAX_OPS = 4096, OPS_BYTES = 4 << 20, PAGE_SIZE = 8192 };

struct value {
    mshm_timestamp timestamp;
    uint32_t seed;
    uint16_t size;
    bool deleted;
};
struct key {
    uint8_t *bytes;
    uint16_t size;
    uint32_t count, capacity;
    struct value *values; /* oldest first */
};
struct model {
    struct fixture fixture;
    struct page_disk disk;
    bool paged;  /* checkpoints are made, and pages leave memory */
    bool shrink; /* most operations are deletes */
    struct tree_target target;
    struct key *keys; /* ascending */
    uint32_t count;
    uint64_t random;
    mshm_timestamp applied;
    uint64_t operations, missed, restarts;
    uint32_t next; /* sequential writers go on here */
    uint32_t most_value;
    unsigned held; /* lanes that may hold a snapshot */
    uint8_t *ops;
    uint8_t *copy;
};

static struct model model;

static uint64_t
draw(uint64_t below)
{
    return fixture_random(&model.random) % below;
}

/* --- keys and values --- */

static uint32_t
key_size_draw(void)
{
    uint64_t which = draw(100);
    if (which < 15)
        return 1 + (uint32_t)draw(7);
    if (which < 90)
        return 8 + (uint32_t)draw(24);
    if (which < 99)
        return 32 + (uint32_t)draw(300);
    return 400 + (uint32_t)draw(MSHM_MAX_KEY - 400 + 1);
}

/* Few different bytes, so that long prefixes are shared. */
static void
key_draw(struct key *key)
{
    static const uint8_t alphabet[] = {0, 'a', 'b', 0xff};
    key->size = (uint16_t)key_size_draw();
    key->bytes = malloc(key->size);
    REQUIRE(key->bytes != NULL);
    for (uint32_t i = 0; i < key->size; i++)
        key->bytes[i] = i < 6 || i >= 24 ? alphabet[draw(4)] : (uint8_t)draw(256);
}

static int
key_order(const void *a, const void *b)
{
    const struct key *left = a, *right = b;
    return mshm_key_compare(left->bytes, left->size, right->bytes, right->size);
}

static void
keys_draw(uint32_t count)
{
    model.keys = calloc(count, sizeof(*model.keys));
    for (uint32_t i = 0; i < count; i++)
        key_draw(&model.keys[i]);
    qsort(model.keys, count, sizeof(*model.keys), key_order);
    for (uint32_t i = 0; i < count; i++)
        if (model.count > 0 && key_order(&model.keys[model.count - 1], &model.keys[i]) == 0)
            free(model.keys[i].bytes);
        else
            model.keys[model.count++] = model.keys[i];
}

static void
value_fill(uint8_t *to, uint32_t seed, uint32_t size)
{
    for (uint32_t i = 0; i < size; i++)
        to[i] = (uint8_t)(seed * 31 + i * (seed | 1));
}

static const struct value *
value_at(const struct key *key, mshm_timestamp snapshot)
{
    for (uint32_t i = key->count; i-- > 0;)
        if (key->values[i].timestamp <= snapshot)
            return key->values[i].deleted ? NULL : &key->values[i];
    return NULL;
}

static void
value_add(struct key *key, struct value value)
{
    if (key->count == key->capacity) {
        key->capacity = key->capacity ? key->capacity * 2 : 4;
        key->values = realloc(key->values, key->capacity * sizeof(*key->values));
        REQUIRE(key->values != NULL);
    }
    key->values[key->count++] = value;
}

/* --- what is in memory --- */

static void
page_in(mshm_pid pid)
{
    REQUIRE(model.paged);
    while (!disk_page_in(&model.disk, pid)) {
        disk_evict(&model.disk, 1 << 20);
        frames_reclaim(model.fixture.frames, false);
    }
}

static void check_restart(void);

/* Checkpoints go on in small steps while commits come in; pages leave at random. */
static void
pages_change(void)
{
    struct fixture *fixture = &model.fixture;
    if (draw(4) == 0 &&
        disk_checkpoint_step(&model.disk, model.applied, (uint32_t)draw(40 + model.count / 200)) &&
        draw(4) == 0)
        check_restart();
    if (draw(40) == 0)
        while (!disk_checkpoint_step(&model.disk, model.applied, UINT32_MAX))
            continue;
    if (draw(6) == 0)
        disk_evict(&model.disk, draw(20) == 0 ? UINT64_MAX : draw(200000));
    if (frames_available(fixture->frames) < fixture->geometry.frames_size / 4) {
        disk_checkpoint(&model.disk, model.applied);
        disk_evict(&model.disk, fixture->geometry.frames_size / 4);
        frames_reclaim(fixture->frames, false);
    }
}

/* --- reading --- */

static void
expect_value(const struct key *key, mshm_timestamp snapshot, int status, const uint8_t *bytes,
             uint64_t size)
{
    static uint8_t wanted[MSHM_MAX_INLINE];
    const struct value *value = value_at(key, snapshot);
    if (status != (value ? MSHM_OK : MSHM_NOT_FOUND))
        ck_abort_msg("key %ld at snapshot %llu: status %d", (long)(key - model.keys),
                     (unsigned long long)snapshot, status);
    if (!value)
        return;
    REQUIRE(size == value->size);
    value_fill(wanted, value->seed, value->size);
    REQUIRE(memcmp(bytes, wanted, size) == 0);
}

static void
check_get(uint32_t index, struct mshm_lane *lane, mshm_timestamp snapshot)
{
    static uint8_t buffer[MSHM_MAX_INLINE];
    const struct key *key = &model.keys[index];
    uint64_t size = 0;
    mshm_pid missing;
    int status;
    while (
        (status = mshm_get(&model.fixture.view, lane, NULL, model.target.ref, key->bytes, key->size,
                           snapshot, buffer, sizeof(buffer), &size, NULL, &missing)) == MSHM_BUSY)
        page_in(missing);
    expect_value(key, snapshot ? snapshot : AO_load(&model.fixture.store->visible), status, buffer,
                 size);
}

/* A restart finds exactly what had been committed at the cut, whatever was written while the pages were packed. */
static void
check_restart(void)
{
    static struct fixture twin;
    static uint8_t buffer[MSHM_MAX_INLINE];
    struct page_disk disk;
    uint64_t live = 0;
    fixture_init(&twin, model.fixture.geometry.frames_size, 1 << 20, 1 << 16);
    fixture_tree(&twin, PAGE_SIZE, 16 << 20);
    disk_restart(&model.disk, &twin, &disk);
    for (uint32_t i = 0; i < model.count; i++) {
        const struct key *key = &model.keys[i];
        uint64_t size = 0;
        mshm_pid missing;
        int status;
        while ((status = mshm_get(&twin.view, &twin.lanes[0], NULL, model.target.ref, key->bytes,
                                  key->size, disk.cut, buffer, sizeof(buffer), &size, NULL,
                                  &missing)) == MSHM_BUSY)
            REQUIRE(disk_page_in(&disk, missing));
        expect_value(key, disk.cut, status, buffer, size);
        live += value_at(key, disk.cut) != NULL;
        if (i == model.count / 2) /* some pages in memory, others not */
            REQUIRE(fixture_tree_ok(&twin, model.target.ref) > 0 || live == 0);
    }
    REQUIRE(fixture_tree_ok(&twin, model.target.ref) == live);
    disk_ok(&disk);
    page_content_destroy(disk.content);
    fixture_fini(&twin);
    model.restarts++;
}

static mshm_timestamp
lane_snapshot(unsigned lane)
{
    return AO_load(&model.fixture.lanes[lane].snapshot);
}

/* Goes through the entries of one copied leaf; returns the next key index of the oracle. */
static uint32_t
check_leaf(uint32_t index, uint32_t copy_size, struct mshm_lane *lane, mshm_timestamp snapshot,
           bool forward)
{
    static struct mshm_leaf_iterator iterator;
    struct mshm_version version;
    REQUIRE_STATUS(mshm_leaf_iterator_init(&iterator, model.copy, copy_size), MSHM_OK);
    while ((forward ? mshm_leaf_iterator_next(&iterator, snapshot, &version)
                    : mshm_leaf_iterator_previous(&iterator, snapshot, &version)) == MSHM_OK) {
        struct key wanted = {.bytes = (uint8_t *)(uintptr_t)version.key, .size = version.key_size};
        uint32_t at = forward ? index : index - 1;
        while (key_order(&model.keys[at], &wanted) != 0) {
            REQUIRE(value_at(&model.keys[at], snapshot) == NULL);
            at += forward ? 1 : -1u;
            REQUIRE(at < model.count);
        }
        if (version.kind == 0)
            check_get(at, lane, snapshot);
        else
            expect_value(&model.keys[at], snapshot,
                         version.kind == MSHM_ENTRY_TOMBSTONE ? MSHM_NOT_FOUND : MSHM_OK,
                         version.value, version.value_size);
        index = forward ? at + 1 : at;
    }
    return index;
}

static void
check_scan(struct mshm_lane *lane, mshm_timestamp snapshot, bool forward)
{
    static uint8_t bound[MSHM_MAX_KEY];
    uint32_t size = 0, bound_size = 0, index = forward ? 0 : model.count;
    enum mshm_leaf_where where = forward ? MSHM_LEAF_AT : MSHM_LEAF_LAST;
    for (;;) {
        mshm_pid missing;
        struct mshm_fences fences;
        int status = mshm_leaf_copy(&model.fixture.view, lane, NULL, model.target.ref, snapshot,
                                    where, bound, bound_size, 0, model.copy, &size, &missing);
        if (status == MSHM_BUSY) {
            page_in(missing);
            continue;
        }
        REQUIRE_STATUS(status, MSHM_OK);
        index = check_leaf(index, size, lane, snapshot, forward);
        REQUIRE_STATUS(mshm_page_fences(model.copy, size, &fences), MSHM_OK);
        if (forward ? fences.high_size == MSHM_FENCE_INFINITE : fences.low_size == 0)
            break;
        bound_size = forward ? fences.high_size : fences.low_size;
        memcpy(bound, forward ? fences.high : fences.low, bound_size);
        where = forward ? MSHM_LEAF_AT : MSHM_LEAF_BELOW;
    }
    while (forward ? index < model.count : index > 0) {
        REQUIRE(value_at(&model.keys[forward ? index : index - 1], snapshot) == NULL);
        index += forward ? 1 : -1u;
    }
}

static void
check_reads(unsigned gets)
{
    for (unsigned i = 0; i < gets; i++) {
        unsigned lane = (unsigned)draw(LANES);
        mshm_timestamp snapshot = lane_snapshot(lane);
        uint32_t index = (uint32_t)draw(model.count);
        if (snapshot)
            check_get(index, &model.fixture.lanes[lane], snapshot);
        else
            check_get(index, &model.fixture.lanes[ONE_CALL], 0);
    }
}

static void
check_everything(void)
{
    uint64_t live = 0;
    for (uint32_t i = 0; i < model.count; i++)
        live += value_at(&model.keys[i], UINT64_MAX) != NULL;
    REQUIRE(fixture_tree_ok(&model.fixture, model.target.ref) == live);
    fixture_frames_ok(&model.fixture);
    disk_ok(&model.disk);
    if (!model.paged)
        return;
    tree_set_peek(model.fixture.tree, NULL, NULL); /* what is out of memory is passed over */
    REQUIRE(fixture_tree_ok(&model.fixture, model.target.ref) <= live);
    tree_set_peek(model.fixture.tree, disk_peek, &model.disk);
}

/* --- writing --- */

static int
resolve(void *argument, uint32_t bucket, struct tree_target *target)
{
    (void)argument;
    if (bucket != model.target.ref.bucket)
        return MSHM_NOT_FOUND;
    *target = model.target;
    return MSHM_OK;
}

struct write {
    uint32_t index;
    unsigned kind;
    uint32_t seed;
    uint16_t size;
};

static int
write_order(const void *a, const void *b)
{
    uint32_t left = ((const struct write *)a)->index, right = ((const struct write *)b)->index;
    return left < right ? -1 : left > right;
}

static unsigned
kind_draw(void)
{
    uint64_t which = draw(100);
    if (which < (model.shrink ? 10 : 70))
        return MSHM_OP_PUT;
    if (which < 90)
        return MSHM_OP_DELETE;
    return MSHM_OP_INSERT + (unsigned)draw(3);
}

static uint16_t
value_size_draw(void)
{
    uint64_t which = draw(100);
    if (which < 5)
        return 0;
    if (which < 80)
        return (uint16_t)draw(64);
    if (which < 98)
        return (uint16_t)draw(model.most_value / 8 + 1);
    return (uint16_t)draw(model.most_value + 1);
}

/* Chooses distinct keys: at random, or a run in one direction. */
static uint32_t
writes_draw(struct write *writes, uint32_t wanted, bool plain)
{
    bool run = draw(4) == 0;
    uint32_t first = draw(3) == 0 ? (uint32_t)draw(model.count) : model.next, count = 0;
    if (run && model.shrink)
        wanted *= 8;
    for (uint32_t i = 0; i < wanted; i++) {
        uint32_t index = run ? (first + i) % model.count : (uint32_t)draw(model.count);
        if (!run && draw(3) == 0)
            index %= 37; /* a few hot keys */
        writes[i] = (struct write){.index = index,
                                   .kind = plain ? MSHM_OP_PUT : kind_draw(),
                                   .seed = (uint32_t)fixture_random(&model.random),
                                   .size = value_size_draw()};
    }
    if (run)
        model.next = (first + wanted) % model.count;
    qsort(writes, wanted, sizeof(*writes), write_order);
    for (uint32_t i = 0; i < wanted; i++)
        if (count == 0 || writes[count - 1].index != writes[i].index)
            writes[count++] = writes[i];
    return count;
}

static int
expected_status(const struct write *writes, uint32_t count, mshm_timestamp snapshot)
{
    for (uint32_t i = 0; i < count; i++) {
        const struct key *key = &model.keys[writes[i].index];
        bool present = value_at(key, UINT64_MAX) != NULL;
        if (key->count && key->values[key->count - 1].timestamp > snapshot)
            return MSHM_CONFLICT;
        if (writes[i].kind == MSHM_OP_INSERT && present)
            return MSHM_EXISTS;
        if ((writes[i].kind == MSHM_OP_UPDATE || writes[i].kind == MSHM_OP_DELETE_EXISTING) &&
            !present)
            return MSHM_NOT_FOUND;
    }
    return MSHM_OK;
}

/* While the pages of one operation are missing, what another one meets comes first. */
static bool
status_possible(const struct write *writes, uint32_t count, mshm_timestamp snapshot, int status)
{
    for (uint32_t i = 0; i < count; i++)
        if (expected_status(writes + i, 1, snapshot) == status)
            return true;
    return false;
}

static uint64_t
writes_encode(const struct write *writes, uint32_t count)
{
    static uint8_t value[MSHM_MAX_INLINE];
    uint64_t size = 0;
    for (uint32_t i = 0; i < count; i++) {
        const struct key *key = &model.keys[writes[i].index];
        bool deletes =
            writes[i].kind == MSHM_OP_DELETE || writes[i].kind == MSHM_OP_DELETE_EXISTING;
        uint32_t value_size = deletes ? 0 : writes[i].size;
        REQUIRE(size + mshm_op_size(key->size, value_size) <= OPS_BYTES);
        value_fill(value, writes[i].seed, value_size);
        size += mshm_op_write(model.ops + size, model.target.ref.bucket, writes[i].kind, key->bytes,
                              key->size, value, value_size);
    }
    return size;
}

static void
writes_note(const struct write *writes, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++)
        value_add(&model.keys[writes[i].index],
                  (struct value){.timestamp = model.applied,
                                 .seed = writes[i].seed,
                                 .size = writes[i].size,
                                 .deleted = writes[i].kind == MSHM_OP_DELETE ||
                                            writes[i].kind == MSHM_OP_DELETE_EXISTING});
}

/* Plans a commit and applies it, now and then cancelling it first. */
static int
commit(const struct write *writes, uint32_t count, mshm_timestamp snapshot)
{
    struct fixture *fixture = &model.fixture;
    struct tree_plan *plan;
    uint64_t size = writes_encode(writes, count);
    const struct mshm_op *ops = (const void *)model.ops;
    for (bool again = draw(20) == 0;; again = false) {
        int status = tree_plan(fixture->tree, ops, size, count, snapshot, resolve, NULL, &plan);
        if (status == MSHM_BUSY) {
            model.missed++;
            disk_fetch(&model.disk);
            continue;
        }
        if (status)
            return status;
        if (!again)
            break;
        tree_cancel(fixture->tree, plan);
    }
    tree_apply(fixture->tree, plan, ++model.applied);
    model.operations += count;
    writes_note(writes, count);
    return MSHM_OK;
}

static void
commit_draw(void)
{
    static struct write writes[MAX_OPS];
    uint64_t which = draw(100);
    uint32_t wanted = which < 60   ? 1
                      : which < 97 ? 2 + (uint32_t)draw(20)
                                   : 50 + (uint32_t)draw(400);
    bool one_call = wanted == 1 && draw(2) == 0;
    mshm_timestamp snapshot = AO_load(&model.fixture.store->visible);
    unsigned lane = (unsigned)draw(LANES);
    if (draw(8) == 0 && lane_snapshot(lane))
        snapshot = lane_snapshot(lane);
    if (one_call)
        snapshot = UINT64_MAX;
    uint32_t count = writes_draw(writes, wanted, false);
    int wanted_status = expected_status(writes, count, snapshot);
    int status = commit(writes, count, snapshot);
    if (status != wanted_status &&
        !(model.paged && status_possible(writes, count, snapshot, status)))
        ck_abort_msg("a commit got %d instead of %d", status, wanted_status);
    if (draw(3) != 0)
        AO_store_release(&model.fixture.store->visible, model.applied);
}

static void
lanes_change(void)
{
    struct mshm_lane *lane = &model.fixture.lanes[draw(model.held)];
    if (AO_load(&lane->snapshot))
        mshm_snapshot_release(lane);
    else
        mshm_snapshot_register(model.fixture.store, lane);
}

/* What the loop does between commits. */
static void
maintain(void)
{
    struct fixture *fixture = &model.fixture;
    fixture->now_ns += 1000000;
    if (draw(2) == 0)
        fixture_collect(fixture);
    frames_reclaim(fixture->frames, draw(8) == 0);
    if (draw(3) == 0)
        tree_tend(fixture->tree, 4);
    if (draw(6) == 0)
        tree_tidy(fixture->tree, 8, resolve, NULL);
    if (draw(20) == 0)
        while (tree_history_prune(fixture->tree, 16))
            continue;
    if (draw(20) == 0)
        tree_history_costliest(fixture->tree);
}

static void
round_run(unsigned commits)
{
    model.shrink = draw(4) == 0;
    for (unsigned i = 0; i < commits; i++) {
        commit_draw();
        if (draw(10) == 0)
            lanes_change();
        if (draw(8) == 0)
            maintain();
        if (model.paged)
            pages_change();
        check_reads(2);
    }
    check_everything();
    struct mshm_lane *lane = &model.fixture.lanes[LANES];
    mshm_timestamp snapshot = mshm_snapshot_register(model.fixture.store, lane);
    check_scan(lane, snapshot, draw(2) == 0);
    mshm_snapshot_release(lane);
    unsigned held = (unsigned)draw(LANES);
    if (lane_snapshot(held))
        check_scan(&model.fixture.lanes[held], lane_snapshot(held), draw(2) == 0);
}

static void
model_begin(uint64_t seed, uint32_t keys, uint32_t most_value, unsigned held, uint64_t cache)
{
    memset(&model, 0, sizeof(model));
    model.random = fixture_seed(seed);
    model.most_value = most_value;
    model.held = held;
    model.applied = 1;
    model.ops = malloc(OPS_BYTES);
    model.copy = aligned_alloc(64, MSHM_MAX_FRAME);
    keys_draw(keys);
    model.paged = cache != 0;
    fixture_init(&model.fixture, model.paged ? cache : UINT64_C(256) << 20, 1 << 20, 1 << 16);
    fixture_tree(&model.fixture, PAGE_SIZE, 16 << 20);
    disk_init(&model.disk, &model.fixture);
    tree_set_peek(model.fixture.tree, disk_peek, &model.disk);
    tree_set_resolve(model.fixture.tree, resolve, NULL);
    model.target = (struct tree_target){.ref.bucket = 7, .page_size = PAGE_SIZE};
    ck_assert_int_eq(tree_bucket_create(model.fixture.tree, 7, PAGE_SIZE, &model.target.ref.root),
                     MSHM_OK);
}

/* Destroys the bucket: every frame and history frame must come back. */
static void
model_end(void)
{
    struct fixture *fixture = &model.fixture;
    const mshm_pid *pids;
    while (tree_bucket_destroy(fixture->tree, model.target.ref.root, 7, 64) == MSHM_BUSY)
        if (tree_missing(fixture->tree, &pids) > 0)
            disk_fetch(&model.disk);
    disk_checkpoint(&model.disk, model.applied); /* one may be under way */
    disk_checkpoint(&model.disk, model.applied);
    disk_ok(&model.disk);
    frames_reclaim(fixture->frames, false);
    fixture_frames_ok(fixture);
    frames_report(fixture->frames, &fixture->counters);
    ck_assert_uint_eq(AO_load(&fixture->counters.cache_used), 0);
    ck_assert_uint_eq(AO_load(&fixture->counters.pages_leaf), 0);
    ck_assert_uint_eq(AO_load(&fixture->counters.pages_inner), 0);
    ck_assert_uint_eq(AO_load(&fixture->counters.pages_history), 0);
    ck_assert_uint_eq(AO_load(&fixture->counters.history_bytes), 0);
    disk_fini(&model.disk);
    fixture_fini(fixture);
    for (uint32_t i = 0; i < model.count; i++) {
        free(model.keys[i].bytes);
        free(model.keys[i].values);
    }
    free(model.keys);
    free(model.ops);
    free(model.copy);
}

static void
model_run(uint64_t seed, uint32_t keys, uint32_t most_value, unsigned held, uint64_t cache,
          uint64_t operations)
{
    model_begin(seed, keys, most_value, held, cache);
    while (model.operations < operations)
        round_run(200);
    printf("%llu operations, %llu splits, %llu consolidations, %llu pruned\n",
           (unsigned long long)model.operations,
           (unsigned long long)AO_load(&model.fixture.counters.splits),
           (unsigned long long)AO_load(&model.fixture.counters.consolidations),
           (unsigned long long)AO_load(&model.fixture.counters.versions_pruned));
    if (model.paged)
        printf("%llu page-ins, %llu times pages were missed, %llu blind writes, %llu merges, "
               "%llu full records, %llu deltas, %llu KiB, %llu restarts\n",
               (unsigned long long)model.disk.loads, (unsigned long long)model.missed,
               (unsigned long long)AO_load(&model.fixture.counters.blind_writes),
               (unsigned long long)AO_load(&model.fixture.counters.merges),
               (unsigned long long)model.disk.fulls, (unsigned long long)model.disk.deltas,
               (unsigned long long)model.disk.bytes >> 10, (unsigned long long)model.restarts);
    model_end();
}

START_TEST(random_history_over_many_small_keys_matches_the_oracle)
{
    model_run(1, 20000, 100, LANES, 0, 120000);
}
END_TEST

START_TEST(random_history_over_few_keys_and_many_snapshots_matches_the_oracle)
{
    model_run(2, 300, 400, LANES, 0, 60000);
}
END_TEST

START_TEST(random_history_with_large_values_matches_the_oracle)
{
    model_run(3, 2000, MSHM_MAX_INLINE, LANES, 0, 30000);
}
END_TEST

START_TEST(random_history_without_snapshots_matches_the_oracle)
{
    model_run(4, 3000, 200, 1, 0, 40000);
}
END_TEST

START_TEST(pages_that_leave_and_come_back_match_the_oracle)
{
    model_run(5, 20000, 100, LANES, 64 << 20, 60000);
}
END_TEST

START_TEST(pages_with_history_that_leave_and_come_back_match_the_oracle)
{
    model_run(6, 300, 400, LANES, 64 << 20, 40000);
}
END_TEST

START_TEST(pages_with_large_values_that_leave_and_come_back_match_the_oracle)
{
    model_run(7, 2000, MSHM_MAX_INLINE, LANES, 128 << 20, 20000);
}
END_TEST

START_TEST(pages_without_snapshots_that_leave_and_come_back_match_the_oracle)
{
    model_run(8, 20000, 100, 1, 16 << 20, 60000);
}
END_TEST

int
main(void)
{
    Suite *suite = suite_create("tree_model");
    TCase *tcase = tcase_create("model");
    tcase_set_timeout(tcase, 300);
    tcase_add_test(tcase, random_history_over_many_small_keys_matches_the_oracle);
    tcase_add_test(tcase, random_history_over_few_keys_and_many_snapshots_matches_the_oracle);
    tcase_add_test(tcase, random_history_with_large_values_matches_the_oracle);
    tcase_add_test(tcase, random_history_without_snapshots_matches_the_oracle);
    tcase_add_test(tcase, pages_that_leave_and_come_back_match_the_oracle);
    tcase_add_test(tcase, pages_with_history_that_leave_and_come_back_match_the_oracle);
    tcase_add_test(tcase, pages_with_large_values_that_leave_and_come_back_match_the_oracle);
    tcase_add_test(tcase, pages_without_snapshots_that_leave_and_come_back_match_the_oracle);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
