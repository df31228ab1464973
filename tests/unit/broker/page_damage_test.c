/* page_damage_test.c - damaged, misdirected and forged records, and what a caller may do wrong. */
#include "page_scene.h"

/* --- damage --- */

START_TEST(every_flipped_bit_of_a_record_is_found)
{
    leaf_fill(12, 30, 0);
    data_location first = leaf_pack(100);
    append("key001", "x", 101);
    struct page_source source = leaf_source(&leaf, 101);
    source.location = first;
    source.since = 100;
    disk_pack(&disk, &source, &keep_all, &packed);
    ck_assert_uint_eq(data_location_chain(packed.location), 1);
    data_location locations[2] = {first, packed.location};
    for (int i = 0; i < 2; i++) {
        uint8_t *bytes = disk.bytes + data_location_offset(locations[i]);
        uint32_t size = data_location_size(locations[i]);
        for (uint32_t bit = 0; bit < size * 8; bit++) {
            const char *why = NULL;
            bytes[bit / 8] ^= (uint8_t)(1 << bit % 8);
            int status = page_record_check(bytes, size, locations[i], database_id, PID, &why);
            REQUIRE(status == MSHM_CORRUPT && why != NULL);
            bytes[bit / 8] ^= (uint8_t)(1 << bit % 8);
        }
        ck_assert_int_eq(page_record_check(bytes, size, locations[i], database_id, PID, NULL),
                         MSHM_OK);
    }
}
END_TEST

START_TEST(a_record_of_another_place_page_or_database_is_refused)
{
    leaf_fill(12, 30, 0);
    data_location location = leaf_pack(100);
    const uint8_t *bytes = disk.bytes + data_location_offset(location);
    uint32_t size = data_location_size(location);
    uint64_t offset = data_location_offset(location);
    uint8_t other[16] = "another database";
    ck_assert_int_eq(page_record_check(bytes, size, location, database_id, PID, NULL), MSHM_OK);
    ck_assert_int_eq(page_record_check(bytes, size, location, other, PID, NULL), MSHM_CORRUPT);
    ck_assert_int_eq(page_record_check(bytes, size, location, database_id, PID + 1, NULL),
                     MSHM_CORRUPT);
    data_location moved[] = {
        data_location_make(DISK_FILE + 1, 0, offset, size),
        data_location_make(DISK_FILE, 0, offset + 64, size),
        data_location_make(DISK_FILE, 1, offset, size),
        data_location_make(DISK_FILE, 0, offset, size + 64),
    };
    for (int i = 0; i < 4; i++)
        ck_assert_int_eq(page_record_check(bytes, data_location_size(moved[i]), moved[i],
                                           database_id, PID, NULL),
                         MSHM_CORRUPT);
    ck_assert_int_eq(page_record_check(bytes, size - 64, location, database_id, PID, NULL),
                     MSHM_CORRUPT);
}
END_TEST

/* Changes a record's header and makes its checksum right again. */
static uint8_t *
record_forge(data_location location, struct page_record **record)
{
    uint8_t *bytes = disk.bytes + data_location_offset(location);
    *record = (void *)bytes;
    return bytes;
}

static void
record_mend(data_location location)
{
    struct page_place place = {.file = DISK_FILE, .offset = data_location_offset(location)};
    struct page_record *record = (void *)(disk.bytes + place.offset);
    memcpy(place.database_id, database_id, sizeof database_id);
    record->crc = page_record_crc(&place, record, data_location_size(location));
}

START_TEST(a_record_of_a_later_version_is_refused_as_such)
{
    struct page_record *record;
    leaf_fill(12, 30, 0);
    data_location location = leaf_pack(100);
    uint8_t *bytes = record_forge(location, &record);
    record->version = 2;
    record_mend(location);
    ck_assert_int_eq(page_record_check(bytes, record->size, location, database_id, PID, NULL),
                     MSHM_VERSION);
}
END_TEST

START_TEST(chains_that_do_not_belong_together_are_refused)
{
    struct page_record *record;
    const char *why = NULL;
    leaf_fill(12, 30, 0);
    data_location first = leaf_pack(100);
    append("key001", "x", 101);
    struct page_source source = leaf_source(&leaf, 101);
    source.location = first;
    source.since = 100;
    disk_pack(&disk, &source, &keep_all, &packed);
    data_location second = packed.location;
    ck_assert_int_eq(disk_load_try(&disk, second, NULL, 0, NULL, content, &why), MSHM_OK);
    record_forge(first, &record);
    record->birth++;
    record_mend(first);
    ck_assert_int_eq(disk_load_try(&disk, second, NULL, 0, NULL, content, &why), MSHM_CORRUPT);
    ck_assert_str_eq(why, "the records of the page are of different births");
    record->birth--;
    record->bucket++;
    record_mend(first);
    ck_assert_int_eq(disk_load_try(&disk, second, NULL, 0, NULL, content, &why), MSHM_CORRUPT);
    ck_assert_str_eq(why, "the records are of different pages");
    record->bucket--;
    record->cut = 101; /* the delta's write would be in it already */
    record_mend(first);
    ck_assert_int_eq(disk_load_try(&disk, second, NULL, 0, NULL, content, &why), MSHM_CORRUPT);
    ck_assert_str_eq(why, "a version is older or newer than its record");
}
END_TEST

START_TEST(a_buffer_that_is_too_small_is_told)
{
    leaf_fill(12, 30, 0);
    data_location location = leaf_pack(100);
    uint32_t size = data_location_size(location);
    struct page_source source = leaf_source(&leaf, 100);
    struct page_place place = disk_place(&disk);
    uint8_t *to = disk.bytes + disk.end;
    ck_assert_int_eq(
        page_pack(&source, &keep_all, &place, disk_read, &disk, to, size - 64, &packed), MSHM_FULL);
    ck_assert_int_eq(page_pack(&source, &keep_all, &place, disk_read, &disk, to, 0, &packed),
                     MSHM_FULL);
    ck_assert_int_eq(page_pack(&source, &keep_all, &place, disk_read, &disk, to, size, &packed),
                     MSHM_OK);
}
END_TEST

START_TEST(a_damaged_frame_makes_no_record)
{
    random_seed();
    leaf_fill(30, 30, 1);
    append("key001", "x", 101);
    uint8_t *sound = malloc(leaf.size);
    memcpy(sound, leaf.frame, leaf.size);
    for (int round = 0; round < 20000; round++) {
        for (uint32_t i = 0, hits = 1 + random_below(3); i < hits; i++)
            leaf.frame[random_below(random_below(2) ? 600 : leaf.size)] = (uint8_t)random_next();
        struct page_source source = leaf_source(&leaf, 101);
        source.tail_count = 1;
        disk.end = DATA_RECORDS_AT;
        disk_pack_try(&disk, &source, &keep_all, &packed); /* any answer, no harm */
        memcpy(leaf.frame, sound, leaf.size);
    }
    free(sound);
}
END_TEST

int
main(void)
{
    const TTest *const tests[] = {
        every_flipped_bit_of_a_record_is_found,
        a_record_of_another_place_page_or_database_is_refused,
        a_record_of_a_later_version_is_refused_as_such,
        chains_that_do_not_belong_together_are_refused,
        a_buffer_that_is_too_small_is_told,
        a_damaged_frame_makes_no_record,
    };
    return scene_run("page_damage", tests, sizeof tests / sizeof *tests);
}
