/* Inner pages: building, finding a child, taking apart. */
#include "mshm/inner.h"
#include "page_fixture.h"

#include <check.h>

enum { MAX_SEPARATORS = 5400 };

/* Separators in order that own their bytes, and children 1000, 1001... */
struct page_content {
    struct mshm_separator separators[MAX_SEPARATORS];
    mshm_pid children[MAX_SEPARATORS + 1];
    uint32_t count;
    uint8_t *bytes;
    size_t used;
};
static struct page_content content;

static void
content_reset(void)
{
    if (content.bytes == NULL)
        content.bytes = malloc(1 << 20);
    content.count = 0;
    content.used = 0;
    for (uint32_t i = 0; i <= MAX_SEPARATORS; i++)
        content.children[i] = 1000 + i;
}
static void
content_add(const void *key, size_t size)
{
    uint32_t at = content.count;
    while (at > 0 && mshm_key_compare(key, size, content.separators[at - 1].key,
                                      content.separators[at - 1].size) < 0)
        at--;
    if (at > 0 && mshm_key_compare(key, size, content.separators[at - 1].key,
                                   content.separators[at - 1].size) == 0)
        return;
    uint8_t *copy = memcpy(content.bytes + content.used, key, size);
    content.used += size;
    memmove(&content.separators[at + 1], &content.separators[at],
            (content.count - at) * sizeof content.separators[0]);
    content.separators[at].key = copy;
    content.separators[at].size = (uint16_t)size;
    content.count++;
}
static struct mshm_inner_spec
content_spec(void)
{
    struct mshm_inner_spec spec = {
        .pid = 5,
        .right = 6,
        .bucket = 3,
        .level = 1,
        .high_size = MSHM_FENCE_INFINITE,
        .separators = content.separators,
        .children = content.children,
        .count = content.count,
    };
    return spec;
}

static void
assert_sound(const void *frame, uint32_t size)
{
    const char *why = "";
    int status = mshm_inner_check(frame, size, &why);
    ck_assert_msg(status == MSHM_OK, "%s", why);
}

/* Compares both questions with a walk over all separators. */
static void
assert_find(const void *frame, uint32_t size, const void *key, size_t key_size)
{
    uint32_t not_above = 0, below = 0, index;
    mshm_pid child;
    for (uint32_t i = 0; i < content.count; i++) {
        int order =
            mshm_key_compare(content.separators[i].key, content.separators[i].size, key, key_size);
        not_above += order <= 0;
        below += order < 0;
    }
    ck_assert_int_eq(mshm_inner_find(frame, size, key, key_size, 0, &child, &index), MSHM_OK);
    ck_assert_uint_eq(index, not_above);
    ck_assert_uint_eq(child, 1000 + not_above);
    ck_assert_int_eq(mshm_inner_find(frame, size, key, key_size, 1, &child, &index), MSHM_OK);
    ck_assert_uint_eq(index, below);
    ck_assert_uint_eq(child, 1000 + below);
}

static void
assert_taken_apart(const void *frame, uint32_t size)
{
    static struct mshm_separator separators[MAX_SEPARATORS];
    static mshm_pid children[MAX_SEPARATORS + 1];
    static uint8_t key_bytes[1 << 20];
    ck_assert_int_eq(mshm_inner_take(frame, size, separators, children, MAX_SEPARATORS, key_bytes,
                                     sizeof key_bytes),
                     (int)content.count);
    for (uint32_t i = 0; i < content.count; i++) {
        ck_assert_uint_eq(separators[i].size, content.separators[i].size);
        ck_assert_mem_eq(separators[i].key, content.separators[i].key, separators[i].size);
    }
    ck_assert_mem_eq(children, content.children, (content.count + 1) * sizeof children[0]);
    if (content.count == 0)
        return;
    ck_assert_int_eq(mshm_inner_take(frame, size, separators, children, content.count - 1,
                                     key_bytes, sizeof key_bytes),
                     MSHM_FULL);
    ck_assert_int_eq(mshm_inner_take(frame, size, separators, children, content.count, key_bytes,
                                     (uint32_t)content.used - 1),
                     MSHM_FULL);
}

