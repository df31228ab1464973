/* outcome_parts.h - what stands inside struct outcomes, shared by outcome.c (the list of tokens), outcome_commits.c
 * (the commits of one token) and outcome_save.c. Nobody else includes it.
 */
#ifndef OUTCOME_PARTS_H
#define OUTCOME_PARTS_H

#include "outcome.h"
#include "outcome_format.h"

enum { OUTCOME_TOKENS_MAX = 65536, OUTCOME_RECENT = 256 };

struct token {
    uint64_t incarnation;
    uint32_t session;
};

struct commits {
    struct token token;
    bool asked;
    bool touched;      /* committed since the last save */
    uint32_t capacity; /* of the ring: a power of two; 0: packed, or nothing yet */
    uint32_t packed_size;
    uint64_t *ring;  /* timestamps of the last `capacity` sequences up to `highest`; 0: no commit */
    uint8_t *packed; /* NULL while there is a ring */
    /* Committed sequences: the newest one, and one that is not newer than any in the ring or the packed bytes. */
    uint64_t lowest, highest;
};

struct outcomes {
    struct commits **list; /* ascending by token, from `first` to `end` */
    uint32_t first, end, capacity;
    uint64_t rings_bytes, packed_bytes;
    struct token dropped; /* the highest token that was dropped */
    uint64_t running;     /* incarnation; 0: the table is not complete yet */
    bool expired;
    struct commits *recent[OUTCOME_RECENT]; /* by the session's number */
};

/* --- outcome.c --- */

int outcome_token_compare(const struct token *a, const struct token *b);
/* A new token without commits: NULL: out of memory. */
struct commits *outcome_token_insert(struct outcomes *outcomes, const struct token *token);

/* --- outcome_commits.c --- */

/* What has not left the window of the last sequences stays or comes in. MSHM_OK, MSHM_NO_MEMORY. */
int outcome_commits_add(struct outcomes *outcomes, struct commits *commits, uint64_t sequence,
                        uint64_t timestamp);
/* The commit's timestamp; 0: not committed, or older than what is kept. */
uint64_t outcome_commits_find(const struct commits *commits, uint64_t sequence);
/* Packs a ring; without memory for that it stays. */
void outcome_commits_pack(struct outcomes *outcomes, struct commits *commits);
/* The ring, packed into `bytes`: how many. */
uint32_t outcome_commits_write(const struct commits *commits, uint8_t bytes[OUTCOME_PACKED_MAX]);
/* Frees what it holds. */
void outcome_commits_fini(struct outcomes *outcomes, struct commits *commits);

#endif
