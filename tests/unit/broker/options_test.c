/* options_test.c - the command line of mace-broker. */
#include "options.h"

#include <check.h>
#include <string.h>

static char why[256];

static enum options_outcome
parse(struct options *options, int argc, const char *const *words)
{
    char *argv[32];

    argv[0] = (char *)(uintptr_t) "mace-broker";
    for (int i = 0; i < argc; i++)
        argv[i + 1] = (char *)(uintptr_t)words[i];
    argv[argc + 1] = NULL;
    why[0] = '\0';
    return options_parse(options, argc + 1, argv, why, sizeof(why));
}
#define PARSE(options, ...)                                                       \
    parse(options, (int)(sizeof((const char *[]){__VA_ARGS__}) / sizeof(char *)), \
          (const char *[]){__VA_ARGS__})

START_TEST(a_path_alone_gives_the_defaults)
{
    struct options options;

    ck_assert_int_eq(PARSE(&options, "/data"), OPTIONS_RUN);
    ck_assert_str_eq(options.path, "/data");
    ck_assert_uint_eq(options.cache_size, 0);
    ck_assert_uint_eq(options.mode, 0660);
    ck_assert_uint_eq(options.max_sessions, 256);
    ck_assert_uint_eq(options.max_sessions_per_uid, 128);
    ck_assert_uint_eq(options.idle_exit_ms, 0);
    ck_assert(options.uring && options.create && options.log_mapping);
    ck_assert(!options.force && !options.verbose);
    ck_assert_int_eq(options.huge_pages, MSHM_HUGE_PAGES_TRY);
    ck_assert_int_eq(options.ready_fd, -1);
    ck_assert_uint_eq(options.history_size, OPTIONS_HISTORY_DEFAULT);
    ck_assert_ptr_null(options.log);
}
END_TEST

START_TEST(every_option_reaches_its_field)
{
    struct options options;

    ck_assert_int_eq(PARSE(&options, "--cache", "2G", "--page-size=16384", "--mode", "0600",
                           "--allow-uid", "1000", "--allow-uid=65534", "--max-sessions", "10",
                           "--idle-exit", "250", "--snapshot-max-age=5000", "--history-size", "3M",
                           "/data", "--log", "/tmp/l", "--no-uring", "--huge-pages", "off",
                           "--foreground", "--force", "--verbose", "--direct-io=try", "--ready-fd",
                           "7"),
                     OPTIONS_RUN);
    ck_assert_uint_eq(options.cache_size, UINT64_C(2) << 30);
    ck_assert_uint_eq(options.page_size, 16384);
    ck_assert_uint_eq(options.mode, 0600);
    ck_assert_uint_eq(options.allowed_count, 2);
    ck_assert_uint_eq(options.allowed[0], 1000);
    ck_assert_uint_eq(options.allowed[1], 65534);
    ck_assert_uint_eq(options.max_sessions, 10);
    ck_assert_uint_eq(options.max_sessions_per_uid, 5);
    ck_assert_uint_eq(options.idle_exit_ms, 250);
    ck_assert_uint_eq(options.snapshot_max_age_ms, 5000);
    ck_assert_uint_eq(options.history_size, 3 << 20);
    ck_assert_str_eq(options.log, "/tmp/l");
    ck_assert(!options.uring && options.foreground && options.force && options.verbose);
    ck_assert_int_eq(options.huge_pages, MSHM_HUGE_PAGES_OFF);
    ck_assert_int_eq(options.direct_io, OPTIONS_DIRECT_IO_TRY);
    ck_assert_int_eq(options.ready_fd, 7);
    ck_assert_int_eq(PARSE(&options, "--direct-io=auto", "/data"), OPTIONS_RUN);
    ck_assert_int_eq(options.direct_io, OPTIONS_DIRECT_IO_AUTO);
}
END_TEST

START_TEST(a_path_may_look_like_an_option_after_two_dashes)
{
    struct options options;

    ck_assert_int_eq(PARSE(&options, "--", "--data"), OPTIONS_RUN);
    ck_assert_str_eq(options.path, "--data");
}
END_TEST

