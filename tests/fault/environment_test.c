/* environment_test.c - a machine that gives too little: descriptors, memory, io_uring, permissions; and other versions. */
#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "support/broker.h"
#include "support/client.h"
#include "support/process.h"
#include "support/raw_client.h"

static char scratch[SCRATCH_PATH], path[SCRATCH_PATH];
static struct broker broker;
static const struct broker_options options = {.arguments = {"--cache", "16M"}};

static void
setup(void)
{
    scratch_create(scratch);
    scratch_join(path, scratch, "db");
}

static void
teardown(void)
{
    scratch_remove(scratch);
}

static int
sanitized(void)
{
    const char *sanitizers = getenv("MACE_SANITIZE");

    return sanitizers != NULL && sanitizers[0] != '\0';
}

static void
limit_set(int resource, rlim_t value)
{
    struct rlimit limit = {value, value};

    require(setrlimit((__rlimit_resource_t)resource, &limit) == 0, "%s", strerror(errno));
}

static int
open_status(const char *where)
{
    mace_options wanted;
    mace *db = NULL;

    mace_options_init(&wanted);
    wanted.start_broker = 0;
    int status = mace_open(where, &wanted, &db);
    if (status == MACE_OK)
        mace_close(db);
    return status;
}

/* --- F23: descriptors --- */

static void
few_descriptors(void *argument)
{
    (void)argument;
    limit_set(RLIMIT_NOFILE, 64);
}

START_TEST(f23_a_broker_without_descriptors_refuses_the_next_client_and_serves_the_others)
{
    enum { MOST = 64 };
    struct broker_options few = options;
    mace *clients[MOST];
    int count = 0, status = MACE_OK;
    mace_options wanted;

    few.prepare = few_descriptors;
    broker_start(&broker, path, &few);
    mace_options_init(&wanted);
    wanted.start_broker = 0;
    wanted.durability = MACE_OS;
    while (count < MOST && status == MACE_OK) {
        status = mace_open(path, &wanted, &clients[count]);
        count += status == MACE_OK;
    }
    printf("f23: %d clients with 64 descriptors\n", count);
    ck_assert_int_eq(status, MACE_LIMIT);
    ck_assert_int_gt(count, 3);
    for (int i = 0; i < count; i++) {
        mace_bucket *bucket = client_bucket(clients[i], "default");
        ck_assert_int_eq(client_put(clients[i], bucket, "key", "value"), MACE_OK);
    }
    /* Who leaves makes room. */
    mace_close(clients[--count]);
    wait_for(open_status(path) == MACE_OK);
    while (count > 0)
        mace_close(clients[--count]);
    broker_finish(&broker);
}
END_TEST

static void
crowded_client_run(int channel, void *argument)
{
    int fds[64], count = 0;

    (void)channel;
    (void)argument;
    limit_set(RLIMIT_NOFILE, 32);
    while (count < 64 && (fds[count] = open("/dev/null", O_RDONLY)) >= 0)
        count++;
    /* With no descriptor left, then with one more each time, until there are enough. */
    for (int left = 0; left <= 8; left++) {
        int status = open_status(path);
        require(status == MACE_LIMIT || (status == MACE_OK && left >= 2), "%d left: %s", left,
                mace_strerror(status));
        close(fds[--count]);
        if (status == MACE_OK)
            return;
    }
    require(0, "eight descriptors are not enough");
}

START_TEST(f23_a_client_without_descriptors_is_told_and_leaves_nothing_behind)
{
    struct worker worker;

    broker_start(&broker, path, &options);
    mace *db = client_open(path);
    worker_start(&worker, crowded_client_run, NULL);
    worker_join(&worker);
    wait_for(client_stat(db).sessions == 1);
    mace_close(db);
    broker_finish(&broker);
}
END_TEST

/* --- F24: memory --- */

static void
little_address_space(void *argument)
{
    (void)argument;
    limit_set(RLIMIT_AS, (rlim_t)300 << 20);
}

