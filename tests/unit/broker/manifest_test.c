/* CURRENT and MANIFEST-n on the simulated disk. A history of edits is written; whatever happens to the files, what is
 * loaded is one of the states of that history, or nothing.
 */
#include "manifest.h"

#include <check.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "crc.h"
#include "manifest_parts.h"
#include "mshm/base.h"
#include "mshm/status.h"
#include "sim/sim_env.h"

enum { PAGES = 40, FILES = 6, EDITS = 5, TEXT = 700 };

static struct sim_env *sim;
static const struct env *env;
static char why[256];

static void
begin(uint64_t seed)
{
    sim = sim_env_create(seed);
    env = sim_env_interface(sim);
}

static void
set_up(void)
{
    begin(1);
}

static void
tear_down(void)
{
    sim_env_destroy(sim);
}

/* --- what a manifest says --- */

struct picture {
    uint64_t incarnation, first_segment, cut;
    data_location pages[PAGES];
    struct manifest_file files[FILES];
    char catalogue[TEXT], outcomes[TEXT], strays[TEXT];
    uint32_t last_pid;
};

static int
picture_page(void *argument, uint32_t pid, data_location location)
{
    struct picture *picture = argument;
    ck_assert_uint_lt(pid, PAGES);
    ck_assert_uint_gt(pid, picture->last_pid);
    picture->last_pid = pid;
    picture->pages[pid] = location;
    return MSHM_OK;
}

static int
picture_file(void *argument, const struct manifest_file *file)
{
    struct picture *picture = argument;
    ck_assert_uint_lt(file->number, FILES);
    ck_assert_uint_eq(picture->last_pid, 0); /* files come before pages */
    picture->files[file->number] = *file;
    return MSHM_OK;
}

static int
picture_catalogue(void *argument, const void *bytes, uint64_t size)
{
    struct picture *picture = argument;
    ck_assert_uint_le(size, TEXT);
    memcpy(picture->catalogue, bytes, size);
    return MSHM_OK;
}

static int
picture_outcomes(void *argument, const void *bytes, uint64_t size)
{
    struct picture *picture = argument;
    ck_assert_uint_le(size, TEXT);
    memcpy(picture->outcomes, bytes, size);
    return MSHM_OK;
}

/* Unlike the others they may become none. */
static int
picture_strays(void *argument, const void *bytes, uint64_t size)
{
    struct picture *picture = argument;
    ck_assert_uint_le(size, TEXT);
    memset(picture->strays, 0, TEXT);
    memcpy(picture->strays, bytes, size);
    return MSHM_OK;
}

static int
load(struct manifest *manifest, struct picture *picture)
{
    struct manifest_visitor visitor = {picture,           picture_page,     picture_file,
                                       picture_catalogue, picture_outcomes, picture_strays};
    why[0] = '\0';
    memset(picture, 0, sizeof *picture);
    int status = manifest_load(env, manifest, &visitor, why, sizeof why);
    if (status == MSHM_OK) {
        picture->incarnation = manifest->incarnation;
        picture->first_segment = manifest->first_segment;
        picture->cut = manifest->cut.timestamp;
    }
    picture->last_pid = 0;
    return status;
}

static bool
same(const struct picture *a, const struct picture *b)
{
    for (unsigned i = 0; i < FILES; i++)
        if (a->files[i].number != b->files[i].number || a->files[i].total != b->files[i].total ||
            a->files[i].live != b->files[i].live)
            return false;
    return a->incarnation == b->incarnation && a->first_segment == b->first_segment &&
           a->cut == b->cut && memcmp(a->pages, b->pages, sizeof a->pages) == 0 &&
           memcmp(a->catalogue, b->catalogue, TEXT) == 0 &&
           memcmp(a->outcomes, b->outcomes, TEXT) == 0 && memcmp(a->strays, b->strays, TEXT) == 0;
}

/* --- a history --- */

struct step {
    struct manifest_edit edit;
    struct manifest_page pages[PAGES];
    struct manifest_file files[FILES];
    char catalogue[TEXT], outcomes[TEXT], strays[TEXT];
};

