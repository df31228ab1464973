/* Sessions: hostile requests, death, limits, fairness, sleeping, expiry of snapshots. */
#include "sessions.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fake_env.h"
#include "mshm/ops.h"
#include "mshm/status.h"

static struct fake fake;
static struct fake_client *a, *b;
static uint32_t bucket;

static void
start(void)
{
    ck_assert_int_eq(fake_start(&fake), MSHM_OK);
    bucket = fake_default(&fake);
    a = fake_attach(&fake, 0);
    b = fake_attach(&fake, 0);
}

static void
setup(void)
{
    fake_init(&fake);
    start();
}

static void
teardown(void)
{
    const char *why = "";
    ck_assert_msg(core_check(fake.core, &why) == MSHM_OK, "%s", why);
    fake_client_free(a);
    fake_client_free(b);
    fake_fini(&fake);
}

static uint64_t
counter(const AO_t *word)
{
    return AO_load(word);
}
#define COUNTER(name) counter(&fake.core->figures->counters.name)

static uint64_t
put(struct fake_client *client, int lane, const char *key, const char *value, unsigned flags)
{
    _Alignas(8) uint8_t op[4096];
    uint64_t size = mshm_op_write(op, bucket, MSHM_OP_PUT, key, (uint16_t)strlen(key), value,
                                  (uint32_t)strlen(value));
    return fake_publish(client, lane, op, size, 1, flags);
}

/* The offender is ended with one line, and `b` works on. */
static void
ck_ended(struct fake_client *offender)
{
    uint64_t ended = COUNTER(sessions_ended_invalid);
    unsigned lines = fake.lines;
    fake_run(&fake);
    ck_assert(offender->freed);
    ck_assert_uint_eq(COUNTER(sessions_ended_invalid), ended + 1);
    ck_assert_uint_eq(fake.lines, lines + 1);
    ck_assert_int_eq(fake_put(b, bucket, "still", "here"), MSHM_OK);
}

/* --- hostile requests --------------------------------------------------------------------------------------------- */

enum request_word { SEQUENCE, KIND, LANE, SNAPSHOT, OFFSET, SIZE, COUNT, RESERVED };
struct request_change {
    enum request_word word;
    AO_t value;
};
static const struct request_change request_changes[] = {
    {SEQUENCE, 0},
    {SEQUENCE, 2},
    {SEQUENCE, UINT64_MAX},
    {KIND, 0},
    {KIND, 17},
    {KIND, MSHM_REQUEST_COMMIT | 2 << 16},                /* an unknown flag */
    {KIND, MSHM_REQUEST_COMMIT | UINT64_C(0x8000) << 16}, /* another */
    {KIND, MSHM_REQUEST_SYNC},                            /* with operations */
    {LANE, MSHM_MAX_LANES},
    {LANE, UINT64_C(1) << 32},
    {OFFSET, 4},
    {OFFSET, MSHM_ARENA_INITIAL},
    {OFFSET, MSHM_ARENA_INITIAL - 8},
    {OFFSET, UINT64_MAX - 7},
    {SIZE, 0},
    {SIZE, 12},
    {SIZE, MSHM_ARENA_INITIAL + 8},
    {SIZE, UINT64_MAX - 7},
    {SIZE, 32}, /* more than the operation has */
    {COUNT, 0},
    {COUNT, 2},
    {COUNT, UINT64_MAX},
    {RESERVED, 1},
};

static void
request_change(struct mshm_request *request, const struct request_change *change)
{
    AO_t *words[] = {&request->sequence, &request->kind_flags,   &request->lane,
                     &request->snapshot, &request->arena_offset, &request->arena_size,
                     &request->op_count, &request->reserved};
    AO_store(words[change->word], change->value);
}

START_TEST(each_word_of_a_request_is_checked)
{
    struct fake_client *offender = fake_attach(&fake, 0);
    fake_begin(offender, 0);
    put(offender, 0, "bad", "bad", 0);
    request_change(&offender->segment->ring[0], &request_changes[_i]);
    ck_ended(offender);
    char value[256];
    ck_assert_int_eq(fake_get(b, 6, bucket, "bad", 0, value), MSHM_NOT_FOUND);
    fake_client_free(offender);
}
END_TEST

static const AO_t tails[] = {0, 3, 2 + MSHM_RING_CAPACITY + 1, UINT64_MAX, UINT64_C(1) << 63};

