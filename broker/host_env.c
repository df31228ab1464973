/* host_env.c - the functions of env.h that are not files: clock, chance, I/O, jobs, memory, sessions. */
#include <errno.h>
#include <limits.h>
#include <linux/futex.h>
#include <stdlib.h>
#include <sys/random.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "events.h"
#include "host.h"
#include "host_clock.h"
#include "mshm/status.h"

static uint64_t
host_env_clock_ns(void *context)
{
    (void)context;
    return host_clock_ns();
}

static uint64_t
host_env_random(void *context)
{
    uint64_t value = 0;

    (void)context;
    while (getrandom(&value, sizeof(value), 0) != (ssize_t)sizeof(value))
        if (errno != EINTR)
            abort(); /* ids that are not unique would mix up databases */
    return value;
}

static void
host_env_append(void *context, struct env_file *file, uint64_t offset, const void *from,
                size_t size, bool sync, uint64_t tag)
{
    struct host *host = context;
    /* The ring hands every sync to a worker of the kernel, and the write before it to another one. */
    struct host_io *io = sync && size > 0 ? host->syncs : host->io;
    host_stall_begin(&host->stall, tag, host_clock_ns());
    int fd = host_file_direct(file);
    if (fd < 0 || size == 0 || !host_direct_fits(offset, from, size))
        fd = host_file_descriptor(file);
    host_io_append(io, fd, offset, from, size, sync, tag);
}

static void
host_env_read_start(void *context, struct env_file *file, uint64_t offset, void *to, size_t size,
                    uint64_t tag)
{
    struct host *host = context;
    host_stall_begin(&host->stall, tag, host_clock_ns());
    int direct = host_file_direct(file);
    if (direct >= 0 &&
        host_io_read_direct(host->io, direct, host->files.read_unit, offset, to, size, tag) == 0)
        return;
    host_io_read(host->io, host_file_reads(file, offset, size), offset, to, size, tag);
}

static void
host_env_job_start(void *context, int (*job)(void *argument), void *argument, uint64_t tag)
{
    struct host *host = context;
    host_jobs_start(&host->jobs, job, argument, tag);
}

static unsigned
host_env_poll(void *context, struct env_completion *completions, unsigned capacity)
{
    struct host *host = context;
    unsigned count = host_io_poll(host->syncs, completions, capacity);
    count += host_io_poll(host->io, completions + count, capacity - count);
    for (unsigned i = 0; i < count; i++)
        host_stall_end(&host->stall, completions[i].tag);
    return count + host_jobs_poll(&host->jobs, completions + count, capacity - count);
}

static int
host_env_store_back(void *context, uint64_t offset, uint64_t size)
{
    struct host *host = context;
    int status = mshm_segment_back(&host->store, offset, size);
    return status == MSHM_OK ? 0 : status == MSHM_INVALID ? -EINVAL : -ENOMEM;
}

static int
host_env_arena_back(void *context, void *session_handle, uint64_t arena_size)
{
    (void)context;
    return connection_arena_back(session_handle, arena_size);
}

static void
host_env_wake(void *context, unsigned int *word)
{
    (void)context;
    syscall(SYS_futex, word, FUTEX_WAKE, INT_MAX, NULL, NULL, 0);
}

static void
host_env_reply(void *context, void *session_handle, const void *message, size_t size)
{
    (void)context;
    connection_reply(session_handle, message, size);
}

static void
host_env_session_free(void *context, void *session_handle)
{
    (void)context;
    connection_session_free(session_handle);
}

static void
host_env_log(void *context, enum env_log_level level, const char *line)
{
    (void)context;
    events_line(level, line);
}

void
host_env_fill(struct host *host)
{
    struct env *env = &host->env;

    env->context = host;
    host_files_fill(env);
    env->clock_ns = host_env_clock_ns;
    env->random = host_env_random;
    env->file_append = host_env_append;
    env->file_read_start = host_env_read_start;
    env->job_start = host_env_job_start;
    env->poll = host_env_poll;
    env->store_back = host_env_store_back;
    env->arena_back = host_env_arena_back;
    env->wake = host_env_wake;
    env->reply = host_env_reply;
    env->session_free = host_env_session_free;
    env->log = host_env_log;
}
