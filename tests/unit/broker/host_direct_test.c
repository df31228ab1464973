/* host_direct_test.c - ranges at odd places, read in whole blocks: what arrives is what was asked for, at the end of the file and
 * after short answers, too. */
#include "host_direct.h"

#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "host_read.h"

enum { BLOCK = HOST_DIRECT_BLOCK, FILE_SIZE = 5 * BLOCK + 777 };

static uint8_t file[FILE_SIZE], to[FILE_SIZE];

static void
setup(void)
{
    for (size_t i = 0; i < sizeof file; i++)
        file[i] = (uint8_t)(i * 7 + i / 256);
}

/* Answers a read as a disk would that gives `most` bytes at a time. */
static int64_t
answer_all(struct host_read *read, size_t most)
{
    while (!read->done) {
        ck_assert_uint_eq(
            (read->offset | (uintptr_t)read->at | host_read_chunk(read)) % read->range.unit, 0);
        size_t size = host_read_chunk(read) < most ? host_read_chunk(read) : most;
        if (read->offset >= FILE_SIZE)
            size = 0;
        else if (size > FILE_SIZE - read->offset)
            size = (size_t)(FILE_SIZE - read->offset);
        if (size > 0)
            memcpy(read->at, file + read->offset, size);
        host_read_answer(read, (int64_t)size);
    }
    return read->result;
}

static void
range_is_read(uint32_t unit, uint64_t offset, size_t size, size_t most)
{
    struct host_read read;
    size_t there = offset >= FILE_SIZE         ? 0
                   : size > FILE_SIZE - offset ? (size_t)(FILE_SIZE - offset)
                                               : size;

    memset(to, 0xee, sizeof to);
    ck_assert_int_eq(host_read_init_direct(&read, 3, unit, offset, to, size, 42), 0);
    ck_assert_int_eq(answer_all(&read, most), (int64_t)there);
    ck_assert_uint_eq(read.tag, 42);
    ck_assert(there == 0 || memcmp(to, file + offset, there) == 0);
    for (size_t i = there; i < there + 64 && i < sizeof to; i++)
        ck_assert_uint_eq(to[i], 0xee); /* and nothing behind it */
}

START_TEST(ranges_anywhere_arrive_whole_and_short_at_the_end)
{
    static const uint64_t offsets[] = {0,
                                       1,
                                       64,
                                       BLOCK - 1,
                                       BLOCK,
                                       BLOCK + 640,
                                       FILE_SIZE - 1,
                                       FILE_SIZE - 900,
                                       FILE_SIZE,
                                       FILE_SIZE + BLOCK};
    static const size_t sizes[] = {0, 1, 63, 700, BLOCK - 1, BLOCK, BLOCK + 1, 2 * BLOCK + 100};

    for (size_t i = 0; i < sizeof offsets / sizeof offsets[0]; i++)
        for (size_t j = 0; j < sizeof sizes / sizeof sizes[0]; j++) {
            range_is_read(BLOCK, offsets[i], sizes[j], SIZE_MAX);
            range_is_read(BLOCK, offsets[i], sizes[j], BLOCK);
            range_is_read(512, offsets[i], sizes[j], SIZE_MAX);
            range_is_read(512, offsets[i], sizes[j], 1024);
        }
}
END_TEST

START_TEST(an_error_is_an_error_and_nothing_is_copied)
{
    struct host_read read;

    memset(to, 0xee, sizeof to);
    ck_assert_int_eq(host_read_init_direct(&read, 3, BLOCK, 100, to, 50, 1), 0);
    host_read_answer(&read, -EIO);
    ck_assert(read.done);
    ck_assert_int_eq(read.result, -EIO);
    ck_assert_uint_eq(to[0], 0xee);
}
END_TEST

START_TEST(a_real_file_gives_the_same)
{
    char directory[] = "/tmp/mace-direct-XXXXXX";

    ck_assert_ptr_nonnull(mkdtemp(directory));
    int at = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (host_direct_probe(at) == 0) {
        int fd = openat(at, "file", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
        ck_assert_int_eq(write(fd, file, sizeof file), sizeof file);
        int direct = openat(at, "file", O_RDONLY | O_DIRECT | O_CLOEXEC);
        uint32_t least = host_direct_read_unit(at);
        ck_assert(least == 512 || least == BLOCK);
        for (uint32_t unit = least; unit <= BLOCK; unit *= 2) {
            ck_assert_int_eq(host_direct_read(direct, unit, 333, to, 2 * BLOCK), 2 * BLOCK);
            ck_assert_mem_eq(to, file + 333, 2 * BLOCK);
            ck_assert_int_eq(host_direct_read(direct, unit, FILE_SIZE - 99, to, 200), 99);
            ck_assert_mem_eq(to, file + FILE_SIZE - 99, 99);
            ck_assert_int_eq(host_direct_read(direct, unit, FILE_SIZE + 9999, to, 10), 0);
            ck_assert_int_eq(host_direct_read(-1, unit, 0, to, 10), -EBADF);
        }
        close(direct);
        close(fd);
        unlinkat(at, "file", 0);
    }
    close(at);
    ck_assert_int_eq(rmdir(directory), 0); /* the probe has left nothing */
}
END_TEST

int
main(void)
{
    Suite *suite = suite_create("host_direct");
    TCase *cases = tcase_create("direct");
    SRunner *runner = srunner_create(suite);

    suite_add_tcase(suite, cases);
    tcase_add_checked_fixture(cases, setup, NULL);
    tcase_add_test(cases, ranges_anywhere_arrive_whole_and_short_at_the_end);
    tcase_add_test(cases, an_error_is_an_error_and_nothing_is_copied);
    tcase_add_test(cases, a_real_file_gives_the_same);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
