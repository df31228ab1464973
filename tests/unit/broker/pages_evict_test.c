/* What leaves memory first: the rules one by one, and traces of reads against a cache that holds an eighth of the
 * pages. */
#include "pages.h"

#include "unit/broker/store_fixture.h"

#include <math.h>

enum { PAGE_CLASS = 1, PAGE_SIZE = 8192, HIT_NS = 1000, MISS_NS = 50000 };

static struct fixture fixture;
static struct pages *pages;
static uint8_t *hints;

/* `cache` pages fit, `all` pages are on disk. */
static void
begin(uint64_t cache, uint64_t all, uint64_t fresh_ns)
{
    fixture_init(&fixture, cache * PAGE_SIZE, 0, all + 1);
    hints = calloc(cache * PAGE_SIZE / MSHM_UNIT, 1);
    struct pages_options options = {.hints = hints, .fresh_ns = fresh_ns};
    REQUIRE_STATUS(pages_create(&pages, &options, &fixture.env, fixture.frames, &fixture.geometry),
                   MSHM_OK);
    for (mshm_pid pid = 1; pid <= all; pid++)
        REQUIRE_STATUS(pages_restore(pages, pid, data_location_make(1, 0, pid * DATA_UNIT, 64)),
                       MSHM_OK);
    REQUIRE_STATUS(pages_restored(pages, 1), MSHM_OK);
}

static void
end(void)
{
    const char *why = "";
    if (pages_check(pages, &why) != MSHM_OK)
        ck_abort_msg("pages: %s", why);
    pages_destroy(pages);
    fixture_frames_ok(&fixture);
    frames_destroy(fixture.frames);
    munmap(fixture.base, fixture.geometry.store_size);
    free(hints);
}

static bool
resident(mshm_pid pid)
{
    return mshm_map_state(AO_load(&fixture.view.map[pid])) == MSHM_MAP_RESIDENT;
}

static uint8_t *
hint_of(mshm_pid pid)
{
    AO_t word = AO_load(&fixture.view.map[pid]);
    return &hints[(mshm_map_frame(word) - fixture.geometry.frames_offset) / MSHM_UNIT];
}

static uint64_t
evict(uint64_t bytes)
{
    return pages_evict(pages, bytes, fixture.now_ns);
}

/* The page is read in; room is made when there is none. */
static void
install(mshm_pid pid, uint8_t kind)
{
    uint8_t *frame;
    while ((frame = frames_allocate(fixture.frames, PAGE_CLASS)) == NULL) {
        fixture.now_ns += 100000;
        evict(8 * PAGE_SIZE);
        frames_reclaim(fixture.frames, true);
    }
    struct mshm_page page = {.magic = MSHM_PAGE_MAGIC, .kind = kind, .pid = pid};
    memcpy(frame, &page, sizeof(page));
    pages_install(pages, pid, frames_word(fixture.frames, frame, PAGE_CLASS, 0), 1, 1, 0, NULL,
                  false);
}

/* A reader gets a key of this page: true when it did not have to wait. */
static bool
access_page(mshm_pid pid)
{
    bool hit = resident(pid);
    fixture.now_ns += hit ? HIT_NS : MISS_NS;
    if (!hit)
        install(pid, MSHM_PAGE_LEAF);
    *hint_of(pid) = 1;
    return hit;
}

/* --- the rules --- */

START_TEST(page_that_was_just_read_in_stays_for_a_while)
{
    begin(64, 64, 10000000);
    install(1, MSHM_PAGE_LEAF);
    fixture.now_ns += 9900000;
    ck_assert_uint_eq(evict(PAGE_SIZE), 0);
    ck_assert(resident(1));
    fixture.now_ns += 3000000;
    ck_assert_uint_eq(evict(PAGE_SIZE), PAGE_SIZE);
    ck_assert(!resident(1));
    end();
}
END_TEST

