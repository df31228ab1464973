/* outcome.c - tokens in an ascending array; each has its commits of the last ring's length, ascending by sequence. */
#include "outcome.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "mshm/status.h"

enum { TOKENS_MAX = 65536, ENTRIES_START = 4 };
#define ENTRIES_TOTAL_MAX (UINT64_C(4) << 20) /* 64 MiB of entries: the oldest tokens go first */
#define EXPIRE_NS UINT64_C(600000000000)

struct token {
    uint64_t incarnation;
    uint32_t session;
    bool asked;
};

struct entry {
    uint64_t sequence, timestamp;
};

struct commits {
    struct token token;
    struct entry *entries; /* ascending by sequence */
    uint32_t count, capacity;
};

struct outcomes {
    struct commits *list; /* ascending by token, from `first` to `end` */
    uint32_t first, end, capacity;
    uint64_t entries_total; /* capacities of all tokens */
    struct token dropped;   /* the highest token that was dropped */
    uint64_t running;       /* incarnation; 0: the table is not complete yet */
};

static int
token_compare(const struct token *a, const struct token *b)
{
    if (a->incarnation != b->incarnation)
        return a->incarnation < b->incarnation ? -1 : 1;
    return a->session < b->session ? -1 : a->session > b->session;
}

int
outcomes_create(struct outcomes **outcomes)
{
    struct outcomes *made = calloc(1, sizeof *made);
    if (made == NULL)
        return MSHM_NO_MEMORY;
    *outcomes = made;
    return MSHM_OK;
}

void
outcomes_destroy(struct outcomes *outcomes)
{
    if (outcomes == NULL)
        return;
    for (uint32_t i = outcomes->first; i < outcomes->end; i++)
        free(outcomes->list[i].entries);
    free(outcomes->list);
    free(outcomes);
}

