/* outcome.c - tokens in an ascending list. A token that commits has a ring of timestamps; one that has not committed
 * since the last checkpoint is packed (outcome_format.h), and unpacked by its next commit.
 *
 *   (none) --add--> ring --save, not touched since the last one; or too many rings--> packed --add--> ring
 *      ^--- dropped (too many), expired (unasked), forgotten (closed in order) ---'
 */
#include <stdlib.h>
#include <string.h>

#include "mshm/status.h"
#include "outcome_parts.h"

enum {
    RINGS_MAX = 8 << 20,  /* bytes: a thousand busy sessions, four times what can be attached */
    PACKED_MAX = 8 << 20, /* bytes: the oldest tokens go first */
};
#define EXPIRE_NS UINT64_C(600000000000)

int
outcome_token_compare(const struct token *a, const struct token *b)
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

static void
commits_free(struct outcomes *outcomes, struct commits *commits)
{
    struct commits **recent = &outcomes->recent[commits->token.session % OUTCOME_RECENT];
    if (*recent == commits)
        *recent = NULL;
    outcome_commits_fini(outcomes, commits);
    free(commits);
}

void
outcomes_destroy(struct outcomes *outcomes)
{
    if (outcomes == NULL)
        return;
    for (uint32_t i = outcomes->first; i < outcomes->end; i++)
        commits_free(outcomes, outcomes->list[i]);
    free(outcomes->list);
    free(outcomes);
}