/* Edit `number` of the history, and what is so after it. */
static void
step_make(struct step *step, struct picture *picture, unsigned number)
{
    memset(step, 0, sizeof *step);
    step->edit = (struct manifest_edit){
        .incarnation = 1 + number / 2,
        .first_segment = 3 + number,
        .cut = {.timestamp = number * 100, .chain = number, .position = {3 + number, number * 64}},
        .pages = step->pages,
        .files = step->files};
    picture->incarnation = step->edit.incarnation;
    picture->first_segment = step->edit.first_segment;
    picture->cut = step->edit.cut.timestamp;
    for (uint32_t pid = 1 + number % 3; pid < PAGES; pid += 2 + number % 5) {
        bool gone = picture->pages[pid] != 0 && (pid + number) % 4 == 0;
        data_location location =
            gone ? 0 : data_location_make(1 + number % 5, number % 3, 4096 + pid * 64, 64 + number);
        if (number == 0 && location == 0)
            continue;
        step->pages[step->edit.page_count++] = (struct manifest_page){pid, location};
        picture->pages[pid] = location;
    }
    for (uint32_t file = number % 2; file < FILES; file += 3) {
        struct manifest_file figures = {file, 0, 0};
        if (number == 0 || (file + number) % 4 != 0)
            figures = (struct manifest_file){file, 4096 + number, number};
        step->files[step->edit.file_count++] = figures;
        picture->files[file] = figures.total != 0 ? figures : (struct manifest_file){0};
    }
    if (number % 2 == 0) {
        snprintf(step->catalogue, TEXT, "catalogue %u", number);
        memset(step->catalogue + 20, 'c', number * 100);
        step->edit.catalogue = step->catalogue;
        step->edit.catalogue_size = TEXT - 5 * number;
        memset(picture->catalogue, 0, TEXT);
        memcpy(picture->catalogue, step->catalogue, step->edit.catalogue_size);
    }
    if (number % 3 == 1) {
        snprintf(step->outcomes, TEXT, "outcomes %u", number);
        step->edit.outcomes = step->outcomes;
        step->edit.outcomes_size = 100;
        memset(picture->outcomes, 0, TEXT);
        memcpy(picture->outcomes, step->outcomes, 100);
    }
    if (number % 4 >= 2) {
        snprintf(step->strays, TEXT, "strays %u", number);
        step->edit.strays = step->strays;
        step->edit.strays_size = number % 4 == 2 ? 50 : 0;
        memset(picture->strays, 0, TEXT);
        memcpy(picture->strays, step->strays, step->edit.strays_size);
    }
}

/* The state after each edit; pictures[0] after the first one. */
static struct picture pictures[EDITS + 2];

static void
pictures_make(void)
{
    struct step step;
    memset(pictures, 0, sizeof pictures);
    for (unsigned i = 0; i < EDITS + 2; i++) {
        if (i > 0)
            pictures[i] = pictures[i - 1];
        step_make(&step, &pictures[i], i);
    }
}

static int
store(struct manifest *manifest, unsigned number)
{
    struct step step;
    struct picture before = {0};
    if (number > 0)
        before = pictures[number - 1];
    step_make(&step, &before, number);
    return manifest_store(env, manifest, &step.edit);
}

/* Everything as of picture `number`, in a new manifest. */
static void *
whole_bytes(const struct manifest *manifest, unsigned number, struct step *step, uint64_t *size)
{
    const struct picture *picture = &pictures[number];
    memset(step, 0, sizeof *step);
    step->edit = (struct manifest_edit){.incarnation = picture->incarnation,
                                        .first_segment = picture->first_segment,
                                        .cut = {.timestamp = picture->cut},
                                        .pages = step->pages,
                                        .files = step->files,
                                        .catalogue = picture->catalogue,
                                        .catalogue_size = TEXT,
                                        .outcomes = picture->outcomes,
                                        .outcomes_size = TEXT,
                                        .strays = picture->strays,
                                        .strays_size = TEXT};
    for (uint32_t pid = 1; pid < PAGES; pid++)
        if (picture->pages[pid] != 0)
            step->pages[step->edit.page_count++] = (struct manifest_page){pid, picture->pages[pid]};
    for (uint32_t file = 0; file < FILES; file++)
        if (picture->files[file].total != 0)
            step->files[step->edit.file_count++] = picture->files[file];
    void *bytes = manifest_snapshot_bytes(manifest, &step->edit, size);
    ck_assert_ptr_nonnull(bytes);
    return bytes;
}

static int
turn(struct manifest *manifest, unsigned number)
{
    struct step step;
    uint64_t size;
    void *bytes = whole_bytes(manifest, number, &step, &size);
    int status = manifest_switch(env, manifest->number, bytes, size);
    if (status == MSHM_OK)
        manifest_switched(manifest, &step.edit, bytes, size);
    free(bytes);
    return status;
}

static struct manifest
sample(void)
{
    return (struct manifest){.database_id = "some database"};
}

/* A manifest with edits 0 to `last`. */
static struct manifest
history(unsigned last)
{
    struct manifest manifest = sample();
    pictures_make();
    for (unsigned i = 0; i <= last; i++)
        ck_assert_int_eq(store(&manifest, i), MSHM_OK);
    return manifest;
}

/* The number of the picture that was loaded, -1 when loading was refused; any other outcome fails. */
static int
loaded_number(void)
{
    struct manifest manifest;
    struct picture picture;
    int status = load(&manifest, &picture);
    if (status != MSHM_OK) {
        ck_assert_msg(status == MSHM_CORRUPT, "%d: %s", status, why);
        ck_assert_str_ne(why, "");
        return -1;
    }
    for (unsigned i = 0; i < EDITS + 2; i++)
        if (same(&picture, &pictures[i]))
            return (int)i;
    ck_abort_msg("a state that was never written");
}

static struct sim_inode *
file_of(uint64_t number)
{
    char name[MANIFEST_NAME_SIZE];
    manifest_name(name, number);
    struct sim_inode *inode = sim_disk_find(sim_env_disk(sim), name);
    ck_assert_ptr_nonnull(inode);
    return inode;
}

