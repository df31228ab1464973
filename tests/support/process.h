/* support/process.h - forked workers, waiting for what must come, and what /proc knows of a process. */
#ifndef SUPPORT_PROCESS_H
#define SUPPORT_PROCESS_H

#include <stdint.h>
#include <sys/types.h>

#include "support/require.h"

/* Nanoseconds of CLOCK_MONOTONIC. */
uint64_t process_time_ns(void);
/* Sleeps between two looks at a condition. */
void process_pause(void);

/* Looks until `condition` holds; a minute without it is a failure. The limit is there for hangs, not for speed. */
enum { WAIT_LIMIT_SECONDS = 60 };
#define wait_for(condition)                                                                \
    do {                                                                                   \
        uint64_t wait_end = process_time_ns() + UINT64_C(1000000000) * WAIT_LIMIT_SECONDS; \
        while (!(condition)) {                                                             \
            require(process_time_ns() < wait_end, "waited %d s", (int)WAIT_LIMIT_SECONDS); \
            process_pause();                                                               \
        }                                                                                  \
    } while (0)

/* A forked process of a test. It dies with its parent. `channel` is a stream socket between the two. */
struct worker {
    pid_t pid; /* 0: none */
    int channel;
};
/* Runs run(channel, argument) in a child, which then ends with status 0. */
void worker_start(struct worker *worker, void (*run)(int channel, void *argument), void *argument);
/* Waits for the end and returns the wait status. */
int worker_wait(struct worker *worker);
/* Waits for the end, which has to be with status 0. */
void worker_join(struct worker *worker);
/* SIGKILL, and waits for the end; returns the wait status. */
int worker_kill(struct worker *worker);
/* SIGSTOP, and waits until it is stopped. */
void worker_stop(struct worker *worker);
void worker_continue(struct worker *worker);

/* One word over a channel, in both directions. tell: EPIPE is a failure. hear: returns 0 at the end of the channel. */
void channel_tell(int channel, uint64_t word);
int channel_hear(int channel, uint64_t *word);
/* Hears `word`, and nothing else. */
void channel_expect(int channel, uint64_t word);

/* The state letter of /proc/PID/stat, 0 when there is no such process. */
char process_state(pid_t pid);
/* Descriptors that a process has open, those of the database's files left out, whose number depends on where the log and
 * the checkpoints stand; -1 when that may not be looked at. */
int process_descriptors(pid_t pid);
/* Children of this process, zombies included. */
int process_children(void);
/* CPU time of a process in clock ticks. */
uint64_t process_cpu_ticks(pid_t pid);

#endif
