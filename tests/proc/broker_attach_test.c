/* broker_attach_test.c - the handshake, what a client gets, and what a hostile one can do with the socket. */
#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "mshm/counters.h"
#include "support/broker.h"
#include "support/process.h"
#include "support/raw_client.h"

#define SMALL "--cache", "64M", "--segment-size", "1M"
static const struct broker_options small = {.arguments = {SMALL}};
enum { NOBODY = 65534 };

static char scratch[SCRATCH_PATH], path[SCRATCH_PATH];
static struct broker broker;

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

static struct mshm_hello
hello_right(void)
{
    return (struct mshm_hello){
        .head = {.magic = MSHM_MESSAGE_MAGIC,
                 .kind = MSHM_MESSAGE_HELLO,
                 .version = MSHM_LAYOUT_VERSION,
                 .size = sizeof(struct mshm_hello)},
        .layout_hash = mshm_layout_hash(),
        .pid = (uint64_t)getpid(),
    };
}

static int
hello_on(struct raw_client *client, const struct mshm_hello *hello)
{
    memset(client, 0, sizeof(*client));
    client->socket = raw_client_connect(path);
    ck_assert_int_ge(client->socket, 0);
    client->store_fd = client->hints_fd = client->session_fd = client->doorbell = -1;
    return raw_client_hello(client, hello);
}

/* Somebody else goes on working whatever happened to others. */
static void
expect_service(void)
{
    struct raw_client client;

    raw_client_open(&client, path);
    struct mshm_tree_ref tree = raw_client_tree(&client, "default");
    ck_assert_int_eq(raw_client_put(&client, tree.bucket, "key", "value"), MSHM_OK);
    raw_client_close(&client);
}

/* True when a session with this number is attached, asked over another one. */
static bool
session_exists(struct raw_client *asker, uint64_t number)
{
    struct mshm_value_message request = {
        .head = {.magic = MSHM_MESSAGE_MAGIC,
                 .kind = MSHM_MESSAGE_SESSIONS,
                 .version = MSHM_LAYOUT_VERSION,
                 .size = sizeof(request)},
        .value = number - 1,
    };
    struct mshm_session_info info;
    int status = raw_client_control(asker, &request.head, &info.head, sizeof(info));

    return status == MSHM_OK && info.number == number;
}

/* --- versions ------------------------------------------------------------------------------------------------------- */

START_TEST(a_client_of_another_version_is_refused_by_name_and_gets_no_descriptors)
{
    struct raw_client client;

    broker_start(&broker, path, &small);
    for (int i = 0; i < 3; i++) {
        struct mshm_hello hello = hello_right();
        if (i == 0)
            hello.head.version = 4711;
        else if (i == 1)
            hello.layout_hash ^= 1;
        else
            hello.features = 1;
        ck_assert_int_eq(hello_on(&client, &hello), MSHM_VERSION);
        ck_assert_int_eq(client.store_fd, -1);
        ck_assert_int_eq(client.doorbell, -1);
        char ours[40], theirs[40];
        snprintf(ours, sizeof(ours), i == 1 ? "%08x" : "broker version %u",
                 i == 1 ? mshm_layout_hash() : (unsigned)MSHM_LAYOUT_VERSION);
        snprintf(theirs, sizeof(theirs), i == 1 ? "%08x" : "library has layout version %u",
                 i == 1 ? hello.layout_hash : hello.head.version);
        ck_assert_ptr_nonnull(strstr(client.welcome.text, ours));
        ck_assert_ptr_nonnull(strstr(client.welcome.text, theirs));
        raw_client_close(&client);
    }
    /* A HELLO of a version with a longer struct: its head is the same for ever. */
    struct {
        struct mshm_hello hello;
        char more[200];
    } longer = {.hello = hello_right()};
    longer.hello.head.version = 2;
    longer.hello.head.size = sizeof(longer);
    int fd = raw_client_connect(path);
    ck_assert_int_eq(send(fd, &longer, sizeof(longer), 0), sizeof(longer));
    ck_assert_int_eq(recv(fd, &client.welcome, sizeof(client.welcome), 0), sizeof(client.welcome));
    ck_assert_int_eq(client.welcome.head.status, MSHM_VERSION);
    close(fd);
    struct mshm_hello flags = hello_right();
    flags.flags = 64;
    ck_assert_int_eq(hello_on(&client, &flags), MSHM_INVALID);
    raw_client_close(&client);
    expect_service();
    broker_finish(&broker);
}
END_TEST

