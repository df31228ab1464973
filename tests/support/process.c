/* process.c - forked workers, channels and /proc. */
#include "support/process.h"

#include <dirent.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

uint64_t
process_time_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

void
process_pause(void)
{
    struct timespec pause = {.tv_nsec = 500000};

    nanosleep(&pause, NULL);
}

void
worker_start(struct worker *worker, void (*run)(int channel, void *argument), void *argument)
{
    int ends[2];
    pid_t parent = getpid();

    require(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) == 0, "%s", strerror(errno));
    fflush(stdout);
    fflush(stderr);
    pid_t pid = fork();
    require(pid >= 0, "fork: %s", strerror(errno));
    if (pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (getppid() != parent)
            _exit(1);
        close(ends[0]);
        run(ends[1], argument);
        fflush(stdout);
        _exit(0);
    }
    close(ends[1]);
    worker->pid = pid;
    worker->channel = ends[0];
}

int
worker_wait(struct worker *worker)
{
    int status;

    while (waitpid(worker->pid, &status, 0) < 0)
        require(errno == EINTR, "waitpid: %s", strerror(errno));
    close(worker->channel);
    worker->pid = 0;
    worker->channel = -1;
    return status;
}

void
worker_join(struct worker *worker)
{
    int pid = (int)worker->pid;
    int status = worker_wait(worker);

    require(WIFEXITED(status) && WEXITSTATUS(status) == 0, "worker %d ended with status %x", pid,
            (unsigned)status);
}

int
worker_kill(struct worker *worker)
{
    require(kill(worker->pid, SIGKILL) == 0, "kill: %s", strerror(errno));
    return worker_wait(worker);
}

void
worker_stop(struct worker *worker)
{
    int status;

    require(kill(worker->pid, SIGSTOP) == 0, "kill: %s", strerror(errno));
    require(waitpid(worker->pid, &status, WUNTRACED) == worker->pid, "%s", strerror(errno));
    require(WIFSTOPPED(status), "the worker ended with status %x", (unsigned)status);
}

void
worker_continue(struct worker *worker)
{
    require(kill(worker->pid, SIGCONT) == 0, "kill: %s", strerror(errno));
}

void
channel_tell(int channel, uint64_t word)
{
    require(send(channel, &word, sizeof word, MSG_NOSIGNAL) == (ssize_t)sizeof word, "%s",
            strerror(errno));
}

int
channel_hear(int channel, uint64_t *word)
{
    ssize_t size;

    do
        size = recv(channel, word, sizeof *word, MSG_WAITALL);
    while (size < 0 && errno == EINTR);
    return size == (ssize_t)sizeof *word;
}

void
channel_expect(int channel, uint64_t word)
{
    uint64_t heard = 0;

    require(channel_hear(channel, &heard), "the other end is gone");
    require(heard == word, "heard %llu, not %llu", (unsigned long long)heard,
            (unsigned long long)word);
}

/* The fields of /proc/PID/stat after the command, which may contain anything. */
static int
process_stat(pid_t pid, char *line, int size)
{
    char path[64];

    snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
    FILE *file = fopen(path, "re");
    if (file == NULL)
        return 0;
    char *read = fgets(line, size, file);
    fclose(file);
    if (read == NULL)
        return 0;
    char *end = strrchr(line, ')');
    if (end == NULL)
        return 0;
    memmove(line, end + 1, strlen(end + 1) + 1);
    return 1;
}

char
process_state(pid_t pid)
{
    char line[1024], state = 0;

    if (!process_stat(pid, line, sizeof line) || sscanf(line, " %c", &state) != 1)
        return 0;
    return state;
}

uint64_t
process_cpu_ticks(pid_t pid)
{
    char line[1024];
    unsigned long long user = 0, system = 0;

    if (process_stat(pid, line, sizeof line))
        sscanf(line, " %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %llu %llu", &user, &system);
    return user + system;
}

int
process_descriptors(pid_t pid)
{
    char path[64], target[512];
    struct dirent *entry;
    int count = 0;

    snprintf(path, sizeof path, "/proc/%d/fd", (int)pid);
    DIR *directory = opendir(path);
    if (directory == NULL)
        return -1;
    while ((entry = readdir(directory)) != NULL) {
        ssize_t size = readlinkat(dirfd(directory), entry->d_name, target, sizeof target - 1);
        target[size > 0 ? size : 0] = '\0';
        count += size > 0 && strstr(target, "/wal/") == NULL && strstr(target, "/data/") == NULL &&
                 strstr(target, "/MANIFEST-") == NULL;
    }
    closedir(directory);
    return count;
}

int
process_children(void)
{
    char path[80], word[32];
    int count = 0;

    snprintf(path, sizeof path, "/proc/self/task/%d/children", (int)getpid());
    FILE *file = fopen(path, "re");
    if (file == NULL)
        return -1;
    while (fscanf(file, "%31s", word) == 1)
        count++;
    fclose(file);
    return count;
}
