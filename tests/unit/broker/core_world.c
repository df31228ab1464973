/* The core of core_model_test.c: started, driven, asked, ended. */
#include "core_world.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

enum { TRIES = 100000 };

struct sim_env *sim;
struct sim_random chance;
struct core_options options;
struct core *core;
struct mshm_session *segment;
struct mshm_producer producer;
uint64_t seed;
bool faulty;
char why[256];
unsigned error_lines, warning_lines;

static void *store;
static uint64_t store_size;
static uint8_t hints[1024];
static struct session *session;
static int reply_status;
static unsigned replies;

static void
on_reply(void *argument, void *handle, const void *message, size_t size)
{
    (void)argument, (void)handle, (void)size;
    reply_status = ((const struct mshm_message *)message)->status;
    replies++;
}

static void
on_log(void *argument, enum env_log_level level, const char *line)
{
    (void)argument, (void)line;
    error_lines += level == ENV_LOG_ERROR;
    warning_lines += level == ENV_LOG_WARNING;
}

void
world_create(uint64_t number)
{
    struct sim_hooks hooks = {.reply = on_reply, .log = on_log};
    seed = number;
    sim = sim_env_create(seed);
    sim_env_set_hooks(sim, &hooks);
    chance = (struct sim_random){seed * 7919};
    memset(hints, 0, sizeof hints);
    core_options_init(&options);
    options.cache_size = 16 * MSHM_MAX_FRAME;
    options.map_capacity = 16384;
    options.segment_size = 262144;
    options.page_size = 4096;
    options.data_file_size = 300000;
    options.checkpoint_log_bytes = 300000;
    options.hints = hints;
}

