#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine.h"
#include "mace/mace.h"

enum { MANY = 1024, COMMITS_AHEAD = 4 };

struct engine_handle {
    mace *db;
    mace_bucket *bucket;
    mace_txn *reader;
    unsigned level;
    mace_ticket newest;
    mace_ticket ahead[COMMITS_AHEAD]; /* of put_many_async, a ring */
    uint64_t ahead_count;
    bool pending, shared;
    mace_cursor *cursor; /* of scan_from, in `ranger` */
    mace_txn *ranger;
};

static int
bucket_open(struct engine_handle *handle, uint32_t page_size)
{
    mace_bucket_options options;
    if (page_size == 0)
        return mace_bucket_open(handle->db, "default", &handle->bucket);
    mace_bucket_options_init(&options);
    options.page_size = page_size;
    int status = mace_bucket_create(handle->db, "bench", &options, &handle->bucket);
    return status == MACE_EXISTS ? mace_bucket_open(handle->db, "bench", &handle->bucket) : status;
}

static struct engine_handle *
handle_open(const char *path, const struct engine_setup *setup)
{
    struct engine_handle *handle = calloc(1, sizeof *handle);
    mace_options options;
    mace_options_init(&options);
    options.cache_size = setup->memory != 0 ? setup->memory : UINT64_C(2) << 30;
    options.durability = setup->sync ? MACE_SYNC : MACE_OS;
    options.idle_exit_ms = 500;
    handle->level = options.durability;
    int status = mace_open(path, &options, &handle->db);
    if (status == MACE_OK)
        status = bucket_open(handle, setup->page_size);
    if (status != MACE_OK) {
        fprintf(stderr, "%s: %s\n", path, mace_strerror(status));
        free(handle);
        return NULL;
    }
    return handle;
}

static void
handle_close(struct engine_handle *handle)
{
    if (handle->ranger != NULL)
        mace_abort(handle->ranger);
    if (!handle->shared)
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
many_begin(struct engine_handle *handle, size_t count, const void *keys, size_t key_size,
           const void *values, size_t value_size, mace_txn **txn)
{
    int status = mace_begin(handle->db, handle->level, txn);
    if (status != MACE_OK)
        return status;
    for (size_t i = 0; i < count && status == MACE_OK; i++)
        status = mace_put(*txn, handle->bucket, (const char *)keys + i * key_size, key_size,
                          (const char *)values + i * value_size, value_size);
    if (status != MACE_OK)
        mace_abort(*txn);
    return status;
}

static int
handle_put_many(struct engine_handle *handle, size_t count, const void *keys, size_t key_size,
                const void *values, size_t value_size)
{
    mace_txn *txn;
    int status = many_begin(handle, count, keys, key_size, values, value_size, &txn);
    return status != MACE_OK ? status : mace_commit(txn);
}

/* The oldest commit under way is waited for when its place is needed again. */
static int
put_many_async(struct engine_handle *handle, size_t count, const void *keys, size_t key_size,
               const void *values, size_t value_size)
{
    mace_txn *txn;
    mace_ticket *ticket = &handle->ahead[handle->ahead_count % COMMITS_AHEAD];
    int status = many_begin(handle, count, keys, key_size, values, value_size, &txn);
    if (status != MACE_OK)
        return status;
    int before = handle->ahead_count >= COMMITS_AHEAD ? mace_wait(handle->db, ticket) : MACE_OK;
    status = mace_commit_async(txn, ticket);
    handle->ahead_count++;
    return before != MACE_OK ? before : status;
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
    uint64_t left = handle->ahead_count < COMMITS_AHEAD ? handle->ahead_count : COMMITS_AHEAD;
    for (uint64_t i = handle->ahead_count - left; i < handle->ahead_count; i++) {
        int waited = mace_wait(handle->db, &handle->ahead[i % COMMITS_AHEAD]);
        status = status != MACE_OK ? status : waited;
    }
    handle->ahead_count = 0;
    return status;
}

static struct engine_handle *
handle_share(struct engine_handle *handle)
{
    struct engine_handle *made = calloc(1, sizeof *made);
    made->db = handle->db;
    made->bucket = handle->bucket;
    made->level = handle->level;
    made->shared = true;
    return made;
}

static int
get_newest(struct engine_handle *handle, const void *key, size_t key_size, void *value,
           size_t capacity)
{
    size_t size;
    return mace_get1(handle->db, handle->bucket, key, key_size, value, capacity, &size);
}

static size_t
get_many(struct engine_handle *handle, size_t count, const void *keys, size_t key_size)
{
    mace_slice slices[MANY], values[MANY];
    int statuses[MANY];
    size_t found = 0;
    if (count == 0 || count > MANY)
        return 0;
    for (size_t i = 0; i < count; i++)
        slices[i] = (mace_slice){(const char *)keys + i * key_size, key_size};
    if (mace_get_many(handle->reader, handle->bucket, count, slices, values, statuses) != MACE_OK)
        return 0;
    for (size_t i = 0; i < count; i++)
        found += statuses[i] == MACE_OK && values[i].size > 0;
    return found;
}

static int
ranger_place(struct engine_handle *handle)
{
    if (handle->ranger != NULL)
        return mace_renew(handle->ranger);
    int status = mace_begin(handle->db, MACE_RDONLY, &handle->ranger);
    if (status == MACE_OK)
        status = mace_cursor_open(handle->ranger, handle->bucket, NULL, &handle->cursor);
    return status;
}

static size_t
scan_from(struct engine_handle *handle, const void *key, size_t key_size, size_t count)
{
    mace_slice k, v;
    size_t met = 0;
    if (ranger_place(handle) != MACE_OK)
        return 0;
    int status = mace_cursor_seek(handle->cursor, key, key_size, &k, &v);
    while (status == MACE_OK && ++met < count)
        status = mace_cursor_next(handle->cursor, &k, &v);
    return met;
}

static int
handle_settle(struct engine_handle *handle)
{
    return mace_checkpoint(handle->db);
}

static int
handle_writer(struct engine_handle *handle)
{
    mace_stat stat;
    mace_stat_init(&stat);
    return mace_stat_read(handle->db, &stat) == MACE_OK ? (int)stat.broker_pid : 0;
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
    .put_many_async = put_many_async,
    .share = handle_share,
    .unshare = handle_close,
    .get_newest = get_newest,
    .get_many = get_many,
    .scan_from = scan_from,
    .settle = handle_settle,
    .writer = handle_writer,
};
