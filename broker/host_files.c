/* host_files.c - the synchronous file functions of env.h. */
#include "host_files.h"
#include "host_ahead.h"
#include "host_direct.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

enum { FILES_ZEROS = 256 << 10, FILES_NAME = 32 };

struct env_file {
    int fd;
    int direct;              /* the same file with O_DIRECT; -1: none */
    struct host_ahead ahead; /* of the reads that are started, not of those that are waited for */
    /* Of file_read_many, which opens them when it first meets the file. */
    bool met;
    int past; /* with O_DIRECT, where `direct` is none; -1: none */
    void *map;
    char name[FILES_NAME]; /* of a data file */
};

static int
files_directory(void *context)
{
    return ((const struct host_files *)context)->directory;
}

/* A file in the directory of `name` to which no name leads. */
static int
unnamed_open(int directory, const char *name, int mode)
{
    char parent[64] = ".";
    const char *slash = strrchr(name, '/');

    if (slash != NULL)
        snprintf(parent, sizeof(parent), "%.*s", (int)(slash - name), name);
    int fd = openat(directory, parent, (mode & ~(O_CREAT | O_EXCL | O_NOFOLLOW)) | O_TMPFILE, 0600);
    if (fd >= 0 || (errno != EOPNOTSUPP && errno != EISDIR && errno != ENOENT && errno != EINVAL))
        return fd;
    (void)unlinkat(directory, name, 0);
    fd = openat(directory, name, mode, 0600);
    if (fd >= 0)
        (void)unlinkat(directory, name, 0);
    return fd;
}

static int
files_open(void *context, const char *name, unsigned flags, struct env_file **file)
{
    int mode = O_CLOEXEC | O_NOFOLLOW | O_NOCTTY;

    mode |= (flags & (ENV_OPEN_WRITE | ENV_OPEN_CREATE)) != 0 ? O_RDWR : O_RDONLY;
    if ((flags & ENV_OPEN_CREATE) != 0)
        mode |= O_CREAT | O_EXCL;
    struct env_file *opened = calloc(1, sizeof(*opened));
    if (opened == NULL)
        return -ENOMEM;
    do
        opened->fd = (flags & ENV_OPEN_UNNAMED) != 0
                         ? unnamed_open(files_directory(context), name, mode)
                         : openat(files_directory(context), name, mode, 0600);
    while (opened->fd < 0 && errno == EINTR);
    if (opened->fd < 0) {
        int error = errno;
        free(opened);
        return -error;
    }
    opened->direct = opened->past = -1;
    if (strncmp(name, "data/", 5) == 0 && strlen(name) < sizeof(opened->name))
        memcpy(opened->name, name, strlen(name) + 1);
    if (((const struct host_files *)context)->direct && opened->name[0] != '\0')
        opened->direct =
            openat(files_directory(context), name, (mode & ~(O_CREAT | O_EXCL)) | O_DIRECT, 0600);
    *file = opened;
    return 0;
}

static void
files_close(void *context, struct env_file *file)
{
    (void)context;
    if (file == NULL)
        return;
    close(file->fd);
    if (file->direct >= 0)
        close(file->direct);
    if (file->past >= 0)
        close(file->past);
    host_many_unmap(file->map);
    free(file);
}

int
host_file_descriptor(const struct env_file *file)
{
    return file->fd;
}

int
host_file_reads(struct env_file *file, uint64_t offset, size_t size)
{
    if (host_ahead_read(&file->ahead, offset, size))
        (void)posix_fadvise(file->fd, 0, 0,
                            file->ahead.told ? POSIX_FADV_RANDOM : POSIX_FADV_NORMAL);
    return file->fd;
}

int
host_file_direct(const struct env_file *file)
{
    return file->direct;
}

static int64_t
files_size(void *context, struct env_file *file)
{
    struct stat status;

    (void)context;
    return fstat(file->fd, &status) < 0 ? -errno : status.st_size;
}

