/* mlib.h - what the files of libmace share: the database handle, the attachment to one broker, bucket handles.
 *
 * A `mace` outlives brokers; an attachment belongs to one incarnation of one. Transactions, cursors and tickets hold the
 * attachment they began under; every call on the `mace` itself takes the current one and attaches again when that
 * broker is gone. In a forked child every mapping is absent (MADV_DONTFORK): each entry point asks mlib_forked first.
 */
#ifndef MLIB_H
#define MLIB_H

#include <pthread.h>
#include <stdbool.h>

#include "mace/mace.h"
#include "mshm/message.h"
#include "mshm/protocol.h"
#include "mshm/read.h"
#include "mshm/status.h"

enum { MLIB_OUTCOMES = 65536 }; /* answers of asynchronous commits that are kept; a power of two */

/* The answer of one request, copied from its completion before the ring place is used again. */
struct mlib_outcome {
    uint64_t sequence; /* 0 = none */
    uint64_t timestamp;
    int status;
    bool answered, taken; /* taken: mace_wait has returned it once */
};

/* struct mlib_attachment - one session with one broker.
 *
 * references: the mace's `current`, each open transaction, each call under way. A thread that wants one adds it and then
 * looks whether the attachment is still `current`; the struct itself stays until mace_close, so that add is always safe.
 * The put that brings it to zero after the attachment was retired unmaps and closes, once (`released`, under mace->lock).
 * lanes: bit set = in use; taken and given back by compare-and-swap; lane_owner is written by the owner of the lane.
 * lane_cache keeps the memory of an ended transaction for the lane's next owner; its owner's alone.
 * publish_lock guards producer, answers_taken, outcomes, tickets, draining and the queue of deferred lanes; never held across a
 * wait, always taken after mace->lock. It reports a relock by its own thread (a call from a signal handler).
 * places[] says who takes the answer of the request in that place of the ring: written under publish_lock, and by the
 * waiting thread (MLIB_PLACE_WAITED to MLIB_PLACE_TAKEN) without it.
 * control_lock guards the socket; held for one request and its reply, inside a section.
 */
struct mlib_attachment {
    struct mace *mace;
    struct mlib_attachment *next; /* all attachments of the mace, under mace->lock */
    AO_t references;
    bool released; /* mappings and descriptors are gone; under mace->lock */
    struct mshm_view view;
    struct mshm_session *session;
    uint64_t hints_size, session_size;
    uint64_t incarnation; /* with `number` the token of unanswered commits */
    uint64_t number;
    int socket, doorbell;
    pthread_mutex_t control_lock;

    AO_t lanes[MSHM_MAX_LANES / 64];
    struct mace_txn *lane_owner[MSHM_MAX_LANES];
    struct mace_txn *lane_cache[MSHM_MAX_LANES];

    pthread_mutex_t publish_lock;
    struct mshm_producer producer;
    /* Threads that wait for an answer that needs the disk; and, as a hint, how many such waits are still to come that
     * expect company because there was some. Any thread changes both. */
    AO_t sync_waiters, sync_company;
    uint64_t answers_taken;        /* sequences <= it were copied to `outcomes` */
    struct mlib_outcome *outcomes; /* MLIB_OUTCOMES places, by sequence */
    uint64_t tickets; /* asynchronous commits whose outcome mace_wait has not returned */
    AO_t places[MSHM_RING_CAPACITY]; /* sequence << 2 | enum mlib_place */
    unsigned
        draining; /* thread whose request found no room in the arena: others hold back; 0 = none */
    /* Lanes of asynchronous commits, oldest first: each is free when the broker has copied in its sequence. */
    AO_t deferred_count; /* changed under publish_lock, looked at without it */
    unsigned deferred_first;
    uint8_t deferred_lanes[MSHM_MAX_LANES];
    uint64_t lane_until[MSHM_MAX_LANES];
};

enum mlib_place {
    MLIB_PLACE_TICKET = 0, /* whoever needs the place copies the answer to `outcomes` */
    MLIB_PLACE_WAITED = 1, /* a thread waits for it and takes it itself */
    MLIB_PLACE_TAKEN = 2,  /* nobody needs it any more */
    MLIB_PLACE_AHEAD = 3,  /* nobody needs the answer, but the place is in use until it is there */
};

struct mace_bucket {
    struct mace *mace;
    struct mace_bucket *next; /* of the mace, under mace->lock */
    uint32_t id;
    /* (incarnation << 32 | place in the catalogue + 1), 32 bits each; 0 = unknown. Written and read by any thread; every
     * value is checked against the catalogue entry's id before use. */
    AO_t resolved;
};

struct mace {
    char *path;           /* absolute, of the data directory */
    mace_options options; /* broker_path copied */
    char *broker_path;
    AO_t *fork_page; /* MADV_WIPEONFORK: its first word is 1 here and 0 in a forked child */
    unsigned cpus;
    pthread_mutex_t lock; /* current, attachments, buckets; taken inside a section only */
    AO_t
        current; /* struct mlib_attachment *, 0: attach at the next call; stored under lock, loaded by any thread */
    struct mlib_attachment *attachments;
    struct mace_bucket *buckets;
    AO_t
        newest_seen; /* newest snapshot any transaction of this process has read at (never goes back) */
};

static inline bool
mlib_forked(const struct mace *db)
{
    return AO_load(db->fork_page) == 0;
}

