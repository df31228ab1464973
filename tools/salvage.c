#include "salvage.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <time.h>
#include <unistd.h>

#include "mshm/ops.h"
#include "mshm/status.h"
#include "strays.h"

struct salvage {
    struct check *check;
    struct salvage_store *store;
    struct salvage_gaps *gaps;
    struct salvage_leaves leaves;
    uint64_t next; /* leaf */
    struct salvage_result *result;
    const char *bucket;   /* whose gaps are told */
    struct strays strays; /* that the manifest has */
    mshm_pid pid;         /* the page whose strays are taken */
    uint32_t bucket_id;   /* its bucket */
};

/* --- leaves --- */

static bool
key_repeated(const struct mshm_leaf_spec *leaf, uint32_t index)
{
    if (index == 0)
        return false;
    const struct mshm_version *before = &leaf->versions[index - 1], *version = before + 1;
    return before->key_size == version->key_size &&
           memcmp(before->key, version->key, version->key_size) == 0;
}

/* The newest version of each key. */
static int
leaf_write(struct salvage *salvage, uint32_t bucket, const struct mshm_leaf_spec *leaf)
{
    int status = MSHM_OK;
    for (uint32_t i = 0; i < leaf->count && status == MSHM_OK; i++) {
        const struct mshm_version *version = &leaf->versions[i];
        if (key_repeated(leaf, i) || version->kind == MSHM_ENTRY_TOMBSTONE)
            continue;
        if (version->kind != MSHM_ENTRY_VALUE) {
            salvage->result->strange++;
            continue;
        }
        status = salvage_store_put(salvage->store, bucket, version->key, version->key_size,
                                   version->value, version->value_size);
        salvage->result->keys++;
    }
    return status;
}

static int
stray_take(void *argument, mshm_pid pid, const struct mshm_version *version)
{
    struct salvage *salvage = argument;
    if (pid != salvage->pid)
        return MSHM_OK;
    if (version->kind == MSHM_ENTRY_TOMBSTONE)
        return salvage_store_delete(salvage->store, salvage->bucket_id, version->key,
                                    version->key_size);
    return salvage_store_put(salvage->store, salvage->bucket_id, version->key, version->key_size,
                             version->value, version->value_size);
}

/* What was written to the page while it could not be read is newer than its records. */
static int
strays_take(struct salvage *salvage, const struct salvage_leaf *place)
{
    const struct check *check = salvage->check;
    if (!strays_known(&salvage->strays, place->pid))
        return MSHM_OK;
    salvage->pid = place->pid;
    salvage->bucket_id = place->bucket;
    int status = strays_read(check->strays, check->strays_size, check->manifest.cut.timestamp,
                             stray_take, salvage);
    return status == MSHM_CORRUPT ? MSHM_OK : status;
}

static int
leaf_take(struct salvage *salvage, const struct salvage_leaf *place)
{
    struct check *check = salvage->check;
    struct check_chain chain;
    const struct check_bucket *bucket = check_bucket_find(check, place->bucket);
    if (bucket != NULL && bucket->dropped)
        return MSHM_OK;
    int status = check_page_load(check->reader, place->location, place->pid, &chain);
    if (status != MSHM_OK)
        return status == MSHM_NO_MEMORY ? status : MSHM_OK; /* it could be read before */
    const struct mshm_leaf_spec *leaf = page_content_leaf(check_page_content(check->reader));
    struct check_range range = {leaf->low, leaf->high, leaf->low_size, leaf->high_size};
    status = salvage_gaps_cover(salvage->gaps, place->bucket, &range);
    if (status == MSHM_OK && salvage->leaves.overlap)
        status = salvage_store_clear(salvage->store, place->bucket, &range);
    if (status == MSHM_OK)
        status = leaf_write(salvage, place->bucket, leaf);
    if (status == MSHM_OK)
        status = strays_take(salvage, place);
    salvage->result->leaves++;
    return status;
}

/* All leaves whose state is older than a commit. */
static int
leaves_before(struct salvage *salvage, uint64_t timestamp)
{
    const struct salvage_leaves *leaves = &salvage->leaves;
    int status = MSHM_OK;
    while (status == MSHM_OK && salvage->next < leaves->count &&
           leaves->list[salvage->next].order < timestamp)
        status = leaf_take(salvage, &leaves->list[salvage->next++]);
    return status;
}

