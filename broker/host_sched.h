/* host_sched.h - how the threads that others wait for are scheduled. */
#ifndef HOST_SCHED_H
#define HOST_SCHED_H

/* The calling thread wants the processor soon and for short: where the kernel knows requests for a slice (Linux 6.12 and
 * later), one that is woken or comes back from a yield is chosen before threads that ask for none. Its share of the
 * processor stays the same, and no right is needed. Elsewhere nothing happens. */
void host_sched_short(void);

#endif
