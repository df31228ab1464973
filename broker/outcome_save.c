/* outcome_save.c - the outcome table as bytes for a checkpoint, and back. */
#include <stdlib.h>
#include <string.h>

#include "mshm/status.h"
#include "outcome_parts.h"

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
        outcome_commits_pack(outcomes, commits);
    struct outcome_image image = {.incarnation = commits->token.incarnation,
                                  .session = commits->token.session};
    if (commits->capacity != 0) {
        image.size = outcome_commits_write(commits, written);
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
        outcome_token_compare(&outcomes->list[outcomes->end - 1]->token, &token) >= 0)
        return MSHM_CORRUPT;
    bool more = outcome_read_begin(&reader, bytes, image->size);
    while (more)
        more = outcome_read_next(&reader);
    if (!reader.good)
        return MSHM_CORRUPT;
    struct commits *commits = outcome_token_insert(outcomes, &token);
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
    if (header.count > OUTCOME_TOKENS_MAX)
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
