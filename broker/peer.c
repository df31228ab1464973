/* peer.c - credentials of a connection. */
#include "peer.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

/* Linux 6.5; older headers do not name it. */
#ifndef SO_PEERPIDFD
#define SO_PEERPIDFD 77
#endif

int
peer_read(struct peer *peer, int socket_fd)
{
    struct ucred credentials;
    socklen_t size = sizeof(credentials);

    memset(peer, 0, sizeof(*peer));
    if (getsockopt(socket_fd, SOL_SOCKET, SO_PEERCRED, &credentials, &size) < 0)
        return -errno;
    peer->uid = credentials.uid;
    peer->gid = credentials.gid;
    peer->pid = credentials.pid;
    /* More groups than fit count as none: access is then a matter of user or main group. */
    size = sizeof(peer->groups);
    if (getsockopt(socket_fd, SOL_SOCKET, SO_PEERGROUPS, peer->groups, &size) == 0)
        peer->group_count = size / sizeof(peer->groups[0]);
    return 0;
}

static bool
peer_in_group(const struct peer *peer, gid_t group)
{
    if (peer->gid == group)
        return true;
    for (size_t i = 0; i < peer->group_count; i++)
        if (peer->groups[i] == group)
            return true;
    return false;
}

bool
peer_allowed(const struct peer_policy *policy, const struct peer *peer)
{
    if (peer->uid == policy->owner || peer->uid == 0)
        return true;
    for (size_t i = 0; i < policy->allowed_count; i++)
        if (policy->allowed[i] == peer->uid)
            return true;
    if (peer_in_group(peer, policy->group))
        return (policy->mode & 0020) != 0;
    return (policy->mode & 0002) != 0;
}

int
peer_pidfd(const struct peer *peer, int socket_fd)
{
    int fd;
    socklen_t size = sizeof(fd);

    if (getsockopt(socket_fd, SOL_SOCKET, SO_PEERPIDFD, &fd, &size) == 0)
        return fd; /* the kernel made it close-on-exec */
    if (errno != ENOPROTOOPT && errno != EINVAL && errno != EOPNOTSUPP)
        return errno == ENODATA || errno == ESRCH ? -ESRCH : -errno;
    if (peer->pid <= 0)
        return -ENOTSUP;
    fd = (int)syscall(SYS_pidfd_open, peer->pid, 0);
    if (fd < 0)
        return errno == ENOSYS ? -ENOTSUP : -errno;
    /* The number may have passed to another process before it was opened; if the peer had ended by then, the connection
     * shows it now (unless a child of it holds the socket, and then that child is who is served). */
    struct pollfd hung = {.fd = socket_fd, .events = POLLRDHUP};
    if (poll(&hung, 1, 0) > 0 && (hung.revents & (POLLHUP | POLLRDHUP | POLLERR)) != 0) {
        close(fd);
        return -ESRCH;
    }
    return fd;
}