START_TEST(a_tail_that_cannot_be_ends_the_session)
{
    struct fake_client *offender = fake_attach(&fake, 0);
    for (int i = 0; i < 2; i++)
        ck_assert_int_eq(fake_put(offender, bucket, "k", "v"), MSHM_OK);
    AO_store(&offender->segment->tail, tails[_i]); /* 3: a place that was never written */
    ck_ended(offender);
    fake_client_free(offender);
}
END_TEST

struct op_change {
    size_t at;
    uint8_t value;
};
/* struct mshm_op: bucket 0-3, value_size 4-7, key_size 8-9, kind 10, flags 11, reserved 12-15; key 16-18, value 19-21,
 * padding 22-23. */
static const struct op_change op_changes[] = {
    {4, 0},    {4, 6},  {6, 1},  {7, 255}, {8, 0},   {8, 2},  {8, 6},   {9, 0x10},
    {9, 0xff}, {10, 0}, {10, 4}, {10, 7},  {10, 16}, {10, 2}, {10, 99}, {11, 1},
    {12, 1},   {13, 1}, {14, 1}, {15, 1},  {22, 1},  {23, 1},
};

START_TEST(each_byte_of_an_operation_is_checked)
{
    struct fake_client *offender = fake_attach(&fake, 0);
    fake_begin(offender, 0);
    put(offender, 0, "bad", "bad", 0);
    uint8_t *arena = (uint8_t *)offender->segment + MSHM_SESSION_ARENA;
    arena[op_changes[_i].at] = op_changes[_i].value;
    ck_ended(offender);
    fake_client_free(offender);
}
END_TEST

START_TEST(keys_must_ascend)
{
    _Alignas(8) uint8_t ops[256];
    const char *keys[] = {"b", "a", "b"};
    struct fake_client *offender = fake_attach(&fake, 0);
    fake_begin(offender, 0);
    uint64_t size = 0;
    for (int i = 0; i < 2; i++)
        size += mshm_op_write(ops + size, bucket, MSHM_OP_PUT, keys[i + _i], 1, "v", 1);
    if (_i == 1) { /* a, b is right; twice the same is not */
        size = mshm_op_write(ops, bucket, MSHM_OP_PUT, "a", 1, "v", 1);
        size += mshm_op_write(ops + size, bucket, MSHM_OP_PUT, "a", 1, "v", 1);
    }
    fake_publish(offender, 0, ops, size, 2, 0);
    ck_ended(offender);
    fake_client_free(offender);
}
END_TEST

static uint64_t
chance(uint64_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state;
}

/* Everything that a client can write, except what would make the test wait: random words in its own segment. */
START_TEST(random_bytes_in_a_session_hurt_nobody_else)
{
    const char *given = getenv("MACE_SEED");
    uint64_t seed = given != NULL ? strtoull(given, NULL, 0) : 20240611;
    printf("MACE_SEED=%llu\n", (unsigned long long)seed);
    uint64_t state = seed | 1;
    char value[256];
    ck_assert_int_eq(fake_put(b, bucket, "key", "untouched"), MSHM_OK);
    for (int round = 0; round < 200; round++) {
        struct fake_client *offender = fake_attach(&fake, 0);
        for (int i = 0; i < 4; i++)
            put(offender, -1, "theirs", "x", 0);
        AO_t *words = (AO_t *)offender->segment;
        uint64_t shared = (MSHM_SESSION_ARENA + 256) / sizeof(AO_t);
        for (int i = 0; i < 64; i++) {
            uint64_t at = chance(&state) % 3 == 0 ? MSHM_SESSION_ARENA / 8 + chance(&state) % 32
                          : chance(&state) % 2    ? chance(&state) % 64
                                                  : chance(&state) % shared;
            AO_store(&words[at], chance(&state) >> chance(&state) % 64);
        }
        for (int i = 0; i < 20; i++)
            fake_step(&fake);
        ck_assert_int_eq(fake_put(b, bucket, "mine", "works"), MSHM_OK);
        if (!offender->freed)
            core_session_end(fake.core, offender->session, false);
        for (int i = 0; i < 100 && !offender->freed; i++)
            fake_step(&fake);
        ck_assert(offender->freed);
        fake_client_free(offender);
    }
    ck_assert_int_eq(fake_get(b, 6, bucket, "key", 0, value), MSHM_OK);
    ck_assert_str_eq(value, "untouched");
    ck_assert_uint_eq(core_session_count(fake.core), 2);
}
END_TEST

