/* manifest_load.c - a manifest read. All of it is disk bytes: every number is checked before it is used, and only
 * what was checked in memory is used.
 *
 *   header -> parts of the snapshot -> mark area, edit -> mark area, edit -> ... -> first thing that is no edit
 *     -> search of all that follows for a proof that the thing was one once -> what it adds up to
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "crc.h"
#include "env_status.h"
#include "manifest_parts.h"
#include "mshm/status.h"

enum { SEARCH_BYTES = 65536 };

struct loading {
    const struct env *env;
    struct env_file *file;
    char name[MANIFEST_NAME_SIZE];
    uint64_t file_size;
    struct manifest found;
    uint64_t newest_offset; /* of the newest record */
    uint8_t *buffer;        /* the record being looked at */
    uint64_t capacity;
    struct manifest_state *state;
    char *why;
    size_t why_size;
};

static int
refuse(struct loading *loading, int status, uint64_t offset, const char *what)
{
    if (loading->why != NULL)
        snprintf(loading->why, loading->why_size, "%s: %s at offset %" PRIu64, loading->name, what,
                 offset);
    return status;
}

static int
refuse_error(struct loading *loading, int64_t result)
{
    if (loading->why != NULL)
        snprintf(loading->why, loading->why_size, "%s: %s", loading->name, strerror((int)-result));
    return env_status(result);
}

/* Fewer bytes than asked for are damage: the file's size said that they are there. */
static int
read_exactly(struct loading *loading, uint64_t offset, void *to, uint64_t size)
{
    int64_t result =
        loading->env->file_read(loading->env->context, loading->file, offset, to, size);
    if (result < 0)
        return refuse_error(loading, result);
    return (uint64_t)result == size ? MSHM_OK : refuse(loading, MSHM_CORRUPT, offset, "cut off");
}

/* --- header --- */

static int
header_load(struct loading *loading, uint64_t number, bool checked_name)
{
    struct manifest_header header;
    if (loading->file_size < sizeof header)
        return refuse(loading, MSHM_CORRUPT, loading->file_size, "cut off");
    int status = read_exactly(loading, 0, &header, sizeof header);
    if (status != MSHM_OK)
        return status;
    if (header.magic != MANIFEST_MAGIC || header.crc != manifest_header_crc(&header))
        return refuse(loading, MSHM_CORRUPT, 0, "damaged header");
    if (header.version > MANIFEST_VERSION)
        return refuse(loading, MSHM_VERSION, 8, "written in a newer format than this program's");
    if (header.version < MANIFEST_VERSION)
        return refuse(loading, MSHM_VERSION, 8,
                      "written in an older format, which this program does not read");
    if (header.number != number || !checked_name)
        return refuse(loading, MSHM_CORRUPT, 16, "CURRENT does not mean this manifest");
    memcpy(loading->found.database_id, header.database_id, sizeof header.database_id);
    loading->found.number = number;
    loading->found.chain = header.crc;
    loading->found.size = MANIFEST_RECORDS_AT;
    return MSHM_OK;
}

/* --- records --- */

static bool
record_header_valid(const struct loading *loading, const struct manifest_record *record,
                    uint64_t offset)
{
    if (record->magic != MANIFEST_RECORD_MAGIC)
        return false;
    uint32_t seed = manifest_seed(loading->found.database_id, loading->found.number, offset);
    return record->header_crc == manifest_record_crc(seed, record) &&
           record->size >= sizeof *record && record->size % MANIFEST_SECTOR == 0;
}

static int
buffer_reserve(struct loading *loading, uint64_t size)
{
    if (size <= loading->capacity)
        return MSHM_OK;
    free(loading->buffer);
    loading->capacity = 0;
    loading->buffer = malloc(size);
    if (loading->buffer == NULL)
        return refuse(loading, MSHM_NO_MEMORY, 0, "out of memory");
    loading->capacity = size;
    return MSHM_OK;
}

