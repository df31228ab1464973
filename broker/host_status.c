/* host_status.c - the one table from errno to status codes. */
#include "host_status.h"

#include <errno.h>

#include "mshm/status.h"

int
host_status(int error)
{
    switch (error) {
    case ENOENT:
        return MSHM_NOT_FOUND;
    case EEXIST:
        return MSHM_EXISTS;
    case ENOTDIR:
    case EINVAL:
    case ENAMETOOLONG:
    case ELOOP:
        return MSHM_INVALID;
    case EACCES:
    case EPERM:
    case EROFS:
        return MSHM_DENIED;
    case ENOSPC:
    case EDQUOT:
    case EFBIG:
        return MSHM_FULL;
    case ENOMEM:
        return MSHM_NO_MEMORY;
    case EMFILE:
    case ENFILE:
        return MSHM_LIMIT;
    default:
        return MSHM_IO;
    }
}
