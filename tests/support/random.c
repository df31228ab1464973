/* random.c - seeded chance. */
#include "support/random.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "support/require.h"

uint64_t
random_seed(const char *test)
{
    const char *given = getenv("MACE_SEED");
    uint64_t seed = 0;

    if (given != NULL && given[0] != '\0')
        seed = strtoull(given, NULL, 0);
    else
        require(getrandom(&seed, sizeof seed, 0) == (ssize_t)sizeof seed, "no random bytes");
    printf("%s: MACE_SEED=%llu\n", test, (unsigned long long)seed);
    fflush(stdout);
    return seed;
}

uint64_t
random_scaled(uint64_t amount)
{
    const char *scale = getenv("MACE_TEST_SCALE");
    double factor = scale != NULL && scale[0] != '\0' ? strtod(scale, NULL) : 1.0;
    double scaled = (double)amount * (factor > 0 ? factor : 1.0);

    return scaled < 1 ? 1 : (uint64_t)scaled;
}

void
random_init(struct random *random, uint64_t seed)
{
    random->state = seed;
}

/* SplitMix64: every seed, also 0 and neighbours, gives an independent-looking sequence. */
uint64_t
random_next(struct random *random)
{
    uint64_t z = random->state += UINT64_C(0x9e3779b97f4a7c15);

    z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
    return z ^ z >> 31;
}

uint64_t
random_below(struct random *random, uint64_t limit)
{
    return random_next(random) % limit;
}

int
random_chance(struct random *random, unsigned percent)
{
    return random_below(random, 100) < percent;
}

void
random_fill(struct random *random, void *to, size_t size)
{
    uint8_t *bytes = to;

    while (size > 0) {
        uint64_t word = random_next(random);
        size_t part = size < sizeof word ? size : sizeof word;
        memcpy(bytes, &word, part);
        bytes += part;
        size -= part;
    }
}
