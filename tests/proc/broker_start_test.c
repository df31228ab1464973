/* broker_start_test.c - how mace-broker starts, finds its place taken, refuses to start, and leaves. */
#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "support/broker.h"
#include "support/process.h"
#include "support/raw_client.h"

/* A start writes a whole segment of the log, and most cases start many brokers. */
#define SMALL "--cache", "64M", "--segment-size", "1M"
static const struct broker_options small = {.arguments = {SMALL}};

static char scratch[SCRATCH_PATH], path[SCRATCH_PATH];

static void
setup(void)
{
    scratch_create(scratch);
    ck_assert_int_eq(chmod(scratch, 0755), 0);
    scratch_join(path, scratch, "db");
}

static void
teardown(void)
{
    scratch_remove(scratch);
}

static bool
exists(const char *name)
{
    char full[SCRATCH_PATH];
    struct stat status;

    scratch_join(full, path, name);
    return lstat(full, &status) == 0;
}

/* --- the life of one broker ----------------------------------------------------------------------------------------- */

START_TEST(a_broker_serves_stops_on_a_signal_and_recovers)
{
    static const int signals[] = {SIGTERM, SIGINT, SIGHUP};
    struct broker_options options = {.arguments = {SMALL}};
    struct broker broker;
    struct raw_client client;
    mshm_timestamp visible = 0;

    for (int i = 0; i < 3; i++) {
        broker_start(&broker, path, &options);
        raw_client_open(&client, path);
        ck_assert_uint_ge(AO_load(&client.view.store->visible), visible);
        struct mshm_tree_ref tree = raw_client_tree(&client, "default");
        ck_assert_int_eq(raw_client_put(&client, tree.bucket, "key", "value"), MSHM_OK);
        visible = AO_load(&client.view.store->visible);
        raw_client_close(&client);
        ck_assert_int_eq(kill(broker.pid, signals[i]), 0);
        ck_assert_int_eq(broker_wait(&broker), 0);
        ck_assert(!exists("mace.sock"));
    }
    ck_assert_uint_ge(visible, 3);
}
END_TEST

START_TEST(a_stale_socket_of_a_killed_broker_is_replaced)
{
    static const char *const points[] = {"host:lock_taken", "host:listening", "host:recovered"};
    struct broker broker;

    for (int i = 0; i < 3; i++) {
        struct broker_options options = {.kill_point = points[i], .arguments = {SMALL}};
        broker_launch(&broker, path, &options);
        ck_assert_int_eq(broker_ready(&broker), 1);
        int status = broker_wait(&broker);
        ck_assert_msg(WIFSIGNALED(status), "%s was not reached", points[i]);
        broker_start(&broker, path, &small);
        broker_kill(&broker);
        ck_assert(exists("mace.sock"));
    }
    broker_start(&broker, path, &small);
    broker_finish(&broker);
}
END_TEST

START_TEST(the_process_keeps_its_name_and_the_path_as_argument)
{
    struct broker broker;
    char name[64], text[2000] = "";

    broker_start(&broker, path, &small);
    snprintf(name, sizeof(name), "/proc/%d/comm", (int)broker.pid);
    int fd = open(name, O_RDONLY | O_CLOEXEC);
    ck_assert_int_gt(read(fd, text, sizeof(text) - 1), 0);
    ck_assert_str_eq(text, "mace-broker\n");
    close(fd);
    snprintf(name, sizeof(name), "/proc/%d/cmdline", (int)broker.pid);
    fd = open(name, O_RDONLY | O_CLOEXEC);
    ssize_t size = read(fd, text, sizeof(text) - 1);
    close(fd);
    ck_assert_ptr_nonnull(memmem(text, (size_t)size, path, strlen(path) + 1));
    broker_finish(&broker);
}
END_TEST

static void
close_standard(void *argument)
{
    (void)argument;
    close(0);
    close(1);
    close(2);
}