static void *
memory(uint64_t size)
{
    void *made = mmap(NULL, size, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    ck_assert_ptr_ne(made, MAP_FAILED);
    return made;
}

int
world_start(bool create)
{
    why[0] = '\0';
    store_size = core_store_size(&options);
    store = memory(store_size);
    int status = core_create(&core, &options, sim_env_interface(sim), store);
    return status != MSHM_OK ? status : core_recover(core, create, why, sizeof why);
}

void
world_end(bool power_cut)
{
    sim_env_die(sim, power_cut);
    core_destroy(core);
    core = NULL;
    if (store != NULL)
        munmap(store, store_size);
    if (segment != NULL)
        munmap(segment, MSHM_SESSION_SIZE);
    store = NULL;
    segment = NULL;
    sim_env_restart(sim);
    sim_env_fail(sim, 0, 0, 0);
    faulty = false;
}

bool
world_dead(void)
{
    return sim_env_dead(sim) || core_poisoned(core);
}

void
turn(void)
{
    uint64_t wait_ns;
    sim_env_advance(sim, 20000);
    core_step(core, &wait_ns);
    if (sim_random_chance(&chance, 3))
        hints[sim_random_below(&chance, sizeof hints)] = (uint8_t)sim_random_next(&chance);
}

void
ring(void)
{
    core_session_doorbell(core, session);
}

void
idle(unsigned turns)
{
    for (unsigned i = 0; i < turns && !sim_env_dead(sim); i++) {
        sim_env_advance(sim, 80000);
        turn();
    }
}

void
attach(void)
{
    segment = memory(MSHM_SESSION_SIZE);
    ck_assert_int_eq(core_session_attach(core, segment, segment, 0, 0, 0, &session), MSHM_OK);
    mshm_producer_init(&producer, segment);
    AO_store_release(&segment->lanes_high, 8);
}

int
answer(uint64_t sequence, int wake, uint64_t *timestamp)
{
    int status = MSHM_BUSY;
    if (wake)
        ring();
    for (int i = 0; i < TRIES && !(i > 10 && world_dead()); i++) {
        if (mshm_completion_take(segment, sequence, &status, timestamp))
            return status;
        turn();
    }
    ck_assert_msg(world_dead(), "seed %d: no answer", (int)seed);
    return MSHM_BUSY;
}

int
control(unsigned kind, unsigned bucket)
{
    struct mshm_bucket_message message = {
        .head = {.magic = MSHM_MESSAGE_MAGIC,
                 .kind = (uint16_t)kind,
                 .version = MSHM_LAYOUT_VERSION,
                 .size = sizeof(message)},
        .name_size = 2,
        .name = {'b', (char)('0' + bucket)},
    };
    unsigned before = replies;
    if (kind == MSHM_MESSAGE_SYNC || kind == MSHM_MESSAGE_CHECKPOINT)
        message.head.size = (uint32_t)sizeof(struct mshm_message);
    ck_assert_int_eq(core_control(core, session, &message, message.head.size), MSHM_OK);
    for (int i = 0; i < TRIES && replies == before && !(i > 10 && world_dead()); i++)
        turn();
    ck_assert_msg(replies != before || world_dead(), "seed %d: no reply", (int)seed);
    return replies == before ? MSHM_BUSY : reply_status;
}

const struct catalogue_bucket *
bucket_find(unsigned bucket)
{
    const char name[2] = {'b', (char)('0' + bucket)};
    return catalogue_find(core->catalogue, name, 2);
}

static int
page_in(mshm_pid pid)
{
    uint64_t offset = 0, pids = pid, timestamp;
    int wake;
    ck_assert_int_eq(mshm_producer_arena(&producer, sizeof pids, &offset), MSHM_OK);
    memcpy((uint8_t *)segment + MSHM_SESSION_ARENA + offset, &pids, sizeof pids);
    uint64_t sequence = mshm_producer_publish(&producer, MSHM_REQUEST_PAGE_IN, 0, 0, 0, 0, offset,
                                              sizeof pids, 1, &wake);
    return answer(sequence, wake, &timestamp);
}

int
get(unsigned bucket, uint32_t key, unsigned lane, uint64_t snapshot, uint8_t *value, uint64_t *size)
{
    uint8_t bytes[KEY_MAX];
    const struct catalogue_bucket *found = bucket_find(bucket);
    ck_assert_ptr_nonnull(found);
    struct mshm_tree_ref ref = {.bucket = found->id, .root = found->root};
    uint32_t key_size = key_make(bucket, key, bytes);
    for (;;) {
        mshm_pid missing = 0;
        int status =
            mshm_get(&core->view, &segment->lanes[lane], snapshot ? &segment->expired[lane] : NULL,
                     ref, bytes, key_size, snapshot, value, VALUE_MAX, size, NULL, &missing);
        if (status != MSHM_BUSY || missing == 0)
            return status;
        status = page_in(missing);
        if (status != MSHM_OK)
            return status;
    }
}

mshm_pid
leaf_absent(unsigned bucket, uint32_t key)
{
    static _Alignas(64) uint8_t frame[MSHM_MAX_FRAME];
    const struct mshm_page *page = (const void *)frame;
    struct mshm_lane lane = {0};
    uint8_t bytes[KEY_MAX], value[VALUE_MAX];
    uint32_t frame_size, key_size = key_make(bucket, key, bytes);
    uint64_t size;
    const struct catalogue_bucket *found = bucket_find(bucket);
    struct mshm_tree_ref ref = {.bucket = found->id, .root = found->root};
    for (;;) {
        mshm_pid missing = 0;
        if (mshm_get(&core->view, &lane, NULL, ref, bytes, key_size, 0, value, sizeof value, &size,
                     NULL, &missing) != MSHM_BUSY)
            return 0;
        ck_assert_int_eq(pager_peek(core->pager, missing, frame, &frame_size, NULL), MSHM_OK);
        if (page->kind == MSHM_PAGE_LEAF)
            return missing;
        ck_assert_int_eq(pager_load(core->pager, missing, NULL), MSHM_OK);
    }
}
