/* host_clock.h - the clock of everything that waits: monotonic, never the wall's. */
#ifndef HOST_CLOCK_H
#define HOST_CLOCK_H

#include <stdint.h>
#include <time.h>

#define HOST_SECOND_NS UINT64_C(1000000000)
#define HOST_MILLISECOND_NS UINT64_C(1000000)

/* Nanoseconds. Any thread. */
static inline uint64_t
host_clock_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * HOST_SECOND_NS + (uint64_t)now.tv_nsec;
}

#endif
