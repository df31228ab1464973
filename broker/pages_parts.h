/* pages_parts.h - what stands inside struct pages, shared by the files of the page store's table alone (pages.c,
 * pages_known.c, pages_seal.c, pages_publish.c, pages_evict.c, pages_restore.c, pages_check.c).
 *
 * Where what is known of a pid stands:
 *
 *   page-map word    newest[pid]                    more
 *   RESIDENT         newest write                   states[first unit of its frame]
 *   ON_DISK          newest write                   the word holds its location; the blind table, if it was written to
 *   NONE, MOVED      location of its newest record  freed; 0: it has none, or the manifest does not name it any more
 *                    that the manifest names
 *   0                0                              never published
 *
 * So freeing a page needs no memory. `changed` holds the pids of which the next checkpoint has something to say: DIRTY
 * pages, pages with gathered blind writes, and freed pids that wait for it.
 *
 * A sealed page whose frame is replaced or freed before it was packed leaves the state of its old frame behind as it
 * is (KEPT), and that is what pages_source shows from then on. It borrows the `chain` of the page's present
 * state; when the page was freed it owns it (PLACE_OWNS).
 */
#ifndef PAGES_PARTS_H
#define PAGES_PARTS_H

#include "mshm/status.h"
#include "pages.h"
#include "pid_set.h"

#include <stdlib.h>
#include <string.h>

enum state_flags {
    STATE_DIRTY = 1,   /* it holds what neither a record nor the checkpoint in flight has */
    STATE_WHOLE = 2,   /* the next record has to be a full one */
    STATE_FRESH = 4,   /* read in at `came`, and not seen old enough since */
    STATE_TOUCHED = 8, /* written to since the hand came by: counts as the hint does */
    STATE_HOT = 16,    /* used again after it had proved itself once (pages_evict.c) */
    STATE_SEEN = 32,   /* used once, as far as the hand could see */
    STATE_INNER = 64,  /* not a leaf */
    STATE_KEPT = 128,  /* no page any more: what the job still needs of a sealed one */
};

/* What stands below a page's newest record. */
struct page_chain {
    mshm_timestamp below;  /* cut of the first of them */
    data_location older[]; /* newest first, as many as the newest one's location says */
};

/* A page in memory; kept at the first unit of its frame. All zero: no page begins there. [48 bytes] */
struct page_state {
    data_location location; /* of its newest record that counts; 0: none */
    mshm_timestamp since;   /* cut of that record */
    uint64_t birth;
    struct page_chain *chain; /* below it; NULL: nothing, or there was no memory to remember it */
    mshm_pid pid;             /* 0: no page */
    uint32_t place;           /* among the sealed ones, counted from 1; 0: it is not sealed */
    uint32_t pins;
    uint16_t came; /* pages_tick */
    uint8_t flags; /* enum state_flags */
    uint8_t class : 4;
    uint8_t chances : 4; /* visits without use that a hot page survives */
};
static_assert(sizeof(struct page_state) == 48, "48 bytes for 4 KiB of cache");

enum place_flags {
    PLACE_FREED = 1,  /* the pid was freed: no record is written */
    PLACE_BLIND = 2,  /* it was not in memory: its blind writes are to be written */
    PLACE_WHOLE = 4,  /* a full record is due */
    PLACE_PACKED = 8, /* its location is the result */
    PLACE_KEPT = 16,  /* the frame at `unit` does not belong to a page any more */
    PLACE_OWNS = 32,  /* the state at `unit` owns its chain */
};

/* One page of the checkpoint in flight. [24 bytes] */
struct place {
    data_location
        location; /* of the newest record at the seal; once PACKED: of the new one, 0: none */
    mshm_pid pid;
    uint32_t unit; /* of the frame that is to be packed; in memory at the seal only */
    uint8_t flags; /* enum place_flags */
    uint8_t class;
};
static_assert(sizeof(struct place) == 24, "24 bytes for a sealed page");

