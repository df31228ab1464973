/* sim_seams.c - thresholds of the broker that no simulated history would reach, made smaller by the linker's --wrap. */
#include "manifest.h"

enum { LONG_BYTES = 24 * 1024 };

bool __real_manifest_long(const struct manifest *manifest);
bool __wrap_manifest_long(const struct manifest *manifest);

bool
__wrap_manifest_long(const struct manifest *manifest)
{
    uint64_t edits = manifest->size - manifest->snapshot_size;
    return __real_manifest_long(manifest) ||
           (edits > LONG_BYTES && edits > manifest->snapshot_size);
}
