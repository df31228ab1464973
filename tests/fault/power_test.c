/* power_test.c - power cuts on a real file system, under load and in the middle of checkpoints. What was acknowledged at
 * level SYNC is there afterwards; of the rest exactly the newest commits may be missing. */
#include <check.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "fault/image.h"
#include "support/broker.h"
#include "support/client.h"
#include "support/load.h"
#include "support/random.h"

enum { WRITERS = 2, SLOTS = 5 /* of each */, CUTS = 20, EXIT_POISONED = 70 };

/* What is durable for sure, as each writer knows it: of all slots. Written by that writer alone; a writer that dies
 * leaves less than the truth. */
struct floors {
    AO_t of[WRITERS][LOAD_SLOTS];
};

static char scratch[SCRATCH_PATH], path[SCRATCH_PATH];
static struct image image;
static struct load_board *board;
static struct floors *floors;
static struct broker broker;

struct writer {
    unsigned number;
    uint64_t seed;
};

/* One commit at level SYNC: all that was acknowledged before it began, by whomever, is durable with it. */
static int
commit_sync(mace *db, mace_bucket *bucket, const struct writer *writer, unsigned slot)
{
    AO_t before[LOAD_SLOTS];

    for (unsigned i = 0; i < LOAD_SLOTS; i++)
        before[i] = AO_load_acquire(&board->slots[i].acked);
    int status = load_commit(db, bucket, board, slot, MACE_SYNC);
    if (status != MACE_OK)
        return status;
    before[slot]++;
    for (unsigned i = 0; i < LOAD_SLOTS; i++)
        if (before[i] > AO_load(&floors->of[writer->number][i]))
            AO_store_release(&floors->of[writer->number][i], before[i]);
    return MACE_OK;
}

static void
writer_run(int channel, void *argument)
{
    const struct writer *writer = argument;
    struct random random;
    mace *db = client_open(path);
    mace_bucket *bucket = client_bucket(db, "default");
    int status = MACE_OK;

    (void)channel;
    random_init(&random, writer->seed);
    while (status == MACE_OK || status == MACE_FULL || status == MACE_CONFLICT) {
        unsigned slot = writer->number * SLOTS + (unsigned)random_below(&random, SLOTS);
        if (random_chance(&random, 10))
            status = commit_sync(db, bucket, writer, slot);
        else
            status = load_commit(db, bucket, board, slot, MACE_OS);
    }
    require(status == MACE_BROKER_LOST || status == MACE_UNKNOWN_OUTCOME, "a commit: %s",
            mace_strerror(status));
    mace_close(db);
}

/* Compares, and takes what is there for the state to go on from. Returns how many acknowledged commits are gone. */
static uint64_t
compare(uint64_t base)
{
    mace *db = client_open(path);
    mace_bucket *bucket = client_bucket(db, "default");
    uint64_t newest = client_newest(db), sum = 0, lost = 0;
    mace_txn *txn;

    require_ok(mace_begin(db, MACE_RDONLY, &txn));
    for (unsigned slot = 0; slot < LOAD_SLOTS; slot++) {
        uint64_t n = load_check(txn, bucket, slot), acked = AO_load(&board->slots[slot].acked);
        for (unsigned i = 0; i < WRITERS; i++)
            ck_assert_msg(n >= AO_load(&floors->of[i][slot]),
                          "slot %u: commit %llu is durable, %llu is here", slot,
                          (unsigned long long)AO_load(&floors->of[i][slot]), (unsigned long long)n);
        ck_assert_uint_le(n, AO_load(&board->slots[slot].intended));
        lost += n < acked ? acked - n : 0;
        sum += n;
        AO_store(&board->slots[slot].acked, n);
        AO_store(&board->slots[slot].intended, n);
        AO_store(&board->slots[slot].doubt, n);
    }
    mace_abort(txn);
    /* No hole: as many as the newest timestamp says. */
    ck_assert_uint_eq(base + sum, newest);
    mace_close(db);
    return lost;
}

