/* epoch.pml - read brackets, retirement, reuse of frames, revocation.
 *
 * One page. MAP names the frame that holds it now; a frame is two words, which the broker writes before it publishes the
 * frame. A reader must never believe words that are not those of the frame it took from MAP. What is built:
 * mshm_bracket_open and _close, frames.c (a frame is retired with the epoch that was current when it was unlinked, the
 * epoch is advanced afterwards, reclaiming fences and scans), store.revoked.
 *
 *   NO_READER_FENCE, NO_BROKER_FENCE   a fence left out
 *   ADVANCE_BEFORE_UNLINK              the epoch is advanced before the frame is unlinked, the tag is the older one
 *   REVOKE                             the broker may overrule brackets at any time
 *   NO_MARK_FENCE                      no fence between the mark and the reuse of frames
 *   MARK_LOADED_EARLY                  the reader's load of the mark may pass its loads of the page
 *   MARK_IGNORED                       the reader does not look at it
 */
#define CPUS 2
#define WORDS 10
#define DEPTH 3
#include "buffers.inc"
#define EPOCH 0
#define MAP 1
#define LANE 2
#define MARK 3
#define FIRST(frame) (3 + (frame))  /* 4, 5, 6 */
#define SECOND(frame) (6 + (frame)) /* 7, 8, 9 */
#define BROKER 0
#define READER 1
#ifndef REPLACEMENTS
#define REPLACEMENTS 4
#endif
#define READS 2

byte built[4]; /* the truth: what a frame was last built to hold */

/* Reads the lane, and frees what no bracket that counts can hold. */
inline reclaim() {
    atomic {
        LOAD(BROKER, LANE, seen);
        d_step {
            frame = 1;
            do
            :: frame <= 3 ->
               if
               :: retired[frame] && (seen == 0 || seen > tag[frame] || seen <= mark) ->
                  retired[frame] = 0; unused[frame] = 1
               :: else
               fi;
               frame++
            :: else -> break
            od;
            frame = 0; seen = 0
        }
    }
}

proctype broker() {
    byte epoch = 1, current = 1, content = 1, frame, seen, mark;
    byte tag[4];
    bit retired[4], unused[4];
    d_step { unused[2] = 1; unused[3] = 1 };
end:
    do
    :: content <= REPLACEMENTS && (unused[1] || unused[2] || unused[3]) -> /* replace */
       d_step {
           if :: unused[1] -> frame = 1 :: unused[2] -> frame = 2 :: unused[3] -> frame = 3 fi;
           unused[frame] = 0; content++; built[frame] = content
       };
       STORE(BROKER, FIRST(frame), content);
       STORE(BROKER, SECOND(frame), content);
#ifdef ADVANCE_BEFORE_UNLINK
       epoch++;
       STORE_RELEASE(BROKER, EPOCH, epoch);
       STORE_RELEASE(BROKER, MAP, frame);
       d_step { retired[current] = 1; tag[current] = epoch - 1; current = frame; frame = 0 }
#else
       STORE_RELEASE(BROKER, MAP, frame);
       d_step { retired[current] = 1; tag[current] = epoch; current = frame; frame = 0; epoch++ };
       STORE_RELEASE(BROKER, EPOCH, epoch)
#endif
    :: retired[1] || retired[2] || retired[3] ->
#ifndef NO_BROKER_FENCE
       FENCE(BROKER);
#endif
       reclaim()
#ifdef REVOKE
    :: mark < epoch - 1 && (retired[1] || retired[2] || retired[3]) ->
       mark = epoch - 1;
       STORE_RELEASE(BROKER, MARK, mark);
#ifndef NO_MARK_FENCE
       FENCE(BROKER);
#endif
       reclaim()
#endif
    od
}

proctype reader() {
    byte epoch, frame, a, b, wanted, mark, i;
    do
    :: i < READS ->
again:
       LOAD(READER, EPOCH, epoch);
       STORE(READER, LANE, epoch);
#ifndef NO_READER_FENCE
       FENCE(READER);
#endif
       d_step { frame = memory[MAP]; wanted = built[frame] };
#ifdef MARK_LOADED_EARLY
       if
       :: LOAD(READER, MARK, mark); LOAD(READER, FIRST(frame), a); LOAD(READER, SECOND(frame), b)
       :: LOAD(READER, FIRST(frame), a); LOAD(READER, MARK, mark); LOAD(READER, SECOND(frame), b)
       fi;
#else
       LOAD(READER, FIRST(frame), a);
       LOAD(READER, SECOND(frame), b);
#ifndef MARK_IGNORED
       LOAD(READER, MARK, mark); /* after a read fence */
#endif
#endif
       if
       :: mark >= epoch ->
          STORE_RELEASE(READER, LANE, 0);
          d_step { a = 0; b = 0; frame = 0; wanted = 0; epoch = 0; mark = 0 };
          goto again
       :: else
       fi;
       assert(a == wanted && b == wanted);
       STORE_RELEASE(READER, LANE, 0);
       d_step { i++; a = 0; b = 0; frame = 0; wanted = 0; epoch = 0; mark = 0 }
    :: else -> break
    od
}

init {
    atomic {
        memory[EPOCH] = 1; memory[MAP] = 1; memory[FIRST(1)] = 1; memory[SECOND(1)] = 1; built[1] = 1;
        run broker(); run reader()
    }
}
