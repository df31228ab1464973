/* place.h - the directory that a copy or a saved database goes to: nothing of anybody's may be in it. */
#ifndef PLACE_H
#define PLACE_H

#include <stdbool.h>

/* Nothing is there, or an empty directory. */
bool place_free(const char *path);

struct place {
    int directory; /* descriptor, -1: none */
    bool made;     /* by place_take */
    bool ours;     /* what stands in it now was put there after place_take */
};
/* Makes the directory if it is not there and takes the lock that a broker would take, so nobody else begins to fill it. 0,
 * -ENOTEMPTY (something is in it), -EWOULDBLOCK (somebody else is at it), -errno. place_leave in every case. */
int place_take(struct place *place, const char *path);
/* Removes all that was put there, and the directory when place_take made it. */
void place_clear(struct place *place, const char *path);
/* Closes it, which gives the lock back. */
void place_leave(struct place *place);

#endif
