/* frames.c - the frame allocator: buddy blocks, backing by steps, the reserve. See frames.h and frames_parts.h. */
#include "frames_parts.h"

enum {
    FRAMES_STEP = 2 << 20, /* bytes of frames backed at once, or a sixteenth of a small cache */
    REFUSED_NS = 100 * 1000000, /* how long a refusal of memory is believed */
};

/* --- free lists --- */

static void
free_push(struct frames *frames, uint32_t unit, unsigned class)
{
    uint32_t head = frames->free_head[class];
    frames->units[unit] = (struct unit){.next = head, .prev = NO_UNIT};
    if (head != NO_UNIT)
        frames->units[head].prev = unit;
    frames->free_head[class] = unit;
    unit_set(frames, unit, UNIT_FREE, class);
    if (class == TOP_CLASS)
        frames->free_chunks++;
}

static void
free_remove(struct frames *frames, uint32_t unit, unsigned class)
{
    struct unit links = frames->units[unit];
    if (links.prev == NO_UNIT)
        frames->free_head[class] = links.next;
    else
        frames->units[links.prev].next = links.next;
    if (links.next != NO_UNIT)
        frames->units[links.next].prev = links.prev;
    if (class == TOP_CLASS)
        frames->free_chunks--;
}

/* Puts a block back and joins it with its free buddies, up to a whole chunk. */
void
frames_block_free(struct frames *frames, uint32_t unit, unsigned class)
{
    frames->free_bytes += mshm_class_size(class);
    while (class < TOP_CLASS) {
        uint32_t buddy = unit ^ (1u << class);
        if (frames->states[buddy] != (UNIT_FREE << 4 | class))
            break;
        free_remove(frames, buddy, class);
        unit_set(frames, unit > buddy ? unit : buddy, UNIT_BODY, 0);
        unit = unit < buddy ? unit : buddy;
        class ++;
    }
    free_push(frames, unit, class);
}

/* Makes the next step of the frames area usable. False when memory is refused or the area is used up. */
static bool
back_more(struct frames *frames)
{
    uint32_t units = frames->unit_count - frames->backed_units;
    if (units > frames->step_units)
        units = frames->step_units;
    if (units == 0)
        return false;
    if (frames->refused)
        return false;
    uint64_t offset = frames->geometry.frames_offset + unit_bytes(frames->backed_units);
    frames->refused = frames->env->store_back(frames->env->context, offset, unit_bytes(units)) != 0;
    if (frames->refused) {
        frames->refused_ns = frames->env->clock_ns(frames->env->context);
        return false;
    }
    uint32_t first = frames->backed_units;
    frames->backed_units += units;
    frames->free_chunks -= units / CHUNK_UNITS;
    for (uint32_t at = first + units; at > first; at -= CHUNK_UNITS) {
        memset(frames->states + at - CHUNK_UNITS, UNIT_BODY << 4, CHUNK_UNITS);
        frames_block_free(frames, at - CHUNK_UNITS, TOP_CLASS);
    }
    return true;
}

static uint64_t
free_total(const struct frames *frames)
{
    uint64_t unbacked = frames->refused ? 0 : unit_bytes(frames->unit_count - frames->backed_units);
    return frames->free_bytes + unbacked;
}

/* The reserve is kept both in bytes and in whole chunks: bytes alone could all lie in small pieces. */
static bool
take_allowed(const struct frames *frames, unsigned class, unsigned found)
{
    if (frames->reserve_allowed)
        return true;
    if (free_total(frames) < frames->options.reserve_size + mshm_class_size(class))
        return false;
    return found < TOP_CLASS || frames->free_chunks > frames->options.reserve_size / MSHM_MAX_FRAME;
}

static unsigned
free_find(const struct frames *frames, unsigned class)
{
    while (class < MSHM_CLASSES && frames->free_head[class] == NO_UNIT)
        class ++;
    return class;
}

static void
refusal_expire(struct frames *frames)
{
    uint64_t now = frames->env->clock_ns(frames->env->context);
    frames->refused = now - frames->refused_ns < REFUSED_NS;
}

