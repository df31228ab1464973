/* Reads and writes of a transaction, without a broker: own writes, preconditions, arguments, slices. */
#include "client_fixture.h"

static mace_txn *txn;
static struct oracle *oracle;

static void
set_up(void)
{
    client_set_up();
    oracle = malloc(sizeof *oracle);
    oracle_init(oracle, 4 << 20);
}

static void
tear_down(void)
{
    oracle_fini(oracle);
    free(oracle);
    client_tear_down();
}

static void
begin(unsigned flags)
{
    ck_assert_int_eq(mace_begin(&client_mace, flags, &txn), MACE_OK);
}

static int
put(const char *key, const char *value)
{
    return mace_put(txn, &client_bucket, key, strlen(key), value, strlen(value));
}

static int
insert(const char *key, const char *value)
{
    return mace_insert(txn, &client_bucket, key, strlen(key), value, strlen(value));
}

static int
update(const char *key, const char *value)
{
    return mace_update(txn, &client_bucket, key, strlen(key), value, strlen(value));
}

static int
delete_key(const char *key)
{
    return mace_delete(txn, &client_bucket, key, strlen(key));
}

/* The value of a key, or its status' text. */
static const char *
got(const char *key)
{
    static char text[MSHM_MAX_INLINE + 1];
    mace_slice value;
    int status = mace_get(txn, &client_bucket, key, strlen(key), &value);
    if (status != MACE_OK)
        return mace_strerror(status);
    memcpy(text, value.data, value.size);
    text[value.size] = '\0';
    return text;
}

static void
versions_of_a_to_d(void)
{
    oracle_add(oracle, "a", 1, 10, MSHM_ENTRY_VALUE, "a10", 3);
    oracle_add(oracle, "a", 1, 20, MSHM_ENTRY_VALUE, "a20", 3);
    oracle_add(oracle, "b", 1, 10, MSHM_ENTRY_VALUE, "", 0);
    oracle_add(oracle, "c", 1, 10, MSHM_ENTRY_VALUE, "c10", 3);
    oracle_add(oracle, "c", 1, 15, MSHM_ENTRY_TOMBSTONE, "", 0);
    oracle_add(oracle, "d", 1, 25, MSHM_ENTRY_VALUE, "d25", 3);
    client_tree_build(oracle, 3);
}

START_TEST(a_transaction_reads_its_snapshot)
{
    versions_of_a_to_d();
    static const char *wanted[3][4] = {{"a10", "", "c10", "not found"},
                                       {"a20", "", "not found", "not found"},
                                       {"a20", "", "not found", "d25"}};
    static const mshm_timestamp snapshots[3] = {14, 24, 26};
    for (int i = 0; i < 3; i++) {
        AO_store(&client_header()->visible, snapshots[i]);
        begin(MACE_RDONLY);
        AO_store(&client_header()->visible, 100);
        ck_assert_uint_eq(mace_txn_snapshot(txn), snapshots[i]);
        ck_assert_str_eq(got("a"), wanted[i][0]);
        ck_assert_str_eq(got("b"), wanted[i][1]);
        ck_assert_str_eq(got("c"), wanted[i][2]);
        ck_assert_str_eq(got("d"), wanted[i][3]);
        mace_abort(txn);
    }
    char value[8];
    size_t size = 0;
    ck_assert_int_eq(mace_get1(&client_mace, &client_bucket, "d", 1, value, 8, &size), MACE_OK);
    ck_assert_uint_eq(size, 3);
    ck_assert_int_eq(mace_get1(&client_mace, &client_bucket, "d", 1, value, 2, &size),
                     MACE_BUFFER_TOO_SMALL);
    ck_assert_int_eq(mace_get1(&client_mace, &client_bucket, "c", 1, value, 8, &size),
                     MACE_NOT_FOUND);
}
END_TEST

