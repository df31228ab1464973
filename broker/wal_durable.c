/* wal_durable.c - what recovery does to the files of a log that it has read: makes them durable, removes the dead. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "env_status.h"
#include "kill_point.h"
#include "wal.h"
#include "wal_lineage.h"
#include "wal_segment.h"

enum { REWRITE_BYTES = 1024 * 1024 /* at once */ };

int
wal_make_durable(const struct env *env, uint64_t first_segment, uint64_t last_segment)
{
    for (uint64_t number = first_segment; number <= last_segment && number != 0; number++) {
        char name[WAL_NAME_SIZE];
        struct env_file *file;
        wal_segment_name(name, number, "log");
        int result = env->file_open(env->context, name, ENV_OPEN_WRITE, &file);
        if (result == -ENOENT)
            continue; /* a dead one that was removed */
        if (result == 0) {
            result = env->file_sync(env->context, file);
            env->file_close(env->context, file);
        }
        if (result != 0)
            return env_status(result);
    }
    int result = env->directory_sync(env->context, "wal");
    if (result == 0)
        result = env->directory_sync(env->context, "");
    return env_status(result);
}

static int
rewrite_range(const struct env *env, uint64_t number, uint64_t from, uint64_t to)
{
    char name[WAL_NAME_SIZE];
    struct env_file *file;
    wal_segment_name(name, number, "log");
    int64_t result = env->file_open(env->context, name, ENV_OPEN_WRITE, &file);
    if (result != 0)
        return env_status(result);
    if (to == UINT64_MAX) {
        result = env->file_size(env->context, file);
        to = result > 0 ? (uint64_t)result : from;
    }
    void *bytes = malloc(REWRITE_BYTES);
    if (result >= 0 && bytes == NULL)
        result = -ENOMEM;
    while (result >= 0 && from < to) {
        uint64_t piece = to - from < REWRITE_BYTES ? to - from : REWRITE_BYTES;
        result = env->file_read(env->context, file, from, bytes, piece);
        if (result <= 0)
            break;
        from += (uint64_t)result;
        result =
            env->file_write(env->context, file, from - (uint64_t)result, bytes, (size_t)result);
    }
    free(bytes);
    env->file_close(env->context, file);
    return env_status(result);
}

int
wal_rewrite(const struct env *env, const struct wal_end *end)
{
    struct wal_position from = end->known_durable, to = end->next.end;
    for (uint64_t number = from.segment; number != 0 && number <= to.segment; number++) {
        uint64_t low = number == from.segment ? from.offset : 0;
        uint64_t high = number == to.segment ? to.offset : UINT64_MAX;
        if (low >= high)
            continue; /* an end at the cut: its segment need not be there */
        int status = rewrite_range(env, number, low, high);
        if (status != MSHM_OK)
            return status;
    }
    return MSHM_OK;
}

struct removal {
    const struct env *env;
    char (*names)[WAL_NAME_SIZE];
    size_t count, capacity;
};

static int
add_unfinished(const char *entry, void *argument)
{
    struct removal *removal = argument;
    size_t length = strlen(entry);
    if (length < 4 || length + sizeof "wal/" > WAL_NAME_SIZE ||
        strcmp(entry + length - 4, ".tmp") != 0)
        return 0;
    if (removal->count == removal->capacity) {
        size_t capacity = removal->capacity != 0 ? removal->capacity * 2 : 16;
        void *names = realloc(removal->names, capacity * sizeof *removal->names);
        if (names == NULL)
            return -ENOMEM;
        removal->names = names;
        removal->capacity = capacity;
    }
    snprintf(removal->names[removal->count++], WAL_NAME_SIZE, "wal/%s", entry);
    return 0;
}

static bool
in_line(const struct wal_lineage *lineage, uint64_t number)
{
    for (uint32_t i = 0; i < lineage->line_count; i++)
        if (lineage->line[i]->number == number)
            return true;
    return false;
}

void
wal_remove_dead(const struct env *env, const uint8_t database_id[16], const struct wal_from *from)
{
    struct removal removal = {.env = env};
    struct wal_lineage lineage;
    if (env->directory_list(env->context, "wal", add_unfinished, &removal) == 0)
        for (size_t i = 0; i < removal.count; i++)
            (void)env->file_remove(env->context, removal.names[i]);
    free(removal.names);

    if (wal_lineage_init(&lineage, env, database_id, from, NULL, 0) == MSHM_OK) {
        for (uint32_t i = 0; i < lineage.found_count && lineage.line_count > 0; i++) {
            char name[WAL_NAME_SIZE];
            if (in_line(&lineage, lineage.found[i].number))
                continue;
            wal_segment_name(name, lineage.found[i].number, "log");
            if (env->file_remove(env->context, name) == 0)
                MACE_KILL_POINT("wal:released_removed");
        }
    }
    wal_lineage_fini(&lineage);
}
