/* options.c - the command line of mace-broker. */
#include "options.h"

#include <argp.h>
#include <errno.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum options_key {
    KEY_CACHE = 0x100,
    KEY_PAGE_SIZE,
    KEY_MODE,
    KEY_ALLOW_UID,
    KEY_MAX_SESSIONS,
    KEY_MAX_SESSIONS_PER_UID,
    KEY_IDLE_EXIT,
    KEY_SNAPSHOT_MAX_AGE,
    KEY_LOG,
    KEY_NO_URING,
    KEY_HUGE_PAGES,
    KEY_DIRECT_IO,
    KEY_FOREGROUND,
    KEY_FORCE,
    KEY_VERBOSE,
    KEY_HELP,
    KEY_VERSION,
    KEY_NO_CREATE,
    KEY_NO_LOG_MAPPING,
    KEY_SEGMENT_SIZE,
    KEY_DATA_FILE_SIZE,
    KEY_CHECKPOINT_LOG,
    KEY_CHECKPOINT_INTERVAL,
    KEY_READY_FD,
    KEY_HISTORY_SIZE,
};

static const struct argp_option options_table[] = {
    {"cache", KEY_CACHE, "SIZE", 0,
     "Memory for pages (default: a quarter of the memory of the machine or its control group)", 1},
    {"page-size", KEY_PAGE_SIZE, "N", 0, "Target size of a leaf: 4096 to 65536 bytes", 1},
    {"huge-pages", KEY_HUGE_PAGES, "try|on|off", 0, "Huge pages for the cache (default: try)", 1},
    {"direct-io", KEY_DIRECT_IO, "auto|try|on|off", 0,
     "Read and write data files past the kernel's page cache (default: auto, where memory leaves "
     "that cache less than --cache)",
     1},
    {"mode", KEY_MODE, "MODE", 0, "Who may attach: permission bits of the socket (default: 0660)",
     2},
    {"allow-uid", KEY_ALLOW_UID, "N", 0, "This user may attach, too; may be repeated", 2},
    {"max-sessions", KEY_MAX_SESSIONS, "N", 0, "Processes attached at once (default: 256)", 2},
    {"max-sessions-per-uid", KEY_MAX_SESSIONS_PER_UID, "N", 0,
     "The same for each user but the owner (default: half of it)", 2},
    {"idle-exit", KEY_IDLE_EXIT, "MS", 0,
     "Leave when nobody was attached for so long (default: 0, never)", 3},
    {"snapshot-max-age", KEY_SNAPSHOT_MAX_AGE, "MS", 0,
     "Expire snapshots older than this (default: 0, never by age)", 3},
    {"history-size", KEY_HISTORY_SIZE, "SIZE", 0,
     "Disk for old versions that snapshots need and the cache has no room for (default: four times "
     "the cache, at least 1G; 0: they stay in memory)",
     3},
    {"checkpoint-log", KEY_CHECKPOINT_LOG, "SIZE", 0,
     "Take a checkpoint when so much log was written since the last one (default: 1G)", 3},
    {"checkpoint-interval", KEY_CHECKPOINT_INTERVAL, "MS", 0,
     "Take one after so long when anything was committed (default: 60000)", 3},
    {"log", KEY_LOG, "FILE", 0, "Append events to FILE instead of standard error", 4},
    {"verbose", KEY_VERBOSE, NULL, 0, "Report small events, too", 4},
    {"foreground", KEY_FOREGROUND, NULL, 0, "Stay in the foreground (always so)", 5},
    {"no-uring", KEY_NO_URING, NULL, 0, "Do not use io_uring", 5},
    {"force", KEY_FORCE, NULL, 0, "Serve a directory on a network file system all the same", 5},
    {"help", KEY_HELP, NULL, 0, "Print this and leave", -1},
    {"version", KEY_VERSION, NULL, 0, "Print the version and leave", -1},
    {"no-create", KEY_NO_CREATE, NULL, OPTION_HIDDEN, NULL, 0},
    {"no-log-mapping", KEY_NO_LOG_MAPPING, NULL, OPTION_HIDDEN, NULL, 0},
    {"segment-size", KEY_SEGMENT_SIZE, "SIZE", OPTION_HIDDEN, NULL, 0},
    {"data-file-size", KEY_DATA_FILE_SIZE, "SIZE", OPTION_HIDDEN, NULL, 0},
    {"ready-fd", KEY_READY_FD, "N", OPTION_HIDDEN, NULL, 0},
    {NULL, 0, NULL, 0, NULL, 0},
};

