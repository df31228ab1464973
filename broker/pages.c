/* pages.c - what the tree does to pages: publish, append, free; pids; pins; reading in. See pages.h and
 * pages_parts.h. */
#include "pages_parts.h"

/* --- creation --- */

static int
pages_fill(struct pages *pages)
{
    uint64_t pids = pages->geometry.map_capacity;
    pages->unit_count = (uint32_t)(pages->geometry.frames_size / MSHM_UNIT);
    pages->states = calloc(pages->unit_count, sizeof(*pages->states));
    pages->newest = calloc(pids, sizeof(*pages->newest));
    if (pages->states == NULL || pages->newest == NULL || known_create(pages) != MSHM_OK)
        return MSHM_NO_MEMORY;
    int status = pid_set_init(&pages->changed, pids);
    if (status == MSHM_OK)
        status = pid_set_init(&pages->chained, pids);
    return status != MSHM_OK ? status : blind_create(&pages->blind, pages->frames);
}

int
pages_create(struct pages **result, const struct pages_options *options, const struct env *env,
             struct frames *frames, const struct mshm_store_geometry *geometry)
{
    struct pages *pages = calloc(1, sizeof(*pages));
    if (pages == NULL)
        return MSHM_NO_MEMORY;
    pages->options = *options;
    pages->env = env;
    pages->frames = frames;
    pages->geometry = *geometry;
    int status = pages_fill(pages);
    if (status != MSHM_OK) {
        pages_destroy(pages);
        return status;
    }
    *result = pages;
    return MSHM_OK;
}

void
pages_destroy(struct pages *pages)
{
    if (pages == NULL)
        return;
    for (uint32_t i = pages->published; i < pages->place_count; i++)
        if ((pages->places[i].flags & PLACE_OWNS) != 0)
            free(pages->states[pages->places[i].unit].chain);
    for (uint32_t unit = 0; pages->states != NULL && unit < pages->unit_count; unit++)
        if ((pages->states[unit].flags & STATE_KEPT) == 0)
            free(pages->states[unit].chain);
    blind_destroy(pages->blind);
    pid_set_fini(&pages->changed);
    pid_set_fini(&pages->chained);
    free(pages->places);
    free(pages->states);
    free(pages->known);
    free(pages->newest);
    free(pages);
}

struct blind *
pages_blind(struct pages *pages)
{
    return pages->blind;
}

enum {
    /* Pages that are written as often as they are read in are left as they are: they would soon be in pieces again. */
    CHAINED_READS = 2,
};

/* --- sums --- */

static void
sum_change(uint64_t *sum, uint64_t amount, bool add)
{
    *sum = add ? *sum + amount : *sum - amount;
}

static void
state_count(struct pages *pages, const struct page_state *state, bool add)
{
    uint64_t bytes = mshm_class_size(state->class);
    sum_change(&pages->figures.resident_pages, 1, add);
    if ((state->flags & STATE_DIRTY) != 0)
        sum_change(&pages->figures.dirty_pages, 1, add);
    if (state->place != 0)
        sum_change(&pages->figures.sealed_bytes, bytes, add);
    else if ((state->flags & STATE_DIRTY) != 0)
        sum_change(&pages->figures.dirty_bytes, bytes, add);
    else if ((state->flags & STATE_HOT) != 0)
        sum_change(&pages->hot_bytes, bytes, add);
    else
        sum_change(&pages->cold_bytes, bytes, add);
}

void
state_leave(struct pages *pages, const struct page_state *state)
{
    state_count(pages, state, false);
}

void
state_enter(struct pages *pages, const struct page_state *state)
{
    state_count(pages, state, true);
}

void
state_dirty(struct pages *pages, struct page_state *state)
{
    if ((state->flags & STATE_DIRTY) != 0)
        return;
    state_leave(pages, state);
    state->flags |= STATE_DIRTY;
    state_enter(pages, state);
    pid_set_add(&pages->changed, state->pid);
}

static void
newest_note(struct pages *pages, mshm_pid pid, mshm_timestamp newest)
{
    assert(newest != UINT64_MAX);
    if (pages->newest[pid] < newest)
        pages->newest[pid] = newest;
    if (pages->clock < newest)
        pages->clock = newest;
}

bool
pages_used(const struct pages *pages, uint32_t unit, struct page_state *state)
{
    bool used = (state->flags & STATE_TOUCHED) != 0;
    state->flags &= (uint8_t)~STATE_TOUCHED;
    uint8_t *hint = pages->options.hints != NULL ? &pages->options.hints[unit] : NULL;
    if (hint == NULL || AO_char_load(hint) == 0)
        return used;
    AO_char_store(hint, 0);
    return true;
}

/* --- frames --- */

/* An inner page is useful far more often than it is looked at: eviction treats it as one that has proved itself. */
static uint8_t
frame_flags(const struct pages *pages, AO_t word)
{
    const struct mshm_page *page = (const void *)frames_address(pages->frames, word);
    return page->kind == MSHM_PAGE_INNER ? STATE_INNER | STATE_HOT : 0;
}

