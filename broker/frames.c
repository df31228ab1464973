/* frames.c - the frame allocator: buddy blocks, backing by steps, retirement by epoch, page numbers. See frames.h.
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
#include "frames.h"

#include <stdlib.h>
#include <string.h>

#include "kill_point.h"
#include "mshm/status.h"

enum {
    TOP_CLASS = MSHM_CLASSES - 1,
    CHUNK_UNITS = MSHM_MAX_FRAME / MSHM_UNIT,
    GROUP = 64,            /* retirements between two epochs */
    MAP_STEP = 65536,      /* bytes of the page map backed at once */
    FRAMES_STEP = 2 << 20, /* bytes of frames backed at once, or a sixteenth of a small cache */
    RECORDS = 32,          /* remembered advances of the epoch */
    REFUSED_NS = 100 * 1000000, /* how long a refusal of memory is believed */
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
    struct record records[RECORDS];
    uint32_t record_count;

    mshm_pid pid_high;   /* pids below it were given out at least once */
    uint64_t map_backed; /* bytes of the page map that are backed */
    mshm_pid pid_head, pid_tail;
    bool pid_waits; /* a pid was freed since the last advance */
};

static uint64_t
unit_bytes(uint32_t units)
{
    return (uint64_t)units * MSHM_UNIT;
}

static enum unit_state
unit_state(const struct frames *frames, uint32_t unit)
{
    return (enum unit_state)(frames->states[unit] >> 4);
}

static unsigned
unit_class(const struct frames *frames, uint32_t unit)
{
    return frames->states[unit] & 15u;
}

static void
unit_set(struct frames *frames, uint32_t unit, enum unit_state state, unsigned class)
{
    frames->states[unit] = (uint8_t)((unsigned)state << 4 | class);
}

static uint8_t *
unit_address(const struct frames *frames, uint32_t unit)
{
    return frames->base + frames->geometry.frames_offset + unit_bytes(unit);
}

static uint32_t
unit_of(const struct frames *frames, const uint8_t *frame)
{
    uint64_t offset = (uint64_t)(frame - frames->base) - frames->geometry.frames_offset;
    assert(offset % MSHM_UNIT == 0);
    assert(offset / MSHM_UNIT < frames->unit_count);
    return (uint32_t)(offset / MSHM_UNIT);
}

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
static void
block_free(struct frames *frames, uint32_t unit, unsigned class)
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
        block_free(frames, at - CHUNK_UNITS, TOP_CLASS);
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

/* --- retirement and reclaiming --- */

/* The newest record is always exact; older ones are thinned out to a sixteenth of the time that matters. */
static void
record_advance(struct frames *frames)
{
    uint64_t now = frames->env->clock_ns(frames->env->context);
    uint64_t spacing = frames->options.revoke_after_ns / 16;
    struct record *records = frames->records;
    uint32_t count = frames->record_count;
    if (count >= 2 && records[count - 1].when_ns - records[count - 2].when_ns < spacing) {
        count--;
    } else if (count == RECORDS) {
        memmove(records, records + 1, (RECORDS - 1) * sizeof(*records));
        count--;
    }
    records[count] = (struct record){.epoch = frames->epoch, .when_ns = now};
    frames->record_count = count + 1;
}

static void
epoch_advance(struct frames *frames)
{
    frames->epoch++;
    AO_store_release(&frames->store->epoch, frames->epoch); /* pairs with mshm_bracket_open */
    frames->retired_since_epoch = 0;
    frames->pid_waits = false;
    record_advance(frames);
}

/* Tags are kept as their low halves; no more than 2^32 epochs pass while something waits. */
static AO_t
tag_whole(const struct frames *frames, uint32_t low)
{
    return frames->epoch - (uint32_t)((uint32_t)frames->epoch - low);
}

void
frames_retire(struct frames *frames, uint8_t *frame, unsigned class)
{
    uint32_t unit = unit_of(frames, frame);
    assert(frames->states[unit] == (UNIT_USED << 4 | class));
    unit_set(frames, unit, UNIT_RETIRED, class);
    frames->units[unit] = (struct unit){.next = NO_UNIT, .prev = (uint32_t)frames->epoch};
    if (frames->retired_tail == NO_UNIT)
        frames->retired_head = unit;
    else
        frames->units[frames->retired_tail].next = unit;
    frames->retired_tail = unit;
    frames->retired_bytes += mshm_class_size(class);
    frames->retired_since_scan++;
    if (++frames->retired_since_epoch >= GROUP)
        epoch_advance(frames);
}

