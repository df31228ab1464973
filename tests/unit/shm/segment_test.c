/* Segments: what a client's descriptor and mapping may not do, backing, huge pages. */
#include "mshm/segment.h"

#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "mshm/status.h"

#ifndef F_SEAL_FUTURE_WRITE
#define F_SEAL_FUTURE_WRITE 0x0010
#endif

enum { SIZE = 4 << 20 };
static struct mshm_segment broker; /* the maker's side */
static struct mshm_segment client;

static void
create(enum mshm_segment_kind kind, enum mshm_huge_pages huge)
{
    ck_assert_int_eq(mshm_segment_create(&broker, "mace-test", SIZE, kind, huge), MSHM_OK);
    client = (struct mshm_segment){.fd = -1};
}

static void
destroy(void)
{
    mshm_segment_fini(&client);
    mshm_segment_fini(&broker);
}

START_TEST(store_carries_all_its_seals_at_once)
{
    create(MSHM_SEGMENT_STORE, MSHM_HUGE_PAGES_OFF);
    ck_assert_int_eq(fcntl(broker.fd, F_GET_SEALS),
                     F_SEAL_FUTURE_WRITE | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL);
    ck_assert_int_eq(fcntl(broker.fd, F_ADD_SEALS, F_SEAL_WRITE), -1);
    ck_assert_int_ne(fcntl(broker.fd, F_GETFD) & FD_CLOEXEC, 0);
    destroy();
    create(MSHM_SEGMENT_SHARED, MSHM_HUGE_PAGES_OFF);
    ck_assert_int_eq(fcntl(broker.fd, F_GET_SEALS), F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL);
    ck_assert_int_eq(fcntl(broker.fd, F_ADD_SEALS, F_SEAL_FUTURE_WRITE), -1);
    destroy();
}
END_TEST

START_TEST(broker_writes_and_backs_after_sealing)
{
    create(MSHM_SEGMENT_STORE, MSHM_HUGE_PAGES_OFF);
    ck_assert_int_eq(mshm_segment_back(&broker, 0, 8192), MSHM_OK);
    broker.base[0] = 1;
    ck_assert_int_eq(mshm_segment_back(&broker, SIZE - 1, 1), MSHM_OK);
    broker.base[SIZE - 1] = 2;
    ck_assert_int_eq(mshm_segment_back(&broker, 0, SIZE), MSHM_OK);
    ck_assert_uint_eq(broker.base[0], 1); /* what was there stays */
    ck_assert_uint_eq(broker.base[SIZE - 1], 2);
    ck_assert_uint_eq(broker.base[100000], 0);
    destroy();
}
END_TEST

static uint64_t
memory_of(int fd)
{
    struct stat status;
    ck_assert_int_eq(fstat(fd, &status), 0);
    return (uint64_t)status.st_blocks * 512;
}

START_TEST(memory_is_taken_only_for_what_is_backed)
{
    create(MSHM_SEGMENT_STORE, MSHM_HUGE_PAGES_OFF);
    ck_assert_uint_eq(memory_of(broker.fd), 0);
    ck_assert_int_eq(mshm_segment_back(&broker, 65536, 65536), MSHM_OK);
    ck_assert_uint_eq(memory_of(broker.fd), 65536);
    ck_assert_int_eq(mshm_segment_back(&broker, 65536, 65536), MSHM_OK);
    ck_assert_uint_eq(memory_of(broker.fd), 65536);
    destroy();
}
END_TEST

START_TEST(backing_outside_the_segment_is_refused)
{
    create(MSHM_SEGMENT_STORE, MSHM_HUGE_PAGES_OFF);
    ck_assert_int_eq(mshm_segment_back(&broker, 0, SIZE + 1), MSHM_INVALID);
    ck_assert_int_eq(mshm_segment_back(&broker, SIZE, 1), MSHM_INVALID);
    ck_assert_int_eq(mshm_segment_back(&broker, UINT64_MAX, 2), MSHM_INVALID);
    ck_assert_int_eq(mshm_segment_back(&broker, SIZE, 0), MSHM_OK);
    destroy();
}
END_TEST

