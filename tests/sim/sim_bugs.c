/* sim_bugs.c - the list of planted mistakes; what each does stands in sim_bugs_commit.c and sim_bugs_store.c. */
#include "sim/sim_bugs.h"

#include <string.h>

#include "sim/sim_bugs_parts.h"
#include "sim/sim_env.h"

static const struct sim_bug bugs[] = {
    [BUG_ANSWER_BEFORE_SYNC - 1] = {"answer_before_sync", "commits are answered when staged"},
    [BUG_SYNC_LEVEL_IGNORED - 1] = {"sync_level_ignored", "SYNC commits are logged at level OS"},
    [BUG_SYNC_REQUEST_IGNORED - 1] = {"sync_request_ignored", "a sync is answered at once"},
    [BUG_LOG_ERROR_IGNORED - 1] = {"log_error_ignored", "a failed write or sync counts as done"},
    [BUG_RECOVERY_NOT_DURABLE - 1] = {"recovery_not_durable", "the log is served unsynced"},
    [BUG_RECOVERY_TRUSTS_CACHE - 1] = {"recovery_trusts_cache",
                                       "what a failed sync left looking clean is not rewritten"},
    [BUG_MANIFEST_NOT_STORED - 1] = {"manifest_not_stored", "the incarnation is not stored"},
    [BUG_OUTCOMES_NOT_KEPT - 1] = {"outcomes_not_kept", "replay forgets who committed"},
    [BUG_CONFLICTS_IGNORED - 1] = {"conflicts_ignored", "no conflict is ever found"},
    [BUG_PRECONDITION_IGNORED - 1] = {"precondition_ignored", "INSERT does not look"},
    [BUG_APPEND_LOST - 1] = {"append_lost", "one append in two hundred is forgotten"},
    [BUG_VERSIONS_DROPPED - 1] = {"versions_dropped", "versions that snapshots need are pruned"},
    [BUG_TOMBSTONES_DROPPED - 1] = {"tombstones_dropped", "tombstones are pruned too early"},
    [BUG_SNAPSHOTS_UNSEEN - 1] = {"snapshots_unseen", "lanes are not collected"},
    [BUG_BRACKETS_UNSEEN - 1] = {"brackets_unseen", "frames are reused under readers"},
    [BUG_DROP_NOT_REPLAYED - 1] = {"drop_not_replayed", "a dropped bucket comes back"},
    [BUG_REPLAY_STOPS_EARLY - 1] = {"replay_stops_early", "the last record is left out"},
    [BUG_SLEEPS_DEAF - 1] = {"sleeps_deaf", "the broker sleeps without telling the sessions"},
    [BUG_WAKE_FORGOTTEN - 1] = {"wake_forgotten", "some waiters are not woken"},
    [BUG_LOG_RELEASED_TOO_FAR - 1] = {"log_released_too_far",
                                      "a checkpoint releases the segment behind its cut, too"},
    [BUG_CUT_TOO_LATE - 1] = {"cut_too_late", "pages are packed as of one commit before the cut"},
    [BUG_OUTCOMES_NOT_SAVED - 1] = {"outcomes_not_saved",
                                    "the outcomes that a checkpoint keeps are not loaded"},
    [BUG_PID_REUSED_EARLY - 1] = {"pid_reused_early",
                                  "a freed pid is given out before a checkpoint has said so"},
    [BUG_DIRTY_EVICTED - 1] = {"dirty_evicted", "a page leaves memory with what is not on disk"},
    [BUG_DELTA_LOST - 1] = {"delta_lost", "the newest delta of a chain is left out"},
    [BUG_BLIND_LOST - 1] = {"blind_lost", "one blind write in twenty is forgotten"},
    [BUG_BLIND_SEALED_UNSEEN - 1] = {"blind_sealed_unseen",
                                     "a page is read in without its sealed blind writes"},
    [BUG_DELTA_OF_WHOLE - 1] = {"delta_of_whole", "a delta is written where a full record is due"},
    [BUG_REMOVED_FILE_NAMED - 1] = {"removed_file_named",
                                    "the manifest goes on naming data files that are removed"},
    [BUG_FILE_REMOVED_EARLY - 1] = {"file_removed_early",
                                    "data files are removed before the manifest says so"},
    [BUG_UNNAMED_FILES_KEPT - 1] = {"unnamed_files_kept",
                                    "data files that nobody names are not removed"},
    [BUG_CHECKSUM_UNCHECKED - 1] = {"checksum_unchecked",
                                    "the checksums of page records are not looked at"},
    [BUG_REPLAY_FROM_BEFORE -
        1] = {"replay_from_before",
              "a checkpoint on the way of a replay names the record before its cut"},
    [BUG_MANIFEST_NOT_SETTLED - 1] = {"manifest_not_settled",
                                      "what was loaded of a manifest is not made durable"},
    [BUG_SNAPSHOTS_NOT_PACKED - 1] = {"snapshots_not_packed",
                                      "records are without the versions that snapshots need"},
    [BUG_HISTORY_FORGOTTEN - 1] = {"history_forgotten",
                                   "the history of a leaf that was out of memory is forgotten"},
    [BUG_HISTORY_UNREAD - 1] = {"history_unread", "history that is out counts as read by nobody"},
    [BUG_HISTORY_UNHELD - 1] = {"history_unheld",
                                "halves of a split leaf do not hold what they share of history"},
    [BUG_NEWEST_FORGOTTEN - 1] = {"newest_forgotten", "leaves on disk count as never written"},
    [BUG_READ_FILE_REMOVED - 1] = {"read_file_removed",
                                   "a data file is removed while it is being read"},
    [BUG_SEALED_FRAME_REUSED - 1] = {"sealed_frame_reused",
                                     "a sealed frame that was replaced is not kept for its job"},
    [BUG_DISK_APPEND_UNSYNCED - 1] = {"disk_append_unsynced", "an append ends without its sync"},
    [BUG_DISK_FILE_SYNC - 1] = {"disk_file_sync", "file_sync does nothing"},
    [BUG_DISK_DIRECTORY_SYNC - 1] = {"disk_directory_sync", "directory_sync does nothing"},
    [BUG_DISK_SYNC_BEFORE_WRITE - 1] = {"disk_sync_before_write",
                                        "the sync starts before the write has ended"},
    [BUG_DISK_SHORT_APPEND - 1] = {"disk_short_append", "a short write is taken for a whole one"},
    [BUG_DISK_APPEND_ERROR - 1] = {"disk_append_error", "errors of appends are not reported"},
    [BUG_DISK_EMPTY_APPEND - 1] = {"disk_empty_append",
                                   "the syncs of a change of segment do nothing"},
    [BUG_DISK_DATA_UNSYNCED - 1] = {"disk_data_unsynced",
                                    "data files are not synced before the manifest names them"},
    [BUG_DISK_MANIFEST_UNSYNCED - 1] = {"disk_manifest_unsynced",
                                        "edits are not synced before the log is released"},
    [BUG_DISK_DATA_DIRECTORY - 1] = {"disk_data_directory",
                                     "a new data file is named by a directory that is not synced"},
    {NULL, NULL},
};

static enum bug planted;
static uint64_t counter;
static struct sim_env *machine;

const struct sim_bug *
sim_bugs(void)
{
    return bugs;
}

bool
sim_bug_plant(const char *name)
{
    planted = BUG_NONE;
    counter = 0;
    for (unsigned i = 0; name != NULL && bugs[i].name != NULL; i++)
        if (strcmp(bugs[i].name, name) == 0)
            planted = (enum bug)(i + 1);
    return name == NULL || planted != BUG_NONE;
}

void
sim_bug_prepare(struct sim_env *sim)
{
    machine = sim;
    if (planted >= BUG_DISK_APPEND_UNSYNCED)
        sim_env_set_lie(
            sim, (enum sim_lie)(SIM_LIE_APPEND_UNSYNCED + (planted - BUG_DISK_APPEND_UNSYNCED)));
}

bool
sim_bug_is(enum bug bug)
{
    return planted == bug;
}

bool
sim_bug_turn(uint64_t every)
{
    return ++counter % every == 0;
}

const struct env *
sim_bug_env(void)
{
    return sim_env_interface(machine);
}