/* --- the ordinary --- */

START_TEST(empty_directory_has_no_manifest)
{
    struct manifest manifest;
    struct picture picture;
    ck_assert_int_eq(load(&manifest, &picture), MSHM_NOT_FOUND);
    ck_assert_str_ne(why, "");
}
END_TEST

START_TEST(what_was_stored_is_loaded)
{
    struct manifest stored = history(0), found;
    struct picture picture;
    ck_assert_uint_eq(stored.number, 1);
    for (unsigned i = 1; i <= EDITS; i++) {
        ck_assert_int_eq(store(&stored, i), MSHM_OK);
        ck_assert_int_eq(load(&found, &picture), MSHM_OK);
        ck_assert(same(&picture, &pictures[i]));
        ck_assert_uint_eq(found.number, 1);
        ck_assert_uint_eq(found.size, stored.size);
        ck_assert_uint_eq(found.sequence, stored.sequence);
        ck_assert_uint_eq(found.chain, stored.chain);
        ck_assert_uint_eq(found.snapshot_size, stored.snapshot_size);
        ck_assert_uint_eq(found.unproven, 0);
        ck_assert(!found.settled);
        ck_assert_uint_eq(found.cut.chain, i);
        ck_assert_uint_eq(found.cut.position.segment, 3 + i);
        ck_assert_uint_eq(found.cut.position.offset, i * 64);
        ck_assert_mem_eq(found.database_id, stored.database_id, 16);
        if (i % 2 == 0)
            stored = found;
    }
}
END_TEST

START_TEST(new_manifest_says_what_the_old_one_said)
{
    struct manifest manifest = history(3), found;
    struct picture picture;
    ck_assert_int_eq(turn(&manifest, 3), MSHM_OK);
    ck_assert_uint_eq(manifest.number, 2);
    ck_assert_ptr_null(sim_disk_find(sim_env_disk(sim), "MANIFEST-1"));
    ck_assert_int_eq(loaded_number(), 3);
    ck_assert_int_eq(store(&manifest, 4), MSHM_OK);
    ck_assert_int_eq(load(&found, &picture), MSHM_OK);
    ck_assert(same(&picture, &pictures[4]));
    ck_assert_uint_eq(found.number, 2);
    ck_assert_uint_eq(found.sequence, manifest.sequence);
    ck_assert_int_eq(store(&found, 5), MSHM_OK);
    ck_assert_int_eq(loaded_number(), 5);
}
END_TEST

START_TEST(long_is_when_the_edits_exceed_the_snapshot_and_a_mebibyte)
{
    struct manifest manifest = {.snapshot_size = 1000, .size = 1000 + (1 << 20)};
    ck_assert(!manifest_long(&manifest));
    manifest.size++;
    ck_assert(manifest_long(&manifest));
    manifest = (struct manifest){.snapshot_size = 5 << 20, .size = 10 << 20};
    ck_assert(!manifest_long(&manifest));
    manifest.size++;
    ck_assert(manifest_long(&manifest));
}
END_TEST

static int
count_page(void *argument, uint32_t pid, data_location location)
{
    uint32_t *next = argument;
    if (pid != *next ||
        location != data_location_make(1 + pid % 1000, 0, 4096 + pid % 9999 * 64, 64))
        return MSHM_INVALID;
    *next = pid + (pid < 1000000 ? 1 : 3);
    return MSHM_OK;
}

START_TEST(millions_of_pages_are_loaded_at_once)
{
    enum { COUNT = 1700000 };
    struct manifest manifest = sample(), found;
    struct manifest_page *pages = malloc(COUNT * sizeof *pages);
    struct timespec before, after;
    ck_assert_ptr_nonnull(pages);
    uint32_t pid = 1, next = 1;
    for (uint64_t i = 0; i < COUNT; i++, pid += pid < 1000000 ? 1 : 3)
        pages[i] = (struct manifest_page){
            pid, data_location_make(1 + pid % 1000, 0, 4096 + pid % 9999 * 64, 64)};
    struct manifest_edit edit = {.incarnation = 1, .pages = pages, .page_count = COUNT};
    ck_assert_int_eq(manifest_store(env, &manifest, &edit), MSHM_OK);
    struct manifest_visitor visitor = {.argument = &next, .page = count_page};
    clock_gettime(CLOCK_MONOTONIC, &before);
    ck_assert_int_eq(manifest_load(env, &found, &visitor, why, sizeof why), MSHM_OK);
    clock_gettime(CLOCK_MONOTONIC, &after);
    ck_assert_uint_eq(next, pid);
    printf("%d pages loaded in %.1f ms\n", COUNT,
           (double)(after.tv_sec - before.tv_sec) * 1e3 +
               (double)(after.tv_nsec - before.tv_nsec) / 1e6);
    free(pages);
}
END_TEST

/* --- death --- */

/* Edit 0 stands. Then edits 1 and 2, a new manifest, edit 3 and 4, dying at call `n`: false when the end was reached
 * alive. What is there afterwards is what was acknowledged or what was being written, and it can be built upon. */
