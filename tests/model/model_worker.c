/* model_worker.c - one process of the model test: random calls, each written down with its answer. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "model/model.h"
#include "support/client.h"

enum { WORKER_TXNS = 4, WORKER_TICKETS = 8, WORKER_REMEMBERED = 8 };

struct worker_txn {
    mace_txn *txn; /* NULL: free place */
    uint32_t number;
    int read_only, must_conflict;
    unsigned written; /* how many of the arrays below are filled */
    uint32_t written_keys[WORKER_REMEMBERED];
    unsigned written_buckets[WORKER_REMEMBERED];
    mace_cursor *cursors[MODEL_CURSORS];
    unsigned cursor_buckets[MODEL_CURSORS];
};
struct worker_ticket {
    mace_ticket ticket;
    uint32_t txn; /* 0: free place */
    int must_conflict;
};
struct state {
    const struct model_worker *worker;
    mace *db;
    mace_bucket *buckets[MODEL_BUCKETS];
    FILE *log;
    struct random random;
    struct worker_txn txns[WORKER_TXNS];
    struct worker_ticket tickets[WORKER_TICKETS];
    uint32_t next_txn;
    uint64_t next_uid, last_snapshot, done;
};

static void
write_down(struct state *state, const struct model_event *event)
{
    require(fwrite(event, sizeof *event, 1, state->log) == 1, "%s", strerror(errno));
    state->done++;
}

static void
told(struct state *state, uint64_t timestamp)
{
    AO_t *newest = &state->worker->shared->newest;
    AO_t seen = AO_load(newest);

    while (seen < timestamp && !AO_compare_and_swap_full(newest, seen, timestamp))
        seen = AO_load(newest);
}

static uint32_t
random_key(struct state *state)
{
    uint64_t limit = random_chance(&state->random, 50) ? MODEL_HOT : MODEL_KEYS;

    /* Hot keys are spread over the key space. */
    return (uint32_t)(random_below(&state->random, limit) * 101 % MODEL_KEYS);
}

static uint64_t
next_uid(struct state *state)
{
    return (uint64_t)(state->worker->process + 1) << 40 | state->next_uid++;
}

static struct model_event
event_of(const struct worker_txn *txn, enum model_kind kind)
{
    struct model_event event = {.kind = (uint8_t)kind, .txn = txn == NULL ? 0 : txn->number};
    return event;
}

static void
check_snapshot(struct state *state, uint64_t newest, uint64_t snapshot)
{
    require(snapshot >= newest, "commit %llu was acknowledged before a begin at snapshot %llu",
            (unsigned long long)newest, (unsigned long long)snapshot);
    require(snapshot >= state->last_snapshot, "snapshots go back");
    state->last_snapshot = snapshot;
}

static void
do_begin(struct state *state, struct worker_txn *txn)
{
    uint64_t newest = AO_load_full(&state->worker->shared->newest);
    unsigned flags = random_chance(&state->random, 3) ? MACE_SYNC : MACE_OS;

    memset(txn, 0, sizeof *txn);
    txn->read_only = random_chance(&state->random, 15);
    require_ok(mace_begin(state->db, txn->read_only ? MACE_RDONLY : flags, &txn->txn));
    txn->number = ++state->next_txn;
    struct model_event event = event_of(txn, MODEL_BEGIN);
    event.a = mace_txn_snapshot(txn->txn);
    check_snapshot(state, newest, event.a);
    write_down(state, &event);
}

static void
do_renew(struct state *state, struct worker_txn *txn)
{
    uint64_t newest = AO_load_full(&state->worker->shared->newest);

    require_status(mace_renew(txn->txn), txn->read_only ? MACE_OK : MACE_INVALID);
    if (!txn->read_only)
        return;
    struct model_event event = event_of(txn, MODEL_RENEW);
    event.a = mace_txn_snapshot(txn->txn);
    check_snapshot(state, newest, event.a);
    write_down(state, &event);
}

static void
note_read(struct state *state, struct worker_txn *txn, unsigned bucket, uint32_t key, int status,
          const mace_slice *value)
{
    struct model_event event = event_of(txn, MODEL_READ);

    require(status == MACE_OK || status == MACE_NOT_FOUND, "get: %s", mace_strerror(status));
    event.bucket = (uint8_t)bucket;
    event.key = key;
    event.status = status;
    event.a = status == MACE_OK ? model_value_uid(value, bucket, key) : MODEL_NONE;
    write_down(state, &event);
}