static void
hold_file(void *argument)
{
    setenv("MACE_KILL_POINT_FILE", argument, 1);
}

START_TEST(while_it_recovers_hello_is_answered_busy_on_a_connection_that_stays)
{
    char hold[SCRATCH_PATH];
    struct broker_options options = {.arguments = {SMALL},
                                     .kill_point = "recovery:begin=hold",
                                     .prepare = hold_file,
                                     .argument = hold};
    struct mshm_hello hello = hello_right();
    struct mshm_welcome welcome;
    int fd = -1;

    scratch_join(hold, scratch, "hold");
    close(open(hold, O_CREAT | O_WRONLY | O_CLOEXEC, 0600));
    broker_launch(&broker, path, &options);
    wait_for((fd = raw_client_connect(path)) >= 0);
    for (int i = 0; i < 3; i++) {
        ck_assert_int_eq(send(fd, &hello, sizeof(hello), 0), sizeof(hello));
        ck_assert_int_eq(recv(fd, &welcome, sizeof(welcome), 0), sizeof(welcome));
        ck_assert_int_eq(welcome.head.status, MSHM_BUSY);
    }
    ck_assert_int_eq(unlink(hold), 0);
    struct raw_client client = {.socket = fd};
    ck_assert_int_eq(raw_client_hello(&client, NULL), MSHM_OK);
    ck_assert_int_eq(broker_ready(&broker), 0);
    raw_client_close(&client);
    broker_finish(&broker);
}
END_TEST

START_TEST(a_signal_during_recovery_stops_it_and_nothing_is_lost)
{
    char hold[SCRATCH_PATH];
    struct broker_options options = {.arguments = {SMALL},
                                     .kill_point = "recovery:replayed=hold",
                                     .prepare = hold_file,
                                     .argument = hold};

    broker_start(&broker, path, &small);
    expect_service();
    broker_kill(&broker);
    scratch_join(hold, scratch, "hold");
    close(open(hold, O_CREAT | O_WRONLY | O_CLOEXEC, 0600));
    broker_launch(&broker, path, &options);
    int fd;
    wait_for((fd = raw_client_connect(path)) >= 0);
    close(fd);
    ck_assert_int_eq(kill(broker.pid, SIGTERM), 0);
    ck_assert_int_eq(broker_ready(&broker), MSHM_BROKER_LOST);
    ck_assert_int_eq(broker_wait(&broker), 0);
    broker_start(&broker, path, &small);
    expect_service();
    broker_finish(&broker);
}
END_TEST

/* --- what the descriptors allow ------------------------------------------------------------------------------------- */

static void
expect_no_writing(int fd)
{
    char byte = 1;
    uint64_t size = 4096;

    ck_assert_int_eq(pwrite(fd, &byte, 1, 0), -1);
    ck_assert_ptr_eq(mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0), MAP_FAILED);
    ck_assert_int_eq(ftruncate(fd, 0), -1);
    ck_assert_int_eq(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 4096), -1);
    ck_assert_int_eq(fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE), -1);
    void *read_only = mmap(NULL, size, PROT_READ, MAP_SHARED, fd, 0);
    ck_assert_ptr_ne(read_only, MAP_FAILED);
    ck_assert_int_eq(mprotect(read_only, size, PROT_READ | PROT_WRITE), -1);
    struct iovec from = {&byte, 1}, to = {read_only, 1};
    ck_assert_int_eq(process_vm_writev(getpid(), &from, 1, &to, 1, 0), -1);
    int memory = open("/proc/self/mem", O_RDWR | O_CLOEXEC);
    ck_assert_int_eq(pwrite(memory, &byte, 1, (off_t)(uintptr_t)read_only), -1);
    close(memory);
    munmap(read_only, size);
}

