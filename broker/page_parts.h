/* page_parts.h - what page_pack.c, page_unpack.c, page_content.c and page_list.c share, and nobody else includes.
 *
 * Everything here works on memory of its caller: any thread, each with its own.
 */
#ifndef PAGE_PARTS_H
#define PAGE_PARTS_H

#include <zstd.h>

#include "page_pack.h"

/* --- page_memory.c: memory that is taken piece by piece and given back all at once --- */

struct page_chunk;
struct page_memory {
    struct page_chunk *chunks; /* the last one first */
};
/* 16-aligned, contents undefined; NULL: none. */
void *page_memory_take(struct page_memory *memory, size_t size);
/* Gives back all; keeps a chunk for the next time. */
void page_memory_reset(struct page_memory *memory);
void page_memory_fini(struct page_memory *memory);

/* --- page_list.c: versions in the order of a leaf: ascending by key, newest first within a key --- */

struct page_list {
    struct mshm_version *versions;
    uint32_t count;
};
enum { PAGE_FROM_TAIL = 1 }; /* mshm_version.reserved */

int page_list_order(const struct mshm_version *a, const struct mshm_version *b);
bool page_list_same_key(const struct mshm_version *a, const struct mshm_version *b);
/* Of equal ones the first stays first. MSHM_OK, MSHM_NO_MEMORY. */
int page_list_sort(struct page_memory *memory, struct page_list *list);
/* `merged` may be one of the two. Of equal versions the newer list's comes first. MSHM_OK, MSHM_NO_MEMORY. */
int page_list_merge(struct page_memory *memory, const struct page_list *newer,
                    const struct page_list *older, struct page_list *merged);
/* Drops what nobody needs; with `tombstones`, also keys that are deleted for everybody. In place. */
void page_list_prune(struct page_list *list, const struct page_keep *keep, bool tombstones);
/* The base of a leaf's frame and the first `tail_count` entries of its tail, merged; the broker may append meanwhile. Keys that
 * have lost their prefix are put together again. MSHM_OK, MSHM_CORRUPT, MSHM_NO_MEMORY. */
int page_list_take_frame(struct page_memory *memory, const uint8_t *frame, uint32_t frame_size,
                         uint32_t tail_count, struct page_list *list);
/* Takes a list that came from a frame apart again: what stood in the base; what stood in the tail, oldest first. MSHM_OK,
 * MSHM_NO_MEMORY. */
int page_list_split(struct page_memory *memory, const struct page_list *list,
                    struct page_list *base, struct page_list *tail);
/* The writes above a timestamp. MSHM_OK, MSHM_NO_MEMORY. */
int page_list_take_blind(struct page_memory *memory, const struct blind_entry *newest,
                         mshm_timestamp above, struct page_list *list);

/* --- page_unpack.c --- */

/* A record taken apart. Points into the record, or, when that was compressed, into memory. */
struct page_image {
    struct page_record record;
    struct page_payload payload;
    const uint8_t *low, *high;
    const uint8_t *prefix;
    struct page_list versions; /* leaf, delta; those apart are not in it */
    struct page_list tail;     /* those that stand apart, oldest first */
    struct mshm_separator *separators;
    mshm_pid *children;
};
/* Takes a checked record apart. All its versions must be newer than `above`. *zstd is created when it is needed. MSHM_OK,
 * MSHM_CORRUPT and *why, MSHM_NO_MEMORY. */
int page_unpack(struct page_memory *memory, ZSTD_DCtx **zstd, const void *bytes,
                mshm_timestamp above, struct page_image *image, const char **why);

/* --- page_content.c --- */

/* The full record of a leaf that fits only with some versions apart; NULL: it is no such leaf. */
const struct page_image *page_content_apart(const struct page_content *content);

#endif
