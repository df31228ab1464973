/* libmace/status.c - mace_strerror, and the proof that the public codes and the shared ones are the same numbers. */
#include "mshm/status.h"
#include "mace/mace.h"

#include <assert.h>

#define X(name, number, text)                                                                 \
    static_assert(MACE_##name == (number), "mace.h and mshm/status.def differ: MACE_" #name); \
    static_assert((int)MACE_##name == (int)MSHM_##name, "MACE_" #name " and MSHM_" #name);
#include "mshm/status.def"
#undef X

const char *
mace_strerror(int status)
{
    return mshm_strerror(status);
}
