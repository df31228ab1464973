/* core_memory.c - room in the cache: what is kept free, what leaves memory for a commit, when commits have to wait. */
#include "checkpoint.h"
#include "core_parts.h"
#include "mshm/status.h"

enum {
    FREE_SHARE = 16,                 /* part of the cache that is kept free by eviction */
    ROOM_BYTES = 4 * MSHM_MAX_FRAME, /* evicted at once when a commit is short of frames */
    HELD_NS = 20 * 1000 * 1000,      /* commits wait that long at once for snapshots to go */
    LEEWAY_SHARE = 1024,             /* part of the cache that history may take more then */
};

/* Nothing clean is left that could leave memory: what is dirty has to become clean. False: nothing is. */
static bool
dirty_write(struct core *core)
{
    struct pages_figures figures;
    pages_figures(core->pages, &figures);
    if (checkpoint_stuck(core->checkpoint))
        return false;
    if (figures.dirty_bytes > 0)
        checkpoint_request(core);
    return figures.dirty_bytes + figures.sealed_bytes + figures.kept_bytes > 0;
}

/* Keeps a part of the cache free, so that nobody has to wait for a reader to leave a frame. */
void
core_evict(struct core *core)
{
    uint64_t wanted = core->geometry.frames_size / FREE_SHARE;
    uint64_t free_bytes = frames_available(core->frames);
    if (free_bytes >= wanted || core->now_ns < core->barren_ns)
        return;
    if (frames_pending(core->frames))
        frames_reclaim(core->frames, false);
    uint64_t coming = frames_available(core->frames) + frames_retired(core->frames);
    if (coming < wanted) {
        bool writing;
        coming += tree_history_evict(core->tree, wanted - coming, core->now_ns, &writing);
    }
    if (coming < wanted && pages_evict(core->pages, wanted - coming, core->now_ns) == 0) {
        core->barren_ns =
            core->now_ns + CORE_MAINTAIN_NS; /* looking again at once would be in vain */
        if (pager_short(core->pager) > 0)
            dirty_write(core);
    }
}

enum core_room
core_make_room(struct core *core)
{
    struct pages_figures figures;
    core->pressed = true; /* the loop comes back within a millisecond */
    if (core->now_ns < core->barren_ns)
        return CORE_ROOM_MAYBE;
    if (frames_retired(core->frames) >= ROOM_BYTES) {
        /* A reader stands in what has left memory already. More of it would not come sooner, and a reader that stops for a
         * while must not empty the cache. */
        frames_reclaim(core->frames, true);
        return frames_retired(core->frames) >= ROOM_BYTES ? CORE_ROOM_MAYBE : CORE_ROOM_COMES;
    }
    tree_ahead_begin(core->tree); /* no place that was found before is right any more */
    bool writing;
    uint64_t evicted = tree_history_evict(core->tree, ROOM_BYTES, core->now_ns, &writing);
    if (evicted == 0)
        evicted = pages_evict(core->pages, ROOM_BYTES, core->now_ns);
    if (evicted == 0)
        core->barren_ns = core->now_ns + CORE_MAINTAIN_NS;
    frames_reclaim(core->frames, true);
    if (evicted > 0 || writing)
        return CORE_ROOM_COMES;
    if (dirty_write(core))
        return CORE_ROOM_COMES;
    pages_figures(core->pages, &figures);
    return figures.resident_pages > figures.dirty_pages + figures.sealed_pages ? CORE_ROOM_MAYBE
                                                                               : CORE_ROOM_NONE;
}

/* Snapshots are being expired, and each time all that history holds is gone through. In a large cache that takes its time: a
 * little more is let in now and then, so that nobody waits for seconds. */
static bool
expiry_awaited(struct core *core, uint64_t over)
{
    if (core->history_stays)
        return false;
    if (core->history_held_ns == 0)
        core->history_held_ns = core->now_ns;
    if (core->now_ns - core->history_held_ns > HELD_NS) {
        core->history_held_ns = core->now_ns;
        core->history_leeway = over + core->geometry.frames_size / LEEWAY_SHARE;
    }
    core->history_held = over > core->history_leeway;
    return core->history_held;
}

bool
core_history_waits(struct core *core)
{
    uint64_t over = tree_history_over(core->tree);
    if (over == 0) {
        core->history_leeway = core->history_held_ns = 0;
        return false;
    }
    core->pressed = true; /* the loop comes back within a millisecond */
    return !tree_history_stuck(core->tree, core->now_ns) || expiry_awaited(core, over);
}

/* Once a turn: whether commits have to wait until more of what they changed is on disk. */
void
core_slow(struct core *core)
{
    core->short_of_clean = false;
    core->history_held = false;
    core->slowed = core_history_waits(core);
    if (!checkpoint_pressed(core)) {
        core->slowed = core->slowed || checkpoint_outrun(core);
        return;
    }
    core->short_of_clean = checkpoint_stuck(core->checkpoint);
    core->slowed = !core->short_of_clean;
    core->pressed = true;
    if (checkpoint_idle(core->checkpoint))
        checkpoint_request(core);
}
