/* server.h - the listening socket, and who is connected to it.
 *
 * Everything that comes over a connection is hostile: sizes are checked, one message per turn is read, nothing is waited
 * for, descriptors that a client sends are not taken. Credentials and versions are checked before any descriptor goes out.
 * One thread at a time uses a server: the doorman while the broker recovers (host_start.c), then the loop thread.
 */
#ifndef SERVER_H
#define SERVER_H

#include "connection.h"
#include "core.h"
#include "mshm/segment.h"
#include "peer.h"
#include "poller.h"

struct server_options {
    mode_t mode;          /* of the socket */
    const uid_t *allowed; /* users beside those that the mode lets in; the caller's */
    size_t allowed_count;
    uint32_t max_sessions;
    uint32_t max_sessions_per_uid; /* of users other than the owner and root */
};

struct server {
    struct server_options options;
    struct peer_policy policy;
    struct poller *poller;
    struct poller_source listener; /* fd -1: nobody is let in any more */
    bool paused;                   /* the listener is not watched: no descriptors */
    int spare; /* a descriptor to give up when there is no other for accept; -1: given up */
    struct connection *connections;
    struct connection *dead; /* to be freed by server_sweep */
    uint32_t count;          /* in `connections` */
    uint64_t served;         /* connections ever accepted */
    /* Set by server_serve; NULL while the broker recovers, and HELLO is answered BUSY. */
    struct core *core;
    struct mshm_segment *store, *hints;
};

/* Replaces the socket in the directory, and listens. Only the holder of the directory's lock may. MSHM_OK, or MSHM_DENIED,
 * MSHM_FULL, MSHM_LIMIT, MSHM_IO with *why. */
int server_listen(struct server *server, const struct server_options *options,
                  struct poller *poller, int directory_fd, char *why, size_t why_size);
/* From now on clients are let in. `store` and `hints` are the broker's segments. */
void server_serve(struct server *server, struct core *core, struct mshm_segment *store,
                  struct mshm_segment *hints);
/* After each poller_wait: ends connections that took too long, frees what is dead, watches the listener again. */
void server_sweep(struct server *server, uint64_t now_ns);
/* True when a connection waits to be accepted. */
bool server_pending(const struct server *server);
/* Nobody is let in any more; the socket's name is removed (while the lock is held). */
void server_leave(struct server *server, int directory_fd);
/* Closes and frees everything. The core is destroyed already. */
void server_fini(struct server *server);

/* Connections of a user, and whether it may have one more session (for connection.c). */
bool server_uid_full(const struct server *server, const struct connection *connection);
/* Moves a connection to the list of what server_sweep frees (for connection.c). */
void server_bury(struct server *server, struct connection *connection);

#endif
