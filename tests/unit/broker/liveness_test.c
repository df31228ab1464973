/* liveness_test.c - the word that the kernel marks when the broker dies. */
#include "liveness.h"

#include <check.h>
#include <errno.h>
#include <limits.h>
#include <linux/futex.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "mshm/store.h"

static unsigned int *word;

static void
setup(void)
{
    word = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    ck_assert_ptr_ne(word, MAP_FAILED);
}

static bool
gone(void)
{
    return (AO_int_load_acquire(word) & MSHM_LIVENESS_GONE_BIT) != 0;
}

/* A process whose word is `word`, and which has said so. */
static pid_t
start_holder(void)
{
    int ready[2];
    char byte = 0;

    ck_assert_int_eq(pipe(ready), 0);
    pid_t child = fork();
    if (child == 0) {
        if (liveness_begin(word) != 0 || write(ready[1], &byte, 1) != 1)
            _exit(1);
        for (;;)
            pause();
    }
    ck_assert_int_eq(read(ready[0], &byte, 1), 1);
    close(ready[0]);
    close(ready[1]);
    return child;
}

START_TEST(the_word_is_the_thread_while_it_lives)
{
    pid_t child = start_holder();

    ck_assert_int_eq((int)AO_int_load(word), child);
    ck_assert(!gone());
    kill(child, SIGKILL);
    waitpid(child, NULL, 0);
}
END_TEST

START_TEST(a_kill_marks_the_word_before_the_process_is_reaped)
{
    for (int i = 0; i < 50; i++) {
        AO_int_store(word, 0);
        pid_t child = start_holder();
        ck_assert(!gone());
        ck_assert_int_eq(kill(child, SIGKILL), 0);
        ck_assert_int_eq(waitpid(child, NULL, 0), child);
        ck_assert(gone());
        ck_assert_uint_eq(AO_int_load(word), FUTEX_OWNER_DIED);
    }
}
END_TEST

START_TEST(a_kill_marks_the_word_before_any_descriptor_closes)
{
    for (int i = 0; i < 50; i++) {
        int held[2];
        char byte;
        AO_int_store(word, 0);
        ck_assert_int_eq(pipe(held), 0);
        pid_t child = start_holder(); /* inherits both ends */
        close(held[1]);
        kill(child, SIGKILL);
        ck_assert_int_eq(read(held[0], &byte, 1), 0); /* its end is closed */
        ck_assert(gone());
        close(held[0]);
        waitpid(child, NULL, 0);
    }
}
END_TEST

START_TEST(a_normal_exit_without_a_word_of_farewell_marks_it_too)
{
    pid_t child = fork();

    if (child == 0) {
        liveness_begin(word);
        _exit(0);
    }
    waitpid(child, NULL, 0);
    ck_assert(gone());
}
END_TEST

START_TEST(an_orderly_end_stays_as_it_was_stored)
{
    static const unsigned values[] = {MSHM_LIVENESS_STOPPED, MSHM_LIVENESS_POISONED};

    for (int i = 0; i < 2; i++) {
        AO_int_store(word, 0);
        pid_t child = fork();
        if (child == 0) {
            liveness_begin(word);
            liveness_end(word, values[i]);
            _exit(0);
        }
        waitpid(child, NULL, 0);
        ck_assert(gone());
        ck_assert_uint_eq(AO_int_load(word), values[i]);
    }
}
END_TEST

START_TEST(poison_is_not_turned_into_a_stop)
{
    liveness_end(word, MSHM_LIVENESS_POISONED);
    liveness_end(word, MSHM_LIVENESS_STOPPED);
    ck_assert_uint_eq(AO_int_load(word), MSHM_LIVENESS_POISONED);
}
END_TEST

START_TEST(an_orderly_end_wakes_who_sleeps_on_the_word)
{
    pid_t waiter = fork();

    AO_int_store(word, 5);
    if (waiter == 0) {
        struct timespec limit = {.tv_sec = 20};
        AO_int_store(word + 1, 1);
        while (AO_int_load_acquire(word) == 5)
            if (syscall(SYS_futex, word, FUTEX_WAIT, 5, &limit, NULL, 0) < 0 && errno == ETIMEDOUT)
                _exit(1);
        _exit(0);
    }
    while (AO_int_load_acquire(word + 1) == 0)
        sched_yield();
    liveness_end(word, MSHM_LIVENESS_STOPPED);
    int status;
    ck_assert_int_eq(waitpid(waiter, &status, 0), waiter);
    ck_assert(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}
END_TEST

int
main(void)
{
    Suite *suite = suite_create("liveness");
    TCase *cases = tcase_create("liveness");
    SRunner *runner = srunner_create(suite);

    suite_add_tcase(suite, cases);
    tcase_add_checked_fixture(cases, setup, NULL);
    tcase_set_timeout(cases, 60);
    tcase_add_test(cases, the_word_is_the_thread_while_it_lives);
    tcase_add_test(cases, a_kill_marks_the_word_before_the_process_is_reaped);
    tcase_add_test(cases, a_kill_marks_the_word_before_any_descriptor_closes);
    tcase_add_test(cases, a_normal_exit_without_a_word_of_farewell_marks_it_too);
    tcase_add_test(cases, an_orderly_end_stays_as_it_was_stored);
    tcase_add_test(cases, poison_is_not_turned_into_a_stop);
    tcase_add_test(cases, an_orderly_end_wakes_who_sleeps_on_the_word);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
