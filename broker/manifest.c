/* manifest.c - the manifest's files: names, switching, appending, clearing up. */
#include "manifest.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "crc.h"
#include "env_status.h"
#include "kill_point.h"
#include "manifest_parts.h"
#include "mshm/status.h"

enum { LONG_BYTES = 1024 * 1024 };

void
manifest_name(char name[MANIFEST_NAME_SIZE], uint64_t number)
{
    snprintf(name, MANIFEST_NAME_SIZE, "MANIFEST-%" PRIu64, number);
}

bool
manifest_long(const struct manifest *manifest)
{
    uint64_t edits = manifest->size - manifest->snapshot_size;
    return edits > LONG_BYTES && edits > manifest->snapshot_size;
}

/* --- switching --- */

/* Writes a new file of this name, replacing one that an attempt left, and syncs it: 0 or -errno. */
static int
write_whole(const struct env *env, const char *name, const void *from, size_t size)
{
    struct env_file *file;
    int result = env->file_remove(env->context, name);
    if (result != 0 && result != -ENOENT)
        return result;
    result = env->file_open(env->context, name, ENV_OPEN_CREATE | ENV_OPEN_WRITE, &file);
    if (result != 0)
        return result;
    result = env->file_write(env->context, file, 0, from, size);
    if (result == 0)
        result = env->file_sync(env->context, file);
    env->file_close(env->context, file);
    return result;
}

/* What can be tried again: nothing of it is named by CURRENT. */
static int
switch_prepare(const struct env *env, uint64_t number, const void *bytes, uint64_t size)
{
    char name[MANIFEST_NAME_SIZE], line[MANIFEST_CURRENT_MAX];
    unsigned length = manifest_current_line(line, number);
    int result;
    manifest_name(name, number);
    if ((result = write_whole(env, name, bytes, size)) != 0 ||
        (result = write_whole(env, "CURRENT.tmp", line, length)) != 0 ||
        (result = env->directory_sync(env->context, "")) != 0)
        return result;
    MACE_KILL_POINT("manifest:written");
    result = env->file_rename(env->context, "CURRENT.tmp", "CURRENT");
    if (result == 0)
        MACE_KILL_POINT("manifest:renamed");
    return result;
}

int
manifest_switch(const struct env *env, uint64_t number, const void *bytes, uint64_t size)
{
    char former[MANIFEST_NAME_SIZE];
    int result = switch_prepare(env, number + 1, bytes, size);
    if (result != 0)
        return env_status(result);
    /* The new manifest is in force, so from here on nothing can be tried again: no error passes. */
    if (env->directory_sync(env->context, "") != 0)
        return MSHM_IO;
    if (number == 0)
        return MSHM_OK;
    manifest_name(former, number);
    if (env->file_remove(env->context, former) != 0)
        return MSHM_OK; /* a leftover is never read; manifest_tidy tries again */
    return env->directory_sync(env->context, "") != 0 ? MSHM_IO : MSHM_OK;
}

/* --- appending --- */

static int
open_for_writing(const struct env *env, const struct manifest *manifest, struct env_file **file)
{
    char name[MANIFEST_NAME_SIZE];
    manifest_name(name, manifest->number);
    return env->file_open(env->context, name, ENV_OPEN_WRITE, file);
}

/* Whether these are the bytes of the newest record. */
static bool
newest_valid(const struct manifest *manifest, const uint8_t *bytes, uint64_t size)
{
    struct manifest_record record;
    uint32_t seed = manifest_seed(manifest->database_id, manifest->number, manifest->unproven);
    memcpy(&record, bytes, sizeof record);
    return record.size == size && record.header_crc == manifest->chain &&
           record.header_crc == manifest_record_crc(seed, &record) &&
           record.payload_crc == crc_extend(seed, bytes + sizeof record, size - sizeof record);
}

