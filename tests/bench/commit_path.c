/* commit_path.c - where the time of a one-put commit at level OS goes, part by part.
 *
 * The parts are the broker's own functions, called in the order of commit.c on an environment in memory, by one thread:
 * so the figures are work, without the hand-over of cache lines between processors, which is measured apart (two threads
 * that answer each other through one line, and through a futex). Time stamps around each part cost about as much as the
 * cheapest parts; their cost is measured first and taken off.
 *
 * bench_commit_path [KEYS [COMMITS]]
 */
#include <check.h>
#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "../unit/broker/fake_env.h"
#include "commit.h"
#include "mshm/status.h"
#include "sessions.h"

enum part {
    PART_PUBLISH,
    PART_PEEK,
    PART_COPY,
    PART_PLAN,
    PART_RECORD,
    PART_APPLY,
    PART_WRITE,
    PART_ANSWER,
    PART_TAKE,
    PARTS
};
static const char *const part_names[PARTS] = {
    "client: operation into the arena, publish",
    "look at the tail, load and check the request",
    "copy from the arena, validate",
    "find the leaf, conflict check, reserve",
    "complete the record (checksum, chain)",
    "apply to the leaf (with its rebuilds)",
    "write: into the mapping of the log",
    "publish visible, answer, look for sleepers",
    "client: take the answer",
};

static uint64_t
now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static inline uint64_t
ticks(void)
{
#if defined(__x86_64__)
    return __builtin_ia32_rdtsc();
#elif defined(__aarch64__)
    uint64_t value;
    __asm__ __volatile__("mrs %0, cntvct_el0" : "=r"(value));
    return value;
#else
    return now_ns();
#endif
}

