/* check_manifest.c - what the manifest's reader passes over because nothing depends on it: the marks of older records, and
 * the bytes that have to be zero. */
#include <string.h>

#include "check_database.h"
#include "manifest_format.h"
#include "mshm/status.h"

struct walk {
    struct check *check;
    struct env_file *file;
    char name[MANIFEST_NAME_SIZE];
};

static void
report_at(const struct walk *walk, uint64_t offset, const char *text)
{
    struct finding finding = {
        .file = walk->name, .has_offset = true, .offset = offset, .text = text};
    report_damage(walk->check->report, &finding);
}

static int64_t
walk_read(const struct walk *walk, uint64_t offset, void *to, size_t size)
{
    return walk->check->env.file_read(walk->check->env.context, walk->file, offset, to, size);
}

static bool
all_zero(const uint8_t *bytes, size_t size)
{
    for (size_t i = 0; i < size; i++)
        if (bytes[i] != 0)
            return false;
    return true;
}

/* The mark area behind a record. It is durable with the record that follows; before that, its sectors may be there or
 * not. */
static void
mark_look(const struct walk *walk, const struct manifest *as_of)
{
    const struct manifest *manifest = &walk->check->manifest;
    uint8_t wanted[MANIFEST_MARK_SIZE], found[MANIFEST_MARK_SIZE] = {0};
    uint64_t next = as_of->size + MANIFEST_MARK_AREA;
    bool durable = next < manifest->size && next != manifest->unproven;
    manifest_mark_bytes(as_of, wanted);
    if (walk_read(walk, as_of->size, found, sizeof found) < 0)
        return;
    for (size_t at = 0; at < sizeof found; at += MANIFEST_SECTOR)
        if (memcmp(found + at, wanted + at, MANIFEST_SECTOR) != 0 &&
            (durable || !all_zero(found + at, MANIFEST_SECTOR)))
            report_at(walk, as_of->size + at, "damaged mark of the record before");
}

static void
records_look(const struct walk *walk)
{
    struct manifest as_of = walk->check->manifest;
    struct manifest_record record;
    uint64_t offset = MANIFEST_RECORDS_AT, end = as_of.size;
    while (offset < end && walk_read(walk, offset, &record, sizeof record) == sizeof record &&
           record.size >= sizeof record && record.size <= end - offset) {
        offset += record.size;
        if ((record.flags & MANIFEST_MORE) != 0)
            continue;
        as_of.size = offset;
        as_of.sequence = record.sequence;
        as_of.chain = record.header_crc;
        mark_look(walk, &as_of);
        offset += MANIFEST_MARK_AREA;
    }
}

void
check_manifest(struct check *check)
{
    struct walk walk = {.check = check};
    uint8_t head[MANIFEST_RECORDS_AT] = {0};
    manifest_name(walk.name, check->manifest.number);
    if (check->env.file_open(check->env.context, walk.name, ENV_OPEN_EXISTING, &walk.file) != 0)
        return; /* a broker has gone on, or the reader has told it */
    if (walk_read(&walk, 0, head, sizeof head) == sizeof head &&
        !all_zero(head + sizeof(struct manifest_header),
                  sizeof head - sizeof(struct manifest_header)))
        report_at(&walk, sizeof(struct manifest_header),
                  "a byte that is not zero between the head and the records");
    records_look(&walk);
    check->env.file_close(check->env.context, walk.file);
}
