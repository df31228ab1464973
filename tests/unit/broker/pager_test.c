/* pager_test.c - pages are read in, on a disk, clock and cache in plain memory. */
#include "record_fixture.h"

#include <errno.h>
#include <sys/mman.h>

#include "crc.h"
#include "mshm/counters.h"
#include "pager.h"

enum { READS_MAX = 8192, PAGES = 700, FIRST_PID = 100, TAG_BASE = 5000, CUT = 100 };

/* Something under way. */
struct read {
    uint64_t tag, offset;
    void *to;
    size_t size;
};

static struct {
    struct env env;
    struct disk disk; /* the bytes of the one data file */
    bool file_gone;
    int read_error; /* that reads end with */
    bool read_short;
    struct read reads[READS_MAX];
    unsigned read_count, read_total, read_most;
    uint64_t now_ns;
    unsigned lines;
    char line[300];
    struct mshm_store_geometry geometry;
    uint8_t *store;
    struct mshm_counters counters;
    struct frames *frames;
    struct pages *pages;
    struct data *data;
    struct pager *pager;
    mshm_pid history_of; /* this page has a history */
} world;

/* --- the environment --- */

static uint64_t
env_clock(void *context)
{
    (void)context;
    return world.now_ns;
}

static int
env_open(void *context, const char *name, unsigned flags, struct env_file **file)
{
    (void)context;
    ck_assert_str_eq(name, "data/0000000000000009.dat");
    ck_assert_uint_eq(flags, 0);
    *file = (struct env_file *)&world;
    return world.file_gone ? -ENOENT : 0;
}

static void
env_close(void *context, struct env_file *file)
{
    (void)context;
    (void)file;
}

static int64_t
env_read(void *context, struct env_file *file, uint64_t offset, void *to, size_t size)
{
    (void)context;
    (void)file;
    if (world.read_error != 0)
        return world.read_error;
    if (world.read_short)
        size /= 2;
    memcpy(to, world.disk.bytes + offset, size);
    return (int64_t)size;
}

static void
env_read_start(void *context, struct env_file *file, uint64_t offset, void *to, size_t size,
               uint64_t tag)
{
    (void)context;
    (void)file;
    REQUIRE(world.read_count < READS_MAX);
    REQUIRE((uintptr_t)to % 64 == 0);
    memset(to, 0xa5, size);
    world.reads[world.read_count++] = (struct read){tag, offset, to, size};
    world.read_total++;
    if (world.read_count > world.read_most)
        world.read_most = world.read_count;
}

static int
env_back(void *context, uint64_t offset, uint64_t size)
{
    (void)context;
    REQUIRE(offset + size <= world.geometry.store_size);
    return 0;
}

static void
env_log(void *context, enum env_log_level level, const char *line)
{
    (void)context;
    (void)level;
    world.lines++;
    snprintf(world.line, sizeof world.line, "%s", line);
}

/* Ends one read. */
static void
complete(unsigned index)
{
    struct read done = world.reads[index];
    world.reads[index] = world.reads[--world.read_count];
    struct env_completion completion = {done.tag,
                                        env_read(NULL, NULL, done.offset, done.to, done.size)};
    pager_complete(world.pager, &completion);
}

/* Ends all that is under way or comes, the newest first. */
static void
run(void)
{
    for (int turn = 0; turn < 100000 && !pager_idle(world.pager); turn++) {
        if (world.read_count > 0)
            complete(world.read_count - 1);
        pager_turn(world.pager);
        world.now_ns += 10000;
    }
    REQUIRE(pager_idle(world.pager));
}

/* --- the world --- */

static void
no_lanes(void *argument, void (*each)(void *, struct mshm_lane *), void *each_argument)
{
    (void)argument;
    (void)each;
    (void)each_argument;
}

static AO_t
history_word(void *argument, mshm_pid pid)
{
    (void)argument;
    return pid == world.history_of ? (AO_t)7 << 32 | MSHM_MAP_RESIDENT : 0;
}

static data_location locations[PAGES];

static void
file_begin(void)
{
    struct data_file_header header = {
        .magic = DATA_FILE_MAGIC, .version = DATA_VERSION, .number = DISK_FILE};
    memcpy(header.database_id, database_id, sizeof database_id);
    header.crc = crc_extend(0, &header, sizeof header);
    memcpy(world.disk.bytes, &header, sizeof header);
}

