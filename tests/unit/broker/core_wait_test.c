/* Who waits for the core gets an answer although the loop sleeps as long as it says that it may: pages that find no frame, a
 * session whose commit waits for pages, commits in a cache whose free memory lies in small pieces, or whose disk is full. */
#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "checkpoint_parts.h"
#include "unit/broker/core_world.h"

enum { COUNT = 3000, SIZE = 300, BIG = 3500, STEPS = 200000, SECOND = 1000 * 1000 * 1000 };

static void
set_up(void)
{
    world_create(1);
}

static void
tear_down(void)
{
    world_end(false);
    sim_env_destroy(sim);
}

/* One turn, and then the sleep that the core allows, unless something ends before that. False: it sleeps until somebody rings,
 * and nothing is under way that could. */
static bool
sleepy_turn(void)
{
    uint64_t wait_ns;
    if (core_step(core, &wait_ns) || wait_ns == 0 || sim_env_busy(sim)) {
        sim_env_advance(sim, 20000);
        return true;
    }
    if (wait_ns == UINT64_MAX)
        return false;
    sim_env_advance(sim, wait_ns);
    return true;
}

/* The broker has nothing to do any more. */
static void
settle(void)
{
    for (int i = 0; i < STEPS && sleepy_turn(); i++)
        continue;
}

/* One operation, or two of one transaction. */
static uint64_t
publish(unsigned lane, const uint32_t *keys, const uint32_t *sizes, unsigned count, int *wake)
{
    static const uint8_t value[BIG];
    uint8_t bytes[KEY_MAX];
    uint64_t offset, size = 0;
    uint32_t bucket = bucket_find(0)->id;
    for (unsigned i = 0; i < count; i++)
        size += mshm_op_size((uint16_t)key_make(0, keys[i], bytes), sizes[i]);
    ck_assert_int_eq(mshm_producer_arena(&producer, size, &offset), MSHM_OK);
    uint8_t *to = (uint8_t *)segment + MSHM_SESSION_ARENA + offset;
    for (unsigned i = 0; i < count; i++) {
        uint16_t key_size = (uint16_t)key_make(0, keys[i], bytes);
        to += mshm_op_write(to, bucket, MSHM_OP_PUT, bytes, key_size, value, sizes[i]);
    }
    AO_t snapshot = lane > 0 ? AO_load(&segment->lanes[lane].snapshot) : 0;
    return mshm_producer_publish(&producer, lane > 0 ? MSHM_REQUEST_COMMIT : MSHM_REQUEST_ONE_CALL,
                                 0, 0, lane, snapshot, offset, size, count, wake);
}

/* The answer to a request that was published and rung for; -1: the loop sleeps for good. */
static int
sleepy_answer(uint64_t sequence, int wake)
{
    int status;
    uint64_t timestamp;
    if (wake)
        ring();
    for (int i = 0; i < STEPS; i++) {
        if (mshm_completion_take(segment, sequence, &status, &timestamp))
            return status;
        if (!sleepy_turn())
            return mshm_completion_take(segment, sequence, &status, &timestamp) ? status : -1;
    }
    return -2; /* it is busy, and nothing comes of it */
}

static int
put(uint32_t key, uint32_t size)
{
    int wake;
    uint64_t sequence = publish(0, &key, &size, 1, &wake);
    return sleepy_answer(sequence, wake);
}

static void
evict(void)
{
    tree_ahead_begin(core->tree);
    for (int i = 0; i < 4; i++)
        pages_evict(core->pages, options.cache_size, sim_env_now(sim) + SECOND);
    frames_reclaim(core->frames, true);
}

/* A database three times as large as the cache, of which nothing is in memory, and a broker at rest. */
static void
fill(void)
{
    ck_assert_int_eq(world_start(true), MSHM_OK);
    attach();
    ck_assert_int_eq(control(MSHM_MESSAGE_BUCKET_CREATE, 0), MSHM_OK);
    for (uint32_t key = 0; key < COUNT; key++)
        ck_assert_int_eq(put(key, SIZE), MSHM_OK);
    ck_assert_int_eq(control(MSHM_MESSAGE_CHECKPOINT, 0), MSHM_OK);
    settle();
    evict();
    settle();
}