static uint32_t
take(struct frames *frames, unsigned class)
{
    if (frames->refused)
        refusal_expire(frames);
    unsigned found = free_find(frames, class);
    if (!take_allowed(frames, class, found < MSHM_CLASSES ? found : TOP_CLASS))
        return NO_UNIT;
    if (found == MSHM_CLASSES) {
        if (!back_more(frames))
            return NO_UNIT;
        found = TOP_CLASS;
    }
    uint32_t unit = frames->free_head[found];
    free_remove(frames, unit, found);
    while (found > class) {
        found--;
        free_push(frames, unit + (1u << found), found);
    }
    unit_set(frames, unit, UNIT_USED, class);
    frames->free_bytes -= mshm_class_size(class);
    frames->used_bytes += mshm_class_size(class);
    return unit;
}

/* --- creation --- */

static int
frames_fill(struct frames *frames)
{
    uint64_t units = frames->geometry.frames_size / MSHM_UNIT;
    if (units == 0 || units % CHUNK_UNITS != 0 || units >= NO_UNIT)
        return MSHM_INVALID;
    frames->unit_count = (uint32_t)units;
    frames->free_chunks = (uint32_t)units / CHUNK_UNITS;
    uint64_t step = frames->geometry.frames_size / 16 / MSHM_MAX_FRAME * MSHM_MAX_FRAME;
    step = step > FRAMES_STEP ? FRAMES_STEP : step < MSHM_MAX_FRAME ? MSHM_MAX_FRAME : step;
    frames->step_units = (uint32_t)(step / MSHM_UNIT);
    for (unsigned class = 0; class < MSHM_CLASSES; class ++)
        frames->free_head[class] = NO_UNIT;
    frames->units = calloc(units, sizeof(*frames->units));
    frames->states = calloc(units, sizeof(*frames->states));
    if (!frames->units || !frames->states)
        return MSHM_NO_MEMORY;
    /* The reserve has to be there when memory is short, so it is backed from the start. */
    while (frames->free_bytes <= frames->options.reserve_size)
        if (!back_more(frames))
            return MSHM_FULL;
    return MSHM_OK;
}

int
frames_create(struct frames **result, const struct frames_options *options, const struct env *env,
              uint8_t *base, const struct mshm_store_geometry *geometry, frames_lanes *lanes,
              void *lanes_argument)
{
    struct frames *frames = calloc(1, sizeof(*frames));
    if (!frames)
        return MSHM_NO_MEMORY;
    frames->options = *options;
    frames->env = env;
    frames->base = base;
    frames->store = (struct mshm_store *)(void *)base;
    frames->geometry = *geometry;
    frames->lanes = lanes;
    frames->lanes_argument = lanes_argument;
    frames->epoch = AO_load(&frames->store->epoch);
    frames->safe = frames->epoch;
    frames->retired_head = frames->retired_tail = NO_UNIT;
    frames->pid_high = 1;
    int status = frames_fill(frames);
    if (status) {
        frames_destroy(frames);
        return status;
    }
    *result = frames;
    return MSHM_OK;
}

void
frames_destroy(struct frames *frames)
{
    if (!frames)
        return;
    free(frames->units);
    free(frames->states);
    free(frames);
}

/* --- frames --- */

uint8_t *
frames_allocate(struct frames *frames, unsigned class)
{
    assert(class < MSHM_CLASSES);
    if (free_find(frames, class) == MSHM_CLASSES && frames->retired_since_scan >= FRAMES_GROUP)
        frames_reclaim(frames, false); /* warm frames before fresh memory */
    uint32_t unit = take(frames, class);
    if (unit == NO_UNIT && frames->retired_head != NO_UNIT) {
        frames_reclaim(frames, true);
        unit = take(frames, class);
    }
    return unit == NO_UNIT ? NULL : unit_address(frames, unit);
}

void
frames_free(struct frames *frames, uint8_t *frame, unsigned class)
{
    uint32_t unit = unit_of(frames, frame);
    assert(frames->states[unit] == (UNIT_USED << 4 | class));
    frames->used_bytes -= mshm_class_size(class);
    frames_block_free(frames, unit, class);
}

bool
frames_allow_reserve(struct frames *frames, bool allowed)
{
    bool former = frames->reserve_allowed;
    frames->reserve_allowed = allowed;
    return former;
}

uint64_t
frames_available(const struct frames *frames)
{
    uint64_t total = free_total(frames);
    uint64_t reserve = frames->reserve_allowed ? 0 : frames->options.reserve_size;
    return total > reserve ? total - reserve : 0;
}
