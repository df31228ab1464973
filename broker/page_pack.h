/* page_pack.h - pages between their frames and their records (page_format.h): pure functions on immutable bytes, so
 * jobs run them.
 *
 *   frame --------.                                   .--> record      page_pack
 *                 +--> versions, merged and pruned ---+
 *   records ------+                                   '--> frame       page_content_load, page_content_build
 *   blind writes -'
 */
#ifndef PAGE_PACK_H
#define PAGE_PACK_H

#include "mshm/inner.h"
#include "mshm/leaf.h"
#include "mshm/status.h"
#include "page_format.h"

/* What a record's checksum starts from. */
struct page_place {
    uint8_t database_id[16];
    uint32_t file;
    uint64_t offset; /* bytes */
};

/* Which old versions are kept: a copy of the list in snapshots.h, immutable while jobs use it. */
struct page_keep {
    mshm_timestamp horizon;
    uint32_t count;
    const mshm_timestamp *snapshots; /* ascending */
};

/* The checksum of a record of `size` bytes that belongs to that place, from its field `size` on. */
uint32_t page_record_crc(const struct page_place *place, const void *record, uint32_t size);

/* One write to a leaf that is not in memory (blind.h). */
struct blind_entry {
    /* From here to the write before it to the same page, 0: none. Entries stand in frames that clients can read, who need
     * not know where in its memory the broker has them. */
    int64_t older_distance;
    mshm_timestamp timestamp;
    uint32_t value_size;
    uint16_t key_size;
    uint8_t kind; /* enum mshm_entry_kind */
    uint8_t reserved;
    uint8_t bytes[]; /* key, value */
};
static inline const struct blind_entry *
blind_entry_older(const struct blind_entry *entry)
{
    return entry->older_distance == 0
               ? NULL
               : (const struct blind_entry *)((uintptr_t)entry + (uintptr_t)entry->older_distance);
}
static inline int64_t
blind_entry_distance(const struct blind_entry *entry, const struct blind_entry *older)
{
    return older == NULL ? 0 : (int64_t)((uintptr_t)older - (uintptr_t)entry);
}

/* What is known of a leaf's newest record without reading it. [48 bytes] */
struct page_known {
    data_location location;              /* of the record; 0: nothing is known */
    data_location older[DATA_CHAIN_MAX]; /* those below it, newest first */
    uint64_t birth;
    mshm_timestamp cut;
    uint32_t bucket;
    uint8_t frame_class;
};

/* A page to be packed as of `cut`. */
struct page_source {
    mshm_pid pid;
    uint32_t bucket; /* this and birth: in memory, else the record says it */
    uint64_t birth;
    mshm_timestamp cut;
    mshm_timestamp since; /* cut of the record at `location`: entries above it are new; in memory */
    /* In memory: the frame, and how many of its tail's entries count (none of them is newer than the cut). */
    const uint8_t *frame; /* NULL: the page is not in memory */
    uint32_t frame_size;
    uint32_t tail_count;
    const struct blind_entry *blind; /* not in memory: its writes, newest first, all <= cut */
    bool full;                       /* a delta would not do: write a full record */
    data_location location; /* of its newest record, 0: it has none (then a full one is written) */
    /* The records below that one, newest first, data_location_older(location) of them. Not in memory: NULL, the packer
     * reads them from the newest record's head. */
    const data_location *older;
    mshm_timestamp below; /* cut of the first of those; 0: not known */
    /* Not in memory: a delta that does not take up the one below it is written without reading anything. */
    struct page_known known;
    uint8_t
        compression; /* PAGE_ZSTD, else none; a page not in memory stays as its full record is */
};

/* A record cannot be read now, or never: what page_pack says of a page that is not in memory. In memory a page needs none. */
static inline bool
page_is_lost(int status)
{
    return status == MSHM_IO || status == MSHM_CORRUPT || status == MSHM_VERSION;
}

/* Reads bytes of a record: 0 or a negative MSHM_ code. For pages that are not in memory. Any thread. */
typedef int page_read(void *argument, data_location location, uint32_t offset, void *to,
                      uint32_t size);

struct page_packed {
    data_location location; /* its chain says whether it is full */
    uint32_t size; /* bytes, 0: nothing to write, the page's newest record is still right */
    /* What is garbage once the new record counts: all records of the former chain when the new one is full, the newest
     * one when its versions are in the new delta. */
    data_location dead[DATA_CHAIN_MAX + 1];
    uint32_t dead_count;
    uint32_t
        lost; /* records that are garbage, too, but that nobody can name: they stay counted as in use */
    /* The records below the new one, newest first. */
    data_location older[DATA_CHAIN_MAX];
    uint32_t older_count;
    struct page_known known; /* of a leaf's new record */
};

