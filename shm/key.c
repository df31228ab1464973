/* key.c - what the engine knows about keys as such: hash, order, separators. */
#include "page_read.h"

/* A 64 x 64 -> 128 bit product folded to 64 bits: every bit of both factors reaches every bit of the result. The idea is
 * that of wyhash (Wang Yi) and of FNV's successors; the constants are odd numbers with 32 bits set, drawn at random. */
static const uint64_t hash_key_0 = UINT64_C(0x9d37c4e2b1568fa5);
static const uint64_t hash_key_1 = UINT64_C(0xc6a95d1e73b8264d);
static const uint64_t hash_key_2 = UINT64_C(0x5be3a1947c2df689);
static const uint64_t hash_key_3 = UINT64_C(0xe1946d8b5a37c2d3);

static inline uint64_t
hash_mix(uint64_t a, uint64_t b)
{
    __extension__ unsigned __int128 product = (unsigned __int128)a * b;
    return (uint64_t)product ^ (uint64_t)(product >> 64);
}

/* All but the last 16 bytes of a longer key, in three independent lanes while it lasts, so that the multiplications of
 * one round overlap. */
static uint64_t
hash_long(const uint8_t *bytes, size_t size, const uint8_t **rest)
{
    uint64_t lane_0 = hash_key_0, lane_1 = hash_key_1, lane_2 = hash_key_2;
    while (size > 48) {
        lane_0 = hash_mix(bytes_load8(bytes) ^ hash_key_1, bytes_load8(bytes + 8) ^ lane_0);
        lane_1 = hash_mix(bytes_load8(bytes + 16) ^ hash_key_2, bytes_load8(bytes + 24) ^ lane_1);
        lane_2 = hash_mix(bytes_load8(bytes + 32) ^ hash_key_3, bytes_load8(bytes + 40) ^ lane_2);
        bytes += 48;
        size -= 48;
    }
    lane_0 ^= lane_1 ^ hash_mix(lane_2, hash_key_3);
    while (size > 16) {
        lane_0 = hash_mix(bytes_load8(bytes) ^ hash_key_1, bytes_load8(bytes + 8) ^ lane_0);
        bytes += 16;
        size -= 16;
    }
    *rest = bytes;
    return lane_0;
}

uint64_t
mshm_key_hash(const void *key, size_t size)
{
    const uint8_t *bytes = key;
    uint64_t a, b, seed = hash_key_0;
    if (size > 16) {
        const uint8_t *rest;
        seed = hash_long(bytes, size, &rest);
        /* The last 16 bytes, wherever the rounds stopped: nothing is left out, some bytes count twice. */
        a = bytes_load8(bytes + size - 16);
        b = bytes_load8(bytes + size - 8);
    } else if (size >= 8) {
        a = bytes_load8(bytes);
        b = bytes_load8(bytes + size - 8);
    } else {
        a = bytes_load_upto8(bytes, size);
        b = 0;
    }
    uint64_t folded = hash_mix(a ^ hash_key_1, b ^ seed);
    return hash_mix(folded ^ hash_key_2, (uint64_t)size ^ hash_key_3);
}

int
mshm_key_compare(const void *a, size_t a_size, const void *b, size_t b_size)
{
    return bytes_compare(a, a_size, b, b_size);
}

size_t
mshm_key_separator(const void *left, size_t left_size, const void *right, size_t right_size,
                   void *out)
{
    /* left < right: they differ at `common`, or left ends there. One byte of right beyond it is enough. */
    size_t size = (size_t)bytes_common(left, left_size, right, right_size) + 1;
    if (size > right_size)
        size = right_size;
    memcpy(out, right, size);
    return size;
}
