/* library_test.c - what a program that links libmace sees of brokers coming and going, and of the library's manners. */
#include <atomic_ops.h>
#include <check.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
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
#include "support/random.h"

static char scratch[SCRATCH_PATH], path[SCRATCH_PATH];

static void
setup(void)
{
    scratch_create(scratch);
    scratch_join(path, scratch, "db");
}

static void
teardown(void)
{
    scratch_remove(scratch);
}

/* --- brokers that nobody starts but the library --- */

/* Processes whose command line is that of a broker of `path`. */
static int
brokers_running(void)
{
    DIR *directory = opendir("/proc");
    struct dirent *entry;
    int count = 0;

    ck_assert_ptr_nonnull(directory);
    while ((entry = readdir(directory)) != NULL) {
        char name[64], text[1024] = "";
        if (entry->d_name[0] < '1' || entry->d_name[0] > '9')
            continue;
        snprintf(name, sizeof name, "/proc/%.20s/cmdline", entry->d_name);
        int fd = open(name, O_RDONLY | O_CLOEXEC);
        ssize_t size = fd < 0 ? 0 : read(fd, text, sizeof text - 1);
        if (fd >= 0)
            close(fd);
        /* A zombie has no command line. */
        if (size > 0 && strcmp(text, "mace-broker") == 0 &&
            strcmp(text + strlen(text) + 1, path) == 0)
            count++;
    }
    closedir(directory);
    return count;
}

static void
stop_broker(mace *db)
{
    pid_t pid = (pid_t)client_stat(db).broker_pid;

    mace_close(db);
    kill(pid, SIGTERM);
    wait_for(brokers_running() == 0);
}

static void
racer_run(int channel, void *argument)
{
    uint64_t word;
    char key[16];

    channel_tell(channel, 1);
    require(channel_hear(channel, &word), "the test is gone");
    mace *db = client_open_starting(path, 5000);
    mace_bucket *bucket = client_bucket(db, "default");
    snprintf(key, sizeof key, "racer%d", (int)(intptr_t)argument);
    require_ok(client_commit_put(db, bucket, MACE_SYNC, key, "here", NULL));
    channel_tell(channel, client_stat(db).broker_pid);
    require(channel_hear(channel, &word), "the test is gone");
    mace_close(db);
}

START_TEST(racing_processes_start_exactly_one_broker)
{
    enum { RACERS = 12, ROUNDS = 5 };
    struct worker racers[RACERS];

    for (int round = 0; round < ROUNDS; round++) {
        uint64_t broker = 0, mine;
        scratch_remove(path);
        for (int i = 0; i < RACERS; i++)
            worker_start(&racers[i], racer_run, (void *)(intptr_t)i);
        for (int i = 0; i < RACERS; i++)
            channel_expect(racers[i].channel, 1);
        for (int i = 0; i < RACERS; i++)
            channel_tell(racers[i].channel, 1);
        for (int i = 0; i < RACERS; i++) {
            ck_assert(channel_hear(racers[i].channel, &mine));
            broker = i == 0 ? mine : broker;
            ck_assert_uint_eq(mine, broker);
        }
        /* Those who lost the race have left. */
        wait_for(brokers_running() == 1);
        mace *db = client_open(path);
        mace_bucket *bucket = client_bucket(db, "default");
        for (int i = 0; i < RACERS; i++) {
            char key[16];
            snprintf(key, sizeof key, "racer%d", i);
            ck_assert(client_has(db, bucket, key, "here"));
            channel_tell(racers[i].channel, 1);
        }
        for (int i = 0; i < RACERS; i++)
            worker_join(&racers[i]);
        stop_broker(db);
    }
}
END_TEST

