/* wal_recycle.h - released segments: which of them are kept, and how one becomes the next segment. Functions for jobs; no
 * state but the directory, so what a death or an earlier incarnation has left is found like anything else.
 *
 *      in use --a checkpoint covers it--> released: number below the newest cut's segment; nobody reads it again
 *      released, one of the spares --zeros over the header, synced--> invalidated
 *                                  --rename to the new number, directory sync--> "prepared", as in wal_segment.h
 *      released, not a spare --> removed
 *
 * A recycled segment differs from a new one in its body, which still holds the records of its former life. None of them
 * can be taken for a new one: the checksums are seeded with segment, incarnation, salt and offset. Death before the
 * rename leaves a file that recovery removes for its number; after it, a prepared segment; the header is zeros on the
 * disk before the new name can be there, so the new name never stands over the old header.
 */
#ifndef WAL_RECYCLE_H
#define WAL_RECYCLE_H

#include "wal_segment.h"

/* Spares that are kept at least. More are kept when a checkpoint frees more: the log takes as many again before the next
 * one, so the disk holds no more than it did at the checkpoint. */
enum { WAL_SPARES = 3 };

struct wal_released {
    uint64_t number;
    uint64_t size; /* bytes; 0: not of use for any later segment */
};

/* Released segments, the ones to be used first in front. */
struct wal_released_list {
    struct wal_released *entries;
    uint32_t count, capacity;
};

/* Lists the segments with numbers < `before`. Those of `least` to `most` bytes can be used again; a failure leaves some
 * out. fini in every case. */
void wal_released_init(struct wal_released_list *list, const struct env *env, uint64_t before,
                       uint64_t least, uint64_t most);
void wal_released_fini(struct wal_released_list *list);
/* Makes segment `number` from a spare, mapped when `map` says so and the environment can. 0; 1: it cannot be done, make a new
 * one; -errno: the directory could not be synced, which is for the caller as if a new segment's could not. Takes the
 * spare from the list. */
int wal_released_recycle(struct wal_released_list *list, const struct env *env,
                         struct wal_segment *segment, uint64_t number, bool map);
/* Removes what is of no use or more than `spares`, some files at a time; returns how many. *more: call again. Failures are
 * left. */
uint32_t wal_released_trim(struct wal_released_list *list, const struct env *env, uint32_t spares,
                           bool *more);

#endif
