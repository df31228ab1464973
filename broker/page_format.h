/* page_format.h - a page on disk: its address, its record, and the head of a data file (DESIGN 9, "Pages on disk").
 * Little-endian.
 *
 * File data/NNNNNNNNNNNNNNNN.dat (number in hexadecimal): struct data_file_header, zeros up to DATA_RECORDS_AT, then
 * records one after the other, each a multiple of DATA_UNIT bytes:
 *
 *   struct page_record | address of each older record of the chain, newest first | payload as stored | zeros to 64
 *
 * A full record holds a whole page. A delta holds the entries that came in since the record that its first address
 * leads to; the last address of a chain is that of a full record. So a page is read in at most two rounds: the newest
 * record, then everything that it names (Levandoski, Sengupta, "The BW-Tree", 2013; here with all addresses in the
 * newest).
 */
#ifndef PAGE_FORMAT_H
#define PAGE_FORMAT_H

#include <assert.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Where a record is. 0 = nowhere. Also the upper 60 bits of a page-map word in state ON_DISK.
 *
 *   59        40 39       36 35            12 11          0
 *  +------------+-----------+----------------+-------------+
 *  | file       | chain     | offset / 64    | size / 64   |
 *  +------------+-----------+----------------+-------------+
 *
 * chain: how many older records belong to the page (0: this one is full), DATA_NO_DELTA: full, and too large for
 * a delta to be put on top of it. */
typedef uint64_t data_location;

enum {
    DATA_UNIT = 64,         /* bytes: alignment of records */
    DATA_RECORDS_AT = 4096, /* bytes: offset of the first record of a file */
    DATA_CHAIN_MAX = 2,     /* deltas on top of a full record */
    DATA_NO_DELTA = 15,
    /* A delta is put only on a full record whose raw payload is not larger, and whose versions cost (data_version_cost)
     * so little that DATA_CHAIN_MAX deltas and two lists of blind writes, each of at most DATA_DELTA_MAX of cost, fit
     * into the largest frame with them, even where the page's keys have no prefix in common: so every chain can be
     * laid out. */
    DATA_DELTA_BASE_MAX = 24 * 1024,
    DATA_DELTA_MAX = 3072, /* two writes of 16 + 1000 bytes */
    /* Cost up to which a delta takes up the one below it. A get reads a block of the device for each record of the chain,
     * however small it is; what is longer costs writes, what is shorter reads. */
    DATA_MERGED_MAX = 1536,
};
/* Bytes of a frame that one version takes at most: its entry's header and padding, and its key's head, slot and share
 * of the hash buckets. */
static inline uint32_t
data_version_cost(uint32_t key_size, uint32_t value_size)
{
    enum { ENTRY = 16 + 3, PLACES = 4 + 2 + 6 };
    return ENTRY + PLACES + key_size + value_size;
}

#define DATA_MAX_FILE UINT32_C(0xfffff)
#define DATA_MAX_FILE_SIZE (UINT64_C(1) << 30)

static inline data_location
data_location_make(uint32_t file, unsigned chain, uint64_t offset, uint32_t size)
{
    return (data_location)file << 40 | (data_location)chain << 36 |
           (data_location)(offset / DATA_UNIT) << 12 | size / DATA_UNIT;
}
static inline uint32_t
data_location_file(data_location location)
{
    return (uint32_t)(location >> 40) & DATA_MAX_FILE;
}
static inline unsigned
data_location_chain(data_location location)
{
    return (unsigned)(location >> 36) & 15;
}
static inline uint64_t
data_location_offset(data_location location)
{
    return (location >> 12 & 0xffffff) * DATA_UNIT;
}
static inline uint32_t
data_location_size(data_location location)
{
    return (uint32_t)(location & 0xfff) * DATA_UNIT;
}
/* Older records that belong to it. */
static inline unsigned
data_location_older(data_location location)
{
    unsigned chain = data_location_chain(location);
    return chain == DATA_NO_DELTA ? 0 : chain;
}

#define DATA_FILE_MAGIC UINT64_C(0x313074616465636d) /* "mcedat01" */
enum { DATA_VERSION = 1 };

