/* Latency histograms. */
#include "mshm/counters.h"

#include <check.h>
#include <string.h>

static struct mshm_histogram histogram;

static void
set_up(void)
{
    memset(&histogram, 0, sizeof(histogram));
}

START_TEST(empty_histogram_has_quantile_zero)
{
    ck_assert_uint_eq(mshm_histogram_quantile(&histogram, 0.5), 0);
}
END_TEST

START_TEST(small_values_are_exact)
{
    for (uint64_t value = 0; value < 8; value++) {
        set_up();
        mshm_histogram_add(&histogram, value);
        ck_assert_uint_eq(mshm_histogram_quantile(&histogram, 0.5), value);
    }
}
END_TEST

/* A bucket is a quarter of a power of two: the quantile of a crowd lies at most a quarter above each of its values. */
START_TEST(quantile_is_at_most_a_quarter_above_the_value)
{
    for (uint64_t value = 1; value < UINT64_C(7) << 38; value += value / 7 + 1) {
        set_up();
        mshm_histogram_add(&histogram, value);
        mshm_histogram_add(&histogram,
                           UINT64_C(1) << 62); /* lifts the maximum, which would hide the bound */
        uint64_t quantile = mshm_histogram_quantile(&histogram, 0.5);
        ck_assert_uint_ge(quantile, value);
        ck_assert_uint_le(quantile, value + value / 4);
    }
}
END_TEST

START_TEST(quantiles_of_a_thousand_values_are_in_place)
{
    for (uint64_t value = 1; value <= 1000; value++)
        mshm_histogram_add(&histogram, value * 1000);
    uint64_t half = mshm_histogram_quantile(&histogram, 0.5);
    uint64_t most = mshm_histogram_quantile(&histogram, 0.99);
    ck_assert_uint_ge(half, 500000);
    ck_assert_uint_le(half, 625000);
    ck_assert_uint_ge(most, 990000);
    ck_assert_uint_le(most, 1000000);
    ck_assert_uint_eq(mshm_histogram_quantile(&histogram, 1.0), 1000000);
    ck_assert_uint_eq(histogram.count, 1000);
    ck_assert_uint_eq(histogram.sum, 500500000);
    ck_assert_uint_eq(histogram.max, 1000000);
}
END_TEST

START_TEST(greatest_values_fall_into_the_last_bucket)
{
    mshm_histogram_add(&histogram, UINT64_MAX);
    mshm_histogram_add(&histogram, UINT64_C(1) << 50);
    ck_assert_uint_eq(histogram.buckets[MSHM_HISTOGRAM_BUCKETS - 1], 2);
    ck_assert_uint_eq(mshm_histogram_quantile(&histogram, 0.5), UINT64_MAX);
}
END_TEST

START_TEST(quantile_zero_is_the_smallest_bucket_in_use)
{
    mshm_histogram_add(&histogram, 100);
    mshm_histogram_add(&histogram, 1000);
    ck_assert_uint_ge(mshm_histogram_quantile(&histogram, 0.0), 100);
    ck_assert_uint_le(mshm_histogram_quantile(&histogram, 0.0), 125);
}
END_TEST

int
main(void)
{
    Suite *suite = suite_create("counters");
    TCase *tests = tcase_create("counters");
    tcase_add_checked_fixture(tests, set_up, NULL);
    tcase_add_test(tests, empty_histogram_has_quantile_zero);
    tcase_add_test(tests, small_values_are_exact);
    tcase_add_test(tests, quantile_is_at_most_a_quarter_above_the_value);
    tcase_add_test(tests, quantiles_of_a_thousand_values_are_in_place);
    tcase_add_test(tests, greatest_values_fall_into_the_last_bucket);
    tcase_add_test(tests, quantile_zero_is_the_smallest_bucket_in_use);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
