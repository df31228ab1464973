/* sim_bugs_store.c - mistakes in checkpoints, page-in, eviction, data files and the manifest. Wrapped as in
 * sim_bugs_commit.c. */
#include <stdlib.h>
#include <string.h>

#include "checkpoint_parts.h"
#include "mshm/status.h"
#include "pager.h"
#include "pages_parts.h"
#include "sim/sim_bugs_parts.h"
#include "tree_parts.h"

/* --- checkpoints --- */

void __real_wal_release(struct wal *wal, struct wal_position position);
void __wrap_wal_release(struct wal *wal, struct wal_position position);
void
__wrap_wal_release(struct wal *wal, struct wal_position position)
{
    struct wal_position now;
    uint32_t chain;
    wal_tell(wal, &now, &chain);
    if (sim_bug_is(BUG_LOG_RELEASED_TOO_FAR) && position.segment < now.segment)
        position = (struct wal_position){.segment = position.segment + 1};
    __real_wal_release(wal, position);
}

int __real_pages_seal(struct pages *pages, mshm_timestamp cut);
int __wrap_pages_seal(struct pages *pages, mshm_timestamp cut);
int
__wrap_pages_seal(struct pages *pages, mshm_timestamp cut)
{
    int status = __real_pages_seal(pages, cut);
    if (sim_bug_is(BUG_CUT_TOO_LATE) && status == MSHM_OK)
        pages->cut = cut - 1;
    return status;
}

int __real_outcomes_load(struct outcomes *outcomes, const void *bytes, uint64_t size);
int __wrap_outcomes_load(struct outcomes *outcomes, const void *bytes, uint64_t size);
int
__wrap_outcomes_load(struct outcomes *outcomes, const void *bytes, uint64_t size)
{
    return sim_bug_is(BUG_OUTCOMES_NOT_SAVED) ? MSHM_OK
                                              : __real_outcomes_load(outcomes, bytes, size);
}

int __real_page_pack(const struct page_source *source, const struct page_keep *keep,
                     const struct page_place *place, page_read *read, void *read_argument,
                     uint8_t *to, uint32_t capacity, struct page_packed *packed);
int __wrap_page_pack(const struct page_source *source, const struct page_keep *keep,
                     const struct page_place *place, page_read *read, void *read_argument,
                     uint8_t *to, uint32_t capacity, struct page_packed *packed);
int
__wrap_page_pack(const struct page_source *source, const struct page_keep *keep,
                 const struct page_place *place, page_read *read, void *read_argument, uint8_t *to,
                 uint32_t capacity, struct page_packed *packed)
{
    struct page_keep none = {.horizon = keep->horizon};
    if (sim_bug_is(BUG_SNAPSHOTS_NOT_PACKED))
        keep = &none;
    return __real_page_pack(source, keep, place, read, read_argument, to, capacity, packed);
}

void __real_checkpoint_replayed(struct checkpoint *checkpoint, const struct manifest_cut *cut);
void __wrap_checkpoint_replayed(struct checkpoint *checkpoint, const struct manifest_cut *cut);
void
__wrap_checkpoint_replayed(struct checkpoint *checkpoint, const struct manifest_cut *cut)
{
    static struct manifest_cut before;
    __real_checkpoint_replayed(checkpoint, sim_bug_is(BUG_REPLAY_FROM_BEFORE) &&
                                                   before.timestamp + 1 == cut->timestamp
                                               ? &before
                                               : cut);
    before = *cut;
}

/* --- the manifest and the files --- */

void *__real_manifest_edit_bytes(const struct manifest *manifest, const struct manifest_edit *edit,
                                 uint64_t *size);
void *__wrap_manifest_edit_bytes(const struct manifest *manifest, const struct manifest_edit *edit,
                                 uint64_t *size);