START_TEST(after_the_death_of_a_broker_the_next_call_starts_another)
{
    mace *db = client_open_starting(path, 5000);
    mace_bucket *bucket = client_bucket(db, "default");
    mace_txn *txn;
    mace_slice value;

    for (int round = 0; round < 6; round++) {
        char text[16];
        snprintf(text, sizeof text, "round%d", round);
        ck_assert_int_eq(client_put(db, bucket, "key", text), MACE_OK);
        ck_assert_int_eq(mace_begin(db, 0, &txn), MACE_OK);
        ck_assert_int_eq(mace_put(txn, bucket, "lost", 4, "x", 1), MACE_OK);
        mace_stat before = client_stat(db);
        ck_assert_int_eq(kill((pid_t)before.broker_pid, SIGKILL), 0);
        wait_for(brokers_running() == 0);
        /* A transaction of the dead broker reads on or says so, and is never sent to another one. */
        int status = mace_get(txn, bucket, "key", 3, &value);
        ck_assert(status == MACE_BROKER_LOST || (status == MACE_OK && value.size == strlen(text) &&
                                                 memcmp(value.data, text, value.size) == 0));
        ck_assert_int_eq(mace_commit(txn), MACE_BROKER_LOST);
        /* Every kind of call on the handle itself attaches again. */
        switch (round) {
        case 0:
            ck_assert_int_eq(client_put(db, bucket, "key", "again"), MACE_OK);
            break;
        case 1:
            ck_assert(client_has(db, bucket, "key", text));
            break;
        case 2:
            ck_assert_int_eq(mace_sync(db), MACE_OK);
            break;
        case 3:
            ck_assert_int_eq(mace_checkpoint(db), MACE_OK);
            break;
        case 4:
            mace_bucket_close(client_bucket(db, "another"));
            break;
        default:
            ck_assert_int_eq(mace_begin(db, 0, &txn), MACE_OK);
            mace_abort(txn);
        }
        mace_stat after = client_stat(db);
        ck_assert_uint_ne(after.broker_pid, before.broker_pid);
        ck_assert_uint_gt(after.incarnation, before.incarnation);
        ck_assert(client_absent(db, bucket, "lost"));
    }
    stop_broker(db);
}
END_TEST

/* MACE_NOT_FOUND from a read or a delete is about the key, whatever became of the program. */
START_TEST(a_lost_program_is_a_lost_broker_and_no_missing_key)
{
    char *program = strdup(getenv("MACE_BROKER"));
    mace *db = client_open_starting(path, 5000);
    mace_bucket *bucket = client_bucket(db, "default");
    char value[8];
    size_t size;

    ck_assert_int_eq(client_put(db, bucket, "key", "value"), MACE_OK);
    pid_t pid = (pid_t)client_stat(db).broker_pid;
    setenv("MACE_BROKER", "/nowhere/mace-broker", 1);
    ck_assert_int_eq(kill(pid, SIGKILL), 0);
    wait_for(brokers_running() == 0);
    ck_assert_int_eq(mace_delete1(db, bucket, "key", 3), MACE_BROKER_LOST);
    ck_assert_int_eq(mace_get1(db, bucket, "key", 3, value, sizeof value, &size), MACE_BROKER_LOST);
    setenv("MACE_BROKER", program, 1);
    ck_assert_int_eq(mace_get1(db, bucket, "key", 3, value, sizeof value, &size), MACE_OK);
    free(program);
    stop_broker(db);
}
END_TEST

START_TEST(without_permission_no_broker_is_started)
{
    mace_options options;
    mace *db;

    mace_options_init(&options);
    options.start_broker = 0;
    ck_assert_int_eq(mace_open(path, &options, &db), MACE_BROKER_LOST);
    ck_assert_int_eq(brokers_running(), 0);
    ck_assert_int_ne(access(path, F_OK), 0);
}
END_TEST

START_TEST(an_idle_broker_leaves_and_the_next_open_starts_another)
{
    for (int round = 0; round < 3; round++) {
        char key[16];
        mace *db = client_open_starting(path, 100);
        mace_bucket *bucket = client_bucket(db, "default");
        snprintf(key, sizeof key, "round%d", round);
        ck_assert_int_eq(client_commit_put(db, bucket, MACE_OS, key, "x", NULL), MACE_OK);
        for (int i = 0; i <= round; i++) {
            snprintf(key, sizeof key, "round%d", i);
            ck_assert(client_has(db, bucket, key, "x"));
        }
        mace_close(db);
        wait_for(brokers_running() == 0);
    }
}
END_TEST

