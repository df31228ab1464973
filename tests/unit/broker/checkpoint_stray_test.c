/* Pages that cannot be read when a checkpoint would add to them: their writes wait in the manifest, everything else goes on,
 * and nothing is lost whatever dies meanwhile. */
#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "checkpoint_parts.h"
#include "data.h"
#include "page_format.h"
#include "unit/broker/core_world.h"

enum { COUNT = 600, FAR = 500, SIZE = 300, PAGE_KEY = 100, MANY = 4000 };

static uint32_t count;       /* keys of the database */
static uint8_t wanted[MANY]; /* what the value of each key consists of; 0: it is deleted */

static void
set_up(void)
{
    world_create(1);
    memset(wanted, 0, sizeof wanted);
    error_lines = 0;
    count = COUNT;
}

static void
tear_down(void)
{
    if (core != NULL)
        world_end(false);
    sim_env_destroy(sim);
}

static void
start(bool create)
{
    int status = world_start(create);
    ck_assert_msg(status == MSHM_OK, "%d: %s", status, why);
    attach();
}

/* Dies and begins anew. */
static void
again(bool power_cut)
{
    world_end(power_cut);
    start(false);
}

static int
checkpoint(void)
{
    return control(MSHM_MESSAGE_CHECKPOINT, 0);
}

/* size 0: deletes. */
static int
put(uint32_t key, uint8_t fill, uint32_t size)
{
    uint8_t bytes[KEY_MAX], value[SIZE + 1000];
    uint64_t offset, timestamp;
    int wake;
    uint32_t key_size = key_make(0, key, bytes);
    unsigned kind = size > 0 ? MSHM_OP_PUT : MSHM_OP_DELETE;
    uint64_t op_size = mshm_op_size((uint16_t)key_size, size);
    memset(value, fill, sizeof value);
    ck_assert_int_eq(mshm_producer_arena(&producer, op_size, &offset), MSHM_OK);
    mshm_op_write((uint8_t *)segment + MSHM_SESSION_ARENA + offset, bucket_find(0)->id, kind, bytes,
                  (uint16_t)key_size, value, size);
    uint64_t sequence =
        mshm_producer_publish(&producer, MSHM_REQUEST_ONE_CALL, MSHM_REQUEST_LEVEL_SYNC, 0, 0, 0,
                              offset, op_size, 1, &wake);
    int status = answer(sequence, wake, &timestamp);
    if (status == MSHM_OK)
        wanted[key] = size > 0 ? fill : 0;
    return status;
}

static int
look(uint32_t key)
{
    static uint8_t value[VALUE_MAX];
    uint64_t size = 0;
    int status = get(0, key, 0, 0, value, &size);
    if (status == MSHM_NOT_FOUND)
        ck_assert_int_eq(wanted[key], 0);
    if (status != MSHM_OK)
        return status;
    ck_assert_uint_gt(size, 0);
    for (uint64_t i = 0; i < size; i++)
        ck_assert_int_eq(value[i], wanted[key]);
    return MSHM_OK;
}

static void
look_at_all(void)
{
    for (uint32_t key = 0; key < count; key++) {
        int status = look(key);
        ck_assert_msg(status == MSHM_OK || status == MSHM_NOT_FOUND, "key %d: %d", (int)key,
                      status);
    }
}

static void
evict(void)
{
    tree_ahead_begin(core->tree);
    for (int i = 0; i < 4; i++)
        pages_evict(core->pages, options.cache_size, sim_env_now(sim) + UINT64_C(1000000000));
}

static void
fill(void)
{
    start(true);
    ck_assert_int_eq(control(MSHM_MESSAGE_BUCKET_CREATE, 0), MSHM_OK);
    for (uint32_t key = 0; key < count; key++)
        ck_assert_int_eq(put(key, 1, SIZE), MSHM_OK);
    ck_assert_int_eq(checkpoint(), MSHM_OK);
}

/* Where the leaf of a key is, which is out of memory. */
static data_location
leaf_of(uint32_t key, mshm_pid *pid)
{
    *pid = leaf_absent(0, key);
    ck_assert_uint_ne(*pid, 0);
    return pages_location(core->pages, *pid);
}

/* --- how a record becomes unreadable --- */

enum harm { HARM_IO, HARM_ROT, HARMS };