START_TEST(own_writes_are_read_and_preconditions_count_them)
{
    versions_of_a_to_d();
    AO_store(&client_header()->visible, 24);
    begin(0);
    ck_assert_int_eq(insert("a", "x"), MACE_EXISTS);
    ck_assert_int_eq(update("c", "x"), MACE_NOT_FOUND);
    ck_assert_int_eq(delete_key("c"), MACE_NOT_FOUND);
    ck_assert_int_eq(update("d", "x"), MACE_NOT_FOUND);
    ck_assert_uint_eq(txn->writes.count, 0); /* a failed operation changes nothing */

    ck_assert_int_eq(update("a", "own a"), MACE_OK);
    ck_assert_int_eq(insert("c", "own c"), MACE_OK);
    ck_assert_int_eq(insert("c", "again"), MACE_EXISTS);
    ck_assert_int_eq(put("d", "own d"), MACE_OK);
    ck_assert_int_eq(delete_key("b"), MACE_OK);
    ck_assert_int_eq(delete_key("b"), MACE_NOT_FOUND);
    ck_assert_int_eq(update("b", "x"), MACE_NOT_FOUND);
    ck_assert_str_eq(got("a"), "own a");
    ck_assert_str_eq(got("b"), "not found");
    ck_assert_str_eq(got("c"), "own c");
    ck_assert_str_eq(got("d"), "own d");
    ck_assert_int_eq(delete_key("d"), MACE_OK);
    ck_assert_str_eq(got("d"), "not found");
    ck_assert_uint_eq(txn->writes.count,
                      4); /* insert then delete stays a write: it must conflict */
    ck_assert_int_eq(insert("b", ""), MACE_OK);
    ck_assert_str_eq(got("b"), "");
    mace_abort(txn);
    begin(0);
    ck_assert_str_eq(got("a"), "a20");
    ck_assert_str_eq(got("b"), "");
    mace_abort(txn);
}
END_TEST

START_TEST(sizes_and_arguments_are_checked)
{
    static uint8_t big[MSHM_MAX_VALUE / 1024];
    mace_slice value;
    size_t size;
    begin(0);
    ck_assert_int_eq(mace_put(txn, &client_bucket, big, 0, "v", 1), MACE_INVALID);
    ck_assert_int_eq(mace_put(txn, &client_bucket, NULL, 3, "v", 1), MACE_INVALID);
    ck_assert_int_eq(mace_put(txn, &client_bucket, big, 4097, "v", 1), MACE_TOO_BIG);
    ck_assert_int_eq(mace_put(txn, &client_bucket, big, SIZE_MAX, "v", 1), MACE_TOO_BIG);
    ck_assert_int_eq(mace_put(txn, &client_bucket, big, 4096, big, 8192), MACE_OK);
    ck_assert_int_eq(mace_put(txn, &client_bucket, big, 4096, big, 8193), MACE_TOO_BIG);
    ck_assert_int_eq(mace_put(txn, &client_bucket, "k", 1, NULL, 1), MACE_INVALID);
    ck_assert_int_eq(mace_put(txn, &client_bucket, "k", 1, NULL, 0), MACE_OK);
    ck_assert_int_eq(mace_get(txn, &client_bucket, "k", 1, NULL), MACE_OK);
    ck_assert_int_eq(mace_get(txn, &client_bucket, "k", 0, &value), MACE_INVALID);
    ck_assert_int_eq(mace_get(txn, &client_bucket, big, 4097, &value), MACE_TOO_BIG);
    ck_assert_int_eq(mace_get(txn, &client_bucket, big, 4096, &value), MACE_OK);
    ck_assert_uint_eq(value.size, 8192);
    ck_assert_int_eq(mace_get_into(txn, &client_bucket, "k", 1, NULL, 1, &size), MACE_INVALID);
    ck_assert_int_eq(mace_get_into(txn, &client_bucket, "k", 1, NULL, 0, &size), MACE_OK);
    ck_assert_uint_eq(size, 0);
    ck_assert_int_eq(mace_get_into(txn, &client_bucket, big, 4096, NULL, 0, &size),
                     MACE_BUFFER_TOO_SMALL);
    ck_assert_uint_eq(size, 8192);
    ck_assert_int_eq(mace_merge(txn, &client_bucket, "k", 1, "v", 1), MACE_INVALID);
    ck_assert_int_eq(mace_get(NULL, &client_bucket, "k", 1, &value), MACE_INVALID);
    ck_assert_int_eq(mace_get(txn, NULL, "k", 1, &value), MACE_INVALID);
    mace_abort(txn);

    struct mace other = client_mace;
    struct mace_bucket foreign = {.mace = &other, .id = CLIENT_BUCKET}, unknown = client_bucket;
    unknown.id++;
    unknown.resolved = 0;
    begin(MACE_RDONLY);
    ck_assert_int_eq(mace_get(txn, &foreign, "k", 1, &value), MACE_INVALID);
    ck_assert_int_eq(mace_get(txn, &unknown, "k", 1, &value), MACE_NOT_FOUND);
    ck_assert_int_eq(put("k", "v"), MACE_READ_ONLY);
    ck_assert_int_eq(insert("k", "v"), MACE_READ_ONLY);
    ck_assert_int_eq(delete_key("k"), MACE_READ_ONLY);
    mace_abort(txn);

    mace_txn *none = NULL;
    ck_assert_int_eq(mace_begin(&client_mace, MACE_SYNC | MACE_OS, &none), MACE_INVALID);
    ck_assert_int_eq(mace_begin(&client_mace, MACE_SERIALIZABLE, &none), MACE_INVALID);
    ck_assert_int_eq(mace_begin(&client_mace, 1u << 20, &none), MACE_INVALID);
    ck_assert_int_eq(mace_begin(NULL, 0, &none), MACE_INVALID);
    ck_assert_ptr_null(none);
    client_mace.options.read_only = 1;
    begin(MACE_SYNC);
    ck_assert_int_eq(put("k", "v"), MACE_READ_ONLY);
    ck_assert_int_eq(mace_put1(&client_mace, &client_bucket, "k", 1, "v", 1), MACE_READ_ONLY);
    ck_assert_int_eq(mace_commit(txn), MACE_OK);
}
END_TEST

