/* Requests, answers and wake-ups with both sides running: a small broker and clients as threads.
 *
 * Each case runs twice: on one mapping, which is what ThreadSanitizer can judge, and with the clients on mappings of
 * their own at other addresses, where a raw pointer in a segment would lead astray. read_threads_test does the same for
 * snapshots, pages and frames.
 */
#include <check.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "mshm/ops.h"
#include "mshm/protocol.h"
#include "mshm/segment.h"
#include "with_tsan.h"

enum { SESSIONS = 2, THREADS = 2, REQUESTS = WITH_TSAN ? 3000 : 20000, THINGS = 8 };

struct side {
    struct mshm_segment broker, client; /* the two mappings of one session */
    struct mshm_consumer consumer;
    uint64_t requests;            /* taken by the broker */
    struct mshm_session *session; /* as the client sees it */
    const struct mshm_store *store;
    int doorbell;
    pthread_mutex_t lock; /* guards the producer; never held while waiting */
    struct mshm_producer producer;
    uint64_t answers_taken;
    unsigned index;
};

static struct side sides[SESSIONS];
static struct mshm_store *ring_store;
static int separate; /* clients have mappings of their own */
static AO_t clients_running;

static void
side_init(struct side *side, unsigned index)
{
    memset(side, 0, sizeof(*side));
    side->index = index;
    side->client.fd = -1;
    ck_assert_int_eq(mshm_segment_create(&side->broker, "session", MSHM_SESSION_SIZE,
                                         MSHM_SEGMENT_SHARED, MSHM_HUGE_PAGES_OFF),
                     MSHM_OK);
    ck_assert_int_eq(mshm_segment_back(&side->broker, 0, MSHM_SESSION_ARENA + MSHM_ARENA_INITIAL),
                     MSHM_OK);
    mshm_session_init(side->broker.base, index + 1, 1, 64 * 1024);
    side->session = (struct mshm_session *)side->broker.base;
    if (separate) {
        ck_assert_int_eq(mshm_segment_map(&side->client, side->broker.fd, MSHM_SESSION_SIZE, 1),
                         MSHM_OK);
        side->session = (struct mshm_session *)side->client.base;
    }
    mshm_consumer_init(&side->consumer, (struct mshm_session *)side->broker.base, 64 * 1024);
    mshm_producer_init(&side->producer, side->session);
    side->store = ring_store;
    side->doorbell = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    ck_assert_int_ge(side->doorbell, 0);
    pthread_mutex_init(&side->lock, NULL);
}

static void
side_fini(struct side *side)
{
    pthread_mutex_destroy(&side->lock);
    close(side->doorbell);
    mshm_segment_fini(&side->client);
    mshm_segment_fini(&side->broker);
}

/* What the broker answers to operations: a number that only their bytes can give. */
static mshm_timestamp
answer_of(const uint8_t *ops, uint64_t size)
{
    uint64_t sum = 1;
    for (uint64_t i = 0; i < size; i++)
        sum = sum * 31 + ops[i];
    return sum;
}

/* Takes everything a session has published; returns how many. */
static unsigned
broker_drain(struct side *side, uint8_t *private_bytes)
{
    struct mshm_session *session = (struct mshm_session *)side->broker.base;
    int pending = mshm_consumer_pending(&side->consumer);
    uint64_t first = side->consumer.head + 1;
    ck_assert_int_ge(pending, 0);
    for (int i = 0; i < pending; i++) {
        struct mshm_request_copy request;
        ck_assert_int_eq(mshm_consumer_peek(&side->consumer, &request), MSHM_OK);
        memcpy(private_bytes, mshm_consumer_arena(&side->consumer, &request), request.arena_size);
        mshm_consumer_advance(&side->consumer);
        ck_assert_int_eq(mshm_ops_validate(private_bytes, request.arena_size, request.op_count,
                                           MSHM_OPS_ONE_CALL),
                         MSHM_OK);
        mshm_completion_post(session, request.sequence, MSHM_OK,
                             answer_of(private_bytes, request.arena_size));
    }
    if (pending > 0)
        mshm_full_fence(); /* pairs with the fence in the wait */
    for (uint64_t sequence = first; sequence < first + (unsigned)pending; sequence++)
        if (mshm_completion_waiter(session, sequence))
            mshm_completion_wake(session, sequence);
    side->requests += (unsigned)pending;
    return (unsigned)pending;
}

/* Announces its sleep to every session, looks once more, and sleeps on the doorbells. */
static void
broker_sleep(void)
{
    unsigned waiting = 0;
    for (unsigned i = 0; i < SESSIONS; i++)
        AO_store(&((struct mshm_session *)sides[i].broker.base)->asleep, 1);
    mshm_full_fence(); /* pairs with the fence in mshm_producer_publish */
    for (unsigned i = 0; i < SESSIONS; i++)
        waiting += (unsigned)mshm_consumer_pending(&sides[i].consumer);
    while (waiting == 0 && AO_load(&clients_running) > 0) {
        for (unsigned i = 0; i < SESSIONS; i++) {
            uint64_t count;
            if (read(sides[i].doorbell, &count, sizeof(count)) == sizeof(count))
                waiting++;
        }
        sched_yield();
    }
    for (unsigned i = 0; i < SESSIONS; i++)
        AO_store(&((struct mshm_session *)sides[i].broker.base)->asleep, 0);
}

