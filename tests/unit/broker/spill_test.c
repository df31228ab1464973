/* spill_test.c - the scratch file by itself: what comes back, what is found to be damaged, who holds what, and no room. */
#include <check.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "mshm/status.h"
#include "sim/sim_env_parts.h"
#include "spill_parts.h"

enum { TAGS = 0x300, SIZE = 5000, LIMIT = 64 << 10 };

static struct sim_env *sim;
static const struct env *env;
static struct mshm_counters counters;
static struct spill *spill;
static unsigned written, failed, read_count;
static int read_status;
static uint8_t read_bytes[SIZE];

static void
on_written(void *argument, uint32_t number, int status)
{
    (void)argument;
    written++;
    if (status != MSHM_OK) {
        failed++;
        spill_release(spill, spill_word(number));
    }
}

static void
on_read(void *argument, uint32_t number, mshm_pid reader, int status, const void *bytes)
{
    (void)argument;
    ck_assert_uint_eq(reader, 7);
    read_count++;
    read_status = status;
    if (status == MSHM_OK)
        memcpy(read_bytes, bytes, spill_page(spill, number)->size);
}

static void
setup(void)
{
    const struct spill_options options = {
        .limit = LIMIT, .tag_base = TAGS, .written = on_written, .read = on_read};

    sim = sim_env_create(1);
    env = sim_env_interface(sim);
    memset(&counters, 0, sizeof counters);
    written = failed = read_count = 0;
    ck_assert_int_eq(env->directory_create(env->context, "data"), 0);
    ck_assert_int_eq(spill_create(&spill, &options, env, &counters), MSHM_OK);
}

static void
teardown(void)
{
    spill_destroy(spill);
    sim_env_destroy(sim);
}

static void
settle(void)
{
    struct env_completion completion;

    while (!spill_idle(spill)) {
        sim_env_advance(sim, 1000000);
        while (env->poll(env->context, &completion, 1) == 1)
            spill_complete(spill, &completion);
    }
}

static int
add(unsigned content, AO_t next, uint32_t *number)
{
    const struct spill_page page = {.next = next, .begin = 1, .end = 9, .size = SIZE, .pid = 3};
    uint8_t bytes[SIZE];

    memset(bytes, (int)content, sizeof bytes);
    return spill_add(spill, &page, bytes, number);
}

static uint32_t
put(unsigned content, AO_t next)
{
    uint32_t number = 0;

    ck_assert_int_eq(add(content, next, &number), MSHM_OK);
    ck_assert(spill_send(spill));
    settle();
    return number;
}

static int
look(uint32_t number, unsigned content)
{
    unsigned before = read_count;

    ck_assert_int_eq(spill_read(spill, number, 7), MSHM_OK);
    settle();
    ck_assert_uint_eq(read_count, before + 1);
    for (unsigned i = 0; read_status == MSHM_OK && i < SIZE; i++)
        ck_assert_uint_eq(read_bytes[i], content);
    return read_status;
}

/* What the test holds is one reference of each page in the list. */
static void
check(const uint32_t *numbers, unsigned count)
{
    uint32_t *held = calloc(spill_end(spill) + 1u, sizeof *held);
    const char *why = "";

    for (unsigned i = 0; i < count; i++)
        held[numbers[i]]++;
    int status = spill_check(spill, held, &why);
    free(held);
    ck_assert_msg(status == MSHM_OK, "%s", why);
}

START_TEST(pages_come_back_as_they_were_written)
{
    uint32_t numbers[3];

    for (unsigned i = 0; i < 3; i++)
        ck_assert_int_eq(add(i, 0, &numbers[i]), MSHM_OK);
    ck_assert(spill_send(spill));
    ck_assert(!spill_ready(spill, sim_env_now(sim)));
    settle();
    ck_assert_uint_eq(written, 3);
    for (unsigned i = 0; i < 3; i++)
        ck_assert_int_eq(look(numbers[i], i), MSHM_OK);
    check(numbers, 3);
    ck_assert_uint_eq(AO_load(&counters.pages_scratch), 3);
    ck_assert_uint_eq(AO_load(&counters.scratch_bytes), 3 * 5 * SPILL_UNIT);
}
END_TEST

