/* control.c - requests over a session's socket.
 *
 * A message is copied once, checked, and then answered in place: session->control holds the request and becomes the
 * reply. A client has one request under way; one that sends a second is ended. Changes of the catalogue are commits, so
 * their replies wait in commit order; and so that nobody builds on a bucket that a crash could take back, every answer
 * about buckets waits while the newest change of the catalogue is not visible yet.
 */
#include "control.h"

#include <string.h>

#include "checkpoint.h"
#include "commit.h"
#include "mshm/status.h"

enum { OP_CAPACITY = 512 };

void
control_reply(struct core *core, struct session *session, int status)
{
    struct mshm_message *head = &session->control.message.head;
    head->magic = MSHM_MESSAGE_MAGIC;
    head->version = MSHM_LAYOUT_VERSION;
    head->status = status;
    session->control.state = CONTROL_NONE;
    core->env->reply(core->env->context, session->handle, &session->control.message, head->size);
}

/* --- buckets ------------------------------------------------------------------------------------------------------ */

/* An answer about buckets that changes nothing, or a refusal. */
static void
bucket_answer(struct core *core, struct session *session, int status)
{
    session->control.message.head.status = status;
    session->control.state = CONTROL_WAITS;
    if (commits_reply(core, session) != MSHM_OK)
        control_reply(core, session, MSHM_NO_MEMORY);
}

static void
bucket_describe(struct mshm_bucket_message *message, const struct catalogue_bucket *bucket)
{
    message->id = bucket->id;
    message->place = bucket->place;
    message->page_size = bucket->options.page_size;
    message->inline_limit = bucket->options.inline_limit;
    message->compression = bucket->options.compression;
    message->backpressure = bucket->options.backpressure;
    message->merge_operator = bucket->options.merge_operator;
    message->name_size = bucket->name_size;
    memcpy(message->name, bucket->name, sizeof(message->name));
}

static unsigned
bucket_op_kind(const struct mshm_message *head)
{
    return head->kind == MSHM_MESSAGE_BUCKET_CREATE ? MSHM_OP_BUCKET_CREATE
           : head->kind == MSHM_MESSAGE_BUCKET_DROP ? MSHM_OP_BUCKET_DROP
                                                    : MSHM_OP_BUCKET_ALTER;
}

static int
bucket_change(struct core *core, struct session *session)
{
    struct mshm_bucket_message *message = &session->control.message.bucket;
    _Alignas(8) uint8_t op[OP_CAPACITY];
    uint64_t size;
    if ((session->flags & (MSHM_HELLO_READ_ONLY | MSHM_HELLO_OBSERVER)) != 0)
        return MSHM_READ_ONLY;
    if (core->stopping)
        return MSHM_BROKER_LOST;
    int status =
        catalogue_plan(core->catalogue, bucket_op_kind(&message->head), message, op, &size);
    if (status == MSHM_OK)
        status = commits_own(core, session, op, size);
    if (status != MSHM_OK)
        return status;
    const struct catalogue_bucket *bucket =
        catalogue_find(core->catalogue, message->name, message->name_size);
    if (bucket != NULL) /* not after a drop */
        bucket_describe(message, bucket);
    message->head.status = MSHM_OK;
    session->control.state = CONTROL_WAITS;
    return MSHM_OK;
}

static void
control_change(struct core *core, struct session *session)
{
    int status = bucket_change(core, session);
    if (status == MSHM_BUSY) {
        session->control.state = CONTROL_WAITS_FOR_LOG;
        core->sessions->controls_waiting++;
    } else if (status != MSHM_OK) {
        bucket_answer(core, session, status);
    }
}

static void
control_open(struct core *core, struct session *session)
{
    struct mshm_bucket_message *message = &session->control.message.bucket;
    int status = MSHM_INVALID;
    if (message->name_size <= MSHM_MAX_BUCKET_NAME &&
        catalogue_name_valid(message->name, message->name_size)) {
        const struct catalogue_bucket *bucket =
            catalogue_find(core->catalogue, message->name, message->name_size);
        status = bucket == NULL ? MSHM_NOT_FOUND : MSHM_OK;
        if (bucket != NULL)
            bucket_describe(message, bucket);
    }
    bucket_answer(core, session, status);
}

