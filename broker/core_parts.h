/* core_parts.h - what stands inside struct core, shared by the files of the core alone (core.c, commit.c, control.c,
 * sessions.c, recovery.c and what belongs to them). */
#ifndef CORE_PARTS_H
#define CORE_PARTS_H

#include "catalogue.h"
#include "core.h"
#include "data.h"
#include "frames.h"
#include "manifest.h"
#include "mshm/protocol.h"
#include "outcome.h"
#include "pager.h"
#include "pages.h"
#include "snapshots.h"
#include "tree.h"
#include "wal.h"

struct checkpoint;   /* checkpoint.c: the image of the trees that is being written */
struct commit_queue; /* commit.c: commits applied and not yet answered, in order */
struct sessions;     /* sessions.c: the table of attached clients */

struct core {
    struct core_options options;
    const struct env *env;
    uint8_t *base; /* the store, writable */
    struct mshm_store *store;
    struct mshm_figures *figures;
    struct mshm_view view;
    struct mshm_store_geometry geometry;
    struct frames *frames;
    struct pages *pages;
    struct data *data;   /* NULL until the manifest was read */
    struct pager *pager; /* the same */
    struct checkpoint *checkpoint;
    struct snapshots snapshots;
    struct tree *tree;
    struct catalogue *catalogue;
    struct wal *wal; /* NULL until recovered */
    struct outcomes *outcomes;
    struct manifest manifest;
    struct sessions *sessions;
    struct commit_queue *commits;
    mshm_timestamp applied; /* newest commit applied to the index */
    mshm_timestamp visible; /* newest published */
    uint64_t now_ns;        /* the clock, read once per turn */
    uint64_t maintained_ns; /* last pruning and reclaiming */
    uint64_t
        committed_ns;     /* last turn with a commit: after idling for a moment the log is marked */
    uint64_t started_ns;  /* when serving began */
    uint64_t expiry_ns;   /* when the next snapshot may be too old; UINT64_MAX = none */
    uint64_t looked_ns;   /* when snapshots were last looked at for their age */
    uint64_t stop_ticket; /* of the sync that an orderly stop waits for */
    unsigned stop_stage;
    bool cache_short;         /* replay did not fit into the cache */
    bool dirty;               /* commits were applied since the last maintenance */
    bool untidy;              /* commits were applied since tree_tidy was done */
    bool pressed;             /* the last maintenance left work: come back within a millisecond */
    bool pruning;             /* leaves with history are being rebuilt after an expiry */
    bool unmarked;            /* commits since the last wal_mark */
    uint64_t barren_ns;       /* until then nothing can leave memory */
    uint64_t turns;           /* with work, for what is looked at now and then */
    bool slowed;              /* too much memory waits to be written: commits wait, too */
    bool history_held;        /* a commit waits until a snapshot that keeps too much has gone */
    bool history_stays;       /* none can go now */
    uint64_t history_leeway;  /* bytes above history's share that are let be meanwhile */
    uint64_t history_held_ns; /* since when; 0: none waits */
    bool short_of_clean;      /* the same, and the disk is full: only deletes are taken */
    bool replaying;           /* recovery applies the log */
    bool stopping, stopped, poisoned;
};

enum { CORE_MAINTAIN_NS = 1000 * 1000 /* between two rounds of pruning and reclaiming */ };

/* Tags of completions. */
enum {
    CORE_TAG_WAL = 0x100,
    CORE_WAL_TAGS = 16,
    CORE_TAG_CHECKPOINT = 0x200,
    CORE_TAG_SPILL = 0x300,
    CORE_TAG_PAGER = 0x10000,
};

/* Sends what is staged and takes the log's completions. MSHM_OK or MSHM_IO (poison). *moved (may be NULL) is set when a
 * completion arrived. */
int core_log_turn(struct core *core, bool *moved);
/* Takes completions and hands them to whom they belong. MSHM_OK or MSHM_IO (poison). *moved (may be NULL) as above. */
int core_completions(struct core *core, bool *moved);

/* --- core_memory.c --- */
/* Keeps a part of the cache free, so that nobody has to wait for a reader to leave a frame. */
void core_evict(struct core *core);
/* Once a turn: whether commits have to wait until more of what they changed is on disk. */
void core_slow(struct core *core);
/* Before each commit: whether it has to wait because history takes more than its share of the cache. */
bool core_history_waits(struct core *core);
/* Frames are short: takes what can be had from clean pages, or sees to it that pages become clean. */
enum core_room {
    CORE_ROOM_NONE,  /* there is nothing to be had */
    CORE_ROOM_MAYBE, /* pages are clean, but were just read in, or are pinned */
    CORE_ROOM_COMES, /* try again in a moment */
};
enum core_room core_make_room(struct core *core);

/* Collects the registered snapshots anew; a tree_collect. */
void core_collect(void *core);

/* recovery.c: the work of core_recover. */
int recovery_run(struct core *core, bool create, char *why, size_t why_size);

#endif
