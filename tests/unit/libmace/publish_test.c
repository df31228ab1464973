/* Requests and answers, with a broker played by the test: tickets, full rings, slow and lost waiters, lanes. */
#include <sched.h>

#include "client_fixture.h"
#include "commit.h"
#include "mlib_time.h"

/* The test's broker copies requests in and answers them; it can hold back either. */
static struct mshm_consumer consumer;
static uint64_t answered;

static void
set_up(void)
{
    client_set_up();
    mshm_consumer_init(&consumer, client_attachment.session, MSHM_ARENA_INITIAL);
    answered = 0;
}

static void
tear_down(void)
{
    /* What the last asynchronous commits hold. */
    pthread_mutex_lock(&client_attachment.publish_lock);
    mlib_lanes_reap(&client_attachment);
    pthread_mutex_unlock(&client_attachment.publish_lock);
    client_tear_down();
}

/* Copies in up to `limit` requests; each must be well-formed. Returns how many there were. */
static unsigned
broker_copy_in(unsigned limit)
{
    unsigned count = 0;
    for (; count < limit && mshm_consumer_pending(&consumer) > 0; count++) {
        struct mshm_request_copy request;
        ck_assert_int_eq(mshm_consumer_peek(&consumer, &request), MSHM_OK);
        ck_assert_int_eq(mshm_ops_validate(mshm_consumer_arena(&consumer, &request),
                                           request.arena_size, request.op_count,
                                           request.kind == MSHM_REQUEST_COMMIT ? MSHM_OPS_COMMIT
                                                                               : MSHM_OPS_ONE_CALL),
                         MSHM_OK);
        if (request.kind == MSHM_REQUEST_COMMIT)
            ck_assert_uint_eq(client_attachment.session->lanes[request.lane].snapshot,
                              request.snapshot);
        mshm_consumer_advance(&consumer);
    }
    return count;
}

static void
broker_answer(uint64_t sequence, int status)
{
    mshm_completion_post(client_attachment.session, sequence, status,
                         status == MSHM_OK ? 5000 + sequence : 0);
    mshm_full_fence();
    if (mshm_completion_waiter(client_attachment.session, sequence))
        mshm_completion_wake(client_attachment.session, sequence);
}

static void
broker_answer_all(int status)
{
    broker_copy_in(UINT32_MAX);
    while (answered < consumer.head)
        broker_answer(++answered, status);
}

/* A broker that answers everything at once, as a thread. */
static AO_t broker_stop;
static pthread_t broker_thread;
static void *
broker_run(void *argument)
{
    (void)argument;
    while (!AO_load_acquire(&broker_stop))
        broker_answer_all(MSHM_OK);
    return NULL;
}
static void
broker_start(void)
{
    AO_store(&broker_stop, 0);
    ck_assert_int_eq(pthread_create(&broker_thread, NULL, broker_run, NULL), 0);
}
static void
broker_join(void)
{
    AO_store_release(&broker_stop, 1);
    pthread_join(broker_thread, NULL);
}

static mace_txn *
txn_with_a_put(void)
{
    mace_txn *txn;
    ck_assert_int_eq(mace_begin(&client_mace, 0, &txn), MACE_OK);
    ck_assert_int_eq(mace_put(txn, &client_bucket, "key", 3, "value", 5), MACE_OK);
    return txn;
}

static mace_ticket
ticket_of_a_put(void)
{
    mace_ticket ticket = {0};
    ck_assert_int_eq(mace_commit_async(txn_with_a_put(), &ticket), MACE_OK);
    ck_assert_uint_ne(ticket.sequence, 0);
    return ticket;
}

START_TEST(a_ticket_is_answered_once)
{
    mace_ticket ticket = ticket_of_a_put();
    broker_answer_all(MSHM_OK);
    mace_ticket copy = ticket;
    ck_assert_int_eq(mace_wait(&client_mace, &ticket), MACE_OK);
    ck_assert_uint_eq(ticket.timestamp, 5000 + copy.sequence);
    ck_assert_int_eq(mace_wait(&client_mace, &ticket), MACE_INVALID);
    ck_assert_int_eq(mace_wait(&client_mace, &copy), MACE_INVALID);

    mace_ticket refused = ticket_of_a_put();
    broker_answer_all(MSHM_CONFLICT);
    ck_assert_int_eq(mace_wait(&client_mace, &refused), MACE_CONFLICT);
    ck_assert_uint_eq(refused.timestamp, 0);
    ck_assert_int_eq(mace_wait(&client_mace, &refused), MACE_INVALID);
}
END_TEST

