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

#include "mshm/ops.h"
#include "mshm/status.h"

enum {
    KEYS = 60,
    LOAD = 90,     /* commits before the pages leave memory */
    BLIND = 30,    /* commits after it */
    TURNS = 20000, /* until something has to have happened */
    FILLER = 1200, /* bytes in each commit, so that the log needs several segments */
    FILE_ROOM = 1 << 20,
};

static struct fake fake;
static struct fake_client *client;
static uint32_t bucket;
/* What has to be there: of each key the newest commit that was acknowledged, and how many there were. Commit number
 * `doubt`, the last one, may be there, too. */
static unsigned newest[KEYS], acked, doubt, number;
static uint64_t base; /* timestamp before the first of them */
static unsigned restarts, refused, full;

/* --- lives --- */

static int
start(void)
{
    char why[256] = "";

    fake.completion_count = 0;
    fake.store_size = core_store_size(&fake.options);
    fake.store = fake_memory(fake.store_size);
    int status = core_create(&fake.core, &fake.options, &fake.env, fake.store);
    if (status == MSHM_OK)
        status = core_recover(fake.core, true, why, sizeof why);
    if (status == MSHM_OK) {
        client = fake_attach(&fake, 0);
        bucket = fake_default(&fake);
        return status;
    }
    fake_kill(&fake);
    ck_assert_msg(status == MSHM_IO || status == MSHM_FULL || status == MSHM_NO_MEMORY ||
                      status == MSHM_LIMIT,
                  "a start was refused with %s: %s", mshm_strerror(status), why);
    return status;
}

static void
die(void)
{
    fake_kill(&fake);
    fake_client_free(client);
    client = NULL;
}

/* --- reading --- */

static void
texts(unsigned commit, char key[16], char value[64])
{
    snprintf(key, 16, "key%u", commit % KEYS);
    snprintf(value, 64, "commit %u of the sweep, which is a text of some length", commit);
}

/* True when it could be read; what was read is right. */
static bool
see_key(unsigned key_number)
{
    char key[16], value[256], wanted[64];

    texts(key_number, key, wanted);
    int status = fake_get(client, 0, bucket, key, 0, value);
    if (status == MSHM_NOT_FOUND) {
        ck_assert_msg(newest[key_number] == 0, "%s is not there", key);
        return true;
    }
    if (status != MSHM_OK)
        ck_assert_msg(sweep_met() && (status == MSHM_IO || status == MSHM_NO_MEMORY ||
                                      status == MSHM_LIMIT || status == -1),
                      "%s: %s", key, mshm_strerror(status));
    if (status != MSHM_OK)
        return false;
    texts(newest[key_number], key, wanted);
    if (newest[key_number] != 0 && strcmp(value, wanted) == 0)
        return true;
    texts(doubt, key, wanted);
    ck_assert_msg(doubt != 0 && doubt % KEYS == key_number && strcmp(value, wanted) == 0,
                  "key %u has %s", key_number, value);
    return true;
}

/* Everything; with the fault gone all of it can be read. */
static void
see_all(void)
{
    uint64_t visible = AO_load(&fake.core->store->visible);

    ck_assert_msg(visible == base + acked || (doubt != 0 && visible == base + acked + 1),
                  "%u commits were acknowledged, %d are there", acked, (int)(visible - base));
    if (doubt != 0 && visible == base + acked + 1) {
        newest[doubt % KEYS] = doubt;
        acked++;
    }
    doubt = 0;
    for (unsigned i = 0; i < KEYS; i++)
        ck_assert_msg(see_key(i), "key %u cannot be read though the fault is over", i);
}

/* The broker has said that it cannot go on, or did not start: the next one does, once the fault is gone. */
static void
restart(void)
{
    const char *why = "";

    if (fake.core != NULL)
        die();
    sweep_end();
    restarts++;
    ck_assert_int_eq(start(), MSHM_OK);
    if (acked == 0 && doubt == 0)
        base = AO_load(&fake.core->store->visible);
    see_all();
    ck_assert_msg(core_check(fake.core, &why) == MSHM_OK, "%s", why);
}

