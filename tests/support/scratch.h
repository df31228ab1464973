/* support/scratch.h - directories of a test that vanish with it. */
#ifndef SUPPORT_SCRATCH_H
#define SUPPORT_SCRATCH_H

enum { SCRATCH_PATH = 512 };

/* Makes an empty directory under TMPDIR (or /tmp). */
void scratch_create(char path[SCRATCH_PATH]);
/* Removes a tree; harmless when it is gone. */
void scratch_remove(const char *path);
/* path/name, for a database that is not there yet. */
void scratch_join(char joined[SCRATCH_PATH], const char *path, const char *name);
/* Makes an executable script. */
void scratch_script(const char *path, const char *text);
/* Copies the regular files and directories of a tree; `to` is made. Sockets are left out. */
void scratch_copy(const char *from, const char *to);

#endif
