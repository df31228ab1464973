#include "sim/sim_model.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void
model_init(struct model *model)
{
    *model = (struct model){0};
}

void
model_bucket_forget(struct model *model, struct model_bucket *bucket)
{
    for (int i = 0; i < MODEL_BUCKETS; i++)
        if (model->buckets[i] == bucket)
            model->buckets[i] = NULL;
    for (int key = 0; key < MODEL_KEYS; key++)
        free(bucket->keys[key].versions);
    free(bucket);
}

void
model_fini(struct model *model)
{
    for (int i = 0; i < MODEL_BUCKETS; i++)
        if (model->buckets[i] != NULL)
            model_bucket_forget(model, model->buckets[i]);
    free(model->commits);
}

/* Sixteen groups of 256. In each, short and long keys, with and without a common prefix, some of bytes that text does not
 * have. Those of the upper half of every fourth group differ only at their ends, in groups, so that separators are long,
 * inner pages small and trees high. */
size_t
model_key_bytes(unsigned key, uint8_t bytes[MODEL_KEY_MAX])
{
    static const char prefix[] = "common/prefix/of/keys/";
    unsigned group = key / 256, low = key % 256;
    size_t size = 0, filler = low % 16 == 5 ? 700 : low * 13 % 40;
    bytes[size++] = (uint8_t)(group * 17);
    if (low >= 128 && group % 4 == 0) {
        bytes[size++] = 0xff;
        bytes[size++] = (uint8_t)(low / 8);
        memset(bytes + size, (int)(low / 8 * 7), 600);
        bytes[size + 600] = (uint8_t)low;
        return size + 601;
    }
    bytes[size++] = (uint8_t)(low / 64 * 85); /* 0x00, 0x55, 0xaa, 0xff */
    if (low / 64 % 2 == 1) {
        memcpy(bytes + size, prefix, sizeof prefix - 1);
        size += sizeof prefix - 1;
    }
    bytes[size++] = (uint8_t)low;
    memset(bytes + size, (int)(low * 7), filler);
    return size + filler;
}

void
model_value_bytes(uint64_t write, uint32_t size, uint8_t *bytes)
{
    memset(bytes, (int)(write * 7 & 0xff), size);
    memcpy(bytes, &write, size < sizeof write ? size : sizeof write);
}

static struct model_commit *
commit_at(struct model *model, mshm_timestamp timestamp)
{
    if (timestamp >= model->capacity) {
        uint64_t capacity = model->capacity != 0 ? model->capacity * 2 : 256;
        while (capacity <= timestamp)
            capacity *= 2;
        model->commits = realloc(model->commits, capacity * sizeof *model->commits);
        assert(model->commits != NULL);
        memset(model->commits + model->capacity, 0,
               (capacity - model->capacity) * sizeof *model->commits);
        model->capacity = capacity;
    }
    return &model->commits[timestamp];
}

bool
model_know(struct model *model, mshm_timestamp timestamp, mshm_timestamp snapshot,
           const struct model_op *ops, uint32_t count)
{
    struct model_commit *commit = commit_at(model, timestamp);
    if (timestamp == 0 || commit->known)
        return false;
    assert(count <= MODEL_OPS);
    *commit = (struct model_commit){.known = true, .count = count, .snapshot = snapshot};
    memcpy(commit->ops, ops, count * sizeof *ops);
    return true;
}

bool
model_know_own(struct model *model, mshm_timestamp timestamp)
{
    struct model_commit *commit = commit_at(model, timestamp);
    if (timestamp == 0 || commit->known)
        return false;
    *commit = (struct model_commit){.known = true, .own = true};
    return true;
}

bool
model_known(const struct model *model, mshm_timestamp timestamp)
{
    return timestamp < model->capacity && model->commits[timestamp].known;
}

/* --- versions --- */

static struct model_key *
key_find(struct model *model, uint32_t bucket, unsigned key)
{
    struct model_bucket *found = model_bucket_find(model, bucket);
    return found != NULL ? &found->keys[key] : NULL;
}

static const struct model_version *
version_at(const struct model_key *key, mshm_timestamp snapshot)
{
    for (uint32_t i = key != NULL ? key->count : 0; i > 0; i--)
        if (key->versions[i - 1].timestamp <= snapshot)
            return &key->versions[i - 1];
    return NULL;
}

static void
op_judge(struct model *model, const struct model_commit *commit, const struct model_op *op,
         const struct model_key *key, mshm_timestamp timestamp)
{
    const struct model_version *newest = version_at(key, UINT64_MAX);
    bool exists = newest != NULL && newest->write != 0;
    const char *error = NULL;
    if (commit->snapshot != UINT64_MAX && newest != NULL && newest->timestamp > commit->snapshot)
        error = "a transaction committed over a newer version (P1)";
    if (op->kind == MSHM_OP_INSERT && exists)
        error = "an insert replaced a value";
    if ((op->kind == MSHM_OP_UPDATE || op->kind == MSHM_OP_DELETE_EXISTING) && !exists)
        error = "an update or delete of nothing was committed";
    if (error != NULL && model->error == NULL) {
        model->error = error;
        model->error_at = timestamp;
    }
}