/* Tries every way to write through a descriptor that a client may hold. */
static void
cannot_write_through(int fd)
{
    void *at = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    ck_assert_ptr_eq(at, MAP_FAILED);
    ck_assert_int_eq((int)pwrite(fd, "x", 1, 0), -1);
    ck_assert_int_eq(ftruncate(fd, SIZE * 2), -1);
    ck_assert_int_eq(ftruncate(fd, 0), -1);
    ck_assert_int_eq(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 4096), -1);
    ck_assert_int_eq(fallocate(fd, 0, SIZE, SIZE), -1);
    ck_assert_int_eq(fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE), -1);
    at = mmap(NULL, SIZE, PROT_READ, MAP_SHARED, fd, 0);
    ck_assert_ptr_ne(at, MAP_FAILED);
    ck_assert_int_eq(mprotect(at, SIZE, PROT_READ | PROT_WRITE), -1);
    munmap(at, SIZE);
}

START_TEST(client_cannot_write_the_store_by_any_descriptor)
{
    char path[64];
    int fd = -1;
    create(MSHM_SEGMENT_STORE, MSHM_HUGE_PAGES_OFF);
    ck_assert_int_eq(mshm_segment_back(&broker, 0, SIZE), MSHM_OK);
    broker.base[0] = 42;
    ck_assert_int_eq(mshm_segment_reader(&broker, &fd), MSHM_OK);
    ck_assert_int_ne(fcntl(fd, F_GETFD) & FD_CLOEXEC, 0);
    cannot_write_through(fd);
    int copy = dup(fd);
    cannot_write_through(copy);
    close(copy);
    snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
    int again = open(path, O_RDWR); /* as root it opens; the seals stand all the same */
    if (again >= 0) {
        cannot_write_through(again);
        close(again);
    }
    cannot_write_through(broker.fd); /* the broker's own descriptor, if it ever leaked */
    ck_assert_uint_eq(broker.base[0], 42);
    close(fd);
    destroy();
}
END_TEST

START_TEST(reader_cannot_even_reserve_memory)
{
    int fd = -1;
    create(MSHM_SEGMENT_STORE, MSHM_HUGE_PAGES_OFF);
    ck_assert_int_eq(mshm_segment_reader(&broker, &fd), MSHM_OK);
    ck_assert_int_eq(fallocate(fd, 0, 0, 4096), -1);
    ck_assert_int_eq(errno, EBADF);
    ck_assert_uint_eq(memory_of(broker.fd), 0);
    close(fd);
    destroy();
}
END_TEST

START_TEST(client_sees_what_the_broker_wrote_and_cannot_make_it_writable)
{
    int fd = -1;
    create(MSHM_SEGMENT_STORE, MSHM_HUGE_PAGES_OFF);
    ck_assert_int_eq(mshm_segment_back(&broker, 0, SIZE), MSHM_OK);
    memcpy(broker.base + 12345, "written", 7);
    ck_assert_int_eq(mshm_segment_reader(&broker, &fd), MSHM_OK);
    ck_assert_int_eq(mshm_segment_map(&client, fd, SIZE, 0), MSHM_OK);
    close(fd);
    ck_assert_mem_eq(client.base + 12345, "written", 7);
    ck_assert_ptr_ne(client.base, broker.base);
    ck_assert_uint_eq((uintptr_t)client.base % (2 << 20), 0);
    ck_assert_int_eq(mprotect(client.base, SIZE, PROT_READ | PROT_WRITE), -1);
    ck_assert_int_eq(errno, EACCES);
    destroy();
}
END_TEST

START_TEST(store_cannot_be_mapped_writable)
{
    create(MSHM_SEGMENT_STORE, MSHM_HUGE_PAGES_OFF);
    ck_assert_int_eq(mshm_segment_map(&client, broker.fd, SIZE, 1), MSHM_DENIED);
    ck_assert_ptr_null(client.base);
    destroy();
}
END_TEST

START_TEST(session_is_written_from_both_sides)
{
    create(MSHM_SEGMENT_SHARED, MSHM_HUGE_PAGES_OFF);
    ck_assert_int_eq(mshm_segment_back(&broker, 0, 4096), MSHM_OK);
    ck_assert_int_eq(mshm_segment_map(&client, broker.fd, SIZE, 1), MSHM_OK);
    client.base[7] = 3;
    ck_assert_uint_eq(broker.base[7], 3);
    broker.base[8] = 4;
    ck_assert_uint_eq(client.base[8], 4);
    ck_assert_int_eq(ftruncate(broker.fd, 4096), -1);
    destroy();
}
END_TEST

