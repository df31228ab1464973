/* memory.c - memory figures out of /proc. */
#include "support/memory.h"

#include <dirent.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static uint64_t
status_field(pid_t pid, const char *name)
{
    char path[64], line[256];
    unsigned long long kilobytes = 0;
    size_t size = strlen(name);

    snprintf(path, sizeof path, "/proc/%d/status", (int)pid);
    FILE *file = fopen(path, "re");
    while (file != NULL && fgets(line, sizeof line, file) != NULL)
        if (strncmp(line, name, size) == 0 && line[size] == ':')
            sscanf(line + size + 1, "%llu", &kilobytes);
    if (file != NULL)
        fclose(file);
    return kilobytes * 1024;
}

/* A memfd counts once for all who map it: its blocks are the memory that it takes. */
static void
memory_add(struct memory *memory, const char *target, const struct stat *stat)
{
    uint64_t bytes = (uint64_t)stat->st_blocks * 512;

    if (strncmp(target, "/memfd:mace-session", 19) == 0)
        memory->sessions += bytes;
    else if (strncmp(target, "/memfd:", 7) == 0)
        memory->store += bytes;
}

int
memory_look(pid_t pid, struct memory *memory)
{
    char path[64], target[256];
    struct dirent *entry;
    struct stat stat;

    *memory = (struct memory){.anonymous = status_field(pid, "RssAnon"),
                              .files = status_field(pid, "RssFile"),
                              .peak = status_field(pid, "VmHWM")};
    snprintf(path, sizeof path, "/proc/%d/fd", (int)pid);
    DIR *directory = opendir(path);
    if (directory == NULL || memory->anonymous == 0)
        return 0;
    while ((entry = readdir(directory)) != NULL) {
        ssize_t size = readlinkat(dirfd(directory), entry->d_name, target, sizeof target - 1);
        target[size > 0 ? size : 0] = '\0';
        if (size > 0 && fstatat(dirfd(directory), entry->d_name, &stat, 0) == 0)
            memory_add(memory, target, &stat);
    }
    closedir(directory);
    return memory->store > 0;
}
