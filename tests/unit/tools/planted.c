/* planted.c - a database of known content, and its bytes changed. */
#include "unit/tools/planted.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "mshm/status.h"
#include "support/broker.h"
#include "support/client.h"
#include "support/process.h"

enum { SEGMENT_SIZE = 256 * 1024 };

/* --- content --- */

void
planted_key(char key[PLANTED_KEY], unsigned i)
{
    snprintf(key, PLANTED_KEY, "k%06u", i);
}

bool
planted_in_log(unsigned i)
{
    return i % 64 == 0;
}

unsigned
planted_generation(unsigned i)
{
    if (planted_in_log(i))
        return 3;
    if (i % 50 == 0 && i < PLANTED_CHANGED)
        return 0;
    return i % 16 == 0 && i < PLANTED_CHANGED ? 2 : 1;
}

size_t
planted_value(char value[PLANTED_VALUE], unsigned i, unsigned generation)
{
    size_t size = 60 + i % 40;
    memset(value, 'a' + (int)(i % 26), size);
    int used = snprintf(value, PLANTED_VALUE, "%u of %u", generation, i);
    value[used] = ' ';
    return size;
}

/* Writes (or, with generation 0, deletes) every step-th key below `end`, a hundred in a commit. */
static void
write_generation(mace *db, mace_bucket *bucket, unsigned step, unsigned end, unsigned generation)
{
    char key[PLANTED_KEY], value[PLANTED_VALUE];
    mace_txn *txn = NULL;
    unsigned count = 0;
    for (unsigned i = 0; i < end; i += step) {
        planted_key(key, i);
        if (txn == NULL)
            require_ok(mace_begin(db, 0, &txn));
        if (generation == 0)
            require_ok(mace_delete(txn, bucket, key, strlen(key)));
        else
            require_ok(mace_put(txn, bucket, key, strlen(key), value,
                                planted_value(value, i, generation)));
        if (++count % 100 == 0) {
            require_ok(mace_commit(txn));
            txn = NULL;
        }
    }
    if (txn != NULL)
        require_ok(mace_commit(txn));
}

/* Keys behind all others, of which nothing may be left: their pages go, and their records stay in the data files. */
static void
ghosts_write(mace *db, mace_bucket *bucket, bool there)
{
    char value[PLANTED_VALUE];
    mace_txn *txn;
    require_ok(mace_begin(db, 0, &txn));
    for (unsigned i = 0; i < PLANTED_GHOSTS; i++) {
        char key[PLANTED_KEY];
        snprintf(key, sizeof key, "x%06u", i);
        if (there)
            require_ok(mace_put(txn, bucket, key, strlen(key), value, planted_value(value, i, 1)));
        else
            require_ok(mace_delete(txn, bucket, key, strlen(key)));
    }
    require_ok(mace_commit(txn));
}

/* So much in another bucket that the cut of the next checkpoint lies in a later segment than all commits so far. */
static void
segment_fill(mace *db)
{
    static char value[1000];
    mace_bucket *bucket = client_bucket(db, "default");
    for (unsigned i = 0; i < SEGMENT_SIZE / sizeof value + 100; i++)
        require_ok(mace_put1(db, bucket, "filler", 6, value, sizeof value));
    mace_bucket_close(bucket);
}

