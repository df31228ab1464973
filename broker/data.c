/* data.c - the table of data files: which there are, what is live in them, which one is written. */
#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "data_parts.h"
#include "env_status.h"
#include "kill_point.h"

/* --- names --- */

void
data_name(char name[DATA_NAME_SIZE], uint32_t number)
{
    snprintf(name, DATA_NAME_SIZE, "data/%016" PRIx32 ".dat", number);
}

bool
data_name_parse(const char *entry, uint32_t *number)
{
    uint64_t value = 0;
    for (int i = 0; i < 16; i++) {
        char c = entry[i];
        unsigned digit;
        if (c >= '0' && c <= '9')
            digit = (unsigned)(c - '0');
        else if (c >= 'a' && c <= 'f')
            digit = (unsigned)(c - 'a') + 10;
        else
            return false;
        value = value << 4 | digit;
    }
    if (strcmp(entry + 16, ".dat") != 0 || value == 0 || value > DATA_MAX_FILE)
        return false;
    *number = (uint32_t)value;
    return true;
}

/* --- the table --- */

struct data_file *
data_file_find(const struct data *data, uint32_t number)
{
    if (number > DATA_MAX_FILE)
        return NULL;
    const struct data_group *group =
        (const struct data_group *)AO_load_acquire(&data->groups[number >> GROUP_BITS]);
    if (group == NULL)
        return NULL;
    return (struct data_file *)AO_load_acquire(&group->files[number % GROUP_SIZE]);
}

static int
group_need(struct data *data, uint32_t number)
{
    AO_t *word = &data->groups[number >> GROUP_BITS];
    if (AO_load(word) != 0)
        return MSHM_OK;
    struct data_group *group = calloc(1, sizeof *group);
    if (group == NULL)
        return MSHM_NO_MEMORY;
    AO_store_release(word, (AO_t)group);
    return MSHM_OK;
}

static void
group_set(struct data *data, uint32_t number, struct data_file *file)
{
    struct data_group *group = (struct data_group *)AO_load(&data->groups[number >> GROUP_BITS]);
    AO_store_release(&group->files[number % GROUP_SIZE], (AO_t)file);
}