/* What a parse carries through argp. */
struct options_parse {
    struct options *options;
    enum options_outcome outcome;
    char *why;
    size_t why_size;
};

static error_t __attribute__((format(printf, 2, 3)))
options_misuse(struct options_parse *parse, const char *format, ...)
{
    va_list arguments;

    if (parse->outcome == OPTIONS_RUN) {
        parse->outcome = OPTIONS_MISUSE;
        va_start(arguments, format);
        vsnprintf(parse->why, parse->why_size, format, arguments);
        va_end(arguments);
    }
    return EINVAL;
}

static int
options_number(const char *text, int base, uint64_t *number)
{
    char *end;

    /* strtoull takes signs and blanks, which are no numbers here. */
    if (text[0] < '0' || text[0] > '9')
        return -EINVAL;
    errno = 0;
    unsigned long long value = strtoull(text, &end, base);
    if (errno != 0 || *end != '\0')
        return -EINVAL;
    *number = value;
    return 0;
}

int
options_size(const char *text, uint64_t *size)
{
    static const char suffixes[] = "KMGT";
    char digits[32];
    uint64_t value = 0;
    unsigned shift = 0;
    size_t length = strlen(text);

    if (length == 0 || length >= sizeof(digits))
        return -EINVAL;
    memcpy(digits, text, length + 1);
    char last = digits[length - 1];
    if (last >= 'a' && last <= 'z')
        last = (char)(last - 'a' + 'A');
    const char *suffix = strchr(suffixes, last);
    if (suffix != NULL) {
        shift = 10u * (unsigned)(suffix - suffixes + 1);
        digits[length - 1] = '\0';
    }
    if (options_number(digits, 10, &value) != 0 || value > UINT64_MAX >> shift)
        return -EINVAL;
    *size = value << shift;
    return 0;
}

/* A number in [low, high] into *number. */
static error_t
options_range(struct options_parse *parse, const char *name, const char *text, int base,
              uint64_t low, uint64_t high, uint64_t *number)
{
    uint64_t value = 0;

    if (options_number(text, base, &value) != 0 || value < low || value > high)
        return options_misuse(parse,
                              base == 8 ? "--%s: '%s' is not a number from %llo to %llo"
                                        : "--%s: '%s' is not a number from %llu to %llu",
                              name, text, (unsigned long long)low, (unsigned long long)high);
    *number = value;
    return 0;
}

static error_t
options_range32(struct options_parse *parse, const char *name, const char *text, uint64_t low,
                uint64_t high, uint32_t *number)
{
    uint64_t value = 0;
    error_t error = options_range(parse, name, text, 10, low, high, &value);

    if (error == 0)
        *number = (uint32_t)value;
    return error;
}

static error_t
options_bytes(struct options_parse *parse, const char *name, const char *text, uint64_t low,
              uint64_t *size)
{
    uint64_t value = 0;

    if (options_size(text, &value) != 0)
        return options_misuse(parse, "--%s: '%s' is not a size like 512M or 2G", name, text);
    if (value < low || value > UINT64_C(1) << 46)
        return options_misuse(parse, "--%s: %s is out of range", name, text);
    *size = value;
    return 0;
}

static error_t
options_page_size(struct options_parse *parse, const char *text)
{
    uint32_t value = 0;

    if (options_range32(parse, "page-size", text, 4096, MSHM_MAX_FRAME, &value) != 0)
        return EINVAL;
    if ((value & (value - 1)) != 0)
        return options_misuse(parse, "--page-size: %s is not a power of two", text);
    parse->options->page_size = value;
    return 0;
}

