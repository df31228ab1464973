/* peer.h - who is at the other end of a connection, as the kernel says, and whether that user may attach. */
#ifndef PEER_H
#define PEER_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

enum { PEER_MAX_GROUPS = 64 };

struct peer {
    uid_t uid;
    gid_t gid;
    pid_t pid; /* for reports only; 0 when it is of a process id namespace that cannot be seen */
    gid_t groups[PEER_MAX_GROUPS]; /* supplementary */
    size_t group_count;
};

/* Who may attach: the owner and root always, the socket's group and everybody by the write bits of `mode`, and the users
 * that are listed. The permission bits of the socket in the file system are checked by the kernel before that. */
struct peer_policy {
    uid_t owner;
    gid_t group;
    mode_t mode;
    const uid_t *allowed;
    size_t allowed_count;
};

/* Asks the kernel for the peer of a connected socket. 0 or -errno. */
int peer_read(struct peer *peer, int socket_fd);
/* Pure. */
bool peer_allowed(const struct peer_policy *policy, const struct peer *peer);
/* A close-on-exec pidfd of the peer: it becomes readable when the process has died, also while a child of it keeps the
 * socket open. -ESRCH: the process is gone. -ENOTSUP: there is no way to name it, so only the socket tells. -EMFILE... */
int peer_pidfd(const struct peer *peer, int socket_fd);

#endif