static char bad_name[DATA_NAME_SIZE];
static data_location bad;

static void
rot_flip(void)
{
    struct sim_inode *inode = sim_disk_find(sim_env_disk(sim), bad_name);
    ck_assert_ptr_nonnull(inode);
    inode->cache[data_location_offset(bad) + 40] ^= 1;
    inode->durable[data_location_offset(bad) + 40] ^= 1;
}

static void
harm(enum harm how, data_location location)
{
    bad = location;
    data_name(bad_name, data_location_file(location));
    if (how == HARM_ROT)
        rot_flip();
    else
        sim_env_set_bad(sim, bad_name, data_location_offset(location),
                        data_location_size(location));
}

static void
heal(enum harm how)
{
    if (how == HARM_ROT)
        rot_flip();
    else
        sim_env_set_bad(sim, NULL, 0, 0);
}

static uint64_t
strays(void)
{
    return AO_load(&core->figures->counters.pages_stray);
}

/* As many deltas on the page as it may have, each too large to be one with the one before, or with what follows: whatever is
 * written to it next makes the checkpoint read it. Where its newest record is. */
static data_location
chain_fill(void)
{
    mshm_pid pid;
    for (unsigned i = 0; i < DATA_CHAIN_MAX; i++) {
        evict();
        ck_assert_int_eq(put(PAGE_KEY + i, (uint8_t)(2 + i), SIZE + 1000), MSHM_OK);
        ck_assert_int_eq(checkpoint(), MSHM_OK);
    }
    evict();
    data_location location = leaf_of(PAGE_KEY, &pid);
    ck_assert_uint_eq(data_location_older(location), DATA_CHAIN_MAX);
    return location;
}

/* Writes blind to the page until it takes no more: how many came in. */
static unsigned
put_most(uint8_t fill_first, int refusal)
{
    unsigned writes = 0;
    for (;; writes++) {
        ck_assert_uint_lt(writes, 100);
        int status = put(PAGE_KEY, (uint8_t)(fill_first + writes), SIZE);
        if (status == MSHM_OK)
            continue;
        ck_assert_int_eq(status, refusal);
        return writes;
    }
}

/* --- cases --- */

/* The whole story: unreadable at one checkpoint and the next, deaths, more writes, until the device answers again. */
static void
story(enum harm how, data_location location)
{
    int refusal = how == HARM_ROT ? MSHM_CORRUPT : MSHM_IO;
    unsigned lines;
    harm(how, location);
    ck_assert_uint_gt(put_most(10, refusal), 3);
    ck_assert_int_eq(put(FAR, 10, SIZE), MSHM_OK);
    lines = error_lines; /* the page could not be read for the last put */
    ck_assert_int_eq(checkpoint(), MSHM_OK);
    ck_assert_uint_eq(strays(), 1);
    ck_assert_uint_eq(error_lines, lines + 1);
    ck_assert_uint_eq(core->manifest.cut.timestamp, core->applied);
    ck_assert_int_eq(look(PAGE_KEY), refusal);
    ck_assert_int_eq(look(FAR), MSHM_OK);

    ck_assert_int_eq(checkpoint(), MSHM_OK); /* it is tried again, and not told again */
    ck_assert_uint_eq(strays(), 1);
    ck_assert_uint_eq(error_lines, lines + 1);

    for (unsigned life = 0; life < 3; life++) { /* no start fails, or loses anything */
        again(life == 1);
        ck_assert_uint_eq(strays(), 1);
        ck_assert_int_eq(look(PAGE_KEY), refusal);
        ck_assert_int_eq(put(FAR, (uint8_t)(20 + life), SIZE), MSHM_OK);
        int status = put(PAGE_KEY + 1, (uint8_t)(20 + life), 20); /* perhaps there is room for it */
        ck_assert(status == MSHM_OK || status == refusal);
        if (life == 1)
            ck_assert_int_eq(checkpoint(), MSHM_OK);
    }
    heal(how);
    ck_assert_int_eq(checkpoint(), MSHM_OK);
    ck_assert_uint_eq(strays(), 0);
    look_at_all();
    again(false);
    ck_assert_uint_eq(strays(), 0);
    look_at_all();
    account_check();
}

START_TEST(unreadable_page_keeps_its_writes_and_everything_else_goes_on)
{
    fill();
    story((enum harm)_i, chain_fill());
}
END_TEST

