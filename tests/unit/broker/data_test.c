/* data_test.c - the data files: heads, addresses, sizes, what a failure leaves, and jobs that read while the table grows. */
#include "data.h"

#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "crc.h"
#include "fake_env.h"
#include "host_files.h"
#include "mshm/status.h"

enum { FILE_SIZE = 64 * 1024 };

static const struct data_options options = {
    .file_size = FILE_SIZE, .database_id = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16}};
static struct fake fake;
static struct data *data;

static void
setup(void)
{
    fake_init(&fake);
    ck_assert_int_eq(data_create(&data, &options, &fake.env), MSHM_OK);
}

static void
teardown(void)
{
    data_destroy(data);
    fake_fini(&fake);
}

/* The process is gone; the files stay. */
static void
start_again(void)
{
    data_destroy(data);
    ck_assert_int_eq(data_create(&data, &options, &fake.env), MSHM_OK);
}

static struct env_file *
file_named(const char *name)
{
    for (int i = 0; i < FAKE_FILES; i++)
        if (fake.files[i].exists && strcmp(fake.files[i].name, name) == 0)
            return &fake.files[i];
    return NULL;
}

static struct env_file *
file_numbered(uint32_t number)
{
    char name[DATA_NAME_SIZE];

    data_name(name, number);
    return file_named(name);
}

static void
make_and_begin(uint32_t number)
{
    ck_assert_int_eq(data_file_make(&fake.env, options.database_id, number), 0);
    ck_assert_int_eq(data_begin(data, number), MSHM_OK);
}

/* Appends a record of `size` bytes of `fill` to the file being written. */
static data_location
record_write(uint32_t size, int fill)
{
    uint8_t bytes[8192];
    struct env_file *file;
    uint64_t offset;

    ck_assert_uint_le(size, sizeof(bytes));
    memset(bytes, fill, size);
    uint32_t number = data_writing(data, size, &offset, &file);
    ck_assert_uint_ne(number, 0);
    ck_assert_int_eq(fake.env.file_write(&fake, file, offset, bytes, size), 0);
    data_advance(data, size);
    return data_location_make(number, 0, offset, size);
}

static void
check_refused(data_location location, int status, const char *what)
{
    struct env_file *file = NULL;
    const char *why = NULL;

    ck_assert_int_eq(data_open(data, location, &file, &why), status);
    ck_assert_ptr_null(file);
    ck_assert_ptr_nonnull(why);
    ck_assert_msg(strstr(why, what) != NULL, "%s", why);
    ck_assert_int_eq(data_open(data, location, &file, NULL), status);
}

/* --- names and addresses --------------------------------------------------------------------------------------------- */

START_TEST(names_are_written_and_taken_apart)
{
    static const char *const wrong[] = {
        "",
        "2a.dat",
        "000000000000002A.dat",
        "000000000000002a.tmp",
        "000000000000002a.dat2",
        "000000000000002a",
        "0000000000000000.dat",
        "0000000000100000.dat",
        "1000000000000001.dat",
    };
    char name[DATA_NAME_SIZE];
    uint32_t number = 0;

    data_name(name, 42);
    ck_assert_str_eq(name, "data/000000000000002a.dat");
    ck_assert(data_name_parse(name + 5, &number));
    ck_assert_uint_eq(number, 42);
    ck_assert(data_name_parse("00000000000fffff.dat", &number));
    ck_assert_uint_eq(number, DATA_MAX_FILE);
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++)
        ck_assert_msg(!data_name_parse(wrong[i], &number), "%s", wrong[i]);
    ck_assert_uint_eq(number, DATA_MAX_FILE);
}
END_TEST

START_TEST(what_a_manifest_cannot_say_is_damage)
{
    ck_assert_int_eq(data_add(data, 0, 4096, 0), MSHM_CORRUPT);
    ck_assert_int_eq(data_add(data, DATA_MAX_FILE + 1, 4096, 0), MSHM_CORRUPT);
    ck_assert_int_eq(data_add(data, 1, 4032, 0), MSHM_CORRUPT);
    ck_assert_int_eq(data_add(data, 1, 4097, 0), MSHM_CORRUPT);
    ck_assert_int_eq(data_add(data, 1, DATA_MAX_FILE_SIZE + 64, 0), MSHM_CORRUPT);
    ck_assert_int_eq(data_add(data, 1, 8192, 4097), MSHM_CORRUPT);
    ck_assert_int_eq(data_add(data, 1, 8192, 4096), MSHM_OK);
    ck_assert_int_eq(data_add(data, 1, 8192, 4096), MSHM_CORRUPT);
    ck_assert_uint_eq(data_count(data), 1);
}
END_TEST

