#include "sim/sim_disk.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

uint64_t
sim_random_next(struct sim_random *random)
{
    uint64_t z = random->state += UINT64_C(0x9e3779b97f4a7c15);
    z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
    return z ^ z >> 31;
}

uint64_t
sim_random_below(struct sim_random *random, uint64_t bound)
{
    return sim_random_next(random) % bound;
}

bool
sim_random_chance(struct sim_random *random, unsigned percent)
{
    return sim_random_below(random, 100) < percent;
}

struct name {
    char text[SIM_NAME_MAX];
    struct sim_inode *current, *durable; /* NULL: not there */
    bool directory, durable_directory;
};

/* One change of one name that no directory sync has covered; changes of the same step happen together or not at all. */
struct change {
    size_t name;
    struct sim_inode *inode;
    bool directory;
    uint64_t step;
};

struct sim_disk {
    struct sim_random *random;
    struct name *names;
    size_t name_count, name_capacity;
    struct change *changes;
    size_t change_count, change_capacity;
    uint64_t step;
    struct sim_inode **inodes;
    size_t inode_count, inode_capacity;
};

static void *
grow(void *list, size_t count, size_t *capacity, size_t size)
{
    if (count < *capacity)
        return list;
    *capacity = *capacity != 0 ? *capacity * 2 : 16;
    list = realloc(list, *capacity * size);
    assert(list != NULL);
    return list;
}

/* --- inodes --- */

static struct sim_inode *
inode_create(struct sim_disk *disk)
{
    struct sim_inode *inode = calloc(1, sizeof *inode);
    assert(inode != NULL);
    disk->inodes =
        grow(disk->inodes, disk->inode_count, &disk->inode_capacity, sizeof *disk->inodes);
    disk->inodes[disk->inode_count++] = inode;
    return inode;
}

static void
inode_free(struct sim_inode *inode)
{
    for (uint64_t i = 0; i < inode->capacity / SIM_SECTOR; i++)
        free(inode->lost[i]);
    free(inode->lost);
    free(inode->cache);
    free(inode->durable);
    free(inode);
}

void
sim_inode_hold(struct sim_inode *inode)
{
    if (inode != NULL)
        inode->references++;
}

void
sim_inode_release(struct sim_disk *disk, struct sim_inode *inode)
{
    if (inode == NULL || --inode->references > 0)
        return;
    for (size_t i = 0; i < disk->inode_count; i++) {
        if (disk->inodes[i] == inode) {
            disk->inodes[i] = disk->inodes[--disk->inode_count];
            break;
        }
    }
    inode_free(inode);
}

void
sim_inode_reserve(struct sim_inode *inode, uint64_t size)
{
    size = (size + SIM_SECTOR - 1) / SIM_SECTOR * SIM_SECTOR;
    if (size <= inode->capacity)
        return;
    assert(!inode->mapped);
    uint64_t old = inode->capacity;
    inode->cache = realloc(inode->cache, size);
    inode->durable = realloc(inode->durable, size);
    inode->lost = realloc(inode->lost, size / SIM_SECTOR * sizeof *inode->lost);
    assert(inode->cache != NULL && inode->durable != NULL && inode->lost != NULL);
    memset(inode->cache + old, 0, size - old);
    memset(inode->durable + old, 0, size - old);
    for (uint64_t i = old / SIM_SECTOR; i < size / SIM_SECTOR; i++)
        inode->lost[i] = NULL;
    inode->capacity = size;
}

void
sim_inode_write(struct sim_inode *inode, uint64_t offset, const void *from, size_t size)
{
    if (size == 0)
        return;
    sim_inode_reserve(inode, offset + size);
    memcpy(inode->cache + offset, from, size);
    for (uint64_t i = offset / SIM_SECTOR; i <= (offset + size - 1) / SIM_SECTOR; i++) {
        free(inode->lost[i]); /* rewritten: dirty again */
        inode->lost[i] = NULL;
    }
    if (offset + size > inode->size)
        inode->size = offset + size;
}

