/* shm/segment.c - making, backing and mapping memfd segments. */
#include "mshm/segment.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "mshm/status.h"

#ifndef F_SEAL_FUTURE_WRITE
#define F_SEAL_FUTURE_WRITE 0x0010
#endif
#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23
#endif
#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE 25
#endif

static const uint64_t segment_huge = UINT64_C(2) << 20;
static const uint64_t segment_piece = UINT64_C(32)
                                      << 20; /* a signal undoes at most this much of a fallocate */

static int
segment_error(int error)
{
    switch (error) {
    case EMFILE:
    case ENFILE:
    case EFBIG: /* RLIMIT_FSIZE; the broker ignores SIGXFSZ */
        return MSHM_LIMIT;
    case ENOMEM:
        return MSHM_NO_MEMORY;
    case ENOSPC:
    case EDQUOT:
    case EFAULT: /* MADV_POPULATE_WRITE where a touch would have been a SIGBUS */
        return MSHM_FULL;
    case EPERM:
    case EACCES:
        return MSHM_DENIED;
    default:
        return MSHM_IO;
    }
}

/* Maps the file on a 2 MiB border, so that a huge page of the file can be one of the mapping: reserves too much address
 * space, maps inside it and gives the rest back. */
static int
segment_map_aligned(int fd, uint64_t size, int protection, uint8_t **base)
{
    uint64_t room = size + segment_huge;
    uint8_t *reserved =
        mmap(NULL, room, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (reserved == MAP_FAILED)
        return segment_error(errno);
    uint64_t skip = mshm_align_up((uintptr_t)reserved, segment_huge) - (uintptr_t)reserved;
    uint8_t *at = mmap(reserved + skip, size, protection, MAP_SHARED | MAP_FIXED, fd, 0);
    if (at == MAP_FAILED) {
        int status = segment_error(errno);
        munmap(reserved, room);
        return status;
    }
    uint64_t end = mshm_align_up(skip + size, MSHM_UNIT);
    if (skip > 0)
        munmap(reserved, skip);
    if (end < room)
        munmap(reserved + end, room - end);
    *base = at;
    return MSHM_OK;
}

static int
segment_seals(enum mshm_segment_kind kind)
{
    int seals = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL;
    return kind == MSHM_SEGMENT_STORE ? seals | F_SEAL_FUTURE_WRITE : seals;
}

static int
segment_make(struct mshm_segment *segment, const char *name, uint64_t size,
             enum mshm_segment_kind kind)
{
    struct mshm_segment made = {.fd = -1, .size = mshm_align_up(size, MSHM_UNIT)};
    int status = MSHM_OK;
    made.fd = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (made.fd < 0)
        return segment_error(errno);
    /* A client of another user cannot open the file anew through /proc; one of the same user is no further away than
     * its owner. */
    if (fchmod(made.fd, S_IRUSR) != 0 || ftruncate(made.fd, (off_t)made.size) != 0) {
        status = segment_error(errno);
        goto out;
    }
    status = segment_map_aligned(made.fd, made.size, PROT_READ | PROT_WRITE, &made.base);
    if (status != MSHM_OK)
        goto out;
    if (fcntl(made.fd, F_ADD_SEALS, segment_seals(kind)) != 0) {
        status = segment_error(errno);
        goto out;
    }
    (void)madvise(made.base, made.size, MADV_DONTFORK);
    *segment = made;
out:
    if (status != MSHM_OK)
        mshm_segment_fini(&made);
    return status;
}

/* Can this kernel give a huge page to a segment now? */
static int
huge_probe(void)
{
    struct mshm_segment probe;
    if (segment_make(&probe, "mace-probe", segment_huge, MSHM_SEGMENT_SHARED) != MSHM_OK)
        return 0;
    probe.huge = 1;
    int status = mshm_segment_back(&probe, 0, segment_huge);
    int huge = status == MSHM_OK && probe.huge_bytes == segment_huge;
    mshm_segment_fini(&probe);
    return huge;
}

int
mshm_segment_create(struct mshm_segment *segment, const char *name, uint64_t size,
                    enum mshm_segment_kind kind, enum mshm_huge_pages huge)
{
    int want = huge != MSHM_HUGE_PAGES_OFF && size >= segment_huge;
    int have = want && huge_probe();
    if (huge == MSHM_HUGE_PAGES_ON && want && !have)
        return MSHM_NO_MEMORY;
    struct mshm_segment made;
    int status = segment_make(&made, name, size, kind);
    if (status != MSHM_OK)
        return status;
    made.huge = have;
    if (have)
        (void)madvise(made.base, made.size, MADV_HUGEPAGE);
    *segment = made;
    return MSHM_OK;
}

/* fallocate, in pieces: the kernel gives up on a signal and undoes the piece. */
static int
segment_allocate(const struct mshm_segment *segment, uint64_t begin, uint64_t end)
{
    while (begin < end) {
        uint64_t piece = end - begin < segment_piece ? end - begin : segment_piece;
        if (fallocate(segment->fd, 0, (off_t)begin, (off_t)piece) == 0)
            begin += piece;
        else if (errno != EINTR)
            return errno == ENOMEM ? MSHM_FULL : segment_error(errno);
    }
    return MSHM_OK;
}

/* Turns each whole, untouched 2 MiB of the range into a huge page: with one small page there, the kernel collapses the
 * 2 MiB without copying more than that. The first refusal ends the attempt: memory is fragmented then, and trying is
 * slow. Never an error: segment_allocate does the rest. */
static void
segment_collapse(struct mshm_segment *segment, uint64_t begin, uint64_t end)
{
    for (uint64_t at = mshm_align_up(begin, segment_huge); at + segment_huge <= end;
         at += segment_huge) {
        if (segment_allocate(segment, at, at + MSHM_UNIT) != MSHM_OK)
            return;
        if (madvise(segment->base + at, segment_huge, MADV_COLLAPSE) != 0)
            return;
        segment->huge_bytes += segment_huge;
    }
}

int
mshm_segment_back(struct mshm_segment *segment, uint64_t offset, uint64_t size)
{
    if (offset > segment->size || size > segment->size - offset)
        return MSHM_INVALID;
    uint64_t begin = offset / MSHM_UNIT * MSHM_UNIT;
    uint64_t end = mshm_align_up(offset + size, MSHM_UNIT);
    if (begin == end)
        return MSHM_OK;
    if (segment->huge)
        segment_collapse(segment, begin, end);
    int status = segment_allocate(segment, begin, end);
    if (status != MSHM_OK)
        return status;
    /* The memory is there; this maps it, so that the loop does not fault page by page. EINVAL: before Linux 5.14. */
    if (madvise(segment->base + begin, end - begin, MADV_POPULATE_WRITE) != 0 &&
        (errno == EFAULT || errno == ENOMEM))
        return MSHM_FULL;
    return MSHM_OK;
}

int
mshm_segment_reader(const struct mshm_segment *segment, int *fd)
{
    char path[32];
    snprintf(path, sizeof(path), "/proc/self/fd/%d", segment->fd);
    int opened = open(path, O_RDONLY | O_CLOEXEC);
    if (opened < 0 && errno != EMFILE && errno != ENFILE)
        opened = fcntl(segment->fd, F_DUPFD_CLOEXEC, 0); /* no /proc: the seals alone have to do */
    if (opened < 0)
        return segment_error(errno);
    *fd = opened;
    return MSHM_OK;
}

int
mshm_segment_map(struct mshm_segment *segment, int fd, uint64_t size, int writable)
{
    struct stat status_of_file;
    int seals = fcntl(fd, F_GET_SEALS);
    if (seals < 0 || (seals & F_SEAL_SHRINK) == 0 || fstat(fd, &status_of_file) != 0 || size == 0 ||
        (uint64_t)status_of_file.st_size < size)
        return MSHM_CORRUPT;
    uint8_t *base;
    int status =
        segment_map_aligned(fd, size, writable ? PROT_READ | PROT_WRITE : PROT_READ, &base);
    if (status != MSHM_OK)
        return status;
    (void)madvise(base, size, MADV_DONTFORK);
    (void)madvise(base, size, MADV_DONTDUMP);
    *segment = (struct mshm_segment){.fd = -1, .base = base, .size = size};
    return MSHM_OK;
}

void
mshm_segment_fini(struct mshm_segment *segment)
{
    if (segment->base != NULL)
        munmap(segment->base, segment->size);
    if (segment->fd >= 0)
        close(segment->fd);
    *segment = (struct mshm_segment){.fd = -1};
}
