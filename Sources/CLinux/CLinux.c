#define _GNU_SOURCE
#include "CLinux.h"
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <unistd.h>

const int cl_o_direct = O_DIRECT;
const int cl_o_noFollow = O_NOFOLLOW;
const int cl_o_closeOnExec = O_CLOEXEC;
const int cl_o_directory = O_DIRECTORY;

int cl_ofdLock(int descriptor, int64_t offset, int type, int wait) {
    struct flock lock;
    memset(&lock, 0, sizeof lock);
    lock.l_type = type == 0 ? F_UNLCK : type == 1 ? F_RDLCK : F_WRLCK;
    lock.l_whence = SEEK_SET;
    lock.l_start = offset;
    lock.l_len = 1;
    return fcntl(descriptor, wait ? F_OFD_SETLKW : F_OFD_SETLK, &lock) == 0 ? 0 : errno;
}

int cl_ofdUnlockAll(int descriptor) {
    struct flock lock;
    memset(&lock, 0, sizeof lock);
    lock.l_type = F_UNLCK;
    lock.l_whence = SEEK_SET;
    return fcntl(descriptor, F_OFD_SETLK, &lock) == 0 ? 0 : errno;
}

int cl_isOpenForWriting(const char *path) {
    int descriptor = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
    if (descriptor < 0) return 0;
    // Whoever opens it for writing just now waits until the lease is given back, and its holder gets a signal: one that nobody minds.
    fcntl(descriptor, F_SETSIG, SIGURG);
    int isOpen = fcntl(descriptor, F_SETLEASE, F_RDLCK) != 0 && errno == EAGAIN;
    if (!isOpen) fcntl(descriptor, F_SETLEASE, F_UNLCK);
    close(descriptor);
    return isOpen;
}

int cl_fallocate(int descriptor, int mode, int64_t offset, int64_t length) {
    int flags = mode == 0 ? 0 : FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE;
    return fallocate(descriptor, flags, offset, length) == 0 ? 0 : errno;
}

int cl_rename(const char *from, const char *to, int exclusive) {
    int done = exclusive ? renameat2(AT_FDCWD, from, AT_FDCWD, to, RENAME_NOREPLACE) : rename(from, to);
    return done == 0 ? 0 : errno;
}

int cl_exchange(const char *one, const char *other) {
    return renameat2(AT_FDCWD, one, AT_FDCWD, other, RENAME_EXCHANGE) == 0 ? 0 : errno;
}

int64_t cl_seek(int descriptor, int64_t offset, int hole) {
    return lseek(descriptor, offset, hole ? SEEK_HOLE : SEEK_DATA);
}

int cl_setTimes(const char *path, int64_t seconds, int64_t nanoseconds) {
    struct timespec times[2] = {{seconds, nanoseconds}, {seconds, nanoseconds}};
    return utimensat(AT_FDCWD, path, times, AT_SYMLINK_NOFOLLOW) == 0 ? 0 : errno;
}

uint64_t cl_fileSystem(int descriptor) {
    struct statfs status;
    return fstatfs(descriptor, &status) == 0 ? (uint64_t)(uint32_t)status.f_type : 0;
}

int cl_isCached(int descriptor, uint64_t offset, uint64_t length) {
    // cachestat(2), which older headers lack; its number is the same everywhere.
    struct { uint64_t offset, length; } range = {offset, length};
    struct { uint64_t cached, dirty, inWriteback, evicted, recentlyEvicted; } found;
    if (syscall(451, descriptor, &range, &found, 0) != 0) return 0;
    uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE);
    return found.cached >= (offset + length + page - 1) / page - offset / page;
}

