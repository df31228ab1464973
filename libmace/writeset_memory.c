/* writeset_memory.c - the memory of a write set: chunks, of which one may outlive a transaction. */
#include <stdlib.h>

#include "mlib.h"
#include "writeset_parts.h"

enum {
    CHUNK_FIRST = 8 << 10,
    CHUNK_LARGEST = 1 << 20,
    CHUNK_KEPT = 256 << 10, /* bytes that an empty write set may keep */
};

int
mlib_writeset_reserve(struct mlib_writeset *set, size_t size)
{
    struct mlib_chunk *chunk = set->chunks;
    if (chunk != NULL && chunk->size - chunk->used >= size)
        return MSHM_OK;
    size_t capacity = chunk == NULL ? CHUNK_FIRST : chunk->size * 2;
    if (capacity > CHUNK_LARGEST)
        capacity = CHUNK_LARGEST;
    if (capacity < size)
        capacity = size;
    int status = mlib_section_enter(NULL);
    if (status != MSHM_OK)
        return status;
    chunk = malloc(sizeof *chunk + capacity);
    mlib_section_leave();
    if (chunk == NULL)
        return MSHM_NO_MEMORY;
    *chunk = (struct mlib_chunk){.next = set->chunks, .size = capacity};
    set->chunks = chunk;
    return MSHM_OK;
}

/* Frees all chunks but the largest one that may be kept, and returns that. */
static struct mlib_chunk *
chunks_free(struct mlib_chunk *chunk)
{
    struct mlib_chunk *kept = NULL;
    for (struct mlib_chunk *next; chunk != NULL; chunk = next) {
        next = chunk->next;
        if (kept == NULL && chunk->size <= CHUNK_KEPT)
            kept = chunk;
        else
            free(chunk);
    }
    if (kept != NULL)
        kept->next = NULL;
    return kept;
}

/* One chunk stays. A signal handler that may not free leaves them all, to be freed with the next write set. */
void
mlib_writeset_clear(struct mlib_writeset *set)
{
    struct mlib_chunk *chunks = set->chunks;
    bool spare = chunks != NULL && (chunks->next != NULL || chunks->size > CHUNK_KEPT);
    if (spare && mlib_section_enter(NULL) == MSHM_OK) {
        chunks = chunks_free(chunks);
        mlib_section_leave();
    }
    if (chunks != NULL)
        chunks->used = 0;
    *set = (struct mlib_writeset){.chunks = chunks};
}

void
mlib_writeset_fini(struct mlib_writeset *set)
{
    while (set->chunks != NULL) {
        struct mlib_chunk *chunk = set->chunks;
        set->chunks = chunk->next;
        free(chunk);
    }
    *set = (struct mlib_writeset){0};
}
