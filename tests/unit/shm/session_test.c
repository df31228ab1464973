/* The identity of a session segment. */
#include "mshm/session.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "mshm/status.h"

static struct mshm_session *session;

static void
set_up(void)
{
    session = aligned_alloc(64, mshm_align_up(sizeof(*session), 64));
    ck_assert_ptr_nonnull(session);
    memset(session, 0, sizeof(*session));
    mshm_session_init(session, 5, 77, MSHM_ARENA_INITIAL);
}

static void
tear_down(void)
{
    free(session);
}

START_TEST(new_session_passes_its_check)
{
    ck_assert_int_eq(mshm_session_check(session, MSHM_SESSION_SIZE), MSHM_OK);
    ck_assert_uint_eq(session->number, 5);
    ck_assert_uint_eq(session->incarnation, 77);
    ck_assert_uint_eq(session->arena_size, MSHM_ARENA_INITIAL);
    ck_assert_uint_eq(session->arena_offset % 4096, 0);
    ck_assert_uint_ge(session->arena_offset, sizeof(*session));
    ck_assert_uint_eq(session->segment_size, session->arena_offset + MSHM_ARENA_MAX);
}
END_TEST

START_TEST(session_of_another_layout_is_refused_as_version)
{
    session->magic ^= 1;
    ck_assert_int_eq(mshm_session_check(session, MSHM_SESSION_SIZE), MSHM_VERSION);
    session->magic ^= 1;
    session->version++;
    ck_assert_int_eq(mshm_session_check(session, MSHM_SESSION_SIZE), MSHM_VERSION);
    session->version--;
    session->layout_hash++;
    ck_assert_int_eq(mshm_session_check(session, MSHM_SESSION_SIZE), MSHM_VERSION);
}
END_TEST

START_TEST(session_that_does_not_fit_its_mapping_is_refused)
{
    ck_assert_int_eq(mshm_session_check(session, MSHM_SESSION_SIZE - 1), MSHM_CORRUPT);
    ck_assert_int_eq(mshm_session_check(session, 100), MSHM_CORRUPT);
    session->arena_size = MSHM_ARENA_MAX + 1;
    ck_assert_int_eq(mshm_session_check(session, MSHM_SESSION_SIZE), MSHM_CORRUPT);
    session->arena_size = MSHM_ARENA_MAX;
    session->arena_offset += 4096;
    ck_assert_int_eq(mshm_session_check(session, MSHM_SESSION_SIZE), MSHM_CORRUPT);
}
END_TEST

START_TEST(neighbours_in_the_ring_have_their_own_places)
{
    ck_assert_uint_eq(mshm_ring_place(1), 0);
    ck_assert_uint_eq(mshm_ring_place(MSHM_RING_CAPACITY), MSHM_RING_CAPACITY - 1);
    ck_assert_uint_eq(mshm_ring_place(MSHM_RING_CAPACITY + 1), 0);
}
END_TEST

START_TEST(words_of_broker_and_client_are_on_different_lines)
{
    const uint8_t *start = (const uint8_t *)session;
    size_t head = (size_t)((const uint8_t *)&session->head - start) / 64;
    size_t asleep = (size_t)((const uint8_t *)&session->asleep - start) / 64;
    size_t tail = (size_t)((const uint8_t *)&session->tail - start) / 64;
    size_t counters = (size_t)((const uint8_t *)&session->counters - start) / 64;
    ck_assert_uint_ne(head, asleep);
    ck_assert_uint_ne(asleep, tail);
    ck_assert_uint_ne(head, tail);
    ck_assert_uint_ne(tail, counters);
}
END_TEST

int
main(void)
{
    Suite *suite = suite_create("session");
    TCase *tests = tcase_create("session");
    tcase_add_checked_fixture(tests, set_up, tear_down);
    tcase_add_test(tests, new_session_passes_its_check);
    tcase_add_test(tests, session_of_another_layout_is_refused_as_version);
    tcase_add_test(tests, session_that_does_not_fit_its_mapping_is_refused);
    tcase_add_test(tests, neighbours_in_the_ring_have_their_own_places);
    tcase_add_test(tests, words_of_broker_and_client_are_on_different_lines);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
