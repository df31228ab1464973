/* host_done.c - the queue of completions. */
#include "host_done.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

enum { HOST_DONE_FIRST = 64 };

int
host_done_init(struct host_done *done)
{
    memset(done, 0, sizeof(*done));
    done->event = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (done->event < 0)
        return -errno;
    done->items = calloc(HOST_DONE_FIRST, sizeof(done->items[0]));
    if (done->items == NULL) {
        close(done->event);
        done->event = -1;
        return -ENOMEM;
    }
    done->capacity = HOST_DONE_FIRST;
    pthread_mutex_init(&done->lock, NULL);
    return 0;
}

void
host_done_fini(struct host_done *done)
{
    if (done->event < 0)
        return;
    close(done->event);
    done->event = -1;
    free(done->items);
    done->items = NULL;
    pthread_mutex_destroy(&done->lock);
}

int
host_done_reserve(struct host_done *done, unsigned under_way)
{
    int error = 0;

    pthread_mutex_lock(&done->lock);
    unsigned needed = (unsigned)AO_load(&done->count) + under_way + 1;
    if (needed > done->capacity) {
        unsigned capacity = needed * 2;
        struct env_completion *items = realloc(done->items, capacity * sizeof(items[0]));
        if (items != NULL) {
            done->items = items;
            done->capacity = capacity;
        } else {
            error = -ENOMEM;
        }
    }
    pthread_mutex_unlock(&done->lock);
    return error;
}

void
host_done_push(struct host_done *done, uint64_t tag, int64_t result)
{
    uint64_t one = 1;

    pthread_mutex_lock(&done->lock);
    unsigned count = (unsigned)AO_load(&done->count);
    assert(count < done->capacity);
    done->items[count] = (struct env_completion){tag, result};
    AO_store_release(&done->count, count + 1);
    pthread_mutex_unlock(&done->lock);
    /* The counter cannot overflow: the loop reads it whenever it takes. */
    while (write(done->event, &one, sizeof(one)) < 0 && errno == EINTR)
        ;
}

unsigned
host_done_take(struct host_done *done, struct env_completion *to, unsigned capacity)
{
    uint64_t drained;

    if (AO_load_acquire(&done->count) == 0)
        return 0;
    pthread_mutex_lock(&done->lock);
    unsigned count = (unsigned)AO_load(&done->count);
    unsigned taken = count < capacity ? count : capacity;
    memcpy(to, done->items, taken * sizeof(to[0]));
    memmove(done->items, done->items + taken, (count - taken) * sizeof(to[0]));
    AO_store_release(&done->count, count - taken);
    pthread_mutex_unlock(&done->lock);
    /* What stays is taken at the next turn, which follows at once because this one did something. */
    while (read(done->event, &drained, sizeof(drained)) < 0 && errno == EINTR)
        ;
    return taken;
}
