/* snapshot.pml - registering a snapshot against the horizon, pruning, conflicts, death, expiry, the one-call get.
 *
 * One key. Commits 2..LAST each put it, delete it, or write elsewhere (commit 1 stands for the empty beginning). The leaf
 * is a mask of the timestamps it keeps, published with release. The client registers a snapshot, reads, and commits a put.
 * What is built: mshm_snapshot_register, snapshots_collect (snapshots from the horizon on are not listed), snapshots_need,
 * snapshots_drop_tombstone, the broker's pins, session draining before lanes are freed, expiry marks.
 *
 *   NO_CLIENT_FENCE, NO_BROKER_FENCE   a fence left out
 *   NO_RECHECK                         the client does not compare the horizon
 *   NAIVE_TOMBSTONE                    a tombstone goes when nothing older is kept
 *   NO_PIN                             the snapshot of a commit is forgotten when the request was published
 *   DIE                                the client may die after it published; the broker drains, then frees the lane
 *   FREE_BEFORE_DRAIN                  the lane is freed first
 *   EXPIRE                             the broker expires the snapshot at some time
 *   MARK_CHECKED_FIRST                 the client looks at the mark before it reads instead of after
 *   COMMIT_NOT_CHECKED                 the broker does not look at its marks when it takes a commit in
 *   ONE_CALL                           the client does an unregistered get: page, then visible
 *   VISIBLE_FIRST                      visible, then page
 */
#ifndef LAST
#define LAST 3
#endif
#define CPUS 2
#define WORDS 8
#define DEPTH 3
#include "buffers.inc"
#define VISIBLE 0
#define HORIZON 1
#define LEAF 2
#define LANE 3
#define REQUEST 4 /* snapshot + 1 of the published commit */
#define ANSWER 5
#define MARK 6
#define BROKER 0
#define CLIENT 1
#define NONE 255

/* The truth, which no process reads. */
bit wrote[LAST + 2];
bit tombstone[LAST + 2];
byte newest_write;
bit client_dead;

#define KEPT(mask, t) ((((mask) >> (t)) & 1) == 1)

/* Newest timestamp <= limit of a mask, or NONE. */
inline newest(mask, limit, out) {
    d_step {
        out = NONE; k_ = 1;
        do
        :: k_ <= limit && k_ <= LAST -> if :: KEPT(mask, k_) -> out = k_ :: else fi; k_++
        :: else -> break
        od;
        k_ = 0
    }
}
/* The same of the truth; tombstones count as nothing. */
inline truth(limit, out) {
    d_step {
        out = NONE; k_ = 1;
        do
        :: k_ <= limit && k_ <= LAST -> if :: wrote[k_] -> out = k_ :: else fi; k_++
        :: else -> break
        od;
        k_ = 0;
        if :: out != NONE && tombstone[out] -> out = NONE :: else fi
    }
}
inline answer_of(mask, limit, out) {
    newest(mask, limit, out);
    if :: d_step { out != NONE && tombstone[out] -> out = NONE } :: else fi
}

