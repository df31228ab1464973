/* publish.pml - commits of both levels through the log: what is answered when, and what a crash may leave.
 *
 * COMMITS commits, each SYNC or OS as spin chooses, in batches: one write and one sync at a time, applied commits go on
 * meanwhile. The disk: `written` is the prefix that outlives the process, `kept` the prefix that outlives a power cut; after
 * a cut any prefix from there to the last write begun may be found, because records are chained. What is built: a batch
 * with a SYNC commit is written and synced; OS commits are copied into the log's mapping as they are applied, unless a
 * SYNC commit stands before them unwritten; `visible` and answers go in commit order, visible first.
 *
 *   SYNC_COVERS_LATER       a sync counts for all that is written when it ends, not when it began
 *   ANSWER_BEFORE_VISIBLE   the answer is stored before `visible`
 *   OS_OVERTAKES            an OS commit is published although a SYNC commit before it is not durable
 *   ANSWER_BEFORE_SYNC      a SYNC commit is answered when it is written
 */
#ifndef COMMITS
#define COMMITS 4
#endif
#define CPUS 2
#define WORDS 2
#define DEPTH 3
#include "buffers.inc"
#define VISIBLE 0
#define ANSWERED 1
#define BROKER 0
#define CLIENT 1

bit is_sync[COMMITS + 2];
byte applied;          /* commits that stand in the index */
byte write_end;        /* of the write under way or ended last */
byte written, sync_end, synced; /* synced: what the broker believes durable */
byte kept;             /* what the device keeps */
bit writing, syncing, down;
byte told, told_sync;  /* newest answers that a client has seen, of any level and of SYNC */
byte found = 255;      /* commits after recovery */

#ifdef ANSWER_BEFORE_SYNC
#define DURABLE(t) ((t) <= written)
#else
#define DURABLE(t) ((t) <= written && (!is_sync[t] || (t) <= synced))
#endif

proctype broker() {
    byte visible;
end:
    do
    :: atomic { !down && applied < COMMITS ->
           applied++;
           if
           :: is_sync[applied] = 1
           :: is_sync[applied] = 0;
              /* by the mapping, at once, when everything before it is there */
              if :: !writing && written == applied - 1 -> written = applied; write_end = applied :: else fi
           fi }
    :: atomic { !down && !writing && write_end < applied -> write_end = applied; writing = 1 }
    :: atomic { !down && writing -> written = write_end; writing = 0 }
    :: atomic { !down && !syncing && synced < written -> sync_end = written; syncing = 1 }
    :: atomic { !down && syncing -> kept = sync_end;
#ifdef SYNC_COVERS_LATER
           synced = written;
#else
           synced = sync_end;
#endif
           syncing = 0 }
#ifdef OS_OVERTAKES
    :: !down && visible + 2 <= applied && !is_sync[visible + 2] && visible + 2 <= written ->
       visible = visible + 2;
       STORE_RELEASE(BROKER, VISIBLE, visible);
       STORE_RELEASE(BROKER, ANSWERED, visible)
#endif
    :: !down && visible < applied && DURABLE(visible + 1) ->
       visible++;
#ifdef ANSWER_BEFORE_VISIBLE
       STORE_RELEASE(BROKER, ANSWERED, visible);
       STORE_RELEASE(BROKER, VISIBLE, visible)
#else
       STORE_RELEASE(BROKER, VISIBLE, visible);
       STORE_RELEASE(BROKER, ANSWERED, visible)
#endif
    :: down -> break
    od
}

/* Takes an answer, then begins a transaction: it must see what it was told is committed. */
proctype client() {
    byte answer, visible, t;
end:
    do
    :: !down ->
       LOAD(CLIENT, ANSWERED, answer);
       LOAD(CLIENT, VISIBLE, visible);
       assert(visible >= answer);
       d_step {
           if :: answer > told && !down -> told = answer :: else fi;
           t = 1;
           do
           :: t <= answer && !down -> if :: is_sync[t] && t > told_sync -> told_sync = t :: else fi; t++
           :: else -> break
           od;
           t = 0; answer = 0; visible = 0
       }
    :: down -> break
    od
}

proctype crash() {
    byte n;
    if
    :: atomic { down = 1; /* power */
           n = kept;
           do :: n < write_end -> n++ :: break od;
           found = n;
           assert(told_sync <= found) }
    :: atomic { down = 1; /* SIGKILL */
           n = written;
           do :: n < write_end -> n++ :: break od;
           found = n;
           assert(told <= found) }
    fi
}

init { atomic { run broker(); run client(); run crash() } }
