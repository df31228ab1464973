/* manifest.h - CURRENT and MANIFEST-n: database id, format version, incarnation, first log segment (layout in
 * manifest_format.h). A new manifest is written under a new number, synced, and CURRENT is switched by rename, each
 * followed by a directory sync. Blocking; recovery only.
 */
#ifndef MANIFEST_H
#define MANIFEST_H

#include "env.h"

struct manifest {
    uint64_t number;
    uint8_t database_id[16];
    uint64_t incarnation;   /* the newest one that was started */
    uint64_t first_segment; /* of the log; 0: it has not been started */
};
/* MSHM_OK; MSHM_NOT_FOUND (no CURRENT: a new or empty directory); MSHM_VERSION; MSHM_CORRUPT; MSHM_IO. */
int manifest_load(const struct env *env, struct manifest *manifest, char *why, size_t why_size);
/* Writes it as number + 1 and switches; removes the older one afterwards. MSHM_OK, MSHM_FULL, MSHM_IO. */
int manifest_store(const struct env *env, struct manifest *manifest);
/* Removes what unfinished switches left: every MANIFEST-n but this one, and CURRENT.tmp. Failures do no harm. */
void manifest_tidy(const struct env *env, const struct manifest *manifest);

#endif
