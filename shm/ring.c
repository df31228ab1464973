/* shm/ring.c - the request ring of a session: publishing by the client, copying in by the broker, and the answers.
 *
 * The arena is a ring, too: ranges are taken in the order of the requests that own them and come back in that order,
 * when the broker's head passes the request. Positions count bytes for ever; position % arena_size is the offset. A
 * range is contiguous: what is left before the end of the arena and too small is skipped. An arena that is empty starts
 * at offset 0 again, and the head is looked at every ARENA_HOT bytes although there is room: so a client that waits for
 * each commit uses the same few cached bytes for all of them.
 */
#include <string.h>

#include "mshm/counters.h"
#include "mshm/protocol.h"

enum {
    OP_SIZE_MIN = 24,      /* header, one byte of key, padding */
    ARENA_HOT = 16 * 1024, /* bytes */
};

/* --- the client ------------------------------------------------------------------------------------------------ */

/* Takes the size that the broker grants now. Only an empty arena may change its size: positions depend on it. */
static void
producer_adopt(struct mshm_producer *producer)
{
    uint64_t granted = AO_load_acquire(
        &producer->session->arena_size); /* pairs with the broker's store after backing */
    if (granted > MSHM_ARENA_MAX)
        granted = MSHM_ARENA_MAX;
    producer->arena_size = granted - granted % MSHM_LINE;
}

void
mshm_producer_init(struct mshm_producer *producer, struct mshm_session *session)
{
    memset(producer, 0, sizeof(*producer));
    producer->session = session;
    producer->head_seen = AO_load_acquire(&session->head);
    producer->next = AO_load(&session->tail) + 1;
    producer_adopt(producer);
}

/* Looks how far the broker has copied in, and takes back the ranges of what it has passed. */
static void
producer_refresh(struct mshm_producer *producer)
{
    uint64_t head =
        AO_load_acquire(&producer->session->head); /* pairs with mshm_consumer_advance */
    if (head <= producer->head_seen || head >= producer->next)
        return; /* nothing new, or nonsense */
    producer->head_seen = head;
    producer->arena_begin = producer->range_end[mshm_ring_place(head)];
    if (head + 1 == producer->next) {
        producer->arena_begin = producer->arena_end = producer->arena_looked = 0;
        producer_adopt(producer);
    }
}

/* The position of a contiguous range of `size` bytes, or UINT64_MAX when there is none now. */
static uint64_t
producer_find(const struct mshm_producer *producer, uint64_t size)
{
    uint64_t position = producer->arena_end;
    uint64_t offset = producer->arena_size == 0 ? 0 : position % producer->arena_size;
    if (size > producer->arena_size - offset)
        position += producer->arena_size - offset;
    return position + size - producer->arena_begin <= producer->arena_size ? position : UINT64_MAX;
}

int
mshm_producer_arena(struct mshm_producer *producer, uint64_t size, uint64_t *arena_offset)
{
    if (size > MSHM_ARENA_MAX)
        return MSHM_TOO_BIG;
    size = mshm_align_up(size, MSHM_LINE); /* a line belongs to one request */
    if (producer->arena_end - producer->arena_looked >= ARENA_HOT) {
        producer->arena_looked = producer->arena_end;
        producer_refresh(producer);
    }
    uint64_t position = size <= producer->arena_size ? producer_find(producer, size) : UINT64_MAX;
    if (position == UINT64_MAX) {
        producer_refresh(producer);
        if (producer->arena_begin == producer->arena_end)
            producer_adopt(producer);
        if (size > producer->arena_size) {
            uint64_t granted = AO_load_acquire(&producer->session->arena_size);
            return size <= granted && granted <= MSHM_ARENA_MAX ? MSHM_BUSY : MSHM_TOO_BIG;
        }
        position = producer_find(producer, size);
        if (position == UINT64_MAX)
            return MSHM_BUSY;
    }
    *arena_offset = producer->arena_size == 0 ? 0 : position % producer->arena_size;
    return MSHM_OK;
}

int
mshm_producer_room(struct mshm_producer *producer, uint64_t answers_taken)
{
    if (producer->next <= MSHM_RING_CAPACITY)
        return 1;
    uint64_t predecessor = producer->next - MSHM_RING_CAPACITY;
    if (producer->head_seen < predecessor)
        producer_refresh(producer);
    return producer->head_seen >= predecessor && answers_taken >= predecessor;
}

/* Takes the range that begins at `offset` for the request being published and returns the position behind it. */
static uint64_t
producer_take(struct mshm_producer *producer, uint64_t offset, uint64_t size)
{
    if (size == 0)
        return producer->arena_end;
    uint64_t in_lap = producer->arena_end % producer->arena_size;
    uint64_t position = producer->arena_end - in_lap + offset;
    if (offset < in_lap)
        position += producer->arena_size;
    producer->arena_end = position + mshm_align_up(size, MSHM_LINE);
    return producer->arena_end;
}

uint64_t
mshm_producer_publish(struct mshm_producer *producer, unsigned kind, unsigned flags,
                      unsigned thread, unsigned lane, mshm_timestamp snapshot,
                      uint64_t arena_offset, uint64_t arena_size, uint64_t op_count, int *wake)
{
    struct mshm_session *session = producer->session;
    uint64_t sequence = producer->next++;
    struct mshm_request *request = &session->ring[mshm_ring_place(sequence)];
    producer->range_end[mshm_ring_place(sequence)] =
        producer_take(producer, arena_offset, arena_size);
    AO_store(&request->sequence, sequence);
    AO_store(&request->kind_flags,
             (AO_t)thread << 32 | (AO_t)(flags & 0xffff) << 16 | (AO_t)(kind & 0xffff));
    AO_store(&request->lane, lane);
    AO_store(&request->snapshot, snapshot);
    AO_store(&request->arena_offset, arena_offset);
    AO_store(&request->arena_size, arena_size);
    AO_store(&request->op_count, op_count);
    AO_store(&request->reserved, 0);
    AO_store_release(&session->tail, sequence); /* pairs with mshm_consumer_pending */
    mshm_full_fence(); /* pairs with the fence between the broker's store of asleep and its last look at tail */
    *wake = AO_load(&session->asleep) != 0;
    if (*wake)
        mshm_counter_add(&session->counters.doorbells, 1);
    return sequence;
}

