/* client_test.c - faults of client processes. None of them costs anybody else a commit. */
#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#include "support/broker.h"
#include "support/client.h"
#include "support/load.h"
#include "support/raw_client.h"

static char scratch[SCRATCH_PATH], path[SCRATCH_PATH];
static struct broker broker;
static struct load_board *board;
static mace *db;
static mace_bucket *bucket;

static void
setup(void)
{
    struct broker_options options = {.arguments = {"--cache", "6M", "--history-size", "0"}};

    scratch_create(scratch);
    scratch_join(path, scratch, "db");
    broker_start(&broker, path, &options);
    db = client_open(path);
    bucket = client_bucket(db, "default");
    board = load_board_create();
}

static void
teardown(void)
{
    load_check_all(db, bucket, board);
    mace_close(db);
    broker_finish(&broker);
    load_board_destroy(board);
    scratch_remove(scratch);
}

/* Commits of this process in slot 0: each has to succeed. */
static void
others_go_on(unsigned commits)
{
    for (unsigned i = 0; i < commits; i++)
        ck_assert_int_eq(load_commit(db, bucket, board, 0, MACE_OS), MACE_OK);
}

/* --- F1: killed anywhere --- */

START_TEST(f01_a_killed_client_costs_nobody_anything)
{
    struct load_worker part = {
        .board = board, .path = path, .bucket = "default", .first_slot = 1, .slots = 4};
    struct random random;
    uint64_t slowest = 0, rounds = random_scaled(30);

    random_init(&random, random_seed("f01"));
    for (uint64_t round = 1; round <= rounds; round++) {
        struct worker worker;
        part.seed = round;
        worker_start(&worker, load_worker_run, &part);
        others_go_on(10 + (unsigned)random_below(&random, 100));
        uint64_t killed = process_time_ns();
        worker_kill(&worker);
        load_writer_died(board, 1, 4);
        /* It may have been killed before it had attached. */
        wait_for(client_stat(db).sessions == 1);
        uint64_t waited = process_time_ns() - killed;
        slowest = waited > slowest ? waited : slowest;
    }
    printf("f01: a dead client was cleared away within %.1f ms\n", (double)slowest / 1e6);
    ck_assert_uint_gt(client_stat(db).sessions_ended_dead, 0);
    others_go_on(10);
}
END_TEST

/* --- F2: stopped with a snapshot --- */

enum { SLEEPER_TXNS = 24, WIDE = 1000, WIDE_SIZE = 1500 };

/* The value of a key in a round; the snapshot taken before the round sees the one of the round before. */
static void
wide_value(char value[WIDE_SIZE], int number, uint64_t round)
{
    memset(value, (int)('a' + round), WIDE_SIZE);
    snprintf(value, 32, "%d in round %llu", number, (unsigned long long)round);
}

static void
wide_write(uint64_t round)
{
    char key[16], value[WIDE_SIZE];

    for (int i = 0; i < WIDE; i++) {
        snprintf(key, sizeof key, "key%d", i);
        wide_value(value, i, round);
        int status = mace_put1(db, bucket, key, strlen(key), value, sizeof value);
        ck_assert_msg(status == MACE_OK, "put %d of round %llu: %s", i, (unsigned long long)round,
                      mace_strerror(status));
    }
}

/* One key of a snapshot: right, or 0 when the snapshot was expired. */
static int
wide_read(mace_txn *txn, mace_bucket *own, int number, uint64_t round)
{
    char key[16], value[WIDE_SIZE];
    mace_slice found;

    snprintf(key, sizeof key, "key%d", number);
    wide_value(value, number, round);
    int status = mace_get(txn, own, key, strlen(key), &found);
    if (status == MACE_SNAPSHOT_EXPIRED)
        return 0;
    require_ok(status);
    require(found.size == sizeof value && memcmp(found.data, value, sizeof value) == 0,
            "key %d is '%.32s', not '%.32s'", number, (const char *)found.data, value);
    return 1;
}