struct pages {
    struct pages_options options;
    const struct env *env;
    struct frames *frames;
    struct mshm_store_geometry geometry;
    struct blind *blind;
    struct page_state *states;
    uint32_t unit_count;
    struct page_known *known; /* pages_known.c */
    uint32_t known_places;

    mshm_timestamp *newest;     /* by pid, as above */
    mshm_timestamp newest_base; /* every page that was there at the start counts as written then */
    mshm_timestamp clock;       /* newest timestamp seen */
    struct pid_set changed;
    /* Pages in memory, not sealed, that were read in as more than one record: the next checkpoint writes them in full,
     * changed or not. Whoever reads a page once more would read all its records once more (LevelDB compacts files for
     * their seeks alike). They may leave memory before. */
    struct pid_set chained;
    uint64_t installed; /* pages read in since the last seal */
    bool hold;
    struct frames_pids held; /* freed pids that may be given out once `hold` ends */

    bool sealed;
    struct place *places; /* ascending by pid */
    uint32_t place_count;
    uint32_t published; /* places that have taken effect */
    mshm_timestamp cut;

    uint32_t hand;                /* the unit that eviction looks at next */
    uint64_t barren;              /* units looked at since a page was found that nobody had used */
    uint64_t cold_bytes;          /* clean pages that are not HOT */
    uint64_t hot_bytes;           /* clean pages that are */
    struct pages_figures figures; /* without the blind writes */
};

static inline uint32_t
pages_unit(const struct pages *pages, AO_t word)
{
    assert(mshm_map_state(word) == MSHM_MAP_RESIDENT);
    uint64_t unit = (mshm_map_frame(word) - pages->geometry.frames_offset) / MSHM_UNIT;
    assert(unit < pages->unit_count);
    return (uint32_t)unit;
}

/* The frame at a unit. */
static inline uint8_t *
pages_frame(const struct pages *pages, uint32_t unit, unsigned class)
{
    mshm_offset offset = pages->geometry.frames_offset + (mshm_offset)unit * MSHM_UNIT;
    return frames_address(pages->frames, mshm_map_word(offset, class, 0));
}

static inline AO_t
pages_word(const struct pages *pages, mshm_pid pid)
{
    return AO_load(frames_map(pages->frames, pid));
}

static inline AO_t
pages_disk_word(data_location location)
{
    return (AO_t)location << 4 | MSHM_MAP_ON_DISK;
}

static inline data_location
pages_word_location(AO_t word)
{
    return (data_location)(word >> 4);
}

/* About a millisecond; wraps after a minute. */
static inline uint16_t
pages_tick(uint64_t now_ns)
{
    return (uint16_t)(now_ns >> 20);
}

enum {
    CHANCES_LEAF = 1,
    CHANCES_INNER = 3,
};

/* --- pages.c --- */
/* Where the manifest says that the page is, given its word; 0: nowhere. */
data_location pages_durable(const struct pages *pages, mshm_pid pid, AO_t word);
/* NULL also when there is no memory: then the addresses are read from the newest record again. */
struct page_chain *chain_copy(mshm_timestamp below, const data_location *older, unsigned count);
/* MSHM_OK, MSHM_NO_MEMORY. */
int known_create(struct pages *pages); /* pages_known.c */
/* Takes a page's part out of the sums before its flags, place or class change, and puts it in again after. */
void state_leave(struct pages *pages, const struct page_state *state);
void state_enter(struct pages *pages, const struct page_state *state);
/* The page has changed since the seal, or since its record. */
void state_dirty(struct pages *pages, struct page_state *state);
/* The pid of a freed page that nothing holds any more. */
void pages_pid_release(struct pages *pages, mshm_pid pid);
/* Was the page at this unit used since the last call? The hint is any process's to write. */
bool pages_used(const struct pages *pages, uint32_t unit, struct page_state *state);

#endif
