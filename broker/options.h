/* options.h - the command line of mace-broker, declared once: the table in options.c makes parsing and --help. */
#ifndef OPTIONS_H
#define OPTIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "mshm/segment.h"

enum { OPTIONS_MAX_ALLOWED = 64 };
#define OPTIONS_HISTORY_DEFAULT UINT64_MAX

/* Data files past the page cache: not, where the file system can, or not without. */
enum options_direct_io {
    OPTIONS_DIRECT_IO_AUTO, /* where the page cache could hold no more than the broker's own cache does */
    OPTIONS_DIRECT_IO_OFF,
    OPTIONS_DIRECT_IO_TRY,
    OPTIONS_DIRECT_IO_ON,
};

struct options {
    const char *path;    /* the data directory, as given */
    uint64_t cache_size; /* bytes; 0: a quarter of the memory */
    uint32_t page_size;  /* bytes; 0: the core's default */
    mode_t mode;         /* permission bits of the socket */
    uid_t allowed[OPTIONS_MAX_ALLOWED];
    size_t allowed_count;
    uint32_t max_sessions;
    uint32_t max_sessions_per_uid; /* of users other than the owner and root */
    uint64_t idle_exit_ms;         /* 0: never */
    uint64_t snapshot_max_age_ms;  /* 0: never by age */
    uint64_t history_size;         /* bytes of history on disk; or OPTIONS_HISTORY_DEFAULT */
    const char *log;               /* NULL: standard error */
    bool uring;
    enum mshm_huge_pages huge_pages;
    enum options_direct_io direct_io;
    bool foreground;
    bool force;       /* serve a network file system all the same */
    bool create;      /* make directory and database when they are missing */
    bool verbose;     /* events of level debug, too */
    bool log_mapping; /* level OS through a mapping of the log, where the file system allows it */
    uint64_t segment_size;           /* bytes of a log segment; 0: the core's default */
    uint64_t data_file_size;         /* bytes at which a new data file is begun; 0: the default */
    uint64_t checkpoint_log;         /* bytes of log that make a checkpoint due; 0: the default */
    uint64_t checkpoint_interval_ms; /* the same for time */
    int ready_fd;                    /* told when serving or failed; -1: nobody waits */
};

enum options_outcome {
    OPTIONS_RUN = 0,
    OPTIONS_HELP,    /* print options_help and leave with 0 */
    OPTIONS_VERSION, /* print the version and leave with 0 */
    OPTIONS_MISUSE,  /* *why says what is wrong; leave with 2 */
};

/* Fills *options from the command line; strings stay where argv has them. Main thread, once or in tests often. */
enum options_outcome options_parse(struct options *options, int argc, char **argv, char *why,
                                   size_t why_size);
/* Writes the help text to standard output. */
void options_help(void);

/* A size with an optional suffix K, M, G or T (powers of 1024): 0 or -EINVAL. Pure. */
int options_size(const char *text, uint64_t *size);

#endif
