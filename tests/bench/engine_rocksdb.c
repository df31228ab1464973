#include <rocksdb/c.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "engine.h"

struct engine_handle {
    rocksdb_t *db;
    rocksdb_options_t *options;
    rocksdb_writeoptions_t *write;
    rocksdb_readoptions_t *read;
    const rocksdb_snapshot_t *snapshot;
    bool shared;
};

enum { MANY = 1024, SETTLE_US = 20000 };

/* Memory for a quarter in two write buffers, the rest in the block cache, which holds the filters and indexes as well.
 * Nothing is compressed: the values are random bytes, and the other engines do not compress either. */
static void
options_limit(rocksdb_options_t *options, rocksdb_block_based_table_options_t *table,
              const struct engine_setup *setup)
{
    uint64_t buffer = setup->memory / 8 < 4 << 20 ? 4 << 20 : setup->memory / 8;
    rocksdb_options_set_write_buffer_size(options, buffer);
    rocksdb_options_set_max_write_buffer_number(options, 2);
    rocksdb_options_set_target_file_size_base(options, buffer);
    rocksdb_options_set_max_bytes_for_level_base(options, buffer * 4);
    rocksdb_options_set_level_compaction_dynamic_level_bytes(options, 1);
    rocksdb_options_set_max_background_jobs(options, 2);
    rocksdb_options_set_compression(options, rocksdb_no_compression);
    rocksdb_options_set_use_direct_reads(options, setup->direct);
    rocksdb_options_set_use_direct_io_for_flush_and_compaction(options, setup->direct);
    rocksdb_options_set_max_open_files(options, 512);
    rocksdb_block_based_options_set_cache_index_and_filter_blocks(table, 1);
    rocksdb_block_based_options_set_pin_l0_filter_and_index_blocks_in_cache(table, 1);
}

static struct engine_handle *
handle_open(const char *path, const struct engine_setup *setup)
{
    struct engine_handle *handle = calloc(1, sizeof *handle);
    char *error = NULL;
    handle->options = rocksdb_options_create();
    rocksdb_options_set_create_if_missing(handle->options, 1);
    rocksdb_options_set_write_buffer_size(handle->options, 64 << 20);
    rocksdb_block_based_table_options_t *table = rocksdb_block_based_options_create();
    rocksdb_cache_t *cache =
        rocksdb_cache_create_lru(setup->memory != 0 ? setup->memory / 4 * 3 : (size_t)1 << 30);
    rocksdb_block_based_options_set_block_cache(table, cache);
    rocksdb_block_based_options_set_filter_policy(table,
                                                  rocksdb_filterpolicy_create_bloom_full(10));
    if (setup->memory != 0)
        options_limit(handle->options, table, setup);
    rocksdb_options_set_block_based_table_factory(handle->options, table);
    handle->db = rocksdb_open(handle->options, path, &error);
    handle->write = rocksdb_writeoptions_create();
    rocksdb_writeoptions_set_sync(handle->write, setup->sync);
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
    if (!handle->shared) {
        rocksdb_close(handle->db);
        rocksdb_options_destroy(handle->options);
    }
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

static struct engine_handle *
handle_share(struct engine_handle *handle)
{
    struct engine_handle *made = calloc(1, sizeof *made);
    made->db = handle->db;
    made->write = rocksdb_writeoptions_create();
    rocksdb_writeoptions_set_sync(made->write, rocksdb_writeoptions_get_sync(handle->write));
    made->read = rocksdb_readoptions_create();
    made->shared = true;
    return made;
}

static size_t
get_many(struct engine_handle *handle, size_t count, const void *keys, size_t key_size)
{
    const char *at[MANY] = {NULL};
    char *values[MANY], *errors[MANY];
    size_t key_sizes[MANY] = {0}, value_sizes[MANY], found = 0;
    if (count == 0 || count > MANY)
        return 0;
    for (size_t i = 0; i < count; i++) {
        at[i] = (const char *)keys + i * key_size;
        key_sizes[i] = key_size;
    }
    rocksdb_multi_get(handle->db, handle->read, count, at, key_sizes, values, value_sizes, errors);
    for (size_t i = 0; i < count; i++) {
        found += errors[i] == NULL && values[i] != NULL;
        rocksdb_free(values[i]);
        rocksdb_free(errors[i]);
    }
    return found;
}

static size_t
scan_from(struct engine_handle *handle, const void *key, size_t key_size, size_t count)
{
    size_t met = 0, size;
    uint64_t seen = 0;
    rocksdb_iterator_t *iterator = rocksdb_create_iterator(handle->db, handle->read);
    rocksdb_iter_seek(iterator, key, key_size);
    while (rocksdb_iter_valid(iterator) && ++met < count) {
        seen += *(const uint8_t *)rocksdb_iter_value(iterator, &size);
        rocksdb_iter_next(iterator);
    }
    rocksdb_iter_destroy(iterator);
    return seen == UINT64_MAX ? 0 : met;
}

static uint64_t
property(struct engine_handle *handle, const char *name)
{
    uint64_t value = 0;
    rocksdb_property_int(handle->db, name, &value);
    return value;
}

/* Flushes, then waits until no compaction runs or is called for. */
static int
handle_settle(struct engine_handle *handle)
{
    char *error = NULL;
    unsigned calm = 0;
    rocksdb_flushoptions_t *flush = rocksdb_flushoptions_create();
    rocksdb_flushoptions_set_wait(flush, 1);
    rocksdb_flush(handle->db, flush, &error);
    rocksdb_flushoptions_destroy(flush);
    while (error == NULL && calm < 5) {
        bool busy = property(handle, "rocksdb.num-running-flushes") != 0 ||
                    property(handle, "rocksdb.num-running-compactions") != 0 ||
                    property(handle, "rocksdb.compaction-pending") != 0;
        calm = busy ? 0 : calm + 1;
        usleep(SETTLE_US);
    }
    return error == NULL ? 0 : -1;
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
    .share = handle_share,
    .unshare = handle_close,
    .get_newest = handle_get, /* a shared handle has no snapshot set */
    .get_many = get_many,
    .scan_from = scan_from,
    .settle = handle_settle,
};
