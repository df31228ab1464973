/* What became of commits that nobody was told about: known, not committed, or not known any more. */
#include "outcome.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "mshm/status.h"
#include "outcome_parts.h"

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
    if (outcomes_add(outcomes, incarnation, session, sequence, timestamp) != MSHM_OK)
        ck_abort_msg("out of memory");
}

static enum mshm_outcome
look_up(uint64_t incarnation, uint32_t session, uint64_t sequence, uint64_t *timestamp)
{
    *timestamp = 0;
    return outcomes_lookup(outcomes, incarnation, session, sequence, timestamp);
}

/* What a checkpoint keeps, taken into a table of its own, which the test goes on with. */
static void
save_and_load(void)
{
    void *bytes;
    uint64_t size;
    ck_assert_int_eq(outcomes_save(outcomes, &bytes, &size), MSHM_OK);
    outcomes_destroy(outcomes);
    ck_assert_int_eq(outcomes_create(&outcomes), MSHM_OK);
    ck_assert_int_eq(outcomes_load(outcomes, bytes, size), MSHM_OK);
    free(bytes);
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

START_TEST(tokens_of_the_running_incarnation_do_not_expire)
{
    uint64_t timestamp;
    add(1, 1, 1, 5);
    outcomes_seal(outcomes, 2);
    add(2, 1, 1, 6);
    outcomes_expire(outcomes, UINT64_C(601) * 1000000000);
    add(2, 1, 2, 7);
    save_and_load();
    outcomes_seal(outcomes, 3);
    ck_assert_int_eq(look_up(1, 1, 1, &timestamp), MSHM_OUTCOME_UNKNOWN);
    ck_assert_int_eq(look_up(2, 1, 1, &timestamp), MSHM_OUTCOME_COMMITTED);
    ck_assert_int_eq(look_up(2, 1, 2, &timestamp), MSHM_OUTCOME_COMMITTED);
    ck_assert_uint_eq(timestamp, 7);
    ck_assert_int_eq(look_up(2, 1, 3, &timestamp), MSHM_OUTCOME_NOT_COMMITTED);
}
END_TEST

START_TEST(what_was_asked_for_has_ten_minutes_again_after_a_restart)
{
    uint64_t timestamp;
    add(1, 1, 1, 5);
    outcomes_seal(outcomes, 2);
    ck_assert_int_eq(look_up(1, 1, 1, &timestamp), MSHM_OUTCOME_COMMITTED);
    save_and_load();
    outcomes_seal(outcomes, 3);
    outcomes_expire(outcomes, UINT64_C(601) * 1000000000);
    ck_assert_int_eq(look_up(1, 1, 1, &timestamp), MSHM_OUTCOME_UNKNOWN);
}
END_TEST

START_TEST(token_of_a_session_that_closed_leaves_no_trace)
{
    uint64_t timestamp;
    for (uint32_t session = 1; session <= 5; session++)
        add(1, session, 1, session);
    outcomes_forget(outcomes, 1, 3);
    outcomes_forget(outcomes, 1, 3);
    outcomes_forget(outcomes, 1, 77);
    add(1, 2, 2, 10);
    save_and_load();
    outcomes_seal(outcomes, 2);
    ck_assert_int_eq(look_up(1, 3, 1, &timestamp), MSHM_OUTCOME_NOT_COMMITTED);
    ck_assert_int_eq(look_up(1, 2, 2, &timestamp), MSHM_OUTCOME_COMMITTED);
    ck_assert_int_eq(look_up(1, 4, 1, &timestamp), MSHM_OUTCOME_COMMITTED);
}
END_TEST

START_TEST(highest_token_that_was_dropped_is_kept)
{
    uint64_t timestamp;
    for (uint32_t session = 1; session <= 65540; session++)
        add(1, session, 1, session);
    save_and_load();
    add(1, 4, 2, 70000); /* goes on: its earlier commits are not known */
    outcomes_seal(outcomes, 2);
    ck_assert_int_eq(look_up(1, 4, 1, &timestamp), MSHM_OUTCOME_UNKNOWN);
    ck_assert_int_eq(look_up(1, 4, 2, &timestamp), MSHM_OUTCOME_UNKNOWN);
    ck_assert_int_eq(look_up(1, 5, 1, &timestamp), MSHM_OUTCOME_COMMITTED);
    ck_assert_int_eq(look_up(1, 65541, 1, &timestamp), MSHM_OUTCOME_NOT_COMMITTED);
}
END_TEST

START_TEST(session_that_goes_on_committing_outlives_many_that_do_not)
{
    uint64_t timestamp;
    void *bytes;
    uint64_t size;
    for (uint32_t session = 2; session <= 70000; session++) {
        if (session % 100 == 0)
            add(1, 1, session, session);
        add(1, session, 1, session);
        if (session % 30000 == 0) {
            ck_assert_int_eq(outcomes_save(outcomes, &bytes, &size), MSHM_OK);
            free(bytes);
            add(1, 1, session + 1, session);
        }
    }
    outcomes_seal(outcomes, 2);
    ck_assert_int_eq(look_up(1, 1, 70000, &timestamp), MSHM_OUTCOME_COMMITTED);
    ck_assert_int_eq(look_up(1, 1, 69900, &timestamp), MSHM_OUTCOME_COMMITTED);
    ck_assert_int_eq(look_up(1, 1, 69901, &timestamp), MSHM_OUTCOME_NOT_COMMITTED);
    ck_assert_int_eq(look_up(1, 2, 1, &timestamp), MSHM_OUTCOME_UNKNOWN);
}
END_TEST

/* Random commits in the window of random tokens, saved, restored and forgotten now and then, against plain lists. */
enum { MODEL_TOKENS = 20, MODEL_SEQUENCES = 6000 };
static uint64_t model[MODEL_TOKENS][MODEL_SEQUENCES];
static unsigned model_highest[MODEL_TOKENS];

static void
model_add(unsigned token, uint64_t timestamp)
{
    unsigned kind = (unsigned)random() % 100, highest = model_highest[token], sequence;
    if (kind < 80)
        sequence = highest + 1;
    else if (kind < 90)
        sequence = highest + 1 + (unsigned)random() % 20;
    else if (kind < 99)
        sequence = highest > 1023 ? highest - (unsigned)random() % 1024 : 1;
    else
        sequence = highest + 1 + (unsigned)random() % 1500;
    if (sequence >= MODEL_SEQUENCES || model[token][sequence] != 0)
        return;
    model[token][sequence] = timestamp;
    if (sequence > highest)
        model_highest[token] = sequence;
    add(1 + token / 5, token % 5 + 1, sequence, timestamp);
}

static void
model_check(void)
{
    uint64_t timestamp;
    for (unsigned token = 0; token < MODEL_TOKENS; token++) {
        unsigned highest = model_highest[token];
        unsigned from = highest > 1023 ? highest - 1023 : 1;
        for (unsigned sequence = from; sequence <= highest + 3 && sequence < MODEL_SEQUENCES;
             sequence++) {
            enum mshm_outcome outcome = look_up(1 + token / 5, token % 5 + 1, sequence, &timestamp);
            if (timestamp != model[token][sequence] ||
                outcome != (timestamp != 0 ? MSHM_OUTCOME_COMMITTED : MSHM_OUTCOME_NOT_COMMITTED))
                ck_abort_msg("token %u, sequence %u: %d, commit %d", token, sequence, (int)outcome,
                             (int)timestamp);
        }
    }
}

START_TEST(agrees_with_plain_lists_across_saving_and_loading)
{
    const char *text = getenv("MACE_SEED");
    unsigned seed = text != NULL ? (unsigned)strtoul(text, NULL, 0) : 1;
    printf("MACE_SEED=%u\n", seed);
    srandom(seed);
    for (uint64_t timestamp = 1; timestamp < 60000; timestamp++) {
        unsigned busy = timestamp / 10000 % 2 == 0 ? MODEL_TOKENS : 3;
        model_add((unsigned)random() % busy, timestamp);
        if (timestamp % 997 == 0)
            save_and_load();
        if (timestamp % 7001 == 0) {
            outcomes_seal(outcomes, 100);
            model_check();
        }
        if (timestamp % 5003 == 0) {
            unsigned token = (unsigned)random() % MODEL_TOKENS;
            outcomes_forget(outcomes, 1 + token / 5, token % 5 + 1);
            memset(model[token], 0, sizeof model[token]);
            model_highest[token] = 0;
        }
    }
    outcomes_seal(outcomes, 100);
    model_check();
}
END_TEST

START_TEST(packed_commits_take_few_bytes)
{
    void *bytes;
    uint64_t size;
    for (uint64_t sequence = 1; sequence <= 100000; sequence++)
        for (uint32_t session = 1; session <= 2; session++)
            add(1, session, sequence, sequence * 2 + session);
    ck_assert_int_eq(outcomes_save(outcomes, &bytes, &size), MSHM_OK);
    ck_assert_uint_lt(size, 2 * (1024 * 2 + 64));
    free(bytes);
}
END_TEST

/* --- hostile bytes --- */

static int
load_bytes(const void *bytes, uint64_t size)
{
    uint64_t timestamp;
    outcomes_destroy(outcomes);
    ck_assert_int_eq(outcomes_create(&outcomes), MSHM_OK);
    uint8_t *copy = malloc(size != 0 ? size : 1); /* of exactly this size, for the sanitizer */
    ck_assert_ptr_nonnull(copy);
    memcpy(copy, bytes, size);
    int status = outcomes_load(outcomes, copy, size);
    free(copy);
    outcomes_seal(outcomes, UINT64_MAX);
    (void)look_up(1, 1, 5, &timestamp);
    (void)outcomes_add(outcomes, 1, 1, 500, 7);
    (void)outcomes_add(outcomes, 1, 2, 50000, 8);
    return status;
}

START_TEST(each_truncation_is_damage_and_no_flipped_bit_does_harm)
{
    void *saved;
    uint64_t size, damage = 0;
    for (uint64_t sequence = 1; sequence <= 40; sequence += 3)
        for (uint32_t session = 1; session <= 3; session++)
            add(1, session, sequence, sequence * 1000000 + session);
    ck_assert_int_eq(outcomes_save(outcomes, &saved, &size), MSHM_OK);
    uint8_t *bytes = saved;
    for (uint64_t part = 0; part < size; part++)
        ck_assert_int_eq(load_bytes(bytes, part), MSHM_CORRUPT);
    for (uint64_t bit = 0; bit < size * 8; bit++) {
        bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
        int status = load_bytes(bytes, size);
        ck_assert(status == MSHM_OK || status == MSHM_CORRUPT || status == MSHM_VERSION);
        damage += status != MSHM_OK;
        bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
    ck_assert_uint_gt(damage, 500);
    ck_assert_int_eq(load_bytes(bytes, size), MSHM_OK);
    struct outcome_header *header = saved;
    header->version = OUTCOME_VERSION + 1;
    ck_assert_int_eq(load_bytes(bytes, size), MSHM_VERSION);
    header->magic++; /* then nothing is known of what the version says */
    ck_assert_int_eq(load_bytes(bytes, size), MSHM_CORRUPT);
    header->magic--;
    header->version = OUTCOME_VERSION;
    header->count--; /* bytes that belong to nothing */
    ck_assert_int_eq(load_bytes(bytes, size), MSHM_CORRUPT);
    free(saved);
}
END_TEST

START_TEST(more_tokens_than_are_ever_kept_are_damage)
{
    enum { MOST = 65536 };
    static const uint8_t commits[] = {1, 5, 9};
    const uint64_t each = sizeof(struct outcome_image) + sizeof commits;
    struct outcome_header header = {.magic = OUTCOME_MAGIC, .version = OUTCOME_VERSION};
    uint8_t *bytes = malloc(sizeof header + (MOST + 1) * each), *at = bytes + sizeof header;
    ck_assert_ptr_nonnull(bytes);
    for (uint32_t i = 1; i <= MOST + 1; i++, at += each) {
        struct outcome_image image = {.incarnation = 1, .session = i, .size = sizeof commits};
        memcpy(at, &image, sizeof image);
        memcpy(at + sizeof image, commits, sizeof commits);
    }
    header.count = MOST;
    memcpy(bytes, &header, sizeof header);
    ck_assert_int_eq(load_bytes(bytes, sizeof header + MOST * each), MSHM_OK);
    header.count = MOST + 1;
    memcpy(bytes, &header, sizeof header);
    ck_assert_int_eq(load_bytes(bytes, sizeof header + (MOST + 1) * each), MSHM_CORRUPT);
    free(bytes);
}
END_TEST

/* A session that does not commit any more costs a few bytes, not the ring that it had. */
START_TEST(what_was_not_touched_since_the_last_checkpoint_is_packed)
{
    void *bytes;
    uint64_t size, again;
    for (uint64_t sequence = 1; sequence <= 1000; sequence++)
        add(1, 1, sequence, sequence);
    for (int i = 0; i < 3; i++) {
        uint64_t rings = outcomes->rings_bytes;
        ck_assert_int_eq(outcomes_save(outcomes, &bytes, i == 0 ? &size : &again), MSHM_OK);
        free(bytes);
        ck_assert(i != 0 || outcomes->rings_bytes == rings);
        ck_assert(i == 0 || (outcomes->rings_bytes == 0 && again == size));
    }
}
END_TEST

/* A token, and commits that cannot be. */
static int
load_commits(const uint8_t *commits, uint32_t size, uint32_t tokens)
{
    uint8_t bytes[1024];
    struct outcome_header header = {
        .magic = OUTCOME_MAGIC, .version = OUTCOME_VERSION, .count = tokens};
    struct outcome_image image = {.incarnation = 1, .session = 1, .size = size};
    uint64_t at = sizeof header;
    memcpy(bytes, &header, sizeof header);
    for (uint32_t i = 0; i < tokens; i++) {
        memcpy(bytes + at, &image, sizeof image);
        memcpy(bytes + at + sizeof image, commits, size);
        at += sizeof image + size;
    }
    return load_bytes(bytes, at);
}

START_TEST(commits_that_cannot_be_are_damage)
{
    static const uint8_t fine[] = {2, 5, 9, 0, 2}, none[] = {0}, empty[] = {1, 5, 0},
                         long_one[] = {2, 5, 9, 0, 2, 0}, few[] = {3, 5, 9, 0, 2},
                         zero[] = {2, 5, 1, 0, 1}, far[] = {2, 5, 9, 0xff, 0x07, 2},
                         many[] = {0x81, 8, 5, 9}, endless[] = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
                                                                0xff, 0xff, 0xff, 0xff, 0xff, 1},
                         wraps[] = {2,    0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
                                    0xff, 0xff, 0xff, 1,    9,    0,    2};
    ck_assert_int_eq(load_commits(fine, sizeof fine, 1), MSHM_OK);
    ck_assert_int_eq(load_commits(fine, sizeof fine, 2), MSHM_CORRUPT); /* the same token */
    ck_assert_int_eq(load_commits(none, sizeof none, 1), MSHM_CORRUPT);
    ck_assert_int_eq(load_commits(none, 0, 1), MSHM_CORRUPT);
    ck_assert_int_eq(load_commits(empty, sizeof empty, 1), MSHM_CORRUPT);
    ck_assert_int_eq(load_commits(long_one, sizeof long_one, 1), MSHM_CORRUPT);
    ck_assert_int_eq(load_commits(few, sizeof few, 1), MSHM_CORRUPT);
    ck_assert_int_eq(load_commits(zero, sizeof zero, 1), MSHM_CORRUPT);
    ck_assert_int_eq(load_commits(far, sizeof far, 1), MSHM_CORRUPT);
    ck_assert_int_eq(load_commits(many, sizeof many, 1), MSHM_CORRUPT);
    ck_assert_int_eq(load_commits(endless, sizeof endless, 1), MSHM_CORRUPT);
    ck_assert_int_eq(load_commits(wraps, sizeof wraps, 1), MSHM_CORRUPT);
}
END_TEST

static double
elapsed_ns(const struct timespec *since)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)(now.tv_sec - since->tv_sec) * 1e9 + (double)(now.tv_nsec - since->tv_nsec);
}

