/* data_parts.h - what stands inside struct data, shared by data.c (the table, writing) and data_read.c alone.
 *
 * Jobs look files up by number while the loop adds and removes others: so the way from a number to its file is a table
 * of two levels that never moves, and its words are shared.
 *
 *   data.groups[number >> 10] -> group.files[number & 1023] -> data_file.open -> the environment's file
 *
 *  word          written by                  read by          order
 *  groups[i]     loop, once                  loop, jobs       store release, load acquire: the group is zero before
 *  group.files   loop: add, begin, remove    loop, jobs       store release, load acquire: the file is filled before
 *  open          loop: open, begin           loop, jobs       store release, load acquire: the file was opened before
 *
 * A file is freed by data_remove, when no job leads to it any more. Nothing outlives the process.
 */
#ifndef DATA_PARTS_H
#define DATA_PARTS_H

#include <atomic_ops.h>

#include "data.h"

enum {
    GROUP_BITS = 10,
    GROUP_SIZE = 1 << GROUP_BITS,
    GROUPS = (DATA_MAX_FILE + 1) / GROUP_SIZE,
};
static_assert(GROUPS * GROUP_SIZE == DATA_MAX_FILE + 1, "the table has whole groups");

struct data_file {
    uint32_t number;
    uint64_t total, live; /* bytes; the loop's */
    AO_t open;            /* struct env_file *; 0: not opened yet */
};

struct data_group {
    AO_t files[GROUP_SIZE]; /* struct data_file *, or 0 */
};

struct data {
    const struct env *env;
    struct data_options options;
    struct data_file **files; /* by number; the loop's */
    uint32_t count, capacity;
    struct data_file *writing; /* NULL: none */
    uint32_t next;       /* number of the next file; above DATA_MAX_FILE: look for a free one */
    AO_t groups[GROUPS]; /* struct data_group *, or 0 */
};

/* [any] NULL: there is none with this number. */
struct data_file *data_file_find(const struct data *data, uint32_t number);
/* What a file's open or read answered, and why. */
int data_file_status(int64_t result, const char **why);
uint32_t data_header_crc(const struct data_file_header *header);

/* [any] NULL: nobody has opened it yet. */
static inline struct env_file *
data_file_opened(const struct data_file *file)
{
    return (struct env_file *)AO_load_acquire(&file->open);
}

#endif
