/* salvage_log.c - the log as far as its records continue one another, also where wal_read refuses it: a segment that is
 * missing or damaged ends the walk, and nothing else. */
#include <stdlib.h>
#include <string.h>

#include "mshm/ops.h"
#include "mshm/status.h"
#include "salvage.h"
#include "wal_lineage.h"
#include "wal_segment.h"

struct walk {
    struct check *check;
    struct wal_found *found; /* segments with a valid header of this database, by number */
    uint32_t count, capacity;
    const uint8_t *id; /* NULL: not known yet */
    uint8_t id_bytes[16];
    int status;

    wal_each *each;
    void *argument;
    uint8_t *bytes; /* the segment at hand */
    uint64_t bytes_capacity, have;
    struct wal_position at;
    uint64_t timestamp;
    uint32_t chain;
};

static int
entry_add(const char *entry, void *argument)
{
    struct walk *walk = argument;
    uint64_t number;
    if (!wal_segment_parse(entry, &number))
        return 0;
    if (walk->count == walk->capacity) {
        uint32_t capacity = walk->capacity != 0 ? walk->capacity * 2 : 64;
        struct wal_found *grown = realloc(walk->found, capacity * sizeof *grown);
        if (grown == NULL)
            return MSHM_NO_MEMORY;
        walk->found = grown;
        walk->capacity = capacity;
    }
    walk->found[walk->count++] = (struct wal_found){.number = number};
    return 0;
}

static int
number_order(const void *left, const void *right)
{
    const struct wal_found *a = left, *b = right;
    return a->number < b->number ? -1 : a->number > b->number;
}

static bool
header_load(struct walk *walk, struct wal_found *found)
{
    const struct env *env = &walk->check->env;
    struct env_file *file;
    char name[WAL_NAME_SIZE];
    wal_segment_name(name, found->number, "log");
    if (env->file_open(env->context, name, ENV_OPEN_EXISTING, &file) != 0)
        return false;
    int64_t size = env->file_size(env->context, file);
    int64_t result = env->file_read(env->context, file, 0, &found->header, sizeof found->header);
    env->file_close(env->context, file);
    if (size < 0 || result != sizeof found->header || wal_header_check(&found->header) != MSHM_OK ||
        found->header.segment != found->number)
        return false;
    if (walk->id == NULL) {
        memcpy(walk->id_bytes, found->header.database_id, sizeof walk->id_bytes);
        walk->id = walk->id_bytes;
    }
    found->file_size = (uint64_t)size;
    found->state = WAL_SEGMENT_VALID;
    return memcmp(walk->id, found->header.database_id, sizeof walk->id_bytes) == 0;
}

static int
segments_find(struct walk *walk)
{
    uint32_t kept = 0;
    int result = walk->check->env.directory_list(walk->check->env.context, "wal", entry_add, walk);
    if (result == MSHM_NO_MEMORY)
        return result;
    if (walk->count > 1)
        qsort(walk->found, walk->count, sizeof *walk->found, number_order);
    for (uint32_t i = 0; i < walk->count; i++)
        if (header_load(walk, &walk->found[i]))
            walk->found[kept++] = walk->found[i];
    walk->count = kept;
    return MSHM_OK;
}

/* The newest segment that says that it continues this one: what stands behind that is dead. */
static const struct wal_found *
successor(const struct walk *walk, uint64_t number)
{
    for (uint32_t i = walk->count; i-- > 0;)
        if (walk->found[i].header.continues_segment == number)
            return &walk->found[i];
    return NULL;
}

static const struct wal_found *
segment_find(const struct walk *walk, uint64_t number)
{
    for (uint32_t i = 0; i < walk->count; i++)
        if (walk->found[i].number == number)
            return &walk->found[i];
    return NULL;
}

static bool
continues(const struct walk *walk, const struct wal_found *found)
{
    const struct wal_segment_header *header = &found->header;
    return header->continues_timestamp == walk->timestamp && header->continues_crc == walk->chain &&
           header->continues_segment == walk->at.segment &&
           header->continues_offset == walk->at.offset;
}

/* Bytes of the operations, or UINT64_MAX: they do not fit their record. */
static uint64_t
ops_size(const struct wal_record *record)
{
    uint64_t available = record->size - sizeof *record, at = 0;
    const uint8_t *ops = (const uint8_t *)(record + 1);
    for (uint32_t i = 0; i < (record->op_count_flags & WAL_OP_COUNT_MASK); i++) {
        if (available - at < sizeof(struct mshm_op))
            return UINT64_MAX;
        const struct mshm_op *op = (const void *)(ops + at);
        uint64_t size = mshm_op_size(op->key_size, op->value_size);
        if (size > available - at)
            return UINT64_MAX;
        at += size;
    }
    return at;
}

