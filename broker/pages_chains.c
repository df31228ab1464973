/* pages_chains.c - where the older records of pages are that are not in memory, as far as that is remembered.
 *
 * The page map has room for the address of a page's newest record, and the others stand in that record's head: whoever
 * reads the page has to wait for two rounds of I/O. A table of fixed size saves the first of them for the pages that left
 * memory or were written last. Its entries are hints: one that is not about the page's newest record says nothing.
 */
#include "pages_parts.h"

enum {
    TABLE_SHARE = 16,         /* this part of the cache's size is the table's, at most */
    TABLE_BYTES_MAX = 8 << 20 /* of private memory */
};

struct pages_chain {
    data_location location; /* of the newest record; 0: nothing is here */
    data_location older[DATA_CHAIN_MAX];
};

int
chains_create(struct pages *pages)
{
    uint64_t bytes = pages->geometry.frames_size / TABLE_SHARE;
    if (bytes > TABLE_BYTES_MAX)
        bytes = TABLE_BYTES_MAX;
    pages->chain_places = (uint32_t)(bytes / sizeof(struct pages_chain)) + 1;
    pages->chains = calloc(pages->chain_places, sizeof(struct pages_chain));
    return pages->chains != NULL ? MSHM_OK : MSHM_NO_MEMORY;
}

/* Pids are given out densely, so neighbours do not meet. */
static struct pages_chain *
chain_place(const struct pages *pages, mshm_pid pid)
{
    return &pages->chains[pid % pages->chain_places];
}

void
pages_chain_remember(struct pages *pages, mshm_pid pid, data_location location,
                     const data_location *older)
{
    unsigned count = data_location_older(location);
    if (count == 0 || count > DATA_CHAIN_MAX || older == NULL)
        return;
    struct pages_chain *chain = chain_place(pages, pid);
    *chain = (struct pages_chain){.location = location};
    memcpy(chain->older, older, count * sizeof(*older));
}

bool
pages_chain_recall(const struct pages *pages, mshm_pid pid, data_location location,
                   data_location *older)
{
    const struct pages_chain *chain = chain_place(pages, pid);
    unsigned count = data_location_older(location);
    if (count == 0 || chain->location != location)
        return false;
    memcpy(older, chain->older, count * sizeof(*older));
    return true;
}
