/* page_unpack.c - from a record's bytes to what they say. The bytes are hostile: a checksum keeps accidents out, not a
 * person with an editor; so every size, offset and order is looked at before it is used.
 */
#include <string.h>

#include "crc.h"
#include "mshm/status.h"
#include "page_parts.h"

/* --- the record's frame --- */

static uint32_t
crc_start(const struct page_place *place)
{
    uint8_t seed[28];
    memcpy(seed, place->database_id, 16);
    memcpy(seed + 16, &place->file, 4);
    memcpy(seed + 20, &place->offset, 8);
    return crc_extend(0, seed, sizeof seed);
}

uint32_t
page_record_crc(const struct page_place *place, const void *record, uint32_t size)
{
    const uint32_t from = offsetof(struct page_record, size);
    return crc_extend(crc_start(place), (const uint8_t *)record + from, size - from);
}

void
page_record_older(const void *bytes, data_location *older)
{
    struct page_record record;
    memcpy(&record, bytes, sizeof record);
    unsigned count = record.chain < DATA_CHAIN_MAX ? record.chain : DATA_CHAIN_MAX;
    memcpy(older, (const uint8_t *)bytes + sizeof record, count * sizeof(*older));
}

static uint32_t
record_front(const struct page_record *record)
{
    return (uint32_t)(sizeof(*record) + record->chain * sizeof(data_location));
}

static const char *
check_kind(const struct page_record *record)
{
    switch (record->kind) {
    case PAGE_RECORD_LEAF:
    case PAGE_RECORD_DELTA:
        if (record->level != 0)
            return "a leaf's record has a level";
        break;
    case PAGE_RECORD_INNER:
        if (record->level == 0)
            return "an inner page's record has no level";
        break;
    default:
        return "the record is of no known kind";
    }
    if ((record->kind == PAGE_RECORD_DELTA) != (record->chain > 0) ||
        record->chain > DATA_CHAIN_MAX)
        return "the record's chain does not fit its kind";
    return NULL;
}

static const char *
check_sizes(const struct page_record *record)
{
    uint32_t front = record_front(record);
    if (record->stored_size > record->size || record->raw_size > MSHM_MAX_FRAME ||
        record->size != mshm_align_up(front + record->stored_size, DATA_UNIT))
        return "the record's sizes do not fit each other";
    bool plain = record->compression == PAGE_PLAIN;
    if (!plain && record->compression != PAGE_ZSTD)
        return "the record is compressed in no known way";
    if (plain ? record->stored_size != record->raw_size : record->stored_size >= record->raw_size)
        return "the payload's sizes do not fit each other";
    return NULL;
}

static const char *
check_fields(const struct page_record *record, data_location location, mshm_pid pid)
{
    if (record->pid != pid || pid == 0)
        return "the record is that of another page";
    const char *wrong = check_kind(record);
    if (wrong == NULL)
        wrong = check_sizes(record);
    if (wrong == NULL && record->chain != data_location_older(location))
        wrong = "the record's chain is not what its address says";
    if (wrong == NULL && record->frame_class >= MSHM_CLASSES)
        wrong = "the record names no class of frames";
    if (wrong == NULL &&
        (record->reserved_raw | record->reserved16 | record->reserved32 | record->reserved64) != 0)
        wrong = "reserved bytes of the record are in use";
    return wrong;
}

/* Each address leads to a record of the length of chain that is its turn. */
static const char *
check_chain(const uint8_t *bytes, const struct page_record *record)
{
    data_location older[DATA_CHAIN_MAX];
    page_record_older(bytes, older);
    for (unsigned i = 0; i < record->chain; i++)
        if (data_location_chain(older[i]) != record->chain - 1u - i ||
            data_location_offset(older[i]) < DATA_RECORDS_AT ||
            data_location_size(older[i]) < sizeof(*record) || older[i] >> 60 != 0)
            return "an address in the record leads nowhere";
    return NULL;
}

static const char *
check_padding(const uint8_t *bytes, const struct page_record *record)
{
    for (uint32_t at = record_front(record) + record->stored_size; at < record->size; at++)
        if (bytes[at] != 0)
            return "the record's padding is not empty";
    return NULL;
}

static int
refuse(const char **why, const char *wrong)
{
    if (why != NULL)
        *why = wrong;
    return MSHM_CORRUPT;
}

