/* pager.h - reading pages in: one read per page, however many wait for it; deep queues; at most two rounds per page.
 *
 *   want --newest read--> checked --older ones read, side by side--> checked --laid out--> installed, waiters told
 *
 * A page whose frame cannot be had waits, and eviction is pressed. Loop thread only.
 */
#ifndef PAGER_H
#define PAGER_H

#include "data.h"
#include "pages.h"
#include "snapshots.h"

struct pager;

/* Somebody who waits for one or more pages. Owned by the waiter; in place until done was called. */
struct pager_wait {
    uint32_t left; /* pages still missing */
    int status; /* MSHM_OK, or the first error: MSHM_CORRUPT, MSHM_IO, MSHM_NO_MEMORY, MSHM_FULL */
    void (*done)(void *argument, struct pager_wait *wait); /* when left becomes 0 */
    void *argument;
};
/* One of them has come, or cannot: its status. */
void pager_wait_tell(struct pager_wait *wait, int status);

/* The word of a leaf's history while the leaf is out; asked when it is laid out. */
typedef AO_t pager_history(void *argument, mshm_pid pid);

/* A page was installed; called with the argument of pager_history. */
typedef void pager_loaded(void *argument, mshm_pid pid);

struct pager_options {
    uint64_t tag_base; /* completions carry tags [tag_base, tag_base + PAGER_TAGS) */
    uint8_t database_id[16];
    pager_loaded *loaded; /* NULL: nobody is told */
    /* Versions that nobody can read any more stay out of memory; NULL: all come in. In place as long as the pager. */
    const struct snapshots *snapshots;
};
enum { PAGER_TAGS = 4096, PAGER_READS = 256 /* pages under way at most; others wait in line */ };

int pager_create(struct pager **pager, const struct pager_options *options, const struct env *env,
                 struct frames *frames, struct pages *pages, struct data *data,
                 pager_history *history, void *history_argument, struct mshm_counters *counters);
/* Nothing may be under way. */
void pager_destroy(struct pager *pager);

/* Has the page read in. MSHM_OK: wait->left was increased, and done is called later, never from here; MSHM_EXISTS: it
 * is in memory or not a page (nothing to wait for); MSHM_NO_MEMORY. wait may be NULL: read ahead. */
int pager_want(struct pager *pager, mshm_pid pid, struct pager_wait *wait);
/* The waiter is gone: done is not called any more. */
void pager_forget(struct pager *pager, struct pager_wait *wait);
/* A completion with one of its tags. */
void pager_complete(struct pager *pager, const struct env_completion *completion);
/* Goes on with pages that waited for a frame or a place in line: true when something was done. */
bool pager_turn(struct pager *pager);
bool pager_idle(const struct pager *pager);
/* A read of this data file is under way: it must not be removed yet. */
bool pager_reads(const struct pager *pager, uint32_t file);
/* Bytes of the frame that the first page waits for which was read and finds none; 0: none waits. pager_turn evicts
 * clean pages for it; where none are clean, the caller has to see that some become so. */
uint64_t pager_short(const struct pager *pager);

/* Reads one page at once, blocking: recovery and checks. MSHM_OK (it is in memory then, or not a page), MSHM_CORRUPT,
 * MSHM_IO, MSHM_FULL (no frame), MSHM_NO_MEMORY; *why (may be NULL) is set when there is more: the page, file, offset and
 * what is wrong there, good until the next call. */
int pager_load(struct pager *pager, mshm_pid pid, const char **why);
/* Lays out a page that is not in memory in private memory (`to`: MSHM_MAX_FRAME bytes, 64-aligned) without installing
 * it: *size is its frame size. Blocking: checks. As pager_load; MSHM_NOT_FOUND: it is in memory or not a page. */
int pager_peek(struct pager *pager, mshm_pid pid, void *to, uint32_t *size, const char **why);

#endif
