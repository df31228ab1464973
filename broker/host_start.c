/* host_start.c - the steps from an empty process to a broker that may serve. */
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/stat.h>
#include <unistd.h>

#include "events.h"
#include "host.h"
#include "host_clock.h"
#include "host_direct.h"
#include "host_memory.h"
#include "host_status.h"
#include "kill_point.h"
#include "mshm/counters.h"
#include "mshm/status.h"
#include "page_format.h"

/* The mode of a directory that was there before is its owner's business. */
static void
start_warn_of_closed_directory(const struct host *host)
{
    struct stat status;

    if (host->options->allowed_count > 0 && fstat(host->directory.fd, &status) == 0 &&
        (status.st_mode & 0001) == 0)
        events_print(ENV_LOG_WARNING,
                     "%s has mode %04o: users on the list may not reach the socket",
                     host->directory.path, (unsigned)(status.st_mode & 07777));
}

int
host_start_directory(struct host *host, char *why, size_t why_size)
{
    const struct options *options = host->options;
    /* Whoever may use the socket must be able to reach it, and can do nothing else here. */
    mode_t mode = 0700;

    if ((options->mode & 0060) != 0 || options->allowed_count > 0)
        mode |= 0010;
    if ((options->mode & 0006) != 0 || options->allowed_count > 0)
        mode |= 0001;
    /* Before anything is made on disk. */
    int status = host_memory_cache(options->cache_size, host_memory_limit(""), &host->cache_size,
                                   why, why_size);
    if (status != MSHM_OK)
        return status;
    status = directory_open(&host->directory, options->path, options->create, mode, options->force,
                            why, why_size);
    if (status != MSHM_OK)
        return status;
    start_warn_of_closed_directory(host);
    host->files.directory = host->directory.fd;
    host->files.mappable = host->directory.mappable;
    /* The directory that it was started from is nobody's to keep busy. */
    if (chdir("/") < 0)
        events_print(ENV_LOG_WARNING, "cannot change to /: %s", strerror(errno));
    return MSHM_OK;
}

int
host_start_lock(struct host *host, char *why, size_t why_size)
{
    int status = lock_take(&host->lock, host->directory.fd, host->signals.fd, why, why_size);

    host->stop_wanted = status == MSHM_BROKER_LOST;
    if (status != MSHM_OK)
        return status;
    host->locked = true;
    MACE_KILL_POINT("host:lock_taken");
    /* From here on the ring holds the lock, too. */
    int error = host_io_open(&host->io, host->directory.fd, host->options->uring);
    if (error == 0)
        error = host_posix_open(&host->syncs, 0);
    if (error == 0)
        error = host_jobs_open(&host->jobs, host->cpus);
    if (error != 0) {
        snprintf(why, why_size, "the threads for I/O cannot be started: %s", strerror(-error));
        return host_status(-error);
    }
    return MSHM_OK;
}

static int
start_listening(struct host *host, char *why, size_t why_size)
{
    const struct options *options = host->options;
    struct server_options server = {
        .mode = options->mode,
        .allowed = options->allowed,
        .allowed_count = options->allowed_count,
        .max_sessions = options->max_sessions,
        .max_sessions_per_uid = options->max_sessions_per_uid,
    };
    int status =
        server_listen(&host->server, &server, &host->poller, host->directory.fd, why, why_size);

    lock_settled(&host->lock);
    if (status == MSHM_OK)
        MACE_KILL_POINT("host:listening");
    return status;
}

/* The log of a small cache has small segments: two of them are mapped, and what was stored there is memory that only the
 * disk takes back; a recovery reads them whole. A transaction takes an eighth of the cache at most. */
static uint64_t
start_segment_size(uint64_t cache_size, uint64_t most)
{
    const uint64_t least = UINT64_C(8) << 20;
    uint64_t size = cache_size / 4 / MSHM_UNIT * MSHM_UNIT;

    if (size < least)
        size = least;
    return size < most ? size : most;
}

/* Four times the cache, but enough for a small cache's reader of a while. */
static uint64_t
start_history_size(uint64_t cache_size)
{
    const uint64_t least = UINT64_C(1) << 30;
    return cache_size > least / 4 ? cache_size * 4 : least;
}