START_TEST(unanswered_requests_of_a_session_are_bounded)
{
    /* A client that overwrites places which were not answered cannot make the broker's queue grow. */
    fake.hold = true;
    for (int round = 0; round < 4; round++) {
        for (int i = 0; i < MSHM_RING_CAPACITY / 2; i++)
            put(a, -1, "k", "v", MSHM_REQUEST_LEVEL_SYNC);
        for (int i = 0; i < 20; i++)
            fake_step(&fake);
        ck_assert_uint_le(a->session->unanswered, MSHM_RING_CAPACITY);
    }
    ck_assert_uint_eq(a->session->unanswered, MSHM_RING_CAPACITY);
    fake.hold = false;
    fake_run(&fake);
    ck_assert_uint_eq(a->session->unanswered, 0);
}
END_TEST

/* --- life and death ----------------------------------------------------------------------------------------------- */

START_TEST(complete_requests_of_a_dead_client_are_carried_out)
{
    char key[8], value[256];
    fake.hold = true;
    for (int i = 0; i < 5; i++) {
        snprintf(key, sizeof(key), "%d", i);
        put(a, -1, key, "v", MSHM_REQUEST_LEVEL_SYNC);
    }
    core_session_end(fake.core, a->session, false);
    fake_run(&fake);
    ck_assert(!a->freed); /* not before the answers are posted */
    fake.hold = false;
    fake_run(&fake);
    ck_assert(a->freed);
    ck_assert_int_eq(fake_get(b, 6, bucket, "4", 0, value), MSHM_OK);
    ck_assert_uint_eq(core_session_count(fake.core), 1);
    ck_assert_uint_eq(COUNTER(sessions_ended_dead), 1);
}
END_TEST

START_TEST(a_request_that_was_not_published_is_ignored)
{
    char value[256];
    put(a, -1, "whole", "v", 0);
    put(a, -1, "half", "v", 0);
    AO_store(&a->segment->tail, 1); /* the second was never published */
    core_session_end(fake.core, a->session, false);
    AO_store(&a->segment->tail, 2); /* and what comes after the end does not count */
    fake_run(&fake);
    ck_assert(a->freed);
    ck_assert_int_eq(fake_get(b, 6, bucket, "whole", 0, value), MSHM_OK);
    ck_assert_int_eq(fake_get(b, 6, bucket, "half", 0, value), MSHM_NOT_FOUND);
}
END_TEST

START_TEST(lanes_of_a_dead_client_keep_nothing)
{
    fake_begin(a, 3);
    ck_assert_int_eq(fake_put(b, bucket, "k", "1"), MSHM_OK);
    fake_wait(&fake, 5);
    ck_assert_uint_eq(fake.core->snapshots.count, 1);
    core_session_end(fake.core, a->session, false);
    ck_assert_int_eq(fake_one_call(b, bucket, MSHM_OP_PUT, "k", "2"), MSHM_OK);
    fake_wait(&fake, 5);
    ck_assert(a->freed);
    ck_assert_uint_eq(fake.core->snapshots.count, 0);
    /* Who lost the session but not the mapping is told. */
    ck_assert(
        mshm_snapshot_expired(&a->segment->expired[3], AO_load(&a->segment->lanes[3].snapshot)));
}
END_TEST

START_TEST(ending_a_session_twice_is_once)
{
    core_session_end(fake.core, a->session, false);
    core_session_end(fake.core, a->session, true);
    fake_run(&fake);
    ck_assert(a->freed);
    ck_assert_uint_eq(COUNTER(sessions_ended_dead), 1);
}
END_TEST

START_TEST(sessions_are_limited)
{
    struct fake_client *more[2];
    fake_fini(&fake);
    fake_client_free(a);
    fake_client_free(b);
    fake_init(&fake);
    fake.options.max_sessions = 3;
    start();
    more[0] = fake_attach(&fake, 0);
    struct session *session;
    ck_assert_int_eq(core_session_attach(fake.core, more[0]->segment, NULL, 0, 0, 0, &session),
                     MSHM_LIMIT);
    core_session_end(fake.core, more[0]->session, true);
    fake_run(&fake);
    more[1] = fake_attach(&fake, 0);
    ck_assert_uint_gt(core_session_number(more[1]->session), 3); /* numbers are not used again */
    fake_client_free(more[0]);
    fake_client_free(more[1]);
}
END_TEST

/* --- fairness and sleep ------------------------------------------------------------------------------------------- */