/* The frame of a page in memory has been replaced, or its page freed. The job that packs it keeps it: false. */
static bool
frame_drop(struct pages *pages, uint32_t unit)
{
    struct page_state *state = &pages->states[unit];
    struct place *place = state->place != 0 ? &pages->places[state->place - 1] : NULL;
    if (place != NULL && place->unit == unit && (place->flags & PLACE_PACKED) == 0) {
        place->flags |= PLACE_KEPT;
        state->flags = STATE_KEPT;
        pages->figures.kept_bytes += mshm_class_size(state->class);
        return false;
    }
    frames_retire(pages->frames, pages_frame(pages, unit, state->class), state->class);
    *state = (struct page_state){0};
    return true;
}

static void
publish_new(struct pages *pages, mshm_pid pid, AO_t word)
{
    struct page_state *state = &pages->states[pages_unit(pages, word)];
    assert(state->pid == 0);
    *state = (struct page_state){
        .pid = pid,
        .birth = pages->clock,
        .class = (uint8_t)(mshm_map_class(word) & 15),
        .flags = STATE_DIRTY | STATE_WHOLE | frame_flags(pages, word),
    };
    state_enter(pages, state);
    AO_store_release(frames_map(pages->frames, pid), word); /* after the frame's bytes */
}

static void
publish_over(struct pages *pages, mshm_pid pid, AO_t former, AO_t word)
{
    uint32_t unit = pages_unit(pages, word), former_unit = pages_unit(pages, former);
    struct page_state *state = &pages->states[unit], *old = &pages->states[former_unit];
    assert(old->pid == pid && state->pid == 0);
    state_leave(pages, old);
    *state = *old;
    state->class = (uint8_t)(mshm_map_class(word) & 15);
    state->flags |= STATE_DIRTY | frame_flags(pages, word);
    if (pages_used(pages, former_unit, old))
        state->flags |= STATE_TOUCHED;
    state_enter(pages, state);
    AO_store_release(frames_map(pages->frames, pid), word); /* after the frame's bytes */
    frame_drop(pages, former_unit);
}

void
pages_publish(struct pages *pages, mshm_pid pid, AO_t word, mshm_timestamp newest, bool whole)
{
    AO_t former = pages_word(pages, pid);
    uint32_t unit = pages_unit(pages, word);
    if (pages->options.hints != NULL)
        AO_char_store(&pages->options.hints[unit], 0);
    newest_note(pages, pid, newest);
    if (former == 0)
        publish_new(pages, pid, word);
    else
        publish_over(pages, pid, former, word);
    if (whole)
        pages->states[unit].flags |= STATE_WHOLE;
    pid_set_add(&pages->changed, pid);
}

void
pages_prefetch(const struct pages *pages, mshm_pid pid, AO_t word)
{
    __builtin_prefetch(&pages->states[pages_unit(pages, word)].flags, 1);
    __builtin_prefetch(&pages->newest[pid], 1);
}

void
pages_touch(struct pages *pages, mshm_pid pid, mshm_timestamp newest)
{
    struct page_state *state = &pages->states[pages_unit(pages, pages_word(pages, pid))];
    newest_note(pages, pid, newest);
    state_dirty(pages, state);
    state->flags |= STATE_TOUCHED;
}

void
pages_write_blind(struct pages *pages, mshm_pid pid, const struct mshm_version *version)
{
    assert(mshm_map_state(pages_word(pages, pid)) == MSHM_MAP_ON_DISK);
    newest_note(pages, pid, version->timestamp);
    blind_put(pages->blind, pid, version);
    pid_set_add(&pages->changed, pid);
}

/* --- freeing --- */

void
pages_pid_release(struct pages *pages, mshm_pid pid)
{
    pages->newest[pid] = 0;
    frames_pids_add(pages->frames, &pages->held, pid);
    if (!pages->hold)
        frames_pids_release(pages->frames, &pages->held);
}

/* Takes a page in memory out of the table; what the job needs of it stays. */
static void
free_resident(struct pages *pages, AO_t word)
{
    uint32_t unit = pages_unit(pages, word);
    struct page_state *state = &pages->states[unit];
    struct place *place = state->place != 0 ? &pages->places[state->place - 1] : NULL;
    state_leave(pages, state);
    pid_set_remove(&pages->chained, state->pid);
    if (place != NULL && (place->flags & PLACE_PACKED) == 0)
        place->flags |= PLACE_OWNS;
    else
        free(state->chain);
    frame_drop(pages, unit);
}

void
pages_free(struct pages *pages, mshm_pid pid, bool merged)
{
    AO_t word = pages_word(pages, pid);
    bool resident = mshm_map_state(word) == MSHM_MAP_RESIDENT;
    assert(resident || mshm_map_state(word) == MSHM_MAP_ON_DISK);
    pages->newest[pid] = pages_durable(pages, pid, word);
    frames_pid_withdraw(pages->frames, pid, merged);
    if (resident) {
        free_resident(pages, word);
    } else {
        blind_forget(pages->blind, pid);
        pages->figures.on_disk_pages--;
    }
    if (pages->newest[pid] == 0 && !pages->sealed) { /* no checkpoint has ever heard of it */
        pid_set_remove(&pages->changed, pid);
        pages_pid_release(pages, pid);
    } else {
        pid_set_add(&pages->changed, pid);
    }
}

