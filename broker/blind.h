/* blind.h - writes to leaves that are not in memory (DESIGN 9, "Blind write"): a table by pid of lists of entries.
 *
 * Entries stand in blocks that are frames of the largest class, so they count as cache use. A generation lives from
 * one seal to the publication of the checkpoint that wrote it as deltas; then all of it goes at once. Two generations
 * exist at most: the one that gathers, and the sealed one, which jobs read and nobody changes. A page that is read in
 * takes copies of its entries into its frame; what stays here is harmless then, because the page in memory goes
 * before it. Loop thread only, but for reading a sealed generation's entries.
 */
#ifndef BLIND_H
#define BLIND_H

#include "frames.h"
#include "page_pack.h"

struct blind;

int blind_create(struct blind **blind, struct frames *frames);
void blind_destroy(struct blind *blind);

/* Room for `count` writes of together `bytes` bytes (keys and values), so that as many blind_put cannot fail.
 * MSHM_OK, MSHM_FULL (no frame), MSHM_NO_MEMORY. What is not used stays for later, until the next seal. A second call
 * before the writes of the first one came does not add to it: it makes sure of its own room only. */
int blind_reserve(struct blind *blind, uint32_t count, uint64_t bytes);
/* Adds a write to the gathering generation; the room was reserved. */
void blind_put(struct blind *blind, mshm_pid pid, const struct mshm_version *version);

/* What is not on disk of a page: the gathering generation's list and the sealed one's, newest first; NULL: none. */
const struct blind_entry *blind_gathered(const struct blind *blind, mshm_pid pid);
const struct blind_entry *blind_sealed(const struct blind *blind, mshm_pid pid);
/* Bytes of keys and values gathered for a page. */
uint32_t blind_size(const struct blind *blind, mshm_pid pid);
/* The page was read in (or freed): forget what was gathered for it. The sealed list stays until the publication. */
void blind_forget(struct blind *blind, mshm_pid pid);

/* Turns the gathering generation into the sealed one; there must be none. */
void blind_seal(struct blind *blind);
/* Calls each(pid, list) for every page of the sealed generation, in no particular but a repeatable order. */
void blind_each_sealed(const struct blind *blind,
                       void (*each)(void *argument, mshm_pid pid, const struct blind_entry *list),
                       void *argument);
/* The sealed writes of this page are in the record that counts now: its sealed list is empty from here on, because a
 * page that is read in must not get them twice. */
void blind_settle(struct blind *blind, mshm_pid pid);
/* The sealed writes of this page could not be put into a record: they go under what was gathered since, older than all of
 * it, and are sealed no more. Room for them was reserved. */
void blind_carry(struct blind *blind, mshm_pid pid);
/* Drops the sealed generation: its writes are on disk and the pages' words lead there. */
void blind_release(struct blind *blind);
/* Bytes of frames held, both generations; pages with gathered writes. */
uint64_t blind_bytes(const struct blind *blind);
uint32_t blind_pages(const struct blind *blind);
/* The part of them that is the sealed generation's. */
uint64_t blind_sealed_bytes(const struct blind *blind);
/* Whole-structure check for tests: MSHM_OK or MSHM_CORRUPT and *why. */
int blind_check(const struct blind *blind, const char **why);

#endif
