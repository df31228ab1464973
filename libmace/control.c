/* control.c - requests over the socket: one at a time, each with one reply. */
#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>

#include "mlib.h"

enum { POLL_SLICE_MS = 100 };

/* Waits until the socket is ready for `events`, looking at the broker's liveness in between: a hang-up alone can be
 * missed when the broker's child keeps the socket open. */
static int
control_poll(struct mlib_attachment *attachment, short events)
{
    struct pollfd wait = {.fd = attachment->socket, .events = events};
    for (;;) {
        int ready = poll(&wait, 1, POLL_SLICE_MS);
        if (ready > 0)
            return (wait.revents & events) != 0 ? MSHM_OK : MSHM_BROKER_LOST;
        if (ready < 0 && errno != EINTR)
            return MSHM_IO;
        if (mlib_attachment_lost(attachment))
            return MSHM_BROKER_LOST;
    }
}

static int
control_send(struct mlib_attachment *attachment, const struct mshm_message *request)
{
    for (;;) {
        ssize_t sent =
            send(attachment->socket, request, request->size, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (sent == (ssize_t)request->size)
            return MSHM_OK;
        if (sent >= 0)
            return MSHM_IO;
        if (errno == EINTR)
            continue;
        if (errno != EAGAIN && errno != EWOULDBLOCK)
            return MSHM_BROKER_LOST;
        int status = control_poll(attachment, POLLOUT);
        if (status != MSHM_OK)
            return status;
    }
}

static int
control_receive(struct mlib_attachment *attachment, struct mshm_message *reply, size_t capacity)
{
    for (;;) {
        ssize_t size = recv(attachment->socket, reply, capacity, MSG_DONTWAIT);
        if (size > 0) {
            if ((size_t)size < sizeof *reply || reply->magic != MSHM_MESSAGE_MAGIC ||
                reply->size != (size_t)size)
                return MSHM_VERSION;
            return MSHM_OK;
        }
        if (size == 0)
            return MSHM_BROKER_LOST;
        if (errno == EINTR)
            continue;
        if (errno != EAGAIN && errno != EWOULDBLOCK)
            return MSHM_BROKER_LOST;
        int status = control_poll(attachment, POLLIN);
        if (status != MSHM_OK)
            return status;
    }
}

int
mlib_control(struct mlib_attachment *attachment, struct mshm_message *request,
             struct mshm_message *reply, size_t capacity)
{
    request->magic = MSHM_MESSAGE_MAGIC;
    request->version = MSHM_LAYOUT_VERSION;
    request->status = 0;
    uint16_t kind = request->kind; /* reply may be the request's own memory */
    int refused = mlib_section_enter(attachment->mace);
    if (refused != MACE_OK)
        return refused;
    pthread_mutex_lock(&attachment->control_lock);
    int status = control_send(attachment, request);
    if (status == MSHM_OK)
        status = control_receive(attachment, reply, capacity);
    pthread_mutex_unlock(&attachment->control_lock);
    mlib_section_leave();
    if (status != MSHM_OK)
        return status;
    if (reply->kind != kind || reply->status > 0)
        return MSHM_VERSION;
    return reply->status;
}

int
mlib_arena_grow(struct mlib_attachment *attachment, uint64_t size)
{
    if (size > MSHM_ARENA_MAX)
        return MSHM_TOO_BIG;
    struct mshm_value_message message = {
        .head = {.kind = MSHM_MESSAGE_ARENA_GROW, .size = sizeof message}, .value = size};
    int status = mlib_control(attachment, &message.head, &message.head, sizeof message);
    if (status == MSHM_OK && message.value < size)
        status = MSHM_TOO_BIG;
    return status;
}