/* --- good-bye --- */

START_TEST(a_handle_that_is_closed_ends_its_session_in_order)
{
    struct broker broker;

    broker_start(&broker, path, NULL);
    mace *watcher = client_open(path);
    for (int i = 0; i < 3; i++) {
        mace *db = client_open(path);
        mace_bucket *bucket = client_bucket(db, "default");
        ck_assert_int_eq(client_put(db, bucket, "key", "x"), MACE_OK);
        ck_assert_int_eq(mace_sync(db), MACE_OK);
        ck_assert_int_eq(mace_checkpoint(db), MACE_OK);
        ck_assert_int_eq(client_put(db, bucket, "key", "y"), MACE_OK);
        mace_close(db);
    }
    wait_for(client_stat(watcher).sessions == 1);
    ck_assert_uint_eq(client_stat(watcher).sessions_total, 4);
    ck_assert_uint_eq(client_stat(watcher).sessions_ended_dead, 0);
    ck_assert_uint_eq(client_stat(watcher).sessions_ended_invalid, 0);
    ck_assert(!broker_log_has(&broker, "cut off"));
    mace_close(watcher);
    broker_finish(&broker);
}
END_TEST

/* --- manners --- */

static AO_t children_reported;

static void
child_handler(int number)
{
    (void)number;
    AO_fetch_and_add1(&children_reported);
}

/* Descriptors of this process that an exec would hand on, and how many there are. */
static int
descriptors_inherited(int *count)
{
    DIR *directory = opendir("/proc/self/fd");
    struct dirent *entry;
    int inherited = 0;

    *count = 0;
    while ((entry = readdir(directory)) != NULL) {
        int fd = atoi(entry->d_name);
        if (entry->d_name[0] == '.' || fd == dirfd(directory))
            continue;
        ++*count;
        if (fd > 2 && (fcntl(fd, F_GETFD) & FD_CLOEXEC) == 0)
            inherited++;
    }
    closedir(directory);
    return inherited;
}

static void
use_everything(mace *db)
{
    mace_bucket *bucket = client_bucket(db, "default");
    mace_txn *txn;
    mace_ticket ticket;

    ck_assert_int_eq(client_put(db, bucket, "a", "1"), MACE_OK);
    ck_assert_int_eq(client_commit_put(db, bucket, MACE_SYNC, "b", "2", NULL), MACE_OK);
    ck_assert_int_eq(mace_begin(db, 0, &txn), MACE_OK);
    ck_assert_int_eq(mace_put(txn, bucket, "c", 1, "3", 1), MACE_OK);
    ck_assert_int_eq(mace_commit_async(txn, &ticket), MACE_OK);
    ck_assert_int_eq(mace_wait(db, &ticket), MACE_OK);
    ck_assert_int_eq(mace_sync(db), MACE_OK);
}

