/* stray_format.h - writes that a checkpoint could not put into their pages' records, as the manifest keeps them (strays.h).
 * Little-endian.
 *
 *   struct stray_header | for each page: struct stray_page | its writes, oldest first: struct stray_write, key, value, to 8
 *
 * A table without pages has no bytes at all.
 */
#ifndef STRAY_FORMAT_H
#define STRAY_FORMAT_H

#include <assert.h>
#include <stdint.h>

#define STRAY_MAGIC UINT64_C(0x313079617274734d) /* "Mstray01" */
enum { STRAY_VERSION = 1 };

/* [version 1: 16 bytes] */
struct stray_header {
    uint64_t magic;
    uint32_t version;
    uint32_t count; /* pages that follow */
};
static_assert(sizeof(struct stray_header) == 16, "the head of a table of strays is 16 bytes");

/* [version 1: 16 bytes] */
struct stray_page {
    uint32_t pid;
    uint32_t count; /* writes */
    uint64_t size;  /* bytes of the writes that follow */
};
static_assert(sizeof(struct stray_page) == 16, "a page's image is 16 bytes");

/* [version 1: 16 bytes] */
struct stray_write {
    uint64_t timestamp;
    uint32_t value_size;
    uint16_t key_size;
    uint8_t kind;     /* enum mshm_entry_kind */
    uint8_t reserved; /* 0 */
};
static_assert(sizeof(struct stray_write) == 16, "a write's front is 16 bytes");

#endif
