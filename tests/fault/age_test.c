/* age_test.c - the greatest age of a snapshot is counted by the monotonic clock, and by no other. */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fault/fault.h"
#include "support/client.h"
#include "support/process.h"

static char scratch[SCRATCH_PATH], path[SCRATCH_PATH];

static int
old_value(mace_txn *txn, mace_bucket *bucket)
{
    mace_slice value;
    int status = mace_get(txn, bucket, "key", 3, &value);

    ck_assert(status != MACE_OK || (value.size == 3 && memcmp(value.data, "old", 3) == 0));
    return status;
}

START_TEST(f37_a_snapshot_expires_when_the_monotonic_clock_says_so)
{
    struct fault_control *control;
    struct broker_options options;
    struct broker broker;
    mace_txn *old;

    scratch_create(scratch);
    scratch_join(path, scratch, "db");
    control = fault_control_create(scratch);
    if (control == NULL) {
        printf("f37 skipped: nothing can be preloaded under a sanitizer\n");
        scratch_remove(scratch);
        return;
    }
    fault_options(&options);
    options.arguments[3] = "--snapshot-max-age";
    options.arguments[4] = "3600000";
    broker_start(&broker, path, &options);
    mace *db = client_open(path);
    mace_bucket *bucket = client_bucket(db, "default");
    ck_assert_int_eq(client_put(db, bucket, "key", "old"), MACE_OK);
    ck_assert_int_eq(mace_begin(db, 0, &old), MACE_OK);
    ck_assert_int_eq(mace_put(old, bucket, "mine", 4, "x", 1), MACE_OK);
    ck_assert_int_eq(client_put(db, bucket, "key", "new"), MACE_OK);
    /* The wall clock jumps by years: a snapshot is as old as it was. */
    AO_store_full(&control->kinds, FAULT_REALTIME_JUMPS);
    uint64_t loops = client_stat(db).loops;
    wait_for(client_put(db, bucket, "key", "new") == MACE_OK && client_stat(db).loops > loops + 50);
    ck_assert_int_eq(old_value(old, bucket), MACE_OK);
    ck_assert_uint_eq(client_stat(db).snapshots_expired, 0);
    /* Ten hours pass. */
    AO_store_full(&control->kinds, FAULT_MONOTONIC_GAP);
    wait_for(client_put(db, bucket, "key", "new") == MACE_OK &&
             old_value(old, bucket) == MACE_SNAPSHOT_EXPIRED);
    ck_assert_int_eq(mace_commit(old), MACE_SNAPSHOT_EXPIRED);
    ck_assert(client_absent(db, bucket, "mine"));
    ck_assert_uint_gt(client_stat(db).snapshots_expired, 0);
    mace_close(db);
    broker_finish(&broker);
    scratch_remove(scratch);
}
END_TEST

int
main(void)
{
    Suite *suite = suite_create("the age of snapshots");
    TCase *cases = tcase_create("age");
    SRunner *runner;

    tcase_set_timeout(cases, 0);
    tcase_add_test(cases, f37_a_snapshot_expires_when_the_monotonic_clock_says_so);
    suite_add_tcase(suite, cases);
    runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
