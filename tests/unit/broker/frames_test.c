/* The frame allocator: buddies, reserve, refusal of memory, retirement by epoch, revocation, page numbers. */
#include "unit/broker/store_fixture.h"

enum { CHUNK = MSHM_MAX_FRAME };

static struct fixture fixture;

static void
begin(uint64_t cache, uint64_t reserve, uint64_t pids)
{
    fixture_init(&fixture, cache, reserve, pids);
}

static void
end(void)
{
    fixture_frames_ok(&fixture);
    fixture_fini(&fixture);
}

static uint64_t
used_bytes(void)
{
    frames_report(fixture.frames, &fixture.counters);
    return AO_load(&fixture.counters.cache_used);
}

START_TEST(random_frames_are_aligned_and_never_overlap)
{
    enum { HELD = 512 };
    static struct {
        uint8_t *frame;
        unsigned class;
        uint8_t stamp;
    } held[HELD];
    uint64_t random = fixture_seed(1);
    begin(8 << 20, 0, 1024);
    for (unsigned i = 0; i < 200000; i++) {
        unsigned at = (unsigned)(fixture_random(&random) % HELD);
        if (held[at].frame) {
            uint32_t size = mshm_class_size(held[at].class);
            REQUIRE(held[at].frame[0] == held[at].stamp &&
                    held[at].frame[size - 1] == held[at].stamp);
            frames_free(fixture.frames, held[at].frame, held[at].class);
            held[at].frame = NULL;
            continue;
        }
        unsigned class = (unsigned)(fixture_random(&random) % MSHM_CLASSES);
        uint8_t *frame = frames_allocate(fixture.frames, class);
        if (!frame)
            continue;
        uint64_t offset = (uint64_t)(frame - fixture.base) - fixture.geometry.frames_offset;
        REQUIRE(offset % mshm_class_size(class) == 0);
        held[at].frame = frame;
        held[at].class = class;
        held[at].stamp = (uint8_t)i;
        frame[0] = frame[mshm_class_size(class) - 1] = (uint8_t)i;
        if (i % 4096 == 0)
            fixture_frames_ok(&fixture);
    }
    for (unsigned at = 0; at < HELD; at++)
        if (held[at].frame)
            frames_free(fixture.frames, held[at].frame, held[at].class);
    ck_assert_uint_eq(used_bytes(), 0);
    end();
}
END_TEST

START_TEST(freed_small_frames_join_to_whole_chunks)
{
    enum { CACHE = 4 << 20 };
    static uint8_t *frames[CACHE / MSHM_UNIT];
    begin(CACHE, 0, 1024);
    for (unsigned i = 0; i < CACHE / MSHM_UNIT; i++)
        ck_assert_ptr_ne(frames[i] = frames_allocate(fixture.frames, 0), NULL);
    ck_assert_ptr_eq(frames_allocate(fixture.frames, 0), NULL);
    for (unsigned i = 0; i < CACHE / MSHM_UNIT; i++)
        frames_free(fixture.frames, frames[(i * 37 + 11) % (CACHE / MSHM_UNIT)], 0);
    for (unsigned i = 0; i < CACHE / CHUNK; i++)
        ck_assert_ptr_ne(frames_allocate(fixture.frames, MSHM_CLASSES - 1), NULL);
    ck_assert_ptr_eq(frames_allocate(fixture.frames, 0), NULL);
    end();
}
END_TEST

START_TEST(last_freed_frame_is_the_first_given_out)
{
    begin(4 << 20, 0, 1024);
    uint8_t *first = frames_allocate(fixture.frames, 1),
            *second = frames_allocate(fixture.frames, 1);
    frames_allocate(fixture.frames, 1);
    frames_free(fixture.frames, first, 1);
    ck_assert_ptr_eq(frames_allocate(fixture.frames, 1), first);
    frames_free(fixture.frames, second, 1);
    ck_assert_ptr_eq(frames_allocate(fixture.frames, 1), second);
    end();
}
END_TEST

