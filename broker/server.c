/* server.c - listening and admission. */
#include "server.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "directory.h"
#include "events.h"
#include "host_clock.h"
#include "host_status.h"
#include "mshm/status.h"

enum {
    SERVER_BACKLOG = 512,
    SERVER_ACCEPTS = 32,  /* per turn */
    SERVER_GREETING = 32, /* connections of one user beyond its sessions */
};

static bool
server_is_owner(const struct server *server, uid_t uid)
{
    return uid == server->policy.owner || uid == 0;
}

static uint32_t
server_uid_count(const struct server *server, uid_t uid, bool attached)
{
    uint32_t count = 0;

    for (const struct connection *at = server->connections; at != NULL; at = at->next)
        if (at->peer.uid == uid && (!attached || at->session != NULL))
            count++;
    return count;
}

bool
server_uid_full(const struct server *server, const struct connection *connection)
{
    uid_t uid = connection->peer.uid;

    return !server_is_owner(server, uid) &&
           server_uid_count(server, uid, true) >= server->options.max_sessions_per_uid;
}

/* One user's silent connections must not use up what others need to say HELLO with. */
static bool
server_crowded(const struct server *server, const struct connection *connection)
{
    uid_t uid = connection->peer.uid;
    uint32_t sessions = server_is_owner(server, uid) ? server->options.max_sessions
                                                     : server->options.max_sessions_per_uid;

    return server_uid_count(server, uid, false) >= sessions + SERVER_GREETING;
}

static void
server_link(struct connection **list, struct connection *connection)
{
    connection->next = *list;
    connection->link = list;
    if (connection->next != NULL)
        connection->next->link = &connection->next;
    *list = connection;
}

static void
server_unlink(struct connection *connection)
{
    *connection->link = connection->next;
    if (connection->next != NULL)
        connection->next->link = connection->link;
}

void
server_bury(struct server *server, struct connection *connection)
{
    server_unlink(connection);
    server->count--;
    server_link(&server->dead, connection);
}

static void
server_pause(struct server *server, bool pause)
{
    if (server->paused == pause || server->listener.fd < 0)
        return;
    if (poller_change(server->poller, &server->listener, pause ? 0 : EPOLLIN) == 0)
        server->paused = pause;
}

