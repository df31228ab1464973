/* rot.c - the database in memory that is damaged. */
#include "fault/rot.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "mshm/ops.h"
#include "mshm/read.h"
#include "mshm/status.h"
#include "page_pack.h"

enum { FILE_ROOM = 256 * 1024, SEGMENT_SIZE = 64 * 1024 };

static void
key_text(char key[16], unsigned number)
{
    snprintf(key, 16, "key%04u", number);
}

/* 60 to 150 bytes that look alike, so that compression has something to do. */
static void
value_text(char value[256], unsigned bucket, unsigned number, unsigned version)
{
    int size = snprintf(value, 256, "b%u k%u v%u ", bucket, number, version);
    int whole = 60 + (int)(number * 7 + version * 13) % 90;
    for (; size < whole; size++)
        value[size] = (char)('a' + size % 5);
    value[size] = 0;
}

/* --- making it --- */

static int
put_version(struct rot *rot, unsigned bucket, unsigned number, unsigned version, unsigned flags)
{
    _Alignas(8) uint8_t op[512];
    char key[16], value[256];

    key_text(key, number);
    value_text(value, bucket, number, version);
    uint64_t size = mshm_op_write(op, rot->buckets[bucket], MSHM_OP_PUT, key, (uint16_t)strlen(key),
                                  value, (uint32_t)strlen(value));
    uint64_t sequence = fake_publish(rot->client, -1, op, size, 1, flags);
    return fake_answer(rot->client, sequence, &rot->newest);
}

static void
put(struct rot *rot, unsigned bucket, unsigned number, unsigned flags)
{
    ck_assert_int_eq(put_version(rot, bucket, number, ++rot->versions[bucket][number], flags),
                     MSHM_OK);
}

static void
checkpoint(struct rot *rot)
{
    struct mshm_message message = {.magic = MSHM_MESSAGE_MAGIC,
                                   .kind = MSHM_MESSAGE_CHECKPOINT,
                                   .version = MSHM_LAYOUT_VERSION,
                                   .size = sizeof message};

    ck_assert_int_eq(fake_control(rot->client, &message, sizeof message), MSHM_OK);
    fake_run(&rot->fake);
}

static void
fill(struct rot *rot)
{
    struct mshm_bucket_message packed = {.compression = PAGE_ZSTD};

    ck_assert_int_eq(rot_start(rot), MSHM_OK);
    rot->buckets[0] = fake_default(&rot->fake);
    ck_assert_int_eq(fake_bucket(rot->client, MSHM_MESSAGE_BUCKET_CREATE, "packed", &packed),
                     MSHM_OK);
    rot->buckets[1] = catalogue_find(rot->fake.core->catalogue, "packed", 6)->id;
    for (unsigned i = 0; i < ROT_KEYS; i++)
        for (unsigned b = 0; b < ROT_BUCKETS; b++)
            put(rot, b, i, 0);
    checkpoint(rot);
    for (unsigned wave = 0; wave < 2; wave++) { /* deltas, and deltas on deltas */
        for (unsigned i = wave; i < ROT_KEYS; i += 12)
            put(rot, i % ROT_BUCKETS, i, 0);
        checkpoint(rot);
    }
    rot_kill(rot);
    ck_assert_int_eq(rot_start(rot), MSHM_OK);
    for (unsigned i = 0; i < 8; i++) /* a new data file, with deltas on records of the old one */
        put(rot, i % ROT_BUCKETS, i * 11, 0);
    for (unsigned i = 0; i < 12;
         i++) /* and some too large to be one with the delta that is there */
        put(rot, 0, i, 0);
    checkpoint(rot);
    for (unsigned i = 0; i < ROT_TAIL; i++) {
        rot->tail[i] = i * 9;
        put(rot, i % ROT_BUCKETS, rot->tail[i], MSHM_REQUEST_LEVEL_SYNC);
    }
    fake_wait(&rot->fake, 5000); /* the log says that they are durable */
}

/* --- what it consists of --- */

static void
files_keep(struct rot *rot)
{
    for (unsigned i = 0; i < FAKE_FILES; i++) {
        const struct env_file *from = &rot->fake.files[i];
        if (!from->exists)
            continue;
        ck_assert_uint_lt(rot->file_count, ROT_FILES);
        struct rot_file *file = &rot->files[rot->file_count++];
        snprintf(file->name, sizeof file->name, "%s", from->name);
        file->size = from->size;
        file->bytes = malloc(from->size);
        ck_assert_ptr_nonnull(file->bytes);
        memcpy(file->bytes, from->bytes, from->size);
    }
}

