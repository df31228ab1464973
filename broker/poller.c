/* poller.c - epoll. */
#include "poller.h"

#include <errno.h>
#include <stdbool.h>
#include <sys/epoll.h>
#include <time.h>
#include <unistd.h>

enum { POLLER_BATCH = 64 };
#define POLLER_SECOND_NS UINT64_C(1000000000)

int
poller_init(struct poller *poller)
{
    poller->epoll = epoll_create1(EPOLL_CLOEXEC);
    return poller->epoll < 0 ? -errno : 0;
}

void
poller_fini(struct poller *poller)
{
    if (poller->epoll >= 0)
        close(poller->epoll);
    poller->epoll = -1;
}

int
poller_add(struct poller *poller, struct poller_source *source, uint32_t events)
{
    struct epoll_event event = {.events = events, .data.ptr = source};
    return epoll_ctl(poller->epoll, EPOLL_CTL_ADD, source->fd, &event) < 0 ? -errno : 0;
}

int
poller_change(struct poller *poller, struct poller_source *source, uint32_t events)
{
    struct epoll_event event = {.events = events, .data.ptr = source};
    return epoll_ctl(poller->epoll, EPOLL_CTL_MOD, source->fd, &event) < 0 ? -errno : 0;
}

void
poller_remove(struct poller *poller, struct poller_source *source)
{
    if (source->fd >= 0)
        epoll_ctl(poller->epoll, EPOLL_CTL_DEL, source->fd, NULL);
    source->fd = -1;
}

void
poller_close(struct poller *poller, struct poller_source *source)
{
    int fd = source->fd;

    poller_remove(poller, source);
    if (fd >= 0)
        close(fd);
}

/* Kernels before 5.11 have no timeout finer than a millisecond; there it is rounded up. */
static int
poller_take(struct poller *poller, struct epoll_event *events, uint64_t timeout_ns)
{
    static bool coarse;

    if (!coarse) {
        struct timespec timeout = {.tv_sec = (time_t)(timeout_ns / POLLER_SECOND_NS),
                                   .tv_nsec = (long)(timeout_ns % POLLER_SECOND_NS)};
        int count = epoll_pwait2(poller->epoll, events, POLLER_BATCH,
                                 timeout_ns == UINT64_MAX ? NULL : &timeout, NULL);
        if (count >= 0 || (errno != ENOSYS && errno != EPERM))
            return count;
        coarse = true;
    }
    uint64_t milliseconds = timeout_ns / 1000000 + (timeout_ns % 1000000 != 0);
    if (timeout_ns != UINT64_MAX && milliseconds > 60000)
        milliseconds = 60000;
    return epoll_wait(poller->epoll, events, POLLER_BATCH,
                      timeout_ns == UINT64_MAX ? -1 : (int)milliseconds);
}

int
poller_wait(struct poller *poller, uint64_t timeout_ns)
{
    struct epoll_event events[POLLER_BATCH];
    int count = poller_take(poller, events, timeout_ns);

    for (int i = 0; i < count; i++) {
        struct poller_source *source = events[i].data.ptr;
        if (source->fd >= 0)
            source->ready(source, events[i].events);
    }
    return count < 0 ? 0 : count;
}
