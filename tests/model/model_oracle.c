/* model_oracle.c - judges a history. Events of one process are in the order in which they happened; commits of all
 * processes are ordered by their timestamps. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "model/model.h"
#include "support/require.h"

/* One version of a key. One-call writes have low < their timestamp <= high; commits have low = high = timestamp. */
struct version {
    uint64_t low, high;
    uint64_t uid; /* or MODEL_TOMBSTONE */
    uint64_t snapshot;
};
struct versions {
    struct version *list;
    size_t count, capacity;
};

struct cursor {
    int open;
    unsigned bucket;
    uint32_t lower, upper; /* [lower, upper) */
    int64_t at;            /* where it stands: lower - 1 .. upper when outside */
    int fresh;
};
struct txn {
    uint32_t number; /* 0: free */
    uint64_t snapshot;
    uint64_t writes[MODEL_BUCKETS][MODEL_KEYS]; /* MODEL_NONE: not written */
    uint32_t wrote;
    struct cursor cursors[MODEL_CURSORS];
};
enum { ORACLE_TXNS = 64 };

struct model_oracle {
    const struct model_history *history;
    struct versions versions[MODEL_BUCKETS][MODEL_KEYS];
    struct txn *txns;
    uint64_t commits; /* that took a timestamp */
    uint8_t *taken;   /* by timestamp */
    uint64_t taken_size;
    struct model_figures figures;
    char *why;
    size_t why_size;
};

static int __attribute__((format(printf, 2, 3)))
wrong(struct model_oracle *oracle, const char *format, ...)
{
    va_list arguments;

    va_start(arguments, format);
    vsnprintf(oracle->why, oracle->why_size, format, arguments);
    va_end(arguments);
    return -1;
}

static void
versions_add(struct versions *versions, struct version version)
{
    if (versions->count == versions->capacity) {
        versions->capacity = versions->capacity == 0 ? 8 : versions->capacity * 2;
        versions->list = realloc(versions->list, versions->capacity * sizeof *versions->list);
        require(versions->list != NULL, "memory");
    }
    versions->list[versions->count++] = version;
}

static struct txn *
txn_find(struct model_oracle *oracle, uint32_t number)
{
    for (unsigned i = 0; i < ORACLE_TXNS; i++)
        if (oracle->txns[i].number == number)
            return &oracle->txns[i];
    require(0, "transaction %u is not open", number);
    return NULL;
}

static struct txn *
txn_begin(struct model_oracle *oracle, const struct model_event *event)
{
    struct txn *txn = txn_find(oracle, 0);

    memset(txn, 0, sizeof *txn);
    txn->number = event->txn;
    txn->snapshot = event->a;
    return txn;
}

static void
txn_write(struct txn *txn, const struct model_event *event)
{
    if (event->status != MACE_OK)
        return;
    if (txn->writes[event->bucket][event->key] == MODEL_NONE)
        txn->wrote++;
    txn->writes[event->bucket][event->key] = event->a;
}

/* ------------------------------------------------------------------ first pass: who wrote what, and in which order */

static int
commit_collect(struct model_oracle *oracle, const struct txn *txn, uint64_t timestamp)
{
    if (txn->wrote == 0)
        return timestamp == 0 ? 0 : wrong(oracle, "a commit that wrote nothing has a timestamp");
    if (timestamp <= txn->snapshot)
        return wrong(oracle, "commit %llu is not above its snapshot %llu",
                     (unsigned long long)timestamp, (unsigned long long)txn->snapshot);
    if (timestamp >= oracle->taken_size)
        return wrong(oracle, "commit %llu: more timestamps than commits",
                     (unsigned long long)timestamp);
    if (oracle->taken[timestamp]++)
        return wrong(oracle, "timestamp %llu was given twice", (unsigned long long)timestamp);
    oracle->commits++;
    for (unsigned bucket = 0; bucket < MODEL_BUCKETS; bucket++)
        for (unsigned key = 0; key < MODEL_KEYS; key++)
            if (txn->writes[bucket][key] != MODEL_NONE)
                versions_add(&oracle->versions[bucket][key],
                             (struct version){timestamp, timestamp, txn->writes[bucket][key],
                                              txn->snapshot});
    return 0;
}