static int64_t
files_read(void *context, struct env_file *file, uint64_t offset, void *to, size_t size)
{
    size_t done = 0;

    if (file->direct >= 0)
        return host_direct_read(file->direct, ((const struct host_files *)context)->read_unit,
                                offset, to, size);
    while (done < size) {
        ssize_t part = pread(file->fd, (char *)to + done, size - done, (off_t)(offset + done));
        if (part < 0 && errno == EINTR)
            continue;
        if (part < 0)
            return -errno;
        if (part == 0)
            break; /* the end of the file */
        done += (size_t)part;
    }
    return (int64_t)done;
}

/* The ways to read the file past the page cache, and to see what is in there. */
static void
file_meet(const struct host_files *files, struct env_file *file)
{
    if (file->met)
        return;
    file->met = true;
    if (file->name[0] == '\0')
        return;
    if (file->direct < 0 && files->many != NULL && files->read_unit > 0)
        file->past = openat(files->directory, file->name,
                            O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NOCTTY | O_DIRECT);
    if (file->direct < 0)
        file->map = host_many_map(file->fd);
}

/* What the ring has not done in full is done by a call, which says what is wrong. */
static void
read_finish(void *context, struct env_read *read)
{
    size_t done = read->result > 0 ? (size_t)read->result : 0;
    int64_t rest = files_read(context, read->file, read->offset + done, (char *)read->to + done,
                              read->size - done);

    read->result = rest < 0 ? rest : (int64_t)done + rest;
}

/* Through the page cache: the kernel is told of all before the first one is waited for, and that they are of no use
 * afterwards. */
static void
reads_cached(void *context, struct env_read *reads, unsigned count)
{
    for (unsigned i = 0; i < count; i++)
        if (reads[i].result < 0 && reads[i].file->direct < 0)
            (void)posix_fadvise(reads[i].file->fd, (off_t)reads[i].offset, (off_t)reads[i].size,
                                POSIX_FADV_WILLNEED);
    for (unsigned i = 0; i < count; i++) {
        if (reads[i].result >= 0)
            continue;
        read_finish(context, &reads[i]);
        if (reads[i].file->direct < 0)
            (void)posix_fadvise(reads[i].file->fd, (off_t)reads[i].offset, (off_t)reads[i].size,
                                POSIX_FADV_DONTNEED);
    }
}

static void
files_read_many(void *context, struct env_read *reads, unsigned count)
{
    const struct host_files *files = context;
    struct host_many_item *items = files->many != NULL ? malloc(count * sizeof(*items)) : NULL;
    unsigned begun = 0;

    for (unsigned i = 0; i < count; i++) {
        struct env_read *read = &reads[i];
        uint64_t places = read->offset | (uintptr_t)read->to | read->size;
        read->result = -EAGAIN;
        file_meet(files, read->file);
        int past = read->file->direct >= 0 ? read->file->direct : read->file->past;
        if (host_many_cached(read->file->map, read->offset, read->size))
            read_finish(context, read);
        else if (items != NULL && past >= 0 && places % files->read_unit == 0)
            items[begun++] = (struct host_many_item){past, read};
    }
    if (begun > 0)
        host_many_run(files->many, items, begun);
    for (unsigned i = 0; i < begun; i++)
        if (items[i].read->result >= 0 && items[i].read->result < (int64_t)items[i].read->size)
            read_finish(context, items[i].read);
    free(items);
    reads_cached(context, reads, count);
}

/* Starts the writing and waits for nothing. An error stays with the file: the sync that follows reports it. */
static void
files_behind(void *context, struct env_file *file, uint64_t offset, uint64_t size)
{
    (void)context;
    (void)sync_file_range(file->fd, (off_t)offset, (off_t)size, SYNC_FILE_RANGE_WRITE);
}

static int
files_write(void *context, struct env_file *file, uint64_t offset, const void *from, size_t size)
{
    size_t done = 0;

    (void)context;
    while (done < size) {
        ssize_t part =
            pwrite(file->fd, (const char *)from + done, size - done, (off_t)(offset + done));
        if (part < 0 && errno == EINTR)
            continue;
        if (part <= 0)
            return part < 0 ? -errno : -EIO;
        done += (size_t)part;
    }
    return 0;
}

