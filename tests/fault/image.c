/* image.c - a file system behind a loop device. */
#include "fault/image.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <linux/loop.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "support/process.h"

/* Of ext4, as of XFS: not in a header for programs. */
#define IMAGE_SHUTDOWN _IOR('X', 125, uint32_t)
enum { SHUTDOWN_WITH_JOURNAL = 1, SHUTDOWN_AT_ONCE = 2, TRIES = 8 };

static bool
format(const char *file)
{
    int status;

    fflush(stdout);
    pid_t pid = fork();
    if (pid == 0) {
        int null = open("/dev/null", O_RDWR | O_CLOEXEC);
        dup2(null, 1);
        dup2(null, 2);
        setenv("PATH", "/usr/sbin:/sbin:/usr/bin:/bin", 1);
        execlp("mkfs.ext4", "mkfs.ext4", "-q", "-F", "-E", "lazy_itable_init=0", file,
               (char *)NULL);
        _exit(127);
    }
    return pid > 0 && waitpid(pid, &status, 0) == pid && status == 0;
}

/* A free loop device for the file; another process may take the number that is free. */
static bool
attach(struct image *image)
{
    int control = open("/dev/loop-control", O_RDWR | O_CLOEXEC);
    int file = open(image->file, O_RDWR | O_CLOEXEC);

    for (int i = 0; i < TRIES && control >= 0 && file >= 0 && image->loop < 0; i++) {
        int number = ioctl(control, LOOP_CTL_GET_FREE);
        struct loop_config config = {.fd = (uint32_t)file, .block_size = 512};
        config.info.lo_flags = LO_FLAGS_AUTOCLEAR;
        snprintf(image->device, sizeof image->device, "/dev/loop%d", number);
        int loop = number < 0 ? -1 : open(image->device, O_RDWR | O_CLOEXEC);
        if (loop >= 0 && ioctl(loop, LOOP_CONFIGURE, &config) == 0)
            image->loop = loop;
        else if (loop >= 0)
            close(loop);
    }
    if (control >= 0)
        close(control);
    if (file >= 0)
        close(file);
    return image->loop >= 0;
}

static bool
attach_mount(struct image *image)
{
    return mount(image->device, image->mounted, "ext4", MS_NOATIME, NULL) == 0;
}

const char *
image_create(struct image *image, const char *directory, const char *name, unsigned size_mib)
{
    memset(image, 0, sizeof *image);
    image->loop = -1;
    scratch_join(image->mounted, directory, name);
    require(snprintf(image->file, sizeof image->file, "%s.img", image->mounted) <
                (int)sizeof image->file,
            "path");
    if (unshare(CLONE_NEWNS) != 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0)
        return "no mount name space";
    int fd = open(image->file, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    require(fd >= 0 && ftruncate(fd, (off_t)size_mib << 20) == 0 && close(fd) == 0, "%s: %s",
            image->file, strerror(errno));
    require(mkdir(image->mounted, 0700) == 0, "%s", strerror(errno));
    if (!format(image->file))
        return "mkfs.ext4 does not work";
    if (!attach(image))
        return "no loop device";
    if (!attach_mount(image))
        return "ext4 cannot be mounted";
    return NULL;
}

static void
detach_mount(struct image *image)
{
    wait_for(umount(image->mounted) == 0 || errno != EBUSY);
    struct stat inside, outside;
    char parent[SCRATCH_PATH + 4];
    snprintf(parent, sizeof parent, "%s/..", image->mounted);
    require(stat(image->mounted, &inside) == 0 && stat(parent, &outside) == 0 &&
                inside.st_dev == outside.st_dev,
            "%s is still mounted", image->mounted);
}

void
image_destroy(struct image *image)
{
    if (image->loop < 0)
        return;
    detach_mount(image);
    close(image->loop);
    image->loop = -1;
}

/* --- power --- */

void
image_cut(struct image *image, bool journal)
{
    uint32_t how = journal ? SHUTDOWN_WITH_JOURNAL : SHUTDOWN_AT_ONCE;
    int fd = open(image->mounted, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

    require(fd >= 0 && ioctl(fd, IMAGE_SHUTDOWN, &how) == 0, "the power cannot be cut: %s",
            strerror(errno));
    close(fd);
}

void
image_restore(struct image *image)
{
    detach_mount(image);
    require(attach_mount(image), "%s cannot be mounted again: %s", image->device, strerror(errno));
}

/* --- waiting --- */

static int freezing = -1; /* its end: the guard thaws */

/* A frozen file system outlives who froze it, and takes everybody with it who writes there. */
static void
guard_start(int fd)
{
    int ends[2];
    char byte;

    require(pipe2(ends, O_CLOEXEC) == 0, "%s", strerror(errno));
    fflush(stdout);
    pid_t pid = fork();
    require(pid >= 0, "fork: %s", strerror(errno));
    if (pid == 0) {
        setsid();
        close(ends[1]);
        while (read(ends[0], &byte, 1) < 0 && errno == EINTR)
            continue;
        ioctl(fd, FITHAW, 0);
        _exit(0);
    }
    close(ends[0]);
    freezing = ends[1];
}

void
image_freeze(struct image *image)
{
    int fd = open(image->mounted, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

    require(fd >= 0, "%s: %s", image->mounted, strerror(errno));
    guard_start(fd);
    require(ioctl(fd, FIFREEZE, 0) == 0, "it cannot be frozen: %s", strerror(errno));
    close(fd);
}

void
image_thaw(struct image *image)
{
    int fd = open(image->mounted, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

    require(fd >= 0 && ioctl(fd, FITHAW, 0) == 0, "it cannot be thawed: %s", strerror(errno));
    close(fd);
    close(freezing);
    freezing = -1;
}

unsigned
image_in_flight(const struct image *image)
{
    char path[64];
    unsigned reads = 0, writes = 0;

    snprintf(path, sizeof path, "/sys/block/%s/inflight", image->device + strlen("/dev/"));
    FILE *file = fopen(path, "re");
    require(file != NULL && fscanf(file, "%u %u", &reads, &writes) == 2, "%s", path);
    fclose(file);
    return reads + writes;
}
