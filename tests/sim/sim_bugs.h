/* sim_bugs.h - mistakes that a test plants into the broker, to see that the simulation finds each of them.
 *
 * The functions named in the linker's --wrap options come by here; without a planted bug they do what they always do.
 */
#ifndef SIM_BUGS_H
#define SIM_BUGS_H

#include <stdbool.h>
#include <stddef.h>

struct sim_env;

/* Names, NULL-terminated, each with a line on what is wrong. */
struct sim_bug {
    const char *name, *what;
};
const struct sim_bug *sim_bugs(void);
/* NULL: none. False: no such bug. Process-wide. */
bool sim_bug_plant(const char *name);
/* Sets up what the planted bug wants of the machine. */
void sim_bug_prepare(struct sim_env *sim);

#endif
