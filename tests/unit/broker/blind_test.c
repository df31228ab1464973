/* Writes to leaves that are not in memory: the table, the lists, the generations, and what they take of the cache. */
#include "blind.h"

#include "unit/broker/store_fixture.h"

enum { BLOCK = MSHM_MAX_FRAME, LARGEST = MSHM_MAX_KEY + MSHM_MAX_INLINE };

static struct fixture fixture;
static struct blind *blind;
static uint8_t filler[LARGEST];

static void
begin(uint64_t cache)
{
    fixture_init(&fixture, cache, 0, 1024);
    REQUIRE_STATUS(blind_create(&blind, fixture.frames), MSHM_OK);
    for (unsigned i = 0; i < sizeof(filler); i++)
        filler[i] = (uint8_t)(i * 7);
}

static uint64_t
used_bytes(void)
{
    frames_report(fixture.frames, &fixture.counters);
    return AO_load(&fixture.counters.cache_used);
}

static void
check(void)
{
    const char *why = "";
    if (blind_check(blind, &why) != MSHM_OK)
        ck_abort_msg("blind: %s", why);
    REQUIRE(blind_bytes(blind) == used_bytes());
    fixture_frames_ok(&fixture);
}

static void
end(void)
{
    check();
    blind_destroy(blind);
    ck_assert_uint_eq(used_bytes(), 0);
    frames_destroy(fixture.frames);
    munmap(fixture.base, fixture.geometry.store_size);
}

/* The key and value are told by the timestamp. */
static struct mshm_version
version_make(mshm_timestamp timestamp, uint16_t key_size, uint32_t value_size)
{
    return (struct mshm_version){.key = filler + timestamp % 16,
                                 .key_size = key_size,
                                 .value = filler + timestamp % 32,
                                 .value_size = value_size,
                                 .timestamp = timestamp,
                                 .kind = timestamp % 3 ? MSHM_ENTRY_VALUE : MSHM_ENTRY_TOMBSTONE};
}

static void
put(mshm_pid pid, mshm_timestamp timestamp)
{
    struct mshm_version version = version_make(timestamp, 8, 20);
    REQUIRE_STATUS(blind_reserve(blind, 1, 28), MSHM_OK);
    blind_put(blind, pid, &version);
}

static void
entry_check(const struct blind_entry *entry, mshm_timestamp timestamp)
{
    struct mshm_version wanted = version_make(timestamp, entry->key_size, entry->value_size);
    REQUIRE(entry->timestamp == timestamp && entry->kind == wanted.kind);
    REQUIRE(memcmp(entry->bytes, wanted.key, entry->key_size) == 0);
    REQUIRE(memcmp(entry->bytes + entry->key_size, wanted.value, entry->value_size) == 0);
}

/* --- lists --- */

START_TEST(writes_of_a_page_come_back_newest_first)
{
    begin(1 << 20);
    for (mshm_timestamp timestamp = 1; timestamp <= 30; timestamp++)
        put((mshm_pid)(timestamp % 3 + 1), timestamp);
    const struct blind_entry *entry = blind_gathered(blind, 1);
    for (mshm_timestamp timestamp = 30; timestamp > 0;
         timestamp -= 3, entry = blind_entry_older(entry))
        entry_check(entry, timestamp);
    ck_assert_ptr_eq(entry, NULL);
    ck_assert_uint_eq(blind_size(blind, 1), 10 * 28);
    ck_assert_uint_eq(blind_pages(blind), 3);
    ck_assert_ptr_eq(blind_gathered(blind, 4), NULL);
    ck_assert_ptr_eq(blind_sealed(blind, 1), NULL);
    ck_assert_uint_eq(blind_size(blind, 4), 0);
    end();
}
END_TEST

START_TEST(forgotten_list_is_gone_and_begins_anew)
{
    begin(1 << 20);
    put(1, 1);
    put(2, 2);
    blind_forget(blind, 1);
    blind_forget(blind, 9);
    ck_assert_ptr_eq(blind_gathered(blind, 1), NULL);
    ck_assert_uint_eq(blind_size(blind, 1), 0);
    ck_assert_uint_eq(blind_pages(blind), 1);
    put(1, 3);
    entry_check(blind_gathered(blind, 1), 3);
    ck_assert_ptr_eq(blind_entry_older(blind_gathered(blind, 1)), NULL);
    ck_assert_uint_eq(blind_pages(blind), 2);
    end();
}
END_TEST

/* --- generations --- */

