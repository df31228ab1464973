/* rot_test.c - rotten bytes in every file of a small database: each is found, none gives a wrong value, none ends the
 * broker, and what does not need them stays readable. */
#include "fault/rot_judge.h"

#include <check.h>
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "mshm/status.h"
#include "wal_format.h"

static void
setup(void)
{
    rot_create(&rot);
}

static void
teardown(void)
{
    rot_destroy(&rot);
}

/* --- cases --- */

START_TEST(f13_the_database_has_records_of_all_kinds)
{
    unsigned full = 0, delta = 0, inner = 0, packed = 0, files = 0, chain = 0;
    struct rot_outcome outcome;

    for (unsigned i = 0; i < rot.record_count; i++) {
        const struct rot_record *record = &rot.records[i];
        full += record->kind == PAGE_RECORD_LEAF;
        delta += record->kind == PAGE_RECORD_DELTA;
        inner += record->kind == PAGE_RECORD_INNER;
        packed += record->compression == PAGE_ZSTD;
        files |= 1u << record->file;
        if (data_location_older(record->location) > chain)
            chain = data_location_older(record->location);
    }
    printf("%u full records, %u deltas, %u of inner pages, %u compressed, chains of up to %u\n",
           full, delta, inner, packed, chain);
    fflush(stdout);
    ck_assert(full >= 6 && delta >= 6 && inner >= 2 && packed >= 3 && chain >= 2);
    ck_assert_uint_ne(files & (files - 1), 0);
    rot_restore(&rot);
    rot_look(&rot, NULL, 0, &outcome);
    ck_assert_int_eq(outcome.status, MSHM_OK);
    ck_assert_uint_eq(outcome.corrupt + outcome.lost, 0);
}
END_TEST

/* By the function that page-in uses to read pages, without a start for each bit. */
START_TEST(f13_each_bit_of_each_record_flipped_is_found)
{
    static _Alignas(64) uint8_t frame[MSHM_MAX_FRAME];
    unsigned long bits = 0;
    const char *why;
    uint32_t size;

    rot_restore(&rot);
    ck_assert_int_eq(rot_start(&rot), MSHM_OK);
    struct core *core = rot.fake.core;
    while (pages_evict(core->pages, UINT64_MAX, rot.fake.now_ns += UINT64_C(1000000000)) > 0)
        continue;
    for (unsigned i = 0; i < rot.record_count; i++) {
        const struct rot_record *record = &rot.records[i];
        uint64_t at = data_location_offset(record->location);
        uint64_t end = at + data_location_size(record->location);
        ck_assert_int_eq(pager_peek(core->pager, record->pid, frame, &size, &why), MSHM_OK);
        for (; at < end; at++)
            for (unsigned bit = 0; bit < 8; bit++, bits++) {
                uint8_t *byte = rot_bytes(&rot, record->file) + at;
                *byte ^= (uint8_t)(1u << bit);
                int status = pager_peek(core->pager, record->pid, frame, &size, &why);
                ck_assert_msg(status == MSHM_CORRUPT, "%s at %llu, bit %u: status %d",
                              rot.files[record->file].name, (unsigned long long)at, bit, status);
                *byte ^= (uint8_t)(1u << bit);
            }
    }
    printf("%lu bits in %u records\n", bits, rot.record_count);
}
END_TEST

START_TEST(f13_bytes_of_each_data_file_flipped_damage_their_page_alone)
{
    for (unsigned file = 0; file < rot.file_count; file++)
        for (uint64_t at = 0; rot_is_data(file) && at < rot.files[file].size; at++) {
            const struct rot_record *record = rot_record_at(&rot, file, at);
            uint64_t into = record == NULL ? at : at - data_location_offset(record->location);
            bool head = into < (record == NULL ? sizeof(struct data_file_header)
                                               : sizeof(struct page_record));
            if (head || at % (record == NULL ? 97 : 5) == 0)
                rot_flip_whole(file, at, (unsigned)(at * 5 % 8));
        }
    ck_assert_uint_gt(rot_sum.corrupt, 1000);
    rot_sum_print("data files");
}
END_TEST

