/* History in memory stays within its share of the cache, whatever the scratch file does: commits and reads wait while some is on
 * its way out, and for no longer than that may take; then snapshots go. And it goes with those who needed it.
 */
#include <check.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "fake_env.h"
#include "mshm/ops.h"
#include "mshm/status.h"

enum {
    LIMIT = 512 << 10,
    COMMIT = 2 * MSHM_MAX_FRAME, /* what one commit, or one read, may add to it */
    KEYS = 2000,
    GROUP = 100, /* requests that are in the ring at once */
    ROUNDS = 6,  /* each has a snapshot of its own */
    SECOND = 1000 * 1000 * 1000,
    TURNS = 2000, /* 20 ms: more than a commit takes that waits for nothing */
};

/* What becomes of a write to the scratch file. */
static enum scratch_way { WRITES_END, WRITES_STAY, WRITES_FAIL, NO_FILE } scratch;
static int scratch_error;
static struct fake fake;
static struct fake_client *client;
static uint32_t bucket;
static mshm_timestamp snapshots[ROUNDS];
static uint64_t most; /* history */

/* A write that has not ended. */
static struct {
    struct env_file *file;
    const void *from;
    uint64_t offset, tag;
    size_t size;
    bool there;
} staying;

static const struct env *real; /* of the fake environment */
static struct env real_copy;

static void
append(void *context, struct env_file *file, uint64_t offset, const void *from, size_t size,
       bool sync, uint64_t tag)
{
    bool mine = tag >= CORE_TAG_SPILL && tag < CORE_TAG_PAGER;
    if (mine && scratch == WRITES_STAY) {
        ck_assert(!staying.there);
        staying.file = file;
        staying.from = from;
        staying.offset = offset;
        staying.tag = tag;
        staying.size = size;
        staying.there = true;
        return;
    }
    fake.append_error = mine && scratch == WRITES_FAIL ? scratch_error : 0;
    real->file_append(context, file, offset, from, size, sync, tag);
    fake.append_error = 0;
}

static void
staying_end(void)
{
    ck_assert(staying.there);
    staying.there = false;
    real->file_append(&fake, staying.file, staying.offset, staying.from, staying.size, false,
                      staying.tag);
}

static int
scratch_open(void *context, const char *name, unsigned flags, struct env_file **file)
{
    if ((flags & ENV_OPEN_UNNAMED) == 0)
        return real->file_open(context, name, flags, file);
    if (scratch == NO_FILE)
        return scratch_error;
    (void)real->file_remove(context, name); /* the fake one has a name, of one that was closed */
    return real->file_open(context, name, flags, file);
}

static void
start(uint64_t history_size)
{
    fake_init(&fake);
    real_copy = fake.env;
    real = &real_copy;
    fake.env.file_append = append;
    fake.env.file_open = scratch_open;
    fake.file_capacity = 32 << 20;
    fake.options.history_limit = LIMIT;
    fake.options.history_size = history_size;
    scratch = WRITES_END;
    scratch_error = -EIO;
    staying.there = false;
    most = 0;
    ck_assert_int_eq(fake_start(&fake), MSHM_OK);
    bucket = fake_default(&fake);
    client = fake_attach(&fake, 0);
}

static void
teardown(void)
{
    const char *why = "";
    ck_assert_msg(core_check(fake.core, &why) == MSHM_OK, "%s", why);
    fake_client_free(client);
    fake_fini(&fake);
}

static uint64_t
history(void)
{
    return AO_load(&fake.core->figures->counters.history_bytes);
}

static uint64_t
expired(void)
{
    return AO_load(&fake.core->figures->counters.snapshots_expired);
}

static bool
step(void)
{
    bool done = fake_step(&fake);
    most = history() > most ? history() : most;
    return done;
}

static void
key_make(char key[16], unsigned number)
{
    snprintf(key, 16, "%08x", number * 2654435761u);
}

static void
value_make(char value[256], unsigned number, unsigned round)
{
    snprintf(value, 256, "%0*u in %0100u", 120, number, round);
}

static uint64_t
publish(unsigned number, unsigned round)
{
    _Alignas(8) uint8_t op[1024];
    char key[16], value[256];
    key_make(key, number);
    value_make(value, number, round);
    uint64_t size = mshm_op_write(op, bucket, MSHM_OP_PUT, key, (uint16_t)strlen(key), value,
                                  (uint32_t)strlen(value));
    return fake_publish(client, -1, op, size, 1, 0);
}

