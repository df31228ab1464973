/* What the core of core_model_test.c ought to hold: a list of versions for each key, and the comparison. */
#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "core_world.h"

struct bucket_model buckets[BUCKETS];
uint64_t snapshots[LANES];
unsigned expirations, read_errors;

static uint64_t
mix(uint64_t x)
{
    x ^= x >> 31;
    x *= UINT64_C(0x7fb5d329728ea185);
    x ^= x >> 27;
    x *= UINT64_C(0x81dadef4bc2dd44d);
    return x ^ x >> 33;
}

uint32_t
key_make(unsigned bucket, uint32_t key, uint8_t *to)
{
    uint32_t number = __builtin_bswap32(key);
    uint32_t size = 4 + (uint32_t)(mix(bucket * 7919 + key) % (KEY_MAX - 4));
    memcpy(to, &number, 4);
    memset(to + 4, 'k', size - 4);
    return size;
}

uint32_t
value_make(uint64_t number, uint8_t *to)
{
    uint64_t hash = mix(number);
    uint32_t size = (uint32_t)(hash >> 8) % (hash % 16 == 0  ? VALUE_MAX
                                             : hash % 4 == 0 ? 1500
                                                             : 200);
    for (uint32_t i = 0; i < size; i++)
        to[i] = (uint8_t)(hash >> (i % 8 * 8)) ^ (uint8_t)i;
    return size;
}

const struct version *
model_at(const struct key_model *key, uint64_t timestamp)
{
    for (uint32_t i = key->count; i-- > 0;)
        if (key->versions[i].timestamp <= timestamp)
            return &key->versions[i];
    return NULL;
}

void
model_put(struct key_model *key, uint64_t timestamp, uint64_t number)
{
    if (key->count == key->capacity) {
        key->capacity = key->capacity ? key->capacity * 2 : 8;
        key->versions = realloc(key->versions, key->capacity * sizeof *key->versions);
    }
    key->versions[key->count++] = (struct version){timestamp, number};
}

void
model_clear(struct bucket_model *bucket)
{
    for (int k = 0; k < KEYS; k++)
        bucket->keys[k].count = 0;
}

void
model_truncate(uint64_t visible)
{
    for (int b = 0; b < BUCKETS; b++) {
        struct bucket_model *bucket = &buckets[b];
        for (int k = 0; k < KEYS; k++) {
            struct key_model *key = &bucket->keys[k];
            while (key->count > 0 && key->versions[key->count - 1].timestamp > visible)
                key->count--;
        }
        if (bucket->dropped > visible) {
            bucket->lives = true;
            bucket->dropped = 0;
        }
        if (bucket->created > visible)
            bucket->lives = false;
    }
}

/* --- operations --- */

uint64_t
ops_write(const struct operation *operations, unsigned count, uint8_t *to)
{
    static uint8_t value[VALUE_MAX];
    uint8_t key[KEY_MAX];
    uint64_t size = 0;
    for (unsigned i = 0; i < count; i++) {
        const struct operation *op = &operations[i];
        bool deletes = op->kind == MSHM_OP_DELETE || op->kind == MSHM_OP_DELETE_EXISTING;
        uint32_t key_size = key_make(op->bucket, op->key, key);
        uint32_t value_size = deletes ? 0 : value_make(op->number, value);
        size += mshm_op_write(to != NULL ? to + size : NULL, buckets[op->bucket].id, op->kind, key,
                              (uint16_t)key_size, value, value_size);
    }
    return size;
}

void
ops_apply(const struct operation *operations, unsigned count, uint64_t timestamp)
{
    for (unsigned i = 0; i < count; i++) {
        const struct operation *op = &operations[i];
        bool deletes = op->kind == MSHM_OP_DELETE || op->kind == MSHM_OP_DELETE_EXISTING;
        model_put(&buckets[op->bucket].keys[op->key], timestamp, deletes ? 0 : op->number);
    }
}