static int
event_collect(struct model_oracle *oracle, const struct model_event *event)
{
    oracle->figures.operations++;
    switch (event->kind) {
    case MODEL_BEGIN:
        txn_begin(oracle, event);
        return 0;
    case MODEL_WRITE:
        txn_write(txn_find(oracle, event->txn), event);
        return 0;
    case MODEL_ABORT:
        txn_find(oracle, event->txn)->number = 0;
        return 0;
    case MODEL_COMMIT: {
        struct txn *txn = txn_find(oracle, event->txn);
        txn->number = 0;
        return event->status == MACE_OK ? commit_collect(oracle, txn, event->a) : 0;
    }
    case MODEL_ONE:
        if (event->status != MACE_OK)
            return 0;
        oracle->commits++;
        versions_add(&oracle->versions[event->bucket][event->key],
                     (struct version){event->b, event->c, event->a, 0});
        return 0;
    default:
        return 0;
    }
}

static int
version_compare(const void *left, const void *right)
{
    const struct version *a = left, *b = right;

    return (a->high > b->high) - (a->high < b->high);
}

/* First committer wins: the version before a committed one is not above its snapshot. The list of a one-call key is in
 * order already: one process wrote it, one call after the other. */
static int
versions_check(struct model_oracle *oracle)
{
    for (unsigned bucket = 0; bucket < MODEL_ONE_CALL_BUCKET; bucket++)
        for (unsigned key = 0; key < MODEL_KEYS; key++) {
            struct versions *versions = &oracle->versions[bucket][key];
            if (versions->count > 1)
                qsort(versions->list, versions->count, sizeof *versions->list, version_compare);
            for (size_t i = 1; i < versions->count; i++)
                if (versions->list[i - 1].high > versions->list[i].snapshot)
                    return wrong(oracle,
                                 "commits %llu and %llu overlap and wrote bucket %u key %u both",
                                 (unsigned long long)versions->list[i - 1].high,
                                 (unsigned long long)versions->list[i].high, bucket, key);
        }
    return 0;
}

/* ------------------------------------------------------------------ second pass: was every answer right */

/* The newest version <= snapshot: uid, MODEL_TOMBSTONE or MODEL_NONE. */
static uint64_t
version_at(const struct versions *versions, uint64_t snapshot)
{
    size_t low = 0, high = versions->count;

    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (versions->list[middle].high <= snapshot)
            low = middle + 1;
        else
            high = middle;
    }
    return low == 0 ? MODEL_NONE : versions->list[low - 1].uid;
}

/* What a transaction sees of a key: a uid or MODEL_NONE. */
static uint64_t
txn_sees(const struct model_oracle *oracle, const struct txn *txn, unsigned bucket, uint32_t key)
{
    uint64_t uid = txn->writes[bucket][key];

    if (uid == MODEL_NONE)
        uid = version_at(&oracle->versions[bucket][key], txn->snapshot);
    return uid == MODEL_TOMBSTONE ? MODEL_NONE : uid;
}

static int
uid_fits(uint64_t answered, uint64_t uid)
{
    if (answered == MODEL_EMPTY)
        return uid > MODEL_EMPTY && model_value_size(uid) == 0;
    return answered == uid;
}

/* A read of a one-call key may see any version that can be the newest one in [low, high]: written before high, and its
 * successor not before low. */
static int
one_call_fits(const struct versions *versions, uint64_t answered, uint64_t low, uint64_t high)
{
    for (size_t i = 0; i <= versions->count; i++) {
        uint64_t uid = i == 0 ? MODEL_NONE : versions->list[i - 1].uid;
        int begun = i == 0 || versions->list[i - 1].low < high;
        int ended = i < versions->count && versions->list[i].high <= low;
        if (begun && !ended && uid_fits(answered, uid == MODEL_TOMBSTONE ? MODEL_NONE : uid))
            return 1;
    }
    return 0;
}

