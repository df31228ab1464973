#include "dpkg_file.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int
bytes_read(struct dpkg_file *file, const char *path)
{
    FILE *stream = fopen(path, "rb");
    if (stream == NULL) {
        perror(path);
        return -1;
    }
    size_t capacity = 0;
    for (;;) {
        if (capacity - file->size < 65536) {
            capacity = capacity == 0 ? 1 << 20 : capacity * 2;
            char *larger = realloc(file->bytes, capacity);
            if (larger == NULL)
                break;
            file->bytes = larger;
        }
        size_t got = fread(file->bytes + file->size, 1, capacity - file->size, stream);
        file->size += got;
        if (got == 0)
            break;
    }
    int failed = ferror(stream) || file->bytes == NULL || file->size == 0;
    fclose(stream);
    if (failed)
        fprintf(stderr, "%s: cannot be read, or is empty\n", path);
    return failed ? -1 : 0;
}

static size_t
line_size(const struct dpkg_file *file, size_t at)
{
    const char *end = memchr(file->bytes + at, '\n', file->size - at);
    return end == NULL ? file->size - at : (size_t)(end - (file->bytes + at)) + 1;
}

static struct dpkg_package *
package_add(struct dpkg_file *file, const char *name, size_t name_size)
{
    if ((file->count & (file->count - 1)) == 0) {
        size_t capacity = file->count == 0 ? 1 : file->count * 2;
        struct dpkg_package *larger = realloc(file->packages, capacity * sizeof *larger);
        if (larger == NULL)
            return NULL;
        file->packages = larger;
    }
    struct dpkg_package *package = &file->packages[file->count++];
    *package = (struct dpkg_package){.name = name, .name_size = name_size};
    return package;
}

static int
piece_add(struct dpkg_file *file, struct dpkg_package *package, size_t line, size_t number,
          const char *value, size_t value_size)
{
    if ((package->count & (package->count - 1)) == 0) {
        size_t capacity = package->count == 0 ? 1 : package->count * 2;
        struct dpkg_piece *larger = realloc(package->pieces, capacity * sizeof *larger);
        if (larger == NULL)
            return -1;
        package->pieces = larger;
    }
    char key[DPKG_KEY_MAX];
    int size = snprintf(key, sizeof key, "%.*s/%07zu/%zu", (int)package->name_size, package->name,
                        line, number);
    char *copy = size > 0 && (size_t)size < sizeof key ? strdup(key) : NULL;
    if (copy == NULL)
        return -1;
    package->pieces[package->count++] = (struct dpkg_piece){copy, (size_t)size, value, value_size};
    file->pieces++;
    return 0;
}

/* The name in the stanza that begins at `at`; a stanza without one is called "?". */
static const char *
stanza_name(const struct dpkg_file *file, size_t at, size_t *size)
{
    static const char field[] = "Package: ";
    while (at < file->size && file->bytes[at] != '\n') {
        size_t line = line_size(file, at);
        if (line > sizeof field && memcmp(file->bytes + at, field, sizeof field - 1) == 0) {
            *size = line - (sizeof field - 1) - 1;
            return file->bytes + at + sizeof field - 1;
        }
        at += line;
    }
    *size = 1;
    return "?";
}

int
dpkg_file_load(struct dpkg_file *file, const char *path)
{
    *file = (struct dpkg_file){0};
    if (bytes_read(file, path) != 0)
        return -1;
    struct dpkg_package *package = NULL;
    size_t number = 0;
    for (size_t at = 0; at < file->size;) {
        size_t size = line_size(file, at);
        if (package == NULL) {
            size_t name_size;
            const char *name = stanza_name(file, at, &name_size);
            package = package_add(file, name, name_size);
            if (package == NULL)
                goto no_memory;
        }
        size_t piece = 0;
        for (size_t done = 0; done < size; done += DPKG_PIECE) {
            size_t part = size - done < DPKG_PIECE ? size - done : DPKG_PIECE;
            if (piece_add(file, package, number, piece++, file->bytes + at + done, part) != 0)
                goto no_memory;
        }
        if (file->bytes[at] == '\n')
            package = NULL;
        at += size;
        number++;
    }
    return 0;
no_memory:
    fprintf(stderr, "%s: out of memory, or a name is too long\n", path);
    return -1;
}

void
dpkg_file_free(struct dpkg_file *file)
{
    for (size_t i = 0; i < file->count; i++) {
        for (size_t j = 0; j < file->packages[i].count; j++)
            free(file->packages[i].pieces[j].key);
        free(file->packages[i].pieces);
    }
    free(file->packages);
    free(file->bytes);
    *file = (struct dpkg_file){0};
}
