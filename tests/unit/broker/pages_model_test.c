/* The table of pages against an oracle: random histories of everything that the tree, the pager, eviction and the
 * checkpoint do to it, in any order that they may. The oracle knows for each pid the set of (key, timestamp) that a
 * reader must find now, the set as of the cut of the checkpoint in flight, and the set that the manifest must lead
 * to. */
#include "unit/broker/pages_fixture.h"

enum {
    CACHE = 1 << 20,
    LIVE_MOST = 160, /* pages; more than the cache holds */
    KEYS = 60,
    KEPT_MOST = 30, /* versions in a page before it is made smaller */
    READS = 4,
    STEPS = 40000,
};

struct model_page {
    bool live;
    struct content now;
    bool image_live; /* as of the cut in flight */
    struct content image;
    bool durable_live; /* as the manifest says */
    struct content durable;
    uint32_t pins;
    uint64_t freed_flight;  /* the checkpoint in flight when it was freed; 0: none */
    uint64_t freed_bracket; /* the bracket open then; 0: none */
    bool freed_held;        /* pids were held then, and still are */
};

enum phase { IDLE, PACKING, EDITED, SLICING };

/* A page on its way in. */
struct reading {
    mshm_pid pid; /* 0: unused */
    data_location location;
    struct content content;
};

static struct {
    struct world world;
    struct model_page pages[WORLD_PIDS];
    uint32_t live;
    enum phase phase;
    uint64_t flights; /* checkpoints sealed so far */
    struct reading readings[READS];
    uint64_t brackets; /* opened so far */
    AO_t bracket;      /* epoch of the open one, 0: none */
    bool hold;
    uint64_t random;
    uint64_t evicted, restarts, blind, installed, outdated, moved;
} model;

static uint64_t
chance(uint64_t below)
{
    return fixture_random(&model.random) % below;
}

static struct model_page *
page_at(mshm_pid pid)
{
    REQUIRE(pid > 0 && pid < WORLD_PIDS);
    return &model.pages[pid];
}

/* A random live page whose word is in this state (0: in any). */
static mshm_pid
page_pick(unsigned state)
{
    for (unsigned tries = 0; tries < 64; tries++) {
        mshm_pid pid = (mshm_pid)(1 + chance(frames_pid_end(model.world.store.frames)));
        if (pid < WORLD_PIDS && model.pages[pid].live &&
            (state == 0 || page_state_now(&model.world, pid) == state))
            return pid;
    }
    return 0;
}

/* --- what must hold --- */

static void
page_verify(mshm_pid pid)
{
    const struct model_page *page = page_at(pid);
    if (!page->live) {
        REQUIRE(page_state_now(&model.world, pid) == MSHM_MAP_NONE ||
                page_state_now(&model.world, pid) == MSHM_MAP_MOVED);
        return;
    }
    struct content now = page_content_now(&model.world, pid);
    REQUIRE_CONTENT(&now, &page->now);
    REQUIRE(pages_newest(model.world.pages, pid) >= content_newest(&page->now));
    REQUIRE(pages_newest(model.world.pages, pid) <= model.world.clock);
    REQUIRE(page->pins == 0 || page_state_now(&model.world, pid) == MSHM_MAP_RESIDENT);
}

static void
durable_verify(mshm_pid pid)
{
    const struct model_page *page = page_at(pid);
    data_location location = model.world.manifest[pid];
    REQUIRE((location != 0) == page->durable_live);
    if (location == 0)
        return;
    struct content disk = manifest_content(&model.world, pid);
    REQUIRE_CONTENT(&disk, &page->durable);
}

static void
everything_verify(void)
{
    mshm_pid end = frames_pid_end(model.world.store.frames);
    for (mshm_pid pid = 1; pid < end; pid++) {
        page_verify(pid);
        durable_verify(pid);
    }
    world_check(&model.world);
    if (model.phase != EDITED)
        durable_check(&model.world);
}

/* --- what the tree does --- */

/* Nobody may still hold this pid. */
static void
pid_verify(mshm_pid pid)
{
    const struct model_page *page = page_at(pid);
    REQUIRE(!page->live && model.world.manifest[pid] == 0 && !page->durable_live);
    REQUIRE(model.phase == IDLE || (!page->image_live && page->freed_flight != model.flights));
    REQUIRE(model.bracket == 0 || page->freed_bracket != model.brackets ||
            AO_load(&model.world.store.store->revoked) >= model.bracket);
    REQUIRE(!page->freed_held);
}

static mshm_pid
pid_take(void)
{
    mshm_pid pid = pages_pid_allocate(model.world.pages);
    if (pid != 0)
        pid_verify(pid);
    return pid;
}

