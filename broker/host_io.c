/* host_io.c - choice of the I/O backend, and what both share. */
#include "host_io.h"

#include <poll.h>
#include <string.h>

#include "events.h"

int
host_io_open(struct host_io **io, int directory_fd, bool uring)
{
    if (uring) {
        int error = host_uring_open(io, directory_fd);
        if (error == 0)
            return 0;
        events_print(ENV_LOG_WARNING, "io_uring is refused (%s): using system calls on threads",
                     strerror(-error));
    }
    return host_posix_open(io, HOST_READERS);
}

void
host_io_append(struct host_io *io, int fd, uint64_t offset, const void *from, size_t size,
               bool sync, uint64_t tag)
{
    io->under_way++;
    io->backend->append(io, fd, offset, from, size, sync, tag);
}

void
host_io_read(struct host_io *io, int fd, uint64_t offset, void *to, size_t size, uint64_t tag)
{
    struct host_read read;

    host_read_init(&read, fd, offset, to, size, tag);
    io->under_way++;
    io->backend->read(io, &read);
}

int
host_io_read_direct(struct host_io *io, int fd, uint32_t unit, uint64_t offset, void *to,
                    size_t size, uint64_t tag)
{
    struct host_read read;
    int error = host_read_init_direct(&read, fd, unit, offset, to, size, tag);

    if (error != 0)
        return error;
    io->under_way++;
    io->backend->read(io, &read);
    return 0;
}

void
host_io_submit(struct host_io *io)
{
    if (io->under_way > 0 && io->backend->submit != NULL)
        io->backend->submit(io);
}

unsigned
host_io_poll(struct host_io *io, struct env_completion *to, unsigned capacity)
{
    if (io->under_way == 0)
        return 0;
    unsigned count = io->backend->poll(io, to, capacity);
    io->under_way -= count;
    return count;
}

void
host_io_drain(struct host_io *io)
{
    struct env_completion ended[16];

    while (io != NULL && io->under_way > 0) {
        if (host_io_poll(io, ended, 16) > 0)
            continue;
        struct pollfd wait = {.fd = io->backend->descriptor(io), .events = POLLIN};
        poll(&wait, 1, 100);
    }
}

void
host_io_close(struct host_io *io)
{
    host_io_drain(io);
    if (io != NULL)
        io->backend->close(io);
}
