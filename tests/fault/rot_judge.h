/* fault/rot_judge.h - changes one place in the files of the small database (rot.h), starts on them and judges what comes
 * of it: damage in a record of a page makes that page's keys unreadable and no others; a refusal names file and offset;
 * what is neither is harmless. */
#ifndef ROT_JUDGE_H
#define ROT_JUDGE_H

#include "fault/rot.h"

extern struct rot rot; /* of the case that runs */

/* Counted over a whole sweep. */
struct rot_sum {
    unsigned starts, refused, corrupt, harmless;
};
extern struct rot_sum rot_sum;
/* Prints it, and begins anew. */
void rot_sum_print(const char *what);

bool rot_is_data(unsigned file);
bool rot_is_log(unsigned file);
/* Bytes of a file that mean something: behind it all are zero. */
uint64_t rot_used_size(unsigned file);
/* Pages with a record in [offset, end) of the file; the head of a data file belongs to all of its pages. */
unsigned rot_damaged_pages(unsigned file, uint64_t offset, uint64_t end,
                           mshm_pid pids[ROT_RECORDS]);

/* Starts on files of which one was changed in [offset, end), and fails when that shows anything that it may not. Only
 * outcome.lost, of damage in the log, is the caller's to judge. */
struct rot_outcome rot_judge(unsigned file, uint64_t offset, uint64_t end);
/* Flips one bit of the files as they were, and judges it: no commit may be lost. */
void rot_flip_whole(unsigned file, uint64_t offset, unsigned bit);

#endif
