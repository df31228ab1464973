/* The request ring: publishing, copying in, hostile words, the arena as a ring, and answers. */
#include <check.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "mshm/ops.h"
#include "mshm/protocol.h"

static struct mshm_session *session;
static struct mshm_producer producer;
static struct mshm_consumer consumer;

static void
set_up(void)
{
    session = calloc(1, sizeof(*session) + 4096 + MSHM_ARENA_INITIAL);
    ck_assert_ptr_nonnull(session);
    mshm_session_init(session, 1, 1, MSHM_ARENA_INITIAL);
    mshm_producer_init(&producer, session);
    mshm_consumer_init(&consumer, session, MSHM_ARENA_INITIAL);
}

static void
tear_down(void)
{
    free(session);
}

/* Publishes a commit of `size` bytes of arena in lane 3. */
static uint64_t
publish(uint64_t size, uint64_t *offset)
{
    int wake;
    ck_assert_int_eq(mshm_producer_arena(&producer, size, offset), MSHM_OK);
    return mshm_producer_publish(&producer, MSHM_REQUEST_COMMIT, MSHM_REQUEST_LEVEL_SYNC, 9, 3, 17,
                                 *offset, size, 1, &wake);
}

static void
publish_valid(void)
{
    uint64_t offset;
    publish(24, &offset);
}

START_TEST(broker_takes_what_the_client_published)
{
    uint64_t offset;
    struct mshm_request_copy request;
    ck_assert_int_eq(mshm_consumer_pending(&consumer), 0);
    ck_assert_uint_eq(publish(48, &offset), 1);
    ck_assert_int_eq(mshm_consumer_pending(&consumer), 1);
    ck_assert_int_eq(mshm_consumer_peek(&consumer, &request), MSHM_OK);
    ck_assert_uint_eq(request.sequence, 1);
    ck_assert_uint_eq(request.kind, MSHM_REQUEST_COMMIT);
    ck_assert_uint_eq(request.flags, MSHM_REQUEST_LEVEL_SYNC);
    ck_assert_uint_eq(request.thread, 9);
    ck_assert_uint_eq(request.lane, 3);
    ck_assert_uint_eq(request.snapshot, 17);
    ck_assert_uint_eq(request.arena_offset, offset);
    ck_assert_uint_eq(request.arena_size, 48);
    ck_assert_uint_eq(request.op_count, 1);
    ck_assert_ptr_eq(mshm_consumer_arena(&consumer, &request),
                     (uint8_t *)session + MSHM_SESSION_ARENA + offset);
    ck_assert_int_eq(mshm_consumer_pending(&consumer), 1); /* a peek takes nothing */
    mshm_consumer_advance(&consumer);
    ck_assert_int_eq(mshm_consumer_pending(&consumer), 0);
    ck_assert_uint_eq(session->head, 1);
}
END_TEST

START_TEST(impossible_tail_is_told)
{
    session->tail = MSHM_RING_CAPACITY;
    ck_assert_int_eq(mshm_consumer_pending(&consumer), MSHM_RING_CAPACITY);
    static const uint64_t tails[] = {MSHM_RING_CAPACITY + 1, UINT64_MAX, UINT64_C(1) << 63,
                                     UINT64_C(1) << 32};
    for (size_t i = 0; i < 4; i++) {
        session->tail = tails[i];
        ck_assert_int_eq(mshm_consumer_pending(&consumer), -1);
    }
    consumer.head = 5;
    session->tail = 4;
    ck_assert_int_eq(mshm_consumer_pending(&consumer), -1);
}
END_TEST

