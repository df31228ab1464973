/* connection.c - one client's connection. */
#include "connection.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "events.h"
#include "host_clock.h"
#include "host_status.h"
#include "kill_point.h"
#include "mshm/message.h"
#include "mshm/session.h"
#include "mshm/status.h"
#include "server.h"

/* How long a client may take for its HELLO, and to take note of a refusal. */
#define CONNECTION_GREETING_NS (10 * HOST_SECOND_NS)
#define CONNECTION_CROWDED_NS (1 * HOST_SECOND_NS)
#define CONNECTION_REFUSED_NS (2 * HOST_SECOND_NS)

static struct connection *
connection_of(struct poller_source *source, size_t offset)
{
    return (struct connection *)((char *)source - offset);
}

static void
connection_close_sources(struct connection *connection)
{
    struct poller *poller = connection->server->poller;

    poller_close(poller, &connection->socket);
    poller_close(poller, &connection->pidfd);
    poller_close(poller, &connection->doorbell);
}

void
connection_end(struct connection *connection)
{
    if (connection->state == CONNECTION_DEAD || connection->state == CONNECTION_ENDING)
        return;
    connection_close_sources(connection);
    if (connection->session != NULL) {
        connection->state = CONNECTION_ENDING;
        core_session_end(connection->server->core, connection->session, connection->orderly);
        return;
    }
    connection->state = CONNECTION_DEAD;
    server_bury(connection->server, connection);
}

bool
connection_overdue(const struct connection *connection, uint64_t now_ns, bool crowded)
{
    uint64_t patience_ns = CONNECTION_REFUSED_NS;

    if (connection->state == CONNECTION_GREETING && !connection->on_spare)
        patience_ns = crowded ? CONNECTION_CROWDED_NS : CONNECTION_GREETING_NS;
    else if (connection->state != CONNECTION_GREETING && connection->state != CONNECTION_REFUSED)
        return false;
    return now_ns - connection->heard_ns >= patience_ns;
}

void
connection_destroy(struct connection *connection)
{
    mshm_segment_fini(&connection->segment);
    free(connection);
}

void
connection_session_free(struct connection *connection)
{
    connection->session = NULL;
    if (connection->state == CONNECTION_ENDING)
        connection->state = CONNECTION_ATTACHED; /* nothing is left to wait for */
    events_print(ENV_LOG_DEBUG, "the session of process %d (user %u) is freed",
                 (int)connection->peer.pid, (unsigned)connection->peer.uid);
    connection_end(connection);
}

int
connection_arena_back(struct connection *connection, uint64_t arena_size)
{
    int status = mshm_segment_back(&connection->segment, MSHM_SESSION_ARENA, arena_size);
    return status == MSHM_OK ? 0 : status == MSHM_INVALID ? -EINVAL : -ENOMEM;
}

/* A client has one request under way, so its answers fit into the socket; one who does not take them is cut off, and the
 * hang-up is then met like any other. */
void
connection_reply(struct connection *connection, const void *message, size_t size)
{
    if (connection->socket.fd < 0)
        return;
    ssize_t sent;
    do
        sent = send(connection->socket.fd, message, size, MSG_DONTWAIT | MSG_NOSIGNAL);
    while (sent < 0 && errno == EINTR);
    if (sent < 0)
        shutdown(connection->socket.fd, SHUT_RDWR);
}

/* --- the handshake ------------------------------------------------------------------------------------------------ */

static void
welcome_init(struct mshm_welcome *welcome, int status)
{
    memset(welcome, 0, sizeof(*welcome));
    welcome->head = (struct mshm_message){
        .magic = MSHM_MESSAGE_MAGIC,
        .kind = MSHM_MESSAGE_HELLO,
        .version = MSHM_LAYOUT_VERSION,
        .status = status,
        .size = sizeof(*welcome),
    };
    welcome->layout_hash = mshm_layout_hash();
}

