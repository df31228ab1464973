#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "mace/mace.h"
#include "mshm/status.h"
#include "salvage.h"

enum { BATCH_WRITES = 2000, BATCH_BYTES = 512 * 1024, IDLE_EXIT_MS = 200, CONNECT_MS = 60 * 1000 };

struct target {
    uint32_t id;
    bool dropped;
    mace_bucket *handle;
    char name[MSHM_MAX_BUCKET_NAME + 1];
};

struct salvage_store {
    mace *db;
    mace_txn *txn; /* NULL: none is open */
    uint32_t writes;
    uint64_t bytes;
    struct target *targets;
    uint32_t count, capacity;
};

static bool
name_equal(const char *text, const char *name, size_t size)
{
    return strlen(text) == size && memcmp(text, name, size) == 0;
}

static struct target *
target_find(const struct salvage_store *store, uint32_t id)
{
    for (uint32_t i = 0; i < store->count; i++)
        if (store->targets[i].id == id)
            return &store->targets[i];
    return NULL;
}

int
salvage_store_create(struct salvage_store **result, const char *path, char *why, size_t why_size)
{
    mace_options options;
    struct salvage_store *store = calloc(1, sizeof *store);
    if (store == NULL)
        return MACE_NO_MEMORY;
    mace_options_init(&options);
    options.durability = MACE_OS;
    options.idle_exit_ms = IDLE_EXIT_MS;
    options.connect_timeout_ms = CONNECT_MS;
    int status = mace_open(path, &options, &store->db);
    if (status != MACE_OK) {
        snprintf(why, why_size, "%s: a new database cannot be made: %s", path,
                 status == MACE_NOT_FOUND
                     ? "the directory above it or the program mace-broker is not found"
                     : mace_strerror(status));
        free(store);
        return status;
    }
    *result = store;
    return MACE_OK;
}

static int
store_commit(struct salvage_store *store)
{
    mace_txn *txn = store->txn;
    store->txn = NULL;
    store->writes = 0;
    store->bytes = 0;
    return txn != NULL ? mace_commit(txn) : MACE_OK;
}

int
salvage_store_finish(struct salvage_store *store)
{
    int status = store_commit(store);
    if (status == MACE_OK)
        status = mace_sync(store->db);
    return status == MACE_OK ? mace_checkpoint(store->db) : status;
}

void
salvage_store_destroy(struct salvage_store *store)
{
    if (store == NULL)
        return;
    if (store->txn != NULL)
        mace_abort(store->txn);
    for (uint32_t i = 0; i < store->count; i++)
        if (store->targets[i].handle != NULL)
            mace_bucket_close(store->targets[i].handle);
    mace_close(store->db);
    free(store->targets);
    free(store);
}

/* --- buckets --- */

static int
target_add(struct salvage_store *store, struct target **added)
{
    if (store->count == store->capacity) {
        uint32_t capacity = store->capacity != 0 ? store->capacity * 2 : 16;
        struct target *grown = realloc(store->targets, capacity * sizeof *grown);
        if (grown == NULL)
            return MACE_NO_MEMORY;
        store->targets = grown;
        store->capacity = capacity;
    }
    *added = &store->targets[store->count];
    **added = (struct target){0};
    return MACE_OK;
}

/* "default" is there from the start; of its options those that may change are taken over. */
static int
target_open(struct salvage_store *store, struct target *target,
            const struct catalogue_record *record)
{
    mace_bucket_options options;
    mace_bucket_options_init(&options);
    if (record != NULL) {
        options.page_size = record->page_size;
        options.inline_limit = record->inline_limit;
        options.compression = record->compression;
    }
    int status = mace_bucket_create(store->db, target->name, &options, &target->handle);
    if (status == MACE_INVALID && record != NULL) /* options that this program does not know */
        status = mace_bucket_create(store->db, target->name, NULL, &target->handle);
    if (status != MACE_EXISTS)
        return status;
    status = mace_bucket_open(store->db, target->name, &target->handle);
    options.page_size = 0;
    if (status == MACE_OK && record != NULL)
        (void)mace_bucket_alter(store->db, target->name, &options);
    return status;
}

