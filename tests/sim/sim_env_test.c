/* sim_env_test.c - the simulated environment itself: reads and jobs under way, planned faults, flipped bits. */
#include "sim/sim_env.h"

#include <check.h>
#include <errno.h>
#include <string.h>

enum { READS = 300, SIZE = 64 };

static struct sim_env *sim;
static const struct env *env;

static void
start(uint64_t seed)
{
    sim = sim_env_create(seed);
    env = sim_env_interface(sim);
    ck_assert_int_eq(env->directory_create(env->context, "data"), 0);
}

static void
setup(void)
{
    start(1);
}

static void
teardown(void)
{
    sim_env_destroy(sim);
}

static struct env_file *
file_make(const char *name)
{
    static uint8_t bytes[READS * SIZE];
    struct env_file *file;

    for (unsigned i = 0; i < READS; i++)
        memset(bytes + i * SIZE, (int)(i % 251), SIZE);
    ck_assert_int_eq(env->file_open(env->context, name, ENV_OPEN_CREATE | ENV_OPEN_WRITE, &file),
                     0);
    ck_assert_int_eq(env->file_write(env->context, file, 0, bytes, sizeof(bytes)), 0);
    return file;
}

static struct env_completion
wait_one(void)
{
    struct env_completion ended;

    for (int i = 0; env->poll(env->context, &ended, 1) == 0; i++) {
        ck_assert_int_lt(i, 1000000);
        sim_env_advance(sim, 1000);
    }
    return ended;
}

static uint8_t places[READS][SIZE];

/* Starts all, checks their bytes and writes the order of their ends. */
static void
read_all(struct env_file *file, uint64_t order[READS])
{
    for (unsigned i = 0; i < READS; i++)
        env->file_read_start(env->context, file, i * SIZE, places[i], SIZE, i);
    for (unsigned i = 0; i < READS; i++) {
        struct env_completion ended = wait_one();
        ck_assert_int_eq(ended.result, SIZE);
        for (unsigned j = 0; j < SIZE; j++)
            ck_assert_uint_eq(places[ended.tag][j], ended.tag % 251);
        order[i] = ended.tag;
    }
    ck_assert(!sim_env_busy(sim));
}

START_TEST(reads_end_in_an_order_that_follows_from_the_seed)
{
    uint64_t orders[3][READS];

    for (unsigned run = 0; run < 3; run++) {
        teardown();
        start(run < 2 ? 5 : 6);
        struct env_file *file = file_make("data/f");
        read_all(file, orders[run]);
        env->file_close(env->context, file);
    }
    ck_assert_mem_eq(orders[0], orders[1], sizeof(orders[0]));
    ck_assert_mem_ne(orders[0], orders[2], sizeof(orders[0]));
}
END_TEST

START_TEST(a_read_brings_nothing_before_it_has_ended_and_is_short_at_the_end)
{
    struct env_file *file = file_make("f");
    uint8_t back[SIZE], rubbish[SIZE];

    env->file_read_start(env->context, file, READS * SIZE - 10, back, SIZE, 7);
    memset(rubbish, 0xa5, sizeof(rubbish));
    ck_assert_mem_eq(back, rubbish, SIZE);
    struct env_completion ended = wait_one();
    ck_assert_uint_eq(ended.tag, 7);
    ck_assert_int_eq(ended.result, 10);
    env->file_close(env->context, file);
}
END_TEST

START_TEST(the_read_that_was_chosen_fails_and_only_that_one)
{
    struct env_file *file = file_make("f");
    unsigned failed = 0;

    sim_env_fail(sim, SIM_CALL_READ, 40, EIO);
    for (unsigned i = 0; i < 100; i++)
        env->file_read_start(env->context, file, 0, places[i], SIZE, i);
    for (unsigned i = 0; i < 100; i++)
        failed += wait_one().result == -EIO;
    ck_assert_uint_eq(failed, 1);
    ck_assert(sim_env_failed(sim));
    env->file_close(env->context, file);
}
END_TEST

