/* host_many_test.c - many reads at once: with a ring past the page cache, from the page cache where the bytes are there, and
 * with system calls alone. */
#include "host_many.h"

#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "host_direct.h"
#include "host_files.h"

enum { BLOCK = 4096, BLOCKS = 400, SIZE = BLOCKS * BLOCK + 700, READS = 300, CACHED = 64 };

enum way { WAY_RING, WAY_CALLS, WAY_NO_DIRECT, WAY_ALL_DIRECT, WAYS };

static char directory[] = "/tmp/mace-many-XXXXXX";
static struct host_files files;
static struct env env;
static struct env_file *file;
static uint8_t *bytes, *back;
static struct env_read reads[READS];

/* The file's first blocks are in the page cache, the others are not. */
static void
setup(void)
{
    uint32_t state = 1;
    memcpy(directory + sizeof(directory) - 7, "XXXXXX", 6);
    ck_assert_ptr_nonnull(mkdtemp(directory));
    files = (struct host_files){.directory = open(directory, O_RDONLY | O_DIRECTORY)};
    host_files_fill(&env);
    bytes = malloc(SIZE);
    back = aligned_alloc(BLOCK, (size_t)READS * 2 * BLOCK);
    for (unsigned i = 0; i < SIZE; i++) {
        state = state * 1664525 + 1013904223;
        bytes[i] = (uint8_t)(state >> 24);
    }
    ck_assert_int_eq(env.directory_create(&files, "data"), 0);
    ck_assert_int_eq(env.file_open(&files, "data/f", ENV_OPEN_CREATE | ENV_OPEN_WRITE, &file), 0);
    ck_assert_int_eq(env.file_write(&files, file, 0, bytes, SIZE), 0);
    ck_assert_int_eq(env.file_sync(&files, file), 0);
    env.file_close(&files, file);
}

static void
begin(enum way way)
{
    uint32_t unit = host_direct_read_unit(files.directory);
    files.read_unit = way == WAY_NO_DIRECT ? 0 : unit;
    files.direct = way == WAY_ALL_DIRECT && unit > 0;
    if (way != WAY_CALLS)
        (void)host_many_open(&files.many);
    ck_assert_int_eq(env.file_open(&files, "data/f", ENV_OPEN_EXISTING, &file), 0);
    int fd = host_file_descriptor(file);
    ck_assert_int_eq(posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED), 0);
    ck_assert_int_eq(posix_fadvise(fd, 0, 0, POSIX_FADV_RANDOM), 0); /* nothing is read ahead */
    for (unsigned i = 0; i < CACHED; i++)
        ck_assert_int_eq(pread(fd, back, BLOCK, i * BLOCK), BLOCK);
}

static void
teardown(void)
{
    char command[64];
    env.file_close(&files, file);
    host_many_close(files.many);
    close(files.directory);
    snprintf(command, sizeof command, "rm -rf %s", directory);
    ck_assert_int_eq(system(command), 0);
    free(bytes);
    free(back);
}

static void
read_set(unsigned i, uint64_t offset, size_t size)
{
    uint8_t *to = back + (size_t)i * 2 * BLOCK;
    memset(to, 0, 2 * BLOCK);
    reads[i] = (struct env_read){.file = file, .offset = offset, .to = to, .size = size};
}

static void
read_expect(unsigned i)
{
    const struct env_read *read = &reads[i];
    size_t there = read->offset >= SIZE               ? 0
                   : read->offset + read->size > SIZE ? SIZE - read->offset
                                                      : read->size;
    ck_assert_msg(read->result == (int64_t)there, "read %u at %llu: %lld", i,
                  (unsigned long long)read->offset, (long long)read->result);
    ck_assert_int_eq(memcmp(read->to, bytes + read->offset, there), 0);
}

