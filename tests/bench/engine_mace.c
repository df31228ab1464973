#include <stdlib.h>
#include <string.h>

#include "engine.h"
#include "mace/mace.h"

struct engine_handle {
    mace *db;
    mace_bucket *bucket;
    mace_txn *reader;
    unsigned level;
    mace_ticket newest;
    bool pending;
};

static struct engine_handle *
handle_open(const char *path, bool sync)
{
    struct engine_handle *handle = calloc(1, sizeof *handle);
    mace_options options;
    mace_options_init(&options);
    options.cache_size = UINT64_C(2) << 30;
    options.durability = sync ? MACE_SYNC : MACE_OS;
    options.idle_exit_ms = 500;
    handle->level = options.durability;
    if (mace_open(path, &options, &handle->db) != MACE_OK ||
        mace_bucket_open(handle->db, "default", &handle->bucket) != MACE_OK) {
        free(handle);
        return NULL;
    }
    return handle;
}

static void
handle_close(struct engine_handle *handle)
{
    mace_close(handle->db);
    free(handle);
}

static int
handle_put(struct engine_handle *handle, const void *key, size_t key_size, const void *value,
           size_t value_size)
{
    return mace_put1(handle->db, handle->bucket, key, key_size, value, value_size);
}

static int
handle_put_many(struct engine_handle *handle, size_t count, const void *keys, size_t key_size,
                const void *values, size_t value_size)
{
    mace_txn *txn;
    int status = mace_begin(handle->db, handle->level, &txn);
    if (status != MACE_OK)
        return status;
    for (size_t i = 0; i < count && status == MACE_OK; i++)
        status = mace_put(txn, handle->bucket, (const char *)keys + i * key_size, key_size,
                          (const char *)values + i * value_size, value_size);
    int committed = mace_commit(txn);
    return status != MACE_OK ? status : committed;
}

static int
read_begin(struct engine_handle *handle)
{
    return mace_begin(handle->db, MACE_RDONLY, &handle->reader);
}

static int
handle_get(struct engine_handle *handle, const void *key, size_t key_size, void *value,
           size_t capacity)
{
    size_t size;
    return mace_get_into(handle->reader, handle->bucket, key, key_size, value, capacity, &size);
}

static uint64_t
handle_scan(struct engine_handle *handle, uint64_t *sum)
{
    mace_cursor *cursor;
    mace_slice key, value;
    uint64_t count = 0;
    if (mace_cursor_open(handle->reader, handle->bucket, NULL, &cursor) != MACE_OK)
        return 0;
    while (mace_cursor_next(cursor, &key, &value) == MACE_OK) {
        *sum += ((const uint8_t *)key.data)[key.size - 1] + ((const uint8_t *)value.data)[0];
        count++;
    }
    mace_cursor_close(cursor);
    return count;
}

static void
read_end(struct engine_handle *handle)
{
    mace_abort(handle->reader);
}

static int
handle_put_async(struct engine_handle *handle, const void *key, size_t key_size, const void *value,
                 size_t value_size)
{
    mace_txn *txn;
    int status = mace_begin(handle->db, handle->level, &txn);
    if (status != MACE_OK)
        return status;
    status = mace_put(txn, handle->bucket, key, key_size, value, value_size);
    if (status != MACE_OK) {
        mace_abort(txn);
        return status;
    }
    status = mace_commit_async(txn, &handle->newest);
    handle->pending = status == MACE_OK;
    return status;
}

static int
handle_drain(struct engine_handle *handle)
{
    int status = handle->pending ? mace_wait(handle->db, &handle->newest) : MACE_OK;
    handle->pending = false;
    return status;
}

const struct engine engine_mace = {
    .name = "mace",
    .processes = true,
    .open = handle_open,
    .close = handle_close,
    .put = handle_put,
    .put_many = handle_put_many,
    .read_begin = read_begin,
    .get = handle_get,
    .scan = handle_scan,
    .read_end = read_end,
    .put_async = handle_put_async,
    .drain = handle_drain,
};
