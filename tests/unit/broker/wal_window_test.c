/* A log segment read through a window: every byte is the segment's, whatever is asked for in whatever order, and what was
 * asked for is there in one piece. */
#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "mshm/status.h"
#include "sim/sim_env.h"
#include "wal_segment.h"
#include "wal_window.h"

enum { SIZE = 3 * 1024 * 1024 + 480, LARGE = 2 * 1024 * 1024 };

static struct sim_env *sim;
static const struct env *env;
static uint8_t *truth;
static struct wal_window window;
static struct wal_found found;
static struct sim_random chance;

static void
set_up(void)
{
    char name[WAL_NAME_SIZE];
    struct env_file *file;
    sim = sim_env_create(1);
    env = sim_env_interface(sim);
    chance = (struct sim_random){7};
    truth = malloc(SIZE);
    for (uint64_t i = 0; i + 8 <= SIZE; i += 8) {
        uint64_t random = sim_random_next(&chance);
        memcpy(truth + i, &random, sizeof random);
    }
    found = (struct wal_found){.number = 3, .file_size = SIZE, .header = {.segment_size = SIZE}};
    wal_segment_name(name, found.number, "log");
    ck_assert_int_eq(env->directory_create(env->context, "wal"), 0);
    ck_assert_int_eq(env->file_open(env->context, name, ENV_OPEN_CREATE | ENV_OPEN_WRITE, &file),
                     0);
    ck_assert_int_eq(env->file_write(env->context, file, 0, truth, SIZE), 0);
    env->file_close(env->context, file);
    window = (struct wal_window){0};
}

static void
tear_down(void)
{
    wal_window_fini(&window);
    sim_env_destroy(sim);
    free(truth);
}

static void
take(uint64_t offset, uint64_t size, uint64_t end)
{
    const uint8_t *bytes = NULL;
    uint64_t available = 0, left = offset < end ? end - offset : 0;
    ck_assert_int_eq(wal_window_take(&window, offset, size, &bytes, &available), MSHM_OK);
    ck_assert_uint_ge(available, size < left ? size : left);
    ck_assert_uint_le(available, left);
    if (available > 0)
        ck_assert_mem_eq(bytes, truth + offset, available);
}

START_TEST(window_shows_what_the_segment_holds)
{
    ck_assert_int_eq(wal_window_open(&window, env, &found), MSHM_OK);
    for (uint64_t at = 0; at <= SIZE; at += 4096 + sim_random_below(&chance, 300000))
        take(at, 1 + sim_random_below(&chance, 100000), SIZE); /* onwards, as the walk does */
    ck_assert_uint_le(window.capacity, 1024 * 1024);
    for (int i = 0; i < 60; i++)
        take(sim_random_below(&chance, SIZE + 100),
             sim_random_below(&chance, sim_random_chance(&chance, 10) ? LARGE : 5000), SIZE);
    take(16, LARGE, SIZE);
    take(0, SIZE + 1, SIZE);
    take(SIZE, 16, SIZE);
}
END_TEST

START_TEST(window_ends_where_the_segment_or_its_file_does)
{
    found.header.segment_size = SIZE / 2;
    ck_assert_int_eq(wal_window_open(&window, env, &found), MSHM_OK);
    take(SIZE / 2 - 100, 200, SIZE / 2);
    found.header.segment_size = SIZE * 2;
    found.file_size = SIZE * 2; /* as the directory said a while ago */
    ck_assert_int_eq(wal_window_open(&window, env, &found), MSHM_OK);
    take(SIZE - 100, 200, SIZE);
    ck_assert_uint_eq(window.end, SIZE);
    take(16, 100, SIZE);
}
END_TEST

START_TEST(window_tells_what_fails)
{
    const uint8_t *bytes;
    uint64_t available;
    ck_assert_int_eq(wal_window_open(&window, env, &found), MSHM_OK);
    take(0, 16, SIZE);
    sim_env_fail(sim, SIM_CALL_READ, 1, 5);
    ck_assert_int_eq(wal_window_take(&window, LARGE, 16, &bytes, &available), MSHM_IO);
    take(LARGE, 16, SIZE);
    take(0, 16, SIZE);
    sim_env_fail(sim, SIM_CALL_READ, 1, 5);
    ck_assert_int_eq(wal_window_take(&window, 0, LARGE, &bytes, &available), MSHM_IO);
    take(0, 16, SIZE); /* in another piece of memory */
    found.number = 4;
    ck_assert_int_ne(wal_window_open(&window, env, &found), MSHM_OK);
}
END_TEST

int
main(void)
{
    Suite *suite = suite_create("wal_window");
    TCase *tests = tcase_create("wal_window");
    tcase_add_checked_fixture(tests, set_up, tear_down);
    tcase_add_test(tests, window_shows_what_the_segment_holds);
    tcase_add_test(tests, window_ends_where_the_segment_or_its_file_does);
    tcase_add_test(tests, window_tells_what_fails);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
