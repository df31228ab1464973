/* crc.h - CRC32C (Castagnoli), the checksum of everything on disk; ISA-L picks the instructions of this CPU at run time.
 */
#ifndef CRC_H
#define CRC_H

#include <stddef.h>
#include <stdint.h>

/* Continues `crc` (0 to start) over more bytes: crc_extend(0, "123456789", 9) is 0xe3069283. Any thread. */
uint32_t crc_extend(uint32_t crc, const void *bytes, size_t size);

#endif
