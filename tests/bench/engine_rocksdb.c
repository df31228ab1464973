#include <rocksdb/c.h>
#include <stdlib.h>
#include <string.h>

#include "engine.h"

struct engine_handle {
    rocksdb_t *db;
    rocksdb_options_t *options;
    rocksdb_writeoptions_t *write;
    rocksdb_readoptions_t *read;
    const rocksdb_snapshot_t *snapshot;
};

static struct engine_handle *
handle_open(const char *path, bool sync)
{
    struct engine_handle *handle = calloc(1, sizeof *handle);
    char *error = NULL;
    handle->options = rocksdb_options_create();
    rocksdb_options_set_create_if_missing(handle->options, 1);
    rocksdb_options_set_write_buffer_size(handle->options, 64 << 20);
    rocksdb_block_based_table_options_t *table = rocksdb_block_based_options_create();
    rocksdb_cache_t *cache = rocksdb_cache_create_lru((size_t)1 << 30);
    rocksdb_block_based_options_set_block_cache(table, cache);
    rocksdb_block_based_options_set_filter_policy(table,
                                                  rocksdb_filterpolicy_create_bloom_full(10));
    rocksdb_options_set_block_based_table_factory(handle->options, table);
    handle->db = rocksdb_open(handle->options, path, &error);
    handle->write = rocksdb_writeoptions_create();
    rocksdb_writeoptions_set_sync(handle->write, sync);
    handle->read = rocksdb_readoptions_create();
    if (error != NULL) {
        free(handle);
        return NULL;
    }
    return handle;
}

static void
handle_close(struct engine_handle *handle)
{
    rocksdb_readoptions_destroy(handle->read);
    rocksdb_writeoptions_destroy(handle->write);
    rocksdb_close(handle->db);
    rocksdb_options_destroy(handle->options);
    free(handle);
}

static int
handle_put(struct engine_handle *handle, const void *key, size_t key_size, const void *value,
           size_t value_size)
{
    char *error = NULL;
    rocksdb_put(handle->db, handle->write, key, key_size, value, value_size, &error);
    return error == NULL ? 0 : -1;
}

static int
handle_put_many(struct engine_handle *handle, size_t count, const void *keys, size_t key_size,
                const void *values, size_t value_size)
{
    char *error = NULL;
    rocksdb_writebatch_t *batch = rocksdb_writebatch_create();
    for (size_t i = 0; i < count; i++)
        rocksdb_writebatch_put(batch, (const char *)keys + i * key_size, key_size,
                               (const char *)values + i * value_size, value_size);
    rocksdb_write(handle->db, handle->write, batch, &error);
    rocksdb_writebatch_destroy(batch);
    return error == NULL ? 0 : -1;
}

static int
read_begin(struct engine_handle *handle)
{
    handle->snapshot = rocksdb_create_snapshot(handle->db);
    rocksdb_readoptions_set_snapshot(handle->read, handle->snapshot);
    return 0;
}

static int
handle_get(struct engine_handle *handle, const void *key, size_t key_size, void *value,
           size_t capacity)
{
    char *error = NULL;
    size_t size;
    char *found = rocksdb_get(handle->db, handle->read, key, key_size, &size, &error);
    if (found == NULL)
        return -1;
    memcpy(value, found, size < capacity ? size : capacity);
    rocksdb_free(found);
    return 0;
}

static uint64_t
handle_scan(struct engine_handle *handle, uint64_t *sum)
{
    uint64_t count = 0;
    rocksdb_iterator_t *iterator = rocksdb_create_iterator(handle->db, handle->read);
    for (rocksdb_iter_seek_to_first(iterator); rocksdb_iter_valid(iterator);
         rocksdb_iter_next(iterator)) {
        size_t key_size, value_size;
        const char *key = rocksdb_iter_key(iterator, &key_size);
        const char *value = rocksdb_iter_value(iterator, &value_size);
        *sum += (uint8_t)key[key_size - 1] + (uint8_t)value[0];
        count++;
    }
    rocksdb_iter_destroy(iterator);
    return count;
}

static void
read_end(struct engine_handle *handle)
{
    rocksdb_readoptions_set_snapshot(handle->read, NULL);
    rocksdb_release_snapshot(handle->db, handle->snapshot);
}

const struct engine engine_rocksdb = {
    .name = "RocksDB",
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
