/* page_pack_test.c - pages become records and come back. */
#include "record_fixture.h"

static struct disk disk;
static struct page_content *content;
static struct leaf leaf;
static struct page_packed packed;

static void
setup(void)
{
    disk_init(&disk);
    content = content_create();
    leaf = (struct leaf){.versions = versions_create()};
}

static void
teardown(void)
{
    leaf_fini(&leaf);
    page_content_destroy(content);
    disk_fini(&disk);
}

static struct mshm_version
text_version(const char *key, const char *value, mshm_timestamp timestamp)
{
    return (struct mshm_version){
        .key = (const uint8_t *)key,
        .key_size = (uint16_t)strlen(key),
        .value = (const uint8_t *)value,
        .value_size = value != NULL ? (uint32_t)strlen(value) : 0,
        .timestamp = timestamp,
        .kind = value != NULL ? MSHM_ENTRY_VALUE : MSHM_ENTRY_TOMBSTONE,
    };
}

static void
base_add(const char *key, const char *value, mshm_timestamp timestamp)
{
    struct mshm_version version = text_version(key, value, timestamp);
    REQUIRE(versions_add(leaf.versions, &version) != NULL);
}

static void
append(const char *key, const char *value, mshm_timestamp timestamp)
{
    struct mshm_version version = text_version(key, value, timestamp);
    REQUIRE(leaf_append(&leaf, &version));
}

/* A leaf of `count` keys "key000", ... with values of `value_size` bytes, written at 10, 11, ... */
static void
leaf_fill(unsigned count, unsigned value_size, unsigned class)
{
    char key[16], value[2048];
    for (unsigned i = 0; i < count; i++) {
        snprintf(key, sizeof key, "key%03u", i);
        for (unsigned at = 0; at < value_size; at++)
            value[at] = (char)('a' + random_below(26));
        value[value_size] = 0;
        base_add(key, value, 10 + i);
    }
    leaf_build(&leaf, class);
}

static data_location
leaf_pack(mshm_timestamp cut)
{
    struct page_source source = leaf_source(&leaf, cut);
    disk_pack(&disk, &source, &keep_all, &packed);
    return packed.location;
}

/* What is on disk there is what the list says, and can be laid out. */
static void
expect_loaded(data_location location, const struct versions *wanted)
{
    uint32_t size;
    disk_load(&disk, location, NULL, 0, NULL, content);
    versions_expect(wanted, page_content_leaf(content));
    free(content_build(content, &size));
}

/* --- round trips --- */

static void
random_version(struct mshm_version *version, uint8_t *key, uint8_t *value, uint32_t prefix_size)
{
    static const uint32_t sizes[] = {1, 2, 3, 8, 16, 40, 300, MSHM_MAX_KEY};
    uint32_t limit = sizes[random_below(8)];
    uint32_t key_size =
        prefix_size + 1 + random_below(limit - (limit > prefix_size ? prefix_size : 0));
    if (key_size > MSHM_MAX_KEY)
        key_size = MSHM_MAX_KEY;
    for (uint32_t i = prefix_size; i < key_size; i++)
        key[i] = (uint8_t)random_below(i < prefix_size + 2 ? 5 : 256);
    uint32_t value_size = random_below(3) == 0 ? 0 : random_below(random_below(20) ? 50 : 3000);
    for (uint32_t i = 0; i < value_size; i++)
        value[i] = (uint8_t)random_below(256);
    static const uint8_t kinds[] = {MSHM_ENTRY_VALUE, MSHM_ENTRY_VALUE, MSHM_ENTRY_BLOB,
                                    MSHM_ENTRY_MERGE, MSHM_ENTRY_TOMBSTONE};
    version->kind = kinds[random_below(5)];
    version->key = key;
    version->key_size = (uint16_t)key_size;
    version->value = value;
    version->value_size = version->kind == MSHM_ENTRY_TOMBSTONE ? 0 : value_size;
}

