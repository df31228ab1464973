/* memory_test.c - what a broker takes of the machine's memory (P8), and what readers that stand still or hold old snapshots
 * can do to it (P6), by the kernel's own figures.
 */
#include <check.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

#include "support/broker.h"
#include "support/client.h"
#include "support/memory.h"
#include "support/process.h"
#include "support/random.h"
#include "support/raw_client.h"

#define CACHE "8M"
enum {
    CACHE_BYTES = 8 << 20,
    OVERHEAD = 64 << 20,
    PAGE_OVERHEAD = 16,
    VALUE = 2000,
    KEYS = 16000,                     /* four caches of data */
    TURNS = 10 * CACHE_BYTES / VALUE, /* overwrites of ten caches */
    SEGMENTS = 16,                    /* log segments that a level number of them stays below */
    AT_ONCE = 20, /* keys in one commit: a process change for each would be most of the time */
    HISTORY =
        CACHE_BYTES / 4 + AT_ONCE * (16 << 10), /* its share, and what one commit moves there */
};

static const struct broker_options options = {
    .arguments = {"--cache", CACHE, "--segment-size", "1M", "--checkpoint-log", "4M"}};
/* Less than what one snapshot of the whole database keeps. */
#define HISTORY_SIZE "4M"
enum { HISTORY_SIZE_BYTES = 4 << 20 };
static const struct broker_options small_history = {
    .arguments = {"--cache", CACHE, "--segment-size", "1M", "--checkpoint-log", "4M",
                  "--history-size", HISTORY_SIZE}};

static char scratch[SCRATCH_PATH], path[SCRATCH_PATH];
static struct broker broker;
static mace *db;
static mace_bucket *bucket;
static uint64_t seed;

/* The largest figures seen. */
static struct memory most;
static uint64_t most_over, most_segments, most_history, most_scratch;

static size_t
key_make(char key[24], uint64_t number)
{
    return (size_t)snprintf(key, 24, "%08x%06u", (unsigned)(number * 2654435761u),
                            (unsigned)number);
}

static void
value_make(char value[VALUE], uint64_t number, uint64_t turn)
{
    struct random random;

    random_init(&random, number * 1000003 + turn);
    random_fill(&random, value, VALUE);
    memcpy(value, &number, sizeof number);
    memcpy(value + sizeof number, &turn, sizeof turn);
}

static void
value_check(const char *found, size_t size, uint64_t number)
{
    char value[VALUE];
    uint64_t turn;

    ck_assert_uint_eq(size, VALUE);
    memcpy(&turn, found + sizeof number, sizeof turn);
    value_make(value, number, turn);
    ck_assert_mem_eq(found, value, VALUE);
}

/* A sanitizer's memory is anonymous, too. */
static uint64_t
bounded(const struct memory *memory)
{
    const char *sanitizers = getenv("MACE_SANITIZE");
    bool sanitized = sanitizers != NULL && sanitizers[0] != '\0';

    return memory->store + (sanitized ? 0 : memory->anonymous);
}

/* Takes the figures, which have to be within the stated bound at any time. */
static void
look(void)
{
    struct memory memory;
    mace_stat stat = client_stat(db);

    ck_assert(memory_look(broker.pid, &memory));
    uint64_t pages = stat.pages_leaf + stat.pages_inner;
    uint64_t used = bounded(&memory);
    uint64_t over = used > CACHE_BYTES ? used - CACHE_BYTES : 0;
    if (over > most_over) {
        most = memory;
        most_over = over;
    }
    most_segments = stat.log_segments > most_segments ? stat.log_segments : most_segments;
    most_history = stat.history_bytes > most_history ? stat.history_bytes : most_history;
    most_scratch = stat.scratch_file > most_scratch ? stat.scratch_file : most_scratch;
    ck_assert_msg(over <= OVERHEAD + PAGE_OVERHEAD * pages,
                  "anonymous %llu, store %llu bytes, with %llu pages",
                  (unsigned long long)memory.anonymous, (unsigned long long)memory.store,
                  (unsigned long long)pages);
}

