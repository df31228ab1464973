/* host_stall_test.c - requests that the disk does not answer are counted once each, and while they wait. */
#include "host_stall.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "host_clock.h"

static struct host_stall stall;
static struct mshm_counters counters;

static void
setup(void)
{
    memset(&stall, 0, sizeof stall);
    memset(&counters, 0, sizeof counters);
    host_stall_figures(&stall, &counters);
}

static void
figures_are(uint64_t stalls, uint64_t unanswered)
{
    ck_assert_uint_eq(AO_load(&counters.disk_stalls), stalls);
    ck_assert_uint_eq(AO_load(&counters.disk_unanswered), unanswered);
}

START_TEST(who_waits_for_a_second_is_counted_once_and_while_it_waits)
{
    uint64_t now = 5 * HOST_SECOND_NS;

    host_stall_begin(&stall, 0x100, now);
    host_stall_look(&stall, now + HOST_SECOND_NS - 1);
    figures_are(0, 0);
    host_stall_look(&stall, now + 2 * HOST_SECOND_NS);
    figures_are(1, 1);
    host_stall_look(&stall, now + 9 * HOST_SECOND_NS);
    figures_are(1, 1);
    host_stall_end(&stall, 0x100);
    figures_are(1, 0);
    host_stall_begin(&stall, 0x100, now + 10 * HOST_SECOND_NS);
    host_stall_look(&stall, now + 10 * HOST_SECOND_NS + HOST_SECOND_NS / 2);
    host_stall_end(&stall, 0x100);
    host_stall_look(&stall, now + 20 * HOST_SECOND_NS);
    figures_are(1, 0);
}
END_TEST

START_TEST(requests_of_all_kinds_are_told_apart)
{
    static const uint64_t first[] = {0x100, 0x200, 0x10000};
    uint64_t now = HOST_SECOND_NS, count = 0;

    for (unsigned kind = 0; kind < 3; kind++)
        for (uint64_t i = 0; i < (kind < 2 ? 16 : 4096); i++, count++)
            host_stall_begin(&stall, first[kind] + i, now);
    host_stall_look(&stall, now + 3 * HOST_SECOND_NS);
    figures_are(count, count);
    for (unsigned kind = 0; kind < 3; kind++)
        for (uint64_t i = 0; i < (kind < 2 ? 16 : 4096); i++)
            host_stall_end(&stall, first[kind] + i);
    figures_are(count, 0);
}
END_TEST

int
main(void)
{
    Suite *suite = suite_create("host_stall");
    TCase *cases = tcase_create("stall");
    SRunner *runner = srunner_create(suite);

    suite_add_tcase(suite, cases);
    tcase_add_checked_fixture(cases, setup, NULL);
    tcase_add_test(cases, who_waits_for_a_second_is_counted_once_and_while_it_waits);
    tcase_add_test(cases, requests_of_all_kinds_are_told_apart);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