START_TEST(help_and_version_win_over_a_missing_path)
{
    struct options options;

    ck_assert_int_eq(PARSE(&options, "--help"), OPTIONS_HELP);
    ck_assert_int_eq(PARSE(&options, "--version"), OPTIONS_VERSION);
}
END_TEST

static const char *const misused[][3] = {
    {"--bogus", "/data", "--bogus"},
    {"/data", "/other", "/other"},
    {"/data", "--cache=12X", "12X"},
    {"/data", "--cache=-1", "-1"},
    {"/data", "--cache=1K", "1K"},
    {"/data", "--cache=99999999T", "cache"},
    {"/data", "--page-size=5000", "5000"},
    {"/data", "--page-size=2048", "2048"},
    {"/data", "--page-size=131072", "131072"},
    {"/data", "--mode=999", "999"},
    {"/data", "--mode=1777", "1777"},
    {"/data", "--mode=", "mode"},
    {"/data", "--allow-uid=root", "root"},
    {"/data", "--allow-uid=4294967295", "4294967295"},
    {"/data", "--max-sessions=0", "max-sessions"},
    {"/data", "--max-sessions=257", "257"},
    {"/data", "--idle-exit=1s", "1s"},
    {"/data", "--huge-pages=maybe", "maybe"},
    {"/data", "--ready-fd=2", "ready-fd"},
    {"/data", "--log", "--log"},
};

START_TEST(misuse_is_refused_in_one_line_that_names_it)
{
    struct options options;
    const char *const *words = misused[_i];

    ck_assert_int_eq(PARSE(&options, words[0], words[1]), OPTIONS_MISUSE);
    ck_assert_msg(strstr(why, words[2]) != NULL, "'%s' does not name '%s'", why, words[2]);
    ck_assert_ptr_null(strchr(why, '\n'));
}
END_TEST

START_TEST(a_missing_path_is_misuse)
{
    struct options options;

    ck_assert_int_eq(PARSE(&options, "--no-uring"), OPTIONS_MISUSE);
    ck_assert_ptr_nonnull(strstr(why, "directory"));
    ck_assert_int_eq(PARSE(&options, ""), OPTIONS_MISUSE);
}
END_TEST

START_TEST(sizes_take_suffixes_and_nothing_else)
{
    uint64_t size;

    ck_assert_int_eq(options_size("0", &size), 0);
    ck_assert_uint_eq(size, 0);
    ck_assert_int_eq(options_size("3k", &size), 0);
    ck_assert_uint_eq(size, 3072);
    ck_assert_int_eq(options_size("16M", &size), 0);
    ck_assert_uint_eq(size, 16u << 20);
    ck_assert_int_eq(options_size("16777215T", &size), 0);
    ck_assert_uint_eq(size, UINT64_C(16777215) << 40);
    static const char *const wrong[] = {
        "", "K", " 1", "+1", "1KB", "1 K", "0x10", "16777216T", "18446744073709551616", "1.5G"};
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++)
        ck_assert_msg(options_size(wrong[i], &size) != 0, "'%s' was taken", wrong[i]);
}
END_TEST

int
main(void)
{
    Suite *suite = suite_create("options");
    TCase *cases = tcase_create("options");
    SRunner *runner = srunner_create(suite);

    suite_add_tcase(suite, cases);
    tcase_add_test(cases, a_path_alone_gives_the_defaults);
    tcase_add_test(cases, every_option_reaches_its_field);
    tcase_add_test(cases, a_path_may_look_like_an_option_after_two_dashes);
    tcase_add_test(cases, help_and_version_win_over_a_missing_path);
    tcase_add_loop_test(cases, misuse_is_refused_in_one_line_that_names_it, 0,
                        (int)(sizeof(misused) / sizeof(misused[0])));
    tcase_add_test(cases, a_missing_path_is_misuse);
    tcase_add_test(cases, sizes_take_suffixes_and_nothing_else);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
