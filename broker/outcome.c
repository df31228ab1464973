/* outcome.c - tokens in an ascending list. A token that commits has a ring of timestamps by sequence, as long as it needs,
 * at most MSHM_RING_CAPACITY; one that has not committed since the last checkpoint is packed (outcome_format.h), and
 * unpacked by its next commit.
 *
 *   (none) --add--> ring --save, not touched since the last one; or too many rings--> packed --add--> ring
 *      ^--- dropped (too many), expired (unasked), forgotten (closed in order) ---'
 */
#include "outcome.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "mshm/status.h"
#include "outcome_format.h"

enum {
    TOKENS_MAX = 65536,
    RING_START = 8,
    RING_FULL = MSHM_RING_CAPACITY,
    RINGS_MAX = 8 << 20,  /* bytes: a thousand busy sessions, four times what can be attached */
    PACKED_MAX = 8 << 20, /* bytes: the oldest tokens go first */
    RECENT = 256,
};
#define EXPIRE_NS UINT64_C(600000000000)

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
    uint64_t
        *ring; /* timestamp by sequence, of the last `capacity` up to `highest`; 0: not committed */
    uint8_t *packed;          /* NULL while there is a ring */
    uint64_t lowest, highest; /* committed sequences; no older one is in a ring that is not full */
};

