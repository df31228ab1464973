/* frames_pids.c - page numbers and the page map. A freed pid waits in a list whose links stand in the page map itself
 * (state NONE or MOVED), so that freeing needs no memory:
 *
 *   63                       32 31               4 3     0
 *  +---------------------------+------------------+-------+
 *  | low half of the tag       | next pid, 0: end | state |
 *  +---------------------------+------------------+-------+
 *
 * The tag is the epoch in which the word took this form: so a list that joins the queue late has waited already. The
 * order of tags in the queue does not matter for safety: each pid is judged by its own, when it has come to the head.
 *
 * See frames.h and frames_parts.h.
 */
#include "frames_parts.h"

enum { MAP_STEP = 65536 /* bytes of the page map backed at once */ };

static AO_t
pid_link(uint32_t tag, mshm_pid next, unsigned state)
{
    return (AO_t)tag << 32 | (AO_t)next << 4 | state;
}

static mshm_pid
link_next(AO_t word)
{
    return (mshm_pid)(word >> 4 & (MSHM_MAX_PIDS - 1));
}

static AO_t
link_to(AO_t word, mshm_pid next)
{
    return (word & ~((AO_t)(MSHM_MAX_PIDS - 1) << 4)) | (AO_t)next << 4;
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

/* --- lists --- */

/* `first` to `last` are linked to each other already. */
static void
list_append(struct frames *frames, struct frames_pids *list, mshm_pid first, mshm_pid last)
{
    if (list->tail == 0) {
        list->head = first;
    } else {
        AO_t *tail = frames_map(frames, list->tail);
        AO_store(tail, link_to(AO_load(tail), first));
    }
    list->tail = last;
}

static void
list_push_front(struct frames *frames, struct frames_pids *list, mshm_pid pid)
{
    AO_store(frames_map(frames, pid),
             pid_link((uint32_t)(frames->safe - 1), list->head, MSHM_MAP_NONE));
    list->head = pid;
    if (list->tail == 0)
        list->tail = pid;
}

void
frames_pids_add(struct frames *frames, struct frames_pids *list, mshm_pid pid)
{
    list_append(frames, list, pid, pid);
}

void
frames_pids_release(struct frames *frames, struct frames_pids *list)
{
    if (list->head != 0)
        list_append(frames, &frames->freed, list->head, list->tail);
    *list = (struct frames_pids){0};
}

/* --- giving out and taking back --- */

static mshm_pid
pid_pop(struct frames *frames)
{
    mshm_pid pid = frames->freed.head;
    if (pid == 0)
        return 0;
    AO_t word = AO_load(frames_map(frames, pid));
    if (tag_whole(frames, (uint32_t)(word >> 32)) >= frames->safe)
        return 0;
    frames->freed.head = link_next(word);
    if (frames->freed.head == 0)
        frames->freed.tail = 0;
    return pid;
}

mshm_pid
frames_pid_allocate(struct frames *frames)
{
    mshm_pid pid = pid_pop(frames);
    if (pid == 0 && frames->pid_high < frames->geometry.map_capacity &&
        map_back(frames, frames->pid_high))
        pid = frames->pid_high++;
    if (pid == 0 && frames->freed.head != 0) {
        frames_reclaim(frames, true);
        pid = pid_pop(frames);
    }
    if (pid != 0)
        AO_store(frames_map(frames, pid), 0);
    return pid;
}

void
frames_pid_withdraw(struct frames *frames, mshm_pid pid, bool moved)
{
    AO_t word = pid_link((uint32_t)frames->epoch, 0, moved ? MSHM_MAP_MOVED : MSHM_MAP_NONE);
    AO_store_release(frames_map(frames, pid), word); /* pairs with the readers' load-acquire */
    frames->pid_waits = true;
}

void
frames_pid_free(struct frames *frames, mshm_pid pid)
{
    AO_t former = AO_load(frames_map(frames, pid));
    if (former == 0) { /* never published: no reader knows it, it may be used again at once */
        list_push_front(frames, &frames->freed, pid);
        return;
    }
    frames_pid_withdraw(frames, pid, false);
    list_append(frames, &frames->freed, pid, pid);
    if (mshm_map_state(former) == MSHM_MAP_RESIDENT)
        frames_retire(frames, frame_of(frames, former), mshm_map_class(former));
}

/* --- recovery --- */

int
frames_pid_restore(struct frames *frames, mshm_pid pid, AO_t word)
{
    assert(pid > 0);
    if (pid >= frames->geometry.map_capacity)
        return MSHM_FULL;
    while (((uint64_t)pid + 1) * sizeof(AO_t) > frames->map_backed)
        if (!map_back(frames, pid))
            return MSHM_NO_MEMORY;
    if (pid >= frames->pid_high)
        frames->pid_high = pid + 1;
    AO_store_release(frames_map(frames, pid), word);
    return MSHM_OK;
}

void
frames_pids_restored(struct frames *frames)
{
    AO_t free_at_once = pid_link((uint32_t)(frames->safe - 1), 0, MSHM_MAP_NONE);
    for (mshm_pid pid = 1; pid < frames->pid_high; pid++) {
        if (AO_load(frames_map(frames, pid)) != 0)
            continue;
        AO_store(frames_map(frames, pid), free_at_once);
        list_append(frames, &frames->freed, pid, pid);
    }
}

mshm_pid
frames_pid_end(const struct frames *frames)
{
    return frames->pid_high;
}

/* --- words --- */

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
