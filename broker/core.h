/* core.h - the broker's deterministic loop: what the program (or tests/sim) drives.
 *
 * One thread calls everything here. core_step does a bounded turn: takes completions, copies in and commits requests
 * fairly over the sessions, sends the log's batch, publishes `visible`, answers, prunes, reclaims.
 */
#ifndef CORE_H
#define CORE_H

#include "env.h"
#include "mshm/message.h"
#include "mshm/session.h"
#include "mshm/store.h"

struct core;
struct session; /* one attached client, the broker's side */

struct core_options {
    uint64_t cache_size;   /* bytes of frames */
    uint64_t map_capacity; /* pids */
    uint32_t page_size;    /* bytes: default leaf target */
    uint64_t segment_size; /* bytes of a log segment */
    bool log_mapping;      /* level OS through a mapping of the log */
    uint32_t max_sessions;
    uint64_t broker_pid;          /* of this process, for people who read the store */
    uint64_t snapshot_max_age_ns; /* 0 = never by age */
    uint64_t history_limit;       /* bytes of history in memory; 0 = a quarter of the cache */
    uint64_t history_size;        /* bytes of history in the scratch file; 0 = none goes there */
    uint64_t data_file_size;      /* bytes at which a new data file is begun */
    uint32_t
        data_alignment; /* bytes: what is written to data files ends at multiples; 0: anywhere */
    uint64_t checkpoint_log_bytes;   /* of log since the last cut that make a checkpoint due */
    uint64_t checkpoint_interval_ns; /* the same for time, when there was any commit */
    uint8_t *hints;           /* the hints segment, one byte for each 4 KiB of cache; NULL: none */
    uint64_t revoke_after_ns; /* brackets open longer may be overruled when frames are short */
};
void core_options_init(struct core_options *options);

/* `store` is the broker's writable mapping of a zeroed segment of core_store_size bytes; env.store_back backs ranges of
 * it. Nothing is read from disk yet. MSHM_OK, MSHM_INVALID, MSHM_NO_MEMORY, MSHM_FULL. */
uint64_t core_store_size(const struct core_options *options);
int core_create(struct core **core, const struct core_options *options, const struct env *env,
                void *store);
void core_destroy(struct core *core);

/* Reads manifest and log (creating both in an empty directory), replays, makes the log durable, opens a new incarnation
 * and its first segment, creates bucket "default" if it is not there. Blocking. On success liveness may be set by the
 * host and core_step called. On failure *why (a text for a person) tells file and reason. */
int core_recover(struct core *core, bool create, char *why, size_t why_size);

/* After core_recover returned MSHM_FULL: true when the cache was too small for the data in the log (replay lays pages out
 * anew, so a cache that was full to the brim may be short of a little), false when it was the disk. */
bool core_cache_short(const struct core *core);

/* One turn. Returns true when something was done (call again at once), false when idle; *wait_ns is then how long the
 * host may sleep at most (UINT64_MAX: until woken). */
bool core_step(struct core *core, uint64_t *wait_ns);
/* Before sleeping: sets every session's `asleep`, full fence, looks at the tails once more. True: sleep; false: work has
 * arrived (flags already cleared). After a sleep: core_awake before looking at anything. */
bool core_sleep(struct core *core);
void core_awake(struct core *core);

/* A client was let in: `segment` is the broker's mapping of its session segment (zeroed; initialised here). uid and pid
 * for reports. Fills session number. MSHM_OK, MSHM_LIMIT, MSHM_NO_MEMORY. */
int core_session_attach(struct core *core, void *segment, void *handle, uint32_t flags,
                        uint64_t uid, uint64_t pid, struct session **session);
uint64_t core_session_number(const struct session *session);
/* The session's eventfd was written: look at its ring again. After core_awake, or while the loop is running. */
void core_session_doorbell(struct core *core, struct session *session);
/* The client is gone (died: its complete requests are drained first; or said BYE): its lanes are freed once its requests
 * are answered, then env.session_free(handle), from core_step only. May be called again for a session that is ending, also
 * for one that the core ends itself (a malformed request, BYE): until env.session_free the pointer is good. */
void core_session_end(struct core *core, struct session *session, bool orderly);
/* The same for a client that is cut off because of what it sent over its socket: it counts as ended for a malformed
 * request, not as dead. */
void core_session_cut(struct core *core, struct session *session);
/* A control message arrived (size bytes, hostile). Answered through env.reply, now or later. Returns MSHM_OK or
 * MSHM_INVALID (the host cuts the session off). HELLO is the host's business. */
int core_control(struct core *core, struct session *session, const void *message, size_t size);

/* Orderly stop: no new commits are taken in once core_stop was called and rings were drained; true from core_stopped
 * when everything is durable and answered. */
void core_stop(struct core *core);
bool core_stopped(const struct core *core);
/* Takes a core_stop back: a client arrived while the host was leaving because of idleness. Not after liveness is set. */
void core_stop_cancel(struct core *core);
/* After a failed write or sync: nothing more is acknowledged; liveness is POISONED, waiting commits got
 * UNKNOWN_OUTCOME. The host exits with 70. */
bool core_poisoned(const struct core *core);

uint64_t core_incarnation(const struct core *core);
const uint8_t *core_database_id(const struct core *core);
/* Sessions attached and requests pending: for idle exit. */
uint32_t core_session_count(const struct core *core);

/* Whole-structure check for tests: trees, frames, catalogue, sessions. MSHM_OK or MSHM_CORRUPT and *why. */
int core_check(struct core *core, const char **why);

#endif
