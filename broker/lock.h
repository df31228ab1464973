/* lock.h - one broker for one directory.
 *
 * The lock is an exclusive flock on the open file description of the directory itself. That description is also a
 * registered file of the I/O ring (host_uring.c), so the kernel gives the lock back only when the last write in flight
 * has ended, even after SIGKILL: whoever holds the lock reads files that nobody changes any more.
 *
 * The file LOCK is for people (pid and start of the broker) and serialises starters, so that one that finds the lock
 * taken also finds the holder listening. Its content is never read by a program.
 */
#ifndef LOCK_H
#define LOCK_H

#include <stdbool.h>
#include <stddef.h>

struct lock {
    int file; /* LOCK, flocked while starting; -1 */
    bool created;
};

/* Takes the lock of the directory open at `directory_fd`. While it is busy and nobody accepts on the directory's socket,
 * waits: the holder is starting, or is dead and its last I/O is not. MSHM_OK (ours: call lock_settled once the socket
 * listens); MSHM_EXISTS (another broker serves: nothing is held); MSHM_BROKER_LOST (`cancel_fd` became readable);
 * MSHM_DENIED, MSHM_FULL, MSHM_LIMIT, MSHM_IO with *why. Blocks. */
int lock_take(struct lock *lock, int directory_fd, int cancel_fd, char *why, size_t why_size);
/* Lets other starters look at the lock and the socket. */
void lock_settled(struct lock *lock);
/* Removes LOCK again when this call of lock_take made it: for a start that failed. While the directory's lock is held. */
void lock_forget(struct lock *lock, int directory_fd);

/* True when somebody accepts on the directory's socket. */
bool lock_served(int directory_fd);

#endif