static void
most_print(const char *what)
{
    printf("%s: at most %.1f MiB beside the cache of %s: anonymous %.1f, store %.1f MiB (session "
           "segments %.1f, files %.1f); %llu log segments, %.1f MiB of history\n",
           what, (double)most_over / 1048576, CACHE, (double)most.anonymous / 1048576,
           (double)most.store / 1048576, (double)most.sessions / 1048576,
           (double)most.files / 1048576, (unsigned long long)most_segments,
           (double)most_history / 1048576);
}

static void
put_in(mace_txn *txn, uint64_t number, uint64_t turn)
{
    char key[24], value[VALUE];
    size_t size = key_make(key, number);

    value_make(value, number, turn);
    ck_assert_int_eq(mace_put(txn, bucket, key, size, value, VALUE), MACE_OK);
}

static void
put(uint64_t number, uint64_t turn)
{
    mace_txn *txn;

    ck_assert_int_eq(mace_begin(db, MACE_OS, &txn), MACE_OK);
    put_in(txn, number, turn);
    ck_assert_int_eq(mace_commit(txn), MACE_OK);
}

static void
get(uint64_t number)
{
    char key[24], value[VALUE];
    size_t key_size = key_make(key, number), size = 0;

    ck_assert_int_eq(mace_get1(db, bucket, key, key_size, value, VALUE, &size), MACE_OK);
    value_check(value, size, number);
}

static void
fill(void)
{
    mace_txn *txn;

    for (uint64_t i = 0; i < KEYS;) {
        ck_assert_int_eq(mace_begin(db, MACE_OS, &txn), MACE_OK);
        for (unsigned j = 0; j < AT_ONCE; j++)
            put_in(txn, i++, 0);
        ck_assert_int_eq(mace_commit(txn), MACE_OK);
        if (i % 500 == 0)
            look();
    }
}

static void
overwrite(uint64_t turns)
{
    struct random random;
    mace_txn *txn;

    random_init(&random, seed);
    for (uint64_t turn = 1; turn <= turns;) {
        ck_assert_int_eq(mace_begin(db, MACE_OS, &txn), MACE_OK);
        for (unsigned j = 0; j < AT_ONCE; j++)
            put_in(txn, random_below(&random, KEYS), turn++);
        ck_assert_int_eq(mace_commit(txn), MACE_OK);
        get(random_below(&random, KEYS));
        look();
    }
}

static unsigned
scan(mace_txn *txn)
{
    mace_cursor *cursor;
    mace_slice key, value;
    unsigned count = 0;
    int status;

    ck_assert_int_eq(mace_cursor_open(txn, bucket, NULL, &cursor), MACE_OK);
    while ((status = mace_cursor_next(cursor, &key, &value)) == MACE_OK) {
        uint64_t number;
        memcpy(&number, value.data, sizeof number);
        value_check(value.data, value.size, number);
        if (++count % 2000 == 0)
            look();
    }
    ck_assert_int_eq(status, MACE_NOT_FOUND);
    mace_cursor_close(cursor);
    return count;
}

static void
setup(void)
{
    most_over = most_segments = most_history = most_scratch = 0;
    scratch_create(scratch);
    scratch_join(path, scratch, "db");
    broker_start(&broker, path, &options);
    db = client_open(path);
    bucket = client_bucket(db, "default");
}

static void
teardown(void)
{
    mace_close(db);
    broker_finish(&broker);
    scratch_remove(scratch);
}