START_TEST(every_flipped_bit_and_every_other_page_is_found)
{
    uint32_t number = put(1, 0), other = put(2, 0);
    struct sim_inode *inode = spill->file->inode;

    for (uint64_t bit = 0; bit < (sizeof(struct spill_record) + SIZE) * 8;
         bit += bit < 256 ? 1 : 997) {
        sim_disk_rot(inode, bit / 8, (unsigned)(bit % 8));
        ck_assert_int_eq(look(number, 1), MSHM_CORRUPT);
        sim_disk_rot(inode, bit / 8, (unsigned)(bit % 8));
    }
    ck_assert_int_eq(look(number, 1), MSHM_OK);
    /* A write that went astray. */
    memcpy(inode->cache, inode->cache + (size_t)spill_page(spill, other)->at * SPILL_UNIT,
           sizeof(struct spill_record) + SIZE);
    ck_assert_int_eq(look(number, 1), MSHM_CORRUPT);
    ck_assert_int_eq(look(other, 2), MSHM_OK);
    ck_assert_uint_gt(AO_load(&counters.pages_corrupt), 0);
}
END_TEST

START_TEST(a_page_goes_with_its_last_holder_and_takes_what_it_led_to_with_it)
{
    uint32_t oldest = put(1, 0), older = put(2, spill_word(oldest));

    spill_release(spill, spill_word(oldest)); /* the other page holds it */
    check(&older, 1);
    spill_hold(spill, spill_word(older));
    check((uint32_t[]){older, older}, 2);
    spill_release(spill, spill_word(older));
    ck_assert_int_eq(look(oldest, 1), MSHM_OK);
    ck_assert_int_eq(look(older, 2), MSHM_OK);
    spill_release(spill, spill_word(older));
    check(NULL, 0);
    /* Nothing is left: the file goes. */
    settle();
    ck_assert_ptr_null(spill->file);
    ck_assert_uint_eq(AO_load(&counters.scratch_file), 0);
    ck_assert_int_eq(look(put(3, 0), 3), MSHM_OK);
}
END_TEST

START_TEST(a_link_may_skip_a_page)
{
    uint32_t first = put(1, 0), middle = put(2, spill_word(first));
    uint32_t last = put(3, spill_word(middle));

    spill_release(spill, spill_word(first));
    spill_release(spill, spill_word(middle));
    spill_link(spill, last, spill_word(first));
    check(&last, 1);
    ck_assert_uint_eq(AO_load(&counters.pages_scratch), 2);
    ck_assert_int_eq(look(first, 1), MSHM_OK);
}
END_TEST

START_TEST(a_full_file_takes_more_when_something_has_gone)
{
    uint32_t numbers[LIMIT / SPILL_UNIT], count = 0, number;
    int status;

    while ((status = add(count, 0, &number)) == MSHM_OK)
        numbers[count++] = number;
    ck_assert_int_eq(status, MSHM_BUSY); /* the rest of the batch first */
    ck_assert(spill_send(spill));
    settle();
    ck_assert_uint_eq(count, LIMIT / (5 * SPILL_UNIT));
    ck_assert_int_eq(add(0, 0, &number), MSHM_FULL);
    ck_assert(spill_blocked(spill, sim_env_now(sim)));
    ck_assert(!spill_ready(spill, sim_env_now(sim)));
    spill_release(spill, spill_word(numbers[4]));
    ck_assert(spill_ready(spill, sim_env_now(sim)));
    numbers[4] = put(99, 0);
    ck_assert_int_eq(look(numbers[4], 99), MSHM_OK);
    for (unsigned i = 0; i < count; i++)
        ck_assert_int_eq(look(numbers[i], i == 4 ? 99 : i), MSHM_OK);
    check(numbers, count);
}
END_TEST

