/* planted.h - a small database of known content, and damage that carries right checksums: what only a look at the whole can
 * find.
 *
 * Bucket "planted", pages of 4 KiB: keys "k000000" to PLANTED_KEYS - 1. Key i was written as generation 1; of those
 * below PLANTED_CHANGED every 16th once more as generation 2, which stands in deltas, and every 50th was then deleted. Keys
 * "x000000" to PLANTED_GHOSTS - 1 were there, too, and are deleted, so that their pages were merged away. All that is in a checkpoint. Behind it, in the
 * log alone, every 64th was written as generation 3. The broker was killed.
 */
#ifndef PLANTED_H
#define PLANTED_H

#include "check_database.h"
#include "data.h"
#include "mace/mace.h"
#include "support/scratch.h"

enum {
    PLANTED_KEYS = 12000,
    PLANTED_CHANGED = 6000,
    PLANTED_GHOSTS = 1000,
    PLANTED_KEY = 16,
    PLANTED_VALUE = 160
};

/* For a case of tests: makes it once, before all cases; gives each a copy of its own in planted_path. */
extern char planted_path[SCRATCH_PATH];
void planted_base_create(void);
void planted_base_remove(void);
void planted_copy_create(void);
void planted_copy_remove(void);
/* Beside the copy. */
void planted_beside(char joined[SCRATCH_PATH], const char *name);

void planted_key(char key[PLANTED_KEY], unsigned i);
/* Generation that key i has at the end; 0: it is not there. */
unsigned planted_generation(unsigned i);
/* Written behind the checkpoint. */
bool planted_in_log(unsigned i);
/* The value of a generation: its size. */
size_t planted_value(char value[PLANTED_VALUE], unsigned i, unsigned generation);

/* A database taken apart, and put together again in another way. */
struct planted {
    struct check check; /* loaded, its pages looked at and sorted by pid */
    struct report *report;
    uint32_t bucket; /* id of "planted" */
};
void planted_open(struct planted *planted, const char *path);
void planted_close(struct planted *planted);
/* A new manifest with the pages, files and catalogue as they stand in `check` now. */
void planted_save(struct planted *planted);

/* The index-th page of the bucket at this level with a full record and no older ones; NULL: there are not so many. */
struct check_page *planted_page(struct planted *planted, unsigned level, unsigned index);
/* The root of the bucket. */
struct check_page *planted_root(struct planted *planted);

/* A record with what its payload begins with. */
struct planted_record {
    data_location location;
    uint32_t size;
    uint8_t *bytes;
    struct page_record *head;
    uint8_t *payload; /* struct page_payload: at no special address */
    uint8_t *low, *high, *prefix;
    uint8_t *content; /* versions, or children */
};
void planted_read(struct planted *planted, data_location location, struct planted_record *record);
/* Writes it in its place, its checksum made right. Frees it. */
void planted_write(struct planted *planted, struct planted_record *record);
/* Changes bytes of a file in place. */
void planted_patch(const char *path, const char *name, uint64_t offset, const void *bytes,
                   size_t size);
/* Flips a bit. */
void planted_flip(const char *path, const char *name, uint64_t offset, unsigned bit);

#endif
