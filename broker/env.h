/* env.h - everything the broker's core may not do itself: time, chance, files, jobs, memory, waking, answering.
 *
 * The core is a deterministic function of what comes through this interface and through the sessions' segments. The
 * program fills it with the kernel (host_*.c); tests/sim fills it with a simulated disk, clock and scheduler.
 * Functions marked [loop] are called by the loop thread only; [any] also from jobs.
 */
#ifndef ENV_H
#define ENV_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct env_file; /* owned by the environment; open until file_close */

enum env_open_flags {
    ENV_OPEN_CREATE = 1, /* make it, fail with EEXIST if it is there */
    ENV_OPEN_WRITE = 2,  /* read-write, else read-only */
    /* With CREATE: no name leads to it, and it is gone when it is closed. Where there are no such files the name is used,
     * and taken away at once. */
    ENV_OPEN_UNNAMED = 4,
    ENV_OPEN_EXISTING = 0,
};

/* One of many reads; result: as that of file_read. */
struct env_read {
    struct env_file *file;
    uint64_t offset;
    void *to;
    size_t size;
    int64_t result;
};

/* What ended: an append, a sync, a read or a job, named by the tag its starter chose. result: 0 (a read: its bytes)
 * or -errno. */
struct env_completion {
    uint64_t tag;
    int64_t result;
};

enum env_log_level { ENV_LOG_DEBUG, ENV_LOG_INFO, ENV_LOG_WARNING, ENV_LOG_ERROR };

struct env {
    void *context; /* first argument of every function */

    /* [any] Nanoseconds of a monotonic clock; never wall time. */
    uint64_t (*clock_ns)(void *context);
    /* [loop] 64 random bits. */
    uint64_t (*random)(void *context);

    /* Files of the data directory, by name relative to it ("wal/000001.log"). All return 0 or a positive size, else
     * -errno; all retry EINTR and short transfers themselves. [any], one caller at a time for one file, but that any
     * number may file_read at the same time. */
    int (*file_open)(void *context, const char *name, unsigned flags, struct env_file **file);
    void (*file_close)(void *context, struct env_file *file);
    int64_t (*file_size)(void *context, struct env_file *file);
    int64_t (*file_read)(void *context, struct env_file *file, uint64_t offset, void *to,
                         size_t size);
    /* Reads that may be under way side by side, of what nobody else will want soon: the page cache need not take it. Best are
     * offsets, sizes and memory that are multiples of `read_unit` bytes, a power of two. NULL: file_read one by one does
     * as well. One caller at a time. */
    void (*file_read_many)(void *context, struct env_read *reads, unsigned count);
    uint32_t read_unit;
    /* A hint, NULL in an environment that has no use for it: nothing changes this range for a while, so that it can go to
     * the disk before the sync. */
    void (*file_behind)(void *context, struct env_file *file, uint64_t offset, uint64_t size);
    int (*file_write)(void *context, struct env_file *file, uint64_t offset, const void *from,
                      size_t size);
    int (*file_sync)(void *context, struct env_file *file); /* fdatasync */
    /* Reserves blocks and sets the size: fallocate, or zeros written where that is refused. */
    int (*file_preallocate)(void *context, struct env_file *file, uint64_t size);
    int (*file_rename)(void *context, const char *from, const char *to);
    int (*file_remove)(void *context, const char *name);
    int (*directory_create)(void *context, const char *name); /* 0 also when it is there */
    int (*directory_sync)(void *context, const char *name);   /* "" = the data directory itself */
    /* Calls each(name) for every entry but "." and ".."; a non-zero return stops and is returned. */
    int (*directory_list)(void *context, const char *name,
                          int (*each)(const char *name, void *argument), void *argument);

    /* A shared writable mapping of [0, size) of a file whose blocks are written (so that no store can meet a full
     * disk), or -errno: then the caller uses write calls. What is stored outlives the process, not a power cut. */
    int (*file_map)(void *context, struct env_file *file, uint64_t size, void **address);
    void (*file_unmap)(void *context, void *address, uint64_t size);

    /* [loop] Starts: write all of [from, from + size) at offset, and, with `sync`, then fdatasync, begun only after the
     * write has ended in full length. The bytes stay untouched until the completion. At most one under way per file.
     * size 0 writes nothing: with `sync` it only syncs. */
    void (*file_append)(void *context, struct env_file *file, uint64_t offset, const void *from,
                        size_t size, bool sync, uint64_t tag);
    /* [loop] Starts a read of [offset, offset + size) into `to`. The completion's result: bytes read, fewer only at the
     * end of the file, or -errno. Any number may be under way, also of one file, which stays open until they ended. */
    void (*file_read_start)(void *context, struct env_file *file, uint64_t offset, void *to,
                            size_t size, uint64_t tag);
    /* [loop] Runs job(argument) on another thread (or inline, later); its return value is the completion's result.
     * Several may run at the same time and end in any order. */
    void (*job_start)(void *context, int (*job)(void *argument), void *argument, uint64_t tag);
    /* [loop] Takes up to `capacity` completions without waiting; returns how many. */
    unsigned (*poll)(void *context, struct env_completion *completions, unsigned capacity);

    /* [loop] Makes [offset, offset + size) of the store usable memory: 0 or -ENOMEM/-ENOSPC. Zero-filled. */
    int (*store_back)(void *context, uint64_t offset, uint64_t size);
    /* [loop] The same for the arena of a session, by its host handle. */
    int (*arena_back)(void *context, void *session_handle, uint64_t arena_size);
    /* [loop] Wakes all waiters of a futex word in a session segment. */
    void (*wake)(void *context, unsigned int *word);
    /* [loop] Sends one message to a session's control connection (dropped if it is gone). */
    void (*reply)(void *context, void *session_handle, const void *message, size_t size);
    /* [loop] The core is done with a session that was ended: unmap, close, forget. */
    void (*session_free)(void *context, void *session_handle);
    /* [any] One line for the log of events, without newline. */
    void (*log)(void *context, enum env_log_level level, const char *line);
};

#endif