proctype broker() {
    byte next = 2, visible = 1, horizon = 1, leaf, list /* mask of snapshots below the horizon */, pin, marked;
    byte s, t, newer, keep, x, k_;
    bit taken;
end:
    do
    :: atomic { next <= LAST -> /* somebody else's commit */
           if
           :: d_step { wrote[next] = 1; newest_write = next; leaf = leaf | (1 << next) }
           :: d_step { wrote[next] = 1; tombstone[next] = 1; newest_write = next; leaf = leaf | (1 << next) }
           :: skip
           fi;
           STORE_RELEASE(BROKER, LEAF, leaf); next++ }
    :: atomic { visible < next - 1 -> visible = next - 1; STORE_RELEASE(BROKER, VISIBLE, visible) }
    :: atomic { horizon < visible -> horizon = visible; STORE(BROKER, HORIZON, horizon) };
       /* collect */
#ifndef NO_BROKER_FENCE
       FENCE(BROKER);
#endif
       atomic {
           LOAD(BROKER, LANE, s);
           d_step {
               list = 0;
               if :: s != 0 && s < horizon && s > marked -> list = 1 << s :: else fi;
               if :: pin != 0 && pin < horizon -> list = list | (1 << pin) :: else fi;
               s = 0
           }
       }
    :: leaf != 0 -> /* consolidate with the cached horizon and list */
       d_step {
           keep = 0; t = 1;
           do
           :: t <= LAST ->
              if
              :: KEPT(leaf, t) ->
                 newer = t + 1;
                 do :: newer <= LAST && !KEPT(leaf, newer) -> newer++ :: else -> break od;
                 if
                 :: newer > LAST || newer > horizon -> keep = keep | (1 << t)
                 :: else ->
                    s = t;
                    do
                    :: s < newer -> if :: KEPT(list, s) -> keep = keep | (1 << t) :: else fi; s++
                    :: else -> break
                    od
                 fi
              :: else
              fi;
              t++
           :: else -> break
           od;
           /* the oldest version that is kept, if it is a tombstone that nobody misses */
           t = 1;
           do :: t <= LAST && !KEPT(keep, t) -> t++ :: else -> break od;
           if
           :: t <= LAST && tombstone[t] && t <= horizon ->
              x = 0;
#ifndef NAIVE_TOMBSTONE
              s = 1;
              do :: s < t -> if :: KEPT(list, s) -> x = 1 :: else fi; s++ :: else -> break od;
#endif
              if :: x == 0 -> keep = keep & (255 - (1 << t)) :: else fi
           :: else
           fi;
           s = 0; t = 0; x = 0; newer = 0
       };
       if :: keep != leaf -> leaf = keep; STORE_RELEASE(BROKER, LEAF, leaf) :: else fi;
       keep = 0
#ifdef EXPIRE
    :: atomic { marked == 0 && list != 0 && pin == 0 ->
           d_step { s = 1; do :: !KEPT(list, s) -> s++ :: else -> break od; list = 0 };
           marked = s; STORE_RELEASE(BROKER, MARK, s); s = 0 }
#endif
    :: atomic { !taken && memory[REQUEST] != 0 -> /* copy in: the request names its snapshot */
           taken = 1; s = memory[REQUEST] - 1;
#ifndef NO_PIN
           pin = s;
           if :: s < horizon -> list = list | (1 << s) :: else fi
#endif
       };
#ifdef EXPIRE
#ifndef COMMIT_NOT_CHECKED
       if :: s <= marked -> goto answered :: else fi;
#endif
#endif
decide:
       atomic {
           newest(leaf, LAST, x);
           /* a conflict is found exactly when there is one */
           assert((x != NONE && x > s) == (newest_write > s));
           if
           :: (x == NONE || x <= s) && next <= LAST ->
              d_step { wrote[next] = 1; newest_write = next; leaf = leaf | (1 << next) };
              STORE_RELEASE(BROKER, LEAF, leaf); next++
           :: else
           fi
       };
answered:
       x = 0; s = 0; pin = 0;
       STORE_RELEASE(BROKER, ANSWER, 1)
#ifdef DIE
#ifdef FREE_BEFORE_DRAIN
    :: atomic { client_dead -> memory[LANE] = 0; client_dead = 0 }
#else
    :: atomic { client_dead && taken -> memory[LANE] = 0; client_dead = 0 }
#endif
#endif
    od
}

proctype client() {
    byte snapshot, horizon, leaf, x, y, k_, first, mark;
#ifdef ONE_CALL
    LOAD(CLIENT, VISIBLE, first);
#ifdef VISIBLE_FIRST
    LOAD(CLIENT, VISIBLE, snapshot);
    LOAD(CLIENT, LEAF, leaf);
#else
    LOAD(CLIENT, LEAF, leaf);
    LOAD(CLIENT, VISIBLE, snapshot);
#endif
    answer_of(leaf, snapshot, x);
    /* the answer of some timestamp that was the newest visible one during the call */
    do
    :: first <= snapshot -> truth(first, y); if :: x == y -> goto out :: else -> first++ fi
    :: else -> break
    od;
    assert(false);
#else
    do
    :: LOAD(CLIENT, VISIBLE, snapshot);
       STORE(CLIENT, LANE, snapshot);
#ifndef NO_CLIENT_FENCE
       FENCE(CLIENT);
#endif
#ifdef NO_RECHECK
       break
#else
       atomic { LOAD(CLIENT, HORIZON, horizon);
                if :: horizon > snapshot -> horizon = 0 :: else -> horizon = 0; break fi }
#endif
    od;
#ifdef MARK_CHECKED_FIRST
    LOAD(CLIENT, MARK, mark);
    LOAD(CLIENT, LEAF, leaf);
#else
    LOAD(CLIENT, LEAF, leaf);
    LOAD(CLIENT, MARK, mark);
#endif
    if :: mark >= snapshot -> mark = 0 :: else -> answer_of(leaf, snapshot, x); truth(snapshot, y); assert(x == y) fi;
    x = 0; y = 0; leaf = 0;
    if
    :: skip
    :: STORE_RELEASE(CLIENT, REQUEST, snapshot + 1);
#ifdef NO_PIN
       STORE_RELEASE(CLIENT, LANE, 0);
#endif
#ifdef DIE
       if :: FENCE(CLIENT); client_dead = 1; goto out :: skip fi;
#endif
       (memory[ANSWER] == 1)
    fi;
    STORE_RELEASE(CLIENT, LANE, 0);
#endif
out:
    skip
}

init { atomic { memory[VISIBLE] = 1; memory[HORIZON] = 1; run broker(); run client() } }
