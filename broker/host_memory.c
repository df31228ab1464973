/* host_memory.c - memory limits. */
#include "host_memory.h"

#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "mshm/status.h"

#define MEMORY_GRAIN (UINT64_C(2) << 20)
#define MEMORY_LEAST (UINT64_C(2) << 20)
/* Log buffers, tables, the arenas of a few sessions, the program itself. */
#define MEMORY_OWN (UINT64_C(32) << 20)
#define MEMORY_DEFAULT (UINT64_C(256) << 20) /* when the machine does not say */

static uint64_t
memory_read_number(const char *path)
{
    char text[64];
    uint64_t value = 0;
    FILE *file = fopen(path, "re");

    if (file == NULL)
        return 0;
    if (fgets(text, sizeof(text), file) != NULL && text[0] >= '0' && text[0] <= '9')
        value = strtoull(text, NULL, 10);
    fclose(file);
    return value; /* 0 also for "max" */
}

static void
memory_lower(uint64_t *limit, uint64_t value)
{
    if (value != 0 && (*limit == 0 || value < *limit))
        *limit = value;
}

/* A limit holds for everything below it: each directory from the group up to the mount is looked at. Inside a container
 * the group's path may not exist under the mount, whose top is then the container's own group. */
static void
memory_walk(const char *root, const char *mount, const char *group, const char *name,
            uint64_t *limit)
{
    char path[PATH_MAX], file[PATH_MAX + 64];

    if (strstr(group, "..") != NULL)
        group = "/";
    if (snprintf(path, sizeof(path), "%s%s%s", root, mount, group) >= (int)sizeof(path))
        return;
    size_t top = strlen(root) + strlen(mount);
    for (;;) {
        snprintf(file, sizeof(file), "%s/%s", path, name);
        memory_lower(limit, memory_read_number(file));
        char *slash = strrchr(path, '/');
        if (slash == NULL || (size_t)(slash - path) < top)
            return;
        *slash = '\0';
    }
}

static bool
memory_has_controller(const char *controllers, size_t size)
{
    for (const char *at = controllers; at < controllers + size;) {
        size_t word = strcspn(at, ",:");
        if (word == strlen("memory") && memcmp(at, "memory", word) == 0)
            return true;
        at += word + 1;
    }
    return false;
}

/* Lines of /proc/self/cgroup: "4:memory:/group" in version 1, "0::/group" in version 2. */
static void
memory_groups(const char *root, uint64_t *limit)
{
    char path[PATH_MAX], line[PATH_MAX + 64];

    snprintf(path, sizeof(path), "%s/proc/self/cgroup", root);
    FILE *file = fopen(path, "re");
    if (file == NULL)
        return;
    while (fgets(line, sizeof(line), file) != NULL) {
        line[strcspn(line, "\n")] = '\0';
        char *controllers = strchr(line, ':');
        char *group = controllers == NULL ? NULL : strchr(controllers + 1, ':');
        if (group == NULL)
            continue;
        controllers++;
        group++;
        if (controllers + 1 == group)
            memory_walk(root, "/sys/fs/cgroup", group, "memory.max", limit);
        else if (memory_has_controller(controllers, (size_t)(group - 1 - controllers)))
            memory_walk(root, "/sys/fs/cgroup/memory", group, "memory.limit_in_bytes", limit);
    }
    fclose(file);
}

uint64_t
host_memory_limit(const char *root)
{
    char path[PATH_MAX], line[256];
    unsigned long long kilobytes;
    uint64_t limit = 0;

    snprintf(path, sizeof(path), "%s/proc/meminfo", root);
    FILE *file = fopen(path, "re");
    if (file != NULL) {
        while (fgets(line, sizeof(line), file) != NULL)
            if (sscanf(line, "MemTotal: %llu kB", &kilobytes) == 1)
                memory_lower(&limit, (uint64_t)kilobytes << 10);
        fclose(file);
    }
    memory_groups(root, &limit);
    return limit;
}

int
host_memory_cache(uint64_t wanted, uint64_t limit, uint64_t *result, char *why, size_t why_size)
{
    uint64_t cache = wanted;

    if (wanted == 0)
        cache = limit == 0 ? MEMORY_DEFAULT : limit / 4;
    cache = cache / MEMORY_GRAIN * MEMORY_GRAIN;
    if (cache < MEMORY_LEAST)
        cache = MEMORY_LEAST;
    /* One part in 64 covers hints, page map and the broker's tables of frames. */
    uint64_t need = cache + cache / 64 + MEMORY_OWN;
    if (limit != 0 && need > limit) {
        snprintf(
            why, why_size,
            "a cache of %llu MiB needs %llu MiB of memory, and the machine or its control group "
            "allows %llu MiB; ask for less with --cache",
            (unsigned long long)(cache >> 20), (unsigned long long)(need >> 20),
            (unsigned long long)(limit >> 20));
        return MSHM_NO_MEMORY;
    }
    *result = cache;
    return MSHM_OK;
}

bool
host_memory_caches_more(uint64_t limit, uint64_t cache)
{
    return limit == 0 || (limit > MEMORY_OWN && (limit - MEMORY_OWN) / 2 > cache);
}
