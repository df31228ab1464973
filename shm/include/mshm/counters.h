/* mshm/counters.h - the broker's figures, declared once: this table makes the struct, mace_stat, mace-stat's help and
 * its JSON. X(name, unit, kind, text); kind is COUNTER (only grows) or GAUGE. The broker's loop writes them (AO_store),
 * anybody reads (AO_load); they are for people, no protocol depends on them.
 */
#ifndef MSHM_COUNTERS_H
#define MSHM_COUNTERS_H

#include "mshm/base.h"

#define MSHM_COUNTERS(X)                                                                        \
    X(commits, count, COUNTER, "commits acknowledged")                                          \
    X(commits_sync, count, COUNTER, "of them at level SYNC")                                    \
    X(conflicts, count, COUNTER, "commits refused because of a conflict")                       \
    X(refused, count, COUNTER,                                                                  \
      "requests refused for any other reason (precondition, FULL, TOO_BIG...)")                 \
    X(operations, count, COUNTER, "puts and deletes applied")                                   \
    X(batches, count, COUNTER, "groups of commits that were published together")                \
    X(log_bytes, bytes, COUNTER, "bytes appended to the log")                                   \
    X(log_writes, count, COUNTER, "write calls for the log")                                    \
    X(log_syncs, count, COUNTER, "syncs of the log")                                            \
    X(log_segments, count, GAUGE, "log segments on disk")                                       \
    X(log_recycled, count, COUNTER, "log segments made from older ones")                        \
    X(log_removed, count, COUNTER, "log segments removed, covered by a checkpoint")             \
    X(replayed, count, COUNTER, "commits replayed at start")                                    \
    X(visible, timestamp, GAUGE, "newest visible commit timestamp")                             \
    X(checkpoints, count, COUNTER, "checkpoints that count")                                    \
    X(checkpoint_cut, timestamp, GAUGE, "newest commit in the last checkpoint")                 \
    X(data_bytes, bytes, COUNTER, "bytes appended to data files")                               \
    X(data_live, bytes, GAUGE, "bytes of data files that are in use")                           \
    X(data_total, bytes, GAUGE, "bytes of data files")                                          \
    X(pages_corrupt, count, COUNTER, "pages found damaged on disk")                             \
    X(pages_stray, count, GAUGE, "unreadable pages whose writes wait")                          \
    X(dirty_bytes, bytes, GAUGE, "bytes of frames that are not on disk yet")                    \
    X(sealed_bytes, bytes, GAUGE, "bytes of frames that the checkpoint under way holds")        \
    X(pages_resident, count, GAUGE, "pages in memory")                                          \
    X(evictions, count, COUNTER, "pages that left memory")                                      \
    X(page_reads, count, COUNTER, "pages read in")                                              \
    X(blind_writes, count, COUNTER, "writes to leaves that were not in memory")                 \
    X(cache_size, bytes, GAUGE, "bytes of frames configured")                                   \
    X(cache_backed, bytes, GAUGE, "bytes of frames backed by memory")                           \
    X(cache_used, bytes, GAUGE, "bytes of frames in use, retired ones included")                \
    X(cache_retired, bytes, GAUGE, "bytes of frames waiting for readers to leave")              \
    X(history_bytes, bytes, GAUGE, "bytes of frames that hold history")                         \
    X(pages_leaf, count, GAUGE, "leaf pages")                                                   \
    X(pages_inner, count, GAUGE, "inner pages")                                                 \
    X(pages_history, count, GAUGE, "history pages in memory")                                   \
    X(pages_scratch, count, GAUGE, "history pages in the scratch file")                         \
    X(scratch_bytes, bytes, GAUGE, "bytes of the scratch file that are in use")                 \
    X(scratch_file, bytes, GAUGE, "bytes of the scratch file")                                  \
    X(scratch_written, bytes, COUNTER, "bytes written to the scratch file")                     \
    X(scratch_reads, count, COUNTER, "history pages read in")                                   \
    X(tree_height, count, GAUGE, "levels of the highest tree")                                  \
    X(appends, count, COUNTER, "versions appended to leaves")                                   \
    X(consolidations, count, COUNTER, "leaves rebuilt")                                         \
    X(splits, count, COUNTER, "pages split")                                                    \
    X(merges, count, COUNTER, "pages merged with their neighbours")                             \
    X(versions_pruned, count, COUNTER, "versions dropped because no snapshot needs them")       \
    X(snapshots_expired, count, COUNTER, "snapshots expired")                                   \
    X(revocations, count, COUNTER, "read brackets overruled because they stayed open too long") \
    X(sessions, count, GAUGE, "sessions attached")                                              \
    X(sessions_total, count, COUNTER, "sessions ever attached")                                 \
    X(sessions_ended_dead, count, COUNTER, "sessions whose process died without closing")       \
    X(sessions_ended_invalid, count, COUNTER, "sessions ended because of a malformed request")  \
    X(snapshots, count, GAUGE, "snapshots registered at the last collection")                   \
    X(buckets, count, GAUGE, "buckets")                                                         \
    X(doorbells, count, COUNTER, "times the broker was woken by a client")                      \
    X(wakes, count, COUNTER, "waiting threads woken")                                           \
    X(loops, count, COUNTER, "turns of the broker's loop")                                      \
    X(disk_stalls, count, COUNTER, "requests that the disk did not answer for a second")        \
    X(disk_unanswered, count, GAUGE, "of them those that are still waited for")                 \
    X(io_uring, flag, GAUGE, "1: io_uring, 0: POSIX calls")                                     \
    X(direct_io, flag, GAUGE, "1: data files are read and written past the page cache")         \
    X(huge_pages, flag, GAUGE, "1: the store is on huge pages")

