/* host_many.c - see host_many.h. */
#include "host_many.h"

#include <errno.h>
#include <liburing.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

enum {
    MANY_ENTRIES = 64, /* under way at a time: more do not make a disk faster */
    MANY_PAGES = 160,  /* asked for in one question */
};
static const uint64_t many_map_size = UINT64_C(1) << 30; /* as large as a data file gets */

struct host_many {
    struct io_uring ring;
};

int
host_many_open(struct host_many **many)
{
    struct host_many *made = calloc(1, sizeof(*made));

    if (made == NULL)
        return -ENOMEM;
    int error = io_uring_queue_init(MANY_ENTRIES, &made->ring, 0);
    if (error != 0) {
        free(made);
        return error;
    }
    *many = made;
    return 0;
}

void
host_many_close(struct host_many *many)
{
    if (many == NULL)
        return;
    io_uring_queue_exit(&many->ring);
    free(many);
}

static unsigned
many_reap(struct host_many *many)
{
    struct io_uring_cqe *cqe;
    unsigned count = 0;

    for (; io_uring_peek_cqe(&many->ring, &cqe) == 0; count++) {
        struct env_read *read = io_uring_cqe_get_data(cqe);
        read->result = cqe->res;
        io_uring_cqe_seen(&many->ring, cqe);
    }
    return count;
}

/* No more are under way than the ring has places, so no answer is ever lost; and none is given up, because the kernel
 * writes to its memory until it has ended. */
void
host_many_run(struct host_many *many, const struct host_many_item *items, unsigned count)
{
    unsigned begun = 0, ended = 0;

    while (ended < count) {
        for (; begun < count && begun - ended < MANY_ENTRIES; begun++) {
            struct io_uring_sqe *sqe = io_uring_get_sqe(&many->ring);
            struct env_read *read = items[begun].read;
            if (sqe == NULL)
                break;
            io_uring_prep_read(sqe, items[begun].fd, read->to, (unsigned)read->size, read->offset);
            io_uring_sqe_set_data(sqe, read);
        }
        /* What the kernel does not accept now (EAGAIN, EBUSY, EINTR) stays in the queue for the next call. */
        (void)io_uring_submit_and_wait(&many->ring, 1);
        ended += many_reap(many);
    }
}

void *
host_many_map(int fd)
{
    void *map = mmap(NULL, many_map_size, PROT_NONE, MAP_SHARED | MAP_NORESERVE, fd, 0);

    return map == MAP_FAILED ? NULL : map;
}

void
host_many_unmap(void *map)
{
    if (map != NULL)
        munmap(map, many_map_size);
}

bool
host_many_cached(void *map, uint64_t offset, size_t size)
{
    unsigned char there[MANY_PAGES];
    uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE);
    uint64_t begin = offset / page, pages = (offset + size + page - 1) / page - begin;

    if (map == NULL || offset + size > many_map_size || pages > MANY_PAGES ||
        mincore((char *)map + begin * page, pages * page, there) != 0)
        return false;
    for (uint64_t i = 0; i < pages; i++)
        if ((there[i] & 1) == 0)
            return false;
    return true;
}
