/* interface_test.c - the public interface name by name: what each function takes, refuses and leaves alone. */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "support/broker.h"
#include "support/client.h"
#include "support/process.h"

static struct broker broker;
static char scratch[SCRATCH_PATH], path[SCRATCH_PATH];
static mace *db;
static mace_bucket *bucket;

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

/* --- a database --- */

START_TEST(options_are_the_documented_ones_and_others_are_refused)
{
    static const unsigned no_level[] = {MACE_SYNC | MACE_OS, MACE_RDONLY, 64};
    mace_options options, wrong;
    mace *other = NULL;

    mace_options_init(&options);
    ck_assert_uint_eq(options.size, sizeof options);
    ck_assert(options.create == 1 && options.read_only == 0 && options.start_broker == 1);
    ck_assert_ptr_null(options.broker_path);
    ck_assert_uint_eq(options.connect_timeout_ms, 10000);
    ck_assert_uint_eq(options.commit_timeout_ms, 0);
    ck_assert_uint_eq(options.durability, MACE_SYNC);
    ck_assert_uint_eq(options.cache_size, 0);
    ck_assert_uint_eq(options.idle_exit_ms, 10000);
    for (size_t i = 0; i < sizeof no_level / sizeof no_level[0]; i++) {
        wrong = options;
        wrong.durability = no_level[i];
        ck_assert_int_eq(mace_open(path, &wrong, &other), MACE_INVALID);
    }
    wrong = options;
    wrong.size--;
    ck_assert_int_eq(mace_open(path, &wrong, &other), MACE_VERSION);
    ck_assert_int_eq(mace_open(NULL, &options, &other), MACE_INVALID);
    ck_assert_int_eq(mace_open("", &options, &other), MACE_INVALID);
    ck_assert_int_eq(mace_open(path, &options, NULL), MACE_INVALID);
    ck_assert_ptr_null(other);
}
END_TEST

START_TEST(paths_may_be_relative_hold_blanks_and_be_longer_than_a_socket_address)
{
    char deep[SCRATCH_PATH] = "a b", where[SCRATCH_PATH];
    mace_options options;
    mace *other;
    struct stat status;

    ck_assert_int_eq(chdir(scratch), 0);
    mace_options_init(&options);
    options.cache_size = 8 << 20;
    options.idle_exit_ms = 100;
    options.connect_timeout_ms = 60000;
    for (int i = 0; i < 5; i++) {
        ck_assert(i == 0 || mkdir(deep, 0700) == 0);
        if (i > 0)
            strcat(deep, "/a directory with a rather long name");
    }
    ck_assert_int_eq(mace_open(deep, &options, &other), MACE_OK);
    ck_assert_int_eq(chdir("/"), 0); /* the path was resolved */
    ck_assert_int_eq(mace_sync(other), MACE_OK);
    scratch_join(where, scratch, deep);
    ck_assert(stat(where, &status) == 0 && S_ISDIR(status.st_mode));
    pid_t pid = (pid_t)client_stat(other).broker_pid;
    mace_close(other);
    wait_for(process_state(pid) == 0 || process_state(pid) == 'Z');
}
END_TEST

