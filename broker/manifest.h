/* manifest.h - CURRENT and MANIFEST-n: the only truth about which files and which page locations count (layout in
 * manifest_format.h). A manifest begins with a snapshot of everything and goes on with edits, one for each checkpoint and
 * for each start of an incarnation; each is one record with a checksum, and counts whole or not at all. A new snapshot is
 * written under a new number, synced, and CURRENT is switched by rename, each followed by a directory sync.
 */
#ifndef MANIFEST_H
#define MANIFEST_H

#include "env.h"
#include "page_format.h"
#include "wal.h"

/* Where the log goes on after the newest checkpoint. */
struct manifest_cut {
    uint64_t timestamp;           /* the cut: every commit <= it is in the pages; 0: no checkpoint yet */
    uint32_t chain;               /* checksum of the record of that commit */
    uint32_t reserved;
    struct wal_position position; /* just behind it */
};

/* A page whose record changed: location 0 = it is no more. */
struct manifest_page {
    uint32_t pid;
    data_location location;
};
struct manifest_file { /* total 0: the file is no more */
    uint32_t number;
    uint64_t total, live;
};

/* One edit: what changed. In a snapshot the arrays hold everything. */
struct manifest_edit {
    uint64_t incarnation;
    uint64_t first_segment; /* the log's oldest segment that is still needed; 0: it has not been started */
    struct manifest_cut cut;
    const struct manifest_page *pages;
    uint64_t page_count;
    const struct manifest_file *files; /* all that changed */
    uint32_t file_count;
    const void *catalogue; /* catalogue_save as of the cut; NULL: as before */
    uint64_t catalogue_size;
    const void *outcomes; /* outcomes_save as of the cut; NULL: as before */
    uint64_t outcomes_size;
};

/* What manifest_load found: everything, edits applied. */
struct manifest {
    uint64_t number;
    uint64_t size;     /* bytes of the file that count: the next edit goes there */
    uint64_t sequence; /* of the newest record */
    uint32_t chain;    /* checksum of the newest record */
    uint8_t database_id[16];
    uint64_t incarnation; /* the newest one that was started */
    uint64_t first_segment;
    struct manifest_cut cut;
    uint64_t snapshot_size; /* bytes of the snapshot that this manifest began with */
};

/* Called while loading, for every page and file that is left after all edits (each once, pids ascending), and once for catalogue
 * and outcomes when there are any. A status other than MSHM_OK ends the loading. Any may be NULL. */
struct manifest_visitor {
    void *argument;
    int (*page)(void *argument, uint32_t pid, data_location location);
    int (*file)(void *argument, const struct manifest_file *file);
    int (*catalogue)(void *argument, const void *bytes, uint64_t size);
    int (*outcomes)(void *argument, const void *bytes, uint64_t size);
};

/* MSHM_OK; MSHM_NOT_FOUND (no CURRENT: a new or empty directory); MSHM_VERSION; MSHM_CORRUPT with file and offset in why; MSHM_IO;
 * MSHM_NO_MEMORY. Changes nothing on disk. A torn record at the end, which nobody was told about, is left out. */
int manifest_load(const struct env *env, struct manifest *manifest,
                  const struct manifest_visitor *visitor, char *why, size_t why_size);

/* The bytes of an edit as the next record of this manifest, allocated with malloc; NULL: out of memory. `manifest` is not changed. The bytes are to be written at
 * manifest->size and synced; then manifest_appended. */
void *manifest_edit_bytes(const struct manifest *manifest, const struct manifest_edit *edit,
                          uint64_t *size);
void manifest_appended(struct manifest *manifest, const struct manifest_edit *edit,
                       const void *bytes, uint64_t size);
/* A whole new manifest (number + 1) whose snapshot is `edit`: allocated bytes of the file. Then manifest_switch writes it; then
 * manifest_switched. */
void *manifest_snapshot_bytes(const struct manifest *manifest, const struct manifest_edit *edit,
                              uint64_t *size);
/* Writes MANIFEST-(number + 1), syncs, switches CURRENT, syncs the directory, removes the older one. Blocking [any thread]. MSHM_OK, MSHM_FULL (nothing has
 * changed: try again), MSHM_IO. */
int manifest_switch(const struct env *env, uint64_t number, const void *bytes, uint64_t size);
void manifest_switched(struct manifest *manifest, const struct manifest_edit *edit,
                       const void *bytes, uint64_t size);
/* Appends an edit, blocking: recovery. MSHM_OK, MSHM_FULL, MSHM_IO, MSHM_NO_MEMORY. Creates the first manifest when number is 0. */
int manifest_store(const struct env *env, struct manifest *manifest,
                   const struct manifest_edit *edit);
/* The file's name, for appending to it. */
enum { MANIFEST_NAME_SIZE = 40 };
void manifest_name(char name[MANIFEST_NAME_SIZE], uint64_t number);
/* Edits have made the manifest so much longer than its snapshot that it is time for a new one. */
bool manifest_long(const struct manifest *manifest);
/* Removes what unfinished switches left: every MANIFEST-n but this one, and CURRENT.tmp. Failures do no harm. */
void manifest_tidy(const struct env *env, const struct manifest *manifest);

#endif
