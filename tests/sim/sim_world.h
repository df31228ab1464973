/* sim_world.h - one simulated history: a broker's core on a simulated machine, scripted clients, the model that knows
 * what must be there, deaths and recoveries; all from one seed.
 */
#ifndef SIM_WORLD_H
#define SIM_WORLD_H

#include "core.h"
#include "core_parts.h"
#include "mshm/message.h"
#include "mshm/protocol.h"
#include "mshm/read.h"
#include "sim/sim_env.h"
#include "sim/sim_model.h"

enum {
    SIM_CLIENTS = 6,
    SIM_LANES = 8,
    SIM_FLIGHT = 24,
    SIM_BRACKETS = 2,
    SIM_CLAIMS = 256,
    SIM_POINTS = 64,
    SIM_PIDS = 16,     /* pages asked for at once */
    SIM_MISSES = 1000, /* of one page in a row: somebody starves */
};

/* A request from its publication to the end of its incarnation. */
struct sim_request {
    uint64_t sequence;
    unsigned kind; /* enum mshm_request_kind */
    bool sync, answered;
    bool sleeping; /* in a futex wait for the answer, until woken */
    int lane;      /* -1: none */
    int reader;    /* the lane whose read waits for these pages, -1: none does */
    int status;
    mshm_timestamp snapshot, timestamp;
    mshm_timestamp visible_before; /* at publication */
    mshm_timestamp acked_before;
    struct model_op ops[MODEL_OPS];
    mshm_pid pids[SIM_PIDS];
    uint32_t count; /* of ops, or of pids */
};

/* A read that goes on when the pages that it met on disk have come. */
enum sim_read_kind { SIM_READ_NONE, SIM_READ_GET, SIM_READ_SCAN };
struct sim_read {
    enum sim_read_kind kind;
    bool waiting; /* for an answer */
    unsigned misses;
    uint32_t bucket;
    unsigned key; /* of a get; a scan: the first one that it has not met */
    uint8_t at[MSHM_MAX_KEY];
    size_t at_size; /* of a scan: where its next leaf begins */
};

struct sim_lane {
    bool open, committing;
    mshm_timestamp snapshot;
    struct sim_read read;
};

/* A reader that stopped inside its bracket. */
struct sim_bracket {
    bool open;
    AO_t epoch;
    mshm_timestamp snapshot;
    const uint8_t *frame;
    uint32_t frame_size, bucket;
    unsigned key;
};

struct sim_control {
    bool active;
    uint16_t kind;
    char name[MODEL_NAME_MAX];
    mshm_timestamp acked_before;
};

struct sim_client {
    struct sim_world *world;
    struct mshm_session *segment;
    struct session *session; /* the broker's side; NULL after the end was reported */
    uint64_t number;
    struct mshm_producer producer;
    struct sim_request *requests; /* all, by sequence */
    uint64_t count, capacity;
    uint64_t taken; /* every answer up to here has been taken */
    uint32_t flight;
    struct sim_lane lanes[SIM_LANES];
    struct sim_bracket brackets[SIM_BRACKETS]; /* they use the lanes behind those */
    struct sim_control control;
    bool doorbell, quiet; /* quiet: begins nothing new */
};

/* What a session left behind when its incarnation ended. */
struct sim_past {
    uint64_t incarnation, number;
    struct sim_request *requests;
    uint64_t count;
};

/* An answer that must be explained by the history once it is known up to `until`. */
struct sim_claim {
    int status;
    mshm_timestamp until;
    struct sim_request request;
};

struct sim_statistics {
    uint64_t steps, incarnations, cuts, kills, poisoned, stops;
    uint64_t committed, conflicts, preconditions, full, expired, too_big, reads, scans, brackets,
        revoked, lost, unanswered;
    uint64_t page_ins, page_reads, evictions, checkpoints, blind_writes, merges, replayed, recycled;
    uint64_t data_bytes, rewrites, deltas;
    uint64_t beyond,
        far_beyond; /* incarnations with more live data than cache, and thrice as much */
};

/* What clients write for a while. */
enum sim_phase { SIM_PHASE_MIXED, SIM_PHASE_LOAD, SIM_PHASE_DELETE };

struct sim_world {
    uint64_t seed;
    bool verbose, quiet; /* quiet: failures are not printed */
    struct sim_env *sim;
    struct sim_random *random;
    struct core_options options;
    struct core *core;
    void *store;
    uint64_t store_size;
    struct sim_client *clients[SIM_CLIENTS + 1]; /* the last one is who looks at everything */
    struct sim_client *leaving[64]; /* dead ones whose requests are still being drained */
    uint32_t leaving_count;
    struct sim_past *past;
    uint32_t past_count;
    struct sim_control lost_controls[64]; /* changes of the catalogue that nobody was told about */
    uint32_t lost_control_count;
    uint32_t
        alters; /* changes of buckets' options that were answered: commits without a known number */
    struct model model;
    struct sim_claim claims[SIM_CLAIMS];
    uint32_t claim_count;
    mshm_timestamp acked;   /* must survive the death of the process */
    mshm_timestamp durable; /* must survive a power cut */
    bool cut;               /* the power was cut since something was last served */
    uint64_t next_write;
    unsigned keys, load; /* load: client steps in a thousand */
    enum sim_phase phase;
    unsigned cursor;  /* next key to load or to delete */
    unsigned squeeze; /* steps in a thousand that press pages out of memory */
    uint8_t *hints;
    bool untidy;        /* this recovery met an error that it could bear */
    bool rotten;        /* bits of the data files were flipped */
    bool error_planned; /* this incarnation was to meet an error */
    uint64_t full_until;
    bool was_full; /* this incarnation met a full disk */
    uint64_t sleep_until;
    bool asleep, fat, large; /* fat: large values; large: much more data than cache */
    uint64_t die_at_point;   /* kill points from now; 0: not */
    bool die_cut;
    bool failed;
    char failure[512];
    struct sim_statistics statistics;
    uint64_t reached[SIM_POINTS]; /* kill points, in the order of the registry */
};

