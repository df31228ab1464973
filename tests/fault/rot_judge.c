/* rot_judge.c - what may come of one change of the files. */
#include "fault/rot_judge.h"

#include <check.h>
#include <stdio.h>
#include <string.h>

#include "mshm/status.h"

struct rot rot;
struct rot_sum rot_sum;

void
rot_sum_print(const char *what)
{
    printf("%s: %u starts: %u refused, %u with damaged pages, %u harmless\n", what, rot_sum.starts,
           rot_sum.refused, rot_sum.corrupt, rot_sum.harmless);
    memset(&rot_sum, 0, sizeof rot_sum);
}

bool
rot_is_data(unsigned file)
{
    return strncmp(rot.files[file].name, "data/", 5) == 0;
}

bool
rot_is_log(unsigned file)
{
    return strncmp(rot.files[file].name, "wal/", 4) == 0;
}

/* A refusal names the file, and the place in it. */
static void
check_refusal(unsigned file, const struct rot_outcome *outcome)
{
    const char *name = strrchr(rot.files[file].name, '/');

    name = name != NULL ? name + 1 : rot.files[file].name;
    ck_assert_msg(outcome->status == MSHM_CORRUPT || outcome->status == MSHM_VERSION,
                  "%s: refused with %d: %s", name, outcome->status, rot.why);
    ck_assert_msg(strstr(rot.why, name) != NULL && strstr(rot.why, "offset ") != NULL,
                  "%s is damaged, but the refusal is: %s", name, rot.why);
}

/* Pages with a record in [offset, end) of the file; the head of a data file belongs to all of its pages. */
unsigned
rot_damaged_pages(unsigned file, uint64_t offset, uint64_t end, mshm_pid pids[ROT_RECORDS])
{
    unsigned count = 0;

    for (unsigned i = 0; i < rot.record_count; i++) {
        const struct rot_record *record = &rot.records[i];
        uint64_t at = data_location_offset(record->location);
        if (record->file == file &&
            ((offset < at + data_location_size(record->location) && end > at) ||
             offset < sizeof(struct data_file_header)))
            pids[count++] = record->pid;
    }
    return count;
}

/* A start on files of which one was changed in [offset, end): what may come of it. */
struct rot_outcome
rot_judge(unsigned file, uint64_t offset, uint64_t end)
{
    mshm_pid pids[ROT_RECORDS];
    struct rot_outcome outcome;
    unsigned count = rot_is_data(file) ? rot_damaged_pages(file, offset, end, pids) : 0;

    rot_look(&rot, pids, count, &outcome);
    if (outcome.status == MSHM_OK)
        rot_kill(&rot);
    else
        check_refusal(file, &outcome);
    ck_assert_msg(outcome.elsewhere == 0, "%s at %llu: %u keys of other pages cannot be read",
                  rot.files[file].name, (unsigned long long)offset, outcome.elsewhere);
    ck_assert_msg(count == 0 || outcome.status != MSHM_OK || outcome.corrupt > 0,
                  "%s at %llu: damage in a record was not found", rot.files[file].name,
                  (unsigned long long)offset);
    ck_assert_msg(outcome.lost == 0 || rot_is_log(file), "%s at %llu: %u commits are lost",
                  rot.files[file].name, (unsigned long long)offset, outcome.lost);
    rot_sum.starts++;
    rot_sum.refused += outcome.status != MSHM_OK;
    rot_sum.corrupt += outcome.corrupt > 0;
    rot_sum.harmless += outcome.status == MSHM_OK && outcome.corrupt == 0;
    return outcome;
}

/* Bytes of a file that mean something: behind it all are zero. */
uint64_t
rot_used_size(unsigned file)
{
    uint64_t size = rot.files[file].size;

    while (size > 0 && rot.files[file].bytes[size - 1] == 0)
        size--;
    return size;
}

void
rot_flip_whole(unsigned file, uint64_t offset, unsigned bit)
{
    rot_restore(&rot);
    rot_bytes(&rot, file)[offset] ^= (uint8_t)(1u << bit);
    struct rot_outcome outcome = rot_judge(file, offset, offset + 1);
    ck_assert_msg(outcome.lost == 0, "%s at %llu: durable commits are lost", rot.files[file].name,
                  (unsigned long long)offset);
}