/* Nobody has to read a page to put a delta on its full record, as long as that is remembered. */
START_TEST(page_that_need_not_be_read_takes_a_delta_whatever_it_is_like)
{
    enum harm how = _i % 2 == 0 ? HARM_ROT : HARM_IO;
    int refusal = how == HARM_ROT ? MSHM_CORRUPT : MSHM_IO;
    bool remembered = _i < 2;
    mshm_pid pid;
    fill();
    evict();
    if (!remembered)
        again(false);
    harm(how, leaf_of(PAGE_KEY, &pid));
    ck_assert_int_eq(put(PAGE_KEY, 9, SIZE), MSHM_OK);
    ck_assert_int_eq(checkpoint(), MSHM_OK);
    ck_assert_uint_eq(strays(), remembered ? 0 : 1);
    ck_assert_uint_eq(data_location_older(pages_location(core->pages, pid)), 1 - strays());
    ck_assert_int_eq(look(PAGE_KEY), refusal);
    heal(how);
    ck_assert_int_eq(checkpoint(), MSHM_OK);
    ck_assert_uint_eq(strays(), 0);
    look_at_all();
    again(true);
    look_at_all();
    account_check();
}
END_TEST

/* The newest record can be read, and there is no room in its chain. */
START_TEST(page_whose_chain_is_full_and_lost_keeps_its_writes)
{
    data_location older[DATA_CHAIN_MAX], location;
    _Alignas(64) uint8_t record[MSHM_MAX_FRAME];
    fill();
    location = chain_fill();
    ck_assert_int_eq(data_read(core->data, location, 0, record, data_location_size(location)),
                     MSHM_OK);
    page_record_older(record, older);
    story((enum harm)_i, older[DATA_CHAIN_MAX - 1]);
}
END_TEST

/* A checkpoint is sealed, and its first job does not end. */
static void
checkpoint_hold(void)
{
    uint64_t sealed = core->checkpoint->sealed;
    sim_env_set_job_ns(sim, UINT64_C(100000000000));
    (void)checkpoint_request(core);
    while (core->checkpoint->sealed == sealed || !core->checkpoint->packing)
        turn();
    sim_env_set_job_ns(sim, 0);
}

static void
checkpoint_release(void)
{
    uint64_t done = core->checkpoint->done;
    sim_env_advance(sim, UINT64_C(100000000000));
    while (core->checkpoint->done == done && !world_dead())
        turn();
    ck_assert(!world_dead());
}

/* As much as a page takes before a seal, and again before it turns out that the page cannot be read: all of that waits at
 * once, and a start has to take it in at once. */
START_TEST(two_lists_of_writes_wait_together_and_are_replayed_together)
{
    fill();
    harm(HARM_IO, chain_fill());
    ck_assert_uint_gt(put_most(10, MSHM_IO), 3);
    checkpoint_hold();
    ck_assert_uint_gt(put_most(50, MSHM_IO), 3);
    checkpoint_release();
    ck_assert_uint_eq(strays(), 1);
    ck_assert_int_eq(put(PAGE_KEY, 99, SIZE), MSHM_IO);
    if (_i >
        0) { /* the first list is in the manifest, the second in the log; or both in the manifest */
        if (_i > 1)
            ck_assert_int_eq(checkpoint(), MSHM_OK);
        again(_i % 2 == 0);
        ck_assert_uint_eq(strays(), 1);
    }
    checkpoint_hold(); /* what is sealed counts, too */
    ck_assert_int_eq(put(PAGE_KEY, 99, SIZE), MSHM_IO);
    checkpoint_release();
    heal(HARM_IO);
    if (_i == 3)
        ck_assert_int_eq(checkpoint(), MSHM_OK);
    look_at_all();
    ck_assert_int_eq(put(PAGE_KEY, 99, SIZE), MSHM_OK);
    ck_assert_int_eq(checkpoint(), MSHM_OK);
    ck_assert_uint_eq(strays(), 0);
    look_at_all();
    account_check();
}
END_TEST

/* No page can be read, and more writes wait than the manifest takes: commits are told why they fail, and when the device
 * answers again all is as it was. */
