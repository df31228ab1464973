/* A whole core on the simulated disk, with caches that are small: what checkpoints, eviction and reading in owe each
 * other. */
#include <check.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "checkpoint_parts.h"
#include "core.h"
#include "core_parts.h"
#include "mshm/protocol.h"
#include "mshm/read.h"
#include "mshm/status.h"
#include "pages_parts.h"
#include "sim/sim_env.h"

static struct sim_env *sim;
static struct core_options options;
static struct core *core;
static void *store;
static uint64_t store_size;
static char why[256];

static struct mshm_session *segment;
static struct session *session;
static struct mshm_producer producer;

static void
begin(uint64_t seed)
{
    sim = sim_env_create(seed);
    core_options_init(&options);
    options.cache_size = UINT64_C(1) << 20;
    options.map_capacity = 16384;
    options.segment_size = 65536;
    options.page_size = 4096;
}

static void
stop(void)
{
    core_destroy(core);
    core = NULL;
    if (store != NULL)
        munmap(store, store_size);
    if (segment != NULL)
        munmap(segment, MSHM_SESSION_SIZE);
    store = NULL;
    segment = NULL;
}

static void
set_up(void)
{
    begin(1);
}

static void
tear_down(void)
{
    sim_env_die(sim, false);
    stop();
    sim_env_destroy(sim);
}