START_TEST(closed_standard_descriptors_never_become_files_of_the_database)
{
    struct broker_options options = {.prepare = close_standard, .arguments = {SMALL}};
    struct broker broker;
    char name[64], target[200];

    broker_start(&broker, path, &options);
    for (int i = 0; i < 3; i++) {
        snprintf(name, sizeof(name), "/proc/%d/fd/%d", (int)broker.pid, i);
        ssize_t size = readlink(name, target, sizeof(target) - 1);
        if (size < 0)
            break; /* only root may look at an undumpable process */
        target[size] = '\0';
        ck_assert_str_eq(target, "/dev/null");
    }
    broker_finish(&broker);
}
END_TEST

static void
become_nobody(void *argument)
{
    (void)argument;
    if (setgid(65534) != 0 || setuid(65534) != 0)
        _exit(125);
}

START_TEST(a_broker_needs_no_privileges)
{
    struct broker_options options = {.prepare = become_nobody, .arguments = {SMALL}};
    struct broker broker;
    struct raw_client client;

    if (geteuid() != 0)
        return; /* then all the other cases show it */
    ck_assert_int_eq(mkdir(path, 0700), 0);
    ck_assert_int_eq(chown(path, 65534, 65534), 0);
    broker_start(&broker, path, &options);
    raw_client_open(&client, path);
    struct mshm_tree_ref tree = raw_client_tree(&client, "default");
    ck_assert_int_eq(raw_client_put(&client, tree.bucket, "key", "value"), MSHM_OK);
    raw_client_close(&client);
    broker_finish(&broker);
}
END_TEST

START_TEST(a_storm_of_signals_changes_nothing)
{
    static const int harmless[] = {SIGUSR1, SIGUSR2, SIGPIPE, SIGXFSZ, SIGWINCH, SIGCONT, SIGCHLD};
    struct broker broker;
    struct raw_client client;
    pid_t storm;

    broker_start(&broker, path, &small);
    storm = fork();
    if (storm == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        for (unsigned i = 0;; i++)
            kill(broker.pid, harmless[i % (sizeof(harmless) / sizeof(harmless[0]))]);
    }
    for (int i = 0; i < 20; i++) {
        char key[16];
        snprintf(key, sizeof(key), "key%d", i);
        raw_client_open(&client, path);
        struct mshm_tree_ref tree = raw_client_tree(&client, "default");
        ck_assert_int_eq(raw_client_put(&client, tree.bucket, key, "value"), MSHM_OK);
        raw_client_close(&client);
    }
    kill(storm, SIGKILL);
    waitpid(storm, NULL, 0);
    broker_finish(&broker);
}
END_TEST

/* --- one broker for one directory ----------------------------------------------------------------------------------- */

START_TEST(a_second_broker_leaves_with_success)
{
    struct broker first, second;

    broker_start(&first, path, &small);
    broker_launch(&second, path, &small);
    ck_assert_int_eq(broker_ready(&second), 0); /* whoever started it will find a broker */
    ck_assert_int_eq(broker_wait(&second), 0);
    ck_assert_int_eq(waitpid(first.pid, NULL, WNOHANG), 0);
    broker_finish(&first);
}
END_TEST

/* Takes note of those that have left, with success; returns how many have in all. */
static int
starters_left(struct broker *brokers, int count)
{
    int left = 0, status;

    for (int i = 0; i < count; i++) {
        if (brokers[i].pid != 0 && waitpid(brokers[i].pid, &status, WNOHANG) == brokers[i].pid) {
            ck_assert_int_eq(status, 0);
            brokers[i].pid = 0;
        }
        left += brokers[i].pid == 0;
    }
    return left;
}

START_TEST(of_racing_starters_one_serves_and_all_are_told_so)
{
    enum { STARTERS = 8 };
    struct broker brokers[STARTERS];
    struct raw_client client;

    for (int i = 0; i < STARTERS; i++)
        broker_launch(&brokers[i], path, &small);
    for (int i = 0; i < STARTERS; i++)
        ck_assert_int_eq(broker_ready(&brokers[i]), 0);
    wait_for(starters_left(brokers, STARTERS) >= STARTERS - 1);
    raw_client_open(&client, path);
    raw_client_close(&client);
    ck_assert_int_eq(starters_left(brokers, STARTERS), STARTERS - 1);
    for (int i = 0; i < STARTERS; i++)
        if (brokers[i].pid != 0)
            broker_finish(&brokers[i]);
}
END_TEST