/* Runs one history. True when every promise held; else the text of the failure stands in world->failure. */
bool sim_world_run(struct sim_world *world);

/* sim_world.c. Birth and death: begin; then recover, and die and bury, by turns; end. */
void sim_world_begin(struct sim_world *world);
void sim_world_end(struct sim_world *world);
/* A new process, up to core_recover: true when it serves. */
bool sim_world_recover(struct sim_world *world, int *status, char *why, size_t why_size);
void sim_world_die(struct sim_world *world, bool power_cut);
/* The process is dead: its memory goes, the disk that is left comes into force. */
void sim_world_bury(struct sim_world *world);
void sim_world_past_free(struct sim_world *world);
void sim_fail(struct sim_world *world, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
uint64_t sim_below(struct sim_world *world, uint64_t bound);
bool sim_chance(struct sim_world *world, unsigned percent);
void sim_step_core(struct sim_world *world);
/* The process is dead or poisoned, or the history has failed. */
bool sim_world_over(struct sim_world *world);
void sim_awaken(struct sim_world *world);

/* sim_client.c */
struct sim_client *sim_client_attach(struct sim_world *world);
void sim_client_step(struct sim_client *client);
void sim_client_die(struct sim_client *client);
/* Frees memory; the broker must have forgotten it, or be gone. Its requests go to world->past. */
void sim_client_free(struct sim_client *client);

/* sim_request.c: each publishes a request, or nothing when there is no room. */
void sim_commit(struct sim_client *client, int lane);
void sim_one_call(struct sim_client *client);
void sim_sync(struct sim_client *client);
/* Asks for pages; `reader` is the lane that is told (-1: none). The number of requests so far, 0: no room. */
uint64_t sim_page_in(struct sim_client *client, int reader, const mshm_pid *pids, uint32_t count);
/* Lets the broker work until the request is answered; false: it died, or never answers. */
bool sim_request_wait(struct sim_client *client, uint64_t index);
/* Takes all answers that are there. Touches nothing of the core. */
void sim_client_harvest(struct sim_client *client);
void sim_client_wake(struct sim_client *client, const unsigned int *word);
/* A transaction of its own, waited for: its status. */
int sim_client_commit(struct sim_client *client, const struct model_op *ops, uint32_t count,
                      bool sync);
/* One put or delete at level SYNC, waited for: its status. */
int sim_client_demand(struct sim_client *client, unsigned key, bool put);

/* A living bucket's id, by chance. */
uint32_t sim_bucket_choose(struct sim_world *world);
unsigned sim_key_choose(struct sim_world *world);

/* sim_control.c */
void sim_control(struct sim_client *client);
void sim_control_send(struct sim_client *client, uint16_t kind, const char *name);
void sim_client_reply(struct sim_client *client, const void *message, size_t size);

/* sim_reader.c. A get in the lane's snapshot, or (the last lane) a one-call get; a whole walk; a reader that stops. */
void sim_read_key(struct sim_client *client, int lane);
void sim_scan(struct sim_client *client, int lane);
void sim_scan_bucket(struct sim_client *client, int lane, uint32_t bucket);
/* What the lane reads goes on, if its pages have come. */
void sim_read_go_on(struct sim_client *client, int lane);
void sim_read_answer(struct sim_client *client, const struct sim_request *request);
void sim_bracket_open(struct sim_client *client, unsigned index);
void sim_bracket_end(struct sim_client *client, unsigned index);

/* sim_check.c */
void sim_check_answer(struct sim_client *client, struct sim_request *request);
/* Applies what is known and judges what was claimed. */
void sim_check_advance(struct sim_world *world);
/* After a recovery: P1, P2, P3 and the outcomes of everything unanswered. */
void sim_check_recovered(struct sim_world *world);

/* sim_inspect.c. Every key of every bucket as of now, read as a client reads; and all structures. */
void sim_check_everything(struct sim_world *world);
/* The same on a disk that has lost some bits: errors are right then, wrong values are not. The last thing of a history. */
void sim_check_rot(struct sim_world *world);
/* sim_files.c. What the manifest on disk names and what is there: nothing is missing, nothing is left over, no two records
 * overlap, the figures of live bytes are right. Nothing may be under way. */
void sim_check_files(struct sim_world *world);

#endif