START_TEST(the_library_leaves_no_child_no_descriptor_and_no_handler_behind)
{
    struct sigaction before[NSIG], now;
    struct sigaction reporting = {.sa_handler = child_handler};
    sigset_t mask_before, mask_now;
    int count_before, count_open, count_after, status;

    sigaction(SIGCHLD, &reporting, NULL);
    for (int number = 1; number < NSIG; number++)
        sigaction(number, NULL, &before[number]);
    pthread_sigmask(SIG_SETMASK, NULL, &mask_before);
    int inherited = descriptors_inherited(&count_before);

    mace *db = client_open_starting(path, 200);
    use_everything(db);
    kill((pid_t)client_stat(db).broker_pid, SIGKILL);
    wait_for(brokers_running() == 0);
    use_everything(db); /* a second broker, started in the middle of a program's life */
    ck_assert_int_eq(descriptors_inherited(&count_open), inherited);
    ck_assert_int_gt(count_open, count_before);
    mace_close(db);

    ck_assert_int_eq(descriptors_inherited(&count_after), inherited);
    ck_assert_int_eq(count_after, count_before);
    ck_assert_int_eq(process_children(), 0);
    ck_assert_int_eq(waitpid(-1, &status, WNOHANG | __WALL), -1);
    ck_assert_int_eq(errno, ECHILD);
    ck_assert_uint_eq(AO_load(&children_reported), 0);
    for (int number = 1; number < NSIG; number++) {
        if (sigaction(number, NULL, &now) == 0) /* the C library keeps some numbers for itself */
            ck_assert_msg(now.sa_handler == before[number].sa_handler,
                          "signal %d has another handler", number);
    }
    pthread_sigmask(SIG_SETMASK, NULL, &mask_now);
    ck_assert(memcmp(&mask_now, &mask_before, sizeof(long)) == 0);
    wait_for(brokers_running() == 0);
}
END_TEST

START_TEST(a_failed_open_leaves_nothing_behind)
{
    char file[SCRATCH_PATH], missing[SCRATCH_PATH];
    mace_options options;
    mace *db;
    int count_before, count_after;
    int inherited = descriptors_inherited(&count_before);

    scratch_join(file, scratch, "file");
    scratch_script(file, "no directory");
    scratch_join(missing, scratch, "missing/db");
    mace_options_init(&options);
    ck_assert_int_eq(mace_open(file, &options, &db), MACE_INVALID);
    ck_assert_int_eq(mace_open(missing, &options, &db), MACE_NOT_FOUND);
    options.create = 0;
    ck_assert_int_eq(mace_open(path, &options, &db), MACE_NOT_FOUND);
    options.create = 1;
    options.broker_path = "/no/such/program";
    ck_assert_int_eq(mace_open(path, &options, &db), MACE_NOT_FOUND);
    options.broker_path = NULL;
    options.size = 3;
    ck_assert_int_eq(mace_open(path, &options, &db), MACE_VERSION);
    /* Caches that are beyond what a broker takes, and beyond what this machine has: it says so. */
    mace_options_init(&options);
    options.cache_size = UINT64_MAX;
    ck_assert_int_eq(mace_open(path, &options, &db), MACE_INVALID);
    options.cache_size = UINT64_C(1) << 44;
    ck_assert_int_eq(mace_open(path, &options, &db), MACE_NO_MEMORY);
    ck_assert_int_ne(access(path, F_OK), 0);
    /* A program that is no broker: it ends without a word. */
    mace_options_init(&options);
    options.broker_path = "/bin/true";
    options.connect_timeout_ms = 200;
    ck_assert_int_eq(mace_open(path, &options, &db), MACE_BROKER_LOST);
    ck_assert_int_eq(descriptors_inherited(&count_after), inherited);
    ck_assert_int_eq(count_after, count_before);
    ck_assert_int_eq(process_children(), 0);
}
END_TEST

/* --- threads --- */

struct thread {
    pthread_t thread;
    mace *db;
    mace_bucket *bucket;
    unsigned number;
    uint64_t commits;
};