START_TEST(an_address_must_lie_in_what_counts_of_its_file)
{
    struct env_file *file = NULL;

    make_and_begin(1);
    data_location record = record_write(256, 'a');
    ck_assert_int_eq(data_open(data, record, &file, NULL), MSHM_OK);
    ck_assert_ptr_eq(file, file_numbered(1));
    check_refused(data_location_make(2, 0, 4096, 256), MSHM_CORRUPT, "does not count");
    check_refused(0, MSHM_CORRUPT, "does not count");
    check_refused(data_location_make(1, 0, 4032, 64), MSHM_CORRUPT, "outside");
    check_refused(data_location_make(1, 0, 4096, 320), MSHM_CORRUPT, "outside");
    check_refused(data_location_make(1, 0, 4352, 64), MSHM_CORRUPT, "outside");
    check_refused(data_location_make(1, 0, 4096, 0), MSHM_CORRUPT, "outside");
    check_refused(~UINT64_C(0) >> 4, MSHM_CORRUPT, "does not count");
    ck_assert_int_eq(data_add(data, DATA_MAX_FILE, DATA_MAX_FILE_SIZE, 0), MSHM_OK);
    check_refused(~UINT64_C(0) >> 4, MSHM_CORRUPT, "outside");
}
END_TEST

/* --- heads ------------------------------------------------------------------------------------------------------------ */

START_TEST(a_damaged_head_is_found_at_each_of_its_bits)
{
    data_location record = data_location_make(1, 0, 4096, 64);
    struct env_file *opened;

    make_and_begin(1);
    record_write(64, 'a');
    for (unsigned bit = 0; bit < sizeof(struct data_file_header) * 8; bit++) {
        struct env_file *file = file_numbered(1);
        start_again();
        ck_assert_int_eq(data_add(data, 1, 4160, 64), MSHM_OK);
        file->bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
        check_refused(record, MSHM_CORRUPT, "head is damaged");
        file->bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
        ck_assert_int_eq(data_open(data, record, &opened, NULL), MSHM_OK);
    }
}
END_TEST

static void
head_change(uint32_t version, uint8_t id, uint32_t number)
{
    struct data_file_header header;
    struct env_file *file = file_numbered(1);

    memcpy(&header, file->bytes, sizeof(header));
    header.version = version;
    header.database_id[0] = id;
    header.number = number;
    header.crc = 0;
    header.crc = crc_extend(0, &header, sizeof(header));
    memcpy(file->bytes, &header, sizeof(header));
}

START_TEST(a_head_of_another_version_database_or_file_is_refused)
{
    data_location record = data_location_make(1, 0, 4096, 64);

    make_and_begin(1);
    record_write(64, 'a');
    start_again();
    ck_assert_int_eq(data_add(data, 1, 4160, 64), MSHM_OK);
    head_change(DATA_VERSION + 1, 1, 1);
    check_refused(record, MSHM_VERSION, "another version");
    head_change(DATA_VERSION, 9, 1);
    check_refused(record, MSHM_CORRUPT, "another database");
    head_change(DATA_VERSION, 1, 2);
    check_refused(record, MSHM_CORRUPT, "another data file");
    head_change(DATA_VERSION, 1, 1);
    struct env_file *opened;
    ck_assert_int_eq(data_open(data, record, &opened, NULL), MSHM_OK);
}
END_TEST

