/* host_io.h - what carries out appends and reads: io_uring (host_uring.c), or threads with system calls (host_posix.c)
 * where the kernel refuses rings. Chosen when the broker starts. A write with a sync behind it goes to such a thread in
 * any case: a ring hands the write to one worker of the kernel and the sync to another, and their wake-ups take a third
 * of the time that the disk needs for both.
 *
 * Both hold the open file description of the directory, and with it the lock, for as long as an append is under way,
 * whatever happens to the process: the ring as a registered file, the thread because it keeps the descriptor table:
 * a thread that is killed inside a call ends when the call has ended, and the kernel closes the table's files when the
 * last thread is gone. Liveness is marked before, when the loop thread ends.
 */
#ifndef HOST_IO_H
#define HOST_IO_H

#include "env.h"
#include "host_done.h"
#include "host_read.h"

struct host_io;

struct host_io_backend {
    const char *name;
    void (*append)(struct host_io *io, int fd, uint64_t offset, const void *from, size_t size,
                   bool sync, uint64_t tag);
    void (*read)(struct host_io *io, const struct host_read *read);
    /* Hands what was gathered to the kernel; NULL: nothing is ever gathered. */
    void (*submit)(struct host_io *io);
    unsigned (*poll)(struct host_io *io, struct env_completion *to, unsigned capacity);
    /* Descriptor that is readable while poll has something to do; watched, never read by others. */
    int (*descriptor)(const struct host_io *io);
    /* Everything must have ended. */
    void (*close)(struct host_io *io);
};

struct host_io {
    const struct host_io_backend *backend;
    unsigned under_way; /* appends and reads started and not taken by host_io_poll */
};

/* Opens the ring, smaller ones first when memory is short, and registers directory_fd; 0 or -errno (then the other
 * backend). */
int host_uring_open(struct host_io **io, int directory_fd);
/* Starts the thread for appends, and as many for reads (at most HOST_READERS; with 0 nothing is read). 0 or -errno. */
enum { HOST_READERS = 8 };
int host_posix_open(struct host_io **io, unsigned readers);
/* The ring unless `uring` is false or it is refused; says which one in the log of events. 0 or -errno. */
int host_io_open(struct host_io **io, int directory_fd, bool uring);

/* As env.file_append. Loop thread. */
void host_io_append(struct host_io *io, int fd, uint64_t offset, const void *from, size_t size,
                    bool sync, uint64_t tag);
/* As env.file_read_start. Loop thread. Reads are gathered, so that one call hands many to the kernel: at the next
 * host_io_poll, or at host_io_submit, which therefore comes before a sleep. */
void host_io_read(struct host_io *io, int fd, uint64_t offset, void *to, size_t size, uint64_t tag);
void host_io_submit(struct host_io *io);
/* The same past the page cache, through a descriptor with O_DIRECT; -ENOMEM: nothing was started. */
int host_io_read_direct(struct host_io *io, int fd, uint32_t unit, uint64_t offset, void *to,
                        size_t size, uint64_t tag);
/* As env.poll. Loop thread. */
unsigned host_io_poll(struct host_io *io, struct env_completion *to, unsigned capacity);
/* Waits for what is under way and drops its results: nothing refers to the bytes any more. NULL is harmless. */
void host_io_drain(struct host_io *io);
/* The same, and closes. NULL is harmless. */
void host_io_close(struct host_io *io);

#endif
