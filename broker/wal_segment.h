/* wal_segment.h - one file of the log: its name, its making, its header and the seed of its checksums. Used by the
 * writing side (wal.c) and the reading side (wal_read.c); no state of its own.
 *
 *      absent --prepare--> wal/N.tmp: preallocated, zeros written, synced
 *             --rename, directory sync--> wal/N.log: all zero, "prepared"
 *             --header written (wal_change.c)--> "in use": records follow
 *             --a checkpoint covers it--> "released": removed, or the next segment is made from it (wal_recycle.h)
 *
 * Death at any point before the rename leaves a .tmp that recovery removes; after it, a segment with zeros for a header,
 * in which nothing can have been acknowledged.
 */
#ifndef WAL_SEGMENT_H
#define WAL_SEGMENT_H

#include <stdbool.h>

#include "env.h"
#include "wal_format.h"

enum { WAL_NAME_SIZE = 32 };

struct wal_segment {
    uint64_t number;
    struct env_file *file; /* NULL: none */
    uint8_t *mapping;      /* NULL: not mapped */
    uint64_t size;         /* bytes */
};

/* "wal/000000000000002a.log", or with any other ending. */
void wal_segment_name(char name[WAL_NAME_SIZE], uint64_t number, const char *ending);
/* Takes the name of a directory entry apart (no "wal/"): true and the number for a segment's name. */
bool wal_segment_parse(const char *entry, uint64_t *number);

/* Makes segment `number` of `size` bytes ready for use and opens it; with `map` also maps it when the environment can.
 * Blocking; any thread. 0 or -errno, then nothing is left open and what was made is removed again. */
int wal_segment_prepare(const struct env *env, struct wal_segment *segment, uint64_t number,
                        uint64_t size, bool map);
/* An open file that has become a prepared segment, mapped when `map` says so and the environment can. */
struct wal_segment wal_segment_ready(const struct env *env, uint64_t number, struct env_file *file,
                                     uint64_t size, bool map);
/* Unmaps and closes; harmless on an empty one. */
void wal_segment_close(const struct env *env, struct wal_segment *segment);

/* Fills in version, magic and checksum. */
void wal_header_seal(struct wal_segment_header *header);
/* MSHM_OK; MSHM_VERSION: a header of another version of the format; MSHM_CORRUPT: not a header, or one that makes no
 * sense. */
int wal_header_check(const struct wal_segment_header *header);
/* What the checksum of a record at `offset` starts from. */
uint32_t wal_record_seed(const struct wal_segment_header *header, uint64_t offset);
/* The checksum of a whole record image of record->size bytes. */
uint32_t wal_record_crc(const struct wal_segment_header *header, uint64_t offset,
                        const struct wal_record *record);

#endif
