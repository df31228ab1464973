/* manifest_current.c - CURRENT read, and what can be said when it is damaged. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "crc.h"
#include "env_status.h"
#include "manifest_parts.h"
#include "mshm/status.h"

/* The only intact manifest, by the name of a directory entry. */
struct survey {
    const struct env *env;
    uint64_t intact, number, highest;
    uint64_t
        after; /* names looked at: the list may not be walked and files opened at the same time */
};

static int
next_manifest(const char *entry, void *argument)
{
    struct survey *survey = argument;
    char again[MANIFEST_NAME_SIZE];
    uint64_t number;
    if (sscanf(entry, "MANIFEST-%" SCNu64, &number) != 1)
        return 0;
    manifest_name(again, number);
    if (strcmp(entry, again) == 0 && number > survey->after && number < survey->highest)
        survey->highest = number;
    return 0;
}

/* Looks through all manifests there are, ascending. */
static void
survey_run(struct survey *survey)
{
    const struct env *env = survey->env;
    for (;;) {
        survey->highest = UINT64_MAX;
        if (env->directory_list(env->context, "", next_manifest, survey) != 0 ||
            survey->highest == UINT64_MAX)
            return;
        survey->after = survey->highest;
        if (manifest_number_load(env, survey->after, true, NULL, NULL, NULL, 0) == MSHM_OK) {
            survey->intact++;
            survey->number = survey->after;
        }
    }
}

/* CURRENT is bad. What it named is not guessed, but what is there is told. */
static int
refuse_current(const struct env *env, const char *what, char *why, size_t why_size)
{
    struct survey survey = {.env = env};
    survey_run(&survey);
    if (why == NULL)
        return MSHM_CORRUPT;
    if (survey.intact == 1)
        snprintf(why, why_size,
                 "CURRENT: %s; MANIFEST-%" PRIu64 " is the only intact manifest here", what,
                 survey.number);
    else
        snprintf(why, why_size, "CURRENT: %s; %" PRIu64 " intact manifests are here", what,
                 survey.intact);
    return MSHM_CORRUPT;
}

/* Without CURRENT a directory is new, or its creation was cut short: then its only manifest can be the first. */
static int
current_missing(const struct env *env, char *why, size_t why_size)
{
    struct survey survey = {.env = env};
    survey_run(&survey);
    if (survey.intact != 0 && survey.number != 1)
        return refuse_current(env, "missing", why, why_size);
    if (why != NULL)
        snprintf(why, why_size, "CURRENT: there is no database here");
    return MSHM_NOT_FOUND;
}

unsigned
manifest_current_line(char line[MANIFEST_CURRENT_MAX], uint64_t number)
{
    char name[MANIFEST_NAME_SIZE];
    manifest_name(name, number);
    return (unsigned)snprintf(line, MANIFEST_CURRENT_MAX, "%s %08" PRIx32 "\n", name,
                              crc_extend(0, name, strlen(name)));
}

/* Takes the line apart: only exactly what manifest_current_line writes is taken, and, *checked false, the line of
 * format 1, which had no checksum. */
static bool
current_parse(const char *text, uint64_t size, uint64_t *number, bool *checked)
{
    char again[MANIFEST_CURRENT_MAX];
    if (sscanf(text, "MANIFEST-%" SCNu64, number) != 1)
        return false;
    *checked = true;
    if (manifest_current_line(again, *number) == size && memcmp(text, again, size) == 0)
        return true;
    *checked = false;
    int length = snprintf(again, sizeof again, "MANIFEST-%" PRIu64 "\n", *number);
    return (uint64_t)length == size && memcmp(text, again, size) == 0;
}

int
manifest_current_load(const struct env *env, uint64_t *number, bool *checked, char *why,
                      size_t why_size)
{
    char text[MANIFEST_CURRENT_MAX + 1] = "";
    struct env_file *file;
    int64_t result = env->file_open(env->context, "CURRENT", ENV_OPEN_EXISTING, &file);
    if (result == -ENOENT)
        return current_missing(env, why, why_size);
    if (result == 0) {
        result = env->file_read(env->context, file, 0, text, MANIFEST_CURRENT_MAX);
        env->file_close(env->context, file);
    }
    if (result < 0) {
        if (why != NULL)
            snprintf(why, why_size, "CURRENT: %s", strerror((int)-result));
        return env_status(result);
    }
    if (current_parse(text, (uint64_t)result, number, checked))
        return MSHM_OK;
    return refuse_current(env, "damaged at offset 0", why, why_size);
}