static int
read_check(struct model_oracle *oracle, const struct txn *txn, const struct model_event *event)
{
    oracle->figures.reads++;
    if (event->bucket == MODEL_ONE_CALL_BUCKET) {
        if (one_call_fits(&oracle->versions[event->bucket][event->key], event->a, txn->snapshot,
                          txn->snapshot))
            return 0;
        return wrong(oracle, "snapshot %llu: one-call key %u shows %llx",
                     (unsigned long long)txn->snapshot, event->key, (unsigned long long)event->a);
    }
    if (txn->writes[event->bucket][event->key] != MODEL_NONE)
        oracle->figures.own_reads++;
    uint64_t uid = txn_sees(oracle, txn, event->bucket, event->key);
    if (uid_fits(event->a, uid))
        return 0;
    return wrong(oracle, "snapshot %llu: bucket %u key %u shows %llx, not %llx",
                 (unsigned long long)txn->snapshot, event->bucket, event->key,
                 (unsigned long long)event->a, (unsigned long long)uid);
}

static int
write_check(struct model_oracle *oracle, struct txn *txn, const struct model_event *event)
{
    int there = txn_sees(oracle, txn, event->bucket, event->key) != MODEL_NONE;
    int wanted = event->op == MODEL_INSERT && there ? MACE_EXISTS
                 : (event->op == MODEL_UPDATE || event->op == MODEL_DELETE) && !there
                     ? MACE_NOT_FOUND
                     : MACE_OK;

    txn_write(txn, event);
    if (event->status == wanted || event->status == MACE_CONFLICT)
        return 0;
    return wrong(oracle, "snapshot %llu: write %u of bucket %u key %u gave %d, not %d",
                 (unsigned long long)txn->snapshot, event->op, event->bucket, event->key,
                 event->status, wanted);
}

/* A conflict has a reason: a version of a written key above the snapshot. */
static int
conflict_check(struct model_oracle *oracle, const struct txn *txn, const struct model_event *tried)
{
    for (unsigned bucket = 0; bucket < MODEL_BUCKETS; bucket++)
        for (unsigned key = 0; key < MODEL_KEYS; key++) {
            const struct versions *versions = &oracle->versions[bucket][key];
            int mine = txn->writes[bucket][key] != MODEL_NONE ||
                       (tried->kind == MODEL_WRITE && tried->bucket == bucket && tried->key == key);
            if (mine && versions->count > 0 &&
                versions->list[versions->count - 1].high > txn->snapshot)
                return 0;
        }
    return wrong(oracle, "snapshot %llu: a conflict without a reason",
                 (unsigned long long)txn->snapshot);
}

static void
cursor_open(struct txn *txn, const struct model_event *event)
{
    struct cursor *cursor = &txn->cursors[event->op];

    cursor->open = cursor->fresh = 1;
    cursor->bucket = event->bucket;
    cursor->lower = event->key == MODEL_NO_KEY ? 0 : event->key;
    cursor->upper = event->a == MODEL_NO_KEY ? MODEL_KEYS : (uint32_t)event->a;
    if (cursor->upper < cursor->lower)
        cursor->upper = cursor->lower;
}

/* Walks to the next key that is there, in steps of +1 or -1; stands outside when there is none. */
static void
cursor_step(const struct model_oracle *oracle, const struct txn *txn, struct cursor *cursor,
            int64_t from, int step)
{
    int64_t at = from;

    if (at < (int64_t)cursor->lower - 1)
        at = (int64_t)cursor->lower - 1;
    if (at > (int64_t)cursor->upper)
        at = cursor->upper;
    do
        at += step;
    while (at >= (int64_t)cursor->lower && at < (int64_t)cursor->upper &&
           txn_sees(oracle, txn, cursor->bucket, (uint32_t)at) == MODEL_NONE);
    cursor->at = at;
}