/* Takes a snapshot whenever it is told to; in between it is stopped. Then it finds out what became of them. */
static void
sleeper_run(int channel, void *argument)
{
    mace *mine = client_open(path);
    mace_bucket *own = client_bucket(mine, "default");
    mace_txn *txns[SLEEPER_TXNS];
    uint64_t word, count = 0, expired = 0;

    (void)argument;
    while (channel_hear(channel, &word) && word == 1) {
        require(count < SLEEPER_TXNS, "none of the snapshots expires");
        require_ok(mace_begin(mine, 0, &txns[count++]));
        channel_tell(channel, count);
    }
    for (uint64_t round = 0; round < count; round++) {
        int alive = wide_read(txns[round], own, 0, round);
        for (int i = 1; i < WIDE && alive; i++)
            require(wide_read(txns[round], own, i, round), "it expired between two reads");
        if (!alive)
            require_status(mace_put(txns[round], own, "mine", 4, "x", 1), MACE_SNAPSHOT_EXPIRED);
        expired += !alive;
        mace_abort(txns[round]);
    }
    require_ok(mace_begin(mine, 0, &txns[0]));
    require(wide_read(txns[0], own, 7, count), "a new snapshot has expired");
    mace_abort(txns[0]);
    channel_tell(channel, expired);
    mace_close(mine);
}

struct oldest {
    uint64_t pid, age_ns;
};

static int
oldest_find(const mace_session_info *info, void *argument)
{
    struct oldest *oldest = argument;

    if (info->snapshots > 0 && info->oldest_age_ns > oldest->age_ns)
        *oldest = (struct oldest){info->pid, info->oldest_age_ns};
    return 0;
}

START_TEST(f02_the_snapshots_of_a_stopped_client_expire_when_they_keep_too_much)
{
    struct worker worker;
    struct oldest oldest = {0, 0};
    uint64_t word, round = 0, expired;

    wide_write(0);
    worker_start(&worker, sleeper_run, NULL);
    while (client_stat(db).snapshots_expired == 0) {
        channel_tell(worker.channel, 1);
        ck_assert(channel_hear(worker.channel, &word));
        worker_stop(&worker);
        wide_write(++round);
        /* A snapshot keeps one version of a key, however often that is written. */
        for (int i = 0; i < 500; i++)
            ck_assert_int_eq(client_put(db, bucket, "often", "x"), MACE_OK);
        ck_assert_int_eq(mace_session_list(db, oldest_find, &oldest), MACE_OK);
        ck_assert_uint_eq(oldest.pid, (uint64_t)worker.pid);
        worker_continue(&worker);
    }
    printf("f02: expired after %llu snapshots of %d bytes each\n", (unsigned long long)round,
           WIDE * WIDE_SIZE);
    ck_assert_uint_gt(round, 1);
    others_go_on(50);
    channel_tell(worker.channel, 2);
    ck_assert(channel_hear(worker.channel, &expired));
    ck_assert_uint_gt(expired, 0);
    worker_join(&worker);
}
END_TEST

/* Holds one snapshot until it is told to go. */
static void
holder_run(int channel, void *argument)
{
    mace *mine = client_open(path);
    mace_txn *txn;
    uint64_t word;

    (void)argument;
    require_ok(mace_begin(mine, 0, &txn));
    channel_tell(channel, 1);
    require(channel_hear(channel, &word), "the test is gone");
    mace_abort(txn);
    mace_close(mine);
}

START_TEST(f02_a_client_stopped_with_a_snapshot_is_named_in_the_log_of_events)
{
    struct worker worker;
    char line[64];

    uint64_t began = process_time_ns(); /* not later than the snapshot's */
    worker_start(&worker, holder_run, NULL);
    channel_expect(worker.channel, 1);
    worker_stop(&worker);
    others_go_on(20);
    snprintf(line, sizeof line, "(pid %d): snapshot ", (int)worker.pid);
    wait_for(broker_log_has(&broker, line));
    printf("f02: named after %.1f s\n", (double)(process_time_ns() - began) / 1e9);
    ck_assert(process_time_ns() - began >= UINT64_C(1000000000));
    snprintf(line, sizeof line, "(pid %d): snapshot ", (int)getpid());
    ck_assert(!broker_log_has(&broker, line));
    worker_continue(&worker);
    channel_tell(worker.channel, 1);
    worker_join(&worker);
}
END_TEST

