/* check_report.h - what was found: kept until all has been looked at, then printed as lines or as one JSON object. */
#ifndef CHECK_REPORT_H
#define CHECK_REPORT_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

struct report;

/* One finding. What is not known is 0 or NULL. */
struct finding {
    const char *file; /* "data/000000000000002a.dat" */
    bool has_offset;
    uint64_t offset; /* bytes */
    uint32_t pid;
    const char *bucket; /* name */
    uint32_t bucket_size;
    bool has_range;
    const uint8_t *low, *high;
    uint16_t low_size, high_size; /* high_size MSHM_FENCE_INFINITE: no upper bound */
    const char *text;
};

struct report *report_create(void); /* NULL: out of memory */
void report_destroy(struct report *report);
/* Copies the finding. Beyond REPORT_MAX findings are only counted. */
enum { REPORT_MAX = 100000 };
void report_damage(struct report *report, const struct finding *finding);
/* The same with a text made by a format. */
void report_damagef(struct report *report, struct finding finding, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
/* The same with a text of the broker's readers, which begins with a file's name and may tell an offset. */
void report_damage_text(struct report *report, const char *text);
uint64_t report_count(const struct report *report);
/* Forgets everything: it is looked at once more. */
void report_clear(struct report *report);
/* The line of the first finding, or "". */
void report_first(const struct report *report, char *line, size_t size);
/* One line for each finding. */
void report_print(const struct report *report, FILE *to);
/* An array of objects; the caller's. NULL: out of memory. */
json_t *report_json(const struct report *report);

/* A key for a person, allocated with malloc: in quotes, with \xNN for what is no printable ASCII. NULL: out of memory. */
char *report_key(const uint8_t *key, size_t size);
/* A range of keys in the same way: from "a" up to but without "b". */
char *report_range(const uint8_t *low, size_t low_size, const uint8_t *high, size_t high_size,
                   bool unbounded);

#endif