/* Page `pid` has keys "a" to "e" with its number as value, in a frame of 8 KiB, and `deltas` deltas that change "b". */
static data_location
page_write(mshm_pid pid, unsigned deltas)
{
    static const char *const keys[] = {"a", "b", "c", "d", "e"};
    struct leaf leaf = {.versions = versions_create()};
    struct page_packed packed = {0};
    char value[200];
    memset(value, 'v', sizeof value);
    snprintf(value, sizeof value, "%u", pid);
    fixture_pid = pid;
    struct mshm_version version = {.kind = MSHM_ENTRY_VALUE,
                                   .key_size = 1,
                                   .value = (const uint8_t *)value,
                                   .value_size = sizeof value};
    for (unsigned i = 0; i < 5; i++) {
        version.key = (const uint8_t *)keys[i];
        version.timestamp = 1 + i;
        versions_add(leaf.versions, &version);
    }
    leaf_build(&leaf, 1);
    struct page_source source = leaf_source(&leaf, 10);
    disk_pack(&world.disk, &source, &keep_all, &packed);
    for (unsigned i = 1; i <= deltas; i++) {
        char changed[16];
        version.key = (const uint8_t *)"b";
        version.value = (const uint8_t *)changed;
        version.value_size = (uint32_t)snprintf(changed, sizeof changed, "delta %u", i);
        version.timestamp = 10 + i;
        REQUIRE(leaf_append(&leaf, &version));
        source = leaf_source(&leaf, 10 + i);
        source.location = packed.location;
        source.since = 10 + i - 1;
        disk_pack(&world.disk, &source, &keep_all, &packed);
        ck_assert_uint_eq(data_location_chain(packed.location), i);
    }
    leaf_fini(&leaf);
    return packed.location;
}

/* Pages FIRST_PID... are on disk. */
static unsigned
deltas_of(unsigned page)
{
    return page % 4 < DATA_CHAIN_MAX ? page % 4 : DATA_CHAIN_MAX;
}

