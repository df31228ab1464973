/* The index writer, one property at a time: splits at the right place, history, tombstones, a full cache, every step of a
 * publication under readers. Random histories are in tree_model_test.c. */
#include "kill_point.h"
#include "tree_parts.h"
#include "unit/broker/page_disk.h"

#include <pthread.h>

enum { BUCKET = 5, OTHER = 9, PAGE_SIZE = 8192, OPS_BYTES = 8 << 20 };

static struct fixture fixture;
static struct tree_target target, other; /* two buckets; the second only where a case makes it */
static mshm_timestamp applied;

/* A commit in the making. */
static uint8_t ops[OPS_BYTES];
static uint64_t ops_size, ops_count;

static int
resolve(void *argument, uint32_t bucket, struct tree_target *result)
{
    (void)argument;
    *result = bucket == BUCKET ? target : other;
    return bucket == BUCKET || (other.ref.root && bucket == OTHER) ? MSHM_OK : MSHM_NOT_FOUND;
}

static void
begin(uint64_t cache, uint64_t reserve, uint32_t page_size)
{
    fixture_init(&fixture, cache, reserve, 1 << 16);
    fixture_tree(&fixture, page_size, cache / 4);
    tree_set_resolve(fixture.tree, resolve, NULL);
    target = (struct tree_target){.ref.bucket = BUCKET, .page_size = page_size};
    applied = 1;
    ck_assert_int_eq(tree_bucket_create(fixture.tree, BUCKET, page_size, &target.ref.root),
                     MSHM_OK);
}

static void
end(void)
{
    fixture_tree_ok(&fixture, target.ref);
    fixture_frames_ok(&fixture);
    fixture_fini(&fixture);
}

static uint64_t
counter(const AO_t *word)
{
    frames_report(fixture.frames, &fixture.counters);
    return AO_load(word);
}

static void
op(unsigned kind, const void *key, size_t key_size, const void *value, size_t value_size)
{
    REQUIRE(ops_size + mshm_op_size((uint16_t)key_size, (uint32_t)value_size) <= OPS_BYTES);
    ops_size += mshm_op_write(ops + ops_size, BUCKET, kind, key, (uint16_t)key_size, value,
                              (uint32_t)value_size);
    ops_count++;
}

/* Commits what `op` gathered; visible follows. */
static int
commit_at(mshm_timestamp snapshot)
{
    struct tree_plan *plan;
    int status = tree_plan(fixture.tree, (const struct mshm_op *)(const void *)ops, ops_size,
                           ops_count, snapshot, resolve, NULL, &plan);
    ops_size = ops_count = 0;
    if (status)
        return status;
    tree_apply(fixture.tree, plan, ++applied);
    AO_store_release(&fixture.store->visible, applied);
    return MSHM_OK;
}

static int
commit(void)
{
    return commit_at(applied);
}

static int
put(const char *key, const void *value, size_t value_size)
{
    op(MSHM_OP_PUT, key, strlen(key), value, value_size);
    return commit();
}

static int
erase(const char *key)
{
    op(MSHM_OP_DELETE, key, strlen(key), NULL, 0);
    return commit();
}

/* Keys in order by number. */
static const char *
name(uint64_t number)
{
    static char text[32];
    snprintf(text, sizeof(text), "key-%012llu", (unsigned long long)number);
    return text;
}

static int
get_bytes(const void *key, size_t key_size, mshm_timestamp snapshot, void *buffer, uint64_t *size)
{
    mshm_pid missing;
    return mshm_get(&fixture.view, &fixture.lanes[60], NULL, target.ref, key, key_size, snapshot,
                    buffer, MSHM_MAX_INLINE, size, NULL, &missing);
}

/* The number that stands at the front of a value, 0 when the key is absent. */
static uint64_t
get(const char *key, mshm_timestamp snapshot)
{
    static uint8_t buffer[MSHM_MAX_INLINE];
    uint64_t size = 0, number = 0;
    int status = get_bytes(key, strlen(key), snapshot, buffer, &size);
    if (status == MSHM_NOT_FOUND)
        return 0;
    REQUIRE_STATUS(status, MSHM_OK);
    memcpy(&number, buffer, size < 8 ? size : 8);
    return number;
}

static mshm_timestamp
hold(unsigned lane)
{
    return mshm_snapshot_register(fixture.store, &fixture.lanes[lane]);
}

static void
release(unsigned lane)
{
    mshm_snapshot_release(&fixture.lanes[lane]);
}

/* Entries in the longest tail of the first 1,000 pages; only what was given out of the page map is backed. */
static uint64_t
longest_tail(void)
{
    uint64_t longest = 0;
    for (mshm_pid pid = 1; pid <= 1000; pid++) {
        AO_t word = AO_load(frames_map(fixture.frames, pid));
        if (mshm_map_state(word) != MSHM_MAP_RESIDENT)
            continue;
        const struct mshm_page *page = (const void *)frames_address(fixture.frames, word);
        if (page->kind == MSHM_PAGE_LEAF && AO_load(&page->tail_count) > longest)
            longest = AO_load(&page->tail_count);
    }
    return longest;
}

START_TEST(idle_time_empties_tails_and_changes_no_answer)
{
    enum { KEYS = 2000 };
    begin(8 << 20, 1 << 20, 4096);
    for (uint64_t i = 1; i <= KEYS; i++)
        ck_assert_int_eq(put(name(i * 7919 % KEYS), &i, sizeof(i)), MSHM_OK);
    mshm_timestamp old = hold(0);
    for (uint64_t i = 0; i < KEYS; i += 3) {
        uint64_t number = i + 1000000;
        ck_assert_int_eq(put(name(i), &number, sizeof(number)), MSHM_OK);
    }
    ck_assert_uint_gt(longest_tail(), TIDY_TAIL);
    unsigned calls = 0;
    while (tree_tidy(fixture.tree, 8, resolve, NULL))
        calls++;
    ck_assert_uint_gt(calls, 1); /* the budget of a call is kept */
    ck_assert_uint_le(longest_tail(), TIDY_TAIL);
    ck_assert(!tree_tidy(fixture.tree, 8, resolve, NULL));
    for (uint64_t i = 1; i <= KEYS; i++) {
        uint64_t key = i * 7919 % KEYS;
        ck_assert_uint_eq(get(name(key), old), i);
        ck_assert_uint_eq(get(name(key), applied), key % 3 == 0 ? key + 1000000 : i);
    }
    release(0);
    end();
}
END_TEST

/* --- one leaf --- */

START_TEST(put_is_read_back_by_newer_snapshots_only)
{
    begin(4 << 20, 0, PAGE_SIZE);
    mshm_timestamp before = hold(0);
    ck_assert_int_eq(put("a", &(uint64_t){7}, 8), MSHM_OK);
    mshm_timestamp after = hold(1);
    ck_assert_uint_eq(get("a", before), 0);
    ck_assert_uint_eq(get("a", after), 7);
    ck_assert_uint_eq(get("a", 0), 7);
    ck_assert_uint_eq(get("b", 0), 0);
    end();
}
END_TEST

START_TEST(preconditions_are_decided_against_the_newest_version)
{
    begin(4 << 20, 0, PAGE_SIZE);
    uint64_t one = 1;
    struct {
        unsigned kind;
        int absent, present;
    } rows[] = {{MSHM_OP_INSERT, MSHM_OK, MSHM_EXISTS},
                {MSHM_OP_UPDATE, MSHM_NOT_FOUND, MSHM_OK},
                {MSHM_OP_DELETE_EXISTING, MSHM_NOT_FOUND, MSHM_OK}};
    for (unsigned i = 0; i < 3; i++) {
        erase("k"); /* a tombstone counts as absent */
        op(rows[i].kind, "k", 1, &one, rows[i].kind == MSHM_OP_DELETE_EXISTING ? 0 : 8);
        ck_assert_int_eq(commit_at(UINT64_MAX), rows[i].absent);
        put("k", &one, 8);
        op(rows[i].kind, "k", 1, &one, rows[i].kind == MSHM_OP_DELETE_EXISTING ? 0 : 8);
        ck_assert_int_eq(commit_at(UINT64_MAX), rows[i].present);
    }
    end();
}
END_TEST

START_TEST(second_writer_of_a_key_conflicts_whatever_was_pruned)
{
    begin(4 << 20, 0, PAGE_SIZE);
    put("k", &(uint64_t){1}, 8);
    mshm_timestamp old = hold(0);
    for (unsigned i = 0; i < 500; i++)
        put("k", &(uint64_t){2}, 8);
    op(MSHM_OP_PUT, "k", 1, "x", 1);
    ck_assert_int_eq(commit_at(old), MSHM_CONFLICT);
    op(MSHM_OP_PUT, "l", 1, "x", 1);
    ck_assert_int_eq(commit_at(old), MSHM_OK);
    end();
}
END_TEST

START_TEST(tombstone_under_an_older_snapshot_keeps_the_conflict)
{
    begin(4 << 20, 0, PAGE_SIZE);
    put("k", &(uint64_t){1}, 8);
    mshm_timestamp old = hold(0);
    erase("k");
    for (uint64_t i = 0; i < 2000; i++) /* many rebuilds of its leaf */
        put(name(i % 50), &i, 8);
    fixture_collect(&fixture);
    for (uint64_t i = 0; i < 2000; i++)
        put(name(i % 50), &i, 8);
    ck_assert_uint_eq(get("k", old), 1);
    ck_assert_uint_eq(get("k", 0), 0);
    op(MSHM_OP_PUT, "k", 1, "x", 1);
    ck_assert_int_eq(commit_at(old), MSHM_CONFLICT);
    end();
}
END_TEST

