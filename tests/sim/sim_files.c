/* sim_files.c - what the manifest names against what is on the disk. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "checkpoint_parts.h"
#include "mshm/status.h"
#include "page_format.h"
#include "sim/sim_world.h"
#include "wal_segment.h"

enum { FILES = 4096, WAL_FILES = 64 };

struct extent {
    uint32_t file;
    uint64_t offset, size;
};

struct inventory {
    struct sim_world *world;
    const struct env *env;
    struct manifest_file files[FILES];
    uint64_t live[FILES]; /* counted */
    uint32_t file_count;
    struct extent *extents;
    uint64_t extent_count, extent_capacity;
    uint32_t manifests, segments;
};

static struct manifest_file *
file_named(struct inventory *inventory, uint32_t number)
{
    for (uint32_t i = 0; i < inventory->file_count; i++)
        if (inventory->files[i].number == number)
            return &inventory->files[i];
    return NULL;
}

static int
each_file(void *argument, const struct manifest_file *file)
{
    struct inventory *inventory = argument;
    if (inventory->file_count == FILES)
        return MSHM_LIMIT;
    inventory->files[inventory->file_count++] = *file;
    return MSHM_OK;
}

static void
extent_add(struct inventory *inventory, uint32_t pid, data_location location)
{
    struct manifest_file *file = file_named(inventory, data_location_file(location));
    uint64_t offset = data_location_offset(location), size = data_location_size(location);
    if (file == NULL || size == 0 || offset + size > file->total) {
        sim_fail(inventory->world, "page %u: its record is outside of what the manifest names",
                 pid);
        return;
    }
    inventory->live[file - inventory->files] += size;
    if (inventory->extent_count == inventory->extent_capacity) {
        inventory->extent_capacity =
            inventory->extent_capacity != 0 ? inventory->extent_capacity * 2 : 256;
        inventory->extents =
            realloc(inventory->extents, inventory->extent_capacity * sizeof *inventory->extents);
    }
    inventory->extents[inventory->extent_count++] =
        (struct extent){data_location_file(location), offset, size};
}

/* The records below the newest one, as that one says, once it has been checked. */
static void
older_add(struct inventory *inventory, uint32_t pid, data_location location)
{
    struct core *core = inventory->world->core;
    data_location older[DATA_CHAIN_MAX];
    const char *why = "";
    uint32_t size = data_location_size(location);
    void *record = aligned_alloc(DATA_UNIT, size);
    int status = data_read(core->data, location, 0, record, size);
    if (status == MSHM_OK)
        status = page_record_check(record, size, location, core->manifest.database_id, pid, &why);
    if (status != MSHM_OK)
        sim_fail(inventory->world, "page %u: its record cannot be read: %d %s", pid, status, why);
    else
        page_record_older(record, older);
    free(record);
    for (unsigned i = 0; i < data_location_older(location) && status == MSHM_OK; i++)
        extent_add(inventory, pid, older[i]);
}

static int
each_page(void *argument, uint32_t pid, data_location location)
{
    struct inventory *inventory = argument;
    extent_add(inventory, pid, location);
    inventory->world->statistics.deltas += data_location_older(location) > 0;
    if (data_location_older(location) > 0 && !inventory->world->failed)
        older_add(inventory, pid, location);
    return MSHM_OK;
}

static int
extent_compare(const void *a, const void *b)
{
    const struct extent *left = a, *right = b;
    if (left->file != right->file)
        return left->file < right->file ? -1 : 1;
    return left->offset < right->offset ? -1 : left->offset > right->offset;
}

static void
extents_check(struct inventory *inventory)
{
    struct extent *extents = inventory->extents;
    if (extents != NULL)
        qsort(extents, inventory->extent_count, sizeof *extents, extent_compare);
    for (uint64_t i = 1; i < inventory->extent_count; i++)
        if (extents[i].file == extents[i - 1].file &&
            extents[i].offset < extents[i - 1].offset + extents[i - 1].size)
            sim_fail(inventory->world, "two records overlap in data file %u at %llu",
                     extents[i].file, (unsigned long long)extents[i].offset);
    for (uint32_t i = 0; i < inventory->file_count; i++)
        if (inventory->files[i].live != inventory->live[i])
            sim_fail(inventory->world, "data file %u: %llu bytes are live, the manifest says %llu",
                     inventory->files[i].number, (unsigned long long)inventory->live[i],
                     (unsigned long long)inventory->files[i].live);
}

