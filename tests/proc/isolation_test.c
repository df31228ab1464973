/* isolation_test.c - what transactions of different processes see of each other: the anomalies of Adya, Liskov & O'Neil
 * ("Generalized Isolation Level Definitions", 2000) and Berenson et al. ("A Critique of ANSI SQL Isolation Levels", 1995),
 * in the histories of Kleppmann's "Hermitage". Snapshot isolation allows none of them but write skew.
 *
 * Each actor is a process of its own with one transaction at a time; the test tells them what to do, step by step. Keys and
 * values are numbers.
 */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "support/broker.h"
#include "support/client.h"
#include "support/process.h"

enum op { BEGIN, GET, PUT, INSERT, UPDATE, DELETE, COUNT, SUM, SUM_BACK, COMMIT, ABORT, CHURN };

/* What the test says, and what an actor answers: over the channel as words. */
struct actor {
    struct worker worker;
};
static struct actor actors[3];
static struct broker broker;
static char scratch[SCRATCH_PATH], path[SCRATCH_PATH];

enum { NOTHING = 0x7fffffff }; /* the answer of a get that finds nothing */
static const char *const text_of[] = {"begin", "get", "put",      "insert", "update", "delete",
                                      "count", "sum", "sum back", "commit", "abort",  "churn"};

/* ------------------------------------------------------------------------------------------- in the actor */

static void
key_of(uint64_t number, char key[16])
{
    snprintf(key, 16, "%06u", (unsigned)number);
}

static uint64_t
number_of(mace_slice value)
{
    uint64_t number;
    require(value.size >= sizeof number, "a value of %zu bytes", value.size);
    memcpy(&number, value.data, sizeof number);
    return number;
}

/* Number of entries, or the sum of values mixed with keys, of all keys, walking in one direction. */
static uint64_t
actor_walk(mace_txn *txn, mace_bucket *bucket, enum op op)
{
    mace_cursor *cursor;
    mace_slice key, value;
    uint64_t result = 0;
    require_ok(mace_cursor_open(txn, bucket, NULL, &cursor));
    for (;;) {
        int status = op == SUM_BACK ? mace_cursor_prev(cursor, &key, &value)
                                    : mace_cursor_next(cursor, &key, &value);
        if (status == MACE_NOT_FOUND)
            break;
        require_ok(status);
        char digits[8] = "";
        memcpy(digits, key.data, key.size < 7 ? key.size : 7);
        result += op == COUNT ? 1 : number_of(value) * (2 * strtoull(digits, NULL, 10) + 1);
    }
    mace_cursor_close(cursor);
    return result;
}

/* Overwrites, deletes and inserts so much around the first `limit` keys that their pages are consolidated and split many
 * times over. Leaves those keys with value 1. */
static void
actor_churn(mace *db, mace_bucket *bucket, uint64_t limit)
{
    char key[16];
    uint64_t value[40] = {0};
    for (unsigned round = 0; round < 20; round++) {
        for (uint64_t first = 0; first < limit; first += 10) {
            mace_txn *txn;
            require_ok(mace_begin(db, MACE_OS, &txn));
            for (uint64_t i = first; i < first + 10 && i < limit; i++) {
                value[0] = round == 19 ? 1 : 1000 + round;
                key_of(i, key);
                if (round % 3 == 1)
                    require_ok(mace_delete(txn, bucket, key, 6));
                require_ok(mace_put(txn, bucket, key, 6, value, 8 + 8 * ((i + round) % 32)));
                /* New neighbours make the leaf split. */
                key[6] = (char)('a' + round);
                require_ok(mace_put(txn, bucket, key, 7, value, 200));
            }
            require_ok(mace_commit(txn));
        }
    }
}

static int
actor_write(mace_txn *txn, mace_bucket *bucket, enum op op, uint64_t number, uint64_t value)
{
    char key[16];
    key_of(number, key);
    switch (op) {
    case PUT:
        return mace_put(txn, bucket, key, 6, &value, sizeof value);
    case INSERT:
        return mace_insert(txn, bucket, key, 6, &value, sizeof value);
    case UPDATE:
        return mace_update(txn, bucket, key, 6, &value, sizeof value);
    default:
        return mace_delete(txn, bucket, key, 6);
    }
}

