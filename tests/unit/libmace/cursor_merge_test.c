/* Cursors over random trees and own writes, against a sorted list: every move, mixed directions, every kind of range. */
#include "client_fixture.h"

enum { MODEL_MAX = 2 * FIXTURE_MAX_VERSIONS };

/* What a transaction sees of the bucket: sorted by key. Values are found by number. */
struct entry {
    uint8_t key[MSHM_MAX_KEY];
    size_t key_size;
    uint8_t value[600];
    size_t value_size;
    bool deleted; /* by an own write */
};
static struct entry *model;
static size_t model_count;

static size_t
model_rank(const uint8_t *key, size_t key_size)
{
    size_t at = 0;
    while (at < model_count &&
           mshm_key_compare(model[at].key, model[at].key_size, key, key_size) < 0)
        at++;
    return at;
}

static void
model_put(const uint8_t *key, size_t key_size, const uint8_t *value, size_t value_size,
          bool deleted)
{
    size_t at = model_rank(key, key_size);
    if (at == model_count ||
        mshm_key_compare(model[at].key, model[at].key_size, key, key_size) != 0) {
        ck_assert_uint_lt(model_count, MODEL_MAX - 1);
        memmove(&model[at + 1], &model[at], (model_count - at) * sizeof *model);
        model_count++;
        memcpy(model[at].key, key, key_size);
        model[at].key_size = key_size;
    }
    if (value_size > 0)
        memcpy(model[at].value, value, value_size);
    model[at].value_size = value_size;
    model[at].deleted = deleted;
}

static void
model_from(const struct oracle *oracle, mshm_timestamp snapshot)
{
    model_count = 0;
    for (uint32_t i = 0; i < oracle->count; i++) {
        const struct mshm_version *version = &oracle->versions[i], *found;
        if (i > 0 && same_key(&oracle->versions[i - 1], version->key, version->key_size))
            continue;
        if (oracle_get(oracle, version->key, version->key_size, snapshot, &found) ==
                MSHM_FOUND_VERSION &&
            found->kind == MSHM_ENTRY_VALUE)
            model_put(found->key, found->key_size, found->value, found->value_size, false);
    }
}

/* A range as the interface has it, and whether a key lies in it, decided the plain way. */
static uint8_t bound_bytes[3][MSHM_MAX_KEY + 8];
static mace_range range;

static bool
range_has(const uint8_t *key, size_t key_size)
{
    if ((range.flags & MACE_RANGE_PREFIX) != 0)
        return key_size >= range.lower.size &&
               (range.lower.size == 0 || memcmp(key, range.lower.data, range.lower.size) == 0);
    if (range.lower.size > 0) {
        int order = mshm_key_compare(key, key_size, range.lower.data, range.lower.size);
        if (order < 0 || (order == 0 && (range.flags & MACE_LOWER_OPEN) != 0))
            return false;
    }
    if (range.upper.size > 0) {
        int order = mshm_key_compare(key, key_size, range.upper.data, range.upper.size);
        if (order > 0 || (order == 0 && (range.flags & MACE_UPPER_CLOSED) == 0))
            return false;
    }
    return true;
}

/* A bound: a key of the model, something near it, or anything. */
static mace_slice
random_bound(int which, size_t limit)
{
    uint8_t *bytes = bound_bytes[which];
    size_t size = 0;
    if (model_count > 0 && random_below(3) > 0) {
        const struct entry *entry = &model[random_below((uint32_t)model_count)];
        size = entry->key_size;
        memcpy(bytes, entry->key, size);
        if (random_below(4) == 0)
            size -= random_below((uint32_t)size);
        else if (random_below(4) == 0)
            bytes[size++] = (uint8_t)(random_below(2) == 0 ? 0 : 0xff);
    } else {
        size = random_key(bytes, limit);
    }
    return (mace_slice){.data = bytes, .size = size};
}

static void
random_range(size_t limit)
{
    range = (mace_range){.flags = 0};
    unsigned kind = random_below(6);
    if (kind == 0)
        return;
    if (kind == 1) {
        mace_slice prefix = random_bound(0, 4);
        prefix.size = prefix.size > 3 ? 1 + random_below(3) : prefix.size;
        mace_range_prefix(&range, prefix.data, random_below(8) == 0 ? 0 : prefix.size);
        return;
    }
    if (kind != 2)
        range.lower = random_bound(0, limit);
    if (kind != 3)
        range.upper = random_bound(1, limit);
    range.flags = random_below(4); /* MACE_LOWER_OPEN, MACE_UPPER_CLOSED */
}

