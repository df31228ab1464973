/* load.c - the checkable load. */
#include "support/load.h"

#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "support/client.h"

enum { LOAD_VALUE_MAX = 800 };

struct load_value {
    uint64_t n;
    uint32_t slot, place;
};

struct load_board *
load_board_create(void)
{
    void *memory = mmap(NULL, sizeof(struct load_board), PROT_READ | PROT_WRITE,
                        MAP_SHARED | MAP_ANONYMOUS, -1, 0);

    require(memory != MAP_FAILED, "mmap");
    return memory;
}

void
load_board_destroy(struct load_board *board)
{
    munmap(board, sizeof *board);
}

static size_t
load_key(char *key, unsigned slot, char part, uint64_t number)
{
    char filler[65];
    int size;

    memset(filler, 'a' + (int)(slot % 26), sizeof filler - 1);
    filler[sizeof filler - 1] = 0;
    if (part == 'c')
        size = snprintf(key, LOAD_KEY, "s/%03u%s/c", slot, filler);
    else
        size = snprintf(key, LOAD_KEY, "s/%03u%s/%c/%03u", slot, filler, part,
                        (unsigned)(part == 'j' ? number % LOAD_RING : number));
    return (size_t)size;
}

void
load_count_key(char key[LOAD_KEY], unsigned slot)
{
    load_key(key, slot, 'c', 0);
}

/* Places of a slot's keys: 0 the count, 1.. the group, and for the journal a large one. Sizes change a little from one
 * value to the next, and some places have large ones: pages split, and do not keep splitting for ever. */
static size_t
load_value(uint8_t *value, unsigned slot, uint32_t place, uint64_t n)
{
    struct load_value head = {n, slot, place};
    struct random random;

    random_init(&random, n * 1000003 + slot * 1009 + place);
    size_t size = sizeof head;
    if (place != 0)
        size += (place % 5 == 4 ? 600 : 20) + random_below(&random, 60);
    memcpy(value, &head, sizeof head);
    random_fill(&random, value + sizeof head, size - sizeof head);
    return size;
}

static void
load_value_check(const mace_slice *value, unsigned slot, uint32_t place, uint64_t n)
{
    uint8_t wanted[LOAD_VALUE_MAX];
    struct load_value head = {0, 0, 0};
    size_t size = load_value(wanted, slot, place, n);

    memcpy(&head, value->data, value->size < sizeof head ? value->size : sizeof head);
    require(value->size == size && memcmp(value->data, wanted, size) == 0,
            "slot %u place %u at %llu has a value of slot %u place %u at %llu, %zu bytes", slot,
            place, (unsigned long long)n, head.slot, head.place, (unsigned long long)head.n,
            value->size);
}

/* The slot's n at the transaction's snapshot: MACE_OK or what the read returned. */
static int
load_count(mace_txn *txn, mace_bucket *bucket, unsigned slot, uint64_t *n)
{
    char key[LOAD_KEY];
    mace_slice value;
    struct load_value head;
    size_t size = load_key(key, slot, 'c', 0);
    int status = mace_get(txn, bucket, key, size, &value);

    *n = 0;
    if (status == MACE_NOT_FOUND)
        return MACE_OK;
    if (status != MACE_OK)
        return status;
    require(value.size == sizeof head, "count of slot %u has %zu bytes", slot, value.size);
    memcpy(&head, value.data, sizeof head);
    load_value_check(&value, slot, 0, head.n);
    *n = head.n;
    return MACE_OK;
}

static int
load_put(mace_txn *txn, mace_bucket *bucket, unsigned slot, char part, uint64_t number,
         uint32_t place, uint64_t n)
{
    char key[LOAD_KEY];
    uint8_t value[LOAD_VALUE_MAX];
    size_t key_size = load_key(key, slot, part, number);
    size_t size = load_value(value, slot, place, n);

    if (part == 'j')
        return mace_insert(txn, bucket, key, key_size, value, size);
    return mace_put(txn, bucket, key, key_size, value, size);
}