/* All requests up to this one are answered within so many turns. */
static bool
answered(uint64_t first, uint64_t last, unsigned turns)
{
    mshm_timestamp timestamp;
    int status;
    while (first <= last) {
        if (!fake_answered(client, first, &status, &timestamp)) {
            if (turns-- == 0)
                return false;
            step();
            continue;
        }
        ck_assert_int_eq(status, MSHM_OK);
        first++;
    }
    return true;
}

/* Each key once, scattered over the leaves. A commit that waits has the write that stays end, if it may. */
static void
round_write(unsigned round, bool ends)
{
    for (unsigned number = 0; number < KEYS;) {
        uint64_t first = publish(number++, round), last = first;
        while (last - first + 1 < GROUP && number < KEYS)
            last = publish(number++, round);
        while (!answered(first, last, TURNS)) {
            ck_assert_msg(staying.there, "a commit waits for nothing");
            ck_assert(ends);
            staying_end();
        }
    }
}

static void
round_begin(unsigned round)
{
    snapshots[round] = fake_begin(client, round);
}

/* What a snapshot shows of all keys, or what it answers. */
static int
round_check(unsigned round)
{
    for (unsigned number = 0; number < KEYS; number++) {
        char key[16], value[256], found[256];
        key_make(key, number);
        value_make(value, number, round);
        int status = fake_get(client, round < ROUNDS ? round : 7, bucket, key,
                              round < ROUNDS ? snapshots[round] : 0, found);
        most = history() > most ? history() : most;
        if (status != MSHM_OK)
            return status;
        ck_assert_str_eq(found, value);
    }
    return MSHM_OK;
}

static void
rounds_run(bool ends)
{
    round_write(0, ends);
    for (unsigned round = 0; round < ROUNDS; round++) {
        round_begin(round);
        round_write(round + 1, ends);
    }
}

/* --- cases --- */

START_TEST(commits_wait_while_a_write_to_the_file_stays)
{
    start(16 << 20);
    scratch = WRITES_STAY;
    rounds_run(true);
    ck_assert_uint_gt(most, LIMIT);
    ck_assert_uint_le(most, LIMIT + COMMIT);
    ck_assert_uint_eq(expired(), 0);
    scratch = WRITES_END;
    if (staying.there)
        staying_end();
    for (unsigned round = 0; round <= ROUNDS; round++)
        ck_assert_int_eq(round_check(round), MSHM_OK);
}
END_TEST

/* One that never ends is no reason to wait for ever. */
START_TEST(commits_do_not_wait_longer_than_a_second_for_a_write)
{
    uint64_t first = 0, last = 0;
    unsigned round = 0, number = 0;

    start(16 << 20);
    round_write(0, false);
    scratch = WRITES_STAY;
    do {
        if (number == 0)
            round_begin(round++);
        first = last = publish(number++, round);
        while (last - first + 1 < GROUP)
            last = publish(number++, round);
        number %= KEYS;
    } while (answered(first, last, TURNS));
    ck_assert(staying.there);
    ck_assert_uint_eq(expired(), 0);
    fake.now_ns += SECOND;
    ck_assert(answered(first, last, TURNS));
    ck_assert_uint_gt(expired(), 0);
    round_write(ROUNDS, false); /* and nobody waits after that */
    ck_assert_uint_le(most, LIMIT + COMMIT);
    ck_assert(staying.there);
    staying_end();
    fake_wait(&fake, 1000);
    ck_assert_int_eq(round_check(ROUNDS), MSHM_OK);
}
END_TEST

/* Then there are fewer snapshots, and nothing waits. */
START_TEST(history_keeps_to_its_share_without_room_for_it)
{
    static const struct {
        const char *what;
        uint64_t history_size;
        enum scratch_way scratch;
        int error;
    } cases[] = {
        {"no file", 0, WRITES_END, 0},
        {"a full one", 256 << 10, WRITES_END, 0},
        {"writes that fail", 16 << 20, WRITES_FAIL, -EIO},
        {"a full disk", 16 << 20, WRITES_FAIL, -ENOSPC},
        {"a file that cannot be made", 16 << 20, NO_FILE, -EACCES},
    };
    for (unsigned i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        start(cases[i].history_size);
        scratch = cases[i].scratch;
        scratch_error = cases[i].error;
        rounds_run(false);
        ck_assert_msg(expired() > 0 && expired() <= ROUNDS, "%s: %d snapshots expired",
                      cases[i].what, (int)expired());
        ck_assert_msg(most <= LIMIT + COMMIT, "%s: %d bytes of history", cases[i].what, (int)most);
        unsigned gone = 0;
        for (unsigned round = 0; round <= ROUNDS; round++) {
            int status = round_check(round);
            ck_assert(status == MSHM_OK || status == MSHM_SNAPSHOT_EXPIRED);
            gone += status != MSHM_OK;
        }
        ck_assert_uint_eq(gone, expired());
        if (i + 1 < sizeof cases / sizeof cases[0])
            teardown();
    }
}
END_TEST

