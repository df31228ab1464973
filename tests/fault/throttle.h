/* fault/throttle.h - reads of a process from a device that wait until it is said that they may go on: the kernel's limit of
 * bytes per second, in a control group (version 1 or 2) of the process's own. The kernel keeps the requests, not a thread.
 */
#ifndef THROTTLE_H
#define THROTTLE_H

#include <stdbool.h>
#include <sys/types.h>

#include "support/scratch.h"

struct throttle {
    char group[SCRATCH_PATH];
    char device[32]; /* major:minor */
    bool unified;    /* version 2 */
};

/* From now on no read of this process from this block device ends. NULL, or what this machine does not allow. */
const char *throttle_begin(struct throttle *throttle, pid_t pid, const char *device);
/* They go on. The process is gone, or goes back to where it came from. */
void throttle_end(struct throttle *throttle);

#endif