/* Writes transaction n of a slot into txn. */
static int
load_fill(mace_txn *txn, mace_bucket *bucket, unsigned slot, uint64_t n)
{
    char key[LOAD_KEY];
    int status = load_put(txn, bucket, slot, 'c', 0, 0, n);

    for (uint32_t i = 0; status == MACE_OK && i < LOAD_GROUP; i++)
        status = load_put(txn, bucket, slot, 'g', i, i + 1, n);
    if (status == MACE_OK)
        status = load_put(txn, bucket, slot, 'j', n, 1000, n);
    if (status == MACE_OK && n > LOAD_JOURNAL) {
        size_t size = load_key(key, slot, 'j', n - LOAD_JOURNAL);
        status = mace_delete(txn, bucket, key, size);
    }
    return status;
}

/* Begins the next transaction of a slot and fills it. On failure there is no transaction. */
static int
load_begin(mace *db, mace_bucket *bucket, struct load_board *board, unsigned slot, unsigned flags,
           mace_txn **txn, uint64_t *n)
{
    struct load_slot *known = &board->slots[slot];
    uint64_t count;
    int status = mace_begin(db, flags, txn);

    if (status == MACE_BROKER_LOST)
        AO_fetch_and_add1(&board->losses);
    if (status != MACE_OK)
        return status;
    status = load_count(*txn, bucket, slot, &count);
    if (status == MACE_OK) {
        require(count >= AO_load(&known->acked),
                "slot %u: commit %llu was acknowledged, %llu is here", slot,
                (unsigned long long)AO_load(&known->acked), (unsigned long long)count);
        require(count <= AO_load(&known->intended), "slot %u: commit %llu is here, %llu was tried",
                slot, (unsigned long long)count, (unsigned long long)AO_load(&known->intended));
        AO_store(&known->acked, count);
        *n = count + 1;
        status = load_fill(*txn, bucket, slot, *n);
    }
    if (status != MACE_OK) {
        mace_abort(*txn);
        return status;
    }
    AO_store_full(&known->intended, *n);
    return MACE_OK;
}

/* Notes a commit's outcome. A status that says "not applied" takes the intention back: the check of the next transaction
 * then finds out whether that was the truth. */
static void
load_note(struct load_board *board, unsigned slot, uint64_t n, int status)
{
    struct load_slot *known = &board->slots[slot];

    if (status == MACE_OK) {
        AO_store_full(&known->acked, n);
        AO_fetch_and_add1(&board->commits);
    } else if (status == MACE_UNKNOWN_OUTCOME) {
        AO_store(&known->doubt, n);
    } else if (AO_load(&known->doubt) < n) {
        AO_store_full(&known->intended, n - 1);
    }
    if (status == MACE_BROKER_LOST || status == MACE_UNKNOWN_OUTCOME)
        AO_fetch_and_add1(&board->losses);
    if (status == MACE_UNKNOWN_OUTCOME)
        AO_fetch_and_add1(&board->unknowns);
}

void
load_writer_died(struct load_board *board, unsigned first_slot, unsigned slots)
{
    for (unsigned slot = first_slot; slot < first_slot + slots; slot++)
        AO_store(&board->slots[slot].doubt, AO_load(&board->slots[slot].intended));
}

int
load_commit(mace *db, mace_bucket *bucket, struct load_board *board, unsigned slot, unsigned flags)
{
    mace_txn *txn;
    uint64_t n;
    int status = load_begin(db, bucket, board, slot, flags, &txn, &n);

    if (status != MACE_OK)
        return status;
    status = mace_commit(txn);
    load_note(board, slot, n, status);
    return status;
}

int
load_conflict(mace *db, mace_bucket *bucket, struct load_board *board, unsigned slot)
{
    mace_txn *first, *second;
    uint64_t n, again = 0;
    int status = load_begin(db, bucket, board, slot, MACE_OS, &first, &n);

    if (status != MACE_OK)
        return status;
    status = load_begin(db, bucket, board, slot, MACE_OS, &second, &again);
    if (status != MACE_OK || again != n) {
        mace_abort(first);
        if (status == MACE_OK)
            mace_abort(second);
        load_note(board, slot, n, MACE_CONFLICT);
        return status;
    }
    status = mace_commit(first);
    int second_status = mace_commit(second);
    /* The first one is not in the second one's way when it was not applied. */
    int decided = status == MACE_OK || status == MACE_UNKNOWN_OUTCOME;
    load_note(board, slot, n, decided ? status : second_status);
    if (status == MACE_OK)
        require(second_status == MACE_CONFLICT || second_status == MACE_BROKER_LOST ||
                    second_status == MACE_UNKNOWN_OUTCOME,
                "slot %u: the second commit of %llu gave %s", slot, (unsigned long long)n,
                mace_strerror(second_status));
    return status;
}

