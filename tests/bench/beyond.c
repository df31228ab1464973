/* beyond.c - databases larger than memory: Mace beside RocksDB and LMDB, the same keys and values, one run.
 *
 * bench_beyond [--cache SIZE] [--data SIZE] [--values BYTES,...] [--figures NAMES] [--engines NAMES] [--seconds S] ...
 *
 * For each value size every group of figures runs engine after engine, each in a process of its own inside one memory
 * control group, so that the kernel's page cache counts for all: what the engine was given for its caches and a slack
 * for everything else. Absolute figures depend on the machine, the ratios are what counts.
 */
#include <argp.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "beyond.h"

enum { MAX_VALUES = 4 };

struct options {
    struct bench bench;
    const char *figures, *engines, *values, *directory;
    uint64_t data, slack;
    bool no_limit, keep, reuse;
};

static const struct engine *const all_engines[] = {&engine_mace, &engine_rocksdb, &engine_lmdb};

/* --- one engine's turn in a process of its own --- */

static bool
wanted(const char *list, const char *name)
{
    size_t size = strlen(name);
    for (const char *at = list; at != NULL && (at = strcasestr(at, name)) != NULL; at += size)
        if ((at == list || at[-1] == ',') && (at[size] == ',' || at[size] == '\0'))
            return true;
    return list == NULL;
}

/* A broker that was started here leaves some time after its last client. */
static void
writer_wait(pid_t writer)
{
    for (int i = 0; writer > 0 && i < 1200 && kill(writer, 0) == 0; i++)
        usleep(50000);
}

static bool
turn_run(struct bench *bench, const struct group *group)
{
    struct results *results = bench->results;
    fflush(stdout);
    AO_store(&results->writer, 0);
    AO_store(&results->kill, 0);
    pid_t child = fork();
    if (child == 0) {
        if (!machine_limit_enter(&bench->limit))
            fprintf(stderr, "cannot enter %s\n", bench->limit.path);
        _exit(group->run(bench) ? 0 : 1);
    }
    int status = -1;
    pid_t writer;
    if (group->kills) {
        while (AO_load_acquire(&results->kill) == 0 && waitpid(child, &status, WNOHANG) == 0)
            usleep(1000);
        writer = (pid_t)AO_load(&results->writer);
        if (AO_load_acquire(&results->kill) != 0) {
            if (writer > 0)
                kill(writer, SIGKILL);
            kill(child, SIGKILL);
            waitpid(child, &status, 0);
            status = 0;
        }
    } else {
        waitpid(child, &status, 0);
    }
    writer_wait((pid_t)AO_load(&results->writer));
    machine_forget(bench->path);
    if (status != 0)
        fprintf(stderr, "%s: %s failed (status %#x)\n", bench->engine->name, group->name,
                (unsigned)status);
    return status == 0;
}

/* --- rows --- */

static void
value_print(double value)
{
    if (value < 0)
        printf(" %12s", "-");
    else
        printf(value < 100 ? " %12.2f" : " %12.0f", value);
}

static void
row_print(const struct options *options, const struct row *row)
{
    double ours = -1;
    printf("%-36s %-7s", row->name, row->unit);
    for (unsigned i = 0; i < ENGINES; i++)
        if (wanted(options->engines, all_engines[i]->name))
            value_print(row->value[i]);
    ours = row->value[0];
    for (unsigned i = 1; i < ENGINES; i++)
        if (wanted(options->engines, all_engines[i]->name) && ours >= 0 && row->value[i] > 0)
            printf("   /%s %6.2f", all_engines[i]->name, ours / row->value[i]);
    printf("\n");
}

static void
group_run(struct options *options, const struct group *group)
{
    struct bench *bench = &options->bench;
    struct results *results = bench->results;
    memset(results, 0, sizeof *results);
    for (unsigned i = 0; i < ENGINES; i++) {
        if (!wanted(options->engines, all_engines[i]->name))
            continue;
        bench->engine = all_engines[i];
        bench->index = i;
        snprintf(bench->path, sizeof bench->path, "%s/%s", options->directory, bench->engine->name);
        turn_run(bench, group);
    }
    for (unsigned i = 0; i < results->count; i++)
        row_print(options, &results->rows[i]);
    fflush(stdout);
}

static void
directories_remove(const struct options *options)
{
    char command[MACHINE_PATH + 16];
    for (unsigned i = 0; i < ENGINES; i++) {
        snprintf(command, sizeof command, "rm -rf '%s/%s'", options->directory,
                 all_engines[i]->name);
        if (system(command) != 0)
            fprintf(stderr, "cannot remove: %s\n", command);
    }
}

static void
values_run(struct options *options, size_t value_size)
{
    struct bench *bench = &options->bench;
    bench->value_size = value_size;
    bench->entries = options->data / (WORKLOAD_KEY + value_size);
    workload_zipf_init(&bench->zipf, bench->entries);
    printf("\n%" PRIu64 " entries of %d + %zu bytes, cache %" PRIu64 " MiB%s\n", bench->entries,
           WORKLOAD_KEY, value_size, bench->setup.memory >> 20,
           bench->setup.direct ? ", RocksDB past the page cache" : "");
    printf("%-44s", "");
    for (unsigned i = 0; i < ENGINES; i++)
        if (wanted(options->engines, all_engines[i]->name))
            printf(" %12s", all_engines[i]->name);
    printf("\n");
    if (!options->reuse)
        directories_remove(options);
    for (unsigned i = options->reuse ? 1 : 0; i < bench_group_count; i++)
        if (i == 0 || wanted(options->figures, bench_groups[i].name))
            group_run(options, &bench_groups[i]);
    if (!options->keep)
        directories_remove(options);
}

/* --- options --- */

