/* raw_client.c - a client without libmace. */
#include "support/raw_client.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "support/process.h"

int
raw_client_connect(const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int size = snprintf(address.sun_path, sizeof address.sun_path, "%s/mace.sock", path);

    require(size > 0 && size < (int)sizeof address.sun_path, "%s is too long", path);
    int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    require(fd >= 0, "%s", strerror(errno));
    if (connect(fd, (const struct sockaddr *)&address, sizeof address) == 0)
        return fd;
    close(fd);
    return -1;
}

static void
raw_client_forget(struct raw_client *client)
{
    memset(client, 0, sizeof *client);
    client->socket = client->store_fd = client->hints_fd = client->session_fd = client->doorbell =
        -1;
}

/* Takes one packet with its descriptors. */
static ssize_t
raw_client_receive(int socket, void *to, size_t size, int fds[MSHM_FD_COUNT])
{
    union {
        struct cmsghdr align;
        char bytes[CMSG_SPACE(sizeof(int) * MSHM_FD_COUNT)];
    } control;
    struct iovec vector = {to, size};
    struct msghdr message = {.msg_iov = &vector,
                             .msg_iovlen = 1,
                             .msg_control = control.bytes,
                             .msg_controllen = sizeof control.bytes};
    ssize_t got;

    do
        got = recvmsg(socket, &message, MSG_CMSG_CLOEXEC);
    while (got < 0 && errno == EINTR);
    for (int i = 0; i < MSHM_FD_COUNT; i++)
        fds[i] = -1;
    struct cmsghdr *head = got > 0 ? CMSG_FIRSTHDR(&message) : NULL;
    if (head != NULL && head->cmsg_type == SCM_RIGHTS)
        memcpy(fds, CMSG_DATA(head), head->cmsg_len - CMSG_LEN(0));
    return got;
}

int
raw_client_hello(struct raw_client *client, const struct mshm_hello *hello)
{
    struct mshm_hello right = {
        .head = {.magic = MSHM_MESSAGE_MAGIC,
                 .kind = MSHM_MESSAGE_HELLO,
                 .version = MSHM_LAYOUT_VERSION,
                 .size = sizeof right},
        .layout_hash = mshm_layout_hash(),
        .pid = (uint64_t)getpid(),
    };
    int fds[MSHM_FD_COUNT];

    if (hello == NULL)
        hello = &right;
    for (;;) {
        if (send(client->socket, hello, sizeof *hello, MSG_NOSIGNAL) < 0)
            return MSHM_BROKER_LOST;
        ssize_t size =
            raw_client_receive(client->socket, &client->welcome, sizeof client->welcome, fds);
        if (size < (ssize_t)sizeof client->welcome.head)
            return MSHM_BROKER_LOST;
        if (client->welcome.head.status != MSHM_BUSY)
            break;
        process_pause();
    }
    client->store_fd = fds[MSHM_FD_STORE];
    client->hints_fd = fds[MSHM_FD_HINTS];
    client->session_fd = fds[MSHM_FD_SESSION];
    client->doorbell = fds[MSHM_FD_DOORBELL];
    return client->welcome.head.status;
}

int
raw_client_try(struct raw_client *client, const char *path)
{
    raw_client_forget(client);
    client->socket = raw_client_connect(path);
    if (client->socket < 0)
        return 0;
    int status = raw_client_hello(client, NULL);
    if (status == MSHM_BROKER_LOST) {
        close(client->socket);
        return 0;
    }
    require_ok(status);
    require_ok(mshm_segment_map(&client->store, client->store_fd, client->welcome.store_size, 0));
    require_ok(mshm_segment_map(&client->hints, client->hints_fd, client->welcome.hints_size, 1));
    require_ok(
        mshm_segment_map(&client->shared, client->session_fd, client->welcome.session_size, 1));
    require_ok(
        mshm_view_init(&client->view, client->store.base, client->store.size, client->hints.base));
    require_ok(mshm_session_check(client->shared.base, client->shared.size));
    client->session = (struct mshm_session *)(void *)client->shared.base;
    mshm_producer_init(&client->producer, client->session);
    return 1;
}

void
raw_client_open(struct raw_client *client, const char *path)
{
    require(raw_client_try(client, path), "no broker answers at %s", path);
}

