/* The private write set: order, one write per key, memory, limits. Keys are checked against a sorted list. */
#include <check.h>

#include "unit/shm/page_fixture.h"
#include "writeset.h"

enum { LIST_MAX = 20000, BUCKETS = 3 };

/* What the set must hold: sorted by (bucket, key). */
struct item {
    uint32_t bucket;
    size_t key_size, value_size;
    uint8_t *key;
    uint8_t value_byte; /* every byte of the value */
    unsigned kind;
};
static struct item *items;
static size_t item_count;

static int
item_order(const struct item *item, uint32_t bucket, const uint8_t *key, size_t key_size)
{
    if (item->bucket != bucket)
        return item->bucket < bucket ? -1 : 1;
    return mshm_key_compare(item->key, item->key_size, key, key_size);
}

/* The first item >= (bucket, key). */
static size_t
items_rank(uint32_t bucket, const uint8_t *key, size_t key_size)
{
    size_t low = 0, high = item_count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (item_order(&items[middle], bucket, key, key_size) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static void
items_put(uint32_t bucket, const uint8_t *key, size_t key_size, unsigned kind, uint8_t value_byte,
          size_t value_size)
{
    size_t at = items_rank(bucket, key, key_size);
    if (at == item_count || item_order(&items[at], bucket, key, key_size) != 0) {
        ck_assert_uint_lt(item_count, LIST_MAX);
        memmove(&items[at + 1], &items[at], (item_count - at) * sizeof *items);
        items[at].bucket = bucket;
        items[at].key = malloc(key_size);
        items[at].key_size = key_size;
        memcpy(items[at].key, key, key_size);
        item_count++;
    }
    items[at].kind = kind;
    items[at].value_byte = value_byte;
    items[at].value_size = kind == MSHM_OP_DELETE ? 0 : value_size;
}

static void
set_up(void)
{
    items = calloc(LIST_MAX + 1, sizeof *items);
    item_count = 0;
}

static void
tear_down(void)
{
    for (size_t i = 0; i < item_count; i++)
        free(items[i].key);
    free(items);
}

static void
put_both(struct mlib_writeset *set, uint32_t bucket, const uint8_t *key, size_t key_size,
         unsigned kind, size_t value_size)
{
    static uint8_t value[MSHM_MAX_INLINE];
    uint8_t byte = (uint8_t)random_next();
    if (kind == MSHM_OP_DELETE)
        value_size = 0;
    memset(value, byte, value_size);
    ck_assert_int_eq(mlib_writeset_put(set, bucket, kind, key, key_size, value, value_size),
                     MSHM_OK);
    items_put(bucket, key, key_size, kind, byte, value_size);
}

static void
assert_write(const struct mlib_write *write, const struct item *item)
{
    if (item == NULL) {
        ck_assert_ptr_null(write);
        return;
    }
    ck_assert_ptr_nonnull(write);
    ck_assert_uint_eq(write->key_size, item->key_size);
    ck_assert_mem_eq(write->bytes, item->key, item->key_size);
    ck_assert_uint_eq(write->kind, item->kind);
    ck_assert_uint_eq(write->value_size, item->value_size);
    for (size_t i = 0; i < item->value_size; i++)
        ck_assert_uint_eq(mlib_write_value(write)[i], item->value_byte);
}

/* All three kinds of search for one key. */
static void
assert_searches(const struct mlib_writeset *set, uint32_t bucket, const uint8_t *key,
                size_t key_size)
{
    size_t at = items_rank(bucket, key, key_size);
    const struct item *ceiling = at < item_count && items[at].bucket == bucket ? &items[at] : NULL;
    const struct item *below = at > 0 && items[at - 1].bucket == bucket ? &items[at - 1] : NULL;
    const struct item *equal =
        ceiling != NULL && item_order(ceiling, bucket, key, key_size) == 0 ? ceiling : NULL;
    const struct mlib_write_tree *tree = mlib_writeset_tree(set, bucket);
    if (tree == NULL) {
        ck_assert(ceiling == NULL && below == NULL);
        return;
    }
    assert_write(mlib_write_find(tree, key, key_size), equal);
    assert_write(mlib_write_ceiling(tree, key, key_size), ceiling);
    assert_write(mlib_write_below(tree, key, key_size), below);
}

/* The operations as they go to the broker: exactly the list, valid, in order. */
static void
assert_emitted(const struct mlib_writeset *set)
{
    ck_assert_uint_eq(set->count, item_count);
    uint8_t *bytes = malloc(set->bytes + 1);
    ck_assert_uint_eq(mlib_writeset_emit(set, bytes), set->bytes);
    if (set->count > 0)
        ck_assert_int_eq(mshm_ops_validate(bytes, set->bytes, set->count, MSHM_OPS_COMMIT),
                         MSHM_OK);
    const struct mshm_op *op = (const struct mshm_op *)bytes;
    for (size_t i = 0; i < item_count; i++, op = mshm_op_next(op)) {
        ck_assert_uint_eq(op->bucket, items[i].bucket);
        ck_assert_uint_eq(op->kind, items[i].kind);
        ck_assert_uint_eq(op->key_size, items[i].key_size);
        ck_assert_mem_eq(mshm_op_key(op), items[i].key, items[i].key_size);
        ck_assert_uint_eq(op->value_size, items[i].value_size);
        for (size_t j = 0; j < items[i].value_size; j++)
            ck_assert_uint_eq(mshm_op_value(op)[j], items[i].value_byte);
    }
    free(bytes);
}

START_TEST(random_writes_are_found_and_emitted_in_order)
{
    random_seed("writeset");
    for (int round = 0; round < 30; round++) {
        struct mlib_writeset set = {0};
        unsigned puts = random_below(round % 3 == 0 ? 3000 : 300);
        tear_down();
        set_up();
        for (unsigned i = 0; i < puts; i++) {
            uint8_t key[MSHM_MAX_KEY];
            size_t key_size = random_key(key, round % 4 == 0 ? MSHM_MAX_KEY : 20);
            uint32_t bucket = 1 + random_below(BUCKETS) * 5;
            put_both(&set, bucket, key, key_size,
                     random_below(4) == 0 ? MSHM_OP_DELETE : MSHM_OP_PUT,
                     random_below(random_below(20) == 0 ? 4000 : 40));
            if (random_below(4) == 0) {
                key_size = random_key(key, 20);
                assert_searches(&set, bucket, key, key_size);
            }
        }
        for (size_t i = 0; i < item_count; i++)
            assert_searches(&set, items[i].bucket, items[i].key, items[i].key_size);
        assert_emitted(&set);
        mlib_writeset_fini(&set);
    }
}
END_TEST

/* Six digits, written in an order. */
static void
number_key(unsigned number, const char *prefix, char key[64])
{
    snprintf(key, 64, "%s%06u", prefix, number);
}

START_TEST(ascending_descending_and_mixed_numbers_keep_their_order)
{
    static const char *prefixes[] = {"", "a/long/prefix/that/all/keys/share/"};
    for (int order = 0; order < 3; order++)
        for (int p = 0; p < 2; p++) {
            struct mlib_writeset set = {0};
            tear_down();
            set_up();
            for (unsigned i = 0; i < 5000; i++) {
                unsigned number = order == 0 ? i : order == 1 ? 5000 - i : i * 2654435761u % 5003;
                char key[64];
                number_key(number, prefixes[p], key);
                put_both(&set, 1, (const uint8_t *)key, strlen(key), MSHM_OP_PUT, 10);
            }
            assert_emitted(&set);
            mlib_writeset_fini(&set);
        }
}
END_TEST

START_TEST(a_key_that_shares_less_than_all_others_goes_to_its_place)
{
    struct mlib_writeset set = {0};
    for (unsigned i = 0; i < 3000; i++) {
        char key[64];
        number_key(i * 7919 % 3001, "the/same/start/of/every/key/", key);
        put_both(&set, 1, (const uint8_t *)key, strlen(key), MSHM_OP_PUT, 4);
    }
    static const char *strangers[] = {"the/same/start/of/every/key/",
                                      "the/same/start/of/every/kex",
                                      "the/same/start/of/every/kez",
                                      "the/",
                                      "the0",
                                      "t",
                                      "a",
                                      "z"};
    for (size_t i = 0; i < sizeof strangers / sizeof strangers[0]; i++) {
        const uint8_t *key = (const uint8_t *)strangers[i];
        assert_searches(&set, 1, key, strlen(strangers[i]));
        put_both(&set, 1, key, strlen(strangers[i]), MSHM_OP_PUT, 4);
        for (size_t j = 0; j < item_count; j += 17)
            assert_searches(&set, 1, items[j].key, items[j].key_size);
    }
    assert_emitted(&set);
    mlib_writeset_fini(&set);
}
END_TEST

START_TEST(a_key_written_again_keeps_one_write_with_the_last_value)
{
    struct mlib_writeset set = {0};
    const uint8_t key[] = "key";
    put_both(&set, 1, (const uint8_t *)"neighbour", 9, MSHM_OP_PUT, 5);
    for (size_t size = 0; size <= 8192; size += 97) {
        put_both(&set, 1, key, 3, MSHM_OP_PUT, size);
        assert_searches(&set, 1, key, 3);
        put_both(&set, 1, key, 3, MSHM_OP_DELETE, 0);
        assert_searches(&set, 1, key, 3);
    }
    put_both(&set, 1, key, 3, MSHM_OP_PUT, 0);
    assert_emitted(&set);
    mlib_writeset_fini(&set);
}
END_TEST

START_TEST(a_cleared_set_is_empty_and_usable)
{
    struct mlib_writeset set = {0};
    for (int round = 0; round < 4; round++) {
        for (unsigned i = 0; i < 400u << round; i++) {
            char key[64];
            number_key(i, "", key);
            ck_assert_int_eq(mlib_writeset_put(&set, 9, MSHM_OP_PUT, key, 6, "value", 5), MSHM_OK);
        }
        mlib_writeset_clear(&set);
        ck_assert_uint_eq(set.count, 0);
        ck_assert_uint_eq(set.bytes, 0);
        ck_assert_ptr_null(mlib_writeset_tree(&set, 9));
    }
    mlib_writeset_fini(&set);
    ck_assert_ptr_null(set.chunks);
}
END_TEST

START_TEST(a_set_never_grows_beyond_the_arena)
{
    struct mlib_writeset set = {0};
    static uint8_t value[8192];
    int status = MSHM_OK;
    unsigned i = 0;
    for (; status == MSHM_OK && i < 100000; i++) {
        char key[64];
        number_key(i, "", key);
        status = mlib_writeset_put(&set, 1, MSHM_OP_PUT, key, 6, value, sizeof value);
    }
    ck_assert_int_eq(status, MSHM_TOO_BIG);
    ck_assert_uint_eq(set.count, i - 1);
    ck_assert_uint_le(set.bytes, MSHM_ARENA_MAX);
    /* What is there may still shrink, and then something else fits. */
    ck_assert_int_eq(mlib_writeset_put(&set, 1, MSHM_OP_DELETE, "000000", 6, NULL, 0), MSHM_OK);
    ck_assert_int_eq(mlib_writeset_put(&set, 1, MSHM_OP_PUT, "zzz", 3, value, 4000), MSHM_OK);
    mlib_writeset_fini(&set);
}
END_TEST

int
main(void)
{
    Suite *suite = suite_create("writeset");
    TCase *tests = tcase_create("writeset");
    tcase_set_timeout(tests, 120);
    tcase_add_checked_fixture(tests, set_up, tear_down);
    tcase_add_test(tests, random_writes_are_found_and_emitted_in_order);
    tcase_add_test(tests, ascending_descending_and_mixed_numbers_keep_their_order);
    tcase_add_test(tests, a_key_that_shares_less_than_all_others_goes_to_its_place);
    tcase_add_test(tests, a_key_written_again_keeps_one_write_with_the_last_value);
    tcase_add_test(tests, a_cleared_set_is_empty_and_usable);
    tcase_add_test(tests, a_set_never_grows_beyond_the_arena);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
