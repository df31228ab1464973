/* fence_test.c - a write that outlives the broker's SIGKILL never meets a new broker.
 *
 *   database on ext4 (disk) --> loop device --> file on ext4 (store) --> loop device --> file
 *
 * While `store` is frozen, requests of the inner device wait in the kernel, as on a device that is slow: the broker is
 * killed with such requests under way. Its lock has to stay taken until they have ended.
 */
#include <atomic_ops.h>
#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "fault/image.h"
#include "fault/throttle.h"
#include "support/broker.h"
#include "support/client.h"
#include "support/load.h"

enum { LOOKS = 50, COMMITS = 40 };

static char scratch[SCRATCH_PATH], path[SCRATCH_PATH];
static struct image store, disk;
static struct load_board *board;
static AO_t *over; /* shared: the test, once; the writer reads */

struct writer {
    unsigned flags;
};

/* Commits until one is not answered any more. A handle that finds its broker gone between two commits goes on with the next one. */
static void
writer_run(int channel, void *argument)
{
    const struct writer *writer = argument;
    mace *db = client_open(path);
    mace_bucket *bucket = client_bucket(db, "default");
    int status;

    channel_tell(channel, 1);
    do {
        status = load_commit(db, bucket, board, 0, writer->flags);
        if ((writer->flags & MACE_SYNC) == 0)
            process_pause(); /* else the disk is soon full */
    } while ((status == MACE_OK || status == MACE_FULL) && AO_load_acquire(over) == 0);
    require(status == MACE_OK || status == MACE_FULL || status == MACE_BROKER_LOST ||
                status == MACE_UNKNOWN_OUTCOME,
            "a commit: %s", mace_strerror(status));
    mace_close(db);
}

/* True when somebody has the directory's lock. */
static bool
locked(void)
{
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

    require(fd >= 0, "%s: %s", path, strerror(errno));
    int result = flock(fd, LOCK_EX | LOCK_NB);
    require(result == 0 || errno == EWOULDBLOCK, "flock: %s", strerror(errno));
    close(fd);
    return result != 0;
}

static void
outlive(const struct broker_options *options, unsigned flags)
{
    struct writer writer = {.flags = flags};
    struct broker broker, next;
    struct worker worker;

    AO_store(over, 0);
    broker_start(&broker, path, options);
    worker_start(&worker, writer_run, &writer);
    channel_expect(worker.channel, 1);
    uint64_t until = load_commits(board) + COMMITS;
    wait_for(load_commits(board) >= until);
    ck_assert(locked());
    image_freeze(&store);
    wait_for(image_in_flight(&disk) > 0);
    /* The one that waits is the broker's, when commits stand still. */
    uint64_t commits;
    do {
        commits = load_commits(board);
        for (int i = 0; i < LOOKS; i++)
            process_pause();
    } while ((flags & MACE_SYNC) != 0 && commits != load_commits(board));
    ck_assert_int_eq(kill(broker.pid, SIGKILL), 0);
    broker_launch(&next, path, options);
    struct pollfd ready = {.fd = next.ready, .events = POLLIN};
    for (int i = 0; i < LOOKS; i++) {
        ck_assert_uint_gt(image_in_flight(&disk), 0);
        ck_assert_msg(locked(), "the lock is free while a write is under way");
        ck_assert_int_eq(poll(&ready, 1, 0), 0); /* neither served nor gone */
        process_pause();
    }
    image_thaw(&store);
    ck_assert_int_eq(broker_ready(&next), 0);
    int end = broker_wait(&broker);
    ck_assert(WIFSIGNALED(end) && WTERMSIG(end) == SIGKILL);
    AO_store_release(over, 1);
    worker_join(&worker);
    mace *db = client_open(path);
    load_check_all(db, client_bucket(db, "default"), board);
    mace_close(db);
    broker_finish(&next);
}

START_TEST(f07_a_sync_by_the_ring_that_outlives_its_broker_holds_the_lock)
{
    static const struct broker_options options = {
        .arguments = {"--cache", "8M", "--segment-size", "1M"}};
    outlive(&options, MACE_SYNC);
}
END_TEST

START_TEST(f07_a_sync_by_a_thread_that_outlives_its_broker_holds_the_lock)
{
    static const struct broker_options options = {
        .arguments = {"--cache", "8M", "--segment-size", "1M", "--no-uring"}};
    outlive(&options, MACE_SYNC);
}
END_TEST

START_TEST(f07_a_checkpoint_that_outlives_its_broker_holds_the_lock)
{
    static const struct broker_options options = {
        .arguments = {"--cache", "8M", "--segment-size", "4M", "--checkpoint-interval", "10"}};
    outlive(&options, MACE_OS);
}
END_TEST

enum { DIRECT_KEYS = 300, DIRECT_VALUE = 2000 };

static size_t
direct_key(char key[16], int number)
{
    return (size_t)snprintf(key, 16, "direct%04d", number);
}

static int
direct_get(int number)
{
    char key[16], value[DIRECT_VALUE];
    size_t size = 0, key_size = direct_key(key, number);
    mace *db = client_open(path);
    int status =
        mace_get1(db, client_bucket(db, "default"), key, key_size, value, sizeof value, &size);

    mace_close(db);
    return status;
}

/* Reads a key that does not come before the broker is gone. */
static void
reader_run(int channel, void *argument)
{
    (void)argument;
    channel_tell(channel, 1);
    (void)direct_get(DIRECT_KEYS - 1);
}

/* What the kernel reads past the page cache is under way in no thread: so nothing of the killed process is left but what
 * the ring holds, and that is the lock. */
