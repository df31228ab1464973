/* The table of pages: each way in which a page can change while a checkpoint holds it, pids, reading in, recovery. */
#include "unit/broker/pages_fixture.h"

static struct world world;

static void
begin(void)
{
    world_init(&world, 4 << 20, 0);
    world.clock = 10;
}

static void
end(void)
{
    world_check(&world);
    world_fini(&world);
}

/* A new page with the keys [first, first + count), written now. */
static mshm_pid
page_make(uint16_t first, unsigned count)
{
    struct content content = {0};
    mshm_pid pid = pages_pid_allocate(world.pages);
    ck_assert_uint_ne(pid, 0);
    world.clock++;
    for (unsigned i = 0; i < count; i++)
        content_add(&content, (uint16_t)(first + i), world.clock);
    REQUIRE(page_publish(&world, pid, &content, 1, true));
    return pid;
}

/* The same content in a new frame. */
static void
page_replace(mshm_pid pid, bool whole)
{
    struct content content = page_content_now(&world, pid);
    REQUIRE(page_publish(&world, pid, &content, 1, whole));
}

/* Moves everything clean out, whatever the hints say. */
static void
evict_all(void)
{
    for (unsigned i = 0; i < 8; i++)
        pages_evict(world.pages, UINT64_MAX, world.store.now_ns);
}

static mshm_pid
page_make_on_disk(uint16_t first, unsigned count)
{
    mshm_pid pid = page_make(first, count);
    checkpoint_whole(&world);
    evict_all();
    ck_assert_uint_eq(page_state_now(&world, pid), MSHM_MAP_ON_DISK);
    return pid;
}

static struct pages_figures
figures(void)
{
    struct pages_figures now;
    pages_figures(world.pages, &now);
    return now;
}

static void
reads_as(mshm_pid pid, const struct content *wanted)
{
    struct content now = page_content_now(&world, pid);
    REQUIRE_CONTENT(&now, wanted);
}

static void
disk_reads_as(mshm_pid pid, const struct content *wanted)
{
    struct content disk = chain_content(&world, world.manifest[pid]);
    REQUIRE_CONTENT(&disk, wanted);
}

/* --- the plain way --- */

START_TEST(new_page_is_dirty_then_sealed_then_clean_with_a_location)
{
    begin();
    mshm_pid pid = page_make(1, 5);
    ck_assert_uint_eq(figures().dirty_pages, 1);
    ck_assert_uint_eq(figures().dirty_bytes, 8192);
    checkpoint_seal(&world);
    ck_assert_uint_eq(figures().dirty_bytes, 0);
    ck_assert_uint_eq(figures().sealed_bytes, 8192);
    ck_assert_uint_eq(figures().sealed_pages, 1);
    evict_all();
    ck_assert_uint_eq(page_state_now(&world, pid), MSHM_MAP_RESIDENT);
    checkpoint_pack(&world);
    ck_assert(!pages_published(world.pages, 1));
    ck_assert_uint_eq(figures().sealed_bytes + figures().dirty_bytes, 0);
    ck_assert_uint_ne(world.manifest[pid], 0);
    durable_check(&world);
    evict_all();
    ck_assert_uint_eq(pages_location(world.pages, pid), world.manifest[pid]);
    ck_assert_uint_eq(figures().on_disk_pages, 1);
    ck_assert_uint_eq(figures().evictions, 1);
    end();
}
END_TEST

START_TEST(clean_store_seals_nothing)
{
    begin();
    page_make(1, 5);
    checkpoint_whole(&world);
    checkpoint_seal(&world);
    ck_assert_uint_eq(pages_sealed_count(world.pages), 0);
    ck_assert(!pages_published(world.pages, 10));
    end();
}
END_TEST

START_TEST(sealed_pages_come_in_the_order_of_their_pids)
{
    begin();
    mshm_pid pids[200], last = 0;
    for (unsigned i = 0; i < 200; i++)
        pids[i] = page_make((uint16_t)i, 1);
    checkpoint_whole(&world);
    for (unsigned i = 0; i < 200; i++)
        page_append(&world, pids[(i * 77 + 5) % 200], 9);
    checkpoint_seal(&world);
    ck_assert_uint_eq(pages_sealed_count(world.pages), 200);
    for (uint32_t i = 0; i < 200; i++) {
        struct page_source source;
        bool freed;
        pages_source(world.pages, i, &source, &freed);
        ck_assert_uint_gt(source.pid, last);
        last = source.pid;
    }
    end();
}
END_TEST

