/* events.c - formatting and writing of the log of events. */
#include "events.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static int events_descriptor = STDERR_FILENO;
static enum env_log_level events_level = ENV_LOG_INFO;

enum { EVENTS_LINE_MAX = 1000, EVENTS_PREFIX_MAX = 100 };

int
events_open(const char *path)
{
    if (path == NULL)
        return 0;
    int fd = open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NOCTTY, 0600);
    if (fd < 0)
        return -errno;
    events_descriptor = fd;
    return 0;
}

void
events_set_level(enum env_log_level level)
{
    events_level = level;
}

static const char *
events_level_name(enum env_log_level level)
{
    switch (level) {
    case ENV_LOG_DEBUG:
        return "debug";
    case ENV_LOG_INFO:
        return "info";
    case ENV_LOG_WARNING:
        return "warning";
    case ENV_LOG_ERROR:
        return "error";
    }
    return "event";
}

/* Text starts with the time of the wall clock: it is for people, no protocol reads it. */
static size_t
events_prefix(char *to, size_t capacity, enum env_log_level level)
{
    struct timespec now;
    struct tm parts;
    char when[40];

    clock_gettime(CLOCK_REALTIME, &now);
    gmtime_r(&now.tv_sec, &parts);
    strftime(when, sizeof(when), "%Y-%m-%dT%H:%M:%S", &parts);
    int size = snprintf(to, capacity, "%s.%03dZ mace-broker[%d] %s: ", when,
                        (int)(now.tv_nsec / 1000000), (int)getpid(), events_level_name(level));
    return size < 0 ? 0 : (size_t)size;
}

void
events_line(enum env_log_level level, const char *line)
{
    char text[EVENTS_PREFIX_MAX + EVENTS_LINE_MAX + 1];

    if (level < events_level)
        return;
    int saved = errno;
    size_t size = events_prefix(text, EVENTS_PREFIX_MAX, level);
    for (size_t i = 0; line[i] != '\0' && i < EVENTS_LINE_MAX; i++) {
        unsigned char byte = (unsigned char)line[i];
        text[size++] = byte < 0x20 || byte == 0x7f ? '?' : (char)byte;
    }
    text[size++] = '\n';
    /* A log that cannot be written must not stop the database: the line is lost. */
    while (write(events_descriptor, text, size) < 0 && errno == EINTR)
        ;
    errno = saved;
}

void
events_print(enum env_log_level level, const char *format, ...)
{
    char line[EVENTS_LINE_MAX + 1];
    va_list arguments;

    if (level < events_level)
        return;
    va_start(arguments, format);
    vsnprintf(line, sizeof(line), format, arguments);
    va_end(arguments);
    events_line(level, line);
}