START_TEST(f07_a_direct_read_that_outlives_its_process_holds_the_lock)
{
    static const struct broker_options options = {
        .arguments = {"--cache", "8M", "--direct-io=on", "--checkpoint-interval", "3600000"}};
    struct throttle throttle;
    struct broker broker, next;
    struct worker reader;
    char key[16], value[DIRECT_VALUE] = "v";

    broker_start(&broker, path, &options);
    mace *db = client_open(path);
    for (int i = 0; i < DIRECT_KEYS; i++) {
        size_t size = direct_key(key, i);
        ck_assert_int_eq(
            mace_put1(db, client_bucket(db, "default"), key, size, value, sizeof value), MACE_OK);
    }
    mace_close(db);
    broker_finish(&broker);
    broker_start(&broker, path, &options);
    ck_assert_int_eq(direct_get(0), MACE_OK); /* the inner pages, and where the file's blocks are */
    const char *why = throttle_begin(&throttle, broker.pid, disk.device);
    if (why != NULL) {
        printf("skipped: %s\n", why);
        broker_finish(&broker);
        return;
    }
    worker_start(&reader, reader_run, NULL);
    channel_expect(reader.channel, 1);
    db = client_open(path);
    wait_for(client_stat(db).disk_unanswered > 0);
    ck_assert_int_eq(kill(broker.pid, SIGKILL), 0);
    int end = broker_wait(&broker); /* all of it, its threads included */
    ck_assert(WIFSIGNALED(end) && WTERMSIG(end) == SIGKILL);
    bool held = true;
    for (int i = 0; i < LOOKS && held; i++) {
        held = locked();
        process_pause();
    }
    throttle_end(&throttle);
    ck_assert_msg(held, "the lock is free while a read is under way");
    broker_start(&next, path, &options);
    worker_join(&reader);
    mace_close(db);
    ck_assert_int_eq(direct_get(DIRECT_KEYS - 1), MACE_OK);
    broker_finish(&next);
}
END_TEST

/* The same disk, and nobody is killed: everybody waits until it answers. */
START_TEST(f22_a_device_that_stands_still_stops_commits_and_nothing_else)
{
    static const struct broker_options options = {
        .arguments = {"--cache", "8M", "--segment-size", "1M"}};
    struct writer writer = {.flags = MACE_SYNC};
    struct broker broker, second;
    struct worker worker;

    AO_store(over, 0);
    broker_start(&broker, path, &options);
    mace *db = client_open(path);
    mace_bucket *bucket = client_bucket(db, "default");
    worker_start(&worker, writer_run, &writer);
    channel_expect(worker.channel, 1);
    uint64_t until = load_commits(board) + COMMITS;
    wait_for(load_commits(board) >= until);
    image_freeze(&store);
    wait_for(client_stat(db).disk_unanswered > 0);
    ck_assert(locked());
    broker_launch(&second, path, &options);
    ck_assert_int_eq(broker_wait(&second), 0);
    mace_stat stat = client_stat(db);
    ck_assert_uint_eq(stat.broker_pid, (uint64_t)broker.pid);
    ck_assert_uint_eq(stat.sessions_ended_dead, 0);
    image_thaw(&store);
    until = load_commits(board) + COMMITS;
    wait_for(load_commits(board) >= until && client_stat(db).disk_unanswered == 0);
    ck_assert_uint_gt(client_stat(db).disk_stalls, 0);
    AO_store_release(over, 1);
    worker_join(&worker);
    load_check_all(db, bucket, board);
    mace_close(db);
    broker_finish(&broker);
}
END_TEST

static const char *
disks_create(void)
{
    char directory[SCRATCH_PATH];
    const char *why = image_create(&store, scratch, "store", 96);

    if (why == NULL)
        why = image_create(&disk, store.mounted, "disk", 64);
    if (why != NULL)
        return why;
    scratch_join(directory, disk.mounted, "db");
    scratch_join(path, scratch, "db");
    require(mkdir(directory, 0700) == 0 && symlink(directory, path) == 0, "%s", path);
    return NULL;
}

int
main(void)
{
    Suite *suite = suite_create("the fence");
    TCase *cases = tcase_create("fence");
    SRunner *runner;
    int failed = 0;

    if (access("/dev/shm", W_OK) == 0)
        setenv("TMPDIR", "/dev/shm", 0);
    scratch_create(scratch);
    disk.loop = -1;
    board = load_board_create();
    over = mmap(NULL, sizeof *over, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    require(over != MAP_FAILED, "mmap: %s", strerror(errno));
    const char *why = disks_create();
    if (why != NULL) {
        printf("skipped: %s\n", why);
    } else {
        tcase_set_timeout(cases, 0);
        tcase_add_test(cases, f07_a_sync_by_the_ring_that_outlives_its_broker_holds_the_lock);
        tcase_add_test(cases, f07_a_sync_by_a_thread_that_outlives_its_broker_holds_the_lock);
        tcase_add_test(cases, f07_a_checkpoint_that_outlives_its_broker_holds_the_lock);
        tcase_add_test(cases, f07_a_direct_read_that_outlives_its_process_holds_the_lock);
        tcase_add_test(cases, f22_a_device_that_stands_still_stops_commits_and_nothing_else);
        suite_add_tcase(suite, cases);
        runner = srunner_create(suite);
        srunner_set_fork_status(runner, CK_NOFORK);
        srunner_run_all(runner, CK_ENV);
        failed = srunner_ntests_failed(runner);
        srunner_free(runner);
    }
    image_destroy(&disk);
    image_destroy(&store);
    scratch_remove(scratch);
    return why != NULL ? IMAGE_SKIP : failed == 0 ? 0 : 1;
}