START_TEST(a_client_cannot_write_the_store_in_any_way)
{
    struct raw_client client;
    char name[64];

    broker_start(&broker, path, &small);
    raw_client_open(&client, path);
    ck_assert_int_eq(mprotect(client.store.base, client.store.size, PROT_READ | PROT_WRITE), -1);
    expect_no_writing(client.store_fd);
    int copy = dup(client.store_fd);
    expect_no_writing(copy);
    close(copy);
    snprintf(name, sizeof(name), "/proc/self/fd/%d", client.store_fd);
    int again = open(name, O_RDWR | O_CLOEXEC);
    if (again >= 0) {
        expect_no_writing(again);
        close(again);
    }
    ck_assert_int_eq(fcntl(client.store_fd, F_GET_SEALS) &
                         (F_SEAL_FUTURE_WRITE | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL),
                     F_SEAL_FUTURE_WRITE | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL);
    /* What a client may write it still cannot make smaller or larger. */
    ck_assert_int_eq(ftruncate(client.session_fd, 0), -1);
    ck_assert_int_eq(ftruncate(client.hints_fd, 1 << 30), -1);
    ck_assert_int_eq(fcntl(client.session_fd, F_ADD_SEALS, F_SEAL_WRITE), -1);
    raw_client_close(&client);
    broker_finish(&broker);
}
END_TEST

/* In a child of the broker's own user: every way to its memory. */
static void
reach_into(int channel, void *argument)
{
    pid_t pid = *(const pid_t *)argument;
    char name[64], byte = 0;

    (void)channel;
    require(setgid(NOBODY) == 0 && setuid(NOBODY) == 0, "%s", strerror(errno));
    snprintf(name, sizeof(name), "/proc/%d/mem", (int)pid);
    require(open(name, O_RDWR | O_CLOEXEC) < 0, "mem opened");
    snprintf(name, sizeof(name), "/proc/%d/fd/0", (int)pid);
    require(readlink(name, &byte, 1) < 0, "fd read");
    require(ptrace(PTRACE_ATTACH, pid, NULL, NULL) < 0, "traced");
    struct iovec local = {&byte, 1}, remote = {(void *)(uintptr_t)4096, 1};
    require(process_vm_readv(pid, &local, 1, &remote, 1, 0) < 0 && errno == EPERM, "%s",
            strerror(errno));
    int pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
    require(pidfd >= 0, "%s", strerror(errno));
    require(syscall(SYS_pidfd_getfd, pidfd, 0, 0) < 0 && errno == EPERM, "%s", strerror(errno));
}

static void
become_nobody(void *argument)
{
    (void)argument;
    if (setgid(NOBODY) != 0 || setuid(NOBODY) != 0)
        _exit(125);
}

START_TEST(a_process_of_the_same_user_cannot_reach_into_the_broker)
{
    struct broker_options options = {.arguments = {SMALL}, .prepare = become_nobody};
    struct worker worker;

    if (geteuid() != 0)
        return; /* only root can be two processes of another user */
    ck_assert_int_eq(mkdir(path, 0700), 0);
    ck_assert_int_eq(chown(path, NOBODY, NOBODY), 0);
    broker_start(&broker, path, &options);
    worker_start(&worker, reach_into, &broker.pid);
    worker_join(&worker);
    broker_finish(&broker);
}
END_TEST

/* --- hostile bytes -------------------------------------------------------------------------------------------------- */

static void
send_with_descriptor(int fd, const void *bytes, size_t size)
{
    union {
        struct cmsghdr align;
        char bytes[CMSG_SPACE(sizeof(int))];
    } control = {.bytes = {0}};
    struct iovec vector = {(void *)(uintptr_t)bytes, size};
    struct msghdr message = {.msg_iov = &vector,
                             .msg_iovlen = 1,
                             .msg_control = &control,
                             .msg_controllen = sizeof(control)};
    struct cmsghdr *part = CMSG_FIRSTHDR(&message);

    part->cmsg_level = SOL_SOCKET;
    part->cmsg_type = SCM_RIGHTS;
    part->cmsg_len = CMSG_LEN(sizeof(int));
    memcpy(CMSG_DATA(part), &fd, sizeof(int));
    ck_assert_int_eq(sendmsg(fd, &message, MSG_NOSIGNAL), (ssize_t)size);
}