START_TEST(tombstones_vanish_when_no_snapshot_needs_them)
{
    begin(4 << 20, 0, PAGE_SIZE);
    for (uint64_t i = 0; i < 60; i++)
        put(name(i), &i, 8);
    for (uint64_t i = 0; i < 60; i++)
        erase(name(i));
    fixture_collect(&fixture);
    for (uint64_t i = 0; i < 70; i++)
        put("z", &i, 8); /* rebuilds the leaf */
    struct mshm_page *page =
        (void *)frames_address(fixture.frames, AO_load(&fixture.view.map[target.ref.root]));
    ck_assert_uint_eq(page->key_count, 1);
    ck_assert_uint_eq(fixture_tree_ok(&fixture, target.ref), 1);
    end();
}
END_TEST

START_TEST(cancelled_plan_leaves_no_trace)
{
    begin(16 << 20, 0, PAGE_SIZE);
    for (uint64_t i = 0; i < 3000; i++)
        put(name(i * 2), &(uint64_t){i + 1}, 8);
    uint64_t used = counter(&fixture.counters.cache_used);
    for (uint64_t i = 0; i < 3000; i++)
        op(MSHM_OP_PUT, name(i * 2 + 1), 16, "12345678", 8);
    struct tree_plan *plan;
    ck_assert_int_eq(tree_plan(fixture.tree, (const void *)ops, ops_size, ops_count, applied,
                               resolve, NULL, &plan),
                     MSHM_OK);
    ck_assert_uint_gt(counter(&fixture.counters.cache_used), used);
    tree_cancel(fixture.tree, plan);
    ops_size = ops_count = 0;
    ck_assert_uint_eq(counter(&fixture.counters.cache_used), used);
    ck_assert_uint_eq(fixture_tree_ok(&fixture, target.ref), 3000);
    for (uint64_t i = 0; i < 3000; i++)
        REQUIRE(get(name(i * 2), 0) == i + 1 && get(name(i * 2 + 1), 0) == 0);
    end();
}
END_TEST

START_TEST(conflict_in_the_last_operation_changes_nothing)
{
    begin(16 << 20, 0, PAGE_SIZE);
    put("zzz", &(uint64_t){1}, 8);
    mshm_timestamp old = hold(0);
    put("zzz", &(uint64_t){2}, 8);
    for (uint64_t i = 0; i < 1000; i++)
        op(MSHM_OP_PUT, name(i), 16, "12345678", 8);
    op(MSHM_OP_PUT, "zzz", 3, "12345678", 8);
    ck_assert_int_eq(commit_at(old), MSHM_CONFLICT);
    ck_assert_uint_eq(fixture_tree_ok(&fixture, target.ref), 1);
    end();
}
END_TEST

START_TEST(commit_that_needs_too_much_of_the_cache_is_too_big)
{
    begin(4 << 20, 0, PAGE_SIZE);
    static uint8_t value[4096];
    for (uint64_t i = 0; i < 400; i++)
        op(MSHM_OP_PUT, name(i), 16, value, sizeof(value));
    ck_assert_int_eq(commit(), MSHM_TOO_BIG);
    ck_assert_uint_eq(fixture_tree_ok(&fixture, target.ref), 0);
    end();
}
END_TEST

START_TEST(leaf_with_a_nearly_full_tail_is_rebuilt_when_there_is_time)
{
    begin(4 << 20, 0, PAGE_SIZE);
    for (uint64_t i = 0; i < 60; i++)
        put(name(i), &i, 8);
    const uint8_t *frame =
        frames_address(fixture.frames, AO_load(&fixture.view.map[target.ref.root]));
    ck_assert_uint_eq(mshm_leaf_tail_room(frame), 4);
    ck_assert(!tree_tend(fixture.tree, 10));
    frame = frames_address(fixture.frames, AO_load(&fixture.view.map[target.ref.root]));
    ck_assert_uint_eq(mshm_leaf_tail_room(frame), 64);
    ck_assert_uint_eq(fixture_tree_ok(&fixture, target.ref), 60);
    end();
}
END_TEST

/* --- keys and values of all sizes --- */

START_TEST(keys_of_every_length_are_kept_and_found)
{
    begin(64 << 20, 0, PAGE_SIZE);
    static uint8_t key[MSHM_MAX_KEY], buffer[MSHM_MAX_INLINE];
    memset(key, 'k', sizeof(key));
    for (uint32_t size = 1; size <= MSHM_MAX_KEY; size++) {
        op(MSHM_OP_PUT, key, size, &size, sizeof(size));
        REQUIRE_STATUS(commit(), MSHM_OK);
    }
    ck_assert_uint_eq(fixture_tree_ok(&fixture, target.ref), MSHM_MAX_KEY);
    for (uint32_t size = 1; size <= MSHM_MAX_KEY; size++) {
        uint64_t value_size = 0;
        uint32_t found = 0;
        REQUIRE_STATUS(get_bytes(key, size, 0, buffer, &value_size), MSHM_OK);
        memcpy(&found, buffer, sizeof(found));
        REQUIRE(value_size == sizeof(found) && found == size);
    }
    end();
}
END_TEST

START_TEST(largest_keys_and_values_in_any_order_find_room)
{
    begin(256 << 20, 0, 4096); /* the smallest pages */
    static uint8_t key[MSHM_MAX_KEY], value[MSHM_MAX_INLINE], buffer[MSHM_MAX_INLINE];
    uint64_t random = fixture_seed(3);
    memset(key, 0xff, sizeof(key));
    for (uint32_t i = 0; i < 600; i++) {
        uint32_t number = __builtin_bswap32((i * 251u) % 600u);
        memcpy(key + sizeof(key) - 4, &number, 4); /* all of a key but its end is shared */
        memset(value, (int)i, sizeof(value));
        op(MSHM_OP_PUT, key, sizeof(key), value,
           fixture_random(&random) % 3 ? sizeof(value) : (size_t)(fixture_random(&random) % 64));
        REQUIRE_STATUS(commit(), MSHM_OK);
    }
    ck_assert_uint_eq(fixture_tree_ok(&fixture, target.ref), 600);
    uint64_t size;
    for (uint32_t i = 0; i < 600; i++) {
        uint32_t number = __builtin_bswap32((i * 251u) % 600u);
        memcpy(key + sizeof(key) - 4, &number, 4);
        REQUIRE_STATUS(get_bytes(key, sizeof(key), 0, buffer, &size), MSHM_OK);
        REQUIRE(size == 0 || (buffer[0] == (uint8_t)i && buffer[size - 1] == (uint8_t)i));
    }
    end();
}
END_TEST

START_TEST(empty_value_is_a_value)
{
    begin(4 << 20, 0, PAGE_SIZE);
    uint8_t buffer[MSHM_MAX_INLINE];
    uint64_t size = 1;
    op(MSHM_OP_PUT, "k", 1, NULL, 0);
    ck_assert_int_eq(commit(), MSHM_OK);
    for (uint64_t i = 0; i < 300; i++)
        put(name(i), NULL, 0);
    ck_assert_int_eq(get_bytes("k", 1, 0, buffer, &size), MSHM_OK);
    ck_assert_uint_eq(size, 0);
    ck_assert_uint_eq(fixture_tree_ok(&fixture, target.ref), 301);
    end();
}
END_TEST

/* --- where pages are cut --- */

struct fill {
    uint64_t used, total;
};

static void
fill_add(mshm_pid pid, struct fill *fill)
{
    AO_t word = AO_load(&fixture.view.map[pid]);
    const uint8_t *frame = frames_address(fixture.frames, word);
    uint32_t size = mshm_class_size(mshm_map_class(word));
    const struct mshm_page *page = (const void *)frame;
    const mshm_pid *children = (const void *)(frame + page->children_at * 4);
    if (page->level == 0) {
        fill->total += size;
        fill->used += size - mshm_leaf_room(frame, size);
        return;
    }
    for (unsigned i = 0; i <= page->key_count; i++)
        fill_add(children[i], fill);
}

static double
fill_factor(void)
{
    struct fill fill = {0};
    fill_add(target.ref.root, &fill);
    return (double)fill.used / (double)fill.total;
}

START_TEST(load_in_key_order_fills_pages)
{
    static const uint32_t value_sizes[] = {16, 100, 1000};
    static uint8_t value[1000];
    for (unsigned i = 0; i < 3; i++) {
        begin(256 << 20, 0, PAGE_SIZE);
        for (uint64_t n = 0; n < 30000; n++)
            REQUIRE_STATUS(put(name(n), value, value_sizes[i]), MSHM_OK);
        printf("ascending, values of %u: %.3f full\n", value_sizes[i], fill_factor());
        ck_assert_double_gt(fill_factor(), 0.85);
        end();
    }
}
END_TEST

START_TEST(load_in_falling_order_fills_pages)
{
    begin(64 << 20, 0, PAGE_SIZE);
    for (uint64_t n = 30000; n > 0; n--)
        REQUIRE_STATUS(put(name(n), &n, 16 - 8), MSHM_OK);
    printf("descending: %.3f full\n", fill_factor());
    ck_assert_double_gt(fill_factor(), 0.85);
    end();
}
END_TEST

START_TEST(load_in_large_transactions_fills_pages)
{
    begin(64 << 20, 0, PAGE_SIZE);
    for (uint64_t n = 0; n < 30000;) {
        for (uint64_t stop = n + 1000; n < stop; n++)
            op(MSHM_OP_PUT, name(n), 16, "0123456789abcdef", 16);
        REQUIRE_STATUS(commit(), MSHM_OK);
    }
    printf("a thousand at a time: %.3f full\n", fill_factor());
    ck_assert_double_gt(fill_factor(), 0.85);
    end();
}
END_TEST

