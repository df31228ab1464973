/* mshm/inner.h - inner pages of the B-link tree: immutable after publication.
 *
 *   header | heads u32[n] | key slots: {u16 at, u16 size}[n] | children u32[n + 1] | prefix, fences | separators
 *
 * `at` counts bytes from the start of the frame (a frame has at most 64 KiB), so that short separators stand close.
 * n separators, n + 1 children: child i holds keys k with separator[i-1] <= k < separator[i] (the low and high fence at
 * the ends). Separators are stripped of their common prefix; heads as in a leaf. n >= 1 except for a root that was just
 * created over one leaf, which does not occur: the root is a leaf until it splits.
 * Lehman & Yao, "Efficient locking for concurrent operations on B-trees", 1981; Bayer & Unterauer, "Prefix B-trees".
 */
#ifndef MSHM_INNER_H
#define MSHM_INNER_H

#include "mshm/leaf.h"
#include "mshm/page.h"

struct mshm_separator {
    const uint8_t *key;
    uint16_t size;
};
struct mshm_inner_spec {
    mshm_pid pid, right;
    uint32_t bucket;
    uint8_t level; /* >= 1 */
    const uint8_t *low, *high;
    uint16_t low_size, high_size;
    const struct mshm_separator *separators; /* count, ascending */
    const mshm_pid *children;                /* count + 1 */
    uint32_t count;
};
uint32_t mshm_inner_size(const struct mshm_inner_spec *spec);
int mshm_inner_build(void *frame, uint32_t frame_size,
                     const struct mshm_inner_spec *spec); /* MSHM_OK, MSHM_FULL */

/* The child that covers `key` (below = 0: separator[i-1] <= key < separator[i]), or the keys strictly below it
 * (below = 1: separator[i-1] < key <= separator[i]). Writes pid and index. MSHM_OK or MSHM_CORRUPT. Any reader. */
int mshm_inner_find(const void *frame, uint32_t frame_size, const void *key, size_t key_size,
                    int below, mshm_pid *child, uint32_t *index);

/* The child at `index` (0 .. count of separators), or 0 when the page has no such child. Any reader. */
mshm_pid mshm_inner_child(const void *frame, uint32_t frame_size, uint32_t index);

/* Broker: takes the page apart. Separators are assembled whole in `key_bytes`. Returns the count of separators, or
 * MSHM_CORRUPT / MSHM_FULL (capacities too small). children gets count + 1 pids. */
int mshm_inner_take(const void *frame, uint32_t frame_size, struct mshm_separator *separators,
                    mshm_pid *children, uint32_t capacity, uint8_t *key_bytes,
                    uint32_t key_bytes_size);

/* As mshm_leaf_check. */
int mshm_inner_check(const void *frame, uint32_t frame_size, const char **why);

#endif
