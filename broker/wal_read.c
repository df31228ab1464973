/* wal_read.c - walking the log and deciding where it ends (DESIGN 9).
 *
 * The walk goes through the lineage record by record as long as each is whole and chained to the one before. Where it
 * stops, at p, the log ends, unless something later proves that p had been durable: a valid record with a durable mark
 * beyond p, or a new incarnation that went on from a position beyond p. Then acknowledged data is damaged.
 *
 * With a checkpoint the walk begins at its cut, as if a good record had just ended there. A cut may be ahead of what the
 * log has: then the walk stops at once, and the next incarnation continues the cut.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "mshm/ops.h"
#include "mshm/status.h"
#include "wal_lineage.h"
#include "wal_segment.h"
#include "wal_window.h"

struct walk {
    const struct env *env;
    const struct wal_from *from; /* NULL: from the start of the log */
    struct wal_lineage lineage;
    wal_each *each;
    void *argument;
    char *why;
    size_t why_size;

    struct wal_window window; /* onto the segment at hand */
    struct wal_position at;   /* behind the newest good record */
    struct wal_position proof;
    uint64_t timestamp, records, records_size;
    uint32_t chain;
};

static int
refuse(const struct walk *walk, int status, struct wal_position at, const char *what)
{
    char name[WAL_NAME_SIZE];
    wal_segment_name(name, at.segment, "log");
    if (walk->why != NULL)
        snprintf(walk->why, walk->why_size, "%s, offset %" PRIu64 ": %s", name, at.offset, what);
    return status;
}

uint32_t
wal_record_check(const struct wal_segment_header *segment, uint64_t offset, const void *bytes,
                 uint64_t available)
{
    const struct wal_record *record = bytes;
    if (offset % WAL_ALIGNMENT != 0 || available < sizeof *record ||
        record->magic != WAL_RECORD_MAGIC)
        return 0;
    uint32_t size = record->size;
    if (size < sizeof *record || size % WAL_ALIGNMENT != 0 || size > available ||
        offset + size > segment->segment_size)
        return 0;
    return wal_record_crc(segment, offset, record) == record->crc ? size : 0;
}

/* Bytes of the record's operations without the padding of the record, or UINT64_MAX when they do not fit it. */
static uint64_t
record_ops_size(const struct wal_record *record)
{
    const uint8_t *ops = (const uint8_t *)(record + 1);
    uint64_t available = record->size - sizeof *record, at = 0;
    uint32_t count = record->op_count_flags & WAL_OP_COUNT_MASK;
    for (uint32_t i = 0; i < count; i++) {
        if (available - at < sizeof(struct mshm_op))
            return UINT64_MAX;
        const struct mshm_op *op = (const struct mshm_op *)(ops + at);
        uint64_t size = mshm_op_size(op->key_size, op->value_size);
        if (size > available - at)
            return UINT64_MAX;
        at += size;
    }
    return mshm_align_up(at, WAL_ALIGNMENT) == available ? at : UINT64_MAX;
}

/* A record whose checksum is right was written by a broker; nonsense in it is no torn tail. */
static int
take_record(struct walk *walk, const struct wal_segment_header *header,
            const struct wal_record *record)
{
    bool mark = (record->op_count_flags & WAL_FLAG_MARK) != 0;
    uint64_t size = record_ops_size(record);
    if (size == UINT64_MAX || (mark && size != 0) || (!mark && size == 0))
        return refuse(walk, MSHM_CORRUPT, walk->at, "operations do not fit their record");
    struct wal_position proof = {record->durable_segment, record->durable_offset};
    if (wal_position_before(walk->at, proof))
        return refuse(walk, MSHM_CORRUPT, walk->at, "the durable mark lies ahead of its record");
    if (wal_position_before(walk->proof, proof))
        walk->proof = proof;
    if (mark)
        return MSHM_OK;
    uint32_t count = record->op_count_flags & WAL_OP_COUNT_MASK;
    if (mshm_ops_validate(record + 1, size, count, MSHM_OPS_LOG) != MSHM_OK)
        return refuse(walk, MSHM_CORRUPT, walk->at, "malformed operations");
    walk->records++;
    if (walk->each == NULL)
        return MSHM_OK;
    struct wal_position end = walk->at;
    end.offset += record->size;
    return walk->each(walk->argument, header, record, record + 1, size, end);
}