/* The place of the first token >= `token`. */
static uint32_t
find_place(const struct outcomes *outcomes, const struct token *token)
{
    uint32_t low = outcomes->first, high = outcomes->end;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (token_compare(&outcomes->list[middle].token, token) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static struct commits *
find_token(const struct outcomes *outcomes, const struct token *token)
{
    uint32_t place = find_place(outcomes, token);
    if (place == outcomes->end || token_compare(&outcomes->list[place].token, token) != 0)
        return NULL;
    return &outcomes->list[place];
}

static void
note_dropped(struct outcomes *outcomes, const struct token *token)
{
    if (token_compare(&outcomes->dropped, token) < 0)
        outcomes->dropped = *token;
}

static void
drop_oldest(struct outcomes *outcomes)
{
    struct commits *oldest = &outcomes->list[outcomes->first++];
    note_dropped(outcomes, &oldest->token);
    outcomes->entries_total -= oldest->capacity;
    free(oldest->entries);
}

/* Makes room for one more token at the end: moves the list to the front, or grows it. */
static int
list_reserve(struct outcomes *outcomes)
{
    if (outcomes->end < outcomes->capacity)
        return MSHM_OK;
    uint32_t count = outcomes->end - outcomes->first;
    if (outcomes->first <= outcomes->capacity / 2) {
        uint32_t capacity = outcomes->capacity != 0 ? outcomes->capacity * 2 : 64;
        struct commits *list = realloc(outcomes->list, capacity * sizeof *list);
        if (list == NULL)
            return MSHM_NO_MEMORY;
        outcomes->list = list;
        outcomes->capacity = capacity;
    }
    memmove(outcomes->list, outcomes->list + outcomes->first, count * sizeof *outcomes->list);
    outcomes->first = 0;
    outcomes->end = count;
    return MSHM_OK;
}

static int
insert_token(struct outcomes *outcomes, const struct token *token, struct commits **inserted)
{
    int status = list_reserve(outcomes);
    if (status != MSHM_OK)
        return status;
    uint32_t place = find_place(outcomes, token);
    memmove(outcomes->list + place + 1, outcomes->list + place,
            (outcomes->end - place) * sizeof *outcomes->list);
    outcomes->list[place] = (struct commits){.token = *token};
    outcomes->end++;
    *inserted = &outcomes->list[place];
    return MSHM_OK;
}

/* Drops entries that have left the window of the last MSHM_RING_CAPACITY sequences. */
static void
commits_trim(struct commits *commits)
{
    uint64_t highest = commits->entries[commits->count - 1].sequence;
    uint32_t gone = 0;
    while (highest - commits->entries[gone].sequence >= MSHM_RING_CAPACITY)
        gone++;
    commits->count -= gone;
    memmove(commits->entries, commits->entries + gone, commits->count * sizeof(struct entry));
}

static int
commits_add(struct outcomes *outcomes, struct commits *commits, uint64_t sequence,
            uint64_t timestamp)
{
    if (commits->count == commits->capacity && commits->count > 0)
        commits_trim(commits);
    if (commits->count == commits->capacity) {
        uint32_t capacity = commits->capacity != 0 ? commits->capacity * 2 : ENTRIES_START;
        struct entry *entries = realloc(commits->entries, capacity * sizeof *entries);
        if (entries == NULL)
            return MSHM_NO_MEMORY;
        outcomes->entries_total += capacity - commits->capacity;
        commits->entries = entries;
        commits->capacity = capacity;
    }
    /* Requests of different threads may commit out of order, so the place is near the end, not at it. */
    uint32_t place = commits->count;
    while (place > 0 && commits->entries[place - 1].sequence > sequence)
        place--;
    memmove(commits->entries + place + 1, commits->entries + place,
            (commits->count - place) * sizeof(struct entry));
    commits->entries[place] = (struct entry){sequence, timestamp};
    commits->count++;
    return MSHM_OK;
}

int
outcomes_add(struct outcomes *outcomes, uint64_t incarnation, uint32_t session, uint64_t sequence,
             uint64_t timestamp)
{
    struct token token = {.incarnation = incarnation, .session = session};
    if (token_compare(&token, &outcomes->dropped) <= 0)
        return MSHM_OK; /* its entry would be incomplete */
    struct commits *commits = find_token(outcomes, &token);
    if (commits == NULL) {
        int status = insert_token(outcomes, &token, &commits);
        if (status != MSHM_OK)
            return status;
    }
    int status = commits_add(outcomes, commits, sequence, timestamp);
    while (outcomes->end - outcomes->first > TOKENS_MAX ||
           (outcomes->entries_total > ENTRIES_TOTAL_MAX && outcomes->end > outcomes->first))
        drop_oldest(outcomes);
    return status;
}

void
outcomes_seal(struct outcomes *outcomes, uint64_t running_incarnation)
{
    outcomes->running = running_incarnation;
}

enum mshm_outcome
outcomes_lookup(const struct outcomes *outcomes, uint64_t incarnation, uint32_t session,
                uint64_t sequence, uint64_t *timestamp)
{
    struct token token = {.incarnation = incarnation, .session = session};
    if (incarnation >= outcomes->running)
        return MSHM_OUTCOME_UNKNOWN;
    struct commits *commits = find_token(outcomes, &token);
    if (commits == NULL)
        return token_compare(&token, &outcomes->dropped) <= 0 ? MSHM_OUTCOME_UNKNOWN
                                                              : MSHM_OUTCOME_NOT_COMMITTED;
    commits->token.asked = true;
    for (uint32_t i = commits->count; i > 0; i--) {
        const struct entry *entry = &commits->entries[i - 1];
        if (entry->sequence == sequence) {
            *timestamp = entry->timestamp;
            return MSHM_OUTCOME_COMMITTED;
        }
    }
    uint64_t highest = commits->entries[commits->count - 1].sequence;
    if (sequence < highest && highest - sequence >= MSHM_RING_CAPACITY)
        return MSHM_OUTCOME_UNKNOWN; /* older than what is kept */
    return MSHM_OUTCOME_NOT_COMMITTED;
}

void
outcomes_expire(struct outcomes *outcomes, uint64_t served_ns)
{
    if (served_ns < EXPIRE_NS)
        return;
    uint32_t kept = outcomes->first;
    for (uint32_t i = outcomes->first; i < outcomes->end; i++) {
        struct commits *commits = &outcomes->list[i];
        if (commits->token.asked) {
            outcomes->list[kept++] = *commits;
            continue;
        }
        note_dropped(outcomes, &commits->token);
        outcomes->entries_total -= commits->capacity;
        free(commits->entries);
    }
    outcomes->end = kept;
}
