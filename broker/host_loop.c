/* host_loop.c - the loop thread: step, spin, sleep, wake.
 *
 *   core_step --did something--> core_step ...                        (every so often a look at the poller)
 *      | idle
 *      v
 *   spin: step again, with a pause between      a client that was answered may publish its next request at once, and a
 *      | some microseconds                      hand-over between two running threads costs a hundredth of two wake-ups
 *      v
 *   yield: step again, with sched_yield between   more threads than processors want to run: the clients go first
 *      | nobody published while they could, or a yield met somebody who runs for long: a thread that is woken from its
 *      | sleep goes before those, one that has yielded after them
 *      v
 *   core_sleep -> poller_wait -> core_awake
 *
 * With one processor nobody can publish while this thread spins. While a sync is all there is to wait for, the
 * processor is better left to others.
 */
#include <errno.h>
#include <string.h>
#include <sys/epoll.h>

#include "events.h"
#include "host.h"
#include "host_clock.h"
#include "host_sched.h"
#include "liveness.h"
#include "mshm/protocol.h"
#include "mshm/store.h"

enum {
    LOOP_LOOK_TURNS = 64,  /* turns of work between two looks at the poller */
    LOOP_SPIN_NS = 3000,   /* of pauses */
    LOOP_YIELD_NS = 60000, /* of yields, and */
    LOOP_YIELD_LEAST = 20, /* at least so many: each may last as long as the others' turns */
    LOOP_YIELD_IO_NS =
        300000, /* of yields while I/O is under way: a wake-up costs as much as a part of a sync */
    LOOP_YIELD_WAITING = 3, /* yields while I/O is under way, or on one processor */
};

struct loop {
    struct host *host;
    struct mshm_store *store;
    uint64_t idle_since_ns;   /* first turn without work; 0 = there was work */
    unsigned yields;          /* since then */
    unsigned turns;           /* since the last look at the poller */
    uint64_t checked_ns;      /* last look at the directory's path */
    uint64_t lonely_since_ns; /* nobody is connected since then; 0 = somebody is */
    bool stopping;            /* core_stop was called because of a signal: for good */
    bool leaving;  /* core_stop was called because of idleness: an arrival takes it back */
    bool replaced; /* the data directory is not the one that was locked */
};

static void
loop_pause(void)
{
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#endif
}

/* --- what is looked at after each poll ------------------------------------------------------------------------------ */

/* A directory that was deleted or replaced is served by nobody: what is acknowledged here would be lost. */
static void
loop_check_directory(struct loop *loop, uint64_t now_ns)
{
    if (now_ns - loop->checked_ns < HOST_SECOND_NS)
        return;
    loop->checked_ns = now_ns;
    if (directory_same(&loop->host->directory))
        return;
    events_print(ENV_LOG_ERROR, "%s is not the directory that was opened any more: stopping",
                 loop->host->directory.path);
    loop->replaced = true;
}

static void
loop_check_stop(struct loop *loop)
{
    if (!loop->host->stop_wanted || loop->stopping)
        return;
    events_print(ENV_LOG_INFO, "stops: making everything durable");
    loop->stopping = true;
    loop->leaving = false;
    core_stop(loop->host->core);
}

static bool
loop_is_lonely(const struct loop *loop)
{
    return loop->host->server.count == 0 && core_session_count(loop->host->core) == 0;
}

/* Idleness counts while nobody is connected, attached or not. */
static void
loop_check_idle(struct loop *loop, uint64_t now_ns)
{
    struct host *host = loop->host;

    if (host->options->idle_exit_ms == 0 || loop->stopping)
        return;
    if (!loop_is_lonely(loop)) {
        if (loop->leaving)
            core_stop_cancel(host->core);
        loop->leaving = false;
        loop->lonely_since_ns = 0;
        return;
    }
    if (loop->lonely_since_ns == 0)
        loop->lonely_since_ns = now_ns;
    if (loop->leaving ||
        now_ns - loop->lonely_since_ns < host->options->idle_exit_ms * HOST_MILLISECOND_NS)
        return;
    loop->leaving = true;
    core_stop(host->core);
}

static void
loop_look(struct loop *loop, uint64_t timeout_ns)
{
    uint64_t now_ns;

    poller_wait(&loop->host->poller, timeout_ns);
    loop->turns = 0;
    now_ns = host_clock_ns();
    host_stall_look(&loop->host->stall, now_ns);
    server_sweep(&loop->host->server, now_ns);
    loop_check_directory(loop, now_ns);
    loop_check_stop(loop);
    loop_check_idle(loop, now_ns);
}

/* --- when to sleep, and how long ------------------------------------------------------------------------------------ */