/* --- the log --- */

static int
bucket_operation(struct salvage *salvage, const struct mshm_op *op)
{
    struct catalogue_record record;
    if (op->value_size != sizeof record)
        return MSHM_OK;
    memcpy(&record, mshm_op_value(op), sizeof record);
    if (op->kind == MSHM_OP_BUCKET_DROP)
        return salvage_store_drop(salvage->store, op->bucket);
    return salvage_store_bucket(salvage->store, op->bucket, (const char *)mshm_op_key(op),
                                op->key_size, &record);
}

static int
operation_take(struct salvage *salvage, const struct mshm_op *op)
{
    switch (op->kind) {
    case MSHM_OP_PUT:
        return salvage_store_put(salvage->store, op->bucket, mshm_op_key(op), op->key_size,
                                 mshm_op_value(op), op->value_size);
    case MSHM_OP_DELETE:
        return salvage_store_delete(salvage->store, op->bucket, mshm_op_key(op), op->key_size);
    case MSHM_OP_BUCKET_CREATE:
    case MSHM_OP_BUCKET_DROP:
    case MSHM_OP_BUCKET_ALTER:
        return bucket_operation(salvage, op);
    default:
        salvage->result->strange++;
        return MSHM_OK;
    }
}

static int
record_take(void *argument, const struct wal_segment_header *segment,
            const struct wal_record *record, const void *ops, uint64_t size,
            struct wal_position end)
{
    struct salvage *salvage = argument;
    const struct mshm_op *op = ops;
    int status = leaves_before(salvage, record->timestamp);
    (void)segment, (void)size, (void)end;
    for (uint32_t i = 0; i < (record->op_count_flags & WAL_OP_COUNT_MASK) && status == MSHM_OK;
         i++, op = mshm_op_next(op))
        status = operation_take(salvage, op);
    salvage->result->commits++;
    return status;
}

/* --- what is lost --- */

static void
range_lost(void *argument, const struct check_range *range)
{
    struct salvage *salvage = argument;
    struct finding finding = {
        .bucket = salvage->bucket,
        .bucket_size = (uint32_t)strlen(salvage->bucket),
        .has_range = true,
        .low = range->low,
        .high = range->high,
        .low_size = range->low_size,
        .high_size = range->high_size,
        .text = "what the pages had is lost",
    };
    report_damage(salvage->result->lost, &finding);
}

/* A bucket that was made behind the checkpoint has all it has from the log. */
static void
lost_tell(struct salvage *salvage)
{
    uint32_t id;
    for (uint32_t i = 0; salvage_store_each(salvage->store, i, &id, &salvage->bucket); i++)
        if (check_bucket_find(salvage->check, id) != NULL || salvage_gaps_known(salvage->gaps, id))
            salvage_gaps_each(salvage->gaps, id, range_lost, salvage);
}

/* --- all of it --- */

static int
buckets_make(struct salvage *salvage)
{
    const struct check *check = salvage->check;
    int status = MSHM_OK;
    for (uint32_t i = 0; i < check->bucket_count && status == MSHM_OK; i++) {
        const struct check_bucket *bucket = &check->buckets[i];
        if (!bucket->dropped)
            status = salvage_store_bucket(salvage->store, bucket->id, bucket->name,
                                          bucket->name_size, &bucket->options);
    }
    return status;
}

/* The pages are those of the cut, all of them: the log is what follows. */
static int
named_take(struct salvage *salvage)
{
    const struct check *check = salvage->check;
    int status = salvage_leaves_named(salvage->check, &salvage->leaves);
    if (status == MSHM_OK)
        status = buckets_make(salvage);
    if (status == MSHM_OK && check->strays_there &&
        strays_load(&salvage->strays, check->strays, check->strays_size,
                    check->manifest.cut.timestamp) == MSHM_NO_MEMORY)
        status = MSHM_NO_MEMORY; /* a table that makes no sense was reported by the check */
    return status == MSHM_OK ? leaves_before(salvage, UINT64_MAX) : status;
}