START_TEST(reserve_is_kept_back_until_it_is_allowed)
{
    begin(4 << 20, 1 << 20, 1024);
    unsigned count = 0;
    while (frames_allocate(fixture.frames, 2))
        count++;
    ck_assert_uint_eq(count, (3 << 20) / 16384);
    ck_assert_uint_eq(frames_available(fixture.frames), 0);
    ck_assert(!frames_allow_reserve(fixture.frames, true));
    ck_assert_uint_eq(frames_available(fixture.frames), 1 << 20);
    for (unsigned i = 0; i < (1 << 20) / CHUNK; i++)
        ck_assert_ptr_ne(frames_allocate(fixture.frames, MSHM_CLASSES - 1), NULL);
    ck_assert_ptr_eq(frames_allocate(fixture.frames, 0), NULL);
    ck_assert(frames_allow_reserve(fixture.frames, false));
    end();
}
END_TEST

/* Small frames must not nibble at the chunks that the reserve counts on. */
START_TEST(reserve_stays_whole_under_fragmentation)
{
    begin(2 << 20, 1 << 20, 1024);
    uint8_t *frames[512];
    unsigned count = 0;
    while (count < 512 && (frames[count] = frames_allocate(fixture.frames, 0)) != NULL)
        count++;
    ck_assert_uint_eq(count, 256);
    for (unsigned i = 0; i < count; i += 2)
        frames_free(fixture.frames, frames[i], 0);
    ck_assert_ptr_eq(frames_allocate(fixture.frames, 1), NULL);
    frames_allow_reserve(fixture.frames, true);
    for (unsigned i = 0; i < 16; i++)
        ck_assert_ptr_ne(frames_allocate(fixture.frames, MSHM_CLASSES - 1), NULL);
    end();
}
END_TEST

START_TEST(refused_memory_is_an_error_and_asked_for_again_later)
{
    begin(64 << 20, 0, 1024);
    fixture.back_limit = fixture.backed;
    unsigned count = 0;
    while (frames_allocate(fixture.frames, MSHM_CLASSES - 1))
        count++;
    ck_assert_uint_lt(count, (64 << 20) / CHUNK);
    fixture_frames_ok(&fixture);
    fixture.back_limit = UINT64_MAX;
    ck_assert_ptr_eq(frames_allocate(fixture.frames, 0), NULL);
    fixture.now_ns += 200 * 1000000;
    ck_assert_ptr_ne(frames_allocate(fixture.frames, 0), NULL);
    end();
}
END_TEST

START_TEST(creation_fails_when_the_reserve_cannot_be_backed)
{
    begin(4 << 20, 0, 1024);
    struct frames_options options = {.frames_size = 4 << 20, .reserve_size = 2 << 20};
    struct frames *frames = NULL;
    fixture.back_limit = 0;
    ck_assert_int_eq(frames_create(&frames, &options, &fixture.env, fixture.base, &fixture.geometry,
                                   fixture_brackets, &fixture),
                     MSHM_FULL);
    ck_assert_ptr_eq(frames, NULL);
    end();
}
END_TEST

/* --- epochs --- */

START_TEST(retired_frame_waits_for_the_bracket_that_may_see_it)
{
    begin(4 << 20, 0, 1024);
    uint8_t *frame = frames_allocate(fixture.frames, 1);
    AO_t epoch = mshm_bracket_open(fixture.store, &fixture.lanes[3]);
    frames_retire(fixture.frames, frame, 1);
    ck_assert(frames_pending(fixture.frames));
    frames_reclaim(fixture.frames, false);
    ck_assert_uint_eq(used_bytes(), 8192);
    ck_assert_int_eq(mshm_bracket_close(fixture.store, &fixture.lanes[3], epoch), 0);
    frames_reclaim(fixture.frames, false);
    ck_assert_uint_eq(used_bytes(), 0);
    ck_assert(!frames_pending(fixture.frames));
    end();
}
END_TEST

