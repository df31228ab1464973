/* page_delta_test.c - a page's chain: deltas of what is new, and of writes to a page that is not in memory. */
#include "page_scene.h"

/* --- deltas --- */

START_TEST(deltas_are_chained_until_a_full_record_is_due)
{
    data_location chain[DATA_CHAIN_MAX + 2];
    leaf_fill(50, 100, 1);
    chain[0] = leaf_pack(100);
    ck_assert_uint_eq(data_location_chain(chain[0]), 0);
    for (unsigned i = 1; i <= DATA_CHAIN_MAX + 1u; i++) {
        char key[16];
        data_location older[DATA_CHAIN_MAX];
        struct page_source source;
        snprintf(key, sizeof key, "key%03u", i * 3);
        append(key, "changed", 100 + i * 2);
        append("new", i % 2 ? "value" : NULL, 100 + i * 2);
        source = leaf_source(&leaf, 100 + i * 2);
        source.location = chain[i - 1];
        source.since = 100 + i * 2 - 2;
        for (unsigned k = 0; k + 1 < i && k < DATA_CHAIN_MAX; k++)
            older[k] = chain[i - 2 - k];
        source.older = i % 2 ? older : NULL; /* NULL: read from the newest record's head */
        source.compression = i % 3 ? PAGE_ZSTD : 0;
        disk_pack(&disk, &source, &keep_all, &packed);
        chain[i] = packed.location;
        expect_loaded(packed.location, leaf.versions);
        if (i <= DATA_CHAIN_MAX) {
            ck_assert_uint_eq(data_location_chain(chain[i]), i);
            ck_assert_uint_le(packed.size, 256);
            ck_assert_uint_eq(packed.dead_count, 0);
            for (unsigned k = 0; k < i; k++)
                ck_assert_uint_eq(packed.older[k], chain[i - 1 - k]);
        } else {
            ck_assert_uint_eq(data_location_chain(chain[i]), 0);
            ck_assert_uint_eq(packed.dead_count, DATA_CHAIN_MAX + 1);
            for (unsigned k = 0; k <= DATA_CHAIN_MAX; k++)
                ck_assert_uint_eq(packed.dead[k], chain[DATA_CHAIN_MAX - k]);
        }
    }
}
END_TEST

START_TEST(a_delta_also_takes_what_a_rebuild_has_moved_into_the_base)
{
    leaf_fill(50, 100, 1);
    data_location location = leaf_pack(100);
    base_add("key007", "changed", 101);
    base_add("key007", "changed again", 103);
    base_add("zebra", "new", 102);
    leaf_build(&leaf, 2);
    struct page_source source = leaf_source(&leaf, 103);
    source.location = location;
    source.since = 100;
    disk_pack(&disk, &source, &keep_all, &packed);
    ck_assert_uint_eq(data_location_chain(packed.location), 1);
    expect_loaded(packed.location, leaf.versions);
}
END_TEST

START_TEST(a_delta_of_half_a_page_is_no_delta)
{
    leaf_fill(4, 100, 0);
    data_location location = leaf_pack(100);
    char value[600];
    memset(value, 'v', sizeof value);
    value[599] = 0;
    append("key001", value, 101);
    struct page_source source = leaf_source(&leaf, 101);
    source.location = location;
    source.since = 100;
    disk_pack(&disk, &source, &keep_all, &packed);
    ck_assert_uint_eq(data_location_chain(packed.location), 0);
    ck_assert_uint_eq(packed.dead_count, 1);
    expect_loaded(packed.location, leaf.versions);
}
END_TEST

START_TEST(a_full_record_that_is_due_is_no_delta)
{
    leaf_fill(50, 100, 1);
    data_location location = leaf_pack(100);
    append("key001", "x", 101);
    struct page_source source = leaf_source(&leaf, 101);
    source.location = location;
    source.since = 100;
    source.full = true;
    disk_pack(&disk, &source, &keep_all, &packed);
    ck_assert_uint_eq(data_location_chain(packed.location), 0);
    expect_loaded(packed.location, leaf.versions);
}
END_TEST