static bool
sector_dirty(const struct sim_inode *inode, uint64_t sector)
{
    const uint8_t *cache = inode->cache + sector * SIM_SECTOR;
    if (memcmp(cache, inode->durable + sector * SIM_SECTOR, SIM_SECTOR) == 0)
        return false;
    return inode->lost[sector] == NULL || memcmp(cache, inode->lost[sector], SIM_SECTOR) != 0;
}

/* --- syncs --- */

void
sim_sync_begin(struct sim_inode *inode, struct sim_snapshot *snapshot)
{
    size_t capacity = 0;
    *snapshot = (struct sim_snapshot){.size = inode->size};
    for (uint64_t sector = 0; sector < inode->capacity / SIM_SECTOR; sector++) {
        if (!sector_dirty(inode, sector))
            continue;
        snapshot->copies =
            grow(snapshot->copies, snapshot->count, &capacity, sizeof *snapshot->copies);
        struct sim_sector_copy *copy = &snapshot->copies[snapshot->count++];
        copy->sector = sector;
        copy->written = false;
        memcpy(copy->bytes, inode->cache + sector * SIM_SECTOR, SIM_SECTOR);
    }
    assert(inode->snapshot == NULL);
    inode->snapshot = snapshot;
}

void
sim_sync_forget(struct sim_inode *inode, struct sim_snapshot *snapshot)
{
    inode->snapshot = NULL;
    free(snapshot->copies);
    *snapshot = (struct sim_snapshot){0};
}

void
sim_sync_end(struct sim_inode *inode, struct sim_snapshot *snapshot)
{
    for (size_t i = 0; i < snapshot->count; i++) {
        const struct sim_sector_copy *copy = &snapshot->copies[i];
        if (!copy->written)
            memcpy(inode->durable + copy->sector * SIM_SECTOR, copy->bytes, SIM_SECTOR);
    }
    inode->durable_size = snapshot->size;
    sim_sync_forget(inode, snapshot);
}

void
sim_sync_fail(struct sim_disk *disk, struct sim_inode *inode, struct sim_snapshot *snapshot)
{
    for (size_t i = 0; i < snapshot->count; i++) {
        const struct sim_sector_copy *copy = &snapshot->copies[i];
        if (copy->written)
            continue;
        if (sim_random_chance(disk->random, 30)) {
            memcpy(inode->durable + copy->sector * SIM_SECTOR, copy->bytes, SIM_SECTOR);
            continue;
        }
        free(inode->lost[copy->sector]);
        inode->lost[copy->sector] = malloc(SIM_SECTOR);
        assert(inode->lost[copy->sector] != NULL);
        memcpy(inode->lost[copy->sector], copy->bytes, SIM_SECTOR);
    }
    sim_sync_forget(inode, snapshot);
}

static void
sector_write_back(struct sim_inode *inode, uint64_t sector)
{
    memcpy(inode->durable + sector * SIM_SECTOR, inode->cache + sector * SIM_SECTOR, SIM_SECTOR);
    if (inode->snapshot == NULL)
        return;
    for (size_t i = 0; i < inode->snapshot->count; i++)
        if (inode->snapshot->copies[i].sector == sector)
            inode->snapshot->copies[i].written = true;
}

void
sim_disk_write_back(struct sim_disk *disk)
{
    if (disk->inode_count == 0)
        return;
    struct sim_inode *inode = disk->inodes[sim_random_below(disk->random, disk->inode_count)];
    unsigned percent = (unsigned)sim_random_below(disk->random, 60);
    for (uint64_t sector = 0; sector < inode->capacity / SIM_SECTOR; sector++)
        if (sector_dirty(inode, sector) && sim_random_chance(disk->random, percent))
            sector_write_back(inode, sector);
}

void
sim_disk_rot(struct sim_inode *inode, uint64_t offset, unsigned bit)
{
    assert(offset < inode->capacity);
    inode->cache[offset] ^= (uint8_t)(1u << bit);
    inode->durable[offset] ^= (uint8_t)(1u << bit);
}

/* --- names --- */

