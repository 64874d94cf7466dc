// libCFaults.so: bad weather for any program, loaded before the C library with LD_PRELOAD. For tests alone.
//
// It counts the program's calls that write, sync, change names or read, and makes one of them fail, fall short or be
// the program's last. Calls on descriptors 0 to 2 are never counted.
//
//   CAIRN_FAULT=KIND:N        at the N-th counted call, from 1 on; with N = 0 it only counts. KIND is
//       kill, killafter       SIGKILL before or after it
//       enospc, eio, eacces   it fails with that error, once; with `+` behind the kind all later ones too. For enospc
//                             only calls that can need space count: no unlink, no punching, no cutting
//       short                 a write or read moves half of its bytes (whole blocks of 4,096 where it has several);
//                             only calls of more than one byte (of direct I/O: than one block) count
//       int, term, hup, stop  the program sends itself SIGINT, SIGTERM, SIGHUP or SIGSTOP, then makes the call
//       forkkill              fork(2), then SIGKILL; the child lives on for 60 s and holds what it inherited
//   CAIRN_FAULT_CALLS=LIST    of write, sync, meta, read, all; write,sync,meta without it
//   CAIRN_FAULT_UNDER=PATH    only calls on files whose absolute path begins so; several, separated by `:`
//   CAIRN_FAULT_COUNT_FILE=F  gets the number of counted calls when the program ends by itself
//   CAIRN_FAULT_LOG=F         gets a line for each counted call: number, name, path
//   CAIRN_FAULT_FS=MAGIC      what fstatfs(2) says is the file system's type, in hex; of files below CAIRN_FAULT_UNDER where that is set
//   CAIRN_FAULT_THREADS=N     all threads that the program makes beyond the first N fail with EAGAIN
//   CAIRN_FAULT_PAGE_SIZE=N   what sysconf(3) says is the size of a page of memory
#pragma once
