/* fence_test.c - the two fences of a reader, with a broker that looks at the same moment: each writes its own word and then
 * reads the other's, and one of them at least has to see what the other wrote. The models of tests/spin show that the
 * protocol needs that; this shows that the code has it. A round in which the fence is missing and matters is seen only when
 * two processors run at once, so a pass on a busy machine proves less; a failure is always true. A busy machine also
 * makes fewer rounds, because each case ends after some seconds.
 */
#include <check.h>
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <time.h>

#include "mshm/protocol.h"

enum { ROUNDS = 400000, SPINS = 2000, SECONDS = 5 };

static struct mshm_store *store;
static struct mshm_lane *lane;
static _Alignas(MSHM_LINE) AO_t page_word;
static _Alignas(MSHM_LINE) AO_t reader_at;
static _Alignas(MSHM_LINE) AO_t broker_at;
/* What each saw, by round; read when both have ended. */
static AO_t reader_saw[ROUNDS + 1], broker_saw[ROUNDS + 1];
/* The broker's: the round after which both end, stored before they meet at that round's end; 0 until it is known. */
static AO_t last_round;
static time_t started;

static time_t
seconds_now(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec;
}

/* Both leave it at about the same moment; a little later by turns, so that either may be first. */
static void
meet(AO_t *mine, const AO_t *other, AO_t round, unsigned delay)
{
    AO_store_full(mine, round);
    for (unsigned spins = 0; AO_load_acquire(other) < round; spins++)
        if (spins > SPINS)
            sched_yield();
    for (unsigned i = 0; i < delay; i++)
        mshm_full_fence();
}

static void
reader_starts(AO_t round)
{
    meet(&reader_at, &broker_at, 2 * round - 1, (unsigned)(round % 4));
}

static void
broker_starts(AO_t round)
{
    meet(&broker_at, &reader_at, 2 * round - 1, (unsigned)(round / 4 % 4));
}

/* Tells whether another round follows. */
static int
reader_ends(AO_t round)
{
    meet(&reader_at, &broker_at, 2 * round, 0);
    return AO_load(&last_round) == 0;
}

static int
broker_ends(AO_t round)
{
    int last = round == ROUNDS || (round % 16 == 0 && seconds_now() - started >= SECONDS);

    if (last)
        AO_store(&last_round, round);
    meet(&broker_at, &reader_at, 2 * round, 0);
    return !last;
}

/* --- the snapshot: lane.snapshot and store.horizon --- */

static void *
snapshot_reader(void *argument)
{
    AO_t round = 0;

    do {
        mshm_snapshot_release(lane);
        reader_starts(++round);
        reader_saw[round] = mshm_snapshot_register(store, lane);
    } while (reader_ends(round));
    return argument;
}

static void
snapshot_broker(void)
{
    AO_t round = 0;

    do {
        broker_starts(++round);
        AO_store_release(&store->visible, round + 1);
        AO_store(&store->horizon, round + 1);
        mshm_full_fence(); /* pairs with the one in mshm_snapshot_register */
        broker_saw[round] = AO_load(&lane->snapshot);
    } while (broker_ends(round));
}

START_TEST(a_snapshot_below_the_horizon_is_seen_by_the_broker)
{
    pthread_t thread;

    AO_store(&store->visible, 1);
    ck_assert_int_eq(pthread_create(&thread, NULL, snapshot_reader, NULL), 0);
    snapshot_broker();
    ck_assert_int_eq(pthread_join(thread, NULL), 0);
    for (AO_t round = 1; round <= last_round; round++)
        ck_assert_msg(reader_saw[round] == round + 1 || broker_saw[round] == reader_saw[round],
                      "round %lu: the reader has %lu, the broker saw %lu", (unsigned long)round,
                      (unsigned long)reader_saw[round], (unsigned long)broker_saw[round]);
}
END_TEST

/* --- the bracket: lane.epoch and a word of the page map --- */

static void *
bracket_reader(void *argument)
{
    AO_t round = 0;
    int more;

    do {
        reader_starts(++round);
        AO_t epoch = mshm_bracket_open(store, lane);
        reader_saw[round] = AO_load(&page_word);
        more = reader_ends(round);
        (void)mshm_bracket_close(store, lane, epoch);
    } while (more);
    return argument;
}

static void
bracket_broker(void)
{
    AO_t round = 0;

    do {
        broker_starts(++round);
        AO_store(&page_word, round); /* another frame; the old one is retired */
        mshm_full_fence();           /* pairs with the one in mshm_bracket_open */
        broker_saw[round] = AO_load(&lane->epoch);
    } while (broker_ends(round));
}

START_TEST(a_bracket_that_leads_to_an_old_frame_is_seen_by_the_broker)
{
    pthread_t thread;

    AO_store(&store->epoch, 1);
    AO_store(&page_word, 0);
    ck_assert_int_eq(pthread_create(&thread, NULL, bracket_reader, NULL), 0);
    bracket_broker();
    ck_assert_int_eq(pthread_join(thread, NULL), 0);
    for (AO_t round = 1; round <= last_round; round++)
        ck_assert_msg(reader_saw[round] == round || broker_saw[round] != 0,
                      "round %lu: the reader has the old frame, and the broker saw no bracket",
                      (unsigned long)round);
}
END_TEST

static void
setup(void)
{
    store = aligned_alloc(4096, mshm_align_up(sizeof *store, 4096));
    lane = aligned_alloc(4096, 4096);
    ck_assert(store != NULL && lane != NULL);
    *store = (struct mshm_store){0};
    *lane = (struct mshm_lane){0};
    AO_store(&reader_at, 0);
    AO_store(&broker_at, 0);
    AO_store(&last_round, 0);
    started = seconds_now();
}

static void
teardown(void)
{
    free(store);
    free(lane);
}

int
main(void)
{
    Suite *suite = suite_create("fences");
    TCase *cases = tcase_create("fences");
    SRunner *runner;

    tcase_set_timeout(cases, 0);
    tcase_add_checked_fixture(cases, setup, teardown);
    tcase_add_test(cases, a_snapshot_below_the_horizon_is_seen_by_the_broker);
    tcase_add_test(cases, a_bracket_that_leads_to_an_old_frame_is_seen_by_the_broker);
    suite_add_tcase(suite, cases);
    runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