int
ops_expected(const struct operation *operations, unsigned count, uint64_t snapshot)
{
    for (unsigned i = 0; i < count; i++) {
        const struct key_model *key = &buckets[operations[i].bucket].keys[operations[i].key];
        const struct version *newest = model_at(key, UINT64_MAX);
        bool there = newest != NULL && newest->number != 0;
        if (snapshot != 0 && newest != NULL && newest->timestamp > snapshot)
            return MSHM_CONFLICT;
        if (operations[i].kind == MSHM_OP_INSERT && there)
            return MSHM_EXISTS;
        if ((operations[i].kind == MSHM_OP_UPDATE ||
             operations[i].kind == MSHM_OP_DELETE_EXISTING) &&
            !there)
            return MSHM_NOT_FOUND;
    }
    return MSHM_OK;
}

/* --- comparing --- */

void
compare(unsigned b, uint32_t key, unsigned lane, uint64_t snapshot)
{
    static uint8_t value[VALUE_MAX], wanted[VALUE_MAX];
    uint64_t size = 0;
    const struct bucket_model *bucket = &buckets[b];
    const struct version *version =
        model_at(&bucket->keys[key], snapshot != 0 ? snapshot : UINT64_MAX);
    int status = get(b, key, lane, snapshot, value, &size);
    if (world_dead())
        return;
    if (status == MSHM_IO && faulty) {
        read_errors++;
        return;
    }
    if (status == MSHM_SNAPSHOT_EXPIRED && snapshot != 0) {
        expirations++;
        mshm_snapshot_release(&segment->lanes[lane]);
        snapshots[lane] = 0;
        return;
    }
    int expected = version != NULL && version->number != 0 ? MSHM_OK : MSHM_NOT_FOUND;
    ck_assert_msg(status == expected,
                  "seed %d: bucket %d key %d at %d: %d instead of %d (version %d, visible %d)",
                  (int)seed, (int)b, (int)key, (int)snapshot, status, expected,
                  version ? (int)version->timestamp : 0, (int)core->visible);
    if (status != MSHM_OK)
        return;
    uint32_t wanted_size = value_make(version->number, wanted);
    ck_assert_msg(size == wanted_size && memcmp(value, wanted, size) == 0,
                  "seed %d: bucket %d key %d at %d: a wrong value (version %d, visible %d)",
                  (int)seed, (int)b, (int)key, (int)snapshot, (int)version->timestamp,
                  (int)core->visible);
}

void
compare_all(void)
{
    for (unsigned b = 0; b < BUCKETS; b++)
        for (uint32_t k = 0; buckets[b].lives && k < KEYS && !world_dead(); k++)
            compare(b, k, LANES, 0);
}

/* --- what is on disk --- */

struct account {
    uint64_t live[1024];
};

static void
account_page(void *argument, mshm_pid pid, data_location location)
{
    struct account *account = argument;
    data_location older[DATA_CHAIN_MAX];
    const char *text = "it cannot be read";
    uint32_t size = data_location_size(location);
    uint8_t *bytes = aligned_alloc(DATA_UNIT, size);
    ck_assert_ptr_nonnull(bytes);
    int status = data_read(core->data, location, 0, bytes, size);
    if (status == MSHM_OK)
        status = page_record_check(bytes, size, location, core_database_id(core), pid, &text);
    ck_assert_msg(status == MSHM_OK, "seed %d: record of %d: %s", (int)seed, (int)pid, text);
    page_record_older(bytes, older);
    free(bytes);
    account->live[data_location_file(location) % 1024] += size;
    for (unsigned i = 0; i < data_location_older(location); i++)
        account->live[data_location_file(older[i]) % 1024] += data_location_size(older[i]);
}

void
account_check(void)
{
    static struct account account;
    mshm_pid next = 1;
    const char *text = "";
    account = (struct account){0};
    if (!checkpoint_idle(core->checkpoint))
        return;
    while (pages_each_durable(core->pages, &next, 100, account_page, &account))
        continue;
    for (uint32_t i = 0; i < data_count(core->data); i++) {
        struct data_figures figures;
        data_describe(core->data, i, &figures);
        ck_assert_msg(figures.live == account.live[figures.number % 1024],
                      "seed %d: file %d: %d bytes live, %d counted", (int)seed, (int)figures.number,
                      (int)account.live[figures.number % 1024], (int)figures.live);
    }
    ck_assert_msg(pages_check(core->pages, &text) == MSHM_OK, "seed %d: %s", (int)seed, text);
    ck_assert_msg(core_check(core, &text) == MSHM_OK, "seed %d: %s", (int)seed, text);
}