/* --- F4: fork --- */

static int
each_name(const char *name, void *argument)
{
    (void)name;
    (void)argument;
    return 0;
}

static int
each_session(const mace_session_info *info, void *argument)
{
    (void)info;
    (void)argument;
    return 0;
}

/* In a forked child: everything that can say so says so, and everything is given back. */
static void
forked_use(mace_txn *txn, mace_cursor *cursor)
{
    mace_txn *other;
    mace_bucket *another;
    mace_cursor *second;
    mace_ticket ticket = {0, 0, 0, 0};
    mace_slice key = {"k", 1}, value;
    mace_stat stat;
    char buffer[8];
    size_t size;
    int status;
    uint64_t timestamp;

    mace_stat_init(&stat);
    require_status(mace_begin(db, 0, &other), MACE_FORKED);
    require_status(mace_sync(db), MACE_FORKED);
    require_status(mace_checkpoint(db), MACE_FORKED);
    require_status(mace_stat_read(db, &stat), MACE_FORKED);
    require_status(mace_session_list(db, each_session, NULL), MACE_FORKED);
    require_status(mace_bucket_create(db, "b", NULL, &another), MACE_FORKED);
    require_status(mace_bucket_open(db, "default", &another), MACE_FORKED);
    require_status(mace_bucket_drop(db, "b"), MACE_FORKED);
    require_status(mace_bucket_list(db, each_name, NULL), MACE_FORKED);
    require_status(mace_put1(db, bucket, "k", 1, "v", 1), MACE_FORKED);
    require_status(mace_insert1(db, bucket, "k", 1, "v", 1), MACE_FORKED);
    require_status(mace_update1(db, bucket, "k", 1, "v", 1), MACE_FORKED);
    require_status(mace_delete1(db, bucket, "k", 1), MACE_FORKED);
    require_status(mace_get1(db, bucket, "k", 1, buffer, sizeof buffer, &size), MACE_FORKED);
    require_status(mace_wait(db, &ticket), MACE_FORKED);
    require_status(mace_get(txn, bucket, "k", 1, &value), MACE_FORKED);
    require_status(mace_get_into(txn, bucket, "k", 1, buffer, sizeof buffer, &size), MACE_FORKED);
    require_status(mace_get_many(txn, bucket, 1, &key, &value, &status), MACE_FORKED);
    require_status(mace_put(txn, bucket, "k", 1, "v", 1), MACE_FORKED);
    require_status(mace_insert(txn, bucket, "k", 1, "v", 1), MACE_FORKED);
    require_status(mace_update(txn, bucket, "k", 1, "v", 1), MACE_FORKED);
    require_status(mace_delete(txn, bucket, "k", 1), MACE_FORKED);
    require_status(mace_cursor_open(txn, bucket, NULL, &second), MACE_FORKED);
    require_status(mace_cursor_first(cursor, &key, &value), MACE_FORKED);
    require_status(mace_cursor_next(cursor, &key, &value), MACE_FORKED);
    require_status(mace_cursor_seek(cursor, "k", 1, &key, &value), MACE_FORKED);
    require_status(mace_renew(txn), MACE_FORKED);
    require_status(mace_commit_ts(txn, &timestamp), MACE_FORKED);
    mace_bucket_close(bucket);
    mace_close(db);
}

static void
forked_run(int channel, void *argument)
{
    void **handles = argument;

    (void)channel;
    forked_use(handles[0], handles[1]);
    /* And a handle of its own works. */
    mace *own = client_open(path);
    mace_bucket *opened = client_bucket(own, "default");
    require_ok(client_put(own, opened, "child", "lives"));
    mace_close(own);
}

