/* Which versions are kept: collecting the registered snapshots, and the rule against its own definition. */
#include "unit/broker/store_fixture.h"

static struct fixture fixture;
static struct snapshots snapshots;

static void
begin(mshm_timestamp visible)
{
    fixture_init(&fixture, 1 << 20, 0, 10);
    ck_assert_int_eq(snapshots_init(&snapshots), MSHM_OK);
    AO_store(&fixture.store->visible, visible);
}

static void
end(void)
{
    snapshots_fini(&snapshots);
    fixture_fini(&fixture);
}

static void
collect(void)
{
    snapshots_collect(&snapshots, fixture.store, fixture_lanes, &fixture, fixture.now_ns);
}

START_TEST(collecting_stores_the_horizon_and_lists_each_snapshot_once)
{
    begin(100);
    AO_store(&fixture.lanes[0].snapshot, 70);
    AO_store(&fixture.lanes[1].snapshot, 30);
    AO_store(&fixture.lanes[2].snapshot, 70);
    AO_store(&fixture.lanes[3].snapshot, 100); /* the horizon itself is kept without being listed */
    collect();
    ck_assert_uint_eq(AO_load(&fixture.store->horizon), 100);
    ck_assert_uint_eq(snapshots.horizon, 100);
    ck_assert_uint_eq(snapshots.count, 2);
    ck_assert_uint_eq(snapshots.list[0], 30);
    ck_assert_uint_eq(snapshots.list[1], 70);
    ck_assert_uint_eq(snapshots.collected_ns, fixture.now_ns);
    end();
}
END_TEST

/* The definition: needed when a registered snapshot, or any timestamp from the horizon on, reads it. */
static bool
read_by_somebody(mshm_timestamp timestamp, mshm_timestamp newer, mshm_timestamp most)
{
    for (mshm_timestamp at = 1; at <= most; at++) {
        bool counts = at >= snapshots.horizon;
        for (uint32_t i = 0; i < snapshots.count; i++)
            counts |= snapshots.list[i] == at;
        if (counts && timestamp <= at && (newer == 0 || at < newer))
            return true;
    }
    return false;
}

START_TEST(a_version_is_needed_exactly_when_somebody_reads_it)
{
    enum { MOST = 24 };
    uint64_t random = fixture_seed(1);
    for (unsigned round = 0; round < 300; round++) {
        begin(1 + fixture_random(&random) % MOST);
        for (unsigned lane = 0; lane < 5; lane++)
            if (fixture_random(&random) % 2)
                AO_store(&fixture.lanes[lane].snapshot, 1 + fixture_random(&random) % MOST);
        collect();
        for (mshm_timestamp timestamp = 1; timestamp < MOST; timestamp++)
            for (mshm_timestamp newer = timestamp + 1; newer <= MOST; newer++)
                REQUIRE(snapshots_need(&snapshots, timestamp, newer) ==
                        read_by_somebody(timestamp, newer, MOST));
        REQUIRE(snapshots_need(&snapshots, 1, 0));
        end();
    }
}
END_TEST

START_TEST(a_tombstone_stays_while_an_older_snapshot_may_write_its_key)
{
    begin(100);
    AO_store(&fixture.lanes[0].snapshot, 50);
    collect();
    ck_assert(!snapshots_drop_tombstone(&snapshots, 51));
    ck_assert(snapshots_drop_tombstone(&snapshots, 50));
    ck_assert(snapshots_drop_tombstone(&snapshots, 20));
    AO_store(&fixture.lanes[0].snapshot, 0);
    ck_assert(!snapshots_drop_tombstone(&snapshots, 51)); /* the list is the old one */
    collect();
    ck_assert(snapshots_drop_tombstone(&snapshots, 100));
    ck_assert(!snapshots_drop_tombstone(&snapshots, 101)); /* not visible yet */
    end();
}
END_TEST

START_TEST(a_snapshot_registered_across_a_collection_is_seen_or_begins_anew)
{
    begin(10);
    collect();
    AO_store(&fixture.store->visible, 20);
    mshm_timestamp snapshot = mshm_snapshot_register(fixture.store, &fixture.lanes[0]);
    ck_assert_uint_eq(snapshot, 20);
    AO_store(&fixture.store->visible, 30);
    collect();
    ck_assert_uint_eq(snapshots.count, 1);
    ck_assert(snapshots_need(&snapshots, 15, 25));
    ck_assert(!snapshots_need(&snapshots, 15, 20));
    mshm_snapshot_release(&fixture.lanes[0]);
    collect();
    ck_assert_uint_eq(snapshots.count, 0);
    end();
}
END_TEST

static mshm_timestamp many;

static void
many_lanes(void *argument, void (*each)(void *, mshm_timestamp), void *each_argument)
{
    (void)argument;
    for (mshm_timestamp at = many; at > 0; at--)
        each(each_argument, at * 2);
}

START_TEST(more_snapshots_than_places_keep_too_much_and_never_too_little)
{
    many = SNAPSHOTS_CAPACITY + 1000;
    begin(many * 3);
    snapshots_collect(&snapshots, fixture.store, many_lanes, NULL, 0);
    ck_assert_uint_le(snapshots.count, SNAPSHOTS_CAPACITY);
    for (mshm_timestamp at = 1; at <= many; at++)
        REQUIRE(snapshots_need(&snapshots, at * 2 - 1, at * 2 + 1));
    end();
}
END_TEST

START_TEST(as_many_distinct_snapshots_as_places_are_all_listed)
{
    many = SNAPSHOTS_CAPACITY;
    begin(many * 3);
    snapshots_collect(&snapshots, fixture.store, many_lanes, NULL, 0);
    ck_assert_uint_eq(snapshots.count, SNAPSHOTS_CAPACITY);
    ck_assert_uint_eq(snapshots.horizon, many * 3);
    end();
}
END_TEST

int
main(void)
{
    Suite *suite = suite_create("snapshots");
    TCase *tcase = tcase_create("snapshots");
    tcase_add_test(tcase, collecting_stores_the_horizon_and_lists_each_snapshot_once);
    tcase_add_test(tcase, a_version_is_needed_exactly_when_somebody_reads_it);
    tcase_add_test(tcase, a_tombstone_stays_while_an_older_snapshot_may_write_its_key);
    tcase_add_test(tcase, a_snapshot_registered_across_a_collection_is_seen_or_begins_anew);
    tcase_add_test(tcase, more_snapshots_than_places_keep_too_much_and_never_too_little);
    tcase_add_test(tcase, as_many_distinct_snapshots_as_places_are_all_listed);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
