/* stat.c - the broker's figures, read from the store. */
#include <stddef.h>
#include <string.h>

#include "mlib.h"
#include "mshm/counters.h"

void
mace_stat_init(mace_stat *stat)
{
    if (stat == NULL)
        return;
    memset(stat, 0, sizeof *stat);
    stat->size = sizeof *stat;
}

static void
figures_copy(const struct mshm_figures *figures, mace_stat *stat)
{
#define X(name, unit, kind, text) stat->name = AO_load(&figures->counters.name);
    MSHM_COUNTERS(X)
#undef X
#define QUANTILES(to, histogram)                                            \
    stat->to##_p50_ns = mshm_histogram_quantile(&figures->histogram, 0.50); \
    stat->to##_p99_ns = mshm_histogram_quantile(&figures->histogram, 0.99); \
    stat->to##_max_ns = AO_load(&figures->histogram.max)
    QUANTILES(commit, commit_latency);
    QUANTILES(commit_sync, commit_sync_latency);
    QUANTILES(log_sync, log_sync_latency);
    QUANTILES(checkpoint_pause, checkpoint_pause);
#undef QUANTILES
}

/* The figures of the current broker, and the attachment that they are to be read under. */
static int
figures_get(mace *db, struct mlib_attachment **attachment, const struct mshm_figures **figures)
{
    int status = mlib_attachment_get(db, attachment);
    if (status != MACE_OK)
        return status;
    const struct mshm_view *view = &(*attachment)->view;
    uint64_t at = view->store->counters_offset;
    if (at > view->size || view->size - at < sizeof(struct mshm_figures)) {
        mlib_attachment_put(*attachment);
        return MACE_CORRUPT;
    }
    *figures = (const struct mshm_figures *)(view->base + at);
    return MACE_OK;
}

int
mace_stat_read(mace *db, mace_stat *stat)
{
    if (db == NULL || stat == NULL)
        return MACE_INVALID;
    if (stat->size != sizeof *stat)
        return MACE_VERSION;
    struct mlib_attachment *attachment;
    const struct mshm_figures *figures;
    int status = figures_get(db, &attachment, &figures);
    if (status != MACE_OK)
        return status;
    figures_copy(figures, stat);
    stat->broker_pid = attachment->view.store->broker_pid;
    stat->incarnation = attachment->view.incarnation;
    mlib_attachment_put(attachment);
    return MACE_OK;
}

struct histogram {
    const char *name, *unit, *text;
    size_t offset; /* in struct mshm_figures */
};
static const struct histogram histograms[] = {
#define X(name, unit, text) {#name, #unit, text, offsetof(struct mshm_figures, name)},
    MSHM_HISTOGRAMS(X)
#undef X
};

static int
histogram_tell(const struct histogram *which, const struct mshm_figures *figures,
               int (*each)(const mace_histogram *histogram, void *arg), void *arg)
{
    const struct mshm_histogram *from =
        (const struct mshm_histogram *)((const char *)figures + which->offset);
    uint64_t bounds[MSHM_HISTOGRAM_BUCKETS], counts[MSHM_HISTOGRAM_BUCKETS];
    mace_histogram told = {
        .size = sizeof told,
        .name = which->name,
        .unit = which->unit,
        .text = which->text,
        .buckets = MSHM_HISTOGRAM_BUCKETS,
        .bounds = bounds,
        .counts = counts,
    };
    for (unsigned i = 0; i < MSHM_HISTOGRAM_BUCKETS; i++) {
        bounds[i] = mshm_histogram_bound(i);
        counts[i] = AO_load(&from->buckets[i]);
        told.count += counts[i];
    }
    told.sum = AO_load(&from->sum);
    told.max = AO_load(&from->max);
    return each(&told, arg);
}

int
mace_histogram_list(mace *db, int (*each)(const mace_histogram *histogram, void *arg), void *arg)
{
    if (db == NULL || each == NULL)
        return MACE_INVALID;
    struct mlib_attachment *attachment;
    const struct mshm_figures *figures;
    int status = figures_get(db, &attachment, &figures);
    if (status != MACE_OK)
        return status;
    for (size_t i = 0; i < sizeof histograms / sizeof histograms[0] && status == 0; i++)
        status = histogram_tell(&histograms[i], figures, each, arg);
    mlib_attachment_put(attachment);
    return status;
}
