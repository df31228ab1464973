/* check_files.c - what no live record covers; how much of each file is live; files that nobody names. */
#include <stdlib.h>
#include <string.h>

#include "check_database.h"
#include "data.h"
#include "manifest.h"
#include "mshm/status.h"

/* --- the map of a file --- */

bool
check_file_mark(struct check_file *file, uint64_t offset, uint32_t size, int *status)
{
    bool fresh = true;
    uint64_t units = file->total / DATA_UNIT + 1;
    *status = MSHM_OK;
    if (file->pieces == NULL) {
        file->piece_count = (uint32_t)((units + CHECK_PIECE_UNITS - 1) / CHECK_PIECE_UNITS);
        file->pieces = calloc(file->piece_count, sizeof(uint8_t *));
    }
    if (file->pieces == NULL) {
        file->piece_count = 0;
        *status = MSHM_NO_MEMORY;
        return true;
    }
    for (uint64_t unit = offset / DATA_UNIT; unit < (offset + size) / DATA_UNIT; unit++) {
        uint8_t **piece = &file->pieces[unit / CHECK_PIECE_UNITS];
        uint64_t bit = unit % CHECK_PIECE_UNITS;
        if (*piece == NULL && (*piece = calloc(1, CHECK_PIECE_UNITS / 8)) == NULL) {
            *status = MSHM_NO_MEMORY;
            return true;
        }
        fresh = fresh && ((*piece)[bit / 8] & 1u << bit % 8) == 0;
        (*piece)[bit / 8] |= (uint8_t)(1u << bit % 8);
    }
    return fresh;
}

static bool
unit_live(const struct check_file *file, uint64_t unit)
{
    if (file->pieces == NULL)
        return false;
    const uint8_t *piece = file->pieces[unit / CHECK_PIECE_UNITS];
    uint64_t bit = unit % CHECK_PIECE_UNITS;
    return piece != NULL && (piece[bit / 8] & 1u << bit % 8) != 0;
}

/* --- the rest of a file --- */

uint32_t
check_record_at(struct check_reader *reader, struct check_file *file, const uint8_t database_id[16],
                uint64_t offset, struct page_record *record)
{
    const uint8_t *bytes;
    struct page_place place = {.file = file->number, .offset = offset};
    memcpy(place.database_id, database_id, sizeof place.database_id);
    if (file->total - offset < sizeof *record ||
        check_read(reader, file, offset, sizeof *record, &bytes) != MSHM_OK)
        return 0;
    memcpy(record, bytes, sizeof *record);
    if (record->magic != PAGE_RECORD_MAGIC || record->size < sizeof *record ||
        record->size % DATA_UNIT != 0 || record->size > CHECK_READ_MAX ||
        record->size > file->total - offset ||
        check_read(reader, file, offset, record->size, &bytes) != MSHM_OK)
        return 0;
    return page_record_crc(&place, bytes, record->size) == record->crc ? record->size : 0;
}

/* Dead records may be anything: they are only counted. */
static void
file_walk(struct check *check, struct check_file *file)
{
    struct page_record record;
    uint64_t offset = DATA_RECORDS_AT, end = file->size < file->total ? file->size : file->total;
    while (offset < end) {
        if (unit_live(file, offset / DATA_UNIT)) {
            offset += DATA_UNIT;
            continue;
        }
        uint32_t size =
            check_record_at(check->reader, file, check->manifest.database_id, offset, &record);
        check->figures.records_dead += size != 0;
        check->figures.bytes_unknown += size == 0 ? DATA_UNIT : 0;
        check->figures.bytes_dead += size == 0 ? DATA_UNIT : size;
        offset += size == 0 ? DATA_UNIT : size;
    }
}

/* A page whose newest record is lost takes the addresses of its older ones with it: then less is counted than there is. */
static void
live_check(struct check *check, const struct check_file *file)
{
    char name[DATA_NAME_SIZE];
    data_name(name, file->number);
    if (file->counted == file->live || (file->counted < file->live && check->figures.pages_bad > 0))
        return;
    report_damagef(check->report, (struct finding){.file = name},
                   "the manifest says that %llu bytes are live, its pages take %llu",
                   (unsigned long long)file->live, (unsigned long long)file->counted);
}

/* --- files that nobody names --- */

static int
data_entry(const char *entry, void *argument)
{
    struct check *check = argument;
    uint32_t number;
    if (!data_name_parse(entry, &number) || check_file_find(check, number) == NULL)
        check->figures.leftover_files++;
    return 0;
}

static int
top_entry(const char *entry, void *argument)
{
    struct check *check = argument;
    char name[MANIFEST_NAME_SIZE];
    manifest_name(name, check->manifest.number);
    if ((strncmp(entry, "MANIFEST-", 9) == 0 && strcmp(entry, name) != 0) ||
        strcmp(entry, "CURRENT.tmp") == 0)
        check->figures.leftover_files++;
    return 0;
}

int
check_files(struct check *check)
{
    for (uint32_t i = 0; i < check->file_count; i++) {
        struct check_file *file = &check->files[i];
        live_check(check, file);
        if (file->usable)
            file_walk(check, file);
    }
    check->env.directory_list(check->env.context, "data", data_entry, check);
    check->env.directory_list(check->env.context, "", top_entry, check);
    return MSHM_OK;
}
