/* memory_test.c - memory that a control group limits: a cache that cannot fit is refused, and a broker that the kernel kills for
 * memory has lost nothing. */
#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "bench/machine.h"
#include "support/broker.h"
#include "support/client.h"
#include "support/load.h"

enum { MIB = 1 << 20, LIMIT_MIB = 96 };

static char scratch[SCRATCH_PATH], path[SCRATCH_PATH];
static struct machine_limit limit;
static bool limited;

static void
setup(void)
{
    const char *why = "";

    scratch_create(scratch);
    scratch_join(path, scratch, "db");
    limited = machine_limit_create(&limit, (uint64_t)LIMIT_MIB * MIB, &why);
    if (!limited)
        printf("f10 skipped: %s\n", why);
}

static void
teardown(void)
{
    machine_limit_remove(&limit);
    scratch_remove(scratch);
}

static int
sanitized(void)
{
    const char *sanitizers = getenv("MACE_SANITIZE");

    return sanitizers != NULL && sanitizers[0] != '\0';
}

static void
enter(void *argument)
{
    (void)argument;
    if (!machine_limit_enter(&limit))
        _exit(125);
}

/* Who has to go first when memory runs out: 1000, at once; -1000, never. */
static bool
oom_score_set(const char *score)
{
    int fd = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);
    bool set = fd >= 0 && write(fd, score, strlen(score)) == (ssize_t)strlen(score);

    close(fd);
    return set;
}

static void
enter_as_victim(void *argument)
{
    enter(argument);
    if (!oom_score_set("1000"))
        _exit(125);
}

START_TEST(f10_a_cache_larger_than_the_control_group_allows_is_refused_with_both_sizes)
{
    struct broker_options too_large = {.arguments = {"--cache", "96M"}, .prepare = enter};
    struct broker_options fitting = {.arguments = {"--cache", "16M"}, .prepare = enter};
    struct broker broker;

    if (!limited)
        return;
    broker_launch(&broker, path, &too_large);
    ck_assert_int_eq(broker_ready(&broker), MACE_NO_MEMORY);
    int end = broker_wait(&broker);
    ck_assert(WIFEXITED(end) && WEXITSTATUS(end) == 1);
    ck_assert(broker_log_has(&broker, "a cache of 96 MiB"));
    ck_assert(broker_log_has(&broker, "allows 96 MiB"));
    ck_assert_int_ne(access(path, F_OK), 0); /* and nothing was made */
    if (sanitized())                         /* needs more than it says */
        return;
    broker_start(&broker, path, &fitting);
    broker_finish(&broker);
}
END_TEST

/* In the broker's group: takes memory until it is killed. A broker that may makes itself a late victim; then this process may
 * make itself none. */
static void
hog_run(int channel, void *argument)
{
    (void)channel;
    (void)oom_score_set("-1000");
    enter(argument);
    for (;;) {
        char *more = mmap(NULL, MIB, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        require(more != MAP_FAILED, "%s", strerror(errno));
        memset(more, 1, MIB);
    }
}

START_TEST(f10_a_broker_that_is_killed_for_memory_loses_nothing)
{
    struct broker_options options = {.arguments = {"--cache", "16M"}, .prepare = enter_as_victim};
    struct load_board *board;
    struct broker broker;
    struct worker hog;

    if (!limited || sanitized())
        return;
    board = load_board_create();
    broker_start(&broker, path, &options);
    mace *db = client_open(path);
    mace_bucket *bucket = client_bucket(db, "default");
    for (unsigned i = 0; i < 200; i++)
        ck_assert_int_eq(load_commit(db, bucket, board, i % 3, i % 10 == 0 ? MACE_SYNC : MACE_OS),
                         MACE_OK);
    worker_start(&hog, hog_run, NULL);
    int end = broker_wait(&broker);
    worker_kill(&hog);
    ck_assert_msg(WIFSIGNALED(end) && WTERMSIG(end) == SIGKILL, "it ended with %x", (unsigned)end);
    ck_assert_int_eq(client_put(db, bucket, "x", "y"), MACE_BROKER_LOST);
    broker_start(&broker, path, NULL);
    ck_assert_uint_eq(load_check_all(db, bucket, board), 200);
    mace_close(db);
    broker_finish(&broker);
    load_board_destroy(board);
}
END_TEST

int
main(void)
{
    Suite *suite = suite_create("faults of memory");
    TCase *cases = tcase_create("memory");
    SRunner *runner;

    tcase_set_timeout(cases, 0);
    tcase_add_checked_fixture(cases, setup, teardown);
    tcase_add_test(cases,
                   f10_a_cache_larger_than_the_control_group_allows_is_refused_with_both_sizes);
    tcase_add_test(cases, f10_a_broker_that_is_killed_for_memory_loses_nothing);
    suite_add_tcase(suite, cases);
    runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
