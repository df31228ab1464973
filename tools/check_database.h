/* check_database.h - a database looked at from outside: what mace-check and the verification of a physical backup share.
 *
 *   check_open -> check_state_load -> check_log -> check_pages -> check_files -> check_trees -> report
 *   (lock)        manifest, files     records      by location    the rest       level by level
 *
 * Nothing is ever written to the database. Everything read from it is hostile input. One thread.
 */
#ifndef CHECK_DATABASE_H
#define CHECK_DATABASE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "catalogue.h"
#include "check_report.h"
#include "env.h"
#include "host_files.h"
#include "manifest.h"
#include "page_pack.h"

/* What is kept of a page of the manifest: all the memory that grows with the database, but for 1 bit for each 64 bytes of
 * live data (struct check_file). The fences are kept as a hash, with bucket and level in it; what does not fit its
 * parent is read again to tell how. */
struct check_page {
    data_location location;
    uint32_t pid;
    uint32_t right; /* right sibling */
    uint32_t fences_low;
    uint16_t fences_high;
    uint8_t level;
    uint8_t state; /* enum check_page_state */
};
static_assert(sizeof(struct check_page) == 24, "24 bytes of memory for each page");

enum check_page_state {
    CHECK_BAD = 1,     /* cannot be read, or is damaged */
    CHECK_REACHED = 2, /* a tree leads to it */
};

enum { CHECK_PIECE_UNITS = 65536 }; /* units of a data file in one piece of its map */

struct check_file {
    uint32_t number;
    uint64_t total, live; /* as the manifest says */
    uint64_t counted;     /* live bytes as the pages add up to */
    uint64_t size;        /* as it is */
    struct env_file *open;
    bool usable;      /* open, and its head is right */
    uint8_t **pieces; /* a bit for each DATA_UNIT that a live record covers; made when needed */
    uint32_t piece_count;
};

struct check_bucket {
    uint32_t id;
    mshm_pid root;
    bool dropped;
    bool leaving; /* its pages are being given back: some may be gone already */
    bool cut_off; /* an inner page is lost, so pages may be out of reach */
    struct catalogue_record options;
    uint16_t name_size;
    char name[MSHM_MAX_BUCKET_NAME + 1];
    uint64_t keys, versions, pages_leaf, pages_inner, bytes;
    uint32_t height;
};

/* Figures of one look. */
struct check_figures {
    uint64_t pages_leaf, pages_inner; /* as the catalogue says */
    uint64_t pages_bad;
    uint64_t records_live, records_dead;
    uint64_t bytes_dead, bytes_unknown; /* not live; of these: no record either */
    uint64_t log_records, log_segments, log_operations;
    uint64_t leftover_files;
    uint64_t pages_cut_off;
};

struct check {
    struct env env;
    struct host_files host;
    char *path;
    bool online; /* beside a running broker: without the lock */
    bool locked;
    struct report *report;

    uint64_t manifest_number; /* the manifest to look at; 0: the one that CURRENT names */
    bool loaded;              /* from here on: what check_state_load found */
    struct manifest manifest;
    struct check_page *pages; /* ascending by pid, but while check_pages runs */
    uint64_t page_count, page_capacity;
    struct check_file *files; /* ascending by number */
    uint32_t file_count, file_capacity;
    struct check_bucket *buckets; /* ascending by id */
    uint32_t bucket_count;
    void *catalogue;
    uint64_t catalogue_size;
    bool catalogue_there;
    void *outcomes;
    uint64_t outcomes_size;
    bool outcomes_there;
    void *strays;
    uint64_t strays_size;
    bool strays_there;
    struct check_figures figures;
    struct check_reader *reader;
};

/* --- check_state.c --- */

/* Opens the directory and, offline, takes its lock: MSHM_OK, or a status with a text for a person in *why (MSHM_EXISTS: a broker
 * serves it; MSHM_BUSY: somebody holds the lock). The caller calls check_close in every case. */
int check_open(struct check *check, const char *path, bool online, struct report *report, char *why,
               size_t why_size);
void check_close(struct check *check);
/* Reads the manifest and opens the files that it names. Damage goes to the report. MSHM_OK; MSHM_CORRUPT: the manifest or the
 * catalogue cannot be used, so nothing else can be looked at; MSHM_NOT_FOUND: there is no database; MSHM_VERSION, MSHM_IO,
 * MSHM_NO_MEMORY, MSHM_LIMIT. */
