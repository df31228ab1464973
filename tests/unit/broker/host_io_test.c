/* host_io_test.c - appends and reads: the states of one, and both backends on a real file. */
#include "host_io.h"

#include <check.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <liburing.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "host_append.h"
#include "host_read.h"

/* --- the states of one append --------------------------------------------------------------------------------------- */

static const char bytes[10000] = "bytes";

static struct host_append
append_of(size_t size, bool sync)
{
    struct host_append append;

    host_append_init(&append, 5, 1000, bytes, size, sync, 7);
    return append;
}

START_TEST(a_full_write_and_the_sync_behind_it_are_done)
{
    struct host_append append = append_of(100, true);

    ck_assert_int_eq(append.step, HOST_APPEND_WRITE);
    ck_assert(host_append_linked(&append));
    host_append_answer(&append, 100, 0);
    ck_assert_int_eq(append.step, HOST_APPEND_DONE);
    ck_assert_int_eq(append.result, 0);
}
END_TEST

START_TEST(a_short_write_goes_on_behind_it_and_is_synced_anew)
{
    struct host_append append = append_of(100, true);

    host_append_answer(&append, 60, -ECANCELED);
    ck_assert_int_eq(append.step, HOST_APPEND_WRITE);
    ck_assert_uint_eq(append.offset, 1060);
    ck_assert_ptr_eq(append.at, bytes + 60);
    ck_assert_uint_eq(host_append_chunk(&append), 40);
    ck_assert(host_append_linked(&append));
    host_append_answer(&append, 40, 0);
    ck_assert_int_eq(append.step, HOST_APPEND_DONE);
    ck_assert_int_eq(append.result, 0);
}
END_TEST

START_TEST(a_sync_that_ran_behind_a_part_does_not_count)
{
    struct host_append append = append_of(100, true);

    host_append_answer(&append, 60, 0); /* a kernel that does not break the link */
    ck_assert_int_eq(append.step, HOST_APPEND_WRITE);
    host_append_answer(&append, 40, -ECANCELED);
    ck_assert_int_eq(append.step, HOST_APPEND_SYNC);
    host_append_answer(&append, 0, 0);
    ck_assert_int_eq(append.step, HOST_APPEND_DONE);
    ck_assert_int_eq(append.result, 0);
}
END_TEST

START_TEST(a_failed_sync_is_never_asked_for_again)
{
    struct host_append append = append_of(100, true);

    host_append_answer(&append, 100, -EIO);
    ck_assert_int_eq(append.step, HOST_APPEND_DONE);
    ck_assert_int_eq(append.result, -EIO);
    append = append_of(100, true);
    host_append_answer(&append, 50, -EIO); /* behind a part */
    ck_assert_int_eq(append.step, HOST_APPEND_DONE);
    ck_assert_int_eq(append.result, -EIO);
}
END_TEST

START_TEST(a_write_that_did_nothing_is_tried_again_within_bounds)
{
    struct host_append append = append_of(100, false);
    int tries = 0;

    host_append_answer(&append, -EAGAIN, -ECANCELED);
    ck_assert_int_eq(append.step, HOST_APPEND_WRITE);
    host_append_answer(&append, 100, -ECANCELED);
    ck_assert_int_eq(append.step, HOST_APPEND_DONE);
    ck_assert_int_eq(append.result, 0);
    append = append_of(100, false);
    for (; append.step != HOST_APPEND_DONE; tries++)
        host_append_answer(&append, -EINTR, -ECANCELED);
    ck_assert_int_eq(append.result, -EINTR);
    ck_assert_int_eq(tries, HOST_APPEND_MAX_RETRIES + 1);
}
END_TEST

START_TEST(errors_and_impossible_answers_end_it)
{
    static const int64_t answers[][2] = {
        {-ENOSPC, -ENOSPC}, {-EIO, -EIO}, {0, -EIO}, {101, -EIO}, {-EFBIG, -EFBIG}};

    for (size_t i = 0; i < sizeof(answers) / sizeof(answers[0]); i++) {
        struct host_append append = append_of(100, true);
        host_append_answer(&append, answers[i][0], -ECANCELED);
        ck_assert_int_eq(append.step, HOST_APPEND_DONE);
        ck_assert_int_eq(append.result, answers[i][1]);
    }
}
END_TEST

