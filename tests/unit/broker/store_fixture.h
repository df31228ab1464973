/* store_fixture.h - a store in plain memory for the tests of frames and tree: what was not backed cannot be touched, the
 * clock moves when the test says so, and the lanes are an array. */
#ifndef STORE_FIXTURE_H
#define STORE_FIXTURE_H

#include "frames.h"
#include "mshm/protocol.h"
#include "mshm/read.h"
#include "mshm/status.h"
#include "snapshots.h"
#include "tree.h"

#include <check.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

enum { FIXTURE_LANES = 64 };

/* Check writes to a pipe at each of its assertions; a loop of a million needs one that is silent while it holds. */
#define REQUIRE(condition)                  \
    do {                                    \
        if (!(condition))                   \
            ck_abort_msg("%s", #condition); \
    } while (0)
#define REQUIRE_STATUS(call, wanted)                                                  \
    do {                                                                              \
        int require_got = (call), require_wanted = (wanted);                          \
        if (require_got != require_wanted)                                            \
            ck_abort_msg("%s: %d instead of %d", #call, require_got, require_wanted); \
    } while (0)

struct fixture {
    struct env env;
    struct mshm_store_geometry geometry;
    uint8_t *base;
    struct mshm_store *store;
    struct mshm_view view;
    struct frames *frames;
    struct pages *pages;
    struct snapshots snapshots;
    struct tree *tree;
    struct mshm_counters counters;
    struct mshm_lane lanes[FIXTURE_LANES];
    uint64_t now_ns;
    uint64_t backed;     /* bytes made usable so far */
    uint64_t back_limit; /* more than that is refused */
    uint64_t scans;      /* times the lanes were gone through */
};

static uint64_t
fixture_clock(void *context)
{
    return ((struct fixture *)context)->now_ns;
}

static int
fixture_back(void *context, uint64_t offset, uint64_t size)
{
    struct fixture *fixture = context;
    REQUIRE(offset % 4096 == 0 && size % 4096 == 0);
    REQUIRE(offset + size <= fixture->geometry.store_size);
    if (fixture->backed + size > fixture->back_limit)
        return -ENOMEM;
    fixture->backed += size;
    return mprotect(fixture->base + offset, size, PROT_READ | PROT_WRITE) ? -errno : 0;
}

static void
fixture_brackets(void *context, void (*each)(void *, struct mshm_lane *), void *argument)
{
    struct fixture *fixture = context;
    fixture->scans++;
    for (int i = 0; i < FIXTURE_LANES; i++)
        each(argument, &fixture->lanes[i]);
}

static void
fixture_lanes(void *context, void (*each)(void *, mshm_timestamp), void *argument)
{
    struct fixture *fixture = context;
    for (int i = 0; i < FIXTURE_LANES; i++) {
        mshm_timestamp snapshot = AO_load(&fixture->lanes[i].snapshot);
        if (snapshot)
            each(argument, snapshot);
    }
}

static inline void
fixture_collect(void *context)
{
    struct fixture *fixture = context;
    snapshots_collect(&fixture->snapshots, fixture->store, fixture_lanes, fixture, fixture->now_ns);
}

static inline void
fixture_init(struct fixture *fixture, uint64_t cache, uint64_t reserve, uint64_t pids)
{
    memset(fixture, 0, sizeof(*fixture));
    fixture->env =
        (struct env){.context = fixture, .clock_ns = fixture_clock, .store_back = fixture_back};
    fixture->back_limit = UINT64_MAX;
    fixture->now_ns = 1000000000;
    mshm_store_geometry_compute(cache, pids, &fixture->geometry);
    size_t size = fixture->geometry.store_size;
    fixture->base = mmap(NULL, size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    ck_assert_ptr_ne(fixture->base, MAP_FAILED);
    uint64_t head = mshm_align_up(fixture->geometry.map_offset, 4096);
    ck_assert_int_eq(mprotect(fixture->base, head, PROT_READ | PROT_WRITE), 0);
    uint8_t id[16] = {0};
    mshm_store_init(fixture->base, &fixture->geometry, 1, id, 1);
    fixture->store = (struct mshm_store *)(void *)fixture->base;
    AO_store(&fixture->store->visible, 1);
    ck_assert_int_eq(mshm_view_init(&fixture->view, fixture->base, size, NULL), MSHM_OK);
    struct frames_options options = {.frames_size = fixture->geometry.frames_size,
                                     .reserve_size = reserve,
                                     .revoke_after_ns = 1000000};
    ck_assert_int_eq(frames_create(&fixture->frames, &options, &fixture->env, fixture->base,
                                   &fixture->geometry, fixture_brackets, fixture),
                     MSHM_OK);
}

static inline void
fixture_tree(struct fixture *fixture, uint32_t page_size, uint64_t history_limit)
{
    struct tree_options options = {.page_size = page_size, .history_limit = history_limit};
    ck_assert_int_eq(snapshots_init(&fixture->snapshots), MSHM_OK);
    struct pages_options pages_options = {.fresh_ns = 1000000};
    ck_assert_int_eq(pages_create(&fixture->pages, &pages_options, &fixture->env, fixture->frames,
                                  &fixture->geometry),
                     MSHM_OK);
    ck_assert_int_eq(tree_create(&fixture->tree, &options, &fixture->env, fixture->frames,
                                 fixture->pages, &fixture->snapshots, &fixture->view,
                                 &fixture->counters),
                     MSHM_OK);
    tree_set_collect(fixture->tree, fixture_collect, fixture);
}

static inline void
fixture_fini(struct fixture *fixture)
{
    tree_destroy(fixture->tree);
    pages_destroy(fixture->pages);
    snapshots_fini(&fixture->snapshots);
    frames_destroy(fixture->frames);
    munmap(fixture->base, fixture->geometry.store_size);
}

/* Fails the case when frames or a tree are damaged. */
static inline void
fixture_frames_ok(struct fixture *fixture)
{
    const char *why = "";
    int status = frames_check(fixture->frames, &why);
    if (status != MSHM_OK)
        ck_abort_msg("frames: %s", why);
}

static inline uint64_t
fixture_tree_ok(struct fixture *fixture, struct mshm_tree_ref ref)
{
    const char *why = "";
    uint64_t live = 0;
    int status = tree_check(fixture->tree, ref, &live, &why);
    if (status != MSHM_OK)
        ck_abort_msg("tree: %s", why);
    return live;
}

/* The seed of a random test: printed, and taken back from MACE_SEED. */
static inline uint64_t
fixture_seed(uint64_t otherwise)
{
    const char *given = getenv("MACE_SEED");
    uint64_t seed = given ? strtoull(given, NULL, 0) : otherwise;
    printf("MACE_SEED=%llu\n", (unsigned long long)seed);
    fflush(stdout);
    return seed;
}

static inline uint64_t
fixture_random(uint64_t *state)
{
    uint64_t z = *state += UINT64_C(0x9e3779b97f4a7c15);
    z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
    return z ^ z >> 31;
}

#endif
