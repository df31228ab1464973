/* support/memory.h - what the kernel says of a broker's memory. */
#ifndef SUPPORT_MEMORY_H
#define SUPPORT_MEMORY_H

#include <stdint.h>
#include <sys/types.h>

struct memory {
    uint64_t anonymous; /* RssAnon of /proc/PID/status */
    uint64_t
        store; /* what the store and the hints have in memory, whoever has touched it: blocks of the memfd */
    uint64_t sessions; /* the same of all sessions' segments */
    uint64_t files;    /* RssFile: programs, libraries and mapped log segments */
    uint64_t peak;     /* VmHWM: most that it ever had in memory, of all kinds together */
};

/* 1, or 0 when the process cannot be looked at (it is gone, or somebody else's). */
int memory_look(pid_t pid, struct memory *memory);

#endif
