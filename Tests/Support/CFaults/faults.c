#define _GNU_SOURCE
#include "CFaults.h"
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/vfs.h>
#include <unistd.h>

enum { WRITE = 1, SYNC = 2, META = 4, READ = 8 };
enum kind { NONE, KILL, KILL_AFTER, FAIL, SHORT, SIGNAL, FORK_KILL };
/// What a call is to do.
enum action { GO, GO_THEN_DIE, FALL_SHORT, FAILED };

static struct {
    enum kind kind;
    int error;
    int signal;
    int sticky;
    long at;
    int calls;
    const char *under;
    const char *countFile;
    int log;
    pid_t process;
} plan = {.log = -1};
static atomic_long counted;
static _Thread_local int inside;

static int isKind(const char *text, const char *name) {
    size_t length = strlen(name);
    if (strncmp(text, name, length) != 0) return 0;
    plan.sticky = text[length] == '+';
    return text[length + (size_t)plan.sticky] == ':';
}

__attribute__((constructor(101))) static void readPlan(void) {
    plan.process = getpid();
    const char *fault = getenv("CAIRN_FAULT");
    if (fault == NULL) return;
    const char *colon = strchr(fault, ':');
    if (colon == NULL) return;
    plan.at = strtol(colon + 1, NULL, 10);
    if (isKind(fault, "kill")) plan.kind = KILL;
    else if (isKind(fault, "killafter")) plan.kind = KILL_AFTER;
    else if (isKind(fault, "enospc")) plan.kind = FAIL, plan.error = ENOSPC;
    else if (isKind(fault, "eio")) plan.kind = FAIL, plan.error = EIO;
    else if (isKind(fault, "eacces")) plan.kind = FAIL, plan.error = EACCES;
    else if (isKind(fault, "short")) plan.kind = SHORT;
    else if (isKind(fault, "int")) plan.kind = SIGNAL, plan.signal = SIGINT;
    else if (isKind(fault, "term")) plan.kind = SIGNAL, plan.signal = SIGTERM;
    else if (isKind(fault, "hup")) plan.kind = SIGNAL, plan.signal = SIGHUP;
    else if (isKind(fault, "stop")) plan.kind = SIGNAL, plan.signal = SIGSTOP;
    else if (isKind(fault, "forkkill")) plan.kind = FORK_KILL;
    else {
        fprintf(stderr, "CFaults: unknown CAIRN_FAULT=%s\n", fault);
        _exit(99);
    }
    const char *calls = getenv("CAIRN_FAULT_CALLS");
    if (calls == NULL) calls = "write,sync,meta";
    if (strstr(calls, "write")) plan.calls |= WRITE;
    if (strstr(calls, "sync")) plan.calls |= SYNC;
    if (strstr(calls, "meta")) plan.calls |= META;
    if (strstr(calls, "read")) plan.calls |= READ;
    if (strstr(calls, "all")) plan.calls = WRITE | SYNC | META | READ;
    plan.under = getenv("CAIRN_FAULT_UNDER");
    plan.countFile = getenv("CAIRN_FAULT_COUNT_FILE");
    const char *log = getenv("CAIRN_FAULT_LOG");
    if (log != NULL) {
        plan.log = (int)syscall(SYS_openat, AT_FDCWD, log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
    }
}

__attribute__((destructor)) static void writeCount(void) {
    if (plan.countFile == NULL || getpid() != plan.process) return;
    char text[32];
    int length = snprintf(text, sizeof text, "%ld\n", atomic_load(&counted));
    int file = (int)syscall(SYS_openat, AT_FDCWD, plan.countFile, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    if (file < 0) return;
    syscall(SYS_write, file, text, length);
    syscall(SYS_close, file);
}

static int isUnder(const char *path) {
    if (plan.under == NULL || *plan.under == 0) return 1;
    const char *start = plan.under;
    while (*start) {
        size_t length = strcspn(start, ":");
        if (length > 0 && strncmp(path, start, length) == 0) return 1;
        start += length + (start[length] == ':');
    }
    return 0;
}

static void absolute(int folder, const char *path, char *into) {
    char base[PATH_MAX] = "";
    if (path[0] != '/') {
        char link[64];
        if (folder == AT_FDCWD) snprintf(link, sizeof link, "/proc/self/cwd");
        else snprintf(link, sizeof link, "/proc/self/fd/%d", folder);
        long length = syscall(SYS_readlinkat, AT_FDCWD, link, base, PATH_MAX - 2);
        base[length < 0 ? 0 : length] = 0;
        strcat(base, "/");
    }
    snprintf(into, 2 * PATH_MAX, "%s%s", base, path);
}

static void die(void) {
    syscall(SYS_kill, getpid(), SIGKILL);
    for (;;) pause();
}

static void forkAndDie(void) {
    // fork(3) rather than the system call: the program's own handlers of forks are what is tested.
    pid_t child = fork();
    if (child == 0) {
        plan.kind = NONE;
        for (int i = 0; i < 60; i++) sleep(1);
        _exit(0);
    }
    if (plan.log >= 0) {
        char text[48];
        int length = snprintf(text, sizeof text, "child %d\n", (int)child);
        syscall(SYS_write, plan.log, text, length);
    }
    die();
}

/// Counts a call and says what becomes of it; errno is set where it fails.
static enum action weather(int group, const char *name, int descriptor, const char *path, int needsSpace, int divisible) {
    if (plan.kind == NONE || (plan.calls & group) == 0 || inside) return GO;
    if (path == NULL && descriptor <= 2) return GO;
    if (plan.kind == FAIL && plan.error == ENOSPC && !needsSpace) return GO;
    if (plan.kind == SHORT && !divisible) return GO;
    int saved = errno;
    char full[2 * PATH_MAX];
    if (path != NULL) {
        absolute(descriptor, path, full);
    } else {
        char link[64];
        snprintf(link, sizeof link, "/proc/self/fd/%d", descriptor);
        long length = syscall(SYS_readlinkat, AT_FDCWD, link, full, PATH_MAX - 1);
        full[length < 0 ? 0 : length] = 0;
    }
    errno = saved;
    if (!isUnder(full)) return GO;
    long number = atomic_fetch_add(&counted, 1) + 1;
    if (plan.log >= 0) {
        char line[2 * PATH_MAX + 64];
        int length = snprintf(line, sizeof line, "%ld %s %s\n", number, name, full);
        syscall(SYS_write, plan.log, line, length);
        errno = saved;
    }
    if (plan.at == 0 || number < plan.at || (number > plan.at && !plan.sticky)) return GO;
    switch (plan.kind) {
    case KILL: die(); return GO;
    case KILL_AFTER: return GO_THEN_DIE;
    case FAIL: errno = plan.error; return FAILED;
    case SHORT: return FALL_SHORT;
    case SIGNAL:
        inside = 1;
        syscall(SYS_kill, getpid(), plan.signal);
        inside = 0;
        errno = saved;
        return GO;
    case FORK_KILL:
        inside = 1;
        forkAndDie();
        return GO;
    case NONE: return GO;
    }
    return GO;
}

static int isDirect(int descriptor) {
    int saved = errno;
    long flags = syscall(SYS_fcntl, descriptor, F_GETFL);
    errno = saved;
    return flags >= 0 && (flags & O_DIRECT) != 0;
}

static int canFallShort(int descriptor, size_t count) {
    return plan.kind == SHORT && count > (isDirect(descriptor) ? 4096 : 1);
}

static size_t part(size_t count) {
    return count >= 8192 ? count / 2 & ~(size_t)4095 : count > 4096 ? 4096 : count / 2;
}

#define FINISH(action, result)                                                                                         \
    do {                                                                                                               \
        long value_ = (result);                                                                                        \
        if ((action) == GO_THEN_DIE) die();                                                                            \
        return value_;                                                                                                 \
    } while (0)

#define TRANSFER(group, name, descriptor, count, call)                                                                 \
    do {                                                                                                               \
        enum action action_ = weather(group, name, descriptor, NULL, (group) == WRITE, canFallShort(descriptor, count)); \
        if (action_ == FAILED) return -1;                                                                              \
        if (action_ == FALL_SHORT) count = part(count);                                                                \
        FINISH(action_, call);                                                                                         \
    } while (0)

ssize_t write(int file, const void *bytes, size_t count) {
    TRANSFER(WRITE, "write", file, count, syscall(SYS_write, file, bytes, count));
}
ssize_t pwrite(int file, const void *bytes, size_t count, off_t offset) {
    TRANSFER(WRITE, "pwrite", file, count, syscall(SYS_pwrite64, file, bytes, count, offset));
}
ssize_t pwrite64(int file, const void *bytes, size_t count, off64_t offset) {
    TRANSFER(WRITE, "pwrite", file, count, syscall(SYS_pwrite64, file, bytes, count, offset));
}
ssize_t read(int file, void *bytes, size_t count) {
    TRANSFER(READ, "read", file, count, syscall(SYS_read, file, bytes, count));
}
ssize_t pread(int file, void *bytes, size_t count, off_t offset) {
    TRANSFER(READ, "pread", file, count, syscall(SYS_pread64, file, bytes, count, offset));
}
ssize_t pread64(int file, void *bytes, size_t count, off64_t offset) {
    TRANSFER(READ, "pread", file, count, syscall(SYS_pread64, file, bytes, count, offset));
}
ssize_t copy_file_range(int from, off64_t *fromOffset, int to, off64_t *toOffset, size_t count, unsigned flags) {
    TRANSFER(WRITE, "copy_file_range", to, count,
             syscall(SYS_copy_file_range, from, fromOffset, to, toOffset, count, flags));
}

static size_t total(const struct iovec *pieces, int count) {
    size_t sum = 0;
    for (int i = 0; i < count; i++) sum += pieces[i].iov_len;
    return sum;
}

/// Falls short inside a vector by handing the kernel a shorter copy of it.
static long vector(int group, const char *name, int number, int file, const struct iovec *pieces, int count, off_t offset) {
    size_t bytes = total(pieces, count);
    enum action action = weather(group, name, file, NULL, group == WRITE, canFallShort(file, bytes));
    if (action == FAILED) return -1;
    struct iovec shorter[IOV_MAX];
    if (action == FALL_SHORT && count <= IOV_MAX) {
        size_t left = part(bytes);
        int used = 0;
        for (; used < count && left > 0; used++) {
            shorter[used] = pieces[used];
            if (shorter[used].iov_len > left) shorter[used].iov_len = left;
            left -= shorter[used].iov_len;
        }
        pieces = shorter;
        count = used;
    }
    FINISH(action, syscall(number, file, pieces, count, offset, 0));
}

ssize_t writev(int file, const struct iovec *pieces, int count) {
    return vector(WRITE, "writev", SYS_writev, file, pieces, count, 0);
}
ssize_t pwritev(int file, const struct iovec *pieces, int count, off_t offset) {
    return vector(WRITE, "pwritev", SYS_pwritev, file, pieces, count, offset);
}
ssize_t pwritev64(int file, const struct iovec *pieces, int count, off64_t offset) {
    return vector(WRITE, "pwritev", SYS_pwritev, file, pieces, count, offset);
}
ssize_t readv(int file, const struct iovec *pieces, int count) {
    return vector(READ, "readv", SYS_readv, file, pieces, count, 0);
}
ssize_t preadv(int file, const struct iovec *pieces, int count, off_t offset) {
    return vector(READ, "preadv", SYS_preadv, file, pieces, count, offset);
}
ssize_t preadv64(int file, const struct iovec *pieces, int count, off64_t offset) {
    return vector(READ, "preadv", SYS_preadv, file, pieces, count, offset);
}

#define ON_FILE(group, name, file, needsSpace, call)                                                                   \
    do {                                                                                                               \
        enum action action_ = weather(group, name, file, NULL, needsSpace, 0);                                         \
        if (action_ == FAILED) return -1;                                                                              \
        FINISH(action_, call);                                                                                         \
    } while (0)

int fsync(int file) { ON_FILE(SYNC, "fsync", file, 1, syscall(SYS_fsync, file)); }
int fdatasync(int file) { ON_FILE(SYNC, "fdatasync", file, 1, syscall(SYS_fdatasync, file)); }
int syncfs(int file) { ON_FILE(SYNC, "syncfs", file, 1, syscall(SYS_syncfs, file)); }
int sync_file_range(int file, off64_t offset, off64_t count, unsigned flags) {
    ON_FILE(SYNC, "sync_file_range", file, 1, syscall(SYS_sync_file_range, file, offset, count, flags));
}
int ftruncate(int file, off_t size) { ON_FILE(WRITE, "ftruncate", file, 0, syscall(SYS_ftruncate, file, size)); }
int ftruncate64(int file, off64_t size) { ON_FILE(WRITE, "ftruncate", file, 0, syscall(SYS_ftruncate, file, size)); }
int fallocate(int file, int mode, off_t offset, off_t length) {
    const char *name = mode & FALLOC_FL_PUNCH_HOLE ? "punch" : "fallocate";
    ON_FILE(WRITE, name, file, mode == 0, syscall(SYS_fallocate, file, mode, offset, length));
}
int fallocate64(int file, int mode, off64_t offset, off64_t length) { return fallocate(file, mode, offset, length); }
int posix_fallocate(int file, off_t offset, off_t length) {
    int saved = errno;
    int code = fallocate(file, 0, offset, length) == 0 ? 0 : errno;
    errno = saved;
    return code;
}
int posix_fallocate64(int file, off64_t offset, off64_t length) { return posix_fallocate(file, offset, length); }
int fchmod(int file, mode_t mode) { ON_FILE(META, "fchmod", file, 0, syscall(SYS_fchmod, file, mode)); }
int futimens(int file, const struct timespec times[2]) {
    ON_FILE(META, "futimens", file, 0, syscall(SYS_utimensat, file, NULL, times, 0));
}

// The map of a file belongs to no descriptor.
int msync(void *address, size_t length, int flags) {
    ON_FILE(SYNC, "msync", INT_MAX, 1, syscall(SYS_msync, address, length, flags));
}

#define ON_PATH(group, name, folder, path, needsSpace, call)                                                           \
    do {                                                                                                               \
        enum action action_ = weather(group, name, folder, path, needsSpace, 0);                                       \
        if (action_ == FAILED) return -1;                                                                              \
        FINISH(action_, call);                                                                                         \
    } while (0)

int renameat2(int fromFolder, const char *from, int toFolder, const char *to, unsigned flags) {
    ON_PATH(META, "rename", toFolder, to, 1, syscall(SYS_renameat2, fromFolder, from, toFolder, to, flags));
}
int renameat(int fromFolder, const char *from, int toFolder, const char *to) {
    return renameat2(fromFolder, from, toFolder, to, 0);
}
int rename(const char *from, const char *to) { return renameat2(AT_FDCWD, from, AT_FDCWD, to, 0); }
int unlinkat(int folder, const char *path, int flags) {
    ON_PATH(META, "unlink", folder, path, 0, syscall(SYS_unlinkat, folder, path, flags));
}
int unlink(const char *path) { return unlinkat(AT_FDCWD, path, 0); }
int rmdir(const char *path) { return unlinkat(AT_FDCWD, path, AT_REMOVEDIR); }
int mkdirat(int folder, const char *path, mode_t mode) {
    ON_PATH(META, "mkdir", folder, path, 1, syscall(SYS_mkdirat, folder, path, mode));
}
int mkdir(const char *path, mode_t mode) { return mkdirat(AT_FDCWD, path, mode); }
int linkat(int fromFolder, const char *from, int toFolder, const char *to, int flags) {
    ON_PATH(META, "link", toFolder, to, 1, syscall(SYS_linkat, fromFolder, from, toFolder, to, flags));
}
int link(const char *from, const char *to) { return linkat(AT_FDCWD, from, AT_FDCWD, to, 0); }
int symlinkat(const char *target, int folder, const char *path) {
    ON_PATH(META, "symlink", folder, path, 1, syscall(SYS_symlinkat, target, folder, path));
}
int symlink(const char *target, const char *path) { return symlinkat(target, AT_FDCWD, path); }
int fchmodat(int folder, const char *path, mode_t mode, int flags) {
    (void)flags;
    ON_PATH(META, "chmod", folder, path, 0, syscall(SYS_fchmodat, folder, path, mode));
}
int chmod(const char *path, mode_t mode) { return fchmodat(AT_FDCWD, path, mode, 0); }
int utimensat(int folder, const char *path, const struct timespec times[2], int flags) {
    ON_PATH(META, "utimens", folder, path, 0, syscall(SYS_utimensat, folder, path, times, flags));
}
int truncate(const char *path, off_t size) {
    ON_PATH(WRITE, "truncate", AT_FDCWD, path, 0, syscall(SYS_truncate, path, size));
}

static int opened(int folder, const char *path, int flags, mode_t mode) {
    int makes = (flags & O_CREAT) != 0 || (flags & O_TMPFILE) == O_TMPFILE;
    ON_PATH(makes ? META : READ, makes ? "create" : "open", folder, path, makes,
            syscall(SYS_openat, folder, path, flags, mode));
}

#define MODE(flags)                                                                                                    \
    mode_t mode = 0;                                                                                                   \
    if (((flags) & O_CREAT) != 0 || ((flags) & O_TMPFILE) == O_TMPFILE) {                                              \
        va_list rest;                                                                                                  \
        va_start(rest, flags);                                                                                         \
        mode = va_arg(rest, mode_t);                                                                                   \
        va_end(rest);                                                                                                  \
    }

int open(const char *path, int flags, ...) {
    MODE(flags)
    return opened(AT_FDCWD, path, flags, mode);
}
int open64(const char *path, int flags, ...) {
    MODE(flags)
    return opened(AT_FDCWD, path, flags, mode);
}
int openat(int folder, const char *path, int flags, ...) {
    MODE(flags)
    return opened(folder, path, flags, mode);
}
int openat64(int folder, const char *path, int flags, ...) {
    MODE(flags)
    return opened(folder, path, flags, mode);
}
int creat(const char *path, mode_t mode) { return opened(AT_FDCWD, path, O_CREAT | O_WRONLY | O_TRUNC, mode); }

DIR *opendir(const char *path) {
    static _Atomic(void *) found;
    void *real = atomic_load(&found);
    if (real == NULL) {
        real = dlsym(RTLD_NEXT, "opendir");
        atomic_store(&found, real);
    }
    enum action action = weather(READ, "opendir", AT_FDCWD, path, 0, 0);
    if (action == FAILED) return NULL;
    DIR *result = ((DIR * (*)(const char *)) real)(path);
    if (action == GO_THEN_DIE) die();
    return result;
}

int pthread_create(pthread_t *thread, const pthread_attr_t *attributes, void *(*body)(void *), void *context) {
    static atomic_long created;
    static int (*next)(pthread_t *, const pthread_attr_t *, void *(*)(void *), void *);
    if (next == NULL) next = (__typeof__(next))dlsym(RTLD_NEXT, "pthread_create");
    const char *limit = getenv("CAIRN_FAULT_THREADS");
    if (limit != NULL && atomic_fetch_add(&created, 1) >= strtol(limit, NULL, 10)) return EAGAIN;
    return next(thread, attributes, body, context);
}

/// What CAIRN_FAULT_FS says of the files below CAIRN_FAULT_UNDER.
static long pretend(int file, long code, long type) {
    const char *magic = getenv("CAIRN_FAULT_FS");
    if (code != 0 || magic == NULL) return type;
    char path[PATH_MAX], link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", file);
    long length = syscall(SYS_readlinkat, AT_FDCWD, link, path, PATH_MAX - 1);
    path[length < 0 ? 0 : length] = 0;
    return isUnder(path) ? (long)strtoul(magic, NULL, 16) : type;
}

int fstatfs(int file, struct statfs *status) {
    long code = syscall(SYS_fstatfs, file, status);
    status->f_type = (__typeof__(status->f_type))pretend(file, code, (long)status->f_type);
    return (int)code;
}
int fstatfs64(int file, struct statfs64 *status) {
    long code = syscall(SYS_fstatfs, file, status);
    status->f_type = (__typeof__(status->f_type))pretend(file, code, (long)status->f_type);
    return (int)code;
}

long sysconf(int name) {
    static long (*next)(int);
    if (next == NULL) next = (__typeof__(next))dlsym(RTLD_NEXT, "sysconf");
    const char *size = name == _SC_PAGESIZE ? getenv("CAIRN_FAULT_PAGE_SIZE") : NULL;
    return size != NULL ? strtol(size, NULL, 10) : next(name);
}
