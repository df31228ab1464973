/* Segments that a checkpoint has released: used again, removed, and never mistaken for what they were. */
#include "unit/broker/wal_fixture.h"

#include <check.h>
#include <errno.h>

#include "kill_point.h"
#include "wal_recycle.h"
#include "wal_segment.h"

static struct fixture fixture;

static void
set_up(void)
{
    fixture_init(&fixture, 1);
    ck_assert_int_eq(fixture_open(&fixture, NULL), MSHM_OK);
}

static void
tear_down(void)
{
    kill_point_set_handler(NULL, NULL);
    fixture_fini(&fixture);
}

static void
commit(int count, bool sync)
{
    for (int i = 0; i < count; i++) {
        ck_assert_int_eq(fixture_commit(&fixture, sync), MSHM_OK);
        ck_assert_int_eq(wal_flush(fixture.wal), MSHM_OK);
    }
    ck_assert_int_eq(fixture_settle(&fixture), MSHM_OK);
}

static uint64_t
log_segment(void)
{
    return fixture_tell(&fixture).position.segment;
}

static void
commit_through(int segments)
{
    for (uint64_t last = log_segment() + (uint64_t)segments; log_segment() < last;)
        commit(1, false);
}

/* A checkpoint of everything so far that counts at once. */
static void
checkpoint(void)
{
    fixture.cut = fixture_tell(&fixture);
    wal_release(fixture.wal, fixture.cut.position);
}

static uint64_t
counter(const AO_t *value)
{
    return AO_load(value);
}
#define COUNT(name) counter(&fixture.figures.counters.name)

static int
count_entry(const char *entry, void *argument)
{
    uint64_t number;
    *(int *)argument += wal_segment_parse(entry, &number);
    return 0;
}

static int
segments_on_disk(void)
{
    int count = 0;
    sim_disk_list(sim_env_disk(fixture.sim), "wal", count_entry, &count);
    return count;
}

static struct sim_inode *
segment_inode(uint64_t number)
{
    char name[WAL_NAME_SIZE];
    wal_segment_name(name, number, "log");
    return sim_disk_find(sim_env_disk(fixture.sim), name);
}

START_TEST(released_segments_become_later_ones_and_nothing_is_zeroed_in_a_steady_state)
{
    fixture.options.mapping = _i % 2 == 0;
    ck_assert_int_eq(fixture_restart(&fixture, false), MSHM_OK);
    ck_assert_int_eq(fixture_continue(&fixture), MSHM_OK);
    const int each = _i < 2 ? 2 : 9; /* segments that a checkpoint frees */
    for (int i = 0; i < 4; i++) {
        commit_through(each);
        checkpoint();
    }
    ck_assert_int_eq(fixture_settle(&fixture), MSHM_OK);
    uint64_t recycled = COUNT(log_recycled), segments = COUNT(log_segments);
    /* A new segment cannot be made any more. */
    sim_env_set_full(fixture.sim, true);
    for (int i = 0; i < 20; i++) {
        commit_through(each);
        ck_assert_int_le(segments_on_disk(), each + WAL_SPARES + 3);
        checkpoint();
    }
    ck_assert_int_eq(fixture_settle(&fixture), MSHM_OK);
    ck_assert_uint_ge(COUNT(log_recycled), recycled + (uint64_t)each * 20 - 1);
    ck_assert_uint_eq(COUNT(log_segments), segments);
    commit(5, true);
    ck_assert_int_eq(fixture_restart(&fixture, true), MSHM_OK);
    ck_assert_uint_eq(fixture.read_count, 5);
}
END_TEST

START_TEST(released_segments_that_are_too_many_are_removed)
{
    commit_through(12);
    ck_assert_int_eq(segments_on_disk(), 14);
    checkpoint();
    ck_assert(!wal_idle(fixture.wal));
    ck_assert_int_eq(fixture_settle(&fixture), MSHM_OK);
    ck_assert_int_eq(segments_on_disk(), 14); /* as many may be wanted again */
    for (int i = 0; i < 8; i++) {
        commit_through(1); /* but they are not */
        checkpoint();
        ck_assert_int_eq(fixture_settle(&fixture), MSHM_OK);
    }
    ck_assert_int_eq(segments_on_disk(), WAL_SPARES + 2); /* the one in use and the next one */
    ck_assert_uint_eq(COUNT(log_removed), 12 - WAL_SPARES);
    ck_assert_uint_eq(COUNT(log_segments), WAL_SPARES + 2);
    ck_assert_int_eq(fixture_restart(&fixture, true), MSHM_OK);
    ck_assert_int_eq(fixture_continue(&fixture), MSHM_OK);
    ck_assert_int_eq(segments_on_disk(), 1); /* a start keeps none */
}
END_TEST

