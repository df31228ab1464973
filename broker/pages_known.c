/* pages_known.c - what is known of leaves that are not in memory, as far as that is remembered.
 *
 * The page map has room for the address of a page's newest record, and the addresses of the others stand in that record's
 * head: whoever reads the page has to wait for two rounds of I/O, and whoever puts a delta on top of it would have to read
 * it for its head alone. A table of fixed size saves that for the leaves that left memory or were written last.
 */
#include "pages_parts.h"

enum {
    TABLE_SHARE = 16,         /* this part of the cache's size is the table's, at most */
    TABLE_BYTES_MAX = 8 << 20 /* of private memory */
};
static_assert(sizeof(struct page_known) == 48, "48 bytes for a leaf that is remembered");

int
known_create(struct pages *pages)
{
    uint64_t bytes = pages->geometry.frames_size / TABLE_SHARE;
    if (bytes > TABLE_BYTES_MAX)
        bytes = TABLE_BYTES_MAX;
    pages->known_places = (uint32_t)(bytes / sizeof(struct page_known)) + 1;
    pages->known = calloc(pages->known_places, sizeof(struct page_known));
    return pages->known != NULL ? MSHM_OK : MSHM_NO_MEMORY;
}

/* Pids are given out densely, so neighbours do not meet. */
void
pages_remember(struct pages *pages, mshm_pid pid, const struct page_known *known)
{
    if (known->location != 0)
        pages->known[pid % pages->known_places] = *known;
}

/* No two records ever have the same address. */
bool
pages_recall(const struct pages *pages, mshm_pid pid, data_location location,
             struct page_known *known)
{
    const struct page_known *kept = &pages->known[pid % pages->known_places];
    if (location == 0 || kept->location != location)
        return false;
    *known = *kept;
    return true;
}