START_TEST(tickets_that_were_never_given_are_refused)
{
    mace_ticket ticket = ticket_of_a_put(), zero = {0}, other = ticket, future = ticket;
    broker_answer_all(MSHM_OK);
    other.reserved++;
    future.sequence++;
    ck_assert_int_eq(mace_wait(&client_mace, &zero), MACE_INVALID);
    ck_assert_int_eq(mace_wait(&client_mace, &other), MACE_INVALID);
    ck_assert_int_eq(mace_wait(&client_mace, &future), MACE_INVALID);
    ck_assert_int_eq(mace_wait(&client_mace, &ticket), MACE_OK);
    /* The answer of a commit that somebody waited for is no ticket either. */
    broker_start();
    ck_assert_int_eq(mace_commit(txn_with_a_put()), MACE_OK);
    broker_join();
    ck_assert_int_eq(mace_wait(&client_mace, &future), MACE_INVALID);
}
END_TEST

START_TEST(a_transaction_without_writes_gives_a_ticket_that_needs_no_broker)
{
    mace_txn *txn;
    mace_ticket ticket = {0};
    ck_assert_int_eq(mace_begin(&client_mace, 0, &txn), MACE_OK);
    ck_assert_int_eq(mace_commit_async(txn, &ticket), MACE_OK);
    ck_assert_uint_eq(client_attachment.session->tail, 0);
    ck_assert_int_eq(mace_wait(&client_mace, &ticket), MACE_OK);
    ck_assert_uint_eq(ticket.timestamp, 0);
    ck_assert_int_eq(mace_wait(&client_mace, &ticket), MACE_INVALID);
}
END_TEST

START_TEST(outcomes_are_kept_until_65536_later_ones)
{
    enum { EXTRA = 100 };
    broker_start();
    mace_ticket *tickets = calloc(MLIB_OUTCOMES + EXTRA, sizeof *tickets);
    for (unsigned i = 0; i < MLIB_OUTCOMES + EXTRA; i++)
        tickets[i] = ticket_of_a_put();
    /* The newest are answered, but not all of them have made room in the table yet. */
    for (unsigned i = 0; i < MSHM_RING_CAPACITY; i++) {
        ck_assert_int_eq(mace_put1(&client_mace, &client_bucket, "k", 1, "v", 1), MACE_OK);
    }
    broker_join();
    unsigned kept = 0, gone = 0;
    for (unsigned i = 0; i < MLIB_OUTCOMES + EXTRA; i++) {
        int status = mace_wait(&client_mace, &tickets[i]);
        if (status == MACE_OK)
            ck_assert_uint_eq(tickets[i].timestamp, 5000 + tickets[i].sequence);
        else
            ck_assert_int_eq(status, MACE_INVALID);
        kept += status == MACE_OK;
        gone += status != MACE_OK;
    }
    ck_assert_uint_eq(gone, EXTRA);
    ck_assert_uint_eq(kept, MLIB_OUTCOMES);
    free(tickets);
}
END_TEST

START_TEST(answers_out_of_order_reach_their_own_tickets)
{
    enum { COUNT = 60 };
    mace_ticket tickets[COUNT];
    for (unsigned i = 0; i < COUNT; i++)
        tickets[i] = ticket_of_a_put();
    broker_copy_in(UINT32_MAX);
    for (unsigned i = COUNT; i-- > 0;) {
        broker_answer(i + 1, i % 3 == 0 ? MSHM_CONFLICT : MSHM_OK);
        if (i % 2 == 0)
            ck_assert_int_eq(mace_wait(&client_mace, &tickets[i]),
                             i % 3 == 0 ? MACE_CONFLICT : MACE_OK);
    }
    for (unsigned i = 0; i < COUNT; i++)
        ck_assert_int_eq(mace_wait(&client_mace, &tickets[i]), i % 2 == 0   ? MACE_INVALID
                                                               : i % 3 == 0 ? MACE_CONFLICT
                                                                            : MACE_OK);
    answered = COUNT;
}
END_TEST