START_TEST(long_row_of_released_segments_is_removed_some_at_a_time)
{
    struct wal_released_list list;
    bool more = true;
    int rounds = 0, removed = 0;
    commit_through(12);
    sim_env_die(fixture.sim, false);
    wal_close(fixture.wal);
    fixture.wal = NULL;
    sim_env_restart(fixture.sim);
    for (; more; rounds++) {
        wal_released_init(&list, fixture.env, 12, FIXTURE_SEGMENT, FIXTURE_SEGMENT);
        uint32_t count = wal_released_trim(&list, fixture.env, 2, &more);
        ck_assert_uint_le(count, 4);
        removed += (int)count;
        wal_released_fini(&list);
    }
    ck_assert_int_eq(removed, 9);
    ck_assert_int_eq(rounds, 3);
}
END_TEST

START_TEST(small_segments_are_not_used_again_while_the_next_one_is_to_be_larger)
{
    ck_assert_int_eq(fixture_restart(&fixture, false), MSHM_OK);
    fixture.options.segment_size = 4 << 20;
    fixture.options.mapping = false;
    ck_assert_int_eq(fixture_continue(&fixture), MSHM_OK);
    commit_through(1); /* 1 MiB is left behind, 2 MiB in use */
    checkpoint();
    ck_assert_int_eq(fixture_settle(&fixture), MSHM_OK);
    ck_assert_uint_eq(COUNT(log_recycled), 0);
    ck_assert_uint_ge(COUNT(log_removed), 1);
    commit_through(1);
    ck_assert_uint_eq(segment_inode(log_segment())->size, 4 << 20);
}
END_TEST

START_TEST(segment_whose_sync_is_under_way_is_not_released)
{
    for (uint64_t seed = 1; seed < 40; seed++) {
        fixture_fini(&fixture);
        fixture_init(&fixture, seed);
        ck_assert_int_eq(fixture_open(&fixture, NULL), MSHM_OK);
        uint64_t first = log_segment();
        while (log_segment() == first) {
            ck_assert_int_eq(wal_flush(fixture.wal), MSHM_OK);
            ck_assert_int_eq(fixture_commit(&fixture, false), MSHM_OK);
        }
        checkpoint(); /* the first segment has just been left */
        while (COUNT(log_syncs) == 0) {
            const struct sim_inode *inode = segment_inode(first);
            ck_assert_ptr_nonnull(inode);
            ck_assert_uint_eq(((const struct wal_segment_header *)inode->cache)->magic,
                              WAL_SEGMENT_MAGIC);
            ck_assert_int_eq(wal_flush(fixture.wal), MSHM_OK);
            ck_assert_int_eq(fixture_poll(&fixture), MSHM_OK);
        }
        commit_through(4);
        ck_assert_int_eq(fixture_settle(&fixture), MSHM_OK);
        ck_assert_ptr_null(segment_inode(first));
        ck_assert_uint_ge(COUNT(log_recycled), 1);
    }
}
END_TEST

/* --- what is left of the former life --- */

/* A log whose newest segment was recycled and holds `count` records of its own. */
static void
recycled_log(int count)
{
    for (int i = 0; i < 4; i++) {
        commit_through(2);
        checkpoint();
    }
    ck_assert_int_eq(fixture_settle(&fixture), MSHM_OK);
    uint64_t recycled = COUNT(log_recycled);
    ck_assert_uint_gt(recycled, 2);
    commit_through(1);
    commit(count - 1, false);
}

