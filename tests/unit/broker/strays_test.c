/* The table of pages that could not be read: what is written is read again, and nonsense is refused. */
#include "strays.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "mshm/base.h"
#include "mshm/status.h"
#include "stray_format.h"

enum { TABLE_PAGES = 3, TABLE_WRITES = 4, ENTRY_SIZE = 72 };

static _Alignas(8) uint8_t entries[TABLE_PAGES][TABLE_WRITES][ENTRY_SIZE];

static struct blind_entry *
entry_at(unsigned page, unsigned i)
{
    return (struct blind_entry *)(void *)entries[page][i];
}

/* The writes of page i: i + 1 of them, the newest first. */
static const struct blind_entry *
list_make(unsigned page)
{
    for (unsigned i = 0; i <= page; i++) {
        struct blind_entry *entry = entry_at(page, i);
        *entry = (struct blind_entry){
            .older_distance = i < page ? blind_entry_distance(entry, entry_at(page, i + 1)) : 0,
            .timestamp = 100 - i,
            .key_size = (uint16_t)(3 + i),
            .value_size = i % 2 == 0 ? 5 + page : 0,
            .kind = i % 2 == 0 ? MSHM_ENTRY_VALUE : MSHM_ENTRY_TOMBSTONE,
        };
        memset(entry->bytes, (int)(page * 16 + i), entry->key_size + entry->value_size);
    }
    return entry_at(page, 0);
}

static void
table_make(struct strays *table)
{
    uint64_t size = 0;
    ck_assert_int_eq(strays_init(table, 1 << 20), MSHM_OK);
    for (unsigned page = 0; page < TABLE_PAGES; page++)
        size += strays_cost(list_make(page));
    ck_assert_int_eq(strays_reserve(table, TABLE_PAGES, size), MSHM_OK);
    for (unsigned page = 0; page < TABLE_PAGES; page++)
        strays_add(table, 7 + page * page, list_make(page));
    ck_assert_uint_eq(table->size, sizeof(struct stray_header) + size);
}

struct expectation {
    unsigned page, count;
};

static int
write_expect(void *argument, mshm_pid pid, const struct mshm_version *version)
{
    struct expectation *expectation = argument;
    unsigned page = expectation->page, i = page - expectation->count;
    const struct blind_entry *entry = entry_at(page, i);
    ck_assert_uint_eq(pid, 7 + page * page);
    ck_assert_uint_eq(version->timestamp, entry->timestamp);
    ck_assert_int_eq(version->kind, entry->kind);
    ck_assert_uint_eq(version->key_size, entry->key_size);
    ck_assert_uint_eq(version->value_size, entry->value_size);
    ck_assert_mem_eq(version->key, entry->bytes, entry->key_size);
    if (entry->value_size > 0)
        ck_assert_mem_eq(version->value, entry->bytes + entry->key_size, entry->value_size);
    if (++expectation->count > page)
        *expectation = (struct expectation){.page = page + 1};
    return MSHM_OK;
}

static int
write_any(void *argument, mshm_pid pid, const struct mshm_version *version)
{
    uint8_t *sum = argument; /* every byte can be read */
    ck_assert(pid > 0 && pid < MSHM_MAX_PIDS);
    for (uint32_t i = 0; i < version->key_size; i++)
        *sum ^= version->key[i];
    for (uint32_t i = 0; i < version->value_size; i++)
        *sum ^= version->value[i];
    return MSHM_OK;
}

START_TEST(table_comes_back_as_it_was)
{
    struct strays table, loaded = {0};
    struct expectation expectation = {0};
    table_make(&table);
    ck_assert_int_eq(strays_read(table.bytes, table.size, 100, write_expect, &expectation),
                     MSHM_OK);
    ck_assert_uint_eq(expectation.page, TABLE_PAGES);
    ck_assert_int_eq(strays_load(&loaded, table.bytes, table.size, 100), MSHM_OK);
    strays_count(&table);
    for (mshm_pid pid = 0; pid < 20; pid++) {
        bool in = pid == 7 || pid == 8 || pid == 11;
        ck_assert(strays_known(&table, pid) == in && strays_known(&loaded, pid) == in);
    }
    strays_begin(&table);
    ck_assert(strays_known(&table, 7));
    ck_assert_int_eq(strays_read(table.bytes, table.size, 100, write_any, &(uint8_t){0}), MSHM_OK);
    strays_count(&table);
    ck_assert(!strays_known(&table, 7));
    strays_fini(&table);
    strays_fini(&loaded);
}
END_TEST

START_TEST(table_has_a_limit)
{
    struct strays table;
    ck_assert_int_eq(strays_init(&table, 100), MSHM_OK);
    ck_assert_int_eq(strays_reserve(&table, 1, 100 - sizeof(struct stray_header)), MSHM_OK);
    ck_assert_int_eq(strays_reserve(&table, 1, 101 - sizeof(struct stray_header)), MSHM_LIMIT);
    strays_fini(&table);
}
END_TEST

START_TEST(table_that_makes_no_sense_is_refused)
{
    struct strays table;
    uint8_t sum = 0;
    table_make(&table);
    uint8_t *bytes = malloc(table.size);
    for (uint64_t size = 1; size < table.size; size++) { /* exactly as long as it says */
        uint8_t *cut = malloc(size);
        memcpy(cut, table.bytes, size);
        ck_assert_int_eq(strays_read(cut, size, 100, write_any, &sum), MSHM_CORRUPT);
        free(cut);
    }
    ck_assert_int_eq(strays_read(table.bytes, table.size, 99, write_any, &sum), MSHM_CORRUPT);
    for (uint64_t bit = 0; bit < table.size * 8; bit++) {
        memcpy(bytes, table.bytes, table.size);
        bytes[bit / 8] ^= (uint8_t)(1u << (bit % 8));
        int status = strays_read(bytes, table.size, 100, write_any, &sum);
        ck_assert(status == MSHM_OK || status == MSHM_CORRUPT || status == MSHM_VERSION);
        if (bit / 8 < sizeof(struct stray_header))
            ck_assert_int_ne(status, MSHM_OK);
    }
    free(bytes);
    strays_fini(&table);
}
END_TEST

int
main(void)
{
    Suite *suite = suite_create("strays");
    TCase *tests = tcase_create("strays");
    tcase_add_test(tests, table_comes_back_as_it_was);
    tcase_add_test(tests, table_has_a_limit);
    tcase_add_test(tests, table_that_makes_no_sense_is_refused);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
