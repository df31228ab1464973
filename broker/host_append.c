/* host_append.c - the states of one append. */
#include "host_append.h"

void
host_append_init(struct host_append *append, int fd, uint64_t offset, const void *from, size_t size,
                 bool sync, uint64_t tag)
{
    *append = (struct host_append){
        .fd = fd,
        .offset = offset,
        .at = from,
        .left = size,
        .sync = sync,
        .tag = tag,
        .step = size > 0 ? HOST_APPEND_WRITE
                : sync   ? HOST_APPEND_SYNC
                         : HOST_APPEND_DONE,
    };
}

size_t
host_append_chunk(const struct host_append *append)
{
    return append->left < HOST_APPEND_CHUNK ? append->left : HOST_APPEND_CHUNK;
}

bool
host_append_linked(const struct host_append *append)
{
    return append->sync && append->left <= HOST_APPEND_CHUNK;
}

static void
host_append_finish(struct host_append *append, int64_t result)
{
    append->step = HOST_APPEND_DONE;
    append->result = result;
}

/* Asks for the same step again when the kernel says that it did nothing and another try may help. */
static bool
host_append_retry(struct host_append *append, int64_t result)
{
    if (result != -EAGAIN && result != -EINTR && result != -ECANCELED)
        return false;
    return append->retries++ < HOST_APPEND_MAX_RETRIES;
}

static void
host_append_synced(struct host_append *append, int64_t result)
{
    if (result >= 0)
        host_append_finish(append, 0);
    else if (host_append_retry(append, result))
        append->step = HOST_APPEND_SYNC;
    else
        host_append_finish(append, result);
}

void
host_append_answer(struct host_append *append, int64_t write_result, int64_t sync_result)
{
    if (append->step == HOST_APPEND_SYNC) {
        host_append_synced(append, sync_result);
        return;
    }
    bool linked = host_append_linked(append);
    /* A sync behind a part of the write may have failed for good: that must not be forgotten by going on. */
    if (linked && sync_result < 0 && sync_result != -ECANCELED && sync_result != -EAGAIN &&
        sync_result != -EINTR) {
        host_append_finish(append, sync_result);
        return;
    }
    if (write_result < 0) {
        if (!host_append_retry(append, write_result))
            host_append_finish(append, write_result);
        return;
    }
    if (write_result == 0 || (uint64_t)write_result > host_append_chunk(append)) {
        host_append_finish(append, -EIO);
        return;
    }
    append->retries = 0;
    append->at += write_result;
    append->offset += (uint64_t)write_result;
    append->left -= (size_t)write_result;
    if (append->left > 0)
        return;
    if (append->sync)
        host_append_synced(append, sync_result);
    else
        host_append_finish(append, 0);
}
