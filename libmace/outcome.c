/* outcome.c - asking the new broker what became of a commit that the old one did not answer. */
#include "mlib.h"

int
mlib_outcome_find(struct mace *db, uint64_t incarnation, uint64_t number, uint64_t sequence,
                  uint64_t *outcome, uint64_t *timestamp)
{
    *outcome = MSHM_OUTCOME_UNKNOWN;
    *timestamp = 0;
    /* A broker that is lost in the middle of the answer is followed by another one, which knows as much. */
    for (int attempt = 0; attempt < 8; attempt++) {
        struct mlib_attachment *attachment;
        if (mlib_attachment_get(db, &attachment) != MSHM_OK)
            return MSHM_OK;
        struct mshm_lookup message = {
            .head = {.kind = MSHM_MESSAGE_LOOKUP, .size = sizeof message},
            .incarnation = incarnation,
            .session = number,
            .sequence = sequence,
        };
        int status = mlib_control(attachment, &message.head, &message.head, sizeof message);
        mlib_attachment_put(attachment);
        if (status == MSHM_OK && message.outcome <= MSHM_OUTCOME_NOT_COMMITTED) {
            *outcome = message.outcome;
            *timestamp = message.timestamp;
        }
        if (status != MSHM_BROKER_LOST)
            return MSHM_OK;
    }
    return MSHM_OK;
}
