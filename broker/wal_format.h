/* wal_format.h - the log on disk (DESIGN 9). Little-endian.
 *
 * File wal/NNNNNNNNNNNNNNNN.log (segment number in hexadecimal), preallocated and zeroed to segment_size:
 *   struct wal_segment_header, padded with zeros to WAL_RECORDS_AT | records, each a multiple of 16 bytes | zeros
 * A position in the log is segment number and offset; records never cross segments.
 */
#ifndef WAL_FORMAT_H
#define WAL_FORMAT_H

#include <assert.h>
#include <stdint.h>

#define WAL_SEGMENT_MAGIC UINT64_C(0x31306c61776d6d00) /* "\0mmwal01" */
#define WAL_RECORD_MAGIC UINT32_C(0x4352574d)          /* "MWRC" */
enum { WAL_VERSION = 1, WAL_RECORDS_AT = 4096, WAL_ALIGNMENT = 16 };

/* [version 1: 128 bytes] One per segment, written and synced before the first record. */
struct wal_segment_header {
    uint64_t magic;
    uint32_t version;
    uint32_t crc; /* CRC32C of the 128 bytes with this field zero */
    uint8_t database_id[16];
    uint64_t segment;             /* its number, counted from 1 */
    uint64_t incarnation;         /* that wrote it */
    uint64_t salt;                /* random: seeds the records' checksums, known to no client */
    uint64_t segment_size;        /* bytes */
    uint64_t continues_timestamp; /* newest commit before this segment */
    uint32_t continues_crc; /* checksum of the record before the first one here (the chain value) */
    uint32_t
        first_of_incarnation; /* 1: opened by a new incarnation; what stands behind the record it continues is dead */
    uint64_t continues_segment; /* where that record ended */
    uint64_t continues_offset;
    uint64_t reserved[4];
};
static_assert(sizeof(struct wal_segment_header) == 128, "a segment's header is 128 bytes");

/* [version 1: 48 bytes] One per commit, followed by its operations (mshm/ops.h), padded with zeros to 16 bytes.
 * crc covers the record from `previous_crc` to the end of the padding, seeded with salt, segment, incarnation, offset.
 * A mark-only record (op_count 0, flag MARK) repeats the timestamp of the commit before it. */
struct wal_record {
    uint32_t magic;
    uint32_t crc;
    uint32_t previous_crc;    /* crc of the predecessor: the chain */
    uint32_t size;            /* bytes, header and padding included; a multiple of 16 */
    uint64_t timestamp;       /* the predecessor's + 1 */
    uint32_t durable_segment; /* durable mark: everything before this position was known durable */
    uint32_t durable_offset;
    uint64_t sequence; /* of the request; 0 for the broker's own commits */
    uint32_t session;  /* number of the session within the incarnation; 0 for the broker's own */
    uint32_t op_count_flags; /* bits 0-29 operations, bit 30 SYNC level, bit 31 mark-only */
};
static_assert(sizeof(struct wal_record) == 48, "a record's header is 48 bytes");
#define WAL_OP_COUNT_MASK 0x3fffffffu
#define WAL_FLAG_SYNC 0x40000000u
#define WAL_FLAG_MARK 0x80000000u

#endif
