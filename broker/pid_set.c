/* pid_set.c - see pid_set.h. */
#include "pid_set.h"

#include "mshm/status.h"

#include <stdlib.h>

int
pid_set_init(struct pid_set *set, uint64_t capacity)
{
    set->word_count = (capacity + 63) / 64;
    set->count = 0;
    set->bits = calloc(set->word_count, sizeof(*set->bits));
    set->words = calloc((set->word_count + 63) / 64, sizeof(*set->words));
    if (set->bits != NULL && set->words != NULL)
        return MSHM_OK;
    pid_set_fini(set);
    return MSHM_NO_MEMORY;
}

void
pid_set_fini(struct pid_set *set)
{
    free(set->bits);
    free(set->words);
    *set = (struct pid_set){0};
}

/* Takes the lowest bit out of a word that is not zero. */
static unsigned
lowest_take(uint64_t *word)
{
    unsigned lowest = (unsigned)__builtin_ctzll(*word);
    *word &= *word - 1;
    return lowest;
}

void
pid_set_drain(struct pid_set *set, void (*each)(void *argument, mshm_pid pid), void *argument)
{
    for (uint64_t top = 0; top < (set->word_count + 63) / 64; top++) {
        uint64_t words = set->words[top];
        set->words[top] = 0;
        while (words != 0) {
            uint64_t at = top * 64 + lowest_take(&words);
            uint64_t bits = set->bits[at];
            set->bits[at] = 0;
            while (bits != 0)
                each(argument, (mshm_pid)(at * 64 + lowest_take(&bits)));
        }
    }
    set->count = 0;
}
