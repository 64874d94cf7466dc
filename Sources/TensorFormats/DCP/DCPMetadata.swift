/// What the `.metadata` of a distributed checkpoint of PyTorch (DCP) says: which tensors and objects the checkpoint
/// has, and which bytes of which file hold each part of them. Megatron-LM's `torch_dist` has the same.
///
/// (torch.distributed.checkpoint.metadata, .filesystem)
public struct DCPMetadata: Sendable {
    /// A step from the state dictionary to what was saved: the key of a dictionary or a place in a list.
    public enum Key: Sendable, Hashable {
        case name(String)
        case index(Int64)
    }

    /// The bytes of an item, which is what `torch.save` writes of a tensor or an object.
    public struct Place: Sendable, Hashable {
        /// Which of `files`.
        public internal(set) var file: Int
        /// Bytes from the file's first one. In the map of that file (`TensorMap.init(distributed:read:)`) a tensor
        /// of this item has the name `@` and this number.
        public internal(set) var offset: UInt64
        /// Bytes.
        public internal(set) var length: UInt64
        /// What the bytes went through on their way to the file, such as `stream.zstd/1`; empty as a rule.
        public internal(set) var transforms: [String]
    }

    /// A part of a tensor, a box, as one rank has it.
    public struct Chunk: Sendable, Hashable {
        /// Its first element, along each axis of the tensor.
        public internal(set) var offsets: [UInt64]
        /// Elements along each axis.
        public internal(set) var shape: [UInt64]
        /// nil where the metadata names no bytes for it.
        public internal(set) var place: Place?
    }

    public struct Tensor: Sendable {
        /// The keys that lead to it, joined by dots (fqn). No two tensors or objects have the same.
        public internal(set) var name: String
        /// Those keys; nil where the writer left them out, as Megatron does.
        public internal(set) var path: [Key]?
        /// As `TensorMap.Tensor.dtype` has it.
        public internal(set) var dtype: String
        /// Elements along each axis of the whole tensor; empty for a scalar.
        public internal(set) var shape: [UInt64]
        public internal(set) var chunks: [Chunk]
    }

    /// Anything but a tensor.
    public struct Object: Sendable {
        /// As a tensor's.
        public internal(set) var name: String
        public internal(set) var path: [Key]?
        public internal(set) var place: Place?
    }

    /// Both in the order of the file.
    public internal(set) var tensors: [Tensor]
    public internal(set) var objects: [Object]
    /// Relative to the folder of the metadata, as the writer put it. They may lead out of the folder.
    public internal(set) var files: [String]
    /// Such as `1.0.0`; nil where an older PyTorch wrote none.
    public internal(set) var version: String?
    /// The folder that it was saved to, and a name of the save that no other has; nil where there is none.
    public internal(set) var checkpointID, saveID: String?
}