START_TEST(page_that_did_not_need_a_record_keeps_its_former_one)
{
    begin();
    mshm_pid pid = page_make(1, 5);
    checkpoint_whole(&world);
    data_location former = world.manifest[pid];
    page_replace(pid, false); /* laid out anew: nothing to say */
    checkpoint_whole(&world);
    ck_assert_uint_eq(world.nothings, 1);
    ck_assert_uint_eq(world.manifest[pid], former);
    durable_check(&world);
    evict_all();
    ck_assert_uint_eq(pages_location(world.pages, pid), former);
    end();
}
END_TEST

START_TEST(full_record_stays_due_when_none_was_written)
{
    begin();
    mshm_pid pid = page_make(1, 5);
    checkpoint_whole(&world);
    page_replace(pid, true);
    checkpoint_seal(&world);
    pages_packed(world.pages, 0, 0); /* its records are damaged, say */
    manifest_edit(&world);
    ck_assert(!pages_published(world.pages, 9));
    page_append(&world, pid, 3);
    checkpoint_seal(&world);
    job_take(&world, 1);
    ck_assert(world.job.sources[0].full);
    end();
}
END_TEST

START_TEST(page_without_any_record_never_becomes_clean)
{
    begin();
    mshm_pid pid = page_make(1, 5);
    checkpoint_seal(&world);
    pages_packed(world.pages, 0, 0);
    manifest_edit(&world);
    ck_assert(!pages_published(world.pages, 9));
    evict_all();
    ck_assert_uint_eq(page_state_now(&world, pid), MSHM_MAP_RESIDENT);
    ck_assert_uint_eq(figures().dirty_pages, 1);
    checkpoint_whole(&world);
    ck_assert_uint_ne(world.manifest[pid], 0);
    end();
}
END_TEST

START_TEST(deltas_pile_up_and_a_full_record_ends_the_chain)
{
    begin();
    mshm_pid pid = page_make(1, 5);
    checkpoint_whole(&world);
    for (unsigned i = 1; i <= DATA_CHAIN_MAX + 2; i++) {
        page_append(&world, pid, (uint16_t)(100 + i));
        struct content wanted = page_content_now(&world, pid);
        checkpoint_whole(&world);
        ck_assert_uint_eq(data_location_older(world.manifest[pid]), i % (DATA_CHAIN_MAX + 1));
        disk_reads_as(pid, &wanted);
        if (i == 2) { /* what is known of the chain goes with the page and comes back with it */
            evict_all();
            REQUIRE(page_install(&world, pid, 1));
        }
    }
    end();
}
END_TEST

/* --- sealed, and what then --- */

START_TEST(sealed_page_that_is_replaced_is_packed_from_its_old_frame)
{
    begin();
    mshm_pid pid = page_make(1, 5);
    struct content wanted = page_content_now(&world, pid);
    checkpoint_seal(&world);
    job_take(&world, 1);
    const uint8_t *sealed = world.job.sources[0].frame;
    page_append(&world, pid, 77);
    page_replace(pid, false);
    page_replace(pid, false);
    ck_assert_uint_eq(figures().kept_bytes, 8192);
    ck_assert_ptr_ne(page_frame(&world, pid), sealed);
    frames_reclaim(world.store.frames, false);
    for (unsigned i = 0; i < 40; i++) /* whatever is free is used */
        REQUIRE(frame_build(&world, 999, &wanted, 1) != 0);
    world.spent_bytes = 40 * 8192;
    job_take(&world, 1);
    ck_assert_ptr_eq(world.job.sources[0].frame, sealed);
    job_run(&world, NULL);
    job_finish(&world);
    ck_assert_uint_eq(figures().kept_bytes, 0);
    checkpoint_pack(&world);
    ck_assert(!pages_published(world.pages, 9));
    disk_reads_as(pid, &wanted);
    ck_assert_uint_eq(figures().dirty_pages, 1);
    content_add(&wanted, 77, world.clock);
    checkpoint_whole(&world);
    disk_reads_as(pid, &wanted);
    end();
}
END_TEST

START_TEST(sealed_page_that_is_replaced_after_packing_gives_its_frame_back)
{
    begin();
    mshm_pid pid = page_make(1, 5);
    checkpoint_seal(&world);
    checkpoint_pack(&world);
    page_replace(pid, false);
    ck_assert_uint_eq(figures().kept_bytes, 0);
    ck_assert_uint_eq(figures().sealed_bytes, 8192);
    ck_assert(!pages_published(world.pages, 9));
    ck_assert_uint_eq(figures().dirty_bytes, 8192);
    end();
}
END_TEST

START_TEST(sealed_page_does_not_leave_memory_before_its_record_counts)
{
    begin();
    mshm_pid sealed = page_make(1, 5), clean = page_make(10, 5);
    checkpoint_whole(&world);
    pages_pin(world.pages, clean); /* so that the hand goes round and round */
    page_append(&world, sealed, 6);
    checkpoint_seal(&world);
    evict_all();
    ck_assert_uint_eq(page_state_now(&world, sealed), MSHM_MAP_RESIDENT);
    checkpoint_pack(&world);
    evict_all();
    ck_assert_uint_eq(page_state_now(&world, sealed), MSHM_MAP_RESIDENT);
    ck_assert(!pages_published(world.pages, 9));
    evict_all();
    ck_assert_uint_eq(page_state_now(&world, sealed), MSHM_MAP_ON_DISK);
    end();
}
END_TEST

