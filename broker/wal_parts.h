/* wal_parts.h - what the files of the log's writing side share: wal.c (staging, batches), wal_change.c (segments).
 *
 * Change of segment. The first record that does not fit takes the prepared segment into use: its header is written,
 * and two syncs start beside the commits: of the header and of the segment that was left. Level OS waits for neither.
 * A batch with a SYNC commit starts only when both have ended, because it promises all that stands before it; and the
 * next change of segment waits for both, so that a header that survives a power cut never stands behind one that did
 * not. The directory entry was made durable when the segment was prepared.
 *
 *   next: job prepares --> next --first record that does not fit--> current --the same--> left --synced--> closing
 *                                                                                                      next job closes it
 *
 * Release. Segments with numbers below the newest cut's are of no use any more once they are closed: the same job makes
 * the next segment from one of them when it can, and removes those that are too many (wal_recycle.h). One job of the log
 * is under way at a time. A segment whose sync is under way is not released before the sync has ended.
 */
#ifndef WAL_PARTS_H
#define WAL_PARTS_H

#include "mshm/base.h"
#include "wal.h"
#include "wal_segment.h"

/* Tags of completions, counted from tag_base. */
enum { WAL_TAG_APPEND, WAL_TAG_LEFT, WAL_TAG_HEADER, WAL_TAG_PREPARE };

/* Records on their way to the disk. */
struct wal_batch {
    uint8_t *bytes; /* 16-aligned */
    uint64_t capacity;
    uint64_t size;         /* finished records */
    uint32_t sync_commits; /* commits of level SYNC in it */
    bool sync;             /* to be made durable */
};

/* The append under way. */
struct wal_flight {
    bool active, sync;
    uint64_t number; /* of the batch; of the newest one done for a sync without a batch */
    struct wal_position end;
    uint64_t started_ns;
    uint32_t sync_commits;
};

/* The log's job: unmaps and closes a segment that was left, prepares the next one (make), tidies the released ones. */
struct wal_prepare {
    const struct env *env;
    struct wal_segment segment, closing;
    bool make, map;
    uint64_t number, size,
        most;          /* of the segment to make; a recycled one may have `size` to `most` bytes */
    uint64_t released; /* numbers below are; 0: none */
    uint32_t spares;   /* released ones to keep */
    /* what it did */
    bool recycled, more; /* more: there are still too many released ones */
    uint32_t removed;
};

/* Where a segment of this incarnation stands in the row of all records. */
struct wal_span {
    uint64_t number;
    uint64_t before; /* bytes of records before its first one, counted as wal.bytes */
};

struct wal {
    const struct env *env;
    struct wal_options options;
    struct mshm_figures *figures;
    uint64_t tag_base;

    struct wal_segment current;
    struct wal_segment left;          /* its sync is under way */
    struct wal_segment closing;       /* left and synced; closed by the next job */
    struct wal_segment_header header; /* of current */
    struct wal_position left_end;
    bool left_syncing, header_syncing;

    struct wal_segment next; /* prepared; file NULL: none */
    struct wal_prepare job;
    bool preparing, prepare_failed;
    uint64_t released, tidied; /* numbers below: covered by a checkpoint; tidied since */
    uint32_t spares;           /* released segments that are worth keeping */
    uint64_t prepare_failed_ns;
    uint64_t
        wanted_size; /* bytes that the record needs which waits for the next segment; 0 = none waits */

    struct wal_batch batches[2], *gather;
    uint64_t staged; /* bytes of the record being staged, 0 = none */
    struct wal_flight flight;
    uint64_t gather_number; /* of the batch that gathers */
    uint64_t done, synced;
    bool sync_wanted, mark_wanted, failed;

    uint64_t end;       /* offset behind the newest record, staged ones included */
    uint64_t timestamp; /* of the newest record */
    uint32_t chain;
    struct wal_position durable;    /* everything before it is */
    struct wal_position marked;     /* the newest durable mark in the log */
    struct wal_position commit_end; /* behind the newest record that is not mark-only */

    struct wal_position covered; /* by a checkpoint: everything before it */

    uint64_t bytes;         /* of records since the cut that recovery began with */
    struct wal_span *spans; /* this incarnation's segments, by number, released ones left out */
    uint32_t span_count, span_capacity;
};

static inline struct wal_position
wal_log_end(const struct wal *wal)
{
    return (struct wal_position){wal->current.number, wal->end};
}

/* Remembers that a write or sync failed: nothing is tried again. */
int wal_fail(struct wal *wal);

/* wal_change.c. Starts the log's job when it is time: the next segment is due or `needed`, or segments were released. */
void wal_prepare_tend(struct wal *wal, bool needed);
/* MSHM_OK, or MSHM_IO: poison. */
int wal_prepare_complete(struct wal *wal, int64_t result);
int wal_left_complete(struct wal *wal, int64_t result);
/* Released segments wait for a job. */
bool wal_untidy(const struct wal *wal);
/* Makes, writes and syncs the first segment of an incarnation. Blocking. */
int wal_change_first(struct wal *wal, const struct wal_start *start);
/* Makes the next record start a new segment: MSHM_OK, or what wal_stage answers. */
int wal_change(struct wal *wal);

#endif