START_TEST(an_empty_append_only_syncs)
{
    struct host_append append = append_of(0, true);

    ck_assert_int_eq(append.step, HOST_APPEND_SYNC);
    append = append_of(0, false);
    ck_assert_int_eq(append.step, HOST_APPEND_DONE);
}
END_TEST

/* --- the states of one read ----------------------------------------------------------------------------------------- */

static char target[100];

static struct host_read
read_of(size_t size)
{
    struct host_read read;

    host_read_init(&read, 5, 1000, target, size, 7);
    return read;
}

START_TEST(a_short_read_goes_on_behind_it_until_all_is_there)
{
    struct host_read read = read_of(100);

    ck_assert(!read.done);
    host_read_answer(&read, 60);
    ck_assert(!read.done);
    ck_assert_uint_eq(read.offset, 1060);
    ck_assert_ptr_eq(read.at, target + 60);
    ck_assert_uint_eq(host_read_chunk(&read), 40);
    host_read_answer(&read, 40);
    ck_assert(read.done);
    ck_assert_int_eq(read.result, 100);
}
END_TEST

START_TEST(a_read_that_gets_nothing_is_at_the_end_of_the_file)
{
    struct host_read read = read_of(100);

    host_read_answer(&read, 60);
    host_read_answer(&read, 0);
    ck_assert(read.done);
    ck_assert_int_eq(read.result, 60);
    read = read_of(100);
    host_read_answer(&read, 0);
    ck_assert(read.done);
    ck_assert_int_eq(read.result, 0);
    read = read_of(0);
    ck_assert(read.done);
    ck_assert_int_eq(read.result, 0);
}
END_TEST

START_TEST(a_read_that_did_nothing_is_tried_again_within_bounds)
{
    struct host_read read = read_of(100);
    int tries = 0;

    host_read_answer(&read, -EINTR);
    ck_assert(!read.done);
    host_read_answer(&read, 100);
    ck_assert_int_eq(read.result, 100);
    for (read = read_of(100); !read.done; tries++)
        host_read_answer(&read, -EAGAIN);
    ck_assert_int_eq(read.result, -EAGAIN);
    ck_assert_int_eq(tries, HOST_READ_MAX_RETRIES + 1);
}
END_TEST

START_TEST(a_read_error_and_an_impossible_answer_end_it)
{
    struct host_read read = read_of(100);

    host_read_answer(&read, 10);
    host_read_answer(&read, -EIO);
    ck_assert(read.done);
    ck_assert_int_eq(read.result, -EIO);
    read = read_of(100);
    host_read_answer(&read, 101);
    ck_assert(read.done);
    ck_assert_int_eq(read.result, -EIO);
}
END_TEST

/* --- the backends --------------------------------------------------------------------------------------------------- */

static char directory[] = "/tmp/mace-io-XXXXXX";
static int directory_fd, file_fd;