static void
actor_run(int channel, void *argument)
{
    (void)argument;
    mace *db = client_open(path);
    mace_bucket *bucket = client_bucket(db, "default");
    mace_txn *txn = NULL;
    uint64_t op, number, value;
    while (channel_hear(channel, &op) && channel_hear(channel, &number) &&
           channel_hear(channel, &value)) {
        int status = MACE_OK;
        uint64_t answer = 0;
        char key[16];
        mace_slice found;
        key_of(number, key);
        switch (op) {
        case BEGIN:
            status = mace_begin(db, (unsigned)value, &txn);
            break;
        case GET:
            status = mace_get(txn, bucket, key, 6, &found);
            answer = status == MACE_OK ? number_of(found) : NOTHING;
            status = status == MACE_NOT_FOUND ? MACE_OK : status;
            break;
        case COUNT:
        case SUM:
        case SUM_BACK:
            answer = actor_walk(txn, bucket, (enum op)op);
            break;
        case COMMIT:
            status = mace_commit(txn);
            break;
        case ABORT:
            mace_abort(txn);
            break;
        case CHURN:
            actor_churn(db, bucket, number);
            break;
        default:
            status = actor_write(txn, bucket, (enum op)op, number, value);
        }
        channel_tell(channel, (uint64_t)(int64_t)status);
        channel_tell(channel, answer);
    }
    mace_bucket_close(bucket);
    mace_close(db);
}

/* --------------------------------------------------------------------------------------------- in the test */

static void
actor_tell(unsigned actor, enum op op, uint64_t number, uint64_t value)
{
    int channel = actors[actor].worker.channel;
    channel_tell(channel, op);
    channel_tell(channel, number);
    channel_tell(channel, value);
}

static int
actor_hear(unsigned actor, uint64_t *answer)
{
    int channel = actors[actor].worker.channel;
    uint64_t status, ignored;
    require(channel_hear(channel, &status) &&
                channel_hear(channel, answer == NULL ? &ignored : answer),
            "actor %u is gone", actor);
    return (int)(int64_t)status;
}

static void
step(unsigned actor, enum op op, uint64_t number, uint64_t value, int wanted)
{
    actor_tell(actor, op, number, value);
    int status = actor_hear(actor, NULL);
    ck_assert_msg(status == wanted, "actor %u, %s %u: %s", actor, text_of[op], (unsigned)number,
                  mace_strerror(status));
}

static uint64_t
ask(unsigned actor, enum op op, uint64_t number)
{
    uint64_t answer;
    actor_tell(actor, op, number, 0);
    int status = actor_hear(actor, &answer);
    ck_assert_msg(status == MACE_OK, "actor %u, %s %u: %s", actor, text_of[op], (unsigned)number,
                  mace_strerror(status));
    return answer;
}

#define begin(actor) step(actor, BEGIN, 0, MACE_OS, MACE_OK)
#define put(actor, key, value) step(actor, PUT, key, value, MACE_OK)
#define commit(actor) step(actor, COMMIT, 0, 0, MACE_OK)
#define commit_conflicts(actor) step(actor, COMMIT, 0, 0, MACE_CONFLICT)
#define cancel(actor) step(actor, ABORT, 0, 0, MACE_OK)
#define sees(actor, key, value) ck_assert_uint_eq(ask(actor, GET, key), value)

/* What a transaction that begins now sees. */
static void
newest_is(uint64_t key, uint64_t value)
{
    begin(2);
    sees(2, key, value);
    cancel(2);
}

/* Keys 1 and 2 with the values 10 and 20, written by actor 0. */
static void
setup(void)
{
    scratch_create(scratch);
    scratch_join(path, scratch, "db");
    broker_start(&broker, path,
                 &(struct broker_options){.arguments = {"--cache", "64M", "--segment-size", "4M"}});
    for (unsigned i = 0; i < 3; i++)
        worker_start(&actors[i].worker, actor_run, NULL);
    begin(0);
    put(0, 1, 10);
    put(0, 2, 20);
    commit(0);
}

static void
teardown(void)
{
    /* Later actors have copies of the channels of earlier ones: all are closed before the first one is waited for. */
    for (unsigned i = 0; i < 3; i++)
        close(actors[i].worker.channel);
    for (unsigned i = 3; i-- > 0;)
        worker_join(&actors[i].worker);
    broker_finish(&broker);
    scratch_remove(scratch);
}

START_TEST(g0_dirty_write_is_impossible)
{
    begin(0);
    begin(1);
    put(0, 1, 11);
    put(1, 1, 12);
    put(0, 2, 21);
    commit(0);
    newest_is(1, 11);
    newest_is(2, 21);
    put(1, 2, 22);
    commit_conflicts(1);
    newest_is(1, 11);
    newest_is(2, 21);
}
END_TEST

START_TEST(g1a_an_aborted_write_is_read_by_nobody)
{
    begin(0);
    begin(1);
    put(0, 1, 101);
    sees(1, 1, 10);
    cancel(0);
    sees(1, 1, 10);
    commit(1);
    newest_is(1, 10);
}
END_TEST

