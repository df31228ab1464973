/* A whole core in a small cache on the simulated disk, against a plain model: random commits, transactions at old
 * snapshots, buckets made and dropped, checkpoints, full disks, failing calls, deaths with and without the power at random
 * calls, deaths of recoveries. After each life everything is compared, and the records on disk are counted. */
#include <check.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "unit/broker/core_world.h"

enum { LIVES = 6, RUNS = 30 };

static uint64_t issued;       /* newest timestamp that was given out, as far as is known */
static uint64_t acknowledged; /* the newest that was answered */
static uint64_t promised;     /* what has to be there after the next death */
static uint64_t durable;      /* the same when the power goes, too */
static uint64_t written;
static unsigned deaths, cuts, recoveries_died, poisons, conflicts, fulls, transactions;
static uint64_t checkpoints, evictions, blinds, merges;

/* --- doing --- */

static void
committed(const struct operation *operations, unsigned count, uint64_t timestamp)
{
    ops_apply(operations, count, timestamp);
    issued = timestamp;
}

/* lane < 0: a one-call request. */
static void
commit(const struct operation *operations, unsigned count, int lane, bool full)
{
    static uint8_t bytes[8 * (VALUE_MAX + 256)];
    uint64_t offset, timestamp = 0;
    int wake;
    bool sync = sim_random_chance(&chance, 5);
    uint64_t size = ops_write(operations, count, bytes);
    if (world_dead())
        return;
    ck_assert_int_eq(mshm_producer_arena(&producer, size, &offset), MSHM_OK);
    memcpy((uint8_t *)segment + MSHM_SESSION_ARENA + offset, bytes, size);
    uint64_t sequence =
        mshm_producer_publish(&producer, lane < 0 ? MSHM_REQUEST_ONE_CALL : MSHM_REQUEST_COMMIT,
                              sync ? MSHM_REQUEST_LEVEL_SYNC : 0, 0, lane < 0 ? 0 : (unsigned)lane,
                              lane < 0 ? 0 : snapshots[lane], offset, size, count, &wake);
    int wanted = ops_expected(operations, count, lane < 0 ? 0 : snapshots[lane]);
    int status = answer(sequence, wake, &timestamp);
    if (status == MSHM_BUSY || status == MSHM_UNKNOWN_OUTCOME) { /* perhaps */
        ck_assert(world_dead());
        if (wanted == MSHM_OK)
            committed(operations, count, issued + 1);
        return;
    }
    if (status == MSHM_FULL) {
        fulls++;
        ck_assert_msg(full, "seed %d: the cache is full", (int)seed);
        return;
    }
    if (status == MSHM_SNAPSHOT_EXPIRED && lane >= 0) {
        expirations++;
        return;
    }
    if (status == MSHM_IO &&
        (faulty || world_dead())) { /* dead: the disk that answers is gone, too */
        read_errors += faulty;
        return;
    }
    ck_assert_msg(status == wanted, "seed %d: %d instead of %d, bucket %d key %d snapshot %d",
                  (int)seed, status, wanted, (int)operations[0].bucket, (int)operations[0].key,
                  lane < 0 ? 0 : (int)snapshots[lane]);
    conflicts += status == MSHM_CONFLICT;
    if (status != MSHM_OK)
        return;
    ck_assert_uint_eq(timestamp, issued + 1);
    committed(operations, count, timestamp);
    acknowledged = timestamp;
    if (sync)
        promised = timestamp;
}

/* BUCKETS: there is none. */
static unsigned
bucket_choose(void)
{
    unsigned b = (unsigned)sim_random_below(&chance, BUCKETS);
    for (unsigned i = 0; i < BUCKETS; i++)
        if (buckets[(b + i) % BUCKETS].lives)
            return (b + i) % BUCKETS;
    return BUCKETS;
}

static uint32_t cursor;

static uint32_t
key_choose(void)
{
    switch (sim_random_below(&chance, 4)) {
    case 0:
        return cursor = (cursor + 1) % KEYS;
    case 1:
        return (uint32_t)sim_random_below(&chance, 30) * (KEYS / 30);
    default:
        return (uint32_t)sim_random_below(&chance, KEYS);
    }
}

static struct operation
operation_choose(unsigned bucket, bool conditional)
{
    static const unsigned kinds[] = {MSHM_OP_INSERT, MSHM_OP_UPDATE, MSHM_OP_DELETE_EXISTING};
    struct operation op = {.bucket = bucket, .key = key_choose(), .number = ++written};
    op.kind = sim_random_chance(&chance, 25) ? MSHM_OP_DELETE : MSHM_OP_PUT;
    if (conditional && sim_random_chance(&chance, 20))
        op.kind = kinds[sim_random_below(&chance, 3)];
    return op;
}