/* The place of the first token >= `token`. */
static uint32_t
find_place(const struct outcomes *outcomes, const struct token *token)
{
    uint32_t low = outcomes->first, high = outcomes->end;
    if (high > low && outcome_token_compare(&outcomes->list[high - 1]->token, token) < 0)
        return high; /* tokens grow */
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (outcome_token_compare(&outcomes->list[middle]->token, token) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static bool
place_is(const struct outcomes *outcomes, uint32_t place, const struct token *token)
{
    return place < outcomes->end &&
           outcome_token_compare(&outcomes->list[place]->token, token) == 0;
}

static void
note_dropped(struct outcomes *outcomes, const struct token *token)
{
    if (outcome_token_compare(&outcomes->dropped, token) < 0)
        outcomes->dropped = *token;
}

/* Those before it move up: what leaves is old mostly. */
static void
place_remove(struct outcomes *outcomes, uint32_t place)
{
    struct commits **list = outcomes->list;
    commits_free(outcomes, list[place]);
    memmove(list + outcomes->first + 1, list + outcomes->first,
            (place - outcomes->first) * sizeof *list);
    outcomes->first++;
}

/* Drops the oldest token that has not committed lately; only so many can be alive, so further ones need not be looked
 * at. Never `keep`. */
static void
drop_oldest(struct outcomes *outcomes, const struct commits *keep)
{
    uint32_t until = outcomes->end, victim = outcomes->first;
    if (until - victim > MSHM_MAX_SESSIONS + 1)
        until = victim + MSHM_MAX_SESSIONS + 1;
    while (victim < until && (outcomes->list[victim]->touched || outcomes->list[victim] == keep))
        victim++;
    if (victim == until)
        victim = outcomes->first + (outcomes->list[outcomes->first] == keep);
    note_dropped(outcomes, &outcomes->list[victim]->token);
    place_remove(outcomes, victim);
}

static void
outcomes_bound(struct outcomes *outcomes, const struct commits *keep)
{
    for (uint32_t i = outcomes->first; outcomes->rings_bytes > RINGS_MAX && i < outcomes->end; i++)
        if (outcomes->list[i] != keep)
            outcome_commits_pack(outcomes, outcomes->list[i]);
    while (outcomes->end - outcomes->first > 1 &&
           (outcomes->end - outcomes->first > OUTCOME_TOKENS_MAX ||
            outcomes->rings_bytes > RINGS_MAX || outcomes->packed_bytes > PACKED_MAX))
        drop_oldest(outcomes, keep);
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
        struct commits **list = realloc(outcomes->list, capacity * sizeof *list);
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

struct commits *
outcome_token_insert(struct outcomes *outcomes, const struct token *token)
{
    struct commits *commits = calloc(1, sizeof *commits);
    if (commits == NULL || list_reserve(outcomes) != MSHM_OK) {
        free(commits);
        return NULL;
    }
    uint32_t place = find_place(outcomes, token);
    commits->token = *token;
    memmove(outcomes->list + place + 1, outcomes->list + place,
            (outcomes->end - place) * sizeof *outcomes->list);
    outcomes->list[place] = commits;
    outcomes->end++;
    return commits;
}

static void
token_drop(struct outcomes *outcomes, const struct token *token)
{
    uint32_t place = find_place(outcomes, token);
    note_dropped(outcomes, token);
    if (place_is(outcomes, place, token))
        place_remove(outcomes, place);
}

int
outcomes_add(struct outcomes *outcomes, uint64_t incarnation, uint32_t session, uint64_t sequence,
             uint64_t timestamp)
{
    struct token token = {.incarnation = incarnation, .session = session};
    if (timestamp == 0)
        return MSHM_OK; /* no commit has it */
    struct commits *commits = outcomes->recent[session % OUTCOME_RECENT];
    if (commits == NULL || commits->token.session != session ||
        commits->token.incarnation != incarnation) {
        uint32_t place = find_place(outcomes, &token);
        if (place_is(outcomes, place, &token))
            commits = outcomes->list[place];
        else if (outcome_token_compare(&token, &outcomes->dropped) <= 0)
            return MSHM_OK; /* its entry would be incomplete */
        else if ((commits = outcome_token_insert(outcomes, &token)) == NULL) {
            token_drop(outcomes, &token);
            return MSHM_NO_MEMORY;
        }
        outcomes->recent[session % OUTCOME_RECENT] = commits;
    }
    uint64_t rings_bytes = outcomes->rings_bytes;
    if (outcome_commits_add(outcomes, commits, sequence, timestamp) != MSHM_OK) {
        token_drop(outcomes, &token);
        return MSHM_NO_MEMORY;
    }
    if (outcomes->rings_bytes != rings_bytes)
        outcomes_bound(outcomes, commits);
    return MSHM_OK;
}

void
outcomes_forget(struct outcomes *outcomes, uint64_t incarnation, uint32_t session)
{
    struct token token = {.incarnation = incarnation, .session = session};
    uint32_t place = find_place(outcomes, &token);
    if (place_is(outcomes, place, &token))
        place_remove(outcomes, place);
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
    uint32_t place = find_place(outcomes, &token);
    if (!place_is(outcomes, place, &token))
        return outcome_token_compare(&token, &outcomes->dropped) <= 0 ? MSHM_OUTCOME_UNKNOWN
                                                                      : MSHM_OUTCOME_NOT_COMMITTED;
    struct commits *commits = outcomes->list[place];
    commits->asked = true;
    uint64_t found = outcome_commits_find(commits, sequence);
    if (found != 0) {
        *timestamp = found;
        return MSHM_OUTCOME_COMMITTED;
    }
    if (sequence < commits->highest && commits->highest - sequence >= MSHM_RING_CAPACITY)
        return MSHM_OUTCOME_UNKNOWN; /* older than what is kept */
    return MSHM_OUTCOME_NOT_COMMITTED;
}

void
outcomes_expire(struct outcomes *outcomes, uint64_t served_ns)
{
    if (served_ns < EXPIRE_NS || outcomes->expired)
        return;
    outcomes->expired = true;
    uint32_t kept = outcomes->first;
    for (uint32_t i = outcomes->first; i < outcomes->end; i++) {
        struct commits *commits = outcomes->list[i];
        if (commits->asked || commits->token.incarnation >= outcomes->running) {
            outcomes->list[kept++] = commits;
            continue;
        }
        note_dropped(outcomes, &commits->token);
        commits_free(outcomes, commits);
    }
    outcomes->end = kept;
}