START_TEST(f04_a_forked_child_is_told_so_and_frees_nothing_of_its_parent)
{
    struct worker worker;
    mace_txn *txn;
    mace_cursor *cursor;
    mace_slice key, value;

    ck_assert_int_eq(client_put(db, bucket, "parent", "before"), MACE_OK);
    ck_assert_int_eq(mace_begin(db, 0, &txn), MACE_OK);
    ck_assert_int_eq(mace_put(txn, bucket, "parent", 6, "after", 5), MACE_OK);
    ck_assert_int_eq(mace_cursor_open(txn, bucket, NULL, &cursor), MACE_OK);
    ck_assert_int_eq(mace_cursor_first(cursor, &key, &value), MACE_OK);
    void *handles[] = {txn, cursor};
    for (int i = 0; i < 3; i++) {
        worker_start(&worker, forked_run, handles);
        worker_join(&worker);
        /* The child's own session has ended; the parent's has not. */
        wait_for(client_stat(db).sessions == 1);
        ck_assert(client_has(db, bucket, "child", "lives"));
    }
    ck_assert_int_eq(mace_get(txn, bucket, "parent", 6, &value), MACE_OK);
    ck_assert(value.size == 5 && memcmp(value.data, "after", 5) == 0);
    ck_assert_int_eq(mace_cursor_first(cursor, &key, &value), MACE_OK);
    ck_assert_int_eq(mace_commit(txn), MACE_OK);
    ck_assert(client_has(db, bucket, "parent", "after"));
    others_go_on(20);
}
END_TEST

/* --- F5: exec, and descriptors closed under the library --- */

static void
exec_run(int channel, void *argument)
{
    mace *mine = client_open(path);
    mace_txn *txn;

    (void)argument;
    require_ok(mace_begin(mine, 0, &txn));
    channel_tell(channel, 1);
    /* Another program in the same process; it ends with its parent. */
    execlp("sleep", "sleep", "1000", (char *)NULL);
}

START_TEST(f05_a_client_that_becomes_another_program_has_ended)
{
    struct worker worker;

    worker_start(&worker, exec_run, NULL);
    channel_expect(worker.channel, 1);
    wait_for(client_stat(db).sessions == 1);
    others_go_on(20);
    worker_kill(&worker);
}
END_TEST

static void
close_run(int channel, void *argument)
{
    mace *mine = client_open(path);
    mace_bucket *own = client_bucket(mine, "default");
    mace_txn *txn;
    uint64_t word;

    (void)argument;
    require_ok(mace_begin(mine, 0, &txn));
    require_ok(mace_put(txn, own, "closed", 6, "x", 1));
    for (int fd = 3; fd < 256; fd++)
        if (fd != channel)
            close(fd);
    channel_tell(channel, 1);
    require(channel_hear(channel, &word), "the test is gone");
    /* The session is gone, so this cannot succeed; that it comes back with a status is what counts. */
    int status = mace_commit(txn);
    require(status == MACE_BROKER_LOST || status == MACE_UNKNOWN_OUTCOME ||
                status == MACE_SNAPSHOT_EXPIRED,
            "commit: %s", mace_strerror(status));
    channel_tell(channel, 2);
    require(channel_hear(channel, &word), "the test is gone");
}

START_TEST(f05_a_client_that_closed_all_descriptors_has_ended)
{
    struct worker worker;

    worker_start(&worker, close_run, NULL);
    channel_expect(worker.channel, 1);
    wait_for(client_stat(db).sessions == 1);
    channel_tell(worker.channel, 1);
    channel_expect(worker.channel, 2);
    others_go_on(20);
    ck_assert(client_absent(db, bucket, "closed"));
    worker_kill(&worker);
}
END_TEST

/* --- F6: threads cancelled, calls left by longjmp, calls from a signal handler --- */

#if defined(__SANITIZE_ADDRESS__)
static const bool under_address_sanitizer = true;
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
static const bool under_address_sanitizer = true;
#else
static const bool under_address_sanitizer = false;
#endif
#else
static const bool under_address_sanitizer = false;
#endif

static AO_t started;

static void *
cancelled_run(void *argument)
{
    (void)argument;
    for (;;) {
        mace_txn *txn;
        if (mace_begin(db, MACE_SYNC, &txn) == MACE_OK) {
            mace_put(txn, bucket, "cancelled", 9, "x", 1);
            mace_commit(txn);
        }
        AO_fetch_and_add1(&started);
        pthread_testcancel();
    }
    return NULL;
}

