/* sessions.h - the table of attached clients, which rings are looked at, and what their lanes say.
 *
 *   LIVE --core_session_end--> DRAINING --ring drained--> DRAINED --last answer posted--> freed (env.session_free)
 *     |                                                     ^
 *     +--------- malformed request, sessions_fail ----------+
 *
 * A session is polled every turn while it is busy. After a millisecond without a request its `asleep` word is set and
 * it is looked at again when its doorbell rings. Loop thread only.
 */
#ifndef SESSIONS_H
#define SESSIONS_H

#include "core_parts.h"

enum session_state { SESSION_LIVE, SESSION_DRAINING, SESSION_DRAINED };

/* What the broker knows about one lane, beside the words that the client may change at any time. */
struct lane_watch {
    mshm_timestamp snapshot; /* as last seen */
    uint64_t since_ns;       /* when it was first seen with newer commits visible; 0 = not yet */
    mshm_timestamp expired;  /* the mark that counts; session.expired is a copy for the client */
};

/* A control request that could not be answered yet. */
enum control_state {
    CONTROL_NONE,
    CONTROL_WAITS_FOR_LOG, /* a change of the catalogue that found the log busy: tried again each turn */
    CONTROL_WAITS_FOR_CHECKPOINT,
    CONTROL_WAITS, /* queued in commit order, or behind a sync */
};
struct control {
    enum control_state state;
    union { /* the request, later the reply */
        struct mshm_message head;
        struct mshm_bucket_message bucket;
        struct mshm_value_message value;
        struct mshm_lookup lookup;
        struct mshm_session_info info;
    } message;
};

struct session {
    struct mshm_session
        *segment; /* hostile, except that the mapping stays until env.session_free */
    struct mshm_consumer consumer;
    uint64_t limit; /* sequences above it are not taken in: the session or the broker is ending */
    uint64_t active_ns;  /* when a request was last seen */
    uint32_t unanswered; /* requests and control requests taken and not answered */
    enum session_state state;
    bool asleep;       /* not among sessions.active */
    bool bye;          /* BYE is to be answered when the session is freed */
    uint32_t page_ins; /* PAGE_IN requests under way */
    bool held;   /* its next request waits for memory: it is not looked at again in this turn */
    bool parked; /* its next request waits for pages: it is not looked at until they are there */
    int park_status; /* how that ended; not MSHM_OK: the answer of the request */
    struct pager_wait park;
    struct core *core; /* of a session that is parked */
    uint32_t flags;
    uint32_t lanes_high; /* never shrinks, at most MSHM_MAX_LANES */
    void *handle;
    uint64_t number, uid, pid, attached_ns;
    uint64_t commits, conflicts;
    uint64_t told_ns; /* when the log of events last named it for an old snapshot; 0 = never */
    struct control control;
    uint64_t checkpoint; /* that the control request waits for */
    struct lane_watch watch[MSHM_MAX_LANES];
};

struct sessions {
    struct session *table[MSHM_MAX_SESSIONS];  /* all, in no order */
    struct session *active[MSHM_MAX_SESSIONS]; /* those that are polled */
    uint32_t count, active_count;
    uint32_t capacity;
    uint32_t next;             /* index in `active` of the session to be served first */
    uint32_t ahead;            /* requests of this turn whose leaves are on their way already */
    uint32_t ending;           /* sessions that are not LIVE */
    uint32_t controls_waiting; /* in CONTROL_WAITS_FOR_LOG */
    uint64_t newest_number;
    bool checkpoints_waiting; /* some session may be in CONTROL_WAITS_FOR_CHECKPOINT */
    uint32_t held;            /* sessions that wait for memory */
    uint32_t parked;          /* sessions that wait for pages */
    bool blocked;             /* the log had no room in the last turn: its completion goes on */
    bool stirred;             /* something arrived since the last turn began: do not sleep */
};

int sessions_create(struct sessions **sessions, uint32_t capacity);
void sessions_destroy(struct sessions *sessions);

/* Takes requests in, fairly: starts behind the session served last, a bounded part per session and in all. True when
 * something was taken. */
bool sessions_drain(struct core *core);
/* Frees what has ended and lets sleep what has been idle. True when something was freed. */
bool sessions_settle(struct core *core);
/* Looks at the rings of sleeping sessions, whatever their doorbells say. */
void sessions_look(struct core *core);
/* Ends a session that sent nonsense: one line in the log of events; nobody else notices. */
void sessions_fail(struct core *core, struct session *session, const char *why);
/* No session takes in anything beyond what is published now; false: they do again. */
void sessions_stop(struct core *core, bool stop);
/* Nothing is left that may be taken in. */
bool sessions_drained(const struct core *core);

/* A session whose lanes count, and its lanes' number. */
uint32_t sessions_lane_count(struct session *session);
/* The callbacks of snapshots_collect and frames_reclaim; argument: the core. */
void sessions_snapshots(void *core, void (*each)(void *argument, mshm_timestamp snapshot),
                        void *argument);
void sessions_lanes(void *core, void (*each)(void *argument, struct mshm_lane *lane),
                    void *argument);
/* Fills the report on the first session with a number above `number`; false when there is none. */
bool sessions_describe(const struct core *core, uint64_t number, struct mshm_session_info *info);

#endif
