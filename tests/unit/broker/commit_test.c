/* A request's way through the core: copy-in, conflicts, preconditions, refusals, order of answers. */
#include <check.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fake_env.h"
#include "kill_point.h"
#include "mshm/ops.h"
#include "mshm/status.h"

static struct fake fake;
static struct fake_client *a, *b;
static uint32_t bucket;

static void
start(uint64_t segment_size)
{
    fake_init(&fake);
    fake.options.segment_size = segment_size;
    ck_assert_int_eq(fake_start(&fake), MSHM_OK);
    bucket = fake_default(&fake);
    a = fake_attach(&fake, 0);
    b = fake_attach(&fake, 0);
}

static void
setup(void)
{
    start(1 << 20);
}

static void
teardown(void)
{
    const char *why = "";
    ck_assert_msg(core_check(fake.core, &why) == MSHM_OK, "%s", why);
    kill_point_set_handler(NULL, NULL);
    fake_client_free(a);
    fake_client_free(b);
    fake_fini(&fake);
}

/* One put at `lane`'s snapshot, published and not waited for. */
static uint64_t
put(struct fake_client *client, int lane, const char *key, const char *value, unsigned flags)
{
    _Alignas(8) uint8_t op[1024];
    uint64_t size = mshm_op_write(op, bucket, MSHM_OP_PUT, key, (uint16_t)strlen(key), value,
                                  (uint32_t)strlen(value));
    return fake_publish(client, lane, op, size, 1, flags);
}

#define ck_value(client, key, expected)                                             \
    do {                                                                            \
        char value_read[256];                                                       \
        ck_assert_int_eq(fake_get(client, 6, bucket, key, 0, value_read), MSHM_OK); \
        ck_assert_str_eq(value_read, expected);                                     \
    } while (0)

START_TEST(a_commit_is_visible_and_answered_with_its_timestamp)
{
    mshm_timestamp timestamp = 0, before = AO_load(&fake.core->store->visible);
    fake_begin(a, 0);
    ck_assert_int_eq(fake_answer(a, put(a, 0, "key", "value", 0), &timestamp), MSHM_OK);
    ck_assert_uint_eq(timestamp, before + 1);
    ck_assert_uint_eq(AO_load(&fake.core->store->visible), timestamp);
    ck_value(b, "key", "value");
}
END_TEST

START_TEST(the_second_writer_of_a_key_gets_a_conflict)
{
    fake_begin(a, 0);
    fake_begin(b, 0);
    ck_assert_int_eq(fake_answer(a, put(a, 0, "key", "first", 0), NULL), MSHM_OK);
    ck_assert_int_eq(fake_answer(b, put(b, 0, "key", "second", 0), NULL), MSHM_CONFLICT);
    ck_value(b, "key", "first");
    fake_begin(b, 0);
    ck_assert_int_eq(fake_answer(b, put(b, 0, "key", "second", 0), NULL), MSHM_OK);
    ck_value(a, "key", "second");
    ck_assert_uint_eq(AO_load(&fake.core->figures->counters.conflicts), 1);
}
END_TEST

START_TEST(a_conflict_with_a_delete_is_found_after_pruning)
{
    ck_assert_int_eq(fake_put(a, bucket, "key", "value"), MSHM_OK);
    fake_begin(b, 0);
    ck_assert_int_eq(fake_put(a, bucket, "key", NULL), MSHM_OK);
    for (int i = 0; i < 300; i++) /* enough to rebuild the leaf again and again */
        ck_assert_int_eq(fake_put(a, bucket, "other", "x"), MSHM_OK);
    fake_wait(&fake, 5);
    ck_assert_int_eq(fake_answer(b, put(b, 0, "key", "late", 0), NULL), MSHM_CONFLICT);
}
END_TEST