START_TEST(broker_does_not_believe_its_own_words_in_the_segment)
{
    struct mshm_request_copy request;
    publish_valid();
    session->head = 1000;
    session->arena_offset = 0;
    session->arena_size = UINT64_MAX;
    session->ring[0].arena_offset = MSHM_ARENA_INITIAL;
    ck_assert_int_eq(mshm_consumer_pending(&consumer), 1);
    ck_assert_int_eq(mshm_consumer_peek(&consumer, &request), MSHM_INVALID);
    session->ring[0].arena_offset = MSHM_ARENA_INITIAL - 24;
    ck_assert_int_eq(mshm_consumer_peek(&consumer, &request), MSHM_OK);
    ck_assert_ptr_eq(mshm_consumer_arena(&consumer, &request),
                     (uint8_t *)session + MSHM_SESSION_ARENA + MSHM_ARENA_INITIAL - 24);
}
END_TEST

/* One word of a good request after the other takes each of the values, and each must be refused. */
static void
refuses(AO_t *word, const uint64_t *values, size_t count)
{
    struct mshm_request_copy request;
    AO_t good = *word;
    for (size_t i = 0; i < count; i++) {
        *word = values[i];
        memset(&request, 0xee, sizeof(request));
        ck_assert_int_eq(mshm_consumer_peek(&consumer, &request), MSHM_INVALID);
        ck_assert_uint_eq(request.sequence, UINT64_C(0xeeeeeeeeeeeeeeee)); /* left alone */
    }
    *word = good;
    ck_assert_int_eq(mshm_consumer_peek(&consumer, &request), MSHM_OK);
}
#define REFUSES(word, ...)                                     \
    refuses(&session->ring[0].word, (uint64_t[]){__VA_ARGS__}, \
            sizeof((uint64_t[]){__VA_ARGS__}) / sizeof(uint64_t))

START_TEST(every_hostile_word_of_a_commit_is_refused)
{
    publish_valid();
    REFUSES(sequence, 0, 2, MSHM_RING_CAPACITY + 1, UINT64_MAX, (UINT64_C(1) << 32) + 1);
    REFUSES(kind_flags, 0, 4, 0xffff, 1 | 2 << 16, 1 | 0x8000u << 16, 1 | UINT64_C(0xffff) << 16);
    REFUSES(lane, MSHM_MAX_LANES, UINT64_C(1) << 32, UINT64_MAX, (UINT64_C(1) << 32) + 3);
    REFUSES(snapshot, 0);
    REFUSES(arena_offset, 1, 4, MSHM_ARENA_INITIAL, MSHM_ARENA_INITIAL - 16, UINT64_MAX - 7,
            UINT64_C(0) - 24);
    REFUSES(arena_size, 0, 8, 16, 23, 25, MSHM_ARENA_INITIAL + 8, UINT64_MAX - 7, UINT64_C(0) - 8);
    session->ring[0].arena_offset = 4096; /* sums that wrap around to a small number */
    REFUSES(arena_size, UINT64_C(0) - 4096, UINT64_C(0) - 4096 + 24, UINT64_C(0) - 64);
    REFUSES(op_count, 0, 2, UINT64_MAX, UINT64_C(1) << 61, (UINT64_C(1) << 61) + 1);
    REFUSES(reserved, 1, UINT64_MAX);
}
END_TEST

START_TEST(range_at_the_very_end_of_the_arena_is_legal)
{
    struct mshm_request_copy request;
    publish_valid();
    session->ring[0].arena_offset = 0;
    session->ring[0].arena_size = MSHM_ARENA_INITIAL;
    ck_assert_int_eq(mshm_consumer_peek(&consumer, &request), MSHM_OK);
    session->ring[0].arena_offset = 8;
    ck_assert_int_eq(mshm_consumer_peek(&consumer, &request), MSHM_INVALID);
}
END_TEST

START_TEST(one_call_names_no_lane_no_snapshot_and_one_operation)
{
    int wake;
    uint64_t offset;
    struct mshm_request_copy request;
    ck_assert_int_eq(mshm_producer_arena(&producer, 48, &offset), MSHM_OK);
    mshm_producer_publish(&producer, MSHM_REQUEST_ONE_CALL, 0, 1, 0, 0, offset, 48, 1, &wake);
    ck_assert_int_eq(mshm_consumer_peek(&consumer, &request), MSHM_OK);
    REFUSES(lane, 1, UINT64_C(1) << 32);
    REFUSES(snapshot, 1);
    REFUSES(op_count, 0, 2);
    REFUSES(arena_size, 0);
}
END_TEST