START_TEST(slices_may_be_arguments_and_outlive_writes)
{
    char key[8], big[4000];
    memset(big, 'x', sizeof big);
    for (int i = 0; i < 50; i++) {
        snprintf(key, sizeof key, "%02d", (i + 1) % 50);
        oracle_add(oracle, key, 2, 5, MSHM_ENTRY_VALUE, key, 2);
        char next[8];
        snprintf(next, sizeof next, "%02d", (i + 2) % 50);
        oracle_add(oracle, key, 2, 6, MSHM_ENTRY_VALUE, next, 2);
    }
    client_tree_build(oracle, 10);
    begin(0);
    /* Each value is the next key: a chain of gets whose key argument stands in the buffer of the answer. */
    mace_slice value, before;
    ck_assert_int_eq(mace_get(txn, &client_bucket, "00", 2, &value), MACE_OK);
    for (int i = 1; i < 120; i++) {
        snprintf(key, sizeof key, "%02d", i % 50);
        ck_assert_uint_eq(value.size, 2);
        ck_assert_mem_eq(value.data, key, 2);
        ck_assert_int_eq(mace_get(txn, &client_bucket, value.data, value.size, &value), MACE_OK);
    }
    /* The same with many at once: the keys are the values of the call before, last one first. */
    enum { MANY = 50 };
    mace_slice keys[MANY], values[MANY];
    int statuses[MANY], number[MANY];
    char digits[MANY][8];
    for (int i = 0; i < MANY; i++) {
        number[i] = i;
        snprintf(digits[i], sizeof digits[i], "%02d", i);
        keys[i] = (mace_slice){.data = digits[i], .size = 2};
    }
    for (int pass = 0; pass < 4; pass++) {
        ck_assert_int_eq(mace_get_many(txn, &client_bucket, MANY, keys, values, statuses), MACE_OK);
        for (int i = 0; i < MANY; i++) {
            ck_assert_int_eq(statuses[i], MACE_OK);
            number[i] = (number[i] + 1) % 50;
            snprintf(key, sizeof key, "%02d", number[i]);
            ck_assert_mem_eq(values[i].data, key, 2);
        }
        for (int i = 0; i < MANY / 2; i++) {
            int swapped = number[i];
            number[i] = number[MANY - 1 - i];
            number[MANY - 1 - i] = swapped;
        }
        for (int i = 0; i < MANY; i++)
            keys[i] = values[MANY - 1 - i];
    }
    ck_assert_int_eq(mace_get(txn, &client_bucket, "19", 2, &value), MACE_OK);
    /* The slice is both key and value of a put, and stays. */
    before = value;
    memcpy(key, value.data, 2);
    ck_assert_int_eq(mace_put(txn, &client_bucket, value.data, 2, value.data, 2), MACE_OK);
    ck_assert_int_eq(mace_put(txn, &client_bucket, value.data, 2, big, sizeof big), MACE_OK);
    ck_assert_mem_eq(before.data, key, 2);
    /* An own value that was handed out is not changed by the next write of its key. */
    ck_assert_int_eq(mace_get(txn, &client_bucket, key, 2, &value), MACE_OK);
    ck_assert_int_eq(mace_put(txn, &client_bucket, key, 2, "y", 1), MACE_OK);
    ck_assert_uint_eq(value.size, sizeof big);
    ck_assert_mem_eq(value.data, big, sizeof big);
    mace_abort(txn);
}
END_TEST

