/* page_memory.c - chunks of memory, from which pieces are taken one after the other. */
#include <stdlib.h>

#include "page_parts.h"

enum { CHUNK_MIN = 64 * 1024, CHUNK_KEPT = 1024 * 1024 };

struct page_chunk {
    struct page_chunk *next;
    size_t size, used; /* bytes of `bytes` */
    _Alignas(16) uint8_t bytes[];
};

void *
page_memory_take(struct page_memory *memory, size_t size)
{
    struct page_chunk *chunk = memory->chunks;
    size = (size_t)mshm_align_up(size, 16);
    if (chunk == NULL || chunk->size - chunk->used < size) {
        size_t room = chunk == NULL ? CHUNK_MIN : chunk->size * 2;
        room = size > room ? size : room;
        chunk = malloc(sizeof(*chunk) + room);
        if (chunk == NULL)
            return NULL;
        *chunk = (struct page_chunk){.next = memory->chunks, .size = room};
        memory->chunks = chunk;
    }
    void *piece = chunk->bytes + chunk->used;
    chunk->used += size;
    return piece;
}

/* The newest chunk is the largest, so that what has been needed once is there in one piece the next time. */
void
page_memory_reset(struct page_memory *memory)
{
    struct page_chunk *kept = memory->chunks;
    if (kept == NULL)
        return;
    memory->chunks = kept->next;
    page_memory_fini(memory);
    if (kept->size > CHUNK_KEPT) {
        free(kept);
        return;
    }
    kept->next = NULL;
    kept->used = 0;
    memory->chunks = kept;
}

void
page_memory_fini(struct page_memory *memory)
{
    while (memory->chunks != NULL) {
        struct page_chunk *chunk = memory->chunks;
        memory->chunks = chunk->next;
        free(chunk);
    }
}
