/* outcome_commits.c - the commits of one token: a ring of timestamps by sequence, as long as it needs, or packed bytes.
 */
#include <stdlib.h>
#include <string.h>

#include "mshm/status.h"
#include "outcome_parts.h"

enum { RING_START = 8, RING_FULL = MSHM_RING_CAPACITY };

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

void
outcome_commits_fini(struct outcomes *outcomes, struct commits *commits)
{
    ring_free(outcomes, commits);
    packed_free(outcomes, commits);
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

uint32_t
outcome_commits_write(const struct commits *commits, uint8_t bytes[OUTCOME_PACKED_MAX])
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

void
outcome_commits_pack(struct outcomes *outcomes, struct commits *commits)
{
    uint8_t bytes[OUTCOME_PACKED_MAX];
    if (commits->capacity == 0)
        return;
    uint32_t size = outcome_commits_write(commits, bytes);
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

int
outcome_commits_add(struct outcomes *outcomes, struct commits *commits, uint64_t sequence,
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

uint64_t
outcome_commits_find(const struct commits *commits, uint64_t sequence)
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
