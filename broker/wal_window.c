/* wal_window.c - a log segment read piece by piece. See wal_window.h. */
#include "wal_window.h"

#include <stdlib.h>

#include "env_status.h"
#include "mshm/status.h"
#include "wal_segment.h"

enum { WINDOW_BYTES = 1024 * 1024 };

static void
file_close(struct wal_window *window)
{
    if (window->file != NULL)
        window->env->file_close(window->env->context, window->file);
    window->file = NULL;
}

int
wal_window_open(struct wal_window *window, const struct env *env, const struct wal_found *found)
{
    char name[WAL_NAME_SIZE];
    file_close(window);
    window->env = env;
    window->begin = window->have = 0;
    window->end = found->header.segment_size < found->file_size ? found->header.segment_size
                                                                : found->file_size;
    wal_segment_name(name, found->number, "log");
    int result = env->file_open(env->context, name, ENV_OPEN_EXISTING, &window->file);
    if (result != 0)
        window->file = NULL;
    return env_status(result);
}

void
wal_window_fini(struct wal_window *window)
{
    file_close(window);
    free(window->bytes);
    *window = (struct wal_window){0};
}

static int
capacity_reserve(struct wal_window *window, uint64_t size)
{
    uint64_t capacity = size < WINDOW_BYTES ? WINDOW_BYTES : size;
    if (capacity <= window->capacity)
        return MSHM_OK;
    free(window->bytes);
    window->capacity = 0;
    window->bytes = malloc(capacity);
    if (window->bytes == NULL)
        return MSHM_NO_MEMORY;
    window->capacity = capacity;
    return MSHM_OK;
}

int
wal_window_take(struct wal_window *window, uint64_t offset, uint64_t size, const uint8_t **bytes,
                uint64_t *available)
{
    uint64_t left = offset < window->end ? window->end - offset : 0;
    if (size > left)
        size = left;
    if (offset < window->begin || offset + size > window->begin + window->have) {
        window->have = 0; /* whatever comes of it */
        int status = capacity_reserve(window, size);
        if (status != MSHM_OK)
            return status;
        uint64_t piece = left < window->capacity ? left : window->capacity;
        int64_t result = piece == 0 ? 0
                                    : window->env->file_read(window->env->context, window->file,
                                                             offset, window->bytes, piece);
        if (result < 0)
            return env_status(result);
        window->begin = offset;
        window->have = (uint64_t)result;
        if ((uint64_t)result < piece) /* the file has become shorter */
            window->end = offset + (uint64_t)result;
    }
    *bytes = window->bytes != NULL ? window->bytes + (offset - window->begin) : NULL;
    *available = window->begin + window->have - offset;
    return MSHM_OK;
}