/* Where the model's cursor stands. */
static enum { FRESH, ON, BEFORE, AFTER } state;
static uint8_t here[MSHM_MAX_KEY];
static size_t here_size;

/* The first live entry in range at or after place `at`, going up or down; NULL: none. */
static const struct entry *
model_find(size_t at, bool up)
{
    for (; at < model_count; at += up ? 1 : (size_t)-1)
        if (!model[at].deleted && range_has(model[at].key, model[at].key_size))
            return &model[at];
    return NULL;
}

static bool
model_has(size_t at)
{
    return at < model_count &&
           mshm_key_compare(model[at].key, model[at].key_size, here, here_size) == 0;
}

enum move { FIRST, LAST, NEXT, PREV, SEEK, MOVES };

static const struct entry *
model_move(enum move move, const uint8_t *key, size_t key_size)
{
    if (move == NEXT && (state == FRESH || state == BEFORE))
        move = FIRST;
    if (move == PREV && (state == FRESH || state == AFTER))
        move = LAST;
    size_t at;
    switch (move) {
    case FIRST:
        return model_find(0, true);
    case LAST:
        return model_find(model_count - 1, false);
    case SEEK:
        return model_find(model_rank(key, key_size), true);
    case NEXT:
        if (state == AFTER)
            return NULL;
        at = model_rank(here, here_size);
        return model_find(at + model_has(at), true);
    default:
        if (state == BEFORE)
            return NULL;
        return model_find(model_rank(here, here_size) - 1, false);
    }
}

static int
cursor_move(mace_cursor *cursor, enum move move, const uint8_t *seek, size_t seek_size,
            mace_slice *key, mace_slice *value)
{
    switch (move) {
    case FIRST:
        return mace_cursor_first(cursor, key, value);
    case LAST:
        return mace_cursor_last(cursor, key, value);
    case NEXT:
        return mace_cursor_next(cursor, key, value);
    case PREV:
        return mace_cursor_prev(cursor, key, value);
    default:
        return mace_cursor_seek(cursor, seek, seek_size, key, value);
    }
}

/* Makes the same move on both sides and compares. */
static void
move_both(mace_cursor *cursor, enum move move, const uint8_t *seek, size_t seek_size)
{
    static const uint8_t nothing[1];
    mace_slice key = {.data = nothing, .size = 77}, value = key;
    const struct entry *expected = model_move(move, seek, seek_size);
    bool want_key = random_below(8) > 0, want_value = random_below(8) > 0;
    int status = cursor_move(cursor, move, seek, seek_size, want_key ? &key : NULL,
                             want_value ? &value : NULL);
    ck_assert_msg(status == (expected == NULL ? MACE_NOT_FOUND : MACE_OK),
                  "move %d from state %d: %s", (int)move, (int)state, mace_strerror(status));
    if (expected == NULL) {
        ck_assert_ptr_eq(key.data, nothing);
        ck_assert_ptr_eq(value.data, nothing);
        bool inverted = range.upper.size > 0 && range.lower.size > 0 &&
                        mshm_key_compare(range.lower.data, range.lower.size, range.upper.data,
                                         range.upper.size) > 0;
        if (move == NEXT)
            state = state == ON || state == AFTER ? AFTER : FRESH;
        else if (move == PREV)
            state = state == ON || state == BEFORE ? BEFORE : FRESH;
        else
            state = move == SEEK && !inverted ? AFTER : FRESH;
        return;
    }
    state = ON;
    here_size = expected->key_size;
    memcpy(here, expected->key, here_size);
    if (want_key) {
        ck_assert_uint_eq(key.size, expected->key_size);
        ck_assert_mem_eq(key.data, expected->key, key.size);
    }
    if (want_value) {
        ck_assert_uint_eq(value.size, expected->value_size);
        if (value.size > 0)
            ck_assert_mem_eq(value.data, expected->value, value.size);
    }
}

