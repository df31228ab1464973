/* host_done.h - completions on their way from other threads to the loop.
 *
 * Threads push under a lock; the loop looks at `count` without it, so that looking costs nothing while it spins. `event`
 * is an eventfd in the loop's poller: readable from a push until the loop takes.
 */
#ifndef HOST_DONE_H
#define HOST_DONE_H

#include <atomic_ops.h>
#include <pthread.h>

#include "env.h"

struct host_done {
    pthread_mutex_t lock;
    struct env_completion *items; /* under the lock */
    unsigned capacity;            /* under the lock */
    AO_t
        count; /* written under the lock (release), read by the loop without (acquire): 0 = nothing to take */
    int event; /* eventfd, close-on-exec, non-blocking */
};

/* 0 or -errno. */
int host_done_init(struct host_done *done);
void host_done_fini(struct host_done *done);
/* Makes room for one more item; called by the loop when it starts something, so that a push cannot fail. 0 or -ENOMEM. */
int host_done_reserve(struct host_done *done, unsigned under_way);
/* Any thread. */
void host_done_push(struct host_done *done, uint64_t tag, int64_t result);
/* Loop thread. Takes up to `capacity` items. */
unsigned host_done_take(struct host_done *done, struct env_completion *to, unsigned capacity);

#endif