static void
control_list(struct core *core, struct session *session)
{
    struct mshm_bucket_message *message = &session->control.message.bucket;
    int status = MSHM_INVALID;
    if (message->name_size <= MSHM_MAX_BUCKET_NAME) {
        const struct catalogue_bucket *bucket =
            catalogue_after(core->catalogue, message->name, message->name_size);
        status = bucket == NULL ? MSHM_NOT_FOUND : MSHM_OK;
        if (bucket != NULL)
            bucket_describe(message, bucket);
    }
    bucket_answer(core, session, status);
}

/* --- the rest ----------------------------------------------------------------------------------------------------- */

/* Grants at least what is asked for, up to the largest arena. The memory is there before the size is published. */
static void
control_arena(struct core *core, struct session *session)
{
    struct mshm_value_message *message = &session->control.message.value;
    uint64_t wanted =
        message->value > MSHM_ARENA_MAX ? MSHM_ARENA_MAX : mshm_align_up(message->value, MSHM_UNIT);
    int status = MSHM_OK;
    if (wanted > session->consumer.arena_size) {
        if (core->env->arena_back(core->env->context, session->handle, wanted) != 0)
            status = MSHM_NO_MEMORY;
        else
            session->consumer.arena_size = wanted;
    }
    message->value = session->consumer.arena_size;
    AO_store_release(&session->segment->arena_size, /* pairs with mshm_producer_arena */
                     session->consumer.arena_size);
    control_reply(core, session, status);
}

static void
control_sync(struct core *core, struct session *session)
{
    session->control.message.head.status = MSHM_OK;
    session->control.state = CONTROL_WAITS;
    if (commits_sync(core, session, 0) != MSHM_OK)
        control_reply(core, session, MSHM_NO_MEMORY);
}

static void
control_checkpoint(struct core *core, struct session *session)
{
    session->checkpoint = checkpoint_request(core);
    session->control.state = CONTROL_WAITS_FOR_CHECKPOINT;
    core->sessions->checkpoints_waiting = true;
}

void
control_checkpoints(struct core *core)
{
    struct sessions *sessions = core->sessions;
    uint64_t done = checkpoint_done(core->checkpoint);
    bool stuck = checkpoint_stuck(core->checkpoint), waiting = false;
    if (!sessions->checkpoints_waiting)
        return;
    for (uint32_t i = 0; i < sessions->count; i++) {
        struct session *session = sessions->table[i];
        if (session->control.state != CONTROL_WAITS_FOR_CHECKPOINT)
            continue;
        if (core->poisoned)
            control_reply(core, session, MSHM_IO);
        else if (done >= session->checkpoint)
            control_reply(core, session, MSHM_OK);
        else if (stuck)
            control_reply(core, session, checkpoint_hindrance(core->checkpoint));
        else
            waiting = true;
    }
    sessions->checkpoints_waiting = waiting;
}

static void
control_lookup(struct core *core, struct session *session)
{
    struct mshm_lookup *lookup = &session->control.message.lookup;
    uint64_t timestamp = 0;
    enum mshm_outcome outcome = MSHM_OUTCOME_UNKNOWN;
    if (lookup->session <= UINT32_MAX)
        outcome = outcomes_lookup(core->outcomes, lookup->incarnation, (uint32_t)lookup->session,
                                  lookup->sequence, &timestamp);
    lookup->outcome = outcome;
    lookup->timestamp = outcome == MSHM_OUTCOME_COMMITTED ? timestamp : 0;
    control_reply(core, session, MSHM_OK);
}

static void
control_sessions(struct core *core, struct session *session)
{
    uint64_t after = session->control.message.value.value;
    struct mshm_session_info info = {.head = session->control.message.head};
    int status = sessions_describe(core, after, &info) ? MSHM_OK : MSHM_NOT_FOUND;
    info.head.size = sizeof(info);
    session->control.message.info = info;
    control_reply(core, session, status);
}

static void
control_bye(struct core *core, struct session *session)
{
    session->bye = true;
    core_session_end(core, session, true);
}

/* --- dispatch ----------------------------------------------------------------------------------------------------- */