START_TEST(every_read_brings_its_bytes_whatever_the_way)
{
    begin((enum way)_i);
    for (unsigned i = 0; i < READS; i++)
        read_set(i, (uint64_t)(i * 7919 % BLOCKS) * BLOCK, BLOCK + i % 2 * BLOCK);
    for (unsigned i = 0; i < 20; i++) /* as nobody likes them */
        read_set(i, i * 9001 + 1, 100 + i * 77);
    read_set(20, BLOCKS * BLOCK, BLOCK); /* the end of the file is in it, */
    read_set(21, (BLOCKS - 1) * BLOCK, 2 * BLOCK);
    read_set(22, (BLOCKS + 1) * BLOCK, BLOCK);     /* or before it */
    read_set(23, (CACHED - 1) * BLOCK, 2 * BLOCK); /* half of it is in the page cache */
    env.file_read_many(&files, reads, READS);
    for (unsigned i = 0; i < READS; i++)
        read_expect(i);
}
END_TEST

/* What was not in the page cache is not there afterwards either, as far as a read brought whole pages of it. */
START_TEST(the_page_cache_is_left_alone)
{
    begin((enum way)_i);
    void *map = host_many_map(host_file_descriptor(file));
    ck_assert_ptr_nonnull(map);
    ck_assert(host_many_cached(map, 0, CACHED * BLOCK));
    ck_assert(host_many_cached(map, CACHED * BLOCK - 1, 1));
    ck_assert(!host_many_cached(map, (BLOCKS - 1) * BLOCK, BLOCK));
    ck_assert(!host_many_cached(map, (CACHED - 1) * BLOCK, 2 * BLOCK)); /* all or nothing */
    for (unsigned i = 0; i < READS; i++)
        read_set(i, (uint64_t)(BLOCKS - READS + i) * BLOCK, BLOCK);
    env.file_read_many(&files, reads, READS);
    for (unsigned i = 0; i < READS; i++) {
        read_expect(i);
        ck_assert_msg(!host_many_cached(map, reads[i].offset, BLOCK), "block %u", i);
    }
    read_set(0, 0, BLOCK);
    env.file_read_many(&files, reads, 1);
    read_expect(0);
    if (!files.direct)
        ck_assert(host_many_cached(map, 0, BLOCK));
    host_many_unmap(map);
}
END_TEST

START_TEST(what_is_no_place_of_a_file_is_not_cached)
{
    begin(WAY_RING);
    void *map = host_many_map(host_file_descriptor(file));
    ck_assert(!host_many_cached(NULL, 0, 1));
    ck_assert(!host_many_cached(map, UINT64_C(1) << 30, 1));
    ck_assert(!host_many_cached(map, (UINT64_C(1) << 30) - 1, 2));
    ck_assert(!host_many_cached(map, (BLOCKS + 10) * BLOCK, 1));
    host_many_unmap(map);
    host_many_unmap(NULL);
}
END_TEST

/* A descriptor that cannot be read: each read says so. */
START_TEST(a_read_that_fails_says_why)
{
    begin((enum way)_i);
    int null = open("/dev/null", O_WRONLY);
    ck_assert_int_eq(dup2(null, host_file_descriptor(file)), host_file_descriptor(file));
    if (host_file_direct(file) >= 0)
        ck_assert_int_eq(dup2(null, host_file_direct(file)), host_file_direct(file));
    close(null);
    for (unsigned i = 0; i < 3; i++)
        read_set(i, 1 + i, 100); /* not for the ring */
    env.file_read_many(&files, reads, 3);
    for (unsigned i = 0; i < 3; i++)
        ck_assert_int_eq(reads[i].result, -EBADF);
}
END_TEST

int
main(void)
{
    Suite *suite = suite_create("host_many");
    TCase *cases = tcase_create("cases");
    SRunner *runner = srunner_create(suite);

    suite_add_tcase(suite, cases);
    tcase_add_checked_fixture(cases, setup, teardown);
    tcase_add_loop_test(cases, every_read_brings_its_bytes_whatever_the_way, 0, WAYS);
    tcase_add_loop_test(cases, the_page_cache_is_left_alone, 0, WAYS);
    tcase_add_test(cases, what_is_no_place_of_a_file_is_not_cached);
    tcase_add_loop_test(cases, a_read_that_fails_says_why, 0, WAYS);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
