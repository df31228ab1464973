/* page_keep_test.c - what stays of old versions, and what readers find after a page's life. */
#include "page_scene.h"

/* --- pruning --- */

/* Does anybody read this version, whose next newer one is `newer` (0: none)? Asked for every timestamp. */
static bool
naive_need(const struct page_keep *keep, mshm_timestamp timestamp, mshm_timestamp newer)
{
    if (newer == 0)
        return true;
    for (mshm_timestamp reader = timestamp; reader < newer; reader++) {
        if (reader >= keep->horizon)
            return true;
        for (uint32_t i = 0; i < keep->count; i++)
            if (keep->snapshots[i] == reader)
                return true;
    }
    return false;
}

static bool
naive_gone(const struct page_keep *keep, const struct mshm_version *newest)
{
    if (newest->kind != MSHM_ENTRY_TOMBSTONE || newest->timestamp > keep->horizon)
        return false;
    for (uint32_t i = 0; i < keep->count; i++)
        if (keep->snapshots[i] < newest->timestamp)
            return false;
    return true;
}

static struct versions *
naive_prune(const struct versions *all, const struct page_keep *keep, bool tombstones)
{
    struct versions *kept = versions_create();
    const struct mshm_version *newest = NULL;
    for (uint32_t i = 0; i < all->count; i++) {
        const struct mshm_version *version = &all->list[i];
        bool first = i == 0 || !same_key(version, version - 1);
        if (first)
            newest = version;
        if (tombstones && naive_gone(keep, newest))
            continue;
        if (naive_need(keep, version->timestamp, first ? 0 : version[-1].timestamp))
            versions_add(kept, version);
    }
    return kept;
}

static void
random_keep(struct page_keep *keep, mshm_timestamp *snapshots)
{
    keep->horizon = random_below(120);
    keep->count = 0;
    for (mshm_timestamp at = 1; at < keep->horizon; at++)
        if (random_below(12) == 0 && random_below(3) == 0)
            snapshots[keep->count++] = at;
    keep->snapshots = snapshots;
}

/* Few keys, many versions, timestamps 1 to 100: the first half in the base, the others in the tail. */
static void
random_history(void)
{
    uint32_t count = random_below(80);
    for (uint32_t i = 0; i < count; i++) {
        char key[8];
        snprintf(key, sizeof key, "k%u", random_below(12));
        struct mshm_version version =
            text_version(key, random_below(3) ? "value" : NULL, 1 + random_below(50));
        versions_add(leaf.versions, &version);
    }
    leaf_build(&leaf, 2);
    for (uint32_t i = 0, tail = random_below(50); i < tail; i++) {
        char key[8];
        snprintf(key, sizeof key, "k%u", random_below(12));
        struct mshm_version version = text_version(key, random_below(3) ? "v" : NULL, 51 + i);
        leaf_append(&leaf, &version);
    }
}

START_TEST(full_records_hold_exactly_what_somebody_may_read)
{
    random_seed();
    for (int round = 0; round < 3000; round++) {
        mshm_timestamp snapshots[128];
        struct page_keep keep;
        random_history();
        random_keep(&keep, snapshots);
        bool history = random_below(4) == 0;
        if (history)
            AO_store(&((struct mshm_page *)(void *)leaf.frame)->history, 4096 | 1);
        struct page_source source = leaf_source(&leaf, 100);
        struct versions *wanted = naive_prune(leaf.versions, &keep, !history);
        disk.end = DATA_RECORDS_AT;
        disk_pack(&disk, &source, &keep, &packed);
        disk_load(&disk, packed.location, NULL, 0, NULL, content);
        versions_expect(wanted, page_content_leaf(content));
        versions_destroy(wanted);
        teardown();
        setup();
    }
}
END_TEST

START_TEST(loading_drops_what_nobody_may_read_but_no_tombstone)
{
    random_seed();
    for (int round = 0; round < 1000; round++) {
        mshm_timestamp snapshots[128];
        struct page_keep keep;
        random_history();
        random_keep(&keep, snapshots);
        struct versions *wanted = naive_prune(leaf.versions, &keep, false);
        disk.end = DATA_RECORDS_AT;
        data_location location = leaf_pack(100);
        disk_load(&disk, location, NULL, 0, &keep, content);
        versions_expect(wanted, page_content_leaf(content));
        versions_destroy(wanted);
        teardown();
        setup();
    }
}
END_TEST

/* --- a page's life --- */

