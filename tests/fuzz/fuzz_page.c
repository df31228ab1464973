/* fuzz_page.c - records of arbitrary bytes through what looks at them: the check of a record, then a page's whole
 * chain. What is accepted must make a sound frame.
 *
 * Input: four bytes, see struct choice; then the payload of a full record whose header is made to fit it, or patches
 * {offset u16, byte} for one record of a sound page. The checksum is made right, so that what lies behind it is
 * reached.
 */
#include "mshm/status.h"
#include "page_pack.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { PID = 7, FILE_NUMBER = 3, DISK_SIZE = 1 << 20, RECORDS = 3 };
static const uint8_t database_id[16] = "fuzz";

static uint8_t disk[DISK_SIZE] __attribute__((aligned(64)));
static uint64_t disk_end = DATA_RECORDS_AT;
static uint64_t sink; /* what was read must not be optimized away */

static void
must(int condition)
{
    if (!condition)
        abort();
}

static void
touch(const uint8_t *bytes, size_t size)
{
    for (size_t i = 0; i < size; i++)
        sink += bytes[i];
}

/* --- sound pages, packed once --- */

struct sound {
    data_location locations[RECORDS]; /* the newest first */
    unsigned count;
};
enum { SOUND_CHAIN, SOUND_ZSTD, SOUND_INNER, SOUND_APART, SOUNDS };
static struct sound sounds[SOUNDS];

static int
no_read(void *argument, data_location location, uint32_t offset, void *to, uint32_t size)
{
    (void)argument;
    (void)location;
    (void)offset;
    (void)to;
    (void)size;
    abort();
}

static struct page_place
place_at(uint64_t offset)
{
    struct page_place place = {.file = FILE_NUMBER, .offset = offset};
    memcpy(place.database_id, database_id, sizeof database_id);
    return place;
}

/* Writes the frame as of `cut` in front of the page's chain. */
static void
sound_pack(struct sound *sound, const uint8_t *frame, uint32_t frame_size, mshm_timestamp cut,
           uint8_t compression)
{
    const struct page_keep keep = {0};
    struct page_place place = place_at(disk_end);
    struct page_packed packed;
    const struct mshm_page *page = (const void *)frame;
    struct page_source source = {
        .pid = PID,
        .bucket = 1,
        .birth = 1,
        .cut = cut,
        .since = cut - 1,
        .frame = frame,
        .frame_size = frame_size,
        .tail_count = page->kind == MSHM_PAGE_LEAF ? (uint32_t)AO_load(&page->tail_count) : 0,
        .location = sound->count > 0 ? sound->locations[0] : 0,
        .older = sound->locations + 1,
        .compression = compression,
    };
    must(page_pack(&source, &keep, &place, no_read, NULL, disk + disk_end, PAGE_PACK_MAX,
                   &packed) == MSHM_OK);
    must(packed.older_count == sound->count);
    memmove(sound->locations + 1, sound->locations, sound->count++ * sizeof(data_location));
    sound->locations[0] = packed.location;
    disk_end += packed.size;
}

static void
leaf_append(uint8_t *frame, uint32_t frame_size, const char *key, mshm_timestamp timestamp)
{
    struct mshm_version version = {.key = (const uint8_t *)key,
                                   .key_size = (uint16_t)strlen(key),
                                   .value = (const uint8_t *)"appended",
                                   .value_size = 8,
                                   .timestamp = timestamp,
                                   .kind = MSHM_ENTRY_VALUE};
    must(mshm_leaf_append(frame, frame_size, &version,
                          mshm_key_hash(version.key, version.key_size)) == MSHM_OK);
}

/* Keys with a prefix of `prefix_size`, some with several versions. */
static void
leaf_build(uint8_t *frame, uint32_t frame_size, uint32_t count, uint32_t prefix_size)
{
    static uint8_t keys[100][4004];
    struct mshm_version versions[100];
    for (uint32_t i = 0; i < count; i++) {
        memset(keys[i], 'k', prefix_size);
        keys[i][prefix_size] = (uint8_t)(i / 2 / 256);
        keys[i][prefix_size + 1] = (uint8_t)(i / 2);
        versions[i] =
            (struct mshm_version){.key = keys[i],
                                  .key_size = (uint16_t)(prefix_size + 2),
                                  .value = keys[i],
                                  .value_size = i % 5,
                                  .timestamp = 20 - i % 2,
                                  .kind = i % 7 == 0 ? MSHM_ENTRY_TOMBSTONE : MSHM_ENTRY_VALUE};
    }
    struct mshm_leaf_spec spec = {.pid = PID,
                                  .right = 9,
                                  .bucket = 1,
                                  .kind = MSHM_PAGE_LEAF,
                                  .low = (const uint8_t *)"a",
                                  .low_size = 1,
                                  .high = (const uint8_t *)"z",
                                  .high_size = 1,
                                  .versions = versions,
                                  .count = count};
    must(mshm_leaf_build(frame, frame_size, &spec) == MSHM_OK);
}

