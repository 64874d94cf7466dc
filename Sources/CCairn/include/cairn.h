/// The C interface of Cairn, a content-addressed checkpoint store for model training. Link with -lCairnC.
///
/// **Results.** Every call that can fail returns a `cairn_status`, the same as the exit status of the command
/// `cairn`. Where it is not CAIRN_OK, `cairn_error_message` and its siblings say what went wrong, and what was
/// to be handed back is NULL. A call that fails leaves the store as it was before, unless its description says
/// otherwise; so does a process that is killed in the middle of one.
///
/// **Documents.** `char **json` receives one JSON document in UTF-8, with the fields of `cairn COMMAND --json`,
/// ended by a zero byte. It is the caller's, who gives it back to `cairn_free`. More fields may come; none is
/// renamed. `metrics` that are no finite numbers are null; those of them that are infinite are in
/// `infiniteMetrics` beside it, as "inf" or "-inf".
///
/// **Arguments.** Texts end with a zero byte and are UTF-8, but for paths, which may be any bytes. They are
/// read during the call only. A NULL that is not allowed, and text that is not UTF-8, is CAIRN_USAGE.
///
/// **Options** are a JSON object in UTF-8, or NULL for none. A name that is not known, or a value of another
/// kind, is CAIRN_USAGE; null is as good as leaving the option out.
///
/// **Threads.** Any thread may make any call, and several may use one handle at once, unless a description says
/// otherwise. A handle must not be used while or after it is closed. No call depends on the thread that it is
/// made in, but for `cairn_error_*`.
///
/// **Forks.** A handle is of no use in the child of a fork: calls with it are CAIRN_USAGE there, and closing it
/// does nothing. The child opens the store itself. What the parent does goes on.
///
/// **Signals.** The library handles none, and changes nothing about how the process does.
#ifndef CAIRN_H
#define CAIRN_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

// --------------------------------------------------------------------------------------------------------------
// Versions, errors, memory
// --------------------------------------------------------------------------------------------------------------

/// The number of this interface: what was built against this header works with a library whose
/// `cairn_interface_version` is the same. It grows when something in here changes its meaning, not when
/// something is added.
#define CAIRN_INTERFACE_VERSION 1

/// How a call ended.
typedef enum cairn_status {
    CAIRN_OK = 0,
    /// The operating system or the state of the store did not allow it: `cairn_error_code` says which.
    CAIRN_FAILED = 1,
    /// What was asked for makes no sense, or names nothing that is there.
    CAIRN_USAGE = 2,
    /// Stored bytes are not what they were.
    CAIRN_DAMAGE = 3,
    /// `cancel` of the call's `cairn_control` was set.
    CAIRN_INTERRUPTED = 130,
} cairn_status;

/// The library's version, such as "0.1.0". Not to be freed.
const char *cairn_version(void);

/// CAIRN_INTERFACE_VERSION of the header that the library was built with.
int32_t cairn_interface_version(void);

/// One sentence for people about the last call in this thread that failed: what, where, and what to do. Empty
/// before any has. It belongs to the library, and stays until another call in this thread fails or the thread
/// ends.
const char *cairn_error_message(void);

/// A word that says what kind of failure that was: "usage", "not-found", "ambiguous", "exists", "protected",
/// "not-a-store", "newer-version", "damage", "inconsistent", "changed", "busy", "interrupted", "system", or
/// "internal". More may come.
const char *cairn_error_code(void);

/// The file or folder that it was about, or NULL. For people: bytes that can't be printed are escaped.
const char *cairn_error_path(void);

/// Gives back a text that a call has handed out through a `char **`. NULL is nothing.
void cairn_free(char *text);

/// Shared with one call while it runs; any thread may look at it and change `cancel` meanwhile. All fields are
/// accessed atomically. It is the caller's, and must stay until the call returns. May be given to one call
/// after the other; each sets the two numbers to 0 first.
typedef struct cairn_control {
    /// Other than 0: the call ends soon with CAIRN_INTERRUPTED.
    int32_t cancel;
    /// How far what is being done at this moment has come, written about ten times a second.
    uint64_t done_bytes;
    /// Of how much; 0 where that is not known, or it took no time.
    uint64_t total_bytes;
} cairn_control;

// --------------------------------------------------------------------------------------------------------------
// A store
// --------------------------------------------------------------------------------------------------------------