static void
record_keep(struct rot *rot, mshm_pid pid, data_location location)
{
    char name[DATA_NAME_SIZE];

    data_name(name, data_location_file(location));
    ck_assert_uint_lt(rot->record_count, ROT_RECORDS);
    struct rot_record *record = &rot->records[rot->record_count++];
    record->pid = pid;
    record->file = rot_find(rot, name);
    record->location = location;
    const struct page_record *head =
        (const void *)(rot->files[record->file].bytes + data_location_offset(location));
    ck_assert_uint_eq(head->pid, pid);
    record->kind = head->kind;
    record->compression = head->compression;
}

static void
page_keep_records(void *argument, mshm_pid pid, data_location location)
{
    struct rot *rot = argument;
    data_location older[DATA_CHAIN_MAX];

    record_keep(rot, pid, location);
    const struct rot_record *newest = &rot->records[rot->record_count - 1];
    page_record_older(rot->files[newest->file].bytes + data_location_offset(location), older);
    for (unsigned i = 0; i < data_location_older(location); i++)
        record_keep(rot, pid, older[i]);
}

/* Trees of two levels: a key needs the root and its leaf. */
static void
leaves_keep(struct rot *rot)
{
    for (unsigned b = 0; b < ROT_BUCKETS; b++)
        for (unsigned i = 0; i < ROT_KEYS; i++) {
            const struct catalogue_bucket *bucket =
                catalogue_get(rot->fake.core->catalogue, rot->buckets[b]);
            struct mshm_tree_ref ref = {.bucket = rot->buckets[b], .root = bucket->root};
            char key[16], value[256];
            const uint8_t *frame;
            uint32_t size;
            key_text(key, i);
            rot->roots[b] = bucket->root;
            ck_assert_int_eq(fake_get(rot->client, 0, rot->buckets[b], key, 0, value), MSHM_OK);
            ck_assert_int_eq(mshm_descend(&rot->fake.core->view, ref, ref.root, key, strlen(key), 0,
                                          &frame, &size, &rot->leaves[b][i]),
                             MSHM_OK);
        }
    ck_assert_uint_ne(rot->leaves[0][0], rot->leaves[0][ROT_KEYS - 1]);
    ck_assert_uint_ne(rot->roots[0], rot->leaves[0][0]);
}

void
rot_create(struct rot *rot)
{
    mshm_pid next = 1;

    memset(rot, 0, sizeof *rot);
    fake_init(&rot->fake);
    rot->fake.file_capacity = FILE_ROOM;
    rot->fake.options.page_size = 4096;
    rot->fake.options.map_capacity = 4096;
    rot->fake.options.segment_size = SEGMENT_SIZE;
    fill(rot);
    files_keep(rot);
    leaves_keep(rot);
    while (pages_each_durable(rot->fake.core->pages, &next, 64, page_keep_records, rot))
        continue;
    rot_kill(rot);
}

void
rot_destroy(struct rot *rot)
{
    if (rot->fake.core != NULL)
        rot_kill(rot);
    fake_fini(&rot->fake);
    for (unsigned i = 0; i < rot->file_count; i++)
        free(rot->files[i].bytes);
}

/* --- damage --- */

void
rot_restore(struct rot *rot)
{
    for (unsigned i = 0; i < FAKE_FILES; i++) {
        struct env_file *to = &rot->fake.files[i];
        if (i >= rot->file_count) {
            to->exists = false;
            continue;
        }
        if (to->bytes == NULL)
            to->bytes = calloc(1, FILE_ROOM);
        ck_assert_ptr_nonnull(to->bytes);
        snprintf(to->name, sizeof to->name, "%s", rot->files[i].name);
        memcpy(to->bytes, rot->files[i].bytes, rot->files[i].size);
        to->size = rot->files[i].size;
        to->capacity = FILE_ROOM;
        to->exists = true;
    }
}

uint8_t *
rot_bytes(struct rot *rot, unsigned file)
{
    return rot->fake.files[file].bytes;
}

unsigned
rot_find(const struct rot *rot, const char *name)
{
    for (unsigned i = 0; i < rot->file_count; i++)
        if (strcmp(rot->files[i].name, name) == 0)
            return i;
    ck_abort_msg("no file %s", name);
}

const struct rot_record *
rot_record_at(const struct rot *rot, unsigned file, uint64_t offset)
{
    for (unsigned i = 0; i < rot->record_count; i++) {
        const struct rot_record *record = &rot->records[i];
        uint64_t at = data_location_offset(record->location);
        if (record->file == file && offset >= at &&
            offset < at + data_location_size(record->location))
            return record;
    }
    return NULL;
}

/* --- lives --- */

