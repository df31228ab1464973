/* mshm/store.h - layout of the store segment: header, catalogue, page map, counters, frames.
 *
 * Created, sized once (virtual, sparse) and written by the broker alone; clients map it read-only and hold a
 * descriptor that is sealed against every further write (F_SEAL_FUTURE_WRITE|SHRINK|GROW|SEAL). One incarnation of
 * the broker makes one store; a restart makes a new one.
 *
 *   0        +---------------------------+
 *            | header (one 4 KiB page)   |
 *   4096     | broker counters           |  struct mshm_counters (mshm/counters.h)
 *            | catalogue[1024]           |  64 bytes each
 *            | page map[map_capacity]    |  one AO_t per pid, backed piece by piece
 *   2 MiB *n | frames[frames_size]       |  4 to 64 KiB each, naturally aligned, backed piece by piece
 *            | padding (64 KiB)          |  so that a torn offset in a recycled frame stays inside the mapping
 *            +---------------------------+
 */
#ifndef MSHM_STORE_H
#define MSHM_STORE_H

#include "mshm/base.h"

#define MSHM_STORE_MAGIC UINT64_C(0x31306563616d534d) /* "MSmace01" */
enum { MSHM_LAYOUT_VERSION = 1 };

/* Values of store.liveness. The kernel stores FUTEX_OWNER_DIED (bit 30) when the loop thread dies, because the word is
 * the pending entry of that thread's robust list; the orderly ends set the same bit, so one test serves all. */
#define MSHM_LIVENESS_GONE_BIT 0x40000000u /* FUTEX_OWNER_DIED: whoever sees it attaches again */
#define MSHM_LIVENESS_STARTING 0u          /* recovering, not yet serving */
#define MSHM_LIVENESS_STOPPED (MSHM_LIVENESS_GONE_BIT | 1u)
#define MSHM_LIVENESS_POISONED (MSHM_LIVENESS_GONE_BIT | 2u)

/* struct mshm_store - header of the store segment.                        [layout 1: 4096 bytes]
 *
 *  field              written by          read by             order                          pairs with
 *  magic..broker_pid  broker, before the  clients, at attach  plain                          the descriptor's passing
 *                     first descriptor goes out
 *  visible            broker loop         clients, begin and  store-release after the        load-acquire
 *                                         one-call gets       commit's entries are appended
 *  epoch              broker loop         read brackets       store-release                  load-acquire
 *  revoked            broker loop         end of brackets     store-release, full fence      read fence, then load
 *                                                             before frames are reused
 *  horizon            broker loop         snapshot register   store, full fence, then lanes  lane store, full fence
 *  liveness           broker loop, kernel clients, everywhere  AO_int load-acquire           -
 *
 *  Death of the broker at any point: all words stay as they are, the kernel sets the bit in `liveness`; readers inside
 *  a transaction may finish on this mapping, nobody writes it any more.
 *  visible: the newest commit that readers may use; never 0 once the first session is served.
 *  epoch: starts at 1 and only grows. revoked: only grows, always < epoch. horizon: only grows, <= visible.
 */
struct mshm_store {
    uint64_t magic;
    uint32_t version;     /* MSHM_LAYOUT_VERSION */
    uint32_t layout_hash; /* mshm_layout_hash() of the broker */
    uint64_t incarnation;
    uint8_t database_id[16];
    uint64_t store_size; /* bytes, padding included */
    mshm_offset counters_offset;
    mshm_offset catalogue_offset;
    uint64_t catalogue_capacity; /* entries */
    mshm_offset map_offset;
    uint64_t map_capacity; /* pids: valid ones are 1 .. map_capacity - 1 */
    mshm_offset frames_offset;
    uint64_t frames_size; /* bytes */
    uint64_t broker_pid;  /* for people only; never an identity */
    uint64_t reserved_identity[2];

    _Alignas(MSHM_LINE) AO_t visible;
    _Alignas(MSHM_LINE) AO_t epoch;
    AO_t revoked;
    _Alignas(MSHM_LINE) AO_t horizon;
    _Alignas(MSHM_LINE) unsigned int liveness; /* futex word */
    uint8_t reserved[4096 - 128 - 3 * 64 - 4];
};
static_assert(sizeof(struct mshm_store) == 4096, "the store header is one page");
static_assert(offsetof(struct mshm_store, visible) == 128, "visible has a line of its own");
static_assert(offsetof(struct mshm_store, epoch) == 192, "epoch and revoked share a line");
static_assert(offsetof(struct mshm_store, horizon) == 256, "horizon has a line of its own");
static_assert(offsetof(struct mshm_store, liveness) == 320, "liveness has a line of its own");

/* struct mshm_catalogue_entry - one bucket, or a free place.               [layout 1: 64 bytes, one line]
 *
 *  field      written by  read by   order
 *  id         broker      clients   store-release last when an entry is filled; 0 first (release) when it is freed
 *  dropped    broker      clients   store-release before the drop's timestamp becomes visible; 0 while the bucket lives
 *  the rest   broker      clients   plain, before `id`; AO words so that a reader of a recycled entry has no data race
 *
 *  Identity is the id (never reused), not the place: a reader takes root and checks that every page it visits carries
 *  this bucket id, so an entry recycled under it can only lead to "not mine".
 */
