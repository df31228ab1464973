/* machine.h - what bench_beyond asks of the machine: a memory limit, an empty page cache, bytes written and kept. */
#ifndef BENCH_MACHINE_H
#define BENCH_MACHINE_H

#include <stdbool.h>
#include <stdint.h>

enum { MACHINE_PATH = 512 };

/* A memory control group of version 1 or 2 below the caller's own. */
struct machine_limit {
    char path[MACHINE_PATH]; /* of its directory; empty: none could be had */
};

/* Makes a group that may use `bytes` of memory, page cache and shared memory included. False with the reason in *why. */
bool machine_limit_create(struct machine_limit *limit, uint64_t bytes, const char **why);
/* The calling process, and what it starts from now on, are in it. */
bool machine_limit_enter(const struct machine_limit *limit);
/* Its processes have ended; waits a moment for those that are just ending. */
void machine_limit_remove(const struct machine_limit *limit);

/* Takes the files below `path` out of the page cache, writing them back before. */
void machine_forget(const char *path);
/* Bytes of disk that the files below `path` take. */
uint64_t machine_usage(const char *path);
/* Bytes that this process (0: the caller) caused to be written, as the kernel counts them when a page becomes dirty. */
uint64_t machine_written(int pid);
/* Bytes written to the device that holds `path`, by anybody; 0: unknown. */
uint64_t machine_device_written(const char *path);

#endif