/* Writes the newest record once more, with the same bytes. */
static int
newest_rewrite(const struct env *env, const struct manifest *manifest)
{
    struct env_file *file;
    uint64_t at = manifest->unproven, size = manifest->size - at;
    uint8_t *bytes = malloc(size);
    if (bytes == NULL)
        return MSHM_NO_MEMORY;
    int64_t result = open_for_writing(env, manifest, &file);
    if (result != 0) {
        free(bytes);
        return env_status(result);
    }
    int status = MSHM_OK;
    result = env->file_read(env->context, file, at, bytes, size);
    if (result >= 0 && ((uint64_t)result != size || !newest_valid(manifest, bytes, size)))
        status = MSHM_CORRUPT;
    else if (result >= 0 && (result = env->file_write(env->context, file, at, bytes, size)) == 0)
        result = env->file_sync(env->context, file);
    env->file_close(env->context, file);
    free(bytes);
    return status != MSHM_OK ? status : env_status(result);
}

int
manifest_settle(const struct env *env, struct manifest *manifest)
{
    if (manifest->settled)
        return MSHM_OK;
    if (manifest->unproven != 0) {
        int status = newest_rewrite(env, manifest);
        if (status != MSHM_OK)
            return status;
    }
    int result = env->directory_sync(env->context, "");
    if (result != 0)
        return env_status(result);
    manifest->unproven = 0;
    manifest->settled = true;
    return MSHM_OK;
}

static int
store_first(const struct env *env, struct manifest *manifest, const struct manifest_edit *edit)
{
    uint64_t size;
    void *bytes = manifest_snapshot_bytes(manifest, edit, &size);
    if (bytes == NULL)
        return MSHM_NO_MEMORY;
    int status = manifest_switch(env, manifest->number, bytes, size);
    if (status == MSHM_OK)
        manifest_switched(manifest, edit, bytes, size);
    free(bytes);
    return status;
}

/* Writes and syncs an edit, and its mark, which may fail. */
static int
edit_write(const struct env *env, struct manifest *manifest, const struct manifest_edit *edit,
           const void *bytes, uint64_t size)
{
    struct env_file *file;
    uint8_t mark[MANIFEST_MARK_SIZE];
    int result = open_for_writing(env, manifest, &file);
    if (result != 0)
        return env_status(result);
    result = env->file_write(env->context, file, manifest->size, bytes, size);
    if (result == 0) {
        MACE_KILL_POINT("manifest:edit_written");
        result = env->file_sync(env->context, file);
    }
    if (result == 0) {
        manifest_appended(manifest, edit, bytes, size);
        manifest_mark_bytes(manifest, mark);
        (void)env->file_write(env->context, file, manifest->size, mark, sizeof mark);
    }
    env->file_close(env->context, file);
    return env_status(result);
}

int
manifest_store(const struct env *env, struct manifest *manifest, const struct manifest_edit *edit)
{
    if (manifest->number == 0)
        return store_first(env, manifest, edit);
    int status = manifest_settle(env, manifest);
    if (status != MSHM_OK)
        return status;
    uint64_t size;
    void *bytes = manifest_edit_bytes(manifest, edit, &size);
    if (bytes == NULL)
        return MSHM_NO_MEMORY;
    status = edit_write(env, manifest, edit, bytes, size);
    free(bytes);
    return status;
}

/* --- clearing up --- */

struct leftover {
    const struct manifest *manifest;
    char name[MANIFEST_NAME_SIZE];
};

static int
find_leftover(const char *entry, void *argument)
{
    struct leftover *leftover = argument;
    char current[MANIFEST_NAME_SIZE];
    manifest_name(current, leftover->manifest->number);
    bool ours = strncmp(entry, "MANIFEST-", 9) == 0 || strcmp(entry, "CURRENT.tmp") == 0;
    if (!ours || strcmp(entry, current) == 0 || strlen(entry) >= MANIFEST_NAME_SIZE)
        return 0;
    memcpy(leftover->name, entry, strlen(entry) + 1);
    return 1;
}

void
manifest_tidy(const struct env *env, const struct manifest *manifest)
{
    struct leftover leftover = {.manifest = manifest};
    bool removed = false;
    while (env->directory_list(env->context, "", find_leftover, &leftover) == 1) {
        if (env->file_remove(env->context, leftover.name) != 0)
            break;
        removed = true;
    }
    if (removed)
        (void)env->directory_sync(env->context, "");
}
