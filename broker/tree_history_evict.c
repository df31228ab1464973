/* tree_history_evict.c - history out of memory, into the scratch file.
 *
 *   leaf ---> [frame] ---> [frame, copied] ---> (page) ---> (page) ---> 0
 *              written by     moves out          in the scratch file alone
 *              the next one   when unused
 *
 * What is out is always the end of a chain: a page in the scratch file leads to others there and never to a frame. So
 * several leaves may share such an end, a split need not see it, and nothing in the file is ever written again. From the
 * end on: a frame is written when all behind it has a copy, and moves out when all behind it is out.
 *
 * A frame's bytes are copied when it is written, so it may go at any time meanwhile; the copy then comes to nothing.
 */
#include "kill_point.h"
#include "tree_parts.h"

enum {
    CHAIN_FRAMES = 64,  /* looked at of one leaf at once, from the end */
    WALK_PLACES = 1024, /* of the set, in one call */
    RESIDENT_SHARE = 4, /* part of history's share of the cache that stays in use for it */
    BARREN_NS = 1000 * 1000,
};

int
history_out_init(struct tree *tree)
{
    const struct spill_options options = {
        .limit = tree->options.history_size,
        .tag_base = tree->options.spill_tags,
        .written = history_written,
        .read = history_was_read,
        .argument = tree,
    };
    tree->out.frames = calloc(tree->view->frames_size / MSHM_UNIT, sizeof(*tree->out.frames));
    if (!tree->out.frames)
        return MSHM_NO_MEMORY;
    int status = spill_create(&tree->out.spill, &options, tree->env, tree->counters);
    return status ? status : history_in_init(tree);
}

void
history_out_fini(struct tree *tree)
{
    history_in_fini(tree);
    spill_destroy(tree->out.spill);
    free(tree->out.frames);
}

/* --- what hangs on a leaf --- */

static uint64_t
unit_of(const struct tree *tree, AO_t word)
{
    assert(mshm_map_state(word) == MSHM_MAP_RESIDENT);
    return (mshm_map_frame(word) - tree->view->frames_offset) / MSHM_UNIT;
}

struct history_frame *
history_frame(const struct tree *tree, AO_t word)
{
    return &tree->out.frames[unit_of(tree, word)];
}

uint8_t *
history_hint(const struct tree *tree, AO_t word)
{
    return &tree->options.hints[unit_of(tree, word)];
}

void
history_frame_note(struct tree *tree, const struct plan_page *page, mshm_timestamp timestamp)
{
    AO_t word = frames_word(tree->frames, page->frame, page->class, 0);
    *history_frame(tree, word) = (struct history_frame){
        .begin = page->begin,
        .end = page->end == PLAN_TIMESTAMP ? timestamp : page->end,
        .pid = page->pid,
    };
    if (tree->options.hints)
        AO_char_store(history_hint(tree, word), 0);
    tree->pages_history++;
    tree->history_bytes += mshm_class_size(page->class);
}

void
history_drop(struct tree *tree, AO_t word)
{
    if (spill_number(word) != 0) {
        spill_release(tree->out.spill, word);
        return;
    }
    struct history_frame *frame = history_frame(tree, word);
    uint32_t page = frame->page;
    *frame = (struct history_frame){0};
    frames_retire(tree->frames, frames_address(tree->frames, word), mshm_map_class(word));
    tree->pages_history--;
    tree->history_bytes -= mshm_class_size(mshm_map_class(word));
    if (page != 0)
        spill_release(tree->out.spill, spill_word(page));
}

uint64_t
history_size(const struct tree *tree, AO_t word)
{
    uint64_t bytes = 0;
    for (; word != 0 && spill_number(word) == 0; word = AO_load(&history_page(tree, word)->history))
        bytes += mshm_class_size(mshm_map_class(word));
    return bytes;
}

bool
history_link_find(const struct tree *tree, mshm_pid pid, struct history_link *link)
{
    const struct history_leaf *leaf = history_find(tree, pid);
    if (!leaf)
        return false;
    *link = (struct history_link){.pid = pid, .word = leaf->word};
    while (link->word != 0 && spill_number(link->word) == 0) {
        link->frame = frames_address(tree->frames, link->word);
        link->word = AO_load(&history_page(tree, link->word)->history);
    }
    return true;
}

void
history_link_store(struct tree *tree, const struct history_link *link, AO_t word)
{
    uint32_t size;
    uint8_t *frame = (uint8_t *)(uintptr_t)link->frame;
    if (!frame) {
        history_find(tree, link->pid)->word = word;
        frame = tree_frame(tree, link->pid, &size);
    }
    if (frame) /* pairs with a reader's load on its way along the chain */
        AO_store_release(&((struct mshm_page *)(void *)frame)->history, word);
}