/* Writes to every key, those of the damaged page included, checkpoints and starts: a damaged page stays damaged, and
 * nothing else suffers. */
START_TEST(f13_a_broker_with_a_damaged_page_goes_on)
{
    struct rot_outcome outcome;

    for (unsigned i = 0; i < rot.record_count; i++) {
        const struct rot_record *record = &rot.records[i];
        rot_restore(&rot);
        rot_bytes(&rot, record->file)[data_location_offset(record->location) + 80] ^= 16;
        rot_look(&rot, &record->pid, 1, &outcome);
        ck_assert_uint_eq(outcome.elsewhere, 0);
        if (outcome.status != MSHM_OK)
            continue;
        ck_assert_uint_gt(outcome.corrupt, 0);
        rot_go_on(&rot, record->pid);
        rot_sum.starts++;
    }
    ck_assert_uint_gt(rot_sum.starts, rot.record_count / 2);
}
END_TEST

START_TEST(f15_each_bit_of_current_flipped_is_refused)
{
    unsigned file = rot_find(&rot, "CURRENT");

    for (uint64_t at = 0; at < rot.files[file].size; at++)
        for (unsigned bit = 0; bit < 8; bit++)
            rot_flip_whole(file, at, bit);
    ck_assert_uint_eq(rot_sum.refused, rot_sum.starts);
    rot_sum_print("CURRENT");
}
END_TEST

START_TEST(f15_each_byte_of_the_manifest_flipped_is_found_or_harmless)
{
    for (unsigned file = 0; file < rot.file_count; file++)
        for (uint64_t at = 0;
             strncmp(rot.files[file].name, "MANIFEST-", 9) == 0 && at < rot.files[file].size; at++)
            rot_flip_whole(file, at, (unsigned)(at * 3 % 8));
    ck_assert_uint_gt(rot_sum.refused, 100);
    rot_sum_print("manifest");
}
END_TEST

START_TEST(f14_each_byte_of_the_log_flipped_is_found_or_harmless)
{
    for (unsigned file = 0; file < rot.file_count; file++)
        for (uint64_t at = 0; rot_is_log(file) && at < rot_used_size(file) + 64; at++)
            if (at < sizeof(struct wal_segment_header) || at >= WAL_RECORDS_AT || at % 97 == 0)
                rot_flip_whole(file, at, (unsigned)(at * 3 % 8));
    ck_assert_uint_gt(rot_sum.refused, 100);
    rot_sum_print("log");
}
END_TEST

int
main(void)
{
    /* Each start takes and gives back the same megabytes. */
    mallopt(M_MMAP_THRESHOLD, 1 << 28);
    mallopt(M_TRIM_THRESHOLD, 1 << 28);
    Suite *suite = suite_create("rotten bytes");
    TCase *cases = tcase_create("rot");
    SRunner *runner;

    tcase_set_timeout(cases, 0);
    tcase_add_checked_fixture(cases, setup, teardown);
    tcase_add_test(cases, f13_the_database_has_records_of_all_kinds);
    tcase_add_test(cases, f13_each_bit_of_each_record_flipped_is_found);
    tcase_add_test(cases, f13_bytes_of_each_data_file_flipped_damage_their_page_alone);
    tcase_add_test(cases, f13_a_broker_with_a_damaged_page_goes_on);
    tcase_add_test(cases, f15_each_bit_of_current_flipped_is_refused);
    tcase_add_test(cases, f15_each_byte_of_the_manifest_flipped_is_found_or_harmless);
    tcase_add_test(cases, f14_each_byte_of_the_log_flipped_is_found_or_harmless);
    suite_add_tcase(suite, cases);
    runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
