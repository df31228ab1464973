#include "wal_lineage.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "env_status.h"
#include "wal_segment.h"
#include "wal_window.h"

struct scan {
    const struct env *env;
    const uint8_t *database_id;
    const struct wal_from *from; /* NULL: no cut */
    struct wal_lineage *lineage;
    char *why;
    size_t why_size;
};

static int
refuse(const struct scan *scan, int status, uint64_t number, const char *what)
{
    char name[WAL_NAME_SIZE];
    wal_segment_name(name, number, "log");
    if (scan->why != NULL)
        snprintf(scan->why, scan->why_size, "%s: %s", name, what);
    return status;
}

/* The first number that is looked at. */
static uint64_t
needed_from(const struct scan *scan)
{
    return scan->from != NULL ? scan->from->position.segment : 0;
}

static int
add_entry(const char *entry, void *argument)
{
    struct wal_lineage *lineage = argument;
    uint64_t number;
    if (!wal_segment_parse(entry, &number))
        return 0;
    if (lineage->found_count == lineage->found_capacity) {
        uint32_t capacity = lineage->found_capacity != 0 ? lineage->found_capacity * 2 : 64;
        struct wal_found *found = realloc(lineage->found, capacity * sizeof *found);
        if (found == NULL)
            return MSHM_NO_MEMORY;
        lineage->found = found;
        lineage->found_capacity = capacity;
    }
    lineage->found[lineage->found_count++] = (struct wal_found){.number = number};
    return 0;
}

static int
compare_found(const void *a, const void *b)
{
    uint64_t left = ((const struct wal_found *)a)->number;
    uint64_t right = ((const struct wal_found *)b)->number;
    return left < right ? -1 : left > right;
}

static bool
all_zero(const void *bytes, size_t size)
{
    const uint8_t *at = bytes;
    return size == 0 || (at[0] == 0 && memcmp(at, at + 1, size - 1) == 0);
}

static int
header_load(const struct scan *scan, struct wal_found *found)
{
    const struct env *env = scan->env;
    struct wal_segment_header header = {0};
    struct env_file *file;
    char name[WAL_NAME_SIZE];
    wal_segment_name(name, found->number, "log");
    int64_t result = env->file_open(env->context, name, ENV_OPEN_EXISTING, &file);
    if (result != 0)
        return refuse(scan, env_status(result), found->number, "cannot be opened");
    int64_t size = env->file_size(env->context, file);
    result = env->file_read(env->context, file, 0, &header, sizeof header);
    env->file_close(env->context, file);
    if (size < 0 || result < 0)
        return refuse(scan, env_status(size < 0 ? size : result), found->number, "cannot be read");
    found->file_size = (uint64_t)size;
    if (all_zero(&header, sizeof header)) {
        found->state = WAL_SEGMENT_EMPTY;
        return MSHM_OK;
    }
    int status = wal_header_check(&header);
    if (status == MSHM_VERSION)
        return refuse(scan, MSHM_VERSION, found->number, "written by another version");
    if (status != MSHM_OK || header.segment != found->number)
        return MSHM_OK; /* a bad one: the lineage decides whether that matters */
    if (memcmp(header.database_id, scan->database_id, 16) != 0)
        return refuse(scan, MSHM_CORRUPT, found->number, "belongs to another database");
    found->state = WAL_SEGMENT_VALID;
    found->header = header;
    return MSHM_OK;
}

static int
load_all(const struct scan *scan)
{
    const struct env *env = scan->env;
    struct wal_lineage *lineage = scan->lineage;
    int result = env->directory_list(env->context, "wal", add_entry, lineage);
    if (result == MSHM_NO_MEMORY)
        return result;
    if (result != 0) {
        if (scan->why != NULL)
            snprintf(scan->why, scan->why_size, "wal: cannot be listed");
        return env_status(result);
    }
    if (lineage->found_count == 0)
        return MSHM_OK;
    qsort(lineage->found, lineage->found_count, sizeof *lineage->found, compare_found);
    for (uint32_t i = 0; i < lineage->found_count; i++) {
        if (lineage->found[i].number < needed_from(scan)) {
            lineage->found[i].state = WAL_SEGMENT_RELEASED;
            continue;
        }
        int status = header_load(scan, &lineage->found[i]);
        if (status != MSHM_OK)
            return status;
        if (lineage->found[i].state == WAL_SEGMENT_VALID &&
            lineage->found[i].header.incarnation > lineage->newest_incarnation)
            lineage->newest_incarnation = lineage->found[i].header.incarnation;
    }
    return MSHM_OK;
}