/* Where a move that found nothing leaves the cursor: a range in which nothing is, seen from an end, has no ends to stand
 * past, and the cursor is as if fresh. */
static int
cursor_nowhere(const struct cursor *cursor, enum model_move move, int64_t stood)
{
    if (move == MODEL_SEEK)
        return cursor->upper == cursor->lower;
    return move == MODEL_FIRST || move == MODEL_LAST ||
           (move == MODEL_NEXT && stood < (int64_t)cursor->lower) ||
           (move == MODEL_PREV && stood >= (int64_t)cursor->upper);
}

static int
move_check(struct model_oracle *oracle, struct txn *txn, const struct model_event *event)
{
    struct cursor *cursor = &txn->cursors[event->op];
    enum model_move move = (enum model_move)event->move;

    oracle->figures.moves++;
    if (cursor->fresh && move == MODEL_NEXT)
        move = MODEL_FIRST;
    if (cursor->fresh && move == MODEL_PREV)
        move = MODEL_LAST;
    int64_t stood = cursor->fresh ? (int64_t)cursor->lower - 1 : cursor->at;
    if (move == MODEL_FIRST)
        cursor_step(oracle, txn, cursor, (int64_t)cursor->lower - 1, 1);
    else if (move == MODEL_LAST)
        cursor_step(oracle, txn, cursor, cursor->upper, -1);
    else if (move == MODEL_SEEK)
        cursor_step(oracle, txn, cursor, (int64_t)event->key - 1, 1);
    else
        cursor_step(oracle, txn, cursor, cursor->at, move == MODEL_NEXT ? 1 : -1);
    int inside = cursor->at >= (int64_t)cursor->lower && cursor->at < (int64_t)cursor->upper;
    cursor->fresh = !inside && cursor_nowhere(cursor, move, stood);
    uint64_t wanted = inside ? (uint64_t)cursor->at : MODEL_NO_KEY;
    if (event->a != wanted)
        return wrong(oracle, "snapshot %llu: move %u in bucket %u came to key %lld, not %lld",
                     (unsigned long long)txn->snapshot, event->move, cursor->bucket,
                     (long long)event->a, (long long)wanted);
    if (inside && !uid_fits(event->b, txn_sees(oracle, txn, cursor->bucket, (uint32_t)cursor->at)))
        return wrong(oracle, "snapshot %llu: a walk shows key %lld of bucket %u as %llx",
                     (unsigned long long)txn->snapshot, (long long)wanted, cursor->bucket,
                     (unsigned long long)event->b);
    return 0;
}

/* A one-call write's precondition: what its own process had left there. `place` is how many of the key's versions are
 * older. */
static int
one_check(struct model_oracle *oracle, const struct model_event *event, size_t places[MODEL_KEYS])
{
    const struct versions *versions = &oracle->versions[event->bucket][event->key];
    size_t place = places[event->key];
    int there = place > 0 && versions->list[place - 1].uid != MODEL_TOMBSTONE;
    int wanted = event->op == MODEL_INSERT && there ? MACE_EXISTS
                 : (event->op == MODEL_UPDATE || event->op == MODEL_DELETE) && !there
                     ? MACE_NOT_FOUND
                     : MACE_OK;

    oracle->figures.one_calls++;
    if (event->status != wanted)
        return wrong(oracle, "one-call write %u of key %u gave %d, not %d", event->op, event->key,
                     event->status, wanted);
    if (event->status == MACE_OK) {
        places[event->key]++;
        if (event->b >= event->c)
            return wrong(oracle, "a one-call write is not visible when it returns");
    }
    return 0;
}