static bool
death_at(uint64_t seed, uint64_t n, bool power_cut)
{
    sim_env_destroy(sim);
    begin(seed);
    struct manifest manifest = history(0), found;
    struct picture picture;
    int acknowledged = 0;
    sim_env_die_at(sim, n, power_cut);
    for (unsigned i = 1; i <= 4 && !sim_env_dead(sim); i++) {
        if (store(&manifest, i) == MSHM_OK)
            acknowledged = (int)i;
        if (i == 2 && !sim_env_dead(sim))
            (void)turn(&manifest, 2);
    }
    bool dead = sim_env_dead(sim);
    if (!dead)
        sim_env_die(sim, power_cut);
    sim_env_restart(sim);
    int is = loaded_number();
    ck_assert_msg(is >= acknowledged && is <= acknowledged + 1, "call %d: %d of %d: %s", (int)n, is,
                  acknowledged, why);
    /* What counts once counts for ever, from the moment it is settled. */
    ck_assert_int_eq(load(&found, &picture), MSHM_OK);
    ck_assert_int_eq(manifest_settle(env, &found), MSHM_OK);
    if (seed % 2 == 0) {
        sim_env_die(sim, true);
        sim_env_restart(sim);
        ck_assert_int_eq(loaded_number(), is);
        ck_assert_int_eq(load(&found, &picture), MSHM_OK);
    }
    ck_assert_int_eq(store(&found, (unsigned)is + 1), MSHM_OK);
    sim_env_die(sim, true);
    sim_env_restart(sim);
    ck_assert_int_eq(loaded_number(), is + 1);
    manifest_tidy(env, &found);
    ck_assert_int_eq(loaded_number(), is + 1);
    return dead;
}

START_TEST(death_at_any_call_leaves_the_old_or_the_new)
{
    for (uint64_t seed = 1; seed <= 30; seed++)
        for (int power_cut = 0; power_cut < 2; power_cut++)
            for (uint64_t n = 1; death_at(seed, n, power_cut != 0); n++)
                ck_assert_uint_lt(n, 100);
}
END_TEST

/* The first one of all: a new database is there or not. */
START_TEST(death_while_the_first_is_made_leaves_none_or_it)
{
    for (uint64_t seed = 1; seed <= 30; seed++) {
        for (uint64_t n = 1; n < 12; n++) {
            sim_env_destroy(sim);
            begin(seed);
            pictures_make();
            struct manifest manifest = sample(), found;
            struct picture picture;
            sim_env_die_at(sim, n, seed % 2 == 0);
            int stored = store(&manifest, 0);
            if (!sim_env_dead(sim))
                sim_env_die(sim, true);
            sim_env_restart(sim);
            int status = load(&found, &picture);
            ck_assert_msg(status == MSHM_OK || (status == MSHM_NOT_FOUND && stored != MSHM_OK),
                          "%s", why);
            if (status == MSHM_NOT_FOUND)
                found = sample();
            ck_assert_int_eq(store(&found, 0), MSHM_OK);
            ck_assert_int_eq(loaded_number(), 0);
        }
    }
}
END_TEST

/* After a failed sync the page cache shows as clean what the disk never got. */
START_TEST(edit_whose_sync_failed_and_that_a_start_took_stays)
{
    for (uint64_t seed = 1; seed <= 50; seed++) {
        sim_env_destroy(sim);
        begin(seed);
        struct manifest manifest = history(2), found;
        struct picture picture;
        sim_env_fail(sim, SIM_CALL_SYNC, 1, EIO);
        ck_assert_int_eq(store(&manifest, 3), MSHM_IO);
        sim_env_die(sim, false);
        sim_env_restart(sim);
        ck_assert_int_eq(load(&found, &picture), MSHM_OK);
        ck_assert(same(&picture, &pictures[3]));
        ck_assert_uint_ne(found.unproven, 0);
        ck_assert_int_eq(store(&found, 4), MSHM_OK);
        sim_env_die(sim, true);
        sim_env_restart(sim);
        ck_assert_int_eq(loaded_number(), 4);
    }
}
END_TEST

/* --- torn records --- */

/* Bytes of edit `number` at its place, without anybody having been told. */
static void *
edit_bytes(const struct manifest *manifest, unsigned number, uint64_t *size)
{
    struct step step;
    struct picture before = pictures[number - 1];
    step_make(&step, &before, number);
    void *bytes = manifest_edit_bytes(manifest, &step.edit, size);
    ck_assert_ptr_nonnull(bytes);
    return bytes;
}

/* Whether all sectors of [first, size) that hold anything are among these. */
static bool
sectors_hold(const uint8_t *bytes, uint64_t first, uint64_t size, uint64_t which)
{
    static const uint8_t zeros[MANIFEST_SECTOR];
    for (uint64_t i = first; i * MANIFEST_SECTOR < size; i++)
        if ((which >> i & 1) == 0 && memcmp(bytes + i * MANIFEST_SECTOR, zeros, sizeof zeros) != 0)
            return false;
    return true;
}