/* A header that is neither zero nor valid was damaged: it goes to the disk in one sector, whole or not at all. Such a
 * segment holds no acknowledged data for sure only if it holds nothing: without the header nobody can tell its own
 * records from those of the segment that was recycled into it. */
static int
check_damaged(const struct scan *scan, const struct wal_found *found)
{
    struct wal_window window = {0};
    struct wal_found whole = *found;
    whole.header.segment_size = found->file_size;
    int status = wal_window_open(&window, scan->env, &whole);
    uint64_t at = WAL_RECORDS_AT, available = 1;
    while (status == MSHM_OK && at < window.end) {
        const uint8_t *bytes;
        status = wal_window_take(&window, at, 1, &bytes, &available);
        if (status == MSHM_OK && !all_zero(bytes, available))
            status = MSHM_CORRUPT;
        at += available;
    }
    wal_window_fini(&window);
    if (status != MSHM_OK)
        return refuse(scan, status, found->number, "offset 0: damaged header before records");
    return MSHM_OK;
}

/* Behind the newest valid segment (or from the cut's own on) stand only prepared ones, numbered `expected` and on. A zero
 * header there is no damage: the header becomes durable before or with the first record that is acknowledged as
 * durable. */
static int
check_behind(const struct scan *scan, uint32_t index, uint64_t expected)
{
    const struct wal_lineage *lineage = scan->lineage;
    for (uint32_t i = index; i < lineage->found_count; i++, expected++) {
        const struct wal_found *found = &lineage->found[i];
        if (found->number != expected)
            return refuse(scan, MSHM_CORRUPT, expected, "missing, and later segments are there");
        if (found->state == WAL_SEGMENT_BAD) {
            int status = check_damaged(scan, found);
            if (status != MSHM_OK)
                return status;
        }
    }
    return MSHM_OK;
}

static struct wal_found *
find_number(const struct wal_lineage *lineage, uint64_t number)
{
    if (lineage->found_count == 0)
        return NULL;
    struct wal_found key = {.number = number};
    return bsearch(&key, lineage->found, lineage->found_count, sizeof key, compare_found);
}

/* The segment that a valid header continues; NULL with a status when it cannot be what the header says. */
static struct wal_found *
predecessor(const struct scan *scan, const struct wal_found *found, int *status)
{
    const struct wal_segment_header *header = &found->header;
    struct wal_found *before = find_number(scan->lineage, header->continues_segment);
    *status = MSHM_CORRUPT;
    if (before == NULL) {
        refuse(scan, MSHM_CORRUPT, header->continues_segment,
               "missing, and a later segment continues it");
        return NULL;
    }
    if (before->state != WAL_SEGMENT_VALID) {
        refuse(scan, MSHM_CORRUPT, before->number,
               "offset 0: damaged header, and a later segment continues it");
        return NULL;
    }
    bool fits = header->continues_offset >= WAL_RECORDS_AT &&
                header->continues_offset <= before->header.segment_size &&
                (header->first_of_incarnation ? before->header.incarnation < header->incarnation
                                              : before->header.incarnation == header->incarnation &&
                                                    before->number + 1 == found->number);
    if (!fits) {
        refuse(scan, MSHM_CORRUPT, found->number, "its header contradicts the one before");
        return NULL;
    }
    *status = MSHM_OK;
    return before;
}

static bool
position_equal(struct wal_position a, struct wal_position b)
{
    return a.segment == b.segment && a.offset == b.offset;
}

static struct wal_position
header_continues(const struct wal_segment_header *header)
{
    return (struct wal_position){header->continues_segment, header->continues_offset};
}

/* Does the log begin with this segment? MSHM_CORRUPT: it is the cut's or continues it, but tells another story. */
static int
is_first(const struct scan *scan, const struct wal_found *found, bool *first)
{
    const struct wal_segment_header *header = &found->header;
    const struct wal_from *from = scan->from;
    *first = header->continues_segment == 0;
    if (from == NULL)
        return *first && (header->continues_timestamp != 0 || header->continues_crc != 0)
                   ? refuse(scan, MSHM_CORRUPT, found->number,
                            "starts the log, but not at its start")
                   : MSHM_OK;
    bool same =
        header->continues_timestamp == from->timestamp && header->continues_crc == from->chain;
    bool holds = found->number == from->position.segment;
    bool fits = true;
    *first = holds || position_equal(header_continues(header), from->position);
    if (!*first) /* what begins before the cut does not know of it: its incarnation would have */
        fits = wal_position_before(from->position, header_continues(header));
    else if (!holds || from->position.offset == WAL_RECORDS_AT)
        fits = same;
    else
        fits = header->continues_timestamp <= from->timestamp &&
               from->position.offset > WAL_RECORDS_AT &&
               from->position.offset <= header->segment_size;
    return fits ? MSHM_OK
                : refuse(scan, MSHM_CORRUPT, found->number,
                         "its header contradicts the newest checkpoint");
}