START_TEST(pages_of_every_count_of_children_lead_to_the_right_one)
{
    uint8_t *frame = frame_new(MSHM_MAX_FRAME);
    content_reset();
    for (uint32_t i = 0;; i++) {
        struct mshm_inner_spec spec = content_spec();
        uint32_t size = mshm_inner_size(&spec);
        if (size == UINT32_MAX)
            break;
        if (content.count < 80 || content.count % 251 == 0) {
            ck_assert_int_eq(mshm_inner_build(frame, size - 1, &spec), MSHM_FULL);
            ck_assert_int_eq(mshm_inner_build(frame, size, &spec), MSHM_OK);
            assert_sound(frame, size);
            assert_taken_apart(frame, size);
            for (uint32_t probe = 0; probe < 40; probe++) {
                uint16_t number = __builtin_bswap16((uint16_t)(probe * (2 * i + 4) / 40));
                assert_find(frame, size, &number, sizeof number);
                assert_find(frame, size, &number, 1);
            }
        }
        uint16_t number = __builtin_bswap16((uint16_t)(2 * i + 1));
        content_add(&number, sizeof number);
    }
    ck_assert_uint_gt(content.count, 4000);
    struct mshm_inner_spec spec = content_spec();
    ck_assert_int_eq(mshm_inner_build(frame, MSHM_MAX_FRAME, &spec), MSHM_FULL);
    free(frame);
}
END_TEST

START_TEST(random_separators_and_keys_agree_with_a_walk)
{
    random_seed("random_separators_and_keys_agree_with_a_walk");
    uint8_t *frame = frame_new(MSHM_MAX_FRAME);
    for (int round = 0; round < 400; round++) {
        uint8_t key[80];
        uint8_t prefix[40];
        size_t prefix_size = random_below(2) ? random_key(prefix, sizeof prefix) : 0;
        uint32_t wanted = random_below(random_below(2) ? 300 : 10);
        content_reset();
        for (uint32_t i = 0; i < wanted; i++) {
            memcpy(key, prefix, prefix_size);
            content_add(key, prefix_size + random_key(key + prefix_size, 20));
        }
        struct mshm_inner_spec spec = content_spec();
        uint32_t size = mshm_inner_size(&spec);
        ck_assert_int_eq(mshm_inner_build(frame, size, &spec), MSHM_OK);
        assert_sound(frame, size);
        assert_taken_apart(frame, size);
        for (uint32_t i = 0; i < content.count; i++) {
            struct mshm_separator separator = content.separators[i];
            assert_find(frame, size, separator.key, separator.size);
            assert_find(frame, size, separator.key, separator.size - 1u);
            memcpy(key, separator.key, separator.size);
            key[separator.size] = 0;
            assert_find(frame, size, key, separator.size + 1u);
            key[separator.size - 1] ^= 1;
            assert_find(frame, size, key, separator.size);
        }
        for (int i = 0; i < 50; i++) {
            assert_find(frame, size, key, random_key(key, sizeof key));
            assert_find(frame, size, prefix, prefix_size);
        }
    }
    free(frame);
}
END_TEST

START_TEST(separators_of_every_length_are_told_apart)
{
    uint8_t *frame = frame_new(MSHM_MAX_FRAME), key[MSHM_MAX_KEY + 1];
    for (size_t size = 1; size <= MSHM_MAX_KEY; size++) {
        for (size_t i = 0; i <= size; i++)
            key[i] = (uint8_t)(i * 3 + size);
        content_reset();
        content_add(key, size);
        key[size - 1] ^= 0x80;
        content_add(key, size);
        struct mshm_inner_spec spec = content_spec();
        ck_assert_int_eq(mshm_inner_build(frame, MSHM_MAX_FRAME, &spec), MSHM_OK);
        assert_find(frame, MSHM_MAX_FRAME, key, size);
        assert_find(frame, MSHM_MAX_FRAME, key, size - 1);
        assert_find(frame, MSHM_MAX_FRAME, key, size + 1);
        key[size - 1] ^= 0xc0;
        assert_find(frame, MSHM_MAX_FRAME, key, size);
        if (size % 64 == 0)
            assert_taken_apart(frame, MSHM_MAX_FRAME);
    }
    free(frame);
}
END_TEST

START_TEST(fences_of_an_inner_page_are_kept)
{
    uint8_t *frame = frame_new(4096);
    struct mshm_fences fences;
    content_reset();
    content_add("mm", 2);
    struct mshm_inner_spec spec = content_spec();
    spec.low = (const uint8_t *)"low";
    spec.low_size = 3;
    spec.high = (const uint8_t *)"zigzag";
    spec.high_size = 6;
    ck_assert_int_eq(mshm_inner_build(frame, 4096, &spec), MSHM_OK);
    assert_sound(frame, 4096);
    ck_assert_int_eq(mshm_page_fences(frame, 4096, &fences), MSHM_OK);
    ck_assert_mem_eq(fences.low, "low", 3);
    ck_assert_uint_eq(fences.low_size, 3);
    ck_assert_mem_eq(fences.high, "zigzag", 6);
    ck_assert_uint_eq(fences.high_size, 6);
    ck_assert_uint_eq(fences.right, 6);
    free(frame);
}
END_TEST