static bool
chained(const struct walk *walk, const struct wal_record *record)
{
    bool mark = (record->op_count_flags & WAL_FLAG_MARK) != 0;
    return record->previous_crc == walk->chain &&
           record->timestamp == walk->timestamp + (mark ? 0 : 1);
}

/* The record at `offset` of the segment at hand, whole and valid, as far as it ends at or before `limit`; NULL: there is none.
 * continues: only one that continues the walk is looked at, so that nothing else decides how much is read. */
static int
record_take(struct walk *walk, const struct wal_segment_header *header, uint64_t offset,
            uint64_t limit, bool continues, const struct wal_record **found)
{
    const uint8_t *bytes;
    uint64_t available;
    const struct wal_record *record;
    *found = NULL;
    int status =
        wal_window_take(&walk->window, offset, sizeof(struct wal_record), &bytes, &available);
    if (status != MSHM_OK || available < sizeof *record || limit - offset < sizeof *record)
        return status;
    record = (const struct wal_record *)(const void *)bytes;
    uint64_t size = record->size;
    if (record->magic != WAL_RECORD_MAGIC || (continues && !chained(walk, record)) ||
        size > limit - offset)
        return MSHM_OK;
    status = wal_window_take(&walk->window, offset, size, &bytes, &available);
    if (status != MSHM_OK)
        return status;
    if (wal_record_check(header, offset, bytes, available < size ? available : size) != 0)
        *found = (const struct wal_record *)(const void *)bytes;
    return MSHM_OK;
}

/* Takes the good records of the segment at hand up to `limit`; walk->at is behind the last of them. */
static int
walk_records(struct walk *walk, const struct wal_segment_header *header, uint64_t limit)
{
    while (walk->at.offset < limit) {
        const struct wal_record *record;
        int status = record_take(walk, header, walk->at.offset, limit, true, &record);
        if (status != MSHM_OK)
            return refuse(walk, status, walk->at, "cannot be read");
        if (record == NULL)
            return MSHM_OK;
        uint64_t timestamp = record->timestamp, size = record->size;
        uint32_t crc = record->crc;
        status = take_record(walk, header, record);
        if (status != MSHM_OK)
            return status;
        walk->timestamp = timestamp;
        walk->chain = crc;
        walk->at.offset += size;
        walk->records_size += size;
    }
    return MSHM_OK;
}

/* Does a valid record at or behind `from` of the segment at hand prove that `at` had been durable? What is left of the
 * segment that was recycled into this one proves nothing: its checksums are seeded otherwise. */
static int
segment_proves(struct walk *walk, const struct wal_segment_header *header, uint64_t from,
               bool *proved)
{
    for (uint64_t offset = from; offset < walk->window.end; offset += WAL_ALIGNMENT) {
        const uint8_t *bytes;
        uint64_t available;
        int status =
            wal_window_take(&walk->window, offset, sizeof(struct wal_record), &bytes, &available);
        if (status != MSHM_OK)
            return status;
        const struct wal_record *record = (const struct wal_record *)(const void *)bytes;
        if (available < sizeof *record || record->magic != WAL_RECORD_MAGIC)
            continue;
        struct wal_position proof = {record->durable_segment, record->durable_offset};
        record = NULL;
        if (wal_position_before(walk->at, proof))
            status = record_take(walk, header, offset, walk->window.end, false, &record);
        if (status != MSHM_OK || record != NULL) {
            *proved = record != NULL;
            return status;
        }
    }
    return MSHM_OK;
}