static void
do_get(struct state *state, struct worker_txn *txn)
{
    unsigned bucket = (unsigned)random_below(&state->random, MODEL_BUCKETS);
    uint32_t key = random_key(state);
    uint8_t buffer[MODEL_VALUE_MAX];
    mace_slice value = {NULL, 0};
    size_t size;

    if (txn->written > 0 && random_chance(&state->random, 30)) {
        uint64_t known = txn->written < WORKER_REMEMBERED ? txn->written : WORKER_REMEMBERED;
        uint64_t place = random_below(&state->random, known);
        bucket = txn->written_buckets[place];
        key = txn->written_keys[place];
    }
    const void *bytes = model_key(key, &size);
    int status;

    if (random_chance(&state->random, 80)) {
        status = mace_get(txn->txn, state->buckets[bucket], bytes, size, &value);
    } else {
        value.data = buffer;
        size_t capacity = random_below(&state->random, 2) ? sizeof buffer : 20;
        status = mace_get_into(txn->txn, state->buckets[bucket], bytes, size, buffer, capacity,
                               &value.size);
        if (status == MACE_BUFFER_TOO_SMALL) {
            require(value.size > capacity && value.size <= sizeof buffer, "size %zu", value.size);
            status = mace_get_into(txn->txn, state->buckets[bucket], bytes, size, buffer,
                                   sizeof buffer, &value.size);
        }
    }
    note_read(state, txn, bucket, key, status, &value);
}

static void
do_get_many(struct state *state, struct worker_txn *txn)
{
    enum { MANY = 6 };
    unsigned bucket = (unsigned)random_below(&state->random, MODEL_BUCKETS);
    uint32_t numbers[MANY];
    mace_slice keys[MANY], values[MANY];
    int statuses[MANY];

    for (unsigned i = 0; i < MANY; i++) {
        numbers[i] = random_key(state);
        keys[i].data = model_key(numbers[i], &keys[i].size);
    }
    require_ok(mace_get_many(txn->txn, state->buckets[bucket], MANY, keys, values, statuses));
    for (unsigned i = 0; i < MANY; i++)
        note_read(state, txn, bucket, numbers[i], statuses[i], &values[i]);
}

static void
do_write(struct state *state, struct worker_txn *txn, enum model_op op)
{
    static int (*const calls[])(mace_txn *, mace_bucket *, const void *, size_t, const void *,
                                size_t) = {mace_put, mace_insert, mace_update};
    uint8_t value[MODEL_VALUE_MAX];
    struct model_event event = event_of(txn, MODEL_WRITE);
    size_t size;

    event.op = (uint8_t)op;
    event.bucket = (uint8_t)random_below(&state->random, MODEL_BUCKETS - 1);
    event.key = random_key(state);
    event.a = op == MODEL_DELETE ? MODEL_TOMBSTONE : next_uid(state);
    const void *key = model_key(event.key, &size);
    if (op == MODEL_DELETE)
        event.status = mace_delete(txn->txn, state->buckets[event.bucket], key, size);
    else
        event.status = calls[op](txn->txn, state->buckets[event.bucket], key, size, value,
                                 model_value(value, event.a, event.bucket, event.key));
    if (txn->read_only) {
        require(event.status == MACE_READ_ONLY, "%s", mace_strerror(event.status));
        return;
    }
    if (event.status == MACE_CONFLICT)
        txn->must_conflict = 1;
    if (event.status == MACE_OK) {
        unsigned place = txn->written % WORKER_REMEMBERED;
        txn->written_keys[place] = event.key;
        txn->written_buckets[place] = event.bucket;
        txn->written++;
    }
    write_down(state, &event);
}

static void
do_cursor(struct state *state, struct worker_txn *txn, unsigned which)
{
    struct model_event event = event_of(txn, MODEL_CURSOR);
    mace_range range = {{NULL, 0}, {NULL, 0}, 0};

    if (txn->cursors[which] != NULL)
        mace_cursor_close(txn->cursors[which]);
    event.op = (uint8_t)which;
    event.bucket = (uint8_t)random_below(&state->random, MODEL_BUCKETS - 1);
    event.key = event.move = 0;
    event.a = MODEL_NO_KEY;
    event.key = MODEL_NO_KEY;
    if (random_chance(&state->random, 60)) {
        event.key = (uint32_t)random_below(&state->random, MODEL_KEYS);
        range.lower.data = model_key(event.key, &range.lower.size);
        /* An open lower bound is the closed one of the next number. */
        if (random_chance(&state->random, 30)) {
            range.flags |= MACE_LOWER_OPEN;
            event.key++;
        }
    }
    if (random_chance(&state->random, 60)) {
        event.a = random_below(&state->random, MODEL_KEYS);
        range.upper.data = model_key((uint32_t)event.a, &range.upper.size);
        if (random_chance(&state->random, 30)) {
            range.flags |= MACE_UPPER_CLOSED;
            event.a++;
        }
    }
    require_ok(
        mace_cursor_open(txn->txn, state->buckets[event.bucket], &range, &txn->cursors[which]));
    txn->cursor_buckets[which] = event.bucket;
    write_down(state, &event);
}

