/* machine.c - control groups, the page cache and the kernel's counters. */
#include "machine.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

enum { SECTOR = 512, REMOVE_TRIES = 100, REMOVE_PAUSE_US = 50000 };

static bool
text_write(const char *directory, const char *name, const char *text)
{
    char path[MACHINE_PATH + 64];
    snprintf(path, sizeof path, "%s/%s", directory, name);
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd < 0)
        return false;
    bool written = write(fd, text, strlen(text)) == (ssize_t)strlen(text);
    close(fd);
    return written;
}

/* The caller's group: in version 2 the line "0::PATH", in version 1 the one that names the controller. */
static bool
group_own(bool second, char path[MACHINE_PATH])
{
    char line[MACHINE_PATH];
    bool found = false;
    FILE *file = fopen("/proc/self/cgroup", "re");
    while (file != NULL && !found && fgets(line, sizeof line, file) != NULL) {
        const char *controllers = strchr(line, ':'), *own;
        if (controllers == NULL || (own = strchr(controllers + 1, ':')) == NULL)
            continue;
        found = second ? strncmp(line, "0::", 3) == 0 : strstr(line, ":memory:") != NULL;
        if (found)
            snprintf(path, MACHINE_PATH, "%s", own + 1);
    }
    if (file != NULL)
        fclose(file);
    if (found)
        path[strcspn(path, "\n")] = '\0';
    return found;
}

/* Where the memory controller is mounted: version 1 has a mount of its own for it. */
static bool
group_mount(bool second, char path[MACHINE_PATH])
{
    char device[64], at[MACHINE_PATH], type[64], options[256];
    bool found = false;
    FILE *file = fopen("/proc/mounts", "re");
    while (file != NULL && !found &&
           fscanf(file, "%63s %511s %63s %255s %*[^\n]", device, at, type, options) == 4) {
        if (second)
            found = strcmp(type, "cgroup2") == 0;
        else
            found = strcmp(type, "cgroup") == 0 && strstr(options, "memory") != NULL;
    }
    if (file != NULL)
        fclose(file);
    if (found)
        snprintf(path, MACHINE_PATH, "%s", at);
    return found;
}

static bool
group_create(struct machine_limit *limit, bool second, uint64_t bytes)
{
    char mount[MACHINE_PATH], own[MACHINE_PATH], text[32];
    if (!group_mount(second, mount) || !group_own(second, own))
        return false;
    if (second) { /* refused where processes stand in the group itself: then there is none to be had */
        char parent[MACHINE_PATH];
        if (snprintf(parent, sizeof parent, "%s%s", mount, own) >= MACHINE_PATH)
            return false;
        (void)text_write(parent, "cgroup.subtree_control", "+memory");
    }
    if (snprintf(limit->path, MACHINE_PATH, "%s%s/bench-%d", mount, own, getpid()) >= MACHINE_PATH)
        return false;
    if (mkdir(limit->path, 0755) != 0 && errno != EEXIST)
        return false;
    snprintf(text, sizeof text, "%" PRIu64, bytes);
    if (text_write(limit->path, second ? "memory.max" : "memory.limit_in_bytes", text))
        return true;
    rmdir(limit->path);
    return false;
}

bool
machine_limit_create(struct machine_limit *limit, uint64_t bytes, const char **why)
{
    if (group_create(limit, true, bytes) || group_create(limit, false, bytes))
        return true;
    limit->path[0] = '\0';
    *why = errno == EACCES || errno == EPERM || errno == EROFS
               ? "this user may not make control groups"
               : "no memory controller was found";
    return false;
}

bool
machine_limit_enter(const struct machine_limit *limit)
{
    char text[32];
    if (limit->path[0] == '\0')
        return true;
    snprintf(text, sizeof text, "%d", getpid());
    return text_write(limit->path, "cgroup.procs", text);
}

void
machine_limit_remove(const struct machine_limit *limit)
{
    if (limit->path[0] == '\0')
        return;
    for (int i = 0; i < REMOVE_TRIES && rmdir(limit->path) != 0; i++)
        usleep(REMOVE_PAUSE_US);
}

/* --- files --- */

static uint64_t walk_bytes;

static int
file_forget(const char *path, const struct stat *status, int type, struct FTW *walk)
{
    (void)status;
    (void)walk;
    int fd = type == FTW_F ? open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK) : -1;
    if (fd >= 0) {
        (void)fdatasync(fd);
        (void)posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
        close(fd);
    }
    return 0;
}

void
machine_forget(const char *path)
{
    nftw(path, file_forget, 16, FTW_PHYS);
}

static int
file_count(const char *path, const struct stat *status, int type, struct FTW *walk)
{
    (void)path;
    (void)walk;
    if (type == FTW_F)
        walk_bytes += (uint64_t)status->st_blocks * SECTOR;
    return 0;
}

uint64_t
machine_usage(const char *path)
{
    walk_bytes = 0;
    nftw(path, file_count, 16, FTW_PHYS);
    return walk_bytes;
}

uint64_t
machine_written(int pid)
{
    char path[64], line[128];
    uint64_t bytes = 0, value;
    snprintf(path, sizeof path, "/proc/%d/io", pid != 0 ? pid : getpid());
    FILE *file = fopen(path, "re");
    while (file != NULL && fgets(line, sizeof line, file) != NULL)
        if (sscanf(line, "write_bytes: %" SCNu64, &value) == 1)
            bytes = value;
    if (file != NULL)
        fclose(file);
    return bytes;
}

uint64_t
machine_device_written(const char *path)
{
    struct stat status;
    char name[64];
    uint64_t sectors = 0;
    if (stat(path, &status) != 0)
        return 0;
    snprintf(name, sizeof name, "/sys/dev/block/%u:%u/stat", major(status.st_dev),
             minor(status.st_dev));
    FILE *file = fopen(name, "re");
    if (file == NULL)
        return 0;
    if (fscanf(file, "%*u %*u %*u %*u %*u %*u %" SCNu64, &sectors) != 1)
        sectors = 0;
    fclose(file);
    return sectors * SECTOR;
}
