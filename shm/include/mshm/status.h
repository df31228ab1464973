/* mshm/status.h - the status codes as the broker and the shared code name them.
 * libmace's public MACE_ codes have the same numbers; libmace/status.c asserts that for every row of status.def. */
#ifndef MSHM_STATUS_H
#define MSHM_STATUS_H

enum mshm_status {
    MSHM_OK = 0,
#define X(name, number, text) MSHM_##name = (number),
#include "mshm/status.def"
#undef X
};

/* Text for a person; never NULL, static storage. Any thread. */
const char *mshm_strerror(int status);

#endif
