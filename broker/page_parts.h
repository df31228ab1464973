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
/* The base of a leaf's frame and the first `tail_count` entries of its tail, merged; the broker may append meanwhile.
 * Keys that have lost their prefix are put together again. MSHM_OK, MSHM_CORRUPT, MSHM_NO_MEMORY. */
int page_list_take_frame(struct page_memory *memory, const uint8_t *frame, uint32_t frame_size,
                         uint32_t tail_count, struct page_list *list);
/* Takes a list that came from a frame apart again: what stood in the base; what stood in the tail, oldest first.
 * MSHM_OK, MSHM_NO_MEMORY. */
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
/* Takes a checked record apart. All its versions must be newer than `above`. *zstd is created when it is needed.
 * MSHM_OK, MSHM_CORRUPT and *why, MSHM_NO_MEMORY. */
int page_unpack(struct page_memory *memory, ZSTD_DCtx **zstd, const void *bytes,
                mshm_timestamp above, struct page_image *image, const char **why);

/* --- page_draft.c --- */

/* A record about to be written. The caller sets bucket, birth, pid, cut, compression and frame class of the record, the
 * fences and the sibling, and the versions; one of the functions below completes it. */
struct page_draft {
    struct page_record record;
    struct page_payload payload;
    const uint8_t *low, *high;
    const uint8_t *prefix; /* begins every key that is stripped */
    struct page_list versions, tail;
    const struct mshm_inner_spec *inner;
    data_location older[DATA_CHAIN_MAX];
    uint64_t raw_size; /* of the payload */
    unsigned no_delta; /* the chain's part of a full record's address */
};

/* A full record of a leaf. */
void page_draft_leaf(struct page_draft *draft);
void page_draft_inner(struct page_draft *draft, const struct mshm_inner_spec *inner);
/* Turns the draft into that of a delta with these versions, on top of the record at `location` and those below it. */
void page_draft_delta(struct page_draft *draft, data_location location, const data_location *older,
                      const struct page_list *list);
/* Bytes of the whole record when it is not compressed. */
uint64_t page_draft_size(const struct page_draft *draft);
/* MSHM_OK; MSHM_FULL: it may not fit into `capacity`; MSHM_CORRUPT: it holds what no record can; MSHM_NO_MEMORY. */
int page_draft_write(struct page_memory *memory, struct page_draft *draft,
                     const struct page_place *place, uint8_t *to, uint32_t capacity);

/* --- page_content.c --- */

/* The full record of a leaf that fits only with some versions apart; NULL: it is no such leaf. */
const struct page_image *page_content_apart(const struct page_content *content);

#endif