/* Fills the leaf with what fits into a frame of 64 KiB: base, then tail. */
static void
random_leaf(void)
{
    static uint8_t key[MSHM_MAX_KEY], value[4096];
    struct mshm_version version;
    uint32_t wanted = random_below(300), bytes = 0;
    uint32_t prefix_size = random_below(2) ? random_below(1000) : 0;
    memset(key, 'p', sizeof key);
    for (uint32_t i = 0; i < wanted && bytes < 40000; i++) {
        random_version(&version, key, value, prefix_size);
        uint32_t versions = random_below(40) == 0 ? 64 : 1 + random_below(3) / 2;
        for (uint32_t k = 0; k < versions && bytes < 40000; k++) {
            version.timestamp = 1 + random_below(1000);
            versions_add(leaf.versions, &version);
            bytes += data_version_cost(version.key_size, version.value_size);
        }
    }
    leaf_build(&leaf, 4);
    uint32_t tail = random_below(MSHM_TAIL_CAPACITY + 1);
    for (uint32_t i = 0; i < tail; i++) {
        random_version(&version, key, value, prefix_size);
        version.timestamp = 1001 + i;
        if (!leaf_append(&leaf, &version))
            break;
    }
}

START_TEST(a_leaf_of_any_content_comes_back_as_it_was)
{
    random_seed();
    for (int round = 0; round < 150; round++) {
        struct page_facts facts;
        random_leaf();
        struct page_source source = leaf_source(&leaf, 2000);
        source.compression = (uint8_t)random_below(3);
        disk.end = DATA_RECORDS_AT;
        disk_pack(&disk, &source, &keep_all, &packed);
        ck_assert_uint_eq(packed.older_count, 0);
        ck_assert_uint_eq(packed.dead_count, 0);
        expect_loaded(packed.location, leaf.versions);
        page_content_facts(content, &facts);
        ck_assert_uint_eq(facts.pid, PID);
        ck_assert_uint_eq(facts.bucket, BUCKET);
        ck_assert_uint_eq(facts.birth, BIRTH);
        ck_assert_uint_eq(facts.cut, 2000);
        ck_assert_uint_eq(facts.kind, MSHM_PAGE_LEAF);
        ck_assert_uint_eq(facts.frame_class, 4);
        ck_assert_uint_eq(facts.version_count, leaf.versions->count);
        ck_assert_uint_eq(page_content_leaf(content)->right, 1234);
        teardown();
        setup();
    }
}
END_TEST

START_TEST(fences_and_an_empty_leaf_come_back)
{
    leaf.low = "b";
    leaf.high = "cc";
    leaf_build(&leaf, 0);
    data_location location = leaf_pack(5);
    expect_loaded(location, leaf.versions);
    const struct mshm_leaf_spec *spec = page_content_leaf(content);
    ck_assert_uint_eq(spec->low_size, 1);
    ck_assert_mem_eq(spec->low, "b", 1);
    ck_assert_uint_eq(spec->high_size, 2);
    ck_assert_mem_eq(spec->high, "cc", 2);
    append("bee", "honey", 4);
    expect_loaded(leaf_pack(5), leaf.versions);
}
END_TEST

START_TEST(a_key_outside_the_fences_is_damage)
{
    const char *why = NULL;
    leaf.low = "b";
    leaf.high = "cc";
    base_add("cca", "x", 4);
    leaf_build(&leaf, 0);
    data_location location = leaf_pack(5);
    ck_assert_int_eq(disk_load_try(&disk, location, NULL, 0, NULL, content, &why), MSHM_CORRUPT);
    ck_assert_str_eq(why, "a key stands outside the fences");
}
END_TEST

