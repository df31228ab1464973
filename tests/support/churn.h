/* support/churn.h - one sequence of commits that makes trees grow, shrink and vanish, in a database larger than a small
 * cache, and whose state can be checked whole at any time.
 *
 * Position p of the churn is its p-th commit. A round of CHURN_ROUND commits: bucket "churn" is created; CHURN_FILL
 * transactions insert CHURN_KEYS keys each; as many delete them again, so that pages are merged; the bucket is dropped. Each
 * transaction also overwrites CHURN_SPREAD keys of bucket "ballast", chosen by chance but always the same ones for the same
 * position, so they are mostly not in memory; and notes its position in both buckets. So the position that a database has
 * reached tells every key and value of both buckets.
 */
#ifndef SUPPORT_CHURN_H
#define SUPPORT_CHURN_H

#include <atomic_ops.h>

#include "mace/mace.h"
#include "support/random.h"

enum {
    CHURN_FILL = 12,
    CHURN_KEYS = 40,
    CHURN_ROUND = 2 + 2 * CHURN_FILL,
    CHURN_SPREAD = 2,
    CHURN_VALUE = 1000, /* bytes of a value of the ballast */
};

/* Memory shared by the processes of a test: acked <= the position of the database <= intended. Written by the churn's one
 * worker, read by anybody. */
struct churn_board {
    AO_t stop; /* set by the driver */
    AO_t acked, intended;
    AO_t losses;   /* commits that lost their broker */
    uint32_t keys; /* of the ballast; fixed */
};

/* Makes the bucket "ballast" of so many keys, each with a value that does not shrink by compression. */
struct churn_board *churn_create(mace *db, uint32_t keys);
void churn_destroy(struct churn_board *board);

struct churn_worker {
    struct churn_board *board;
    const char *path;
    const char *broker_path; /* what attaching starts when nobody answers; NULL: nothing */
    unsigned pause_us;       /* between commits */
    unsigned
        reads; /* keys of the ballast read before each commit: they take the place of others in the cache */
    uint64_t seed;
};
/* For worker_start; argument: struct churn_worker. Through broker losses, until stop. Another worker may follow one that was
 * killed. */
void churn_worker_run(int channel, void *argument);

/* With no worker: the whole state is that of one position, which contains every acknowledged commit. Returns it. */
uint64_t churn_check(mace *db, struct churn_board *board);
/* At any time: the ballast at a new snapshot is that of one position. */
void churn_check_ballast(mace *db, struct churn_board *board);

#endif
