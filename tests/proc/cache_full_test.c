/* A database much larger than its cache: it takes writes, reads and deletes, nothing is lost, and a broker that follows one
 * that was killed opens it again with the same cache. What needs more memory at once than there is gets an error that says
 * so. */
#include <check.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "support/client.h"
#include "support/scratch.h"

enum { VALUE = 2000, KEYS = 14000, CACHE = 8 << 20 };

static void
key_make(unsigned number, char key[24])
{
    snprintf(key, 24, "%08x%06u", number * 2654435761u, number);
}

static void
value_make(unsigned number, char value[VALUE])
{
    memset(value, 'a' + (int)(number % 26), VALUE);
    memcpy(value, &number, sizeof(number));
}

static mace *
database_open(const char *path, mace_bucket **bucket)
{
    mace *db;
    mace_options options;
    mace_options_init(&options);
    options.cache_size = CACHE;
    options.durability = MACE_OS;
    options.idle_exit_ms = 500;
    ck_assert_int_eq(mace_open(path, &options, &db), MACE_OK);
    ck_assert_int_eq(mace_bucket_open(db, "default", bucket), MACE_OK);
    return db;
}

static void
fill(mace *db, mace_bucket *bucket)
{
    char key[24], value[VALUE];
    mace_txn *txn;
    for (unsigned i = 0; i < KEYS;) {
        ck_assert_int_eq(mace_begin(db, MACE_OS, &txn), MACE_OK);
        for (unsigned end = i + 20; i < end; i++) {
            key_make(i, key);
            value_make(i, value);
            ck_assert_int_eq(mace_put(txn, bucket, key, 14, value, VALUE), MACE_OK);
        }
        ck_assert_int_eq(mace_commit(txn), MACE_OK);
    }
}

static void
key_there(mace *db, mace_bucket *bucket, unsigned number)
{
    char key[24], value[VALUE], found[VALUE];
    size_t size;
    key_make(number, key);
    value_make(number, value);
    ck_assert_int_eq(mace_get1(db, bucket, key, 14, found, VALUE, &size), MACE_OK);
    ck_assert(size == VALUE && memcmp(found, value, VALUE) == 0);
}

/* Every `step`-th key by gets, in an order that has nothing to do with the tree's. */
static void
keys_there(mace *db, mace_bucket *bucket, unsigned step)
{
    for (unsigned i = 1; i < KEYS; i += step)
        key_there(db, bucket, i);
}

static unsigned
keys_counted(mace *db, mace_bucket *bucket)
{
    mace_txn *txn;
    mace_cursor *cursor;
    mace_slice key, value;
    unsigned count = 0;
    int status;
    ck_assert_int_eq(mace_begin(db, MACE_RDONLY, &txn), MACE_OK);
    ck_assert_int_eq(mace_cursor_open(txn, bucket, NULL, &cursor), MACE_OK);
    while ((status = mace_cursor_next(cursor, &key, &value)) == MACE_OK) {
        unsigned number = 0;
        char wanted[24], expected[VALUE];
        ck_assert_uint_eq(key.size, 14);
        ck_assert_uint_eq(value.size, VALUE);
        memcpy(&number, value.data, sizeof number);
        key_make(number, wanted);
        value_make(number, expected);
        ck_assert_mem_eq(key.data, wanted, 14);
        ck_assert_mem_eq(value.data, expected, VALUE);
        count++;
    }
    ck_assert_int_eq(status, MACE_NOT_FOUND);
    mace_abort(txn);
    return count;
}

START_TEST(database_of_three_caches_takes_writes_and_reads_and_opens_again)
{
    mace_bucket *bucket;
    char key[24], path[SCRATCH_PATH];
    size_t size;
    scratch_create(path);
    mace *db = database_open(path, &bucket);
    fill(db, bucket);
    keys_there(db, bucket, 17);
    ck_assert_uint_eq(keys_counted(db, bucket), KEYS);
    mace_stat stat = client_stat(db);
    ck_assert_uint_gt(stat.data_live, (uint64_t)3 * CACHE);
    ck_assert_uint_le(stat.cache_used, CACHE);
    ck_assert_uint_gt(stat.evictions, 0);
    ck_assert_uint_gt(stat.page_reads, 0);

    ck_assert_int_eq(kill((pid_t)stat.broker_pid, SIGKILL), 0);
    mace_close(db);
    db = database_open(path, &bucket);
    ck_assert_uint_eq(keys_counted(db, bucket), KEYS);
    keys_there(db, bucket, 11);

    for (unsigned i = 0; i < KEYS; i += 2) {
        key_make(i, key);
        ck_assert_int_eq(mace_delete1(db, bucket, key, 14), MACE_OK);
    }
    ck_assert_uint_eq(keys_counted(db, bucket), KEYS / 2);
    for (unsigned i = 0; i < KEYS; i += 31) {
        key_make(i, key);
        ck_assert_int_eq(mace_get1(db, bucket, key, 14, NULL, 0, &size),
                         i % 2 == 0 ? MACE_NOT_FOUND : MACE_BUFFER_TOO_SMALL);
    }
    mace_close(db);
    scratch_remove(path);
}
END_TEST

/* Writes to leaves that are not in memory do not read them; of those in memory a transaction may touch a quarter of the
 * cache. So this one may be refused, and is done as a whole or not at all. */
START_TEST(transaction_that_needs_too_much_memory_is_refused_by_name_and_leaves_nothing)
{
    mace_bucket *bucket;
    mace_txn *txn;
    char key[24], path[SCRATCH_PATH], value[VALUE];
    unsigned deleted = 0;
    size_t size;
    scratch_create(path);
    mace *db = database_open(path, &bucket);
    fill(db, bucket);
    ck_assert_int_eq(mace_begin(db, MACE_OS, &txn), MACE_OK);
    for (unsigned i = 0; i < KEYS; i += 10, deleted++) {
        key_make(i, key);
        ck_assert_int_eq(mace_delete(txn, bucket, key, 14), MACE_OK);
    }
    int status = mace_commit(txn);
    ck_assert(status == MACE_OK || status == MACE_TOO_BIG);
    ck_assert_uint_eq(keys_counted(db, bucket), status == MACE_OK ? KEYS - deleted : KEYS);

    /* More bytes than an eighth of the cache. */
    uint64_t newest = client_newest(db);
    ck_assert_int_eq(mace_begin(db, MACE_OS, &txn), MACE_OK);
    for (unsigned i = 0; i < CACHE / 4 / VALUE; i++) {
        key_make(i, key);
        value_make(i + 1, value);
        ck_assert_int_eq(mace_put(txn, bucket, key, 14, value, VALUE), MACE_OK);
    }
    ck_assert_int_eq(mace_commit(txn), MACE_TOO_BIG);
    ck_assert_uint_eq(client_newest(db), newest);
    keys_there(db, bucket, 20); /* odd ones only */
    key_make(1, key);
    ck_assert_int_eq(mace_delete1(db, bucket, key, 14), MACE_OK);
    ck_assert_int_eq(mace_get1(db, bucket, key, 14, NULL, 0, &size), MACE_NOT_FOUND);
    mace_close(db);
    scratch_remove(path);
}
END_TEST

int
main(void)
{
    Suite *suite = suite_create("full cache");
    TCase *tcase = tcase_create("full cache");
    tcase_set_timeout(tcase, 120);
    tcase_add_test(tcase, database_of_three_caches_takes_writes_and_reads_and_opens_again);
    tcase_add_test(tcase,
                   transaction_that_needs_too_much_memory_is_refused_by_name_and_leaves_nothing);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
