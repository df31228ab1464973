/* pages.h - where each page is: in a frame, on disk, or both; what of it is not on disk yet; what may leave memory.
 *
 * A pid's word in the page map says where readers find the page now: RESIDENT, or ON_DISK with the location of its
 * newest record (page_format.h). What the broker knows beside that of a page in memory stands in a private table with
 * a place per 4 KiB unit of the frames (that of the frame's first unit counts): location, cut of the record there,
 * birth, flags. Per pid there is one more number, the newest timestamp of any write to the page: 16 bytes per page of
 * the database in all.
 *
 *   states of a page in memory
 *
 *            publish, append                  seal                      published
 *   CLEAN ------------------------> DIRTY ----------> SEALED ----------------------> CLEAN
 *     ^ \                             ^                 |  ^    (its new location counts)
 *     |  \--evict--> on disk          |   append, publish  |
 *     |                |              |                 v  |
 *     '---install------'              '-----------  SEALED + DIRTY ---published---> DIRTY
 *
 * Sealed pages belong to the checkpoint in flight. A sealed page's frame that is replaced before it was packed is
 * kept for the job (retired by pages_packed). Only CLEAN pages without pins leave memory. Pages of kind HISTORY are
 * no pages here: they hang on leaves (tree_history.c), and the tree remembers the word of a leaf's history while the
 * leaf is out. Loop thread only.
 */
#ifndef PAGES_H
#define PAGES_H

#include "blind.h"
#include "env.h"
#include "frames.h"
#include "page_pack.h"

struct pages;

struct pages_options {
    uint8_t *hints;    /* one byte per 4 KiB of frames, written by clients (any value), or NULL */
    uint64_t fresh_ns; /* a page that was read in stays at least that long (10 ms) */
    /* Of the pages that were read in as more than one record, so many at a time are to be written anew by the next
     * checkpoint, as one record. 0: none. */
    uint32_t chained_most;
};

int pages_create(struct pages **pages, const struct pages_options *options, const struct env *env,
                 struct frames *frames, const struct mshm_store_geometry *geometry);
void pages_destroy(struct pages *pages);
struct blind *pages_blind(struct pages *pages);

/* --- the tree's side --- */

/* Publishes a new frame for a pid (store-release into the page map): of a pid that was just given out, or of a page
 * in memory, whose old frame is retired (kept while a job needs it). The page is dirty. `newest`: the newest
 * timestamp of its versions. whole: the page lost a key, or its fences changed, since its last record: a delta would
 * not do. */
void pages_publish(struct pages *pages, mshm_pid pid, AO_t word, mshm_timestamp newest, bool whole);
/* An entry was appended to the frame that the pid's word leads to. */
void pages_touch(struct pages *pages, mshm_pid pid, mshm_timestamp newest);
/* Starts the fetch of what pages_touch will write, for a page in memory and its word; changes nothing. */
void pages_prefetch(const struct pages *pages, mshm_pid pid, AO_t word);
/* Writes to a leaf that is not in memory, for which room was reserved (blind_reserve). */
void pages_write_blind(struct pages *pages, mshm_pid pid, const struct mshm_version *version);
/* The page is no more: its frame is retired, its records are garbage once the next checkpoint counts, and its pid is
 * given out again after that and an epoch. merged: the word says MOVED until then. */
void pages_free(struct pages *pages, mshm_pid pid, bool merged);
/* A pid for a new page; 0: none. Never one that a checkpoint in flight still holds. */
mshm_pid pages_pid_allocate(struct pages *pages);
/* The same, given back before it was ever published. */
void pages_pid_return(struct pages *pages, mshm_pid pid);
/* No write to the page is newer than this. */
mshm_timestamp pages_newest(const struct pages *pages, mshm_pid pid);
/* Pids of dropped buckets are not given out again while this is set: a half-reaped tree still names them. */
void pages_hold_pids(struct pages *pages, bool hold);

/* A pinned page in memory stays there. Counted. */
void pages_pin(struct pages *pages, mshm_pid pid);
void pages_unpin(struct pages *pages, mshm_pid pid);

/* --- reading in (pager.h) --- */

/* 0 when the page is in memory or does not exist. */
data_location pages_location(const struct pages *pages, mshm_pid pid);
/* What is known of a leaf's record at `location`: false, nothing. Who writes a record, or moves out a page, lets it be
 * remembered for a while. */
bool pages_recall(const struct pages *pages, mshm_pid pid, data_location location,
                  struct page_known *known);
void pages_remember(struct pages *pages, mshm_pid pid, const struct page_known *known);
/* The page was read, with what was written blind to it: publishes the frame. `location` is what pages_location still
 * says; `older` the records below it, `below` the cut of the first of them. newer: it holds writes of the gathering
 * generation, so it is dirty. */
void pages_install(struct pages *pages, mshm_pid pid, AO_t word, uint64_t birth, mshm_timestamp cut,
                   mshm_timestamp below, const data_location *older, bool newer);