/* Reads the record at `offset` into the buffer, its header into *record; *valid when its checksums are right. */
static int
record_load(struct loading *loading, uint64_t offset, struct manifest_record *record, bool *valid)
{
    uint64_t size = loading->file_size;
    *valid = false;
    if (size < offset || size - offset < sizeof *record)
        return MSHM_OK;
    int status = read_exactly(loading, offset, record, sizeof *record);
    if (status != MSHM_OK || !record_header_valid(loading, record, offset) ||
        record->size > size - offset)
        return status;
    if ((status = buffer_reserve(loading, record->size)) != MSHM_OK ||
        (status = read_exactly(loading, offset, loading->buffer, record->size)) != MSHM_OK)
        return status;
    uint32_t seed = manifest_seed(loading->found.database_id, loading->found.number, offset);
    *valid = memcmp(loading->buffer, record, sizeof *record) == 0 &&
             record->payload_crc ==
                 crc_extend(seed, loading->buffer + sizeof *record, record->size - sizeof *record);
    return MSHM_OK;
}

static int
record_take(struct loading *loading, uint64_t offset, const struct manifest_record *record)
{
    struct manifest *found = &loading->found;
    const char *what = "";
    int status = manifest_state_apply(loading->state, record, loading->buffer, &what);
    if (status == MSHM_NO_MEMORY)
        what = "out of memory";
    if (status != MSHM_OK)
        return refuse(loading, status, offset, what);
    loading->newest_offset = offset;
    found->size = offset + record->size;
    found->sequence = record->sequence;
    found->chain = record->header_crc;
    found->incarnation = record->incarnation;
    found->first_segment = record->first_segment;
    found->cut = (struct manifest_cut){.timestamp = record->cut_timestamp,
                                       .chain = record->cut_chain,
                                       .position = {record->cut_segment, record->cut_offset}};
    return MSHM_OK;
}

/* CURRENT names a manifest only after all of its snapshot is durable. */
static int
snapshot_load(struct loading *loading)
{
    struct manifest_record record;
    struct manifest *found = &loading->found;
    bool valid, first = true;
    do {
        uint64_t offset = found->size;
        int status = record_load(loading, offset, &record, &valid);
        if (status != MSHM_OK)
            return status;
        if (!valid || record.kind != MANIFEST_SNAPSHOT || record.previous_crc != found->chain ||
            (!first && record.sequence != found->sequence + 1))
            return refuse(loading, MSHM_CORRUPT, offset, "damaged snapshot");
        if ((status = record_take(loading, offset, &record)) != MSHM_OK)
            return status;
        first = false;
    } while ((record.flags & MANIFEST_MORE) != 0);
    found->snapshot_size = found->size;
    return MSHM_OK;
}

/* The next edit, if there is one: *taken. */
static int
edit_load(struct loading *loading, bool *taken)
{
    struct manifest_record record;
    const struct manifest *found = &loading->found;
    uint64_t offset = found->size + MANIFEST_MARK_AREA;
    int status = record_load(loading, offset, &record, taken);
    if (status != MSHM_OK || !*taken)
        return status;
    *taken = record.kind == MANIFEST_EDIT && record.previous_crc == found->chain &&
             record.sequence == found->sequence + 1;
    return *taken ? record_take(loading, offset, &record) : MSHM_OK;
}

/* --- what stands behind the newest record --- */

static bool
mark_valid(const struct loading *loading, const struct manifest_mark *mark, uint64_t offset)
{
    return mark->magic == MANIFEST_MARK_MAGIC &&
           mark->crc ==
               manifest_mark_crc(
                   manifest_seed(loading->found.database_id, loading->found.number, offset), mark);
}

/* A sector that proves that the record after the newest one was synced: a mark of it or of a later one, or the header
 * of a record that was begun after it. */
static bool
sector_proves(const struct loading *loading, const uint8_t *sector, uint64_t offset)
{
    struct manifest_record record;
    struct manifest_mark mark;
    uint64_t newest = loading->found.sequence;
    memcpy(&record, sector, sizeof record);
    if (record.sequence > newest + 1 && record_header_valid(loading, &record, offset))
        return true;
    memcpy(&mark, sector + MANIFEST_SECTOR - sizeof mark, sizeof mark);
    return mark.sequence > newest &&
           mark_valid(loading, &mark, offset + MANIFEST_SECTOR - sizeof mark);
}

