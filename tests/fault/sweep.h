/* fault/sweep.h - the files of unit/broker/fake_env.h with faults: the n-th call of a kind fails, or the disk is full from
 * it on. */
#ifndef SWEEP_H
#define SWEEP_H

#include "fake_env.h"

enum sweep_kind {
    SWEEP_WRITE,  /* file_write, and the write of an append: half of the bytes are written */
    SWEEP_SYNC,   /* file_sync, and the sync of an append */
    SWEEP_READ,   /* file_read, file_read_start */
    SWEEP_OPEN,   /* file_open of a file that is there, file_size */
    SWEEP_CREATE, /* file_open that makes a file, directory_create */
    SWEEP_PREALLOCATE,
    SWEEP_NAMES,     /* rename, remove */
    SWEEP_DIRECTORY, /* directory_sync */
    SWEEP_MAP,
    SWEEP_GROWTH, /* whatever needs room: creating, preallocating, writing beyond the end */
    SWEEP_KINDS
};
const char *sweep_name(enum sweep_kind kind);

/* One for the process; begins with no fault. Replaces functions of fake->env. */
void sweep_begin(struct fake *fake);
/* The n-th call of this kind from now (1 = the next) fails with -error; for good: so does every one after it. 0: none. */
void sweep_plan(enum sweep_kind kind, uint64_t nth, int error, bool for_good);
/* Only calls for files whose names begin so count from now on; NULL: all. */
void sweep_only(const char *prefix);
bool sweep_met(void);
/* The n-th append from now does not end, as far as this life of the broker sees; sweep_met then. sweep_release: it does
 * now, in the file that it was for, whatever that is called today; nothing happens when the file is gone. */
void sweep_hold(uint64_t nth);
void sweep_release(void);
bool sweep_held(void);
void sweep_end(void); /* no fault any more: the disk was repaired, or has room */

#endif
