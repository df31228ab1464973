/* The check of operations: what a well-formed list is, and every way to be none. */
#include "mshm/ops.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

#include "mshm/status.h"

static uint8_t *buffer; /* ends at a page that may not be touched */
enum { BUFFER_SIZE = 1 << 16 };
static uint8_t *map;

static void
set_up(void)
{
    map =
        mmap(NULL, BUFFER_SIZE + 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    ck_assert_ptr_ne(map, MAP_FAILED);
    ck_assert_int_eq(mprotect(map + BUFFER_SIZE, 4096, PROT_NONE), 0);
    buffer = map;
}

static void
tear_down(void)
{
    munmap(map, BUFFER_SIZE + 4096);
}

/* Appends one operation to the buffer and returns the new size. */
static uint64_t
add(uint64_t size, uint32_t bucket, unsigned kind, const char *key, const char *value)
{
    return size + mshm_op_write(buffer + size, bucket, kind, key, (uint16_t)strlen(key), value,
                                (uint32_t)strlen(value));
}

/* Validates a copy that ends exactly at the forbidden page: a read beyond the size dies. */
static int
validate(uint64_t size, uint64_t count, enum mshm_ops_source source)
{
    uint8_t *at = map + BUFFER_SIZE - size;
    memmove(at, buffer, size);
    int status = mshm_ops_validate(at, size, count, source);
    memmove(buffer, at, size);
    return status;
}

START_TEST(ascending_operations_are_accepted)
{
    uint64_t size = add(0, 1, MSHM_OP_PUT, "a", "value");
    size = add(size, 1, MSHM_OP_DELETE, "ab", "");
    size = add(size, 1, MSHM_OP_PUT, "b", "");
    size = add(size, 2, MSHM_OP_MERGE, "a", "operand");
    ck_assert_int_eq(validate(size, 4, MSHM_OPS_COMMIT), MSHM_OK);
    ck_assert_int_eq(validate(size, 4, MSHM_OPS_LOG), MSHM_OK);
    ck_assert_uint_eq(size % 8, 0);
}
END_TEST

START_TEST(walking_gives_back_what_was_written)
{
    uint64_t size = add(0, 3, MSHM_OP_PUT, "key", "a longer value");
    add(size, 4, MSHM_OP_DELETE, "k2", "");
    const struct mshm_op *op = (const struct mshm_op *)buffer;
    ck_assert_uint_eq(op->bucket, 3);
    ck_assert_uint_eq(op->key_size, 3);
    ck_assert_mem_eq(mshm_op_key(op), "key", 3);
    ck_assert_uint_eq(op->value_size, 14);
    ck_assert_mem_eq(mshm_op_value(op), "a longer value", 14);
    op = mshm_op_next(op);
    ck_assert_uint_eq(op->bucket, 4);
    ck_assert_uint_eq(op->kind, MSHM_OP_DELETE);
    ck_assert_mem_eq(mshm_op_key(op), "k2", 2);
}
END_TEST

START_TEST(descending_or_equal_keys_are_refused)
{
    uint64_t size = add(0, 1, MSHM_OP_PUT, "b", "");
    ck_assert_int_eq(validate(add(size, 1, MSHM_OP_PUT, "a", ""), 2, MSHM_OPS_COMMIT),
                     MSHM_INVALID);
    ck_assert_int_eq(validate(add(size, 1, MSHM_OP_PUT, "b", ""), 2, MSHM_OPS_COMMIT),
                     MSHM_INVALID);
    ck_assert_int_eq(validate(add(size, 0, MSHM_OP_PUT, "c", ""), 2, MSHM_OPS_COMMIT),
                     MSHM_INVALID);
    ck_assert_int_eq(validate(add(size, 1, MSHM_OP_PUT, "\x80", ""), 2, MSHM_OPS_COMMIT), MSHM_OK);
}
END_TEST

START_TEST(equal_keys_are_legal_only_within_a_run_of_operands)
{
    uint64_t size = add(0, 1, MSHM_OP_MERGE, "a", "1");
    ck_assert_int_eq(validate(add(size, 1, MSHM_OP_MERGE, "a", "2"), 2, MSHM_OPS_COMMIT), MSHM_OK);
    ck_assert_int_eq(validate(add(size, 1, MSHM_OP_PUT, "a", "2"), 2, MSHM_OPS_COMMIT),
                     MSHM_INVALID);
    size = add(0, 1, MSHM_OP_PUT, "a", "1");
    ck_assert_int_eq(validate(add(size, 1, MSHM_OP_MERGE, "a", "2"), 2, MSHM_OPS_COMMIT),
                     MSHM_INVALID);
}
END_TEST

START_TEST(each_kind_belongs_to_its_sources)
{
    static const struct {
        unsigned kind;
        int commit, one_call, log;
    } rows[] = {
        {0, 0, 0, 0},
        {MSHM_OP_PUT, 1, 1, 1},
        {MSHM_OP_DELETE, 1, 1, 1},
        {MSHM_OP_MERGE, 1, 1, 1},
        {MSHM_OP_INSERT, 0, 1, 0},
        {MSHM_OP_UPDATE, 0, 1, 0},
        {MSHM_OP_DELETE_EXISTING, 0, 1, 0},
        {7, 0, 0, 0},
        {15, 0, 0, 0},
        {MSHM_OP_BUCKET_CREATE, 0, 0, 1},
        {MSHM_OP_BUCKET_DROP, 0, 0, 1},
        {MSHM_OP_BUCKET_ALTER, 0, 0, 1},
        {19, 0, 0, 0},
        {255, 0, 0, 0},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        uint64_t size = add(0, 1, rows[i].kind, "key", "");
        ck_assert_int_eq(validate(size, 1, MSHM_OPS_COMMIT) == MSHM_OK, rows[i].commit);
        ck_assert_int_eq(validate(size, 1, MSHM_OPS_ONE_CALL) == MSHM_OK, rows[i].one_call);
        ck_assert_int_eq(validate(size, 1, MSHM_OPS_LOG) == MSHM_OK, rows[i].log);
    }
}
END_TEST

START_TEST(count_must_be_exactly_what_the_bytes_hold)
{
    uint64_t size = add(0, 1, MSHM_OP_PUT, "a", "value");
    size = add(size, 1, MSHM_OP_PUT, "b", "value");
    ck_assert_int_eq(validate(size, 1, MSHM_OPS_COMMIT), MSHM_INVALID);
    ck_assert_int_eq(validate(size, 3, MSHM_OPS_COMMIT), MSHM_INVALID);
    ck_assert_int_eq(validate(size, UINT64_MAX, MSHM_OPS_COMMIT), MSHM_INVALID);
    ck_assert_int_eq(validate(size, 2, MSHM_OPS_ONE_CALL), MSHM_INVALID);
    ck_assert_int_eq(validate(size, 0, MSHM_OPS_COMMIT), MSHM_INVALID);
    ck_assert_int_eq(validate(size, 2, MSHM_OPS_COMMIT), MSHM_OK);
}
END_TEST

START_TEST(nothing_at_all_is_legal_in_the_log_only)
{
    ck_assert_int_eq(validate(0, 0, MSHM_OPS_LOG), MSHM_OK);
    ck_assert_int_eq(validate(0, 0, MSHM_OPS_COMMIT), MSHM_INVALID);
    ck_assert_int_eq(validate(0, 0, MSHM_OPS_ONE_CALL), MSHM_INVALID);
    ck_assert_int_eq(validate(0, 1, MSHM_OPS_LOG), MSHM_INVALID);
}
END_TEST

START_TEST(every_truncation_is_refused)
{
    uint64_t size = add(0, 1, MSHM_OP_PUT, "abc", "value");
    size = add(size, 1, MSHM_OP_PUT, "abd", "another value");
    for (uint64_t cut = 0; cut < size; cut++)
        for (uint64_t count = 1; count <= 2; count++)
            if (count == 2 || cut != 24)
                ck_assert_int_eq(validate(cut, count, MSHM_OPS_COMMIT), MSHM_INVALID);
}
END_TEST

START_TEST(key_sizes_from_1_to_4096_and_no_others)
{
    static uint8_t key[MSHM_MAX_KEY + 1];
    for (uint32_t key_size = 0; key_size <= MSHM_MAX_KEY + 1; key_size++) {
        uint64_t size = mshm_op_write(buffer, 1, MSHM_OP_PUT, key, (uint16_t)key_size, "v", 1);
        int wanted = key_size >= 1 && key_size <= MSHM_MAX_KEY ? MSHM_OK : MSHM_INVALID;
        ck_assert_int_eq(mshm_ops_validate(buffer, size, 1, MSHM_OPS_COMMIT), wanted);
    }
}
END_TEST

START_TEST(value_size_that_overflows_or_leaves_the_bytes_is_refused)
{
    uint64_t size = add(0, 1, MSHM_OP_PUT, "key", "value");
    static const uint32_t sizes[] = {6, 1000, 0x7fffffff, 0xffffffff, 0xfffffff8, 1u << 30};
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        memcpy(buffer + offsetof(struct mshm_op, value_size), &sizes[i], 4);
        ck_assert_int_eq(validate(size, 1, MSHM_OPS_COMMIT), MSHM_INVALID);
    }
}
END_TEST

