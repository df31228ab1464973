/* spill.h - the scratch file: where history pages go that the cache has no room for.
 *
 * One file without a name in the data directory, made when the first page goes out and given back when the last one
 * has come to nothing. It is never synced, and nothing of it outlives the process: no snapshot does either. So no
 * failure here poisons anything: a page that cannot be written stays in memory, one that cannot be read is an error for
 * whoever asked for it.
 *
 *   file, in units of 1 KiB:  | record | record | free | record | ...     one record per page: header, bytes of the page
 *   table, by number:         { where, size, birth, next, who needs it, references }
 *
 * A page here never changes, but that its `next` may skip pages that nobody needs any more. It is held by the words that
 * lead to it: a leaf's history word, a history frame's, another page's `next`; a frame that was read from it, or written
 * to it, holds it, too, so that it need not be written again. Halves of a split leaf share what they had. Without a
 * reference it is gone.
 *
 * Loop thread only.
 */
#ifndef SPILL_H
#define SPILL_H

#include "env.h"
#include "mshm/counters.h"
#include "mshm/store.h"

struct spill;

enum {
    SPILL_READS = 64,             /* under way at most */
    SPILL_TAGS = 2 + SPILL_READS, /* of completions, from tag_base on */
    SPILL_BATCH = 1 << 20,        /* bytes of one write */
    SPILL_UNIT = 1024,
};

struct spill_page {
    AO_t next;                 /* the page behind it: ON_DISK, or 0. It holds that one */
    mshm_timestamp begin, end; /* only snapshots in [begin, end) can read any of it */
    uint64_t birth;            /* different for each page that was ever written */
    uint32_t at;               /* units from the beginning of the file */
    uint32_t size;             /* bytes of the page */
    uint32_t references;       /* 0: free */
    mshm_pid pid;              /* leaf that it was written for */
};

struct spill_options {
    uint64_t limit;    /* bytes of the file; 0: there is none */
    uint64_t tag_base; /* completions carry tags [tag_base, tag_base + SPILL_TAGS) */
    /* What ended; both with `argument`. A page that was written may leave memory; one that was not was never there, and who
     * holds it lets go of it here. `bytes` of a page that was read are good during the call only. */
    void (*written)(void *argument, uint32_t number, int status);
    void (*read)(void *argument, uint32_t number, mshm_pid reader, int status, const void *bytes);
    void *argument;
};

int spill_create(struct spill **spill, const struct spill_options *options, const struct env *env,
                 struct mshm_counters *counters);
/* Nothing may be under way, or the environment has forgotten it. */
void spill_destroy(struct spill *spill);

/* --- pages --- */

static inline AO_t
spill_word(uint32_t number)
{
    return (AO_t)number << 4 | MSHM_MAP_ON_DISK;
}
/* 0: the word leads to no page here. */
static inline uint32_t
spill_number(AO_t word)
{
    return mshm_map_state(word) == MSHM_MAP_ON_DISK ? (uint32_t)(word >> 4) : 0;
}
const struct spill_page *spill_page(const struct spill *spill, uint32_t number);
/* A word that leads elsewhere is passed over by both. */
void spill_hold(struct spill *spill, AO_t word);
void spill_release(struct spill *spill, AO_t word);
/* Leads from this page to another one, which it holds from then on instead of its former next one. */
void spill_link(struct spill *spill, uint32_t number, AO_t next);

/* --- writing: pages are added, then all are sent in one write --- */

/* True when pages may be added: no write is under way, and it is not blocked. */
bool spill_ready(const struct spill *spill, uint64_t now_ns);
/* Copies a page. MSHM_OK: *number is its number, held for the caller and for the write; MSHM_BUSY: what was added has to
 * be sent first; MSHM_FULL: the file has no room within its limit; MSHM_NO_MEMORY, or why there is no file. */
int spill_add(struct spill *spill, const struct spill_page *page, const void *bytes,
              uint32_t *number);
/* False: nothing was added. */
bool spill_send(struct spill *spill);
bool spill_sending(const struct spill *spill);
/* Nothing goes out now: there is no file, it has no room, writing failed a moment ago, or a write has lasted for a second. */
bool spill_blocked(const struct spill *spill, uint64_t now_ns);
/* Most of what the file may hold is in use. */
bool spill_nearly_full(const struct spill *spill);

/* --- reading --- */

/* Starts a read for the history of the leaf `reader`. The page is held until it has ended. MSHM_OK; MSHM_BUSY: as many are under way as may; MSHM_NO_MEMORY. */
int spill_read(struct spill *spill, uint32_t number, mshm_pid reader);
/* The same at once, to `to` (as many bytes as the page has), for checks. MSHM_OK, MSHM_CORRUPT, MSHM_IO, MSHM_NO_MEMORY. */
int spill_peek(struct spill *spill, uint32_t number, void *to);

void spill_complete(struct spill *spill, const struct env_completion *completion);
bool spill_idle(const struct spill *spill);
/* Numbers of pages are below this. */
uint32_t spill_end(const struct spill *spill);
/* References, places in the file and sums fit together: MSHM_OK or MSHM_CORRUPT and *why. `held`: how often the caller holds
 * each page, by number; what pages, reads and the write hold is added to it. */
int spill_check(const struct spill *spill, uint32_t *held, const char **why);

#endif
