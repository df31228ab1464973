/* catalogue_save.c - the catalogue as bytes for a checkpoint, and back. */
#include <stdlib.h>
#include <string.h>

#include "catalogue_parts.h"
#include "mshm/status.h"

enum { HEIGHT_MAX = 256 }; /* a page's level is one byte */

static uint64_t
name_room(uint32_t name_size)
{
    return (name_size + UINT64_C(7)) & ~UINT64_C(7);
}

/* --- saving --- */

static void
bucket_write(uint8_t *to, const struct place *place)
{
    const struct catalogue_bucket *bucket = &place->bucket;
    struct catalogue_image image = {.id = bucket->id,
                                    .root = bucket->root,
                                    .state = place->state,
                                    .name_size = bucket->name_size,
                                    .created = bucket->created,
                                    .dropped = bucket->dropped,
                                    .options = bucket->options};
    memcpy(to, &image, sizeof image);
    memcpy(to + sizeof image, bucket->name, bucket->name_size);
}

int
catalogue_save(const struct catalogue *catalogue, void **bytes, uint64_t *size)
{
    struct tree_figures figures;
    struct catalogue_header header = {
        .magic = CATALOGUE_MAGIC, .version = CATALOGUE_VERSION, .next_id = catalogue->next_id};
    uint64_t needed = sizeof header, at = sizeof header;
    for (uint32_t i = 0; i < catalogue->capacity; i++) {
        if (catalogue->places[i].state == PLACE_FREE)
            continue;
        header.count++;
        needed += sizeof(struct catalogue_image) + name_room(catalogue->places[i].bucket.name_size);
    }
    uint8_t *made = calloc(1, needed);
    if (made == NULL)
        return MSHM_NO_MEMORY;
    tree_figures(catalogue->tree, &figures);
    header.pages_leaf = figures.pages_leaf;
    header.pages_inner = figures.pages_inner;
    header.height = figures.height;
    memcpy(made, &header, sizeof header);
    for (uint32_t i = 0; i < catalogue->capacity; i++) {
        const struct place *place = &catalogue->places[i];
        if (place->state == PLACE_FREE)
            continue;
        bucket_write(made + at, place);
        at += sizeof(struct catalogue_image) + name_room(place->bucket.name_size);
    }
    *bytes = made;
    *size = needed;
    return MSHM_OK;
}

/* --- reading --- */

static bool
header_valid(const struct catalogue_header *header)
{
    return header->next_id != 0 && header->pages_leaf <= MSHM_MAX_PIDS &&
           header->pages_inner <= MSHM_MAX_PIDS && header->height <= HEIGHT_MAX;
}

static bool
image_valid(const struct catalogue_image *image, uint32_t next_id)
{
    bool lives = image->state == CATALOGUE_LIVING;
    return image->id != 0 && image->id < next_id && image->root != 0 &&
           image->root < MSHM_MAX_PIDS &&
           (lives || image->state == CATALOGUE_DROPPED || image->state == CATALOGUE_LEAVING) &&
           image->name_size <= MSHM_MAX_BUCKET_NAME && image->created != 0 &&
           (lives ? image->dropped == 0 : image->dropped > image->created) &&
           catalogue_record_valid(&image->options);
}

/* The bucket at *at, and moves *at behind it. */
static int
bucket_read(const uint8_t *bytes, uint64_t size, uint64_t *at, uint32_t next_id,
            struct catalogue_bucket *bucket, enum catalogue_state *state)
{
    struct catalogue_image image;
    if (size - *at < sizeof image)
        return MSHM_CORRUPT;
    memcpy(&image, bytes + *at, sizeof image);
    *at += sizeof image;
    if (!image_valid(&image, next_id) || size - *at < name_room(image.name_size) ||
        !catalogue_name_valid(bytes + *at, image.name_size))
        return MSHM_CORRUPT;
    *bucket = (struct catalogue_bucket){.id = image.id,
                                        .root = image.root,
                                        .created = image.created,
                                        .dropped = image.dropped,
                                        .options = image.options,
                                        .name_size = (uint16_t)image.name_size};
    memcpy(bucket->name, bytes + *at, image.name_size);
    *at += name_room(image.name_size);
    *state = (enum catalogue_state)image.state;
    return MSHM_OK;
}

int
catalogue_read(const void *bytes, uint64_t size, struct catalogue_header *header,
               int (*each)(void *argument, const struct catalogue_bucket *bucket,
                           enum catalogue_state state),
               void *argument)
{
    uint64_t at = sizeof *header;
    struct catalogue_bucket bucket;
    enum catalogue_state state;
    if (size < sizeof *header)
        return MSHM_CORRUPT;
    memcpy(header, bytes, sizeof *header);
    if (header->magic != CATALOGUE_MAGIC)
        return MSHM_CORRUPT;
    if (header->version != CATALOGUE_VERSION)
        return MSHM_VERSION;
    if (!header_valid(header))
        return MSHM_CORRUPT;
    for (uint32_t i = 0; i < header->count; i++) {
        int status = bucket_read(bytes, size, &at, header->next_id, &bucket, &state);
        if (status != MSHM_OK)
            return status;
        bucket.place = i;
        if ((status = each(argument, &bucket, state)) != MSHM_OK)
            return status;
    }
    return at == size ? MSHM_OK : MSHM_CORRUPT;
}

/* --- loading --- */

/* Ids and roots of all buckets differ; names only those of living ones. */
static bool
bucket_is_new(const struct catalogue *catalogue, const struct catalogue_bucket *bucket)
{
    for (uint32_t i = 0; i < bucket->place; i++)
        if (catalogue->places[i].bucket.id == bucket->id ||
            catalogue->places[i].bucket.root == bucket->root)
            return false;
    return true;
}

/* A bucket whose tree is half given back is not shown: readers of an earlier incarnation are gone, and new ones must
 * not begin at its root. */
static int
bucket_place(void *argument, const struct catalogue_bucket *bucket, enum catalogue_state state)
{
    struct catalogue *catalogue = argument;
    if (bucket->place >= catalogue->capacity)
        return MSHM_LIMIT;
    if (!bucket_is_new(catalogue, bucket))
        return MSHM_CORRUPT;
    struct place *place = &catalogue->places[bucket->place];
    place->bucket = *bucket;
    place->state = (enum place_state)state;
    int status = MSHM_OK;
    if (state == CATALOGUE_LIVING)
        status = catalogue_enlist(catalogue, bucket->place);
    else
        catalogue->dropped++;
    if (status == MSHM_OK && state != CATALOGUE_LEAVING)
        catalogue_show(catalogue, bucket->place);
    return status;
}

int
catalogue_load(struct catalogue *catalogue, const void *bytes, uint64_t size)
{
    struct catalogue_header header;
    int status = catalogue_read(bytes, size, &header, bucket_place, catalogue);
    if (status != MSHM_OK)
        return status;
    struct tree_figures figures = {header.pages_leaf, header.pages_inner, header.height};
    catalogue->next_id = header.next_id;
    tree_figures_restore(catalogue->tree, &figures);
    return MSHM_OK;
}