START_TEST(appends_after_the_seal_are_not_in_the_record_and_stay_dirty)
{
    begin();
    mshm_pid pid = page_make(1, 5);
    page_append(&world, pid, 6);
    struct content wanted = page_content_now(&world, pid);
    checkpoint_seal(&world);
    page_append(&world, pid, 7);
    checkpoint_pack(&world);
    ck_assert(!pages_published(world.pages, 9));
    disk_reads_as(pid, &wanted);
    ck_assert_uint_eq(figures().dirty_pages, 1);
    evict_all();
    ck_assert_uint_eq(page_state_now(&world, pid), MSHM_MAP_RESIDENT);
    content_add(&wanted, 7, world.clock);
    checkpoint_whole(&world);
    ck_assert_uint_eq(world.deltas, 1);
    disk_reads_as(pid, &wanted);
    end();
}
END_TEST

/* The checkpoint needs the page as of the cut; the free is the next one's news. */
START_TEST(sealed_page_that_is_freed_is_still_written_and_reported_by_the_next_checkpoint)
{
    for (unsigned on_disk_before = 0; on_disk_before < 2; on_disk_before++) {
        begin();
        mshm_pid pid = page_make(1, 5);
        if (on_disk_before) {
            checkpoint_whole(&world);
            page_append(&world, pid, 6);
            checkpoint_whole(&world); /* a chain, so that there is something to remember */
            page_append(&world, pid, 7);
        }
        struct content wanted = page_content_now(&world, pid);
        checkpoint_seal(&world);
        job_take(&world, 1);
        if (on_disk_before == 1)
            page_replace(pid, true);
        pages_free(world.pages, pid, false);
        world_check(&world);
        frames_reclaim(world.store.frames, false);
        ck_assert_uint_ne(pages_pid_allocate(world.pages), pid);
        job_take(&world, 1); /* the same answer as before the free */
        checkpoint_pack(&world);
        world_check(&world);
        ck_assert_uint_eq(figures().kept_bytes, 0);
        ck_assert(!pages_published(world.pages, 9));
        disk_reads_as(pid, &wanted);
        durable_check(&world);
        ck_assert_uint_eq(page_state_now(&world, pid), MSHM_MAP_NONE);
        frames_reclaim(world.store.frames, false);
        ck_assert_uint_ne(pages_pid_allocate(world.pages), pid);
        checkpoint_seal(&world);
        job_take(&world, 1);
        ck_assert(world.job.freed[0]);
        ck_assert_uint_eq(world.job.sources[0].pid, pid);
        ck_assert_uint_eq(world.job.sources[0].location, world.manifest[pid]);
        checkpoint_pack(&world);
        ck_assert_uint_eq(world.manifest[pid], 0);
        ck_assert(!pages_published(world.pages, 9));
        durable_check(&world);
        frames_reclaim(world.store.frames, false);
        ck_assert_uint_eq(pages_pid_allocate(world.pages), pid);
        end();
    }
}
END_TEST

START_TEST(sealed_page_that_is_freed_after_packing_does_not_get_the_result)
{
    begin();
    mshm_pid pid = page_make(1, 5);
    checkpoint_seal(&world);
    checkpoint_pack(&world);
    pages_free(world.pages, pid, true);
    ck_assert(!pages_published(world.pages, 9));
    ck_assert_uint_eq(page_state_now(&world, pid), MSHM_MAP_MOVED);
    ck_assert_uint_eq(pages_location(world.pages, pid), 0);
    durable_check(&world);
    checkpoint_whole(&world);
    ck_assert_uint_eq(world.manifest[pid], 0);
    end();
}
END_TEST

START_TEST(sealed_page_that_is_split_is_written_whole_as_of_the_cut_and_both_halves_after)
{
    begin();
    mshm_pid left = page_make(1, 10);
    checkpoint_whole(&world);
    page_append(&world, left, 11);
    struct content before = page_content_now(&world, left), low = {0}, high = {0};
    checkpoint_seal(&world);
    mshm_pid right = pages_pid_allocate(world.pages);
    for (unsigned i = 0; i < before.count; i++)
        content_add(i < 6 ? &low : &high, before.items[i].key, before.items[i].timestamp);
    REQUIRE(page_publish(&world, right, &high, 1, true));
    REQUIRE(page_publish(&world, left, &low, 1, true));
    checkpoint_pack(&world);
    ck_assert(!pages_published(world.pages, 9));
    disk_reads_as(left, &before);
    ck_assert_uint_eq(world.manifest[right], 0);
    checkpoint_whole(&world); /* without the mark a delta would keep the right half's keys */
    disk_reads_as(left, &low);
    disk_reads_as(right, &high);
    end();
}
END_TEST