static void
world_begin(unsigned count, uint64_t cache)
{
    memset(&world, 0, sizeof world);
    disk_init(&world.disk);
    file_begin();
    world.now_ns = UINT64_C(1000000000);
    world.env = (struct env){
        .clock_ns = env_clock,
        .file_open = env_open,
        .file_close = env_close,
        .file_read = env_read,
        .file_read_start = env_read_start,
        .store_back = env_back,
        .log = env_log,
    };
    mshm_store_geometry_compute(cache, 4096, &world.geometry);
    world.store = mmap(NULL, world.geometry.store_size, PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    REQUIRE(world.store != MAP_FAILED);
    mshm_store_init(world.store, &world.geometry, 1, database_id, 1);
    struct frames_options frames = {.frames_size = world.geometry.frames_size,
                                    .revoke_after_ns = 1000000};
    struct pages_options pages = {.fresh_ns = 10000000};
    struct data_options data = {.file_size = DISK_SIZE};
    struct pager_options pager = {.tag_base = TAG_BASE};
    memcpy(data.database_id, database_id, sizeof database_id);
    memcpy(pager.database_id, database_id, sizeof database_id);
    ck_assert_int_eq(frames_create(&world.frames, &frames, &world.env, world.store, &world.geometry,
                                   no_lanes, NULL),
                     MSHM_OK);
    ck_assert_int_eq(pages_create(&world.pages, &pages, &world.env, world.frames, &world.geometry),
                     MSHM_OK);
    for (unsigned i = 0; i < count; i++) {
        locations[i] = page_write(FIRST_PID + i, deltas_of(i));
        ck_assert_int_eq(pages_restore(world.pages, FIRST_PID + i, locations[i]), MSHM_OK);
    }
    ck_assert_int_eq(pages_restored(world.pages, CUT), MSHM_OK);
    ck_assert_int_eq(data_create(&world.data, &data, &world.env), MSHM_OK);
    ck_assert_int_eq(data_add(world.data, DISK_FILE, world.disk.end, 0), MSHM_OK);
    ck_assert_int_eq(pager_create(&world.pager, &pager, &world.env, world.frames, world.pages,
                                  world.data, history_word, NULL, &world.counters),
                     MSHM_OK);
}

static void
world_end(void)
{
    const char *why = "";
    if (pages_check(world.pages, &why) != MSHM_OK)
        ck_abort_msg("pages: %s", why);
    if (frames_check(world.frames, &why) != MSHM_OK)
        ck_abort_msg("frames: %s", why);
    pager_destroy(world.pager);
    data_destroy(world.data);
    pages_destroy(world.pages);
    frames_destroy(world.frames);
    munmap(world.store, world.geometry.store_size);
    disk_fini(&world.disk);
}

/* --- asking --- */

struct waiting {
    struct pager_wait wait;
    unsigned told;
};

static void
tell(void *argument, struct pager_wait *wait)
{
    struct waiting *waiting = argument;
    REQUIRE(wait == &waiting->wait && wait->left == 0);
    waiting->told++;
}

static struct waiting *
waiting_init(struct waiting *waiting)
{
    *waiting = (struct waiting){.wait = {.done = tell, .argument = waiting}};
    return waiting;
}

static void
want(mshm_pid pid, struct waiting *waiting)
{
    unsigned told = waiting->told;
    ck_assert_int_eq(pager_want(world.pager, pid, &waiting->wait), MSHM_OK);
    ck_assert_uint_eq(waiting->told, told);
}

static uint8_t *
page_frame(mshm_pid pid, uint32_t *size)
{
    AO_t word = AO_load(frames_map(world.frames, pid));
    if (mshm_map_state(word) != MSHM_MAP_RESIDENT)
        return NULL;
    *size = mshm_class_size(mshm_map_class(word));
    return frames_address(world.frames, word);
}

/* The newest value of a key in memory is this text. */
static void
expect_value(mshm_pid pid, const char *key, const char *value)
{
    struct mshm_version version;
    uint32_t size;
    uint8_t *frame = page_frame(pid, &size);
    REQUIRE(frame != NULL);
    ck_assert_int_eq(mshm_leaf_newest(frame, size, key, 1, mshm_key_hash(key, 1), &version),
                     MSHM_FOUND_VERSION);
    REQUIRE(version.value_size >= strlen(value));
    ck_assert_mem_eq(version.value, value, strlen(value));
}

static void
expect_page(mshm_pid pid)
{
    char value[16];
    unsigned deltas = deltas_of(pid - FIRST_PID);
    snprintf(value, sizeof value, "%u", pid);
    expect_value(pid, "a", value);
    snprintf(value, sizeof value, "delta %u", deltas);
    if (deltas > 0)
        expect_value(pid, "b", value);
}

static void
flip(data_location location)
{
    world.disk.bytes[data_location_offset(location) + 100] ^= 4;
}

/* --- reading --- */

START_TEST(a_page_is_read_once_however_many_wait_for_it)
{
    struct waiting first, second;
    world_begin(2, 8 << 20);
    want(FIRST_PID, waiting_init(&first));
    want(FIRST_PID, waiting_init(&second));
    ck_assert_int_eq(pager_want(world.pager, FIRST_PID, NULL), MSHM_OK);
    ck_assert_uint_eq(world.read_total, 1);
    ck_assert_uint_eq(first.wait.left, 1);
    REQUIRE(!pager_idle(world.pager));
    REQUIRE(pager_reads(world.pager, DISK_FILE) && !pager_reads(world.pager, DISK_FILE + 1));
    run();
    REQUIRE(!pager_reads(world.pager, DISK_FILE));
    ck_assert_uint_eq(world.read_total, 1);
    ck_assert_uint_eq(first.told, 1);
    ck_assert_uint_eq(second.told, 1);
    ck_assert_int_eq(first.wait.status, MSHM_OK);
    expect_page(FIRST_PID);
    ck_assert_uint_eq(world.counters.page_reads, 1);
    /* It is in memory now, and this is no page. */
    ck_assert_int_eq(pager_want(world.pager, FIRST_PID, &first.wait), MSHM_EXISTS);
    ck_assert_int_eq(pager_want(world.pager, 3, &first.wait), MSHM_EXISTS);
    ck_assert_int_eq(pager_want(world.pager, 0, NULL), MSHM_EXISTS);
    world_end();
}
END_TEST

START_TEST(a_chain_is_read_in_two_rounds)
{
    struct waiting waiting;
    world_begin(4, 8 << 20);
    want(FIRST_PID + 3, waiting_init(&waiting));
    ck_assert_uint_eq(world.read_count, 1);
    complete(0);
    ck_assert_uint_eq(world.read_count, 2);
    complete(1);
    ck_assert_uint_eq(waiting.told, 0);
    complete(0);
    ck_assert_uint_eq(waiting.told, 1);
    ck_assert_int_eq(waiting.wait.status, MSHM_OK);
    expect_page(FIRST_PID + 3);
    world_end();
}
END_TEST

START_TEST(a_chain_that_is_remembered_is_read_in_one_round)
{
    struct waiting waiting;
    world_begin(4, 8 << 20);
    struct page_known known = {.location = locations[3]};
    page_record_older(world.disk.bytes + data_location_offset(locations[3]), known.older);
    pages_remember(world.pages, FIRST_PID + 3, &known);
    want(FIRST_PID + 3, waiting_init(&waiting));
    ck_assert_uint_eq(world.read_count, 3);
    REQUIRE(pager_reads(world.pager, DISK_FILE));
    complete((unsigned)_i % 3);
    complete((unsigned)_i / 3);
    ck_assert_uint_eq(waiting.told, 0);
    REQUIRE(pager_reads(world.pager, DISK_FILE));
    complete(0);
    ck_assert_uint_eq(world.read_total, 3);
    ck_assert_int_eq(waiting.wait.status, MSHM_OK);
    expect_page(FIRST_PID + 3);
    world_end();
}
END_TEST

START_TEST(a_memory_that_is_wrong_costs_a_read_and_nothing_else)
{
    struct waiting waiting;
    world_begin(4, 8 << 20);
    struct page_known known = {
        .location = locations[3],
        .older = {locations[1],
                  data_location_make(DISK_FILE + 1, 0, DATA_RECORDS_AT, DATA_UNIT * 4)},
    };
    pages_remember(world.pages, FIRST_PID + 3, &known);
    want(FIRST_PID + 3, waiting_init(&waiting));
    ck_assert_uint_eq(world.read_count, 2);           /* that file is not there */
    REQUIRE(pager_reads(world.pager, DISK_FILE + 1)); /* it must not be removed now */
    complete((unsigned)_i % 2);
    run();
    ck_assert_uint_eq(world.read_total, 5);
    ck_assert_int_eq(waiting.wait.status, MSHM_OK);
    ck_assert_uint_eq(world.lines, 0);
    expect_page(FIRST_PID + 3);
    /* What was remembered of a former record says nothing. */
    known.location = locations[1];
    pages_remember(world.pages, FIRST_PID + 2, &known);
    want(FIRST_PID + 2, waiting_init(&waiting));
    ck_assert_uint_eq(world.read_count, 1);
    run();
    ck_assert_int_eq(waiting.wait.status, MSHM_OK);
    expect_page(FIRST_PID + 2);
    world_end();
}
END_TEST

START_TEST(many_pages_are_read_side_by_side_but_not_all_at_once)
{
    struct waiting waiting;
    world_begin(PAGES, 16 << 20);
    waiting_init(&waiting);
    for (unsigned i = 0; i < PAGES; i++)
        want(FIRST_PID + i, &waiting);
    ck_assert_uint_eq(waiting.wait.left, PAGES);
    ck_assert_uint_eq(world.read_count, PAGER_READS);
    run();
    ck_assert_uint_eq(waiting.told, 1);
    ck_assert_uint_le(world.read_most, PAGER_READS * 3);
    for (unsigned i = 0; i < PAGES; i++)
        expect_page(FIRST_PID + i);
    world_end();
}
END_TEST

START_TEST(a_page_gets_a_frame_of_the_class_that_it_had)
{
    uint32_t size;
    struct waiting waiting;
    world_begin(1, 8 << 20);
    world.history_of = FIRST_PID;
    want(FIRST_PID, waiting_init(&waiting));
    run();
    uint8_t *frame = page_frame(FIRST_PID, &size);
    ck_assert_uint_eq(size, 8192);
    ck_assert_uint_eq(((struct mshm_page *)(void *)frame)->history,
                      (AO_t)7 << 32 | MSHM_MAP_RESIDENT);
    world_end();
}
END_TEST

static void
blind_put_text(mshm_pid pid, const char *key, const char *value, mshm_timestamp timestamp)
{
    struct mshm_version version = {.key = (const uint8_t *)key,
                                   .key_size = (uint16_t)strlen(key),
                                   .value = (const uint8_t *)value,
                                   .value_size = (uint32_t)strlen(value),
                                   .timestamp = timestamp,
                                   .kind = MSHM_ENTRY_VALUE};
    ck_assert_int_eq(blind_reserve(pages_blind(world.pages), 1, 100), MSHM_OK);
    pages_write_blind(world.pages, pid, &version);
}

START_TEST(blind_writes_come_in_with_the_page)
{
    struct waiting waiting;
    struct pages_figures figures;
    world_begin(2, 8 << 20);
    blind_put_text(FIRST_PID + 1, "a", "sealed", 101);
    blind_put_text(FIRST_PID + 1, "z", "sealed", 101);
    ck_assert_int_eq(pages_seal(world.pages, 101), MSHM_OK);
    want(FIRST_PID + 1, waiting_init(&waiting));
    blind_put_text(FIRST_PID + 1, "a", "gathered while it is read", 102);
    run();
    expect_value(FIRST_PID + 1, "a", "gathered while it is read");
    expect_value(FIRST_PID + 1, "z", "sealed");
    expect_value(FIRST_PID + 1, "b", "delta 1");
    pages_figures(world.pages, &figures);
    ck_assert_uint_eq(figures.dirty_pages, 1);
    world_end();
}
END_TEST

/* --- trouble --- */

START_TEST(a_damaged_page_is_an_error_for_who_waits_for_it)
{
    struct waiting damaged, both;
    char wanted[64];
    world_begin(4, 8 << 20);
    flip(locations[1]);
    want(FIRST_PID + 1, waiting_init(&damaged));
    want(FIRST_PID + 1, waiting_init(&both));
    want(FIRST_PID + 2, &both);
    complete(0); /* the damaged one first: what comes after does not make it good */
    run();
    ck_assert_int_eq(damaged.wait.status, MSHM_CORRUPT);
    ck_assert_int_eq(both.wait.status, MSHM_CORRUPT);
    ck_assert_uint_eq(both.told, 1);
    expect_page(FIRST_PID + 2);
    ck_assert_uint_eq(world.counters.pages_corrupt, 1);
    ck_assert_uint_eq(world.lines, 1);
    snprintf(wanted, sizeof wanted, "data/0000000000000009.dat, offset %llu: ",
             (unsigned long long)data_location_offset(locations[1]));
    REQUIRE(strstr(world.line, wanted) != NULL);
    /* Whoever asks again is told again, but the log has it once. */
    want(FIRST_PID + 1, waiting_init(&damaged));
    run();
    ck_assert_int_eq(damaged.wait.status, MSHM_CORRUPT);
    ck_assert_uint_eq(world.lines, 1);
    world_end();
}
END_TEST

START_TEST(damage_in_an_older_record_is_found)
{
    struct waiting waiting;
    data_location older[DATA_CHAIN_MAX];
    char wanted[64];
    world_begin(4, 8 << 20);
    page_record_older(world.disk.bytes + data_location_offset(locations[3]), older);
    flip(older[1]);
    want(FIRST_PID + 3, waiting_init(&waiting));
    run();
    ck_assert_int_eq(waiting.wait.status, MSHM_CORRUPT);
    snprintf(wanted, sizeof wanted,
             "offset %llu: ", (unsigned long long)data_location_offset(older[1]));
    REQUIRE(strstr(world.line, wanted) != NULL);
    world_end();
}
END_TEST

START_TEST(failed_and_short_reads_are_errors_and_do_not_last)
{
    struct waiting waiting;
    world_begin(4, 8 << 20);
    want(FIRST_PID, waiting_init(&waiting));
    world.read_error = -EIO;
    run();
    ck_assert_int_eq(waiting.wait.status, MSHM_IO);
    world.read_error = 0;
    world.read_short = true;
    want(FIRST_PID + 1, waiting_init(&waiting));
    run();
    ck_assert_int_eq(waiting.wait.status, MSHM_CORRUPT);
    REQUIRE(strstr(world.line, "the data file ends before the record does") != NULL);
    world.read_short = false;
    waiting_init(&waiting);
    want(FIRST_PID, &waiting);
    want(FIRST_PID + 1, &waiting);
    run();
    ck_assert_int_eq(waiting.wait.status, MSHM_OK);
    expect_page(FIRST_PID);
    expect_page(FIRST_PID + 1);
    world_end();
}
END_TEST

START_TEST(a_file_that_cannot_be_opened_is_told_later)
{
    struct waiting waiting;
    world_begin(1, 8 << 20);
    world.file_gone = true;
    want(FIRST_PID, waiting_init(&waiting)); /* checks that nobody is told from there */
    ck_assert_uint_eq(world.read_total, 0);
    REQUIRE(pager_turn(world.pager));
    ck_assert_int_eq(waiting.wait.status, MSHM_CORRUPT);
    ck_assert_uint_eq(waiting.told, 1);
    world_end();
}
END_TEST

/* --- changes meanwhile --- */

START_TEST(a_page_that_was_written_elsewhere_meanwhile_is_read_there)
{
    struct waiting waiting;
    world_begin(8, 8 << 20);
    data_location moved = locations[3];
    AO_t *word = frames_map(world.frames, FIRST_PID + 3);
    /* It was at a place where something else stands by now. */
    flip(locations[7]);
    AO_store(word, locations[7] << 4 | MSHM_MAP_ON_DISK);
    want(FIRST_PID + 3, waiting_init(&waiting));
    AO_store(word, moved << 4 | MSHM_MAP_ON_DISK);
    run();
    ck_assert_int_eq(waiting.wait.status, MSHM_OK);
    ck_assert_uint_eq(world.lines, 0);
    expect_page(FIRST_PID + 3);
    world_end();
}
END_TEST

START_TEST(a_page_that_came_in_or_went_meanwhile_is_no_error)
{
    struct waiting came, went;
    world_begin(4, 8 << 20);
    want(FIRST_PID + 1, waiting_init(&came));
    ck_assert_int_eq(pager_load(world.pager, FIRST_PID + 1, NULL), MSHM_OK);
    want(FIRST_PID + 2, waiting_init(&went));
    pages_free(world.pages, FIRST_PID + 2, false);
    run();
    ck_assert_int_eq(came.wait.status, MSHM_OK);
    ck_assert_int_eq(went.wait.status, MSHM_OK);
    ck_assert_uint_eq(came.told, 1);
    ck_assert_uint_eq(went.told, 1);
    ck_assert_uint_eq(world.counters.page_reads, 1);
    world_end();
}
END_TEST

START_TEST(who_is_gone_is_not_told)
{
    struct waiting gone, stays;
    world_begin(4, 8 << 20);
    waiting_init(&gone);
    want(FIRST_PID, &gone);
    want(FIRST_PID + 1, &gone);
    want(FIRST_PID, waiting_init(&stays));
    pager_forget(world.pager, &gone.wait);
    memset(&gone, 0xee, sizeof gone);
    run();
    ck_assert_uint_eq(stays.told, 1);
    expect_page(FIRST_PID + 1);
    world_end();
}
END_TEST

/* Whoever is told at once wishes for another page, and drops somebody who would be told after. */
static struct waiting restless, dropped;
static void
tell_restless(void *argument, struct pager_wait *wait)
{
    (void)argument;
    if (restless.told++ == 0) {
        pager_forget(world.pager, &dropped.wait);
        memset(&dropped, 0xee, sizeof dropped); /* nobody may look at it any more */
        ck_assert_int_eq(pager_want(world.pager, FIRST_PID + 2, wait), MSHM_OK);
    }
}

START_TEST(who_is_told_may_ask_and_forget)
{
    world_begin(4, 8 << 20);
    waiting_init(&restless);
    waiting_init(&dropped);
    restless.wait.done = tell_restless;
    want(FIRST_PID + 1, &dropped);
    want(FIRST_PID + 1, &restless); /* the later one is told first */
    run();
    ck_assert_uint_eq(restless.told, 2);
    for (size_t i = 0; i < sizeof dropped; i++)
        REQUIRE(((const uint8_t *)&dropped)[i] == 0xee);
    expect_page(FIRST_PID + 2);
    world_end();
}
END_TEST

/* --- frames --- */

START_TEST(without_a_frame_a_page_waits)
{
    struct waiting waiting;
    uint8_t *frames[128];
    unsigned count = 0;
    world_begin(4, 256 << 10);
    while (count < 128 && (frames[count] = frames_allocate(world.frames, 0)) != NULL)
        count++;
    REQUIRE(count < 128);
    want(FIRST_PID + 1, waiting_init(&waiting));
    want(FIRST_PID + 2, &waiting);
    for (int i = 0; i < 50; i++) {
        if (world.read_count > 0)
            complete(0);
        pager_turn(world.pager);
        world.now_ns += 10000;
    }
    ck_assert_uint_eq(waiting.wait.left, 2);
    REQUIRE(!pager_idle(world.pager));
    ck_assert_uint_eq(pager_short(world.pager), 4096);
    ck_assert_uint_eq(world.read_count, 0);
    for (unsigned i = 0; i < 4; i++)
        frames_free(world.frames, frames[--count], 0);
    run();
    ck_assert_uint_eq(pager_short(world.pager), 0);
    ck_assert_int_eq(waiting.wait.status, MSHM_OK);
    expect_page(FIRST_PID + 1);
    expect_page(FIRST_PID + 2);
    while (count > 0)
        frames_free(world.frames, frames[--count], 0);
    world_end();
}
END_TEST

START_TEST(clean_pages_make_room_for_those_that_are_read)
{
    struct waiting waiting;
    world_begin(200, 256 << 10);
    waiting_init(&waiting);
    for (unsigned i = 0; i < 200; i++)
        want(FIRST_PID + i, &waiting);
    run();
    ck_assert_uint_eq(waiting.told, 1);
    ck_assert_int_eq(waiting.wait.status, MSHM_OK);
    ck_assert_uint_eq(world.counters.page_reads, 200);
    world_end();
}
END_TEST

/* --- at once --- */

START_TEST(pages_can_be_loaded_at_once)
{
    const char *why = NULL;
    world_begin(4, 8 << 20);
    flip(locations[1]);
    ck_assert_int_eq(pager_load(world.pager, FIRST_PID + 3, &why), MSHM_OK);
    ck_assert_ptr_null(why);
    expect_page(FIRST_PID + 3);
    ck_assert_int_eq(pager_load(world.pager, FIRST_PID + 3, &why), MSHM_OK);
    ck_assert_int_eq(pager_load(world.pager, FIRST_PID + 1, &why), MSHM_CORRUPT);
    ck_assert_ptr_nonnull(strstr(why, ".dat, offset "));
    ck_assert_ptr_nonnull(strstr(why, "the record's checksum is wrong"));
    ck_assert_uint_eq(world.lines, 1);
    world.read_error = -EIO;
    ck_assert_int_eq(pager_load(world.pager, FIRST_PID, &why), MSHM_IO);
    world.read_error = 0;
    world.read_short = true;
    ck_assert_int_eq(pager_load(world.pager, FIRST_PID, &why), MSHM_CORRUPT);
    world.read_short = false;
    ck_assert_int_eq(pager_load(world.pager, FIRST_PID, &why), MSHM_OK);
    REQUIRE(pager_idle(world.pager));
    world_end();
}
END_TEST

START_TEST(a_look_at_a_page_leaves_it_where_it_is)
{
    static uint8_t to[MSHM_MAX_FRAME] __attribute__((aligned(64)));
    struct mshm_version version;
    const char *why = NULL;
    uint32_t size = 0;
    world_begin(4, 8 << 20);
    blind_put_text(FIRST_PID + 1, "a", "blind", 101);
    ck_assert_int_eq(pager_peek(world.pager, FIRST_PID + 1, to, &size, &why), MSHM_OK);
    ck_assert_uint_eq(size, 8192);
    ck_assert_int_eq(mshm_leaf_check(to, size, &why), MSHM_OK);
    ck_assert_int_eq(mshm_leaf_newest(to, size, "a", 1, mshm_key_hash("a", 1), &version),
                     MSHM_FOUND_VERSION);
    ck_assert_uint_eq(version.timestamp, 101);
    ck_assert_uint_ne(pages_location(world.pages, FIRST_PID + 1), 0);
    ck_assert_int_eq(pager_load(world.pager, FIRST_PID + 1, NULL), MSHM_OK);
    ck_assert_int_eq(pager_peek(world.pager, FIRST_PID + 1, to, &size, &why), MSHM_NOT_FOUND);
    flip(locations[2]);
    ck_assert_int_eq(pager_peek(world.pager, FIRST_PID + 2, to, &size, &why), MSHM_CORRUPT);
    world_end();
}
END_TEST

/* --- anything --- */

START_TEST(everybody_is_told_once_whatever_happens)
{
    enum { WAITERS = 40 };
    static struct waiting waiting[WAITERS];
    static unsigned wanted[WAITERS];
    random_seed();
    world_begin(120, 512 << 10);
    for (int i = 0; i < WAITERS; i++)
        wanted[i] = 0;
    for (int round = 0; round < 60000; round++) {
        unsigned i = random_below(WAITERS);
        switch (random_below(8)) {
        case 0:
        case 1:
            if (wanted[i] != 0)
                break;
            waiting_init(&waiting[i]);
            for (unsigned k = 0, count = 1 + random_below(20); k < count; k++)
                pager_want(world.pager, FIRST_PID + random_below(120), &waiting[i].wait);
            wanted[i] = waiting[i].wait.left > 0;
            break;
        case 2:
            if (wanted[i] != 0 && random_below(4) == 0) {
                pager_forget(world.pager, &waiting[i].wait);
                memset(&waiting[i], 0xee, sizeof waiting[i]);
                wanted[i] = 0;
            }
            break;
        case 3:
            pager_want(world.pager, FIRST_PID + random_below(120), NULL);
            break;
        case 4:
            if (random_below(10) == 0)
                pager_load(world.pager, FIRST_PID + random_below(120), NULL);
            pages_evict(world.pages, 16384, world.now_ns);
            break;
        default:
            world.read_error = random_below(20) == 0 ? -EIO : 0;
            if (world.read_count > 0)
                complete(random_below(world.read_count));
            world.read_error = 0;
            pager_turn(world.pager);
        }
        world.now_ns += 20000;
        for (int k = 0; k < WAITERS; k++) {
            if (wanted[k] == 0 || waiting[k].told == 0)
                continue;
            REQUIRE(waiting[k].told == 1 && waiting[k].wait.left == 0);
            REQUIRE(waiting[k].wait.status == MSHM_OK || waiting[k].wait.status == MSHM_IO);
            wanted[k] = 0;
        }
    }
    run();
    for (int k = 0; k < WAITERS; k++)
        REQUIRE(wanted[k] == 0 || waiting[k].told == 1);
    REQUIRE(world.counters.page_reads > 1000);
    world_end();
}
END_TEST

int
main(void)
{
    Suite *suite = suite_create("pager");
    TCase *tcase = tcase_create("pager");
    tcase_set_timeout(tcase, 120);
    tcase_add_test(tcase, a_page_is_read_once_however_many_wait_for_it);
    tcase_add_test(tcase, a_chain_is_read_in_two_rounds);
    tcase_add_loop_test(tcase, a_chain_that_is_remembered_is_read_in_one_round, 0, 6);
    tcase_add_loop_test(tcase, a_memory_that_is_wrong_costs_a_read_and_nothing_else, 0, 3);
    tcase_add_test(tcase, many_pages_are_read_side_by_side_but_not_all_at_once);
    tcase_add_test(tcase, a_page_gets_a_frame_of_the_class_that_it_had);
    tcase_add_test(tcase, blind_writes_come_in_with_the_page);
    tcase_add_test(tcase, a_damaged_page_is_an_error_for_who_waits_for_it);
    tcase_add_test(tcase, damage_in_an_older_record_is_found);
    tcase_add_test(tcase, failed_and_short_reads_are_errors_and_do_not_last);
    tcase_add_test(tcase, a_file_that_cannot_be_opened_is_told_later);
    tcase_add_test(tcase, a_page_that_was_written_elsewhere_meanwhile_is_read_there);
    tcase_add_test(tcase, a_page_that_came_in_or_went_meanwhile_is_no_error);
    tcase_add_test(tcase, who_is_gone_is_not_told);
    tcase_add_test(tcase, who_is_told_may_ask_and_forget);
    tcase_add_test(tcase, without_a_frame_a_page_waits);
    tcase_add_test(tcase, clean_pages_make_room_for_those_that_are_read);
    tcase_add_test(tcase, pages_can_be_loaded_at_once);
    tcase_add_test(tcase, a_look_at_a_page_leaves_it_where_it_is);
    tcase_add_test(tcase, everybody_is_told_once_whatever_happens);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? 1 : 0;
}
