/* interface_txn_test.c - transactions, one-call forms and cursors, name by name: what each function takes, refuses and leaves
 * alone. */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "support/broker.h"
#include "support/client.h"

static struct broker broker;
static char scratch[SCRATCH_PATH], path[SCRATCH_PATH];
static mace *db;
static mace_bucket *bucket;
static const char bytes[MACE_MAX_KEY_SIZE + 8192 + 1]; /* long keys, large values */

static void
setup(void)
{
    static const struct broker_options small = {
        .arguments = {"--cache", "16M", "--segment-size", "4M"}};

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

static int
is(mace_slice slice, const char *text)
{
    return slice.size == strlen(text) && memcmp(slice.data, text, slice.size) == 0;
}

/* --- transactions --- */

START_TEST(sizes_and_flags_beyond_the_limits_are_refused_by_every_call)
{
    enum { LONG = MACE_MAX_KEY_SIZE + 1 };
    const size_t huge = (size_t)MACE_MAX_VALUE_SIZE + 1;
    size_t size;
    mace_txn *refused;
    mace_slice keys[2] = {{"", 0}, {bytes, LONG}}, values[2];
    int statuses[2];

    ck_assert_int_eq(mace_begin(db, MACE_SYNC | MACE_OS, &refused), MACE_INVALID);
    ck_assert_int_eq(mace_begin(db, MACE_SERIALIZABLE, &refused), MACE_INVALID);
    ck_assert_int_eq(mace_begin(db, 1024, &refused), MACE_INVALID);
    mace_txn *txn = begin(0);
    for (int i = 0; i < 2; i++) {
        const void *key = keys[i].data;
        int wanted = i == 0 ? MACE_INVALID : MACE_TOO_BIG;
        ck_assert_int_eq(mace_put(txn, bucket, key, keys[i].size, "v", 1), wanted);
        ck_assert_int_eq(mace_insert(txn, bucket, key, keys[i].size, "v", 1), wanted);
        ck_assert_int_eq(mace_update(txn, bucket, key, keys[i].size, "v", 1), wanted);
        ck_assert_int_eq(mace_delete(txn, bucket, key, keys[i].size), wanted);
        ck_assert_int_eq(mace_get(txn, bucket, key, keys[i].size, &values[0]), wanted);
        ck_assert_int_eq(mace_get_into(txn, bucket, key, keys[i].size, NULL, 0, &size), wanted);
        ck_assert_int_eq(mace_put1(db, bucket, key, keys[i].size, "v", 1), wanted);
        ck_assert_int_eq(mace_insert1(db, bucket, key, keys[i].size, "v", 1), wanted);
        ck_assert_int_eq(mace_update1(db, bucket, key, keys[i].size, "v", 1), wanted);
        ck_assert_int_eq(mace_delete1(db, bucket, key, keys[i].size), wanted);
        ck_assert_int_eq(mace_get1(db, bucket, key, keys[i].size, NULL, 0, &size), wanted);
    }
    ck_assert_int_eq(mace_get_many(txn, bucket, 2, keys, values, statuses), MACE_OK);
    ck_assert(statuses[0] == MACE_INVALID && statuses[1] == MACE_TOO_BIG);
    ck_assert_int_eq(mace_put(txn, bucket, "k", 1, bytes, huge), MACE_TOO_BIG);
    ck_assert_int_eq(mace_put1(db, bucket, "k", 1, bytes, huge), MACE_TOO_BIG);
    ck_assert_int_eq(mace_merge(txn, bucket, "k", 1, "v", 1), MACE_INVALID);
    ck_assert_int_eq(mace_merge1(db, bucket, "k", 1, "v", 1), MACE_INVALID);
    /* None of them has changed anything, and the transaction is as it was. */
    ck_assert_int_eq(mace_put(txn, bucket, "k", 1, bytes, 8192), MACE_OK);
    ck_assert_int_eq(mace_put(txn, bucket, bytes, MACE_MAX_KEY_SIZE, NULL, 0), MACE_OK);
    ck_assert_int_eq(mace_commit(txn), MACE_OK);
    ck_assert_int_eq(mace_get1(db, bucket, bytes, MACE_MAX_KEY_SIZE, NULL, 0, &size), MACE_OK);
    ck_assert_uint_eq(size, 0);
}
END_TEST

START_TEST(values_come_back_as_slices_that_live_until_the_next_get)
{
    char buffer[4] = "old";
    size_t size = 99;
    uint64_t timestamp = 99;
    mace_slice value = {buffer, 3}, keys[3] = {{"a", 1}, {"none", 4}, {"b", 1}}, values[3];
    int statuses[3];

    mace_txn *txn = begin(0);
    ck_assert_int_eq(mace_insert(txn, bucket, "a", 1, "1", 1), MACE_OK);
    ck_assert_int_eq(mace_insert(txn, bucket, "a", 1, "2", 1), MACE_EXISTS);
    ck_assert_int_eq(mace_update(txn, bucket, "none", 4, "2", 1), MACE_NOT_FOUND);
    ck_assert_int_eq(mace_delete(txn, bucket, "none", 4), MACE_NOT_FOUND);
    ck_assert_int_eq(mace_get(txn, bucket, "none", 4, &value), MACE_NOT_FOUND);
    ck_assert_ptr_eq(value.data, buffer);
    ck_assert_int_eq(mace_get(txn, bucket, "a", 1, &value), MACE_OK);
    ck_assert_int_eq(mace_put(txn, bucket, "b", 1, value.data, value.size), MACE_OK);
    ck_assert_int_eq(mace_put(txn, bucket, "a", 1, "changed", 7), MACE_OK);
    ck_assert(is(value, "1")); /* writes do not end it */
    ck_assert_int_eq(mace_get_into(txn, bucket, "a", 1, buffer, 3, &size), MACE_BUFFER_TOO_SMALL);
    ck_assert(size == 7 && strcmp(buffer, "old") == 0);
    ck_assert_int_eq(mace_get_many(txn, bucket, 3, keys, values, statuses), MACE_OK);
    ck_assert(statuses[0] == MACE_OK && statuses[1] == MACE_NOT_FOUND && statuses[2] == MACE_OK);
    ck_assert(is(values[0], "changed") && is(values[2], "1"));
    uint64_t snapshot = mace_txn_snapshot(txn);
    ck_assert_int_eq(mace_commit_ts(txn, &timestamp), MACE_OK);
    ck_assert_uint_gt(timestamp, snapshot);
    ck_assert_int_eq(mace_commit_ts(begin(0), &timestamp), MACE_OK);
    ck_assert_uint_eq(timestamp, 0); /* it wrote nothing */
    ck_assert_uint_gt(mace_txn_snapshot(txn = begin(0)), snapshot);
    mace_abort(txn);
}
END_TEST

START_TEST(a_read_only_transaction_moves_to_the_newest_snapshot_and_its_cursors_begin_anew)
{
    mace_cursor *cursor;
    mace_slice key, value;

    ck_assert_int_eq(client_put(db, bucket, "b", "1"), MACE_OK);
    mace_txn *txn = begin(MACE_RDONLY);
    ck_assert_int_eq(mace_put(txn, bucket, "k", 1, "v", 1), MACE_READ_ONLY);
    ck_assert_int_eq(mace_cursor_open(txn, bucket, NULL, &cursor), MACE_OK);
    ck_assert_int_eq(mace_cursor_next(cursor, &key, &value), MACE_OK);
    ck_assert_int_eq(client_put(db, bucket, "a", "2"), MACE_OK);
    ck_assert_int_eq(mace_get(txn, bucket, "a", 1, &value), MACE_NOT_FOUND);
    ck_assert_int_eq(mace_renew(txn), MACE_OK);
    ck_assert_int_eq(mace_get(txn, bucket, "a", 1, &value), MACE_OK);
    ck_assert_int_eq(mace_cursor_next(cursor, &key, &value), MACE_OK);
    ck_assert(is(key, "a") && is(value, "2"));
    mace_abort(txn);
    txn = begin(0);
    ck_assert_int_eq(mace_renew(txn), MACE_INVALID);
    mace_abort(txn);
}
END_TEST

/* --- cursors --- */

static void
keys_put(void)
{
    static const char *const keys[] = {"a", "b", "c", "d", "e", "\xff\xff", "\xff\xff\x01"};

    for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++)
        ck_assert_int_eq(client_put(db, bucket, keys[i], keys[i]), MACE_OK);
}