START_TEST(sealed_writes_stay_as_they_are_while_others_gather)
{
    begin(1 << 20);
    put(1, 1);
    put(1, 2);
    blind_seal(blind);
    ck_assert_ptr_eq(blind_gathered(blind, 1), NULL);
    ck_assert_uint_eq(blind_pages(blind), 0);
    const struct blind_entry *sealed = blind_sealed(blind, 1);
    for (mshm_timestamp timestamp = 3; timestamp < 2000; timestamp++)
        put((mshm_pid)(timestamp % 50 + 1), timestamp);
    blind_forget(blind, 1);
    ck_assert_ptr_eq(blind_sealed(blind, 1), sealed);
    entry_check(sealed, 2);
    entry_check(blind_entry_older(sealed), 1);
    ck_assert_ptr_eq(blind_entry_older(blind_entry_older(sealed)), NULL);
    blind_release(blind);
    ck_assert_ptr_eq(blind_sealed(blind, 1), NULL);
    ck_assert_uint_eq(blind_pages(blind), 49);
    end();
}
END_TEST

START_TEST(settled_page_has_no_sealed_writes_any_more)
{
    begin(1 << 20);
    put(1, 1);
    put(2, 2);
    blind_seal(blind);
    put(1, 3);
    blind_settle(blind, 1);
    ck_assert_ptr_eq(blind_sealed(blind, 1), NULL);
    entry_check(blind_sealed(blind, 2), 2);
    entry_check(blind_gathered(blind, 1), 3);
    end();
}
END_TEST

START_TEST(generation_gives_its_frames_back_at_the_release_and_unused_ones_at_the_seal)
{
    begin(4 << 20);
    REQUIRE_STATUS(blind_reserve(blind, 100, 10 * BLOCK), MSHM_OK);
    ck_assert_uint_ge(blind_bytes(blind), 10 * BLOCK);
    put(1, 1);
    blind_seal(blind);
    ck_assert_uint_eq(blind_bytes(blind), BLOCK);
    ck_assert_uint_eq(blind_sealed_bytes(blind), BLOCK);
    put(1, 2);
    ck_assert_uint_eq(blind_bytes(blind), 2 * BLOCK);
    blind_release(blind);
    ck_assert_uint_eq(blind_bytes(blind), BLOCK);
    ck_assert_uint_eq(blind_sealed_bytes(blind), 0);
    blind_forget(blind, 1);
    blind_seal(blind);
    blind_release(blind);
    REQUIRE_STATUS(blind_reserve(blind, 1, 10), MSHM_OK);
    blind_seal(blind); /* nothing was written at all */
    ck_assert_uint_eq(used_bytes(), 0);
    end();
}
END_TEST

/* --- room --- */

START_TEST(reserved_writes_find_room_whatever_their_sizes)
{
    uint64_t random = fixture_seed(1);
    begin(32 << 20);
    mshm_timestamp timestamp = 0;
    for (unsigned i = 0; i < 3000; i++) {
        uint32_t sizes[40], count = (uint32_t)(1 + fixture_random(&random) % 40);
        uint64_t bytes = 0, most = fixture_random(&random) % 8 == 0 ? LARGEST : 300;
        for (uint32_t j = 0; j < count; j++)
            bytes += sizes[j] = (uint32_t)(1 + fixture_random(&random) % most);
        REQUIRE_STATUS(blind_reserve(blind, count, bytes), MSHM_OK);
        uint64_t before = blind_bytes(blind);
        for (uint32_t j = 0; j < count; j++) {
            uint16_t key = (uint16_t)(sizes[j] < MSHM_MAX_KEY ? 1 : sizes[j] - MSHM_MAX_INLINE / 2);
            if (key > MSHM_MAX_KEY)
                key = MSHM_MAX_KEY;
            struct mshm_version version = version_make(++timestamp, key, sizes[j] - key);
            version.key = version.value = filler;
            blind_put(blind, (mshm_pid)(1 + fixture_random(&random) % 500), &version);
        }
        REQUIRE(blind_bytes(blind) == before);
        if (i % 100 == 99) {
            check();
            blind_seal(blind);
            blind_release(blind);
        }
    }
    end();
}
END_TEST

START_TEST(reserving_what_was_reserved_takes_nothing_more)
{
    begin(4 << 20);
    for (unsigned i = 0; i < 1000; i++)
        REQUIRE_STATUS(blind_reserve(blind, 10, 5000), MSHM_OK);
    ck_assert_uint_eq(blind_bytes(blind), BLOCK);
    end();
}
END_TEST

START_TEST(full_cache_refuses_the_reservation_and_changes_nothing)
{
    begin(1 << 20);
    put(1, 1);
    uint8_t *frames[16];
    unsigned count = 0;
    while ((frames[count] = frames_allocate(fixture.frames, MSHM_CLASSES - 1)) != NULL)
        count++;
    REQUIRE_STATUS(blind_reserve(blind, 1000, 100000), MSHM_FULL);
    REQUIRE_STATUS(blind_reserve(blind, 10, 1000), MSHM_OK);
    entry_check(blind_gathered(blind, 1), 1);
    while (count > 0)
        frames_free(fixture.frames, frames[--count], MSHM_CLASSES - 1);
    REQUIRE_STATUS(blind_reserve(blind, 1000, 100000), MSHM_OK);
    end();
}
END_TEST

