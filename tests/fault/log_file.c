/* log_file.c - a broker's log as a test reads and damages it. */
#include "fault/log_file.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "manifest_format.h"
#include "support/require.h"

/* Takes over the cut of a record of the manifest, newer ones after older ones. */
static void
cut_take(struct log_file *file, const struct manifest_record *record)
{
    if (record->cut_segment == file->segment)
        file->cut = record->cut_offset;
    else if (record->cut_segment > file->segment)
        file->cut = UINT64_MAX;
}

/* What the manifests in the directory say, of which a broker that is killed leaves one. */
static void
cut_read(struct log_file *file, const char *directory)
{
    char path[SCRATCH_PATH];
    struct manifest_record record;
    uint64_t newest = 0;
    struct dirent **names;

    int count = scandir(directory, &names, NULL, NULL);
    require(count > 0, "%s", directory);
    for (int i = 0; i < count; i++) {
        scratch_join(path, directory, names[i]->d_name);
        int fd =
            strncmp(names[i]->d_name, "MANIFEST-", 9) == 0 ? open(path, O_RDONLY | O_CLOEXEC) : -1;
        for (off_t at = MANIFEST_RECORDS_AT;
             fd >= 0 && pread(fd, &record, sizeof record, at) == (ssize_t)sizeof record;
             at += MANIFEST_SECTOR) {
            if (record.magic != MANIFEST_RECORD_MAGIC || record.sequence <= newest)
                continue;
            newest = record.sequence;
            cut_take(file, &record);
        }
        if (fd >= 0)
            close(fd);
        free(names[i]);
    }
    free(names);
    require(newest > 0, "%s has no manifest", directory);
}

static void
segment_path(char path[SCRATCH_PATH], const char *directory, const char *name)
{
    char wal[SCRATCH_PATH];

    scratch_join(wal, directory, "wal");
    scratch_join(path, wal, name);
}

/* Takes the records of a segment; none: count stays 0. */
static void
segment_read(struct log_file *file, const char *path)
{
    struct wal_segment_header header;
    int fd = open(path, O_RDONLY | O_CLOEXEC);

    require(fd >= 0, "%s: %s", path, strerror(errno));
    off_t end = lseek(fd, 0, SEEK_END);
    file->bytes = malloc((size_t)end + 1);
    require(file->bytes != NULL && pread(fd, file->bytes, (size_t)end, 0) == end, "%s", path);
    close(fd);
    memcpy(&header, file->bytes, sizeof header);
    snprintf(file->path, sizeof file->path, "%s", path);
    file->segment = (uint32_t)header.segment;
    file->size = WAL_RECORDS_AT;
    file->count = 0;
    while (file->count < LOG_FILE_RECORDS) {
        struct log_file_record *record = &file->records[file->count];
        if (file->size + sizeof record->head > (uint64_t)end)
            break;
        memcpy(&record->head, file->bytes + file->size, sizeof record->head);
        if (record->head.magic != WAL_RECORD_MAGIC)
            break;
        record->offset = file->size;
        file->size += record->head.size;
        record->end = file->size;
        file->count++;
    }
}

void
log_file_read(struct log_file *file, const char *directory)
{
    char wal[SCRATCH_PATH], path[SCRATCH_PATH];
    struct dirent **names;

    memset(file, 0, sizeof *file);
    scratch_join(wal, directory, "wal");
    int count = scandir(wal, &names, NULL, alphasort);
    require(count > 2, "%s has no segment", wal);
    for (int i = count - 1; i >= 0; i--) {
        if (file->count == 0 && strstr(names[i]->d_name, ".log") != NULL) {
            free(file->bytes);
            segment_path(path, directory, names[i]->d_name);
            segment_read(file, path);
        }
        free(names[i]);
    }
    free(names);
    require(file->count > 0, "%s has no record", wal);
    cut_read(file, directory);
}

void
log_file_free(struct log_file *file)
{
    free(file->bytes);
}

void
log_file_write(const struct log_file *file, const char *directory, uint64_t offset,
               const void *bytes, size_t size)
{
    char path[SCRATCH_PATH];

    segment_path(path, directory, strrchr(file->path, '/') + 1);
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    require(fd >= 0, "%s: %s", path, strerror(errno));
    require(pwrite(fd, bytes, size, (off_t)offset) == (ssize_t)size, "%s", strerror(errno));
    close(fd);
}

int
log_file_is_error(const struct log_file *file, unsigned index)
{
    for (unsigned later = index + 1; later < file->count; later++) {
        const struct wal_record *head = &file->records[later].head;
        if (head->durable_segment > file->segment ||
            (head->durable_segment == file->segment &&
             head->durable_offset > file->records[index].offset))
            return 1;
    }
    return 0;
}
