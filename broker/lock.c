/* lock.c - the directory lock. */
#include "lock.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "directory.h"
#include "events.h"
#include "host_status.h"
#include "mshm/status.h"

enum { LOCK_WAIT_FIRST_MS = 1, LOCK_WAIT_LONGEST_MS = 32, LOCK_WAIT_REPORT_MS = 1000 };

/* The number of a mask in /proc/PID/status. */
static unsigned long long
lock_mask(const char *status, const char *name)
{
    const char *line = strstr(status, name);
    return line != NULL ? strtoull(line + strlen(name), NULL, 16) : 0;
}

/* A killed broker whose last I/O has not ended keeps its socket, and who connects there is queued for ever: its main
 * thread is a zombie then, or waits in the kernel with SIGKILL pending. A number that this process cannot see, or no
 * /proc: believed. */
static bool
lock_listener_lives(int fd)
{
    struct ucred listener;
    socklen_t size = sizeof(listener);
    char path[32], status[4096];

    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &listener, &size) < 0 || listener.pid <= 0)
        return true;
    snprintf(path, sizeof(path), "/proc/%d/status", (int)listener.pid);
    int file = open(path, O_RDONLY | O_CLOEXEC);
    if (file < 0)
        return true;
    ssize_t got = read(file, status, sizeof(status) - 1);
    close(file);
    status[got > 0 ? got : 0] = '\0';
    unsigned long long pending = lock_mask(status, "\nSigPnd:") | lock_mask(status, "\nShdPnd:");
    return strstr(status, "\nState:\tZ") == NULL && strstr(status, "\nState:\tX") == NULL &&
           (pending >> (SIGKILL - 1) & 1) == 0;
}

bool
lock_served(int directory_fd)
{
    int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

    if (fd < 0)
        return false;
    /* A full backlog is EAGAIN: somebody listens. */
    bool served = directory_socket(directory_fd, fd, connect) == 0 ? lock_listener_lives(fd)
                                                                   : errno == EAGAIN;
    close(fd);
    return served;
}

static int
lock_open(struct lock *lock, int directory_fd, char *why, size_t why_size)
{
    int flags = O_RDWR | O_CLOEXEC | O_NOFOLLOW;

    lock->created = true;
    lock->file = openat(directory_fd, "LOCK", flags | O_CREAT | O_EXCL, 0644);
    if (lock->file < 0 && errno == EEXIST) {
        lock->created = false;
        lock->file = openat(directory_fd, "LOCK", flags | O_CREAT, 0644);
    }
    if (lock->file >= 0)
        return MSHM_OK;
    snprintf(why, why_size, "LOCK cannot be opened: %s", strerror(errno));
    return host_status(errno);
}

/* 1: taken, 0: busy, else a status. */
static int
lock_try(int fd, char *why, size_t why_size)
{
    while (flock(fd, LOCK_EX | LOCK_NB) < 0) {
        if (errno == EWOULDBLOCK)
            return 0;
        if (errno != EINTR) {
            snprintf(why, why_size, "the directory cannot be locked: %s", strerror(errno));
            return MSHM_IO;
        }
    }
    return 1;
}

static void
lock_report_wait(int file)
{
    char text[200];
    ssize_t size = pread(file, text, sizeof(text) - 1, 0);

    text[size > 0 ? size : 0] = '\0';
    text[strcspn(text, "\n")] = '\0';
    events_print(ENV_LOG_INFO, "waits for the lock of the directory; LOCK says: %s", text);
}

/* For people; a failure to write it is no reason not to serve. */
static void
lock_write_text(int file)
{
    char text[100], when[40];
    time_t now = time(NULL);
    struct tm parts;

    gmtime_r(&now, &parts);
    strftime(when, sizeof(when), "%Y-%m-%dT%H:%M:%SZ", &parts);
    int size = snprintf(text, sizeof(text), "mace-broker pid %d started %s\n", (int)getpid(), when);
    if (ftruncate(file, 0) < 0 || pwrite(file, text, (size_t)size, 0) != size)
        events_print(ENV_LOG_WARNING, "LOCK cannot be written: %s", strerror(errno));
}

static int
lock_wait(struct lock *lock, int directory_fd, int cancel_fd, char *why, size_t why_size)
{
    bool first_in_line = false;
    int waited_ms = 0, pause_ms = LOCK_WAIT_FIRST_MS;

    for (;;) {
        int taken = 1;
        if (!first_in_line) {
            taken = lock_try(lock->file, why, why_size);
            first_in_line = taken == 1;
        }
        if (first_in_line)
            taken = lock_try(directory_fd, why, why_size);
        if (taken != 0)
            return taken == 1 ? MSHM_OK : taken;
        if (lock_served(directory_fd))
            return MSHM_EXISTS;
        if (waited_ms < LOCK_WAIT_REPORT_MS && waited_ms + pause_ms >= LOCK_WAIT_REPORT_MS)
            lock_report_wait(lock->file);
        struct pollfd cancel = {.fd = cancel_fd, .events = POLLIN};
        if (poll(&cancel, 1, pause_ms) == 1) {
            snprintf(why, why_size, "stopped while it waited for the lock of the directory");
            return MSHM_BROKER_LOST;
        }
        waited_ms += pause_ms;
        pause_ms = pause_ms * 2 > LOCK_WAIT_LONGEST_MS ? LOCK_WAIT_LONGEST_MS : pause_ms * 2;
    }
}

int
lock_take(struct lock *lock, int directory_fd, int cancel_fd, char *why, size_t why_size)
{
    int status = lock_open(lock, directory_fd, why, why_size);

    if (status != MSHM_OK)
        return status;
    status = lock_wait(lock, directory_fd, cancel_fd, why, why_size);
    if (status == MSHM_OK)
        lock_write_text(lock->file);
    else
        lock_settled(lock);
    return status;
}

void
lock_settled(struct lock *lock)
{
    if (lock->file >= 0)
        close(lock->file);
    lock->file = -1;
}

void
lock_forget(struct lock *lock, int directory_fd)
{
    if (lock->created)
        unlinkat(directory_fd, "LOCK", 0);
    lock->created = false;
    lock_settled(lock);
}
