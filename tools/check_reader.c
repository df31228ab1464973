/* check_reader.c - records of pages read, checked and taken apart. */
#include <stdlib.h>
#include <string.h>

#include "check_database.h"
#include "mshm/status.h"

enum { WINDOW = 1 << 20 };
static_assert((int)WINDOW >= (int)CHECK_READ_MAX, "a record fits into the window");

struct record_buffer {
    uint8_t *bytes;
    uint32_t capacity;
};

struct check_reader {
    struct check *check;
    struct page_content *content;
    struct record_buffer records[DATA_CHAIN_MAX + 1];
    /* What was read ahead. */
    uint8_t *window;
    uint32_t window_file; /* 0: nothing */
    uint64_t window_at, window_size;
};

int
check_reader_create(struct check *check, struct check_reader **reader)
{
    struct check_reader *made = calloc(1, sizeof *made);
    if (made == NULL)
        return MSHM_NO_MEMORY;
    made->check = check;
    made->window = malloc(WINDOW);
    if (made->window == NULL || page_content_create(&made->content) != MSHM_OK) {
        check_reader_destroy(made);
        return MSHM_NO_MEMORY;
    }
    *reader = made;
    return MSHM_OK;
}

void
check_reader_destroy(struct check_reader *reader)
{
    if (reader == NULL)
        return;
    for (size_t i = 0; i <= DATA_CHAIN_MAX; i++)
        free(reader->records[i].bytes);
    if (reader->content != NULL)
        page_content_destroy(reader->content);
    free(reader->window);
    free(reader);
}

const struct page_content *
check_page_content(const struct check_reader *reader)
{
    return reader->content;
}

/* --- bytes --- */

int
check_read(struct check_reader *reader, struct check_file *file, uint64_t offset, uint32_t size,
           const uint8_t **bytes)
{
    const struct env *env = &reader->check->env;
    bool inside = reader->window_file == file->number && offset >= reader->window_at &&
                  offset + size <= reader->window_at + reader->window_size;
    if (!inside) {
        uint64_t end = file->total, length = WINDOW;
        if (offset > end || size > end - offset)
            return MSHM_CORRUPT;
        if (length > end - offset)
            length = end - offset;
        reader->window_file = 0;
        int64_t result =
            env->file_read(env->context, file->open, offset, reader->window, (size_t)length);
        if (result < 0)
            return MSHM_IO;
        reader->window_file = file->number;
        reader->window_at = offset;
        reader->window_size = (uint64_t)result;
        if ((uint64_t)result < size)
            return MSHM_CORRUPT;
    }
    *bytes = reader->window + (offset - reader->window_at);
    return MSHM_OK;
}

/* --- records --- */

static uint8_t *
record_reserve(struct record_buffer *record, uint32_t size)
{
    if (size > record->capacity) {
        free(record->bytes);
        record->capacity = 0;
        record->bytes = malloc(size);
        if (record->bytes == NULL)
            return NULL;
        record->capacity = size;
    }
    return record->bytes;
}

static int
refuse(struct check_chain *chain, int status, data_location at, const char *why)
{
    chain->at = at;
    chain->why = why;
    return status;
}

/* The file that a location lies in; NULL and *why: it cannot be read. */
static struct check_file *
place_find(struct check *check, data_location location, const char **why)
{
    struct check_file *file = check_file_find(check, data_location_file(location));
    uint64_t offset = data_location_offset(location), size = data_location_size(location);
    if (file == NULL)
        *why = "an address in a data file that the manifest does not name";
    else if (size < sizeof(struct page_record) || offset < DATA_RECORDS_AT ||
             offset + size > file->total)
        *why = "an address outside of its data file";
    else if (!file->usable)
        *why = "its data file cannot be read";
    else
        return file;
    return NULL;
}

/* Reads one record of a chain into its buffer. The newest ones come in the order of the files, so they are read ahead. */
static int
record_read(struct check_reader *reader, struct check_chain *chain, unsigned index, mshm_pid pid)
{
    struct check *check = reader->check;
    data_location location = chain->locations[index];
    uint32_t size = data_location_size(location);
    const char *why = NULL;
    struct check_file *file = place_find(check, location, &why);
    if (file == NULL)
        return refuse(chain, MSHM_CORRUPT, location, why);
    uint8_t *bytes = record_reserve(&reader->records[index], size);
    if (bytes == NULL)
        return MSHM_NO_MEMORY;
    int status = MSHM_OK;
    if (index == 0) {
        const uint8_t *ahead;
        status = check_read(reader, file, data_location_offset(location), size, &ahead);
        if (status == MSHM_OK)
            memcpy(bytes, ahead, size);
    } else {
        int64_t result = check->env.file_read(check->env.context, file->open,
                                              data_location_offset(location), bytes, size);
        status = result < 0 ? MSHM_IO : (uint64_t)result < size ? MSHM_CORRUPT : MSHM_OK;
    }
    if (status != MSHM_OK)
        return refuse(chain, status, location,
                      status == MSHM_IO ? "the record cannot be read"
                                        : "the file ends within the record");
    status = page_record_check(bytes, size, location, check->manifest.database_id, pid, &why);
    return status == MSHM_OK ? status : refuse(chain, status, location, why);
}

int
check_page_load(struct check_reader *reader, data_location location, mshm_pid pid,
                struct check_chain *chain)
{
    const void *records[DATA_CHAIN_MAX + 1];
    *chain = (struct check_chain){.locations = {location}, .at = location};
    if (data_location_older(location) > DATA_CHAIN_MAX)
        return refuse(chain, MSHM_CORRUPT, location, "an address with too long a chain");
    int status = record_read(reader, chain, 0, pid);
    if (status != MSHM_OK)
        return status;
    page_record_older(reader->records[0].bytes, chain->locations + 1);
    chain->count = 1 + data_location_older(location);
    for (unsigned i = 1; i < chain->count && status == MSHM_OK; i++)
        status = record_read(reader, chain, i, pid);
    if (status != MSHM_OK)
        return status;
    for (unsigned i = 0; i < chain->count; i++)
        records[i] = reader->records[i].bytes;
    const char *why = NULL;
    status = page_content_load(reader->content, records, chain->count, NULL, 0, NULL, &why);
    if (status == MSHM_OK && page_content_size(reader->content) == UINT32_MAX)
        status = refuse(chain, MSHM_CORRUPT, location, "no frame can hold the page");
    return why == NULL ? status : refuse(chain, status, location, why);
}