struct scan {
    AO_t revoked; /* brackets up to here do not count */
    AO_t oldest;  /* of the brackets that count */
    uint64_t skipped;
};

static void
scan_lane(void *argument, struct mshm_lane *lane)
{
    struct scan *scan = argument;
    AO_t epoch = AO_load_acquire(&lane->epoch); /* pairs with the release that closes a bracket */
    if (epoch == 0)
        return;
    if (epoch <= scan->revoked)
        scan->skipped++;
    else if (epoch < scan->oldest)
        scan->oldest = epoch;
}

static struct scan
lanes_scan(struct frames *frames)
{
    struct scan scan = {.revoked = frames->revoked, .oldest = frames->epoch};
    mshm_full_fence(); /* pairs with the fence in mshm_bracket_open */
    frames->lanes(frames->lanes_argument, scan_lane, &scan);
    frames->retired_since_scan = 0;
    frames->safe = scan.oldest;
    return scan;
}

static void
release_prefix(struct frames *frames)
{
    bool any = false;
    while (frames->retired_head != NO_UNIT) {
        uint32_t unit = frames->retired_head;
        if (tag_whole(frames, frames->units[unit].prev) >= frames->safe)
            break;
        unsigned class = unit_class(frames, unit);
        frames->retired_head = frames->units[unit].next;
        if (frames->retired_head == NO_UNIT)
            frames->retired_tail = NO_UNIT;
        frames->retired_bytes -= mshm_class_size(class);
        frames->used_bytes -= mshm_class_size(class);
        block_free(frames, unit, class);
        any = true;
    }
    if (any)
        MACE_KILL_POINT("frames:reclaimed");
}

static bool
something_waits(const struct frames *frames)
{
    return frames->retired_head != NO_UNIT || frames->pid_head != 0;
}

/* Overrules the brackets that have been open too long, if they hold anything back: revoked = r is stored before any
 * frame that they may be reading is reused, and a bracket that ends looks at it after its last load. */
static void
revoke(struct frames *frames)
{
    uint64_t now = frames->env->clock_ns(frames->env->context);
    AO_t bound = 0;
    for (uint32_t i = frames->record_count; i > 0 && bound == 0; i--)
        if (now - frames->records[i - 1].when_ns >= frames->options.revoke_after_ns)
            bound = frames->records[i - 1].epoch - 1;
    if (bound < frames->safe || bound <= frames->revoked)
        return;
    frames->revoked = bound; /* < epoch: records are made when the epoch has moved past them */
    AO_store_release(&frames->store->revoked, bound);
    MACE_KILL_POINT("frames:revoked");
    struct scan scan = lanes_scan(frames);
    frames->revocations += scan.skipped;
    release_prefix(frames);
}

void
frames_reclaim(struct frames *frames, bool pressed)
{
    if (!something_waits(frames))
        return;
    if (frames->retired_since_epoch > 0 || frames->pid_waits)
        epoch_advance(frames);
    lanes_scan(frames);
    release_prefix(frames);
    if (pressed && something_waits(frames) && frames->safe < frames->epoch)
        revoke(frames);
}

bool
frames_pending(const struct frames *frames)
{
    return frames->retired_head != NO_UNIT || frames->pid_waits;
}

/* --- frames --- */

