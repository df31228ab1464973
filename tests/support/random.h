/* support/random.h - seeded chance, and how much of it a run wants.
 *
 * MACE_SEED repeats a run as far as one process goes; MACE_TEST_SCALE (a decimal number, 1 when unset) multiplies the
 * amount of work of the random tests.
 */
#ifndef SUPPORT_RANDOM_H
#define SUPPORT_RANDOM_H

#include <stddef.h>
#include <stdint.h>

struct random {
    uint64_t state;
};

/* MACE_SEED, or a new one; printed with the test's name. */
uint64_t random_seed(const char *test);
/* `amount` times MACE_TEST_SCALE, at least 1. */
uint64_t random_scaled(uint64_t amount);

void random_init(struct random *random, uint64_t seed);
uint64_t random_next(struct random *random);
/* 0 .. limit - 1; limit > 0. */
uint64_t random_below(struct random *random, uint64_t limit);
/* True in `percent` of 100 cases. */
int random_chance(struct random *random, unsigned percent);
void random_fill(struct random *random, void *to, size_t size);

#endif