START_TEST(a_cursor_stays_in_its_range_and_comes_back_from_either_end)
{
    mace_range range = {{"b", 1}, {"d", 1}, 0};
    mace_cursor *cursor;
    mace_slice key, value;

    keys_put();
    mace_txn *txn = begin(0);
    ck_assert_int_eq(mace_cursor_open(txn, bucket, &range, &cursor), MACE_OK);
    range.lower.data = "z"; /* bounds are copied */
    ck_assert(mace_cursor_prev(cursor, &key, &value) == MACE_OK && is(key, "c"));
    ck_assert(mace_cursor_prev(cursor, &key, NULL) == MACE_OK && is(key, "b"));
    ck_assert_int_eq(mace_cursor_prev(cursor, &key, &value), MACE_NOT_FOUND);
    ck_assert(mace_cursor_next(cursor, &key, &value) == MACE_OK && is(key, "b"));
    ck_assert(mace_cursor_seek(cursor, "", 0, &key, &value) == MACE_OK && is(key, "b"));
    ck_assert_int_eq(mace_cursor_seek(cursor, "d", 1, &key, &value), MACE_NOT_FOUND);
    ck_assert(mace_cursor_prev(cursor, &key, &value) == MACE_OK && is(key, "c"));
    ck_assert(mace_cursor_seek(cursor, bytes, sizeof bytes, &key, &value) == MACE_OK);
    ck_assert(is(key, "b"));
    mace_cursor_close(cursor);
    range = (mace_range){{"b", 1}, {"d", 1}, MACE_LOWER_OPEN | MACE_UPPER_CLOSED};
    ck_assert_int_eq(mace_cursor_open(txn, bucket, &range, &cursor), MACE_OK);
    ck_assert(mace_cursor_last(cursor, &key, NULL) == MACE_OK && is(key, "d"));
    ck_assert(mace_cursor_first(cursor, NULL, &value) == MACE_OK && is(value, "c"));
    /* Its own transaction's writes count as they are at each move. */
    ck_assert_int_eq(mace_delete(txn, bucket, "c", 1), MACE_OK);
    ck_assert_int_eq(mace_put(txn, bucket, "cc", 2, "", 0), MACE_OK);
    ck_assert(mace_cursor_next(cursor, &key, &value) == MACE_OK && is(key, "cc"));
    ck_assert_uint_eq(value.size, 0);
    mace_abort(txn);
}
END_TEST

