/* crc.c - CRC32C through ISA-L, whose function takes and returns the register without the inversions of the standard
 * and counts bytes in an int. */
#include "crc.h"

#include <isa-l/crc.h>

uint32_t
crc_extend(uint32_t crc, const void *bytes, size_t size)
{
    enum { PIECE = 1 << 30 };
    unsigned char *at =
        (unsigned char *)(uintptr_t)bytes; /* read only; the prototype has no const */
    uint32_t state = ~crc;
    while (size > 0) {
        size_t piece = size < PIECE ? size : PIECE;
        state = crc32_iscsi(at, (int)piece, state);
        at += piece;
        size -= piece;
    }
    return ~state;
}