START_TEST(g1b_an_intermediate_write_is_read_by_nobody)
{
    begin(0);
    begin(1);
    put(0, 1, 101);
    sees(1, 1, 10);
    newest_is(1, 10);
    put(0, 1, 11);
    commit(0);
    sees(1, 1, 10);
    commit(1);
    newest_is(1, 11);
}
END_TEST

START_TEST(g1c_information_flows_in_no_circle)
{
    begin(0);
    begin(1);
    put(0, 1, 11);
    put(1, 2, 22);
    sees(0, 2, 20);
    sees(1, 1, 10);
    commit(0);
    sees(1, 1, 10);
    commit(1);
    newest_is(1, 11);
    newest_is(2, 22);
}
END_TEST

START_TEST(otv_an_observed_transaction_does_not_vanish)
{
    begin(0);
    begin(1);
    put(0, 1, 11);
    put(0, 2, 19);
    put(1, 1, 12);
    commit(0);
    begin(2);
    sees(2, 1, 11);
    put(1, 2, 18);
    sees(2, 2, 19);
    commit_conflicts(1);
    sees(2, 2, 19);
    sees(2, 1, 11);
    commit(2);
}
END_TEST

START_TEST(pmp_a_predicate_read_twice_gives_the_same)
{
    begin(0);
    ck_assert_uint_eq(ask(0, COUNT, 0), 2);
    begin(1);
    step(1, INSERT, 3, 30, MACE_OK);
    step(1, DELETE, 1, 0, MACE_OK);
    commit(1);
    ck_assert_uint_eq(ask(0, COUNT, 0), 2);
    sees(0, 3, NOTHING);
    sees(0, 1, 10);
    ck_assert_uint_eq(ask(0, SUM, 0), 10 * 3 + 20 * 5);
    ck_assert_uint_eq(ask(0, SUM_BACK, 0), 10 * 3 + 20 * 5);
    commit(0);
    begin(0);
    ck_assert_uint_eq(ask(0, SUM, 0), 20 * 5 + 30 * 7);
    cancel(0);
}
END_TEST

START_TEST(pmp_a_write_by_predicate_conflicts_with_what_changed_under_it)
{
    begin(0);
    begin(1);
    put(0, 1, 20);
    put(0, 2, 30);
    commit(0);
    /* "delete where value = 20": by its snapshot that is key 2, which has changed. */
    sees(1, 1, 10);
    sees(1, 2, 20);
    step(1, DELETE, 2, 0, MACE_OK);
    commit_conflicts(1);
    newest_is(2, 30);
}
END_TEST

START_TEST(p4_no_update_is_lost)
{
    static const enum op ops[3] = {PUT, UPDATE, DELETE};
    for (unsigned first = 0; first < 3; first++)
        for (unsigned second = 0; second < 3; second++) {
            begin(0);
            put(0, 1, 10);
            commit(0);
            begin(0);
            begin(1);
            sees(0, 1, 10);
            sees(1, 1, 10);
            step(0, ops[first], 1, 11, MACE_OK);
            step(1, ops[second], 1, 12, MACE_OK);
            commit(0);
            commit_conflicts(1);
            newest_is(1, ops[first] == DELETE ? NOTHING : 11);
        }
}
END_TEST

START_TEST(of_two_inserts_of_a_new_key_the_second_conflicts)
{
    begin(0);
    begin(1);
    step(0, INSERT, 7, 70, MACE_OK);
    step(1, INSERT, 7, 71, MACE_OK);
    commit(1);
    commit_conflicts(0);
    newest_is(7, 71);
    /* Also when the first one deletes it again, and when nothing remains of it. */
    begin(0);
    begin(1);
    step(0, INSERT, 8, 80, MACE_OK);
    step(1, INSERT, 8, 81, MACE_OK);
    step(1, DELETE, 8, 0, MACE_OK);
    commit(1);
    commit_conflicts(0);
    newest_is(8, NOTHING);
}
END_TEST

START_TEST(g_single_read_skew_is_impossible)
{
    begin(0);
    begin(1);
    sees(0, 1, 10);
    put(1, 1, 12);
    put(1, 2, 18);
    commit(1);
    sees(0, 2, 20);
    /* And the transaction that reads the past may not write what has changed. */
    step(0, DELETE, 2, 0, MACE_OK);
    commit_conflicts(0);
}
END_TEST

START_TEST(g2_write_skew_is_possible)
{
    begin(0);
    begin(1);
    for (unsigned i = 0; i < 2; i++) {
        sees(i, 1, 10);
        sees(i, 2, 20);
    }
    put(0, 1, 11);
    put(1, 2, 21);
    commit(0);
    commit(1);
    newest_is(1, 11);
    newest_is(2, 21);
}
END_TEST