START_TEST(sync_carries_nothing)
{
    int wake;
    struct mshm_request_copy request;
    mshm_producer_publish(&producer, MSHM_REQUEST_SYNC, 0, 1, 0, 0, 0, 0, 0, &wake);
    ck_assert_int_eq(mshm_consumer_peek(&consumer, &request), MSHM_OK);
    REFUSES(lane, 1);
    REFUSES(snapshot, 1);
    REFUSES(op_count, 1);
    REFUSES(arena_size, 24);
    REFUSES(arena_offset, 8);
}
END_TEST

START_TEST(random_words_never_give_a_range_outside_the_arena)
{
    const char *given = getenv("MACE_SEED");
    unsigned seed = given != NULL ? (unsigned)strtoul(given, NULL, 0) : (unsigned)time(NULL);
    printf("ring_test: MACE_SEED=%u\n", seed);
    srandom(seed);
    unsigned accepted = 0;
    publish_valid();
    const struct mshm_request good = session->ring[0];
    for (unsigned round = 0; round < 200000; round++) {
        struct mshm_request_copy request;
        session->ring[0] = good;
        for (unsigned hit = (unsigned)random() % 3 + 1; hit > 0; hit--) {
            AO_t *words = (AO_t *)&session->ring[0];
            words[random() % 8] ^= (AO_t)1 << (random() % 64);
        }
        if (mshm_consumer_peek(&consumer, &request) != MSHM_OK)
            continue;
        accepted++;
        ck_assert_uint_le(request.arena_size, MSHM_ARENA_INITIAL);
        ck_assert_uint_le(request.arena_offset, MSHM_ARENA_INITIAL - request.arena_size);
        ck_assert_uint_lt(request.lane, MSHM_MAX_LANES);
    }
    ck_assert_uint_gt(accepted, 100);
}
END_TEST

/* A client that changes one word of a published request all the time, between a good and a bad value. */
struct flips {
    AO_t *word;
    AO_t good, bad, end;
};

static void *
flipper_run(void *argument)
{
    struct flips *flips = argument;
    while (AO_load(&flips->end) == 0) {
        AO_store(flips->word, flips->bad);
        AO_store(flips->word, flips->good);
    }
    return argument;
}

/* What was taken is what was published, however often it changes on the way. */
static void
flipped_check(AO_t *word, AO_t bad)
{
    enum { TRIES = 2000000, WANTED = 1000, TRIES_MAX = 20 * TRIES };
    struct flips flips = {.word = word, .good = *word, .bad = bad};
    pthread_t flipper;
    unsigned taken = 0, refused = 0, wrong = 0;
    ck_assert_int_eq(pthread_create(&flipper, NULL, flipper_run, &flips), 0);
    for (unsigned i = 0; i < TRIES_MAX && (i < TRIES || taken < WANTED || refused < WANTED); i++) {
        struct mshm_request_copy request;
        if (mshm_consumer_peek(&consumer, &request) != MSHM_OK) {
            refused++;
            continue;
        }
        taken++;
        wrong += request.arena_size != 24 || request.arena_offset != 0 || request.op_count != 1 ||
                 request.snapshot != 17 || request.lane != 3 || request.sequence != 1;
    }
    AO_store(&flips.end, 1);
    ck_assert_int_eq(pthread_join(flipper, NULL), 0);
    ck_assert_msg(wrong == 0, "%u of %u", wrong, taken);
    ck_assert(taken > 0 && refused > 0);
}

START_TEST(words_that_change_while_they_are_read_are_taken_as_checked_or_not_at_all)
{
    publish_valid();
    struct mshm_request *request = &session->ring[0];
    flipped_check(&request->arena_size, UINT64_MAX);
    flipped_check(&request->arena_offset, MSHM_ARENA_INITIAL);
    flipped_check(&request->op_count, 1000);
    flipped_check(&request->snapshot, 0);
    flipped_check(&request->lane, MSHM_MAX_LANES);
    flipped_check(&request->sequence, 2);
}
END_TEST