int
page_record_check(const void *bytes, uint64_t size, data_location location,
                  const uint8_t database_id[16], mshm_pid pid, const char **why)
{
    struct page_record record;
    struct page_place place = {.file = data_location_file(location),
                               .offset = data_location_offset(location)};
    if (size != data_location_size(location) || size < sizeof record)
        return refuse(why, "the record is cut short");
    memcpy(&record, bytes, sizeof record);
    if (record.magic != PAGE_RECORD_MAGIC)
        return refuse(why, "no record begins here");
    if (record.size != size)
        return refuse(why, "the record's size is not what its address says");
    memcpy(place.database_id, database_id, sizeof place.database_id);
    if (page_record_crc(&place, bytes, record.size) != record.crc)
        return refuse(why, "the record's checksum is wrong");
    if (record.version != PAGE_RECORD_VERSION) {
        refuse(why, "the record is of another version");
        return MSHM_VERSION;
    }
    const char *wrong = check_fields(&record, location, pid);
    if (wrong == NULL)
        wrong = check_chain(bytes, &record);
    if (wrong == NULL)
        wrong = check_padding(bytes, &record);
    return wrong == NULL ? MSHM_OK : refuse(why, wrong);
}

/* --- the payload --- */

/* What is left of the payload. */
struct cursor {
    const uint8_t *at, *end;
};

/* The next `size` bytes, or NULL: there are not that many. */
static const uint8_t *
cursor_take(struct cursor *cursor, size_t size)
{
    const uint8_t *taken = cursor->at;
    if ((size_t)(cursor->end - taken) < size)
        return NULL;
    cursor->at += size;
    return taken;
}

/* The payload as it was before compression. */
static int
payload_open(struct page_memory *memory, ZSTD_DCtx **zstd, const uint8_t *bytes,
             const struct page_record *record, struct cursor *cursor, const char **why)
{
    const uint8_t *stored = bytes + record_front(record);
    if (record->compression == PAGE_PLAIN) {
        *cursor = (struct cursor){stored, stored + record->stored_size};
        return MSHM_OK;
    }
    if (*zstd == NULL)
        *zstd = ZSTD_createDCtx();
    uint8_t *raw = page_memory_take(memory, record->raw_size);
    if (*zstd == NULL || raw == NULL)
        return MSHM_NO_MEMORY;
    if (ZSTD_decompressDCtx(*zstd, raw, record->raw_size, stored, record->stored_size) !=
        record->raw_size)
        return refuse(why, "the payload cannot be decompressed");
    *cursor = (struct cursor){raw, raw + record->raw_size};
    return MSHM_OK;
}

static const char *
take_front(struct page_image *image, struct cursor *cursor)
{
    struct page_payload *payload = &image->payload;
    const uint8_t *front = cursor_take(cursor, sizeof(*payload));
    if (front == NULL)
        return "the payload is too short";
    memcpy(payload, front, sizeof(*payload));
    uint32_t high_size = payload->high_size == MSHM_FENCE_INFINITE ? 0 : payload->high_size;
    if (payload->low_size > MSHM_MAX_KEY || high_size > MSHM_MAX_KEY ||
        payload->prefix_size > MSHM_MAX_KEY)
        return "a fence or the prefix is too long";
    image->low = cursor_take(cursor, payload->low_size);
    image->high = image->low != NULL ? cursor_take(cursor, high_size) : NULL;
    image->prefix = image->high != NULL ? cursor_take(cursor, payload->prefix_size) : NULL;
    if (image->prefix == NULL)
        return "the payload is too short";
    bool delta = image->record.kind == PAGE_RECORD_DELTA;
    if (delta && (payload->right | payload->low_size | payload->high_size | payload->prefix_size |
                  payload->tail_count) != 0)
        return "a delta has fences, a prefix or a sibling";
    if (!delta && payload->high_size != MSHM_FENCE_INFINITE &&
        mshm_key_compare(image->low, payload->low_size, image->high, high_size) >= 0)
        return "the low fence is not below the high fence";
    return NULL;
}

/* Memory for whole keys; NULL: they are whole as they stand. */
static int
keys_reserve(struct page_memory *memory, const struct page_image *image,
             const struct cursor *cursor, uint8_t **keys)
{
    *keys = NULL;
    if (image->payload.prefix_size == 0)
        return MSHM_OK;
    *keys = page_memory_take(memory, (size_t)image->record.count * image->payload.prefix_size +
                                         (size_t)(cursor->end - cursor->at));
    return *keys != NULL ? MSHM_OK : MSHM_NO_MEMORY;
}

