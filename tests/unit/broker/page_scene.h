/* page_scene.h - one disk of records, one leaf, one content: what each case of the tests of records begins with. */
#ifndef PAGE_SCENE_H
#define PAGE_SCENE_H

#include "record_fixture.h"

static struct disk disk;
static struct page_content *content;
static struct leaf leaf;
static struct page_packed packed;

static inline void
setup(void)
{
    disk_init(&disk);
    content = content_create();
    leaf = (struct leaf){.versions = versions_create()};
}

static inline void
teardown(void)
{
    leaf_fini(&leaf);
    page_content_destroy(content);
    disk_fini(&disk);
}

static inline struct mshm_version
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

static inline void
base_add(const char *key, const char *value, mshm_timestamp timestamp)
{
    struct mshm_version version = text_version(key, value, timestamp);
    REQUIRE(versions_add(leaf.versions, &version) != NULL);
}

static inline void
append(const char *key, const char *value, mshm_timestamp timestamp)
{
    struct mshm_version version = text_version(key, value, timestamp);
    REQUIRE(leaf_append(&leaf, &version));
}

/* A leaf of `count` keys "key000", ... with values of `value_size` bytes, written at 10, 11, ... */
static inline void
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

static inline data_location
leaf_pack(mshm_timestamp cut)
{
    struct page_source source = leaf_source(&leaf, cut);
    disk_pack(&disk, &source, &keep_all, &packed);
    return packed.location;
}

/* What is on disk there is what the list says, and can be laid out. */
static inline void
expect_loaded(data_location location, const struct versions *wanted)
{
    uint32_t size;
    disk_load(&disk, location, NULL, 0, NULL, content);
    versions_expect(wanted, page_content_leaf(content));
    free(content_build(content, &size));
}

/* Adds a write to the list and to the leaf's versions. */
static inline struct blind_entry *
write_blind(struct blind_entry *older, const char *key, const char *value, mshm_timestamp timestamp)
{
    struct mshm_version version = text_version(key, value, timestamp);
    REQUIRE(versions_add(leaf.versions, &version) != NULL);
    return blind_add(older, &version);
}

static inline struct page_source
blind_source(const struct blind_entry *blind, data_location location, mshm_timestamp cut)
{
    return (struct page_source){
        .pid = PID, .cut = cut, .blind = blind, .location = location, .since = 0};
}

static inline int
scene_run(const char *name, const TTest *const *tests, unsigned count)
{
    Suite *suite = suite_create(name);
    TCase *tcase = tcase_create(name);
    tcase_set_timeout(tcase, 120);
    tcase_add_checked_fixture(tcase, setup, teardown);
    for (unsigned i = 0; i < count; i++)
        tcase_add_test(tcase, tests[i]);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? 1 : 0;
}

#endif
