/* data.h - the data files: which there are, open descriptors, where the next record goes, how much of each is live.
 *
 * Files are written once, from front to back, by the checkpoint, and never changed after. The manifest alone says which files
 * count; others are removed at the start. Loop thread only, but for what is marked [any].
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
int data_create(struct data **data, const struct data_options *options, const struct env *env);
void data_destroy(struct data *data);

/* A file that the manifest names: total bytes written (its length as far as it counts), live bytes. MSHM_OK, MSHM_NO_MEMORY,
 * MSHM_CORRUPT (twice; live > total). It is opened, and its header checked, at the first use. */
int data_add(struct data *data, uint32_t number, uint64_t total, uint64_t live);
/* The open file, and checks that the location lies inside what counts: MSHM_OK; MSHM_CORRUPT: no such file, beyond its end, or
 * its header is damaged; MSHM_VERSION; MSHM_IO, MSHM_LIMIT. *why (may be NULL) says which. */
int data_open(struct data *data, data_location location, struct env_file **file, const char **why);
/* [any] Reads part of a record for a job: a page_read (page_pack.h); argument: struct data. Only of files that were opened by data_open
 * before the job was started, or that it opens itself; never changes the table. */
int data_read(void *data, data_location location, uint32_t offset, void *to, uint32_t size);

/* --- writing: the checkpoint only --- */

/* Makes, writes the header of, and syncs a new file, its directory entry included; blocking: a job. 0 or -errno; nothing stays after
 * a failure. [any] */
int data_file_make(const struct env *env, const uint8_t database_id[16], uint32_t number);
/* The number that the next file gets. */
uint32_t data_next_number(const struct data *data);
/* The file that data_file_make made is the one to write to from now on. MSHM_OK, MSHM_IO... */
int data_begin(struct data *data, uint32_t number);
/* The file being written and where the next record goes; 0 when a new file has to be begun before `size` more bytes. */
uint32_t data_writing(const struct data *data, uint32_t size, uint64_t *offset, struct env_file **file);
/* `size` more bytes stand at the end of the file being written. */
void data_advance(struct data *data, uint32_t size);

/* --- accounting: what a checkpoint that counts has changed --- */
void data_live(struct data *data, data_location location);
void data_dead(struct data *data, data_location location);
/* Files whose live bytes are 0 and that are not being written: calls each; the caller takes them out of the manifest, then removes them. */
struct data_figures {
    uint32_t number;
    uint64_t total, live;
};
uint32_t data_count(const struct data *data);
/* By number, index < data_count. */
void data_describe(const struct data *data, uint32_t index, struct data_figures *figures);
/* Closes and forgets a file that nothing leads to any more and removes it (directory sync is the caller's). Reads under way on it must
 * have ended. */
void data_remove(struct data *data, uint32_t number);

/* Removes what the manifest does not name from data/. Blocking: recovery. */
void data_tidy(struct data *data);

#endif
