#include "check_report.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "mshm/page.h"

/* A finding that owns its bytes. */
struct kept {
    struct finding finding;
    char bytes[]; /* file, text, bucket, low, high */
};

struct report {
    struct kept **list;
    uint64_t count, capacity;
    uint64_t total;
    bool short_of_memory;
};

struct report *
report_create(void)
{
    return calloc(1, sizeof(struct report));
}

void
report_clear(struct report *report)
{
    for (uint64_t i = 0; i < report->count; i++)
        free(report->list[i]);
    report->count = report->total = 0;
}

void
report_destroy(struct report *report)
{
    if (report == NULL)
        return;
    report_clear(report);
    free(report->list);
    free(report);
}

static const void *
keep(char **at, const void *bytes, size_t size)
{
    char *place = *at;
    if (size != 0)
        memcpy(place, bytes, size);
    *at += size;
    return place;
}

static struct kept *
finding_copy(const struct finding *finding)
{
    bool unbounded = finding->high_size == MSHM_FENCE_INFINITE;
    size_t file = finding->file != NULL ? strlen(finding->file) + 1 : 0;
    size_t text = strlen(finding->text) + 1, high = unbounded ? 0 : finding->high_size;
    struct kept *kept =
        malloc(sizeof *kept + file + text + finding->bucket_size + finding->low_size + high);
    if (kept == NULL)
        return NULL;
    char *at = kept->bytes;
    kept->finding = *finding;
    if (finding->file != NULL)
        kept->finding.file = keep(&at, finding->file, file);
    kept->finding.text = keep(&at, finding->text, text);
    if (finding->bucket != NULL)
        kept->finding.bucket = keep(&at, finding->bucket, finding->bucket_size);
    if (finding->has_range) {
        kept->finding.low = keep(&at, finding->low, finding->low_size);
        kept->finding.high = keep(&at, finding->high, high);
    }
    return kept;
}

void
report_damage(struct report *report, const struct finding *finding)
{
    report->total++;
    if (report->count >= REPORT_MAX || report->short_of_memory)
        return;
    if (report->count == report->capacity) {
        uint64_t capacity = report->capacity != 0 ? report->capacity * 2 : 64;
        struct kept **grown = realloc(report->list, capacity * sizeof(struct kept *));
        if (grown == NULL) {
            report->short_of_memory = true;
            return;
        }
        report->list = grown;
        report->capacity = capacity;
    }
    struct kept *kept = finding_copy(finding);
    if (kept == NULL)
        report->short_of_memory = true;
    else
        report->list[report->count++] = kept;
}

void
report_damagef(struct report *report, struct finding finding, const char *format, ...)
{
    char text[500];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    finding.text = text;
    report_damage(report, &finding);
}

void
report_damage_text(struct report *report, const char *text)
{
    char file[100];
    size_t name = strcspn(text, ":,");
    const char *offset = strstr(text, "offset ");
    struct finding finding = {.text = text};
    if (text[name] != '\0' && name < sizeof file && memchr(text, ' ', name) == NULL) {
        memcpy(file, text, name);
        file[name] = '\0';
        finding.file = file;
        finding.text = text + name + 1 + strspn(text + name + 1, " ");
    }
    if (offset != NULL) {
        finding.has_offset = true;
        finding.offset = strtoull(offset + strlen("offset "), NULL, 10);
        /* "offset 17: what" needs it only once. */
        const char *end = strchr(offset, ':');
        if (finding.text == offset && end != NULL)
            finding.text = end + 1 + strspn(end + 1, " ");
    }
    if (offset == NULL && finding.file != NULL && strstr(text, "header") != NULL)
        finding.has_offset = true; /* which stands at 0 */
    report_damage(report, &finding);
}

uint64_t
report_count(const struct report *report)
{
    return report->total;
}

/* --- keys --- */

char *
report_key(const uint8_t *key, size_t size)
{
    char *text = malloc(size * 4 + 3), *at = text;
    if (text == NULL)
        return NULL;
    *at++ = '"';
    for (size_t i = 0; i < size; i++) {
        if (key[i] >= 0x20 && key[i] < 0x7f && key[i] != '"' && key[i] != '\\')
            *at++ = (char)key[i];
        else
            at += sprintf(at, "\\x%02x", key[i]);
    }
    *at++ = '"';
    *at = '\0';
    return text;
}

