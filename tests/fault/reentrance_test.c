/* reentrance_test.c - F6: a call from a signal handler that interrupted the same call, or any other, comes back; a call
 * left by longjmp and a cancelled thread do not lock the handle up.
 *
 * The broker is stopped, so that the interrupted call certainly stands in the middle of what it does.
 */
#include <check.h>
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <unistd.h>

#include <atomic_ops.h>

#include "support/broker.h"
#include "support/client.h"
#include "support/process.h"

enum { PATIENCE_MS = 20000 /* of a test that waits for a call that must not block */ };

static char scratch[SCRATCH_PATH], path[SCRATCH_PATH];
static struct broker broker;

/* Of the worker. */
static mace *db;
static mace_bucket *bucket;
static mace_txn *old_txn; /* of a broker that is gone */
static mace_ticket old_ticket;

static void
setup(void)
{
    scratch_create(scratch);
    scratch_join(path, scratch, "db");
    broker_start(&broker, path, NULL);
}

static void
teardown(void)
{
    broker_finish(&broker);
    scratch_remove(scratch);
}

/* The word of a worker whose call must not block; a worker that hangs is a failure. */
static uint64_t
hear_soon(int channel, const char *what)
{
    struct pollfd wait = {.fd = channel, .events = POLLIN};
    uint64_t word = 0;

    while (poll(&wait, 1, PATIENCE_MS) < 0 && errno == EINTR)
        ;
    ck_assert_msg((wait.revents & POLLIN) != 0, "%s hangs", what);
    ck_assert(channel_hear(channel, &word));
    return word;
}

/* --- the calls --- */

static int
each_name(const char *name, void *argument)
{
    (void)name;
    (void)argument;
    return 0;
}

static int
each_session(const mace_session_info *info, void *argument)
{
    (void)info;
    (void)argument;
    return 0;
}

static int
call_sync(void)
{
    return mace_sync(db);
}

static int
call_checkpoint(void)
{
    return mace_checkpoint(db);
}

static int
call_create(void)
{
    mace_bucket *made;
    int status = mace_bucket_create(db, "made", NULL, &made);
    if (status == MACE_OK)
        mace_bucket_close(made);
    return status;
}

static int
call_open_bucket(void)
{
    mace_bucket *opened;
    int status = mace_bucket_open(db, "default", &opened);
    if (status == MACE_OK)
        mace_bucket_close(opened);
    return status;
}

static int
call_drop(void)
{
    return mace_bucket_drop(db, "to-drop");
}

static int
call_alter(void)
{
    mace_bucket_options options;
    mace_bucket_options_init(&options);
    return mace_bucket_alter(db, "default", &options);
}

static int
call_list(void)
{
    return mace_bucket_list(db, each_name, NULL);
}

static int
call_sessions(void)
{
    return mace_session_list(db, each_session, NULL);
}

static int
call_open(void)
{
    mace_options options;
    mace *second;

    mace_options_init(&options);
    options.start_broker = 0;
    int status = mace_open(path, &options, &second);
    if (status == MACE_OK)
        mace_close(second);
    return status;
}

static int
call_begin(void)
{
    mace_txn *txn;
    int status = mace_begin(db, 0, &txn);
    if (status == MACE_OK)
        mace_abort(txn);
    return status;
}

static int
call_get(void)
{
    char value[8];
    size_t size;
    int status = mace_get1(db, bucket, "key", 3, value, sizeof value, &size);
    return status == MACE_NOT_FOUND ? MACE_OK : status;
}

static int
call_put(void)
{
    return mace_put1(db, bucket, "key", 3, "v", 1);
}

static int
call_stat(void)
{
    mace_stat stat;
    mace_stat_init(&stat);
    return mace_stat_read(db, &stat);
}

static int
call_wait(void)
{
    mace_ticket ticket = old_ticket;
    int status = mace_wait(db, &ticket);
    return status == MACE_BROKER_LOST ? MACE_OK : status;
}

struct call {
    const char *name;
    int (*run)(void);
};