START_TEST(memory_stays_within_the_stated_bound_with_a_database_of_four_caches)
{
    mace_txn *txn;

    fill();
    ck_assert_uint_gt(client_stat(db).evictions, 0);
    overwrite(KEYS / 2);
    ck_assert_int_eq(mace_begin(db, MACE_RDONLY, &txn), MACE_OK);
    ck_assert_uint_eq(scan(txn), KEYS);
    mace_abort(txn);
    most_print("writes and reads");

    /* A recovery has the same bound. */
    mace_close(db);
    broker_kill(&broker);
    broker_start(&broker, path, &options);
    db = client_open(path);
    bucket = client_bucket(db, "default");
    look();
    ck_assert_int_eq(mace_begin(db, MACE_RDONLY, &txn), MACE_OK);
    ck_assert_uint_eq(scan(txn), KEYS);
    mace_abort(txn);
    most_print("and after a recovery");
}
END_TEST

/* A few pages are overwritten until the log has a segment of its largest size: a start reads all of it. */
START_TEST(log_of_many_caches_is_replayed_within_the_bound)
{
    enum { HOT = 300, SEGMENT = 64 << 20 };
    static const struct broker_options long_log = {
        .arguments = {"--cache", CACHE, "--segment-size", "64M", "--checkpoint-log", "1G",
                      "--checkpoint-interval", "3600000"}};
    struct memory memory;
    mace_txn *txn;

    mace_close(db);
    broker_finish(&broker);
    broker_start(&broker, path, &long_log);
    db = client_open(path);
    bucket = client_bucket(db, "default");
    uint64_t checkpoints = client_stat(db).checkpoints;
    for (uint64_t turn = 0; client_stat(db).log_bytes < 2 * SEGMENT; turn++) {
        ck_assert_int_eq(mace_begin(db, MACE_OS, &txn), MACE_OK);
        for (unsigned i = 0; i < HOT / 10; i++)
            put_in(txn, (turn * HOT / 10 + i) % HOT, turn);
        ck_assert_int_eq(mace_commit(txn), MACE_OK);
    }
    ck_assert_uint_eq(client_stat(db).checkpoints, checkpoints);
    mace_close(db);
    broker_kill(&broker);
    broker_start(&broker, path, &long_log);
    ck_assert(memory_look(broker.pid, &memory));
    db = client_open(path);
    bucket = client_bucket(db, "default");
    ck_assert_uint_gt(client_stat(db).replayed, 2 * SEGMENT / (HOT / 10 * (VALUE + 100)) - 1);
    printf("a recovery of %d MiB of log: at most %.1f MiB, %.1f of them mapped files\n",
           2 * SEGMENT >> 20, (double)memory.peak / 1048576, (double)memory.files / 1048576);
    /* Whole segments in memory would take all of the overhead; the cache is full of pages at other times. */
    ck_assert_uint_le(memory.peak - memory.files, CACHE_BYTES + OVERHEAD / 4);
    for (uint64_t number = 0; number < HOT; number++)
        get(number);
}
END_TEST

/* Stands inside a read bracket; what it has found when it goes on is told. */
static void
bracket_run(int channel, void *argument)
{
    struct raw_client client;
    char key[24], value[VALUE];
    size_t key_size = key_make(key, 7);
    uint64_t size = 0;
    mshm_pid missing = 0;
    int status;

    (void)argument;
    raw_client_open(&client, path);
    struct mshm_tree_ref tree = raw_client_tree(&client, "default");
    struct mshm_lane *lane = &client.session->lanes[0];
    AO_store_release(&client.session->lanes_high, 1);
    AO_t epoch = mshm_bracket_open(client.view.store, lane);
    raise(SIGSTOP);
    int revoked = mshm_bracket_close(client.view.store, lane, epoch);
    mshm_timestamp snapshot = mshm_snapshot_register(client.view.store, lane);
    status = mshm_get(&client.view, lane, &client.session->expired[0], tree, key, key_size,
                      snapshot, value, sizeof value, &size, NULL, &missing);
    require(status == MSHM_OK || status == MSHM_BUSY, "get: %d", status);
    require(status != MSHM_OK || size == VALUE, "%llu bytes", (unsigned long long)size);
    channel_tell(channel, revoked != 0);
    raw_client_close(&client);
}

