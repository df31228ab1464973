/* support/load.h - a continuous load whose state can be checked whole, by anybody, at any snapshot.
 *
 * A slot is the sequence of transactions 1, 2, 3... of one writer. Transaction n of a slot writes, in one commit:
 *
 *   <slot>/c            n               how far the slot is
 *   <slot>/g/<i>        n               LOAD_GROUP keys: all the same n, or the commit was torn
 *   <slot>/j/<n mod R>  n, inserted     and the one of n - LOAD_JOURNAL deleted: no hole, no ghost
 *
 * where <slot> is long, so that few pages already make a tree of three levels.
 *
 * So a snapshot in which a slot stands at n must show exactly these keys, forward and backward, and nothing else: every
 * commit up to n and none above. Values carry slot, place and n and have sizes that depend on them.
 * The board is memory shared by the processes of a test; it outlives whoever wrote it.
 */
#ifndef SUPPORT_LOAD_H
#define SUPPORT_LOAD_H

#include <atomic_ops.h>

#include "mace/mace.h"
#include "support/process.h"
#include "support/random.h"

enum { LOAD_SLOTS = 64, LOAD_GROUP = 12, LOAD_JOURNAL = 40, LOAD_RING = 64 };

/* struct load_slot - what is known of a slot outside the database.
 * intended: written by the slot's writer before each commit, and taken back when an answer says "not applied"; acked: after
 * each answer. doubt: a commit that may be applied or not, or still be under way; an intention up to it is never taken back.
 * Read by anybody; a writer that dies leaves acked <= the truth <= intended. */
struct load_slot {
    AO_t intended;
    AO_t acked;
    AO_t doubt;
};
struct load_board {
    AO_t stop;    /* set by the driver: workers end after the commit they are in */
    AO_t commits; /* acknowledged ones, all slots: a sign of life */
    AO_t
        losses; /* transactions that found no broker, or lost theirs: MACE_BROKER_LOST, MACE_UNKNOWN_OUTCOME */
    AO_t unknowns; /* of them MACE_UNKNOWN_OUTCOME */
    struct load_slot slots[LOAD_SLOTS];
};
struct load_board *load_board_create(void);
void load_board_destroy(struct load_board *board);

/* After the writer of these slots was killed, before another one takes them over. */
void load_writer_died(struct load_board *board, unsigned first_slot, unsigned slots);

struct load_worker {
    struct load_board *board;
    const char *path;
    const char *bucket;
    unsigned first_slot,
        slots; /* slots of this worker; it writes one after the other, or several by tickets */
    unsigned pause_us; /* between transactions */
    uint64_t limit;    /* transactions; 0 = until stop */
    uint64_t seed;
    const char *
        broker_path; /* what attaching starts when nobody answers; NULL: nothing, the driver does */
};
/* For worker_start; argument: struct load_worker. Levels SYNC and OS, synchronous and by ticket, through broker losses. */
void load_worker_run(int channel, void *argument);

/* The key of a slot's count, as a string. */
enum { LOAD_KEY = 128 };
void load_count_key(char key[LOAD_KEY], unsigned slot);

/* One commit of one slot in the calling process: MACE_OK, or the commit's status. flags: MACE_OS, MACE_SYNC or 0. */
int load_commit(mace *db, mace_bucket *bucket, struct load_board *board, unsigned slot,
                unsigned flags);

/* Two transactions of one slot at the same snapshot: of the two commits at most one may succeed, and without a broker loss
 * exactly one does. MACE_OK, or the status of a loss. */
int load_conflict(mace *db, mace_bucket *bucket, struct load_board *board, unsigned slot);

/* Checks a slot at the transaction's snapshot by gets and by walks both ways; returns n. */
uint64_t load_check(mace_txn *txn, mace_bucket *bucket, unsigned slot);
/* Checks all slots of the board at a new snapshot against what was acknowledged and intended; returns the sum of n, which
 * is the number of commits that are there. */
uint64_t load_check_all(mace *db, mace_bucket *bucket, struct load_board *board);
/* Sum of what was acknowledged: a sign of life is that it grows. */
uint64_t load_commits(struct load_board *board);

#endif
