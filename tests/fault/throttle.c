/* throttle.c - a control group that reads nothing. */
#include "fault/throttle.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "support/process.h"
#include "support/require.h"

enum { SLOWEST = 1 /* bytes a second */ };

static bool
group_write(const char *group, const char *name, const char *text)
{
    char path[SCRATCH_PATH];

    scratch_join(path, group, name);
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    bool written = fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text);
    if (fd >= 0)
        close(fd);
    return written;
}

static bool
limit_set(const struct throttle *throttle, bool limited)
{
    char line[64];

    if (throttle->unified)
        snprintf(line, sizeof line, limited ? "%s rbps=%d" : "%s rbps=max", throttle->device,
                 SLOWEST);
    else
        snprintf(line, sizeof line, "%s %d", throttle->device, limited ? SLOWEST : 0);
    return group_write(throttle->group,
                       throttle->unified ? "io.max" : "blkio.throttle.read_bps_device", line);
}

static bool
group_make(struct throttle *throttle, const char *root, bool unified)
{
    throttle->unified = unified;
    snprintf(throttle->group, sizeof throttle->group, "%s/mace-throttle-%d", root, (int)getpid());
    if (unified)
        (void)group_write(root, "cgroup.subtree_control", "+io");
    if (mkdir(throttle->group, 0755) != 0)
        return false;
    if (limit_set(throttle, true))
        return true;
    rmdir(throttle->group);
    return false;
}

const char *
throttle_begin(struct throttle *throttle, pid_t pid, const char *device)
{
    char text[32];
    struct stat stat_;

    require(stat(device, &stat_) == 0 && S_ISBLK(stat_.st_mode), "%s: %s", device, strerror(errno));
    snprintf(throttle->device, sizeof throttle->device, "%u:%u", major(stat_.st_rdev),
             minor(stat_.st_rdev));
    if (!group_make(throttle, "/sys/fs/cgroup/blkio", false) &&
        !group_make(throttle, "/sys/fs/cgroup", true))
        return "no control group can limit what is read from a device";
    snprintf(text, sizeof text, "%d", (int)pid);
    require(group_write(throttle->group, "cgroup.procs", text), "a process cannot change groups");
    return NULL;
}

void
throttle_end(struct throttle *throttle)
{
    (void)limit_set(throttle, false);
    wait_for(rmdir(throttle->group) == 0 || errno != EBUSY);
}