static int
get1_check(struct model_oracle *oracle, const struct model_event *event)
{
    const struct versions *versions = &oracle->versions[event->bucket][event->key];

    oracle->figures.reads++;
    /* For commits low = high = timestamp, where "begun" has to include high itself. */
    if (one_call_fits(versions, event->a, event->b, event->c + 1))
        return 0;
    return wrong(oracle, "between %llu and %llu: get1 of bucket %u key %u shows %llx",
                 (unsigned long long)event->b, (unsigned long long)event->c, event->bucket,
                 event->key, (unsigned long long)event->a);
}

static int
event_check(struct model_oracle *oracle, const struct model_event *event, size_t places[MODEL_KEYS])
{
    if (event->kind == MODEL_BEGIN) {
        txn_begin(oracle, event);
        return 0;
    }
    if (event->kind == MODEL_ONE)
        return one_check(oracle, event, places);
    if (event->kind == MODEL_GET1)
        return get1_check(oracle, event);
    struct txn *txn = txn_find(oracle, event->txn);
    switch (event->kind) {
    case MODEL_RENEW:
        txn->snapshot = event->a;
        for (unsigned i = 0; i < MODEL_CURSORS; i++)
            txn->cursors[i].fresh = 1;
        return 0;
    case MODEL_READ:
        return read_check(oracle, txn, event);
    case MODEL_WRITE:
        if (event->status == MACE_CONFLICT && conflict_check(oracle, txn, event) != 0)
            return -1;
        return write_check(oracle, txn, event);
    case MODEL_CURSOR:
        cursor_open(txn, event);
        return 0;
    case MODEL_MOVE:
        return move_check(oracle, txn, event);
    case MODEL_COMMIT:
        txn->number = 0;
        if (event->status == MACE_OK) {
            oracle->figures.commits++;
            return 0;
        }
        oracle->figures.conflicts++;
        return conflict_check(oracle, txn, event);
    default:
        txn->number = 0;
        return 0;
    }
}

static int
history_collect(struct model_oracle *oracle)
{
    for (unsigned process = 0; process < MODEL_PROCESSES; process++) {
        memset(oracle->txns, 0, sizeof *oracle->txns * ORACLE_TXNS);
        for (uint64_t i = 0; i < oracle->history->counts[process]; i++)
            if (event_collect(oracle, &oracle->history->events[process][i]) != 0)
                return -1;
    }
    return versions_check(oracle);
}

static int
history_check(struct model_oracle *oracle)
{
    for (unsigned process = 0; process < MODEL_PROCESSES; process++) {
        size_t places[MODEL_KEYS] = {0};
        memset(oracle->txns, 0, sizeof *oracle->txns * ORACLE_TXNS);
        for (uint64_t i = 0; i < oracle->history->counts[process]; i++)
            if (event_check(oracle, &oracle->history->events[process][i], places) != 0)
                return -1;
    }
    return 0;
}

struct model_oracle *
model_oracle_create(const struct model_history *history, struct model_figures *figures, char *why,
                    size_t why_size)
{
    struct model_oracle *oracle = calloc(1, sizeof *oracle);
    uint64_t events = 0;

    require(oracle != NULL, "memory");
    oracle->history = history;
    oracle->why = why;
    oracle->why_size = why_size;
    for (unsigned process = 0; process < MODEL_PROCESSES; process++)
        events += history->counts[process];
    oracle->taken_size = history->base + events + 1;
    oracle->taken = calloc(1, oracle->taken_size);
    oracle->txns = calloc(ORACLE_TXNS, sizeof *oracle->txns);
    require(oracle->taken != NULL && oracle->txns != NULL, "memory");
    if (history_collect(oracle) != 0 || history_check(oracle) != 0) {
        model_oracle_free(oracle);
        return NULL;
    }
    if (figures != NULL)
        *figures = oracle->figures;
    return oracle;
}

void
model_oracle_free(struct model_oracle *oracle)
{
    if (oracle == NULL)
        return;
    for (unsigned bucket = 0; bucket < MODEL_BUCKETS; bucket++)
        for (unsigned key = 0; key < MODEL_KEYS; key++)
            free(oracle->versions[bucket][key].list);
    free(oracle->taken);
    free(oracle->txns);
    free(oracle);
}