START_TEST(page_used_since_the_last_visit_has_a_second_chance)
{
    begin(64, 64, 0);
    for (mshm_pid pid = 1; pid <= 8; pid++)
        install(pid, MSHM_PAGE_LEAF);
    for (mshm_pid pid = 1; pid <= 8; pid += 2)
        *hint_of(pid) = (uint8_t)(pid == 1 ? 255 : 1); /* any value means the same */
    ck_assert_uint_eq(evict(4 * PAGE_SIZE), 4 * PAGE_SIZE);
    for (mshm_pid pid = 1; pid <= 8; pid++)
        ck_assert(resident(pid) == (pid % 2 == 1));
    ck_assert_uint_eq(evict(UINT64_MAX), 4 * PAGE_SIZE);
    end();
}
END_TEST

START_TEST(inner_pages_stay_longer_than_leaves)
{
    begin(64, 64, 0);
    for (mshm_pid pid = 1; pid <= 32; pid++)
        install(pid, pid % 4 == 0 ? MSHM_PAGE_INNER : MSHM_PAGE_LEAF);
    ck_assert_uint_eq(evict(24 * PAGE_SIZE), 24 * PAGE_SIZE);
    for (mshm_pid pid = 1; pid <= 32; pid++)
        ck_assert(resident(pid) == (pid % 4 == 0));
    ck_assert_uint_eq(evict(UINT64_MAX), 8 * PAGE_SIZE); /* but not for ever */
    end();
}
END_TEST

static void
use_leaves(mshm_pid last)
{
    for (mshm_pid pid = 1; pid <= last; pid += 2)
        *hint_of(pid) = 1;
}

/* Also longer than leaves that are as hot as they are. */
START_TEST(inner_pages_have_more_chances_than_hot_leaves)
{
    begin(64, 64, 0);
    for (mshm_pid pid = 1; pid <= 33; pid++)
        install(pid, pid % 2 == 0 ? MSHM_PAGE_INNER : MSHM_PAGE_LEAF);
    use_leaves(31);
    ck_assert_uint_eq(evict(PAGE_SIZE), PAGE_SIZE); /* 33, after a visit to all others */
    install(35, MSHM_PAGE_LEAF);
    use_leaves(31);
    *hint_of(35) = 1;
    ck_assert_uint_eq(evict(PAGE_SIZE), PAGE_SIZE); /* 35, at its second visit */
    ck_assert(!resident(33) && !resident(35));
    ck_assert_uint_eq(evict(16 * PAGE_SIZE), 16 * PAGE_SIZE);
    for (mshm_pid pid = 1; pid <= 32; pid++)
        ck_assert(resident(pid) == (pid % 2 == 0));
    end();
}
END_TEST

START_TEST(page_keeps_what_it_has_proved_when_its_frame_is_replaced)
{
    begin(64, 64, 0);
    for (mshm_pid pid = 1; pid <= 8; pid++)
        install(pid, MSHM_PAGE_LEAF);
    *hint_of(5) = 1;
    uint8_t *old = hint_of(5), *frame = frames_allocate(fixture.frames, PAGE_CLASS);
    struct mshm_page page = {.magic = MSHM_PAGE_MAGIC, .kind = MSHM_PAGE_LEAF, .pid = 5};
    memcpy(frame, &page, sizeof(page));
    pages_publish(pages, 5, frames_word(fixture.frames, frame, PAGE_CLASS, 0), 5, false);
    ck_assert_uint_eq(*old, 0); /* the next page there begins without */
    REQUIRE_STATUS(pages_seal(pages, 5), MSHM_OK);
    pages_packed(pages, 0, data_location_make(1, 0, 64, 64));
    REQUIRE(!pages_published(pages, 1));
    for (mshm_pid pid = 9; pid <= 12; pid++) /* the hand comes to them after it */
        install(pid, MSHM_PAGE_LEAF);
    ck_assert_uint_eq(evict(11 * PAGE_SIZE), 11 * PAGE_SIZE);
    ck_assert(resident(5));
    end();
}
END_TEST

START_TEST(leaf_that_is_written_to_counts_as_used)
{
    begin(64, 64, 0);
    install(1, MSHM_PAGE_LEAF);
    install(2, MSHM_PAGE_LEAF);
    pages_touch(pages, 1, 5);
    REQUIRE_STATUS(pages_seal(pages, 5), MSHM_OK);
    pages_packed(pages, 0, data_location_make(1, 0, 64, 64));
    REQUIRE(!pages_published(pages, 1));
    ck_assert_uint_eq(evict(PAGE_SIZE), PAGE_SIZE);
    ck_assert(resident(1) && !resident(2));
    end();
}
END_TEST

