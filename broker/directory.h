/* directory.h - the data directory as a place: opened once, checked for what its file system can promise, watched for
 * being replaced, and the way to its socket however long its path is.
 */
#ifndef DIRECTORY_H
#define DIRECTORY_H

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/socket.h>
#include <sys/types.h>

#define DIRECTORY_SOCKET "mace.sock"

struct directory {
    int fd;              /* its open file description carries the lock */
    char path[PATH_MAX]; /* absolute, as given: symbolic links are followed anew at each check */
    dev_t device;
    ino_t inode;
    bool created; /* by directory_open */
    bool
        mappable; /* stores through a shared mapping of a file whose blocks are written cannot meet a full disk */
};

/* Opens the directory, making it (with `mode`) when it is missing and `create` is set; a network file system is refused
 * unless `force`. MSHM_OK; MSHM_NOT_FOUND (nothing there and not to be created, or the parent is missing), MSHM_INVALID
 * (not a directory, path too long, network file system), MSHM_DENIED (permission, read-only file system), MSHM_FULL,
 * MSHM_LIMIT, MSHM_IO; then *why is a text for a person. */
int directory_open(struct directory *directory, const char *path, bool create, mode_t mode,
                   bool force, char *why, size_t why_size);
/* Closes it; removes it again when `forget` is set, it was created by directory_open and is empty. */
void directory_close(struct directory *directory, bool forget);
/* False when another directory, or nothing, stands at the path now. Errors that do not say so are taken for true. */
bool directory_same(const struct directory *directory);

/* Calls `call` (bind or connect) on a socket with the address of the directory's socket: through /proc/self/fd, so that
 * any length of path works; where /proc is missing, from inside the directory (which changes the working directory of
 * the process for a moment: before the threads only). Returns what `call` returned, with errno. */
int directory_socket(int directory_fd, int socket_fd,
                     int (*call)(int, const struct sockaddr *, socklen_t));

/* What is known of a file system by the f_type of statfs(2). Pure. */
bool directory_type_network(unsigned long type);
bool directory_type_mappable(unsigned long type);

#endif
