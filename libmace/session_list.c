/* session_list.c - who is attached, asked of the broker one session at a time. */
#include <string.h>

#include "mlib.h"

static int
session_ask(mace *db, uint64_t after, struct mshm_session_info *reply)
{
    for (;;) {
        struct mlib_attachment *attachment;
        int status = mlib_attachment_get(db, &attachment);
        if (status != MACE_OK)
            return status;
        struct mshm_value_message message = {
            .head = {.kind = MSHM_MESSAGE_SESSIONS, .size = sizeof message}, .value = after};
        memset(reply, 0, sizeof *reply);
        status = mlib_control(attachment, &message.head, &reply->head, sizeof *reply);
        bool lost = mlib_attachment_lost(attachment);
        mlib_attachment_put(attachment);
        if (status != MSHM_BROKER_LOST || !lost)
            return status;
    }
}

int
mace_session_list(mace *db, int (*each)(const mace_session_info *info, void *arg), void *arg)
{
    if (db == NULL || each == NULL)
        return MACE_INVALID;
    uint64_t after = 0;
    for (;;) {
        struct mshm_session_info reply;
        int status = session_ask(db, after, &reply);
        if (status == MACE_NOT_FOUND)
            return MACE_OK;
        if (status != MACE_OK)
            return status;
        if (reply.number <= after)
            return MACE_VERSION;
        after = reply.number;
        mace_session_info info = {
            .size = sizeof info,
            .number = reply.number,
            .pid = reply.pid,
            .uid = reply.uid,
            .read_only = (reply.flags & MSHM_HELLO_READ_ONLY) != 0,
            .age_ns = reply.age_ns,
            .snapshots = reply.snapshots,
            .oldest_snapshot = reply.oldest_snapshot,
            .oldest_age_ns = reply.oldest_age_ns,
            .commits = reply.commits,
            .conflicts = reply.conflicts,
            .gets = reply.gets,
            .scans = reply.scans,
            .pending = reply.pending,
        };
        status = each(&info, arg);
        if (status != 0)
            return status;
    }
}