static uint8_t *
inner_build(uint32_t count, uint32_t prefix_size, uint32_t *size)
{
    static uint8_t keys[2000][300];
    static struct mshm_separator separators[2000];
    static mshm_pid children[2001];
    for (uint32_t i = 0; i < count; i++) {
        memset(keys[i], 'q', prefix_size);
        uint32_t key_size =
            prefix_size + (uint32_t)snprintf((char *)keys[i] + prefix_size, 20, "%04u", i);
        separators[i] = (struct mshm_separator){keys[i], (uint16_t)key_size};
        children[i] = 100 + i;
    }
    children[count] = 100 + count;
    struct mshm_inner_spec spec = {.pid = PID,
                                   .right = 4321,
                                   .bucket = BUCKET,
                                   .level = 2,
                                   .low = (const uint8_t *)"",
                                   .high = (const uint8_t *)"z",
                                   .high_size = 1,
                                   .separators = separators,
                                   .children = children,
                                   .count = count};
    unsigned class = 0;
    while (mshm_class_size(class) < mshm_inner_size(&spec))
        class ++;
    *size = mshm_class_size(class);
    uint8_t *frame = aligned_alloc(64, *size);
    ck_assert_int_eq(mshm_inner_build(frame, *size, &spec), MSHM_OK);
    return frame;
}

START_TEST(an_inner_page_comes_back_as_it_was)
{
    static const uint32_t counts[] = {1, 2, 50, 2000}, prefixes[] = {0, 1, 250};
    for (int i = 0; i < 24; i++) {
        uint32_t size, built_size, count = counts[i % 4], prefix_size = prefixes[i / 4 % 3];
        uint8_t *frame = inner_build(count, prefix_size, &size);
        struct page_source source = {.pid = PID,
                                     .bucket = BUCKET,
                                     .birth = BIRTH,
                                     .cut = 9,
                                     .frame = frame,
                                     .frame_size = size,
                                     .compression = i < 12 ? 0 : PAGE_ZSTD};
        disk_pack(&disk, &source, &keep_all, &packed);
        disk_load(&disk, packed.location, NULL, 0, NULL, content);
        uint8_t *built = content_build(content, &built_size);
        ck_assert_uint_eq(built_size, size);
        ck_assert_mem_eq(built, frame, ((struct mshm_page *)(void *)frame)->base_end * 4u);
        /* The next one replaces it whole. */
        source.location = packed.location;
        source.since = 9;
        source.cut = 10;
        disk_pack(&disk, &source, &keep_all, &packed);
        ck_assert_uint_eq(packed.older_count, 0);
        ck_assert_uint_eq(packed.dead_count, 1);
        ck_assert_uint_eq(packed.dead[0], source.location);
        free(frame);
        free(built);
    }
}
END_TEST

START_TEST(entries_behind_the_seal_are_left_out)
{
    struct versions *sealed = versions_create();
    base_add("a", "1", 3);
    leaf_build(&leaf, 0);
    append("b", "2", 4);
    for (uint32_t i = 0; i < leaf.versions->count; i++)
        versions_add(sealed, &leaf.versions->list[i]);
    struct page_source source = leaf_source(&leaf, 4);
    append("a", "newer", 5);
    append("c", "newer", 5);
    disk_pack(&disk, &source, &keep_all, &packed);
    expect_loaded(packed.location, sealed);
    versions_destroy(sealed);
}
END_TEST