char *
report_range(const uint8_t *low, size_t low_size, const uint8_t *high, size_t high_size,
             bool unbounded)
{
    char *from = low_size != 0 ? report_key(low, low_size) : strdup("the first key");
    char *to = unbounded ? strdup("the last key") : report_key(high, high_size);
    char *range = NULL;
    if (from != NULL && to != NULL) {
        size_t size = strlen(from) + strlen(to) + 40;
        range = malloc(size);
        if (range != NULL)
            snprintf(range, size, "keys from %s %s %s", from, unbounded ? "to" : "up to", to);
    }
    free(from);
    free(to);
    return range;
}

/* --- output --- */

static void
print_finding(const struct finding *finding, FILE *to)
{
    if (finding->file != NULL)
        fputs(finding->file, to);
    if (finding->has_offset)
        fprintf(to, ", offset %" PRIu64, finding->offset);
    if (finding->file != NULL)
        fputs(": ", to);
    if (finding->bucket != NULL) {
        char *name = report_key((const uint8_t *)finding->bucket, finding->bucket_size);
        fprintf(to, "bucket %s, ", name != NULL ? name : "?");
        free(name);
    }
    if (finding->pid != 0)
        fprintf(to, "page %" PRIu32 ": ", finding->pid);
    fputs(finding->text, to);
    if (finding->has_range) {
        char *range = report_range(finding->low, finding->low_size, finding->high,
                                   finding->high_size, finding->high_size == MSHM_FENCE_INFINITE);
        fprintf(to, "; %s", range != NULL ? range : "");
        free(range);
    }
    fputc('\n', to);
}

void
report_first(const struct report *report, char *line, size_t size)
{
    line[0] = '\0';
    FILE *to = report->count > 0 ? fmemopen(line, size, "w") : NULL;
    if (to == NULL)
        return;
    print_finding(&report->list[0]->finding, to);
    fclose(to);
    line[size - 1] = '\0';
    line[strcspn(line, "\n")] = '\0';
}

void
report_print(const struct report *report, FILE *to)
{
    for (uint64_t i = 0; i < report->count; i++)
        print_finding(&report->list[i]->finding, to);
    if (report->total > report->count)
        fprintf(to, "and %" PRIu64 " more\n", report->total - report->count);
}

/* A key without its quotes. */
static json_t *
json_key(const uint8_t *key, size_t size)
{
    char *text = report_key(key, size);
    if (text == NULL)
        return NULL;
    json_t *string = json_stringn(text + 1, strlen(text) - 2);
    free(text);
    return string;
}

static json_t *
json_finding(const struct finding *finding)
{
    json_t *object = json_object();
    if (finding->file != NULL)
        json_object_set_new(object, "file", json_string(finding->file));
    if (finding->has_offset)
        json_object_set_new(object, "offset", json_integer((json_int_t)finding->offset));
    if (finding->pid != 0)
        json_object_set_new(object, "page", json_integer(finding->pid));
    if (finding->bucket != NULL) {
        json_t *name = json_stringn(finding->bucket, finding->bucket_size);
        if (name == NULL) /* no valid UTF-8 */
            name = json_key((const uint8_t *)finding->bucket, finding->bucket_size);
        json_object_set_new(object, "bucket", name);
    }
    if (finding->has_range) {
        json_object_set_new(object, "low", json_key(finding->low, finding->low_size));
        json_object_set_new(object, "high",
                            finding->high_size == MSHM_FENCE_INFINITE
                                ? json_null()
                                : json_key(finding->high, finding->high_size));
    }
    json_object_set_new(object, "text", json_string(finding->text));
    return object;
}

json_t *
report_json(const struct report *report)
{
    json_t *list = json_array();
    for (uint64_t i = 0; i < report->count; i++)
        json_array_append_new(list, json_finding(&report->list[i]->finding));
    return list;
}
