#include "wal_segment.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "crc.h"
#include "kill_point.h"
#include "mshm/status.h"

void
wal_segment_name(char name[WAL_NAME_SIZE], uint64_t number, const char *ending)
{
    snprintf(name, WAL_NAME_SIZE, "wal/%016" PRIx64 ".%s", number, ending);
}

bool
wal_segment_parse(const char *entry, uint64_t *number)
{
    uint64_t value = 0;
    for (int i = 0; i < 16; i++) {
        char c = entry[i];
        unsigned digit;
        if (c >= '0' && c <= '9')
            digit = (unsigned)(c - '0');
        else if (c >= 'a' && c <= 'f')
            digit = (unsigned)(c - 'a') + 10;
        else
            return false;
        value = value << 4 | digit;
    }
    if (strcmp(entry + 16, ".log") != 0 || value == 0 || value > UINT32_MAX)
        return false;
    *number = value;
    return true;
}

/* Overwriting written blocks syncs faster than first writes into preallocated ones, and a mapping of written blocks
 * cannot meet a full disk: so every block is written once, here. The kernel keeps in one piece what came in one call, and
 * ext4 walks all blocks of a piece for each small write into it: with 1 MiB such a write takes 4.2 us, with 64 KiB 2.3,
 * and the first store to a page of the mapping 0.2 us or 0.4. */
static int
write_zeros(const struct env *env, struct env_file *file, uint64_t size)
{
    enum { PIECE = 64 << 10 };
    uint8_t *zeros = calloc(1, PIECE);
    int result = zeros != NULL ? 0 : -ENOMEM;
    for (uint64_t at = 0; result == 0 && at < size; at += PIECE) {
        size_t piece = size - at < PIECE ? (size_t)(size - at) : PIECE;
        result = env->file_write(env->context, file, at, zeros, piece);
    }
    free(zeros);
    return result;
}

/* A file of this name can only be left from an attempt that failed or died. */
static int
open_fresh(const struct env *env, const char *name, struct env_file **file)
{
    int result = env->file_open(env->context, name, ENV_OPEN_CREATE | ENV_OPEN_WRITE, file);
    if (result != -EEXIST)
        return result;
    result = env->file_remove(env->context, name);
    if (result != 0)
        return result;
    return env->file_open(env->context, name, ENV_OPEN_CREATE | ENV_OPEN_WRITE, file);
}

struct wal_segment
wal_segment_ready(const struct env *env, uint64_t number, struct env_file *file, uint64_t size,
                  bool map)
{
    void *mapping = NULL;
    if (map && env->file_map(env->context, file, size, &mapping) != 0)
        mapping = NULL; /* then level OS goes by write calls */
    return (struct wal_segment){
        .number = number, .file = file, .mapping = (uint8_t *)mapping, .size = size};
}

int
wal_segment_prepare(const struct env *env, struct wal_segment *segment, uint64_t number,
                    uint64_t size, bool map)
{
    char made[WAL_NAME_SIZE], name[WAL_NAME_SIZE];
    struct env_file *file = NULL;
    wal_segment_name(made, number, "tmp");
    wal_segment_name(name, number, "log");
    const char *remove = made;
    int result = open_fresh(env, made, &file);
    if (result != 0)
        return result;
    if ((result = env->file_preallocate(env->context, file, size)) != 0 ||
        (result = write_zeros(env, file, size)) != 0 ||
        (result = env->file_sync(env->context, file)) != 0 ||
        (result = env->file_rename(env->context, made, name)) != 0)
        goto fail;
    remove = name;
    MACE_KILL_POINT("wal:segment_named");
    if ((result = env->directory_sync(env->context, "wal")) != 0)
        goto fail;
    *segment = wal_segment_ready(env, number, file, size, map);
    MACE_KILL_POINT("wal:segment_prepared");
    return 0;
fail:
    env->file_close(env->context, file);
    (void)env->file_remove(env->context, remove);
    return result;
}

void
wal_segment_close(const struct env *env, struct wal_segment *segment)
{
    if (segment->mapping != NULL)
        env->file_unmap(env->context, segment->mapping, segment->size);
    if (segment->file != NULL)
        env->file_close(env->context, segment->file);
    *segment = (struct wal_segment){0};
}

static uint32_t
header_crc(const struct wal_segment_header *header)
{
    struct wal_segment_header copy = *header;
    copy.crc = 0;
    return crc_extend(0, &copy, sizeof copy);
}

void
wal_header_seal(struct wal_segment_header *header)
{
    header->magic = WAL_SEGMENT_MAGIC;
    header->version = WAL_VERSION;
    header->crc = header_crc(header);
}

int
wal_header_check(const struct wal_segment_header *header)
{
    if (header->magic != WAL_SEGMENT_MAGIC || header->crc != header_crc(header))
        return MSHM_CORRUPT;
    if (header->version != WAL_VERSION)
        return MSHM_VERSION;
    bool sane = header->segment != 0 && header->segment_size > WAL_RECORDS_AT &&
                header->segment_size <= UINT32_MAX && header->continues_segment < header->segment &&
                header->continues_offset % WAL_ALIGNMENT == 0;
    return sane ? MSHM_OK : MSHM_CORRUPT;
}

uint32_t
wal_record_seed(const struct wal_segment_header *header, uint64_t offset)
{
    uint64_t words[4] = {header->salt, header->segment, header->incarnation, offset};
    return crc_extend(0, words, sizeof words);
}

uint32_t
wal_record_crc(const struct wal_segment_header *header, uint64_t offset,
               const struct wal_record *record)
{
    const size_t from = offsetof(struct wal_record, previous_crc);
    return crc_extend(wal_record_seed(header, offset), (const uint8_t *)record + from,
                      record->size - from);
}
