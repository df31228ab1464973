/* mshm/leaf.h - building, appending to and searching a leaf's frame (layout in mshm/page.h).
 *
 * Building and appending: the broker only. Searching: any thread of any process inside a read bracket, on a frame that
 * the broker may append to meanwhile or (after revocation) recycle: no search reads outside [frame, frame + size).
 * A frame, or a copy of one, is aligned to a line (64 bytes); hash buckets are loaded by aligned vectors.
 */
#ifndef MSHM_LEAF_H
#define MSHM_LEAF_H

#include "mshm/page.h"

/* One version on its way into or out of a page: points into other memory, owns nothing. */
struct mshm_version {
    const uint8_t *key; /* whole key */
    const uint8_t *value;
    mshm_timestamp timestamp;
    uint32_t value_size;
    uint16_t key_size;
    uint8_t kind; /* enum mshm_entry_kind */
    uint8_t reserved;
};

struct mshm_leaf_spec {
    mshm_pid pid, right;
    uint32_t bucket;
    uint8_t kind; /* MSHM_PAGE_LEAF or MSHM_PAGE_HISTORY */
    const uint8_t *low, *high;
    uint16_t low_size, high_size; /* high_size MSHM_FENCE_INFINITE: no upper bound */
    AO_t history;
    const struct mshm_version *versions; /* ascending by key, newest first within a key */
    uint32_t count;
};

/* Bytes that mshm_leaf_build needs for `spec` (without any room for a tail), or UINT32_MAX when it exceeds 64 KiB. */
uint32_t mshm_leaf_size(const struct mshm_leaf_spec *spec);

/* Lays `spec` out in the frame. MSHM_FULL when it does not fit. Broker, before the frame is published. */
int mshm_leaf_build(void *frame, uint32_t frame_size, const struct mshm_leaf_spec *spec);

/* Bytes left for tail entries, and tail places left. Broker only. */
uint32_t mshm_leaf_room(const void *frame, uint32_t frame_size);
uint32_t mshm_leaf_tail_room(const void *frame);

/* Appends a version and publishes it (store-release of tail_count). `hash` is mshm_key_hash of the key. MSHM_FULL when
 * tail or heap has no room (nothing changed). Broker only; readers may be looking. */
int mshm_leaf_append(void *frame, uint32_t frame_size, const struct mshm_version *version,
                     uint64_t hash);

/* The hint of a leaf, for its page-map word: bits 0-7 hash buckets, 8-15 `line`, 16-23 `windows`. Small entries of the
 * base stand, as far as there is room, inside the window that the key's hash chooses: MSHM_WINDOW lines out of those
 * that hold the entries. Window i begins at line `line` + i of the frame. A key that stands elsewhere costs its reader
 * one more miss, nothing else. `windows` is 0 when the entries are too large or too far away for this. */
enum { MSHM_WINDOW = 4 };
static inline unsigned
mshm_leaf_hint(const void *frame)
{
    const struct mshm_page *page = (const struct mshm_page *)frame;
    return (page->hash_count > 255 ? 0u : page->hash_count) | (unsigned)page->children_at << 8;
}
static inline uint32_t
mshm_leaf_window(uint64_t hash, uint32_t windows)
{
    return (uint32_t)((hash >> 32) * windows >> 32);
}

/* Starts the fetch of the lines that a point search will need, so that their misses overlap: header, fingerprints, hash
 * bucket and the entry's window. `hint` is mshm_map_hint of the page-map word; a wrong one costs useless fetches. Any
 * reader. Inlined always: GCC takes a function that only prefetches for one without effects and drops its calls. */
static inline __attribute__((always_inline)) void
mshm_leaf_prefetch(const void *frame, uint64_t hash, unsigned hint)
{
    const char *line = (const char *)frame;
    uint32_t windows = hint >> 16 & 255;
    __builtin_prefetch(line);
    __builtin_prefetch(line + sizeof(struct mshm_page));
    __builtin_prefetch(line + sizeof(struct mshm_leaf) +
                       sizeof(struct mshm_hash_bucket) * ((hash >> 32) * (hint & 255) >> 32));
    if (windows != 0) {
        const char *window =
            line + (uint64_t)MSHM_LINE * ((hint >> 8 & 255) + mshm_leaf_window(hash, windows));
        for (unsigned i = 0; i < MSHM_WINDOW; i++)
            __builtin_prefetch(window + (uint64_t)i * MSHM_LINE);
    }
}

/* How a search ended. */
enum mshm_found {
    MSHM_FOUND_NOTHING = 0, /* key not in this page: the caller compares the fences */
    MSHM_FOUND_VERSION =
        1, /* the newest version <= snapshot is in *version (its kind may be TOMBSTONE) */
    MSHM_FOUND_NEWER =
        2, /* key is here, but no version <= snapshot: look into history if there is any */
};