static void
inner_build(uint8_t *frame, uint32_t frame_size)
{
    static uint8_t keys[40][8];
    struct mshm_separator separators[40];
    mshm_pid children[41];
    for (uint32_t i = 0; i <= 40; i++)
        children[i] = 100 + i;
    for (uint32_t i = 0; i < 40; i++) {
        memcpy(keys[i], "keyqqq", 6);
        keys[i][6] = (uint8_t)(i + 1);
        separators[i] = (struct mshm_separator){keys[i], 7};
    }
    struct mshm_inner_spec spec = {.pid = PID,
                                   .bucket = 1,
                                   .level = 1,
                                   .high_size = MSHM_FENCE_INFINITE,
                                   .separators = separators,
                                   .children = children,
                                   .count = 40};
    must(mshm_inner_build(frame, frame_size, &spec) == MSHM_OK);
}

static void
sounds_make(void)
{
    static uint8_t frame[MSHM_MAX_FRAME] __attribute__((aligned(64)));
    if (disk_end != DATA_RECORDS_AT)
        return;
    for (int zstd = 0; zstd < 2; zstd++) {
        struct sound *sound = &sounds[zstd ? SOUND_ZSTD : SOUND_CHAIN];
        leaf_build(frame, 4096, 100, 6);
        sound_pack(sound, frame, 4096, 20, zstd ? PAGE_ZSTD : PAGE_PLAIN);
        leaf_append(frame, 4096, "kkk", 21);
        sound_pack(sound, frame, 4096, 21, zstd ? PAGE_ZSTD : PAGE_PLAIN);
        leaf_append(frame, 4096, "kkk", 22);
        leaf_append(frame, 4096, "foreigner", 22);
        sound_pack(sound, frame, 4096, 22, PAGE_PLAIN);
    }
    inner_build(frame, 4096);
    sound_pack(&sounds[SOUND_INNER], frame, 4096, 20, PAGE_PLAIN);
    leaf_build(frame, MSHM_MAX_FRAME, 40, 4000);
    leaf_append(frame, MSHM_MAX_FRAME, "foreigner", 21);
    leaf_append(frame, MSHM_MAX_FRAME, "foreigner", 22);
    sound_pack(&sounds[SOUND_APART], frame, MSHM_MAX_FRAME, 22, PAGE_PLAIN);
}

/* --- what came through --- */

static void
frame_look(struct page_content *content, const struct page_facts *facts)
{
    uint32_t size = page_content_size(content), frame_size = MSHM_UNIT;
    const char *why = NULL;
    if (size == UINT32_MAX)
        return;
    while (frame_size < size)
        frame_size *= 2;
    must(frame_size <= MSHM_MAX_FRAME);
    uint8_t *frame = aligned_alloc(64, frame_size); /* so that every byte outside is poisoned */
    must(frame != NULL && page_content_build(content, frame, frame_size, 0) == MSHM_OK);
    if (facts->kind == MSHM_PAGE_INNER)
        must(mshm_inner_check(frame, frame_size, &why) == MSHM_OK);
    else
        must(mshm_leaf_check(frame, frame_size, &why) == MSHM_OK);
    free(frame);
}

static void
content_look(struct page_content *content)
{
    struct page_facts facts;
    page_content_facts(content, &facts);
    must(facts.pid == PID && facts.frame_class < MSHM_CLASSES);
    if (facts.kind == MSHM_PAGE_LEAF) {
        const struct mshm_leaf_spec *leaf = page_content_leaf(content);
        for (uint32_t i = 0; i < leaf->count; i++) {
            touch(leaf->versions[i].key, leaf->versions[i].key_size);
            touch(leaf->versions[i].value, leaf->versions[i].value_size);
        }
    } else {
        const struct mshm_inner_spec *inner = page_content_inner(content);
        for (uint32_t i = 0; i < inner->count; i++)
            touch(inner->separators[i].key, inner->separators[i].size);
    }
    frame_look(content, &facts);
}

struct choice {
    uint8_t mode; /* 0: a payload; 1, 2: patches; 3: patches, and the checksum stays wrong */
    uint8_t page; /* which sound page; payload: what it says it is */
    uint8_t
        record; /* the one of its chain that is patched; payload: how many versions it says it has */
    uint8_t how; /* bit 0: snapshots, 1: a blind write, 2: pruning */
};