/* --- page numbers --- */

mshm_pid
pages_pid_allocate(struct pages *pages)
{
    return frames_pid_allocate(pages->frames);
}

void
pages_pid_return(struct pages *pages, mshm_pid pid)
{
    assert(pages_word(pages, pid) == 0);
    frames_pid_free(pages->frames, pid);
}

mshm_timestamp
pages_newest(const struct pages *pages, mshm_pid pid)
{
    mshm_timestamp newest = pages->newest[pid];
    return newest > pages->newest_base ? newest : pages->newest_base;
}

void
pages_hold_pids(struct pages *pages, bool hold)
{
    pages->hold = hold;
    if (!hold)
        frames_pids_release(pages->frames, &pages->held);
}

/* --- pins --- */

static struct page_state *
resident_find(struct pages *pages, mshm_pid pid)
{
    AO_t word = pages_word(pages, pid);
    return mshm_map_state(word) == MSHM_MAP_RESIDENT ? &pages->states[pages_unit(pages, word)]
                                                     : NULL;
}

void
pages_pin(struct pages *pages, mshm_pid pid)
{
    struct page_state *state = resident_find(pages, pid);
    if (state != NULL)
        state->pins++;
}

void
pages_unpin(struct pages *pages, mshm_pid pid)
{
    struct page_state *state = resident_find(pages, pid);
    if (state != NULL &&
        state->pins > 0) /* else the page was freed meanwhile, and its pins with it */
        state->pins--;
}

/* --- reading in --- */

data_location
pages_durable(const struct pages *pages, mshm_pid pid, AO_t word)
{
    switch (mshm_map_state(word)) {
    case MSHM_MAP_RESIDENT:
        return pages->states[pages_unit(pages, word)].location;
    case MSHM_MAP_ON_DISK:
        return pages_word_location(word);
    default:
        return word != 0 ? pages->newest[pid] : 0;
    }
}

data_location
pages_location(const struct pages *pages, mshm_pid pid)
{
    if (pid == 0 || pid >= frames_pid_end(pages->frames))
        return 0;
    AO_t word = pages_word(pages, pid);
    return mshm_map_state(word) == MSHM_MAP_ON_DISK ? pages_word_location(word) : 0;
}

struct page_chain *
chain_copy(mshm_timestamp below, const data_location *older, unsigned count)
{
    if (count == 0 || older == NULL)
        return NULL;
    struct page_chain *chain = malloc(sizeof *chain + count * sizeof(*older));
    if (chain == NULL)
        return NULL;
    chain->below = below;
    memcpy(chain->older, older, count * sizeof(*older));
    return chain;
}

void
pages_install(struct pages *pages, mshm_pid pid, AO_t word, uint64_t birth, mshm_timestamp cut,
              mshm_timestamp below, const data_location *older, bool newer)
{
    data_location location = pages_location(pages, pid);
    uint32_t unit = pages_unit(pages, word);
    struct page_state *state = &pages->states[unit];
    assert(location != 0 && state->pid == 0);
    assert(newer || blind_gathered(pages->blind, pid) == NULL);
    *state = (struct page_state){
        .location = location,
        .since = cut,
        .birth = birth,
        .chain = chain_copy(below, older, data_location_older(location)),
        .pid = pid,
        .came = pages_tick(pages->env->clock_ns(pages->env->context)),
        .class = (uint8_t)(mshm_map_class(word) & 15),
        .flags = STATE_FRESH | frame_flags(pages, word),
    };
    state->chances = (state->flags & STATE_INNER) != 0 ? CHANCES_INNER : 0;
    state_enter(pages, state);
    pages->figures.on_disk_pages--;
    if (pages->options.hints != NULL)
        AO_char_store(&pages->options.hints[unit], 0);
    pages->installed++;
    if (data_location_older(location) > 0 && pages->chained.count < pages->options.chained_most &&
        pages->changed.count < pages->installed / CHAINED_READS)
        pid_set_add(&pages->chained, pid);
    if (newer) {
        blind_forget(pages->blind, pid);
        state_dirty(pages, state);
    }
    AO_store_release(frames_map(pages->frames, pid), word); /* after the frame's bytes */
}

/* --- figures --- */

void
pages_figures(const struct pages *pages, struct pages_figures *figures)
{
    uint64_t blind_total = blind_bytes(pages->blind);
    uint64_t blind_sealed_part = blind_sealed_bytes(pages->blind);
    *figures = pages->figures;
    figures->blind_bytes = blind_total;
    figures->dirty_bytes += blind_total - blind_sealed_part;
    figures->dirty_pages += blind_pages(pages->blind);
    figures->sealed_bytes += blind_sealed_part;
    figures->sealed_pages = pages->place_count - pages->published;
    figures->changed_pages = pages->changed.count;
    figures->chained_pages = pages->chained.count;
    figures->blind_pages = blind_pages(pages->blind);
}