static const struct mshm_version *
read_at(const struct mshm_version *versions, uint32_t count, const struct mshm_version *key,
        mshm_timestamp snapshot)
{
    for (uint32_t i = 0; i < count; i++)
        if (same_key(&versions[i], key) && versions[i].timestamp <= snapshot)
            return versions[i].kind == MSHM_ENTRY_TOMBSTONE ? NULL : &versions[i];
    return NULL;
}

/* Everybody who may read finds on disk what was written. */
static void
expect_reads(data_location location, const struct versions *all, const struct page_keep *keep,
             mshm_timestamp cut)
{
    const char *why = "";
    int status = disk_load_try(&disk, location, NULL, 0, keep, content, &why);
    if (status != MSHM_OK)
        ck_abort_msg("page does not load: %s", why);
    const struct mshm_leaf_spec *spec = page_content_leaf(content);
    for (uint32_t i = 0; i < all->count; i++) {
        if (i > 0 && same_key(&all->list[i], &all->list[i - 1]))
            continue;
        for (uint32_t k = 0; k <= keep->count; k++) {
            mshm_timestamp reader = k < keep->count ? keep->snapshots[k] : cut;
            const struct mshm_version *wanted =
                read_at(all->list, all->count, &all->list[i], reader);
            const struct mshm_version *found =
                read_at(spec->versions, spec->count, &all->list[i], reader);
            REQUIRE((wanted == NULL) == (found == NULL));
            REQUIRE(wanted == NULL || wanted->timestamp == found->timestamp);
        }
    }
}

/* Brings the loaded page into memory as the broker does. */
static void
leaf_take(void)
{
    versions_destroy(leaf.versions);
    free(leaf.frame);
    leaf.versions = versions_create();
    const struct mshm_leaf_spec *spec = page_content_leaf(content);
    for (uint32_t i = 0; i < spec->count; i++)
        versions_add(leaf.versions, &spec->versions[i]);
    leaf.frame = NULL;
    leaf_build(&leaf, 3);
}

START_TEST(readers_find_the_same_after_any_life_in_memory_and_on_disk)
{
    random_seed();
    struct versions *all = versions_create();
    mshm_timestamp clock = 1, snapshots[8], since = 0;
    struct page_keep keep = {.snapshots = snapshots};
    data_location location = 0;
    bool resident = true, came = false;
    unsigned fulls = 0, deltas = 0;
    leaf_build(&leaf, 3);
    for (int round = 0; round < 4000 && clock < 5000; round++) {
        struct blind_entry *blind = NULL;
        uint32_t cost = 0;
        for (uint32_t i = 0, writes = 1 + random_below(random_below(5) ? 4 : 40); i < writes; i++) {
            char key[16];
            snprintf(key, sizeof key, "key%02u", random_below(40));
            struct mshm_version version =
                text_version(key, random_below(4) ? "some value or other" : NULL, ++clock);
            cost += data_version_cost(version.key_size, version.value_size);
            if (!resident && cost > DATA_DELTA_MAX && i > 0) {
                clock--;
                break;
            }
            versions_add(all, &version);
            if (!resident) {
                blind = blind_add(blind, &version);
            } else if (!leaf_append(&leaf, &version)) {
                versions_add(leaf.versions, &version);
                leaf_build(&leaf, 3);
            }
        }
        keep.horizon = clock;
        if (random_below(3) == 0 && keep.count < 8)
            snapshots[keep.count++] = clock - 1;
        if (random_below(6) == 0)
            keep.count = 0;
        struct page_source source =
            resident ? leaf_source(&leaf, clock) : blind_source(blind, location, clock);
        source.location = location;
        source.since = since;
        disk_pack(&disk, &source, &keep, &packed);
        packed.older_count > 0 ? deltas++ : fulls++;
        location = packed.location;
        since = clock;
        blind_free(blind);
        expect_reads(location, all, &keep, clock);
        if (random_below(4) == 0)
            resident = !resident;
        if (resident && (leaf.versions->count == 0 || random_below(3) == 0 || came))
            leaf_take();
        came = !resident;
        if (disk.end + 2 * PAGE_PACK_MAX > DISK_SIZE)
            break;
    }
    printf("fulls %u, deltas %u\n", fulls, deltas);
    REQUIRE(fulls > 50 && deltas > 200);
    versions_destroy(all);
}
END_TEST

int
main(void)
{
    const TTest *const tests[] = {
        full_records_hold_exactly_what_somebody_may_read,
        loading_drops_what_nobody_may_read_but_no_tombstone,
        readers_find_the_same_after_any_life_in_memory_and_on_disk,
    };
    return scene_run("page_keep", tests, sizeof tests / sizeof *tests);
}
