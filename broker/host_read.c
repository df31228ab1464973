/* host_read.c - the states of one read. */
#include "host_read.h"

#include <errno.h>

void
host_read_init(struct host_read *read, int fd, uint64_t offset, void *to, size_t size, uint64_t tag)
{
    *read = (struct host_read){
        .fd = fd, .offset = offset, .at = to, .left = size, .tag = tag, .done = size == 0};
}

size_t
host_read_chunk(const struct host_read *read)
{
    return read->left < HOST_READ_CHUNK ? read->left : HOST_READ_CHUNK;
}

static void
host_read_failed(struct host_read *read, int64_t error)
{
    bool again = error == -EAGAIN || error == -EINTR || error == -ECANCELED;

    if (again && read->retries++ < HOST_READ_MAX_RETRIES)
        return;
    read->done = true;
    read->result = error;
}

void
host_read_answer(struct host_read *read, int64_t result)
{
    if (result < 0) {
        host_read_failed(read, result);
        return;
    }
    if ((uint64_t)result > host_read_chunk(read)) {
        read->done = true;
        read->result = -EIO;
        return;
    }
    read->retries = 0;
    read->at += result;
    read->offset += (uint64_t)result;
    read->left -= (size_t)result;
    read->result += result;
    read->done = result == 0 || read->left == 0;
}