/* Point search. The snapshot is given, or, when `visible` is not NULL, loaded from it (acquire) *after* the tail count
 * was loaded (acquire): the order that makes an unregistered one-call get right. On FOUND_VERSION, version->value
 * points into the frame (clamped to it); version->key is not set. Returns enum mshm_found or MSHM_CORRUPT.
 * `snapshot_used`, when not NULL, receives the snapshot that was applied. */
int mshm_leaf_get(const void *frame, uint32_t frame_size, const void *key, size_t key_size,
                  uint64_t hash, mshm_timestamp snapshot, const AO_t *visible,
                  struct mshm_version *version, mshm_timestamp *snapshot_used);

/* The newest version of a key whatever its timestamp (conflict check). FOUND_NOTHING or FOUND_VERSION or CORRUPT. */
int mshm_leaf_newest(const void *frame, uint32_t frame_size, const void *key, size_t key_size,
                     uint64_t hash, struct mshm_version *version);

/* Fences and links of a leaf or inner page, checked against the frame. `high_size` may be MSHM_FENCE_INFINITE. */
struct mshm_fences {
    const uint8_t *low, *high;
    uint16_t low_size, high_size;
    mshm_pid right;
};
int mshm_page_fences(const void *frame, uint32_t frame_size,
                     struct mshm_fences *fences); /* MSHM_OK, MSHM_CORRUPT */

/* Where a key stands against a page's fences: <0 below low, 0 inside, >0 at or above high. With `below` set the
 * question is for the keys strictly below `key`: inside means low < key <= high. */
int mshm_fences_compare(const struct mshm_fences *fences, const void *key, size_t key_size,
                        int below);

/* Copies a leaf or history frame that the broker may append to meanwhile to `copy` (64-aligned, room for frame_size):
 * the copy holds the tail entries that were published when the call began, and no more. Returns the bytes that are
 * meaningful: the frame size to give to the functions here for the copy; or 0 when the frame is corrupt. Any reader;
 * the copy is to be believed only after the bracket's check of `revoked`. */
uint32_t mshm_leaf_clone(const void *frame, uint32_t frame_size, void *copy);

/* A walk over the keys of a leaf or history frame in order (base and tail merged). For use on a private copy of the
 * frame or by the broker: the tail is sorted once at init.
 *
 * Memory: the iterator points into the frame and into itself; keys of base entries are assembled in `key`, whose first
 * bytes are the page's prefix. All fields are private to the functions below. */
struct mshm_leaf_iterator {
    const uint8_t *frame;
    uint32_t frame_size;
    uint32_t key_count, tail_count;
    uint32_t heads_at, slots_at; /* bytes */
    uint32_t prefix_size;
    uint32_t base_at;   /* base keys before the current key, or before the gap between two keys */
    uint32_t tail_at;   /* places of tail_order before it */
    uint8_t base_width; /* 1: the current key stands in the base */
    uint8_t tail_width; /* versions of the current key in the tail; both 0: in a gap */
    uint8_t has_history;
    uint8_t started; /* 0: no move yet, so that `previous` begins at the end */
    uint8_t tail_order[MSHM_TAIL_CAPACITY];  /* tail indices: ascending key, newest first */
    uint32_t tail_heads[MSHM_TAIL_CAPACITY]; /* in that order: as the heads of the base */
    uint8_t key[MSHM_MAX_KEY];
};
int mshm_leaf_iterator_init(struct mshm_leaf_iterator *iterator, const void *frame,
                            uint32_t frame_size);

/* Moves to the newest version <= snapshot of the next greater key (forward) or next smaller key (backward) and describes
 * it. Tombstones are reported (kind). A key without a version <= snapshot is reported with kind 0 when the page has
 * history (the caller looks there by a get), else skipped. MSHM_OK, MSHM_NOT_FOUND at the end, MSHM_CORRUPT.
 * After init, `next` starts at the first key and `previous` at the last. key/value stay valid until the next move. */
int mshm_leaf_iterator_next(struct mshm_leaf_iterator *iterator, mshm_timestamp snapshot,
                            struct mshm_version *version);
int mshm_leaf_iterator_previous(struct mshm_leaf_iterator *iterator, mshm_timestamp snapshot,
                                struct mshm_version *version);
/* Positions so that `next` gives the first key >= key and `previous` the last key < key. */
int mshm_leaf_iterator_seek(struct mshm_leaf_iterator *iterator, const void *key, size_t key_size);

/* Broker: all versions of a frame in order. Fills up to `capacity` descriptors; whole keys are assembled in `key_bytes`
 * (capacity key_bytes_size) when they must be, values point into the frame. Returns the count, or MSHM_CORRUPT /
 * MSHM_FULL. */
int mshm_leaf_versions(const void *frame, uint32_t frame_size, struct mshm_version *versions,
                       uint32_t capacity, uint8_t *key_bytes, uint32_t key_bytes_size);

/* Everything that must hold in a leaf or history frame (order, prefix, hash completeness, fences, bounds): MSHM_OK or
 * MSHM_CORRUPT with a text for a person in *why. Tests and mace-check. */
int mshm_leaf_check(const void *frame, uint32_t frame_size, const char **why);

#endif
