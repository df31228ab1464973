/* Names, options, and the life of buckets in the catalogue, through the log and back. */
#include "catalogue_format.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fake_env.h"
#include "mshm/status.h"

static struct fake fake;
static struct fake_client *a;

static void
setup(void)
{
    fake_init(&fake);
    fake.options.cache_size = 16 << 20;
    ck_assert_int_eq(fake_start(&fake), MSHM_OK);
    a = fake_attach(&fake, 0);
}

static void
teardown(void)
{
    const char *why = "";
    ck_assert_msg(core_check(fake.core, &why) == MSHM_OK, "%s", why);
    fake_client_free(a);
    fake_fini(&fake);
}

static void
restart(void)
{
    fake_kill(&fake);
    ck_assert_int_eq(fake_start(&fake), MSHM_OK);
    fake_client_free(a);
    a = fake_attach(&fake, 0);
}

static int
bucket_do(unsigned kind, const char *name, struct mshm_bucket_message *reply)
{
    return fake_bucket(a, kind, name, reply);
}
static int
create(const char *name)
{
    return bucket_do(MSHM_MESSAGE_BUCKET_CREATE, name, NULL);
}
static int
drop(const char *name)
{
    return bucket_do(MSHM_MESSAGE_BUCKET_DROP, name, NULL);
}

/* 0: no such bucket. */
static uint32_t
id_of(const char *name)
{
    const struct catalogue_bucket *bucket =
        catalogue_find(fake.core->catalogue, name, strlen(name));
    return bucket == NULL ? 0 : bucket->id;
}

static const struct mshm_catalogue_entry *
entry_of(uint32_t id)
{
    const struct mshm_view *view = &fake.core->view;
    for (uint64_t i = 0; i < view->catalogue_capacity; i++)
        if (AO_load(&view->catalogue[i].id) == id)
            return &view->catalogue[i];
    return NULL;
}

START_TEST(names_are_utf8_of_1_to_255_bytes)
{
    static const char *const valid[] = {"a",
                                        " ",
                                        "a/b",
                                        "\x7f",
                                        "\xc2\x80",
                                        "\xdf\xbf",
                                        "\xe0\xa0\x80",
                                        "\xed\x9f\xbf",
                                        "\xee\x80\x80",
                                        "\xef\xbf\xbf",
                                        "\xf0\x90\x80\x80",
                                        "\xf4\x8f\xbf\xbf"};
    static const char *const invalid[] = {"",
                                          "\x80",
                                          "\xbf",
                                          "\xc0\x80",
                                          "\xc1\xbf",
                                          "\xc2",
                                          "\xc2\x41",
                                          "\xe0\x9f\xbf",
                                          "\xe0\xa0",
                                          "\xed\xa0\x80",
                                          "\xef\xbf",
                                          "\xf0\x8f\xbf\xbf",
                                          "\xf0\x90\x80",
                                          "\xf4\x90\x80\x80",
                                          "\xf5\x80\x80\x80",
                                          "\xff",
                                          "a\xff"};
    for (size_t i = 0; i < sizeof(valid) / sizeof(valid[0]); i++)
        ck_assert_msg(catalogue_name_valid(valid[i], strlen(valid[i])), "valid %zu", i);
    for (size_t i = 0; i < sizeof(invalid) / sizeof(invalid[0]); i++)
        ck_assert_msg(!catalogue_name_valid(invalid[i], strlen(invalid[i])), "invalid %zu", i);
    char name[257];
    memset(name, 'n', sizeof(name));
    ck_assert(catalogue_name_valid(name, 255));
    ck_assert(!catalogue_name_valid(name, 256));
    ck_assert(!catalogue_name_valid("a\0b", 3));
}
END_TEST

START_TEST(a_bucket_is_created_once_and_dropped_once)
{
    ck_assert_int_eq(create("one"), MSHM_OK);
    ck_assert_int_eq(create("one"), MSHM_EXISTS);
    ck_assert_int_eq(drop("one"), MSHM_OK);
    ck_assert_int_eq(drop("one"), MSHM_NOT_FOUND);
    ck_assert_int_eq(drop("default"), MSHM_INVALID);
    ck_assert_int_eq(create("default"), MSHM_EXISTS);
    ck_assert_int_eq(create(""), MSHM_INVALID);
    ck_assert_int_eq(drop(""), MSHM_INVALID);
}
END_TEST