/// An open store.
typedef struct cairn_store cairn_store;

/// Opens the store in the folder `path`. Any number of processes and threads may have one open at once.
///
/// Options:
/// - `create` (bool): makes the store where the folder is missing or empty. Of several processes that do so one
///   makes it, and the others open it.
/// - `chunkSize` (bytes, a power of two from 4096 to 4194304; default 262144), `recoveryFactor` (1 to 16;
///   default 2), `recoveryRecords` (1 to 64; default 16): of a store that is made now. They mean nothing for
///   one that is there.
/// - `jobs`: threads at most; by default the processors that this process may use.
/// - `memory` (bytes, at least 67108864; default 536870912): the most for buffers, in each call.
///
/// "not-a-store" where there is none, "newer-version" where it is of a version to come. What the folder doesn't
/// permit to change can be read.
cairn_status cairn_open(const char *path, const char *options, cairn_store **store);

/// Closes a store, once no call uses it and all that was opened from it is closed. NULL is nothing.
void cairn_close(cairn_store *store);

/// `path` (absolute), `id`, `chunkSize`, `recoveryFactor`, `recoveryRecords`.
cairn_status cairn_describe(cairn_store *store, char **json);

/// The iterations of a run, or with NULL of all, as `cairn list`: by run, then by step.
cairn_status cairn_list(cairn_store *store, const char *run, char **json);

/// One iteration with all of its tensors and files, as `cairn show`. `reference` is `[RUN@]SELECTOR`, such as
/// "latest", "main@500", "best:loss".
cairn_status cairn_show(cairn_store *store, const char *reference, char **json);

/// Which tensors and files differ, and by how much, as `cairn diff`. `control` may be NULL.
cairn_status cairn_diff(
    cairn_store *store, const char *before, const char *after, cairn_control *control, char **json);

/// Where the store's bytes are, as `cairn stats`. Takes as long as reading all manifests.
cairn_status cairn_stats(cairn_store *store, char **json);

/// Gives an iteration a name that protects it from every deletion, as `cairn pin`. "exists" where another
/// iteration has that pin. Durable when it returns, as everything below that changes the store.
cairn_status cairn_pin(cairn_store *store, const char *reference, const char *name, char **json);

/// Takes a pin away, as `cairn unpin`. The iteration stays until something deletes it.
cairn_status cairn_unpin(cairn_store *store, const char *name, char **json);

/// All pins by name, as `cairn pins`.
cairn_status cairn_pins(cairn_store *store, char **json);

/// Adds what is known only later, as `cairn annotate`.
/// - metrics: a JSON object of numbers, or NULL. NaN and infinities may be written as Python does, NaN also as
///   null. Of the same name the latest holds.
/// - note: text, or NULL; one of the two is needed.
cairn_status cairn_annotate(
    cairn_store *store, const char *reference, const char *metrics, const char *note, char **json);

/// Goes back to an iteration, as `cairn rewind`: what came after it in its run is superseded, so never
/// "latest".
cairn_status cairn_rewind(cairn_store *store, const char *reference, char **json);

/// Forgets iterations, all or none of them, as `cairn delete`. "protected" for a pinned one and for the newest
/// of its run.
/// - references: a JSON array of references.
cairn_status cairn_delete(cairn_store *store, const char *references, char **json);

/// The retention rules of a run, as `cairn policy --run RUN`, or with NULL of all runs that have some, as an
/// array.
cairn_status cairn_policy(cairn_store *store, const char *run, char **json);

/// Sets the retention rules of a run, in the place of those that it has. Nothing is deleted before `cairn_gc`,
/// or with `auto` the next save.
/// - run: NULL: the store's only run, or "main". It may have rules before its first save.
/// - policy: a JSON object with any of `keepLast`, `keepEvery`, `keepBest` (an array of objects with `count`,
///   `metric` and perhaps `direction`, or of texts such as "3:eval_loss:min"), `keepWithin` ("36h"),
///   `keepFirst`, `milestones`, `maxSize` (bytes, or text such as "500GB"), `keepOptimizerLast`, `auto`. NULL,
///   or one without rules: nothing is ever deleted.
cairn_status cairn_set_policy(cairn_store *store, const char *run, const char *policy, char **json);