static int
found_prepare(struct salvage *salvage)
{
    int status = salvage_leaves_found(salvage->check, &salvage->leaves);
    if (status == MSHM_OK && salvage->check->file_count > 0)
        status = salvage_catalogue(salvage->check);
    return status == MSHM_OK ? buckets_make(salvage) : status;
}

static void
commits_lost(struct salvage *salvage, uint64_t last)
{
    report_damagef(salvage->result->lost, (struct finding){0},
                   "the log can be read up to commit %llu: what was written after it is lost",
                   (unsigned long long)last);
}

/* Nothing tells then whether a newer state of a page stood where nothing can be read now. */
static void
states_doubtful(struct salvage *salvage)
{
    report_damage(salvage->result->lost,
                  &(struct finding){.text = "no manifest can be read: where a page's newest record "
                                            "is damaged, an older one was taken"});
}

static int
salvage_steps(struct salvage *salvage)
{
    struct check *check = salvage->check;
    struct wal_from from = {0};
    const uint8_t *id = check->manifest.database_id;
    uint64_t last = 0;
    bool more = false;
    int status;
    if (check->loaded) {
        from = (struct wal_from){.timestamp = check->manifest.cut.timestamp,
                                 .chain = check->manifest.cut.chain,
                                 .position = check->manifest.cut.position};
        salvage->result->manifest = check->manifest.number;
        status = named_take(salvage);
    } else {
        status = found_prepare(salvage);
        states_doubtful(salvage);
        if (check->file_count == 0)
            id = NULL;
    }
    if (status == MSHM_OK)
        status = salvage_log(check, id, &from, record_take, salvage, &last, &more);
    if (status == MSHM_OK)
        status = leaves_before(salvage, UINT64_MAX);
    if (status == MSHM_OK)
        status = salvage_store_finish(salvage->store);
    salvage->result->last_commit = salvage->result->commits > 0 ? last : 0;
    if (status == MSHM_OK)
        lost_tell(salvage);
    if (status == MSHM_OK && more)
        commits_lost(salvage, last);
    return status;
}

/* Until its broker has left. Asking it would keep it there. */
static void
broker_await(const char *path)
{
    enum { TRIES = 1000, PAUSE_NS = 10 * 1000 * 1000 };
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    for (int i = 0; fd >= 0 && i < TRIES && flock(fd, LOCK_EX | LOCK_NB) < 0; i++)
        nanosleep(&(struct timespec){.tv_nsec = PAUSE_NS}, NULL);
    if (fd >= 0)
        close(fd);
}

int
salvage_verify(const char *path, char *why, size_t why_size)
{
    struct check check = {.host = {.directory = -1}};
    struct report *report = report_create();
    broker_await(path);
    int status =
        report != NULL ? check_open(&check, path, false, report, why, why_size) : MSHM_NO_MEMORY;
    if (status == MSHM_OK)
        status = check_run(&check, why, why_size);
    if (status == MSHM_OK && report_count(report) != 0) {
        report_first(report, why, why_size);
        status = MSHM_CORRUPT;
    }
    check_close(&check);
    report_destroy(report);
    return status;
}

int
salvage_run(struct check *check, const char *path, struct salvage_result *result, char *why,
            size_t why_size)
{
    struct salvage salvage = {.check = check, .result = result};
    *result = (struct salvage_result){.lost = report_create()};
    salvage.gaps = salvage_gaps_create();
    why[0] = '\0';
    int status = MSHM_NO_MEMORY;
    if (result->lost != NULL && salvage.gaps != NULL)
        status = salvage_store_create(&salvage.store, path, why, why_size);
    if (status == MSHM_OK && !check->loaded)
        status = salvage_manifest(check);
    if (status == MSHM_OK)
        status = salvage_steps(&salvage);
    if (status != MSHM_OK && why[0] == '\0')
        snprintf(why, why_size, "%s: %s", path, mshm_strerror(status));
    salvage_store_destroy(salvage.store);
    strays_fini(&salvage.strays);
    salvage_leaves_free(&salvage.leaves);
    salvage_gaps_destroy(salvage.gaps);
    if (status == MSHM_OK)
        status = salvage_verify(path, why, why_size);
    return status;
}
