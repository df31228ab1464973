#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "backup.h"
#include "data.h"
#include "mshm/status.h"

enum { PIECE = 1 << 20, BLOCK = 4096 };

static bool
all_zero(const uint8_t *bytes, size_t size)
{
    return size == 0 || (bytes[0] == 0 && memcmp(bytes, bytes + 1, size - 1) == 0);
}

/* Writes what is not zero, block by block. 0 or -errno. */
static int
piece_write(const struct env *env, struct env_file *to, uint64_t offset, const uint8_t *bytes,
            size_t size)
{
    int result = 0;
    for (size_t at = 0, end; at < size && result == 0; at = end) {
        end = at + BLOCK < size ? at + BLOCK : size;
        if (all_zero(bytes + at, end - at))
            continue;
        while (end < size && end - at < PIECE &&
               !all_zero(bytes + end, size - end < BLOCK ? size - end : BLOCK))
            end = end + BLOCK < size ? end + BLOCK : size;
        result = env->file_write(env->context, to, offset + at, bytes + at, end - at);
    }
    return result;
}

static int
bytes_copy(struct backup *backup, struct env_file *from, struct env_file *to, uint64_t size,
           bool allocate)
{
    const struct env *source = &backup->check.env, *target = &backup->env;
    uint8_t *bytes = malloc(PIECE);
    int64_t result = bytes != NULL ? 0 : -ENOMEM;
    if (allocate && result == 0)
        result = target->file_preallocate(target->context, to, size);
    for (uint64_t at = 0; at < size && result >= 0;) {
        size_t piece = size - at < PIECE ? (size_t)(size - at) : PIECE;
        result = source->file_read(source->context, from, at, bytes, piece);
        if (result == 0)
            result = -EIO; /* it ended before its time */
        if (result > 0) {
            int written = piece_write(target, to, at, bytes, (size_t)result);
            at += (uint64_t)result;
            if (written != 0)
                result = written;
        }
    }
    free(bytes);
    if (result >= 0 && ftruncate(host_file_descriptor(to), (off_t)size) < 0)
        result = -errno;
    return result < 0 ? (int)result : target->file_sync(target->context, to);
}

int
backup_file_copy(struct backup *backup, struct env_file *from, const char *name, uint64_t size,
                 bool allocate)
{
    const struct env *env = &backup->env;
    struct env_file *to;
    int result = env->file_open(env->context, name, ENV_OPEN_CREATE | ENV_OPEN_WRITE, &to);
    if (result == 0) {
        result = bytes_copy(backup, from, to, size, allocate);
        env->file_close(env->context, to);
    }
    if (result != 0)
        return backup_refuse_error(backup, name, result);
    backup->result->copied++;
    backup->result->bytes += size;
    return MSHM_OK;
}

/* A link to the very file that is held open: the name may belong to another one by now. */
static bool
file_link(struct backup *backup, const struct check_file *file, const char *name)
{
    struct stat held, linked;
    int to = backup->place.directory;
    if (linkat(backup->check.host.directory, name, to, name, 0) < 0)
        return false;
    if (fstat(host_file_descriptor(file->open), &held) == 0 &&
        fstatat(to, name, &linked, AT_SYMLINK_NOFOLLOW) == 0 && held.st_dev == linked.st_dev &&
        held.st_ino == linked.st_ino)
        return true;
    unlinkat(to, name, 0);
    return false;
}

/* Beside a broker the newest file may grow, and so may one that is longer than what counts. A new broker begins a new
 * file. */
static bool
file_whole(const struct backup *backup, const struct check_file *file)
{
    const struct check *check = &backup->check;
    return !backup->live || (file->size == file->total &&
                             file->number != check->files[check->file_count - 1].number);
}

int
backup_files(struct backup *backup)
{
    struct check *check = &backup->check;
    int status = MSHM_OK;
    for (uint32_t i = 0; i < check->file_count && status == MSHM_OK; i++) {
        const struct check_file *file = &check->files[i];
        char name[DATA_NAME_SIZE];
        data_name(name, file->number);
        if (file_whole(backup, file) && file_link(backup, file, name))
            backup->result->linked++;
        else
            status = backup_file_copy(backup, file->open, name, file->total, false);
    }
    return status;
}