START_TEST(load_in_falling_order_in_large_transactions_keeps_everything)
{
    begin(64 << 20, 0, PAGE_SIZE);
    for (uint64_t n = 30000; n > 0; n -= 3000) {
        for (uint64_t i = n - 3000; i < n; i++)
            op(MSHM_OP_PUT, name(i), 16, "0123456789abcdef", 16);
        REQUIRE_STATUS(commit(), MSHM_OK);
    }
    printf("falling, three thousand at a time: %.3f full\n", fill_factor());
    ck_assert_double_gt(fill_factor(), 0.55);
    ck_assert_uint_eq(fixture_tree_ok(&fixture, target.ref), 30000);
    end();
}
END_TEST

/* Many writers, each appending to a range of its own. */
START_TEST(rising_runs_in_the_middle_fill_pages)
{
    begin(64 << 20, 0, PAGE_SIZE);
    for (uint64_t n = 0; n < 2000; n++)
        for (uint64_t run = 0; run < 20; run++)
            REQUIRE_STATUS(put(name(run * 1000000 + n), &n, 8), MSHM_OK);
    printf("twenty runs: %.3f full\n", fill_factor());
    ck_assert_double_gt(fill_factor(), 0.80);
    end();
}
END_TEST

START_TEST(random_load_leaves_room_in_pages)
{
    begin(64 << 20, 0, PAGE_SIZE);
    uint64_t random = fixture_seed(4);
    for (uint64_t n = 0; n < 60000; n++)
        REQUIRE_STATUS(put(name(fixture_random(&random) % 1000000000), &n, 8), MSHM_OK);
    printf("random: %.3f full\n", fill_factor());
    ck_assert_double_gt(fill_factor(), 0.55);
    ck_assert_double_lt(fill_factor(), 0.85);
    end();
}
END_TEST

/* --- history --- */

START_TEST(sixteen_snapshots_read_their_versions_among_many)
{
    enum { KEYS = 20, VERSIONS = 96, SNAPSHOTS = 16 };
    static uint8_t value[200];
    mshm_timestamp snapshots[SNAPSHOTS];
    begin(64 << 20, 0, PAGE_SIZE);
    for (uint64_t version = 1; version <= VERSIONS; version++) {
        for (uint64_t key = 0; key < KEYS; key++) {
            memcpy(value, &version, 8);
            REQUIRE_STATUS(put(name(key), value, sizeof(value)), MSHM_OK);
        }
        if (version % (VERSIONS / SNAPSHOTS) == 0)
            snapshots[version / (VERSIONS / SNAPSHOTS) - 1] =
                hold((unsigned)(version / (VERSIONS / SNAPSHOTS) - 1));
    }
    fixture_tree_ok(&fixture, target.ref);
    ck_assert_uint_gt(counter(&fixture.counters.history_bytes), 0);
    for (unsigned i = 0; i < SNAPSHOTS; i++)
        for (uint64_t key = 0; key < KEYS; key++)
            ck_assert_uint_eq(get(name(key), snapshots[i]), (i + 1) * (VERSIONS / SNAPSHOTS));
    /* At most one version for each snapshot, and the newest. */
    ck_assert_uint_lt(counter(&fixture.counters.history_bytes),
                      2 * KEYS * (SNAPSHOTS + 1) * (sizeof(value) + 16));
    for (unsigned i = 0; i < SNAPSHOTS; i++)
        release(i);
    fixture_collect(&fixture);
    while (tree_history_prune(fixture.tree, 4))
        continue;
    ck_assert_uint_eq(counter(&fixture.counters.history_bytes), 0);
    ck_assert_uint_eq(fixture_tree_ok(&fixture, target.ref), KEYS);
    end();
}
END_TEST

/* A snapshot that lives for ever keeps one version of each key, however many are written. */
START_TEST(one_old_snapshot_does_not_make_the_database_grow)
{
    begin(16 << 20, 0, PAGE_SIZE);
    for (uint64_t key = 0; key < 1000; key++)
        put(name(key), &(uint64_t){1}, 8);
    mshm_timestamp old = hold(0);
    for (uint64_t i = 0; i < 200000; i++) {
        REQUIRE_STATUS(put(name(i * 7919 % 1000), &(uint64_t){i + 2}, 8), MSHM_OK);
        if (i % 1000 == 0)
            frames_reclaim(fixture.frames, false);
    }
    frames_reclaim(fixture.frames, false);
    printf("%llu bytes for 2000 versions\n",
           (unsigned long long)counter(&fixture.counters.cache_used));
    ck_assert_uint_lt(counter(&fixture.counters.cache_used), 400000);
    for (uint64_t key = 0; key < 1000; key++)
        REQUIRE(get(name(key), old) == 1);
    end();
}
END_TEST

/* A single hot key whose versions are all needed: its leaf is never split, the versions go to history. */
START_TEST(versions_of_a_single_key_beyond_any_page_are_all_readable)
{
    enum { VERSIONS = 60 };
    static uint8_t value[8000];
    mshm_timestamp snapshots[VERSIONS];
    begin(64 << 20, 0, PAGE_SIZE);
    for (uint64_t i = 0; i < VERSIONS; i++) {
        memcpy(value, &(uint64_t){i + 1}, 8);
        REQUIRE_STATUS(put("hot", value, sizeof(value)), MSHM_OK);
        snapshots[i] = hold((unsigned)i);
    }
    fixture_tree_ok(&fixture, target.ref);
    for (uint64_t i = 0; i < VERSIONS; i++)
        ck_assert_uint_eq(get("hot", snapshots[i]), i + 1);
    ck_assert_uint_eq(counter(&fixture.counters.pages_leaf), 1);
    for (unsigned i = 0; i < VERSIONS; i++)
        release(i);
    fixture.now_ns += 1000000000;
    fixture_collect(&fixture);
    while (tree_tend(fixture.tree, 1))
        continue;
    ck_assert_uint_eq(counter(&fixture.counters.history_bytes), 0);
    end();
}
END_TEST

/* The leaf itself is small enough, so its rebuilds leave most of the history where it is: then the tombstone must stay,
 * or what is left there would be read again under the key's next version. */
START_TEST(deleted_key_does_not_come_back_from_history)
{
    enum { VERSIONS = 40 };
    static uint8_t value[6000];
    begin(64 << 20, 0, PAGE_SIZE);
    mshm_timestamp snapshots[VERSIONS];
    for (unsigned i = 0; i < VERSIONS; i++) {
        memcpy(value, &(uint64_t){i + 1}, 8);
        put("k", value, sizeof(value));
        snapshots[i] = hold(i);
    }
    erase("k");
    mshm_timestamp gone = hold(VERSIONS);
    for (unsigned i = 0; i < VERSIONS; i++)
        REQUIRE(get("k", snapshots[i]) == i + 1);
    for (unsigned i = 0; i < VERSIONS; i++)
        release(i);
    for (uint64_t i = 0; i < 300; i++) {
        fixture_collect(&fixture);
        put("l", &i, 8);
    }
    ck_assert_uint_eq(get("k", gone), 0);
    put("k", &(uint64_t){99}, 8);
    ck_assert_uint_eq(get("k", gone), 0);
    ck_assert_uint_eq(get("k", 0), 99);
    while (tree_history_prune(fixture.tree, 1))
        continue;
    ck_assert_uint_eq(get("k", gone), 0);
    ck_assert_uint_eq(counter(&fixture.counters.history_bytes), 0);
    end();
}
END_TEST

START_TEST(costliest_snapshot_is_the_one_that_alone_keeps_most)
{
    static uint8_t value[1000];
    begin(64 << 20, 0, PAGE_SIZE);
    mshm_timestamp held[3];
    for (unsigned i = 0; i < 3; i++) { /* the second one alone keeps two hundred versions */
        for (uint64_t key = 0; key < (i == 0 ? 20 : 200); key++)
            put(name(key), value, sizeof(value));
        held[i] = hold(i);
    }
    fixture_collect(&fixture);
    ck_assert_uint_eq(tree_history_costliest(fixture.tree), held[1]);
    release(1);
    fixture_collect(&fixture);
    ck_assert_uint_eq(tree_history_costliest(fixture.tree), held[0]);
    end();
}
END_TEST

/* --- several buckets --- */

START_TEST(one_commit_writes_two_buckets_or_neither)
{
    begin(16 << 20, 0, PAGE_SIZE);
    other = (struct tree_target){.ref.bucket = OTHER, .page_size = 4096};
    ck_assert_int_eq(tree_bucket_create(fixture.tree, OTHER, 4096, &other.ref.root), MSHM_OK);
    mshm_timestamp old = hold(0);
    for (unsigned round = 0; round < 20; round++) {
        for (uint64_t i = 0; i < 100; i++)
            op(MSHM_OP_PUT, name(round * 100 + i), 16, &(uint64_t){i + 1}, 8);
        for (uint64_t i = 0; i < 100; i++, ops_count++)
            ops_size += mshm_op_write(ops + ops_size, OTHER, MSHM_OP_PUT, name(round * 100 + i), 16,
                                      &(uint64_t){i + 1}, 8);
        REQUIRE_STATUS(commit(), MSHM_OK);
    }
    ck_assert_uint_eq(fixture_tree_ok(&fixture, target.ref), 2000);
    ck_assert_uint_eq(fixture_tree_ok(&fixture, other.ref), 2000);
    op(MSHM_OP_PUT, "new", 3, "1", 1);
    ops_size += mshm_op_write(ops + ops_size, OTHER, MSHM_OP_PUT, name(7), 16, "1", 1);
    ops_count++;
    ck_assert_int_eq(commit_at(old), MSHM_CONFLICT);
    op(MSHM_OP_PUT, "new", 3, "1", 1);
    ops_size += mshm_op_write(ops + ops_size, OTHER + 1, MSHM_OP_PUT, name(7), 16, "1", 1);
    ops_count++;
    ck_assert_int_eq(commit(), MSHM_NOT_FOUND);
    ck_assert_uint_eq(get("new", 0), 0);
    ck_assert_int_eq(tree_bucket_destroy(fixture.tree, other.ref.root, OTHER, 1000), MSHM_OK);
    end();
}
END_TEST