START_TEST(one_call_preconditions_are_decided_in_commit_order)
{
    ck_assert_int_eq(fake_one_call(a, bucket, MSHM_OP_UPDATE, "k", "1"), MSHM_NOT_FOUND);
    ck_assert_int_eq(fake_one_call(a, bucket, MSHM_OP_DELETE_EXISTING, "k", NULL), MSHM_NOT_FOUND);
    ck_assert_int_eq(fake_one_call(a, bucket, MSHM_OP_INSERT, "k", "1"), MSHM_OK);
    ck_assert_int_eq(fake_one_call(b, bucket, MSHM_OP_INSERT, "k", "2"), MSHM_EXISTS);
    ck_assert_int_eq(fake_one_call(b, bucket, MSHM_OP_UPDATE, "k", "3"), MSHM_OK);
    ck_value(a, "k", "3");
    ck_assert_int_eq(fake_one_call(a, bucket, MSHM_OP_PUT, "k", "4"), MSHM_OK);
    ck_value(a, "k", "4");
    ck_assert_int_eq(fake_one_call(a, bucket, MSHM_OP_DELETE_EXISTING, "k", NULL), MSHM_OK);
    ck_assert_int_eq(fake_one_call(a, bucket, MSHM_OP_DELETE, "k", NULL), MSHM_OK);
    char value[256];
    ck_assert_int_eq(fake_get(a, 6, bucket, "k", 0, value), MSHM_NOT_FOUND);
}
END_TEST

START_TEST(one_call_forms_are_replayed_as_what_came_of_them)
{
    ck_assert_int_eq(fake_one_call(a, bucket, MSHM_OP_INSERT, "in", "1"), MSHM_OK);
    ck_assert_int_eq(fake_one_call(a, bucket, MSHM_OP_INSERT, "up", "1"), MSHM_OK);
    ck_assert_int_eq(fake_one_call(a, bucket, MSHM_OP_UPDATE, "up", "2"), MSHM_OK);
    ck_assert_int_eq(fake_one_call(a, bucket, MSHM_OP_INSERT, "out", "1"), MSHM_OK);
    ck_assert_int_eq(fake_one_call(a, bucket, MSHM_OP_DELETE_EXISTING, "out", NULL), MSHM_OK);
    fake_kill(&fake);
    ck_assert_int_eq(fake_start(&fake), MSHM_OK);
    fake_client_free(a);
    a = fake_attach(&fake, 0);
    ck_value(a, "in", "1");
    ck_value(a, "up", "2");
    char value[256];
    ck_assert_int_eq(fake_get(a, 6, bucket, "out", 0, value), MSHM_NOT_FOUND);
}
END_TEST

START_TEST(a_failed_request_changes_nothing_and_the_next_one_goes_on)
{
    _Alignas(8) uint8_t ops[1024];
    fake_begin(a, 0);
    ck_assert_int_eq(fake_put(b, bucket, "b", "theirs"), MSHM_OK);
    uint64_t size = mshm_op_write(ops, bucket, MSHM_OP_PUT, "a", 1, "x", 1);
    size += mshm_op_write(ops + size, bucket, MSHM_OP_PUT, "b", 1, "x", 1);
    ck_assert_int_eq(fake_answer(a, fake_publish(a, 0, ops, size, 2, 0), NULL), MSHM_CONFLICT);
    char value[256];
    ck_assert_int_eq(fake_get(b, 6, bucket, "a", 0, value), MSHM_NOT_FOUND);
    ck_value(b, "b", "theirs");
    ck_assert_int_eq(fake_put(a, bucket, "a", "y"), MSHM_OK);
    fake_kill(&fake);
    ck_assert_int_eq(fake_start(&fake), MSHM_OK);
    fake_client_free(b);
    b = fake_attach(&fake, 0);
    ck_value(b, "a", "y");
    ck_value(b, "b", "theirs");
}
END_TEST

START_TEST(an_os_commit_behind_a_sync_commit_waits_for_that_sync)
{
    int status;
    mshm_timestamp timestamp, before = AO_load(&fake.core->store->visible);
    fake.hold = true;
    fake_begin(a, 0);
    fake_begin(b, 0);
    uint64_t sync = put(a, 0, "sync", "1", MSHM_REQUEST_LEVEL_SYNC);
    fake_run(&fake);
    uint64_t os = put(b, 0, "os", "1", 0);
    fake_run(&fake);
    ck_assert(!fake_answered(a, sync, &status, &timestamp));
    ck_assert(!fake_answered(b, os, &status, &timestamp));
    ck_assert_uint_eq(AO_load(&fake.core->store->visible), before);
    char value[256];
    ck_assert_int_eq(fake_get(b, 6, bucket, "os", 0, value), MSHM_NOT_FOUND);
    fake.hold = false;
    fake_run(&fake);
    ck_assert(fake_answered(a, sync, &status, &timestamp));
    ck_assert_int_eq(status, MSHM_OK);
    ck_assert_uint_eq(timestamp, before + 1);
    ck_assert(fake_answered(b, os, &status, &timestamp));
    ck_assert_uint_eq(timestamp, before + 2);
    ck_assert_uint_eq(AO_load(&fake.core->store->visible), before + 2);
}
END_TEST

