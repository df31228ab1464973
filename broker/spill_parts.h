/* spill_parts.h - what stands inside struct spill, shared by spill.c (pages), spill_io.c (writing, reading)
 * and spill_space.c (places in the file) alone. */
#ifndef SPILL_PARTS_H
#define SPILL_PARTS_H

#include "spill.h"

enum {
    SPILL_MAGIC = 0x5443534d, /* "MSCT" */
    BATCH_UNITS = SPILL_BATCH / SPILL_UNIT,
};

/* In front of a page's bytes. The checksum is over the header, with 0 in its place, and the bytes. [32 bytes] */
struct spill_record {
    uint32_t magic;
    uint32_t checksum; /* CRC32C */
    uint64_t birth;
    uint32_t size;
    uint32_t pid;
    uint64_t reserved;
};
static_assert(sizeof(struct spill_record) == 32, "a record's header is 32 bytes");

/* Which units are in use: a bit each. */
struct spill_space {
    uint64_t *bits;
    uint32_t capacity; /* units that `bits` has bits for */
    uint32_t end;      /* none behind it is in use */
    uint32_t limit;
    uint32_t used;
};

/* Pages on their way into the file, side by side. */
struct spill_batch {
    uint8_t *bytes; /* SPILL_BATCH */
    uint32_t numbers[BATCH_UNITS];
    uint32_t count;
    uint32_t at, room, used; /* units */
    bool sending;
    uint64_t sent_ns; /* when */
};

struct spill_reading {
    uint32_t number; /* 0: the place is free */
    mshm_pid reader;
    struct spill_record *record;
};

struct spill {
    struct spill_options options;
    const struct env *env;
    struct mshm_counters *counters;
    struct env_file *file; /* NULL: there is none */
    struct spill_page *pages;
    uint32_t capacity, count; /* of `pages`; in use */
    uint32_t end;             /* pages from here on were never in use */
    uint32_t free; /* the first of those that are not any more, linked by `at`; 0: none */
    uint64_t births;
    struct spill_space space;
    struct spill_batch batch;
    struct spill_reading readings[SPILL_READS];
    uint32_t reading_count;
    struct env_file *closing; /* what a job gives back; NULL: nothing */
    uint64_t paused_ns;       /* nothing is written until then */
    bool full;                /* the last page found no room, and none was given back since */
    bool failing;             /* the last write failed */
};

/* Tags of completions, counted from tag_base. */
enum { SPILL_TAG_WRITE, SPILL_TAG_CLOSE, SPILL_TAG_READ };

/* Of a page's record. */
static inline uint32_t
spill_units(uint32_t size)
{
    return (uint32_t)((sizeof(struct spill_record) + size + SPILL_UNIT - 1) / SPILL_UNIT);
}

/* --- spill.c --- */
/* A new page at a free place, held twice; what it leads to is held by it. Its number; 0: no memory. */
uint32_t spill_page_new(struct spill *spill, const struct spill_page *page, uint32_t at);

/* --- spill_space.c --- */
/* The first free run of at least BATCH_UNITS units, or else the longest: its length, 0 = none. */
uint32_t space_find(const struct spill_space *space, uint32_t *at);
/* MSHM_OK, MSHM_NO_MEMORY. */
int space_take(struct spill_space *space, uint32_t at, uint32_t units);
void space_give(struct spill_space *space, uint32_t at, uint32_t units);
void space_reset(struct spill_space *space);

#endif
