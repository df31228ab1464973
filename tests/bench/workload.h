/* workload.h - the keys, values, distributions and mixes of bench_beyond, the same for every engine. */
#ifndef BENCH_WORKLOAD_H
#define BENCH_WORKLOAD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { WORKLOAD_KEY = 16, WORKLOAD_VALUE_MAX = 4096, WORKLOAD_SCAN_MAX = 100 };

/* Distribution of the key numbers asked for. */
enum workload_choice { WORKLOAD_UNIFORM, WORKLOAD_ZIPFIAN, WORKLOAD_LATEST };

/* The zipfian generator of Gray et al., "Quickly Generating Billion-Record Synthetic Databases", as YCSB uses it:
 * constant 0.99, ranks scattered over the key space. */
struct workload_zipf {
    uint64_t count;
    double zeta, alpha, eta, half;
};
void workload_zipf_init(struct workload_zipf *zipf, uint64_t count);

/* Shares of a mix, in percent; what is left are read-modify-writes. */
struct workload_mix {
    const char *name;
    unsigned read, update, insert, scan;
    enum workload_choice choice;
};
extern const struct workload_mix workload_ycsb[6];

/* xorshift128+ */
struct workload_random {
    uint64_t a, b;
};
void workload_random_init(struct workload_random *random, uint64_t seed);
uint64_t workload_random_next(struct workload_random *random);

/* A number below `count`, the entries there are now; `zipf` was made for about so many. */
uint64_t workload_choose(const struct workload_zipf *zipf, enum workload_choice choice,
                         uint64_t count, struct workload_random *random);

/* Keys ascend with their numbers. */
void workload_key(uint64_t number, uint8_t key[WORKLOAD_KEY]);
/* Begins with the number; the rest are random bytes, which do not compress. */
void workload_value(uint64_t number, struct workload_random *random, uint8_t *value, size_t size);
/* Whether this can be the value of that key. */
bool workload_value_fits(uint64_t number, const uint8_t *value);

#endif
