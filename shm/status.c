/* shm/status.c - the texts of the status codes, from the one table. */
#include "mshm/status.h"

const char *
mshm_strerror(int status)
{
    switch (status) {
    case MSHM_OK:
        return "success";
#define X(name, number, text) \
    case MSHM_##name:         \
        return text;
#include "mshm/status.def"
#undef X
    default:
        return "unknown status";
    }
}
