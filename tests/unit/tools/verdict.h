/* verdict.h - what mace-check says about a database, and what it saves of one, looked at by a test. */
#ifndef VERDICT_H
#define VERDICT_H

#include <jansson.h>

#include "salvage.h"

struct verdict {
    int status; /* of check_run */
    char why[300];
    uint64_t count;   /* findings */
    json_t *findings; /* an array */
    struct check_figures figures;
    uint64_t keys; /* in bucket "planted" */
};
/* As mace-check does, offline. */
void verdict_reach(struct verdict *verdict, const char *path);
void verdict_fini(struct verdict *verdict);
/* A finding whose text has `text`, in a file whose name has `file` (NULL: any). NULL: there is none. */
const json_t *verdict_find(const struct verdict *verdict, const char *file, const char *text);
/* All findings on stderr. */
void verdict_show(const struct verdict *verdict);

/* As mace-check --repair: what is lost, as an array of findings; the caller's. */
json_t *verdict_repair(const char *path, const char *to, struct salvage_result *result);
/* One of the ranges of an array of findings has the key of that bucket. */
int verdict_covers(const json_t *findings, const char *bucket, const char *key);

#endif
