/* Preloaded into the program: records each call that changes a file of the directory $RECORD_DIR in the file
   $RECORD_TRACE, in the order of the calls. If $RECORD_CALLS is set, the process is killed after that many calls.

   An entry of the trace is a `struct entry` and its bytes. It is written after its call has returned and before another
   one starts, so a process that is killed leaves the trace and the files in the same state. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <stdio.h>
#include <unistd.h>

struct entry {
    uint64_t call;   /* a letter: see the users of `record` */
    uint64_t file;   /* the inode, or 0 */
    uint64_t at;     /* the offset of a write, or the new length */
    uint64_t length; /* of the bytes that follow */
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

/* Returns the name of a file in the recorded directory, "" for the directory itself, or NULL for other files. */
static const char *recorded(const char *path) {
    const char *dir = getenv("RECORD_DIR");
    size_t length = strlen(dir);
    if (strncmp(path, dir, length) != 0) {
        return NULL;
    }
    return path[length] == '/' ? path + length + 1 : path[length] == 0 ? "" : NULL;
}

/* Returns whether a descriptor is that of a file in the recorded directory, or of the directory. */
static int is_recorded(int fd) {
    char link[64], path[4096];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length < 0) {
        return 0;
    }
    path[length] = 0;
    return recorded(path) != NULL;
}

static void record(char call, uint64_t file, uint64_t at, const void *bytes, size_t length) {
    static int trace = -1;
    static long calls = -1;
    if (trace < 0) {
        const char *limit = getenv("RECORD_CALLS");
        calls = limit ? atol(limit) : -1;
        trace = (int)syscall(SYS_openat, AT_FDCWD, getenv("RECORD_TRACE"), O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
    }
    struct entry entry = {call, file, at, length};
    struct iovec parts[] = {{&entry, sizeof entry}, {(void *)bytes, length}};
    if (syscall(SYS_writev, trace, parts, 2) != (long)(sizeof entry + length)) {
        abort();
    }
    if (calls > 0 && --calls == 0) {
        kill(getpid(), SIGKILL);
        pause();
    }
}

static uint64_t inode(int fd) {
    struct stat file;
    return fstat(fd, &file) == 0 ? file.st_ino : 0;
}

static int recorded_open(const char *path, int flags, mode_t mode) {
    const char *name = recorded(path);
    if (name == NULL || (flags & (O_CREAT | O_TRUNC)) == 0) {
        return (int)syscall(SYS_openat, AT_FDCWD, path, flags, mode);
    }
    pthread_mutex_lock(&lock);
    int exists = access(path, F_OK) == 0;
    int fd = (int)syscall(SYS_openat, AT_FDCWD, path, flags, mode);
    if (fd >= 0 && !exists) {
        record('c', inode(fd), 0, name, strlen(name));
    } else if (fd >= 0 && (flags & O_TRUNC)) {
        record('t', inode(fd), 0, "", 0);
    }
    pthread_mutex_unlock(&lock);
    return fd;
}

#define OPEN(name)                                        \
    int name(const char *path, int flags, ...) {          \
        va_list rest;                                     \
        va_start(rest, flags);                            \
        mode_t mode = (flags & O_CREAT) ? va_arg(rest, mode_t) : 0; \
        va_end(rest);                                     \
        return recorded_open(path, flags, mode);          \
    }
OPEN(open)
OPEN(open64)

ssize_t pwrite64(int fd, const void *bytes, size_t length, off64_t at) {
    if (!is_recorded(fd)) {
        return syscall(SYS_pwrite64, fd, bytes, length, at);
    }
    pthread_mutex_lock(&lock);
    ssize_t written = syscall(SYS_pwrite64, fd, bytes, length, at);
    if (written > 0) {
        record('w', inode(fd), (uint64_t)at, bytes, (size_t)written);
    }
    pthread_mutex_unlock(&lock);
    return written;
}

ssize_t pwrite(int fd, const void *bytes, size_t length, off_t at) {
    return pwrite64(fd, bytes, length, at);
}

ssize_t write(int fd, const void *bytes, size_t length) {
    if (!is_recorded(fd)) {
        return syscall(SYS_write, fd, bytes, length);
    }
    pthread_mutex_lock(&lock);
    ssize_t written = syscall(SYS_write, fd, bytes, length);
    if (written > 0) {
        record('w', inode(fd), (uint64_t)(lseek(fd, 0, SEEK_CUR) - written), bytes, (size_t)written);
    }
    pthread_mutex_unlock(&lock);
    return written;
}

int ftruncate64(int fd, off64_t length) {
    if (!is_recorded(fd)) {
        return (int)syscall(SYS_ftruncate, fd, length);
    }
    pthread_mutex_lock(&lock);
    int failed = (int)syscall(SYS_ftruncate, fd, length);
    if (!failed) {
        record('t', inode(fd), (uint64_t)length, "", 0);
    }
    pthread_mutex_unlock(&lock);
    return failed;
}

int ftruncate(int fd, off_t length) {
    return ftruncate64(fd, length);
}

static int recorded_sync(long call, int fd) {
    if (!is_recorded(fd)) {
        return (int)syscall(call, fd);
    }
    pthread_mutex_lock(&lock);
    int failed = (int)syscall(call, fd);
    struct stat file;
    if (!failed && fstat(fd, &file) == 0) {
        record(S_ISDIR(file.st_mode) ? 'd' : 's', file.st_ino, 0, "", 0);
    }
    pthread_mutex_unlock(&lock);
    return failed;
}

int fsync(int fd) {
    return recorded_sync(SYS_fsync, fd);
}

int fdatasync(int fd) {
    return recorded_sync(SYS_fdatasync, fd);
}

int rename(const char *from, const char *to) {
    const char *old = recorded(from), *new = recorded(to);
    if (old == NULL || new == NULL) {
        return (int)syscall(SYS_rename, from, to);
    }
    pthread_mutex_lock(&lock);
    int failed = (int)syscall(SYS_rename, from, to);
    if (!failed) {
        char names[8192];
        int length = snprintf(names, sizeof names, "%s/%s", old, new);
        record('r', 0, 0, names, (size_t)length);
    }
    pthread_mutex_unlock(&lock);
    return failed;
}

int unlink(const char *path) {
    const char *name = recorded(path);
    if (name == NULL) {
        return (int)syscall(SYS_unlink, path);
    }
    pthread_mutex_lock(&lock);
    int failed = (int)syscall(SYS_unlink, path);
    if (!failed) {
        record('u', 0, 0, name, strlen(name));
    }
    pthread_mutex_unlock(&lock);
    return failed;
}
