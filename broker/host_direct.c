/* host_direct.c - blocks around ranges. */
#include "host_direct.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* A file without a name: whatever happens, nothing is left. */
static int
probe_file(int directory)
{
    int fd = openat(directory, ".", O_TMPFILE | O_RDWR | O_CLOEXEC | O_DIRECT, 0600);
    return fd < 0 ? -errno : fd;
}

int
host_direct_probe(int directory)
{
    int result = 0, fd = probe_file(directory);

    if (fd < 0)
        return fd;
    uint8_t *block = aligned_alloc(HOST_DIRECT_BLOCK, HOST_DIRECT_BLOCK);
    if (block == NULL) {
        close(fd);
        return -ENOMEM;
    }
    memset(block, 0xa5, HOST_DIRECT_BLOCK);
    if (pwrite(fd, block, HOST_DIRECT_BLOCK, HOST_DIRECT_BLOCK) != HOST_DIRECT_BLOCK)
        result = errno != 0 ? -errno : -EIO;
    block[HOST_DIRECT_BLOCK - 1] = 0;
    if (result == 0 &&
        (pread(fd, block, HOST_DIRECT_BLOCK, HOST_DIRECT_BLOCK) != HOST_DIRECT_BLOCK ||
         block[HOST_DIRECT_BLOCK - 1] != 0xa5))
        result = errno != 0 ? -errno : -EIO;
    free(block);
    close(fd);
    return result;
}

uint32_t
host_direct_read_unit(int directory)
{
    enum { SECTOR = 512 };
    uint32_t unit = HOST_DIRECT_BLOCK;

    if (host_direct_probe(directory) != 0)
        return 0;
    int fd = probe_file(directory);
    uint8_t *block = aligned_alloc(HOST_DIRECT_BLOCK, HOST_DIRECT_BLOCK);
    if (fd >= 0 && block != NULL) {
        memset(block, 0, HOST_DIRECT_BLOCK);
        if (pwrite(fd, block, HOST_DIRECT_BLOCK, 0) == HOST_DIRECT_BLOCK &&
            pread(fd, block, SECTOR, SECTOR) == SECTOR)
            unit = SECTOR;
    }
    free(block);
    if (fd >= 0)
        close(fd);
    return unit;
}

int
host_direct_range_init(struct host_direct_range *range, uint32_t unit, uint64_t offset, size_t size)
{
    const uint64_t mask = unit - 1;

    range->unit = unit;
    range->offset = offset & ~mask;
    range->skip = (size_t)(offset - range->offset);
    range->block_size = (size_t)((range->skip + size + mask) & ~mask);
    range->blocks = aligned_alloc(unit, range->block_size);
    return range->blocks == NULL ? -ENOMEM : 0;
}

size_t
host_direct_range_copy(const struct host_direct_range *range, uint64_t got, void *to, size_t size)
{
    size_t there = got > range->skip ? (size_t)got - range->skip : 0;

    if (there > size)
        there = size;
    memcpy(to, range->blocks + range->skip, there);
    return there;
}

int64_t
host_direct_read(int fd, uint32_t unit, uint64_t offset, void *to, size_t size)
{
    struct host_direct_range range;
    size_t done = 0;
    int error = host_direct_range_init(&range, unit, offset, size);

    while (error == 0 && done < range.block_size && done % unit == 0) {
        ssize_t part =
            pread(fd, range.blocks + done, range.block_size - done, (off_t)(range.offset + done));
        if (part < 0 && errno == EINTR)
            continue;
        if (part < 0)
            error = -errno;
        if (part <= 0)
            break; /* the end of the file, as is a part of a block */
        done += (size_t)part;
    }
    int64_t result = error != 0 ? error : (int64_t)host_direct_range_copy(&range, done, to, size);
    free(range.blocks);
    return result;
}