START_TEST(page_made_and_freed_between_two_seals_is_never_heard_of)
{
    begin();
    mshm_pid pid = page_make(1, 5);
    pages_free(world.pages, pid, false);
    ck_assert_uint_eq(figures().dirty_pages, 0);
    checkpoint_seal(&world);
    ck_assert_uint_eq(pages_sealed_count(world.pages), 0);
    ck_assert(!pages_published(world.pages, 9));
    frames_reclaim(world.store.frames, false);
    ck_assert_uint_eq(pages_pid_allocate(world.pages), pid);
    end();
}
END_TEST

START_TEST(pid_freed_and_given_out_again_between_two_seals_counts_as_the_new_page)
{
    begin();
    mshm_pid pid = page_make(1, 5);
    pages_free(world.pages, pid, false);
    frames_reclaim(world.store.frames, false);
    ck_assert_uint_eq(page_make(50, 3), pid);
    struct content wanted = page_content_now(&world, pid);
    checkpoint_seal(&world);
    ck_assert_uint_eq(pages_sealed_count(world.pages), 1);
    checkpoint_pack(&world);
    ck_assert(!pages_published(world.pages, 9));
    disk_reads_as(pid, &wanted);
    end();
}
END_TEST

/* It is in no image, but a checkpoint was under way when it was freed. */
START_TEST(pid_made_and_freed_during_a_checkpoint_waits_for_it)
{
    begin();
    page_make(1, 5);
    checkpoint_seal(&world);
    mshm_pid pid = page_make(10, 5);
    pages_free(world.pages, pid, false);
    frames_reclaim(world.store.frames, false);
    ck_assert_uint_ne(pages_pid_allocate(world.pages), pid);
    checkpoint_pack(&world);
    ck_assert(!pages_published(world.pages, 9));
    checkpoint_seal(&world); /* it has nothing to report of it */
    ck_assert_uint_eq(pages_sealed_count(world.pages), 0);
    frames_reclaim(world.store.frames, false);
    ck_assert_uint_eq(pages_pid_allocate(world.pages), pid);
    ck_assert(!pages_published(world.pages, 9));
    end();
}
END_TEST

START_TEST(each_slice_of_the_publication_leaves_a_table_that_is_right)
{
    begin();
    mshm_pid pids[6];
    struct content wanted[6];
    for (unsigned i = 0; i < 6; i++)
        pids[i] = page_make((uint16_t)(i * 10), 5);
    checkpoint_whole(&world);
    for (unsigned i = 0; i < 6; i++) {
        page_append(&world, pids[i], 99);
        wanted[i] = page_content_now(&world, pids[i]);
    }
    checkpoint_seal(&world);
    checkpoint_pack(&world);
    for (unsigned i = 0; i < 6; i++) {
        if (i > 0) /* from the first slice on the table knows that the edit counts */
            durable_check(&world);
        world_check(&world);
        evict_all(); /* those that have their turn behind them leave */
        for (unsigned j = 0; j < 6; j++) {
            ck_assert_uint_eq(page_state_now(&world, pids[j]),
                              j < i ? MSHM_MAP_ON_DISK : MSHM_MAP_RESIDENT);
            reads_as(pids[j], &wanted[j]);
        }
        ck_assert(pages_published(world.pages, 1) == (i < 5));
    }
    end();
}
END_TEST

START_TEST(pages_freed_between_two_slices_are_reported_with_the_location_that_counts)
{
    begin();
    mshm_pid first = page_make(1, 5), second = page_make(10, 5);
    checkpoint_whole(&world);
    page_append(&world, first, 99);
    page_append(&world, second, 99);
    checkpoint_seal(&world);
    checkpoint_pack(&world);
    ck_assert(pages_published(world.pages, 1));
    pages_free(world.pages, first, false);
    pages_free(world.pages, second, true);
    durable_check(&world);
    ck_assert(!pages_published(world.pages, 1));
    durable_check(&world);
    checkpoint_whole(&world); /* job_run compares the locations with the manifest */
    ck_assert_uint_eq(world.manifest[first] | world.manifest[second], 0);
    end();
}
END_TEST

/* --- blind writes --- */