START_TEST(records_of_the_former_life_are_not_read)
{
    recycled_log(3);
    uint64_t last = fixture.timestamp, segment = log_segment();
    const struct sim_inode *inode = segment_inode(segment);
    ck_assert_int_eq(fixture_restart(&fixture, _i == 1), MSHM_OK);
    ck_assert_uint_le(fixture.read_last, last);
    ck_assert(_i == 1 || fixture.read_last == last);
    /* Something does stand there. */
    inode = segment_inode(segment);
    ck_assert_uint_eq(
        ((const struct wal_record *)(inode->cache + fixture.end.next.end.offset))->previous_crc ==
            fixture.end.next.chain,
        0);
    uint64_t former = 0;
    struct wal_segment_header header;
    memcpy(&header, inode->cache, sizeof header);
    for (uint64_t at = fixture.end.next.end.offset; at < inode->size; at += WAL_ALIGNMENT) {
        former += ((const struct wal_record *)(inode->cache + at))->magic == WAL_RECORD_MAGIC;
        ck_assert_uint_eq(wal_record_check(&header, at, inode->cache + at, inode->size - at), 0);
    }
    ck_assert_uint_gt(former, 50);
    ck_assert_int_eq(fixture_continue(&fixture), MSHM_OK);
    commit(2, true);
    last = fixture.timestamp;
    ck_assert_int_eq(fixture_restart(&fixture, true), MSHM_OK);
    ck_assert_uint_eq(fixture.read_last, last);
}
END_TEST

START_TEST(records_of_the_former_life_prove_nothing)
{
    recycled_log(3);
    uint64_t segment = log_segment(), last = fixture.timestamp;
    ck_assert_int_eq(fixture_restart(&fixture, false), MSHM_OK);
    ck_assert_uint_eq(fixture.read_last, last);
    sim_disk_rot(segment_inode(segment), WAL_RECORDS_AT + 20, 2);
    /* The marks of the second and third record prove the segments before, and not this one. */
    ck_assert_int_eq(fixture_read(&fixture), MSHM_OK);
    ck_assert_uint_eq(fixture.read_last, last - 3);
}
END_TEST

START_TEST(prepared_segment_with_a_former_life_is_no_damage)
{
    recycled_log(3);
    uint64_t last = fixture.timestamp, next = log_segment() + 1;
    ck_assert_int_eq(fixture_settle(&fixture), MSHM_OK);
    ck_assert_int_eq(fixture_restart(&fixture, false), MSHM_OK);
    ck_assert_ptr_nonnull(segment_inode(next));
    ck_assert_uint_eq(fixture.end.next.next_segment, next + 1);
    ck_assert_uint_eq(fixture.read_last, last);
}
END_TEST

START_TEST(former_header_at_the_new_number_is_damage)
{
    recycled_log(3);
    uint64_t segment = log_segment();
    ck_assert_int_eq(fixture_restart(&fixture, false), MSHM_OK);
    struct wal_segment_header header;
    memcpy(&header, segment_inode(segment)->cache, sizeof header);
    header.segment -= 3;
    header.continues_segment -= 3;
    wal_header_seal(&header);
    memcpy(segment_inode(segment)->cache, &header, sizeof header);
    ck_assert_int_eq(fixture_read(&fixture), MSHM_CORRUPT);
}
END_TEST

/* --- failures --- */

/* Segments 1 to 4 of a process that is gone; 1 and 2 count as released. */
static void
released_log(struct wal_released_list *list)
{
    commit_through(3);
    ck_assert_int_eq(fixture_settle(&fixture), MSHM_OK);
    sim_env_die(fixture.sim, false);
    wal_close(fixture.wal);
    fixture.wal = NULL;
    sim_env_restart(fixture.sim);
    wal_released_init(list, fixture.env, 3, FIXTURE_SEGMENT, FIXTURE_SEGMENT);
    ck_assert_uint_eq(list->count, 2);
    ck_assert_uint_eq(list->entries[0].number, 1);
}

static unsigned fail_calls;

static void
fail_behind_invalidation(const char *name, void *argument)
{
    (void)argument;
    if (strcmp(name, "wal:recycle_invalidated") == 0)
        sim_env_fail(fixture.sim, fail_calls, 1, EIO);
}

