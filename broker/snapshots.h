/* snapshots.h - which versions somebody may still read: horizon and the list of registered snapshots (DESIGN 5).
 *
 * Collecting: H = visible; store.horizon = H; full fence; read every lane once. From then on a version may be dropped
 * when neither a registered snapshot nor any timestamp >= H would read it. Loop thread only.
 */
#ifndef SNAPSHOTS_H
#define SNAPSHOTS_H

#include <stdbool.h>

#include "mshm/session.h"
#include "mshm/store.h"

enum { SNAPSHOTS_CAPACITY = MSHM_MAX_SESSIONS * MSHM_MAX_LANES };

struct snapshots {
    mshm_timestamp horizon;
    uint32_t count;       /* distinct registered snapshots below the horizon */
    mshm_timestamp *list; /* ascending */
    uint64_t collected_ns;
};

/* Calls each(snapshot) once for every word of every lane of every session that is nonzero, not expired and not beyond
 * visible; implemented by sessions.c. */
typedef void snapshots_lanes(void *argument,
                             void (*each)(void *each_argument, mshm_timestamp snapshot),
                             void *each_argument);

int snapshots_init(struct snapshots *snapshots);
void snapshots_fini(struct snapshots *snapshots);
void snapshots_collect(struct snapshots *snapshots, struct mshm_store *store,
                       snapshots_lanes *lanes, void *argument, uint64_t now_ns);

/* Would somebody read a version with timestamp `timestamp` whose next newer version of the same key has timestamp
 * `newer` (0 = it is the newest)? False: it may be dropped. */
bool snapshots_need(const struct snapshots *snapshots, mshm_timestamp timestamp,
                    mshm_timestamp newer);
/* May a newest version that is a tombstone of this timestamp be dropped with everything below it? Only when
 * timestamp <= horizon and no registered snapshot is older than it. */
bool snapshots_drop_tombstone(const struct snapshots *snapshots, mshm_timestamp timestamp);

#endif
