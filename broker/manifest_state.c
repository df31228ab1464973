/* manifest_state.c - what the records of a manifest add up to while it is loaded: the location of each page in a table
 * by pid, made piece by piece, so that a stray high pid costs a piece and not the whole range; the files by number; the
 * newest catalogue, outcomes and strays.
 */
#include <stdlib.h>
#include <string.h>

#include "manifest_parts.h"
#include "mshm/base.h"
#include "mshm/status.h"

enum { PIECE_PAGES = 4096, PIECES_START = 64 };

struct blob {
    uint8_t *bytes;
    uint64_t size;
    bool there;
};

struct manifest_state {
    data_location **pieces; /* NULL: no page of these pids */
    uint32_t piece_count;
    struct manifest_file *files; /* ascending by number */
    uint32_t file_count, file_capacity;
    struct blob catalogue, outcomes, strays;
};

struct manifest_state *
manifest_state_create(void)
{
    return calloc(1, sizeof(struct manifest_state));
}

void
manifest_state_destroy(struct manifest_state *state)
{
    if (state == NULL)
        return;
    for (uint32_t i = 0; i < state->piece_count; i++)
        free(state->pieces[i]);
    free(state->pieces);
    free(state->files);
    free(state->catalogue.bytes);
    free(state->outcomes.bytes);
    free(state->strays.bytes);
    free(state);
}

/* Room for the location of this pid; NULL: out of memory. */
static data_location *
page_place(struct manifest_state *state, uint32_t pid)
{
    uint32_t index = pid / PIECE_PAGES;
    if (index >= state->piece_count) {
        uint32_t count = state->piece_count != 0 ? state->piece_count : PIECES_START;
        while (count <= index)
            count *= 2;
        data_location **grown = realloc(state->pieces, count * sizeof *grown);
        if (grown == NULL)
            return NULL;
        memset(grown + state->piece_count, 0, (count - state->piece_count) * sizeof *grown);
        state->pieces = grown;
        state->piece_count = count;
    }
    data_location **piece = &state->pieces[index];
    if (*piece == NULL && (*piece = calloc(PIECE_PAGES, sizeof **piece)) == NULL)
        return NULL;
    return &(*piece)[pid % PIECE_PAGES];
}

static int
page_apply(struct manifest_state *state, const struct manifest_page_image *image, bool snapshot,
           const char **what)
{
    data_location location = (data_location)image->location_high << 32 | image->location_low;
    if (image->pid == 0 || image->pid >= MSHM_MAX_PIDS || location >> 60 != 0) {
        *what = "a page that cannot be";
        return MSHM_CORRUPT;
    }
    data_location *place = page_place(state, image->pid);
    if (place == NULL)
        return MSHM_NO_MEMORY;
    if (snapshot && (location == 0 || *place != 0)) {
        *what = "a page without a place, or twice";
        return MSHM_CORRUPT;
    }
    *place = location;
    return MSHM_OK;
}