START_TEST(f24_a_broker_without_memory_says_so_at_its_start)
{
    struct broker_options greedy = {.arguments = {"--cache", "16T"}};
    struct broker_options confined = {.arguments = {"--cache", "4G"},
                                      .prepare = little_address_space};

    broker_launch(&broker, path, &greedy);
    int status = broker_ready(&broker);
    ck_assert_msg(status == MACE_FULL || status == MACE_NO_MEMORY, "16 TiB of cache: %d", status);
    status = broker_wait(&broker);
    ck_assert(WIFEXITED(status) && WEXITSTATUS(status) == 1);
    if (!sanitized()) {
        broker_launch(&broker, path, &confined);
        status = broker_ready(&broker);
        ck_assert_msg(status == MACE_FULL || status == MACE_NO_MEMORY, "300 MiB of space: %d",
                      status);
        status = broker_wait(&broker);
        ck_assert(WIFEXITED(status) && WEXITSTATUS(status) == 1);
    }
    broker_start(&broker, path, &options);
    broker_finish(&broker);
}
END_TEST

static void
confined_client_run(int channel, void *argument)
{
    (void)channel;
    (void)argument;
    limit_set(RLIMIT_AS, (rlim_t)100 << 20);
    require_status(open_status(path), MACE_NO_MEMORY);
}

START_TEST(f24_a_client_without_memory_is_told)
{
    struct broker_options large = {.arguments = {"--cache", "512M"}};
    struct worker worker;

    if (sanitized())
        return;
    broker_start(&broker, path, &large);
    worker_start(&worker, confined_client_run, NULL);
    worker_join(&worker);
    mace *db = client_open(path);
    wait_for(client_stat(db).sessions == 1);
    mace_close(db);
    broker_finish(&broker);
}
END_TEST

/* --- F25: io_uring --- */

static void
forbid_io_uring(void *argument)
{
    static struct sock_filter filter[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_io_uring_setup, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = {sizeof filter / sizeof filter[0], filter};

    (void)argument;
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 ||
        prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) != 0)
        _exit(125);
}

START_TEST(f25_without_io_uring_commits_of_both_levels_work_and_the_figures_say_so)
{
    struct broker_options forbidden = {.arguments = {"--cache", "16M"}, .prepare = forbid_io_uring};

    broker_start(&broker, path, &forbidden);
    mace *db = client_open(path);
    mace_bucket *bucket = client_bucket(db, "default");
    ck_assert_uint_eq(client_stat(db).io_uring, 0);
    for (int i = 0; i < 20; i++)
        ck_assert_int_eq(
            client_commit_put(db, bucket, i % 2 ? MACE_SYNC : MACE_OS, "key", "value", NULL),
            MACE_OK);
    ck_assert_int_eq(mace_sync(db), MACE_OK);
    mace_close(db);
    broker_kill(&broker);
    broker_start(&broker, path, &forbidden);
    db = client_open(path);
    bucket = client_bucket(db, "default");
    ck_assert(client_has(db, bucket, "key", "value"));
    mace_close(db);
    broker_finish(&broker);
}
END_TEST

/* --- F31: versions --- */

START_TEST(f31_a_client_of_another_version_is_refused_without_descriptors)
{
    struct mshm_hello hello = {
        .head = {.magic = MSHM_MESSAGE_MAGIC,
                 .kind = MSHM_MESSAGE_HELLO,
                 .version = MSHM_LAYOUT_VERSION,
                 .size = sizeof hello},
        .layout_hash = mshm_layout_hash(),
    };

    broker_start(&broker, path, &options);
    for (int i = 0; i < 2; i++) {
        struct raw_client client = {.socket = raw_client_connect(path), .doorbell = -1};
        struct mshm_hello wrong = hello;
        if (i == 0)
            wrong.head.version++;
        else
            wrong.layout_hash ^= 1;
        ck_assert_int_eq(raw_client_hello(&client, &wrong), MSHM_VERSION);
        ck_assert_int_eq(client.store_fd, -1);
        ck_assert_int_eq(client.session_fd, -1);
        ck_assert_str_ne(client.welcome.text, "");
        close(client.socket);
    }
    broker_finish(&broker);
}
END_TEST

/* A broker of another version: it answers any hello as such. */
static void
stranger_run(int channel, void *argument)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    struct mshm_welcome welcome = {.head = {.magic = MSHM_MESSAGE_MAGIC,
                                            .kind = MSHM_MESSAGE_HELLO,
                                            .version = MSHM_LAYOUT_VERSION + 1,
                                            .status = MSHM_VERSION,
                                            .size = sizeof welcome}};
    char bytes[4096];

    (void)argument;
    int size = snprintf(address.sun_path, sizeof address.sun_path, "%s/mace.sock", path);
    require(size > 0 && size < (int)sizeof address.sun_path, "%s is too long", path);
    int listener = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    require(bind(listener, (struct sockaddr *)&address, sizeof address) == 0, "%s",
            strerror(errno));
    require(listen(listener, 4) == 0, "%s", strerror(errno));
    channel_tell(channel, 1);
    for (;;) {
        int fd = accept(listener, NULL, NULL);
        if (recv(fd, bytes, sizeof bytes, 0) > 0)
            require(send(fd, &welcome, sizeof welcome, MSG_NOSIGNAL) > 0, "%s", strerror(errno));
        close(fd);
    }
}