void *
__wrap_manifest_edit_bytes(const struct manifest *manifest, const struct manifest_edit *edit,
                           uint64_t *size)
{
    struct manifest_edit copy = *edit;
    struct manifest_file *files = malloc((edit->file_count + 1) * sizeof *files);
    copy.files = files;
    copy.file_count = 0;
    for (uint32_t i = 0; i < edit->file_count; i++) {
        bool removed = edit->files[i].total == 0;
        if (removed && sim_bug_is(BUG_FILE_REMOVED_EARLY))
            data_file_remove(sim_bug_env(), edit->files[i].number);
        if (!removed || !sim_bug_is(BUG_REMOVED_FILE_NAMED))
            files[copy.file_count++] = edit->files[i];
    }
    void *bytes = __real_manifest_edit_bytes(manifest, &copy, size);
    free(files);
    return bytes;
}

void __real_data_tidy(struct data *data);
void __wrap_data_tidy(struct data *data);
void
__wrap_data_tidy(struct data *data)
{
    if (!sim_bug_is(BUG_UNNAMED_FILES_KEPT))
        __real_data_tidy(data);
}

bool __real_pager_reads(const struct pager *pager, uint32_t file);
bool __wrap_pager_reads(const struct pager *pager, uint32_t file);
bool
__wrap_pager_reads(const struct pager *pager, uint32_t file)
{
    return !sim_bug_is(BUG_READ_FILE_REMOVED) && __real_pager_reads(pager, file);
}

int __real_manifest_settle(const struct env *env, struct manifest *manifest);
int __wrap_manifest_settle(const struct env *env, struct manifest *manifest);
int
__wrap_manifest_settle(const struct env *env, struct manifest *manifest)
{
    if (!sim_bug_is(BUG_MANIFEST_NOT_SETTLED))
        return __real_manifest_settle(env, manifest);
    manifest->settled = true;
    return MSHM_OK;
}

/* --- pages --- */

void __real_pages_publish(struct pages *pages, mshm_pid pid, AO_t word, mshm_timestamp newest,
                          bool whole);
void __wrap_pages_publish(struct pages *pages, mshm_pid pid, AO_t word, mshm_timestamp newest,
                          bool whole);
void
__wrap_pages_publish(struct pages *pages, mshm_pid pid, AO_t word, mshm_timestamp newest,
                     bool whole)
{
    AO_t former = pages_word(pages, pid);
    if (sim_bug_is(BUG_SEALED_FRAME_REUSED) && mshm_map_state(former) == MSHM_MAP_RESIDENT) {
        struct page_state *state = &pages->states[pages_unit(pages, former)];
        uint8_t *frame = pages_frame(pages, pages_unit(pages, former), state->class);
        __real_pages_publish(pages, pid, word, newest, whole);
        if ((state->flags & STATE_KEPT) != 0)
            memset(frame + sizeof(struct mshm_page), 0xa5,
                   mshm_class_size(state->class) - sizeof(struct mshm_page));
        return;
    }
    __real_pages_publish(pages, pid, word, newest, whole && !sim_bug_is(BUG_DELTA_OF_WHOLE));
}

void __real_pages_free(struct pages *pages, mshm_pid pid, bool merged);
void __wrap_pages_free(struct pages *pages, mshm_pid pid, bool merged);
void
__wrap_pages_free(struct pages *pages, mshm_pid pid, bool merged)
{
    __real_pages_free(pages, pid, merged);
    if (!sim_bug_is(BUG_PID_REUSED_EARLY) || !pid_set_has(&pages->changed, pid))
        return;
    pid_set_remove(&pages->changed, pid);
    pages_pid_release(pages, pid);
}

uint64_t __real_pages_evict(struct pages *pages, uint64_t bytes, uint64_t now_ns);
uint64_t __wrap_pages_evict(struct pages *pages, uint64_t bytes, uint64_t now_ns);
uint64_t
__wrap_pages_evict(struct pages *pages, uint64_t bytes, uint64_t now_ns)
{
    for (uint32_t i = 0; sim_bug_is(BUG_DIRTY_EVICTED) && i < pages->unit_count; i++) {
        struct page_state *state = &pages->states[i];
        if (state->pid == 0 || (state->flags & STATE_DIRTY) == 0 || state->location == 0 ||
            state->place != 0 || !sim_bug_turn(50))
            continue;
        state_leave(pages, state);
        state->flags &= (uint8_t)~STATE_DIRTY;
        pid_set_remove(&pages->changed, state->pid);
        state_enter(pages, state);
    }
    return __real_pages_evict(pages, bytes, now_ns);
}