static const struct broker_options variants[] = {
    {.arguments = {"--cache", "8M", "--segment-size", "256K", "--checkpoint-log", "512K"}},
    {.arguments = {"--cache", "8M", "--segment-size", "256K", "--checkpoint-log", "512K",
                   "--no-uring", "--data-file-size", "4M"}},
    {.arguments = {"--cache", "8M", "--segment-size", "256K", "--checkpoint-log", "512K",
                   "--no-log-mapping", "--checkpoint-interval", "20"}},
};
enum { VARIANTS = sizeof variants / sizeof *variants };

/* Loads, cuts the power after so many commits, and ends everything that ran on it. */
static void
cycle(struct random *random, unsigned number, uint64_t commits)
{
    struct worker workers[WRITERS];
    struct writer writers[WRITERS];
    uint64_t until = load_commits(board) + commits;

    for (unsigned i = 0; i < WRITERS; i++) {
        writers[i] = (struct writer){.number = i, .seed = random_next(random)};
        worker_start(&workers[i], writer_run, &writers[i]);
    }
    wait_for(load_commits(board) >= until);
    image_cut(&image, number % 4 == 3);
    /* It may find out by itself, or, when only the mapped log was written, not at all. */
    kill(broker.pid, SIGKILL);
    int end = broker_wait(&broker);
    ck_assert_msg((WIFSIGNALED(end) && WTERMSIG(end) == SIGKILL) ||
                      (WIFEXITED(end) && WEXITSTATUS(end) == EXIT_POISONED),
                  "the broker ended with %x", (unsigned)end);
    for (unsigned i = 0; i < WRITERS; i++)
        worker_join(&workers[i]);
}

START_TEST(f11_power_cuts_lose_nothing_that_was_synced_and_leave_no_hole)
{
    uint64_t lost = 0, with_loss = 0, base = 0, seed = random_seed("f11");
    uint64_t cuts = random_scaled(CUTS);
    struct random random;

    random_init(&random, seed);
    board = load_board_create();
    floors = mmap(NULL, sizeof *floors, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    ck_assert_ptr_ne(floors, MAP_FAILED);
    for (unsigned i = 0; i < cuts; i++) {
        broker_start(&broker, path, &variants[i % VARIANTS]);
        if (i == 0) {
            mace *db = client_open(path);
            base = client_newest(db);
            mace_close(db);
        }
        cycle(&random, i, 100 + random_below(&random, 3000));
        image_restore(&image);
        broker_start(&broker, path, &variants[(i + 1) % VARIANTS]);
        uint64_t gone = compare(base);
        lost += gone;
        with_loss += gone > 0;
        if (i % 2 == 0)
            broker_kill(&broker);
        else
            broker_finish(&broker);
    }
    printf("%llu power cuts after %llu commits: %llu of them lost %llu commits of level OS\n",
           (unsigned long long)cuts, (unsigned long long)load_commits(board),
           (unsigned long long)with_loss, (unsigned long long)lost);
    /* Otherwise the cuts cut nothing. */
    ck_assert_uint_gt(lost, 0);
    munmap(floors, sizeof *floors);
    load_board_destroy(board);
}
END_TEST

int
main(void)
{
    Suite *suite = suite_create("power cuts");
    TCase *cases = tcase_create("power");
    SRunner *runner;

    if (access("/dev/shm", W_OK) == 0)
        setenv("TMPDIR", "/dev/shm", 0);
    scratch_create(scratch);
    const char *why = image_create(&image, scratch, "disk", 96);
    if (why != NULL) {
        printf("skipped: %s\n", why);
        image_destroy(&image);
        scratch_remove(scratch);
        return IMAGE_SKIP;
    }
    /* By a link, so that the broker's log of events does not stand on a disk without power. */
    char directory[SCRATCH_PATH];
    scratch_join(directory, image.mounted, "db");
    scratch_join(path, scratch, "db");
    require(mkdir(directory, 0700) == 0 && symlink(directory, path) == 0, "%s", path);
    tcase_set_timeout(cases, 0);
    tcase_add_test(cases, f11_power_cuts_lose_nothing_that_was_synced_and_leave_no_hole);
    suite_add_tcase(suite, cases);
    runner = srunner_create(suite);
    srunner_set_fork_status(runner, CK_NOFORK);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    image_destroy(&image);
    scratch_remove(scratch);
    return failed == 0 ? 0 : 1;
}
