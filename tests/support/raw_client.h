/* support/raw_client.h - a client without libmace: it speaks the socket, lanes and ring by hand, step by step, to stop,
 * die or lie at each of them.
 */
#ifndef SUPPORT_RAW_CLIENT_H
#define SUPPORT_RAW_CLIENT_H

#include "mshm/message.h"
#include "mshm/ops.h"
#include "mshm/protocol.h"
#include "mshm/read.h"
#include "mshm/segment.h"

struct raw_client {
    int socket, store_fd, hints_fd, session_fd, doorbell; /* -1: none */
    struct mshm_welcome welcome;
    struct mshm_segment store, hints, shared; /* shared: the session's */
    struct mshm_session *session;
    struct mshm_view view;
    struct mshm_producer producer;
};

/* Connects to path/mace.sock; the descriptor, or -1. */
int raw_client_connect(const char *path);
/* Sends HELLO and takes the welcome with its descriptors. Returns the welcome's status, or MSHM_BROKER_LOST when the
 * connection ended. hello NULL: a right one. */
int raw_client_hello(struct raw_client *client, const struct mshm_hello *hello);
/* Both, and maps: 1, or 0 when no broker answers. */
int raw_client_try(struct raw_client *client, const char *path);
/* The same, and it has to succeed. */
void raw_client_open(struct raw_client *client, const char *path);
/* Ends without a good-bye. */
void raw_client_close(struct raw_client *client);
/* Sends a message and takes the reply; its status, or MSHM_BROKER_LOST. */
int raw_client_control(struct raw_client *client, const struct mshm_message *request,
                       struct mshm_message *reply, size_t capacity);
/* The tree of a bucket that exists. */
struct mshm_tree_ref raw_client_tree(struct raw_client *client, const char *bucket);

/* Writes the request's operations: one put. Returns bytes, and the offset for the request. */
uint64_t raw_client_arena_put(struct raw_client *client, uint32_t bucket, unsigned kind,
                              const char *key, const char *value, uint64_t *arena_offset);
/* Writes the ring place of the next request without publishing it. */
void raw_client_place(struct raw_client *client, unsigned kind, unsigned flags, unsigned lane,
                      mshm_timestamp snapshot, uint64_t arena_offset, uint64_t arena_size);
void raw_client_ring_bell(struct raw_client *client);
/* Publishes a one-call put and waits for its answer. MSHM_BROKER_LOST when the session was ended. */
int raw_client_put(struct raw_client *client, uint32_t bucket, const char *key, const char *value);
/* True when the broker has hung up. */
int raw_client_ended(const struct raw_client *client);

#endif