START_TEST(failed_recycling_asks_for_a_new_segment)
{
    static const unsigned calls[] = {SIM_CALL_OPEN, SIM_CALL_WRITE, SIM_CALL_SYNC, SIM_CALL_NAMES};
    struct wal_released_list list;
    struct wal_segment segment = {0};
    released_log(&list);
    sim_env_fail(fixture.sim, calls[_i], 1, _i % 2 == 0 ? EIO : ENOSPC);
    ck_assert_int_eq(wal_released_recycle(&list, fixture.env, &segment, 9, true), 1);
    ck_assert(sim_env_failed(fixture.sim));
    ck_assert_ptr_null(segment.file);
    ck_assert_ptr_null(segment_inode(9));
    ck_assert_uint_eq(list.count, 1);
    if (calls[_i] != SIM_CALL_NAMES)
        ck_assert_ptr_null(segment_inode(1)); /* not tried again */
    /* The next one does it. */
    ck_assert_int_eq(wal_released_recycle(&list, fixture.env, &segment, 9, true), 0);
    ck_assert_ptr_null(segment_inode(2));
    ck_assert_ptr_eq(segment.mapping, segment_inode(9)->cache);
    ck_assert_uint_eq(segment.size, FIXTURE_SEGMENT);
    ck_assert_int_eq(wal_released_recycle(&list, fixture.env, &segment, 10, true), 1);
    wal_segment_close(fixture.env, &segment);
    wal_released_fini(&list);
}
END_TEST

START_TEST(directory_that_cannot_be_synced_is_an_error)
{
    struct wal_released_list list;
    struct wal_segment segment = {0};
    released_log(&list);
    fail_calls = SIM_CALL_DIRECTORY_SYNC;
    kill_point_set_handler(fail_behind_invalidation, NULL);
    ck_assert_int_eq(wal_released_recycle(&list, fixture.env, &segment, 9, true), -EIO);
    ck_assert_ptr_null(segment.file);
    ck_assert_ptr_null(segment_inode(9));
    wal_released_fini(&list);
}
END_TEST

START_TEST(listing_that_fails_leaves_nothing_to_recycle)
{
    struct wal_released_list list;
    bool more;
    released_log(&list);
    wal_released_fini(&list);
    sim_env_fail(fixture.sim, SIM_CALL_READ, 1, EIO);
    wal_released_init(&list, fixture.env, 3, FIXTURE_SEGMENT, FIXTURE_SEGMENT);
    ck_assert_uint_eq(list.count, 0);
    ck_assert_uint_eq(wal_released_trim(&list, fixture.env, 0, &more), 0);
    ck_assert(!more);
    wal_released_fini(&list);
}
END_TEST

/* The old header is off the disk before the new name is on it, wherever the power goes. */
START_TEST(new_name_never_stands_over_the_old_header)
{
    for (uint64_t call = 1; call < 12; call++) {
        for (uint64_t seed = 1; seed < 10; seed++) {
            struct wal_released_list list;
            struct wal_segment segment = {0};
            fixture_fini(&fixture);
            fixture_init(&fixture, seed);
            ck_assert_int_eq(fixture_open(&fixture, NULL), MSHM_OK);
            released_log(&list);
            sim_env_die_at(fixture.sim, call, true);
            int result = wal_released_recycle(&list, fixture.env, &segment, 9, true);
            wal_released_fini(&list);
            sim_env_die(fixture.sim, true);
            sim_env_restart(fixture.sim);
            const struct sim_inode *inode = segment_inode(9);
            ck_assert(result != 0 || inode != NULL);
            for (size_t i = 0; inode != NULL && i < sizeof(struct wal_segment_header); i++)
                ck_assert_uint_eq(inode->cache[i], 0);
        }
    }
}
END_TEST

/* Where names become durable one by one, a power cut can leave a file under both its old and its new name. */
START_TEST(segment_in_use_under_an_old_name_is_never_written_to)
{
    struct wal_released_list list;
    struct wal_segment segment = {0};
    bool more;
    released_log(&list);
    wal_released_fini(&list);
    struct sim_inode *inode = segment_inode(4);
    uint8_t former[WAL_RECORDS_AT];
    memcpy(former, inode->cache, sizeof former);
    struct sim_disk *disk = sim_env_disk(fixture.sim);
    ck_assert_int_eq(sim_disk_remove(disk, "wal/0000000000000001.log"), 0);
    sim_inode_hold(inode);
    ck_assert_int_eq(sim_disk_rename(disk, "wal/0000000000000004.log", "wal/0000000000000001.log"),
                     0);
    wal_released_init(&list, fixture.env, 3, FIXTURE_SEGMENT, FIXTURE_SEGMENT);
    ck_assert_int_eq(wal_released_recycle(&list, fixture.env, &segment, 9, true), 0);
    ck_assert_int_eq(wal_released_recycle(&list, fixture.env, &segment, 10, true), 1);
    ck_assert_int_eq(memcmp(former, inode->cache, sizeof former), 0);
    ck_assert_uint_eq(wal_released_trim(&list, fixture.env, WAL_SPARES, &more), 1);
    ck_assert_ptr_null(segment_inode(1));
    wal_segment_close(fixture.env, &segment);
    wal_released_fini(&list);
    sim_inode_release(disk, inode);
}
END_TEST