static void
page_begin(mshm_pid pid, const struct content *content)
{
    struct model_page *page = page_at(pid);
    page->live = true;
    page->now = *content;
    page->pins = 0;
    model.live++;
}

static unsigned
class_pick(void)
{
    return (unsigned)chance(4) == 0 ? 2 : 1;
}

static void
step_make(void)
{
    struct content content = {0};
    if (model.live >= LIVE_MOST)
        return;
    mshm_pid pid = pid_take();
    if (pid == 0)
        return;
    model.world.clock++;
    uint64_t count = chance(10);
    for (uint64_t i = 0; i < count; i++)
        content_add(&content, (uint16_t)(chance(6) * 10 + i), model.world.clock);
    if (chance(8) == 0 || !page_publish(&model.world, pid, &content, class_pick(), true))
        pages_pid_return(model.world.pages, pid);
    else
        page_begin(pid, &content);
}

static void
step_split(void)
{
    mshm_pid left = page_pick(MSHM_MAP_RESIDENT);
    if (left == 0 || page_at(left)->now.count < 4 || model.live >= LIVE_MOST)
        return;
    mshm_pid right = pid_take();
    if (right == 0)
        return;
    const struct content whole = page_at(left)->now;
    struct content low = {0}, high = {0};
    for (unsigned i = 0; i < whole.count; i++)
        content_add(i < whole.count / 2 ? &low : &high, whole.items[i].key,
                    whole.items[i].timestamp);
    if (!page_publish(&model.world, right, &high, 1, true)) {
        pages_pid_return(model.world.pages, right);
        return;
    }
    page_begin(right, &high);
    AO_t word = frame_build(&model.world, left, &low, 1);
    if (word ==
        0) { /* the tree sets frames aside first; here the right page simply begins with copies */
        return;
    }
    pages_publish(model.world.pages, left, word, content_newest(&low), true);
    page_at(left)->now = low;
}

/* A new frame for a page in memory: the same, or without some of its versions. */
static void
step_rebuild(void)
{
    mshm_pid pid = page_pick(MSHM_MAP_RESIDENT);
    if (pid == 0)
        return;
    struct model_page *page = page_at(pid);
    struct content rest = {0};
    bool smaller = page->now.count > KEPT_MOST || chance(4) == 0;
    for (unsigned i = 0; i < page->now.count; i++)
        if (!smaller || chance(3) != 0)
            content_add(&rest, page->now.items[i].key, page->now.items[i].timestamp);
    if (page_publish(&model.world, pid, &rest, class_pick(), smaller))
        page->now = rest;
}

static void
step_append(void)
{
    mshm_pid pid = page_pick(MSHM_MAP_RESIDENT);
    uint16_t key = (uint16_t)chance(KEYS);
    if (pid == 0 || page_at(pid)->now.count >= KEPT_MOST + 8)
        return;
    if (page_append(&model.world, pid, key))
        content_add(&page_at(pid)->now, key, model.world.clock);
}

static void
step_write_blind(void)
{
    mshm_pid pid = page_pick(MSHM_MAP_ON_DISK);
    uint16_t key = (uint16_t)chance(KEYS);
    if (pid == 0 || page_at(pid)->now.count >= KEPT_MOST + 8)
        return;
    if (page_write_blind(&model.world, pid, key)) {
        content_add(&page_at(pid)->now, key, model.world.clock);
        model.blind++;
    }
}

static void
page_end(mshm_pid pid, bool merged)
{
    struct model_page *page = page_at(pid);
    pages_free(model.world.pages, pid, merged);
    REQUIRE(page_state_now(&model.world, pid) == (merged ? MSHM_MAP_MOVED : MSHM_MAP_NONE));
    page->live = false;
    page->pins = 0;
    page->freed_flight = model.phase == IDLE ? 0 : model.flights;
    page->freed_bracket = model.bracket != 0 ? model.brackets : 0;
    page->freed_held = model.hold;
    model.live--;
}

static void
step_free(void)
{
    mshm_pid pid = page_pick(0);
    if (pid != 0 && model.live > LIVE_MOST / 4)
        page_end(pid, chance(2) == 0);
}

static void
step_merge(void)
{
    mshm_pid left = page_pick(MSHM_MAP_RESIDENT), right = page_pick(MSHM_MAP_RESIDENT);
    if (left == 0 || right == 0 || left == right)
        return;
    struct content both = page_at(left)->now;
    const struct content *more = &page_at(right)->now;
    if (both.count + more->count > KEPT_MOST)
        return;
    for (unsigned i = 0; i < more->count; i++) /* a write that a failed split has left in both */
        for (unsigned j = 0; j < both.count; j++)
            if (both.items[j].timestamp == more->items[i].timestamp)
                return;
    content_add_all(&both, more);
    if (!page_publish(&model.world, left, &both, class_pick(), true))
        return;
    page_at(left)->now = both;
    page_end(right, true);
}