static bool
poisoned(void)
{
    return fake.core == NULL || core_poisoned(fake.core);
}

/* --- writing --- */

/* The answer, or MSHM_BROKER_LOST when none will come. */
static int
answer(uint64_t sequence)
{
    mshm_timestamp timestamp;
    int status;

    for (int i = 0; i < TURNS; i++) {
        if (fake_answered(client, sequence, &status, &timestamp))
            return status;
        if (poisoned())
            return MSHM_BROKER_LOST;
        fake_step(&fake);
    }
    ck_abort_msg("a commit is not answered");
}

static int
put(bool sync)
{
    static const char filler[FILLER];
    _Alignas(8) uint8_t ops[2048];
    char key[16], value[64];

    texts(++number, key, value);
    uint64_t size = mshm_op_write(ops, bucket, MSHM_OP_PUT, key, (uint16_t)strlen(key), value,
                                  (uint32_t)strlen(value));
    snprintf(key, sizeof key, "z%u", number % 7);
    size +=
        mshm_op_write(ops + size, bucket, MSHM_OP_PUT, key, (uint16_t)strlen(key), filler, FILLER);
    fake_begin(client, 7);
    int status = answer(fake_publish(client, 7, ops, size, 2, sync ? MSHM_REQUEST_LEVEL_SYNC : 0));
    fake_end(client, 7);
    if (status == MSHM_OK) {
        newest[number % KEYS] = number;
        acked++;
        return status;
    }
    ck_assert_msg(sweep_met(), "a commit without a fault: %s", mshm_strerror(status));
    if (status == MSHM_BROKER_LOST || status == MSHM_UNKNOWN_OUTCOME)
        doubt = number;
    else
        ck_assert_msg(status == MSHM_FULL || status == MSHM_IO || status == MSHM_NO_MEMORY ||
                          status == MSHM_LIMIT,
                      "a commit: %s", mshm_strerror(status));
    refused++;
    full += status == MSHM_FULL;
    return status;
}

/* Puts, and starts again when the broker says that it cannot go on. */
static void
load(unsigned commits)
{
    for (unsigned i = 0; i < commits; i++) {
        put(i % 8 == 7);
        if (poisoned())
            restart();
    }
}

/* Asks for a checkpoint, and waits for a while: a full disk holds it up. */
static int
checkpoint(void)
{
    struct mshm_message message = {.magic = MSHM_MESSAGE_MAGIC,
                                   .kind = MSHM_MESSAGE_CHECKPOINT,
                                   .version = MSHM_LAYOUT_VERSION,
                                   .size = sizeof message};
    unsigned replies = client->replies;

    ck_assert_int_eq(core_control(fake.core, client->session, &message, sizeof message), MSHM_OK);
    for (int i = 0; i < 400 && client->replies == replies && !poisoned(); i++) {
        fake_step(&fake);
        if (i % 100 == 99)
            fake.now_ns += UINT64_C(300) * 1000 * 1000; /* it tries again now and then */
    }
    if (poisoned()) {
        restart();
        return MSHM_BROKER_LOST;
    }
    if (client->replies == replies)
        return MSHM_BUSY;
    return ((struct mshm_message *)client->reply)->status;
}

static void
evict(void)
{
    fake_wait(&fake, 2000);
    if (poisoned())
        restart();
    while (pages_evict(fake.core->pages, UINT64_MAX, fake.now_ns += UINT64_C(1000000000)) > 0)
        continue;
}

static void
see_some(void)
{
    for (unsigned i = 0; i < KEYS && doubt == 0; i++)
        if (!see_key(i)) {
            if (poisoned())
                restart();
            ck_assert_msg(see_key(i) || sweep_met(), "key %u cannot be read", i);
        }
}

/* --- the history --- */

