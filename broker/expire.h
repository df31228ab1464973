/* expire.h - taking old snapshots from those who keep too much. */
#ifndef EXPIRE_H
#define EXPIRE_H

#include "core_parts.h"

/* Expires what is older than the configured age, and while history exceeds its share the snapshot that costs most.
 * Marks first, then collects anew, then prunes. True when something was expired or is still to be pruned. */
bool expire_run(struct core *core);
/* When the next snapshot will be too old: nanoseconds from now, UINT64_MAX = never. */
uint64_t expire_due_ns(const struct core *core);

#endif
