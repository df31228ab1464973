/* checkpoint_parts.h - what stands inside struct checkpoint, shared by checkpoint.c (stages), checkpoint_pack.c (batches
 * of pages), checkpoint_stray.c (pages that cannot be read) and checkpoint_edit.c (the manifest). */
#ifndef CHECKPOINT_PARTS_H
#define CHECKPOINT_PARTS_H

#include "checkpoint.h"
#include "data_gather.h"
#include "page_pack.h"
#include "pages.h"
#include "strays.h"

enum checkpoint_stage {
    CHECKPOINT_IDLE,
    CHECKPOINT_FILL,
    CHECKPOINT_SYNC,
    CHECKPOINT_GATHER,
    CHECKPOINT_ENCODE,
    CHECKPOINT_EDIT,
    CHECKPOINT_PUBLISH,
    CHECKPOINT_COLLECT, /* everything, for a new manifest */
    CHECKPOINT_REWRITE,
};

enum {
    BATCH_PAGES = 256, /* looked at by one job */
    BATCH_BYTES = 1024 * 1024,
    BATCHES = 3, /* one is fetched, one is packed, and one is written */
    BEHIND_BYTES =
        512 * 1024,     /* written and not yet on their way to the disk that are worth a call */
    SLICE_PAGES = 8192, /* gathered or published in one turn */
    REMOVALS = 64,      /* files removed by one job */
};

/* Tags of completions, counted from CORE_TAG_CHECKPOINT. */
enum {
    CHECKPOINT_TAG_FETCH, /* these three: and the batch's number */
    CHECKPOINT_TAG_PACK = CHECKPOINT_TAG_FETCH + BATCHES,
    CHECKPOINT_TAG_WRITE = CHECKPOINT_TAG_PACK + BATCHES,
    CHECKPOINT_TAG_FILE = CHECKPOINT_TAG_WRITE + BATCHES,
    CHECKPOINT_TAG_SYNC,
    CHECKPOINT_TAG_ENCODE,
    CHECKPOINT_TAG_EDIT,
    CHECKPOINT_TAG_REWRITE,
    CHECKPOINT_TAG_MARK,
    CHECKPOINT_TAG_REMOVE,
};

/* What packing reads is fetched before, so the disk works while a processor does.
 *
 *   FREE --job--> FETCHING --job ended--> FETCHED --job--> PACKING --job ended--> PACKED --append--> WRITING --.
 *    ^                                       ^                                                                 |
 *    '-------------- all of it ---------------+------------------- bytes were too few for all of it ------------' */
enum batch_state {
    BATCH_FREE,
    BATCH_FETCHING,
    BATCH_FETCHED,
    BATCH_PACKING,
    BATCH_PACKED,
    BATCH_WRITING
};

struct batch {
    enum batch_state state;
    struct core *core;
    struct data_gather gather; /* what was fetched */
    uint8_t *bytes;            /* BATCH_BYTES, aligned as any disk wants it */
    uint32_t size;             /* packed */
    uint64_t offset;           /* where they go in the data file */
    uint32_t file_number;
    struct env_file *file;
    uint64_t behind, behind_size; /* of that file: written, and now to be sent to the disk */
    uint32_t first;               /* place of sources[0] among the sealed pages */
    uint32_t count;               /* sources */
    uint32_t done;                /* how many of them are packed and written */
    uint32_t packed;              /* how many of those behind them the job has done */
    struct page_keep keep;
    struct page_source sources[BATCH_PAGES];
    bool freed[BATCH_PAGES];
    int statuses[BATCH_PAGES];
    struct page_packed results[BATCH_PAGES];
};

struct checkpoint {
    enum checkpoint_stage stage;
    uint64_t requested, sealed, done; /* numbers of checkpoints */
    bool stuck;                       /* waits until retry_ns */
    int hindrance; /* why, while it is stuck: MSHM_FULL, MSHM_NO_MEMORY, MSHM_LIMIT, MSHM_IO */
    bool working;  /* a job or an append of the stage is under way */
    uint64_t retry_ns, hindrances;
    struct manifest_cut cut;      /* of the one under way */
    struct manifest_cut replayed; /* while recovery replays */
    uint64_t done_ns;             /* when the last one ended; before that, the broker's start */
    uint64_t begun_ns;

