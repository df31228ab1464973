/* host.c - the life of a broker: start, serve, leave. */
#include "host.h"

#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "events.h"
#include "liveness.h"
#include "mshm/status.h"

/* For the handler of SIGBUS: the log's mapping cannot be written any more. NULL while nothing is served. */
static unsigned int *host_liveness;

static void
host_bus_error(int number)
{
    static const char text[] =
        "mace-broker: a store to mapped memory failed (disk error or no room)\n";

    (void)number;
    if (host_liveness != NULL)
        liveness_end(host_liveness, MSHM_LIVENESS_POISONED);
    ssize_t ignored = write(STDERR_FILENO, text, sizeof(text) - 1);
    (void)ignored;
    _exit(HOST_EXIT_POISONED);
}

/* Whoever started this broker reads a status and, behind it, a text. */
static void
host_tell_starter(struct host *host, int status, const char *text)
{
    char message[600];
    int32_t word = status;
    size_t size = sizeof(word);

    if (host->ready_fd < 0)
        return;
    memcpy(message, &word, sizeof(word));
    size_t length = strlen(text);
    if (length > sizeof(message) - size)
        length = sizeof(message) - size;
    memcpy(message + size, text, length);
    while (write(host->ready_fd, message, size + length) < 0 && errno == EINTR)
        ;
    close(host->ready_fd);
    host->ready_fd = -1;
}

/* SIGTERM, SIGINT, SIGHUP. While the broker recovers nothing has been promised, and the next start recovers again: it
 * leaves at once. */
static void
host_signal(struct poller_source *source, uint32_t events)
{
    struct host *host = (struct host *)((char *)source - offsetof(struct host, signals));
    struct signalfd_siginfo signal;

    (void)events;
    if (read(source->fd, &signal, sizeof(signal)) != (ssize_t)sizeof(signal))
        return;
    host->stop_wanted = true;
    if (!host->recovering)
        return;
    events_print(ENV_LOG_INFO, "stops in the middle of recovery");
    server_leave(&host->server, host->directory.fd);
    host_tell_starter(host, MSHM_BROKER_LOST, "stopped by a signal");
    _exit(HOST_EXIT_CLEAN);
}

/* Blocked in every thread, because all of them inherit the mask of the first. */
static int
host_watch_signals(struct host *host)
{
    struct sigaction bus = {.sa_handler = host_bus_error};
    sigset_t watched;

    sigemptyset(&watched);
    sigaddset(&watched, SIGTERM);
    sigaddset(&watched, SIGINT);
    sigaddset(&watched, SIGHUP);
    sigprocmask(SIG_BLOCK, &watched, NULL);
    sigaction(SIGBUS, &bus, NULL);
    signal(SIGPIPE, SIG_IGN);
    signal(SIGXFSZ, SIG_IGN);
    signal(SIGUSR1, SIG_IGN);
    signal(SIGUSR2, SIG_IGN);
    host->signals.ready = host_signal;
    host->signals.fd = signalfd(-1, &watched, SFD_CLOEXEC | SFD_NONBLOCK);
    if (host->signals.fd < 0)
        return -errno;
    return poller_add(&host->poller, &host->signals, EPOLLIN);
}

static void
host_init(struct host *host, const struct options *options)
{
    cpu_set_t cpus;

    memset(host, 0, sizeof(*host));
    host->options = options;
    host->directory.fd = -1;
    host->files.directory = -1;
    host->lock.file = -1;
    host->signals.fd = host->io_ready.fd = host->syncs_ready.fd = host->jobs_ready.fd = -1;
    host->store.fd = host->hints.fd = -1;
    host->server.listener.fd = host->server.spare = -1;
    host->server.poller = &host->poller;
    host->poller.epoll = -1;
    host->ready_fd = options->ready_fd;
    host->cpus = sched_getaffinity(0, sizeof(cpus), &cpus) == 0 ? (unsigned)CPU_COUNT(&cpus) : 1;
}

/* Undoes what was done, however far it got. What is under way on the disk ends before the directory, and with it the
 * lock, is closed. */
static void
host_fini(struct host *host, bool forget)
{
    server_leave(&host->server, host->directory.fd);
    poller_remove(&host->poller, &host->io_ready);
    poller_remove(&host->poller, &host->syncs_ready);
    poller_remove(&host->poller, &host->jobs_ready);
    host_jobs_close(&host->jobs);
    host_liveness = NULL;
    host_io_drain(host->syncs);
    host_io_drain(host->io); /* the kernel may still read the core's memory */
    core_destroy(host->core);
    host_io_close(host->syncs);
    host_io_close(host->io);
    host_many_close(host->files.many);
    server_fini(&host->server);
    mshm_segment_fini(&host->hints);
    mshm_segment_fini(&host->store);
    if (host->locked && forget)
        lock_forget(&host->lock, host->directory.fd);
    lock_settled(&host->lock);
    directory_close(&host->directory, forget && host->locked);
    poller_close(&host->poller, &host->signals);
    poller_fini(&host->poller);
}

static int
host_start(struct host *host, char *why, size_t why_size)
{
    int error = poller_init(&host->poller);

    if (error == 0)
        error = host_watch_signals(host);
    if (error != 0) {
        snprintf(why, why_size, "no descriptors: %s", strerror(-error));
        return MSHM_LIMIT;
    }
    int status = host_start_directory(host, why, why_size);
    if (status == MSHM_OK)
        status = host_start_lock(host, why, why_size);
    if (status == MSHM_OK)
        status = host_start_serving(host, why, why_size);
    return status;
}

static int
host_serve(struct host *host)
{
    struct mshm_store *store = (struct mshm_store *)(void *)host->store.base;
    int error = liveness_begin(&store->liveness);

    if (error != 0) {
        events_print(ENV_LOG_ERROR, "the kernel offers no robust list: %s", strerror(-error));
        host_tell_starter(host, MSHM_IO, "the kernel offers no robust list");
        return HOST_EXIT_FAILED;
    }
    host_liveness = &store->liveness;
    host_tell_starter(host, MSHM_OK, "");
    return host_loop(host);
}

int
host_run(const struct options *options)
{
    struct host host;
    char why[512] = "";
    int result = HOST_EXIT_CLEAN;

    host_init(&host, options);
    int status = host_start(&host, why, sizeof(why));
    if (status == MSHM_OK) {
        result = host_serve(&host);
        /* After a failed write nothing more is written, and what is under way is not waited for: the ring holds the
         * lock until it has ended. */
        if (result == HOST_EXIT_POISONED)
            _exit(result);
    } else if (status == MSHM_EXISTS) {
        events_print(ENV_LOG_INFO, "another broker serves %s", host.directory.path);
        host_tell_starter(&host, MSHM_OK, "");
    } else {
        events_print(ENV_LOG_ERROR, "cannot start: %s (%s)", why, mshm_strerror(status));
        host_tell_starter(&host, status, why);
        result = host.stop_wanted ? HOST_EXIT_CLEAN : HOST_EXIT_FAILED;
    }
    host_fini(&host, status != MSHM_OK && status != MSHM_EXISTS);
    return result;
}
