/* host_append.h - one append under way: what to ask the kernel for next, given what it answered. Both I/O backends follow
 * it, and a test can walk it without a disk.
 *
 *            +--- short write: the rest ---+
 *            v                             |
 *   start -> WRITE (and a sync after it) --+--> full, no sync wanted ------------------> DONE 0
 *            ^                             +--> full, and the sync behind it ended ----> DONE 0
 *            +--- EAGAIN, EINTR (bounded) -+--> full, the sync never began: SYNC --...-> DONE
 *                                          +--> any other error ------------------------> DONE -errno
 *
 * A sync counts only when it began after the write had ended in full length; a short write breaks a link in io_uring, and
 * a sync that ran after a part is asked for again after the rest. A sync that failed is never asked for again: after an
 * error a later one may return 0 with the data lost.
 */
#ifndef HOST_APPEND_H
#define HOST_APPEND_H

#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum host_append_step { HOST_APPEND_WRITE, HOST_APPEND_SYNC, HOST_APPEND_DONE };

struct host_append {
    int fd;
    uint64_t offset;   /* of what is left */
    const uint8_t *at; /* what is left */
    size_t left;
    bool sync;
    uint64_t tag;
    enum host_append_step step;
    unsigned retries; /* of calls that did nothing */
    int64_t result;   /* once DONE: 0 or -errno */
};

enum { HOST_APPEND_MAX_RETRIES = 100 };
/* The most one write call takes: io_uring counts in 32 bits, and write(2) stops below 2 GiB. */
#define HOST_APPEND_CHUNK (UINT32_C(1) << 30)
/* The result of a sync that was not tried, as io_uring answers for a broken link. */
#define HOST_APPEND_NOT_TRIED (-ECANCELED)

void host_append_init(struct host_append *append, int fd, uint64_t offset, const void *from,
                      size_t size, bool sync, uint64_t tag);
/* Bytes of the next write. */
size_t host_append_chunk(const struct host_append *append);
/* True when the next write is the last and a sync is wanted behind it. */
bool host_append_linked(const struct host_append *append);
/* Tells what the kernel answered in this step: a step WRITE has a write result (bytes or -errno) and, when linked, a sync
 * result; a step SYNC has a sync result only. Sets the next step. */
void host_append_answer(struct host_append *append, int64_t write_result, int64_t sync_result);

#endif