START_TEST(blind_writes_become_a_delta_of_a_page_that_stays_out)
{
    begin();
    mshm_pid pid = page_make_on_disk(1, 5);
    REQUIRE(page_write_blind(&world, pid, 3));
    REQUIRE(page_write_blind(&world, pid, 8));
    ck_assert_uint_eq(pages_newest(world.pages, pid), world.clock);
    ck_assert_uint_eq(figures().dirty_pages, 1);
    ck_assert_uint_eq(figures().dirty_bytes, 65536);
    struct content wanted = page_content_now(&world, pid);
    checkpoint_seal(&world);
    ck_assert_uint_eq(figures().sealed_bytes, 65536);
    checkpoint_pack(&world);
    ck_assert(!pages_published(world.pages, 9));
    ck_assert_uint_eq(figures().blind_bytes, 0);
    ck_assert_uint_eq(pages_location(world.pages, pid), world.manifest[pid]);
    ck_assert_uint_eq(data_location_older(world.manifest[pid]), 1);
    disk_reads_as(pid, &wanted);
    reads_as(pid, &wanted);
    end();
}
END_TEST

START_TEST(page_read_in_takes_its_gathered_writes_and_is_dirty)
{
    begin();
    mshm_pid pid = page_make_on_disk(1, 5);
    REQUIRE(page_write_blind(&world, pid, 3));
    struct content wanted = page_content_now(&world, pid);
    REQUIRE(page_install(&world, pid, 1));
    ck_assert_ptr_eq(blind_gathered(pages_blind(world.pages), pid), NULL);
    ck_assert_uint_eq(figures().dirty_pages, 1);
    evict_all();
    reads_as(pid, &wanted);
    ck_assert_uint_eq(page_state_now(&world, pid), MSHM_MAP_RESIDENT);
    checkpoint_whole(&world);
    disk_reads_as(pid, &wanted);
    end();
}
END_TEST

START_TEST(page_read_in_while_its_blind_writes_are_sealed_is_clean_at_the_publication)
{
    begin();
    mshm_pid pid = page_make_on_disk(1, 5);
    REQUIRE(page_write_blind(&world, pid, 3));
    struct content wanted = page_content_now(&world, pid);
    checkpoint_seal(&world);
    REQUIRE(page_install(&world, pid, 1));
    reads_as(pid, &wanted);
    checkpoint_pack(&world);
    ck_assert(!pages_published(world.pages, 9));
    disk_reads_as(pid, &wanted);
    ck_assert_uint_eq(figures().dirty_pages, 0);
    page_append(&world, pid, 9); /* its next delta extends the one of the blind writes */
    content_add(&wanted, 9, world.clock);
    checkpoint_whole(&world);
    ck_assert_uint_eq(data_location_older(world.manifest[pid]), 2);
    disk_reads_as(pid, &wanted);
    end();
}
END_TEST

START_TEST(page_read_in_and_evicted_before_its_blind_writes_count_loses_nothing)
{
    begin();
    mshm_pid pid = page_make_on_disk(1, 5);
    data_location former = world.manifest[pid];
    REQUIRE(page_write_blind(&world, pid, 3));
    struct content wanted = page_content_now(&world, pid);
    checkpoint_seal(&world);
    for (unsigned i = 0; i < 2; i++) {
        REQUIRE(page_install(&world, pid, 1));
        evict_all();
        ck_assert_uint_eq(pages_location(world.pages, pid), former);
        reads_as(pid, &wanted);
    }
    checkpoint_pack(&world);
    ck_assert(!pages_published(world.pages, 9));
    ck_assert_uint_ne(pages_location(world.pages, pid), former);
    reads_as(pid, &wanted);
    end();
}
END_TEST

START_TEST(page_read_in_between_slices_does_not_get_its_blind_writes_twice)
{
    begin();
    mshm_pid first = page_make(1, 5), second = page_make_on_disk(10, 5);
    REQUIRE(page_write_blind(&world, first, 3));
    REQUIRE(page_write_blind(&world, second, 13));
    struct content wanted = page_content_now(&world, first);
    checkpoint_seal(&world);
    checkpoint_pack(&world);
    ck_assert(pages_published(world.pages, 1));
    reads_as(first, &wanted); /* content_add refuses a write that comes twice */
    REQUIRE(page_install(&world, first, 1));
    ck_assert(!pages_published(world.pages, 1));
    reads_as(first, &wanted);
    end();
}
END_TEST

START_TEST(writes_of_both_generations_are_there_for_a_page_that_is_read_in)
{
    begin();
    mshm_pid pid = page_make_on_disk(1, 5);
    REQUIRE(page_write_blind(&world, pid, 3));
    struct content as_of_cut = page_content_now(&world, pid);
    checkpoint_seal(&world);
    REQUIRE(page_write_blind(&world, pid, 4));
    struct content wanted = page_content_now(&world, pid);
    ck_assert_uint_eq(wanted.count, 7);
    REQUIRE(page_install(&world, pid, 1));
    reads_as(pid, &wanted);
    checkpoint_pack(&world);
    ck_assert(!pages_published(world.pages, 9));
    disk_reads_as(pid, &as_of_cut);
    ck_assert_uint_eq(figures().dirty_pages, 1);
    checkpoint_whole(&world);
    disk_reads_as(pid, &wanted);
    end();
}
END_TEST