static void
do_move(struct state *state, struct worker_txn *txn, unsigned which, enum model_move move)
{
    static int (*const calls[])(mace_cursor *, mace_slice *, mace_slice *) = {
        mace_cursor_first, mace_cursor_last, mace_cursor_next, mace_cursor_prev};
    struct model_event event = event_of(txn, MODEL_MOVE);
    mace_slice key, value;
    size_t size;

    event.op = (uint8_t)which;
    event.move = (uint8_t)move;
    if (move == MODEL_SEEK) {
        event.key = (uint32_t)random_below(&state->random, MODEL_KEYS);
        const void *bytes = model_key(event.key, &size);
        event.status = mace_cursor_seek(txn->cursors[which], bytes, size, &key, &value);
    } else {
        event.status = calls[move](txn->cursors[which], &key, &value);
    }
    require(event.status == MACE_OK || event.status == MACE_NOT_FOUND, "move: %s",
            mace_strerror(event.status));
    event.a = MODEL_NO_KEY;
    if (event.status == MACE_OK) {
        event.a = model_key_number(&key);
        event.b = model_value_uid(&value, txn->cursor_buckets[which], (uint32_t)event.a);
    }
    write_down(state, &event);
}

static void
do_moves(struct state *state, struct worker_txn *txn)
{
    unsigned which = (unsigned)random_below(&state->random, MODEL_CURSORS);
    enum model_move move = (enum model_move)random_below(&state->random, MODEL_SEEK + 1);

    if (txn->cursors[which] == NULL || random_chance(&state->random, 10))
        do_cursor(state, txn, which);
    do_move(state, txn, which, move);
    /* Then some steps, mostly in one direction. */
    move = random_chance(&state->random, 50) ? MODEL_NEXT : MODEL_PREV;
    for (uint64_t left = random_below(&state->random, 12); left > 0; left--)
        do_move(state, txn, which,
                random_chance(&state->random, 90) ? move
                : move == MODEL_NEXT              ? MODEL_PREV
                                                  : MODEL_NEXT);
}

static void
note_commit(struct state *state, uint32_t number, int must_conflict, int status, uint64_t timestamp)
{
    struct model_event event = {.kind = MODEL_COMMIT, .status = status, .txn = number};

    require(status == MACE_OK || status == MACE_CONFLICT, "commit: %s", mace_strerror(status));
    require(!must_conflict || status == MACE_CONFLICT, "a write said CONFLICT, the commit did not");
    if (status == MACE_OK) {
        event.a = timestamp;
        told(state, timestamp);
    }
    write_down(state, &event);
}

static void
do_wait(struct state *state, struct worker_ticket *ticket)
{
    int status = mace_wait(state->db, &ticket->ticket);
    note_commit(state, ticket->txn, ticket->must_conflict, status, ticket->ticket.timestamp);
    require_status(mace_wait(state->db, &ticket->ticket), MACE_INVALID);
    ticket->txn = 0;
}

static void
do_commit(struct state *state, struct worker_txn *txn)
{
    uint64_t timestamp = 0;
    mace_txn *ending = txn->txn;
    struct worker_ticket *ticket = &state->tickets[random_below(&state->random, WORKER_TICKETS)];

    txn->txn = NULL;
    if (!random_chance(&state->random, 30)) {
        int status = mace_commit_ts(ending, &timestamp);
        note_commit(state, txn->number, txn->must_conflict, status, timestamp);
        return;
    }
    if (ticket->txn != 0)
        do_wait(state, ticket);
    int status = mace_commit_async(ending, &ticket->ticket);
    if (status != MACE_OK) {
        note_commit(state, txn->number, txn->must_conflict, status, 0);
        return;
    }
    ticket->txn = txn->number;
    ticket->must_conflict = txn->must_conflict;
}

static void
do_abort(struct state *state, struct worker_txn *txn)
{
    struct model_event event = event_of(txn, MODEL_ABORT);

    mace_abort(txn->txn);
    txn->txn = NULL;
    write_down(state, &event);
}

