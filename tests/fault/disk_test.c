/* disk_test.c - faults of files: torn and damaged logs, a full disk, errors of writes and syncs, short writes. */
#include <check.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "fault/fault.h"
#include "fault/log_file.h"
#include "support/client.h"
#include "support/load.h"

enum { SMALL_COMMITS = 8, EXIT_POISONED = 70 };

static char scratch[SCRATCH_PATH], path[SCRATCH_PATH];
static const struct broker_options small = {
    .arguments = {"--cache", "2M", "--segment-size", "64K", "--huge-pages", "off"}};

static void
setup(void)
{
    /* Thousands of brokers start here; what they sync need not survive anything. */
    if (access("/dev/shm", W_OK) == 0)
        setenv("TMPDIR", "/dev/shm", 0);
    scratch_create(scratch);
    scratch_join(path, scratch, "db");
}

static void
teardown(void)
{
    scratch_remove(scratch);
}

/* A key of each commit, and one that all of them write. */
static int
small_commit(mace *db, mace_bucket *bucket, unsigned flags, unsigned number)
{
    char key[16], value[16];
    mace_txn *txn;

    snprintf(key, sizeof key, "key%u", number);
    snprintf(value, sizeof value, "value%u", number);
    int status = mace_begin(db, flags, &txn);
    if (status != MACE_OK)
        return status;
    require_ok(mace_put(txn, bucket, key, strlen(key), value, strlen(value)));
    require_ok(mace_put(txn, bucket, "newest", 6, value, strlen(value)));
    return mace_commit(txn);
}

/* The number of small commits, after it was checked that they are whole and a prefix. */
static unsigned
small_count(const char *directory)
{
    mace *db = client_open(directory);
    mace_bucket *bucket = client_bucket(db, "default");
    unsigned count = 0;

    for (unsigned i = 1; i <= SMALL_COMMITS; i++) {
        char key[16], value[16];
        snprintf(key, sizeof key, "key%u", i);
        snprintf(value, sizeof value, "value%u", i);
        if (client_has(db, bucket, key, value)) {
            ck_assert_uint_eq(count, i - 1);
            count = i;
        } else {
            ck_assert(client_absent(db, bucket, key));
        }
    }
    char newest[16];
    snprintf(newest, sizeof newest, "value%u", count);
    ck_assert(count == 0 ? client_absent(db, bucket, "newest")
                         : client_has(db, bucket, "newest", newest));
    mace_close(db);
    return count;
}

/* A database with SMALL_COMMITS commits whose broker was killed. `sync`: how many of them are at level SYNC. None of them
 * is in a checkpoint: the log is all that there is of them. */
static void
small_database(unsigned sync)
{
    struct broker broker;

    broker_start(&broker, path, &small);
    mace *db = client_open(path);
    mace_bucket *bucket = client_bucket(db, "default");
    require_ok(mace_checkpoint(db)); /* the start may have asked for one: none comes after it */
    for (unsigned i = 1; i <= SMALL_COMMITS; i++)
        ck_assert_int_eq(small_commit(db, bucket, i <= sync ? MACE_SYNC : MACE_OS, i), MACE_OK);
    broker_kill(&broker);
    mace_close(db);
}

/* Starts a broker on a damaged copy: the number of commits, or -1 when it is refused as damaged. */
static int
outcome_of(const char *directory)
{
    struct broker broker;

    broker_launch(&broker, directory, &small);
    int status = broker_ready(&broker);
    if (status != 0) {
        int end = broker_wait(&broker);
        ck_assert_msg(status == MACE_CORRUPT || status == MACE_VERSION, "refused with %d", status);
        ck_assert_msg(WIFEXITED(end) && WEXITSTATUS(end) == 1, "it ended with %x", (unsigned)end);
        return -1;
    }
    int count = (int)small_count(directory);
    broker_kill(&broker);
    return count;
}

/* Commits that stand before a record of the log. */
static unsigned
commits_before(const struct log_file *file, unsigned index)
{
    unsigned count = 0;

    for (unsigned i = 0; i < index; i++)
        count += (file->records[i].head.op_count_flags & WAL_OP_COUNT_MASK) == 2;
    return count;
}

