/* A whole core on the simulated disk, with caches that are small: what checkpoints, eviction and reading in owe each
 * other. */
#include <check.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "checkpoint.h"
#include "core.h"
#include "core_parts.h"
#include "mshm/protocol.h"
#include "mshm/read.h"
#include "mshm/status.h"
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

int
main(void)
{
    Suite *suite = suite_create("checkpoint");
    TCase *tests = tcase_create("checkpoint");
    tcase_set_timeout(tests, 120);
    tcase_add_checked_fixture(tests, set_up, tear_down);
    tcase_add_test(tests, pages_that_become_dirty_without_a_commit_do_not_fill_the_cache_for_ever);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