/* Taken out of the manifest, and waiting to be removed. */
static bool
file_goes(const struct checkpoint *checkpoint, uint32_t number)
{
    for (uint32_t i = 0; i < checkpoint->removal_count; i++)
        if (checkpoint->removals[i] == number)
            return true;
    for (uint32_t i = 0; checkpoint->working && i < checkpoint->removing_count; i++)
        if (checkpoint->removing[i] == number)
            return true;
    return false;
}

static int
each_data(const char *entry, void *argument)
{
    struct inventory *inventory = argument;
    uint32_t number;
    if (inventory->world->untidy)
        return 0;
    if (!data_name_parse(entry, &number))
        sim_fail(inventory->world, "a file \"data/%s\"", entry);
    else if (file_named(inventory, number) == NULL &&
             !file_goes(inventory->world->core->checkpoint, number))
        sim_fail(inventory->world, "data file %u is there and nobody names it", number);
    return 0;
}

static int
each_top(const char *entry, void *argument)
{
    struct inventory *inventory = argument;
    char name[MANIFEST_NAME_SIZE];
    if (inventory->world->untidy)
        return 0;
    manifest_name(name, inventory->world->core->manifest.number);
    if (strncmp(entry, "MANIFEST-", 9) == 0 && strcmp(entry, name) != 0)
        sim_fail(inventory->world, "\"%s\" is there beside \"%s\"", entry, name);
    if (strcmp(entry, "CURRENT.tmp") == 0)
        sim_fail(inventory->world, "CURRENT.tmp was left");
    return 0;
}

static int
each_segment(const char *entry, void *argument)
{
    struct inventory *inventory = argument;
    uint64_t number;
    if (!wal_segment_parse(entry, &number) && !inventory->world->untidy)
        sim_fail(inventory->world, "a file \"wal/%s\"", entry);
    inventory->segments++;
    return 0;
}

static void
files_check(struct inventory *inventory)
{
    struct sim_world *world = inventory->world;
    struct sim_disk *disk = sim_env_disk(world->sim);
    char name[DATA_NAME_SIZE];
    for (uint32_t i = 0; i < inventory->file_count; i++) {
        data_name(name, inventory->files[i].number);
        struct sim_inode *inode = sim_disk_find(disk, name);
        if (inode == NULL)
            sim_fail(world, "data file %u is missing", inventory->files[i].number);
        else if (inode->size < inventory->files[i].total)
            sim_fail(world, "data file %u is shorter than the manifest says",
                     inventory->files[i].number);
    }
    sim_disk_list(disk, "data", each_data, inventory);
    sim_disk_list(disk, "", each_top, inventory);
    sim_disk_list(disk, "wal", each_segment, inventory);
    if (inventory->segments > WAL_FILES)
        sim_fail(world, "%u log segments are kept", inventory->segments);
}

void
sim_check_files(struct sim_world *world)
{
    struct inventory *inventory = calloc(1, sizeof *inventory);
    const struct manifest_visitor visitor = {
        .argument = inventory, .page = each_page, .file = each_file};
    struct manifest manifest;
    char why[256] = "";
    inventory->world = world;
    inventory->env = sim_env_interface(world->sim);
    bool looking = sim_env_set_looking(world->sim, true);
    int status = manifest_load(inventory->env, &manifest, &visitor, why, sizeof why);
    if (status != MSHM_OK)
        sim_fail(world, "the manifest cannot be read: %d %s", status, why);
    else if (manifest.number != world->core->manifest.number ||
             manifest.sequence != world->core->manifest.sequence)
        sim_fail(world, "the manifest on disk is not the one in memory");
    if (!world->failed) {
        extents_check(inventory);
        files_check(inventory);
    }
    sim_env_set_looking(world->sim, looking);
    free(inventory->extents);
    free(inventory);
}