START_TEST(the_store_describes_a_bucket_to_its_readers)
{
    struct mshm_bucket_message reply = {.page_size = 16384};
    ck_assert_int_eq(bucket_do(MSHM_MESSAGE_BUCKET_CREATE, "b", &reply), MSHM_OK);
    const struct mshm_catalogue_entry *entry = &fake.core->view.catalogue[reply.place];
    ck_assert_uint_eq(AO_load(&entry->id), reply.id);
    ck_assert_uint_eq(AO_load(&entry->page_size), 16384);
    ck_assert_uint_eq(AO_load(&entry->inline_limit), MSHM_MAX_INLINE);
    ck_assert_uint_eq(AO_load(&entry->created), AO_load(&fake.core->store->visible));
    ck_assert_uint_eq(AO_load(&entry->dropped), 0);
    ck_assert_uint_ne(AO_load(&entry->root), 0);
}
END_TEST

struct option_case {
    struct mshm_bucket_message options;
    int create, alter;
};
static const struct option_case option_cases[] = {
    {{.page_size = 4096}, MSHM_OK, MSHM_INVALID},
    {{.page_size = 8192}, MSHM_OK, MSHM_OK}, /* what it is already */
    {{.page_size = 65536}, MSHM_OK, MSHM_INVALID},
    {{.page_size = 2048}, MSHM_INVALID, MSHM_INVALID},
    {{.page_size = 131072}, MSHM_INVALID, MSHM_INVALID},
    {{.page_size = 5000}, MSHM_INVALID, MSHM_INVALID},
    {{.inline_limit = 100}, MSHM_OK, MSHM_OK},
    {{.inline_limit = MSHM_MAX_INLINE}, MSHM_OK, MSHM_OK},
    {{.inline_limit = MSHM_MAX_INLINE + 1}, MSHM_INVALID, MSHM_INVALID},
    {{.compression = 1}, MSHM_OK, MSHM_OK}, /* none */
    {{.compression = 2}, MSHM_OK, MSHM_OK}, /* zstd */
    {{.compression = 3}, MSHM_INVALID, MSHM_INVALID},
    {{.compression = UINT32_MAX}, MSHM_INVALID, MSHM_INVALID},
    {{.backpressure = 1}, MSHM_INVALID, MSHM_INVALID},
    {{.merge_operator = 1}, MSHM_INVALID, MSHM_INVALID},
};

START_TEST(options_are_checked_at_creation_and_alteration)
{
    struct mshm_bucket_message message = option_cases[_i].options;
    ck_assert_int_eq(bucket_do(MSHM_MESSAGE_BUCKET_CREATE, "new", &message),
                     option_cases[_i].create);
    ck_assert_int_eq(create("old"), MSHM_OK);
    message = option_cases[_i].options;
    ck_assert_int_eq(bucket_do(MSHM_MESSAGE_BUCKET_ALTER, "old", &message), option_cases[_i].alter);
}
END_TEST

START_TEST(an_alteration_is_kept_across_a_restart)
{
    struct mshm_bucket_message message = {.page_size = 4096};
    ck_assert_int_eq(bucket_do(MSHM_MESSAGE_BUCKET_CREATE, "b", &message), MSHM_OK);
    message = (struct mshm_bucket_message){.inline_limit = 100};
    ck_assert_int_eq(bucket_do(MSHM_MESSAGE_BUCKET_ALTER, "b", &message), MSHM_OK);
    ck_assert_int_eq(bucket_do(MSHM_MESSAGE_BUCKET_ALTER, "none", NULL), MSHM_NOT_FOUND);
    restart();
    const struct catalogue_bucket *bucket = catalogue_find(fake.core->catalogue, "b", 1);
    ck_assert_ptr_nonnull(bucket);
    ck_assert_uint_eq(bucket->options.inline_limit, 100);
    ck_assert_uint_eq(bucket->options.page_size, 4096);
}
END_TEST

