/* pages_check.c - does the table agree with itself, the page map and the frames? See pages.h. */
#include "pages_parts.h"

struct check {
    const char *why;
    struct pages_figures figures; /* counted anew */
    uint64_t cold_bytes, hot_bytes;
    uint64_t places;
    uint32_t changed, chained;
};

static bool
refuse(struct check *check, const char *why)
{
    check->why = why;
    return false;
}

static bool
check_older(struct check *check, const struct page_state *state)
{
    if (state->location >> 60 != 0)
        return refuse(check, "a location that cannot be");
    const struct page_chain *chain = state->chain;
    if (chain != NULL && data_location_older(state->location) == 0)
        return refuse(check, "older records of a full one");
    if (chain != NULL && chain->below > state->since)
        return refuse(check, "a newest record that is older than the one below it");
    for (unsigned i = 0; chain != NULL && i < data_location_older(state->location); i++)
        if (chain->older[i] == 0)
            return refuse(check, "an older record that is nowhere");
    return true;
}

static bool
check_resident(const struct pages *pages, struct check *check, mshm_pid pid, AO_t word)
{
    const struct page_state *state = &pages->states[pages_unit(pages, word)];
    if (state->pid != pid || state->class != mshm_map_class(word))
        return refuse(check, "a word and the state of its frame disagree");
    if (!frames_in_use(pages->frames, frames_address(pages->frames, word), state->class))
        return refuse(check, "a page in a frame that is not in use");
    if ((state->flags & STATE_KEPT) != 0)
        return refuse(check, "a page in a frame that is kept for a job");
    bool dirty = (state->flags & STATE_DIRTY) != 0;
    if (dirty != pid_set_has(&pages->changed, pid))
        return refuse(check, "a page is dirty and not among the changed ones, or the reverse");
    bool chained = pid_set_has(&pages->chained, pid);
    if (chained && (state->place != 0 || data_location_older(state->location) == 0))
        return refuse(check, "a page that is to be written in full for no reason");
    check->chained += chained;
    if (state->location == 0 && !dirty && state->place == 0)
        return refuse(check, "a clean page without a record");
    if (state->place != 0 &&
        (state->place > pages->place_count || pages->places[state->place - 1].pid != pid))
        return refuse(check, "a sealed page and its place disagree");
    uint64_t bytes = mshm_class_size(state->class);
    check->figures.resident_pages++;
    check->figures.dirty_pages += dirty;
    check->changed += dirty;
    if (state->place != 0)
        check->figures.sealed_bytes += bytes;
    else if (dirty)
        check->figures.dirty_bytes += bytes;
    else if ((state->flags & STATE_HOT) != 0)
        check->hot_bytes += bytes;
    else
        check->cold_bytes += bytes;
    return check_older(check, state);
}

static bool
check_pid(const struct pages *pages, struct check *check, mshm_pid pid)
{
    AO_t word = pages_word(pages, pid);
    bool changed = pid_set_has(&pages->changed, pid);
    switch (mshm_map_state(word)) {
    case MSHM_MAP_RESIDENT:
        if (blind_gathered(pages->blind, pid) != NULL)
            return refuse(check, "gathered blind writes of a page in memory");
        return check_resident(pages, check, pid, word);
    case MSHM_MAP_ON_DISK:
        check->figures.on_disk_pages++;
        check->changed += changed;
        if (changed != (blind_gathered(pages->blind, pid) != NULL))
            return refuse(check, "blind writes and the changed pids disagree");
        return pages_word_location(word) != 0 || refuse(check, "a page on disk without a place");
    case MSHM_MAP_NONE:
    case MSHM_MAP_MOVED:
        check->changed += changed;
        if (changed && word == 0)
            return refuse(check, "a pid without a page has changed");
        return blind_gathered(pages->blind, pid) == NULL ||
               refuse(check, "blind writes of a page that is no more");
    default:
        return refuse(check, "a word of a state that does not exist");
    }
}

/* Every place leads to a state that still holds what the job needs. */
static bool
check_place(const struct pages *pages, struct check *check, const struct place *place)
{
    if ((place->flags & (PLACE_FREED | PLACE_BLIND)) != 0)
        return true;
    const struct page_state *state = &pages->states[place->unit];
    if ((place->flags & PLACE_KEPT) != 0) {
        check->figures.kept_bytes += mshm_class_size(place->class);
        if ((state->flags & STATE_KEPT) == 0)
            return refuse(check, "a kept frame that is not marked");
    }
    if ((place->flags & PLACE_PACKED) != 0)
        return (place->flags & PLACE_KEPT) == 0 || refuse(check, "a frame kept for nobody");
    if (state->pid != place->pid || state->class != place->class ||
        state->location != place->location)
        return refuse(check, "a sealed frame has changed under its place");
    return frames_in_use(pages->frames, pages_frame(pages, place->unit, place->class),
                         place->class) ||
           refuse(check, "a sealed frame is not in use");
}

static bool
check_sums(const struct pages *pages, struct check *check)
{
    const struct pages_figures *kept = &pages->figures, *counted = &check->figures;
    if (kept->resident_pages != counted->resident_pages ||
        kept->on_disk_pages != counted->on_disk_pages || kept->dirty_pages != counted->dirty_pages)
        return refuse(check, "the counts of pages are wrong");
    if (kept->dirty_bytes != counted->dirty_bytes || kept->sealed_bytes != counted->sealed_bytes ||
        kept->kept_bytes != counted->kept_bytes || pages->hot_bytes != check->hot_bytes ||
        pages->cold_bytes != check->cold_bytes)
        return refuse(check, "the sums of bytes are wrong");
    if (check->chained != pages->chained.count)
        return refuse(check, "a page that is not in memory is to be written in full");
    return check->changed == pages->changed.count ||
           refuse(check, "a pid beyond the end has changed");
}

static bool
check_all(const struct pages *pages, struct check *check)
{
    mshm_pid end = frames_pid_end(pages->frames);
    for (mshm_pid pid = 1; pid < end; pid++)
        if (!check_pid(pages, check, pid))
            return false;
    uint64_t states = 0, kept = 0;
    for (uint32_t unit = 0; unit < pages->unit_count; unit++) {
        states += pages->states[unit].pid != 0;
        kept += (pages->states[unit].flags & STATE_KEPT) != 0;
    }
    uint64_t places_kept = 0;
    for (uint32_t i = pages->published; i < pages->place_count; i++) {
        if (!check_place(pages, check, &pages->places[i]))
            return false;
        places_kept += (pages->places[i].flags & PLACE_KEPT) != 0;
        if (i > 0 && pages->places[i - 1].pid >= pages->places[i].pid)
            return refuse(check, "the sealed pages are out of order");
    }
    if (kept != places_kept || states != kept + check->figures.resident_pages)
        return refuse(check, "a state that no page and no job leads to");
    return check_sums(pages, check);
}

int
pages_check(struct pages *pages, const char **why)
{
    struct check check = {0};
    if (check_all(pages, &check))
        return blind_check(pages->blind, why);
    *why = check.why;
    return MSHM_CORRUPT;
}