START_TEST(a_refusal_does_not_wait_for_the_log)
{
    ck_assert_int_eq(fake_put(a, bucket, "k", "1"), MSHM_OK);
    fake_begin(b, 0);
    fake.hold = true;
    fake_begin(a, 0);
    put(a, 0, "k", "2", MSHM_REQUEST_LEVEL_SYNC);
    fake_run(&fake);
    /* The conflict is with a commit that is applied and not durable. */
    ck_assert_int_eq(fake_answer(b, put(b, 0, "k", "3", 0), NULL), MSHM_CONFLICT);
    fake.hold = false;
    fake_run(&fake);
}
END_TEST

START_TEST(an_os_commit_makes_no_call_and_a_sync_commit_one_append)
{
    unsigned appends = fake.appends, syncs = fake.syncs;
    ck_assert_int_eq(fake_put(a, bucket, "k", "1"), MSHM_OK);
    ck_assert_uint_eq(fake.appends, appends);
    fake_begin(a, 0);
    ck_assert_int_eq(fake_answer(a, put(a, 0, "k", "2", MSHM_REQUEST_LEVEL_SYNC), NULL), MSHM_OK);
    ck_assert_uint_eq(fake.appends, appends + 1);
    ck_assert_uint_eq(fake.syncs, syncs + 1);
}
END_TEST

START_TEST(only_who_sleeps_is_woken)
{
    fake_begin(a, 0);
    uint64_t sequence = put(a, 0, "k", "1", 0);
    ck_assert_int_eq(fake_answer(a, sequence, NULL), MSHM_OK);
    ck_assert_uint_eq(fake.wake_count, 0);
    fake_begin(a, 0);
    sequence = put(a, 0, "k", "2", 0);
    unsigned place = (unsigned)((sequence - 1) % MSHM_RING_CAPACITY);
    AO_int_store(&a->segment->waiting[place], 1);
    ck_assert_int_eq(fake_answer(a, sequence, NULL), MSHM_OK);
    ck_assert_uint_eq(fake.wake_count, 1);
    ck_assert_ptr_eq(fake.woken[0], &a->segment->completions[place].done);
}
END_TEST

START_TEST(a_snapshot_that_is_not_the_lanes_is_invalid)
{
    _Alignas(8) uint8_t op[64];
    uint64_t size = mshm_op_write(op, bucket, MSHM_OP_PUT, "k", 1, "v", 1), offset;
    int wake;
    ck_assert_int_eq(fake_put(b, bucket, "k", "v"), MSHM_OK);
    mshm_timestamp newest = fake_begin(a, 0);
    const struct {
        unsigned lane;
        mshm_timestamp snapshot;
    } wrong[] = {{1, newest}, {0, newest - 1}, {0, newest + 1}, {100, newest}};
    AO_store(&a->segment->lanes[100].snapshot, newest); /* above lanes_high: nobody scans it */
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
        ck_assert_int_eq(mshm_producer_arena(&a->producer, size, &offset), MSHM_OK);
        memcpy((uint8_t *)a->segment + MSHM_SESSION_ARENA + offset, op, size);
        uint64_t sequence =
            mshm_producer_publish(&a->producer, MSHM_REQUEST_COMMIT, 0, 0, wrong[i].lane,
                                  wrong[i].snapshot, offset, size, 1, &wake);
        ck_assert_int_eq(fake_answer(a, sequence, NULL), MSHM_INVALID);
    }
    AO_store(&a->segment->lanes[0].snapshot, newest + 7); /* beyond visible, and the lane agrees */
    ck_assert_int_eq(fake_answer(a, put(a, 0, "k", "v", 0), NULL), MSHM_INVALID);
    ck_assert(!a->freed);
}
END_TEST