static void
write_both(mace_txn *txn, size_t limit)
{
    static uint8_t value[600];
    uint8_t key[MSHM_MAX_KEY];
    size_t key_size, value_size = random_below(40);
    if (state == ON && random_below(3) == 0) {
        key_size = here_size;
        memcpy(key, here, here_size);
    } else if (model_count > 0 && random_below(2) == 0) {
        const struct entry *entry = &model[random_below((uint32_t)model_count)];
        key_size = entry->key_size;
        memcpy(key, entry->key, key_size);
    } else {
        key_size = random_key(key, limit);
    }
    if (random_below(2) == 0) {
        for (size_t i = 0; i < value_size; i++)
            value[i] = (uint8_t)random_next();
        ck_assert_int_eq(mace_put(txn, &client_bucket, key, key_size, value, value_size), MACE_OK);
        model_put(key, key_size, value, value_size, false);
        return;
    }
    size_t at = model_rank(key, key_size);
    bool there = at < model_count && !model[at].deleted &&
                 mshm_key_compare(model[at].key, model[at].key_size, key, key_size) == 0;
    ck_assert_int_eq(mace_delete(txn, &client_bucket, key, key_size),
                     there ? MACE_OK : MACE_NOT_FOUND);
    if (there)
        model_put(key, key_size, NULL, 0, true);
}

static void
seek_both(mace_cursor *cursor, size_t limit)
{
    uint8_t key[MSHM_MAX_KEY + 8];
    mace_slice bound = random_bound(2, limit);
    memcpy(key, bound.data, bound.size);
    move_both(cursor, SEEK, key, random_below(20) == 0 ? 0 : bound.size);
}

/* Now and then the same versions are laid out in other leaves, as splits and merges would do under a walk. */
static void
walk_randomly(mace_txn *txn, const struct oracle *oracle, bool write, unsigned moves, size_t limit)
{
    mace_cursor *cursor;
    random_range(limit);
    state = FRESH;
    ck_assert_int_eq(mace_cursor_open(txn, &client_bucket,
                                      range.lower.size + range.upper.size == 0 ? NULL : &range,
                                      &cursor),
                     MACE_OK);
    unsigned habit = random_below(3);
    for (unsigned i = 0; i < moves; i++) {
        if (write && random_below(6) == 0)
            write_both(txn, limit);
        if (random_below(30) == 0)
            client_tree_build(oracle, limit > 12 ? 4 : 1 + random_below(30));
        unsigned choice = random_below(40);
        if (choice == 0)
            seek_both(cursor, limit);
        else if (choice < 3)
            move_both(cursor, choice == 1 ? FIRST : LAST, NULL, 0);
        else if (habit == 0 ? choice < 36 : habit == 1 ? choice < 7 : choice < 21)
            move_both(cursor, NEXT, NULL, 0);
        else
            move_both(cursor, PREV, NULL, 0);
    }
    mace_cursor_close(cursor);
}

static void
set_up(void)
{
    client_set_up();
    model = calloc(MODEL_MAX, sizeof *model);
}

static void
tear_down(void)
{
    free(model);
    client_tear_down();
}

START_TEST(random_walks_meet_what_a_sorted_list_says)
{
    random_seed("cursor_merge");
    for (int round = 0; round < 120; round++) {
        struct oracle *oracle = malloc(sizeof *oracle);
        size_t limit = round % 10 == 0 ? 2000 : 12;
        oracle_init(oracle, 4 << 20);
        client_random_versions(oracle, random_below(round % 4 == 0 ? 10 : 150), limit);
        client_tree_build(oracle, round % 10 == 0 ? 4 : 1 + random_below(30));
        mshm_timestamp snapshot = 1 + random_below(100);
        AO_store(&client_header()->visible, snapshot);
        for (int i = 0; i < 4; i++) {
            mace_txn *txn;
            model_from(oracle, snapshot);
            ck_assert_int_eq(mace_begin(&client_mace, i < 2 ? MACE_RDONLY : 0, &txn), MACE_OK);
            for (int j = 0; j < 4; j++)
                walk_randomly(txn, oracle, i >= 2, 150, limit);
            mace_abort(txn);
        }
        oracle_fini(oracle);
        free(oracle);
    }
}
END_TEST