/* Writes some of the sectors; zeros stand for the others. */
static void
write_sectors(uint64_t offset, const uint8_t *bytes, uint64_t size, uint64_t which)
{
    struct sim_inode *inode = file_of(1);
    inode->size = offset;
    for (uint64_t i = 0; i * MANIFEST_SECTOR < size; i++) {
        uint8_t zeros[MANIFEST_SECTOR] = {0};
        bool there = (which >> i & 1) != 0;
        sim_inode_write(inode, offset + i * MANIFEST_SECTOR,
                        there ? bytes + i * MANIFEST_SECTOR : zeros, MANIFEST_SECTOR);
    }
}

START_TEST(torn_edit_that_nobody_was_told_of_is_left_out)
{
    struct manifest manifest = history(3), found;
    struct picture picture;
    uint64_t size;
    uint8_t *bytes = edit_bytes(&manifest, 4, &size);
    uint64_t sectors = size / MANIFEST_SECTOR;
    ck_assert_uint_ge(sectors, 4);
    ck_assert_uint_le(sectors, 10);
    for (uint64_t which = 0; which < UINT64_C(1) << sectors; which++) {
        write_sectors(manifest.size, bytes, size, which);
        bool whole = sectors_hold(bytes, 2, size, which);
        ck_assert_int_eq(load(&found, &picture), MSHM_OK);
        ck_assert(same(&picture, &pictures[whole ? 4 : 3]));
        bool proven = !whole && (which & 2) != 0;
        ck_assert_msg((found.unproven == 0) == proven, "sectors %x", (unsigned)which);
        ck_assert_uint_eq(found.size, whole ? manifest.size + size : manifest.size);
    }
    /* The next one goes over what is left of it, longer or shorter. */
    write_sectors(manifest.size, bytes, size, (UINT64_C(1) << sectors) - 1 - 4);
    ck_assert_int_eq(load(&found, &picture), MSHM_OK);
    ck_assert_int_eq(store(&found, 4), MSHM_OK);
    ck_assert_int_eq(loaded_number(), 4);
    free(bytes);
}
END_TEST

START_TEST(each_prefix_of_an_edit_is_no_edit)
{
    struct manifest manifest = history(3);
    uint64_t size;
    uint8_t *bytes = edit_bytes(&manifest, 4, &size);
    struct sim_inode *inode = file_of(1);
    for (uint64_t part = 0; part <= size; part++) {
        inode->size = manifest.size;
        sim_inode_write(inode, manifest.size, bytes, part);
        ck_assert_int_eq(loaded_number(), part == size ? 4 : 3);
    }
    free(bytes);
}
END_TEST

START_TEST(mark_is_the_front_of_the_next_edit)
{
    struct manifest manifest = history(2);
    uint8_t mark[MANIFEST_MARK_SIZE];
    uint64_t size;
    uint8_t *bytes = edit_bytes(&manifest, 3, &size);
    manifest_mark_bytes(&manifest, mark);
    ck_assert_mem_eq(mark, bytes, sizeof mark);
    ck_assert_mem_eq(mark, file_of(1)->cache + manifest.size, sizeof mark);
    free(bytes);
}
END_TEST

/* --- rot --- */

/* Manifests 1 to 3, the first two left over; 3 in force, with edits. `first` is where the parts begin that may change
 * without harm: the newest record's mark, the padding behind the header. */
static struct manifest
crowd(void)
{
    struct manifest manifest = history(1);
    for (unsigned i = 0; i < 2; i++) {
        sim_env_fail(sim, SIM_CALL_NAMES, 6, EIO); /* the removal of the former one */
        ck_assert_int_eq(turn(&manifest, 1), MSHM_OK);
        ck_assert(sim_env_failed(sim));
    }
    ck_assert_uint_eq(manifest.number, 3);
    for (unsigned i = 2; i <= 4; i++)
        ck_assert_int_eq(store(&manifest, i), MSHM_OK);
    return manifest;
}

START_TEST(each_bit_flipped_is_refused_or_does_no_harm)
{
    struct manifest manifest = crowd();
    struct sim_inode *inode = file_of(3);
    uint64_t harmless = 0;
    (void)file_of(1);
    (void)file_of(2);
    for (uint64_t offset = 0; offset < inode->size; offset++) {
        for (unsigned bit = 0; bit < 8; bit++) {
            sim_disk_rot(inode, offset, bit);
            int is = loaded_number();
            ck_assert_msg(is == -1 || is == 4, "offset %d: %d", (int)offset, is);
            harmless += is == 4;
            if (is == -1) {
                ck_assert_ptr_nonnull(strstr(why, "MANIFEST-3: "));
                ck_assert_ptr_nonnull(strstr(why, " at offset "));
            }
            sim_disk_rot(inode, offset, bit);
        }
    }
    /* Header's padding, and the mark areas: behind the snapshot and behind each edit. */
    ck_assert_uint_eq(harmless, 8 * (MANIFEST_RECORDS_AT - sizeof(struct manifest_header) +
                                     4 * MANIFEST_MARK_AREA));
    ck_assert_int_eq(loaded_number(), 4);
    ck_assert_uint_eq(inode->size, manifest.size + MANIFEST_MARK_AREA);
}
END_TEST