START_TEST(a_page_whose_keys_share_nothing_any_more_is_kept_with_its_tail_apart)
{
    static uint8_t key[4000];
    struct mshm_version version = {.key = key, .value = key, .kind = MSHM_ENTRY_VALUE};
    memset(key, 'k', sizeof key);
    version.key_size = sizeof key;
    for (uint32_t i = 0; i < 1000; i++) {
        key[3998] = (uint8_t)(i >> 8);
        key[3999] = (uint8_t)i;
        version.timestamp = 10;
        versions_add(leaf.versions, &version);
    }
    leaf_build(&leaf, 4);
    append("a foreigner", "that shares no byte with the others", 11);
    append("a foreigner", NULL, 12);
    append("a foreigner", "again", 12 + 1);
    version.timestamp = 14;
    version.value_size = 1;
    REQUIRE(leaf_append(&leaf, &version)); /* one that is in the base, too */
    struct page_source source = leaf_source(&leaf, 14);
    disk_pack(&disk, &source, &keep_all, &packed);
    ck_assert_uint_eq(data_location_chain(packed.location), DATA_NO_DELTA);
    expect_loaded(packed.location, leaf.versions);
    /* Moving it to another place keeps it so. */
    source = (struct page_source){.pid = PID, .cut = 14, .location = packed.location, .full = true};
    disk_pack(&disk, &source, &keep_all, &packed);
    ck_assert_uint_eq(data_location_chain(packed.location), DATA_NO_DELTA);
    expect_loaded(packed.location, leaf.versions);
    uint32_t size;
    uint8_t *frame = content_build(content, &size);
    ck_assert_uint_eq(((struct mshm_page *)(void *)frame)->tail_count, 4);
    free(frame);
}
END_TEST

/* --- compression --- */

START_TEST(compression_makes_records_smaller_or_leaves_them_alone)
{
    for (unsigned i = 0; i < 50; i++) {
        char key[16];
        snprintf(key, sizeof key, "key%03u", i);
        base_add(key, "the same value over and over, the same value over and over", 5);
    }
    leaf_build(&leaf, 1);
    uint32_t plain_size = data_location_size(leaf_pack(6));
    struct page_source source = leaf_source(&leaf, 6);
    source.compression = PAGE_ZSTD;
    disk_pack(&disk, &source, &keep_all, &packed);
    ck_assert_uint_lt(packed.size, plain_size / 2);
    expect_loaded(packed.location, leaf.versions);
    teardown();
    setup();
    static uint8_t noise[4000];
    for (unsigned i = 0; i < sizeof noise; i++)
        noise[i] = (uint8_t)random_next();
    struct mshm_version version = {.key = noise,
                                   .key_size = 8,
                                   .value = noise,
                                   .value_size = sizeof noise,
                                   .timestamp = 4,
                                   .kind = MSHM_ENTRY_VALUE};
    versions_add(leaf.versions, &version);
    leaf_build(&leaf, 1);
    source = leaf_source(&leaf, 6);
    source.compression = PAGE_ZSTD;
    disk_pack(&disk, &source, &keep_all, &packed);
    struct page_record *record = (void *)(disk.bytes + data_location_offset(packed.location));
    ck_assert_uint_eq(record->compression, PAGE_PLAIN);
    expect_loaded(packed.location, leaf.versions);
}
END_TEST

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

/* Adds a write to the list and to the leaf's versions. */
static struct blind_entry *
write_blind(struct blind_entry *older, const char *key, const char *value, mshm_timestamp timestamp)
{
    struct mshm_version version = text_version(key, value, timestamp);
    REQUIRE(versions_add(leaf.versions, &version) != NULL);
    return blind_add(older, &version);
}

static struct page_source
blind_source(const struct blind_entry *blind, data_location location, mshm_timestamp cut)
{
    return (struct page_source){
        .pid = PID, .cut = cut, .blind = blind, .location = location, .since = 0};
}