/* A record that claims to have this payload. */
static uint8_t *
record_make(const struct choice *choice, const uint8_t *payload, size_t size,
            data_location *location)
{
    struct page_record record = {
        .magic = PAGE_RECORD_MAGIC,
        .pid = PID,
        .birth = 1,
        .cut = 100,
        .bucket = 1,
        .kind = choice->page & 1 ? PAGE_RECORD_INNER : PAGE_RECORD_LEAF,
        .level = choice->page & 1,
        .compression = choice->page & 2 ? PAGE_ZSTD : PAGE_PLAIN,
        .stored_size = (uint32_t)size,
        .raw_size = (uint32_t)(choice->page & 2 ? size * 2 + choice->page / 4u : size),
        .count = choice->record,
        .version = PAGE_RECORD_VERSION,
    };
    struct page_place place = place_at(DATA_RECORDS_AT);
    record.size = (uint32_t)mshm_align_up(sizeof record + size, DATA_UNIT);
    *location = data_location_make(FILE_NUMBER, 0, place.offset, record.size);
    uint8_t *bytes = aligned_alloc(DATA_UNIT, record.size);
    must(bytes != NULL);
    memset(bytes, 0, record.size);
    memcpy(bytes, &record, sizeof record);
    memcpy(bytes + sizeof record, payload, size);
    record.crc = page_record_crc(&place, bytes, record.size);
    memcpy(bytes, &record, sizeof record);
    return bytes;
}

/* A copy of a sound record, so that every byte outside is poisoned. */
static uint8_t *
record_copy(data_location location)
{
    uint32_t size = data_location_size(location);
    uint8_t *copy = aligned_alloc(DATA_UNIT, size);
    must(copy != NULL);
    memcpy(copy, disk + data_location_offset(location), size);
    return copy;
}

static void
record_patch(uint8_t *record, data_location location, const uint8_t *data, size_t size, int mend)
{
    struct page_place place = place_at(data_location_offset(location));
    uint32_t length = data_location_size(location);
    for (; size >= 3; size -= 3, data += 3)
        record[((uint32_t)data[0] | (uint32_t)data[1] << 8) % length] = data[2];
    uint32_t crc = page_record_crc(&place, record, length);
    if (mend)
        memcpy(record + offsetof(struct page_record, crc), &crc, sizeof crc);
}

/* All records are checked, then loaded with a blind write. */
static void
chain_look(uint8_t *const *records, const data_location *locations, unsigned count, uint8_t how)
{
    static struct page_content *content;
    static struct blind_entry *entry;
    static const mshm_timestamp snapshots[] = {19, 21};
    const struct page_keep keep = {.horizon = 22, .count = how & 1 ? 2 : 0, .snapshots = snapshots};
    const char *why = NULL;
    if (content == NULL) {
        must(page_content_create(&content) == MSHM_OK);
        entry = calloc(1, sizeof(*entry) + 8);
        must(entry != NULL);
        *entry = (struct blind_entry){
            .timestamp = 30, .key_size = 3, .value_size = 2, .kind = MSHM_ENTRY_VALUE};
        memcpy(entry->bytes, "kzzvv", 5);
    }
    const struct blind_entry *lists[2] = {how & 2 ? entry : NULL, NULL};
    for (unsigned i = 0; i < count; i++)
        if (page_record_check(records[i], data_location_size(locations[i]), locations[i],
                              database_id, PID, &why) != MSHM_OK)
            return;
    if (page_content_load(content, (const void *const *)records, count, lists, 2,
                          how & 4 ? &keep : NULL, &why) == MSHM_OK)
        content_look(content);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    data_location locations[RECORDS];
    uint8_t *records[RECORDS];
    struct choice choice;
    unsigned count = 1;
    if (size < sizeof choice || size > 60000)
        return 0;
    memcpy(&choice, data, sizeof choice);
    data += sizeof choice;
    size -= sizeof choice;
    sounds_make();
    if (choice.mode % 4 == 0) {
        records[0] = record_make(&choice, data, size, &locations[0]);
    } else {
        const struct sound *sound = &sounds[choice.page % SOUNDS];
        count = sound->count;
        memcpy(locations, sound->locations, count * sizeof(*locations));
        for (unsigned i = 0; i < count; i++)
            records[i] = record_copy(locations[i]);
        unsigned chosen = choice.record % count;
        record_patch(records[chosen], locations[chosen], data, size, choice.mode % 4 != 3);
    }
    chain_look(records, locations, count, choice.how);
    for (unsigned i = 0; i < count; i++)
        free(records[i]);
    return 0;
}