    mshm_timestamp *snapshots; /* the list of page_keep */
    struct page_keep keep;
    void *catalogue, *outcomes; /* as of the cut */
    uint64_t catalogue_size, outcomes_size;
    struct strays strays;     /* pages that could not be read */
    uint64_t lost;            /* records of this checkpoint's page_packed.lost */
    data_location lost_below; /* the first of those that should have named them, and its page */
    mshm_pid lost_page;

    struct batch batches[BATCHES];
    uint32_t next;         /* first sealed page that no batch has */
    uint32_t count;        /* sealed pages */
    uint32_t packed;       /* of those */
    bool fetching;         /* one job that fetches at a time: the disk has its hands full with it */
    bool packing, writing; /* one job, one append at a time: places in the file follow each other */
    bool file_making;      /* a data file is being made */
    uint32_t file_number;  /* that one's number */
    bool file_unsynced;    /* the file being written has bytes that no sync has covered */
    uint32_t
        behind_file; /* the file whose bytes from `behind` on were not sent to the disk before a sync */
    uint64_t behind;
    uint64_t written; /* bytes, for the figures */

    struct manifest_page *pages;
    uint64_t page_count, page_capacity;
    mshm_pid collect_next;
    uint32_t gather_next;
    struct manifest_file *files;
    uint32_t file_count;
    struct manifest_edit edit;
    void *bytes; /* of the edit, or of the new manifest */
    uint64_t bytes_size;
    struct env_file *manifest_file; /* open for appending, NULL: not yet */
    uint32_t *removals;             /* files that the edit takes out of the manifest */
    uint32_t removal_count;
    uint32_t removing[REMOVALS]; /* that a job removes from the disk */
    uint32_t removing_count;
    uint8_t mark[MANIFEST_MARK_SIZE]; /* proof of the newest edit */
};

/* --- checkpoint_pack.c: each returns MSHM_OK or MSHM_IO (poison) --- */
int fill_turn(struct core *core, bool *moved);
/* Syncs the data file; the stage after it is GATHER. */
int sync_turn(struct core *core, bool *moved);
/* Every sealed page is packed and written. */
bool fill_ended(const struct checkpoint *checkpoint);
int fill_complete(struct core *core, unsigned tag, int64_t result);

/* --- checkpoint_records.c: on the job's thread --- */
/* Will packing read a record of one of the batch's pages? Any thread. */
bool records_wanted(const struct batch *batch);
/* Reads what packing this batch will ask for: the newest records, side by side, then those that they name. What cannot be
 * read now is read again when its page is packed. */
void records_fetch(struct batch *batch);
/* A page_read for records that are only read to count what becomes garbage: nothing else tells of an error, so an error that
 * passes is given the chance to. */
int read_twice(void *gather, data_location location, uint32_t offset, void *to, uint32_t size);
/* The addresses below the newest record, as that record says them once it has been checked. */
int older_read(struct batch *batch, const struct page_source *source, data_location *older);
/* The whole chain of a page that is no more: all of it is garbage. What cannot be named stays counted as in use. */
int freed_pack(struct batch *batch, const struct page_source *source, struct page_packed *result);

/* --- checkpoint_stray.c --- */
/* The writes of the batch's pages that could not be read go into the table of strays, and wait for the next checkpoint: all of
 * them, or none (the batch may be packed once more). MSHM_OK; MSHM_LIMIT: the table is full; MSHM_FULL, MSHM_NO_MEMORY. */
int batch_strays(struct core *core, const struct batch *batch);
/* So many records below the page's newest one stay counted as in use, because nobody can name them. */
void records_lose(struct core *core, const struct page_source *source, uint32_t count);
/* The checkpoint counts: which pages it could not read is known from here on, and what it had to leave counted. */
void strays_settle(struct core *core);

/* --- checkpoint_edit.c --- */
int edit_turn(struct core *core, bool *moved);
int edit_complete(struct core *core, unsigned tag, int64_t result);
void edit_fini(struct checkpoint *checkpoint);

/* --- checkpoint.c --- */
/* Something that may pass: MSHM_OK, and the stage is tried again after a while. */
int checkpoint_wait(struct core *core, int status, const char *what);
/* A full disk or memory: MSHM_OK, and the stage is tried again after a while; anything else: MSHM_IO. */
int checkpoint_hindered(struct core *core, int64_t error, const char *what);

#endif
