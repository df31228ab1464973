/* strays.h - pages whose records cannot be read when a checkpoint would add to them, and what was written blind to them.
 *
 * A delta needs the head of the record that it extends, and a page with a full chain needs all of it. When the device does not
 * give that, or it is damaged, the page keeps the record that it has, and its writes, all <= the cut, go into the manifest
 * with the checkpoint's edit: so the checkpoint counts, the log is released, and a recovery has the writes before it
 * replays what came after the cut. In memory they join the writes that came after the seal (pages_carry), so
 * the next checkpoint tries the page again.
 *
 *   seal --> page cannot be read --> strays_add --> edit --strays_counts--> known --next seal--> read: a record, known no more
 *                                                                            ^                |
 *                                                                            '--not read------'
 *
 * Each edit brings the whole table, like the catalogue. It has a limit; beyond it the checkpoint waits. Loop thread only.
 */
#ifndef STRAYS_H
#define STRAYS_H

#include "mshm/leaf.h"
#include "page_pack.h"

struct strays {
    uint8_t *bytes; /* the table of the checkpoint under way (stray_format.h) */
    uint64_t size, capacity, limit;
    mshm_pid *pids; /* of it, ascending */
    uint32_t count, pids_capacity;
    mshm_pid *known; /* the same of the newest checkpoint that counts */
    uint32_t known_count, known_capacity;
};

/* limit: bytes of the table. MSHM_OK, MSHM_NO_MEMORY. */
int strays_init(struct strays *strays, uint64_t limit);
void strays_fini(struct strays *strays);

/* Another checkpoint was sealed: its table is empty. */
void strays_begin(struct strays *strays);
/* What the writes of one page take in the table. */
uint64_t strays_cost(const struct blind_entry *list);
/* Room for `count` pages that take `size` bytes together. MSHM_OK, MSHM_NO_MEMORY; MSHM_LIMIT: the table is full. */
int strays_reserve(struct strays *strays, uint32_t count, uint64_t size);
/* The page cannot be read; `list`, newest first, is what was written blind to it. Pids ascend; the room was reserved. */
void strays_add(struct strays *strays, mshm_pid pid, const struct blind_entry *list);
/* Was the page in the table of the last checkpoint that counts? */
bool strays_known(const struct strays *strays, mshm_pid pid);
/* The checkpoint counts: its table is the known one from here on. */
void strays_count(struct strays *strays);

/* Goes through a table (hostile bytes): each(pid, version), by ascending pids, a page's writes oldest first, none newer
 * than `cut`. MSHM_OK, MSHM_CORRUPT, MSHM_VERSION, or what `each` returned. */
typedef int strays_each(void *argument, mshm_pid pid, const struct mshm_version *version);
int strays_read(const void *bytes, uint64_t size, mshm_timestamp cut, strays_each *each,
                void *argument);
/* The table that recovery found in the manifest, checked, is the known one. MSHM_OK, MSHM_NO_MEMORY, MSHM_CORRUPT... */
int strays_load(struct strays *strays, const void *bytes, uint64_t size, mshm_timestamp cut);

#endif
