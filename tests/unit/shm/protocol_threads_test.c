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
#include <sys/syscall.h>
#include <unistd.h>

#include "demand.h"
#include "mshm/ops.h"
#include "mshm/protocol.h"
#include "mshm/segment.h"

/* A small arena, so that its ranges are used again soon. */
enum { SESSIONS = 2, ARENA = 4096, THREADS = 2, REQUESTS = WITH_TSAN ? 16000 : 64000 };

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
    uint8_t taken[MSHM_RING_CAPACITY]; /* beyond answers_taken */
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
    DEMAND(mshm_segment_create(&side->broker, "session", MSHM_SESSION_SIZE, MSHM_SEGMENT_SHARED,
                               MSHM_HUGE_PAGES_OFF) == MSHM_OK);
    DEMAND(mshm_segment_back(&side->broker, 0, MSHM_SESSION_ARENA + MSHM_ARENA_INITIAL) == MSHM_OK);
    mshm_session_init(side->broker.base, index + 1, 1, ARENA);
    side->session = (struct mshm_session *)side->broker.base;
    if (separate) {
        DEMAND(mshm_segment_map(&side->client, side->broker.fd, MSHM_SESSION_SIZE, 1) == MSHM_OK);
        side->session = (struct mshm_session *)side->client.base;
    }
    mshm_consumer_init(&side->consumer, (struct mshm_session *)side->broker.base, ARENA);
    mshm_producer_init(&side->producer, side->session);
    side->store = ring_store;
    side->doorbell = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    DEMAND(side->doorbell >= 0);
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

/* Takes everything a session has published and answers it afterwards, as one batch; returns how many. */
static unsigned
broker_drain(struct side *side, uint8_t *private_bytes)
{
    static mshm_timestamp answers[MSHM_RING_CAPACITY];
    struct mshm_session *session = (struct mshm_session *)side->broker.base;
    int pending = mshm_consumer_pending(&side->consumer);
    uint64_t first = side->consumer.head + 1;
    DEMAND(pending >= 0);
    for (int i = 0; i < pending; i++) {
        struct mshm_request_copy request;
        DEMAND(mshm_consumer_peek(&side->consumer, &request) == MSHM_OK);
        memcpy(private_bytes, mshm_consumer_arena(&side->consumer, &request), request.arena_size);
        mshm_consumer_advance(&side->consumer);
        DEMAND(mshm_ops_validate(private_bytes, request.arena_size, request.op_count,
                                 MSHM_OPS_ONE_CALL) == MSHM_OK);
        answers[i] = answer_of(private_bytes, request.arena_size);
    }
    if (pending == 0)
        return 0;
    sched_yield(); /* places and ranges are free already, answers are not there yet */
    for (unsigned i = 0; i < (unsigned)pending; i++)
        mshm_completion_post(session, first + i, MSHM_OK, answers[i]);
    mshm_full_fence(); /* pairs with the fence in the wait */
    for (unsigned i = 0; i < (unsigned)pending; i++)
        if (mshm_completion_waiter(session, first + i))
            mshm_completion_wake(session, first + i);
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
    unsigned turn = 0, idle = 0;
    (void)argument;
    while (AO_load_acquire(&clients_running) > 0) {
        unsigned taken = 0;
        for (unsigned i = 0; i < SESSIONS; i++)
            taken += broker_drain(&sides[i], private_bytes);
        /* Sleeps now and then although there is work, so that the window is hit from both ends. */
        idle = taken == 0 ? idle + 1 : 0;
        if (idle > 20 || ++turn % 7 == 0)
            broker_sleep();
        if (taken == 0)
            sched_yield();
    }
    free(private_bytes);
    return NULL;
}

