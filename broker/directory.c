/* directory.c - the data directory. */
#include "directory.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/un.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "host_status.h"
#include "mshm/status.h"

/* Of linux/magic.h and the file systems' own sources. */
enum {
    TYPE_EXT = 0xEF53,
    TYPE_XFS = 0x58465342,
    TYPE_TMPFS = 0x01021994,
    TYPE_RAMFS = 0x858458f6,
    TYPE_OVERLAY = 0x794c7630,
    TYPE_NFS = 0x6969,
    TYPE_SMB = 0x517B,
    TYPE_CIFS = 0xFF534D42,
    TYPE_SMB2 = 0xFE534D42,
    TYPE_CEPH = 0x00C36400,
    TYPE_AFS = 0x5346414F,
    TYPE_KAFS = 0x6B414653,
    TYPE_9P = 0x01021997,
    TYPE_CODA = 0x73757245,
    TYPE_NCP = 0x564C,
    TYPE_LUSTRE = 0x0BD00BD0,
    TYPE_GPFS = 0x47504653,
    TYPE_VBOX = 0x786F4256,
};

bool
directory_type_network(unsigned long type)
{
    static const unsigned long network[] = {TYPE_NFS,  TYPE_SMB,  TYPE_CIFS,  TYPE_SMB2, TYPE_CEPH,
                                            TYPE_AFS,  TYPE_KAFS, TYPE_9P,    TYPE_CODA, TYPE_NCP,
                                            TYPE_GPFS, TYPE_VBOX, TYPE_LUSTRE};

    for (size_t i = 0; i < sizeof(network) / sizeof(network[0]); i++)
        if ((type & 0xffffffff) == network[i])
            return true;
    return false;
}

/* Only file systems that overwrite written blocks in place: those that copy on write need a new block for every store,
 * and a full disk would then be a SIGBUS. */
bool
directory_type_mappable(unsigned long type)
{
    type &= 0xffffffff;
    return type == TYPE_EXT || type == TYPE_XFS || type == TYPE_TMPFS || type == TYPE_RAMFS;
}

/* The file system under an overlay is the one of its upper directory, which mountinfo names; in a container that name
 * may lead nowhere, and then nothing is promised. */
static bool
directory_upper_mappable(dev_t device)
{
    char line[8192];
    bool mappable = false;
    FILE *mounts = fopen("/proc/self/mountinfo", "re");

    if (mounts == NULL)
        return false;
    while (fgets(line, sizeof(line), mounts) != NULL) {
        unsigned device_major, device_minor;
        struct statfs upper;
        char *option = strstr(line, "upperdir=");
        if (option == NULL || sscanf(line, "%*d %*d %u:%u", &device_major, &device_minor) != 2 ||
            makedev(device_major, device_minor) != device)
            continue;
        option += strlen("upperdir=");
        option[strcspn(option, ",\n")] = '\0';
        mappable =
            statfs(option, &upper) == 0 && directory_type_mappable((unsigned long)upper.f_type);
        break;
    }
    fclose(mounts);
    return mappable;
}

static int
directory_absolute(char *to, const char *path, char *why, size_t why_size)
{
    char current[PATH_MAX] = "";
    int size;

    if (path[0] == '/') {
        size = snprintf(to, PATH_MAX, "%s", path);
    } else {
        if (getcwd(current, sizeof(current)) == NULL) {
            snprintf(why, why_size, "the working directory has no path: %s", strerror(errno));
            return MSHM_NOT_FOUND;
        }
        size = snprintf(to, PATH_MAX, "%s/%s", current, path);
    }
    if (size < 0 || size >= PATH_MAX) {
        snprintf(why, why_size, "the path is longer than %d bytes", PATH_MAX - 1);
        return MSHM_INVALID;
    }
    return MSHM_OK;
}

static int
directory_create(struct directory *directory, mode_t mode, char *why, size_t why_size)
{
    if (mkdir(directory->path, 0700) == 0) {
        directory->created = true;
        /* Explicitly, because the umask is not to decide who may attach. */
        if (chmod(directory->path, mode) == 0)
            return MSHM_OK;
    } else if (errno == EEXIST) {
        return MSHM_OK;
    }
    snprintf(why, why_size, "%s cannot be created: %s", directory->path, strerror(errno));
    return host_status(errno);
}