/* --- what nobody needs any more --- */

AO_t
history_live(const struct tree *tree, AO_t word)
{
    while (spill_number(word) != 0) {
        const struct spill_page *page = spill_page(tree->out.spill, spill_number(word));
        if (!history_unread(tree, page->begin, page->end))
            break;
        word = page->next;
    }
    return word;
}

/* From here on every page is one that somebody needs. */
static void
pages_trim(struct tree *tree, AO_t word)
{
    struct spill *spill = tree->out.spill;
    while (word != 0) {
        uint32_t number = spill_number(word);
        AO_t next = spill_page(spill, number)->next, live = history_live(tree, next);
        if (live != next)
            spill_link(spill, number, live);
        word = live;
    }
}

bool
history_trim(struct tree *tree, mshm_pid pid)
{
    struct history_link link;
    if (!history_link_find(tree, pid, &link) || link.word == 0)
        return false;
    AO_t live = history_live(tree, link.word);
    if (live != link.word) {
        spill_hold(tree->out.spill, live);
        history_link_store(tree, &link, live);
        spill_release(tree->out.spill, link.word);
    }
    pages_trim(tree, live);
    if (history_find(tree, pid)->word != 0)
        return false;
    history_forget(tree, pid);
    return true;
}

/* --- moving out --- */

/* The frames of a leaf's history, the last ones if there are many. */
struct chain {
    struct history_link links[CHAIN_FRAMES]; /* that lead to them */
    uint32_t count;
    AO_t end; /* behind the last one */
};

static void
chain_find(const struct tree *tree, const struct history_leaf *leaf, struct chain *chain)
{
    struct history_link link = {.pid = leaf->pid, .word = leaf->word};
    chain->count = 0;
    while (link.word != 0 && spill_number(link.word) == 0) {
        if (chain->count == CHAIN_FRAMES) {
            chain->count /= 2;
            memmove(chain->links, chain->links + chain->count,
                    chain->count * sizeof(chain->links[0]));
        }
        chain->links[chain->count++] = link;
        link.frame = frames_address(tree->frames, link.word);
        link.word = AO_load(&history_page(tree, link.word)->history);
    }
    chain->end = link.word;
}

static uint16_t
tick(uint64_t now_ns)
{
    return (uint16_t)(now_ns >> 20);
}

/* Somebody has read it since it was looked at last, or it has just come. */
static bool
frame_used(struct tree *tree, AO_t word, uint64_t now_ns, bool pressed)
{
    struct history_frame *frame = history_frame(tree, word);
    uint8_t *hint = tree->options.hints ? history_hint(tree, word) : NULL;
    bool used = hint && AO_char_load(hint) != 0;
    if (frame->fresh &&
        (uint16_t)(tick(now_ns) - frame->came) <= (tree->options.fresh_ns >> 20) + 1)
        return true;
    frame->fresh = false;
    if (used)
        AO_char_store(hint, 0);
    return used && !pressed;
}

/* The frame's copy takes its place. */
static uint64_t
frame_evict(struct tree *tree, const struct history_link *link)
{
    uint32_t size = mshm_class_size(mshm_map_class(link->word));
    struct history_frame *frame = history_frame(tree, link->word);
    AO_t copy = spill_word(frame->page), behind = AO_load(&history_page(tree, link->word)->history);
    frame->page = 0; /* from now on the link holds it */
    history_link_store(tree, link, copy);
    MACE_KILL_POINT("history:evicted");
    history_drop(tree, link->word);
    spill_release(tree->out.spill, behind); /* the copy has its own hold on it */
    history_find(tree, link->pid)->bytes -= size;
    return size;
}

/* Has a frame written whose followers all have copies; `next`: that of the one behind it. */
static int
frame_write(struct tree *tree, AO_t word, AO_t next)
{
    struct history_frame *frame = history_frame(tree, word);
    const struct mshm_page *page = history_page(tree, word);
    const struct spill_page copy = {
        .next = next,
        .begin = frame->begin,
        .end = frame->end,
        .size = (uint32_t)page->base_end * 4,
        .pid = frame->pid,
    };
    assert(copy.size <= mshm_class_size(mshm_map_class(word)));
    int status = spill_add(tree->out.spill, &copy, page, &frame->page);
    frame->writing = status == MSHM_OK;
    return status;
}

/* What an attempt to move history out has come to. */
struct eviction {
    uint64_t now_ns;
    uint64_t written, retired; /* bytes of frames */
    bool pressed;              /* hints do not count */
    bool writes;               /* what has no copy is written */
    bool stopped;              /* the batch is full, or there is no room for more */
};