START_TEST(bracket_opened_after_the_epoch_moved_holds_nothing)
{
    begin(4 << 20, 0, 1024);
    uint8_t *frame = frames_allocate(fixture.frames, 1);
    AO_t old = mshm_bracket_open(fixture.store, &fixture.lanes[0]);
    frames_retire(fixture.frames, frame, 1);
    frames_reclaim(fixture.frames, false); /* advances the epoch, the old bracket holds on */
    mshm_bracket_open(fixture.store, &fixture.lanes[1]);
    mshm_bracket_close(fixture.store, &fixture.lanes[0], old);
    frames_reclaim(fixture.frames, false);
    ck_assert_uint_eq(used_bytes(), 0);
    end();
}
END_TEST

START_TEST(epoch_moves_after_a_group_of_retirements)
{
    begin(4 << 20, 0, 1024);
    AO_t before = AO_load(&fixture.store->epoch);
    for (unsigned i = 0; i < 64; i++)
        frames_retire(fixture.frames, frames_allocate(fixture.frames, 0), 0);
    ck_assert_uint_eq(AO_load(&fixture.store->epoch), before + 1);
    end();
}
END_TEST

START_TEST(bracket_that_stays_open_too_long_is_revoked_under_pressure_only)
{
    begin(4 << 20, 0, 1024);
    uint8_t *frame = frames_allocate(fixture.frames, 1);
    AO_t old = mshm_bracket_open(fixture.store, &fixture.lanes[0]);
    frames_retire(fixture.frames, frame, 1);
    frames_reclaim(fixture.frames, true);
    ck_assert_uint_eq(AO_load(&fixture.store->revoked), 0); /* it is young */
    AO_t young = mshm_bracket_open(fixture.store, &fixture.lanes[1]);
    fixture.now_ns += 2000000;
    frames_reclaim(fixture.frames, false);
    ck_assert_uint_eq(used_bytes(), 8192); /* nobody is short of frames */
    frames_reclaim(fixture.frames, true);
    ck_assert_uint_eq(used_bytes(), 0);
    ck_assert_uint_eq(AO_load(&fixture.counters.revocations), 1);
    ck_assert_uint_lt(AO_load(&fixture.store->revoked), AO_load(&fixture.store->epoch));
    ck_assert_int_ne(mshm_bracket_close(fixture.store, &fixture.lanes[0], old), 0);
    ck_assert_int_eq(mshm_bracket_close(fixture.store, &fixture.lanes[1], young), 0);
    end();
}
END_TEST

/* A stopped reader cannot hold the cache: allocation itself revokes it. */
START_TEST(allocation_succeeds_when_a_stopped_reader_holds_every_frame)
{
    begin(1 << 20, 0, 1024);
    mshm_bracket_open(fixture.store, &fixture.lanes[0]);
    uint8_t *frames[256];
    for (unsigned i = 0; i < 256; i++)
        ck_assert_ptr_ne(frames[i] = frames_allocate(fixture.frames, 0), NULL);
    for (unsigned i = 0; i < 256; i++)
        frames_retire(fixture.frames, frames[i], 0);
    ck_assert_ptr_eq(frames_allocate(fixture.frames, 4), NULL);
    fixture.now_ns += 2000000;
    ck_assert_ptr_ne(frames_allocate(fixture.frames, 4), NULL);
    end();
}
END_TEST

/* Hostile lanes: any value costs at most itself. */
START_TEST(nonsense_in_a_lane_neither_frees_nor_holds_for_ever)
{
    begin(1 << 20, 0, 1024);
    AO_store(&fixture.lanes[0].epoch, UINT64_MAX);
    AO_store(&fixture.lanes[1].epoch, 1);
    frames_retire(fixture.frames, frames_allocate(fixture.frames, 0), 0);
    frames_reclaim(fixture.frames, false);
    ck_assert_uint_eq(used_bytes(), 4096);
    fixture.now_ns += 2000000;
    frames_reclaim(fixture.frames, true);
    ck_assert_uint_eq(used_bytes(), 0);
    end();
}
END_TEST