START_TEST(an_unanswered_commit_times_out_and_keeps_its_snapshot_until_copy_in)
{
    client_mace.options.commit_timeout_ms = 20;
    ck_assert_int_eq(mace_commit(txn_with_a_put()), MACE_UNKNOWN_OUTCOME);
    ck_assert_uint_eq(client_attachment.session->lanes[0].snapshot, 1000);
    mlib_lanes_reap_try(&client_attachment);
    ck_assert_uint_eq(client_attachment.session->lanes[0].snapshot, 1000);
    broker_copy_in(1);
    mlib_lanes_reap_try(&client_attachment);
    ck_assert_uint_eq(client_attachment.session->lanes[0].snapshot, 0);

    /* A ticket may be waited for again after a timeout. */
    mace_ticket ticket = ticket_of_a_put();
    ck_assert_int_eq(mace_wait(&client_mace, &ticket), MACE_UNKNOWN_OUTCOME);
    ck_assert_int_eq(mace_wait(&client_mace, &ticket), MACE_UNKNOWN_OUTCOME);
    broker_answer_all(MSHM_OK);
    ck_assert_int_eq(mace_wait(&client_mace, &ticket), MACE_OK);
    ck_assert_int_eq(mace_wait(&client_mace, &ticket), MACE_INVALID);
}
END_TEST

START_TEST(a_full_ring_times_out_and_goes_on_when_there_is_room)
{
    client_mace.options.commit_timeout_ms = 30;
    uint64_t sequence;
    struct mlib_request request = {.kind = MSHM_REQUEST_ONE_CALL,
                                   .level = MACE_OS,
                                   .ticket = true,
                                   .bucket = CLIENT_BUCKET,
                                   .op = MSHM_OP_PUT,
                                   .key = "key",
                                   .key_size = 3,
                                   .value = "value",
                                   .value_size = 5};
    for (unsigned i = 0; i < MSHM_RING_CAPACITY; i++)
        ck_assert_int_eq(mlib_request_publish(&client_attachment, &request,
                                              mlib_commit_deadline(&client_mace), &sequence),
                         MACE_OK);
    ck_assert_int_eq(mace_put1(&client_mace, &client_bucket, "k", 1, "v", 1), MACE_UNKNOWN_OUTCOME);
    ck_assert_uint_eq(client_attachment.session->tail, MSHM_RING_CAPACITY);
    broker_answer_all(MSHM_OK);
    client_mace.options.commit_timeout_ms = 0; /* an answer may take its time on a busy machine */
    broker_start();
    ck_assert_int_eq(mace_put1(&client_mace, &client_bucket, "k", 1, "v", 1), MACE_OK);
    broker_join();
}
END_TEST

START_TEST(a_thread_that_never_comes_back_does_not_hold_the_ring)
{
    uint64_t lost;
    struct mlib_request request = {.kind = MSHM_REQUEST_ONE_CALL,
                                   .level = MACE_OS,
                                   .bucket = CLIENT_BUCKET,
                                   .op = MSHM_OP_PUT,
                                   .key = "key",
                                   .key_size = 3};
    ck_assert_int_eq(mlib_request_publish(&client_attachment, &request, 0, &lost), MACE_OK);
    broker_start();
    for (unsigned i = 0; i < 3 * MSHM_RING_CAPACITY; i++)
        ck_assert_int_eq(mace_put1(&client_mace, &client_bucket, "k", 1, "v", 1), MACE_OK);
    broker_join();
    /* Should it only have been slow, it still learns its answer. */
    struct mlib_outcome answer;
    ck_assert_int_eq(mlib_answer_wait(&client_attachment, lost, MACE_OS, 0, &answer), MACE_OK);
    ck_assert_int_eq(answer.status, MACE_OK);
    ck_assert_uint_eq(answer.timestamp, 5000 + lost);
}
END_TEST

START_TEST(asynchronous_commits_leave_lanes_for_others)
{
    client_mace.options.commit_timeout_ms = 30;
    mace_ticket ticket;
    int status = MACE_OK;
    unsigned sent = 0;
    for (; status == MACE_OK; sent += status == MACE_OK)
        status = mace_commit_async(txn_with_a_put(), &ticket);
    ck_assert_int_eq(status, MACE_UNKNOWN_OUTCOME);
    ck_assert_uint_eq(sent, MSHM_MAX_LANES / 2);
    mace_txn *open[MSHM_MAX_LANES / 2];
    for (unsigned i = 0; i < MSHM_MAX_LANES / 2; i++)
        ck_assert_int_eq(mace_begin(&client_mace, MACE_RDONLY, &open[i]), MACE_OK);
    for (unsigned i = 0; i < MSHM_MAX_LANES / 2; i++)
        mace_abort(open[i]);
    broker_copy_in(1);
    ck_assert_int_eq(mace_commit_async(txn_with_a_put(), &ticket), MACE_OK);
    broker_answer_all(MSHM_OK);
}
END_TEST

