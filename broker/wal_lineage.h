/* wal_lineage.h - which files of wal/ are the log: the newest segment with a valid header and, backwards, what each
 * header says that it continues. Everything else is dead: prepared and never used, or behind a position from which a
 * later incarnation went on.
 *
 *      1 <- 2 <- 3    (4)          numbers in brackets are dead: 4 was prepared by the incarnation that wrote 1 to 3;
 *           ^                      a new one found the end of the log in 2, so 3 is dead, too, once 5 has its header:
 *           +---------- 5 <- 6     the lineage is 1, 2, 5, 6
 *
 * With a checkpoint the lineage begins at its cut: with the segment that holds it, or behind it with one whose header
 * continues the cut itself. Segments with smaller numbers than the cut's are released: they may be gone, or half-way to
 * becoming a later one, and nobody looks into them.
 */
#ifndef WAL_LINEAGE_H
#define WAL_LINEAGE_H

#include "wal.h"

enum wal_segment_state {
    WAL_SEGMENT_BAD = 0,   /* something that is no header */
    WAL_SEGMENT_EMPTY = 1, /* zeros where the header goes */
    WAL_SEGMENT_VALID = 2,
    WAL_SEGMENT_RELEASED = 3, /* before the cut: not looked into */
};

struct wal_found {
    uint64_t number;
    uint64_t file_size; /* bytes */
    enum wal_segment_state state;
    struct wal_segment_header header; /* of a valid one */
};

struct wal_lineage {
    struct wal_found *found; /* every segment file, by number */
    uint32_t found_count, found_capacity;
    struct wal_found **line; /* the lineage, oldest first */
    uint32_t line_count;
    uint64_t newest_incarnation; /* in any valid header */
};

/* Reads the directory and the headers and finds the lineage. from: the cut, or NULL. MSHM_OK (line_count 0: no valid
 * segment, with a cut: nothing behind it), MSHM_CORRUPT (a segment of the lineage is missing or damaged, contradicts the
 * cut, or one behind the lineage's end may hold acknowledged data), MSHM_VERSION, MSHM_IO..., with *why. The caller calls
 * fini in every case. Blocking. */
int wal_lineage_init(struct wal_lineage *lineage, const struct env *env,
                     const uint8_t database_id[16], const struct wal_from *from, char *why,
                     size_t why_size);
void wal_lineage_fini(struct wal_lineage *lineage);

/* Reads a whole segment, at most header.segment_size bytes, into *bytes (grown with realloc; the caller frees) and tells
 * in *have how many there are. MSHM_OK, MSHM_NO_MEMORY, MSHM_IO. */
int wal_segment_load(const struct env *env, const struct wal_found *found, uint8_t **bytes,
                     uint64_t *capacity, uint64_t *have);

#endif
