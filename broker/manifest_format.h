/* manifest_format.h - CURRENT and MANIFEST-n on disk. Little-endian.
 *
 * CURRENT: the name of the manifest in force, "MANIFEST-<number in decimal>\n", nothing else; replaced by rename.
 * MANIFEST-n: one struct manifest_image.
 */
#ifndef MANIFEST_FORMAT_H
#define MANIFEST_FORMAT_H

#include <assert.h>
#include <stdint.h>

#define MANIFEST_MAGIC UINT64_C(0x313066696e616d4d) /* "Mmanif01" */
enum { MANIFEST_VERSION = 1, MANIFEST_CURRENT_MAX = 64 };

/* [version 1: 64 bytes] */
struct manifest_image {
    uint64_t magic;
    uint32_t version;
    uint32_t crc;    /* CRC32C of the 64 bytes with this field zero */
    uint64_t number; /* n of the file's name */
    uint8_t database_id[16];
    uint64_t incarnation;
    uint64_t first_segment; /* 0: the log has not been started */
    uint64_t reserved;      /* 0 */
};
static_assert(sizeof(struct manifest_image) == 64, "a manifest is 64 bytes");

#endif
