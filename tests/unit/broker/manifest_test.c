/* CURRENT and MANIFEST-n on the simulated disk. */
#include "manifest.h"

#include <check.h>
#include <errno.h>
#include <string.h>

#include "crc.h"
#include "manifest_format.h"
#include "mshm/status.h"
#include "sim/sim_env.h"

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

static struct manifest
sample(uint64_t incarnation)
{
    return (struct manifest){
        .database_id = "some database", .incarnation = incarnation, .first_segment = 3};
}

static int
load(struct manifest *manifest)
{
    why[0] = '\0';
    return manifest_load(env, manifest, NULL, why, sizeof why);
}

START_TEST(empty_directory_has_no_manifest)
{
    struct manifest manifest;
    ck_assert_int_eq(load(&manifest), MSHM_NOT_FOUND);
    ck_assert_str_ne(why, "");
}
END_TEST

START_TEST(what_was_stored_is_loaded)
{
    struct manifest stored = sample(7), loaded = {0};
    ck_assert_int_eq(manifest_store(env, &stored, NULL), MSHM_OK);
    ck_assert_uint_eq(stored.number, 1);
    stored.incarnation = 8;
    ck_assert_int_eq(manifest_store(env, &stored, NULL), MSHM_OK);
    ck_assert_int_eq(load(&loaded), MSHM_OK);
    ck_assert_uint_eq(loaded.number, 2);
    ck_assert_uint_eq(loaded.incarnation, 8);
    ck_assert_uint_eq(loaded.first_segment, 3);
    ck_assert_mem_eq(loaded.database_id, stored.database_id, 16);
    ck_assert_ptr_null(sim_disk_find(sim_env_disk(sim), "MANIFEST-1"));
}
END_TEST

/* Stores 1, then dies somewhere in storing 2: afterwards one of them is there, 2 if the call had returned. */
START_TEST(death_at_any_call_leaves_the_old_or_the_new)
{
    for (uint64_t n = 1; n < 60; n++) {
        for (int power_cut = 0; power_cut < 2; power_cut++) {
            sim_env_destroy(sim);
            begin(n);
            struct manifest manifest = sample(1), loaded;
            ck_assert_int_eq(manifest_store(env, &manifest, NULL), MSHM_OK);
            manifest.incarnation = 2;
            sim_env_die_at(sim, n % 20 + 1, power_cut != 0);
            int status = manifest_store(env, &manifest, NULL);
            if (!sim_env_dead(sim))
                sim_env_die(sim, power_cut != 0);
            sim_env_restart(sim);
            ck_assert_msg(load(&loaded) == MSHM_OK, "%s", why);
            ck_assert(loaded.incarnation == 2 || (loaded.incarnation == 1 && status != MSHM_OK));
            manifest_tidy(env, &loaded);
            ck_assert_int_eq(load(&loaded), MSHM_OK);
            loaded.incarnation++;
            ck_assert_int_eq(manifest_store(env, &loaded, NULL), MSHM_OK);
        }
    }
}
END_TEST

START_TEST(each_byte_flipped_is_refused)
{
    struct manifest manifest = sample(1), loaded;
    ck_assert_int_eq(manifest_store(env, &manifest, NULL), MSHM_OK);
    static const char *const names[] = {"CURRENT", "MANIFEST-1"};
    struct sim_inode *inode = sim_disk_find(sim_env_disk(sim), names[_i]);
    for (uint64_t offset = 0; offset < inode->size; offset++) {
        for (unsigned bit = 0; bit < 8; bit++) {
            sim_disk_rot(inode, offset, bit);
            ck_assert_int_eq(load(&loaded), MSHM_CORRUPT);
            sim_disk_rot(inode, offset, bit);
        }
    }
    ck_assert_int_eq(load(&loaded), MSHM_OK);
}
END_TEST

