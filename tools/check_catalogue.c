/* check_catalogue.c - what else the manifest holds: the buckets, and what became of unanswered commits. */
#include <stdlib.h>
#include <string.h>

#include "catalogue_format.h"
#include "check_database.h"
#include "mshm/status.h"
#include "outcome.h"
#include "strays.h"

static void
report_manifest(struct check *check, const char *text)
{
    char name[MANIFEST_NAME_SIZE];
    manifest_name(name, check->manifest.number);
    report_damage(check->report, &(struct finding){.file = name, .text = text});
}

static int
bucket_order(const void *left, const void *right)
{
    const struct check_bucket *a = left, *b = right;
    return a->id < b->id ? -1 : a->id > b->id;
}

static int
take_bucket(void *argument, const struct catalogue_bucket *from, enum catalogue_state state)
{
    struct check *check = argument;
    struct check_bucket *grown =
        realloc(check->buckets, (check->bucket_count + 1u) * sizeof *grown);
    if (grown == NULL)
        return MSHM_NO_MEMORY;
    check->buckets = grown;
    struct check_bucket *bucket = &grown[check->bucket_count++];
    *bucket = (struct check_bucket){.id = from->id,
                                    .root = from->root,
                                    .dropped = state != CATALOGUE_LIVING,
                                    .leaving = state == CATALOGUE_LEAVING,
                                    .options = from->options,
                                    .name_size = from->name_size};
    memcpy(bucket->name, from->name, from->name_size);
    return check->bucket_count <= MSHM_MAX_BUCKETS ? MSHM_OK : MSHM_CORRUPT;
}

static bool
living_twins(const struct check_bucket *a, const struct check_bucket *b)
{
    return !a->dropped && !b->dropped && a->name_size == b->name_size &&
           memcmp(a->name, b->name, a->name_size) == 0;
}

static bool
buckets_differ(const struct check *check)
{
    for (uint32_t i = 0; i < check->bucket_count; i++)
        for (uint32_t k = i + 1; k < check->bucket_count; k++)
            if (check->buckets[i].id == check->buckets[k].id ||
                check->buckets[i].root == check->buckets[k].root ||
                living_twins(&check->buckets[i], &check->buckets[k]))
                return false;
    return true;
}

static int
outcomes_look(struct check *check)
{
    struct outcomes *outcomes;
    if (!check->outcomes_there)
        return MSHM_OK;
    int status = outcomes_create(&outcomes);
    if (status != MSHM_OK)
        return status;
    status = outcomes_load(outcomes, check->outcomes, check->outcomes_size);
    outcomes_destroy(outcomes);
    if (status == MSHM_CORRUPT) {
        report_manifest(check, "the table of unanswered commits makes no sense");
        status = MSHM_OK;
    }
    return status;
}

static int
stray_look(void *argument, mshm_pid pid, const struct mshm_version *version)
{
    (void)version;
    return check_page_find(argument, pid) != NULL ? MSHM_OK : MSHM_CORRUPT;
}

static int
strays_look(struct check *check)
{
    int status = strays_read(check->strays, check->strays_there ? check->strays_size : 0,
                             check->manifest.cut.timestamp, stray_look, check);
    if (status == MSHM_CORRUPT) {
        report_manifest(check, "the table of writes to unreadable pages makes no sense");
        status = MSHM_OK;
    }
    return status;
}

int
check_catalogue_load(struct check *check, char *why, size_t why_size)
{
    struct catalogue_header header = {0};
    int status = MSHM_OK;
    if (check->catalogue_there)
        status =
            catalogue_read(check->catalogue, check->catalogue_size, &header, take_bucket, check);
    if (check->bucket_count > 1)
        qsort(check->buckets, check->bucket_count, sizeof *check->buckets, bucket_order);
    if (status == MSHM_OK && !buckets_differ(check))
        status = MSHM_CORRUPT;
    if (status == MSHM_OK)
        status = outcomes_look(check);
    if (status == MSHM_OK)
        status = strays_look(check);
    if (status == MSHM_CORRUPT)
        report_manifest(check, "the catalogue of buckets makes no sense");
    if (status == MSHM_VERSION)
        snprintf(why, why_size, "the manifest holds parts in another version of the format");
    check->figures.pages_leaf = header.pages_leaf;
    check->figures.pages_inner = header.pages_inner;
    return status;
}

void
check_catalogue_figures(struct check *check)
{
    uint64_t leaf = 0, inner = 0;
    for (uint32_t i = 0; i < check->bucket_count; i++) {
        leaf += check->buckets[i].pages_leaf;
        inner += check->buckets[i].pages_inner;
    }
    if (check->figures.pages_bad == 0 &&
        (leaf != check->figures.pages_leaf || inner != check->figures.pages_inner))
        report_manifest(check, "its numbers of pages are not those that are there");
}