START_TEST(buckets_and_sizes_are_checked_against_the_catalogue)
{
    uint8_t *op = calloc(1, 16384), *value = calloc(1, 16384);
    uint64_t size = mshm_op_write(op, 4711, MSHM_OP_PUT, "k", 1, "v", 1);
    ck_assert_int_eq(fake_answer(a, fake_publish(a, -1, op, size, 1, 0), NULL), MSHM_NOT_FOUND);
    size = mshm_op_write(op, bucket, MSHM_OP_PUT, "k", 1, value, MSHM_MAX_INLINE + 1);
    ck_assert_int_eq(fake_answer(a, fake_publish(a, -1, op, size, 1, 0), NULL), MSHM_TOO_BIG);
    size = mshm_op_write(op, bucket, MSHM_OP_PUT, "k", 1, value, MSHM_MAX_INLINE);
    ck_assert_int_eq(fake_answer(a, fake_publish(a, -1, op, size, 1, 0), NULL), MSHM_OK);
    size = mshm_op_write(op, bucket, MSHM_OP_MERGE, "k", 1, value, 1);
    ck_assert_int_eq(fake_answer(a, fake_publish(a, -1, op, size, 1, 0), NULL), MSHM_INVALID);
    free(op);
    free(value);
}
END_TEST

START_TEST(a_commit_larger_than_its_share_of_the_cache_is_too_big)
{
    uint8_t *ops = calloc(1, 2 << 20), value[4096] = {0};
    uint64_t size = 0, count = 0;
    fake_fini(&fake);
    fake_client_free(a);
    fake_client_free(b);
    start(4 << 20); /* the log would take it */
    for (; size < fake.options.cache_size / 8; count++) {
        char key[16];
        snprintf(key, sizeof(key), "%08u", (unsigned)count);
        size += mshm_op_write(ops + size, bucket, MSHM_OP_PUT, key, 8, value, sizeof(value));
    }
    fake_begin(a, 0);
    ck_assert_int_eq(fake_answer(a, fake_publish(a, 0, ops, size, count, 0), NULL), MSHM_TOO_BIG);
    ck_assert_int_eq(fake_put(a, bucket, "k", "v"), MSHM_OK);
    free(ops);
}
END_TEST

START_TEST(a_read_only_session_and_an_observer_cannot_commit)
{
    struct fake_client *reader = fake_attach(&fake, MSHM_HELLO_READ_ONLY);
    struct fake_client *observer = fake_attach(&fake, MSHM_HELLO_OBSERVER);
    ck_assert_int_eq(fake_put(reader, bucket, "k", "v"), MSHM_READ_ONLY);
    ck_assert_int_eq(fake_put(observer, bucket, "k", "v"), MSHM_READ_ONLY);
    ck_assert_int_eq(fake_bucket(reader, MSHM_MESSAGE_BUCKET_CREATE, "b", NULL), MSHM_READ_ONLY);
    fake_client_free(reader);
    fake_client_free(observer);
}
END_TEST

START_TEST(a_sync_request_is_answered_when_all_before_it_is_durable)
{
    int wake, status;
    mshm_timestamp timestamp;
    ck_assert_int_eq(fake_put(a, bucket, "k", "v"), MSHM_OK);
    unsigned syncs = fake.syncs;
    fake.hold = true;
    uint64_t sequence =
        mshm_producer_publish(&a->producer, MSHM_REQUEST_SYNC, 0, 0, 0, 0, 0, 0, 0, &wake);
    fake_run(&fake);
    ck_assert(!fake_answered(a, sequence, &status, &timestamp));
    ck_assert_uint_eq(fake.syncs, syncs + 1);
    fake.hold = false;
    ck_assert_int_eq(fake_answer(a, sequence, NULL), MSHM_OK);
    sequence = mshm_producer_publish(&a->producer, MSHM_REQUEST_SYNC, 0, 0, 0, 0, 0, 0, 0, &wake);
    ck_assert_int_eq(fake_answer(a, sequence, NULL), MSHM_OK);
    ck_assert_uint_eq(fake.syncs, syncs + 1); /* nothing was left to be done */
}
END_TEST

#ifdef MACE_KILL_POINTS
/* Overwrites the arena and the ring at the moment when the broker has its copies: with other operations that are valid, or
 * with bytes that are none. */
static int overwrite_round;

static void
arena_overwrite(const char *name, void *argument)
{
    struct fake_client *client = argument;
    if (strcmp(name, "core:copied_in") != 0)
        return;
    _Alignas(8) uint8_t op[64];
    uint64_t size = mshm_op_write(op, bucket, MSHM_OP_PUT, "bad", 3, "bad", 3);
    uint8_t *arena = (uint8_t *)client->segment + MSHM_SESSION_ARENA;
    if (overwrite_round == 0)
        memcpy(arena, op, size);
    else
        memset(arena, 0xff, sizeof(op));
    for (int i = 0; i < MSHM_RING_CAPACITY; i++) {
        AO_store(&client->segment->ring[i].op_count, 77);
        AO_store(&client->segment->ring[i].kind_flags, 99);
        AO_store(&client->segment->ring[i].sequence, 12345);
    }
}

