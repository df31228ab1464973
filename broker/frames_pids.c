/* frames_pids.c - page numbers and the page map. A freed pid waits in a queue whose links stand in the page map itself
 * (state NONE), so that freeing needs no memory:
 *
 *   63                       32 31               4 3    0
 *  +---------------------------+------------------+------+
 *  | low half of the tag       | next pid, 0: end | NONE |
 *  +---------------------------+------------------+------+
 *
 * See frames.h and frames_parts.h.
 */
#include "frames_parts.h"

enum { MAP_STEP = 65536 /* bytes of the page map backed at once */ };

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
frames_word(struct frames *frames, const uint8_t *frame, unsigned class, unsigned hint)
{
    return mshm_map_word((mshm_offset)(frame - frames->base), class, hint);
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
