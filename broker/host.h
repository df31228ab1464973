/* host.h - the machine around the core: what a running broker consists of.
 *
 *   main.c -> host_run (host.c): directory, lock, socket, memory, recovery (host_start.c)
 *                |
 *                v
 *             loop_run (host_loop.c):   core_step  <->  env (host_env.c: files, I/O, jobs, memory, sessions)
 *                |                         ^
 *                +-- poller: listener, connections, pidfds, doorbells, signals, completions
 *
 * One loop thread owns all of it; the I/O and job threads see only their own queues.
 */
#ifndef HOST_H
#define HOST_H

#include "core.h"
#include "directory.h"
#include "host_files.h"
#include "host_io.h"
#include "host_jobs.h"
#include "host_stall.h"
#include "lock.h"
#include "options.h"
#include "poller.h"
#include "server.h"

struct host {
    struct host_files files; /* first: env.context is the address of the host and of this */
    const struct options *options;
    struct directory directory;
    struct lock lock;
    struct poller poller;
    struct poller_source signals; /* signalfd of SIGTERM, SIGINT, SIGHUP */
    struct poller_source io_ready, syncs_ready,
        jobs_ready;     /* level-triggered; core_step takes what they announce */
    struct host_io *io; /* a ring where the kernel allows it */
    struct host_io
        *syncs; /* the thread for what somebody waits for: a write with a sync behind it */
    struct host_stall stall; /* of both */
    struct host_jobs jobs;
    struct env env;
    uint64_t cache_size;
    struct mshm_segment store, hints;
    struct core *core;
    struct server server;
    unsigned cpus;
    bool locked;     /* the directory's lock is held */
    bool recovering; /* the doorman answers */
    bool stop_wanted;
    int ready_fd; /* whoever started this broker waits there for a word; -1 */
};

/* Runs a broker from the first look at the directory to the end. Returns the exit status of the program. */
int host_run(const struct options *options);

/* host_start.c: steps of the start, in this order; each MSHM_OK or a status with *why. */
int host_start_directory(struct host *host, char *why, size_t why_size);
int host_start_lock(struct host *host, char *why, size_t why_size);
int host_start_serving(struct host *host, char *why, size_t why_size);

/* host_loop.c. Serves until a stop, idleness or poison; returns the exit status: 0 or 70. */
int host_loop(struct host *host);

/* host_env.c: fills host->env. */
void host_env_fill(struct host *host);

enum { HOST_EXIT_CLEAN = 0, HOST_EXIT_FAILED = 1, HOST_EXIT_MISUSE = 2, HOST_EXIT_POISONED = 70 };

#endif
