/* backup_test.c - copies of a database that is being written to: each is the state of one commit, and no half copy is taken
 * for a database. mace-check beside the same load.
 */
#include <check.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "support/broker.h"
#include "support/client.h"
#include "support/load.h"
#include "support/tool.h"

enum { WRITERS = 2, WRITER_SLOTS = 16, COPIES = 5, LOOKS = 12, KILLS = 24 };

/* Everything small: checkpoints, new data files, removed ones and log segments that are used again come by the dozen. */
static const struct broker_options small = {
    .arguments = {"--cache", "4M", "--segment-size", "256K", "--checkpoint-log", "1M",
                  "--data-file-size", "2M", "--checkpoint-interval", "20"}};

static char scratch[SCRATCH_PATH], path[SCRATCH_PATH];
static struct broker broker;
static struct load_board *board;
static struct load_worker writers[WRITERS];
static struct worker processes[WRITERS];
static uint64_t base; /* newest commit before the first one of the load */

static void
setup(void)
{
    mace_bucket_options options;
    mace_bucket *bucket;
    scratch_create(scratch);
    scratch_join(path, scratch, "db");
    board = load_board_create();
    broker_start(&broker, path, &small);
    mace *db = client_open(path);
    mace_bucket_options_init(&options);
    options.page_size = 4096;
    require_ok(mace_bucket_create(db, "load", &options, &bucket));
    base = client_newest(db);
    mace_bucket_close(bucket);
    mace_close(db);
}

static void
teardown(void)
{
    load_board_destroy(board);
    scratch_remove(scratch);
}

static void
load_begin(void)
{
    for (unsigned i = 0; i < WRITERS; i++) {
        writers[i] = (struct load_worker){.board = board,
                                          .path = path,
                                          .bucket = "load",
                                          .first_slot = i * WRITER_SLOTS,
                                          .slots = WRITER_SLOTS,
                                          .pause_us = 20,
                                          .seed = 7 + i};
        worker_start(&processes[i], load_worker_run, &writers[i]);
    }
}

static void
load_end(void)
{
    AO_store_release(&board->stop, 1);
    for (unsigned i = 0; i < WRITERS; i++)
        worker_join(&processes[i]);
    AO_store_release(&board->stop, 0);
}

static void
load_progress(uint64_t count)
{
    uint64_t before = load_commits(board);
    wait_for(load_commits(board) >= before + count);
}

static mace_stat
figures(void)
{
    mace *db = client_open(path);
    mace_stat stat = client_stat(db);
    mace_close(db);
    return stat;
}

/* How many data files were removed so far: they have numbers from 1 on. */
static unsigned
files_removed(void)
{
    char joined[SCRATCH_PATH];
    unsigned count = 0, highest = 0;
    scratch_join(joined, path, "data");
    DIR *stream = opendir(joined);
    const struct dirent *entry;
    while (stream != NULL && (entry = readdir(stream)) != NULL) {
        unsigned number = (unsigned)strtoul(entry->d_name, NULL, 16);
        count += number != 0;
        highest = number > highest ? number : highest;
    }
    if (stream != NULL)
        closedir(stream);
    return highest - count;
}

/* --- copies --- */

struct copy {
    char path[SCRATCH_PATH];
    uint64_t commit; /* as mace-dump says */
    uint64_t least[LOAD_SLOTS], most[LOAD_SLOTS];
};

static void
copy_take(struct copy *copy, unsigned number)
{
    char output[TOOL_OUTPUT], name[20];
    snprintf(name, sizeof name, "copy%u", number);
    scratch_join(copy->path, scratch, name);
    for (unsigned slot = 0; slot < LOAD_SLOTS; slot++)
        copy->least[slot] = AO_load_acquire(&board->slots[slot].acked);
    int status = tool_run(output, "mace-dump", "--physical", copy->path, path, NULL);
    ck_assert_msg(status == 0, "mace-dump: %d\n%s", status, output);
    for (unsigned slot = 0; slot < LOAD_SLOTS; slot++)
        copy->most[slot] = AO_load_acquire(&board->slots[slot].intended);
    const char *word = strstr(output, ": commit ");
    ck_assert_msg(word != NULL, "%s", output);
    copy->commit = strtoull(word + strlen(": commit "), NULL, 10);
}