START_TEST(device_that_reads_nothing_refuses_writes_with_the_reason)
{
    mshm_pid pid;
    count = MANY;
    fill();
    evict();
    for (uint32_t key = 0; key < count; key += 3) /* the inner pages come in */
        (void)leaf_of(key, &pid);
    sim_env_set_bad(sim, "data/", 0, UINT64_MAX / 2);
    for (uint32_t i = 0; i < 4 * count && !core->short_of_clean; i++) {
        int status = put(i * 7 % count, (uint8_t)(3 + i / count), 100);
        ck_assert(status == MSHM_OK || status == MSHM_IO);
    }
    ck_assert(core->short_of_clean);
    ck_assert_int_eq(put(1, 100, 100), MSHM_IO);
    ck_assert(!core_poisoned(core));
    ck_assert_int_eq(checkpoint(), MSHM_IO);
    sim_env_set_bad(sim, NULL, 0, 0);
    idle(10000);
    ck_assert_int_eq(checkpoint(), MSHM_OK);
    ck_assert_uint_eq(strays(), 0);
    ck_assert_int_eq(put(1, 200, SIZE), MSHM_OK);
    look_at_all();
    account_check();
}
END_TEST

/* The head of its newest record is only needed to count what is garbage: what stays counted is told. */
START_TEST(page_that_is_freed_need_not_be_readable)
{
    mshm_pid pid;
    fill();
    evict();
    ck_assert_int_eq(put(PAGE_KEY, 2, SIZE), MSHM_OK);
    ck_assert_int_eq(checkpoint(), MSHM_OK);
    evict();
    data_location location = leaf_of(PAGE_KEY, &pid);
    ck_assert_uint_eq(data_location_older(location), 1);
    harm((enum harm)_i, location);
    if (_i > 0)
        ck_assert_int_eq(put(PAGE_KEY, 3, SIZE), MSHM_OK);
    ck_assert_int_eq(checkpoint(), MSHM_OK);
    ck_assert_uint_eq(strays(), _i > 0);
    unsigned lines = warning_lines;
    ck_assert_int_eq(control(MSHM_MESSAGE_BUCKET_DROP, 0), MSHM_OK);
    idle(3000);
    ck_assert_int_eq(checkpoint(), MSHM_OK);
    ck_assert_uint_eq(strays(), 0);
    ck_assert_uint_eq(pages_location(core->pages, pid), 0);
    ck_assert_uint_eq(warning_lines, lines + 1);
    again(true);
    ck_assert_ptr_null(bucket_find(0));
}
END_TEST

/* A page in memory whose frame makes no sense is this broker's fault: what was written to it is in the log, and nowhere else. */
START_TEST(frame_that_cannot_be_packed_ends_the_incarnation)
{
    mshm_pid pid;
    fill();
    evict();
    (void)leaf_of(PAGE_KEY, &pid);
    ck_assert_int_eq(look(PAGE_KEY), MSHM_OK);
    ck_assert_int_eq(put(PAGE_KEY, 2, SIZE), MSHM_OK);
    AO_t word = AO_load(frames_map(core->frames, pid));
    ck_assert_uint_eq(mshm_map_state(word), MSHM_MAP_RESIDENT);
    struct mshm_page *page = (void *)frames_address(core->frames, word);
    page->pid ^= 64;
    (void)checkpoint();
    ck_assert(core_poisoned(core));
    again(false);
    look_at_all();
}
END_TEST

int
main(void)
{
    Suite *suite = suite_create("checkpoint_stray");
    TCase *tests = tcase_create("checkpoint_stray");
    tcase_set_timeout(tests, 120);
    tcase_add_checked_fixture(tests, set_up, tear_down);
    tcase_add_loop_test(tests, unreadable_page_keeps_its_writes_and_everything_else_goes_on, 0,
                        HARMS);
    tcase_add_loop_test(tests, page_that_need_not_be_read_takes_a_delta_whatever_it_is_like, 0, 4);
    tcase_add_loop_test(tests, page_whose_chain_is_full_and_lost_keeps_its_writes, 0, HARMS);
    tcase_add_loop_test(tests, two_lists_of_writes_wait_together_and_are_replayed_together, 0, 4);
    tcase_add_test(tests, device_that_reads_nothing_refuses_writes_with_the_reason);
    tcase_add_loop_test(tests, page_that_is_freed_need_not_be_readable, 0, 2);
    tcase_add_test(tests, frame_that_cannot_be_packed_ends_the_incarnation);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
