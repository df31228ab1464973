/* split.pml - splits and merges of leaves, inner pages and roots under readers.
 *
 * Keys 1 to 8 exist throughout; a leaf holds all keys of its fences. The broker takes the tree through five structure
 * changes, each a few stores into the page map: a root that is a leaf splits, a leaf splits, a root that is an inner page
 * splits, a leaf splits below it, an inner page splits. The reader gets any key, or scans forward or backward with one
 * descent per leaf, starting from the right link of the last leaf. It may run to its end between any two stores, as if
 * the broker had died there, and must not need more than HOPS pages per descent. What is built: tree_split.c's order
 * (right page, left page, parent; a root's content into two new pids before the root), walk_to_leaf of read.c (fences
 * are compared on an inner page only at its first and last child, in a leaf only when the key is missing).
 *
 *   MERGE                      the same five changes backward: tree_merge.c's order (left page, parent, then the right
 *                              page's word says that it is gone; a root takes the content of both before they go). A
 *                              descent begins again at the root where it meets a page that is gone, at most once for each
 *                              change, so it may need more pages
 *   RIGHT_GONE_FIRST           the right page goes before the others are replaced
 *   LEFT_LAST                  the left page is replaced when the right one is gone
 *   CHILDREN_GONE_FIRST        the two pages under a root go before the root has their content
 *   LEFT_FIRST, PARENT_FIRST   another order of a split
 *   ROOT_FIRST                 the root is replaced before its content has moved
 *   PLAIN                      page-map words are stored without release
 *   NO_INNER_FENCES            the reader compares no fences on inner pages
 *   NO_MISS_FENCES             the reader takes a key that is not in the leaf for absent
 */
#ifndef HOPS
#ifdef MERGE
#define HOPS 16
#else
#define HOPS 4
#endif
#endif
#define CPUS 2
#define WORDS 8 /* the page map; 0 is the root */
#define DEPTH 3
#include "buffers.inc"
#define BROKER 0
#define READER 1
#define END 9
#define ROOT 0

/* Frames are immutable. Child i holds the keys below bound[i]. */
typedef frame_t { byte level; byte low; byte high; byte right; byte count; byte child[3]; byte bound[3] };
frame_t page[17];

inline leaf(f, l, h, r) {
    page[f].low = l; page[f].high = h; page[f].right = r
}
inline inner(f, v, l, h, r, n, c0, b0, c1, b1, c2) {
    page[f].level = v; page[f].low = l; page[f].high = h; page[f].right = r; page[f].count = n;
    page[f].child[0] = c0; page[f].bound[0] = b0; page[f].child[1] = c1; page[f].bound[1] = b1; page[f].child[2] = c2;
    page[f].bound[n - 1] = h
}
#ifdef PLAIN
#define PUBLISH(at, f) STORE(BROKER, at, f)
#else
#define PUBLISH(at, f) STORE_RELEASE(BROKER, at, f)
#endif

inline split(right, right_frame, left, left_frame, parent, parent_frame) {
#if defined(LEFT_FIRST)
    PUBLISH(left, left_frame); PUBLISH(right, right_frame); PUBLISH(parent, parent_frame)
#elif defined(PARENT_FIRST)
    PUBLISH(parent, parent_frame); PUBLISH(right, right_frame); PUBLISH(left, left_frame)
#else
    PUBLISH(right, right_frame); PUBLISH(left, left_frame); PUBLISH(parent, parent_frame)
#endif
}
inline root_split(right, right_frame, left, left_frame, root_frame) {
#ifdef ROOT_FIRST
    PUBLISH(ROOT, root_frame); PUBLISH(right, right_frame); PUBLISH(left, left_frame)
#else
    PUBLISH(right, right_frame); PUBLISH(left, left_frame); PUBLISH(ROOT, root_frame)
#endif
}

inline merge(right, left, left_frame, parent, parent_frame) {
#if defined(RIGHT_GONE_FIRST)
    PUBLISH(right, 0); PUBLISH(left, left_frame); PUBLISH(parent, parent_frame)
#elif defined(LEFT_LAST)
    PUBLISH(parent, parent_frame); PUBLISH(right, 0); PUBLISH(left, left_frame)
#else
    PUBLISH(left, left_frame); PUBLISH(parent, parent_frame); PUBLISH(right, 0)
#endif
}
inline root_collapse(right, left, root_frame) {
#ifdef CHILDREN_GONE_FIRST
    PUBLISH(right, 0); PUBLISH(left, 0); PUBLISH(ROOT, root_frame)
#else
    PUBLISH(ROOT, root_frame); PUBLISH(right, 0); PUBLISH(left, 0)
#endif
}