/* These ask the broker over the socket. */
static const struct call asking[] = {
    {"mace_sync", call_sync},
    {"mace_checkpoint", call_checkpoint},
    {"mace_bucket_create", call_create},
    {"mace_bucket_open", call_open_bucket},
    {"mace_bucket_drop", call_drop},
    {"mace_bucket_alter", call_alter},
    {"mace_bucket_list", call_list},
    {"mace_session_list", call_sessions},
};
enum { ASKING = sizeof asking / sizeof asking[0] };
/* These attach, when their broker is gone. */
static const struct call attaching[] = {
    {"mace_begin", call_begin},
    {"mace_get1", call_get},
    {"mace_put1", call_put},
    {"mace_stat_read", call_stat},
    {"mace_sync", call_sync},
    {"mace_bucket_open", call_open_bucket},
    {"mace_session_list", call_sessions},
    {"mace_wait", call_wait},
};
enum { ATTACHING = sizeof attaching / sizeof attaching[0] };

/* --- calls interrupted in the middle --- */

static int handler_channel;
static const struct call *refused; /* what the handler calls: each must be refused */
static unsigned refused_count;
static sigjmp_buf way_out;

static void
handler_refused(int number)
{
    int saved = errno;

    (void)number;
    for (unsigned i = 0; i < refused_count; i++) {
        int status = refused[i].run();
        require(status == MACE_INVALID, "%s in a handler: %s", refused[i].name,
                mace_strerror(status));
    }
    mace_bucket_close(bucket); /* cannot say that it is refused */
    if (old_txn != NULL)
        mace_abort(old_txn);
    channel_tell(handler_channel, 2);
    errno = saved;
}

/* What takes no lock and needs no more memory than is there goes on in a handler while a call of its thread waits for the
 * broker. */
static void
handler_reads(int number)
{
    int saved = errno;

    (void)number;
    require_ok(call_begin());
    require_ok(call_get());
    require_ok(call_stat());
    channel_tell(handler_channel, 2);
    errno = saved;
}

static void
handler_leave(int number)
{
    (void)number;
    siglongjmp(way_out, 1);
}

static void
handler_set(void (*handler)(int))
{
    struct sigaction action = {.sa_handler = handler};

    require(sigaction(SIGUSR1, &action, NULL) == 0, "sigaction: %s", strerror(errno));
}

static mace *
worker_open(void)
{
    mace_options options;
    mace *opened;

    mace_options_init(&options);
    options.start_broker = 0;
    options.durability = MACE_OS;
    options.connect_timeout_ms = 60000;
    require_ok(mace_open(path, &options, &opened));
    return opened;
}

struct plan {
    const struct call *call; /* the one that is interrupted */
    void (*handler)(int);
    bool attaches; /* it meets a new broker */
};

/* Makes one call when it is told that the broker stands still, and tells its status. */
static void
interrupted_run(int channel, void *argument)
{
    const struct plan *plan = argument;
    mace_bucket *made;
    uint64_t word;

    handler_channel = channel;
    db = worker_open();
    bucket = client_bucket(db, "default");
    require_ok(mace_bucket_create(db, "to-drop", NULL, &made));
    require_ok(call_begin()); /* leaves memory for the handler's */
    refused = asking;
    refused_count = ASKING;
    if (plan->attaches) {
        mace_txn *txn;
        refused = attaching;
        refused_count = ATTACHING;
        channel_tell(channel, 0);
        require(channel_hear(channel, &word), "the test is gone");
        require_ok(mace_begin(db, MACE_OS, &txn));
        require_ok(mace_put(txn, bucket, "old", 3, "v", 1));
        require_ok(mace_commit_async(txn, &old_ticket));
        require_ok(mace_begin(db, 0, &old_txn));
    }
    handler_set(plan->handler);
    channel_tell(channel, 1);
    require(channel_hear(channel, &word), "the test is gone");
    require_ok(plan->call->run());
    mace_close(db);
    channel_tell(channel, 3);
}