START_TEST(a_failed_precondition_conflicts_with_nothing)
{
    begin(0);
    step(0, INSERT, 1, 99, MACE_EXISTS);
    step(0, UPDATE, 5, 99, MACE_NOT_FOUND);
    step(0, DELETE, 5, 99, MACE_NOT_FOUND);
    put(0, 6, 60);
    begin(1);
    put(1, 1, 11);
    put(1, 5, 50);
    commit(1);
    commit(0);
    newest_is(1, 11);
    newest_is(6, 60);
}
END_TEST

enum { MANY = 300 };
static uint64_t many_sum;

static void
many_keys(void)
{
    many_sum = 0;
    begin(0);
    for (unsigned i = 0; i < MANY; i++) {
        put(0, i, i * i);
        many_sum += (uint64_t)i * i * (2 * i + 1);
    }
    commit(0);
}

START_TEST(a_snapshot_stays_the_same_through_splits_and_a_long_sleep)
{
    many_keys();
    begin(0);
    ck_assert_uint_eq(ask(0, SUM, 0), many_sum);
    actor_tell(1, CHURN, MANY, 0);
    /* Reading while the pages change under it. */
    for (unsigned i = 0; i < 20; i++) {
        ck_assert_uint_eq(ask(0, i % 2 == 0 ? SUM : SUM_BACK, 0), many_sum);
        sees(0, i * 7, (uint64_t)i * 7 * i * 7);
    }
    ck_assert_int_eq(actor_hear(1, NULL), MACE_OK);
    /* The reader sleeps for a second, stopped as a whole, while the pages change again. */
    worker_stop(&actors[0].worker);
    actor_tell(1, CHURN, MANY, 0);
    uint64_t end = process_time_ns() + UINT64_C(1000000000);
    ck_assert_int_eq(actor_hear(1, NULL), MACE_OK);
    while (process_time_ns() < end)
        process_pause();
    worker_continue(&actors[0].worker);
    ck_assert_uint_eq(ask(0, COUNT, 0), MANY);
    ck_assert_uint_eq(ask(0, SUM, 0), many_sum);
    ck_assert_uint_eq(ask(0, SUM_BACK, 0), many_sum);
    for (unsigned i = 0; i < MANY; i++)
        sees(0, i, (uint64_t)i * i);
    commit(0);
    begin(0);
    ck_assert_uint_eq(ask(0, COUNT, 0), 21 * MANY);
    sees(0, 17, 1);
    cancel(0);
}
END_TEST

START_TEST(a_conflict_is_found_however_long_ago_it_was)
{
    many_keys();
    begin(0);
    begin(2);
    begin(1);
    step(1, DELETE, 5, 0, MACE_OK);
    put(1, 6, 66);
    commit(1);
    actor_tell(1, CHURN, 5, 0); /* around the keys below, not of 5 and 6 themselves */
    ck_assert_int_eq(actor_hear(1, NULL), MACE_OK);
    step(0, INSERT, 5, 1, MACE_EXISTS);
    step(0, UPDATE, 5, 1, MACE_OK);
    commit_conflicts(0);
    put(2, 6, 67);
    commit_conflicts(2);
    newest_is(5, NOTHING);
    newest_is(6, 66);
}
END_TEST

int
main(void)
{
    Suite *suite = suite_create("isolation");
    TCase *tests = tcase_create("isolation");
    tcase_set_timeout(tests, 120);
    tcase_add_checked_fixture(tests, setup, teardown);
    tcase_add_test(tests, g0_dirty_write_is_impossible);
    tcase_add_test(tests, g1a_an_aborted_write_is_read_by_nobody);
    tcase_add_test(tests, g1b_an_intermediate_write_is_read_by_nobody);
    tcase_add_test(tests, g1c_information_flows_in_no_circle);
    tcase_add_test(tests, otv_an_observed_transaction_does_not_vanish);
    tcase_add_test(tests, pmp_a_predicate_read_twice_gives_the_same);
    tcase_add_test(tests, pmp_a_write_by_predicate_conflicts_with_what_changed_under_it);
    tcase_add_test(tests, p4_no_update_is_lost);
    tcase_add_test(tests, of_two_inserts_of_a_new_key_the_second_conflicts);
    tcase_add_test(tests, g_single_read_skew_is_impossible);
    tcase_add_test(tests, g2_write_skew_is_possible);
    tcase_add_test(tests, a_failed_precondition_conflicts_with_nothing);
    tcase_add_test(tests, a_snapshot_stays_the_same_through_splits_and_a_long_sleep);
    tcase_add_test(tests, a_conflict_is_found_however_long_ago_it_was);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