START_TEST(many_keys_at_once_have_their_own_statuses)
{
    random_seed("get_many");
    for (int round = 0; round < 20; round++) {
        enum { COUNT = 100 };
        mace_slice keys[COUNT], values[COUNT];
        int statuses[COUNT];
        static uint8_t bytes[COUNT][MSHM_MAX_KEY];
        oracle_fini(oracle);
        oracle_init(oracle, 4 << 20);
        client_random_versions(oracle, 100, 12);
        client_tree_build(oracle, 20);
        AO_store(&client_header()->visible, 50);
        begin(MACE_RDONLY);
        for (int i = 0; i < COUNT; i++) {
            const struct mshm_version *version = &oracle->versions[random_below(oracle->count)];
            size_t size = version->key_size;
            memcpy(bytes[i], version->key, size);
            if (random_below(3) == 0)
                size = random_key(bytes[i], 12);
            keys[i] = (mace_slice){.data = bytes[i], .size = random_below(20) == 0 ? 0 : size};
        }
        /* Twice: the second time the keys stand in the values of the first. */
        for (int pass = 0; pass < 2; pass++) {
            ck_assert_int_eq(mace_get_many(txn, &client_bucket, COUNT, keys, values, statuses),
                             MACE_OK);
            for (int i = 0; i < COUNT; i++) {
                const struct mshm_version *version = NULL;
                if (keys[i].size == 0) {
                    ck_assert_int_eq(statuses[i], MACE_INVALID);
                    continue;
                }
                int found = oracle_get(oracle, bytes[i], keys[i].size, 50, &version);
                bool there = found == MSHM_FOUND_VERSION && version->kind == MSHM_ENTRY_VALUE;
                ck_assert_int_eq(statuses[i], there ? MACE_OK : MACE_NOT_FOUND);
                if (there) {
                    ck_assert_uint_eq(values[i].size, version->value_size);
                    ck_assert(values[i].size == 0 ||
                              memcmp(values[i].data, version->value, values[i].size) == 0);
                }
            }
            mace_slice values2[COUNT];
            int statuses2[COUNT];
            unsigned usable = 0;
            for (int i = 0; i < COUNT; i++)
                if (statuses[i] == MACE_OK && values[i].size > 0 && values[i].size < 13)
                    values2[usable++] = values[i];
            uint8_t copies[COUNT][16];
            for (unsigned i = 0; i < usable; i++)
                memcpy(copies[i], values2[i].data, values2[i].size);
            ck_assert_int_eq(mace_get_many(txn, &client_bucket, usable, values2, values, statuses2),
                             MACE_OK);
            for (unsigned i = 0; i < usable; i++) {
                const struct mshm_version *version = NULL;
                int found = oracle_get(oracle, copies[i], values2[i].size, 50, &version);
                ck_assert_int_eq(statuses2[i],
                                 found == MSHM_FOUND_VERSION && version->kind == MSHM_ENTRY_VALUE
                                     ? MACE_OK
                                     : MACE_NOT_FOUND);
            }
        }
        mace_abort(txn);
    }
}
END_TEST

