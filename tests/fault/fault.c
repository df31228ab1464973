/* fault.c - the test's side of the shim. */
#include "fault/fault.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "support/require.h"

struct fault_control *
fault_control_create(const char *directory)
{
    char path[SCRATCH_PATH];
    const char *sanitizers = getenv("MACE_SANITIZE");

    /* A preloaded library comes before the sanitizer's run time, which then refuses to work. */
    if (sanitizers != NULL && sanitizers[0] != '\0')
        return NULL;
    scratch_join(path, directory, "control");
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    require(fd >= 0 && ftruncate(fd, sizeof(struct fault_control)) == 0, "%s: %s", path,
            strerror(errno));
    void *memory =
        mmap(NULL, sizeof(struct fault_control), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    require(memory != MAP_FAILED, "%s", strerror(errno));
    close(fd);
    setenv("MACE_FAULT_CONTROL", path, 1);
    return memory;
}

void
fault_options(struct broker_options *options)
{
    const char *shim = getenv("MACE_FAULT_SHIM");

    require(shim != NULL, "MACE_FAULT_SHIM names the library");
    *options =
        (struct broker_options){.arguments = {"--no-uring", "--cache", "16M"}, .preload = shim};
}
