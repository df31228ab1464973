/* manifest_edit.c - records of the manifest made: edits, snapshots in parts, marks. */
#include <stdlib.h>
#include <string.h>

#include "crc.h"
#include "manifest_parts.h"

enum { SIZE_UNKNOWN_SHIFT = 62 };

/* --- checksums and places --- */

uint32_t
manifest_header_crc(const struct manifest_header *header)
{
    struct manifest_header copy = *header;
    copy.crc = 0;
    return crc_extend(0, &copy, sizeof copy);
}

uint32_t
manifest_seed(const uint8_t database_id[16], uint64_t number, uint64_t offset)
{
    uint32_t seed = crc_extend(0, database_id, 16);
    seed = crc_extend(seed, &number, sizeof number);
    return crc_extend(seed, &offset, sizeof offset);
}

uint32_t
manifest_record_crc(uint32_t seed, const struct manifest_record *record)
{
    return crc_extend(seed, &record->payload_crc,
                      sizeof *record - offsetof(struct manifest_record, payload_crc));
}

uint32_t
manifest_mark_crc(uint32_t seed, const struct manifest_mark *mark)
{
    return crc_extend(seed, &mark->sequence,
                      sizeof *mark - offsetof(struct manifest_mark, sequence));
}

static uint64_t
round_up(uint64_t size, uint64_t unit)
{
    return (size + unit - 1) / unit * unit;
}

/* Takes `count` things of `each` bytes out of what is left of a record; false: there is not so much. */
static bool
place_take(uint64_t *at, uint64_t size, uint64_t count, uint64_t each)
{
    if (count > (size - *at) / each)
        return false;
    *at = round_up(*at + count * each, 8);
    return *at <= size;
}

bool
manifest_places(const struct manifest_record *record, struct manifest_places *places)
{
    uint64_t at = sizeof *record, size = record->size;
    if (size < at)
        return false;
    places->pages = at;
    if (!place_take(&at, size, record->page_count, sizeof(struct manifest_page_image)))
        return false;
    places->files = at;
    if (!place_take(&at, size, record->file_count, sizeof(struct manifest_file_image)))
        return false;
    places->catalogue = at;
    if (!place_take(&at, size, record->catalogue_size, 1))
        return false;
    places->outcomes = at;
    if (!place_take(&at, size, record->outcomes_size, 1))
        return false;
    places->strays = at;
    if (!place_take(&at, size, record->strays_size, 1))
        return false;
    places->end = at;
    return true;
}

/* --- records --- */

/* Where a record is going to stand. */
struct place {
    uint8_t *bytes; /* zeros */
    const struct manifest *manifest;
    uint64_t number, offset, sequence;
    uint32_t previous_crc;
};

/* Everything of a record's header but the checksums. */
static void
record_plan(struct manifest_record *record, const struct manifest_edit *edit, uint32_t kind,
            uint32_t flags, struct manifest_places *places)
{
    *record = (struct manifest_record){
        .magic = MANIFEST_RECORD_MAGIC,
        .size = UINT64_C(1) << SIZE_UNKNOWN_SHIFT,
        .kind = kind,
        .flags = flags | (edit->catalogue != NULL ? MANIFEST_CATALOGUE : 0) |
                 (edit->outcomes != NULL ? MANIFEST_OUTCOMES : 0) |
                 (edit->strays != NULL ? MANIFEST_STRAYS : 0),
        .page_count = edit->page_count,
        .file_count = edit->file_count,
        .catalogue_size = edit->catalogue != NULL ? edit->catalogue_size : 0,
        .outcomes_size = edit->outcomes != NULL ? edit->outcomes_size : 0,
        .strays_size = edit->strays != NULL ? edit->strays_size : 0,
        .incarnation = edit->incarnation,
        .first_segment = edit->first_segment,
        .cut_timestamp = edit->cut.timestamp,
        .cut_chain = edit->cut.chain,
        .cut_segment = edit->cut.position.segment,
        .cut_offset = edit->cut.position.offset,
    };
    manifest_places(record, places);
    record->size = round_up(places->end, MANIFEST_SECTOR);
}

static uint64_t
record_size(const struct manifest_edit *edit)
{
    struct manifest_record record;
    struct manifest_places places;
    record_plan(&record, edit, MANIFEST_EDIT, 0, &places);
    return record.size;
}

static void
pages_write(uint8_t *to, const struct manifest_page *pages, uint64_t count)
{
    for (uint64_t i = 0; i < count; i++, to += sizeof(struct manifest_page_image)) {
        struct manifest_page_image image = {pages[i].pid, (uint32_t)pages[i].location,
                                            (uint32_t)(pages[i].location >> 32)};
        memcpy(to, &image, sizeof image);
    }
}

static void
files_write(uint8_t *to, const struct manifest_file *files, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++, to += sizeof(struct manifest_file_image)) {
        struct manifest_file_image image = {
            .number = files[i].number, .total = files[i].total, .live = files[i].live};
        memcpy(to, &image, sizeof image);
    }
}