/* --- the table --- */

enum { MANY = 50000 };
struct oracle {
    mshm_timestamp newest[MANY + 1]; /* 0: none */
    uint32_t count[MANY + 1];
    uint32_t pages;
};

static void
oracle_check(const struct oracle *oracle, mshm_pid pid,
             const struct blind_entry *(*find)(const struct blind *, mshm_pid))
{
    const struct blind_entry *entry = find(blind, pid);
    REQUIRE((entry != NULL) == (oracle->newest[pid] != 0));
    if (entry != NULL)
        entry_check(entry, oracle->newest[pid]);
    uint32_t count = 0;
    for (; entry != NULL; entry = blind_entry_older(entry))
        count++;
    REQUIRE(count == oracle->count[pid]);
}

static void
oracle_each(void *argument, mshm_pid pid, const struct blind_entry *list)
{
    struct oracle *oracle = argument;
    REQUIRE(oracle->newest[pid] != 0);
    entry_check(list, oracle->newest[pid]);
    oracle->newest[pid] = 0;
    oracle->pages--;
}

/* The table grows while it is written to, sealed in the middle of growing, and lists are forgotten in both halves. */
START_TEST(every_page_is_found_while_the_table_grows)
{
    static struct oracle gathered, sealed;
    uint64_t random = fixture_seed(2);
    begin(64 << 20);
    mshm_timestamp timestamp = 0;
    for (unsigned i = 0; i < 400000; i++) {
        mshm_pid pid = (mshm_pid)(1 + fixture_random(&random) % MANY);
        uint64_t what = fixture_random(&random) % 100;
        if (what < 90) {
            put(pid, ++timestamp);
            gathered.pages += gathered.newest[pid] == 0;
            gathered.newest[pid] = timestamp;
            gathered.count[pid]++;
        } else if (what < 96) {
            blind_forget(blind, pid);
            gathered.pages -= gathered.newest[pid] != 0;
            gathered.newest[pid] = 0;
            gathered.count[pid] = 0;
        } else {
            blind_settle(blind, pid);
            sealed.pages -= sealed.newest[pid] != 0;
            sealed.newest[pid] = 0;
            sealed.count[pid] = 0;
        }
        oracle_check(&gathered, (mshm_pid)(1 + fixture_random(&random) % MANY), blind_gathered);
        oracle_check(&sealed, (mshm_pid)(1 + fixture_random(&random) % MANY), blind_sealed);
        REQUIRE(blind_pages(blind) == gathered.pages);
        if (fixture_random(&random) % 30000 == 0) {
            check();
            blind_each_sealed(blind, oracle_each, &sealed);
            REQUIRE(sealed.pages == 0);
            blind_release(blind);
            blind_seal(blind);
            sealed = gathered;
            memset(&gathered, 0, sizeof(gathered));
        }
    }
    for (mshm_pid pid = 1; pid <= MANY; pid++) {
        oracle_check(&gathered, pid, blind_gathered);
        oracle_check(&sealed, pid, blind_sealed);
    }
    end();
}
END_TEST

static void
order_note(void *argument, mshm_pid pid, const struct blind_entry *list)
{
    uint64_t *hash = argument;
    *hash = (*hash ^ pid ^ list->timestamp) * UINT64_C(0x9e3779b97f4a7c15);
}

START_TEST(sealed_pages_are_gone_through_in_a_repeatable_order)
{
    uint64_t hashes[2] = {0};
    for (unsigned i = 0; i < 2; i++) {
        begin(8 << 20);
        for (mshm_timestamp timestamp = 1; timestamp < 5000; timestamp++)
            put((mshm_pid)(timestamp * 7919 % 3000 + 1), timestamp);
        blind_seal(blind);
        blind_each_sealed(blind, order_note, &hashes[i]);
        end();
    }
    ck_assert_uint_eq(hashes[0], hashes[1]);
}
END_TEST

int
main(void)
{
    Suite *suite = suite_create("blind");
    TCase *tests = tcase_create("blind");
    tcase_set_timeout(tests, 60);
    tcase_add_test(tests, writes_of_a_page_come_back_newest_first);
    tcase_add_test(tests, forgotten_list_is_gone_and_begins_anew);
    tcase_add_test(tests, sealed_writes_stay_as_they_are_while_others_gather);
    tcase_add_test(tests, settled_page_has_no_sealed_writes_any_more);
    tcase_add_test(tests,
                   generation_gives_its_frames_back_at_the_release_and_unused_ones_at_the_seal);
    tcase_add_test(tests, reserved_writes_find_room_whatever_their_sizes);
    tcase_add_test(tests, reserving_what_was_reserved_takes_nothing_more);
    tcase_add_test(tests, full_cache_refuses_the_reservation_and_changes_nothing);
    tcase_add_test(tests, every_page_is_found_while_the_table_grows);
    tcase_add_test(tests, sealed_pages_are_gone_through_in_a_repeatable_order);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