static void __attribute__((format(printf, 4, 5)))
connection_refuse(struct connection *connection, uint64_t now_ns, int status, const char *format,
                  ...)
{
    struct mshm_welcome welcome;
    va_list arguments;

    welcome_init(&welcome, status);
    va_start(arguments, format);
    vsnprintf(welcome.text, sizeof(welcome.text), format, arguments);
    va_end(arguments);
    connection_reply(connection, &welcome, sizeof(welcome));
    /* A client that is told to ask again does so on this connection. */
    if (status == MSHM_BUSY) {
        connection->heard_ns = now_ns;
        return;
    }
    events_print(ENV_LOG_WARNING, "process %d of user %u is refused: %s", (int)connection->peer.pid,
                 (unsigned)connection->peer.uid, welcome.text);
    connection->state = CONNECTION_REFUSED;
    connection->heard_ns = now_ns;
}

/* Sends the welcome with its four descriptors. 0 or -errno. */
static int
connection_send_welcome(struct connection *connection, const struct mshm_welcome *welcome,
                        const int fds[MSHM_FD_COUNT])
{
    union {
        struct cmsghdr align;
        char bytes[CMSG_SPACE(MSHM_FD_COUNT * sizeof(int))];
    } control;
    struct iovec vector = {.iov_base = (void *)(uintptr_t)welcome, .iov_len = sizeof(*welcome)};
    struct msghdr header = {.msg_iov = &vector,
                            .msg_iovlen = 1,
                            .msg_control = &control,
                            .msg_controllen = sizeof(control)};
    ssize_t sent;

    memset(&control, 0, sizeof(control));
    struct cmsghdr *part = CMSG_FIRSTHDR(&header);
    part->cmsg_level = SOL_SOCKET;
    part->cmsg_type = SCM_RIGHTS;
    part->cmsg_len = CMSG_LEN(MSHM_FD_COUNT * sizeof(int));
    memcpy(CMSG_DATA(part), fds, MSHM_FD_COUNT * sizeof(int));
    do
        sent = sendmsg(connection->socket.fd, &header, MSG_DONTWAIT | MSG_NOSIGNAL);
    while (sent < 0 && errno == EINTR);
    return sent == (ssize_t)sizeof(*welcome) ? 0 : sent < 0 ? -errno : -EIO;
}

/* The three descriptors of a session: its segment, doorbell and process. MSHM_OK or a status. */
static int
connection_equip(struct connection *connection)
{
    struct poller *poller = connection->server->poller;

    int pidfd = peer_pidfd(&connection->peer, connection->socket.fd);
    if (pidfd == -ESRCH)
        return MSHM_BROKER_LOST;
    if (pidfd < 0 && pidfd != -ENOTSUP)
        return host_status(-pidfd);
    connection->pidfd.fd = pidfd < 0 ? -1 : pidfd;
    if (pidfd >= 0 && poller_add(poller, &connection->pidfd, EPOLLIN) != 0)
        return MSHM_NO_MEMORY;
    connection->doorbell.fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (connection->doorbell.fd < 0)
        return MSHM_LIMIT;
    if (poller_add(poller, &connection->doorbell, EPOLLIN | EPOLLET) != 0)
        return MSHM_NO_MEMORY;
    int status = mshm_segment_create(&connection->segment, "mace-session", MSHM_SESSION_SIZE,
                                     MSHM_SEGMENT_SHARED, MSHM_HUGE_PAGES_OFF);
    if (status == MSHM_OK)
        status = mshm_segment_back(&connection->segment, 0, MSHM_SESSION_ARENA);
    return status;
}

static void
connection_unequip(struct connection *connection)
{
    poller_close(connection->server->poller, &connection->pidfd);
    poller_close(connection->server->poller, &connection->doorbell);
    mshm_segment_fini(&connection->segment);
    connection->segment = (struct mshm_segment){.fd = -1};
}

static int
connection_welcome(struct connection *connection, int store_fd)
{
    const struct server *server = connection->server;
    struct mshm_welcome welcome;
    int fds[MSHM_FD_COUNT];

    welcome_init(&welcome, MSHM_OK);
    welcome.incarnation = core_incarnation(server->core);
    welcome.session = core_session_number(connection->session);
    welcome.store_size = server->store->size;
    welcome.hints_size = server->hints->size;
    welcome.session_size = connection->segment.size;
    memcpy(welcome.database_id, core_database_id(server->core), sizeof(welcome.database_id));
    fds[MSHM_FD_STORE] = store_fd;
    fds[MSHM_FD_HINTS] = server->hints->fd;
    fds[MSHM_FD_SESSION] = connection->segment.fd;
    fds[MSHM_FD_DOORBELL] = connection->doorbell.fd;
    return connection_send_welcome(connection, &welcome, fds);
}