START_TEST(each_bit_of_current_flipped_is_refused_whatever_lies_about)
{
    crowd();
    struct sim_inode *inode = sim_disk_find(sim_env_disk(sim), "CURRENT");
    for (uint64_t offset = 0; offset < inode->size; offset++) {
        for (unsigned bit = 0; bit < 8; bit++) {
            sim_disk_rot(inode, offset, bit);
            ck_assert_int_eq(loaded_number(), -1);
            ck_assert_ptr_nonnull(strstr(why, "CURRENT: damaged at offset 0; 3 intact"));
            sim_disk_rot(inode, offset, bit);
        }
    }
    ck_assert_int_eq(loaded_number(), 4);
}
END_TEST

/* A power cut took the mark of the newest record, so nobody can tell rot in it from a torn write. */
START_TEST(each_bit_of_an_unproven_edit_flipped_leaves_it_or_the_one_before)
{
    struct manifest manifest = history(3);
    struct sim_inode *inode = file_of(1);
    inode->size = manifest.size;
    uint64_t left_out = 0;
    for (uint64_t offset = 0; offset < inode->size; offset++) {
        sim_disk_rot(inode, offset, offset % 8);
        int is = loaded_number();
        ck_assert_msg(is == -1 || is == 3 || is == 2, "offset %d: %d", (int)offset, is);
        left_out += is == 2;
        sim_disk_rot(inode, offset, offset % 8);
    }
    ck_assert_uint_eq(left_out % MANIFEST_SECTOR, 0);
    ck_assert_uint_gt(left_out, 0);
}
END_TEST

START_TEST(each_blot_of_512_bytes_is_refused_or_does_no_harm)
{
    struct manifest manifest = history(4);
    struct sim_inode *inode = file_of(1);
    uint8_t *kept = malloc(inode->size);
    ck_assert_ptr_nonnull(kept);
    memcpy(kept, inode->cache, inode->size);
    for (uint64_t offset = 0; offset < manifest.size; offset += _i == 0 ? 512 : 37) {
        uint64_t size = inode->size - offset < 512 ? inode->size - offset : 512;
        for (int kind = 0; kind < 3; kind++) {
            for (uint64_t k = 0; k < size; k++)
                inode->cache[offset + k] = kind == 0   ? 0
                                           : kind == 1 ? 0xff
                                                       : (uint8_t)(kept[offset + k] * 31 + k);
            int is = loaded_number();
            ck_assert_msg(is == -1 || is == 4, "offset %d: %d", (int)offset, is);
        }
        memcpy(inode->cache + offset, kept + offset, size);
    }
    ck_assert_int_eq(loaded_number(), 4);
    free(kept);
}
END_TEST

START_TEST(truncation_is_refused_or_leaves_a_state_that_was)
{
    struct manifest manifest = history(3);
    struct sim_inode *inode = file_of(1);
    int last = 3;
    while (inode->size > 0) {
        inode->size--;
        int is = loaded_number();
        ck_assert_int_le(is, last);
        if (inode->size < manifest.snapshot_size)
            ck_assert_int_eq(is, -1);
        last = is;
    }
    inode = sim_disk_find(sim_env_disk(sim), "CURRENT");
    while (inode->size > 0) {
        inode->size--;
        ck_assert_int_eq(loaded_number(), -1);
    }
}
END_TEST

START_TEST(damaged_current_is_refused_and_the_only_intact_manifest_named)
{
    struct manifest manifest = crowd(), found;
    struct picture picture;
    sim_disk_rot(file_of(1), 700, 3);
    ck_assert_int_eq(sim_disk_remove(sim_env_disk(sim), "MANIFEST-2"), 0);
    sim_disk_rot(sim_disk_find(sim_env_disk(sim), "CURRENT"), 3, 1);
    ck_assert_int_eq(load(&found, &picture), MSHM_CORRUPT);
    ck_assert_ptr_nonnull(
        strstr(why, "CURRENT: damaged at offset 0; MANIFEST-3 is the only intact"));
    ck_assert_int_eq(sim_disk_remove(sim_env_disk(sim), "CURRENT"), 0);
    ck_assert_int_eq(load(&found, &picture), MSHM_CORRUPT);
    ck_assert_ptr_nonnull(strstr(why, "CURRENT: missing; MANIFEST-3 is the only intact"));
    ck_assert_uint_eq(manifest.number, 3);
}
END_TEST

START_TEST(manifest_that_current_names_and_is_not_there_is_damage)
{
    history(1);
    ck_assert_int_eq(sim_disk_remove(sim_env_disk(sim), "MANIFEST-1"), 0);
    ck_assert_int_eq(loaded_number(), -1);
    ck_assert_ptr_nonnull(strstr(why, "MANIFEST-1: missing"));
}
END_TEST