/* The state of one commit: each slot whole, none behind what was acknowledged before the copy was begun, none ahead of what
 * was tried before it was done, and together exactly as many as the number of that commit says. */
static void
copy_check(const struct copy *copy, bool exact)
{
    uint64_t sum = base;
    mace_txn *txn;
    tool_check_sound(copy->path);
    mace *db = client_open_starting(copy->path, 100);
    mace_bucket *bucket = client_bucket(db, "load");
    uint64_t newest = client_newest(db);
    require_ok(mace_begin(db, MACE_RDONLY, &txn));
    for (unsigned slot = 0; slot < LOAD_SLOTS; slot++) {
        uint64_t n = load_check(txn, bucket, slot);
        ck_assert_uint_ge(n, copy->least[slot]);
        ck_assert_uint_le(n, copy->most[slot]);
        sum += n;
    }
    mace_abort(txn);
    ck_assert_uint_eq(sum, newest);
    if (exact)
        ck_assert_uint_eq(newest, copy->commit);
    /* And it is one that can be written to, with files of its own. */
    require_ok(client_put(db, bucket, "s/own", "of the copy"));
    require_ok(mace_checkpoint(db));
    mace_bucket_close(bucket);
    mace_close(db);
    tool_check_sound(copy->path);
}

START_TEST(a_copy_made_under_load_is_the_state_of_one_commit)
{
    static struct copy copies[COPIES];
    load_begin();
    load_progress(2000);
    mace_stat before = figures();
    unsigned removed = files_removed();
    for (unsigned i = 0; i < COPIES; i++) {
        copy_take(&copies[i], i);
        load_progress(1000);
    }
    mace_stat after = figures();
    load_end();
    /* It was worth something: files and segments went away and came again meanwhile. */
    ck_assert_uint_gt(after.checkpoints, before.checkpoints + COPIES);
    ck_assert_uint_gt(after.log_recycled + after.log_removed,
                      before.log_recycled + before.log_removed + COPIES);
    ck_assert_uint_gt(files_removed(), removed);
    for (unsigned i = 0; i < COPIES; i++) {
        copy_check(&copies[i], true);
        ck_assert_msg(i == 0 || copies[i].commit > copies[i - 1].commit, "copy %u", i);
    }
    /* What the copies' brokers wrote is nowhere in the database that they were made from. */
    mace *db = client_open(path);
    mace_bucket *bucket = client_bucket(db, "load");
    ck_assert_uint_eq(load_check_all(db, bucket, board) + base, client_newest(db));
    ck_assert(client_absent(db, bucket, "s/own"));
    mace_bucket_close(bucket);
    mace_close(db);
    broker_finish(&broker);
    tool_check_sound(path);
}
END_TEST

START_TEST(a_copy_of_a_killed_database_has_every_commit_that_was_acknowledged)
{
    static struct copy copy;
    load_begin();
    load_progress(1500);
    broker_kill(&broker);
    AO_store_release(&board->stop, 1);
    for (unsigned i = 0; i < WRITERS; i++)
        worker_join(&processes[i]);
    copy_take(&copy, 0);
    copy_check(&copy, false);
    tool_check_sound(path);
}
END_TEST

/* --- a copy cut short --- */

static bool
has_entry(const char *directory, const char *room, const char *suffix)
{
    char joined[SCRATCH_PATH];
    bool found = false;
    scratch_join(joined, directory, room);
    DIR *stream = opendir(joined);
    const struct dirent *entry;
    while (stream != NULL && !found && (entry = readdir(stream)) != NULL)
        found = strlen(entry->d_name) > strlen(suffix) &&
                strcmp(entry->d_name + strlen(entry->d_name) - strlen(suffix), suffix) == 0;
    if (stream != NULL)
        closedir(stream);
    return found;
}

/* Whole, or nothing, or refused. */
static void
half_copy_check(const char *copy)
{
    char current[SCRATCH_PATH];
    mace *db;
    scratch_join(current, copy, "CURRENT");
    if (access(current, F_OK) == 0) {
        tool_check_sound(copy);
        db = client_open_starting(copy, 100);
        mace_bucket_close(client_bucket(db, "load"));
        mace_close(db);
        return;
    }
    if (!has_entry(copy, "wal", ".log") && !has_entry(copy, "data", ".dat"))
        return;
    mace_options options;
    mace_options_init(&options);
    options.cache_size = 16 << 20;
    options.connect_timeout_ms = 60000;
    ck_assert_int_eq(mace_open(copy, &options, &db), MACE_CORRUPT);
}

