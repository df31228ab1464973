/* events.h - the log of events: one line per event, to standard error or to the file of --log.
 *
 *     2025-01-31T12:00:00.123Z mace-broker[4711] warning: io_uring refused (EPERM), using system calls
 *
 * Each line is one write(2) to a descriptor in append mode, so lines of several threads and processes do not mix.
 * The process has one log; before events_open lines go to standard error.
 */
#ifndef EVENTS_H
#define EVENTS_H

#include "env.h"

/* Opens (creating it, mode 0600) and appends to `path`; NULL keeps standard error. 0 or -errno. Before the threads. */
int events_open(const char *path);
/* Lines below this level are dropped; INFO at the start. Before the threads. */
void events_set_level(enum env_log_level level);
/* Writes one line. Bytes that are not printable become '?', so that no client can forge a line. Any thread. */
void events_line(enum env_log_level level, const char *line);
/* The same with a format. Longer lines than 1,000 bytes are cut. Any thread. */
void events_print(enum env_log_level level, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

#endif
