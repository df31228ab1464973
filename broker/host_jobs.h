/* host_jobs.h - the thread that runs the core's jobs, one after the other, in the order of their start. */
#ifndef HOST_JOBS_H
#define HOST_JOBS_H

#include "host_done.h"

struct host_job;

struct host_jobs {
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    struct host_job *first, **last; /* under the lock */
    bool closing;                   /* under the lock */
    bool open;                      /* loop thread */
    unsigned under_way;             /* loop thread: started and not taken */
    struct host_done done;
};

/* Starts the thread. 0 or -errno. */
int host_jobs_open(struct host_jobs *jobs);
/* As env.job_start. Loop thread. */
void host_jobs_start(struct host_jobs *jobs, int (*job)(void *argument), void *argument,
                     uint64_t tag);
/* As env.poll. Loop thread. */
unsigned host_jobs_poll(struct host_jobs *jobs, struct env_completion *to, unsigned capacity);
/* Runs what was started, drops the results, ends the thread; harmless when it is not open. */
void host_jobs_close(struct host_jobs *jobs);

#endif
