/* host_jobs.h - the threads that run the core's jobs: begun in the order of their start, several at a time, so that they
 * end in any order. */
#ifndef HOST_JOBS_H
#define HOST_JOBS_H

#include "host_done.h"

struct host_job;

enum { HOST_JOBS_THREADS = 4, HOST_JOBS_THREADS_LEAST = 3 };

struct host_jobs {
    pthread_t threads[HOST_JOBS_THREADS];
    unsigned thread_count;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    struct host_job *first, **last; /* under the lock */
    bool closing;                   /* under the lock */
    bool open;                      /* loop thread */
    unsigned under_way;             /* loop thread: started and not taken */
    struct host_done done;
};

/* Starts as many threads as there are processors, within HOST_JOBS_THREADS_LEAST and HOST_JOBS_THREADS: with one
 * processor a long job, which mostly waits for the disk, does not hold up a short one either: not even a checkpoint, which
 * runs two at a time. 0 or -errno. */
int host_jobs_open(struct host_jobs *jobs, unsigned cpus);
/* As env.job_start. Loop thread. */
void host_jobs_start(struct host_jobs *jobs, int (*job)(void *argument), void *argument,
                     uint64_t tag);
/* As env.poll. Loop thread. */
unsigned host_jobs_poll(struct host_jobs *jobs, struct env_completion *to, unsigned capacity);
/* Runs what was started, drops the results, ends the threads; harmless when it is not open. */
void host_jobs_close(struct host_jobs *jobs);

#endif