START_TEST(delete_with_a_value_is_refused)
{
    uint64_t size = add(0, 1, MSHM_OP_DELETE, "key", "value");
    ck_assert_int_eq(validate(size, 1, MSHM_OPS_COMMIT), MSHM_INVALID);
    size = add(0, 1, MSHM_OP_DELETE_EXISTING, "key", "v");
    ck_assert_int_eq(validate(size, 1, MSHM_OPS_ONE_CALL), MSHM_INVALID);
}
END_TEST

START_TEST(bucket_names_are_at_most_255_bytes)
{
    static uint8_t name[256];
    uint64_t size = mshm_op_write(buffer, 1, MSHM_OP_BUCKET_CREATE, name, 255, "", 0);
    ck_assert_int_eq(mshm_ops_validate(buffer, size, 1, MSHM_OPS_LOG), MSHM_OK);
    size = mshm_op_write(buffer, 1, MSHM_OP_BUCKET_CREATE, name, 256, "", 0);
    ck_assert_int_eq(mshm_ops_validate(buffer, size, 1, MSHM_OPS_LOG), MSHM_INVALID);
}
END_TEST

/* Flags, reserved bytes and padding must be zero: a bit that means nothing today must not travel into the log. */
START_TEST(any_bit_that_means_nothing_is_refused)
{
    uint64_t size = add(0, 1, MSHM_OP_PUT, "key", "value");       /* 16 + 3 + 5 = 24: no padding */
    uint64_t padded = add(size, 1, MSHM_OP_PUT, "key2", "value"); /* 25: seven bytes of padding */
    static const size_t offsets[] = {11, 12, 13, 14, 15};
    for (size_t i = 0; i < sizeof(offsets) / sizeof(offsets[0]); i++)
        for (unsigned bit = 0; bit < 8; bit++) {
            buffer[offsets[i]] ^= (uint8_t)(1u << bit);
            ck_assert_int_eq(validate(padded, 2, MSHM_OPS_COMMIT), MSHM_INVALID);
            buffer[offsets[i]] ^= (uint8_t)(1u << bit);
        }
    for (uint64_t i = padded - 7; i < padded; i++) {
        buffer[i] = 1;
        ck_assert_int_eq(validate(padded, 2, MSHM_OPS_COMMIT), MSHM_INVALID);
        buffer[i] = 0;
    }
    ck_assert_int_eq(validate(padded, 2, MSHM_OPS_COMMIT), MSHM_OK);
}
END_TEST

