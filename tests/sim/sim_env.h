/* sim_env.h - the broker's environment (broker/env.h) on a simulated disk, clock and scheduler: everything follows from
 * one seed. Appends and jobs end at virtual moments chosen by chance; any call can be made to fail; at any call the
 * process can die, with or without the power.
 *
 * Death: the disk that survives is made at once; from then on every call of the dead process fails with EIO and changes
 * nothing that survives. The driver notices by sim_env_dead, throws the process's memory away and calls sim_env_restart.
 */
#ifndef SIM_ENV_H
#define SIM_ENV_H

#include "env.h"
#include "sim/sim_disk.h"

struct sim_env;

/* Kinds of calls, for faults. */
enum sim_call {
    SIM_CALL_OPEN = 1,
    SIM_CALL_READ = 2,
    SIM_CALL_WRITE = 4,
    SIM_CALL_SYNC = 8,
    SIM_CALL_NAMES = 16, /* rename, remove, directory_create, and an open that makes the file */
    SIM_CALL_DIRECTORY_SYNC = 32,
    SIM_CALL_PREALLOCATE = 64,
    SIM_CALL_MAP = 128,
};

/* What a call may turn into. */
enum sim_death { SIM_DEATH_NONE, SIM_DEATH_KILL, SIM_DEATH_CUT };

/* A disk that lies: what a test plants to see that the simulation finds it. */
enum sim_lie {
    SIM_LIE_NONE,
    SIM_LIE_APPEND_UNSYNCED,   /* an append is reported durable when it is only written */
    SIM_LIE_FILE_SYNC,         /* file_sync does nothing */
    SIM_LIE_DIRECTORY_SYNC,    /* directory_sync does nothing */
    SIM_LIE_SYNC_BEFORE_WRITE, /* the sync of an append covers what stood there before it */
    SIM_LIE_SHORT_APPEND,      /* the last bytes of a long append are not written */
    SIM_LIE_APPEND_ERROR,      /* a failed append is reported as done */
    SIM_LIE_EMPTY_APPEND,      /* an append without bytes, which is a sync, does nothing */
    SIM_LIE_DATA_UNSYNCED,     /* appends to data files, and their syncs, end without a sync */
    SIM_LIE_MANIFEST_UNSYNCED, /* the same for the manifest */
    SIM_LIE_DATA_DIRECTORY,    /* syncs of the directory of the data files do nothing */
};

struct sim_hooks { /* any may be NULL */
    void *argument;
    void (*wake)(void *argument, unsigned int *word);
    void (*reply)(void *argument, void *session_handle, const void *message, size_t size);
    void (*session_free)(void *argument, void *session_handle);
    void (*log)(void *argument, enum env_log_level level, const char *line);
    void (*death)(void *argument); /* at the moment of death, before anything is lost */
};

struct sim_env *sim_env_create(uint64_t seed);
void sim_env_destroy(struct sim_env *sim);
const struct env *sim_env_interface(struct sim_env *sim);
struct sim_random *sim_env_random(struct sim_env *sim);
void sim_env_set_hooks(struct sim_env *sim, const struct sim_hooks *hooks);
void sim_env_set_lie(struct sim_env *sim, enum sim_lie lie);
/* Prints what the broker logs. */
void sim_env_set_verbose(struct sim_env *sim, bool verbose);

uint64_t sim_env_now(const struct sim_env *sim); /* virtual nanoseconds */
void sim_env_advance(struct sim_env *sim, uint64_t ns);
/* Something is under way that a later poll will report. */
bool sim_env_busy(const struct sim_env *sim);
void sim_env_write_back(struct sim_env *sim);

/* Calls of the disk so far, steps of appends included. */
uint64_t sim_env_calls(const struct sim_env *sim);
/* Dies at the n-th call from now (1 = the next). 0: not at all. */
void sim_env_die_at(struct sim_env *sim, uint64_t calls, bool power_cut);
void sim_env_die(struct sim_env *sim, bool power_cut);
/* Asked at every call (kind: enum sim_call, 0: a moment between two) whether to die at it; may also plan that it fails. */
typedef enum sim_death sim_call_hook(void *argument, unsigned kind);
void sim_env_set_call_hook(struct sim_env *sim, sim_call_hook *call, void *argument);
/* While a test looks at the disk by the environment: calls do not count, and nothing planned happens at them. What was
 * set before. */
bool sim_env_set_looking(struct sim_env *sim, bool looking);
bool sim_env_dead(const struct sim_env *sim);
/* Takes the surviving disk into use. Appends and jobs under way are forgotten: a job that did not run never runs. */
void sim_env_restart(struct sim_env *sim);

/* The n-th call (1 = the next) of one of these kinds fails once with this error. */
void sim_env_fail(struct sim_env *sim, unsigned calls_mask, uint64_t nth, int error);
bool sim_env_failed(const struct sim_env *sim); /* the planned failure has happened */
/* While full, files cannot be made or grown. */
void sim_env_set_full(struct sim_env *sim, bool full);
/* Reads that are started end no sooner than after this; 0: soon. */
void sim_env_set_read_ns(struct sim_env *sim, uint64_t ns);
/* The same for jobs. */
void sim_env_set_job_ns(struct sim_env *sim, uint64_t ns);
/* Reads of these files that touch the range fail with EIO until another one is set; NULL: none do. */
void sim_env_set_bad(struct sim_env *sim, const char *prefix, uint64_t offset, uint64_t size);
void sim_env_set_mapping(struct sim_env *sim, bool possible);
void sim_env_set_store_limit(struct sim_env *sim,
                             uint64_t bytes); /* that store_back gives in all */

struct sim_disk *sim_env_disk(struct sim_env *sim);

#endif
