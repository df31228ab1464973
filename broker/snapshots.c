/* snapshots.c - collecting the registered snapshots and deciding which versions they need. See snapshots.h. */
#include "snapshots.h"

#include <stdlib.h>

#include "kill_point.h"
#include "mshm/status.h"

struct gathering {
    struct snapshots *snapshots;
    mshm_timestamp lost; /* smallest snapshot that found no place; UINT64_MAX = none */
};

static int
compare(const void *a, const void *b)
{
    mshm_timestamp left = *(const mshm_timestamp *)a, right = *(const mshm_timestamp *)b;
    return left < right ? -1 : left > right;
}

static void
sort_distinct(struct snapshots *snapshots)
{
    qsort(snapshots->list, snapshots->count, sizeof(*snapshots->list), compare);
    uint32_t kept = 0;
    for (uint32_t i = 0; i < snapshots->count; i++)
        if (kept == 0 || snapshots->list[kept - 1] != snapshots->list[i])
            snapshots->list[kept++] = snapshots->list[i];
    snapshots->count = kept;
}

static void
gather(void *argument, mshm_timestamp snapshot)
{
    struct gathering *gathering = argument;
    struct snapshots *snapshots = gathering->snapshots;
    uint32_t count = snapshots->count;
    if (snapshot == 0 || snapshot >= snapshots->horizon)
        return; /* whatever a timestamp from the horizon on reads is kept anyway */
    if (count > 0 && snapshots->list[count - 1] == snapshot)
        return;
    if (count == SNAPSHOTS_CAPACITY && gathering->lost == UINT64_MAX)
        sort_distinct(snapshots);
    if (snapshots->count < SNAPSHOTS_CAPACITY)
        snapshots->list[snapshots->count++] = snapshot;
    else if (snapshot < gathering->lost)
        gathering->lost = snapshot;
}

int
snapshots_init(struct snapshots *snapshots)
{
    *snapshots = (struct snapshots){0};
    snapshots->list = malloc(SNAPSHOTS_CAPACITY * sizeof(*snapshots->list));
    return snapshots->list ? MSHM_OK : MSHM_NO_MEMORY;
}

void
snapshots_fini(struct snapshots *snapshots)
{
    free(snapshots->list);
    *snapshots = (struct snapshots){0};
}

void
snapshots_collect(struct snapshots *snapshots, struct mshm_store *store, snapshots_lanes *lanes,
                  void *argument, uint64_t now_ns)
{
    mshm_timestamp horizon = AO_load(&store->visible); /* the loop's own word */
    struct gathering gathering = {.snapshots = snapshots, .lost = UINT64_MAX};
    AO_store(&store->horizon, horizon);
    MACE_KILL_POINT("snapshots:horizon_stored");
    mshm_full_fence(); /* pairs with the fence in mshm_snapshot_register */
    snapshots->horizon = horizon;
    snapshots->count = 0;
    lanes(argument, gather, &gathering);
    sort_distinct(snapshots);
    /* More snapshots than places: everything from the smallest lost one on is kept, which is too much and never wrong. */
    if (gathering.lost < snapshots->horizon) {
        snapshots->horizon = gathering.lost;
        while (snapshots->count > 0 && snapshots->list[snapshots->count - 1] >= gathering.lost)
            snapshots->count--;
    }
    snapshots->collected_ns = now_ns;
}

bool
snapshots_need(const struct snapshots *snapshots, mshm_timestamp timestamp, mshm_timestamp newer)
{
    if (newer == 0 || newer > snapshots->horizon)
        return true; /* newer - 1 is a timestamp from the horizon on that reads this version */
    uint32_t low = 0, high = snapshots->count;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (snapshots->list[middle] < timestamp)
            low = middle + 1;
        else
            high = middle;
    }
    return low < snapshots->count && snapshots->list[low] < newer;
}

bool
snapshots_drop_tombstone(const struct snapshots *snapshots, mshm_timestamp timestamp)
{
    return timestamp <= snapshots->horizon &&
           (snapshots->count == 0 || snapshots->list[0] >= timestamp);
}
