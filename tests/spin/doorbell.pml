/* doorbell.pml - publishing against a broker that goes to sleep, and answers against a client that goes to sleep.
 *
 * Two sessions of one client thread each, REQUESTS requests each, one broker. Nobody times out unless a variant says so,
 * so a lost wake-up is a deadlock, which spin reports as an invalid end state. Kernel objects (eventfd, futex) do each of
 * their steps at once. What is built: mshm_producer_publish, mshm_completion_wait, core_sleep (all polled sessions), the
 * rest of one session (session_rest), one fence for a batch of answers (answer_wake).
 *
 *   NO_CLIENT_FENCE, NO_BROKER_FENCE   tail against asleep
 *   NO_WAITER_FENCE, NO_ANSWER_FENCE   waiting against done
 *   NO_SECOND_LOOK                     the broker sleeps without looking at the tails again
 *   RESTING_FORGOTTEN                  a resting session is not marked asleep
 *   DEATH                              the broker may die anywhere; waits end after a time and look at liveness
 *   NO_TIMEOUT                         they do not end
 *   ANSWER_NOT_LOOKED_AT_AGAIN         after liveness the waiter does not look at the answer once more
 */
#ifndef REQUESTS
#define REQUESTS 1
#endif
#define CPUS 3
#define WORDS 10
#define DEPTH 3
#include "buffers.inc"
#define BROKER 0
#define TAIL(c) (c)         /* 1, 2 */
#define DONE(c) (2 + (c))   /* 3, 4: sequence that was answered */
#define WAITING(c) (4 + (c)) /* 5, 6 */
#define ASLEEP(c) (6 + (c)) /* 7, 8 */
#define LIVENESS 9

bit bell[3];     /* eventfd of a session has been written */
bit on_futex[3]; /* the client sleeps in the kernel */
byte answered[3]; /* the truth: answers that the broker gave */

/* The death of a process carries out what its processor had still to store; then the kernel marks liveness. */
inline maybe_die() {
#ifdef DEATH
    if
    :: FENCE(BROKER); memory[LIVENESS] = 1; goto dead
    :: skip
    fi
#else
    skip
#endif
}

/* Answers everything that was published, then fences once, then wakes. */
inline serve() {
    c = 1;
    do
    :: c <= 2 ->
       if
       :: !resting[c] ->
          LOAD(BROKER, TAIL(c), tail);
          do
          :: head[c] < tail -> head[c]++; answered[c] = head[c]; STORE_RELEASE(BROKER, DONE(c), head[c]); posted = 1
          :: else -> break
          od;
          tail = 0
       :: else
       fi;
       c++
    :: else -> break
    od;
    maybe_die();
    if
    :: posted ->
#ifndef NO_ANSWER_FENCE
       FENCE(BROKER);
#endif
       c = 1;
       do
       :: c <= 2 ->
          atomic { LOAD(BROKER, WAITING(c), w); if :: w == 1 -> w = 0; on_futex[c] = 0 :: else fi };
          c++
       :: else -> break
       od
    :: else
    fi;
    c = 0; posted = 0
}

proctype broker() {
    byte head[3], c, tail, w;
    bit resting[3], posted, work;
end:
    do
    :: serve();
       if
       :: skip /* polls on */
       :: !resting[1] -> /* stops polling session 1 */
#ifndef RESTING_FORGOTTEN
          STORE(BROKER, ASLEEP(1), 1);
          FENCE(BROKER);
#endif
          LOAD(BROKER, TAIL(1), tail);
          if
          :: tail == head[1] -> resting[1] = 1
          :: else -> STORE(BROKER, ASLEEP(1), 0)
          fi;
          tail = 0
       :: true -> /* sleeps */
          if :: !resting[1] -> STORE(BROKER, ASLEEP(1), 1) :: else fi;
          STORE(BROKER, ASLEEP(2), 1);
#ifndef NO_BROKER_FENCE
          FENCE(BROKER);
#endif
#ifndef NO_SECOND_LOOK
          if
          :: !resting[1] -> LOAD(BROKER, TAIL(1), tail); if :: tail != head[1] -> work = 1 :: else fi
          :: else
          fi;
          LOAD(BROKER, TAIL(2), tail);
          if :: tail != head[2] -> work = 1 :: else fi;
          tail = 0;
#endif
          maybe_die();
          if
          :: work -> work = 0
          :: else ->
endasleep:
             atomic { (bell[1] || bell[2]) ->
                      if :: bell[1] -> resting[1] = 0 :: else fi;
                      bell[1] = 0; bell[2] = 0 }
          fi;
          if :: !resting[1] -> STORE(BROKER, ASLEEP(1), 0) :: else fi;
          STORE(BROKER, ASLEEP(2), 0)
       :: atomic { bell[1] && resting[1] -> bell[1] = 0; resting[1] = 0 }; /* the poll names session 1 */
          STORE(BROKER, ASLEEP(1), 0)
       fi
    od;
dead:
    skip
}

proctype client(byte me) {
    byte sequence, value, gone;
    do
    :: sequence < REQUESTS ->
       sequence++;
       STORE_RELEASE(me, TAIL(me), sequence);
#ifndef NO_CLIENT_FENCE
       FENCE(me);
#endif
       LOAD(me, ASLEEP(me), value);
       if :: value == 1 -> bell[me] = 1 :: else fi;
       value = 0;
       do
       :: STORE(me, WAITING(me), 1);
#ifndef NO_WAITER_FENCE
          FENCE(me);
#endif
          LOAD(me, DONE(me), value);
          if :: value == sequence -> break :: else fi;
          LOAD(me, LIVENESS, gone);
          if
          :: gone == 1 ->
#ifndef ANSWER_NOT_LOOKED_AT_AGAIN
             LOAD(me, DONE(me), value);
             if :: value == sequence -> break :: else fi;
#endif
             assert(answered[me] < sequence); /* told "lost" only when it was not answered */
             goto lost
          :: else
          fi;
          /* FUTEX_WAIT compares and falls asleep in one step */
          atomic { if :: memory[DONE(me)] == value -> on_futex[me] = 1 :: else fi };
#ifdef DEATH
#ifndef NO_TIMEOUT
          if :: on_futex[me] == 0 :: timeout -> on_futex[me] = 0 fi
#else
          (on_futex[me] == 0)
#endif
#else
          (on_futex[me] == 0)
#endif
       od;
       STORE(me, WAITING(me), 0);
       value = 0
    :: else -> break
    od;
lost:
    skip
}

init {
    atomic {
        run broker(); run client(1);
#ifndef DEATH
        run client(2)
#endif
    }
}
