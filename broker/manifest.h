/* manifest.h - CURRENT and MANIFEST-n: the only truth about which files and which page locations count (layout in
 * manifest_format.h). A manifest begins with a snapshot of everything and goes on with edits, one for each checkpoint
 * and for each start of an incarnation; each is one record with a checksum, and counts whole or not at all. A new
 * snapshot is written under a new number, synced, and CURRENT is switched by rename, each followed by a directory sync.
 *
 * A torn record at the end and a rotten one look alike. So a record that was synced is proven: by its mark, written
 * behind it without a sync, or by any later record or mark. What can be found behind record k, the newest one that was
 * acknowledged, when k+1 was perhaps being written:
 *
 *   record k   mark k     record k+1            later proof   a start takes
 *   whole      there      none, or torn         -             k
 *   whole      lost/torn  none, or torn         -             k, unproven: written again before anything rests on it
 *   whole      any        whole                 -             k+1, unproven: all it names was durable before it
 *   damaged    there      any                   mark k        nothing: MSHM_CORRUPT
 *   damaged    lost       any but none          record k+1    nothing: MSHM_CORRUPT
 *   damaged    lost       none                  -             k-1
 *   whole      damaged    none                  -             k: the same state
 *
 * The last line but one needs two faults, a power cut that took the mark and rot in what it did not take; then it is
 * the log that refuses, unless it still continues k-1 and replay leads to the same commits. The snapshot needs no mark:
 * CURRENT names it only after its sync.
 *
 * "Written again" is not for nothing: after a failed sync the page cache may show as clean what the disk never got. An
 * unproven record is settled by manifest_settle, and so is the name CURRENT, before anything is removed or built
 * because of what was loaded.
 */
#ifndef MANIFEST_H
#define MANIFEST_H

#include "env.h"
#include "page_format.h"
#include "wal.h"

/* Where the log goes on after the newest checkpoint. */
struct manifest_cut {
    uint64_t timestamp; /* the cut: every commit <= it is in the pages; 0: no checkpoint yet */
    uint32_t chain;     /* checksum of the record of that commit */
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
    uint64_t
        first_segment; /* the log's oldest segment that is still needed; 0: it has not been started */
    struct manifest_cut cut;
    const struct manifest_page *pages;
    uint64_t page_count;
    const struct manifest_file *files; /* all that changed */
    uint32_t file_count;
    const void *catalogue; /* catalogue_save as of the cut; NULL: as before */
    uint64_t catalogue_size;
    const void *outcomes; /* outcomes_save as of the cut; NULL: as before */
    uint64_t outcomes_size;
    const void *strays; /* strays.h, as of the cut; NULL: as before */
    uint64_t strays_size;
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
    uint64_t
        unproven; /* offset of the newest record when nothing proves that it was synced; 0: it is proven */
    bool settled; /* what was loaded is durable: manifest_settle */
};

/* Called while loading, after all edits: once for the catalogue, the outcomes and the strays when there are any, then for
 * every file, then for every page that is left, each once, ascending. A status other than MSHM_OK ends the loading. Any
 * may be NULL. */
struct manifest_visitor {
    void *argument;
    int (*page)(void *argument, uint32_t pid, data_location location);
    int (*file)(void *argument, const struct manifest_file *file);
    int (*catalogue)(void *argument, const void *bytes, uint64_t size);
    int (*outcomes)(void *argument, const void *bytes, uint64_t size);
    int (*strays)(void *argument, const void *bytes, uint64_t size);
};

/* MSHM_OK; MSHM_NOT_FOUND (no CURRENT: a new or empty directory); MSHM_VERSION; MSHM_CORRUPT with file and offset in
 * why (when CURRENT is damaged and one manifest is intact, its name, too); MSHM_IO, MSHM_NO_MEMORY. Changes nothing on
 * disk. *manifest is set on success only. visitor and why may be NULL. */
int manifest_load(const struct env *env, struct manifest *manifest,
                  const struct manifest_visitor *visitor, char *why, size_t why_size);
/* manifest_load of a manifest by its number, whatever CURRENT says: for what saves data from a damaged database.
 * checked_name: true. manifest, visitor, why may be NULL. */
int manifest_number_load(const struct env *env, uint64_t number, bool checked_name,
                         struct manifest *manifest, const struct manifest_visitor *visitor,
                         char *why, size_t why_size);
/* Makes durable what was loaded: an unproven record, the switch of CURRENT. Before this has succeeded once, nothing may
 * be removed because of what was loaded, and no edit appended (manifest_store does it itself). Blocking: recovery.
 * MSHM_OK, MSHM_FULL, MSHM_IO... */
int manifest_settle(const struct env *env, struct manifest *manifest);

/* The bytes of an edit as the next record of this manifest, allocated with malloc; NULL: out of memory. `manifest` is
 * not changed. The bytes are to be written at manifest->size and synced; after a failure that passes they can be
 * written again. Then manifest_appended, then the mark. [any thread] */
void *manifest_edit_bytes(const struct manifest *manifest, const struct manifest_edit *edit,
                          uint64_t *size);
void manifest_appended(struct manifest *manifest, const struct manifest_edit *edit,
                       const void *bytes, uint64_t size);
/* The proof that the newest record was synced: to be written at manifest->size, without a sync, as soon as
 * manifest_appended was called; it does no harm when that fails or never ends. The next edit brings the same bytes. */
enum { MANIFEST_MARK_SIZE = 1024 };
void manifest_mark_bytes(const struct manifest *manifest, uint8_t bytes[MANIFEST_MARK_SIZE]);

/* A whole new manifest (number + 1) whose snapshot is `edit`: allocated bytes of the file. Then manifest_switch writes
 * it; then manifest_switched. [any thread] */
void *manifest_snapshot_bytes(const struct manifest *manifest, const struct manifest_edit *edit,
                              uint64_t *size);
/* Writes MANIFEST-(number + 1), syncs, switches CURRENT, syncs the directory, removes the older one. Blocking [any
 * thread]. MSHM_OK; MSHM_FULL, MSHM_LIMIT, MSHM_NO_MEMORY (nothing has changed: try again); MSHM_IO, MSHM_DENIED. */
int manifest_switch(const struct env *env, uint64_t number, const void *bytes, uint64_t size);
void manifest_switched(struct manifest *manifest, const struct manifest_edit *edit,
                       const void *bytes, uint64_t size);
/* Appends an edit, blocking: recovery. Settles first. Creates the first manifest when number is 0. MSHM_OK, MSHM_FULL,
 * MSHM_IO, MSHM_NO_MEMORY... */
int manifest_store(const struct env *env, struct manifest *manifest,
                   const struct manifest_edit *edit);
/* The file's name, for appending to it. */
enum { MANIFEST_NAME_SIZE = 40 };
void manifest_name(char name[MANIFEST_NAME_SIZE], uint64_t number);
/* Edits have made the manifest so much longer than its snapshot that it is time for a new one. */
bool manifest_long(const struct manifest *manifest);
/* Removes what unfinished switches left: every MANIFEST-n but this one, and CURRENT.tmp. Failures do no harm. After
 * manifest_settle. */
void manifest_tidy(const struct env *env, const struct manifest *manifest);

#endif
