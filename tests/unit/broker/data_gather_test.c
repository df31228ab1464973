/* data_gather_test.c - records fetched together: the same bytes with fewer reads, and by itself what cannot be fetched. */
#include "data_gather.h"

#include <check.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "fake_env.h"
#include "mshm/status.h"

enum { RECORD = 256, RECORDS = 200, FILE_SIZE = 256 * 1024 };

static const struct data_options options = {.file_size = FILE_SIZE, .database_id = {7}};
static struct fake fake;
static struct data *data;
static struct data_gather gather;
static data_location records[2][RECORDS]; /* of two files */

static void
file_fill(uint32_t number)
{
    ck_assert_int_eq(data_file_make(&fake.env, options.database_id, number), 0);
    ck_assert_int_eq(data_begin(data, number), MSHM_OK);
    for (unsigned i = 0; i < RECORDS; i++) {
        uint8_t bytes[RECORD];
        struct env_file *file;
        uint64_t offset;
        memset(bytes, (int)(number * 100 + i), sizeof bytes);
        ck_assert_uint_eq(data_writing(data, RECORD, &offset, &file), number);
        ck_assert_int_eq(fake.env.file_write(&fake, file, offset, bytes, RECORD), 0);
        data_advance(data, RECORD);
        records[number - 1][i] = data_location_make(number, 0, offset, RECORD);
    }
}

enum { UNIT = 512 };
static unsigned many_calls, many_reads; /* of file_read_many */

static void
read_many(void *context, struct env_read *reads, unsigned count)
{
    many_calls++;
    many_reads += count;
    for (unsigned i = 0; i < count; i++) {
        struct env_read *read = &reads[i];
        ck_assert_uint_eq((read->offset | (uintptr_t)read->to | read->size) % UNIT, 0);
        read->result = fake.env.file_read(context, read->file, read->offset, read->to, read->size);
    }
}

static void
setup(void)
{
    fake_init(&fake);
    many_calls = many_reads = 0;
    ck_assert_int_eq(data_create(&data, &options, &fake.env), MSHM_OK);
    file_fill(1);
    file_fill(2);
    gather_init(&gather, data);
    fake.file_reads = 0;
}

static void
teardown(void)
{
    gather_reset(&gather);
    data_destroy(data);
    fake_fini(&fake);
}

/* The record is read rightly, by `reads` calls. */
static void
check_record(unsigned file, unsigned i, unsigned reads)
{
    uint8_t back[RECORD], wanted[RECORD];
    unsigned before = fake.file_reads;
    memset(wanted, (int)((file + 1) * 100 + i), sizeof wanted);
    memset(back, 0, sizeof back);
    ck_assert_int_eq(gather_read(&gather, records[file][i], 0, back, RECORD), MSHM_OK);
    ck_assert_msg(memcmp(back, wanted, RECORD) == 0, "record %u of file %u", i, file + 1);
    ck_assert_uint_eq(fake.file_reads - before, reads);
}

START_TEST(neighbours_come_with_one_read_whatever_their_order)
{
    for (unsigned i = 0; i < RECORDS; i += 2) {
        gather_want(&gather, records[1][(i + 99) % RECORDS]); /* the odd ones */
        gather_want(&gather, records[0][RECORDS - 1 - i]);
    }
    gather_fetch(&gather);
    ck_assert_uint_eq(fake.file_reads, 2);
    for (unsigned i = 0; i < RECORDS; i++) {
        check_record(0, i, i == 0); /* between two odd ones, but for the first */
        check_record(1, i, i == 0);
    }
}
END_TEST

START_TEST(what_is_far_from_everything_has_a_read_of_its_own)
{
    const unsigned far = GATHER_GAP / RECORD + 2; /* from the record before it, whose end counts */
    gather_want(&gather, records[0][0]);
    gather_want(&gather, records[0][far]);
    gather_fetch(&gather);
    ck_assert_uint_eq(fake.file_reads, 2);
    check_record(0, 0, 0);
    check_record(0, far, 0);
    check_record(0, far - 1, 1);
    gather_reset(&gather);
    gather_want(&gather, records[0][0]);
    gather_want(&gather, records[0][far - 1]);
    gather_fetch(&gather);
    ck_assert_uint_eq(fake.file_reads, 4);
    check_record(0, far - 1, 0);
    check_record(0, far, 1);
}
END_TEST