mshm_timestamp __real_pages_newest(const struct pages *pages, mshm_pid pid);
mshm_timestamp __wrap_pages_newest(const struct pages *pages, mshm_pid pid);
mshm_timestamp
__wrap_pages_newest(const struct pages *pages, mshm_pid pid)
{
    return sim_bug_is(BUG_NEWEST_FORGOTTEN) ? 0 : __real_pages_newest(pages, pid);
}

void __real_blind_put(struct blind *blind, mshm_pid pid, const struct mshm_version *version);
void __wrap_blind_put(struct blind *blind, mshm_pid pid, const struct mshm_version *version);
void
__wrap_blind_put(struct blind *blind, mshm_pid pid, const struct mshm_version *version)
{
    if (!sim_bug_is(BUG_BLIND_LOST) || blind_gathered(blind, pid) == NULL || !sim_bug_turn(20))
        __real_blind_put(blind, pid, version);
}

AO_t __real_tree_history_word(void *tree, mshm_pid pid);
AO_t __wrap_tree_history_word(void *tree, mshm_pid pid);
AO_t
__wrap_tree_history_word(void *tree, mshm_pid pid)
{
    return sim_bug_is(BUG_HISTORY_FORGOTTEN) ? 0 : __real_tree_history_word(tree, pid);
}

/* --- history out of memory --- */

bool __real_history_unread(const struct tree *tree, mshm_timestamp begin, mshm_timestamp end);
bool __wrap_history_unread(const struct tree *tree, mshm_timestamp begin, mshm_timestamp end);
bool
__wrap_history_unread(const struct tree *tree, mshm_timestamp begin, mshm_timestamp end)
{
    return sim_bug_is(BUG_HISTORY_UNREAD) || __real_history_unread(tree, begin, end);
}

void __real_spill_hold(struct spill *spill, AO_t word);
void __wrap_spill_hold(struct spill *spill, AO_t word);
void
__wrap_spill_hold(struct spill *spill, AO_t word)
{
    if (!sim_bug_is(BUG_HISTORY_UNHELD) || spill_number(word) == 0 || !sim_bug_turn(5))
        __real_spill_hold(spill, word);
}

/* --- reading in --- */

int __real_page_content_load(struct page_content *content, const void *const *records,
                             unsigned count, const struct blind_entry *const *blind,
                             unsigned blind_count, const struct page_keep *keep, const char **why);
int __wrap_page_content_load(struct page_content *content, const void *const *records,
                             unsigned count, const struct blind_entry *const *blind,
                             unsigned blind_count, const struct page_keep *keep, const char **why);
int
__wrap_page_content_load(struct page_content *content, const void *const *records, unsigned count,
                         const struct blind_entry *const *blind, unsigned blind_count,
                         const struct page_keep *keep, const char **why)
{
    const struct blind_entry *lists[2] = {blind_count > 0 ? blind[0] : NULL, NULL};
    if (sim_bug_is(BUG_DELTA_LOST) && count > 1) {
        records++;
        count--;
    }
    if (sim_bug_is(BUG_BLIND_SEALED_UNSEEN) && blind_count == 2)
        blind = lists;
    return __real_page_content_load(content, records, count, blind, blind_count, keep, why);
}

int __real_page_record_check(const void *bytes, uint64_t size, data_location location,
                             const uint8_t database_id[16], mshm_pid pid, const char **why);
int __wrap_page_record_check(const void *bytes, uint64_t size, data_location location,
                             const uint8_t database_id[16], mshm_pid pid, const char **why);
int
__wrap_page_record_check(const void *bytes, uint64_t size, data_location location,
                         const uint8_t database_id[16], mshm_pid pid, const char **why)
{
    struct page_record *record = (struct page_record *)(uintptr_t)bytes; /* the reader's own copy */
    struct page_place place = {.file = data_location_file(location),
                               .offset = data_location_offset(location)};
    memcpy(place.database_id, database_id, sizeof place.database_id);
    if (sim_bug_is(BUG_CHECKSUM_UNCHECKED) && size >= sizeof *record && record->size <= size)
        record->crc = page_record_crc(&place, record, record->size);
    return __real_page_record_check(bytes, size, location, database_id, pid, why);
}
