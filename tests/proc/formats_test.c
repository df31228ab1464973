/* formats_test.c - a database outlives the settings it was written with: other sizes of pages, cache and files, other ways
 * of writing, compression switched on and off. A later version's it refuses.
 */
#include <check.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "crc.h"
#include "manifest_format.h"
#include "support/broker.h"
#include "support/client.h"
#include "support/process.h"

enum { KEYS = 2000, BUCKETS = 3, VALUE = 400, AT_ONCE = 8 };

static const char *const names[BUCKETS] = {"plain", "packed", "wide"};

/* Each life has settings of its own. */
static const struct broker_options lives[] = {
    {.arguments = {"--cache", "32M", "--page-size", "4096"}},
    {.arguments = {"--cache", "4M", "--page-size", "65536", "--segment-size", "256K",
                   "--data-file-size", "2M"}},
    {.arguments = {"--cache", "8M", "--page-size", "8192", "--no-uring", "--no-log-mapping"}},
    {.arguments = {"--cache", "3M", "--checkpoint-log", "256K", "--segment-size", "256K"}},
    {.arguments = {"--cache", "64M", "--huge-pages", "off"}},
};
enum { LIVES = sizeof lives / sizeof lives[0] };

static char scratch[SCRATCH_PATH], path[SCRATCH_PATH];
static struct broker broker;

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

static size_t
key_make(char key[32], unsigned number)
{
    return (size_t)snprintf(key, 32, "key/%06u", number * 7919 % KEYS);
}

/* Text that compression likes. */
static size_t
value_make(char value[VALUE], unsigned number, unsigned life)
{
    size_t size = 100 + number % 200;

    memset(value, 'a' + (int)(number % 3), size);
    snprintf(value, size, "value %u of life %u ", number, life);
    return size;
}

/* A third of the keys are written in each life, by residue; so each key's last life is known. */
static unsigned
last_life(unsigned number, unsigned life)
{
    while (life > 0 && number % 3 != life % 3)
        life--;
    return life;
}

static void
write_life(mace *db, mace_bucket *bucket, unsigned life)
{
    mace_txn *txn = NULL;

    for (unsigned i = 0; i < KEYS; i++) {
        char key[32], value[VALUE];
        if (i % AT_ONCE == 0)
            ck_assert_int_eq(mace_begin(db, MACE_OS, &txn), MACE_OK);
        if (life == 0 || i % 3 == life % 3) {
            size_t size = value_make(value, i, life);
            ck_assert_int_eq(mace_put(txn, bucket, key, key_make(key, i), value, size), MACE_OK);
        }
        if (i % AT_ONCE == AT_ONCE - 1)
            ck_assert_int_eq(mace_commit(txn), MACE_OK);
    }
}

static void
check_life(mace *db, mace_bucket *bucket, unsigned life)
{
    mace_txn *txn;
    mace_cursor *cursor;
    mace_slice key, value;
    unsigned count = 0;

    ck_assert_int_eq(mace_begin(db, MACE_RDONLY, &txn), MACE_OK);
    for (unsigned i = 0; i < KEYS; i++) {
        char name[32], wanted[VALUE];
        size_t size = value_make(wanted, i, last_life(i, life));
        int status = mace_get(txn, bucket, name, key_make(name, i), &value);
        ck_assert_msg(status == MACE_OK, "life %u: %s: %s", life, name, mace_strerror(status));
        ck_assert_uint_eq(value.size, size);
        ck_assert_mem_eq(value.data, wanted, size);
    }
    ck_assert_int_eq(mace_cursor_open(txn, bucket, NULL, &cursor), MACE_OK);
    while (mace_cursor_next(cursor, &key, &value) == MACE_OK)
        count++;
    ck_assert_uint_eq(count, KEYS);
    mace_abort(txn);
}

static void
buckets_create(mace *db)
{
    static const uint32_t page_sizes[BUCKETS] = {0, 4096, 65536};

    for (unsigned i = 0; i < BUCKETS; i++) {
        mace_bucket_options options;
        mace_bucket *bucket;
        mace_bucket_options_init(&options);
        options.page_size = page_sizes[i];
        options.compression = i == 1 ? MACE_COMPRESS_ZSTD : 0;
        ck_assert_int_eq(mace_bucket_create(db, names[i], &options, &bucket), MACE_OK);
        mace_bucket_close(bucket);
    }
}

/* The pages that were written before keep the form they have. */
static void
compression_turn(mace *db, unsigned life)
{
    for (unsigned i = 0; i < BUCKETS; i++) {
        mace_bucket_options options;
        mace_bucket_options_init(&options);
        options.compression = (i + life) % 2 == 0 ? MACE_COMPRESS_NONE : MACE_COMPRESS_ZSTD;
        ck_assert_int_eq(mace_bucket_alter(db, names[i], &options), MACE_OK);
    }
}