static void
planted_create(const char *path)
{
    const struct broker_options options = {
        .arguments = {"--cache", "16M", "--segment-size", "256K"}};
    struct broker broker;
    mace_bucket_options settings;
    mace_bucket *bucket;
    broker_start(&broker, path, &options);
    mace *db = client_open(path);
    mace_bucket_options_init(&settings);
    settings.page_size = 4096;
    require_ok(mace_bucket_create(db, "planted", &settings, &bucket));
    ghosts_write(db, bucket, true);
    write_generation(db, bucket, 1, PLANTED_KEYS, 1);
    require_ok(mace_checkpoint(db));
    write_generation(db, bucket, 16, PLANTED_CHANGED, 2);
    require_ok(mace_checkpoint(db));
    write_generation(db, bucket, 50, PLANTED_CHANGED, 0);
    uint64_t leaves = client_stat(db).pages_leaf;
    ghosts_write(db, bucket, false);
    wait_for(client_stat(db).pages_leaf + 5 <
             leaves); /* merged, so their last records have them all */
    segment_fill(db);
    require_ok(mace_checkpoint(db));
    write_generation(db, bucket, 64, PLANTED_KEYS, 3);
    require_ok(mace_sync(db));
    /* So that the log's last records know of the sync before them. */
    require_ok(client_commit_put(db, bucket, MACE_SYNC, "k000000", "", NULL));
    char key[PLANTED_KEY], value[PLANTED_VALUE];
    planted_key(key, 0);
    require_ok(mace_put1(db, bucket, key, strlen(key), value, planted_value(value, 0, 3)));
    require_ok(mace_sync(db));
    mace_bucket_close(bucket);
    mace_close(db);
    broker_kill(&broker);
}

/* --- for a case --- */

char planted_path[SCRATCH_PATH];
static char scratch[SCRATCH_PATH], base[SCRATCH_PATH], own[SCRATCH_PATH];

void
planted_base_create(void)
{
    scratch_create(scratch);
    scratch_join(base, scratch, "base");
    planted_create(base);
}

void
planted_base_remove(void)
{
    scratch_remove(scratch);
}

void
planted_copy_create(void)
{
    char name[40];
    snprintf(name, sizeof name, "case-%d", (int)getpid());
    scratch_join(own, scratch, name);
    require(mkdir(own, 0700) == 0, "%s: %s", own, strerror(errno));
    planted_beside(planted_path, "db");
    scratch_copy(base, planted_path);
}

void
planted_copy_remove(void)
{
    scratch_remove(own);
}

void
planted_beside(char joined[SCRATCH_PATH], const char *name)
{
    scratch_join(joined, own, name);
}

/* --- taken apart --- */

void
planted_open(struct planted *planted, const char *path)
{
    char why[300] = "";
    struct check *check = &planted->check;
    planted->report = report_create();
    require(planted->report != NULL, "out of memory");
    require(check_open(check, path, false, planted->report, why, sizeof why) == MSHM_OK, "%s", why);
    require(check_state_load(check, why, sizeof why) == MSHM_OK, "%s", why);
    require_ok(check_pages(check));
    planted->bucket = 0;
    for (uint32_t i = 0; i < check->bucket_count; i++)
        if (strcmp(check->buckets[i].name, "planted") == 0)
            planted->bucket = check->buckets[i].id;
    require(planted->bucket != 0, "the bucket is not there");
}

void
planted_close(struct planted *planted)
{
    check_close(&planted->check);
    report_destroy(planted->report);
}

void
planted_save(struct planted *planted)
{
    struct check *check = &planted->check;
    uint64_t size;
    struct manifest_page *pages = calloc(check->page_count + 1, sizeof *pages);
    struct manifest_file *files = calloc(check->file_count + 1, sizeof *files);
    require(pages != NULL && files != NULL, "out of memory");
    for (uint64_t i = 0; i < check->page_count; i++)
        pages[i] = (struct manifest_page){check->pages[i].pid, check->pages[i].location};
    for (uint32_t i = 0; i < check->file_count; i++)
        files[i] = (struct manifest_file){check->files[i].number, check->files[i].total,
                                          check->files[i].live};
    struct manifest_edit edit = {
        .incarnation = check->manifest.incarnation,
        .first_segment = check->manifest.first_segment,
        .cut = check->manifest.cut,
        .pages = pages,
        .page_count = check->page_count,
        .files = files,
        .file_count = check->file_count,
        .catalogue = check->catalogue,
        .catalogue_size = check->catalogue_size,
        .outcomes = check->outcomes,
        .outcomes_size = check->outcomes_size,
        .strays = check->strays,
        .strays_size = check->strays_size,
    };
    void *bytes = manifest_snapshot_bytes(&check->manifest, &edit, &size);
    require(bytes != NULL, "out of memory");
    require_ok(manifest_switch(&check->env, check->manifest.number, bytes, size));
    free(bytes);
    free(pages);
    free(files);
}

