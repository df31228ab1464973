/* host_ahead.c - which reads follow each other. */
#include "host_ahead.h"

bool
host_ahead_read(struct host_ahead *ahead, uint64_t offset, size_t size)
{
    bool follows = offset >= ahead->end && offset - ahead->end <= HOST_AHEAD_GAP;

    ahead->end = offset + size;
    if (follows)
        ahead->run += ahead->run < HOST_AHEAD_MOST;
    else
        ahead->run -= ahead->run < HOST_AHEAD_BREAK ? ahead->run : HOST_AHEAD_BREAK;
    bool random = ahead->run < HOST_AHEAD_LEAST;
    bool changed = random != ahead->told;
    ahead->told = random;
    return changed;
}
