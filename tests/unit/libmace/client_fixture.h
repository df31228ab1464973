/* client_fixture.h - a database handle attached to a store and a session in private memory, with no broker behind them, and
 * trees of random versions in that store: for the tests of everything that reads, and of publishing.
 */
#ifndef CLIENT_FIXTURE_H
#define CLIENT_FIXTURE_H

#include <check.h>
#include <sys/mman.h>

#include "mlib.h"
#include "mshm/inner.h"
#include "mshm/leaf.h"
#include "txn.h"
#include "unit/shm/page_fixture.h"

enum { CLIENT_BUCKET = 7, CLIENT_ROOT = 1, CLIENT_PIDS = 1024, CLIENT_FRAMES = 32 << 20 };

static struct mace client_mace;
static struct mlib_attachment client_attachment;
static struct mace_bucket client_bucket;
static AO_t client_fork_word;
static uint8_t *client_store;
static struct mshm_store_geometry client_geometry;
static uint64_t client_frames_used;
static mshm_pid client_pids_used;

static inline struct mshm_store *
client_header(void)
{
    return (struct mshm_store *)client_store;
}

static inline void *
client_map(uint64_t size)
{
    void *base = mmap(NULL, size, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    ck_assert_ptr_ne(base, MAP_FAILED);
    return base;
}

static inline AO_t *
client_map_word(mshm_pid pid)
{
    return (AO_t *)(client_store + client_geometry.map_offset) + pid;
}

/* Forgets all pages; the root is an empty leaf. */
static inline void client_tree_clear(void);

static inline void
client_bucket_enter(void)
{
    struct mshm_catalogue_entry *entry =
        (struct mshm_catalogue_entry *)(client_store + client_geometry.catalogue_offset);
    AO_store(&entry->root, CLIENT_ROOT);
    AO_store(&entry->created, 1);
    AO_store(&entry->inline_limit, MSHM_MAX_INLINE);
    AO_store(&entry->page_size, 8192);
    AO_store_release(&entry->id, CLIENT_BUCKET);
}

static inline void
client_set_up(void)
{
    static const uint8_t id[16];
    mshm_store_geometry_compute(CLIENT_FRAMES, CLIENT_PIDS, &client_geometry);
    client_store = client_map(client_geometry.store_size);
    mshm_store_init(client_store, &client_geometry, 1, id, 1);
    AO_store(&client_header()->visible, 1000);
    client_bucket_enter();

    struct mlib_attachment *attachment = &client_attachment;
    memset(attachment, 0, sizeof *attachment);
    memset(&client_mace, 0, sizeof client_mace);
    client_fork_word = 1;
    client_mace.fork_page = &client_fork_word;
    client_mace.cpus = 2;
    client_mace.options.durability = MACE_OS;
    pthread_mutex_init(&client_mace.lock, NULL);
    attachment->mace = &client_mace;
    AO_store(&attachment->references, 1);
    ck_assert_int_eq(
        mshm_view_init(&attachment->view, client_store, client_geometry.store_size, NULL), MSHM_OK);
    attachment->session = client_map(MSHM_SESSION_SIZE);
    mshm_session_init(attachment->session, 3, 1, MSHM_ARENA_INITIAL);
    attachment->incarnation = 1;
    attachment->number = 3;
    attachment->socket = attachment->doorbell = -1;
    attachment->outcomes = calloc(MLIB_OUTCOMES, sizeof *attachment->outcomes);
    pthread_mutexattr_t attributes;
    pthread_mutexattr_init(&attributes);
    pthread_mutexattr_settype(&attributes, PTHREAD_MUTEX_ERRORCHECK);
    pthread_mutex_init(&attachment->publish_lock, &attributes);
    pthread_mutexattr_destroy(&attributes);
    mshm_producer_init(&attachment->producer, attachment->session);
    client_mace.attachments = attachment;
    AO_store(&client_mace.current, (AO_t)(uintptr_t)attachment);
    client_bucket = (struct mace_bucket){.mace = &client_mace, .id = CLIENT_BUCKET};
    client_tree_clear();
}

/* Every transaction has ended: no lane is in use, none shows a snapshot or a bracket. */
static inline void
client_tear_down(void)
{
    for (unsigned i = 0; i < MSHM_MAX_LANES; i++) {
        ck_assert_uint_eq(client_attachment.session->lanes[i].snapshot, 0);
        ck_assert_uint_eq(client_attachment.session->lanes[i].epoch, 0);
    }
    for (unsigned i = 0; i < MSHM_MAX_LANES / 64; i++)
        ck_assert_uint_eq(client_attachment.lanes[i], 0);
    ck_assert_uint_eq(client_attachment.references, 1);
    mlib_lanes_fini(&client_attachment);
    free(client_attachment.outcomes);
    munmap(client_attachment.session, MSHM_SESSION_SIZE);
    munmap(client_store, client_geometry.store_size);
    pthread_mutex_destroy(&client_attachment.publish_lock);
    pthread_mutex_destroy(&client_mace.lock);
}

/* A frame of a class that was never used before. */
static inline uint8_t *
client_frame_take(unsigned class, mshm_offset *offset)
{
    uint64_t size = mshm_class_size(class);
    client_frames_used = mshm_align_up(client_frames_used, size);
    ck_assert_uint_le(client_frames_used + size, CLIENT_FRAMES);
    *offset = client_geometry.frames_offset + client_frames_used;
    client_frames_used += size;
    return client_store + *offset;
}

/* Builds a leaf or history page in the smallest frame that has `spare` bytes left; the map word that leads to it. */
static inline AO_t
client_leaf_build(const struct mshm_leaf_spec *spec, uint32_t spare, uint8_t **frame)
{
    unsigned class = 0;
    mshm_offset offset;
    uint32_t need = mshm_leaf_size(spec);
    ck_assert_uint_ne(need, UINT32_MAX);
    while (class < MSHM_CLASSES - 1 && mshm_class_size(class) < need + spare)
        class ++;
    *frame = client_frame_take(class, &offset);
    ck_assert_int_eq(mshm_leaf_build(*frame, mshm_class_size(class), spec), MSHM_OK);
    return mshm_map_word(offset, class, mshm_leaf_hint(*frame));
}

static inline void
client_tree_clear(void)
{
    struct mshm_leaf_spec spec = {.pid = CLIENT_ROOT,
                                  .bucket = CLIENT_BUCKET,
                                  .kind = MSHM_PAGE_LEAF,
                                  .high_size = MSHM_FENCE_INFINITE};
    uint8_t *frame;
    for (mshm_pid pid = 1; pid < CLIENT_PIDS; pid++)
        AO_store(client_map_word(pid), MSHM_MAP_NONE);
    client_frames_used = 0;
    client_pids_used = CLIENT_ROOT;
    AO_store_release(client_map_word(CLIENT_ROOT), client_leaf_build(&spec, 0, &frame));
}

/* What a leaf is made of: versions in page order, where the newer ones than `cut` go to the tail, and those not newer than
 * `old` to history, unless they are their key's newest. */
struct client_leaf {
    struct mshm_version base[FIXTURE_MAX_VERSIONS], history[FIXTURE_MAX_VERSIONS],
        tail[FIXTURE_MAX_VERSIONS];
    uint32_t base_count, history_count, tail_count;
};

static inline void
client_leaf_divide(struct client_leaf *leaf, const struct mshm_version *versions, uint32_t count,
                   mshm_timestamp cut, mshm_timestamp old)
{
    leaf->base_count = leaf->history_count = leaf->tail_count = 0;
    for (uint32_t i = 0; i < count; i++) {
        bool newest = i == 0 || !same_key(&versions[i - 1], versions[i].key, versions[i].key_size);
        if (!newest && versions[i].timestamp <= old)
            leaf->history[leaf->history_count++] = versions[i];
        else if (versions[i].timestamp > cut && leaf->tail_count < 40)
            leaf->tail[leaf->tail_count++] = versions[i];
        else
            leaf->base[leaf->base_count++] = versions[i];
    }
}

/* Timestamps do not descend in a tail. */
static inline int
client_timestamp_order(const void *a, const void *b)
{
    const struct mshm_version *x = a, *y = b;
    return (x->timestamp > y->timestamp) - (x->timestamp < y->timestamp);
}

/* Makes the leaf of the versions [first, last) of the oracle, `pid`, between two fences. */
static inline void
client_leaf_publish(const struct oracle *oracle, uint32_t first, uint32_t last, mshm_pid pid,
                    mshm_pid right, const struct mshm_version *low, const struct mshm_version *high)
{
    struct client_leaf *leaf = malloc(sizeof *leaf);
    uint8_t *frame;
    bool tail = random_below(2) == 0;
    client_leaf_divide(leaf, oracle->versions + first, last - first,
                       tail ? random_below(100) : UINT64_MAX, random_below(3) == 0 ? 30 : 0);
    /* A key's versions must not skip the tail: what did not fit there may be newer than what did. */
    if (leaf->tail_count >= 40)
        client_leaf_divide(leaf, oracle->versions + first, last - first, UINT64_MAX, 0);
    struct mshm_leaf_spec spec = {
        .pid = pid,
        .right = right,
        .bucket = CLIENT_BUCKET,
        .kind = MSHM_PAGE_HISTORY,
        .low = low == NULL ? NULL : low->key,
        .low_size = low == NULL ? 0 : low->key_size,
        .high = high == NULL ? NULL : high->key,
        .high_size = high == NULL ? MSHM_FENCE_INFINITE : high->key_size,
        .versions = leaf->history,
        .count = leaf->history_count,
    };
    if (leaf->history_count > 0)
        spec.history = client_leaf_build(&spec, 0, &frame);
    spec.kind = MSHM_PAGE_LEAF;
    spec.versions = leaf->base;
    spec.count = leaf->base_count;
    uint32_t spare = 0;
    for (uint32_t i = 0; i < leaf->tail_count; i++)
        spare += mshm_entry_size(leaf->tail[i].key_size, leaf->tail[i].value_size);
    AO_t word = client_leaf_build(&spec, spare, &frame);
    qsort(leaf->tail, leaf->tail_count, sizeof leaf->tail[0], client_timestamp_order);
    for (uint32_t i = 0; i < leaf->tail_count; i++)
        ck_assert_int_eq(append(frame, mshm_class_size(mshm_map_class(word)), &leaf->tail[i]),
                         MSHM_OK);
    AO_store_release(client_map_word(pid), word);
    free(leaf);
}

/* The first version of the next key at or after `at`. */
static inline uint32_t
client_key_start(const struct oracle *oracle, uint32_t at)
{
    while (at > 0 && at < oracle->count &&
           same_key(&oracle->versions[at - 1], oracle->versions[at].key,
                    oracle->versions[at].key_size))
        at++;
    return at;
}

/* Makes the tree of the oracle's versions: leaves of up to `per_leaf` versions under one inner page. */
static inline void
client_tree_build(const struct oracle *oracle, uint32_t per_leaf)
{
    struct mshm_separator separators[FIXTURE_MAX_VERSIONS];
    mshm_pid children[FIXTURE_MAX_VERSIONS + 1];
    uint32_t starts[FIXTURE_MAX_VERSIONS + 1], leaves = 0;
    client_tree_clear();
    for (uint32_t at = 0; at < oracle->count;
         at = client_key_start(oracle, at + 1 + random_below(per_leaf)))
        starts[leaves++] = at;
    if (leaves == 0)
        return;
    if (leaves == 1) {
        client_leaf_publish(oracle, 0, oracle->count, CLIENT_ROOT, 0, NULL, NULL);
        return;
    }
    for (uint32_t i = 0; i < leaves; i++)
        children[i] = ++client_pids_used;
    for (uint32_t i = 0; i < leaves; i++) {
        const struct mshm_version *low = i == 0 ? NULL : &oracle->versions[starts[i]];
        bool end = i + 1 == leaves;
        client_leaf_publish(oracle, starts[i], end ? oracle->count : starts[i + 1], children[i],
                            end ? 0 : children[i + 1], low,
                            end ? NULL : &oracle->versions[starts[i + 1]]);
        if (i > 0)
            separators[i - 1] = (struct mshm_separator){.key = low->key, .size = low->key_size};
    }
    struct mshm_inner_spec spec = {
        .pid = CLIENT_ROOT,
        .bucket = CLIENT_BUCKET,
        .level = 1,
        .high_size = MSHM_FENCE_INFINITE,
        .separators = separators,
        .children = children,
        .count = leaves - 1,
    };
    mshm_offset offset;
    uint8_t *frame = client_frame_take(MSHM_CLASSES - 1, &offset);
    ck_assert_int_eq(mshm_inner_build(frame, MSHM_MAX_FRAME, &spec), MSHM_OK);
    AO_store_release(client_map_word(CLIENT_ROOT), mshm_map_word(offset, MSHM_CLASSES - 1, 0));
}

/* Fills an oracle with random versions, timestamps 1 to 99, tombstones among them. */
static inline void
client_random_versions(struct oracle *oracle, unsigned keys, size_t key_limit)
{
    static uint8_t value[600];
    uint8_t key[MSHM_MAX_KEY];
    for (unsigned i = 0; i < keys; i++) {
        size_t key_size = random_key(key, key_limit);
        unsigned versions = 1 + random_below(random_below(4) == 0 ? 8 : 2);
        for (unsigned j = 0; j < versions && oracle->count < FIXTURE_MAX_VERSIONS - 1; j++) {
            mshm_timestamp timestamp = 1 + random_below(99);
            bool tombstone = random_below(4) == 0;
            size_t value_size = tombstone ? 0 : random_below(random_below(9) == 0 ? 600 : 16);
            for (size_t k = 0; k < value_size; k++)
                value[k] = (uint8_t)random_next();
            oracle_add(oracle, key, key_size, timestamp,
                       tombstone ? MSHM_ENTRY_TOMBSTONE : MSHM_ENTRY_VALUE, value, value_size);
        }
    }
}

#endif
