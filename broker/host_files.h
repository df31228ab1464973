/* host_files.h - the file functions of env.h on the data directory.
 *
 * Names are relative to the directory's descriptor, so the database stays in the directory that is locked whatever
 * happens to its path. `context` of every function is a struct host_files (the first member of struct host). */
#ifndef HOST_FILES_H
#define HOST_FILES_H

#include "env.h"
#include "host_many.h"

struct host_files {
    int directory;      /* the caller's descriptor */
    bool mappable;      /* what directory.h found out about the file system */
    bool direct;        /* data files are read and written past the page cache; read_unit is set */
    uint32_t read_unit; /* what O_DIRECT wants of reads, in bytes; 0: there is no O_DIRECT here */
    struct host_many *many; /* for file_read_many; NULL: there is none */
};

/* The descriptor under an env_file, for the I/O backends. */
int host_file_descriptor(const struct env_file *file);
/* The same for a read that is about to be started: the kernel is told whether to read ahead of it. Loop thread. */
int host_file_reads(struct env_file *file, uint64_t offset, size_t size);
/* The one with O_DIRECT; -1: the file goes through the page cache. */
int host_file_direct(const struct env_file *file);
/* Fills the file and directory functions of the table, all but file_append. */
void host_files_fill(struct env *env);

#endif