START_TEST(f06_a_cancelled_thread_leaves_no_lock_behind)
{
    for (int round = 0; round < 20; round++) {
        pthread_t thread;
        AO_t before = AO_load(&started);
        ck_assert_int_eq(pthread_create(&thread, NULL, cancelled_run, NULL), 0);
        wait_for(AO_load_acquire(&started) > before);
        ck_assert_int_eq(pthread_cancel(thread), 0);
        ck_assert_int_eq(pthread_join(thread, NULL), 0);
        others_go_on(3);
    }
}
END_TEST

static AO_t handled;
static AO_t wrong_status;

/* What a careless program does in a handler. Each call succeeds or is refused, and comes back. */
static void
careless_handler(int number)
{
    char value[8];
    size_t size;
    mace_txn *txn;
    int saved = errno;

    (void)number;
    int status = mace_put1(db, bucket, "handler", 7, "x", 1);
    if (status != MACE_OK && status != MACE_INVALID && status != MACE_BUSY)
        AO_store(&wrong_status, (AO_t)(unsigned)status);
    mace_get1(db, bucket, "handler", 7, value, sizeof value, &size);
    if (mace_begin(db, 0, &txn) == MACE_OK)
        mace_abort(txn);
    AO_fetch_and_add1(&handled);
    errno = saved;
}

static void
careless_run(int channel, void *argument)
{
    struct sigaction action = {.sa_handler = careless_handler};
    struct itimerval every = {{0, 300}, {0, 300}};

    (void)argument;
    db = client_open(path);
    bucket = client_bucket(db, "default");
    sigaction(SIGALRM, &action, NULL);
    setitimer(ITIMER_REAL, &every, NULL);
    while (AO_load(&handled) < 500)
        require_ok(load_commit(db, bucket, board, 1, AO_load(&handled) % 2 ? MACE_OS : MACE_SYNC));
    setitimer(ITIMER_REAL, &(struct itimerval){{0, 0}, {0, 0}}, NULL);
    require(AO_load(&wrong_status) == 0, "a call in the handler gave %d",
            (int)AO_load(&wrong_status));
    mace_close(db);
    channel_tell(channel, 1);
}

START_TEST(f06_calls_from_a_signal_handler_come_back)
{
    struct worker worker;

    worker_start(&worker, careless_run, NULL);
    channel_expect(worker.channel, 1);
    worker_join(&worker);
    others_go_on(3);
}
END_TEST

/* --- F27: a broken session, of a program that uses the library --- */

/* Overwrites the words of the ring that this process's library writes: what a stray pointer does. */
static void
scribble_run(int channel, void *argument)
{
    char line[512];
    mace *mine = client_open(path);
    mace_bucket *own = client_bucket(mine, "default");
    FILE *maps = fopen("/proc/self/maps", "re");
    unsigned long address = 0;
    mace_txn *txn;

    (void)argument;
    require(maps != NULL, "no maps");
    require_ok(mace_begin(mine, 0, &txn));
    require_ok(mace_put(txn, own, "scribble", 8, "lost", 4));
    while (address == 0 && fgets(line, sizeof line, maps) != NULL)
        if (strstr(line, "memfd:mace-session") != NULL)
            address = strtoul(line, NULL, 16);
    fclose(maps);
    require(address != 0, "the session is not found in the maps");
    struct mshm_session *session = (struct mshm_session *)address;
    mace *second = client_open(path);
    mace_bucket *other = client_bucket(second, "default");
    while (!mshm_session_over(session)) {
        AO_store_full(&session->tail, UINT64_C(0xdeadbeef));
        require_ok(
            client_put(second, other, "scribble", "other")); /* so that the broker is awake */
    }
    mace_close(second);
    /* The handle gets another session, and what was open is lost. */
    int status;
    do
        status = client_put(mine, own, "scribble", "again");
    while (status == MACE_UNKNOWN_OUTCOME || status == MACE_BROKER_LOST);
    require_ok(status);
    status = mace_commit(txn);
    require(status == MACE_BROKER_LOST || status == MACE_SNAPSHOT_EXPIRED, "commit: %s",
            mace_strerror(status));
    require_ok(mace_begin(mine, MACE_SYNC, &txn));
    require_ok(mace_put(txn, own, "scribble", 8, "at last", 7));
    require_ok(mace_commit(txn));
    mace_close(mine);
    channel_tell(channel, 1);
}