static void
setup(void)
{
    ck_assert_ptr_nonnull(mkdtemp(directory));
    directory_fd = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    file_fd = openat(directory_fd, "f", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    ck_assert_int_ge(file_fd, 0);
}

static void
teardown(void)
{
    unlinkat(directory_fd, "f", 0);
    rmdir(directory);
}

/* Every sync that a backend asks for comes by here: system calls of the POSIX one, and what the other hands to its ring. */
static unsigned syncs_asked;

int
fdatasync(int fd)
{
    syncs_asked++;
    return (int)syscall(SYS_fdatasync, fd);
}

int
io_uring_submit(struct io_uring *ring)
{
    int (*submit)(struct io_uring *) =
        (int (*)(struct io_uring *))(uintptr_t)dlsym(RTLD_NEXT, "io_uring_submit");

    /* Those between head and tail are not submitted yet. */
    for (unsigned at = ring->sq.sqe_head; at != ring->sq.sqe_tail; at++)
        syncs_asked += ring->sq.sqes[at & ring->sq.ring_mask].opcode == IORING_OP_FSYNC;
    ck_assert_ptr_nonnull(submit);
    return submit(ring);
}

/* A limit of locked memory, for which larger rings are too large; 0: none. Which of them were asked for. */
static unsigned ring_limit, rings_asked, ring_smallest;

int
io_uring_queue_init(unsigned entries, struct io_uring *ring, unsigned flags)
{
    int (*init)(unsigned, struct io_uring *, unsigned) =
        (int (*)(unsigned, struct io_uring *, unsigned))(uintptr_t)dlsym(RTLD_NEXT,
                                                                         "io_uring_queue_init");

    rings_asked++;
    ring_smallest = entries;
    ck_assert_ptr_nonnull(init);
    return ring_limit != 0 && entries > ring_limit ? -ENOMEM : init(entries, ring, flags);
}

static struct host_io *
backend_open(int index)
{
    struct host_io *io;
    int error =
        index == 0 ? host_posix_open(&io, HOST_READERS) : host_uring_open(&io, directory_fd);

    if (error == 0)
        return io;
    ck_assert_msg(index == 1, "the POSIX backend cannot be refused: %s", strerror(-error));
    printf("io_uring is refused here (%s): not tested\n", strerror(-error));
    return NULL;
}

/* Waits as the loop does: on the descriptor. */
static struct env_completion
backend_wait(struct host_io *io)
{
    struct env_completion ended;

    while (host_io_poll(io, &ended, 1) == 0) {
        struct pollfd ready = {.fd = io->backend->descriptor(io), .events = POLLIN};
        ck_assert_int_eq(poll(&ready, 1, 10000), 1);
    }
    return ended;
}

START_TEST(what_was_appended_is_in_the_file)
{
    struct host_io *io = backend_open(_i);
    static char block[300000], back[300000];

    if (io == NULL)
        return;
    for (size_t i = 0; i < sizeof(block); i++)
        block[i] = (char)(i * 7);
    for (unsigned i = 0; i < 20; i++) {
        syncs_asked = 0;
        host_io_append(io, file_fd, i * sizeof(block), block, sizeof(block), i % 2 == 0, 100 + i);
        struct env_completion ended = backend_wait(io);
        if (i % 2 == 0)
            ck_assert_uint_ge(syncs_asked, 1);
        else
            ck_assert_uint_eq(syncs_asked, 0);
        ck_assert_uint_eq(ended.tag, 100 + i);
        ck_assert_int_eq(ended.result, 0);
        ck_assert_int_eq(pread(file_fd, back, sizeof(back), (off_t)(i * sizeof(block))),
                         sizeof(back));
        ck_assert_mem_eq(back, block, sizeof(block));
    }
    ck_assert_uint_eq(io->under_way, 0);
    host_io_close(io);
}
END_TEST

START_TEST(many_files_at_once_all_end)
{
    struct host_io *io = backend_open(_i);
    int files[100];
    unsigned seen[100] = {0};

    if (io == NULL)
        return;
    for (unsigned i = 0; i < 100; i++) {
        char name[16];
        snprintf(name, sizeof(name), "m%u", i);
        files[i] = openat(directory_fd, name, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
        ck_assert_int_ge(files[i], 0);
        unlinkat(directory_fd, name, 0);
        host_io_append(io, files[i], 0, bytes, 4096, true, i);
    }
    for (unsigned i = 0; i < 100; i++) {
        struct env_completion ended = backend_wait(io);
        ck_assert_int_eq(ended.result, 0);
        seen[ended.tag]++;
    }
    for (unsigned i = 0; i < 100; i++) {
        ck_assert_uint_eq(seen[i], 1);
        ck_assert_int_eq(lseek(files[i], 0, SEEK_END), 4096);
        close(files[i]);
    }
    host_io_close(io);
}
END_TEST

START_TEST(an_empty_append_with_sync_ends_without_writing)
{
    struct host_io *io = backend_open(_i);

    if (io == NULL)
        return;
    syncs_asked = 0;
    host_io_append(io, file_fd, 0, NULL, 0, true, 1);
    ck_assert_int_eq(backend_wait(io).result, 0);
    ck_assert_uint_eq(syncs_asked, 1);
    host_io_append(io, file_fd, 0, NULL, 0, false, 2);
    ck_assert_int_eq(backend_wait(io).result, 0);
    ck_assert_int_eq(lseek(file_fd, 0, SEEK_END), 0);
    host_io_close(io);
}
END_TEST

/* A file size limit in the middle makes the kernel answer with a short write, and then with an error. */
START_TEST(a_write_cut_short_by_a_limit_is_an_error_and_not_a_success)
{
    struct rlimit limit = {.rlim_cur = 6000, .rlim_max = RLIM_INFINITY};
    struct host_io *io = backend_open(_i);

    if (io == NULL)
        return;
    signal(SIGXFSZ, SIG_IGN);
    ck_assert_int_eq(setrlimit(RLIMIT_FSIZE, &limit), 0);
    host_io_append(io, file_fd, 0, bytes, sizeof(bytes), true, 1);
    ck_assert_int_eq(backend_wait(io).result, -EFBIG);
    ck_assert_int_eq(lseek(file_fd, 0, SEEK_END), 6000);
    limit.rlim_cur = RLIM_INFINITY;
    setrlimit(RLIMIT_FSIZE, &limit);
    host_io_close(io);
}
END_TEST

START_TEST(a_descriptor_that_cannot_be_written_is_an_error)
{
    struct host_io *io = backend_open(_i);
    int fd = openat(directory_fd, "f", O_RDONLY | O_CLOEXEC);

    if (io == NULL)
        return;
    host_io_append(io, fd, 0, bytes, 100, true, 1);
    ck_assert_int_eq(backend_wait(io).result, -EBADF);
    close(fd);
    host_io_close(io);
}
END_TEST

/* The lock is on the open file description; the ring keeps that alive without any descriptor. */
START_TEST(the_ring_holds_the_lock_after_its_descriptor_was_closed)
{
    struct host_io *io = backend_open(1);
    int other = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

    if (io == NULL)
        return;
    ck_assert_int_eq(flock(directory_fd, LOCK_EX | LOCK_NB), 0);
    close(directory_fd);
    ck_assert_int_eq(flock(other, LOCK_EX | LOCK_NB), -1);
    ck_assert_int_eq(errno, EWOULDBLOCK);
    host_io_close(io);
    int tries = 0;
    while (flock(other, LOCK_EX | LOCK_NB) < 0 && tries++ < 5000)
        usleep(1000); /* a closed ring is given back a little later */
    ck_assert_int_lt(tries, 5000);
    directory_fd = other;
}
END_TEST

START_TEST(without_a_ring_the_system_calls_serve)
{
    struct host_io *io;

    ck_assert_int_eq(host_io_open(&io, directory_fd, false), 0);
    ck_assert_str_eq(io->backend->name, "posix");
    host_io_append(io, file_fd, 0, bytes, sizeof(bytes), true, 1);
    ck_assert_int_eq(backend_wait(io).result, 0);
    host_io_close(io);
}
END_TEST

/* Registering a descriptor that is none is refused by the kernel like a set-up under a security filter. */
START_TEST(a_refused_ring_falls_back_to_system_calls)
{
    struct host_io *io;

    ck_assert_int_eq(host_io_open(&io, 9999, true), 0);
    ck_assert_str_eq(io->backend->name, "posix");
    host_io_close(io);
}
END_TEST

/* Appends more than a small ring has places for, and sees each of them end. */
static void
appends_check(struct host_io *io)
{
    enum { APPENDS = 64 };
    bool ended[APPENDS] = {false};

    for (unsigned i = 0; i < APPENDS; i++)
        host_io_append(io, file_fd, i * sizeof(bytes), bytes, sizeof(bytes), true, i);
    for (unsigned i = 0; i < APPENDS; i++) {
        struct env_completion completion = backend_wait(io);
        ck_assert_int_eq(completion.result, 0);
        ck_assert(completion.tag < APPENDS && !ended[completion.tag]);
        ended[completion.tag] = true;
    }
    ck_assert_int_eq(lseek(file_fd, 0, SEEK_END), APPENDS * sizeof(bytes));
}

START_TEST(F25_little_locked_memory_gets_a_smaller_ring_and_none_system_calls)
{
    struct host_io *io = backend_open(1);

    if (io == NULL)
        return;
    host_io_close(io);
    ring_limit = 4;
    rings_asked = 0;
    ck_assert_int_eq(host_io_open(&io, directory_fd, true), 0);
    ck_assert_str_eq(io->backend->name, "io_uring");
    ck_assert_uint_gt(rings_asked, 1);
    ck_assert_uint_eq(ring_smallest, 4);
    appends_check(io);
    host_io_close(io);
    ring_limit = 1;
    ck_assert_int_eq(host_io_open(&io, directory_fd, true), 0);
    ck_assert_str_eq(io->backend->name, "posix");
    appends_check(io);
    host_io_close(io);
}
END_TEST

START_TEST(closing_waits_for_what_is_under_way)
{
    struct host_io *io = backend_open(_i);
    static char block[1 << 20];

    if (io == NULL)
        return;
    host_io_append(io, file_fd, 0, block, sizeof(block), true, 1);
    host_io_close(io);
    ck_assert_int_eq(lseek(file_fd, 0, SEEK_END), sizeof(block));
}
END_TEST

/* --- reads ---------------------------------------------------------------------------------------------------------- */

enum { BLOCKS = 2000, BLOCK = 512 };
static uint32_t blocks[BLOCKS][BLOCK / 4];

/* Each word of the file tells where it is. */
static void
blocks_write(void)
{
    static uint32_t words[BLOCKS * BLOCK / 4];

    for (uint32_t i = 0; i < BLOCKS * BLOCK / 4; i++)
        words[i] = i;
    ck_assert_int_eq(pwrite(file_fd, words, sizeof(words), 0), sizeof(words));
}

static void
block_check(unsigned block)
{
    for (uint32_t i = 0; i < BLOCK / 4; i++)
        ck_assert_uint_eq(blocks[block][i], block * (BLOCK / 4) + i);
}

/* More than a ring holds, with appends between them. */
START_TEST(many_reads_at_once_bring_the_right_bytes)
{
    struct host_io *io = backend_open(_i);
    unsigned seen[BLOCKS] = {0}, appended = 0;
    int other = openat(directory_fd, "f", O_WRONLY | O_CLOEXEC);

    if (io == NULL)
        return;
    blocks_write();
    for (unsigned i = 0; i < BLOCKS; i++) {
        unsigned block = i * 7 % BLOCKS;
        host_io_read(io, file_fd, block * BLOCK, blocks[block], BLOCK, block);
        if (i % 500 == 0)
            host_io_append(io, other, BLOCKS * BLOCK + i, bytes, 500, true, BLOCKS);
    }
    for (unsigned i = 0; i < BLOCKS + 4; i++) {
        struct env_completion ended = backend_wait(io);
        if (ended.tag == BLOCKS) {
            ck_assert_int_eq(ended.result, 0);
            appended++;
            continue;
        }
        ck_assert_uint_lt(ended.tag, BLOCKS);
        ck_assert_int_eq(ended.result, BLOCK);
        ck_assert_uint_eq(seen[ended.tag]++, 0);
        block_check((unsigned)ended.tag);
    }
    ck_assert_uint_eq(appended, 4);
    ck_assert_uint_eq(io->under_way, 0);
    close(other);
    host_io_close(io);
}
END_TEST

START_TEST(a_read_across_the_end_of_the_file_is_short)
{
    struct host_io *io = backend_open(_i);
    char back[100] = "";

    if (io == NULL)
        return;
    ck_assert_int_eq(pwrite(file_fd, "0123456789", 10, 0), 10);
    host_io_read(io, file_fd, 4, back, sizeof(back), 1);
    ck_assert_int_eq(backend_wait(io).result, 6);
    ck_assert_str_eq(back, "456789");
    host_io_read(io, file_fd, 10, back, sizeof(back), 2);
    ck_assert_int_eq(backend_wait(io).result, 0);
    host_io_read(io, file_fd, 1 << 20, back, sizeof(back), 3);
    ck_assert_int_eq(backend_wait(io).result, 0);
    host_io_read(io, file_fd, 0, back, 0, 4);
    ck_assert_int_eq(backend_wait(io).result, 0);
    host_io_close(io);
}
END_TEST

START_TEST(a_read_that_is_refused_is_an_error_of_its_own)
{
    struct host_io *io = backend_open(_i);
    int fd = openat(directory_fd, "f", O_WRONLY | O_CLOEXEC);
    char back[10];

    if (io == NULL)
        return;
    ck_assert_int_eq(pwrite(file_fd, "0123456789", 10, 0), 10);
    host_io_read(io, fd, 0, back, 10, 1);
    host_io_read(io, file_fd, 0, back, 10, 2);
    for (unsigned i = 0; i < 2; i++) {
        struct env_completion ended = backend_wait(io);
        ck_assert_int_eq(ended.result, ended.tag == 1 ? -EBADF : 10);
    }
    close(fd);
    host_io_close(io);
}
END_TEST

START_TEST(closing_waits_for_reads_under_way)
{
    struct host_io *io = backend_open(_i);

    if (io == NULL)
        return;
    blocks_write();
    for (unsigned i = 0; i < BLOCKS; i++)
        host_io_read(io, file_fd, i * BLOCK, blocks[i], BLOCK, i);
    host_io_close(io);
    for (unsigned i = 0; i < BLOCKS; i++)
        block_check(i);
}
END_TEST

/* A loop that sleeps after it started reads is woken by them. */
START_TEST(gathered_reads_are_under_way_after_a_submit)
{
    struct host_io *io = backend_open(_i);
    char back[4];

    if (io == NULL)
        return;
    ck_assert_int_eq(pwrite(file_fd, "0123456789", 10, 0), 10);
    host_io_read(io, file_fd, 3, back, 4, 1);
    host_io_submit(io);
    struct pollfd ready = {.fd = io->backend->descriptor(io), .events = POLLIN};
    ck_assert_int_eq(poll(&ready, 1, 10000), 1);
    ck_assert_int_eq(backend_wait(io).result, 4);
    ck_assert_mem_eq(back, "3456", 4);
    host_io_close(io);
}
END_TEST

int
main(void)
{
    Suite *suite = suite_create("host_io");
    TCase *states = tcase_create("states"), *backends = tcase_create("backends");
    SRunner *runner = srunner_create(suite);

    suite_add_tcase(suite, states);
    tcase_add_test(states, a_full_write_and_the_sync_behind_it_are_done);
    tcase_add_test(states, a_short_write_goes_on_behind_it_and_is_synced_anew);
    tcase_add_test(states, a_sync_that_ran_behind_a_part_does_not_count);
    tcase_add_test(states, a_failed_sync_is_never_asked_for_again);
    tcase_add_test(states, a_write_that_did_nothing_is_tried_again_within_bounds);
    tcase_add_test(states, errors_and_impossible_answers_end_it);
    tcase_add_test(states, an_empty_append_only_syncs);
    tcase_add_test(states, a_short_read_goes_on_behind_it_until_all_is_there);
    tcase_add_test(states, a_read_that_gets_nothing_is_at_the_end_of_the_file);
    tcase_add_test(states, a_read_that_did_nothing_is_tried_again_within_bounds);
    tcase_add_test(states, a_read_error_and_an_impossible_answer_end_it);
    suite_add_tcase(suite, backends);
    tcase_add_checked_fixture(backends, setup, teardown);
    tcase_set_timeout(backends, 60);
    tcase_add_loop_test(backends, what_was_appended_is_in_the_file, 0, 2);
    tcase_add_loop_test(backends, many_files_at_once_all_end, 0, 2);
    tcase_add_loop_test(backends, an_empty_append_with_sync_ends_without_writing, 0, 2);
    tcase_add_loop_test(backends, a_write_cut_short_by_a_limit_is_an_error_and_not_a_success, 0, 2);
    tcase_add_loop_test(backends, a_descriptor_that_cannot_be_written_is_an_error, 0, 2);
    tcase_add_loop_test(backends, closing_waits_for_what_is_under_way, 0, 2);
    tcase_add_loop_test(backends, many_reads_at_once_bring_the_right_bytes, 0, 2);
    tcase_add_loop_test(backends, a_read_across_the_end_of_the_file_is_short, 0, 2);
    tcase_add_loop_test(backends, a_read_that_is_refused_is_an_error_of_its_own, 0, 2);
    tcase_add_loop_test(backends, closing_waits_for_reads_under_way, 0, 2);
    tcase_add_loop_test(backends, gathered_reads_are_under_way_after_a_submit, 0, 2);
    tcase_add_test(backends, the_ring_holds_the_lock_after_its_descriptor_was_closed);
    tcase_add_test(backends, without_a_ring_the_system_calls_serve);
    tcase_add_test(backends, a_refused_ring_falls_back_to_system_calls);
    tcase_add_test(backends, F25_little_locked_memory_gets_a_smaller_ring_and_none_system_calls);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