START_TEST(a_page_that_has_not_changed_is_not_written)
{
    leaf_fill(50, 100, 1);
    data_location location = leaf_pack(100);
    struct page_source source = leaf_source(&leaf, 120);
    source.location = location;
    source.since = 100;
    disk_pack(&disk, &source, &keep_all, &packed);
    ck_assert_uint_eq(packed.size, 0);
    ck_assert_uint_eq(packed.location, location);
    ck_assert_uint_eq(packed.dead_count, 0);
}
END_TEST

START_TEST(a_large_page_gets_no_deltas)
{
    leaf_fill(30, 1000, 3);
    data_location location = leaf_pack(100);
    ck_assert_uint_eq(data_location_chain(location), DATA_NO_DELTA);
    append("key001", "x", 101);
    struct page_source source = leaf_source(&leaf, 101);
    source.location = location;
    source.since = 100;
    disk_pack(&disk, &source, &keep_all, &packed);
    ck_assert_uint_eq(data_location_chain(packed.location), DATA_NO_DELTA);
    ck_assert_uint_eq(packed.dead_count, 1);
    expect_loaded(packed.location, leaf.versions);
}
END_TEST

/* --- blind writes --- */

START_TEST(blind_writes_become_deltas_and_in_the_end_a_full_record)
{
    char large[DATA_MERGED_MAX * 2 / 3];
    memset(large, 'l', sizeof large - 1);
    large[sizeof large - 1] = '\0';
    leaf_fill(50, 100, 1);
    data_location location = leaf_pack(100);
    for (unsigned i = 1; i <= DATA_CHAIN_MAX + 1u; i++) {
        char key[16];
        struct page_facts facts;
        struct blind_entry *blind;
        snprintf(key, sizeof key, "key%03u", i * 5);
        blind = write_blind(NULL, "what", large, 100 + i * 2 - 1);
        blind = write_blind(blind, key, i % 2 ? "value" : NULL, 100 + i * 2);
        blind = write_blind(blind, "a", "b", 100 + i * 2);
        struct page_source source = blind_source(blind, location, 100 + i * 2);
        disk_pack(&disk, &source, &keep_all, &packed);
        location = packed.location;
        /* Too much for one delta with what stands below it. */
        ck_assert_uint_eq(data_location_chain(location), i <= DATA_CHAIN_MAX ? i : 0);
        ck_assert_uint_eq(packed.dead_count, i <= DATA_CHAIN_MAX ? 0 : DATA_CHAIN_MAX + 1);
        blind_free(blind);
        expect_loaded(location, leaf.versions);
        page_content_facts(content, &facts);
        ck_assert_uint_eq(facts.birth, BIRTH);
        ck_assert_uint_eq(facts.bucket, BUCKET);
        ck_assert_uint_eq(facts.frame_class, 1);
        ck_assert_uint_eq(facts.cut, 100 + i * 2);
        ck_assert_uint_eq(facts.newest, 100 + i * 2);
    }
}
END_TEST

/* The newest delta and what is new become one delta, until that is too large; then another one begins. */
static void
small_deltas(bool in_memory)
{
    enum { FLUSHES = 14 };
    char often[160];
    unsigned longest = 0, merged = 0;
    memset(often, 'o', sizeof often - 1);
    often[sizeof often - 1] = '\0';
    leaf_fill(50, 100, 2);
    data_location location = leaf_pack(100), below = 0, older[DATA_CHAIN_MAX];
    mshm_timestamp cuts[DATA_CHAIN_MAX + 1] = {100};
    for (unsigned i = 1; i <= FLUSHES && longest <= DATA_CHAIN_MAX; i++) {
        char key[16];
        unsigned chain = data_location_older(location);
        struct page_source source;
        struct blind_entry *blind = NULL;
        mshm_timestamp cut = 100 + i * 2;
        snprintf(key, sizeof key, "key%03u", i % 7 * 5);
        if (!in_memory) {
            blind = write_blind(NULL, key, i % 4 ? "value" : NULL, cut - 1);
            blind = write_blind(blind, "often", often, cut);
            source = blind_source(blind, location, cut);
        } else {
            append(key, i % 4 ? "value" : NULL, cut - 1);
            append("often", often, cut);
            source = leaf_source(&leaf, cut);
            source.location = location;
            source.since = cut - 2;
            source.older = chain > 0 ? older : NULL;
            source.below = chain > 0 ? cuts[chain - 1] : 0;
        }
        disk_pack(&disk, &source, &keep_all, &packed);
        expect_loaded(packed.location, leaf.versions);
        if (data_location_older(packed.location) == chain && chain > 0) {
            merged++;
            ck_assert_uint_eq(packed.dead_count, 1);
            ck_assert_uint_eq(packed.dead[0], location);
            ck_assert_uint_eq(packed.older[0], below);
            ck_assert_uint_le(packed.size, DATA_MERGED_MAX + 128);
        } else if (data_location_older(packed.location) > 0) {
            ck_assert_uint_eq(packed.dead_count, 0);
            ck_assert_uint_eq(packed.older[0], location);
            below = location;
        } else {
            ck_assert_uint_eq(packed.dead_count, DATA_CHAIN_MAX + 1);
            longest = DATA_CHAIN_MAX + 1;
        }
        if (data_location_older(packed.location) > longest)
            longest = data_location_older(packed.location);
        cuts[data_location_older(packed.location)] = cut;
        memcpy(older, packed.older, sizeof older);
        location = packed.location;
        blind_free(blind);
    }
    ck_assert_uint_gt(merged, 4);
    ck_assert_uint_ge(longest, DATA_CHAIN_MAX);
}