START_TEST(a_full_ring_does_not_hold_up_the_others)
{
    int status;
    mshm_timestamp timestamp;
    for (int i = 0; i < MSHM_RING_CAPACITY; i++)
        put(a, -1, "a", "v", 0);
    uint64_t mine = put(b, -1, "b", "v", 0);
    fake_step(&fake);
    ck_assert(fake_answered(b, mine, &status, &timestamp));
    ck_assert(!fake_answered(a, MSHM_RING_CAPACITY / 2, &status, &timestamp));
    fake_run(&fake);
    ck_assert(fake_answered(a, MSHM_RING_CAPACITY, &status, &timestamp));
}
END_TEST

START_TEST(large_requests_share_by_bytes)
{
    int status;
    mshm_timestamp timestamp;
    _Alignas(8) static uint8_t ops[64 << 10];
    static const uint8_t value[4096];
    uint64_t size = 0, count = 0;
    for (; count < 12; count++) {
        char key[8];
        snprintf(key, sizeof(key), "%02u", (unsigned)count);
        size += mshm_op_write(ops + size, bucket, MSHM_OP_PUT, key, 2, value, sizeof(value));
    }
    fake_begin(a, 0);
    for (int i = 0; i < 16; i++)
        fake_publish(a, 0, ops, size, count, 0); /* all but the first are conflicts */
    uint64_t mine = put(b, -1, "b", "v", 0);
    fake_step(&fake);
    ck_assert(fake_answered(b, mine, &status, &timestamp));
    ck_assert(!fake_answered(a, 16, &status, &timestamp));
    fake_run(&fake);
    ck_assert(fake_answered(a, 16, &status, &timestamp));
    ck_assert_int_eq(status, MSHM_CONFLICT);
}
END_TEST

START_TEST(an_idle_session_is_asleep_until_its_doorbell)
{
    ck_assert_uint_eq(AO_load(&a->segment->asleep), 0);
    fake_wait(&fake, 3);
    ck_assert_uint_eq(AO_load(&a->segment->asleep), 1);
    uint64_t doorbells = COUNTER(doorbells);
    uint64_t sequence = put(a, -1, "k", "v", 0); /* rings */
    ck_assert_uint_eq(COUNTER(doorbells), doorbells + 1);
    ck_assert_uint_eq(AO_load(&a->segment->asleep), 0);
    ck_assert_int_eq(fake_answer(a, sequence, NULL), MSHM_OK);
}
END_TEST

START_TEST(the_loop_does_not_sleep_over_a_request)
{
    fake_run(&fake);
    ck_assert(core_sleep(fake.core));
    ck_assert_uint_eq(AO_load(&a->segment->asleep), 1);
    ck_assert_uint_eq(AO_load(&b->segment->asleep), 1);
    core_awake(fake.core);
    ck_assert_uint_eq(AO_load(&a->segment->asleep), 0);
    uint64_t sequence = put(a, -1, "k", "v", 0);
    ck_assert(!core_sleep(fake.core)); /* it came before the look */
    ck_assert_uint_eq(AO_load(&a->segment->asleep), 0);
    ck_assert_uint_eq(AO_load(&b->segment->asleep), 0);
    ck_assert_int_eq(fake_answer(a, sequence, NULL), MSHM_OK);
}
END_TEST

START_TEST(the_loop_does_not_sleep_over_an_end)
{
    fake_run(&fake);
    core_session_end(fake.core, a->session, true);
    ck_assert(!core_sleep(fake.core));
    fake_step(&fake);
    ck_assert(a->freed);
}
END_TEST

/* --- expiry ------------------------------------------------------------------------------------------------------- */

static void
restart_with(uint64_t max_age_ns, uint64_t history_limit)
{
    fake_fini(&fake);
    fake_client_free(a);
    fake_client_free(b);
    fake_init(&fake);
    fake.options.snapshot_max_age_ns = max_age_ns;
    fake.options.history_limit = history_limit;
    start();
}

START_TEST(an_old_snapshot_is_expired_and_its_commit_refused)
{
    char value[256];
    restart_with(20 * 1000 * 1000, 0);
    ck_assert_int_eq(fake_put(b, bucket, "k", "1"), MSHM_OK);
    mshm_timestamp snapshot = fake_begin(a, 2);
    ck_assert_int_eq(fake_put(b, bucket, "k", "2"), MSHM_OK);
    fake_wait(&fake, 5);
    ck_assert_int_eq(fake_get(a, 2, bucket, "k", snapshot, value), MSHM_OK);
    ck_assert_str_eq(value, "1");
    fake_wait(&fake, 30);
    ck_assert_int_eq(fake_get(a, 2, bucket, "k", snapshot, value), MSHM_SNAPSHOT_EXPIRED);
    ck_assert_uint_eq(COUNTER(snapshots_expired), 1);
    /* The client may clear its copy of the mark: the private one decides. */
    AO_store(&a->segment->expired[2], 0);
    ck_assert_int_eq(fake_answer(a, put(a, 2, "other", "x", 0), NULL), MSHM_SNAPSHOT_EXPIRED);
    fake_wait(&fake, 5);
    ck_assert_uint_eq(fake.core->snapshots.count, 0);
    fake_begin(a, 2);
    ck_assert_int_eq(fake_answer(a, put(a, 2, "other", "x", 0), NULL), MSHM_OK);
}
END_TEST

