/* mace_check.c - is everything in a database as it should be, and what can be saved when it is not. */
#include <argp.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "check_database.h"
#include "mace/mace.h"
#include "mshm/status.h"
#include "place.h"
#include "salvage.h"

enum { EXIT_CLEAN = 0, EXIT_DAMAGE = 1, EXIT_BLIND = 2 };

struct request {
    const char *path, *repair;
    bool online, json;
};

/* --- in words --- */

static void
buckets_print(const struct check *check)
{
    for (uint32_t i = 0; i < check->bucket_count; i++) {
        const struct check_bucket *bucket = &check->buckets[i];
        char *name = report_key((const uint8_t *)bucket->name, bucket->name_size);
        printf("bucket %s%s: %" PRIu64 " keys, %" PRIu64 " versions, %" PRIu64 " leaves, %" PRIu64
               " inner pages, height %" PRIu32 ", %" PRIu64 " bytes\n",
               name != NULL ? name : "?", bucket->dropped ? " (dropped)" : "", bucket->keys,
               bucket->versions, bucket->pages_leaf, bucket->pages_inner, bucket->height,
               bucket->bytes);
        free(name);
    }
}

static void
text_print(const struct check *check)
{
    const struct check_figures *figures = &check->figures;
    report_print(check->report, stdout);
    if (check->loaded) {
        buckets_print(check);
        printf("pages: %" PRIu64 " in %" PRIu64 " records, %" PRIu64 " damaged, %" PRIu64
               " out of reach behind damaged ones\n",
               check->page_count, figures->records_live, figures->pages_bad,
               figures->pages_cut_off);
        printf("data files: %" PRIu32 "; not live: %" PRIu64 " bytes in %" PRIu64
               " records, %" PRIu64 " bytes in none; %" PRIu64 " files that nothing names\n",
               check->file_count, figures->bytes_dead - figures->bytes_unknown,
               figures->records_dead, figures->bytes_unknown, figures->leftover_files);
        printf("log: %" PRIu64 " commits with %" PRIu64
               " operations behind the checkpoint at commit %" PRIu64 ", %" PRIu64 " segments\n",
               figures->log_records, figures->log_operations, check->manifest.cut.timestamp,
               figures->log_segments);
    }
    if (report_count(check->report) == 0)
        printf("clean\n");
    else
        printf("damaged: %" PRIu64 " findings\n", report_count(check->report));
}

static void
repair_print(const char *path, const struct salvage_result *result)
{
    printf("saved into %s: %" PRIu64 " keys of %" PRIu64 " leaves, %" PRIu64 " commits of the log",
           path, result->keys, result->leaves, result->commits);
    if (result->commits != 0)
        printf(" up to commit %" PRIu64, result->last_commit);
    if (result->manifest != 0)
        printf(", by MANIFEST-%" PRIu64, result->manifest);
    putchar('\n');
    report_print(result->lost, stdout);
    if (result->strange != 0)
        printf("%" PRIu64 " entries are of kinds that this program does not know\n",
               result->strange);
}

/* --- as JSON --- */

static json_t *
bucket_json(const struct check_bucket *bucket)
{
    return json_pack("{s:s%, s:I, s:b, s:I, s:I, s:I, s:I, s:I, s:I}", "name", bucket->name,
                     (size_t)bucket->name_size, "id", (json_int_t)bucket->id, "dropped",
                     (int)bucket->dropped, "keys", (json_int_t)bucket->keys, "versions",
                     (json_int_t)bucket->versions, "leaves", (json_int_t)bucket->pages_leaf,
                     "inner_pages", (json_int_t)bucket->pages_inner, "height",
                     (json_int_t)bucket->height, "bytes", (json_int_t)bucket->bytes);
}

static json_t *
check_json(const struct check *check)
{
    const struct check_figures *figures = &check->figures;
    json_t *buckets = json_array();
    for (uint32_t i = 0; i < check->bucket_count; i++)
        json_array_append_new(buckets, bucket_json(&check->buckets[i]));
    return json_pack(
        "{s:b, s:I, s:o, s:b, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:o}",
        "clean", (int)(report_count(check->report) == 0), "damage",
        (json_int_t)report_count(check->report), "findings", report_json(check->report), "complete",
        (int)check->loaded, "checkpoint", (json_int_t)check->manifest.cut.timestamp, "pages",
        (json_int_t)check->page_count, "pages_damaged", (json_int_t)figures->pages_bad,
        "pages_out_of_reach", (json_int_t)figures->pages_cut_off, "records",
        (json_int_t)figures->records_live, "data_files", (json_int_t)check->file_count,
        "dead_records", (json_int_t)figures->records_dead, "dead_bytes",
        (json_int_t)figures->bytes_dead, "unknown_bytes", (json_int_t)figures->bytes_unknown,
        "leftover_files", (json_int_t)figures->leftover_files, "log_commits",
        (json_int_t)figures->log_records, "log_operations", (json_int_t)figures->log_operations,
        "buckets", buckets);
}