START_TEST(page_freed_while_out_of_memory_takes_its_gathered_writes_along)
{
    begin();
    mshm_pid pid = page_make_on_disk(1, 5);
    REQUIRE(page_write_blind(&world, pid, 3));
    pages_free(world.pages, pid, true);
    ck_assert_uint_eq(page_state_now(&world, pid), MSHM_MAP_MOVED);
    ck_assert_ptr_eq(blind_gathered(pages_blind(world.pages), pid), NULL);
    durable_check(&world);
    checkpoint_seal(&world);
    job_take(&world, 1);
    ck_assert(world.job.freed[0]);
    checkpoint_pack(&world);
    ck_assert(!pages_published(world.pages, 9));
    ck_assert_uint_eq(world.manifest[pid], 0);
    durable_check(&world);
    ck_assert_uint_eq(page_state_now(&world, pid), MSHM_MAP_MOVED); /* until it is given out */
    frames_reclaim(world.store.frames, false);
    ck_assert_uint_eq(pages_pid_allocate(world.pages), pid);
    end();
}
END_TEST

START_TEST(page_freed_while_its_blind_writes_are_sealed_is_written_as_of_the_cut)
{
    begin();
    mshm_pid pid = page_make_on_disk(1, 5);
    REQUIRE(page_write_blind(&world, pid, 3));
    struct content wanted = page_content_now(&world, pid);
    checkpoint_seal(&world);
    pages_free(world.pages, pid, false);
    checkpoint_pack(&world);
    ck_assert(!pages_published(world.pages, 9));
    disk_reads_as(pid, &wanted);
    durable_check(&world);
    checkpoint_whole(&world);
    ck_assert_uint_eq(world.manifest[pid], 0);
    end();
}
END_TEST

/* --- page numbers --- */

START_TEST(pids_of_a_bucket_being_dropped_are_held_and_then_come_back)
{
    begin();
    mshm_pid never = page_make(1, 5), durable = page_make(10, 5);
    pages_hold_pids(world.pages, true);
    pages_free(world.pages, never, false);
    checkpoint_whole(&world);
    pages_free(world.pages, durable, false);
    checkpoint_whole(&world);
    frames_reclaim(world.store.frames, false);
    mshm_pid fresh = pages_pid_allocate(world.pages);
    ck_assert_uint_ne(fresh, never);
    ck_assert_uint_ne(fresh, durable);
    pages_hold_pids(world.pages, false);
    frames_reclaim(world.store.frames, false);
    ck_assert_uint_eq(pages_pid_allocate(world.pages), never);
    ck_assert_uint_eq(pages_pid_allocate(world.pages), durable);
    end();
}
END_TEST

START_TEST(freed_pid_waits_for_the_brackets_of_its_time)
{
    begin();
    mshm_pid pid = page_make(1, 5);
    AO_t epoch = mshm_bracket_open(world.store.store, &world.store.lanes[0]);
    pages_free(world.pages, pid, false);
    frames_reclaim(world.store.frames, false);
    ck_assert_uint_ne(pages_pid_allocate(world.pages), pid);
    mshm_bracket_close(world.store.store, &world.store.lanes[0], epoch);
    frames_reclaim(world.store.frames, false);
    ck_assert_uint_eq(pages_pid_allocate(world.pages), pid);
    end();
}
END_TEST

START_TEST(returned_pid_is_given_out_next)
{
    begin();
    mshm_pid pid = pages_pid_allocate(world.pages);
    pages_pid_return(world.pages, pid);
    ck_assert_uint_eq(pages_pid_allocate(world.pages), pid);
    end();
}
END_TEST

START_TEST(newest_write_of_a_page_is_known_in_and_out_of_memory)
{
    begin();
    mshm_pid pid = page_make(1, 5);
    ck_assert_uint_eq(pages_newest(world.pages, pid), world.clock);
    page_append(&world, pid, 2);
    mshm_timestamp newest = world.clock;
    checkpoint_whole(&world);
    evict_all();
    world.clock += 5;
    ck_assert_uint_eq(pages_newest(world.pages, pid), newest);
    REQUIRE(page_write_blind(&world, pid, 2));
    ck_assert_uint_eq(pages_newest(world.pages, pid), newest + 6);
    end();
}
END_TEST

