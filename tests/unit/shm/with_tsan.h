/* with_tsan.h - WITH_TSAN is 1 when the test is built with ThreadSanitizer: it is slower then, and leaves out what that
 * tool rightly calls a race and the protocol throws away afterwards (reads of frames that revocation let recycle).
 */
#ifndef WITH_TSAN_H
#define WITH_TSAN_H

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

#endif
