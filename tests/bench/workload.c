/* workload.c - see workload.h. */
#include "workload.h"

#include <math.h>
#include <string.h>

static const double THETA = 0.99;

const struct workload_mix workload_ycsb[6] = {
    {"YCSB A  50 read 50 update", 50, 50, 0, 0, WORKLOAD_ZIPFIAN},
    {"YCSB B  95 read 5 update", 95, 5, 0, 0, WORKLOAD_ZIPFIAN},
    {"YCSB C  100 read", 100, 0, 0, 0, WORKLOAD_ZIPFIAN},
    {"YCSB D  95 read latest 5 insert", 95, 0, 5, 0, WORKLOAD_LATEST},
    {"YCSB E  95 scan 5 insert", 0, 0, 5, 95, WORKLOAD_ZIPFIAN},
    {"YCSB F  50 read 50 read-modify", 50, 0, 0, 0, WORKLOAD_ZIPFIAN},
};

static uint64_t
mix(uint64_t x)
{
    x += UINT64_C(0x9e3779b97f4a7c15);
    x = (x ^ (x >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    x = (x ^ (x >> 27)) * UINT64_C(0x94d049bb133111eb);
    return x ^ (x >> 31);
}

void
workload_random_init(struct workload_random *random, uint64_t seed)
{
    random->a = mix(seed);
    random->b = mix(seed + UINT64_C(0x5851f42d4c957f2d));
}

uint64_t
workload_random_next(struct workload_random *random)
{
    uint64_t x = random->a, y = random->b;
    random->a = y;
    x ^= x << 23;
    random->b = x ^ y ^ (x >> 17) ^ (y >> 26);
    return random->b + y;
}

/* The sum's tail is its integral: exact enough, and no wait for large counts. */
static double
zeta(uint64_t count)
{
    enum { EXACT = 1000000 };
    double sum = 0;
    for (uint64_t i = 1; i <= count && i <= EXACT; i++)
        sum += pow((double)i, -THETA);
    if (count > EXACT)
        sum += (pow((double)count + 0.5, 1 - THETA) - pow(EXACT + 0.5, 1 - THETA)) / (1 - THETA);
    return sum;
}

void
workload_zipf_init(struct workload_zipf *zipf, uint64_t count)
{
    double two = 1 + pow(0.5, THETA);
    zipf->count = count;
    zipf->zeta = zeta(count);
    zipf->alpha = 1 / (1 - THETA);
    zipf->eta = (1 - pow(2.0 / (double)count, 1 - THETA)) / (1 - two / zipf->zeta);
    zipf->half = pow(0.5, THETA);
}

static uint64_t
zipf_rank(const struct workload_zipf *zipf, struct workload_random *random)
{
    double u = (double)(workload_random_next(random) >> 11) / 9007199254740992.0;
    double scaled = u * zipf->zeta;
    if (scaled < 1)
        return 0;
    if (scaled < 1 + zipf->half)
        return 1;
    return (uint64_t)((double)zipf->count * pow(zipf->eta * u - zipf->eta + 1, zipf->alpha));
}

uint64_t
workload_choose(const struct workload_zipf *zipf, enum workload_choice choice, uint64_t count,
                struct workload_random *random)
{
    if (choice == WORKLOAD_UNIFORM)
        return workload_random_next(random) % count;
    uint64_t rank = zipf_rank(zipf, random);
    if (choice == WORKLOAD_LATEST)
        return count - 1 - rank % count;
    return mix(rank) % count;
}

void
workload_key(uint64_t number, uint8_t key[WORKLOAD_KEY])
{
    uint64_t high = __builtin_bswap64(number), low = mix(number);
    memcpy(key, &high, 8);
    memcpy(key + 8, &low, 8);
}

void
workload_value(uint64_t number, struct workload_random *random, uint8_t *value, size_t size)
{
    uint64_t word = mix(number);
    memcpy(value, &word, size < 8 ? size : 8);
    for (size_t at = 8; at < size; at += 8) {
        word = workload_random_next(random);
        memcpy(value + at, &word, size - at < 8 ? size - at : 8);
    }
}

bool
workload_value_fits(uint64_t number, const uint8_t *value)
{
    uint64_t word = mix(number);
    return memcmp(value, &word, 8) == 0;
}
