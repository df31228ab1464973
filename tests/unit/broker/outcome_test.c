/* What became of commits that nobody was told about: known, not committed, or not known any more. */
#include "outcome.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>

#include "mshm/status.h"

static struct outcomes *outcomes;

static void
set_up(void)
{
    ck_assert_int_eq(outcomes_create(&outcomes), MSHM_OK);
}

static void
tear_down(void)
{
    outcomes_destroy(outcomes);
}

static void
add(uint64_t incarnation, uint32_t session, uint64_t sequence, uint64_t timestamp)
{
    ck_assert_int_eq(outcomes_add(outcomes, incarnation, session, sequence, timestamp), MSHM_OK);
}

static enum mshm_outcome
look_up(uint64_t incarnation, uint32_t session, uint64_t sequence, uint64_t *timestamp)
{
    *timestamp = 0;
    return outcomes_lookup(outcomes, incarnation, session, sequence, timestamp);
}

START_TEST(committed_and_not_committed_are_told_apart)
{
    uint64_t timestamp;
    add(1, 4, 10, 100);
    add(1, 4, 12, 101);
    outcomes_seal(outcomes, 2);
    ck_assert_int_eq(look_up(1, 4, 10, &timestamp), MSHM_OUTCOME_COMMITTED);
    ck_assert_uint_eq(timestamp, 100);
    ck_assert_int_eq(look_up(1, 4, 12, &timestamp), MSHM_OUTCOME_COMMITTED);
    ck_assert_uint_eq(timestamp, 101);
    ck_assert_int_eq(look_up(1, 4, 11, &timestamp), MSHM_OUTCOME_NOT_COMMITTED);
    ck_assert_int_eq(look_up(1, 4, 13, &timestamp), MSHM_OUTCOME_NOT_COMMITTED);
    ck_assert_int_eq(look_up(1, 5, 10, &timestamp), MSHM_OUTCOME_NOT_COMMITTED);
}
END_TEST

START_TEST(nothing_is_known_before_the_table_is_complete_nor_of_the_running_incarnation)
{
    uint64_t timestamp;
    add(1, 1, 1, 5);
    ck_assert_int_eq(look_up(1, 1, 1, &timestamp), MSHM_OUTCOME_UNKNOWN);
    outcomes_seal(outcomes, 2);
    ck_assert_int_eq(look_up(2, 1, 1, &timestamp), MSHM_OUTCOME_UNKNOWN);
    ck_assert_int_eq(look_up(UINT64_MAX, 1, 1, &timestamp), MSHM_OUTCOME_UNKNOWN);
    ck_assert_int_eq(look_up(1, 1, 1, &timestamp), MSHM_OUTCOME_COMMITTED);
}
END_TEST

START_TEST(threads_of_one_session_may_commit_out_of_order)
{
    uint64_t timestamp;
    add(1, 1, 5, 50);
    add(1, 1, 3, 51);
    add(1, 1, 9, 52);
    add(1, 1, 4, 53);
    outcomes_seal(outcomes, 2);
    static const uint64_t committed[][2] = {{5, 50}, {3, 51}, {9, 52}, {4, 53}};
    for (int i = 0; i < 4; i++) {
        ck_assert_int_eq(look_up(1, 1, committed[i][0], &timestamp), MSHM_OUTCOME_COMMITTED);
        ck_assert_uint_eq(timestamp, committed[i][1]);
    }
    ck_assert_int_eq(look_up(1, 1, 6, &timestamp), MSHM_OUTCOME_NOT_COMMITTED);
}
END_TEST

START_TEST(the_last_ring_of_sequences_is_kept)
{
    uint64_t timestamp;
    for (uint64_t sequence = 1; sequence <= 10000; sequence += 2)
        add(3, 1, sequence, sequence + 7);
    outcomes_seal(outcomes, 4);
    for (uint64_t sequence = 9999; sequence > 9999 - MSHM_RING_CAPACITY; sequence--) {
        enum mshm_outcome outcome = look_up(3, 1, sequence, &timestamp);
        ck_assert_int_eq(outcome,
                         sequence % 2 == 1 ? MSHM_OUTCOME_COMMITTED : MSHM_OUTCOME_NOT_COMMITTED);
    }
    /* Older ones may still be there, but are never called not committed. */
    for (uint64_t sequence = 1; sequence <= 9999 - MSHM_RING_CAPACITY; sequence++)
        ck_assert_int_ne(look_up(3, 1, sequence, &timestamp), MSHM_OUTCOME_NOT_COMMITTED);
}
END_TEST