enum { HOSTILE_KINDS = 9 };

/* Sends one malformed message of each kind. */
static void
send_hostile(int fd, int kind, bool attached)
{
    struct mshm_hello hello = hello_right();
    static char block[MSHM_MESSAGE_MAX * 2];

    switch (kind) {
    case 0:
        send(fd, block, 0, MSG_NOSIGNAL); /* an empty packet */
        break;
    case 1:
        send(fd, &hello, 15, MSG_NOSIGNAL);
        break;
    case 2:
        hello.head.magic++;
        send(fd, &hello, sizeof(hello), MSG_NOSIGNAL);
        break;
    case 3:
        hello.head.size--;
        send(fd, &hello, sizeof(hello), MSG_NOSIGNAL);
        break;
    case 4:
        memcpy(block, &hello, sizeof(hello));
        send(fd, block, sizeof(block), MSG_NOSIGNAL); /* too long */
        break;
    case 5:
        send_with_descriptor(fd, &hello, sizeof(hello));
        break;
    case 6:
        hello.head.kind = 999;
        send(fd, &hello, sizeof(hello), MSG_NOSIGNAL);
        break;
    case 7:
        hello.head.kind = attached ? MSHM_MESSAGE_HELLO : MSHM_MESSAGE_SYNC;
        send(fd, &hello, sizeof(hello), MSG_NOSIGNAL);
        break;
    default:
        memset(block, 0xff, 64);
        send(fd, block, 64, MSG_NOSIGNAL);
    }
}

static const struct mshm_counters *
counters_of(const struct raw_client *client)
{
    const struct mshm_view *view = &client->view;
    return &((const struct mshm_figures *)(view->base + view->store->counters_offset))->counters;
}

START_TEST(malformed_messages_end_their_connection_and_nothing_else)
{
    struct raw_client victim, client;

    broker_start(&broker, path, &small);
    raw_client_open(&victim, path);
    const struct mshm_counters *counters = counters_of(&victim);
    int before = process_descriptors(broker.pid);
    for (int kind = 0; kind < HOSTILE_KINDS; kind++) {
        int fd = raw_client_connect(path);
        send_hostile(fd, kind, false);
        char byte;
        ck_assert_msg(recv(fd, &byte, 1, 0) <= 0, "kind %d was answered", kind);
        close(fd);
        raw_client_open(&client, path);
        send_hostile(client.socket, kind, true);
        wait_for(raw_client_ended(&client));
        raw_client_close(&client);
        wait_for(AO_load(&counters->sessions) == 1);
        /* An empty packet cannot be told from a hang-up. */
        ck_assert_uint_eq(AO_load(&counters->sessions_ended_invalid), (AO_t)kind);
        ck_assert_uint_eq(AO_load(&counters->sessions_ended_dead), 1);
    }
    struct mshm_tree_ref tree = raw_client_tree(&victim, "default");
    ck_assert_int_eq(raw_client_put(&victim, tree.bucket, "key", "value"), MSHM_OK);
    wait_for(process_descriptors(broker.pid) <= before);
    raw_client_close(&victim);
    broker_finish(&broker);
}
END_TEST

START_TEST(random_bytes_on_the_socket_harm_nobody)
{
    const char *given = getenv("MACE_SEED");
    unsigned seed = given != NULL ? (unsigned)strtoul(given, NULL, 0) : (unsigned)getpid();
    struct raw_client client;
    unsigned char block[400];

    printf("MACE_SEED=%u\n", seed);
    srandom(seed);
    broker_start(&broker, path, &small);
    for (int i = 0; i < 300; i++) {
        raw_client_open(&client, path);
        size_t size = 16 + (size_t)random() % (sizeof(block) - 16);
        for (size_t j = 0; j < size; j++)
            block[j] = (unsigned char)random();
        struct mshm_message head = {.magic = MSHM_MESSAGE_MAGIC,
                                    .kind = (uint16_t)(random() % 14),
                                    .version = MSHM_LAYOUT_VERSION,
                                    .size = (uint32_t)size};
        if (random() % 4 != 0)
            memcpy(block, &head, sizeof(head));
        send(client.socket, block, size, MSG_NOSIGNAL);
        raw_client_close(&client);
    }
    expect_service();
    broker_finish(&broker);
}
END_TEST