/* A load in key order fills pages to the brim; writing them again must not split them all when memory is short. */
START_TEST(updates_of_full_pages_do_not_double_them_when_memory_is_short)
{
    static uint8_t value[100];
    begin(8 << 20, 256 << 10, PAGE_SIZE);
    uint64_t count = 0, random = fixture_seed(7);
    while (counter(&fixture.counters.cache_used) < 6 << 20) {
        REQUIRE_STATUS(put(name(count++), value, sizeof(value)), MSHM_OK);
        if (count % 64 == 0)
            frames_reclaim(fixture.frames, false);
    }
    for (uint64_t i = 0; i < 60000; i++) {
        REQUIRE_STATUS(put(name(fixture_random(&random) % count), value, sizeof(value)), MSHM_OK);
        if (i % 64 == 0) {
            fixture_collect(&fixture);
            frames_reclaim(fixture.frames, false);
        }
    }
    printf("%llu MiB after random updates\n",
           (unsigned long long)counter(&fixture.counters.cache_used) >> 20);
    ck_assert_uint_eq(fixture_tree_ok(&fixture, target.ref), count);
    end();
}
END_TEST

START_TEST(page_emptied_by_deletes_gives_back_what_it_does_not_need)
{
    begin(16 << 20, 0, PAGE_SIZE);
    for (uint64_t n = 0; n < 20000; n++)
        put(name(n), &n, 8);
    frames_reclaim(fixture.frames, false);
    uint64_t full = counter(&fixture.counters.cache_used);
    for (unsigned round = 0; round < 2; round++)
        for (uint64_t n = 0; n < 20000; n++) {
            erase(name(n));
            if (n % 100 == 0)
                fixture_collect(&fixture);
        }
    frames_reclaim(fixture.frames, false);
    ck_assert_uint_lt(counter(&fixture.counters.cache_used), full * 2 / 3);
    ck_assert_uint_eq(fixture_tree_ok(&fixture, target.ref), 0);
    end();
}
END_TEST

/* --- merges --- */

/* What a broker does that has nothing else to do. */
static void
rest(void)
{
    for (bool more = true; more;) {
        fixture.now_ns += 1000000;
        fixture_collect(&fixture);
        more = tree_tend(fixture.tree, 4);
        more = tree_tidy(fixture.tree, 32, resolve, NULL) || more;
        frames_reclaim(fixture.frames, false);
    }
}

static uint64_t
pages_now(void)
{
    return counter(&fixture.counters.pages_leaf) + counter(&fixture.counters.pages_inner);
}

static void
fill(uint64_t keys, uint64_t each)
{
    for (uint64_t n = 0; n < keys;) {
        for (uint64_t stop = n + each; n < stop && n < keys; n++)
            op(MSHM_OP_PUT, name(n), 16, &(uint64_t){n + 1}, 8);
        REQUIRE_STATUS(commit(), MSHM_OK);
    }
}

START_TEST(deleting_everything_brings_pages_frames_and_pids_back)
{
    enum { KEYS = 200000 };
    begin(64 << 20, 0, 4096);
    fill(KEYS, 1000);
    uint64_t pages = pages_now(), height = counter(&fixture.counters.tree_height);
    ck_assert_uint_gt(pages, 1000);
    ck_assert_uint_ge(height, 3);
    for (uint64_t i = 0; i < KEYS; i++) {
        REQUIRE_STATUS(erase(name(i * 7919 % KEYS)), MSHM_OK);
        if (i % 100 == 0)
            fixture_collect(&fixture);
        if (i % 20000 == 0) {
            tree_tend(fixture.tree, 4);
            ck_assert_uint_eq(fixture_tree_ok(&fixture, target.ref), KEYS - i - 1);
        }
    }
    rest();
    printf("%llu pages, then %llu, %llu merges\n", (unsigned long long)pages,
           (unsigned long long)pages_now(), (unsigned long long)counter(&fixture.counters.merges));
    ck_assert_uint_eq(fixture_tree_ok(&fixture, target.ref), 0);
    ck_assert_uint_le(pages_now(), 4);
    ck_assert_uint_lt(counter(&fixture.counters.tree_height), height);
    ck_assert_uint_lt(counter(&fixture.counters.cache_used), 128 << 10);
    mshm_pid end_before = frames_pid_end(fixture.frames);
    fill(KEYS, 1000); /* in the page numbers that came back */
    ck_assert_uint_le(frames_pid_end(fixture.frames), end_before + 16);
    ck_assert_uint_eq(fixture_tree_ok(&fixture, target.ref), KEYS);
    end();
}
END_TEST

/* Each delete stands in a tail that nobody writes to again, and a snapshot keeps what was deleted for a while. */
START_TEST(leaves_emptied_under_a_snapshot_are_merged_when_it_has_gone)
{
    static uint8_t value[700];
    begin(64 << 20, 0, PAGE_SIZE);
    for (uint64_t n = 0; n < 3000; n++)
        REQUIRE_STATUS(put(name(n), value, sizeof(value)), MSHM_OK);
    rest();
    uint64_t pages = pages_now();
    hold(0);
    for (uint64_t n = 0; n < 3000; n++)
        REQUIRE_STATUS(erase(name(n)), MSHM_OK);
    rest();
    ck_assert_uint_gt(pages_now(), pages / 2);
    release(0);
    fixture.now_ns += 1000000000;
    rest();
    ck_assert_uint_le(pages_now(), 4);
    ck_assert_uint_eq(fixture_tree_ok(&fixture, target.ref), 0);
    end();
}
END_TEST

START_TEST(leaves_left_with_few_keys_share_pages)
{
    begin(64 << 20, 0, PAGE_SIZE);
    fill(50000, 1000);
    uint64_t pages = pages_now();
    for (uint64_t n = 0; n < 50000; n++)
        if (n % 20 != 0)
            REQUIRE_STATUS(erase(name(n)), MSHM_OK);
    rest();
    printf("%llu pages, with a twentieth of the keys %llu: %.3f full\n", (unsigned long long)pages,
           (unsigned long long)pages_now(), fill_factor());
    ck_assert_uint_lt(pages_now(), pages / 6);
    ck_assert_uint_eq(fixture_tree_ok(&fixture, target.ref), 2500);
    for (uint64_t n = 0; n < 50000; n++)
        REQUIRE(get(name(n), 0) == (n % 20 == 0 ? n + 1 : 0));
    end();
}
END_TEST

/* Something is always put at one end and deleted at the other, without a pause. */
START_TEST(queue_does_not_leave_empty_pages_behind)
{
    enum { LENGTH = 5000 };
    begin(64 << 20, 0, PAGE_SIZE);
    fill(LENGTH, 1000);
    rest();
    uint64_t pages = pages_now();
    for (uint64_t n = 0; n < 100000; n++) {
        REQUIRE_STATUS(put(name(LENGTH + n), &(uint64_t){LENGTH + n + 1}, 8), MSHM_OK);
        REQUIRE_STATUS(erase(name(n)), MSHM_OK);
        if (n % 50 == 0) {
            fixture.now_ns += 1000000;
            fixture_collect(&fixture);
            tree_tend(fixture.tree, 4);
            frames_reclaim(fixture.frames, false);
        }
    }
    printf("a queue of %llu pages, then %llu\n", (unsigned long long)pages,
           (unsigned long long)pages_now());
    ck_assert_uint_lt(pages_now(), pages + pages / 2 + 4);
    ck_assert_uint_eq(fixture_tree_ok(&fixture, target.ref), LENGTH);
    end();
}
END_TEST

/* Nobody needs the history any more, so with it the leaf would be small enough. */
START_TEST(leaf_with_history_is_merged_only_without_it)
{
    static uint8_t value[1000];
    begin(64 << 20, 0, PAGE_SIZE);
    for (uint64_t n = 0; n < 40; n++)
        REQUIRE_STATUS(put(name(n), value, sizeof(value)), MSHM_OK);
    for (unsigned i = 0; i < 8; i++) {
        hold(i);
        for (uint64_t n = 0; n < 40; n++)
            REQUIRE_STATUS(put(name(n), value, sizeof(value)), MSHM_OK);
    }
    ck_assert_uint_gt(counter(&fixture.counters.history_bytes), 0);
    for (uint64_t n = 0; n < 40; n++)
        REQUIRE_STATUS(erase(name(n)), MSHM_OK);
    for (unsigned i = 0; i < 8; i++)
        release(i);
    fixture_collect(&fixture);
    for (mshm_pid pid = 1; pid < frames_pid_end(fixture.frames); pid++)
        ck_assert_int_eq(tree_merge(fixture.tree, &target, pid), MSHM_EXISTS);
    fixture_tree_ok(&fixture, target.ref);
    for (unsigned pass = 0; pass < 3; pass++) {
        fixture.now_ns += 1000000000;
        rest();
    }
    ck_assert_uint_eq(counter(&fixture.counters.history_bytes), 0);
    ck_assert_uint_eq(pages_now(), 1);
    ck_assert_uint_eq(fixture_tree_ok(&fixture, target.ref), 0);
    end();
}
END_TEST

/* --- pages out of memory --- */

static struct page_disk disk;

static void
begin_paged(uint64_t cache, uint32_t page_size)
{
    begin(cache, 0, page_size);
    disk_init(&disk, &fixture);
    tree_set_peek(fixture.tree, disk_peek, &disk);
}

static void
end_paged(void)
{
    disk_ok(&disk);
    end();
    disk_fini(&disk);
}

