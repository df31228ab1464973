#include <lmdb.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "engine.h"

struct engine_handle {
    MDB_env *env;
    MDB_dbi dbi;
    MDB_txn *reader;
    MDB_txn *newest; /* of get_newest and scan_from: renewed for each */
    bool shared;
};

static struct engine_handle *
handle_open(const char *path, const struct engine_setup *setup)
{
    struct engine_handle *handle = calloc(1, sizeof *handle);
    MDB_txn *txn;
    uint64_t map = setup->map != 0 ? setup->map : UINT64_C(8) << 30;
    unsigned flags =
        (setup->sync ? 0 : MDB_NOSYNC) | (setup->memory != 0 ? MDB_NORDAHEAD | MDB_NOTLS : 0);
    mkdir(path, 0777);
    if (mdb_env_create(&handle->env) != 0 || mdb_env_set_mapsize(handle->env, map) != 0 ||
        mdb_env_open(handle->env, path, flags, 0666) != 0 ||
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
    if (handle->newest != NULL)
        mdb_txn_abort(handle->newest);
    if (!handle->shared)
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

static struct engine_handle *
handle_share(struct engine_handle *handle)
{
    struct engine_handle *made = calloc(1, sizeof *made);
    made->env = handle->env;
    made->dbi = handle->dbi;
    made->shared = true;
    return made;
}

static int
newest_begin(struct engine_handle *handle)
{
    if (handle->newest != NULL)
        return mdb_txn_renew(handle->newest);
    return mdb_txn_begin(handle->env, NULL, MDB_RDONLY, &handle->newest);
}

static int
get_newest(struct engine_handle *handle, const void *key, size_t key_size, void *value,
           size_t capacity)
{
    MDB_val k = val(key, key_size), v;
    int error = newest_begin(handle);
    if (error != 0)
        return error;
    error = mdb_get(handle->newest, handle->dbi, &k, &v);
    if (error == 0)
        memcpy(value, v.mv_data, v.mv_size < capacity ? v.mv_size : capacity);
    mdb_txn_reset(handle->newest);
    return error;
}

static size_t
get_many(struct engine_handle *handle, size_t count, const void *keys, size_t key_size)
{
    size_t found = 0;
    uint64_t value;
    for (size_t i = 0; i < count; i++)
        found += handle_get(handle, (const char *)keys + i * key_size, key_size, &value,
                            sizeof value) == 0;
    return found;
}

static size_t
scan_from(struct engine_handle *handle, const void *key, size_t key_size, size_t count)
{
    MDB_cursor *cursor;
    MDB_val k = val(key, key_size), v;
    size_t met = 0;
    uint64_t seen = 0;
    if (newest_begin(handle) != 0)
        return 0;
    if (mdb_cursor_open(handle->newest, handle->dbi, &cursor) == 0) {
        int error = mdb_cursor_get(cursor, &k, &v, MDB_SET_RANGE);
        while (error == 0 && ++met < count) {
            seen += *(const uint8_t *)v.mv_data;
            error = mdb_cursor_get(cursor, &k, &v, MDB_NEXT);
        }
        mdb_cursor_close(cursor);
    }
    mdb_txn_reset(handle->newest);
    return seen == UINT64_MAX ? 0 : met;
}

static int
handle_settle(struct engine_handle *handle)
{
    return mdb_env_sync(handle->env, 1);
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
    .share = handle_share,
    .unshare = handle_close,
    .get_newest = get_newest,
    .get_many = get_many,
    .scan_from = scan_from,
    .settle = handle_settle,
};