START_TEST(an_expired_snapshot_says_so_in_every_call_until_it_ends)
{
    versions_of_a_to_d();
    mace_slice value;
    mace_cursor *cursor;
    begin(0);
    ck_assert_int_eq(put("e", "own"), MACE_OK);
    ck_assert_int_eq(mace_cursor_open(txn, &client_bucket, NULL, &cursor), MACE_OK);
    ck_assert_int_eq(mace_cursor_first(cursor, &value, NULL), MACE_OK);
    AO_store(&client_attachment.session->expired[txn->lane_index], mace_txn_snapshot(txn));
    AO_store(&client_header()->visible, 1001);
    ck_assert_int_eq(mace_get(txn, &client_bucket, "a", 1, &value), MACE_SNAPSHOT_EXPIRED);
    ck_assert_int_eq(mace_get(txn, &client_bucket, "e", 1, &value), MACE_SNAPSHOT_EXPIRED);
    ck_assert_int_eq(mace_get(txn, &client_bucket, "e", 1, NULL), MACE_SNAPSHOT_EXPIRED);
    ck_assert_int_eq(mace_cursor_next(cursor, &value, NULL), MACE_SNAPSHOT_EXPIRED);
    ck_assert_int_eq(put("f", "own"), MACE_SNAPSHOT_EXPIRED);
    ck_assert_int_eq(insert("f", "own"), MACE_SNAPSHOT_EXPIRED);
    mace_abort(txn);
    begin(MACE_RDONLY);
    ck_assert_str_eq(got("a"), "a20");
    AO_store(&client_attachment.session->expired[txn->lane_index], mace_txn_snapshot(txn));
    AO_store(&client_header()->visible, 1002);
    ck_assert_int_eq(mace_renew(txn), MACE_OK);
    ck_assert_str_eq(got("a"), "a20");
    mace_abort(txn);
}
END_TEST

START_TEST(a_dropped_bucket_is_read_by_older_snapshots_only_and_written_by_none)
{
    versions_of_a_to_d();
    struct mshm_catalogue_entry *entry =
        (struct mshm_catalogue_entry *)(client_store + client_geometry.catalogue_offset);
    begin(0);
    mace_txn *early;
    ck_assert_int_eq(mace_begin(&client_mace, MACE_RDONLY, &early), MACE_OK);
    AO_store_release(&entry->dropped, 1001);
    AO_store_release(&client_header()->visible, 1001);
    ck_assert_str_eq(got("a"), "a20");
    ck_assert_int_eq(put("a", "x"), MACE_NOT_FOUND);
    ck_assert_int_eq(mace_commit(txn), MACE_OK);
    begin(0);
    ck_assert_str_eq(got("a"), "not found");
    ck_assert_int_eq(put("a", "x"), MACE_NOT_FOUND);
    ck_assert_int_eq(mace_put1(&client_mace, &client_bucket, "a", 1, "x", 1), MACE_NOT_FOUND);
    ck_assert_int_eq(mace_get1(&client_mace, &client_bucket, "a", 1, NULL, 0, NULL),
                     MACE_NOT_FOUND);
    mace_abort(txn);
    mace_cursor *cursor;
    ck_assert_int_eq(mace_cursor_open(early, &client_bucket, NULL, &cursor), MACE_OK);
    ck_assert_int_eq(mace_cursor_first(cursor, NULL, NULL), MACE_OK);
    ck_assert_int_eq(mace_renew(early), MACE_OK);
    ck_assert_int_eq(mace_cursor_first(cursor, NULL, NULL), MACE_NOT_FOUND);
    mace_abort(early);
}
END_TEST

