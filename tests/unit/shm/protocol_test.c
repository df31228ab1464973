/* Snapshots, brackets, and waiting for an answer, each as one side sees it; protocol_threads_test runs both sides. */
#include "mshm/protocol.h"

#include <check.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "mshm/segment.h"

static struct mshm_store *store;
static struct mshm_segment segment, client;
static struct mshm_session *broker_side; /* two mappings of one session */
static struct mshm_session *session;

static void
set_up(void)
{
    store = aligned_alloc(4096, sizeof(*store));
    ck_assert_ptr_nonnull(store);
    memset(store, 0, sizeof(*store));
    AO_store(&store->epoch, 1);
    ck_assert_int_eq(mshm_segment_create(&segment, "session", MSHM_SESSION_SIZE,
                                         MSHM_SEGMENT_SHARED, MSHM_HUGE_PAGES_OFF),
                     MSHM_OK);
    ck_assert_int_eq(mshm_segment_back(&segment, 0, sizeof(struct mshm_session)), MSHM_OK);
    broker_side = (struct mshm_session *)segment.base;
    mshm_session_init(broker_side, 1, 1, MSHM_ARENA_INITIAL);
    ck_assert_int_eq(mshm_segment_map(&client, segment.fd, MSHM_SESSION_SIZE, 1), MSHM_OK);
    session = (struct mshm_session *)client.base;
}

static void
tear_down(void)
{
    mshm_segment_fini(&client);
    mshm_segment_fini(&segment);
    free(store);
}

static uint64_t
now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

/* --- snapshots and brackets --- */

START_TEST(snapshot_is_the_visible_timestamp)
{
    AO_store(&store->visible, 41);
    AO_store(&store->horizon, 41);
    ck_assert_uint_eq(mshm_snapshot_register(store, &session->lanes[0]), 41);
    ck_assert_uint_eq(session->lanes[0].snapshot, 41);
    ck_assert_uint_eq(broker_side->lanes[0].snapshot, 41);
    mshm_snapshot_release(&session->lanes[0]);
    ck_assert_uint_eq(session->lanes[0].snapshot, 0);
}
END_TEST

/* Lets `visible` catch up once the reader has stored a snapshot below the horizon. */
static void *
publish_visible(void *argument)
{
    (void)argument;
    while (AO_load(&broker_side->lanes[0].snapshot) != 41)
        mshm_pause();
    AO_store_release(&store->visible, 50);
    return NULL;
}

START_TEST(snapshot_below_the_horizon_is_taken_again)
{
    pthread_t thread;
    AO_store(&store->visible, 41);
    AO_store(&store->horizon, 50);
    ck_assert_int_eq(pthread_create(&thread, NULL, publish_visible, NULL), 0);
    ck_assert_uint_eq(mshm_snapshot_register(store, &session->lanes[0]), 50);
    ck_assert_uint_eq(session->lanes[0].snapshot, 50);
    ck_assert_int_eq(pthread_join(thread, NULL), 0);
}
END_TEST

START_TEST(bracket_shows_its_epoch_while_it_is_open)
{
    struct mshm_lane *lane = &session->lanes[3];
    AO_store(&store->epoch, 9);
    AO_t epoch = mshm_bracket_open(store, lane);
    ck_assert_uint_eq(epoch, 9);
    ck_assert_uint_eq(broker_side->lanes[3].epoch, 9);
    ck_assert_int_eq(mshm_bracket_close(store, lane, epoch), 0);
    ck_assert_uint_eq(broker_side->lanes[3].epoch, 0);
}
END_TEST

START_TEST(bracket_is_revoked_up_to_and_with_the_epoch_that_was_named)
{
    struct mshm_lane *lane = &session->lanes[3];
    AO_store(&store->epoch, 9);
    for (AO_t revoked = 7; revoked <= 10; revoked++) {
        AO_t epoch = mshm_bracket_open(store, lane);
        AO_store(&store->revoked, revoked);
        ck_assert_int_eq(mshm_bracket_close(store, lane, epoch) != 0, revoked >= 9);
        ck_assert_uint_eq(lane->epoch, 0); /* cleared in both cases */
    }
}
END_TEST

START_TEST(mark_at_or_above_the_snapshot_means_expired)
{
    AO_t mark = 10;
    ck_assert_int_ne(mshm_snapshot_expired(&mark, 9), 0);
    ck_assert_int_ne(mshm_snapshot_expired(&mark, 10), 0);
    ck_assert_int_eq(mshm_snapshot_expired(&mark, 11), 0);
}
END_TEST

