/* Hash, order and separators of keys, and the search for fingerprints. */
#include "fingerprint.h"
#include "page_fixture.h"

#include <check.h>

/* A copy in a block of exactly its size: a sanitizer sees every byte read beyond it. */
static uint8_t *
exact_copy(const uint8_t *bytes, size_t size)
{
    uint8_t *copy = malloc(size == 0 ? 1 : size);
    memcpy(copy, bytes, size);
    return copy;
}

START_TEST(hash_of_every_length_depends_on_every_byte_and_the_length)
{
    uint8_t key[MSHM_MAX_KEY];
    for (size_t i = 0; i < sizeof key; i++)
        key[i] = (uint8_t)(i * 151 + i / 256);
    uint64_t previous = mshm_key_hash(key, 0);
    for (size_t size = 1; size <= sizeof key; size++) {
        uint8_t *copy = exact_copy(key, size);
        uint64_t hash = mshm_key_hash(copy, size);
        ck_assert(hash != previous);
        ck_assert(hash == mshm_key_hash(key, size));
        size_t step = size > 200 ? 37 : 1;
        for (size_t at = 0; at < size; at += step) {
            copy[at] ^= 0x40;
            ck_assert(mshm_key_hash(copy, size) != hash);
            copy[at] ^= 0x40;
        }
        previous = hash;
        free(copy);
    }
}
END_TEST

START_TEST(hash_bits_flip_about_half_the_time)
{
    random_seed("hash_bits_flip_about_half_the_time");
    static const size_t sizes[] = {1, 2, 3, 4, 7, 8, 9, 15, 16, 17, 33, 48, 49, 64, 65, 200};
    for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++) {
        uint32_t flips[64] = {0}, trials = 0;
        for (int round = 0; round < 400; round++) {
            uint8_t key[256];
            for (size_t i = 0; i < sizes[s]; i++)
                key[i] = (uint8_t)random_next();
            uint64_t hash = mshm_key_hash(key, sizes[s]);
            for (int bit = 0; bit < 8; bit++, trials++) {
                size_t at = random_below((uint32_t)sizes[s]);
                key[at] ^= (uint8_t)(1u << bit);
                uint64_t difference = hash ^ mshm_key_hash(key, sizes[s]);
                key[at] ^= (uint8_t)(1u << bit);
                for (int i = 0; i < 64; i++)
                    flips[i] += (uint32_t)(difference >> i & 1);
            }
        }
        for (int i = 0; i < 64; i++)
            ck_assert_msg(flips[i] > trials * 2 / 5 && flips[i] < trials * 3 / 5,
                          "size %zu bit %d: %u of %u", sizes[s], i, flips[i], trials);
    }
}
END_TEST

START_TEST(hash_spreads_counted_keys_over_buckets_and_fingerprints)
{
    enum { KEYS = 65536, BUCKETS = 256 };
    static uint32_t buckets[BUCKETS], fingerprints[256];
    for (uint32_t i = 0; i < KEYS; i++) {
        char key[32];
        int size = snprintf(key, sizeof key, "user%012u", i);
        uint64_t hash = mshm_key_hash(key, (size_t)size);
        buckets[(hash >> 32) * BUCKETS >> 32]++;
        fingerprints[hash & 255]++;
    }
    for (uint32_t i = 0; i < BUCKETS; i++) {
        /* 256 expected, deviation 16: six of them. */
        ck_assert_uint_gt(buckets[i], 160);
        ck_assert_uint_lt(buckets[i], 352);
        ck_assert_uint_gt(fingerprints[i], 160);
        ck_assert_uint_lt(fingerprints[i], 352);
    }
}
END_TEST

static int
sign(int value)
{
    return (value > 0) - (value < 0);
}

