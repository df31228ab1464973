/* txn_test.c - transactions, one-call forms and asynchronous commits against a real broker, also when it goes away. */
#include <atomic_ops.h>
#include <check.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "support/broker.h"
#include "support/client.h"
#include "support/process.h"

static struct broker broker;
static char scratch[SCRATCH_PATH], path[SCRATCH_PATH];
static mace *db;
static mace_bucket *bucket;
static const struct broker_options small = {
    .arguments = {"--cache", "128M", "--segment-size", "16M"}};

static void
setup(void)
{
    scratch_create(scratch);
    scratch_join(path, scratch, "db");
    broker_start(&broker, path, &small);
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

static mace_txn *
begin(unsigned flags)
{
    mace_txn *txn;
    require_ok(mace_begin(db, flags, &txn));
    return txn;
}

static void
put(mace_txn *txn, const char *key, const char *value)
{
    require_ok(mace_put(txn, bucket, key, strlen(key), value, strlen(value)));
}

static int
txn_has(mace_txn *txn, const char *key, const char *value)
{
    mace_slice found;
    int status = mace_get(txn, bucket, key, strlen(key), &found);
    return status == MACE_OK && found.size == strlen(value) &&
           memcmp(found.data, value, found.size) == 0;
}

static void
broker_replace(void)
{
    broker_kill(&broker);
    broker_start(&broker, path, &small);
}

/* ------------------------------------------------------------------------------------------------ commits */

START_TEST(a_commit_is_seen_by_who_begins_later_and_by_nobody_before)
{
    static const unsigned levels[] = {MACE_SYNC, MACE_OS, 0};
    uint64_t last = client_newest(db);
    for (int i = 0; i < 3; i++) {
        mace_txn *reader = begin(MACE_RDONLY), *txn = begin(levels[i]);
        uint64_t timestamp = 0;
        char value[16];
        snprintf(value, sizeof value, "%d", i);
        put(txn, "key", value);
        ck_assert(txn_has(txn, "key", value));
        ck_assert(!txn_has(reader, "key", value));
        ck_assert_int_eq(mace_commit_ts(txn, &timestamp), MACE_OK);
        ck_assert_uint_eq(timestamp, last + 1);
        last = timestamp;
        ck_assert(!txn_has(reader, "key", value));
        ck_assert_uint_lt(mace_txn_snapshot(reader), timestamp);
        ck_assert_int_eq(mace_renew(reader), MACE_OK);
        ck_assert(txn_has(reader, "key", value));
        ck_assert_uint_eq(mace_txn_snapshot(reader), timestamp);
        ck_assert_int_eq(mace_commit_ts(reader, &timestamp), MACE_OK);
        ck_assert_uint_eq(timestamp, 0);
    }
    broker_finish(&broker);
    broker_start(&broker, path, &small);
    ck_assert(client_has(db, bucket, "key", "2"));
    ck_assert_uint_ge(client_newest(db), last);
}
END_TEST

START_TEST(keys_of_every_length_and_values_of_many_sizes_come_back)
{
    static uint8_t key[4096], value[8192];
    for (size_t i = 0; i < sizeof value; i++)
        value[i] = (uint8_t)(i * 7);
    for (size_t size = 1; size <= sizeof key; size += 64) {
        mace_txn *txn = begin(MACE_OS);
        for (size_t s = size; s < size + 64; s++) {
            memset(key, (int)s, s);
            require_ok(mace_put(txn, bucket, key, s, value, s * 2));
        }
        ck_assert_int_eq(mace_commit(txn), MACE_OK);
    }
    broker_replace();
    mace_txn *txn = begin(MACE_RDONLY);
    mace_slice found;
    for (size_t s = 1; s <= sizeof key; s++) {
        memset(key, (int)s, s);
        ck_assert_int_eq(mace_get(txn, bucket, key, s, &found), MACE_OK);
        ck_assert_uint_eq(found.size, s * 2);
        ck_assert_mem_eq(found.data, value, found.size);
    }
    mace_abort(txn);
}
END_TEST

START_TEST(one_transaction_spans_buckets_and_is_whole)
{
    mace_bucket *other = client_bucket(db, "other");
    mace_txn *txn = begin(0);
    put(txn, "a", "default");
    require_ok(mace_put(txn, other, "a", 1, "other", 5));
    require_ok(mace_put(txn, other, "b", 1, "other", 5));
    mace_slice value;
    ck_assert_int_eq(mace_get(txn, other, "a", 1, &value), MACE_OK);
    ck_assert_mem_eq(value.data, "other", 5);
    ck_assert(txn_has(txn, "a", "default"));
    ck_assert_int_eq(mace_commit(txn), MACE_OK);
    broker_replace();
    ck_assert(client_has(db, bucket, "a", "default"));
    ck_assert(client_has(db, other, "a", "other"));
    ck_assert(client_absent(db, bucket, "b"));
    /* A conflict in one bucket undoes the writes in the other. */
    txn = begin(0);
    put(txn, "c", "x");
    require_ok(mace_put(txn, other, "a", 1, "x", 1));
    ck_assert_int_eq(client_put(db, other, "a", "y"), MACE_OK);
    ck_assert_int_eq(mace_commit(txn), MACE_CONFLICT);
    ck_assert(client_absent(db, bucket, "c"));
    mace_bucket_close(other);
}
END_TEST

START_TEST(a_transaction_larger_than_the_first_arena_is_committed_and_a_giant_one_refused)
{
    static uint8_t value[8000];
    char key[16];
    mace_txn *txn = begin(MACE_OS);
    for (unsigned i = 0; i < 1000; i++) {
        snprintf(key, sizeof key, "big%05u", i);
        require_ok(mace_put(txn, bucket, key, 8, value, sizeof value));
    }
    ck_assert_int_eq(mace_commit(txn), MACE_OK);
    ck_assert_int_eq(mace_put1(db, bucket, "small", 5, "x", 1), MACE_OK);
    txn = begin(MACE_OS);
    int status = MACE_OK;
    for (unsigned i = 0; status == MACE_OK && i < 20000; i++) {
        snprintf(key, sizeof key, "huge%05u", i);
        status = mace_put(txn, bucket, key, 9, value, sizeof value);
    }
    ck_assert_int_eq(status, MACE_TOO_BIG);
    ck_assert_int_eq(mace_commit(txn), MACE_TOO_BIG);
    txn = begin(MACE_RDONLY);
    mace_slice found;
    ck_assert_int_eq(mace_get(txn, bucket, "big00999", 8, &found), MACE_OK);
    ck_assert_uint_eq(found.size, sizeof value);
    ck_assert_int_eq(mace_get(txn, bucket, "huge00000", 9, &found), MACE_NOT_FOUND);
    mace_abort(txn);
}
END_TEST

START_TEST(one_call_writes_check_their_preconditions)
{
    ck_assert_int_eq(mace_update1(db, bucket, "k", 1, "1", 1), MACE_NOT_FOUND);
    ck_assert_int_eq(mace_delete1(db, bucket, "k", 1), MACE_NOT_FOUND);
    ck_assert_int_eq(mace_insert1(db, bucket, "k", 1, "2", 1), MACE_OK);
    ck_assert_int_eq(mace_insert1(db, bucket, "k", 1, "3", 1), MACE_EXISTS);
    ck_assert(client_has(db, bucket, "k", "2"));
    ck_assert_int_eq(mace_update1(db, bucket, "k", 1, NULL, 0), MACE_OK);
    ck_assert(client_has(db, bucket, "k", ""));
    ck_assert_int_eq(mace_delete1(db, bucket, "k", 1), MACE_OK);
    ck_assert(client_absent(db, bucket, "k"));
    ck_assert_int_eq(mace_put1(db, bucket, "k", 1, "4", 1), MACE_OK);
    ck_assert_int_eq(mace_merge1(db, bucket, "k", 1, "4", 1), MACE_INVALID);
    /* Against a transaction they are commits like others. */
    mace_txn *txn = begin(0);
    put(txn, "k", "5");
    ck_assert_int_eq(mace_put1(db, bucket, "k", 1, "6", 1), MACE_OK);
    ck_assert_int_eq(mace_commit(txn), MACE_CONFLICT);
    ck_assert(client_has(db, bucket, "k", "6"));
}
END_TEST

START_TEST(asynchronous_commits_keep_their_order_and_their_outcomes)
{
    enum { COUNT = 3000, WINDOW = 300 };
    static mace_ticket tickets[COUNT];
    uint64_t last = 0;
    for (unsigned i = 0; i < COUNT; i++) {
        char value[16];
        snprintf(value, sizeof value, "%u", i);
        /* Every third one was overtaken: its key was written after its snapshot. */
        mace_txn *txn = begin(i % 100 == 7 ? MACE_SYNC : MACE_OS);
        put(txn, "order", value);
        if (i % 3 == 1)
            put(txn, "overtaken", value);
        if (i % 3 == 1)
            require_ok(client_put(db, bucket, "overtaken", "first"));
        ck_assert_int_eq(mace_commit_async(txn, &tickets[i]), MACE_OK);
        if (i % 3 == 0 || i < WINDOW)
            continue;
        int status = mace_wait(db, &tickets[i - WINDOW]);
        ck_assert_int_eq(status, (i - WINDOW) % 3 == 1 ? MACE_CONFLICT : status);
    }
    unsigned done = 0;
    for (unsigned i = 0; i < COUNT; i++) {
        int status = mace_wait(db, &tickets[i]);
        if (status != MACE_OK)
            continue;
        ck_assert_uint_gt(tickets[i].timestamp, last);
        last = tickets[i].timestamp;
        done++;
    }
    ck_assert_uint_gt(done, 0);
}
END_TEST

START_TEST(closing_the_handle_carries_asynchronous_commits_out)
{
    mace_ticket ticket;
    for (unsigned i = 0; i < 200; i++) {
        char key[16];
        snprintf(key, sizeof key, "async%03u", i);
        mace_txn *txn = begin(MACE_OS);
        put(txn, key, "x");
        ck_assert_int_eq(mace_commit_async(txn, &ticket), MACE_OK);
    }
    /* Open transactions, cursors and buckets go with the handle. */
    mace_txn *txn = begin(0);
    mace_cursor *cursor;
    put(txn, "never", "x");
    require_ok(mace_cursor_open(txn, bucket, NULL, &cursor));
    require_ok(mace_cursor_first(cursor, NULL, NULL));
    begin(MACE_RDONLY);
    mace_close(db);
    db = client_open(path);
    bucket = client_bucket(db, "default");
    ck_assert(client_absent(db, bucket, "never"));
    for (unsigned i = 0; i < 200; i++) {
        char key[16];
        snprintf(key, sizeof key, "async%03u", i);
        ck_assert(client_has(db, bucket, key, "x"));
    }
}
END_TEST

/* ------------------------------------------------------------------------------------------- lost brokers */

START_TEST(an_open_transaction_carries_the_loss_of_its_broker)
{
    require_ok(client_put(db, bucket, "key", "before"));
    mace_txn *reader = begin(MACE_RDONLY), *writer = begin(0), *async = begin(0);
    mace_cursor *cursor;
    mace_ticket ticket = {0};
    require_ok(mace_cursor_open(reader, bucket, NULL, &cursor));
    put(writer, "key", "lost");
    broker_replace();
    require_ok(client_put(db, bucket, "key", "after"));
    /* Reads finish on the old mapping; the commit is certainly not applied. */
    ck_assert(txn_has(reader, "key", "before"));
    ck_assert_int_eq(mace_cursor_first(cursor, NULL, NULL), MACE_OK);
    ck_assert_int_eq(mace_renew(reader), MACE_BROKER_LOST);
    ck_assert_int_eq(mace_commit(reader), MACE_OK);
    put(writer, "other", "lost");
    ck_assert_int_eq(mace_commit(writer), MACE_BROKER_LOST);
    put(async, "other", "lost");
    ck_assert_int_eq(mace_commit_async(async, &ticket), MACE_BROKER_LOST);
    ck_assert_uint_eq(ticket.incarnation, 0);
    ck_assert(client_has(db, bucket, "key", "after"));
    ck_assert(client_absent(db, bucket, "other"));
}
END_TEST

START_TEST(tickets_of_a_lost_broker_tell_the_truth)
{
    enum { COUNT = 400 };
    static mace_ticket tickets[COUNT];
    char key[16];
    for (unsigned round = 0; round < 5; round++) {
        for (unsigned i = 0; i < COUNT; i++) {
            snprintf(key, sizeof key, "%u/%03u", round, i);
            mace_txn *txn = begin(MACE_OS);
            put(txn, key, "x");
            ck_assert_int_eq(mace_commit_async(txn, &tickets[i]), MACE_OK);
            if (i == COUNT - 50) /* some of them have been answered and harvested */
                ck_assert_int_eq(mace_wait(db, &tickets[i]), MACE_OK);
        }
        /* A refusal is in no log: only the answer knows of it. */
        mace_ticket refused, later;
        mace_txn *txn = begin(MACE_OS), *next = begin(MACE_OS);
        put(txn, "refused", "x");
        put(next, "later", "x");
        require_ok(client_put(db, bucket, "refused", "first"));
        ck_assert_int_eq(mace_commit_async(txn, &refused), MACE_OK);
        ck_assert_int_eq(mace_commit_async(next, &later), MACE_OK);
        ck_assert_int_eq(mace_wait(db, &later), MACE_OK);
        broker_replace();
        ck_assert(client_has(db, bucket, "refused", "first")); /* lets go of the old session */
        ck_assert_int_eq(mace_wait(db, &refused), MACE_CONFLICT);
        ck_assert_int_eq(mace_wait(db, &refused), MACE_INVALID);
        unsigned committed = 0;
        for (unsigned i = 0; i < COUNT; i++) {
            snprintf(key, sizeof key, "%u/%03u", round, i);
            uint64_t zero = tickets[i].timestamp;
            int status = mace_wait(db, &tickets[i]);
            if (i == COUNT - 50) {
                ck_assert_int_eq(status, MACE_INVALID);
                continue;
            }
            ck_assert_uint_eq(zero, 0);
            ck_assert_msg(status == MACE_OK || status == MACE_BROKER_LOST, "%s",
                          mace_strerror(status));
            ck_assert_int_eq(client_has(db, bucket, key, "x"), status == MACE_OK);
            ck_assert_int_eq(tickets[i].timestamp != 0, status == MACE_OK);
            ck_assert_int_eq(mace_wait(db, &tickets[i]), MACE_INVALID);
            committed += status == MACE_OK;
        }
        ck_assert_uint_ge(committed, COUNT - 51);
    }
}
END_TEST

/* Kills the broker under commits that wait for an answer. */
static AO_t writer_stop, writer_done;
static void *
writer_run(void *argument)
{
    unsigned number = (unsigned)(uintptr_t)argument;
    char key[32], value[16];
    for (unsigned i = 1; !AO_load(&writer_stop); i++) {
        snprintf(key, sizeof key, "w%u/%06u", number, i);
        snprintf(value, sizeof value, "%u", i);
        mace_txn *txn = begin(i % 16 == 0 ? MACE_SYNC : MACE_OS);
        put(txn, key, value);
        int status = mace_commit(txn);
        require(status == MACE_OK || status == MACE_BROKER_LOST, "commit: %s",
                mace_strerror(status));
        require(client_has(db, bucket, key, value) == (status == MACE_OK), "%s after %s", key,
                mace_strerror(status));
        /* An insert is applied once, or its EXISTS would be a lie. */
        key[0] = 'i';
        require_ok(mace_insert1(db, bucket, key, strlen(key), value, strlen(value)));
        require_status(mace_insert1(db, bucket, key, strlen(key), value, strlen(value)),
                       MACE_EXISTS);
        AO_fetch_and_add1(&writer_done);
    }
    return NULL;
}

/* The threads start the next broker themselves. */
START_TEST(every_commit_under_a_killed_broker_has_its_true_outcome)
{
    pthread_t threads[3];
    mace_close(db);
    broker_finish(&broker);
    db = client_open_starting(path, 60000);
    bucket = client_bucket(db, "default");
    AO_store(&writer_stop, 0);
    AO_store(&writer_done, 0);
    for (unsigned i = 0; i < 3; i++)
        ck_assert_int_eq(pthread_create(&threads[i], NULL, writer_run, (void *)(uintptr_t)i), 0);
    for (unsigned i = 0; i < 15; i++) {
        AO_t seen = AO_load(&writer_done);
        wait_for(AO_load(&writer_done) > seen + 20);
        ck_assert_int_eq(kill((pid_t)client_stat(db).broker_pid, SIGKILL), 0);
    }
    AO_store(&writer_stop, 1);
    for (unsigned i = 0; i < 3; i++)
        pthread_join(threads[i], NULL);
    pid_t last = (pid_t)client_stat(db).broker_pid;
    mace_close(db);
    ck_assert_int_eq(kill(last, SIGTERM), 0);
    wait_for(process_state(last) == 0);
    broker_start(&broker, path, &small);
    db = client_open(path);
}
END_TEST

START_TEST(a_stopped_broker_disturbs_no_reader_and_times_commits_out)
{
    require_ok(client_put(db, bucket, "key", "value"));
    mace_close(db);
    mace_options options;
    mace_options_init(&options);
    options.start_broker = 0;
    options.commit_timeout_ms = 50;
    options.durability = MACE_OS;
    require_ok(mace_open(path, &options, &db));
    bucket = client_bucket(db, "default");
    mace_txn *txn = begin(0);
    mace_ticket ticket;
    broker_stop(&broker);
    ck_assert(client_has(db, bucket, "key", "value"));
    ck_assert(txn_has(txn, "key", "value"));
    put(txn, "late", "x");
    ck_assert_int_eq(mace_commit(txn), MACE_UNKNOWN_OUTCOME);
    txn = begin(0);
    put(txn, "async", "x");
    ck_assert_int_eq(mace_commit_async(txn, &ticket), MACE_OK);
    ck_assert_int_eq(mace_wait(db, &ticket), MACE_UNKNOWN_OUTCOME);
    ck_assert(client_absent(db, bucket, "late"));
    ck_assert_int_eq(mace_put1(db, bucket, "one", 3, "x", 1), MACE_UNKNOWN_OUTCOME);
    broker_continue(&broker);
    int status; /* each wait lasts 50 ms at most, which may be too short for a busy machine */
    wait_for((status = mace_wait(db, &ticket)) != MACE_UNKNOWN_OUTCOME);
    ck_assert_int_eq(status, MACE_OK);
    wait_for(client_has(db, bucket, "one", "x"));
    ck_assert(client_has(db, bucket, "late", "x"));
}
END_TEST

/* ------------------------------------------------------------------------------------ threads and processes */

enum { THREADS = 6, INCREMENTS = 300 };
static void *
increment_run(void *argument)
{
    (void)argument;
    for (unsigned i = 0; i < INCREMENTS;) {
        mace_txn *txn = begin(MACE_OS);
        mace_slice value;
        uint64_t number = 0;
        int status = mace_get(txn, bucket, "counter", 7, &value);
        if (status == MACE_OK)
            memcpy(&number, value.data, sizeof number);
        number++;
        require_ok(mace_put(txn, bucket, "counter", 7, &number, sizeof number));
        status = mace_commit(txn);
        require(status == MACE_OK || status == MACE_CONFLICT, "%s", mace_strerror(status));
        i += status == MACE_OK;
    }
    return NULL;
}

static void
increment_process(int channel, void *argument)
{
    (void)channel;
    (void)argument;
    db = client_open(path);
    bucket = client_bucket(db, "default");
    increment_run(NULL);
    mace_close(db);
}

START_TEST(threads_and_processes_count_together_without_losing_one)
{
    pthread_t threads[THREADS];
    struct worker workers[2];
    for (unsigned i = 0; i < 2; i++)
        worker_start(&workers[i], increment_process, NULL);
    for (unsigned i = 0; i < THREADS; i++)
        ck_assert_int_eq(pthread_create(&threads[i], NULL, increment_run, NULL), 0);
    for (unsigned i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    for (unsigned i = 0; i < 2; i++)
        worker_join(&workers[i]);
    uint64_t number = 0;
    require_ok(mace_get1(db, bucket, "counter", 7, &number, sizeof number, NULL));
    ck_assert_uint_eq(number, (THREADS + 2) * INCREMENTS);
}
END_TEST

static void *
small_run(void *argument)
{
    char key[32];
    for (unsigned i = 0; !AO_load(&writer_stop); i++) {
        snprintf(key, sizeof key, "small%u/%u", (unsigned)(uintptr_t)argument, i % 100);
        require_ok(client_put(db, bucket, key, "x"));
        mace_txn *txn = begin(MACE_OS);
        put(txn, key, "y");
        mace_ticket ticket;
        require_ok(mace_commit_async(txn, &ticket));
        require_ok(mace_wait(db, &ticket));
        AO_fetch_and_add1(&writer_done);
    }
    return NULL;
}

/* The arena can only grow while it is empty, which it never is by chance under such a load. */
START_TEST(a_large_commit_finds_its_arena_among_many_small_ones)
{
    static uint8_t value[8000];
    pthread_t threads[3];
    AO_store(&writer_stop, 0);
    AO_store(&writer_done, 0);
    for (unsigned i = 0; i < 3; i++)
        ck_assert_int_eq(pthread_create(&threads[i], NULL, small_run, (void *)(uintptr_t)i), 0);
    wait_for(AO_load(&writer_done) > 100);
    for (unsigned round = 0; round < 3; round++) {
        mace_txn *txn = begin(MACE_OS);
        for (unsigned i = 0; i < 400u << round; i++) {
            char key[16];
            snprintf(key, sizeof key, "large%05u", i);
            require_ok(mace_put(txn, bucket, key, 10, value, sizeof value));
        }
        ck_assert_int_eq(mace_commit(txn), MACE_OK);
        AO_t seen = AO_load(&writer_done);
        wait_for(AO_load(&writer_done) > seen + 100);
    }
    AO_store(&writer_stop, 1);
    for (unsigned i = 0; i < 3; i++)
        pthread_join(threads[i], NULL);
}
END_TEST

START_TEST(a_forked_child_is_told_so_and_leaves_its_parent_alone)
{
    mace_txn *txn = begin(0), *second = begin(0);
    mace_cursor *cursor;
    mace_slice value;
    mace_ticket ticket;
    put(txn, "key", "parent");
    require_ok(mace_cursor_open(txn, bucket, NULL, &cursor));
    require_ok(mace_cursor_first(cursor, NULL, NULL));
    pid_t child = fork();
    if (child == 0) {
        require_status(mace_get(txn, bucket, "key", 3, &value), MACE_FORKED);
        require_status(mace_put(txn, bucket, "key", 3, "child", 5), MACE_FORKED);
        require_status(mace_put1(db, bucket, "key", 3, "child", 5), MACE_FORKED);
        require_status(mace_cursor_next(cursor, NULL, NULL), MACE_FORKED);
        mace_cursor_close(cursor);
        require_status(mace_commit(txn), MACE_FORKED);
        require_status(mace_commit_async(second, &ticket), MACE_FORKED);
        require_status(mace_begin(db, 0, &txn), MACE_FORKED);
        mace_bucket_close(bucket);
        mace_close(db);
        /* Its own handle works. */
        db = client_open(path);
        bucket = client_bucket(db, "default");
        require_ok(client_put(db, bucket, "child", "x"));
        mace_close(db);
        _exit(0);
    }
    int status;
    ck_assert_int_eq(waitpid(child, &status, 0), child);
    ck_assert_int_eq(status, 0);
    ck_assert(txn_has(txn, "key", "parent"));
    ck_assert_int_eq(mace_cursor_first(cursor, NULL, NULL), MACE_OK);
    ck_assert_int_eq(mace_commit(txn), MACE_OK);
    ck_assert_int_eq(mace_commit(second), MACE_OK);
    ck_assert(client_has(db, bucket, "key", "parent"));
    ck_assert(client_has(db, bucket, "child", "x"));
}
END_TEST

int
main(void)
{
    Suite *suite = suite_create("txn");
    TCase *tests = tcase_create("txn");
    tcase_set_timeout(tests, 120);
    tcase_add_checked_fixture(tests, setup, teardown);
    tcase_add_test(tests, a_commit_is_seen_by_who_begins_later_and_by_nobody_before);
    tcase_add_test(tests, keys_of_every_length_and_values_of_many_sizes_come_back);
    tcase_add_test(tests, one_transaction_spans_buckets_and_is_whole);
    tcase_add_test(tests,
                   a_transaction_larger_than_the_first_arena_is_committed_and_a_giant_one_refused);
    tcase_add_test(tests, one_call_writes_check_their_preconditions);
    tcase_add_test(tests, asynchronous_commits_keep_their_order_and_their_outcomes);
    tcase_add_test(tests, closing_the_handle_carries_asynchronous_commits_out);
    tcase_add_test(tests, an_open_transaction_carries_the_loss_of_its_broker);
    tcase_add_test(tests, tickets_of_a_lost_broker_tell_the_truth);
    tcase_add_test(tests, every_commit_under_a_killed_broker_has_its_true_outcome);
    tcase_add_test(tests, a_stopped_broker_disturbs_no_reader_and_times_commits_out);
    tcase_add_test(tests, threads_and_processes_count_together_without_losing_one);
    tcase_add_test(tests, a_large_commit_finds_its_arena_among_many_small_ones);
    tcase_add_test(tests, a_forked_child_is_told_so_and_leaves_its_parent_alone);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