/* Somebody holds the lock and does not listen: a broker whose last write has not ended. */
START_TEST(a_held_lock_is_waited_for)
{
    struct broker broker;

    ck_assert_int_eq(mkdir(path, 0700), 0);
    int holder = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    ck_assert_int_eq(flock(holder, LOCK_EX | LOCK_NB), 0);
    broker_launch(&broker, path, &small);
    struct pollfd ready = {.fd = broker.ready, .events = POLLIN};
    ck_assert_int_eq(poll(&ready, 1, 200), 0);
    ck_assert(!exists("mace.sock"));
    close(holder);
    ck_assert_int_eq(broker_ready(&broker), 0);
    broker_finish(&broker);
}
END_TEST

START_TEST(a_signal_ends_the_wait_for_the_lock)
{
    struct broker broker;

    ck_assert_int_eq(mkdir(path, 0700), 0);
    int holder = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    ck_assert_int_eq(flock(holder, LOCK_EX | LOCK_NB), 0);
    broker_launch(&broker, path, &small);
    wait_for(broker_log_has(&broker, "waits for the lock"));
    kill(broker.pid, SIGTERM);
    ck_assert_int_eq(broker_ready(&broker), MSHM_BROKER_LOST);
    ck_assert_int_eq(broker_wait(&broker), 0);
}
END_TEST

START_TEST(after_a_kill_the_next_broker_starts_at_once)
{
    struct broker broker;

    for (int i = 0; i < 20; i++) {
        broker_start(&broker, path, &small);
        broker_kill(&broker);
    }
}
END_TEST

/* --- paths ---------------------------------------------------------------------------------------------------------- */

START_TEST(a_path_longer_than_a_socket_address_is_served)
{
    struct broker broker;
    char link[64];
    struct sockaddr_un address = {.sun_family = AF_UNIX};

    snprintf(path, sizeof(path), "%s", scratch);
    while (strlen(path) < 300) {
        strcat(path, "/a-directory-with-a-long-name");
        ck_assert_int_eq(mkdir(path, 0755), 0);
    }
    broker_start(&broker, path, &small);
    int directory = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
    snprintf(link, sizeof(link), "/proc/self/fd/%d/mace.sock", directory);
    memcpy(address.sun_path, link, strlen(link) + 1);
    int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    ck_assert_int_eq(connect(fd, (struct sockaddr *)&address, sizeof(address)), 0);
    struct raw_client client = {.socket = fd};
    ck_assert_int_eq(raw_client_hello(&client, NULL), MSHM_OK);
    raw_client_close(&client);
    broker_finish(&broker);
}
END_TEST

static int
start_status(const char *where, const struct broker_options *options)
{
    struct broker broker;
    struct stat status;

    broker_launch(&broker, where, options);
    int told = broker_ready(&broker);
    int ended = broker_wait(&broker);
    ck_assert_msg(WIFEXITED(ended) && WEXITSTATUS(ended) == 1, "wait status %x", (unsigned)ended);
    ck_assert_int_eq(stat(broker.log, &status), 0);
    ck_assert_int_gt(status.st_size, 0); /* a reason */
    return told;
}

START_TEST(what_cannot_be_served_is_told_to_the_starter)
{
    struct broker_options huge = {.arguments = {"--cache", "40T"}};
    struct broker_options other_user = {.prepare = become_nobody};
    struct broker_options no_create = {.arguments = {"--no-create"}};
    char file[SCRATCH_PATH];

    scratch_join(file, scratch, "file");
    close(open(file, O_CREAT | O_WRONLY | O_CLOEXEC, 0600));
    ck_assert_int_eq(start_status(file, NULL), MSHM_INVALID);
    ck_assert_int_eq(start_status(path, &huge), MSHM_NO_MEMORY);
    ck_assert(!exists("."));
    ck_assert_int_eq(start_status(path, &no_create), MSHM_NOT_FOUND);
    ck_assert(!exists("."));
    ck_assert_int_eq(mkdir(path, 0755), 0);
    ck_assert_int_eq(start_status(path, &no_create), MSHM_NOT_FOUND);
    ck_assert(!exists("mace.sock") && !exists("LOCK") && !exists("wal"));
    if (geteuid() == 0)
        ck_assert_int_eq(start_status(path, &other_user), MSHM_DENIED);
}
END_TEST