struct mshm_catalogue_entry {
    AO_t id;           /* bucket id; 0 = free place */
    AO_t root;         /* pid of the root page: never changes while the bucket lives */
    AO_t created;      /* timestamp of the creating commit */
    AO_t dropped;      /* timestamp of the dropping commit; 0 = lives */
    AO_t inline_limit; /* bytes */
    AO_t page_size;    /* bytes: target size of a leaf */
    AO_t options;      /* bits 0-7 compression, 8-15 backpressure, 16-31 merge operator */
    AO_t reserved;
};
static_assert(sizeof(struct mshm_catalogue_entry) == 64, "one line per bucket");

/* A page-map word: where a page is now. Also the form of a leaf's `history` link.
 *
 *   63                      32 31       24 23       16 15       8 7     4 3     0
 *  +--------------------------+-----------+-----------+----------+-------+-------+
 *  | frame's offset / 4096    | windows   | line      | hash     | class | state |
 *  +--------------------------+-----------+-----------+----------+-------+-------+
 *                              \------- hint: leaves only, else 0 ---/
 *
 * The hint repeats what a leaf's header says, so that a reader can fetch header, hash bucket and entry side by side
 * instead of one after the other: the number of hash buckets (0: unknown or more than 255), the line at which the base's
 * entries begin, and over how many windows they are spread (0: not known; see mshm/leaf.h). The page itself decides.
 * Written by the broker with store-release after the frame's bytes; read with load-acquire inside a bracket. */
enum mshm_map_state {
    MSHM_MAP_NONE = 0,     /* no such page */
    MSHM_MAP_RESIDENT = 1, /* in the frame named by the word */
    MSHM_MAP_ON_DISK = 2,  /* not resident; the upper bits are the broker's business */
    MSHM_MAP_MOVED = 3,    /* merged away: start again from the root */
};

static inline AO_t
mshm_map_word(mshm_offset frame, unsigned class, unsigned hint)
{
    return (AO_t)(frame / MSHM_UNIT) << 32 | (AO_t)(hint & 0xffffff) << 8 | (AO_t) class << 4 |
           MSHM_MAP_RESIDENT;
}
static inline unsigned
mshm_map_state(AO_t word)
{
    return (unsigned)(word & 15);
}
static inline unsigned
mshm_map_class(AO_t word)
{
    return (unsigned)(word >> 4 & 15);
}
static inline unsigned
mshm_map_hint(AO_t word)
{
    return (unsigned)(word >> 8 & 0xffffff);
}
static inline mshm_offset
mshm_map_frame(AO_t word)
{
    return (mshm_offset)(word >> 32) * MSHM_UNIT;
}
static inline uint32_t
mshm_class_size(unsigned class)
{
    return (uint32_t)MSHM_UNIT << class;
}

struct mshm_figures;

/* A process's view of a store: filled once at attach from a copy of the header that was checked against the size of
 * the mapping; never reads the header's offsets again. Immutable; any thread. */
struct mshm_view {
    const uint8_t *base; /* start of the mapping */
    uint64_t size;       /* bytes mapped */
    const struct mshm_store *store;
    const struct mshm_figures *figures; /* mshm/counters.h */
    const struct mshm_catalogue_entry *catalogue;
    uint64_t catalogue_capacity;
    const AO_t *map;
    uint64_t map_capacity;
    mshm_offset frames_offset;
    uint64_t frames_size;
    uint8_t *hints; /* one byte per 4 KiB of frames, or NULL; any value is correct */
    uint64_t incarnation;
};

/* Sizes and offsets of a store for `frames_size` bytes of cache (rounded up to 64 KiB) and `map_capacity` pids (at most
 * MSHM_MAX_PIDS). Pure. */
struct mshm_store_geometry {
    mshm_offset counters_offset, catalogue_offset, map_offset, frames_offset;
    uint64_t map_capacity, frames_size, store_size;
};
void mshm_store_geometry_compute(uint64_t frames_size, uint64_t map_capacity,
                                 struct mshm_store_geometry *geometry);

/* Writes a new header into zeroed memory at `base`: magic, version, hash, geometry; epoch 1, revoked 0, horizon 0,
 * visible 0, liveness STARTING. Broker, before any client. The range of header, counters and catalogue must be backed. */
void mshm_store_init(void *base, const struct mshm_store_geometry *geometry, uint64_t incarnation,
                     const uint8_t database_id[16], uint64_t broker_pid);

/* Checks the header of a mapping of `size` bytes and fills `view`. MSHM_VERSION (magic, version or layout hash differ),
 * MSHM_CORRUPT (an offset or size does not fit the mapping). `hints` may be NULL. */
int mshm_view_init(struct mshm_view *view, const void *base, uint64_t size, uint8_t *hints);

/* Hash over the sizes and offsets of every shared struct: equal hashes mean equal layouts. */
uint32_t mshm_layout_hash(void);

/* True when the broker of this store is gone (died, stopped or poisoned): attach again. */
static inline int
mshm_store_gone(const struct mshm_store *store)
{
    return (AO_int_load_acquire(&store->liveness) & MSHM_LIVENESS_GONE_BIT) != 0;
}

#endif