/* Keys that are overwritten all the time: half a cache of them, so their leaves stay in memory. A round writes each of them
 * twice, and each round's snapshot is kept. */
enum { HOT = CACHE_BYTES / 2 / VALUE, ROUNDS = 10, SCAN = UINT32_MAX };

/* What a snapshot of this round sees of the first keys, and of some others. */
static uint64_t
round_check(mace_txn *txn, mace_bucket *own, uint64_t round)
{
    char key[24], value[VALUE];

    for (uint64_t number = 0; number < HOT + 100; number++) {
        mace_slice found = {NULL, 0};
        int status = mace_get(txn, own, key, key_make(key, number), &found);
        if (status != MACE_OK)
            return (uint64_t)(int64_t)status;
        value_make(value, number, number < HOT ? round : 0);
        require(found.size == VALUE && memcmp(found.data, value, VALUE) == 0,
                "key %llu is not what it was in round %llu", (unsigned long long)number,
                (unsigned long long)round);
    }
    return 0;
}

/* Takes a snapshot each time it is told a round; told to scan, it looks at all of them. */
static void
rounds_run(int channel, void *argument)
{
    mace *mine = client_open(path);
    mace_bucket *own = client_bucket(mine, "default");
    mace_txn *txns[ROUNDS] = {NULL};
    uint64_t word;

    (void)argument;
    while (channel_hear(channel, &word)) {
        uint64_t answer = 0;
        if (word < ROUNDS)
            require_ok(mace_begin(mine, MACE_RDONLY, &txns[word]));
        for (unsigned i = 0; word == SCAN && i < ROUNDS && answer == 0; i++)
            answer = round_check(txns[i], own, i);
        channel_tell(channel, answer);
    }
    for (unsigned i = 0; i < ROUNDS; i++)
        mace_abort(txns[i]);
    mace_close(mine);
}

/* Holds a snapshot, reads when it is told to, and tells the status. */
static void
snapshot_run(int channel, void *argument)
{
    mace *mine = client_open(path);
    mace_bucket *own = client_bucket(mine, "default");
    mace_txn *txn;
    uint64_t word;

    (void)argument;
    require_ok(mace_begin(mine, MACE_RDONLY, &txn));
    channel_tell(channel, 1);
    while (channel_hear(channel, &word)) {
        char key[24];
        mace_slice value = {NULL, 0};
        int status = mace_get(txn, own, key, key_make(key, word), &value);
        uint64_t turn = UINT64_MAX;
        if (status == MACE_OK)
            memcpy(&turn, (const char *)value.data + sizeof word, sizeof turn);
        channel_tell(channel, status == MACE_OK ? turn : (uint64_t)(int64_t)status);
    }
    mace_abort(txn);
    mace_close(mine);
}

static uint64_t
ask(struct worker *worker, uint64_t number)
{
    uint64_t answer = 0;

    channel_tell(worker->channel, number);
    ck_assert(channel_hear(worker->channel, &answer));
    return answer;
}

/* Stands inside a bracket of a full database. */
static void
stopped_start(struct worker *stopped)
{
    int status;

    fill();
    worker_start(stopped, bracket_run, NULL);
    ck_assert_int_eq(waitpid(stopped->pid, &status, WUNTRACED), stopped->pid);
    ck_assert(WIFSTOPPED(status));
    most_segments = 0;
}

static void
round_write(uint64_t round)
{
    mace_txn *txn;

    for (unsigned times = 2; times > 0; times--)
        for (uint64_t number = 0; number < HOT;) {
            ck_assert_int_eq(mace_begin(db, MACE_OS, &txn), MACE_OK);
            for (unsigned i = 0; i < AT_ONCE && number < HOT; i++, number++)
                put_in(txn, number, times > 1 ? UINT64_MAX - round : round);
            ck_assert_int_eq(mace_commit(txn), MACE_OK);
            look();
        }
}