static uint64_t
mix(uint64_t x)
{
    x = (x ^ (x >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    x = (x ^ (x >> 27)) * UINT64_C(0x94d049bb133111eb);
    return x ^ (x >> 31);
}

static uint64_t
put_publish(struct fake_client *client, uint32_t bucket, uint64_t number)
{
    uint64_t key[2] = {__builtin_bswap64(mix(number + 1)), number}, value[2] = {number, ~number};
    uint64_t offset;
    int wake;
    if (mshm_producer_arena(&client->producer, mshm_op_size(16, 16), &offset) != MSHM_OK)
        return 0;
    uint8_t *arena = (uint8_t *)client->segment + MSHM_SESSION_ARENA;
    uint64_t size = mshm_op_write(arena + offset, bucket, MSHM_OP_PUT, key, 16, value, 16);
    return mshm_producer_publish(&client->producer, MSHM_REQUEST_ONE_CALL, 0, 1, 0, 0, offset, size,
                                 1, &wake);
}

/* One commit, its parts timed. */
static int
commit_timed(struct core *core, struct fake_client *client, uint32_t bucket, uint64_t number,
             uint64_t sums[PARTS])
{
    struct mshm_request_copy request;
    struct tree_plan *plan;
    uint64_t at[PARTS + 1];
    int status;
    mshm_timestamp timestamp;
    at[0] = ticks();
    uint64_t sequence = put_publish(client, bucket, number);
    at[1] = ticks();
    struct mshm_consumer *consumer = &client->session->consumer;
    if (sequence == 0 || mshm_consumer_pending(consumer) != 1 ||
        mshm_consumer_peek(consumer, &request) != MSHM_OK)
        return -1;
    at[2] = ticks();
    void *ops = wal_stage(core->wal, request.arena_size, &status);
    if (ops == NULL)
        return status;
    memcpy(ops, mshm_consumer_arena(consumer, &request), request.arena_size);
    if (mshm_ops_validate(ops, request.arena_size, 1, MSHM_OPS_ONE_CALL) != MSHM_OK)
        return -1;
    at[3] = ticks();
    status = tree_plan(core->tree, ops, request.arena_size, 1, core->applied, catalogue_resolve,
                       core->catalogue, &plan);
    if (status != MSHM_OK)
        return status;
    at[4] = ticks();
    core->applied++;
    wal_stage_finish(core->wal, core->applied, 1, sequence, 1, false);
    at[5] = ticks();
    tree_apply(core->tree, plan, core->applied);
    at[6] = ticks();
    if (wal_flush(core->wal) != MSHM_OK)
        return -1;
    at[7] = ticks();
    mshm_consumer_advance(consumer);
    core->visible = core->applied;
    AO_store_release(&core->store->visible, core->applied);
    mshm_completion_post(client->segment, sequence, MSHM_OK, core->applied);
    mshm_full_fence();
    if (mshm_completion_waiter(client->segment, sequence))
        return -1;
    at[8] = ticks();
    if (!mshm_completion_take(client->segment, sequence, &status, &timestamp))
        return -1;
    at[9] = ticks();
    for (int i = 0; i < PARTS; i++)
        sums[i] += at[i + 1] - at[i];
    return MSHM_OK;
}

/* --- the hand-over between two processors --- */

struct pingpong {
    _Alignas(64) unsigned int ping;
    _Alignas(64) unsigned int pong;
    bool futex;
    unsigned rounds;
};

static void
word_wait(unsigned int *word, unsigned value, bool sleep)
{
    while (AO_int_load_acquire(word) != value)
        if (sleep)
            syscall(SYS_futex, word, FUTEX_WAIT, value - 1, NULL, NULL, 0);
        else
            mshm_pause();
}

static void
word_set(unsigned int *word, unsigned value, bool wake)
{
    AO_int_store_release(word, value);
    if (wake)
        syscall(SYS_futex, word, FUTEX_WAKE, 1, NULL, NULL, 0);
}

static void
cpu_set_self(unsigned cpu)
{
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET(cpu, &set);
    sched_setaffinity(0, sizeof set, &set);
}

static void *
pong_run(void *argument)
{
    struct pingpong *game = argument;
    cpu_set_self(1);
    for (unsigned i = 1; i <= game->rounds; i++) {
        word_wait(&game->ping, i, game->futex);
        word_set(&game->pong, i, game->futex);
    }
    return NULL;
}

/* Nanoseconds from a store on one processor to its sight on the other. */
static double
handover_ns(bool futex)
{
    struct pingpong game = {.futex = futex, .rounds = futex ? 20000 : 200000};
    pthread_t thread;
    if (sysconf(_SC_NPROCESSORS_ONLN) < 2 || pthread_create(&thread, NULL, pong_run, &game) != 0)
        return 0;
    cpu_set_self(0);
    uint64_t begin = now_ns();
    for (unsigned i = 1; i <= game.rounds; i++) {
        word_set(&game.ping, i, futex);
        word_wait(&game.pong, i, futex);
    }
    double each = (double)(now_ns() - begin) / game.rounds / 2;
    pthread_join(thread, NULL);
    return each;
}

static uint64_t keys = 1000000, commits = 500000;

/* Nanoseconds of a commit, publish and answer included, when the broker finds `group` requests waiting at each turn: what
 * looking ahead among them is worth, and what fewer turns save: each costs 10 us of the simulated clock, by which
 * housekeeping goes. */
static double
group_ns(struct fake *fake, struct fake_client *client, uint32_t bucket, uint64_t first,
         unsigned group)
{
    uint64_t begin = now_ns(), done = 0, newest = 0, number = first;
    while (done < commits / 4) {
        for (unsigned i = 0; i < group; i++)
            newest = put_publish(client, bucket, number++);
        int status = MSHM_OK;
        mshm_timestamp timestamp;
        do
            fake_step(fake);
        while (!mshm_completion_take(client->segment, newest, &status, &timestamp));
        if (newest == 0 || status != MSHM_OK)
            ck_abort_msg("a commit failed");
        done += group;
    }
    return (double)(now_ns() - begin) / (double)done;
}

/* A test case only in form: the environment in memory asserts by Check. */
START_TEST(commit_path)
{
    static struct fake fake;
    uint64_t sums[PARTS] = {0}, empty = UINT64_MAX;
    fake_init(&fake);
    fake.options.cache_size = UINT64_C(1) << 30;
    fake.options.map_capacity = UINT64_C(1) << 20;
    fake.options.segment_size = fake.file_capacity = UINT64_C(64) << 20;
    if (fake_start(&fake) != MSHM_OK)
        ck_abort_msg("a commit failed");
    /* As a broker's store: on small pages each cold leaf costs a walk through the page tables, too. */
    (void)madvise(fake.store, fake.store_size, MADV_HUGEPAGE);
    struct fake_client *client = fake_attach(&fake, 0);
    uint32_t bucket = fake_default(&fake);
    for (uint64_t i = 0; i < keys; i++) {
        uint64_t ignored[PARTS] = {0};
        if (commit_timed(fake.core, client, bucket, i, ignored) != MSHM_OK)
            ck_abort_msg("a commit failed");
        if (i % 256 == 0)
            fake_step(&fake);
    }
    for (int i = 0; i < 1000; i++) {
        uint64_t begin = ticks(), end = ticks();
        empty = end - begin < empty ? end - begin : empty;
    }
    uint64_t begin_ns = now_ns(), begin_ticks = ticks();
    for (uint64_t i = 0; i < commits; i++) {
        if (commit_timed(fake.core, client, bucket, keys + i, sums) != MSHM_OK)
            ck_abort_msg("a commit failed");
        if (i % 256 == 0)
            fake_step(&fake); /* pruning, reclaiming, leaves that were put off */
    }
    double whole = (double)(now_ns() - begin_ns) / (double)commits;
    double per_tick = whole * (double)commits / (double)(ticks() - begin_ticks);
    double sum = 0;
    printf("%-48s %10s  system calls\n", "part of a one-put commit, level OS", "ns");
    for (int i = 0; i < PARTS; i++) {
        double each = ((double)sums[i] / (double)commits - (double)empty) * per_tick;
        sum += each;
        printf("  %-46s %10.1f  0\n", part_names[i], each);
    }
    printf("  %-46s %10.1f  0\n", "sum", sum);
    printf("  %-46s %10.1f\n", "the whole, housekeeping included, by the clock", whole);
    uint64_t first = keys + commits;
    for (unsigned group = 1; group <= 64; group *= 4, first += commits)
        printf("a whole commit, %2u found waiting at each turn     %10.1f\n", group,
               group_ns(&fake, client, bucket, first, group));
    printf("hand-over of a word between processors, spinning  %10.1f  0\n", handover_ns(false));
    printf("hand-over of a word between processors, futex     %10.1f  2 (wait, wake)\n",
           handover_ns(true));
}
END_TEST

int
main(int argc, char **argv)
{
    if (argc > 1)
        keys = strtoull(argv[1], NULL, 10);
    if (argc > 2)
        commits = strtoull(argv[2], NULL, 10);
    Suite *suite = suite_create("bench");
    TCase *tcase = tcase_create("commit path");
    tcase_set_timeout(tcase, 0);
    tcase_add_test(tcase, commit_path);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_set_fork_status(runner, CK_NOFORK);
    srunner_run_all(runner, CK_SILENT);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