/* Lets a worker come into its call, and sends the signal. The worker has nothing to wait for but the broker. */
static void
interrupt(struct worker *worker)
{
    channel_tell(worker->channel, 1);
    for (unsigned looks = 0; looks < 5; looks++) { /* it slept before, waiting for the word */
        process_pause();
        wait_for(process_state(worker->pid) == 'S');
    }
    ck_assert_int_eq(kill(worker->pid, SIGUSR1), 0);
}

static void
interrupted_check(const struct plan *plan)
{
    struct worker worker;

    worker_start(&worker, interrupted_run, (void *)(uintptr_t)plan);
    if (plan->attaches) { /* the broker dies without having answered */
        channel_expect(worker.channel, 0);
        broker_stop(&broker);
        channel_tell(worker.channel, 1);
    }
    channel_expect(worker.channel, 1);
    if (plan->attaches) {
        broker_kill(&broker);
        broker_start(&broker, path, NULL);
    }
    broker_stop(&broker);
    interrupt(&worker);
    uint64_t word = hear_soon(worker.channel, plan->call->name);
    broker_continue(&broker);
    ck_assert_uint_eq(word, 2);
    ck_assert_uint_eq(hear_soon(worker.channel, plan->call->name), 3);
    worker_join(&worker);
}

START_TEST(f06_a_handler_that_interrupts_a_call_to_the_broker_is_refused)
{
    interrupted_check(&(struct plan){.call = &asking[_i], .handler = handler_refused});
}
END_TEST

START_TEST(f06_a_handler_that_interrupts_a_call_to_the_broker_may_read)
{
    interrupted_check(&(struct plan){.call = &asking[_i], .handler = handler_reads});
}
END_TEST

START_TEST(f06_a_handler_that_interrupts_a_call_that_attaches_is_refused)
{
    interrupted_check(
        &(struct plan){.call = &attaching[_i], .handler = handler_refused, .attaches = true});
}
END_TEST

static void
opening_run(int channel, void *argument)
{
    static const struct call opening[] = {{"mace_open", call_open}};
    uint64_t word;

    (void)argument;
    handler_channel = channel;
    refused = opening;
    refused_count = 1;
    handler_set(handler_refused);
    channel_tell(channel, 1);
    require(channel_hear(channel, &word), "the test is gone");
    db = worker_open();
    mace_close(db);
    channel_tell(channel, 3);
}

START_TEST(f06_a_handler_that_interrupts_mace_open_is_refused_another_one)
{
    struct worker worker;

    worker_start(&worker, opening_run, NULL);
    channel_expect(worker.channel, 1);
    broker_stop(&broker);
    interrupt(&worker);
    uint64_t word = hear_soon(worker.channel, "mace_open");
    broker_continue(&broker);
    ck_assert_uint_eq(word, 2);
    ck_assert_uint_eq(hear_soon(worker.channel, "mace_open"), 3);
    worker_join(&worker);
}
END_TEST

/* --- longjmp --- */

static void
jumping_run(int channel, void *argument)
{
    const struct plan *plan = argument;
    uint64_t word;

    db = worker_open();
    bucket = client_bucket(db, "default");
    require_ok(call_begin());
    handler_set(handler_leave);
    channel_tell(channel, 1);
    require(channel_hear(channel, &word), "the test is gone");
    if (sigsetjmp(way_out, 1) == 0) {
        plan->call->run();
        require(0, "%s came back", plan->call->name);
    }
    require(plan->call->run() == MACE_INVALID, "%s is not refused after a longjmp out of it",
            plan->call->name);
    if (plan->attaches) {
        require(call_begin() == MACE_INVALID, "mace_begin attaches after a longjmp");
    } else {
        require_ok(call_begin());
        require_ok(call_get());
    }
    mace_close(db);
    channel_tell(channel, 2);
    require(channel_hear(channel, &word), "the test is gone");
    /* The thread may use another handle. */
    db = worker_open();
    bucket = client_bucket(db, "default");
    require_ok(call_put());
    require_ok(call_sync());
    mace_close(db);
    channel_tell(channel, 3);
}