/* What a worker may meet while brokers and writers of the same slot die: everything else is a failure. */
static void
load_tolerate(const char *what, unsigned slot, int status)
{
    require(status == MACE_OK || status == MACE_BROKER_LOST || status == MACE_UNKNOWN_OUTCOME ||
                status == MACE_CONFLICT,
            "slot %u: %s: %s", slot, what, mace_strerror(status));
}

/* One asynchronous commit in each slot of the worker, then all their outcomes. */
static void
load_tickets(mace *db, mace_bucket *bucket, const struct load_worker *worker, unsigned flags)
{
    mace_ticket tickets[LOAD_SLOTS];
    uint64_t n[LOAD_SLOTS] = {0};

    for (unsigned i = 0; i < worker->slots; i++) {
        mace_txn *txn;
        unsigned slot = worker->first_slot + i;
        int status = load_begin(db, bucket, worker->board, slot, flags, &txn, &n[i]);
        if (status == MACE_OK) {
            status = mace_commit_async(txn, &tickets[i]);
            if (status != MACE_OK)
                load_note(worker->board, slot, n[i], status);
        }
        if (status != MACE_OK)
            n[i] = 0;
        load_tolerate("commit_async", slot, status);
    }
    for (unsigned i = 0; i < worker->slots; i++) {
        if (n[i] == 0)
            continue;
        int status = mace_wait(db, &tickets[i]);
        load_note(worker->board, worker->first_slot + i, n[i], status);
        load_tolerate("wait", worker->first_slot + i, status);
    }
}

static mace *
load_open(const struct load_worker *worker)
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
    options.cache_size = UINT64_C(64) << 20;
    /* Without permission to start one, a broker that the driver is about to start is waited for here. */
    do
        status = mace_open(worker->path, &options, &db);
    while (status == MACE_BROKER_LOST && !AO_load(&worker->board->stop));
    if (status == MACE_BROKER_LOST)
        _exit(0);
    require_ok(status);
    return db;
}

static mace_bucket *
load_bucket(mace *db, const struct load_worker *worker)
{
    mace_bucket *bucket = NULL;
    int status;

    do {
        status = mace_bucket_open(db, worker->bucket, &bucket);
        if (status == MACE_BROKER_LOST)
            process_pause();
    } while (status == MACE_BROKER_LOST && !AO_load(&worker->board->stop));
    if (status == MACE_BROKER_LOST)
        _exit(0);
    require_ok(status);
    return bucket;
}

void
load_worker_run(int channel, void *argument)
{
    const struct load_worker *worker = argument;
    struct random random;
    mace *db = load_open(worker);
    mace_bucket *bucket = load_bucket(db, worker);

    (void)channel;
    random_init(&random, worker->seed);
    for (uint64_t i = 0; !AO_load_acquire(&worker->board->stop); i++) {
        unsigned flags = random_chance(&random, 4) ? MACE_SYNC : MACE_OS;
        if (worker->limit != 0 && i >= worker->limit)
            break;
        if (random_chance(&random, 20)) {
            load_tickets(db, bucket, worker, flags);
        } else {
            unsigned slot = worker->first_slot + (unsigned)random_below(&random, worker->slots);
            int status = load_commit(db, bucket, worker->board, slot, flags);
            load_tolerate("commit", slot, status);
            if (status == MACE_BROKER_LOST)
                process_pause();
        }
        if (worker->pause_us != 0)
            usleep(worker->pause_us);
    }
    mace_close(db);
}

