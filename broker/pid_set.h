/* pid_set.h - a set of page numbers that is gone through in ascending order: a bitmap, and a bitmap of its words that
 * are not zero, so that a sparse set costs little to go through and a dense one needs no sorting.
 *
 * Memory is 1 bit per pid and 1 per 64 pids, and only where pids were ever added (both maps are zeroed lazily).
 */
#ifndef PID_SET_H
#define PID_SET_H

#include "mshm/base.h"

#include <stdbool.h>

struct pid_set {
    uint64_t *bits;  /* bit pid % 64 of word pid / 64 */
    uint64_t *words; /* bit w % 64 of word w / 64: bits[w] is not zero */
    uint64_t word_count;
    uint32_t count; /* pids in the set */
};

/* For pids below `capacity`. MSHM_OK, MSHM_NO_MEMORY. */
int pid_set_init(struct pid_set *set, uint64_t capacity);
void pid_set_fini(struct pid_set *set);

static inline bool
pid_set_has(const struct pid_set *set, mshm_pid pid)
{
    return (set->bits[pid / 64] >> pid % 64 & 1) != 0;
}

static inline void
pid_set_add(struct pid_set *set, mshm_pid pid)
{
    uint64_t *word = &set->bits[pid / 64], bit = UINT64_C(1) << pid % 64;
    if ((*word & bit) != 0)
        return;
    *word |= bit;
    set->words[pid / 4096] |= UINT64_C(1) << pid / 64 % 64;
    set->count++;
}

static inline void
pid_set_remove(struct pid_set *set, mshm_pid pid)
{
    uint64_t *word = &set->bits[pid / 64], bit = UINT64_C(1) << pid % 64;
    if ((*word & bit) == 0)
        return;
    *word &= ~bit;
    if (*word == 0)
        set->words[pid / 4096] &= ~(UINT64_C(1) << pid / 64 % 64);
    set->count--;
}

/* Takes all pids out, in ascending order: calls each(pid). */
void pid_set_drain(struct pid_set *set, void (*each)(void *argument, mshm_pid pid), void *argument);

#endif
