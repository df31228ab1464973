/* pages_publish.c - the checkpoint counts: its results take effect, place by place. See pages.h.
 *
 * Locations change here and nowhere else. What became of a page since the seal decides where its new location goes:
 *
 *   its word now     what happens
 *   RESIDENT         state: location, since, chain; CLEAN unless it was written to since
 *   ON_DISK          the word leads to the new record (a page that was not in memory at the seal)
 *   NONE, MOVED      freed since the seal: the next checkpoint reports that, and names this record
 *   NONE, MOVED and  freed before the seal: nothing holds the pid any more
 *   the place too
 */
#include "pages_parts.h"

/* The records below the new one: none; the former newest one and those below that; or those, and the former newest one
 * is part of the new one. NULL also when they are not known here. */
static struct page_chain *
chain_after(const struct page_state *state, data_location result)
{
    unsigned count = data_location_older(result), former = data_location_older(state->location);
    const struct page_chain *chain = state->chain;
    data_location older[DATA_CHAIN_MAX];
    if (count == 0 || (former > 0 && chain == NULL))
        return NULL;
    if (count == former)
        return chain_copy(chain->below, chain->older, count);
    assert(count == former + 1 && count <= DATA_CHAIN_MAX);
    older[0] = state->location;
    if (former > 0)
        memcpy(older + 1, chain->older, former * sizeof(*older));
    return chain_copy(state->since, older, count);
}

static void
publish_resident(struct pages *pages, const struct place *place, struct page_state *state)
{
    state_leave(pages, state);
    state->place = 0;
    if (place->location != 0) {
        struct page_chain *chain = chain_after(state, place->location);
        free(state->chain);
        state->chain = chain;
        state->location = place->location;
        state->since = pages->cut;
        if (chain == NULL)
            pid_set_remove(&pages->chained, state->pid);
    } else if ((place->flags & PLACE_WHOLE) != 0) {
        state->flags |= STATE_WHOLE; /* that is still due */
    }
    state_enter(pages, state);
    if (state->location == 0)
        state_dirty(pages, state); /* no record at all: it must not leave memory */
}

static void
place_publish(struct pages *pages, const struct place *place)
{
    AO_t *map = frames_map(pages->frames, place->pid);
    AO_t word = AO_load(map);
    assert((place->flags & PLACE_PACKED) != 0);
    if ((place->flags & PLACE_FREED) != 0)
        pages_pid_release(pages, place->pid);
    else if (mshm_map_state(word) == MSHM_MAP_RESIDENT)
        publish_resident(pages, place, &pages->states[pages_unit(pages, word)]);
    else if (place->location != 0 && mshm_map_state(word) == MSHM_MAP_ON_DISK)
        AO_store_release(map, pages_disk_word(place->location));
    else if (place->location != 0)
        pages->newest[place->pid] = place->location;
    if ((place->flags & PLACE_BLIND) != 0)
        blind_settle(pages->blind, place->pid);
}

bool
pages_published(struct pages *pages, uint32_t budget)
{
    assert(pages->sealed);
    while (budget-- > 0 && pages->published < pages->place_count)
        place_publish(pages, &pages->places[pages->published++]);
    if (pages->published < pages->place_count)
        return true;
    blind_release(pages->blind);
    free(pages->places);
    pages->places = NULL;
    pages->place_count = pages->published = 0;
    pages->sealed = false;
    return false;
}
