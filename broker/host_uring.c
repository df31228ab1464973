/* host_uring.c - appends and reads through io_uring. An append is a write and, linked behind it, an fdatasync, and goes to
 * the kernel at once; reads are gathered, so that one system call starts many of them.
 *
 * The ring holds the directory's open file description as a registered file, so that the lock on it is given back only
 * when the last request has ended, even when the process was killed.
 * Everything here is the loop thread's: the kernel cancels requests of a thread that ends.
 */
#include <errno.h>
#include <liburing.h>
#include <stdlib.h>

#include "host_append.h"
#include "host_io.h"
#include "host_read.h"

enum {
    URING_ENTRIES = 256, /* and so many reads at most that the kernel has at a time */
    URING_ENTRIES_LEAST = 4,
    URING_OPEN_TRIES = 4,
};

/* One append or read; the address is the user data of its requests, with bit 0 set for the sync. */
struct uring_item {
    struct uring_item
        *next; /* in the free list or the list of those that wait for a place in the ring */
    bool reading;
    union {
        struct host_append append;
        struct host_read read;
    };
    unsigned pending; /* requests of this step that are not answered yet */
    int64_t write_result, sync_result;
};

struct uring_io {
    struct host_io io; /* first: the backend's functions get its address */
    struct io_uring ring;
    struct uring_item *free;
    struct uring_item *waiting,
        **waiting_last; /* no place in the ring, or not accepted by the kernel */
    struct uring_item *reads, **reads_last; /* gathered */
    unsigned reading;                       /* reads that the kernel has */
    struct uring_item *ended, **ended_last; /* DONE, not taken yet */
};

static void
uring_list_add(struct uring_item ***last, struct uring_item *item)
{
    item->next = NULL;
    **last = item;
    *last = &item->next;
}

static struct uring_item *
uring_list_take(struct uring_item **first, struct uring_item ***last)
{
    struct uring_item *item = *first;

    if (item != NULL) {
        *first = item->next;
        if (*first == NULL)
            *last = first;
    }
    return item;
}

static void
uring_prepare_sync(struct uring_io *io, struct uring_item *item)
{
    struct io_uring_sqe *sqe = io_uring_get_sqe(&io->ring);

    io_uring_prep_fsync(sqe, item->append.fd, IORING_FSYNC_DATASYNC);
    io_uring_sqe_set_data64(sqe, (uint64_t)(uintptr_t)item | 1);
    item->pending++;
}

/* Puts the item's next step into the submission queue; false when there is no place for all of it. */
static bool
uring_prepare(struct uring_io *io, struct uring_item *item)
{
    struct host_append *append = &item->append;

    if (io_uring_sq_space_left(&io->ring) < 2)
        return false;
    item->write_result = 0;
    item->sync_result = HOST_APPEND_NOT_TRIED;
    item->pending = 0;
    if (append->step == HOST_APPEND_WRITE) {
        struct io_uring_sqe *sqe = io_uring_get_sqe(&io->ring);
        io_uring_prep_write(sqe, append->fd, append->at, (unsigned)host_append_chunk(append),
                            append->offset);
        io_uring_sqe_set_data64(sqe, (uint64_t)(uintptr_t)item);
        item->pending++;
        if (host_append_linked(append)) {
            io_uring_sqe_set_flags(sqe, IOSQE_IO_LINK);
            uring_prepare_sync(io, item);
        }
    } else {
        uring_prepare_sync(io, item);
    }
    return true;
}

/* The same for a read. No more of them than the ring has places: their completions always find room, and those of
 * appends as well. */
static bool
uring_prepare_read(struct uring_io *io, struct uring_item *item)
{
    if (io->reading >= io->ring.sq.ring_entries || io_uring_sq_space_left(&io->ring) < 1)
        return false;
    struct io_uring_sqe *sqe = io_uring_get_sqe(&io->ring);
    struct host_read *read = &item->read;
    io_uring_prep_read(sqe, read->fd, read->at, (unsigned)host_read_chunk(read), read->offset);
    io_uring_sqe_set_data64(sqe, (uint64_t)(uintptr_t)item);
    item->pending = 1;
    io->reading++;
    return true;
}

/* Appends first: a commit waits for them. What the kernel does not accept now (EAGAIN, EBUSY, EINTR) stays in the
 * submission queue for the next call. */
static void
uring_submit(struct uring_io *io)
{
    while (io->waiting != NULL && uring_prepare(io, io->waiting))
        uring_list_take(&io->waiting, &io->waiting_last);
    while (io->reads != NULL && uring_prepare_read(io, io->reads))
        uring_list_take(&io->reads, &io->reads_last);
    if (io_uring_sq_ready(&io->ring) > 0)
        io_uring_submit(&io->ring);
}

static void
uring_start(struct uring_io *io, struct uring_item *item)
{
    if (item->reading ? item->read.done : item->append.step == HOST_APPEND_DONE)
        uring_list_add(&io->ended_last, item);
    else
        uring_list_add(item->reading ? &io->reads_last : &io->waiting_last, item);
}

static struct uring_item *
uring_item_new(struct uring_io *io, bool reading)
{
    struct uring_item *item = io->free;

    if (item != NULL)
        io->free = item->next;
    else
        item = malloc(sizeof(*item));
    if (item == NULL)
        abort(); /* a few bytes for what was promised: dying and recovering is what is left */
    item->reading = reading;
    return item;
}