int
rot_start(struct rot *rot)
{
    struct fake *fake = &rot->fake;

    rot->why[0] = '\0';
    fake->completion_count = 0;
    fake->store_size = core_store_size(&fake->options);
    fake->store = fake_memory(fake->store_size);
    int status = core_create(&fake->core, &fake->options, &fake->env, fake->store);
    if (status == MSHM_OK)
        status = core_recover(fake->core, true, rot->why, sizeof rot->why);
    if (status != MSHM_OK)
        fake_kill(fake);
    else
        rot->client = fake_attach(fake, 0);
    return status;
}

void
rot_kill(struct rot *rot)
{
    fake_kill(&rot->fake);
    fake_client_free(rot->client);
    rot->client = NULL;
}

static bool
among(mshm_pid pid, const mshm_pid *pids, unsigned count)
{
    for (unsigned i = 0; i < count; i++)
        if (pids[i] == pid)
            return true;
    return false;
}

/* The version that a key has when the newest `lost` commits are not there. */
static unsigned
version_of(const struct rot *rot, unsigned bucket, unsigned number, unsigned lost)
{
    unsigned version = rot->versions[bucket][number];

    for (unsigned i = ROT_TAIL - lost; i < ROT_TAIL; i++)
        version -= i % ROT_BUCKETS == bucket && rot->tail[i] == number;
    return version;
}

void
rot_look(struct rot *rot, const mshm_pid *damaged, unsigned count, struct rot_outcome *outcome)
{
    *outcome = (struct rot_outcome){.status = rot_start(rot)};
    if (outcome->status != MSHM_OK)
        return;
    int bad = rot->versions_differ ? MSHM_VERSION : MSHM_CORRUPT;
    uint64_t visible = AO_load(&rot->fake.core->store->visible);
    ck_assert_uint_le(visible, rot->newest);
    ck_assert_uint_ge(visible, rot->newest - ROT_TAIL);
    outcome->lost = (unsigned)(rot->newest - visible);
    for (unsigned b = 0; b < ROT_BUCKETS; b++)
        for (unsigned i = 0; i < ROT_KEYS; i++) {
            char key[16], value[256], wanted[256];
            key_text(key, i);
            value_text(wanted, b, i, version_of(rot, b, i, outcome->lost));
            int status = fake_get(rot->client, 0, rot->buckets[b], key, 0, value);
            ck_assert_msg(status == MSHM_OK || status == bad, "%s of bucket %u: %s", key, b,
                          mshm_strerror(status));
            ck_assert_msg(status != MSHM_OK || strcmp(value, wanted) == 0, "%s: %s, not %s", key,
                          value, wanted);
            outcome->corrupt += status != MSHM_OK;
            outcome->elsewhere += status != MSHM_OK && !among(rot->roots[b], damaged, count) &&
                                  !among(rot->leaves[b][i], damaged, count);
        }
}

/* --- going on --- */

/* Every key: the one version that it may have, or damaged where that is allowed. */
static void
see(struct rot *rot, unsigned versions[ROT_BUCKETS][ROT_KEYS], mshm_pid damaged)
{
    for (unsigned b = 0; b < ROT_BUCKETS; b++)
        for (unsigned i = 0; i < ROT_KEYS; i++) {
            char key[16], value[256], wanted[256];
            key_text(key, i);
            value_text(wanted, b, i, versions[b][i]);
            int status = fake_get(rot->client, 0, rot->buckets[b], key, 0, value);
            bool touched = rot->leaves[b][i] == damaged || rot->roots[b] == damaged;
            ck_assert_msg(status == MSHM_OK || (touched && status == MSHM_CORRUPT), "%s: %s", key,
                          mshm_strerror(status));
            ck_assert_msg(status != MSHM_OK || strcmp(value, wanted) == 0, "%s: %s, not %s", key,
                          value, wanted);
        }
}

void
rot_go_on(struct rot *rot, mshm_pid damaged)
{
    unsigned versions[ROT_BUCKETS][ROT_KEYS];
    mshm_timestamp newest = rot->newest;

    memcpy(versions, rot->versions, sizeof versions);
    for (unsigned round = 0; round < 3; round++) {
        for (unsigned i = round; i < ROT_KEYS; i += 3)
            for (unsigned b = 0; b < ROT_BUCKETS; b++) {
                int status = put_version(rot, b, i, versions[b][i] + 1, 0);
                bool touched = rot->leaves[b][i] == damaged || rot->roots[b] == damaged;
                ck_assert_msg(status == MSHM_OK || (touched && status == MSHM_CORRUPT),
                              "a put of key %u: %s", i, mshm_strerror(status));
                versions[b][i] += status == MSHM_OK;
            }
        see(rot, versions, damaged);
        if (round > 0)
            checkpoint(rot);
        see(rot, versions, damaged);
        rot_kill(rot);
        ck_assert_msg(rot_start(rot) == MSHM_OK, "%s", rot->why);
        see(rot, versions, damaged);
    }
    rot_kill(rot);
    rot->newest = newest;
}