/* From the end on: moves out what has a copy, has written what has none. */
static void
leaf_evict(struct tree *tree, const struct history_leaf *leaf, struct eviction *eviction)
{
    struct chain chain;
    chain_find(tree, leaf, &chain);
    AO_t next = chain.end;
    bool out = true; /* all behind is out */
    for (uint32_t i = chain.count; i-- > 0 && !eviction->stopped;) {
        AO_t word = chain.links[i].word;
        struct history_frame *frame = history_frame(tree, word);
        uint32_t size = mshm_class_size(mshm_map_class(word));
        if (!frame->writing && frame_used(tree, word, eviction->now_ns, eviction->pressed))
            return;
        if (frame->page == 0) {
            if (!eviction->writes || frame_write(tree, word, next) != MSHM_OK) {
                eviction->stopped = eviction->writes;
                return;
            }
            eviction->written += size;
        }
        next = spill_word(frame->page);
        out = out && !frame->writing;
        if (out)
            eviction->retired += frame_evict(tree, &chain.links[i]);
    }
}

static void
set_evict(struct tree *tree, struct eviction *eviction, uint64_t bytes)
{
    struct history_set *set = &tree->history;
    uint32_t places = set->capacity < WALK_PLACES ? set->capacity : WALK_PLACES;
    while (places-- > 0 && eviction->written + eviction->retired < bytes && !eviction->stopped) {
        if (tree->out.hand >= set->capacity)
            tree->out.hand = 0;
        struct history_leaf leaf = set->places[tree->out.hand++];
        if (leaf.pid != 0 && spill_number(leaf.word) == 0)
            leaf_evict(tree, &leaf, eviction);
    }
    spill_send(tree->out.spill);
    tree_report(tree);
}

static void
frame_written(struct tree *tree, const struct history_link *link, AO_t behind, int status)
{
    struct history_frame *frame = history_frame(tree, link->word);
    uint64_t now = tree->env->clock_ns(tree->env->context);
    frame->writing = false;
    if (status != MSHM_OK) {
        AO_t copy = spill_word(frame->page);
        frame->page = 0;
        spill_release(tree->out.spill, copy);
    } else if ((behind == 0 || spill_number(behind) != 0) &&
               !frame_used(tree, link->word, now, false)) {
        frame_evict(tree, link);
    }
}

void
history_written(void *argument, uint32_t number, int status)
{
    struct tree *tree = argument;
    struct spill *spill = tree->out.spill;
    const struct history_leaf *leaf = history_find(tree, spill_page(spill, number)->pid);
    if (!leaf)
        return; /* its frame is gone */
    struct history_link link = {.pid = leaf->pid, .word = leaf->word};
    while (link.word != 0 && spill_number(link.word) == 0) {
        struct history_frame *frame = history_frame(tree, link.word);
        AO_t behind = AO_load(&history_page(tree, link.word)->history);
        if (frame->writing && frame->page == number) {
            frame_written(tree, &link, behind, status);
            return;
        }
        link.frame = frames_address(tree->frames, link.word);
        link.word = behind;
    }
}

static uint64_t
resident_target(const struct tree *tree)
{
    return tree->options.history_limit / RESIDENT_SHARE;
}

bool
tree_history_there(const struct tree *tree)
{
    return tree->history.count > 0;
}

uint64_t
tree_history_over(const struct tree *tree)
{
    uint64_t limit = tree->options.history_limit;
    return tree->history_bytes > limit ? tree->history_bytes - limit : 0;
}

bool
tree_history_stuck(const struct tree *tree, uint64_t now_ns)
{
    return spill_blocked(tree->out.spill, now_ns);
}

bool
tree_history_turn(struct tree *tree, uint64_t now_ns)
{
    struct history_out *out = &tree->out;
    uint64_t target = resident_target(tree);
    if (tree->options.history_size == 0 || tree->history_bytes <= target || now_ns < out->barren_ns)
        return false;
    struct eviction eviction = {
        .now_ns = now_ns,
        .pressed = tree->history_bytes > tree->options.history_limit / 2,
        .writes = spill_ready(out->spill, now_ns),
    };
    set_evict(tree, &eviction, tree->history_bytes - target);
    if (eviction.written + eviction.retired == 0)
        out->barren_ns = now_ns + BARREN_NS;
    return eviction.written + eviction.retired > 0;
}

uint64_t
tree_history_evict(struct tree *tree, uint64_t bytes, uint64_t now_ns, bool *coming)
{
    struct eviction eviction = {
        .now_ns = now_ns,
        .writes = spill_ready(tree->out.spill, now_ns),
    };
    if (tree->history_bytes > 0 && tree->options.history_size > 0)
        set_evict(tree, &eviction, bytes);
    *coming = spill_sending(tree->out.spill) && !spill_blocked(tree->out.spill, now_ns);
    return eviction.retired;
}