/* Puts prefix and suffix together in *keys, if there is a prefix. */
static const uint8_t *
key_join(const struct page_image *image, uint8_t **keys, const uint8_t *suffix, uint32_t size)
{
    uint8_t *key = *keys;
    if (key == NULL)
        return suffix;
    memcpy(key, image->prefix, image->payload.prefix_size);
    memcpy(key + image->payload.prefix_size, suffix, size);
    *keys += image->payload.prefix_size + size;
    return key;
}

/* The next version. `previous`: the one before it in the same list, NULL: it is the first. */
static const char *
take_version(const struct page_image *image, struct cursor *cursor, uint8_t **keys,
             mshm_timestamp above, const struct mshm_version *previous,
             struct mshm_version *version)
{
    struct page_version front;
    const uint8_t *at = cursor_take(cursor, sizeof front);
    if (at == NULL)
        return "the payload is too short";
    memcpy(&front, at, sizeof front);
    const uint8_t *key = cursor_take(cursor, front.key_size);
    const uint8_t *value = key != NULL ? cursor_take(cursor, front.value_size) : NULL;
    if (value == NULL)
        return "the payload is too short";
    uint32_t flags = front.low & 0xff;
    *version = (struct mshm_version){
        .value = value,
        .timestamp = (mshm_timestamp)front.high << 24 | front.low >> 8,
        .value_size = front.value_size,
        .kind = (uint8_t)(flags & PAGE_KIND_MASK),
    };
    if ((flags & ~(uint32_t)(PAGE_KIND_MASK | PAGE_SAME_KEY)) != 0 ||
        version->kind < MSHM_ENTRY_VALUE || version->kind > MSHM_ENTRY_MERGE)
        return "a version is of no known kind";
    if (version->timestamp <= above || version->timestamp > image->record.cut)
        return "a version is older or newer than its record";
    if ((flags & PAGE_SAME_KEY) != 0) {
        if (previous == NULL || front.key_size != 0)
            return "an older version follows no newer one";
        version->key = previous->key;
        version->key_size = previous->key_size;
        return NULL;
    }
    uint32_t prefix_size = *keys != NULL ? image->payload.prefix_size : 0;
    if (prefix_size + front.key_size == 0 || prefix_size + front.key_size > MSHM_MAX_KEY)
        return "a key's size is out of range";
    version->key_size = (uint16_t)(prefix_size + front.key_size);
    version->key = key_join(image, keys, key, front.key_size);
    return NULL;
}

/* Newest first within a key, and the keys ascending; only merge operands of one commit have one timestamp. */
static const char *
check_order(const struct mshm_version *previous, const struct mshm_version *version)
{
    if (version->key == previous->key)
        return version->timestamp < previous->timestamp ||
                       (version->timestamp == previous->timestamp &&
                        version->kind == MSHM_ENTRY_MERGE)
                   ? NULL
                   : "the versions of a key are not newest first";
    return mshm_key_compare(previous->key, previous->key_size, version->key, version->key_size) < 0
               ? NULL
               : "the keys are not ascending";
}

static const char *
take_tail(struct page_image *image, struct cursor *cursor, mshm_timestamp above)
{
    mshm_timestamp newest = 0;
    uint8_t *no_keys = NULL;
    for (uint32_t i = 0; i < image->tail.count; i++) {
        struct mshm_version *version = &image->tail.versions[i];
        const char *wrong = take_version(image, cursor, &no_keys, above, NULL, version);
        if (wrong == NULL && version->timestamp < newest)
            wrong = "the timestamps of the tail descend";
        if (wrong != NULL)
            return wrong;
        version->reserved = PAGE_FROM_TAIL;
        newest = version->timestamp;
    }
    return NULL;
}