START_TEST(ids_are_never_used_again)
{
    uint32_t newest = 0;
    for (int i = 0; i < 5; i++) {
        ck_assert_int_eq(create("again"), MSHM_OK);
        ck_assert_uint_gt(id_of("again"), newest);
        newest = id_of("again");
        if (i == 2) {
            restart();
            ck_assert_uint_eq(id_of("again"), newest);
        }
        ck_assert_int_eq(drop("again"), MSHM_OK);
        if (i == 3)
            restart(); /* the highest id belongs to no bucket now */
    }
    ck_assert_uint_eq(id_of("again"), 0);
}
END_TEST

START_TEST(data_of_a_dropped_bucket_is_gone_and_a_new_one_of_the_name_is_empty)
{
    char value[256];
    ck_assert_int_eq(create("b"), MSHM_OK);
    uint32_t old = id_of("b");
    ck_assert_int_eq(fake_put(a, old, "k", "v"), MSHM_OK);
    ck_assert_int_eq(drop("b"), MSHM_OK);
    ck_assert_int_eq(fake_put(a, old, "k", "v"), MSHM_NOT_FOUND);
    ck_assert_int_eq(create("b"), MSHM_OK);
    ck_assert_int_eq(fake_get(a, 6, id_of("b"), "k", 0, value), MSHM_NOT_FOUND);
    ck_assert_int_eq(fake_put(a, id_of("b"), "k", "new"), MSHM_OK);
    restart();
    ck_assert_int_eq(fake_get(a, 6, id_of("b"), "k", 0, value), MSHM_OK);
    ck_assert_str_eq(value, "new");
}
END_TEST

START_TEST(a_dropped_bucket_stays_readable_for_an_older_snapshot)
{
    ck_assert_int_eq(create("b"), MSHM_OK);
    uint32_t id = id_of("b");
    ck_assert_int_eq(fake_put(a, id, "k", "v"), MSHM_OK);
    mshm_timestamp snapshot = fake_begin(a, 0);
    struct mshm_tree_ref ref = {.bucket = id,
                                .root = catalogue_get(fake.core->catalogue, id)->root};
    ck_assert_int_eq(drop("b"), MSHM_OK);
    fake_wait(&fake, 50);
    const struct mshm_catalogue_entry *entry = entry_of(id);
    ck_assert_ptr_nonnull(entry);
    ck_assert_uint_gt(AO_load(&entry->dropped), snapshot);
    uint8_t value[16];
    uint64_t size;
    mshm_pid missing;
    ck_assert_int_eq(mshm_get(&fake.core->view, &a->segment->lanes[0], &a->segment->expired[0], ref,
                              "k", 1, snapshot, value, sizeof(value), &size, NULL, &missing),
                     MSHM_OK);
    fake_end(a, 0);
    for (int i = 0; i < 10; i++)
        fake_wait(&fake, 50);
    ck_assert_ptr_null(entry_of(id));
    ck_assert(!catalogue_reap_pending(fake.core->catalogue));
}
END_TEST

START_TEST(frames_of_a_dropped_bucket_come_back)
{
    char key[16], value[2001];
    memset(value, 'v', sizeof(value) - 1);
    value[sizeof(value) - 1] = 0;
    for (int round = 0; round < 8; round++) {
        ck_assert_int_eq(create("big"), MSHM_OK);
        for (int i = 0; i < 1500; i++) { /* 3 MB in a cache of 16 */
            snprintf(key, sizeof(key), "%06d", i);
            ck_assert_int_eq(fake_put(a, id_of("big"), key, value), MSHM_OK);
        }
        ck_assert_int_eq(drop("big"), MSHM_OK);
        for (int i = 0; i < 100 && catalogue_reap_pending(fake.core->catalogue); i++)
            fake_wait(&fake, 20);
        ck_assert(!catalogue_reap_pending(fake.core->catalogue));
    }
    restart(); /* replay has to give them back, too */
    ck_assert_uint_eq(catalogue_count(fake.core->catalogue), 1);
}
END_TEST