/* Readers hold frames in brackets while they are replaced at random; what a bracket saw stays until it is closed, unless
 * closing says that it was revoked. */
START_TEST(no_frame_is_reused_under_a_valid_bracket)
{
    enum { PAGES = 32, READERS = 8 };
    struct {
        AO_t epoch;
        const uint8_t *frame;
        uint64_t stamp;
    } readers[READERS] = {0};
    uint64_t random = fixture_seed(2), stamp = 0, revoked = 0, valid = 0;
    mshm_pid pids[PAGES];
    begin(512 << 10, 0, 1024);
    for (unsigned i = 0; i < PAGES; i++)
        pids[i] = frames_pid_allocate(fixture.frames);
    for (unsigned i = 0; i < 200000; i++) {
        unsigned page = (unsigned)(fixture_random(&random) % PAGES);
        unsigned reader = (unsigned)(fixture_random(&random) % READERS);
        fixture.now_ns += 10000;
        uint8_t *frame = frames_allocate(fixture.frames, 1);
        if (frame) {
            memcpy(frame, &(uint64_t){++stamp}, sizeof(stamp));
            frames_publish(fixture.frames, pids[page], frames_word(fixture.frames, frame, 1, 0));
        }
        if (i % 16 == 0)
            frames_reclaim(fixture.frames, i % 64 == 0);
        if (fixture_random(&random) % 8)
            continue;
        struct mshm_lane *lane = &fixture.lanes[reader];
        if (readers[reader].epoch) {
            uint64_t seen;
            memcpy(&seen, readers[reader].frame, sizeof(seen));
            if (mshm_bracket_close(fixture.store, lane, readers[reader].epoch)) {
                revoked++;
            } else {
                REQUIRE(seen == readers[reader].stamp);
                valid++;
            }
            readers[reader].epoch = 0;
        } else {
            readers[reader].epoch = mshm_bracket_open(fixture.store, lane);
            AO_t word = AO_load_acquire(&fixture.view.map[pids[page]]);
            if (mshm_map_state(word) != MSHM_MAP_RESIDENT) {
                mshm_bracket_close(fixture.store, lane, readers[reader].epoch);
                readers[reader].epoch = 0;
                continue;
            }
            readers[reader].frame = fixture.base + mshm_map_frame(word);
            memcpy(&readers[reader].stamp, readers[reader].frame, sizeof(uint64_t));
        }
    }
    printf("%llu brackets valid, %llu revoked\n", (unsigned long long)valid,
           (unsigned long long)revoked);
    ck_assert_uint_gt(valid, 0);
    ck_assert_uint_gt(revoked, 0);
    end();
}
END_TEST

/* --- page numbers --- */

START_TEST(every_pid_is_given_out_once_and_the_map_is_backed_under_it)
{
    enum { PIDS = 20000 };
    begin(1 << 20, 0, PIDS);
    for (mshm_pid i = 1; i < PIDS; i++) {
        mshm_pid pid = frames_pid_allocate(fixture.frames);
        REQUIRE(pid == i);
        REQUIRE(AO_load(&fixture.view.map[pid]) == 0); /* unbacked memory would be a fault */
    }
    ck_assert_uint_eq(frames_pid_allocate(fixture.frames), 0);
    end();
}
END_TEST

START_TEST(freed_pid_waits_for_brackets_and_takes_its_frame_with_it)
{
    begin(1 << 20, 0, 3);
    mshm_pid first = frames_pid_allocate(fixture.frames),
             second = frames_pid_allocate(fixture.frames);
    uint8_t *frame = frames_allocate(fixture.frames, 0);
    frames_publish(fixture.frames, first, frames_word(fixture.frames, frame, 0, 0));
    AO_t epoch = mshm_bracket_open(fixture.store, &fixture.lanes[0]);
    frames_pid_free(fixture.frames, first);
    ck_assert_uint_eq(mshm_map_state(AO_load(&fixture.view.map[first])), MSHM_MAP_NONE);
    ck_assert_uint_eq(frames_pid_allocate(fixture.frames), 0);
    ck_assert_uint_eq(used_bytes(), 4096);
    mshm_bracket_close(fixture.store, &fixture.lanes[0], epoch);
    ck_assert_uint_eq(frames_pid_allocate(fixture.frames), first);
    ck_assert_uint_eq(used_bytes(), 0);
    frames_pid_free(fixture.frames, second); /* never published: free at once */
    ck_assert_uint_eq(frames_pid_allocate(fixture.frames), second);
    end();
}
END_TEST

