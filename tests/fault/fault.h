/* fault/fault.h - faults that a test switches on in a running broker.
 *
 * shim.c is preloaded into the broker and stands between it and the C library's I/O and clocks. What it does is told by a
 * word in a file that both map: the test writes it, the shim reads it at each call.
 */
#ifndef FAULT_H
#define FAULT_H

#include <atomic_ops.h>

#include "support/broker.h"

enum fault_kind {
    FAULT_WRITE_EIO = 1,      /* the next write of a file fails, once */
    FAULT_SYNC_EIO = 2,       /* the next fdatasync fails, once */
    FAULT_SHORT_WRITES = 4,   /* writes transfer a part, or are interrupted */
    FAULT_REALTIME_JUMPS = 8, /* the wall clock jumps by years from call to call */
    FAULT_MONOTONIC_GAP = 16, /* the monotonic clock is hours ahead, as after a suspend */
    FAULT_NO_SPACE = 32,      /* files cannot grow */
};

/* struct fault_control - the shared word. kinds: written by the test, and by the shim when a fault was for once; hits:
 * counted by the shim. */
struct fault_control {
    AO_t kinds;
    AO_t hits;
};

/* The control of a broker that broker_start is about to start with fault_options; no fault is on. NULL where a preloaded
 * library cannot work. */
struct fault_control *fault_control_create(const char *directory);
/* Options of a broker with the shim, which uses no ring: the shim does not see what a ring does. */
void fault_options(struct broker_options *options);

#endif
