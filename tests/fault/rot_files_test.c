/* rot_files_test.c - blots, files that are missing or cut short, records in wrong places, and files of a future version:
 * as rot_test.c, in larger pieces. */
#include "fault/rot_judge.h"

#include <check.h>
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "crc.h"
#include "manifest_format.h"
#include "mshm/status.h"
#include "page_pack.h"
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

enum { BLOT = 512 };

/* --- blots --- */

/* A blot that takes the last record takes the proof that the others were durable: what is lost then stood in the blot. */
static void
check_loss(unsigned file, uint64_t offset, const struct rot_outcome *outcome)
{
    struct wal_record record;
    unsigned before = 0;
    uint64_t last = 0;

    if (outcome->lost == 0)
        return;
    for (uint64_t at = WAL_RECORDS_AT; at + sizeof record <= rot.files[file].size;
         at += record.size) {
        memcpy(&record, rot.files[file].bytes + at, sizeof record);
        if (record.magic != WAL_RECORD_MAGIC)
            break;
        last = at;
        if (record.timestamp > rot.newest - ROT_TAIL && at + record.size <= offset &&
            (record.op_count_flags & WAL_FLAG_MARK) == 0)
            before++;
    }
    ck_assert_msg(offset + BLOT > last, "%s at %llu: durable commits are lost",
                  rot.files[file].name, (unsigned long long)offset);
    ck_assert_uint_eq(outcome->lost, ROT_TAIL - before);
}

static void
blot(unsigned file, uint64_t offset, bool noise)
{
    rot_restore(&rot);
    uint8_t *bytes = rot_bytes(&rot, file);
    uint64_t size = rot.files[file].size, end = offset + BLOT < size ? offset + BLOT : size;
    uint64_t random = offset * UINT64_C(0x9e3779b97f4a7c15) + 1;
    for (uint64_t at = offset; at < end; at++) {
        random = random * UINT64_C(6364136223846793005) + 1442695040888963407;
        bytes[at] = noise ? (uint8_t)(random >> 56) : 0;
    }
    if (memcmp(bytes + offset, rot.files[file].bytes + offset, end - offset) == 0)
        return;
    struct rot_outcome outcome = rot_judge(file, offset, end);
    check_loss(file, offset, &outcome);
}

static void
blot_everything(bool noise)
{
    for (unsigned file = 0; file < rot.file_count; file++) {
        uint64_t end = rot_is_log(file) ? rot_used_size(file) + BLOT : rot.files[file].size;
        for (uint64_t at = 0; at < end; at += BLOT / 8)
            if (!rot_is_log(file) || at < BLOT || at + BLOT >= WAL_RECORDS_AT)
                blot(file, at, noise);
    }
    ck_assert(rot_sum.refused > 10 && rot_sum.corrupt > 100);
}

START_TEST(f13_blots_of_zeros_over_every_file_are_found_or_harmless)
{
    blot_everything(false);
    rot_sum_print("512 zeros");
}
END_TEST

START_TEST(f13_blots_of_noise_over_every_file_are_found_or_harmless)
{
    blot_everything(true);
    rot_sum_print("512 random bytes");
}
END_TEST

/* --- files --- */

START_TEST(f14_each_file_missing_or_cut_short_is_found_or_harmless)
{
    mshm_pid pids[ROT_RECORDS];
    struct rot_outcome outcome;

    for (unsigned file = 0; file < rot.file_count; file++) {
        uint64_t size = rot_is_log(file) ? rot_used_size(file) + BLOT : rot.files[file].size;
        for (uint64_t left = 0; left < size; left += left < 256 ? 16 : 256) {
            rot_restore(&rot);
            rot.fake.files[file].size = left;
            memset(rot_bytes(&rot, file) + left, 0, rot.files[file].size - left);
            if (rot_is_data(file)) {
                rot_judge(file, left, UINT64_MAX);
            } else { /* an end as good as the right one, as far as anybody can tell from this file alone */
                rot_look(&rot, NULL, 0, &outcome);
                ck_assert_uint_eq(outcome.corrupt, 0);
                ck_assert(outcome.lost == 0 || rot_is_log(file));
                if (outcome.status == MSHM_OK)
                    rot_kill(&rot);
                else
                    ck_assert_int_eq(outcome.status, MSHM_CORRUPT);
            }
        }
        rot_restore(&rot);
        rot.fake.files[file].exists = false;
        unsigned count = rot_is_data(file) ? rot_damaged_pages(file, 0, UINT64_MAX, pids) : 0;
        rot_look(&rot, pids, count, &outcome);
        printf("%s missing: %s, %u keys cannot be read %s\n", rot.files[file].name,
               mshm_strerror(outcome.status), outcome.corrupt, rot.why);
        ck_assert(outcome.status == MSHM_CORRUPT || count > 0);
        ck_assert_uint_eq(outcome.elsewhere, 0);
        if (outcome.status == MSHM_OK)
            rot_kill(&rot);
    }
}
END_TEST