static void
jumping_check(const struct plan *plan)
{
    struct worker worker;

    worker_start(&worker, jumping_run, (void *)(uintptr_t)plan);
    channel_expect(worker.channel, 1);
    if (plan->attaches) {
        broker_kill(&broker);
        broker_start(&broker, path, NULL);
    }
    broker_stop(&broker);
    interrupt(&worker);
    uint64_t word = hear_soon(worker.channel, plan->call->name);
    broker_continue(&broker);
    ck_assert_uint_eq(word, 2);
    channel_tell(worker.channel, 1);
    ck_assert_uint_eq(hear_soon(worker.channel, plan->call->name), 3);
    worker_join(&worker);
}

START_TEST(f06_a_handle_can_be_closed_after_a_longjmp_out_of_a_call_to_the_broker)
{
    jumping_check(&(struct plan){.call = &asking[_i]});
}
END_TEST

START_TEST(f06_a_handle_can_be_closed_after_a_longjmp_out_of_attaching)
{
    jumping_check(&(struct plan){.call = &attaching[0], .attaches = true});
}
END_TEST

/* --- cancelled threads --- */

#if defined(__SANITIZE_ADDRESS__)
static const bool under_address_sanitizer = true;
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
static const bool under_address_sanitizer = true;
#else
static const bool under_address_sanitizer = false;
#endif
#else
static const bool under_address_sanitizer = false;
#endif

static void *
call_thread(void *argument)
{
    const struct plan *plan = argument;

    require_ok(plan->call->run());
    pthread_testcancel();
    return NULL;
}

/* Cancels a thread inside the call; another one then makes the same call. */
static void
cancelled_run(int channel, void *argument)
{
    pthread_t thread;
    void *ended;
    uint64_t word;

    db = worker_open();
    bucket = client_bucket(db, "default");
    channel_tell(channel, 1);
    require(channel_hear(channel, &word), "the test is gone");
    require(pthread_create(&thread, NULL, call_thread, argument) == 0, "no thread");
    channel_tell(channel, 2);
    require(channel_hear(channel, &word), "the test is gone");
    require(pthread_cancel(thread) == 0, "not cancelled");
    channel_tell(channel, 3);
    require(pthread_join(thread, &ended) == 0 && ended == PTHREAD_CANCELED, "it was not cancelled");
    require_ok(call_sync());
    require_ok(call_open_bucket());
    mace_close(db);
    channel_tell(channel, 4);
}

static void
cancelled_check(const struct plan *plan)
{
    struct worker worker;

    worker_start(&worker, cancelled_run, (void *)(uintptr_t)plan);
    channel_expect(worker.channel, 1);
    if (plan->attaches) {
        broker_kill(&broker);
        broker_start(&broker, path, NULL);
    }
    broker_stop(&broker);
    channel_tell(worker.channel, 1);
    channel_expect(worker.channel, 2);
    for (int i = 0; i < 20; i++)
        process_pause(); /* most often enough for the thread to wait for the broker */
    channel_tell(worker.channel, 2);
    channel_expect(worker.channel, 3);
    broker_continue(&broker);
    ck_assert_uint_eq(hear_soon(worker.channel, plan->call->name), 4);
    worker_join(&worker);
}

START_TEST(f06_a_thread_cancelled_in_a_call_to_the_broker_leaves_no_lock_behind)
{
    cancelled_check(&(struct plan){.call = &asking[_i]});
}
END_TEST

START_TEST(f06_a_thread_cancelled_while_it_attaches_leaves_no_lock_behind)
{
    cancelled_check(&(struct plan){.call = &attaching[0], .attaches = true});
}
END_TEST

/* --- everything from a handler, at random --- */

static AO_t handled;

static void
hammer_writes(void)
{
    mace_txn *txn;
    mace_cursor *cursor;
    mace_slice key, value;

    if (mace_begin(db, MACE_OS, &txn) != MACE_OK)
        return;
    for (int i = 0; i < 40; i++) {
        char name[16], large[512];
        memset(large, i, sizeof large);
        snprintf(name, sizeof name, "key%d", i);
        (void)mace_put(txn, bucket, name, strlen(name), large, sizeof large);
    }
    if (mace_cursor_open(txn, bucket, NULL, &cursor) == MACE_OK) {
        (void)mace_cursor_first(cursor, &key, &value);
        mace_cursor_close(cursor);
    }
    (void)mace_get(txn, bucket, "key7", 4, &value);
    mace_abort(txn);
}