/* --- leaving memory --- */

/* Moves clean pages out until `bytes` of frames were retired or a bounded walk ends (Corbato 1968; Johnson & Shasha
 * 1994: a page has to be used again to stay; pages_evict.c). Returns the bytes retired: they can be allocated after
 * an epoch. 0: nothing may leave just now, because all is dirty, sealed, pinned, or was read in less than fresh_ns
 * ago; in a cache above 400 MiB it may also mean that the walk goes on in the next call. */
uint64_t pages_evict(struct pages *pages, uint64_t bytes, uint64_t now_ns);

/* --- the checkpoint's side (checkpoint.h) --- */

/* Seals what is dirty, resident or blind, and what was freed, as of `cut`. Nothing is sealed before. The order of the
 * sealed pages is that of the pids; a place costs 24 bytes. MSHM_OK, MSHM_NO_MEMORY (nothing has changed). */
int pages_seal(struct pages *pages, mshm_timestamp cut);
uint32_t pages_sealed_count(const struct pages *pages);
/* What the job needs for place `index`; `compression` is the caller's to fill in. Stays right until
 * pages_packed(index), whatever becomes of the page meanwhile. A page that was freed since the last seal: *freed, and
 * only pid, location and older (NULL when they have to be read from the newest record's head) are set. */
void pages_source(const struct pages *pages, uint32_t index, struct page_source *source,
                  bool *freed);
/* The job is done with this place: its frame is not needed any more. location: of the new record, or 0 when nothing
 * had to be written (then the page keeps its former record). */
void pages_packed(struct pages *pages, uint32_t index, data_location location);
/* Room for pages_carry of `count` writes of together `bytes` bytes. MSHM_OK, MSHM_FULL, MSHM_NO_MEMORY. */
int pages_carry_reserve(struct pages *pages, uint32_t count, uint64_t bytes);
/* The records of this place's page, which was not in memory, cannot be read: no record is written, and what was written
 * blind to it up to the seal waits for the next one, as if it had come after this one. pages_packed(index, 0) follows. */
void pages_carry(struct pages *pages, uint32_t index);
/* What pages_packed was told of a place (for the manifest): the pid and its location from now on, 0 for a freed one;
 * false: unchanged. */
bool pages_result(const struct pages *pages, uint32_t index, mshm_pid *pid,
                  data_location *location);
/* The manifest counts: lets up to `budget` of the results take effect (locations, cuts, CLEAN); true when more are
 * left; after the last one nothing is sealed, blind writes of that generation are released, freed pids may be given
 * out. */
bool pages_published(struct pages *pages, uint32_t budget);

/* Cheap, for triggers and admission. dirty + sealed + kept bytes are the frames that cannot leave memory before a
 * checkpoint, each counted once: kept by a job; else sealed and not yet in effect, written to since or not; else
 * dirty. Blind writes: the gathered blocks count as dirty, the sealed ones as sealed; blind_bytes is both. */
struct pages_figures {
    uint64_t dirty_bytes, sealed_bytes, kept_bytes, blind_bytes;
    uint64_t dirty_pages;   /* of which the next checkpoint will write something */
    uint64_t changed_pages; /* of which it has something to say: those, and freed ones */
    uint64_t blind_pages;   /* of those, not in memory */
    uint64_t
        chained_pages; /* read in as more than one record, and to be written as one; changed or not */
    uint64_t sealed_pages; /* of the checkpoint in flight, freed ones included, not yet in effect */
    uint64_t resident_pages, on_disk_pages, evictions;
};
void pages_figures(const struct pages *pages, struct pages_figures *figures);

/* --- recovery --- */

/* The manifest says that the page is there. Before any page is used; pids in any order. MSHM_OK, MSHM_NO_MEMORY,
 * MSHM_FULL, MSHM_CORRUPT (a pid that cannot be, or twice). */
int pages_restore(struct pages *pages, mshm_pid pid, data_location location);
/* All have been restored: pids below the highest that are not there may be given out; every page counts as written at
 * `newest`. */
int pages_restored(struct pages *pages, mshm_timestamp newest);
/* After that: a write <= newest that no record of the page has (strays.h). MSHM_OK, MSHM_FULL, MSHM_NO_MEMORY,
 * MSHM_CORRUPT (there is no such page, or the write is older than the one before it). */
int pages_restore_stray(struct pages *pages, mshm_pid pid, const struct mshm_version *version);
/* Calls each(pid, location) for every page as of the last published checkpoint, from pid *next on, at most `budget`
 * pids: true when more are left. For writing the manifest anew. Locations change only in pages_published. */
bool pages_each_durable(const struct pages *pages, mshm_pid *next, uint32_t budget,
                        void (*each)(void *argument, mshm_pid pid, data_location location),
                        void *argument);

/* Whole-structure check for tests. */
int pages_check(struct pages *pages, const char **why);

#endif
