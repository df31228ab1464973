/* mshm/read.h - reading the tree from shared memory: what a get and a scan do inside one bracket.
 *
 * Any client thread; each call opens and closes its own bracket in `lane`, runs again after revocation, and asks nobody.
 */
#ifndef MSHM_READ_H
#define MSHM_READ_H

#include "mshm/leaf.h"
#include "mshm/session.h"
#include "mshm/store.h"

struct mshm_tree_ref {
    uint32_t bucket; /* id that every page visited must carry */
    mshm_pid root;
};

/* Walks from `start` (the root, or a hint that is checked and dropped if it does not fit) to the leaf that covers `key`
 * (or, with `below`, the keys strictly below it) and leaves the frame in *frame, *size and pid in *leaf. Inside the
 * caller's bracket. MSHM_OK; MSHM_BUSY: the page `*leaf` is not resident (ask for it outside the bracket);
 * MSHM_CORRUPT: hops exceeded or a page does not fit (caller: look at `revoked` first); MSHM_NOT_FOUND: the root is gone
 * or belongs to another bucket: this bucket was dropped. Also used by the broker. */
int mshm_descend(const struct mshm_view *view, struct mshm_tree_ref tree, mshm_pid start,
                 const void *key, size_t key_size, int below, const uint8_t **frame, uint32_t *size,
                 mshm_pid *leaf);

/* Reads the newest version <= snapshot of a key. snapshot 0: one-call get, `visible` is loaded at the right moment.
 * `expired`: the lane's expiry word (NULL for one-call). The value is copied inside the bracket to `buffer`.
 * MSHM_OK; MSHM_NOT_FOUND; MSHM_BUFFER_TOO_SMALL with *value_size set to the size needed; MSHM_SNAPSHOT_EXPIRED;
 * MSHM_CORRUPT; MSHM_BUSY with *missing = pid of a page that is not resident.
 * *kind (may be NULL) receives the entry kind (VALUE or BLOB: then the buffer holds the reference). */
int mshm_get(const struct mshm_view *view, struct mshm_lane *lane, const AO_t *expired,
             struct mshm_tree_ref tree, const void *key, size_t key_size, mshm_timestamp snapshot,
             void *buffer, uint64_t capacity, uint64_t *value_size, unsigned *kind,
             mshm_pid *missing);

/* Copies the whole leaf that covers `key` (or, with below, the keys just below it; key_size 0 and below = 0: the first
 * leaf; `last` set: the last leaf, key ignored) into `copy` (64 KiB, 64-aligned). The copy is private and immutable:
 * everything a snapshot may see in it stays right for that snapshot. *copy_size is the bytes that are meaningful and to
 * be given to the leaf functions as frame size. `hint` may be 0 or a pid to try first.
 * Codes as mshm_get; MSHM_NOT_FOUND: the bucket was dropped, or nothing can be below (an empty key). */
enum mshm_leaf_where { MSHM_LEAF_AT = 0, MSHM_LEAF_BELOW = 1, MSHM_LEAF_LAST = 2 };
int mshm_leaf_copy(const struct mshm_view *view, struct mshm_lane *lane, const AO_t *expired,
                   struct mshm_tree_ref tree, mshm_timestamp snapshot, enum mshm_leaf_where where,
                   const void *key, size_t key_size, mshm_pid hint, void *copy, uint32_t *copy_size,
                   mshm_pid *missing);

/* Leaves that a walk from `key` will come to next and that are not in memory: those beside the leaf of `key` under the same
 * parent, in the walk's order, that leaf not included; no more than `most` are looked at. For reading ahead: an answer may be
 * out of date, and there is none (0) where the parent is not in memory or the walk was disturbed. Returns how many pids were
 * written to `pids`; *leaves (may be NULL) is how many leaves were looked at, those in memory included. */
unsigned mshm_leaves_ahead(const struct mshm_view *view, struct mshm_lane *lane,
                           struct mshm_tree_ref tree, const void *key, size_t key_size, int forward,
                           mshm_pid *pids, unsigned capacity, unsigned most, unsigned *leaves);

#endif