START_TEST(freed_pids_come_back_in_order_and_none_is_lost)
{
    enum { PIDS = 500 };
    begin(1 << 20, 0, PIDS);
    bool seen[PIDS] = {false};
    for (unsigned i = 1; i < PIDS; i++)
        frames_pid_allocate(fixture.frames);
    for (mshm_pid pid = 1; pid < PIDS; pid++) {
        if (pid % 3) /* published once, then without a page */
            AO_store(frames_map(fixture.frames, pid), MSHM_MAP_MOVED);
        frames_pid_free(fixture.frames, pid);
        if (pid % 7 == 0)
            frames_reclaim(fixture.frames, false);
    }
    for (unsigned i = 1; i < PIDS; i++) {
        mshm_pid pid = frames_pid_allocate(fixture.frames);
        ck_assert_uint_gt(pid, 0);
        ck_assert(!seen[pid]);
        seen[pid] = true;
    }
    ck_assert_uint_eq(frames_pid_allocate(fixture.frames), 0);
    end();
}
END_TEST

START_TEST(pids_run_out_cleanly_when_the_map_cannot_be_backed)
{
    begin(1 << 20, 0, 100000);
    fixture.back_limit = fixture.backed;
    ck_assert_uint_eq(frames_pid_allocate(fixture.frames), 0);
    fixture.back_limit = UINT64_MAX;
    ck_assert_uint_eq(frames_pid_allocate(fixture.frames), 1);
    end();
}
END_TEST

START_TEST(publishing_retires_the_frame_before)
{
    begin(1 << 20, 0, 10);
    mshm_pid pid = frames_pid_allocate(fixture.frames);
    uint8_t *first = frames_allocate(fixture.frames, 0),
            *second = frames_allocate(fixture.frames, 2);
    frames_publish(fixture.frames, pid, frames_word(fixture.frames, first, 0, 0));
    ck_assert(!frames_pending(fixture.frames));
    frames_publish(fixture.frames, pid, frames_word(fixture.frames, second, 2, 9));
    ck_assert(frames_pending(fixture.frames));
    AO_t word = AO_load(&fixture.view.map[pid]);
    ck_assert_ptr_eq(frames_address(fixture.frames, word), second);
    ck_assert_uint_eq(mshm_map_hint(word), 9);
    frames_reclaim(fixture.frames, false);
    ck_assert_uint_eq(used_bytes(), 16384);
    end();
}
END_TEST

/* --- pids freed in two steps --- */