int
salvage_store_bucket(struct salvage_store *store, uint32_t id, const char *name, size_t name_size,
                     const struct catalogue_record *options)
{
    struct target *target = target_find(store, id);
    if (target != NULL)
        return MACE_OK;
    int status = target_add(store, &target);
    if (status != MACE_OK)
        return status;
    target->id = id;
    if (name != NULL && name_size <= MSHM_MAX_BUCKET_NAME)
        memcpy(target->name, name, name_size);
    else if (id == 1) /* the first commit of every database makes it */
        strcpy(target->name, "default");
    else
        snprintf(target->name, sizeof target->name, "bucket-%" PRIu32, id);
    status = target_open(store, target, options);
    if (status == MACE_OK)
        store->count++;
    return status;
}

int
salvage_store_drop(struct salvage_store *store, uint32_t id)
{
    int status = salvage_store_bucket(store, id, NULL, 0, NULL);
    if (status != MACE_OK || (status = store_commit(store)) != MACE_OK)
        return status;
    struct target *target = target_find(store, id);
    if (target->dropped || name_equal("default", target->name, strlen(target->name)))
        return MACE_OK;
    target->dropped = true;
    mace_bucket_close(target->handle);
    target->handle = NULL;
    return mace_bucket_drop(store->db, target->name);
}

bool
salvage_store_each(const struct salvage_store *store, uint32_t index, uint32_t *id,
                   const char **name)
{
    for (uint32_t i = 0; i < store->count; i++) {
        if (store->targets[i].dropped || index-- != 0)
            continue;
        *id = store->targets[i].id;
        *name = store->targets[i].name;
        return true;
    }
    return false;
}

/* --- writes --- */

/* The bucket of a write, with a transaction open; *target NULL: it was dropped. */
static int
write_begin(struct salvage_store *store, uint32_t id, size_t bytes, struct target **target)
{
    int status = MACE_OK;
    *target = target_find(store, id);
    if (*target == NULL || store->writes >= BATCH_WRITES || store->bytes >= BATCH_BYTES)
        status = store_commit(store);
    if (status == MACE_OK && *target == NULL) {
        status = salvage_store_bucket(store, id, NULL, 0, NULL);
        *target = target_find(store, id);
    }
    if (status == MACE_OK && store->txn == NULL)
        status = mace_begin(store->db, 0, &store->txn);
    if (status != MACE_OK)
        return status;
    store->writes++;
    store->bytes += bytes;
    if ((*target)->dropped)
        *target = NULL;
    return MACE_OK;
}

int
salvage_store_put(struct salvage_store *store, uint32_t id, const uint8_t *key, size_t key_size,
                  const uint8_t *value, size_t value_size)
{
    struct target *target;
    int status = write_begin(store, id, key_size + value_size, &target);
    if (status != MACE_OK || target == NULL)
        return status;
    return mace_put(store->txn, target->handle, key, key_size, value, value_size);
}

int
salvage_store_delete(struct salvage_store *store, uint32_t id, const uint8_t *key, size_t key_size)
{
    struct target *target;
    int status = write_begin(store, id, key_size, &target);
    if (status != MACE_OK || target == NULL)
        return status;
    status = mace_delete(store->txn, target->handle, key, key_size);
    return status == MACE_NOT_FOUND ? MACE_OK : status;
}

int
salvage_store_clear(struct salvage_store *store, uint32_t id, const struct check_range *range)
{
    struct target *target;
    mace_cursor *cursor;
    mace_range keys = {.lower = {range->low, range->low_size},
                       .upper = {range->high, range->high_size}};
    if (range->high_size == MSHM_FENCE_INFINITE)
        keys.upper = (mace_slice){NULL, 0};
    int status = write_begin(store, id, 0, &target);
    if (status != MACE_OK || target == NULL)
        return status;
    status = mace_cursor_open(store->txn, target->handle, &keys, &cursor);
    if (status != MACE_OK)
        return status;
    mace_slice key;
    while ((status = mace_cursor_next(cursor, &key, NULL)) == MACE_OK) {
        status = mace_delete(store->txn, target->handle, key.data, key.size);
        if (status != MACE_OK)
            break;
        store->writes++;
        store->bytes += key.size;
    }
    mace_cursor_close(cursor);
    return status == MACE_NOT_FOUND ? MACE_OK : status;
}