/* Reads pages in one by one until there is no room for another: how many are in memory. */
static unsigned
fill_cache(mshm_pid pids[1024])
{
    unsigned count = 0;
    for (uint32_t key = 0; key < COUNT; key += 5) /* the inner ones before all others */
        (void)leaf_absent(0, key);
    for (mshm_pid pid = 1; pid < frames_pid_end(core->frames); pid++)
        if (mshm_map_state(AO_load(frames_map(core->frames, pid))) == MSHM_MAP_RESIDENT)
            pids[count++] = pid;
    for (mshm_pid pid = 1; pid < frames_pid_end(core->frames); pid++) {
        if (pages_location(core->pages, pid) == 0)
            continue;
        if (pager_load(core->pager, pid, NULL) != MSHM_OK)
            break;
        pids[count++] = pid;
    }
    ck_assert_uint_gt(count, 100);
    return count;
}

/* A key whose leaf is not in memory. */
static uint32_t
key_absent(uint32_t from)
{
    while (leaf_absent(0, from) == 0)
        from++;
    return from;
}

/* --- cases --- */

/* Everything in the cache has just been read in, so nothing may leave it for some milliseconds: until then, and no longer,
 * the last pages of a request wait. */
START_TEST(page_that_finds_no_frame_comes_when_one_is_free)
{
    uint32_t pids[MSHM_MAX_PAGE_IN], count = 0;
    uint64_t offset;
    int wake;
    fill();
    for (mshm_pid pid = 1; pid < frames_pid_end(core->frames) && count < MSHM_MAX_PAGE_IN; pid++)
        if (pages_location(core->pages, pid) != 0)
            pids[count++] = pid;
    ck_assert_uint_eq(count, MSHM_MAX_PAGE_IN);
    ck_assert_int_eq(mshm_producer_arena(&producer, sizeof pids, &offset), MSHM_OK);
    memcpy((uint8_t *)segment + MSHM_SESSION_ARENA + offset, pids, sizeof pids);
    uint64_t sequence = mshm_producer_publish(&producer, MSHM_REQUEST_PAGE_IN, 0, 0, 0, 0, offset,
                                              sizeof pids, count, &wake);
    uint64_t evictions = AO_load(&core->figures->counters.evictions);
    ck_assert_int_eq(sleepy_answer(sequence, wake), MSHM_OK);
    settle();
    ck_assert_uint_gt(AO_load(&core->figures->counters.evictions), evictions); /* there was none */
}
END_TEST

/* So long that its session would have been left to its doorbell, which nobody rings for a request that is in the ring. */
START_TEST(commit_that_waits_long_for_a_page_is_answered_when_it_comes)
{
    uint32_t key = COUNT / 2, size = BIG;
    int wake;
    fill();
    sim_env_set_read_ns(sim, SECOND);
    uint64_t sequence = publish(0, &key, &size, 1, &wake);
    ck_assert_int_eq(sleepy_answer(sequence, wake), MSHM_OK);
}
END_TEST

/* Blind writes need a block of 64 KiB, and none is free, though most of the cache is. */
START_TEST(blind_write_into_a_cache_in_pieces_reads_the_leaf)
{
    static mshm_pid pids[1024];
    bool taken[16] = {false};
    fill();
    unsigned count = fill_cache(pids);
    for (unsigned i = 0; i < count; i++) { /* one page in each block stays */
        AO_t word = AO_load(frames_map(core->frames, pids[i]));
        uint64_t block = (mshm_map_frame(word) - core->geometry.frames_offset) / MSHM_MAX_FRAME;
        ck_assert_uint_lt(block, 16);
        if (!taken[block])
            pages_pin(core->pages, pids[i]);
        taken[block] = true;
    }
    evict();
    ck_assert_uint_gt(frames_available(core->frames), core->geometry.frames_size / 2);
    ck_assert_ptr_null(frames_allocate(core->frames, MSHM_CLASSES - 1)); /* but for the reserve */
    uint64_t blind = AO_load(&core->figures->counters.blind_writes);
    ck_assert_int_eq(put(key_absent(COUNT / 2), 10), MSHM_OK);
    ck_assert_uint_eq(AO_load(&core->figures->counters.blind_writes), blind);
}
END_TEST