/* The oracle: whatever is accepted can be walked by the accessors inside the bytes, and its keys ascend. */
static void
check_walk(uint64_t size, uint64_t count)
{
    const struct mshm_op *op = (const struct mshm_op *)buffer;
    for (uint64_t i = 0; i < count; i++) {
        ck_assert_uint_le((uint64_t)((const uint8_t *)(op + 1) - buffer), size);
        op = mshm_op_next(op);
    }
    ck_assert_ptr_eq(op, buffer + size);
}

START_TEST(random_bytes_never_lead_outside)
{
    const char *given = getenv("MACE_SEED");
    unsigned seed = given != NULL ? (unsigned)strtoul(given, NULL, 0) : (unsigned)time(NULL);
    printf("ops_test: MACE_SEED=%u\n", seed);
    srandom(seed);
    unsigned accepted = 0;
    for (unsigned round = 0; round < 20000; round++) {
        uint64_t size = 0, count = (uint64_t)random() % 4 + 1;
        for (uint64_t i = 0; i < count; i++) {
            char key[8] = {(char)('a' + i), (char)random(), 0};
            size = add(size, 1, (unsigned)random() % 4, key, random() % 2 ? "" : "some value");
        }
        for (unsigned hit = (unsigned)random() % 3; hit > 0; hit--)
            buffer[(uint64_t)random() % size] = (uint8_t)random();
        if (validate(size, count, MSHM_OPS_COMMIT) == MSHM_OK) {
            accepted++;
            check_walk(size, count);
        }
    }
    ck_assert_uint_gt(accepted, 100); /* else the test tries nothing */
}
END_TEST

int
main(void)
{
    Suite *suite = suite_create("ops");
    TCase *tests = tcase_create("ops");
    tcase_add_checked_fixture(tests, set_up, tear_down);
    tcase_add_test(tests, ascending_operations_are_accepted);
    tcase_add_test(tests, walking_gives_back_what_was_written);
    tcase_add_test(tests, descending_or_equal_keys_are_refused);
    tcase_add_test(tests, equal_keys_are_legal_only_within_a_run_of_operands);
    tcase_add_test(tests, each_kind_belongs_to_its_sources);
    tcase_add_test(tests, count_must_be_exactly_what_the_bytes_hold);
    tcase_add_test(tests, nothing_at_all_is_legal_in_the_log_only);
    tcase_add_test(tests, every_truncation_is_refused);
    tcase_add_test(tests, key_sizes_from_1_to_4096_and_no_others);
    tcase_add_test(tests, value_size_that_overflows_or_leaves_the_bytes_is_refused);
    tcase_add_test(tests, delete_with_a_value_is_refused);
    tcase_add_test(tests, bucket_names_are_at_most_255_bytes);
    tcase_add_test(tests, any_bit_that_means_nothing_is_refused);
    tcase_add_test(tests, random_bytes_never_lead_outside);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
