/* catalogue.c - the buckets: names, ids, options, roots.
 *
 * A bucket takes one place of the catalogue from its creation until its tree has been given back after the drop; the
 * place is its index in the store's catalogue, too. Living buckets are found by name through a sorted list of places
 * and by id through an open-addressed table; both are rebuilt or shifted by create and drop, which are rare.
 *
 *   free --create--> living --drop--> dropped --reap--> leaving --reap, tree gone--> free
 *         id last          `dropped`           id 0 first
 */
#include "catalogue_parts.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "mshm/page.h"
#include "mshm/status.h"

enum {
    RECORD_VERSION = 1,
    PAGE_SIZE_MIN = 4096,
    PAGE_SIZE_MAX = 65536,
    COMPRESSION_NONE = 1, /* as the public interface names them; 0 = default is none */
    COMPRESSION_ZSTD = 2,
    REAP_PAGES = 64, /* pages unlinked per call of catalogue_reap */
};

static const char default_name[] = "default";

int
catalogue_create(struct catalogue **result, struct tree *tree, struct mshm_catalogue_entry *entries,
                 uint64_t capacity, uint32_t default_page_size)
{
    if (capacity == 0 || capacity > MSHM_MAX_BUCKETS)
        return MSHM_INVALID;
    struct catalogue *catalogue = calloc(1, sizeof(*catalogue));
    if (catalogue == NULL)
        return MSHM_NO_MEMORY;
    uint32_t ids = 4;
    while (ids < 2 * capacity)
        ids *= 2;
    catalogue->tree = tree;
    catalogue->entries = entries;
    catalogue->capacity = (uint32_t)capacity;
    catalogue->ids_mask = ids - 1;
    catalogue->next_id = 1;
    catalogue->default_page_size = default_page_size;
    catalogue->places = calloc(capacity, sizeof(*catalogue->places));
    catalogue->names = calloc(capacity, sizeof(*catalogue->names));
    catalogue->ids = calloc(ids, sizeof(*catalogue->ids));
    if (catalogue->places == NULL || catalogue->names == NULL || catalogue->ids == NULL) {
        catalogue_destroy(catalogue);
        return MSHM_NO_MEMORY;
    }
    *result = catalogue;
    return MSHM_OK;
}

void
catalogue_destroy(struct catalogue *catalogue)
{
    if (catalogue == NULL)
        return;
    free(catalogue->places);
    free(catalogue->names);
    free(catalogue->ids);
    free(catalogue);
}

/* --- names ------------------------------------------------------------------------------------------------------- */

/* Bytes of the UTF-8 character at `at`, or 0 when it is none: overlong forms, surrogates and numbers above 10ffff are
 * none, and NUL is not allowed in a name. */
static size_t
utf8_character(const uint8_t *at, size_t left)
{
    uint8_t lead = at[0];
    if (lead < 0x80)
        return lead != 0;
    size_t size = lead >= 0xf0 ? 4 : lead >= 0xe0 ? 3 : 2;
    if (lead < 0xc2 || lead > 0xf4 || size > left)
        return 0;
    for (size_t i = 1; i < size; i++)
        if ((at[i] & 0xc0) != 0x80)
            return 0;
    if ((lead == 0xe0 && at[1] < 0xa0) || (lead == 0xed && at[1] >= 0xa0) ||
        (lead == 0xf0 && at[1] < 0x90) || (lead == 0xf4 && at[1] >= 0x90))
        return 0;
    return size;
}

bool
catalogue_name_valid(const void *name, size_t size)
{
    const uint8_t *bytes = name;
    if (size == 0 || size > MSHM_MAX_BUCKET_NAME)
        return false;
    for (size_t at = 0; at < size;) {
        size_t character = utf8_character(bytes + at, size - at);
        if (character == 0)
            return false;
        at += character;
    }
    return true;
}

static const struct catalogue_bucket *
bucket_at(const struct catalogue *catalogue, uint32_t rank)
{
    return &catalogue->places[catalogue->names[rank]].bucket;
}