proctype broker() {
#ifdef MERGE
    merge(7, 5, 13, ROOT, 10);
    merge(6, 3, 6, 5, 9);
    root_collapse(5, 4, 7);
    merge(3, 2, 3, ROOT, 4);
    root_collapse(2, 1, 1)
#else
    root_split(2, 3, 1, 2, 4);
    split(3, 6, 2, 5, ROOT, 7);
    root_split(5, 9, 4, 8, 10);
    split(6, 12, 3, 11, 5, 13);
    split(7, 15, 5, 14, ROOT, 16)
#endif
}

/* Where the key (below: the keys just below it) stands against the fences of frame f. */
#define BEFORE(f, key, below) (below -> key <= page[f].low : key < page[f].low)
#define BEHIND(f, key, below) (page[f].high != END && (below -> key > page[f].high : key >= page[f].high))

/* Leaves the frame of the key's leaf in f. */
inline descend(key, below, start) {
    at = start; hops = 0; level = (start == ROOT -> 255 : 0);
    do
    :: LOAD(READER, at, f);
       atomic {
           hops++;
           assert(hops <= HOPS);
           if
           :: f == 0 || (level != 255 && page[f].level != level) -> assert(at != ROOT); at = ROOT; level = 255
           :: f != 0 && (level == 255 || page[f].level == level) && page[f].level == 0 ->
              if
#ifdef NO_MISS_FENCES
              :: true -> break
#else
              :: BEFORE(f, key, below) -> assert(at != ROOT); at = ROOT; level = 255
              :: !BEFORE(f, key, below) && BEHIND(f, key, below) -> at = page[f].right; level = 0
              :: !BEFORE(f, key, below) && !BEHIND(f, key, below) -> break
#endif
              fi
           :: f != 0 && (level == 255 || page[f].level == level) && page[f].level != 0 ->
              i = 0;
              do
              :: i + 1 < page[f].count && (below -> key > page[f].bound[i] : key >= page[f].bound[i]) -> i++
              :: else -> break
              od;
              if
#ifndef NO_INNER_FENCES
              :: i + 1 == page[f].count && BEHIND(f, key, below) -> at = page[f].right; level = page[f].level
              :: i == 0 && BEFORE(f, key, below) -> assert(at != ROOT); at = ROOT; level = 255
#endif
              :: else -> at = page[f].child[i]; level = page[f].level - 1
              fi;
              i = 0
           fi
       }
    od;
    hops = 0; level = 0; at = 0
}

proctype reader() {
    byte at, f, hops, level, i, key, next, hint;
    if
    :: /* get */
       if :: key = 1 :: key = 3 :: key = 4 :: key = 5 :: key = 6 :: key = 7 :: key = 8 fi;
       descend(key, 0, ROOT);
       assert(page[f].low <= key && key < page[f].high)
    :: /* forward: next is the first key that has not been seen */
       next = 1;
       do
       :: next < END ->
          descend(next, 0, hint);
          d_step { assert(page[f].low <= next && next < page[f].high);
                   next = page[f].high; hint = page[f].right; f = 0 }
       :: else -> break
       od
    :: /* backward: everything from next on has been seen */
       next = END;
       do
       :: next > 1 ->
          descend(next, 1, ROOT);
          d_step { assert(page[f].low < next && next <= page[f].high); next = page[f].low; f = 0 }
       :: else -> break
       od
    fi
}

init {
    atomic {
        leaf(1, 0, END, 0);                                      /* the root at the beginning */
        leaf(2, 0, 4, 2); leaf(3, 4, END, 0);                    /* pids 1, 2 */
        inner(4, 1, 0, END, 0, 2, 1, 4, 2, END, 0);              /* root */
        leaf(5, 4, 6, 3); leaf(6, 6, END, 0);                    /* pids 2, 3 */
        inner(7, 1, 0, END, 0, 3, 1, 4, 2, 6, 3);                /* root */
        inner(8, 1, 0, 4, 5, 1, 1, 4, 0, 0, 0);                  /* pid 4 */
        inner(9, 1, 4, END, 0, 2, 2, 6, 3, END, 0);              /* pid 5 */
        inner(10, 2, 0, END, 0, 2, 4, 4, 5, END, 0);             /* root */
        leaf(11, 6, 8, 6); leaf(12, 8, END, 0);                  /* pids 3, 6 */
        inner(13, 1, 4, END, 0, 3, 2, 6, 3, 8, 6);               /* pid 5 */
        inner(14, 1, 4, 6, 7, 1, 2, 6, 0, 0, 0);                 /* pid 5 */
        inner(15, 1, 6, END, 0, 2, 3, 8, 6, END, 0);             /* pid 7 */
        inner(16, 2, 0, END, 0, 3, 4, 4, 5, 6, 7);               /* root */
#ifdef MERGE
        memory[ROOT] = 16; memory[1] = 2; memory[2] = 5; memory[3] = 11; memory[4] = 8; memory[5] = 14; memory[6] = 12;
        memory[7] = 15;
#else
        memory[ROOT] = 1;
#endif
        run broker(); run reader()
    }
}