static json_t *
repair_json(const char *path, const struct salvage_result *result)
{
    return json_pack("{s:s, s:I, s:I, s:I, s:I, s:I, s:I, s:o}", "path", path, "keys",
                     (json_int_t)result->keys, "leaves", (json_int_t)result->leaves, "log_commits",
                     (json_int_t)result->commits, "last_commit", (json_int_t)result->last_commit,
                     "manifest", (json_int_t)result->manifest, "unknown_entries",
                     (json_int_t)result->strange, "lost", report_json(result->lost));
}

/* --- the command line --- */

static error_t
option_parse(int key, char *text, struct argp_state *state)
{
    struct request *request = state->input;
    switch (key) {
    case 'o':
        request->online = true;
        return 0;
    case 'r':
        request->repair = text;
        return 0;
    case 'j':
        request->json = true;
        return 0;
    case ARGP_KEY_ARG:
        if (state->arg_num != 0)
            argp_error(state, "too many arguments");
        request->path = text;
        return 0;
    case ARGP_KEY_NO_ARGS:
        argp_error(state, "PATH is missing");
        return 0;
    case ARGP_KEY_SUCCESS:
        if (request->online && request->repair != NULL)
            argp_error(state, "--repair needs the database to itself: not with --online");
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

const char *argp_program_version = "mace-check " MACE_VERSION_TEXT;

static int
repair_run(struct check *check, const struct request *request, json_t *all)
{
    struct salvage_result result;
    char why[500];
    int status = salvage_run(check, request->repair, &result, why, sizeof why);
    if (status != MSHM_OK)
        fprintf(stderr, "mace-check: %s\n", why);
    else if (all != NULL)
        json_object_set_new(all, "repair", repair_json(request->repair, &result));
    else
        repair_print(request->repair, &result);
    report_destroy(result.lost);
    return status;
}

static int
request_run(const struct request *request, struct check *check)
{
    char why[500] = "";
    json_t *all = NULL;
    int status = check_open(check, request->path, request->online, check->report, why, sizeof why);
    if (status == MSHM_OK)
        status = check_run(check, why, sizeof why);
    if (status != MSHM_OK) {
        fprintf(stderr, "mace-check: %s: %s%s\n", request->path,
                why[0] != '\0' ? why : mshm_strerror(status),
                status == MSHM_EXISTS ? "; --online looks beside it" : "");
        return EXIT_BLIND;
    }
    if (request->json)
        all = check_json(check);
    else
        text_print(check);
    if (request->repair != NULL)
        status = repair_run(check, request, all);
    if (all != NULL) {
        json_dumpf(all, stdout, JSON_COMPACT | JSON_PRESERVE_ORDER);
        putchar('\n');
        json_decref(all);
    }
    if (status != MSHM_OK)
        return EXIT_BLIND;
    return report_count(check->report) == 0 ? EXIT_CLEAN : EXIT_DAMAGE;
}

int
main(int argc, char **argv)
{
    static const struct argp_option options[] = {
        {"online", 'o', NULL, 0, "look beside a running broker, without the database's lock", 0},
        {"repair", 'r', "DIR", 0, "save what can be read into a new database in DIR", 0},
        {"json", 'j', NULL, 0, "print one JSON object", 0},
        {0},
    };
    static const struct argp parser = {
        .options = options,
        .parser = option_parse,
        .args_doc = "PATH",
        .doc = "Looks at everything in the Mace database in directory PATH: every checksum, every "
               "location, every tree. Changes nothing there. "
               "Exit status 0: clean; 1: damage was found; 2: bad usage, or it cannot look.",
    };
    struct request request = {0};
    argp_err_exit_status = EXIT_BLIND;
    argp_parse(&parser, argc, argv, 0, NULL, &request);
    if (request.repair != NULL && !place_free(request.repair)) {
        fprintf(stderr, "mace-check: %s: is there and not empty\n", request.repair);
        return EXIT_BLIND;
    }
    struct check check = {.report = report_create(), .host = {.directory = -1}};
    struct report *report = check.report;
    int result = report != NULL ? request_run(&request, &check) : EXIT_BLIND;
    check_close(&check);
    report_destroy(report);
    return fflush(stdout) == 0 ? result : EXIT_BLIND;
}