START_TEST(buckets_are_limited_and_listed_by_name)
{
    char name[16];
    for (int i = 1; i < MSHM_MAX_BUCKETS; i++) {
        snprintf(name, sizeof(name), "b%04d", MSHM_MAX_BUCKETS - i);
        ck_assert_int_eq(create(name), MSHM_OK);
    }
    ck_assert_int_eq(create("one too many"), MSHM_LIMIT);
    ck_assert_int_eq(drop("b0512"), MSHM_OK);
    fake_wait(&fake, 50);
    ck_assert_int_eq(create("another"), MSHM_OK);
    struct mshm_bucket_message reply = {.name_size = 0};
    char before[257] = "";
    int count = 0;
    while (bucket_do(MSHM_MESSAGE_BUCKET_LIST, before, &reply) == MSHM_OK) {
        reply.name[reply.name_size] = 0;
        ck_assert_int_gt(strcmp(reply.name, before), 0);
        ck_assert_uint_eq(reply.id, id_of(reply.name));
        strcpy(before, reply.name);
        count++;
        reply = (struct mshm_bucket_message){.name_size = 0};
    }
    ck_assert_int_eq(count, MSHM_MAX_BUCKETS);
    restart();
    ck_assert_uint_eq(catalogue_count(fake.core->catalogue), MSHM_MAX_BUCKETS);
}
END_TEST

/* What a damaged or forged log could say. */
START_TEST(nonsense_in_the_log_is_corrupt)
{
    _Alignas(8) uint8_t op[512];
    struct catalogue *catalogue = fake.core->catalogue;
    struct catalogue_record record = {
        .version = 1, .page_size = 8192, .inline_limit = 100, .compression = 1};
    struct catalogue_record wrong = record;
    uint32_t id = fake_default(&fake);
    wrong.version = 2;
    mshm_op_write(op, id + 1, MSHM_OP_BUCKET_CREATE, "x", 1, &wrong, sizeof(wrong));
    ck_assert_int_eq(catalogue_apply(catalogue, (void *)op, 9), MSHM_CORRUPT);
    mshm_op_write(op, id + 1, MSHM_OP_BUCKET_CREATE, "x", 1, &record, 16);
    ck_assert_int_eq(catalogue_apply(catalogue, (void *)op, 9), MSHM_CORRUPT);
    mshm_op_write(op, id, MSHM_OP_BUCKET_CREATE, "x", 1, &record, sizeof(record));
    ck_assert_int_eq(catalogue_apply(catalogue, (void *)op, 9), MSHM_CORRUPT);
    mshm_op_write(op, id + 1, MSHM_OP_BUCKET_CREATE, "default", 7, &record, sizeof(record));
    ck_assert_int_eq(catalogue_apply(catalogue, (void *)op, 9), MSHM_CORRUPT);
    mshm_op_write(op, id + 1, MSHM_OP_BUCKET_DROP, "x", 1, &record, sizeof(record));
    ck_assert_int_eq(catalogue_apply(catalogue, (void *)op, 9), MSHM_CORRUPT);
    mshm_op_write(op, id + 1, MSHM_OP_BUCKET_ALTER, "default", 7, &record, sizeof(record));
    ck_assert_int_eq(catalogue_apply(catalogue, (void *)op, 9), MSHM_CORRUPT);
    mshm_op_write(op, id + 1, MSHM_OP_PUT, "x", 1, &record, sizeof(record));
    ck_assert_int_eq(catalogue_apply(catalogue, (void *)op, 9), MSHM_CORRUPT);
    mshm_op_write(op, id + 1, MSHM_OP_BUCKET_CREATE, "\xff", 1, &record, sizeof(record));
    ck_assert_int_eq(catalogue_apply(catalogue, (void *)op, 9), MSHM_CORRUPT);
    ck_assert_uint_eq(catalogue_count(catalogue), 1);
}
END_TEST

/* --- saving and loading --- */

/* A second catalogue, as after a restart. It shares the tree, whose figures are put right again in the end. */
static struct catalogue *copy;
static struct mshm_catalogue_entry *copy_entries;
static struct tree_figures figures_before;

static void
copy_create(uint64_t capacity)
{
    copy_entries = calloc(capacity, sizeof(*copy_entries));
    ck_assert_ptr_nonnull(copy_entries);
    ck_assert_int_eq(catalogue_create(&copy, fake.core->tree, copy_entries, capacity, 8192),
                     MSHM_OK);
    tree_figures(fake.core->tree, &figures_before);
    tree_figures_restore(fake.core->tree, &(struct tree_figures){0}); /* loading brings them back */
}

