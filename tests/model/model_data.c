/* model_data.c - keys, values and the files of histories. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "model/model.h"
#include "support/require.h"

struct model_key_bytes {
    size_t size;
    uint8_t bytes[4096];
};
static struct model_key_bytes *keys[MODEL_KEYS];

struct model_value_head {
    uint64_t uid;
    uint32_t key;
    uint32_t bucket;
};

static int
key_compare(const void *left, const void *right)
{
    const struct model_key_bytes *a = *(struct model_key_bytes *const *)left;
    const struct model_key_bytes *b = *(struct model_key_bytes *const *)right;
    int order = memcmp(a->bytes, b->bytes, a->size < b->size ? a->size : b->size);

    return order != 0 ? order : (a->size > b->size) - (a->size < b->size);
}

/* Short and long ones, with long common prefixes, that are prefixes of each other, and full of 0x00 and 0xff. */
static void
key_make(struct model_key_bytes *key, unsigned number)
{
    struct random random;
    unsigned family = number / 8, member = number % 8;

    random_init(&random, family);
    size_t size = family % 16 == 3 ? 3000 + random_below(&random, 1000) : random_below(&random, 40);
    uint8_t fill = family % 5 == 1 ? 0xff : family % 5 == 2 ? 0x00 : (uint8_t)random_next(&random);
    key->bytes[0] = (uint8_t)(family * 5);
    key->bytes[1] = (uint8_t)family;
    memset(key->bytes + 2, fill, size);
    key->size = size + 2;
    /* Member 0 is a prefix of all others; the others differ in the last bytes. */
    for (unsigned i = 0; i < member; i++)
        key->bytes[key->size++] = i + 1 == member ? (uint8_t)(member * 36) : fill;
}

void
model_keys_init(void)
{
    if (keys[0] != NULL)
        return;
    for (unsigned i = 0; i < MODEL_KEYS; i++) {
        keys[i] = calloc(1, sizeof **keys);
        require(keys[i] != NULL, "memory");
        key_make(keys[i], i);
    }
    qsort(keys, MODEL_KEYS, sizeof keys[0], key_compare);
    for (unsigned i = 1; i < MODEL_KEYS; i++)
        require(key_compare(&keys[i - 1], &keys[i]) < 0, "keys %u and %u are equal", i - 1, i);
}

const void *
model_key(uint32_t key, size_t *size)
{
    *size = keys[key]->size;
    return keys[key]->bytes;
}

uint32_t
model_key_number(const mace_slice *key)
{
    struct model_key_bytes wanted;
    struct model_key_bytes *pointer = &wanted;

    require(key->size >= 1 && key->size <= sizeof wanted.bytes, "a key of %zu bytes", key->size);
    memcpy(wanted.bytes, key->data, key->size);
    wanted.size = key->size;
    struct model_key_bytes **found =
        bsearch(&pointer, keys, MODEL_KEYS, sizeof keys[0], key_compare);
    require(found != NULL, "a key that nobody wrote");
    return (uint32_t)(found - keys);
}

size_t
model_value_size(uint64_t uid)
{
    struct random random;

    random_init(&random, uid);
    unsigned kind = (unsigned)random_below(&random, 100);
    if (kind < 3)
        return 0;
    size_t most = kind < 80   ? 100
                  : kind < 99 ? 800
                              : MODEL_VALUE_MAX - sizeof(struct model_value_head);
    return sizeof(struct model_value_head) + random_below(&random, most + 1);
}

size_t
model_value(uint8_t *to, uint64_t uid, unsigned bucket, uint32_t key)
{
    struct model_value_head head = {uid, key, bucket};
    struct random random;
    size_t size = model_value_size(uid);

    if (size == 0)
        return 0;
    memcpy(to, &head, sizeof head);
    random_init(&random, ~uid);
    random_fill(&random, to + sizeof head, size - sizeof head);
    return size;
}

uint64_t
model_value_uid(const mace_slice *value, unsigned bucket, uint32_t key)
{
    static _Thread_local uint8_t wanted[MODEL_VALUE_MAX];
    struct model_value_head head;

    if (value->size == 0)
        return MODEL_EMPTY;
    require(value->size >= sizeof head && value->size <= sizeof wanted, "a value of %zu bytes",
            value->size);
    memcpy(&head, value->data, sizeof head);
    require(head.key == key && head.bucket == bucket,
            "bucket %u key %u shows a value of bucket %u key %u", bucket, key, head.bucket,
            head.key);
    size_t size = model_value(wanted, head.uid, bucket, key);
    require(size == value->size && memcmp(wanted, value->data, size) == 0,
            "the value of write %llx has wrong bytes", (unsigned long long)head.uid);
    return head.uid;
}

void
model_history_load(struct model_history *history, unsigned process, const char *log)
{
    FILE *file = fopen(log, "re");

    require(file != NULL && fseek(file, 0, SEEK_END) == 0, "%s: %s", log, strerror(errno));
    uint64_t count = (uint64_t)ftell(file) / sizeof(struct model_event);
    rewind(file);
    history->events[process] = malloc((count + 1) * sizeof(struct model_event));
    require(history->events[process] != NULL, "memory");
    history->counts[process] =
        fread(history->events[process], sizeof(struct model_event), count, file);
    require(history->counts[process] == count, "%s: short", log);
    fclose(file);
}

void
model_history_free(struct model_history *history)
{
    for (unsigned i = 0; i < MODEL_PROCESSES; i++)
        free(history->events[i]);
}
