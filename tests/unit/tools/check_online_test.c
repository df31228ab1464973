/* check_online_test.c - beside a broker a finding counts when it is found again with nothing in between that explains it. */
#include <check.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "mshm/status.h"
#include "support/require.h"
#include "unit/tools/planted.h"

/* What a broker does to a look: files that are gone when they are opened. */
static struct {
    int (*open)(void *context, const char *name, unsigned flags, struct env_file **file);
    unsigned missing; /* so many more opens of data files find nothing */
    bool goes_on;     /* and each time there is a newer manifest */
} meanwhile;

static void
manifest_renew(void)
{
    struct planted planted;
    planted_open(&planted, planted_path);
    planted_save(&planted);
    planted_close(&planted);
}

static int
open_meanwhile(void *context, const char *name, unsigned flags, struct env_file **file)
{
    if (strncmp(name, "data/", 5) != 0 || meanwhile.missing == 0)
        return meanwhile.open(context, name, flags, file);
    meanwhile.missing--;
    if (meanwhile.goes_on)
        manifest_renew();
    return -ENOENT;
}

/* A look beside such a broker: its status, and how many findings there are. */
static int
look(unsigned missing, bool goes_on, uint64_t *count, char *why, size_t why_size)
{
    struct check check;
    struct report *report = report_create();
    require(check_open(&check, planted_path, true, report, why, why_size) == MSHM_OK, "%s", why);
    meanwhile.open = check.env.file_open;
    meanwhile.missing = missing;
    meanwhile.goes_on = goes_on;
    check.env.file_open = open_meanwhile;
    int status = check_run(&check, why, why_size);
    *count = report_count(report);
    check_close(&check);
    report_destroy(report);
    return status;
}

START_TEST(a_file_that_is_missing_once_is_no_finding)
{
    uint64_t count;
    char why[600];
    ck_assert_int_eq(look(1, false, &count, why, sizeof why), MSHM_OK);
    ck_assert_uint_eq(count, 0);
}
END_TEST

START_TEST(a_file_that_is_missing_again_with_the_same_manifest_is_a_finding)
{
    uint64_t count;
    char why[600];
    ck_assert_int_eq(look(UINT32_MAX, false, &count, why, sizeof why), MSHM_OK);
    ck_assert_uint_gt(count, 0);
}
END_TEST

START_TEST(a_file_that_is_missing_while_the_manifest_changes_is_no_finding)
{
    uint64_t count;
    char why[600];
    ck_assert_int_eq(look(4, true, &count, why, sizeof why), MSHM_OK);
    ck_assert_uint_eq(count, 0);
}
END_TEST

START_TEST(where_a_broker_is_always_faster_nothing_is_claimed)
{
    uint64_t count;
    char why[600];
    ck_assert_int_eq(look(UINT32_MAX, true, &count, why, sizeof why), MSHM_BUSY);
    ck_assert_uint_eq(count, 0);
    ck_assert(strstr(why, "faster") != NULL);
}
END_TEST

static Suite *
online_suite(void)
{
    Suite *suite = suite_create("check_online");
    TCase *tests = tcase_create("check_online");
    tcase_set_timeout(tests, 120);
    tcase_add_unchecked_fixture(tests, planted_base_create, planted_base_remove);
    tcase_add_checked_fixture(tests, planted_copy_create, planted_copy_remove);
    tcase_add_test(tests, a_file_that_is_missing_once_is_no_finding);
    tcase_add_test(tests, a_file_that_is_missing_again_with_the_same_manifest_is_a_finding);
    tcase_add_test(tests, a_file_that_is_missing_while_the_manifest_changes_is_no_finding);
    tcase_add_test(tests, where_a_broker_is_always_faster_nothing_is_claimed);
    suite_add_tcase(suite, tests);
    return suite;
}

int
main(void)
{
    SRunner *runner = srunner_create(online_suite());
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