void
raw_client_close(struct raw_client *client)
{
    int *fds[] = {&client->socket, &client->store_fd, &client->hints_fd, &client->session_fd,
                  &client->doorbell};

    mshm_segment_fini(&client->store);
    mshm_segment_fini(&client->hints);
    mshm_segment_fini(&client->shared);
    for (size_t i = 0; i < sizeof fds / sizeof fds[0]; i++)
        if (*fds[i] >= 0)
            close(*fds[i]);
    raw_client_forget(client);
}

int
raw_client_control(struct raw_client *client, const struct mshm_message *request,
                   struct mshm_message *reply, size_t capacity)
{
    int fds[MSHM_FD_COUNT];

    if (send(client->socket, request, request->size, MSG_NOSIGNAL) < 0)
        return MSHM_BROKER_LOST;
    ssize_t size = raw_client_receive(client->socket, reply, capacity, fds);
    return size < (ssize_t)sizeof *reply ? MSHM_BROKER_LOST : reply->status;
}

struct mshm_tree_ref
raw_client_tree(struct raw_client *client, const char *bucket)
{
    struct mshm_bucket_message request = {
        .head = {.magic = MSHM_MESSAGE_MAGIC,
                 .kind = MSHM_MESSAGE_BUCKET_OPEN,
                 .version = MSHM_LAYOUT_VERSION,
                 .size = sizeof request},
        .name_size = (uint16_t)strlen(bucket),
    };
    struct mshm_bucket_message reply;

    memcpy(request.name, bucket, strlen(bucket));
    require_ok(raw_client_control(client, &request.head, &reply.head, sizeof reply));
    require(reply.place < client->view.catalogue_capacity, "place");
    const struct mshm_catalogue_entry *entry = &client->view.catalogue[reply.place];
    return (struct mshm_tree_ref){(uint32_t)reply.id, (mshm_pid)AO_load_acquire(&entry->root)};
}

uint64_t
raw_client_arena_put(struct raw_client *client, uint32_t bucket, unsigned kind, const char *key,
                     const char *value, uint64_t *arena_offset)
{
    uint16_t key_size = (uint16_t)strlen(key);
    uint32_t value_size = (uint32_t)strlen(value);
    uint64_t size = mshm_op_size(key_size, value_size);

    require_ok(mshm_producer_arena(&client->producer, size, arena_offset));
    uint8_t *arena = client->shared.base + client->session->arena_offset;
    return mshm_op_write(arena + *arena_offset, bucket, kind, key, key_size, value, value_size);
}

void
raw_client_place(struct raw_client *client, unsigned kind, unsigned flags, unsigned lane,
                 mshm_timestamp snapshot, uint64_t arena_offset, uint64_t arena_size)
{
    uint64_t sequence = client->producer.next;
    struct mshm_request *place = &client->session->ring[mshm_ring_place(sequence)];

    AO_store(&place->sequence, sequence);
    AO_store(&place->kind_flags, (AO_t)kind | (AO_t)flags << 16 | (AO_t)1 << 32);
    AO_store(&place->lane, lane);
    AO_store(&place->snapshot, snapshot);
    AO_store(&place->arena_offset, arena_offset);
    AO_store(&place->arena_size, arena_size);
    AO_store(&place->op_count, 1);
    AO_store(&place->reserved, 0);
}

void
raw_client_ring_bell(struct raw_client *client)
{
    uint64_t one = 1;
    ssize_t ignored = write(client->doorbell, &one, sizeof one);
    (void)ignored;
}

int
raw_client_ended(const struct raw_client *client)
{
    struct pollfd wait = {.fd = client->socket, .events = POLLRDHUP};

    return poll(&wait, 1, 0) == 1 && (wait.revents & (POLLHUP | POLLRDHUP | POLLERR)) != 0;
}

int
raw_client_put(struct raw_client *client, uint32_t bucket, const char *key, const char *value)
{
    uint64_t offset;
    int wake, status = MSHM_BROKER_LOST;
    mshm_timestamp timestamp;
    uint64_t size = raw_client_arena_put(client, bucket, MSHM_OP_PUT, key, value, &offset);
    uint64_t sequence = mshm_producer_publish(&client->producer, MSHM_REQUEST_ONE_CALL, 0, 1, 0, 0,
                                              offset, size, 1, &wake);

    if (wake)
        raw_client_ring_bell(client);
    while (!mshm_completion_take(client->session, sequence, &status, &timestamp)) {
        if (raw_client_ended(client))
            return MSHM_BROKER_LOST;
        process_pause();
    }
    return status;
}
