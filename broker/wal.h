/* wal.h - the log's writing side: staging records, group commit, segments.
 *
 * Records are staged in private memory; wal_flush sends the staged batch when nothing is in flight: a batch with OS
 * commits only is copied into a shared mapping of the segment (no system call; it outlives the process), a batch with a
 * SYNC commit goes by one write and one fdatasync (env.file_append). While one batch is in flight the next one gathers.
 * A failed write or sync is reported once and never retried (the caller poisons the incarnation). Loop thread only.
 */
#ifndef WAL_H
#define WAL_H

#include "env.h"
#include "mshm/counters.h"
#include "wal_format.h"

struct wal;

struct wal_position {
    uint64_t segment;
    uint64_t offset;
};

static inline bool
wal_position_before(struct wal_position a, struct wal_position b)
{
    return a.segment < b.segment || (a.segment == b.segment && a.offset < b.offset);
}

/* The first segment of an incarnation has a sixteenth of segment_size, at least 1 MiB; each next one is twice as large. */
struct wal_options {
    uint64_t segment_size; /* bytes, >= 1 MiB in production; a test may take 64 KiB */
    bool mapping;          /* level OS through a mapping; else by write calls */
};

/* Where a new incarnation continues. */
struct wal_start {
    uint64_t next_segment;   /* number of the segment to create */
    uint64_t timestamp;      /* newest commit of the log so far */
    uint32_t chain;          /* its record's crc (0: none yet) */
    struct wal_position end; /* where it ended */
    uint64_t bytes;          /* of records between the cut that reading began with and the end */
    uint64_t incarnation;
    uint8_t database_id[16];
};

/* Creates and syncs the first segment of this incarnation (header, zeros, directory); the next ones are prepared by jobs.
 * MSHM_FULL, MSHM_IO. Blocking: recovery only. `tag_base`: completions of the log carry tags
 * [tag_base, tag_base + 16). */
int wal_open(struct wal **wal, const struct wal_options *options, const struct env *env,
             const struct wal_start *start, struct mshm_figures *figures, uint64_t tag_base);
/* Waits for nothing: everything in flight must have ended (wal_idle). */
void wal_close(struct wal *wal);

/* Room for `ops_size` bytes (a multiple of 8) of operations of the next record, to be filled by the caller (straight
 * from the arena); NULL with *status = MSHM_TOO_BIG (more than a segment holds), MSHM_FULL (no next segment and no way
 * to make one now), MSHM_NO_MEMORY, or MSHM_BUSY (next segment is being prepared, or too much is staged: ask again
 * after a completion). Nothing has changed until wal_stage_finish; a later wal_stage drops an unfinished one. */
void *wal_stage(struct wal *wal, uint64_t ops_size, int *status);
/* Completes the staged record: cannot fail. sync: level SYNC. Returns the number of the batch it belongs to. */
uint64_t wal_stage_finish(struct wal *wal, uint64_t timestamp, uint32_t session, uint64_t sequence,
                          uint32_t op_count, bool sync);

/* Sends the staged batch when nothing is in flight. Returns MSHM_OK or MSHM_IO (poison). */
int wal_flush(struct wal *wal);
/* Tells the log of a completion with one of its tags. MSHM_OK or MSHM_IO (poison). */
int wal_complete(struct wal *wal, const struct env_completion *completion);
/* Every batch with number <= this one is in the kernel's hands (all OS) or durable (with a SYNC commit). */
uint64_t wal_done(const struct wal *wal);
/* Asks that everything staged so far becomes durable, whatever its level (mace_sync); returns the ticket to compare with
 * wal_synced. Call wal_flush afterwards. */
uint64_t wal_sync_request(struct wal *wal);
uint64_t wal_synced(const struct wal *wal);
/* Nothing staged, nothing in flight, no job under way. */
bool wal_idle(const struct wal *wal);
/* After idling for a moment: when commits lie behind the last durable mark and behind the newest checkpoint, syncs and
 * writes a mark-only record. */
void wal_mark(struct wal *wal);

/* For a checkpoint: the position behind the newest finished record, staged ones included, and that record's checksum. */
void wal_tell(const struct wal *wal, struct wal_position *position, uint32_t *chain);
/* Bytes of records between a position (of wal_tell, or of the cut that recovery began with) and now. */
uint64_t wal_bytes_since(const struct wal *wal, struct wal_position position);
/* Everything before `position` is in a checkpoint that counts (its manifest edit is durable): segments with smaller
 * numbers are used again for later ones, as far as there is use for them, the others removed; by jobs. */
void wal_release(struct wal *wal, struct wal_position position);

/* Reading side (wal_read.c). Walks the lineage of the log from `first_segment` and calls each(record, ops) for every
 * record in commit order; decides the end of the log. MSHM_OK with *end; MSHM_CORRUPT (acknowledged data is damaged:
 * nothing was changed; *why names file and offset); MSHM_VERSION; MSHM_IO; or what `each` returned. */
struct wal_end {
    struct wal_start next; /* what wal_open needs, incarnation excepted */
    uint64_t records;      /* behind the cut */
    uint64_t
        newest_incarnation; /* found in any segment header, valid ones; the cut's segment and later */
    uint64_t segments;      /* of the lineage */
    uint64_t first_segment; /* of the lineage; 0: there is none */
    /* The newest proof: a durable mark, the start of an incarnation, or the end itself when nothing follows the cut. */
    struct wal_position known_durable;
};
/* end: just behind the record. */
typedef int wal_each(void *argument, const struct wal_segment_header *segment,
                     const struct wal_record *record, const void *ops, uint64_t ops_size,
                     struct wal_position end);
/* Where a checkpoint lets the log begin: what wal_tell said at its cut. */
struct wal_from {
    uint64_t timestamp; /* 0: there is no checkpoint */
    uint32_t chain;
    struct wal_position position;
};
/* first_segment: 0 = a log need not exist yet; else one without any valid segment is damage. Not looked at with a cut.
 * from: the newest checkpoint's cut, or NULL. Records up to it are passed over whatever their state, and so are segments
 * with numbers below its own; the walk begins with the first record that continues it (by number and chain, or the
 * first of a later segment whose header names it), and nothing behind it is a legal log: the end is then the cut. The
 * file of the cut's segment has to be there until a later header continues the cut. why may be NULL. */
int wal_read(const struct env *env, const uint8_t database_id[16], uint64_t first_segment,
             const struct wal_from *from, wal_each *each, void *argument, struct wal_end *end,
             char *why, size_t why_size);
/* Checks one record image of `available` bytes at `offset` of a segment: its size, or 0 when it is not a valid record.
 * Never reads beyond `available`. */
uint32_t wal_record_check(const struct wal_segment_header *segment, uint64_t offset,
                          const void *bytes, uint64_t available);
/* Makes everything of the segments [first, last] durable (recovery, before serving). */
int wal_make_durable(const struct env *env, uint64_t first_segment, uint64_t last_segment);
/* Writes again, with the same bytes, what lies between the newest proof of durability and the end: after a failed sync
 * the page cache may show as clean what the disk never got, and no later sync would write it. Before wal_make_durable. */
int wal_rewrite(const struct env *env, const struct wal_end *end);
/* Removes what is left of unfinished segments, and segments outside the lineage of the newest one, those before the cut
 * (from: as for wal_read) included. After wal_open, before the first record. Failures do no harm: later starts try again. */
void wal_remove_dead(const struct env *env, const uint8_t database_id[16],
                     const struct wal_from *from);

#endif