START_TEST(what_cannot_be_written_was_never_there_and_is_tried_again_later)
{
    const int errors[] = {EIO, ENOSPC};
    uint32_t kept = put(1, 0), number;

    for (unsigned i = 0; i < 2; i++) {
        sim_env_fail(sim, SIM_CALL_WRITE, 1, errors[i]);
        ck_assert_int_eq(add(2, spill_word(kept), &number), MSHM_OK);
        ck_assert(spill_send(spill));
        settle();
        ck_assert_uint_eq(failed, i + 1);
        check(&kept, 1);
        ck_assert(spill_blocked(spill, sim_env_now(sim)));
        sim_env_advance(sim, 2000000000);
        ck_assert(spill_ready(spill, sim_env_now(sim)));
    }
    ck_assert_int_eq(look(kept, 1), MSHM_OK);
    ck_assert_int_eq(look(put(2, 0), 2), MSHM_OK);
}
END_TEST

START_TEST(without_a_file_nothing_is_taken_for_a_while)
{
    uint32_t number;

    sim_env_set_full(sim, true);
    ck_assert_int_eq(add(1, 0, &number), MSHM_FULL);
    ck_assert(!spill_send(spill));
    ck_assert(spill_blocked(spill, sim_env_now(sim)));
    sim_env_set_full(sim, false);
    sim_env_advance(sim, 2000000000);
    ck_assert(spill_ready(spill, sim_env_now(sim)));
    ck_assert_int_eq(look(put(1, 0), 1), MSHM_OK);
    check((uint32_t[]){1}, 1);
}
END_TEST

START_TEST(a_failed_read_is_an_error_for_who_reads_and_for_nobody_else)
{
    uint32_t number = put(1, 0);

    sim_env_fail(sim, SIM_CALL_READ, 1, EIO);
    ck_assert_int_eq(look(number, 1), MSHM_IO);
    ck_assert_int_eq(look(number, 1), MSHM_OK);
    check(&number, 1);
}
END_TEST

START_TEST(a_page_that_goes_while_it_is_read_or_written_keeps_its_place_until_then)
{
    uint32_t number;

    ck_assert_int_eq(add(1, 0, &number), MSHM_OK);
    ck_assert(spill_send(spill));
    spill_release(spill, spill_word(number));
    check(NULL, 0);
    settle();
    ck_assert_uint_eq(AO_load(&counters.pages_scratch), 0);
    number = put(2, 0);
    ck_assert_int_eq(spill_read(spill, number, 7), MSHM_OK);
    spill_release(spill, spill_word(number));
    check(NULL, 0);
    settle();
    ck_assert_int_eq(read_status, MSHM_OK);
    ck_assert_uint_eq(AO_load(&counters.pages_scratch), 0);
}
END_TEST

int
main(void)
{
    Suite *suite = suite_create("spill");
    TCase *cases = tcase_create("spill");
    SRunner *runner = srunner_create(suite);

    suite_add_tcase(suite, cases);
    tcase_add_checked_fixture(cases, setup, teardown);
    tcase_add_test(cases, pages_come_back_as_they_were_written);
    tcase_add_test(cases, every_flipped_bit_and_every_other_page_is_found);
    tcase_add_test(cases, a_page_goes_with_its_last_holder_and_takes_what_it_led_to_with_it);
    tcase_add_test(cases, a_link_may_skip_a_page);
    tcase_add_test(cases, a_full_file_takes_more_when_something_has_gone);
    tcase_add_test(cases, what_cannot_be_written_was_never_there_and_is_tried_again_later);
    tcase_add_test(cases, without_a_file_nothing_is_taken_for_a_while);
    tcase_add_test(cases, a_failed_read_is_an_error_for_who_reads_and_for_nobody_else);
    tcase_add_test(cases, a_page_that_goes_while_it_is_read_or_written_keeps_its_place_until_then);
    srunner_run_all(runner, CK_ENV);
    int failures = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failures != 0;
}