uint8_t *
frames_allocate(struct frames *frames, unsigned class)
{
    assert(class < MSHM_CLASSES);
    if (free_find(frames, class) == MSHM_CLASSES && frames->retired_since_scan >= GROUP)
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
    block_free(frames, unit, class);
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

static uint8_t *
frame_of(const struct frames *frames, AO_t word)
{
    assert(mshm_map_state(word) == MSHM_MAP_RESIDENT);
    return frames->base + mshm_map_frame(word);
}

/* --- page numbers: a freed pid waits in a queue whose links stand in the page map itself (state NONE) ---
 *
 *   63                       32 31               4 3    0
 *  +---------------------------+------------------+------+
 *  | low half of the tag       | next pid, 0: end | NONE |
 *  +---------------------------+------------------+------+
 */
static AO_t
pid_link(uint32_t tag, mshm_pid next)
{
    return (AO_t)tag << 32 | (AO_t)next << 4 | MSHM_MAP_NONE;
}

static mshm_pid
link_next(AO_t word)
{
    return (mshm_pid)(word >> 4 & (MSHM_MAX_PIDS - 1));
}

AO_t *
frames_map(struct frames *frames, mshm_pid pid)
{
    assert(pid > 0 && pid < frames->geometry.map_capacity);
    return (AO_t *)(void *)(frames->base + frames->geometry.map_offset) + pid;
}

static bool
map_back(struct frames *frames, mshm_pid pid)
{
    uint64_t needed = ((uint64_t)pid + 1) * sizeof(AO_t);
    if (needed <= frames->map_backed)
        return true;
    uint64_t begin = frames->geometry.map_offset + frames->map_backed;
    uint64_t end = frames->geometry.map_offset + frames->geometry.map_capacity * sizeof(AO_t);
    if (end - begin > MAP_STEP)
        end = begin + MAP_STEP;
    uint64_t from = begin & ~(uint64_t)(MSHM_UNIT - 1);
    uint64_t size = mshm_align_up(end, MSHM_UNIT) - from;
    if (frames->env->store_back(frames->env->context, from, size) != 0)
        return false;
    frames->map_backed = end - frames->geometry.map_offset;
    return true;
}

static mshm_pid
pid_pop(struct frames *frames)
{
    mshm_pid pid = frames->pid_head;
    if (pid == 0)
        return 0;
    AO_t word = AO_load(frames_map(frames, pid));
    if (tag_whole(frames, (uint32_t)(word >> 32)) >= frames->safe)
        return 0;
    frames->pid_head = link_next(word);
    if (frames->pid_head == 0)
        frames->pid_tail = 0;
    return pid;
}

mshm_pid
frames_pid_allocate(struct frames *frames)
{
    mshm_pid pid = pid_pop(frames);
    if (pid == 0 && frames->pid_high < frames->geometry.map_capacity &&
        map_back(frames, frames->pid_high))
        pid = frames->pid_high++;
    if (pid == 0 && frames->pid_head != 0) {
        frames_reclaim(frames, true);
        pid = pid_pop(frames);
    }
    if (pid != 0)
        AO_store(frames_map(frames, pid), 0);
    return pid;
}

void
frames_pid_free(struct frames *frames, mshm_pid pid)
{
    AO_t *map = frames_map(frames, pid);
    AO_t former = AO_load(map);
    if (former == 0) { /* never published: no reader knows it, it may be used again at once */
        AO_store(map, pid_link((uint32_t)(frames->safe - 1), frames->pid_head));
        frames->pid_head = pid;
        if (frames->pid_tail == 0)
            frames->pid_tail = pid;
        return;
    }
    AO_store_release(map, pid_link((uint32_t)frames->epoch, 0));
    if (frames->pid_tail == 0) {
        frames->pid_head = pid;
    } else {
        AO_t *tail = frames_map(frames, frames->pid_tail);
        AO_store(tail, AO_load(tail) | (AO_t)pid << 4);
    }
    frames->pid_tail = pid;
    frames->pid_waits = true;
    if (mshm_map_state(former) == MSHM_MAP_RESIDENT)
        frames_retire(frames, frame_of(frames, former), mshm_map_class(former));
}

uint8_t *
frames_address(struct frames *frames, AO_t word)
{
    return frame_of(frames, word);
}

AO_t
frames_word(struct frames *frames, const uint8_t *frame, unsigned class, unsigned hash_buckets)
{
    return mshm_map_word((mshm_offset)(frame - frames->base), class, hash_buckets);
}

void
frames_publish(struct frames *frames, mshm_pid pid, AO_t word)
{
    AO_t *map = frames_map(frames, pid);
    AO_t former = AO_load(map);
    AO_store_release(map, word); /* after the frame's bytes; pairs with the readers' load-acquire */
    if (mshm_map_state(former) == MSHM_MAP_RESIDENT)
        frames_retire(frames, frames_address(frames, former), mshm_map_class(former));
}

/* --- figures and the check --- */

void
frames_report(const struct frames *frames, struct mshm_counters *counters)
{
    AO_store(&counters->cache_size, frames->geometry.frames_size);
    AO_store(&counters->cache_backed, unit_bytes(frames->backed_units));
    AO_store(&counters->cache_used, frames->used_bytes);
    AO_store(&counters->cache_retired, frames->retired_bytes);
    AO_store(&counters->revocations, frames->revocations);
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
