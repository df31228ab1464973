/* lock_test.c - the directory and its lock. */
#include "lock.h"

#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "directory.h"
#include "mshm/status.h"

static char root[] = "/tmp/mace-lock-XXXXXX";
static char why[512];
static int never; /* an eventfd that nobody writes */

static void
setup(void)
{
    ck_assert_ptr_nonnull(mkdtemp(root));
    never = eventfd(0, EFD_CLOEXEC);
    why[0] = '\0';
}

static void
teardown(void)
{
    char command[100];

    snprintf(command, sizeof(command), "rm -rf %s", root);
    ck_assert_int_eq(system(command), 0);
}

static int
open_root(void)
{
    int fd = open(root, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    ck_assert_int_ge(fd, 0);
    return fd;
}

static int
listen_in(int directory_fd)
{
    int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);

    ck_assert_int_eq(directory_socket(directory_fd, fd, bind), 0);
    ck_assert_int_eq(listen(fd, 5), 0);
    return fd;
}

START_TEST(a_free_lock_is_taken_and_LOCK_names_the_holder)
{
    struct lock lock;
    int fd = open_root(), other = open_root();
    char text[200] = "", expected[40];

    ck_assert_int_eq(lock_take(&lock, fd, never, why, sizeof(why)), MSHM_OK);
    ck_assert_int_eq(flock(other, LOCK_EX | LOCK_NB), -1);
    int file = openat(fd, "LOCK", O_RDONLY | O_CLOEXEC);
    ck_assert_int_gt(read(file, text, sizeof(text) - 1), 0);
    snprintf(expected, sizeof(expected), "pid %d ", (int)getpid());
    ck_assert_ptr_nonnull(strstr(text, expected));
    lock_settled(&lock);
    close(fd);
    ck_assert_int_eq(flock(other, LOCK_EX | LOCK_NB), 0);
}
END_TEST

START_TEST(a_lock_whose_holder_listens_is_left_alone)
{
    struct lock lock;
    int fd = open_root(), holder = open_root();

    ck_assert_int_eq(flock(holder, LOCK_EX | LOCK_NB), 0);
    int listener = listen_in(holder);
    ck_assert_int_eq(lock_take(&lock, fd, never, why, sizeof(why)), MSHM_EXISTS);
    ck_assert_int_eq(lock.file, -1);
    close(listener);
    close(holder);
}
END_TEST

START_TEST(a_stopped_holder_with_a_full_backlog_counts_as_serving)
{
    int fd = open_root();
    int listener = listen_in(fd);
    int clients[64];

    for (int i = 0; i < 64; i++) {
        clients[i] = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        directory_socket(fd, clients[i], connect);
    }
    ck_assert(lock_served(fd));
    close(listener);
    ck_assert(!lock_served(fd));
}
END_TEST

/* A holder that does not listen is starting, or is dead and its last write is not. */
START_TEST(a_busy_lock_without_a_listener_is_waited_for)
{
    struct lock lock;
    int ready[2], release[2];
    char byte = 0;

    ck_assert_int_eq(pipe(ready), 0);
    ck_assert_int_eq(pipe(release), 0);
    pid_t child = fork();
    if (child == 0) {
        int holder = open_root();
        if (flock(holder, LOCK_EX | LOCK_NB) < 0 || write(ready[1], &byte, 1) != 1)
            _exit(1);
        close(release[1]);
        _exit(read(release[0], &byte, 1) == 1 ? 0 : 1);
    }
    int fd = open_root();
    ck_assert_int_eq(read(ready[0], &byte, 1), 1);
    pid_t waiter = fork();
    if (waiter == 0)
        _exit(lock_take(&lock, fd, never, why, sizeof(why)) == MSHM_OK ? 0 : 1);
    int status;
    usleep(50000); /* long enough to be wrong, were it not to wait */
    ck_assert_int_eq(waitpid(waiter, &status, WNOHANG), 0);
    ck_assert_int_eq(write(release[1], &byte, 1), 1);
    ck_assert_int_eq(waitpid(waiter, &status, 0), waiter);
    ck_assert(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    ck_assert_int_eq(waitpid(child, &status, 0), child);
}
END_TEST

START_TEST(waiting_ends_when_it_is_cancelled)
{
    struct lock lock;
    int fd = open_root(), holder = open_root();
    uint64_t one = 1;

    ck_assert_int_eq(flock(holder, LOCK_EX | LOCK_NB), 0);
    ck_assert_int_eq(write(never, &one, sizeof(one)), sizeof(one));
    ck_assert_int_eq(lock_take(&lock, fd, never, why, sizeof(why)), MSHM_BROKER_LOST);
    ck_assert_int_eq(lock.file, -1);
}
END_TEST

START_TEST(a_failed_start_takes_back_the_LOCK_that_it_made)
{
    struct lock lock;
    struct stat status;
    int fd = open_root();

    ck_assert_int_eq(lock_take(&lock, fd, never, why, sizeof(why)), MSHM_OK);
    lock_forget(&lock, fd);
    ck_assert_int_eq(fstatat(fd, "LOCK", &status, 0), -1);
    /* One that was there before stays. */
    close(openat(fd, "LOCK", O_CREAT | O_RDWR | O_CLOEXEC, 0600));
    flock(fd, LOCK_UN);
    ck_assert_int_eq(lock_take(&lock, fd, never, why, sizeof(why)), MSHM_OK);
    lock_forget(&lock, fd);
    ck_assert_int_eq(fstatat(fd, "LOCK", &status, 0), 0);
}
END_TEST

/* --- the directory -------------------------------------------------------------------------------------------------- */

START_TEST(a_directory_is_made_when_wanted_and_only_then)
{
    struct directory directory;
    char path[200];
    struct stat status;

    snprintf(path, sizeof(path), "%s/new", root);
    ck_assert_int_eq(directory_open(&directory, path, false, 0710, false, why, sizeof(why)),
                     MSHM_NOT_FOUND);
    ck_assert_int_eq(directory_open(&directory, path, true, 0710, false, why, sizeof(why)),
                     MSHM_OK);
    ck_assert_int_eq(stat(path, &status), 0);
    ck_assert_uint_eq(status.st_mode & 07777, 0710);
    directory_close(&directory, true);
    ck_assert_int_eq(stat(path, &status), -1);
    /* The mode of one that was there is its owner's business. */
    ck_assert_int_eq(mkdir(path, 0700), 0);
    ck_assert_int_eq(directory_open(&directory, path, true, 0711, false, why, sizeof(why)),
                     MSHM_OK);
    directory_close(&directory, true);
    ck_assert_int_eq(stat(path, &status), 0);
    ck_assert_uint_eq(status.st_mode & 07777, 0700);
}
END_TEST

START_TEST(what_cannot_be_a_directory_is_told_apart)
{
    struct directory directory;
    char path[200];

    snprintf(path, sizeof(path), "%s/a/b", root);
    ck_assert_int_eq(directory_open(&directory, path, true, 0700, false, why, sizeof(why)),
                     MSHM_NOT_FOUND);
    snprintf(path, sizeof(path), "%s/file", root);
    close(open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600));
    ck_assert_int_eq(directory_open(&directory, path, true, 0700, false, why, sizeof(why)),
                     MSHM_INVALID);
    ck_assert_ptr_nonnull(strstr(why, path));
}
END_TEST