static int
files_sync(void *context, struct env_file *file)
{
    (void)context;
    while (fdatasync(file->fd) < 0)
        if (errno != EINTR)
            return -errno;
    return 0;
}

static int
files_write_zeros(void *context, struct env_file *file, uint64_t from, uint64_t to)
{
    char *zeros = calloc(1, FILES_ZEROS);
    int error = zeros == NULL ? -ENOMEM : 0;

    while (error == 0 && from < to) {
        size_t part = to - from < FILES_ZEROS ? (size_t)(to - from) : FILES_ZEROS;
        error = files_write(context, file, from, zeros, part);
        from += part;
    }
    free(zeros);
    return error;
}

/* The call itself and not posix_fallocate, which fills with zeros behind one's back where the file system cannot. */
static int
files_preallocate(void *context, struct env_file *file, uint64_t size)
{
    int result;

    do
        result = fallocate(file->fd, 0, 0, (off_t)size);
    while (result < 0 && errno == EINTR);
    if (result == 0)
        return 0;
    if (errno != EOPNOTSUPP && errno != ENOSYS)
        return -errno;
    int64_t present = files_size(context, file);
    if (present < 0)
        return (int)present;
    return files_write_zeros(context, file, (uint64_t)present, size);
}

static int
files_rename(void *context, const char *from, const char *to)
{
    int directory = files_directory(context);
    return renameat(directory, from, directory, to) < 0 ? -errno : 0;
}

static int
files_remove(void *context, const char *name)
{
    return unlinkat(files_directory(context), name, 0) < 0 ? -errno : 0;
}

static int
files_directory_create(void *context, const char *name)
{
    return mkdirat(files_directory(context), name, 0700) < 0 && errno != EEXIST ? -errno : 0;
}

static int
files_directory_open(void *context, const char *name)
{
    int fd = openat(files_directory(context), name[0] == '\0' ? "." : name,
                    O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    return fd < 0 ? -errno : fd;
}

static int
files_directory_sync(void *context, const char *name)
{
    int fd = files_directory_open(context, name);
    int result;

    if (fd < 0)
        return fd;
    do
        result = fsync(fd) < 0 ? -errno : 0;
    while (result == -EINTR);
    close(fd);
    return result;
}

static int
files_directory_list(void *context, const char *name, int (*each)(const char *, void *),
                     void *argument)
{
    int fd = files_directory_open(context, name);
    int result = 0;

    if (fd < 0)
        return fd;
    DIR *listing = fdopendir(fd);
    if (listing == NULL) {
        result = -errno;
        close(fd);
        return result;
    }
    while (result == 0) {
        errno = 0;
        const struct dirent *entry = readdir(listing);
        if (entry == NULL) {
            result = -errno;
            break;
        }
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0)
            result = each(entry->d_name, argument);
    }
    closedir(listing);
    return result;
}

static int
files_map(void *context, struct env_file *file, uint64_t size, void **address)
{
    if (!((const struct host_files *)context)->mappable)
        return -EOPNOTSUPP;
    /* Populated here, so that the first store to a page does not wait for the file system's journal. */
    void *mapping =
        mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, file->fd, 0);
    if (mapping == MAP_FAILED)
        return -errno;
    *address = mapping;
    return 0;
}

static void
files_unmap(void *context, void *address, uint64_t size)
{
    (void)context;
    munmap(address, size);
}

void
host_files_fill(struct env *env)
{
    env->file_open = files_open;
    env->file_close = files_close;
    env->file_size = files_size;
    env->file_read = files_read;
    env->file_behind = files_behind;
    env->file_read_many = files_read_many;
    env->file_write = files_write;
    env->file_sync = files_sync;
    env->file_preallocate = files_preallocate;
    env->file_rename = files_rename;
    env->file_remove = files_remove;
    env->directory_create = files_directory_create;
    env->directory_sync = files_directory_sync;
    env->directory_list = files_directory_list;
    env->file_map = files_map;
    env->file_unmap = files_unmap;
}
