/* host_files_test.c - the file functions of env.h on a real directory, and the job threads. */
#include "host_files.h"

#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "host_ahead.h"
#include "host_jobs.h"

/* Every sync of this program comes by here: that it was asked for cannot be seen on a disk that goes on. */
static unsigned file_syncs, directory_syncs;

static void
sync_count(int fd)
{
    struct stat state;

    ck_assert_int_eq(fstat(fd, &state), 0);
    *(S_ISDIR(state.st_mode) ? &directory_syncs : &file_syncs) += 1;
}

int
fsync(int fd)
{
    sync_count(fd);
    return (int)syscall(SYS_fsync, fd);
}

int
fdatasync(int fd)
{
    sync_count(fd);
    return (int)syscall(SYS_fdatasync, fd);
}

/* The same for what the kernel is told of reads to come: 0: nothing yet. */
static int advice;
static unsigned advices;

int
posix_fadvise(int fd, off_t offset, off_t size, int what)
{
    advice = what;
    advices++;
    return (int)syscall(SYS_fadvise64, fd, offset, size, what);
}

static char directory[] = "/tmp/mace-files-XXXXXX";
static struct host_files files;
static struct env env;

static void
setup(void)
{
    ck_assert_ptr_nonnull(mkdtemp(directory));
    files.directory = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    files.mappable = true;
    env.context = &files;
    host_files_fill(&env);
}

static void
teardown(void)
{
    char command[100];

    snprintf(command, sizeof(command), "rm -rf %s", directory);
    ck_assert_int_eq(system(command), 0);
}

static struct env_file *
file_create(const char *name)
{
    struct env_file *file;

    ck_assert_int_eq(env.file_open(&files, name, ENV_OPEN_CREATE | ENV_OPEN_WRITE, &file), 0);
    return file;
}

START_TEST(a_file_is_created_once_and_then_found)
{
    struct env_file *file, *untouched = (struct env_file *)&files;

    ck_assert_int_eq(env.file_open(&files, "f", ENV_OPEN_WRITE, &untouched), -ENOENT);
    ck_assert_ptr_eq(untouched, &files);
    env.file_close(&files, file_create("f"));
    ck_assert_int_eq(env.file_open(&files, "f", ENV_OPEN_CREATE | ENV_OPEN_WRITE, &untouched),
                     -EEXIST);
    ck_assert_int_eq(env.file_open(&files, "f", ENV_OPEN_EXISTING, &file), 0);
    ck_assert_int_eq(env.file_write(&files, file, 0, "x", 1), -EBADF);
    env.file_close(&files, file);
}
END_TEST

START_TEST(what_was_written_is_read_back_and_the_end_is_short)
{
    struct env_file *file = file_create("f");
    char back[20];

    ck_assert_int_eq(env.file_write(&files, file, 5, "hello", 5), 0);
    ck_assert_int_eq(env.file_size(&files, file), 10);
    ck_assert_int_eq(env.file_read(&files, file, 0, back, 20), 10);
    ck_assert_mem_eq(back, "\0\0\0\0\0hello", 10);
    ck_assert_int_eq(env.file_read(&files, file, 10, back, 20), 0);
    ck_assert_int_eq(env.file_read(&files, file, 8, back, 1), 1);
    ck_assert_int_eq(back[0], 'l');
    unsigned syncs = file_syncs;
    ck_assert_int_eq(env.file_sync(&files, file), 0);
    ck_assert_uint_eq(file_syncs, syncs + 1);
    env.file_close(&files, file);
}
END_TEST

START_TEST(preallocation_sets_size_and_reserves_blocks)
{
    struct env_file *file = file_create("f");
    struct stat status;

    ck_assert_int_eq(env.file_preallocate(&files, file, 1 << 20), 0);
    ck_assert_int_eq(env.file_size(&files, file), 1 << 20);
    ck_assert_int_eq(fstat(host_file_descriptor(file), &status), 0);
    ck_assert_int_ge(status.st_blocks * 512, 1 << 20);
    /* What is there stays. */
    ck_assert_int_eq(env.file_write(&files, file, 0, "keep", 4), 0);
    ck_assert_int_eq(env.file_preallocate(&files, file, 2 << 20), 0);
    char back[4];
    ck_assert_int_eq(env.file_read(&files, file, 0, back, 4), 4);
    ck_assert_mem_eq(back, "keep", 4);
    env.file_close(&files, file);
}
END_TEST

START_TEST(a_size_limit_is_an_error_and_no_signal)
{
    struct rlimit limit = {.rlim_cur = 1000, .rlim_max = RLIM_INFINITY};
    struct env_file *file = file_create("f");

    signal(SIGXFSZ, SIG_IGN);
    ck_assert_int_eq(setrlimit(RLIMIT_FSIZE, &limit), 0);
    static char block[4000];
    ck_assert_int_eq(env.file_write(&files, file, 0, block, sizeof(block)), -EFBIG);
    ck_assert_int_eq(env.file_preallocate(&files, file, 4000), -EFBIG);
    env.file_close(&files, file);
}
END_TEST