static int
compare_operations(const void *a, const void *b)
{
    const struct operation *left = a, *right = b;
    uint32_t l = buckets[left->bucket].id, r = buckets[right->bucket].id;
    if (l != r)
        return l < r ? -1 : 1;
    return left->key < right->key ? -1 : left->key > right->key;
}

static void
transaction(bool full)
{
    struct operation operations[8];
    unsigned count = 1 + (unsigned)sim_random_below(&chance, 6), kept = 0;
    int lane = (int)sim_random_below(&chance, LANES);
    if (snapshots[lane] == 0)
        return;
    for (unsigned i = 0; i < count; i++) {
        unsigned b = bucket_choose();
        if (b == BUCKETS)
            return;
        operations[i] = operation_choose(b, false);
        if (buckets[b].created > snapshots[lane])
            return;
    }
    qsort(operations, count, sizeof operations[0], compare_operations);
    for (unsigned i = 0; i < count; i++)
        if (kept == 0 || compare_operations(&operations[kept - 1], &operations[i]) != 0)
            operations[kept++] = operations[i];
    transactions++;
    commit(operations, kept, lane, full);
}

static void
range_delete(bool full)
{
    unsigned b = bucket_choose();
    uint32_t from = (uint32_t)sim_random_below(&chance, KEYS);
    for (uint32_t i = 0; b < BUCKETS && i < 150 && from + i < KEYS; i++) {
        struct operation op = {.bucket = b, .key = from + i, .kind = MSHM_OP_DELETE};
        commit(&op, 1, -1, full);
    }
}

static void
bucket_change(void)
{
    unsigned b = (unsigned)sim_random_below(&chance, BUCKETS);
    struct bucket_model *bucket = &buckets[b];
    bool drop = bucket->lives;
    if (drop && sim_random_chance(&chance, 70))
        return;
    if (!drop)
        model_clear(bucket);
    uint64_t before = core->applied;
    int status = control(drop ? MSHM_MESSAGE_BUCKET_DROP : MSHM_MESSAGE_BUCKET_CREATE, b);
    if (status != MSHM_OK && status != MSHM_BUSY && status != MSHM_UNKNOWN_OUTCOME) {
        ck_assert_int_eq(status, MSHM_FULL);
        fulls++;
        return;
    }
    issued = before + 1;
    if (status == MSHM_OK)
        promised = acknowledged = issued;
    bucket->lives = !drop;
    if (drop) {
        bucket->dropped = issued;
    } else {
        bucket->created = issued;
        bucket->dropped = 0;
    }
    if (status == MSHM_OK && !drop)
        bucket->id = bucket_find(b)->id;
}

static void
lane_turn(void)
{
    int lane = (int)sim_random_below(&chance, LANES);
    if (snapshots[lane] == 0) {
        snapshots[lane] = mshm_snapshot_register(core->store, &segment->lanes[lane]);
    } else if (sim_random_chance(&chance, 20)) {
        mshm_snapshot_release(&segment->lanes[lane]);
        snapshots[lane] = 0;
    }
}

static void
something(bool full)
{
    uint64_t dice = sim_random_below(&chance, 1000);
    unsigned b = bucket_choose();
    unsigned lane = (unsigned)sim_random_below(&chance, LANES);
    if (b == BUCKETS || dice < 8) {
        if (!full)
            bucket_change();
    } else if (dice < 500) {
        struct operation op = operation_choose(b, true);
        commit(&op, 1, -1, full);
    } else if (dice < 650) {
        transaction(full);
    } else if (dice < 750) {
        compare(b, key_choose(), LANES, 0);
    } else if (dice < 850) {
        if (snapshots[lane] != 0 && buckets[b].created <= snapshots[lane])
            compare(b, key_choose(), lane, snapshots[lane]);
    } else if (dice < 930) {
        lane_turn();
    } else if (dice < 940) {
        if (!full && control(MSHM_MESSAGE_CHECKPOINT, 0) == MSHM_OK)
            promised = issued;
    } else if (dice < 945) {
        if (!full && control(MSHM_MESSAGE_SYNC, 0) == MSHM_OK)
            promised = issued;
    } else if (dice < 950) {
        range_delete(full);
    } else {
        idle((unsigned)sim_random_below(&chance, 60));
    }
}

static void
figures_take(void)
{
    const struct mshm_counters *counters = &core->figures->counters;
    struct pages_figures figures;
    pages_figures(core->pages, &figures);
    checkpoints += AO_load(&counters->checkpoints);
    evictions += figures.evictions;
    blinds += AO_load(&counters->blind_writes);
    merges += AO_load(&counters->merges);
}