/* The place of a number in the list, or where it would stand. */
static uint32_t
list_place(const struct data *data, uint32_t number)
{
    uint32_t low = 0, high = data->count;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (data->files[middle]->number < number)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static int
list_grow(struct data *data)
{
    if (data->count < data->capacity)
        return MSHM_OK;
    uint32_t capacity = data->capacity != 0 ? data->capacity * 2 : 64;
    struct data_file **files = realloc(data->files, capacity * sizeof(struct data_file *));
    if (files == NULL)
        return MSHM_NO_MEMORY;
    data->files = files;
    data->capacity = capacity;
    return MSHM_OK;
}

static int
file_insert(struct data *data, const struct data_file *values)
{
    struct data_file *file = malloc(sizeof *file);
    int status = file != NULL ? list_grow(data) : MSHM_NO_MEMORY;
    if (status == MSHM_OK)
        status = group_need(data, values->number);
    if (status != MSHM_OK) {
        free(file);
        return status;
    }
    *file = *values;
    uint32_t place = list_place(data, file->number);
    memmove(&data->files[place + 1], &data->files[place],
            (data->count - place) * sizeof(struct data_file *));
    data->files[place] = file;
    data->count++;
    if (data->next <= file->number)
        data->next = file->number + 1;
    group_set(data, file->number, file);
    return MSHM_OK;
}

int
data_create(struct data **data, const struct data_options *options, const struct env *env)
{
    struct data *made = calloc(1, sizeof *made);
    if (made == NULL)
        return MSHM_NO_MEMORY;
    made->env = env;
    made->options = *options;
    if (made->options.file_size > DATA_MAX_FILE_SIZE)
        made->options.file_size = DATA_MAX_FILE_SIZE;
    made->next = 1;
    *data = made;
    return MSHM_OK;
}

static void
file_close(struct data *data, struct data_file *file)
{
    struct env_file *opened = data_file_opened(file);
    if (opened != NULL)
        data->env->file_close(data->env->context, opened);
    free(file);
}

void
data_destroy(struct data *data)
{
    if (data == NULL)
        return;
    for (uint32_t i = 0; i < data->count; i++)
        file_close(data, data->files[i]);
    for (size_t i = 0; i < GROUPS; i++)
        free((void *)AO_load(&data->groups[i]));
    free(data->files);
    free(data);
}

int
data_add(struct data *data, uint32_t number, uint64_t total, uint64_t live)
{
    if (number == 0 || number > DATA_MAX_FILE || data_file_find(data, number) != NULL)
        return MSHM_CORRUPT;
    if (total < DATA_RECORDS_AT || total > DATA_MAX_FILE_SIZE || total % DATA_UNIT != 0 ||
        live > total - DATA_RECORDS_AT)
        return MSHM_CORRUPT;
    return file_insert(data, &(struct data_file){.number = number, .total = total, .live = live});
}

/* --- writing --- */

static int
file_create(const struct env *env, const char *name, struct env_file **file)
{
    const unsigned flags = ENV_OPEN_CREATE | ENV_OPEN_WRITE;
    int result = env->file_open(env->context, name, flags, file);
    if (result == -ENOENT) { /* the first data file of all */
        if ((result = env->directory_create(env->context, "data")) != 0 ||
            (result = env->directory_sync(env->context, "")) != 0)
            return result;
        result = env->file_open(env->context, name, flags, file);
    }
    if (result != -EEXIST)
        return result;
    result = env->file_remove(env->context, name);
    return result == 0 ? env->file_open(env->context, name, flags, file) : result;
}

static int
head_write(const struct env *env, struct env_file *file, const uint8_t database_id[16],
           uint32_t number)
{
    uint8_t head[DATA_RECORDS_AT] = {0};
    struct data_file_header header = {
        .magic = DATA_FILE_MAGIC, .version = DATA_VERSION, .number = number};
    memcpy(header.database_id, database_id, sizeof header.database_id);
    header.crc = data_header_crc(&header);
    memcpy(head, &header, sizeof header);
    int result = env->file_write(env->context, file, 0, head, sizeof head);
    return result == 0 ? env->file_sync(env->context, file) : result;
}

int
data_file_make(const struct env *env, const uint8_t database_id[16], uint32_t number)
{
    struct env_file *file;
    char name[DATA_NAME_SIZE];
    data_name(name, number);
    int result = file_create(env, name, &file);
    if (result != 0)
        return result;
    result = head_write(env, file, database_id, number);
    env->file_close(env->context, file);
    if (result == 0) {
        MACE_KILL_POINT("data:file_synced");
        result = env->directory_sync(env->context, "data");
    }
    if (result != 0) {
        (void)env->file_remove(env->context, name);
        return result;
    }
    MACE_KILL_POINT("data:file_made");
    return 0;
}

uint32_t
data_next_number(const struct data *data)
{
    if (data->next <= DATA_MAX_FILE)
        return data->next;
    for (uint32_t number = 1; number <= DATA_MAX_FILE; number++)
        if (data_file_find(data, number) == NULL)
            return number;
    return 0;
}

int
data_begin(struct data *data, uint32_t number)
{
    const struct env *env = data->env;
    struct env_file *opened;
    char name[DATA_NAME_SIZE];
    assert(number != 0 && number <= DATA_MAX_FILE);
    if (data_file_find(data, number) != NULL)
        return MSHM_EXISTS;
    data_name(name, number);
    int result = env->file_open(env->context, name, ENV_OPEN_WRITE, &opened);
    if (result != 0)
        return data_file_status(result, NULL);
    struct data_file file = {.number = number, .total = DATA_RECORDS_AT, .open = (AO_t)opened};
    int status = file_insert(data, &file);
    if (status != MSHM_OK) {
        env->file_close(env->context, opened);
        return status;
    }
    data->writing = data_file_find(data, number);
    return MSHM_OK;
}

uint32_t
data_writing(const struct data *data, uint32_t size, uint64_t *offset, struct env_file **file)
{
    const struct data_file *writing = data->writing;
    assert(size % DATA_UNIT == 0);
    if (writing == NULL || writing->total + size > DATA_MAX_FILE_SIZE)
        return 0;
    if (size > 0 && writing->total + size > data->options.file_size &&
        writing->total > DATA_RECORDS_AT)
        return 0;
    *offset = writing->total;
    *file = data_file_opened(writing);
    return writing->number;
}

void
data_advance(struct data *data, uint32_t size)
{
    assert(data->writing != NULL && size % DATA_UNIT == 0);
    assert(data->writing->total + size <= DATA_MAX_FILE_SIZE);
    data->writing->total += size;
}

/* --- accounting --- */

void
data_live(struct data *data, data_location location)
{
    struct data_file *file = data_file_find(data, data_location_file(location));
    if (file != NULL)
        file->live += data_location_size(location);
}

/* Figures that are wrong on disk must not wrap round. */
void
data_dead(struct data *data, data_location location)
{
    struct data_file *file = data_file_find(data, data_location_file(location));
    if (file == NULL)
        return;
    uint64_t size = data_location_size(location);
    file->live -= size < file->live ? size : file->live;
}

uint32_t
data_count(const struct data *data)
{
    return data->count;
}

void
data_describe(const struct data *data, uint32_t index, struct data_figures *figures)
{
    assert(index < data->count);
    const struct data_file *file = data->files[index];
    uint64_t most = file->total - DATA_RECORDS_AT;
    uint64_t live = file->live < most ? file->live : most;
    *figures = (struct data_figures){file->number, file->total, live};
}

void
data_forget(struct data *data, uint32_t number)
{
    struct data_file *file = data_file_find(data, number);
    if (file == NULL)
        return;
    uint32_t place = list_place(data, number);
    data->count--;
    memmove(&data->files[place], &data->files[place + 1],
            (data->count - place) * sizeof(struct data_file *));
    group_set(data, number, NULL);
    if (data->writing == file)
        data->writing = NULL;
    file_close(data, file);
}

int
data_file_remove(const struct env *env, uint32_t number)
{
    char name[DATA_NAME_SIZE];
    data_name(name, number);
    int result = env->file_remove(env->context, name);
    MACE_KILL_POINT("data:removed");
    return result;
}

void
data_remove(struct data *data, uint32_t number)
{
    if (data_file_find(data, number) == NULL)
        return;
    data_forget(data, number);
    (void)data_file_remove(data->env, number); /* a leftover is never read */
}

/* --- what an earlier life left --- */

struct leftovers {
    const struct data *data;
    char (*names)[DATA_NAME_SIZE];
    size_t count, capacity;
};

static bool
is_leftover(const struct data *data, const char *entry)
{
    uint32_t number;
    if (data_name_parse(entry, &number))
        return data_file_find(data, number) == NULL;
    size_t length = strlen(entry);
    return length > 4 && strcmp(entry + length - 4, ".tmp") == 0 &&
           length < DATA_NAME_SIZE - strlen("data/");
}

static int
leftover_add(const char *entry, void *argument)
{
    struct leftovers *found = argument;
    if (!is_leftover(found->data, entry))
        return 0;
    if (found->count == found->capacity) {
        size_t capacity = found->capacity != 0 ? found->capacity * 2 : 16;
        void *names = realloc(found->names, capacity * sizeof found->names[0]);
        if (names == NULL)
            return 1; /* the next start finds the rest */
        found->names = names;
        found->capacity = capacity;
    }
    snprintf(found->names[found->count++], DATA_NAME_SIZE, "data/%s", entry);
    return 0;
}

void
data_tidy(struct data *data)
{
    const struct env *env = data->env;
    struct leftovers found = {.data = data};
    /* A listing may lose its place when names go meanwhile. */
    (void)env->directory_list(env->context, "data", leftover_add, &found);
    for (size_t i = 0; i < found.count; i++)
        (void)env->file_remove(env->context, found.names[i]);
    if (found.count > 0)
        (void)env->directory_sync(env->context, "data");
    free(found.names);
}
