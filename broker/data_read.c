/* data_read.c - opening data files, and reading from them. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "crc.h"
#include "data_parts.h"
#include "env_status.h"
#include "mshm/base.h"
#include "mshm/status.h"

static int
refuse(const char **why, int status, const char *what)
{
    if (why != NULL)
        *why = what;
    return status;
}

uint32_t
data_header_crc(const struct data_file_header *header)
{
    struct data_file_header copy = *header;
    copy.crc = 0;
    return crc_extend(0, &copy, sizeof copy);
}

static int
header_check(const struct data *data, uint32_t number, const struct data_file_header *header,
             const char **why)
{
    if (header->magic != DATA_FILE_MAGIC || header->crc != data_header_crc(header))
        return refuse(why, MSHM_CORRUPT, "the data file's head is damaged");
    if (header->version != DATA_VERSION)
        return refuse(why, MSHM_VERSION, "the data file was written by another version");
    if (memcmp(header->database_id, data->options.database_id, sizeof header->database_id) != 0)
        return refuse(why, MSHM_CORRUPT, "the data file belongs to another database");
    if (header->number != number)
        return refuse(why, MSHM_CORRUPT, "it is another data file");
    return MSHM_OK;
}

int
data_file_status(int64_t result, const char **why)
{
    if (result == -ENOENT)
        return refuse(why, MSHM_CORRUPT, "the data file is missing");
    return refuse(why, env_status(result), strerror((int)-result));
}

static int
file_open(struct data *data, struct data_file *file, const char **why)
{
    const struct env *env = data->env;
    struct data_file_header header;
    struct env_file *opened;
    char name[DATA_NAME_SIZE];
    data_name(name, file->number);
    int64_t result = env->file_open(env->context, name, ENV_OPEN_EXISTING, &opened);
    if (result != 0)
        return data_file_status(result, why);
    result = env->file_read(env->context, opened, 0, &header, sizeof header);
    int status = result < 0 ? data_file_status(result, why)
                 : result < (int)sizeof header
                     ? refuse(why, MSHM_CORRUPT, "the data file has no head")
                     : header_check(data, file->number, &header, why);
    if (status != MSHM_OK) {
        env->file_close(env->context, opened);
        return status;
    }
    AO_store_release(&file->open, (AO_t)opened);
    return MSHM_OK;
}

int
data_open(struct data *data, data_location location, struct env_file **file, const char **why)
{
    struct data_file *found = data_file_find(data, data_location_file(location));
    uint64_t offset = data_location_offset(location), size = data_location_size(location);
    if (found == NULL)
        return refuse(why, MSHM_CORRUPT, "an address in a data file that does not count");
    if (size == 0 || offset < DATA_RECORDS_AT || offset + size > found->total)
        return refuse(why, MSHM_CORRUPT, "an address outside of its data file");
    if (data_file_opened(found) == NULL) {
        int status = file_open(data, found, why);
        if (status != MSHM_OK)
            return status;
    }
    *file = data_file_opened(found);
    return MSHM_OK;
}

/* Any thread: a name of its own. */
static int64_t
read_by_name(const struct env *env, uint32_t number, uint64_t offset, void *to, uint32_t size)
{
    struct env_file *file;
    char name[DATA_NAME_SIZE];
    data_name(name, number);
    int64_t result = env->file_open(env->context, name, ENV_OPEN_EXISTING, &file);
    if (result != 0)
        return result;
    result = env->file_read(env->context, file, offset, to, size);
    env->file_close(env->context, file);
    return result;
}

static int
range_status(int64_t result, uint32_t size)
{
    if (result < 0)
        return data_file_status(result, NULL);
    return result >= (int64_t)size ? MSHM_OK : MSHM_CORRUPT;
}

static int
range_read(const struct data *data, uint32_t number, uint64_t offset, void *to, uint32_t size)
{
    const struct env *env = data->env;
    const struct data_file *file = data_file_find(data, number);
    if (file == NULL)
        return MSHM_CORRUPT;
    struct env_file *opened = data_file_opened(file);
    int64_t result = opened != NULL ? env->file_read(env->context, opened, offset, to, size)
                                    : read_by_name(env, number, offset, to, size);
    return range_status(result, size);
}

int
data_read(void *argument, data_location location, uint32_t offset, void *to, uint32_t size)
{
    const struct data *data = argument;
    uint32_t length = data_location_size(location);
    if (offset > length || size > length - offset)
        return MSHM_CORRUPT;
    return range_read(data, data_location_file(location), data_location_offset(location) + offset,
                      to, size);
}

uint32_t
data_read_unit(const struct data *data)
{
    const struct env *env = data->env;
    return env->file_read_many != NULL && env->read_unit > 0 ? env->read_unit : 1;
}

void
data_read_many(const struct data *data, struct data_range *ranges, uint32_t count)
{
    const struct env *env = data->env;
    const uint32_t unit = data_read_unit(data);
    struct env_read *reads = env->file_read_many != NULL ? malloc(count * sizeof *reads) : NULL;
    uint32_t started = 0;
    for (uint32_t i = 0; i < count; i++) {
        struct data_range *range = &ranges[i];
        const struct data_file *file = data_file_find(data, range->number);
        struct env_file *opened = file != NULL ? data_file_opened(file) : NULL;
        range->status = MSHM_BUSY;
        if (opened == NULL || reads == NULL)
            range->status =
                range_read(data, range->number, range->offset, range->bytes, range->size);
        else
            reads[started++] = (struct env_read){
                .file = opened,
                .offset = range->offset,
                .to = range->bytes,
                .size = mshm_align_up(range->size, unit),
            };
    }
    if (started > 0)
        env->file_read_many(env->context, reads, started);
    for (uint32_t i = 0, at = 0; at < started; i++)
        if (ranges[i].status == MSHM_BUSY)
            ranges[i].status = range_status(reads[at++].result, ranges[i].size);
    free(reads);
}
