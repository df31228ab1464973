/* The store's geometry, header and view, and the layout hash. */
#include "mshm/store.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "mshm/counters.h"
#include "mshm/status.h"

static const uint8_t database_id[16] = "database-number";
static uint8_t *base;
static struct mshm_store_geometry geometry;

static void
set_up(void)
{
    mshm_store_geometry_compute(1 << 20, 1000, &geometry);
    base = aligned_alloc(4096, mshm_align_up(geometry.store_size, 4096));
    ck_assert_ptr_nonnull(base);
    memset(base, 0, geometry.store_size);
    mshm_store_init(base, &geometry, 77, database_id, 4711);
}

static void
tear_down(void)
{
    free(base);
}

static struct mshm_store *
header(void)
{
    return (struct mshm_store *)base;
}

START_TEST(parts_of_a_store_follow_one_another_without_overlap)
{
    static const uint64_t frames[] = {0, 1, 65536, 1 << 20, UINT64_C(1) << 38};
    static const uint64_t pids[] = {2, 3, 511, 512, 100000, MSHM_MAX_PIDS};
    for (size_t i = 0; i < 5; i++)
        for (size_t j = 0; j < 6; j++) {
            struct mshm_store_geometry g;
            mshm_store_geometry_compute(frames[i], pids[j], &g);
            ck_assert_uint_ge(g.counters_offset, sizeof(struct mshm_store));
            ck_assert_uint_ge(g.catalogue_offset, g.counters_offset + sizeof(struct mshm_figures));
            ck_assert_uint_ge(g.map_offset, g.catalogue_offset + 1024 * 64);
            ck_assert_uint_ge(g.frames_offset, g.map_offset + pids[j] * 8);
            ck_assert_uint_eq(g.frames_offset % (2 << 20), 0);
            ck_assert_uint_ge(g.frames_size, frames[i]);
            ck_assert_uint_eq(g.frames_size % 65536, 0);
            ck_assert_uint_eq(g.store_size, g.frames_offset + g.frames_size + 65536);
        }
}
END_TEST

START_TEST(page_numbers_are_limited_to_2_to_the_28)
{
    struct mshm_store_geometry g;
    mshm_store_geometry_compute(1 << 20, UINT64_MAX, &g);
    ck_assert_uint_eq(g.map_capacity, UINT64_C(1) << 28);
}
END_TEST

START_TEST(new_store_starts_with_epoch_one_and_nothing_visible)
{
    ck_assert_uint_eq(header()->epoch, 1);
    ck_assert_uint_eq(header()->revoked, 0);
    ck_assert_uint_eq(header()->horizon, 0);
    ck_assert_uint_eq(header()->visible, 0);
    ck_assert_uint_eq(header()->liveness, MSHM_LIVENESS_STARTING);
    ck_assert_int_eq(mshm_store_gone(header()), 0);
}
END_TEST

START_TEST(view_of_a_new_store_points_at_its_parts)
{
    struct mshm_view view;
    ck_assert_int_eq(mshm_view_init(&view, base, geometry.store_size, NULL), MSHM_OK);
    ck_assert_ptr_eq(view.base, base);
    ck_assert_ptr_eq(view.figures, base + geometry.counters_offset);
    ck_assert_ptr_eq(view.catalogue, base + geometry.catalogue_offset);
    ck_assert_ptr_eq(view.map, base + geometry.map_offset);
    ck_assert_uint_eq(view.map_capacity, 1000);
    ck_assert_uint_eq(view.catalogue_capacity, MSHM_MAX_BUCKETS);
    ck_assert_uint_eq(view.frames_offset, geometry.frames_offset);
    ck_assert_uint_eq(view.frames_size, 1 << 20);
    ck_assert_uint_eq(view.incarnation, 77);
    ck_assert_mem_eq(view.store->database_id, database_id, 16);
}
END_TEST

START_TEST(other_magic_version_or_layout_is_refused_as_version)
{
    struct mshm_view view;
    header()->magic ^= 1;
    ck_assert_int_eq(mshm_view_init(&view, base, geometry.store_size, NULL), MSHM_VERSION);
    header()->magic ^= 1;
    header()->version++;
    ck_assert_int_eq(mshm_view_init(&view, base, geometry.store_size, NULL), MSHM_VERSION);
    header()->version--;
    header()->layout_hash ^= 0x100;
    ck_assert_int_eq(mshm_view_init(&view, base, geometry.store_size, NULL), MSHM_VERSION);
    header()->layout_hash ^= 0x100;
    ck_assert_int_eq(mshm_view_init(&view, base, geometry.store_size, NULL), MSHM_OK);
}
END_TEST

START_TEST(mapping_shorter_than_the_store_is_refused)
{
    struct mshm_view view;
    ck_assert_int_eq(mshm_view_init(&view, base, geometry.store_size - 1, NULL), MSHM_CORRUPT);
    ck_assert_int_eq(mshm_view_init(&view, base, 4095, NULL), MSHM_CORRUPT);
    ck_assert_int_eq(mshm_view_init(&view, base, 0, NULL), MSHM_CORRUPT);
}
END_TEST

