/* wal_window.h - a log segment read piece by piece: what reading the log needs in memory is one window of 1 MiB, or one record
 * that is larger, however large segments are. Blocking: recovery and tools.
 *
 *   segment  [header | records ..........................................]
 *   window                       [begin ......... begin + have)
 *                                   ^ taken: stays where it is until the next take
 */
#ifndef WAL_WINDOW_H
#define WAL_WINDOW_H

#include "wal_lineage.h"

struct wal_window {
    const struct env *env;
    struct env_file *file; /* NULL: none is open */
    uint64_t end;          /* bytes of the segment that can be read */
    uint64_t begin, have, capacity;
    uint8_t *bytes;
};

/* Another segment: its file, up to header.segment_size bytes of it. MSHM_OK, MSHM_IO... */
int wal_window_open(struct wal_window *window, const struct env *env,
                    const struct wal_found *found);
/* Closes the file and frees the window. */
void wal_window_fini(struct wal_window *window);
/* *bytes: those from `offset` on, at least `size` of them or as many as there are; *available says how many. MSHM_OK,
 * MSHM_NO_MEMORY, MSHM_IO. */
int wal_window_take(struct wal_window *window, uint64_t offset, uint64_t size,
                    const uint8_t **bytes, uint64_t *available);

#endif