START_TEST(a_small_delta_takes_up_the_one_below_it)
{
    small_deltas(true);
}
END_TEST

START_TEST(a_small_delta_of_blind_writes_takes_up_the_one_below_it)
{
    small_deltas(false);
}
END_TEST

START_TEST(blind_writes_are_merged_when_the_page_is_read)
{
    leaf_fill(10, 20, 0);
    data_location location = leaf_pack(100);
    struct blind_entry *sealed = write_blind(NULL, "key001", "sealed", 101);
    sealed = write_blind(sealed, "b", "sealed", 102);
    struct blind_entry *gathered = write_blind(NULL, "key001", "gathered", 103);
    gathered = write_blind(gathered, "key001", NULL, 104);
    const struct blind_entry *lists[2] = {gathered, sealed};
    uint32_t size;
    disk_load(&disk, location, lists, 2, NULL, content);
    versions_expect(leaf.versions, page_content_leaf(content));
    free(content_build(content, &size));
    /* The sealed ones are on disk by now, and are still listed. */
    struct page_source source = blind_source(sealed, location, 102);
    disk_pack(&disk, &source, &keep_all, &packed);
    disk_load(&disk, packed.location, lists, 2, NULL, content);
    versions_expect(leaf.versions, page_content_leaf(content));
    /* Nothing of them is new then. */
    source = blind_source(sealed, packed.location, 102);
    disk_pack(&disk, &source, &keep_all, &packed);
    ck_assert_uint_eq(packed.size, 0);
    blind_free(sealed);
    blind_free(gathered);
}
END_TEST

START_TEST(what_reading_returns_is_returned)
{
    leaf_fill(10, 20, 0);
    data_location location = leaf_pack(100);
    struct blind_entry *blind = write_blind(NULL, "k", "v", 101);
    struct page_source source = blind_source(blind, location, 101);
    disk.error = MSHM_IO;
    ck_assert_int_eq(disk_pack_try(&disk, &source, &keep_all, &packed), MSHM_IO);
    disk.error = 0;
    disk.bytes[data_location_offset(location) + offsetof(struct page_record, cut)] ^= 1;
    ck_assert_int_eq(disk_pack_try(&disk, &source, &keep_all, &packed), MSHM_CORRUPT);
    blind_free(blind);
}
END_TEST

/* Packs it with `reads` reads, and says rightly before what will be read. */
static void
pack_reading(const struct page_source *source, enum page_reads wanted, unsigned reads)
{
    unsigned before = disk.reads;
    ck_assert_int_eq(page_pack_reads(source), wanted);
    disk_pack(&disk, source, &keep_all, &packed);
    ck_assert_uint_eq(disk.reads - before, reads);
}

