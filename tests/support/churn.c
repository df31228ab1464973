/* churn.c - the commits of the churn, and what they leave. */
#include "support/churn.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "support/process.h"

enum {
    KEY = 32,
    SMALL_VALUE = 120,
    LOAD_AT_ONCE = 25,
    BEFORE_DROP_US = 50000, /* the broker may merge what is left of the bucket */
};

/* What the ballast holds at a position: for each key the position that wrote it last. */
struct churn_model {
    uint64_t position;
    uint32_t keys;
    uint64_t *last;
};

static void
model_create(struct churn_model *model, const struct churn_board *board)
{
    *model = (struct churn_model){.keys = board->keys};
    model->last = calloc(board->keys, sizeof *model->last);
    require(model->last != NULL, "memory");
}

/* Commits of a round that are transactions: the first one creates the bucket, the last one drops it. */
static int
is_transaction(uint64_t position)
{
    uint64_t step = (position - 1) % CHURN_ROUND;

    return step > 0 && step < CHURN_ROUND - 1;
}

static uint32_t
spread_key(const struct churn_model *model, uint64_t position, unsigned index)
{
    struct random random;

    random_init(&random, position * CHURN_SPREAD + index);
    random_next(&random);
    return (uint32_t)random_below(&random, model->keys);
}

static void
model_advance(struct churn_model *model, uint64_t position)
{
    require(position >= model->position, "position %llu was there, now it is %llu",
            (unsigned long long)model->position, (unsigned long long)position);
    for (uint64_t at = model->position + 1; at <= position; at++)
        for (unsigned i = 0; is_transaction(at) && i < CHURN_SPREAD; i++)
            model->last[spread_key(model, at, i)] = at;
    model->position = position;
}

/* Keys of neighbouring numbers lie apart. */
static size_t
ballast_key(char key[KEY], uint32_t number)
{
    return (size_t)snprintf(key, KEY, "%08x/%u", number * 2654435761u, number);
}

static void
ballast_value(uint8_t value[CHURN_VALUE], uint32_t number, uint64_t position)
{
    struct random random;

    random_init(&random, position * 1000003 + number);
    memcpy(value, &position, sizeof position);
    random_fill(&random, value + sizeof position, CHURN_VALUE - sizeof position);
}

static void
ballast_check(const mace_slice *value, uint32_t number, uint64_t position)
{
    uint8_t wanted[CHURN_VALUE];
    uint64_t found = 0;

    memcpy(&found, value->data, value->size < sizeof found ? value->size : sizeof found);
    ballast_value(wanted, number, position);
    require(value->size == CHURN_VALUE && memcmp(value->data, wanted, CHURN_VALUE) == 0,
            "key %u of the ballast was written by position %llu; %zu bytes of %llu are here",
            number, (unsigned long long)position, value->size, (unsigned long long)found);
}

static size_t
small_key(char key[KEY], uint64_t index, unsigned number)
{
    return (size_t)snprintf(key, KEY, "small/%05llu/%03u",
                            (unsigned long long)index % 7 * 1000 + index, number);
}

static size_t
small_value(uint8_t value[SMALL_VALUE], uint64_t round, uint64_t index, unsigned number)
{
    struct random random;

    random_init(&random, round * 1000003 + index * 1009 + number);
    size_t size = 60 + random_below(&random, SMALL_VALUE - 60);
    random_fill(&random, value, size);
    return size;
}

static int
position_get(mace_txn *txn, mace_bucket *bucket, uint64_t *position)
{
    mace_slice value;
    int status = mace_get(txn, bucket, "position", 8, &value);

    *position = 0;
    if (status == MACE_OK) {
        require(value.size == sizeof *position, "position has %zu bytes", value.size);
        memcpy(position, value.data, sizeof *position);
    }
    return status == MACE_NOT_FOUND ? MACE_OK : status;
}

/* --- making it --- */