static void
uring_append(struct host_io *base, int fd, uint64_t offset, const void *from, size_t size,
             bool sync, uint64_t tag)
{
    struct uring_io *io = (struct uring_io *)base;
    struct uring_item *item = uring_item_new(io, false);

    host_append_init(&item->append, fd, offset, from, size, sync, tag);
    uring_start(io, item);
    uring_submit(io);
}

static void
uring_read(struct host_io *base, const struct host_read *read)
{
    struct uring_io *io = (struct uring_io *)base;
    struct uring_item *item = uring_item_new(io, true);

    item->read = *read;
    uring_start(io, item);
}

static void
uring_reap(struct uring_io *io)
{
    struct io_uring_cqe *cqe;

    while (io_uring_peek_cqe(&io->ring, &cqe) == 0) {
        uint64_t data = io_uring_cqe_get_data64(cqe);
        struct uring_item *item = (struct uring_item *)(uintptr_t)(data & ~UINT64_C(1));
        if ((data & 1) != 0)
            item->sync_result = cqe->res;
        else
            item->write_result = cqe->res;
        io_uring_cqe_seen(&io->ring, cqe);
        if (--item->pending > 0)
            continue;
        if (item->reading) {
            io->reading--;
            host_read_answer(&item->read, item->write_result);
        } else {
            host_append_answer(&item->append, item->write_result, item->sync_result);
        }
        uring_start(io, item);
    }
}

static void
uring_submit_gathered(struct host_io *base)
{
    struct uring_io *io = (struct uring_io *)base;

    if (io->waiting != NULL || io->reads != NULL || io_uring_sq_ready(&io->ring) > 0)
        uring_submit(io);
}

static unsigned
uring_poll(struct host_io *base, struct env_completion *to, unsigned capacity)
{
    struct uring_io *io = (struct uring_io *)base;
    unsigned count = 0;

    uring_submit_gathered(base);
    uring_reap(io);
    uring_submit_gathered(base); /* what has not been done in full */
    while (count < capacity && io->ended != NULL) {
        struct uring_item *item = uring_list_take(&io->ended, &io->ended_last);
        to[count++] = item->reading
                          ? (struct env_completion){item->read.tag, item->read.result}
                          : (struct env_completion){item->append.tag, item->append.result};
        item->next = io->free;
        io->free = item;
    }
    return count;
}

static int
uring_descriptor(const struct host_io *base)
{
    return ((const struct uring_io *)base)->ring.ring_fd;
}

static void
uring_close(struct host_io *base)
{
    struct uring_io *io = (struct uring_io *)base;

    io_uring_queue_exit(&io->ring);
    while (io->free != NULL) {
        struct uring_item *item = io->free;
        io->free = item->next;
        free(item);
    }
    free(io);
}

static const struct host_io_backend uring_backend = {
    .name = "io_uring",
    .append = uring_append,
    .read = uring_read,
    .submit = uring_submit_gathered,
    .poll = uring_poll,
    .descriptor = uring_descriptor,
    .close = uring_close,
};

/* A ring is charged to the user's locked memory on old kernels, and closed rings are given back late: smaller ones are
 * tried before it is given up. */
static int
uring_create(struct io_uring *ring)
{
    int error = -ENOMEM;
    unsigned entries = URING_ENTRIES;

    for (int i = 0; i < URING_OPEN_TRIES && error == -ENOMEM; i++) {
        error = io_uring_queue_init(entries, ring, 0);
        entries = entries / 4 < URING_ENTRIES_LEAST ? URING_ENTRIES_LEAST : entries / 4;
    }
    return error;
}

/* Asks the ring for a request of the kind that it will serve: a security filter may let the set-up pass and no more. */
static int
uring_probe(struct io_uring *ring)
{
    struct io_uring_cqe *cqe;
    struct io_uring_sqe *sqe = io_uring_get_sqe(ring);

    io_uring_prep_nop(sqe);
    int result = io_uring_submit(ring);
    if (result < 0)
        return result;
    result = io_uring_wait_cqe(ring, &cqe);
    if (result < 0)
        return result;
    result = cqe->res;
    io_uring_cqe_seen(ring, cqe);
    if (result < 0)
        return result;
    struct io_uring_probe *probe = io_uring_get_probe_ring(ring);
    if (probe == NULL)
        return -ENOSYS;
    bool supported = io_uring_opcode_supported(probe, IORING_OP_WRITE) &&
                     io_uring_opcode_supported(probe, IORING_OP_READ) &&
                     io_uring_opcode_supported(probe, IORING_OP_FSYNC);
    io_uring_free_probe(probe);
    return supported ? 0 : -ENOSYS;
}

int
host_uring_open(struct host_io **result, int directory_fd)
{
    struct uring_io *io = calloc(1, sizeof(*io));

    if (io == NULL)
        return -ENOMEM;
    io->io.backend = &uring_backend;
    io->waiting_last = &io->waiting;
    io->reads_last = &io->reads;
    io->ended_last = &io->ended;
    int error = uring_create(&io->ring);
    if (error != 0)
        goto failed;
    error = uring_probe(&io->ring);
    if (error == 0)
        error = io_uring_register_files(&io->ring, &directory_fd, 1);
    if (error != 0) {
        io_uring_queue_exit(&io->ring);
        goto failed;
    }
    *result = &io->io;
    return 0;
failed:
    free(io);
    return error;
}