static uint64_t
copy_duration(void)
{
    char output[TOOL_OUTPUT], copy[SCRATCH_PATH];
    scratch_join(copy, scratch, "measure");
    uint64_t before = process_time_ns();
    ck_assert_int_eq(tool_run(output, "mace-dump", "--no-verify", "-p", copy, path, NULL), 0);
    return process_time_ns() - before;
}

START_TEST(a_copy_that_is_killed_is_whole_or_refused)
{
    unsigned killed = 0;
    load_begin();
    load_progress(1500);
    load_end();
    uint64_t duration = copy_duration();
    for (unsigned i = 0; i < KILLS; i++) {
        char copy[SCRATCH_PATH], name[20];
        struct tool tool;
        snprintf(name, sizeof name, "half%u", i);
        scratch_join(copy, scratch, name);
        tool_start(&tool, "mace-dump",
                   (const char *const[]){"--no-verify", "-p", copy, path, NULL});
        usleep((useconds_t)(duration / 1000 * (i + 1) / KILLS));
        kill(tool.pid, SIGKILL);
        killed += WIFSIGNALED(tool_wait(&tool, NULL));
        half_copy_check(copy);
        scratch_remove(copy);
    }
    ck_assert_uint_gt(killed, 0);
    broker_finish(&broker);
    tool_check_sound(path);
}
END_TEST

/* What is left when CURRENT and the log are lost is somebody's data, and no place for a new database. */
START_TEST(data_files_alone_are_not_taken_for_a_new_database)
{
    char joined[SCRATCH_PATH];
    mace *db;
    mace_options options;
    load_begin();
    load_progress(200);
    load_end();
    broker_finish(&broker);
    scratch_join(joined, path, "CURRENT");
    ck_assert_int_eq(unlink(joined), 0);
    scratch_join(joined, path, "wal");
    scratch_remove(joined);
    ck_assert(has_entry(path, "data", ".dat"));
    mace_options_init(&options);
    options.cache_size = 16 << 20;
    options.connect_timeout_ms = 60000;
    ck_assert_int_eq(mace_open(path, &options, &db), MACE_CORRUPT);
    ck_assert(has_entry(path, "data", ".dat"));
}
END_TEST

/* --- mace-check beside a load --- */

START_TEST(a_look_beside_a_loaded_broker_finds_nothing_wrong)
{
    char output[TOOL_OUTPUT];
    unsigned clean = 0;
    load_begin();
    load_progress(500);
    mace_stat before = figures();
    for (unsigned i = 0; i < LOOKS; i++) {
        int status = tool_run(output, "mace-check", "--online", path, NULL);
        ck_assert_msg(status != 1, "a false alarm:\n%s", output);
        clean += status == 0;
        load_progress(200);
    }
    ck_assert_uint_gt(figures().checkpoints, before.checkpoints);
    load_end();
    ck_assert_uint_gt(clean, 0);
    tool_check_sound_online(path);
    broker_finish(&broker);
    tool_check_sound(path);
}
END_TEST

static Suite *
backup_suite(void)
{
    Suite *suite = suite_create("backup");
    TCase *tests = tcase_create("backup");
    tcase_set_timeout(tests, 300);
    tcase_add_checked_fixture(tests, setup, teardown);
    tcase_add_test(tests, a_copy_made_under_load_is_the_state_of_one_commit);
    tcase_add_test(tests, a_copy_of_a_killed_database_has_every_commit_that_was_acknowledged);
    tcase_add_test(tests, a_copy_that_is_killed_is_whole_or_refused);
    tcase_add_test(tests, data_files_alone_are_not_taken_for_a_new_database);
    tcase_add_test(tests, a_look_beside_a_loaded_broker_finds_nothing_wrong);
    suite_add_tcase(suite, tests);
    return suite;
}

int
main(void)
{
    SRunner *runner = srunner_create(backup_suite());
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
