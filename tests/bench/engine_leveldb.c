#include <leveldb/c.h>
#include <stdlib.h>
#include <string.h>

#include "engine.h"

struct engine_handle {
    leveldb_t *db;
    leveldb_options_t *options;
    leveldb_writeoptions_t *write;
    leveldb_readoptions_t *read;
    const leveldb_snapshot_t *snapshot;
};

static struct engine_handle *
handle_open(const char *path, const struct engine_setup *setup)
{
    struct engine_handle *handle = calloc(1, sizeof *handle);
    char *error = NULL;
    handle->options = leveldb_options_create();
    leveldb_options_set_create_if_missing(handle->options, 1);
    leveldb_options_set_write_buffer_size(handle->options, 64 << 20);
    leveldb_options_set_cache(handle->options, leveldb_cache_create_lru((size_t)1 << 30));
    leveldb_options_set_filter_policy(handle->options, leveldb_filterpolicy_create_bloom(10));
    handle->db = leveldb_open(handle->options, path, &error);
    handle->write = leveldb_writeoptions_create();
    leveldb_writeoptions_set_sync(handle->write, setup->sync);
    handle->read = leveldb_readoptions_create();
    if (error != NULL) {
        free(handle);
        return NULL;
    }
    return handle;
}

static void
handle_close(struct engine_handle *handle)
{
    leveldb_readoptions_destroy(handle->read);
    leveldb_writeoptions_destroy(handle->write);
    leveldb_close(handle->db);
    leveldb_options_destroy(handle->options);
    free(handle);
}

static int
handle_put(struct engine_handle *handle, const void *key, size_t key_size, const void *value,
           size_t value_size)
{
    char *error = NULL;
    leveldb_put(handle->db, handle->write, key, key_size, value, value_size, &error);
    return error == NULL ? 0 : -1;
}

static int
handle_put_many(struct engine_handle *handle, size_t count, const void *keys, size_t key_size,
                const void *values, size_t value_size)
{
    char *error = NULL;
    leveldb_writebatch_t *batch = leveldb_writebatch_create();
    for (size_t i = 0; i < count; i++)
        leveldb_writebatch_put(batch, (const char *)keys + i * key_size, key_size,
                               (const char *)values + i * value_size, value_size);
    leveldb_write(handle->db, handle->write, batch, &error);
    leveldb_writebatch_destroy(batch);
    return error == NULL ? 0 : -1;
}

static int
read_begin(struct engine_handle *handle)
{
    handle->snapshot = leveldb_create_snapshot(handle->db);
    leveldb_readoptions_set_snapshot(handle->read, handle->snapshot);
    return 0;
}

static int
handle_get(struct engine_handle *handle, const void *key, size_t key_size, void *value,
           size_t capacity)
{
    char *error = NULL;
    size_t size;
    char *found = leveldb_get(handle->db, handle->read, key, key_size, &size, &error);
    if (found == NULL)
        return -1;
    memcpy(value, found, size < capacity ? size : capacity);
    leveldb_free(found);
    return 0;
}

static uint64_t
handle_scan(struct engine_handle *handle, uint64_t *sum)
{
    uint64_t count = 0;
    leveldb_iterator_t *iterator = leveldb_create_iterator(handle->db, handle->read);
    for (leveldb_iter_seek_to_first(iterator); leveldb_iter_valid(iterator);
         leveldb_iter_next(iterator)) {
        size_t key_size, value_size;
        const char *key = leveldb_iter_key(iterator, &key_size);
        const char *value = leveldb_iter_value(iterator, &value_size);
        *sum += (uint8_t)key[key_size - 1] + (uint8_t)value[0];
        count++;
    }
    leveldb_iter_destroy(iterator);
    return count;
}

static void
read_end(struct engine_handle *handle)
{
    leveldb_readoptions_set_snapshot(handle->read, NULL);
    leveldb_release_snapshot(handle->db, handle->snapshot);
}

const struct engine engine_leveldb = {
    .name = "LevelDB",
    .processes = false,
    .open = handle_open,
    .close = handle_close,
    .put = handle_put,
    .put_many = handle_put_many,
    .read_begin = read_begin,
    .get = handle_get,
    .scan = handle_scan,
    .read_end = read_end,
};