START_TEST(manifest_under_another_name_is_damage)
{
    struct manifest manifest = history(1);
    struct sim_inode *inode;
    char line[MANIFEST_CURRENT_MAX];
    ck_assert_int_eq(sim_disk_rename(sim_env_disk(sim), "MANIFEST-1", "MANIFEST-9"), 0);
    inode = sim_disk_find(sim_env_disk(sim), "CURRENT");
    sim_inode_write(inode, 0, line, manifest_current_line(line, 9));
    ck_assert_int_eq(loaded_number(), -1);
    (void)manifest;
}
END_TEST

/* --- versions --- */

START_TEST(newer_version_of_the_format_is_named_so)
{
    struct manifest found;
    struct picture picture;
    history(1);
    struct manifest_header header;
    memcpy(&header, file_of(1)->cache, sizeof header);
    header.version = MANIFEST_VERSION + 1 + (uint32_t)_i * 1000;
    header.crc = manifest_header_crc(&header);
    memcpy(file_of(1)->cache, &header, sizeof header);
    ck_assert_int_eq(load(&found, &picture), MSHM_VERSION);
    ck_assert_ptr_nonnull(strstr(why, "newer"));
}
END_TEST

START_TEST(older_version_of_the_format_is_named_so)
{
    struct manifest found;
    struct picture picture;
    struct sim_inode *inode;
    struct manifest_header header = {.magic = MANIFEST_MAGIC, .version = 1, .number = 7};
    header.crc = manifest_header_crc(&header);
    ck_assert_int_eq(sim_disk_create_file(sim_env_disk(sim), "MANIFEST-7", &inode), 0);
    sim_inode_write(inode, 0, &header, sizeof header);
    ck_assert_int_eq(sim_disk_create_file(sim_env_disk(sim), "CURRENT", &inode), 0);
    sim_inode_write(inode, 0, "MANIFEST-7\n", 11);
    ck_assert_int_eq(load(&found, &picture), MSHM_VERSION);
    ck_assert_ptr_nonnull(strstr(why, "older"));
    header.version = MANIFEST_VERSION; /* a name without a checksum does not do for this one */
    header.crc = manifest_header_crc(&header);
    sim_inode_write(file_of(7), 0, &header, sizeof header);
    ck_assert_int_eq(load(&found, &picture), MSHM_CORRUPT);
}
END_TEST

/* --- errors --- */

/* Call n of storing an edit, and then of a switch, fails: what could not be done has not happened, and can be done
 * again when the error is one that passes. */
static bool
failure_at(uint64_t n, int error)
{
    enum { ALL = 0xff };
    sim_env_destroy(sim);
    begin(n);
    history(2);
    struct manifest manifest;
    struct picture picture;
    ck_assert_int_eq(load(&manifest, &picture), MSHM_OK);
    sim_env_fail(sim, ALL, n, error);
    int status = store(&manifest, 3), want = 3;
    if (status == MSHM_OK) {
        status = turn(&manifest, 3);
        want = 4;
    }
    bool failed = sim_env_failed(sim);
    sim_env_fail(sim, 0, 0, 0);
    int is = loaded_number();
    ck_assert_msg(is == 3 || (is == 2 && want == 3), "call %d, %s: %d: %s", (int)n, strerror(error),
                  is, why);
    if (status != MSHM_OK) {
        ck_assert(status == MSHM_IO || (status == MSHM_FULL && error == ENOSPC));
        if (error == EIO)
            return failed;
        if (status == MSHM_FULL && want == 3)
            ck_assert_int_eq(store(&manifest, 3), MSHM_OK);
        if (status == MSHM_FULL)
            ck_assert_int_eq(turn(&manifest, 3), MSHM_OK);
    }
    if (status == MSHM_IO)
        return failed;
    ck_assert_int_eq(store(&manifest, 4), MSHM_OK);
    sim_env_die(sim, true);
    sim_env_restart(sim);
    ck_assert_int_eq(loaded_number(), 4);
    return failed;
}

START_TEST(failure_of_any_call_changes_nothing_or_passes)
{
    static const int errors[] = {EIO, ENOSPC};
    uint64_t n = 1;
    while (failure_at(n, errors[_i]))
        n++;
    ck_assert_uint_gt(n, 15);
}
END_TEST

START_TEST(full_disk_is_told_and_passes)
{
    struct manifest manifest = history(2);
    sim_env_set_full(sim, true);
    ck_assert_int_eq(turn(&manifest, 2), MSHM_FULL);
    ck_assert_int_eq(loaded_number(), 2);
    file_of(1)->size = manifest.size; /* no room for the mark even */
    ck_assert_int_eq(store(&manifest, 3), MSHM_FULL);
    ck_assert_int_eq(loaded_number(), 2);
    sim_env_set_full(sim, false);
    ck_assert_int_eq(store(&manifest, 3), MSHM_OK);
    ck_assert_int_eq(turn(&manifest, 3), MSHM_OK);
    ck_assert_int_eq(loaded_number(), 3);
    sim_env_fail(sim, SIM_CALL_OPEN, 1, EACCES);
    ck_assert_int_eq(store(&manifest, 4), MSHM_DENIED);
}
END_TEST

