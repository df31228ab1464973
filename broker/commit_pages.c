/* commit_pages.c - requests that wait until pages have been read: commits whose plan missed some, and those of clients that
 * met one on disk.
 */
#include <stdlib.h>
#include <string.h>

#include "commit_parts.h"
#include "mshm/status.h"

enum {
    PAGE_INS_MOST = 16 /* of a session under way: each may hold 256 waiters, in private memory */
};

static void
park_done(void *argument, struct pager_wait *wait)
{
    struct session *session = argument;
    struct core *core = session->core;
    session->parked = false;
    session->active_ns = core->now_ns;
    session->park_status = wait->status;
    core->sessions->parked--;
    core->sessions->stirred = true;
}

void
commits_unpark(struct core *core, struct session *session)
{
    if (!session->parked)
        return;
    pager_forget(core->pager, &session->park);
    session->parked = false;
    core->sessions->parked--;
}

enum commit_verdict
commit_park(struct core *core, struct session *session, int *status)
{
    const mshm_pid *pids;
    uint32_t count = tree_missing(core->tree, &pids);
    session->core = core;
    session->park = (struct pager_wait){.done = park_done, .argument = session};
    for (uint32_t i = 0; i < count; i++) {
        int result = pager_want(core->pager, pids[i], &session->park);
        if (result == MSHM_OK || result == MSHM_EXISTS)
            continue;
        pager_forget(core->pager, &session->park);
        *status = result;
        return COMMIT_REFUSED;
    }
    if (session->park.left == 0)
        return COMMIT_HELD;
    session->parked = true;
    core->sessions->parked++;
    return COMMIT_PARKED;
}

/* A PAGE_IN request that waits. */
struct page_request {
    struct page_request *next, *before;
    struct pager_wait wait;
    struct core *core;
    struct session *session;
    uint64_t sequence;
};

static void
page_request_link(struct page_request *request)
{
    struct page_request **first = &request->core->commits->page_requests;
    request->next = *first;
    if (*first != NULL)
        (*first)->before = request;
    *first = request;
}

static void
page_request_unlink(struct page_request *request)
{
    if (request->next != NULL)
        request->next->before = request->before;
    if (request->before != NULL)
        request->before->next = request->next;
    else
        request->core->commits->page_requests = request->next;
}

void
page_requests_free(struct commit_queue *queue)
{
    while (queue->page_requests != NULL) {
        struct page_request *request = queue->page_requests;
        queue->page_requests = request->next;
        free(request);
    }
}

static void
page_request_done(void *argument, struct pager_wait *wait)
{
    struct page_request *request = argument;
    page_request_unlink(request);
    request->session->unanswered--;
    request->session->page_ins--;
    commit_post(request->core, request->session, request->sequence, wait->status);
    request->core->sessions->stirred = true;
    free(request);
}

enum commit_verdict
commits_page_in(struct core *core, struct session *session, const struct mshm_request_copy *copy,
                int *status)
{
    mshm_pid pids[MSHM_MAX_PAGE_IN];
    if (session->page_ins == PAGE_INS_MOST)
        return COMMIT_HELD;
    struct page_request *request = malloc(sizeof *request);
    *status = MSHM_NO_MEMORY;
    if (request == NULL)
        return COMMIT_REFUSED;
    *request = (struct page_request){
        .wait = {.done = page_request_done, .argument = request},
        .core = core,
        .session = session,
        .sequence = copy->sequence,
    };
    page_request_link(request);
    memcpy(pids, mshm_consumer_arena(&session->consumer, copy), copy->op_count * sizeof *pids);
    for (uint64_t i = 0; i < copy->op_count; i++) {
        if (pids[i] == 0 || pids[i] >= core->geometry.map_capacity)
            continue;
        int result = pager_want(core->pager, pids[i], &request->wait);
        if (result == MSHM_EXISTS) /* then it is its history that was missed */
            result = tree_history_want(core->tree, pids[i], &request->wait);
        if (result != MSHM_OK && result != MSHM_EXISTS && request->wait.status == MSHM_OK)
            request->wait.status = result;
    }
    session->unanswered++;
    session->page_ins++;
    if (request->wait.left == 0)
        page_request_done(request, &request->wait);
    return COMMIT_TAKEN;
}