START_TEST(nothing_is_moved_out_when_nothing_may_leave)
{
    begin(64, 64, 0);
    for (mshm_pid pid = 1; pid <= 60; pid++) {
        install(pid, MSHM_PAGE_LEAF);
        if (pid % 3 == 0)
            pages_pin(pages, pid);
        else
            pages_touch(pages, pid, 5);
    }
    ck_assert_uint_eq(evict(UINT64_MAX), 0);
    pages_unpin(pages, 33);
    ck_assert_uint_eq(evict(UINT64_MAX), PAGE_SIZE);
    end();
}
END_TEST

/* Somebody sets all hints again as soon as they are cleared: what the table sees then. */
static bool lying;

struct page_state;
bool __real_pages_used(const struct pages *table, uint32_t unit, struct page_state *state);
bool __wrap_pages_used(const struct pages *table, uint32_t unit, struct page_state *state);

bool
__wrap_pages_used(const struct pages *table, uint32_t unit, struct page_state *state)
{
    return __real_pages_used(table, unit, state) || lying;
}

START_TEST(hints_that_are_always_set_cannot_keep_the_cache_full)
{
    begin(2048, 2048, 0);
    for (mshm_pid pid = 1; pid <= 2040; pid++)
        install(pid, pid % 8 == 0 ? MSHM_PAGE_INNER : MSHM_PAGE_LEAF);
    lying = true;
    for (unsigned i = 0; i < 2040; i++)
        REQUIRE(evict(1) > 0);
    lying = false;
    end();
}
END_TEST

/* --- traces --- */

enum { CACHE = 2048, ALL = 8 * CACHE };

/* Gets of a hot set, between them a scan over everything, time and again: the share of gets that did not have to
 * wait. */
static double
scan_beside_gets(uint64_t hot, unsigned gets_per_scan_page, uint64_t *random)
{
    uint64_t hits = 0, gets = 0;
    mshm_pid scanned = 1;
    for (unsigned i = 0; i < 20000; i++) /* it gets warm */
        access_page((mshm_pid)(1 + fixture_random(random) % hot * (ALL / hot)));
    for (unsigned i = 0; i < 4 * ALL; i++) {
        access_page(scanned);
        *hint_of(scanned) = 1; /* key by key */
        scanned = scanned % ALL + 1;
        for (unsigned j = 0; j < gets_per_scan_page; j++) {
            mshm_pid pid = (mshm_pid)(1 + fixture_random(random) % hot * (ALL / hot));
            hits += access_page(pid);
            gets++;
        }
    }
    return (double)hits / (double)gets;
}

START_TEST(scan_of_everything_does_not_wash_out_the_hot_set)
{
    static const struct {
        uint64_t hot;
        unsigned gets;
        double wanted;
    } cases[] = {
        {CACHE / 4, 1, 0.97}, {CACHE / 2, 1, 0.97}, {CACHE / 2, 4, 0.99}, {CACHE * 5 / 8, 1, 0.95}};
    uint64_t random = fixture_seed(1);
    for (unsigned i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        begin(CACHE, ALL, 1000000);
        double share = scan_beside_gets(cases[i].hot, cases[i].gets, &random);
        printf("hot set of %llu pages in %u, %u gets per page of the scan: %.4f hits\n",
               (unsigned long long)cases[i].hot, (unsigned)CACHE, cases[i].gets, share);
        end();
        if (share < cases[i].wanted)
            ck_abort_msg("%.4f hits instead of %.4f", share, cases[i].wanted);
    }
}
END_TEST

/* The oracle of the traces without a scan: a list in order of use. */
struct lru {
    uint32_t next[ALL + 1], prev[ALL + 1]; /* 0 is the list's head */
    bool in[ALL + 1];
    uint32_t count;
};

