/* dpkg_file.h - a package database cut into stanzas, lines and pieces: the real input of the quick start.
 *
 * Key: package name, "/", seven-digit line number in the file, "/", piece number. Value: a piece of that line, at most
 * DPKG_PIECE bytes, the newline included in the last one. All pieces in order of line and piece are the file again.
 */
#ifndef DPKG_FILE_H
#define DPKG_FILE_H

#include <stddef.h>
#include <stdint.h>

enum { DPKG_PIECE = 4096, DPKG_KEY_MAX = 512 };

struct dpkg_piece {
    char *key;
    size_t key_size;
    const char *value; /* into the file's bytes */
    size_t value_size;
};

/* One stanza with the empty line behind it. */
struct dpkg_package {
    const char *name; /* not terminated */
    size_t name_size;
    struct dpkg_piece *pieces;
    size_t count;
};

struct dpkg_file {
    char *bytes;
    size_t size;
    struct dpkg_package *packages;
    size_t count;
    size_t pieces;
};

/* Reads and cuts the file. 0, or -1 with a line on stderr. dpkg_file_free takes whatever is left behind. */
int dpkg_file_load(struct dpkg_file *file, const char *path);
void dpkg_file_free(struct dpkg_file *file);

#endif
