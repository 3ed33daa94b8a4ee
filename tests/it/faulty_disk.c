/* Preloaded into the program: syncs and writes of the store fail while $FAULTS contains a file of that name. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

static int is_on(const char *fault) {
    char path[4096];
    snprintf(path, sizeof path, "%s/%s", getenv("FAULTS"), fault);
    return access(path, F_OK) == 0;
}

/* Whether a file's name ends so. */
static int is_of(int fd, const char *end) {
    char link[64], path[4096];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, sizeof path - 1);
    ssize_t least = (ssize_t)strlen(end);
    return length >= least && memcmp(path + length - least, end, least) == 0;
}

static int sync_fails(int fd) {
    return (is_of(fd, "-wal") && is_on("sync-log")) || (is_of(fd, ".db") && is_on("sync-database"))
        || (is_of(fd, "audit.log") && is_on("sync-audit"));
}

int fsync(int fd) {
    return sync_fails(fd) ? (errno = EIO, -1) : (int)syscall(SYS_fsync, fd);
}

int fdatasync(int fd) {
    return sync_fails(fd) ? (errno = EIO, -1) : (int)syscall(SYS_fdatasync, fd);
}

/* Whether there is no space for this write of the audit log. */
static int audit_is_full(void) {
    static int written;
    if (!is_on("space-audit-after-write")) {
        written = 0;
        return is_on("space-audit");
    }
    return written++ > 0;
}

/* Whether a file is one of the database. */
static int is_of_database(int fd) {
    return is_of(fd, "-wal") || is_of(fd, ".db");
}

ssize_t pread64(int fd, void *bytes, size_t length, off64_t at) {
    if (is_of_database(fd) && is_on("read")) {
        errno = EIO;
        return -1;
    }
    return syscall(SYS_pread64, fd, bytes, length, at);
}

ssize_t pread(int fd, void *bytes, size_t length, off_t at) {
    return pread64(fd, bytes, length, at);
}

ssize_t pwrite64(int fd, const void *bytes, size_t length, off64_t at) {
    if (is_of_database(fd) && (is_on("write") || is_on("read-only"))) {
        errno = is_on("write") ? EIO : EROFS;
        return -1;
    }
    if ((is_of(fd, "-wal") && is_on("space")) || (is_of(fd, "audit.log") && audit_is_full())) {
        errno = ENOSPC;
        return -1;
    }
    return syscall(SYS_pwrite64, fd, bytes, length, at);
}

ssize_t pwrite(int fd, const void *bytes, size_t length, off_t at) {
    return pwrite64(fd, bytes, length, at);
}

/* No file of the audit log can be created, or none of the store can be opened to write. */
int open64(const char *path, int flags, ...) {
    va_list rest;
    va_start(rest, flags);
    mode_t mode = flags & O_CREAT ? va_arg(rest, mode_t) : 0;
    va_end(rest);
    size_t length = strlen(path), least = strlen("audit.log");
    if ((flags & O_CREAT) && length >= least && strcmp(path + length - least, "audit.log") == 0
        && access(path, F_OK) != 0 && is_on("create-audit")) {
        errno = ENOSPC;
        return -1;
    }
    if ((flags & O_ACCMODE) != O_RDONLY && strstr(path, "/store/") != NULL && is_on("read-only")) {
        errno = EROFS;
        return -1;
    }
    return (int)syscall(SYS_openat, AT_FDCWD, path, flags, mode);
}

int open(const char *path, int flags, ...) {
    va_list rest;
    va_start(rest, flags);
    mode_t mode = flags & O_CREAT ? va_arg(rest, mode_t) : 0;
    va_end(rest);
    return open64(path, flags, mode);
}
