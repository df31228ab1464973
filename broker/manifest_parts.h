/* manifest_parts.h - what the files of the manifest share: manifest.c (files, switching), manifest_current.c
 * (CURRENT read), manifest_edit.c (records made), manifest_load.c (records read), manifest_state.c (what they add up
 * to). Nobody else includes it.
 */
#ifndef MANIFEST_PARTS_H
#define MANIFEST_PARTS_H

#include "manifest.h"
#include "manifest_format.h"

/* --- manifest_edit.c --- */

uint32_t manifest_header_crc(const struct manifest_header *header);
/* What checksums in this manifest start from at `offset`. */
uint32_t manifest_seed(const uint8_t database_id[16], uint64_t number, uint64_t offset);
uint32_t manifest_record_crc(uint32_t seed, const struct manifest_record *record);
uint32_t manifest_mark_crc(uint32_t seed, const struct manifest_mark *mark);
/* Where the parts of a record's payload stand: bytes from the record's begin. */
struct manifest_places {
    uint64_t pages, files, catalogue, outcomes, strays, end;
};
/* false: the sizes do not fit into record->size. */
bool manifest_places(const struct manifest_record *record, struct manifest_places *places);

/* --- manifest_current.c --- */

/* The line of CURRENT that names this manifest: its length. */
unsigned manifest_current_line(char line[MANIFEST_CURRENT_MAX], uint64_t number);
/* *checked: the line had a checksum; without one it is of format 1. Statuses and why as manifest_load. */
int manifest_current_load(const struct env *env, uint64_t *number, bool *checked, char *why,
                          size_t why_size);

/* --- manifest_state.c: everything that the records so far say --- */

struct manifest_state;

struct manifest_state *manifest_state_create(void); /* NULL: out of memory */
void manifest_state_destroy(struct manifest_state *state);
/* Puts a record whose checksums are right over the state. MSHM_OK; MSHM_CORRUPT (*what says why) or MSHM_NO_MEMORY: the
 * state is of no use any more. */
int manifest_state_apply(struct manifest_state *state, const struct manifest_record *record,
                         const uint8_t *bytes, const char **what);
/* Hands everything to the visitor; gives memory back on the way. */
int manifest_state_visit(struct manifest_state *state, const struct manifest_visitor *visitor);

#endif
