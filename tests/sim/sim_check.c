/* sim_check.c - what the history must explain. */
#include <stdlib.h>
#include <string.h>

#include "mshm/status.h"
#include "sim/sim_world.h"

/* --- answers --- */

static void
claim_add(struct sim_world *world, const struct sim_request *request)
{
    if (world->claim_count == SIM_CLAIMS)
        return;
    world->claims[world->claim_count++] = (struct sim_claim){
        .status = request->status, .until = world->core->applied, .request = *request};
}

static void
answer_committed(struct sim_client *client, struct sim_request *request)
{
    struct sim_world *world = client->world;
    if (request->timestamp <= request->visible_before ||
        (request->snapshot != UINT64_MAX && request->timestamp <= request->snapshot))
        sim_fail(world, "commit answered with the old timestamp %llu",
                 (unsigned long long)request->timestamp);
    else if (request->timestamp > world->core->visible)
        sim_fail(world, "commit %llu answered before it is visible",
                 (unsigned long long)request->timestamp);
    else if (!model_know(&world->model, request->timestamp, request->snapshot, request->ops,
                         request->count))
        sim_fail(world, "two commits have the timestamp %llu",
                 (unsigned long long)request->timestamp);
    if (request->timestamp > world->acked)
        world->acked = request->timestamp;
    if (request->sync && request->timestamp > world->durable)
        world->durable = request->timestamp;
    world->statistics.committed++;
}

static void
answer_refused(struct sim_client *client, const struct sim_request *request)
{
    struct sim_world *world = client->world;
    bool one_call = request->kind == MSHM_REQUEST_ONE_CALL;
    switch (request->status) {
    case MSHM_CONFLICT:
        world->statistics.conflicts++;
        if (one_call)
            sim_fail(world, "a one-call operation was answered with a conflict");
        claim_add(world, request);
        break;
    case MSHM_EXISTS:
        if (!one_call)
            sim_fail(world, "a transaction was answered with EXISTS");
        world->statistics.preconditions++;
        claim_add(world, request);
        break;
    case MSHM_NOT_FOUND: /* also: the bucket was dropped */
        world->statistics.preconditions++;
        claim_add(world, request);
        break;
    case MSHM_FULL:
        if (!world->was_full)
            sim_fail(world, "FULL, but the disk was never full");
        world->statistics.full++;
        break;
    case MSHM_SNAPSHOT_EXPIRED:
        world->statistics.expired++;
        break;
    case MSHM_TOO_BIG:
        world->statistics.too_big++;
        break;
    case MSHM_IO: /* a page could not be read */
        if (world->error_planned)
            break; /* fall through */
    default:
        sim_fail(world, "request %llu of kind %u answered with %d",
                 (unsigned long long)request->sequence, request->kind, request->status);
    }
}

/* Only an error that the disk had may be told to a reader. */
static void
answer_page_in(struct sim_client *client, const struct sim_request *request)
{
    struct sim_world *world = client->world;
    if (request->status == MSHM_OK || (request->status == MSHM_IO && world->error_planned) ||
        (request->status == MSHM_CORRUPT && world->rotten))
        return;
    sim_fail(world, "pages were asked for and the answer is %d", request->status);
}

void
sim_check_answer(struct sim_client *client, struct sim_request *request)
{
    struct sim_world *world = client->world;
    if (request->status == MSHM_UNKNOWN_OUTCOME || core_poisoned(world->core)) {
        if (request->status == MSHM_OK && request->kind != MSHM_REQUEST_SYNC &&
            request->kind != MSHM_REQUEST_PAGE_IN)
            answer_committed(client, request); /* posted before the failure */
        return;
    }
    if (request->kind == MSHM_REQUEST_PAGE_IN) {
        answer_page_in(client, request);
    } else if (request->kind == MSHM_REQUEST_SYNC) {
        if (request->status != MSHM_OK)
            sim_fail(world, "a sync was answered with %d", request->status);
        else if (request->acked_before > world->durable)
            world->durable = request->acked_before;
    } else if (request->status == MSHM_OK) {
        answer_committed(client, request);
    } else {
        answer_refused(client, request);
    }
}