START_TEST(the_129th_transaction_is_refused)
{
    mace_txn *open[MSHM_MAX_LANES], *more = NULL;
    for (unsigned i = 0; i < MSHM_MAX_LANES; i++)
        ck_assert_int_eq(mace_begin(&client_mace, 0, &open[i]), MACE_OK);
    ck_assert_int_eq(mace_begin(&client_mace, 0, &more), MACE_LIMIT);
    ck_assert_ptr_null(more);
    ck_assert_uint_eq(client_attachment.session->lanes_high, MSHM_MAX_LANES);
    for (unsigned i = 0; i < MSHM_MAX_LANES; i++)
        mace_abort(open[i]);
}
END_TEST

START_TEST(a_call_inside_a_call_fails_instead_of_waiting_for_itself)
{
    mace_txn *txn = txn_with_a_put();
    pthread_mutex_lock(&client_attachment.publish_lock);
    ck_assert_int_eq(mace_put1(&client_mace, &client_bucket, "k", 1, "v", 1), MACE_INVALID);
    ck_assert_int_eq(mace_commit(txn), MACE_INVALID);
    pthread_mutex_unlock(&client_attachment.publish_lock);
    ck_assert_uint_eq(client_attachment.session->tail, 0);
}
END_TEST

START_TEST(a_snapshot_never_goes_back)
{
    mace_txn *txn = NULL;
    AO_store(&client_mace.newest_seen, 1001);
    ck_assert_int_eq(mace_begin(&client_mace, 0, &txn), MACE_IO);
    ck_assert_ptr_null(txn);
    AO_store(&client_header()->visible, 1001);
    ck_assert_int_eq(mace_begin(&client_mace, 0, &txn), MACE_OK);
    ck_assert_uint_eq(mace_txn_snapshot(txn), 1001);
    mace_abort(txn);
}
END_TEST

START_TEST(a_lane_whose_old_snapshot_expired_at_the_newest_commit_is_passed_over)
{
    mace_txn *txn;
    AO_store(&client_attachment.session->expired[0], 1000);
    ck_assert_int_eq(mace_begin(&client_mace, 0, &txn), MACE_OK);
    ck_assert_int_eq(mace_get(txn, &client_bucket, "k", 1, NULL), MACE_NOT_FOUND);
    ck_assert_uint_eq(client_attachment.session->lanes[0].snapshot, 0);
    mace_abort(txn);
}
END_TEST

/* A broker that leaves the last request in the ring until no other comes for 20 ms, so that under load the arena never
 * runs empty by itself. */
static void *
lazy_broker_run(void *argument)
{
    uint64_t quiet_since = 0;
    (void)argument;
    while (!AO_load_acquire(&broker_stop)) {
        int pending = mshm_consumer_pending(&consumer);
        uint64_t now = mlib_time_ns();
        if (pending != 1)
            quiet_since = now;
        unsigned taken =
            broker_copy_in(now - quiet_since > 20000000 ? 1 : (unsigned)pending - (pending > 0));
        while (taken-- > 0)
            broker_answer(++answered, MSHM_OK);
        sched_yield();
    }
    return NULL;
}

static AO_t flood_stop;
static void *
flood_run(void *argument)
{
    uint64_t sequence;
    struct mlib_request request = {.kind = MSHM_REQUEST_ONE_CALL,
                                   .level = MACE_OS,
                                   .ticket = true,
                                   .bucket = CLIENT_BUCKET,
                                   .op = MSHM_OP_PUT,
                                   .key = "key",
                                   .key_size = 3};
    (void)argument;
    while (!AO_load(&flood_stop))
        ck_assert_int_eq(mlib_request_publish(&client_attachment, &request, 0, &sequence), MACE_OK);
    return NULL;
}