static void
hammer_turn(void)
{
    call_open_bucket();
    call_sync();
    call_create();
    call_drop();
    call_list();
    call_sessions();
    call_stat();
    hammer_writes();
    call_open();
}

/* Once, at some moment of the next two milliseconds: what was interrupted always gets on between two handlers. */
static void
hammer_arm(void)
{
    static unsigned turns;
    struct itimerval once = {{0, 0}, {0, 100 + (turns++ * 7919) % 2000}};

    setitimer(ITIMER_REAL, &once, NULL);
}

static void
hammer_handler(int number)
{
    int saved = errno;

    (void)number;
    hammer_turn();
    AO_fetch_and_add1(&handled);
    hammer_arm();
    errno = saved;
}

static void
hammer_run(int channel, void *argument)
{
    struct sigaction action = {.sa_handler = hammer_handler};

    (void)argument;
    db = worker_open();
    bucket = client_bucket(db, "default");
    sigaction(SIGALRM, &action, NULL);
    hammer_arm();
    while (AO_load(&handled) < 500)
        hammer_turn();
    setitimer(ITIMER_REAL, &(struct itimerval){{0, 0}, {0, 0}}, NULL);
    mace_close(db);
    channel_tell(channel, 1);
}

START_TEST(f06_any_call_from_a_handler_inside_any_call_comes_back)
{
    struct worker worker;

    worker_start(&worker, hammer_run, NULL);
    struct pollfd wait = {.fd = worker.channel, .events = POLLIN};
    ck_assert_msg(poll(&wait, 1, 10 * PATIENCE_MS) == 1, "a call hangs");
    channel_expect(worker.channel, 1);
    worker_join(&worker);
}
END_TEST

/* --- a handler inside the memory allocator --- */

static bool watched;         /* the worker's calls of the allocator are interrupted */
static bool handling;        /* a handler is running */
static unsigned allocations; /* of the library, each of which a handler interrupted */
static unsigned nested;      /* calls of the allocator out of such a handler */

/* In the place of a signal that arrives in the middle of the allocator: every such moment instead of some. */
static void
allocator_interrupted(void)
{
    if (!watched)
        return;
    if (handling) {
        nested++;
        return;
    }
    handling = true;
    allocations++;
    hammer_turn();
    handling = false;
}

void *__real_malloc(size_t size);
void *__wrap_malloc(size_t size);
void *
__wrap_malloc(size_t size)
{
    allocator_interrupted();
    return __real_malloc(size);
}

void *__real_calloc(size_t count, size_t size);
void *__wrap_calloc(size_t count, size_t size);
void *
__wrap_calloc(size_t count, size_t size)
{
    allocator_interrupted();
    return __real_calloc(count, size);
}

void *__real_realloc(void *old, size_t size);
void *__wrap_realloc(void *old, size_t size);
void *
__wrap_realloc(void *old, size_t size)
{
    allocator_interrupted();
    return __real_realloc(old, size);
}

int __real_posix_memalign(void **memory, size_t alignment, size_t size);
int __wrap_posix_memalign(void **memory, size_t alignment, size_t size);
int
__wrap_posix_memalign(void **memory, size_t alignment, size_t size)
{
    allocator_interrupted();
    return __real_posix_memalign(memory, alignment, size);
}

void __real_free(void *memory);
void __wrap_free(void *memory);
void
__wrap_free(void *memory)
{
    if (memory != NULL)
        allocator_interrupted();
    __real_free(memory);
}

static void
watched_run(int channel, void *argument)
{
    (void)argument;
    db = worker_open();
    bucket = client_bucket(db, "default");
    watched = true;
    hammer_turn();
    hammer_turn();
    watched = false;
    mace_close(db);
    require(allocations > 20, "only %u calls of the allocator were seen", allocations);
    require(nested == 0, "%u calls of the allocator from a handler inside it", nested);
    channel_tell(channel, 1);
}

