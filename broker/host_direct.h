/* host_direct.h - data files past the page cache (O_DIRECT): where the cache of the broker is meant to be all the memory that the
 * database takes. The kernel wants places, sizes and memory aligned: checkpoints write whole blocks (core_options.
 * data_alignment), reads take the blocks around what is wanted and copy.
 */
#ifndef HOST_DIRECT_H
#define HOST_DIRECT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { HOST_DIRECT_BLOCK = 4096 };

/* 0 when the file system of this directory takes such writes and reads, else -errno. Leaves nothing behind. */
int host_direct_probe(int directory);

/* What reads with O_DIRECT have to be multiples of, bytes: 512 or HOST_DIRECT_BLOCK; 0: they are refused here. */
uint32_t host_direct_read_unit(int directory);

/* True when the kernel takes these bytes as they are. */
static inline bool
host_direct_fits(uint64_t offset, const void *bytes, size_t size)
{
    return ((offset | (uintptr_t)bytes | size) & (HOST_DIRECT_BLOCK - 1)) == 0;
}

/* The blocks around a range, and memory for them. */
struct host_direct_range {
    uint8_t *blocks; /* of block_size bytes, the range begins at `skip` */
    uint64_t offset;
    size_t block_size, skip;
    uint32_t unit; /* that the blocks consist of: host_direct_read_unit */
};
/* 0 or -ENOMEM. The memory is the caller's to free. */
int host_direct_range_init(struct host_direct_range *range, uint32_t unit, uint64_t offset,
                           size_t size);
/* Copies what was read of the range: `got` bytes of the blocks are there. Returns how many bytes of the range those were. */
size_t host_direct_range_copy(const struct host_direct_range *range, uint64_t got, void *to,
                              size_t size);

/* Reads through a descriptor that was opened with O_DIRECT: bytes, fewer only at the end of the file, or -errno. */
int64_t host_direct_read(int fd, uint32_t unit, uint64_t offset, void *to, size_t size);

#endif
