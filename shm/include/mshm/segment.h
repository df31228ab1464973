/* mshm/segment.h - memfd segments: made, sealed and backed with memory by the broker, mapped by clients.
 *
 * A segment has no name, so nothing is left behind when its processes die. It is sized once and sparse. A range is
 * backed before anything in it is shown to anybody: running out of memory is then a status here, never a SIGBUS later,
 * and a reader never allocates (in its own control group, too).
 *
 * Seals are added all at once, right after the broker mapped the segment; F_SEAL_SEAL with them, or a client that holds
 * the descriptor could add others. F_SEAL_FUTURE_WRITE binds the broker as well: no second writable mapping, no hole
 * punching; memory comes back only when the last mapping ends.
 *
 * Huge pages: the file is mapped on 2 MiB borders by everybody, and each whole 2 MiB that is backed is collapsed into
 * one (MADV_COLLAPSE, Linux 6.1, which works whatever sysfs says about shmem short of "deny").
 */
#ifndef MSHM_SEGMENT_H
#define MSHM_SEGMENT_H

#include "mshm/base.h"

enum mshm_segment_kind {
    MSHM_SEGMENT_STORE,  /* clients may only read: FUTURE_WRITE|SHRINK|GROW|SEAL */
    MSHM_SEGMENT_SHARED, /* hints, session: clients write, too: SHRINK|GROW|SEAL */
};

enum mshm_huge_pages {
    MSHM_HUGE_PAGES_OFF,
    MSHM_HUGE_PAGES_TRY, /* where the kernel has them; else small pages, without a word */
    MSHM_HUGE_PAGES_ON,  /* creation fails when a probe gets none */
};

/* A process's hold on a segment; private. Zeroed with fd -1 when there is none. */
struct mshm_segment {
    int fd;              /* the broker's memfd, close-on-exec; -1 in a client */
    uint8_t *base;       /* start of the mapping */
    uint64_t size;       /* bytes mapped */
    uint64_t huge_bytes; /* of them backed by huge pages, as far as this process backed them */
    int huge;            /* collapse what is backed */
};

/* Makes, sizes, maps (read-write) and seals a segment; `name` shows in /proc only. Nothing of it is backed. MSHM_OK;
 * MSHM_LIMIT (descriptors, file size limit), MSHM_NO_MEMORY (address space; huge pages ON and none to be had),
 * MSHM_FULL, MSHM_DENIED, MSHM_IO. On failure *segment is left alone. Broker; blocks only for memory. */
int mshm_segment_create(struct mshm_segment *segment, const char *name, uint64_t size,
                        enum mshm_segment_kind kind, enum mshm_huge_pages huge);

/* Backs [offset, offset + size), widened to whole pages, with zero-filled memory and maps it in the caller. What is
 * backed already keeps its bytes. MSHM_OK; MSHM_FULL (no memory: the range is not to be used, though part of it may be
 * backed); MSHM_INVALID (outside the segment). Broker; one caller at a time. */
int mshm_segment_back(struct mshm_segment *segment, uint64_t offset, uint64_t size);

/* Opens a read-only descriptor of a store for a client, who then cannot even reserve memory through it. The caller closes
 * it. MSHM_OK, MSHM_LIMIT. Broker. */
int mshm_segment_reader(const struct mshm_segment *segment, int *fd);

/* Maps a segment received from the broker: read-only, or read-write with `writable`; not inherited across fork, not in
 * core dumps. The descriptor stays the caller's and may be closed afterwards. MSHM_OK; MSHM_CORRUPT (smaller than
 * `size`, or not sealed against shrinking, so that a read could be a SIGBUS); MSHM_NO_MEMORY (address space);
 * MSHM_DENIED. Client. */
int mshm_segment_map(struct mshm_segment *segment, int fd, uint64_t size, int writable);

/* Unmaps and closes; harmless on one that is empty or half made. */
void mshm_segment_fini(struct mshm_segment *segment);

#endif