static void
oracle_numbers(struct oracle *oracle, unsigned count)
{
    char key[16];
    oracle_init(oracle, 1 << 20);
    for (unsigned i = 0; i < count; i++) {
        snprintf(key, sizeof key, "%04u", i);
        oracle_add(oracle, key, 4, 5, MSHM_ENTRY_VALUE, key, 4);
    }
    client_tree_build(oracle, 10);
}

START_TEST(a_scan_that_deletes_and_inserts_as_it_goes_meets_each_key_once)
{
    struct oracle *oracle = malloc(sizeof *oracle);
    oracle_numbers(oracle, 300);
    mace_txn *txn;
    mace_cursor *cursor;
    mace_slice key, value;
    ck_assert_int_eq(mace_begin(&client_mace, 0, &txn), MACE_OK);
    ck_assert_int_eq(mace_cursor_open(txn, &client_bucket, NULL, &cursor), MACE_OK);
    unsigned seen = 0;
    while (mace_cursor_next(cursor, &key, &value) == MACE_OK) {
        char wanted[16];
        snprintf(wanted, sizeof wanted, "%04u%s", seen / 2, seen % 2 == 0 ? "" : "+");
        ck_assert_uint_eq(key.size, strlen(wanted));
        ck_assert_mem_eq(key.data, wanted, key.size);
        if (seen % 2 == 0) {
            /* The key argument is the cursor's own slice, the value the one it handed out. */
            char ahead[16];
            snprintf(ahead, sizeof ahead, "%04u+", seen / 2);
            ck_assert_int_eq(mace_put(txn, &client_bucket, ahead, 5, value.data, value.size),
                             MACE_OK);
            ck_assert_int_eq(mace_delete(txn, &client_bucket, key.data, key.size), MACE_OK);
        }
        seen++;
    }
    ck_assert_uint_eq(seen, 600);
    /* Back over what is left: the inserted ones alone. */
    for (unsigned i = 300; i-- > 0;) {
        ck_assert_int_eq(mace_cursor_prev(cursor, &key, &value), MACE_OK);
        ck_assert_uint_eq(key.size, 5);
        ck_assert_int_eq(atoi(key.data), (int)i);
        ck_assert_uint_eq(value.size, 4);
    }
    ck_assert_int_eq(mace_cursor_prev(cursor, &key, &value), MACE_NOT_FOUND);
    mace_abort(txn);
    oracle_fini(oracle);
    free(oracle);
}
END_TEST

START_TEST(slices_live_until_the_next_move_of_their_own_cursor)
{
    struct oracle *oracle = malloc(sizeof *oracle);
    oracle_numbers(oracle, 300);
    mace_txn *txn;
    mace_cursor *one, *other;
    mace_slice key, value, ignored;
    ck_assert_int_eq(mace_begin(&client_mace, 0, &txn), MACE_OK);
    ck_assert_int_eq(mace_put(txn, &client_bucket, "0150", 4, "own", 3), MACE_OK);
    ck_assert_int_eq(mace_cursor_open(txn, &client_bucket, NULL, &one), MACE_OK);
    ck_assert_int_eq(mace_cursor_open(txn, &client_bucket, NULL, &other), MACE_OK);
    ck_assert_int_eq(mace_cursor_seek(one, "0150", 4, &key, &value), MACE_OK);
    ck_assert_int_eq(mace_put(txn, &client_bucket, "0150", 4, "xyz", 3), MACE_OK);
    while (mace_cursor_next(other, &ignored, &ignored) == MACE_OK)
        ck_assert_int_eq(mace_get(txn, &client_bucket, ignored.data, ignored.size, &ignored),
                         MACE_OK);
    ck_assert_mem_eq(key.data, "0150", 4);
    ck_assert_mem_eq(value.data, "own", 3);
    mace_cursor_close(other);
    ck_assert_int_eq(mace_cursor_next(one, &key, NULL), MACE_OK);
    ck_assert_mem_eq(key.data, "0151", 4);
    /* A seek to the cursor's own slices, which the search overwrites. */
    ck_assert_int_eq(mace_cursor_first(one, NULL, &value), MACE_OK);
    ck_assert_int_eq(mace_cursor_last(one, &key, &value), MACE_OK);
    ck_assert_int_eq(mace_cursor_seek(one, value.data, value.size, &key, &value), MACE_OK);
    ck_assert_mem_eq(key.data, "0299", 4);
    mace_abort(txn); /* closes the other one */
    oracle_fini(oracle);
    free(oracle);
}
END_TEST