/* Faster than what was read before may leave again. */
START_TEST(what_is_read_back_keeps_to_the_share)
{
    start(16 << 20);
    rounds_run(false);
    most = 0;
    for (unsigned round = 0; round < ROUNDS; round++)
        ck_assert_int_eq(round_check(round), MSHM_OK);
    ck_assert_uint_gt(AO_load(&fake.core->figures->counters.scratch_reads), 100);
    ck_assert_uint_le(most, LIMIT + COMMIT);
    ck_assert_uint_eq(expired(), 0);
}
END_TEST

/* The loop sleeps as long as core_step lets it, and nobody wakes it. */
static void
sleeping_step(void)
{
    uint64_t wait_ns = 0;
    bool done = core_step(fake.core, &wait_ns);
    ck_assert_msg(done || wait_ns != UINT64_MAX, "asleep with %d bytes of history", (int)history());
    fake.now_ns += done ? 10000 : wait_ns;
}

START_TEST(what_nobody_needs_goes_without_another_commit)
{
    start(16 << 20);
    rounds_run(false);
    for (uint64_t until_ns = fake.now_ns + SECOND; fake.now_ns < until_ns;)
        sleeping_step();
    ck_assert_uint_gt(history(), 0);
    /* A pass over the leaves with history has just ended, and the next one is not due when the snapshots are gone. */
    uint64_t maintained_ns = fake.core->maintained_ns;
    for (unsigned i = 0; i < 100000 && fake.core->maintained_ns == maintained_ns; i++)
        sleeping_step();
    for (unsigned round = 0; round < ROUNDS; round++)
        fake_end(client, round);
    ck_assert_int_eq(fake_one_call(client, bucket, MSHM_OP_PUT, "zz", "the last one"), MSHM_OK);
    uint64_t until_ns = fake.now_ns + SECOND; /* long before a checkpoint is due */
    while (history() > 0 && fake.now_ns < until_ns)
        sleeping_step();
    ck_assert_uint_eq(history(), 0);
}
END_TEST

/* A leaf that is rebuilt while its history is in the scratch file does not know any more who needs which part of it. */
START_TEST(what_was_read_back_goes_with_its_readers)
{
    const struct mshm_counters *counters;
    start(16 << 20);
    rounds_run(false);
    round_write(ROUNDS + 1, false); /* nobody reads what it replaces: no leaf gets more history */
    for (unsigned round = 0; round < ROUNDS; round++)
        ck_assert_int_eq(round_check(round), MSHM_OK);
    ck_assert_uint_gt(history(), 0);
    for (unsigned round = 0; round < ROUNDS; round++)
        fake_end(client, round);
    counters = &fake.core->figures->counters;
    for (uint64_t until_ns = fake.now_ns + SECOND; fake.now_ns < until_ns;)
        sleeping_step();
    ck_assert_uint_eq(history(), 0);
    ck_assert_uint_eq(AO_load(&counters->scratch_file), 0);
}
END_TEST

int
main(void)
{
    Suite *suite = suite_create("history_wait");
    TCase *cases = tcase_create("history_wait");
    SRunner *runner = srunner_create(suite);

    tcase_set_timeout(cases, 120);
    tcase_add_checked_fixture(cases, NULL, teardown);
    tcase_add_test(cases, commits_wait_while_a_write_to_the_file_stays);
    tcase_add_test(cases, commits_do_not_wait_longer_than_a_second_for_a_write);
    tcase_add_test(cases, history_keeps_to_its_share_without_room_for_it);
    tcase_add_test(cases, what_is_read_back_keeps_to_the_share);
    tcase_add_test(cases, what_nobody_needs_goes_without_another_commit);
    tcase_add_test(cases, what_was_read_back_goes_with_its_readers);
    suite_add_tcase(suite, cases);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