/* A full disk, at any call that only the job makes. */
START_TEST(full_disk_while_recycling_is_survived)
{
    for (uint64_t n = 1; n < 120; n++) {
        fixture_fini(&fixture);
        fixture_init(&fixture, n);
        fixture.cut = (struct wal_from){0};
        ck_assert_int_eq(fixture_open(&fixture, NULL), MSHM_OK);
        sim_env_fail(fixture.sim,
                     SIM_CALL_OPEN | SIM_CALL_READ | SIM_CALL_NAMES | SIM_CALL_PREALLOCATE |
                         SIM_CALL_DIRECTORY_SYNC | SIM_CALL_MAP,
                     n, ENOSPC);
        for (int i = 0; i < 6; i++) {
            uint64_t last = log_segment() + 2;
            while (log_segment() < last) {
                int status = fixture_commit(&fixture, false);
                ck_assert(status == MSHM_OK || status == MSHM_FULL);
                ck_assert_int_eq(fixture_settle(&fixture), MSHM_OK);
            }
            checkpoint();
        }
        commit(2, true);
        ck_assert_int_eq(fixture_restart(&fixture, true), MSHM_OK);
        ck_assert_uint_eq(fixture.read_count, 2);
        if (!sim_env_failed(fixture.sim) && n > 100)
            break;
    }
}
END_TEST

/* --- what a checkpoint asks --- */

START_TEST(bytes_since_a_position_are_counted_through_changes_of_segment)
{
    struct wal_from cuts[8] = {{0}};
    uint64_t bytes[8];
    for (int i = 0; i < 8; i++) {
        cuts[i] = fixture_tell(&fixture);
        bytes[i] = COUNT(log_bytes);
        ck_assert_uint_eq(wal_bytes_since(fixture.wal, cuts[i].position), 0);
        if (i % 2 == 0)
            commit(17, false);
        else
            commit_through(1);
        for (int k = 0; k <= i; k++)
            ck_assert_uint_eq(wal_bytes_since(fixture.wal, cuts[k].position),
                              COUNT(log_bytes) - bytes[k]);
    }
    wal_release(fixture.wal, cuts[4].position);
    for (int k = 4; k < 8; k++)
        ck_assert_uint_eq(wal_bytes_since(fixture.wal, cuts[k].position),
                          COUNT(log_bytes) - bytes[k]);
}
END_TEST

START_TEST(bytes_since_the_cut_that_recovery_began_with_count_what_it_replayed)
{
    commit(5, false);
    checkpoint();
    uint64_t before = COUNT(log_bytes);
    commit(30, false);
    commit_through(1);
    ck_assert_int_eq(fixture_restart(&fixture, false), MSHM_OK);
    ck_assert_int_eq(fixture_continue(&fixture), MSHM_OK);
    ck_assert_uint_eq(wal_bytes_since(fixture.wal, fixture.cut.position),
                      COUNT(log_bytes) - before);
    commit(3, true);
    ck_assert_uint_eq(wal_bytes_since(fixture.wal, fixture.cut.position),
                      COUNT(log_bytes) - before);
    ck_assert_int_eq(fixture_restart(&fixture, false), MSHM_OK);
    ck_assert_int_eq(fixture_continue(&fixture), MSHM_OK);
    ck_assert_uint_eq(wal_bytes_since(fixture.wal, fixture.cut.position),
                      COUNT(log_bytes) - before);
}
END_TEST

START_TEST(mark_is_written_only_behind_a_cut)
{
    commit(3, false);
    checkpoint();
    ck_assert_int_eq(fixture_settle(&fixture), MSHM_OK);
    wal_mark(fixture.wal);
    ck_assert(wal_idle(fixture.wal));
    ck_assert_uint_eq(COUNT(log_writes), 0);
    commit(1, false);
    wal_mark(fixture.wal);
    ck_assert(!wal_idle(fixture.wal));
    ck_assert_int_eq(fixture_settle(&fixture), MSHM_OK);
    ck_assert_uint_eq(COUNT(log_writes), 1);
    ck_assert_int_eq(fixture_restart(&fixture, true), MSHM_OK);
    ck_assert_uint_eq(fixture.read_count, 1);
}
END_TEST