static void
version_add(struct model_key *key, const struct model_op *op, mshm_timestamp timestamp)
{
    if (key->count == key->capacity) {
        key->capacity = key->capacity != 0 ? key->capacity * 2 : 4;
        key->versions = realloc(key->versions, key->capacity * sizeof *key->versions);
        assert(key->versions != NULL);
    }
    key->versions[key->count++] = (struct model_version){timestamp, op->write, op->size};
}

void
model_advance(struct model *model)
{
    while (model_known(model, model->applied + 1)) {
        mshm_timestamp timestamp = ++model->applied;
        const struct model_commit *commit = &model->commits[timestamp];
        for (uint32_t i = 0; i < commit->count; i++) {
            const struct model_op *op = &commit->ops[i];
            struct model_key *key = key_find(model, op->bucket, op->key);
            if (key == NULL)
                continue; /* the bucket's own creation is found out later, after a crash */
            op_judge(model, commit, op, key, timestamp);
            version_add(key, op, timestamp);
        }
    }
}

void
model_truncate(struct model *model, mshm_timestamp n)
{
    for (uint64_t i = n + 1; i < model->capacity; i++)
        model->commits[i] = (struct model_commit){0};
    for (int i = 0; i < MODEL_BUCKETS; i++) {
        struct model_bucket *bucket = model->buckets[i];
        for (int key = 0; bucket != NULL && key < MODEL_KEYS; key++) {
            struct model_key *at = &bucket->keys[key];
            while (at->count > 0 && at->versions[at->count - 1].timestamp > n)
                at->count--;
        }
    }
    if (model->applied > n)
        model->applied = n;
}

/* --- buckets --- */

struct model_bucket *
model_bucket_find(struct model *model, uint32_t id)
{
    for (int i = 0; i < MODEL_BUCKETS; i++)
        if (model->buckets[i] != NULL && model->buckets[i]->id == id)
            return model->buckets[i];
    return NULL;
}

struct model_bucket *
model_bucket_named(struct model *model, const char *name)
{
    for (int i = 0; i < MODEL_BUCKETS; i++)
        if (model->buckets[i] != NULL && model->buckets[i]->dropped == 0 &&
            strcmp(model->buckets[i]->name, name) == 0)
            return model->buckets[i];
    return NULL;
}

struct model_bucket *
model_bucket_add(struct model *model, uint32_t id, const char *name, mshm_timestamp created)
{
    int place = 0;
    while (place < MODEL_BUCKETS && model->buckets[place] != NULL)
        place++;
    if (place == MODEL_BUCKETS) { /* the oldest dropped one goes */
        for (place = 0; model->buckets[place]->dropped == 0; place++)
            continue;
        model_bucket_forget(model, model->buckets[place]);
    }
    struct model_bucket *bucket = calloc(1, sizeof *bucket);
    assert(bucket != NULL);
    bucket->id = id;
    bucket->created = created;
    snprintf(bucket->name, sizeof bucket->name, "%s", name);
    model->buckets[place] = bucket;
    return bucket;
}

/* --- questions --- */

bool
model_read(struct model *model, uint32_t bucket, unsigned key, mshm_timestamp snapshot,
           struct model_version *version)
{
    const struct model_version *found = version_at(key_find(model, bucket, key), snapshot);
    if (found == NULL || found->write == 0)
        return false;
    *version = *found;
    return true;
}

bool
model_written(struct model *model, uint32_t bucket, unsigned key, mshm_timestamp after,
              mshm_timestamp until)
{
    const struct model_version *found = version_at(key_find(model, bucket, key), until);
    return found != NULL && found->timestamp > after;
}

bool
model_ever(struct model *model, uint32_t bucket, unsigned key, mshm_timestamp from,
           mshm_timestamp until, bool existed)
{
    struct model_version version;
    const struct model_key *at = key_find(model, bucket, key);
    if (model_read(model, bucket, key, from, &version) == existed)
        return true;
    for (uint32_t i = 0; at != NULL && i < at->count; i++)
        if (at->versions[i].timestamp > from && at->versions[i].timestamp <= until &&
            (at->versions[i].write != 0) == existed)
            return true;
    return false;
}

void
model_print(const struct model *model, uint32_t id)
{
    const struct model_bucket *bucket = model_bucket_find((struct model *)(uintptr_t)model, id);
    for (unsigned key = 0; bucket != NULL && key < MODEL_KEYS; key++) {
        const struct model_key *at = &bucket->keys[key];
        if (at->count > 0)
            printf("  key %u:", key);
        for (uint32_t i = 0; i < at->count; i++)
            printf(" %llu%s", (unsigned long long)at->versions[i].timestamp,
                   at->versions[i].write == 0 ? "-" : "");
        if (at->count > 0)
            printf("\n");
    }
}
