/* mshm/page.h - what a page looks like in its frame: leaf, history page, inner page, entry.
 *
 * Built and appended to by the broker, searched by everybody. A frame's bytes are immutable once the page map (or a
 * leaf's history word) leads to it, except for a leaf's tail: entries are written into free space and then published
 * by a store-release of tail_count. A frame may be recycled under a reader that was revoked: then it reads arbitrary
 * bytes, so every search clamps each offset and length to the frame's class (known from the page-map word, never from
 * the frame) and reports MSHM_CORRUPT; the caller looks at `revoked` before it believes that.
 *
 * Leaf, in a frame of 4 KiB to 64 KiB (offsets in units of 4 bytes, so that 16 bits reach everywhere):
 *
 *  0      64               128           256                                                          frame size
 *  +------+----------------+-------------+---------+-------+-------+--------+--------+---------+--------------+
 *  |header|tail            |tail         |hash     |heads  |slots  |prefix, |base    |heap     | free         |
 *  |      |fingerprints 64B|slots u16[64]|buckets  |u32[n] |u16[n] |fences  |entries |of tail  |              |
 *  +------+----------------+-------------+---------+-------+-------+--------+--------+---------+--------------+
 *                                         64 B each          immutable                ^ base_end
 *
 *  base: n distinct keys, stripped of their common prefix. slots[i] leads to the newest version of key i in order (the
 *  entries themselves stand in any order, without gaps: small ones near the place that their hash asks for); its
 *  older versions follow it directly in memory, newest first, without the key, each announced by
 *  MSHM_ENTRY_MORE in the one before. heads[i] is the big-endian number of the first 4 bytes of the stripped key,
 *  padded with zeros. A hash bucket holds one fingerprint and slot offset per key.
 *  tail: up to 64 entries with whole keys, oldest first, timestamps not descending, all newer than the base's of the
 *  same key. Fingerprint i is byte i % 8 of tail_fingerprints[i / 8].
 *  The slot behind the last counted one is the broker's note where the next entry goes.
 *  Fences: low <= every key < high. An empty low fence is minus infinity; high is plus infinity when high_size is
 *  MSHM_FENCE_INFINITE.
 *
 * History page: a leaf frame without tail and hash buckets (its heads follow the header at once) that holds old
 * versions only (kind HISTORY); its `history` word leads to the next, older one.
 */
#ifndef MSHM_PAGE_H
#define MSHM_PAGE_H

#include "mshm/base.h"
#include "mshm/store.h"

enum { MSHM_PAGE_MAGIC = 0x4d50 };
enum mshm_page_kind { MSHM_PAGE_LEAF = 1, MSHM_PAGE_INNER = 2, MSHM_PAGE_HISTORY = 3 };
enum {
    MSHM_TAIL_CAPACITY = 64,
    MSHM_BUCKET_SLOTS = 20,
    MSHM_FENCE_INFINITE = 0xffff,
};

/* struct mshm_page - header of every page's frame.                          [layout 1: 64 bytes, one line]
 *
 *  tail_count  broker: store-release after entry, slot and fingerprint; readers: load-acquire before any of them
 *  history     broker: store-release (a page-map word; 0 = none); readers: load-acquire. The frames it leads to are
 *              retired no earlier than this frame, so a bracket that may use this frame may use them.
 *  the rest    broker, before the frame is published; immutable
 *  Death of the broker: the page stays as it is; a half-written tail entry is not counted.
 */