static struct name *
name_find(struct sim_disk *disk, const char *text, bool make)
{
    for (size_t i = 0; i < disk->name_count; i++)
        if (strcmp(disk->names[i].text, text) == 0)
            return &disk->names[i];
    if (!make)
        return NULL;
    assert(strlen(text) < SIM_NAME_MAX);
    disk->names = grow(disk->names, disk->name_count, &disk->name_capacity, sizeof *disk->names);
    struct name *name = &disk->names[disk->name_count++];
    *name = (struct name){0};
    strcpy(name->text, text);
    return name;
}

/* The directory of a name: "" for the top level. */
static void
name_parent(const char *text, char parent[SIM_NAME_MAX])
{
    const char *slash = strrchr(text, '/');
    size_t length = slash != NULL ? (size_t)(slash - text) : 0;
    memcpy(parent, text, length);
    parent[length] = '\0';
}

static bool
parent_exists(struct sim_disk *disk, const char *text)
{
    char parent[SIM_NAME_MAX];
    name_parent(text, parent);
    return parent[0] == '\0' || sim_disk_is_directory(disk, parent);
}

static void
name_set(struct sim_disk *disk, struct name *name, struct sim_inode *inode, bool directory)
{
    sim_inode_hold(inode);
    sim_inode_hold(inode); /* one for the name, one for the journal */
    sim_inode_release(disk, name->current);
    name->current = inode;
    name->directory = directory;
    disk->changes =
        grow(disk->changes, disk->change_count, &disk->change_capacity, sizeof *disk->changes);
    disk->changes[disk->change_count++] =
        (struct change){(size_t)(name - disk->names), inode, directory, disk->step};
}

struct sim_inode *
sim_disk_find(struct sim_disk *disk, const char *name)
{
    struct name *found = name_find(disk, name, false);
    return found != NULL ? found->current : NULL;
}

bool
sim_disk_is_directory(struct sim_disk *disk, const char *name)
{
    struct name *found = name_find(disk, name, false);
    return name[0] == '\0' || (found != NULL && found->directory);
}

int
sim_disk_create_file(struct sim_disk *disk, const char *name, struct sim_inode **inode)
{
    if (!parent_exists(disk, name))
        return -ENOENT;
    struct name *made = name_find(disk, name, true);
    if (made->current != NULL || made->directory)
        return -EEXIST;
    *inode = inode_create(disk);
    disk->step++;
    name_set(disk, made, *inode, false);
    return 0;
}

struct sim_inode *
sim_disk_create_unnamed(struct sim_disk *disk)
{
    return inode_create(disk);
}

int
sim_disk_rename(struct sim_disk *disk, const char *from, const char *to)
{
    struct name *source = name_find(disk, from, false);
    if (source == NULL || source->current == NULL || !parent_exists(disk, to))
        return -ENOENT;
    struct sim_inode *inode = source->current;
    struct name *target = name_find(disk, to, true); /* may move the names */
    disk->step++;
    name_set(disk, target, inode, false);
    name_set(disk, name_find(disk, from, false), NULL, false);
    return 0;
}

int
sim_disk_remove(struct sim_disk *disk, const char *name)
{
    struct name *found = name_find(disk, name, false);
    if (found == NULL || found->current == NULL)
        return -ENOENT;
    disk->step++;
    name_set(disk, found, NULL, false);
    return 0;
}

int
sim_disk_create_directory(struct sim_disk *disk, const char *name)
{
    struct name *made = name_find(disk, name, true);
    if (made->directory)
        return 0;
    disk->step++;
    name_set(disk, made, NULL, true);
    return 0;
}

int
sim_disk_list(struct sim_disk *disk, const char *directory,
              int (*each)(const char *name, void *argument), void *argument)
{
    if (!sim_disk_is_directory(disk, directory))
        return -ENOENT;
    for (size_t i = 0; i < disk->name_count; i++) {
        const struct name *name = &disk->names[i];
        char parent[SIM_NAME_MAX];
        name_parent(name->text, parent);
        if ((name->current == NULL && !name->directory) || strcmp(parent, directory) != 0)
            continue;
        const char *slash = strrchr(name->text, '/');
        int result = each(slash != NULL ? slash + 1 : name->text, argument);
        if (result != 0)
            return result;
    }
    return 0;
}