static bool
loop_waits_for_io(const struct host *host)
{
    return host->io->under_way > 0 || host->syncs->under_way > 0;
}

/* One turn without work has passed. True: another one is worth it. */
static bool
loop_spin(struct loop *loop)
{
    const struct host *host = loop->host;
    uint64_t now_ns = host_clock_ns();

    if (loop->idle_since_ns == 0)
        loop->idle_since_ns = now_ns;
    uint64_t idle_ns = now_ns - loop->idle_since_ns;
    if (loop->turns >= LOOP_LOOK_TURNS)
        loop_look(loop, 0);
    /* A thread that is to sync may wait for this processor, so it is not spun on while one is under way. */
    if (host->cpus > 1 && idle_ns < LOOP_SPIN_NS && host->syncs->under_way == 0) {
        loop_pause();
        return true;
    }
    unsigned least = LOOP_YIELD_LEAST;
    uint64_t longest_ns = LOOP_YIELD_NS;
    if (host->cpus == 1 || loop_waits_for_io(host)) {
        least = LOOP_YIELD_WAITING;
        longest_ns = host->cpus == 1 ? 0 : LOOP_YIELD_IO_NS;
    }
    if (loop->yields >= least && idle_ns >= longest_ns)
        return false;
    loop->yields++;
    return mshm_yield(NULL) != 0;
}

static uint64_t
loop_timeout(const struct loop *loop, uint64_t wait_ns)
{
    const struct host *host = loop->host;
    /* A request that the kernel did not take at once (EAGAIN) is offered again at the next turn. */
    uint64_t longest_ns = loop_waits_for_io(host) ? HOST_SECOND_NS / 20 : HOST_SECOND_NS;
    uint64_t timeout_ns = wait_ns < longest_ns ? wait_ns : longest_ns;

    if (loop->lonely_since_ns != 0 && !loop->leaving) {
        uint64_t passed_ns = host_clock_ns() - loop->lonely_since_ns;
        uint64_t idle_ns = host->options->idle_exit_ms * HOST_MILLISECOND_NS;
        uint64_t left_ns = passed_ns < idle_ns ? idle_ns - passed_ns : 0;
        timeout_ns = left_ns < timeout_ns ? left_ns : timeout_ns;
    }
    return timeout_ns;
}

static void
loop_worked(struct loop *loop)
{
    loop->idle_since_ns = 0;
    loop->yields = 0;
    if (loop->turns >= LOOP_LOOK_TURNS)
        loop_look(loop, 0);
}

static void
loop_idle(struct loop *loop, uint64_t wait_ns)
{
    if (loop_spin(loop))
        return;
    if (!core_sleep(loop->host->core)) {
        loop->idle_since_ns = 0;
        return;
    }
    host_io_submit(loop->host->io);
    loop_look(loop, loop_timeout(loop, wait_ns));
    core_awake(loop->host->core);
    loop->idle_since_ns = 0;
    loop->yields = 0;
}

/* --- the ways out --------------------------------------------------------------------------------------------------- */

static bool
loop_poisoned(const struct loop *loop)
{
    return loop->replaced || core_poisoned(loop->host->core);
}

/* True when an idle broker may go: whoever has knocked meanwhile is served instead. After the name of the socket is
 * gone a client that still got through is reset before its handshake ended, and starts over with a new broker. */
static bool
loop_may_leave(struct loop *loop)
{
    if (!core_stopped(loop->host->core))
        return false;
    if (loop->stopping)
        return true;
    if (!loop->leaving)
        return false;
    if (server_pending(&loop->host->server)) {
        loop_look(loop, 0);
        return false;
    }
    events_print(ENV_LOG_INFO, "leaves: nobody was attached for %llu ms",
                 (unsigned long long)loop->host->options->idle_exit_ms);
    return true;
}

int
host_loop(struct host *host)
{
    struct loop loop = {
        .host = host,
        .store = (struct mshm_store *)(void *)host->store.base,
        .checked_ns = host_clock_ns(),
    };

    host_sched_short();
    while (!loop_poisoned(&loop) && !loop_may_leave(&loop)) {
        uint64_t wait_ns = 0;
        bool worked = core_step(host->core, &wait_ns);
        loop.turns++;
        if (loop_poisoned(&loop))
            break;
        if (worked)
            loop_worked(&loop);
        else
            loop_idle(&loop, wait_ns);
    }
    bool poisoned = loop_poisoned(&loop);
    liveness_end(&loop.store->liveness, poisoned ? MSHM_LIVENESS_POISONED : MSHM_LIVENESS_STOPPED);
    server_leave(&host->server, host->directory.fd);
    return poisoned ? HOST_EXIT_POISONED : HOST_EXIT_CLEAN;
}
