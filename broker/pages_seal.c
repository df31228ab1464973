/* pages_seal.c - what the checkpoint in flight takes: the seal, what a job is shown, what it answers. See pages.h. */
#include "pages_parts.h"

enum { AHEAD_WORD = 24, AHEAD_STATE = 12 /* places to fetch ahead */ };

static void
place_add(void *argument, mshm_pid pid)
{
    struct pages *pages = argument;
    pages->places[pages->place_count++] = (struct place){.pid = pid};
}

/* A seal looks at the word and the state of each page, which are far apart: it fetches them ahead. It does not look
 * at the frames: how many entries of a tail count, their timestamps say when the page is packed. */
static void
place_prefetch(const struct pages *pages, uint32_t at)
{
    const struct place *places = pages->places;
    uint32_t count = pages->place_count;
    if (at + AHEAD_WORD < count)
        __builtin_prefetch(frames_map(pages->frames, places[at + AHEAD_WORD].pid));
    if (at + AHEAD_STATE >= count)
        return;
    mshm_pid pid = places[at + AHEAD_STATE].pid;
    AO_t word = pages_word(pages, pid);
    if (mshm_map_state(word) == MSHM_MAP_RESIDENT)
        __builtin_prefetch(&pages->states[pages_unit(pages, word)], 1);
    else
        __builtin_prefetch(&pages->newest[pid]);
}

static void
seal_resident(struct pages *pages, struct place *place, AO_t word)
{
    place->unit = pages_unit(pages, word);
    struct page_state *state = &pages->states[place->unit];
    assert(state->pid == place->pid && state->place == 0);
    place->location = state->location;
    place->class = state->class;
    if ((state->flags & STATE_WHOLE) != 0)
        place->flags |= PLACE_WHOLE;
    state_leave(pages, state);
    state->flags &= (uint8_t) ~(STATE_DIRTY | STATE_WHOLE);
    state->place = (uint32_t)(place - pages->places) + 1;
    state_enter(pages, state);
}

/* False: there is nothing to say of this pid. */
static bool
seal_place(struct pages *pages, struct place *place)
{
    AO_t word = pages_word(pages, place->pid);
    switch (mshm_map_state(word)) {
    case MSHM_MAP_RESIDENT:
        seal_resident(pages, place, word);
        return true;
    case MSHM_MAP_ON_DISK:
        place->flags = PLACE_BLIND;
        place->location = pages_word_location(word);
        return true;
    default:
        place->flags = PLACE_FREED;
        place->location = pages->newest[place->pid];
        if (place->location != 0)
            return true;
        pages_pid_release(pages, place->pid); /* its only record was never written */
        return false;
    }
}

static void
chained_add(void *argument, mshm_pid pid)
{
    struct pages *pages = argument;
    struct page_state *state = &pages->states[pages_unit(pages, pages_word(pages, pid))];
    assert(state->pid == pid && state->place == 0);
    state->flags |= STATE_WHOLE;
    pid_set_add(&pages->changed, pid);
}

int
pages_seal(struct pages *pages, mshm_timestamp cut)
{
    assert(!pages->sealed && pages->clock <= cut);
    uint64_t most = (uint64_t)pages->changed.count + pages->chained.count + 1;
    struct place *places = malloc(most * sizeof(*places));
    if (places == NULL)
        return MSHM_NO_MEMORY;
    pages->places = places;
    pages->place_count = pages->published = 0;
    pages->sealed = true;
    pages->cut = cut;
    pages->installed = 0;
    pid_set_drain(&pages->chained, chained_add, pages);
    uint32_t count = pages->changed.count;
    pid_set_drain(&pages->changed, place_add, pages);
    assert(pages->place_count == count);
    uint32_t kept = 0;
    for (uint32_t i = 0; i < count; i++) {
        place_prefetch(pages, i);
        places[kept] = places[i];
        kept += seal_place(pages, &places[kept]);
    }
    pages->place_count = kept;
    blind_seal(pages->blind);
    return MSHM_OK;
}

uint32_t
pages_sealed_count(const struct pages *pages)
{
    return pages->place_count;
}

/* --- the job's side --- */

