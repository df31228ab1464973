/* mace_stat.c - what goes on in a database: once, or every INTERVAL seconds like vmstat. */
#include <argp.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "mace/mace.h"
#include "mshm/counters.h"

enum output { OUTPUT_TEXT, OUTPUT_JSON, OUTPUT_PROMETHEUS };

struct request {
    const char *path;
    double interval; /* seconds, 0: once */
    unsigned long count;
    enum output output;
    bool sessions, buckets, histograms, watch;
};

/* One figure by name: the table of mshm/counters.h gives name, unit, kind and text, mace_stat the value. */
struct figure {
    const char *name, *unit, *kind, *text;
    size_t offset;
};
static const struct figure figures[] = {
#define X(name, unit, kind, text) {#name, #unit, #kind, text, offsetof(mace_stat, name)},
    MSHM_COUNTERS(X)
#undef X
};
enum { FIGURES = sizeof figures / sizeof figures[0] };

struct latency {
    const char *name, *text;
    size_t p50, p99, max;
};
static const struct latency latencies[] = {
#define LATENCY(name, text)                                                                  \
    {                                                                                        \
#name, text, offsetof(mace_stat, name##_p50_ns), offsetof(mace_stat, name##_p99_ns), \
            offsetof(mace_stat, name##_max_ns)                                               \
    }
    LATENCY(commit, "commit, level OS"),
    LATENCY(commit_sync, "commit, level SYNC"),
    LATENCY(log_sync, "write and sync of the log"),
    LATENCY(checkpoint_pause, "a checkpoint's turn"),
};
enum { LATENCIES = sizeof latencies / sizeof latencies[0] };

static uint64_t
figure_at(const mace_stat *stat, size_t offset)
{
    uint64_t value;
    memcpy(&value, (const char *)stat + offset, sizeof value);
    return value;
}

/* What the sessions add up to, and the list of them. */
struct sessions {
    uint64_t gets, scans;
    json_t *list; /* NULL: not wanted */
    bool print;
};

static int
session_take(const mace_session_info *info, void *argument)
{
    struct sessions *sessions = argument;
    sessions->gets += info->gets;
    sessions->scans += info->scans;
    if (sessions->print)
        printf("%8" PRIu64 " %8" PRIu64 " %6" PRIu64 " %-8s %8.1f %6" PRIu64 " %12.3f %10" PRIu64
               " %9" PRIu64 " %12" PRIu64 "\n",
               info->number, info->pid, info->uid,
               info->pending != 0     ? "waiting"
               : info->snapshots != 0 ? "reading"
                                      : "idle",
               (double)info->age_ns / 1e9, info->snapshots, (double)info->oldest_age_ns / 1e9,
               info->commits, info->conflicts, info->gets);
    if (sessions->list != NULL)
        json_array_append_new(
            sessions->list,
            json_pack("{s:I,s:I,s:I,s:b,s:I,s:I,s:I,s:I,s:I,s:I,s:I,s:I,s:I}", "number",
                      (json_int_t)info->number, "pid", (json_int_t)info->pid, "uid",
                      (json_int_t)info->uid, "read_only", (int)info->read_only, "age_ns",
                      (json_int_t)info->age_ns, "snapshots", (json_int_t)info->snapshots,
                      "oldest_snapshot", (json_int_t)info->oldest_snapshot, "oldest_age_ns",
                      (json_int_t)info->oldest_age_ns, "commits", (json_int_t)info->commits,
                      "conflicts", (json_int_t)info->conflicts, "gets", (json_int_t)info->gets,
                      "scans", (json_int_t)info->scans, "pending", (json_int_t)info->pending));
    return 0;
}

static int
bucket_print(const char *name, void *argument)
{
    (void)argument;
    printf("  %s\n", name);
    return 0;
}
static int
bucket_append(const char *name, void *argument)
{
    return json_array_append_new(argument, json_string(name));
}

/* Buckets that hold nothing are left out, of both views. */
static int
histogram_print(const mace_histogram *histogram, void *argument)
{
    (void)argument;
    printf("%s: %s (%s), %" PRIu64 " values\n", histogram->name, histogram->text, histogram->unit,
           histogram->count);
    for (unsigned i = 0; i < histogram->buckets; i++) {
        if (histogram->counts[i] == 0)
            continue;
        if (histogram->bounds[i] == UINT64_MAX)
            printf("  %18s %12" PRIu64 "\n", "above", histogram->counts[i]);
        else
            printf("  <= %15" PRIu64 " %12" PRIu64 "\n", histogram->bounds[i],
                   histogram->counts[i]);
    }
    return 0;
}

static int
histogram_append(const mace_histogram *histogram, void *argument)
{
    json_t *buckets = json_array();
    for (unsigned i = 0; i < histogram->buckets; i++) {
        if (histogram->counts[i] == 0)
            continue;
        json_t *bound = histogram->bounds[i] == UINT64_MAX
                            ? json_null()
                            : json_integer((json_int_t)histogram->bounds[i]);
        json_array_append_new(buckets, json_pack("{s:o,s:I}", "le", bound, "count",
                                                 (json_int_t)histogram->counts[i]));
    }
    json_object_set_new(argument, histogram->name,
                        json_pack("{s:s,s:I,s:I,s:I,s:o}", "unit", histogram->unit, "count",
                                  (json_int_t)histogram->count, "sum", (json_int_t)histogram->sum,
                                  "max", (json_int_t)histogram->max, "buckets", buckets));
    return 0;
}

static double
per_second(uint64_t now, uint64_t before, double seconds)
{
    return seconds > 0 && now >= before ? (double)(now - before) / seconds : 0;
}

/* What of the database is in memory, and what is on disk. */
static void
storage_print(const mace_stat *stat)
{
    printf("pages       %" PRIu64 " in memory, %" PRIu64 " read in, %" PRIu64 " moved out, %" PRIu64
           " written blind, %" PRIu64 " damaged, %" PRIu64 " unreadable with writes that wait\n",
           stat->pages_resident, stat->page_reads, stat->evictions, stat->blind_writes,
           stat->pages_corrupt, stat->pages_stray);
    printf(
        "data        %.1f of %.1f MiB live, %.1f MiB written; dirty %.1f, being written %.1f MiB\n",
        (double)stat->data_live / 1048576, (double)stat->data_total / 1048576,
        (double)stat->data_bytes / 1048576, (double)stat->dirty_bytes / 1048576,
        (double)stat->sealed_bytes / 1048576);
    printf("checkpoints %" PRIu64 ", the newest of commit %" PRIu64 "; %" PRIu64
           " log segments used again, %" PRIu64 " removed\n",
           stat->checkpoints, stat->checkpoint_cut, stat->log_recycled, stat->log_removed);
    printf("disk        %" PRIu64 " requests took longer than a second, %" PRIu64
           " of them are not answered yet\n",
           stat->disk_stalls, stat->disk_unanswered);
}

static void
latency_print(const mace_stat *stat)
{
    printf("latency (us)                       p50        p99        max\n");
    for (size_t i = 0; i < LATENCIES; i++)
        printf("  %-26s %10.1f %10.1f %10.1f\n", latencies[i].text,
               (double)figure_at(stat, latencies[i].p50) / 1e3,
               (double)figure_at(stat, latencies[i].p99) / 1e3,
               (double)figure_at(stat, latencies[i].max) / 1e3);
}

/* Everything once, in words. */
static int
text_print(mace *db, const struct request *request, const mace_stat *stat)
{
    struct sessions sum = {0};
    int status = mace_session_list(db, session_take, &sum);
    if (status != MACE_OK)
        return status;
    printf("broker      process %" PRIu64 ", incarnation %" PRIu64 ", %s, %" PRIu64
           " commits replayed at its start\n",
           stat->broker_pid, stat->incarnation, stat->io_uring != 0 ? "io_uring" : "POSIX I/O",
           stat->replayed);
    printf("commits     %" PRIu64 " (%" PRIu64 " synced), %" PRIu64 " conflicts, %" PRIu64
           " refused, %" PRIu64 " operations, newest %" PRIu64 "\n",
           stat->commits, stat->commits_sync, stat->conflicts, stat->refused, stat->operations,
           stat->visible);
    printf("reads       %" PRIu64 " gets, %" PRIu64 " leaves scanned (sessions attached now)\n",
           sum.gets, sum.scans);
    printf("cache       %.1f of %.1f MiB used (%.1f retired, %.1f history)\n",
           (double)stat->cache_used / 1048576, (double)stat->cache_size / 1048576,
           (double)stat->cache_retired / 1048576, (double)stat->history_bytes / 1048576);
    printf("history     %.1f MiB in %" PRIu64
           " pages in memory; scratch file %.1f of %.1f MiB in %" PRIu64 " pages, %" PRIu64
           " read in\n",
           (double)stat->history_bytes / 1048576, stat->pages_history,
           (double)stat->scratch_bytes / 1048576, (double)stat->scratch_file / 1048576,
           stat->pages_scratch, stat->scratch_reads);
    printf("trees       height %" PRIu64 ", %" PRIu64 " leaves, %" PRIu64 " inner, %" PRIu64
           " history pages, %" PRIu64 " buckets; %" PRIu64 " splits, %" PRIu64 " consolidations\n",
           stat->tree_height, stat->pages_leaf, stat->pages_inner, stat->pages_history,
           stat->buckets, stat->splits, stat->consolidations);
    printf("log         %.1f MiB in %" PRIu64 " segments, %" PRIu64 " writes, %" PRIu64
           " syncs, %.1f commits per sync\n",
           (double)stat->log_bytes / 1048576, stat->log_segments, stat->log_writes, stat->log_syncs,
           stat->log_syncs == 0 ? 0.0 : (double)stat->commits / (double)stat->log_syncs);
    storage_print(stat);
    printf("sessions    %" PRIu64 " attached (%" PRIu64 " ever, %" PRIu64 " died, %" PRIu64
           " ended as invalid), %" PRIu64 " snapshots, %" PRIu64 " expired\n",
           stat->sessions, stat->sessions_total, stat->sessions_ended_dead,
           stat->sessions_ended_invalid, stat->snapshots, stat->snapshots_expired);
    latency_print(stat);
    if (request->histograms) {
        for (size_t i = 0; i < FIGURES; i++)
            printf("  %-24s %16" PRIu64 "  %s\n", figures[i].name,
                   figure_at(stat, figures[i].offset), figures[i].text);
        status = mace_histogram_list(db, histogram_print, NULL);
        if (status != MACE_OK)
            return status;
    }
    if (request->buckets) {
        printf("buckets\n");
        status = mace_bucket_list(db, bucket_print, NULL);
    }
    if (request->sessions && status == MACE_OK) {
        printf(" session      pid    uid state       age s  snaps  oldest age s    commits "
               "conflicts         gets\n");
        sum.print = true;
        status = mace_session_list(db, session_take, &sum);
    }
    return status;
}

static int
json_print(mace *db, const struct request *request, const mace_stat *stat)
{
    struct sessions sum = {.list = json_array()};
    int status = mace_session_list(db, session_take, &sum);
    json_t *all = json_object(), *part = json_object();
    json_object_set_new(all, "broker_pid", json_integer((json_int_t)stat->broker_pid));
    json_object_set_new(all, "incarnation", json_integer((json_int_t)stat->incarnation));
    for (size_t i = 0; i < FIGURES; i++)
        json_object_set_new(all, figures[i].name,
                            json_integer((json_int_t)figure_at(stat, figures[i].offset)));
    json_object_set_new(all, "gets", json_integer((json_int_t)sum.gets));
    json_object_set_new(all, "scans", json_integer((json_int_t)sum.scans));
    json_object_set_new(
        all, "commits_per_sync",
        json_real(stat->log_syncs == 0 ? 0 : (double)stat->commits / (double)stat->log_syncs));
    for (size_t i = 0; i < LATENCIES; i++)
        json_object_set_new(part, latencies[i].name,
                            json_pack("{s:I,s:I,s:I}", "p50_ns",
                                      (json_int_t)figure_at(stat, latencies[i].p50), "p99_ns",
                                      (json_int_t)figure_at(stat, latencies[i].p99), "max_ns",
                                      (json_int_t)figure_at(stat, latencies[i].max)));
    json_object_set_new(all, "latency", part);
    json_object_set_new(all, "session_list", sum.list);
    if (request->histograms && status == MACE_OK) {
        json_t *histograms = json_object();
        status = mace_histogram_list(db, histogram_append, histograms);
        json_object_set_new(all, "histograms", histograms);
    }
    if (request->buckets && status == MACE_OK) {
        json_t *names = json_array();
        status = mace_bucket_list(db, bucket_append, names);
        json_object_set_new(all, "bucket_list", names);
    }
    if (status == MACE_OK) {
        json_dumpf(all, stdout, JSON_COMPACT | JSON_PRESERVE_ORDER | JSON_REAL_PRECISION(6));
        putchar('\n');
    }
    json_decref(all);
    return status;
}

static int
prometheus_print(const mace_stat *stat)
{
    for (size_t i = 0; i < FIGURES; i++) {
        bool counter = strcmp(figures[i].kind, "COUNTER") == 0;
        printf("# HELP mace_%s%s %s (%s)\n# TYPE mace_%s%s %s\nmace_%s%s %" PRIu64 "\n",
               figures[i].name, counter ? "_total" : "", figures[i].text, figures[i].unit,
               figures[i].name, counter ? "_total" : "", counter ? "counter" : "gauge",
               figures[i].name, counter ? "_total" : "", figure_at(stat, figures[i].offset));
    }
    for (size_t i = 0; i < LATENCIES; i++) {
        printf("# HELP mace_%s_latency_seconds %s\n# TYPE mace_%s_latency_seconds gauge\n",
               latencies[i].name, latencies[i].text, latencies[i].name);
        printf("mace_%s_latency_seconds{quantile=\"0.5\"} %.9f\n", latencies[i].name,
               (double)figure_at(stat, latencies[i].p50) / 1e9);
        printf("mace_%s_latency_seconds{quantile=\"0.99\"} %.9f\n", latencies[i].name,
               (double)figure_at(stat, latencies[i].p99) / 1e9);
        printf("mace_%s_latency_seconds{quantile=\"1\"} %.9f\n", latencies[i].name,
               (double)figure_at(stat, latencies[i].max) / 1e9);
    }
    return MACE_OK;
}

/* One line of an interval, and every 20 lines a head. */
static int
interval_print(mace *db, const mace_stat *now, const mace_stat *before, double seconds,
               unsigned long line)
{
    static uint64_t gets_before; /* reads are the sessions' own count */
    struct sessions sum = {0};
    int status = mace_session_list(db, session_take, &sum);
    if (status != MACE_OK)
        return status;
    if (line % 20 == 0)
        printf("%10s %9s %10s %10s %8s %9s %8s %9s %8s %9s %9s %9s %5s\n", "commits/s", "confl/s",
               "ops/s", "gets/s", "syncs/s", "com/sync", "log MB/s", "data MB/s", "page-ins",
               "cache MB", "p50 us", "p99 us", "sess");
    uint64_t syncs = now->log_syncs - before->log_syncs;
    uint64_t commits = now->commits - before->commits;
    printf(
        "%10.0f %9.0f %10.0f %10.0f %8.0f %9.1f %8.2f %9.2f %8.0f %9.1f %9.1f %9.1f %5" PRIu64 "\n",
        per_second(now->commits, before->commits, seconds),
        per_second(now->conflicts, before->conflicts, seconds),
        per_second(now->operations, before->operations, seconds),
        line == 0 ? 0.0 : per_second(sum.gets, gets_before, seconds),
        per_second(now->log_syncs, before->log_syncs, seconds),
        syncs == 0 ? 0.0 : (double)commits / (double)syncs,
        per_second(now->log_bytes, before->log_bytes, seconds) / 1e6,
        per_second(now->data_bytes, before->data_bytes, seconds) / 1e6,
        per_second(now->page_reads, before->page_reads, seconds), (double)now->cache_used / 1048576,
        (double)now->commit_p50_ns / 1e3, (double)now->commit_p99_ns / 1e3, now->sessions);
    gets_before = sum.gets;
    fflush(stdout);
    return MACE_OK;
}

static int
stat_print(mace *db, const struct request *request, const mace_stat *stat)
{
    switch (request->output) {
    case OUTPUT_JSON:
        return json_print(db, request, stat);
    case OUTPUT_PROMETHEUS:
        return prometheus_print(stat);
    default:
        return text_print(db, request, stat);
    }
}

static double
clock_seconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static int
intervals_run(mace *db, const struct request *request, mace_stat *before)
{
    double begin = clock_seconds();
    bool lines = request->output == OUTPUT_TEXT && !request->watch;
    for (unsigned long i = 0; request->count == 0 || i < request->count; i++) {
        struct timespec pause = {.tv_sec = (time_t)request->interval};
        pause.tv_nsec = (long)((request->interval - (double)pause.tv_sec) * 1e9);
        nanosleep(&pause, NULL);
        mace_stat now;
        mace_stat_init(&now);
        int status = mace_stat_read(db, &now);
        if (status != MACE_OK)
            return status;
        double end = clock_seconds();
        /* Another incarnation counts from zero again. */
        if (now.incarnation != before->incarnation)
            mace_stat_init(before);
        if (request->watch && isatty(STDOUT_FILENO))
            fputs("\033[H\033[2J", stdout);
        status = lines ? interval_print(db, &now, before, end - begin, i)
                       : stat_print(db, request, &now);
        if (status != MACE_OK)
            return status;
        fflush(stdout);
        *before = now;
        begin = end;
    }
    return MACE_OK;
}

static error_t
option_parse(int key, char *text, struct argp_state *state)
{
    struct request *request = state->input;
    char *end = NULL;
    switch (key) {
    case 'j':
        request->output = OUTPUT_JSON;
        return 0;
    case 'p':
        request->output = OUTPUT_PROMETHEUS;
        return 0;
    case 's':
        request->sessions = true;
        return 0;
    case 'b':
        request->buckets = true;
        return 0;
    case 'h':
        request->histograms = true;
        return 0;
    case 'w':
        request->watch = true;
        return 0;
    case ARGP_KEY_ARG:
        if (state->arg_num == 0)
            request->path = text;
        else if (state->arg_num == 1)
            request->interval = strtod(text, &end);
        else if (state->arg_num == 2)
            request->count = strtoul(text, &end, 10);
        else
            argp_error(state, "too many arguments");
        if (end != NULL && (*end != '\0' || end == text || text[0] == '-' ||
                            (state->arg_num == 1 && !(request->interval > 0))))
            argp_error(state, "'%s' is not a positive number", text);
        return 0;
    case ARGP_KEY_NO_ARGS:
        argp_error(state, "PATH is missing");
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

const char *argp_program_version = "mace-stat " MACE_VERSION_TEXT;

int
main(int argc, char **argv)
{
    static const struct argp_option options[] = {
        {"json", 'j', NULL, 0, "print one JSON object per report", 0},
        {"prometheus", 'p', NULL, 0, "print the Prometheus text format", 0},
        {"sessions", 's', NULL, 0, "list the attached sessions", 0},
        {"buckets", 'b', NULL, 0, "list the buckets", 0},
        {"histograms", 'h', NULL, 0, "list every figure, and the buckets of the histograms", 0},
        {"watch", 'w', NULL, 0, "repeat the whole report, every second unless INTERVAL says else",
         0},
        {0},
    };
    static const struct argp parser = {
        .options = options,
        .parser = option_parse,
        .args_doc = "PATH [INTERVAL [COUNT]]",
        .doc = "Shows what goes on in the Mace database in directory PATH, once or every INTERVAL "
               "seconds. "
               "Attaches as an observer; never starts a broker.",
    };
    struct request request = {0};
    argp_err_exit_status = 2;
    argp_parse(&parser, argc, argv, 0, NULL, &request);
    if (request.watch && request.interval == 0)
        request.interval = 1;

    mace_options open_options;
    mace_options_init(&open_options);
    open_options.create = 0;
    open_options.start_broker = 0;
    open_options.read_only = 1;
    open_options.connect_timeout_ms = 2000;
    mace *db;
    mace_stat stat;
    int status = mace_open(request.path, &open_options, &db);
    if (status != MACE_OK) {
        fprintf(stderr, "mace-stat: %s: %s\n", request.path,
                status == MACE_BROKER_LOST ? "no broker serves this database"
                                           : mace_strerror(status));
        return 1;
    }
    mace_stat_init(&stat);
    status = mace_stat_read(db, &stat);
    if (status == MACE_OK)
        status = request.interval > 0 ? intervals_run(db, &request, &stat)
                                      : stat_print(db, &request, &stat);
    mace_close(db);
    if (status != MACE_OK)
        fprintf(stderr, "mace-stat: %s: %s\n", request.path, mace_strerror(status));
    return status == MACE_OK ? 0 : 1;
}