START_TEST(a_failed_move_keeps_the_place)
{
    struct oracle *oracle = malloc(sizeof *oracle);
    oracle_numbers(oracle, 300);
    mace_txn *txn;
    mace_cursor *cursor;
    mace_slice key;
    ck_assert_int_eq(mace_begin(&client_mace, MACE_RDONLY, &txn), MACE_OK);
    ck_assert_int_eq(mace_cursor_open(txn, &client_bucket, NULL, &cursor), MACE_OK);
    AO_t *root = client_map_word(CLIENT_ROOT), whole = *root, words[CLIENT_PIDS];
    for (mshm_pid pid = 1; pid <= client_pids_used; pid++)
        words[pid] = *client_map_word(pid);
    int failures = 0;
    for (unsigned i = 0; i < 300; i++) {
        /* No page can be found, neither by hint nor from the root: only moves inside the copied leaf work. */
        for (mshm_pid pid = 1; pid <= client_pids_used; pid++)
            *client_map_word(pid) = MSHM_MAP_NONE;
        int status = mace_cursor_next(cursor, &key, NULL);
        for (mshm_pid pid = 1; pid <= client_pids_used; pid++)
            *client_map_word(pid) = words[pid];
        *root = whole;
        if (status != MACE_OK) {
            ck_assert_int_eq(status, MACE_CORRUPT);
            failures++;
            ck_assert_int_eq(mace_cursor_next(cursor, &key, NULL), MACE_OK);
        }
        char wanted[16];
        snprintf(wanted, sizeof wanted, "%04u", i);
        ck_assert_mem_eq(key.data, wanted, 4);
    }
    ck_assert_int_gt(failures, 5);
    mace_abort(txn);
    oracle_fini(oracle);
    free(oracle);
}
END_TEST

START_TEST(renewal_makes_cursors_fresh_and_moves_them_to_the_new_snapshot)
{
    struct oracle *oracle = malloc(sizeof *oracle);
    oracle_numbers(oracle, 50);
    oracle_add(oracle, "0000", 4, 20, MSHM_ENTRY_TOMBSTONE, "", 0);
    oracle_add(oracle, "0001", 4, 20, MSHM_ENTRY_VALUE, "new", 3);
    client_tree_build(oracle, 10);
    mace_txn *txn;
    mace_cursor *cursor;
    mace_slice key, value;
    AO_store(&client_header()->visible, 10);
    ck_assert_int_eq(mace_begin(&client_mace, MACE_RDONLY, &txn), MACE_OK);
    ck_assert_int_eq(mace_cursor_open(txn, &client_bucket, NULL, &cursor), MACE_OK);
    ck_assert_int_eq(mace_cursor_next(cursor, &key, &value), MACE_OK);
    ck_assert_mem_eq(key.data, "0000", 4);
    AO_store(&client_header()->visible, 30);
    ck_assert_int_eq(mace_cursor_next(cursor, &key, &value), MACE_OK);
    ck_assert_mem_eq(value.data, "0001", 4);
    ck_assert_int_eq(mace_renew(txn), MACE_OK);
    ck_assert_uint_eq(mace_txn_snapshot(txn), 30);
    ck_assert_int_eq(mace_cursor_next(cursor, &key, &value), MACE_OK);
    ck_assert_mem_eq(key.data, "0001", 4);
    ck_assert_mem_eq(value.data, "new", 3);
    mace_abort(txn);
    ck_assert_int_eq(mace_begin(&client_mace, 0, &txn), MACE_OK);
    ck_assert_int_eq(mace_renew(txn), MACE_INVALID);
    mace_abort(txn);
    oracle_fini(oracle);
    free(oracle);
}
END_TEST