static bool
lru_access(struct lru *lru, mshm_pid pid)
{
    bool hit = lru->in[pid];
    if (hit) {
        lru->next[lru->prev[pid]] = lru->next[pid];
        lru->prev[lru->next[pid]] = lru->prev[pid];
    } else if (lru->count == CACHE) {
        uint32_t oldest = lru->prev[0];
        lru->in[oldest] = false;
        lru->prev[0] = lru->prev[oldest];
        lru->next[lru->prev[oldest]] = 0;
    } else {
        lru->count++;
    }
    lru->in[pid] = true;
    lru->next[pid] = lru->next[0];
    lru->prev[pid] = 0;
    lru->prev[lru->next[0]] = pid;
    lru->next[0] = pid;
    return hit;
}

static double zipf_sums[ALL + 1];

static mshm_pid
zipf_pick(uint64_t *random, uint64_t shift)
{
    double at = (double)(fixture_random(random) >> 11) / 9007199254740992.0 * zipf_sums[ALL];
    uint32_t low = 1, high = ALL;
    while (low < high) {
        uint32_t middle = (low + high) / 2;
        if (zipf_sums[middle] < at)
            low = middle + 1;
        else
            high = middle;
    }
    return (mshm_pid)((low * UINT64_C(7919) + shift) % ALL + 1);
}

static void
zipf_run(double theta, unsigned turns, const char *name, double slack)
{
    static struct lru lru;
    uint64_t random = fixture_seed(2), hits = 0, lru_hits = 0, counted = 0;
    for (unsigned i = 1; i <= ALL; i++)
        zipf_sums[i] = zipf_sums[i - 1] + 1 / pow(i, theta);
    begin(CACHE, ALL, 1000000);
    for (unsigned i = 0; i < 400000; i++) {
        mshm_pid pid = zipf_pick(&random, (uint64_t)(i / (400000 / turns)) * 5003);
        bool hit = access_page(pid), lru_hit = lru_access(&lru, pid);
        if (i < 50000)
            continue;
        counted++;
        hits += hit;
        lru_hits += lru_hit;
    }
    double share = (double)hits / (double)counted, lru_share = (double)lru_hits / (double)counted;
    printf("%s: %.4f hits, LRU %.4f\n", name, share, lru_share);
    end();
    if (share < lru_share - slack)
        ck_abort_msg("%.4f hits, LRU %.4f", share, lru_share);
}

START_TEST(skewed_gets_hit_about_as_often_as_with_least_recently_used)
{
    zipf_run(0.99, 1, "zipfian 0.99", 0);
}
END_TEST

START_TEST(uniform_gets_hit_about_as_often_as_with_least_recently_used)
{
    zipf_run(0, 1, "uniform", 0.01);
}
END_TEST

START_TEST(hot_set_that_moves_is_followed)
{
    zipf_run(0.99, 8, "zipfian 0.99, moving", 0.03);
}
END_TEST

int
main(void)
{
    Suite *suite = suite_create("pages_evict");
    TCase *tests = tcase_create("pages_evict");
    tcase_set_timeout(tests, 300);
    tcase_add_test(tests, page_that_was_just_read_in_stays_for_a_while);
    tcase_add_test(tests, page_used_since_the_last_visit_has_a_second_chance);
    tcase_add_test(tests, inner_pages_stay_longer_than_leaves);
    tcase_add_test(tests, inner_pages_have_more_chances_than_hot_leaves);
    tcase_add_test(tests, page_keeps_what_it_has_proved_when_its_frame_is_replaced);
    tcase_add_test(tests, leaf_that_is_written_to_counts_as_used);
    tcase_add_test(tests, nothing_is_moved_out_when_nothing_may_leave);
    tcase_add_test(tests, hints_that_are_always_set_cannot_keep_the_cache_full);
    tcase_add_test(tests, scan_of_everything_does_not_wash_out_the_hot_set);
    tcase_add_test(tests, skewed_gets_hit_about_as_often_as_with_least_recently_used);
    tcase_add_test(tests, uniform_gets_hit_about_as_often_as_with_least_recently_used);
    tcase_add_test(tests, hot_set_that_moves_is_followed);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
