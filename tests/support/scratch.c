/* scratch.c - directories of a test. */
#include "support/scratch.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "support/require.h"

void
scratch_create(char path[SCRATCH_PATH])
{
    const char *base = getenv("TMPDIR");

    snprintf(path, SCRATCH_PATH, "%s/mace-test-XXXXXX",
             base != NULL && base[0] != '\0' ? base : "/tmp");
    require(mkdtemp(path) != NULL, "%s: %s", path, strerror(errno));
}

static int
scratch_remove_entry(const char *path, const struct stat *status, int type, struct FTW *place)
{
    (void)status;
    (void)type;
    (void)place;
    remove(path);
    return 0;
}

void
scratch_remove(const char *path)
{
    nftw(path, scratch_remove_entry, 16, FTW_DEPTH | FTW_PHYS);
}

void
scratch_join(char joined[SCRATCH_PATH], const char *path, const char *name)
{
    int size = snprintf(joined, SCRATCH_PATH, "%s/%s", path, name);
    require(size > 0 && size < SCRATCH_PATH, "%s/%s is too long", path, name);
}

void
scratch_script(const char *path, const char *text)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0700);

    require(fd >= 0, "%s: %s", path, strerror(errno));
    require(write(fd, text, strlen(text)) == (ssize_t)strlen(text), "%s", strerror(errno));
    close(fd);
}

static void
scratch_copy_file(const char *from, const char *to)
{
    char bytes[65536];
    ssize_t size;
    int in = open(from, O_RDONLY | O_CLOEXEC);
    int out = open(to, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

    require(in >= 0 && out >= 0, "copy of %s to %s: %s", from, to, strerror(errno));
    while ((size = read(in, bytes, sizeof bytes)) > 0)
        require(write(out, bytes, (size_t)size) == size, "%s: %s", to, strerror(errno));
    require(size == 0, "%s: %s", from, strerror(errno));
    close(in);
    close(out);
}

void
scratch_copy(const char *from, const char *to)
{
    DIR *directory = opendir(from);
    struct dirent *entry;

    require(directory != NULL, "%s: %s", from, strerror(errno));
    require(mkdir(to, 0700) == 0, "%s: %s", to, strerror(errno));
    while ((entry = readdir(directory)) != NULL) {
        char source[SCRATCH_PATH], target[SCRATCH_PATH];
        struct stat status;
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
            continue;
        scratch_join(source, from, entry->d_name);
        scratch_join(target, to, entry->d_name);
        require(lstat(source, &status) == 0, "%s: %s", source, strerror(errno));
        if (S_ISDIR(status.st_mode))
            scratch_copy(source, target);
        else if (S_ISREG(status.st_mode))
            scratch_copy_file(source, target);
    }
    closedir(directory);
}