START_TEST(stores_through_a_mapping_are_in_the_file)
{
    struct env_file *file = file_create("f");
    static char zeros[65536], back[5];
    void *address;

    ck_assert_int_eq(env.file_write(&files, file, 0, zeros, sizeof(zeros)), 0);
    ck_assert_int_eq(env.file_map(&files, file, sizeof(zeros), &address), 0);
    memcpy((char *)address + 60000, "store", 5);
    ck_assert_int_eq(env.file_read(&files, file, 60000, back, 5), 5);
    ck_assert_mem_eq(back, "store", 5);
    env.file_unmap(&files, address, sizeof(zeros));
    files.mappable = false;
    ck_assert_int_eq(env.file_map(&files, file, sizeof(zeros), &address), -EOPNOTSUPP);
    env.file_close(&files, file);
}
END_TEST

static int
collect(const char *name, void *argument)
{
    strcat(argument, name);
    strcat(argument, " ");
    return strcmp(name, "stop") == 0 ? 77 : 0;
}

START_TEST(directories_are_made_listed_and_synced)
{
    char names[200] = "";

    ck_assert_int_eq(env.directory_create(&files, "wal"), 0);
    ck_assert_int_eq(env.directory_create(&files, "wal"), 0);
    env.file_close(&files, file_create("wal/1"));
    ck_assert_int_eq(env.directory_sync(&files, "wal"), 0);
    ck_assert_uint_eq(directory_syncs, 1);
    ck_assert_int_eq(env.directory_sync(&files, ""), 0);
    ck_assert_uint_eq(directory_syncs, 2);
    ck_assert_int_eq(env.directory_sync(&files, "none"), -ENOENT);
    ck_assert_int_eq(env.directory_list(&files, "wal", collect, names), 0);
    ck_assert_str_eq(names, "1 ");
    names[0] = '\0';
    ck_assert_int_eq(env.directory_list(&files, "", collect, names), 0);
    ck_assert_str_eq(names, "wal ");
    env.file_close(&files, file_create("wal/stop"));
    ck_assert_int_eq(env.directory_list(&files, "wal", collect, names), 77);
    ck_assert_int_eq(env.directory_list(&files, "none", collect, names), -ENOENT);
}
END_TEST

START_TEST(files_are_renamed_over_others_and_removed)
{
    struct env_file *file = file_create("a");

    ck_assert_int_eq(env.file_write(&files, file, 0, "a", 1), 0);
    env.file_close(&files, file);
    env.file_close(&files, file_create("b"));
    ck_assert_int_eq(env.file_rename(&files, "a", "b"), 0);
    ck_assert_int_eq(env.file_open(&files, "b", ENV_OPEN_EXISTING, &file), 0);
    ck_assert_int_eq(env.file_size(&files, file), 1);
    env.file_close(&files, file);
    ck_assert_int_eq(env.file_rename(&files, "a", "b"), -ENOENT);
    ck_assert_int_eq(env.file_remove(&files, "b"), 0);
    ck_assert_int_eq(env.file_remove(&files, "b"), -ENOENT);
}
END_TEST

START_TEST(a_link_in_place_of_a_file_is_not_followed)
{
    struct env_file *file;

    ck_assert_int_eq(symlinkat("/etc/passwd", files.directory, "link"), 0);
    ck_assert_int_eq(env.file_open(&files, "link", ENV_OPEN_EXISTING, &file), -ELOOP);
}
END_TEST

START_TEST(no_descriptor_is_inherited)
{
    struct env_file *file = file_create("f");

    ck_assert_int_eq(fcntl(host_file_descriptor(file), F_GETFD) & FD_CLOEXEC, FD_CLOEXEC);
    env.file_close(&files, file);
}
END_TEST

enum { RECORD = 6400 };

/* Tells of `count` reads that follow each other, the first one at `offset`. Returns where the next one would be. */
static uint64_t
reads_tell(struct env_file *file, uint64_t offset, unsigned count)
{
    for (unsigned i = 0; i < count; i++, offset += RECORD)
        ck_assert_int_eq(host_file_reads(file, offset, RECORD), host_file_descriptor(file));
    return offset;
}

START_TEST(the_kernel_does_not_read_ahead_of_short_walks)
{
    struct env_file *file = file_create("f");

    advices = 0;
    for (unsigned i = 0; i < 100; i++)
        reads_tell(file, (i * 7919 % 100) * UINT64_C(1000000), 1 + i % 4);
    ck_assert_uint_eq(advices, 1);
    ck_assert_int_eq(advice, POSIX_FADV_RANDOM);
    env.file_close(&files, file);
}
END_TEST

START_TEST(the_kernel_reads_ahead_of_a_scan_until_it_ends)
{
    struct env_file *file = file_create("f");
    uint64_t at = 5000000;

    for (unsigned i = 0; i < 10;
         i++) { /* around pages that are in memory, and one that lies elsewhere */
        at = reads_tell(file, at, HOST_AHEAD_LEAST) + 3 * RECORD;
        ck_assert_int_eq(advice, i == 0 ? POSIX_FADV_RANDOM : POSIX_FADV_NORMAL);
        if (i == 5)
            reads_tell(file, 900000000, 1);
    }
    advices = 0;
    for (unsigned i = 0; i < HOST_AHEAD_MOST / HOST_AHEAD_BREAK; i++)
        reads_tell(file, (i + 1) * UINT64_C(100000000), 1);
    ck_assert_uint_eq(advices, 1);
    ck_assert_int_eq(advice, POSIX_FADV_RANDOM);
    env.file_close(&files, file);
}
END_TEST