/* The entries of a leaf's tail that are not newer than the cut. */
static uint32_t
tail_count(const uint8_t *frame, mshm_timestamp cut)
{
    const struct mshm_leaf *leaf = (const void *)frame;
    if (leaf->page.kind != MSHM_PAGE_LEAF)
        return 0;
    AO_t count = AO_load(&leaf->page.tail_count);
    assert(count <= MSHM_TAIL_CAPACITY);
    while (count > 0) {
        const struct mshm_entry *entry = (const void *)(frame + leaf->tail_slots[count - 1] * 4u);
        if (mshm_entry_timestamp(entry) <= cut)
            break;
        count--;
    }
    return (uint32_t)count;
}

static void
source_resident(const struct pages *pages, const struct place *place, struct page_source *source)
{
    const struct page_state *state = &pages->states[place->unit];
    source->frame = pages_frame(pages, place->unit, place->class);
    source->frame_size = mshm_class_size(place->class);
    source->bucket = ((const struct mshm_page *)(const void *)source->frame)->bucket;
    source->tail_count = tail_count(source->frame, pages->cut);
    source->birth = state->birth;
    source->since = state->since;
    if (state->chain != NULL) {
        source->older = state->chain->older;
        source->below = state->chain->below;
    }
    source->full = (place->flags & PLACE_WHOLE) != 0;
}

void
pages_source(const struct pages *pages, uint32_t index, struct page_source *source, bool *freed)
{
    assert(index < pages->place_count);
    const struct place *place = &pages->places[index];
    assert((place->flags & PLACE_PACKED) == 0);
    *source =
        (struct page_source){.pid = place->pid, .cut = pages->cut, .location = place->location};
    *freed = (place->flags & PLACE_FREED) != 0;
    if ((place->flags & PLACE_BLIND) != 0) {
        source->blind = blind_sealed(pages->blind, place->pid);
        (void)pages_recall(pages, place->pid, place->location, &source->known);
    } else if (!*freed) {
        source_resident(pages, place, source);
    }
}

/* The frame was kept for the job alone. */
static void
kept_drop(struct pages *pages, const struct place *place)
{
    struct page_state *state = &pages->states[place->unit];
    assert((state->flags & STATE_KEPT) != 0);
    if ((place->flags & PLACE_OWNS) != 0)
        free(state->chain);
    *state = (struct page_state){0};
    pages->figures.kept_bytes -= mshm_class_size(place->class);
    frames_retire(pages->frames, pages_frame(pages, place->unit, place->class), place->class);
}

void
pages_packed(struct pages *pages, uint32_t index, data_location location)
{
    assert(index < pages->place_count);
    struct place *place = &pages->places[index];
    assert((place->flags & PLACE_PACKED) == 0);
    assert((place->flags & PLACE_FREED) == 0 || location == 0);
    if ((place->flags & PLACE_KEPT) != 0)
        kept_drop(pages, place);
    place->flags &= (uint8_t) ~(PLACE_KEPT | PLACE_OWNS);
    place->flags |= PLACE_PACKED;
    place->location = location;
}

int
pages_carry_reserve(struct pages *pages, uint32_t count, uint64_t bytes)
{
    bool former = frames_allow_reserve(pages->frames, true);
    int status = blind_reserve(pages->blind, count, bytes);
    frames_allow_reserve(pages->frames, former);
    return status;
}

/* A page that was read in since has the writes in its frame. */
void
pages_carry(struct pages *pages, uint32_t index)
{
    const struct place *place = &pages->places[index];
    assert((place->flags & (PLACE_BLIND | PLACE_PACKED)) == PLACE_BLIND);
    AO_t word = pages_word(pages, place->pid);
    switch (mshm_map_state(word)) {
    case MSHM_MAP_ON_DISK:
        blind_carry(pages->blind, place->pid);
        pid_set_add(&pages->changed, place->pid);
        return;
    case MSHM_MAP_RESIDENT:
        state_dirty(pages, &pages->states[pages_unit(pages, word)]);
        break;
    default:
        break; /* freed: what was written to it is gone with it */
    }
    blind_settle(pages->blind, place->pid);
}

bool
pages_result(const struct pages *pages, uint32_t index, mshm_pid *pid, data_location *location)
{
    assert(index < pages->place_count);
    const struct place *place = &pages->places[index];
    assert((place->flags & PLACE_PACKED) != 0);
    if ((place->flags & PLACE_FREED) == 0 && place->location == 0)
        return false;
    *pid = place->pid;
    *location = place->location;
    return true;
}