START_TEST(f16_a_record_in_the_place_of_another_is_found)
{
    unsigned found = 0;

    for (unsigned i = 0; i < rot.record_count; i++)
        for (unsigned j = 0; j < rot.record_count; j++) {
            const struct rot_record *to = &rot.records[i], *from = &rot.records[j];
            uint32_t size = data_location_size(to->location);
            uint64_t at = data_location_offset(to->location);
            if (i == j || data_location_size(from->location) != size)
                continue;
            rot_restore(&rot);
            memcpy(rot_bytes(&rot, to->file) + at,
                   rot.files[from->file].bytes + data_location_offset(from->location), size);
            rot_judge(to->file, at, at + size);
            found++;
        }
    ck_assert_uint_gt(found, 10);
    rot_sum_print("misdirected records");
}
END_TEST

/* --- versions --- */

/* Makes a structure of a file one of the next format, with the right checksum: the version is at byte 8, the checksum
 * over the whole with its own field zero at byte 12. */
static int
future(unsigned file, uint64_t size)
{
    struct rot_outcome outcome;
    mshm_pid pids[ROT_RECORDS];
    uint32_t version, crc = 0;

    rot_restore(&rot);
    uint8_t *head = rot_bytes(&rot, file);
    memcpy(&version, head + 8, sizeof version);
    version++;
    memcpy(head + 8, &version, sizeof version);
    memset(head + 12, 0, sizeof crc);
    crc = crc_extend(0, head, size);
    memcpy(head + 12, &crc, sizeof crc);
    unsigned count = rot_is_data(file) ? rot_damaged_pages(file, 0, UINT64_MAX, pids) : 0;
    rot.versions_differ = rot_is_data(file);
    rot_look(&rot, pids, count, &outcome);
    ck_assert_uint_eq(outcome.elsewhere, 0);
    if (outcome.status != MSHM_OK)
        return outcome.status;
    rot_kill(&rot);
    return outcome.corrupt > 0 ? MSHM_VERSION : MSHM_OK;
}

START_TEST(f32_files_of_a_future_version_are_refused)
{
    unsigned manifests = 0, segments = 0, files = 0;

    for (unsigned file = 0; file < rot.file_count; file++) {
        if (strncmp(rot.files[file].name, "MANIFEST-", 9) == 0 && ++manifests)
            ck_assert_int_eq(future(file, sizeof(struct manifest_header)), MSHM_VERSION);
        if (rot_is_log(file) && rot_used_size(file) > WAL_RECORDS_AT && ++segments)
            ck_assert_int_eq(future(file, sizeof(struct wal_segment_header)), MSHM_VERSION);
        if (rot_is_data(file) && ++files)
            ck_assert_int_eq(future(file, sizeof(struct data_file_header)), MSHM_VERSION);
    }
    ck_assert(manifests > 0 && segments > 0 && files > 1);
}
END_TEST

/* A record of the next version, right in everything else, in the place of each. */
START_TEST(f32_a_record_of_a_future_version_is_refused)
{
    struct rot_outcome outcome;

    for (unsigned i = 0; i < rot.record_count; i++) {
        const struct rot_record *record = &rot.records[i];
        struct page_place place = {.file = data_location_file(record->location),
                                   .offset = data_location_offset(record->location)};
        struct data_file_header header;
        rot_restore(&rot);
        memcpy(&header, rot.files[record->file].bytes, sizeof header);
        memcpy(place.database_id, header.database_id, sizeof place.database_id);
        struct page_record *head = (void *)(rot_bytes(&rot, record->file) + place.offset);
        head->version++;
        head->crc = page_record_crc(&place, head, head->size);
        rot.versions_differ = true;
        rot_look(&rot, &record->pid, 1, &outcome);
        ck_assert_uint_eq(outcome.elsewhere + outcome.lost, 0);
        ck_assert(outcome.status == MSHM_VERSION ||
                  (outcome.status == MSHM_OK && outcome.corrupt > 0));
        if (outcome.status == MSHM_OK)
            rot_kill(&rot);
    }
}
END_TEST

int
main(void)
{
    /* Each start takes and gives back the same megabytes. */
    mallopt(M_MMAP_THRESHOLD, 1 << 28);
    mallopt(M_TRIM_THRESHOLD, 1 << 28);
    Suite *suite = suite_create("blots and files");
    TCase *cases = tcase_create("rot_files");
    SRunner *runner;

    tcase_set_timeout(cases, 0);
    tcase_add_checked_fixture(cases, setup, teardown);
    tcase_add_test(cases, f13_blots_of_zeros_over_every_file_are_found_or_harmless);
    tcase_add_test(cases, f13_blots_of_noise_over_every_file_are_found_or_harmless);
    tcase_add_test(cases, f14_each_file_missing_or_cut_short_is_found_or_harmless);
    tcase_add_test(cases, f16_a_record_in_the_place_of_another_is_found);
    tcase_add_test(cases, f32_files_of_a_future_version_are_refused);
    tcase_add_test(cases, f32_a_record_of_a_future_version_is_refused);
    suite_add_tcase(suite, cases);
    runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