START_TEST(f12_a_torn_record_at_the_tail_is_cut_and_the_rest_is_there)
{
    struct log_file file;
    uint8_t zeros[4096] = {0};
    char copy[SCRATCH_PATH];

    small_database(0);
    log_file_read(&file, path);
    ck_assert_uint_eq(commits_before(&file, file.count), SMALL_COMMITS);
    const struct log_file_record *last = &file.records[file.count - 1];
    for (uint64_t torn = last->offset; torn < last->end; torn += 8) {
        scratch_join(copy, scratch, "copy");
        scratch_copy(path, copy);
        log_file_write(&file, copy, torn, zeros, last->end - torn);
        ck_assert_int_eq(outcome_of(copy), (int)commits_before(&file, file.count - 1));
        /* The broker that has cut the log goes on behind the cut. */
        ck_assert_int_eq(outcome_of(copy), (int)commits_before(&file, file.count - 1));
        scratch_remove(copy);
    }
    log_file_free(&file);
}
END_TEST

/* Flips one bit of a byte of a copy, and compares with what the rule says. */
static void
flip(const struct log_file *file, uint64_t offset, int wanted)
{
    char copy[SCRATCH_PATH];
    uint8_t byte = (uint8_t)(file->bytes[offset] ^ 1u << offset % 8);

    scratch_join(copy, scratch, "copy");
    scratch_copy(path, copy);
    log_file_write(file, copy, offset, &byte, 1);
    int outcome = outcome_of(copy);
    ck_assert_msg(outcome == wanted, "byte %llu flipped: %d commits, not %d",
                  (unsigned long long)offset, outcome, wanted);
    scratch_remove(copy);
}

static void
flip_every_byte(unsigned sync)
{
    struct log_file file;
    unsigned cuts = 0, errors = 0, unneeded = 0;

    small_database(sync);
    log_file_read(&file, path);
    ck_assert_uint_gt(file.cut, WAL_RECORDS_AT);
    for (unsigned i = 0; i < file.count; i++) {
        int wanted = log_file_is_error(&file, i) ? -1 : (int)commits_before(&file, i);
        if (file.records[i].end <= file.cut)
            wanted = SMALL_COMMITS; /* the pages have it: nobody looks at the record */
        for (uint64_t at = file.records[i].offset; at < file.records[i].end; at++)
            flip(&file, at, wanted);
        unneeded += file.records[i].end <= file.cut;
        cuts += wanted >= 0 && file.records[i].end > file.cut;
        errors += wanted < 0;
    }
    printf("log with %u synced commits: damage in %u records cuts it, in %u is an error, in %u is "
           "behind a checkpoint\n",
           sync, cuts, errors, unneeded);
    ck_assert_uint_gt(unneeded, 0);
    ck_assert(sync == 0 || errors > 0);
    ck_assert_uint_gt(cuts, 0);
    log_file_free(&file);
}

START_TEST(f14_each_byte_of_a_log_flipped_cuts_it_where_nothing_was_durable)
{
    flip_every_byte(0);
}
END_TEST

START_TEST(f14_each_byte_of_a_synced_log_flipped_is_found)
{
    flip_every_byte(SMALL_COMMITS / 2);
}
END_TEST

START_TEST(f14_each_byte_of_the_segments_header_flipped_is_found)
{
    struct log_file file;

    small_database(SMALL_COMMITS);
    log_file_read(&file, path);
    for (uint64_t at = 0; at < sizeof(struct wal_segment_header); at++)
        flip(&file, at, -1);
    log_file_free(&file);
}
END_TEST

/* What names the log: a wrong bit there may not lead to another state either. */
static void
flip_every_byte_of(const char *name)
{
    char file[SCRATCH_PATH], copy[SCRATCH_PATH];
    uint8_t bytes[8192];
    unsigned refused = 0, harmless = 0;

    scratch_join(file, path, name);
    int fd = open(file, O_RDONLY | O_CLOEXEC);
    ssize_t size = fd < 0 ? -1 : read(fd, bytes, sizeof bytes);
    ck_assert_msg(size > 0, "%s: %s", name, strerror(errno));
    close(fd);
    for (ssize_t at = 0; at < size; at++) {
        uint8_t byte = (uint8_t)(bytes[at] ^ 1u << at % 8);
        scratch_join(copy, scratch, "copy");
        scratch_copy(path, copy);
        scratch_join(file, copy, name);
        fd = open(file, O_WRONLY | O_CLOEXEC);
        ck_assert_int_eq(pwrite(fd, &byte, 1, at), 1);
        close(fd);
        int outcome = outcome_of(copy);
        ck_assert_msg(outcome == -1 || outcome == SMALL_COMMITS,
                      "byte %d of %s flipped: %d commits", (int)at, name, outcome);
        refused += outcome == -1;
        harmless += outcome != -1;
        scratch_remove(copy);
    }
    printf("%s: %u bytes matter, %u do not\n", name, refused, harmless);
    ck_assert_uint_gt(refused, 0);
}

static int
manifest_is(const struct dirent *entry)
{
    return strncmp(entry->d_name, "MANIFEST", 8) == 0;
}

