/* sweep_test.c - the n-th call of the disk fails, for every n of a history that loads, checkpoints, evicts, reads pages in,
 * writes blind, dies and recovers: an error code, every acknowledged commit there afterwards, and either the broker goes
 * on or the next one does. */
#include "fault/sweep.h"

#include <check.h>
#include <errno.h>
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fault/sweep_life.h"
#include "mshm/ops.h"
#include "mshm/status.h"

enum {
    LOAD = 90,  /* commits before the pages leave memory */
    BLIND = 30, /* commits after it */
};

static unsigned restarts, refused, full; /* of a whole sweep */

/* --- the history --- */

/* The fault is over: all goes on, or has to be started again, and then goes on. */
static void
go_on(void)
{
    sweep_end();
    fake_wait(&life.fake, 1000);
    if (life_poisoned())
        life_restart();
    life_see_all();
    ck_assert_int_eq(life_put(true), MSHM_OK);
    ck_assert_int_eq(life_put(false), MSHM_OK);
    ck_assert_int_eq(life_checkpoint(), MSHM_OK);
    life_evict();
    life_see_all();
    life_restart();
    ck_assert_int_eq(life_put(true), MSHM_OK);
}

static void
history(void)
{
    if (life_start() != MSHM_OK)
        life_restart();
    else
        life.base = AO_load(&life.fake.core->store->visible);
    life_load(LOAD / 2);
    life_checkpoint();
    life_load(LOAD / 2);
    life_checkpoint();
    life_evict();
    life_see_some();
    life_evict();
    life_load(BLIND);
    life_checkpoint();
    life_load(5);
    life_die();
    if (life_start() != MSHM_OK)
        life_restart();
    life_see_some();
    life_load(5);
    go_on();
}

static bool
run(enum sweep_kind kind, uint64_t nth, int error, bool for_good, bool mapping)
{
    life_begin(mapping);
    sweep_plan(kind, nth, error, for_good);
    history();
    bool met = sweep_met();
    restarts += life.restarts;
    refused += life.refused;
    full += life.full;
    life_end();
    return met;
}

static void
sweep(enum sweep_kind kind, int error, bool for_good)
{
    for (int mapping = 0; mapping < 2; mapping++) {
        uint64_t nth = 1;
        restarts = refused = full = 0;
        while (run(kind, nth, error, for_good, mapping))
            nth++;
        printf("%s, %s%s%s: %u calls, %u restarts, %u commits refused, %u of them for want of "
               "room\n",
               sweep_name(kind), strerror(error), for_good ? " for good" : "",
               mapping ? ", log mapped" : "", (unsigned)nth - 1, restarts, refused, full);
        ck_assert(nth > 3 || kind == SWEEP_MAP);
    }
}

/* --- cases --- */

START_TEST(f20_each_write_fails_once)
{
    sweep(SWEEP_WRITE, EIO, false);
}
END_TEST

START_TEST(f20_each_sync_fails_once)
{
    sweep(SWEEP_SYNC, EIO, false);
    sweep(SWEEP_DIRECTORY, EIO, false);
}
END_TEST

START_TEST(f19_each_read_fails_once)
{
    sweep(SWEEP_READ, EIO, false);
    sweep(SWEEP_OPEN, EIO, false);
}
END_TEST

START_TEST(f20_each_change_of_names_fails_once)
{
    sweep(SWEEP_NAMES, EIO, false);
    sweep(SWEEP_CREATE, EIO, false);
    sweep(SWEEP_PREALLOCATE, EIO, false);
    sweep(SWEEP_MAP, ENOMEM, false);
}
END_TEST

START_TEST(f17_f18_room_is_missing_once_at_each_place)
{
    sweep(SWEEP_GROWTH, ENOSPC, false);
    sweep(SWEEP_CREATE, EMFILE, false);
}
END_TEST

START_TEST(f17_f18_the_disk_is_full_from_each_place_on)
{
    sweep(SWEEP_GROWTH, ENOSPC, true);
    ck_assert_uint_gt(full, 0);
    sweep(SWEEP_GROWTH, EDQUOT, true);
}
END_TEST

/* One key of a row that grows without end. */
static int
row(unsigned place, unsigned kind)
{
    static const char value[LIFE_FILLER];
    _Alignas(8) uint8_t op[2048];
    char key[16];

    snprintf(key, sizeof key, "row%06u", place);
    uint64_t size = mshm_op_write(op, life.bucket, kind, key, (uint16_t)strlen(key), value,
                                  kind == MSHM_OP_PUT ? LIFE_FILLER : 0);
    return life_answer(fake_publish(life.client, -1, op, size, 1, 0));
}