static void
step_pin(void)
{
    mshm_pid pid = page_pick(MSHM_MAP_RESIDENT);
    if (pid == 0)
        return;
    if (page_at(pid)->pins > 0) {
        pages_unpin(model.world.pages, pid);
        page_at(pid)->pins--;
    } else if (chance(4) == 0) {
        pages_pin(model.world.pages, pid);
        page_at(pid)->pins++;
    }
}

/* --- reading in and moving out --- */

static void
step_read_begin(void)
{
    struct reading *reading = &model.readings[chance(READS)];
    mshm_pid pid = page_pick(MSHM_MAP_ON_DISK);
    if (reading->pid != 0 || pid == 0)
        return;
    for (unsigned i = 0; i < READS; i++)
        if (model.readings[i].pid == pid)
            return;
    *reading = (struct reading){.pid = pid, .location = pages_location(model.world.pages, pid)};
    reading->content = chain_content(&model.world, reading->location);
}

static void
step_read_end(void)
{
    struct reading *reading = &model.readings[chance(READS)];
    mshm_pid pid = reading->pid;
    if (pid == 0)
        return;
    reading->pid = 0;
    if (pages_location(model.world.pages, pid) != reading->location) {
        model.outdated++;
        return;
    }
    struct record record = *record_at(&model.world, reading->location);
    struct blind *blind = pages_blind(model.world.pages);
    list_add(&reading->content, blind_sealed(blind, pid), record.cut);
    list_add(&reading->content, blind_gathered(blind, pid), record.cut);
    AO_t word = frame_build(&model.world, pid, &reading->content, 1);
    if (word == 0)
        return;
    pages_install(model.world.pages, pid, word, record.birth, record.cut,
                  record_below(&model.world, &record), record.older,
                  blind_gathered(blind, pid) != NULL);
    model.installed++;
}

static void
step_evict(void)
{
    model.evicted +=
        pages_evict(model.world.pages, (1 + chance(8)) * 8192, model.world.store.now_ns) > 0;
}

static void
step_hints(void)
{
    for (unsigned i = 0; i < 8; i++)
        model.world.hints[chance(CACHE / MSHM_UNIT)] = (uint8_t)chance(256);
}

/* --- the checkpoint --- */

static void
step_seal(void)
{
    checkpoint_seal(&model.world);
    model.flights++;
    model.phase = PACKING;
    for (mshm_pid pid = 1; pid < WORLD_PIDS; pid++) {
        model.pages[pid].image_live = model.pages[pid].live;
        model.pages[pid].image = model.pages[pid].now;
    }
}

static void
step_pack(void)
{
    struct world *world = &model.world;
    if (world->job.count == 0 && world->next < pages_sealed_count(world->pages)) {
        job_take(world, (uint32_t)(1 + chance(JOB_PAGES)));
    } else if (world->job.count > 0 && !world->job.ran) {
        job_run(world, &model.random);
    } else if (world->job.count > 0 && chance(8) == 0) {
        job_take(world,
                 (uint32_t)(1 + chance(JOB_PAGES))); /* it failed, and all of it is taken anew */
    } else if (world->job.count > 0) {
        job_finish(world);
    } else {
        manifest_edit(world);
        model.phase = EDITED;
        for (mshm_pid pid = 1; pid < WORLD_PIDS; pid++) {
            model.pages[pid].durable_live = model.pages[pid].image_live;
            model.pages[pid].durable = model.pages[pid].image;
            durable_verify(pid);
        }
    }
}

static void
step_publish(void)
{
    bool more = pages_published(model.world.pages, (uint32_t)(1 + chance(12)));
    model.phase = more ? SLICING : IDLE;
    if (more)
        return;
    REQUIRE(blind_sealed_bytes(pages_blind(model.world.pages)) == 0);
    for (mshm_pid pid = 1; pid < WORLD_PIDS; pid++)
        model.pages[pid].image_live = false;
}

static void
step_checkpoint(void)
{
    if (model.phase == IDLE)
        step_seal();
    else if (model.phase == PACKING)
        step_pack();
    else
        step_publish();
}

