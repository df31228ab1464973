/* frames_parts.h - what stands inside struct frames, shared by the files of the allocator alone (frames.c,
 * frames_retire.c, frames_pids.c, frames_check.c).
 *
 * All bookkeeping stands in private memory, two words and a byte for each 4 KiB unit, never inside the frames: a
 * reader that was revoked may still look at a recycled frame, and clients can read every byte of the store.
 *
 *   state of a block (kept at its first unit; the other units are BODY)
 *
 *   UNBACKED --back_more--> FREE --take--> USED --frames_retire--> RETIRED --release_prefix--> FREE
 *                             ^-------------- frames_free ----------'
 *
 * Free blocks of a class form a list that is used last in, first out, so that warm memory comes back first. Retired
 * blocks form one queue in the order of their tags, so that a scan of the lanes frees a prefix of it.
 */
#ifndef FRAMES_PARTS_H
#define FRAMES_PARTS_H

#include "frames.h"
#include "mshm/status.h"

#include <stdlib.h>
#include <string.h>

enum {
    TOP_CLASS = MSHM_CLASSES - 1,
    CHUNK_UNITS = MSHM_MAX_FRAME / MSHM_UNIT,
    FRAMES_GROUP = 64,   /* retirements between two epochs */
    FRAMES_RECORDS = 32, /* remembered advances of the epoch */
};
#define NO_UNIT UINT32_MAX

enum unit_state {
    UNIT_UNBACKED = 0,
    UNIT_BODY = 1,
    UNIT_FREE = 2,
    UNIT_USED = 3,
    UNIT_RETIRED = 4
};

/* Free: list neighbours. Retired: next in the queue, and the low half of the tag in `prev`. */
struct unit {
    uint32_t next, prev;
};

/* When the epoch was advanced to `epoch`: every bracket of an older epoch is open since `when_ns` or longer. */
struct record {
    AO_t epoch;
    uint64_t when_ns;
};

struct frames {
    struct frames_options options;
    const struct env *env;
    uint8_t *base;
    struct mshm_store *store;
    struct mshm_store_geometry geometry;
    frames_lanes *lanes;
    void *lanes_argument;

    struct unit *units;
    uint8_t *states; /* unit_state << 4 | class */
    uint32_t unit_count;
    uint32_t backed_units; /* a prefix of the units is backed */
    uint32_t step_units;
    uint32_t free_head[MSHM_CLASSES];
    uint32_t free_chunks; /* whole free chunks, the unbacked ones included */
    uint64_t free_bytes;  /* in backed blocks */
    uint64_t used_bytes;
    bool reserve_allowed;
    bool refused; /* memory was refused at refused_ns */
    uint64_t refused_ns;

    AO_t epoch; /* private copies of the store's words */
    AO_t revoked;
    AO_t safe; /* what was retired with a smaller tag may be reused */
    uint32_t retired_head, retired_tail;
    uint64_t retired_bytes;
    uint32_t retired_since_epoch;
    uint32_t retired_since_scan;
    uint64_t revocations;
    struct record records[FRAMES_RECORDS];
    uint32_t record_count;

    mshm_pid pid_high;        /* pids below it were given out at least once */
    uint64_t map_backed;      /* bytes of the page map that are backed */
    struct frames_pids freed; /* wait for their epoch, in the order in which they were released */
    bool pid_waits;           /* a pid was freed since the last advance */
};

static inline uint64_t
unit_bytes(uint32_t units)
{
    return (uint64_t)units * MSHM_UNIT;
}

static inline enum unit_state
unit_state(const struct frames *frames, uint32_t unit)
{
    return (enum unit_state)(frames->states[unit] >> 4);
}

static inline unsigned
unit_class(const struct frames *frames, uint32_t unit)
{
    return frames->states[unit] & 15u;
}

static inline void
unit_set(struct frames *frames, uint32_t unit, enum unit_state state, unsigned class)
{
    frames->states[unit] = (uint8_t)((unsigned)state << 4 | class);
}

static inline uint8_t *
unit_address(const struct frames *frames, uint32_t unit)
{
    return frames->base + frames->geometry.frames_offset + unit_bytes(unit);
}

static inline uint32_t
unit_of(const struct frames *frames, const uint8_t *frame)
{
    uint64_t offset = (uint64_t)(frame - frames->base) - frames->geometry.frames_offset;
    assert(offset % MSHM_UNIT == 0);
    assert(offset / MSHM_UNIT < frames->unit_count);
    return (uint32_t)(offset / MSHM_UNIT);
}

static inline uint8_t *
frame_of(const struct frames *frames, AO_t word)
{
    assert(mshm_map_state(word) == MSHM_MAP_RESIDENT);
    return frames->base + mshm_map_frame(word);
}

/* Tags are kept as their low halves; no more than 2^32 epochs pass while something waits. */
static inline AO_t
tag_whole(const struct frames *frames, uint32_t low)
{
    return frames->epoch - (uint32_t)((uint32_t)frames->epoch - low);
}

/* frames.c: gives a block back and joins it with its free buddies. */
void frames_block_free(struct frames *frames, uint32_t unit, unsigned class);

#endif
