/* salvage.h - mace-check --repair: what can be read of a damaged database goes into a new one, through libmace as any program
 * would write it; what cannot be read is listed by bucket and keys.
 *
 *   a manifest readable: its leaves -----------------.
 *   else:               newest leaf record of each    +-- in the order of their timestamps --> new database
 *                       pid in the data files        |
 *   log: records that continue one another ---------'
 *
 * A leaf's record holds all commits up to its cut for the keys between its fences, so it replaces whatever came before it
 * there; a log record changes what came before it. In the order of cuts and commits the newest state is left in the end,
 * also where records of pages that are no more overlap with living ones.
 */
#ifndef SALVAGE_H
#define SALVAGE_H

#include "check_database.h"

/* --- salvage_store.c: the new database --- */

struct salvage_store;
/* Makes the database in `path`, which is not there or empty. MSHM_OK, or a MACE_ status with *why. */
int salvage_store_create(struct salvage_store **store, const char *path, char *why,
                         size_t why_size);
/* Everything so far becomes durable. */
int salvage_store_finish(struct salvage_store *store);
void salvage_store_destroy(struct salvage_store *store);
/* A bucket of the old database, by its old id; name NULL: it is not known. options may be NULL. Harmless when it is there. */
int salvage_store_bucket(struct salvage_store *store, uint32_t id, const char *name,
                         size_t name_size, const struct catalogue_record *options);
/* Nothing more is taken for this id. */
int salvage_store_drop(struct salvage_store *store, uint32_t id);
int salvage_store_put(struct salvage_store *store, uint32_t id, const uint8_t *key, size_t key_size,
                      const uint8_t *value, size_t value_size);
int salvage_store_delete(struct salvage_store *store, uint32_t id, const uint8_t *key,
                         size_t key_size);
/* Deletes all keys of a range. */
int salvage_store_clear(struct salvage_store *store, uint32_t id, const struct check_range *range);
/* The buckets that are there: false at the end. index counts from 0. */
bool salvage_store_each(const struct salvage_store *store, uint32_t index, uint32_t *id,
                        const char **name);

/* --- salvage_leaves.c: leaves that can be read --- */

struct salvage_leaf {
    data_location location;
    uint64_t order; /* its cut; what the manifest's trees reach comes last */
    uint32_t pid;
    uint32_t bucket;
};
struct salvage_leaves {
    struct salvage_leaf *list; /* ascending by order */
    uint64_t count, capacity;
    bool overlap; /* some may be older states of others */
};
/* Those of the manifest: after check_run. MSHM_OK, MSHM_NO_MEMORY. */
int salvage_leaves_named(struct check *check, struct salvage_leaves *leaves);
/* Those found in the data files, when there is no manifest that says anything. Sets up check->files. MSHM_OK, MSHM_NOT_FOUND: no data
 * file tells which database it belongs to; MSHM_NO_MEMORY, MSHM_IO. */
int salvage_leaves_found(struct check *check, struct salvage_leaves *leaves);
void salvage_leaves_free(struct salvage_leaves *leaves);

/* --- salvage_log.c: log records that can be read --- */

/* Walks over the records that continue `from` (timestamp 0: from the oldest segment that can be read on), as far as they are whole.
 * `id`: of the database; NULL: that of the first segment. *last: timestamp of the last record taken; *more: newer
 * commits stand behind a damaged place. MSHM_OK, MSHM_NO_MEMORY, or what `each` returned. */
int salvage_log(struct check *check, const uint8_t *id, const struct wal_from *from, wal_each *each,
                void *argument, uint64_t *last, bool *more);

/* --- salvage_gaps.c: keys that no leaf covers --- */

struct salvage_gaps;
struct salvage_gaps *salvage_gaps_create(void); /* NULL: out of memory */
void salvage_gaps_destroy(struct salvage_gaps *gaps);
int salvage_gaps_cover(struct salvage_gaps *gaps, uint32_t bucket, const struct check_range *range);
/* Something of the bucket is covered. */
bool salvage_gaps_known(struct salvage_gaps *gaps, uint32_t bucket);
/* Calls lost(range) for every range of the bucket that nothing covers, ascending. */
void salvage_gaps_each(struct salvage_gaps *gaps, uint32_t bucket,
                       void (*lost)(void *argument, const struct check_range *range),
                       void *argument);

/* --- salvage_manifest.c --- */

/* When CURRENT leads nowhere: loads and looks at the newest manifest that is whole. MSHM_OK, and check->loaded when there is
 * one; MSHM_NO_MEMORY. */
int salvage_manifest(struct check *check);
/* What is known without a manifest that can be read: the database's catalogue, from the newest record of any manifest that
 * has a whole one, into check->buckets. After salvage_leaves_found. MSHM_OK, also when there is none; MSHM_NO_MEMORY. */
int salvage_catalogue(struct check *check);

/* --- salvage.c --- */

struct salvage_result {
    uint64_t leaves, keys, commits; /* taken; commits: of the log */
    uint64_t last_commit;           /* the newest one taken from the log; 0: none */
    uint64_t manifest;              /* the one that was used; 0: none could be read */
    uint64_t strange;               /* entries of kinds that this program does not know */
    struct report *lost;            /* ranges that could not be read; the caller's to destroy */
};
/* Is the new database all right? MSHM_OK, or a status and *why. Waits for its broker to leave. */
int salvage_verify(const char *path, char *why, size_t why_size);

/* After check_run of this check: MSHM_OK and *result, or a status and *why. */
int salvage_run(struct check *check, const char *path, struct salvage_result *result, char *why,
                size_t why_size);

#endif
