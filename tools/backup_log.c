#include <errno.h>
#include <string.h>

#include "backup.h"
#include "mshm/status.h"
#include "wal_lineage.h"
#include "wal_segment.h"

enum { SEGMENT_SIZE = 1 << 20 };

/* An empty segment that continues the cut, as a new incarnation opens one. */
static int
segment_begin(struct backup *backup, uint64_t incarnation, uint64_t *number)
{
    const struct env *env = &backup->env;
    const struct manifest *manifest = &backup->check.manifest;
    struct wal_segment segment;
    char name[WAL_NAME_SIZE];
    *number = manifest->cut.position.segment + 1;
    wal_segment_name(name, *number, "log");
    int result = wal_segment_prepare(env, &segment, *number, SEGMENT_SIZE, false);
    if (result != 0)
        return backup_refuse_error(backup, name, result);
    struct wal_segment_header header = {
        .segment = *number,
        .incarnation = incarnation,
        .salt = env->random(env->context),
        .segment_size = SEGMENT_SIZE,
        .continues_timestamp = manifest->cut.timestamp,
        .continues_crc = manifest->cut.chain,
        .first_of_incarnation = 1,
        .continues_segment = manifest->cut.position.segment,
        .continues_offset = manifest->cut.position.offset,
    };
    memcpy(header.database_id, manifest->database_id, sizeof header.database_id);
    wal_header_seal(&header);
    result = env->file_write(env->context, segment.file, 0, &header, sizeof header);
    if (result == 0)
        result = env->file_sync(env->context, segment.file);
    wal_segment_close(env, &segment);
    return result == 0 ? MSHM_OK : backup_refuse_error(backup, name, result);
}

static int
segment_copy(struct backup *backup, const struct wal_found *found)
{
    const struct env *env = &backup->check.env;
    struct env_file *file;
    char name[WAL_NAME_SIZE];
    wal_segment_name(name, found->number, "log");
    int result = env->file_open(env->context, name, ENV_OPEN_EXISTING, &file);
    if (result != 0)
        return backup_refuse_error(backup, name, result);
    /* A broker may use the segment again, and counts on its blocks. */
    int status = backup_file_copy(backup, file, name, found->file_size, true);
    env->file_close(env->context, file);
    return status;
}

/* Nobody writes the log: all of its lineage behind the cut. *count: segments. */
static int
lineage_copy(struct backup *backup, uint32_t *count)
{
    const struct manifest *manifest = &backup->check.manifest;
    struct wal_from from = {.timestamp = manifest->cut.timestamp,
                            .chain = manifest->cut.chain,
                            .position = manifest->cut.position};
    struct wal_lineage lineage;
    int status = wal_lineage_init(&lineage, &backup->check.env, manifest->database_id, &from,
                                  backup->why, backup->why_size);
    for (uint32_t i = 0; i < lineage.line_count && status == MSHM_OK; i++)
        status = segment_copy(backup, lineage.line[i]);
    *count = lineage.line_count;
    wal_lineage_fini(&lineage);
    return status;
}

int
backup_log(struct backup *backup, uint64_t *incarnation, uint64_t *first_segment)
{
    const struct manifest *manifest = &backup->check.manifest;
    uint32_t count = 0;
    *incarnation = manifest->incarnation;
    *first_segment = manifest->first_segment;
    if (!backup->live) {
        int status = lineage_copy(backup, &count);
        if (status != MSHM_OK || count != 0)
            backup->result->log = true;
        if (status != MSHM_OK || count != 0 || manifest->cut.timestamp == 0)
            return status;
    }
    ++*incarnation;
    return segment_begin(backup, *incarnation, first_segment);
}