/* The walk stopped at walk->at in segment `index` of the line: legally? */
static int
decide_end(struct walk *walk, uint32_t index)
{
    const struct wal_lineage *lineage = &walk->lineage;
    const struct wal_found *found = lineage->line[index];
    bool proved = false;
    int status = segment_proves(walk, &found->header, walk->at.offset, &proved);
    for (uint32_t i = index + 1; i < lineage->line_count && !proved && status == MSHM_OK; i++) {
        found = lineage->line[i];
        if (found->header.first_of_incarnation) {
            proved = true;
            break;
        }
        status = wal_window_open(&walk->window, walk->env, found);
        if (status == MSHM_OK)
            status = segment_proves(walk, &found->header, WAL_RECORDS_AT, &proved);
    }
    if (status != MSHM_OK)
        return refuse(walk, status, (struct wal_position){found->number, 0}, "cannot be read");
    if (proved)
        return refuse(walk, MSHM_CORRUPT, walk->at,
                      "a damaged record, and a later one proves that it had been durable");
    return MSHM_OK;
}

/* Where the walk of a segment begins. */
static struct wal_position
segment_begin(const struct walk *walk, uint32_t index)
{
    uint64_t number = walk->lineage.line[index]->number;
    if (walk->from != NULL && number == walk->from->position.segment)
        return walk->from->position;
    return (struct wal_position){number, WAL_RECORDS_AT};
}

/* Walks one segment: MSHM_OK and *ended when the log ends in it. */
static int
walk_segment(struct walk *walk, uint32_t index, bool *ended)
{
    const struct wal_found *found = walk->lineage.line[index];
    bool last = index + 1 == walk->lineage.line_count;
    const struct wal_segment_header *next = last ? NULL : &walk->lineage.line[index + 1]->header;
    uint64_t limit = last ? found->header.segment_size : next->continues_offset;
    walk->at = segment_begin(walk, index);
    if (found->header.first_of_incarnation)
        walk->proof = (struct wal_position){found->number, WAL_RECORDS_AT};
    int status = wal_window_open(&walk->window, walk->env, found);
    if (status != MSHM_OK)
        return refuse(walk, status, walk->at, "cannot be read");
    status = walk_records(walk, &found->header, limit);
    if (status != MSHM_OK)
        return status;
    *ended = last || walk->at.offset < limit;
    if (*ended)
        return decide_end(walk, index);
    if (walk->timestamp != next->continues_timestamp || walk->chain != next->continues_crc)
        return refuse(walk, MSHM_CORRUPT, walk->at, "the next segment continues another record");
    return MSHM_OK;
}

static bool
at_cut(const struct walk *walk, struct wal_position at)
{
    return walk->from != NULL && at.segment == walk->from->position.segment &&
           at.offset == walk->from->position.offset;
}

/* An end before the first record of a segment is the end of what this segment continues: the segment is dead. The cut
 * is the exception, because what it stands behind need not be there any more. */
static void
report_end(const struct walk *walk, uint32_t index, struct wal_end *end)
{
    const struct wal_lineage *lineage = &walk->lineage;
    struct wal_position at = walk->at;
    while (at.offset == WAL_RECORDS_AT && !at_cut(walk, at)) {
        const struct wal_segment_header *header = &lineage->line[index]->header;
        at = (struct wal_position){header->continues_segment, header->continues_offset};
        if (index-- == 0)
            break;
    }
    end->next.timestamp = walk->timestamp;
    end->next.chain = walk->chain;
    end->next.end = at;
    end->next.bytes = walk->records_size;
    end->known_durable =
        at_cut(walk, at) || wal_position_before(at, walk->proof) ? at : walk->proof;
    end->segments = lineage->line_count;
    end->first_segment = lineage->line[0]->number;
}

/* Does the body of a segment, from an offset on, continue the log with records of which one says that a part of them had
 * been durable? Without the header, and so without its salt, checksums cannot be verified; but nobody knows the
 * checksum of the newest record who could have put the like here, and what was recycled is older. */
static int
body_proves(struct walk *walk, uint64_t number, uint64_t begin, bool *proved)
{
    uint32_t chain = walk->chain;
    uint64_t timestamp = walk->timestamp, at = begin;
    while (at < walk->window.end) {
        const uint8_t *bytes;
        uint64_t available;
        int status =
            wal_window_take(&walk->window, at, sizeof(struct wal_record), &bytes, &available);
        const struct wal_record *record = (const struct wal_record *)(const void *)bytes;
        if (status != MSHM_OK || available < sizeof *record)
            return status;
        bool mark = (record->op_count_flags & WAL_FLAG_MARK) != 0;
        if (record->magic != WAL_RECORD_MAGIC || record->previous_crc != chain ||
            record->timestamp != timestamp + (mark ? 0 : 1) || record->size < sizeof *record ||
            record->size % WAL_ALIGNMENT != 0 || record->size > walk->window.end - at)
            return MSHM_OK;
        *proved = record->durable_segment == number && record->durable_offset > begin;
        if (*proved)
            return MSHM_OK;
        chain = record->crc;
        timestamp = record->timestamp;
        at += record->size;
    }
    return MSHM_OK;
}

