/* record_fixture.h - what the tests of page records share: a list of versions that owns its bytes, a disk of records in
 * plain memory, and leaves that are built, written and read back. */
#ifndef RECORD_FIXTURE_H
#define RECORD_FIXTURE_H

#include "mshm/status.h"
#include "page_pack.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define REQUIRE(condition)                  \
    do {                                    \
        if (!(condition))                   \
            ck_abort_msg("%s", #condition); \
    } while (0)

static const uint8_t database_id[16] = "page records";
enum { PID = 77, BUCKET = 5, BIRTH = 3 };
static mshm_pid fixture_pid = PID; /* of the page that is written or read */

/* --- chance --- */

static uint64_t random_state;
static inline uint64_t
random_next(void)
{
    uint64_t z = random_state += UINT64_C(0x9e3779b97f4a7c15);
    z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
    return z ^ z >> 31;
}
static inline uint32_t
random_below(uint32_t bound)
{
    return (uint32_t)(random_next() % bound);
}
static inline void
random_seed(void)
{
    const char *given = getenv("MACE_SEED");
    random_state = given != NULL ? strtoull(given, NULL, 0) : 20250131;
    printf("MACE_SEED=%llu\n", (unsigned long long)random_state);
    fflush(stdout);
}

/* --- versions in page order --- */

enum { VERSIONS_MAX = 8192 };
struct versions {
    struct mshm_version list[VERSIONS_MAX];
    uint32_t count;
};

static inline int
version_order(const struct mshm_version *a, const struct mshm_version *b)
{
    int order = mshm_key_compare(a->key, a->key_size, b->key, b->key_size);
    return order != 0 ? order : (a->timestamp < b->timestamp) - (a->timestamp > b->timestamp);
}

static inline bool
same_key(const struct mshm_version *a, const struct mshm_version *b)
{
    return mshm_key_compare(a->key, a->key_size, b->key, b->key_size) == 0;
}

static inline struct versions *
versions_create(void)
{
    struct versions *versions = malloc(sizeof(*versions));
    REQUIRE(versions != NULL);
    versions->count = 0;
    return versions;
}

static inline void
versions_destroy(struct versions *versions)
{
    for (uint32_t i = 0; i < versions->count; i++)
        free((void *)(uintptr_t)versions->list[i].key);
    free(versions);
}

/* Copies the bytes. A second version of a key and timestamp is passed over: NULL. */
static inline const struct mshm_version *
versions_add(struct versions *versions, const struct mshm_version *version)
{
    uint32_t at = versions->count;
    while (at > 0 && version_order(version, &versions->list[at - 1]) <= 0)
        at--;
    if (at < versions->count && version_order(version, &versions->list[at]) == 0)
        return NULL;
    REQUIRE(versions->count < VERSIONS_MAX);
    uint8_t *bytes = malloc((size_t)version->key_size + version->value_size + 1);
    REQUIRE(bytes != NULL);
    memcpy(bytes, version->key, version->key_size);
    if (version->value_size > 0)
        memcpy(bytes + version->key_size, version->value, version->value_size);
    memmove(&versions->list[at + 1], &versions->list[at],
            (versions->count - at) * sizeof(*versions->list));
    versions->list[at] = *version;
    versions->list[at].key = bytes;
    versions->list[at].value = bytes + version->key_size;
    versions->count++;
    return &versions->list[at];
}

static inline void
versions_expect(const struct versions *wanted, const struct mshm_leaf_spec *leaf)
{
    ck_assert_uint_eq(leaf->count, wanted->count);
    for (uint32_t i = 0; i < wanted->count; i++) {
        const struct mshm_version *a = &wanted->list[i], *b = &leaf->versions[i];
        REQUIRE(same_key(a, b));
        REQUIRE(a->timestamp == b->timestamp);
        REQUIRE(a->kind == b->kind);
        REQUIRE(a->value_size == b->value_size);
        REQUIRE(a->value_size == 0 || memcmp(a->value, b->value, a->value_size) == 0);
    }
}

/* --- a leaf in a frame --- */

struct leaf {
    uint8_t *frame;
    uint32_t size;
    struct versions *versions;
    const char *low, *high; /* high NULL: infinite */
};

static inline void
leaf_build(struct leaf *leaf, unsigned class)
{
    struct mshm_leaf_spec spec = {
        .pid = fixture_pid,
        .right = 1234,
        .bucket = BUCKET,
        .kind = MSHM_PAGE_LEAF,
        .low = (const uint8_t *)leaf->low,
        .low_size = leaf->low != NULL ? (uint16_t)strlen(leaf->low) : 0,
        .high = (const uint8_t *)leaf->high,
        .high_size = leaf->high != NULL ? (uint16_t)strlen(leaf->high) : MSHM_FENCE_INFINITE,
        .versions = leaf->versions->list,
        .count = leaf->versions->count,
    };
    free(leaf->frame);
    leaf->size = mshm_class_size(class);
    leaf->frame = aligned_alloc(64, leaf->size);
    memset(leaf->frame, 0xee, leaf->size);
    ck_assert_int_eq(mshm_leaf_build(leaf->frame, leaf->size, &spec), MSHM_OK);
}

/* Appends to the frame and to the list; false when there is no room. */
static inline bool
leaf_append(struct leaf *leaf, const struct mshm_version *version)
{
    uint64_t hash = mshm_key_hash(version->key, version->key_size);
    if (mshm_leaf_append(leaf->frame, leaf->size, version, hash) != MSHM_OK)
        return false;
    REQUIRE(versions_add(leaf->versions, version) != NULL);
    return true;
}

static inline uint32_t
leaf_tail_count(const struct leaf *leaf)
{
    return (uint32_t)AO_load(&((struct mshm_page *)(void *)leaf->frame)->tail_count);
}

static inline void
leaf_fini(struct leaf *leaf)
{
    free(leaf->frame);
    versions_destroy(leaf->versions);
}

/* --- a disk of records --- */

enum { DISK_FILE = 9, DISK_SIZE = 8 << 20 };
struct disk {
    uint8_t *bytes;
    uint64_t end;
    unsigned reads;
    int error; /* that every read returns */
};

static inline void
disk_init(struct disk *disk)
{
    *disk = (struct disk){.bytes = aligned_alloc(64, DISK_SIZE), .end = DATA_RECORDS_AT};
    REQUIRE(disk->bytes != NULL);
}

static inline void
disk_fini(struct disk *disk)
{
    free(disk->bytes);
}

static inline int
disk_read(void *argument, data_location location, uint32_t offset, void *to, uint32_t size)
{
    struct disk *disk = argument;
    disk->reads++;
    REQUIRE(data_location_file(location) == DISK_FILE);
    REQUIRE(offset + size <= data_location_size(location));
    memcpy(to, disk->bytes + data_location_offset(location) + offset, size);
    return disk->error;
}

static inline struct page_place
disk_place(const struct disk *disk)
{
    struct page_place place = {.file = DISK_FILE, .offset = disk->end};
    memcpy(place.database_id, database_id, sizeof database_id);
    return place;
}

static const struct page_keep keep_all = {0}; /* the horizon is before everything */

static inline int
disk_pack_try(struct disk *disk, const struct page_source *source, const struct page_keep *keep,
              struct page_packed *packed)
{
    struct page_place place = disk_place(disk);
    uint8_t *to = disk->bytes + disk->end;
    REQUIRE(disk->end + PAGE_PACK_MAX <= DISK_SIZE);
    memset(to, 0xdd, PAGE_PACK_MAX);
    int status = page_pack(source, keep, &place, disk_read, disk, to, PAGE_PACK_MAX, packed);
    if (status != MSHM_OK || packed->size == 0)
        return status;
    for (uint32_t i = packed->size; i < PAGE_PACK_MAX; i++)
        REQUIRE(to[i] == 0xdd || i < packed->size + 64 * 1024); /* what was tried may stand there */
    REQUIRE(data_location_offset(packed->location) == disk->end);
    REQUIRE(data_location_file(packed->location) == DISK_FILE);
    REQUIRE(data_location_size(packed->location) == packed->size);
    REQUIRE(data_location_older(packed->location) == packed->older_count);
    disk->end += packed->size;
    return status;
}

static inline void
disk_pack(struct disk *disk, const struct page_source *source, const struct page_keep *keep,
          struct page_packed *packed)
{
    ck_assert_int_eq(disk_pack_try(disk, source, keep, packed), MSHM_OK);
}

static inline int
disk_load_try(struct disk *disk, data_location location, const struct blind_entry *const *blind,
              unsigned blind_count, const struct page_keep *keep, struct page_content *content,
              const char **why)
{
    const void *records[DATA_CHAIN_MAX + 1];
    data_location older[DATA_CHAIN_MAX];
    unsigned count = 1 + data_location_older(location);
    records[0] = disk->bytes + data_location_offset(location);
    int status = page_record_check(records[0], data_location_size(location), location, database_id,
                                   fixture_pid, why);
    if (status == MSHM_OK)
        page_record_older(records[0], older);
    for (unsigned i = 1; i < count && status == MSHM_OK; i++) {
        records[i] = disk->bytes + data_location_offset(older[i - 1]);
        status = page_record_check(records[i], data_location_size(older[i - 1]), older[i - 1],
                                   database_id, fixture_pid, why);
    }
    if (status == MSHM_OK)
        status = page_content_load(content, records, count, blind, blind_count, keep, why);
    return status;
}

static inline void
disk_load(struct disk *disk, data_location location, const struct blind_entry *const *blind,
          unsigned blind_count, const struct page_keep *keep, struct page_content *content)
{
    const char *why = "";
    int status = disk_load_try(disk, location, blind, blind_count, keep, content, &why);
    if (status != MSHM_OK)
        ck_abort_msg("page does not load: %s", why);
}

/* Lays the content out in the smallest frame that holds it and checks that frame; its bytes, to be freed. */
static inline uint8_t *
content_build(struct page_content *content, uint32_t *size)
{
    const char *why = "";
    struct page_facts facts;
    unsigned class = 0;
    page_content_facts(content, &facts);
    while (class < MSHM_CLASSES && mshm_class_size(class) < page_content_size(content))
        class ++;
    REQUIRE(class < MSHM_CLASSES);
    *size = mshm_class_size(class);
    uint8_t *frame = aligned_alloc(64, *size);
    ck_assert_int_eq(page_content_build(content, frame, *size, 0), MSHM_OK);
    int status = facts.kind == MSHM_PAGE_INNER ? mshm_inner_check(frame, *size, &why)
                                               : mshm_leaf_check(frame, *size, &why);
    if (status != MSHM_OK)
        ck_abort_msg("built frame: %s", why);
    return frame;
}

static inline struct page_content *
content_create(void)
{
    struct page_content *content;
    ck_assert_int_eq(page_content_create(&content), MSHM_OK);
    return content;
}

static inline struct page_source
leaf_source(const struct leaf *leaf, mshm_timestamp cut)
{
    return (struct page_source){
        .pid = fixture_pid,
        .bucket = BUCKET,
        .birth = BIRTH,
        .cut = cut,
        .frame = leaf->frame,
        .frame_size = leaf->size,
        .tail_count = leaf_tail_count(leaf),
    };
}

/* --- blind writes --- */

static inline struct blind_entry *
blind_add(struct blind_entry *older, const struct mshm_version *version)
{
    struct blind_entry *entry =
        calloc(1, sizeof(*entry) + (size_t)version->key_size + version->value_size);
    REQUIRE(entry != NULL);
    *entry = (struct blind_entry){.older_distance = blind_entry_distance(entry, older),
                                  .timestamp = version->timestamp,
                                  .value_size = version->value_size,
                                  .key_size = version->key_size,
                                  .kind = version->kind};
    memcpy(entry->bytes, version->key, version->key_size);
    if (version->value_size > 0)
        memcpy(entry->bytes + version->key_size, version->value, version->value_size);
    return entry;
}

static inline void
blind_free(const struct blind_entry *entry)
{
    while (entry != NULL) {
        const struct blind_entry *older = blind_entry_older(entry);
        free((void *)(uintptr_t)entry);
        entry = older;
    }
}

#endif
