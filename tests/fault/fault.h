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
    FAULT_SHORT_READS = 64,   /* reads transfer a part, or are interrupted */
    FAULT_SLOW = 128, /* reads, writes and syncs of files do not end until this is taken back */
    FAULT_NO_DIRECT = 256, /* no file can be opened with O_DIRECT */
};

/* Calls of which the n-th fails once. */
enum fault_call {
    FAULT_CALL_WRITE = 1,
    FAULT_CALL_READ = 2,
    FAULT_CALL_SYNC = 4, /* of files and directories */
    FAULT_CALL_ALLOCATE = 8,
    FAULT_CALL_NAMES = 16, /* rename, unlink */
};

/* struct fault_control - what both map. kinds: written by the test, and by the shim when a fault was for once; hits:
 * counted by the shim. calls, nth, error: written by the test before any broker runs: which calls are counted, which one
 * of them fails (0: none), with which errno; counted: by the shim, through all lives of the broker. */
struct fault_control {
    AO_t kinds;
    AO_t hits;
    AO_t calls, nth, error;
    AO_t counted;
    AO_t direct_reads, direct_writes; /* counted by the shim: calls on descriptors with O_DIRECT */
};

/* The control of a broker that broker_start is about to start with fault_options; no fault is on. NULL where a preloaded
 * library cannot work. */
struct fault_control *fault_control_create(const char *directory);
/* Options of a broker with the shim, which uses no ring: the shim does not see what a ring does. */
void fault_options(struct broker_options *options);

#endif