/* A clean stop takes a checkpoint: the next life needs nothing of this one's log. */
START_TEST(start_behind_a_last_checkpoint_removes_the_whole_former_log)
{
    commit_through(2);
    commit(3, true);
    checkpoint();
    ck_assert_int_eq(fixture_settle(&fixture), MSHM_OK);
    wal_mark(fixture.wal);
    ck_assert_int_eq(fixture_settle(&fixture), MSHM_OK);
    ck_assert_int_eq(fixture_restart(&fixture, false), MSHM_OK);
    ck_assert_int_eq(fixture_continue(&fixture), MSHM_OK);
    ck_assert_int_eq(segments_on_disk(), 1);
    ck_assert_int_eq(fixture_restart(&fixture, true), MSHM_OK);
    ck_assert_uint_eq(fixture.end.next.timestamp, fixture.cut.timestamp);
}
END_TEST

/* --- death --- */

struct history {
    struct wal_from sealed; /* a checkpoint under way */
    bool sealing;
    uint64_t batch[1000]; /* of the commits of this life, by timestamp - first */
    bool sync[1000];
    uint64_t first, promised;
};

/* What was acknowledged: a power cut keeps SYNC commits, and the checkpoint those up to its cut. */
static void
history_acknowledge(struct history *history, bool power_cut)
{
    for (uint64_t i = 0; history->first + i <= fixture.timestamp; i++)
        if (history->batch[i] <= wal_done(fixture.wal) && (!power_cut || history->sync[i]) &&
            history->first + i > history->promised)
            history->promised = history->first + i;
}

static void
history_checkpoint(struct history *history, struct sim_random *random)
{
    if (!history->sealing && sim_random_chance(random, 4)) {
        history->sealed = fixture_tell(&fixture);
        history->sealing = true;
    } else if (history->sealing && sim_random_chance(random, 8)) {
        history->sealing = false;
        fixture.cut = history->sealed; /* the manifest's edit is durable */
        wal_release(fixture.wal, fixture.cut.position);
    }
}

/* One life: commits of both levels and checkpoints until it dies. */
static void
history_live(struct history *history, struct sim_random *random, bool power_cut)
{
    *history = (struct history){.first = fixture.timestamp + 1, .promised = fixture.cut.timestamp};
    for (int i = 0; i < 990 && !sim_env_dead(fixture.sim); i++) {
        bool sync = sim_random_chance(random, 10);
        while (fixture_try(&fixture, sync, &history->batch[i]) != MSHM_OK &&
               !sim_env_dead(fixture.sim)) {
            wal_flush(fixture.wal);
            fixture_poll(&fixture);
        }
        history->sync[i] = sync;
        if (sim_env_dead(fixture.sim))
            break;
        if (sim_random_chance(random, 40))
            wal_flush(fixture.wal);
        if (sim_random_chance(random, 10))
            sim_env_write_back(fixture.sim);
        fixture_poll(&fixture);
        if (sim_env_dead(fixture.sim))
            break;
        history_acknowledge(history, power_cut);
        history_checkpoint(history, random);
    }
    if (fixture.cut.timestamp > history->promised)
        history->promised = fixture.cut.timestamp;
}

/* Death at any call of a log that is recycled all the time, three times in a row: what is read is the commits in their
 * order from the cut on, with all that were acknowledged. */
START_TEST(death_at_any_call_of_a_recycled_log_keeps_what_was_acknowledged)
{
    uint64_t seed = fixture_seed(), recycled = 0;
    struct history *history = calloc(1, sizeof *history);
    for (uint64_t n = 1; n < 500; n++) {
        struct sim_random random = {seed * 7919 + n};
        fixture_fini(&fixture);
        fixture_init(&fixture, seed * 1000 + n);
        fixture.options.segment_size = 16 << 10;
        fixture.options.mapping = n % 3 != 0;
        ck_assert_int_eq(fixture_open(&fixture, NULL), MSHM_OK);
        for (int life = 0; life < 3; life++) {
            bool power_cut = sim_random_chance(&random, 60);
            sim_env_die_at(fixture.sim, 1 + sim_random_below(&random, 2 * n + 20), power_cut);
            history_live(history, &random, power_cut);
            ck_assert_msg(fixture_restart(&fixture, power_cut) == MSHM_OK, "n %d life %d: %s",
                          (int)n, life, fixture.why);
            ck_assert_msg(fixture.read_last >= history->promised, "n %d life %d: %d of %d", (int)n,
                          life, (int)fixture.read_last, (int)history->promised);
            ck_assert_int_eq(fixture_continue(&fixture), MSHM_OK);
        }
        uint64_t served = fixture.read_last;
        commit(1, true);
        ck_assert_int_eq(fixture_restart(&fixture, true), MSHM_OK);
        ck_assert_uint_eq(fixture.read_last, served + 1);
        recycled += COUNT(log_recycled);
    }
    ck_assert_uint_gt(recycled, 500);
    free(history);
}
END_TEST

