/* frames.h - memory for pages: frames in power-of-two classes, their retirement by epoch, and page numbers.
 *
 * A buddy allocator over the store's frames area (Knowlton 1965) in chunks of 64 KiB; memory is backed (env.store_back)
 * in steps before a frame of it is handed out. A replaced frame is retired with the current epoch and reused only when
 * no lane shows an open bracket of that epoch or an older one, or that bracket was revoked.
 * Loop thread only.
 */
#ifndef FRAMES_H
#define FRAMES_H

#include "env.h"
#include "mshm/counters.h"
#include "mshm/session.h"
#include "mshm/store.h"

struct frames;

struct frames_options {
    uint64_t frames_size;  /* bytes, a multiple of 64 KiB */
    uint64_t reserve_size; /* bytes kept back for deletes and housekeeping (frames_allow_reserve) */
    uint64_t
        revoke_after_ns; /* a bracket open for longer than this may be overruled when frames are short */
};

/* Who has brackets: asked by frames_reclaim. Calls each(lane) for every lane that may hold a bracket. */
typedef void frames_lanes(void *argument, void (*each)(void *each_argument, struct mshm_lane *lane),
                          void *each_argument);

/* `base` is the broker's own writable mapping of the store. */
int frames_create(struct frames **frames, const struct frames_options *options,
                  const struct env *env, uint8_t *base, const struct mshm_store_geometry *geometry,
                  frames_lanes *lanes, void *lanes_argument);
void frames_destroy(struct frames *frames);

/* A frame of a class: its address, or NULL when there is none left (after trying to reclaim). Contents undefined. */
uint8_t *frames_allocate(struct frames *frames, unsigned class);
/* Gives back a frame that was never published. */
void frames_free(struct frames *frames, uint8_t *frame, unsigned class);
/* Retires a published frame that no word leads to any more. */
void frames_retire(struct frames *frames, uint8_t *frame, unsigned class);
/* While allowed, allocations may use the reserve. Nestable by value: returns the former setting. */
bool frames_allow_reserve(struct frames *frames, bool allowed);
/* Bytes that could be allocated now, the reserve not counted unless allowed. */
uint64_t frames_available(const struct frames *frames);

/* Advances the epoch when something was retired since, and reuses what no bracket can see. With `pressed`, revokes
 * brackets that have been open longer than revoke_after_ns. Called about every millisecond and when frames are short.
 * */
void frames_reclaim(struct frames *frames, bool pressed);
/* True when retired frames wait: the loop must come back within a millisecond or so. */
bool frames_pending(const struct frames *frames);

/* Page numbers. 0 when none is left. Freeing sets the pid's word to state NONE (the queue of freed pids stands in the
 * upper bits), retires the frame it led to, and gives the pid out again only after an epoch has passed; a pid that was
 * never published is free at once. */
mshm_pid frames_pid_allocate(struct frames *frames);
void frames_pid_free(struct frames *frames, mshm_pid pid);

/* Freeing in two steps, for pids that somebody else than a reader still holds. Withdrawing sets the word to state
 * NONE, or MOVED when the page was merged away; what the word led to is the caller's business. Then the pid belongs
 * to the caller, may wait in one list of its own, and is given out again when an epoch has passed since it was
 * withdrawn, but not before its list was released. The word keeps its state until then. The lists stand in the page
 * map: they need no memory. */
struct frames_pids {
    mshm_pid head, tail; /* 0: empty */
};
void frames_pid_withdraw(struct frames *frames, mshm_pid pid, bool moved);
void frames_pids_add(struct frames *frames, struct frames_pids *list, mshm_pid pid);
void frames_pids_release(struct frames *frames, struct frames_pids *list);

/* Recovery, before any pid is given out: this pid is in use, and its word is `word`. MSHM_OK, MSHM_FULL (the map does
 * not reach so far), MSHM_NO_MEMORY (it cannot be backed). */
int frames_pid_restore(struct frames *frames, mshm_pid pid, AO_t word);
/* All were restored: those below the highest whose words are still 0 may be given out. */
void frames_pids_restored(struct frames *frames);
/* Pids from here on were never given out. */
mshm_pid frames_pid_end(const struct frames *frames);

/* The page map word of a pid, writable; publishing is AO_store_release by the caller. */
AO_t *frames_map(struct frames *frames, mshm_pid pid);
/* Address of the frame a resident word leads to. */
uint8_t *frames_address(struct frames *frames, AO_t word);
/* The word for a frame. */
AO_t frames_word(struct frames *frames, const uint8_t *frame, unsigned class, unsigned hint);
/* Publishes `word` for the pid (store-release) and retires the frame it led to before, if any. */
void frames_publish(struct frames *frames, mshm_pid pid, AO_t word);

/* Bytes that were retired and wait for readers to leave. */
uint64_t frames_retired(const struct frames *frames);
/* Copies the gauges into the counters. */
void frames_report(const struct frames *frames, struct mshm_counters *counters);
/* Is this a frame that was given out and neither freed nor retired? For checks. */
bool frames_in_use(const struct frames *frames, const uint8_t *frame, unsigned class);
/* Every byte is free, used, retired or never backed, and no two frames overlap: MSHM_OK or MSHM_CORRUPT and *why. */
int frames_check(const struct frames *frames, const char **why);

#endif
