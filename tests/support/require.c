/* require.c - failing loudly in any process of a test. */
#include "support/require.h"

#include <stdarg.h>
#include <stdio.h>
#include <unistd.h>

#include "mace/mace.h"

void
require_failed(const char *file, int line, const char *condition, const char *format, ...)
{
    char text[1024];
    va_list arguments;

    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    fprintf(stderr, "%s:%d: [%d] not so: %s: %s\n", file, line, (int)getpid(), condition, text);
    fflush(stderr);
    _exit(1);
}

void
require_failed_status(const char *file, int line, const char *call, int got, int wanted)
{
    fprintf(stderr, "%s:%d: [%d] %s gave %d (%s), not %d (%s)\n", file, line, (int)getpid(), call,
            got, mace_strerror(got), wanted, mace_strerror(wanted));
    fflush(stderr);
    _exit(1);
}
