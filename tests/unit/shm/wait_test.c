/* wait_test.c - whose time slice a yield has met. sched_yield and clock_gettime are the test's own: a yield takes the time,
 * and brings the commits, that the case says.
 */
#include <check.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "mshm/protocol.h"

int __wrap_sched_yield(void);
int __wrap_clock_gettime(clockid_t clock, struct timespec *now);

static struct mshm_store store;
static uint64_t now_ns, yield_ns, yield_commits;
static unsigned yields;

int
__wrap_sched_yield(void)
{
    yields++;
    now_ns += yield_ns;
    AO_store(&store.visible, AO_load(&store.visible) + yield_commits);
    return 0;
}

int
__wrap_clock_gettime(clockid_t clock, struct timespec *now)
{
    (void)clock;
    *now = (struct timespec){.tv_sec = (time_t)(now_ns / 1000000000u),
                             .tv_nsec = (long)(now_ns % 1000000000u)};
    return 0;
}

enum { US = 1000, MS = 1000 * 1000 };

static int
yield_once(const struct mshm_store *seen, uint64_t takes_ns, uint64_t commits)
{
    yield_ns = takes_ns;
    yield_commits = commits;
    return mshm_yield(seen);
}

static void
setup(void)
{
    memset(&store, 0, sizeof store);
    now_ns += UINT64_C(1000) * MS; /* what an earlier case left is over */
    yields = 0;
}

START_TEST(after_short_yields_others_follow)
{
    for (int i = 0; i < 100; i++)
        ck_assert_int_ne(yield_once(&store, 100 * US, 0), 0);
    ck_assert_uint_eq(yields, 100);
}
END_TEST

START_TEST(after_a_strangers_slice_nobody_yields_for_a_while)
{
    ck_assert_int_eq(yield_once(&store, 4 * MS, 1), 0);
    for (int i = 0; i < 4; i++) {
        ck_assert_int_eq(yield_once(&store, 1 * US, 0), 0);
        now_ns += 10 * MS;
    }
    ck_assert_uint_eq(yields, 1);
    now_ns += 20 * MS;
    ck_assert_int_ne(yield_once(&store, 1 * US, 0), 0);
    ck_assert_uint_eq(yields, 2);
}
END_TEST

START_TEST(a_slice_in_which_others_committed_is_no_strangers)
{
    for (int i = 0; i < 10; i++)
        ck_assert_int_ne(yield_once(&store, 4 * MS, 1000), 0);
    ck_assert_uint_eq(yields, 10);
    ck_assert_int_eq(yield_once(&store, 4 * MS, 100), 0); /* here and there one */
}
END_TEST

START_TEST(who_cannot_tell_takes_each_long_yield_for_a_strangers)
{
    ck_assert_int_ne(yield_once(NULL, 100 * US, 0), 0);
    ck_assert_int_eq(yield_once(NULL, 4 * MS, 1000), 0);
    ck_assert_int_eq(yield_once(NULL, 1 * US, 0), 0);
    ck_assert_uint_eq(yields, 2);
}
END_TEST

int
main(void)
{
    Suite *suite = suite_create("wait");
    TCase *cases = tcase_create("yields");

    tcase_add_checked_fixture(cases, setup, NULL);
    tcase_add_test(cases, after_short_yields_others_follow);
    tcase_add_test(cases, after_a_strangers_slice_nobody_yields_for_a_while);
    tcase_add_test(cases, a_slice_in_which_others_committed_is_no_strangers);
    tcase_add_test(cases, who_cannot_tell_takes_each_long_yield_for_a_strangers);
    suite_add_tcase(suite, cases);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
