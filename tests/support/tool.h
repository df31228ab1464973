/* support/tool.h - the programs of tools/ run by a test: they stand in $MACE_BUILD_DIR/tools, or in tools beside
 * the directory of $MACE_BROKER. */
#ifndef SUPPORT_TOOL_H
#define SUPPORT_TOOL_H

#include <sys/types.h>

enum { TOOL_OUTPUT = 16384, TOOL_MAX_ARGUMENTS = 8 };

/* A program under way. It dies with the test. */
struct tool {
    pid_t pid;
    int output; /* its stdout and stderr */
};
/* arguments: behind the program's name, NULL ends them. */
void tool_start(struct tool *tool, const char *name, const char *const *arguments);
/* Waits for its end: the wait status. `output` (may be NULL) gets what it said, cut off at TOOL_OUTPUT. */
int tool_wait(struct tool *tool, char output[TOOL_OUTPUT]);

/* Both, with the arguments up to a NULL: the exit status. A program that dies of a signal is a failure. */
int tool_run(char output[TOOL_OUTPUT], const char *name, ...) __attribute__((sentinel));

/* "The database is sound": mace-check finds nothing in it. No broker serves it; one that is leaving is waited for. For the end of
 * any test that has a database. */
void tool_check_sound(const char *path);
/* The same beside a running broker. */
void tool_check_sound_online(const char *path);

#endif