START_TEST(f27_a_client_that_broke_its_session_gets_another_one)
{
    struct worker worker;

    worker_start(&worker, scribble_run, NULL);
    channel_expect(worker.channel, 1);
    worker_join(&worker);
    ck_assert_uint_eq(client_stat(db).sessions_ended_invalid, 1);
    ck_assert(client_has(db, bucket, "scribble", "at last"));
    others_go_on(20);
}
END_TEST

/* --- F28: a flood --- */

static void
flood_run(int channel, void *argument)
{
    struct raw_client client;
    uint64_t offset;
    int wake;

    (void)argument;
    raw_client_open(&client, path);
    struct mshm_tree_ref tree = raw_client_tree(&client, "default");
    AO_store_release(&client.session->lanes_high, MSHM_MAX_LANES);
    for (unsigned lane = 0; lane < MSHM_MAX_LANES; lane++)
        mshm_snapshot_register(client.view.store, &client.session->lanes[lane]);
    channel_tell(channel, 1);
    for (uint64_t i = 0;; i++) {
        while (!mshm_producer_room(&client.producer, client.producer.next - 1))
            raw_client_ring_bell(&client);
        if (mshm_producer_arena(&client.producer, 64, &offset) != MSHM_OK)
            continue;
        uint64_t size =
            raw_client_arena_put(&client, tree.bucket, MSHM_OP_PUT, "flood", "x", &offset);
        mshm_producer_publish(&client.producer, MSHM_REQUEST_ONE_CALL, 0, 1, 0, 0, offset, size, 1,
                              &wake);
        raw_client_ring_bell(&client);
    }
}

START_TEST(f28_a_flood_of_requests_and_snapshots_leaves_others_their_share)
{
    enum { FLOODS = 3, COMMITS = 300 };
    struct worker workers[FLOODS];
    uint64_t longest = 0;

    for (int i = 0; i < FLOODS; i++)
        worker_start(&workers[i], flood_run, NULL);
    for (int i = 0; i < FLOODS; i++)
        channel_expect(workers[i].channel, 1);
    uint64_t began = process_time_ns();
    for (int i = 0; i < COMMITS; i++) {
        uint64_t before = process_time_ns();
        ck_assert_int_eq(load_commit(db, bucket, board, 0, MACE_OS), MACE_OK);
        uint64_t took = process_time_ns() - before;
        longest = took > longest ? took : longest;
    }
    printf("f28: %d commits beside %d floods in %.0f ms, the slowest %.1f ms\n", COMMITS, FLOODS,
           (double)(process_time_ns() - began) / 1e6, (double)longest / 1e6);
    for (int i = 0; i < FLOODS; i++)
        worker_kill(&workers[i]);
    wait_for(client_stat(db).sessions == 1);
}
END_TEST

/* --- F29: its own segment destroyed --- */

static void
destroyer_run(int channel, void *argument)
{
    struct raw_client client;
    uint64_t word;

    (void)argument;
    raw_client_open(&client, path);
    struct mshm_tree_ref tree = raw_client_tree(&client, "default");
    int fd = client.session_fd;
    require(ftruncate(fd, 0) != 0 && ftruncate(fd, 1 << 30) != 0, "it could be resized");
    require(fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE) != 0, "a seal could be added");
    require_ok(raw_client_put(&client, tree.bucket, "destroyer", "before"));
    for (int i = 0; i < 50; i++) {
        uint64_t offset;
        int wake;
        uint64_t size =
            raw_client_arena_put(&client, tree.bucket, MSHM_OP_PUT, "destroyer", "x", &offset);
        mshm_producer_publish(&client.producer, MSHM_REQUEST_ONE_CALL, 0, 1, 0, 0, offset, size, 1,
                              &wake);
        raw_client_ring_bell(&client);
    }
    /* A hole where the header, the ring and the arena were. */
    int punched = fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0,
                            (off_t)client.welcome.session_size);
    channel_tell(channel, punched == 0);
    for (int i = 0; i < 50 && !raw_client_ended(&client); i++) {
        AO_store_full(&client.session->tail, 7 + (AO_t)i * 3);
        raw_client_ring_bell(&client);
        process_pause();
    }
    channel_hear(channel, &word);
}