START_TEST(a_missing_or_short_file_and_errors_are_told_apart)
{
    data_location record = data_location_make(1, 0, 4096, 64);
    struct env_file *opened;

    ck_assert_int_eq(data_add(data, 1, 4160, 64), MSHM_OK);
    check_refused(record, MSHM_CORRUPT, "missing");
    ck_assert_int_eq(data_file_make(&fake.env, options.database_id, 1), 0);
    file_numbered(1)->size = 63;
    check_refused(record, MSHM_CORRUPT, "no head");
    file_numbered(1)->size = 4160;
    fake.open_error = -EMFILE;
    check_refused(record, MSHM_LIMIT, "");
    fake.open_error = 0;
    fake.file_read_fail = 1;
    ck_assert_int_eq(data_open(data, record, &opened, NULL), MSHM_IO);
    ck_assert_int_eq(data_open(data, record, &opened, NULL), MSHM_OK);
}
END_TEST

/* --- jobs that read --------------------------------------------------------------------------------------------------- */

START_TEST(a_part_of_a_record_is_read_from_an_open_file_and_from_a_closed_one)
{
    uint8_t back[64];
    struct env_file *file;

    make_and_begin(1);
    record_write(64, 'a');
    data_location record = record_write(128, 'b');
    for (int i = 0; i < 2; i++) {
        memset(back, 0, sizeof(back));
        ck_assert_int_eq(data_read(data, record, 100, back, 28), MSHM_OK);
        ck_assert_uint_eq(back[0], 'b');
        ck_assert_uint_eq(back[27], 'b');
        ck_assert_uint_eq(back[28], 0);
        start_again();
        ck_assert_int_eq(data_add(data, 1, 4096 + 192, 192), MSHM_OK);
    }
    ck_assert_int_eq(data_read(data, record, 100, back, 29), MSHM_CORRUPT);
    ck_assert_int_eq(data_read(data, record, 129, back, 0), MSHM_CORRUPT);
    ck_assert_int_eq(data_read(data, record, UINT32_MAX, back, 2), MSHM_CORRUPT);
    ck_assert_int_eq(data_read(data, data_location_make(2, 0, 4096, 64), 0, back, 1), MSHM_CORRUPT);
    fake.file_read_fail = 1;
    ck_assert_int_eq(data_read(data, record, 0, back, 1), MSHM_IO);
    fake.open_error = -EMFILE;
    ck_assert_int_eq(data_read(data, record, 0, back, 1), MSHM_LIMIT);
    fake.open_error = 0;
    file_numbered(1)->size = 4096 + 100;
    ck_assert_int_eq(data_read(data, record, 0, back, 64), MSHM_CORRUPT);
    ck_assert_int_eq(data_open(data, record, &file, NULL), MSHM_OK);
    ck_assert_int_eq(data_read(data, record, 0, back, 64), MSHM_CORRUPT);
    fake.env.file_remove(&fake, file_numbered(1)->name);
    start_again();
    ck_assert_int_eq(data_add(data, 1, 4096 + 192, 192), MSHM_OK);
    ck_assert_int_eq(data_read(data, record, 0, back, 1), MSHM_CORRUPT);
}
END_TEST

/* --- writing ---------------------------------------------------------------------------------------------------------- */

START_TEST(records_follow_each_other_until_the_file_is_full)
{
    struct env_file *file = NULL;
    uint64_t offset = 0;

    ck_assert_uint_eq(data_writing(data, 64, &offset, &file), 0);
    ck_assert_uint_eq(data_next_number(data), 1);
    make_and_begin(1);
    ck_assert_uint_eq(data_next_number(data), 2);
    ck_assert_uint_eq(data_writing(data, 8192, &offset, &file), 1);
    ck_assert_uint_eq(offset, DATA_RECORDS_AT);
    ck_assert_ptr_eq(file, file_numbered(1));
    for (unsigned i = 0; i < (FILE_SIZE - DATA_RECORDS_AT) / 4096; i++)
        ck_assert_uint_eq(data_location_offset(record_write(4096, 'a')),
                          DATA_RECORDS_AT + i * 4096);
    ck_assert_uint_eq(data_writing(data, 64, &offset, &file), 0);
    make_and_begin(2);
    ck_assert_uint_eq(data_writing(data, 64, &offset, &file), 2);
    ck_assert_uint_eq(offset, DATA_RECORDS_AT);
    ck_assert_int_eq(data_begin(data, 1), MSHM_EXISTS);
    ck_assert_int_eq(data_begin(data, 3), MSHM_CORRUPT);
    ck_assert_uint_eq(data_writing(data, 64, &offset, &file), 2);
}
END_TEST

