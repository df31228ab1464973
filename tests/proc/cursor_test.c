/* cursor_test.c - ordered walks over real trees of many pages, while others write. */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "support/broker.h"
#include "support/client.h"
#include "support/process.h"
#include "support/random.h"

static struct broker broker;
static char scratch[SCRATCH_PATH], path[SCRATCH_PATH];
static mace *db;
static mace_bucket *bucket;

static void
setup(void)
{
    scratch_create(scratch);
    scratch_join(path, scratch, "db");
    broker_start(
        &broker, path,
        &(struct broker_options){.arguments = {"--cache", "256M", "--segment-size", "16M"}});
    db = client_open(path);
    bucket = client_bucket(db, "default");
}

static void
teardown(void)
{
    mace_close(db);
    broker_finish(&broker);
    scratch_remove(scratch);
}

/* Keys of the model, sorted; the value of a key is its number, repeated. */
struct entry {
    uint8_t key[64];
    size_t key_size, value_size;
    uint64_t number;
    int present;
};
enum { ENTRIES = 20000 };
static struct entry entries[ENTRIES];
static size_t entry_count;

static int
bytes_order(const void *a, size_t a_size, const void *b, size_t b_size)
{
    int order = memcmp(a, b, a_size < b_size ? a_size : b_size);
    return order != 0 ? order : (a_size > b_size) - (a_size < b_size);
}

static int
entry_order(const void *a, const void *b)
{
    const struct entry *x = a, *y = b;
    return bytes_order(x->key, x->key_size, y->key, y->key_size);
}

/* Random keys of few letters with shared beginnings, each once. */
static void
entries_make(struct random *random)
{
    for (size_t i = 0; i < ENTRIES; i++) {
        struct entry *entry = &entries[i];
        entry->key_size = 1 + random_below(random, random_chance(random, 10) ? 60 : 10);
        for (size_t j = 0; j < entry->key_size; j++)
            entry->key[j] = (uint8_t) "\0ab\xff"[random_below(random, 4)];
        if (random_chance(random, 50))
            memcpy(entry->key, "the/same", entry->key_size < 8 ? entry->key_size : 8);
    }
    qsort(entries, ENTRIES, sizeof entries[0], entry_order);
    entry_count = 0;
    for (size_t i = 0; i < ENTRIES; i++)
        if (entry_count == 0 || entry_order(&entries[entry_count - 1], &entries[i]) != 0)
            entries[entry_count++] = entries[i];
}

static void
entry_write(mace_txn *txn, struct random *random, struct entry *entry)
{
    uint64_t value[64];
    if (entry->present && random_chance(random, 30)) {
        require_ok(mace_delete(txn, bucket, entry->key, entry->key_size));
        entry->present = 0;
        return;
    }
    entry->present = 1;
    entry->number = random_next(random);
    entry->value_size = 8 * random_below(random, 20);
    for (size_t i = 0; i < entry->value_size / 8; i++)
        value[i] = entry->number;
    require_ok(mace_put(txn, bucket, entry->key, entry->key_size, value, entry->value_size));
}

static void
entries_write(struct random *random, unsigned commits, unsigned puts)
{
    for (unsigned i = 0; i < commits; i++) {
        mace_txn *txn;
        require_ok(mace_begin(db, MACE_OS, &txn));
        for (unsigned j = 0; j < puts; j++)
            entry_write(txn, random, &entries[random_below(random, entry_count)]);
        require_ok(mace_commit(txn));
    }
}

static void
assert_entry(const struct entry *entry, mace_slice key, mace_slice value)
{
    ck_assert_uint_eq(key.size, entry->key_size);
    ck_assert_mem_eq(key.data, entry->key, key.size);
    ck_assert_uint_eq(value.size, entry->value_size);
    for (size_t i = 0; i < value.size / 8; i++)
        ck_assert_mem_eq((const uint8_t *)value.data + 8 * i, &entry->number, 8);
}