START_TEST(pinned_page_stays_through_replacement_until_it_is_unpinned)
{
    begin();
    mshm_pid pid = page_make(1, 5);
    pages_pin(world.pages, pid);
    pages_pin(world.pages, pid);
    page_replace(pid, false);
    checkpoint_whole(&world);
    evict_all();
    pages_unpin(world.pages, pid);
    evict_all();
    ck_assert_uint_eq(page_state_now(&world, pid), MSHM_MAP_RESIDENT);
    pages_unpin(world.pages, pid);
    evict_all();
    ck_assert_uint_eq(page_state_now(&world, pid), MSHM_MAP_ON_DISK);
    end();
}
END_TEST

/* --- recovery --- */

START_TEST(restored_pages_are_on_disk_and_the_pids_between_are_free)
{
    begin();
    mshm_pid pids[5];
    struct content wanted[5];
    for (unsigned i = 0; i < 5; i++) {
        pids[i] = page_make((uint16_t)(i * 10), 5);
        wanted[i] = page_content_now(&world, pids[i]);
    }
    pages_free(world.pages, pids[1], false);
    pages_free(world.pages, pids[3], false);
    checkpoint_whole(&world);
    struct world old = world;
    world_init(&world, 4 << 20, 0);
    world.clock = old.clock;
    world.records = old.records;
    world.record_count = old.record_count;
    world.record_capacity = old.record_capacity;
    memcpy(world.manifest, old.manifest, sizeof(world.manifest));
    for (mshm_pid pid = WORLD_PIDS - 1; pid > 0; pid--) /* in any order */
        if (world.manifest[pid] != 0)
            REQUIRE_STATUS(pages_restore(world.pages, pid, world.manifest[pid]), MSHM_OK);
    REQUIRE_STATUS(pages_restored(world.pages, world.clock), MSHM_OK);
    durable_check(&world);
    ck_assert_uint_eq(figures().on_disk_pages, 3);
    ck_assert_uint_eq(pages_newest(world.pages, pids[0]), world.clock);
    reads_as(pids[4], &wanted[4]);
    REQUIRE(page_install(&world, pids[4], 1));
    reads_as(pids[4], &wanted[4]);
    ck_assert_uint_eq(pages_pid_allocate(world.pages), pids[1]);
    ck_assert_uint_eq(pages_pid_allocate(world.pages), pids[3]);
    ck_assert_uint_eq(pages_pid_allocate(world.pages), pids[4] + 1);
    end();
    old.records = NULL;
    world_fini(&old);
}
END_TEST

START_TEST(restoring_refuses_pids_that_cannot_be_and_pids_that_come_twice)
{
    begin();
    data_location location = data_location_make(1, 0, DATA_RECORDS_AT, 64);
    REQUIRE_STATUS(pages_restore(world.pages, 0, location), MSHM_CORRUPT);
    REQUIRE_STATUS(pages_restore(world.pages, MSHM_MAX_PIDS, location), MSHM_CORRUPT);
    REQUIRE_STATUS(pages_restore(world.pages, 5, 0), MSHM_CORRUPT);
    REQUIRE_STATUS(pages_restore(world.pages, 5, UINT64_MAX), MSHM_CORRUPT);
    REQUIRE_STATUS(pages_restore(world.pages, WORLD_PIDS, location), MSHM_FULL);
    REQUIRE_STATUS(pages_restore(world.pages, 5, location), MSHM_OK);
    REQUIRE_STATUS(pages_restore(world.pages, 5, location), MSHM_CORRUPT);
    REQUIRE_STATUS(pages_restore(world.pages, 4, location), MSHM_OK);
    REQUIRE_STATUS(pages_restored(world.pages, 10), MSHM_OK);
    end();
}
END_TEST

/* --- memory --- */

static bool no_memory;

void *__real_malloc(size_t size);
void *__wrap_malloc(size_t size);

void *
__wrap_malloc(size_t size)
{
    return no_memory ? NULL : __real_malloc(size);
}

START_TEST(seal_without_memory_changes_nothing)
{
    begin();
    mshm_pid pid = page_make(1, 5);
    no_memory = true;
    int status = pages_seal(world.pages, world.clock);
    no_memory = false;
    ck_assert_int_eq(status, MSHM_NO_MEMORY);
    world_check(&world);
    ck_assert_uint_eq(figures().dirty_pages, 1);
    ck_assert_uint_eq(figures().sealed_pages, 0);
    checkpoint_whole(&world);
    ck_assert_uint_ne(world.manifest[pid], 0);
    end();
}
END_TEST