START_TEST(a_forked_child_touches_nothing_that_is_shared)
{
    versions_of_a_to_d();
    mace_cursor *cursor;
    mace_slice value;
    mace_ticket ticket = {.sequence = 1, .incarnation = 1, .reserved = 3};
    mace_txn *second, *third;
    begin(0);
    ck_assert_int_eq(mace_begin(&client_mace, 0, &second), MACE_OK);
    ck_assert_int_eq(mace_begin(&client_mace, 0, &third), MACE_OK);
    ck_assert_int_eq(mace_cursor_open(txn, &client_bucket, NULL, &cursor), MACE_OK);
    ck_assert_int_eq(put("a", "x"), MACE_OK);
    /* What the child sees: a zero in the fork page, and no session. */
    client_fork_word = 0;
    ck_assert_int_eq(mprotect(client_attachment.session, MSHM_SESSION_SIZE, PROT_NONE), 0);
    ck_assert_int_eq(mprotect(client_store, client_geometry.store_size, PROT_NONE), 0);
    ck_assert_int_eq(mace_get(txn, &client_bucket, "a", 1, &value), MACE_FORKED);
    ck_assert_int_eq(mace_get1(&client_mace, &client_bucket, "a", 1, NULL, 0, NULL), MACE_FORKED);
    ck_assert_int_eq(mace_put1(&client_mace, &client_bucket, "a", 1, "x", 1), MACE_FORKED);
    ck_assert_int_eq(put("a", "y"), MACE_FORKED);
    ck_assert_int_eq(mace_renew(txn), MACE_FORKED);
    ck_assert_int_eq(mace_cursor_next(cursor, NULL, NULL), MACE_FORKED);
    ck_assert_int_eq(mace_begin(&client_mace, 0, &txn), MACE_FORKED);
    ck_assert_int_eq(mace_wait(&client_mace, &ticket), MACE_FORKED);
    mace_cursor_close(cursor);
    ck_assert_int_eq(mace_commit(txn), MACE_FORKED);
    ck_assert_int_eq(mace_commit_async(second, &ticket), MACE_FORKED);
    mace_abort(third);
    for (unsigned i = 0; i < MSHM_MAX_LANES; i++)
        ck_assert_ptr_null(client_attachment.lane_owner[i]);
    /* The parent's: everything as it was. */
    ck_assert_int_eq(mprotect(client_attachment.session, MSHM_SESSION_SIZE, PROT_READ | PROT_WRITE),
                     0);
    ck_assert_int_eq(mprotect(client_store, client_geometry.store_size, PROT_READ | PROT_WRITE), 0);
    client_fork_word = 1;
    for (unsigned i = 0; i < 3; i++) {
        ck_assert_uint_eq(client_attachment.session->lanes[i].snapshot, 1000);
        AO_store(&client_attachment.session->lanes[i].snapshot, 0);
    }
    ck_assert_uint_eq(client_attachment.lanes[0], 7);
    client_attachment.lanes[0] = 0;
    client_attachment.references = 1;
}
END_TEST

int
main(void)
{
    Suite *suite = suite_create("get");
    TCase *tests = tcase_create("get");
    tcase_set_timeout(tests, 60);
    tcase_add_checked_fixture(tests, set_up, tear_down);
    tcase_add_test(tests, a_transaction_reads_its_snapshot);
    tcase_add_test(tests, own_writes_are_read_and_preconditions_count_them);
    tcase_add_test(tests, sizes_and_arguments_are_checked);
    tcase_add_test(tests, slices_may_be_arguments_and_outlive_writes);
    tcase_add_test(tests, many_keys_at_once_have_their_own_statuses);
    tcase_add_test(tests, an_expired_snapshot_says_so_in_every_call_until_it_ends);
    tcase_add_test(tests, a_dropped_bucket_is_read_by_older_snapshots_only_and_written_by_none);
    tcase_add_test(tests, a_forked_child_touches_nothing_that_is_shared);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
