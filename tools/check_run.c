/* check_run.c - the whole look, and what a broker that goes on meanwhile makes of it.
 *
 * Beside a broker every file may be gone, or used again, between the moment that something names it and the moment that it is
 * opened, and a record that is being written may be read half. So what is found there is believed only when it is found once
 * more, the same, with the same manifest in force; while the manifest changes, all is looked at again. Data files never change
 * and are held open, so once all of them are open the rest of the look does not depend on the broker.
 */
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "check_database.h"
#include "mshm/status.h"

enum { ATTEMPTS = 30, PAUSE_NS = 5 * 1000 * 1000 };

static bool
manifest_same(const struct check *check)
{
    struct manifest now;
    return manifest_load(&check->env, &now, NULL, NULL, 0) == MSHM_OK &&
           now.number == check->manifest.number && now.sequence == check->manifest.sequence;
}

/* What depends on the broker: the manifest, the files being there, the log. */
static int
moving_parts_look(struct check *check, char *why, size_t why_size)
{
    int status = check_state_load(check, why, why_size);
    if (status != MSHM_OK)
        return status;
    check_manifest(check);
    return check_log(check, why, why_size);
}

/* Is this the finding of the last attempt, with nothing in between that would explain it? */
static bool
found_again(const struct check *check, int status, const char *before, const char *now)
{
    return now[0] != '\0' && strcmp(before, now) == 0 &&
           (status != MSHM_OK || manifest_same(check));
}

static bool
may_pass(int status)
{
    return status == MSHM_OK || status == MSHM_CORRUPT || status == MSHM_IO ||
           status == MSHM_NOT_FOUND;
}

static int
moving_parts(struct check *check, char *why, size_t why_size)
{
    char before[600] = "", now[600] = "";
    int status = MSHM_OK;
    for (int i = 0; i < ATTEMPTS; i++) {
        status = moving_parts_look(check, why, why_size);
        if (!check->online || !may_pass(status) ||
            (status == MSHM_OK && report_count(check->report) == 0))
            return status;
        report_first(check->report, now, sizeof now);
        if (found_again(check, status, before, now))
            return status;
        memcpy(before, now, sizeof now);
        report_clear(check->report);
        check_state_free(check);
        nanosleep(&(struct timespec){.tv_nsec = PAUSE_NS << (i < 5 ? i : 5)}, NULL);
    }
    if (now[0] == '\0')
        return status; /* it says why itself */
    snprintf(why, why_size, "the broker changes the files faster than they can be read: %s", now);
    return MSHM_BUSY;
}

int
check_run(struct check *check, char *why, size_t why_size)
{
    why[0] = '\0';
    int status = moving_parts(check, why, why_size);
    if (status == MSHM_CORRUPT)
        return MSHM_OK; /* reported, and nothing else can be looked at */
    if (status == MSHM_OK)
        status = check_pages(check);
    if (status == MSHM_OK)
        status = check_files(check);
    if (status == MSHM_OK)
        status = check_trees(check);
    if (status == MSHM_OK)
        check_catalogue_figures(check);
    if (status != MSHM_OK && why[0] == '\0')
        snprintf(why, why_size, "%s", mshm_strerror(status));
    return status;
}