/* Everything a reader may do with a frame: it must stay inside. */
static void
read_everything(const uint8_t *frame, uint32_t size)
{
    static struct mshm_separator separators[64];
    static mshm_pid children[65];
    static uint8_t key_bytes[4096];
    static const struct {
        const char *key;
        size_t size;
    } probes[] = {{"shared-prefix/a", 15}, {"shared-prefix/abcz", 18}, {"z", 1}, {"", 0}};
    mshm_pid child;
    uint32_t index;
    struct mshm_fences fences;
    for (size_t i = 0; i < sizeof probes / sizeof *probes; i++) {
        for (int below = 0; below < 2; below++)
            if (mshm_inner_find(frame, size, probes[i].key, probes[i].size, below, &child,
                                &index) == MSHM_OK)
                ck_assert_uint_le(index, UINT16_MAX);
    }
    if (mshm_page_fences(frame, size, &fences) == MSHM_OK)
        mshm_fences_compare(&fences, "shared", 6, 1);
    int count = mshm_inner_take(frame, size, separators, children, 64, key_bytes, sizeof key_bytes);
    ck_assert_int_le(count, 64);
    mshm_inner_check(frame, size, NULL);
}

static uint8_t
changed(uint8_t byte, int change)
{
    return (uint8_t)(change < 8 ? byte ^ 1 << change : change == 8 ? 0xff : 0);
}

START_TEST(no_flipped_byte_leads_a_reader_out_of_the_frame)
{
    uint8_t *frame = frame_new(4096);
    content_reset();
    content_add("shared-prefix/ab", 16);
    content_add("shared-prefix/abcd", 18);
    content_add("shared-prefix/abcdefgh", 22);
    content_add("shared-prefix/x", 15);
    struct mshm_inner_spec spec = content_spec();
    spec.low = (const uint8_t *)"s";
    spec.low_size = 1;
    spec.high = (const uint8_t *)"t";
    spec.high_size = 1;
    uint32_t size = mshm_inner_size(&spec);
    ck_assert_int_eq(mshm_inner_build(frame, size, &spec), MSHM_OK);
    assert_sound(frame, size);
    uint8_t *exact = malloc(size);
    for (uint32_t at = 0; at < size; at++) {
        for (int change = 0; change < 10; change++) {
            memcpy(exact, frame, size);
            exact[at] = changed(exact[at], change);
            read_everything(exact, size);
        }
    }
    free(exact);
    free(frame);
}
END_TEST

START_TEST(a_separator_that_claims_to_be_longer_than_any_is_corrupt)
{
    enum { SIZE = 16384 };
    static uint8_t key_bytes[SIZE];
    uint8_t *frame = frame_new(SIZE);
    struct mshm_separator separator;
    mshm_pid children[2];
    content_reset();
    content_add("m", 1);
    struct mshm_inner_spec spec = content_spec();
    ck_assert_int_eq(mshm_inner_build(frame, SIZE, &spec), MSHM_OK);
    ck_assert_int_eq(mshm_inner_take(frame, SIZE, &separator, children, 1, key_bytes, SIZE), 1);
    const struct mshm_page *page = (const struct mshm_page *)(const void *)frame;
    uint16_t size = MSHM_MAX_KEY; /* one byte of prefix goes before it */
    memcpy(frame + page->slots_at * 4 + 2, &size, sizeof size);
    ck_assert_int_eq(mshm_inner_take(frame, SIZE, &separator, children, 1, key_bytes, SIZE),
                     MSHM_CORRUPT);
    ck_assert_int_eq(mshm_inner_check(frame, SIZE, NULL), MSHM_CORRUPT);
    free(frame);
}
END_TEST

START_TEST(random_bytes_lead_no_reader_out_of_the_frame)
{
    random_seed("random_bytes_lead_no_reader_out_of_the_frame");
    for (int round = 0; round < 50000; round++) {
        uint32_t size = 8 * random_below(60);
        uint8_t *frame = malloc(size == 0 ? 1 : size);
        for (uint32_t i = 0; i < size; i++)
            frame[i] = (uint8_t)(random_below(4) ? random_below(8) : random_next());
        read_everything(frame, size);
        free(frame);
    }
}
END_TEST

int
main(void)
{
    Suite *suite = suite_create("inner");
    TCase *tests = tcase_create("inner");
    tcase_set_timeout(tests, 120);
    tcase_add_test(tests, pages_of_every_count_of_children_lead_to_the_right_one);
    tcase_add_test(tests, random_separators_and_keys_agree_with_a_walk);
    tcase_add_test(tests, separators_of_every_length_are_told_apart);
    tcase_add_test(tests, fences_of_an_inner_page_are_kept);
    tcase_add_test(tests, no_flipped_byte_leads_a_reader_out_of_the_frame);
    tcase_add_test(tests, a_separator_that_claims_to_be_longer_than_any_is_corrupt);
    tcase_add_test(tests, random_bytes_lead_no_reader_out_of_the_frame);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
