/* host_stall.c - how long the disk takes. */
#include "host_stall.h"

#include "events.h"
#include "host_clock.h"

#define STALL_NS HOST_SECOND_NS
#define LOOK_NS (HOST_SECOND_NS / 4)

/* The tags of the log and of checkpoints lie below 4,096, those of page reads are 4,096 from a multiple of 65,536 on. */
static unsigned
stall_place(uint64_t tag)
{
    return (unsigned)((tag & 0xfff) | (tag >= 0x10000 ? 0x1000 : 0));
}

void
host_stall_figures(struct host_stall *stall, struct mshm_counters *counters)
{
    stall->stalls = &counters->disk_stalls;
    stall->unanswered = &counters->disk_unanswered;
}

void
host_stall_begin(struct host_stall *stall, uint64_t tag, uint64_t now_ns)
{
    stall->since_ns[stall_place(tag)] = now_ns;
}

static void
stall_show(struct host_stall *stall)
{
    if (stall->unanswered != NULL)
        AO_store(stall->unanswered, stall->stalled);
}

void
host_stall_end(struct host_stall *stall, uint64_t tag)
{
    unsigned place = stall_place(tag);

    stall->since_ns[place] = 0;
    if (!stall->counted[place])
        return;
    stall->counted[place] = false;
    stall->stalled--;
    stall_show(stall);
    if (stall->stalled == 0)
        events_print(ENV_LOG_WARNING, "the disk answers again, after %.1f s",
                     (double)(host_clock_ns() - stall->first_ns) / 1e9);
}

static void
stall_count(struct host_stall *stall, unsigned place)
{
    uint64_t since_ns = stall->since_ns[place];

    stall->counted[place] = true;
    if (stall->stalled == 0)
        events_print(ENV_LOG_WARNING, "the disk has not answered a request for a second");
    if (stall->stalled == 0 || since_ns < stall->first_ns)
        stall->first_ns = since_ns;
    stall->stalled++;
    if (stall->stalls != NULL)
        mshm_counter_add(stall->stalls, 1);
    stall_show(stall);
}

void
host_stall_look(struct host_stall *stall, uint64_t now_ns)
{
    if (now_ns - stall->looked_ns < LOOK_NS)
        return;
    stall->looked_ns = now_ns;
    for (unsigned place = 0; place < HOST_STALL_PLACES; place++) {
        uint64_t since_ns = stall->since_ns[place];
        if (since_ns != 0 && !stall->counted[place] && now_ns - since_ns >= STALL_NS)
            stall_count(stall, place);
    }
}