START_TEST(withdrawn_pid_is_given_out_once_its_list_is_released_and_its_time_is_over)
{
    begin(1 << 20, 0, 100);
    struct frames_pids list = {0};
    mshm_pid first = frames_pid_allocate(fixture.frames),
             second = frames_pid_allocate(fixture.frames);
    AO_store(frames_map(fixture.frames, first), MSHM_MAP_ON_DISK);
    AO_store(frames_map(fixture.frames, second), MSHM_MAP_ON_DISK);
    AO_t epoch = mshm_bracket_open(fixture.store, &fixture.lanes[0]);
    frames_pid_withdraw(fixture.frames, first, true);
    frames_pid_withdraw(fixture.frames, second, false);
    ck_assert(frames_pending(fixture.frames));
    frames_pids_add(fixture.frames, &list, first);
    frames_pids_add(fixture.frames, &list, second);
    frames_reclaim(fixture.frames, false);
    ck_assert_uint_eq(frames_pid_allocate(fixture.frames), second + 1); /* not released */
    frames_pids_release(fixture.frames, &list);
    ck_assert_uint_eq(list.head, 0);
    frames_reclaim(fixture.frames, false);
    ck_assert_uint_eq(frames_pid_allocate(fixture.frames), second + 2); /* the bracket is open */
    ck_assert_uint_eq(mshm_map_state(AO_load(&fixture.view.map[first])), MSHM_MAP_MOVED);
    ck_assert_uint_eq(mshm_map_state(AO_load(&fixture.view.map[second])), MSHM_MAP_NONE);
    mshm_bracket_close(fixture.store, &fixture.lanes[0], epoch);
    frames_reclaim(fixture.frames, false);
    ck_assert_uint_eq(frames_pid_allocate(fixture.frames), first);
    ck_assert_uint_eq(frames_pid_allocate(fixture.frames), second);
    ck_assert_uint_eq(AO_load(&fixture.view.map[first]), 0);
    end();
}
END_TEST

START_TEST(list_that_is_released_late_has_waited_already)
{
    begin(1 << 20, 0, 100);
    struct frames_pids list = {0};
    mshm_pid pid = frames_pid_allocate(fixture.frames);
    AO_store(frames_map(fixture.frames, pid), MSHM_MAP_ON_DISK);
    frames_pid_withdraw(fixture.frames, pid, false);
    frames_pids_add(fixture.frames, &list, pid);
    frames_reclaim(fixture.frames, false); /* nobody reads */
    mshm_bracket_open(fixture.store, &fixture.lanes[0]);
    frames_pids_release(fixture.frames, &list);
    ck_assert_uint_eq(frames_pid_allocate(fixture.frames), pid);
    end();
}
END_TEST

/* Lists that wait for a while, are released in any order, and are freed directly in between. */
START_TEST(pids_of_many_lists_come_back_and_none_is_lost_or_doubled)
{
    enum { PIDS = 2000, LISTS = 5 };
    static bool out[PIDS];
    struct frames_pids lists[LISTS] = {{0}};
    uint64_t random = fixture_seed(3);
    unsigned held = 0;
    memset(out, 0, sizeof(out));
    begin(1 << 20, 0, PIDS);
    for (unsigned i = 0; i < 200000; i++) {
        mshm_pid pid = (mshm_pid)(1 + fixture_random(&random) % (PIDS - 1));
        struct frames_pids *list = &lists[fixture_random(&random) % LISTS];
        if (fixture_random(&random) % 64 == 0) {
            frames_pids_release(fixture.frames, list);
            frames_reclaim(fixture.frames, false);
        }
        if (out[pid]) {
            AO_store(frames_map(fixture.frames, pid), MSHM_MAP_ON_DISK);
            if (fixture_random(&random) % 4 == 0) {
                frames_pid_free(fixture.frames, pid);
            } else {
                frames_pid_withdraw(fixture.frames, pid, fixture_random(&random) % 2 == 0);
                frames_pids_add(fixture.frames, list, pid);
            }
            out[pid] = false;
            held--;
        } else if ((pid = frames_pid_allocate(fixture.frames)) != 0) {
            REQUIRE(!out[pid]);
            out[pid] = true;
            held++;
        }
    }
    for (unsigned i = 0; i < LISTS; i++)
        frames_pids_release(fixture.frames, &lists[i]);
    frames_reclaim(fixture.frames, false);
    for (mshm_pid pid; (pid = frames_pid_allocate(fixture.frames)) != 0; held++) {
        REQUIRE(!out[pid]);
        out[pid] = true;
    }
    ck_assert_uint_eq(held, PIDS - 1);
    end();
}
END_TEST