/* The record at walk->at: taken, or false. */
static bool
record_take(struct walk *walk, const struct wal_found *found, uint64_t limit)
{
    const struct wal_record *record = (const void *)(walk->bytes + walk->at.offset);
    uint32_t size =
        wal_record_check(&found->header, walk->at.offset, record, limit - walk->at.offset);
    if (size == 0)
        return false;
    bool mark = (record->op_count_flags & WAL_FLAG_MARK) != 0;
    uint32_t count = record->op_count_flags & WAL_OP_COUNT_MASK;
    uint64_t length = ops_size(record);
    if (record->previous_crc != walk->chain || length == UINT64_MAX ||
        record->timestamp != walk->timestamp + (mark ? 0 : 1) ||
        (!mark && mshm_ops_validate(record + 1, length, count, MSHM_OPS_LOG) != MSHM_OK))
        return false;
    walk->at.offset += size;
    walk->timestamp = record->timestamp;
    walk->chain = record->crc;
    if (!mark)
        walk->status =
            walk->each(walk->argument, &found->header, record, record + 1, length, walk->at);
    return walk->status == MSHM_OK;
}

/* All records of a segment from walk->at on, and the next one that continues what was taken. */
static const struct wal_found *
segment_walk(struct walk *walk, const struct wal_found *found)
{
    const struct wal_found *next = successor(walk, found->number);
    walk->status = wal_segment_load(&walk->check->env, found, &walk->bytes, &walk->bytes_capacity,
                                    &walk->have);
    if (walk->status == MSHM_IO)
        walk->status = MSHM_OK, walk->have = 0;
    uint64_t limit = walk->have;
    if (next != NULL && next->header.continues_offset < limit)
        limit = next->header.continues_offset;
    while (walk->status == MSHM_OK && walk->at.offset < limit)
        if (!record_take(walk, found, limit))
            break;
    return walk->status == MSHM_OK && next != NULL && continues(walk, next) ? next : NULL;
}

static void
walk_from(struct walk *walk, const struct wal_found *found)
{
    while (found != NULL) {
        if (walk->at.segment != found->number)
            walk->at = (struct wal_position){found->number, WAL_RECORDS_AT};
        found = segment_walk(walk, found);
    }
}

/* Where the log goes on behind a cut: in its own segment, or with the first that continues it. */
static const struct wal_found *
cut_find(struct walk *walk, const struct wal_from *from)
{
    walk->at = from->position;
    walk->timestamp = from->timestamp;
    walk->chain = from->chain;
    const struct wal_found *found = segment_find(walk, from->position.segment);
    if (found != NULL)
        return found;
    found = successor(walk, from->position.segment);
    return found != NULL && continues(walk, found) ? found : NULL;
}

/* The oldest segment from which a way leads to the newest one. */
static const struct wal_found *
oldest_find(struct walk *walk)
{
    const struct wal_found *found = walk->count > 0 ? &walk->found[walk->count - 1] : NULL;
    for (const struct wal_found *before = found; before != NULL;) {
        found = before;
        before = found->header.continues_segment < found->number
                     ? segment_find(walk, found->header.continues_segment)
                     : NULL;
    }
    if (found != NULL) {
        walk->timestamp = found->header.continues_timestamp;
        walk->chain = found->header.continues_crc;
        walk->at = (struct wal_position){found->number, WAL_RECORDS_AT};
    }
    return found;
}

/* --- what stands behind the last record taken --- */

/* A record of this segment with a newer commit, at or behind `at`. */
static bool
newer_in(struct walk *walk, const struct wal_found *found, uint64_t at)
{
    if (wal_segment_load(&walk->check->env, found, &walk->bytes, &walk->bytes_capacity,
                         &walk->have) != MSHM_OK)
        return false;
    for (; at + sizeof(struct wal_record) <= walk->have; at += WAL_ALIGNMENT) {
        const struct wal_record *record = (const void *)(walk->bytes + at);
        if (wal_record_check(&found->header, at, record, walk->have - at) != 0 &&
            record->timestamp > walk->timestamp)
            return true;
    }
    return false;
}

/* Commits that were written and cannot be taken, because something before them is missing. */
static bool
newer_there(struct walk *walk, uint64_t cut_segment)
{
    for (uint32_t i = 0; i < walk->count; i++) {
        const struct wal_found *found = &walk->found[i];
        if (found->number < cut_segment || found->number < walk->at.segment)
            continue;
        if (found->header.continues_timestamp > walk->timestamp ||
            newer_in(walk, found,
                     found->number == walk->at.segment ? walk->at.offset : WAL_RECORDS_AT))
            return true;
    }
    return false;
}

int
salvage_log(struct check *check, const uint8_t *id, const struct wal_from *from, wal_each *each,
            void *argument, uint64_t *last, bool *more)
{
    struct walk walk = {.check = check, .id = id, .each = each, .argument = argument};
    walk.status = segments_find(&walk);
    if (walk.status == MSHM_OK)
        walk_from(&walk, from->timestamp != 0 ? cut_find(&walk, from) : oldest_find(&walk));
    *last = walk.timestamp;
    *more = walk.status == MSHM_OK && newer_there(&walk, from->position.segment);
    free(walk.found);
    free(walk.bytes);
    return walk.status;
}