/* Two writes that are too large to be one delta, and one more; what the packer said of each record may be remembered. */
static void
large_writes(bool remembered)
{
    char value[1000];
    memset(value, 'v', sizeof value);
    value[sizeof value - 1] = 0;
    leaf_fill(20, 100, 0);
    data_location location = leaf_pack(100);
    for (unsigned i = 0; i < 3; i++) {
        struct page_known known = packed.known;
        ck_assert_uint_eq(known.location, location);
        struct blind_entry *blind = write_blind(NULL, "key001", value, 101 + i);
        struct page_source source = blind_source(blind, location, 101 + i);
        if (remembered)
            source.known = known;
        if (i < 2)
            pack_reading(&source, remembered ? PAGE_READS_NOTHING : PAGE_READS_NEWEST, !remembered);
        else
            pack_reading(&source, PAGE_READS_CHAIN, 3);
        location = packed.location;
        ck_assert_uint_eq(data_location_older(location), (i + 1) % 3);
        const struct blind_entry *none[1] = {NULL};
        struct page_facts facts;
        disk_load(&disk, location, none, 1, NULL, content);
        page_content_facts(content, &facts);
        ck_assert_uint_eq(facts.birth, BIRTH);
        ck_assert_uint_eq(facts.cut, 101 + i);
        ck_assert_uint_eq(facts.newest, 101 + i);
        versions_expect(leaf.versions, page_content_leaf(content));
        blind_free(blind);
    }
}

START_TEST(a_blind_write_that_takes_up_nothing_reads_nothing)
{
    large_writes(true);
}
END_TEST

START_TEST(a_page_that_is_not_remembered_is_read)
{
    large_writes(false);
}
END_TEST

START_TEST(a_blind_write_that_takes_up_a_delta_reads_that)
{
    leaf_fill(20, 100, 0);
    data_location location = leaf_pack(100);
    for (unsigned i = 0; i < 3; i++) {
        struct blind_entry *blind = write_blind(NULL, "key001", "changed", 101 + i);
        struct page_source source = blind_source(blind, location, 101 + i);
        source.known = packed.known;
        pack_reading(&source, i == 0 ? PAGE_READS_NOTHING : PAGE_READS_NEWEST, i > 0);
        location = packed.location;
        ck_assert_uint_eq(data_location_older(location), 1);
        expect_loaded(location, leaf.versions);
        blind_free(blind);
    }
}
END_TEST

/* Its frame holds all of it. What is below the newest record can only be named by who can read that. */
START_TEST(a_page_in_memory_whose_chain_cannot_be_named_is_written_in_full)
{
    leaf_fill(50, 100, 1);
    data_location full = leaf_pack(100);
    append("key001", "changed", 101);
    struct page_source source = leaf_source(&leaf, 101);
    source.location = full;
    source.since = 100;
    disk_pack(&disk, &source, &keep_all, &packed);
    data_location delta = packed.location;
    ck_assert_uint_eq(data_location_chain(delta), 1);
    for (unsigned i = 0; i < 2; i++) {
        append("key002", "changed", 102 + i);
        source = leaf_source(&leaf, 102 + i);
        source.location = delta;
        source.since = 101;
        if (i == 0)
            disk.error = MSHM_IO;
        else
            disk.bytes[data_location_offset(delta) + 80] ^= 1;
        ck_assert_int_eq(disk_pack_try(&disk, &source, &keep_all, &packed), MSHM_OK);
        disk.error = 0;
        ck_assert_uint_eq(data_location_chain(packed.location), 0);
        ck_assert_uint_eq(packed.dead_count, 1);
        ck_assert_uint_eq(packed.dead[0], delta);
        expect_loaded(packed.location, leaf.versions);
    }
}
END_TEST

/* The largest base that may have deltas, then as many deltas and blind writes as are allowed, each as costly as
 * allowed, and all of it must fit into a frame: with keys as short as can be, or with a long prefix that the later
 * keys do not have. */