/* --- waiting --- */

START_TEST(answer_that_is_there_costs_no_sleep)
{
    mshm_completion_post(broker_side, 1, MSHM_OK, 7);
    ck_assert_int_eq(mshm_completion_wait(session, store, 1, 0, 2), MSHM_OK);
    ck_assert_uint_eq(session->counters.waits_spun, 1);
    ck_assert_uint_eq(session->counters.waits_slept, 0);
    ck_assert_uint_eq(session->waiting[0], 0);
}
END_TEST

START_TEST(answer_given_before_death_is_still_an_answer)
{
    AO_int_store(&store->liveness, MSHM_LIVENESS_POISONED);
    mshm_completion_post(broker_side, 1, MSHM_OK, 7);
    ck_assert_int_eq(mshm_completion_wait(session, store, 1, 0, 2), MSHM_OK);
}
END_TEST

/* Somebody else took the answer and the place was used again: the waiter must not sleep until the end of days. */
START_TEST(answer_that_was_overtaken_ends_the_wait)
{
    int status;
    mshm_timestamp timestamp;
    static const uint64_t sequences[] = {5, (UINT64_C(1) << 32) - 3, (UINT64_C(1) << 32) + 5,
                                         (UINT64_C(1) << 31) - 3};
    for (size_t i = 0; i < 4; i++) {
        mshm_completion_post(broker_side, sequences[i] + MSHM_RING_CAPACITY, MSHM_OK, 7);
        ck_assert_int_eq(mshm_completion_wait(session, store, sequences[i], 0, 2), MSHM_OK);
        ck_assert_int_eq(mshm_completion_take(session, sequences[i], &status, &timestamp), 0);
        ck_assert_int_eq(
            mshm_completion_wait(session, store, sequences[i] + 2 * MSHM_RING_CAPACITY, 1, 2),
            MSHM_BUSY);
    }
}
END_TEST

START_TEST(each_end_of_the_broker_ends_the_wait)
{
    static const unsigned ends[] = {MSHM_LIVENESS_STOPPED, MSHM_LIVENESS_POISONED,
                                    0x40000000u | 99};
    for (size_t i = 0; i < 3; i++) {
        AO_int_store(&store->liveness, ends[i]);
        ck_assert_int_eq(mshm_completion_wait(session, store, 1, 0, 2), MSHM_BROKER_LOST);
        ck_assert_uint_eq(session->waiting[0], 0);
    }
}
END_TEST

START_TEST(deadline_ends_the_wait)
{
    uint64_t begin = now_ns();
    ck_assert_int_eq(mshm_completion_wait(session, store, 1, begin + 20000000, 2), MSHM_BUSY);
    ck_assert_uint_ge(now_ns() - begin, 20000000);
    ck_assert_int_eq(mshm_completion_wait(session, store, 1, 1, 1), MSHM_BUSY); /* long past */
    ck_assert_uint_eq(session->waiting[0], 0);
    ck_assert_uint_eq(session->counters.waits_slept, 2);
}
END_TEST

/* Dies once the waiter has announced its sleep: nobody wakes it. */
static void *
die(void *argument)
{
    (void)argument;
    while (AO_int_load(&broker_side->waiting[0]) == 0)
        mshm_pause();
    AO_int_store_release(&store->liveness, 0x40000000u);
    return NULL;
}

START_TEST(sleeper_notices_death_although_nobody_wakes_it)
{
    pthread_t thread;
    ck_assert_int_eq(pthread_create(&thread, NULL, die, NULL), 0);
    ck_assert_int_eq(mshm_completion_wait(session, store, 1, 0, 2), MSHM_BROKER_LOST);
    ck_assert_int_eq(pthread_join(thread, NULL), 0);
}
END_TEST

enum { ROUNDS = 60 };
static AO_t sleeper; /* thread number of the waiter */

/* Is the waiter in the kernel's hands, asleep? The third word of its stat line says so. */
static int
sleeper_sleeps(void)
{
    char path[64], line[256] = "";
    snprintf(path, sizeof(path), "/proc/self/task/%lu/stat", (unsigned long)AO_load(&sleeper));
    FILE *file = fopen(path, "re");
    if (file == NULL)
        return 0;
    const char *text = fgets(line, sizeof(line), file);
    fclose(file);
    const char *name_end = text != NULL ? strrchr(line, ')') : NULL;
    return name_end != NULL && name_end[2] == 'S';
}

