/* broker.c - a broker as a child of the test. */
#include "support/broker.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "support/process.h"
#include "support/tool.h"

enum { BROKER_READY_FD = 3 };

static void
broker_execute(const struct broker *broker, const struct broker_options *options, int ready)
{
    const char *program = getenv("MACE_BROKER");
    const char *arguments[BROKER_MAX_ARGUMENTS + 5];
    int count = 0;

    arguments[count++] = "mace-broker";
    arguments[count++] = broker->path;
    arguments[count++] = "--ready-fd";
    arguments[count++] = "3";
    for (int i = 0; options != NULL && i < BROKER_MAX_ARGUMENTS && options->arguments[i] != NULL;
         i++)
        arguments[count++] = options->arguments[i];
    arguments[count] = NULL;
    int log = open(broker->log, O_WRONLY | O_CREAT | O_APPEND, 0600);
    int null = open("/dev/null", O_RDWR);
    if (log < 0 || null < 0 || dup2(null, 0) < 0 || dup2(null, 1) < 0 || dup2(log, 2) < 0 ||
        (ready != BROKER_READY_FD && dup2(ready, BROKER_READY_FD) < 0))
        _exit(126);
    fcntl(BROKER_READY_FD, F_SETFD, 0);
    close_range(BROKER_READY_FD + 1, ~0u, 0);
    if (options != NULL && options->kill_point != NULL)
        setenv("MACE_KILL_POINT", options->kill_point, 1);
    if (options != NULL && options->preload != NULL)
        setenv("LD_PRELOAD", options->preload, 1);
    if (options != NULL && options->prepare != NULL)
        options->prepare(options->argument);
    execv(program, (char *const *)(uintptr_t)arguments);
    fprintf(stderr, "%s: %s\n", program, strerror(errno));
    _exit(127);
}

void
broker_launch(struct broker *broker, const char *path, const struct broker_options *options)
{
    char served[SCRATCH_PATH]; /* `path` may be broker->path */
    int ends[2];
    pid_t parent = getpid();

    snprintf(served, sizeof served, "%s", path);
    require(getenv("MACE_BROKER") != NULL, "MACE_BROKER names the program");
    memset(broker, 0, sizeof *broker);
    memcpy(broker->path, served, sizeof served);
    int size = snprintf(broker->log, sizeof broker->log, "%s.log", served);
    require(size > 0 && size < (int)sizeof broker->log, "path");
    require(pipe2(ends, O_CLOEXEC) == 0, "%s", strerror(errno));
    fflush(stdout);
    fflush(stderr);
    broker->pid = fork();
    require(broker->pid >= 0, "fork: %s", strerror(errno));
    if (broker->pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (getppid() != parent)
            _exit(1);
        broker_execute(broker, options, ends[1]);
    }
    close(ends[1]);
    broker->ready = ends[0];
}

int
broker_ready(struct broker *broker)
{
    int word = 1;
    ssize_t size;

    do
        size = read(broker->ready, &word, sizeof word);
    while (size < 0 && errno == EINTR);
    close(broker->ready);
    broker->ready = -1;
    return size == (ssize_t)sizeof word ? word : 1;
}

int
broker_settle(struct broker *broker)
{
    for (;;) {
        struct pollfd word = {.fd = broker->ready, .events = POLLIN};
        siginfo_t info = {0};
        if (poll(&word, 1, 10) == 1)
            return broker_ready(broker);
        if (waitid(P_PID, (id_t)broker->pid, &info, WSTOPPED | WNOHANG | WNOWAIT) == 0 &&
            info.si_pid == broker->pid)
            return BROKER_STOPPED;
    }
}

void
broker_start(struct broker *broker, const char *path, const struct broker_options *options)
{
    broker_launch(broker, path, options);
    int status = broker_ready(broker);
    if (status != 0)
        broker_log_show(broker);
    require(status == 0, "the broker of %s did not start: %d", path, status);
}

int
broker_wait(struct broker *broker)
{
    int status;

    while (waitpid(broker->pid, &status, 0) < 0)
        require(errno == EINTR, "waitpid: %s", strerror(errno));
    broker->pid = 0;
    if (broker->ready > 0)
        close(broker->ready);
    broker->ready = -1;
    return status;
}

void
broker_kill(struct broker *broker)
{
    require(kill(broker->pid, SIGKILL) == 0, "kill: %s", strerror(errno));
    int status = broker_wait(broker);
    if (!WIFSIGNALED(status))
        broker_log_show(broker);
    require(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL, "it ended with status %x",
            (unsigned)status);
}

void
broker_finish(struct broker *broker)
{
    require(kill(broker->pid, SIGTERM) == 0, "kill: %s", strerror(errno));
    int status = broker_wait(broker);
    if (status != 0)
        broker_log_show(broker);
    require(status == 0, "it ended with status %x", (unsigned)status);
    if (access(broker->path, F_OK) == 0) /* a test may remove it under the broker */
        tool_check_sound(broker->path);
}

void
broker_stop(struct broker *broker)
{
    require(kill(broker->pid, SIGSTOP) == 0, "kill: %s", strerror(errno));
    require(broker_wait_stopped(broker), "it ended instead");
}

void
broker_continue(struct broker *broker)
{
    require(kill(broker->pid, SIGCONT) == 0, "kill: %s", strerror(errno));
}

int
broker_wait_stopped(struct broker *broker)
{
    int status;

    while (waitpid(broker->pid, &status, WUNTRACED) < 0)
        require(errno == EINTR, "waitpid: %s", strerror(errno));
    if (WIFSTOPPED(status))
        return 1;
    broker_log_show(broker);
    broker->pid = 0;
    return 0;
}

int
broker_log_has(const struct broker *broker, const char *text)
{
    char line[2048];
    int found = 0;
    FILE *file = fopen(broker->log, "re");

    while (file != NULL && !found && fgets(line, sizeof line, file) != NULL)
        found = strstr(line, text) != NULL;
    if (file != NULL)
        fclose(file);
    return found;
}

void
broker_log_show(const struct broker *broker)
{
    char line[2048];
    FILE *file = fopen(broker->log, "re");

    while (file != NULL && fgets(line, sizeof line, file) != NULL)
        fprintf(stderr, "broker: %s", line);
    if (file != NULL)
        fclose(file);
}
