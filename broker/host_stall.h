/* host_stall.h - requests that the disk has not answered for long: counted while they wait, so that whoever looks knows what
 * everybody waits for. Nothing follows from it: a slow disk is no dead one, and the lock stays with the ring.
 *
 * The loop thread's. A request is known by its tag; two that are under way at a time and share a place (see the .c file) are
 * seen as one, which costs a figure and nothing else.
 */
#ifndef HOST_STALL_H
#define HOST_STALL_H

#include <stdbool.h>

#include "mshm/counters.h"

enum { HOST_STALL_PLACES = 8192 };

struct host_stall {
    uint64_t since_ns[HOST_STALL_PLACES]; /* when a request began; 0: none is under way */
    bool counted[HOST_STALL_PLACES];
    uint64_t looked_ns;
    unsigned stalled;          /* of those that are under way, the ones that count */
    uint64_t first_ns;         /* since when the oldest of this time of trouble has waited */
    AO_t *stalls, *unanswered; /* the figures; NULL: nobody looks yet */
};

void host_stall_figures(struct host_stall *stall, struct mshm_counters *counters);
void host_stall_begin(struct host_stall *stall, uint64_t tag, uint64_t now_ns);
void host_stall_end(struct host_stall *stall, uint64_t tag);
/* Counts the requests that have waited for a second; costs something a few times a second at most. */
void host_stall_look(struct host_stall *stall, uint64_t now_ns);

#endif
