/* mshm/session.h - layout of a session segment: one client process, its lanes, its request ring, its arena.
 *
 * Created, sized and sealed (SHRINK|GROW|SEAL) by the broker, mapped read-write by both. Everything in it is untrusted
 * input to the broker, also the parts that only the broker should write: of those it trusts its private copies.
 *
 *   header | broker lines | client line | counters | expired[128] | lanes[128] | waiting[1024] | completions[1024] |
 *   ring[1024] | arena (4 MiB granted at attach, up to 64 MiB)
 */
#ifndef MSHM_SESSION_H
#define MSHM_SESSION_H

#include "mshm/base.h"
#include "mshm/store.h"

#define MSHM_SESSION_MAGIC UINT64_C(0x31306563616d5353) /* "SSmace01" */

/* struct mshm_lane - one open transaction's snapshot and read bracket.      [layout 1: 64 bytes, one line]
 *
 *  field     written by   read by                     order                               pairs with
 *  snapshot  the lane     broker, snapshots_collect   store, full fence, re-check horizon store horizon, full fence
 *  epoch     the lane     broker, frames_reclaim      store, full fence                   full fence before the scan
 *  gets..    the lane     broker, for mace-stat       plain AO_store                      none: figures only
 *
 *  Death of the process at any point: both words stay; the broker clears them after the hang-up. Nobody else may.
 *  Stale: an old value keeps memory longer; it never frees too early.
 *  Revocation and expiry are words that the broker writes elsewhere (store.revoked; session.expired), read after
 *  mshm_read_fence().
 */
struct mshm_lane {
    AO_t snapshot; /* timestamp the transaction reads at; 0 = none */
    AO_t epoch;    /* store.epoch when the open bracket began; 0 = no bracket */
    AO_t gets;     /* reads answered through this lane */
    AO_t scans;    /* leaves copied through this lane */
    AO_t retries;  /* brackets thrown away because of revocation, and descents started again */
    AO_t reserved[3];
};
static_assert(sizeof(struct mshm_lane) == 64, "one lane per line");

/* What a request asks for (struct mshm_request.kind). */
enum mshm_request_kind {
    MSHM_REQUEST_COMMIT = 1,   /* a transaction: lane and snapshot named, operations in the arena */
    MSHM_REQUEST_ONE_CALL = 2, /* one operation with its precondition; no lane, no snapshot */
    MSHM_REQUEST_SYNC = 3,     /* answered when everything acknowledged so far is durable */
    /* Pages to be read into the cache: op_count pids (uint32_t each) stand in the arena; no lane, no snapshot. Answered
     * when each of them is in memory, or is no page any more, or could not be read (the first such error is the answer). */
    MSHM_REQUEST_PAGE_IN = 4,
};
enum mshm_request_flags {
    MSHM_REQUEST_LEVEL_SYNC = 1, /* answer after the log is durable; else when the kernel has it */
};

/* struct mshm_request - one place of the ring.                              [layout 1: 64 bytes, one line]
 *
 *  Written by the client before it publishes `tail` (release); read by the broker after it loaded `tail` (acquire),
 *  each word once, into a private struct mshm_request_copy. Hostile until checked there.
 *  Death of the client before the publish: the place is ignored. After: the broker drains it as if the client lived.
 */
struct mshm_request {
    AO_t sequence;     /* 1, 2, 3...; the place is (sequence - 1) % MSHM_RING_CAPACITY */
    AO_t kind_flags;   /* bits 0-15 kind, 16-31 flags, 32-63 thread number */
    AO_t lane;         /* COMMIT: index of the lane that holds the snapshot */
    AO_t snapshot;     /* COMMIT: must equal the lane's word */
    AO_t arena_offset; /* bytes from the start of the arena, a multiple of 8 */
    AO_t arena_size;   /* bytes of operations (mshm/ops.h), a multiple of 8 */
    AO_t op_count;
    AO_t reserved; /* 0 */
};
static_assert(sizeof(struct mshm_request) == 64, "one request per line");

/* struct mshm_completion - the answer to the request of the same place.     [layout 1: 16 bytes]
 *
 *  Written by the broker: timestamp and status plain (AO), then `done` with release. Read by the client: `done` with
 *  acquire; equal to the low 32 bits of its sequence = answered. `done` is the futex word a waiter sleeps on.
 *  The client reuses the ring place only after it has copied the answer to private memory.
 */
struct mshm_completion {
    AO_t timestamp;           /* commit timestamp of a committed request, else 0 */
    unsigned int status_bits; /* (unsigned)status */
    unsigned int done;        /* futex word: low 32 bits of the answered sequence */
};
static_assert(sizeof(struct mshm_completion) == 16, "four completions per line");

