/* inner.c - building inner pages, finding the way through them, and taking them apart. */
#include "mshm/inner.h"
#include "page_read.h"

/* Where everything goes, in bytes from the frame's start. */
struct inner_plan {
    uint32_t prefix_size;
    uint32_t heads_at, slots_at, children_at, prefix_at, low_at, high_at, separators_at, end;
};

static inline uint32_t
fence_bytes(uint16_t size)
{
    return size == MSHM_FENCE_INFINITE ? 0 : (uint32_t)mshm_align_up(size, 4);
}

/* Returns the bytes needed, or UINT32_MAX when no frame holds them. */
static uint32_t
plan_make(struct inner_plan *plan, const struct mshm_inner_spec *spec)
{
    const struct mshm_separator *separators = spec->separators;
    uint32_t count = spec->count;
    uint64_t bytes = 0;
    if (count > MSHM_MAX_FRAME / 12)
        return UINT32_MAX;
    plan->prefix_size = count == 0
                            ? 0
                            : bytes_common(separators[0].key, separators[0].size,
                                           separators[count - 1].key, separators[count - 1].size);
    for (uint32_t i = 0; i < count; i++)
        bytes += separators[i].size - plan->prefix_size;
    plan->heads_at = sizeof(struct mshm_page);
    plan->slots_at = plan->heads_at + count * 4;
    plan->children_at = plan->slots_at + count * 4;
    plan->prefix_at = plan->children_at + (count + 1) * 4;
    plan->low_at = plan->prefix_at + (uint32_t)mshm_align_up(plan->prefix_size, 4);
    plan->high_at = plan->low_at + fence_bytes(spec->low_size);
    plan->separators_at = plan->high_at + fence_bytes(spec->high_size);
    uint64_t end = mshm_align_up(plan->separators_at + bytes, 4);
    plan->end = (uint32_t)end;
    return end > MSHM_MAX_FRAME ? UINT32_MAX : plan->end;
}

uint32_t
mshm_inner_size(const struct mshm_inner_spec *spec)
{
    struct inner_plan plan;
    return plan_make(&plan, spec);
}

static void
inner_write_header(uint8_t *frame, const struct inner_plan *plan,
                   const struct mshm_inner_spec *spec)
{
    struct mshm_page page = {
        .magic = MSHM_PAGE_MAGIC,
        .kind = MSHM_PAGE_INNER,
        .level = spec->level,
        .bucket = spec->bucket,
        .pid = spec->pid,
        .right = spec->right,
        .key_count = (uint16_t)spec->count,
        .prefix_at = (uint16_t)(plan->prefix_at / 4),
        .prefix_size = (uint16_t)plan->prefix_size,
        .low_at = (uint16_t)(plan->low_at / 4),
        .low_size = spec->low_size,
        .high_at = (uint16_t)(plan->high_at / 4),
        .high_size = spec->high_size,
        .heads_at = (uint16_t)(plan->heads_at / 4),
        .slots_at = (uint16_t)(plan->slots_at / 4),
        .base_end = (uint16_t)(plan->end / 4),
        .children_at = (uint16_t)(plan->children_at / 4),
    };
    if (spec->count > 0)
        page.prefix_head = bytes_load_upto8(spec->separators[0].key, plan->prefix_size);
    memcpy(frame, &page, sizeof page);
}

int
mshm_inner_build(void *frame, uint32_t frame_size, const struct mshm_inner_spec *spec)
{
    struct inner_plan plan;
    uint8_t *bytes = frame;
    if (plan_make(&plan, spec) > frame_size)
        return MSHM_FULL;
    inner_write_header(bytes, &plan, spec);
    memset(bytes + plan.prefix_at, 0, plan.separators_at - plan.prefix_at);
    memset(bytes + plan.end - 4, 0, 4);
    memcpy(bytes + plan.children_at, spec->children, (spec->count + 1) * sizeof(mshm_pid));
    if (plan.prefix_size != 0)
        memcpy(bytes + plan.prefix_at, spec->separators[0].key, plan.prefix_size);
    if (spec->low_size != 0)
        memcpy(bytes + plan.low_at, spec->low, spec->low_size);
    if (spec->high_size != 0 && spec->high_size != MSHM_FENCE_INFINITE)
        memcpy(bytes + plan.high_at, spec->high, spec->high_size);
    uint32_t at = plan.separators_at;
    for (uint32_t i = 0; i < spec->count; i++) {
        const uint8_t *suffix = spec->separators[i].key + plan.prefix_size;
        uint32_t size = spec->separators[i].size - plan.prefix_size;
        uint32_t head = key_head(suffix, size), slot = at | size << 16;
        memcpy(bytes + plan.heads_at + i * 4, &head, sizeof head);
        memcpy(bytes + plan.slots_at + i * 4, &slot, sizeof slot);
        memcpy(bytes + at, suffix, size);
        at += size;
    }
    return MSHM_OK;
}