/* Moves one from an account to another, until `limit` transfers have succeeded: the sum stays. */
static void *
transfer_run(void *argument)
{
    enum { ACCOUNTS = 10, LIMIT = 300 };
    struct thread *thread = argument;
    struct random random;

    random_init(&random, thread->number);
    while (thread->commits < LIMIT) {
        mace_txn *txn;
        char from[16], to[16];
        int32_t balances[2];
        size_t size;
        unsigned giver = (unsigned)random_below(&random, ACCOUNTS);
        unsigned taker = (giver + 1 + (unsigned)random_below(&random, ACCOUNTS - 1)) % ACCOUNTS;
        snprintf(from, sizeof from, "account%u", giver);
        snprintf(to, sizeof to, "account%u", taker);
        require_ok(mace_begin(thread->db, MACE_OS, &txn));
        require_ok(mace_get_into(txn, thread->bucket, from, strlen(from), &balances[0], 4, &size));
        require_ok(mace_get_into(txn, thread->bucket, to, strlen(to), &balances[1], 4, &size));
        balances[0]--;
        balances[1]++;
        int status = mace_put(txn, thread->bucket, from, strlen(from), &balances[0], 4);
        if (status == MACE_OK)
            status = mace_put(txn, thread->bucket, to, strlen(to), &balances[1], 4);
        require(status == MACE_OK || status == MACE_CONFLICT, "%s", mace_strerror(status));
        status = mace_commit(txn);
        require(status == MACE_OK || status == MACE_CONFLICT, "%s", mace_strerror(status));
        thread->commits += status == MACE_OK;
    }
    return NULL;
}

static int64_t
balance_sum(mace *db, mace_bucket *bucket)
{
    mace_txn *txn;
    mace_cursor *cursor;
    mace_slice value;
    int64_t sum = 0;

    require_ok(mace_begin(db, MACE_RDONLY, &txn));
    require_ok(mace_cursor_open(txn, bucket, NULL, &cursor));
    while (mace_cursor_next(cursor, NULL, &value) == MACE_OK) {
        int32_t balance;
        require(value.size == sizeof balance, "size");
        memcpy(&balance, value.data, sizeof balance);
        sum += balance;
    }
    mace_abort(txn);
    return sum;
}

START_TEST(eight_threads_share_one_handle)
{
    enum { THREADS = 8 };
    struct thread threads[THREADS];
    struct broker broker;
    static const int32_t start = 100;

    broker_start(&broker, path, NULL);
    mace *db = client_open(path);
    mace_bucket *bucket = client_bucket(db, "accounts");
    for (int i = 0; i < 10; i++) {
        char key[16];
        snprintf(key, sizeof key, "account%d", i);
        ck_assert_int_eq(mace_put1(db, bucket, key, strlen(key), &start, sizeof start), MACE_OK);
    }
    uint64_t before = client_newest(db);
    for (unsigned i = 0; i < THREADS; i++) {
        threads[i] = (struct thread){.db = db, .bucket = bucket, .number = i};
        ck_assert_int_eq(pthread_create(&threads[i].thread, NULL, transfer_run, &threads[i]), 0);
    }
    for (int i = 0; i < 200; i++)
        ck_assert_int_eq(balance_sum(db, bucket), 1000);
    uint64_t commits = 0;
    for (unsigned i = 0; i < THREADS; i++) {
        pthread_join(threads[i].thread, NULL);
        commits += threads[i].commits;
    }
    ck_assert_int_eq(balance_sum(db, bucket), 1000);
    ck_assert_uint_eq(client_newest(db), before + commits);
    mace_close(db);
    broker_finish(&broker);
}
END_TEST

int
main(void)
{
    Suite *suite = suite_create("library");
    TCase *cases = tcase_create("processes");
    SRunner *runner;

    tcase_set_timeout(cases, 0);
    tcase_add_checked_fixture(cases, setup, teardown);
    tcase_add_test(cases, racing_processes_start_exactly_one_broker);
    tcase_add_test(cases, after_the_death_of_a_broker_the_next_call_starts_another);
    tcase_add_test(cases, a_lost_program_is_a_lost_broker_and_no_missing_key);
    tcase_add_test(cases, without_permission_no_broker_is_started);
    tcase_add_test(cases, an_idle_broker_leaves_and_the_next_open_starts_another);
    tcase_add_test(cases, a_handle_that_is_closed_ends_its_session_in_order);
    tcase_add_test(cases, the_library_leaves_no_child_no_descriptor_and_no_handler_behind);
    tcase_add_test(cases, a_failed_open_leaves_nothing_behind);
    tcase_add_test(cases, eight_threads_share_one_handle);
    suite_add_tcase(suite, cases);
    runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