/* The client's own figures, summed by mace-stat; the client alone writes them, any value is harmless. */
struct mshm_client_counters {
    AO_t begins, commits, conflicts, waits_spun, waits_yielded, waits_slept, doorbells, arena_waits;
};
static_assert(sizeof(struct mshm_client_counters) == 64, "one line");

/* struct mshm_session - header and fixed part of a session segment.         [layout 1]
 *
 *  field        written by       read by   order                                    pairs with
 *  identity     broker, once     client    plain                                    the descriptor's passing
 *  head         broker           client    store-release after copy-in              load-acquire before a place or
 *                                                                                   arena range is used again
 *  asleep       broker           client    store 1, full fence, look at tail again  publish tail, full fence, load
 *               cleared (store 0) after waking and before the broker looks
 *  arena_size   broker           client    store-release after the range is backed  load-acquire
 *  tail         client           broker    store-release after the request's words  load-acquire
 *  lanes_high   client           broker    store-release before a lane above it is  full fence, then load
 *               used; only grows; clamped by the broker
 *  expired[i]   broker           client    store-release before anything pruned without that snapshot is published;
 *               only grows                 load after read fence at the end of each read: >= snapshot means expired;
 *                                          all UINT64_MAX: the broker has ended the session
 *  waiting[i]   client           broker    store 1, full fence, look at `done`      store done, full fence, load
 *
 *  Death of the client: the broker drains [head, tail), then frees lanes and segment. Death of the broker: the client
 *  sees store.liveness; nothing here is touched again by anybody but the client.
 */
struct mshm_session {
    uint64_t magic;
    uint32_t version;
    uint32_t layout_hash;
    uint64_t
        number; /* session number of this incarnation: with it the token of unanswered commits */
    uint64_t incarnation; /* of the broker that made it */
    uint64_t segment_size;
    mshm_offset arena_offset;
    uint64_t reserved_identity[2];

    _Alignas(MSHM_LINE) AO_t head; /* requests copied in: next sequence to take is head + 1 */
    _Alignas(MSHM_LINE) AO_t asleep;
    AO_t arena_size;               /* bytes granted */
    _Alignas(MSHM_LINE) AO_t tail; /* requests published: newest sequence */
    AO_t lanes_high;               /* lanes below this index have been used */
    _Alignas(MSHM_LINE) struct mshm_client_counters counters;
    _Alignas(MSHM_LINE) AO_t expired[MSHM_MAX_LANES];
    struct mshm_lane lanes[MSHM_MAX_LANES];
    unsigned int waiting[MSHM_RING_CAPACITY];
    struct mshm_completion completions[MSHM_RING_CAPACITY];
    struct mshm_request ring[MSHM_RING_CAPACITY];
};
static_assert(offsetof(struct mshm_session, head) == 64, "head has a line of its own");
static_assert(offsetof(struct mshm_session, asleep) == 128,
              "asleep is on a line that changes rarely");
static_assert(offsetof(struct mshm_session, tail) == 192, "the client's words are on another line");
static_assert(offsetof(struct mshm_session, lanes) % 64 == 0, "lanes are on line borders");
static_assert(offsetof(struct mshm_session, ring) % 64 == 0, "requests are on line borders");

/* The arena starts at this offset; the segment's size is MSHM_SESSION_SIZE (sparse). */
#define MSHM_SESSION_ARENA mshm_align_up(sizeof(struct mshm_session), 4096)
#define MSHM_SESSION_SIZE (MSHM_SESSION_ARENA + MSHM_ARENA_MAX)

/* The place of a sequence in ring, completions and waiting. */
static inline unsigned
mshm_ring_place(uint64_t sequence)
{
    return (unsigned)((sequence - 1) % MSHM_RING_CAPACITY);
}

/* True when the broker has ended this session although it serves on: it takes no request of it any more, and what was not
 * answered until now may have been carried out or not. Client. */
static inline int
mshm_session_over(const struct mshm_session *session)
{
    return AO_load_acquire(&session->expired[0]) == UINT64_MAX;
}

/* Writes the identity and arena_size into zeroed memory. Broker, before the descriptor goes out. */
void mshm_session_init(void *base, uint64_t number, uint64_t incarnation, uint64_t arena_size);
/* Client: checks the identity of a mapping of `size` bytes. MSHM_VERSION or MSHM_CORRUPT. */
int mshm_session_check(const void *base, uint64_t size);

#endif