/* What a search needs to know of the page, checked against the frame. */
struct inner_view {
    const uint8_t *frame;
    uint32_t frame_size;
    struct page_counts counts;
    struct page_arrays arrays;
};
static inline int
inner_load(struct inner_view *view, const void *frame, uint32_t frame_size)
{
    if (frame_size < sizeof(struct mshm_page))
        return MSHM_CORRUPT;
    view->frame = frame;
    view->frame_size = frame_size;
    view->counts = page_counts_load(frame);
    view->arrays = page_arrays_load(frame);
    uint32_t count = view->counts.key_count;
    if (!frame_holds(frame_size, view->arrays.heads_at, count * 4) ||
        !frame_holds(frame_size, view->arrays.slots_at, count * 4) ||
        !frame_holds(frame_size, view->arrays.children_at, (count + 1) * 4) ||
        !frame_holds(frame_size, view->counts.prefix_at, view->counts.prefix_size))
        return MSHM_CORRUPT;
    return MSHM_OK;
}

/* Separator i without the page's prefix. */
static inline int
inner_separator(const struct inner_view *view, uint32_t i, const uint8_t **key, uint32_t *size)
{
    uint32_t slot = page_u32(view->frame, view->arrays.slots_at + i * 4);
    if (!frame_holds(view->frame_size, slot & 0xffff, slot >> 16))
        return MSHM_CORRUPT;
    *key = view->frame + (slot & 0xffff);
    *size = slot >> 16;
    return MSHM_OK;
}

/* The key against the prefix: <0 and >0: before or behind all separators; 0: begins with it. Up to 8 bytes of prefix
 * stand in the header. */
static inline int
inner_prefix_compare(const struct inner_view *view, const uint8_t *key, size_t key_size)
{
    uint32_t size = view->counts.prefix_size;
    if (size == 0)
        return 0;
    uint64_t head =
        __builtin_bswap64(page_word(view->frame, offsetof(struct mshm_page, prefix_head)));
    uint64_t mask = size >= 8 ? ~UINT64_C(0) : ~UINT64_C(0) << (64 - size * 8);
    uint64_t key_bytes = key_head8(key, key_size) & mask;
    if (key_bytes != (head & mask))
        return key_bytes < (head & mask) ? -1 : 1;
    size_t common = key_size < size ? key_size : size;
    if (common > 8) {
        int order = memcmp(key + 8, view->frame + view->counts.prefix_at + 8, common - 8);
        if (order != 0)
            return order;
    }
    return key_size < size ? -1 : 0;
}

/* Separators that are below the key, or (or_equal) not above it: the index of the child to take. */
static inline int
inner_rank(const struct inner_view *view, const uint8_t *key, size_t key_size, int or_equal,
           uint32_t *rank)
{
    uint32_t count = view->counts.key_count;
    int order = inner_prefix_compare(view, key, key_size);
    if (order != 0) {
        *rank = order < 0 ? 0 : count;
        return MSHM_OK;
    }
    key += view->counts.prefix_size;
    key_size -= view->counts.prefix_size;
    uint32_t head = key_head(key, key_size);
    const uint8_t *heads = view->frame + view->arrays.heads_at;
    uint32_t low = heads_count(heads, count, head, 0), high = low;
    if (low < count && page_u32(heads, low * 4) == head)
        high = low + heads_count(heads + low * 4, count - low, head, 1);
    while (low < high) {
        uint32_t middle = low + (high - low) / 2, size;
        const uint8_t *separator;
        if (inner_separator(view, middle, &separator, &size) != 0)
            return MSHM_CORRUPT;
        order = bytes_compare(separator, size, key, key_size);
        if (order < 0 || (or_equal && order == 0))
            low = middle + 1;
        else
            high = middle;
    }
    *rank = low;
    return MSHM_OK;
}

int
mshm_inner_find(const void *frame, uint32_t frame_size, const void *key, size_t key_size, int below,
                mshm_pid *child, uint32_t *index)
{
    struct inner_view view;
    uint32_t rank;
    if (inner_load(&view, frame, frame_size) != 0 ||
        inner_rank(&view, key, key_size, !below, &rank) != 0)
        return MSHM_CORRUPT;
    *child = page_u32(view.frame, view.arrays.children_at + rank * 4);
    *index = rank;
    return MSHM_OK;
}

