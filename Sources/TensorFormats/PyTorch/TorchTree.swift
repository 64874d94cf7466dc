/// What a pickle holds, as a tree of values. Nothing of it is imported or called.
///
/// Values are views: they hold a place in the pickle, and what they give is read when it is asked for. The tree may
/// have cycles, as Python's values may: who goes through it to the bottom must count the steps.
public struct TorchTree: Sendable {
    let source: Source

    /// The tree of a checkpoint of PyTorch, of any version, as `torch.save` writes it.
    ///
    /// Of the file only its structure and its pickle are read; never a tensor, but for one that stands within a few KiB
    /// of those.
    ///
    /// - Parameters:
    ///   - size: bytes of the file.
    ///   - read: gives the bytes of a range inside the file. What it throws passes through.
    /// - Throws: `TensorFileError` for whatever `TensorMap(pyTorch:read:)` throws it for.
    public init(pyTorch size: UInt64, read: (Range<UInt64>) throws -> [UInt8]) throws {
        source = Source(try TorchCut(size: size, read: read))
    }

    /// The tree of a pickle that stands alone, such as the `.metadata` of a distributed checkpoint.
    ///
    /// Tensors in it are described, but have no names, for their bytes are elsewhere.
    ///
    /// - Parameter bytes: the pickle, of any protocol. What comes behind its end is not looked at.
    public init(pickle bytes: [UInt8]) throws(TensorFileError) {
        source = Source(try Unpickler.read(bytes))
    }

    /// What was pickled: in a checkpoint, a dictionary as a rule.
    public var root: Value { Value(source: source, index: source.pickle.root) }

    /// The map of the file, the same as `TensorMap(pyTorch:read:)`; nil for a pickle that stands alone.
    public var tensorMap: TensorMap? { source.map }
}

extension TorchTree {
    /// The pickle, and which of its tensors the file lists.
    final class Source: Sendable {
        let pickle: Pickle
        let classes: [Pickle.Index: TorchClass]
        /// nil for a pickle that stands alone, which has no tensors either.
        let walk: TensorWalk?
        let map: TensorMap?
        /// As the file has them.
        let tensors: [TorchTensor]
        /// For each tensor its place in the map; below 0 for one that the map does not list.
        let entries: [Int32]
        /// For the arguments of each tensor the first tensor that is made with them.
        let tensorOfArguments: [Pickle.Index: Int32]
        /// Where the storages of tensors lie in the file, by the nodes that name them.
        let storages: [Pickle.Index: Range<UInt64>]
        let meshes: [Pickle.Index: Result<DeviceMesh, TensorFileError>]

        init(_ pickle: Pickle) {
            self.pickle = pickle
            classes = TorchClass.all(in: pickle)
            (walk, map, tensors, entries, tensorOfArguments, storages) = (nil, nil, [], [], [:], [:])
            meshes = DeviceMesh.all(in: Source(pickle, classes: classes))
        }

        /// One without the meshes, to read these with.
        private init(_ pickle: Pickle, classes: [Pickle.Index: TorchClass]) {
            (self.pickle, self.classes) = (pickle, classes)
            (walk, map, tensors, entries, tensorOfArguments) = (nil, nil, [], [], [:])
            (storages, meshes) = ([:], [:])
        }

        init(_ cut: TorchCut) {
            pickle = cut.contents.walk.pickle
            classes = TorchClass.all(in: pickle)
            (walk, map, tensors) = (cut.contents.walk, cut.map, cut.contents.tensors)
            var entries = [Int32](repeating: -1, count: tensors.count)
            for (entry, tensor) in cut.listed.enumerated() { entries[tensor] = Int32(entry) }
            self.entries = entries
            var tensorOfArguments: [Pickle.Index: Int32] = [:]
            for (index, tensor) in tensors.enumerated().reversed() {
                tensorOfArguments[tensor.arguments] = Int32(index)
            }
            self.tensorOfArguments = tensorOfArguments
            storages = cut.contents.storageRanges
            meshes = DeviceMesh.all(in: Source(pickle, classes: classes))
        }
    }
}
