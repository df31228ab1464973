/* A database that fills its cache: writes are refused, reads and deletes go on, nothing is lost, and a broker that was
 * killed then opens it again with the same cache. */
#include <check.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "mace/mace.h"
#include "support/scratch.h"

enum { VALUE = 700, KEYS_MAX = 200000 };

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
    options.cache_size = UINT64_C(8) << 20;
    options.durability = MACE_OS;
    options.idle_exit_ms = 500;
    ck_assert_int_eq(mace_open(path, &options, &db), MACE_OK);
    ck_assert_int_eq(mace_bucket_open(db, "default", bucket), MACE_OK);
    return db;
}

/* Puts until the cache is full; returns how many keys were acknowledged. */
static unsigned
fill(mace *db, mace_bucket *bucket)
{
    char key[24], value[VALUE];
    for (unsigned i = 0; i < KEYS_MAX; i++) {
        key_make(i, key);
        value_make(i, value);
        int status = mace_put1(db, bucket, key, 14, value, VALUE);
        if (status == MACE_FULL)
            return i;
        ck_assert_int_eq(status, MACE_OK);
    }
    ck_abort_msg("the cache never got full");
    return 0;
}

static void
all_there(mace *db, mace_bucket *bucket, unsigned from, unsigned to)
{
    char key[24], value[VALUE], found[VALUE];
    size_t size;
    for (unsigned i = from; i < to; i++) {
        key_make(i, key);
        value_make(i, value);
        ck_assert_int_eq(mace_get1(db, bucket, key, 14, found, VALUE, &size), MACE_OK);
        ck_assert(size == VALUE && memcmp(found, value, VALUE) == 0);
    }
}

START_TEST(full_cache_refuses_writes_keeps_everything_and_opens_again)
{
    mace_bucket *bucket;
    mace_stat stat;
    size_t size;
    char key[24], path[SCRATCH_PATH];
    scratch_create(path);
    mace *db = database_open(path, &bucket);
    unsigned keys = fill(db, bucket);
    ck_assert_uint_gt(keys, 1000);
    all_there(db, bucket, 0, keys);

    mace_stat_init(&stat);
    ck_assert_int_eq(mace_stat_read(db, &stat), MACE_OK);
    ck_assert_int_eq(kill((pid_t)stat.broker_pid, SIGKILL), 0);
    mace_close(db);
    db = database_open(path, &bucket);
    all_there(db, bucket, 0, keys);

    /* A full database can be emptied. */
    for (unsigned i = 0; i < keys; i += 2) {
        key_make(i, key);
        ck_assert_int_eq(mace_delete1(db, bucket, key, 14), MACE_OK);
    }
    for (unsigned i = 0; i < keys; i++) {
        key_make(i, key);
        ck_assert_int_eq(mace_get1(db, bucket, key, 14, NULL, 0, &size),
                         i % 2 == 0 ? MACE_NOT_FOUND : MACE_BUFFER_TOO_SMALL);
    }
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
    tcase_add_test(tcase, full_cache_refuses_writes_keeps_everything_and_opens_again);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
