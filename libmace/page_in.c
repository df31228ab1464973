/* page_in.c - asking the broker for pages that are not in memory.
 *
 * The request goes through the ring like a commit, so that it costs no system call while both sides are busy. Its answer
 * means "look again": the page may have left memory before this thread got to it, which costs another request and nothing
 * else. A page that was read in stays for some milliseconds (broker/pages.h), so that does not go on for long.
 */
#include "commit.h"

int
mlib_page_in(struct mlib_attachment *attachment, const mshm_pid *pids, unsigned count)
{
    const struct mlib_request request = {
        .kind = MSHM_REQUEST_PAGE_IN,
        .level = MACE_SYNC, /* the answer needs the disk: whoever waits long sleeps */
        .pids = pids,
        .pid_count = count,
    };
    struct mlib_outcome answer;
    uint64_t sequence;
    int status = mlib_request_publish(attachment, &request, 0, &sequence);
    if (status == MACE_OK)
        status = mlib_answer_wait(attachment, sequence, MACE_SYNC, 0, &answer);
    return status == MACE_OK ? answer.status : status;
}

void
mlib_page_ahead(struct mlib_attachment *attachment, const mshm_pid *pids, unsigned count)
{
    const struct mlib_request request = {
        .kind = MSHM_REQUEST_PAGE_IN, .pids = pids, .pid_count = count, .ahead = true};
    uint64_t sequence;
    (void)mlib_request_try(attachment, &request, &sequence);
}
