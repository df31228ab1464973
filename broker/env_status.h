/* env_status.h - from -errno, as the environment's functions return it, to a status code. */
#ifndef ENV_STATUS_H
#define ENV_STATUS_H

#include <errno.h>
#include <stdbool.h>
#include <stdint.h>

#include "mshm/status.h"

/* No room on the device or in the quota, or no descriptor or memory for the moment: nothing is damaged, later may do. */
static inline bool
env_error_passes(int64_t result)
{
    return result == -ENOSPC || result == -EDQUOT || result == -EMFILE || result == -ENFILE ||
           result == -ENOMEM;
}

static inline int
env_status(int64_t result)
{
    if (result >= 0)
        return MSHM_OK;
    switch (-result) {
    case ENOSPC:
    case EDQUOT:
        return MSHM_FULL;
    case EMFILE:
    case ENFILE:
        return MSHM_LIMIT;
    case ENOMEM:
        return MSHM_NO_MEMORY;
    case EACCES:
    case EPERM:
    case EROFS:
        return MSHM_DENIED;
    default:
        return MSHM_IO;
    }
}

#endif
