/* stat.c - the broker's figures, read from the store. */
#include <string.h>

#include "mlib.h"
#include "mshm/counters.h"

void
mace_stat_init(mace_stat *stat)
{
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

int
mace_stat_read(mace *db, mace_stat *stat)
{
    if (db == NULL || stat == NULL)
        return MACE_INVALID;
    if (stat->size != sizeof *stat)
        return MACE_VERSION;
    struct mlib_attachment *attachment;
    int status = mlib_attachment_get(db, &attachment);
    if (status != MACE_OK)
        return status;
    const struct mshm_view *view = &attachment->view;
    uint64_t at = view->store->counters_offset;
    if (at > view->size || view->size - at < sizeof(struct mshm_figures)) {
        mlib_attachment_put(attachment);
        return MACE_CORRUPT;
    }
    figures_copy((const struct mshm_figures *)(view->base + at), stat);
    stat->broker_pid = view->store->broker_pid;
    stat->incarnation = view->incarnation;
    mlib_attachment_put(attachment);
    return MACE_OK;
}
