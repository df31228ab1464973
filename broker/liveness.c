/* liveness.c - the robust futex word. */
#include "liveness.h"

#include <errno.h>
#include <limits.h>
#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "mshm/store.h"

/* The kernel walks this at the death of the thread that registered it; the list proper is empty. The low bit of
 * list_op_pending would mark a priority-inheritance futex: the word's alignment keeps it clear. */
static struct robust_list_head liveness_list;

int
liveness_begin(unsigned int *word)
{
    liveness_list.list.next = &liveness_list.list;
    liveness_list.futex_offset = 0;
    liveness_list.list_op_pending = (struct robust_list *)(void *)word;
    /* Replaces the list of the C library, so this thread uses no robust mutexes. */
    if (syscall(SYS_set_robust_list, &liveness_list, sizeof(liveness_list)) < 0)
        return -errno;
    AO_int_store_release(word, (unsigned int)syscall(SYS_gettid));
    return 0;
}

void
liveness_end(unsigned int *word, unsigned int value)
{
    if (AO_int_load(word) != MSHM_LIVENESS_POISONED)
        AO_int_store_release(word, value);
    mshm_full_fence(); /* pairs with the fence of a waiter between its look and its sleep */
    syscall(SYS_futex, word, FUTEX_WAKE, INT_MAX, NULL, NULL, 0);
}
