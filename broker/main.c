/* main.c - mace-broker: the command line, and what a process does before anything else. */
#include <argp.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

#include "events.h"
#include "host.h"
#include "kill_point.h"
#include "mshm/status.h"
#include "options.h"

#ifndef MACE_VERSION_TEXT
#define MACE_VERSION_TEXT "unknown"
#endif

/* A file of the database must not become descriptor 1 because the starter had closed it: text would go there. */
static int
main_fill_standard_descriptors(void)
{
    int fd;

    do
        fd = open("/dev/null", O_RDWR);
    while (fd >= 0 && fd <= STDERR_FILENO);
    if (fd < 0)
        return -1;
    close(fd);
    return 0;
}

/* 4 descriptors for each session, and some. */
static void
main_raise_descriptor_limit(void)
{
    struct rlimit limit;

    if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < limit.rlim_max) {
        limit.rlim_cur = limit.rlim_max;
        setrlimit(RLIMIT_NOFILE, &limit);
    }
}

/* The broker's death costs everybody more than a client's. Lowering needs a privilege; without it all is as it was. */
static void
main_lower_oom_score(void)
{
    int fd = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);

    if (fd < 0)
        return;
    ssize_t ignored = write(fd, "-900", 4);
    (void)ignored;
    close(fd);
}

#ifdef MACE_KILL_POINTS

/* MACE_KILL_POINT=name[@n][=kill|stop|exit|hold]: what happens when the point is reached for the n-th time. hold: the
 * thread stays there until the file named by MACE_KILL_POINT_FILE is gone, while the other threads go on. */
struct main_kill_point {
    char name[64];
    unsigned long left;
    enum { POINT_KILL, POINT_STOP, POINT_EXIT, POINT_HOLD } action;
};
static struct main_kill_point main_point;

static void
main_hold(void)
{
    const char *file = getenv("MACE_KILL_POINT_FILE");

    while (file != NULL && access(file, F_OK) == 0)
        usleep(1000);
}

static void
main_kill_point_reached(const char *name, void *argument)
{
    struct main_kill_point *point = argument;

    if (strcmp(name, point->name) != 0 || point->left == 0 || --point->left > 0)
        return;
    if (point->action == POINT_EXIT)
        _exit(HOST_EXIT_FAILED);
    if (point->action == POINT_HOLD)
        main_hold();
    else
        kill(getpid(), point->action == POINT_STOP ? SIGSTOP : SIGKILL);
}

static int
main_parse_kill_point(struct main_kill_point *point, const char *text)
{
    size_t length = strcspn(text, "@=");

    if (length == 0 || length >= sizeof(point->name))
        return -EINVAL;
    memcpy(point->name, text, length);
    point->name[length] = '\0';
    point->left = 1;
    text += length;
    if (*text == '@') {
        char *end;
        point->left = strtoul(text + 1, &end, 10);
        text = end;
    }
    if (strcmp(text, "=stop") == 0)
        point->action = POINT_STOP;
    else if (strcmp(text, "=exit") == 0)
        point->action = POINT_EXIT;
    else if (strcmp(text, "=hold") == 0)
        point->action = POINT_HOLD;
    else if (*text != '\0' && strcmp(text, "=kill") != 0)
        return -EINVAL;
    return point->left == 0 ? -EINVAL : 0;
}

static int
main_set_kill_point(void)
{
    const char *text = getenv("MACE_KILL_POINT");

    if (text == NULL || text[0] == '\0')
        return 0;
    if (main_parse_kill_point(&main_point, text) != 0)
        return -EINVAL;
    for (const char *const *name = kill_point_names(); *name != NULL; name++) {
        if (strcmp(*name, main_point.name) != 0)
            continue;
        kill_point_set_handler(main_kill_point_reached, &main_point);
        return 0;
    }
    return -ENOENT;
}

#else

static int
main_set_kill_point(void)
{
    return 0;
}

#endif

static int
main_prepare(const struct options *options)
{
    /* Before chdir: the path may be relative. */
    int error = events_open(options->log);

    if (error != 0) {
        fprintf(stderr, "mace-broker: %s cannot be opened: %s\n", options->log, strerror(-error));
        return HOST_EXIT_FAILED;
    }
    if (options->verbose)
        events_set_level(ENV_LOG_DEBUG);
    if (options->ready_fd >= 0 && fcntl(options->ready_fd, F_SETFD, FD_CLOEXEC) < 0) {
        fprintf(stderr, "mace-broker: --ready-fd %d is not open\n", options->ready_fd);
        return HOST_EXIT_MISUSE;
    }
    if (main_set_kill_point() != 0) {
        fprintf(stderr, "mace-broker: MACE_KILL_POINT names no kill point\n");
        return HOST_EXIT_MISUSE;
    }
    main_raise_descriptor_limit();
    main_lower_oom_score();
    prctl(PR_SET_NAME, "mace-broker");
    /* The same user must not reach the broker's memory or descriptors through ptrace, /proc or pidfd_getfd. */
    if (prctl(PR_SET_DUMPABLE, 0) < 0) {
        fprintf(stderr, "mace-broker: cannot be made undumpable: %s\n", strerror(errno));
        return HOST_EXIT_FAILED;
    }
    return 0;
}

/* The library that started this broker handed on a value that no broker takes. */
static void
main_tell_misuse(int ready_fd)
{
    int32_t word = MSHM_INVALID;

    if (ready_fd >= 0 && write(ready_fd, &word, sizeof(word)) < 0)
        fprintf(stderr, "mace-broker: --ready-fd %d: %s\n", ready_fd, strerror(errno));
}

int
main(int argc, char **argv)
{
    struct options options;
    char why[256];

    if (main_fill_standard_descriptors() < 0)
        return HOST_EXIT_FAILED;
    switch (options_parse(&options, argc, argv, why, sizeof(why))) {
    case OPTIONS_HELP:
        options_help();
        return HOST_EXIT_CLEAN;
    case OPTIONS_VERSION:
        printf("mace-broker (mace) %s\n", MACE_VERSION_TEXT);
        return HOST_EXIT_CLEAN;
    case OPTIONS_MISUSE:
        fprintf(stderr, "mace-broker: %s (--help tells more)\n", why);
        main_tell_misuse(options.ready_fd);
        return HOST_EXIT_MISUSE;
    case OPTIONS_RUN:
        break;
    }
    int failed = main_prepare(&options);
    return failed != 0 ? failed : host_run(&options);
}