static error_t
options_mode(struct options_parse *parse, const char *text)
{
    uint64_t value = 0;
    error_t error = options_range(parse, "mode", text, 8, 0, 0777, &value);

    if (error == 0)
        parse->options->mode = (mode_t)value;
    return error;
}

static error_t
options_allow_uid(struct options_parse *parse, const char *text)
{
    struct options *options = parse->options;
    uint64_t value = 0;

    if (options->allowed_count == OPTIONS_MAX_ALLOWED)
        return options_misuse(parse, "--allow-uid: at most %d users", OPTIONS_MAX_ALLOWED);
    error_t error = options_range(parse, "allow-uid", text, 10, 0, UINT32_MAX - 1, &value);
    if (error == 0)
        options->allowed[options->allowed_count++] = (uid_t)value;
    return error;
}

static error_t
options_huge_pages(struct options_parse *parse, const char *text)
{
    struct options *options = parse->options;

    if (strcmp(text, "try") == 0)
        options->huge_pages = MSHM_HUGE_PAGES_TRY;
    else if (strcmp(text, "on") == 0)
        options->huge_pages = MSHM_HUGE_PAGES_ON;
    else if (strcmp(text, "off") == 0)
        options->huge_pages = MSHM_HUGE_PAGES_OFF;
    else
        return options_misuse(parse, "--huge-pages: '%s' is none of try, on, off", text);
    return 0;
}

static error_t
options_direct_io(struct options_parse *parse, const char *text)
{
    struct options *options = parse->options;

    if (strcmp(text, "auto") == 0)
        options->direct_io = OPTIONS_DIRECT_IO_AUTO;
    else if (strcmp(text, "try") == 0)
        options->direct_io = OPTIONS_DIRECT_IO_TRY;
    else if (strcmp(text, "on") == 0)
        options->direct_io = OPTIONS_DIRECT_IO_ON;
    else if (strcmp(text, "off") == 0)
        options->direct_io = OPTIONS_DIRECT_IO_OFF;
    else
        return options_misuse(parse, "--direct-io: '%s' is none of auto, try, on, off", text);
    return 0;
}

static error_t
options_ready_fd(struct options_parse *parse, const char *text)
{
    uint64_t value = 0;
    error_t error = options_range(parse, "ready-fd", text, 10, 3, INT_MAX, &value);

    if (error == 0)
        parse->options->ready_fd = (int)value;
    return error;
}