/* It may be that a page becomes free to leave; so the commit is held for a while, and then refused, though nothing else happens. */
START_TEST(commit_that_waits_for_memory_is_looked_at_again)
{
    static mshm_pid pids[1024];
    fill();
    unsigned count = fill_cache(pids);
    for (unsigned i = 0; i < count; i++)
        pages_pin(core->pages, pids[i]);
    ck_assert_int_eq(put(key_absent(COUNT / 2), 10), MSHM_FULL);
    for (unsigned i = 0; i < count; i++)
        pages_unpin(core->pages, pids[i]);
    idle(100); /* clean pages make room on their own */
    ck_assert_int_eq(put(key_absent(COUNT / 2), 10), MSHM_OK);
}
END_TEST

/* A lack of memory that has ended, without a commit that showed it, does not count for the next one. */
START_TEST(commit_after_a_refusal_waits_for_memory_anew)
{
    static mshm_pid pids[1024];
    uint32_t size = 10;
    int wake, status;
    uint64_t timestamp;
    fill();
    unsigned count = fill_cache(pids);
    uint32_t key = key_absent(COUNT / 2);
    for (unsigned i = 0; i < count; i++)
        pages_pin(core->pages, pids[i]);
    ck_assert_int_eq(put(key, size), MSHM_FULL);
    ck_assert_int_eq(put(key, size), MSHM_FULL);
    sim_env_advance(sim, SECOND);
    uint64_t sequence = publish(0, &key, &size, 1, &wake);
    if (wake)
        ring();
    for (int i = 0; i < 20; i++)
        ck_assert(sleepy_turn());
    ck_assert(!mshm_completion_take(segment, sequence, &status, &timestamp));
    for (unsigned i = 0; i < count; i++)
        pages_unpin(core->pages, pids[i]);
    ck_assert_int_eq(sleepy_answer(sequence, 0), MSHM_OK);
}
END_TEST

/* With a full disk no page becomes clean, and in a cache without room the only page that can leave is the one that the commit
 * has just had read in. */
START_TEST(commit_without_room_is_refused_and_does_not_evict_what_it_reads_for_ever)
{
    static mshm_pid pids[1024];
    uint32_t keys[2], sizes[2] = {10, BIG};
    int wake;
    fill();
    ck_assert_int_eq(put(1, SIZE), MSHM_OK);
    sim_env_set_full(sim, true);
    ck_assert_int_eq(control(MSHM_MESSAGE_CHECKPOINT, 0), MSHM_FULL);
    unsigned count = fill_cache(pids);
    for (unsigned i = 0; i + 4 < count; i++)
        pages_pin(core->pages, pids[i]);
    sim_env_advance(sim, SECOND); /* those that were just read in may leave */
    keys[0] = key_absent(COUNT / 2);
    keys[1] = key_absent(keys[0] + 100);
    (void)mshm_snapshot_register(core->store, &segment->lanes[1]);
    uint64_t sequence = publish(1, keys, sizes, 2, &wake);
    ck_assert_int_eq(sleepy_answer(sequence, wake), MSHM_FULL);
    mshm_snapshot_release(&segment->lanes[1]);
    sim_env_set_full(sim, false);
    for (unsigned i = 0; i + 4 < count; i++)
        pages_unpin(core->pages, pids[i]);
    idle(3000);
    ck_assert_int_eq(put(keys[1], BIG), MSHM_OK);
}
END_TEST

int
main(void)
{
    Suite *suite = suite_create("core_wait");
    TCase *tests = tcase_create("core_wait");
    tcase_set_timeout(tests, 120);
    tcase_add_checked_fixture(tests, set_up, tear_down);
    tcase_add_test(tests, page_that_finds_no_frame_comes_when_one_is_free);
    tcase_add_test(tests, commit_that_waits_long_for_a_page_is_answered_when_it_comes);
    tcase_add_test(tests, blind_write_into_a_cache_in_pieces_reads_the_leaf);
    tcase_add_test(tests, commit_that_waits_for_memory_is_looked_at_again);
    tcase_add_test(tests, commit_after_a_refusal_waits_for_memory_anew);
    tcase_add_test(tests, commit_without_room_is_refused_and_does_not_evict_what_it_reads_for_ever);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
