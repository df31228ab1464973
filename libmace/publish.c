/* publish.c - handing requests to the broker, and keeping its answers until somebody takes them.
 *
 * One thread publishes at a time, under publish_lock, which never covers a wait. The place of a request in the ring is
 * used again 1,024 requests later, so by then its answer must have been taken: by the thread that waits for it
 * (MLIB_PLACE_WAITED, without the lock, from the completion itself) or, when nobody waits yet (MLIB_PLACE_TICKET), by the
 * publisher that needs the place, into `outcomes`, which keeps the last 65,536.
 *
 *             publish                        the waiting thread takes the answer
 *   (free) -------------> WAITED ------------------------------------------------> TAKEN
 *      |                   ^  | finish without answer                               ^
 *      |           claim   |  v                                                     |
 *      +----------------> TICKET ---------------------------------------------------+
 *                                  claim of an answered one; harvest (to outcomes)
 *
 * A request that finds no room in the arena, because it is large or because the arena can grow only while it is empty, makes
 * the other threads hold back until it is through (`draining`): small requests would take every piece before it fits.
 *
 * A thread that never comes back for its answer (it was cancelled, or left by longjmp) would hold the ring for ever; so
 * after a second its answer is harvested, too, and should it only have been slow it finds the answer in `outcomes`. Nor
 * does anybody hold back for longer than that.
 */
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "commit.h"
#include "mlib_time.h"

enum {
    ROOM_YIELDS = 500,
    COMPANY_WAITS = 16, /* after two waited together, so many expect to do so again */
    DEFERRED_MAX = MSHM_MAX_LANES /
                   2, /* lanes that asynchronous commits may hold: leaves some to begin with */
};
static const uint64_t room_pause_ns = 50 * 1000;
static const uint64_t stuck_ns = 1000 * 1000 * 1000;

/* -------------------------------------------------------------------------------------------------- answers */

static inline AO_t
place_word(uint64_t sequence, enum mlib_place state)
{
    return (AO_t)(sequence << 2 | state);
}

static inline AO_t *
place_of(struct mlib_attachment *attachment, uint64_t sequence)
{
    return &attachment->places[mshm_ring_place(sequence)];
}

static inline struct mlib_outcome *
outcome_of(struct mlib_attachment *attachment, uint64_t sequence)
{
    return &attachment->outcomes[sequence % MLIB_OUTCOMES];
}

/* Copies an answer out of its completion: false when it is not there, or when the place was used again meanwhile. */
static bool
completion_read(const struct mlib_attachment *attachment, uint64_t sequence,
                struct mlib_outcome *answer)
{
    int status, again;
    mshm_timestamp timestamp, ignored;
    if (!mshm_completion_take(attachment->session, sequence, &status, &timestamp))
        return false;
    mshm_read_fence(); /* the words were loaded before `done` is looked at again */
    if (!mshm_completion_take(attachment->session, sequence, &again, &ignored))
        return false;
    *answer = (struct mlib_outcome){
        .sequence = sequence, .timestamp = timestamp, .status = status, .answered = true};
    return true;
}

/* Puts an answer into the table, over an older one that nobody has asked for. Under publish_lock. */
static void
outcome_keep(struct mlib_attachment *attachment, const struct mlib_outcome *answer)
{
    struct mlib_outcome *kept = outcome_of(attachment, answer->sequence);
    if (kept->answered && !kept->taken && attachment->tickets > 0)
        attachment->tickets--;
    *kept = *answer;
}

/* Takes the answers that stand in the way of the next request. Under publish_lock. */
static void
answers_harvest(struct mlib_attachment *attachment, bool force)
{
    while (attachment->answers_taken + 1 < attachment->producer.next) {
        uint64_t sequence = attachment->answers_taken + 1;
        AO_t word =
            AO_load_acquire(place_of(attachment, sequence)); /* pairs with mlib_answer_wait */
        struct mlib_outcome answer;
        if (word != place_word(sequence, MLIB_PLACE_TAKEN)) {
            if (word == place_word(sequence, MLIB_PLACE_WAITED) && !force)
                return;
            if (!completion_read(attachment, sequence, &answer))
                return;
            answer.taken = word != place_word(sequence, MLIB_PLACE_TICKET); /* its waiter's alone */
            if (word != place_word(sequence, MLIB_PLACE_AHEAD))
                outcome_keep(attachment, &answer);
        }
        attachment->answers_taken = sequence;
    }
}