/* Everything goes to disk and leaves memory. */
static void
put_out(void)
{
    struct pages_figures figures;
    disk_checkpoint(&disk, applied);
    do {
        disk_evict(&disk, UINT64_MAX);
        pages_figures(fixture.pages, &figures);
    } while (figures.resident_pages > 0);
    frames_reclaim(fixture.frames, false);
}

/* The same, but for inner pages on the way to a key. */
static void
put_leaves_out(const char *key)
{
    struct tree_place place;
    put_out();
    while (tree_descend(fixture.tree, target.ref, (const uint8_t *)key, strlen(key), 0, 0,
                        &place) == MSHM_BUSY)
        ck_assert(disk_page_in(&disk, place.pid));
    ck_assert_ptr_null(place.frame);
}

static int
commit_fetching(mshm_timestamp snapshot)
{
    struct tree_plan *plan;
    int status;
    while ((status = tree_plan(fixture.tree, (const void *)ops, ops_size, ops_count, snapshot,
                               resolve, NULL, &plan)) == MSHM_BUSY)
        disk_fetch(&disk);
    ops_size = ops_count = 0;
    if (status)
        return status;
    tree_apply(fixture.tree, plan, ++applied);
    AO_store_release(&fixture.store->visible, applied);
    return MSHM_OK;
}

static uint64_t
get_fetching(const char *key, mshm_timestamp snapshot)
{
    static uint8_t buffer[MSHM_MAX_INLINE];
    uint64_t size = 0, number = 0;
    mshm_pid missing;
    int status;
    while ((status = mshm_get(&fixture.view, &fixture.lanes[60], NULL, target.ref, key, strlen(key),
                              snapshot, buffer, sizeof(buffer), &size, NULL, &missing)) ==
           MSHM_BUSY)
        ck_assert(disk_page_in(&disk, missing));
    if (status == MSHM_NOT_FOUND)
        return 0;
    REQUIRE_STATUS(status, MSHM_OK);
    memcpy(&number, buffer, size < 8 ? size : 8);
    return number;
}

START_TEST(missing_pages_are_listed_once_and_the_commit_changes_nothing)
{
    const mshm_pid *pids;
    begin_paged(64 << 20, 4096);
    fill(20000, 1000);
    put_out();
    uint64_t used = counter(&fixture.counters.cache_used);
    for (uint64_t n = 0; n < 20000; n += 100)
        op(MSHM_OP_UPDATE, name(n), 16, "12345678", 8);
    struct tree_plan *plan;
    unsigned rounds = 0;
    uint32_t most = 0;
    while (tree_plan(fixture.tree, (const void *)ops, ops_size, ops_count, UINT64_MAX, resolve,
                     NULL, &plan) == MSHM_BUSY) {
        uint32_t count = tree_missing(fixture.tree, &pids);
        ck_assert_uint_eq(counter(&fixture.counters.cache_used), used);
        ck_assert_uint_gt(count, 0);
        ck_assert(rounds > 0 || (count == 1 && pids[0] == target.ref.root));
        for (uint32_t i = 0; i < count; i++) {
            ck_assert_uint_ne(pages_location(fixture.pages, pids[i]), 0);
            for (uint32_t j = 0; j < i; j++)
                ck_assert_uint_ne(pids[i], pids[j]);
        }
        most = count > most ? count : most;
        disk_fetch(&disk);
        used = counter(&fixture.counters.cache_used);
        rounds++;
    }
    ck_assert_uint_eq(rounds, counter(&fixture.counters.tree_height));
    ck_assert_uint_gt(most, 50); /* all leaves at once */
    tree_apply(fixture.tree, plan, ++applied);
    ops_size = ops_count = 0;
    ck_assert_uint_eq(fixture_tree_ok(&fixture, target.ref), 20000);
    end_paged();
}
END_TEST

START_TEST(plain_writes_to_leaves_out_of_memory_are_made_without_reading_them)
{
    begin_paged(64 << 20, PAGE_SIZE);
    fill(2000, 1000);
    mshm_timestamp before = hold(0);
    put_leaves_out(name(0));
    uint64_t loads = disk.loads;
    for (uint64_t n = 0; n < 2000; n += 50) {
        op(MSHM_OP_PUT, name(n), 16, &(uint64_t){n + 7}, 8);
        op(MSHM_OP_DELETE, name(n + 1), 16, NULL, 0);
        op(MSHM_OP_PUT, name(n + 1) /* a new key behind it */, 17, &(uint64_t){n + 9}, 8);
    }
    REQUIRE_STATUS(commit(), MSHM_OK);
    ck_assert_uint_eq(counter(&fixture.counters.blind_writes), 120);
    ck_assert_uint_eq(disk.loads, loads);
    for (unsigned pass = 0; pass < 2; pass++) { /* from the lists, then from the deltas */
        for (uint64_t n = 0; n < 2000; n++) {
            uint64_t wanted = n % 50 == 0 ? n + 7 : n % 50 == 1 ? 0 : n + 1;
            REQUIRE(get_fetching(name(n), 0) == wanted);
            REQUIRE(get_fetching(name(n), before) == n + 1);
        }
        put_out();
    }
    ck_assert_uint_eq(fixture_tree_ok(&fixture, target.ref), 2000);
    end_paged();
}
END_TEST

START_TEST(conflict_with_a_blind_write_is_told_without_reading_the_leaf)
{
    const mshm_pid *pids;
    begin_paged(64 << 20, PAGE_SIZE);
    fill(2000, 1000);
    mshm_timestamp old = hold(0);
    put_leaves_out(name(0));
    for (unsigned sealed = 0; sealed < 2; sealed++) {
        REQUIRE_STATUS(put(name(0), "1", 1), MSHM_OK);
        if (sealed)
            disk_checkpoint_step(&disk, applied, 0);
        op(MSHM_OP_PUT, name(0), 16, "2", 1);
        ck_assert_int_eq(commit_at(old), MSHM_CONFLICT);
        op(MSHM_OP_PUT, name(1), 16, "2", 1); /* of this one nothing is known */
        ck_assert_int_eq(commit_at(old), MSHM_BUSY);
        ck_assert_uint_eq(tree_missing(fixture.tree, &pids), 1);
    }
    ck_assert_uint_eq(counter(&fixture.counters.blind_writes), 2);
    op(MSHM_OP_PUT, name(1), 16, "2", 1);
    ck_assert_int_eq(commit_fetching(old), MSHM_OK);
    op(MSHM_OP_PUT, name(1), 16, "3", 1);
    ck_assert_int_eq(commit_fetching(old), MSHM_CONFLICT);
    end_paged();
}
END_TEST

START_TEST(blind_writes_to_a_page_are_limited)
{
    begin_paged(64 << 20, PAGE_SIZE);
    fill(2000, 1000);
    put_leaves_out(name(0));
    uint64_t cost = 0;
    static uint8_t value[DATA_DELTA_MAX];
    int status = MSHM_OK;
    for (uint64_t n = 0; status == MSHM_OK; n++) {
        status = put(name(0), value, 100);
        cost += status == MSHM_OK ? data_version_cost(16, 100) : 0;
    }
    ck_assert_int_eq(status, MSHM_BUSY);
    ck_assert_uint_le(cost, DATA_DELTA_MAX);
    ck_assert_uint_gt(cost + data_version_cost(16, 100), DATA_DELTA_MAX);
    op(MSHM_OP_PUT, name(1), 16, value, sizeof(value));
    ck_assert_int_eq(commit_at(UINT64_MAX), MSHM_BUSY);
    disk_checkpoint(&disk, applied); /* the next generation */
    ck_assert_int_eq(put(name(0), value, 100), MSHM_OK);
    for (uint64_t n = 0; n < 8; n++) /* one commit may not bring more, either */
        op(MSHM_OP_PUT, name(n), 16, value, 400);
    ck_assert_int_eq(commit(), MSHM_BUSY);
    end_paged();
}
END_TEST

START_TEST(commit_that_needs_too_many_leaves_in_memory_is_too_big)
{
    begin_paged(4 << 20, PAGE_SIZE);
    fill(50000, 1000);
    put_leaves_out(name(0));
    for (uint64_t n = 0; n < 50000; n += 100)
        op(MSHM_OP_UPDATE, name(n), 16, "1", 1);
    struct tree_plan *plan;
    int status;
    while ((status = tree_plan(fixture.tree, (const void *)ops, ops_size, ops_count, applied,
                               resolve, NULL, &plan)) == MSHM_BUSY)
        disk_fetch(&disk);
    ck_assert_int_eq(status, MSHM_TOO_BIG);
    end_paged();
}
END_TEST

/* What hangs on a leaf that is not in memory is read when the leaf has come back, and goes without it. */
START_TEST(history_of_a_leaf_out_of_memory_is_kept_and_let_go_without_it)
{
    static uint8_t value[500];
    mshm_timestamp held[16];
    begin_paged(64 << 20, PAGE_SIZE);
    for (uint64_t round = 0; round < 16; round++) {
        for (uint64_t n = 0; n < 60; n++) {
            memcpy(value, &(uint64_t){round * 100 + n + 1}, 8);
            REQUIRE_STATUS(put(name(n), value, sizeof(value)), MSHM_OK);
        }
        held[round] = hold((unsigned)round);
    }
    REQUIRE_STATUS(put(name(60), value, sizeof(value)), MSHM_OK);
    fixture_collect(&fixture);
    ck_assert_uint_gt(counter(&fixture.counters.history_bytes), 100000);
    for (unsigned pass = 0; pass < 2; pass++) {
        put_out();
        fixture_tree_ok(&fixture, target.ref);
        for (uint64_t round = 0; round < 16; round++)
            for (uint64_t n = 0; n < 60; n++)
                REQUIRE(get_fetching(name(n), held[round]) == round * 100 + n + 1);
    }
    put_out();
    uint64_t loads = disk.loads;
    for (unsigned i = 0; i < 16; i++)
        if (i != 3)
            release(i);
    fixture_collect(&fixture);
    while (tree_history_prune(fixture.tree, 4))
        continue;
    ck_assert_uint_eq(tree_history_costliest(fixture.tree), held[3]);
    fixture.snapshots.count = 0; /* as if the versions were newer than the last collection */
    fixture.snapshots.horizon = held[3];
    while (tree_history_prune(fixture.tree, 4))
        continue;
    ck_assert_uint_gt(counter(&fixture.counters.history_bytes), 0);
    release(3);
    fixture_collect(&fixture);
    while (tree_history_prune(fixture.tree, 4))
        continue;
    ck_assert_uint_eq(counter(&fixture.counters.history_bytes), 0);
    ck_assert_uint_eq(disk.loads, loads);
    ck_assert_uint_eq(fixture_tree_ok(&fixture, target.ref), 61);
    end_paged();
}
END_TEST

