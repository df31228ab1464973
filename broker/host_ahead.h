/* host_ahead.h - may the kernel read ahead of this read?
 *
 * Two reads that follow each other in a file make the kernel read much more than was asked for. That is right for a scan of
 * pages that lie in the order of their keys, and wrong for a short walk of two leaves: what is read in vain takes the disk's
 * time and drives other pages out of the page cache. So it is told not to, until several reads in a row went on where the
 * one before had ended.
 */
#ifndef HOST_AHEAD_H
#define HOST_AHEAD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct host_ahead {
    uint64_t end; /* of the read before */
    unsigned
        run; /* reads that followed each other; one that did not takes HOST_AHEAD_BREAK of them away */
    bool told; /* the kernel knows that the reads are random */
};

enum {
    HOST_AHEAD_LEAST = 8, /* reads in a row are a scan */
    HOST_AHEAD_MOST = 32, /* are counted */
    HOST_AHEAD_BREAK = 4, /* a scan goes around pages that were written to */
    HOST_AHEAD_GAP =
        64 * 1024, /* bytes that may be left out: pages in memory, pages of another kind */
};

/* The next read of a file: true when the kernel has to be told something else than before (ahead->told). */
bool host_ahead_read(struct host_ahead *ahead, uint64_t offset, size_t size);

#endif
