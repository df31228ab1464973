/* host_posix.c - appends by system calls on one thread, reads on several, so that the device has many to choose from. */
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "host_append.h"
#include "host_clock.h"
#include "host_io.h"
#include "host_read.h"
#include "host_sched.h"
#include "mshm/protocol.h"

enum { LINGER_NS = 20 * 1000 }; /* after an append */

struct posix_item {
    struct posix_item *next;
    union {
        struct host_append append;
        struct host_read read;
    };
};

/* Orders on their way to a thread; under the lock. */
struct posix_queue {
    struct posix_item *first, **last;
    pthread_cond_t changed;
};

struct posix_io {
    struct host_io io; /* first: the backend's functions get its address */
    pthread_t appender, readers[HOST_READERS];
    unsigned reader_count; /* that were started */
    bool appending;        /* the appender was started */
    pthread_mutex_t lock;
    struct posix_queue appends, reads;
    bool closing; /* under the lock */
    AO_t
        called; /* 1: there is an append, or the end; written under the lock, looked at without it as a hint */
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

static void
posix_read_step(struct host_read *read)
{
    ssize_t got = pread(read->fd, read->at, host_read_chunk(read), (off_t)read->offset);
    host_read_answer(read, got < 0 ? -errno : got);
}

static void
posix_queue_put(struct posix_io *io, struct posix_queue *queue, struct posix_item *item)
{
    item->next = NULL;
    pthread_mutex_lock(&io->lock);
    *queue->last = item;
    queue->last = &item->next;
    if (queue == &io->appends)
        AO_store(&io->called, 1);
    pthread_mutex_unlock(&io->lock);
    pthread_cond_signal(
        &queue->changed); /* after the unlock: the thread would wake into a wait for the lock */
}

/* A client that was answered asks for the next sync at once, and waking this thread would cost a good part of it. */
static void
posix_linger(struct posix_io *io)
{
    uint64_t until_ns = host_clock_ns() + LINGER_NS;

    while (AO_load(&io->called) == 0 && host_clock_ns() < until_ns && mshm_yield(NULL))
        ;
}

/* Waits; NULL when the queue is empty and closing. */
static struct posix_item *
posix_queue_take(struct posix_io *io, struct posix_queue *queue)
{
    pthread_mutex_lock(&io->lock);
    while (queue->first == NULL && !io->closing)
        pthread_cond_wait(&queue->changed, &io->lock);
    struct posix_item *item = queue->first;
    if (item != NULL) {
        queue->first = item->next;
        if (queue->first == NULL)
            queue->last = &queue->first;
    }
    if (queue == &io->appends)
        AO_store(&io->called, queue->first != NULL || io->closing);
    pthread_mutex_unlock(&io->lock);
    return item;
}

static void *
posix_appender(void *argument)
{
    struct posix_io *io = argument;
    struct posix_item *item;

    prctl(PR_SET_NAME, "mace-io");
    host_sched_short();
    for (;;) {
        posix_linger(io);
        item = posix_queue_take(io, &io->appends);
        if (item == NULL)
            break;
        while (item->append.step != HOST_APPEND_DONE)
            posix_step(&item->append);
        host_done_push(&io->done, item->append.tag, item->append.result);
        free(item);
    }
    return NULL;
}

static void *
posix_reader(void *argument)
{
    struct posix_io *io = argument;
    struct posix_item *item;

    prctl(PR_SET_NAME, "mace-read");
    while ((item = posix_queue_take(io, &io->reads)) != NULL) {
        while (!item->read.done)
            posix_read_step(&item->read);
        host_done_push(&io->done, item->read.tag, item->read.result);
        free(item);
    }
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
    posix_queue_put(io, &io->appends, item);
}

static void
posix_read(struct host_io *base, const struct host_read *started)
{
    struct posix_io *io = (struct posix_io *)base;
    struct host_read read = *started;
    struct posix_item *item = malloc(sizeof(*item));
    if (host_done_reserve(&io->done, base->under_way) != 0 || item == NULL) {
        free(item);
        while (!read.done)
            posix_read_step(&read);
        host_done_push(&io->done, read.tag, read.result);
        return;
    }
    item->read = read;
    posix_queue_put(io, &io->reads, item);
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

/* Also after an open that got half way. */
static void
posix_close(struct host_io *base)
{
    struct posix_io *io = (struct posix_io *)base;

    pthread_mutex_lock(&io->lock);
    io->closing = true;
    AO_store(&io->called, 1);
    pthread_cond_broadcast(&io->appends.changed);
    pthread_cond_broadcast(&io->reads.changed);
    pthread_mutex_unlock(&io->lock);
    if (io->appending)
        pthread_join(io->appender, NULL);
    for (unsigned i = 0; i < io->reader_count; i++)
        pthread_join(io->readers[i], NULL);
    pthread_cond_destroy(&io->appends.changed);
    pthread_cond_destroy(&io->reads.changed);
    pthread_mutex_destroy(&io->lock);
    host_done_fini(&io->done);
    free(io);
}

static const struct host_io_backend posix_backend = {
    .name = "posix",
    .append = posix_append,
    .read = posix_read,
    .poll = posix_poll,
    .descriptor = posix_descriptor,
    .close = posix_close,
};

static int
posix_start(struct posix_io *io, unsigned readers)
{
    int error = pthread_create(&io->appender, NULL, posix_appender, io);

    io->appending = error == 0;
    for (; error == 0 && io->reader_count < readers; io->reader_count += error == 0)
        error = pthread_create(&io->readers[io->reader_count], NULL, posix_reader, io);
    return -error;
}

int
host_posix_open(struct host_io **result, unsigned readers)
{
    struct posix_io *io = calloc(1, sizeof(*io));

    if (io == NULL)
        return -ENOMEM;
    io->io.backend = &posix_backend;
    io->appends.last = &io->appends.first;
    io->reads.last = &io->reads.first;
    int error = host_done_init(&io->done);
    if (error != 0) {
        free(io);
        return error;
    }
    pthread_mutex_init(&io->lock, NULL);
    pthread_cond_init(&io->appends.changed, NULL);
    pthread_cond_init(&io->reads.changed, NULL);
    error = posix_start(io, readers < HOST_READERS ? readers : HOST_READERS);
    if (error != 0) {
        posix_close(&io->io);
        return error;
    }
    *result = &io->io;
    return 0;
}