START_TEST(reads_under_way_are_forgotten_with_their_process)
{
    struct env_file *file = file_make("f");
    struct env_completion ended;

    for (unsigned i = 0; i < 100; i++)
        env->file_read_start(env->context, file, 0, places[i], SIZE, i);
    sim_env_die(sim, false);
    sim_env_restart(sim);
    ck_assert(!sim_env_busy(sim));
    sim_env_advance(sim, 1000000000);
    ck_assert_uint_eq(env->poll(env->context, &ended, 1), 0);
}
END_TEST

static unsigned run_count;

static int
job_run(void *argument)
{
    return (int)run_count++ + *(int *)argument;
}

START_TEST(several_jobs_are_under_way_and_end_in_any_order)
{
    bool turned = false;
    uint64_t last = 0;
    int thousand = 1000;

    run_count = 0;
    for (unsigned i = 0; i < 20; i++)
        env->job_start(env->context, job_run, &thousand, i);
    ck_assert_uint_eq(run_count, 0);
    for (unsigned i = 0; i < 20; i++) {
        struct env_completion ended = wait_one();
        ck_assert_int_ge(ended.result, 1000);
        turned = turned || ended.tag < last;
        last = ended.tag;
    }
    ck_assert_uint_eq(run_count, 20);
    ck_assert(turned);
}
END_TEST

START_TEST(an_append_that_grows_a_file_meets_the_full_disk)
{
    struct env_file *file = file_make("f");

    sim_env_set_full(sim, true);
    env->file_append(env->context, file, 0, places, SIZE, true, 1);
    ck_assert_int_eq(wait_one().result, 0);
    env->file_append(env->context, file, READS * SIZE, places, SIZE, true, 2);
    ck_assert_int_eq(wait_one().result, -ENOSPC);
    sim_env_set_full(sim, false);
    env->file_append(env->context, file, READS * SIZE, places, SIZE, true, 3);
    ck_assert_int_eq(wait_one().result, 0);
    env->file_close(env->context, file);
}
END_TEST

START_TEST(a_flipped_bit_is_read_now_and_after_a_power_cut)
{
    struct env_file *file = file_make("data/f");
    uint8_t back[1];

    ck_assert_int_eq(env->file_sync(env->context, file), 0);
    ck_assert_int_eq(env->directory_sync(env->context, ""), 0);
    ck_assert_int_eq(env->directory_sync(env->context, "data"), 0);
    ck_assert_int_eq(sim_disk_flip(sim_env_disk(sim), "data/f", 3 * SIZE, 7), 0);
    ck_assert_int_eq(sim_disk_flip(sim_env_disk(sim), "data/g", 0, 0), -ENOENT);
    ck_assert_int_eq(sim_disk_flip(sim_env_disk(sim), "data/f", READS * SIZE, 0), -EINVAL);
    ck_assert_int_eq(env->file_read(env->context, file, 3 * SIZE, back, 1), 1);
    ck_assert_uint_eq(back[0], 3 | 0x80);
    sim_env_die(sim, true);
    sim_env_restart(sim);
    ck_assert_int_eq(env->file_open(env->context, "data/f", ENV_OPEN_EXISTING, &file), 0);
    ck_assert_int_eq(env->file_read(env->context, file, 3 * SIZE, back, 1), 1);
    ck_assert_uint_eq(back[0], 3 | 0x80);
    env->file_close(env->context, file);
}
END_TEST

int
main(void)
{
    Suite *suite = suite_create("sim_env");
    TCase *cases = tcase_create("cases");
    SRunner *runner = srunner_create(suite);

    suite_add_tcase(suite, cases);
    tcase_add_checked_fixture(cases, setup, teardown);
    tcase_add_test(cases, reads_end_in_an_order_that_follows_from_the_seed);
    tcase_add_test(cases, a_read_brings_nothing_before_it_has_ended_and_is_short_at_the_end);
    tcase_add_test(cases, the_read_that_was_chosen_fails_and_only_that_one);
    tcase_add_test(cases, reads_under_way_are_forgotten_with_their_process);
    tcase_add_test(cases, several_jobs_are_under_way_and_end_in_any_order);
    tcase_add_test(cases, an_append_that_grows_a_file_meets_the_full_disk);
    tcase_add_test(cases, a_flipped_bit_is_read_now_and_after_a_power_cut);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
