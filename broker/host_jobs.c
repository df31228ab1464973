/* host_jobs.c - the job threads. */
#include "host_jobs.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>

struct host_job {
    struct host_job *next;
    int (*run)(void *argument);
    void *argument;
    uint64_t tag;
};

static void *
jobs_thread(void *context)
{
    struct host_jobs *jobs = context;

    prctl(PR_SET_NAME, "mace-job");
    pthread_mutex_lock(&jobs->lock);
    for (;;) {
        while (jobs->first == NULL && !jobs->closing)
            pthread_cond_wait(&jobs->changed, &jobs->lock);
        struct host_job *job = jobs->first;
        if (job == NULL)
            break;
        jobs->first = job->next;
        if (jobs->first == NULL)
            jobs->last = &jobs->first;
        pthread_mutex_unlock(&jobs->lock);
        host_done_push(&jobs->done, job->tag, job->run(job->argument));
        free(job);
        pthread_mutex_lock(&jobs->lock);
    }
    pthread_mutex_unlock(&jobs->lock);
    return NULL;
}

/* Also after an open that got half way. */
static void
jobs_end(struct host_jobs *jobs)
{
    pthread_mutex_lock(&jobs->lock);
    jobs->closing = true;
    pthread_cond_broadcast(&jobs->changed);
    pthread_mutex_unlock(&jobs->lock);
    for (unsigned i = 0; i < jobs->thread_count; i++)
        pthread_join(jobs->threads[i], NULL);
    pthread_cond_destroy(&jobs->changed);
    pthread_mutex_destroy(&jobs->lock);
    host_done_fini(&jobs->done);
}

int
host_jobs_open(struct host_jobs *jobs, unsigned cpus)
{
    unsigned wanted = cpus < HOST_JOBS_THREADS_LEAST ? HOST_JOBS_THREADS_LEAST
                      : cpus > HOST_JOBS_THREADS     ? HOST_JOBS_THREADS
                                                     : cpus;

    memset(jobs, 0, sizeof(*jobs));
    jobs->last = &jobs->first;
    int error = host_done_init(&jobs->done);
    if (error != 0)
        return error;
    pthread_mutex_init(&jobs->lock, NULL);
    pthread_cond_init(&jobs->changed, NULL);
    for (; error == 0 && jobs->thread_count < wanted; jobs->thread_count += error == 0)
        error = pthread_create(&jobs->threads[jobs->thread_count], NULL, jobs_thread, jobs);
    if (error != 0) {
        jobs_end(jobs);
        return -error;
    }
    jobs->open = true;
    return 0;
}

void
host_jobs_start(struct host_jobs *jobs, int (*run)(void *argument), void *argument, uint64_t tag)
{
    struct host_job *job = malloc(sizeof(*job));
    bool reserved = host_done_reserve(&jobs->done, jobs->under_way) == 0;

    jobs->under_way++;
    if (job == NULL || !reserved) {
        /* No memory for the order: the loop does the work itself, late but right. */
        free(job);
        host_done_push(&jobs->done, tag, run(argument));
        return;
    }
    *job = (struct host_job){.run = run, .argument = argument, .tag = tag};
    pthread_mutex_lock(&jobs->lock);
    *jobs->last = job;
    jobs->last = &job->next;
    pthread_cond_signal(&jobs->changed);
    pthread_mutex_unlock(&jobs->lock);
}

unsigned
host_jobs_poll(struct host_jobs *jobs, struct env_completion *to, unsigned capacity)
{
    if (jobs->under_way == 0)
        return 0;
    unsigned count = host_done_take(&jobs->done, to, capacity);
    jobs->under_way -= count;
    return count;
}

void
host_jobs_close(struct host_jobs *jobs)
{
    if (!jobs->open)
        return;
    jobs->open = false;
    jobs_end(jobs);
}