/* What holds whatever the old snapshot has cost. */
static void
readers_check(struct worker *stopped)
{
    mace_txn *txn;
    uint64_t revoked;

    ck_assert_uint_le(most_history, HISTORY);
    ck_assert_uint_le(most_segments, SEGMENTS);
    ck_assert_int_eq(mace_begin(db, MACE_RDONLY, &txn), MACE_OK);
    ck_assert_uint_eq(scan(txn), KEYS);
    mace_abort(txn);
    worker_continue(stopped);
    ck_assert(channel_hear(stopped->channel, &revoked));
    printf("the bracket that stood there was %s\n", revoked ? "overruled" : "left alone");
    worker_join(stopped);
}

START_TEST(p6_old_snapshots_cost_disk_and_read_everything_as_it_was)
{
    struct worker stopped, old;

    stopped_start(&stopped);
    worker_start(&old, rounds_run, NULL);
    ck_assert_uint_eq(ask(&old, 0), 0);
    for (uint64_t round = 1; round < ROUNDS; round++) {
        round_write(round);
        ck_assert_uint_eq(ask(&old, round), 0);
    }
    round_write(ROUNDS);
    mace_stat stat = client_stat(db);
    printf("scratch file: %.1f MiB in use, %llu pages; %llu were read in\n",
           (double)stat.scratch_bytes / 1048576, (unsigned long long)stat.pages_scratch,
           (unsigned long long)stat.scratch_reads);
    ck_assert_uint_gt(stat.scratch_bytes, 2 * CACHE_BYTES);
    ck_assert_uint_eq(ask(&old, SCAN), 0);
    look();
    most_print("old snapshots and a stopped reader");
    ck_assert_uint_eq(client_stat(db).snapshots_expired, 0);
    readers_check(&stopped);
    /* With its readers the history goes, and with that the file. */
    worker_kill(&old);
    while (client_stat(db).scratch_file > 0 || client_stat(db).history_bytes > 0)
        process_pause();
}
END_TEST

START_TEST(p6_readers_that_stand_still_do_not_make_it_grow)
{
    struct worker stopped, old, young;

    mace_close(db);
    broker_finish(&broker);
    broker_start(&broker, path, &small_history);
    db = client_open(path);
    bucket = client_bucket(db, "default");
    stopped_start(&stopped);
    worker_start(&old, snapshot_run, NULL);
    channel_expect(old.channel, 1);
    ck_assert_uint_eq(ask(&old, 3), 0);
    overwrite(TURNS);
    /* A snapshot that costs little beside one that costs everything. */
    put(5, UINT32_MAX);
    worker_start(&young, snapshot_run, NULL);
    channel_expect(young.channel, 1);
    put(5, 1);
    overwrite(TURNS / 20);
    most_print("readers that stand still");
    ck_assert_int_eq((int)(int64_t)ask(&old, 3), MACE_SNAPSHOT_EXPIRED);
    ck_assert_uint_eq(ask(&young, 5), UINT32_MAX);
    ck_assert_uint_gt(client_stat(db).snapshots_expired, 0);
    ck_assert_uint_gt(most_scratch, HISTORY_SIZE_BYTES / 2);
    ck_assert_uint_le(most_scratch, HISTORY_SIZE_BYTES);
    readers_check(&stopped);
    worker_kill(&old);
    worker_kill(&young);
}
END_TEST

int
main(void)
{
    Suite *suite = suite_create("memory");
    TCase *cases = tcase_create("broker");
    SRunner *runner = srunner_create(suite);

    seed = random_seed("memory");
    suite_add_tcase(suite, cases);
    tcase_add_checked_fixture(cases, setup, teardown);
    tcase_set_timeout(cases, 0);
    tcase_add_test(cases, memory_stays_within_the_stated_bound_with_a_database_of_four_caches);
    tcase_add_test(cases, log_of_many_caches_is_replayed_within_the_bound);
    tcase_add_test(cases, p6_old_snapshots_cost_disk_and_read_everything_as_it_was);
    tcase_add_test(cases, p6_readers_that_stand_still_do_not_make_it_grow);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
