/* commit_parts.h - what stands inside struct commit_queue, shared by commit.c (taking in), commit_pages.c (waiting for pages)
 * and commit_answer.c (answering) alone.
 */
#ifndef COMMIT_PARTS_H
#define COMMIT_PARTS_H

#include "commit.h"

enum { REFUSED_CAPACITY = 256 };

enum commit_kind { COMMIT_REQUEST, COMMIT_CONTROL, COMMIT_OF_NOBODY };

/* One commit (or reply that must not overtake the commits before it) that waits for the log. */
struct commit {
    struct session *session;
    uint64_t sequence;
    mshm_timestamp timestamp;
    uint64_t batch;     /* of the log; for a sync: its ticket */
    uint64_t copied_ns; /* when it was copied in */
    enum commit_kind kind;
    bool sync;
};

struct commit_ring {
    struct commit *items;
    uint64_t head, tail; /* count for ever; place = number & mask */
    uint64_t mask;
};

struct refusal {
    struct session *session;
    uint64_t sequence;
};

struct commit_queue {
    struct commit_ring commits;               /* in commit order */
    struct commit_ring syncs;                 /* in order of their tickets */
    struct refusal refused[REFUSED_CAPACITY]; /* answered, but nobody was woken yet */
    uint32_t refused_count;
    uint64_t batch; /* newest that something was staged for */
    mshm_timestamp pinned;
    mshm_timestamp catalogue_changed; /* by this commit, last */
    uint64_t
        short_ns; /* since when commits wait for frames that brackets hold back; 0 = none does */
    uint64_t short_seen_ns;             /* when the last one was seen waiting */
    struct page_request *page_requests; /* PAGE_IN requests that wait */
};

static inline struct commit *
ring_at(const struct commit_ring *ring, uint64_t number)
{
    return &ring->items[number & ring->mask];
}

/* --- commit_pages.c --- */
/* The request stays in the ring until the pages that the plan missed are in memory. */
enum commit_verdict commit_park(struct core *core, struct session *session, int *status);

/* Forgets the PAGE_IN requests that nobody answers any more. */
void page_requests_free(struct commit_queue *queue);

/* --- commit_answer.c --- */
/* Posts an answer that stands outside the order of the commits. */
void commit_post(struct core *core, struct session *session, uint64_t sequence, int status);

#endif