static int
start_core(struct host *host, char *why, size_t why_size)
{
    const struct options *options = host->options;
    struct core_options core;

    core_options_init(&core);
    core.cache_size = host->cache_size;
    core.max_sessions = options->max_sessions;
    core.broker_pid = (uint64_t)getpid();
    core.log_mapping = options->log_mapping && host->files.mappable;
    core.data_alignment = host->files.direct ? HOST_DIRECT_BLOCK : 0;
    core.snapshot_max_age_ns = options->snapshot_max_age_ms * HOST_MILLISECOND_NS;
    core.history_size = options->history_size != OPTIONS_HISTORY_DEFAULT
                            ? options->history_size
                            : start_history_size(host->cache_size);
    if (options->page_size != 0)
        core.page_size = options->page_size;
    core.segment_size = options->segment_size != 0
                            ? options->segment_size
                            : start_segment_size(host->cache_size, core.segment_size);
    if (options->data_file_size != 0)
        core.data_file_size = options->data_file_size < DATA_MAX_FILE_SIZE ? options->data_file_size
                                                                           : DATA_MAX_FILE_SIZE;
    if (options->checkpoint_log != 0)
        core.checkpoint_log_bytes = options->checkpoint_log;
    if (options->checkpoint_interval_ms != 0)
        core.checkpoint_interval_ns = options->checkpoint_interval_ms * HOST_MILLISECOND_NS;
    uint64_t size = core_store_size(&core);
    int status = mshm_segment_create(&host->store, "mace-store", size, MSHM_SEGMENT_STORE,
                                     options->huge_pages);
    if (status == MSHM_OK)
        status = mshm_segment_create(&host->hints, "mace-hints", host->cache_size / MSHM_UNIT,
                                     MSHM_SEGMENT_SHARED, MSHM_HUGE_PAGES_OFF);
    if (status == MSHM_OK)
        status = mshm_segment_back(&host->hints, 0, host->hints.size);
    core.hints = host->hints.base;
    if (status == MSHM_OK)
        status = core_create(&host->core, &core, &host->env, host->store.base);
    if (status != MSHM_OK)
        snprintf(
            why, why_size,
            "the shared memory cannot be set up (store of %llu MiB of addresses, cache of %llu "
            "MiB): %s",
            (unsigned long long)(size >> 20), (unsigned long long)(host->cache_size >> 20),
            mshm_strerror(status));
    return status;
}

/* --- the doorman: who answers "recovering" while the loop thread recovers ----------------------------------------- */

struct doorman {
    struct host *host;
    struct poller_source leave; /* eventfd: recovery has ended */
    bool leaving;               /* the doorman's */
    pthread_t thread;
};

static void
doorman_told(struct poller_source *source, uint32_t events)
{
    struct doorman *doorman = (struct doorman *)((char *)source - offsetof(struct doorman, leave));

    (void)events;
    doorman->leaving = true;
}

static void *
doorman_run(void *argument)
{
    struct doorman *doorman = argument;

    while (!doorman->leaving) {
        poller_wait(&doorman->host->poller, HOST_SECOND_NS);
        server_sweep(&doorman->host->server, host_clock_ns());
    }
    return NULL;
}

/* The core is the loop thread's from its first touch, and so is the ring, which cancels what a thread has under way when
 * it ends: so the helper is the one that listens, not the one that recovers. */
static int
start_recovery(struct host *host, char *why, size_t why_size)
{
    struct doorman doorman = {.host = host, .leave = {-1, doorman_told}};
    uint64_t one = 1;

    doorman.leave.fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    int error = doorman.leave.fd < 0 ? -errno : poller_add(&host->poller, &doorman.leave, EPOLLIN);
    if (error == 0) {
        host->recovering = true;
        error = -pthread_create(&doorman.thread, NULL, doorman_run, &doorman);
    }
    if (error != 0) {
        poller_close(&host->poller, &doorman.leave);
        snprintf(why, why_size, "no thread can be started: %s", strerror(-error));
        return host_status(-error);
    }
    char refusal[384] = "";
    int status = core_recover(host->core, host->options->create, refusal, sizeof(refusal));
    if (status != MSHM_OK)
        snprintf(why, why_size, "%s: in %s", refusal, host->directory.path);
    while (write(doorman.leave.fd, &one, sizeof(one)) < 0 && errno == EINTR)
        ;
    pthread_join(doorman.thread, NULL);
    host->recovering = false;
    poller_close(&host->poller, &doorman.leave);
    if (status == MSHM_OK)
        MACE_KILL_POINT("host:recovered");
    return status;
}

/* Takes core and segments down again, to be made anew with a larger cache. */
static void
start_again(struct host *host, uint64_t cache_size)
{
    events_print(ENV_LOG_WARNING,
                 "the data in the log does not fit into a cache of %llu MiB: trying %llu MiB",
                 (unsigned long long)(host->cache_size >> 20),
                 (unsigned long long)(cache_size >> 20));
    core_destroy(host->core);
    host->core = NULL;
    mshm_segment_fini(&host->hints);
    mshm_segment_fini(&host->store);
    host->cache_size = cache_size;
}

