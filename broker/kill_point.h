/* kill_point.h - named steps worth dying at.
 *
 * MACE_KILL_POINT("wal:before_sync") costs nothing unless the build has MACE_KILL_POINTS; then a program that sets the
 * handler (environment variable MACE_KILL_POINT=name[@n][=kill|stop|exit] in mace-broker, or tests/sim) acts when a
 * point is reached for the n-th time. The registry (kill_point.c) lists every name, so that "every point was hit" is a
 * number: a name that is not in it fails an assertion.
 */
#ifndef KILL_POINT_H
#define KILL_POINT_H

#ifdef MACE_KILL_POINTS
void kill_point_reached(const char *name);
#define MACE_KILL_POINT(name) kill_point_reached(name)
#else
#define MACE_KILL_POINT(name) ((void)0)
#endif

/* All names, NULL-terminated. */
const char *const *kill_point_names(void);
/* Sets what happens at a point; NULL handler = nothing. Loop thread, before the first step. */
void kill_point_set_handler(void (*handler)(const char *name, void *argument), void *argument);

#endif
