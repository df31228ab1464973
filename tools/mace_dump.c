/* mace_dump.c - a database as something to keep: for now its files, copied as of one commit. */
#include <argp.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "backup.h"
#include "mshm/status.h"
#include "place.h"

enum { EXIT_DONE = 0, EXIT_FAILED = 1, EXIT_USAGE = 2 };

struct request {
    const char *path, *physical;
    bool no_verify;
};

static error_t
option_parse(int key, char *text, struct argp_state *state)
{
    struct request *request = state->input;
    switch (key) {
    case 'p':
        request->physical = text;
        return 0;
    case 'n':
        request->no_verify = true;
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
        if (request->physical == NULL)
            argp_error(state, "--physical DIR is the only form of dump that there is");
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

const char *argp_program_version = "mace-dump " MACE_VERSION_TEXT;

/* The copy looked at as mace-check would. */
static int
copy_verify(const char *path)
{
    char why[500] = "";
    struct check check = {.host = {.directory = -1}};
    struct report *report = report_create();
    int status =
        report != NULL ? check_open(&check, path, false, report, why, sizeof why) : MSHM_NO_MEMORY;
    if (status == MSHM_OK)
        status = check_run(&check, why, sizeof why);
    if (status != MSHM_OK)
        fprintf(stderr, "mace-dump: %s: %s\n", path, why[0] != '\0' ? why : mshm_strerror(status));
    else if (report_count(report) != 0) {
        fprintf(stderr, "mace-dump: %s: the copy is damaged, and so is what it was made from:\n",
                path);
        report_print(report, stderr);
        status = MSHM_CORRUPT;
    }
    check_close(&check);
    report_destroy(report);
    return status == MSHM_OK ? EXIT_DONE : EXIT_FAILED;
}

int
main(int argc, char **argv)
{
    static const struct argp_option options[] = {
        {"physical", 'p', "DIR", 0,
         "copy the database's files as of one commit to DIR, which is empty or not there: the copy "
         "opens as a database",
         0},
        {"no-verify", 'n', NULL, 0, "do not look through the copy as mace-check does", 0},
        {0},
    };
    static const struct argp parser = {
        .options = options,
        .parser = option_parse,
        .args_doc = "--physical DIR PATH",
        .doc =
            "Copies the Mace database in directory PATH, while it is in use or not. Data files are "
            "linked where that can be done. "
            "Exit status 0: done; 1: failed, or the copy is damaged; 2: bad usage.",
    };
    struct request request = {0};
    struct backup_result result;
    char why[500];
    argp_err_exit_status = EXIT_USAGE;
    argp_parse(&parser, argc, argv, 0, NULL, &request);
    if (!place_free(request.physical)) {
        fprintf(stderr, "mace-dump: %s: is there and not empty\n", request.physical);
        return EXIT_USAGE;
    }
    if (backup_run(request.path, request.physical, &result, why, sizeof why) != MSHM_OK) {
        fprintf(stderr, "mace-dump: %s: %s\n", request.path, why);
        return EXIT_FAILED;
    }
    if (!request.no_verify && copy_verify(request.physical) != EXIT_DONE)
        return EXIT_FAILED;
    printf("%s: commit %" PRIu64 "%s; %" PRIu32 " files linked, %" PRIu32 " copied, %" PRIu64
           " bytes\n",
           request.physical, result.timestamp, result.log ? " and the log behind it" : "",
           result.linked, result.copied, result.bytes);
    return fflush(stdout) == 0 ? EXIT_DONE : EXIT_FAILED;
}