int check_state_load(struct check *check, char *why, size_t why_size);
void check_state_free(struct check *check);
struct check_file *check_file_find(struct check *check, uint32_t number);
struct check_page *check_page_find(struct check *check, mshm_pid pid); /* pages ascending by pid */
struct check_bucket *check_bucket_find(struct check *check, uint32_t id);

/* --- check_manifest.c --- */

/* What nothing depends on, and is to be right all the same: marks, zeros. */
void check_manifest(struct check *check);

/* --- check_catalogue.c --- */

/* Takes the catalogue apart into check->buckets. MSHM_OK, MSHM_CORRUPT, MSHM_VERSION, MSHM_NO_MEMORY. */
int check_catalogue_load(struct check *check, char *why, size_t why_size);
/* Are there as many pages as it says? After check_pages. */
void check_catalogue_figures(struct check *check);

/* --- check_reader.c: records read and taken apart --- */

struct check_reader;
int check_reader_create(struct check *check, struct check_reader **reader);
void check_reader_destroy(struct check_reader *reader);
/* The chain of records of a page. Valid until the next load. */
struct check_chain {
    data_location locations[DATA_CHAIN_MAX + 1]; /* newest first */
    unsigned count;
    data_location at; /* what is damaged */
    const char *why;
};
/* Reads the records of a page, checks them and takes them apart: MSHM_OK; MSHM_CORRUPT, MSHM_IO with chain->why and
 * chain->at; MSHM_VERSION; MSHM_NO_MEMORY. Locations that were read are in the chain in every case. */
int check_page_load(struct check_reader *reader, data_location location, mshm_pid pid,
                    struct check_chain *chain);
/* What was loaded last. */
const struct page_content *check_page_content(const struct check_reader *reader);
/* Bytes of a data file through a buffer for reading forward: MSHM_OK and *bytes (valid until the next read), MSHM_CORRUPT: beyond
 * the file's end, MSHM_IO. size <= CHECK_READ_MAX. */
enum { CHECK_READ_MAX = 4095 * DATA_UNIT };
int check_read(struct check_reader *reader, struct check_file *file, uint64_t offset, uint32_t size,
               const uint8_t **bytes);

/* --- check_pages.c --- */

/* The key range of a leaf, or what there is of it, for the report. */
struct check_range {
    const uint8_t *low, *high;
    uint16_t low_size, high_size; /* MSHM_FENCE_INFINITE: no upper bound */
};
/* Every page of the manifest: location, checksums, content; fills in what is kept of it. MSHM_OK, MSHM_NO_MEMORY, MSHM_VERSION. */
int check_pages(struct check *check);
void check_fences_set(struct check_page *page, uint32_t bucket, unsigned level,
                      const struct check_range *range);
bool check_fences_equal(const struct check_page *page, uint32_t bucket, unsigned level,
                        const struct check_range *range);

/* --- check_files.c --- */

/* What no live record covers, live bytes, files that nobody names. MSHM_OK, MSHM_NO_MEMORY. */
int check_files(struct check *check);
/* Is this a record that was written here? Its size and *record, or 0. Says nothing about its content. */
uint32_t check_record_at(struct check_reader *reader, struct check_file *file,
                         const uint8_t database_id[16], uint64_t offset,
                         struct page_record *record);
/* Marks a record's units: false when one of them is marked already. *status: MSHM_OK, MSHM_NO_MEMORY. */
bool check_file_mark(struct check_file *file, uint64_t offset, uint32_t size, int *status);

/* --- check_trees.c --- */

/* Every tree, and the pages that none leads to. After check_pages. MSHM_OK, MSHM_NO_MEMORY. */
int check_trees(struct check *check);

/* --- check_log.c --- */

/* The log behind the manifest's cut. MSHM_OK, MSHM_VERSION, MSHM_NO_MEMORY. */
int check_log(struct check *check, char *why, size_t why_size);

/* --- check_run.c --- */

/* Everything, as often as a running broker makes it necessary: MSHM_OK (the report says whether it is clean), else why nothing could
 * be looked at. check->loaded says whether the state can be used. */
int check_run(struct check *check, char *why, size_t why_size);

#endif