START_TEST(an_empty_file_takes_more_than_its_usual_size)
{
    struct env_file *file;
    uint64_t offset;

    make_and_begin(1);
    ck_assert_uint_eq(data_writing(data, FILE_SIZE * 2, &offset, &file), 1);
    record_write(64, 'a');
    ck_assert_uint_eq(data_writing(data, FILE_SIZE * 2, &offset, &file), 0);
}
END_TEST

START_TEST(numbers_grow_and_go_round_only_when_all_were_used)
{
    ck_assert_int_eq(data_add(data, 7, 4096, 0), MSHM_OK);
    ck_assert_int_eq(data_add(data, 3, 4096, 0), MSHM_OK);
    ck_assert_uint_eq(data_next_number(data), 8);
    data_remove(data, 7);
    ck_assert_uint_eq(data_next_number(data), 8);
    ck_assert_int_eq(data_add(data, 1, 4096, 0), MSHM_OK);
    ck_assert_int_eq(data_add(data, DATA_MAX_FILE, 4096, 0), MSHM_OK);
    ck_assert_uint_eq(data_next_number(data), 2);
}
END_TEST

/* Each step of making a file fails once. */
START_TEST(a_file_that_could_not_be_made_leaves_nothing)
{
    static const int errors[] = {-ENOSPC, -EIO};
    int error = errors[_i % 2];
    int *steps[] = {&fake.open_error, &fake.sync_error, &fake.directory_sync_error};

    for (size_t i = 0; i < sizeof(steps) / sizeof(steps[0]); i++) {
        *steps[i] = error;
        ck_assert_int_eq(data_file_make(&fake.env, options.database_id, 1), error);
        *steps[i] = 0;
        ck_assert_ptr_null(file_numbered(1));
    }
    fake.file_capacity = 64; /* the disk is full while the head is written */
    ck_assert_int_eq(data_file_make(&fake.env, options.database_id, 1), -ENOSPC);
    ck_assert_ptr_null(file_numbered(1));
    fake.file_capacity = FILE_SIZE;
    ck_assert_uint_eq(data_next_number(data), 1);
    make_and_begin(1);
}
END_TEST

START_TEST(what_an_attempt_left_is_replaced)
{
    ck_assert_int_eq(data_file_make(&fake.env, options.database_id, 1), 0);
    struct env_file *file = file_numbered(1);
    ck_assert_int_eq(fake.env.file_write(&fake, file, 5000, "old", 3), 0);
    ck_assert_int_eq(data_file_make(&fake.env, options.database_id, 1), 0);
    ck_assert_uint_eq(file_numbered(1)->size, DATA_RECORDS_AT);
}
END_TEST

/* --- accounting --------------------------------------------------------------------------------------------------------- */

START_TEST(live_bytes_follow_the_records)
{
    struct data_figures figures;

    make_and_begin(1);
    data_location a = data_location_make(1, 0, DATA_RECORDS_AT, 256);
    data_live(data, a); /* packed, not yet written */
    ck_assert_uint_eq(record_write(256, 'a'), a);
    data_location b = record_write(64, 'b');
    data_live(data, b);
    data_describe(data, 0, &figures);
    ck_assert_uint_eq(figures.number, 1);
    ck_assert_uint_eq(figures.total, DATA_RECORDS_AT + 320);
    ck_assert_uint_eq(figures.live, 320);
    data_dead(data, a);
    data_describe(data, 0, &figures);
    ck_assert_uint_eq(figures.live, 64);
    data_dead(data, b);
    data_dead(data, b); /* figures on disk may be wrong */
    data_describe(data, 0, &figures);
    ck_assert_uint_eq(figures.live, 0);
    for (int i = 0; i < 10; i++)
        data_live(data, a);
    data_describe(data, 0, &figures);
    ck_assert_uint_eq(figures.live, 320);
    data_live(data, data_location_make(9, 0, 4096, 64));
    data_dead(data, data_location_make(9, 0, 4096, 64));
}
END_TEST