START_TEST(a_database_opens_under_other_settings_than_it_was_written_with)
{
    for (unsigned life = 0; life < LIVES; life++) {
        broker_start(&broker, path, &lives[life]);
        mace *db = client_open(path);
        if (life == 0)
            buckets_create(db);
        for (unsigned i = 0; i < BUCKETS; i++) {
            mace_bucket *bucket = client_bucket(db, names[i]);
            if (life > 0)
                check_life(db, bucket, life - 1);
            write_life(db, bucket, life);
            check_life(db, bucket, life);
            mace_bucket_close(bucket);
        }
        if (life % 2 == 0)
            ck_assert_int_eq(mace_checkpoint(db), MACE_OK);
        compression_turn(db, life);
        mace_close(db);
        if (life % 2 == 0)
            broker_kill(&broker);
        else
            broker_finish(&broker);
    }
    broker_start(&broker, path, NULL);
    mace *db = client_open(path);
    for (unsigned i = 0; i < BUCKETS; i++) {
        mace_bucket *bucket = client_bucket(db, names[i]);
        check_life(db, bucket, LIVES - 1);
        mace_bucket_close(bucket);
    }
    mace_close(db);
    broker_finish(&broker);
}
END_TEST

/* Pages that shrink by compression take less of the disk. */
START_TEST(compression_makes_the_same_data_smaller)
{
    uint64_t live[2];

    for (unsigned i = 0; i < 2; i++) {
        char each[SCRATCH_PATH];
        mace_bucket_options options;
        mace_bucket *bucket;
        scratch_join(each, scratch, i == 0 ? "plain" : "packed");
        broker_start(&broker, each, NULL);
        mace *db = client_open(each);
        mace_bucket_options_init(&options);
        options.compression = i == 0 ? MACE_COMPRESS_NONE : MACE_COMPRESS_ZSTD;
        ck_assert_int_eq(mace_bucket_create(db, "data", &options, &bucket), MACE_OK);
        write_life(db, bucket, 0);
        ck_assert_int_eq(mace_checkpoint(db), MACE_OK);
        wait_for((live[i] = client_stat(db).data_live) > KEYS); /* figures may come later */
        mace_close(db);
        broker_finish(&broker);
    }
    printf("%llu bytes, %llu compressed\n", (unsigned long long)live[0],
           (unsigned long long)live[1]);
    ck_assert_uint_lt(live[1], live[0] / 2);
}
END_TEST

/* As a later version would write it: magic, version and checksum stand at the same places for ever. */
static void
manifest_from_the_future(void)
{
    char name[64] = "", file[SCRATCH_PATH];
    struct manifest_header header;

    scratch_join(file, path, "CURRENT");
    int fd = open(file, O_RDONLY | O_CLOEXEC);
    ck_assert_int_gt(read(fd, name, sizeof name - 1), 0);
    close(fd);
    name[strcspn(name, " ")] = '\0';
    scratch_join(file, path, name);
    fd = open(file, O_RDWR | O_CLOEXEC);
    ck_assert_int_eq(pread(fd, &header, sizeof header, 0), (ssize_t)sizeof header);
    header.version++;
    header.crc = 0;
    header.crc = crc_extend(0, &header, sizeof header);
    ck_assert_int_eq(pwrite(fd, &header, sizeof header, 0), (ssize_t)sizeof header);
    close(fd);
}

START_TEST(f32_a_database_of_a_future_version_is_refused_by_name)
{
    mace_options options;
    mace *db;

    broker_start(&broker, path, NULL);
    db = client_open(path);
    mace_bucket *bucket = client_bucket(db, "default");
    ck_assert_int_eq(client_put(db, bucket, "key", "value"), MACE_OK);
    mace_close(db);
    broker_finish(&broker);
    manifest_from_the_future();
    broker_launch(&broker, path, NULL);
    ck_assert_int_eq(broker_ready(&broker), MACE_VERSION);
    broker_wait(&broker);
    ck_assert(broker_log_has(&broker, "newer format"));
    mace_options_init(&options);
    ck_assert_int_eq(mace_open(path, &options, &db), MACE_VERSION);
}
END_TEST

int
main(void)
{
    Suite *suite = suite_create("formats");
    TCase *cases = tcase_create("formats");
    SRunner *runner = srunner_create(suite);

    suite_add_tcase(suite, cases);
    tcase_add_checked_fixture(cases, setup, teardown);
    tcase_set_timeout(cases, 300);
    tcase_add_test(cases, a_database_opens_under_other_settings_than_it_was_written_with);
    tcase_add_test(cases, compression_makes_the_same_data_smaller);
    tcase_add_test(cases, f32_a_database_of_a_future_version_is_refused_by_name);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
