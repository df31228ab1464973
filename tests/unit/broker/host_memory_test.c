/* host_memory_test.c - memory limits read from a made-up machine. */
#include "host_memory.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "mshm/status.h"

static char root[] = "/tmp/mace-memory-XXXXXX";

static void
put(const char *path, const char *text)
{
    char command[1000];

    snprintf(command, sizeof(command), "mkdir -p \"$(dirname %s%s)\" && printf '%s' > %s%s", root,
             path, text, root, path);
    ck_assert_int_eq(system(command), 0);
}

static void
setup(void)
{
    ck_assert_ptr_nonnull(mkdtemp(root));
    put("/proc/meminfo", "MemTotal:        8388608 kB\\nMemFree: 1 kB\\n");
}

static void
teardown(void)
{
    char command[100];

    snprintf(command, sizeof(command), "rm -rf %s", root);
    ck_assert_int_eq(system(command), 0);
}

START_TEST(without_groups_the_machine_is_the_limit)
{
    ck_assert_uint_eq(host_memory_limit(root), UINT64_C(8) << 30);
    put("/proc/self/cgroup", "0::/\\n");
    put("/sys/fs/cgroup/memory.max", "max\\n");
    ck_assert_uint_eq(host_memory_limit(root), UINT64_C(8) << 30);
}
END_TEST

START_TEST(version_2_takes_the_least_on_the_way_up)
{
    put("/proc/self/cgroup", "0::/a/b/c\\n");
    put("/sys/fs/cgroup/a/b/c/memory.max", "max\\n");
    put("/sys/fs/cgroup/a/b/memory.max", "3221225472\\n");
    put("/sys/fs/cgroup/a/memory.max", "2147483648\\n");
    ck_assert_uint_eq(host_memory_limit(root), UINT64_C(2) << 30);
}
END_TEST

START_TEST(version_1_is_found_among_other_controllers)
{
    put("/proc/self/cgroup",
        "9:name=systemd:/x\\n4:cpuset,memory,pids:/box\\n3:memoryless:/y\\n0::/\\n");
    put("/sys/fs/cgroup/memory/box/memory.limit_in_bytes", "1073741824\\n");
    put("/sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\\n");
    ck_assert_uint_eq(host_memory_limit(root), UINT64_C(1) << 30);
}
END_TEST

START_TEST(a_container_sees_its_own_group_at_the_top)
{
    put("/proc/self/cgroup", "0::/../../elsewhere\\n4:memory:/docker/abc\\n");
    put("/sys/fs/cgroup/memory.max", "536870912\\n");
    put("/sys/fs/cgroup/memory/memory.limit_in_bytes", "1073741824\\n");
    ck_assert_uint_eq(host_memory_limit(root), UINT64_C(512) << 20);
}
END_TEST

START_TEST(the_real_machine_has_some_memory)
{
    ck_assert_uint_gt(host_memory_limit(""), UINT64_C(64) << 20);
}
END_TEST

START_TEST(the_default_is_a_quarter_and_what_cannot_fit_is_refused_with_sizes)
{
    char why[300] = "";
    uint64_t cache = 1;

    ck_assert_int_eq(host_memory_cache(0, UINT64_C(8) << 30, &cache, why, sizeof(why)), MSHM_OK);
    ck_assert_uint_eq(cache, UINT64_C(2) << 30);
    ck_assert_int_eq(
        host_memory_cache(UINT64_C(7) << 30, UINT64_C(8) << 30, &cache, why, sizeof(why)), MSHM_OK);
    ck_assert_uint_eq(cache, UINT64_C(7) << 30);
    ck_assert_int_eq(
        host_memory_cache(UINT64_C(8) << 30, UINT64_C(8) << 30, &cache, why, sizeof(why)),
        MSHM_NO_MEMORY);
    ck_assert_uint_eq(cache, UINT64_C(7) << 30);
    ck_assert_ptr_nonnull(strstr(why, "8192 MiB"));
    ck_assert_int_eq(host_memory_cache(0, 0, &cache, why, sizeof(why)), MSHM_OK);
    ck_assert_uint_gt(cache, 0);
    ck_assert_int_eq(host_memory_cache(1, 0, &cache, why, sizeof(why)), MSHM_OK);
    ck_assert_uint_ge(cache, 1 << 20);
}
END_TEST

START_TEST(a_page_cache_that_holds_less_than_the_cache_is_of_no_use)
{
    const uint64_t mebi = 1 << 20, gibi = 1 << 30;
    ck_assert(host_memory_caches_more(0, gibi)); /* nobody knows */
    ck_assert(host_memory_caches_more(8 * gibi, 2 * gibi));
    ck_assert(host_memory_caches_more(16 * gibi, 64 * mebi));
    ck_assert(!host_memory_caches_more(8 * gibi, 5 * gibi));
    ck_assert(!host_memory_caches_more(116 * mebi, 64 * mebi));
    ck_assert(!host_memory_caches_more(20 * mebi, 2 * mebi));
}
END_TEST

int
main(void)
{
    Suite *suite = suite_create("host_memory");
    TCase *cases = tcase_create("memory");
    SRunner *runner = srunner_create(suite);

    suite_add_tcase(suite, cases);
    tcase_add_checked_fixture(cases, setup, teardown);
    tcase_add_test(cases, without_groups_the_machine_is_the_limit);
    tcase_add_test(cases, version_2_takes_the_least_on_the_way_up);
    tcase_add_test(cases, version_1_is_found_among_other_controllers);
    tcase_add_test(cases, a_container_sees_its_own_group_at_the_top);
    tcase_add_test(cases, the_real_machine_has_some_memory);
    tcase_add_test(cases, a_page_cache_that_holds_less_than_the_cache_is_of_no_use);
    tcase_add_test(cases, the_default_is_a_quarter_and_what_cannot_fit_is_refused_with_sizes);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
