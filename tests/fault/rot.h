/* fault/rot.h - a small database in memory whose bytes a test damages, one place after the other, and what every start on
 * it may show: the broker's core, from manifest to page-in, on the files of unit/broker/fake_env.h.
 *
 * The database: two buckets, one of them compressed, each a root and some leaves; full records, chains of deltas and
 * garbage in two data files; a log behind the last checkpoint, all of it known to be durable. So there is one right state,
 * and each start shows it, but for the pages whose records are damaged, or is refused.
 */
#ifndef ROT_H
#define ROT_H

#include "fake_env.h"
#include "page_format.h"

enum {
    ROT_KEYS = 90, /* of each bucket */
    ROT_BUCKETS = 2,
    ROT_TAIL = 8, /* commits behind the last checkpoint */
    ROT_FILES = 32,
    ROT_RECORDS = 256,
};

struct rot_file {
    char name[64];
    uint8_t *bytes;
    uint64_t size;
};

/* A record that belongs to a page as of the last checkpoint. */
struct rot_record {
    mshm_pid pid;
    unsigned file; /* among the files */
    data_location location;
    uint8_t kind, compression;
};

struct rot {
    struct fake fake;
    struct rot_file files[ROT_FILES];
    unsigned file_count;
    struct rot_record records[ROT_RECORDS];
    unsigned record_count;
    uint32_t buckets[ROT_BUCKETS]; /* ids */
    unsigned versions[ROT_BUCKETS][ROT_KEYS];
    unsigned tail[ROT_TAIL]; /* keys, of the buckets in turn */
    mshm_pid roots[ROT_BUCKETS];
    mshm_pid leaves[ROT_BUCKETS][ROT_KEYS]; /* where the key is */
    mshm_timestamp newest;
    bool versions_differ; /* a page may be refused as one of another version, and only so */
    struct fake_client *client;
    char why[256];
};

/* What a start on damaged files came to. */
struct rot_outcome {
    int status;         /* of the start: MSHM_OK, or why it was refused */
    unsigned lost;      /* commits behind the last checkpoint that are not there, the newest ones */
    unsigned corrupt;   /* keys whose read said so */
    unsigned elsewhere; /* of them, those that do not need the damaged pages */
};

/* Makes the database, and the list of its files and records; the same each time. */
void rot_create(struct rot *rot);
void rot_destroy(struct rot *rot);
/* Every file as it was. */
void rot_restore(struct rot *rot);
/* The bytes of a file as the next start finds them. */
uint8_t *rot_bytes(struct rot *rot, unsigned file);
unsigned rot_find(const struct rot *rot, const char *name);
/* The record that a byte belongs to, or NULL. */
const struct rot_record *rot_record_at(const struct rot *rot, unsigned file, uint64_t offset);

/* Starts a broker on the files as they are. */
int rot_start(struct rot *rot);
void rot_kill(struct rot *rot);
/* Starts, reads every key, and fails unless each is said to be damaged or has its right value as of the newest commit that
 * is there. `damaged`: pages that may be damaged. Leaves the broker running when it started. */
void rot_look(struct rot *rot, const mshm_pid *damaged, unsigned count,
              struct rot_outcome *outcome);

/* Goes on with the broker that rot_look left: writes to every key, checkpoints, and starts three times. What needs the
 * damaged page may be refused or unreadable, and must not come back in another state than the right one. */
void rot_go_on(struct rot *rot, mshm_pid damaged);

#endif
