#include <lmdb.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "engine.h"

struct engine_handle {
    MDB_env *env;
    MDB_dbi dbi;
    MDB_txn *reader;
};

static struct engine_handle *
handle_open(const char *path, bool sync)
{
    struct engine_handle *handle = calloc(1, sizeof *handle);
    MDB_txn *txn;
    mkdir(path, 0777);
    if (mdb_env_create(&handle->env) != 0 ||
        mdb_env_set_mapsize(handle->env, (size_t)8 << 30) != 0 ||
        mdb_env_open(handle->env, path, sync ? 0 : MDB_NOSYNC, 0666) != 0 ||
        mdb_txn_begin(handle->env, NULL, 0, &txn) != 0 ||
        mdb_dbi_open(txn, NULL, 0, &handle->dbi) != 0 || mdb_txn_commit(txn) != 0) {
        free(handle);
        return NULL;
    }
    return handle;
}

static void
handle_close(struct engine_handle *handle)
{
    mdb_env_close(handle->env);
    free(handle);
}

static MDB_val
val(const void *data, size_t size)
{
    return (MDB_val){.mv_size = size, .mv_data = (void *)(uintptr_t)data};
}

static int
handle_put_many(struct engine_handle *handle, size_t count, const void *keys, size_t key_size,
                const void *values, size_t value_size)
{
    MDB_txn *txn;
    int error = mdb_txn_begin(handle->env, NULL, 0, &txn);
    if (error != 0)
        return error;
    for (size_t i = 0; i < count && error == 0; i++) {
        MDB_val key = val((const char *)keys + i * key_size, key_size);
        MDB_val value = val((const char *)values + i * value_size, value_size);
        error = mdb_put(txn, handle->dbi, &key, &value, 0);
    }
    if (error != 0) {
        mdb_txn_abort(txn);
        return error;
    }
    return mdb_txn_commit(txn);
}

static int
handle_put(struct engine_handle *handle, const void *key, size_t key_size, const void *value,
           size_t value_size)
{
    return handle_put_many(handle, 1, key, key_size, value, value_size);
}

static int
read_begin(struct engine_handle *handle)
{
    return mdb_txn_begin(handle->env, NULL, MDB_RDONLY, &handle->reader);
}

static int
handle_get(struct engine_handle *handle, const void *key, size_t key_size, void *value,
           size_t capacity)
{
    MDB_val k = val(key, key_size), v;
    int error = mdb_get(handle->reader, handle->dbi, &k, &v);
    if (error != 0)
        return error;
    memcpy(value, v.mv_data, v.mv_size < capacity ? v.mv_size : capacity);
    return 0;
}

static uint64_t
handle_scan(struct engine_handle *handle, uint64_t *sum)
{
    MDB_cursor *cursor;
    MDB_val key, value;
    uint64_t count = 0;
    if (mdb_cursor_open(handle->reader, handle->dbi, &cursor) != 0)
        return 0;
    while (mdb_cursor_get(cursor, &key, &value, MDB_NEXT) == 0) {
        *sum +=
            ((const uint8_t *)key.mv_data)[key.mv_size - 1] + ((const uint8_t *)value.mv_data)[0];
        count++;
    }
    mdb_cursor_close(cursor);
    return count;
}

static void
read_end(struct engine_handle *handle)
{
    mdb_txn_abort(handle->reader);
}

const struct engine engine_lmdb = {
    .name = "LMDB",
    .processes = true,
    .open = handle_open,
    .close = handle_close,
    .put = handle_put,
    .put_many = handle_put_many,
    .read_begin = read_begin,
    .get = handle_get,
    .scan = handle_scan,
    .read_end = read_end,
};