static int
server_accept_one(struct server *server)
{
    return accept4(server->listener.fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
}

/* Out of descriptors: the one kept for this tells the client so, and nobody else is looked at until it is back. */
static int
server_accept_on_spare(struct server *server)
{
    server_pause(server, true);
    if (server->spare < 0)
        return -1;
    events_print(ENV_LOG_WARNING, "no descriptors are left: a client is refused");
    close(server->spare);
    server->spare = -1;
    return server_accept_one(server);
}

static void
server_admit(struct server *server, int fd, bool on_spare)
{
    struct connection *connection = connection_create(server, fd, on_spare, host_clock_ns());

    if (connection == NULL)
        return;
    bool crowded = server_crowded(server, connection);
    server_link(&server->connections, connection);
    server->count++;
    server->served++;
    if (!crowded)
        return;
    events_print(ENV_LOG_WARNING, "user %u has too many connections: one is closed",
                 (unsigned)connection->peer.uid);
    connection_end(connection);
}

static void
server_accept(struct poller_source *source, uint32_t events)
{
    struct server *server = (struct server *)((char *)source - offsetof(struct server, listener));

    (void)events;
    for (int i = 0; i < SERVER_ACCEPTS; i++) {
        bool on_spare = false;
        int fd = server_accept_one(server);
        if (fd < 0 && (errno == EMFILE || errno == ENFILE || errno == ENOMEM || errno == ENOBUFS)) {
            on_spare = true;
            fd = server_accept_on_spare(server);
        }
        if (fd < 0 && (errno == EINTR || errno == ECONNABORTED))
            continue;
        if (fd < 0)
            return;
        server_admit(server, fd, on_spare);
        if (on_spare)
            return;
    }
}

static int
server_take_spare(struct server *server)
{
    if (server->spare < 0)
        server->spare = open("/", O_PATH | O_CLOEXEC);
    return server->spare < 0 ? -errno : 0;
}

static int
server_bind(struct server *server, int directory_fd)
{
    struct stat socket_status;
    /* A listed user need not be in the socket's group: then the kernel lets everybody knock, and the list decides. */
    mode_t mode = server->options.allowed_count > 0 ? 0666 : server->options.mode;
    mode_t umask_before = umask(0177);
    int result = directory_socket(directory_fd, server->listener.fd, bind);
    int error = errno;

    umask(umask_before);
    if (result < 0) {
        errno = error;
        return -1;
    }
    if (fchmodat(directory_fd, DIRECTORY_SOCKET, mode, 0) < 0 ||
        fstatat(directory_fd, DIRECTORY_SOCKET, &socket_status, AT_SYMLINK_NOFOLLOW) < 0)
        return -1;
    server->policy = (struct peer_policy){
        .owner = geteuid(),
        .group = socket_status.st_gid,
        .mode = server->options.mode,
        .allowed = server->options.allowed,
        .allowed_count = server->options.allowed_count,
    };
    return listen(server->listener.fd, SERVER_BACKLOG);
}

int
server_listen(struct server *server, const struct server_options *options, struct poller *poller,
              int directory_fd, char *why, size_t why_size)
{
    memset(server, 0, sizeof(*server));
    server->options = *options;
    server->poller = poller;
    server->spare = -1;
    server->listener.ready = server_accept;
    server->listener.fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (server->listener.fd < 0)
        goto failed;
    if (unlinkat(directory_fd, DIRECTORY_SOCKET, 0) < 0 && errno != ENOENT)
        goto failed;
    if (server_bind(server, directory_fd) < 0)
        goto failed;
    if (server_take_spare(server) < 0)
        goto failed;
    int error = poller_add(poller, &server->listener, EPOLLIN);
    if (error == 0)
        return MSHM_OK;
    errno = -error;
failed:
    error = errno;
    snprintf(why, why_size, DIRECTORY_SOCKET " cannot be set up: %s", strerror(error));
    server_fini(server);
    return host_status(error);
}

void
server_serve(struct server *server, struct core *core, struct mshm_segment *store,
             struct mshm_segment *hints)
{
    server->core = core;
    server->store = store;
    server->hints = hints;
}

static void
server_bring_out_dead(struct server *server)
{
    while (server->dead != NULL) {
        struct connection *connection = server->dead;
        server_unlink(connection);
        connection_destroy(connection);
    }
}

void
server_sweep(struct server *server, uint64_t now_ns)
{
    struct connection *next;

    for (struct connection *at = server->connections; at != NULL; at = next) {
        next = at->next;
        if (connection_overdue(at, now_ns, server->paused))
            connection_end(at);
    }
    server_bring_out_dead(server);
    if (server->paused && server_take_spare(server) == 0)
        server_pause(server, false);
}

bool
server_pending(const struct server *server)
{
    struct pollfd listener = {.fd = server->listener.fd, .events = POLLIN};

    return server->listener.fd >= 0 && poll(&listener, 1, 0) > 0;
}

void
server_leave(struct server *server, int directory_fd)
{
    if (server->listener.fd < 0)
        return;
    unlinkat(directory_fd, DIRECTORY_SOCKET, 0);
    poller_close(server->poller, &server->listener);
}

void
server_fini(struct server *server)
{
    server->core = NULL;
    while (server->connections != NULL) {
        struct connection *connection = server->connections;
        connection->session = NULL;
        connection->state = CONNECTION_ATTACHED; /* also of one that still waited for the core */
        connection_end(connection);
    }
    server_bring_out_dead(server);
    poller_close(server->poller, &server->listener);
    if (server->spare >= 0)
        close(server->spare);
    server->spare = -1;
}