START_TEST(hole_punched_by_a_client_reads_as_zeros)
{
    create(MSHM_SEGMENT_SHARED, MSHM_HUGE_PAGES_OFF);
    ck_assert_int_eq(mshm_segment_back(&broker, 0, SIZE), MSHM_OK);
    memset(broker.base, 0xff, SIZE);
    ck_assert_int_eq(fallocate(broker.fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, SIZE), 0);
    for (unsigned i = 0; i < SIZE; i += 511)
        ck_assert_uint_eq(broker.base[i], 0);
    destroy();
}
END_TEST

START_TEST(file_that_could_shrink_or_is_too_short_is_not_mapped)
{
    int fd = memfd_create("unsealed", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(ftruncate(fd, SIZE), 0);
    client = (struct mshm_segment){.fd = -1};
    ck_assert_int_eq(mshm_segment_map(&client, fd, SIZE, 0), MSHM_CORRUPT);
    ck_assert_int_eq(fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK), 0);
    ck_assert_int_eq(mshm_segment_map(&client, fd, SIZE + 1, 0), MSHM_CORRUPT);
    ck_assert_int_eq(mshm_segment_map(&client, fd, 0, 0), MSHM_CORRUPT);
    ck_assert_int_eq(mshm_segment_map(&client, fd, SIZE, 0), MSHM_OK);
    mshm_segment_fini(&client);
    close(fd);
    ck_assert_int_eq(mshm_segment_map(&client, -1, SIZE, 0), MSHM_CORRUPT);
}
END_TEST

/* A forked child that touches the mapping must die of it: the parent's lanes are not the child's. */
START_TEST(forked_child_has_no_mapping)
{
    create(MSHM_SEGMENT_SHARED, MSHM_HUGE_PAGES_OFF);
    ck_assert_int_eq(mshm_segment_back(&broker, 0, 4096), MSHM_OK);
    ck_assert_int_eq(mshm_segment_map(&client, broker.fd, SIZE, 1), MSHM_OK);
    for (unsigned i = 0; i < 2; i++) {
        pid_t child = fork();
        ck_assert_int_ge(child, 0);
        if (child == 0) {
            struct rlimit none = {0, 0};
            setrlimit(RLIMIT_CORE, &none);
            signal(SIGSEGV, SIG_DFL);
            unsigned char mapped;
            /* mincore asks without touching: ENOMEM where nothing is mapped. */
            int gone =
                mincore(i == 0 ? client.base : broker.base, 4096, &mapped) != 0 && errno == ENOMEM;
            _exit(gone ? 0 : 1);
        }
        int status;
        ck_assert_int_eq(waitpid(child, &status, 0), child);
        ck_assert_int_eq(status, 0);
    }
    destroy();
}
END_TEST

/* Address space, descriptors and file size run out in a child, which says what it was told. */
static int
status_under_limit(unsigned resource, rlim_t limit)
{
    pid_t child = fork();
    ck_assert_int_ge(child, 0);
    if (child == 0) {
        struct rlimit both = {limit, limit};
        struct mshm_segment segment;
        signal(SIGXFSZ, SIG_IGN);
        if (setrlimit((__rlimit_resource_t)resource, &both) != 0)
            _exit(99);
        int status = mshm_segment_create(&segment, "limit", UINT64_C(1) << 40, MSHM_SEGMENT_STORE,
                                         MSHM_HUGE_PAGES_OFF);
        _exit(status == MSHM_OK ? 0 : -1000 - status);
    }
    int status;
    ck_assert_int_eq(waitpid(child, &status, 0), child);
    ck_assert(WIFEXITED(status));
    return WEXITSTATUS(status) == 0 ? MSHM_OK : -1000 - WEXITSTATUS(status);
}