struct mshm_counters {
#define X(name, unit, kind, text) AO_t name;
    MSHM_COUNTERS(X)
#undef X
};

/* Latency histograms: buckets on a logarithmic scale, four to each power of two of nanoseconds. */
enum { MSHM_HISTOGRAM_BUCKETS = 160 };
struct mshm_histogram {
    AO_t count, sum, max;
    AO_t buckets[MSHM_HISTOGRAM_BUCKETS];
};
#define MSHM_HISTOGRAMS(X)                                                                         \
    X(commit_latency, nanoseconds, "copy-in to answer, commits at level OS")                       \
    X(checkpoint_pause, nanoseconds, "one uninterrupted piece of a checkpoint's work in the loop") \
    X(commit_sync_latency, nanoseconds, "copy-in to answer, commits at level SYNC")                \
    X(log_sync_latency, nanoseconds, "one write and sync of the log")                              \
    X(batch_commits, count, "commits per batch")                                                   \
    X(sync_commits, count, "SYNC commits per sync")

/* What stands at store.counters_offset. [layout 1] */
struct mshm_figures {
    struct mshm_counters counters;
    _Alignas(64) AO_t histogram_version; /* MSHM_LAYOUT_VERSION */
#define X(name, unit, text) struct mshm_histogram name;
    MSHM_HISTOGRAMS(X)
#undef X
};

void mshm_histogram_add(struct mshm_histogram *histogram,
                        uint64_t value); /* the broker's loop only */
/* The greatest value that falls into a bucket; the last one has no bound: UINT64_MAX. */
uint64_t mshm_histogram_bound(unsigned bucket);
/* The value below which `fraction` (0..1) of the entries lie (upper bound of its bucket); 0 when empty. Any reader. */
uint64_t mshm_histogram_quantile(const struct mshm_histogram *histogram, double fraction);

static inline void
mshm_counter_add(AO_t *counter, uint64_t amount)
{
    AO_store(counter, AO_load(counter) + amount); /* one writer: no read-modify-write needed */
}

#endif