/* How many living buckets have a smaller name; *equal tells whether the next one has this name. */
static uint32_t
name_rank(const struct catalogue *catalogue, const void *name, size_t size, bool *equal)
{
    uint32_t low = 0, high = catalogue->living;
    *equal = false;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        const struct catalogue_bucket *bucket = bucket_at(catalogue, middle);
        int order = mshm_key_compare(bucket->name, bucket->name_size, name, size);
        if (order == 0)
            *equal = true;
        if (order < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

const struct catalogue_bucket *
catalogue_find(const struct catalogue *catalogue, const void *name, size_t size)
{
    bool equal;
    uint32_t rank = name_rank(catalogue, name, size, &equal);
    return equal ? bucket_at(catalogue, rank) : NULL;
}

const struct catalogue_bucket *
catalogue_after(const struct catalogue *catalogue, const void *name, size_t size)
{
    bool equal;
    uint32_t rank = name_rank(catalogue, name, size, &equal) + (equal ? 1 : 0);
    return rank < catalogue->living ? bucket_at(catalogue, rank) : NULL;
}

int
catalogue_each(const struct catalogue *catalogue,
               int (*each)(const struct catalogue_bucket *, void *), void *arg)
{
    int result = 0;
    for (uint32_t rank = 0; rank < catalogue->living && result == 0; rank++)
        result = each(bucket_at(catalogue, rank), arg);
    return result;
}

uint32_t
catalogue_count(const struct catalogue *catalogue)
{
    return catalogue->living;
}

/* --- ids --------------------------------------------------------------------------------------------------------- */

static void
ids_insert(struct catalogue *catalogue, uint32_t place)
{
    uint32_t slot = catalogue->places[place].bucket.id & catalogue->ids_mask;
    while (catalogue->ids[slot] != 0)
        slot = (slot + 1) & catalogue->ids_mask;
    catalogue->ids[slot] = place + 1;
}

static void
ids_rebuild(struct catalogue *catalogue)
{
    memset(catalogue->ids, 0, (catalogue->ids_mask + 1) * sizeof(*catalogue->ids));
    for (uint32_t rank = 0; rank < catalogue->living; rank++)
        ids_insert(catalogue, catalogue->names[rank]);
}

const struct catalogue_bucket *
catalogue_get(const struct catalogue *catalogue, uint32_t id)
{
    for (uint32_t slot = id & catalogue->ids_mask; catalogue->ids[slot] != 0;
         slot = (slot + 1) & catalogue->ids_mask) {
        const struct catalogue_bucket *bucket = &catalogue->places[catalogue->ids[slot] - 1].bucket;
        if (bucket->id == id)
            return bucket;
    }
    return NULL;
}

int
catalogue_resolve(void *argument, uint32_t id, struct tree_target *target)
{
    const struct catalogue_bucket *bucket = catalogue_get(argument, id);
    if (bucket == NULL)
        return MSHM_NOT_FOUND;
    target->ref = (struct mshm_tree_ref){.bucket = id, .root = bucket->root};
    target->page_size = bucket->options.page_size;
    return MSHM_OK;
}

/* Until values can stand outside their leaf, a smaller limit would only refuse values that fit: the wish is kept in the
 * bucket's record and every value that a leaf can hold is accepted. */
static uint32_t
effective_inline_limit(const struct catalogue_record *options)
{
    (void)options;
    return MSHM_MAX_INLINE;
}

uint32_t
catalogue_inline_limit(const struct catalogue *catalogue, uint32_t id)
{
    const struct catalogue_bucket *bucket = catalogue_get(catalogue, id);
    return bucket == NULL ? 0 : effective_inline_limit(&bucket->options);
}

/* --- planning ---------------------------------------------------------------------------------------------------- */

static bool
page_size_valid(uint32_t size)
{
    return size >= PAGE_SIZE_MIN && size <= PAGE_SIZE_MAX && (size & (size - 1)) == 0;
}

bool
catalogue_record_valid(const struct catalogue_record *record)
{
    return record->version == RECORD_VERSION && page_size_valid(record->page_size) &&
           record->inline_limit >= 1 && record->inline_limit <= MSHM_MAX_INLINE &&
           record->compression >= COMPRESSION_NONE && record->compression <= COMPRESSION_ZSTD &&
           record->backpressure == 0 && record->merge_operator == 0;
}

/* Puts what the request asks for over `record`, which holds defaults or what the bucket has now. */
static int
record_change(struct catalogue_record *record, const struct mshm_bucket_message *request)
{
    if (request->page_size != 0)
        record->page_size = request->page_size;
    if (request->inline_limit != 0)
        record->inline_limit = request->inline_limit;
    if (request->compression != 0)
        record->compression = request->compression;
    if (request->backpressure != 0)
        record->backpressure = request->backpressure;
    if (request->merge_operator != 0)
        record->merge_operator = request->merge_operator;
    return catalogue_record_valid(record) ? MSHM_OK : MSHM_INVALID;
}

static uint32_t
place_find_free(const struct catalogue *catalogue)
{
    uint32_t place = 0;
    while (place < catalogue->capacity && catalogue->places[place].state != PLACE_FREE)
        place++;
    return place;
}

static int
plan_create(const struct catalogue *catalogue, const struct mshm_bucket_message *request,
            uint32_t *id, struct catalogue_record *record)
{
    if (catalogue_find(catalogue, request->name, request->name_size) != NULL)
        return MSHM_EXISTS;
    *record = (struct catalogue_record){
        .version = RECORD_VERSION,
        .page_size = catalogue->default_page_size,
        .inline_limit = MSHM_MAX_INLINE,
        .compression = COMPRESSION_NONE,
    };
    int status = record_change(record, request);
    if (status != MSHM_OK)
        return status;
    if (place_find_free(catalogue) == catalogue->capacity || catalogue->next_id == UINT32_MAX)
        return MSHM_LIMIT;
    *id = catalogue->next_id;
    return MSHM_OK;
}

static int
plan_drop(const struct catalogue *catalogue, const struct mshm_bucket_message *request,
          uint32_t *id, struct catalogue_record *record)
{
    if (request->name_size == sizeof(default_name) - 1 &&
        memcmp(request->name, default_name, request->name_size) == 0)
        return MSHM_INVALID;
    const struct catalogue_bucket *bucket =
        catalogue_find(catalogue, request->name, request->name_size);
    if (bucket == NULL)
        return MSHM_NOT_FOUND;
    *id = bucket->id;
    *record = bucket->options;
    return MSHM_OK;
}

static int
plan_alter(const struct catalogue *catalogue, const struct mshm_bucket_message *request,
           uint32_t *id, struct catalogue_record *record)
{
    const struct catalogue_bucket *bucket =
        catalogue_find(catalogue, request->name, request->name_size);
    if (bucket == NULL)
        return MSHM_NOT_FOUND;
    if (request->page_size != 0 && request->page_size != bucket->options.page_size)
        return MSHM_INVALID; /* fixed at creation */
    *id = bucket->id;
    *record = bucket->options;
    return record_change(record, request);
}

int
catalogue_plan(const struct catalogue *catalogue, unsigned kind,
               const struct mshm_bucket_message *request, void *op, uint64_t *size)
{
    struct catalogue_record record;
    uint32_t id = 0;
    int status = MSHM_INVALID;
    if (request->name_size > MSHM_MAX_BUCKET_NAME ||
        !catalogue_name_valid(request->name, request->name_size))
        return MSHM_INVALID;
    if (kind == MSHM_OP_BUCKET_CREATE)
        status = plan_create(catalogue, request, &id, &record);
    else if (kind == MSHM_OP_BUCKET_DROP)
        status = plan_drop(catalogue, request, &id, &record);
    else if (kind == MSHM_OP_BUCKET_ALTER)
        status = plan_alter(catalogue, request, &id, &record);
    if (status != MSHM_OK)
        return status;
    *size = mshm_op_write(op, id, kind, request->name, request->name_size, &record,
                          (uint32_t)sizeof(record));
    return MSHM_OK;
}

/* --- applying ---------------------------------------------------------------------------------------------------- */

static void
entry_describe(struct mshm_catalogue_entry *entry, const struct catalogue_record *options)
{
    AO_store(&entry->inline_limit, effective_inline_limit(options));
    AO_store(&entry->page_size, options->page_size);
    AO_store(&entry->options, (AO_t)(options->compression & 0xff) |
                                  (AO_t)(options->backpressure & 0xff) << 8 |
                                  (AO_t)(options->merge_operator & 0xffff) << 16);
}

void
catalogue_show(struct catalogue *catalogue, uint32_t place)
{
    const struct catalogue_bucket *bucket = &catalogue->places[place].bucket;
    struct mshm_catalogue_entry *entry = &catalogue->entries[place];
    AO_store(&entry->root, bucket->root);
    AO_store(&entry->created, bucket->created);
    AO_store(&entry->dropped, bucket->dropped);
    entry_describe(entry, &bucket->options);
    /* Pairs with the load-acquire of a reader's look-up. */
    AO_store_release(&entry->id, bucket->id);
}

int
catalogue_enlist(struct catalogue *catalogue, uint32_t place)
{
    const struct catalogue_bucket *bucket = &catalogue->places[place].bucket;
    bool equal;
    uint32_t rank = name_rank(catalogue, bucket->name, bucket->name_size, &equal);
    if (equal)
        return MSHM_CORRUPT;
    memmove(catalogue->names + rank + 1, catalogue->names + rank,
            (catalogue->living - rank) * sizeof(*catalogue->names));
    catalogue->names[rank] = place;
    catalogue->living++;
    ids_insert(catalogue, place);
    return MSHM_OK;
}

/* Replay meets dropped buckets that nobody can read any more; they make room when the places run out. While serving,
 * catalogue_plan has seen a free place. MSHM_BUSY: pages are missing (tree_missing). */
static int
place_take(struct catalogue *catalogue, uint32_t *place)
{
    const mshm_pid *missing;
    *place = place_find_free(catalogue);
    while (*place == catalogue->capacity && catalogue->dropped > 0) {
        if (catalogue_reap(catalogue, UINT64_MAX) && tree_missing(catalogue->tree, &missing) > 0)
            return MSHM_BUSY;
        *place = place_find_free(catalogue);
    }
    return *place == catalogue->capacity ? MSHM_CORRUPT : MSHM_OK;
}

static int
apply_create(struct catalogue *catalogue, const struct mshm_op *op,
             const struct catalogue_record *record, mshm_timestamp timestamp)
{
    bool equal;
    uint32_t place;
    (void)name_rank(catalogue, mshm_op_key(op), op->key_size, &equal);
    if (equal || op->bucket < catalogue->next_id || op->bucket == UINT32_MAX)
        return MSHM_CORRUPT;
    mshm_pid root;
    int status = place_take(catalogue, &place);
    if (status != MSHM_OK || (status = tree_bucket_create(catalogue->tree, op->bucket,
                                                          record->page_size, &root)) != MSHM_OK)
        return status;
    struct catalogue_bucket *bucket = &catalogue->places[place].bucket;
    *bucket = (struct catalogue_bucket){
        .id = op->bucket,
        .place = place,
        .root = root,
        .created = timestamp,
        .options = *record,
        .name_size = op->key_size,
    };
    memcpy(bucket->name, mshm_op_key(op), op->key_size);
    catalogue->places[place].state = PLACE_LIVING;
    status = catalogue_enlist(catalogue, place);
    assert(status == MSHM_OK);
    (void)status;
    catalogue->next_id = op->bucket + 1;
    catalogue_show(catalogue, place);
    return MSHM_OK;
}

static int
apply_drop(struct catalogue *catalogue, const struct mshm_op *op, mshm_timestamp timestamp)
{
    bool equal;
    uint32_t rank = name_rank(catalogue, mshm_op_key(op), op->key_size, &equal);
    if (!equal || bucket_at(catalogue, rank)->id != op->bucket)
        return MSHM_CORRUPT;
    uint32_t place = catalogue->names[rank];
    catalogue->places[place].state = PLACE_DROPPED;
    catalogue->places[place].bucket.dropped = timestamp;
    catalogue->living--;
    catalogue->dropped++;
    memmove(catalogue->names + rank, catalogue->names + rank + 1,
            (catalogue->living - rank) * sizeof(*catalogue->names));
    ids_rebuild(catalogue);
    /* Before the drop's timestamp becomes visible: the caller publishes `visible` (release) after this. */
    AO_store_release(&catalogue->entries[place].dropped, timestamp);
    return MSHM_OK;
}

static int
apply_alter(struct catalogue *catalogue, const struct mshm_op *op,
            const struct catalogue_record *record)
{
    bool equal;
    uint32_t rank = name_rank(catalogue, mshm_op_key(op), op->key_size, &equal);
    if (!equal || bucket_at(catalogue, rank)->id != op->bucket)
        return MSHM_CORRUPT;
    struct place *place = &catalogue->places[catalogue->names[rank]];
    place->bucket.options = *record;
    entry_describe(&catalogue->entries[place->bucket.place], record);
    return MSHM_OK;
}

int
catalogue_apply(struct catalogue *catalogue, const struct mshm_op *op, mshm_timestamp timestamp)
{
    struct catalogue_record record;
    if (op->value_size != sizeof(record) || !catalogue_name_valid(mshm_op_key(op), op->key_size))
        return MSHM_CORRUPT;
    memcpy(&record, mshm_op_value(op), sizeof(record));
    if (!catalogue_record_valid(&record) || op->bucket == 0)
        return MSHM_CORRUPT;
    switch (op->kind) {
    case MSHM_OP_BUCKET_CREATE:
        return apply_create(catalogue, op, &record, timestamp);
    case MSHM_OP_BUCKET_DROP:
        return apply_drop(catalogue, op, timestamp);
    case MSHM_OP_BUCKET_ALTER:
        return apply_alter(catalogue, op, &record);
    default:
        return MSHM_CORRUPT;
    }
}

/* --- giving back ------------------------------------------------------------------------------------------------- */

bool
catalogue_reap(struct catalogue *catalogue, mshm_timestamp oldest)
{
    if (catalogue->dropped == 0)
        return false;
    for (uint32_t i = 0; i < catalogue->capacity; i++) {
        struct place *place = &catalogue->places[i];
        if (place->state == PLACE_DROPPED && place->bucket.dropped <= oldest) {
            /* From here on no reader can begin at this root; those inside are protected by their brackets. */
            AO_store_release(&catalogue->entries[i].id, 0);
            place->state = PLACE_LEAVING;
        }
        if (place->state != PLACE_LEAVING)
            continue;
        int status =
            tree_bucket_destroy(catalogue->tree, place->bucket.root, place->bucket.id, REAP_PAGES);
        if (status == MSHM_BUSY)
            return true;
        assert(status == MSHM_OK);
        memset(place, 0, sizeof(*place));
        catalogue->dropped--;
    }
    return false;
}

bool
catalogue_reap_pending(const struct catalogue *catalogue)
{
    return catalogue->dropped > 0;
}

bool
catalogue_leaving(const struct catalogue *catalogue)
{
    bool leaving = false;
    for (uint32_t i = 0; i < catalogue->capacity && catalogue->dropped > 0 && !leaving; i++)
        leaving = catalogue->places[i].state == PLACE_LEAVING;
    return leaving;
}