START_TEST(running_out_of_a_limit_is_told_as_a_status)
{
    ck_assert_int_eq(status_under_limit(RLIMIT_CPU, RLIM_INFINITY), MSHM_OK);
    ck_assert_int_eq(status_under_limit(RLIMIT_NOFILE, 0), MSHM_LIMIT);
    ck_assert_int_eq(status_under_limit(RLIMIT_FSIZE, 1 << 20), MSHM_LIMIT);
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
#if defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
    return; /* the sanitizer's shadow is address space itself */
#endif
#endif
    ck_assert_int_eq(status_under_limit(RLIMIT_AS, 1 << 30), MSHM_NO_MEMORY);
#endif
}
END_TEST

/* Where the kernel gives none, `try` works with small pages and `on` is refused; both are right. */
START_TEST(huge_pages_are_taken_where_there_are_any)
{
    create(MSHM_SEGMENT_STORE, MSHM_HUGE_PAGES_TRY);
    ck_assert_int_eq(mshm_segment_back(&broker, 0, 4096), MSHM_OK);
    broker.base[5] = 5;
    ck_assert_int_eq(mshm_segment_back(&broker, 0, SIZE), MSHM_OK);
    ck_assert_uint_eq(broker.base[5], 5);
    ck_assert_uint_eq(memory_of(broker.fd), SIZE);
    printf("segment_test: %lu of %d bytes on huge pages\n", (unsigned long)broker.huge_bytes, SIZE);
    int have = broker.huge;
    ck_assert(!have || broker.huge_bytes > 0);
    destroy();
    int status =
        mshm_segment_create(&broker, "mace-test", SIZE, MSHM_SEGMENT_STORE, MSHM_HUGE_PAGES_ON);
    ck_assert_int_eq(status, have ? MSHM_OK : MSHM_NO_MEMORY);
    if (status == MSHM_OK)
        mshm_segment_fini(&broker);
}
END_TEST

START_TEST(odd_sizes_are_mapped_whole)
{
    static const uint64_t sizes[] = {1, 4095, 4096, 4097, (2 << 20) - 1, (2 << 20) + 1, 5000000};
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        ck_assert_int_eq(
            mshm_segment_create(&broker, "odd", sizes[i], MSHM_SEGMENT_SHARED, MSHM_HUGE_PAGES_TRY),
            MSHM_OK);
        ck_assert_uint_ge(broker.size, sizes[i]);
        ck_assert_int_eq(mshm_segment_back(&broker, 0, sizes[i]), MSHM_OK);
        memset(broker.base, 1, sizes[i]);
        ck_assert_int_eq(mshm_segment_map(&client, broker.fd, sizes[i], 1), MSHM_OK);
        ck_assert_uint_eq(client.base[sizes[i] - 1], 1);
        destroy();
    }
}
END_TEST

START_TEST(nothing_is_left_after_fini)
{
    int before = dup(0);
    close(before);
    create(MSHM_SEGMENT_STORE, MSHM_HUGE_PAGES_TRY);
    destroy();
    destroy(); /* twice does no harm */
    int after = dup(0);
    close(after);
    ck_assert_int_eq(before, after);
}
END_TEST

int
main(void)
{
    Suite *suite = suite_create("segment");
    TCase *tests = tcase_create("segment");
    tcase_set_timeout(tests, 60);
    tcase_add_test(tests, store_carries_all_its_seals_at_once);
    tcase_add_test(tests, broker_writes_and_backs_after_sealing);
    tcase_add_test(tests, memory_is_taken_only_for_what_is_backed);
    tcase_add_test(tests, backing_outside_the_segment_is_refused);
    tcase_add_test(tests, client_cannot_write_the_store_by_any_descriptor);
    tcase_add_test(tests, reader_cannot_even_reserve_memory);
    tcase_add_test(tests, client_sees_what_the_broker_wrote_and_cannot_make_it_writable);
    tcase_add_test(tests, store_cannot_be_mapped_writable);
    tcase_add_test(tests, session_is_written_from_both_sides);
    tcase_add_test(tests, hole_punched_by_a_client_reads_as_zeros);
    tcase_add_test(tests, file_that_could_shrink_or_is_too_short_is_not_mapped);
    tcase_add_test(tests, forked_child_has_no_mapping);
    tcase_add_test(tests, running_out_of_a_limit_is_told_as_a_status);
    tcase_add_test(tests, huge_pages_are_taken_where_there_are_any);
    tcase_add_test(tests, odd_sizes_are_mapped_whole);
    tcase_add_test(tests, nothing_is_left_after_fini);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