/* --- claims --- */

static bool
bucket_may_be_gone(struct sim_world *world, uint32_t id)
{
    struct model_bucket *bucket = model_bucket_find(&world->model, id);
    if (bucket == NULL || bucket->dropped != 0)
        return true;
    for (uint32_t i = 0; i < SIM_CLIENTS; i++)
        if (world->clients[i] != NULL && world->clients[i]->control.active)
            return true; /* a drop under way is refused to others before it is answered */
    for (uint32_t i = 0; i < world->leaving_count; i++)
        if (world->leaving[i]->control.active)
            return true;
    return false;
}

static bool
claim_holds(struct sim_world *world, const struct sim_claim *claim)
{
    const struct sim_request *request = &claim->request;
    struct model *model = &world->model;
    bool holds = false;
    for (uint32_t i = 0; i < request->count && !holds; i++) {
        const struct model_op *op = &request->ops[i];
        if (claim->status == MSHM_CONFLICT)
            holds = model_written(model, op->bucket, op->key, request->snapshot, claim->until);
        else if (claim->status == MSHM_EXISTS)
            holds =
                op->kind == MSHM_OP_INSERT &&
                model_ever(model, op->bucket, op->key, request->visible_before, claim->until, true);
        else
            holds = (op->kind != MSHM_OP_INSERT && op->kind != MSHM_OP_PUT &&
                     op->kind != MSHM_OP_DELETE &&
                     model_ever(model, op->bucket, op->key, request->visible_before, claim->until,
                                false)) ||
                    bucket_may_be_gone(world, op->bucket);
    }
    return holds;
}

void
sim_check_advance(struct sim_world *world)
{
    struct model *model = &world->model;
    model_advance(model);
    for (; world->alters > 0 && world->core != NULL && model->applied < world->core->visible;
         world->alters--) {
        model_know_own(model, model->applied + 1); /* an answered change of a bucket's options */
        model_advance(model);
    }
    if (model->error != NULL)
        sim_fail(world, "commit %llu: %s", (unsigned long long)model->error_at, model->error);
    if (world->core != NULL && model->applied < world->core->visible)
        sim_fail(world, "commit %llu is visible and nobody made it (P3)",
                 (unsigned long long)model->applied + 1);
    uint32_t kept = 0;
    for (uint32_t i = 0; i < world->claim_count; i++) {
        struct sim_claim *claim = &world->claims[i];
        if (claim->until > model->applied)
            world->claims[kept++] = *claim;
        else if (!claim_holds(world, claim))
            sim_fail(world, "a refusal (%d) that nothing explains, at %llu", claim->status,
                     (unsigned long long)claim->until);
    }
    world->claim_count = kept;
}

/* --- after a recovery --- */

static void
check_outcome(struct sim_world *world, const struct sim_past *past, struct sim_request *request,
              mshm_timestamp n)
{
    mshm_timestamp timestamp = 0;
    if (request->kind == MSHM_REQUEST_SYNC || request->kind == MSHM_REQUEST_PAGE_IN)
        return;
    enum mshm_outcome outcome =
        outcomes_lookup(world->core->outcomes, past->incarnation, (uint32_t)past->number,
                        request->sequence, &timestamp);
    bool unknown = !request->answered || request->status == MSHM_UNKNOWN_OUTCOME;
    if (unknown) {
        world->statistics.unanswered++;
        if (outcome == MSHM_OUTCOME_COMMITTED &&
            !model_know(&world->model, timestamp, request->snapshot, request->ops, request->count))
            sim_fail(world,
                     "the look-up of an unanswered commit names commit %llu, which is another",
                     (unsigned long long)timestamp);
        if (outcome == MSHM_OUTCOME_UNKNOWN)
            sim_fail(world, "the outcome of an unanswered commit is not known");
        return;
    }
    if (outcome == MSHM_OUTCOME_UNKNOWN && past->count - request->sequence >= MSHM_RING_CAPACITY)
        return; /* older than what is kept; nobody waits for it */
    bool there = request->status == MSHM_OK && request->timestamp <= n;
    if (request->status == MSHM_OK && !there)
        world->statistics.lost++;
    if (there ? outcome != MSHM_OUTCOME_COMMITTED || timestamp != request->timestamp
              : outcome != MSHM_OUTCOME_NOT_COMMITTED)
        sim_fail(world, "the look-up of a request answered with %d (commit %llu of %llu) says %d",
                 request->status, (unsigned long long)request->timestamp, (unsigned long long)n,
                 (int)outcome);
}