static void *
memory(uint64_t size)
{
    void *made = mmap(NULL, size, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    ck_assert_ptr_ne(made, MAP_FAILED);
    return made;
}

static int
start(bool create)
{
    why[0] = '\0';
    store_size = core_store_size(&options);
    store = memory(store_size);
    int status = core_create(&core, &options, sim_env_interface(sim), store);
    return status != MSHM_OK ? status : core_recover(core, create, why, sizeof why);
}

static void
turn(void)
{
    uint64_t wait_ns;
    sim_env_advance(sim, 20000);
    core_step(core, &wait_ns);
}

/* Lets `ms` pass. */
static void
idle(unsigned ms)
{
    for (unsigned i = 0; i < ms * 10; i++) {
        sim_env_advance(sim, 80000);
        turn();
    }
}

static void
attach(void)
{
    segment = memory(MSHM_SESSION_SIZE);
    ck_assert_int_eq(core_session_attach(core, segment, segment, 0, 0, 0, &session), MSHM_OK);
    mshm_producer_init(&producer, segment);
    AO_store_release(&segment->lanes_high, 8);
}

/* One operation by a one-call request, waited for: its status; MSHM_BUSY: no answer came. The key is the number. */
static int
request(unsigned kind, uint64_t number, const void *value, uint32_t value_size)
{
    uint64_t offset, sequence, timestamp;
    int wake, status = MSHM_BUSY;
    if (segment == NULL)
        attach();
    uint64_t size = mshm_op_size(sizeof number, value_size);
    ck_assert_int_eq(mshm_producer_arena(&producer, size, &offset), MSHM_OK);
    mshm_op_write((uint8_t *)segment + MSHM_SESSION_ARENA + offset,
                  catalogue_find(core->catalogue, "default", 7)->id, kind, &number, sizeof number,
                  value, value_size);
    sequence =
        mshm_producer_publish(&producer, MSHM_REQUEST_ONE_CALL, 0, 0, 0, 0, offset, size, 1, &wake);
    if (wake)
        core_session_doorbell(core, session);
    for (int i = 0; i < 100000 && !mshm_completion_take(segment, sequence, &status, &timestamp);
         i++)
        turn();
    return status;
}

/* Keys ascend with their numbers. */
static uint64_t
key_of(uint64_t number)
{
    return __builtin_bswap64(number);
}

static int
put(uint64_t number, uint32_t value_size)
{
    uint8_t value[8192];
    memset(value, (int)number, sizeof value);
    return request(MSHM_OP_PUT, key_of(number), value, value_size);
}

/* MSHM_OK, MSHM_NOT_FOUND; MSHM_BUSY: a page did not come. */
static int
get(uint64_t number)
{
    struct mshm_lane lane = {0};
    uint8_t value[8192];
    uint64_t size, key = key_of(number);
    const struct catalogue_bucket *bucket = catalogue_find(core->catalogue, "default", 7);
    struct mshm_tree_ref ref = {.bucket = bucket->id, .root = bucket->root};
    for (int i = 0; i < 20000; i++) {
        mshm_pid missing = 0;
        int status = mshm_get(&core->view, &lane, NULL, ref, &key, sizeof key, 0, value,
                              sizeof value, &size, NULL, &missing);
        if (status != MSHM_BUSY || missing == 0)
            return status;
        (void)pager_want(core->pager, missing, NULL);
        turn();
    }
    return MSHM_BUSY;
}

/* --- cases --- */

/* Leaves that grew while they were out of memory are split once they are read in, without any commit. */
START_TEST(pages_that_become_dirty_without_a_commit_do_not_fill_the_cache_for_ever)
{
    enum { KEYS = 20000 };
    struct pages_figures figures;
    uint64_t most = 0;
    ck_assert_int_eq(start(true), MSHM_OK);
    for (uint64_t i = 0; i < KEYS; i++)
        if (i % 4 != 3)
            ck_assert_int_eq(put(i, 300), MSHM_OK);
    ck_assert_int_eq(checkpoint_run(core), MSHM_OK);
    for (uint64_t i = 3; i < KEYS; i += 4)
        ck_assert_int_eq(put(i, 300), MSHM_OK);
    ck_assert_int_eq(checkpoint_run(core), MSHM_OK);
    uint64_t splits = AO_load(&core->figures->counters.splits);
    (void)mshm_snapshot_register(core->store, &segment->lanes[0]); /* so leaves are looked after */
    for (uint64_t i = 0; i < KEYS; i++) {
        ck_assert_int_eq(get(i), MSHM_OK);
        if (i % 100 == 0)
            idle(20);
        pages_figures(core->pages, &figures);
        if (figures.dirty_bytes + figures.sealed_bytes > most)
            most = figures.dirty_bytes + figures.sealed_bytes;
    }
    ck_assert_uint_gt(AO_load(&core->figures->counters.splits), splits + 500);
    ck_assert_uint_lt(most, options.cache_size / 2);
    ck_assert_int_eq(put(1, 10), MSHM_OK);
}
END_TEST

/* Writes scattered over all leaves; how much of the cache is dirty when a checkpoint begins. */
static uint64_t
dirty_at_seal(uint64_t keys)
{
    struct pages_figures figures = {0};
    uint64_t sealed = core->checkpoint->sealed, most = 0;
    for (uint64_t i = 0; core->checkpoint->sealed == sealed; i++) {
        pages_figures(core->pages, &figures);
        most = figures.dirty_bytes;
        ck_assert_uint_lt(i, 100000);
        ck_assert_int_eq(put(i * 7919 % keys, 100), MSHM_OK);
    }
    for (unsigned i = 0; i < 100000 && !checkpoint_idle(core->checkpoint); i++)
        turn();
    return most;
}

/* Everything is on disk, and but a few pages are nowhere else. */
static void
fill_and_evict(uint64_t keys)
{
    uint64_t size = core->geometry.frames_size;
    for (uint64_t i = 0; i < keys; i++)
        ck_assert_int_eq(put(i, 300), MSHM_OK);
    ck_assert_int_eq(checkpoint_run(core), MSHM_OK);
    for (unsigned i = 0; i < 100 && frames_available(core->frames) < size / 8 * 7; i++) {
        pages_evict(core->pages, size, core->now_ns + UINT64_C(1000000000));
        idle(2);
    }
}

/* A checkpoint waits for more writes to each page where nobody has a use for the memory that they take, and only there. */
START_TEST(writes_gather_where_the_cache_is_free)
{
    enum { KEYS = 40000 };
    options.cache_size = UINT64_C(4) << 20;
    ck_assert_int_eq(start(true), MSHM_OK);
    uint64_t size = core->geometry.frames_size;
    fill_and_evict(KEYS);
    ck_assert_uint_gt(dirty_at_seal(KEYS), size / 3);
    for (uint64_t i = 0; i < KEYS; i += 3)
        ck_assert_int_eq(get(i), MSHM_OK);
    ck_assert_uint_lt(dirty_at_seal(KEYS), size / 7 * 2);
}
END_TEST

/* Leaves on disk that consist of more than one record. */
static unsigned
chains(void)
{
    unsigned count = 0;
    for (mshm_pid pid = 1; pid < frames_pid_end(core->frames); pid++)
        count += data_location_older(
                     pages_durable(core->pages, pid, AO_load(frames_map(core->frames, pid)))) > 0;
    return count;
}

static void
everything_evict(void)
{
    struct pages_figures figures;
    do {
        pages_evict(core->pages, core->geometry.frames_size, core->now_ns + UINT64_C(1000000000));
        idle(2);
        pages_figures(core->pages, &figures);
    } while (figures.resident_pages > 20);
}

static uint64_t
chained(void)
{
    struct pages_figures figures;
    const char *wrong = "";
    ck_assert_msg(pages_check(core->pages, &wrong) == MSHM_OK, "%s", wrong);
    pages_figures(core->pages, &figures);
    return figures.chained_pages;
}

/* Who reads a page of several records makes the next one read a single one: but not for a few pages, and not for those that
 * are written as often as they are read. */
START_TEST(page_that_was_read_as_several_records_is_written_as_one)
{
    enum { KEYS = 2000, STEP = 10, FEW = 10 };
    ck_assert_int_eq(start(true), MSHM_OK);
    fill_and_evict(KEYS);
    everything_evict();
    for (uint64_t i = 0; i < KEYS; i += STEP)
        ck_assert_int_eq(put(i, 300), MSHM_OK);
    ck_assert_int_eq(checkpoint_run(core), MSHM_OK);
    everything_evict();
    unsigned most = chains();
    ck_assert_uint_gt(most, 100);
    uint64_t done = core->checkpoint->done, applied = core->applied;

    for (uint64_t i = 0; i < FEW; i++)
        ck_assert_int_eq(get(i * STEP * 2), MSHM_OK);
    ck_assert_uint_gt(chained(), FEW / 2);
    idle(100);
    ck_assert_uint_eq(core->checkpoint->done, done); /* they wait for a better reason */
    everything_evict();
    ck_assert_uint_eq(chained(), 0);
    ck_assert_uint_eq(chains(), most);

    for (unsigned round = 0; round < 3; round++) {
        for (uint64_t i = 0; i < KEYS; i++)
            ck_assert_int_eq(get(i), MSHM_OK);
        everything_evict();
    }
    ck_assert_uint_gt(core->checkpoint->done, done);
    ck_assert_uint_eq(core->applied, applied);
    ck_assert_uint_lt(chains(), most / 4);
    ck_assert_uint_eq(core->manifest.cut.timestamp, applied);
    for (uint64_t i = 0; i < KEYS; i++)
        ck_assert_int_eq(get(i), MSHM_OK);
    (void)chained();

    everything_evict();
    for (uint64_t i = 0; i < KEYS; i += STEP)
        ck_assert_int_eq(put(i, 300), MSHM_OK);
    ck_assert_int_eq(checkpoint_run(core), MSHM_OK);
    everything_evict();
    ck_assert_uint_gt(chains(), 100);
    for (uint64_t i = 0; i < KEYS; i += STEP) {
        ck_assert_int_eq(put(i, 300), MSHM_OK);
        ck_assert_int_eq(get(i), MSHM_OK);
        ck_assert_uint_lt(chained(), 4);
    }
}
END_TEST

/* While a checkpoint takes long, commits wait a little now and then, and none waits for all that is left of it. */
START_TEST(commits_keep_pace_with_a_slow_checkpoint)
{
    enum { KEYS = 40000 };
    const uint64_t job_ns = 100 * 1000 * 1000;
    uint64_t longest = 0, checkpoint_ns = 0;
    options.cache_size = UINT64_C(4) << 20;
    options.segment_size = UINT64_C(16) << 20; /* no commit waits for the log */
    ck_assert_int_eq(start(true), MSHM_OK);
    fill_and_evict(KEYS);
    sim_env_set_job_ns(sim, job_ns);
    uint64_t done = core->checkpoint->done, begin_ns = 0;
    for (uint64_t i = 0; core->checkpoint->done < done + 3; i++) {
        uint64_t before_ns = sim_env_now(sim), before = core->checkpoint->done;
        ck_assert_int_eq(put(i * 7919 % KEYS, 100), MSHM_OK);
        uint64_t now_ns = sim_env_now(sim);
        if (now_ns - before_ns > longest)
            longest = now_ns - before_ns;
        if (core->checkpoint->done != before)
            checkpoint_ns = now_ns - begin_ns;
        if (checkpoint_idle(core->checkpoint))
            begin_ns = now_ns;
    }
    ck_assert_uint_gt(checkpoint_ns, 8 * job_ns);
    ck_assert_uint_lt(longest, 3 * job_ns);
}
END_TEST

/* A page in memory as a reader inside a bracket sees it. */
struct sight {
    mshm_pid pid;
    AO_t word, epoch;
    uint8_t bytes[MSHM_MAX_FRAME];
};

static bool
sight_gone(const struct sight *sight)
{
    return AO_load(frames_map(core->frames, sight->pid)) != sight->word;
}

static bool
sight_whole(const struct sight *sight)
{
    return memcmp(frames_address(core->frames, sight->word), sight->bytes,
                  mshm_class_size(mshm_map_class(sight->word))) == 0;
}

/* The first leaf in memory from this pid on. */
static void
sight_begin(struct sight *sight, mshm_pid pid)
{
    const struct mshm_page *page;
    do {
        sight->pid = pid++ % (frames_pid_end(core->frames) - 1) + 1;
        sight->word = AO_load(frames_map(core->frames, sight->pid));
        page = mshm_map_state(sight->word) == MSHM_MAP_RESIDENT
                   ? (const void *)frames_address(core->frames, sight->word)
                   : NULL;
    } while (page == NULL || page->kind != MSHM_PAGE_LEAF);
    sight->epoch = mshm_bracket_open(core->store, &segment->lanes[1]);
    memcpy(sight->bytes, page, mshm_class_size(mshm_map_class(sight->word)));
}

/* Pages come and go, and some are written to, while a reader stands in a frame: what the frame holds once its page has left
 * it stays until the bracket is closed, or revoked, which the reader finds out. */
START_TEST(frame_that_was_evicted_stays_as_it_was_until_the_bracket_is_over)
{
    enum { KEYS = 6000 };
    static struct sight sight;
    struct sim_random random = {7};
    unsigned evicted = 0, revoked = 0, closed = 0;
    bool patient = _i == 1; /* then the bracket is closed in time */
    options.revoke_after_ns = patient ? UINT64_C(10000000000) : UINT64_C(2000000);
    ck_assert_int_eq(start(true), MSHM_OK);
    for (uint64_t i = 0; i < KEYS; i++)
        ck_assert_int_eq(put(i, 300), MSHM_OK);
    for (unsigned round = 0; round < 600; round++) {
        bool gone = false, over = false;
        sight_begin(&sight, (mshm_pid)sim_random_below(&random, 10000));
        /* What leaves memory meanwhile does not come back, so a patient reader may not stand there for long. */
        for (unsigned i = 0; i < (patient ? 8 : 60) && !over && !(gone && patient); i++) {
            uint64_t key = sim_random_below(&random, KEYS);
            ck_assert_int_eq(i % 4 == 0 && !patient ? put(key, 300) : get(key), MSHM_OK);
            if (!gone && sight_gone(&sight)) {
                gone = true;
                evicted++;
                memcpy(sight.bytes, frames_address(core->frames, sight.word), sizeof sight.bytes);
            }
            over = AO_load(&core->store->revoked) >= sight.epoch;
            ck_assert(!gone || over || sight_whole(&sight));
        }
        if (patient) {
            idle(5);
            ck_assert(!gone || sight_whole(&sight));
        }
        ck_assert_int_eq(mshm_bracket_close(core->store, &segment->lanes[1], sight.epoch), over);
        revoked += over;
        closed += gone && !over;
    }
    ck_assert_uint_gt(evicted, 10);
    ck_assert_uint_gt(patient ? closed : revoked, 10);
}
END_TEST

START_TEST(reader_that_stands_in_a_frame_does_not_empty_the_cache)
{
    enum { KEYS = 6000, SEVERAL = 50 };
    static struct sight sight;
    struct sim_random random = {7};
    struct pages_figures figures;
    options.revoke_after_ns = UINT64_C(40000000);
    ck_assert_int_eq(start(true), MSHM_OK);
    for (uint64_t i = 0; i < KEYS; i++)
        ck_assert_int_eq(put(i, 300), MSHM_OK);
    for (unsigned round = 0; round < 20; round++) {
        sight_begin(&sight, (mshm_pid)sim_random_below(&random, 10000));
        for (unsigned i = 0; i < 60; i++) {
            uint64_t key = sim_random_below(&random, KEYS);
            ck_assert_int_eq(i % 4 == 0 ? put(key, 300) : get(key), MSHM_OK);
            pages_figures(core->pages, &figures);
            ck_assert_uint_gt(figures.resident_pages, SEVERAL);
        }
        (void)mshm_bracket_close(core->store, &segment->lanes[1], sight.epoch);
    }
    ck_assert_uint_gt(AO_load(&core->store->revoked), 0);
}
END_TEST

int
main(void)
{
    Suite *suite = suite_create("checkpoint");
    TCase *tests = tcase_create("checkpoint");
    tcase_set_timeout(tests, 120);
    tcase_add_checked_fixture(tests, set_up, tear_down);
    tcase_add_test(tests, writes_gather_where_the_cache_is_free);
    tcase_add_test(tests, page_that_was_read_as_several_records_is_written_as_one);
    tcase_add_test(tests, commits_keep_pace_with_a_slow_checkpoint);
    tcase_add_test(tests, pages_that_become_dirty_without_a_commit_do_not_fill_the_cache_for_ever);
    tcase_add_loop_test(tests, frame_that_was_evicted_stays_as_it_was_until_the_bracket_is_over, 0,
                        2);
    tcase_add_test(tests, reader_that_stands_in_a_frame_does_not_empty_the_cache);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