/* The keys that a slot at n shows, in order; returns their number. */
struct load_expected {
    char key[LOAD_KEY];
    size_t key_size;
    uint32_t place;
    uint64_t n;
};
static unsigned
load_expect(struct load_expected *expected, unsigned slot, uint64_t n)
{
    unsigned count = 0;

    if (n == 0)
        return 0;
    expected[count].key_size = load_key(expected[count].key, slot, 'c', 0);
    expected[count].place = 0;
    expected[count++].n = n;
    for (uint32_t i = 0; i < LOAD_GROUP; i++) {
        expected[count].key_size = load_key(expected[count].key, slot, 'g', i);
        expected[count].place = i + 1;
        expected[count++].n = n;
    }
    for (uint64_t place = 0; place < LOAD_RING; place++) {
        /* The newest transaction <= n that wrote this place of the ring, unless a later one has deleted it again. */
        uint64_t writer = n - (n + LOAD_RING - place) % LOAD_RING;
        if (writer > n || writer == 0 || writer + LOAD_JOURNAL <= n)
            continue;
        expected[count].key_size = load_key(expected[count].key, slot, 'j', place);
        expected[count].place = 1000;
        expected[count++].n = writer;
    }
    return count;
}

static void
load_check_walk(mace_txn *txn, mace_bucket *bucket, unsigned slot,
                const struct load_expected *expected, unsigned count, int backward)
{
    char prefix[LOAD_KEY];
    mace_range range;
    mace_cursor *cursor;
    mace_slice key, value;

    mace_range_prefix(&range, prefix, (size_t)snprintf(prefix, sizeof prefix, "s/%03u", slot));
    require_ok(mace_cursor_open(txn, bucket, &range, &cursor));
    for (unsigned i = 0; i < count; i++) {
        const struct load_expected *wanted = &expected[backward ? count - 1 - i : i];
        int status = backward ? mace_cursor_prev(cursor, &key, &value)
                              : mace_cursor_next(cursor, &key, &value);
        require(status == MACE_OK, "slot %u at %llu: entry %u (%s) %s: %s", slot,
                (unsigned long long)expected[0].n, i, wanted->key,
                backward ? "backward" : "forward", mace_strerror(status));
        require(key.size == wanted->key_size && memcmp(key.data, wanted->key, key.size) == 0,
                "slot %u at %llu: %.*s where %s has to be, %s", slot,
                (unsigned long long)expected[0].n, (int)key.size, (const char *)key.data,
                wanted->key, backward ? "backward" : "forward");
        load_value_check(&value, slot, wanted->place, wanted->n);
    }
    require_status(backward ? mace_cursor_prev(cursor, &key, &value)
                            : mace_cursor_next(cursor, &key, &value),
                   MACE_NOT_FOUND);
    mace_cursor_close(cursor);
}

uint64_t
load_check(mace_txn *txn, mace_bucket *bucket, unsigned slot)
{
    struct load_expected expected[1 + LOAD_GROUP + LOAD_JOURNAL];
    uint64_t n;

    require_ok(load_count(txn, bucket, slot, &n));
    unsigned count = load_expect(expected, slot, n);
    for (unsigned i = 0; i < count; i++) {
        mace_slice value;
        int status = mace_get(txn, bucket, expected[i].key, expected[i].key_size, &value);
        require(status == MACE_OK, "slot %u at %llu: get %s: %s", slot, (unsigned long long)n,
                expected[i].key, mace_strerror(status));
        load_value_check(&value, slot, expected[i].place, expected[i].n);
    }
    load_check_walk(txn, bucket, slot, expected, count, 0);
    load_check_walk(txn, bucket, slot, expected, count, 1);
    return n;
}

uint64_t
load_commits(struct load_board *board)
{
    return AO_load_acquire(&board->commits);
}

uint64_t
load_check_all(mace *db, mace_bucket *bucket, struct load_board *board)
{
    uint64_t acked[LOAD_SLOTS], sum = 0;
    mace_txn *txn;

    for (unsigned slot = 0; slot < LOAD_SLOTS; slot++)
        acked[slot] = AO_load_acquire(&board->slots[slot].acked);
    require_ok(mace_begin(db, MACE_RDONLY, &txn));
    for (unsigned slot = 0; slot < LOAD_SLOTS; slot++) {
        uint64_t n = load_check(txn, bucket, slot);
        uint64_t intended = AO_load_acquire(&board->slots[slot].intended);
        require(n >= acked[slot], "slot %u: commit %llu was acknowledged, %llu is here", slot,
                (unsigned long long)acked[slot], (unsigned long long)n);
        require(n <= intended, "slot %u: commit %llu is here, %llu was tried", slot,
                (unsigned long long)n, (unsigned long long)intended);
        sum += n;
    }
    mace_abort(txn);
    return sum;
}