START_TEST(a_read_only_handle_reads_and_changes_nothing)
{
    mace_bucket_options properties;
    mace_options options;
    mace *reader;
    mace_bucket *seen;
    mace_txn *txn;

    ck_assert_int_eq(client_put(db, bucket, "key", "value"), MACE_OK);
    mace_options_init(&options);
    mace_bucket_options_init(&properties);
    options.read_only = 1;
    ck_assert_int_eq(mace_open(path, &options, &reader), MACE_OK);
    ck_assert_int_eq(mace_bucket_create(reader, "new", NULL, &seen), MACE_READ_ONLY);
    ck_assert_int_eq(mace_bucket_drop(reader, "default"), MACE_READ_ONLY);
    ck_assert_int_eq(mace_bucket_alter(reader, "default", &properties), MACE_READ_ONLY);
    ck_assert_int_eq(mace_bucket_open(reader, "default", &seen), MACE_OK);
    ck_assert_int_eq(mace_put1(reader, seen, "key", 3, "x", 1), MACE_READ_ONLY);
    ck_assert_int_eq(mace_delete1(reader, seen, "key", 3), MACE_READ_ONLY);
    ck_assert_int_eq(mace_begin(reader, 0, &txn), MACE_OK);
    ck_assert_int_eq(mace_put(txn, seen, "key", 3, "x", 1), MACE_READ_ONLY);
    ck_assert_int_eq(mace_delete(txn, seen, "key", 3), MACE_READ_ONLY);
    ck_assert_int_eq(mace_renew(txn), MACE_OK); /* it is MACE_RDONLY */
    ck_assert_int_eq(mace_commit(txn), MACE_OK);
    ck_assert(client_has(reader, seen, "key", "value"));
    mace_close(reader);
}
END_TEST

START_TEST(every_status_has_a_text_of_its_own)
{
    for (int status = MACE_LIMIT; status <= MACE_NOT_FOUND; status++)
        for (int other = MACE_LIMIT; other <= MACE_NOT_FOUND; other++)
            ck_assert((strcmp(mace_strerror(status), mace_strerror(other)) == 0) ==
                      (status == other));
    ck_assert_ptr_nonnull(mace_strerror(MACE_OK));
    ck_assert_ptr_nonnull(mace_strerror(4711));
    int major, minor, patch;
    ck_assert_int_eq(sscanf(mace_version(), "%d.%d.%d", &major, &minor, &patch), 3);
}
END_TEST

/* --- buckets --- */

static int
name_add(const char *name, void *argument)
{
    strcat(strcat(argument, name), " ");
    return 0;
}

static int
name_refuse(const char *name, void *argument)
{
    (void)name;
    (void)argument;
    return 7;
}

START_TEST(buckets_are_created_listed_altered_and_dropped_by_their_rules)
{
    char longest[MACE_MAX_BUCKET_NAME + 2], names[1000] = "";
    mace_bucket_options options;
    mace_bucket *made, *again = NULL;

    ck_assert_int_eq(mace_bucket_open(db, "none", &again), MACE_NOT_FOUND);
    ck_assert_int_eq(mace_bucket_create(db, "b", NULL, &made), MACE_OK);
    ck_assert_int_eq(mace_bucket_create(db, "b", NULL, &again), MACE_EXISTS);
    ck_assert_int_eq(mace_bucket_create(db, "default", NULL, &again), MACE_EXISTS);
    ck_assert_int_eq(mace_bucket_create(db, "", NULL, &again), MACE_INVALID);
    ck_assert_int_eq(mace_bucket_create(db, "\xff\xfe", NULL, &again), MACE_INVALID);
    memset(longest, 'n', sizeof longest - 1);
    longest[sizeof longest - 1] = '\0';
    ck_assert_int_eq(mace_bucket_create(db, longest, NULL, &again), MACE_INVALID);
    ck_assert_ptr_null(again);
    longest[MACE_MAX_BUCKET_NAME] = '\0';
    ck_assert_int_eq(mace_bucket_create(db, longest, NULL, &again), MACE_OK);
    ck_assert_int_eq(mace_bucket_drop(db, longest), MACE_OK);
    ck_assert_int_eq(mace_bucket_drop(db, longest), MACE_NOT_FOUND);
    ck_assert_int_eq(mace_bucket_drop(db, "default"), MACE_INVALID);
    ck_assert_int_eq(mace_bucket_list(db, name_add, names), MACE_OK);
    ck_assert_str_eq(names, "b default ");
    ck_assert_int_eq(mace_bucket_list(db, name_refuse, NULL), 7);

    mace_bucket_options_init(&options);
    options.compression = MACE_COMPRESS_ZSTD;
    ck_assert_int_eq(mace_bucket_alter(db, "b", &options), MACE_OK);
    ck_assert_int_eq(mace_bucket_alter(db, "none", &options), MACE_NOT_FOUND);
    options.compression = 77;
    ck_assert_int_eq(mace_bucket_alter(db, "b", &options), MACE_INVALID);
    mace_bucket_options_init(&options);
    options.page_size = 16384; /* fixed at creation */
    ck_assert_int_eq(mace_bucket_alter(db, "b", &options), MACE_INVALID);
    options.page_size = 5000;
    ck_assert_int_eq(mace_bucket_create(db, "p", &options, &again), MACE_INVALID);
    mace_bucket_options_init(&options);
    options.size--;
    ck_assert_int_eq(mace_bucket_create(db, "p", &options, &again), MACE_VERSION);
    mace_bucket_close(again);
    mace_bucket_close(made);
}
END_TEST