static int
directory_examine(struct directory *directory, bool force, char *why, size_t why_size)
{
    struct stat status;
    struct statfs file_system;

    if (fstat(directory->fd, &status) < 0 || fstatfs(directory->fd, &file_system) < 0) {
        snprintf(why, why_size, "%s: %s", directory->path, strerror(errno));
        return MSHM_IO;
    }
    unsigned long type = (unsigned long)file_system.f_type;
    if (directory_type_network(type) && !force) {
        snprintf(
            why, why_size,
            "%s is on a network file system (type %#lx), where locks and memory are not shared "
            "between machines; --force serves it all the same",
            directory->path, type);
        return MSHM_INVALID;
    }
    directory->device = status.st_dev;
    directory->inode = status.st_ino;
    directory->mappable = (type & 0xffffffff) == TYPE_OVERLAY
                              ? directory_upper_mappable(status.st_dev)
                              : directory_type_mappable(type);
    return MSHM_OK;
}

int
directory_open(struct directory *directory, const char *path, bool create, mode_t mode, bool force,
               char *why, size_t why_size)
{
    memset(directory, 0, sizeof(*directory));
    directory->fd = -1;
    int status = directory_absolute(directory->path, path, why, why_size);
    if (status == MSHM_OK && create)
        status = directory_create(directory, mode, why, why_size);
    if (status != MSHM_OK)
        goto failed;
    directory->fd = open(directory->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (directory->fd < 0) {
        snprintf(why, why_size, "%s cannot be opened: %s", directory->path, strerror(errno));
        status = host_status(errno);
        goto failed;
    }
    /* Looking is not enough: the broker will make files here. */
    if (faccessat(directory->fd, ".", R_OK | W_OK | X_OK, AT_EACCESS) < 0) {
        struct stat found;
        int error = errno;
        if (fstat(directory->fd, &found) < 0)
            memset(&found, 0, sizeof(found));
        snprintf(why, why_size, "%s (mode %04o, owner %u) cannot be written: %s", directory->path,
                 (unsigned)(found.st_mode & 07777), (unsigned)found.st_uid, strerror(error));
        status = host_status(error);
        goto failed;
    }
    status = directory_examine(directory, force, why, why_size);
    if (status == MSHM_OK)
        return MSHM_OK;
failed:
    directory_close(directory, true);
    return status;
}

void
directory_close(struct directory *directory, bool forget)
{
    if (directory->fd >= 0)
        close(directory->fd);
    directory->fd = -1;
    if (forget && directory->created)
        rmdir(directory->path); /* refused by the kernel unless it is empty */
    directory->created = false;
}

bool
directory_same(const struct directory *directory)
{
    struct stat status;

    if (stat(directory->path, &status) < 0)
        return errno != ENOENT && errno != ENOTDIR;
    return status.st_dev == directory->device && status.st_ino == directory->inode;
}

static int
directory_socket_inside(int directory_fd, int socket_fd,
                        int (*call)(int, const struct sockaddr *, socklen_t))
{
    struct sockaddr_un address = {.sun_family = AF_UNIX, .sun_path = DIRECTORY_SOCKET};
    int before = open(".", O_PATH | O_DIRECTORY | O_CLOEXEC);

    if (fchdir(directory_fd) < 0) {
        if (before >= 0)
            close(before);
        return -1;
    }
    int result = call(socket_fd, (const struct sockaddr *)&address, sizeof(address));
    int error = errno;
    if (before < 0 || fchdir(before) < 0) {
        if (chdir("/") < 0)
            error = errno;
    }
    if (before >= 0)
        close(before);
    errno = error;
    return result;
}

int
directory_socket(int directory_fd, int socket_fd,
                 int (*call)(int, const struct sockaddr *, socklen_t))
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    char link[64];

    snprintf(link, sizeof(link), "/proc/self/fd/%d/.", directory_fd);
    if (access(link, X_OK) < 0)
        return directory_socket_inside(directory_fd, socket_fd, call);
    snprintf(address.sun_path, sizeof(address.sun_path), "/proc/self/fd/%d/" DIRECTORY_SOCKET,
             directory_fd);
    return call(socket_fd, (const struct sockaddr *)&address, sizeof(address));
}