START_TEST(a_large_request_gets_its_turn_among_small_ones)
{
    static uint8_t value[8192];
    pthread_t flood[2];
    client_mace.options.commit_timeout_ms = 5000;
    consumer.arena_size = 4 * MSHM_ARENA_INITIAL;
    AO_store(&broker_stop, 0);
    AO_store(&flood_stop, 0);
    ck_assert_int_eq(pthread_create(&broker_thread, NULL, lazy_broker_run, NULL), 0);
    for (int i = 0; i < 2; i++)
        ck_assert_int_eq(pthread_create(&flood[i], NULL, flood_run, NULL), 0);
    for (unsigned puts = 500; puts <= 1500; puts += 1000) {
        mace_txn *txn;
        ck_assert_int_eq(mace_begin(&client_mace, 0, &txn), MACE_OK);
        for (unsigned i = 0; i < puts; i++)
            ck_assert_int_eq(mace_put(txn, &client_bucket, &i, sizeof i, value, sizeof value),
                             MACE_OK);
        ck_assert_int_eq(mace_commit(txn), MACE_OK);
        /* The broker has granted more, but the arena must be empty to take its new size. */
        AO_store_release(&client_attachment.session->arena_size, 4 * MSHM_ARENA_INITIAL);
    }
    AO_store(&flood_stop, 1);
    for (int i = 0; i < 2; i++)
        pthread_join(flood[i], NULL);
    broker_join();
    broker_answer_all(MSHM_OK);
}
END_TEST

/* Many threads at once, each with commits of every kind. */
enum { THREADS = 4, ROUNDS = 3000 };
static void *
client_run(void *argument)
{
    unsigned number = (unsigned)(uintptr_t)argument;
    uint64_t last = 0;
    mace_ticket tickets[8];
    unsigned waiting = 0;
    for (unsigned i = 0; i < ROUNDS; i++) {
        if ((i + number) % 3 == 0) {
            tickets[waiting++] = ticket_of_a_put();
            if (waiting < 8)
                continue;
            for (unsigned j = 0; j < 8; j++) {
                ck_assert_int_eq(mace_wait(&client_mace, &tickets[j]), MACE_OK);
                ck_assert_uint_gt(tickets[j].timestamp, last); /* order within a thread */
                last = tickets[j].timestamp;
            }
            waiting = 0;
        } else if ((i + number) % 3 == 1) {
            ck_assert_int_eq(mace_put1(&client_mace, &client_bucket, "k", 1, "v", 1), MACE_OK);
        } else if (waiting == 0) {
            uint64_t timestamp = 0;
            ck_assert_int_eq(mace_commit_ts(txn_with_a_put(), &timestamp), MACE_OK);
            ck_assert_uint_gt(timestamp, last);
            last = timestamp;
        }
    }
    for (unsigned j = 0; j < waiting; j++)
        ck_assert_int_eq(mace_wait(&client_mace, &tickets[j]), MACE_OK);
    return NULL;
}

START_TEST(threads_share_one_session)
{
    pthread_t threads[THREADS];
    broker_start();
    for (unsigned i = 0; i < THREADS; i++)
        ck_assert_int_eq(pthread_create(&threads[i], NULL, client_run, (void *)(uintptr_t)i), 0);
    for (unsigned i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    broker_join();
}
END_TEST

int
main(void)
{
    Suite *suite = suite_create("publish");
    TCase *tests = tcase_create("publish");
    tcase_set_timeout(tests, 120);
    tcase_add_checked_fixture(tests, set_up, tear_down);
    tcase_add_test(tests, a_ticket_is_answered_once);
    tcase_add_test(tests, tickets_that_were_never_given_are_refused);
    tcase_add_test(tests, a_transaction_without_writes_gives_a_ticket_that_needs_no_broker);
    tcase_add_test(tests, outcomes_are_kept_until_65536_later_ones);
    tcase_add_test(tests, answers_out_of_order_reach_their_own_tickets);
    tcase_add_test(tests, an_unanswered_commit_times_out_and_keeps_its_snapshot_until_copy_in);
    tcase_add_test(tests, a_full_ring_times_out_and_goes_on_when_there_is_room);
    tcase_add_test(tests, a_thread_that_never_comes_back_does_not_hold_the_ring);
    tcase_add_test(tests, asynchronous_commits_leave_lanes_for_others);
    tcase_add_test(tests, the_129th_transaction_is_refused);
    tcase_add_test(tests, a_call_inside_a_call_fails_instead_of_waiting_for_itself);
    tcase_add_test(tests, a_snapshot_never_goes_back);
    tcase_add_test(tests, a_lane_whose_old_snapshot_expired_at_the_newest_commit_is_passed_over);
    tcase_add_test(tests, a_large_request_gets_its_turn_among_small_ones);
    tcase_add_test(tests, threads_share_one_session);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
