/* host_read.c - the states of one read. */
#include "host_read.h"

#include <errno.h>
#include <stdlib.h>

void
host_read_init(struct host_read *read, int fd, uint64_t offset, void *to, size_t size, uint64_t tag)
{
    *read = (struct host_read){
        .fd = fd, .offset = offset, .at = to, .left = size, .tag = tag, .done = size == 0};
}

int
host_read_init_direct(struct host_read *read, int fd, uint32_t unit, uint64_t offset, void *to,
                      size_t size, uint64_t tag)
{
    struct host_direct_range range;

    if (size == 0) {
        host_read_init(read, fd, offset, to, size, tag);
        return 0;
    }
    int error = host_direct_range_init(&range, unit, offset, size);
    if (error != 0)
        return error;
    host_read_init(read, fd, range.offset, range.blocks, range.block_size, tag);
    read->range = range;
    read->to = to;
    read->wanted = size;
    return 0;
}

size_t
host_read_chunk(const struct host_read *read)
{
    return read->left < HOST_READ_CHUNK ? read->left : HOST_READ_CHUNK;
}

static void
host_read_end(struct host_read *read, int64_t result)
{
    read->done = true;
    read->result = result;
    if (read->range.blocks == NULL)
        return;
    if (result > 0)
        read->result =
            (int64_t)host_direct_range_copy(&read->range, (uint64_t)result, read->to, read->wanted);
    free(read->range.blocks);
    read->range.blocks = NULL;
}

static void
host_read_failed(struct host_read *read, int64_t error)
{
    bool again = error == -EAGAIN || error == -EINTR || error == -ECANCELED;

    if (again && read->retries++ < HOST_READ_MAX_RETRIES)
        return;
    host_read_end(read, error);
}

void
host_read_answer(struct host_read *read, int64_t result)
{
    if (result < 0) {
        host_read_failed(read, result);
        return;
    }
    if ((uint64_t)result > host_read_chunk(read)) {
        host_read_end(read, -EIO);
        return;
    }
    read->retries = 0;
    read->at += result;
    read->offset += (uint64_t)result;
    read->left -= (size_t)result;
    read->result += result;
    /* A part of a block is the end of the file, and no place to go on from. */
    bool ended = read->range.blocks != NULL && result % read->range.unit != 0;
    if (result == 0 || read->left == 0 || ended)
        host_read_end(read, read->result);
}