START_TEST(blind_writes_become_deltas_and_in_the_end_a_full_record)
{
    leaf_fill(50, 100, 1);
    data_location location = leaf_pack(100);
    for (unsigned i = 1; i <= DATA_CHAIN_MAX + 1u; i++) {
        char key[16];
        struct page_facts facts;
        struct blind_entry *blind;
        snprintf(key, sizeof key, "key%03u", i * 5);
        blind = write_blind(NULL, "what", "first", 100 + i * 2 - 1);
        blind = write_blind(blind, key, i % 2 ? "value" : NULL, 100 + i * 2);
        blind = write_blind(blind, "a", "b", 100 + i * 2);
        struct page_source source = blind_source(blind, location, 100 + i * 2);
        disk_pack(&disk, &source, &keep_all, &packed);
        location = packed.location;
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
    disk.bytes[data_location_offset(location) + 80] ^= 1;
    ck_assert_int_eq(disk_pack_try(&disk, &source, &keep_all, &packed), MSHM_CORRUPT);
    blind_free(blind);
}
END_TEST

/* The largest base that may have deltas, then as many deltas and blind writes as are allowed, each as costly as allowed, and
 * all of it must fit into a frame: with keys as short as can be, or with a long prefix that the later keys do not have. */
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

/* --- pruning --- */

/* Does anybody read this version, whose next newer one is `newer` (0: none)? Asked for every timestamp. */
static bool
naive_need(const struct page_keep *keep, mshm_timestamp timestamp, mshm_timestamp newer)
{
    if (newer == 0)
        return true;
    for (mshm_timestamp reader = timestamp; reader < newer; reader++) {
        if (reader >= keep->horizon)
            return true;
        for (uint32_t i = 0; i < keep->count; i++)
            if (keep->snapshots[i] == reader)
                return true;
    }
    return false;
}

static bool
naive_gone(const struct page_keep *keep, const struct mshm_version *newest)
{
    if (newest->kind != MSHM_ENTRY_TOMBSTONE || newest->timestamp > keep->horizon)
        return false;
    for (uint32_t i = 0; i < keep->count; i++)
        if (keep->snapshots[i] < newest->timestamp)
            return false;
    return true;
}

static struct versions *
naive_prune(const struct versions *all, const struct page_keep *keep, bool tombstones)
{
    struct versions *kept = versions_create();
    const struct mshm_version *newest = NULL;
    for (uint32_t i = 0; i < all->count; i++) {
        const struct mshm_version *version = &all->list[i];
        bool first = i == 0 || !same_key(version, version - 1);
        if (first)
            newest = version;
        if (tombstones && naive_gone(keep, newest))
            continue;
        if (naive_need(keep, version->timestamp, first ? 0 : version[-1].timestamp))
            versions_add(kept, version);
    }
    return kept;
}

static void
random_keep(struct page_keep *keep, mshm_timestamp *snapshots)
{
    keep->horizon = random_below(120);
    keep->count = 0;
    for (mshm_timestamp at = 1; at < keep->horizon; at++)
        if (random_below(12) == 0 && random_below(3) == 0)
            snapshots[keep->count++] = at;
    keep->snapshots = snapshots;
}

/* Few keys, many versions, timestamps 1 to 100: the first half in the base, the others in the tail. */
static void
random_history(void)
{
    uint32_t count = random_below(80);
    for (uint32_t i = 0; i < count; i++) {
        char key[8];
        snprintf(key, sizeof key, "k%u", random_below(12));
        struct mshm_version version =
            text_version(key, random_below(3) ? "value" : NULL, 1 + random_below(50));
        versions_add(leaf.versions, &version);
    }
    leaf_build(&leaf, 2);
    for (uint32_t i = 0, tail = random_below(50); i < tail; i++) {
        char key[8];
        snprintf(key, sizeof key, "k%u", random_below(12));
        struct mshm_version version = text_version(key, random_below(3) ? "v" : NULL, 51 + i);
        leaf_append(&leaf, &version);
    }
}

START_TEST(full_records_hold_exactly_what_somebody_may_read)
{
    random_seed();
    for (int round = 0; round < 3000; round++) {
        mshm_timestamp snapshots[128];
        struct page_keep keep;
        random_history();
        random_keep(&keep, snapshots);
        bool history = random_below(4) == 0;
        if (history)
            AO_store(&((struct mshm_page *)(void *)leaf.frame)->history, 4096 | 1);
        struct page_source source = leaf_source(&leaf, 100);
        struct versions *wanted = naive_prune(leaf.versions, &keep, !history);
        disk.end = DATA_RECORDS_AT;
        disk_pack(&disk, &source, &keep, &packed);
        disk_load(&disk, packed.location, NULL, 0, NULL, content);
        versions_expect(wanted, page_content_leaf(content));
        versions_destroy(wanted);
        teardown();
        setup();
    }
}
END_TEST

START_TEST(loading_drops_what_nobody_may_read_but_no_tombstone)
{
    random_seed();
    for (int round = 0; round < 1000; round++) {
        mshm_timestamp snapshots[128];
        struct page_keep keep;
        random_history();
        random_keep(&keep, snapshots);
        struct versions *wanted = naive_prune(leaf.versions, &keep, false);
        disk.end = DATA_RECORDS_AT;
        data_location location = leaf_pack(100);
        disk_load(&disk, location, NULL, 0, &keep, content);
        versions_expect(wanted, page_content_leaf(content));
        versions_destroy(wanted);
        teardown();
        setup();
    }
}
END_TEST

/* --- a page's life --- */

static const struct mshm_version *
read_at(const struct mshm_version *versions, uint32_t count, const struct mshm_version *key,
        mshm_timestamp snapshot)
{
    for (uint32_t i = 0; i < count; i++)
        if (same_key(&versions[i], key) && versions[i].timestamp <= snapshot)
            return versions[i].kind == MSHM_ENTRY_TOMBSTONE ? NULL : &versions[i];
    return NULL;
}

/* Everybody who may read finds on disk what was written. */
static void
expect_reads(data_location location, const struct versions *all, const struct page_keep *keep,
             mshm_timestamp cut)
{
    const char *why = "";
    int status = disk_load_try(&disk, location, NULL, 0, keep, content, &why);
    if (status != MSHM_OK)
        ck_abort_msg("page does not load: %s", why);
    const struct mshm_leaf_spec *spec = page_content_leaf(content);
    for (uint32_t i = 0; i < all->count; i++) {
        if (i > 0 && same_key(&all->list[i], &all->list[i - 1]))
            continue;
        for (uint32_t k = 0; k <= keep->count; k++) {
            mshm_timestamp reader = k < keep->count ? keep->snapshots[k] : cut;
            const struct mshm_version *wanted =
                read_at(all->list, all->count, &all->list[i], reader);
            const struct mshm_version *found =
                read_at(spec->versions, spec->count, &all->list[i], reader);
            REQUIRE((wanted == NULL) == (found == NULL));
            REQUIRE(wanted == NULL || wanted->timestamp == found->timestamp);
        }
    }
}

/* Brings the loaded page into memory as the broker does. */
static void
leaf_take(void)
{
    versions_destroy(leaf.versions);
    free(leaf.frame);
    leaf.versions = versions_create();
    const struct mshm_leaf_spec *spec = page_content_leaf(content);
    for (uint32_t i = 0; i < spec->count; i++)
        versions_add(leaf.versions, &spec->versions[i]);
    leaf.frame = NULL;
    leaf_build(&leaf, 3);
}

START_TEST(readers_find_the_same_after_any_life_in_memory_and_on_disk)
{
    random_seed();
    struct versions *all = versions_create();
    mshm_timestamp clock = 1, snapshots[8], since = 0;
    struct page_keep keep = {.snapshots = snapshots};
    data_location location = 0;
    bool resident = true, came = false;
    unsigned fulls = 0, deltas = 0;
    leaf_build(&leaf, 3);
    for (int round = 0; round < 4000 && clock < 5000; round++) {
        struct blind_entry *blind = NULL;
        uint32_t cost = 0;
        for (uint32_t i = 0, writes = 1 + random_below(random_below(5) ? 4 : 40); i < writes; i++) {
            char key[16];
            snprintf(key, sizeof key, "key%02u", random_below(40));
            struct mshm_version version =
                text_version(key, random_below(4) ? "some value or other" : NULL, ++clock);
            cost += data_version_cost(version.key_size, version.value_size);
            if (!resident && cost > DATA_DELTA_MAX && i > 0) {
                clock--;
                break;
            }
            versions_add(all, &version);
            if (!resident) {
                blind = blind_add(blind, &version);
            } else if (!leaf_append(&leaf, &version)) {
                versions_add(leaf.versions, &version);
                leaf_build(&leaf, 3);
            }
        }
        keep.horizon = clock;
        if (random_below(3) == 0 && keep.count < 8)
            snapshots[keep.count++] = clock - 1;
        if (random_below(6) == 0)
            keep.count = 0;
        struct page_source source =
            resident ? leaf_source(&leaf, clock) : blind_source(blind, location, clock);
        source.location = location;
        source.since = since;
        disk_pack(&disk, &source, &keep, &packed);
        packed.older_count > 0 ? deltas++ : fulls++;
        location = packed.location;
        since = clock;
        blind_free(blind);
        expect_reads(location, all, &keep, clock);
        if (random_below(4) == 0)
            resident = !resident;
        if (resident && (leaf.versions->count == 0 || random_below(3) == 0 || came))
            leaf_take();
        came = !resident;
        if (disk.end + 2 * PAGE_PACK_MAX > DISK_SIZE)
            break;
    }
    printf("fulls %u, deltas %u\n", fulls, deltas);
    REQUIRE(fulls > 50 && deltas > 200);
    versions_destroy(all);
}
END_TEST

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
    Suite *suite = suite_create("page_pack");
    TCase *tcase = tcase_create("page_pack");
    tcase_set_timeout(tcase, 120);
    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_add_test(tcase, a_leaf_of_any_content_comes_back_as_it_was);
    tcase_add_test(tcase, fences_and_an_empty_leaf_come_back);
    tcase_add_test(tcase, a_key_outside_the_fences_is_damage);
    tcase_add_test(tcase, an_inner_page_comes_back_as_it_was);
    tcase_add_test(tcase, entries_behind_the_seal_are_left_out);
    tcase_add_test(tcase, a_page_whose_keys_share_nothing_any_more_is_kept_with_its_tail_apart);
    tcase_add_test(tcase, compression_makes_records_smaller_or_leaves_them_alone);
    tcase_add_test(tcase, deltas_are_chained_until_a_full_record_is_due);
    tcase_add_test(tcase, a_delta_also_takes_what_a_rebuild_has_moved_into_the_base);
    tcase_add_test(tcase, a_delta_of_half_a_page_is_no_delta);
    tcase_add_test(tcase, a_full_record_that_is_due_is_no_delta);
    tcase_add_test(tcase, a_page_that_has_not_changed_is_not_written);
    tcase_add_test(tcase, a_large_page_gets_no_deltas);
    tcase_add_test(tcase, blind_writes_become_deltas_and_in_the_end_a_full_record);
    tcase_add_test(tcase, blind_writes_are_merged_when_the_page_is_read);
    tcase_add_test(tcase, what_reading_returns_is_returned);
    tcase_add_test(tcase, a_chain_of_all_that_is_allowed_fits_into_a_frame);
    tcase_add_test(tcase, full_records_hold_exactly_what_somebody_may_read);
    tcase_add_test(tcase, loading_drops_what_nobody_may_read_but_no_tombstone);
    tcase_add_test(tcase, readers_find_the_same_after_any_life_in_memory_and_on_disk);
    tcase_add_test(tcase, every_flipped_bit_of_a_record_is_found);
    tcase_add_test(tcase, a_record_of_another_place_page_or_database_is_refused);
    tcase_add_test(tcase, a_record_of_a_later_version_is_refused_as_such);
    tcase_add_test(tcase, chains_that_do_not_belong_together_are_refused);
    tcase_add_test(tcase, a_buffer_that_is_too_small_is_told);
    tcase_add_test(tcase, a_damaged_frame_makes_no_record);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? 1 : 0;
}