START_TEST(place_is_reused_only_after_its_answer_was_taken)
{
    int wake;
    struct mshm_request_copy request;
    for (unsigned i = 0; i < MSHM_RING_CAPACITY; i++) {
        ck_assert_int_ne(mshm_producer_room(&producer, 0), 0);
        mshm_producer_publish(&producer, MSHM_REQUEST_SYNC, 0, 1, 0, 0, 0, 0, 0, &wake);
    }
    ck_assert_int_eq(mshm_producer_room(&producer, 0), 0);
    ck_assert_int_eq(mshm_producer_room(&producer, 1), 0); /* not copied in yet */
    ck_assert_int_eq(mshm_consumer_peek(&consumer, &request), MSHM_OK);
    mshm_consumer_advance(&consumer);
    ck_assert_int_eq(mshm_producer_room(&producer, 0), 0); /* copied in, but its answer not taken */
    ck_assert_int_ne(mshm_producer_room(&producer, 1), 0);
}
END_TEST

START_TEST(doorbell_is_asked_for_only_when_the_broker_sleeps)
{
    int wake = 7;
    mshm_producer_publish(&producer, MSHM_REQUEST_SYNC, 0, 1, 0, 0, 0, 0, 0, &wake);
    ck_assert_int_eq(wake, 0);
    session->asleep = 1;
    mshm_producer_publish(&producer, MSHM_REQUEST_SYNC, 0, 1, 0, 0, 0, 0, 0, &wake);
    ck_assert_int_eq(wake, 1);
    ck_assert_uint_eq(session->counters.doorbells, 1);
}
END_TEST

START_TEST(answer_belongs_to_its_sequence_only)
{
    int status = 5;
    mshm_timestamp timestamp = 6;
    ck_assert_int_eq(mshm_completion_take(session, 1, &status, &timestamp), 0);
    ck_assert_int_eq(status, 5);
    mshm_completion_post(session, 1, MSHM_CONFLICT, 0);
    ck_assert_int_ne(mshm_completion_take(session, 1, &status, &timestamp), 0);
    ck_assert_int_eq(status, MSHM_CONFLICT);
    ck_assert_uint_eq(timestamp, 0);
    /* The next lap of the same place is not answered by the last one. */
    ck_assert_int_eq(mshm_completion_take(session, 1 + MSHM_RING_CAPACITY, &status, &timestamp), 0);
    mshm_completion_post(session, 1 + MSHM_RING_CAPACITY, MSHM_OK, 99);
    ck_assert_int_ne(mshm_completion_take(session, 1 + MSHM_RING_CAPACITY, &status, &timestamp), 0);
    ck_assert_int_eq(status, MSHM_OK);
    ck_assert_uint_eq(timestamp, 99);
}
END_TEST

START_TEST(sequences_beyond_32_bits_are_answered_too)
{
    int status;
    mshm_timestamp timestamp;
    uint64_t sequence = (UINT64_C(1) << 32); /* its low half is 0, like a fresh place */
    mshm_completion_post(session, sequence - MSHM_RING_CAPACITY, MSHM_OK, 1);
    ck_assert_int_eq(mshm_completion_take(session, sequence, &status, &timestamp), 0);
    mshm_completion_post(session, sequence, MSHM_OK, 2);
    ck_assert_int_ne(mshm_completion_take(session, sequence, &status, &timestamp), 0);
    ck_assert_uint_eq(timestamp, 2);
}
END_TEST

START_TEST(waiter_is_seen_at_its_own_place_only)
{
    session->waiting[4] = 1;
    ck_assert_int_ne(mshm_completion_waiter(session, 5), 0);
    ck_assert_int_eq(mshm_completion_waiter(session, 4), 0);
    ck_assert_int_ne(mshm_completion_waiter(session, 5 + MSHM_RING_CAPACITY), 0);
}
END_TEST