START_TEST(f15_each_byte_of_the_manifest_flipped_leads_to_no_other_state)
{
    struct dirent **names;

    small_database(SMALL_COMMITS);
    flip_every_byte_of("CURRENT");
    int count = scandir(path, &names, manifest_is, alphasort);
    ck_assert_int_eq(count, 1);
    flip_every_byte_of(names[0]->d_name);
    free(names[0]);
    free(names);
}
END_TEST

START_TEST(f14_a_refused_database_is_left_as_it_was)
{
    struct log_file file, after;
    char copy[SCRATCH_PATH];

    small_database(SMALL_COMMITS);
    log_file_read(&file, path);
    unsigned damaged = 0;
    while (damaged < file.count && file.records[damaged].offset < file.cut)
        damaged++;
    ck_assert_uint_lt(damaged + 1, file.count);
    uint64_t at = file.records[damaged].offset + 60;
    uint8_t byte = (uint8_t)~file.bytes[at];
    scratch_join(copy, scratch, "copy");
    scratch_copy(path, copy);
    log_file_write(&file, copy, at, &byte, 1);
    ck_assert_int_eq(outcome_of(copy), -1);
    ck_assert_int_eq(outcome_of(copy), -1);
    byte = file.bytes[at];
    log_file_write(&file, copy, at, &byte, 1);
    log_file_read(&after, copy);
    ck_assert_uint_eq(after.size, file.size);
    ck_assert(memcmp(after.bytes, file.bytes, file.size) == 0);
    ck_assert_int_eq(outcome_of(copy), SMALL_COMMITS);
    log_file_free(&file);
    log_file_free(&after);
}
END_TEST

/* --- a full disk --- */

/* A file system of its own for the rest of this process. */
static int
mount_small(const char *directory, const char *size)
{
    char option[32];

    snprintf(option, sizeof option, "size=%s", size);
    return unshare(CLONE_NEWNS) == 0 && mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0 &&
           mount("mace-test", directory, "tmpfs", 0, option) == 0;
}

static void
filler_write(const char *file, size_t size)
{
    static const char zeros[65536];
    int fd = open(file, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);

    ck_assert_int_ge(fd, 0);
    for (size_t left = size; left > 0; left -= sizeof zeros)
        ck_assert_int_eq(write(fd, zeros, sizeof zeros), (ssize_t)sizeof zeros);
    close(fd);
}

START_TEST(f17_a_full_disk_refuses_commits_and_serves_again_when_there_is_room)
{
    struct broker_options options = {.arguments = {"--cache", "8M", "--segment-size", "256K"}};
    struct load_board *board = load_board_create();
    struct broker broker;
    char filler[SCRATCH_PATH];
    int status;

    if (!mount_small(scratch, "6M")) {
        printf("f17 skipped: no file system can be mounted here\n");
        return;
    }
    scratch_join(filler, scratch, "filler");
    filler_write(filler, 2 << 20);
    broker_start(&broker, path, &options);
    mace *db = client_open(path);
    mace_bucket *bucket = client_bucket(db, "default");
    uint64_t base = client_newest(db);
    for (int round = 0; round < 2; round++) {
        do
            status = load_commit(db, bucket, board, 1, MACE_OS);
        while (status == MACE_OK);
        ck_assert_int_eq(status, MACE_FULL);
        ck_assert_int_eq(load_commit(db, bucket, board, 1, MACE_SYNC), MACE_FULL);
        ck_assert_uint_eq(base + load_check_all(db, bucket, board), client_newest(db));
        if (round == 0) {
            unlink(filler);
            wait_for(load_commit(db, bucket, board, 1, MACE_OS) == MACE_OK);
        }
    }
    /* Nothing of what was refused comes back, and nothing that was acknowledged goes. */
    broker_kill(&broker);
    broker_launch(&broker, path, &options);
    status = broker_ready(&broker);
    if (status == 0) {
        load_check_all(db, bucket, board);
        broker_kill(&broker);
    } else {
        ck_assert_int_eq(status, MACE_FULL);
        broker_wait(&broker);
    }
    mace_close(db);
    load_board_destroy(board);
}
END_TEST

/* --- errors --- */

/* A commit and then one that meets the fault: it is not acknowledged, nor anything after it; the broker leaves with 70,
 * and the next one has every commit that was acknowledged. */
