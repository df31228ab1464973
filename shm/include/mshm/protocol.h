/* mshm/protocol.h - the protocols between processes, in the form both sides and the tests use: snapshot registration,
 * read brackets, ring publishing and copy-in, sleeping and waking. Each is a few lines; the reasons stand here.
 */
#ifndef MSHM_PROTOCOL_H
#define MSHM_PROTOCOL_H

#include "mshm/session.h"
#include "mshm/status.h"

/* Registers a snapshot in the lane and returns it. The broker publishes horizon = H with a full fence before it reads the
 * lanes, and may then drop what only snapshots < H unseen by it would need; so a lane that stored ts and, after a full
 * fence, still sees horizon <= ts has been or will be seen by every collection that could hurt it. Lock-free; loops only
 * when the broker moved the horizon past ts meanwhile. The lane must be unused (snapshot 0) or the caller's. */
static inline mshm_timestamp
mshm_snapshot_register(const struct mshm_store *store, struct mshm_lane *lane)
{
    mshm_timestamp snapshot;
    do {
        snapshot = AO_load_acquire(&store->visible);
        AO_store(&lane->snapshot, snapshot);
        mshm_full_fence(); /* pairs with the fence between the broker's horizon store and its lane scan */
    } while (AO_load(&store->horizon) > snapshot);
    return snapshot;
}
static inline void
mshm_snapshot_release(struct mshm_lane *lane)
{
    AO_store_release(&lane->snapshot, 0);
}

/* Opens a read bracket: frames that the page map leads to from here on are not reused until it is closed, unless it is
 * revoked. Returns the bracket's epoch. One bracket per lane; never across a wait. */
static inline AO_t
mshm_bracket_open(const struct mshm_store *store, struct mshm_lane *lane)
{
    AO_t epoch = AO_load_acquire(&store->epoch);
    AO_store(&lane->epoch, epoch);
    mshm_full_fence(); /* pairs with the fence before the broker's scan in frames_reclaim */
    return epoch;
}
/* Ends the reading part of a bracket: 0 when what was read is valid, else the bracket was revoked: throw the result away
 * and run the operation again. The lane's epoch is cleared in both cases. */
static inline int
mshm_bracket_close(const struct mshm_store *store, struct mshm_lane *lane, AO_t epoch)
{
    mshm_read_fence(); /* the page's bytes were loaded before `revoked` is */
    int revoked = AO_load(&store->revoked) >= epoch;
    AO_store_release(&lane->epoch, 0);
    return revoked;
}
/* To be looked at after the bytes were copied and mshm_read_fence (mshm_bracket_close has one): nonzero when the
 * broker had expired this snapshot, so that the result may miss versions. */
static inline int
mshm_snapshot_expired(const AO_t *expired, mshm_timestamp snapshot)
{
    return AO_load(expired) >= snapshot;
}

/* The client's private side of its ring. One per process and session, guarded by a process-private lock. */
struct mshm_producer {
    struct mshm_session *session;
    uint64_t next;        /* sequence of the next request */
    uint64_t head_seen;   /* cached head */
    uint64_t arena_begin; /* ring positions (not offsets) of the arena part in use: [begin, end) */
    uint64_t arena_end;
    uint64_t arena_looked; /* arena_end when head was last looked at for its sake */
    uint64_t arena_size;   /* bytes granted, as last loaded and clamped to MSHM_ARENA_MAX */
    uint64_t range_end
        [MSHM_RING_CAPACITY]; /* arena position just after the range of each request in flight */
};
void mshm_producer_init(struct mshm_producer *producer, struct mshm_session *session);

/* Finds `size` contiguous free bytes of the arena: MSHM_OK and the offset, MSHM_BUSY (wait until the head moves), or
 * MSHM_TOO_BIG (never with the arena granted now). Changes nothing: the range is taken by the publish. */
int mshm_producer_arena(struct mshm_producer *producer, uint64_t size, uint64_t *arena_offset);
/* True when the place of the next request is free: the broker has copied in and answered its predecessor there, and the
 * caller has taken that answer (answers_taken: sequences <= it have been copied to private memory). */
