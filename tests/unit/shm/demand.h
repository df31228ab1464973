/* demand.h - what the tests with threads need to be worth something under ThreadSanitizer.
 *
 * WITH_TSAN is 1 when it is there: the tests are slower then, and leave out what that tool rightly calls a race and the
 * protocol throws away afterwards (reads of frames that revocation let recycle).
 *
 * DEMAND is an assertion that does nothing while it holds. Check's own write to a pipe each time, which orders all threads
 * with one another in ThreadSanitizer's eyes and hides every race.
 */
#ifndef DEMAND_H
#define DEMAND_H

#include <check.h>

#if defined(__SANITIZE_THREAD__)
#define WITH_TSAN 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define WITH_TSAN 1
#endif
#endif
#ifndef WITH_TSAN
#define WITH_TSAN 0
#endif

#define DEMAND(condition)                                 \
    do {                                                  \
        if (!(condition))                                 \
            ck_abort_msg("%s does not hold", #condition); \
    } while (0)

#endif