START_TEST(what_changes_after_the_copy_has_no_effect)
{
    char value[256];
    overwrite_round = _i;
    kill_point_set_handler(arena_overwrite, a);
    fake_begin(a, 0);
    ck_assert_int_eq(fake_answer(a, put(a, 0, "key", "good", 0), NULL), MSHM_OK);
    kill_point_set_handler(NULL, NULL);
    ck_value(b, "key", "good");
    ck_assert_int_eq(fake_get(b, 6, bucket, "bad", 0, value), MSHM_NOT_FOUND);
    fake_kill(&fake);
    ck_assert_int_eq(fake_start(&fake), MSHM_OK);
    fake_client_free(b);
    b = fake_attach(&fake, 0);
    ck_value(b, "key", "good");
    ck_assert_int_eq(fake_get(b, 6, bucket, "bad", 0, value), MSHM_NOT_FOUND);
}
END_TEST

struct order {
    struct fake_client *client;
    uint64_t sequence;
    mshm_timestamp before;
    int seen;
};

static void
order_watch(const char *name, void *argument)
{
    struct order *order = argument;
    mshm_timestamp timestamp, visible = AO_load(&fake.core->store->visible);
    int status;
    bool answered = fake_answered(order->client, order->sequence, &status, &timestamp);
    if (strcmp(name, "core:before_visible") == 0) {
        ck_assert_uint_eq(visible, order->before);
        ck_assert(!answered);
        order->seen++;
    } else if (strcmp(name, "core:visible") == 0) {
        ck_assert_uint_eq(visible, order->before + 1);
        ck_assert(!answered);
        order->seen++;
    } else if (strcmp(name, "core:answered") == 0) {
        ck_assert(answered);
        order->seen++;
    }
}

START_TEST(visible_moves_before_the_answer_is_posted)
{
    fake_begin(a, 0);
    struct order order = {.client = a, .before = AO_load(&fake.core->store->visible)};
    order.sequence = put(a, 0, "k", "v", 0);
    kill_point_set_handler(order_watch, &order);
    ck_assert_int_eq(fake_answer(a, order.sequence, NULL), MSHM_OK);
    ck_assert_int_eq(order.seen, 3);
}
END_TEST
#endif

/* --- requests that wait together: the leaves of all are looked for before the first is carried out --- */

enum { TOGETHER = 300 };

static void
together_key(unsigned client, unsigned i, char key[16])
{
    snprintf(key, 16, "%08x", (i * 2 + client) * 2654435761u);
}

static void
together_publish(const char *value, uint64_t sequences[2][TOGETHER])
{
    char key[16];
    for (unsigned i = 0; i < TOGETHER; i++)
        for (unsigned client = 0; client < 2; client++) {
            together_key(client, i, key);
            sequences[client][i] = put(client == 0 ? a : b, -1, key, value, 0);
        }
}

/* Pages split again and again between the look and the commit. */
START_TEST(requests_that_wait_together_find_their_leaves_after_the_splits_before_them)
{
    char value[201] = "", key[16];
    uint64_t sequences[2][TOGETHER];
    for (int round = 0; round < 3; round++) {
        memset(value, 'a' + round, sizeof(value) - 1);
        together_publish(value, sequences);
        for (unsigned i = 0; i < TOGETHER; i++)
            for (unsigned client = 0; client < 2; client++) {
                struct fake_client *who = client == 0 ? a : b;
                ck_assert_int_eq(fake_answer(who, sequences[client][i], NULL), MSHM_OK);
                together_key(client, i, key);
                ck_value(a, key, value);
            }
    }
}
END_TEST

#ifdef MACE_KILL_POINTS
struct exchange {
    uint8_t *arena; /* of the second request */
    const char *key;
};

static void
operation_exchange(const char *name, void *argument)
{
    struct exchange *exchange = argument;
    if (strcmp(name, "core:applied") == 0)
        mshm_op_write(exchange->arena, bucket, MSHM_OP_PUT, exchange->key, 8, "new", 3);
}