static void
live(void)
{
    unsigned length = 20 + (unsigned)sim_random_below(&chance, 2000);
    bool full = false;
    if (sim_random_chance(&chance, 70))
        sim_env_die_at(sim, 1 + sim_random_below(&chance, 6000), sim_random_chance(&chance, 50));
    faulty = sim_random_chance(&chance, 20);
    if (faulty)
        sim_env_fail(sim, (unsigned)sim_random_next(&chance) & 255,
                     1 + sim_random_below(&chance, 1500), EIO);
    for (unsigned i = 0; i < length && !world_dead(); i++) {
        if (sim_random_below(&chance, 400) == 0) {
            full = !full;
            sim_env_set_full(sim, full);
            if (!full)
                idle(6000);
        }
        something(full);
    }
    sim_env_set_full(sim, false);
    ck_assert(!core_poisoned(core) || sim_env_dead(sim) || faulty);
    poisons += core_poisoned(core) && !sim_env_dead(sim);
    if (!world_dead()) {
        if (core->manifest.cut.timestamp > promised)
            promised = core->manifest.cut.timestamp;
        idle(2500); /* what waited for room goes on */
        if (!world_dead()) {
            sim_env_die_at(sim, 0, false);
            sim_env_fail(sim, 0, 0, 0);
            account_check();
        }
    }
}

static void
die(void)
{
    bool cut = sim_random_chance(&chance, 50);
    deaths++;
    figures_take();
    if (core->manifest.cut.timestamp > promised && !sim_env_dead(sim))
        promised = core->manifest.cut.timestamp;
    durable = promised;
    if (!sim_env_dead(sim) && !cut && acknowledged > promised)
        promised = acknowledged;
    cuts += cut;
    memset(snapshots, 0, sizeof snapshots);
    world_end(cut);
}

static void
come_back(void)
{
    for (;;) {
        options.cache_size = (uint64_t)(16 + sim_random_below(&chance, 4) * 8) * MSHM_MAX_FRAME;
        options.checkpoint_log_bytes = 50000 + sim_random_below(&chance, 2000000);
        options.data_file_size = 100000 + sim_random_below(&chance, 1000000);
        bool cut = sim_random_chance(&chance, 50);
        sim_env_die_at(sim, sim_random_chance(&chance, 40) ? 1 + sim_random_below(&chance, 300) : 0,
                       cut);
        int status = world_start(false);
        if (status == MSHM_OK && !sim_env_dead(sim))
            break;
        ck_assert_msg(sim_env_dead(sim), "seed %d: start: %d: %s", (int)seed, status, why);
        recoveries_died++;
        if (cut)
            promised = durable;
        world_end(false);
    }
    sim_env_die_at(sim, 0, false);
    uint64_t visible = AO_load(&core->store->visible);
    ck_assert_msg(visible >= promised && visible <= issued, "seed %d: %d commits, not %d to %d",
                  (int)seed, (int)visible, (int)promised, (int)issued);
    promised = acknowledged = visible;
    model_truncate(visible);
    issued = visible;
    for (unsigned b = 0; b < BUCKETS; b++) {
        const struct catalogue_bucket *found = bucket_find(b);
        ck_assert_msg((found != NULL) == buckets[b].lives, "seed %d: bucket %d", (int)seed, (int)b);
        if (found != NULL)
            buckets[b].id = found->id;
    }
    attach();
    account_check();
    compare_all();
}

static void
run(uint64_t number)
{
    world_create(number);
    for (unsigned b = 0; b < BUCKETS; b++) {
        model_clear(&buckets[b]);
        buckets[b].lives = false;
        buckets[b].created = buckets[b].dropped = 0;
    }
    promised = acknowledged = issued = 1;
    cursor = 0;
    written = 0;
    ck_assert_int_eq(world_start(true), MSHM_OK);
    attach();
    for (unsigned i = 0; i < LIVES; i++) {
        live();
        die();
        come_back();
    }
    die();
    sim_env_destroy(sim);
}

START_TEST(small_cores_agree_with_a_model_through_many_lives)
{
    const char *text = getenv("MACE_SEED"), *runs_text = getenv("MACE_RUNS");
    uint64_t first = text != NULL ? strtoull(text, NULL, 0) : 1;
    unsigned runs = runs_text != NULL ? (unsigned)strtoul(runs_text, NULL, 0) : RUNS;
    printf("MACE_SEED=%d\n", (int)first);
    for (unsigned i = 0; i < runs; i++)
        run(first + i);
    printf(
        "%u deaths, %u of the power, %u of recoveries; %u poisoned; %u transactions, %u conflicts, "
        "%u refused for want of room, %u snapshots expired, %u read errors; %d checkpoints, %d "
        "evictions, %d blind writes, %d merges\n",
        deaths, cuts, recoveries_died, poisons, transactions, conflicts, fulls, expirations,
        read_errors, (int)checkpoints, (int)evictions, (int)blinds, (int)merges);
    ck_assert(runs < RUNS || (blinds > 0 && evictions > 0 && conflicts > 0 && merges > 0));
}
END_TEST

int
main(void)
{
    Suite *suite = suite_create("core_model");
    TCase *tests = tcase_create("core_model");
    tcase_set_timeout(tests, 1200);
    tcase_add_test(tests, small_cores_agree_with_a_model_through_many_lives);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