static void
change_apply(struct sim_disk *disk, const struct change *change)
{
    struct name *name = &disk->names[change->name];
    sim_inode_hold(change->inode);
    sim_inode_release(disk, name->durable);
    name->durable = change->inode;
    name->durable_directory = change->directory;
}

void
sim_disk_sync_directory(struct sim_disk *disk, const char *directory)
{
    size_t kept = 0;
    for (size_t i = 0; i < disk->change_count; i++) {
        struct change change = disk->changes[i];
        char parent[SIM_NAME_MAX];
        name_parent(disk->names[change.name].text, parent);
        if (strcmp(parent, directory) != 0) {
            disk->changes[kept++] = change;
            continue;
        }
        change_apply(disk, &change);
        sim_inode_release(disk, change.inode);
    }
    disk->change_count = kept;
}

int
sim_disk_flip(struct sim_disk *disk, const char *name, uint64_t offset, unsigned bit)
{
    struct sim_inode *inode = sim_disk_find(disk, name);
    if (inode == NULL)
        return -ENOENT;
    if (offset >= inode->size)
        return -EINVAL;
    sim_disk_rot(inode, offset, bit);
    return 0;
}

/* --- life and death --- */

struct sim_disk *
sim_disk_create(struct sim_random *random)
{
    struct sim_disk *disk = calloc(1, sizeof *disk);
    assert(disk != NULL);
    disk->random = random;
    return disk;
}

void
sim_disk_destroy(struct sim_disk *disk)
{
    if (disk == NULL)
        return;
    for (size_t i = 0; i < disk->inode_count; i++)
        inode_free(disk->inodes[i]);
    free(disk->inodes);
    free(disk->names);
    free(disk->changes);
    free(disk);
}

/* What each name leads to after the cut: by a journal (a number of first steps), or each name for itself. */
static void
names_cut(struct sim_disk *disk, struct sim_inode **chosen, bool *directories)
{
    bool journal = sim_random_chance(disk->random, 50);
    uint64_t first = disk->change_count > 0 ? disk->changes[0].step : 0;
    uint64_t until = first + sim_random_below(disk->random, disk->step - first + 2);
    for (size_t i = 0; i < disk->name_count; i++) {
        const struct name *name = &disk->names[i];
        bool newer = !journal && sim_random_chance(disk->random, 50);
        chosen[i] = newer ? name->current : name->durable;
        directories[i] = newer ? name->directory : name->durable_directory;
    }
    for (size_t i = 0; journal && i < disk->change_count; i++) {
        const struct change *change = &disk->changes[i];
        if (change->step < until) {
            chosen[change->name] = change->inode;
            directories[change->name] = change->directory;
        }
    }
}

static const uint8_t *
sector_version(struct sim_disk *disk, const struct sim_inode *inode, uint64_t sector,
               unsigned percent)
{
    const uint8_t *durable = inode->durable + sector * SIM_SECTOR;
    if (!sector_dirty(inode, sector))
        return durable;
    if (!sim_random_chance(disk->random, percent))
        return durable;
    if (inode->snapshot != NULL && sim_random_chance(disk->random, 50))
        for (size_t i = 0; i < inode->snapshot->count; i++)
            if (inode->snapshot->copies[i].sector == sector && !inode->snapshot->copies[i].written)
                return inode->snapshot->copies[i].bytes;
    return inode->cache + sector * SIM_SECTOR;
}

static void
inode_cut(struct sim_disk *disk, const struct sim_inode *inode, struct sim_inode *after)
{
    static const unsigned shares[] = {0, 10, 50, 90, 100};
    unsigned percent = shares[sim_random_below(disk->random, 5)];
    sim_inode_reserve(after, inode->capacity);
    after->size = inode->durable_size;
    if (inode->size != inode->durable_size && sim_random_chance(disk->random, 50))
        after->size = inode->size;
    for (uint64_t sector = 0; sector < inode->capacity / SIM_SECTOR; sector++)
        memcpy(after->cache + sector * SIM_SECTOR, sector_version(disk, inode, sector, percent),
               SIM_SECTOR);
    if (after->size < after->capacity)
        memset(after->cache + after->size, 0, after->capacity - after->size);
    if (after->capacity > 0)
        memcpy(after->durable, after->cache, after->capacity);
    after->durable_size = after->size;
}