/* What was looked at belongs to the client until it is copied in: another key in its place goes to its own leaf. */
START_TEST(a_key_exchanged_after_it_was_looked_for_goes_to_its_own_leaf)
{
    static const char *const keys[2] = {"00000001", "fffffff1"};
    uint64_t sequences[2][TOGETHER];
    char value[201] = "";
    memset(value, 'v', sizeof(value) - 1);
    together_publish(value, sequences);
    for (unsigned i = 0; i < TOGETHER; i++)
        fake_answer(b, sequences[1][i], NULL);
    for (unsigned i = 0; i < 2; i++) {
        uint64_t offset;
        ck_assert_int_eq(mshm_producer_arena(&a->producer, 1, &offset), MSHM_OK);
        struct exchange exchange = {.arena = (uint8_t *)a->segment + MSHM_SESSION_ARENA + offset +
                                             MSHM_LINE,
                                    .key = keys[1 - i]};
        uint64_t first = put(a, -1, "80000000", "new", 0);
        uint64_t second = put(a, -1, keys[i], "old", 0);
        ck_assert_int_eq(memcmp(exchange.arena + sizeof(struct mshm_op), keys[i], 8), 0);
        kill_point_set_handler(operation_exchange, &exchange);
        ck_assert_int_eq(fake_answer(a, first, NULL), MSHM_OK);
        ck_assert_int_eq(fake_answer(a, second, NULL), MSHM_OK);
        kill_point_set_handler(NULL, NULL);
        ck_value(b, keys[1 - i], "new");
    }
}
END_TEST
#endif

START_TEST(a_thousand_asynchronous_commits_are_answered_in_order)
{
    uint64_t sequences[MSHM_RING_CAPACITY];
    mshm_timestamp before = AO_load(&fake.core->store->visible), timestamp;
    for (int i = 0; i < MSHM_RING_CAPACITY; i++) {
        char key[16];
        snprintf(key, sizeof(key), "%d", i);
        sequences[i] = put(a, -1, key, "value", i % 7 == 0 ? MSHM_REQUEST_LEVEL_SYNC : 0);
    }
    for (int i = 0; i < MSHM_RING_CAPACITY; i++) {
        ck_assert_int_eq(fake_answer(a, sequences[i], &timestamp), MSHM_OK);
        ck_assert_uint_eq(timestamp, before + 1 + (unsigned)i);
    }
    ck_value(b, "1023", "value");
}
END_TEST

int
main(void)
{
    TCase *tcase = tcase_create("commit");
    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_add_test(tcase, a_commit_is_visible_and_answered_with_its_timestamp);
    tcase_add_test(tcase, the_second_writer_of_a_key_gets_a_conflict);
    tcase_add_test(tcase, a_conflict_with_a_delete_is_found_after_pruning);
    tcase_add_test(tcase, one_call_preconditions_are_decided_in_commit_order);
    tcase_add_test(tcase, one_call_forms_are_replayed_as_what_came_of_them);
    tcase_add_test(tcase, a_failed_request_changes_nothing_and_the_next_one_goes_on);
    tcase_add_test(tcase, an_os_commit_behind_a_sync_commit_waits_for_that_sync);
    tcase_add_test(tcase, a_refusal_does_not_wait_for_the_log);
    tcase_add_test(tcase, an_os_commit_makes_no_call_and_a_sync_commit_one_append);
    tcase_add_test(tcase, only_who_sleeps_is_woken);
    tcase_add_test(tcase, a_snapshot_that_is_not_the_lanes_is_invalid);
    tcase_add_test(tcase, buckets_and_sizes_are_checked_against_the_catalogue);
    tcase_add_test(tcase, a_commit_larger_than_its_share_of_the_cache_is_too_big);
    tcase_add_test(tcase, a_read_only_session_and_an_observer_cannot_commit);
    tcase_add_test(tcase, a_sync_request_is_answered_when_all_before_it_is_durable);
#ifdef MACE_KILL_POINTS
    tcase_add_loop_test(tcase, what_changes_after_the_copy_has_no_effect, 0, 2);
    tcase_add_test(tcase, visible_moves_before_the_answer_is_posted);
    tcase_add_test(tcase, a_key_exchanged_after_it_was_looked_for_goes_to_its_own_leaf);
#endif
    tcase_add_test(tcase,
                   requests_that_wait_together_find_their_leaves_after_the_splits_before_them);
    tcase_add_test(tcase, a_thousand_asynchronous_commits_are_answered_in_order);
    Suite *suite = suite_create("commit");
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