/* Writes one record and moves `place` behind it. */
static void
record_write(struct place *place, const struct manifest_edit *edit, uint32_t kind, uint32_t flags)
{
    struct manifest_record record;
    struct manifest_places places;
    record_plan(&record, edit, kind, flags, &places);
    pages_write(place->bytes + places.pages, edit->pages, edit->page_count);
    files_write(place->bytes + places.files, edit->files, edit->file_count);
    if (record.catalogue_size != 0)
        memcpy(place->bytes + places.catalogue, edit->catalogue, record.catalogue_size);
    if (record.outcomes_size != 0)
        memcpy(place->bytes + places.outcomes, edit->outcomes, record.outcomes_size);
    if (record.strays_size != 0)
        memcpy(place->bytes + places.strays, edit->strays, record.strays_size);
    uint32_t seed = manifest_seed(place->manifest->database_id, place->number, place->offset);
    record.previous_crc = place->previous_crc;
    record.sequence = ++place->sequence;
    record.payload_crc =
        crc_extend(seed, place->bytes + sizeof record, record.size - sizeof record);
    record.header_crc = manifest_record_crc(seed, &record);
    memcpy(place->bytes, &record, sizeof record);
    place->previous_crc = record.header_crc;
    place->bytes += record.size;
    place->offset += record.size;
}

void
manifest_mark_bytes(const struct manifest *manifest, uint8_t bytes[MANIFEST_MARK_SIZE])
{
    static_assert((int)MANIFEST_MARK_SIZE == (int)MANIFEST_MARK_AREA, "the area is written whole");
    uint64_t offset = manifest->size + MANIFEST_MARK_AT;
    struct manifest_mark mark = {.magic = MANIFEST_MARK_MAGIC,
                                 .sequence = manifest->sequence,
                                 .record_crc = manifest->chain};
    mark.crc =
        manifest_mark_crc(manifest_seed(manifest->database_id, manifest->number, offset), &mark);
    memset(bytes, 0, MANIFEST_MARK_AREA);
    memcpy(bytes + MANIFEST_MARK_AT, &mark, sizeof mark);
}

void *
manifest_edit_bytes(const struct manifest *manifest, const struct manifest_edit *edit,
                    uint64_t *size)
{
    uint64_t needed = MANIFEST_MARK_AREA + record_size(edit);
    uint8_t *bytes = calloc(1, needed);
    if (bytes == NULL)
        return NULL;
    struct place place = {.bytes = bytes + MANIFEST_MARK_AREA,
                          .manifest = manifest,
                          .number = manifest->number,
                          .offset = manifest->size + MANIFEST_MARK_AREA,
                          .sequence = manifest->sequence,
                          .previous_crc = manifest->chain};
    manifest_mark_bytes(manifest, bytes);
    record_write(&place, edit, MANIFEST_EDIT, 0);
    *size = needed;
    return bytes;
}

/* --- snapshots --- */

/* The pages from `*next` on that go into one part; the last part has everything else. */
static struct manifest_edit
part_take(const struct manifest_edit *edit, uint64_t *next, bool *more)
{
    struct manifest_edit part = *edit;
    uint64_t left = edit->page_count - *next;
    *more = left > MANIFEST_PART_PAGES;
    part.pages = left != 0 ? edit->pages + *next : NULL;
    part.page_count = *more ? MANIFEST_PART_PAGES : left;
    *next += part.page_count;
    if (*more) {
        part.file_count = 0;
        part.catalogue = part.outcomes = part.strays = NULL;
    }
    return part;
}

static uint64_t
snapshot_size(const struct manifest_edit *edit)
{
    uint64_t size = MANIFEST_RECORDS_AT, next = 0;
    bool more = true;
    while (more) {
        struct manifest_edit part = part_take(edit, &next, &more);
        size += record_size(&part);
    }
    return size;
}

void *
manifest_snapshot_bytes(const struct manifest *manifest, const struct manifest_edit *edit,
                        uint64_t *size)
{
    uint64_t needed = snapshot_size(edit), next = 0;
    bool more = true;
    uint8_t *bytes = calloc(1, needed);
    if (bytes == NULL)
        return NULL;
    struct manifest_header header = {
        .magic = MANIFEST_MAGIC, .version = MANIFEST_VERSION, .number = manifest->number + 1};
    memcpy(header.database_id, manifest->database_id, sizeof header.database_id);
    header.crc = manifest_header_crc(&header);
    memcpy(bytes, &header, sizeof header);
    struct place place = {.bytes = bytes + MANIFEST_RECORDS_AT,
                          .manifest = manifest,
                          .number = header.number,
                          .offset = MANIFEST_RECORDS_AT,
                          .sequence = manifest->sequence,
                          .previous_crc = header.crc};
    while (more) {
        struct manifest_edit part = part_take(edit, &next, &more);
        record_write(&place, &part, MANIFEST_SNAPSHOT, more ? MANIFEST_MORE : 0);
    }
    *size = needed;
    return bytes;
}

/* --- what counts from now on --- */

static void
manifest_adopt(struct manifest *manifest, const struct manifest_edit *edit, const uint8_t *bytes,
               uint64_t first, uint64_t size)
{
    struct manifest_record record;
    for (uint64_t at = first; at < size; at += record.size)
        memcpy(&record, bytes + at, sizeof record);
    manifest->sequence = record.sequence;
    manifest->chain = record.header_crc;
    manifest->incarnation = edit->incarnation;
    manifest->first_segment = edit->first_segment;
    manifest->cut = edit->cut;
    manifest->unproven = 0;
    manifest->settled = true;
}

void
manifest_appended(struct manifest *manifest, const struct manifest_edit *edit, const void *bytes,
                  uint64_t size)
{
    manifest_adopt(manifest, edit, bytes, MANIFEST_MARK_AREA, size);
    manifest->size += size;
}

void
manifest_switched(struct manifest *manifest, const struct manifest_edit *edit, const void *bytes,
                  uint64_t size)
{
    manifest_adopt(manifest, edit, bytes, MANIFEST_RECORDS_AT, size);
    manifest->number++;
    manifest->size = manifest->snapshot_size = size;
}
