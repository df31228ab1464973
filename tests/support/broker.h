/* support/broker.h - a broker that a test starts itself, as its own child, to stop, kill and question it. It dies with the
 * test. The program is $MACE_BROKER.
 */
#ifndef SUPPORT_BROKER_H
#define SUPPORT_BROKER_H

#include <sys/types.h>

#include "support/scratch.h"

enum { BROKER_MAX_ARGUMENTS = 16 };

struct broker_options {
    const char *arguments[BROKER_MAX_ARGUMENTS]; /* after PATH; NULL ends them */
    const char *kill_point;                      /* value of MACE_KILL_POINT, or NULL */
    const char *preload;                         /* value of LD_PRELOAD, or NULL */
    void (*prepare)(void *argument);             /* in the child, before the program; or NULL */
    void *argument;
};

struct broker {
    pid_t pid;               /* 0: none */
    char path[SCRATCH_PATH]; /* of the database */
    char log[SCRATCH_PATH];  /* of its events: path with ".log" */
    int ready;               /* what broker_ready reads */
};

/* Starts the program; does not wait for it. options may be NULL. */
void broker_launch(struct broker *broker, const char *path, const struct broker_options *options);
/* Waits until it serves: 0, or the status with which it could not start; 1 when it ended without a word. */
int broker_ready(struct broker *broker);
/* The same for one with a kill point that stops it: BROKER_STOPPED when it has stopped itself before it served, and
 * broker_ready may be called again. */
enum { BROKER_STOPPED = 2 };
int broker_settle(struct broker *broker);
/* Launches and waits, and it has to serve. */
void broker_start(struct broker *broker, const char *path, const struct broker_options *options);

/* Waits for its end, and returns the wait status. */
int broker_wait(struct broker *broker);
/* SIGKILL, and its end. */
void broker_kill(struct broker *broker);
/* SIGTERM, and its end, which has to be with status 0 and leave a database in which mace-check finds nothing wrong. */
void broker_finish(struct broker *broker);
/* SIGSTOP, and waits until it is stopped; SIGCONT. */
void broker_stop(struct broker *broker);
void broker_continue(struct broker *broker);
/* Waits until it is stopped by its own kill point (1), or has ended (0). */
int broker_wait_stopped(struct broker *broker);

/* True when the log of events has a line that contains `text`. */
int broker_log_has(const struct broker *broker, const char *text);
/* Prints the log of events to stderr. */
void broker_log_show(const struct broker *broker);

#endif