static int
trace(const struct scan *scan, uint32_t newest)
{
    struct wal_lineage *lineage = scan->lineage;
    lineage->line = calloc(newest + 1, sizeof(struct wal_found *));
    if (lineage->line == NULL)
        return MSHM_NO_MEMORY;
    uint32_t at = newest + 1; /* filled from the end; numbers only fall, so it is never passed */
    struct wal_found *found = &lineage->found[newest];
    lineage->line[--at] = found;
    bool first;
    int status = is_first(scan, found, &first);
    while (status == MSHM_OK && !first) {
        found = predecessor(scan, found, &status);
        if (found == NULL)
            return status;
        lineage->line[--at] = found;
        status = is_first(scan, found, &first);
    }
    if (status != MSHM_OK)
        return status;
    lineage->line_count = newest + 1 - at;
    memmove(lineage->line, lineage->line + at, lineage->line_count * sizeof *lineage->line);
    return MSHM_OK;
}

/* No segment that counts has a valid header. The cut's own file was there before the cut, and goes only when a header
 * that continues the cut is durable. */
static int
check_none(const struct scan *scan)
{
    const struct wal_lineage *lineage = scan->lineage;
    int status = MSHM_OK;
    if (scan->from != NULL) {
        uint32_t index = 0;
        while (index < lineage->found_count && lineage->found[index].state == WAL_SEGMENT_RELEASED)
            index++;
        if (index == lineage->found_count)
            return refuse(scan, MSHM_CORRUPT, needed_from(scan),
                          "missing, and the newest checkpoint ends in it");
        return check_behind(scan, index, needed_from(scan));
    }
    for (uint32_t i = 0; i < lineage->found_count && status == MSHM_OK; i++)
        if (lineage->found[i].state == WAL_SEGMENT_BAD)
            status = check_damaged(scan, &lineage->found[i]);
    return status;
}

int
wal_lineage_init(struct wal_lineage *lineage, const struct env *env, const uint8_t database_id[16],
                 const struct wal_from *from, char *why, size_t why_size)
{
    if (from != NULL && from->timestamp == 0)
        from = NULL;
    struct scan scan = {env, database_id, from, lineage, why, why_size};
    *lineage = (struct wal_lineage){0};
    int status = load_all(&scan);
    if (status != MSHM_OK)
        return status;
    uint32_t newest = lineage->found_count;
    while (newest > 0 && lineage->found[newest - 1].state != WAL_SEGMENT_VALID)
        newest--;
    if (newest == 0)
        return check_none(&scan);
    status = check_behind(&scan, newest, lineage->found[newest - 1].number + 1);
    return status != MSHM_OK ? status : trace(&scan, newest - 1);
}

void
wal_lineage_fini(struct wal_lineage *lineage)
{
    free(lineage->found);
    free(lineage->line);
    *lineage = (struct wal_lineage){0};
}

int
wal_segment_load(const struct env *env, const struct wal_found *found, uint8_t **bytes,
                 uint64_t *capacity, uint64_t *have)
{
    uint64_t size = found->header.segment_size;
    if (size > found->file_size)
        size = found->file_size;
    if (size > *capacity) {
        uint8_t *grown = realloc(*bytes, size);
        if (grown == NULL)
            return MSHM_NO_MEMORY;
        *bytes = grown;
        *capacity = size;
    }
    struct env_file *file;
    char name[WAL_NAME_SIZE];
    wal_segment_name(name, found->number, "log");
    int64_t result = env->file_open(env->context, name, ENV_OPEN_EXISTING, &file);
    if (result != 0)
        return env_status(result);
    result = size > 0 ? env->file_read(env->context, file, 0, *bytes, size) : 0;
    env->file_close(env->context, file);
    if (result < 0)
        return env_status(result);
    *have = (uint64_t)result;
    return MSHM_OK;
}