START_TEST(f29_a_client_that_destroys_its_segment_harms_itself)
{
    for (int round = 0; round < 5; round++) {
        struct worker worker;
        uint64_t punched;
        worker_start(&worker, destroyer_run, NULL);
        ck_assert(channel_hear(worker.channel, &punched));
        ck_assert_uint_eq(punched, 1);
        others_go_on(50);
        channel_tell(worker.channel, 1);
        worker_join(&worker);
        wait_for(client_stat(db).sessions == 1);
    }
    others_go_on(20);
}
END_TEST

/* --- F30: a stray write --- */

/* Finds where this process has mapped the store, and writes there. */
static void
stray_run(int channel, void *argument)
{
    char line[512];
    mace *mine = client_open(path);
    FILE *maps = fopen("/proc/self/maps", "re");
    unsigned long address = 0;

    (void)channel;
    (void)argument;
    (void)mine;
    require(maps != NULL, "no maps");
    while (fgets(line, sizeof line, maps) != NULL)
        if (strstr(line, "memfd:mace-store") != NULL || strstr(line, "memfd:store") != NULL) {
            char rights[8];
            require(sscanf(line, "%lx-%*x %7s", &address, rights) == 2, "%s", line);
            require(rights[1] == '-', "the store is mapped writable: %s", line);
            break;
        }
    require(address != 0, "the store is not found in the maps");
    memset((void *)address, 0xff, 4096); /* NOLINT: the fault is the point */
    _exit(0);
}

START_TEST(f30_a_stray_write_into_the_store_kills_its_writer_only)
{
    for (int round = 0; round < 3; round++) {
        struct worker worker;
        worker_start(&worker, stray_run, NULL);
        int status = worker_wait(&worker);
        ck_assert_msg((WIFSIGNALED(status) && WTERMSIG(status) == SIGSEGV) ||
                          (getenv("MACE_SANITIZE") != NULL && getenv("MACE_SANITIZE")[0] != '\0' &&
                           WIFEXITED(status) && WEXITSTATUS(status) != 0),
                      "the writer ended with %x", (unsigned)status);
        wait_for(client_stat(db).sessions == 1);
        others_go_on(20);
    }
}
END_TEST

int
main(void)
{
    Suite *suite = suite_create("faults of clients");
    TCase *cases = tcase_create("clients");
    SRunner *runner;

    tcase_set_timeout(cases, 0);
    tcase_add_checked_fixture(cases, setup, teardown);
    tcase_add_test(cases, f01_a_killed_client_costs_nobody_anything);
    tcase_add_test(cases, f02_the_snapshots_of_a_stopped_client_expire_when_they_keep_too_much);
    tcase_add_test(cases, f02_a_client_stopped_with_a_snapshot_is_named_in_the_log_of_events);
    tcase_add_test(cases, f04_a_forked_child_is_told_so_and_frees_nothing_of_its_parent);
    tcase_add_test(cases, f05_a_client_that_becomes_another_program_has_ended);
    tcase_add_test(cases, f05_a_client_that_closed_all_descriptors_has_ended);
    /* AddressSanitizer's own end of a thread stumbles over the frames that cancelling it skips. */
    if (!under_address_sanitizer)
        tcase_add_test(cases, f06_a_cancelled_thread_leaves_no_lock_behind);
    tcase_add_test(cases, f06_calls_from_a_signal_handler_come_back);
    tcase_add_test(cases, f27_a_client_that_broke_its_session_gets_another_one);
    tcase_add_test(cases, f28_a_flood_of_requests_and_snapshots_leaves_others_their_share);
    tcase_add_test(cases, f29_a_client_that_destroys_its_segment_harms_itself);
    tcase_add_test(cases, f30_a_stray_write_into_the_store_kills_its_writer_only);
    suite_add_tcase(suite, cases);
    runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
