/* shm/wait.c - waiting for an answer: spin, yield, then sleep on the futex word of the completion.
 *
 * Spinning is right when the broker runs on another processor (a hand-over takes 0.1 us, two futex calls 9 us);
 * yielding is right when more clients than processors wait, because it lets the broker run without a system call to
 * wake this thread again; sleeping is right when the answer needs a disk, or when somebody who has nothing to do with
 * the database wants the processors: a yield then costs a time slice of theirs, and a thread that is woken from its sleep
 * goes before them. The death of the broker wakes nobody, so no sleep is longer than 100 ms.
 */
#include <errno.h>
#include <limits.h>
#include <linux/futex.h>
#include <sched.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "mshm/counters.h"
#include "mshm/protocol.h"

enum { WAIT_SPINS = 150, WAIT_YIELDS = 400, WAIT_YIELDS_DISK = 20 };
static const uint64_t wait_slice_ns = 100 * 1000 * 1000;

/* A yield that lasts longer than long_yield_ns has met somebody's time slice. When commits went on meanwhile, one for each
 * progress_ns at least, it was well spent: on another client that finds each answer while it spins, or on the broker's
 * own jobs beside a loop that serves others. Else it was a stranger's, and for the next busy_ns nobody here yields. All
 * threads of the process write and read the word, in no order with anything: it is a hint. */
static const uint64_t long_yield_ns = 200 * 1000, progress_ns = 20 * 1000,
                      busy_ns = 50 * 1000 * 1000, busy_spin_ns = 60 * 1000;
static AO_t busy_until_ns;

static int
answered(const struct mshm_session *session, uint64_t sequence)
{
    /* pairs with the release in mshm_completion_post. A later answer in this place means that this one was taken by
     * somebody else: no reason to sleep either. */
    unsigned done = AO_int_load_acquire(&session->completions[mshm_ring_place(sequence)].done);
    return (int)(done - (unsigned)sequence) >= 0;
}

static uint64_t
clock_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

/* How long the next sleep may be: 0 when the deadline has passed. */
static uint64_t
sleep_ns(uint64_t deadline_ns)
{
    if (deadline_ns == 0)
        return wait_slice_ns;
    uint64_t now_ns = clock_ns();
    if (now_ns >= deadline_ns)
        return 0;
    return deadline_ns - now_ns < wait_slice_ns ? deadline_ns - now_ns : wait_slice_ns;
}

/* Sleeps while *word is `value`, at most `ns`. Early returns (EINTR, EAGAIN) are harmless: the caller looks again.
 * The futex is shared: the broker wakes it through another mapping. */
static void
futex_sleep(unsigned int *word, unsigned int value, uint64_t ns)
{
    struct timespec timeout = {.tv_sec = (time_t)(ns / 1000000000u),
                               .tv_nsec = (long)(ns % 1000000000u)};
    (void)syscall(SYS_futex, word, FUTEX_WAIT, value, &timeout, NULL, 0);
}

void
mshm_completion_wake(struct mshm_session *session, uint64_t sequence)
{
    (void)syscall(SYS_futex, &session->completions[mshm_ring_place(sequence)].done, FUTEX_WAKE,
                  INT_MAX, NULL, NULL, 0);
}

/* One sleep: announces itself, looks again, sleeps. MSHM_OK: answered; MSHM_NOT_FOUND: not yet; else as the wait. */
static int
sleep_once(struct mshm_session *session, const struct mshm_store *store, uint64_t sequence,
           uint64_t deadline_ns)
{
    unsigned int *done = &session->completions[mshm_ring_place(sequence)].done;
    AO_int_store(&session->waiting[mshm_ring_place(sequence)], 1);
    mshm_full_fence(); /* pairs with the broker's fence between posting a batch and mshm_completion_waiter */
    unsigned int value = AO_int_load_acquire(done);
    if ((int)(value - (unsigned)sequence) >= 0)
        return MSHM_OK;
    /* Liveness first, then once more the answer: the broker may have answered and died, or ended the session, in between. */
    if (mshm_store_gone(store) || mshm_session_over(session))
        return answered(session, sequence) ? MSHM_OK : MSHM_BROKER_LOST;
    uint64_t ns = sleep_ns(deadline_ns);
    if (ns == 0)
        return MSHM_BUSY;
    futex_sleep(done, value, ns);
    return answered(session, sequence) ? MSHM_OK : MSHM_NOT_FOUND;
}

int
mshm_yield(const struct mshm_store *store)
{
    uint64_t before_ns = clock_ns();
    if (before_ns < AO_load(&busy_until_ns))
        return 0;
    mshm_timestamp before = store != NULL ? AO_load(&store->visible) : 0;
    sched_yield();
    uint64_t now_ns = clock_ns(), took_ns = now_ns - before_ns;
    if (took_ns <= long_yield_ns)
        return 1;
    if (store != NULL && AO_load(&store->visible) - before >= took_ns / progress_ns)
        return 1;
    AO_store(&busy_until_ns, now_ns + busy_ns);
    return 0;
}

/* With yields that are in vain: the broker's wake-up may come before a stranger's slice ends on its processor, so
 * this one is kept for the time that an answer takes. */
static int
answered_spinning(const struct mshm_session *session, uint64_t sequence)
{
    uint64_t until_ns = clock_ns() + busy_spin_ns;
    do {
        if (answered(session, sequence))
            return 1;
        mshm_pause();
    } while (clock_ns() < until_ns);
    return 0;
}

static int
answered_yielding(const struct mshm_session *session, const struct mshm_store *store,
                  uint64_t sequence, unsigned yields)
{
    for (unsigned i = 0; i < yields; i++) {
        if (!mshm_yield(store))
            return yields == WAIT_YIELDS ? answered_spinning(session, sequence)
                                         : answered(session, sequence);
        if (answered(session, sequence))
            return 1;
    }
    return 0;
}

int
mshm_completion_wait(struct mshm_session *session, const struct mshm_store *store,
                     uint64_t sequence, uint64_t deadline_ns, unsigned cpus)
{
    for (unsigned i = 0; i < (cpus > 1 ? WAIT_SPINS : 1); i++) {
        if (answered(session, sequence)) {
            mshm_counter_add(&session->counters.waits_spun, 1);
            return MSHM_OK;
        }
        mshm_pause();
    }
    /* Who waits for the disk has nothing of others' commits: those that a sync made durable become visible together. */
    if (cpus > 0 ? answered_yielding(session, store, sequence, WAIT_YIELDS)
                 : answered_yielding(session, NULL, sequence, WAIT_YIELDS_DISK)) {
        mshm_counter_add(&session->counters.waits_yielded, 1);
        return MSHM_OK;
    }
    mshm_counter_add(&session->counters.waits_slept, 1);
    int status;
    do
        status = sleep_once(session, store, sequence, deadline_ns);
    while (status == MSHM_NOT_FOUND);
    AO_int_store(&session->waiting[mshm_ring_place(sequence)], 0);
    return status;
}
