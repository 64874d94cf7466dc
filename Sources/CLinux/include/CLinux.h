// The few Linux calls and constants that Swift cannot see.
#pragma once
#include <stdint.h>

extern const int cl_o_direct;
extern const int cl_o_noFollow;
extern const int cl_o_closeOnExec;
extern const int cl_o_directory;

/// Locks (`type` 1: shared, 2: exclusive) or unlocks (0) one byte for the open file description.
/// `wait` 0: returns at once. Returns 0, or an errno value.
int cl_ofdLock(int descriptor, int64_t offset, int type, int wait);

/// Unlocks every byte that the open file description holds. Returns 0, or an errno value.
int cl_ofdUnlockAll(int descriptor);

/// Whether a process on this machine has the file open for writing, or mapped so; 0 also where that can't be told.
int cl_isOpenForWriting(const char *path);

/// fallocate(2). `mode` 0: preallocate, the size grows; 1: punch a hole. Returns 0, or an errno value.
int cl_fallocate(int descriptor, int mode, int64_t offset, int64_t length);

/// renameat2(2), with RENAME_NOREPLACE where `exclusive`. Returns 0, or an errno value.
int cl_rename(const char *from, const char *to, int exclusive);

/// renameat2(2) with RENAME_EXCHANGE: each gets the other's name, at once. Returns 0, or an errno value.
int cl_exchange(const char *one, const char *other);

/// lseek(2) to the next data (`hole` 0) or hole (1). Returns -1 with errno set where there is none.
int64_t cl_seek(int descriptor, int64_t offset, int hole);

/// Sets the modification time of `path` itself, not of what it links to; the access time too. Returns 0, or an errno value.
int cl_setTimes(const char *path, int64_t seconds, int64_t nanoseconds);

/// The magic number of the file system that holds the descriptor, or 0 with errno set.
uint64_t cl_fileSystem(int descriptor);

/// Whether all of a range of a file lies in the page cache, as far as that can be told (Linux 6.5 and later).
int cl_isCached(int descriptor, uint64_t offset, uint64_t length);

/// Anonymous memory aligned to 2 MiB, advised to be huge pages and not to be inherited by fork. NULL with errno set.
void *cl_mapBuffer(uint64_t size);
void cl_unmapBuffer(void *address, uint64_t size);

/// How many forks lie between the first process and this one, as far as this library has seen them.
uint32_t cl_forkGeneration(void);

/// Descriptors that the child of a fork closes, so that it does not keep its parent's locks. 0, or an errno value.
int cl_closeInChild(int descriptor);
void cl_keepInChild(int descriptor);

/// The processors that this process may use.
int cl_availableProcessors(void);

/// inotify(7): a descriptor that does not block and is closed on exec, or -1 with errno set.
int cl_watchFolders(void);

/// Watches a folder for whatever changes right in it. Returns a number for it, or -1 with errno set.
int cl_watchFolder(int descriptor, const char *path);

void cl_unwatchFolder(int descriptor, int number);

enum {
    /// What is in its files, or what these are like.
    CL_FOLDER_CONTENTS = 0,
    /// Which names it has.
    CL_FOLDER_NAMES = 1,
    /// It is gone, or has another name.
    CL_FOLDER_GONE = 2,
};

struct cl_folderChange {
    /// The folder's; -1 where events were lost.
    int number;
    int kind;
    /// What is concerned of what lies in it; empty for the folder itself.
    char name[256];
};

/// Waits until something changed or the time is over, and takes what there is, as much as has a place in `changes`. Returns how many, or
/// -1 with errno set.
int cl_changedFolders(int descriptor, int milliseconds, struct cl_folderChange *changes, int capacity);