static void
destroy_fetching(unsigned calls)
{
    const mshm_pid *pids;
    for (; calls > 0; calls--) {
        if (tree_bucket_destroy(fixture.tree, target.ref.root, BUCKET, 50) == MSHM_OK)
            break;
        if (tree_missing(fixture.tree, &pids) > 0)
            disk_fetch(&disk);
        else
            put_out(); /* the next call begins as if after a restart */
    }
}

/* Inner pages are read, leaves are not. Page numbers that come back meanwhile become pages of another bucket, while inner
 * pages that are left still name them. */
START_TEST(bucket_out_of_memory_is_destroyed_through_its_inner_pages)
{
    begin_paged(64 << 20, 4096);
    fill(200000, 1000);
    put_out();
    uint64_t pages = pages_now();
    destroy_fetching(8);
    ck_assert_uint_gt(disk.loads, 0);
    ck_assert_uint_eq(disk.leaf_loads, 0);
    ck_assert_uint_lt(pages_now(), pages - pages / 8);
    put_out();
    other = (struct tree_target){.ref.bucket = OTHER, .page_size = 4096};
    ck_assert_int_eq(tree_bucket_create(fixture.tree, OTHER, 4096, &other.ref.root), MSHM_OK);
    mshm_pid end_before = frames_pid_end(fixture.frames);
    for (uint64_t n = 0; n < 40000;) {
        for (uint64_t stop = n + 1000; n < stop; n++, ops_count++)
            ops_size +=
                mshm_op_write(ops + ops_size, OTHER, MSHM_OP_PUT, name(n), 16, "12345678", 8);
        REQUIRE_STATUS(commit(), MSHM_OK);
    }
    ck_assert_uint_lt(frames_pid_end(fixture.frames), end_before + 20); /* they were used again */
    put_out();
    destroy_fetching(1000);
    ck_assert_uint_eq(fixture_tree_ok(&fixture, other.ref), 40000);
    target = other;
    other = (struct tree_target){.ref.bucket = 0};
    while (tree_bucket_destroy(fixture.tree, target.ref.root, OTHER, 1000) != MSHM_OK)
        disk_fetch(&disk);
    disk_checkpoint(&disk, applied);
    disk_checkpoint(&disk, applied);
    ck_assert_uint_eq(counter(&fixture.counters.pages_leaf), 0);
    ck_assert_uint_eq(counter(&fixture.counters.pages_inner), 0);
    frames_reclaim(fixture.frames, false);
    ck_assert_uint_eq(counter(&fixture.counters.cache_used), 0);
    disk_ok(&disk);
    disk_fini(&disk);
    fixture_fini(&fixture);
}
END_TEST

START_TEST(page_that_grew_while_it_was_out_is_split_soon)
{
    begin_paged(64 << 20, 4096);
    fill(2000, 1000);
    uint64_t leaves = counter(&fixture.counters.pages_leaf);
    for (uint64_t round = 0; round < 6; round++) {
        put_leaves_out(name(0));
        for (uint64_t n = 0; n < 2000; n += 4) {
            char key[32];
            int size = snprintf(key, sizeof(key), "%s-%llu", name(n), (unsigned long long)round);
            op(MSHM_OP_PUT, key, (size_t)size, &(uint64_t){n + 1}, 8);
        }
        REQUIRE_STATUS(commit_fetching(applied), MSHM_OK);
    }
    put_out();
    ck_assert_uint_gt(counter(&fixture.counters.blind_writes), 2500);
    ck_assert_uint_eq(counter(&fixture.counters.pages_leaf), leaves);
    for (uint64_t n = 0; n < 2000; n++)
        REQUIRE(get_fetching(name(n), 0) == n + 1);
    rest();
    ck_assert_uint_gt(counter(&fixture.counters.pages_leaf), leaves);
    ck_assert_uint_eq(fixture_tree_ok(&fixture, target.ref), 2000 + 6 * 500);
    end_paged();
}
END_TEST

START_TEST(check_sees_a_damaged_tree_whether_its_pages_are_in_memory_or_not)
{
    const char *why = NULL;
    uint64_t live;
    begin_paged(64 << 20, 4096);
    fill(5000, 1000);
    put_out();
    ck_assert_uint_eq(fixture_tree_ok(&fixture, target.ref), 5000);
    tree_set_peek(fixture.tree, NULL, NULL);
    ck_assert_uint_eq(fixture_tree_ok(&fixture, target.ref), 0); /* it sees nothing at all */
    put_leaves_out(name(2500));
    ck_assert_uint_eq(fixture_tree_ok(&fixture, target.ref), 0);
    /* Two children of one page change places. */
    struct tree_place place;
    REQUIRE_STATUS(
        tree_descend(fixture.tree, target.ref, (const uint8_t *)name(2500), 16, 0, 1, &place),
        MSHM_OK);
    const struct mshm_page *page = (const void *)place.frame;
    mshm_pid *children = (void *)(place.frame + (size_t)page->children_at * 4);
    for (unsigned pass = 0; pass < 2; pass++) {
        mshm_pid child = children[0];
        children[0] = children[1];
        children[1] = child;
        tree_set_peek(fixture.tree, disk_peek, &disk);
        ck_assert_int_eq(tree_check(fixture.tree, target.ref, &live, &why),
                         pass == 0 ? MSHM_CORRUPT : MSHM_OK);
    }
    mshm_pid twice = children[1];
    children[1] = children[0];
    tree_set_peek(fixture.tree, NULL, NULL);
    ck_assert_int_eq(tree_check(fixture.tree, target.ref, &live, &why), MSHM_CORRUPT);
    ck_assert_str_eq(why, "a page that two lead to");
    children[1] = twice;
    end_paged();
}
END_TEST

/* --- a full cache --- */

START_TEST(full_cache_refuses_puts_loses_nothing_and_can_be_emptied)
{
    static uint8_t value[500];
    begin(4 << 20, 512 << 10, PAGE_SIZE);
    uint64_t count = 0;
    int status;
    while ((status = put(name(count * 7919 % 100003),
                         (memcpy(value, &(uint64_t){count + 1}, 8), value), sizeof(value))) ==
           MSHM_OK)
        count++;
    ck_assert_int_eq(status, MSHM_FULL);
    ck_assert_uint_gt(count, 3000);
    ck_assert_uint_eq(fixture_tree_ok(&fixture, target.ref), count);
    for (uint64_t i = 0; i < count; i++)
        REQUIRE(get(name(i * 7919 % 100003), 0) == i + 1);
    uint64_t refused = 0; /* it stays full, and puts that need no frame still work */
    for (uint64_t i = 0; i < 1000; i++)
        refused += put(name(50000 + i * 13), value, sizeof(value)) == MSHM_FULL;
    ck_assert_uint_gt(refused, 0);
    frames_reclaim(fixture.frames, false);
    static uint8_t *taken[1024]; /* somebody else has the last small ones */
    unsigned others = 0;
    while (others < 1024 && (taken[others] = frames_allocate(fixture.frames, 0)) != NULL)
        others++;
    fixture_frames_ok(&fixture);
    for (uint64_t i = 0; i < count; i++) {
        REQUIRE_STATUS(erase(name(i * 7919 % 100003)), MSHM_OK);
        if (i % 64 == 0) {
            fixture_collect(&fixture);
            frames_reclaim(fixture.frames, false);
        }
    }
    for (uint64_t i = 0; i < 1000; i++)
        REQUIRE_STATUS(erase(name(50000 + i * 13)), MSHM_OK);
    ck_assert_uint_eq(fixture_tree_ok(&fixture, target.ref), 0);
    while (others > 0)
        frames_free(fixture.frames, taken[--others], 0);
    fixture_collect(&fixture);
    frames_reclaim(fixture.frames, false);
    for (uint64_t i = 0; i < 1000; i++)
        REQUIRE_STATUS(put(name(i * 7919 % 100003), value, sizeof(value)), MSHM_OK);
    end();
}
END_TEST

/* Versions kept for a snapshot that has gone must not make a put fail. */
START_TEST(history_that_nobody_needs_gives_way_to_puts)
{
    static uint8_t value[1500];
    begin(4 << 20, 256 << 10, PAGE_SIZE);
    uint64_t count = 0, more = 0;
    while (count < 600 && put(name(count), value, sizeof(value)) == MSHM_OK)
        count++;
    hold(0);
    for (uint64_t i = 0; i < count; i++)
        if (put(name(i), value, sizeof(value)) != MSHM_OK)
            break;
    while (put(name(count + more), value, sizeof(value)) == MSHM_OK)
        more++;
    ck_assert_uint_gt(counter(&fixture.counters.history_bytes), 512 << 10);
    release(0);
    fixture.now_ns += 1000000000;
    for (uint64_t i = 0; i < 100; i++)
        REQUIRE_STATUS(put(name(count + more + i), value, sizeof(value)), MSHM_OK);
    ck_assert_uint_eq(fixture_tree_ok(&fixture, target.ref), count + more + 100);
    end();
}
END_TEST