struct churn_board *
churn_create(mace *db, uint32_t keys)
{
    mace_bucket *bucket;
    mace_txn *txn;
    mace_bucket_options options;
    struct churn_board *board =
        mmap(NULL, sizeof *board, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

    require(board != MAP_FAILED, "mmap");
    board->keys = keys;
    mace_bucket_options_init(&options);
    options.page_size = 4096;
    require_ok(mace_bucket_create(db, "ballast", &options, &bucket));
    for (uint32_t i = 0; i < keys;) {
        require_ok(mace_begin(db, MACE_OS, &txn));
        for (uint32_t end = i + LOAD_AT_ONCE; i < keys && i < end; i++) {
            char key[KEY];
            uint8_t value[CHURN_VALUE];
            ballast_value(value, i, 0);
            require_ok(mace_put(txn, bucket, key, ballast_key(key, i), value, sizeof value));
        }
        require_ok(mace_commit(txn));
    }
    mace_bucket_close(bucket);
    return board;
}

void
churn_destroy(struct churn_board *board)
{
    munmap(board, sizeof *board);
}

/* --- where it is --- */

/* MACE_OK and the position of the database, found by looking at it with nobody writing; or the status of a loss. */
static int
churn_find(mace *db, struct churn_board *board, uint64_t *position)
{
    mace_bucket *ballast, *small = NULL;
    mace_txn *txn;
    uint64_t in_small = 0;
    int status = mace_bucket_open(db, "ballast", &ballast);

    if (status != MACE_OK)
        return status;
    status = mace_bucket_open(db, "churn", &small);
    if (status == MACE_NOT_FOUND)
        status = MACE_OK;
    if (status == MACE_OK && (status = mace_begin(db, MACE_RDONLY, &txn)) == MACE_OK) {
        status = position_get(txn, ballast, position);
        if (status == MACE_OK && small != NULL)
            status = position_get(txn, small, &in_small);
        mace_abort(txn);
    }
    mace_bucket_close(ballast);
    if (small != NULL)
        mace_bucket_close(small);
    if (status != MACE_OK)
        return status;
    /* The last transaction of a round, or none at all: bucket commits may have followed. */
    if (*position % CHURN_ROUND == CHURN_ROUND - 1 && (small == NULL || in_small == 0))
        *position += 1;
    if (*position % CHURN_ROUND == 0 && small != NULL)
        *position += 1;
    require(small == NULL || in_small == (*position % CHURN_ROUND == 1 ? 0 : *position),
            "position %llu, and %llu in the small bucket", (unsigned long long)*position,
            (unsigned long long)in_small);
    require(small != NULL || *position % CHURN_ROUND == 0, "no small bucket at position %llu",
            (unsigned long long)*position);
    require(*position >= AO_load_acquire(&board->acked) &&
                *position <= AO_load_acquire(&board->intended),
            "position %llu; %llu were acknowledged, %llu tried", (unsigned long long)*position,
            (unsigned long long)AO_load(&board->acked),
            (unsigned long long)AO_load(&board->intended));
    return MACE_OK;
}

/* --- commits --- */

static int
small_fill(mace_txn *txn, mace_bucket *small, uint64_t round, uint64_t index)
{
    int status = MACE_OK;

    for (unsigned i = 0; i < CHURN_KEYS && status == MACE_OK; i++) {
        char key[KEY];
        uint8_t value[SMALL_VALUE];
        uint64_t part = index < CHURN_FILL ? index : index - CHURN_FILL;
        size_t key_size = small_key(key, part, i);
        size_t size = small_value(value, round, part, i);
        status = index < CHURN_FILL ? mace_insert(txn, small, key, key_size, value, size)
                                    : mace_delete(txn, small, key, key_size);
    }
    return status;
}

static int
ballast_fill(mace_txn *txn, mace_bucket *ballast, const struct churn_model *model,
             uint64_t position)
{
    int status = MACE_OK;

    for (unsigned i = 0; i < CHURN_SPREAD && status == MACE_OK; i++) {
        char key[KEY];
        uint8_t value[CHURN_VALUE];
        uint32_t number = spread_key(model, position, i);
        ballast_value(value, number, position);
        status = mace_put(txn, ballast, key, ballast_key(key, number), value, sizeof value);
    }
    return status;
}

static int
ballast_read(mace_txn *txn, mace_bucket *ballast, const struct churn_model *model,
             struct random *random, unsigned count)
{
    int status = MACE_OK;

    for (unsigned i = 0; i < count && status == MACE_OK; i++) {
        char key[KEY];
        mace_slice value;
        uint32_t number = (uint32_t)random_below(random, model->keys);
        status = mace_get(txn, ballast, key, ballast_key(key, number), &value);
        require(status != MACE_NOT_FOUND, "key %u of the ballast is not here", number);
        if (status == MACE_OK)
            ballast_check(&value, number, model->last[number]);
    }
    return status;
}

static int
transaction_run(mace *db, const struct churn_worker *worker, const struct churn_model *model,
                struct random *random)
{
    uint64_t position = model->position + 1;
    mace_bucket *ballast = NULL, *small = NULL;
    mace_txn *txn = NULL;
    int status = mace_bucket_open(db, "ballast", &ballast);

    if (status == MACE_OK)
        status = mace_bucket_open(db, "churn", &small);
    if (status == MACE_OK)
        status = mace_begin(db, random_chance(random, 4) ? MACE_SYNC : MACE_OS, &txn);
    if (status == MACE_OK)
        status = ballast_read(txn, ballast, model, random, worker->reads);
    if (status == MACE_OK)
        status = small_fill(txn, small, (position - 1) / CHURN_ROUND, (position - 2) % CHURN_ROUND);
    if (status == MACE_OK)
        status = ballast_fill(txn, ballast, model, position);
    if (status == MACE_OK)
        status = mace_put(txn, small, "position", 8, &position, sizeof position);
    if (status == MACE_OK)
        status = mace_put(txn, ballast, "position", 8, &position, sizeof position);
    if (status == MACE_OK)
        status = mace_commit(txn);
    else if (txn != NULL)
        mace_abort(txn);
    if (small != NULL)
        mace_bucket_close(small);
    if (ballast != NULL)
        mace_bucket_close(ballast);
    return status;
}

static int
commit_run(mace *db, const struct churn_worker *worker, const struct churn_model *model,
           struct random *random)
{
    mace_bucket_options options;
    mace_bucket *small;
    uint64_t step = model->position % CHURN_ROUND;

    if (step == CHURN_ROUND - 1) {
        usleep(BEFORE_DROP_US);
        return mace_bucket_drop(db, "churn");
    }
    if (step != 0)
        return transaction_run(db, worker, model, random);
    mace_bucket_options_init(&options);
    options.page_size = 4096;
    options.compression =
        model->position / CHURN_ROUND % 2 == 1 ? MACE_COMPRESS_ZSTD : MACE_COMPRESS_NONE;
    int status = mace_bucket_create(db, "churn", &options, &small);
    if (status == MACE_OK)
        mace_bucket_close(small);
    return status;
}

/* --- the worker --- */

static mace *
churn_open(const struct churn_worker *worker)
{
    mace_options options;
    mace *db = NULL;
    int status;

    mace_options_init(&options);
    options.start_broker = worker->broker_path != NULL;
    options.broker_path = worker->broker_path;
    options.idle_exit_ms = 3000;
    options.durability = MACE_OS;
    options.connect_timeout_ms = 60000;
    do
        status = mace_open(worker->path, &options, &db);
    while (status == MACE_BROKER_LOST && !AO_load_acquire(&worker->board->stop));
    if (status == MACE_BROKER_LOST)
        _exit(0);
    require_ok(status);
    return db;
}

/* After a loss, or when memory was short: a cache as small as a test's may be too small for a moment. Or where a commit of
 * a worker that was killed came later than the look at the position; that happens once: a state that stays wrong is a
 * failure. */
static int
is_tolerable(int status, unsigned *surprises)
{
    if (status == MACE_BROKER_LOST || status == MACE_UNKNOWN_OUTCOME)
        return 1;
    *surprises = status == MACE_OK ? 0 : *surprises + 1;
    return status == MACE_OK ||
           (*surprises < 5 &&
            (status == MACE_CONFLICT || status == MACE_EXISTS || status == MACE_NOT_FOUND));
}

void
churn_worker_run(int channel, void *argument)
{
    const struct churn_worker *worker = argument;
    struct churn_board *board = worker->board;
    struct churn_model model;
    struct random random;
    mace *db = churn_open(worker);
    unsigned surprises = 0;
    int status = MACE_BROKER_LOST;

    (void)channel;
    model_create(&model, board);
    random_init(&random, worker->seed);
    while (!AO_load_acquire(&board->stop)) {
        uint64_t position = model.position + 1;
        if (status != MACE_OK)
            status = churn_find(db, board, &position);
        if (status == MACE_OK)
            model_advance(&model, position);
        if (status == MACE_OK) {
            AO_store_full(&board->acked, model.position);
            if (AO_load(&board->intended) <= model.position)
                AO_store_full(&board->intended, model.position + 1);
            status = commit_run(db, worker, &model, &random);
        }
        require(is_tolerable(status, &surprises), "churn at %llu: %s",
                (unsigned long long)model.position, mace_strerror(status));
        if (status == MACE_OK) {
            AO_store_full(&board->acked, model.position + 1);
        } else {
            AO_fetch_and_add1(&board->losses);
            process_pause();
        }
        if (worker->pause_us != 0)
            usleep(worker->pause_us);
    }
    free(model.last);
    mace_close(db);
}

/* --- checks --- */

/* Every key of the ballast at the snapshot, and nothing else. */
static void
ballast_check_all(mace_txn *txn, mace_bucket *ballast, const struct churn_model *model)
{
    mace_cursor *cursor;
    mace_slice key, value;
    uint32_t count = 0;
    int status;

    require_ok(mace_cursor_open(txn, ballast, NULL, &cursor));
    while ((status = mace_cursor_next(cursor, &key, &value)) == MACE_OK) {
        char wanted[KEY], text[KEY] = "";
        unsigned number = 0;
        if (key.size == 8 && memcmp(key.data, "position", 8) == 0)
            continue;
        memcpy(text, key.data, key.size < KEY - 1 ? key.size : KEY - 1);
        require(sscanf(text, "%*x/%u", &number) == 1 && number < model->keys &&
                    ballast_key(wanted, number) == key.size && strcmp(wanted, text) == 0,
                "%s is no key of the ballast", text);
        ballast_check(&value, number, model->last[number]);
        count++;
    }
    require_status(status, MACE_NOT_FOUND);
    require(count == model->keys, "%u keys of the ballast are here", count);
    mace_cursor_close(cursor);
}

void
churn_check_ballast(mace *db, struct churn_board *board)
{
    struct churn_model model;
    mace_bucket *ballast;
    mace_txn *txn;
    uint64_t position, acked = AO_load_acquire(&board->acked);

    model_create(&model, board);
    require_ok(mace_bucket_open(db, "ballast", &ballast));
    require_ok(mace_begin(db, MACE_RDONLY, &txn));
    require_ok(position_get(txn, ballast, &position));
    /* Bucket commits, at most two in a row, leave no trace here. */
    require(position + 2 >= acked, "position %llu was acknowledged, the ballast is at %llu",
            (unsigned long long)acked, (unsigned long long)position);
    model_advance(&model, position);
    ballast_check_all(txn, ballast, &model);
    mace_abort(txn);
    mace_bucket_close(ballast);
    free(model.last);
}

/* The small bucket at a position: what was filled in and not yet deleted. */
static void
small_check_all(mace *db, uint64_t position)
{
    uint64_t step = position % CHURN_ROUND, round = position / CHURN_ROUND;
    uint64_t done = step - 1, first = done > CHURN_FILL ? done - CHURN_FILL : 0;
    uint64_t end = done > CHURN_FILL ? CHURN_FILL : done;
    mace_bucket *small;
    mace_cursor *cursor;
    mace_txn *txn;
    mace_slice key, value;
    unsigned count = 0;
    int status;

    require_ok(mace_bucket_open(db, "churn", &small));
    require_ok(mace_begin(db, MACE_RDONLY, &txn));
    for (uint64_t index = first; index < end; index++)
        for (unsigned i = 0; i < CHURN_KEYS; i++) {
            char name[KEY];
            uint8_t wanted[SMALL_VALUE];
            size_t size = small_value(wanted, round, index, i);
            status = mace_get(txn, small, name, small_key(name, index, i), &value);
            require(status == MACE_OK, "position %llu: %s: %s", (unsigned long long)position, name,
                    mace_strerror(status));
            require(value.size == size && memcmp(value.data, wanted, size) == 0,
                    "position %llu: %s has another value", (unsigned long long)position, name);
        }
    require_ok(mace_cursor_open(txn, small, NULL, &cursor));
    while ((status = mace_cursor_next(cursor, &key, &value)) == MACE_OK)
        count++;
    require_status(status, MACE_NOT_FOUND);
    require(count == (end - first) * CHURN_KEYS + (done > 0 ? 1 : 0),
            "position %llu: %u keys are in the small bucket", (unsigned long long)position, count);
    mace_cursor_close(cursor);
    mace_abort(txn);
    mace_bucket_close(small);
}

uint64_t
churn_check(mace *db, struct churn_board *board)
{
    uint64_t position;

    require_ok(churn_find(db, board, &position));
    churn_check_ballast(db, board);
    if (position % CHURN_ROUND != 0)
        small_check_all(db, position);
    return position;
}
