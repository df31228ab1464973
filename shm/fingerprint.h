/* fingerprint.h - finding a one-byte fingerprint among many at once, for the searches of this room only. */
#ifndef MSHM_FINGERPRINT_H
#define MSHM_FINGERPRINT_H

#include "mshm/page.h"
#include "page_read.h"

#if defined(__SSE2__)
#include <emmintrin.h>
#elif defined(__ARM_NEON) && defined(__aarch64__)
#include <arm_neon.h>
#endif

#define FINGERPRINT_SPREAD UINT64_C(0x0101010101010101)

/* Bit 7 of every byte of `word` that equals the byte repeated in `needle`; exact, no carries between bytes. */
static inline uint64_t
fingerprint_word_matches(uint64_t word, uint64_t needle)
{
    const uint64_t low_bits = UINT64_C(0x7f7f7f7f7f7f7f7f);
    uint64_t difference = word ^ needle;
    return ~(((difference & low_bits) + low_bits) | difference | low_bits);
}

/* Gathers bit 7 of each byte into 8 adjacent bits. */
static inline uint32_t
fingerprint_gather(uint64_t matches)
{
    return (uint32_t)((matches >> 7) * UINT64_C(0x0102040810204080) >> 56);
}

/* Bit i: fingerprints[i] of a bucket equals `fingerprint`; places beyond the bucket's count included. */
static inline uint32_t
fingerprint_bucket_portable(const struct mshm_hash_bucket *bucket, uint8_t fingerprint)
{
    uint64_t needle = FINGERPRINT_SPREAD * fingerprint;
    const uint8_t *places = bucket->fingerprints;
    uint64_t last = bytes_load4(places + 16);
    return fingerprint_gather(fingerprint_word_matches(bytes_load8(places), needle)) |
           fingerprint_gather(fingerprint_word_matches(bytes_load8(places + 8), needle)) << 8 |
           (fingerprint_gather(fingerprint_word_matches(last, needle)) & 15) << 16;
}

static inline uint32_t
fingerprint_bucket(const struct mshm_hash_bucket *bucket, uint8_t fingerprint)
{
#if defined(__SSE2__)
    /* Two loads cover the counts and all places: 4 bytes of counts, 20 fingerprints, 8 bytes of slots. */
    const __m128i *halves = (const __m128i *)(const void *)bucket;
    __m128i needle = _mm_set1_epi8((char)fingerprint);
    uint32_t low = (uint32_t)_mm_movemask_epi8(_mm_cmpeq_epi8(needle, _mm_load_si128(halves)));
    uint32_t high = (uint32_t)_mm_movemask_epi8(_mm_cmpeq_epi8(needle, _mm_load_si128(halves + 1)));
    return (low >> 4 | high << 12) & ((1u << MSHM_BUCKET_SLOTS) - 1);
#elif defined(__ARM_NEON) && defined(__aarch64__)
    const uint8_t *places = bucket->fingerprints;
    static const uint8_t weights[16] = {1, 2, 4, 8, 16, 32, 64, 128, 1, 2, 4, 8, 16, 32, 64, 128};
    uint8x16_t bits =
        vandq_u8(vceqq_u8(vld1q_u8(places), vdupq_n_u8(fingerprint)), vld1q_u8(weights));
    uint64_t last = bytes_load4(places + 16);
    last = fingerprint_word_matches(last, FINGERPRINT_SPREAD * fingerprint);
    return (uint32_t)vaddv_u8(vget_low_u8(bits)) | (uint32_t)vaddv_u8(vget_high_u8(bits)) << 8 |
           (fingerprint_gather(last) & 15) << 16;
#else
    return fingerprint_bucket_portable(bucket, fingerprint);
#endif
}

#endif