/* Writes the record of a page to `to` (for the place that `place` names). It is a delta when that is allowed
 * (source->full not set, there is a record and room in its chain, DATA_DELTA_*, and a leaf), and, for a page in
 * memory, when it is smaller than half of a full one; a page not in memory whose chain is full is read, merged and
 * written as a full one. A delta takes up the newest one below it while both are small: so a chain of few records holds
 * many flushes, and each version is written a few times instead of each page once for every few of them (the tiers of
 * O'Neil et al., "The log-structured merge-tree", 1996, within one page). Versions that `keep` does not need are left out; the newest version of a key always stays, a
 * tombstone only while somebody needs it, or while what it hides may stand elsewhere: in a delta, in a page with
 * history or not in memory. MSHM_OK; MSHM_FULL: `capacity` is too small (at least PAGE_PACK_MAX always suffices);
 * MSHM_NO_MEMORY; MSHM_CORRUPT: the frame, or a record that is needed, is damaged; or what `read` returned. A page in
 * memory needs no record: when those of a chain cannot be named it becomes a full one, and only the newest is in
 * `dead`; the others stay counted as in use. */
enum { PAGE_PACK_MAX = 128 * 1024 };
/* Before: what it will likely read. */
enum page_reads {
    PAGE_READS_NOTHING,
    PAGE_READS_NEWEST, /* the newest record; never a part of it, which no checksum covers */
    PAGE_READS_CHAIN,  /* and those below it */
};
enum page_reads page_pack_reads(const struct page_source *source);
int page_pack(const struct page_source *source, const struct page_keep *keep,
              const struct page_place *place, page_read *read, void *read_argument, uint8_t *to,
              uint32_t capacity, struct page_packed *packed);

/* Checks a record image of `size` bytes read from `location` (its checksum, sizes, pid, that its chain fits the
 * location): MSHM_OK, MSHM_CORRUPT and *why, MSHM_VERSION. Hostile input. */
int page_record_check(const void *bytes, uint64_t size, data_location location,
                      const uint8_t database_id[16], mshm_pid pid, const char **why);
/* The addresses in a checked record: data_location_older(location) of them, newest first. */
void page_record_older(const void *bytes, data_location *older);

/* A page taken apart, ready to be laid out in a frame. Points into the records and blind writes that it was loaded
 * from, which must stay in place, and into its own memory, which the next load uses again. */
struct page_content;
int page_content_create(struct page_content **content); /* MSHM_OK, MSHM_NO_MEMORY */
void page_content_destroy(struct page_content *content);

/* Takes apart the records of one page: record[0] the newest one, then those that it names in its order; each was
 * checked. `blind` lists: writes that may not be on disk, each newest first, the newer list first (NULL: none); what
 * is not newer than the newest record's cut is passed over. Old versions that nobody needs are dropped when `keep` is
 * not NULL. MSHM_OK, MSHM_CORRUPT with *why (births differ, order broken, sizes that do not fit), MSHM_NO_MEMORY. */
int page_content_load(struct page_content *content, const void *const *records, unsigned count,
                      const struct blind_entry *const *blind, unsigned blind_count,
                      const struct page_keep *keep, const char **why);

/* What it is. Valid until the next load. */
struct page_facts {
    mshm_pid pid;
    uint32_t bucket; /* this and birth: in memory, else the record says it */
    uint64_t birth;
    mshm_timestamp cut;
    mshm_timestamp newest; /* of its versions; 0: none */
    uint8_t kind;          /* enum mshm_page_kind: LEAF or INNER */
    uint8_t level;
    uint8_t frame_class;    /* that it had */
    uint32_t version_count; /* leaf */
};
void page_content_facts(const struct page_content *content, struct page_facts *facts);
/* The leaf's versions in order, or the inner page's specification. */
const struct mshm_leaf_spec *page_content_leaf(const struct page_content *content);
const struct mshm_inner_spec *page_content_inner(const struct page_content *content);
/* Bytes that the frame must have at least (without room for a tail), UINT32_MAX: no frame holds it. */
uint32_t page_content_size(const struct page_content *content);
/* Lays it out. history: the leaf's history word, or 0. MSHM_OK, MSHM_FULL. */
int page_content_build(struct page_content *content, void *frame, uint32_t frame_size,
                       AO_t history);

#endif