static void
copy_destroy(void)
{
    tree_figures_restore(fake.core->tree, &figures_before);
    catalogue_destroy(copy);
    free(copy_entries);
}

/* Loads from memory of exactly this size. */
static int
copy_load(const void *bytes, uint64_t size, uint64_t capacity)
{
    copy_create(capacity);
    void *exact = malloc(size != 0 ? size : 1);
    ck_assert_ptr_nonnull(exact);
    memcpy(exact, bytes, size);
    int status = catalogue_load(copy, exact, size);
    free(exact);
    return status;
}

static int
load_status(const void *bytes, uint64_t size)
{
    int status = copy_load(bytes, size, MSHM_MAX_BUCKETS);
    copy_destroy();
    return status;
}

static int
compare_bucket(const struct catalogue_bucket *bucket, void *argument)
{
    unsigned *count = argument;
    const struct catalogue_bucket *found = catalogue_find(copy, bucket->name, bucket->name_size);
    ck_assert_ptr_nonnull(found);
    ck_assert_ptr_eq(found, catalogue_get(copy, bucket->id));
    ck_assert_uint_eq(found->id, bucket->id);
    ck_assert_uint_eq(found->root, bucket->root);
    ck_assert_uint_eq(found->created, bucket->created);
    ck_assert_uint_eq(found->dropped, 0);
    ck_assert_mem_eq(&found->options, &bucket->options, sizeof(found->options));
    ck_assert_mem_eq(&copy_entries[found->place], &fake.core->view.catalogue[bucket->place],
                     sizeof(*copy_entries));
    ++*count;
    return 0;
}

START_TEST(saved_catalogue_is_loaded_again)
{
    char name[16];
    void *bytes;
    uint64_t size;
    struct tree_figures after;
    struct mshm_bucket_message options = {.inline_limit = 100, .page_size = 16384};
    for (int i = 0; i < 20; i++) {
        snprintf(name, sizeof(name), "%.*s", 1 + i % 9, &"bucket-of-names"[i % 6]);
        (void)create(name);
    }
    ck_assert_int_eq(bucket_do(MSHM_MESSAGE_BUCKET_CREATE, "z", &options), MSHM_OK);
    ck_assert_int_eq(create("gone"), MSHM_OK);
    ck_assert_int_eq(create("highest"), MSHM_OK);
    uint32_t gone = id_of("gone"), highest = id_of("highest");
    fake_begin(a, 0);
    ck_assert_int_eq(drop("gone"), MSHM_OK);
    ck_assert_int_eq(create("gone"), MSHM_OK); /* another one of this name */
    ck_assert_int_eq(drop("highest"), MSHM_OK);
    const struct mshm_catalogue_entry *entry = entry_of(gone);
    ck_assert_ptr_nonnull(entry);
    uint32_t next = id_of("gone") + 1;
    ck_assert_int_eq(catalogue_save(fake.core->catalogue, &bytes, &size), MSHM_OK);
    ck_assert_int_eq(copy_load(bytes, size, MSHM_MAX_BUCKETS), MSHM_OK);
    unsigned count = 0;
    catalogue_each(fake.core->catalogue, compare_bucket, &count);
    ck_assert_uint_eq(count, catalogue_count(copy));
    tree_figures(fake.core->tree, &after);
    ck_assert_mem_eq(&after, &figures_before, sizeof(after));
    /* Dropped ones are nobody's any more, but still there to be given back. */
    ck_assert_ptr_null(catalogue_get(copy, gone));
    ck_assert(catalogue_reap_pending(copy));
    ck_assert(!catalogue_leaving(copy));
    unsigned dropped = 0;
    for (unsigned i = 0; i < MSHM_MAX_BUCKETS; i++)
        if (copy_entries[i].id == gone || copy_entries[i].id == highest) {
            ck_assert_uint_ne(copy_entries[i].dropped, 0);
            dropped++;
        }
    ck_assert_uint_eq(dropped, 2);
    /* Ids go on behind the highest that ever was. */
    _Alignas(8) uint8_t op[512];
    uint64_t op_size;
    struct mshm_bucket_message request = {.name = "new", .name_size = 3};
    ck_assert_int_eq(catalogue_plan(copy, MSHM_OP_BUCKET_CREATE, &request, op, &op_size), MSHM_OK);
    ck_assert_uint_eq(((struct mshm_op *)op)->bucket, next);
    copy_destroy();
    ck_assert_int_eq(load_status(bytes, size), MSHM_OK);
    ck_assert_int_eq(copy_load(bytes, size, count + 1), MSHM_LIMIT);
    copy_destroy();
    ck_assert_int_eq(copy_load(bytes, size, count + 2), MSHM_OK);
    copy_destroy();
    free(bytes);
    fake_end(a, 0);
}
END_TEST