/* --- the arena --- */

START_TEST(empty_arena_is_used_from_its_start_again)
{
    uint64_t offset;
    for (unsigned i = 0; i < 5000; i++) {
        publish(1000, &offset);
        mshm_consumer_advance(&consumer);
        mshm_completion_post(session, i + 1, MSHM_OK, 1);
        ck_assert_int_eq(mshm_producer_arena(&producer, MSHM_ARENA_INITIAL, &offset), MSHM_OK);
        ck_assert_uint_eq(offset, 0);
    }
}
END_TEST

START_TEST(client_that_waits_for_each_answer_stays_in_the_first_bytes)
{
    uint64_t offset, highest = 0;
    for (unsigned i = 0; i < 100000; i++) {
        publish(48, &offset);
        mshm_consumer_advance(&consumer);
        if (offset > highest)
            highest = offset;
    }
    ck_assert_uint_le(highest, 16 * 1024);
}
END_TEST

START_TEST(full_arena_is_busy_until_the_head_moves)
{
    uint64_t offset;
    publish(MSHM_ARENA_INITIAL / 2, &offset);
    ck_assert_uint_eq(offset, 0);
    publish(MSHM_ARENA_INITIAL / 2, &offset);
    ck_assert_uint_eq(offset, MSHM_ARENA_INITIAL / 2);
    ck_assert_int_eq(mshm_producer_arena(&producer, 8, &offset), MSHM_BUSY);
    mshm_consumer_advance(&consumer);
    ck_assert_int_eq(mshm_producer_arena(&producer, 8, &offset), MSHM_OK);
    ck_assert_uint_eq(offset, 0);
}
END_TEST

START_TEST(range_is_contiguous_and_skips_the_rest_of_the_lap)
{
    uint64_t offset;
    const uint64_t unit = MSHM_ARENA_INITIAL / 8;
    publish(3 * unit, &offset);
    publish(3 * unit, &offset);
    mshm_consumer_advance(&consumer); /* free: [0, 3) and [6, 8) */
    ck_assert_int_eq(mshm_producer_arena(&producer, 4 * unit, &offset), MSHM_BUSY);
    publish(3 * unit, &offset);
    ck_assert_uint_eq(offset, 0);
    ck_assert_int_eq(mshm_producer_arena(&producer, 8, &offset),
                     MSHM_BUSY); /* the skipped rest is lost */
    mshm_consumer_advance(&consumer);
    publish(3 * unit, &offset);
    ck_assert_uint_eq(offset, 3 * unit);
}
END_TEST

START_TEST(more_than_the_grant_is_too_big)
{
    uint64_t offset;
    ck_assert_int_eq(mshm_producer_arena(&producer, MSHM_ARENA_INITIAL, &offset), MSHM_OK);
    ck_assert_int_eq(mshm_producer_arena(&producer, MSHM_ARENA_INITIAL + 8, &offset), MSHM_TOO_BIG);
    ck_assert_int_eq(mshm_producer_arena(&producer, UINT64_MAX, &offset), MSHM_TOO_BIG);
}
END_TEST

START_TEST(grown_arena_is_used_when_the_old_one_is_empty)
{
    uint64_t offset;
    publish(1000, &offset);
    session->arena_size = 2 * MSHM_ARENA_INITIAL;
    ck_assert_int_eq(mshm_producer_arena(&producer, MSHM_ARENA_INITIAL + 8, &offset), MSHM_BUSY);
    mshm_consumer_advance(&consumer);
    ck_assert_int_eq(mshm_producer_arena(&producer, MSHM_ARENA_INITIAL + 8, &offset), MSHM_OK);
    ck_assert_uint_eq(offset, 0);
    session->arena_size = UINT64_MAX; /* nonsense is cut to the limit */
    ck_assert_int_eq(mshm_producer_arena(&producer, MSHM_ARENA_MAX + 8, &offset), MSHM_TOO_BIG);
}
END_TEST

