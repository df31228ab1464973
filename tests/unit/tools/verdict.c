/* verdict.c - mace-check's own functions, asked by a test. */
#include "unit/tools/verdict.h"

#include <stdio.h>
#include <string.h>

#include "mshm/status.h"
#include "support/require.h"

void
verdict_reach(struct verdict *verdict, const char *path)
{
    struct check check = {.host = {.directory = -1}};
    struct report *report = report_create();
    *verdict = (struct verdict){0};
    verdict->status = check_open(&check, path, false, report, verdict->why, sizeof verdict->why);
    if (verdict->status == MSHM_OK)
        verdict->status = check_run(&check, verdict->why, sizeof verdict->why);
    verdict->count = report_count(report);
    verdict->findings = report_json(report);
    verdict->figures = check.figures;
    for (uint32_t i = 0; i < check.bucket_count; i++)
        if (strcmp(check.buckets[i].name, "planted") == 0)
            verdict->keys = check.buckets[i].keys;
    check_close(&check);
    report_destroy(report);
}

void
verdict_fini(struct verdict *verdict)
{
    json_decref(verdict->findings);
}

static const char *
word(const json_t *finding, const char *name)
{
    const char *text = json_string_value(json_object_get(finding, name));
    return text != NULL ? text : "";
}

const json_t *
verdict_find(const struct verdict *verdict, const char *file, const char *text)
{
    size_t i;
    json_t *finding;
    json_array_foreach(verdict->findings, i, finding)
    {
        if (strstr(word(finding, "text"), text) != NULL &&
            (file == NULL || strstr(word(finding, "file"), file) != NULL))
            return finding;
    }
    return NULL;
}

void
verdict_show(const struct verdict *verdict)
{
    fprintf(stderr, "%s %s\n", mshm_strerror(verdict->status), verdict->why);
    json_dumpf(verdict->findings, stderr, JSON_INDENT(1));
    fputc('\n', stderr);
}

json_t *
verdict_repair(const char *path, const char *to, struct salvage_result *result)
{
    struct check check = {.host = {.directory = -1}};
    struct report *report = report_create();
    char why[500] = "";
    require(check_open(&check, path, false, report, why, sizeof why) == MSHM_OK, "%s", why);
    require(check_run(&check, why, sizeof why) == MSHM_OK, "%s", why);
    require(salvage_run(&check, to, result, why, sizeof why) == MSHM_OK, "%s", why);
    check_close(&check);
    report_destroy(report);
    json_t *lost = report_json(result->lost);
    report_destroy(result->lost);
    result->lost = NULL;
    return lost;
}

int
verdict_covers(const json_t *findings, const char *bucket, const char *key)
{
    size_t i;
    json_t *finding;
    json_array_foreach(findings, i, finding)
    {
        const json_t *high = json_object_get(finding, "high");
        if (high == NULL || strcmp(word(finding, "bucket"), bucket) != 0)
            continue;
        if (strcmp(word(finding, "low"), key) <= 0 &&
            (json_is_null(high) || strcmp(key, word(finding, "high")) < 0))
            return 1;
    }
    return 0;
}