static void
poison(enum fault_kind kind, unsigned level, const char *argument)
{
    struct fault_control *control = fault_control_create(scratch);
    struct broker_options options;
    struct broker broker;
    mace_txn *old;
    mace_slice value;

    if (control == NULL) {
        printf("f20 skipped: nothing can be preloaded under a sanitizer\n");
        return;
    }
    fault_options(&options);
    options.arguments[3] = argument;
    broker_start(&broker, path, &options);
    mace *db = client_open(path);
    mace_bucket *bucket = client_bucket(db, "default");
    ck_assert_int_eq(small_commit(db, bucket, MACE_SYNC, 1), MACE_OK);
    ck_assert_int_eq(mace_begin(db, MACE_RDONLY, &old), MACE_OK);
    AO_store_full(&control->kinds, kind);
    int status = small_commit(db, bucket, level, 2);
    ck_assert_msg(status == MACE_UNKNOWN_OUTCOME || status == MACE_BROKER_LOST,
                  "the commit gave %d", status);
    ck_assert_uint_eq(AO_load(&control->hits), 1);
    ck_assert_int_eq(small_commit(db, bucket, MACE_OS, 3), MACE_BROKER_LOST);
    int end = broker_wait(&broker);
    ck_assert_msg(WIFEXITED(end) && WEXITSTATUS(end) == EXIT_POISONED, "it ended with %x",
                  (unsigned)end);
    /* An open transaction keeps its snapshot. */
    status = mace_get(old, bucket, "newest", 6, &value);
    ck_assert(status == MACE_BROKER_LOST ||
              (status == MACE_OK && value.size == 6 && memcmp(value.data, "value1", 6) == 0));
    mace_abort(old);
    mace_close(db);
    broker_start(&broker, path, &small);
    unsigned count = small_count(path);
    ck_assert(count == 1 || count == 2);
    broker_finish(&broker);
}

START_TEST(f20_a_failed_sync_poisons_the_broker)
{
    poison(FAULT_SYNC_EIO, MACE_SYNC, NULL);
}
END_TEST

START_TEST(f20_a_failed_write_poisons_the_broker)
{
    poison(FAULT_WRITE_EIO, MACE_SYNC, NULL);
}
END_TEST

START_TEST(f20_a_failed_write_of_a_commit_at_level_os_poisons_the_broker)
{
    poison(FAULT_WRITE_EIO, MACE_OS, "--no-log-mapping");
}
END_TEST

START_TEST(f21_short_and_interrupted_writes_change_nothing)
{
    struct fault_control *control = fault_control_create(scratch);
    struct load_board *board = load_board_create();
    struct broker_options options;
    struct broker broker;

    if (control == NULL) {
        printf("f21 skipped: nothing can be preloaded under a sanitizer\n");
        return;
    }
    fault_options(&options);
    AO_store_full(&control->kinds, FAULT_SHORT_WRITES);
    broker_start(&broker, path, &options);
    mace *db = client_open(path);
    mace_bucket *bucket = client_bucket(db, "default");
    for (unsigned i = 0; i < 200; i++)
        ck_assert_int_eq(load_commit(db, bucket, board, i % 3, i % 10 == 0 ? MACE_SYNC : MACE_OS),
                         MACE_OK);
    ck_assert_uint_gt(AO_load(&control->hits), 20);
    broker_kill(&broker);
    broker_start(&broker, path, NULL);
    ck_assert_uint_eq(load_check_all(db, bucket, board), 200);
    mace_close(db);
    broker_finish(&broker);
    load_board_destroy(board);
}
END_TEST

int
main(void)
{
    Suite *suite = suite_create("faults of files");
    TCase *cases = tcase_create("disk");
    SRunner *runner;

    tcase_set_timeout(cases, 0);
    tcase_add_checked_fixture(cases, setup, teardown);
    tcase_add_test(cases, f12_a_torn_record_at_the_tail_is_cut_and_the_rest_is_there);
    tcase_add_test(cases, f14_each_byte_of_a_log_flipped_cuts_it_where_nothing_was_durable);
    tcase_add_test(cases, f14_each_byte_of_a_synced_log_flipped_is_found);
    tcase_add_test(cases, f14_each_byte_of_the_segments_header_flipped_is_found);
    tcase_add_test(cases, f15_each_byte_of_the_manifest_flipped_leads_to_no_other_state);
    tcase_add_test(cases, f14_a_refused_database_is_left_as_it_was);
    tcase_add_test(cases, f17_a_full_disk_refuses_commits_and_serves_again_when_there_is_room);
    tcase_add_test(cases, f20_a_failed_sync_poisons_the_broker);
    tcase_add_test(cases, f20_a_failed_write_poisons_the_broker);
    tcase_add_test(cases, f20_a_failed_write_of_a_commit_at_level_os_poisons_the_broker);
    tcase_add_test(cases, f21_short_and_interrupted_writes_change_nothing);
    suite_add_tcase(suite, cases);
    runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