START_TEST(history_counts_as_excess_only_when_a_pass_has_left_it)
{
    static uint8_t value[1500];
    begin(64 << 20, 0, PAGE_SIZE);
    fixture.tree->options.history_limit = 100000;
    for (uint64_t i = 0; i < 500; i++)
        put(name(i), value, sizeof(value));
    hold(0);
    for (uint64_t i = 0; i < 500; i++)
        put(name(i), value, sizeof(value));
    ck_assert_uint_gt(counter(&fixture.counters.history_bytes), 100000);
    ck_assert_uint_eq(tree_history_excess(fixture.tree), 0);
    fixture.now_ns += 10000000;
    fixture_collect(&fixture);
    while (tree_tend(fixture.tree, 1))
        continue;
    ck_assert_uint_gt(tree_history_excess(fixture.tree), 0);
    release(0);
    fixture.now_ns += 10000000;
    fixture_collect(&fixture);
    while (tree_tend(fixture.tree, 1))
        continue;
    ck_assert_uint_eq(tree_history_excess(fixture.tree), 0);
    ck_assert_uint_eq(counter(&fixture.counters.history_bytes), 0);
    end();
}
END_TEST

START_TEST(refused_memory_is_full_and_nothing_is_lost)
{
    begin(64 << 20, 0, PAGE_SIZE);
    fixture.back_limit = fixture.backed + (4 << 20);
    uint64_t count = 0;
    while (put(name(count), &(uint64_t){count + 1}, 8) == MSHM_OK)
        count++;
    ck_assert_uint_eq(fixture_tree_ok(&fixture, target.ref), count);
    fixture.back_limit = UINT64_MAX;
    fixture.now_ns += 1000000000;
    ck_assert_int_eq(put(name(count), &(uint64_t){count + 1}, 8), MSHM_OK);
    for (uint64_t i = 0; i <= count; i++)
        REQUIRE(get(name(i), 0) == i + 1);
    end();
}
END_TEST

START_TEST(bucket_is_destroyed_in_bounded_steps)
{
    begin(64 << 20, 0, 4096);
    fill(200000, 1000);
    uint64_t pages = pages_now(), most = 0;
    unsigned calls = 0;
    for (int status = MSHM_BUSY; status == MSHM_BUSY; calls++) {
        uint64_t before = pages_now();
        status = tree_bucket_destroy(fixture.tree, target.ref.root, BUCKET, 16);
        uint64_t freed = before - pages_now();
        most = freed > most ? freed : most;
    }
    printf("%llu pages in %u steps, %llu at most\n", (unsigned long long)pages, calls,
           (unsigned long long)most);
    ck_assert_uint_le(most, 16 + 350); /* a page over leaves, and the leaves */
    ck_assert_uint_ge(calls, pages / 350);
    frames_reclaim(fixture.frames, false);
    ck_assert_uint_eq(counter(&fixture.counters.cache_used), 0);
    fixture_frames_ok(&fixture);
    fixture_fini(&fixture);
}
END_TEST

/* --- every step of a publication, under a reader --- */

static uint64_t steps;
static uint64_t present;    /* even numbers below it are in the tree */
static uint64_t reach;      /* numbers below it are looked for */
static mshm_timestamp seen; /* at this snapshot */

/* Readers must get right answers at each named point, as if the broker had died there. */
static void
read_at_point(const char *point, void *argument)
{
    uint64_t *random = argument;
    (void)point;
    steps++;
    for (unsigned i = 0; i < 8; i++) {
        uint64_t number = fixture_random(random) % reach;
        uint64_t wanted = number % 2 == 0 && number < present ? number + 1 : 0;
        REQUIRE(get(name(number), seen) == wanted);
        REQUIRE(get(name(number), 0) == wanted);
    }
}

/* Multiples of six and what follows them up to `first_part` have been deleted, and in the end all but the first few. */
static uint64_t first_part, collapses;

static void
read_rest_at_point(const char *point, void *argument)
{
    uint64_t *random = argument;
    steps++;
    collapses += strcmp(point, "tree:root_collapsed") == 0;
    for (unsigned i = 0; i < 16; i++) {
        uint64_t number = fixture_random(random) % reach;
        bool left = number % 6 >= first_part || (number % 6 == 5 && number <= 20);
        REQUIRE(get(name(number), 0) == (left ? number + 1 : 0));
    }
}

static void
write_under_readers(uint64_t commits, uint64_t keys_each)
{
    uint64_t random = fixture_seed(5);
    begin(256 << 20, 0, PAGE_SIZE);
    for (uint64_t n = 0; n < 40000; n += 2)
        op(MSHM_OP_PUT, name(n), 16, &(uint64_t){n + 1}, 8);
    REQUIRE_STATUS(commit(), MSHM_OK);
    present = 40000;
    reach = present + 20;
    seen = hold(0);
    steps = 0;
    kill_point_set_handler(read_at_point, &random);
    for (uint64_t i = 0; i < commits; i++) {
        uint64_t first = fixture_random(&random) % present / 2 * 2;
        for (uint64_t n = 0; n < keys_each; n++)
            op(MSHM_OP_PUT, name(first + n * 2), 16, &(uint64_t){first + n * 2 + 1}, 8);
        struct tree_plan *plan;
        REQUIRE_STATUS(tree_plan(fixture.tree, (const void *)ops, ops_size, ops_count, UINT64_MAX,
                                 resolve, NULL, &plan),
                       MSHM_OK);
        tree_apply(fixture.tree, plan, ++applied);
        ops_size = ops_count = 0;
        /* New keys beyond the end become visible only now. */
        if (first + keys_each * 2 > present) {
            present = first + keys_each * 2;
            reach = present + 20;
            AO_store_release(&fixture.store->visible, applied);
            release(0);
            seen = hold(0);
        }
    }
    kill_point_set_handler(NULL, NULL);
#ifdef MACE_KILL_POINTS
    ck_assert_uint_gt(steps, commits);
#endif
    end();
}

START_TEST(every_step_of_a_split_shows_readers_the_whole_tree)
{
    write_under_readers(300, 100);
}
END_TEST

/* One commit turns a leaf into more pages than a reader may hop over to the right. */
/* One commit turns a leaf into more pages than a reader may hop over to the right: all new keys stand between two old
 * ones, the reader looks for the old ones behind them. */
START_TEST(splitting_one_leaf_into_hundreds_shows_readers_the_whole_tree)
{
    uint64_t random = fixture_seed(6);
    begin(256 << 20, 0, PAGE_SIZE);
    for (uint64_t n = 0; n < 40000; n += 2)
        op(MSHM_OP_PUT, name(n), 16, &(uint64_t){n + 1}, 8);
    REQUIRE_STATUS(commit(), MSHM_OK);
    present = 40000;
    reach = 100;
    seen = hold(0);
    steps = 0;
    for (unsigned i = 0; i < 30000; i++) {
        char key[32];
        int size = snprintf(key, sizeof(key), "%s-%06u", name(10), i);
        op(MSHM_OP_PUT, key, (size_t)size, "12345678", 8);
    }
    kill_point_set_handler(read_at_point, &random);
    struct tree_plan *plan;
    REQUIRE_STATUS(tree_plan(fixture.tree, (const void *)ops, ops_size, ops_count, UINT64_MAX,
                             resolve, NULL, &plan),
                   MSHM_OK);
    tree_apply(fixture.tree, plan, ++applied);
    ops_size = ops_count = 0;
    kill_point_set_handler(NULL, NULL);
#ifdef MACE_KILL_POINTS
    ck_assert_uint_gt(steps, 100);
#endif
    ck_assert_uint_gt(counter(&fixture.counters.pages_leaf), 100);
    end();
}
END_TEST

/* Goes through all that is left, from leaf to leaf: right answers while the tree falls together. */
START_TEST(every_step_of_a_merge_shows_readers_the_whole_tree)
{
    uint64_t random = fixture_seed(8);
    begin(64 << 20, 0, 4096);
    fill(60000, 1000);
    ck_assert_uint_ge(counter(&fixture.counters.tree_height), 3);
    reach = 60000;
    steps = 0;
    for (uint64_t part = 0; part < 6; part++) {
        for (uint64_t n = 0; n < 60000; n++)
            if (n % 6 == part && (part < 5 || n > 20))
                op(MSHM_OP_DELETE, name(n), 16, NULL, 0);
        REQUIRE_STATUS(commit_at(UINT64_MAX), MSHM_OK);
        first_part = part + 1;
        kill_point_set_handler(read_rest_at_point, &random);
        rest();
        kill_point_set_handler(NULL, NULL);
        fixture_tree_ok(&fixture, target.ref);
    }
#ifdef MACE_KILL_POINTS
    ck_assert_uint_gt(steps, 500);
    ck_assert_uint_gt(collapses, 0);
#endif
    ck_assert_uint_le(pages_now(), 2);
    end();
}
END_TEST

/* --- readers beside the writer --- */

enum { STEADY = 10 /* one key of so many is never deleted */, READER_KEYS = 20000 };

struct reader {
    pthread_t thread;
    struct mshm_lane *lane;
    uint64_t random;
    AO_t reads, scans;
    const char *wrong;
};
static AO_t readers_stop;