START_TEST(each_truncation_is_refused)
{
    struct manifest manifest = sample(1), loaded;
    ck_assert_int_eq(manifest_store(env, &manifest, NULL), MSHM_OK);
    static const char *const names[] = {"CURRENT", "MANIFEST-1"};
    struct sim_inode *inode = sim_disk_find(sim_env_disk(sim), names[_i]);
    while (inode->size > 0) {
        inode->size--;
        ck_assert_int_eq(load(&loaded), MSHM_CORRUPT);
    }
}
END_TEST

START_TEST(manifest_that_current_names_and_is_not_there_is_damage)
{
    struct manifest manifest = sample(1), loaded;
    ck_assert_int_eq(manifest_store(env, &manifest, NULL), MSHM_OK);
    ck_assert_int_eq(sim_disk_remove(sim_env_disk(sim), "MANIFEST-1"), 0);
    ck_assert_int_eq(load(&loaded), MSHM_CORRUPT);
}
END_TEST

START_TEST(another_version_of_the_format_is_named_so)
{
    struct manifest manifest = sample(1), loaded;
    ck_assert_int_eq(manifest_store(env, &manifest, NULL), MSHM_OK);
    struct sim_inode *inode = sim_disk_find(sim_env_disk(sim), "MANIFEST-1");
    struct manifest_image image;
    memcpy(&image, inode->cache, sizeof image);
    image.version++;
    image.crc = 0;
    image.crc = crc_extend(0, &image, sizeof image);
    memcpy(inode->cache, &image, sizeof image);
    ck_assert_int_eq(load(&loaded), MSHM_VERSION);
}
END_TEST

START_TEST(full_disk_and_errors_are_told_apart_and_change_nothing)
{
    struct manifest manifest = sample(1), loaded;
    ck_assert_int_eq(manifest_store(env, &manifest, NULL), MSHM_OK);
    manifest.incarnation = 2;
    sim_env_set_full(sim, true);
    ck_assert_int_eq(manifest_store(env, &manifest, NULL), MSHM_FULL);
    sim_env_set_full(sim, false);
    sim_env_fail(sim, SIM_CALL_SYNC, 1, EIO);
    ck_assert_int_eq(manifest_store(env, &manifest, NULL), MSHM_IO);
    sim_env_fail(sim, SIM_CALL_OPEN, 1, EACCES);
    ck_assert_int_eq(manifest_store(env, &manifest, NULL), MSHM_DENIED);
    ck_assert_int_eq(load(&loaded), MSHM_OK);
    ck_assert_uint_eq(loaded.incarnation, 1);
    ck_assert_int_eq(manifest_store(env, &manifest, NULL), MSHM_OK);
}
END_TEST

START_TEST(read_error_is_an_error)
{
    struct manifest manifest = sample(1), loaded;
    ck_assert_int_eq(manifest_store(env, &manifest, NULL), MSHM_OK);
    sim_env_fail(sim, SIM_CALL_READ, (uint64_t)_i + 1, EIO);
    ck_assert_int_eq(load(&loaded), MSHM_IO);
}
END_TEST

int
main(void)
{
    Suite *suite = suite_create("manifest");
    TCase *tests = tcase_create("manifest");
    tcase_add_checked_fixture(tests, set_up, tear_down);
    tcase_add_test(tests, empty_directory_has_no_manifest);
    tcase_add_test(tests, what_was_stored_is_loaded);
    tcase_add_test(tests, death_at_any_call_leaves_the_old_or_the_new);
    tcase_add_loop_test(tests, each_byte_flipped_is_refused, 0, 2);
    tcase_add_loop_test(tests, each_truncation_is_refused, 0, 2);
    tcase_add_test(tests, manifest_that_current_names_and_is_not_there_is_damage);
    tcase_add_test(tests, another_version_of_the_format_is_named_so);
    tcase_add_test(tests, full_disk_and_errors_are_told_apart_and_change_nothing);
    tcase_add_loop_test(tests, read_error_is_an_error, 0, 2);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