/* Everything a session needs is there before the core hears of it; what fails undoes itself. */
static int
connection_attach(struct connection *connection, const struct mshm_hello *hello)
{
    struct server *server = connection->server;
    const struct peer *peer = &connection->peer;
    int store_fd = -1;
    int status = connection_equip(connection);

    if (status == MSHM_OK)
        status = mshm_segment_reader(server->store, &store_fd);
    if (status == MSHM_OK)
        status = core_session_attach(
            server->core, connection->segment.base, connection, hello->flags, peer->uid,
            peer->pid > 0 ? (uint64_t)peer->pid : hello->pid, &connection->session);
    if (status != MSHM_OK) {
        if (store_fd >= 0)
            close(store_fd);
        connection_unequip(connection);
        return status;
    }
    connection->state = CONNECTION_ATTACHED;
    int error = connection_welcome(connection, store_fd);
    close(store_fd);
    MACE_KILL_POINT("host:attached");
    events_print(ENV_LOG_DEBUG, "session %llu is process %d of user %u",
                 (unsigned long long)core_session_number(connection->session), (int)peer->pid,
                 (unsigned)peer->uid);
    if (error != 0)
        connection_end(connection);
    return MSHM_OK;
}

/* False when the client is of another version; it has been told. */
static bool
connection_same_version(struct connection *connection, const struct mshm_hello *hello, size_t size,
                        uint64_t now_ns)
{
    if (hello->head.version != MSHM_LAYOUT_VERSION || size != sizeof(*hello)) {
        connection_refuse(connection, now_ns, MSHM_VERSION,
                          "the client library has layout version %u, this broker version %u",
                          (unsigned)hello->head.version, (unsigned)MSHM_LAYOUT_VERSION);
        return false;
    }
    if (hello->layout_hash == mshm_layout_hash() && hello->features == 0)
        return true;
    connection_refuse(connection, now_ns, MSHM_VERSION,
                      "the client library has layout version %u (hash %08x, features %llx), this "
                      "broker version %u (hash %08x, features 0)",
                      (unsigned)hello->head.version, (unsigned)hello->layout_hash,
                      (unsigned long long)hello->features, (unsigned)MSHM_LAYOUT_VERSION,
                      (unsigned)mshm_layout_hash());
    return false;
}

/* A HELLO with a sound head, of any version: only its first `size` bytes are there, the rest is zero. */
static void
connection_hello(struct connection *connection, const struct mshm_hello *hello, size_t size,
                 uint64_t now_ns)
{
    struct server *server = connection->server;

    if (connection->on_spare) {
        connection_refuse(connection, now_ns, MSHM_LIMIT, "the broker has no descriptors left");
        return;
    }
    if (!peer_allowed(&server->policy, &connection->peer)) {
        connection_refuse(connection, now_ns, MSHM_DENIED,
                          "user %u may not attach: mode %04o, owner %u, and not on the list",
                          (unsigned)connection->peer.uid, (unsigned)server->policy.mode,
                          (unsigned)server->policy.owner);
        return;
    }
    if (!connection_same_version(connection, hello, size, now_ns))
        return;
    if ((hello->flags & ~(unsigned)(MSHM_HELLO_OBSERVER | MSHM_HELLO_READ_ONLY)) != 0) {
        connection_refuse(connection, now_ns, MSHM_INVALID, "unknown flags %#x in HELLO",
                          (unsigned)hello->flags);
        return;
    }
    if (server->core == NULL) {
        connection_refuse(connection, now_ns, MSHM_BUSY, "the broker is recovering the database");
        return;
    }
    int status = MSHM_LIMIT;
    if (!server_uid_full(server, connection))
        status = connection_attach(connection, hello);
    if (status == MSHM_BROKER_LOST)
        connection_end(connection); /* the process is gone */
    else if (status == MSHM_LIMIT)
        connection_refuse(
            connection, now_ns, status,
            "no session is free: %u of %u are attached, at most %u of one other user, "
            "or the broker has no descriptors left",
            (unsigned)core_session_count(server->core), (unsigned)server->options.max_sessions,
            (unsigned)server->options.max_sessions_per_uid);
    else if (status != MSHM_OK)
        connection_refuse(connection, now_ns, status, "no session could be made: %s",
                          mshm_strerror(status));
}