mshm_pid
mshm_inner_child(const void *frame, uint32_t frame_size, uint32_t index)
{
    struct inner_view view;
    if (inner_load(&view, frame, frame_size) != 0 || index > view.counts.key_count)
        return 0;
    return page_u32(view.frame, view.arrays.children_at + index * 4);
}

int
mshm_inner_take(const void *frame, uint32_t frame_size, struct mshm_separator *separators,
                mshm_pid *children, uint32_t capacity, uint8_t *key_bytes, uint32_t key_bytes_size)
{
    struct inner_view view;
    if (inner_load(&view, frame, frame_size) != 0)
        return MSHM_CORRUPT;
    uint32_t count = view.counts.key_count, prefix_size = view.counts.prefix_size;
    if (count > capacity)
        return MSHM_FULL;
    for (uint32_t i = 0; i < count; i++) {
        const uint8_t *suffix;
        uint32_t size;
        if (inner_separator(&view, i, &suffix, &size) != 0 || prefix_size + size > MSHM_MAX_KEY)
            return MSHM_CORRUPT;
        if (prefix_size + size > key_bytes_size)
            return MSHM_FULL;
        memcpy(key_bytes, view.frame + view.counts.prefix_at, prefix_size);
        memcpy(key_bytes + prefix_size, suffix, size);
        separators[i].key = key_bytes;
        separators[i].size = (uint16_t)(prefix_size + size);
        key_bytes += prefix_size + size;
        key_bytes_size -= prefix_size + size;
    }
    for (uint32_t i = 0; i <= count; i++)
        children[i] = page_u32(view.frame, view.arrays.children_at + i * 4);
    return (int)count;
}

/* Separators ascend, stand between the fences, and their heads are right. */
static const char *
check_separators(const struct inner_view *view, const struct mshm_fences *fences)
{
    static_assert(MSHM_MAX_KEY <= UINT16_MAX, "a separator's size fits its field");
    uint8_t keys[2][MSHM_MAX_KEY];
    uint32_t prefix_size = view->counts.prefix_size, sizes[2] = {0, 0};
    for (uint32_t i = 0; i < view->counts.key_count; i++) {
        const uint8_t *suffix;
        uint32_t size;
        if (inner_separator(view, i, &suffix, &size) != 0)
            return "a separator does not fit into the frame";
        if (prefix_size + size == 0 || prefix_size + size > MSHM_MAX_KEY)
            return "a separator's size is out of range";
        uint8_t *key = keys[i % 2];
        memcpy(key, view->frame + view->counts.prefix_at, prefix_size);
        memcpy(key + prefix_size, suffix, size);
        sizes[i % 2] = prefix_size + size;
        if (page_u32(view->frame, view->arrays.heads_at + i * 4) != key_head(suffix, size))
            return "a head is not that of its separator";
        if (i > 0 && bytes_compare(keys[(i - 1) % 2], sizes[(i - 1) % 2], key, sizes[i % 2]) >= 0)
            return "the separators are not ascending";
        if (bytes_compare(key, sizes[i % 2], fences->low, fences->low_size) <= 0 ||
            mshm_fences_compare(fences, key, sizes[i % 2], 0) != 0)
            return "a separator does not stand between the fences";
    }
    return NULL;
}

int
mshm_inner_check(const void *frame, uint32_t frame_size, const char **why)
{
    const struct mshm_page *page = frame;
    const char *wrong = NULL;
    struct inner_view view;
    struct mshm_fences fences;
    if (inner_load(&view, frame, frame_size) != 0 ||
        mshm_page_fences(frame, frame_size, &fences) != 0)
        wrong = "a part of the page does not fit into the frame";
    else if (page->magic != MSHM_PAGE_MAGIC || page->kind != MSHM_PAGE_INNER || page->level == 0)
        wrong = "the page is not an inner page";
    else if (view.arrays.base_end > frame_size)
        wrong = "the page does not end inside the frame";
    else if (page_word(frame, offsetof(struct mshm_page, prefix_head)) !=
             bytes_load_upto8(view.frame + view.counts.prefix_at, view.counts.prefix_size))
        wrong = "the prefix's head is not that of the prefix";
    else if (fences.high_size != MSHM_FENCE_INFINITE &&
             bytes_compare(fences.low, fences.low_size, fences.high, fences.high_size) >= 0)
        wrong = "the low fence is not below the high fence";
    else
        wrong = check_separators(&view, &fences);
    for (uint32_t i = 0; wrong == NULL && i <= view.counts.key_count; i++)
        if (page_u32(view.frame, view.arrays.children_at + i * 4) == 0)
            wrong = "a child is missing";
    if (wrong == NULL)
        return MSHM_OK;
    if (why != NULL)
        *why = wrong;
    return MSHM_CORRUPT;
}
