/* sim_script.h - one history without chance that passes through everything that writes: checkpoints, deltas, blind writes,
 * page-in, eviction, splits, merges, old snapshots, a new manifest, recycling of the log, removal of data files, the drop
 * of a bucket, recovery after an orderly stop and after a death.
 */
#ifndef SIM_SCRIPT_H
#define SIM_SCRIPT_H

#include "sim/sim_world.h"

/* Makes the options that the script wants; after sim_world_begin. */
void sim_script_options(struct sim_world *world);
/* From an empty disk to the end, or to the first death, failure or poison: true when it came to the end, stopped. */
bool sim_script_run(struct sim_world *world);
/* Recovers (the process is dead or has never been) and compares; true when it serves. */
bool sim_script_recover(struct sim_world *world);

#endif