/* --- messages ----------------------------------------------------------------------------------------------------- */

static void
connection_malformed(struct connection *connection, const char *what)
{
    events_print(ENV_LOG_WARNING, "process %d of user %u is cut off: %s", (int)connection->peer.pid,
                 (unsigned)connection->peer.uid, what);
    if (connection->state == CONNECTION_ATTACHED)
        core_session_cut(connection->server->core, connection->session);
    connection_end(connection);
}

static void
connection_message(struct connection *connection, const void *bytes, size_t size, uint64_t now_ns)
{
    struct mshm_message head;

    if (size < sizeof(head)) {
        connection_malformed(connection, "a message shorter than its head");
        return;
    }
    memcpy(&head, bytes, sizeof(head));
    if (head.magic != MSHM_MESSAGE_MAGIC || head.size != size) {
        connection_malformed(connection, "a message with a wrong head");
        return;
    }
    if (connection->state == CONNECTION_GREETING && head.kind == MSHM_MESSAGE_HELLO) {
        struct mshm_hello hello;
        memset(&hello, 0, sizeof(hello));
        memcpy(&hello, bytes, size < sizeof(hello) ? size : sizeof(hello));
        connection_hello(connection, &hello, size, now_ns);
        return;
    }
    if (connection->state != CONNECTION_ATTACHED || head.kind == MSHM_MESSAGE_HELLO) {
        connection_malformed(connection, "a message out of turn");
        return;
    }
    if (head.kind == MSHM_MESSAGE_BYE)
        connection->orderly = true;
    if (core_control(connection->server->core, connection->session, bytes, size) != MSHM_OK)
        connection_malformed(connection, "a malformed request");
}

/* One message a turn: others get theirs in between. Messages come whole; a longer one than allowed arrives cut, and
 * descriptors that come along are closed by the kernel because there is no room for them: both show in the flags. */
static void
connection_socket_ready(struct poller_source *source, uint32_t events)
{
    struct connection *connection = connection_of(source, offsetof(struct connection, socket));
    _Alignas(8) char bytes[MSHM_MESSAGE_MAX];
    struct iovec vector = {.iov_base = bytes, .iov_len = sizeof(bytes)};
    struct msghdr header = {.msg_iov = &vector, .msg_iovlen = 1};

    (void)events;
    ssize_t size = recvmsg(source->fd, &header, MSG_DONTWAIT);
    if (size < 0 && (errno == EAGAIN || errno == EINTR) && (events & (EPOLLHUP | EPOLLERR)) == 0)
        return;
    if (size <= 0) {
        connection_end(connection); /* the hang-up */
        return;
    }
    if (connection->state == CONNECTION_REFUSED)
        return;
    if ((header.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) != 0) {
        connection_malformed(connection, "a message that is too long or carries descriptors");
        return;
    }
    connection_message(connection, bytes, (size_t)size, host_clock_ns());
}

static void
connection_process_ended(struct poller_source *source, uint32_t events)
{
    (void)events;
    connection_end(connection_of(source, offsetof(struct connection, pidfd)));
}

/* Never read: a client that made it overflow would make the reader block; the poller tells each write once. */
static void
connection_doorbell_rang(struct poller_source *source, uint32_t events)
{
    struct connection *connection = connection_of(source, offsetof(struct connection, doorbell));

    (void)events;
    if (connection->session != NULL)
        core_session_doorbell(connection->server->core, connection->session);
}

struct connection *
connection_create(struct server *server, int fd, bool on_spare, uint64_t now_ns)
{
    struct connection *connection = calloc(1, sizeof(*connection));

    if (connection == NULL) {
        close(fd);
        return NULL;
    }
    connection->server = server;
    connection->state = CONNECTION_GREETING;
    connection->on_spare = on_spare;
    connection->heard_ns = now_ns;
    connection->segment.fd = -1;
    connection->socket = (struct poller_source){fd, connection_socket_ready};
    connection->pidfd = (struct poller_source){-1, connection_process_ended};
    connection->doorbell = (struct poller_source){-1, connection_doorbell_rang};
    if (peer_read(&connection->peer, fd) == 0 &&
        poller_add(server->poller, &connection->socket, EPOLLIN | EPOLLRDHUP) == 0)
        return connection;
    close(fd);
    free(connection);
    return NULL;
}