void
mlib_answers_settle(struct mlib_attachment *attachment)
{
    uint64_t sequence = attachment->answers_taken + 1;
    for (; attachment->tickets > 0 && sequence < attachment->producer.next; sequence++) {
        struct mlib_outcome answer;
        if (AO_load(place_of(attachment, sequence)) == place_word(sequence, MLIB_PLACE_TICKET) &&
            completion_read(attachment, sequence, &answer))
            outcome_keep(attachment, &answer);
    }
    if (attachment->tickets == 0) {
        free(attachment->outcomes);
        attachment->outcomes = NULL;
    }
}

/* Waits as its company allows: one that waits for the disk alone yields until the answer is there, several sleep at once,
 * because what they burn is missing to the broker and to the kernel's own workers. */
static int
completion_wait(struct mlib_attachment *attachment, uint64_t sequence, unsigned level,
                uint64_t deadline_ns)
{
    struct mshm_session *session = attachment->session;
    const struct mshm_store *store = attachment->view.store;
    unsigned cpus = attachment->mace->cpus;
    if (level != MACE_SYNC)
        return mshm_completion_wait(session, store, sequence, deadline_ns, cpus);
    bool alone = AO_fetch_and_add1(&attachment->sync_waiters) == 0;
    AO_t company = AO_load(&attachment->sync_company);
    if (!alone)
        AO_store(&attachment->sync_company, COMPANY_WAITS);
    else if (company > 0)
        AO_store(&attachment->sync_company, company - 1);
    alone = alone && company == 0;
    int status = mshm_completion_wait(session, store, sequence, deadline_ns, alone ? cpus : 0);
    AO_fetch_and_sub1(&attachment->sync_waiters);
    return status;
}

int
mlib_answer_wait(struct mlib_attachment *attachment, uint64_t sequence, unsigned level,
                 uint64_t deadline_ns, struct mlib_outcome *answer)
{
    int status = completion_wait(attachment, sequence, level, deadline_ns);
    bool answered = status == MSHM_OK && completion_read(attachment, sequence, answer);
    bool harvested = !AO_compare_and_swap_release(place_of(attachment, sequence),
                                                  place_word(sequence, MLIB_PLACE_WAITED),
                                                  place_word(sequence, MLIB_PLACE_TAKEN));
    if (answered)
        return MACE_OK;
    if (status != MSHM_OK && !harvested)
        return status;
    /* The wait ended, and the place belongs to a later request: the answer was harvested. */
    pthread_mutex_lock(&attachment->publish_lock);
    struct mlib_outcome *kept = outcome_of(attachment, sequence);
    if (kept->sequence == sequence) {
        *answer = *kept;
        kept->taken = true;
        status = MACE_OK;
    } else if (status == MSHM_OK) {
        status = MACE_BUSY;
    }
    pthread_mutex_unlock(&attachment->publish_lock);
    return status;
}

/* ----------------------------------------------------------------------------------------------- publishing */

static uint64_t
request_bytes(const struct mlib_request *request)
{
    if (request->pids != NULL)
        return mshm_align_up(request->pid_count * sizeof *request->pids, 8);
    if (request->writes != NULL)
        return request->writes->bytes;
    return mshm_op_size((uint16_t)request->key_size, (uint32_t)request->value_size);
}

static void
request_emit(const struct mlib_request *request, void *to)
{
    if (request->pids != NULL)
        memcpy(to, request->pids, request->pid_count * sizeof *request->pids);
    else if (request->writes != NULL)
        mlib_writeset_emit(request->writes, to);
    else
        mshm_op_write(to, request->bucket, request->op, request->key, (uint16_t)request->key_size,
                      request->value, (uint32_t)request->value_size);
}