/// Applies the policies of all runs and gives the space back that nothing needs, as `cairn gc`. With `dry_run`
/// other than 0 it only says what would go. Iterations that it has let go of are gone also where it is
/// cancelled or fails later on; every other one stays whole.
cairn_status cairn_gc(cairn_store *store, int32_t dry_run, cairn_control *control, char **json);

/// Checks that everything can be read back, as `cairn verify`. Damage is no failure of this call: the document
/// says `ok`, and what is `damaged`. It is marked as damaged, so that the next save of the same bytes writes
/// them again.
/// - references: a JSON array of references, or NULL for the whole store.
/// - quick: other than 0: the structure only, not every byte.
cairn_status cairn_verify(
    cairn_store *store, const char *references, int32_t quick, cairn_control *control, char **json);

/// Writes an iteration's files to `destination`, byte for byte, as `cairn restore`. It appears at once, when
/// all of it is written and durable; after a failure it is as it was. "exists" where there is something.
///
/// Options: `path` (only files that match, such as "*.safetensors"), `force` (replaces what is there),
/// `skipDamaged` (leaves damaged files out and says so in `damagedFiles`, where it fails otherwise).
cairn_status cairn_restore(
    cairn_store *store, const char *reference, const char *destination, const char *options,
    cairn_control *control, char **json);

/// Writes an iteration's tensors in another layout, as `cairn export`; otherwise like `cairn_restore`.
///
/// Options, named as the command's: `layout` (required), `maxShardSize` (bytes), `only`, `all`, `rename`,
/// `config`, `prefix`, `noOptimizer`, `removeRedundancy`, `unified`, `mesh`, `mapsOf`, `maps`, `mergeAdapter`,
/// `base`, `adapterOnly`, `force`.
cairn_status cairn_export(
    cairn_store *store, const char *reference, const char *destination, const char *options,
    cairn_control *control, char **json);

// --------------------------------------------------------------------------------------------------------------
// Saving
// --------------------------------------------------------------------------------------------------------------

/// A save of tensors in memory. One thread at a time uses it.
typedef struct cairn_save cairn_save;

/// Begins a save. Nothing is written yet, and nothing counts before `cairn_save_commit` has returned.
///
/// Options:
/// - `step` (needed), `run` (by default the store's only one, or "main").
/// - `metrics` ({name: number}), `metadata` ({name: any JSON}), `pin` (a name that protects it at once).
/// - `replace` (bool): takes the place of another iteration at this step. `rehash` (bool): trusts no fingerprints.
/// - `earlier`: the `id` in the document of an earlier commit through this store: the tensors' `earlier` point to the bytes that were
///   saved then. Where the store compares with another iteration, they are not looked at.
/// - `readsBases` (bool, by default true): whether earlier chunks may be read from the store for new ones to lean on. Where not, only
///   `earlier` serves for that, as long as it is what the store compares with.
/// - `isPrivate` (bool): nobody else has the memory that is added, such as a copy that was made for this: it is used where it lies. Otherwise
///   its bytes are copied bit by bit, as what is hashed has to be what is written, even where the caller's other threads change them.
/// - `rank`, `worldSize`, `attempt` (text): this is one rank's part of an iteration, which is there as soon as the parts of all are in.
///   `attempt` is the same for all ranks of a training that was started once, and another the next time. `turn` (by default 0) is the same
///   for all parts of one save, where an attempt saves a step several times: one more for each with `replace`, but for those that
///   failed, other than by "exists" or "protected".
cairn_status cairn_save_begin(cairn_store *store, const char *options, cairn_save **save);

/// Adds a tensor to a safetensors file of the checkpoint: its elements one behind the other in the order of its shape. The memory is read
/// by `cairn_save_take` or `cairn_save_commit`, and has to stay as it is until then.
/// @param file below the checkpoint's folder, such as "model.safetensors"
/// @param name of the tensor, which no other in the file has
/// @param dtype as safetensors spells it, such as "BF16"
/// @param shape elements along each of `axes` axes; may be NULL where there are none
/// @param bytes what dtype and shape take
/// @param earlier as many bytes, which the tensor had in the iteration that the option `earlier` names; or NULL
cairn_status cairn_save_add_tensor(cairn_save *save, const char *file, const char *name, const char *dtype,
                                   const uint64_t *shape, size_t axes, const void *data, size_t bytes,
                                   const void *earlier);

/// Adds a file. Its bytes are copied.
cairn_status cairn_save_add_file(cairn_save *save, const char *path, const void *data, size_t bytes);

