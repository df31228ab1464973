/* shm/counters.c - latency histograms: four buckets to each power of two, so that a figure is known to a quarter. */
#include "mshm/counters.h"

/* 0..3 stand alone; from 4 on the highest bit chooses the power of two and the next two bits the quarter. The last
 * bucket takes everything above (2^41 ns are 36 minutes). */
static unsigned
bucket_of(uint64_t value)
{
    if (value < 4)
        return (unsigned)value;
    unsigned exponent = 63u - (unsigned)__builtin_clzll(value);
    unsigned bucket = (exponent - 1) * 4 + (unsigned)(value >> (exponent - 2) & 3);
    return bucket < MSHM_HISTOGRAM_BUCKETS ? bucket : MSHM_HISTOGRAM_BUCKETS - 1;
}

/* The greatest value that falls into a bucket. */
static uint64_t
bucket_upper(unsigned bucket)
{
    if (bucket < 4)
        return bucket;
    return ((uint64_t)(bucket % 4 + 5) << (bucket / 4 - 1)) - 1;
}

uint64_t
mshm_histogram_bound(unsigned bucket)
{
    return bucket + 1 < MSHM_HISTOGRAM_BUCKETS ? bucket_upper(bucket) : UINT64_MAX;
}

void
mshm_histogram_add(struct mshm_histogram *histogram, uint64_t value)
{
    mshm_counter_add(&histogram->buckets[bucket_of(value)], 1);
    mshm_counter_add(&histogram->sum, value);
    if (value > AO_load(&histogram->max))
        AO_store(&histogram->max, value);
    mshm_counter_add(&histogram->count, 1);
}

uint64_t
mshm_histogram_quantile(const struct mshm_histogram *histogram, double fraction)
{
    /* The buckets are copied once: they go on moving, and the total must belong to what is walked. */
    uint64_t counts[MSHM_HISTOGRAM_BUCKETS], total = 0;
    for (unsigned i = 0; i < MSHM_HISTOGRAM_BUCKETS; i++) {
        counts[i] = AO_load(&histogram->buckets[i]);
        total += counts[i];
    }
    if (total == 0)
        return 0;
    uint64_t max = AO_load(&histogram->max);
    double wanted = fraction * (double)total;
    uint64_t seen = 0;
    for (unsigned i = 0; i + 1 < MSHM_HISTOGRAM_BUCKETS; i++) {
        seen += counts[i];
        if (seen > 0 && (double)seen >= wanted)
            return bucket_upper(i) < max ? bucket_upper(i) : max;
    }
    return max;
}