void *cl_mapBuffer(uint64_t size) {
    const uint64_t align = 2 << 20;
    char *start = mmap(NULL, size + align, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (start == MAP_FAILED) return NULL;
    char *aligned = (char *)(((uintptr_t)start + align - 1) & ~(uintptr_t)(align - 1));
    if (aligned > start) munmap(start, (size_t)(aligned - start));
    uint64_t tail = (uint64_t)(start + size + align - (aligned + size));
    if (tail > 0) munmap(aligned + size, tail);
    // Advice only: a kernel without huge pages or with another limit still gives plain memory.
    madvise(aligned, size, MADV_HUGEPAGE);
    madvise(aligned, size, MADV_DONTFORK);
    return aligned;
}

void cl_unmapBuffer(void *address, uint64_t size) {
    munmap(address, size);
}

static atomic_uint generation;
static atomic_int inherited[1024];  // descriptor + 1; 0 is free

static void inChild(void) {
    atomic_fetch_add(&generation, 1);
    for (int i = 0; i < 1024; i++) {
        int descriptor = atomic_exchange(&inherited[i], 0) - 1;
        if (descriptor >= 0) close(descriptor);
    }
}

__attribute__((constructor)) static void watchForks(void) {
    pthread_atfork(NULL, NULL, inChild);
}

uint32_t cl_forkGeneration(void) {
    return atomic_load_explicit(&generation, memory_order_relaxed);
}

int cl_closeInChild(int descriptor) {
    for (int i = 0; i < 1024; i++) {
        int unused = 0;
        if (atomic_compare_exchange_strong(&inherited[i], &unused, descriptor + 1)) return 0;
    }
    return EMFILE;
}

void cl_keepInChild(int descriptor) {
    for (int i = 0; i < 1024; i++) {
        int held = descriptor + 1;
        if (atomic_compare_exchange_strong(&inherited[i], &held, 0)) return;
    }
}

int cl_availableProcessors(void) {
    cpu_set_t set;
    return sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set) : 1;
}

int cl_watchFolders(void) {
    return inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
}

int cl_watchFolder(int descriptor, const char *path) {
    return inotify_add_watch(
        descriptor, path,
        IN_MODIFY | IN_ATTRIB | IN_CLOSE_WRITE | IN_MOVED_FROM | IN_MOVED_TO | IN_CREATE | IN_DELETE |
            IN_DELETE_SELF | IN_MOVE_SELF | IN_ONLYDIR);
}

void cl_unwatchFolder(int descriptor, int number) {
    inotify_rm_watch(descriptor, number);
}

static int kindOfChange(uint32_t mask) {
    if (mask & (IN_IGNORED | IN_DELETE_SELF | IN_MOVE_SELF | IN_UNMOUNT)) return CL_FOLDER_GONE;
    return mask & (IN_CREATE | IN_DELETE | IN_MOVED_FROM | IN_MOVED_TO) ? CL_FOLDER_NAMES : CL_FOLDER_CONTENTS;
}

int cl_changedFolders(int descriptor, int milliseconds, struct cl_folderChange *changes, int capacity) {
    struct pollfd waiting = {descriptor, POLLIN, 0};
    int ready = poll(&waiting, 1, milliseconds);
    if (ready <= 0) return ready < 0 && errno == EINTR ? 0 : ready;
    // Each event takes at least its fixed part: so many fit that all have a place in `changes`.
    char events[16384] __attribute__((aligned(__alignof__(struct inotify_event))));
    size_t room = (size_t)capacity * sizeof(struct inotify_event);
    if (room < 512) {
        errno = EINVAL;
        return -1;
    }
    ssize_t length = read(descriptor, events, room < sizeof events ? room : sizeof events);
    if (length < 0) return errno == EAGAIN || errno == EINTR ? 0 : -1;
    int count = 0;
    for (ssize_t at = 0; at < length && count < capacity;) {
        const struct inotify_event *event = (const struct inotify_event *)(events + at);
        struct cl_folderChange *change = &changes[count++];
        change->number = event->mask & IN_Q_OVERFLOW ? -1 : event->wd;
        change->kind = kindOfChange(event->mask);
        snprintf(change->name, sizeof change->name, "%s", event->len > 0 ? event->name : "");
        at += (ssize_t)(sizeof *event + event->len);
    }
    return count;
}