/* The packer reads them from the newest record then. */
START_TEST(addresses_of_older_records_are_left_out_when_there_is_no_memory_for_them)
{
    begin();
    mshm_pid pid = page_make(1, 5);
    checkpoint_whole(&world);
    page_append(&world, pid, 6);
    checkpoint_whole(&world);
    evict_all();
    AO_t word;
    struct content content = page_content_now(&world, pid);
    struct record *record = record_at(&world, pages_location(world.pages, pid));
    REQUIRE((word = frame_build(&world, pid, &content, 1)) != 0);
    no_memory = world.forgetful = true;
    pages_install(world.pages, pid, word, record->birth, record->cut, record_below(&world, record),
                  record->older, false);
    no_memory = false;
    for (unsigned i = 0; i < 2; i++) {
        page_append(&world, pid, (uint16_t)(7 + i));
        content = page_content_now(&world, pid);
        checkpoint_seal(&world);
        job_take(&world, 1);
        ck_assert_ptr_eq(world.job.sources[0].older, NULL);
        checkpoint_pack(&world);
        ck_assert(!pages_published(world.pages, 9));
        disk_reads_as(pid, &content);
    }
    page_replace(pid, true);
    checkpoint_whole(&world); /* a full record: nothing is unknown any more */
    world.forgetful = false;
    page_append(&world, pid, 20);
    checkpoint_whole(&world);
    page_append(&world, pid, 21);
    checkpoint_whole(&world);
    ck_assert_uint_eq(data_location_older(world.manifest[pid]), 2);
    end();
}
END_TEST

int
main(void)
{
    Suite *suite = suite_create("pages");
    TCase *tests = tcase_create("pages");
    tcase_add_test(tests, new_page_is_dirty_then_sealed_then_clean_with_a_location);
    tcase_add_test(tests, clean_store_seals_nothing);
    tcase_add_test(tests, sealed_pages_come_in_the_order_of_their_pids);
    tcase_add_test(tests, page_that_did_not_need_a_record_keeps_its_former_one);
    tcase_add_test(tests, full_record_stays_due_when_none_was_written);
    tcase_add_test(tests, page_without_any_record_never_becomes_clean);
    tcase_add_test(tests, deltas_pile_up_and_a_full_record_ends_the_chain);
    tcase_add_test(tests, sealed_page_that_is_replaced_is_packed_from_its_old_frame);
    tcase_add_test(tests, sealed_page_that_is_replaced_after_packing_gives_its_frame_back);
    tcase_add_test(tests, sealed_page_does_not_leave_memory_before_its_record_counts);
    tcase_add_test(tests, appends_after_the_seal_are_not_in_the_record_and_stay_dirty);
    tcase_add_test(tests,
                   sealed_page_that_is_freed_is_still_written_and_reported_by_the_next_checkpoint);
    tcase_add_test(tests, sealed_page_that_is_freed_after_packing_does_not_get_the_result);
    tcase_add_test(tests,
                   sealed_page_that_is_split_is_written_whole_as_of_the_cut_and_both_halves_after);
    tcase_add_test(tests, page_made_and_freed_between_two_seals_is_never_heard_of);
    tcase_add_test(tests, pid_freed_and_given_out_again_between_two_seals_counts_as_the_new_page);
    tcase_add_test(tests, pid_made_and_freed_during_a_checkpoint_waits_for_it);
    tcase_add_test(tests, each_slice_of_the_publication_leaves_a_table_that_is_right);
    tcase_add_test(tests,
                   pages_freed_between_two_slices_are_reported_with_the_location_that_counts);
    tcase_add_test(tests, blind_writes_become_a_delta_of_a_page_that_stays_out);
    tcase_add_test(tests, page_read_in_takes_its_gathered_writes_and_is_dirty);
    tcase_add_test(tests,
                   page_read_in_while_its_blind_writes_are_sealed_is_clean_at_the_publication);
    tcase_add_test(tests, page_read_in_and_evicted_before_its_blind_writes_count_loses_nothing);
    tcase_add_test(tests, page_read_in_between_slices_does_not_get_its_blind_writes_twice);
    tcase_add_test(tests, writes_of_both_generations_are_there_for_a_page_that_is_read_in);
    tcase_add_test(tests, page_freed_while_out_of_memory_takes_its_gathered_writes_along);
    tcase_add_test(tests, page_freed_while_its_blind_writes_are_sealed_is_written_as_of_the_cut);
    tcase_add_test(tests, pids_of_a_bucket_being_dropped_are_held_and_then_come_back);
    tcase_add_test(tests, freed_pid_waits_for_the_brackets_of_its_time);
    tcase_add_test(tests, returned_pid_is_given_out_next);
    tcase_add_test(tests, newest_write_of_a_page_is_known_in_and_out_of_memory);
    tcase_add_test(tests, pinned_page_stays_through_replacement_until_it_is_unpinned);
    tcase_add_test(tests, restored_pages_are_on_disk_and_the_pids_between_are_free);
    tcase_add_test(tests, restoring_refuses_pids_that_cannot_be_and_pids_that_come_twice);
    tcase_add_test(tests, seal_without_memory_changes_nothing);
    tcase_add_test(tests, addresses_of_older_records_are_left_out_when_there_is_no_memory_for_them);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