static void
fill_to_the_limit(uint32_t prefix_size, uint32_t value_size)
{
    static uint8_t key[MSHM_MAX_KEY], value[2048];
    struct mshm_version version = {
        .key = key, .value = value, .value_size = value_size, .kind = MSHM_ENTRY_VALUE};
    uint32_t next = 0, base = 1;
    data_location location = 0, best = 0;
    memset(key, 'p', sizeof key);
    for (;; base++) {
        key[prefix_size] = (uint8_t)(next >> 8);
        key[prefix_size + 1] = (uint8_t)next;
        next++;
        version.key_size = (uint16_t)(prefix_size + 2);
        version.timestamp = 10;
        versions_add(leaf.versions, &version);
        if (base % 16 != 0)
            continue;
        leaf_build(&leaf, 4);
        disk.end = DATA_RECORDS_AT;
        location = leaf_pack(10);
        if (data_location_chain(location) == DATA_NO_DELTA)
            break;
        best = location;
    }
    REQUIRE(best != 0);
    /* Back to the last one that is allowed deltas. */
    uint32_t allowed = (base - 16);
    while (leaf.versions->count > allowed)
        free((void *)(uintptr_t)leaf.versions->list[--leaf.versions->count].key);
    leaf_build(&leaf, 4);
    disk.end = DATA_RECORDS_AT;
    location = leaf_pack(10);
    ck_assert_uint_eq(data_location_chain(location), 0);
    struct blind_entry *lists[DATA_CHAIN_MAX + 2];
    memset(key, 'a', 4);
    for (uint32_t i = 0; i < DATA_CHAIN_MAX + 2u; i++) {
        uint32_t cost = 0, step = data_version_cost(3, value_size);
        lists[i] = NULL;
        for (; cost + step <= DATA_DELTA_MAX; cost += step, next++) {
            key[1] = (uint8_t)(next >> 8);
            key[2] = (uint8_t)next;
            version.key_size = 3;
            version.timestamp = 11 + i;
            versions_add(leaf.versions, &version);
            lists[i] = blind_add(lists[i], &version);
        }
        if (i >= DATA_CHAIN_MAX)
            continue;
        struct page_source source = blind_source(lists[i], location, 11 + i);
        disk_pack(&disk, &source, &keep_all, &packed);
        location = packed.location;
        ck_assert_uint_eq(data_location_chain(location), i + 1);
    }
    const struct blind_entry *pending[2] = {lists[DATA_CHAIN_MAX + 1], lists[DATA_CHAIN_MAX]};
    uint32_t size;
    disk_load(&disk, location, pending, 2, NULL, content);
    versions_expect(leaf.versions, page_content_leaf(content));
    free(content_build(content, &size));
    struct page_source source = blind_source(pending[1], location, 30);
    disk_pack(&disk, &source, &keep_all, &packed);
    ck_assert_uint_eq(data_location_older(packed.location), 0);
    disk_load(&disk, packed.location, pending, 1, NULL, content);
    for (uint32_t i = 0; i < DATA_CHAIN_MAX + 2u; i++)
        blind_free(lists[i]);
}

START_TEST(a_chain_of_all_that_is_allowed_fits_into_a_frame)
{
    static const uint32_t prefixes[] = {0, 30, 1000}, values[] = {0, 1, 100, 1000};
    for (int i = 0; i < 12; i++) {
        fill_to_the_limit(prefixes[i % 3], values[i / 3]);
        teardown();
        setup();
    }
}
END_TEST

int
main(void)
{
    const TTest *const tests[] = {
        deltas_are_chained_until_a_full_record_is_due,
        a_delta_also_takes_what_a_rebuild_has_moved_into_the_base,
        a_delta_of_half_a_page_is_no_delta,
        a_full_record_that_is_due_is_no_delta,
        a_page_that_has_not_changed_is_not_written,
        a_large_page_gets_no_deltas,
        blind_writes_become_deltas_and_in_the_end_a_full_record,
        a_small_delta_takes_up_the_one_below_it,
        a_small_delta_of_blind_writes_takes_up_the_one_below_it,
        blind_writes_are_merged_when_the_page_is_read,
        what_reading_returns_is_returned,
        a_blind_write_that_takes_up_nothing_reads_nothing,
        a_page_that_is_not_remembered_is_read,
        a_blind_write_that_takes_up_a_delta_reads_that,
        a_page_in_memory_whose_chain_cannot_be_named_is_written_in_full,
        a_chain_of_all_that_is_allowed_fits_into_a_frame,
    };
    return scene_run("page_delta", tests, sizeof tests / sizeof *tests);
}