static error_t
options_flag(struct options *options, int key)
{
    switch (key) {
    case KEY_NO_URING:
        options->uring = false;
        return 0;
    case KEY_FOREGROUND:
        options->foreground = true;
        return 0;
    case KEY_FORCE:
        options->force = true;
        return 0;
    case KEY_VERBOSE:
        options->verbose = true;
        return 0;
    case KEY_NO_CREATE:
        options->create = false;
        return 0;
    case KEY_NO_LOG_MAPPING:
        options->log_mapping = false;
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

/* getopt has already moved past the word it did not like; without its own message the word is what can be named. */
static error_t
options_unknown(struct options_parse *parse, const struct argp_state *state)
{
    int index = state->next - 1;

    if (index < 1 || index >= state->argc)
        index = state->argc - 1;
    return options_misuse(parse, "'%s' is not an option, or lacks its value", state->argv[index]);
}

static error_t
options_key(int key, char *text, struct argp_state *state)
{
    struct options_parse *parse = state->input;
    struct options *options = parse->options;

    switch (key) {
    case KEY_CACHE:
        return options_bytes(parse, "cache", text, UINT64_C(1) << 20, &options->cache_size);
    case KEY_SEGMENT_SIZE:
        return options_bytes(parse, "segment-size", text, 64 << 10, &options->segment_size);
    case KEY_DATA_FILE_SIZE:
        return options_bytes(parse, "data-file-size", text, 2 << 20, &options->data_file_size);
    case KEY_CHECKPOINT_LOG:
        return options_bytes(parse, "checkpoint-log", text, 64 << 10, &options->checkpoint_log);
    case KEY_CHECKPOINT_INTERVAL:
        return options_range(parse, "checkpoint-interval", text, 10, 1, UINT32_MAX,
                             &options->checkpoint_interval_ms);
    case KEY_PAGE_SIZE:
        return options_page_size(parse, text);
    case KEY_MODE:
        return options_mode(parse, text);
    case KEY_ALLOW_UID:
        return options_allow_uid(parse, text);
    case KEY_MAX_SESSIONS:
        return options_range32(parse, "max-sessions", text, 1, MSHM_MAX_SESSIONS,
                               &options->max_sessions);
    case KEY_MAX_SESSIONS_PER_UID:
        return options_range32(parse, "max-sessions-per-uid", text, 1, MSHM_MAX_SESSIONS,
                               &options->max_sessions_per_uid);
    case KEY_IDLE_EXIT:
        return options_range(parse, "idle-exit", text, 10, 0, UINT32_MAX, &options->idle_exit_ms);
    case KEY_SNAPSHOT_MAX_AGE:
        return options_range(parse, "snapshot-max-age", text, 10, 0, UINT32_MAX,
                             &options->snapshot_max_age_ms);
    case KEY_HISTORY_SIZE:
        return options_bytes(parse, "history-size", text, 0, &options->history_size);
    case KEY_LOG:
        options->log = text;
        return 0;
    case KEY_HUGE_PAGES:
        return options_huge_pages(parse, text);
    case KEY_DIRECT_IO:
        return options_direct_io(parse, text);
    case KEY_READY_FD:
        return options_ready_fd(parse, text);
    case KEY_HELP:
        parse->outcome = OPTIONS_HELP;
        return EINVAL;
    case KEY_VERSION:
        parse->outcome = OPTIONS_VERSION;
        return EINVAL;
    case ARGP_KEY_ARG:
        if (options->path != NULL)
            return options_misuse(parse, "'%s': only one directory can be served", text);
        options->path = text;
        return 0;
    case ARGP_KEY_ERROR:
        return options_unknown(parse, state);
    default:
        return options_flag(options, key);
    }
}

static const struct argp options_argp = {
    .options = options_table,
    .parser = options_key,
    .args_doc = "PATH",
    .doc =
        "Serve the Mace database in the directory PATH.\v"
        "Sizes take the suffixes K, M, G. The exit status is 0 after a clean stop and when another "
        "broker serves PATH already, 1 when it could not start, 2 on bad usage, 70 when it had to "
        "stop after a disk error. SIGTERM and SIGINT make everything durable and leave.",
};

static void
options_defaults(struct options *options)
{
    memset(options, 0, sizeof(*options));
    options->mode = 0660;
    options->max_sessions = MSHM_MAX_SESSIONS;
    options->uring = true;
    options->huge_pages = MSHM_HUGE_PAGES_TRY;
    options->create = true;
    options->log_mapping = true;
    options->ready_fd = -1;
    options->history_size = OPTIONS_HISTORY_DEFAULT;
}

enum options_outcome
options_parse(struct options *options, int argc, char **argv, char *why, size_t why_size)
{
    struct options_parse parse = {options, OPTIONS_RUN, why, why_size};
    /* argp's own help exits and its own messages take two lines: both are done here. */
    unsigned flags = ARGP_NO_ERRS | ARGP_NO_EXIT | ARGP_NO_HELP;

    options_defaults(options);
    if (argp_parse(&options_argp, argc, argv, flags, NULL, &parse) != 0)
        options_misuse(&parse, "bad usage");
    if (parse.outcome == OPTIONS_RUN && (options->path == NULL || options->path[0] == '\0'))
        options_misuse(&parse, "the directory to serve is missing");
    if (options->max_sessions_per_uid == 0)
        options->max_sessions_per_uid = (options->max_sessions + 1) / 2;
    return parse.outcome;
}

void
options_help(void)
{
    char name[] = "mace-broker";
    argp_help(&options_argp, stdout, ARGP_HELP_STD_HELP & ~ARGP_HELP_EXIT_OK, name);
}
