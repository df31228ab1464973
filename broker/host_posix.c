/* host_posix.c - appends by system calls on one thread. */
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "host_append.h"
#include "host_clock.h"
#include "host_io.h"
#include "host_sched.h"

enum { LINGER_NS = 20 * 1000 }; /* after an append */

struct posix_item {
    struct posix_item *next;
    struct host_append append;
};

struct posix_io {
    struct host_io io; /* first: the backend's functions get its address */
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    struct posix_item *first, **last; /* under the lock */
    bool closing;                     /* under the lock */
    AO_t
        called; /* 1: there is an item, or the end; written under the lock, looked at without it as a hint */
    struct host_done done;
};

static void
posix_step(struct host_append *append)
{
    int64_t written = 0, synced = HOST_APPEND_NOT_TRIED;

    if (append->step == HOST_APPEND_WRITE) {
        bool linked = host_append_linked(append);
        written = pwrite(append->fd, append->at, host_append_chunk(append), (off_t)append->offset);
        if (written < 0)
            written = -errno;
        if (linked && written == (int64_t)append->left)
            synced = fdatasync(append->fd) < 0 ? -errno : 0;
    } else {
        synced = fdatasync(append->fd) < 0 ? -errno : 0;
    }
    host_append_answer(append, written, synced);
}

/* A client that was answered asks for the next sync at once, and waking this thread would cost a good part of it. */
static void
posix_linger(struct posix_io *io)
{
    uint64_t until_ns = host_clock_ns() + LINGER_NS;

    while (AO_load(&io->called) == 0 && host_clock_ns() < until_ns)
        sched_yield();
}

static void *
posix_thread(void *argument)
{
    struct posix_io *io = argument;

    prctl(PR_SET_NAME, "mace-io");
    host_sched_short();
    pthread_mutex_lock(&io->lock);
    for (;;) {
        if (io->first == NULL && !io->closing) {
            pthread_mutex_unlock(&io->lock);
            posix_linger(io);
            pthread_mutex_lock(&io->lock);
        }
        while (io->first == NULL && !io->closing)
            pthread_cond_wait(&io->changed, &io->lock);
        AO_store(&io->called, 0);
        struct posix_item *item = io->first;
        if (item == NULL)
            break;
        io->first = item->next;
        if (io->first == NULL)
            io->last = &io->first;
        pthread_mutex_unlock(&io->lock);
        while (item->append.step != HOST_APPEND_DONE)
            posix_step(&item->append);
        host_done_push(&io->done, item->append.tag, item->append.result);
        free(item);
        pthread_mutex_lock(&io->lock);
    }
    pthread_mutex_unlock(&io->lock);
    return NULL;
}

/* Memory for one more item cannot be had: the loop does the work itself, late but right. */
static void
posix_append_here(struct posix_io *io, struct host_append *append)
{
    while (append->step != HOST_APPEND_DONE)
        posix_step(append);
    host_done_push(&io->done, append->tag, append->result);
}

static void
posix_append(struct host_io *base, int fd, uint64_t offset, const void *from, size_t size,
             bool sync, uint64_t tag)
{
    struct posix_io *io = (struct posix_io *)base;
    struct host_append append;

    host_append_init(&append, fd, offset, from, size, sync, tag);
    struct posix_item *item = malloc(sizeof(*item));
    if (host_done_reserve(&io->done, base->under_way) != 0 || item == NULL) {
        free(item);
        posix_append_here(io, &append);
        return;
    }
    item->append = append;
    item->next = NULL;
    pthread_mutex_lock(&io->lock);
    *io->last = item;
    io->last = &item->next;
    AO_store(&io->called, 1);
    pthread_mutex_unlock(&io->lock);
    pthread_cond_signal(
        &io->changed); /* after the unlock: the thread would wake into a wait for the lock */
}

static unsigned
posix_poll(struct host_io *base, struct env_completion *to, unsigned capacity)
{
    return host_done_take(&((struct posix_io *)base)->done, to, capacity);
}

static int
posix_descriptor(const struct host_io *base)
{
    return ((const struct posix_io *)base)->done.event;
}

static void
posix_close(struct host_io *base)
{
    struct posix_io *io = (struct posix_io *)base;

    pthread_mutex_lock(&io->lock);
    io->closing = true;
    AO_store(&io->called, 1);
    pthread_cond_signal(&io->changed);
    pthread_mutex_unlock(&io->lock);
    pthread_join(io->thread, NULL);
    pthread_cond_destroy(&io->changed);
    pthread_mutex_destroy(&io->lock);
    host_done_fini(&io->done);
    free(io);
}

static const struct host_io_backend posix_backend = {
    .name = "posix",
    .append = posix_append,
    .poll = posix_poll,
    .descriptor = posix_descriptor,
    .close = posix_close,
};

int
host_posix_open(struct host_io **result)
{
    struct posix_io *io = calloc(1, sizeof(*io));

    if (io == NULL)
        return -ENOMEM;
    io->io.backend = &posix_backend;
    io->last = &io->first;
    pthread_mutex_init(&io->lock, NULL);
    pthread_cond_init(&io->changed, NULL);
    int error = host_done_init(&io->done);
    if (error == 0) {
        error = -pthread_create(&io->thread, NULL, posix_thread, io);
        if (error != 0)
            host_done_fini(&io->done);
    }
    if (error != 0) {
        pthread_cond_destroy(&io->changed);
        pthread_mutex_destroy(&io->lock);
        free(io);
        return error;
    }
    *result = &io->io;
    return 0;
}