START_TEST(files_are_described_in_order_and_removed)
{
    static const uint32_t numbers[] = {5, 1, 3000, 2, 70000};
    static const uint32_t sorted[] = {1, 2, 5, 3000, 70000};
    struct data_figures figures;

    for (size_t i = 0; i < 5; i++) {
        ck_assert_int_eq(data_file_make(&fake.env, options.database_id, numbers[i]), 0);
        ck_assert_int_eq(data_add(data, numbers[i], 4096 + numbers[i] % 2 * 64, 0), MSHM_OK);
    }
    for (uint32_t i = 0; i < 5; i++) {
        data_describe(data, i, &figures);
        ck_assert_uint_eq(figures.number, sorted[i]);
        ck_assert_uint_eq(figures.total, 4096 + sorted[i] % 2 * 64);
    }
    data_remove(data, 5);
    ck_assert_ptr_null(file_numbered(5));
    ck_assert_uint_eq(data_count(data), 4);
    data_describe(data, 2, &figures);
    ck_assert_uint_eq(figures.number, 3000);
    check_refused(data_location_make(5, 0, 4096, 64), MSHM_CORRUPT, "does not count");
    data_remove(data, 5);
    ck_assert_uint_eq(data_count(data), 4);
    data_forget(data, 3000);
    ck_assert_uint_eq(data_count(data), 3);
    ck_assert_ptr_nonnull(file_numbered(3000));
    ck_assert_int_eq(data_file_remove(&fake.env, 3000), 0);
    ck_assert_ptr_null(file_numbered(3000));
    ck_assert_int_eq(data_file_remove(&fake.env, 3000), -ENOENT);
}
END_TEST

START_TEST(the_start_removes_what_nobody_names_and_nothing_else)
{
    static const char *const left[] = {"data/0000000000000009.dat", "data/0000000000000001.tmp",
                                       "data/x.tmp"};
    static const char *const kept[] = {"data/notes", "data/2.dat", "9.tmp",
                                       "wal/0000000000000009.tmp"};
    struct env_file *file;

    ck_assert_int_eq(data_file_make(&fake.env, options.database_id, 1), 0);
    ck_assert_int_eq(data_add(data, 1, 4096, 0), MSHM_OK);
    for (size_t i = 0; i < 3; i++)
        ck_assert_int_eq(fake.env.file_open(&fake, left[i], ENV_OPEN_CREATE, &file), 0);
    for (size_t i = 0; i < 4; i++)
        ck_assert_int_eq(fake.env.file_open(&fake, kept[i], ENV_OPEN_CREATE, &file), 0);
    for (uint32_t i = 100; i < 180; i++)
        ck_assert_int_eq(data_file_make(&fake.env, options.database_id, i), 0);
    data_tidy(data);
    ck_assert_ptr_nonnull(file_numbered(1));
    for (size_t i = 0; i < 3; i++)
        ck_assert_msg(file_named(left[i]) == NULL, "%s", left[i]);
    for (size_t i = 0; i < 4; i++)
        ck_assert_msg(file_named(kept[i]) != NULL, "%s", kept[i]);
    for (uint32_t i = 100; i < 180; i++)
        ck_assert_ptr_null(file_numbered(i));
}
END_TEST

/* --- on a real file system, with threads -------------------------------------------------------------------------------- */

enum { READERS = 3, MANY = 60, ROUNDS = 300 };

static AO_t readers_stop, reads_wrong, reads_done;

static void *
reader_run(void *argument)
{
    struct data *table = argument;
    uint8_t back[64];

    for (unsigned i = 0; AO_load_acquire(&readers_stop) == 0; i++) {
        uint32_t number = i % MANY + 1;
        int status = data_read(table, data_location_make(number, 0, 4096, 64), 0, back, 64);
        if (status != MSHM_OK && (status != MSHM_CORRUPT || number <= MANY / 2))
            AO_fetch_and_add1(&reads_wrong);
        else if (status == MSHM_OK && back[5] != (uint8_t)number)
            AO_fetch_and_add1(&reads_wrong);
        AO_fetch_and_add1(&reads_done);
    }
    return NULL;
}

