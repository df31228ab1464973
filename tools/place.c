#include "place.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

static bool
is_dots(const char *name)
{
    return strcmp(name, ".") == 0 || strcmp(name, "..") == 0;
}

/* A stream of its own on an open directory; NULL and errno. */
static DIR *
directory_stream(int fd)
{
    int own = openat(fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *stream = own >= 0 ? fdopendir(own) : NULL;
    if (own >= 0 && stream == NULL)
        close(own);
    return stream;
}

static bool
is_empty(int fd)
{
    DIR *stream = directory_stream(fd);
    const struct dirent *entry;
    bool empty = stream != NULL;
    while (empty && (entry = readdir(stream)) != NULL)
        empty = is_dots(entry->d_name);
    if (stream != NULL)
        closedir(stream);
    return empty;
}

bool
place_free(const char *path)
{
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return errno == ENOENT;
    bool empty = is_empty(fd);
    close(fd);
    return empty;
}

int
place_take(struct place *place, const char *path)
{
    *place = (struct place){.directory = -1, .made = mkdir(path, 0700) == 0};
    if (!place->made && errno != EEXIST)
        return -errno;
    place->directory = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (place->directory < 0 || flock(place->directory, LOCK_EX | LOCK_NB) < 0)
        return -errno;
    if (!is_empty(place->directory))
        return -ENOTEMPTY;
    place->ours = true;
    return 0;
}

/* One level deep: a database has no more. */
static void
entries_remove(int fd, bool deeper)
{
    DIR *stream = directory_stream(fd);
    const struct dirent *entry;
    while (stream != NULL && (entry = readdir(stream)) != NULL) {
        if (is_dots(entry->d_name))
            continue;
        int room = deeper
                       ? openat(fd, entry->d_name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC)
                       : -1;
        if (room >= 0) {
            entries_remove(room, false);
            close(room);
        }
        unlinkat(fd, entry->d_name, room >= 0 ? AT_REMOVEDIR : 0);
    }
    if (stream != NULL)
        closedir(stream);
}

void
place_clear(struct place *place, const char *path)
{
    if (!place->ours)
        return;
    entries_remove(place->directory, true);
    if (place->made)
        rmdir(path);
    place->ours = false;
}

void
place_leave(struct place *place)
{
    if (place->directory >= 0)
        close(place->directory);
    place->directory = -1;
}