START_TEST(bucket_that_is_half_given_back_is_loaded_as_such_and_not_shown)
{
    char key[16], value[2001];
    void *bytes;
    uint64_t size;
    memset(value, 'v', sizeof(value) - 1);
    value[sizeof(value) - 1] = 0;
    ck_assert_int_eq(create("big"), MSHM_OK);
    uint32_t id = id_of("big");
    for (int i = 0; i < 1500; i++) { /* several hundred pages: more than one call gives back */
        snprintf(key, sizeof(key), "%06d", i);
        ck_assert_int_eq(fake_put(a, id, key, value), MSHM_OK);
    }
    fake_begin(a, 0);
    ck_assert_int_eq(drop("big"), MSHM_OK);
    ck_assert(!catalogue_leaving(fake.core->catalogue));
    fake_end(a, 0);
    ck_assert(catalogue_reap(fake.core->catalogue, UINT64_MAX));
    ck_assert(catalogue_leaving(fake.core->catalogue));
    ck_assert_int_eq(catalogue_save(fake.core->catalogue, &bytes, &size), MSHM_OK);
    ck_assert_int_eq(copy_load(bytes, size, MSHM_MAX_BUCKETS), MSHM_OK);
    ck_assert(catalogue_leaving(copy));
    ck_assert(catalogue_reap_pending(copy));
    for (unsigned i = 0; i < MSHM_MAX_BUCKETS; i++)
        ck_assert_uint_ne(copy_entries[i].id, id);
    copy_destroy();
    while (catalogue_reap(fake.core->catalogue, UINT64_MAX))
        continue;
    ck_assert(!catalogue_leaving(fake.core->catalogue));
    ck_assert(!catalogue_reap_pending(fake.core->catalogue));
    free(bytes);
}
END_TEST

/* A saved catalogue with buckets "default", "one" and "two". */
static uint8_t *
saved_sample(uint64_t *size)
{
    void *bytes;
    ck_assert_int_eq(create("one"), MSHM_OK);
    ck_assert_int_eq(create("two"), MSHM_OK);
    ck_assert_int_eq(catalogue_save(fake.core->catalogue, &bytes, size), MSHM_OK);
    return bytes;
}

