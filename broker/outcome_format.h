/* outcome_format.h - the outcome table as a checkpoint keeps it, inside the manifest, and as idle tokens are kept in
 * memory. Little-endian.
 *
 *   struct outcome_header | for each token, ascending: struct outcome_image, its commits
 *
 * The commits of a token are numbers of 7 bits a byte, lowest first, the highest bit set in all bytes but the last:
 *
 *   count | first sequence | its timestamp | count - 1 times: sequence less the one before less 1 | timestamp less the
 *   one before, as 2n or, when negative, -2n - 1
 *
 * Sequences ascend, and all lie within MSHM_RING_CAPACITY. A commit takes 2 or 3 bytes mostly.
 */
#ifndef OUTCOME_FORMAT_H
#define OUTCOME_FORMAT_H

#include <assert.h>
#include <stdbool.h>
#include <stdint.h>

#include "mshm/base.h"

#define OUTCOME_MAGIC UINT64_C(0x31306d6374756f4d) /* "Moutcm01" */
enum { OUTCOME_VERSION = 1 };

/* [version 1: 32 bytes] */
struct outcome_header {
    uint64_t magic;
    uint32_t version;
    uint32_t count;               /* tokens that follow */
    uint64_t dropped_incarnation; /* the highest token that was dropped unasked */
    uint32_t dropped_session;
    uint32_t reserved; /* 0 */
};
static_assert(sizeof(struct outcome_header) == 32, "the head of an outcome table is 32 bytes");

/* [version 1: 16 bytes] */
struct outcome_image {
    uint64_t incarnation;
    uint32_t session;
    uint32_t size; /* bytes of the commits that follow */
};
static_assert(sizeof(struct outcome_image) == 16, "a token's image is 16 bytes");

/* What the commits of one token take at most. */
enum { OUTCOME_NUMBER_MAX = 10, OUTCOME_PACKED_MAX = (2 * MSHM_RING_CAPACITY + 1) * 10 };

/* Writing. Commits come in ascending order of their sequences. */
struct outcome_writer {
    uint8_t *at;
    uint64_t sequence, timestamp;
};
void outcome_write_begin(struct outcome_writer *writer, uint8_t *to, uint32_t count,
                         uint64_t sequence, uint64_t timestamp);
void outcome_write_next(struct outcome_writer *writer, uint64_t sequence, uint64_t timestamp);

/* Reading, hostile bytes: outcome_read_begin gives the first commit, outcome_read_next the next one; false: there is
 * none. In the end `good` tells whether all of it made sense; before that nothing may be built upon it. */
struct outcome_reader {
    const uint8_t *at, *end;
    uint64_t left; /* commits */
    uint64_t first, sequence, timestamp;
    bool good;
};
bool outcome_read_begin(struct outcome_reader *reader, const uint8_t *bytes, uint64_t size);
bool outcome_read_next(struct outcome_reader *reader);

#endif
