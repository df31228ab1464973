/* From a directory to a broker that may serve, on the simulated disk: what is refused, what dies, what is found again. */
#include <check.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "checkpoint.h"
#include "core.h"
#include "core_parts.h"
#include "mshm/protocol.h"
#include "mshm/read.h"
#include "mshm/status.h"
#include "sim/sim_env.h"

static struct sim_env *sim;
static struct core_options options;
static struct core *core;
static void *store;
static uint64_t store_size;
static char why[256];

static struct mshm_session *segment;
static struct session *session;
static struct mshm_producer producer;
static uint64_t session_number;

static void
begin(uint64_t seed)
{
    sim = sim_env_create(seed);
    core_options_init(&options);
    options.cache_size = UINT64_C(4) << 20;
    options.map_capacity = 4096;
    options.segment_size = 65536;
    options.page_size = 4096;
}

static void
stop(void)
{
    core_destroy(core);
    core = NULL;
    if (store != NULL)
        munmap(store, store_size);
    if (segment != NULL)
        munmap(segment, MSHM_SESSION_SIZE);
    store = NULL;
    segment = NULL;
}

static void
set_up(void)
{
    begin(1);
}

static void
tear_down(void)
{
    sim_env_die(sim, false);
    stop();
    sim_env_destroy(sim);
}