START_TEST(oldest_tokens_are_dropped_first_and_then_unknown)
{
    uint64_t timestamp;
    for (uint32_t session = 1; session <= 70000; session++)
        add(1, session, 1, session);
    add(1, 100, 2, 70001); /* a dropped one commits again: its entry would not be complete */
    outcomes_seal(outcomes, 2);
    ck_assert_int_eq(look_up(1, 1, 1, &timestamp), MSHM_OUTCOME_UNKNOWN);
    ck_assert_int_eq(look_up(1, 100, 2, &timestamp), MSHM_OUTCOME_UNKNOWN);
    ck_assert_int_eq(look_up(1, 70000 - 65536, 1, &timestamp), MSHM_OUTCOME_UNKNOWN);
    ck_assert_int_eq(look_up(1, 70001 - 65536, 1, &timestamp), MSHM_OUTCOME_COMMITTED);
    ck_assert_int_eq(look_up(1, 70000, 1, &timestamp), MSHM_OUTCOME_COMMITTED);
    ck_assert_int_eq(look_up(1, 70001, 1, &timestamp), MSHM_OUTCOME_NOT_COMMITTED);
}
END_TEST

START_TEST(memory_is_bounded_whatever_the_sessions_commit)
{
    uint64_t timestamp;
    for (uint32_t session = 1; session <= 6000; session++)
        for (uint64_t sequence = 1; sequence <= 1024; sequence++)
            add(1, session, sequence, sequence);
    outcomes_seal(outcomes, 2);
    ck_assert_int_eq(look_up(1, 1, 1, &timestamp), MSHM_OUTCOME_UNKNOWN);
    ck_assert_int_eq(look_up(1, 6000, 1024, &timestamp), MSHM_OUTCOME_COMMITTED);
}
END_TEST

START_TEST(tokens_expire_after_ten_minutes_of_serving_unless_asked_for)
{
    uint64_t timestamp;
    add(1, 1, 1, 5);
    add(1, 2, 1, 6);
    outcomes_seal(outcomes, 2);
    outcomes_expire(outcomes, UINT64_C(599) * 1000000000);
    ck_assert_int_eq(look_up(1, 2, 1, &timestamp), MSHM_OUTCOME_COMMITTED);
    outcomes_expire(outcomes, UINT64_C(601) * 1000000000);
    ck_assert_int_eq(look_up(1, 1, 1, &timestamp), MSHM_OUTCOME_UNKNOWN);
    ck_assert_int_eq(look_up(1, 2, 1, &timestamp), MSHM_OUTCOME_COMMITTED);
    ck_assert_int_eq(look_up(1, 3, 1, &timestamp), MSHM_OUTCOME_NOT_COMMITTED);
}
END_TEST

/* Random commits of random tokens against a plain list. */
START_TEST(agrees_with_a_plain_list)
{
    enum { TOKENS = 40, SEQUENCES = 200 };
    static uint64_t list[TOKENS][SEQUENCES];
    const char *text = getenv("MACE_SEED");
    unsigned seed = text != NULL ? (unsigned)strtoul(text, NULL, 0) : 1;
    printf("MACE_SEED=%u\n", seed);
    srandom(seed);
    for (uint64_t timestamp = 1; timestamp < 4000; timestamp++) {
        unsigned token = (unsigned)random() % TOKENS, sequence = (unsigned)random() % SEQUENCES;
        if (list[token][sequence] != 0)
            continue;
        list[token][sequence] = timestamp;
        add(1 + token / 10, token % 10 + 1, sequence + 1, timestamp);
    }
    outcomes_seal(outcomes, 100);
    for (unsigned token = 0; token < TOKENS; token++) {
        for (unsigned sequence = 0; sequence < SEQUENCES; sequence++) {
            uint64_t timestamp;
            enum mshm_outcome outcome =
                look_up(1 + token / 10, token % 10 + 1, sequence + 1, &timestamp);
            ck_assert_int_eq(outcome, list[token][sequence] != 0 ? MSHM_OUTCOME_COMMITTED
                                                                 : MSHM_OUTCOME_NOT_COMMITTED);
            ck_assert_uint_eq(timestamp, list[token][sequence]);
        }
    }
}
END_TEST

int
main(void)
{
    Suite *suite = suite_create("outcome");
    TCase *tests = tcase_create("outcome");
    tcase_set_timeout(tests, 60);
    tcase_add_checked_fixture(tests, set_up, tear_down);
    tcase_add_test(tests, committed_and_not_committed_are_told_apart);
    tcase_add_test(tests,
                   nothing_is_known_before_the_table_is_complete_nor_of_the_running_incarnation);
    tcase_add_test(tests, threads_of_one_session_may_commit_out_of_order);
    tcase_add_test(tests, the_last_ring_of_sequences_is_kept);
    tcase_add_test(tests, oldest_tokens_are_dropped_first_and_then_unknown);
    tcase_add_test(tests, memory_is_bounded_whatever_the_sessions_commit);
    tcase_add_test(tests, tokens_expire_after_ten_minutes_of_serving_unless_asked_for);
    tcase_add_test(tests, agrees_with_a_plain_list);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