static void
inode_copy(const struct sim_inode *inode, struct sim_inode *after)
{
    sim_inode_reserve(after, inode->capacity);
    if (inode->capacity > 0) {
        memcpy(after->cache, inode->cache, inode->capacity);
        memcpy(after->durable, inode->durable, inode->capacity);
    }
    after->size = inode->size;
    after->durable_size = inode->durable_size;
    for (uint64_t sector = 0; sector < inode->capacity / SIM_SECTOR; sector++) {
        if (inode->lost[sector] == NULL)
            continue;
        after->lost[sector] = malloc(SIM_SECTOR);
        assert(after->lost[sector] != NULL);
        memcpy(after->lost[sector], inode->lost[sector], SIM_SECTOR);
    }
}

/* The inode of the new disk that stands for one of the old: `map` is parallel to the old disk's list. */
static struct sim_inode *
inode_survivor(struct sim_disk *disk, struct sim_disk *after, struct sim_inode **map,
               struct sim_inode *inode, bool power_cut)
{
    if (inode == NULL)
        return NULL;
    size_t i = 0;
    while (disk->inodes[i] != inode)
        i++;
    if (map[i] == NULL) {
        map[i] = inode_create(after);
        if (power_cut)
            inode_cut(disk, inode, map[i]);
        else
            inode_copy(inode, map[i]);
    }
    return map[i];
}

static void
name_copy(struct sim_disk *after, const struct name *name, struct sim_inode *current,
          bool directory, struct sim_inode *durable, bool durable_directory)
{
    struct name *copy = name_find(after, name->text, true);
    copy->current = current;
    copy->directory = directory;
    copy->durable = durable;
    copy->durable_directory = durable_directory;
    sim_inode_hold(current);
    sim_inode_hold(durable);
}

static struct sim_disk *
survivor_of_kill(struct sim_disk *disk, struct sim_disk *after, struct sim_inode **map)
{
    for (size_t i = 0; i < disk->name_count; i++) {
        const struct name *name = &disk->names[i];
        name_copy(after, name, inode_survivor(disk, after, map, name->current, false),
                  name->directory, inode_survivor(disk, after, map, name->durable, false),
                  name->durable_directory);
    }
    after->step = disk->step;
    for (size_t i = 0; i < disk->change_count; i++) {
        struct change change = disk->changes[i];
        change.inode = inode_survivor(disk, after, map, change.inode, false);
        sim_inode_hold(change.inode);
        after->changes = grow(after->changes, after->change_count, &after->change_capacity,
                              sizeof *after->changes);
        after->changes[after->change_count++] = change;
    }
    return after;
}

static struct sim_disk *
survivor_of_cut(struct sim_disk *disk, struct sim_disk *after, struct sim_inode **map)
{
    struct sim_inode **chosen = calloc(disk->name_count + 1, sizeof *chosen);
    bool *directories = calloc(disk->name_count + 1, sizeof *directories);
    assert(chosen != NULL && directories != NULL);
    names_cut(disk, chosen, directories);
    for (int round = 0; round < 2; round++) { /* directories first: a file without one is gone */
        for (size_t i = 0; i < disk->name_count; i++) {
            const struct name *name = &disk->names[i];
            if (directories[i] != (round == 0) || (round == 1 && chosen[i] == NULL))
                continue;
            if (!parent_exists(after, name->text))
                continue;
            struct sim_inode *inode = inode_survivor(disk, after, map, chosen[i], true);
            name_copy(after, name, inode, directories[i], inode, directories[i]);
        }
    }
    free(chosen);
    free(directories);
    return after;
}

struct sim_disk *
sim_disk_survivor(struct sim_disk *disk, bool power_cut)
{
    struct sim_disk *after = sim_disk_create(disk->random);
    struct sim_inode **map = calloc(disk->inode_count + 1, sizeof *map);
    assert(map != NULL);
    if (power_cut)
        survivor_of_cut(disk, after, map);
    else
        survivor_of_kill(disk, after, map);
    free(map);
    return after;
}
