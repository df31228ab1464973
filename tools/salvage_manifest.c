/* salvage_manifest.c - what the manifests still say when the one in force cannot be found or read. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "crc.h"
#include "manifest_parts.h"
#include "mshm/status.h"
#include "salvage.h"

struct names {
    uint64_t below, highest; /* looked for: the highest number below this one */
};

static int
name_take(const char *entry, void *argument)
{
    struct names *names = argument;
    char again[MANIFEST_NAME_SIZE];
    uint64_t number;
    if (sscanf(entry, "MANIFEST-%" SCNu64, &number) != 1)
        return 0;
    manifest_name(again, number);
    if (strcmp(entry, again) == 0 && number < names->below && number > names->highest)
        names->highest = number;
    return 0;
}

/* The manifest before this one, or 0. */
static uint64_t
number_before(const struct check *check, uint64_t below)
{
    struct names names = {.below = below};
    int result = check->env.directory_list(check->env.context, "", name_take, &names);
    return result == 0 ? names.highest : 0;
}

/* What is wrong with a manifest that is not used is no finding. */
static int
number_load(struct check *check, uint64_t number)
{
    struct report *report = check->report;
    char why[300];
    check_state_free(check);
    check->manifest_number = number;
    check->report = report_create();
    int status = check->report != NULL ? check_state_load(check, why, sizeof why) : MSHM_NO_MEMORY;
    report_destroy(check->report);
    check->report = report;
    return status;
}

int
salvage_manifest(struct check *check)
{
    int status = MSHM_CORRUPT;
    uint64_t number = UINT64_MAX;
    while (status != MSHM_OK && status != MSHM_NO_MEMORY &&
           (number = number_before(check, number)) != 0)
        status = number_load(check, number);
    if (status != MSHM_OK)
        return status == MSHM_NO_MEMORY ? status : MSHM_OK;
    status = check_pages(check);
    return status == MSHM_OK ? check_trees(check) : status;
}

/* --- the catalogue alone --- */

/* The record at `offset`, whole and of this manifest: its bytes, or NULL. */
static const struct manifest_record *
record_at(const struct check *check, uint64_t number, const uint8_t *bytes, uint64_t size,
          uint64_t offset)
{
    const struct manifest_record *record = (const void *)(bytes + offset);
    uint32_t seed = manifest_seed(check->manifest.database_id, number, offset);
    struct manifest_places places;
    if (record->magic != MANIFEST_RECORD_MAGIC || record->size < sizeof *record ||
        record->size > size - offset || record->header_crc != manifest_record_crc(seed, record) ||
        record->payload_crc !=
            crc_extend(seed, record + 1, (size_t)(record->size - sizeof *record)) ||
        !manifest_places(record, &places))
        return NULL;
    return record;
}

static int
catalogue_keep(struct check *check, const struct manifest_record *record)
{
    struct manifest_places places;
    char why[300];
    void *copy = malloc(record->catalogue_size + 1);
    if (copy == NULL || !manifest_places(record, &places)) {
        free(copy);
        return MSHM_NO_MEMORY;
    }
    memcpy(copy, (const uint8_t *)record + places.catalogue, record->catalogue_size);
    free(check->catalogue);
    free(check->buckets);
    check->buckets = NULL;
    check->bucket_count = 0;
    check->catalogue = copy;
    check->catalogue_size = record->catalogue_size;
    check->catalogue_there = true;
    int status = check_catalogue_load(check, why, sizeof why);
    return status == MSHM_NO_MEMORY ? status : MSHM_OK;
}

/* The last record of a manifest that has a catalogue. *found: there is one. */
static int
catalogue_search(struct check *check, uint64_t number, bool *found)
{
    const struct env *env = &check->env;
    const struct manifest_record *newest = NULL;
    struct env_file *file;
    char name[MANIFEST_NAME_SIZE];
    manifest_name(name, number);
    if (env->file_open(env->context, name, ENV_OPEN_EXISTING, &file) != 0)
        return MSHM_OK;
    int64_t size = env->file_size(env->context, file);
    uint8_t *bytes = size > 0 ? malloc((size_t)size) : NULL;
    int64_t have = bytes != NULL ? env->file_read(env->context, file, 0, bytes, (size_t)size) : 0;
    env->file_close(env->context, file);
    for (uint64_t at = MANIFEST_RECORDS_AT; (int64_t)(at + sizeof *newest) <= have;
         at += MANIFEST_SECTOR) {
        const struct manifest_record *record = record_at(check, number, bytes, (uint64_t)have, at);
        if (record != NULL && (record->flags & MANIFEST_CATALOGUE) != 0)
            newest = record;
    }
    *found = newest != NULL;
    int status = newest != NULL ? catalogue_keep(check, newest) : MSHM_OK;
    free(bytes);
    return status;
}

int
salvage_catalogue(struct check *check)
{
    int status = MSHM_OK;
    bool found = false;
    uint64_t number = UINT64_MAX;
    while (status == MSHM_OK && !found && (number = number_before(check, number)) != 0)
        status = catalogue_search(check, number, &found);
    return status;
}