START_TEST(prefixes_of_ff_bytes_and_odd_ranges_are_right)
{
    struct oracle *oracle = malloc(sizeof *oracle);
    static const uint8_t ff[6] = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff};
    oracle_init(oracle, 4096);
    oracle_add(oracle, "a\xff\xff", 3, 5, MSHM_ENTRY_VALUE, "", 0);
    oracle_add(oracle, "b", 1, 5, MSHM_ENTRY_VALUE, "", 0);
    for (size_t i = 1; i <= 6; i++)
        oracle_add(oracle, ff, i, 5, MSHM_ENTRY_VALUE, "", 0);
    client_tree_build(oracle, 2);
    mace_txn *txn;
    mace_cursor *cursor;
    mace_range prefix;
    mace_slice key;
    ck_assert_int_eq(mace_begin(&client_mace, MACE_RDONLY, &txn), MACE_OK);
    for (size_t size = 0; size <= 6; size++) {
        unsigned count = 0;
        mace_range_prefix(&prefix, ff, size);
        ck_assert_int_eq(mace_cursor_open(txn, &client_bucket, &prefix, &cursor), MACE_OK);
        while (mace_cursor_next(cursor, &key, NULL) == MACE_OK)
            count++;
        ck_assert_uint_eq(count, size == 0 ? 8 : 7 - size);
        mace_cursor_close(cursor);
    }
    mace_range_prefix(&prefix, "a\xff", 2);
    ck_assert_int_eq(mace_cursor_open(txn, &client_bucket, &prefix, &cursor), MACE_OK);
    ck_assert_int_eq(mace_cursor_last(cursor, &key, NULL), MACE_OK);
    ck_assert_uint_eq(key.size, 3);
    ck_assert_int_eq(mace_cursor_next(cursor, &key, NULL), MACE_NOT_FOUND);
    ck_assert_int_eq(mace_cursor_prev(cursor, &key, NULL), MACE_OK);
    mace_cursor_close(cursor);

    static uint8_t giant[10000];
    memset(giant, 'a', sizeof giant);
    mace_range odd = {.lower = {giant, sizeof giant}};
    ck_assert_int_eq(mace_cursor_open(txn, &client_bucket, &odd, &cursor), MACE_OK);
    ck_assert_int_eq(mace_cursor_first(cursor, &key, NULL), MACE_OK);
    ck_assert_mem_eq(key.data, "a\xff\xff", 3);
    ck_assert_int_eq(mace_cursor_seek(cursor, giant, sizeof giant, &key, NULL), MACE_OK);
    ck_assert_mem_eq(key.data, "a\xff\xff", 3);
    mace_cursor_close(cursor);
    mace_range_prefix(&odd, giant, sizeof giant);
    ck_assert_int_eq(mace_cursor_open(txn, &client_bucket, &odd, &cursor), MACE_OK);
    ck_assert_int_eq(mace_cursor_last(cursor, &key, NULL), MACE_NOT_FOUND);
    mace_cursor_close(cursor);

    odd = (mace_range){.flags = 8};
    ck_assert_int_eq(mace_cursor_open(txn, &client_bucket, &odd, &cursor), MACE_INVALID);
    odd = (mace_range){.upper = {NULL, 3}};
    ck_assert_int_eq(mace_cursor_open(txn, &client_bucket, &odd, &cursor), MACE_INVALID);
    odd = (mace_range){.lower = {"a", 1}, .flags = MACE_RANGE_PREFIX | MACE_LOWER_OPEN};
    ck_assert_int_eq(mace_cursor_open(txn, &client_bucket, &odd, &cursor), MACE_INVALID);
    mace_abort(txn);
    oracle_fini(oracle);
    free(oracle);
}
END_TEST

int
main(void)
{
    Suite *suite = suite_create("cursor_merge");
    TCase *tests = tcase_create("cursor_merge");
    tcase_set_timeout(tests, 120);
    tcase_add_checked_fixture(tests, set_up, tear_down);
    tcase_add_test(tests, random_walks_meet_what_a_sorted_list_says);
    tcase_add_test(tests, a_scan_that_deletes_and_inserts_as_it_goes_meets_each_key_once);
    tcase_add_test(tests, slices_live_until_the_next_move_of_their_own_cursor);
    tcase_add_test(tests, a_failed_move_keeps_the_place);
    tcase_add_test(tests, renewal_makes_cursors_fresh_and_moves_them_to_the_new_snapshot);
    tcase_add_test(tests, prefixes_of_ff_bytes_and_odd_ranges_are_right);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