static uint64_t
request_count(const struct mlib_request *request)
{
    if (request->pids != NULL)
        return request->pid_count;
    return request->writes != NULL ? request->writes->count : 1;
}

static enum mlib_place
request_place(const struct mlib_request *request)
{
    if (request->ahead)
        return MLIB_PLACE_AHEAD;
    return request->ticket ? MLIB_PLACE_TICKET : MLIB_PLACE_WAITED;
}

/* Is there a place in the ring, and no reason to leave it to somebody else? Under publish_lock. `force`: this thread has
 * waited for so long that whoever stands in its way may never come back. */
static bool
ring_has_room(struct mlib_attachment *attachment, const struct mlib_request *request, bool force)
{
    if (attachment->draining != 0 && attachment->draining != mlib_thread_number() && !force)
        return false;
    if (request->ticket && AO_load(&attachment->deferred_count) >= DEFERRED_MAX) {
        mlib_lanes_reap(attachment);
        if (AO_load(&attachment->deferred_count) >= DEFERRED_MAX)
            return false;
    }
    if (mshm_producer_room(&attachment->producer, attachment->answers_taken))
        return true;
    answers_harvest(attachment, force);
    return mshm_producer_room(&attachment->producer, attachment->answers_taken) != 0;
}

/* One try, under publish_lock. MACE_OK; MACE_BUSY: no room yet; MACE_TOO_BIG: not with the arena as it is. */
static int
publish_locked(struct mlib_attachment *attachment, const struct mlib_request *request, bool force,
               uint64_t *sequence, int *wake)
{
    struct mshm_producer *producer = &attachment->producer;
    uint64_t bytes = request_bytes(request), offset;
    if (!ring_has_room(attachment, request, force))
        return MACE_BUSY;
    int status = mshm_producer_arena(producer, bytes, &offset);
    if (status == MSHM_BUSY && attachment->draining == 0)
        attachment->draining = mlib_thread_number();
    if (status != MSHM_OK)
        return status;
    if (attachment->draining == mlib_thread_number())
        attachment->draining = 0;
    request_emit(request, (uint8_t *)attachment->session + MSHM_SESSION_ARENA + offset);
    AO_store(place_of(attachment, producer->next),
             place_word(producer->next, request_place(request)));
    if (request->ticket)
        attachment->tickets++;
    *sequence = mshm_producer_publish(
        producer, request->kind,
        request->level == MACE_SYNC && request->pids == NULL ? MSHM_REQUEST_LEVEL_SYNC : 0,
        mlib_thread_number(), request->lane, request->snapshot, offset, bytes,
        request_count(request), wake);
    return MACE_OK;
}

static int
publish_try(struct mlib_attachment *attachment, const struct mlib_request *request, bool force,
            uint64_t *sequence)
{
    int wake = 0;
    if (mlib_attachment_lost(attachment))
        return MACE_BROKER_LOST;
    if (pthread_mutex_lock(&attachment->publish_lock) != 0)
        return MACE_INVALID; /* this thread holds it: a signal handler interrupted a call */
    int status = publish_locked(attachment, request, force, sequence, &wake);
    pthread_mutex_unlock(&attachment->publish_lock);
    if (wake)
        mlib_doorbell(attachment);
    return status;
}

/* Lets the other threads go on when this one has given up. */
static void
drain_end(struct mlib_attachment *attachment)
{
    if (pthread_mutex_lock(&attachment->publish_lock) != 0)
        return;
    if (attachment->draining == mlib_thread_number())
        attachment->draining = 0;
    pthread_mutex_unlock(&attachment->publish_lock);
}

/* Yields, then sleeps: the broker makes room in tens of microseconds, or is busy with a disk. The system call is made
 * directly, so that it is no cancellation point. */
static void
room_pause(unsigned tries)
{
    if (tries < ROOM_YIELDS && mshm_yield(NULL))
        return;
    struct timespec pause = {.tv_nsec = (long)room_pause_ns};
    (void)syscall(SYS_nanosleep, &pause, NULL);
}

