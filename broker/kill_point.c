#include "kill_point.h"

#include <assert.h>
#include <stddef.h>
#include <string.h>

static const char *const names[] = {
    "recovery:begin",
    "recovery:manifest_stored",
    "recovery:replayed",
    "recovery:durable",
    "recovery:segment_opened",
    "wal:staged",
    "wal:mapped",
    "wal:append_started",
    "wal:append_done",
    "wal:segment_switched",
    "wal:segment_named",
    "wal:segment_prepared",
    "wal:recycle_invalidated",
    "wal:recycle_renamed",
    "wal:recycle_synced",
    "wal:released_removed",
    "checkpoint:sealed",
    "checkpoint:packed",
    "checkpoint:written",
    "checkpoint:synced",
    "checkpoint:before_edit",
    "checkpoint:edited",
    "checkpoint:published",
    "manifest:written",
    "manifest:renamed",
    "manifest:edit_written",
    "data:file_synced",
    "data:file_made",
    "data:removed",
    "tree:append",
    "tree:blind_write",
    "tree:rebuild_published",
    "tree:split_right_published",
    "tree:split_left_published",
    "tree:split_parent_published",
    "tree:root_split",
    "tree:merge_left_published",
    "tree:merge_parent_published",
    "tree:merge_freed",
    "tree:root_collapsed",
    "tree:destroyed",
    "tree:history_published",
    "history:evicted",
    "history:read",
    "spill:opened",
    "spill:written",
    "frames:reclaimed",
    "frames:revoked",
    "snapshots:horizon_stored",
    "core:copied_in",
    "core:refused",
    "core:applied",
    "core:before_visible",
    "core:visible",
    "core:answered",
    "core:woken",
    "core:session_drained",
    "core:session_freed",
    "core:stopping",
    "host:listening",
    "host:recovered",
    "host:attached",
    "host:lock_taken",
    NULL,
};

static void (*handler)(const char *name, void *argument);
static void *handler_argument;

const char *const *
kill_point_names(void)
{
    return names;
}

void
kill_point_set_handler(void (*set)(const char *name, void *argument), void *argument)
{
    handler = set;
    handler_argument = argument;
}

#ifdef MACE_KILL_POINTS
void
kill_point_reached(const char *name)
{
    if (handler == NULL)
        return;
    size_t i = 0;
    while (names[i] != NULL && strcmp(names[i], name) != 0)
        i++;
    assert(names[i] != NULL); /* the registry lists every name */
    handler(name, handler_argument);
}
#endif