START_TEST(a_damaged_database_is_refused_and_nothing_is_changed)
{
    struct broker broker;
    char file[SCRATCH_PATH];

    broker_start(&broker, path, &small);
    broker_finish(&broker);
    scratch_join(file, path, "CURRENT");
    int fd = open(file, O_WRONLY | O_TRUNC | O_CLOEXEC);
    ck_assert_int_eq(write(fd, "garbage\n", 8), 8);
    close(fd);
    ck_assert_int_eq(start_status(path, NULL), MSHM_CORRUPT);
    ck_assert(!exists("mace.sock"));
    ck_assert(exists("LOCK"));
}
END_TEST

/* --- the command line ----------------------------------------------------------------------------------------------- */

static int
run(const char *arguments, char *output, size_t size)
{
    char command[1000];

    snprintf(command, sizeof(command), "'%s' %s 2>&1", getenv("MACE_BROKER"), arguments);
    FILE *pipe = popen(command, "re");
    size_t got = fread(output, 1, size - 1, pipe);
    output[got] = '\0';
    return WEXITSTATUS(pclose(pipe));
}

START_TEST(help_and_version_succeed_and_misuse_is_2_in_one_line)
{
    char output[8000];
    static const char *const misuse[] = {"", "--bogus", "/a /b", "/a --cache", "/a --cache 1Q"};

    ck_assert_int_eq(run("--help", output, sizeof(output)), 0);
    ck_assert_ptr_nonnull(strstr(output, "--max-sessions"));
    ck_assert_ptr_null(strstr(output, "--ready-fd"));
    ck_assert_int_eq(run("--version", output, sizeof(output)), 0);
    ck_assert_ptr_nonnull(strstr(output, "mace-broker (mace) "));
    for (size_t i = 0; i < sizeof(misuse) / sizeof(misuse[0]); i++) {
        ck_assert_int_eq(run(misuse[i], output, sizeof(output)), 2);
        ck_assert_int_eq(strncmp(output, "mace-broker: ", 13), 0);
        ck_assert_ptr_eq(strchr(output, '\n'), output + strlen(output) - 1);
    }
}
END_TEST

/* --- I/O backends --------------------------------------------------------------------------------------------------- */

static void
forbid_io_uring(void *argument)
{
    struct sock_filter filter[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_io_uring_setup, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = {sizeof(filter) / sizeof(filter[0]), filter};

    (void)argument;
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 ||
        prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) != 0)
        _exit(125);
}

START_TEST(without_io_uring_the_broker_serves_all_the_same)
{
    struct broker_options asked = {.arguments = {SMALL, "--no-uring"}};
    struct broker_options forbidden = {.prepare = forbid_io_uring, .arguments = {SMALL}};
    struct broker broker;
    struct raw_client client;

    for (int i = 0; i < 2; i++) {
        broker_start(&broker, path, i == 0 ? &asked : &forbidden);
        ck_assert(broker_log_has(&broker, "I/O by posix"));
        raw_client_open(&client, path);
        struct mshm_tree_ref tree = raw_client_tree(&client, "default");
        ck_assert_int_eq(raw_client_put(&client, tree.bucket, "key", "value"), MSHM_OK);
        raw_client_close(&client);
        broker_finish(&broker);
    }
    ck_assert(broker_log_has(&broker, "io_uring is refused"));
}
END_TEST

/* --- idleness ------------------------------------------------------------------------------------------------------- */

START_TEST(an_idle_broker_leaves_and_removes_its_socket)
{
    struct broker_options options = {.arguments = {SMALL, "--idle-exit", "100"}};
    struct broker broker;

    broker_start(&broker, path, &options);
    ck_assert_int_eq(broker_wait(&broker), 0);
    ck_assert(!exists("mace.sock"));
    ck_assert(broker_log_has(&broker, "nobody was attached"));
}
END_TEST