/* A database that was filled to the brim must open again with the cache it was filled in, although replay may lay its
 * pages out a little less densely: the cache grows by a quarter, a few times, as far as memory allows. */
static int
start_core_and_recover(struct host *host, char *why, size_t why_size)
{
    enum { TRIES = 4 };
    for (unsigned tries = 1;; tries++) {
        uint64_t larger;
        char ignored[256];
        int status = start_core(host, why, why_size);
        if (status != MSHM_OK)
            return status;
        status = start_recovery(host, why, why_size);
        if (status != MSHM_FULL || !core_cache_short(host->core) || tries == TRIES ||
            host_memory_cache(host->cache_size + host->cache_size / 4, host_memory_limit(""),
                              &larger, ignored, sizeof(ignored)) != MSHM_OK)
            return status;
        start_again(host, larger);
    }
}

/* What jobs read at once goes past the page cache where it can. */
static void
start_many(struct host *host)
{
    host->files.read_unit = host_direct_read_unit(host->directory.fd);
    host->env.read_unit = host->files.read_unit;
    if (host->options->uring)
        (void)host_many_open(&host->files.many);
}

/* Not every file system takes O_DIRECT. */
static int
start_direct(struct host *host, char *why, size_t why_size)
{
    enum options_direct_io wanted = host->options->direct_io;

    if (wanted == OPTIONS_DIRECT_IO_OFF ||
        (wanted == OPTIONS_DIRECT_IO_AUTO &&
         (host->files.read_unit == 0 ||
          host_memory_caches_more(host_memory_limit(""), host->cache_size))))
        return MSHM_OK;
    int error = host_direct_probe(host->directory.fd);
    host->files.direct = error == 0;
    if (error == 0)
        return MSHM_OK;
    if (wanted == OPTIONS_DIRECT_IO_ON) {
        snprintf(why, why_size,
                 "the file system refuses direct I/O (%s), which --direct-io=on wants",
                 strerror(-error));
        return MSHM_INVALID;
    }
    events_print(ENV_LOG_WARNING,
                 "the file system refuses direct I/O (%s): data files go through the page cache",
                 strerror(-error));
    return MSHM_OK;
}

/* Completions are taken by core_step; their sources only end the sleep. */
static void
start_nothing(struct poller_source *source, uint32_t events)
{
    (void)source;
    (void)events;
}

static int
start_watching(struct host *host, char *why, size_t why_size)
{
    host->io_ready = (struct poller_source){host->io->backend->descriptor(host->io), start_nothing};
    host->syncs_ready =
        (struct poller_source){host->syncs->backend->descriptor(host->syncs), start_nothing};
    host->jobs_ready = (struct poller_source){host->jobs.done.event, start_nothing};
    int error = poller_add(&host->poller, &host->io_ready, EPOLLIN);
    if (error == 0)
        error = poller_add(&host->poller, &host->syncs_ready, EPOLLIN);
    if (error == 0)
        error = poller_add(&host->poller, &host->jobs_ready, EPOLLIN);
    if (error != 0)
        snprintf(why, why_size, "completions cannot be watched: %s", strerror(-error));
    return error == 0 ? MSHM_OK : host_status(-error);
}

static void
start_report(struct host *host)
{
    struct mshm_store *store = (struct mshm_store *)(void *)host->store.base;
    struct mshm_figures *figures =
        (struct mshm_figures *)(void *)(host->store.base + store->counters_offset);
    bool uring = strcmp(host->io->backend->name, "io_uring") == 0;

    AO_store(&figures->counters.io_uring, uring);
    host_stall_figures(&host->stall, &figures->counters);
    AO_store(&figures->counters.direct_io, host->files.direct);
    AO_store(&figures->counters.huge_pages, host->store.huge_bytes > 0);
    events_print(ENV_LOG_INFO,
                 "serves %s: incarnation %llu, cache %llu MiB, I/O by %s, %llu MiB on huge pages",
                 host->directory.path, (unsigned long long)core_incarnation(host->core),
                 (unsigned long long)(host->cache_size >> 20), host->io->backend->name,
                 (unsigned long long)(host->store.huge_bytes >> 20));
}

int
host_start_serving(struct host *host, char *why, size_t why_size)
{
    host_env_fill(host);
    int status = start_listening(host, why, why_size);
    start_many(host);
    if (status == MSHM_OK)
        status = start_direct(host, why, why_size);
    if (status == MSHM_OK)
        status = start_core_and_recover(host, why, why_size);
    if (status == MSHM_OK)
        status = start_watching(host, why, why_size);
    if (status != MSHM_OK)
        return status;
    start_report(host);
    server_serve(&host->server, host->core, &host->store, &host->hints);
    return MSHM_OK;
}