/* A one-call write of a key that is this process's. */
static void
do_one_call(struct state *state)
{
    static int (*const calls[])(mace *, mace_bucket *, const void *, size_t, const void *,
                                size_t) = {mace_put1, mace_insert1, mace_update1};
    mace_bucket *bucket = state->buckets[MODEL_ONE_CALL_BUCKET];
    uint8_t value[MODEL_VALUE_MAX];
    struct model_event event = event_of(NULL, MODEL_ONE);
    size_t size;

    event.bucket = MODEL_ONE_CALL_BUCKET;
    event.key = random_key(state);
    event.key = event.key / MODEL_PROCESSES * MODEL_PROCESSES + state->worker->process;
    event.op = (uint8_t)random_below(&state->random, MODEL_DELETE + 1);
    event.b = client_newest(state->db);
    event.a = event.op == MODEL_DELETE ? MODEL_TOMBSTONE : next_uid(state);
    const void *key = model_key(event.key, &size);
    if (event.op == MODEL_DELETE)
        event.status = mace_delete1(state->db, bucket, key, size);
    else
        event.status = calls[event.op](state->db, bucket, key, size, value,
                                       model_value(value, event.a, event.bucket, event.key));
    event.c = client_newest(state->db);
    write_down(state, &event);
}

static void
do_get1(struct state *state)
{
    uint8_t buffer[MODEL_VALUE_MAX];
    mace_slice value = {buffer, 0};
    struct model_event event = event_of(NULL, MODEL_GET1);
    size_t size;

    event.bucket = (uint8_t)random_below(&state->random, MODEL_BUCKETS);
    event.key = random_key(state);
    event.b = client_newest(state->db);
    const void *key = model_key(event.key, &size);
    event.status = mace_get1(state->db, state->buckets[event.bucket], key, size, buffer,
                             sizeof buffer, &value.size);
    event.c = client_newest(state->db);
    require(event.status == MACE_OK || event.status == MACE_NOT_FOUND, "get1: %s",
            mace_strerror(event.status));
    event.a =
        event.status == MACE_OK ? model_value_uid(&value, event.bucket, event.key) : MODEL_NONE;
    write_down(state, &event);
}

static void
do_something(struct state *state)
{
    struct worker_txn *txn = &state->txns[random_below(&state->random, WORKER_TXNS)];
    unsigned kind = (unsigned)random_below(&state->random, 100);

    if (kind < 4)
        do_one_call(state);
    else if (kind < 8)
        do_get1(state);
    else if (txn->txn == NULL)
        do_begin(state, txn);
    else if (kind < 34)
        do_get(state, txn);
    else if (kind < 38)
        do_get_many(state, txn);
    else if (kind < 54)
        do_write(state, txn, MODEL_PUT);
    else if (kind < 66)
        do_write(state, txn, (enum model_op)(MODEL_INSERT + random_below(&state->random, 3)));
    else if (kind < 84)
        do_moves(state, txn);
    else if (kind < 86)
        do_renew(state, txn);
    else if (txn != &state->txns[0] && kind < 97)
        do_commit(state, txn);
    else if (kind >= 97 && random_chance(&state->random, 30)) /* the first one lives long */
        random_chance(&state->random, 50) ? do_commit(state, txn) : do_abort(state, txn);
}

static void
state_open(struct state *state, const struct model_worker *worker)
{
    memset(state, 0, sizeof *state);
    state->worker = worker;
    random_init(&state->random, worker->seed + worker->process);
    state->log = fopen(worker->log, "we");
    require(state->log != NULL, "%s: %s", worker->log, strerror(errno));
    state->db = client_open(worker->path);
    for (unsigned i = 0; i < MODEL_BUCKETS; i++) {
        char name[16];
        snprintf(name, sizeof name, "model%u", i);
        require_ok(mace_bucket_open(state->db, name, &state->buckets[i]));
    }
}

void
model_worker_run(int channel, void *argument)
{
    struct state *state = calloc(1, sizeof *state);

    (void)channel;
    require(state != NULL, "memory");
    state_open(state, argument);
    while (state->done < state->worker->operations)
        do_something(state);
    for (unsigned i = 0; i < WORKER_TXNS; i++)
        if (state->txns[i].txn != NULL)
            do_commit(state, &state->txns[i]);
    for (unsigned i = 0; i < WORKER_TICKETS; i++)
        if (state->tickets[i].txn != 0)
            do_wait(state, &state->tickets[i]);
    mace_close(state->db);
    require(fclose(state->log) == 0, "%s", strerror(errno));
    free(state);
}
