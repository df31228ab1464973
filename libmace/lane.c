/* lane.c - the lanes of a session: which are in use, and which wait for the broker to copy a commit in.
 *
 * A lane is handed out by setting its bit with compare-and-swap, so threads never wait for each other here. A thread
 * tries the lane it had last, whose line is in its cache; a new one takes the lowest, which keeps the broker's scan short.
 */
#include "mlib.h"

static AO_t threads_seen;
static __thread unsigned thread_number;
static __thread unsigned lane_hint;

unsigned
mlib_thread_number(void)
{
    if (thread_number == 0)
        thread_number = (unsigned)AO_fetch_and_add1(&threads_seen) + 1;
    return thread_number;
}

static bool
lane_try(struct mlib_attachment *attachment, unsigned lane)
{
    AO_t *word = &attachment->lanes[lane / 64];
    AO_t bit = (AO_t)1 << lane % 64;
    for (;;) {
        AO_t used = AO_load(word);
        if ((used & bit) != 0)
            return false;
        if (AO_compare_and_swap_acquire(word, used, used | bit)) /* pairs with mlib_lane_give */
            return true;
    }
}

/* The broker scans the lanes below lanes_high, so it must know of this one before its first word is written. The full
 * fences of mshm_snapshot_register and mshm_bracket_open stand between this store and what depends on it. */
static void
lanes_high_raise(struct mshm_session *session, unsigned lane)
{
    AO_t high = AO_load(&session->lanes_high);
    while (high <= lane && !AO_compare_and_swap_release(&session->lanes_high, high, lane + 1))
        high = AO_load(&session->lanes_high);
}

static bool
lane_find(struct mlib_attachment *attachment, unsigned *lane)
{
    if (lane_try(attachment, lane_hint)) {
        *lane = lane_hint;
        return true;
    }
    for (unsigned i = 0; i < MSHM_MAX_LANES / 64; i++) {
        AO_t used;
        while ((used = AO_load(&attachment->lanes[i])) != ~(AO_t)0) {
            unsigned candidate = i * 64 + (unsigned)__builtin_ctzl(~used);
            if (lane_try(attachment, candidate)) {
                *lane = candidate;
                return true;
            }
        }
    }
    return false;
}

int
mlib_lane_take(struct mlib_attachment *attachment, struct mace_txn *owner, unsigned *lane)
{
    unsigned taken;
    mlib_lanes_reap_try(attachment);
    if (!lane_find(attachment, &taken))
        return MACE_LIMIT;
    lanes_high_raise(attachment->session, taken);
    attachment->lane_owner[taken] = owner;
    lane_hint = taken;
    *lane = taken;
    return MACE_OK;
}

void
mlib_lane_give(struct mlib_attachment *attachment, unsigned lane)
{
    AO_t *word = &attachment->lanes[lane / 64];
    AO_t bit = (AO_t)1 << lane % 64;
    attachment->lane_owner[lane] = NULL;
    AO_t used;
    do
        used = AO_load(word);
    while (!AO_compare_and_swap_release(word, used, used & ~bit)); /* pairs with lane_try */
}

void
mlib_lane_defer(struct mlib_attachment *attachment, unsigned lane, uint64_t sequence)
{
    AO_t count = AO_load(&attachment->deferred_count);
    attachment->lane_owner[lane] = NULL;
    attachment->lane_until[lane] = sequence;
    attachment->deferred_lanes[(attachment->deferred_first + count) % MSHM_MAX_LANES] =
        (uint8_t)lane;
    AO_store(&attachment->deferred_count, count + 1);
}

void
mlib_lanes_reap(struct mlib_attachment *attachment)
{
    AO_t count = AO_load(&attachment->deferred_count);
    if (count == 0)
        return;
    AO_t head = AO_load_acquire(&attachment->session->head); /* pairs with mshm_consumer_advance */
    while (count > 0) {
        unsigned lane = attachment->deferred_lanes[attachment->deferred_first];
        if (attachment->lane_until[lane] > head)
            break;
        attachment->deferred_first = (attachment->deferred_first + 1) % MSHM_MAX_LANES;
        AO_store(&attachment->deferred_count, --count);
        mshm_snapshot_release(&attachment->session->lanes[lane]);
        mlib_lane_give(attachment, lane);
    }
}

void
mlib_lanes_reap_try(struct mlib_attachment *attachment)
{
    if (AO_load(&attachment->deferred_count) == 0 ||
        pthread_mutex_trylock(&attachment->publish_lock) != 0)
        return;
    mlib_lanes_reap(attachment);
    pthread_mutex_unlock(&attachment->publish_lock);
}