START_TEST(f31_a_broker_of_another_version_is_told_apart_from_none)
{
    struct worker stranger;

    ck_assert_int_eq(mkdir(path, 0700), 0);
    worker_start(&stranger, stranger_run, NULL);
    channel_expect(stranger.channel, 1);
    ck_assert_int_eq(open_status(path), MACE_VERSION);
    worker_kill(&stranger);
}
END_TEST

/* --- F33: permissions --- */

enum { NOBODY = 65534 };

static void
nobody_run(int channel, void *argument)
{
    mace_options wanted;
    mace *db;

    (void)argument;
    require(setgroups(0, NULL) == 0 && setgid(NOBODY) == 0 && setuid(NOBODY) == 0, "%s",
            strerror(errno));
    mace_options_init(&wanted);
    wanted.connect_timeout_ms = 5000;
    channel_tell(channel, (uint64_t)(unsigned)-mace_open(path, &wanted, &db));
}

static int
status_as_nobody(void)
{
    struct worker worker;
    uint64_t negative = 0;

    worker_start(&worker, nobody_run, NULL);
    ck_assert(channel_hear(worker.channel, &negative));
    worker_join(&worker);
    return -(int)negative;
}

START_TEST(f33_who_may_not_is_denied)
{
    if (geteuid() != 0) {
        printf("f33 skipped: only root can become somebody else\n");
        return;
    }
    ck_assert_int_eq(chmod(scratch, 0755), 0);
    /* A database of another user, that is served... */
    broker_start(&broker, path, &options);
    ck_assert_int_eq(status_as_nobody(), MACE_DENIED);
    broker_finish(&broker);
    /* ...and that is not; and a place where nothing may be made. */
    ck_assert_int_eq(status_as_nobody(), MACE_DENIED);
    scratch_remove(path);
    ck_assert_int_eq(status_as_nobody(), MACE_DENIED);
    ck_assert_int_ne(access(path, F_OK), 0);
}
END_TEST

START_TEST(f33_a_read_only_file_system_is_refused)
{
    char mounted[SCRATCH_PATH];
    mace_options wanted;
    mace *db;

    broker_start(&broker, path, &options);
    broker_finish(&broker);
    if (unshare(CLONE_NEWNS) != 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0 ||
        mount(scratch, scratch, NULL, MS_BIND, NULL) != 0 ||
        mount(NULL, scratch, NULL, MS_REMOUNT | MS_BIND | MS_RDONLY, NULL) != 0) {
        printf("f33 on a read-only file system skipped: nothing can be mounted here\n");
        return;
    }
    mace_options_init(&wanted);
    ck_assert_int_eq(mace_open(path, &wanted, &db), MACE_DENIED);
    scratch_join(mounted, scratch, "new");
    ck_assert_int_eq(mace_open(mounted, &wanted, &db), MACE_DENIED);
    umount(scratch);
}
END_TEST

int
main(void)
{
    Suite *suite = suite_create("faults of the environment");
    TCase *cases = tcase_create("environment");
    SRunner *runner;

    tcase_set_timeout(cases, 0);
    tcase_add_checked_fixture(cases, setup, teardown);
    tcase_add_test(cases,
                   f23_a_broker_without_descriptors_refuses_the_next_client_and_serves_the_others);
    tcase_add_test(cases, f23_a_client_without_descriptors_is_told_and_leaves_nothing_behind);
    tcase_add_test(cases, f24_a_broker_without_memory_says_so_at_its_start);
    tcase_add_test(cases, f24_a_client_without_memory_is_told);
    tcase_add_test(cases, f25_without_io_uring_commits_of_both_levels_work_and_the_figures_say_so);
    tcase_add_test(cases, f31_a_client_of_another_version_is_refused_without_descriptors);
    tcase_add_test(cases, f31_a_broker_of_another_version_is_told_apart_from_none);
    tcase_add_test(cases, f33_who_may_not_is_denied);
    tcase_add_test(cases, f33_a_read_only_file_system_is_refused);
    suite_add_tcase(suite, cases);
    runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