/* section.c: before a thread takes `lock` or `control_lock` or asks for memory, and after it. MACE_INVALID: it is inside
 * a section already, so this call comes from a signal handler (or a longjmp has left the section). Sections do not nest.
 * db: the handle that is used, NULL where memory is all that is asked for. Until the end the thread is not cancelled. */
int mlib_section_enter(const struct mace *db);
void mlib_section_leave(void);
/* True when this thread is in a section of this handle, or in one without a handle. */
bool mlib_section_is(const struct mace *db);

/* attach.c: the current attachment, with a reference, attaching again (and starting a broker when allowed) when there
 * is none or its broker is gone. Any thread; may block up to connect_timeout_ms. Codes as mace_open, and MACE_INVALID
 * from a signal handler that interrupted a section when it would have to attach. */
int mlib_attachment_get(struct mace *db, struct mlib_attachment **attachment);
/* One more reference on an attachment that is held. */
void mlib_attachment_hold(struct mlib_attachment *attachment);
void mlib_attachment_put(struct mlib_attachment *attachment);
static inline bool
mlib_attachment_lost(const struct mlib_attachment *attachment)
{
    /* A broker ends the session of a process that broke it, or that it takes for dead, and serves the others on. */
    return mshm_store_gone(attachment->view.store) || mshm_session_over(attachment->session);
}
/* mace_close: ends every attachment, anywhere; then, inside a section, frees them. forked: in a forked child, where only
 * descriptors and memory are ours. */
void mlib_attachments_disconnect(struct mace *db, bool forked);
void mlib_attachments_free(struct mace *db, bool forked);
/* Rings the doorbell of a broker that sleeps on this session. */
void mlib_doorbell(struct mlib_attachment *attachment);
/* Makes the arena at least `size` bytes (up to MSHM_ARENA_MAX): MACE_OK, MACE_TOO_BIG, MACE_FULL, MACE_BROKER_LOST. */
int mlib_arena_grow(struct mlib_attachment *attachment, uint64_t size);

/* control.c: sends `request` (head.kind and size set by the caller) and receives its reply into `reply` (capacity bytes).
 * The reply's status is returned; MACE_BROKER_LOST when the connection ended; MACE_INVALID from a signal handler that
 * interrupted a section. */
int mlib_control(struct mlib_attachment *attachment, struct mshm_message *request,
                 struct mshm_message *reply, size_t capacity);

/* outcome.c: what became of request `sequence` of a lost attachment: attaches to the new broker and asks. *outcome gets
 * enum mshm_outcome; when no broker can be had it is UNKNOWN. MACE_OK always. */
int mlib_outcome_find(struct mace *db, uint64_t incarnation, uint64_t number, uint64_t sequence,
                      uint64_t *outcome, uint64_t *timestamp);

/* lane.c: takes a free lane for a transaction (owner) or for one call (owner NULL). MACE_LIMIT when all are in use. */
int mlib_lane_take(struct mlib_attachment *attachment, struct mace_txn *owner, unsigned *lane);
/* The lane's snapshot and epoch must be 0. */
void mlib_lane_give(struct mlib_attachment *attachment, unsigned lane);
/* Leaves a lane whose transaction has ended registered until the broker has copied in `sequence`. Under publish_lock. */
void mlib_lane_defer(struct mlib_attachment *attachment, unsigned lane, uint64_t sequence);
/* Frees the deferred lanes whose requests have been copied in. Under publish_lock. */
void mlib_lanes_reap(struct mlib_attachment *attachment);
/* The same, when there are any and the lock is free at once. Any thread. */
void mlib_lanes_reap_try(struct mlib_attachment *attachment);
/* A number of the calling thread, never 0, different for each thread of this process. */
unsigned mlib_thread_number(void);
/* attach.c, when a session's memory is about to be unmapped: keeps the answers that tickets may still ask for. Under
 * mace->lock; nobody else uses the attachment (commit.c). */
void mlib_answers_settle(struct mlib_attachment *attachment);
/* mace_close: frees the transactions' memory that the lanes keep, of an attachment whose transactions have ended (txn.c).
 * Inside a section. */
void mlib_lanes_fini(struct mlib_attachment *attachment);
/* Aborts a transaction found in lane_owner when its mace is closed (txn.c). */
void mlib_txn_abandon(struct mace_txn *txn);

/* page_in.c: has the broker read pages into the cache, and waits for it. MACE_OK: look again (a page may be gone again, or never have
 * been one); MACE_BROKER_LOST; MACE_CORRUPT, MACE_IO, MACE_FULL, MACE_NO_MEMORY: one of them cannot be read; MACE_INVALID: from a
 * signal handler inside another call. Outside brackets. count: at most MSHM_MAX_PAGE_IN. */
int mlib_page_in(struct mlib_attachment *attachment, const mshm_pid *pids, unsigned count);
/* The same without waiting and without an answer; when the ring has no room at once nothing is done. */
void mlib_page_ahead(struct mlib_attachment *attachment, const mshm_pid *pids, unsigned count);

/* bucket.c: where a bucket's tree is under this attachment. snapshot: what the caller reads at (UINT64_MAX: now).
 * MACE_OK; MACE_NOT_FOUND when the bucket was dropped at or before it or is unknown to this broker.
 * *inline_limit may be NULL. No system call, no lock. */
int mlib_bucket_find(struct mace_bucket *bucket, const struct mlib_attachment *attachment,
                     uint64_t snapshot, struct mshm_tree_ref *tree, uint32_t *inline_limit);

#endif