static void *
broker_run(void *argument)
{
    uint8_t *private_bytes = malloc(64 * 1024);
    unsigned turn = 0;
    (void)argument;
    while (AO_load_acquire(&clients_running) > 0) {
        unsigned taken = 0;
        for (unsigned i = 0; i < SESSIONS; i++)
            taken += broker_drain(&sides[i], private_bytes);
        /* Sleeps now and then although there is work, so that the window is hit from both ends. */
        if (taken == 0 || ++turn % 7 == 0)
            broker_sleep();
    }
    free(private_bytes);
    return NULL;
}

/* Publishes one request; returns its sequence and the answer it must get. */
static uint64_t
client_publish(struct side *side, unsigned number, mshm_timestamp *expected)
{
    static const uint8_t filler[1200];
    char key[24];
    int wake;
    for (;;) {
        uint64_t offset, sequence = 0;
        uint16_t key_size =
            (uint16_t)snprintf(key, sizeof(key), "key %u of %u", number, side->index);
        uint32_t value_size = number * 37 % sizeof(filler);
        uint64_t size = mshm_op_size(key_size, value_size);
        pthread_mutex_lock(&side->lock);
        if (mshm_producer_room(&side->producer, side->answers_taken) &&
            mshm_producer_arena(&side->producer, size, &offset) == MSHM_OK) {
            uint8_t *at = (uint8_t *)side->session + MSHM_SESSION_ARENA + offset;
            mshm_op_write(at, 1, MSHM_OP_INSERT, key, key_size, filler, value_size);
            *expected = answer_of(at, size);
            sequence = mshm_producer_publish(&side->producer, MSHM_REQUEST_ONE_CALL, 0, number, 0,
                                             0, offset, size, 1, &wake);
        }
        pthread_mutex_unlock(&side->lock);
        if (sequence != 0) {
            uint64_t one = 1;
            if (wake)
                ck_assert_int_eq((int)write(side->doorbell, &one, sizeof(one)), sizeof(one));
            return sequence;
        }
        sched_yield();
    }
}

static void *
client_run(void *argument)
{
    struct side *side = argument;
    for (unsigned number = 0; number < REQUESTS / (SESSIONS * THREADS); number++) {
        mshm_timestamp expected, timestamp;
        int status;
        uint64_t sequence = client_publish(side, number, &expected);
        ck_assert_int_eq(mshm_completion_wait(side->session, side->store, sequence, 0, 2), MSHM_OK);
        ck_assert_int_ne(mshm_completion_take(side->session, sequence, &status, &timestamp), 0);
        ck_assert_int_eq(status, MSHM_OK);
        ck_assert_uint_eq(timestamp, expected);
        pthread_mutex_lock(&side->lock);
        side->answers_taken++; /* a few requests at once: the ring never fills, so the count will do */
        pthread_mutex_unlock(&side->lock);
    }
    AO_fetch_and_sub1_full(&clients_running);
    return NULL;
}

START_TEST(every_request_gets_its_own_answer)
{
    pthread_t broker, clients[SESSIONS * THREADS];
    separate = _i;
    ring_store = aligned_alloc(4096, sizeof(*ring_store));
    memset(ring_store, 0, sizeof(*ring_store));
    for (unsigned i = 0; i < SESSIONS; i++)
        side_init(&sides[i], i);
    AO_store(&clients_running, SESSIONS * THREADS);
    for (unsigned i = 0; i < SESSIONS * THREADS; i++)
        ck_assert_int_eq(pthread_create(&clients[i], NULL, client_run, &sides[i % SESSIONS]), 0);
    ck_assert_int_eq(pthread_create(&broker, NULL, broker_run, NULL), 0);
    for (unsigned i = 0; i < SESSIONS * THREADS; i++)
        pthread_join(clients[i], NULL);
    pthread_join(broker, NULL);
    for (unsigned i = 0; i < SESSIONS; i++) {
        ck_assert_uint_eq(sides[i].requests, REQUESTS / SESSIONS);
        const struct mshm_client_counters *counters = &sides[i].session->counters;
        printf("session %u: %lu spun, %lu yielded, %lu slept, %lu doorbells\n", i,
               (unsigned long)counters->waits_spun, (unsigned long)counters->waits_yielded,
               (unsigned long)counters->waits_slept, (unsigned long)counters->doorbells);
        side_fini(&sides[i]);
    }
    free(ring_store);
}
END_TEST

int
main(void)
{
    Suite *suite = suite_create("protocol_threads");
    TCase *tests = tcase_create("protocol_threads");
    tcase_set_timeout(tests, 100);
    tcase_add_loop_test(tests, every_request_gets_its_own_answer, 0, 2);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