int
mlib_request_try(struct mlib_attachment *attachment, const struct mlib_request *request,
                 uint64_t *sequence)
{
    int status = publish_try(attachment, request, false, sequence);
    if (status == MACE_BUSY)
        drain_end(attachment);
    return status;
}

int
mlib_request_publish(struct mlib_attachment *attachment, const struct mlib_request *request,
                     uint64_t deadline_ns, uint64_t *sequence)
{
    int status = publish_try(attachment, request, false, sequence);
    if (status != MACE_BUSY && status != MACE_TOO_BIG)
        return status;
    uint64_t began = mlib_time_ns(), now = began;
    bool grown = false;
    for (unsigned tries = 0; status == MACE_BUSY || status == MACE_TOO_BIG; tries++) {
        if (status == MACE_TOO_BIG) {
            if (grown)
                break;
            status = mlib_arena_grow(attachment, request_bytes(request));
            if (status != MACE_OK)
                break;
            grown = true;
        } else {
            room_pause(tries);
            now = mlib_time_ns();
        }
        status = publish_try(attachment, request, now - began > stuck_ns, sequence);
        if (status == MACE_BUSY && deadline_ns != 0 && now >= deadline_ns)
            break;
    }
    if (status != MACE_OK)
        drain_end(attachment);
    return status;
}

/* -------------------------------------------------------------------------------------------------- tickets */

/* Marks a ticket's answer as returned. Under publish_lock. */
static void
ticket_take(struct mlib_attachment *attachment, struct mlib_outcome *answer)
{
    struct mlib_outcome taken = *answer;
    taken.taken = true;
    if (attachment->tickets > 0)
        attachment->tickets--;
    *outcome_of(attachment, answer->sequence) = taken;
}

static int
claim_locked(struct mlib_attachment *attachment, uint64_t sequence, struct mlib_outcome *answer)
{
    if (attachment->outcomes == NULL || sequence == 0 || sequence >= attachment->producer.next)
        return MACE_INVALID;
    struct mlib_outcome *kept = outcome_of(attachment, sequence);
    if (kept->sequence == sequence) {
        if (kept->taken)
            return MACE_INVALID;
        *answer = *kept;
        ticket_take(attachment, answer);
        return MACE_OK;
    }
    AO_t *place = place_of(attachment, sequence);
    if (sequence <= attachment->answers_taken ||
        AO_load(place) != place_word(sequence, MLIB_PLACE_TICKET))
        return MACE_INVALID;
    AO_store(place, place_word(sequence, MLIB_PLACE_WAITED));
    return MACE_BUSY;
}

int
mlib_ticket_claim(struct mlib_attachment *attachment, uint64_t sequence,
                  struct mlib_outcome *answer)
{
    if (pthread_mutex_lock(&attachment->publish_lock) != 0)
        return MACE_INVALID;
    int status = claim_locked(attachment, sequence, answer);
    pthread_mutex_unlock(&attachment->publish_lock);
    return status;
}

static int
finish_locked(struct mlib_attachment *attachment, uint64_t sequence, bool live, bool known,
              struct mlib_outcome *answer)
{
    struct mlib_outcome *kept = outcome_of(attachment, sequence);
    AO_t *place = place_of(attachment, sequence);
    bool ours = AO_load(place) == place_word(sequence, MLIB_PLACE_WAITED);
    if (kept->sequence == sequence) /* harvested by force */
        *answer = *kept;
    else if (!known && (!live || !completion_read(attachment, sequence, answer))) {
        if (ours)
            AO_store(place, place_word(sequence, MLIB_PLACE_TICKET));
        return MACE_BUSY;
    }
    if (ours)
        AO_store(place, place_word(sequence, MLIB_PLACE_TAKEN));
    ticket_take(attachment, answer);
    return MACE_OK;
}

int
mlib_ticket_finish(struct mlib_attachment *attachment, uint64_t sequence, bool live, bool known,
                   struct mlib_outcome *answer)
{
    if (pthread_mutex_lock(&attachment->publish_lock) != 0)
        return MACE_BUSY;
    int status = finish_locked(attachment, sequence, live, known, answer);
    pthread_mutex_unlock(&attachment->publish_lock);
    return status;
}
