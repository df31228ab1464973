#include "manifest.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "crc.h"
#include "env_status.h"
#include "kill_point.h"
#include "manifest_format.h"
#include "mshm/status.h"

enum { NAME_SIZE = MANIFEST_NAME_SIZE };

void
manifest_name(char name[MANIFEST_NAME_SIZE], uint64_t number)
{
    snprintf(name, NAME_SIZE, "MANIFEST-%" PRIu64, number);
}

static int
refuse(char *why, size_t why_size, int status, const char *name, const char *what)
{
    if (why != NULL)
        snprintf(why, why_size, "%s: %s", name, what);
    return status;
}

static uint32_t
image_crc(const struct manifest_image *image)
{
    struct manifest_image copy = *image;
    copy.crc = 0;
    return crc_extend(0, &copy, sizeof copy);
}

/* Reads a small file: the bytes read, or -errno. */
static int64_t
read_small(const struct env *env, const char *name, void *to, size_t size)
{
    struct env_file *file;
    int64_t result = env->file_open(env->context, name, ENV_OPEN_EXISTING, &file);
    if (result != 0)
        return result;
    result = env->file_read(env->context, file, 0, to, size);
    env->file_close(env->context, file);
    return result;
}

static int
current_load(const struct env *env, uint64_t *number, char *why, size_t why_size)
{
    char text[MANIFEST_CURRENT_MAX + 1] = "", again[MANIFEST_CURRENT_MAX + 1];
    int64_t result = read_small(env, "CURRENT", text, MANIFEST_CURRENT_MAX);
    if (result == -ENOENT)
        return refuse(why, why_size, MSHM_NOT_FOUND, "CURRENT", "there is no database here");
    if (result < 0)
        return refuse(why, why_size, env_status(result), "CURRENT", strerror((int)-result));
    /* Only the exact text that manifest_store writes is taken. */
    if (sscanf(text, "MANIFEST-%" SCNu64, number) == 1) {
        snprintf(again, sizeof again, "MANIFEST-%" PRIu64 "\n", *number);
        if (strcmp(text, again) == 0 && strlen(again) == (size_t)result)
            return MSHM_OK;
    }
    return refuse(why, why_size, MSHM_CORRUPT, "CURRENT", "damaged");
}

int
manifest_load(const struct env *env, struct manifest *manifest,
              const struct manifest_visitor *visitor, char *why, size_t why_size)
{
    (void)visitor;
    struct manifest_image image;
    char name[NAME_SIZE];
    uint64_t number;
    int status = current_load(env, &number, why, why_size);
    if (status != MSHM_OK)
        return status;
    manifest_name(name, number);
    int64_t result = read_small(env, name, &image, sizeof image);
    if (result == -ENOENT)
        return refuse(why, why_size, MSHM_CORRUPT, name, "missing, and CURRENT names it");
    if (result < 0)
        return refuse(why, why_size, env_status(result), name, strerror((int)-result));
    if (result != sizeof image || image.magic != MANIFEST_MAGIC || image.crc != image_crc(&image))
        return refuse(why, why_size, MSHM_CORRUPT, name, "damaged");
    if (image.version != MANIFEST_VERSION)
        return refuse(why, why_size, MSHM_VERSION, name, "written by another version");
    if (image.number != number)
        return refuse(why, why_size, MSHM_CORRUPT, name, "it is another manifest");
    manifest->number = number;
    memcpy(manifest->database_id, image.database_id, sizeof manifest->database_id);
    manifest->incarnation = image.incarnation;
    manifest->first_segment = image.first_segment;
    return MSHM_OK;
}

/* Writes a new file of this name, replacing one that an attempt left, and syncs it: 0 or -errno. */
static int
write_small(const struct env *env, const char *name, const void *from, size_t size)
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

static int
manifest_turn(const struct env *env, const struct manifest_image *image)
{
    char name[NAME_SIZE], text[NAME_SIZE + 1];
    manifest_name(name, image->number);
    int length = snprintf(text, sizeof text, "%s\n", name);
    int result;
    if ((result = write_small(env, name, image, sizeof *image)) != 0 ||
        (result = write_small(env, "CURRENT.tmp", text, (size_t)length)) != 0 ||
        (result = env->directory_sync(env->context, "")) != 0)
        return result;
    MACE_KILL_POINT("manifest:written");
    if ((result = env->file_rename(env->context, "CURRENT.tmp", "CURRENT")) != 0)
        return result;
    MACE_KILL_POINT("manifest:renamed");
    return env->directory_sync(env->context, "");
}

int
manifest_store(const struct env *env, struct manifest *manifest,
               const struct manifest_edit *edit)
{
    (void)edit;
    struct manifest_image image = {.magic = MANIFEST_MAGIC,
                                   .version = MANIFEST_VERSION,
                                   .number = manifest->number + 1,
                                   .incarnation = manifest->incarnation,
                                   .first_segment = manifest->first_segment};
    memcpy(image.database_id, manifest->database_id, sizeof image.database_id);
    image.crc = image_crc(&image);
    int result = manifest_turn(env, &image);
    if (result != 0)
        return env_status(result);
    if (manifest->number != 0) {
        char former[NAME_SIZE];
        manifest_name(former, manifest->number);
        (void)env->file_remove(env->context, former); /* a leftover is never read */
    }
    manifest->number = image.number;
    return MSHM_OK;
}

struct leftover {
    const struct manifest *manifest;
    char name[NAME_SIZE];
};

static int
find_leftover(const char *entry, void *argument)
{
    struct leftover *leftover = argument;
    char current[NAME_SIZE];
    manifest_name(current, leftover->manifest->number);
    bool ours = strncmp(entry, "MANIFEST-", 9) == 0 || strcmp(entry, "CURRENT.tmp") == 0;
    if (!ours || strcmp(entry, current) == 0 || strlen(entry) >= NAME_SIZE)
        return 0;
    memcpy(leftover->name, entry, strlen(entry) + 1);
    return 1;
}

void
manifest_tidy(const struct env *env, const struct manifest *manifest)
{
    struct leftover leftover = {.manifest = manifest};
    while (env->directory_list(env->context, "", find_leftover, &leftover) == 1)
        if (env->file_remove(env->context, leftover.name) != 0)
            return;
}
