/* host_read.h - one read under way: what to ask the kernel for next, given what it answered. Both I/O backends follow it,
 * and a test can walk it without a disk.
 *
 *   start -> READ --short: the rest, as a short read need not be the end--> READ
 *                 --nothing: the end of the file, or all is there---------> DONE, bytes read
 *                 --EAGAIN, EINTR (bounded)-------------------------------> READ
 *                 --any other error---------------------------------------> DONE -errno
 */
#ifndef HOST_READ_H
#define HOST_READ_H

#include "host_direct.h"

struct host_read {
    int fd;
    uint64_t offset; /* of what is left */
    uint8_t *at;     /* where what is left goes */
    size_t left;
    uint64_t tag;
    bool done;
    unsigned retries; /* of calls that did nothing */
    int64_t result;   /* bytes read so far; once done: those, or -errno */
    /* Past the page cache: whole blocks are read, and what was wanted of them is copied in the end. */
    struct host_direct_range range; /* blocks NULL: not so */
    void *to;
    size_t wanted;
};

enum { HOST_READ_MAX_RETRIES = 100 };
/* The most one call reads. */
#define HOST_READ_CHUNK (UINT32_C(1) << 30)

void host_read_init(struct host_read *read, int fd, uint64_t offset, void *to, size_t size,
                    uint64_t tag);
/* The same through a descriptor with O_DIRECT (`unit`: host_direct_read_unit): 0 or -ENOMEM. */
int host_read_init_direct(struct host_read *read, int fd, uint32_t unit, uint64_t offset, void *to,
                          size_t size, uint64_t tag);
/* Bytes of the next call. */
size_t host_read_chunk(const struct host_read *read);
/* Tells what the kernel answered: bytes or -errno. */
void host_read_answer(struct host_read *read, int64_t result);

#endif