START_TEST(prefixes_carry_over_0xff_and_wrong_ranges_are_empty_or_refused)
{
    mace_range range;
    mace_cursor *cursor;
    mace_slice key;
    unsigned count = 0;

    keys_put();
    mace_txn *txn = begin(MACE_RDONLY);
    mace_range_prefix(&range, "\xff\xff", 2);
    ck_assert_int_eq(mace_cursor_open(txn, bucket, &range, &cursor), MACE_OK);
    while (mace_cursor_next(cursor, &key, NULL) == MACE_OK)
        count++;
    ck_assert_uint_eq(count, 2);
    mace_range_prefix(&range, "", 0);
    ck_assert_int_eq(mace_cursor_open(txn, bucket, &range, &cursor), MACE_OK);
    while (mace_cursor_prev(cursor, &key, NULL) == MACE_OK)
        count++;
    ck_assert_uint_eq(count, 2 + 7);
    range = (mace_range){{"z", 1}, {"b", 1}, 0};
    ck_assert_int_eq(mace_cursor_open(txn, bucket, &range, &cursor), MACE_OK);
    ck_assert_int_eq(mace_cursor_first(cursor, &key, NULL), MACE_NOT_FOUND);
    range.flags = 8;
    ck_assert_int_eq(mace_cursor_open(txn, bucket, &range, &cursor), MACE_INVALID);
    range.flags = MACE_RANGE_PREFIX; /* with an upper bound */
    ck_assert_int_eq(mace_cursor_open(txn, bucket, &range, &cursor), MACE_INVALID);
    mace_abort(txn);
}
END_TEST

int
main(void)
{
    Suite *suite = suite_create("the interface of transactions");
    TCase *cases = tcase_create("interface");
    SRunner *runner;

    tcase_set_timeout(cases, 0);
    tcase_add_checked_fixture(cases, setup, teardown);
    tcase_add_test(cases, sizes_and_flags_beyond_the_limits_are_refused_by_every_call);
    tcase_add_test(cases, values_come_back_as_slices_that_live_until_the_next_get);
    tcase_add_test(cases,
                   a_read_only_transaction_moves_to_the_newest_snapshot_and_its_cursors_begin_anew);
    tcase_add_test(cases, a_cursor_stays_in_its_range_and_comes_back_from_either_end);
    tcase_add_test(cases, prefixes_carry_over_0xff_and_wrong_ranges_are_empty_or_refused);
    suite_add_tcase(suite, cases);
    runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
