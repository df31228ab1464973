/* manifest_format.h - CURRENT and MANIFEST-n on disk. Little-endian.
 *
 * CURRENT: the name of the manifest in force and the CRC32C of that name in hexadecimal, "MANIFEST-<n> <8 digits>\n",
 * nothing else; replaced by rename. With the checksum a flipped bit cannot lead to another manifest that lies about.
 *
 * MANIFEST-n: sectors of 512 bytes.
 *
 *   header | SNAPSHOT | ... | SNAPSHOT, last | mark area | EDIT | mark area | EDIT | mark area
 *   1        \---- one snapshot, in parts ---/   2 sectors                             of the newest record
 *
 * A record is struct manifest_record and its payload, padded with zeros to whole sectors:
 *
 *   pages (12 bytes each) | to 8 | files (24 bytes each) | catalogue | to 8 | outcomes | to 8 | strays | to 512
 *
 * The snapshot's parts count together or not at all: it is synced before CURRENT names it. An edit counts once it was
 * synced; then, as a proof of that, the mark of the record is written behind it, without a sync, at the end of an area
 * of its own, so that no sector, and no 512 bytes anywhere, hold bytes of both. Each edit is written together with the
 * mark area before it, which holds the same bytes once more. A record is followed either by the mark area or by another
 * part of the snapshot, never by anything else that counts.
 *
 * Checksums start from that of {database id, number of the manifest, offset of the record or mark}: what was written
 * for another place, another manifest or another database is bad.
 */
#ifndef MANIFEST_FORMAT_H
#define MANIFEST_FORMAT_H

#include <assert.h>
#include <stddef.h>
#include <stdint.h>

#define MANIFEST_MAGIC UINT64_C(0x313066696e616d4d) /* "Mmanif01" */

enum {
    MANIFEST_VERSION = 4,
    MANIFEST_CURRENT_MAX = 64,
    MANIFEST_SECTOR = 512,      /* bytes: records begin at multiples of it */
    MANIFEST_RECORDS_AT = 512,  /* bytes: offset of the first record */
    MANIFEST_MARK_AREA = 1024,  /* bytes from the end of a record to the edit that follows it */
    MANIFEST_MARK_AT = 992,     /* bytes: the mark's place in its area */
    MANIFEST_PART_PAGES = 65536 /* pages in one part of a snapshot, at most */
};

/* [version 3: 64 bytes] Magic, version and crc stand here in every version, so that another version can be named. */
struct manifest_header {
    uint64_t magic;
    uint32_t version;
    uint32_t crc;    /* CRC32C of the 64 bytes with this field zero */
    uint64_t number; /* n of the file's name */
    uint8_t database_id[16];
    uint64_t reserved[3]; /* 0 */
};
static_assert(sizeof(struct manifest_header) == 64, "a manifest's header is 64 bytes");
static_assert(offsetof(struct manifest_header, crc) == 12, "the same in every version");

#define MANIFEST_RECORD_MAGIC UINT32_C(0x3352464d) /* "MFR3" */
#define MANIFEST_MARK_MAGIC UINT32_C(0x334b464d)   /* "MFK3" */

enum manifest_kind { MANIFEST_SNAPSHOT = 1, MANIFEST_EDIT = 2 };
enum manifest_flags {
    MANIFEST_MORE = 1,      /* another part of the snapshot follows */
    MANIFEST_CATALOGUE = 2, /* a catalogue is in the payload (without: as before) */
    MANIFEST_OUTCOMES = 4,  /* the same for the outcomes */
    MANIFEST_STRAYS = 8     /* the same for the strays */
};

/* [version 3: 128 bytes]
 * header_crc covers the bytes from payload_crc to the end of this struct, payload_crc all that follows up to `size`. A
 * header can so be told to be one without reading what follows it. */
struct manifest_record {
    uint32_t magic;
    uint32_t header_crc;
    uint32_t payload_crc;
    uint32_t
        previous_crc; /* header_crc of the record before; of the first one the crc of the file's header */
    uint64_t sequence; /* that of the record before, plus 1 */
    uint64_t size;     /* bytes, header and padding included: a multiple of MANIFEST_SECTOR */
    uint32_t kind, flags;
    uint64_t page_count;
    uint32_t file_count;
    uint32_t reserved32;                    /* 0 */
    uint64_t catalogue_size, outcomes_size; /* bytes */
    uint64_t incarnation, first_segment;
    uint64_t cut_timestamp;
    uint32_t cut_chain;
    uint32_t cut_reserved; /* 0 */
    uint64_t cut_segment, cut_offset;
    uint64_t strays_size; /* bytes */
};
static_assert(sizeof(struct manifest_record) == 128, "a record's header is 128 bytes");
static_assert(offsetof(struct manifest_record, payload_crc) == 8, "where header_crc begins");

/* [version 3: 12 bytes] location 0: the page is no more. */
struct manifest_page_image {
    uint32_t pid;
    uint32_t location_low, location_high;
};
static_assert(sizeof(struct manifest_page_image) == 12, "a page takes 12 bytes");

/* [version 3: 24 bytes] total 0: the file is no more. */
struct manifest_file_image {
    uint32_t number;
    uint32_t reserved; /* 0 */
    uint64_t total, live;
};
static_assert(sizeof(struct manifest_file_image) == 24, "a file takes 24 bytes");

/* [version 3: 32 bytes] The record with this sequence was synced. */
struct manifest_mark {
    uint32_t magic;
    uint32_t crc; /* of the bytes that follow */
    uint64_t sequence;
    uint32_t record_crc; /* header_crc of that record */
    uint32_t reserved32; /* 0 */
    uint64_t reserved64; /* 0 */
};
static_assert(sizeof(struct manifest_mark) == 32, "a mark is 32 bytes");
static_assert(MANIFEST_MARK_AT + sizeof(struct manifest_mark) == MANIFEST_MARK_AREA,
              "the mark ends its area");
static_assert(MANIFEST_MARK_AT >= MANIFEST_SECTOR,
              "no 512 bytes hold a mark and a part of its record");

#endif