START_TEST(who_does_not_read_its_answers_is_cut_off)
{
    struct raw_client client;
    struct mshm_value_message request = {
        .head = {.magic = MSHM_MESSAGE_MAGIC,
                 .kind = MSHM_MESSAGE_SESSIONS,
                 .version = MSHM_LAYOUT_VERSION,
                 .size = sizeof(request)},
    };

    broker_start(&broker, path, &small);
    raw_client_open(&client, path);
    while (send(client.socket, &request, sizeof(request), MSG_NOSIGNAL) > 0)
        ;
    wait_for(raw_client_ended(&client));
    raw_client_close(&client);
    expect_service();
    broker_finish(&broker);
}
END_TEST

START_TEST(a_doorbell_filled_to_the_brim_blocks_nobody)
{
    struct raw_client client;
    uint64_t most = UINT64_MAX - 1;

    broker_start(&broker, path, &small);
    raw_client_open(&client, path);
    int flags = fcntl(client.doorbell, F_GETFL);
    ck_assert_int_eq(write(client.doorbell, &most, sizeof(most)), sizeof(most));
    ck_assert_int_eq(fcntl(client.doorbell, F_SETFL, flags & ~O_NONBLOCK), 0);
    expect_service();
    raw_client_close(&client);
    expect_service();
    broker_finish(&broker);
}
END_TEST

/* --- users ---------------------------------------------------------------------------------------------------------- */

struct visitor {
    uid_t uid;
    gid_t gid;
    int expected; /* status; 1: the kernel does not let it connect */
    const char *text;
};

static void
visit(int channel, void *argument)
{
    const struct visitor *visitor = argument;
    struct raw_client client = {.socket = -1};

    (void)channel;
    require(setgroups(0, NULL) == 0 && setgid(visitor->gid) == 0 && setuid(visitor->uid) == 0, "%s",
            strerror(errno));
    client.socket = raw_client_connect(path);
    if (visitor->expected == 1) {
        require(client.socket < 0 && errno == EACCES, "uid %u got in", (unsigned)visitor->uid);
        return;
    }
    require(client.socket >= 0, "uid %u: %s", (unsigned)visitor->uid, strerror(errno));
    int status = raw_client_hello(&client, NULL);
    require(status == visitor->expected, "uid %u: %d", (unsigned)visitor->uid, status);
    require(visitor->text == NULL || strstr(client.welcome.text, visitor->text) != NULL, "%s",
            client.welcome.text);
    require(status == MSHM_OK || client.store_fd < 0, "a descriptor went out");
}

static void
expect_visits(const struct broker_options *options, struct visitor *visitors, int count)
{
    struct worker worker;

    broker_start(&broker, path, options);
    for (int i = 0; i < count; i++) {
        worker_start(&worker, visit, &visitors[i]);
        worker_join(&worker);
    }
    broker_finish(&broker);
    scratch_remove(path);
}

START_TEST(mode_and_list_decide_who_may_attach)
{
    struct broker_options owner_only = {.arguments = {SMALL, "--mode", "0600"}};
    struct broker_options group = {.arguments = {SMALL}};
    struct broker_options all = {.arguments = {SMALL, "--mode", "0666"}};
    struct broker_options listed = {
        .arguments = {SMALL, "--mode", "0600", "--allow-uid", "12345", "--allow-uid", "12346"}};
    struct visitor a[] = {{0, 0, MSHM_OK, NULL}, {NOBODY, NOBODY, 1, NULL}};
    struct visitor b[] = {{1234, 0, MSHM_OK, NULL}, {NOBODY, NOBODY, 1, NULL}};
    struct visitor c[] = {{NOBODY, NOBODY, MSHM_OK, NULL}};
    struct visitor d[] = {{12345, 12345, MSHM_OK, NULL},
                          {12346, NOBODY, MSHM_OK, NULL},
                          {12347, 12345, MSHM_DENIED, "user 12347"},
                          {1234, 0, MSHM_DENIED, "0600"}};

    if (geteuid() != 0)
        return; /* only root can be others */
    expect_visits(&owner_only, a, 2);
    expect_visits(&group, b, 2);
    expect_visits(&all, c, 1);
    expect_visits(&listed, d, 4);
}
END_TEST