struct mshm_page {
    uint16_t magic;
    uint8_t kind;
    uint8_t level; /* 0 = leaf and history */
    uint32_t bucket;
    uint32_t pid;
    uint32_t right;       /* right sibling, 0 = none */
    AO_t tail_count;      /* leaf */
    AO_t history;         /* leaf, history page */
    uint16_t key_count;   /* leaf: distinct keys of the base; inner: separators (children - 1) */
    uint16_t hash_count;  /* leaf: hash buckets, at offset 256 */
    uint16_t prefix_at;   /* offsets in units of 4 bytes from here on */
    uint16_t prefix_size; /* bytes */
    uint16_t low_at;
    uint16_t low_size;
    uint16_t high_at;
    uint16_t high_size;
    uint16_t heads_at;
    uint16_t slots_at;
    uint16_t base_end;    /* end of the immutable part: a leaf's heap of tail entries begins here */
    uint16_t children_at; /* inner; leaf: bits 8-23 of its hint (mshm/leaf.h) */
    uint64_t prefix_head; /* first 8 bytes of the prefix, zero-padded: saves a get a line */
};
static_assert(sizeof(struct mshm_page) == 64, "a page's header is one line");
static_assert(offsetof(struct mshm_page, key_count) == 32, "the counts are one word");
static_assert(offsetof(struct mshm_page, low_at) == 40, "the fences' places are one word");
static_assert(offsetof(struct mshm_page, heads_at) == 48, "the arrays' places are one word");
static_assert(offsetof(struct mshm_page, tail_count) == 16, "tail_count stands at 16");

/* The fixed front of a leaf's frame. Each fingerprint word is stored and loaded whole (AO_store, AO_load) and masked by
 * the tail_count that was loaded (acquire) before it. */
struct mshm_leaf {
    struct mshm_page page;
    AO_t tail_fingerprints[8];
    uint16_t tail_slots
        [MSHM_TAIL_CAPACITY]; /* offsets in units of 4 bytes; each written before it is counted */
};
static_assert(sizeof(struct mshm_leaf) == 256, "hash buckets start at 256");

/* One hash bucket: one line. A bucket with `overflow` set has lost keys: a miss in it falls back to binary search. */
struct mshm_hash_bucket {
    uint8_t count;
    uint8_t overflow;
    uint8_t reserved[2];
    uint8_t fingerprints[MSHM_BUCKET_SLOTS];
    uint16_t
        slots[MSHM_BUCKET_SLOTS]; /* offsets of the key's newest base entry, units of 4 bytes */
};
static_assert(sizeof(struct mshm_hash_bucket) == 64, "a hash bucket is one line");

enum mshm_entry_kind {
    MSHM_ENTRY_VALUE = 1,
    MSHM_ENTRY_TOMBSTONE = 2,
    MSHM_ENTRY_BLOB = 3,  /* the value is a reference into a blob file */
    MSHM_ENTRY_MERGE = 4, /* an operand */
};
enum {
    MSHM_ENTRY_MORE = 1
}; /* flags: an older version of the same key follows directly (base only) */

/* One version in a leaf; 4-aligned; key bytes (base: stripped; older versions of a base key: none), value bytes and
 * padding to 4 follow. The timestamp is split so that the header needs no 8-byte alignment. [16 bytes] */
struct mshm_entry {
    uint32_t timestamp_low;
    uint32_t timestamp_high;
    uint16_t key_size;
    uint16_t value_size;
    uint8_t kind;
    uint8_t flags;
    uint16_t reserved;
};
static_assert(sizeof(struct mshm_entry) == 16, "an entry's header is 16 bytes");

static inline mshm_timestamp
mshm_entry_timestamp(const struct mshm_entry *entry)
{
    return (mshm_timestamp)entry->timestamp_high << 32 | entry->timestamp_low;
}
static inline uint32_t
mshm_entry_size(uint32_t key_size, uint32_t value_size)
{
    return (uint32_t)mshm_align_up(sizeof(struct mshm_entry) + key_size + value_size, 4);
}

/* Fast hash of a whole key; the same in every process of a layout version. Bucket index: (hash >> 32) * n >> 32;
 * fingerprint: the low byte. */
uint64_t mshm_key_hash(const void *key, size_t size);

/* memcmp order of two byte strings, the shorter first when one is a prefix of the other: <0, 0, >0. */
int mshm_key_compare(const void *a, size_t a_size, const void *b, size_t b_size);

/* Shortest separator s with left < s <= right, for left < right: writes it to `out` (room for right_size bytes) and
 * returns its size (Bayer & Unterauer, "Prefix B-trees", 1977). */
size_t mshm_key_separator(const void *left, size_t left_size, const void *right, size_t right_size,
                          void *out);

#endif
