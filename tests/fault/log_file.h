/* fault/log_file.h - a broker's log as a test reads and damages it, between two lives of the broker. */
#ifndef LOG_FILE_H
#define LOG_FILE_H

#include <stddef.h>

#include "wal_format.h"

#include "support/scratch.h"

enum { LOG_FILE_RECORDS = 4096 };

struct log_file_record {
    uint64_t offset, end; /* bytes in the file */
    struct wal_record head;
};
/* The newest segment that has records. */
struct log_file {
    char path[SCRATCH_PATH];
    uint32_t segment;
    uint8_t *bytes; /* of the file's used part */
    uint64_t size;  /* of it: to the end of the last record */
    uint64_t cut;   /* of it: what the newest checkpoint covers, no start looks at */
    struct log_file_record records[LOG_FILE_RECORDS];
    unsigned count;
};

/* Reads the newest segment with records of the database in `directory`. */
void log_file_read(struct log_file *file, const char *directory);
void log_file_free(struct log_file *file);
/* Changes bytes of a segment of `directory` in place. */
void log_file_write(const struct log_file *file, const char *directory, uint64_t offset,
                    const void *bytes, size_t size);
/* Damage in the record at `index`: 1 when the end-of-log rule makes it an error (a later record knows that it was
 * durable), 0 when the log simply ends before it. */
int log_file_is_error(const struct log_file *file, unsigned index);

#endif