START_TEST(a_handle_of_a_dropped_bucket_reaches_no_new_one_of_its_name)
{
    char buffer[8];
    size_t size;
    mace_bucket *new;
    mace_slice value;
    mace_cursor *cursor;

    mace_bucket *old = client_bucket(db, "b");
    ck_assert_int_eq(client_put(db, old, "key", "old"), MACE_OK);
    mace_txn *reader = begin(MACE_RDONLY), *writer = begin(0);
    ck_assert_int_eq(mace_put(writer, old, "other", 5, "x", 1), MACE_OK);
    ck_assert_int_eq(mace_bucket_drop(db, "b"), MACE_OK);
    ck_assert_int_eq(mace_get(reader, old, "key", 3, &value), MACE_OK);
    ck_assert(is(value, "old"));
    mace_abort(reader);
    ck_assert_int_eq(mace_commit(writer), MACE_NOT_FOUND);
    for (int again = 0; again < 2; again++) {
        ck_assert_int_eq(mace_put1(db, old, "key", 3, "x", 1), MACE_NOT_FOUND);
        ck_assert_int_eq(mace_get1(db, old, "key", 3, buffer, sizeof buffer, &size),
                         MACE_NOT_FOUND);
        writer = begin(0);
        ck_assert_int_eq(mace_get(writer, old, "key", 3, &value), MACE_NOT_FOUND);
        ck_assert_int_eq(mace_put(writer, old, "key", 3, "x", 1), MACE_NOT_FOUND);
        mace_abort(writer);
        ck_assert_int_eq(mace_bucket_create(db, "b", NULL, &new),
                         again == 0 ? MACE_OK : MACE_EXISTS);
    }
    mace_bucket_close(old);
    /* Handles are counted: a transaction that uses the bucket keeps it. */
    writer = begin(0);
    ck_assert_int_eq(mace_put(writer, new, "key", 3, "new", 3), MACE_OK);
    ck_assert_int_eq(mace_cursor_open(writer, new, NULL, &cursor), MACE_OK);
    mace_bucket_close(new);
    ck_assert_int_eq(mace_cursor_next(cursor, NULL, &value), MACE_OK);
    ck_assert(is(value, "new"));
    ck_assert_int_eq(mace_commit(writer), MACE_OK);
}
END_TEST

/* --- what no function may stumble over --- */