static int
take_versions(struct page_memory *memory, struct page_image *image, struct cursor *cursor,
              mshm_timestamp above, const char **why)
{
    uint32_t count = image->record.count, tail_count = image->payload.tail_count;
    uint8_t *keys;
    if (count > (size_t)(cursor->end - cursor->at) / sizeof(struct page_version))
        return refuse(why, "the payload is too short");
    if (tail_count > count || tail_count > MSHM_TAIL_CAPACITY)
        return refuse(why, "the tail is too long");
    struct mshm_version *versions = page_memory_take(memory, count * sizeof(*versions));
    if (versions == NULL || keys_reserve(memory, image, cursor, &keys) != MSHM_OK)
        return MSHM_NO_MEMORY;
    image->versions = (struct page_list){versions, count - tail_count};
    image->tail = (struct page_list){versions + image->versions.count, tail_count};
    const char *wrong = NULL;
    for (uint32_t i = 0; i < image->versions.count && wrong == NULL; i++) {
        const struct mshm_version *previous = i > 0 ? &versions[i - 1] : NULL;
        wrong = take_version(image, cursor, &keys, above, previous, &versions[i]);
        if (wrong == NULL && previous != NULL)
            wrong = check_order(previous, &versions[i]);
    }
    if (wrong == NULL)
        wrong = take_tail(image, cursor, above);
    if (wrong == NULL && cursor->at != cursor->end)
        wrong = "the payload is too long";
    return wrong == NULL ? MSHM_OK : refuse(why, wrong);
}

/* --- inner pages --- */

static const char *
take_separators(struct page_image *image, struct cursor *cursor, uint8_t *keys)
{
    struct mshm_fences fences = {image->low, image->high, image->payload.low_size,
                                 image->payload.high_size, image->payload.right};
    for (uint32_t i = 0; i < image->record.count; i++) {
        struct mshm_separator *separator = &image->separators[i];
        uint16_t size;
        const uint8_t *at = cursor_take(cursor, sizeof size);
        if (at == NULL)
            return "the payload is too short";
        memcpy(&size, at, sizeof size);
        const uint8_t *suffix = cursor_take(cursor, size);
        uint32_t whole = (uint32_t)image->payload.prefix_size + size;
        if (suffix == NULL)
            return "the payload is too short";
        if (whole == 0 || whole > MSHM_MAX_KEY)
            return "a separator's size is out of range";
        separator->key = key_join(image, &keys, suffix, size);
        separator->size = (uint16_t)whole;
        if (i > 0 && mshm_key_compare(separator[-1].key, separator[-1].size, separator->key,
                                      separator->size) >= 0)
            return "the separators are not ascending";
        if (mshm_key_compare(separator->key, whole, fences.low, fences.low_size) <= 0 ||
            mshm_fences_compare(&fences, separator->key, whole, 0) != 0)
            return "a separator does not stand between the fences";
    }
    return NULL;
}

static int
take_inner(struct page_memory *memory, struct page_image *image, struct cursor *cursor,
           const char **why)
{
    size_t count = image->record.count;
    uint8_t *keys;
    if (count > (size_t)(cursor->end - cursor->at) / sizeof(uint16_t) ||
        image->payload.tail_count != 0)
        return refuse(why, "the payload is too short");
    const uint8_t *children = cursor_take(cursor, (count + 1) * sizeof(mshm_pid));
    if (children == NULL)
        return refuse(why, "the payload is too short");
    image->children = page_memory_take(memory, (count + 1) * sizeof(mshm_pid));
    image->separators = page_memory_take(memory, (count + 1) * sizeof(*image->separators));
    if (image->children == NULL || image->separators == NULL ||
        keys_reserve(memory, image, cursor, &keys) != MSHM_OK)
        return MSHM_NO_MEMORY;
    memcpy(image->children, children, (count + 1) * sizeof(mshm_pid));
    for (size_t i = 0; i <= count; i++)
        if (image->children[i] == 0)
            return refuse(why, "a child is missing");
    const char *wrong = take_separators(image, cursor, keys);
    if (wrong == NULL && cursor->at != cursor->end)
        wrong = "the payload is too long";
    return wrong == NULL ? MSHM_OK : refuse(why, wrong);
}

int
page_unpack(struct page_memory *memory, ZSTD_DCtx **zstd, const void *bytes, mshm_timestamp above,
            struct page_image *image, const char **why)
{
    struct cursor cursor;
    *image = (struct page_image){0};
    memcpy(&image->record, bytes, sizeof image->record);
    int status = payload_open(memory, zstd, bytes, &image->record, &cursor, why);
    if (status != MSHM_OK)
        return status;
    const char *wrong = take_front(image, &cursor);
    if (wrong != NULL)
        return refuse(why, wrong);
    if (image->record.kind == PAGE_RECORD_INNER)
        return take_inner(memory, image, &cursor, why);
    return take_versions(memory, image, &cursor, above, why);
}
