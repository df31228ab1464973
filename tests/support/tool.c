/* tool.c - the programs of tools/, run by a test. */
#include "support/tool.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "support/process.h"
#include "support/scratch.h"

/* In the build directory, which the broker's program tells, too. */
static void
program_find(char program[SCRATCH_PATH], const char *name)
{
    const char *build = getenv("MACE_BUILD_DIR"), *broker = getenv("MACE_BROKER");
    const char *end = broker != NULL ? strrchr(broker, '/') : NULL;
    int size = -1;
    if (build != NULL)
        size = snprintf(program, SCRATCH_PATH, "%s/tools/%s", build, name);
    else if (end != NULL)
        size =
            snprintf(program, SCRATCH_PATH, "%.*s/../tools/%s", (int)(end - broker), broker, name);
    require(size > 0 && size < SCRATCH_PATH, "MACE_BUILD_DIR names the build directory");
}

void
tool_start(struct tool *tool, const char *name, const char *const *arguments)
{
    const char *argv[TOOL_MAX_ARGUMENTS + 2] = {name};
    char program[SCRATCH_PATH];
    int ends[2];
    pid_t parent = getpid();
    program_find(program, name);
    for (int i = 0; arguments[i] != NULL; i++) {
        require(i < TOOL_MAX_ARGUMENTS, "too many arguments");
        argv[i + 1] = arguments[i];
    }
    require(pipe2(ends, O_CLOEXEC) == 0, "%s", strerror(errno));
    fflush(stdout);
    fflush(stderr);
    tool->pid = fork();
    require(tool->pid >= 0, "fork: %s", strerror(errno));
    if (tool->pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (getppid() != parent || dup2(ends[1], 1) < 0 || dup2(ends[1], 2) < 0)
            _exit(126);
        execv(program, (char *const *)(uintptr_t)argv);
        dprintf(2, "%s: %s\n", program, strerror(errno));
        _exit(127);
    }
    close(ends[1]);
    tool->output = ends[0];
}

int
tool_wait(struct tool *tool, char output[TOOL_OUTPUT])
{
    char rest[512];
    size_t have = 0;
    int status;
    for (;;) {
        bool room = output != NULL && have + 1 < TOOL_OUTPUT;
        ssize_t got = room ? read(tool->output, output + have, TOOL_OUTPUT - 1 - have)
                           : read(tool->output, rest, sizeof rest);
        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0)
            break;
        have += room ? (size_t)got : 0;
    }
    if (output != NULL)
        output[have] = '\0';
    close(tool->output);
    while (waitpid(tool->pid, &status, 0) < 0)
        require(errno == EINTR, "%s", strerror(errno));
    return status;
}

static int
exit_status(const char *name, int status, const char *output)
{
    require(WIFEXITED(status), "%s died of signal %d: %s", name, WTERMSIG(status), output);
    require(WEXITSTATUS(status) < 126, "%s did not run: %s", name, output);
    return WEXITSTATUS(status);
}

int
tool_run(char output[TOOL_OUTPUT], const char *name, ...)
{
    const char *arguments[TOOL_MAX_ARGUMENTS + 1];
    struct tool tool;
    int count = 0;
    va_list list;
    va_start(list, name);
    while ((arguments[count] = va_arg(list, const char *)) != NULL)
        require(++count <= TOOL_MAX_ARGUMENTS, "too many arguments");
    va_end(list);
    tool_start(&tool, name, arguments);
    return exit_status(name, tool_wait(&tool, output), output);
}

/* Until the lock of the directory is free. Asking a broker that is about to leave would keep it. */
static void
broker_await(const char *path)
{
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    require(fd >= 0, "%s: %s", path, strerror(errno));
    wait_for(flock(fd, LOCK_EX | LOCK_NB) == 0);
    close(fd);
}

void
tool_check_sound(const char *path)
{
    char output[TOOL_OUTPUT];
    broker_await(path);
    int status = tool_run(output, "mace-check", path, NULL);
    require(status == 0, "mace-check %s: %d\n%s", path, status, output);
}

void
tool_check_sound_online(const char *path)
{
    char output[TOOL_OUTPUT];
    int status = tool_run(output, "mace-check", "--online", path, NULL);
    require(status == 0, "mace-check --online %s: %d\n%s", path, status, output);
}