START_TEST(restored_pids_are_in_use_and_those_between_them_are_free_at_once)
{
    begin(1 << 20, 0, 30000);
    static const mshm_pid pids[] = {20000, 3, 1, 5};
    for (unsigned i = 0; i < 4; i++)
        ck_assert_int_eq(frames_pid_restore(fixture.frames, pids[i], MSHM_MAP_ON_DISK), MSHM_OK);
    ck_assert_int_eq(frames_pid_restore(fixture.frames, 30000, MSHM_MAP_ON_DISK), MSHM_FULL);
    frames_pids_restored(fixture.frames);
    ck_assert_uint_eq(frames_pid_end(fixture.frames), 20001);
    ck_assert_uint_eq(frames_pid_allocate(fixture.frames), 2);
    ck_assert_uint_eq(frames_pid_allocate(fixture.frames), 4);
    for (mshm_pid pid = 6; pid < 20000; pid++)
        REQUIRE(frames_pid_allocate(fixture.frames) == pid);
    ck_assert_uint_eq(frames_pid_allocate(fixture.frames), 20001);
    ck_assert_uint_eq(AO_load(&fixture.view.map[5]), MSHM_MAP_ON_DISK);
    end();
}
END_TEST

START_TEST(restoring_says_when_the_map_cannot_be_backed)
{
    begin(1 << 20, 0, 30000);
    fixture.back_limit = fixture.backed;
    ck_assert_int_eq(frames_pid_restore(fixture.frames, 7, MSHM_MAP_ON_DISK), MSHM_NO_MEMORY);
    fixture.back_limit = UINT64_MAX;
    ck_assert_int_eq(frames_pid_restore(fixture.frames, 7, MSHM_MAP_ON_DISK), MSHM_OK);
    end();
}
END_TEST

int
main(void)
{
    Suite *suite = suite_create("frames");
    TCase *tcase = tcase_create("frames");
    tcase_set_timeout(tcase, 60);
    tcase_add_test(tcase, random_frames_are_aligned_and_never_overlap);
    tcase_add_test(tcase, freed_small_frames_join_to_whole_chunks);
    tcase_add_test(tcase, last_freed_frame_is_the_first_given_out);
    tcase_add_test(tcase, reserve_is_kept_back_until_it_is_allowed);
    tcase_add_test(tcase, reserve_stays_whole_under_fragmentation);
    tcase_add_test(tcase, refused_memory_is_an_error_and_asked_for_again_later);
    tcase_add_test(tcase, creation_fails_when_the_reserve_cannot_be_backed);
    tcase_add_test(tcase, retired_frame_waits_for_the_bracket_that_may_see_it);
    tcase_add_test(tcase, bracket_opened_after_the_epoch_moved_holds_nothing);
    tcase_add_test(tcase, epoch_moves_after_a_group_of_retirements);
    tcase_add_test(tcase, bracket_that_stays_open_too_long_is_revoked_under_pressure_only);
    tcase_add_test(tcase, allocation_succeeds_when_a_stopped_reader_holds_every_frame);
    tcase_add_test(tcase, nonsense_in_a_lane_neither_frees_nor_holds_for_ever);
    tcase_add_test(tcase, no_frame_is_reused_under_a_valid_bracket);
    tcase_add_test(tcase, every_pid_is_given_out_once_and_the_map_is_backed_under_it);
    tcase_add_test(tcase, freed_pid_waits_for_brackets_and_takes_its_frame_with_it);
    tcase_add_test(tcase, freed_pids_come_back_in_order_and_none_is_lost);
    tcase_add_test(tcase, pids_run_out_cleanly_when_the_map_cannot_be_backed);
    tcase_add_test(tcase, publishing_retires_the_frame_before);
    tcase_add_test(tcase,
                   withdrawn_pid_is_given_out_once_its_list_is_released_and_its_time_is_over);
    tcase_add_test(tcase, list_that_is_released_late_has_waited_already);
    tcase_add_test(tcase, pids_of_many_lists_come_back_and_none_is_lost_or_doubled);
    tcase_add_test(tcase, restored_pids_are_in_use_and_those_between_them_are_free_at_once);
    tcase_add_test(tcase, restoring_says_when_the_map_cannot_be_backed);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
