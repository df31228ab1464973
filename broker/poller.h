/* poller.h - the one place where a thread of the broker sleeps: an epoll set of sources with a function each.
 *
 * A source is embedded in what owns the descriptor. A ready function may remove and close any source; memory that holds
 * sources may be freed only outside poller_wait, because events already taken from the kernel may still name it: a
 * removed source (fd -1) is skipped.
 */
#ifndef POLLER_H
#define POLLER_H

#include <stdint.h>

struct poller {
    int epoll;
};

struct poller_source {
    int fd; /* -1: not in the set */
    void (*ready)(struct poller_source *source, uint32_t events);
};

/* 0 or -errno. */
int poller_init(struct poller *poller);
void poller_fini(struct poller *poller);
/* Watches source->fd for `events` (EPOLLIN, EPOLLET...). 0 or -errno. */
int poller_add(struct poller *poller, struct poller_source *source, uint32_t events);
int poller_change(struct poller *poller, struct poller_source *source, uint32_t events);
/* Takes the source out, closes its descriptor and sets it to -1; harmless when it is -1. Closing alone is not enough: an
 * eventfd that a client holds as well would stay in the set. */
void poller_close(struct poller *poller, struct poller_source *source);
/* The same, for a descriptor that belongs to somebody else and stays open. */
void poller_remove(struct poller *poller, struct poller_source *source);
/* Sleeps until something is ready or `timeout_ns` passed (UINT64_MAX: for ever; 0: only looks), then calls the ready
 * functions. Returns how many sources were ready; 0 also after a signal. */
int poller_wait(struct poller *poller, uint64_t timeout_ns);

#endif
