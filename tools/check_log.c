/* check_log.c - the log behind the newest checkpoint: its lineage, every record, where it ends, and whether its operations
 * make sense after what the checkpoint has. */
#include <stdlib.h>
#include <string.h>

#include "check_database.h"
#include "mshm/ops.h"
#include "mshm/status.h"
#include "wal_lineage.h"
#include "wal_segment.h"

/* The buckets as of the record at hand. */
struct living {
    uint32_t id;
    uint16_t name_size;
    char name[MSHM_MAX_BUCKET_NAME];
};

struct walk {
    struct check *check;
    struct living *list;
    uint32_t count, capacity;
    uint32_t highest; /* bucket id so far: ids are never used again */
};

static struct living *
living_find(const struct walk *walk, uint32_t id)
{
    for (uint32_t i = 0; i < walk->count; i++)
        if (walk->list[i].id == id)
            return &walk->list[i];
    return NULL;
}

static bool
name_taken(const struct walk *walk, const void *name, uint16_t size)
{
    for (uint32_t i = 0; i < walk->count; i++)
        if (walk->list[i].name_size == size && memcmp(walk->list[i].name, name, size) == 0)
            return true;
    return false;
}

static int
living_add(struct walk *walk, uint32_t id, const void *name, uint16_t size)
{
    if (walk->count == walk->capacity) {
        uint32_t capacity = walk->capacity != 0 ? walk->capacity * 2 : 64;
        struct living *grown = realloc(walk->list, capacity * sizeof *grown);
        if (grown == NULL)
            return MSHM_NO_MEMORY;
        walk->list = grown;
        walk->capacity = capacity;
    }
    struct living *living = &walk->list[walk->count++];
    living->id = id;
    living->name_size = size;
    memcpy(living->name, name, size);
    if (id > walk->highest)
        walk->highest = id;
    return MSHM_OK;
}

static void
report_operation(const struct walk *walk, const struct wal_segment_header *segment,
                 struct wal_position end, const struct wal_record *record, const char *text)
{
    char name[WAL_NAME_SIZE];
    wal_segment_name(name, segment->segment, "log");
    report_damagef(
        walk->check->report,
        (struct finding){.file = name, .has_offset = true, .offset = end.offset - record->size},
        "commit %llu: %s", (unsigned long long)record->timestamp, text);
}

static const char *
bucket_operation(struct walk *walk, const struct mshm_op *op, int *status)
{
    struct catalogue_record record;
    const void *name = mshm_op_key(op);
    struct living *living = living_find(walk, op->bucket);
    if (op->value_size != sizeof record || !catalogue_name_valid(name, op->key_size))
        return "a bucket's name or options that no bucket has";
    if (op->kind == MSHM_OP_BUCKET_CREATE) {
        if (op->bucket <= walk->highest || name_taken(walk, name, op->key_size))
            return "creates a bucket whose name or number is taken";
        *status = living_add(walk, op->bucket, name, op->key_size);
        return NULL;
    }
    if (living == NULL || living->name_size != op->key_size ||
        memcmp(living->name, name, op->key_size) != 0)
        return "drops or alters a bucket that is not there";
    if (op->kind == MSHM_OP_BUCKET_DROP)
        *living = walk->list[--walk->count];
    return NULL;
}

static int
take_record(void *argument, const struct wal_segment_header *segment,
            const struct wal_record *record, const void *ops, uint64_t ops_size,
            struct wal_position end)
{
    struct walk *walk = argument;
    const struct mshm_op *op = ops;
    uint32_t count = record->op_count_flags & WAL_OP_COUNT_MASK;
    int status = MSHM_OK;
    (void)ops_size;
    walk->check->figures.log_records++;
    walk->check->figures.log_operations += count;
    if (segment->incarnation > walk->check->manifest.incarnation)
        report_operation(walk, segment, end, record, "the manifest is older than the log");
    for (uint32_t i = 0; i < count && status == MSHM_OK; i++, op = mshm_op_next(op)) {
        const char *wrong = NULL;
        if (op->kind >= MSHM_OP_BUCKET_CREATE)
            wrong = bucket_operation(walk, op, &status);
        else if (living_find(walk, op->bucket) == NULL)
            wrong = "writes to a bucket that is not there";
        else if (op->value_size > MSHM_MAX_INLINE)
            wrong = "a value that no page can hold";
        if (wrong != NULL)
            report_operation(walk, segment, end, record, wrong);
    }
    return status;
}

/* Nothing is ever written between a segment's header and its first record. */
static int
segment_head_look(struct check *check, const struct wal_found *found)
{
    uint8_t head[WAL_RECORDS_AT] = {0};
    struct env_file *file;
    char name[WAL_NAME_SIZE];
    wal_segment_name(name, found->number, "log");
    int result = check->env.file_open(check->env.context, name, ENV_OPEN_EXISTING, &file);
    if (result != 0)
        return MSHM_OK; /* told by wal_read, or gone since */
    check->env.file_read(check->env.context, file, 0, head, sizeof head);
    check->env.file_close(check->env.context, file);
    for (size_t at = sizeof found->header; at < sizeof head; at++) {
        if (head[at] == 0)
            continue;
        report_damage(check->report,
                      &(struct finding){
                          .file = name,
                          .has_offset = true,
                          .offset = at,
                          .text = "a byte that is not zero between the header and the records"});
        break;
    }
    return MSHM_OK;
}

static int
heads_look(struct check *check, const struct wal_from *from)
{
    struct wal_lineage lineage;
    int status =
        wal_lineage_init(&lineage, &check->env, check->manifest.database_id, from, NULL, 0);
    for (uint32_t i = 0; i < lineage.line_count && status == MSHM_OK; i++)
        status = segment_head_look(check, lineage.line[i]);
    wal_lineage_fini(&lineage);
    return status;
}

static int
log_look(struct check *check, char *why, size_t why_size)
{
    const struct manifest *manifest = &check->manifest;
    struct wal_from from = {.timestamp = manifest->cut.timestamp,
                            .chain = manifest->cut.chain,
                            .position = manifest->cut.position};
    struct walk walk = {.check = check};
    struct wal_end end = {0};
    int status = MSHM_OK;
    check->figures.log_records = check->figures.log_operations = 0;
    for (uint32_t i = 0; i < check->bucket_count && status == MSHM_OK; i++) {
        const struct check_bucket *bucket = &check->buckets[i];
        if (bucket->id > walk.highest)
            walk.highest = bucket->id;
        if (!bucket->dropped)
            status = living_add(&walk, bucket->id, bucket->name, bucket->name_size);
    }
    if (status == MSHM_OK)
        status = wal_read(&check->env, manifest->database_id, manifest->first_segment, &from,
                          take_record, &walk, &end, why, why_size);
    if (status == MSHM_OK)
        status = heads_look(check, &from);
    free(walk.list);
    check->figures.log_segments = end.segments;
    if (status == MSHM_OK && end.newest_incarnation > manifest->incarnation)
        report_damage_text(check->report, "wal: the manifest is older than the log");
    return status;
}

int
check_log(struct check *check, char *why, size_t why_size)
{
    char text[300] = "";
    int status = log_look(check, text, sizeof text);
    if (status == MSHM_CORRUPT || status == MSHM_IO) {
        report_damage_text(check->report, text);
        return MSHM_OK;
    }
    if (status != MSHM_OK)
        snprintf(why, why_size, "%s", text);
    return status;
}
