/* shim.c - preloaded into a broker: does what the test's control says at each call of I/O or clocks. See fault.h. */
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "fault/fault.h"

static struct fault_control *control;

static void __attribute__((constructor)) shim_init(void)
{
    const char *path = getenv("MACE_FAULT_CONTROL");
    int fd = path == NULL ? -1 : open(path, O_RDWR | O_CLOEXEC);

    if (fd < 0)
        return;
    void *memory = mmap(NULL, sizeof *control, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    close(fd);
    if (memory != MAP_FAILED)
        control = memory;
}

static int
is_on(enum fault_kind kind)
{
    return control != NULL && (AO_load_acquire(&control->kinds) & kind) != 0;
}

/* True for the one call that a fault is for. */
static int
take(enum fault_kind kind)
{
    if (!is_on(kind))
        return 0;
    AO_t kinds = AO_load(&control->kinds);
    while ((kinds & kind) != 0) {
        if (AO_compare_and_swap_full(&control->kinds, kinds, kinds & ~(AO_t)kind)) {
            AO_fetch_and_add1(&control->hits);
            return 1;
        }
        kinds = AO_load(&control->kinds);
    }
    return 0;
}

/* True for the one call that was planned. */
static int
planned(enum fault_call call)
{
    if (control == NULL || (AO_load(&control->calls) & call) == 0)
        return 0;
    if (AO_fetch_and_add1(&control->counted) + 1 != AO_load(&control->nth))
        return 0;
    AO_fetch_and_add1(&control->hits);
    errno = (int)AO_load(&control->error);
    return 1;
}

/* Memory that the clients map is a file without a name. */
static int
is_named(int fd)
{
    struct stat status;
    return fstat(fd, &status) == 0 && status.st_nlink > 0;
}

/* The device does not answer. */
static void
stand_still(void)
{
    const struct timespec pause = {0, 1000000};

    if (!is_on(FAULT_SLOW))
        return;
    AO_fetch_and_add1(&control->hits);
    while (is_on(FAULT_SLOW))
        syscall(SYS_clock_nanosleep, CLOCK_MONOTONIC, 0, &pause, NULL);
}

static void
count_direct(int fd, int reading)
{
    if (control != NULL && (fcntl(fd, F_GETFL) & O_DIRECT) != 0)
        AO_fetch_and_add1(reading ? &control->direct_reads : &control->direct_writes);
}

ssize_t
pread(int fd, void *bytes, size_t size, off_t offset)
{
    stand_still();
    count_direct(fd, 1);
    if (planned(FAULT_CALL_READ))
        return -1;
    if (is_on(FAULT_SHORT_READS)) {
        if (AO_fetch_and_add1(&control->hits) % 3 == 0) {
            errno = EINTR;
            return -1;
        }
        size = size > 1 ? size / 2 : size;
    }
    return syscall(SYS_pread64, fd, bytes, size, offset);
}

int
openat(int directory, const char *name, int flags, ...)
{
    mode_t mode = 0;

    if ((flags & O_CREAT) != 0 || (flags & O_TMPFILE) == O_TMPFILE) {
        va_list arguments;
        va_start(arguments, flags);
        mode = va_arg(arguments, mode_t);
        va_end(arguments);
    }
    if ((flags & O_DIRECT) != 0 && is_on(FAULT_NO_DIRECT)) {
        AO_fetch_and_add1(&control->hits);
        errno = EINVAL;
        return -1;
    }
    return (int)syscall(SYS_openat, directory, name, flags, mode);
}

int
fsync(int fd)
{
    return planned(FAULT_CALL_SYNC) ? -1 : (int)syscall(SYS_fsync, fd);
}

int
renameat(int from_fd, const char *from, int to_fd, const char *to)
{
    return planned(FAULT_CALL_NAMES) ? -1 : (int)syscall(SYS_renameat, from_fd, from, to_fd, to);
}

int
unlinkat(int fd, const char *name, int flags)
{
    return planned(FAULT_CALL_NAMES) ? -1 : (int)syscall(SYS_unlinkat, fd, name, flags);
}

ssize_t
pwrite(int fd, const void *bytes, size_t size, off_t offset)
{
    stand_still();
    count_direct(fd, 0);
    if (planned(FAULT_CALL_WRITE))
        return -1;
    if (take(FAULT_WRITE_EIO)) {
        errno = EIO;
        return -1;
    }
    if (is_on(FAULT_SHORT_WRITES)) {
        if (AO_fetch_and_add1(&control->hits) % 3 == 0) {
            errno = EINTR;
            return -1;
        }
        size = size > 1 ? size / 2 : size;
    }
    return syscall(SYS_pwrite64, fd, bytes, size, offset);
}

int
fdatasync(int fd)
{
    stand_still();
    if (planned(FAULT_CALL_SYNC))
        return -1;
    if (take(FAULT_SYNC_EIO)) {
        errno = EIO;
        return -1;
    }
    return (int)syscall(SYS_fdatasync, fd);
}

int
fallocate(int fd, int mode, off_t offset, off_t size)
{
    if (is_on(FAULT_NO_SPACE)) {
        AO_fetch_and_add1(&control->hits);
        errno = ENOSPC;
        return -1;
    }
    if (is_named(fd) && planned(FAULT_CALL_ALLOCATE))
        return -1;
    return (int)syscall(SYS_fallocate, fd, mode, offset, size);
}

int
clock_gettime(clockid_t clock, struct timespec *now)
{
    int result = (int)syscall(SYS_clock_gettime, clock, now);

    if (clock == CLOCK_REALTIME && is_on(FAULT_REALTIME_JUMPS)) {
        long years = (long)(AO_fetch_and_add1(&control->hits) % 3) - 1;
        now->tv_sec += years * 5 * 365 * 86400;
    }
    if (clock == CLOCK_MONOTONIC && is_on(FAULT_MONOTONIC_GAP))
        now->tv_sec += 10 * 3600;
    return result;
}

time_t
time(time_t *to)
{
    struct timespec now;

    clock_gettime(CLOCK_REALTIME, &now);
    if (to != NULL)
        *to = now.tv_sec;
    return now.tv_sec;
}