/// Reads what was added so far, so that its memory may change. A commit that would have to read it again, since a collection removed what
/// it relied on, fails with "busy". Where this fails, the save has ended.
cairn_status cairn_save_take(cairn_save *save, cairn_control *control);

/// Reads the rest and commits. When it returns CAIRN_OK, the iteration survives a power cut, and the document has the fields of
/// `cairn save --json`. Of a rank's part, also `isPart` where others are still missing, or else `iteration`: the `id` of what the parts
/// make, as `id` is the part's own. However it ends, the save has ended.
///
/// Once it is durable it is CAIRN_OK: whatever keeps an automatic policy from being applied after that, `cancel` too, is one of the
/// document's `warnings`.
///
/// "exists" where the run has another iteration at this step.
cairn_status cairn_save_commit(cairn_save *save, cairn_control *control, char **json);

/// Gives a save back. One that is not committed is given up: nothing of it stays. NULL is nothing.
void cairn_save_close(cairn_save *save);

// --------------------------------------------------------------------------------------------------------------
// Reading
// --------------------------------------------------------------------------------------------------------------

/// An iteration that is open: nothing removes it meanwhile.
typedef struct cairn_iteration cairn_iteration;

/// Opens an iteration to read from it. Any number of threads may.
cairn_status cairn_iteration_open(cairn_store *store, const char *reference, cairn_iteration **iteration);

/// The document of `cairn show --tensors --files`, and `stored`: the tensors as the files hold them, with `file`, `name`, `dtype`,
/// `shape`, `bytes`.
cairn_status cairn_iteration_describe(cairn_iteration *iteration, char **json);

/// A tensor of a state that one process saved, found without looking at all others: `name` is that of one of `model.safetensors`, or of one
/// in another PART.safetensors with its part before it (`optimizer.state.0.exp_avg`). The document is as in `stored`; null where it takes
/// `cairn_iteration_describe` to tell, as where two parts could have it.
cairn_status cairn_iteration_tensor(cairn_iteration *iteration, const char *name, char **json);

/// What is wanted in memory.
typedef struct cairn_read {
    /// The file that holds the tensor; NULL: it is one that the layout puts together, as `tensors` lists them.
    const char *file;
    /// The tensor; NULL: the file's own bytes, which are an axis of their own.
    const char *name;
    /// The first element along each of `axes` axes, and the one after the last. Both NULL: everything.
    const uint64_t *start;
    const uint64_t *stop;
    size_t axes;
    /// Where it goes, in the order of the shape.
    void *target;
    /// What it takes, exactly.
    size_t bytes;
} cairn_read;

/// Reads tensors, slices of them and files into memory: with all jobs of the store, every chunk checked. Where it fails, the targets may
/// hold anything.
///
/// "not-found" where there is no such file or tensor; CAIRN_DAMAGE with the names of tensors and files.
cairn_status cairn_iteration_read(cairn_iteration *iteration, const cairn_read *reads, size_t count,
                                  cairn_control *control);

/// Lets an iteration go. NULL is nothing.
void cairn_iteration_close(cairn_iteration *iteration);

// --------------------------------------------------------------------------------------------------------------
// Memory for what is being saved
// --------------------------------------------------------------------------------------------------------------

/// Maps memory that is zero, begins at a multiple of 2 MiB, has huge pages where there are any, and stays out
/// of the children of forks: a state that is being saved costs nothing there, however much of it they change.
/// In a child it must not be touched.
/// - bytes: at least 1.
cairn_status cairn_map(size_t bytes, void **memory);

/// Gives back what `cairn_map` gave, all of it. NULL is nothing, and so is memory that was mapped before a
/// fork, in the child, and what is not such memory.
void cairn_unmap(void *memory, size_t bytes);

/// Copies `count` stretches of memory, that of number i with `bytes[i]` bytes from `sources[i]` to
/// `targets[i]`, on several threads. Targets overlap neither sources nor one another. Needs no store.
/// - jobs: threads at most; 0: the processors that this process may use. It takes fewer for few bytes.
///
/// Fails before anything is copied, or not at all.
cairn_status cairn_copy(
    size_t count, void *const *targets, const void *const *sources, const size_t *bytes, int32_t jobs);

#ifdef __cplusplus
}
#endif

#endif
