/* sim_env_parts.h - what the files of the simulated environment share: sim_env.c (files, faults, death),
 * sim_schedule.c (appends, reads, jobs and when they end). */
#ifndef SIM_ENV_PARTS_H
#define SIM_ENV_PARTS_H

#include "sim/sim_env.h"

enum { SIM_OPERATIONS = 4096, SIM_FILES = 2048 };

struct env_file {
    char name[SIM_NAME_MAX]; /* by which it was opened */
    struct sim_inode *inode;
    bool writable;
    bool busy;      /* an append is under way */
    unsigned reads; /* under way */
};

enum sim_operation_kind { OPERATION_NONE, OPERATION_APPEND, OPERATION_READ, OPERATION_JOB };
enum sim_operation_phase { PHASE_WAITS, PHASE_WRITTEN, PHASE_SYNCING, PHASE_ENDED, PHASE_REPORTED };

/* Something under way: its next step happens at `due`. */
struct sim_operation {
    enum sim_operation_kind kind;
    enum sim_operation_phase phase;
    uint64_t due, tag;
    int64_t result;
    struct env_file *file;
    uint64_t offset;
    const void *from;
    void *to;
    size_t size;
    bool sync;
    uint64_t sum; /* of the bytes: they must not change meanwhile */
    struct sim_snapshot snapshot;
    int (*job)(void *argument);
    void *argument;
};

struct sim_env {
    struct env interface;
    struct sim_hooks hooks;
    struct sim_random random;
    struct sim_disk *disk, *survivor;
    struct sim_operation operations[SIM_OPERATIONS];
    int operations_end;                /* behind the last one that is in use */
    struct env_file *files[SIM_FILES]; /* open ones */
    uint64_t now, calls;
    uint64_t die_at; /* calls; 0: not */
    bool die_power_cut, dead, looking;
    sim_call_hook *call_hook;
    void *call_argument;
    unsigned fail_mask;
    uint64_t fail_nth;
    int fail_error;
    bool failed, full, mapping, verbose;
    uint64_t read_ns, job_ns;
    const char *bad_prefix;
    uint64_t bad_offset, bad_size;
    uint64_t store_limit, store_backed;
    enum sim_lie lie;
};

/* Every call comes by here: 0, or the error that it has to return. call 0: a moment to die at, and never a failure. */
int sim_call_begin(struct sim_env *sim, unsigned call);

/* What a read of the page cache gives: bytes, or -EIO. */
int64_t sim_bytes_read(const struct sim_env *sim, const struct env_file *file, uint64_t offset,
                       void *to, size_t size);

/* sim_schedule.c. An append that was under way at death may have been written, in part or not at all. */
void sim_operations_tear(struct sim_env *sim);
/* Forgets everything under way of one file, or (NULL) of all. */
void sim_operations_forget(struct sim_env *sim, const struct env_file *file);
void sim_append(void *context, struct env_file *file, uint64_t offset, const void *from,
                size_t size, bool sync, uint64_t tag);
void sim_read_start(void *context, struct env_file *file, uint64_t offset, void *to, size_t size,
                    uint64_t tag);
void sim_job_start(void *context, int (*job)(void *argument), void *argument, uint64_t tag);
unsigned sim_poll(void *context, struct env_completion *completions, unsigned capacity);

#endif