static void
host_file_write(struct host_files *files, const struct env *env, uint32_t number)
{
    struct env_file *file;
    uint8_t bytes[64];
    char name[DATA_NAME_SIZE];

    data_name(name, number);
    memset(bytes, (int)number, sizeof(bytes));
    ck_assert_int_eq(data_file_make(env, options.database_id, number), 0);
    ck_assert_int_eq(env->file_open(files, name, ENV_OPEN_WRITE, &file), 0);
    ck_assert_int_eq(env->file_write(files, file, 4096, bytes, 64), 0);
    env->file_close(files, file);
}

/* The first half is known before the readers start, the others are added while they run. */
START_TEST(jobs_read_while_files_are_opened_and_added)
{
    char directory[] = "/tmp/mace-data-XXXXXX", command[64];
    struct host_files files = {.mappable = true};
    struct env env = {.context = &files};
    struct env_file *file;
    pthread_t threads[READERS];
    struct data *table;

    ck_assert_ptr_nonnull(mkdtemp(directory));
    files.directory = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    host_files_fill(&env);
    ck_assert_int_eq(data_create(&table, &options, &env), MSHM_OK);
    for (uint32_t i = 1; i <= MANY; i++) {
        host_file_write(&files, &env, i);
        if (i <= MANY / 2)
            ck_assert_int_eq(data_add(table, i, 4160, 64), MSHM_OK);
    }
    for (int i = 0; i < READERS; i++)
        ck_assert_int_eq(pthread_create(&threads[i], NULL, reader_run, table), 0);
    for (uint32_t i = 1; i <= MANY; i++) {
        if (i > MANY / 2)
            ck_assert_int_eq(data_add(table, i, 4160, 64), MSHM_OK);
        ck_assert_int_eq(data_open(table, data_location_make(i, 0, 4096, 64), &file, NULL),
                         MSHM_OK);
        for (AO_t seen = AO_load(&reads_done); AO_load(&reads_done) < seen + ROUNDS;)
            sched_yield();
    }
    AO_store_release(&readers_stop, 1);
    for (int i = 0; i < READERS; i++)
        pthread_join(threads[i], NULL);
    ck_assert_uint_eq(AO_load(&reads_wrong), 0);
    data_destroy(table);
    close(files.directory);
    snprintf(command, sizeof(command), "rm -rf %s", directory);
    ck_assert_int_eq(system(command), 0);
}
END_TEST

int
main(void)
{
    Suite *suite = suite_create("data");
    TCase *cases = tcase_create("cases"), *threads = tcase_create("threads");
    SRunner *runner = srunner_create(suite);

    suite_add_tcase(suite, cases);
    tcase_add_checked_fixture(cases, setup, teardown);
    tcase_add_test(cases, names_are_written_and_taken_apart);
    tcase_add_test(cases, what_a_manifest_cannot_say_is_damage);
    tcase_add_test(cases, an_address_must_lie_in_what_counts_of_its_file);
    tcase_add_test(cases, a_damaged_head_is_found_at_each_of_its_bits);
    tcase_add_test(cases, a_head_of_another_version_database_or_file_is_refused);
    tcase_add_test(cases, a_missing_or_short_file_and_errors_are_told_apart);
    tcase_add_test(cases, a_part_of_a_record_is_read_from_an_open_file_and_from_a_closed_one);
    tcase_add_test(cases, records_follow_each_other_until_the_file_is_full);
    tcase_add_test(cases, an_empty_file_takes_more_than_its_usual_size);
    tcase_add_test(cases, numbers_grow_and_go_round_only_when_all_were_used);
    tcase_add_loop_test(cases, a_file_that_could_not_be_made_leaves_nothing, 0, 2);
    tcase_add_test(cases, what_an_attempt_left_is_replaced);
    tcase_add_test(cases, live_bytes_follow_the_records);
    tcase_add_test(cases, files_are_described_in_order_and_removed);
    tcase_add_test(cases, the_start_removes_what_nobody_names_and_nothing_else);
    suite_add_tcase(suite, threads);
    tcase_set_timeout(threads, 60);
    tcase_add_test(threads, jobs_read_while_files_are_opened_and_added);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