/* Both ways over everything. */
static void
assert_walks(mace_txn *txn)
{
    mace_cursor *cursor;
    mace_slice key, value;
    require_ok(mace_cursor_open(txn, bucket, NULL, &cursor));
    for (size_t i = 0; i < entry_count; i++) {
        if (!entries[i].present)
            continue;
        ck_assert_int_eq(mace_cursor_next(cursor, &key, &value), MACE_OK);
        assert_entry(&entries[i], key, value);
    }
    ck_assert_int_eq(mace_cursor_next(cursor, &key, &value), MACE_NOT_FOUND);
    for (size_t i = entry_count; i-- > 0;) {
        if (!entries[i].present)
            continue;
        ck_assert_int_eq(mace_cursor_prev(cursor, &key, &value), MACE_OK);
        assert_entry(&entries[i], key, value);
    }
    ck_assert_int_eq(mace_cursor_prev(cursor, &key, &value), MACE_NOT_FOUND);
    mace_cursor_close(cursor);
}

/* Some steps to and fro from random places. */
static void
assert_seeks(mace_txn *txn, struct random *random)
{
    mace_cursor *cursor;
    mace_slice key, value;
    require_ok(mace_cursor_open(txn, bucket, NULL, &cursor));
    for (unsigned i = 0; i < 2000; i++) {
        size_t at = random_below(random, entry_count);
        int status = mace_cursor_seek(cursor, entries[at].key, entries[at].key_size, &key, &value);
        while (at < entry_count && !entries[at].present)
            at++;
        ck_assert_int_eq(status, at == entry_count ? MACE_NOT_FOUND : MACE_OK);
        if (status == MACE_OK)
            assert_entry(&entries[at], key, value);
        for (unsigned steps = (unsigned)random_below(random, 6); steps > 0 && status == MACE_OK;
             steps--) {
            size_t step = random_chance(random, 50) ? 1 : (size_t)-1;
            do
                at += step;
            while (at < entry_count && !entries[at].present);
            status = step == 1 ? mace_cursor_next(cursor, &key, &value)
                               : mace_cursor_prev(cursor, &key, &value);
            ck_assert_int_eq(status, at < entry_count ? MACE_OK : MACE_NOT_FOUND);
            if (status == MACE_OK)
                assert_entry(&entries[at], key, value);
        }
    }
    mace_cursor_close(cursor);
}

START_TEST(walks_over_many_pages_meet_every_key_in_order_both_ways)
{
    struct random random;
    mace_txn *txn;
    random_init(&random, random_seed("cursor walks"));
    entries_make(&random);
    for (unsigned round = 0; round < 4; round++) {
        entries_write(&random, round == 0 ? 20 : 400, round == 0 ? 1000 : 20);
        require_ok(mace_begin(db, MACE_RDONLY, &txn));
        assert_walks(txn);
        assert_seeks(txn, &random);
        mace_abort(txn);
    }
    /* A large write set of its own over all of it. */
    require_ok(mace_begin(db, 0, &txn));
    for (unsigned i = 0; i < 5000; i++)
        entry_write(txn, &random, &entries[random_below(&random, entry_count)]);
    assert_walks(txn);
    assert_seeks(txn, &random);
    require_ok(mace_commit(txn));
    require_ok(mace_begin(db, MACE_RDONLY, &txn));
    assert_walks(txn);
    mace_abort(txn);
}
END_TEST

/* Another process that changes everything while this one walks. */
static void
churn_run(int channel, void *argument)
{
    uint64_t word;
    struct random random;
    (void)argument;
    random_init(&random, 99);
    db = client_open(path);
    bucket = client_bucket(db, "default");
    channel_tell(channel, 1);
    entries_write(&random, 1500, 30);
    channel_tell(channel, 2);
    (void)channel_hear(channel, &word);
    mace_close(db);
}

START_TEST(a_walk_sees_its_snapshot_while_another_process_changes_everything)
{
    struct random random;
    mace_txn *txn;
    random_init(&random, random_seed("cursor churn"));
    entries_make(&random);
    entries_write(&random, 20, 1000);
    require_ok(mace_begin(db, MACE_RDONLY, &txn));
    struct worker worker;
    worker_start(&worker, churn_run, NULL);
    channel_expect(worker.channel, 1);
    for (unsigned i = 0; i < 5; i++) {
        assert_walks(txn);
        assert_seeks(txn, &random);
    }
    channel_expect(worker.channel, 2);
    assert_walks(txn);
    assert_seeks(txn, &random);
    channel_tell(worker.channel, 3);
    worker_join(&worker);
    mace_abort(txn);
}
END_TEST

