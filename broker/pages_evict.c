/* pages_evict.c - what leaves memory: one hand over the frames that treats pages by what they have proved.
 *
 * A page that was read in is cold. Its first use says nothing, because somebody asked for it: a scan uses every page
 * once. Only a page that is found used at two visits of the hand becomes hot. While more than a quarter of the clean
 * bytes are cold, only cold pages are moved out, so a scan of everything runs through that quarter and leaves the
 * rest alone (Johnson & Shasha, "2Q", 1994: the queues A1 and Am, here as marks of one clock; Corbato, "A paging
 * experiment with the Multics system", 1968). Inner pages are hot from the start, and survive more visits without use
 * than leaves: readers give hints for the leaves, so a page above is hinted only when one below it is missed.
 *
 *   read in --> cold --used--> cold, SEEN --used--> HOT --not used for its chances--> on disk
 *                 |                |                 ^ |
 *                 '----not used----'--> on disk      '-' used: its chances anew
 */
#include "pages_parts.h"

enum {
    WALK_UNITS = 16384,       /* looked at in one call */
    WALK_UNITS_MOST = 524288, /* as long as nothing has been found */
    COLD_SHARE =
        4, /* this part of the clean bytes is left to pages that have not proved themselves */
    HINTS_TURNS =
        3, /* turns of the hand without result after which the hints do not count: they may be lies */
};

static bool
hot_allowed(const struct pages *pages)
{
    return pages->cold_bytes * COLD_SHARE <= pages->cold_bytes + pages->hot_bytes ||
           pages->barren > pages->unit_count; /* nothing cold can leave just now */
}

/* A process may set all hints all the time. */
static bool
hints_distrusted(const struct pages *pages)
{
    return pages->barren > (uint64_t)HINTS_TURNS * pages->unit_count;
}

static bool
state_fresh(const struct pages *pages, struct page_state *state, uint64_t now_ns)
{
    if ((state->flags & STATE_FRESH) == 0)
        return false;
    uint16_t age = (uint16_t)(pages_tick(now_ns) - state->came);
    if (pages->options.fresh_ns > 0 && age <= (pages->options.fresh_ns >> 20) + 1)
        return true;
    state->flags &= (uint8_t)~STATE_FRESH;
    return false;
}

/* A page was found used: it proves itself, or gets its chances anew. */
static void
state_promote(struct pages *pages, struct page_state *state)
{
    if ((state->flags & STATE_INNER) != 0) {
        state->chances = CHANCES_INNER;
    } else if ((state->flags & (STATE_HOT | STATE_SEEN)) != 0) {
        state_leave(pages, state);
        state->flags |= STATE_HOT;
        state_enter(pages, state);
        state->chances = CHANCES_LEAF;
    }
    state->flags |= STATE_SEEN;
}

/* May this page leave? Looking at it costs it a chance. */
static bool
state_evictable(struct pages *pages, uint32_t unit, struct page_state *state, uint64_t now_ns)
{
    if ((state->flags & (STATE_DIRTY | STATE_KEPT)) != 0 || state->place != 0 || state->pins > 0)
        return false;
    if (state_fresh(pages, state, now_ns))
        return false;
    if ((state->flags & STATE_HOT) != 0 && !hot_allowed(pages))
        return false;
    if (pages_used(pages, unit, state)) {
        state_promote(pages, state);
        return hints_distrusted(pages);
    }
    if ((state->flags & STATE_HOT) != 0 && state->chances > 0 && !hints_distrusted(pages)) {
        state->chances--;
        return false;
    }
    bool hurried = (state->flags & STATE_HOT) != 0 && pages->barren > pages->unit_count;
    pages->barren = hurried ? pages->unit_count + UINT64_C(1) : 0;
    return true;
}

/* What a reader, and a checkpoint, would else have to read. */
static void
known_keep(struct pages *pages, uint32_t unit, const struct page_state *state)
{
    unsigned count = data_location_older(state->location);
    if ((state->flags & STATE_INNER) != 0 || (count > 0 && state->chain == NULL))
        return;
    const struct mshm_page *page = (const void *)pages_frame(pages, unit, state->class);
    struct page_known known = {
        .location = state->location,
        .birth = state->birth,
        .cut = state->since,
        .bucket = page->bucket,
        .frame_class = state->class,
    };
    if (count > 0)
        memcpy(known.older, state->chain->older, count * sizeof *known.older);
    pages_remember(pages, state->pid, &known);
}

static void
state_evict(struct pages *pages, uint32_t unit, struct page_state *state)
{
    assert(state->location != 0);
    state_leave(pages, state);
    pid_set_remove(&pages->chained, state->pid);
    pages->figures.on_disk_pages++;
    pages->figures.evictions++;
    known_keep(pages, unit, state);
    AO_store_release(frames_map(pages->frames, state->pid), pages_disk_word(state->location));
    frames_retire(pages->frames, pages_frame(pages, unit, state->class), state->class);
    free(state->chain);
    *state = (struct page_state){0};
}

/* Looks at the next unit, or at the page that begins there: the bytes that it gave. */
static uint64_t
hand_move(struct pages *pages, uint32_t *walked, uint64_t now_ns)
{
    uint32_t unit = pages->hand;
    struct page_state *state = &pages->states[unit];
    uint32_t units = state->pid != 0 ? 1u << state->class : 1;
    pages->hand = unit + units < pages->unit_count ? unit + units : 0;
    pages->barren += units;
    *walked += units;
    if (state->pid == 0 || !state_evictable(pages, unit, state, now_ns))
        return 0;
    state_evict(pages, unit, state);
    return (uint64_t)units * MSHM_UNIT;
}

uint64_t
pages_evict(struct pages *pages, uint64_t bytes, uint64_t now_ns)
{
    uint64_t retired = 0;
    uint32_t walked = 0;
    while (retired < bytes && pages->cold_bytes + pages->hot_bytes > 0 &&
           walked < (retired > 0 ? WALK_UNITS : WALK_UNITS_MOST) &&
           (retired > 0 || walked <= (uint64_t)(HINTS_TURNS + 2) * pages->unit_count))
        retired += hand_move(pages, &walked, now_ns);
    return retired;
}
