/* What a cursor asks for ahead of its walk when the database is larger than the cache: as many leaves behind the first one as
 * its walks have usually come to, with the first one, so that a short walk waits for the disk once. Counted by the pages that
 * the broker has read in. */
#include <check.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "support/client.h"
#include "support/scratch.h"

enum {
    VALUE = 400,
    KEYS = 60000,
    CACHE = 8 << 20,
    PLACES = 40,
    STEP = 300,    /* keys between two places: more than ten leaves */
    WALK = 24,     /* entries: some more than a leaf holds */
    TRAINING = 12, /* walks or seeks until a cursor knows what is usual */
};

struct scene {
    char path[SCRATCH_PATH];
    mace *db;
    mace_txn *txn;
    mace_bucket *bucket;
    mace_cursor *cursor;
    unsigned next; /* key of the next place that nobody has been to */
};

static void
database_open(struct scene *scene)
{
    mace_options options;
    mace_options_init(&options);
    options.cache_size = CACHE;
    options.durability = MACE_OS;
    options.idle_exit_ms = 500;
    ck_assert_int_eq(mace_open(scene->path, &options, &scene->db), MACE_OK);
    ck_assert_int_eq(mace_bucket_open(scene->db, "default", &scene->bucket), MACE_OK);
}

static void
fill(struct scene *scene)
{
    char key[16], value[VALUE] = {'v'};
    mace_txn *txn;
    for (unsigned i = 0; i < KEYS;) {
        ck_assert_int_eq(mace_begin(scene->db, MACE_OS, &txn), MACE_OK);
        for (unsigned end = i + 100; i < end; i++) {
            snprintf(key, sizeof key, "%010u", i);
            ck_assert_int_eq(mace_put(txn, scene->bucket, key, 10, value, VALUE), MACE_OK);
        }
        ck_assert_int_eq(mace_commit(txn), MACE_OK);
    }
    ck_assert_int_eq(mace_checkpoint(scene->db), MACE_OK);
}

static void
cursor_renew(struct scene *scene)
{
    if (scene->cursor != NULL)
        mace_cursor_close(scene->cursor);
    ck_assert_int_eq(mace_cursor_open(scene->txn, scene->bucket, NULL, &scene->cursor), MACE_OK);
}

/* The database lies on disk, and nothing of it is in memory. */
static void
scene_open(struct scene *scene)
{
    memset(scene, 0, sizeof *scene);
    scratch_create(scene->path);
    database_open(scene);
    fill(scene);
    ck_assert_int_eq(kill((pid_t)client_stat(scene->db).broker_pid, SIGKILL), 0);
    mace_close(scene->db);
    database_open(scene);
    ck_assert_int_eq(mace_begin(scene->db, MACE_RDONLY, &scene->txn), MACE_OK);
    cursor_renew(scene);
}

static void
scene_close(struct scene *scene)
{
    mace_abort(scene->txn);
    mace_close(scene->db);
    scratch_remove(scene->path);
}

/* Pages read in meanwhile. */
static uint64_t
seek_elsewhere(struct scene *scene)
{
    char key[16];
    mace_slice found, value;
    uint64_t before = client_stat(scene->db).page_reads;
    snprintf(key, sizeof key, "%010u", scene->next);
    scene->next += STEP;
    ck_assert_uint_lt(scene->next, KEYS);
    ck_assert_int_eq(mace_cursor_seek(scene->cursor, key, 10, &found, &value), MACE_OK);
    ck_assert(found.size == 10 && memcmp(found.data, key, 10) == 0);
    return client_stat(scene->db).page_reads - before;
}

static uint64_t
walk_on(struct scene *scene)
{
    mace_slice key, value;
    uint64_t before = client_stat(scene->db).page_reads;
    for (unsigned i = 0; i < WALK; i++)
        ck_assert_int_eq(mace_cursor_next(scene->cursor, &key, &value), MACE_OK);
    return client_stat(scene->db).page_reads - before;
}

START_TEST(short_walks_read_their_usual_leaves_at_once)
{
    struct scene scene;
    uint64_t sought = 0, walked = 0;
    scene_open(&scene);
    for (unsigned i = 0; i < TRAINING; i++) {
        seek_elsewhere(&scene);
        walk_on(&scene);
    }
    for (unsigned i = 0; i < PLACES; i++) {
        sought += seek_elsewhere(&scene);
        walked += walk_on(&scene);
    }
    ck_assert_msg(sought >= 2 * PLACES, "%u seeks read %u pages", PLACES, (unsigned)sought);
    ck_assert_msg(walked <= PLACES, "%u walks read %u pages more", PLACES, (unsigned)walked);
    scene_close(&scene);
}
END_TEST

START_TEST(seeks_without_walks_read_one_leaf)
{
    struct scene scene;
    uint64_t fresh = 0, again = 0;
    scene_open(&scene);
    for (unsigned i = 0; i < PLACES; i++) {
        cursor_renew(&scene);
        fresh += seek_elsewhere(&scene);
    }
    for (unsigned i = 0; i < TRAINING; i++) {
        seek_elsewhere(&scene);
        walk_on(&scene);
    }
    for (unsigned i = 0; i < TRAINING; i++)
        seek_elsewhere(&scene);
    for (unsigned i = 0; i < PLACES; i++)
        again += seek_elsewhere(&scene);
    /* Some pages above the leaves are read in on the way. */
    ck_assert_msg(fresh <= PLACES + 15, "%u seeks read %u pages", PLACES, (unsigned)fresh);
    ck_assert_msg(again <= PLACES + 15, "%u seeks read %u pages", PLACES, (unsigned)again);
    scene_close(&scene);
}
END_TEST

int
main(void)
{
    Suite *suite = suite_create("scan_ahead");
    TCase *tcase = tcase_create("scan_ahead");
    tcase_set_timeout(tcase, 120);
    tcase_add_test(tcase, short_walks_read_their_usual_leaves_at_once);
    tcase_add_test(tcase, seeks_without_walks_read_one_leaf);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
