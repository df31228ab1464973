/* mshm/base.h - the words and numbers that both sides of the shared memory use.
 *
 * Every word that two processes touch is an AO_t (64 bits; 64-bit little-endian hosts only) or, where the kernel's
 * futex needs 32 bits, an unsigned int by the AO_int_ forms of libatomic_ops. Nothing else is shared and mutable;
 * bytes behind a release/acquire pair are immutable and may be read with plain loads.
 */
#ifndef MSHM_BASE_H
#define MSHM_BASE_H

#include <assert.h>
#include <atomic_ops.h>
#include <stddef.h>
#include <stdint.h>

static_assert(sizeof(AO_t) == 8, "Mace needs a 64-bit host: a shared word is 64 bits");
static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "segments and files are little-endian");

typedef uint32_t mshm_pid;       /* logical page number; 0 = none */
typedef uint64_t mshm_offset;    /* bytes from the start of a segment */
typedef uint64_t mshm_timestamp; /* commit timestamp: 1, 2, 3...; 0 = none */

/* The table of limits. */
enum {
    MSHM_LINE = 64,             /* bytes in a cache line */
    MSHM_MAX_SESSIONS = 256,    /* attached at once */
    MSHM_MAX_LANES = 128,       /* open transactions of one session */
    MSHM_MAX_BUCKETS = 1024,    /* that exist at once */
    MSHM_MAX_KEY = 4096,        /* bytes */
    MSHM_MAX_INLINE = 8192,     /* bytes of a value that may stand in a leaf */
    MSHM_MAX_BUCKET_NAME = 255, /* bytes */
    MSHM_RING_CAPACITY = 1024,  /* requests of one session in flight; a power of two */
    MSHM_MAX_PAGE_IN = 256,     /* pages in one request to read them in */
    MSHM_MAX_HOPS = 64,         /* pages one descent may visit */
    MSHM_UNIT = 4096,           /* bytes: the smallest frame, and the unit of frame offsets */
    MSHM_CLASSES = 5,           /* frame sizes 4 KiB << class: 4, 8, 16, 32, 64 KiB */
    MSHM_MAX_FRAME = 65536,     /* bytes */
};
#define MSHM_MAX_PIDS (UINT64_C(1) << 28)
#define MSHM_MAX_VALUE (UINT64_C(1) << 30)     /* bytes */
#define MSHM_ARENA_INITIAL (UINT64_C(4) << 20) /* bytes at attach */
#define MSHM_ARENA_MAX (UINT64_C(64) << 20)    /* bytes after growing */

/* Pairs with another mshm_full_fence (or a full fence inside a read-modify-write) of the other side: orders every
 * earlier load and store before every later one. A locked read-modify-write on a private word is a full fence on
 * x86-64 and cheaper than the mfence of AO_nop_full there; it adds 1, because clang turns the addition of 0 into mfence. */
static inline void
mshm_full_fence(void)
{
#if defined(__x86_64__)
    AO_t private_word = 0;
    (void)AO_fetch_and_add1_full(&private_word);
#else
    AO_nop_full();
#endif
}

/* Orders earlier loads (of page bytes) before later loads (of `revoked` or an expiry mark). A load-acquire alone
 * would order only what comes after it. */
static inline void
mshm_read_fence(void)
{
    AO_nop_read();
}

/* Tells the processor that a loop is waiting for another one's store. */
static inline void
mshm_pause(void)
{
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ __volatile__("yield");
#endif
}

static inline uint64_t
mshm_align_up(uint64_t value, uint64_t alignment)
{
    return (value + alignment - 1) & ~(alignment - 1);
}

#endif
