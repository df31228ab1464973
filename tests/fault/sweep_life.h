/* fault/sweep_life.h - a broker's core on files that fail (sweep.h), one client, and the comparison of what is there with
 * what was acknowledged. Calls fail only with a fault that was met, and only with codes that a fault may have.
 */
#ifndef SWEEP_LIFE_H
#define SWEEP_LIFE_H

#include "fake_env.h"

enum {
    LIFE_KEYS = 60,
    LIFE_FILLER = 1200, /* bytes in each commit, so that the log needs several segments */
    LIFE_FILE_ROOM = 1 << 20,
};

struct life {
    struct fake fake;
    struct fake_client *client;
    uint32_t bucket;
    /* What has to be there: of each key the newest commit that was acknowledged, and how many there were. Commit number
     * `doubt`, the last one, may be there, too. */
    unsigned newest[LIFE_KEYS], acked, doubt, number;
    uint64_t base; /* timestamp before the first of them */
    unsigned restarts, refused, full;
};
extern struct life life;

/* An empty disk, and functions that can fail; no broker. */
void life_begin(bool mapping);
/* Ends the broker, and forgets the disk. */
void life_end(void);

int life_start(void);
void life_die(void);
/* The broker has said that it cannot go on, or did not start: the fault ends, and the next one does. */
void life_restart(void);
bool life_poisoned(void);

/* The answer, or MSHM_BROKER_LOST when none will come. */
int life_answer(uint64_t sequence);
/* One commit: its status. */
int life_put(bool sync);
/* Puts, and starts again when the broker says that it cannot go on. */
void life_load(unsigned commits);
/* Asks for a checkpoint, and waits for a while: a full disk holds it up (MSHM_BUSY then). */
int life_checkpoint(void);
void life_evict(void);

/* Everything; with the fault gone all of it can be read. */
void life_see_all(void);
/* While the fault may strike. */
void life_see_some(void);

#endif
