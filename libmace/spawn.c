#include "spawn.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "mlib_time.h"
#include "mshm/status.h"

enum { READY_FD = 3 };

static int
candidate_use(const char *directory, size_t directory_size, const char *name, char *out,
              size_t size)
{
    int written = directory_size == 0
                      ? snprintf(out, size, "%s", name)
                      : snprintf(out, size, "%.*s/%s", (int)directory_size, directory, name);
    if (written < 0 || (size_t)written >= size)
        return MSHM_INVALID;
    return access(out, X_OK) == 0 ? MSHM_OK : MSHM_NOT_FOUND;
}

static int
path_search(const char *name, char *out, size_t size)
{
    const char *list = getenv("PATH");
    if (list == NULL || list[0] == '\0')
        list = "/usr/local/bin:/usr/bin:/bin";
    while (*list != '\0') {
        const char *end = strchrnul(list, ':');
        if (end > list && candidate_use(list, (size_t)(end - list), name, out, size) == MSHM_OK)
            return MSHM_OK;
        list = *end == ':' ? end + 1 : end;
    }
    return MSHM_NOT_FOUND;
}

/* The tree that this library was loaded from may have been installed or moved elsewhere than it was built for, and its
 * broker is the one that fits. A static library is the program itself, whose name its caller chooses. */
static int
own_tree_search(char *out, size_t size)
{
    static const char *const ways[] = {MACE_LIBDIR_TO_BINDIR, MACE_LIBDIR_TO_LIBEXECDIR};
    char directory[PATH_MAX];
    Dl_info own;

    if (getauxval(AT_SECURE) != 0 || dladdr((const void *)ways, &own) == 0 ||
        own.dli_fname == NULL || own.dli_fname[0] != '/')
        return MSHM_NOT_FOUND;
    int length = (int)(strrchr(own.dli_fname, '/') - own.dli_fname);
    for (size_t i = 0; i < sizeof ways / sizeof ways[0]; i++) {
        int written =
            snprintf(directory, sizeof directory, "%.*s/%s", length, own.dli_fname, ways[i]);
        if (written < (int)sizeof directory &&
            candidate_use(directory, (size_t)written, "mace-broker", out, size) == MSHM_OK)
            return MSHM_OK;
    }
    return MSHM_NOT_FOUND;
}

int
mlib_spawn_find(const char *wanted, char *out, size_t size)
{
    /* A set-user-ID program must not let its caller choose what it runs. */
    if (wanted == NULL)
        wanted = secure_getenv("MACE_BROKER");
    if (wanted != NULL && wanted[0] != '\0') {
        if (strchr(wanted, '/') == NULL)
            return path_search(wanted, out, size);
        return candidate_use(NULL, 0, wanted, out, size);
    }
    if (own_tree_search(out, size) == MSHM_OK)
        return MSHM_OK;
    static const char *const prefixes[] = {MACE_INSTALL_BINDIR, MACE_INSTALL_LIBEXECDIR};
    for (size_t i = 0; i < sizeof prefixes / sizeof prefixes[0]; i++)
        if (candidate_use(prefixes[i], strlen(prefixes[i]), "mace-broker", out, size) == MSHM_OK)
            return MSHM_OK;
    return path_search("mace-broker", out, size);
}

/* A fork without an exit signal: the host's SIGCHLD handler is not called, and its wait(-1) does not see the child.
 * The C library's fork handlers do not run, so the child may only make async-signal-safe calls. */
static pid_t
fork_quietly(void)
{
    return (pid_t)syscall(SYS_clone, 0UL, 0UL, 0UL, 0UL, 0UL);
}

static void
report_failure(int error)
{
    int status = error == EACCES || error == EPERM     ? MSHM_DENIED
                 : error == ENOENT || error == ENOTDIR ? MSHM_NOT_FOUND
                 : error == ENOMEM                     ? MSHM_NO_MEMORY
                                                       : MSHM_IO;
    ssize_t ignored = write(READY_FD, &status, sizeof status);
    (void)ignored;
    _exit(127);
}

/* In the grandchild: clean descriptors and signals, then the program. */
static void
daemon_run(const char *program, char *const arguments[], int ready_fd)
{
    int null_fd = open("/dev/null", O_RDWR);
    if (ready_fd != READY_FD && dup2(ready_fd, READY_FD) < 0)
        _exit(127);
    fcntl(READY_FD, F_SETFD, 0);
    for (int fd = 0; fd < 3; fd++)
        if (null_fd < 0 || dup2(null_fd, fd) < 0)
            close(fd);
    if (syscall(SYS_close_range, (unsigned)READY_FD + 1, ~0U, 0U) != 0)
        for (int fd = READY_FD + 1; fd < 65536; fd++)
            close(fd);
    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_handler = SIG_DFL;
    for (int number = 1; number < NSIG; number++)
        sigaction(number, &action, NULL);
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    if (chdir("/") != 0)
        report_failure(errno);
    execv(program, arguments);
    report_failure(errno);
}

int
mlib_spawn_start(const struct mlib_spawn *spawn, int *ready_fd)
{
    char cache[32], idle[32], ready[16];
    snprintf(cache, sizeof cache, "%" PRIu64, spawn->cache_size);
    snprintf(idle, sizeof idle, "%u", spawn->idle_exit_ms);
    snprintf(ready, sizeof ready, "%d", (int)READY_FD);
    char *arguments[10];
    unsigned count = 0;
    arguments[count++] = (char *)(uintptr_t) "mace-broker";
    arguments[count++] = (char *)(uintptr_t)spawn->path;
    arguments[count++] = (char *)(uintptr_t) "--ready-fd";
    arguments[count++] = ready;
    arguments[count++] = (char *)(uintptr_t) "--idle-exit";
    arguments[count++] = idle;
    if (spawn->cache_size != 0) {
        arguments[count++] = (char *)(uintptr_t) "--cache";
        arguments[count++] = cache;
    }
    arguments[count] = NULL;

    int ends[2];
    if (pipe2(ends, O_CLOEXEC) != 0)
        return MSHM_LIMIT;
    /* No handler of the host may run in the child, which shares nothing with it but looks like it. */
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    pid_t child = fork_quietly();
    if (child == 0) {
        setsid();
        pid_t grandchild = fork_quietly();
        if (grandchild == 0)
            daemon_run(spawn->program, arguments, ends[1]);
        _exit(grandchild < 0 ? 1 : 0);
    }
    int status = 0;
    if (child > 0)
        while (waitpid(child, &status, __WALL) < 0 && errno == EINTR)
            ;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    close(ends[1]);
    if (child < 0 || status != 0) {
        close(ends[0]);
        return MSHM_NO_MEMORY;
    }
    *ready_fd = ends[0];
    return MSHM_OK;
}

int
mlib_spawn_ready(int ready_fd, uint64_t deadline_ns)
{
    int status = MSHM_BROKER_LOST;
    struct pollfd wait = {.fd = ready_fd, .events = POLLIN};
    for (;;) {
        int ready = poll(&wait, 1, mlib_time_left_ms(deadline_ns));
        if (ready < 0 && errno == EINTR)
            continue;
        int word;
        if (ready > 0 && read(ready_fd, &word, sizeof word) == (ssize_t)sizeof word)
            status = word <= 0 ? word : MSHM_BROKER_LOST;
        break;
    }
    close(ready_fd);
    return status;
}