START_TEST(a_prefix_walk_meets_its_keys_and_no_other)
{
    struct random random;
    mace_txn *txn;
    random_init(&random, random_seed("cursor prefixes"));
    entries_make(&random);
    entries_write(&random, 20, 1000);
    require_ok(mace_begin(db, MACE_RDONLY, &txn));
    for (unsigned i = 0; i < 500; i++) {
        const struct entry *like = &entries[random_below(&random, entry_count)];
        size_t size = random_below(&random, like->key_size + 1);
        mace_range range;
        mace_cursor *cursor;
        mace_slice key, value;
        mace_range_prefix(&range, like->key, size);
        require_ok(mace_cursor_open(txn, bucket, &range, &cursor));
        int backward = random_chance(&random, 50);
        for (size_t j = 0; j < entry_count; j++) {
            const struct entry *entry = &entries[backward ? entry_count - 1 - j : j];
            if (!entry->present || entry->key_size < size ||
                memcmp(entry->key, like->key, size) != 0)
                continue;
            ck_assert_int_eq(backward ? mace_cursor_prev(cursor, &key, &value)
                                      : mace_cursor_next(cursor, &key, &value),
                             MACE_OK);
            assert_entry(entry, key, value);
        }
        ck_assert_int_eq(backward ? mace_cursor_prev(cursor, &key, &value)
                                  : mace_cursor_next(cursor, &key, &value),
                         MACE_NOT_FOUND);
        mace_cursor_close(cursor);
    }
    mace_abort(txn);
}
END_TEST

START_TEST(the_largest_keys_and_values_are_walked_both_ways)
{
    enum { COUNT = 60 };
    static uint8_t key[4096], value[8192];
    mace_txn *txn;
    mace_cursor *cursor;
    mace_slice found_key, found_value;
    memset(key, 0x80, sizeof key);
    for (unsigned i = 0; i < COUNT; i++) {
        key[4095] = (uint8_t)(i * 37 % COUNT);
        memset(value, key[4095], sizeof value);
        require_ok(mace_put1(db, bucket, key, sizeof key, value, sizeof value));
    }
    require_ok(mace_begin(db, MACE_RDONLY, &txn));
    require_ok(mace_cursor_open(txn, bucket, NULL, &cursor));
    for (unsigned i = 0; i < 2 * COUNT; i++) {
        unsigned wanted = i < COUNT ? i : 2 * COUNT - 1 - i;
        ck_assert_int_eq(i < COUNT ? mace_cursor_next(cursor, &found_key, &found_value)
                                   : mace_cursor_prev(cursor, &found_key, &found_value),
                         MACE_OK);
        ck_assert_uint_eq(found_key.size, sizeof key);
        ck_assert_uint_eq(((const uint8_t *)found_key.data)[4095], wanted);
        ck_assert_uint_eq(found_value.size, sizeof value);
        ck_assert_uint_eq(((const uint8_t *)found_value.data)[8191], wanted);
        if (i == COUNT - 1)
            ck_assert_int_eq(mace_cursor_next(cursor, NULL, NULL), MACE_NOT_FOUND);
    }
    mace_abort(txn);
}
END_TEST

int
main(void)
{
    Suite *suite = suite_create("cursor");
    TCase *tests = tcase_create("cursor");
    tcase_set_timeout(tests, 120);
    tcase_add_checked_fixture(tests, setup, teardown);
    tcase_add_test(tests, walks_over_many_pages_meet_every_key_in_order_both_ways);
    tcase_add_test(tests, a_walk_sees_its_snapshot_while_another_process_changes_everything);
    tcase_add_test(tests, a_prefix_walk_meets_its_keys_and_no_other);
    tcase_add_test(tests, the_largest_keys_and_values_are_walked_both_ways);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