/* Not every read matters: but its failure never shows as another state. */
START_TEST(read_error_is_an_error)
{
    struct manifest found;
    struct picture picture;
    history(3);
    uint64_t n = 0;
    for (bool failed = true; failed; n++) {
        sim_env_fail(sim, SIM_CALL_READ | SIM_CALL_OPEN, n + 1, EIO);
        int status = load(&found, &picture);
        failed = sim_env_failed(sim);
        ck_assert_int_eq(status, failed ? MSHM_IO : MSHM_OK);
        sim_env_fail(sim, 0, 0, 0);
    }
    ck_assert_uint_gt(n, 10);
}
END_TEST

static int
refuse_page(void *argument, uint32_t pid, data_location location)
{
    (void)location;
    return pid == *(uint32_t *)argument ? MSHM_LIMIT : MSHM_OK;
}

START_TEST(status_of_the_visitor_ends_the_loading)
{
    struct manifest found = {.number = 77};
    uint32_t pid = 4;
    struct manifest_visitor visitor = {.argument = &pid, .page = refuse_page};
    history(0);
    ck_assert_uint_ne(pictures[0].pages[4] | pictures[0].pages[5], 0);
    pid = pictures[0].pages[4] != 0 ? 4 : 5;
    ck_assert_int_eq(manifest_load(env, &found, &visitor, NULL, 0), MSHM_LIMIT);
    ck_assert_uint_eq(found.number, 77);
}
END_TEST

/* Records with right checksums that say what cannot be. */
START_TEST(nonsense_with_right_checksums_is_damage)
{
    struct manifest_page twice[] = {{5, 1}, {5, 1}}, nowhere[] = {{5, 0}}, zero[] = {{0, 1}},
                         high[] = {{MSHM_MAX_PIDS, 1}}, wide[] = {{5, UINT64_C(1) << 60}};
    struct manifest_file lively[] = {{1, 100, 101}}, far[] = {{DATA_MAX_FILE + 1, 100, 1}};
    struct manifest_edit edits[] = {
        {.pages = twice, .page_count = 2}, {.pages = nowhere, .page_count = 1},
        {.pages = zero, .page_count = 1},  {.pages = high, .page_count = 1},
        {.pages = wide, .page_count = 1},  {.files = lively, .file_count = 1},
        {.files = far, .file_count = 1},
    };
    struct manifest manifest = sample(), found;
    struct picture picture;
    ck_assert_int_eq(manifest_store(env, &manifest, &edits[_i]), MSHM_OK);
    ck_assert_int_eq(load(&found, &picture), MSHM_CORRUPT);
    ck_assert_ptr_nonnull(strstr(why, "at offset 512"));
}
END_TEST

int
main(void)
{
    Suite *suite = suite_create("manifest");
    TCase *tests = tcase_create("manifest");
    tcase_set_timeout(tests, 120);
    tcase_add_checked_fixture(tests, set_up, tear_down);
    tcase_add_test(tests, empty_directory_has_no_manifest);
    tcase_add_test(tests, what_was_stored_is_loaded);
    tcase_add_test(tests, new_manifest_says_what_the_old_one_said);
    tcase_add_test(tests, long_is_when_the_edits_exceed_the_snapshot_and_a_mebibyte);
    tcase_add_test(tests, millions_of_pages_are_loaded_at_once);
    tcase_add_test(tests, death_at_any_call_leaves_the_old_or_the_new);
    tcase_add_test(tests, death_while_the_first_is_made_leaves_none_or_it);
    tcase_add_test(tests, edit_whose_sync_failed_and_that_a_start_took_stays);
    tcase_add_test(tests, torn_edit_that_nobody_was_told_of_is_left_out);
    tcase_add_test(tests, each_prefix_of_an_edit_is_no_edit);
    tcase_add_test(tests, mark_is_the_front_of_the_next_edit);
    tcase_add_test(tests, each_bit_flipped_is_refused_or_does_no_harm);
    tcase_add_test(tests, each_bit_of_current_flipped_is_refused_whatever_lies_about);
    tcase_add_test(tests, each_bit_of_an_unproven_edit_flipped_leaves_it_or_the_one_before);
    tcase_add_loop_test(tests, each_blot_of_512_bytes_is_refused_or_does_no_harm, 0, 2);
    tcase_add_test(tests, truncation_is_refused_or_leaves_a_state_that_was);
    tcase_add_test(tests, damaged_current_is_refused_and_the_only_intact_manifest_named);
    tcase_add_test(tests, manifest_that_current_names_and_is_not_there_is_damage);
    tcase_add_test(tests, manifest_under_another_name_is_damage);
    tcase_add_loop_test(tests, newer_version_of_the_format_is_named_so, 0, 2);
    tcase_add_test(tests, older_version_of_the_format_is_named_so);
    tcase_add_loop_test(tests, failure_of_any_call_changes_nothing_or_passes, 0, 2);
    tcase_add_test(tests, full_disk_is_told_and_passes);
    tcase_add_test(tests, read_error_is_an_error);
    tcase_add_test(tests, status_of_the_visitor_ends_the_loading);
    tcase_add_loop_test(tests, nonsense_with_right_checksums_is_damage, 0, 7);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