/* Goes through the tree from leaf to leaf: every steady key must be met, in order. */
static const char *
reader_scan(struct reader *reader, uint8_t *copy)
{
    static _Thread_local struct mshm_leaf_iterator iterator;
    uint8_t bound[MSHM_MAX_KEY];
    uint32_t bound_size = 0, size;
    uint64_t steady = 0;
    for (;;) {
        mshm_pid missing;
        struct mshm_fences fences;
        struct mshm_version version;
        if (mshm_leaf_copy(&fixture.view, reader->lane, NULL, target.ref, UINT64_MAX, MSHM_LEAF_AT,
                           bound, bound_size, 0, copy, &size, &missing) != MSHM_OK)
            return "a scan failed";
        if (mshm_leaf_iterator_init(&iterator, copy, size) != MSHM_OK)
            return "a leaf cannot be walked through";
        while (mshm_leaf_iterator_next(&iterator, UINT64_MAX, &version) == MSHM_OK) {
            char digits[13] = "";
            memcpy(digits, version.key + 4, 12);
            uint64_t number = strtoull(digits, NULL, 10);
            if (mshm_key_compare(version.key, version.key_size, bound, bound_size) < 0)
                continue; /* the leaf was merged with what the scan has seen */
            if (number % STEADY == 0 && number != steady)
                return "a scan missed a steady key, or met one twice";
            steady += number % STEADY == 0 ? STEADY : 0;
        }
        if (mshm_page_fences(copy, size, &fences) != MSHM_OK)
            return "a copy without fences";
        if (fences.high_size == MSHM_FENCE_INFINITE)
            return steady == READER_KEYS ? NULL : "a scan ended early";
        bound_size = fences.high_size;
        memcpy(bound, fences.high, bound_size);
    }
}

static void *
reader_run(void *argument)
{
    struct reader *reader = argument;
    uint8_t *copy = aligned_alloc(MSHM_LINE, MSHM_MAX_FRAME);
    while (!AO_load(&readers_stop) && !reader->wrong) {
        for (unsigned i = 0; i < 200 && !reader->wrong; i++) {
            char key[32];
            uint64_t number = fixture_random(&reader->random) % READER_KEYS / STEADY * STEADY;
            uint64_t size = 0, value = 0;
            mshm_pid missing;
            snprintf(key, sizeof(key), "key-%012llu", (unsigned long long)number);
            int status = mshm_get(&fixture.view, reader->lane, NULL, target.ref, key, 16, 0, &value,
                                  sizeof(value), &size, NULL, &missing);
            if (status != MSHM_OK || value != number + 1)
                reader->wrong = "a steady key was not found";
            AO_store(&reader->reads, AO_load(&reader->reads) + 1);
        }
        if (!reader->wrong)
            reader->wrong = reader_scan(reader, copy);
        AO_store(&reader->scans, AO_load(&reader->scans) + 1);
    }
    free(copy);
    return NULL;
}

/* The tree grows and falls together again and again; other keys than the steady ones come and go. */
START_TEST(readers_beside_splits_and_merges_always_find_what_stays)
{
    enum { READERS = 2, ROUNDS = 6 };
    static struct reader readers[READERS];
    begin(256 << 20, 0, 4096);
    fill(READER_KEYS, 1000);
    for (unsigned i = 0; i < READERS; i++) {
        readers[i].lane = &fixture.lanes[40 + i];
        readers[i].random = i;
        ck_assert_int_eq(pthread_create(&readers[i].thread, NULL, reader_run, &readers[i]), 0);
    }
    for (unsigned round = 0; round < ROUNDS; round++) {
        for (uint64_t n = 0; n < READER_KEYS; n++) {
            if (n % STEADY != 0)
                REQUIRE_STATUS(erase(name(n)), MSHM_OK);
            if (n % 64 == 0) {
                fixture.now_ns += 1000000;
                fixture_collect(&fixture);
                tree_tend(fixture.tree, 4);
                frames_reclaim(fixture.frames, false);
            }
        }
        rest();
        for (uint64_t n = 0; n < READER_KEYS; n++)
            if (n % STEADY != 0)
                REQUIRE_STATUS(put(name(n), &(uint64_t){n + 1}, 8), MSHM_OK);
    }
    AO_store(&readers_stop, 1);
    for (unsigned i = 0; i < READERS; i++) {
        pthread_join(readers[i].thread, NULL);
        if (readers[i].wrong)
            ck_abort_msg("%s", readers[i].wrong);
        printf("%llu gets, %llu scans beside %llu merges\n",
               (unsigned long long)AO_load(&readers[i].reads),
               (unsigned long long)AO_load(&readers[i].scans),
               (unsigned long long)counter(&fixture.counters.merges));
        ck_assert_uint_gt(AO_load(&readers[i].scans), 0);
    }
    ck_assert_uint_gt(counter(&fixture.counters.merges), 500);
    end();
}
END_TEST

START_TEST(first_commit_into_an_empty_tree_may_make_several_levels)
{
    static uint8_t value[1500];
    begin(256 << 20, 0, 4096);
    for (uint64_t n = 0; n < 5000; n++) /* two to a page */
        op(MSHM_OP_PUT, name(n), 16, value, sizeof(value));
    ck_assert_int_eq(commit(), MSHM_OK);
    ck_assert_uint_ge(counter(&fixture.counters.tree_height), 3);
    ck_assert_uint_eq(fixture_tree_ok(&fixture, target.ref), 5000);
    end();
}
END_TEST

int
main(void)
{
    Suite *suite = suite_create("tree");
    TCase *tcase = tcase_create("tree");
    tcase_set_timeout(tcase, 120);
    tcase_add_test(tcase, idle_time_empties_tails_and_changes_no_answer);
    tcase_add_test(tcase, put_is_read_back_by_newer_snapshots_only);
    tcase_add_test(tcase, preconditions_are_decided_against_the_newest_version);
    tcase_add_test(tcase, second_writer_of_a_key_conflicts_whatever_was_pruned);
    tcase_add_test(tcase, tombstone_under_an_older_snapshot_keeps_the_conflict);
    tcase_add_test(tcase, tombstones_vanish_when_no_snapshot_needs_them);
    tcase_add_test(tcase, cancelled_plan_leaves_no_trace);
    tcase_add_test(tcase, conflict_in_the_last_operation_changes_nothing);
    tcase_add_test(tcase, commit_that_needs_too_much_of_the_cache_is_too_big);
    tcase_add_test(tcase, leaf_with_a_nearly_full_tail_is_rebuilt_when_there_is_time);
    tcase_add_test(tcase, keys_of_every_length_are_kept_and_found);
    tcase_add_test(tcase, largest_keys_and_values_in_any_order_find_room);
    tcase_add_test(tcase, empty_value_is_a_value);
    tcase_add_test(tcase, load_in_key_order_fills_pages);
    tcase_add_test(tcase, load_in_falling_order_fills_pages);
    tcase_add_test(tcase, load_in_large_transactions_fills_pages);
    tcase_add_test(tcase, load_in_falling_order_in_large_transactions_keeps_everything);
    tcase_add_test(tcase, rising_runs_in_the_middle_fill_pages);
    tcase_add_test(tcase, random_load_leaves_room_in_pages);
    tcase_add_test(tcase, sixteen_snapshots_read_their_versions_among_many);
    tcase_add_test(tcase, one_old_snapshot_does_not_make_the_database_grow);
    tcase_add_test(tcase, versions_of_a_single_key_beyond_any_page_are_all_readable);
    tcase_add_test(tcase, deleted_key_does_not_come_back_from_history);
    tcase_add_test(tcase, costliest_snapshot_is_the_one_that_alone_keeps_most);
    tcase_add_test(tcase, one_commit_writes_two_buckets_or_neither);
    tcase_add_test(tcase, updates_of_full_pages_do_not_double_them_when_memory_is_short);
    tcase_add_test(tcase, page_emptied_by_deletes_gives_back_what_it_does_not_need);
    tcase_add_test(tcase, deleting_everything_brings_pages_frames_and_pids_back);
    tcase_add_test(tcase, leaves_emptied_under_a_snapshot_are_merged_when_it_has_gone);
    tcase_add_test(tcase, leaves_left_with_few_keys_share_pages);
    tcase_add_test(tcase, queue_does_not_leave_empty_pages_behind);
    tcase_add_test(tcase, leaf_with_history_is_merged_only_without_it);
    tcase_add_test(tcase, every_step_of_a_merge_shows_readers_the_whole_tree);
    tcase_add_test(tcase, readers_beside_splits_and_merges_always_find_what_stays);
    tcase_add_test(tcase, missing_pages_are_listed_once_and_the_commit_changes_nothing);
    tcase_add_test(tcase, plain_writes_to_leaves_out_of_memory_are_made_without_reading_them);
    tcase_add_test(tcase, conflict_with_a_blind_write_is_told_without_reading_the_leaf);
    tcase_add_test(tcase, blind_writes_to_a_page_are_limited);
    tcase_add_test(tcase, commit_that_needs_too_many_leaves_in_memory_is_too_big);
    tcase_add_test(tcase, history_of_a_leaf_out_of_memory_is_kept_and_let_go_without_it);
    tcase_add_test(tcase, bucket_out_of_memory_is_destroyed_through_its_inner_pages);
    tcase_add_test(tcase, page_that_grew_while_it_was_out_is_split_soon);
    tcase_add_test(tcase, check_sees_a_damaged_tree_whether_its_pages_are_in_memory_or_not);
    tcase_add_test(tcase, full_cache_refuses_puts_loses_nothing_and_can_be_emptied);
    tcase_add_test(tcase, history_that_nobody_needs_gives_way_to_puts);
    tcase_add_test(tcase, history_counts_as_excess_only_when_a_pass_has_left_it);
    tcase_add_test(tcase, refused_memory_is_full_and_nothing_is_lost);
    tcase_add_test(tcase, bucket_is_destroyed_in_bounded_steps);
    tcase_add_test(tcase, every_step_of_a_split_shows_readers_the_whole_tree);
    tcase_add_test(tcase, splitting_one_leaf_into_hundreds_shows_readers_the_whole_tree);
    tcase_add_test(tcase, first_commit_into_an_empty_tree_may_make_several_levels);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