START_TEST(f06_no_call_from_a_handler_inside_the_allocator_calls_it)
{
    struct worker worker;

    worker_start(&worker, watched_run, NULL);
    channel_expect(worker.channel, 1);
    worker_join(&worker);
}
END_TEST

static mace *other;

/* The call that it interrupts may stand in the allocator, for all that it knows. */
static void
handler_closes(int number)
{
    int saved = errno, before = process_descriptors(getpid());

    (void)number;
    watched = handling = true;
    mace_close(other);
    watched = handling = false;
    require(nested == 0, "mace_close calls the allocator in a handler");
    require(process_descriptors(getpid()) < before, "the session has not ended");
    channel_tell(handler_channel, 2);
    errno = saved;
}

static void
closing_run(int channel, void *argument)
{
    uint64_t word;

    (void)argument;
    handler_channel = channel;
    db = worker_open();
    bucket = client_bucket(db, "default");
    hammer_writes(); /* leaves memory of a transaction behind */
    other = db;
    db = worker_open();
    handler_set(handler_closes);
    channel_tell(channel, 1);
    require(channel_hear(channel, &word), "the test is gone");
    require_ok(call_sync());
    mace_close(db);
    channel_tell(channel, 3);
}

START_TEST(f06_a_handler_that_interrupts_a_call_closes_another_handle)
{
    struct worker worker;

    worker_start(&worker, closing_run, NULL);
    channel_expect(worker.channel, 1);
    broker_stop(&broker);
    interrupt(&worker);
    uint64_t word = hear_soon(worker.channel, "mace_close");
    broker_continue(&broker);
    ck_assert_uint_eq(word, 2);
    ck_assert_uint_eq(hear_soon(worker.channel, "mace_sync"), 3);
    worker_join(&worker);
}
END_TEST

int
main(void)
{
    Suite *suite = suite_create("re-entrance");
    TCase *cases = tcase_create("re-entrance");
    SRunner *runner;

    tcase_set_timeout(cases, 0);
    tcase_add_checked_fixture(cases, setup, teardown);
    tcase_add_loop_test(cases, f06_a_handler_that_interrupts_a_call_to_the_broker_is_refused, 0,
                        ASKING);
    tcase_add_loop_test(cases, f06_a_handler_that_interrupts_a_call_to_the_broker_may_read, 0,
                        ASKING);
    tcase_add_loop_test(cases, f06_a_handler_that_interrupts_a_call_that_attaches_is_refused, 0,
                        ATTACHING);
    tcase_add_test(cases, f06_a_handler_that_interrupts_mace_open_is_refused_another_one);
    tcase_add_loop_test(
        cases, f06_a_handle_can_be_closed_after_a_longjmp_out_of_a_call_to_the_broker, 0, ASKING);
    tcase_add_test(cases, f06_a_handle_can_be_closed_after_a_longjmp_out_of_attaching);
    tcase_add_test(cases, f06_no_call_from_a_handler_inside_the_allocator_calls_it);
    tcase_add_test(cases, f06_a_handler_that_interrupts_a_call_closes_another_handle);
    /* AddressSanitizer's own end of a thread stumbles over the frames that cancelling it skips. */
    if (!under_address_sanitizer) {
        tcase_add_loop_test(
            cases, f06_a_thread_cancelled_in_a_call_to_the_broker_leaves_no_lock_behind, 0, ASKING);
        tcase_add_test(cases, f06_a_thread_cancelled_while_it_attaches_leaves_no_lock_behind);
    }
    suite_add_tcase(suite, cases);
    cases = tcase_create("at random");
    tcase_set_timeout(cases, 0);
    tcase_add_checked_fixture(cases, setup, teardown);
    tcase_add_test(cases, f06_any_call_from_a_handler_inside_any_call_comes_back);
    suite_add_tcase(suite, cases);
    runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