/* Random requests against a plain model: no byte ever belongs to two requests in flight. */
START_TEST(no_byte_belongs_to_two_requests)
{
    enum { GRANT = 4096, LINES = GRANT / 64 };
    static uint64_t owner[LINES];
    const char *given = getenv("MACE_SEED");
    unsigned seed = given != NULL ? (unsigned)strtoul(given, NULL, 0) : (unsigned)time(NULL);
    printf("ring_test: MACE_SEED=%u\n", seed);
    srandom(seed);
    memset(owner, 0, sizeof(owner));
    session->arena_size = GRANT;
    mshm_producer_init(&producer, session);
    mshm_consumer_init(&consumer, session, GRANT);
    uint64_t newest = 0, laps = 0;
    for (unsigned round = 0; round < 200000; round++) {
        uint64_t offset, size = ((uint64_t)random() % 160 + 3) * 8;
        if (random() % 2 && mshm_producer_room(&producer, newest) &&
            mshm_producer_arena(&producer, size, &offset) == MSHM_OK) {
            int wake;
            ck_assert_uint_le(offset + size, GRANT);
            newest = mshm_producer_publish(&producer, MSHM_REQUEST_COMMIT, 0, 0, 0, 1, offset, size,
                                           1, &wake);
            laps += offset == 0;
            for (uint64_t line = offset / 64; line <= (offset + size - 1) / 64; line++) {
                ck_assert_uint_eq(owner[line], 0);
                owner[line] = newest;
            }
        } else if (mshm_consumer_pending(&consumer) > 0) {
            struct mshm_request_copy request;
            ck_assert_int_eq(mshm_consumer_peek(&consumer, &request), MSHM_OK);
            for (unsigned line = 0; line < LINES; line++)
                if (owner[line] == request.sequence)
                    owner[line] = 0;
            mshm_consumer_advance(&consumer);
        }
    }
    ck_assert_uint_gt(laps, 1000);
}
END_TEST

int
main(void)
{
    Suite *suite = suite_create("ring");
    TCase *tests = tcase_create("ring");
    tcase_set_timeout(tests, 60);
    tcase_add_checked_fixture(tests, set_up, tear_down);
    tcase_add_test(tests, broker_takes_what_the_client_published);
    tcase_add_test(tests, impossible_tail_is_told);
    tcase_add_test(tests, broker_does_not_believe_its_own_words_in_the_segment);
    tcase_add_test(tests, every_hostile_word_of_a_commit_is_refused);
    tcase_add_test(tests, range_at_the_very_end_of_the_arena_is_legal);
    tcase_add_test(tests, one_call_names_no_lane_no_snapshot_and_one_operation);
    tcase_add_test(tests, sync_carries_nothing);
    tcase_add_test(tests, random_words_never_give_a_range_outside_the_arena);
    tcase_add_test(tests, words_that_change_while_they_are_read_are_taken_as_checked_or_not_at_all);
    tcase_add_test(tests, place_is_reused_only_after_its_answer_was_taken);
    tcase_add_test(tests, doorbell_is_asked_for_only_when_the_broker_sleeps);
    tcase_add_test(tests, answer_belongs_to_its_sequence_only);
    tcase_add_test(tests, sequences_beyond_32_bits_are_answered_too);
    tcase_add_test(tests, waiter_is_seen_at_its_own_place_only);
    tcase_add_test(tests, empty_arena_is_used_from_its_start_again);
    tcase_add_test(tests, client_that_waits_for_each_answer_stays_in_the_first_bytes);
    tcase_add_test(tests, full_arena_is_busy_until_the_head_moves);
    tcase_add_test(tests, range_is_contiguous_and_skips_the_rest_of_the_lap);
    tcase_add_test(tests, more_than_the_grant_is_too_big);
    tcase_add_test(tests, grown_arena_is_used_when_the_old_one_is_empty);
    tcase_add_test(tests, no_byte_belongs_to_two_requests);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