/* The fault is over: all goes on, or has to be started again, and then goes on. */
static void
go_on(void)
{
    sweep_end();
    fake_wait(&fake, 1000);
    if (poisoned())
        restart();
    see_all();
    ck_assert_int_eq(put(true), MSHM_OK);
    ck_assert_int_eq(put(false), MSHM_OK);
    ck_assert_int_eq(checkpoint(), MSHM_OK);
    evict();
    see_all();
    restart();
    ck_assert_int_eq(put(true), MSHM_OK);
}

static void
history(void)
{
    if (start() != MSHM_OK)
        restart();
    else
        base = AO_load(&fake.core->store->visible);
    load(LOAD / 2);
    checkpoint();
    load(LOAD / 2);
    checkpoint();
    evict();
    see_some();
    evict();
    load(BLIND);
    checkpoint();
    load(5);
    die();
    if (start() != MSHM_OK)
        restart();
    see_some();
    load(5);
    go_on();
}

static bool
run(enum sweep_kind kind, uint64_t nth, int error, bool for_good, bool mapping)
{
    memset(newest, 0, sizeof newest);
    acked = doubt = number = 0;
    fake_init(&fake);
    fake.file_capacity = FILE_ROOM;
    fake.options.page_size = 4096;
    fake.options.map_capacity = 4096;
    fake.options.segment_size = 64 * 1024;
    fake.options.log_mapping = mapping;
    sweep_begin(&fake);
    sweep_plan(kind, nth, error, for_good);
    history();
    bool met = sweep_met();
    die();
    fake_fini(&fake);
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
    static const char value[FILLER];
    _Alignas(8) uint8_t op[2048];
    char key[16];

    snprintf(key, sizeof key, "row%06u", place);
    uint64_t size = mshm_op_write(op, bucket, kind, key, (uint16_t)strlen(key), value,
                                  kind == MSHM_OP_PUT ? FILLER : 0);
    return answer(fake_publish(client, -1, op, size, 1, 0));
}

/* Every key of the row is there from `from` on, and none before. */
static void
see_row(unsigned from, unsigned to)
{
    char key[16], value[256];

    for (unsigned i = 0; i < to; i++) {
        snprintf(key, sizeof key, "row%06u", i);
        int status = fake_get(client, 0, bucket, key, 0, value);
        ck_assert_msg(status == (i < from ? MSHM_NOT_FOUND : MSHM_BUFFER_TOO_SMALL), "%s: %s", key,
                      mshm_strerror(status));
    }
}

START_TEST(f18_commits_stop_when_checkpoints_find_no_room_and_reads_and_deletes_go_on)
{
    unsigned to = 0, from = 0;
    int status;

    fake_init(&fake);
    fake.file_capacity = 32 << 20;
    fake.options.cache_size = 2 << 20;
    fake.options.page_size = 4096;
    fake.options.map_capacity = 65536;
    fake.options.segment_size = 24 << 20;
    sweep_begin(&fake);
    ck_assert_int_eq(start(), MSHM_OK);
    for (; to < 300; to++)
        ck_assert_int_eq(row(to, MSHM_OP_PUT), MSHM_OK);
    ck_assert_int_eq(checkpoint(), MSHM_OK);
    sweep_only("data/");
    sweep_plan(SWEEP_GROWTH, 1, ENOSPC, true);
    while ((status = row(to, MSHM_OP_PUT)) == MSHM_OK)
        ck_assert_uint_lt(++to, 10000);
    ck_assert_int_eq(status, MSHM_FULL);
    ck_assert(!poisoned());
    printf("%u commits until memory ran short\n", to);
    see_row(from, to);
    for (; from < 50; from++)
        ck_assert_int_eq(row(from, MSHM_OP_DELETE), MSHM_OK);
    see_row(from, to);
    sweep_end();
    fake_wait(&fake, 1000);
    for (unsigned last = to + 500; to < last; to++)
        ck_assert_int_eq(row(to, MSHM_OP_PUT), MSHM_OK);
    ck_assert_int_eq(checkpoint(), MSHM_OK);
    see_row(from, to);
    die();
    ck_assert_int_eq(start(), MSHM_OK);
    see_row(from, to);
    die();
    fake_fini(&fake);
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
    suite_add_tcase(suite, cases);
    runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