/* The broker dies: what the manifest leads to is what there is. */
static void
step_restart(void)
{
    struct world *world = &model.world;
    if (model.bracket != 0)
        return;
    struct world old = *world;
    world->records = NULL;
    world_fini(world);
    world_init(world, CACHE, 1000000);
    world->clock = old.clock;
    world->records = old.records;
    world->record_count = old.record_count;
    world->fulls = old.fulls;
    world->deltas = old.deltas;
    world->nothings = old.nothings;
    world->merged = old.merged;
    world->record_capacity = old.record_capacity;
    memcpy(world->manifest, old.manifest, sizeof(world->manifest));
    memcpy(world->manifest_strays, old.manifest_strays, sizeof(world->manifest_strays));
    world->carried = old.carried;
    memset(model.readings, 0, sizeof(model.readings));
    model.phase = IDLE;
    model.live = 0;
    model.hold = false;
    for (mshm_pid pid = WORLD_PIDS - 1; pid > 0; pid--) {
        struct model_page *page = &model.pages[pid];
        *page = (struct model_page){.live = page->durable_live,
                                    .now = page->durable,
                                    .durable_live = page->durable_live,
                                    .durable = page->durable};
        model.live += page->live;
        if (page->live)
            REQUIRE_STATUS(pages_restore(world->pages, pid, world->manifest[pid]), MSHM_OK);
    }
    REQUIRE_STATUS(pages_restored(world->pages, world->clock), MSHM_OK);
    for (mshm_pid pid = 1; pid < WORLD_PIDS; pid++)
        if (world->manifest[pid] != 0)
            manifest_restore_strays(world, pid);
    model.restarts++;
}

/* --- time --- */

static void
step_bracket(void)
{
    struct fixture *store = &model.world.store;
    if (model.bracket != 0) {
        mshm_bracket_close(store->store, &store->lanes[0], model.bracket);
        model.bracket = 0;
    } else {
        model.bracket = mshm_bracket_open(store->store, &store->lanes[0]);
        model.brackets++;
    }
}

static void
step_time(void)
{
    model.world.store.now_ns += chance(500000);
    frames_reclaim(model.world.store.frames, chance(4) == 0);
}

static void
step_hold(void)
{
    model.hold = !model.hold;
    pages_hold_pids(model.world.pages, model.hold);
    for (mshm_pid pid = 1; pid < WORLD_PIDS; pid++)
        model.pages[pid].freed_held = false;
}

static void
step(void)
{
    static const struct {
        void (*step)(void);
        unsigned weight;
    } steps[] = {
        {step_make, 60},         {step_split, 30},    {step_rebuild, 80}, {step_append, 200},
        {step_write_blind, 120}, {step_free, 25},     {step_merge, 40},   {step_pin, 20},
        {step_read_begin, 60},   {step_read_end, 60}, {step_evict, 40},   {step_hints, 30},
        {step_checkpoint, 200},  {step_bracket, 10},  {step_time, 60},    {step_hold, 2},
    };
    unsigned all = 0;
    for (unsigned i = 0; i < sizeof(steps) / sizeof(*steps); i++)
        all += steps[i].weight;
    unsigned at = (unsigned)chance(all);
    for (unsigned i = 0;; i++) {
        if (at < steps[i].weight) {
            steps[i].step();
            return;
        }
        at -= steps[i].weight;
    }
}

START_TEST(random_histories_read_as_the_oracle_says_in_memory_and_on_disk)
{
    memset(&model, 0, sizeof(model));
    model.random = fixture_seed((uint64_t)_i + 1);
    world_init(&model.world, CACHE, 1000000);
    for (unsigned i = 0; i < STEPS; i++) {
        step();
        for (unsigned j = 0; j < 3; j++) {
            mshm_pid pid = page_pick(0);
            if (pid != 0)
                page_verify(pid);
        }
        if (i % 64 == 0)
            everything_verify();
        if (chance(4000) == 0) {
            step_restart();
            everything_verify();
        }
    }
    printf("%llu checkpoints, %llu full, %llu deltas, %llu nothing; %llu evictions, %llu read in, "
           "%llu "
           "outdated, %llu blind, %llu restarts\n",
           (unsigned long long)model.flights, (unsigned long long)model.world.fulls,
           (unsigned long long)model.world.deltas, (unsigned long long)model.world.nothings,
           (unsigned long long)model.evicted, (unsigned long long)model.installed,
           (unsigned long long)model.outdated, (unsigned long long)model.blind,
           (unsigned long long)model.restarts);
    ck_assert_uint_gt(model.flights, 20);
    ck_assert_uint_gt(model.installed, 100);
    ck_assert_uint_gt(model.blind, 100);
    ck_assert_uint_gt(model.outdated, 0);
    ck_assert_uint_gt(model.world.carried, 20);
    world_fini(&model.world);
}
END_TEST

int
main(void)
{
    Suite *suite = suite_create("pages_model");
    TCase *tests = tcase_create("pages_model");
    tcase_set_timeout(tests, 600);
    tcase_add_loop_test(tests, random_histories_read_as_the_oracle_says_in_memory_and_on_disk, 0,
                        6);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
