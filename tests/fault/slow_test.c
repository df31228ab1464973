/* slow_test.c - a disk that does not answer for long: everybody waits or reads on, the figures say why, and nobody is taken for
 * dead. */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

#include "fault/fault.h"
#include "support/client.h"
#include "support/load.h"

static char scratch[SCRATCH_PATH], path[SCRATCH_PATH];
static struct fault_control *control;
static struct broker_options options;
static struct load_board *board;
static struct broker broker;
static mace *db;
static mace_bucket *bucket;

static void
setup(void)
{
    scratch_create(scratch);
    scratch_join(path, scratch, "db");
    control = fault_control_create(scratch);
    if (control == NULL)
        return;
    board = load_board_create();
    fault_options(&options);
    broker_start(&broker, path, &options);
    db = client_open(path);
    bucket = client_bucket(db, "default");
    for (unsigned i = 0; i < 60; i++)
        ck_assert_int_eq(load_commit(db, bucket, board, i % 3, i % 8 == 0 ? MACE_SYNC : MACE_OS),
                         MACE_OK);
}

static void
teardown(void)
{
    if (control != NULL) {
        load_check_all(db, bucket, board);
        mace_close(db);
        broker_finish(&broker);
        load_board_destroy(board);
    }
    scratch_remove(scratch);
}

static int
skipped(void)
{
    if (control == NULL)
        printf("f22 skipped: nothing can be preloaded under a sanitizer\n");
    return control == NULL;
}

/* Commits at level SYNC until it is told to end. */
static void
writer_run(int channel, void *argument)
{
    mace *mine = client_open(path);
    mace_bucket *own = client_bucket(mine, "default");

    (void)argument;
    channel_tell(channel, 1);
    while (AO_load_acquire(&board->stop) == 0)
        require_ok(load_commit(mine, own, board, 5, MACE_SYNC));
    mace_close(mine);
}

/* Everything that has been committed until now, read by a new session. */
static void
reader_run(int channel, void *argument)
{
    uint64_t *sum = argument;
    mace *mine = client_open(path);
    mace_txn *txn;

    (void)channel;
    require_ok(mace_begin(mine, MACE_RDONLY, &txn));
    mace_bucket *own = client_bucket(mine, "default");
    for (unsigned slot = 0; slot < 3; slot++)
        *sum -= load_check(txn, own, slot);
    require(*sum == 0, "commits are missing");
    mace_abort(txn);
    mace_close(mine);
}

START_TEST(f22_a_disk_that_does_not_answer_is_counted_and_nobody_is_taken_for_dead)
{
    struct worker writer, reader;
    struct broker second;
    mace_options impatient;
    mace *other;
    uint64_t sum = 60;

    if (skipped())
        return;
    worker_start(&writer, writer_run, NULL);
    channel_expect(writer.channel, 1);
    wait_for(AO_load_acquire(&board->slots[5].acked) > 5);
    ck_assert_uint_eq(client_stat(db).disk_stalls, 0);
    AO_store_full(&control->kinds, FAULT_SLOW);
    wait_for(client_stat(db).disk_stalls > 0);
    ck_assert_uint_gt(client_stat(db).disk_unanswered, 0);
    ck_assert(broker_log_has(&broker, "the disk has not answered a request for a second"));
    /* A commit with a limit comes back; reads, a new session, and who would be a second broker are as always. */
    mace_options_init(&impatient);
    impatient.commit_timeout_ms = 100;
    ck_assert_int_eq(mace_open(path, &impatient, &other), MACE_OK);
    mace_bucket *others = client_bucket(other, "default");
    ck_assert_int_eq(client_put(other, others, "late", "x"), MACE_UNKNOWN_OUTCOME);
    worker_start(&reader, reader_run, &sum);
    worker_join(&reader);
    broker_launch(&second, path, &options);
    ck_assert_int_eq(broker_wait(&second), 0);
    uint64_t waiting = AO_load(&board->slots[5].acked);
    ck_assert_uint_eq(client_stat(db).broker_pid, (uint64_t)broker.pid);
    ck_assert_uint_eq(client_stat(db).sessions_ended_dead, 0);
    ck_assert_uint_eq(AO_load(&board->slots[5].acked), waiting);

    AO_store_full(&control->kinds, 0);
    wait_for(AO_load_acquire(&board->slots[5].acked) > waiting + 5);
    wait_for(client_has(db, bucket, "late", "x"));
    ck_assert(broker_log_has(&broker, "the disk answers again"));
    mace_stat stat = client_stat(db);
    ck_assert_uint_eq(stat.disk_unanswered, 0);
    ck_assert_uint_gt(stat.disk_stalls, 0);
    ck_assert_uint_eq(stat.broker_pid, (uint64_t)broker.pid);
    AO_store_release(&board->stop, 1);
    worker_join(&writer);
    mace_close(other);
}
END_TEST

START_TEST(f22_page_reads_that_do_not_end_are_counted_and_end_when_the_disk_answers)
{
    char key[16], value[3000];
    struct worker reader;
    uint64_t sum = 60;

    if (skipped())
        return;
    /* So much that the pages of the load leave memory. */
    memset(value, 'v', sizeof value);
    for (unsigned i = 0; i < 16000; i++) {
        snprintf(key, sizeof key, "other%u", i);
        ck_assert_int_eq(mace_put1(db, bucket, key, strlen(key), value, sizeof value), MACE_OK);
    }
    ck_assert_int_eq(mace_checkpoint(db), MACE_OK);
    uint64_t stalls = client_stat(db).disk_stalls;
    AO_store_full(&control->kinds, FAULT_SLOW);
    worker_start(&reader, reader_run, &sum);
    wait_for(client_stat(db).disk_stalls > stalls);
    ck_assert_uint_eq(client_stat(db).sessions_ended_dead, 0);
    AO_store_full(&control->kinds, 0);
    worker_join(&reader);
    wait_for(client_stat(db).disk_unanswered == 0);
}
END_TEST

int
main(void)
{
    Suite *suite = suite_create("a slow disk");
    TCase *cases = tcase_create("slow");
    SRunner *runner;

    tcase_set_timeout(cases, 0);
    tcase_add_checked_fixture(cases, setup, teardown);
    tcase_add_test(cases, f22_a_disk_that_does_not_answer_is_counted_and_nobody_is_taken_for_dead);
    tcase_add_test(cases, f22_page_reads_that_do_not_end_are_counted_and_end_when_the_disk_answers);
    suite_add_tcase(suite, cases);
    runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
