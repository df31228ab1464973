/* direct_test.c - data files past the page cache: where the file system can, where it cannot, and with files that were written the
 * other way. */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "fault/fault.h"
#include "support/client.h"
#include "support/process.h"
#include "support/tool.h"

enum { KEYS = 2400, VALUE = 3000 };

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

static void
value_make(char value[VALUE], unsigned number, unsigned round)
{
    memset(value, (int)('a' + (number + round) % 26), VALUE);
    snprintf(value, 32, "%u in round %u", number, round);
}

/* Every third key from `first` on; several checkpoints on the way. */
static void
round_write(mace *db, mace_bucket *bucket, unsigned round)
{
    char key[16], value[VALUE];

    for (unsigned i = round % 3; i < KEYS; i += 3) {
        snprintf(key, sizeof key, "key%06u", i * 7919 % KEYS);
        value_make(value, i * 7919 % KEYS, round);
        ck_assert_int_eq(mace_put1(db, bucket, key, strlen(key), value, 1000 + i % 2000), MACE_OK);
        if (i % 600 == round)
            ck_assert_int_eq(mace_checkpoint(db), MACE_OK);
    }
    ck_assert_int_eq(mace_checkpoint(db), MACE_OK);
}

/* Everything up to this round, in this order: the newest write of each key. */
static void
rounds_check(mace *db, mace_bucket *bucket, unsigned round)
{
    char value[VALUE], key[16];
    mace_txn *txn;
    mace_slice found;

    ck_assert_int_eq(mace_begin(db, MACE_RDONLY, &txn), MACE_OK);
    for (unsigned i = 0; i < KEYS; i++) {
        unsigned newest = round;
        while (newest > 0 && newest % 3 != i % 3)
            newest--;
        if (newest % 3 != i % 3)
            continue;
        snprintf(key, sizeof key, "key%06u", i * 7919 % KEYS);
        value_make(value, i * 7919 % KEYS, newest);
        ck_assert_int_eq(mace_get(txn, bucket, key, strlen(key), &found), MACE_OK);
        ck_assert_uint_eq(found.size, 1000 + i % 2000);
        ck_assert(memcmp(found.data, value, found.size) == 0);
    }
    mace_abort(txn);
}

/* One life on the same database, with a cache that holds a fraction of it; it ends with a kill. */
static void
life(const struct broker_options *options, unsigned round, uint64_t direct)
{
    struct broker broker;

    broker_start(&broker, path, options);
    mace *db = client_open(path);
    mace_bucket *bucket = client_bucket(db, "default");
    ck_assert_uint_eq(client_stat(db).direct_io, direct);
    if (round > 0)
        rounds_check(db, bucket, round - 1);
    round_write(db, bucket, round);
    rounds_check(db, bucket, round);
    ck_assert(round == 0 || client_stat(db).page_reads > 0);
    ck_assert_uint_eq(client_stat(db).pages_corrupt, 0);
    mace_close(db);
    broker_kill(&broker);
    tool_check_sound(path);
}

START_TEST(f26_data_files_are_written_and_read_past_the_page_cache_and_through_it_by_turns)
{
    static const struct broker_options ring = {.arguments = {"--cache", "2M", "--direct-io=on"}};
    static const struct broker_options calls = {
        .arguments = {"--cache", "2M", "--direct-io=on", "--no-uring"}};
    static const struct broker_options through = {.arguments = {"--cache", "2M"}};
    struct broker broker;

    broker_launch(&broker, path, &ring);
    int status = broker_ready(&broker);
    if (status != 0) {
        ck_assert_int_eq(status, MACE_INVALID);
        broker_wait(&broker);
        printf("f26 skipped: the file system of %s refuses direct I/O\n", scratch);
        return;
    }
    broker_kill(&broker);
    life(&through, 0, 0);
    life(&ring, 1, 1);
    life(&calls, 2, 1);
    life(&through, 3, 0);
}
END_TEST

START_TEST(f26_where_direct_io_is_refused_the_page_cache_serves_or_the_start_fails_as_told)
{
    struct fault_control *control = fault_control_create(scratch);
    struct broker_options options;
    struct broker broker;

    if (control == NULL) {
        printf("f26 skipped: nothing can be preloaded under a sanitizer\n");
        return;
    }
    fault_options(&options);
    options.arguments[2] = "2M";
    AO_store_full(&control->kinds, FAULT_NO_DIRECT);
    options.arguments[3] = "--direct-io=on";
    broker_launch(&broker, path, &options);
    ck_assert_int_eq(broker_ready(&broker), MACE_INVALID);
    int end = broker_wait(&broker);
    ck_assert(WIFEXITED(end) && WEXITSTATUS(end) == 1);
    ck_assert(broker_log_has(&broker, "refuses direct I/O"));
    options.arguments[3] = "--direct-io=try";
    life(&options, 0, 0);
    ck_assert_uint_gt(AO_load(&control->hits), 0);
    ck_assert_uint_eq(AO_load(&control->direct_reads) + AO_load(&control->direct_writes), 0);
    /* The same disk after a change of file system, so to speak. */
    AO_store_full(&control->kinds, 0);
    broker_start(&broker, path, &options);
    mace *db = client_open(path);
    uint64_t takes = client_stat(db).direct_io;
    mace_close(db);
    broker_kill(&broker);
    life(&options, 1, takes);
    ck_assert(takes == 0 || AO_load(&control->direct_reads) > 100);
    ck_assert(takes == 0 || AO_load(&control->direct_writes) > 2);
}
END_TEST

int
main(void)
{
    Suite *suite = suite_create("direct I/O");
    TCase *cases = tcase_create("direct");
    SRunner *runner;

    tcase_set_timeout(cases, 0);
    tcase_add_checked_fixture(cases, setup, teardown);
    tcase_add_test(cases,
                   f26_data_files_are_written_and_read_past_the_page_cache_and_through_it_by_turns);
    tcase_add_test(cases,
                   f26_where_direct_io_is_refused_the_page_cache_serves_or_the_start_fails_as_told);
    suite_add_tcase(suite, cases);
    runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