/* Death in the middle of a recovery from a cut. */
START_TEST(death_at_any_call_of_a_recovery_from_a_cut_changes_nothing)
{
    uint64_t seed = fixture_seed();
    for (uint64_t n = 1; n < 60; n++) {
        for (int power_cut = 0; power_cut < 2; power_cut++) {
            fixture_fini(&fixture);
            fixture_init(&fixture, seed * 1000 + n);
            fixture.cut = (struct wal_from){0};
            fixture.options.segment_size = 16 << 10;
            ck_assert_int_eq(fixture_open(&fixture, NULL), MSHM_OK);
            commit_through(5);
            fixture.cut = fixture_tell(&fixture);
            commit((int)(n % 4), true);
            uint64_t promised = fixture.timestamp;
            ck_assert_int_eq(fixture_restart(&fixture, n % 3 == 0), MSHM_OK);
            ck_assert_uint_eq(fixture.read_last, promised);
            sim_env_die_at(fixture.sim, n, power_cut != 0);
            (void)fixture_continue(&fixture);
            ck_assert_int_eq(fixture_restart(&fixture, power_cut != 0), MSHM_OK);
            ck_assert_uint_eq(fixture.read_last, promised);
            ck_assert_int_eq(fixture_continue(&fixture), MSHM_OK);
        }
    }
}
END_TEST

int
main(void)
{
    Suite *suite = suite_create("wal_recycle");
    TCase *tests = tcase_create("wal_recycle");
    tcase_set_timeout(tests, 120);
    tcase_add_checked_fixture(tests, set_up, tear_down);
    tcase_add_loop_test(
        tests, released_segments_become_later_ones_and_nothing_is_zeroed_in_a_steady_state, 0, 4);
    tcase_add_test(tests, released_segments_that_are_too_many_are_removed);
    tcase_add_test(tests, long_row_of_released_segments_is_removed_some_at_a_time);
    tcase_add_test(tests, small_segments_are_not_used_again_while_the_next_one_is_to_be_larger);
    tcase_add_test(tests, segment_whose_sync_is_under_way_is_not_released);
    tcase_add_loop_test(tests, records_of_the_former_life_are_not_read, 0, 2);
    tcase_add_test(tests, records_of_the_former_life_prove_nothing);
    tcase_add_test(tests, prepared_segment_with_a_former_life_is_no_damage);
    tcase_add_test(tests, former_header_at_the_new_number_is_damage);
    tcase_add_loop_test(tests, failed_recycling_asks_for_a_new_segment, 0, 4);
    tcase_add_test(tests, directory_that_cannot_be_synced_is_an_error);
    tcase_add_test(tests, listing_that_fails_leaves_nothing_to_recycle);
    tcase_add_test(tests, new_name_never_stands_over_the_old_header);
    tcase_add_test(tests, segment_in_use_under_an_old_name_is_never_written_to);
    tcase_add_test(tests, full_disk_while_recycling_is_survived);
    tcase_add_test(tests, bytes_since_a_position_are_counted_through_changes_of_segment);
    tcase_add_test(tests, bytes_since_the_cut_that_recovery_began_with_count_what_it_replayed);
    tcase_add_test(tests, mark_is_written_only_behind_a_cut);
    tcase_add_test(tests, start_behind_a_last_checkpoint_removes_the_whole_former_log);
    tcase_add_test(tests, death_at_any_call_of_a_recycled_log_keeps_what_was_acknowledged);
    tcase_add_test(tests, death_at_any_call_of_a_recovery_from_a_cut_changes_nothing);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