/* --- pages --- */

struct check_page *
planted_page(struct planted *planted, unsigned level, unsigned index)
{
    struct check *check = &planted->check;
    for (uint64_t i = 0; i < check->page_count; i++) {
        struct check_page *page = &check->pages[i];
        struct check_chain chain;
        struct page_facts facts;
        if (page->level != level || data_location_older(page->location) != 0)
            continue;
        require_ok(check_page_load(check->reader, page->location, page->pid, &chain));
        page_content_facts(check_page_content(check->reader), &facts);
        if (facts.bucket == planted->bucket && index-- == 0)
            return page;
    }
    return NULL;
}

struct check_page *
planted_root(struct planted *planted)
{
    const struct check_bucket *bucket = check_bucket_find(&planted->check, planted->bucket);
    struct check_page *page = check_page_find(&planted->check, bucket->root);
    require(page != NULL, "the root is not there");
    return page;
}

void
planted_read(struct planted *planted, data_location location, struct planted_record *record)
{
    struct check *check = &planted->check;
    struct check_file *file = check_file_find(check, data_location_file(location));
    struct page_payload payload;
    require(file != NULL, "no such file");
    *record = (struct planted_record){.location = location, .size = data_location_size(location)};
    record->bytes = malloc(record->size);
    require(record->bytes != NULL, "out of memory");
    require(check->env.file_read(check->env.context, file->open, data_location_offset(location),
                                 record->bytes, record->size) == record->size,
            "the record cannot be read");
    record->head = (struct page_record *)record->bytes;
    require(record->head->compression == PAGE_PLAIN, "the record is compressed");
    record->payload = record->bytes + sizeof *record->head + record->head->chain * 8u;
    memcpy(&payload, record->payload, sizeof payload);
    record->low = record->payload + sizeof payload;
    record->high = record->low + payload.low_size;
    record->prefix =
        record->high + (payload.high_size == MSHM_FENCE_INFINITE ? 0 : payload.high_size);
    record->content = record->prefix + payload.prefix_size;
}

void
planted_write(struct planted *planted, struct planted_record *record)
{
    char name[DATA_NAME_SIZE];
    struct page_place place = {.file = data_location_file(record->location),
                               .offset = data_location_offset(record->location)};
    memcpy(place.database_id, planted->check.manifest.database_id, sizeof place.database_id);
    record->head->crc = page_record_crc(&place, record->bytes, record->size);
    data_name(name, place.file);
    planted_patch(planted->check.path, name, place.offset, record->bytes, record->size);
    free(record->bytes);
    *record = (struct planted_record){0};
}

/* --- bytes --- */

static int
file_open(const char *path, const char *name)
{
    char joined[SCRATCH_PATH];
    scratch_join(joined, path, name);
    int fd = open(joined, O_RDWR | O_CLOEXEC);
    require(fd >= 0, "%s: %s", joined, strerror(errno));
    return fd;
}

void
planted_patch(const char *path, const char *name, uint64_t offset, const void *bytes, size_t size)
{
    int fd = file_open(path, name);
    require(pwrite(fd, bytes, size, (off_t)offset) == (ssize_t)size, "%s", strerror(errno));
    close(fd);
}

void
planted_flip(const char *path, const char *name, uint64_t offset, unsigned bit)
{
    uint8_t byte;
    int fd = file_open(path, name);
    require(pread(fd, &byte, 1, (off_t)offset) == 1, "%s ends before %llu", name,
            (unsigned long long)offset);
    byte ^= (uint8_t)(1u << bit % 8);
    require(pwrite(fd, &byte, 1, (off_t)offset) == 1, "%s", strerror(errno));
    close(fd);
}