/* [version 1: 64 bytes] Written and synced before the first record; its crc covers it with the field zero. */
struct data_file_header {
    uint64_t magic;
    uint32_t version;
    uint32_t crc;
    uint8_t database_id[16];
    uint32_t number;
    uint32_t reserved_number; /* 0 */
    uint64_t reserved[3];     /* 0 */
};
static_assert(sizeof(struct data_file_header) == 64, "a data file's header is 64 bytes");

#define PAGE_RECORD_MAGIC UINT32_C(0x3152504d) /* "MPR1" */

enum page_record_kind { PAGE_RECORD_LEAF = 1, PAGE_RECORD_INNER = 2, PAGE_RECORD_DELTA = 3 };
enum page_compression { PAGE_PLAIN = 1, PAGE_ZSTD = 2 }; /* the numbers of MACE_COMPRESS_* */
enum { PAGE_RECORD_VERSION = 1 };

/* [version 1: 72 bytes]
 * crc: CRC32C from `size` to the end of the record, started from the crc of {database_id, file number as u32, offset as
 * u64}: so a record that was written to another place, or belongs to another database, is a bad one. */
struct page_record {
    uint32_t magic;
    uint32_t crc;
    uint32_t size; /* bytes of the whole record, a multiple of DATA_UNIT */
    uint32_t pid;
    uint64_t birth; /* timestamp at which the pid was given out */
    uint64_t
        cut; /* commits <= cut that concern the page are in it, or in the records that it names */
    uint32_t bucket; /* bucket id */
    uint8_t kind;    /* enum page_record_kind */
    uint8_t level;   /* inner: >= 1 */
    uint8_t chain; /* addresses that follow: 0 for a full record, 1 .. DATA_CHAIN_MAX for a delta */
    uint8_t compression;   /* enum page_compression */
    uint32_t stored_size;  /* bytes of the payload here */
    uint32_t raw_size;     /* bytes of the payload before compression */
    uint32_t reserved_raw; /* 0 */
    uint32_t count;        /* versions (leaf, delta) or separators (inner) in the payload */
    uint8_t
        frame_class; /* class of the frame that the page had when it was packed; blind deltas: of the record below */
    uint8_t version;     /* PAGE_RECORD_VERSION */
    uint16_t reserved16; /* 0 */
    uint32_t reserved32; /* 0 */
    uint64_t reserved64; /* 0 */
};
static_assert(sizeof(struct page_record) == 72, "a page record's header is 72 bytes");
static_assert(offsetof(struct page_record, size) == 8, "the checksum covers all from `size` on");

/* A payload before compression. No padding: what stands here may begin at any byte.
 *
 *   leaf, delta | payload | low fence | high fence | prefix | versions                               |
 *   inner       | payload | low fence | high fence | prefix | children: u32 | separators: u16, bytes |
 *
 * A delta has no right sibling, fences and prefix. Keys and separators are stripped of the prefix. The versions stand
 * in the order of the keys, newest first within a key. Only where the keys have so little in common that no frame
 * could hold them all in its base, the last `tail_count` versions are apart: oldest first, whole keys, newer than the
 * others of their keys. */
struct page_payload {
    uint32_t right; /* right sibling, 0 = none */
    uint16_t low_size;
    uint16_t high_size; /* MSHM_FENCE_INFINITE: no bytes */
    uint16_t prefix_size;
    uint16_t tail_count; /* leaf: <= MSHM_TAIL_CAPACITY; else 0 */
};
static_assert(sizeof(struct page_payload) == 12, "a payload's front is 12 bytes");

/* One version; its key without the prefix and its value follow. */
struct page_version {
    uint32_t low;  /* bits 0-3 kind, 7 PAGE_SAME_KEY, 8-31 bits 0-23 of the timestamp */
    uint32_t high; /* bits 24-55 of the timestamp */
    uint16_t
        key_size; /* stripped; 0 with PAGE_SAME_KEY: a version of the same key as the one before */
    uint16_t value_size;
};
static_assert(sizeof(struct page_version) == 12, "a version's front is 12 bytes");
enum { PAGE_KIND_MASK = 0x0f, PAGE_SAME_KEY = 0x80 };
#define PAGE_TIMESTAMP_MAX ((UINT64_C(1) << 56) - 1)

#endif