static bool
lost_control(struct sim_world *world, unsigned kind, const char *name)
{
    for (uint32_t i = 0; i < world->lost_control_count; i++) {
        const struct sim_control *control = &world->lost_controls[i];
        if (control->kind == kind && strcmp(control->name, name) == 0)
            return true;
    }
    return false;
}

static int
adopt_bucket(const struct catalogue_bucket *bucket, void *argument)
{
    struct sim_world *world = argument;
    struct model_bucket *known = model_bucket_find(&world->model, bucket->id);
    if (known != NULL && known->created > world->core->visible) {
        model_bucket_forget(&world->model, known);
        known = NULL;
    }
    if (known != NULL)
        return 0;
    bool first = strcmp(bucket->name, "default") == 0 && bucket->created == 1;
    if (!first && !lost_control(world, MSHM_MESSAGE_BUCKET_CREATE, bucket->name))
        sim_fail(world, "a bucket \"%s\" that nobody created", bucket->name);
    model_bucket_add(&world->model, bucket->id, bucket->name, bucket->created);
    if (!model_known(&world->model, bucket->created))
        model_know_own(&world->model, bucket->created);
    return 0;
}

static void
check_buckets(struct sim_world *world, mshm_timestamp n)
{
    struct model *model = &world->model;
    for (int i = 0; i < MODEL_BUCKETS; i++) {
        struct model_bucket *bucket = model->buckets[i];
        if (bucket == NULL || bucket->created > n || bucket->dropped != 0)
            continue;
        if (catalogue_get(world->core->catalogue, bucket->id) != NULL)
            continue;
        if (!lost_control(world, MSHM_MESSAGE_BUCKET_DROP, bucket->name))
            sim_fail(world, "the bucket \"%s\" is gone and nobody dropped it", bucket->name);
        bucket->dropped = n;
    }
    catalogue_each(world->core->catalogue, adopt_bucket, world);
}

/* Timestamps that no client has: each must be a change of the catalogue whose answer was lost. */
static void
check_gaps(struct sim_world *world, mshm_timestamp n)
{
    uint32_t gaps = 0;
    for (mshm_timestamp i = 1; i <= n; i++) {
        if (model_known(&world->model, i))
            continue;
        gaps++;
        model_know_own(&world->model, i);
        if (gaps > world->lost_control_count + world->alters)
            sim_fail(world, "commit %llu of %llu is nobody's (P3)", (unsigned long long)i,
                     (unsigned long long)n);
    }
}

void
sim_check_recovered(struct sim_world *world)
{
    mshm_timestamp n = world->core->visible;
    mshm_timestamp promised = world->cut ? world->durable : world->acked;
    if (n < promised)
        sim_fail(world, "%llu commits are left, %llu were promised after %s (P2)",
                 (unsigned long long)n, (unsigned long long)promised,
                 world->cut ? "a power cut" : "the death of the process");
    for (uint32_t i = 0; i < world->past_count && !world->failed; i++)
        for (uint64_t k = 0; k < world->past[i].count; k++)
            check_outcome(world, &world->past[i], &world->past[i].requests[k], n);
    model_truncate(&world->model, n);
    if (!world->failed)
        check_buckets(world, n);
    if (!world->failed)
        check_gaps(world, n);
    world->lost_control_count = 0;
    world->alters = 0;
    world->claim_count = 0;
    world->acked = world->durable = n;
    world->cut = false;
    sim_check_advance(world);
    if (!world->failed)
        sim_check_files(world);
    if (!world->failed)
        sim_check_everything(world);
}