uint64_t
model_oracle_newest(const struct model_oracle *oracle)
{
    return oracle->history->base + oracle->commits;
}

/* ------------------------------------------------------------------ the database at the end */

static int
compare_entry(const struct model_oracle *oracle, unsigned bucket, uint32_t key, int status,
              const mace_slice *value, char *why, size_t why_size)
{
    const struct versions *versions = &oracle->versions[bucket][key];
    uint64_t uid = versions->count == 0 ? MODEL_NONE : versions->list[versions->count - 1].uid;
    uint64_t found = status == MACE_OK ? model_value_uid(value, bucket, key) : MODEL_NONE;

    if (uid_fits(found, uid == MODEL_TOMBSTONE ? MODEL_NONE : uid))
        return 0;
    snprintf(why, why_size, "at the end bucket %u key %u is %llx, not %llx", bucket, key,
             (unsigned long long)found, (unsigned long long)uid);
    return -1;
}

/* One walk over a bucket: keys that it skips are compared as absent. */
static int
compare_walk(const struct model_oracle *oracle, mace_txn *txn, mace_bucket *handle, unsigned bucket,
             int backward, char *why, size_t why_size)
{
    int64_t step = backward ? -1 : 1, at = backward ? MODEL_KEYS - 1 : 0;
    mace_cursor *cursor;
    mace_slice key, value;

    require_ok(mace_cursor_open(txn, handle, NULL, &cursor));
    for (;;) {
        int status = backward ? mace_cursor_prev(cursor, &key, &value)
                              : mace_cursor_next(cursor, &key, &value);
        require(status == MACE_OK || status == MACE_NOT_FOUND, "%s", mace_strerror(status));
        int64_t found =
            status == MACE_OK ? (int64_t)model_key_number(&key) : (backward ? -1 : MODEL_KEYS);
        for (; at != found; at += step) {
            if (at < 0 || at >= MODEL_KEYS) {
                snprintf(why, why_size, "a walk comes to key %lld out of order", (long long)found);
                return -1;
            }
            if (compare_entry(oracle, bucket, (uint32_t)at, MACE_NOT_FOUND, NULL, why, why_size) !=
                0)
                return -1;
        }
        if (status != MACE_OK)
            break;
        if (compare_entry(oracle, bucket, (uint32_t)at, MACE_OK, &value, why, why_size) != 0)
            return -1;
        at += step;
    }
    mace_cursor_close(cursor);
    return 0;
}

int
model_oracle_compare(const struct model_oracle *oracle, mace *db, char *why, size_t why_size)
{
    mace_txn *txn;
    int result = 0;

    require_ok(mace_begin(db, MACE_RDONLY, &txn));
    if (mace_txn_snapshot(txn) != model_oracle_newest(oracle)) {
        snprintf(why, why_size, "the newest commit is %llu, %llu were made",
                 (unsigned long long)mace_txn_snapshot(txn),
                 (unsigned long long)model_oracle_newest(oracle));
        result = -1;
    }
    for (unsigned bucket = 0; result == 0 && bucket < MODEL_BUCKETS; bucket++) {
        char name[16];
        mace_bucket *handle;
        snprintf(name, sizeof name, "model%u", bucket);
        require_ok(mace_bucket_open(db, name, &handle));
        result = compare_walk(oracle, txn, handle, bucket, 0, why, why_size);
        if (result == 0)
            result = compare_walk(oracle, txn, handle, bucket, 1, why, why_size);
        for (uint32_t key = 0; result == 0 && key < MODEL_KEYS; key++) {
            mace_slice value;
            size_t size;
            const void *bytes = model_key(key, &size);
            int status = mace_get(txn, handle, bytes, size, &value);
            result = compare_entry(oracle, bucket, key, status, &value, why, why_size);
        }
        mace_bucket_close(handle);
    }
    mace_abort(txn);
    return result;
}