START_TEST(each_truncation_is_damage_and_no_flipped_bit_crashes)
{
    uint64_t size, damage = 0;
    uint8_t *bytes = saved_sample(&size);
    for (uint64_t part = 0; part < size; part++)
        ck_assert_int_eq(load_status(bytes, part), MSHM_CORRUPT);
    for (uint64_t bit = 0; bit < size * 8; bit++) {
        bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
        int status = load_status(bytes, size);
        ck_assert(status == MSHM_OK || status == MSHM_CORRUPT || status == MSHM_VERSION);
        damage += status != MSHM_OK;
        bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
    ck_assert_uint_gt(damage, 1000);
    ck_assert_int_eq(load_status(bytes, size), MSHM_OK);
    free(bytes);
}
END_TEST

START_TEST(saved_nonsense_is_damage)
{
    uint64_t size;
    uint8_t *bytes = saved_sample(&size);
    uint64_t step = sizeof(struct catalogue_image) + 8;
    struct catalogue_header *header = (void *)bytes;
    struct catalogue_image *first = (void *)(header + 1),
                           *second = (void *)((uint8_t *)first + step),
                           *third = (void *)((uint8_t *)second + step);
    struct catalogue_header header_kept = *header;
    struct catalogue_image kept = *second;
    uint8_t *name = (uint8_t *)(second + 1);
    ck_assert_uint_eq(size, sizeof(*header) + 3 * step);
    ck_assert_mem_eq(name, "one", 3);
#define DAMAGE(change, undo)                                      \
    do {                                                          \
        change;                                                   \
        ck_assert_int_eq(load_status(bytes, size), MSHM_CORRUPT); \
        undo;                                                     \
        ck_assert_int_eq(load_status(bytes, size), MSHM_OK);      \
    } while (0)
    DAMAGE(second->id = first->id, *second = kept);
    DAMAGE(second->id = 0, *second = kept);
    DAMAGE(second->id = header->next_id, *second = kept);
    DAMAGE(second->root = third->root, *second = kept);
    DAMAGE(second->root = 0, *second = kept);
    DAMAGE(second->root = (uint32_t)MSHM_MAX_PIDS, *second = kept);
    DAMAGE(second->state = 0, *second = kept);
    DAMAGE(second->state = CATALOGUE_LEAVING + 1, *second = kept);
    DAMAGE(second->state = CATALOGUE_DROPPED, *second = kept);
    DAMAGE(second->dropped = 100, *second = kept);
    DAMAGE(second->created = 0, *second = kept);
    DAMAGE((second->state = CATALOGUE_LEAVING, second->dropped = second->created), *second = kept);
    DAMAGE(second->options.version = 2, *second = kept);
    DAMAGE(second->options.page_size = 5000, *second = kept);
    DAMAGE(second->name_size = 0, *second = kept);
    DAMAGE(second->name_size = 9, *second = kept);
    DAMAGE(second->name_size = UINT32_MAX, *second = kept);
    DAMAGE(name[1] = 0, name[1] = 'n');
    DAMAGE(memcpy(name, "two", 3), memcpy(name, "one", 3));
    DAMAGE(header->count = 2, *header = header_kept);
    DAMAGE(header->count = UINT32_MAX, *header = header_kept);
    DAMAGE(header->next_id = 0, *header = header_kept);
    DAMAGE(header->pages_leaf = UINT64_MAX, *header = header_kept);
    DAMAGE(header->height = 1000, *header = header_kept);
    DAMAGE(header->magic++, *header = header_kept);
#undef DAMAGE
    struct catalogue_header none = header_kept;
    none.count = 0;
    ck_assert_int_eq(load_status(&none, sizeof(none)), MSHM_OK);
    none.next_id = 0;
    ck_assert_int_eq(load_status(&none, sizeof(none)), MSHM_CORRUPT);
    header->version++;
    ck_assert_int_eq(load_status(bytes, size), MSHM_VERSION);
    *header = header_kept;
    second->state = CATALOGUE_DROPPED;
    second->dropped = second->created + 1;
    ck_assert_int_eq(load_status(bytes, size), MSHM_OK);
    free(bytes);
}
END_TEST

int
main(void)
{
    TCase *tcase = tcase_create("catalogue");
    tcase_set_timeout(tcase, 60);
    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_add_test(tcase, names_are_utf8_of_1_to_255_bytes);
    tcase_add_test(tcase, a_bucket_is_created_once_and_dropped_once);
    tcase_add_test(tcase, the_store_describes_a_bucket_to_its_readers);
    tcase_add_loop_test(tcase, options_are_checked_at_creation_and_alteration, 0,
                        sizeof(option_cases) / sizeof(option_cases[0]));
    tcase_add_test(tcase, an_alteration_is_kept_across_a_restart);
    tcase_add_test(tcase, ids_are_never_used_again);
    tcase_add_test(tcase, data_of_a_dropped_bucket_is_gone_and_a_new_one_of_the_name_is_empty);
    tcase_add_test(tcase, a_dropped_bucket_stays_readable_for_an_older_snapshot);
    tcase_add_test(tcase, frames_of_a_dropped_bucket_come_back);
    tcase_add_test(tcase, buckets_are_limited_and_listed_by_name);
    tcase_add_test(tcase, nonsense_in_the_log_is_corrupt);
    tcase_add_test(tcase, saved_catalogue_is_loaded_again);
    tcase_add_test(tcase, bucket_that_is_half_given_back_is_loaded_as_such_and_not_shown);
    tcase_add_test(tcase, each_truncation_is_damage_and_no_flipped_bit_crashes);
    tcase_add_test(tcase, saved_nonsense_is_damage);
    Suite *suite = suite_create("catalogue");
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
