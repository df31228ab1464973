/* connection.h - one client's connection: handshake, control messages, and the end.
 *
 *   GREETING --HELLO accepted--> ATTACHED --hang-up, death, nonsense--> ENDING --env.session_free--> DEAD
 *      |  ^                         |                                                                 ^
 *      |  +-- HELLO, recovering     +------------- env.session_free (the core ended it) --------------+
 *      |                                                                                              |
 *      +--HELLO refused--> REFUSED --hang-up, time over-----------------------------------------------+
 *      +--hang-up, nonsense, time over----------------------------------------------------------------+
 *
 * The death of a client is the hang-up of its socket or the end of its process (pidfd), whichever comes first: a child
 * made by fork keeps the socket open, and a program that execs lives on without it. ENDING has no descriptors of the
 * client any more, but the segment stays mapped until the core has drained it.
 */
#ifndef CONNECTION_H
#define CONNECTION_H

#include <stdbool.h>
#include <stdint.h>

#include "mshm/segment.h"
#include "peer.h"
#include "poller.h"

struct server;
struct session;

enum connection_state {
    CONNECTION_GREETING,
    CONNECTION_REFUSED,
    CONNECTION_ATTACHED,
    CONNECTION_ENDING,
    CONNECTION_DEAD,
};

struct connection {
    struct connection *next, **link; /* in one of the server's lists */
    struct server *server;
    enum connection_state state;
    struct poller_source socket, pidfd, doorbell;
    struct peer peer;
    uint64_t heard_ns; /* GREETING, REFUSED: when patience began */
    struct mshm_segment segment;
    struct session *session; /* the core's; NULL unless ATTACHED or ENDING */
    bool orderly;            /* BYE was said */
    bool on_spare;           /* accepted with the last descriptor: can only be refused */
};

/* A connection for an accepted, non-blocking socket, which it then owns. NULL: no memory or descriptors (the socket is
 * closed). */
struct connection *connection_create(struct server *server, int fd, bool on_spare, uint64_t now_ns);
/* Ends it from the broker's side, at any state: closes its descriptors, tells the core. */
void connection_end(struct connection *connection);
/* True when a client takes too long for its HELLO or for taking note of a refusal; `crowded`: others wait for
 * descriptors. */
bool connection_overdue(const struct connection *connection, uint64_t now_ns, bool crowded);
/* Frees the memory of a dead one; no source of it is in the poller. */
void connection_destroy(struct connection *connection);

/* The functions of env.h that take a session handle, which is a struct connection. */
int connection_arena_back(struct connection *connection, uint64_t arena_size);
void connection_reply(struct connection *connection, const void *message, size_t size);
void connection_session_free(struct connection *connection);

#endif