START_TEST(a_directory_of_somebody_else_is_refused_with_its_mode)
{
    struct directory directory;

    if (geteuid() != 0)
        return; /* only root can become somebody else */
    ck_assert_int_eq(chmod(root, 0755), 0);
    ck_assert_int_eq(setegid(65534), 0);
    ck_assert_int_eq(seteuid(65534), 0);
    ck_assert_int_eq(directory_open(&directory, root, true, 0700, false, why, sizeof(why)),
                     MSHM_DENIED);
    ck_assert_ptr_nonnull(strstr(why, "0755"));
    ck_assert_int_eq(seteuid(0), 0);
}
END_TEST

START_TEST(a_replaced_or_deleted_directory_is_noticed)
{
    struct directory directory;
    char path[200], aside[200];

    snprintf(path, sizeof(path), "%s/d", root);
    snprintf(aside, sizeof(aside), "%s/aside", root);
    ck_assert_int_eq(directory_open(&directory, path, true, 0700, false, why, sizeof(why)),
                     MSHM_OK);
    ck_assert(directory_same(&directory));
    ck_assert_int_eq(rename(path, aside), 0);
    ck_assert(!directory_same(&directory));
    ck_assert_int_eq(mkdir(path, 0700), 0);
    ck_assert(!directory_same(&directory));
    ck_assert_int_eq(rmdir(path), 0);
    ck_assert_int_eq(rename(aside, path), 0);
    ck_assert(directory_same(&directory));
    directory_close(&directory, false);
}
END_TEST

START_TEST(a_relative_path_is_kept_as_an_absolute_one)
{
    struct directory directory;

    ck_assert_int_eq(chdir(root), 0);
    ck_assert_int_eq(directory_open(&directory, "here", true, 0700, false, why, sizeof(why)),
                     MSHM_OK);
    ck_assert_int_eq(chdir("/"), 0);
    ck_assert(directory_same(&directory));
    directory_close(&directory, true);
}
END_TEST

START_TEST(file_systems_are_known_by_their_numbers)
{
    ck_assert(directory_type_network(0x6969));
    ck_assert(directory_type_network(0xFF534D42));
    ck_assert(directory_type_network((unsigned long)(long)(int)0xFE534D42)); /* sign-extended */
    ck_assert(!directory_type_network(0xEF53));
    ck_assert(directory_type_mappable(0xEF53));
    ck_assert(directory_type_mappable(0x01021994));
    ck_assert(!directory_type_mappable(0x9123683E)); /* btrfs */
    ck_assert(!directory_type_mappable(0x2FC12FC1)); /* ZFS */
    ck_assert(!directory_type_mappable(0x794c7630)); /* overlay: by what is under it */
    ck_assert(!directory_type_mappable(0x6969));
}
END_TEST

int
main(void)
{
    Suite *suite = suite_create("lock");
    TCase *cases = tcase_create("lock");
    SRunner *runner = srunner_create(suite);

    suite_add_tcase(suite, cases);
    tcase_add_checked_fixture(cases, setup, teardown);
    tcase_add_test(cases, a_free_lock_is_taken_and_LOCK_names_the_holder);
    tcase_add_test(cases, a_lock_whose_holder_listens_is_left_alone);
    tcase_add_test(cases, a_stopped_holder_with_a_full_backlog_counts_as_serving);
    tcase_add_test(cases, a_busy_lock_without_a_listener_is_waited_for);
    tcase_add_test(cases, waiting_ends_when_it_is_cancelled);
    tcase_add_test(cases, a_failed_start_takes_back_the_LOCK_that_it_made);
    tcase_add_test(cases, a_directory_is_made_when_wanted_and_only_then);
    tcase_add_test(cases, what_cannot_be_a_directory_is_told_apart);
    tcase_add_test(cases, a_directory_of_somebody_else_is_refused_with_its_mode);
    tcase_add_test(cases, a_replaced_or_deleted_directory_is_noticed);
    tcase_add_test(cases, a_relative_path_is_kept_as_an_absolute_one);
    tcase_add_test(cases, file_systems_are_known_by_their_numbers);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
