/// What a file may need at most; what passes it is refused, so that no file can take memory or time without bound.
enum PyTorchLimits {
    /// Classes and functions that a pickle names. Python's pickler names each once.
    static let globalCount = 1 << 20
    /// Values on the unpickler's stack. Python's pickler leaves lists in parts of a thousand.
    static let stackCount = 4 << 20
    /// Open marks on that stack.
    static let markCount = 64 << 10
    /// Containers in containers. Python's own pickler ends at less.
    static let depth = 500
    /// Calls around calls that make one tensor: a parameter that is a distributed tensor of a subclass has five.
    static let wrapperCount = 8
    /// Places that the walk looks at, each of a shared tensor's places being one, and dimensions of tensors.
    static let stepCount = 16 << 20
    /// Tensors, and objects that wait for the walk.
    static let tensorCount = 1 << 20
    /// Dimensions of a tensor: PyTorch's own limit for most operations.
    static let dimensionCount = 64
    /// UTF-8 bytes of a tensor's name, and of all names together.
    static let nameLength = 4096
    static let totalNameLength = 64 << 20
}

/// What one pickle may need at most.
struct PickleLimits {
    /// Bytes. Strings are ranges of the pickle, so that it bounds their memory as well.
    let length: Int
    /// Values that it builds, entries of the unpickler's memo, and stretches of lists and dictionaries.
    let nodeCount: Int
    /// Those among them that are made by calls.
    let objectCount: Int
    /// Places in lists, tuples and dictionaries; twice as many for keys with their values.
    let edgeCount: Int

    /// Of checkpoints with tensors, of which one takes about a dozen values and 150 bytes.
    ///
    /// Measured on a Zen 4 core: 1,000,000 objects of three attributes, 5,000,000 values in 50 MB, take 0.6 s, and 320 MiB with the
    /// pickle. What was tried to take the most (objects, numbers, and appends to two lists by turns) took
    /// 1.5 s and 660 MiB.
    static let tensors = PickleLimits(
        length: 64 << 20, nodeCount: 12 << 20, objectCount: 4 << 20, edgeCount: 32 << 20)
}
