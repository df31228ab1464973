/* host_many.h - many reads at once for a job (env.h, file_read_many), through a ring of its own: the loop's belongs to the
 * loop's thread.
 *
 * What a checkpoint reads is about to be superseded, so it had better go past the page cache: a page there costs as much
 * time as the disk needs for it, and drives out one that somebody may want. What stands there anyway is taken from there.
 */
#ifndef HOST_MANY_H
#define HOST_MANY_H

#include "env.h"

struct host_many;

/* 0 or -errno: the kernel refuses rings. */
int host_many_open(struct host_many **many);
/* NULL is harmless. */
void host_many_close(struct host_many *many);

/* One read through a descriptor; the result as read(2) gives it: fewer bytes, or -errno. */
struct host_many_item {
    int fd;
    struct env_read *read;
};
/* All of them; returns when the last one has ended. One thread at a time. */
void host_many_run(struct host_many *many, const struct host_many_item *items, unsigned count);

/* Are these bytes in the page cache? `map`: of the whole file, made with host_many_map. */
bool host_many_cached(void *map, uint64_t offset, size_t size);
/* A mapping for that question alone; NULL: there is none, and nothing is cached as far as anybody knows. */
void *host_many_map(int fd);
void host_many_unmap(void *map);

#endif