START_TEST(reads_begin_and_end_where_the_disk_likes_it)
{
    fake.env.file_read_many = read_many;
    fake.env.read_unit = UNIT;
    for (unsigned i = 1; i < RECORDS; i += 50) {
        gather_want(&gather, records[0][i]);
        gather_want(&gather, records[1][RECORDS - 1 - i]);
    }
    gather_want(&gather, records[1][RECORDS - 1]); /* the file ends in the middle of a unit */
    gather_fetch(&gather);
    ck_assert_uint_eq(many_calls, 1);
    ck_assert_uint_eq(many_reads, fake.file_reads);
    for (unsigned i = 1; i < RECORDS; i += 50) {
        check_record(0, i, 0);
        check_record(1, RECORDS - 1 - i, 0);
    }
    check_record(1, RECORDS - 1, 0);
    /* What fails is read by itself, and says what is wrong then. */
    gather_reset(&gather);
    gather_want(&gather, records[0][7]);
    gather_want(&gather, records[1][7]);
    fake.file_read_fail = 1;
    gather_fetch(&gather);
    check_record(0, 7, 1);
    check_record(1, 7, 0);
}
END_TEST

START_TEST(a_second_fetch_adds_to_the_first)
{
    gather_want(&gather, records[1][10]);
    gather_want(&gather, records[1][11]);
    gather_fetch(&gather);
    gather_want(&gather, records[0][20]);
    gather_want(&gather, records[1][11]); /* is there */
    gather_want(&gather, records[0][21]);
    gather_fetch(&gather);
    ck_assert_uint_eq(fake.file_reads, 2);
    check_record(1, 10, 0);
    check_record(1, 11, 0);
    check_record(0, 20, 0);
    check_record(0, 21, 0);
    gather_reset(&gather);
    check_record(1, 10, 1);
}
END_TEST

START_TEST(what_cannot_be_fetched_has_its_own_status)
{
    uint8_t back[RECORD];
    for (unsigned i = 0; i < 8; i++) {
        gather_want(&gather, records[0][i]);
        gather_want(&gather, records[1][i]);
    }
    fake.file_read_fail = 1;
    gather_fetch(&gather); /* of the first file nothing */
    ck_assert_uint_eq(fake.file_reads, 2);
    check_record(0, 3, 1);
    check_record(1, 3, 0);
    fake.file_read_fail = 1;
    ck_assert_int_eq(gather_read(&gather, records[0][3], 0, back, RECORD), MSHM_IO);
    /* No record leads out of its bytes, wherever those are. */
    ck_assert_int_eq(gather_read(&gather, records[1][3], 1, back, RECORD), MSHM_CORRUPT);
    ck_assert_int_eq(gather_read(&gather, records[1][3], RECORD + 1, back, 0), MSHM_CORRUPT);
    /* A file that is not there, and places behind the end of one that is. */
    gather_want(&gather, data_location_make(3, 0, 4096, RECORD));
    gather_want(&gather, data_location_make(3, 0, 8192, RECORD));
    gather_want(&gather, data_location_make(1, 0, FILE_SIZE, RECORD));
    gather_want(&gather, data_location_make(1, 0, FILE_SIZE + 1024, RECORD));
    gather_fetch(&gather);
    ck_assert_int_eq(gather_read(&gather, data_location_make(3, 0, 4096, RECORD), 0, back, 1),
                     MSHM_CORRUPT);
    ck_assert_int_eq(gather_read(&gather, data_location_make(1, 0, FILE_SIZE, RECORD), 0, back, 1),
                     MSHM_CORRUPT);
}
END_TEST

START_TEST(more_than_its_memory_holds_is_read_by_itself)
{
    for (unsigned i = 0; i < GATHER_WANTED + 50; i++)
        gather_want(&gather, records[i % 2][i / 2 % RECORDS]);
    gather_fetch(&gather);
    ck_assert_uint_le(gather.run_count, GATHER_RUNS);
    ck_assert_uint_eq(fake.file_reads, 2);
    for (unsigned i = 0; i < RECORDS; i++)
        check_record(i % 2, i, 0);
}
END_TEST

int
main(void)
{
    Suite *suite = suite_create("data_gather");
    TCase *cases = tcase_create("cases");
    SRunner *runner = srunner_create(suite);

    suite_add_tcase(suite, cases);
    tcase_add_checked_fixture(cases, setup, teardown);
    tcase_add_test(cases, neighbours_come_with_one_read_whatever_their_order);
    tcase_add_test(cases, what_is_far_from_everything_has_a_read_of_its_own);
    tcase_add_test(cases, reads_begin_and_end_where_the_disk_likes_it);
    tcase_add_test(cases, a_second_fetch_adds_to_the_first);
    tcase_add_test(cases, what_cannot_be_fetched_has_its_own_status);
    tcase_add_test(cases, more_than_its_memory_holds_is_read_by_itself);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
