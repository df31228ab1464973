#include "wal_recycle.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "kill_point.h"
#include "mshm/status.h"

/* Unlinking large files takes a while, and the same job may be what a commit waits for. */
enum { TRIM_AT_ONCE = 4 };

struct listing {
    struct wal_released_list *list;
    uint64_t before;
};

static int
add_released(const char *entry, void *argument)
{
    struct listing *listing = argument;
    struct wal_released_list *list = listing->list;
    uint64_t number;
    if (!wal_segment_parse(entry, &number) || number >= listing->before)
        return 0;
    if (list->count == list->capacity) {
        uint32_t capacity = list->capacity != 0 ? list->capacity * 2 : 16;
        struct wal_released *entries = realloc(list->entries, capacity * sizeof *entries);
        if (entries == NULL)
            return -ENOMEM;
        list->entries = entries;
        list->capacity = capacity;
    }
    list->entries[list->count++] = (struct wal_released){.number = number};
    return 0;
}

/* The size of a segment that is what its name says, else 0. A file whose header has another number may be a later segment,
 * under an old name that a power cut brought back: taking the name away does no harm, writing to it would. */
static uint64_t
released_size(const struct env *env, uint64_t number)
{
    char name[WAL_NAME_SIZE];
    struct wal_segment_header header = {0};
    struct env_file *file;
    wal_segment_name(name, number, "log");
    if (env->file_open(env->context, name, ENV_OPEN_EXISTING, &file) != 0)
        return 0;
    int64_t size = env->file_size(env->context, file);
    int64_t have = env->file_read(env->context, file, 0, &header, sizeof header);
    env->file_close(env->context, file);
    bool usable = size > 0 && have == (int64_t)sizeof header &&
                  wal_header_check(&header) == MSHM_OK && header.segment == number;
    return usable ? (uint64_t)size : 0;
}

/* The largest first, and of equal ones the oldest. */
static int
compare_use(const void *a, const void *b)
{
    const struct wal_released *left = a, *right = b;
    if (left->size != right->size)
        return left->size > right->size ? -1 : 1;
    return left->number < right->number ? -1 : left->number > right->number;
}

void
wal_released_init(struct wal_released_list *list, const struct env *env, uint64_t before,
                  uint64_t least, uint64_t most)
{
    *list = (struct wal_released_list){0};
    struct listing listing = {list, before};
    if (before == 0)
        return;
    (void)env->directory_list(env->context, "wal", add_released, &listing);
    for (uint32_t i = 0; i < list->count; i++) {
        uint64_t size = released_size(env, list->entries[i].number);
        list->entries[i].size = size >= least && size <= most ? size : 0;
    }
    if (list->count > 1)
        qsort(list->entries, list->count, sizeof *list->entries, compare_use);
}

void
wal_released_fini(struct wal_released_list *list)
{
    free(list->entries);
    *list = (struct wal_released_list){0};
}

/* The old header is gone from the disk before the name changes. */
static int
released_invalidate(const struct env *env, const char *name, struct env_file **file)
{
    static const uint8_t zeros[WAL_RECORDS_AT];
    int result = env->file_open(env->context, name, ENV_OPEN_WRITE, file);
    if (result != 0)
        return result;
    result = env->file_write(env->context, *file, 0, zeros, sizeof zeros);
    if (result == 0)
        result = env->file_sync(env->context, *file);
    if (result != 0)
        env->file_close(env->context, *file);
    return result;
}

int
wal_released_recycle(struct wal_released_list *list, const struct env *env,
                     struct wal_segment *segment, uint64_t number, bool map)
{
    char former[WAL_NAME_SIZE], name[WAL_NAME_SIZE];
    struct env_file *file;
    if (list->count == 0 || list->entries[0].size == 0)
        return 1;
    const struct wal_released released = list->entries[0];
    memmove(list->entries, list->entries + 1, --list->count * sizeof *list->entries);
    wal_segment_name(former, released.number, "log");
    wal_segment_name(name, number, "log");
    if (released_invalidate(env, former, &file) != 0) {
        (void)env->file_remove(env->context,
                               former); /* a file that cannot be written is no spare */
        return 1;
    }
    MACE_KILL_POINT("wal:recycle_invalidated");
    if (env->file_rename(env->context, former, name) != 0) {
        env->file_close(env->context, file);
        return 1;
    }
    MACE_KILL_POINT("wal:recycle_renamed");
    int result = env->directory_sync(env->context, "wal");
    if (result != 0) {
        env->file_close(env->context, file);
        (void)env->file_remove(env->context, name);
        return result;
    }
    *segment = wal_segment_ready(env, number, file, released.size, map);
    MACE_KILL_POINT("wal:recycle_synced");
    return 0;
}

uint32_t
wal_released_trim(struct wal_released_list *list, const struct env *env, uint32_t spares,
                  bool *more)
{
    uint32_t kept = 0, removed = 0, tried = 0;
    *more = false;
    for (uint32_t i = 0; i < list->count && !*more; i++) {
        char name[WAL_NAME_SIZE];
        if (list->entries[i].size != 0 && kept < spares) {
            kept++;
            continue;
        }
        if (tried++ == TRIM_AT_ONCE) {
            *more = removed > 0; /* what cannot be removed waits for the next release */
            break;
        }
        wal_segment_name(name, list->entries[i].number, "log");
        if (env->file_remove(env->context, name) != 0)
            continue;
        removed++;
        MACE_KILL_POINT("wal:released_removed");
    }
    if (removed > 0)
        (void)env->directory_sync(env->context, "wal");
    return removed;
}
