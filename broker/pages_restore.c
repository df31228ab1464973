/* pages_restore.c - the table from and for the manifest. See pages.h. */
#include "pages_parts.h"

int
pages_restore(struct pages *pages, mshm_pid pid, data_location location)
{
    if (pid == 0 || pid >= MSHM_MAX_PIDS || location == 0 || location >> 60 != 0)
        return MSHM_CORRUPT;
    if (pid < frames_pid_end(pages->frames) && pages_word(pages, pid) != 0)
        return MSHM_CORRUPT;
    int status = frames_pid_restore(pages->frames, pid, pages_disk_word(location));
    if (status == MSHM_OK)
        pages->figures.on_disk_pages++;
    return status;
}

int
pages_restored(struct pages *pages, mshm_timestamp newest)
{
    pages->newest_base = newest;
    if (pages->clock < newest)
        pages->clock = newest;
    frames_pids_restored(pages->frames);
    return MSHM_OK;
}

int
pages_restore_stray(struct pages *pages, mshm_pid pid, const struct mshm_version *version)
{
    if (pages_location(pages, pid) == 0)
        return MSHM_CORRUPT;
    const struct blind_entry *former = blind_gathered(pages->blind, pid);
    if (version->timestamp > pages->clock ||
        (former != NULL && former->timestamp > version->timestamp))
        return MSHM_CORRUPT;
    int status = pages_carry_reserve(pages, 1, (uint64_t)version->key_size + version->value_size);
    if (status == MSHM_OK)
        pages_write_blind(pages, pid, version);
    return status;
}

/* --- for the manifest --- */

/* The first place that has not taken effect yet and whose pid is not below `pid`. */
static uint32_t
place_from(const struct pages *pages, mshm_pid pid)
{
    uint32_t low = pages->published, high = pages->place_count;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (pages->places[middle].pid < pid)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

/* What the manifest says of a place whose turn to take effect has not come, once any of them has. */
static data_location
place_durable(const struct place *place, data_location location)
{
    if ((place->flags & PLACE_FREED) != 0)
        return 0;
    return place->location != 0 ? place->location : location;
}

bool
pages_each_durable(const struct pages *pages, mshm_pid *next, uint32_t budget,
                   void (*each)(void *argument, mshm_pid pid, data_location location),
                   void *argument)
{
    mshm_pid end = frames_pid_end(pages->frames), pid = *next > 0 ? *next : 1;
    uint32_t place = pages->published > 0 ? place_from(pages, pid) : pages->place_count;
    for (; budget > 0 && pid < end; budget--, pid++) {
        data_location location = pages_durable(pages, pid, pages_word(pages, pid));
        if (place < pages->place_count && pages->places[place].pid == pid)
            location = place_durable(&pages->places[place++], location);
        if (location != 0)
            each(argument, pid, location);
    }
    *next = pid;
    return pid < end;
}
