/* page_pack_test.c - leaves and inner pages become records and come back. */
#include "page_scene.h"

#include <pthread.h>

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

static void *
append_all(void *argument)
{
    char key[8];
    for (uint32_t i = leaf_tail_count(&leaf); i < MSHM_TAIL_CAPACITY; i++) {
        snprintf(key, sizeof key, "k%u", i % 7);
        struct mshm_version version = text_version(key, "later", 100 + i);
        mshm_leaf_append(leaf.frame, leaf.size, &version,
                         mshm_key_hash(version.key, version.key_size));
    }
    return argument;
}

START_TEST(a_leaf_may_be_appended_to_while_it_is_packed)
{
    for (int round = 0; round < 200; round++) {
        pthread_t thread;
        base_add("k1", "1", 3);
        leaf_build(&leaf, 1);
        append("k2", "2", 4);
        append("k1", "2", 5);
        struct page_source source = leaf_source(&leaf, 5);
        disk.end = DATA_RECORDS_AT;
        ck_assert_int_eq(pthread_create(&thread, NULL, append_all, NULL), 0);
        disk_pack(&disk, &source, &keep_all, &packed);
        pthread_join(thread, NULL);
        expect_loaded(packed.location, leaf.versions);
        teardown();
        setup();
    }
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

int
main(void)
{
    const TTest *const tests[] = {
        a_leaf_of_any_content_comes_back_as_it_was,
        fences_and_an_empty_leaf_come_back,
        a_key_outside_the_fences_is_damage,
        an_inner_page_comes_back_as_it_was,
        entries_behind_the_seal_are_left_out,
        a_leaf_may_be_appended_to_while_it_is_packed,
        a_page_whose_keys_share_nothing_any_more_is_kept_with_its_tail_apart,
        compression_makes_records_smaller_or_leaves_them_alone,
    };
    return scene_run("page_pack", tests, sizeof tests / sizeof *tests);
}
