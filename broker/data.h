/* data.h - the data files: which there are, open descriptors, where the next record goes, how much of each is live.
 *
 * Files are written once, from front to back, by the checkpoint, and never changed after. The manifest alone says which
 * files count; others are removed at the start. Loop thread only, but for what is marked [any].
 */
#ifndef DATA_H
#define DATA_H

#include "env.h"
#include "page_format.h"

struct data;

enum { DATA_NAME_SIZE = 32 };
/* "data/000000000000002a.dat". */
void data_name(char name[DATA_NAME_SIZE], uint32_t number);
/* Takes the name of a directory entry apart (no "data/"). */
bool data_name_parse(const char *entry, uint32_t *number);

struct data_options {
    uint64_t file_size; /* bytes at which a new file is begun, at most DATA_MAX_FILE_SIZE */
    uint8_t database_id[16];
};
/* MSHM_OK, MSHM_NO_MEMORY. `env` stays the caller's, and in place. */
int data_create(struct data **data, const struct data_options *options, const struct env *env);
/* Closes all; no read may be under way. NULL is harmless. */
void data_destroy(struct data *data);

/* A file that the manifest names: total bytes written (its length as far as it counts, the head included), live bytes.
 * MSHM_OK, MSHM_NO_MEMORY, MSHM_CORRUPT (twice; a number or sizes that no file has; live > total). It is opened, and its
 * header checked, at the first use. */
int data_add(struct data *data, uint32_t number, uint64_t total, uint64_t live);
/* The open file, and checks that the location lies inside what counts: MSHM_OK; MSHM_CORRUPT: no such file, beyond its
 * end, or its header is damaged; MSHM_VERSION; MSHM_IO, MSHM_LIMIT. *why (may be NULL) says which; static storage. The
 * file stays open until data_remove. */
int data_open(struct data *data, data_location location, struct env_file **file, const char **why);
/* [any] Reads part of a record for a job: a page_read (page_pack.h); argument: struct data. A file that the loop has not
 * opened yet is opened for this read alone, without a look at its header: the checksums of records tell whose they are.
 * Never changes the table. MSHM_OK, MSHM_CORRUPT (beyond the record; the file is missing or ends before it), MSHM_IO,
 * MSHM_LIMIT, MSHM_NO_MEMORY. */
int data_read(void *data, data_location location, uint32_t offset, void *to, uint32_t size);
/* Bytes of a file that may hold several records, or parts of some. */
struct data_range {
    uint32_t number; /* of the file */
    uint32_t size;
    uint64_t offset;
    uint8_t *bytes;
    int status; /* as that of data_read */
};
/* [any] Reads all of them, side by side where the environment can. At most one caller at a time. Ranges begin at multiples of
 * data_read_unit(), and there is room for as much as a multiple takes; more than `size` may be written there. */
void data_read_many(const struct data *data, struct data_range *ranges, uint32_t count);
uint32_t data_read_unit(const struct data *data);

/* --- writing: the checkpoint only --- */

/* Makes, writes the header of, and syncs a new file, its directory entry included; blocking: a job. 0 or -errno; nothing
 * stays after a failure. Makes the directory when it is missing, and replaces what an attempt left. [any] */
int data_file_make(const struct env *env, const uint8_t database_id[16], uint32_t number);
/* The number that the next file gets; 0: all are in use. The same until data_begin. */
uint32_t data_next_number(const struct data *data);
/* The file that data_file_make made is the one to write to from now on. MSHM_OK; MSHM_EXISTS: it is known already;
 * MSHM_CORRUPT: it is not there; MSHM_IO, MSHM_LIMIT, MSHM_NO_MEMORY. */
int data_begin(struct data *data, uint32_t number);
/* The file being written and where the next record goes; 0 when a new file has to be begun before `size` more bytes (a
 * multiple of DATA_UNIT; size 0: the file as it is, also when it is full). An empty file takes any size up to the largest
 * possible. */
uint32_t data_writing(const struct data *data, uint32_t size, uint64_t *offset,
                      struct env_file **file);
/* `size` more bytes stand at the end of the file being written. */
void data_advance(struct data *data, uint32_t size);

/* --- accounting --- Locations in files that are not there are passed over. A record may count as live before
 * data_advance is told of it. */
void data_live(struct data *data, data_location location);
void data_dead(struct data *data, data_location location);

struct data_figures {
    uint32_t number;
    uint64_t total, live;
};
uint32_t data_count(const struct data *data);
/* By number, index < data_count; live is never more than fits into total. A file whose live bytes are 0, and that is not being written, is the caller's to take
 * out of the manifest and then to remove. */
void data_describe(const struct data *data, uint32_t index, struct data_figures *figures);
/* Closes and forgets a file that nothing leads to any more. Reads under way on it must have ended. */
void data_forget(struct data *data, uint32_t number);
/* Removes a forgotten file from the disk. Blocking, and long for a large file: a job. 0 or -errno. The directory sync is
 * the caller's. [any] */
int data_file_remove(const struct env *env, uint32_t number);
/* Both at once. */
void data_remove(struct data *data, uint32_t number);

/* Removes from data/ the files that data_add was not told of, and *.tmp; other names stay. Blocking: recovery. Failures
 * do no harm: a number that is used again replaces what is left. */
void data_tidy(struct data *data);

#endif