static void *
memory(uint64_t size)
{
    void *made = mmap(NULL, size, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    ck_assert_ptr_ne(made, MAP_FAILED);
    return made;
}

static int
start(bool create)
{
    why[0] = '\0';
    store_size = core_store_size(&options);
    store = memory(store_size);
    int status = core_create(&core, &options, sim_env_interface(sim), store);
    return status != MSHM_OK ? status : core_recover(core, create, why, sizeof why);
}

/* The process dies, what is left comes into force. */
static void
die(bool power_cut)
{
    sim_env_die(sim, power_cut);
    stop();
    sim_env_restart(sim);
}

static void
attach(void)
{
    segment = memory(MSHM_SESSION_SIZE);
    ck_assert_int_eq(core_session_attach(core, segment, segment, 0, 0, 0, &session), MSHM_OK);
    session_number = core_session_number(session);
    mshm_producer_init(&producer, segment);
}

/* What the values of a key consist of. Never 0: the log is zeroed ahead, and each of its bytes has to be written. */
static uint8_t
value_byte(uint64_t number)
{
    return (uint8_t)(1 + number % 255);
}

/* One put by a one-call request, waited for: its status. The key is the number. */
static int
put(uint64_t number, uint32_t value_size, bool sync)
{
    static uint8_t value
        [8192]; /* no zeros: the log is zeroed ahead, and each of its bytes has to be written */
    uint64_t offset, wait_ns, sequence, timestamp;
    int wake, status = MSHM_BUSY;
    memset(value, value_byte(number), sizeof value);
    if (segment == NULL)
        attach();
    uint64_t size = mshm_op_size(sizeof number, value_size);
    ck_assert_int_eq(mshm_producer_arena(&producer, size, &offset), MSHM_OK);
    mshm_op_write((uint8_t *)segment + MSHM_SESSION_ARENA + offset,
                  catalogue_find(core->catalogue, "default", 7)->id, MSHM_OP_PUT, &number,
                  sizeof number, value, value_size);
    sequence =
        mshm_producer_publish(&producer, MSHM_REQUEST_ONE_CALL, sync ? MSHM_REQUEST_LEVEL_SYNC : 0,
                              0, 0, 0, offset, size, 1, &wake);
    if (wake)
        core_session_doorbell(core, session);
    for (int i = 0; i < 100000 && !mshm_completion_take(segment, sequence, &status, &timestamp);
         i++) {
        sim_env_advance(sim, 20000);
        core_step(core, &wait_ns);
    }
    return status;
}

static bool
present(uint64_t number)
{
    struct mshm_lane lane = {0};
    uint8_t value[8192];
    uint64_t size;
    const struct catalogue_bucket *bucket = catalogue_find(core->catalogue, "default", 7);
    struct mshm_tree_ref ref = {.bucket = bucket->id, .root = bucket->root};
    int status;
    for (;;) {
        mshm_pid missing = 0;
        status = mshm_get(&core->view, &lane, NULL, ref, &number, sizeof number, 0, value,
                          sizeof value, &size, NULL, &missing);
        if (status != MSHM_BUSY || missing == 0)
            break;
        uint64_t wait_ns;
        (void)pager_want(core->pager, missing, NULL);
        sim_env_advance(sim, 1000000);
        core_step(core, &wait_ns);
    }
    ck_assert(status == MSHM_OK || status == MSHM_NOT_FOUND);
    for (uint64_t i = 0; status == MSHM_OK && i < size; i++)
        ck_assert_uint_eq(value[i], value_byte(number));
    return status == MSHM_OK;
}

static int
count_entry(const char *name, void *argument)
{
    (void)name;
    ++*(int *)argument;
    return 0;
}

static int
count_entries(const char *directory)
{
    int count = 0;
    (void)sim_disk_list(sim_env_disk(sim), directory, count_entry, &count);
    return count;
}

/* --- cases --- */

START_TEST(nothing_is_made_where_nothing_is_and_creation_is_not_wanted)
{
    ck_assert_int_eq(start(false), MSHM_NOT_FOUND);
    ck_assert_int_eq(count_entries(""), 0);
}
END_TEST

START_TEST(new_database_has_a_bucket_and_survives_a_power_cut_at_once)
{
    ck_assert_int_eq(start(true), MSHM_OK);
    ck_assert_ptr_nonnull(catalogue_find(core->catalogue, "default", 7));
    ck_assert_uint_eq(AO_load(&core->store->visible), 1);
    ck_assert_uint_eq(core_incarnation(core), 1);
    uint8_t id[16];
    memcpy(id, core_database_id(core), sizeof id);
    die(true);
    ck_assert_int_eq(start(false), MSHM_OK);
    ck_assert_uint_eq(AO_load(&core->store->visible), 1);
    ck_assert_uint_eq(core_incarnation(core), 2);
    ck_assert_mem_eq(id, core_database_id(core), sizeof id);
    ck_assert_mem_eq(id, core->store->database_id, sizeof id);
    ck_assert_uint_eq(core->store->incarnation, 2);
}
END_TEST

START_TEST(commits_of_both_levels_are_found_again)
{
    ck_assert_int_eq(start(true), MSHM_OK);
    for (uint64_t i = 0; i < 3000; i++)
        ck_assert_int_eq(put(i, (uint32_t)(i % 200), i % 50 == 0), MSHM_OK);
    die(false);
    ck_assert_int_eq(start(false), MSHM_OK);
    ck_assert_uint_eq(AO_load(&core->store->visible), 3001);
    for (uint64_t i = 0; i < 3000; i++)
        ck_assert(present(i));
    ck_assert(!present(3000));
    const char *text;
    ck_assert_int_eq(core_check(core, &text), MSHM_OK);
    die(true); /* what a recovery served is durable */
    ck_assert_int_eq(start(false), MSHM_OK);
    ck_assert_uint_eq(AO_load(&core->store->visible), 3001);
}
END_TEST

START_TEST(unanswered_commits_are_looked_up_by_token)
{
    uint64_t timestamp = 0;
    ck_assert_int_eq(start(true), MSHM_OK);
    ck_assert_int_eq(put(1, 10, true), MSHM_OK);
    ck_assert_int_eq(put(2, 10, true), MSHM_OK);
    uint32_t number = (uint32_t)session_number;
    die(false);
    ck_assert_int_eq(start(false), MSHM_OK);
    ck_assert_int_eq(outcomes_lookup(core->outcomes, 1, number, 2, &timestamp),
                     MSHM_OUTCOME_COMMITTED);
    ck_assert_uint_eq(timestamp, 3);
    ck_assert_int_eq(outcomes_lookup(core->outcomes, 1, number, 3, &timestamp),
                     MSHM_OUTCOME_NOT_COMMITTED);
    ck_assert_int_eq(outcomes_lookup(core->outcomes, 2, number, 1, &timestamp),
                     MSHM_OUTCOME_UNKNOWN);
}
END_TEST

START_TEST(log_without_a_manifest_is_no_new_database)
{
    ck_assert_int_eq(start(true), MSHM_OK);
    ck_assert_int_eq(put(1, 10, true), MSHM_OK);
    die(false);
    ck_assert_int_eq(sim_disk_remove(sim_env_disk(sim), "CURRENT"), 0);
    int before = count_entries("wal");
    ck_assert_int_eq(start(true), MSHM_CORRUPT);
    ck_assert_ptr_nonnull(strstr(why, "CURRENT"));
    ck_assert_int_eq(count_entries("wal"), before);
}
END_TEST

START_TEST(manifest_without_its_log_is_refused)
{
    ck_assert_int_eq(start(true), MSHM_OK);
    die(true);
    ck_assert_int_eq(sim_disk_remove(sim_env_disk(sim), "wal/0000000000000001.log"), 0);
    ck_assert_int_eq(start(true), MSHM_CORRUPT);
    ck_assert_ptr_nonnull(strstr(why, "missing"));
}
END_TEST

static void
keep_file(const char *name, uint8_t *bytes, uint64_t *size)
{
    const struct sim_inode *inode = sim_disk_find(sim_env_disk(sim), name);
    ck_assert_ptr_nonnull(inode);
    *size = inode->size;
    memcpy(bytes, inode->cache, inode->size);
}

START_TEST(manifest_that_is_older_than_the_log_is_refused)
{
    static uint8_t manifest[65536];
    uint64_t manifest_size;
    struct sim_inode *inode;
    ck_assert_int_eq(start(true), MSHM_OK);
    uint64_t number = core->manifest.number;
    char name[SIM_NAME_MAX];
    snprintf(name, sizeof name, "MANIFEST-%llu", (unsigned long long)number);
    keep_file(name, manifest, &manifest_size);
    die(false);
    ck_assert_int_eq(start(false), MSHM_OK);
    ck_assert_int_eq(put(1, 10, true), MSHM_OK);
    die(false);
    inode = sim_disk_find(sim_env_disk(sim), name);
    ck_assert_ptr_nonnull(inode);
    sim_inode_write(inode, 0, manifest, manifest_size);
    inode->size = manifest_size;
    ck_assert_int_eq(start(false), MSHM_CORRUPT);
    ck_assert_ptr_nonnull(strstr(why, "older"));
}
END_TEST

START_TEST(refused_open_changes_no_file)
{
    ck_assert_int_eq(start(true), MSHM_OK);
    for (uint64_t i = 0; i < 10; i++)
        ck_assert_int_eq(put(i, 10, true), MSHM_OK);
    die(true);
    struct sim_inode *inode = sim_disk_find(sim_env_disk(sim), "wal/0000000000000001.log");
    sim_disk_rot(inode, 4096 + 200, 1);
    uint64_t calls = sim_env_calls(sim);
    sim_env_fail(sim,
                 SIM_CALL_WRITE | SIM_CALL_SYNC | SIM_CALL_NAMES | SIM_CALL_DIRECTORY_SYNC |
                     SIM_CALL_PREALLOCATE,
                 1, EIO);
    ck_assert_int_eq(start(true), MSHM_CORRUPT);
    ck_assert(!sim_env_failed(sim)); /* none of these calls was made */
    ck_assert_uint_gt(sim_env_calls(sim), calls);
    ck_assert_ptr_nonnull(strstr(why, "0000000000000001.log"));
}
END_TEST

START_TEST(a_log_larger_than_the_cache_is_replayed)
{
    ck_assert_int_eq(start(true), MSHM_OK);
    for (uint64_t i = 0; i < 400; i++)
        ck_assert_int_eq(put(i, 4000, false), MSHM_OK);
    die(false);
    options.cache_size = UINT64_C(1) << 20;
    ck_assert_int_eq(start(false), MSHM_OK);
    ck_assert_uint_eq(AO_load(&core->store->visible), 401);
    ck_assert_uint_ge(AO_load(&core->figures->counters.checkpoints), 1);
    for (uint64_t i = 0; i < 400; i++)
        ck_assert(present(i));
}
END_TEST

START_TEST(F17_full_disk_refuses_the_start_and_harms_nothing)
{
    ck_assert_int_eq(start(true), MSHM_OK);
    ck_assert_int_eq(put(1, 10, true), MSHM_OK);
    die(false);
    sim_env_set_full(sim, true);
    ck_assert_int_eq(start(false), MSHM_FULL);
    die(false);
    sim_env_set_full(sim, false);
    ck_assert_int_eq(start(false), MSHM_OK);
    ck_assert(present(1));
}
END_TEST

/* From the first record that is replayed on. */
static enum sim_death
full_while_replaying(void *argument, unsigned kind)
{
    (void)argument, (void)kind;
    if (core != NULL && core->replaying)
        sim_env_set_full(sim, true);
    return SIM_DEATH_NONE;
}

/* A larger cache would be no help, so nobody may be led to try it. */
START_TEST(F17_full_disk_during_replay_is_told_as_that)
{
    ck_assert_int_eq(start(true), MSHM_OK);
    for (uint64_t i = 0; i < 400; i++)
        ck_assert_int_eq(put(i, 4000, false), MSHM_OK);
    die(false);
    options.cache_size = UINT64_C(1) << 20;
    sim_env_set_call_hook(sim, full_while_replaying, NULL);
    ck_assert_int_eq(start(false), MSHM_FULL);
    ck_assert(!core_cache_short(core));
    ck_assert_msg(strncmp(why, "data: ", 6) == 0 && strstr(why, "make room") != NULL, "%s", why);
    sim_env_set_call_hook(sim, NULL, NULL);
    die(false);
    sim_env_set_full(sim, false);
    ck_assert_int_eq(start(false), MSHM_OK);
    for (uint64_t i = 0; i < 400; i++)
        ck_assert(present(i));
}
END_TEST

static bool outcomes_without_memory;

int __real_outcomes_add(struct outcomes *outcomes, uint64_t incarnation, uint32_t token,
                        uint64_t sequence, uint64_t timestamp);
int __wrap_outcomes_add(struct outcomes *outcomes, uint64_t incarnation, uint32_t token,
                        uint64_t sequence, uint64_t timestamp);
int
__wrap_outcomes_add(struct outcomes *outcomes, uint64_t incarnation, uint32_t token,
                    uint64_t sequence, uint64_t timestamp)
{
    return outcomes_without_memory
               ? MSHM_NO_MEMORY
               : __real_outcomes_add(outcomes, incarnation, token, sequence, timestamp);
}

START_TEST(no_memory_for_whose_commit_it_was_refuses_the_start_and_harms_nothing)
{
    uint64_t timestamp;
    ck_assert_int_eq(start(true), MSHM_OK);
    ck_assert_int_eq(put(1, 10, true), MSHM_OK);
    uint64_t incarnation = core->manifest.incarnation;
    die(false);
    outcomes_without_memory = true;
    ck_assert_int_eq(start(false), MSHM_NO_MEMORY);
    ck_assert_msg(strstr(why, "memory to replay the log") != NULL, "%s", why);
    outcomes_without_memory = false;
    die(false);
    ck_assert_int_eq(start(false), MSHM_OK);
    ck_assert(present(1));
    ck_assert_int_eq(
        outcomes_lookup(core->outcomes, incarnation, (uint32_t)session_number, 1, &timestamp),
        MSHM_OUTCOME_COMMITTED);
}
END_TEST

/* Gives each sector of the log that changed since `before` one of the contents it had, by the digits of `choice`. Returns
 * what is left of `choice`; `whole` tells whether every sector has its last content. */
static unsigned
sectors_choose(struct sim_inode *log, const uint8_t *before, const uint8_t *between,
               unsigned choice, bool *whole)
{
    *whole = true;
    for (uint64_t at = 0; at < log->size; at += SIM_SECTOR) {
        const uint8_t *versions[3] = {log->cache + at};
        unsigned count = 1;
        if (memcmp(between + at, log->cache + at, SIM_SECTOR) != 0)
            versions[count++] = between + at;
        if (memcmp(before + at, between + at, SIM_SECTOR) != 0)
            versions[count++] = before + at;
        *whole &= choice % count == 0;
        memmove(log->cache + at, versions[choice % count], SIM_SECTOR);
        memcpy(log->durable + at, log->cache + at, SIM_SECTOR);
        choice /= count;
    }
    return choice;
}

/* Every power cut there can be in a small log: each sector that was not synced keeps its old, an intermediate or its new
 * content, in all combinations. What was synced is there, of the rest the first n commits. */
START_TEST(F11_any_sectors_lost_in_a_power_cut_leave_the_first_commits)
{
    enum { SYNCED = 3, BETWEEN = 5, PUTS = 8, LOG = 65536 };
    static const uint32_t sizes[PUTS] = {10, 300, 20, 1300, 200, 30, 1700, 900};
    static uint8_t before[LOG], between[LOG];
    unsigned choices = 0, found[PUTS + 1] = {0};
    bool whole;
    for (bool more = true; more; choices++) {
        struct sim_inode *log = NULL;
        ck_assert_int_eq(start(true), MSHM_OK);
        for (uint64_t i = 0; i < PUTS; i++) {
            ck_assert_int_eq(put(i, sizes[i], i < SYNCED), MSHM_OK);
            log = sim_disk_find(sim_env_disk(sim), "wal/0000000000000001.log");
            ck_assert(log != NULL && log->size <= LOG);
            if (i == SYNCED - 1)
                memcpy(before, log->cache, log->size);
            if (i == BETWEEN)
                memcpy(between, log->cache, log->size);
        }
        more = sectors_choose(log, before, between, choices, &whole) == 0;
        die(false);
        int status = start(false);
        ck_assert_msg(status == MSHM_OK, "choice %u: %d %s", choices, status, why);
        unsigned count = 0;
        while (count < PUTS && present(count))
            count++;
        ck_assert_msg(count >= SYNCED && (!whole || count == PUTS), "choice %u: %u", choices,
                      count);
        for (unsigned i = count; i < PUTS; i++)
            ck_assert_msg(!present(i), "choice %u: %u without %u", choices, i, count);
        ck_assert_uint_eq(AO_load(&core->store->visible), 1 + count);
        ck_assert_int_eq(core_check(core, &(const char *){NULL}), MSHM_OK);
        found[count]++;
        tear_down();
        set_up();
    }
    ck_assert_uint_gt(choices, 500);
    ck_assert(found[SYNCED] > 0 && found[SYNCED + 1] + found[SYNCED + 2] + found[SYNCED + 3] > 0 &&
              found[PUTS] > 0);
}
END_TEST

START_TEST(leftovers_of_dead_incarnations_are_removed)
{
    struct sim_inode *inode;
    ck_assert_int_eq(start(true), MSHM_OK);
    for (uint64_t i = 0; i < 200; i++) /* far enough that the next segment is prepared */
        ck_assert_int_eq(put(i, 200, true), MSHM_OK);
    die(false);
    ck_assert_int_eq(sim_disk_create_file(sim_env_disk(sim), "wal/00000000000000aa.tmp", &inode),
                     0);
    ck_assert_int_eq(sim_disk_create_file(sim_env_disk(sim), "CURRENT.tmp", &inode), 0);
    ck_assert_int_eq(sim_disk_create_file(sim_env_disk(sim), "MANIFEST-99", &inode), 0);
    ck_assert_int_eq(start(false), MSHM_OK);
    ck_assert_ptr_null(sim_disk_find(sim_env_disk(sim), "wal/00000000000000aa.tmp"));
    ck_assert_ptr_null(sim_disk_find(sim_env_disk(sim), "CURRENT.tmp"));
    ck_assert_ptr_null(sim_disk_find(sim_env_disk(sim), "MANIFEST-99"));
    die(false);
    int before = count_entries("wal");
    for (int i = 0; i < 5; i++) { /* incarnations that do nothing leave nothing */
        ck_assert_int_eq(start(false), MSHM_OK);
        die(i % 2 == 0);
    }
    ck_assert_int_le(count_entries("wal"), before + 1);
}
END_TEST

/* Creation and recovery die at every call, three deep, with and without the power: what was acknowledged stays. */
START_TEST(F8_recovery_dies_again_and_again_and_nothing_is_lost)
{
    for (uint64_t n = 1; n < 90; n++) {
        sim_env_die(sim, false);
        stop();
        sim_env_destroy(sim);
        begin(n);
        bool served = false;
        for (uint64_t depth = 0; depth < 3; depth++) {
            sim_env_die_at(sim, 1 + (n * (depth + 1)) % 90, (n + depth) % 2 == 0);
            if (start(true) == MSHM_OK && !sim_env_dead(sim) && !served) {
                sim_env_die_at(sim, 0, false);
                ck_assert_int_eq(put(n, 100, true), MSHM_OK);
                served = true;
            }
            die(depth % 2 == 0);
        }
        int status = start(true);
        ck_assert_msg(status == MSHM_OK, "n %d: %d %s", (int)n, status, why);
        if (served)
            ck_assert(present(n));
    }
}
END_TEST

/* Each call of a recovery fails once: the start fails with an error, and the next one succeeds. */
START_TEST(F20_error_at_any_call_of_a_recovery_fails_the_start_and_harms_nothing)
{
    ck_assert_int_eq(start(true), MSHM_OK);
    for (uint64_t i = 0; i < 20; i++)
        ck_assert_int_eq(put(i, 100, i % 3 == 0), MSHM_OK);
    die(false);
    int failures = 0;
    for (uint64_t n = 1;; n++) {
        sim_env_fail(sim, 0xff, n, EIO);
        int status = start(false);
        bool failed = sim_env_failed(sim);
        die(false);
        if (!failed)
            break;
        failures += status != MSHM_OK; /* tidying up may fail without harm */
        ck_assert_int_eq(start(false), MSHM_OK);
        for (uint64_t i = 0; i < 20; i++)
            ck_assert(present(i));
        ck_assert_int_eq(checkpoint_run(core), MSHM_OK); /* else each start leaves a segment */
        for (uint64_t i = 0; i < 20; i++)
            ck_assert_int_eq(put(i, 100, i % 3 == 0), MSHM_OK);
        die(n % 2 == 0);
        ck_assert_uint_lt(n, 500);
    }
    ck_assert_int_gt(failures, 20);
}
END_TEST

int
main(void)
{
    Suite *suite = suite_create("recovery");
    TCase *tests = tcase_create("recovery");
    tcase_set_timeout(tests, 60);
    tcase_add_checked_fixture(tests, set_up, tear_down);
    tcase_add_test(tests, nothing_is_made_where_nothing_is_and_creation_is_not_wanted);
    tcase_add_test(tests, new_database_has_a_bucket_and_survives_a_power_cut_at_once);
    tcase_add_test(tests, commits_of_both_levels_are_found_again);
    tcase_add_test(tests, unanswered_commits_are_looked_up_by_token);
    tcase_add_test(tests, log_without_a_manifest_is_no_new_database);
    tcase_add_test(tests, manifest_without_its_log_is_refused);
    tcase_add_test(tests, manifest_that_is_older_than_the_log_is_refused);
    tcase_add_test(tests, refused_open_changes_no_file);
    tcase_add_test(tests, a_log_larger_than_the_cache_is_replayed);
    tcase_add_test(tests, F17_full_disk_refuses_the_start_and_harms_nothing);
    tcase_add_test(tests, F17_full_disk_during_replay_is_told_as_that);
    tcase_add_test(tests, no_memory_for_whose_commit_it_was_refuses_the_start_and_harms_nothing);
    tcase_add_test(tests, F11_any_sectors_lost_in_a_power_cut_leave_the_first_commits);
    tcase_add_test(tests, leftovers_of_dead_incarnations_are_removed);
    tcase_add_test(tests, F8_recovery_dies_again_and_again_and_nothing_is_lost);
    tcase_add_test(tests, F20_error_at_any_call_of_a_recovery_fails_the_start_and_harms_nothing);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
