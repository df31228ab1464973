/* client.c - short forms of the public interface. */
#include "support/client.h"

#include <string.h>

static mace *
client_open_with(const char *path, int start_broker, unsigned idle_exit_ms)
{
    mace_options options;
    mace *db;

    mace_options_init(&options);
    options.start_broker = start_broker;
    options.durability = MACE_OS;
    options.connect_timeout_ms = 60000;
    options.idle_exit_ms = idle_exit_ms;
    options.cache_size = UINT64_C(32) << 20;
    require_ok(mace_open(path, &options, &db));
    return db;
}

mace *
client_open(const char *path)
{
    return client_open_with(path, 0, 0);
}

mace *
client_open_starting(const char *path, unsigned idle_exit_ms)
{
    return client_open_with(path, 1, idle_exit_ms);
}

mace_bucket *
client_bucket(mace *db, const char *name)
{
    mace_bucket *bucket;
    int status = mace_bucket_open(db, name, &bucket);

    if (status == MACE_NOT_FOUND)
        status = mace_bucket_create(db, name, NULL, &bucket);
    if (status == MACE_EXISTS)
        status = mace_bucket_open(db, name, &bucket);
    require(status == 0, "bucket %s: %s", name, mace_strerror(status));
    return bucket;
}

int
client_put(mace *db, mace_bucket *bucket, const char *key, const char *value)
{
    return mace_put1(db, bucket, key, strlen(key), value, strlen(value));
}

int
client_has(mace *db, mace_bucket *bucket, const char *key, const char *value)
{
    char found[8192];
    size_t size = 0;
    int status = mace_get1(db, bucket, key, strlen(key), found, sizeof found, &size);

    require(status == MACE_OK || status == MACE_NOT_FOUND, "get %s: %s", key,
            mace_strerror(status));
    return status == MACE_OK && size == strlen(value) && memcmp(found, value, size) == 0;
}

int
client_absent(mace *db, mace_bucket *bucket, const char *key)
{
    size_t size = 0;
    int status = mace_get1(db, bucket, key, strlen(key), NULL, 0, &size);

    require(status == MACE_BUFFER_TOO_SMALL || status == MACE_OK || status == MACE_NOT_FOUND,
            "get %s: %s", key, mace_strerror(status));
    return status == MACE_NOT_FOUND;
}

int
client_commit_put(mace *db, mace_bucket *bucket, unsigned flags, const char *key, const char *value,
                  uint64_t *timestamp)
{
    mace_txn *txn;
    uint64_t committed = 0;

    require_ok(mace_begin(db, flags, &txn));
    require_ok(mace_put(txn, bucket, key, strlen(key), value, strlen(value)));
    int status = mace_commit_ts(txn, &committed);
    if (status == MACE_OK && timestamp != NULL)
        *timestamp = committed;
    return status;
}

uint64_t
client_newest(mace *db)
{
    mace_txn *txn;

    require_ok(mace_begin(db, MACE_RDONLY, &txn));
    uint64_t snapshot = mace_txn_snapshot(txn);
    mace_abort(txn);
    return snapshot;
}

mace_stat
client_stat(mace *db)
{
    mace_stat stat;

    mace_stat_init(&stat);
    require_ok(mace_stat_read(db, &stat));
    return stat;
}