/* Figures for people: nothing is asserted of them. */
START_TEST(adding_is_cheap)
{
    struct timespec start;
    void *bytes;
    uint64_t size;
    clock_gettime(CLOCK_MONOTONIC, &start);
    for (uint64_t sequence = 1; sequence <= 5000000; sequence++)
        (void)outcomes_add(outcomes, 1, 1, sequence, sequence);
    printf("one session: %.1f ns a commit\n", elapsed_ns(&start) / 5e6);
    clock_gettime(CLOCK_MONOTONIC, &start);
    for (uint64_t sequence = 1; sequence <= 20000; sequence++)
        for (uint32_t session = 1; session <= 250; session++)
            (void)outcomes_add(outcomes, 1, session + 1, sequence, sequence * 250 + session);
    printf("250 sessions: %.1f ns a commit\n", elapsed_ns(&start) / 5e6);
    clock_gettime(CLOCK_MONOTONIC, &start);
    ck_assert_int_eq(outcomes_save(outcomes, &bytes, &size), MSHM_OK);
    printf("saved in %.2f ms: %llu bytes\n", elapsed_ns(&start) / 1e6, (unsigned long long)size);
    free(bytes);
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
    tcase_add_test(tests, tokens_of_the_running_incarnation_do_not_expire);
    tcase_add_test(tests, what_was_asked_for_has_ten_minutes_again_after_a_restart);
    tcase_add_test(tests, token_of_a_session_that_closed_leaves_no_trace);
    tcase_add_test(tests, highest_token_that_was_dropped_is_kept);
    tcase_add_test(tests, session_that_goes_on_committing_outlives_many_that_do_not);
    tcase_add_test(tests, agrees_with_plain_lists_across_saving_and_loading);
    tcase_add_test(tests, packed_commits_take_few_bytes);
    tcase_add_test(tests, each_truncation_is_damage_and_no_flipped_bit_does_harm);
    tcase_add_test(tests, commits_that_cannot_be_are_damage);
    tcase_add_test(tests, more_tokens_than_are_ever_kept_are_damage);
    tcase_add_test(tests, what_was_not_touched_since_the_last_checkpoint_is_packed);
    tcase_add_test(tests, adding_is_cheap);
    tcase_add_test(tests, agrees_with_a_plain_list);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