/* Answers each request only when its waiter has gone to sleep, by way of the other mapping. */
static void *
answer_sleepers(void *argument)
{
    (void)argument;
    for (uint64_t sequence = 1; sequence <= ROUNDS; sequence++) {
        while (AO_int_load(&broker_side->waiting[mshm_ring_place(sequence)]) == 0 ||
               !sleeper_sleeps())
            sched_yield();
        mshm_completion_post(broker_side, sequence, MSHM_OK, sequence);
        mshm_full_fence();
        if (mshm_completion_waiter(broker_side, sequence))
            mshm_completion_wake(broker_side, sequence);
    }
    return NULL;
}

/* Who is not woken sleeps for 100 ms. On a busy machine a wake-up may take as long, but not every time. */
START_TEST(sleeper_is_woken_through_another_mapping)
{
    pthread_t thread;
    uint64_t shortest = UINT64_MAX;
    AO_store(&sleeper, (AO_t)gettid());
    ck_assert_int_eq(pthread_create(&thread, NULL, answer_sleepers, NULL), 0);
    for (uint64_t sequence = 1; sequence <= ROUNDS; sequence++) {
        int status;
        mshm_timestamp timestamp;
        uint64_t begin = now_ns();
        ck_assert_int_eq(mshm_completion_wait(session, store, sequence, 0, 2), MSHM_OK);
        uint64_t took = now_ns() - begin;
        shortest = took < shortest ? took : shortest;
        ck_assert_int_ne(mshm_completion_take(session, sequence, &status, &timestamp), 0);
        ck_assert_uint_eq(timestamp, sequence);
        ck_assert_uint_eq(session->waiting[mshm_ring_place(sequence)], 0);
    }
    ck_assert_int_eq(pthread_join(thread, NULL), 0);
    ck_assert_uint_eq(session->counters.waits_slept, ROUNDS);
    ck_assert_uint_lt(shortest, 90 * UINT64_C(1000000));
}
END_TEST

static void
ignore(int signal_number)
{
    (void)signal_number;
}

static pthread_t waiter;

/* Interrupts the sleeper again and again before it answers. */
static void *
interrupt_and_answer(void *argument)
{
    (void)argument;
    while (AO_int_load(&broker_side->waiting[0]) == 0)
        sched_yield();
    for (unsigned i = 0; i < 1000; i++)
        pthread_kill(waiter, SIGUSR1);
    mshm_completion_post(broker_side, 1, MSHM_CONFLICT, 0);
    mshm_full_fence();
    if (mshm_completion_waiter(broker_side, 1))
        mshm_completion_wake(broker_side, 1);
    return NULL;
}

START_TEST(signals_do_not_end_the_wait)
{
    struct sigaction action = {.sa_handler = ignore}; /* no SA_RESTART */
    pthread_t thread;
    waiter = pthread_self();
    ck_assert_int_eq(sigaction(SIGUSR1, &action, NULL), 0);
    ck_assert_int_eq(pthread_create(&thread, NULL, interrupt_and_answer, NULL), 0);
    ck_assert_int_eq(mshm_completion_wait(session, store, 1, 0, 2), MSHM_OK);
    ck_assert_int_eq(pthread_join(thread, NULL), 0);
}
END_TEST

int
main(void)
{
    Suite *suite = suite_create("protocol");
    TCase *tests = tcase_create("protocol");
    tcase_set_timeout(tests, 60);
    tcase_add_checked_fixture(tests, set_up, tear_down);
    tcase_add_test(tests, snapshot_is_the_visible_timestamp);
    tcase_add_test(tests, snapshot_below_the_horizon_is_taken_again);
    tcase_add_test(tests, bracket_shows_its_epoch_while_it_is_open);
    tcase_add_test(tests, bracket_is_revoked_up_to_and_with_the_epoch_that_was_named);
    tcase_add_test(tests, mark_at_or_above_the_snapshot_means_expired);
    tcase_add_test(tests, answer_that_is_there_costs_no_sleep);
    tcase_add_test(tests, answer_given_before_death_is_still_an_answer);
    tcase_add_test(tests, answer_that_was_overtaken_ends_the_wait);
    tcase_add_test(tests, each_end_of_the_broker_ends_the_wait);
    tcase_add_test(tests, deadline_ends_the_wait);
    tcase_add_test(tests, sleeper_notices_death_although_nobody_wakes_it);
    tcase_add_test(tests, sleeper_is_woken_through_another_mapping);
    tcase_add_test(tests, signals_do_not_end_the_wait);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