/* --- limits --------------------------------------------------------------------------------------------------------- */

START_TEST(sessions_beyond_the_limit_are_refused_until_one_ends)
{
    struct broker_options options = {.arguments = {SMALL, "--max-sessions", "3"}};
    struct raw_client clients[3], refused;

    broker_start(&broker, path, &options);
    for (int i = 0; i < 3; i++)
        raw_client_open(&clients[i], path);
    ck_assert_int_eq(hello_on(&refused, NULL), MSHM_LIMIT);
    ck_assert_ptr_nonnull(strstr(refused.welcome.text, "3 of 3"));
    raw_client_close(&refused);
    raw_client_close(&clients[1]);
    int status;
    wait_for((status = hello_on(&refused, NULL), raw_client_close(&refused), status == MSHM_OK));
    raw_client_close(&clients[0]);
    raw_client_close(&clients[2]);
    broker_finish(&broker);
}
END_TEST

static void
visit_twice(int channel, void *argument)
{
    struct raw_client clients[3];

    (void)channel;
    (void)argument;
    require(setgid(NOBODY) == 0 && setuid(NOBODY) == 0, "%s", strerror(errno));
    raw_client_open(&clients[0], path);
    raw_client_open(&clients[1], path);
    clients[2].socket = raw_client_connect(path);
    require_status(raw_client_hello(&clients[2], NULL), MSHM_LIMIT);
}

START_TEST(another_user_cannot_take_all_the_sessions)
{
    struct broker_options options = {.arguments = {SMALL, "--mode", "0666", "--max-sessions", "4"}};
    struct worker worker;

    if (geteuid() != 0)
        return; /* only root can be others */
    broker_start(&broker, path, &options);
    worker_start(&worker, visit_twice, NULL);
    worker_join(&worker);
    expect_service();
    broker_finish(&broker);
}
END_TEST

static void
few_descriptors(void *argument)
{
    struct rlimit limit = {40, 40};

    (void)argument;
    if (setrlimit(RLIMIT_NOFILE, &limit) != 0)
        _exit(125);
}

START_TEST(without_descriptors_a_client_is_refused_and_others_go_on)
{
    struct broker_options options = {.arguments = {SMALL}, .prepare = few_descriptors};
    enum { MANY = 64 };
    static struct raw_client clients[MANY];
    int count = 0, status = MSHM_OK;

    broker_start(&broker, path, &options);
    for (; count < MANY; count++) {
        status = hello_on(&clients[count], NULL);
        if (status != MSHM_OK)
            break;
    }
    ck_assert_int_eq(status, MSHM_LIMIT);
    ck_assert_int_gt(count, 0);
    ck_assert_int_eq(clients[count].store_fd, -1);
    raw_client_close(&clients[count]);
    /* Silent connections take what is left; the next one is told so with the descriptor kept for that. */
    int silent[MANY];
    for (int i = 0; i < MANY; i++)
        silent[i] = raw_client_connect(path);
    struct mshm_hello hello = hello_right();
    struct mshm_welcome welcome;
    ck_assert_int_eq(send(silent[MANY - 1], &hello, sizeof(hello), MSG_NOSIGNAL), sizeof(hello));
    for (int i = 0; i < MANY - 1; i++)
        close(silent[i]);
    ck_assert_int_eq(recv(silent[MANY - 1], &welcome, sizeof(welcome), 0), sizeof(welcome));
    ck_assert_int_eq(welcome.head.status, MSHM_LIMIT);
    close(silent[MANY - 1]);
    /* Who is attached did not notice. */
    raw_client_close(&clients[0]);
    int open_again;
    wait_for((open_again = hello_on(&clients[0], NULL), raw_client_close(&clients[0]),
              open_again == MSHM_OK));
    for (int i = 1; i < count; i++)
        raw_client_close(&clients[i]);
    wait_for(hello_on(&clients[0], NULL) == MSHM_OK);
    raw_client_close(&clients[0]);
    broker_finish(&broker);
}
END_TEST

