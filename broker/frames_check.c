/* frames_check.c - figures, and the check of the whole allocator. See frames.h and frames_parts.h. */
#include "frames_parts.h"

void
frames_report(const struct frames *frames, struct mshm_counters *counters)
{
    AO_store(&counters->cache_size, frames->geometry.frames_size);
    AO_store(&counters->cache_backed, unit_bytes(frames->backed_units));
    AO_store(&counters->cache_used, frames->used_bytes);
    AO_store(&counters->cache_retired, frames->retired_bytes);
    AO_store(&counters->revocations, frames->revocations);
}

bool
frames_in_use(const struct frames *frames, const uint8_t *frame, unsigned class)
{
    return frames->states[unit_of(frames, frame)] == (UNIT_USED << 4 | class);
}

struct tally {
    uint64_t bytes[UNIT_RETIRED + 1];
    uint64_t blocks[UNIT_RETIRED + 1];
};

/* Walks the units: every block begins where the one before it ends, is aligned, and all its other units are BODY. */
static const char *
check_blocks(const struct frames *frames, struct tally *tally)
{
    for (uint32_t unit = 0; unit < frames->unit_count;) {
        enum unit_state state = unit_state(frames, unit);
        unsigned class = unit_class(frames, unit);
        if (state == UNIT_UNBACKED) {
            if (unit < frames->backed_units)
                return "an unbacked unit below the backed end";
            tally->bytes[state] += MSHM_UNIT;
            unit++;
            continue;
        }
        if (state == UNIT_BODY || state > UNIT_RETIRED || class >= MSHM_CLASSES)
            return "a unit that belongs to no block";
        uint32_t size = 1u << class;
        if (unit % size != 0 || unit + size > frames->backed_units)
            return "a block that is not aligned or not backed";
        for (uint32_t i = 1; i < size; i++)
            if (frames->states[unit + i] != UNIT_BODY << 4)
                return "two blocks overlap";
        tally->bytes[state] += mshm_class_size(class);
        tally->blocks[state]++;
        unit += size;
    }
    return NULL;
}

static const char *
check_lists(const struct frames *frames, const struct tally *tally)
{
    uint64_t listed = 0, chunks = (frames->unit_count - frames->backed_units) / CHUNK_UNITS;
    for (unsigned class = 0; class < MSHM_CLASSES; class ++)
        for (uint32_t at = frames->free_head[class]; at != NO_UNIT; at = frames->units[at].next) {
            if (frames->states[at] != (UNIT_FREE << 4 | class))
                return "a block in a free list is not free";
            if (++listed > tally->blocks[UNIT_FREE])
                return "a free list runs in a circle";
            chunks += class == TOP_CLASS;
        }
    uint64_t queued = 0;
    for (uint32_t at = frames->retired_head; at != NO_UNIT; at = frames->units[at].next)
        if (unit_state(frames, at) != UNIT_RETIRED || ++queued > tally->blocks[UNIT_RETIRED])
            return "the queue of retired frames is damaged";
    if (listed != tally->blocks[UNIT_FREE] || queued != tally->blocks[UNIT_RETIRED])
        return "a free or retired block is in no list";
    return chunks != frames->free_chunks ? "the count of free chunks is wrong" : NULL;
}

int
frames_check(const struct frames *frames, const char **why)
{
    struct tally tally = {0};
    const char *text = check_blocks(frames, &tally);
    if (!text)
        text = check_lists(frames, &tally);
    if (!text && (tally.bytes[UNIT_FREE] != frames->free_bytes ||
                  tally.bytes[UNIT_RETIRED] != frames->retired_bytes ||
                  tally.bytes[UNIT_USED] + tally.bytes[UNIT_RETIRED] != frames->used_bytes))
        text = "the sums of free, used and retired bytes are wrong";
    if (!text)
        return MSHM_OK;
    *why = text;
    return MSHM_CORRUPT;
}
