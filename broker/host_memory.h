/* host_memory.h - how much memory there is for this process, and whether a cache fits into it.
 *
 * Over a control group's limit neither fallocate nor a touch fails: the process is killed. So the limit is compared with
 * the cache once, at the start, and what cannot fit is refused with both sizes. */
#ifndef HOST_MEMORY_H
#define HOST_MEMORY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The least of the machine's memory and the limits of the control groups (version 1 and 2) above this process. `root` is
 * put before /proc and /sys: "" but in tests. 0 when nothing can be read. */
uint64_t host_memory_limit(const char *root);
/* The cache to use: `wanted` bytes, or for 0 a quarter of `limit` (0: unknown), in whole 2 MiB. MSHM_OK, or
 * MSHM_NO_MEMORY with *why when cache, hints and the broker's own memory cannot fit. Pure. */
int host_memory_cache(uint64_t wanted, uint64_t limit, uint64_t *cache, char *why, size_t why_size);

/* Does what this cache leaves of `limit` (0: unknown) for the kernel's page cache hold more pages than it does itself? If
 * not, that one would hold copies of the same pages. Pure. */
bool host_memory_caches_more(uint64_t limit, uint64_t cache);

#endif