/* Not even accept has a descriptor left: the one kept for that answers one client after the other. */
START_TEST(with_the_last_descriptor_gone_a_client_is_still_answered)
{
    struct raw_client client, refused;
    struct rlimit before, limit;

    broker_start(&broker, path, &small);
    int idle = process_descriptors(broker.pid);
    raw_client_open(&client, path);
    wait_for(process_descriptors(broker.pid) == idle + 4);
    ck_assert_int_eq(prlimit(broker.pid, RLIMIT_NOFILE, NULL, &before), 0);
    limit = before;
    limit.rlim_cur = (rlim_t)idle + 4;
    ck_assert_int_eq(prlimit(broker.pid, RLIMIT_NOFILE, &limit, NULL), 0);
    for (int i = 0; i < 3; i++) {
        ck_assert_int_eq(hello_on(&refused, NULL), MSHM_LIMIT);
        ck_assert_ptr_nonnull(strstr(refused.welcome.text, "descriptors"));
        raw_client_close(&refused);
    }
    struct mshm_tree_ref tree = raw_client_tree(&client, "default");
    ck_assert_int_eq(raw_client_put(&client, tree.bucket, "key", "value"), MSHM_OK);
    ck_assert_int_eq(prlimit(broker.pid, RLIMIT_NOFILE, &before, NULL), 0);
    expect_service();
    raw_client_close(&client);
    broker_finish(&broker);
}
END_TEST

START_TEST(silent_connections_do_not_keep_others_out)
{
    struct broker_options options = {.arguments = {SMALL}, .prepare = few_descriptors};
    int silent[64];

    broker_start(&broker, path, &options);
    for (int i = 0; i < 64; i++)
        silent[i] = raw_client_connect(path);
    struct raw_client client;
    int status = hello_on(&client, NULL); /* answered, not left waiting */
    ck_assert_msg(status == MSHM_LIMIT || status == MSHM_OK, "status %d", status);
    raw_client_close(&client);
    for (int i = 0; i < 64; i++)
        close(silent[i]);
    wait_for(hello_on(&client, NULL) == MSHM_OK);
    raw_client_close(&client);
    broker_finish(&broker);
}
END_TEST

static void
attach_without_room(int channel, void *argument)
{
    struct mshm_hello hello = hello_right();
    struct mshm_welcome welcome;
    char control[200];
    struct iovec vector = {&welcome, sizeof(welcome)};
    struct msghdr message = {.msg_iov = &vector,
                             .msg_iovlen = 1,
                             .msg_control = control,
                             .msg_controllen = sizeof(control)};

    (void)channel;
    (void)argument;
    int fd = raw_client_connect(path);
    require(fd >= 0, "%s", strerror(errno));
    struct rlimit limit = {(rlim_t)fd + 2, (rlim_t)fd + 2}; /* room for one of the four */
    require(setrlimit(RLIMIT_NOFILE, &limit) == 0, "%s", strerror(errno));
    require(send(fd, &hello, sizeof(hello), 0) == sizeof(hello), "%s", strerror(errno));
    require(recvmsg(fd, &message, MSG_CMSG_CLOEXEC) == sizeof(welcome), "%s", strerror(errno));
    require((message.msg_flags & MSG_CTRUNC) != 0, "nothing was cut");
}

START_TEST(a_client_without_room_for_its_descriptors_leaves_no_session_behind)
{
    struct worker worker;
    struct raw_client asker;

    broker_start(&broker, path, &small);
    raw_client_open(&asker, path);
    int before = process_descriptors(broker.pid);
    uint64_t number = asker.welcome.session;
    for (int i = 0; i < 5; i++) {
        worker_start(&worker, attach_without_room, NULL);
        worker_join(&worker);
        number++;
        wait_for(!session_exists(&asker, number));
    }
    wait_for(process_descriptors(broker.pid) <= before);
    raw_client_close(&asker);
    broker_finish(&broker);
}
END_TEST

/* --- nothing leaks -------------------------------------------------------------------------------------------------- */