START_TEST(who_is_attached_keeps_a_broker_from_leaving)
{
    struct broker_options options = {.arguments = {SMALL, "--idle-exit", "50"}};
    struct broker broker;
    struct raw_client client;
    struct pollfd none = {.fd = -1};

    broker_start(&broker, path, &options);
    while (!raw_client_try(&client,
                           path)) { /* on a busy machine it may have left before anybody came */
        ck_assert_int_eq(broker_wait(&broker), 0);
        broker_start(&broker, path, &options);
    }
    poll(&none, 1, 300); /* six times the limit */
    struct mshm_tree_ref tree = raw_client_tree(&client, "default");
    ck_assert_int_eq(raw_client_put(&client, tree.bucket, "key", "value"), MSHM_OK);
    raw_client_close(&client);
    ck_assert_int_eq(broker_wait(&broker), 0);
}
END_TEST

/* Attaches again and again in the moment of leaving: each attempt is served, or finds nobody; none is half served. */
START_TEST(an_arrival_in_the_moment_of_leaving_is_served_or_finds_nobody)
{
    struct broker_options options = {.arguments = {SMALL, "--idle-exit", "2"}};
    unsigned served = 0, missed = 0;
    struct timespec pause = {.tv_nsec = 0};

    for (int i = 0; i < 30; i++) {
        struct broker broker;
        broker_start(&broker, path, &options);
        pause.tv_nsec = i * 200000;
        nanosleep(&pause, NULL);
        struct raw_client client = {.socket = raw_client_connect(path)};
        int status = client.socket < 0 ? MSHM_BROKER_LOST : raw_client_hello(&client, NULL);
        ck_assert_msg(status == MSHM_OK || status == MSHM_BROKER_LOST, "status %d", status);
        if (status == MSHM_OK) {
            served++;
            ck_assert_int_eq(waitpid(broker.pid, NULL, WNOHANG), 0);
            for (int fd = 0; fd < 4; fd++)
                close((const int[]){client.store_fd, client.hints_fd, client.session_fd,
                                    client.doorbell}[fd]);
        } else {
            missed++;
        }
        if (client.socket >= 0)
            close(client.socket);
        ck_assert_int_eq(broker_wait(&broker), 0);
    }
    printf("served %u, found nobody %u\n", served, missed);
    ck_assert_uint_gt(served, 0);
}
END_TEST

int
main(void)
{
    Suite *suite = suite_create("broker_start");
    TCase *cases = tcase_create("start");
    SRunner *runner = srunner_create(suite);

    suite_add_tcase(suite, cases);
    tcase_add_checked_fixture(cases, setup, teardown);
    tcase_set_timeout(cases, 120);
    tcase_add_test(cases, a_broker_serves_stops_on_a_signal_and_recovers);
    tcase_add_test(cases, a_stale_socket_of_a_killed_broker_is_replaced);
    tcase_add_test(cases, the_process_keeps_its_name_and_the_path_as_argument);
    tcase_add_test(cases, closed_standard_descriptors_never_become_files_of_the_database);
    tcase_add_test(cases, a_broker_needs_no_privileges);
    tcase_add_test(cases, a_storm_of_signals_changes_nothing);
    tcase_add_test(cases, a_second_broker_leaves_with_success);
    tcase_add_test(cases, of_racing_starters_one_serves_and_all_are_told_so);
    tcase_add_test(cases, a_held_lock_is_waited_for);
    tcase_add_test(cases, a_signal_ends_the_wait_for_the_lock);
    tcase_add_test(cases, after_a_kill_the_next_broker_starts_at_once);
    tcase_add_test(cases, a_path_longer_than_a_socket_address_is_served);
    tcase_add_test(cases, what_cannot_be_served_is_told_to_the_starter);
    tcase_add_test(cases, a_damaged_database_is_refused_and_nothing_is_changed);
    tcase_add_test(cases, help_and_version_succeed_and_misuse_is_2_in_one_line);
    tcase_add_test(cases, without_io_uring_the_broker_serves_all_the_same);
    tcase_add_test(cases, an_idle_broker_leaves_and_removes_its_socket);
    tcase_add_test(cases, who_is_attached_keeps_a_broker_from_leaving);
    tcase_add_test(cases, an_arrival_in_the_moment_of_leaving_is_served_or_finds_nobody);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
