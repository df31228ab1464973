/* backup.h - a copy of a database, made from its files, that opens as a database.
 *
 *   running broker:  mace_checkpoint -> manifest read, data files opened -> an empty log that continues the checkpoint's cut
 *   none:            lock            -> the same                          -> the log from the cut on, copied
 *                    -> files linked or copied -> all synced -> MANIFEST-1, CURRENT
 *
 * Data files are written from front to back and never changed, so those that the manifest says are whole are linked; the one
 * that may still grow is copied as far as it counts. Files are held open from the moment that all of them are there, so a
 * broker that goes on and removes some disturbs nothing. The log of a running broker is not touched: its segments are used
 * again and again, and the cut says that nothing of them is needed.
 *
 * A segment comes first and CURRENT last: what a copy that was cut short leaves is refused by a broker, which takes a log
 * without CURRENT for a damaged database and not for the place of a new one.
 */
#ifndef BACKUP_H
#define BACKUP_H

#include "check_database.h"
#include "place.h"

struct backup_result {
    uint64_t timestamp; /* the newest commit in the pages */
    bool log;           /* and what the log has behind it */
    uint32_t linked, copied;
    uint64_t bytes; /* copied */
};

/* Copies the database in `from` to the directory `to`, which is not there or empty. MSHM_OK, or a status and *why; then nothing stays
 * in `to`. */
int backup_run(const char *from, const char *to, struct backup_result *result, char *why,
               size_t why_size);

/* --- between backup.c and its parts --- */

struct backup {
    struct check check; /* the source */
    struct env env;     /* on the copy */
    struct host_files host;
    struct place place; /* the copy's directory */
    bool live;          /* a broker serves the source */
    struct backup_result *result;
    char *why;
    size_t why_size;
};
/* Says why: returns status. */
int backup_refuse(struct backup *backup, int status, const char *name, const char *what);
/* For a negative errno. */
int backup_refuse_error(struct backup *backup, const char *name, int64_t result);

/* --- backup_files.c --- */

/* Every data file that the manifest names. */
int backup_files(struct backup *backup);
/* Copies the first `size` bytes of an open file to a new one of this name, and syncs it. Zeros stay holes, or, with
 * `allocate`, blocks that are reserved. */
int backup_file_copy(struct backup *backup, struct env_file *from, const char *name, uint64_t size,
                     bool allocate);

/* --- backup_log.c --- */

/* The log: copied from the cut on, or begun at it. *incarnation: the newest one that the copy knows. */
int backup_log(struct backup *backup, uint64_t *incarnation, uint64_t *first_segment);

#endif