START_TEST(null_where_something_is_needed_is_refused_and_harmless)
{
    mace_slice value;
    mace_txn *txn;

    mace_close(NULL);
    mace_abort(NULL);
    mace_bucket_close(NULL);
    mace_cursor_close(NULL);
    mace_options_init(NULL);
    mace_stat_init(NULL);
    mace_bucket_options_init(NULL);
    mace_range_prefix(NULL, "", 0);
    ck_assert_uint_eq(mace_txn_snapshot(NULL), 0);
    ck_assert_int_eq(mace_begin(NULL, 0, &txn), MACE_INVALID);
    ck_assert_int_eq(mace_begin(db, 0, NULL), MACE_INVALID);
    ck_assert_int_eq(mace_commit(NULL), MACE_INVALID);
    ck_assert_int_eq(mace_renew(NULL), MACE_INVALID);
    ck_assert_int_eq(mace_get(NULL, bucket, "a", 1, &value), MACE_INVALID);
    ck_assert_int_eq(mace_put1(db, NULL, "a", 1, "", 0), MACE_INVALID);
    ck_assert_int_eq(mace_put1(NULL, bucket, "a", 1, "", 0), MACE_INVALID);
    ck_assert_int_eq(mace_put1(db, bucket, NULL, 1, "", 0), MACE_INVALID);
    ck_assert_int_eq(mace_put1(db, bucket, "a", 1, NULL, 1), MACE_INVALID);
    ck_assert_int_eq(mace_bucket_list(db, NULL, NULL), MACE_INVALID);
    ck_assert_int_eq(mace_session_list(db, NULL, NULL), MACE_INVALID);
    ck_assert_int_eq(mace_histogram_list(db, NULL, NULL), MACE_INVALID);
    ck_assert_int_eq(mace_stat_read(db, NULL), MACE_INVALID);
    ck_assert_int_eq(mace_sync(NULL), MACE_INVALID);
    ck_assert_int_eq(mace_checkpoint(NULL), MACE_INVALID);
    ck_assert_int_eq(mace_wait(db, NULL), MACE_INVALID);
    ck_assert_int_eq(mace_cursor_next(NULL, &value, &value), MACE_INVALID);
}
END_TEST

START_TEST(a_bucket_of_another_handle_is_refused)
{
    mace_slice value;
    mace_cursor *cursor;
    mace_txn *txn = begin(0);
    mace *other = client_open(path);
    mace_bucket *others = client_bucket(other, "default");

    ck_assert_int_eq(mace_get(txn, others, "a", 1, &value), MACE_INVALID);
    ck_assert_int_eq(mace_put(txn, others, "a", 1, "", 0), MACE_INVALID);
    ck_assert_int_eq(mace_cursor_open(txn, others, NULL, &cursor), MACE_INVALID);
    ck_assert_int_eq(mace_put1(db, others, "a", 1, "", 0), MACE_INVALID);
    mace_abort(txn);
    mace_close(other);
}
END_TEST

START_TEST(a_stat_of_unknown_size_is_refused)
{
    mace_stat stat;

    mace_stat_init(&stat);
    ck_assert_uint_eq(stat.size, sizeof stat);
    ck_assert_int_eq(mace_stat_read(db, &stat), MACE_OK);
    ck_assert_uint_eq(stat.broker_pid, (uint64_t)broker.pid);
    stat.size = sizeof stat + 8;
    ck_assert_int_eq(mace_stat_read(db, &stat), MACE_VERSION);
}
END_TEST

int
main(void)
{
    Suite *suite = suite_create("the interface");
    TCase *cases = tcase_create("interface");
    SRunner *runner;

    tcase_set_timeout(cases, 0);
    tcase_add_checked_fixture(cases, setup, teardown);
    tcase_add_test(cases, options_are_the_documented_ones_and_others_are_refused);
    tcase_add_test(cases, paths_may_be_relative_hold_blanks_and_be_longer_than_a_socket_address);
    tcase_add_test(cases, a_read_only_handle_reads_and_changes_nothing);
    tcase_add_test(cases, every_status_has_a_text_of_its_own);
    tcase_add_test(cases, buckets_are_created_listed_altered_and_dropped_by_their_rules);
    tcase_add_test(cases, a_handle_of_a_dropped_bucket_reaches_no_new_one_of_its_name);
    tcase_add_test(cases, null_where_something_is_needed_is_refused_and_harmless);
    tcase_add_test(cases, a_bucket_of_another_handle_is_refused);
    tcase_add_test(cases, a_stat_of_unknown_size_is_refused);
    suite_add_tcase(suite, cases);
    runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
