/* Preloaded into the program: its clock fails while the file $STOPPED_CLOCK exists, so that each thread panics. */
#define _GNU_SOURCE
#include <errno.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

int clock_gettime(clockid_t clock, struct timespec *time) {
    const char *stopped = getenv("STOPPED_CLOCK");
    if (stopped != NULL && access(stopped, F_OK) == 0) {
        errno = EIO;
        return -1;
    }
    return (int)syscall(SYS_clock_gettime, clock, time);
}