START_TEST(order_is_that_of_memcmp_with_the_shorter_first)
{
    random_seed("order_is_that_of_memcmp_with_the_shorter_first");
    for (int round = 0; round < 200000; round++) {
        uint8_t a[64], b[64];
        size_t a_size = random_key(a, sizeof a), b_size = random_key(b, sizeof b);
        if (round % 2 == 0) {
            memcpy(b, a, a_size < b_size ? a_size : b_size);
        }
        int expected = memcmp(a, b, a_size < b_size ? a_size : b_size);
        if (expected == 0)
            expected = (a_size > b_size) - (a_size < b_size);
        ck_assert_int_eq(sign(mshm_key_compare(a, a_size, b, b_size)), sign(expected));
        ck_assert_int_eq(sign(mshm_key_compare(b, b_size, a, a_size)), -sign(expected));
        ck_assert_int_eq(mshm_key_compare(a, a_size, a, a_size), 0);
    }
    ck_assert_int_lt(mshm_key_compare(NULL, 0, "a", 1), 0);
    ck_assert_int_eq(mshm_key_compare(NULL, 0, NULL, 0), 0);
}
END_TEST

START_TEST(separator_is_the_shortest_above_left_and_not_above_right)
{
    random_seed("separator_is_the_shortest_above_left_and_not_above_right");
    for (int round = 0; round < 200000; round++) {
        uint8_t left[64], right[64], out[64];
        size_t left_size = random_key(left, sizeof left),
               right_size = random_key(right, sizeof right);
        if (round % 2 == 0)
            memcpy(right, left, left_size < right_size ? left_size : right_size);
        if (mshm_key_compare(left, left_size, right, right_size) >= 0)
            continue;
        size_t size = mshm_key_separator(left, left_size, right, right_size, out);
        ck_assert_uint_ge(size, 1);
        ck_assert_uint_le(size, right_size);
        ck_assert_int_lt(mshm_key_compare(left, left_size, out, size), 0);
        ck_assert_int_le(mshm_key_compare(out, size, right, right_size), 0);
        /* Nothing shorter lies between them: not even the greatest string of that length that is <= right. */
        if (size > 1)
            ck_assert_int_le(mshm_key_compare(right, size - 1, left, left_size), 0);
    }
}
END_TEST

START_TEST(separator_of_the_longest_keys_is_right)
{
    uint8_t left[MSHM_MAX_KEY], right[MSHM_MAX_KEY], out[MSHM_MAX_KEY];
    memset(left, 0xff, sizeof left);
    memset(right, 0xff, sizeof right);
    left[MSHM_MAX_KEY - 1] = 0xfe;
    ck_assert_uint_eq(mshm_key_separator(left, sizeof left, right, sizeof right, out),
                      sizeof right);
    ck_assert_mem_eq(out, right, sizeof right);
    ck_assert_uint_eq(mshm_key_separator(right, 100, right, sizeof right, out), 101);
}
END_TEST

START_TEST(fingerprints_are_found_exactly)
{
    random_seed("fingerprints_are_found_exactly");
    for (int round = 0; round < 100000; round++) {
        _Alignas(64) struct mshm_hash_bucket bucket;
        uint8_t *bytes = (uint8_t *)&bucket;
        for (size_t i = 0; i < sizeof bucket; i++)
            bytes[i] = (uint8_t)(round % 2 ? random_next() : random_below(3) * 0x7f);
        uint8_t wanted = round % 3 ? bucket.fingerprints[random_below(MSHM_BUCKET_SLOTS)]
                                   : (uint8_t)random_next();
        uint32_t expected = 0;
        for (uint32_t i = 0; i < MSHM_BUCKET_SLOTS; i++)
            expected |= (uint32_t)(bucket.fingerprints[i] == wanted) << i;
        ck_assert_uint_eq(fingerprint_bucket(&bucket, wanted), expected);
        ck_assert_uint_eq(fingerprint_bucket_portable(&bucket, wanted), expected);
    }
}
END_TEST

int
main(void)
{
    Suite *suite = suite_create("key");
    TCase *tests = tcase_create("key");
    tcase_set_timeout(tests, 60);
    tcase_add_test(tests, hash_of_every_length_depends_on_every_byte_and_the_length);
    tcase_add_test(tests, hash_bits_flip_about_half_the_time);
    tcase_add_test(tests, hash_spreads_counted_keys_over_buckets_and_fingerprints);
    tcase_add_test(tests, order_is_that_of_memcmp_with_the_shorter_first);
    tcase_add_test(tests, separator_is_the_shortest_above_left_and_not_above_right);
    tcase_add_test(tests, separator_of_the_longest_keys_is_right);
    tcase_add_test(tests, fingerprints_are_found_exactly);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