static uint64_t
size_parse(const char *text)
{
    char *end;
    uint64_t size = strtoull(text, &end, 10);
    unsigned shift = *end == 'K' ? 10 : *end == 'M' ? 20 : *end == 'G' ? 30 : 0;
    return size << shift;
}

static error_t
option_parse(int key, char *text, struct argp_state *state)
{
    struct options *options = state->input;
    struct bench *bench = &options->bench;
    switch (key) {
    case 'c':
        bench->setup.memory = size_parse(text);
        return 0;
    case 'u':
        bench->updates = strtod(text, NULL);
        return 0;
    case 'D':
        options->data = size_parse(text);
        return 0;
    case 'S':
        options->slack = size_parse(text);
        return 0;
    case 'v':
        options->values = text;
        return 0;
    case 'f':
        options->figures = text;
        return 0;
    case 'e':
        options->engines = text;
        return 0;
    case 's':
        bench->seconds = strtod(text, NULL);
        return 0;
    case 'o':
        bench->overload_seconds = strtod(text, NULL);
        return 0;
    case 't':
        bench->threads = (unsigned)strtoul(text, NULL, 10);
        return bench->threads == 0 || bench->threads > MAX_THREADS ? ARGP_ERR_UNKNOWN : 0;
    case 'd':
        options->directory = text;
        return 0;
    case 'x':
        bench->setup.direct = true;
        return 0;
    case 'p':
        bench->setup.page_size = (uint32_t)strtoul(text, NULL, 10);
        return 0;
    case 'k':
        options->keep = true;
        return 0;
    case 'r':
        options->reuse = true;
        return 0;
    case 'n':
        options->no_limit = true;
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

static const struct argp_option option_table[] = {
    {"cache", 'c', "SIZE", 0, "memory for caches and write buffers (default 64M)", 0},
    {"data", 'D', "SIZE", 0, "bytes of keys and values (default 8 x cache)", 0},
    {"slack", 'S', "SIZE", 0,
     "memory beside the caches (default: 36M + a quarter of them, at most 100M)", 0},
    {"values", 'v', "BYTES,...", 0, "sizes of the values (default 100,1000)", 0},
    {"figures", 'f', "NAMES", 0,
     "of open,get,many,upsert,reget,upsert_zipf,ycsb,overload,kill (all)", 0},
    {"engines", 'e', "NAMES", 0, "of mace,rocksdb,lmdb (default: all)", 0},
    {"seconds", 's', "S", 0, "length of a timed figure (default 2)", 0},
    {"updates", 'u', "SHARE", 0,
     "of an upsert figure, per entry (default 0.5); at most for five figures' time", 0},
    {"overload", 'o', "S", 0, "length of the overload (default: a figure's; 600 for the full one)",
     0},
    {"threads", 't', "N", 0, "of the figures with several threads (default 4)", 0},
    {"directory", 'd', "DIR", 0, "where the databases are made (default: a new one in /tmp)", 0},
    {"direct", 'x', NULL, 0, "RocksDB reads and flushes past the page cache", 0},
    {"page-size", 'p', "BYTES", 0, "size of Mace's leaves (default: 8192)", 0},
    {"no-limit", 'n', NULL, 0, "without a memory control group", 0},
    {"keep", 'k', NULL, 0, "leave the last databases where they are", 0},
    {"reuse", 'r', NULL, 0, "load nothing: the databases were kept by a run with the same sizes",
     0},
    {0},
};

static void
limit_make(struct options *options)
{
    struct bench *bench = &options->bench;
    const char *why = "not wanted";
    uint64_t bytes = bench->setup.memory + options->slack;
    if (!options->no_limit && machine_limit_create(&bench->limit, bytes, &why))
        printf("each engine in a memory control group of %" PRIu64
               " MiB, page cache included (%s)\n",
               bytes >> 20, bench->limit.path);
    else
        printf(
            "NO memory limit: %s. The page cache holds what the caches do not: figures of reading "
            "say nothing.\n",
            why);
}

/* What a broker or another engine takes beside its cache, recovery included. */
static uint64_t
slack_default(uint64_t memory)
{
    const uint64_t least = UINT64_C(36) << 20, most = UINT64_C(100) << 20;
    return least + memory / 4 < most ? least + memory / 4 : most;
}

int
main(int argc, char **argv)
{
    static const struct argp parser = {.options = option_table, .parser = option_parse};
    static char made[] = "/tmp/bench_beyond_XXXXXX";
    struct options options = {
        .bench = {.setup = {.memory = UINT64_C(64) << 20},
                  .seconds = 2,
                  .updates = 0.5,
                  .threads = 4},
        .values = "100,1000",
    };
    struct bench *bench = &options.bench;
    argp_parse(&parser, argc, argv, 0, NULL, &options);
    if (options.data == 0)
        options.data = bench->setup.memory * 8;
    if (options.slack == 0)
        options.slack = slack_default(bench->setup.memory);
    if (bench->overload_seconds == 0)
        bench->overload_seconds = bench->seconds;
    bench->setup.map = options.data * 8;
    bench->results = mmap(NULL, sizeof *bench->results, PROT_READ | PROT_WRITE,
                          MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (options.directory == NULL)
        options.directory = mkdtemp(made);
    if (options.directory == NULL || bench->results == MAP_FAILED)
        return 1;
    limit_make(&options);
    const char *at = options.values;
    for (int i = 0; i < MAX_VALUES && *at != '\0'; i++) {
        char *end;
        size_t size = strtoull(at, &end, 10);
        if (size < 8 || size > WORKLOAD_VALUE_MAX)
            break;
        values_run(&options, size);
        at = *end == ',' ? end + 1 : end;
    }
    machine_limit_remove(&bench->limit);
    if (options.directory == made)
        rmdir(made);
    return 0;
}
