/* frames_retire.c - epochs: when a frame that was replaced may be used again, and brackets that stay open too long.
 * See frames.h and frames_parts.h. */
#include "frames_parts.h"
#include "kill_point.h"

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
    } else if (count == FRAMES_RECORDS) {
        memmove(records, records + 1, (FRAMES_RECORDS - 1) * sizeof(*records));
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
    if (++frames->retired_since_epoch >= FRAMES_GROUP)
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
        frames_block_free(frames, unit, class);
        any = true;
    }
    if (any)
        MACE_KILL_POINT("frames:reclaimed");
}

static bool
something_waits(const struct frames *frames)
{
    return frames->retired_head != NO_UNIT || frames->freed.head != 0 || frames->pid_waits;
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

uint64_t
frames_retired(const struct frames *frames)
{
    return frames->retired_bytes;
}