static int
proof_search(struct loading *loading, bool *proof)
{
    int status = MSHM_OK;
    uint64_t size = loading->file_size;
    *proof = false;
    if ((status = buffer_reserve(loading, SEARCH_BYTES)) != MSHM_OK)
        return status;
    for (uint64_t at = loading->found.size; at < size && !*proof; at += SEARCH_BYTES) {
        uint64_t piece = size - at < SEARCH_BYTES ? size - at : SEARCH_BYTES;
        memset(loading->buffer, 0, SEARCH_BYTES);
        if ((status = read_exactly(loading, at, loading->buffer, piece)) != MSHM_OK)
            return status;
        for (uint64_t k = 0; k < piece && !*proof; k += MANIFEST_SECTOR)
            *proof = sector_proves(loading, loading->buffer + k, at + k);
    }
    return MSHM_OK;
}

/* Whether the newest record's own mark is there. */
static int
mark_look(struct loading *loading, bool *there)
{
    struct manifest_mark mark;
    const struct manifest *found = &loading->found;
    uint64_t offset = found->size + MANIFEST_MARK_AT;
    *there = false;
    if (loading->file_size < offset + sizeof mark)
        return MSHM_OK;
    int status = read_exactly(loading, offset, &mark, sizeof mark);
    if (status == MSHM_OK)
        *there = mark_valid(loading, &mark, offset) && mark.sequence == found->sequence &&
                 mark.record_crc == found->chain;
    return status;
}

static int
end_decide(struct loading *loading)
{
    struct manifest *found = &loading->found;
    bool there, proof;
    int status = mark_look(loading, &there);
    if (status != MSHM_OK || (status = proof_search(loading, &proof)) != MSHM_OK)
        return status;
    if (proof)
        return refuse(loading, MSHM_CORRUPT, found->size + MANIFEST_MARK_AREA,
                      "damaged record, and it counted");
    if (!there && found->size != found->snapshot_size)
        found->unproven = loading->newest_offset;
    return MSHM_OK;
}

static int
records_load(struct loading *loading)
{
    bool taken = true;
    int status = snapshot_load(loading);
    while (status == MSHM_OK && taken)
        status = edit_load(loading, &taken);
    return status != MSHM_OK ? status : end_decide(loading);
}

/* checked_name: CURRENT was one of this format. */
static int
number_load(struct loading *loading, uint64_t number, bool checked_name)
{
    const struct env *env = loading->env;
    manifest_name(loading->name, number);
    int64_t result = env->file_open(env->context, loading->name, ENV_OPEN_EXISTING, &loading->file);
    if (result == -ENOENT)
        return refuse(loading, MSHM_CORRUPT, 0, "missing, and CURRENT names it: nothing is there");
    if (result < 0)
        return refuse_error(loading, result);
    result = env->file_size(env->context, loading->file);
    int status = result < 0 ? refuse_error(loading, result) : MSHM_OK;
    loading->file_size = result < 0 ? 0 : (uint64_t)result;
    if (status == MSHM_OK)
        status = header_load(loading, number, checked_name);
    loading->state = status == MSHM_OK ? manifest_state_create() : NULL;
    if (status == MSHM_OK && loading->state == NULL)
        status = refuse(loading, MSHM_NO_MEMORY, 0, "out of memory");
    if (status == MSHM_OK)
        status = records_load(loading);
    free(loading->buffer);
    env->file_close(env->context, loading->file);
    return status;
}

int
manifest_number_load(const struct env *env, uint64_t number, bool checked_name,
                     struct manifest *manifest, const struct manifest_visitor *visitor, char *why,
                     size_t why_size)
{
    struct loading loading = {.env = env, .why = why, .why_size = why_size};
    int status = number_load(&loading, number, checked_name);
    if (status == MSHM_OK && visitor != NULL)
        status = manifest_state_visit(loading.state, visitor);
    if (status == MSHM_OK && manifest != NULL)
        *manifest = loading.found;
    manifest_state_destroy(loading.state);
    return status;
}

int
manifest_load(const struct env *env, struct manifest *manifest,
              const struct manifest_visitor *visitor, char *why, size_t why_size)
{
    uint64_t number;
    bool checked;
    int status = manifest_current_load(env, &number, &checked, why, why_size);
    if (status != MSHM_OK)
        return status;
    return manifest_number_load(env, number, checked, manifest, visitor, why, why_size);
}