/* Every word of the header's geometry, one after the other, takes values that lead out of the mapping or overflow. */
START_TEST(offset_or_size_that_leaves_the_mapping_is_refused)
{
    uint64_t *words[] = {
        &header()->store_size,         &header()->counters_offset, &header()->catalogue_offset,
        &header()->catalogue_capacity, &header()->map_offset,      &header()->map_capacity,
        &header()->frames_offset,      &header()->frames_size,
    };
    for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
        const uint64_t bad[] = {
            UINT64_MAX,        UINT64_MAX - 4095,           UINT64_C(1) << 63,
            UINT64_C(1) << 61, geometry.store_size + 65536,
        };
        uint64_t good = *words[i];
        for (size_t j = 0; j < sizeof(bad) / sizeof(bad[0]); j++) {
            struct mshm_view view;
            *words[i] = bad[j];
            ck_assert_int_eq(mshm_view_init(&view, base, geometry.store_size, NULL), MSHM_CORRUPT);
        }
        *words[i] = good;
    }
}
END_TEST

START_TEST(overlapping_or_crooked_parts_are_refused)
{
    struct mshm_view view;
    uint64_t *const words[] = {&header()->counters_offset, &header()->catalogue_offset,
                               &header()->map_offset, &header()->frames_offset};
    for (size_t i = 0; i < 4; i++) {
        uint64_t good = *words[i];
        *words[i] = good + 8;
        ck_assert_int_eq(mshm_view_init(&view, base, geometry.store_size, NULL), MSHM_CORRUPT);
        *words[i] = 0;
        ck_assert_int_eq(mshm_view_init(&view, base, geometry.store_size, NULL), MSHM_CORRUPT);
        *words[i] = good;
    }
    header()->store_size -= 65536; /* no padding behind the frames */
    ck_assert_int_eq(mshm_view_init(&view, base, geometry.store_size, NULL), MSHM_CORRUPT);
    header()->store_size += 65536;
    ck_assert_int_eq(mshm_view_init(&view, base, geometry.store_size, NULL), MSHM_OK);
    header()->map_capacity = 0;
    ck_assert_int_eq(mshm_view_init(&view, base, geometry.store_size, NULL), MSHM_CORRUPT);
}
END_TEST

START_TEST(all_three_ends_of_a_broker_read_as_gone)
{
    static const unsigned ends[] = {MSHM_LIVENESS_STOPPED, MSHM_LIVENESS_POISONED, 0x40000000u,
                                    0x40000000u | 4711u};
    for (size_t i = 0; i < 4; i++) {
        header()->liveness = ends[i];
        ck_assert_int_ne(mshm_store_gone(header()), 0);
    }
    header()->liveness = 4711; /* a thread number: alive */
    ck_assert_int_eq(mshm_store_gone(header()), 0);
}
END_TEST

START_TEST(map_word_gives_back_what_it_was_made_of)
{
    for (unsigned class = 0; class < MSHM_CLASSES; class ++) {
        AO_t word = mshm_map_word(UINT64_C(123456) * 4096, class, 0xfe0311);
        ck_assert_uint_eq(mshm_map_state(word), MSHM_MAP_RESIDENT);
        ck_assert_uint_eq(mshm_map_class(word), class);
        ck_assert_uint_eq(mshm_map_hint(word), 0xfe0311);
        ck_assert_uint_eq(mshm_map_frame(word), UINT64_C(123456) * 4096);
    }
}
END_TEST

START_TEST(layout_hash_is_the_same_each_time)
{
    ck_assert_uint_eq(mshm_layout_hash(), mshm_layout_hash());
    ck_assert_uint_ne(mshm_layout_hash(), 0);
}
END_TEST

int
main(void)
{
    Suite *suite = suite_create("store");
    TCase *tests = tcase_create("store");
    tcase_add_checked_fixture(tests, set_up, tear_down);
    tcase_add_test(tests, parts_of_a_store_follow_one_another_without_overlap);
    tcase_add_test(tests, page_numbers_are_limited_to_2_to_the_28);
    tcase_add_test(tests, new_store_starts_with_epoch_one_and_nothing_visible);
    tcase_add_test(tests, view_of_a_new_store_points_at_its_parts);
    tcase_add_test(tests, other_magic_version_or_layout_is_refused_as_version);
    tcase_add_test(tests, mapping_shorter_than_the_store_is_refused);
    tcase_add_test(tests, offset_or_size_that_leaves_the_mapping_is_refused);
    tcase_add_test(tests, overlapping_or_crooked_parts_are_refused);
    tcase_add_test(tests, all_three_ends_of_a_broker_read_as_gone);
    tcase_add_test(tests, map_word_gives_back_what_it_was_made_of);
    tcase_add_test(tests, layout_hash_is_the_same_each_time);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
