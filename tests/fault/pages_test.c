/* pages_test.c - damaged records of pages under the real broker: who reads their keys is told, with gets and cursors, and
 * everybody else is served. What is sampled here, rot_test.c does to every bit. */
#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "page_format.h"
#include "support/broker.h"
#include "support/client.h"

static char scratch[SCRATCH_PATH], path[SCRATCH_PATH];
static const struct broker_options small = {
    .arguments = {"--cache", "2M", "--segment-size", "64K", "--huge-pages", "off"}};

static void
setup(void)
{
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

enum { DATA_KEYS = 120 };

/* A database of some leaves whose broker was killed behind a checkpoint. */
static void
data_database(void)
{
    struct broker broker;
    char key[16], value[128];

    broker_start(&broker, path, &small);
    mace *db = client_open(path);
    mace_bucket *bucket = client_bucket(db, "default");
    for (unsigned i = 0; i < DATA_KEYS; i++) {
        snprintf(key, sizeof key, "key%04u", i);
        snprintf(value, sizeof value, "%0100u", i);
        require_ok(client_put(db, bucket, key, value));
    }
    require_ok(mace_checkpoint(db));
    broker_kill(&broker);
    mace_close(db);
}

/* Keys that cannot be read one by one; those that a cursor does not reach are at least as many. */
static unsigned
data_corrupt(mace *db, mace_bucket *bucket)
{
    unsigned corrupt = 0, met = 0;
    mace_cursor *cursor;
    mace_slice key_met, value;
    mace_txn *txn;
    char key[16], wanted[128];
    int status;

    require_ok(mace_begin(db, MACE_RDONLY, &txn));
    for (unsigned i = 0; i < DATA_KEYS; i++) {
        snprintf(key, sizeof key, "key%04u", i);
        snprintf(wanted, sizeof wanted, "%0100u", i);
        status = mace_get(txn, bucket, key, strlen(key), &value);
        ck_assert_msg(status == MACE_OK || status == MACE_CORRUPT, "%s: %s", key,
                      mace_strerror(status));
        if (status == MACE_OK)
            ck_assert(value.size == strlen(wanted) && memcmp(value.data, wanted, value.size) == 0);
        corrupt += status == MACE_CORRUPT;
    }
    require_ok(mace_cursor_open(txn, bucket, NULL, &cursor));
    for (status = mace_cursor_first(cursor, &key_met, &value); status == MACE_OK;
         status = mace_cursor_next(cursor, &key_met, &value))
        met++;
    ck_assert_int_eq(status, corrupt > 0 ? MACE_CORRUPT : MACE_NOT_FOUND);
    ck_assert(corrupt > 0 ? met + corrupt <= DATA_KEYS : met == DATA_KEYS);
    mace_cursor_close(cursor);
    mace_abort(txn);
    return corrupt;
}

/* One byte of a record that counts: only its keys are told to be damaged, and the broker serves on. */
static unsigned
data_flip(const char *copy, uint64_t offset, const struct broker_options *options)
{
    char file[SCRATCH_PATH];
    struct broker broker;
    uint8_t byte;

    scratch_copy(path, copy);
    scratch_join(file, copy, "data/0000000000000001.dat");
    int fd = open(file, O_RDWR | O_CLOEXEC);
    ck_assert(fd >= 0 && pread(fd, &byte, 1, (off_t)offset) == 1);
    byte ^= 4;
    ck_assert_int_eq(pwrite(fd, &byte, 1, (off_t)offset), 1);
    close(fd);
    broker_start(&broker, copy, options);
    mace *db = client_open(copy);
    mace_bucket *bucket = client_bucket(db, "default");
    unsigned corrupt = data_corrupt(db, bucket);
    if (corrupt > 0)
        ck_assert(broker_log_has(&broker, "data/0000000000000001.dat, offset "));
    mace_bucket *fresh;
    require_ok(mace_bucket_create(db, "fresh", NULL, &fresh));
    require_ok(client_put(db, fresh, "key", "still served"));
    ck_assert_uint_eq(data_corrupt(db, bucket), corrupt);
    mace_close(db);
    broker_kill(&broker);
    scratch_remove(copy);
    return corrupt;
}

START_TEST(f13_a_damaged_record_of_a_page_costs_that_pages_keys)
{
    static const struct broker_options posix = {.arguments = {"--cache", "2M", "--segment-size",
                                                              "64K", "--huge-pages", "off",
                                                              "--no-uring"}};
    char file[SCRATCH_PATH], copy[SCRATCH_PATH];
    static uint8_t bytes[1 << 20];
    unsigned damaged = 0, flips = 0;

    data_database();
    scratch_join(file, path, "data/0000000000000001.dat");
    int fd = open(file, O_RDONLY | O_CLOEXEC);
    ssize_t size = fd < 0 ? -1 : read(fd, bytes, sizeof bytes);
    ck_assert_msg(size > 0, "%s: %s", file, strerror(errno));
    close(fd);
    scratch_join(copy, scratch, "copy");
    for (ssize_t at = 4096; at + 72 < size; at += 64) {
        uint32_t magic;
        memcpy(&magic, bytes + at, sizeof magic);
        if (magic != PAGE_RECORD_MAGIC)
            continue;
        /* The record's head, its checksum, its payload. */
        static const unsigned places[] = {0, 4, 100};
        for (unsigned i = 0; i < 3; i++, flips++) {
            unsigned corrupt =
                data_flip(copy, (uint64_t)at + places[i], flips % 2 == 0 ? &small : &posix);
            damaged += corrupt > 0;
        }
    }
    printf("%u of %u damaged places were in records that count\n", damaged, flips);
    ck_assert_uint_gt(damaged, 9);
}
END_TEST

int
main(void)
{
    Suite *suite = suite_create("damaged pages");
    TCase *cases = tcase_create("pages");
    SRunner *runner;

    tcase_set_timeout(cases, 0);
    tcase_add_checked_fixture(cases, setup, teardown);
    tcase_add_test(cases, f13_a_damaged_record_of_a_page_costs_that_pages_keys);
    suite_add_tcase(suite, cases);
    runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