START_TEST(a_snapshot_that_keeps_nothing_does_not_age)
{
    restart_with(20 * 1000 * 1000, 0);
    ck_assert_int_eq(fake_put(b, bucket, "k", "1"), MSHM_OK);
    fake_begin(a, 2);
    for (int i = 0; i < 10; i++)
        fake_wait(&fake, 50); /* nothing is committed */
    ck_assert_int_eq(fake_put(b, bucket, "k", "2"), MSHM_OK);
    fake_wait(&fake, 10);
    ck_assert_uint_eq(COUNTER(snapshots_expired), 0);
    ck_assert_int_eq(fake_answer(a, put(a, 2, "other", "x", 0), NULL), MSHM_OK);
}
END_TEST

START_TEST(snapshots_that_keep_too_much_are_expired_the_newest_state_never)
{
    char value[1000], key[8];
    restart_with(0, 128 << 10);
    memset(value, 'x', sizeof(value) - 1);
    value[sizeof(value) - 1] = 0;
    for (int round = 0; round < 60; round++) {
        if (round % 10 == 0)
            fake_begin(a, (unsigned)round / 10);
        for (int i = 0; i < 50; i++) {
            snprintf(key, sizeof(key), "%02d", i);
            ck_assert_int_eq(fake_put(b, bucket, key, value), MSHM_OK);
        }
        fake_wait(&fake, 2);
    }
    ck_assert_uint_gt(COUNTER(snapshots_expired), 0);
    for (int i = 0; i < 50; i++)
        fake_wait(&fake, 2);
    ck_assert_uint_eq(tree_history_excess(fake.core->tree), 0);
    mshm_timestamp snapshot = fake_begin(a, 7);
    fake_wait(&fake, 2);
    ck_assert(!mshm_snapshot_expired(&a->segment->expired[7], snapshot));
}
END_TEST

int
main(void)
{
    TCase *tcase = tcase_create("sessions");
    tcase_set_timeout(tcase, 60);
    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_add_loop_test(tcase, each_word_of_a_request_is_checked, 0,
                        sizeof(request_changes) / sizeof(request_changes[0]));
    tcase_add_loop_test(tcase, a_tail_that_cannot_be_ends_the_session, 0,
                        sizeof(tails) / sizeof(tails[0]));
    tcase_add_loop_test(tcase, each_byte_of_an_operation_is_checked, 0,
                        sizeof(op_changes) / sizeof(op_changes[0]));
    tcase_add_loop_test(tcase, keys_must_ascend, 0, 2);
    tcase_add_test(tcase, random_bytes_in_a_session_hurt_nobody_else);
    tcase_add_test(tcase, unanswered_requests_of_a_session_are_bounded);
    tcase_add_test(tcase, complete_requests_of_a_dead_client_are_carried_out);
    tcase_add_test(tcase, a_request_that_was_not_published_is_ignored);
    tcase_add_test(tcase, lanes_of_a_dead_client_keep_nothing);
    tcase_add_test(tcase, ending_a_session_twice_is_once);
    tcase_add_test(tcase, sessions_are_limited);
    tcase_add_test(tcase, a_full_ring_does_not_hold_up_the_others);
    tcase_add_test(tcase, large_requests_share_by_bytes);
    tcase_add_test(tcase, an_idle_session_is_asleep_until_its_doorbell);
    tcase_add_test(tcase, the_loop_does_not_sleep_over_a_request);
    tcase_add_test(tcase, the_loop_does_not_sleep_over_an_end);
    tcase_add_test(tcase, an_old_snapshot_is_expired_and_its_commit_refused);
    tcase_add_test(tcase, a_snapshot_that_keeps_nothing_does_not_age);
    tcase_add_test(tcase, snapshots_that_keep_too_much_are_expired_the_newest_state_never);
    Suite *suite = suite_create("sessions");
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