/* The log ends at walk->at. A segment with zeros for a header is one that was never used, or whose header was never
 * durable, and then nothing in it was: unless its records say otherwise, and the header was lost. */
static int
check_headless(struct walk *walk)
{
    const struct wal_lineage *lineage = &walk->lineage;
    for (uint32_t i = 0; i < lineage->found_count; i++) {
        struct wal_found headless = lineage->found[i];
        bool holds = at_cut(walk, walk->at) && headless.number == walk->at.segment, proved = false;
        if (headless.state != WAL_SEGMENT_EMPTY || headless.number < walk->at.segment)
            continue;
        headless.header.segment_size = headless.file_size;
        int status = wal_window_open(&walk->window, walk->env, &headless);
        if (status == MSHM_OK)
            status = body_proves(walk, headless.number, holds ? walk->at.offset : WAL_RECORDS_AT,
                                 &proved);
        struct wal_position place = {headless.number, 0};
        if (status != MSHM_OK)
            return refuse(walk, status, place, "cannot be read");
        if (proved)
            return refuse(walk, MSHM_CORRUPT, place,
                          "no header, but a record says that it had been durable");
    }
    return MSHM_OK;
}

/* From here on all is as if the cut's record had just been taken; when nothing follows, that is the end. */
static void
begin_at_cut(struct walk *walk, const struct wal_from *from, struct wal_end *end)
{
    walk->from = from;
    walk->at = from->position;
    walk->timestamp = end->next.timestamp = from->timestamp;
    walk->chain = end->next.chain = from->chain;
    end->next.end = end->known_durable = from->position;
    end->next.next_segment = from->position.segment + 1;
}

int
wal_read(const struct env *env, const uint8_t database_id[16], uint64_t first_segment,
         const struct wal_from *from, wal_each *each, void *argument, struct wal_end *end,
         char *why, size_t why_size)
{
    struct walk walk = {
        .env = env, .each = each, .argument = argument, .why = why, .why_size = why_size};
    struct wal_end found = {.next = {.next_segment = 1}};
    memcpy(found.next.database_id, database_id, sizeof found.next.database_id);
    int status = wal_lineage_init(&walk.lineage, env, database_id, from, why, why_size);
    if (status != MSHM_OK)
        goto out;
    if (from != NULL && from->timestamp != 0)
        begin_at_cut(&walk, from, &found);
    const struct wal_lineage *lineage = &walk.lineage;
    if (lineage->line_count == 0 && first_segment != 0 && walk.from == NULL) {
        status = refuse(&walk, MSHM_CORRUPT, (struct wal_position){first_segment, 0},
                        "missing, and so is every later segment");
        goto out;
    }
    if (lineage->line_count > 0)
        walk.proof.segment = lineage->line[0]->number; /* not even its header is known durable */
    bool ended = false;
    for (uint32_t i = 0; i < lineage->line_count && !ended; i++) {
        status = walk_segment(&walk, i, &ended);
        if (status != MSHM_OK)
            goto out;
        if (ended)
            report_end(&walk, i, &found);
    }
    if ((status = check_headless(&walk)) != MSHM_OK)
        goto out;
    if (lineage->found_count > 0 &&
        lineage->found[lineage->found_count - 1].number >= found.next.next_segment)
        found.next.next_segment = lineage->found[lineage->found_count - 1].number + 1;
    found.records = walk.records;
    found.newest_incarnation = lineage->newest_incarnation;
    *end = found;
out:
    wal_lineage_fini(&walk.lineage);
    wal_window_fini(&walk.window);
    return status;
}