/* Publishes one request; returns its sequence and the answer it must get, or 0 when ring or arena have no room. */
static uint64_t
client_publish(struct side *side, unsigned number, mshm_timestamp *expected)
{
    static const uint8_t filler[1200];
    char key[24];
    int wake = 0;
    uint64_t offset, sequence = 0, one = 1;
    uint16_t key_size = (uint16_t)snprintf(key, sizeof(key), "key %u of %u", number, side->index);
    uint32_t value_size = number * 37 % sizeof(filler);
    /* Made in private memory: bytes that the client read again in the arena would push its writes out of
     * ThreadSanitizer's short memory. */
    _Alignas(8) uint8_t op[2048];
    uint64_t size = mshm_op_write(op, 1, MSHM_OP_INSERT, key, key_size, filler, value_size);
    *expected = answer_of(op, size);
    pthread_mutex_lock(&side->lock);
    if (mshm_producer_room(&side->producer, side->answers_taken) &&
        mshm_producer_arena(&side->producer, size, &offset) == MSHM_OK) {
        memcpy((uint8_t *)side->session + MSHM_SESSION_ARENA + offset, op, size);
        sequence = mshm_producer_publish(&side->producer, MSHM_REQUEST_ONE_CALL, 0, number, 0, 0,
                                         offset, size, 1, &wake);
    }
    pthread_mutex_unlock(&side->lock);
    /* By its number, because ThreadSanitizer takes write and read of a descriptor for an order between threads, and would
     * hide that the ring lacks one. */
    if (wake)
        DEMAND(syscall(SYS_write, side->doorbell, &one, sizeof(one)) == sizeof(one));
    return sequence;
}

/* Notes answers as taken; answers_taken is the sequence up to which there is no gap. */
static void
answers_take(struct side *side, const uint64_t *sequences, unsigned count)
{
    pthread_mutex_lock(&side->lock);
    for (unsigned i = 0; i < count; i++)
        side->taken[mshm_ring_place(sequences[i])] = 1;
    while (side->taken[mshm_ring_place(side->answers_taken + 1)]) {
        side->answers_taken++;
        side->taken[mshm_ring_place(side->answers_taken)] = 0;
    }
    pthread_mutex_unlock(&side->lock);
}

/* Waits for the answers of some requests and looks whether they are theirs. */
static void
client_wait(struct side *side, const uint64_t *sequences, const mshm_timestamp *expected,
            unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        mshm_timestamp timestamp;
        int status;
        DEMAND(mshm_completion_wait(side->session, side->store, sequences[i], 0, 2) == MSHM_OK);
        DEMAND(mshm_completion_take(side->session, sequences[i], &status, &timestamp));
        DEMAND(status == MSHM_OK);
        DEMAND(timestamp == expected[i]);
    }
    answers_take(side, sequences, count);
}

/* Keeps a few requests under way at once, so that places and arena ranges are used again before all answers are taken.
 * Never waits for room while it holds answers back: they may be what the other thread waits for. */
static void *
client_run(void *argument)
{
    enum { AT_ONCE = 4 };
    struct side *side = argument;
    mshm_timestamp expected[AT_ONCE];
    uint64_t sequences[AT_ONCE];
    unsigned published = 0, count = 0;
    while (published < REQUESTS / (SESSIONS * THREADS)) {
        sequences[count] = client_publish(side, published, &expected[count]);
        int full = sequences[count] == 0;
        if (full && count == 0)
            sched_yield();
        if (!full) {
            published++;
            count++;
        }
        if (full || count == AT_ONCE || published == REQUESTS / (SESSIONS * THREADS)) {
            client_wait(side, sequences, expected, count);
            count = 0;
        }
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
        DEMAND(pthread_create(&clients[i], NULL, client_run, &sides[i % SESSIONS]) == 0);
    DEMAND(pthread_create(&broker, NULL, broker_run, NULL) == 0);
    for (unsigned i = 0; i < SESSIONS * THREADS; i++)
        pthread_join(clients[i], NULL);
    pthread_join(broker, NULL);
    for (unsigned i = 0; i < SESSIONS; i++) {
        DEMAND(sides[i].requests == REQUESTS / SESSIONS);
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