int
mshm_completion_take(const struct mshm_session *session, uint64_t sequence, int *status,
                     mshm_timestamp *timestamp)
{
    const struct mshm_completion *completion = &session->completions[mshm_ring_place(sequence)];
    if (AO_int_load_acquire(&completion->done) != (unsigned)sequence) /* mshm_completion_post */
        return 0;
    *status = (int)AO_int_load(&completion->status_bits);
    *timestamp = AO_load(&completion->timestamp);
    return 1;
}

/* --- the broker ------------------------------------------------------------------------------------------------ */

void
mshm_consumer_init(struct mshm_consumer *consumer, struct mshm_session *session,
                   uint64_t arena_size)
{
    consumer->session = session;
    consumer->head = 0;
    consumer->arena_size = arena_size;
}

int
mshm_consumer_pending(const struct mshm_consumer *consumer)
{
    uint64_t tail =
        AO_load_acquire(&consumer->session->tail); /* pairs with mshm_producer_publish */
    uint64_t pending = tail - consumer->head;      /* a tail behind head is a huge number */
    return pending <= MSHM_RING_CAPACITY ? (int)pending : -1;
}

/* Do the arena range and the count of operations of a copied request fit each other and the granted arena? */
static int
request_range_fits(const struct mshm_request_copy *request, uint64_t granted)
{
    return request->arena_offset % 8 == 0 && request->arena_size % 8 == 0 &&
           request->arena_offset <= granted &&
           request->arena_size <= granted - request->arena_offset && request->op_count >= 1 &&
           request->op_count <= request->arena_size / OP_SIZE_MIN;
}

/* What each kind may carry. `lane` is the whole word: the copy holds 32 bits of it. */
static int
request_fits(const struct mshm_request_copy *request, uint64_t lane, uint64_t granted)
{
    if ((request->flags & ~(unsigned)MSHM_REQUEST_LEVEL_SYNC) != 0 || request->reserved != 0)
        return 0;
    switch (request->kind) {
    case MSHM_REQUEST_COMMIT:
        return lane < MSHM_MAX_LANES && request->snapshot != 0 &&
               request_range_fits(request, granted);
    case MSHM_REQUEST_ONE_CALL:
        return lane == 0 && request->snapshot == 0 && request->op_count == 1 &&
               request_range_fits(request, granted);
    case MSHM_REQUEST_SYNC:
        return lane == 0 && request->snapshot == 0 && request->arena_offset == 0 &&
               request->arena_size == 0 && request->op_count == 0;
    case MSHM_REQUEST_PAGE_IN:
        return lane == 0 && request->snapshot == 0 && request->flags == 0 &&
               request->op_count >= 1 && request->op_count <= MSHM_MAX_PAGE_IN &&
               request->arena_size == mshm_align_up(request->op_count * sizeof(uint32_t), 8) &&
               request->arena_offset % 8 == 0 && request->arena_offset <= granted &&
               request->arena_size <= granted - request->arena_offset;
    default:
        return 0;
    }
}

int
mshm_consumer_peek(const struct mshm_consumer *consumer, struct mshm_request_copy *request)
{
    const struct mshm_request *shared =
        &consumer->session->ring[mshm_ring_place(consumer->head + 1)];
    /* Each word once: the client may change it between two loads. */
    AO_t kind_flags = AO_load(&shared->kind_flags);
    AO_t lane = AO_load(&shared->lane);
    struct mshm_request_copy copy = {
        .sequence = AO_load(&shared->sequence),
        .snapshot = AO_load(&shared->snapshot),
        .arena_offset = AO_load(&shared->arena_offset),
        .arena_size = AO_load(&shared->arena_size),
        .op_count = AO_load(&shared->op_count),
        .reserved = AO_load(&shared->reserved),
        .thread = (uint32_t)(kind_flags >> 32),
        .lane = (uint32_t)lane,
        .kind = (uint16_t)kind_flags,
        .flags = (uint16_t)(kind_flags >> 16),
    };
    if (copy.sequence != consumer->head + 1 || !request_fits(&copy, lane, consumer->arena_size))
        return MSHM_INVALID;
    *request = copy;
    return MSHM_OK;
}

const void *
mshm_consumer_arena(const struct mshm_consumer *consumer, const struct mshm_request_copy *request)
{
    return (const uint8_t *)consumer->session + MSHM_SESSION_ARENA + request->arena_offset;
}

void
mshm_consumer_advance(struct mshm_consumer *consumer)
{
    consumer->head++;
    AO_store_release(&consumer->session->head, consumer->head); /* pairs with producer_refresh */
}

void
mshm_completion_post(struct mshm_session *session, uint64_t sequence, int status,
                     mshm_timestamp timestamp)
{
    struct mshm_completion *completion = &session->completions[mshm_ring_place(sequence)];
    AO_store(&completion->timestamp, timestamp);
    AO_int_store(&completion->status_bits, (unsigned)status);
    AO_int_store_release(&completion->done,
                         (unsigned)sequence); /* pairs with mshm_completion_take */
}

int
mshm_completion_waiter(const struct mshm_session *session, uint64_t sequence)
{
    return AO_int_load(&session->waiting[mshm_ring_place(sequence)]) != 0;
}