int mshm_producer_room(struct mshm_producer *producer, uint64_t answers_taken);
/* Publishes a request whose operations stand at arena_offset (as mshm_producer_arena gave it; one-call requests name
 * lane 0 and snapshot 0, SYNC requests also no arena and no operations: anything else ends the session). It the place, stores tail (release), full fence.
 * Returns the sequence; *wake is set when the broker is asleep on this session and its eventfd must be written. */
uint64_t mshm_producer_publish(struct mshm_producer *producer, unsigned kind, unsigned flags,
                               unsigned thread, unsigned lane, mshm_timestamp snapshot,
                               uint64_t arena_offset, uint64_t arena_size, uint64_t op_count,
                               int *wake);

/* A request after it was loaded once, word by word, into private memory. */
struct mshm_request_copy {
    uint64_t sequence, snapshot, arena_offset, arena_size, op_count, reserved;
    uint32_t thread, lane;
    uint16_t kind, flags;
};
/* The broker's private side of one session's ring. */
struct mshm_consumer {
    struct mshm_session *session;
    uint64_t head;       /* requests taken */
    uint64_t arena_size; /* bytes granted: the private copy that counts */
};
void mshm_consumer_init(struct mshm_consumer *consumer, struct mshm_session *session,
                        uint64_t arena_size);
/* A client may publish without taking its answers: the broker stops at MSHM_RING_CAPACITY unanswered requests.
 * Requests waiting: 0, up to MSHM_RING_CAPACITY, or -1 when tail is impossible (behind head, or too far ahead). */
int mshm_consumer_pending(const struct mshm_consumer *consumer);
/* Loads the next request (pending > 0) and checks sequence, kind, flags, lane, arena range, sizes, reserved: MSHM_OK or
 * MSHM_INVALID (end the session). Does not move head. */
int mshm_consumer_peek(const struct mshm_consumer *consumer, struct mshm_request_copy *request);
/* Address of a peeked request's operations in the hostile arena: for one memcpy into private memory. */
const void *mshm_consumer_arena(const struct mshm_consumer *consumer,
                                const struct mshm_request_copy *request);
/* Gives place and arena range back: store-release of head. */
void mshm_consumer_advance(struct mshm_consumer *consumer);
/* Stores an answer (release). The caller fences once per batch and then asks mshm_completion_waiter. */
void mshm_completion_post(struct mshm_session *session, uint64_t sequence, int status,
                          mshm_timestamp timestamp);
/* After the fence: nonzero when somebody sleeps on this answer; the caller then futex-wakes completions[].done. */
int mshm_completion_waiter(const struct mshm_session *session, uint64_t sequence);
/* Wakes everybody who sleeps on this answer: a futex call, only after mshm_completion_waiter said so. */
void mshm_completion_wake(struct mshm_session *session, uint64_t sequence);
/* Client: nonzero and the answer when `sequence` has been answered. */
int mshm_completion_take(const struct mshm_session *session, uint64_t sequence, int *status,
                         mshm_timestamp *timestamp);
/* Lets other threads run that want the processor. 0: that takes long, because somebody who has nothing to do with the
 * database wants it too; then sleep instead, a thread that is woken goes before those. `store`: a long yield in which
 * `visible` went on does not count, because its user is somebody who commits; NULL where the commits that go on are the
 * caller's own or its work. Any thread. */
int mshm_yield(const struct mshm_store *store);
/* Client: waits for the answer by spinning, yielding, then sleeping at most 100 ms (in slices) until `deadline_ns` of
 * CLOCK_MONOTONIC (0 = none) or until the store's liveness says gone. MSHM_OK (answered), MSHM_BROKER_LOST (gone and
 * not answered), MSHM_BUSY (deadline). One waiter per sequence. `cpus` 1: no spinning; 0: the answer
 * needs a disk, so neither spinning nor much yielding: what a waiter burns is missing to those who work for it. MSHM_OK
 * comes also when the place was used again and answered by a later request; mshm_completion_take then says no. */
int mshm_completion_wait(struct mshm_session *session, const struct mshm_store *store,
                         uint64_t sequence, uint64_t deadline_ns, unsigned cpus);

#endif