static uint32_t
file_find(const struct manifest_state *state, uint32_t number)
{
    uint32_t low = 0, high = state->file_count;
    /* Files come in ascending order mostly. */
    if (high > 0 && state->files[high - 1].number < number)
        return high;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (state->files[middle].number < number)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static void
file_remove(struct manifest_state *state, uint32_t place)
{
    state->file_count--;
    memmove(state->files + place, state->files + place + 1,
            (state->file_count - place) * sizeof *state->files);
}

static int
file_insert(struct manifest_state *state, uint32_t place, const struct manifest_file *file)
{
    if (state->file_count == state->file_capacity) {
        uint32_t capacity = state->file_capacity != 0 ? state->file_capacity * 2 : 64;
        struct manifest_file *grown = realloc(state->files, capacity * sizeof *grown);
        if (grown == NULL)
            return MSHM_NO_MEMORY;
        state->files = grown;
        state->file_capacity = capacity;
    }
    memmove(state->files + place + 1, state->files + place,
            (state->file_count - place) * sizeof *state->files);
    state->files[place] = *file;
    state->file_count++;
    return MSHM_OK;
}

static int
file_apply(struct manifest_state *state, const struct manifest_file_image *image, const char **what)
{
    struct manifest_file file = {image->number, image->total, image->live};
    if (file.number > DATA_MAX_FILE || file.live > file.total) {
        *what = "a file that cannot be";
        return MSHM_CORRUPT;
    }
    uint32_t place = file_find(state, file.number);
    bool known = place < state->file_count && state->files[place].number == file.number;
    if (file.total == 0) {
        if (known)
            file_remove(state, place);
        return MSHM_OK;
    }
    if (!known)
        return file_insert(state, place, &file);
    state->files[place] = file;
    return MSHM_OK;
}

static int
blob_apply(struct blob *blob, const uint8_t *bytes, uint64_t size)
{
    uint8_t *copy = malloc(size != 0 ? size : 1);
    if (copy == NULL)
        return MSHM_NO_MEMORY;
    memcpy(copy, bytes, size);
    free(blob->bytes);
    *blob = (struct blob){copy, size, true};
    return MSHM_OK;
}

int
manifest_state_apply(struct manifest_state *state, const struct manifest_record *record,
                     const uint8_t *bytes, const char **what)
{
    struct manifest_places places;
    struct manifest_page_image page;
    struct manifest_file_image file;
    int status = MSHM_OK;
    if (!manifest_places(record, &places)) {
        *what = "a record that does not fit into itself";
        return MSHM_CORRUPT;
    }
    for (uint64_t i = 0; i < record->page_count && status == MSHM_OK; i++) {
        memcpy(&page, bytes + places.pages + i * sizeof page, sizeof page);
        status = page_apply(state, &page, record->kind == MANIFEST_SNAPSHOT, what);
    }
    for (uint32_t i = 0; i < record->file_count && status == MSHM_OK; i++) {
        memcpy(&file, bytes + places.files + i * sizeof file, sizeof file);
        status = file_apply(state, &file, what);
    }
    if (status == MSHM_OK && (record->flags & MANIFEST_CATALOGUE) != 0)
        status = blob_apply(&state->catalogue, bytes + places.catalogue, record->catalogue_size);
    if (status == MSHM_OK && (record->flags & MANIFEST_OUTCOMES) != 0)
        status = blob_apply(&state->outcomes, bytes + places.outcomes, record->outcomes_size);
    if (status == MSHM_OK && (record->flags & MANIFEST_STRAYS) != 0)
        status = blob_apply(&state->strays, bytes + places.strays, record->strays_size);
    return status;
}

static int
pages_visit(struct manifest_state *state, const struct manifest_visitor *visitor)
{
    for (uint32_t i = 0; i < state->piece_count; i++) {
        data_location *piece = state->pieces[i];
        for (uint32_t k = 0; piece != NULL && k < PIECE_PAGES; k++) {
            if (piece[k] == 0)
                continue;
            int status = visitor->page(visitor->argument, i * PIECE_PAGES + k, piece[k]);
            if (status != MSHM_OK)
                return status;
        }
        free(piece);
        state->pieces[i] = NULL;
    }
    return MSHM_OK;
}

int
manifest_state_visit(struct manifest_state *state, const struct manifest_visitor *visitor)
{
    int status = MSHM_OK;
    if (visitor->catalogue != NULL && state->catalogue.there)
        status =
            visitor->catalogue(visitor->argument, state->catalogue.bytes, state->catalogue.size);
    if (status == MSHM_OK && visitor->outcomes != NULL && state->outcomes.there)
        status = visitor->outcomes(visitor->argument, state->outcomes.bytes, state->outcomes.size);
    if (status == MSHM_OK && visitor->strays != NULL && state->strays.there)
        status = visitor->strays(visitor->argument, state->strays.bytes, state->strays.size);
    for (uint32_t i = 0; status == MSHM_OK && visitor->file != NULL && i < state->file_count; i++)
        status = visitor->file(visitor->argument, &state->files[i]);
    if (status == MSHM_OK && visitor->page != NULL)
        status = pages_visit(state, visitor);
    return status;
}