/* --- jobs ----------------------------------------------------------------------------------------------------------- */

static struct env_completion
job_wait(struct host_jobs *jobs)
{
    struct env_completion ended;

    while (host_jobs_poll(jobs, &ended, 1) == 0) {
        struct pollfd ready = {.fd = jobs->done.event, .events = POLLIN};
        ck_assert_int_eq(poll(&ready, 1, 10000), 1);
    }
    return ended;
}

static int
job_double(void *argument)
{
    return *(int *)argument * 2;
}

START_TEST(each_job_runs_once_and_brings_its_result)
{
    struct host_jobs jobs;
    int numbers[300];
    unsigned seen[300] = {0};

    ck_assert_int_eq(host_jobs_open(&jobs, 4), 0);
    ck_assert_uint_eq(jobs.thread_count, 4);
    for (int i = 0; i < 300; i++) {
        numbers[i] = i;
        host_jobs_start(&jobs, job_double, &numbers[i], 1000 + (unsigned)i);
    }
    for (unsigned i = 0; i < 300; i++) {
        struct env_completion ended = job_wait(&jobs), none;
        ck_assert_uint_lt(ended.tag - 1000, 300);
        ck_assert_int_eq(ended.result, (int)(ended.tag - 1000) * 2);
        ck_assert_uint_eq(seen[ended.tag - 1000]++, 0);
        if (i == 299)
            ck_assert_uint_eq(host_jobs_poll(&jobs, &none, 1), 0);
    }
    ck_assert_uint_eq(jobs.under_way, 0);
    host_jobs_close(&jobs);
}
END_TEST

static int
job_until_written(void *argument)
{
    char byte;

    return read(*(int *)argument, &byte, 1) == 1 ? 7 : -EIO;
}

/* With one processor, too. */
START_TEST(a_long_job_does_not_hold_up_a_short_one)
{
    struct host_jobs jobs;
    int ends[2], number = 21;

    ck_assert_int_eq(pipe(ends), 0);
    ck_assert_int_eq(host_jobs_open(&jobs, 1), 0);
    ck_assert_uint_eq(jobs.thread_count, HOST_JOBS_THREADS_LEAST);
    host_jobs_start(&jobs, job_until_written, &ends[0], 1);
    host_jobs_start(&jobs, job_double, &number, 2);
    struct env_completion ended = job_wait(&jobs);
    ck_assert_uint_eq(ended.tag, 2);
    ck_assert_int_eq(ended.result, 42);
    ck_assert_int_eq(write(ends[1], "x", 1), 1);
    ended = job_wait(&jobs);
    ck_assert_uint_eq(ended.tag, 1);
    ck_assert_int_eq(ended.result, 7);
    host_jobs_close(&jobs);
}
END_TEST

static int
job_count(void *argument)
{
    return (int)AO_fetch_and_add1((AO_t *)argument);
}

START_TEST(closing_runs_what_was_started)
{
    struct host_jobs jobs;
    AO_t counter = 0;

    ck_assert_int_eq(host_jobs_open(&jobs, 3), 0);
    for (unsigned i = 0; i < 50; i++)
        host_jobs_start(&jobs, job_count, &counter, i);
    host_jobs_close(&jobs);
    ck_assert_uint_eq(AO_load(&counter), 50);
}
END_TEST

int
main(void)
{
    Suite *suite = suite_create("host_files");
    TCase *cases = tcase_create("files"), *jobs = tcase_create("jobs");
    SRunner *runner = srunner_create(suite);

    suite_add_tcase(suite, cases);
    tcase_add_checked_fixture(cases, setup, teardown);
    tcase_add_test(cases, a_file_is_created_once_and_then_found);
    tcase_add_test(cases, what_was_written_is_read_back_and_the_end_is_short);
    tcase_add_test(cases, preallocation_sets_size_and_reserves_blocks);
    tcase_add_test(cases, a_size_limit_is_an_error_and_no_signal);
    tcase_add_test(cases, stores_through_a_mapping_are_in_the_file);
    tcase_add_test(cases, directories_are_made_listed_and_synced);
    tcase_add_test(cases, files_are_renamed_over_others_and_removed);
    tcase_add_test(cases, a_link_in_place_of_a_file_is_not_followed);
    tcase_add_test(cases, no_descriptor_is_inherited);
    tcase_add_test(cases, the_kernel_does_not_read_ahead_of_short_walks);
    tcase_add_test(cases, the_kernel_reads_ahead_of_a_scan_until_it_ends);
    suite_add_tcase(suite, jobs);
    tcase_add_test(jobs, each_job_runs_once_and_brings_its_result);
    tcase_add_test(jobs, a_long_job_does_not_hold_up_a_short_one);
    tcase_add_test(jobs, closing_runs_what_was_started);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
