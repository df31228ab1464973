/* liveness.h - the word by which clients know that the broker lives.
 *
 *   STARTING (0) --liveness_begin--> thread id --death, by the kernel--> FUTEX_OWNER_DIED | ...
 *                                        |  ^
 *                          liveness_end  v  | liveness_begin (a stop that was cancelled)
 *                                   STOPPED or POISONED
 *
 * store.liveness is a robust futex: the pending entry of the loop thread's robust list names it, and the kernel sets
 * FUTEX_OWNER_DIED in it while that thread dies, before the descriptors of the process close, so before the directory's
 * lock can pass on. A client that sees the bit knows that this incarnation acknowledges nothing any more.
 * The list head is private memory of the broker; a client can change neither it nor the word.
 */
#ifndef LIVENESS_H
#define LIVENESS_H

/* Makes the word the calling thread's, whose death the kernel then marks, and stores its thread id (release). The thread
 * may have one such word. 0 or -errno. */
int liveness_begin(unsigned int *word);
/* Stores MSHM_LIVENESS_STOPPED or MSHM_LIVENESS_POISONED (release) and wakes all waiters of the word. Async-signal-safe,
 * and may be called twice: the first value stays if it was POISONED. */
void liveness_end(unsigned int *word, unsigned int value);

#endif