struct outcomes {
    struct commits **list; /* ascending by token, from `first` to `end` */
    uint32_t first, end, capacity;
    uint64_t rings_bytes, packed_bytes;
    struct token dropped; /* the highest token that was dropped */
    uint64_t running;     /* incarnation; 0: the table is not complete yet */
    bool expired;
    struct commits *recent[RECENT]; /* by the session's number */
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

/* --- one token's commits --- */

static void
ring_free(struct outcomes *outcomes, struct commits *commits)
{
    outcomes->rings_bytes -= commits->capacity * sizeof *commits->ring;
    free(commits->ring);
    commits->ring = NULL;
    commits->capacity = 0;
}

static void
packed_free(struct outcomes *outcomes, struct commits *commits)
{
    outcomes->packed_bytes -= commits->packed_size;
    free(commits->packed);
    commits->packed = NULL;
    commits->packed_size = 0;
}

static void
commits_free(struct outcomes *outcomes, struct commits *commits)
{
    struct commits **recent = &outcomes->recent[commits->token.session % RECENT];
    if (*recent == commits)
        *recent = NULL;
    ring_free(outcomes, commits);
    packed_free(outcomes, commits);
    free(commits);
}

static uint64_t *
ring_place(const struct commits *commits, uint64_t sequence)
{
    return &commits->ring[sequence & (commits->capacity - 1)];
}

/* The oldest sequence that the ring may hold. */
static uint64_t
ring_first(const struct commits *commits)
{
    uint64_t span = commits->highest - commits->lowest;
    return commits->highest - (span < commits->capacity ? span : commits->capacity - 1);
}

/* A ring for `span` sequences, or a full one, with what the old one held. */
static int
ring_grow(struct outcomes *outcomes, struct commits *commits, uint64_t span)
{
    uint32_t capacity = RING_START;
    while (capacity < RING_FULL && capacity < span)
        capacity *= 2;
    struct commits grown = *commits;
    grown.capacity = capacity;
    grown.ring = calloc(capacity, sizeof *grown.ring);
    if (grown.ring == NULL)
        return MSHM_NO_MEMORY;
    if (commits->capacity != 0)
        for (uint64_t s = ring_first(commits);; s++) {
            *ring_place(&grown, s) = *ring_place(commits, s);
            if (s == commits->highest)
                break;
        }
    ring_free(outcomes, commits);
    outcomes->rings_bytes += capacity * sizeof *grown.ring;
    commits->ring = grown.ring;
    commits->capacity = capacity;
    return MSHM_OK;
}

/* Packs the ring into `bytes`: how many. */
static uint32_t
ring_write(const struct commits *commits, uint8_t bytes[OUTCOME_PACKED_MAX])
{
    struct outcome_writer writer;
    uint32_t count = 0;
    for (uint32_t i = 0; i < commits->capacity; i++)
        count += commits->ring[i] != 0;
    bool begun = false;
    for (uint64_t s = ring_first(commits);; s++) {
        uint64_t timestamp = *ring_place(commits, s);
        if (timestamp != 0 && begun)
            outcome_write_next(&writer, s, timestamp);
        else if (timestamp != 0)
            outcome_write_begin(&writer, bytes, count, s, timestamp);
        begun = begun || timestamp != 0;
        if (s == commits->highest)
            break;
    }
    return (uint32_t)(writer.at - bytes);
}

/* Without memory for it the ring stays. */
static void
commits_pack(struct outcomes *outcomes, struct commits *commits)
{
    uint8_t bytes[OUTCOME_PACKED_MAX];
    if (commits->capacity == 0)
        return;
    uint32_t size = ring_write(commits, bytes);
    uint8_t *packed = malloc(size);
    if (packed == NULL)
        return;
    memcpy(packed, bytes, size);
    ring_free(outcomes, commits);
    commits->packed = packed;
    commits->packed_size = size;
    outcomes->packed_bytes += size;
}

static int
commits_unpack(struct outcomes *outcomes, struct commits *commits)
{
    struct outcome_reader reader;
    int status = ring_grow(outcomes, commits, commits->highest - commits->lowest + 1);
    if (status != MSHM_OK)
        return status;
    for (bool more = outcome_read_begin(&reader, commits->packed, commits->packed_size); more;
         more = outcome_read_next(&reader))
        *ring_place(commits, reader.sequence) = reader.timestamp;
    packed_free(outcomes, commits);
    return MSHM_OK;
}

/* What has not left the window of the last sequences stays or comes in; what is older than it is nobody's business. */
static int
commits_add(struct outcomes *outcomes, struct commits *commits, uint64_t sequence,
            uint64_t timestamp)
{
    int status = MSHM_OK;
    if (commits->packed != NULL)
        status = commits_unpack(outcomes, commits);
    if (status != MSHM_OK)
        return status;
    bool empty = commits->capacity == 0;
    uint64_t lowest = empty || sequence < commits->lowest ? sequence : commits->lowest;
    uint64_t highest = empty || sequence > commits->highest ? sequence : commits->highest;
    if (highest - sequence >= RING_FULL)
        return MSHM_OK;
    if (empty || (commits->capacity < RING_FULL && highest - lowest >= commits->capacity))
        status = ring_grow(outcomes, commits, highest - lowest + 1);
    if (status != MSHM_OK)
        return status;
    if (!empty && sequence > commits->highest && sequence - commits->highest >= commits->capacity)
        memset(commits->ring, 0, commits->capacity * sizeof *commits->ring);
    else if (!empty)
        for (uint64_t s = commits->highest; s < sequence; s++)
            *ring_place(commits, s + 1) = 0;
    commits->lowest = lowest;
    commits->highest = highest;
    commits->touched = true;
    *ring_place(commits, sequence) = timestamp;
    return MSHM_OK;
}

/* 0: not committed. */
static uint64_t
commits_find(const struct commits *commits, uint64_t sequence)
{
    struct outcome_reader reader;
    if (sequence > commits->highest || sequence < commits->lowest)
        return 0;
    if (commits->capacity != 0)
        return commits->highest - sequence < commits->capacity ? *ring_place(commits, sequence) : 0;
    for (bool more = outcome_read_begin(&reader, commits->packed, commits->packed_size); more;
         more = outcome_read_next(&reader))
        if (reader.sequence == sequence)
            return reader.timestamp;
    return 0;
}

/* --- the list --- */

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
    if (high > low && token_compare(&outcomes->list[high - 1]->token, token) < 0)
        return high; /* tokens grow */
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (token_compare(&outcomes->list[middle]->token, token) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static bool
place_is(const struct outcomes *outcomes, uint32_t place, const struct token *token)
{
    return place < outcomes->end && token_compare(&outcomes->list[place]->token, token) == 0;
}

static void
note_dropped(struct outcomes *outcomes, const struct token *token)
{
    if (token_compare(&outcomes->dropped, token) < 0)
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
            commits_pack(outcomes, outcomes->list[i]);
    while (outcomes->end - outcomes->first > 1 &&
           (outcomes->end - outcomes->first > TOKENS_MAX || outcomes->rings_bytes > RINGS_MAX ||
            outcomes->packed_bytes > PACKED_MAX))
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

static struct commits *
token_insert(struct outcomes *outcomes, const struct token *token)
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
    struct commits *commits = outcomes->recent[session % RECENT];
    if (commits == NULL || commits->token.session != session ||
        commits->token.incarnation != incarnation) {
        uint32_t place = find_place(outcomes, &token);
        if (place_is(outcomes, place, &token))
            commits = outcomes->list[place];
        else if (token_compare(&token, &outcomes->dropped) <= 0)
            return MSHM_OK; /* its entry would be incomplete */
        else if ((commits = token_insert(outcomes, &token)) == NULL) {
            token_drop(outcomes, &token);
            return MSHM_NO_MEMORY;
        }
        outcomes->recent[session % RECENT] = commits;
    }
    uint64_t rings_bytes = outcomes->rings_bytes;
    if (commits_add(outcomes, commits, sequence, timestamp) != MSHM_OK) {
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
        return token_compare(&token, &outcomes->dropped) <= 0 ? MSHM_OUTCOME_UNKNOWN
                                                              : MSHM_OUTCOME_NOT_COMMITTED;
    struct commits *commits = outcomes->list[place];
    commits->asked = true;
    uint64_t found = commits_find(commits, sequence);
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

/* --- for a checkpoint --- */

struct buffer {
    uint8_t *bytes;
    uint64_t size, capacity;
};

static bool
buffer_add(struct buffer *buffer, const void *bytes, uint64_t size)
{
    if (size > buffer->capacity - buffer->size) {
        uint64_t capacity = buffer->capacity != 0 ? buffer->capacity * 2 : 4096;
        while (capacity - buffer->size < size)
            capacity *= 2;
        uint8_t *grown = realloc(buffer->bytes, capacity);
        if (grown == NULL)
            return false;
        buffer->bytes = grown;
        buffer->capacity = capacity;
    }
    memcpy(buffer->bytes + buffer->size, bytes, size);
    buffer->size += size;
    return true;
}

static bool
commits_save(struct outcomes *outcomes, struct commits *commits, struct buffer *buffer)
{
    uint8_t written[OUTCOME_PACKED_MAX];
    const uint8_t *packed = written;
    if (!commits->touched)
        commits_pack(outcomes, commits);
    struct outcome_image image = {.incarnation = commits->token.incarnation,
                                  .session = commits->token.session};
    if (commits->capacity != 0) {
        image.size = ring_write(commits, written);
    } else {
        packed = commits->packed;
        image.size = commits->packed_size;
    }
    return buffer_add(buffer, &image, sizeof image) && buffer_add(buffer, packed, image.size);
}

int
outcomes_save(struct outcomes *outcomes, void **bytes, uint64_t *size)
{
    struct buffer buffer = {0};
    struct outcome_header header = {.magic = OUTCOME_MAGIC,
                                    .version = OUTCOME_VERSION,
                                    .count = outcomes->end - outcomes->first,
                                    .dropped_incarnation = outcomes->dropped.incarnation,
                                    .dropped_session = outcomes->dropped.session};
    bool added = buffer_add(&buffer, &header, sizeof header);
    for (uint32_t i = outcomes->first; i < outcomes->end && added; i++)
        added = commits_save(outcomes, outcomes->list[i], &buffer);
    if (!added) {
        free(buffer.bytes);
        return MSHM_NO_MEMORY;
    }
    for (uint32_t i = outcomes->first; i < outcomes->end; i++)
        outcomes->list[i]->touched = false;
    *bytes = buffer.bytes;
    *size = buffer.size;
    return MSHM_OK;
}

static int
commits_load(struct outcomes *outcomes, const struct outcome_image *image, const uint8_t *bytes)
{
    struct token token = {.incarnation = image->incarnation, .session = image->session};
    struct outcome_reader reader;
    if (outcomes->end > outcomes->first &&
        token_compare(&outcomes->list[outcomes->end - 1]->token, &token) >= 0)
        return MSHM_CORRUPT;
    bool more = outcome_read_begin(&reader, bytes, image->size);
    while (more)
        more = outcome_read_next(&reader);
    if (!reader.good)
        return MSHM_CORRUPT;
    struct commits *commits = token_insert(outcomes, &token);
    uint8_t *packed = malloc(image->size);
    if (commits == NULL || packed == NULL) {
        free(packed);
        return MSHM_NO_MEMORY;
    }
    memcpy(packed, bytes, image->size);
    commits->packed = packed;
    commits->packed_size = image->size;
    commits->lowest = reader.first;
    commits->highest = reader.sequence;
    outcomes->packed_bytes += image->size;
    return MSHM_OK;
}

int
outcomes_load(struct outcomes *outcomes, const void *bytes, uint64_t size)
{
    struct outcome_header header;
    struct outcome_image image;
    const uint8_t *at = bytes, *end = at + size;
    if (size < sizeof header)
        return MSHM_CORRUPT;
    memcpy(&header, at, sizeof header);
    if (header.magic != OUTCOME_MAGIC)
        return MSHM_CORRUPT;
    if (header.version != OUTCOME_VERSION)
        return MSHM_VERSION;
    if (header.count > TOKENS_MAX)
        return MSHM_CORRUPT;
    at += sizeof header;
    for (uint32_t i = 0; i < header.count; i++) {
        if ((uint64_t)(end - at) < sizeof image)
            return MSHM_CORRUPT;
        memcpy(&image, at, sizeof image);
        at += sizeof image;
        if (image.size > (uint64_t)(end - at) || image.size > OUTCOME_PACKED_MAX)
            return MSHM_CORRUPT;
        int status = commits_load(outcomes, &image, at);
        if (status != MSHM_OK)
            return status;
        at += image.size;
    }
    outcomes->dropped = (struct token){header.dropped_incarnation, header.dropped_session};
    return at == end ? MSHM_OK : MSHM_CORRUPT;
}