static int
session_mappings(void)
{
    char name[64], line[500];
    int sessions = 0;

    snprintf(name, sizeof(name), "/proc/%d/maps", (int)broker.pid);
    FILE *maps = fopen(name, "re");
    while (maps != NULL && fgets(line, sizeof(line), maps) != NULL)
        sessions += strstr(line, "mace-session") != NULL;
    if (maps != NULL)
        fclose(maps);
    return sessions;
}

START_TEST(sessions_that_ended_leave_no_descriptor_and_no_memory_mapping)
{
    struct raw_client client;

    broker_start(&broker, path, &small);
    int before = process_descriptors(broker.pid);
    for (int i = 0; i < 100; i++) {
        if (i % 2 == 0) {
            raw_client_open(&client, path);
        } else { /* the attempt ends in the middle */
            memset(&client, 0, sizeof(client));
            client.socket = raw_client_connect(path);
            client.store_fd = client.hints_fd = client.session_fd = client.doorbell = -1;
            struct mshm_hello hello = hello_right();
            send(client.socket, &hello, sizeof(hello), MSG_NOSIGNAL);
        }
        raw_client_close(&client);
    }
    expect_service(); /* whoever came before was accepted before */
    wait_for(process_descriptors(broker.pid) <= before && session_mappings() == 0);
    broker_finish(&broker);
}
END_TEST

START_TEST(every_descriptor_of_the_broker_is_close_on_exec)
{
    struct raw_client client;
    char name[64], line[200];

    broker_start(&broker, path, &small);
    raw_client_open(&client, path);
    for (int fd = 3; fd < 200; fd++) {
        unsigned flags;
        snprintf(name, sizeof(name), "/proc/%d/fdinfo/%d", (int)broker.pid, fd);
        FILE *info = fopen(name, "re");
        if (info == NULL)
            continue;
        while (fgets(line, sizeof(line), info) != NULL)
            if (sscanf(line, "flags: %o", &flags) == 1)
                ck_assert_msg((flags & O_CLOEXEC) != 0, "descriptor %d", fd);
        fclose(info);
    }
    raw_client_close(&client);
    broker_finish(&broker);
}
END_TEST

int
main(void)
{
    Suite *suite = suite_create("broker_attach");
    TCase *cases = tcase_create("attach");
    SRunner *runner = srunner_create(suite);

    suite_add_tcase(suite, cases);
    tcase_add_checked_fixture(cases, setup, teardown);
    tcase_set_timeout(cases, 120);
    tcase_add_test(cases, a_client_of_another_version_is_refused_by_name_and_gets_no_descriptors);
    tcase_add_test(cases, while_it_recovers_hello_is_answered_busy_on_a_connection_that_stays);
    tcase_add_test(cases, a_signal_during_recovery_stops_it_and_nothing_is_lost);
    tcase_add_test(cases, a_client_cannot_write_the_store_in_any_way);
    tcase_add_test(cases, a_process_of_the_same_user_cannot_reach_into_the_broker);
    tcase_add_test(cases, malformed_messages_end_their_connection_and_nothing_else);
    tcase_add_test(cases, random_bytes_on_the_socket_harm_nobody);
    tcase_add_test(cases, who_does_not_read_its_answers_is_cut_off);
    tcase_add_test(cases, a_doorbell_filled_to_the_brim_blocks_nobody);
    tcase_add_test(cases, mode_and_list_decide_who_may_attach);
    tcase_add_test(cases, sessions_beyond_the_limit_are_refused_until_one_ends);
    tcase_add_test(cases, another_user_cannot_take_all_the_sessions);
    tcase_add_test(cases, without_descriptors_a_client_is_refused_and_others_go_on);
    tcase_add_test(cases, with_the_last_descriptor_gone_a_client_is_still_answered);
    tcase_add_test(cases, silent_connections_do_not_keep_others_out);
    tcase_add_test(cases, a_client_without_room_for_its_descriptors_leaves_no_session_behind);
    tcase_add_test(cases, sessions_that_ended_leave_no_descriptor_and_no_memory_mapping);
    tcase_add_test(cases, every_descriptor_of_the_broker_is_close_on_exec);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