struct control_kind {
    uint32_t size; /* bytes of the whole message, exactly */
    void (*handle)(struct core *core, struct session *session);
};
static const struct control_kind control_kinds[] = {
    [MSHM_MESSAGE_BUCKET_CREATE] = {sizeof(struct mshm_bucket_message), control_change},
    [MSHM_MESSAGE_BUCKET_OPEN] = {sizeof(struct mshm_bucket_message), control_open},
    [MSHM_MESSAGE_BUCKET_DROP] = {sizeof(struct mshm_bucket_message), control_change},
    [MSHM_MESSAGE_BUCKET_ALTER] = {sizeof(struct mshm_bucket_message), control_change},
    [MSHM_MESSAGE_BUCKET_LIST] = {sizeof(struct mshm_bucket_message), control_list},
    [MSHM_MESSAGE_ARENA_GROW] = {sizeof(struct mshm_value_message), control_arena},
    [MSHM_MESSAGE_SYNC] = {sizeof(struct mshm_message), control_sync},
    [MSHM_MESSAGE_CHECKPOINT] = {sizeof(struct mshm_message), control_checkpoint},
    [MSHM_MESSAGE_LOOKUP] = {sizeof(struct mshm_lookup), control_lookup},
    [MSHM_MESSAGE_SESSIONS] = {sizeof(struct mshm_value_message), control_sessions},
    [MSHM_MESSAGE_BYE] = {sizeof(struct mshm_message), control_bye},
};
enum { CONTROL_KINDS = sizeof(control_kinds) / sizeof(control_kinds[0]) };

static const struct control_kind *
control_kind_of(const struct mshm_message *head, size_t size)
{
    if (head->magic != MSHM_MESSAGE_MAGIC || head->version != MSHM_LAYOUT_VERSION ||
        head->size != size || head->kind >= CONTROL_KINDS)
        return NULL;
    const struct control_kind *kind = &control_kinds[head->kind];
    return kind->handle != NULL && kind->size == size ? kind : NULL;
}

int
control_message(struct core *core, struct session *session, const void *message, size_t size)
{
    struct mshm_message head;
    if (session->state != SESSION_LIVE)
        return MSHM_OK; /* it is ending: nobody waits for an answer */
    if (size < sizeof(head) || session->control.state != CONTROL_NONE)
        return MSHM_INVALID;
    memcpy(&head, message, sizeof(head));
    const struct control_kind *kind = control_kind_of(&head, size);
    if (kind == NULL)
        return MSHM_INVALID;
    memcpy(&session->control.message, message, size);
    session->control.message.head = head;
    if ((core->poisoned || core->stopped) && head.kind != MSHM_MESSAGE_BYE)
        control_reply(core, session, MSHM_BROKER_LOST);
    else
        kind->handle(core, session);
    return MSHM_OK;
}

bool
control_retry(struct core *core)
{
    struct sessions *sessions = core->sessions;
    uint32_t waiting = sessions->controls_waiting;
    for (uint32_t i = 0; i < sessions->count && waiting > 0; i++) {
        struct session *session = sessions->table[i];
        if (session->control.state != CONTROL_WAITS_FOR_LOG)
            continue;
        waiting--;
        sessions->controls_waiting--;
        session->control.state = CONTROL_NONE;
        if (core->poisoned)
            control_reply(core, session, MSHM_BROKER_LOST);
        else
            control_change(core, session);
        if (session->control.state == CONTROL_WAITS_FOR_LOG)
            return false; /* the log is busy for the others, too */
    }
    return true;
}

void
core_session_cut(struct core *core, struct session *session)
{
    if (session->state != SESSION_LIVE)
        return; /* it is counted already */
    mshm_counter_add(&core->figures->counters.sessions_ended_invalid, 1);
    core_session_end(core, session, true); /* what it has published is taken in as if it had died */
}

int
core_control(struct core *core, struct session *session, const void *message, size_t size)
{
    core->sessions->stirred = true;
    return control_message(core, session, message, size);
}

/* --- the first bucket --------------------------------------------------------------------------------------------- */

int
control_create_default(struct core *core)
{
    static const struct mshm_bucket_message request = {.name_size = 7, .name = "default"};
    _Alignas(8) uint8_t op[OP_CAPACITY];
    uint64_t size;
    if (catalogue_find(core->catalogue, request.name, request.name_size) != NULL)
        return MSHM_OK;
    int status = catalogue_plan(core->catalogue, MSHM_OP_BUCKET_CREATE, &request, op, &size);
    if (status != MSHM_OK)
        return status;
    while ((status = commits_own(core, NULL, op, size)) == MSHM_BUSY)
        if ((status = core_log_turn(core, NULL)) != MSHM_OK)
            return status;
    while (status == MSHM_OK && !commits_idle(core->commits)) {
        status = core_log_turn(core, NULL);
        commits_publish(core);
    }
    return status;
}
