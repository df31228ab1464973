/* spawn.h - starting mace-broker from inside somebody else's process. */
#ifndef MLIB_SPAWN_H
#define MLIB_SPAWN_H

#include <stddef.h>
#include <stdint.h>

struct mlib_spawn {
    const char *program; /* path of mace-broker */
    const char *path;    /* absolute, of the data directory */
    uint64_t cache_size; /* bytes, 0 = the broker's default */
    unsigned idle_exit_ms;
};

/* Finds the broker program: `wanted` (or NULL), $MACE_BROKER, the install prefix, PATH. Writes its path to `out`.
 * MSHM_OK; MSHM_NOT_FOUND; MSHM_INVALID (longer than `size`). */
int mlib_spawn_find(const char *wanted, char *out, size_t size);

/* Starts it as a daemon: no child of this process, no descriptor of it, a session of its own, default signals, cwd /.
 * The host's signal handlers, signal mask and children are left alone: the intermediate child is made without an exit
 * signal and is reaped by its number. *ready_fd receives the reading end of a pipe on which the broker reports (see
 * mlib_spawn_ready). MSHM_OK, MSHM_LIMIT (descriptors), MSHM_NO_MEMORY. */
int mlib_spawn_start(const struct mlib_spawn *spawn, int *ready_fd);

/* Waits for the report until deadline_ns (CLOCK_MONOTONIC): MSHM_OK when a broker serves, the status it failed with, or
 * MSHM_BROKER_LOST when it ended without a word or the time is over. Closes ready_fd. */
int mlib_spawn_ready(int ready_fd, uint64_t deadline_ns);

#endif