/* Every key of the row is there from `from` on, and none before. */
static void
see_row(unsigned from, unsigned to)
{
    char key[16], value[256];

    for (unsigned i = 0; i < to; i++) {
        snprintf(key, sizeof key, "row%06u", i);
        int status = fake_get(life.client, 0, life.bucket, key, 0, value);
        ck_assert_msg(status == (i < from ? MSHM_NOT_FOUND : MSHM_BUFFER_TOO_SMALL), "%s: %s", key,
                      mshm_strerror(status));
    }
}

/* --- writes that come late --- */

/* The n-th append to these files is under way when the broker is killed, and ends when the next one has served for a
 * while. The lock rules that out, for every file; this is what the files themselves do against it, but for the
 * manifest, which every incarnation goes on with. */
static bool
write_late(const char *prefix, uint64_t nth)
{
    life_begin(false);
    ck_assert_int_eq(life_start(), MSHM_OK);
    life.base = AO_load(&life.fake.core->store->visible);
    life_load(30);
    sweep_only(prefix);
    sweep_hold(nth);
    for (unsigned i = 0; i < 30 && !sweep_met(); i++) {
        life_put(i % 2 == 0);
        if (i % 10 == 9 && !sweep_met())
            life_checkpoint();
    }
    bool met = sweep_met();
    sweep_hold(0);
    life_die();
    ck_assert_int_eq(life_start(), MSHM_OK);
    life_see_all();
    life_load(20);
    life_checkpoint();
    life_load(20);
    sweep_release();
    life_load(20);
    life_checkpoint();
    life_evict();
    life_see_all();
    for (unsigned i = 0; i < 2; i++) {
        life_die();
        ck_assert_int_eq(life_start(), MSHM_OK);
        life_see_all();
        life_load(10);
    }
    life_end();
    return met;
}

START_TEST(f07_an_append_that_ends_after_the_next_broker_began_changes_nothing)
{
    static const char *const prefixes[] = {"wal/", "data/"};

    for (unsigned i = 0; i < 2; i++) {
        uint64_t nth = 1;
        while (write_late(prefixes[i], nth))
            nth++;
        printf("%u appends to %s came late\n", (unsigned)nth - 1, prefixes[i]);
        ck_assert_uint_gt(nth, 3);
    }
}
END_TEST

START_TEST(f18_commits_stop_when_checkpoints_find_no_room_and_reads_and_deletes_go_on)
{
    unsigned to = 0, from = 0;
    int status;

    life_begin(true);
    life.fake.file_capacity = 32 << 20;
    life.fake.options.cache_size = 2 << 20;
    life.fake.options.map_capacity = 65536;
    life.fake.options.segment_size = 24 << 20;
    ck_assert_int_eq(life_start(), MSHM_OK);
    for (; to < 300; to++)
        ck_assert_int_eq(row(to, MSHM_OP_PUT), MSHM_OK);
    ck_assert_int_eq(life_checkpoint(), MSHM_OK);
    sweep_only("data/");
    sweep_plan(SWEEP_GROWTH, 1, ENOSPC, true);
    while ((status = row(to, MSHM_OP_PUT)) == MSHM_OK)
        ck_assert_uint_lt(++to, 10000);
    ck_assert_int_eq(status, MSHM_FULL);
    ck_assert(!life_poisoned());
    printf("%u commits until memory ran short\n", to);
    see_row(from, to);
    for (; from < 50; from++)
        ck_assert_int_eq(row(from, MSHM_OP_DELETE), MSHM_OK);
    see_row(from, to);
    sweep_end();
    fake_wait(&life.fake, 1000);
    for (unsigned last = to + 500; to < last; to++)
        ck_assert_int_eq(row(to, MSHM_OP_PUT), MSHM_OK);
    ck_assert_int_eq(life_checkpoint(), MSHM_OK);
    see_row(from, to);
    life_die();
    ck_assert_int_eq(life_start(), MSHM_OK);
    see_row(from, to);
    life_end();
}
END_TEST

int
main(void)
{
    Suite *suite = suite_create("faults of each call");
    TCase *cases = tcase_create("sweep");
    SRunner *runner;

    mallopt(M_MMAP_THRESHOLD, 1 << 28);
    mallopt(M_TRIM_THRESHOLD, 1 << 28);
    tcase_set_timeout(cases, 0);
    tcase_add_test(cases, f20_each_write_fails_once);
    tcase_add_test(cases, f20_each_sync_fails_once);
    tcase_add_test(cases, f19_each_read_fails_once);
    tcase_add_test(cases, f20_each_change_of_names_fails_once);
    tcase_add_test(cases, f17_f18_room_is_missing_once_at_each_place);
    tcase_add_test(cases, f17_f18_the_disk_is_full_from_each_place_on);
    tcase_add_test(cases,
                   f18_commits_stop_when_checkpoints_find_no_room_and_reads_and_deletes_go_on);
    tcase_add_test(cases, f07_an_append_that_ends_after_the_next_broker_began_changes_nothing);
    suite_add_tcase(suite, cases);
    runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
