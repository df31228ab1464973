/* mlib_time.h - deadlines on the monotonic clock. A deadline of 0 means none. */
#ifndef MLIB_TIME_H
#define MLIB_TIME_H

#include <stdint.h>
#include <time.h>

static inline uint64_t
mlib_time_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

/* Milliseconds until the deadline, rounded up, at most a minute; 0 when it is over. For poll. */
static inline int
mlib_time_left_ms(uint64_t deadline_ns)
{
    if (deadline_ns == 0)
        return 60000;
    uint64_t now = mlib_time_ns();
    if (now >= deadline_ns)
        return 0;
    uint64_t left = (deadline_ns - now + 999999) / 1000000;
    return left > 60000 ? 60000 : (int)left;
}

/* Sleeps a moment; for use where another process must get on. */
static inline void
mlib_time_pause_ms(unsigned milliseconds)
{
    struct timespec pause = {.tv_sec = milliseconds / 1000,
                             .tv_nsec = (long)(milliseconds % 1000) * 1000000};
    nanosleep(&pause, NULL);
}

#endif
